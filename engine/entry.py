"""What an entry is, and the one rule that combines two entries of the same key.

An entry is (key, value or tombstone, delta); the delta is what it does to the number of live keys. Within a
layer a key occurs once; between layers the newest wins. In a *counted* database a writer knows whether the
key is physically there, so

    kind      holds      delta   means
    INSERT    value       +1     the key was not there
    REPLACE   value        0     the key was there
    REMOVE    tombstone   -1     the key was there

and adding the deltas of a key range over all layers gives the exact number of live keys in it. An
*uncounted* database writes blindly, REPLACE for a put and DELETE for a removal, and keeps its tombstones
until no older layer can hold the key:

    DELETE    tombstone    0     only in uncounted databases

Combining a newer entry with an older one of the same key (counted) adds the deltas:

    newest is live,  sum +1 -> INSERT       newest is live,  sum 0 -> REPLACE
    newest is dead,  sum -1 -> REMOVE       newest is dead,  sum 0 -> nothing: both vanish, at any level

Any other sum is corruption. The numbers below are written to disk: never change or reuse one.
"""

from __future__ import annotations

DELETE = 0
INSERT = 1
REPLACE = 2
REMOVE = 3

DELTAS = (0, 1, 0, -1)
"""``DELTAS[kind]``: what an entry of that kind adds to the number of live keys."""

VANISHED = -1
"""What `combine` returns where neither entry remains."""

INVALID = -2
"""What `combine` returns where the two entries cannot both be true."""

KEY_SIZE_MAX = 512 * 1024 * 1024
VALUE_SIZE_MAX = 512 * 1024 * 1024


def is_live(kind: int) -> bool:
    """Tell whether an entry of `kind` holds a value."""
    return kind == INSERT or kind == REPLACE


def combine(newer: int, older: int) -> int:
    """Return the kind that stands for `newer` over `older` in a counted database.

    VANISHED when nothing remains, INVALID when the pair contradicts itself: an INSERT over a live key, or a
    REPLACE or REMOVE over a tombstone.
    """
    return _COMBINED[newer << 2 | older]


def _combined(newer: int, older: int) -> int:
    if DELETE in (newer, older):
        return INVALID
    if (newer == INSERT) == is_live(older):
        return INVALID
    delta = DELTAS[newer] + DELTAS[older]
    if is_live(newer):
        return INSERT if delta == 1 else REPLACE
    return VANISHED if delta == 0 else REMOVE


_COMBINED = tuple(_combined(newer, older) for newer in range(4) for older in range(4))

"""What a batch amounts to at the moment it is written: one entry for each key, with its place and kind."""

from __future__ import annotations

from itertools import compress

from lamina.engine.batch import Batch, Discard
from lamina.engine.entry import DELETE, INSERT, REMOVE, REPLACE
from lamina.engine.layers import View
from lamina.engine.memtable import BELOW, BURIED, IN_BASED, IN_INSERTED, NOWHERE, REMOVED, Memtable

Resolved = tuple[dict[bytes, bytes | None], bytes, bytes]
"""The entries, their places (see memtable.py) and their kinds, side by side."""

# The places of removed keys that are not there.
_ABSENT_NOWHERE = NOWHERE + REMOVED
_ABSENT_BURIED = BURIED + REMOVED
_ABSENT = bytes((_ABSENT_NOWHERE, _ABSENT_BURIED))
_IS_PRESENT = bytes(place not in _ABSENT for place in range(256))


def _kind_of(place: int) -> int:
    if place >= REMOVED:
        return REMOVE
    return INSERT if place in (NOWHERE, BURIED) else REPLACE


_KINDS = bytes(map(_kind_of, range(256)))


def join_batches(
    batches: tuple[Batch, ...],
) -> tuple[dict[bytes, bytes | None], dict[bytes, bool], list[Discard]]:
    """Return several batches as one: the last write of a key, the first word on whether it existed."""
    if len(batches) == 1:
        batch = batches[0]
        return batch.entries, batch.existed, batch.discards
    entries: dict[bytes, bytes | None] = {}
    existed: dict[bytes, bool] = {}
    discards: list[Discard] = []
    for batch in batches:
        existed.update((key, hint) for key, hint in batch.existed.items() if key not in entries)
        entries.update(batch.entries)
        discards += batch.discards
    return entries, existed, discards


def entries_size_bytes(entries: dict[bytes, bytes | None]) -> int:
    """Return the bytes of all keys and values."""
    return sum(map(len, entries)) + sum(len(value) for value in entries.values() if value is not None)


def resolve(
    entries: dict[bytes, bytes | None], existed: dict[bytes, bool], memtable: Memtable, view: View
) -> Resolved:
    """Find the place of each key, and so the kind that its entry has at this moment.

    In a counted database that takes knowing whether each key exists: from the memtable, from the caller's
    word, or by a look into the layers below. Removals of absent keys drop out. Cost: 0.1 µs per entry, plus
    the looks.
    """
    if not view.counted:
        if None not in entries.values():
            count = len(entries)
            return entries, bytes((BELOW,)) * count, bytes((REPLACE,)) * count
        places = bytes([BELOW + REMOVED if value is None else BELOW for value in entries.values()])
        return entries, places, bytes([DELETE if value is None else REPLACE for value in entries.values()])
    inserted, based = memtable.inserted, memtable.based
    exists_below = view.exists_below
    # One expression, whose result C loops take apart (`store`): with a statement for each of kind, dict and
    # list of notes an entry costs twice as much.
    places = bytes(
        [
            IN_INSERTED
            if key in inserted
            else (BURIED if based[key] is None else IN_BASED)
            if key in based
            else BELOW
            if (existed[key] if key in existed else exists_below(key))
            else NOWHERE
            for key in entries
        ]
    )
    if None in entries.values():
        pairs = zip(places, entries.values(), strict=True)
        places = bytes([place + REMOVED if value is None else place for place, value in pairs])
        if _ABSENT_NOWHERE in places or _ABSENT_BURIED in places:
            entries = dict(compress(entries.items(), places.translate(_IS_PRESENT)))
            places = places.translate(None, _ABSENT)
    return entries, places, places.translate(_KINDS)


def columns(entries: dict[bytes, bytes | None], kinds: bytes) -> tuple[list[bytes], list[bytes]]:
    """Return keys and values side by side, as the log takes them: ``b""`` for those that are removed."""
    values = list(entries.values())
    if REMOVE in kinds or DELETE in kinds:
        return list(entries), [value or b"" for value in values]
    return list(entries), values  # type: ignore[return-value]

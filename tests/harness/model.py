"""What a database should hold and answer, as a dict: slow, and too simple to be wrong.

A *collection* is a region of keys that is used for nothing else, so that it can be discarded for good: the
keys that begin with its prefix. What has been discarded once must never be written again, which `dead`
remembers.
"""

from __future__ import annotations

from typing import NamedTuple

from lamina.engine.reading import Readable, prefix_end

Pair = tuple[bytes, bytes]


class State(NamedTuple):
    """A model at one moment."""

    entries: dict[bytes, bytes]
    dead: frozenset[bytes]


class Model:
    """A dict of live keys, and the prefixes of discarded collections."""

    def __init__(self, state: State | None = None) -> None:
        self.entries: dict[bytes, bytes] = {} if state is None else dict(state.entries)
        self.dead: frozenset[bytes] = frozenset() if state is None else state.dead

    def state(self) -> State:
        """Return the model as it is now."""
        return State(dict(self.entries), self.dead)

    def is_dead(self, key: bytes) -> bool:
        """Whether the key belongs to a discarded collection, and so may not be used."""
        return any(key.startswith(prefix) for prefix in self.dead)

    def discard(self, prefix: bytes) -> None:
        """Discard a collection."""
        self.dead |= {prefix}
        for key in [key for key in self.entries if key.startswith(prefix)]:
            del self.entries[key]

    def range(
        self, start: bytes | None = None, stop: bytes | None = None, prefix: bytes | None = None
    ) -> list[Pair]:
        """Return the entries of a range in order."""
        return sorted(
            (key, value)
            for key, value in self.entries.items()
            if (start is None or key >= start)
            and (stop is None or key < stop)
            and (prefix is None or key.startswith(prefix))
        )

    def assert_holds(self, db: Readable) -> None:
        """Assert that `db`, or a snapshot, holds these entries and no others."""
        assert_same(list(db.scan()), self.range())


def assert_same(found: list[Pair], expected: list[Pair]) -> None:
    """Assert that two lists of entries are equal; says only what differs, as keys may be long."""
    if found == expected:
        return
    missing = sorted(set(expected) - set(found))
    surplus = sorted(set(found) - set(expected))
    order = "" if missing or surplus else "; order or number differ"
    raise AssertionError(f"missing {_show(missing)}, surplus {_show(surplus)}{order}")


def _show(pairs: list[Pair]) -> str:
    shown = [f"{short(key)}: {short(value)}" for key, value in pairs[:8]]
    return "[" + ", ".join(shown) + (", ..." if len(pairs) > 8 else "") + "]"


def short(data: bytes) -> str:
    """Return bytes as people want to read them: long ones by their ends."""
    return repr(data) if len(data) <= 40 else f"<{len(data)} bytes {data[:8]!r}..{data[-8:]!r}>"


__all__ = ["Model", "Pair", "State", "assert_same", "prefix_end", "short"]

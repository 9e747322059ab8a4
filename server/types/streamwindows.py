"""Stretches of a stream that have been read lately, so that whoever goes on, or comes again, reads no more.

Consumers of a backlog ask for one entry, or ten, at a time; clients page through a stream; a small stream
that comes from the disk is read as a whole again and again. The engine reads some tens of entries in any
case, so they are kept: a read costs 2 µs instead of 100.

A window has all live entries with ``low <= id < stop``, but perhaps also some below the stream's first one,
which were trimmed: nobody asks for those. What is added to a stream comes behind all windows: `cap` sees to
it.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

_WINDOWS_MAX: Final = 4
"""Readers at different places of one stream who do not get into each other's way."""

_ENTRIES_MAX: Final = 2048
_BYTES_MAX: Final = 256 << 10
_OVERHEAD_BYTES: Final = 160
"""Memory of an entry beside its value, as in streamentries.py."""


class Window:
    """One stretch. Ids are packed; `stop` may be any string of bytes between two of them."""

    __slots__ = ("keys", "low", "stop", "values")

    def __init__(self, low: bytes, stop: bytes, keys: list[bytes], values: list[bytes]) -> None:
        self.low = low
        self.stop = stop
        self.keys = keys
        self.values = values


class Windows:
    """The windows of one stream, those last used behind the others."""

    __slots__ = ("held_bytes", "stretches")

    def __init__(self) -> None:
        self.stretches: list[Window] = []
        self.held_bytes = 0

    def covering(self, low: bytes) -> Window | None:
        """Return a window that has what follows an id, itself included."""
        for window in self.stretches:
            if window.low <= low < window.stop:
                return window
        return None

    def ending(self, stop: bytes) -> Window | None:
        """Return a window that has what comes before an id, or before the end of another window."""
        for window in self.stretches:
            if window.low < stop <= window.stop:
                return window
        return None

    def add(self, low: bytes, stop: bytes, keys: list[bytes], values: list[bytes]) -> None:
        """Keep what has been read, unless it is much."""
        size_bytes = sum(map(len, values)) + _OVERHEAD_BYTES * len(keys)
        if len(keys) > _ENTRIES_MAX or size_bytes > _BYTES_MAX:
            return
        if len(self.stretches) == _WINDOWS_MAX:
            self._forget(self.stretches[0])
        self.stretches.append(Window(low, stop, keys, values))
        self.held_bytes += size_bytes

    def _forget(self, window: Window) -> None:
        self.stretches.remove(window)
        self.held_bytes -= sum(map(len, window.values)) + _OVERHEAD_BYTES * len(window.keys)

    def cap(self, stop: bytes) -> None:
        """From now on entries may come at an id, and behind it."""
        for window in list(self.stretches):
            if window.low >= stop:
                self._forget(window)
            elif window.stop > stop:
                window.stop = stop

    def remove(self, key: bytes) -> None:
        """An entry is gone."""
        for window in self.stretches:
            if window.low <= key < window.stop:
                at = bisect_left(window.keys, key)
                if at < len(window.keys) and window.keys[at] == key:
                    del window.keys[at]
                    self.held_bytes -= len(window.values.pop(at)) + _OVERHEAD_BYTES

    def drop_below(self, first: bytes) -> None:
        """All entries below an id are gone."""
        for window in list(self.stretches):
            if window.stop <= first:
                self._forget(window)

    def clear(self) -> None:
        """Forget everything."""
        self.stretches.clear()
        self.held_bytes = 0

    def check(self, found: list[tuple[bytes, bytes]], first: bytes) -> None:
        """Assert the invariants; `found` is all of the stream. For tests."""
        held_bytes = 0
        for window in self.stretches:
            kept = [entry for entry in zip(window.keys, window.values) if entry[0] >= first]
            assert kept == [entry for entry in found if window.low <= entry[0] < window.stop]
            held_bytes += sum(map(len, window.values)) + _OVERHEAD_BYTES * len(window.keys)
        assert held_bytes == self.held_bytes
        assert len(self.stretches) <= _WINDOWS_MAX

"""Discarded ranges: key ranges that the caller has promised never to read or write again.

Each range has a number, larger for younger ones. A segment records up to which number it was rid of discarded
entries (`Properties.discards_applied`), so a range can be forgotten once no older segment overlaps it. Ranges
that touch or overlap are kept as one, with the larger number: that errs on the side of remembering longer.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from sortedcontainers import SortedDict


class DiscardedRange(NamedTuple):
    """``start <= key < stop``, and the range's number."""

    start: bytes
    stop: bytes
    number: int


class Discards:
    """A set of disjoint ranges; any thread may use it."""

    __slots__ = ("_lock", "_ranges", "last_number")

    def __init__(self, ranges: Iterable[DiscardedRange] = (), last_number: int = 0) -> None:
        self._lock = threading.RLock()
        self._ranges: SortedDict[bytes, tuple[bytes, int]] = SortedDict()
        self.last_number = last_number
        for item in ranges:
            self._ranges[item.start] = (item.stop, item.number)
            self.last_number = max(self.last_number, item.number)

    def __len__(self) -> int:
        return len(self._ranges)

    def __iter__(self) -> Iterator[DiscardedRange]:
        with self._lock:
            return iter(
                [DiscardedRange(start, stop, number) for start, (stop, number) in self._ranges.items()]
            )

    def copy(self) -> Discards:
        """Return an independent copy. Cost: O(n)."""
        return Discards(self, self.last_number)

    def with_ranges(self, ranges: Iterable[tuple[bytes, bytes]]) -> Discards:
        """Return a copy with these ranges added in turn."""
        discards = self.copy()
        for start, stop in ranges:
            discards.add(start, stop)
        return discards

    def add(self, start: bytes, stop: bytes) -> int:
        """Add a range under a new number and return that. Cost: O(log n), and a little for each range it
        swallows."""
        with self._lock:
            self.last_number += 1
            ranges = self._ranges
            index = ranges.bisect_right(start)
            if index and ranges.peekitem(index - 1)[1][0] >= start:
                start, (old_stop, _) = ranges.popitem(index - 1)
                stop = max(stop, old_stop)
                index -= 1
            while index < len(ranges) and ranges.peekitem(index)[0] <= stop:
                _, (old_stop, _) = ranges.popitem(index)
                stop = max(stop, old_stop)
            ranges[start] = (stop, self.last_number)
            return self.last_number

    def overlapping(self, start: bytes, stop: bytes | None) -> list[DiscardedRange]:
        """Return the ranges that share a key with ``start <= key < stop``, in order."""
        ranges = self._ranges
        if not ranges:
            return []
        found: list[DiscardedRange] = []
        with self._lock:
            index = ranges.bisect_right(start)
            if index and ranges.peekitem(index - 1)[1][0] > start:
                index -= 1
            while index < len(ranges):
                begin, (end, number) = ranges.peekitem(index)
                if stop is not None and begin >= stop:
                    break
                found.append(DiscardedRange(begin, end, number))
                index += 1
        return found

    def kept(self, start: bytes, stop: bytes | None) -> list[tuple[bytes, bytes | None]]:
        """Return what remains of ``start <= key < stop`` between the discarded ranges, in order."""
        pieces: list[tuple[bytes, bytes | None]] = []
        for item in self.overlapping(start, stop):
            if start < item.start:
                pieces.append((start, item.start))
            start = item.stop
        if stop is None or start < stop:
            pieces.append((start, stop))
        return pieces

    def forget(self, ranges: Iterable[DiscardedRange]) -> None:
        """Drop these ranges where they are still as they were."""
        with self._lock:
            for item in ranges:
                if self._ranges.get(item.start) == (item.stop, item.number):
                    del self._ranges[item.start]

"""A run: a sorted sequence of segments that do not overlap, or of parts of segments.

A `Slice` is what a run shows of one segment: the keys in ``start <= key < stop``. Compactions commit segment
by segment by *cutting* what they have merged out of their inputs' slices, so an interrupted one leaves a
consistent tree, and the last level is rewritten without twice its space.

Runs and slices are immutable; any thread may read them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import accumulate

from lamina.engine.segment.reader import SegmentReader

Chunks = Iterator[tuple[list[bytes], list[bytes | None]]]


class Slice:
    """The part of a segment that a run shows, with what it holds.

    `base` is the delta sum of the segment's entries before `start`, so that sums over the slice need no extra
    read.
    """

    __slots__ = ("base", "delta", "entries", "segment", "size_bytes", "start", "stop")

    def __init__(
        self,
        segment: SegmentReader,
        start: bytes,
        stop: bytes | None,
        *,
        entries: int,
        base: int,
        delta: int,
        size_bytes: int,
    ) -> None:
        self.segment = segment
        self.start = start
        self.stop = stop
        self.entries = entries
        self.base = base
        self.delta = delta
        self.size_bytes = size_bytes

    def __repr__(self) -> str:
        return f"<slice of {self.segment.number}: {self.start!r}..{self.stop!r}, {self.entries} entries>"

    @classmethod
    def whole(cls, segment: SegmentReader) -> Slice:
        """Return the slice that shows all of a segment."""
        p = segment.properties
        return cls(
            segment,
            segment.part_floors[0],
            p.ceiling,
            entries=p.entries,
            base=0,
            delta=p.delta,
            size_bytes=segment.size_bytes,
        )

    @property
    def is_whole(self) -> bool:
        """Whether the slice shows all of its segment."""
        return self.entries == self.segment.properties.entries

    @property
    def tombstones(self) -> int:
        """About how many of the entries are tombstones."""
        p = self.segment.properties
        return p.tombstones * self.entries // p.entries

    def overlaps(self, start: bytes, stop: bytes | None) -> bool:
        """Tell whether the slice may show a key in ``start <= key < stop``."""
        return (stop is None or self.start < stop) and (self.stop is None or start < self.stop)

    def restrict(self, start: bytes, stop: bytes | None) -> Slice | None:
        """Return the slice that shows only ``start <= key < stop`` of this one; None if that is empty.

        Cost: up to two reads.
        """
        start = max(start, self.start)
        stop = self.stop if stop is None else stop if self.stop is None else min(stop, self.stop)
        if stop is not None and stop <= start:
            return None
        segment = self.segment
        whole = segment.properties
        first = segment.entries_before(start) if start > segment.part_floors[0] else 0
        past_end = stop is None or (whole.ceiling is not None and stop >= whole.ceiling)
        last = whole.entries if past_end or stop is None else segment.entries_before(stop)
        if first >= last:
            return None
        base = segment.delta_before(start) if first else 0
        delta = (
            segment.delta_before(stop) if last < whole.entries and stop is not None else whole.delta
        ) - base
        size_bytes = max(segment.size_bytes * (last - first) // whole.entries, 1)
        return Slice(
            segment, start, stop, entries=last - first, base=base, delta=delta, size_bytes=size_bytes
        )

    def without(self, start: bytes, stop: bytes | None) -> list[Slice]:
        """Return what is left when ``start <= key < stop`` is cut out: up to two slices."""
        if not self.overlaps(start, stop):
            return [self]
        pieces = [self.restrict(self.start, start) if self.start < start else None]
        if stop is not None:
            pieces.append(self.restrict(stop, None))
        return [piece for piece in pieces if piece is not None]

    def delta_before(self, key: bytes) -> int:
        """Return the delta sum of the shown entries with smaller keys."""
        if key <= self.start:
            return 0
        if self.stop is not None and key >= self.stop:
            return self.delta
        return self.segment.delta_before(key) - self.base

    def bounds(self, start: bytes, stop: bytes | None) -> tuple[bytes, bytes | None]:
        """Return a range narrowed to what the slice shows."""
        start = max(start, self.start)
        if stop is None or (self.stop is not None and self.stop < stop):
            stop = self.stop
        return start, stop


class Run:
    """Disjoint slices in key order. `number` names the run; it stays when slices are exchanged."""

    __slots__ = ("_deltas", "floors", "number", "part_floors", "parts", "slices")

    def __init__(self, number: int, slices: list[Slice]) -> None:
        self.number = number
        self.slices = tuple(slices)
        self.floors = [piece.start for piece in slices]
        # The index parts of all slices side by side, so that a lookup finds its part with one binary search.
        self.part_floors: list[bytes] = []
        self.parts: list[tuple[SegmentReader, int, bytes | None]] = []
        for piece in slices:
            floors = piece.segment.part_floors
            first = max(bisect_right(floors, piece.start) - 1, 0)
            last = len(floors) if piece.stop is None else bisect_left(floors, piece.stop)
            self.part_floors += [piece.start, *floors[first + 1 : last]]
            self.parts += [(piece.segment, p, piece.stop) for p in range(first, max(last, first + 1))]
        self._deltas = list(accumulate((piece.delta for piece in slices), initial=0))

    def __repr__(self) -> str:
        return f"<run {self.number}: {len(self.slices)} slices>"

    @property
    def size_bytes(self) -> int:
        """Bytes on disk of what the run shows."""
        return sum(piece.size_bytes for piece in self.slices)

    @property
    def entries(self) -> int:
        """Entries shown."""
        return sum(piece.entries for piece in self.slices)

    @property
    def delta(self) -> int:
        """Sum of all deltas."""
        return self._deltas[-1]

    def delta_before(self, key: bytes | None) -> int:
        """Return the delta sum of the entries with smaller keys; of all for None."""
        if key is None:
            return self._deltas[-1]
        i = bisect_right(self.floors, key) - 1
        return 0 if i < 0 else self._deltas[i] + self.slices[i].delta_before(key)

    def overlapping(self, start: bytes, stop: bytes | None) -> tuple[Slice, ...]:
        """Return the slices that may show a key in ``start <= key < stop``, in order."""
        first = max(bisect_right(self.floors, start) - 1, 0)
        last = len(self.slices) if stop is None else bisect_left(self.floors, stop)
        found = self.slices[first:last]
        if found and not found[0].overlaps(start, stop):
            found = found[1:]
        return found

    def chunks(self, start: bytes, stop: bytes | None) -> Chunks:
        """Yield the entries with ``start <= key < stop`` in order, as parallel lists; None is a tombstone's
        value."""
        for piece in self.overlapping(start, stop):
            yield from piece.segment.chunks(*piece.bounds(start, stop))

    def chunks_reversed(self, start: bytes, stop: bytes | None) -> Chunks:
        """Yield what `chunks` yields, the last chunk first; inside a chunk the keys ascend."""
        for piece in reversed(self.overlapping(start, stop)):
            yield from piece.segment.chunks_reversed(*piece.bounds(start, stop))

    def check(self) -> None:
        """Assert that the slices are in order and disjoint."""
        for before, after in zip(self.slices, self.slices[1:], strict=False):
            assert before.stop is not None and before.stop <= after.start, (self, before, after)

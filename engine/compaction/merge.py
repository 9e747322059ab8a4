"""The merge kernel: several sorted inputs in, one sorted stream out.

Each round takes from every input what is not larger than the smallest of the inputs' last buffered keys, and
lets C merge it: dict updates from the oldest to the newest settle who wins, `sorted` finds the runs that are
already there (timsort). Cost: 0.3 µs per entry for four interleaved runs of different keys and 0.45 where
they overwrite each other, against 0.5 with heapq.merge; 0.14 for disjoint ones (benchmarks/merge.py).

A block whose key range no other input touches is handed on undecoded.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lamina.engine.discards import Discards
from lamina.engine.entry import DELETE, INSERT, INVALID, REPLACE, VANISHED, combine
from lamina.engine.errors import ContradictionError, CorruptionError
from lamina.engine.run import Slice
from lamina.engine.segment import format as fmt
from lamina.engine.segment.block import Block
from lamina.engine.segment.reader import Part

_BUFFER_BLOCKS = 8
"""Blocks an input decodes at a time: enough to spread a round's fixed cost, little enough to stay in the
CPU's cache."""

# Smaller blocks are merged with their neighbours rather than copied, so that none stays small for ever.
_COPY_ENTRIES_MIN = 8
_COPY_SIZE_MIN_BYTES = 2048


class Columns(NamedTuple):
    """Entries in order, as parallel columns; ``b""`` is a tombstone's value."""

    keys: list[bytes]
    values: list[bytes]
    kinds: bytes


class CopiedBlock(NamedTuple):
    """A block to take over as it is: its frame, verified, and what the index says of it."""

    first: bytes
    last: bytes
    frame: bytes
    counts: tuple[int, int, int]
    sizes: tuple[int, int]
    block_filter: bytes


class Cursor:
    """Walks one input of a merge (a run's slices) block by block, knowing each block's bounds before reading
    it.

    `floor` and `ceiling` bound the next unread block (`ceiling` None: no bound); `keys`, `values`, `kinds`
    from `at` on are what has been decoded and not taken yet.
    """

    __slots__ = (
        "_discards",
        "_part",
        "_slices",
        "_start",
        "_stop",
        "at",
        "block",
        "ceiling",
        "exhausted",
        "floor",
        "keys",
        "kinds",
        "part",
        "slice",
        "slice_index",
        "values",
    )

    def __init__(self, slices: Sequence[Slice], start: bytes, stop: bytes | None, discards: Discards) -> None:
        self._slices = [piece for piece in slices if piece.overlaps(start, stop)]
        self._start = start
        self._stop = stop
        self._discards = discards
        self.keys: list[bytes] = []
        self.values: list[bytes] = []
        self.kinds = b""
        self.at = 0
        self.exhausted = False
        self.floor = b""
        self.ceiling: bytes | None = None
        self.slice_index = -1
        self.part = 0
        self.block = 0
        self._part: Part | None = None
        self.slice: Slice | None = None
        self._next_slice()

    # -- moving over blocks ------------------------------------------------------------------------

    def _next_slice(self) -> None:
        self.slice_index += 1
        if self.slice_index >= len(self._slices):
            self.exhausted = True
            self._part = None
            return
        piece = self.slice = self._slices[self.slice_index]
        start = max(self._start, piece.start)
        place = piece.segment.seek(start)
        self.part, self.block = place.part, place.block
        self._part = piece.segment.part(self.part)
        self._settle()

    def _step(self) -> None:
        """Go on to the next block."""
        self.block += 1
        self._settle()

    def _settle(self) -> None:
        """Find the bounds of the block at hand, passing over blocks, parts and slices that have nothing to
        give."""
        while True:
            piece, part = self.slice, self._part
            assert piece is not None and part is not None
            if self.block >= len(part.floors):
                self.part += 1
                self.block = 0
                if self.part >= len(piece.segment.part_floors):
                    self._next_slice()
                    return
                part = self._part = piece.segment.part(self.part)
            floor = part.floors[self.block]
            if piece.stop is not None and floor >= piece.stop:
                # Even if the floor lies beyond the merge's end: the next slice may begin before that.
                self._next_slice()
                return
            if self._stop is not None and floor >= self._stop:
                self.exhausted = True
                return
            self.floor = floor
            self.ceiling = self._ceiling(piece, part)
            if not self._is_discarded():
                return
            self.block += 1

    def _ceiling(self, piece: Slice, part: Part) -> bytes | None:
        if self.block + 1 < len(part.floors):
            ceiling = part.floors[self.block + 1]
            # A floor that was cut short may lie below keys of the block before it.
            return ceiling if fmt.is_exact(ceiling) else fmt.upper_bound(ceiling)
        if self.part + 1 < len(piece.segment.part_floors):
            return piece.segment.part_floors[self.part + 1]
        return piece.segment.properties.ceiling

    def _is_discarded(self) -> bool:
        if not len(self._discards) or self.ceiling is None:
            return False
        found = self._discards.overlapping(self.floor, self.ceiling)
        return bool(found) and found[0].start <= self.floor and self.ceiling <= found[0].stop

    # -- giving entries ----------------------------------------------------------------------------

    def fill(self) -> None:
        """Decode the next few blocks into the buffer, which must be empty. Cost: one read."""
        piece, part = self.slice, self._part
        assert piece is not None and part is not None and self.at >= len(self.keys)
        upto = min(self.block + _BUFFER_BLOCKS, len(part.floors))
        keys: list[bytes] = []
        values: list[bytes] = []
        kinds: list[bytes] = []
        for block in piece.segment.read_blocks(part, self.block, upto):
            keys += block.keys()
            values += block.values()
            kinds.append(block.kinds)
        self.block = upto - 1
        low, high = piece.bounds(self._start, self._stop)
        first = bisect_left(keys, low) if keys[0] < low else 0
        last = len(keys) if high is None or keys[-1] < high else bisect_left(keys, high)
        self.keys = keys[first:last]
        self.values = values[first:last]
        self.kinds = b"".join(kinds)[first:last]
        self.at = 0
        if len(self._discards) and self.keys:
            kept = without_discarded(Columns(self.keys, self.values, self.kinds), self._discards)
            self.keys, self.values, self.kinds = kept
        self._step()

    def is_done(self) -> bool:
        """Whether nothing is buffered and no block is left."""
        return self.exhausted and self.at >= len(self.keys)

    def lowest(self) -> bytes:
        """Return a lower bound of all that is still to come, of which there is something."""
        return self.keys[self.at] if self.at < len(self.keys) else self.floor

    def take(self, boundary: bytes) -> Columns | None:
        """Return the buffered entries up to `boundary`, itself included; None if there are none."""
        keys, at = self.keys, self.at
        if at >= len(keys) or keys[at] > boundary:
            return None
        upto = len(keys) if keys[-1] <= boundary else bisect_right(keys, boundary, at)
        self.at = upto
        if at == 0 and upto == len(keys):
            return Columns(keys, self.values, self.kinds)
        return Columns(keys[at:upto], self.values[at:upto], self.kinds[at:upto])

    def copy_block(self, *, counted: bool, is_last: bool, filter_bits_per_key: int) -> CopiedBlock | None:
        """Return the next block undecoded, if all of it belongs to the merge and nothing in it must go.

        Cost: one read, one decompression.
        """
        piece, part, b = self.slice, self._part, self.block
        assert piece is not None and part is not None
        low, high = piece.bounds(self._start, self._stop)
        if self.floor < low or (high is not None and (self.ceiling is None or self.ceiling > high)):
            return None
        entries = part.entries[b + 1] - part.entries[b]
        tombstones = part.tombstones[b + 1] - part.tombstones[b]
        delta = part.deltas[b + 1] - part.deltas[b]
        if entries < _COPY_ENTRIES_MIN and part.offsets[b + 1] - part.offsets[b] < _COPY_SIZE_MIN_BYTES:
            return None
        if is_last and (tombstones or delta != (entries if counted else 0)):
            return None
        if piece.segment.properties.filter_bits_per_key != filter_bits_per_key:
            return None
        if len(self._discards) and self._discards.overlapping(self.floor, self.ceiling):
            return None
        frame = piece.segment.read_frames(part, b, b + 1)[0]
        block: Block = piece.segment.decode_block(part, b, frame)
        copied = CopiedBlock(
            block.key(0),
            block.key(block.count - 1),
            frame,
            (entries, tombstones, delta),
            block.column_sizes(),
            part.filters[b],
        )
        self._step()
        return copied


def merge(
    cursors: list[Cursor], *, counted: bool, is_last: bool, filter_bits_per_key: int, path: str
) -> Iterator[Columns | CopiedBlock]:
    """Merge `cursors` (newest first) and yield the result in key order.

    `is_last`: no older layer holds keys of this range, so that tombstones go, and in a counted database
    nothing but inserts may remain. Blocks whose filter has another `filter_bits_per_key` are not copied.
    Errors: CorruptionError (naming `path`) where entries contradict each other.
    """
    while True:
        cursors = [cursor for cursor in cursors if not cursor.is_done()]
        if not cursors:
            return
        # The input that comes first, and where the others begin.
        bounds = [cursor.lowest() for cursor in cursors]
        lowest = min(bounds)
        head = cursors[bounds.index(lowest)]
        if head.at >= len(head.keys):
            bounds.remove(lowest)
            if not bounds or (head.ceiling is not None and min(bounds) >= head.ceiling):
                copied = head.copy_block(
                    counted=counted, is_last=is_last, filter_bits_per_key=filter_bits_per_key
                )
                if copied is not None:
                    yield copied
                    continue
            head.fill()
            if not head.keys:
                continue
        boundary = head.keys[-1]
        for cursor in cursors:
            # Everything up to the boundary must be buffered; a newly filled input may lower it.
            while cursor.at >= len(cursor.keys) and not cursor.exhausted and cursor.floor <= boundary:
                cursor.fill()
            if cursor.at < len(cursor.keys) and cursor.keys[-1] < boundary:
                boundary = cursor.keys[-1]
        pieces = [piece for cursor in cursors if (piece := cursor.take(boundary)) is not None]
        merged = combine_columns(pieces, counted=counted, is_last=is_last, path=path)
        if merged.keys:
            yield merged


def combine_columns(pieces: list[Columns], *, counted: bool, is_last: bool, path: str) -> Columns:
    """Merge entries of the same key range, newest piece first."""
    if len(pieces) == 1:
        return _finish(pieces[0], counted=counted, is_last=is_last, path=path)
    values: dict[bytes, bytes] = {}
    total = 0
    for piece in reversed(pieces):
        values.update(zip(piece.keys, piece.values, strict=True))
        total += len(piece.keys)
    # The common case, and the reason for kinds in a column of their own: all entries are of one kind, so that
    # nothing has to be combined, and the values alone settle the matter.
    kind = INSERT if counted else REPLACE
    if (len(values) == total or not counted) and all(p.kinds.count(kind) == len(p.kinds) for p in pieces):
        keys = sorted(values)
        return Columns(keys, list(map(values.__getitem__, keys)), bytes((kind,)) * len(keys))
    kinds: dict[bytes, int] = {}
    for piece in reversed(pieces):
        newer = dict(zip(piece.keys, piece.kinds, strict=True))
        if counted:
            for key in kinds.keys() & newer.keys():
                kind = combine(newer[key], kinds[key])
                if kind == VANISHED:
                    del kinds[key], newer[key]
                elif kind == INVALID:
                    raise ContradictionError(path, key, newer[key], kinds[key])
                else:
                    newer[key] = kind
        kinds.update(newer)
    keys = sorted(kinds)
    columns = Columns(keys, list(map(values.__getitem__, keys)), bytes(map(kinds.__getitem__, keys)))
    return _finish(columns, counted=counted, is_last=is_last, path=path)


def _finish(columns: Columns, *, counted: bool, is_last: bool, path: str) -> Columns:
    """Drop or refuse what may not lie in the last layer."""
    kinds = columns.kinds
    if not is_last or kinds.count(INSERT) == len(kinds):
        return columns
    if counted:
        at = next(i for i, kind in enumerate(kinds) if kind != INSERT)
        raise CorruptionError(
            path,
            0,
            f"key {columns.keys[at][:64]!r} is replaced or removed in the last layer",
            INSERT,
            kinds[at],
        )
    return without_tombstones(columns)


def without_tombstones(columns: Columns) -> Columns:
    """Return the entries of an uncounted database that still mean something where nothing lies below."""
    kinds = columns.kinds
    if DELETE not in kinds:
        return columns
    kept = [i for i, kind in enumerate(kinds) if kind != DELETE]
    return Columns(
        [columns.keys[i] for i in kept], [columns.values[i] for i in kept], bytes([kinds[i] for i in kept])
    )


def without_discarded(columns: Columns, discards: Discards) -> Columns:
    """Return the entries, of which there is at least one, that lie in no discarded range. The lists are cut
    in place."""
    keys, values, kinds = columns
    for item in reversed(discards.overlapping(keys[0], keys[-1] + b"\0")):
        i, j = bisect_left(keys, item.start), bisect_left(keys, item.stop)
        del keys[i:j]
        del values[i:j]
        kinds = kinds[:i] + kinds[j:]
    return Columns(keys, values, kinds)

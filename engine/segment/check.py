"""A segment file held against itself: every frame read and verified, every number recounted.

    frames       header, blocks and index parts, top index, properties, footer lie side by side and are sound
    keys         ascend strictly, over blocks and parts; floors bound their blocks from below and, where they
                 are exact, lie above all keys before
    index rows   entries, tombstones, deltas are those of the blocks; filters have the size they must have
                 and contain every key
    properties   sums, bounds and ceiling are those of the contents; the kinds are those of a counted
                 database, or of an uncounted one

Memory: one index part and a few blocks, whatever the size of the file. Any thread; the file is opened anew,
so the bytes are those on disk and no cache is touched.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterable
from itertools import pairwise
from operator import lt

from lamina.engine.cache import Cache
from lamina.engine.entry import DELETE, INSERT, REMOVE, REPLACE
from lamina.engine.errors import CorruptionError
from lamina.engine.filenames import segment_name
from lamina.engine.filesystem import FileSystem
from lamina.engine.findings import NOTHING, Extent, Findings
from lamina.engine.segment import format as fmt
from lamina.engine.segment.block import Block
from lamina.engine.segment.filter import filter_shape, hash_key, may_contain, unpack_filter
from lamina.engine.segment.reader import OpenFiles, Part, SegmentReader

_READ_BLOCKS = 16
KINDS_COUNTED = bytes((INSERT, REPLACE, REMOVE))
KINDS_UNCOUNTED = bytes((REPLACE, DELETE))


def open_uncached(
    fs: FileSystem, directory: str, number: int, size_bytes: int | None = None
) -> SegmentReader:
    """Open a segment apart from any database: nothing is cached. Errors: as `SegmentReader`."""
    return SegmentReader(fs, directory, number, cache=Cache(0), files=OpenFiles(8), size_bytes=size_bytes)


def check_segment(
    fs: FileSystem,
    directory: str,
    number: int,
    findings: Findings,
    *,
    size_bytes: int | None = None,
    bounds: Iterable[bytes] = (),
    extent: Extent = NOTHING,
    on_read: Callable[[int], None] = lambda size_bytes: None,
) -> SegmentWalk | None:
    """Check segment `number` and return what was counted; None if it could not be opened or read whole.

    `bounds`: keys for which to count what lies before them. `extent`: what is lost if it cannot be opened.
    `on_read` is told of bytes as they are read. Damage goes to `findings`; nothing is raised.
    """
    path = os.path.join(directory, segment_name(number))
    segment: SegmentReader | None = None
    with findings.gathering(path, lost=extent if extent.size_bytes else Extent(size_bytes or 0)):
        segment = open_uncached(fs, directory, number, size_bytes)
    if segment is None:
        return None
    p = segment.properties
    whole = Extent(segment.size_bytes, p.entries, segment.part_floors[0], p.ceiling)
    with findings.gathering(path, lost=whole):
        walk = SegmentWalk(segment, findings, bounds, on_read)
        walk.run()
        return walk if walk.is_readable else None
    return None


class SegmentWalk:
    """One pass over a segment's blocks, counting.

    `before` maps each bound to the (entries, delta) of what lies before it. `is_readable` is False once
    something could not be read: then the sums are not those of the file.
    """

    def __init__(
        self,
        segment: SegmentReader,
        findings: Findings,
        bounds: Iterable[bytes],
        on_read: Callable[[int], None] = lambda size_bytes: None,
    ) -> None:
        self.segment = segment
        self._on_read = on_read
        self.is_readable = True
        self.before = dict.fromkeys(bounds, (0, 0))
        self.entries = 0
        self.tombstones = 0
        self.delta = 0
        self._key_bytes = 0
        self._value_bytes = 0
        self._blocks = 0
        self._findings = findings
        self._path = segment.path
        self._kinds = KINDS_COUNTED if segment.properties.counted else KINDS_UNCOUNTED
        self._first_key: bytes | None = None
        self._last_key: bytes | None = None

    def run(self) -> None:
        """Walk over everything once."""
        top = self.segment.top
        end = fmt.HEADER.size
        for p in range(len(top.floors)):
            offset = top.offsets[p]
            try:
                part = self.segment.part(p)
            except CorruptionError as error:
                entries = top.entries[p + 1] - top.entries[p]
                stop = top.floors[p + 1] if p + 1 < len(top.floors) else self.segment.properties.ceiling
                # Its blocks may be sound, but nobody finds them without it.
                self._unreadable(error, Extent(offset - end, entries, top.floors[p], stop))
            else:
                self._findings.expect(self._path, f"offset of block 0 of part {p}", end, part.offsets[0])
                self._check_part(p, part)
            self._on_read(offset + top.sizes[p] - end)
            end = offset + top.sizes[p]
        if self.is_readable:
            self._check_properties()

    def _unreadable(self, error: CorruptionError, lost: Extent) -> None:
        self.is_readable = False
        with self._findings.gathering(self._path, lost=lost):
            raise error

    def _extent_of(self, p: int, part: Part, b: int) -> Extent:
        """Return what is lost with block `b` of `part`, the `p`th."""
        size_bytes, entries = part.offsets[b + 1] - part.offsets[b], part.entries[b + 1] - part.entries[b]
        floors = [*part.floors[b + 1 : b + 2], *self.segment.part_floors[p + 1 : p + 2]]
        stop: bytes | None = floors[0] if floors else self.segment.properties.ceiling
        if stop is not None and not fmt.is_exact(stop):
            stop = fmt.upper_bound(stop)
        return Extent(size_bytes, entries, part.floors[b], stop)

    def _check_part(self, p: int, part: Part) -> None:
        findings, path, top = self._findings, self._path, self.segment.top
        findings.expect(path, f"floor of part {p} in the top index", part.floors[0], top.floors[p])
        for what, above, below in (
            ("entries", top.entries, part.entries),
            ("tombstones", top.tombstones, part.tombstones),
            ("delta", top.deltas, part.deltas),
        ):
            findings.expect(path, f"{what} of part {p} in the top index", below[-1], above[p + 1] - above[p])
        if p and not fmt.is_exact(part.floors[0]):
            findings.error(path, f"part {p} begins at a floor that was cut short", offset=part.offsets[0])
        if any(low > high for low, high in pairwise(part.floors)):
            findings.error(path, f"the floors of part {p} do not ascend", offset=top.offsets[p])
        count = len(part.floors)
        for b in range(0, count, _READ_BLOCKS):
            upto = min(b + _READ_BLOCKS, count)
            for i, frame in enumerate(self.segment.read_frames(part, b, upto), b):
                try:
                    block = self.segment.decode_block(part, i, frame)
                except CorruptionError as error:
                    self._unreadable(error, self._extent_of(p, part, i))
                else:
                    self._check_block(part, i, block)

    def _check_block(self, part: Part, b: int, block: Block) -> None:
        keys, kinds, offset = block.keys(), block.kinds, part.offsets[b]
        self._check_order(part.floors[b], keys, offset)
        tombstones = kinds.count(REMOVE) + kinds.count(DELETE)
        delta = block.delta(0, block.count)
        for what, found, column in (
            ("entries", block.count, part.entries),
            ("tombstones", tombstones, part.tombstones),
            ("delta", delta, part.deltas),
        ):
            self._expect(f"{what} of a block in the index", found, column[b + 1] - column[b], offset)
        if kinds.translate(None, self._kinds):
            self._error("kinds that do not belong into this database", offset)
        if any(kind in (DELETE, REMOVE) and value for kind, value in zip(kinds, block.values(), strict=True)):
            self._error("a tombstone with a value", offset)
        self._check_filter(part.filters[b], keys, offset)
        for bound, (entries_before, delta_before) in self.before.items():
            i = bisect_left(keys, bound)
            self.before[bound] = entries_before + i, delta_before + block.delta(0, i)
        key_bytes, value_bytes = block.column_sizes()
        self.entries += block.count
        self.tombstones += tombstones
        self.delta += delta
        self._key_bytes += key_bytes
        self._value_bytes += value_bytes
        self._blocks += 1

    def _check_order(self, floor: bytes, keys: list[bytes], offset: int) -> None:
        last = self._last_key
        if not all(map(lt, keys, keys[1:])) or (last is not None and last >= keys[0]):
            self._error("keys do not ascend", offset)
        if floor > keys[0]:
            self._error("a block's floor lies above its first key", offset)
        if last is not None and fmt.is_exact(floor) and last >= floor:
            self._error("a block's floor does not lie above the key before it", offset)
        if self._first_key is None:
            self._first_key = keys[0]
        self._last_key = keys[-1]

    def _check_filter(self, block_filter: bytes, keys: list[bytes], offset: int) -> None:
        bits_per_key = self.segment.properties.filter_bits_per_key
        sectors, width = filter_shape(len(keys), bits_per_key)
        self._expect("size of a block's filter", sectors * width >> 3, len(block_filter), offset)
        probe = unpack_filter(block_filter, len(keys), bits_per_key)
        if not all(may_contain(probe, hash_key(key)) for key in keys):
            self._error("a filter denies a key of its block", offset)

    def _check_properties(self) -> None:
        p, top = self.segment.properties, self.segment.top
        for what, counted, said in (
            ("entries", self.entries, p.entries),
            ("tombstones", self.tombstones, p.tombstones),
            ("delta", self.delta, p.delta),
            ("key bytes", self._key_bytes, p.key_bytes),
            ("value bytes", self._value_bytes, p.value_bytes),
            ("blocks", self._blocks, p.blocks),
            ("entries in the top index", self.entries, top.entries[-1]),
        ):
            self._findings.expect(self._path, f"{what} in the properties", counted, said)
        first, last = self._first_key, self._last_key
        assert first is not None and last is not None
        if not p.start <= top.floors[0] <= first:
            self._error("the first floor lies outside the bounds, or above the first key")
        if p.ceiling is not None and last >= p.ceiling:
            self._error("the ceiling is not above the last key")
        if p.stop is not None and (last >= p.stop or p.ceiling is None or p.ceiling > p.stop):
            self._error("the last key or the ceiling lies outside the bounds")
        if p.age_first > p.age_last:
            self._error(f"ages from {p.age_first} to {p.age_last}")

    def _expect(self, what: str, expected: int, found: int, offset: int) -> None:
        if expected != found:
            self._error(f"{what}: expected {expected}, found {found}", offset)

    def _error(self, what: str, offset: int | None = None) -> None:
        self._findings.error(self._path, what, offset=offset)

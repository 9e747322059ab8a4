"""Reading a segment: point lookups, ranges of blocks, counts and positions.

A segment opens with one or two reads (footer, properties, top index). Index parts and blocks are read when
they are needed and kept in the shared cache: `parts[p].blocks[b]` is the block or None, so a hot lookup is
two list accesses and two binary searches. Segments are immutable: any thread may read, without locks.
"""

from __future__ import annotations

import os
import weakref
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from lamina.engine.cache import Cache, Cached
from lamina.engine.checksum import file_salt
from lamina.engine.errors import CorruptionError
from lamina.engine.filenames import segment_name
from lamina.engine.filesystem import FileSystem, ReadableFile
from lamina.engine.segment import format as fmt
from lamina.engine.segment.block import Block
from lamina.engine.segment.filter import Probe, may_contain, unpack_filter

_TAIL_SIZE_BYTES = 16 * 1024
_READAHEAD_BLOCKS_MAX = 16

_PART_WEIGHT = 8
"""So often is an index part passed by before it is evicted: it serves 256 blocks."""


class Part(Cached):
    """An index part: the blocks `0..len(floors)-1` it describes, and those of them that are cached."""

    weight = _PART_WEIGHT

    __slots__ = (
        "blocks",
        "deltas",
        "entries",
        "filters",
        "floors",
        "is_exact",
        "offsets",
        "probes",
        "tombstones",
    )

    def __init__(self, index: fmt.Index, end_offset: int) -> None:
        super().__init__()
        self.floors = index.floors
        self.offsets = [*index.offsets, end_offset]
        self.entries = index.entries
        self.tombstones = index.tombstones
        self.deltas = index.deltas
        self.filters = index.filters
        self.probes: list[Probe | None] = [None] * len(index.floors)
        """The filters that have been asked, in the form in which they are asked."""
        self.is_exact = max(map(len, index.floors)) < fmt.FLOOR_SIZE_MAX
        self.blocks: list[Block | None] = [None] * len(index.floors)

    def children(self) -> list[Block | None]:
        return self.blocks

    def memory_bytes(self) -> int:
        """Return roughly what the part occupies, its cached blocks not included."""
        floors = sum(map(len, self.floors))
        return floors + 3 * sum(map(len, self.filters)) + len(self.floors) * 300 + 1000


class Position(NamedTuple):
    """A place in a segment: entry `row` of block `block` of part `part`; `row` may be the block's count."""

    part: int
    block: int
    row: int


class OpenFiles:
    """Bounds how many segments keep their file open: a CLOCK over readers, as in `cache`."""

    def __init__(self, files_max: int) -> None:
        self.files_max = files_max
        # Weak references: that nobody reads a segment any more is what its removal waits for.
        self._ring: list[weakref.ref[SegmentReader]] = []

    def opened(self, reader: SegmentReader) -> None:
        """Note that `reader` has opened its file, and close another's if there are too many."""
        self._ring.append(weakref.ref(reader))
        if len(self._ring) > self.files_max:
            self._ring = [other for other in self._ring if other() is not None]
        while len(self._ring) > self.files_max:
            oldest = self._ring.pop(0)()
            # Dropping the reference closes the file as soon as nobody is reading it.
            if oldest is not None:
                oldest.file = None

    def forget(self, reader: SegmentReader) -> None:
        """Close the file of a reader that is no longer needed."""
        reader.file = None
        self._ring = [other for other in self._ring if other() is not reader]


class SegmentReader:
    """An open segment."""

    __slots__ = (
        "__weakref__",
        "_cache",
        "_files",
        "_filter_bits",
        "_fs",
        "_salt",
        "file",
        "number",
        "part_floors",
        "parts",
        "path",
        "properties",
        "size_bytes",
        "top",
    )

    def __init__(
        self,
        fs: FileSystem,
        directory: str,
        number: int,
        *,
        cache: Cache,
        files: OpenFiles,
        size_bytes: int | None = None,
        database_salt: int | None = None,
    ) -> None:
        """Open segment `number`. `size_bytes` and `database_salt` are what the manifest says, if there is
        one.

        Errors: CorruptionError, FormatVersionError, OSError. Cost: two or three reads.
        """
        self.number = number
        self.path = os.path.join(directory, segment_name(number))
        self._fs = fs
        self._cache = cache
        self._files = files
        self.file: ReadableFile | None = None
        file = self._open()
        self.size_bytes = file.size()
        if size_bytes is not None and size_bytes != self.size_bytes:
            raise CorruptionError(
                self.path, min(size_bytes, self.size_bytes), "size of file", size_bytes, self.size_bytes
            )
        self._salt = fmt.decode_header(self.path, file.pread(fmt.HEADER.size, 0))
        if database_salt is not None and self._salt != file_salt(database_salt, number):
            raise CorruptionError(self.path, 0, "a segment of another database, or of another number")
        tail_at = max(fmt.HEADER.size, self.size_bytes - _TAIL_SIZE_BYTES)
        tail = file.pread(self.size_bytes - tail_at, tail_at)
        footer_at = self.size_bytes - fmt.FOOTER.size
        top, properties = fmt.decode_footer(self.path, footer_at, tail[-fmt.FOOTER.size :], self._salt)
        if not (fmt.HEADER.size <= top.offset <= properties.offset <= footer_at):
            raise CorruptionError(self.path, footer_at, "footer points outside the file")

        def frame(place: fmt.Frame, tag: int) -> bytes:
            at = place.offset - tail_at
            data = tail[at : at + place.size_bytes] if at >= 0 else file.pread(place.size_bytes, place.offset)
            return fmt.decode_frame(self.path, self._salt, place.offset, data, tag)

        self.properties = fmt.Properties.decode(
            self.path, properties.offset, frame(properties, fmt.PROPERTIES)
        )
        self._filter_bits = self.properties.filter_bits_per_key
        if self.properties.number != number:
            raise CorruptionError(
                self.path, properties.offset, "segment number", number, self.properties.number
            )
        self.top = fmt.decode_index(self.path, top.offset, frame(top, fmt.TOP))
        self.part_floors = self.top.floors
        self.parts: list[Part | None] = [None] * len(self.part_floors)

    def __repr__(self) -> str:
        return f"<segment {self.number}: {self.properties.entries} entries>"

    def _open(self) -> ReadableFile:
        file = self.file
        if file is None:
            file = self._fs.open_read(self.path)
            self.file = file
            self._files.opened(self)
        return file

    # -- blocks ------------------------------------------------------------------------------------

    def part(self, number: int) -> Part:
        """Return index part `number`, from the cache or from disk."""
        part = self.parts[number]
        if part is None:
            part = self._read_part(number)
            self._cache.insert(self.parts, number, part, part.memory_bytes())
        else:
            part.used += 1
        return part

    def _read_part(self, number: int) -> Part:
        offset = self.top.offsets[number]
        file = self._open()  # by name, so that it stays open until the read is done
        data = file.pread(self.top.sizes[number], offset)
        payload = fmt.decode_frame(self.path, self._salt, offset, data, fmt.PART)
        part = Part(fmt.decode_index(self.path, offset, payload), offset)
        if part.entries[-1] != self.top.entries[number + 1] - self.top.entries[number]:
            raise CorruptionError(self.path, offset, "entries of index part")
        return part

    def block(self, part: Part, number: int) -> Block:
        """Return block `number` of `part`, from the cache or from disk."""
        block = part.blocks[number]
        if block is None:
            block = self.decode_block(part, number, self.read_frames(part, number, number + 1)[0])
            self._cache.insert(part.blocks, number, block, block.memory_bytes())
            return block
        if block.split_keys is None:
            # Met again: from now on its keys are searched as a list.
            block.keys()
            self._cache.grow(block, block.keys_memory_bytes())
        block.used += 1
        return block

    def read_frames(self, part: Part, start: int, stop: int) -> list[bytes]:
        """Return the frames of blocks ``start..stop-1``, unverified. Cost: one read for all of them."""
        offsets = part.offsets
        base = offsets[start]
        # By name: its `pread` alone would not keep the file from being closed by another thread meanwhile.
        file = self._open()
        data = file.pread(offsets[stop] - base, base)
        if stop - start == 1:
            return [data]
        return [data[offsets[i] - base : offsets[i + 1] - base] for i in range(start, stop)]

    def decode_block(self, part: Part, number: int, frame: bytes) -> Block:
        """Verify and decode the frame of block `number`. Errors: CorruptionError."""
        offset = part.offsets[number]
        payload = fmt.decode_frame(self.path, self._salt, offset, frame, fmt.DATA)
        block = Block(self.path, offset, payload)
        if block.count != part.entries[number + 1] - part.entries[number]:
            raise CorruptionError(self.path, offset, "entries of data block")
        return block

    def payload(self, part: Part, number: int) -> tuple[bytes, int]:
        """Return block `number` of `part` as it was before compression, and how many bytes it takes on disk.

        Cost: one read; nothing is cached. Errors: CorruptionError.
        """
        (frame,) = self.read_frames(part, number, number + 1)
        return fmt.decode_frame(self.path, self._salt, part.offsets[number], frame, fmt.DATA), len(frame)

    def read_blocks(self, part: Part, start: int, stop: int) -> list[Block]:
        """Return blocks ``start..stop-1``; those that are not cached are read together and not cached."""
        blocks = part.blocks[start:stop]
        if None not in blocks:
            return blocks  # type: ignore[return-value]
        frames = self.read_frames(part, start, stop)
        return [
            self.decode_block(part, start + i, frames[i]) if block is None else block
            for i, block in enumerate(blocks)
        ]

    def verify(self) -> None:
        """Read every frame from disk, whatever is cached. Errors: CorruptionError at the first damage."""
        for number in range(len(self.parts)):
            part = self._read_part(number)
            for b in range(0, len(part.floors), _READAHEAD_BLOCKS_MAX):
                last = min(b + _READAHEAD_BLOCKS_MAX, len(part.floors))
                for i, frame in enumerate(self.read_frames(part, b, last)):
                    self.decode_block(part, b + i, frame)

    # -- lookups -----------------------------------------------------------------------------------

    def get(self, key: bytes, h: int) -> tuple[int, bytes] | None:
        """Return (kind, value) of `key`, whose hash is `h`, or None.

        Cost: 2 µs when cached, one read of a block otherwise; an absent key is mostly refused by the filter.
        """
        p = bisect_right(self.part_floors, key) - 1
        if p < 0:
            return None
        part = self.part(p)
        b = bisect_right(part.floors, key) - 1
        if not part.is_exact and len(part.floors[b]) >= fmt.FLOOR_SIZE_MAX:
            b = self._settle(part, b, key)
        probe = part.probes[b] or self.probe(part, b)
        return self.find(part, b, key) if may_contain(probe, h) else None

    def probe(self, part: Part, b: int) -> Probe:
        """Return the filter of block `b`, ready to be asked."""
        probe = unpack_filter(part.filters[b], part.entries[b + 1] - part.entries[b], self._filter_bits)
        part.probes[b] = probe
        return probe

    def find(self, part: Part, b: int, key: bytes) -> tuple[int, bytes] | None:
        """Return (kind, value) of `key` if it is in block `b` of `part`."""
        block = part.blocks[b]
        if block is None or block.split_keys is None:
            return self.block(part, b).find(key)
        block.used += 1
        part.used += 1
        return block.find(key)

    def _settle(self, part: Part, b: int, key: bytes) -> int:
        """Return which block may hold `key` where floors were cut short and `bisect` is not enough.

        Floors of FLOOR_SIZE_MAX bytes that are a prefix of `key` leave it open which of their blocks, or the
        one before them, has it: search those by their real first keys.
        """
        floor = part.floors[b]
        if not key.startswith(floor):
            return b
        low = max(bisect_left(part.floors, floor) - 1, 0)
        high = b
        while low < high:
            middle = (low + high + 1) >> 1
            if self.block(part, middle).key(0) <= key:
                low = middle
            else:
                high = middle - 1
        return low

    def seek(self, key: bytes) -> Position:
        """Return the position of the first entry whose key is not smaller than `key` (perhaps an end of a
        block)."""
        p = bisect_right(self.part_floors, key) - 1
        if p < 0:
            return Position(0, 0, 0)
        part = self.part(p)
        b = bisect_right(part.floors, key) - 1
        if len(part.floors[b]) >= fmt.FLOOR_SIZE_MAX:
            b = self._settle(part, b, key)
        return Position(p, b, self.block(part, b).bisect(key))

    def delta_before(self, key: bytes) -> int:
        """Return the sum of the deltas of all entries whose keys are smaller than `key`. Cost: as `get`."""
        p = bisect_right(self.part_floors, key) - 1
        if p < 0:
            return 0
        place = self.seek(key)
        part = self.part(place.part)
        block_sum = 0
        if place.row:
            block_sum = self.block(part, place.block).delta(0, place.row)
        return self.top.deltas[place.part] + part.deltas[place.block] + block_sum

    def entries_before(self, key: bytes) -> int:
        """Return how many entries have keys smaller than `key`."""
        p = bisect_right(self.part_floors, key) - 1
        if p < 0:
            return 0
        place = self.seek(key)
        before: int = self.top.entries[place.part] + self.part(place.part).entries[place.block]
        return before + place.row

    def offset_before(self, key: bytes) -> int:
        """Return roughly how many bytes of the file hold smaller keys, without reading a block."""
        p = bisect_right(self.part_floors, key) - 1
        if p < 0:
            return 0
        part = self.part(p)
        return part.offsets[max(bisect_right(part.floors, key) - 1, 0)]

    # -- ranges ------------------------------------------------------------------------------------

    def chunks(self, start: bytes, stop: bytes | None) -> Iterator[tuple[list[bytes], list[bytes | None]]]:
        """Yield the entries with ``start <= key < stop`` in order, as parallel lists; None is a tombstone's
        value.

        Reads ahead up to 16 blocks at a time, growing as the scan goes on, and leaves the cache to point
        lookups.
        """
        place = self.seek(start)
        p, b, index = place
        ahead = 1
        while p < len(self.part_floors) and (stop is None or self.part_floors[p] < stop):
            part = self.part(p)
            floors = part.floors
            last = len(floors) if stop is None else bisect_left(floors, stop)
            while b < last:
                upto = min(b + ahead, last)
                blocks = [self.block(part, b)] if ahead == 1 else self.read_blocks(part, b, upto)
                for block in blocks:
                    keys = block.keys()
                    values = block.live_values()
                    end = len(keys) if stop is None or keys[-1] < stop else bisect_left(keys, stop)
                    if index or end < len(keys):
                        keys = keys[index:end]
                        values = values[index:end]
                        index = 0
                    if keys:
                        yield keys, values
                b = upto
                ahead = min(ahead * 2, _READAHEAD_BLOCKS_MAX)
            if last < len(floors):
                return
            p += 1
            b = 0

    def chunks_reversed(
        self, start: bytes, stop: bytes | None
    ) -> Iterator[tuple[list[bytes], list[bytes | None]]]:
        """Yield what `chunks` yields, the last chunk first; inside a chunk the keys ascend."""
        if stop is None:
            p = len(self.part_floors) - 1
            part = self.part(p)
            b = len(part.floors) - 1
        else:
            place = self.seek(stop)
            p, b = place.part, place.block
            part = self.part(p)
        ahead = 1
        while True:
            while b >= 0:
                first = max(b + 1 - ahead, 0)
                blocks = [self.block(part, b)] if ahead == 1 else self.read_blocks(part, first, b + 1)
                for block in reversed(blocks):
                    keys = block.keys()
                    values = block.live_values()
                    end = len(keys) if stop is None or keys[-1] < stop else bisect_left(keys, stop)
                    begin = 0 if keys[0] >= start else bisect_left(keys, start)
                    if begin or end < len(keys):
                        keys = keys[begin:end]
                        values = values[begin:end]
                    if keys:
                        yield keys, values
                    if begin:
                        return
                b = first - 1
                ahead = min(ahead * 2, _READAHEAD_BLOCKS_MAX)
            p -= 1
            if p < 0 or self.top.floors[p + 1] <= start:
                return
            part = self.part(p)
            b = len(part.floors) - 1

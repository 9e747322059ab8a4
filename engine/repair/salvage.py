"""What is left of one damaged segment, and writing that into a new one.

`examine` walks the file and keeps every block that is sound in itself and lies in order behind the one
before. The keys of what is lost lie between the last key before it and the first one behind it. `rewrite`
copies the blocks undecoded into a new segment, with new indexes and filters.
"""

from __future__ import annotations

import contextlib
import os
from operator import lt
from typing import NamedTuple

from lamina.engine.entry import DELETE, INSERT, REMOVE
from lamina.engine.errors import CorruptionError, FormatVersionError
from lamina.engine.filenames import segment_name
from lamina.engine.filesystem import FileSystem
from lamina.engine.repair.frames import FoundFrame, walk_frames
from lamina.engine.repair.report import Loss
from lamina.engine.segment import format as fmt
from lamina.engine.segment.block import Block
from lamina.engine.segment.check import KINDS_COUNTED, KINDS_UNCOUNTED, open_uncached
from lamina.engine.segment.filter import build_filter
from lamina.engine.segment.writer import SegmentWriter

FILTER_BITS_PER_KEY = 10
BLOCK_SIZE_BYTES = 8 * 1024


class GoodBlock(NamedTuple):
    """A block that can be kept."""

    offset: int
    size_bytes: int
    entries: int


class Hole(NamedTuple):
    """What is lost between two blocks, or at an end: ``start <= key < stop``, and bytes of the file."""

    start: bytes
    stop: bytes | None
    offset: int
    size_bytes: int


class Salvage(NamedTuple):
    """What is left of a segment. `number` is the one that its name or its content says.

    `properties` is None if it is lost. `entries_before`: how many entries there were, if that is known.
    """

    number: int
    path: str
    salt: int
    properties: fmt.Properties | None
    blocks: list[GoodBlock]
    holes: list[Hole]
    entries_before: int | None

    @property
    def entries(self) -> int:
        """Entries that are left."""
        return sum(block.entries for block in self.blocks)

    def losses(self) -> list[Loss]:
        """Return what is lost. How many entries is known for all holes together, and said of the first."""
        lost = None if self.entries_before is None else self.entries_before - self.entries
        found: list[Loss] = []
        for hole in self.holes:
            what = "blocks that cannot be read"
            found.append(
                Loss(
                    os.path.basename(self.path),
                    hole.offset,
                    what,
                    hole.size_bytes,
                    lost if not found else 0,
                    hole.start,
                    hole.stop,
                )
            )
        return found


def examine(
    fs: FileSystem,
    path: str,
    number: int,
    salt: int,
    *,
    counted: bool,
    start: bytes = b"",
    stop: bytes | None = None,
) -> Salvage:
    """Look at every frame of a segment file. `start` and `stop` bound its keys, as far as others know.

    Errors: OSError; FormatVersionError. Cost: one read of the file.
    """
    file = fs.open_read(path)
    try:
        hints, entries_there, properties = _hints(fs, path, number)
        walk = _Walk(path, salt, KINDS_COUNTED if counted else KINDS_UNCOUNTED, start, stop)
        for frame in walk_frames(file, salt, hints):
            walk.take(frame)
        properties = properties or walk.properties
        if properties is not None:
            walk.stop = properties.ceiling if stop is None else stop
        entries_there = walk.entries if entries_there is None else entries_there
        walk.finish(file.size())
    finally:
        file.close()
    # Where every entry is there, only indexes were damaged, between blocks.
    is_whole = entries_there == sum(block.entries for block in walk.blocks)
    return Salvage(number, path, salt, properties, walk.blocks, [] if is_whole else walk.holes, entries_there)


def _hints(fs: FileSystem, path: str, number: int) -> tuple[list[int], int | None, fmt.Properties | None]:
    """Return where the indexes of a segment say that frames begin, if they can be read."""
    hints: list[int] = []
    if os.path.basename(path) != segment_name(number):
        return hints, None, None
    try:
        segment = open_uncached(fs, os.path.dirname(path), number)
    except FormatVersionError:
        raise
    except (CorruptionError, OSError, ArithmeticError, LookupError, ValueError):
        return hints, None, None
    for p in range(len(segment.part_floors)):
        with contextlib.suppress(CorruptionError, OSError, LookupError, ValueError):
            hints += segment.part(p).offsets
        hints.append(segment.top.offsets[p])
        hints.append(segment.top.offsets[p] + segment.top.sizes[p])
    return sorted(set(hints)), segment.properties.entries, segment.properties


class _Walk:
    """Sorts the frames of a segment into what can be kept and holes."""

    def __init__(self, path: str, salt: int, kinds: bytes, start: bytes, stop: bytes | None) -> None:
        self.blocks: list[GoodBlock] = []
        self.holes: list[Hole] = []
        self.properties: fmt.Properties | None = None
        self.entries: int | None = None
        """How many there should be, if an index or the properties say it."""
        self.stop = stop
        self._path = path
        self._salt = salt
        self._kinds = kinds
        self._end = fmt.HEADER.size
        self._floor = start
        self._hole_at: int | None = None

    def take(self, frame: FoundFrame) -> None:
        """Take the next sound frame."""
        if frame.offset > self._end and self._hole_at is None:
            self._hole_at = self._end
        self._end = frame.end
        if frame.what == fmt.DATA:
            self._take_block(frame)
        elif frame.what != fmt.PART:
            with contextlib.suppress(CorruptionError):
                self._take_summary(frame)

    def _take_block(self, frame: FoundFrame) -> None:
        keys = _sound_keys(self._path, self._salt, frame, self._kinds)
        if not keys or keys[0] < self._floor:
            if self._hole_at is None:
                self._hole_at = frame.offset
            return
        if self._hole_at is not None:
            self._close_hole(keys[0], frame.offset)
        self.blocks.append(GoodBlock(frame.offset, len(frame.data), len(keys)))
        self._floor = keys[-1] + b"\0"

    def _take_summary(self, frame: FoundFrame) -> None:
        payload = fmt.decode_frame(self._path, self._salt, frame.offset, frame.data, frame.what)
        if frame.what == fmt.TOP:
            self.entries = fmt.decode_index(self._path, frame.offset, payload).entries[-1]
        else:
            self.properties = fmt.Properties.decode(self._path, frame.offset, payload)
            self.entries = self.properties.entries

    def _close_hole(self, stop: bytes | None, end: int) -> None:
        assert self._hole_at is not None
        # A damaged index part loses nothing: no key lies between its neighbours then, or it cannot be told.
        if stop is None or self._floor < stop:
            self.holes.append(Hole(self._floor, stop, self._hole_at, end - self._hole_at))
        self._hole_at = None

    def finish(self, size_bytes: int) -> None:
        """End the walk; what was not reached is lost, unless it is only indexes."""
        if self._hole_at is None and self.properties is None:
            # It is not known where the blocks end.
            self._hole_at = self._end
        if self._hole_at is not None:
            self._close_hole(self.stop, size_bytes)


def _sound_keys(path: str, salt: int, frame: FoundFrame, kinds: bytes) -> list[bytes]:
    """Return the keys of a block, or none if it is no block that could have been written."""
    try:
        payload = fmt.decode_frame(path, salt, frame.offset, frame.data, fmt.DATA)
        block = Block(path, frame.offset, payload)
        keys = block.keys()
        block.values()
    except (CorruptionError, LookupError, ValueError, OverflowError):
        return []
    if not keys or block.kinds.translate(None, kinds) or not all(map(lt, keys, keys[1:])):
        return []
    return keys


def rewrite(
    fs: FileSystem,
    salvage: Salvage,
    directory: str,
    number: int,
    *,
    database_salt: int,
    counted: bool,
    start: bytes,
    stop: bytes | None,
    level: int,
    run: int,
    ages: tuple[int, int],
    discards_applied: int,
) -> None:
    """Write a segment of the blocks that are left, of which there is at least one. Errors: OSError."""
    bits = FILTER_BITS_PER_KEY
    if salvage.properties is not None:
        bits = salvage.properties.filter_bits_per_key
    writer = SegmentWriter(
        fs,
        directory,
        number,
        start=start,
        block_size_bytes=BLOCK_SIZE_BYTES,
        compress=True,
        filter_bits_per_key=bits,
        database_salt=database_salt,
    )
    file = fs.open_read(salvage.path)
    try:
        for good in salvage.blocks:
            frame = file.pread(good.size_bytes, good.offset)
            payload = fmt.decode_frame(salvage.path, salvage.salt, good.offset, frame, fmt.DATA)
            _copy(writer, Block(salvage.path, good.offset, payload), frame, bits)
        writer.finish(
            stop=stop,
            level=level,
            run=run,
            age_first=ages[0],
            age_last=ages[1],
            discards_applied=discards_applied,
            counted=counted,
        )
    except BaseException:
        writer.abort()
        raise
    finally:
        file.close()


def _copy(writer: SegmentWriter, block: Block, frame: bytes, bits: int) -> None:
    keys, kinds = block.keys(), block.kinds
    removed = kinds.count(REMOVE)
    tombstones = removed + kinds.count(DELETE)
    if tombstones and any(v for kind, v in zip(kinds, block.values()) if kind in (REMOVE, DELETE)):
        values = [b"" if kind in (REMOVE, DELETE) else v for kind, v in zip(kinds, block.values())]
        writer.add(keys, values, kinds)
        return
    counts = (block.count, tombstones, kinds.count(INSERT) - removed)
    bloom = build_filter(keys, len(keys), bits)
    writer.add_block(keys[0], keys[-1], frame, counts, block.column_sizes(), bloom)

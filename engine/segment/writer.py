"""Building a segment file from sorted entries.

`SegmentWriter` takes entries a chunk at a time (three parallel columns), cuts them into blocks and writes
frames in order; nothing is ever rewritten, so memory stays at one index part. Blocks taken over from another
segment go in undecoded (`add_block`). An entry too large for a block gets a block of its own, so that no
small neighbour pays for it.
"""

from __future__ import annotations

import contextlib
import os
import time
from bisect import bisect_left
from collections.abc import Callable
from itertools import accumulate
from operator import add

from lamina.engine.checksum import file_salt
from lamina.engine.entry import DELETE, INSERT, REMOVE
from lamina.engine.errors import EngineError
from lamina.engine.filenames import segment_name, temporary_name
from lamina.engine.filesystem import FileSystem, write_all
from lamina.engine.segment import format as fmt
from lamina.engine.segment.block import encode_block
from lamina.engine.segment.filter import build_filter

_WRITE_SIZE_BYTES = 256 * 1024
_CHUNK_BLOCKS = 16
"""Entries are gathered until they fill this many blocks: cutting costs Python steps once per call, not per
entry."""


class _IndexRows:
    """The rows of an index that is being gathered."""

    __slots__ = (
        "deltas",
        "entries",
        "filters",
        "floors",
        "floors_size_bytes",
        "offsets",
        "sizes",
        "tombstones",
    )

    def __init__(self) -> None:
        self.floors: list[bytes] = []
        self.offsets: list[int] = []
        self.sizes: list[int] = []
        self.entries: list[int] = []
        self.tombstones: list[int] = []
        self.deltas: list[int] = []
        self.filters: list[bytes] = []
        self.floors_size_bytes = 0

    def append(
        self, floor: bytes, frame: fmt.Frame, entries: int, tombstones: int, delta: int, block_filter: bytes
    ) -> None:
        self.floors.append(floor)
        self.offsets.append(frame.offset)
        self.sizes.append(frame.size_bytes)
        self.entries.append(entries)
        self.tombstones.append(tombstones)
        self.deltas.append(delta)
        self.filters.append(block_filter)
        self.floors_size_bytes += len(floor)

    def encode(self) -> bytes:
        return fmt.encode_index(
            self.floors, self.offsets, self.sizes, self.entries, self.tombstones, self.deltas, self.filters
        )


class SegmentWriter:
    """Writes one segment under a temporary name and gives it its real name in `finish`.

    Entries come in strictly ascending key order. `start` is the inclusive lower bound of the keys the segment
    will answer for; its upper bound is given to `finish`. One thread.
    """

    def __init__(
        self,
        fs: FileSystem,
        directory: str,
        number: int,
        *,
        start: bytes,
        block_size_bytes: int,
        compress: bool,
        filter_bits_per_key: int,
        throttle: Callable[[int], None] | None = None,
        database_salt: int = 0,
    ) -> None:
        self.number = number
        self.start = start
        self._fs = fs
        self._directory = directory
        self._path = os.path.join(directory, segment_name(number))
        self._block_size_bytes = block_size_bytes
        self._compress = compress
        self._filter_bits_per_key = filter_bits_per_key
        self._throttle = throttle
        self._salt = file_salt(database_salt, number)
        self._file = fs.create(temporary_name(self._path))
        self._buffer: list[bytes] = []
        self._buffer_size_bytes = 0
        self._offset = 0
        self._append(fmt.encode_header(self._salt))
        # Entries not cut into blocks yet.
        self._keys: list[bytes] = []
        self._values: list[bytes] = []
        self._kinds: list[bytes] = []
        self._pending_size_bytes = 0
        # Index of the blocks written since the last part, and of the parts.
        self._part = _IndexRows()
        self._top = _IndexRows()
        self._last_key: bytes | None = None
        self.entries = 0
        self._tombstones = 0
        self._delta = 0
        self._key_bytes = 0
        self._value_bytes = 0
        self._blocks = 0

    @property
    def size_bytes(self) -> int:
        """What has been written so far, entries not yet cut into blocks counted raw."""
        return self._offset + self._pending_size_bytes

    @property
    def is_empty(self) -> bool:
        """Whether no entry has been added."""
        return self.entries == 0 and not self._keys

    def add(self, keys: list[bytes], values: list[bytes], kinds: bytes) -> None:
        """Append entries. Shape: three parallel columns; ``b""`` stands for a tombstone's value."""
        self._keys += keys
        self._values += values
        self._kinds.append(kinds)
        self._pending_size_bytes += sum(map(len, keys)) + sum(map(len, values))
        if self._pending_size_bytes >= self._block_size_bytes * _CHUNK_BLOCKS:
            self._cut(final=False)

    def add_block(
        self,
        first: bytes,
        last: bytes,
        frame: bytes,
        counts: tuple[int, int, int],
        sizes: tuple[int, int],
        bloom: bytes,
    ) -> None:
        """Append a whole block of another segment as it is, without decoding it.

        `frame` is its verified frame, `counts` its (entries, tombstones, delta), `sizes` its (key, value)
        bytes. `first` bounds its keys from below, exactly or by a floor, and `last` from above.
        """
        self._cut(final=True)
        floor = self._floor(first)
        place = fmt.Frame(self._offset, len(frame))
        self._append(fmt.reseat_frame(frame, self._salt, self._offset))
        self._account(floor, place, counts, sizes, bloom)
        self._last_key = last

    def finish(
        self,
        *,
        stop: bytes | None,
        level: int,
        run: int,
        age_first: int,
        age_last: int,
        discards_applied: int,
        counted: bool,
    ) -> tuple[fmt.Properties, int]:
        """Write what is left, sync, and give the file its name (the caller syncs the directory).

        Returns the properties and the size of the file in bytes. Errors: OSError; the temporary file is then
        left to `abort` or to the next sweep.
        """
        self._cut(final=True)
        if not self.entries:
            raise EngineError("a segment without entries has no use")
        self._close_part()
        assert self._last_key is not None
        ceiling = fmt.upper_bound(self._last_key)
        if ceiling is None or (stop is not None and stop < ceiling):
            ceiling = stop
        top = self._frame(fmt.TOP, self._top.encode())
        properties = fmt.Properties(
            number=self.number,
            level=level,
            run=run,
            age_first=age_first,
            age_last=age_last,
            start=self.start,
            stop=stop,
            ceiling=ceiling,
            entries=self.entries,
            tombstones=self._tombstones,
            delta=self._delta,
            key_bytes=self._key_bytes,
            value_bytes=self._value_bytes,
            blocks=self._blocks,
            discards_applied=discards_applied,
            filter_bits_per_key=self._filter_bits_per_key,
            counted=counted,
            created_s=int(time.time()),
        )
        place = self._frame(fmt.PROPERTIES, properties.encode())
        self._append(fmt.encode_footer(top, place, self._salt))
        self._write_out()
        self._file.sync()
        self._file.close()
        self._fs.replace(temporary_name(self._path), self._path)
        return properties, self._offset

    def abort(self) -> None:
        """Remove the unfinished file. Raises nothing: it is what broke the work off that matters, and what
        cannot be removed now is swept when the database is opened."""
        self._file.close()
        with contextlib.suppress(OSError):
            self._fs.remove(temporary_name(self._path))

    def _cut(self, *, final: bool) -> None:
        """Cut the pending entries into blocks; all of them if `final`, else only those that fill a block."""
        keys = self._keys
        if not keys:
            return
        values = self._values
        kinds = b"".join(self._kinds)
        sizes = list(map(add, map(len, keys), map(len, values)))
        ends = list(accumulate(sizes))
        limit = self._block_size_bytes
        huge = [i for i, size in enumerate(sizes) if size >= limit] if max(sizes) >= limit else []
        count = len(keys)
        start = base = 0
        next_huge = 0
        while start < count:
            stop = min(bisect_left(ends, base + limit, start) + 1, count)
            if next_huge < len(huge) and huge[next_huge] < stop:
                if huge[next_huge] == start:
                    stop = start + 1
                    next_huge += 1
                else:
                    stop = huge[next_huge]
            elif ends[stop - 1] - base < limit and not final:
                break
            self._write_block(keys[start:stop], values[start:stop], kinds[start:stop])
            start = stop
            base = ends[stop - 1]
        self._keys = keys[start:]
        self._values = values[start:]
        self._kinds = [kinds[start:]]
        self._pending_size_bytes = ends[-1] - base

    def _write_block(self, keys: list[bytes], values: list[bytes], kinds: bytes) -> None:
        count = len(keys)
        floor = self._floor(keys[0])
        place = self._frame(fmt.DATA, encode_block(keys, values, kinds))
        removed = kinds.count(REMOVE)
        counts = (count, removed + kinds.count(DELETE), kinds.count(INSERT) - removed)
        sizes = (sum(map(len, keys)), sum(map(len, values)))
        self._account(floor, place, counts, sizes, build_filter(keys, count, self._filter_bits_per_key))
        self._last_key = keys[-1]

    def _floor(self, first: bytes) -> bytes:
        """Return the floor of the next block, closing the part first where that is due and possible."""
        last = self._last_key
        if last is None:
            return max(self.start, first[: fmt.FLOOR_SIZE_MAX - 1])
        floor = fmt.separator(last, first)
        part = self._part
        full = len(part.floors) >= fmt.PART_BLOCKS_MAX or part.floors_size_bytes >= fmt.PART_FLOORS_SIZE_MAX
        # Parts are only divided at exact floors, so that a key belongs to one part without doubt.
        if full and fmt.is_exact(floor):
            self._close_part()
        return floor

    def _account(
        self,
        floor: bytes,
        place: fmt.Frame,
        counts: tuple[int, int, int],
        sizes: tuple[int, int],
        block_filter: bytes,
    ) -> None:
        self._part.append(floor, place, *counts, block_filter)
        self.entries += counts[0]
        self._tombstones += counts[1]
        self._delta += counts[2]
        self._key_bytes += sizes[0]
        self._value_bytes += sizes[1]
        self._blocks += 1

    def _close_part(self) -> None:
        part = self._part
        if not part.floors:
            return
        place = self._frame(fmt.PART, part.encode())
        self._top.append(
            part.floors[0], place, sum(part.entries), sum(part.tombstones), sum(part.deltas), b""
        )
        self._part = _IndexRows()

    def _frame(self, tag: int, payload: bytes) -> fmt.Frame:
        offset = self._offset
        frame = fmt.encode_frame(self._salt, offset, tag, payload, compress=self._compress)
        self._append(frame)
        return fmt.Frame(offset, len(frame))

    def _append(self, data: bytes) -> None:
        self._buffer.append(data)
        self._buffer_size_bytes += len(data)
        self._offset += len(data)
        if self._buffer_size_bytes >= _WRITE_SIZE_BYTES:
            self._write_out()

    def _write_out(self) -> None:
        data = b"".join(self._buffer)
        self._buffer.clear()
        self._buffer_size_bytes = 0
        if self._throttle is not None:
            self._throttle(len(data))
        write_all(self._file, data)

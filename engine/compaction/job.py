"""Flushes and merges as jobs: plain descriptions that can cross a process boundary, and what carries them
out.

A job is done in steps, each of which writes one or more whole segments; the caller installs a step's result
before the next begins to matter, so a job may be broken off anywhere. Nothing here knows of levels, locks or
the manifest.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from lamina.engine.cache import Cache
from lamina.engine.compaction.layout import AgedRange
from lamina.engine.compaction.merge import (
    Columns,
    CopiedBlock,
    Cursor,
    merge,
    without_discarded,
    without_tombstones,
)
from lamina.engine.discards import DiscardedRange, Discards
from lamina.engine.entry import REMOVE
from lamina.engine.errors import CorruptionError, EngineError
from lamina.engine.filenames import wal_name
from lamina.engine.filesystem import FileSystem, read_file
from lamina.engine.memtable import Memtable
from lamina.engine.run import Slice
from lamina.engine.segment import format as fmt
from lamina.engine.segment.reader import OpenFiles, SegmentReader
from lamina.engine.segment.writer import SegmentWriter
from lamina.engine.wal import Damage, read_wal


class Output(NamedTuple):
    """How new segments are written, and the numbers they may take."""

    directory: str
    block_size_bytes: int
    segment_size_bytes: int
    compress: bool
    filter_bits_per_key: int
    counted: bool
    level: int
    run: int
    age_first: int
    age_last: int
    first_number: int
    numbers_end: int
    rate_limit_bytes_per_s: int
    database_salt: int


class SliceRef(NamedTuple):
    """A slice by the number of its segment."""

    number: int
    start: bytes
    stop: bytes | None


class FlushJob(NamedTuple):
    """Write the entries of these logs into segments of level 0."""

    wals: list[int]
    is_last: bool
    discards: list[DiscardedRange]
    output: Output


class MergeJob(NamedTuple):
    """Merge `inputs` (newest first) over each of `ranges` in turn."""

    inputs: list[list[SliceRef]]
    ranges: list[AgedRange]
    is_last: bool
    discards: list[DiscardedRange]
    output: Output


class RewriteJob(NamedTuple):
    """Write what a closed database holds in each of `ranges` into segments of another directory, that of
    `output`. rewriting.py carries it out."""

    source: str
    ranges: list[AgedRange]
    output: Output


class SortJob(NamedTuple):
    """Sort the entries in `path`, which are in no order, and write them as a run.

    sorting.py carries it out."""

    path: str
    output: Output


class Step(NamedTuple):
    """A finished piece of a job: the inputs' keys in ``start <= key < stop`` are now in `segments` (perhaps
    none)."""

    start: bytes
    stop: bytes | None
    segments: list[int]
    written_bytes: int


Throttle = Callable[[int], None]
Checkpoint = Callable[[], None]


class RateLimiter:
    """Spreads writes over time: sleeps so that no more than `bytes_per_s` are written on average."""

    def __init__(self, bytes_per_s: int, wait: Callable[[float], object] = time.sleep) -> None:
        self._bytes_per_s = bytes_per_s
        self._wait = wait
        self._due_s = time.monotonic()

    def __call__(self, size_bytes: int) -> None:
        now_s = time.monotonic()
        self._due_s = max(self._due_s, now_s - 0.1) + size_bytes / self._bytes_per_s
        if self._due_s > now_s:
            self._wait(self._due_s - now_s)


def run_flush(fs: FileSystem, job: FlushJob, memtable: Memtable | None = None) -> Step:
    """Write a memtable into segments: the one given, or what the job's logs hold.

    Errors: OSError; CorruptionError where a log no longer reads as it was written.
    """
    if memtable is None:
        memtable = load_memtable(fs, job.output.directory, job.wals, counted=job.output.counted)
    columns = Columns(*memtable.columns())
    discards = Discards(job.discards)
    if columns.keys:
        columns = without_discarded(columns, discards)
    if job.is_last and not job.output.counted:
        columns = without_tombstones(columns)
    keys, values, kinds = columns
    if job.is_last and job.output.counted and REMOVE in kinds:
        raise EngineError("a memtable removes keys although nothing lies below it")
    written: list[int] = []
    builder = Builder(fs, job.output, b"", None, discards.last_number, None)
    try:
        step = 4096
        for at in range(0, len(keys), step):
            builder.add(keys[at : at + step], values[at : at + step], kinds[at : at + step])
        builder.finish(None)
        written = builder.numbers
    except BaseException:
        builder.abort()
        raise
    if written:
        fs.sync_directory(job.output.directory)
    return Step(b"", None, written, builder.written_bytes)


def load_memtable(fs: FileSystem, directory: str, wals: list[int], *, counted: bool) -> Memtable:
    """Return the memtable that sealed logs hold. Errors: CorruptionError if one is not whole."""
    memtable = Memtable(counted=counted, lock=threading.Lock())
    for number in wals:
        path = f"{directory}/{wal_name(number)}"
        contents = read_wal(path, read_file(fs, path))
        damage = contents if isinstance(contents, Damage) else contents.damage
        if damage is not None or isinstance(contents, Damage):
            raise CorruptionError(path, damage.offset if damage else 0, damage.what if damage else "log")
        memtable.replay(contents.payloads)
    return memtable


def run_merge(
    fs: FileSystem, job: MergeJob, checkpoint: Checkpoint, wait: Callable[[float], object]
) -> Iterator[Step]:
    """Carry out a merge; each finished segment is a step.

    `checkpoint` is called often (every few milliseconds): what it raises breaks the job off. Errors: OSError,
    CorruptionError; unfinished files are removed.
    """
    out = job.output
    cache = Cache(0)
    files = OpenFiles(1 << 20)
    numbers = {ref.number for refs in job.inputs for ref in refs}
    readers = {
        number: SegmentReader(
            fs, out.directory, number, cache=cache, files=files, database_salt=out.database_salt
        )
        for number in sorted(numbers)
    }
    inputs = [[_restore(readers[ref.number], ref) for ref in refs] for refs in job.inputs]
    discards = Discards(job.discards)
    throttle = RateLimiter(out.rate_limit_bytes_per_s, wait) if out.rate_limit_bytes_per_s else None
    builder: Builder | None = None
    number = out.first_number
    try:
        for start, stop, age_first, age_last in job.ranges:
            output = out._replace(first_number=number, age_first=age_first, age_last=age_last)
            builder = Builder(fs, output, start, stop, discards.last_number, throttle)
            cursors = [Cursor(slices, start, stop, discards) for slices in inputs]
            for piece in merge(
                cursors,
                counted=out.counted,
                is_last=job.is_last,
                filter_bits_per_key=out.filter_bits_per_key,
                path=out.directory,
            ):
                checkpoint()
                if isinstance(piece, CopiedBlock):
                    step = builder.add_block(piece)
                else:
                    step = builder.add(piece.keys, piece.values, piece.kinds)
                if step is not None:
                    yield step
            step = builder.finish(stop)
            number = builder.next_number
            yield step
    except BaseException:
        if builder is not None:
            builder.abort()
        raise


def _restore(reader: SegmentReader, ref: SliceRef) -> Slice:
    # Only the bounds matter to a merge; counts are the caller's business.
    return Slice(reader, ref.start, ref.stop, entries=1, base=0, delta=0, size_bytes=1)


class Builder:
    """Writes entries into as many segments as they need; each finished one makes a `Step`."""

    def __init__(
        self,
        fs: FileSystem,
        output: Output,
        start: bytes,
        stop: bytes | None,
        discards_applied: int,
        throttle: Throttle | None,
    ) -> None:
        self._fs = fs
        self._output = output
        self._start = start
        self._stop = stop
        self._discards_applied = discards_applied
        self._throttle = throttle
        self._writer: SegmentWriter | None = None
        self._last_key = b""
        self.next_number = output.first_number
        self.numbers: list[int] = []
        self.written_bytes = 0

    def add(self, keys: list[bytes], values: list[bytes], kinds: bytes) -> Step | None:
        """Append entries; returns a step when that finished a segment."""
        step = self._roll(keys[0])
        self._open().add(keys, values, kinds)
        self._last_key = keys[-1]
        return step

    def add_block(self, block: CopiedBlock) -> Step | None:
        """Append a block undecoded; returns a step when that finished a segment."""
        step = self._roll(block.first)
        self._open().add_block(
            block.first, block.last, block.frame, block.counts, block.sizes, block.block_filter
        )
        self._last_key = block.last
        return step

    def finish(self, stop: bytes | None) -> Step:
        """End the last segment; the step reaches up to `stop`, whether or not there was anything left to
        write."""
        return self._close(stop)

    def abort(self) -> None:
        """Remove the unfinished file."""
        if self._writer is not None:
            self._writer.abort()
            self._writer = None

    def _roll(self, first: bytes) -> Step | None:
        """Finish the segment if it is full and the next key can be told from its last by a short floor."""
        writer = self._writer
        if writer is None or writer.size_bytes < self._output.segment_size_bytes:
            return None
        floor = fmt.separator(self._last_key, first)
        return self._close(floor) if fmt.is_exact(floor) else None

    def _open(self) -> SegmentWriter:
        writer = self._writer
        if writer is None:
            out = self._output
            if self.next_number >= out.numbers_end:
                raise EngineError("a job needs more segments than it was given numbers")
            writer = self._writer = SegmentWriter(
                self._fs,
                out.directory,
                self.next_number,
                start=self._start,
                block_size_bytes=out.block_size_bytes,
                compress=out.compress,
                filter_bits_per_key=out.filter_bits_per_key,
                throttle=self._throttle,
                database_salt=out.database_salt,
            )
            self.next_number += 1
        return writer

    def _close(self, stop: bytes | None) -> Step:
        writer, self._writer = self._writer, None
        start, self._start = self._start, stop if stop is not None else b""
        segments: list[int] = []
        size_bytes = 0
        if writer is not None:
            out = self._output
            try:
                _, size_bytes = writer.finish(
                    stop=stop,
                    level=out.level,
                    run=out.run,
                    age_first=out.age_first,
                    age_last=out.age_last,
                    discards_applied=self._discards_applied,
                    counted=out.counted,
                )
            except BaseException:
                self._writer = writer
                raise
            segments.append(writer.number)
            self.numbers.append(writer.number)
            self.written_bytes += size_bytes
        return Step(start, stop, segments, size_bytes)


# -- crossing a process boundary ------------------------------------------------------------


def to_json(job: FlushJob | MergeJob | RewriteJob | SortJob) -> dict[str, Any]:
    """Return a job as JSON-able data; keys become hexadecimal."""
    if isinstance(job, SortJob):
        return {"sorted": job.path, "output": list(job.output)}
    if isinstance(job, RewriteJob):
        return {
            "source": job.source,
            "ranges": [_range_to_json(item) for item in job.ranges],
            "output": list(job.output),
        }
    record: dict[str, Any] = {
        "is_last": job.is_last,
        "discards": [[item.start.hex(), item.stop.hex(), item.number] for item in job.discards],
        "output": list(job.output),
    }
    if isinstance(job, FlushJob):
        return record | {"wals": job.wals}
    return record | {
        "inputs": [[[r.number, r.start.hex(), _hex(r.stop)] for r in refs] for refs in job.inputs],
        "ranges": [_range_to_json(item) for item in job.ranges],
    }


def from_json(record: dict[str, Any]) -> FlushJob | MergeJob | RewriteJob | SortJob:
    """Inverse of `to_json`."""
    output = Output(*record["output"])
    if "sorted" in record:
        return SortJob(record["sorted"], output)
    if "source" in record:
        return RewriteJob(record["source"], [_range_from_json(item) for item in record["ranges"]], output)
    discards = [DiscardedRange(bytes.fromhex(a), bytes.fromhex(b), n) for a, b, n in record["discards"]]
    if "wals" in record:
        return FlushJob(record["wals"], record["is_last"], discards, output)
    inputs = [[SliceRef(n, bytes.fromhex(a), _unhex(b)) for n, a, b in refs] for refs in record["inputs"]]
    ranges = [_range_from_json(item) for item in record["ranges"]]
    return MergeJob(inputs, ranges, record["is_last"], discards, output)


def _range_to_json(item: AgedRange) -> list[Any]:
    return [item.start.hex(), _hex(item.stop), item.age_first, item.age_last]


def _range_from_json(record: list[Any]) -> AgedRange:
    start, stop, *ages = record
    return AgedRange(bytes.fromhex(start), _unhex(stop), *ages)


def step_to_json(step: Step) -> dict[str, Any]:
    """Return a step as JSON-able data."""
    return step._asdict() | {"start": step.start.hex(), "stop": _hex(step.stop)}


def step_from_json(record: dict[str, Any]) -> Step:
    """Inverse of `step_to_json`."""
    fields = {name: record[name] for name in Step._fields}
    return Step(**fields | {"start": bytes.fromhex(record["start"]), "stop": _unhex(record["stop"])})


def _hex(key: bytes | None) -> str | None:
    return None if key is None else key.hex()


def _unhex(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)

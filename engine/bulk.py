"""Loading without a log: a new database from entries in no order.

    with BulkLoader("data", workers=2) as loader:
        loader.add(keys, values)                  # parallel columns, as often as there is something
        loaded = loader.finish()

    add       piles of an eighth of `memory`, each handed to a worker process (sorting.py), which makes a
              sorted run of segments of it: one run for each pile, all overlapping, named by no manifest
    finish    all runs are merged into one, by the jobs of a compaction, range by range on all workers; then a
              manifest that names the result replaces that of the empty database

Until then the database is there and empty, and whoever dies leaves it so: the next opening sweeps what is
left of piles and runs. After it the database is complete. Nothing is written to a log.

A key may occur once in a counted database: every entry is an INSERT, so a pile finds two in itself, and the
merge two in different piles, by the rule that combines entries; both end in DuplicateKeyError and an empty
database. In an uncounted one the entry that was added last counts.

Only an empty database is loaded into: beside what one holds, an entry would not be an INSERT without a look.

Space: that of the runs and of the result; a pile goes when it is sorted, the runs at the end. One thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, NamedTuple

from lamina.engine.compaction.job import MergeJob, Output, SliceRef, SortJob
from lamina.engine.compaction.layout import AgedRange, divided
from lamina.engine.database import Database
from lamina.engine.entry import KEY_SIZE_MAX, VALUE_SIZE_MAX
from lamina.engine.errors import ClosedError, ContradictionError, DuplicateKeyError, EngineError
from lamina.engine.filenames import LOCK, is_temporary, parse_name, segment_name, temporary_name, wal_name
from lamina.engine.filesystem import DiskFileSystem, FileSystem
from lamina.engine.levels import Levels
from lamina.engine.manifest import Manifest, write_manifest
from lamina.engine.opening import open_files
from lamina.engine.options import Options
from lamina.engine.planning import share_size_bytes
from lamina.engine.pool import WorkerPool
from lamina.engine.run import Run, Slice
from lamina.engine.segment.check import open_uncached
from lamina.engine.segment.reader import SegmentReader
from lamina.engine.sorting import write_pile
from lamina.engine.version import levels_to_records
from lamina.engine.wal import WalWriter
from lamina.engine.workers import InlineWorker, Job, Reply, Worker

ENTRY_OVERHEAD_BYTES: Final = 120
"""Memory of an entry in a pile beside its bytes: two objects and their places in lists."""

_LEVEL: Final = 1
_PILE_SHARE: Final = 8
"""A pile takes this part of `memory`, and as much again where it is sorted. Larger ones are no faster:
workers have longer to wait for the first, and everybody for the last."""
_RUNS_MAX: Final = 256
"""Runs that are merged at once: each has some blocks in memory."""
_SEGMENT_OVERHEAD_BYTES: Final = 32
_POLL_S: Final = 0.2

Progress = Callable[[int], None]


class Loaded(NamedTuple):
    """What has been loaded."""

    entries: int
    segments: int
    size_bytes: int


class BulkLoader:
    """Loads entries into a database that is new or empty. A context manager: left without `finish`, the
    database stays empty.

    `options` are those of `lamina.engine.open`, of which counted, memory, workers, block, segment and filter
    size, compression and the rate limit matter; with another `background` than "process" the work is done
    inline. `on_merged` is told of bytes as the merge writes them.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        fs: FileSystem | None = None,
        on_merged: Progress = lambda size_bytes: None,
        **options: Any,
    ) -> None:
        """Errors: FileExistsError if the database is not empty; as `lamina.engine.open` otherwise."""
        self.path = os.path.abspath(os.fsdecode(path))
        self._options = Options(**options)
        self._fs = fs = fs or DiskFileSystem()
        self._on_merged = on_merged
        Database(self.path, self._options, fs).close()
        self._lock = fs.lock(os.path.join(self.path, LOCK))
        try:
            self._manifest, self._next_number = self._empty_manifest()
        except BaseException:
            self._lock.release()
            raise
        self._age = self._manifest.wal_first
        self._replies: queue.SimpleQueue[Reply] = queue.SimpleQueue()
        self._worker: Worker
        if self._options.background == "process":
            self._worker = WorkerPool(self._replies.put, self._options.workers)
        else:
            self._worker = InlineWorker(fs, self._replies.put)
        self._is_open = True
        self._is_installing = False
        self._keys: list[bytes] = []
        self._values: list[bytes] = []
        self._pile_bytes = 0
        self._pile_bytes_max = max(self._options.memory // _PILE_SHARE, 1)
        self._sorting: dict[int, str] = {}
        """Piles that are being sorted, by the number of the job, which is that of the run."""
        self._runs: dict[int, list[int]] = {}
        """Segments by the number of the run. Later runs have larger numbers."""
        self.entries = 0
        """Entries added."""

    def _empty_manifest(self) -> tuple[Manifest, int]:
        """Return the manifest, and the first free number. Errors: FileExistsError if there is anything."""

        def open_segment(number: int, size_bytes: int, database_salt: int) -> SegmentReader:
            return open_uncached(self._fs, self.path, number, size_bytes)

        options = Options(read_only=True)
        opened = open_files(self._fs, self.path, options, open_segment, threading.Lock())
        if opened.levels.runs or opened.manifest.discards or any(map(len, opened.replay.memtables)):
            raise FileExistsError(
                errno.EEXIST, "the database is not empty, and only an empty one is loaded into", self.path
            )
        return opened.manifest, opened.next_number

    def __enter__(self) -> BulkLoader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    # -- adding ------------------------------------------------------------------------------------

    def add(self, keys: list[bytes], values: list[bytes]) -> None:
        """Add entries, in no order. Cost: 0.1 µs each, and 0.3 when a pile is full; waits for workers.

        Errors: ValueError and TypeError for what no entry can be; DuplicateKeyError, OSError, EngineError,
        also of what was added before: then nothing more can be done but `abort`.
        """
        if not self._is_open:
            raise ClosedError(f"{self.path}: the loader has finished or was given up")
        if len(keys) != len(values):
            raise ValueError(f"{len(keys)} keys and {len(values)} values")
        if not keys:
            return
        size_bytes = sum(map(len, keys)) + sum(map(len, values))
        if max(map(len, keys)) > KEY_SIZE_MAX or max(map(len, values)) > VALUE_SIZE_MAX:
            raise ValueError(f"keys and values have {KEY_SIZE_MAX} bytes at most")
        self._keys += keys
        self._values += values
        self.entries += len(keys)
        self._pile_bytes += size_bytes + len(keys) * ENTRY_OVERHEAD_BYTES
        if self._pile_bytes >= self._pile_bytes_max:
            self._hand_over()

    def _hand_over(self) -> None:
        """Have the pile sorted."""
        keys, values = self._keys, self._values
        self._keys, self._values = [], []
        raw_bytes, self._pile_bytes = self._pile_bytes, 0
        while len(self._sorting) > self._options.workers:  # one for each worker, and one that waits
            self._take_reply()
        output = self._output(raw_bytes, 1)
        path = os.path.join(self.path, temporary_name(wal_name(output.run)))
        write_pile(self._fs, path, keys, values)
        self._sorting[output.run] = path
        self._runs[output.run] = []
        self._submit(output.run, SortJob(path, output))
        while not self._replies.empty():
            self._take_reply()

    def _output(self, raw_bytes: int, ranges: int) -> Output:
        """Return how a job of so many bytes writes, under new numbers."""
        options = self._options
        # Twice what the data needs: numbers cost nothing.
        segments = ranges * (2 * (raw_bytes // options.segment_size_bytes + 1) + 8)
        run = self._next_number
        self._next_number = run + 1 + segments
        return Output(
            directory=self.path,
            block_size_bytes=options.block_size_bytes,
            segment_size_bytes=options.segment_size_bytes,
            compress=options.compression == "lz4",
            filter_bits_per_key=options.filter_bits_per_key,
            counted=self._manifest.counted,
            level=_LEVEL,
            run=run,
            age_first=self._age,
            age_last=self._age,
            first_number=run + 1,
            numbers_end=run + 1 + segments,
            rate_limit_bytes_per_s=options.rate_limit_bytes_per_s,
            database_salt=self._manifest.salt,
        )

    def _submit(self, job_id: int, job: Job) -> None:
        self._worker.submit(job_id, job, None)

    def _take_reply(self) -> Reply:
        """Wait for a reply and note what it says. Errors: what a job has failed with."""
        while True:
            try:
                reply = self._replies.get(timeout=_POLL_S)
                break
            except queue.Empty:
                self._on_merged(0)
        if isinstance(reply.error, ContradictionError):
            raise DuplicateKeyError(reply.error.key) from None
        if reply.error is not None:
            raise reply.error
        if reply.step is not None:
            self._runs[reply.job_id] += reply.step.segments
            if reply.job_id not in self._sorting:
                self._on_merged(reply.step.written_bytes)
        elif reply.job_id in self._sorting:
            self._fs.remove(self._sorting.pop(reply.job_id))
        return reply

    # -- the end -----------------------------------------------------------------------------------

    @property
    def merged_bytes(self) -> int:
        """About how much the merge has to write: 0 if there is one run. Right when all piles are sorted."""
        return self._size_of(self._runs) if len(self._runs) > 1 else 0

    def sort_rest(self) -> None:
        """Sort what is left, so that only the merge is to be done. Errors: as `add`."""
        if self._keys:
            self._hand_over()
        while self._sorting:
            self._take_reply()

    def finish(self) -> Loaded:
        """Make the database of all that was added. Errors: as `add`; then it is empty, or, after an OSError
        while the manifest was replaced, complete."""
        if not self._is_open:
            raise ClosedError(f"{self.path}: the loader has finished or was given up")
        try:
            self.sort_rest()
            while len(self._runs) > 1:
                self._merge(sorted(self._runs)[:_RUNS_MAX])
            loaded = self._install()
        except BaseException:
            self.abort()
            raise
        self._close()
        return loaded

    def _merge(self, numbers: list[int]) -> None:
        """Merge runs, which are the oldest, into one."""
        rows = [self._slices(number) for number in reversed(numbers)]
        pieces = [piece for row in rows for piece in row]
        whole = AgedRange(b"", None, self._age, self._age)
        ranges = [whole]
        if self._options.workers > 1:
            ranges = divided(ranges, pieces, share_size_bytes(pieces, self._options))
        refs = [[SliceRef(p.segment.number, p.start, p.stop) for p in row] for row in rows]
        properties = [piece.segment.properties for piece in pieces]
        raw_bytes = sum(p.key_bytes + p.value_bytes + _SEGMENT_OVERHEAD_BYTES * p.entries for p in properties)
        output = self._output(raw_bytes, len(ranges))
        del rows, pieces, properties
        self._runs[output.run] = []
        self._submit(output.run, MergeJob(refs, ranges, True, [], output))
        while self._take_reply().step is not None:
            pass
        for number in numbers:
            for segment in self._runs.pop(number):
                self._fs.remove(os.path.join(self.path, segment_name(segment)))
        # It holds the oldest entries, so its number must be the smallest; but that only names it here.
        self._runs = {numbers[0]: self._runs.pop(output.run)} | self._runs

    def _slices(self, number: int) -> list[Slice]:
        pieces = [Slice.whole(open_uncached(self._fs, self.path, segment)) for segment in self._runs[number]]
        return sorted(pieces, key=lambda piece: piece.start)

    def _size_of(self, numbers: dict[int, list[int]]) -> int:
        return sum(piece.segment.size_bytes for number in numbers for piece in self._slices(number))

    def _install(self) -> Loaded:
        """Have a manifest name the one run there is."""
        if not self._runs:
            return Loaded(0, 0, 0)
        fs, old = self._fs, self._manifest
        ((_, segments),) = self._runs.items()
        pieces = self._slices(next(iter(self._runs)))
        entries = sum(piece.entries for piece in pieces)
        if old.counted and entries != self.entries:
            raise EngineError(f"{self.path}: {entries} entries were written of {self.entries}")
        run = pieces[0].segment.properties.run
        log = self._next_number
        WalWriter(fs, self.path, log, database_salt=old.salt).close()
        fs.sync_directory(self.path)
        levels = levels_to_records(Levels([[]] * _LEVEL + [[Run(run, pieces)]]))
        self._is_installing = True
        write_manifest(fs, self.path, old._replace(next_number=log + 1, wal_first=log, levels=levels))
        for name in fs.list_directory(self.path):
            parsed = parse_name(name)
            if parsed is not None and parsed[0] == "wal" and parsed[1] < log:
                fs.remove(os.path.join(self.path, name))
        size_bytes = sum(piece.segment.size_bytes for piece in pieces)
        return Loaded(entries, len(segments), size_bytes)

    def abort(self) -> None:
        """Give up: the database is empty, and nothing else is left. After `finish` nothing happens."""
        if not self._is_open:
            return
        self._worker.close()
        # A manifest that could not be replaced for sure may be the new one: then files are left to the next
        # opening, which knows.
        names = [] if self._is_installing else self._fs.list_directory(self.path)
        for name in filter(self._is_ours, names):
            with contextlib.suppress(OSError):  # the next opening sweeps it
                self._fs.remove(os.path.join(self.path, name))
        self._close()

    def _is_ours(self, name: str) -> bool:
        """Tell whether a file is one that was written on the way."""
        parsed = parse_name(name)
        return is_temporary(name) or (parsed is not None and parsed[1] > self._age and parsed[0] == "seg")

    def _close(self) -> None:
        self._is_open = False
        self._keys.clear()
        self._values.clear()
        self._worker.close()
        self._lock.release()

"""The database: ties log, memtables, levels and background work together.

Life of a write (writing.py): one frame into the log, one pass into the active memtable, both under `_lock`;
with ``sync="always"`` then an fdatasync outside the lock, shared by all who wait for one. A memtable that is
full is sealed with its log: a new pair takes its place in a fresh `View`, and the background is told.

Threads: `view` is replaced, never changed, so readers take it without a lock. `_lock` guards the active
memtable, the logs and the replacement of the view; `_sync_lock` guards syncing. Lock order: background's
install lock, `_sync_lock`, `_lock`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Callable
from types import TracebackType

from lamina.engine import forks, stalls
from lamina.engine.background import Background
from lamina.engine.cache import Cache
from lamina.engine.checkpoint import write_checkpoint
from lamina.engine.discards import Discards
from lamina.engine.errors import ClosedError, PoisonedError, ReadOnlyError
from lamina.engine.filenames import LOCK
from lamina.engine.filesystem import FileLock, FileSystem
from lamina.engine.layers import View, visible_discards
from lamina.engine.levels import Levels
from lamina.engine.logs import Logs, sync_every_second
from lamina.engine.memtable import ENTRY_OVERHEAD_BYTES, Memtable
from lamina.engine.metrics import Counters, Stats
from lamina.engine.opening import adopt_files, make_directory, open_files
from lamina.engine.options import Options
from lamina.engine.reading import ClosedView, range_bounds
from lamina.engine.rows import Rows
from lamina.engine.segment.reader import OpenFiles, SegmentReader
from lamina.engine.snapshot import Snapshot
from lamina.engine.statistics import build_stats
from lamina.engine.writing import Writable

_CLOSE_FLUSH_MIN_BYTES = 1024 * 1024
"""A smaller memtable is left in its log when closing: replaying it takes milliseconds, and tiny segments cost
merges."""

_LOGS_MAX = 8
"""Logs that one memtable may have gathered, over sessions too short to flush, before it is flushed at the
next opening."""


class Database(Writable):
    """An open database. Made by `lamina.engine.open`; any thread may use it; it is a context manager.

    A process that forks leaves the database to the parent: in the child every use raises ClosedError.
    """

    def __init__(self, path: str, options: Options, fs: FileSystem) -> None:
        self.path = path
        self.options = options
        self.fs = fs
        self.counters = Counters()
        self._lock = threading.Lock()
        self._number_lock = threading.Lock()
        self._is_closed = False
        self._closing = threading.Event()
        self._refusal = None
        self._staged = None
        self._file_lock: FileLock | None = None
        self._snapshots = 0
        self._stall = 0.0
        self.waits_for_room = True
        """Whether writes wait while flushes and merges fall behind; if not, whoever writes asks
        `room_delay_s`."""
        self._pacer = stalls.Pacer(self.counters)
        self._wal_lost_bytes = 0
        self._cache = Cache(options.memory - options.memtable_budget_bytes)
        self._files = OpenFiles(options.open_files_max)
        self._budget_bytes = options.memtable_budget_bytes
        self._is_always = options.sync == "always"
        self.logs: Logs
        try:
            self._open()
        except BaseException:
            self._is_closed = True
            if hasattr(self, "_background"):
                self._background.close()
            if hasattr(self, "logs"):
                self.logs.close()
            self._release_lock()
            raise
        forks.register(self)

    def _open(self) -> None:
        options, fs, path = self.options, self.fs, self.path
        if not options.read_only:
            make_directory(fs, path, options)
            self._file_lock = fs.lock(os.path.join(path, LOCK))
        manifest, levels, replay, self.next_number = open_files(
            fs, path, options, self.open_segment, self._lock
        )
        self._log_end = (replay.last_number, replay.last_size_bytes) if options.read_only else None
        self.counted = manifest.counted
        self.created_s = manifest.created_s
        self.salt = manifest.salt
        if not options.read_only:
            adopt_files(fs, path, manifest, replay)
            self._is_noted = replay.is_noted
            self._wal_lost_bytes = 0 if replay.cut is None else replay.cut.lost_bytes
            self.logs = Logs(fs, path, self._take_number, self._lock, database_salt=self.salt)
            self.logs.active.note_link(replay.last_number, replay.last_size_bytes)
            self.logs.active.note_durable(replay.last_number, replay.last_size_bytes)
            replay.memtables[-1].wals.append(self.logs.active.number)
        memtables = tuple(reversed(replay.memtables))
        settled = Discards(manifest.discards, manifest.discards_last_number)
        self._memtable = memtables[0]
        rows = Rows(self._cache)
        self.view = View(
            memtables, levels, visible_discards(settled, memtables), counted=self.counted, rows=rows
        )
        if options.verify_on_open:
            self.verify()
        self._background = Background(self, levels, settled, manifest.wal_first)
        if options.read_only:
            self._refusal = ReadOnlyError(f"{path}: the database was opened with read_only=True")
            return
        if options.sync == "everysec":
            sync_every_second(weakref.ref(self), self._closing)
        with self._lock:
            if len(self._memtable.wals) > _LOGS_MAX:
                with contextlib.suppress(OSError):
                    self._seal()
            self._after_change()
        self._background.wake()

    def open_segment(
        self, number: int, size_bytes: int | None = None, database_salt: int | None = None
    ) -> SegmentReader:
        """Open a segment with this database's cache."""
        return SegmentReader(
            self.fs,
            self.path,
            number,
            cache=self._cache,
            files=self._files,
            size_bytes=size_bytes,
            database_salt=self.salt if database_salt is None else database_salt,
        )

    # -- sealing and stalls ------------------------------------------------------------------------

    def _seal_full(self) -> None:
        """Seal the active memtable if it is (still) full; a log that cannot be created now is tried again
        later."""
        with self._lock:
            if self._memtable.size_bytes < self._budget_bytes or self._refusal is not None:
                return
            if self._staged is not None:
                return  # somebody has staged meanwhile; the write that logs it will see to this
            try:
                self._seal()
            except OSError:
                return  # the write itself is in the log; the memtable grows a little over its budget
        self._background.wake()

    def _seal(self) -> None:
        """Put a new memtable and log in the place of the active ones. The caller holds `_lock`."""
        memtable = Memtable(counted=self.counted, lock=self._lock)
        number = self.logs.rotate()
        if number == self._memtable.wals[-1]:
            self._memtable.wals.pop()  # nothing of the sealed memtable is in it: it goes with the new one
        memtable.wals.append(number)
        self._memtable = memtable
        view = self.view
        memtables = (memtable, *view.memtables)
        self.view = View(memtables, view.levels, view.discards, counted=self.counted, rows=view.rows)
        self._after_change()

    def take_numbers(self, count: int) -> int:
        """Return the first of `count` fresh file numbers."""
        with self._number_lock:
            first = self.next_number
            self.next_number += count
        return first

    def _take_number(self) -> int:
        return self.take_numbers(1)

    def _after_change(self) -> None:
        """Set stall state and cache size for the layers there are now. The caller holds `_lock`."""
        options = self.options
        if options.background != "inline":
            self._stall = stalls.stall_severity(
                self.view,
                budget_bytes=self._budget_bytes,
                # Where damage keeps runs from being merged, waiting for that would be waiting for ever.
                runs_max=1 << 30 if self._is_merging_blocked() else options.level_runs_max,
            )
        # One number for all memory: what memtables do not need is the cache's, but never less than a quarter.
        sealed_bytes = sum(memtable.size_bytes for memtable in self.view.memtables[1:])
        self._cache.limit_bytes = max(options.memory // 4, options.memory - sealed_bytes - self._budget_bytes)
        self._cache.trim()

    def _is_merging_blocked(self) -> bool:
        return hasattr(self, "_background") and self._background.trouble.damage is not None

    def _wait_for_room(self, size_bytes: int) -> None:
        """Slow or stop a writer until flushes and merges have caught up.

        Errors: OSError or EngineError with the cause if the background cannot work.
        """
        if not self.waits_for_room and self._stall < stalls.OVERRUN:
            self._pacer.owe(size_bytes + ENTRY_OVERHEAD_BYTES)
            if self._stall >= stalls.STOPPED:
                self._pacer.check(self._background)
            return
        if self._stall < stalls.STOPPED:
            self._pacer.slow_down(size_bytes + ENTRY_OVERHEAD_BYTES, self._stall)
            return
        self._background.wake()
        self._pacer.wait_for_room(
            self._background, lambda: self._stall < stalls.STOPPED or self._refusal is not None
        )

    def room_delay_s(self) -> float:
        """Return how long whoever writes here should hold back before asking again; 0: not at all.

        For programs that must not be blocked and have set `waits_for_room` to False: their writes return at
        once, unless they overrun everything. Cost: 0.1 µs. Errors: OSError or EngineError with the cause if
        there is no room and the background cannot work.
        """
        return self._pacer.delay_s(self._background, self._stall)

    def sync(self) -> None:
        """Make all writes that have returned durable. Errors: PoisonedError if the disk refuses."""
        self._check_open()
        if not self.options.read_only:
            self._sync(self.logs.sync)

    def _sync(self, sync: Callable[[], None]) -> None:
        """Call one of the logs' ways to sync; when the disk refuses, so do we from then on."""
        try:
            sync()
        except PoisonedError as error:
            self._refusal = self._refusal or error
            raise

    def tick_sync(self) -> None:
        """Once a second, for ``sync="everysec"``."""
        with contextlib.suppress(PoisonedError):
            self._sync(self.logs.sync)

    # -- what the background publishes --------------------------------------------------

    def install_view(self, levels: Levels, settled: Discards, flushed: Memtable | None) -> None:
        """Publish new levels, and the departure of a flushed memtable, to readers."""
        with self._lock:
            memtables = tuple(m for m in self.view.memtables if m is not flushed)
            # What the runs answer changes with a flush, and with nothing else.
            rows = self.view.rows if flushed is None else Rows(self._cache)
            self.view = View(
                memtables, levels, visible_discards(settled, memtables), counted=self.counted, rows=rows
            )
            self._after_change()

    def note_flush(self, size_bytes: int, elapsed_s: float) -> None:
        """Take note of how long the flush of a memtable of `size_bytes` took."""
        self._pacer.flushed(size_bytes, elapsed_s)

    def forget_segment(self, segment: SegmentReader) -> None:
        """Free what the cache holds of a segment that is no longer live."""
        self._cache.forget(segment.parts)

    # -- maintenance -------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Return the database as it is now, unaffected by later writes.

        Errors: OSError if no new log can be begun; ValueError while batches are staged.
        """
        self._check_open()
        with self._lock:
            self._check_unstaged()
            if self._refusal is None and not self._memtable.is_empty:
                self._seal()
            view = self.view
            memtables = view.memtables if self._refusal is not None else view.memtables[1:]
            frozen = View(memtables, view.levels, view.discards.copy(), counted=self.counted, rows=view.rows)
            self._snapshots += 1
        self._background.wake()
        return Snapshot(frozen, self._snapshot_closed)

    def _snapshot_closed(self) -> None:
        self._snapshots -= 1
        if not self._is_closed:
            self._background.sweep()

    def checkpoint(self, directory: str | os.PathLike[str]) -> None:
        """Make a copy of the database as it is now in `directory`, which must not exist or be empty.

        Segments and logs are hard links (copies where the file system is another one), so this takes
        milliseconds and no space at first; the copy is a database of its own and can be opened at once.
        Errors: OSError, FileExistsError, ValueError while batches are staged; nothing half-made stays behind.
        """
        self._check_open()
        target = os.fspath(directory)
        with self._background.frozen():
            with self._lock:
                # From here on, closing waits for the lock of what is frozen before it lets go of any file.
                self._check_open()
                self._check_unstaged()
                if self._refusal is None and not self._memtable.is_empty:
                    self._seal()
                memtables = self.view.memtables if self._refusal is not None else self.view.memtables[1:]
            if not self.options.read_only:
                self._sync(self.logs.sync)
            background = self._background
            logs = [number for memtable in reversed(memtables) for number in memtable.wals]
            manifest = background.manifest(background.levels, background.settled, logs[0] if logs else 0)
            write_checkpoint(self.fs, self.path, target, manifest, logs, self._log_end)
        background.wake()

    def flush(self, *, wait: bool = True) -> None:
        """Write the memtables into segments.

        Errors: OSError, EngineError if that fails; ValueError while batches are staged.
        """
        self._check_writable()
        with self._lock:
            self._check_unstaged()
            if not self._memtable.is_empty:
                self._seal()
            # The newest of those that are due: others may be sealed while we wait, and are not our business.
            newest = self.view.memtables[1] if len(self.view.memtables) > 1 else None
        self._background.retry_now()
        if wait and not self._background.wait(lambda: newest not in self.view.memtables):
            self._check_writable()
            if self._background.error is not None:
                raise self._background.error

    def compact(self, start: bytes | None = None, stop: bytes | None = None) -> None:
        """Merge everything in a key range into one run, giving back all the space that can be given back.

        Blocks until done; reads and writes go on. Cost: rewrites the range once, unless it already is one
        clean run. Errors: as `flush`.
        """
        self._check_writable()
        low, high = range_bounds(start, stop, None)
        self.flush()
        self._background.compact(low, high)
        self._check_open()  # closed meanwhile, it is not done

    def pause(self) -> None:
        """Stop compacting until `resume`, to leave the disk to others; flushes go on."""
        self._check_writable()
        self._background.pause()

    def resume(self) -> None:
        """Compact again after `pause`; also tries again at once what failed for lack of space."""
        self._check_writable()
        self._background.resume()
        self._background.retry_now()

    def wait_idle(self, timeout_s: float | None = None) -> bool:
        """Wait until no flush or compaction runs or is due; returns False if that took too long or one
        failed."""
        self._check_open()
        if self.options.read_only:
            return True
        self._background.wake()
        return self._background.wait(self._background.is_idle, timeout_s)

    def verify(self) -> None:
        """Read every block of every segment. Errors: CorruptionError at the first damage. Cost: reads all
        files."""
        for segment in {piece.segment for piece in self.view.levels.slices}:
            segment.verify()

    def stats(self) -> Stats:
        """Return a picture of the database: levels, memory, amplification, stalls. Cost: microseconds per
        segment."""
        self._check_open()
        read_only = self.options.read_only
        return build_stats(
            self.view,
            self.counters,
            None if read_only else self.logs,
            self._cache,
            self._background,
            wal_lost_bytes=self._wal_lost_bytes,
            stall_state=stalls.describe_stall(self._stall),
            snapshots=self._snapshots,
            write_error=None if read_only else self._refusal,
        )

    # -- closing -----------------------------------------------------------------------------------

    def close(self) -> None:
        """Flush or sync what is in memory and let go of the files. Closing twice is fine.

        What is staged and not written is taken back.

        Errors: PoisonedError, if what was acknowledged could not be made durable; the database is closed all
        the same.
        """
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._rewind(0)
            is_healthy = self._refusal is None
            self._refusal = ClosedError(f"{self.path}: the database is closed")
            is_large = self._memtable.size_bytes >= min(_CLOSE_FLUSH_MIN_BYTES, self._budget_bytes)
            if is_healthy and is_large:
                with contextlib.suppress(OSError):
                    self._seal()
        try:
            if is_healthy:
                background = self._background
                background.wake()
                if is_large and background.error is None:
                    background.wait(lambda: len(self.view.memtables) == 1)
                self.logs.sync()
        finally:
            self._release()

    def _release(self) -> None:
        forks.unregister(self)
        self._closing.set()
        self._background.close()
        self.view = ClosedView(f"{self.path}: the database is closed")  # type: ignore[assignment]
        if not self.options.read_only:
            # A session that wrote nothing leaves no trace: its log would be one more to read at every
            # opening.
            self.logs.close(drop_unused=self._is_noted and len(self._memtable.wals) > 1)
        self._release_lock()

    def _release_lock(self) -> None:
        if self._file_lock is not None:
            self._file_lock.release()

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_is_closed", True) and hasattr(self, "_background"):
            warnings.warn(f"the database in {self.path} was never closed", ResourceWarning, stacklevel=2)
            self._is_closed = True
            if sys.is_finalizing():
                # Our threads stand still for ever, perhaps with our locks: what we hold ends with the
                # process.
                return
            with contextlib.suppress(Exception):
                self._release()

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClosedError(f"{self.path}: the database is closed")

    def _check_writable(self) -> None:
        if self._refusal is not None:
            raise self._refusal

    def abandon(self) -> None:
        """Leave everything to the parent process: called in the child after a fork."""
        message = (
            f"{self.path}: the database was opened before a fork and belongs to the parent; open it here"
        )
        self._lock = threading.Lock()
        self._number_lock = threading.Lock()
        self._is_closed = True
        self._refusal = ClosedError(message)
        self.view = ClosedView(message)  # type: ignore[assignment]
        self._background.abandon()
        if self._file_lock is not None:
            self._file_lock.abandon()

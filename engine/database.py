"""The database: ties log, memtables, levels and background work together.

Life of a write: one frame into the log, one pass into the active memtable, both under `_lock`; with ``sync="always"`` then an
fdatasync outside the lock, shared by all who wait for one. A memtable that is full is sealed with its log: a new pair takes
its place in a fresh `View`, and the background is told.

Threads: `view` is replaced, never changed, so readers take it without a lock. `_lock` guards the active memtable, the logs and
the replacement of the view; `_sync_lock` guards syncing. Lock order: background's install lock, `_sync_lock`, `_lock`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from types import TracebackType

from lamina.engine.background import Background
from lamina.engine.batch import ENTRY, Batch, check_discard, check_key, check_value, encode_batch
from lamina.engine.cache import Cache
from lamina.engine.checkpoint import write_checkpoint
from lamina.engine.discards import Discards
from lamina.engine.entry import DELETE, INSERT, KEY_SIZE_MAX, REMOVE, REPLACE, VALUE_SIZE_MAX
from lamina.engine.errors import ClosedError, EngineError, PoisonedError, ReadOnlyError
from lamina.engine.filenames import LOCK, wal_name
from lamina.engine.filesystem import FileLock, FileSystem
from lamina.engine.layers import View
from lamina.engine.levels import Levels
from lamina.engine.manifest import Manifest, write_manifest
from lamina.engine.memtable import ABSENT, ENTRY_OVERHEAD_BYTES, Memtable
from lamina.engine.metrics import Counters, LevelStats, Stats
from lamina.engine.options import Options
from lamina.engine.reading import ClosedView, Readable, _bounds
from lamina.engine.recovery import Replay, find_manifest, list_files, replay_logs, sweep
from lamina.engine.segment.reader import OpenFiles, SegmentReader
from lamina.engine.snapshot import Snapshot
from lamina.engine.version import levels_from_records
from lamina.engine.wal import HEADER as WAL_HEADER
from lamina.engine.wal import WalWriter

_SYNC_INTERVAL_S = 1.0
_CLOSE_FLUSH_MIN_BYTES = 1024 * 1024
"""A smaller memtable is left in its log when closing: replaying it takes milliseconds, and tiny segments cost merges."""

# Stalls, in multiples of the memtable budget that wait to be flushed, and in runs of level 0 over what a level holds.
_SLOW_SEALED = 2
_STOP_SEALED = 3
_SLOW_RUNS = 2
_STOP_RUNS = 6

_pack_entry = ENTRY.pack


class Database(Readable):
    """An open database. Made by `lamina.engine.open`; any thread may use it; it is a context manager.

    A process that forks leaves the database to the parent: in the child every use raises ClosedError.
    """

    def __init__(self, path: str, options: Options, fs: FileSystem) -> None:
        self.path = path
        self.options = options
        self.fs = fs
        self.counters = Counters()
        self._lock = threading.Lock()
        self._sync_lock = threading.Lock()
        self._is_closed = False
        self._refusal: Callable[[], Exception] | None = None
        self._file_lock: FileLock | None = None
        self._snapshots = 0
        self._stall = 0
        self._debt_bytes = 0
        self._flush_rate_bytes_per_s = 16e6
        self._wal: WalWriter
        self._spare_wal: WalWriter | None = None
        self._wants_spare = False
        self._sealed_wals: list[WalWriter] = []
        self._wal_lost_bytes = 0
        self._cache = Cache(options.memory - options.memtable_budget_bytes)
        self._files = OpenFiles(options.open_files_max)
        self._budget = options.memtable_budget_bytes
        self._is_always = options.sync == "always"
        try:
            self._open()
        except BaseException:
            if self._file_lock is not None:
                self._file_lock.release()
            raise
        _open_databases.add(self)

    # -- opening --------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        options, fs, path = self.options, self.fs, self.path
        is_new = False
        if not options.read_only:
            if not fs.exists(path):
                if not options.create:
                    raise FileNotFoundError(errno.ENOENT, "there is no database here, and create=False", path)
                fs.make_directory(path)
                fs.sync_directory(os.path.dirname(os.path.abspath(path)) if isinstance(path, str) else path)
            self._file_lock = fs.lock(os.path.join(path, LOCK))
        manifest = find_manifest(fs, path)
        if manifest is None:
            if options.read_only or not options.create:
                raise FileNotFoundError(errno.ENOENT, "there is no database here", path)
            manifest = self._create()
            is_new = True
        elif options.error_if_exists:
            raise FileExistsError(errno.EEXIST, "there is a database here, and error_if_exists=True", path)
        if options.counted is not None and options.counted != manifest.counted:
            raise ValueError(f"{path}: the database was created with counted={manifest.counted}; that cannot change")
        self.counted = manifest.counted
        self.created_s = manifest.created_s
        levels, replay, manifest = self._read_files(manifest)
        settled = Discards(manifest.discards, manifest.discards_last_number)
        memtables = tuple(reversed(replay.memtables))
        highest = max((number for name in list_files(fs, path) if (number := _number_in(name))), default=0)
        self.next_number = max(manifest.next_number, highest + 1)
        if not options.read_only:
            self._adopt(manifest, replay, is_new=is_new)
        self._memtable = memtables[0]
        self.view = View(memtables, levels, self._visible(settled, memtables), counted=self.counted)
        if options.verify_on_open:
            self.verify()
        self._background = Background(self, levels, settled, manifest.wal_first)
        if options.read_only:
            self._refusal = _refuse_read_only
            return
        if options.sync == "everysec":
            thread = threading.Thread(
                target=_sync_loop, args=(weakref.ref(self), closing := threading.Event()), name="lamina-sync", daemon=True
            )
            self._closing = closing
            thread.start()
        self._wants_spare = options.background != "inline"
        self._after_change()
        self._background.wake()

    def _create(self) -> Manifest:
        """Make a new database: an empty log, then the manifest that names it."""
        for name in list_files(self.fs, self.path):
            if _number_in(name):  # an empty log of a creation that did not get far
                self.fs.remove(os.path.join(self.path, name))
        counted = True if self.options.counted is None else self.options.counted
        WalWriter(self.fs, self.path, 1).close()
        manifest = Manifest(counted, int(time.time()), 2, 1, [], [], 0)
        write_manifest(self.fs, self.path, manifest)
        return manifest

    def _read_files(self, manifest: Manifest) -> tuple[Levels, Replay, Manifest]:
        """Open segments and replay logs. Beside a live writer, files may go while we look: then look again."""
        attempts = 20 if self.options.read_only else 1
        while True:
            attempts -= 1
            try:
                levels = levels_from_records(manifest.levels, self.open_segment)
                replay = replay_logs(
                    self.fs, self.path, manifest, memtable_size_max_bytes=self._budget, lock=self._lock
                )
                return levels, replay, manifest
            except (FileNotFoundError, EngineError):
                again = find_manifest(self.fs, self.path) if attempts else None
                if again is None or again == manifest:
                    raise
                manifest = again

    def _adopt(self, manifest: Manifest, replay: Replay, *, is_new: bool) -> None:
        """Take over what recovery found: tidy up, make it durable, and begin a log of our own."""
        fs, path = self.fs, self.path
        sweep(fs, path, manifest, replay)
        if replay.cut is not None:
            self._wal_lost_bytes = replay.cut.lost_bytes
        if not is_new:
            # What the last process did not get around to syncing, so that later logs can say it was.
            for memtable in replay.memtables:
                for number in memtable.wals:
                    file = fs.open_append(os.path.join(path, wal_name(number)))
                    file.sync()
                    file.close()
        self._wal = WalWriter(fs, path, self.take_numbers(1))
        self._wal.note_link(replay.last_number, replay.last_size_bytes)
        self._wal.note_durable(replay.last_number, replay.last_size_bytes)
        replay.memtables[-1].wals.append(self._wal.number)

    def open_segment(self, number: int, size_bytes: int | None = None) -> SegmentReader:
        """Open a segment with this database's cache."""
        return SegmentReader(
            self.fs, self.path, number, cache=self._cache, files=self._files, size_bytes=size_bytes
        )

    # -- writing --------------------------------------------------------------------------------------------------

    def put(self, key: bytes, value: bytes, *, existed: bool | None = None) -> None:
        """Store `value` under `key`.

        `existed`: see `Batch.put`. Cost: 2 µs, plus a look for `key` if the database is counted and `existed` is not
        given. Errors: TypeError, ValueError, ClosedError, ReadOnlyError, PoisonedError; OSError where the log cannot be
        written: then nothing has happened, and writing may be tried again.
        """
        if type(key) is not bytes or len(key) > KEY_SIZE_MAX:
            key = check_key(key)
        if type(value) is not bytes or len(value) > VALUE_SIZE_MAX:
            value = check_value(value)
        if self._stall:
            self._wait_for_room(len(key) + len(value))
        with self._lock:
            if self._refusal is not None:
                raise self._refusal()
            memtable = self._memtable
            inserted = memtable.inserted
            based = memtable.based
            table: dict[bytes, bytes] | dict[bytes, bytes | None]
            if not self.counted:
                self._wal.append(_pack_entry(REPLACE, len(key)) + key + value)
                if key not in based:
                    memtable.pending.append(key)
                based[key] = value
            else:
                is_change = True
                if key in inserted:
                    table, kind, is_change = inserted, REPLACE, False
                elif (found := based.get(key, ABSENT)) is not ABSENT:
                    table = based
                    kind, is_change = (INSERT, True) if found is None else (REPLACE, False)
                elif self.view.exists_below(key) if existed is None else existed:
                    table, kind = based, REPLACE
                else:
                    table, kind = inserted, INSERT
                self._wal.append(_pack_entry(kind, len(key)) + key + value)
                if is_change:
                    memtable.pending.append(key)
                table[key] = value
            size_bytes = len(key) + len(value)
            self.counters.user_bytes += size_bytes
            memtable.size_bytes += size_bytes + ENTRY_OVERHEAD_BYTES
            is_full = memtable.size_bytes >= self._budget
        if is_full:
            self._seal_full()
        if self._is_always:
            self._sync_through(self._wal)

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self.put(key, value)

    def delete(self, key: bytes, *, existed: bool | None = None) -> None:
        """Remove `key`; fine if it is not there. Otherwise as `put`."""
        batch = Batch()
        batch.delete(key, existed=existed)
        self.write(batch)

    def __delitem__(self, key: bytes) -> None:
        self.delete(key)

    def discard(self, start: bytes, stop: bytes) -> None:
        """Give up the range ``start <= key < stop``: the caller promises never to read or write a key of it again.

        Costs next to nothing whatever the range holds; its space comes back as compaction meets it, without being read, and
        segments that lie wholly inside it go at once. Scans and counts pass the range over from now on.
        """
        batch = Batch()
        batch.discard(*check_discard(start, stop))
        self.write(batch)

    def batch(self) -> Batch:
        """Return a batch that is written when its ``with`` block ends."""
        return Batch(self.write)

    def write(self, *batches: Batch, sync: bool = True) -> None:
        """Write batches, all or nothing, as one frame: group commit.

        Later batches win over earlier ones. ``sync=False`` leaves it to a later `sync` to make them durable, whatever the
        option says. Cost: 1 µs, and 0.5 µs per entry. Errors: as `put`.
        """
        entries, existed, discards = _join(batches)
        if not entries and not discards:
            return
        if self._stall:
            self._wait_for_room(_size(entries))
        with self._lock:
            if self._refusal is not None:
                raise self._refusal()
            keys, values, kinds = self._resolve(entries, existed)
            if keys or discards:
                self._wal.append(encode_batch(keys, values, kinds, discards))
                memtable = self._memtable
                before = memtable.size_bytes
                memtable.apply(keys, values, kinds)
                if discards:
                    memtable.discards += discards
                    for start, stop in discards:
                        self.view.discards.add(start, stop)
                added = memtable.size_bytes - before
                self.counters.user_bytes += added - ENTRY_OVERHEAD_BYTES * len(keys)
            is_full = self._memtable.size_bytes >= self._budget
        if is_full:
            self._seal_full()
        if self._is_always and sync:
            self._sync_through(self._wal)

    def _resolve(
        self, entries: dict[bytes, bytes | None], existed: dict[bytes, bool]
    ) -> tuple[list[bytes], list[bytes], bytes]:
        """Return a batch's entries as columns, each with the kind it has at this moment."""
        if not self.counted:
            keys = list(entries)
            if None not in entries.values():
                return keys, list(entries.values()), bytes((REPLACE,)) * len(keys)  # type: ignore[arg-type]
            kinds = bytes([DELETE if value is None else REPLACE for value in entries.values()])
            return keys, [value or b"" for value in entries.values()], kinds
        inserted, based = self._memtable.inserted, self._memtable.based
        exists_below = self.view.exists_below
        keys = []
        values: list[bytes] = []
        kinds_out = bytearray()
        for key, value in entries.items():
            if key in inserted:
                exists = True
            elif (found := based.get(key, ABSENT)) is not ABSENT:
                exists = found is not None
            elif key in existed:
                exists = existed[key]
            else:
                exists = exists_below(key)
            if value is not None:
                kinds_out.append(REPLACE if exists else INSERT)
                values.append(value)
            elif exists:
                kinds_out.append(REMOVE)
                values.append(b"")
            else:
                continue
            keys.append(key)
        return keys, values, bytes(kinds_out)

    # -- sealing and stalls ---------------------------------------------------------------------------------------

    def _seal_full(self) -> None:
        """Seal the active memtable if it is (still) full; a log that cannot be created now is tried again later."""
        with self._lock:
            if self._memtable.size_bytes < self._budget or self._refusal is not None:
                return
            try:
                self._seal()
            except OSError:
                return  # the write itself is in the log; the memtable grows a little over its budget
        self._background.wake()

    def _seal(self) -> None:
        """Put a new memtable and log in the place of the active ones. The caller holds `_lock`."""
        old = self._wal
        wal = self._spare_wal or WalWriter(self.fs, self.path, self.take_numbers(1))
        self._spare_wal = None
        wal.note_link(old.number, old.size_bytes)
        self._sealed_wals.append(old)
        self._wal = wal
        memtable = Memtable(counted=self.counted, lock=self._lock)
        memtable.wals.append(wal.number)
        self._memtable = memtable
        view = self.view
        self.view = View((memtable, *view.memtables), view.levels, view.discards, counted=self.counted)
        self.counters.wal_bytes += old.size_bytes
        self._after_change()

    def prepare_log(self) -> None:
        """Create the next log ahead of time, so that sealing never waits for the disk. For the background."""
        if self._wants_spare and self._spare_wal is None and self._refusal is None:
            with contextlib.suppress(OSError):
                wal = WalWriter(self.fs, self.path, self.take_numbers(1))
                with self._lock:
                    if self._spare_wal is None and wal.number > self._wal.number and self._refusal is None:
                        self._spare_wal = wal
                        return
                wal.close()
                self.fs.remove(wal.path)

    def take_numbers(self, count: int) -> int:
        """Return the first of `count` fresh file numbers."""
        with _number_lock:
            first = self.next_number
            self.next_number += count
        return first

    def _after_change(self) -> None:
        """Set stall state and cache size for the memtables and runs there are now. The caller holds `_lock`."""
        view = self.view
        sealed_bytes = sum(memtable.size_bytes for memtable in view.memtables[1:])
        runs = len(view.levels.levels[0]) if view.levels.levels else 0
        spare_runs = runs - self.options.level_runs_max
        if sealed_bytes >= _STOP_SEALED * self._budget or spare_runs >= _STOP_RUNS * 2:
            self._stall = 2
        elif sealed_bytes >= _SLOW_SEALED * self._budget or spare_runs >= _STOP_RUNS:
            self._stall = 1
        else:
            self._stall = 0
        if self.options.background == "inline" or self.options.read_only:
            self._stall = 0
        memory = self.options.memory
        limit = max(memory // 4, memory - sealed_bytes - self._budget)
        if limit < self._cache.limit_bytes:
            self._cache.limit_bytes = limit
            self._cache.trim()
        else:
            self._cache.limit_bytes = limit

    def _wait_for_room(self, size_bytes: int) -> None:
        """Slow a writer down, or stop it, until flushes and merges have caught up.

        Slowed, writers together go at the rate at which memtables are flushed, in pauses of a millisecond or more. Errors:
        OSError if they are stopped and the background cannot work.
        """
        began_s = time.monotonic()
        if self._stall == 1:
            self._debt_bytes += size_bytes + ENTRY_OVERHEAD_BYTES
            pause_s = self._debt_bytes / self._flush_rate_bytes_per_s
            if pause_s < 0.001:
                return
            self._debt_bytes = 0
            time.sleep(min(pause_s, 0.05))
        else:
            background = self._background
            background.wake()
            while self._stall == 2 and self._refusal is None:
                if not background.wait(lambda: self._stall < 2, 1.0) and background.error is not None:
                    self._refuse_full(background.error)
        elapsed_s = time.monotonic() - began_s
        counters = self.counters
        counters.stalls += 1
        counters.stall_time_s += elapsed_s
        counters.stall_longest_s = max(counters.stall_longest_s, elapsed_s)

    def _refuse_full(self, error: Exception) -> None:
        if isinstance(error, OSError):
            raise OSError(error.errno, f"memtables are full and cannot be flushed: {error.strerror}", error.filename)
        raise EngineError(f"memtables are full and cannot be flushed: {error}") from error

    # -- syncing --------------------------------------------------------------------------------------------------

    def sync(self) -> None:
        """Make all writes that have returned durable. Errors: PoisonedError if the disk refuses."""
        self._check_open()
        if not self.options.read_only:
            self._sync_all()

    def _sync_through(self, wal: WalWriter) -> None:
        """Return when what has been written to `wal` so far is durable: group commit.

        Writers that come while one syncs find, when it is their turn, that the next sync covers them all.
        """
        size_bytes = wal.size_bytes
        with self._sync_lock:
            if wal.durable_size_bytes < size_bytes:
                self._sync_locked()

    def _sync_all(self) -> None:
        with self._sync_lock:
            self._sync_locked()

    def _sync_locked(self) -> None:
        with self._lock:
            if self._refusal is not None and not self._is_closed:
                raise self._refusal()
            sealed, active = self._sealed_wals[:], self._wal
        if not sealed and active.size_bytes <= active.durable_size_bytes:
            return
        try:
            for wal in sealed:  # in order: a log is never durable before its predecessors
                wal.sync()
            active.sync()
        except OSError as error:
            self._poison(error)
            raise PoisonedError(
                f"{self.path}: fsync failed ({error}); what reached the disk is unknown: reopen the database"
            ) from error
        self.counters.wal_syncs += 1
        with self._lock:
            for wal in sealed:
                if wal in self._sealed_wals:
                    self._sealed_wals.remove(wal)
                    wal.close()
            active.note_durable(active.number, active.durable_size_bytes)

    def _poison(self, error: OSError) -> None:
        message = f"{self.path}: an fsync failed ({error}); writes are refused until the database is reopened"
        self._refusal = lambda: PoisonedError(message)

    def tick_sync(self) -> None:
        """Once a second, for ``sync="everysec"``."""
        with contextlib.suppress(EngineError):
            self._sync_all()

    def forget_logs(self, numbers: list[int]) -> None:
        """Close logs whose entries are in segments now: nobody has to sync them any more."""
        with self._lock:
            for wal in self._sealed_wals[:]:
                if wal.number in numbers:
                    self._sealed_wals.remove(wal)
                    wal.close()

    # -- what the background publishes ------------------------------------------------------------------------------

    def install_view(self, levels: Levels, settled: Discards, flushed: Memtable | None) -> None:
        """Publish new levels, and the departure of a flushed memtable, to readers."""
        with self._lock:
            memtables = tuple(m for m in self.view.memtables if m is not flushed)
            self.view = View(memtables, levels, self._visible(settled, memtables), counted=self.counted)
            self._after_change()
        if flushed is not None:
            elapsed_s = self.counters.flush_time_s / max(self.counters.flushes, 1) or 1.0
            self._flush_rate_bytes_per_s = max(flushed.size_bytes / elapsed_s, 1e6)

    def forget_segment(self, segment: SegmentReader) -> None:
        """Free what the cache holds of a segment that is no longer live."""
        self._cache.forget(segment.parts)

    def _visible(self, settled: Discards, memtables: tuple[Memtable, ...]) -> Discards:
        """Return all ranges that readers pass over: the settled ones, and those the memtables' logs hold."""
        visible = settled.copy()
        for memtable in memtables:
            for start, stop in memtable.discards:
                visible.add(start, stop)
        return visible

    # -- maintenance ------------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Return the database as it is now, unaffected by later writes. Errors: OSError if no new log can be begun."""
        self._check_open()
        with self._lock:
            if self._refusal is None and not self._memtable.is_empty:
                self._seal()
            view = self.view
            memtables = view.memtables if self._refusal is not None else view.memtables[1:]
            frozen = View(memtables, view.levels, view.discards.copy(), counted=self.counted)
            self._snapshots += 1
        self._background.wake()
        return Snapshot(frozen, self._snapshot_closed)

    def _snapshot_closed(self) -> None:
        self._snapshots -= 1
        if not self._is_closed:
            with self._background.frozen():
                self._background.sweep()

    def checkpoint(self, directory: str | os.PathLike[str]) -> None:
        """Make a copy of the database as it is now in `directory`, which must not exist or be empty.

        Segments and logs are hard links (copies where the file system is another one), so this takes milliseconds and no
        space at first; the copy is a database of its own and can be opened at once. Errors: OSError, FileExistsError;
        nothing half-made stays behind.
        """
        self._check_open()
        target = os.fspath(directory)
        with self._background.frozen():
            with self._lock:
                if self._refusal is None and not self._memtable.is_empty:
                    self._seal()
                memtables = self.view.memtables if self._refusal is not None else self.view.memtables[1:]
            if not self.options.read_only:
                self._sync_all()
            background = self._background
            logs = [number for memtable in reversed(memtables) for number in memtable.wals]
            manifest = background.manifest(background.levels, background.settled, logs[0] if logs else 0)
            write_checkpoint(self.fs, self.path, target, manifest, logs)
        background.wake()

    def flush(self, *, wait: bool = True) -> None:
        """Write the memtables into segments. Errors: OSError, EngineError if that fails."""
        self._check_writable()
        with self._lock:
            if not self._memtable.is_empty:
                self._seal()
        self._background.wake()
        if wait:
            self._background.wait(lambda: len(self.view.memtables) == 1)
            if len(self.view.memtables) > 1 and self._background.error is not None:
                raise self._background.error

    def compact(self, start: bytes | None = None, stop: bytes | None = None) -> None:
        """Merge everything in a key range into one run, giving back all the space that can be given back.

        Blocks until done; reads and writes go on. Cost: rewrites the range once, unless it already is one clean run.
        Errors: as `flush`.
        """
        self._check_writable()
        low, high = _bounds(start, stop, None)
        self.flush()
        self._background.compact(low, high)

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
        """Wait until no flush or compaction runs or is due; returns False if that took too long or one failed."""
        self._check_open()
        if self.options.read_only:
            return True
        self._background.wake()
        return self._background.wait(self._background.is_idle, timeout_s)

    def verify(self) -> None:
        """Read every block of every segment. Errors: CorruptionError at the first damage. Cost: reads all files."""
        for run in self.view.runs:
            for piece in run.slices:
                for _ in piece.segment.chunks(b"", None):
                    pass

    def stats(self) -> Stats:
        """Return a picture of the database: levels, memory, amplification, stalls. Cost: microseconds per segment."""
        self._check_open()
        view, c, background = self.view, self.counters, self._background
        levels = tuple(
            LevelStats(
                runs=len(runs),
                segments=sum(len(run.slices) for run in runs),
                size_bytes=sum(run.size_bytes for run in runs),
                entries=sum(run.entries for run in runs),
                tombstones=sum(piece.tombstones for run in runs for piece in run.slices),
            )
            for runs in view.levels.levels
        )
        entries = sum(level.entries for level in levels) + sum(map(len, view.memtables))
        live = view.count(b"", None) if self.counted else None
        alive = live if live is not None else max(entries - 2 * sum(level.tombstones for level in levels), 1)
        read_only = self.options.read_only
        wals = [] if read_only else [*self._sealed_wals, self._wal]
        wal_bytes = c.wal_bytes + (0 if read_only else self._wal.size_bytes)
        written = wal_bytes + c.flush_bytes + c.compaction_bytes
        error = background.error
        return Stats(
            levels=levels,
            live_keys=live,
            memtables=len(view.memtables),
            memtable_size_bytes=sum(memtable.size_bytes for memtable in view.memtables),
            wal_size_bytes=sum(wal.size_bytes for wal in wals),
            wal_bytes=wal_bytes,
            wal_syncs=c.wal_syncs,
            wal_lost_bytes=self._wal_lost_bytes,
            cache_size_bytes=self._cache.size_bytes,
            cache_limit_bytes=self._cache.limit_bytes,
            cache_misses=self._cache.misses,
            cache_evictions=self._cache.evictions,
            user_bytes=c.user_bytes,
            write_amplification=round(written / c.user_bytes, 3) if c.user_bytes else 0.0,
            read_amplification=len(view.layers),
            space_amplification=round(entries / alive, 3) if alive else 1.0,
            flushes=c.flushes,
            flush_bytes=c.flush_bytes,
            flush_time_s=c.flush_time_s,
            compactions=c.compactions,
            compaction_bytes=c.compaction_bytes,
            compaction_time_s=c.compaction_time_s,
            moved_runs=c.moved_runs,
            moved_segments=c.moved_segments,
            stalls=c.stalls,
            stall_time_s=c.stall_time_s,
            stall_longest_s=c.stall_longest_s,
            stall_state=("none", "slowed", "stopped")[self._stall],
            discarded_ranges=len(view.discards),
            discarded_pending_bytes=sum(background.discarded_bytes(run) for run in view.runs),
            snapshots=self._snapshots,
            worker_pid=background.worker_pid,
            worker_deaths=c.worker_deaths,
            background_error=None if error is None else str(error),
            write_error=None if self._refusal is None or read_only else str(self._refusal()),
        )

    # -- closing ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Flush or sync what is in memory and let go of the files. Closing twice is fine.

        Errors: PoisonedError, if what was acknowledged could not be made durable; the database is closed all the same.
        """
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            healthy = self._refusal is None
            self._refusal = lambda: ClosedError(f"{self.path}: the database is closed")
            large = self._memtable.size_bytes >= min(_CLOSE_FLUSH_MIN_BYTES, self._budget)
            if healthy and large:
                with contextlib.suppress(OSError):
                    self._seal()
        try:
            if healthy:
                background = self._background
                background.wake()
                if large and background.error is None:
                    background.wait(lambda: len(self.view.memtables) == 1)
                self._sync_all()
                with self._lock, contextlib.suppress(OSError):
                    self._wal.write_notes()
        finally:
            self._release()

    def _release(self) -> None:
        _open_databases.discard(self)
        self._background.close()
        self.view = ClosedView(f"{self.path}: the database is closed")  # type: ignore[assignment]
        if self.options.read_only:
            return
        if self.options.sync == "everysec":
            self._closing.set()
        for wal in (*self._sealed_wals, self._wal, self._spare_wal):
            if wal is not None:
                wal.close()
        if self._spare_wal is not None:
            with contextlib.suppress(OSError):
                self.fs.remove(self._spare_wal.path)
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
            with contextlib.suppress(Exception):
                self._release()

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClosedError(f"{self.path}: the database is closed")

    def _check_writable(self) -> None:
        if self._refusal is not None:
            raise self._refusal()

    def abandon(self) -> None:
        """Leave everything to the parent process: called in the child after a fork."""
        message = f"{self.path}: the database was opened before a fork and belongs to the parent; open it here"
        self._lock = threading.Lock()
        self._is_closed = True
        self._refusal = lambda: ClosedError(message)
        self.view = ClosedView(message)  # type: ignore[assignment]
        if self._file_lock is not None:
            self._file_lock.abandon()


def _refuse_read_only() -> Exception:
    return ReadOnlyError("the database was opened with read_only=True")


def _number_in(name: str) -> int:
    from_name = name.split(".", 1)[0]
    return int(from_name) if from_name.isdigit() else 0


def _join(
    batches: tuple[Batch, ...],
) -> tuple[dict[bytes, bytes | None], dict[bytes, bool], list[tuple[bytes, bytes]]]:
    """Return several batches as one: the last write of a key, the first word on whether it existed."""
    if len(batches) == 1:
        batch = batches[0]
        return batch.entries, batch.existed, batch.discards
    entries: dict[bytes, bytes | None] = {}
    existed: dict[bytes, bool] = {}
    discards: list[tuple[bytes, bytes]] = []
    for batch in batches:
        for key, hint in batch.existed.items():
            if key not in entries:
                existed[key] = hint
        entries.update(batch.entries)
        discards += batch.discards
    return entries, existed, discards


def _size(entries: dict[bytes, bytes | None]) -> int:
    return sum(map(len, entries)) + sum(len(value) for value in entries.values() if value is not None)


def _sync_loop(database: weakref.ref[Database], closing: threading.Event) -> None:
    """Body of the syncing thread: does not keep the database alive."""
    while not closing.wait(_SYNC_INTERVAL_S):
        this = database()
        if this is None:
            return
        this.tick_sync()
        del this


_number_lock = threading.Lock()
_open_databases: weakref.WeakSet[Database] = weakref.WeakSet()


def _abandon_all() -> None:
    for database in list(_open_databases):
        database.abandon()


os.register_at_fork(after_in_child=_abandon_all)

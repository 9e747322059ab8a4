"""Flushes and compactions: deciding when, handing jobs to the worker, installing what comes back.

Life of a job: `_schedule` builds it from the current levels and marks its runs busy; the worker writes
segments and reports steps; `_install` opens the new segments, replaces the manifest, and only then publishes
the new view and removes what is no longer needed. A job that fails leaves nothing behind but unfinished
files, which are removed; it is tried again after a pause.

Locks, in the order in which they are taken: `_install_lock` (who changes levels, manifest and settled
discards), `_state` (which jobs run), the database's own lock (the view). The worker's replies arrive in a
thread of the worker's.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import NamedTuple

from lamina.engine.compaction.job import FlushJob, MergeJob, Step
from lamina.engine.compaction.layout import discarded_bytes, has_garbage, movable, settle
from lamina.engine.compaction.picker import Plan, RunShape, pick_compaction
from lamina.engine.discards import Discards
from lamina.engine.errors import CorruptionError, EngineError
from lamina.engine.filenames import segment_name, temporary_name, wal_name
from lamina.engine.host import Host
from lamina.engine.levels import Levels
from lamina.engine.manifest import Manifest, read_manifest, write_manifest
from lamina.engine.memtable import Memtable
from lamina.engine.obsolete import ObsoleteSegments
from lamina.engine.planning import flush_job, flush_size_bytes, merge_job
from lamina.engine.pool import WorkerPool
from lamina.engine.run import Run, Slice
from lamina.engine.segment import format as fmt
from lamina.engine.segment.reader import SegmentReader
from lamina.engine.trouble import Trouble
from lamina.engine.version import levels_to_records
from lamina.engine.workers import InlineWorker, ProcessWorker, Reply, ThreadWorker, Worker, WorkerDiedError

_TICK_S = 10.0
"""How long the scheduling thread sleeps when nobody wakes it: only forgotten readers' files wait for that."""
_MERGES_AT_ONCE_MAX = 3


class _Running(NamedTuple):
    """A job in the worker's hands. `plan` is None for a flush, `memtable` for a merge."""

    memtable: Memtable | None
    plan: Plan | None
    output_run: int
    first_number: int
    numbers_end: int
    started_s: float
    busy: frozenset[int]
    below: frozenset[int]
    """Of a merge: see `Levels.below`."""


def _running(
    job: FlushJob | MergeJob,
    memtable: Memtable | None,
    plan: Plan | None,
    below: frozenset[int] = frozenset(),
) -> _Running:
    out = job.output
    busy = frozenset() if plan is None else frozenset((*plan.runs, out.run))
    began_s = time.monotonic()
    return _Running(memtable, plan, out.run, out.first_number, out.numbers_end, began_s, busy, below)


class Background:
    """The background work of one database."""

    def __init__(self, database: Host, levels: Levels, settled: Discards, wal_first: int) -> None:
        self._db: Host = weakref.proxy(database)
        self._fs = database.fs
        self._options = database.options
        self._counters = database.counters
        self.levels = levels
        self.settled = settled
        self.wal_first = wal_first
        self._install_lock = threading.RLock()
        self._state = threading.RLock()
        self._changed = threading.Condition(self._state)
        self._running: dict[int, _Running] = {}
        self._next_job_id = 1
        self._is_paused = False
        self._is_closing = False
        self._holds_merges = False
        self._compacting = threading.Lock()
        self.trouble = Trouble()
        self._jobs_lost = 0
        self._is_manifest_in_doubt = False
        self._leftovers: list[int] = []
        self.obsolete = ObsoleteSegments(self._fs)
        self._worker: Worker | None = None
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        if not self._options.read_only:
            self._start()

    def _start(self) -> None:
        kind = self._options.background
        # The worker must not keep a database alive that its owner has dropped.
        receiver = weakref.WeakMethod(self._on_reply)

        def on_reply(reply: Reply) -> None:
            receive = receiver()
            if receive is not None:
                receive(reply)

        if kind == "inline":
            self._worker = InlineWorker(self._fs, on_reply)
            return
        if kind == "thread":
            self._worker = ThreadWorker(self._fs, on_reply)
        elif self._options.workers > 1:
            self._worker = WorkerPool(on_reply, self._options.workers)
        else:
            self._worker = ProcessWorker(on_reply)
        self._thread = threading.Thread(
            target=_schedule_loop, args=(weakref.ref(self), self._wake), name="lamina-background", daemon=True
        )
        self._thread.start()

    @property
    def error(self) -> Exception | None:
        """What stops the work now, if anything does."""
        return self.trouble.error

    @property
    def worker_pid(self) -> int | None:
        """The worker's process id, if there is such a process now."""
        return None if self._worker is None else self._worker.pid

    # -- what the database calls -------------------------------------------------------------------

    def wake(self) -> None:
        """Look for work: a memtable has been sealed. Called without locks. Inline: does the work."""
        if self._thread is not None:
            self._wake.set()
        elif not self._options.read_only:
            self.run_until_idle()

    def run_until_idle(self) -> None:
        """Do all there is to do; for inline background. A failure is kept in `error` and ends the attempt."""
        while self._schedule():
            if self.error is not None:
                return
        self.sweep()  # not earlier: the calls that have just ended still held what they replaced

    def pause(self) -> None:
        """Stop compacting until `resume`; flushes go on."""
        with self._state:
            self._is_paused = True
            if self._worker is not None:
                self._worker.set_paused(True)

    def resume(self) -> None:
        """Compact again."""
        with self._state:
            self._is_paused = False
            if self._worker is not None:
                self._worker.set_paused(False)
        self.wake()

    def wait(self, is_done: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Wait until ``is_done()``, an error that stops the work, or the end; returns whether it is done."""
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while not is_done():
                left_s = None if deadline_s is None else deadline_s - time.monotonic()
                if left_s is not None and left_s <= 0:
                    return False
                if self.error is not None or self._is_closing:
                    return False
                self._changed.wait(min(left_s or 1.0, 1.0))
            return True

    def is_idle(self) -> bool:
        """Whether nothing runs and nothing waits to be done; merges that stand still until `resume` do not
        count."""
        with self._state:
            if len(self._db.view.memtables) > 1:
                return False
            return self._is_paused or (not self._running and self._pick() is None)

    def compact(self, start: bytes, stop: bytes | None) -> None:
        """Merge all runs into one, within a key range. Blocks; flushes go on beside it.

        Goes on although merges are paused: it is asked for. Errors: whatever broke the work off.
        """
        # Where a merge begins and ends segments do, and their bounds are no longer than floors.
        start = start[: fmt.FLOOR_SIZE_MAX]
        if stop is not None and len(stop) > fmt.FLOOR_SIZE_MAX:
            stop = fmt.upper_bound(stop)
        self._hold_worker(False)
        try:
            with self._compacting:
                lost = -1
                while lost != self._jobs_lost:
                    lost = self._jobs_lost
                    self._compact_once(start, stop)
        finally:
            self._hold_worker(True)
            self.sweep()
            self.wake()

    def _hold_worker(self, hold: bool) -> None:
        """Let a paused worker go on for a while, or have it stand still again."""
        with self._state:
            if self._is_paused and self._worker is not None:
                self._worker.set_paused(hold)

    def sweep(self) -> None:
        """Remove the files of segments that nobody reads any more."""
        with self._install_lock:
            self.obsolete.sweep()

    def _compact_once(self, start: bytes, stop: bytes | None) -> None:
        with self._changed:
            self._holds_merges = True  # those that run may finish, others do not begin
        job_id = None
        try:
            if self.wait(lambda: not self._merges()):
                with self._install_lock:
                    job_id = self._begin_compaction(start, stop)
        finally:
            with self._changed:
                self._holds_merges = False
        self.wake()  # from here on, runs that are flushed meanwhile may be merged among themselves
        if job_id is not None:
            self.wait(lambda: job_id not in self._running)
            with self._install_lock:
                pass  # whoever has taken it out may not have noted yet that it was lost
        self._raise_error()

    def _begin_compaction(self, start: bytes, stop: bytes | None) -> int | None:
        runs = [run for run in self.levels.runs if run.overlapping(start, stop)]
        if not runs:
            return None
        level = max(1, max(self.levels.level_of(run.number) for run in runs))
        plan = Plan(tuple(run.number for run in runs), level, "asked for")
        is_clean = not has_garbage(runs[0], self.settled)
        if len(runs) == 1 and is_clean and self.levels.level_of(runs[0].number) > 0:
            return None
        return self._begin_merge(plan, start, stop)

    def _raise_error(self) -> None:
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        """End the worker and the scheduling thread. Unfinished jobs are lost, which harms nothing."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        if self._worker is not None:
            self._worker.close()
        if self._thread is not None:
            self._wake.set()
            if self._thread is not threading.current_thread():
                self._thread.join()
        with self._install_lock:
            self.obsolete.sweep(everything=True)

    def abandon(self) -> None:
        """Leave the work to the parent process: called in the child after a fork."""
        if self._worker is not None:
            self._worker.abandon()

    # -- deciding ----------------------------------------------------------------------------------

    def tick(self) -> float:
        """One round of the scheduling thread; returns how long to sleep at most."""
        if pause_s := self.trouble.pause_s():
            return pause_s
        with contextlib.suppress(ReferenceError):
            self._db.logs.prepare()
        while self._schedule():
            if self.trouble.pause_s():
                break
        self.sweep()
        return self.trouble.pause_s() or (_TICK_S if self.error is None else 0.01)

    @property
    def is_closing(self) -> bool:
        """Whether `close` has been called."""
        return self._is_closing

    def _schedule(self) -> bool:
        """Begin one job if one is due; returns whether that was so."""
        with self._install_lock, self._state:
            if self._is_closing:
                return False
            memtables = self._db.view.memtables
            flushing = any(job.memtable is not None for job in self._running.values())
            if len(memtables) > 1 and not flushing:
                self._begin_flush(memtables[-1])
                return True
            if self._is_paused or self._holds_merges or len(self._merges()) >= _MERGES_AT_ONCE_MAX:
                return False
            plan = self._pick()
            if plan is None:
                return False
            levels_busy = [job.plan.level for job in self._running.values() if job.plan is not None]
            if levels_busy and plan.level >= min(levels_busy):
                return False  # the worker stands a running merge aside only for a more urgent one
            try:
                if self._begin_merge(plan, b"", None) is None:
                    self.trouble.succeeded()  # it was enough to move segments
            except Exception as error:
                self.trouble.failed(error, frozenset(plan.runs))
                return False
            return True

    def _merges(self) -> list[_Running]:
        return [job for job in self._running.values() if job.plan is not None]

    def _pick(self) -> Plan | None:
        busy = {number for job in self._running.values() for number in job.busy} | self.trouble.damaged_runs
        shapes = [
            [
                RunShape(run.number, run.size_bytes, run.number in busy, self.discarded_bytes(run))
                for run in runs
            ]
            for runs in self.levels.levels
        ]
        return pick_compaction(
            shapes,
            flush_size_bytes=flush_size_bytes(self._options),
            level_runs_max=self._options.level_runs_max,
        )

    def discarded_bytes(self, run: Run) -> int:
        """Return about how much of a run lies in discarded ranges that it has not been rid of."""
        try:
            return discarded_bytes(run, self.settled)
        except (OSError, CorruptionError):  # its index cannot be read: whoever reads the run will say so
            return 0

    # -- beginning jobs ----------------------------------------------------------------------------

    def _begin_flush(self, memtable: Memtable) -> None:
        job = flush_job(self._db, memtable, self.settled, is_last=not self.levels.runs)
        self._submit(_running(job, memtable, None), job, memtable)

    def _begin_merge(self, plan: Plan, start: bytes, stop: bytes | None) -> int | None:
        """Start a merge; what needs no rewriting is moved at once. Returns the job's id, None if that was
        all."""
        levels = self.levels
        runs = [run for run in levels.runs if run.number in plan.runs]
        oldest = runs[-1]
        is_last = oldest is levels.runs[-1]
        # A part of the key space says nothing about the rest of the run, which others may overlap.
        is_alone = len(runs) == 1 and not start and stop is None
        stays = levels.level_of(oldest.number) == plan.level
        if is_alone and not stays and not has_garbage(oldest, self.settled):
            self._publish(levels.move_run(oldest.number, plan.level))
            self._counters.moved_runs += 1
            return None
        output_run = oldest.number if stays else self._db.take_numbers(1)
        below = levels.below(output_run, plan.level)
        moved = movable(
            runs,
            self.settled,
            start,
            stop,
            is_last=is_last,
            size_min_bytes=self._options.segment_size_bytes // 2,
        )
        if moved and (len(runs) > 1 or not stays):
            self._publish(levels.move_slices(moved, output_run, plan.level, below))
            self._counters.moved_segments += len(moved)
        job = merge_job(
            self._db,
            plan,
            self.levels,
            self.settled,
            moved,
            start,
            stop,
            output_run=output_run,
            is_last=is_last,
        )
        return None if job is None else self._submit(_running(job, None, plan, below), job, None)

    def _submit(self, running: _Running, job: FlushJob | MergeJob, memtable: Memtable | None) -> int:
        job_id = self._next_job_id
        self._next_job_id += 1
        self._running[job_id] = running
        assert self._worker is not None
        try:
            self._worker.submit(job_id, job, memtable)
        except OSError as error:  # no process can be started
            self._finish(job_id, running, error)
        return job_id

    # -- installing results ------------------------------------------------------------------------

    def _on_reply(self, reply: Reply) -> None:
        """Take in what the worker says. Runs in the worker's thread (inline: inside `submit`)."""
        error = reply.error
        with self._install_lock:
            if isinstance(error, WorkerDiedError) and self.trouble.worker_died(error):
                self._counters.worker_deaths += 1
            running = self._running.get(reply.job_id)
            if self._is_closing:
                return
            if running is None:
                if reply.step is not None:  # of a job that was given up at an earlier step
                    self._remove_segments(reply.step.segments)
                return
            if reply.step is not None:
                try:
                    self._install(running, reply.step)
                except Exception as failure:
                    # Not installed: the inputs are as they were. The job's later steps must not be installed
                    # either.
                    error = failure
            if reply.step is None or error is not None:
                self._finish(reply.job_id, running, error)
        with self._changed:
            self._changed.notify_all()
        if self._thread is not None:
            self._wake.set()

    def _install(self, running: _Running, step: Step) -> None:
        pieces = [Slice.whole(self._db.open_segment(number)) for number in step.segments]
        counters = self._counters
        if running.memtable is not None:
            counters.flush_bytes += step.written_bytes
            self._install_flush(running, running.memtable, pieces)
            return
        counters.compaction_bytes += step.written_bytes
        assert running.plan is not None
        levels = self.levels.apply(
            running.plan.runs,
            step.start,
            step.stop,
            running.output_run,
            running.plan.level,
            pieces,
            running.below,
        )
        self._publish(levels)

    def _install_flush(self, running: _Running, memtable: Memtable, pieces: list[Slice]) -> None:
        levels = self.levels
        if pieces:
            levels = levels.with_run(Run(running.output_run, pieces))
        settled = self.settled.with_ranges(memtable.discards)
        memtables = self._db.view.memtables
        assert memtables[-1] is memtable
        self._publish(levels, settled=settled, wal_first=memtables[-2].wals[0], flushed=memtable)
        self._db.logs.forget(memtable.wals)
        for number in memtable.wals:
            # The manifest no longer names them: what cannot be removed now is swept by the next opening.
            with contextlib.suppress(OSError):
                self._fs.remove(os.path.join(self._db.path, wal_name(number)))

    def _publish(
        self,
        levels: Levels,
        *,
        settled: Discards | None = None,
        wal_first: int | None = None,
        flushed: Memtable | None = None,
    ) -> None:
        """Make `levels` the current ones: first in the manifest, then for readers. Errors: OSError, nothing
        changed."""
        settled = self.settled if settled is None else settled
        levels, settled = settle(levels, settled, may_forget=not self._merges())
        wal_first = self.wal_first if wal_first is None else wal_first
        try:
            write_manifest(self._fs, self._db.path, self.manifest(levels, settled, wal_first))
        except OSError:
            # It may be in place all the same: what it names stays until another one has replaced it.
            self._is_manifest_in_doubt |= not self._is_manifest_unchanged()
            raise
        self._is_manifest_in_doubt = False
        old = {piece.segment.number: piece.segment for piece in self.levels.slices}
        new = {piece.segment.number for piece in levels.slices}
        self.levels, self.settled, self.wal_first = levels, settled, wal_first
        self._db.install_view(levels, settled, flushed)
        self._retire([segment for number, segment in old.items() if number not in new])
        del old
        self.obsolete.sweep()
        leftovers, self._leftovers = self._leftovers, []
        self._remove_segments(leftovers)

    def _is_manifest_unchanged(self) -> bool:
        try:
            found = read_manifest(self._fs, self._db.path)
        except (OSError, EngineError):
            return False
        return found.levels == levels_to_records(self.levels) and found.wal_first == self.wal_first

    def _retire(self, segments: list[SegmentReader]) -> None:
        for segment in segments:
            self.obsolete.add(segment)
            self._db.forget_segment(segment)

    def manifest(self, levels: Levels, settled: Discards, wal_first: int) -> Manifest:
        """Return the manifest that describes this state."""
        return Manifest(
            counted=self._db.counted,
            salt=self._db.salt,
            created_s=self._db.created_s,
            next_number=self._db.next_number,
            wal_first=wal_first,
            levels=levels_to_records(levels),
            discards=list(settled),
            discards_last_number=settled.last_number,
        )

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Keep levels, manifest and files as they are for a moment."""
        with self._install_lock:
            yield

    def _finish(self, job_id: int, running: _Running, error: Exception | None) -> None:
        with self._state:
            self._running.pop(job_id, None)
        elapsed_s = time.monotonic() - running.started_s
        counters = self._counters
        if error is None:
            if running.plan is None:
                counters.flushes += 1
                counters.flush_time_s += elapsed_s
                if running.memtable is not None:
                    self._db.note_flush(running.memtable.size_bytes, elapsed_s)
            else:
                counters.compactions += 1
                counters.compaction_time_s += elapsed_s
                self._forget_discards()
            self.trouble.succeeded()
            return
        numbers = list(range(running.first_number, running.numbers_end))
        if self._is_manifest_in_doubt:
            self._leftovers += numbers
        else:
            self._remove_segments(numbers)
        if isinstance(error, WorkerDiedError) and self.trouble.may_replace_worker():
            self._jobs_lost += 1
            return  # another process is started for the next job
        if running.plan is not None and isinstance(error, FileNotFoundError):
            live = {piece.segment.path for piece in self.levels.slices}
            if error.filename not in live:
                self._jobs_lost += 1
                return  # a discarded range took a whole segment while the job waited: the next plan knows
        self.trouble.failed(error, running.busy)

    def _forget_discards(self) -> None:
        """Forget the discarded ranges that had to be remembered because merges ran."""
        if len(self.settled) and not self._merges():
            _, settled = settle(self.levels, self.settled, may_forget=True)
            if len(settled) < len(self.settled):
                with contextlib.suppress(OSError):  # the next change of the levels will do
                    self._publish(self.levels)

    def _remove_segments(self, numbers: list[int]) -> None:
        """Remove what failed jobs wrote under these numbers and nobody installed."""
        live = {piece.segment.number for piece in self.levels.slices}
        for number in numbers:
            if number not in live:
                path = os.path.join(self._db.path, segment_name(number))
                for name in (path, temporary_name(path)):
                    with contextlib.suppress(OSError):
                        self._fs.remove(name)

    def retry_now(self) -> None:
        """Forget the last error's pause: somebody believes that its cause is gone."""
        self.trouble.retry_now()
        self.wake()


def _schedule_loop(background: weakref.ref[Background], wake: threading.Event) -> None:
    """Body of the scheduling thread: does not keep the database alive."""
    timeout_s = 0.0
    while True:
        wake.wait(timeout_s)
        wake.clear()
        this = background()
        if this is None or this.is_closing:
            return
        try:
            timeout_s = this.tick()
        except ReferenceError:
            return
        except Exception as error:
            this.trouble.failed(error, frozenset())
            timeout_s = 1.0
        del this

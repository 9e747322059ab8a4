"""Several worker processes as one worker: the key ranges of a job are dealt out among them.

A merge is as well done range by range, and each step that comes back can be installed by itself: steps of
different ranges have no key in common, so their order does not matter. Each range goes to the next process
that has nothing to do; who submits a job has cut it into more ranges than there are processes (planning.py).

    submit(job 7: ranges a b c d)      process 1: part 1 = a, then part 3 = c      steps come back as job 7's;
                                       process 2: part 2 = b, then part 4 = d      7 is done when all four are

A part names the inputs that have entries in its range and no others: a segment of which nothing is left to
merge is removed while later parts have not begun yet.

A part that fails fails its job: parts not begun are forgotten, steps of others are still handed on, and who
takes them knows that the job is no more.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial

from lamina.engine.compaction.job import FlushJob, MergeJob, SliceRef, SortJob
from lamina.engine.compaction.layout import AgedRange
from lamina.engine.memtable import Memtable
from lamina.engine.workers import NO_JOB, Job, ProcessWorker, Reply


class _Shared:
    """A job that is being shared: parts not yet dealt out, and how many are at work."""

    __slots__ = ("at_work", "has_failed", "pending")

    def __init__(self, parts: list[Job]) -> None:
        self.pending = deque(parts)
        self.at_work = 0
        self.has_failed = False


class WorkerPool:
    """A `Worker` of several processes. `on_reply` is called from their reader threads, no lock held."""

    def __init__(self, on_reply: Callable[[Reply], None], count: int) -> None:
        self._on_reply = on_reply
        self._lock = threading.Lock()
        self._members = [ProcessWorker(partial(self._relay, member)) for member in range(count)]
        self._parts: list[dict[int, tuple[int, _Shared]]] = [{} for _ in range(count)]
        """For each member: its parts, by number, with the job they belong to."""
        self._next_part = NO_JOB + 1

    @property
    def pid(self) -> int | None:
        """The id of a process that runs, if there is one."""
        return next((pid for member in self._members if (pid := member.pid) is not None), None)

    def submit(self, job_id: int, job: Job, memtable: Memtable | None) -> None:
        """Begin a job with all members. Errors: OSError if no process can be started: it has not begun."""
        shared = _Shared(parts_of(job, len(self._members)))
        with self._lock:
            # Those with least to do first: a flush is one part, and should not wait behind a merge.
            for member in sorted(range(len(self._members)), key=lambda index: len(self._parts[index])):
                if shared.pending:
                    try:
                        self._deal(member, job_id, shared)
                    except OSError:
                        if shared.at_work:
                            return  # those that could be started do it
                        raise

    def _deal(self, member: int, job_id: int, shared: _Shared) -> None:
        """Give a member the next part of a job. The caller holds the lock. Errors: OSError, nothing done."""
        part_id = self._next_part
        self._next_part += 1
        self._parts[member][part_id] = job_id, shared
        try:
            self._members[member].submit(part_id, shared.pending[0], None)
        except OSError:
            del self._parts[member][part_id]
            raise
        shared.pending.popleft()
        shared.at_work += 1

    def _relay(self, member: int, reply: Reply) -> None:
        """Hand on what a member says of a part as what is to be said of its job."""
        if reply.job_id == NO_JOB:
            self._on_reply(reply)
            return
        error = reply.error
        with self._lock:
            job_id, shared = self._parts[member].get(reply.job_id, (NO_JOB, None))
            if shared is None:
                return
            is_news = True
            if reply.step is None:
                del self._parts[member][reply.job_id]
                shared.at_work -= 1
                if error is None and not shared.has_failed and shared.pending:
                    try:
                        self._deal(member, job_id, shared)
                    except OSError as failure:
                        error = failure
                if error is not None:
                    is_news = not shared.has_failed  # a job fails once, however many of its parts do
                    shared.has_failed = True
                    shared.pending.clear()
                else:
                    is_news = not shared.has_failed and not shared.at_work and not shared.pending
        if is_news:
            self._on_reply(Reply(job_id, step=reply.step, error=error))

    def set_paused(self, paused: bool) -> None:
        """Have merges stand still, or go on."""
        for member in self._members:
            member.set_paused(paused)

    def close(self) -> None:
        """End all processes."""
        for member in self._members:
            member.close()

    def abandon(self) -> None:
        """Leave all processes to the parent: called in the child after a fork."""
        for member in self._members:
            member.abandon()


def parts_of(job: Job, members: int) -> list[Job]:
    """Return a job as one job for each of its ranges, which share its file numbers and its rate limit."""
    if isinstance(job, FlushJob | SortJob) or len(job.ranges) < 2:
        return [job]
    out = job.output
    numbers = (out.numbers_end - out.first_number) // len(job.ranges)
    rate = out.rate_limit_bytes_per_s
    shared_rate = max(rate // min(members, len(job.ranges)), 1) if rate else 0
    parts: list[Job] = []
    for index, item in enumerate(job.ranges):
        first = out.first_number + index * numbers
        output = out._replace(
            first_number=first,
            numbers_end=first + numbers,
            age_first=item.age_first,
            age_last=item.age_last,
            rate_limit_bytes_per_s=shared_rate,
        )
        part = job._replace(ranges=[item], output=output)
        if isinstance(part, MergeJob):
            inputs = [[ref for ref in refs if _overlaps(ref, item)] for refs in part.inputs]
            part = part._replace(inputs=[refs for refs in inputs if refs])
        parts.append(part)
    return parts


def _overlaps(ref: SliceRef, item: AgedRange) -> bool:
    return (item.stop is None or ref.start < item.stop) and (ref.stop is None or item.start < ref.stop)

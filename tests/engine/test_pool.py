"""Merges that several worker processes share: how they are cut, dealt out, and put together again."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lamina.engine as engine
from harness.databases import TINY
from harness.trees import Workshop, live
from lamina.engine import pool
from lamina.engine.check import assert_consistent
from lamina.engine.compaction.job import (
    FlushJob,
    MergeJob,
    Output,
    RewriteJob,
    SliceRef,
    Step,
    from_json,
    to_json,
)
from lamina.engine.compaction.layout import AgedRange, divided
from lamina.engine.pool import WorkerPool, parts_of
from lamina.engine.segment.format import FLOOR_SIZE_MAX
from lamina.engine.workers import NO_JOB, Job, Reply, WorkerDiedError

OUTPUT = Output("/db", 128, 1024, True, 10, True, 1, 7, 1, 9, 100, 190, 1000, 5)


def merge_job(*bounds: bytes) -> MergeJob:
    """Return a job over the ranges between bounds, of one run with a segment for each."""
    ranges = [AgedRange(a, b, 1, 9) for a, b in itertools.pairwise(bounds)]
    refs = [SliceRef(n, item.start, item.stop) for n, item in enumerate(ranges, 1)]
    return MergeJob([refs, [SliceRef(50, bounds[0], bounds[-1])]], ranges, True, [], OUTPUT)


# -- cutting ---------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    keys=st.sets(st.binary(min_size=1, max_size=6), min_size=20, max_size=200),
    cuts=st.sets(st.binary(max_size=4), max_size=4),
    size_min_bytes=st.integers(1, 3000),
)
def test_pieces_are_the_ranges_again(keys: set[bytes], cuts: set[bytes], size_min_bytes: int) -> None:
    """They lie side by side, keep their ages, and begin where a segment can."""
    ordered = sorted(keys)
    halves = ordered[: len(ordered) // 2], ordered[len(ordered) // 2 :]
    workshop = Workshop()
    run = workshop.run(*(live(dict.fromkeys(half, b"v")) for half in halves))
    bounds: list[bytes | None] = [*sorted({b"", *cuts}), None]
    ranges = [AgedRange(a or b"", b, n, n + 1) for n, (a, b) in enumerate(itertools.pairwise(bounds))]
    pieces = divided(ranges, run.slices, size_min_bytes)
    for item in ranges:
        inside = [piece for piece in pieces if piece.age_first == item.age_first]
        assert inside[0].start == item.start
        assert inside[-1].stop == item.stop
        assert all(a.stop == b.start for a, b in itertools.pairwise(inside))
        assert all(piece.age_last == item.age_last for piece in inside)
        assert all(len(piece.start) < FLOOR_SIZE_MAX for piece in inside)
    if size_min_bytes > sum(piece.size_bytes for piece in run.slices):
        assert pieces == ranges


def test_hidden_parts_of_a_slice_are_no_place_to_cut() -> None:
    """The segment has an index part for every 256 blocks of one entry; the slice shows some."""
    run = Workshop().run(live({b"%05d" % n: bytes(200) for n in range(1500)}))
    (whole,) = run.slices
    floors = whole.segment.part_floors
    assert len(floors) == 6
    middle = whole.restrict(b"00700", b"01100")
    assert middle is not None
    pieces = divided([AgedRange(b"", None, 1, 1)], [middle], 1)
    assert [piece.start for piece in pieces] == [b"", floors[3], floors[4]]


def test_parts_share_numbers_inputs_and_rate() -> None:
    parts = parts_of(merge_job(b"", b"c", b"f", b"z"), 2)
    assert len(parts) == 3
    taken: set[int] = set()
    for number, part in enumerate(parts, 1):
        assert isinstance(part, MergeJob)
        out = part.output
        assert out.numbers_end - out.first_number == 30
        assert not taken & set(range(out.first_number, out.numbers_end))
        taken |= set(range(out.first_number, out.numbers_end))
        assert out.rate_limit_bytes_per_s == 500
        assert [[ref.number for ref in refs] for refs in part.inputs] == [[number], [50]]
    assert min(taken) >= OUTPUT.first_number
    assert max(taken) < OUTPUT.numbers_end


def test_what_cannot_be_shared_is_one_part() -> None:
    flush = FlushJob([3], False, [], OUTPUT)
    assert parts_of(flush, 4) == [flush]
    single = merge_job(b"", b"z")
    assert parts_of(single, 4) == [single]


def test_a_rewrite_crosses_the_process_boundary() -> None:
    job = RewriteJob("/old", [AgedRange(b"", b"m\xff", 1, 1), AgedRange(b"m\xff", None, 1, 1)], OUTPUT)
    assert from_json(to_json(job)) == job
    assert [part.ranges for part in parts_of(job, 2) if isinstance(part, RewriteJob)] == [
        job.ranges[:1],
        job.ranges[1:],
    ]


# -- dealing out -----------------------------------------------------------------------------------


class FakeWorker:
    """A member that does what the test says."""

    refuses = False

    def __init__(self, on_reply: Callable[[Reply], None]) -> None:
        self.say = on_reply
        self.jobs: dict[int, Job] = {}
        self.calls: list[Any] = []
        self.pid: int | None = None

    def submit(self, job_id: int, job: Job, memtable: object) -> None:
        if self.refuses:
            raise OSError("no process can be started")
        self.jobs[job_id] = job

    def done(self, *, error: Exception | None = None) -> None:
        """Finish the oldest part."""
        job_id = min(self.jobs)
        del self.jobs[job_id]
        self.say(Reply(job_id, error=error))

    def step(self, start: bytes) -> None:
        """Report a step of the oldest part."""
        self.say(Reply(min(self.jobs), step=Step(start, None, [1], 10)))

    def set_paused(self, paused: bool) -> None:
        self.calls.append(paused)

    def close(self) -> None:
        self.calls.append("close")

    def abandon(self) -> None:
        self.calls.append("abandon")


@pytest.fixture
def team(monkeypatch: pytest.MonkeyPatch) -> tuple[WorkerPool, list[FakeWorker], list[Reply]]:
    """Return a pool of two, its members, and what it says."""
    members: list[FakeWorker] = []

    def hire(on_reply: Callable[[Reply], None]) -> FakeWorker:
        members.append(FakeWorker(on_reply))
        return members[-1]

    monkeypatch.setattr(pool, "ProcessWorker", hire)
    replies: list[Reply] = []
    return WorkerPool(replies.append, 2), members, replies


Team = tuple[WorkerPool, list[FakeWorker], list[Reply]]


def said(replies: list[Reply]) -> list[tuple[int, str]]:
    return [(r.job_id, "step" if r.step else "done" if r.error is None else str(r.error)) for r in replies]


def test_each_range_goes_to_who_is_free(team: Team) -> None:
    workers, (one, two), replies = team
    workers.submit(7, merge_job(b"", b"c", b"f", b"z"), None)
    assert (len(one.jobs), len(two.jobs)) == (1, 1)
    two.step(b"c")
    two.done()
    assert len(two.jobs) == 1
    two.done()
    assert said(replies) == [(7, "step")]
    one.step(b"")
    one.done()
    assert said(replies) == [(7, "step"), (7, "step"), (7, "done")]
    assert not one.jobs
    assert not two.jobs


def test_a_flush_goes_to_who_has_least_to_do(team: Team) -> None:
    workers, (one, two), replies = team
    workers.submit(1, merge_job(b"", b"z"), None)
    assert len(one.jobs) == 1
    workers.submit(2, FlushJob([3], False, [], OUTPUT), None)
    assert len(two.jobs) == 1
    two.done()
    assert said(replies) == [(2, "done")]


def test_a_job_fails_once(team: Team) -> None:
    workers, (one, two), replies = team
    workers.submit(7, merge_job(b"", b"c", b"f", b"z"), None)
    one.done(error=ValueError("first"))
    two.step(b"c")  # whoever takes it knows that there is no job 7 any more
    two.done(error=ValueError("second"))
    assert said(replies) == [(7, "first"), (7, "step")]
    assert not one.jobs
    assert not two.jobs


def test_what_was_not_begun_is_forgotten_after_a_failure(team: Team) -> None:
    workers, (one, two), replies = team
    workers.submit(7, merge_job(b"", b"c", b"f", b"k", b"z"), None)
    one.done(error=ValueError("first"))
    two.done()
    assert said(replies) == [(7, "first")]
    assert not two.jobs


def test_the_death_of_a_member_is_one_error(team: Team) -> None:
    """The same object, so that one death counts once."""
    workers, (one, _), replies = team
    workers.submit(7, merge_job(b"", b"c", b"z"), None)
    death = WorkerDiedError("gone")
    one.done(error=death)
    assert replies[0].error is death
    one.say(Reply(NO_JOB, error=death))
    assert (replies[1].job_id, replies[1].error) == (NO_JOB, death)


def test_parts_that_nobody_knows_are_ignored(team: Team) -> None:
    _, (one, _), replies = team
    one.say(Reply(99))
    assert replies == []


def test_no_process_can_be_started(team: Team) -> None:
    workers, (one, two), replies = team
    one.refuses = two.refuses = True
    with pytest.raises(OSError, match="no process"):
        workers.submit(7, merge_job(b"", b"c", b"z"), None)
    one.refuses = two.refuses = False
    workers.submit(8, merge_job(b"", b"z"), None)
    one.done()
    assert said(replies) == [(8, "done")]


def test_one_process_does_what_two_should(team: Team) -> None:
    workers, (one, two), replies = team
    two.refuses = True
    workers.submit(7, merge_job(b"", b"c", b"z"), None)
    one.done()
    one.done()
    assert said(replies) == [(7, "done")]


def test_a_process_that_cannot_be_started_again_fails_the_job(team: Team) -> None:
    workers, (one, two), replies = team
    workers.submit(7, merge_job(b"", b"c", b"f", b"z"), None)
    one.refuses = True
    one.done()
    two.done()
    assert said(replies) == [(7, "no process can be started")]


def test_all_members_are_told(team: Team) -> None:
    workers, (one, two), _ = team
    workers.set_paused(True)
    workers.abandon()
    workers.close()
    assert one.calls == two.calls == [True, "abandon", "close"]
    assert workers.pid is None
    two.pid = 4711
    assert workers.pid == 4711


# -- a database with several workers ---------------------------------------------------------------


@pytest.mark.parametrize("counted", [True, False])
def test_a_database_with_several_workers(tmp_path: Path, counted: bool) -> None:
    """Merges of its own and those that are asked for are shared, and lose nothing."""
    randomness = random.Random(5)
    options = TINY | {
        "background": "process",
        "workers": 3,
        "counted": counted,
        "memtable_size_bytes": 60_000,
    }
    expected: dict[bytes, bytes] = {}
    with engine.open(tmp_path / "db", **options) as db:
        for turn in range(6):
            for _ in range(600):
                key, value = b"%05d" % randomness.randrange(3000), b"%d" % randomness.randrange(1 << 40)
                db.put(key, value)
                expected[key] = value
            for key in randomness.sample(sorted(expected), 100):
                db.delete(key)
                del expected[key]
            if turn == 3:
                db.discard(b"01000", b"01200")
                expected = {k: v for k, v in expected.items() if not b"01000" <= k < b"01200"}
                break
            db.flush(wait=False)
        assert db.wait_idle(60)
        assert_consistent(db)
        assert dict(db.scan()) == expected
        db.compact(b"00500", b"02000")
        assert_consistent(db)
        db.compact()
        assert dict(db.scan()) == expected
        assert len(db.view.runs) == 1
        assert_consistent(db)
    with engine.open(tmp_path / "db", **options) as db:
        assert dict(db.scan()) == expected


def test_a_run_of_few_keys_is_gone_before_the_last_range(tmp_path: Path) -> None:
    """Nothing is left of it once the ranges of its keys are done; ranges between must not ask for it."""
    options = TINY | {"background": "process", "workers": 2, "memtable_size_bytes": 1 << 20}
    for attempt in range(3):
        with engine.open(tmp_path / str(attempt), **options) as db:
            db.pause()
            for number in range(2000):
                db.put(b"%05d" % number, bytes(20))
            db.flush()
            for key in (b"00000", b"01999"):
                db.put(key, b"changed")
            db.flush()
            lost = db._background._jobs_lost
            db.compact()
            assert db._background._jobs_lost == lost
            assert len(db.view.runs) == 1
            assert db.count() == 2000
            assert_consistent(db)

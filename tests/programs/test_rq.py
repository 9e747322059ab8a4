"""RQ: a worker as `rq worker` starts it, with its scheduler, and a server that is killed while it works."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry as Again
from rq import Callback, Queue, Retry
from rq.command import send_stop_job_command
from rq.job import Job, JobStatus
from rq.registry import FailedJobRegistry, FinishedJobRegistry, StartedJobRegistry
from rq.scheduler import RQScheduler
from rq.worker import Worker

from harness.programs import Program, python, wait_until
from harness.servers import Server

JOBS = "rq_jobs"
BATCH = 30
A_DAY_S = 86_400


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Give the file to which jobs write when they run."""
    path = tmp_path / "notes"
    path.touch()
    return path


@pytest.fixture
def worker(server: Server, notes: Path, tmp_path: Path) -> Iterator[Program]:
    arguments = ["--url", f"redis://127.0.0.1:{server.port}", "--path", str(Path(__file__).parent)]
    command = python("-m", "rq.cli", "worker", *arguments, "--with-scheduler", "work")
    with Program("rq-worker", command, tmp_path, {"LAMINA_NOTES": str(notes)}) as program:
        yield program


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with redis.Redis(port=server.port, socket_timeout=20) as client:
        yield client


@pytest.fixture
def work(client: redis.Redis) -> Queue:
    return Queue("work", connection=client)


def status_of(job: Job) -> JobStatus:
    return job.get_status(refresh=True)


def wait_for(job: Job, wanted: JobStatus, worker: Program) -> None:
    wait_until(lambda: status_of(job) == wanted, f"{job.id} is {wanted}", worker)


def test_results_failures_retries_and_schedules(work: Queue, worker: Program, notes: Path) -> None:
    client = work.connection
    first = work.enqueue(f"{JOBS}.square", 7, meta={"asked by": "a test"})
    later = work.enqueue_in(timedelta(seconds=1), f"{JOBS}.square", 8)
    assert later.id in work.scheduled_job_registry
    depending = work.enqueue(f"{JOBS}.square", 9, depends_on=[first, later])
    assert status_of(depending) == JobStatus.DEFERRED
    failing = work.enqueue(f"{JOBS}.fail", on_failure=Callback(f"{JOBS}.note_failure"))
    retried = work.enqueue(f"{JOBS}.fail_at_first", 2, retry=Retry(max=3))
    retried_later = work.enqueue(f"{JOBS}.fail", retry=Retry(max=1, interval=1))
    many = work.enqueue_many(
        [Queue.prepare_data(f"{JOBS}.square", (number,), job_id=f"many-{number}") for number in range(3)]
    )
    unique = work.enqueue(f"{JOBS}.square", 10, job_id="only-one", unique=True)
    urgent = work.enqueue(f"{JOBS}.square", 11, at_front=True)

    for job in (first, later, depending, retried, *many, unique, urgent):
        wait_for(job, JobStatus.FINISHED, worker)
    values = [job.return_value(refresh=True) for job in (first, later, depending, *many, unique, urgent)]
    assert values == [49, 64, 81, 0, 1, 4, 100, 121]
    assert retried.return_value() == "try 3"
    for job in (failing, retried_later):
        wait_for(job, JobStatus.FAILED, worker)
        result = job.latest_result()
        assert result is not None
        assert "ValueError: this job fails" in str(result.exc_string)
    assert notes.read_text().split().count("failed") == 1
    assert set(FailedJobRegistry(queue=work).get_job_ids()) == {failing.id, retried_later.id}
    assert first.id in FinishedJobRegistry(queue=work)
    assert Job.fetch(first.id, connection=client).meta == {"asked by": "a test"}

    # A result that is waited for comes over a stream; a command to the worker over publish and subscribe.
    slow = work.enqueue(f"{JOBS}.wait_for_gate", 12, str(notes.with_name("never")))
    wait_for(slow, JobStatus.STARTED, worker)
    assert [one.get_current_job_id() for one in Worker.all(connection=client)] == [slow.id]
    send_stop_job_command(client, slow.id)
    outcome = slow.latest_result(timeout=20)
    assert outcome is not None
    wait_for(slow, JobStatus.STOPPED, worker)
    assert work.count == 0


class Producer(threading.Thread):
    """Enqueues jobs without a pause and remembers those whose enqueueing was acknowledged."""

    def __init__(self, port: int) -> None:
        super().__init__(name="producer", daemon=True)
        # Without retries: what is not acknowledged is not counted.
        client = redis.Redis(port=port, retry=Again(NoBackoff(), 0), socket_timeout=20)
        self.work = Queue("work", connection=client)
        self.acknowledged: list[str] = []
        self.refused = 0
        self.is_done = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.is_done.is_set():
            number += 1
            try:
                self.acknowledged.append(
                    self.work.enqueue(f"{JOBS}.square", 1000 + number, retry=Retry(3)).id
                )
                time.sleep(0.005)
            except redis.ConnectionError:
                self.refused += 1
                time.sleep(0.02)


def test_a_killed_server_loses_no_job(
    server: Server, work: Queue, worker: Program, notes: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    batch = [
        work.enqueue(f"{JOBS}.square", number, job_id=f"batch-{number}", retry=Retry(3))
        for number in range(BATCH // 2)
    ]
    held = work.enqueue(f"{JOBS}.wait_for_gate", 100, str(gate), retry=Retry(3))
    batch += [
        work.enqueue(f"{JOBS}.square", number, job_id=f"batch-{number}", retry=Retry(3))
        for number in range(BATCH // 2, BATCH)
    ]
    scheduled = work.enqueue_in(timedelta(seconds=1), f"{JOBS}.square", 200)
    wait_until(lambda: "waits 100" in notes.read_text(), "half of the batch is done", worker)

    # Killed in the middle of a job and of a flow of new ones. The job ends while there is no server.
    producer = Producer(server.port)
    producer.start()
    wait_until(lambda: len(producer.acknowledged) >= 10, "jobs are enqueued", worker)
    server.kill()
    gate.touch()
    wait_until(lambda: "square 100" in notes.read_text(), "the job ends", timeout_s=20)
    wait_until(lambda: producer.refused, "the producer has met the end")
    server.start()
    before = len(producer.acknowledged)
    wait_until(lambda: len(producer.acknowledged) >= before + 10, "jobs are enqueued again")
    producer.is_done.set()
    producer.join(20)

    found = [job for job in Job.fetch_many(producer.acknowledged, connection=work.connection) if job]
    assert len(found) == len(producer.acknowledged), "an acknowledged job has vanished"
    jobs = [*batch, held, scheduled, *found]

    def all_are_done() -> bool:
        if not worker.is_running:
            worker.start()
            forget_dead_workers(work.connection)
        # A job whose process could not tell its end is taken up again when its time is over. RQ's own upkeep
        # does this after minutes; here it is told that a day has gone by.
        if not work.count and not held_by_workers(work.connection):
            StartedJobRegistry(queue=work).cleanup(time.time() + A_DAY_S)
        return all(status_of(job) == JobStatus.FINISHED for job in jobs)

    wait_until(all_are_done, "every job is done")
    done = notes.read_text().splitlines()
    expected = {*range(BATCH), 100, 200} | {job.args[0] for job in jobs if job.args[0] > 1000}
    assert {f"square {number}" for number in expected} <= set(done)
    for job in jobs:
        assert job.return_value() == job.args[0] ** 2
    assert work.count == 0


def forget_dead_workers(client: redis.Redis) -> None:
    """End what a worker that has gone without a word still holds: by itself it would after minutes."""
    for one in Worker.all(connection=client):
        if not Path(f"/proc/{one.pid}").exists():
            one.register_death()
    client.delete(RQScheduler.get_locking_key("work"))


def held_by_workers(client: redis.Redis) -> list[str]:
    """Return the jobs that workers are at."""
    found = [one.get_current_job_id() for one in Worker.all(connection=client)]
    return [job_id for job_id in found if job_id]

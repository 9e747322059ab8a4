"""Celery: a worker process, its broker and its results on one server, which is killed while it works."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
from celery import Celery, chain, chord, group
from celery.result import AsyncResult
from programs import celery_tasks

from harness.programs import Program, python, wait_until
from harness.servers import Server

BATCH = 20
RESULT_S = 40


def url_of(server: Server) -> str:
    return f"redis://127.0.0.1:{server.port}/0"


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Give the file to which tasks write when they run."""
    path = tmp_path / "notes"
    path.touch()
    return path


@pytest.fixture
def worker(server: Server, notes: Path, tmp_path: Path) -> Iterator[Program]:
    options = ["--pool", "solo", "--concurrency", "1", "--without-mingle", "--loglevel", "INFO"]
    command = python("-m", "celery", "--app", "celery_tasks", "worker", *options)
    environment = {
        "LAMINA_URL": url_of(server),
        "LAMINA_NOTES": str(notes),
        "PYTHONPATH": str(Path(__file__).parent),
    }
    with Program("celery-worker", command, tmp_path, environment) as program:
        yield program


@pytest.fixture
def app(server: Server) -> Iterator[Celery]:
    with celery_tasks.make_app(url_of(server)) as app:
        yield app
        gc.collect()  # results that lie in cycles ask the server to forget them: while there is one


def test_tasks_chains_chords_and_results(app: Celery, worker: Program, notes: Path) -> None:
    square, add, total = (app.signature(name) for name in ("square", "add", "total"))
    plain = square.clone((7,)).delay()
    soon = square.clone((8,)).apply_async(countdown=0.5)
    at = square.clone((9,)).apply_async(eta=datetime.now(UTC) + timedelta(seconds=0.5))
    late = square.clone((10,)).apply_async(countdown=0.3, expires=0.1)
    urgent = square.clone((11,)).apply_async(priority=0)
    assert plain.get(RESULT_S) == 49
    assert AsyncResult(plain.id, app=app).args == [7]
    assert [result.get(RESULT_S) for result in (soon, at, urgent)] == [64, 81, 121]

    assert chain(square.clone((2,)), add.clone((3,)), add.clone((4,))).delay().get(RESULT_S) == 11
    squares = group(square.clone((number,)) for number in range(10)).delay()
    assert squares.get(RESULT_S) == [number**2 for number in range(10)]
    together = chord([square.clone((number,)) for number in range(10)], total).delay()
    assert together.get(RESULT_S) == 285

    with pytest.raises(ValueError, match="this task fails"):
        app.send_task("fail").get(RESULT_S)
    assert app.send_task("fail_at_first", (2,)).get(RESULT_S) == 2
    broken = chord([square.clone((1,)), app.signature("fail")], total).delay()
    with pytest.raises(Exception, match="this task fails"):
        broken.get(RESULT_S)

    steps = app.send_task("slow_steps")
    wait_until(lambda: steps.state == "HALF", "the progress is told", worker)
    assert steps.info == {"done": 1, "of": 2}
    notes.with_name("seen").touch()
    assert steps.get(RESULT_S) == "done"

    wait_until(lambda: late.state == "REVOKED", "the task has expired", worker)
    assert "square 10" not in notes.read_text().splitlines()
    plain.forget()
    assert plain.state == "PENDING"
    # Broadcasts go by publish and subscribe, answers by queues.
    pongs = app.control.ping(timeout=10, limit=1)
    assert [list(pong.values()) for pong in pongs] == [[{"ok": "pong"}]]


def test_a_killed_server_loses_no_task(
    server: Server, app: Celery, worker: Program, notes: Path, tmp_path: Path
) -> None:
    square = app.signature("square")
    gate = tmp_path / "gate"
    first = [square.clone((number,)).delay() for number in range(BATCH)]
    held = app.signature("wait_for_gate", (100, str(gate))).delay()
    timed = square.clone((200,)).apply_async(countdown=1)
    together = chord([square.clone((number,)) for number in range(300, 310)], app.signature("total")).delay()
    linked = chain(square.clone((2,)), app.signature("add", (3,))).delay()
    wait_until(lambda: "waits 100" in notes.read_text(), "the first half is done", worker)

    # Killed in the middle of a task, with others fetched and not begun. It ends while there is no server.
    with redis.Redis(port=server.port) as client:
        assert client.llen("lamina") + client.hlen("unacked") >= 11
    server.kill()
    gate.touch()
    wait_until(lambda: "square 100" in notes.read_text(), "the task ends", timeout_s=20)
    server.start()

    more = [square.clone((number,)).delay() for number in range(400, 410)]
    squares = dict(enumerate(first))
    squares |= {100: held, 200: timed} | {400 + number: result for number, result in enumerate(more)}

    def all_are_done() -> bool:
        worker.keep_running()
        return all(result.ready() for result in (*squares.values(), together, linked))

    wait_until(all_are_done, "every task is done", worker)
    assert {number: result.get() for number, result in squares.items()} == {n: n**2 for n in squares}
    assert together.get() == sum(number**2 for number in range(300, 310))
    assert linked.get() == 7
    done = notes.read_text().splitlines()
    assert {f"square {number}" for number in (*squares, *range(300, 310), 2)} | {"total"} <= set(done)
    with redis.Redis(port=server.port) as client:
        wait_until(lambda: not client.llen("lamina") + client.hlen("unacked"), "all is acknowledged", worker)

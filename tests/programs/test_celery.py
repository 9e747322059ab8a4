"""Celery with its broker and its results here: a real worker, and a server that is killed while it works."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from programs.celery_tasks import make_app

from harness.programs import Program, python, wait_until
from harness.servers import Server

BATCH = 30
RESULT_S = 40.0


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Give the file to which tasks write when they run."""
    path = tmp_path / "notes"
    path.touch()
    return path


@pytest.fixture
def worker(server: Server, notes: Path, tmp_path: Path) -> Iterator[Program]:
    options = ["--pool", "solo", "--without-gossip", "--without-mingle", "--loglevel", "INFO"]
    command = python("-m", "celery", "-A", "celery_tasks", "worker", *options)
    environment = {
        "LAMINA_NOTES": str(notes),
        "LAMINA_PORT": str(server.port),
        "PYTHONPATH": str(Path(__file__).parent),
    }
    with Program("celery-worker", command, tmp_path, environment) as program:
        yield program


@pytest.fixture
def app(server: Server) -> Iterator[Celery]:
    app = make_app(server.port)
    yield app
    app.close()


def task(app: Celery, name: str, *arguments: Any, **options: Any) -> Any:
    """Return the signature of a task of the worker's."""
    return app.signature(f"celery_tasks.{name}", args=arguments, **options)


def test_results_retries_and_compositions(app: Celery, worker: Program) -> None:
    simple = task(app, "add", 1, 2).apply_async()
    assert simple.get(timeout=RESULT_S) == 3
    failing = task(app, "fail").apply_async()
    with pytest.raises(Exception, match="this task fails"):
        failing.get(timeout=RESULT_S)
    assert failing.state == "FAILURE"
    assert task(app, "fail_at_first", 2).apply_async().get(timeout=RESULT_S) == 2

    soon = datetime.now(UTC) + timedelta(seconds=1)
    later = task(app, "add", 3, 4).apply_async(eta=soon)
    chained = chain(task(app, "add", 1, 1), task(app, "add", 10), task(app, "add", 100), app=app)()
    several = group([task(app, "add", n, n) for n in range(10)], app=app)()
    summed = chord([task(app, "add", n, 0) for n in range(10)], app=app)(task(app, "total"))
    assert chained.get(timeout=RESULT_S) == 112
    assert several.get(timeout=RESULT_S) == [2 * n for n in range(10)]
    assert summed.get(timeout=RESULT_S) == 45
    assert later.get(timeout=RESULT_S) == 7
    assert datetime.now(UTC) >= soon

    revoked = task(app, "add", 5, 6).apply_async(countdown=60)
    assert worker.is_running
    assert app.control.ping(timeout=5)
    app.control.revoke(revoked.id)
    simple.forget()
    assert app.AsyncResult(simple.id).state == "PENDING"


def test_a_killed_server_loses_no_task(
    app: Celery, server: Server, worker: Program, notes: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    results = [task(app, "add", n, 1000).apply_async() for n in range(BATCH // 2)]
    held = task(app, "wait_for_gate", str(gate)).apply_async()
    results += [task(app, "add", n, 1000).apply_async() for n in range(BATCH // 2, BATCH)]
    wait_until(lambda: "waits" in notes.read_text(), "half of the batch is done", worker)

    server.kill()
    gate.touch()
    server.start()

    def all_are_done() -> bool:
        worker.keep_running()
        return all(result.ready() for result in [held, *results])

    wait_until(all_are_done, "every task is done")
    assert held.get(timeout=RESULT_S) == "passed"
    assert [result.get(timeout=RESULT_S) for result in results] == [n + 1000 for n in range(BATCH)]
    assert {f"add {n} 1000" for n in range(BATCH)} <= set(notes.read_text().splitlines())

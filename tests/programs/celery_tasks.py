"""Tasks of a Celery worker, noted in the file $LAMINA_NOTES. Broker and results are at $LAMINA_URL."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery

GATE_S = 60.0


def make_app(url: str) -> Celery:
    """Return the application, for the worker and for those who send it tasks."""
    app = Celery("lamina-programs", broker=url, backend=url)
    app.conf.update(
        broker_connection_retry_on_startup=True,
        # What a worker had fetched when it lost its server comes again after a second, not after an hour.
        broker_transport_options={
            "visibility_timeout": 1,
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
        },
        # Without it, a result that cannot be stored at once makes a failure of its task.
        result_backend_always_retry=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        task_default_queue="lamina",
        task_track_started=True,
        result_extended=True,
    )
    return app


app = make_app(os.environ.get("LAMINA_URL", "redis://127.0.0.1"))


def note(word: str) -> None:
    """Append a line to the notes."""
    with Path(os.environ["LAMINA_NOTES"]).open("a") as notes:
        notes.write(f"{word}\n")


@app.task(name="square")
def square(number: int) -> int:
    note(f"square {number}")
    return number * number


@app.task(name="add")
def add(left: int, right: int) -> int:
    return left + right


@app.task(name="total")
def total(numbers: list[int]) -> int:
    note("total")
    return sum(numbers)


@app.task(name="wait_for_gate")
def wait_for_gate(number: int, gate: str) -> int:
    """Be in the middle of the work until the test makes the file `gate`."""
    note(f"waits {number}")
    deadline_s = time.monotonic() + GATE_S
    while not Path(gate).exists():
        if time.monotonic() > deadline_s:
            raise TimeoutError(gate)
        time.sleep(0.01)
    note(f"square {number}")
    return number * number


@app.task(name="fail")
def fail() -> None:
    raise ValueError("this task fails")


@app.task(name="fail_at_first", bind=True, max_retries=3)
def fail_at_first(self: Any, times: int) -> int:
    """Work when it has been tried more than `times` times."""
    if self.request.retries < times:
        raise self.retry(countdown=0.05)
    return int(self.request.retries)


@app.task(name="slow_steps", bind=True)
def slow_steps(self: Any) -> str:
    """Tell of the progress."""
    self.update_state(state="HALF", meta={"done": 1, "of": 2})
    note("half")
    deadline_s = time.monotonic() + GATE_S
    while not Path(os.environ["LAMINA_NOTES"]).with_name("seen").exists() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    return "done"

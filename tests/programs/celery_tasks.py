"""Tasks that a Celery worker runs, each noted in the file $LAMINA_NOTES; the broker is at $LAMINA_PORT."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery

GATE_S = 60.0


def make_app(port: int) -> Celery:
    """Return an application with its broker and its results in two databases of a server."""
    app = Celery(
        "lamina",
        broker=f"redis://127.0.0.1:{port}/0",
        backend=f"redis://127.0.0.1:{port}/1",
        set_as_current=False,
    )
    app.conf.update(
        # A task is acknowledged when it is done, and what is not acknowledged for so long is given out again.
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        broker_transport_options={"visibility_timeout": 3},
        result_backend_always_retry=True,
        broker_connection_retry_on_startup=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
    )
    return app


app = make_app(int(os.environ.get("LAMINA_PORT", "6379")))


def note(word: str) -> None:
    """Append a line."""
    with Path(os.environ["LAMINA_NOTES"]).open("a") as notes:
        notes.write(f"{word}\n")


@app.task
def add(a: int, b: int) -> int:
    """A task that works."""
    note(f"add {a} {b}")
    return a + b


@app.task
def total(numbers: list[int]) -> int:
    """A task that takes the results of others."""
    return sum(numbers)


@app.task
def wait_for_gate(gate: str) -> str:
    """A task that is in the middle of its work until the test makes the file `gate`."""
    note("waits")
    deadline_s = time.monotonic() + GATE_S
    while not Path(gate).exists():
        if time.monotonic() > deadline_s:
            raise TimeoutError(gate)
        time.sleep(0.01)
    return "passed"


@app.task(bind=True, max_retries=3)
def fail_at_first(self: Any, times: int) -> int:
    """A task that works when it has been tried `times` times."""
    if self.request.retries < times:
        raise self.retry(countdown=0.1)
    return int(self.request.retries)


@app.task
def fail() -> None:
    """A task that never works."""
    raise ValueError("this task fails")

"""Jobs that an RQ worker runs, each noted in the file $LAMINA_NOTES; a worker imports this by its name."""

from __future__ import annotations

import os
import time
from pathlib import Path

from redis import Redis
from rq.job import Job

GATE_S = 60.0


def note(word: str) -> None:
    """Append a line. O_APPEND: processes that write at the same time do not mix."""
    descriptor = os.open(os.environ["LAMINA_NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, f"{word}\n".encode())
    finally:
        os.close(descriptor)


def square(number: int) -> int:
    """A job that works."""
    note(f"square {number}")
    return number * number


def wait_for_gate(number: int, gate: str) -> int:
    """A job that is in the middle of its work until the test makes the file `gate`."""
    note(f"waits {number}")
    deadline_s = time.monotonic() + GATE_S
    while not Path(gate).exists():
        if time.monotonic() > deadline_s:
            raise TimeoutError(gate)
        time.sleep(0.01)
    return square(number)


def fail() -> None:
    """A job that never works."""
    raise ValueError("this job fails")


def fail_at_first(times: int) -> str:
    """A job that works when it has been tried `times` times."""
    note("tried")
    tries = Path(os.environ["LAMINA_NOTES"]).read_text().split().count("tried")
    if tries <= times:
        raise ConnectionResetError(f"try {tries}")
    return f"try {tries}"


def note_failure(job: Job, connection: Redis, kind: type[Exception], error: Exception, trace: object) -> None:
    """What is called when a job has failed."""
    assert connection.exists(job.key)
    note("failed")

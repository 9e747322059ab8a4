"""Where jobs run: in a worker process (worker.py), in a thread, or inline.

Between the engine and its worker process go frames, ``size:u32`` and JSON. The engine sends ``{"id", "job"}``
and ``{"pause"}``; the worker answers each job with any number of ``{"id", "step"}`` and one ``{"id",
"done"}`` or ``{"id", "error"}``. A job that arrives while another runs is more urgent (a flush during a
merge): the running one stands still until it is done.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import IO, Any, Protocol

from lamina.engine.compaction.job import (
    FlushJob,
    MergeJob,
    RewriteJob,
    SortJob,
    Step,
    run_flush,
    run_merge,
    step_from_json,
    step_to_json,
    to_json,
)
from lamina.engine.errors import ContradictionError, CorruptionError, DuplicateKeyError, EngineError
from lamina.engine.filesystem import FileSystem
from lamina.engine.memtable import Memtable
from lamina.engine.rewriting import run_rewrite
from lamina.engine.sorting import run_sort

_SIZE = struct.Struct("<I")

NO_JOB = 0
"""Stands for a job in the reply about a worker that died while it had none."""

Job = FlushJob | MergeJob | RewriteJob | SortJob


class Reply:
    """What became of a job: a step that may be installed, its end, or the error that broke it off."""

    __slots__ = ("error", "job_id", "step")

    def __init__(self, job_id: int, *, step: Step | None = None, error: Exception | None = None) -> None:
        self.job_id = job_id
        self.step = step
        self.error = error


class WorkerDiedError(EngineError):
    """The worker process ended before its job did."""


class Worker(Protocol):
    """Takes jobs and reports on them."""

    @property
    def pid(self) -> int | None:
        """The process id, None if the worker is no process or has none now."""

    def submit(self, job_id: int, job: Job, memtable: Memtable | None) -> None:
        """Begin a job; `memtable` is what a flush job's logs hold, for those that share our memory."""

    def set_paused(self, paused: bool) -> None:
        """Have merges stand still, or go on. Flushes are not affected."""

    def close(self) -> None:
        """End the worker, whatever it is doing."""

    def abandon(self) -> None:
        """Leave the worker to the parent process: called in the child after a fork."""


class _Stopped(BaseException):
    """Raised inside a job when the worker is to end."""


class JobRunner:
    """Runs jobs one inside the other, as they arrive in `inbox`; used by the worker process and the worker
    thread."""

    def __init__(self, fs: FileSystem, send: Callable[[Reply], None]) -> None:
        self.inbox: queue.SimpleQueue[tuple[int, Job, Memtable | None] | bool | None] = queue.SimpleQueue()
        self._fs = fs
        self._send = send
        self._paused = False

    def loop(self) -> None:
        """Run until None is put into the inbox."""
        with contextlib.suppress(_Stopped):
            while True:
                self._take(self.inbox.get())

    def _take(self, item: tuple[int, Job, Memtable | None] | bool | None) -> None:
        if item is None:
            raise _Stopped
        if isinstance(item, bool):
            self._paused = item
        else:
            self.run(*item)

    def _checkpoint(self) -> None:
        while self._paused or not self.inbox.empty():
            self._take(self.inbox.get())

    def _wait(self, seconds: float) -> None:
        """Sleep for the rate limiter, but wake for what is urgent."""
        with contextlib.suppress(queue.Empty):
            self._take(self.inbox.get(timeout=seconds))

    def run(self, job_id: int, job: Job, memtable: Memtable | None) -> None:
        """Carry out one job and report on it."""
        try:
            if isinstance(job, FlushJob):
                self._send(Reply(job_id, step=run_flush(self._fs, job, memtable)))
            elif isinstance(job, SortJob):
                self._send(Reply(job_id, step=run_sort(self._fs, job)))
            else:
                if isinstance(job, MergeJob):
                    steps = run_merge(self._fs, job, self._checkpoint, self._wait)
                else:
                    steps = run_rewrite(self._fs, job, self._checkpoint, self._wait)
                for step in steps:
                    self._send(Reply(job_id, step=step))
        except Exception as error:
            self._send(Reply(job_id, error=error))
        else:
            self._send(Reply(job_id))


class InlineWorker:
    """Runs a job inside `submit`."""

    pid = None

    def __init__(self, fs: FileSystem, on_reply: Callable[[Reply], None]) -> None:
        self._runner = JobRunner(fs, on_reply)

    def submit(self, job_id: int, job: Job, memtable: Memtable | None) -> None:
        self._runner.run(job_id, job, memtable)

    def set_paused(self, paused: bool) -> None:
        """Nothing runs between calls."""

    def close(self) -> None:
        """Nothing to end."""

    def abandon(self) -> None:
        """Nothing to leave."""


class ThreadWorker:
    """Runs jobs in a thread of this process."""

    pid = None

    def __init__(self, fs: FileSystem, on_reply: Callable[[Reply], None]) -> None:
        self._runner = JobRunner(fs, on_reply)
        self._thread = threading.Thread(target=self._runner.loop, name="lamina-worker", daemon=True)
        self._thread.start()

    def submit(self, job_id: int, job: Job, memtable: Memtable | None) -> None:
        self._runner.inbox.put((job_id, job, memtable))

    def set_paused(self, paused: bool) -> None:
        self._runner.inbox.put(paused)

    def close(self) -> None:
        self._runner.inbox.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def abandon(self) -> None:
        """Nothing to leave: a fork copies no threads."""


class ProcessWorker:
    """Runs jobs in a process of their own, beside this interpreter's lock.

    `on_reply` is called from a reader thread. When the process ends unasked, every job it had gets the error
    `WorkerDiedError`, and the next `submit` starts another process.
    """

    def __init__(self, on_reply: Callable[[Reply], None]) -> None:
        self._on_reply = on_reply
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._jobs: set[int] = set()
        self._closed = False
        self._paused = False

    @property
    def pid(self) -> int | None:
        """The process id, None while no process runs."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    def submit(self, job_id: int, job: Job, memtable: Memtable | None) -> None:
        with self._lock:
            if self._closed:
                return
            self._jobs.add(job_id)
            if self._process is None:
                self._start()
            self._send({"id": job_id, "job": to_json(job)})

    def set_paused(self, paused: bool) -> None:
        with self._lock:
            self._paused = paused
            if self._process is not None and not self._closed:
                self._send({"pause": paused})

    def close(self) -> None:
        with self._lock:
            self._closed = True
            process = self._process
        if process is not None:
            process.kill()  # what it has not finished is not installed: nothing to wait for
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                with contextlib.suppress(OSError):
                    pipe.close()

    def abandon(self) -> None:
        """Close our copies of the pipes: while anybody holds one, the worker would outlive its parent."""
        process = self._process
        if process is not None:
            process.returncode = 0  # not our child: there is nothing to wait for
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                with contextlib.suppress(OSError):
                    pipe.close()

    def _start(self) -> None:
        # The child finds this package wherever the parent found it ("" is the current folder), and imports
        # nothing of the parent's program. -P: no module in the current folder hides one of the library.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path or os.curdir for path in sys.path)}
        self._process = process = subprocess.Popen(
            [sys.executable, "-P", "-m", "lamina.engine.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            bufsize=0,
        )
        threading.Thread(target=self._read, args=(process,), name="lamina-worker-reader", daemon=True).start()
        if self._paused:
            self._send({"pause": True})

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process is not None and self._process.stdin is not None
        with contextlib.suppress(OSError):  # a dead worker is noticed by the reader
            write_frame(self._process.stdin, message)

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        try:
            while (message := read_frame(process.stdout)) is not None:
                reply = reply_from_json(message)
                if reply.step is None:
                    self._jobs.discard(reply.job_id)
                self._on_reply(reply)
        except (OSError, ValueError):
            pass  # the pipe broke in the middle of a frame
        with self._lock:
            if self._closed:
                return
            self._process = None
            lost, self._jobs = sorted(self._jobs), set()
        process.kill()  # it may have closed its output and live
        status = process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        # One error for all its jobs, so that one death is counted once; for none as well.
        error = WorkerDiedError(f"the worker process ended with status {status}")
        for job_id in lost or [NO_JOB]:
            self._on_reply(Reply(job_id, error=error))


def write_frame(pipe: IO[bytes], message: dict[str, Any]) -> None:
    """Write one message."""
    data = json.dumps(message, separators=(",", ":")).encode()
    view = memoryview(_SIZE.pack(len(data)) + data)
    while view:
        view = view[pipe.write(view) :]


def read_frame(pipe: IO[bytes]) -> dict[str, Any] | None:
    """Read one message; None at the end of the stream. Errors: ValueError in the middle of a frame."""
    head = _read_exactly(pipe, _SIZE.size)
    if not head:
        return None
    (size,) = _SIZE.unpack(head)
    message: dict[str, Any] = json.loads(_read_exactly(pipe, size))
    return message


def _read_exactly(pipe: IO[bytes], size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        part = pipe.read(size)
        if not part:
            if parts:
                raise ValueError("stream ends inside a frame")
            return b""
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def reply_to_json(reply: Reply) -> dict[str, Any]:
    """Return a reply as JSON-able data."""
    if reply.step is not None:
        return {"id": reply.job_id, "step": step_to_json(reply.step)}
    error = reply.error
    if error is None:
        return {"id": reply.job_id, "done": True}
    if isinstance(error, DuplicateKeyError):
        return {"id": reply.job_id, "error": {"kind": "duplicate", "facts": [error.key.hex()]}}
    if isinstance(error, ContradictionError):
        facts = [error.path, error.key.hex(), error.newer, error.older]
        return {"id": reply.job_id, "error": {"kind": "contradiction", "facts": facts}}
    if isinstance(error, CorruptionError):
        facts = [error.path, error.offset, error.what, repr(error.expected), repr(error.found)]
        return {"id": reply.job_id, "error": {"kind": "corruption", "facts": facts}}
    if isinstance(error, OSError):
        facts = [error.errno, error.strerror, error.filename if isinstance(error.filename, str) else None]
        return {"id": reply.job_id, "error": {"kind": "os", "facts": facts}}
    return {"id": reply.job_id, "error": {"kind": "other", "facts": [repr(error)]}}


def reply_from_json(message: dict[str, Any]) -> Reply:
    """Inverse of `reply_to_json`."""
    job_id = message["id"]
    if "step" in message:
        return Reply(job_id, step=step_from_json(message["step"]))
    if "error" not in message:
        return Reply(job_id)
    kind, facts = message["error"]["kind"], message["error"]["facts"]
    error: Exception
    if kind == "corruption":
        error = CorruptionError(*facts)
    elif kind == "duplicate":
        error = DuplicateKeyError(bytes.fromhex(*facts))
    elif kind == "contradiction":
        path, key, newer, older = facts
        error = ContradictionError(path, bytes.fromhex(key), newer, older)
    elif kind == "os":
        error = OSError(*facts)
    else:
        error = EngineError(*facts)
    return Reply(job_id, error=error)

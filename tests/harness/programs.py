"""Programs of others as child processes of a test: workers, and scripts that are talked with.

    with Program("rq", [sys.executable, "-m", "rq.cli", "worker"], tmp_path) as worker:
        wait_until(lambda: job.is_finished, "the job is done", worker)

    with Dialogue("bullmq", ["node", "bullmq.mjs", str(server.port)], tmp_path) as script:
        script.follow({"kill": server.kill, "start": server.start})

What a program prints is in its `log()`, and the end of that in what a failing wait says. Every wait is
bounded and waits for a condition. A program is a session of its own: it is ended by its id, asked first
(SIGTERM), and what it has started and left goes with it. A program that is killed, or that gives up while the
server is away, can be started again, as a supervisor would do.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from harness.local import check_server
from harness.servers import TESTED_SERVER, Server
from lamina.server import server as servers
from lamina.server.config import Config

WAIT_S = 60.0
STOP_S = 15.0
SETTLED = "ok"
"""What a script of a Dialogue prints at its end."""

Condition = Callable[[], object]


class ProgramError(AssertionError):
    """A program did not do what it had to; the end of its log is in the text."""


class Program:
    """A child process that can be ended and started again."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        directory: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.directory = directory
        self.environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}
        # Of the tests' own run: coverage, asserts and warnings of a program of others are its own affair.
        self.environment.pop("PYTHONWARNINGS", None)
        self.log_path = directory / f"{name}.log"
        self.starts = 0
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the process."""
        assert not self.is_running, f"{self.name} is running"
        self.starts += 1
        with self.log_path.open("ab") as log:
            self.process = self._open(log)

    def _open(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command,
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def keep_running(self) -> None:
        """Start the process again if it has ended: what a supervisor does."""
        if not self.is_running:
            self.start()

    def stop(self) -> None:
        """Ask the process to end, and make it if it takes long; nothing happens if it has ended."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the process at once (SIGKILL)."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        process = self.process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
        # The group has the leader's id, which is not given away before the leader has been waited for and the
        # last of the group has ended.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(STOP_S)
        self.process = None

    def log(self) -> str:
        """Return all that the program has printed."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_end(self) -> str:
        """Return its last lines."""
        return f"--- {self.name}\n" + "\n".join(self.log().splitlines()[-60:])


class Dialogue(Program):
    """A script that tells by a line what it wants done, goes on when it reads that, and ends with `ok`."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        directory: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(name, command, directory, environment)
        self.lines: queue.Queue[str | None] = queue.Queue()

    def _open(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            self.command,
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
        # A thread: reading the pipe has no time limit, and taking from the queue has.
        threading.Thread(target=self._read, args=(process.stdout,), daemon=True).start()
        return process

    def _read(self, output: IO[bytes]) -> None:
        with output:
            for line in output:
                self.lines.put(line.decode(errors="replace").rstrip("\n"))
        self.lines.put(None)

    def _end(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        super()._end(number)

    def follow(self, deeds: Mapping[str, Callable[[], object]], *, timeout_s: float = WAIT_S) -> None:
        """Do what the script asks for until it has ended well. Each word of `deeds` must be asked for."""
        asked: set[str] = set()
        deadline_s = time.monotonic() + timeout_s
        while (line := self._next_line(deadline_s)) != SETTLED:
            if line not in deeds:
                raise ProgramError(f"{self.name} said {line!r}\n{self.log_end()}")
            asked.add(line)
            deeds[line]()
            assert self.process is not None
            assert self.process.stdin is not None
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        assert asked == set(deeds), f"{self.name} has not asked for {set(deeds) - asked}"
        assert self.process is not None
        status = self.process.wait(max(1.0, deadline_s - time.monotonic()))
        assert status == 0, f"{self.name} ended with {status}\n{self.log_end()}"

    def _next_line(self, deadline_s: float) -> str:
        try:
            line = self.lines.get(timeout=max(0.0, deadline_s - time.monotonic()))
        except queue.Empty:
            raise ProgramError(f"{self.name} went silent\n{self.log_end()}") from None
        if line is None:
            raise ProgramError(f"{self.name} ended early\n{self.log_end()}")
        return line


def wait_until(condition: Condition, what: str, *programs: Program, timeout_s: float = WAIT_S) -> None:
    """Wait until `condition` returns what counts as true. `programs` must go on running meanwhile."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        ended = [program.name for program in programs if not program.is_running]
        if ended or time.monotonic() > deadline_s:
            trouble = f"{', '.join(ended)} ended" if ended else f"not after {timeout_s} s"
            logs = "\n".join(program.log_end() for program in programs)
            raise ProgramError(f"{what}: {trouble}\n{logs}")
        time.sleep(0.02)


def python(*arguments: str) -> list[str]:
    """Return the command line of a Python program in the environment of the tests."""
    return [sys.executable, *arguments]


def check_directory(server: Server) -> None:
    """Stop a server, open its database in this process, and assert that its invariants hold."""
    if server.is_running:
        assert server.stop() == 0, server.log()[-4000:]
    if TESTED_SERVER == "redis":
        return
    config = Config()
    config.load_arguments(["--dir", str(server.data)])
    opened = servers.Server(config, engine_options={"background": "inline"})
    try:
        check_server(opened)
    finally:
        opened.close()

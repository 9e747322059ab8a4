"""Real server processes for tests: redis-server, the reference, and Lamina's own.

    with LaminaServer(tmp_path, "--memory", "4mb") as server:
        with server.client() as client:
            client.call("PING")
        server.kill()                             # -9
        server.start()                            # on the same directory and port

A server listens on 127.0.0.1, on a port that was free, and works in a directory of its own; what it prints is
in `server.log()`. Waiting for it to listen and to end is bounded. Processes are ended by their id, and those
that a test has left are killed when the interpreter ends.

Fixtures (import those you need into a conftest.py):

    redis_server, lamina_server     one for the session; tests empty it themselves (FLUSHALL)
    tiny_lamina_server              the same with a memtable of some KB: everything is flushed and compacted
    start_redis, start_lamina       make servers of the test's own: start_lamina("--appendfsync", "always")

LAMINA_TESTED_SERVER=redis puts a redis-server in Lamina's place. Tests must pass like that as well: it shows
that they ask for what Redis does and that their comparisons are not stricter than two equal servers allow.
"""

from __future__ import annotations

import atexit
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from harness.resp import RespClient

READY = b"Ready to accept connections"
START_S = 30.0
STOP_S = 30.0

TINY_MEMTABLES = ("--memory", "2mb", "--memtable-size", "16kb")
"""Lamina's flags under which a few hundred writes are flushed and compacted several times."""

TESTED_SERVER = os.environ.get("LAMINA_TESTED_SERVER", "lamina")

# Outside of the ephemeral range, or another connection's own port may take the one that is free now.
_PORTS = range(18000, 32000)
_PORT_ATTEMPTS = 5

_running: set[subprocess.Popen[bytes]] = set()


class ServerError(Exception):
    """A server did not start or end as it must; the end of its log is in the text."""


def free_port() -> int:
    """Return a port that nothing listens on at this moment."""
    # The system's randomness: several test processes look at once, and Hypothesis seeds `random`.
    chance = random.SystemRandom()
    while True:
        port = chance.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


class Server:
    """A server process that can be ended and started again on the same directory and port.

    `directory` gets a folder `data` and the log. Flags are given as on the command line; a value among
    `flags` that is a Path is passed first, as a configuration file is.
    """

    name = "server"

    def __init__(self, directory: Path, *flags: str | Path, port: int | None = None) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.data.mkdir(parents=True, exist_ok=True)
        self.log_path = directory / f"{self.name}.log"
        self.configuration = [str(flag) for flag in flags if isinstance(flag, Path)]
        self.flags = [flag for flag in flags if isinstance(flag, str)]
        self.port = port or 0
        self._port_is_given = port is not None
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """Return the command line."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def __repr__(self) -> str:
        return f"<{self.name} on port {self.port}, {self.data}>"

    @property
    def pid(self) -> int:
        """The process id; the server must be running."""
        assert self.process is not None, f"{self.name} is not running"
        return self.process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the process and wait until it listens."""
        assert not self.is_running, f"{self.name} is running"
        attempts = 1 if self.port else _PORT_ATTEMPTS
        for attempt in range(attempts):
            if not self._port_is_given and not self.port:
                self.port = free_port()
            if self._start_once():
                return
            if attempt + 1 < attempts and "in use" in self.log():
                self.port = 0  # taken by somebody since we looked
                continue
            raise ServerError(f"{self.name} did not start\n{' '.join(self.command())}\n{self._log_end()}")

    def _start_once(self) -> bool:
        written = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            process = subprocess.Popen(
                self.command(), cwd=self.data, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.process = process
        _running.add(process)
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            with self.log_path.open("rb") as log:
                log.seek(written)
                if READY in log.read():
                    return True
            if process.poll() is not None:
                break
            time.sleep(0.003)
        self.kill()
        return False

    def stop(self) -> int:
        """Ask the process to end (SIGTERM), wait until it has, and return its exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the process at once (SIGKILL); nothing happens if it has ended."""
        if self.process is not None:
            self._end(signal.SIGKILL)

    def wait(self, timeout_s: float = STOP_S) -> int:
        """Wait until the process ends by itself, after SHUTDOWN say, and return its exit status."""
        process = self.process
        assert process is not None, f"{self.name} is not running"
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise ServerError(f"{self.name} did not end in {timeout_s} s\n{self._log_end()}") from None
        finally:
            _running.discard(process)
            self.process = None
        return status

    def _end(self, number: signal.Signals) -> int:
        assert self.process is not None, f"{self.name} is not running"
        self.process.send_signal(number)
        return self.wait()

    def restart(self, *, kill: bool = False) -> None:
        """End the process, cleanly or by SIGKILL, and start it again."""
        if kill:
            self.kill()
        else:
            self.stop()
        self.start()

    def client(self, *, protocol: int = 2, timeout_s: float | None = None) -> RespClient:
        """Return a new connection."""
        if timeout_s is None:
            return RespClient(self.port, protocol=protocol)
        return RespClient(self.port, protocol=protocol, timeout_s=timeout_s)

    def log(self) -> str:
        """Return all that the server has printed, earlier starts included."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def _log_end(self) -> str:
        return "\n".join(self.log().splitlines()[-30:])


class RedisServer(Server):
    """The real one. It keeps nothing on disk unless flags say so."""

    name = "redis"

    def command(self) -> list[str]:
        """Return redis-server's command line."""
        binary = shutil.which("redis-server")
        if binary is None:
            raise ServerError("redis-server is not installed")
        fixed = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.data)]
        plain = ["--save", "", "--appendonly", "no", "--enable-debug-command", "yes"]
        return [binary, *self.configuration, *fixed, *plain, *self.flags]


class LaminaServer(Server):
    """Lamina's."""

    name = "lamina"

    def command(self) -> list[str]:
        """Return the command line of `lamina serve`."""
        fixed = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.data)]
        fixed += ["--enable-debug-command", "yes"]
        program = [sys.executable, "-m", "lamina.tools", "serve"]
        return [*program, *self.configuration, *fixed, *self.flags]


class RedisInstead(RedisServer):
    """A redis-server in Lamina's place: it keeps its data, and ignores the flags that only Lamina has."""

    name = "redis-instead"

    def command(self) -> list[str]:
        """Return redis-server's command line."""
        own = {"--memory", "--memtable-size"}
        flags = iter(self.flags)
        kept: list[str] = []
        for flag in flags:
            if flag in own:
                next(flags)
            else:
                kept.append(flag)
        command = super().command()
        at = len(command) - len(self.flags)
        return [*command[:at], "--appendonly", "yes", *kept]


def tested_server(directory: Path, *flags: str | Path) -> Server:
    """Return Lamina's server, or what LAMINA_TESTED_SERVER puts in its place; it is not started."""
    if TESTED_SERVER == "redis":
        return RedisInstead(directory, *flags)
    return LaminaServer(directory, *flags)


def has_redis() -> bool:
    """Tell whether a redis-server is installed."""
    return shutil.which("redis-server") is not None


NO_REDIS = "needs redis-server to compare with (Debian: apt install redis-server)"


@atexit.register
def _kill_leftovers() -> None:
    for process in list(_running):
        process.kill()


# Fixtures


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Server]:
    """Start one redis-server for the session."""
    if not has_redis():
        pytest.skip(NO_REDIS)
    with tempfile.TemporaryDirectory(prefix="redis-") as directory, RedisServer(Path(directory)) as server:
        yield server


@pytest.fixture(scope="session")
def lamina_server() -> Iterator[Server]:
    """Start one Lamina server for the session."""
    yield from _session_server("lamina-")


@pytest.fixture(scope="session")
def tiny_lamina_server() -> Iterator[Server]:
    """Start one Lamina server with tiny memtables for the session."""
    yield from _session_server("lamina-tiny-", *TINY_MEMTABLES)


def _session_server(prefix: str, *flags: str) -> Iterator[Server]:
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix=prefix))
        server = stack.enter_context(tested_server(Path(directory), "--appendfsync", "no", *flags))
        yield server
        # What a session of tests has done to it must not keep it from ending as it should.
        if server.is_running:
            assert server.stop() == 0, server.log()[-4000:]


StartServer = Callable[..., Server]


@pytest.fixture
def start_lamina(tmp_path: Path) -> Iterator[StartServer]:
    """Start Lamina servers with flags of the test's own; each has a directory of its own."""
    yield from _starter(tmp_path, tested_server)


@pytest.fixture
def start_redis(tmp_path: Path) -> Iterator[StartServer]:
    """Start redis-servers with flags of the test's own."""
    if not has_redis():
        pytest.skip(NO_REDIS)
    yield from _starter(tmp_path, RedisServer)


def _starter(directory: Path, make: Callable[..., Server]) -> Iterator[StartServer]:
    with ExitStack() as stack:

        def start(*flags: str | Path) -> Server:
            server = make(Path(tempfile.mkdtemp(dir=directory)), *flags)
            return stack.enter_context(server)

        yield start


__all__ = [
    "LaminaServer",
    "NO_REDIS",
    "READY",
    "RedisInstead",
    "RedisServer",
    "Server",
    "ServerError",
    "StartServer",
    "TESTED_SERVER",
    "TINY_MEMTABLES",
    "free_port",
    "has_redis",
    "lamina_server",
    "redis_server",
    "start_lamina",
    "start_redis",
    "tested_server",
    "tiny_lamina_server",
]

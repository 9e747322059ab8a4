"""How do we start servers and watch them from outside, so that both are treated alike?

redis-server and Lamina are started with the same flags in directories of their own, drive their load from
processes beside, and are read through /proc: CPU and memory of the server's process and, apart, of the
processes that it has started (Lamina's worker; Redis's children that rewrite the append-only file).
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from measure import cpu_time_of, descendants, peak_memory_bytes, resident_memory_bytes

REDIS_FLAGS = ("--appendonly", "yes", "--appendfsync", "everysec", "--save", "")
"""What Lamina promises by default: all acknowledged survives the process, all but a second a power cut."""

START_S = 600.0
STOP_S = 600.0
SERVERS = ("redis", "lamina")
_PIECE_BYTES = 1 << 16


class BenchmarkError(Exception):
    """A server or a load generator did not do what it was told."""


class Server:
    """A server in a directory of its own; `flags` are added to the command line."""

    def __init__(self, name: str, directory: Path, flags: Sequence[str] = ()) -> None:
        self.name = name
        self.directory = directory
        self.flags = list(flags)
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.children_peak_bytes = 0
        directory.mkdir(parents=True, exist_ok=True)

    def command(self) -> list[str]:
        """Return the command line."""
        common = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)]
        if self.name == "redis":
            binary = shutil.which("redis-server")
            if binary is None:
                raise BenchmarkError("redis-server is not installed")
            return [binary, *common, *REDIS_FLAGS, *self.flags]
        return [sys.executable, "-m", "lamina.tools", "serve", *common, *self.flags]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the server if it is running."""
        if self.process is not None:
            self.end(signal.SIGKILL)

    @property
    def pid(self) -> int:
        """The process id of the server, which must be running."""
        assert self.process is not None
        return self.process.pid

    def start(self) -> float:
        """Start the server; return the seconds until it has answered a PING."""
        log = (self.directory / "server.log").open("ab")
        with log:
            begun = time.perf_counter()
            self.process = subprocess.Popen(
                self.command(), cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        while time.perf_counter() - begun < START_S:
            if self.process.poll() is not None:
                raise BenchmarkError(f"{self.name} did not start:\n{self.log_end()}")
            try:
                with Connection(self.port, timeout_s=5) as connection:
                    # A redis-server that is loading listens already, and answers -LOADING.
                    if connection.call("PING") == "PONG":
                        return time.perf_counter() - begun
            except OSError:
                pass
            time.sleep(0.002)
        raise BenchmarkError(f"{self.name} did not answer within {START_S} s")

    def end(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Send a signal and wait for the end; return the seconds that took."""
        process, self.process = self.process, None
        assert process is not None
        children = descendants(process.pid)
        begun = time.perf_counter()
        process.send_signal(number)
        process.wait(STOP_S)
        took = time.perf_counter() - begun
        # A worker ends by itself when its server's pipe closes; nothing may still write when it starts again.
        while any(map(_exists, children)) and time.perf_counter() - begun < STOP_S:
            time.sleep(0.01)
        return took

    def log_end(self) -> str:
        """Return the last lines that the server has printed."""
        return "\n".join((self.directory / "server.log").read_text(errors="replace").splitlines()[-20:])

    def cpu_s(self) -> tuple[float, float]:
        """Return the CPU seconds used so far by the server's process and by those that it has started."""
        return cpu_time_of(self.pid), sum(map(cpu_time_of, descendants(self.pid))) + self._waited_for_s()

    def _waited_for_s(self) -> float:
        """CPU of children that have ended: fields 16 and 17 of stat, in ticks of 10 ms."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[13]) + int(fields[14])) / 100

    def memory(self) -> dict[str, int]:
        """Return resident sizes in bytes: the server's now and at its peak, its children's the same."""
        children = descendants(self.pid)
        self.children_peak_bytes = max(self.children_peak_bytes, sum(map(peak_memory_bytes, children)))
        return {
            "server_bytes": resident_memory_bytes(self.pid),
            "server_peak_bytes": peak_memory_bytes(self.pid),
            "children_bytes": sum(map(resident_memory_bytes, children)),
            "children_peak_bytes": self.children_peak_bytes,
        }

    def connect(self, timeout_s: float = 600.0) -> Connection:
        """Return a connection."""
        return Connection(self.port, timeout_s=timeout_s)


def _exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def free_port() -> int:
    """Return a port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextlib.contextmanager
def directory_for(keep: Path | None) -> Iterator[Path]:
    """Give the folder asked for, or a temporary one."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="lamina-benchmark-") as directory:
        yield Path(directory)


# A client


def encode(words: Sequence[Any]) -> bytes:
    """Return a command as it is sent."""
    pieces = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word if isinstance(word, bytes) else str(word).encode()
        pieces.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(pieces)


class Connection:
    """A blocking connection that understands the replies of RESP2."""

    def __init__(self, port: int, *, timeout_s: float = 600.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self.socket.makefile("rb", _PIECE_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send encoded commands."""
        self.socket.sendall(data)

    def read(self) -> Any:
        """Return one reply. Errors: BenchmarkError if it is an error, or if the connection was closed."""
        line = self._file.readline()
        kind, rest = line[:1], line[1:-2]
        match kind:
            case b"+":
                return rest.decode()
            case b":":
                return int(rest)
            case b"$":
                size = int(rest)
                return None if size < 0 else self._file.read(size + 2)[:-2]
            case b"*":
                return [self.read() for _ in range(int(rest))]
            case b"-" if rest.startswith(b"LOADING"):
                return rest.decode()
            case _:
                raise BenchmarkError(f"replied {line!r}" if line else "the connection was closed")

    def call(self, *words: Any) -> Any:
        """Send one command and return its reply."""
        self.send(encode(words))
        return self.read()

    def pipeline(self, commands: Sequence[bytes]) -> None:
        """Send encoded commands at once and read that many replies."""
        self.send(b"".join(commands))
        for _ in commands:
            self.read()


def wait_until_idle(server: Server, quiet_s: float = 0.5, timeout_s: float = 1200.0) -> float:
    """Wait until neither the server nor its children have used CPU for a while; return the seconds waited.

    A server that has timers and is sent PINGs is never quite idle: a tenth of a core passes for rest.
    """
    begun = time.perf_counter()
    before, since = sum(server.cpu_s()), begun
    while time.perf_counter() - begun < timeout_s:
        time.sleep(quiet_s)
        now, at = sum(server.cpu_s()), time.perf_counter()
        if now - before < 0.1 * (at - since):
            return since - begun
        before, since = now, at
    raise BenchmarkError(f"{server.name} was not at rest after {timeout_s} s")


# Scripts


STEP = 2_654_435_761
"""A prime: no count of keys that a machine can hold is a multiple of it."""


def shuffled(index: int, count: int) -> int:
    """Return the number that comes at `index` in an order of 0 .. count - 1 that looks random."""
    return index * STEP % count


def names_of(allowed: Sequence[str]) -> Any:
    """Return a parser of comma-separated names."""

    def parse(text: str) -> list[str]:
        chosen = [word.strip() for word in text.split(",") if word.strip()]
        for word in chosen:
            if word not in allowed:
                raise argparse.ArgumentTypeError(f"{word} is none of {', '.join(allowed)}")
        return [word for word in allowed if word in chosen]

    return parse


def progress(text: str, *, last: bool = False) -> None:
    """Show a line on standard error, overwritten on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="\n" if last else "", file=sys.stderr, flush=True)
    elif last:
        print(text, file=sys.stderr, flush=True)

"""A server without sockets, for tests of commands.

    def test_append(local: LocalClient) -> None:
        assert local("APPEND", "k", "ab") == 2
        other = local.connect()                 # a second client of the same server
        local.clock.advance(1500)               # time stands still otherwise
        local.reload()                          # closes and reopens the database: nothing is cached

The engine is tiny (memtables of some KB), so that data lies in many layers, and lives in memory. When a test
ends, every database is held against its invariants, engine's and server's.

A call runs one command, ends the turn, and returns the reply as a Python value: errors are returned as
`CommandError`, simple strings as bytes. `local.raw(...)` returns the bytes instead, `local.pushed()` what was
sent out of band or after a wait.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from harness.databasechecks import check_databases
from harness.databases import TINY
from harness.memory_filesystem import MemoryFileSystem
from lamina.engine.check import assert_consistent
from lamina.engine.filesystem import FileSystem
from lamina.server import commands
from lamina.server.client import Client
from lamina.server.clock import ManualClock
from lamina.server.config import Config
from lamina.server.connection import Connection
from lamina.server.dispatch import run_commands
from lamina.server.errors import CommandError
from lamina.server.server import Server

GROUPS = commands.GROUPS


class Wire:
    """Stands in the place of a transport: keeps what is written."""

    def __init__(self) -> None:
        self.data = b""
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.data += data

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.is_closed

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class LocalClient:
    """A client of a server in this process."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.wire = Wire()
        connection = Connection(server)
        connection.transport = self.wire  # type: ignore[assignment]
        self.client = connection.client = Client(server, connection)
        self.client.address = f"127.0.0.1:{10000 + self.client.id}"
        self.client.local_address = "127.0.0.1:6379"
        server.add_client(self.client)

    @property
    def clock(self) -> ManualClock:
        clock = self.server.clock
        assert isinstance(clock, ManualClock)
        return clock

    def connect(self) -> LocalClient:
        """Return another client of the same server."""
        return LocalClient(self.server)

    def run(self, *commands: tuple[Any, ...]) -> None:
        """Run commands as one pipeline, in one turn."""
        argvs = [[as_bytes(argument) for argument in command] for command in commands]
        client = self.client
        if client.wait is not None or client.pending:
            client.pending.extend(argvs)
        else:
            run_commands(client, argvs)
        self.turn()

    def turn(self) -> None:
        """End the turn, and those that follow of themselves."""
        server = self.server
        server.end_tick()
        while server._resuming or server.is_tick_due:
            server.run_resumed()
            server.end_tick()

    def raw(self, *arguments: Any) -> bytes:
        """Run a command; returns all that was sent to this client since the last call."""
        self.run(arguments)
        data, self.wire.data = self.wire.data, b""
        return data

    def __call__(self, *arguments: Any) -> Any:
        """Run a command; returns its reply as a Python value."""
        self.pushed()
        replies = parse_all(self.raw(*arguments))
        assert len(replies) == 1, f"{arguments} had {len(replies)} replies: {replies}"
        return replies[0]

    def pipeline(self, *commands: tuple[Any, ...]) -> list[Any]:
        """Run commands in one turn; returns their replies."""
        self.pushed()
        self.run(*commands)
        return self.pushed()

    def pushed(self) -> list[Any]:
        """Return what was sent since the last call."""
        data, self.wire.data = self.wire.data, b""
        return parse_all(data)

    def wait_out(self, elapsed_ms: int) -> None:
        """Let time pass, and everything happen that was to happen by then."""
        self.clock.advance(elapsed_ms)
        self.server._on_timeout()
        while not self.server.cron.run():  # a round is bounded in time, and machines may be slow
            pass
        self.turn()

    def reload(self) -> None:
        """Close the database and open it again."""
        self.server.reopen()


def together(*runs: tuple[LocalClient, Sequence[Sequence[Any]]]) -> list[list[Any]]:
    """Run commands of several clients of one server in one turn; returns the replies of each."""
    for client, pipeline in runs:
        client.pushed()
        run_commands(client.client, [[as_bytes(word) for word in command] for command in pipeline])
    runs[0][0].turn()
    return [client.pushed() for client, _ in runs]


def as_bytes(argument: Any) -> bytes:
    if isinstance(argument, bytes):
        return argument
    return str(argument).encode() if not isinstance(argument, float) else repr(argument).encode()


def parse_all(data: bytes) -> list[Any]:
    """Return all replies in `data`, RESP2 or RESP3, as Python values; pushes are ``("push", [...])``."""
    replies = []
    at = 0
    while at < len(data):
        reply, at = parse_reply(data, at)
        replies.append(reply)
    return replies


def parse_reply(data: bytes, at: int) -> tuple[Any, int]:
    """Return the reply that begins at `at`, and where it ends."""
    end = data.index(b"\r\n", at)
    kind, text = data[at : at + 1], data[at + 1 : end]
    at = end + 2
    if kind == b"+":
        return text, at
    if kind == b"-":
        return CommandError(text), at
    if kind == b":":
        return int(text), at
    if kind == b"_":
        return None, at
    if kind == b"#":
        return text == b"t", at
    if kind == b",":
        return float(text), at
    if kind == b"(":
        return int(text), at
    size = int(text)
    if size < 0:
        return None, at
    if kind in b"$=":
        body = data[at : at + size]
        assert data[at + size : at + size + 2] == b"\r\n"
        return body if kind == b"$" else body[4:], at + size + 2
    items = []
    for _ in range(size * 2 if kind == b"%" else size):
        item, at = parse_reply(data, at)
        items.append(item)
    if kind == b"%":
        return dict(zip(items[::2], items[1::2], strict=True)), at
    if kind == b"~":
        return set(items), at
    return ("push", items) if kind == b">" else items, at


def check_server(server: Server) -> None:
    """Assert that the engine's and the databases' invariants hold."""
    check_databases(server.databases)
    server.databases.commit()
    assert_consistent(server.databases.store.db)


@dataclasses.dataclass
class Servers:
    """Makes servers, and closes them."""

    servers: list[Server] = dataclasses.field(default_factory=list)

    def make(self, *, fs: FileSystem | None = None, **options: Any) -> LocalClient:
        """Return a client of a new server; `options` are configuration parameters under Python's names."""
        config = Config()
        config.load_arguments(
            [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        )
        fs = fs or MemoryFileSystem()
        server = Server(config, clock=ManualClock(), engine_options=TINY | {"fs": fs})
        self.servers.append(server)
        return LocalClient(server)

    def close(self) -> None:
        """Hold every server against its invariants, and close it."""
        for server in self.servers:
            try:
                if server.write_error is None:
                    check_server(server)
            finally:
                server.close()


@pytest.fixture
def make_local() -> Iterator[Servers]:
    """Make servers of one's own configuration: ``make_local.make(databases=4)``."""
    servers = Servers()
    yield servers
    servers.close()


@pytest.fixture
def local(make_local: Servers) -> LocalClient:
    """A client of a new server with the default configuration."""
    return make_local.make()

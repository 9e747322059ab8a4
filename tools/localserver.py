"""A server without sockets: runs commands in this process, on a database of its own.

    with LocalServer("/data/new.partial") as server:
        server.run(argvs, offsets)

Commands are run as those of one client in a pipeline, and committed together. Nothing waits: blocking
commands do what they do in a transaction. With `is_timeless` no key expires, as when Redis reads its
append-only file: what has expired since is removed at the end, by `expire`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final

import hiredis

from lamina.server import commands
from lamina.server.client import Client
from lamina.server.clock import Clock, TimelessClock
from lamina.server.config import Config
from lamina.server.connection import Connection
from lamina.server.databases import Databases
from lamina.server.dispatch import run_commands
from lamina.server.expiry import expire_due
from lamina.server.registry import COMMANDS, Command
from lamina.server.server import Server

GROUPS: Final = commands.GROUPS
"""Importing the commands is what fills the registry."""

DATABASES: Final = 1024
"""Databases that commands can select."""

_MEMORY_BYTES_MIN: Final = 16 << 20
_AT_ONCE: Final = 512
_MORE_NEEDED: Final = object()
_OTHERS: Final = frozenset(b"select multi exec discard ping eval evalsha script fcall".split())
"""Commands that are run although no flag of theirs says that they read or write keys."""


class _Wire:
    """Stands in the place of a transport: keeps what is written."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.pieces.append(data)

    def close(self) -> None: ...

    abort = close

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class CommandFailedError(Exception):
    """A command of a file could not be run. `offset` is where it begins."""

    def __init__(self, offset: int, argv: Sequence[bytes], what: str) -> None:
        super().__init__(f"offset {offset}: the command {_shown(argv)} has failed: {what}")
        self.offset = offset


OnFailure = Callable[[CommandFailedError], None]


class LocalServer:
    """`on_failure` is told of commands that have failed, and raises if that is not to be borne."""

    def __init__(
        self,
        path: str,
        *,
        is_timeless: bool,
        memory: int,
        on_failure: OnFailure,
    ) -> None:
        """Open or create the database at `path`. Errors: as `lamina.engine.open`."""
        config = Config()
        settings = {
            "dir": os.path.dirname(path) or os.curdir,
            "dbdirname": os.path.basename(path),
            "save": "",
            "databases": str(DATABASES),
            "memory": str(max(memory, _MEMORY_BYTES_MIN)),
            "client-query-buffer-limit": str(1 << 40),  # a transaction may be of any size
        }
        config.load_arguments([word for name, text in settings.items() for word in (f"--{name}", text)])
        self._server = Server(config, clock=TimelessClock() if is_timeless else Clock())
        # There is nobody else to be served: writes may wait for flushes and merges.
        self._server.databases.store.db.waits_for_room = True
        self._server.denies_blocking = True
        self._on_failure = on_failure
        self._wire = _Wire()
        connection = Connection(self._server)
        connection.transport = self._wire  # type: ignore[assignment]
        self._client = connection.client = Client(self._server, connection)
        self._server.add_client(self._client)
        self._replies = hiredis.Reader(notEnoughData=_MORE_NEEDED)
        self._refused: dict[bytes, bool] = {}

    def __enter__(self) -> LocalServer:
        return self

    def __exit__(self, *error: object) -> None:
        self._server.close()

    @property
    def is_in_transaction(self) -> bool:
        """Whether a MULTI has not been followed by its EXEC."""
        return self._client.queue is not None

    def run(self, argvs: list[list[bytes]], offsets: list[int]) -> None:
        """Run commands and commit them; `offsets` say where they begin in their file.

        Errors: what `on_failure` raises; OSError, EngineError from the engine.
        """
        for at in range(0, len(argvs), _AT_ONCE):
            some, places = argvs[at : at + _AT_ONCE], offsets[at : at + _AT_ONCE]
            refused = list(map(self._is_refused, some))
            if any(refused):
                self._run_allowed(some, places, refused)
            else:
                self._run_some(some, places)

    def _run_allowed(self, argvs: list[list[bytes]], offsets: list[int], refused: list[bool]) -> None:
        """Run the commands that may be run, and tell of the others, in order."""
        begin = 0
        for at, is_refused in enumerate([*refused, True]):
            if not is_refused:
                continue
            if begin < at:
                self._run_some(argvs[begin:at], offsets[begin:at])
            begin = at + 1
            if at < len(argvs):
                what = "it is none that reads or writes keys"
                self._on_failure(CommandFailedError(offsets[at], argvs[at], what))

    def _is_refused(self, argv: list[bytes]) -> bool:
        """Tell whether a command is not run: it has nothing to do with keys, and might do harm."""
        name = argv[0]
        is_refused = self._refused.get(name)
        if is_refused is None:
            is_refused = _is_refused(name.upper())
            if len(self._refused) < 1024:
                self._refused[name] = is_refused
        return is_refused

    def _run_some(self, argvs: list[list[bytes]], offsets: list[int]) -> None:
        server, client = self._server, self._client
        server.clock.tick()
        run_commands(client, argvs)
        failure = server.end_tick()
        while client.pending and failure is None:  # replies were too large for one turn
            server.run_resumed()
            failure = server.end_tick()
        if failure is not None:
            raise OSError(f"what has been written cannot be committed: {server.write_error or failure}")
        replies = self._replies
        replies.feed(b"".join(self._wire.pieces))
        self._wire.pieces.clear()
        for argv, offset in zip(argvs, offsets):
            reply = replies.gets()
            errors = reply if isinstance(reply, list) and argv[0].upper() == b"EXEC" else [reply]
            for error in errors:
                if isinstance(error, hiredis.ReplyError):
                    self._on_failure(CommandFailedError(offset, argv, str(error)))

    def discard_transaction(self) -> None:
        """Forget a transaction that has not been ended."""
        self.run([[b"DISCARD"]], [0])


def expire(databases: Databases) -> int:
    """Remove all keys and fields that have expired by now; returns how many keys. Errors: OSError and
    EngineError."""
    databases.clock.tick()
    damaged: set[tuple[int, bytes]] = set()
    is_done = False
    while not is_done:
        is_done = expire_due(databases, damaged)
        databases.commit()
    return databases.expired_keys


def _is_refused(name: bytes) -> bool:
    command: Command | None = COMMANDS.get(name)
    if command is None or command.wire_name in _OTHERS:
        return False  # one that does not exist has its reply, an error
    named = [command, *command.subcommands.values()]  # XGROUP itself has no flags
    return not any({"write", "readonly"} & set(one.flags) for one in named)


def _shown(argv: Sequence[bytes]) -> str:
    text = b" ".join(argv[:4])[:80].decode("ascii", "backslashreplace")
    return f"'{text}{' ...' if len(argv) > 4 else ''}'"

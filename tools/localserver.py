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
from lamina.server.clock import Clock, ManualClock
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
_LONG_AGO_MS: Final = 1
_MORE_NEEDED: Final = object()
_OTHERS: Final = frozenset((b"select", b"multi", b"exec", b"discard", b"ping"))
"""Commands that neither read nor write keys and are run all the same."""

_STREAMS: Final = frozenset("XADD XDEL XTRIM XSETID XGROUP XACK XCLAIM XAUTOCLAIM XREADGROUP".split())
_FUNCTIONS: Final = frozenset(("FUNCTION", "FCALL"))
_SCRIPTS: Final = frozenset(("EVAL", "EVALSHA", "SCRIPT"))


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
OnUnsupported = Callable[[str], None]


class LocalServer:
    """`on_failure` is told of commands that have failed, and raises if that is not to be borne;
    `on_unsupported` of those that belong to what Lamina does not have, by kind: they are left out."""

    def __init__(
        self,
        path: str,
        *,
        is_timeless: bool,
        memory: int,
        on_failure: OnFailure,
        on_unsupported: OnUnsupported,
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
        self._server = Server(config, clock=ManualClock(_LONG_AGO_MS) if is_timeless else Clock())
        # There is nobody else to be served: writes may wait for flushes and merges.
        self._server.databases.store.db.waits_for_room = True
        self._server.denies_blocking = True
        self._on_failure = on_failure
        self._on_unsupported = on_unsupported
        self._wire = _Wire()
        connection = Connection(self._server)
        connection.transport = self._wire  # type: ignore[assignment]
        self._client = connection.client = Client(self._server, connection)
        self._server.add_client(self._client)
        self._replies = hiredis.Reader(notEnoughData=_MORE_NEEDED)
        self._kinds: dict[bytes, str] = {}

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
            kinds = list(map(self._kind_of, some))
            if any(kinds):
                self._run_allowed(some, places, kinds)
            else:
                self._run_some(some, places)

    def _run_allowed(self, argvs: list[list[bytes]], offsets: list[int], kinds: list[str]) -> None:
        """Run the commands that may be run, and tell of the others, in order."""
        begin = 0
        for at, kind in enumerate([*kinds, "end"]):
            if not kind:
                continue
            if begin < at:
                self._run_some(argvs[begin:at], offsets[begin:at])
            begin = at + 1
            if kind == "other":
                what = "it is none that reads or writes keys"
                self._on_failure(CommandFailedError(offsets[at], argvs[at], what))
            elif at < len(argvs):
                self._on_unsupported(kind)

    def _kind_of(self, argv: list[bytes]) -> str:
        """Return why a command is not run: what it belongs to, or "other"; empty if it is run."""
        name = argv[0]
        kind = self._kinds.get(name)
        if kind is None:
            kind = _kind_of(name.upper())
            if len(self._kinds) < 1024:
                self._kinds[name] = kind
        return kind

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


def _kind_of(name: bytes) -> str:
    text = name.decode("latin-1")
    if text in _STREAMS:
        return "" if name in COMMANDS else "commands on streams"
    if text in _FUNCTIONS:
        return "" if name in COMMANDS else "commands on functions"
    if text in _SCRIPTS:
        return "" if name in COMMANDS else "scripts"
    command: Command | None = COMMANDS.get(name)
    if command is None or command.wire_name in _OTHERS:
        return ""  # one that does not exist has its reply, an error
    return "" if {"write", "readonly"} & set(command.flags) else "other"


def _shown(argv: Sequence[bytes]) -> str:
    text = b" ".join(argv[:4])[:80].decode("ascii", "backslashreplace")
    return f"'{text}{' ...' if len(argv) > 4 else ''}'"

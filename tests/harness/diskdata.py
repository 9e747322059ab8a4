"""Small real databases on disk, for tests of the offline tools.

    directory = server_database(tmp_path)     what a server has written: every type, many layers, discards
    directory = plain_database(tmp_path)      what a program that embeds the engine has written

Both are closed, and lie in many tiny segments, in several levels and in a log.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lamina.engine as engine
from harness.databases import TINY
from harness.local import LocalClient, Servers
from lamina.engine.filesystem import DiskFileSystem

FAR_MS = 4_102_444_800_000
"""The first moment of 2100."""

PLAIN_KEYS = 300


def server_database(folder: Path, *commands: tuple[Any, ...]) -> Path:
    """Write a server's database below `folder`; returns its directory. `commands` come last."""
    servers = Servers()
    local = servers.make(fs=DiskFileSystem(), dir=folder)
    try:
        for command in (*_first(), *_overwriting(), *commands):
            reply = local(*command)
            assert not isinstance(reply, Exception), (command, reply)
    finally:
        servers.close()
    return folder / "lamina"


def open_server(folder: Path) -> tuple[Servers, LocalClient]:
    """Return a client of a server over the database below `folder`; the servers are to be closed."""
    servers = Servers()
    return servers, servers.make(fs=DiskFileSystem(), dir=folder)


def _first() -> Iterator[tuple[Any, ...]]:
    for number in range(200):
        yield "SET", f"string:{number:03}", f"value {number}"
    yield "SET", "token", "x", "PXAT", FAR_MS
    yield "SETRANGE", "big", 70_000, "end"
    yield "RPUSH", "list", *range(60)
    yield "LPUSH", "list", "first"
    yield "LINSERT", "list", "BEFORE", "30", "squeezed"
    yield "SADD", "set", *(f"member {number}" for number in range(80))
    yield "ZADD", "zset", *(word for number in range(50) for word in (number / 4 - 3, f"m{number}"))
    yield "HSET", "hash", *(word for number in range(40) for word in (f"field {number}", number))
    yield "HPEXPIREAT", "hash", FAR_MS + 1, "FIELDS", 1, "field 7"
    yield "RPUSH", "dropped", *range(500)
    yield "SELECT", 3
    yield "SET", "elsewhere", "in database 3"
    yield "SELECT", 0


def _overwriting() -> Iterator[tuple[Any, ...]]:
    for number in range(0, 200, 3):
        yield "SET", f"string:{number:03}", f"changed {number}"
    for number in range(1, 200, 10):
        yield "DEL", f"string:{number:03}"
    yield "DEL", "dropped"
    yield "SREM", "set", *(f"member {number}" for number in range(0, 80, 2))
    yield "SWAPDB", 3, 5


def plain_database(folder: Path, *, counted: bool = True, **options: Any) -> Path:
    """Write a database with the engine alone; returns its directory."""
    directory = folder / "plain"
    with engine.open(directory, **TINY | {"counted": counted} | options) as db:
        for turn in range(3):
            for number in range(turn, PLAIN_KEYS, turn + 1):
                db.put(b"key %04d" % number, b"value %d of turn %d" % (number, turn))
        for number in range(0, PLAIN_KEYS, 7):
            db.delete(b"key %04d" % number)
        db.discard(b"key 0100", b"key 0120")
        db.flush()
        db.put(b"last", b"in the log")
    return directory


def contents(directory: Path) -> list[tuple[bytes, bytes]]:
    """Return all entries of a database."""
    with engine.open(directory, read_only=True) as db:
        return list(db.scan())

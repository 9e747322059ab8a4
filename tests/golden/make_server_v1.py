"""Writes the golden database of the server's layout, with what it holds as JSON beside it.

    PYTHONPATH=tests python tests/golden/make_server_v1.py

    server_v1/lamina/           the database
    server_v1/contents.json     [database, key, type, encoding, expires_ms, value] in order; bytes in
                                hexadecimal, what is large as size and SHA-256

Run once, when the layout is new: what is kept was written by the release that introduced it, and must be read
by every later one. Running it again later would prove nothing, so it refuses to overwrite.

The database holds every type of record, with and without expiry, in every form; big strings with chunks
short and missing; lists dense and sparse; scores of every kind; fields that expire; databases exchanged,
emptied and at home; in segments, of several levels, and in logs. `test_golden_server.py` checks that it is
so.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.local import LocalClient
from lamina.engine.filesystem import DiskFileSystem
from lamina.server.clock import ManualClock
from lamina.server.config import Config
from lamina.server.server import Server

FOLDER = Path(__file__).parent / "server_v1"
DATABASES = 6
LARGE_BYTES = 48
MANY = 12

FAR_MS = 4_102_444_800_000
"""The first moment of 2100. Tests' clocks stand still long before."""


ENGINE_OPTIONS: dict[str, Any] = {
    "background": "inline",
    "sync": "no",
    "memtable_size_bytes": 100_000,
    "block_size_bytes": 512,
    "segment_size_bytes": 16 << 10,
    "level_runs_max": 2,
}


def open_server(folder: Path) -> LocalClient:
    """Return a client of a server over the database in `folder`; it speaks RESP3."""
    config = Config()
    config.load_arguments(["--dir", str(folder), "--databases", str(DATABASES)])
    options = ENGINE_OPTIONS | {"fs": DiskFileSystem()}
    client = LocalClient(Server(config, clock=ManualClock(), engine_options=options))
    client.client.resp = 3
    return client


# --- Writing


def write(client: LocalClient) -> None:
    """Write all that there is to write."""
    for command in (*strings(), *lists(), *sets(), *sorted_sets(), *hashes(), *databases()):
        reply = client(*command)
        assert not isinstance(reply, Exception), (command, reply)
    client.server.databases.store.db.flush()
    client("SELECT", 0)
    for command in changes():
        reply = client(*command)
        assert not isinstance(reply, Exception), (command, reply)


def strings() -> Iterator[tuple[Any, ...]]:
    yield "SET", "", "the empty key"
    yield "SET", "empty", ""
    yield "SET", "integer", -123456789
    yield "SET", b"\0\xff\r\n", bytes(range(256))
    yield "SET", "k" * 5000, "a long key"
    yield "SET", "large", "compressible " * 4000
    yield "SET", "expiring", "text", "PXAT", FAR_MS
    yield "SET", "big", bytes(range(251)) * 300
    yield "APPEND", "big", "tail"
    yield "SETRANGE", "big sparse", 200_000, "end"
    yield "SETRANGE", "big sparse", 70_000, "middle"
    yield "PEXPIREAT", "big sparse", FAR_MS + 1
    for number in range(300):
        yield "SET", f"many:{number}", f"value {number}"


def lists() -> Iterator[tuple[Any, ...]]:
    yield "RPUSH", "list", "a", "", b"\0\xff", 12, -7
    yield "LPUSH", "list", "first"
    yield "RPUSH", "list long", *range(500), "v" * 9000
    yield "LTRIM", "list long", 3, -1
    yield "RPUSH", "list sparse", *range(200)
    for number in range(60):
        yield "LINSERT", "list sparse", "BEFORE" if number % 3 else "AFTER", 100, f"new {number}"
    yield "LREM", "list sparse", 0, 50
    yield "RPUSH", "list expiring", "a"
    yield "PEXPIREAT", "list expiring", FAR_MS + 2


def sets() -> Iterator[tuple[Any, ...]]:
    yield "SADD", "set integers", 1, 2, -3
    yield "SADD", "set words", "a", "", b"\0\xff"
    yield "SADD", "set many", *[f"member {number}" for number in range(400)]
    yield "PEXPIREAT", "set words", FAR_MS + 3


def sorted_sets() -> Iterator[tuple[Any, ...]]:
    yield "ZADD", "zset small", 1.5, "b", -1, "a", 0, "", "inf", "last"
    yield "ZADD", "zset many", *[part for n in range(-150, 150) for part in (n * 0.37, f"member {n}")]
    yield "ZADD", "zset scores", *[part for n in range(130) for part in (n % 3, f"m{n}")]
    yield "ZADD", "zset scores", "-inf", "first", -0.0, "zero", "1e-320", "tiny", "1.7e308", b"\0\xff"
    yield "PEXPIREAT", "zset small", FAR_MS + 4


def hashes() -> Iterator[tuple[Any, ...]]:
    yield "HSET", "hash", "f", "v", "", "", b"\0\xff", b"\xff\0"
    yield "HSET", "hash many", *[part for n in range(700) for part in (f"field {n}", n)]
    yield "HSET", "hash times", "a", 1, "b", 2, "c", 3
    yield "HPEXPIREAT", "hash times", FAR_MS + 5, "FIELDS", 2, "a", "b"
    yield "HPEXPIREAT", "hash times", FAR_MS + 6, "FIELDS", 1, "a"
    yield "PEXPIREAT", "hash times", FAR_MS + 7
    yield "HSET", "hash had times", "a", 1, "b", 2
    yield "HPEXPIREAT", "hash had times", FAR_MS, "FIELDS", 1, "a"
    yield "HPERSIST", "hash had times", "FIELDS", 1, "a"


def databases() -> Iterator[tuple[Any, ...]]:
    """Fill some databases, empty one, exchange two."""
    yield "SELECT", 3
    yield "SET", "in database", 3
    yield "SADD", "gone", *range(300)
    yield ("FLUSHDB",)
    yield "SET", "in database", "3, after it was emptied"
    yield "SELECT", 1
    yield "RPUSH", "in database", 1
    yield "SWAPDB", 1, 4


def changes() -> Iterator[tuple[Any, ...]]:
    """Change what lies in segments; what this writes is in the log."""
    yield "SET", "many:7", "changed"
    yield "DEL", "many:8", "set gone", "many:9"
    yield "SET", "many:10", "expires now", "PXAT", FAR_MS + 8
    yield "RENAME", "many:11", "renamed"
    yield "HSET", "hash many", "field 3", "changed", "new field", "v"
    yield "ZADD", "zset many", 1000, "member -150"
    yield "LPUSH", "list long", "in front"
    yield "SREM", "set many", "member 17"
    yield "SETRANGE", "big", 16_380, "over two chunks"


# --- What it holds


def describe(data: bytes) -> Any:
    """Return bytes as they stand in the JSON file."""
    if len(data) <= LARGE_BYTES:
        return data.hex()
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def shortened(items: list[Any]) -> Any:
    """Return a list, or its length and SHA-256 if it is long."""
    if len(items) <= MANY:
        return items
    return {"count": len(items), "sha256": hashlib.sha256(json.dumps(items).encode()).hexdigest()}


def value_of(client: LocalClient, key: bytes, kind: bytes) -> Any:
    """Return what a key holds, as it stands in the JSON file."""
    if kind == b"string":
        return describe(client("GET", key))
    if kind == b"list":
        return shortened([describe(value) for value in client("LRANGE", key, 0, -1)])
    if kind == b"set":
        return shortened([describe(member) for member in sorted(client("SMEMBERS", key))])
    if kind == b"zset":
        scored = client("ZRANGE", key, 0, -1, "WITHSCORES")
        return shortened([[describe(member), repr(score)] for member, score in scored])
    fields = sorted(client("HGETALL", key).items())
    times = client("HPEXPIRETIME", key, "FIELDS", len(fields), *[field for field, _ in fields])
    rows = [
        [describe(field), describe(value), time] for (field, value), time in zip(fields, times, strict=True)
    ]
    return shortened(rows)


def contents(client: LocalClient) -> list[Any]:
    """Return what the JSON file says, asked by commands."""
    rows: list[Any] = []
    for index in range(DATABASES):
        client("SELECT", index)
        for key in sorted(client("KEYS", "*")):
            kind = client("TYPE", key)
            encoding, expires_ms = client("OBJECT", "ENCODING", key), client("PEXPIRETIME", key)
            row = [index, describe(key), kind.decode(), encoding.decode(), expires_ms]
            rows.append([*row, value_of(client, key, kind)])
    client("SELECT", 0)
    return rows


def main() -> None:
    """Write the database."""
    if FOLDER.exists():
        sys.exit(f"{FOLDER} is there: golden databases are written once, by the release that they stand for")
    FOLDER.mkdir()
    client = open_server(FOLDER)
    write(client)
    client.server.close()
    # Opened once more, so that there is more than one log.
    client = open_server(FOLDER)
    client("SET", "written", "in a second session")
    rows = contents(client)
    client.server.close()
    (FOLDER / "lamina" / "LOCK").unlink()
    lines = ",\n".join(json.dumps(row) for row in rows)
    (FOLDER / "contents.json").write_text(f"[\n{lines}\n]\n", "ascii")
    size_bytes = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    print(f"{len(rows)} keys, {size_bytes:,} bytes in all")


if __name__ == "__main__":
    main()

"""Writes the golden database of streams' layout, with what it holds as JSON beside it.

    PYTHONPATH=tests python tests/golden/make_streams_v1.py

    streams_v1/lamina/          the database
    streams_v1/contents.json    [key, what it holds] in order, bytes as Latin-1

As make_server_v1.py, which was written before there were streams: run once, when the layout was new, and
never again. It refuses to overwrite.

The database holds streams long and short, empty, emptied, trimmed singly and by ranges, taken back; groups
with and without consumers, and what is pending of entries that are there and that are gone; in segments and
in logs.
"""

from __future__ import annotations

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

FOLDER = Path(__file__).parent / "streams_v1"

FAR_MS = 4_102_444_800_000

ENGINE_OPTIONS: dict[str, Any] = {
    "background": "inline",
    "sync": "no",
    "memtable_size_bytes": 50_000,
    "block_size_bytes": 512,
    "segment_size_bytes": 16 << 10,
    "level_runs_max": 2,
}


def open_server(folder: Path) -> LocalClient:
    """Return a client of a server over the database in `folder`; it speaks RESP3."""
    config = Config()
    config.load_arguments(["--dir", str(folder)])
    options = ENGINE_OPTIONS | {"fs": DiskFileSystem()}
    client = LocalClient(Server(config, clock=ManualClock(), engine_options=options))
    client.client.resp = 3
    return client


def commands() -> Iterator[tuple[Any, ...]]:
    """Yield all that is written."""
    yield "XADD", "one", "1-1", "field", "value"
    yield "XADD", "odd", "0-1", "", "", b"\x00\r\n\xff", b"*2\r\n$1\r\na\r\n", "long", "x" * 5000
    yield "XADD", "odd", "18446744073709551615-18446744073709551615", *(str(n) for n in range(140))
    yield "XGROUP", "CREATE", "empty", "nobody", "$", "MKSTREAM"
    yield "XADD", "emptied", "5-5", "f", "v"
    yield "XDEL", "emptied", "5-5"
    yield "XADD", "expiring", "1-1", "f", "v"
    yield "PEXPIREAT", "expiring", FAR_MS
    for n in range(1, 3001):
        yield "XADD", "long", f"{n}-{n % 7}", "n", n, "text", "x" * (n % 40)
    yield "XTRIM", "long", "MAXLEN", 600
    for n in range(2401, 3000, 9):
        yield "XDEL", "long", f"{n}-{n % 7}"
    for n in range(1, 2500):
        yield "XADD", "back", f"{n}-0", "f", n
    yield "XTRIM", "back", "MAXLEN", 0
    yield "XSETID", "back", "3-0"
    yield "XADD", "back", "4-0", "written", "again"
    for n in range(1, 101):
        yield "XADD", "shared", f"{n}-0", "n", n
    for name in ("first", "second", "third", b"\xff"):
        yield "XGROUP", "CREATE", "shared", name, 0
    for n in range(20):
        yield "XREADGROUP", "GROUP", "first", f"c{n % 3}", "COUNT", 4, "STREAMS", "shared", ">"
    yield "XREADGROUP", "GROUP", "second", "gone", "COUNT", 10, "STREAMS", "shared", ">"
    yield "XGROUP", "DELCONSUMER", "shared", "second", "gone"
    yield "XREADGROUP", "GROUP", "second", "", "COUNT", 10, "STREAMS", "shared", ">"
    yield "XGROUP", "CREATECONSUMER", "shared", "second", "idle"
    yield "XACK", "shared", "first", *(f"{n}-0" for n in range(1, 80, 3))
    yield "XCLAIM", "shared", "first", "claimer", 0, "2-0", "3-0", "99-0", "FORCE", "RETRYCOUNT", 7
    yield "XDEL", "shared", "5-0", "6-0", "100-0"
    yield "XREADGROUP", "GROUP", "first", "c1", "STREAMS", "shared", 0
    yield "XGROUP", "DESTROY", "shared", "third"
    yield "XSETID", "shared", "500-0", "ENTRIESADDED", 1000, "MAXDELETEDID", "200-0"
    yield "COPY", "shared", "copied"
    yield "XADD", "log only", "1-1", "f", "v"
    yield "XGROUP", "CREATE", "log only", "g", 0
    yield "XREADGROUP", "GROUP", "g", "c", "STREAMS", "log only", ">"


def write(client: LocalClient) -> None:
    """Write all that there is to write, the last of it into logs only."""
    for command in commands():
        if command[:2] == ("XADD", "log only"):
            client.server.databases.store.db.flush()
        reply = client(*command)
        assert not isinstance(reply, Exception), (command, reply)


def contents(client: LocalClient) -> list[Any]:
    """Return all that there is, as JSON has it."""
    found = []
    for key in sorted(client("KEYS", "*")):
        full = client("XINFO", "STREAM", key, "FULL", "COUNT", 0)
        del full[b"radix-tree-keys"], full[b"radix-tree-nodes"]
        found.append([key, client("PEXPIRETIME", key), full])
    plain: list[Any] = json.loads(json.dumps(_plain(found)))
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def main() -> None:
    """Write the folder."""
    if FOLDER.exists():
        sys.exit(f"{FOLDER} is there: golden databases are written once")
    FOLDER.mkdir()
    client = open_server(FOLDER)
    write(client)
    found = contents(client)
    client.server.close()
    text = json.dumps(found, separators=(",", ":"))
    (FOLDER / "contents.json").write_text(text + "\n", "ascii")


if __name__ == "__main__":
    main()

"""The server's databases of every layout there has been still open, and hold what they held.

See make_server_v1.py for what is in them. They are never written again; tests work on copies.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import lamina.engine as engine
from harness.local import LocalClient, check_server

HERE = Path(__file__).parent
FOLDERS = sorted(HERE.glob("server_v*"))


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_server_v1", HERE / "make_server_v1.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_server_v1 = load_script()


@pytest.fixture(params=FOLDERS, ids=lambda path: path.name)
def original(request: pytest.FixtureRequest) -> Iterator[Path]:
    path: Path = request.param
    before = fingerprint(path / "lamina")
    yield path
    assert fingerprint(path / "lamina") == before, "a test has changed a golden database"


@pytest.fixture
def client(original: Path, tmp_path: Path) -> Iterator[LocalClient]:
    """A client of a server over a copy; what it leaves is held against all invariants."""
    shutil.copytree(original / "lamina", tmp_path / "lamina")
    opened: LocalClient = make_server_v1.open_server(tmp_path)
    yield opened
    check_server(opened.server)
    opened.server.close()


def fingerprint(path: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(path.iterdir())}


def expected_of(original: Path) -> list[Any]:
    rows: list[Any] = json.loads((original / "contents.json").read_text("ascii"))
    return rows


def test_there_are_golden_databases() -> None:
    assert [path.name for path in FOLDERS] == ["server_v1"]


def test_it_holds_what_it_held(original: Path, client: LocalClient) -> None:
    expected = expected_of(original)
    assert make_server_v1.contents(client) == expected
    client.server.databases.store.db.compact()
    client.reload()
    assert make_server_v1.contents(client) == expected


def test_it_is_written_as_any_other(original: Path, client: LocalClient) -> None:
    """Change every kind of thing, and change it back."""
    expected = expected_of(original)
    for do, undo in (
        (("SET", "new", 1), ("DEL", "new")),
        (("APPEND", "big", "x"), ("SETRANGE", "big", 0, "")),
        (("RPUSH", "list sparse", "x"), ("RPOP", "list sparse")),
        (("LPUSH", "list", "x"), ("LPOP", "list")),
        (("SADD", "set many", "x"), ("SREM", "set many", "x")),
        (("ZADD", "zset scores", 1, "x"), ("ZREM", "zset scores", "x")),
        (("HSET", "hash times", "x", 1), ("HDEL", "hash times", "x")),
        (("RENAME", "hash many", "x"), ("RENAME", "x", "hash many")),
        (("PEXPIREAT", "integer", make_server_v1.FAR_MS), ("PERSIST", "integer")),
        (("SWAPDB", 0, 5), ("SWAPDB", 0, 5)),
        (("SADD", "a new id", "x"), ("DEL", "a new id")),
    ):
        for command in (do, undo):
            assert not isinstance(client(*command), Exception), command
            client.reload()
            client.client.resp = 3
    changed = [row for row in make_server_v1.contents(client) if row not in expected]
    assert [row[1] for row in changed] == [b"big".hex()]
    client.clock.now_ms = make_server_v1.FAR_MS + 1000
    client.wait_out(1)
    left = [row[:2] for row in make_server_v1.contents(client)]
    assert left == [row[:2] for row in expected if row[4] < 0]


def test_it_holds_what_it_is_for(original: Path) -> None:
    """A golden database proves nothing about what is not in it."""
    rows = expected_of(original)
    assert {(row[2], row[3]) for row in rows} >= {
        ("string", "int"), ("string", "embstr"), ("string", "raw"), ("list", "listpack"),
        ("list", "quicklist"), ("set", "intset"), ("set", "listpack"), ("set", "hashtable"),
        ("zset", "listpack"), ("zset", "skiplist"), ("hash", "listpack"), ("hash", "hashtable"),
        ("hash", "listpackex"),
    }  # fmt: skip
    assert {row[2] for row in rows if row[4] > 0} == {"string", "list", "set", "zset", "hash"}
    assert {row[0] for row in rows} == {0, 3, 4}
    with engine.open(original / "lamina", read_only=True) as db:
        entries = dict(db.scan())
        stats = db.stats()
    assert stats.live_keys == len(entries)
    assert sum(level.runs for level in stats.levels) >= 2
    assert len(list((original / "lamina").glob("*.wal"))) >= 2
    assert max(level.segments for level in stats.levels) >= 3
    records = {key[5:]: value for key, value in entries.items() if key[4:5] == b"k"}
    assert {value[0] for value in records.values()} >= {
        0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15,
    }  # fmt: skip
    forms = {
        (value[0] & 15, value[1 + 8 * (value[0] >> 4) + 16])
        for value in records.values()
        if value[0] & 15 > 1
    }
    assert forms == {(2, 0), (2, 1), (3, 0), (3, 1), (3, 2), (4, 0), (4, 1), (4, 2), (5, 0), (5, 1), (5, 2)}
    assert {key[4:5] for key in entries} == {b"k", b"e", b"t", b"f", b"s"}
    assert {key for key in entries if key[4:5] == b"s"} == {b"\0\0\0\0sid", b"\0\0\0\0sdatabases"}
    assert any(len(key) > 21 and key[13:16] == b"\x80\0\0" for key in entries)  # a list's key with a suffix

"""The golden database of streams still opens, and holds what it held. See make_streams_v1.py."""

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

from harness.local import LocalClient, check_server

HERE = Path(__file__).parent
ORIGINAL = HERE / "streams_v1"


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_streams_v1", HERE / "make_streams_v1.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_streams_v1 = load_script()


def fingerprint() -> dict[str, str]:
    folder = ORIGINAL / "lamina"
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[LocalClient]:
    """A client of a server over a copy; what it leaves is held against all invariants."""
    before = fingerprint()
    shutil.copytree(ORIGINAL / "lamina", tmp_path / "lamina")
    opened: LocalClient = make_streams_v1.open_server(tmp_path)
    yield opened
    check_server(opened.server)
    opened.server.close()
    assert fingerprint() == before, "a test has changed a golden database"


def expected() -> list[Any]:
    rows: list[Any] = json.loads((ORIGINAL / "contents.json").read_text("ascii"))
    return rows


def test_it_holds_what_it_held(client: LocalClient) -> None:
    assert make_streams_v1.contents(client) == expected()
    client.server.databases.store.db.compact()
    client.reload()
    assert make_streams_v1.contents(client) == expected()


def test_it_holds_something_of_everything() -> None:
    found = {key: full for key, _, full in expected()}
    assert {full["length"] for full in found.values()} >= {0, 1, 533}
    groups = [group for full in found.values() for group in full["groups"]]
    assert {len(group["consumers"]) for group in groups} >= {0, 1, 2, 4}
    pending = [entry for group in groups for entry in group["pending"]]
    assert {entry[3] for entry in pending} >= {1, 2, 7}
    ids = {entry[0] for entry in found["shared"]["entries"]}
    assert any(entry[0] not in ids for entry in pending), "pending entries that are gone"


def test_it_is_written_as_any_other(client: LocalClient) -> None:
    for key in client("KEYS", "*"):
        last = client("XINFO", "STREAM", key)[b"last-generated-id"]
        reply = client("XADD", key, "*", "f", "v")
        assert reply != last
        assert isinstance(reply, Exception) == (key == b"odd"), "one has no more ids"
        for group in client("XINFO", "GROUPS", key):
            client("XREADGROUP", "GROUP", group[b"name"], "new", "COUNT", 5, "STREAMS", key, ">")
            client("XAUTOCLAIM", key, group[b"name"], "new", 0, 0)
        client("XTRIM", key, "MAXLEN", 3)
        assert client("XLEN", key) <= 3
    client.reload()
    assert make_streams_v1.contents(client) != expected()

"""A key of every type, for tests of what commands do whatever a key holds.

from harness.keys import contents, made, reopened

def test_renamed(made: tuple[LocalClient, Any]) -> None:
    local, before = made                        # the key `k`, of each type: held, loaded, on disk
    local("RENAME", "k", "new")
    assert contents(local, "new") == before
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.local import LocalClient
from lamina.server import elements, events

BIG = b"b" * 200_000

MAKE: dict[str, list[tuple[Any, ...]]] = {
    "string": [("SET", "k", "value")],
    "number": [("SET", "k", "12")],
    "big string": [("SET", "k", BIG)],
    "list": [("RPUSH", "k", *range(300))],
    "set": [("SADD", "k", *(f"m{i}" for i in range(300)))],
    "hash": [("HSET", "k", *(word for i in range(300) for word in (f"f{i}", i)))],
    "zset": [("ZADD", "k", *(word for i in range(300) for word in (i, f"m{i}")))],
}
"""How to make a key of every type: `k`."""

READ: dict[bytes, tuple[str, ...]] = {
    b"string": ("GET", "{}"),
    b"list": ("LRANGE", "{}", "0", "-1"),
    b"set": ("SMEMBERS", "{}"),
    b"hash": ("HGETALL", "{}"),
    b"zset": ("ZRANGE", "{}", "0", "-1", "WITHSCORES"),
}


def contents(client: LocalClient, key: str) -> Any:
    """Return the type of a key and what it holds."""
    kind = client("TYPE", key)
    if kind == b"none":
        return None
    found = client(*(word.format(key) for word in READ[kind]))
    if kind == b"hash":
        return kind, dict(zip(found[::2], found[1::2]))
    return kind, sorted(found) if kind == b"set" else found


@pytest.fixture(params=["held", "loaded", "on disk"])
def reopened(
    request: pytest.FixtureRequest, local: LocalClient, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], None]:
    """Return what brings the database into a state: as it is, or reopened with elements loaded or not."""
    if request.param == "on disk":
        monkeypatch.setattr(elements, "LOADED_AT_ONCE", -1)
        monkeypatch.setattr(elements, "LOADED_EVER", -1)
    return (lambda: None) if request.param == "held" else local.reload


@pytest.fixture(params=list(MAKE))
def made(
    request: pytest.FixtureRequest, local: LocalClient, reopened: Callable[[], None]
) -> tuple[LocalClient, Any]:
    """Return a client whose key `k` is of some type, and its contents."""
    for command in MAKE[request.param]:
        local(*command)
    before = contents(local, "k")
    reopened()
    return local, before


def observe(client: LocalClient) -> list[tuple[int, bytes, bytes]]:
    """Listen to all events from now on, and return the list that they are added to."""
    heard: list[tuple[int, bytes, bytes]] = []
    databases = client.server.databases
    databases.on_event = lambda keyspace, kind, name, key: heard.append((keyspace.index, name, key))
    for keyspace in databases.keyspaces:
        keyspace.listens = events.ALL
    return heard


__all__ = ["BIG", "contents", "made", "observe", "reopened"]

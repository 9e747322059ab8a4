"""command-memory: what commands gather of collections on disk is bounded, and nothing changes beyond it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import lamina.server.elements
from harness.local import LocalClient, Servers
from harness.servers import Server, StartServer, start_lamina
from lamina.server import gathering
from lamina.server.errors import CommandError

__all__ = ["start_lamina"]

SIZE = 400
LIMIT = gathering.ELEMENT_BYTES * 200
TOO_MUCH = CommandError(b"ERR the command needs more memory than command-memory, %d" % LIMIT)


@pytest.fixture
def filled(make_local: Servers, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalClient]:
    """Return a client of a server whose collections lie on disk, and are twice what one may gather."""
    monkeypatch.setattr(lamina.server.elements, "LOADED_AT_ONCE", -1)
    monkeypatch.setattr(lamina.server.elements, "LOADED_EVER", -1)
    local = make_local.make(command_memory=LIMIT)
    names = [f"member {at:05}" for at in range(SIZE)]
    local("SADD", "set", *names)
    local("SADD", "other", *names)
    local("SADD", "few", *names[:20])
    local("RPUSH", "list", *range(SIZE))
    local("HSET", "hash", *(word for name in names for word in (name, "v")))
    local("ZADD", "zset", *(word for at, name in enumerate(names) for word in (at, name)))
    local("ZADD", "lex", *(word for name in names for word in (0, name)))
    local("GEOADD", "geo", *(word for at, name in enumerate(names) for word in (at / 1000, 0, name)))
    for at in range(SIZE):
        local("SET", f"key {at}", at)
    local("SET", "long", "x" * LIMIT)
    local("RPUSH", "long list", *["x" * (LIMIT // 8)] * 10)
    local("HSET", "long hash", *(word for at in range(10) for word in (at, "x" * (LIMIT // 8))))
    local.reload()
    yield local
    local("CONFIG", "SET", "command-memory", 0)  # who checks what is there gathers it as well


REFUSED: list[tuple[Any, ...]] = [
    ("SMEMBERS", "set"),
    ("HGETALL", "hash"),
    ("HKEYS", "hash"),
    ("HVALS", "hash"),
    ("LRANGE", "list", 0, -1),
    ("LRANGE", "list", 50, 350),
    ("ZRANGE", "zset", 0, -1),
    ("ZRANGE", "zset", 0, -1, "REV"),
    ("ZRANGEBYSCORE", "zset", "-inf", "inf"),
    ("ZREVRANGEBYSCORE", "zset", "inf", "-inf"),
    ("ZRANGEBYLEX", "lex", "-", "+"),
    ("SORT", "list"),
    ("SORT", "set", "ALPHA", "LIMIT", 0, 1),
    ("SORT", "zset", "BY", "nosort"),
    ("SORT", "list", "STORE", "result"),
    ("SUNION", "set", "few"),
    ("SUNIONSTORE", "result", "few", "set"),
    ("SINTER", "set"),
    ("SINTER", "set", "other"),
    ("SINTERSTORE", "result", "set", "other"),
    ("SDIFF", "set", "few"),
    ("SDIFFSTORE", "result", "set", "few"),
    ("ZUNION", 2, "zset", "lex"),
    ("ZUNIONSTORE", "result", 2, "few", "zset"),
    ("ZINTERSTORE", "result", 2, "zset", "set"),
    ("ZDIFF", 2, "zset", "few"),
    ("ZINTER", 2, "lex", "set"),
    ("ZRANGESTORE", "result", "zset", 0, -1),
    ("GEOSEARCH", "geo", "FROMLONLAT", 0, 0, "BYRADIUS", 1000, "km"),
    ("GEOSEARCHSTORE", "result", "geo", "FROMLONLAT", 0, 0, "BYRADIUS", 1000, "km"),
    ("KEYS", "*"),
    ("SRANDMEMBER", "few", -300),
    ("SRANDMEMBER", "set", 300),
    ("HRANDFIELD", "hash", -300),
    ("ZRANDMEMBER", "zset", 300),
    ("SPOP", "set", 300),
    ("SPOP", "set", 1000),
    ("ZPOPMIN", "zset", 300),
    ("DUMP", "set"),
    # Few elements, but long ones.
    ("LRANGE", "long list", 0, -1),
    ("HGETALL", "long hash"),
    ("HVALS", "long hash"),
]

TAKEN: list[tuple[Any, ...]] = [
    ("SSCAN", "set", 0),
    ("LRANGE", "list", 0, 99),
    ("ZRANGE", "zset", 0, 99),
    ("ZRANGEBYSCORE", "zset", "-inf", "inf", "LIMIT", 10, 20),
    ("ZCOUNT", "zset", "-inf", "inf"),
    ("SINTER", "set", "few"),
    ("SINTERCARD", 2, "set", "other"),
    ("SINTERCARD", 1, "set"),
    ("ZINTERCARD", 2, "zset", "set"),
    ("SDIFF", "few", "set"),
    ("ZINTER", 2, "zset", "few"),
    ("ZDIFF", 2, "few", "zset"),
    ("SORT", "list", "BY", "nosort", "LIMIT", 0, 5),
    ("GEOSEARCH", "geo", "FROMLONLAT", 0, 0, "BYRADIUS", 5, "km"),
    ("KEYS", "key 1*"),
    ("SRANDMEMBER", "set", -3),
    ("GET", "long"),
    ("DEL", "hash"),
    ("SPOP", "set", 3),
]


def test_what_is_too_much(filled: LocalClient) -> None:
    size = filled("DBSIZE")
    for command in REFUSED:
        assert filled(*command) == TOO_MUCH, command
    # Nothing has been changed.
    assert filled("DBSIZE") == size
    assert [filled("SCARD", "set"), filled("ZCARD", "zset"), filled("LLEN", "list")] == [SIZE] * 3
    filled("CONFIG", "SET", "command-memory", 0)
    for command in REFUSED:
        assert not isinstance(filled(*command), CommandError), command


def test_what_takes_little_of_much(filled: LocalClient) -> None:
    for command in TAKEN:
        assert not isinstance(filled(*command), CommandError), command


def test_the_error_is_one_of_the_command_inside_transactions_and_scripts(filled: LocalClient) -> None:
    replies = filled.pipeline(
        ("MULTI",), ("SADD", "new", 1), ("SMEMBERS", "set"), ("SCARD", "new"), ("EXEC",)
    )
    assert replies[-1] == [1, TOO_MUCH, 1]
    reply = filled("EVAL", "return redis.pcall('smembers', 'set')", 0)
    assert isinstance(reply, CommandError)
    assert reply.message == TOO_MUCH.message


def test_the_default(make_local: Servers) -> None:
    local = make_local.make()
    assert local("CONFIG", "GET", "command-memory") == [b"command-memory", b"1073741824"]


def peak_bytes(server: Server) -> int:
    """Return the most memory that a server's process has ever had."""
    with open(f"/proc/{server.pid}/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


COUNT = 100_000


def test_memory_of_a_server(start_lamina: StartServer) -> None:
    """A set that would take ten times what a command may: no command takes much more than that."""
    server = start_lamina("--command-memory", "2mb", "--memory", "8mb")
    with server.client() as client:
        for start in range(0, COUNT, 5000):
            members = [b"member number %d" % at for at in range(start, start + 5000)]
            client.ok("SADD", "set", *members)
            client.ok("ZADD", "zset", *(word for at, name in enumerate(members) for word in (at, name)))
            client.ok("RPUSH", "list", *members)
        before = peak_bytes(server)
        for command in (
            ("SMEMBERS", "set"),
            ("SORT", "set", "ALPHA"),
            ("SUNIONSTORE", "result", "set"),
            ("SINTER", "set", "set"),
            ("ZRANGE", "zset", 0, -1, "WITHSCORES"),
            ("ZUNIONSTORE", "result", 2, "zset", "set"),
            ("LRANGE", "list", 0, -1),
            ("DUMP", "list"),
        ):
            assert str(getattr(client.call(*command), "text", "")).startswith("ERR the command needs more")
        assert peak_bytes(server) - before < 8 << 20
        client.ok("CONFIG", "SET", "command-memory", 0)
        assert len(client.ok("SMEMBERS", "set")) == COUNT
        assert peak_bytes(server) - before > 12 << 20, "then what is measured is not what it is about"

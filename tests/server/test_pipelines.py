"""Pipelines of one command: run at once or one by one, the outcome is the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.local import LocalClient, Servers, check_server
from lamina.server.registry import COMMANDS

KEYS = [
    b"plain",
    b"number",
    b"missing",
    b"list",
    b"long list",
    b"set",
    b"big set",
    b"hash",
    b"big hash",
    b"big zset",
    b"stream",
]
keys = st.sampled_from(KEYS)
words = st.sampled_from([b"", b"1", b"17", b"-3", b"9223372036854775807", b"x", b"m5", b"m300", b"y" * 300])

SHAPES: dict[str, list[st.SearchStrategy[bytes]]] = {
    "GET": [keys],
    "SET": [keys, words],
    "INCR": [keys],
    "LPUSH": [keys, words],
    "RPUSH": [keys, words],
    "LPOP": [keys],
    "RPOP": [keys],
    "SADD": [keys, words],
    "HSET": [keys, words, words],
    "ZPOPMIN": [keys],
    "ZPOPMAX": [keys],
    "XADD": [keys, st.sampled_from([b"*"] * 30 + [b"0-5", b"ms"]), words, words],
}
"""Arguments of the commands that can run at once. SPOP, which draws, has a test of its own."""


@st.composite
def pipelines(draw: st.DrawFn) -> list[tuple[Any, ...]]:
    """Draw a pipeline of one command, mostly on one key."""
    name = draw(st.sampled_from(sorted(SHAPES)))
    key = draw(keys)
    pipeline: list[tuple[Any, ...]] = []
    for _ in range(draw(st.integers(4, 12))):
        arguments = [draw(shape) for shape in SHAPES[name]]
        if draw(st.integers(0, 9)):
            arguments[0] = key
        pipeline.append((name, *arguments))
    return pipeline


def filled(local: LocalClient) -> LocalClient:
    """Give a client of a new server something of every kind."""
    local.pipeline(
        ("SET", "plain", "text"),
        ("SET", "number", 41),
        ("RPUSH", "list", "a", "b", "c"),
        ("RPUSH", "long list", *range(400)),
        ("SADD", "set", 1, 2, 3),
        ("SADD", "big set", *(f"m{n}" for n in range(400))),
        ("HSET", "hash", "f", "v"),
        ("HSET", "big hash", *(word for n in range(700) for word in (f"m{n}", n))),
        ("ZADD", "big zset", *(word for n in range(400) for word in (n // 2, f"m{n}"))),
        ("XADD", "stream", "0-1", "field", "value"),
    )
    return local


def contents(local: LocalClient) -> dict[bytes, Any]:
    found: dict[bytes, Any] = {}
    for key in KEYS:
        kind = local("TYPE", key)
        if kind == b"string":
            found[key] = local("GET", key)
        elif kind == b"list":
            found[key] = local("LRANGE", key, 0, -1)
        elif kind == b"set":
            found[key] = sorted(local("SMEMBERS", key))
        elif kind == b"hash":
            pairs = local("HGETALL", key)
            found[key] = dict(zip(pairs[::2], pairs[1::2], strict=True))
        elif kind == b"zset":
            found[key] = local("ZRANGE", key, 0, -1, "WITHSCORES")
        elif kind == b"stream":
            found[key] = (local("XRANGE", key, "-", "+"), local("XINFO", "STREAM", key))
        found[key] = (found.get(key), local("OBJECT", "ENCODING", key) if kind != b"none" else None)
    return found


def test_everything_that_runs_at_once_is_tested_here() -> None:
    able = {name.decode() for name, command in COMMANDS.items() if command.many is not None}
    assert able == {*SHAPES, "SPOP", "PING"}


def test_pings_are_answered_at_once(local: LocalClient) -> None:
    assert local.pipeline(*[("PING",)] * 20) == [b"PONG"] * 20
    assert local.pipeline(*[("PING",)] * 5, ("PING", "hello"), ("PING", "a", "b"))[5] == b"hello"
    local("SUBSCRIBE", "channel")
    assert local.pipeline(*[("PING",)] * 5) == [[b"pong", b""]] * 5


@settings(max_examples=120)
@given(
    st.lists(pipelines(), min_size=1, max_size=6),
    st.sampled_from(["", "KEA"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([2, 3]),
)
def test_a_pipeline_does_what_its_commands_do(
    sent: list[list[tuple[Any, ...]]], events: str, is_watched: bool, is_reloaded: bool, resp: int
) -> None:
    servers = Servers()
    together, singly = (filled(servers.make(notify_keyspace_events=events, memory="256mb")) for _ in range(2))
    try:
        for local in (together, singly):
            local.client.resp = resp
            if is_reloaded:
                local.reload()
            if is_watched:
                local.connect()("WATCH", *KEYS)
        for pipeline in sent:
            replies = together.pipeline(*pipeline)
            assert replies == [singly(*command) for command in pipeline]
        together.client.resp = singly.client.resp = 2
        assert contents(together) == contents(singly)
        together.reload()
        assert contents(together) == contents(singly)
    finally:
        servers.close()


def test_members_drawn_at_once_are_different_and_gone(local: LocalClient) -> None:
    filled(local)
    for key, count in (("big set", 400), ("set", 3)):
        drawn = []
        while local("EXISTS", key):
            drawn += local.pipeline(*[("SPOP", key)] * 7)
        drawn = [member for member in drawn if member is not None]
        assert len(drawn) == len(set(drawn)) == count
    check_server(local.server)


@pytest.mark.parametrize("pushing", ["LPUSH", "RPUSH"])
def test_waiting_clients_are_served_between_the_pushes_of_a_pipeline(
    local: LocalClient, pushing: str
) -> None:
    local("RPUSH", "q", "old")
    local("DEL", "q")
    waiting = local.connect()
    waiting.run(("BLPOP", "q", 0))
    assert local.pipeline(*[(pushing, "q", n) for n in range(5)]) == [1, 1, 2, 3, 4]
    assert waiting.pushed() == [[b"q", b"0"]]


def test_values_read_at_once_are_counted_as_hits_and_misses(local: LocalClient) -> None:
    filled(local)
    local.reload()
    keyspace = local.client.keyspace
    before = keyspace.hits, keyspace.misses
    assert local.pipeline(*[("GET", "plain"), ("GET", "missing")] * 4) == [b"text", None] * 4
    assert (keyspace.hits - before[0], keyspace.misses - before[1]) == (4, 4)

"""The comparing pair itself: it must see every difference that it is made for, and nothing else.

Both servers are redis-servers here; one is put into another state than the other behind the pair's back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.compat import Pair
from harness.contents import contents
from harness.differences import DIFFERENCES, explanation
from harness.resp import (
    Attributed,
    BigNumber,
    ConnectionClosedError,
    ErrorReply,
    Push,
    ReplyScanner,
    RespClient,
    SetReply,
    Verbatim,
    encode,
    parse,
)
from harness.servers import RedisServer, StartServer


@pytest.fixture
def twins(start_redis: StartServer) -> Iterator[Pair]:
    """Pair two servers that are equal until a test makes them differ."""
    pair = Pair(start_redis(), start_redis("--appendonly", "yes"))
    yield pair
    pair.close()


def differ(pair: Pair, compare: Callable[..., Any], *words: str) -> str:
    """Assert that the comparison fails, and return what it says."""
    with pytest.raises(AssertionError) as caught:
        compare(*words)
    return str(caught.value)


def test_exact_replies(twins: Pair) -> None:
    assert twins("SET", "a", 1) == "OK"
    assert twins("GET", "a") == b"1"
    twins.tested.ok("SET", "a", 2)
    said = differ(twins, twins, "GET", "a")
    assert "replies differ: GET a" in said
    assert "$1\\r\\n1" in said
    assert "$1\\r\\n2" in said
    assert "SET a 1  ->  b'+OK" in said


def test_unordered_replies(twins: Pair) -> None:
    twins.reference.ok("SADD", "s", "x", "y", "z")
    twins.tested.ok("SADD", "s", "z", "y", "x")
    twins.unordered("SMEMBERS", "s")
    twins.tested.ok("SADD", "s", "w")
    differ(twins, twins.unordered, "SMEMBERS", "s")
    twins.type_only("SMEMBERS", "s")
    differ(twins, twins.same_length, "SMEMBERS", "s")
    differ(twins, twins.scan, "SSCAN", "s")
    twins.tested.ok("SREM", "s", "w", "x")
    twins.tested.ok("SADD", "s", "v")
    twins.same_length("SMEMBERS", "s")


@pytest.mark.parametrize("protocol", [2, 3])
def test_pairs(start_redis: StartServer, protocol: int) -> None:
    twins = Pair(start_redis(), start_redis(), protocol=protocol)
    twins.reference.ok("HSET", "h", "a", "b", "b", "a")
    twins.tested.ok("HSET", "h", "b", "a", "a", "b")
    twins.pairs("HGETALL", "h")
    # The same words, in other pairs.
    twins.tested.ok("HSET", "h", "a", "a", "b", "b")
    differ(twins, twins.pairs, "HGETALL", "h")
    differ(twins, twins.scan, "HSCAN", "h")
    twins.close()


def test_errors_must_be_equal_in_every_comparison(twins: Pair) -> None:
    twins.reference.ok("RPUSH", "a", "x")
    for compare in (twins, twins.unordered, twins.type_only, twins.ttl, twins.pairs, twins.same_length):
        assert "WRONGTYPE" in differ(twins, compare, "GET", "a")
    twins.tested.ok("RPUSH", "a", "x")
    for compare in (twins, twins.unordered, twins.type_only, twins.ttl, twins.pairs, twins.same_length):
        compare("GET", "a")
    twins.scan("SSCAN", "a")
    twins.scan("SCAN", "COUNT", "x")


def test_times(twins: Pair) -> None:
    twins.reference.ok("SET", "a", 1, "PX", 100_000)
    twins.tested.ok("SET", "a", 1, "PX", 99_000)
    twins.ttl("TTL", "a")
    twins.ttl_ms("PTTL", "a")
    twins.assert_same_contents()
    twins.tested.ok("SET", "a", 1, "PX", 90_000)
    differ(twins, twins.ttl_ms, "PTTL", "a")
    differ(twins, twins.ttl, "TTL", "a")
    assert "PTTL" in differ(twins, twins.assert_same_contents)
    twins.tested.ok("SET", "a", 1)
    differ(twins, twins.ttl, "TTL", "a")


@pytest.mark.parametrize(
    "command",
    [
        ("SET", "a", "other"),
        ("RPUSH", "l", "more"),
        ("LSET", "l", "0", "other"),
        ("SADD", "s", "more"),
        ("HSET", "h", "f", "other"),
        ("ZADD", "z", "2", "m"),
        ("XADD", "x", "9-9", "f", "v"),
        ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "x", ">"),
        ("XACK", "x", "g", "1-1"),
        ("SWAPDB", "0", "3"),
        ("MOVE", "a", "3"),
        ("RENAME", "h", "i"),
        ("DEL", "z"),
    ],
    ids=" ".join,
)
def test_contents(twins: Pair, command: tuple[str, ...]) -> None:
    twins("SET", "a", "1")
    twins("RPUSH", "l", "1", "2")
    twins("SADD", "s", "1", "2")
    twins("HSET", "h", "f", "v")
    twins("ZADD", "z", "1", "m")
    twins("XADD", "x", "1-1", "f", "v")
    twins("XGROUP", "CREATE", "x", "g", "0")
    twins("XREADGROUP", "GROUP", "g", "c", "COUNT", "1", "STREAMS", "x", ">")
    twins("XADD", "x", "1-2", "f", "v")
    twins.assert_same_contents()
    assert len(contents(twins.reference)[0]) == 6
    twins.tested.ok(*command)
    differ(twins, twins.assert_same_contents)


def test_pipelines_raw_bytes_and_closed_connections(twins: Pair) -> None:
    assert twins.pipeline(("SET", "a", 1), ("GET", "a"), ("NOPE",))[1] == b"1"
    assert twins.raw(b"PING\r\n*1\r\n$4\r\nPING\r\n", replies=2) == ["PONG", "PONG"]
    assert isinstance(twins.raw(b"*1\r\nPING\r\n", replies=2)[0], ErrorReply)
    assert twins.read() is None
    with pytest.raises(ConnectionClosedError):
        twins.tested.read()
    twins.reset()
    twins.tested.ok("SET", "a", 2)
    differ(twins, lambda: twins.pipeline(("PING",), ("GET", "a")))
    differ(twins, lambda: twins.both(lambda client: client.call("GET", "a")))


def test_restarts_keep_the_database_and_the_transaction(twins: Pair) -> None:
    twins("SELECT", 3)
    twins("SET", "a", 1)
    twins.restart(kill=True)
    assert twins("GET", "a") == b"1"
    twins("MULTI")
    twins.restart()
    twins("SET", "a", 2)
    assert twins("EXEC") == ["OK"]
    twins.reload()
    twins.assert_same_contents()


def test_the_client_does_not_wait_for_ever(start_redis: StartServer) -> None:
    with start_redis().client(timeout_s=0.1) as client:
        client.send("BLPOP", "nothing", 0)
        assert client.is_silent()
        with pytest.raises(TimeoutError):
            client.read()


def test_a_server_that_does_not_start_is_reported(tmp_path: Any, start_redis: StartServer) -> None:
    with pytest.raises(Exception, match="did not start"):
        RedisServer(tmp_path, "--no-such-option", "1").start()


REPLIES: list[tuple[bytes, Any]] = [
    (b"+OK\r\n", "OK"),
    (b"-ERR no\r\n", ErrorReply("ERR no")),
    (b"!6\r\nERR no\r\n", ErrorReply("ERR no")),
    (b":-12\r\n", -12),
    (b"$0\r\n\r\n", b""),
    (b"$4\r\n\r\n\r\n\r\n", b"\r\n\r\n"),
    (b"$-1\r\n", None),
    (b"*-1\r\n", None),
    (b"_\r\n", None),
    (b"*0\r\n", []),
    (b"*2\r\n*1\r\n:1\r\n$-1\r\n", [[1], None]),
    (b",-inf\r\n", float("-inf")),
    (b",1e10\r\n", 1e10),
    (b"#t\r\n", True),
    (
        b"(3492890328409238509324850943850943825024385\r\n",
        BigNumber(3492890328409238509324850943850943825024385),
    ),
    (b"=7\r\ntxt:a\r\n\r\n", Verbatim("txt", b"a\r\n")),
    (b"%2\r\n+a\r\n:1\r\n*1\r\n:2\r\n%0\r\n", {"a": 1, (2,): {}}),
    (b"~2\r\n:1\r\n:1\r\n", SetReply([1, 1])),
    (b">2\r\n$1\r\na\r\n:1\r\n", Push([b"a", 1])),
    (b"|1\r\n+a\r\n:1\r\n*1\r\n:2\r\n", Attributed({"a": 1}, [2])),
]


@pytest.mark.parametrize(("raw", "value"), REPLIES, ids=[repr(raw) for raw, _ in REPLIES])
def test_replies_are_cut_and_parsed(raw: bytes, value: Any) -> None:
    parsed = parse(raw)
    assert parsed == value
    assert type(parsed) is type(value)
    scanner = ReplyScanner()
    found = []
    for at in range(len(raw) * 2):
        scanner.feed((raw * 2)[at : at + 1])
        while (reply := scanner.next()) is not None:
            found.append(reply)
    assert found == [raw, raw]


def test_commands_are_encoded() -> None:
    assert encode(("SET", b"\xff", 1, 1.5, "é")) == (
        b"*5\r\n$3\r\nSET\r\n$1\r\n\xff\r\n$1\r\n1\r\n$3\r\n1.5\r\n$2\r\n\xc3\xa9\r\n"
    )


def test_only_listed_differences_are_explained() -> None:
    hashtable, listpack = b"$9\r\nhashtable\r\n", b"$8\r\nlistpack\r\n"
    assert explanation([b"OBJECT", b"encoding", b"s"], hashtable, listpack)
    assert explanation([b"OBJECT", b"encoding", b"s"], listpack, hashtable) is None
    assert explanation([b"GET", b"s"], hashtable, listpack) is None
    assert all(difference.why for difference in DIFFERENCES)


def test_protocol_3_is_spoken(start_redis: StartServer) -> None:
    server = start_redis()
    with RespClient(server.port, protocol=3) as client:
        client.ok("HSET", "h", "f", "v")
        assert client.call("HGETALL", "h") == {b"f": b"v"}
        assert client.call_raw("GET", "missing") == b"_\r\n"

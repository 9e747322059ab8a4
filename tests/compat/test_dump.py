"""DUMP, RESTORE and MIGRATE between a real redis-server and Lamina's, in both directions."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest
from hypothesis import strategies as st

from harness.commands import ELEMENTS, KEYS, VALUES, choice, command, flags, history_tests, maybe, several
from harness.compat import Pair
from harness.rdbfiles import dump as packed
from harness.resp import Argument, ErrorReply, RespClient, to_bytes
from harness.servers import TESTED_SERVER, StartServer

COPY = b"copy of "


def content_of(client: RespClient, key: Argument) -> Any:
    """Return what a key holds, in either protocol."""
    kind = client.ok("TYPE", key)
    if kind == "string":
        return client.ok("GET", key)
    if kind == "list":
        return kind, client.ok("LRANGE", key, 0, -1)
    if kind == "set":
        return kind, sorted(client.ok("SMEMBERS", key))
    if kind == "hash":
        fields = sorted(client.ok("HKEYS", key))
        return kind, fields, client.ok("HMGET", key, *fields)
    if kind == "stream":
        return kind, client.ok("XRANGE", key, "-", "+")
    members = client.ok("ZRANGE", key, 0, -1)
    return kind, members, client.ok("ZMSCORE", key, *members)


def exchange(pair: Pair, *words: Argument) -> None:
    """Give both servers the payloads that each makes of a key: what they make of them must be equal."""
    if len(words) != 2:
        pair(*words)
        return
    key = to_bytes(words[1])
    payloads = [client.call("DUMP", key) for client in (pair.reference, pair.tested)]
    assert (payloads[0] is None) == (payloads[1] is None)
    if payloads[0] is None:
        return
    for at, data in enumerate(payloads):
        name = COPY + b"%d " % at + key
        pair("RESTORE", name, 0, data, "REPLACE")
        pair.encoding("OBJECT", "ENCODING", name)
    for name in (COPY + b"0 " + key, COPY + b"1 " + key):
        found = [content_of(client, name) for client in (pair.reference, pair.tested)]
        assert found[0] == found[1], name


SCORES = choice(1, 2.5, -3, "inf", "-inf", "-0.0", 0, 0.5, 17179869184)
NUMBERS = st.integers(-(1 << 63), (1 << 63) - 1).map(str)
LONG = st.sampled_from(["x" * 70, "y" * 5000, "-1", "0", "128", "4096", "32768", "16777216", "ab" * 40_000])
TEXTS = choice(VALUES, ELEMENTS, NUMBERS, LONG)

PAYLOADS = st.sampled_from(
    [
        packed(0, b"\x05hello"),
        packed(0, b"\xc0\x85"),
        packed(1, b"\x02\x01a\x01b"),
        packed(2, b"\x02\x01a\x01b"),
        packed(3, b"\x02\x01a\x011\x01b\xfe"),
        packed(4, b"\x01\x01f\x01v"),
        packed(5, b"\x01\x01m" + bytes(8)),
        packed(2, b"\x02\x01a\x01a"),
        packed(2, b"\x00"),
        packed(99),
        packed(0, b"\x3fhello"),  # Redis would take what is missing from the footer, if that has enough
        packed(0, b"\x05hello", version=99),
        packed(0, b"\x05hello")[:-1] + b"?",
        b"",
        b"short",
    ]
)
TIMES = choice(0, 0, 0, 100_000, -1, "x", 1 << 62, "9223372036854775807")

DUMPS = [
    command("SET", KEYS, TEXTS),
    command("SETRANGE", KEYS, choice(0, 3, 100_000), VALUES),
    command("RPUSH", KEYS, several(TEXTS)),
    command("LPUSH", KEYS, several(TEXTS)),
    command("LPOP", KEYS),
    command("LINSERT", KEYS, "BEFORE", ELEMENTS, TEXTS),
    command("SADD", KEYS, several(TEXTS)),
    command("SADD", KEYS, several(NUMBERS)),
    command("SREM", KEYS, several(TEXTS)),
    command("ZADD", KEYS, several(SCORES, TEXTS)),
    command("ZREM", KEYS, several(TEXTS)),
    command("HSET", KEYS, several(TEXTS, TEXTS)),
    command("HDEL", KEYS, several(TEXTS)),
    command("DUMP", KEYS, check=exchange),
    command("DUMP", KEYS, check=exchange),
    command("DUMP", KEYS, check=exchange),
    command(
        "RESTORE",
        KEYS,
        TIMES,
        PAYLOADS,
        flags("REPLACE", "replace", "ABSTTL", "nope"),
        maybe("IDLETIME", choice(1, -1, "x")),
        maybe("FREQ", choice(1, 255, 256, -1, "x")),
    ),
    command("RESTORE-ASKING", KEYS, TIMES, PAYLOADS, flags("REPLACE")),
    command("DEL", KEYS),
]

test_dumps, test_dumps_restarted, test_dumps_at_length, test_dumps_restarted_at_length = history_tests(
    "dumps", DUMPS
)


@pytest.mark.parametrize("size", [1, 2, 127, 128, 129, 511, 512, 513, 3000])
def test_encodings_by_size(pair: Pair, size: int) -> None:
    pair("RPUSH", "l", *range(size))
    pair("SADD", "i", *range(size))
    pair("SADD", "s", *[f"m{i}" for i in range(size)])
    pair("ZADD", "z", *[word for i in range(size) for word in (i / 8, f"m{i}")])
    pair("HSET", "h", *[word for i in range(size) for word in (f"f{i}", i)])
    for key in ("l", "i", "s", "z", "h"):
        exchange(pair, "DUMP", key)
    pair.assert_same_contents()


def test_streams_go_both_ways(pair: Pair) -> None:
    for at in range(1, 400):
        pair("XADD", "s", f"{at}-{at}", "same", at, "other", "x" * (at % 50))
    pair("XADD", "s", "500-1", "odd", "fields", "here", b"\x00\xff")
    pair("XDEL", "s", "1-1", "30-30", "500-1")
    pair("XGROUP", "CREATE", "s", "g", "10")
    pair("XGROUP", "CREATE", "s", "h", "$", "ENTRIESREAD", 7)
    pair("XREADGROUP", "GROUP", "g", "a", "COUNT", 50, "STREAMS", "s", ">")
    pair("XREADGROUP", "GROUP", "g", "b", "COUNT", 20, "STREAMS", "s", ">")
    pair("XGROUP", "CREATECONSUMER", "s", "g", "c")
    pair("XACK", "s", "g", "20-20", "21-21")
    pair("XGROUP", "CREATE", "empty", "g", "$", "MKSTREAM")
    for key in ("s", "empty"):
        exchange(pair, "DUMP", key)
        pair("XINFO", "GROUPS", key)
    pair.assert_same_contents()


# -- MIGRATE ---------------------------------------------------------------------------------------------


FILL: list[tuple[Argument, ...]] = [
    ("SET", "s", "hello"),
    ("SETRANGE", "big", 100_000, "end"),
    ("RPUSH", "l", *range(1000)),
    ("SADD", "set", *range(1000), "a"),
    ("ZADD", "z", *[word for i in range(1000) for word in (i / 8, f"m{i}")]),
    ("HSET", "h", *[word for i in range(1000) for word in (f"f{i}", i)]),
    ("XADD", "stream", "5-5", "f", "v"),
    ("XGROUP", "CREATE", "stream", "g", "0"),
]


@pytest.mark.parametrize("direction", [1, -1])
def test_keys_move_over(pair: Pair, direction: int) -> None:
    source, target = (pair.reference, pair.tested)[::direction]
    port = pair.servers[::direction][1].port
    for words in FILL:
        source.ok(*words)
    source.ok("PEXPIRE", "l", 100_000)
    keys = [str(words[1]) for words in FILL if words[0] != "XGROUP"]
    expected = {key: content_of(source, key) for key in keys}
    assert source.call("MIGRATE", "127.0.0.1", port, "s", 3, 5000, "COPY") == "OK"
    assert source.ok("EXISTS", *keys) == len(keys)
    reply = source.call("MIGRATE", "127.0.0.1", port, "", 3, 5000, "KEYS", *keys, "none")
    assert isinstance(reply, ErrorReply)
    assert reply.text.endswith("BUSYKEY Target key name already exists.")
    assert source.ok("EXISTS", *keys) == 1
    assert source.call("MIGRATE", "127.0.0.1", port, "s", 3, 5000, "REPLACE") == "OK"
    assert source.ok("DBSIZE") == 0
    assert source.call("MIGRATE", "127.0.0.1", port, "s", 3, 5000) == "NOKEY"
    target.ok("SELECT", 3)
    assert {key: content_of(target, key) for key in keys} == expected
    assert 90_000 < target.ok("PTTL", "l") <= 100_000


def test_what_is_said_of_wrong_orders(pair: Pair) -> None:
    pair("SET", "k", "v")
    closed = socket.create_server(("127.0.0.1", 0))
    port = closed.getsockname()[1]
    closed.close()
    start: list[Any] = ["MIGRATE", "127.0.0.1", port]
    for rest in (
        ["k", 0, 1000],
        ["none", 0, 1000],
        ["k", "x", 1000],
        ["k", 0, "x"],
        ["k", 0, 1000, "KEYS", "k"],
        ["", 0, 1000, "KEYS"],
        ["", 0, 1000, "KEYS", "k", "none"],
        ["k", 0, 1000, "AUTH"],
        ["k", 0, 1000, "AUTH2", "a"],
        ["k", 0, 1000, "COPY", "REPLACE", "x"],
        ["k", 0],
    ):
        pair(*start, *rest)
    pair("MIGRATE", "host.invalid", port, "k", 0, 500)
    pair("MIGRATE", "127.0.0.1", "x", "k", 0, 500)
    pair("COMMAND", "GETKEYS", *start, "k", 0, 1000)
    pair("COMMAND", "GETKEYS", *start, "", 0, 1000, "COPY", "AUTH", "KEYS", "KEYS", "a", "b")
    for number, server in enumerate(pair.servers):
        with server.client() as client:
            client.ok("SELECT", number)
            client.ok("SET", "k", "v")
            target = pair.servers[1 - number].port
            reply = client.call("MIGRATE", "127.0.0.1", target, "k", 99, 1000)
            assert isinstance(reply, ErrorReply)
            assert reply.text.endswith("ERR DB index is out of range")
            assert client.ok("EXISTS", "k") == 1


@pytest.mark.skipif(TESTED_SERVER != "lamina", reason="Redis lets everybody wait")
def test_others_read_meanwhile_and_write_afterwards(start_lamina: StartServer) -> None:
    server = start_lamina()
    silent = socket.create_server(("127.0.0.1", 0))
    with silent, server.client() as mover, server.client() as reader, server.client() as writer:
        mover.ok("SET", "k", "v")
        mover.send("MIGRATE", "127.0.0.1", silent.getsockname()[1], "k", 0, 700)
        time.sleep(0.2)
        started = time.monotonic()
        assert reader.call("GET", "k") == b"v"
        assert time.monotonic() - started < 0.2
        writer.send("SET", "k", "new")
        assert "blocked_clients:1" in reader.ok("INFO", "clients").decode()
        assert reader.call("GET", "k") == b"v"
        reply = mover.read()
        assert isinstance(reply, ErrorReply)
        assert reply.text == "IOERR error or timeout reading to target instance"
        assert writer.read() == "OK"
        assert reader.call("GET", "k") == b"new"


@pytest.mark.skipif(TESTED_SERVER != "lamina", reason="Redis lets everybody wait")
def test_a_client_that_goes_meanwhile(start_lamina: StartServer) -> None:
    server, other = start_lamina(), start_lamina()
    with server.client() as reader, other.client() as target:
        with server.client() as mover:
            mover.pipeline([("SET", f"k{i}", "x" * 1000) for i in range(3000)])
            mover.send(
                "MIGRATE", "127.0.0.1", other.port, "", 0, 5000, "KEYS", *[f"k{i}" for i in range(3000)]
            )
        deadline = time.monotonic() + 10
        while reader.call("SET", "probe", 1) != "OK" or target.ok("DBSIZE") < 3000:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert (reader.ok("DBSIZE"), target.ok("DBSIZE")) == (1, 3000)

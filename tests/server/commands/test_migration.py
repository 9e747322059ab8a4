"""DUMP, RESTORE and MIGRATE."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from harness.local import LocalClient, Servers
from harness.localcontents import contents_of
from harness.rdbfiles import dump as packed
from harness.rdbvalues import collections, streams, timed_hashes
from lamina.server.errors import CommandError
from lamina.server.rdb import opcodes, payload
from lamina.server.rdb.crc64 import crc64
from lamina.server.rdb.opcodes import REDIS_72, REDIS_74
from lamina.server.rdb.rules import SavingRules
from lamina.server.rdb.values import Value

BUSY = CommandError(b"BUSYKEY Target key name already exists.")
FOOTER = CommandError(b"ERR DUMP payload version or checksum are wrong")
FORMAT = CommandError(b"ERR Bad data format")
SYNTAX = CommandError(b"ERR syntax error")
NOT_AN_INTEGER = CommandError(b"ERR value is not an integer or out of range")

FILL = [
    ("SET", "string", "hello"),
    ("SET", "integer", "-12345"),
    ("SETRANGE", "big", 100_000, "end"),
    ("RPUSH", "list", *range(400), "x" * 5000),
    ("SADD", "intset", *range(100)),
    ("SADD", "set", *range(20), "a"),
    ("SADD", "large set", *[f"m{i}" for i in range(300)]),
    ("ZADD", "zset", 1, "a", 2.5, "b", "-inf", "c"),
    ("ZADD", "large zset", *[word for i in range(300) for word in (i / 8, f"m{i}")], "-0.0", "zero"),
    ("HSET", "hash", "f", 1, "g", "x"),
    ("HSET", "large hash", *[word for i in range(600) for word in (f"f{i}", i)]),
    ("HSET", "timed", "f", 1, "g", 2, "h", 3),
    ("HPEXPIRE", "timed", 100_000, "FIELDS", 2, "f", "g"),
    ("HSET", "large timed", *[word for i in range(600) for word in (f"f{i}", i)]),
    ("HPEXPIRE", "large timed", 100_000, "FIELDS", 2, "f10", "f20"),
    *(("XADD", "stream", f"{i}-1", "f", i, "g", "x" * i) for i in range(1, 300)),
    ("XGROUP", "CREATE", "stream", "group", "5-0"),
    ("XREADGROUP", "GROUP", "group", "one", "COUNT", 10, "STREAMS", "stream", ">"),
    ("XREADGROUP", "GROUP", "group", "two", "COUNT", 5, "STREAMS", "stream", ">"),
    ("XDEL", "stream", "3-1", "7-1"),
    ("XGROUP", "CREATE", "empty stream", "group", "$", "MKSTREAM"),
]


def fill(local: LocalClient) -> None:
    for command in FILL:
        assert not isinstance(local(*command), CommandError)


def encoding(local: LocalClient, key: bytes) -> bytes:
    found: bytes = local("OBJECT", "ENCODING", key)
    return found


@pytest.mark.parametrize("rdbcompression", ["yes", "no"])
def test_what_is_dumped_is_restored(make_local: Servers, rdbcompression: str) -> None:
    local = make_local.make(rdbcompression=rdbcompression)
    fill(local)
    expected = contents_of(local)
    encodings = {key: encoding(local, key) for key in expected}
    times = local("HPEXPIRETIME", "timed", "FIELDS", 3, "f", "g", "h")
    payloads = {key: local("DUMP", key) for key in expected}
    assert local.pipeline(*[("DUMP", key) for key in expected]) == list(payloads.values())
    local.reload()
    assert {key: local("DUMP", key) for key in expected} == payloads
    local("FLUSHALL")
    for key, data in payloads.items():
        assert local("RESTORE", key, 0, data) == b"OK"
    assert contents_of(local) == expected
    assert {key: encoding(local, key) for key in expected} == encodings
    assert local("HPEXPIRETIME", "timed", "FIELDS", 3, "f", "g", "h") == times
    local.reload()
    assert contents_of(local) == expected


def test_dump_of_nothing(local: LocalClient) -> None:
    assert local("DUMP", "missing") is None
    local("HSET", "h", "f", 1)
    local("HPEXPIRE", "h", 10, "FIELDS", 1, "f")
    local.clock.advance(20)
    assert local("DUMP", "h") is None


def test_the_version_is_the_oldest_that_will_do(local: LocalClient) -> None:
    fill(local)
    assert local("DUMP", "hash")[-10:-8] == b"\x0a\0"
    assert local("DUMP", "timed")[-10:-8] == b"\x0c\0"
    assert local("DUMP", "integer") == packed(0, b"\xc1\xc7\xcf")


def test_dump_leaves_out_fields_that_have_expired(local: LocalClient) -> None:
    local("HSET", "h", "f", 1, "g", 2)
    local("HPEXPIRE", "h", 10, "FIELDS", 1, "f")
    local.clock.advance(20)
    data = local("DUMP", "h")
    assert data == packed(opcodes.HASH_LISTPACK, b"\x0c\x0c\0\0\0\x02\0\x81g\x02\x02\x01\xff")


HELLO = packed(0, b"\x05hello")


def test_restore_refuses_what_it_must(local: LocalClient) -> None:
    local("SET", "k", "v")
    cases: list[tuple[tuple[object, ...], CommandError]] = [
        (("k", 0, "x"), BUSY),
        (("k", "abc", HELLO), BUSY),
        (("k2", "abc", HELLO), NOT_AN_INTEGER),
        (("k2", -1, "x"), CommandError(b"ERR Invalid TTL value, must be >= 0")),
        (("k2", 0, "x"), FOOTER),
        (("k2", 0, HELLO[:-1]), FOOTER),
        (("k2", 0, packed(0, b"\x05hello", version=13)), FOOTER),
        (("k2", 0, packed(0, b"\x06hello")), FORMAT),
        (("k2", 0, packed(0, b"\x05hello!")), FORMAT),
        (("k2", 0, packed(99, b"")), FORMAT),
        (("k2", 0, packed(opcodes.MODULE_2, b"\x01")), FORMAT),
        (("k2", 0, packed(opcodes.SET, b"\0")), FORMAT),
        (("k2", 0, HELLO, "NX"), SYNTAX),
        (("k2", 0, HELLO, "IDLETIME"), SYNTAX),
        (("k2", 0, HELLO, "IDLETIME", "x"), NOT_AN_INTEGER),
        (("k2", 0, HELLO, "IDLETIME", -1), CommandError(b"ERR Invalid IDLETIME value, must be >= 0")),
        (("k2", 0, HELLO, "FREQ", 256), CommandError(b"ERR Invalid FREQ value, must be >= 0 and <= 255")),
        (("k2", 0, HELLO, "FREQ", -1), CommandError(b"ERR Invalid FREQ value, must be >= 0 and <= 255")),
        (("k2", 0, HELLO, "FREQ", 1, "IDLETIME", 1), SYNTAX),
        (("k2", 0, HELLO, "IDLETIME", 1, "FREQ", 1), SYNTAX),
        (("k", 0, "x", "REPLACE"), FOOTER),
    ]
    for words, error in cases:
        assert local("RESTORE", *words) == error, words
        assert local("RESTORE-ASKING", *words) == error, words
    assert contents_of(local) == {b"k": ("string", b"v")}


def test_restore_with_a_time(local: LocalClient) -> None:
    now_ms = local.clock.now_ms
    assert local("RESTORE", "a", 1500, HELLO) == b"OK"
    assert local("PTTL", "a") == 1500
    assert local("RESTORE", "b", now_ms + 70, HELLO, "ABSTTL", "IDLETIME", 5) == b"OK"
    assert local("PEXPIRETIME", "b") == now_ms + 70
    big = packed(0, b"\x80" + (70_000).to_bytes(4, "big") + bytes(70_000))
    assert local("RESTORE", "b", 100, big, "REPLACE", "FREQ", 5) == b"OK"
    assert (local("PTTL", "b"), local("STRLEN", "b")) == (100, 70_000)
    assert local("RESTORE", "b", 0, HELLO, "replace") == b"OK"
    assert (local("PTTL", "b"), local("GET", "b")) == (-1, b"hello")
    # A time that has come: nothing is made, and what is replaced goes.
    assert local("RESTORE", "c", now_ms, HELLO, "ABSTTL") == b"OK"
    assert local("RESTORE", "b", 1, HELLO, "ABSTTL", "REPLACE") == b"OK"
    assert local("RESTORE", "a", (1 << 63) - 1, HELLO, "REPLACE") == b"OK"
    assert contents_of(local) == {}


def test_events_of_restore(local: LocalClient) -> None:
    local("CONFIG", "SET", "notify-keyspace-events", "KEA")
    other = local.connect()
    other("PSUBSCRIBE", "__keyevent@0__:*")
    local("RESTORE", "a", 0, HELLO)
    local("RESTORE", "a", 1000, HELLO, "REPLACE")
    local("RESTORE", "a", 1, HELLO, "REPLACE", "ABSTTL")
    local("RESTORE", "a", 1, HELLO, "REPLACE", "ABSTTL")
    names = [reply[2].removeprefix(b"__keyevent@0__:") for reply in other.pushed()]
    assert names == [b"restore", b"restore", b"del"]


def test_restore_wakes_who_waits_and_fails_who_watches(local: LocalClient) -> None:
    other = local.connect()
    other.run(("BLPOP", "l", 0))
    watcher = local.connect()
    watcher("WATCH", "l2")
    data = packed(opcodes.LIST, b"\x02\x01a\x01b")
    assert local("RESTORE", "l", 0, data) == b"OK"
    assert other.pushed() == [[b"l", b"a"]]
    assert local("RESTORE", "l2", 0, data) == b"OK"
    watcher("MULTI")
    watcher("PING")
    assert watcher("EXEC") is None


@given(value=streams())
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_streams_come_back_as_they_were(local: LocalClient, value: Value) -> None:
    data = payload.encode(value, SavingRules(version=REDIS_72))
    reply = local("RESTORE", "s", 0, data, "REPLACE")
    if reply == FORMAT:  # ids behind the last one, say
        return
    assert reply == b"OK"
    again = local("DUMP", "s")
    assert local("RESTORE", "t", 0, again, "REPLACE") == b"OK"
    assert local("DUMP", "t") == again
    local.reload()
    assert local("XINFO", "STREAM", "s") == local("XINFO", "STREAM", "t")
    assert (
        local("XINFO", "STREAM", "s", "FULL", "COUNT", 0)[::2]
        == local("XINFO", "STREAM", "t", "FULL", "COUNT", 0)[::2]
    )


# -- payloads that are not what they should be -----------------------------------------------------------


def resealed(body: bytes) -> bytes:
    return body + crc64(body, 0).to_bytes(8, "little")


@given(
    value=st.one_of(collections(), timed_hashes(), streams()),
    compress=st.booleans(),
    edits=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255), st.booleans()), max_size=4),
    cut=st.integers(0, 12),
)
@example(value=b"x", compress=False, edits=[], cut=0)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_payload_leaves_nothing_behind(
    local: LocalClient, value: Value, compress: bool, edits: list[tuple[int, int, bool]], cut: int
) -> None:
    body = bytearray(payload.encode(value, SavingRules(version=REDIS_74, compress=compress))[:-8])
    for at, byte, inserts in edits:
        place = at % len(body)
        body[place : place + (not inserts)] = bytes((byte,))
    if cut and cut < len(body) - 2:
        del body[-2 - cut : -2]
    local("FLUSHALL")
    local("SET", "k", "old")
    before = local.server.databases.store.db.count()
    reply = local("RESTORE", "k", 0, resealed(bytes(body)), "REPLACE")
    if reply == b"OK":
        assert local("DUMP", "k") is not None or local("TYPE", "k") == b"none"
        local("DEL", "k")
        assert local("DBSIZE") == 0
    else:
        assert reply in (FORMAT, FOOTER)
        assert local("GET", "k") == b"old"
        assert local.server.databases.store.db.count() == before


# -- MIGRATE ---------------------------------------------------------------------------------------------


class Target:
    """A server that takes commands and answers them as it was told: one connection after the other."""

    def __init__(self, replies: list[bytes]) -> None:
        self.replies = replies
        self.received = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            with connection:
                connection.settimeout(5)
                left = list(self.replies)
                while data := connection.recv(1 << 16):
                    self.received += data
                    for _ in range(data.count(b"RESTORE") + data.count(b"SELECT") + data.count(b"AUTH")):
                        if not left:
                            return
                        connection.sendall(left.pop(0))

    def close(self) -> None:
        self._listener.close()
        self._thread.join(5)


@contextlib.contextmanager
def target(*replies: bytes) -> Iterator[Target]:
    found = Target(list(replies))
    try:
        yield found
    finally:
        found.close()


def test_migrate_moves_keys(local: LocalClient) -> None:
    local("SET", "a", "hello")
    local("SET", "b", "x", "PX", 5000)
    with target(*[b"+OK\r\n"] * 3) as other:
        words = ("MIGRATE", "127.0.0.1", other.port, "", 7, 2000, "REPLACE", "KEYS", "a", "b", "none", "a")
        assert local(*words) == b"OK"
    assert local("EXISTS", "a", "b") == 0
    assert b"$6\r\nSELECT\r\n$1\r\n7\r\n" in other.received
    assert b"RESTORE\r\n$1\r\na\r\n$1\r\n0\r\n" in other.received
    assert b"RESTORE\r\n$1\r\nb\r\n$4\r\n5000\r\n" in other.received
    assert other.received.count(b"REPLACE") == 2


def test_migrate_copies_and_authenticates(local: LocalClient) -> None:
    local("SET", "a", "hello")
    with target(*[b"+OK\r\n"] * 3) as other:
        words = ("MIGRATE", "127.0.0.1", other.port, "a", 0, 2000, "COPY", "AUTH2", "me", "secret")
        assert local(*words) == b"OK"
    assert local("GET", "a") == b"hello"
    assert other.received.startswith(b"*3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$6\r\nsecret\r\n")


def test_what_the_target_refuses_stays(local: LocalClient) -> None:
    local.pipeline(*[("SET", key, "x") for key in "abc"])
    with target(b"+OK\r\n", b"+OK\r\n", b"-BUSYKEY Target key name already exists.\r\n", b"+OK\r\n") as other:
        reply = local("MIGRATE", "127.0.0.1", other.port, "", 0, 2000, "KEYS", "a", "b", "c")
    text = b"ERR Target instance replied with error: BUSYKEY Target key name already exists."
    assert reply == CommandError(text)
    assert local("KEYS", "*") == [b"b"]
    with target(b"-WRONGPASS no\r\n") as other:
        reply = local("MIGRATE", "127.0.0.1", other.port, "b", 0, 2000, "AUTH", "wrong")
    assert reply == CommandError(b"ERR Target instance replied with error: WRONGPASS no")
    assert b"RESTORE" not in other.received
    assert local("KEYS", "*") == [b"b"]


def test_a_connection_that_breaks(local: LocalClient) -> None:
    local.pipeline(*[("SET", key, "x") for key in "abc"])
    with target(b"+OK\r\n", b"+OK\r\n") as other:
        reply = local("MIGRATE", "127.0.0.1", other.port, "", 0, 2000, "KEYS", "a", "b", "c")
    assert reply == CommandError(b"IOERR error or timeout reading to target instance")
    assert local("KEYS", "*") == [b"b", b"c"]  # what was acknowledged has gone
    silent = socket.create_server(("127.0.0.1", 0))
    port = silent.getsockname()[1]
    with silent:
        reply = local("MIGRATE", "127.0.0.1", port, "b", 0, 50)
    assert reply == CommandError(b"IOERR error or timeout reading to target instance")
    reply = local("MIGRATE", "127.0.0.1", port, "b", 0, 50)
    assert reply == CommandError(b"IOERR error or timeout writing to target instance")
    for host in (b"\xff\xfe", "a" * 300, b"a\0b"):
        reply = local("MIGRATE", host, port, "b", 0, 50)
        assert reply == CommandError(b"IOERR error or timeout connecting to the client")
    assert local("KEYS", "*") == [b"b", b"c"]


def test_many_keys_go_in_windows(local: LocalClient) -> None:
    names = [f"k{i:03}" for i in range(200)]
    local.pipeline(*[("SET", name, "x" * 20_000) for name in names])
    with target(*[b"+OK\r\n"] * 201) as other:
        assert local("MIGRATE", "127.0.0.1", other.port, "", 0, 2000, "KEYS", *names) == b"OK"
    assert local("DBSIZE") == 0
    assert other.received.count(b"RESTORE") == 200


def test_migrate_refuses_what_it_must(local: LocalClient) -> None:
    local("SET", "k", "v")
    start = ("MIGRATE", "127.0.0.1", 1)
    keys = CommandError(
        b"ERR When using MIGRATE KEYS option, the key argument must be set to the empty string"
    )
    assert local(*start, "none", 0, 1000) == b"NOKEY"
    assert local(*start, "", 0, 1000, "KEYS") == b"NOKEY"
    assert local(*start, "", 0, 1000, "KEYS", "none", "other") == b"NOKEY"
    assert local(*start, "k", 0, 1000, "KEYS", "k") == keys
    assert local(*start, "k", "x", 1000) == NOT_AN_INTEGER
    assert local(*start, "k", 0, "x") == NOT_AN_INTEGER
    for options in (("AUTH",), ("AUTH2", "a"), ("NX",), ("COPY", "x"), ("AUTH2",)):
        assert local(*start, "k", "x", 1000, *options) == SYNTAX


def test_migrate_inside_a_transaction(local: LocalClient) -> None:
    with target(b"+OK\r\n", b"+OK\r\n") as other:
        local("MULTI")
        local("SET", "a", "new")
        local("MIGRATE", "127.0.0.1", other.port, "a", 0, 2000)
        local("EXISTS", "a")
        assert local("EXEC") == [b"OK", b"OK", 0]
    assert b"\x03new" in other.received


def test_positions_of_keys(local: LocalClient) -> None:
    start = ("MIGRATE", "h", 1)
    assert local("COMMAND", "GETKEYS", *start, "k", 0, 1) == [b"k"]
    assert local("COMMAND", "GETKEYS", *start, "", 0, 1, "AUTH", "KEYS", "KEYS", "a", "b") == [b"a", b"b"]

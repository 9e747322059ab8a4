"""Hash commands: values, numbers, removal, random fields, scans, encodings, events."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from harness.local import LocalClient, Servers
from lamina.server import elements, events
from lamina.server.errors import (
    HASH_VALUE_NOT_A_FLOAT,
    HASH_VALUE_NOT_AN_INTEGER,
    NAN_OR_INFINITY,
    NOT_AN_INTEGER,
    OVERFLOW,
    SYNTAX,
    WRONG_TYPE,
    CommandError,
)
from lamina.server.records import Record
from lamina.server.types import hashes


@pytest.fixture(params=["held", "loaded", "on disk"])
def hashed(
    request: pytest.FixtureRequest, local: LocalClient, monkeypatch: pytest.MonkeyPatch
) -> LocalClient:
    """A client with the hash `h` of 40 fields f0..f39, in memory from the start, loaded, or never loaded."""
    pairs = [text for i in range(40) for text in (f"f{i}", f"v{i}")]
    assert local("HSET", "h", *pairs) == 40
    if request.param == "on disk":
        monkeypatch.setattr(elements, "LOADED_AT_ONCE", -1)
        monkeypatch.setattr(elements, "LOADED_EVER", -1)
    if request.param != "held":
        local.reload()
    return local


def pairs_of(flat: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def encoding(local: LocalClient, key: bytes) -> bytes:
    record = local.client.keyspace.find(key)
    assert isinstance(record, hashes.Hash)
    return hashes.encoding_name(record)


def heard(local: LocalClient) -> list[tuple[bytes, bytes]]:
    """Listen to all events from now on, and return the list that they are added to."""
    found: list[tuple[bytes, bytes]] = []
    keyspace = local.client.keyspace
    keyspace.listens = events.ALL
    keyspace.databases.on_event = lambda keyspace, kind, name, key: found.append((name, key))
    return found


FIELDS = {f"f{i}".encode(): f"v{i}".encode() for i in range(40)}


def test_set_and_get(hashed: LocalClient) -> None:
    assert hashed("HGET", "h", "f7") == b"v7"
    assert hashed("HGET", "h", "none") is None
    assert hashed("HSET", "h", "f7", "new") == 0
    assert hashed("HSET", "h", "f40", "") == 1
    assert hashed("HSET", "h", "f7", "newer", "f41", "x", "f41", "y") == 1
    assert hashed("HMSET", "h", "f42", "z") == b"OK"
    hashed.reload()
    assert hashed("HMGET", "h", "f7", "none", "f40", "f41", "f42", "f1") == [
        *(b"newer", None, b"", b"y", b"z", b"v1")
    ]
    assert hashed("HLEN", "h") == 43
    assert hashed("HSTRLEN", "h", "f7") == 5
    assert hashed("HSTRLEN", "h", "none") == 0
    assert hashed("HEXISTS", "h", "f40") == 1
    assert hashed("HEXISTS", "h", "none") == 0


def test_set_if_missing(hashed: LocalClient) -> None:
    assert hashed("HSETNX", "h", "f1", "x") == 0
    assert hashed("HSETNX", "h", "g", "x") == 1
    assert hashed("HMGET", "h", "f1", "g") == [b"v1", b"x"]
    assert hashed("HSETNX", "new", "f", "x") == 1
    hashed.reload()
    assert hashed("HGETALL", "new") == [b"f", b"x"]


def test_all_of_it(hashed: LocalClient) -> None:
    assert pairs_of(hashed("HGETALL", "h")) == FIELDS
    assert sorted(hashed("HKEYS", "h")) == sorted(FIELDS)
    assert sorted(hashed("HVALS", "h")) == sorted(FIELDS.values())
    # Keys and values come in the same order.
    assert dict(zip(hashed("HKEYS", "h"), hashed("HVALS", "h"), strict=True)) == FIELDS


def test_what_is_missing(local: LocalClient) -> None:
    assert local("HGETALL", "no") == []
    assert local("HKEYS", "no") == local("HVALS", "no") == []
    assert local("HMGET", "no", "a", "b") == [None, None]
    assert local("HLEN", "no") == local("HSTRLEN", "no", "f") == local("HDEL", "no", "f") == 0
    assert local("HSCAN", "no", 0) == [b"0", []]
    assert local("HRANDFIELD", "no") is None
    assert local("HRANDFIELD", "no", -3, "WITHVALUES") == []
    assert local("DBSIZE") == 0


def test_hgetall_in_a_transaction_is_of_its_moment(local: LocalClient) -> None:
    local("HSET", "h", "f", "old")
    replies = local.pipeline(("MULTI",), ("HGETALL", "h"), ("HSET", "h", "f", "new", "g", "x"), ("EXEC",))
    assert replies[-1] == [[b"f", b"old"], 1]


def test_resp3(local: LocalClient) -> None:
    local("HSET", "h", "f", "v")
    local.client.resp = 3
    assert local.raw("HGETALL", "h") == b"%1\r\n$1\r\nf\r\n$1\r\nv\r\n"
    assert local.raw("HGETALL", "no") == b"%0\r\n"
    assert local.raw("HRANDFIELD", "h", 1, "WITHVALUES") == b"*1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n"
    assert local.raw("HRANDFIELD", "h", 1) == b"*1\r\n$1\r\nf\r\n"
    assert local.raw("HRANDFIELD", "no") == b"_\r\n"
    assert local.raw("HSCAN", "h", 0) == b"*2\r\n$1\r\n0\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n"
    assert local.raw("HSETNX", "h", "f", "v") == b":0\r\n"


def test_remove(hashed: LocalClient) -> None:
    assert hashed("HDEL", "h", "f1", "none", "f2", "f1") == 2
    hashed.reload()
    assert hashed("HMGET", "h", "f1", "f2", "f3") == [None, None, b"v3"]
    assert hashed("HDEL", "h", *FIELDS) == 38
    assert hashed("DBSIZE") == 0
    hashed.reload()
    assert hashed("HLEN", "h") == 0


def test_integers(hashed: LocalClient) -> None:
    assert hashed("HINCRBY", "h", "n", 5) == 5
    assert hashed("HINCRBY", "h", "n", -8) == -3
    hashed.reload()
    assert hashed("HGET", "h", "n") == b"-3"
    hashed("HSET", "h", "n", (1 << 63) - 2)
    assert hashed("HINCRBY", "h", "n", 1) == (1 << 63) - 1
    assert hashed("HINCRBY", "h", "n", 1) == OVERFLOW
    assert hashed("HINCRBY", "h", "f1", 1) == HASH_VALUE_NOT_AN_INTEGER
    assert hashed("HINCRBY", "h", "f1", "x") == NOT_AN_INTEGER
    assert hashed("HINCRBY", "h", "n", 1 << 63) == NOT_AN_INTEGER
    assert hashed("HINCRBY", "new", "n", "x") == NOT_AN_INTEGER
    assert hashed("DBSIZE") == 1


def test_floats(hashed: LocalClient) -> None:
    assert hashed("HINCRBYFLOAT", "h", "n", "10.50") == b"10.5"
    assert hashed("HINCRBYFLOAT", "h", "n", "0.1") == b"10.6"
    assert hashed("HINCRBYFLOAT", "h", "n", "-10.6") == b"0"
    assert hashed("HINCRBYFLOAT", "h", "m", "5.0e3") == b"5000"
    hashed.reload()
    assert hashed("HMGET", "h", "n", "m") == [b"0", b"5000"]
    assert hashed("HINCRBYFLOAT", "h", "f1", 1) == HASH_VALUE_NOT_A_FLOAT
    assert hashed("HINCRBYFLOAT", "h", "n", "nan") == CommandError(b"ERR value is not a valid float")
    assert hashed("HINCRBYFLOAT", "h", "n", "inf") == CommandError(b"ERR value is NaN or Infinity")
    hashed("HSET", "h", "n", "inf")
    assert hashed("HINCRBYFLOAT", "h", "n", 1) == NAN_OR_INFINITY
    assert hashed("HINCRBYFLOAT", "new", "n", "x") == CommandError(b"ERR value is not a valid float")
    assert hashed("DBSIZE") == 1


def test_random_fields(hashed: LocalClient) -> None:
    drawn = Counter(hashed("HRANDFIELD", "h") for _ in range(400))
    assert set(drawn) <= set(FIELDS)
    assert len(drawn) > 25
    some = hashed("HRANDFIELD", "h", 10)
    assert len(some) == len(set(some)) == 10
    assert pairs_of(hashed("HRANDFIELD", "h", 10, "withvalues")).items() <= FIELDS.items()
    assert sorted(hashed("HRANDFIELD", "h", 1000)) == sorted(FIELDS)
    many = hashed("HRANDFIELD", "h", -100)
    assert len(many) == 100
    assert set(many) <= set(FIELDS)
    flat = hashed("HRANDFIELD", "h", -60, "WITHVALUES")
    assert all(FIELDS[field] == value for field, value in zip(flat[::2], flat[1::2], strict=True))
    assert len(flat) == 120
    assert hashed("HRANDFIELD", "h", 0) == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("h", "x"), NOT_AN_INTEGER),
        (("h", 1, "x"), SYNTAX),
        (("h", 1, "WITHVALUES", "x"), SYNTAX),
        (("h", 1 << 62, "WITHVALUES"), CommandError(b"ERR value is out of range")),
        (("h", -(1 << 62)), CommandError(b"ERR value is out of range")),
        (
            ("h", -(1 << 63)),
            CommandError(
                b"ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807"
            ),
        ),
    ],
)
def test_random_fields_refused(local: LocalClient, arguments: tuple[Any, ...], error: CommandError) -> None:
    local("HSET", "h", "f", "v")
    assert local("HRANDFIELD", *arguments) == error


def scan(local: LocalClient, key: str, *options: Any) -> list[bytes]:
    """Return all that a whole iteration finds."""
    found: list[bytes] = []
    cursor = b"0"
    while True:
        cursor, items = local("HSCAN", key, cursor, *options)
        found += items
        if cursor == b"0":
            return found


@pytest.mark.parametrize("entries", [0, 512])
def test_scan(hashed: LocalClient, entries: int) -> None:
    hashed.server.config.set({b"hash-max-listpack-entries": b"%d" % entries})
    hashed("HSET", "h", "f0", "v0")
    assert pairs_of(scan(hashed, "h")) == FIELDS
    assert pairs_of(scan(hashed, "h", "COUNT", 7)) == FIELDS
    assert sorted(scan(hashed, "h", "COUNT", 3, "NOVALUES")) == sorted(FIELDS)
    expected = {field: value for field, value in FIELDS.items() if field.startswith(b"f1")}
    assert pairs_of(scan(hashed, "h", "MATCH", "f1*", "COUNT", 2)) == expected
    assert sorted(scan(hashed, "h", "novalues", "match", "*7")) == [b"f17", b"f27", b"f37", b"f7"]
    first = hashed("HSCAN", "h", 0, "COUNT", 5)
    # A listpack is returned whole.
    assert len(first[1]) == (80 if entries else 10)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("x",), CommandError(b"ERR invalid cursor")),
        ((" 1",), CommandError(b"ERR invalid cursor")),
        ((1 << 64,), CommandError(b"ERR invalid cursor")),
        (("-",), CommandError(b"ERR invalid cursor")),
        ((0, "COUNT"), SYNTAX),
        ((0, "COUNT", 0), SYNTAX),
        ((0, "COUNT", "x"), NOT_AN_INTEGER),
        ((0, "MATCH"), SYNTAX),
        ((0, "TYPE", "hash"), SYNTAX),
        ((0, "NOVALUES", "x"), SYNTAX),
    ],
)
def test_scan_refused(local: LocalClient, options: tuple[Any, ...], error: CommandError) -> None:
    local("HSET", "h", "f", "v")
    assert local("HSCAN", "h", *options) == error


def test_odd_cursors(local: LocalClient) -> None:
    local("HSET", "h", "f", "v")
    for cursor in ("", "-1", "+5", b"0\0x", (1 << 64) - 1, "00"):
        assert local("HSCAN", "h", cursor) == [b"0", [b"f", b"v"]]


def test_encoding(local: LocalClient) -> None:
    local.server.config.set({b"hash-max-listpack-entries": b"4", b"hash-max-listpack-value": b"8"})
    local("HSET", "many", *("a1b2c3d4"))
    assert encoding(local, b"many") == b"listpack"
    local("HSET", "many", "e", 5)
    assert encoding(local, b"many") == b"hashtable"
    local("HDEL", "many", "a", "b", "c")
    local.reload()
    assert encoding(local, b"many") == b"hashtable"  # it stays one
    for key, command in {
        b"field": ("HSET", "f" * 9, "v"),
        b"value": ("HSET", "f", "v" * 9),
        b"one of several": ("HSET", "f", "v", "g", "v" * 9),
        b"if missing": ("HSETNX", "f", "v" * 9),
        b"number": ("HINCRBY", "f", 123456789),
        b"float": ("HINCRBYFLOAT", "f", "0.123456789"),
    }.items():
        local("HSET", key, "g", "v" * 8)
        assert encoding(local, key) == b"listpack"
        local(command[0], key, *command[1:])
        assert encoding(local, key) == b"hashtable"
    local("HSET", "repeated", *(("f", "v") * 5))
    assert encoding(local, b"repeated") == b"hashtable"


def test_events(local: LocalClient) -> None:
    found = heard(local)
    local("HSET", "h", "f", "v", "g", "v")
    local("HMSET", "h", "f", "v")
    local("HSETNX", "h", "f", "v")
    local("HSETNX", "h", "n", "1")
    local("HINCRBY", "h", "n", 1)
    local("HINCRBYFLOAT", "h", "n", 1)
    local("HDEL", "h", "none")
    local("HDEL", "h", "f", "g")
    local("HDEL", "h", "n")
    names = [name for name, key in found if key == b"h"]
    assert names == b"hset hset hset hincrby hincrbyfloat hdel hdel del".split()


COMMANDS_ON_A_KEY = [
    ("HSET", "k", "f", "v"),
    ("HSET", "k", "f", "v", "g", "v"),
    ("HMSET", "k", "f", "v"),
    ("HSETNX", "k", "f", "v"),
    ("HINCRBY", "k", "f", 1),
    ("HINCRBYFLOAT", "k", "f", 1),
    ("HDEL", "k", "f"),
    ("HGET", "k", "f"),
    ("HMGET", "k", "f"),
    ("HEXISTS", "k", "f"),
    ("HSTRLEN", "k", "f"),
    ("HLEN", "k"),
    ("HGETALL", "k"),
    ("HKEYS", "k"),
    ("HVALS", "k"),
    ("HRANDFIELD", "k"),
    ("HRANDFIELD", "k", 5),
    ("HSCAN", "k", 0),
]


@pytest.mark.parametrize("command", COMMANDS_ON_A_KEY, ids=lambda command: "-".join(map(str, command)))
def test_wrong_type(local: LocalClient, command: tuple[Any, ...]) -> None:
    local("SET", "k", "text")
    assert local(*command) == WRONG_TYPE
    assert local("GET", "k") == b"text"


@pytest.mark.parametrize("name", ["HSET", "HMSET"])
def test_pairs_must_be_whole(local: LocalClient, name: str) -> None:
    error = local(name, "h", "f", "v", "g")
    assert error == CommandError(b"ERR wrong number of arguments for '%b' command" % name.lower().encode())
    assert local("DBSIZE") == 0


def test_hits_and_misses(local: LocalClient) -> None:
    keyspace = local.client.keyspace
    local("HSET", "h", "f", "v")
    before = keyspace.hits, keyspace.misses
    local("HGET", "h", "f")
    local("HGET", "h", "none")
    local("HGETALL", "h")
    local("HGET", "no", "f")
    local("HLEN", "no")
    assert (keyspace.hits - before[0], keyspace.misses - before[1]) == (3, 2)


def test_an_expired_hash_is_gone(local: LocalClient) -> None:
    local("HSET", "h", "f", "v")
    keyspace = local.client.keyspace
    record = keyspace.find(b"h")
    assert isinstance(record, Record)
    keyspace.set_expiry(b"h", record, local.clock.now_ms + 100)
    assert local("HGET", "h", "f") == b"v"
    assert local("HSET", "h", "g", "v") == 1  # its expiry stays
    local.clock.advance(100)
    assert local("HGET", "h", "f") is None
    assert local("HSET", "h", "g", "v") == 1
    assert local("HGETALL", "h") == [b"g", b"v"]


def test_a_large_hash_on_disk(make_local: Servers) -> None:
    local = make_local.make()
    for start in range(0, 20_000, 1000):
        local("HSET", "big", *(text for i in range(start, start + 1000) for text in (f"f{i:05}", i)))
    local.reload()
    assert local("HLEN", "big") == 20_000
    assert local("HGET", "big", "f12345") == b"12345"
    assert local("HINCRBY", "big", "f12345", 1) == 12346
    assert local("HDEL", "big", "f00000", "f19999", "f2") == 2
    assert len(local("HRANDFIELD", "big", 10)) == 10
    assert local("HSCAN", "big", 0, "MATCH", "f0012*", "COUNT", 100, "NOVALUES") == [
        b"0",
        [b"f%05d" % i for i in range(120, 130)],
    ]
    assert len(local("HKEYS", "big")) == local("HLEN", "big") == 19_998
    assert local("DEL", "big") == 1
    assert local("HLEN", "big") == 0

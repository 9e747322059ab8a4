"""Hashes, compared with a real redis-server."""

from __future__ import annotations

import pytest

from harness.commands import (
    ELEMENTS,
    FLOATS,
    INDEXES,
    INTEGERS,
    KEYS,
    PATTERNS,
    VALUES,
    choice,
    command,
    flags,
    history_tests,
    maybe,
    several,
)
from harness.compat import Pair
from harness.resp import Argument


def random_fields(pair: Pair, *words: Argument) -> None:
    """Compare how many there are, and which if that leaves no choice."""
    size = pair("HLEN", words[1]) if len(words) > 1 else None
    if size in (0, 1):
        pair(*words)
    elif len(words) == 2:
        pair.type_only(*words)
    else:
        pair.same_length(*words)


def summed(pair: Pair, *words: Argument) -> None:
    """Do HINCRBYFLOAT, and compare what is stored too."""
    pair(*words)
    if len(words) > 2:
        pair("HGET", words[1], words[2])


NUMBERS = choice(VALUES, INTEGERS, FLOATS)

HASHES = [
    command("HSET", KEYS, several(ELEMENTS, NUMBERS)),
    command("HSET", KEYS, ELEMENTS, VALUES),
    command("HSET", KEYS, ELEMENTS, VALUES),
    command("HSET", KEYS, several(VALUES, VALUES)),
    command("HMSET", KEYS, several(ELEMENTS, VALUES)),
    command("HSETNX", KEYS, ELEMENTS, NUMBERS),
    command("HINCRBY", KEYS, ELEMENTS, INTEGERS),
    command("HINCRBYFLOAT", KEYS, ELEMENTS, FLOATS, check=summed),
    command("HDEL", KEYS, several(ELEMENTS)),
    command("HGET", KEYS, ELEMENTS),
    command("HMGET", KEYS, several(ELEMENTS)),
    command("HEXISTS", KEYS, ELEMENTS),
    command("HSTRLEN", KEYS, ELEMENTS),
    command("HLEN", KEYS),
    command("HGETALL", KEYS, check=Pair.pairs),
    command("HKEYS", KEYS, check=Pair.unordered),
    command("HVALS", KEYS, check=Pair.unordered),
    command("HRANDFIELD", KEYS, check=random_fields),
    command("HRANDFIELD", KEYS, INDEXES, flags("WITHVALUES", "nope"), check=random_fields),
    command(
        "HSCAN", KEYS, maybe("MATCH", PATTERNS), maybe("COUNT", choice(1, 2, 100, INTEGERS)), check=Pair.scan
    ),
    command("OBJECT", "ENCODING", KEYS, check=Pair.encoding),
]


test_hashes, test_hashes_restarted, test_hashes_at_length, test_hashes_restarted_at_length = history_tests(
    "hashes", HASHES
)


ODD = (
    *("0", "-0", "+0", "1", "-1", "01", "1.", ".5", "5e-1", "1e1", "0x10", "0xA.8p1", "1e400", "-1e400"),
    *("1e-400", "1e4940", "nan", "inf", "-inf", "infinity", "9223372036854775807", "9223372036854775808"),
    *("-9223372036854775808", "18446744073709551616", "0.1", "0.30000000000000004", "1e17", "1e22", "1e-18"),
    *("5e-18", "1.7976931348623157e308", "5e-324", "3.14159265358979323846", "17179869184.5", "1e", "abc"),
    *(
        "1,5",
        "--1",
        "",
        " 1",
        "1 ",
        "1\n",
        "1\x00",
        "1" * 40,
        "0." + "3" * 40,
        "1" * 300,
        "1" * 5000,
        "1" * 6000,
    ),
)


@pytest.mark.parametrize("start", ["0", "10.5", "9223372036854775807", " 1", "", "inf", "-1e4000"])
def test_increments_by_every_kind_of_number(pair: Pair, start: str) -> None:
    for number in ODD:
        for name in ("HINCRBY", "HINCRBYFLOAT"):
            pair("HSET", "h", "f", start)
            pair(name, "h", "f", number)
            pair(name, "h", "new", number)
            pair("HMGET", "h", "f", "new")
            pair(name, "missing", "f", number)
            pair("DEL", "missing")
            pair("HDEL", "h", "new")
            pair("HSET", "h", "f", number)
            pair(name, "h", "f", "1")


def test_float_increments_add_up_alike(pair: Pair) -> None:
    for number in ("0.1", "0.2", "-0.3", "1e10", "1e-10", "3.7", "100000000000000000", "1e5", "-2.5e-3"):
        for _ in range(5):
            pair("HINCRBYFLOAT", "h", "f", number)
    pair("HSTRLEN", "h", "f")


@pytest.mark.parametrize("count", [0, 1, 5, 600])
def test_random_fields_of_every_count(pair: Pair, count: int) -> None:
    if count:
        pair("HSET", "h", *(text for i in range(count) for text in (f"f{i}", i)))
    for number in (*range(-7, 8), 10, -10, 599, 600, 601, 1 << 40, "x", "", 1 << 63, -(1 << 63), "1.0", " 1"):
        for words in ((), ("WITHVALUES",), ("withvalues", "x"), ("nope",)):
            pair.same_length("HRANDFIELD", "h", number, *words)
    pair("HRANDFIELD", "h", 1 << 62, "WITHVALUES")
    pair.pairs("HRANDFIELD", "h", 1000, "WITHVALUES")
    pair.unordered("HRANDFIELD", "h", 1000)


def test_scan_finds_every_field(pair: Pair) -> None:
    for start in range(0, 2000, 500):
        pair("HSET", "h", *(text for i in range(start, start + 500) for text in (f"f:{i}", i)))
    for count in (1, 3, 10, 1000, 100_000):
        assert len(pair.scan("HSCAN", "h", "COUNT", count)) == 2000
    assert len(pair.scan("HSCAN", "h", "MATCH", "f:1*", "COUNT", 50)) == 1111
    assert len(pair.scan("HSCAN", "h", "MATCH", "*9")) == 200
    pair.scan("HSCAN", "h", "MATCH", "nothing*")


@pytest.mark.parametrize(
    "cursor", ["0", "-1", "+1", "", "00", "x", " 1", "1 ", "1\x00x", "-", "1.0", str(1 << 64)]
)
def test_odd_cursors(pair: Pair, cursor: str) -> None:
    pair("HSET", "small", "f", "v")
    pair("HSCAN", "small", cursor)
    pair("HSCAN", "missing", cursor)
    pair("HSCAN", "missing", cursor, "COUNT", "x")
    for words in (
        ("COUNT",),
        ("COUNT", 0),
        ("COUNT", "x"),
        ("MATCH",),
        ("nope", 1),
        ("MATCH", "*", "COUNT", "-1"),
    ):
        pair("HSCAN", "small", cursor, *words)


def test_encodings(pair: Pair) -> None:
    for size in (63, 64, 65):
        pair("HSET", f"field:{size}", "f" * size, "v")
        pair("HSET", f"value:{size}", "f", "v" * size)
        pair("HSET", f"one:{size}", "a", "b", "f", "v" * size)
        pair("HSETNX", f"nx:{size}", "f", "v" * size)
        for name in ("field", "value", "one", "nx"):
            pair("OBJECT", "ENCODING", f"{name}:{size}")
    for i in range(514):
        pair("HSET", "many", f"f{i}", i)
        if i >= 510:
            pair("OBJECT", "ENCODING", "many")
    pair("HDEL", "many", *(f"f{i}" for i in range(500)))
    pair("OBJECT", "ENCODING", "many")
    pair("HINCRBYFLOAT", "float", "f" * 65, "1")
    pair("OBJECT", "ENCODING", "float")
    pair("HINCRBY", "number", "f" * 64, "1")
    pair("OBJECT", "ENCODING", "number")
    pair("COPY", "many", "copied")
    pair("OBJECT", "ENCODING", "copied")


EVERY = [
    *(
        ("HSET", "f", "v"),
        ("HSET", "f", "v", "g"),
        ("HSET", "f"),
        ("HMSET", "f", "v"),
        ("HMSET", "f", "v", "g"),
    ),
    *(
        ("HSETNX", "f", "v"),
        ("HSETNX", "f"),
        ("HINCRBY", "f", "1"),
        ("HINCRBY", "f", "x"),
        ("HINCRBYFLOAT", "f", "1"),
    ),
    *(
        ("HDEL", "f"),
        ("HDEL",),
        ("HGET", "f"),
        ("HGET", "f", "g"),
        ("HMGET", "f", "g"),
        ("HMGET",),
        ("HEXISTS", "f"),
    ),
    *(("HSTRLEN", "f"), ("HLEN",), ("HLEN", "f"), ("HGETALL",), ("HKEYS",), ("HVALS",), ("HRANDFIELD",)),
    *(
        ("HRANDFIELD", "x"),
        ("HRANDFIELD", "1", "x"),
        ("HSCAN", "0"),
        ("HSCAN", "x"),
        ("HSCAN",),
        ("HGETALL", "x"),
    ),
]


@pytest.mark.parametrize(
    "make", [("SET", "k", "v"), ("RPUSH", "k", "v"), ("HSET", "k", "f", "7"), ("DEL", "k")]
)
def test_every_command_at_every_type(pair: Pair, make: tuple[str, ...]) -> None:
    for name, *rest in EVERY:
        pair("DEL", "k")
        pair(*make)
        pair(name, "k", *rest)
        pair("TYPE", "k")
    pair.assert_same_contents()


def test_events(pair: Pair) -> None:
    """The events of a history, heard by another client of each server."""
    pair("CONFIG", "SET", "notify-keyspace-events", "KEA")
    listeners = Pair(*pair.servers, protocol=pair.protocol)
    try:
        listeners("PSUBSCRIBE", "__key*__:*")
        for words in (
            ("HSET", "h", "f", "1", "g", "2"),
            ("HMSET", "h", "f", "1"),
            ("HSETNX", "h", "f", "1"),
            ("HSETNX", "h", "n", "1"),
            ("HINCRBY", "h", "n", "1"),
            ("HINCRBYFLOAT", "h", "n", "1.5"),
            ("HINCRBY", "h", "n", "1"),
            ("HDEL", "h", "none"),
            ("HDEL", "h", "f", "g", "n"),
        ):
            pair(*words)
        heard = [listeners.read() for _ in range(2 * 7)]
        assert [message[-1] for message in heard[::2]] == (
            [b"hset", b"hset", b"hset", b"hincrby", b"hincrbyfloat", b"hdel", b"del"]
        )
    finally:
        listeners.close()
        pair("CONFIG", "SET", "notify-keyspace-events", "")

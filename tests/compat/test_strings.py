"""Strings, compared with a real redis-server."""

from __future__ import annotations

import pytest

from harness.commands import (
    AT_MILLISECONDS,
    AT_SECONDS,
    FLOATS,
    INDEXES,
    INTEGERS,
    KEYS,
    MILLISECONDS,
    SECONDS,
    SMALL,
    VALUES,
    choice,
    command,
    flags,
    history_tests,
    maybe,
    several,
    thorough_few,
    words,
)
from harness.compat import Pair

TIME = choice(
    words("EX", SECONDS),
    words("PX", MILLISECONDS),
    words("EXAT", AT_SECONDS),
    words("PXAT", AT_MILLISECONDS),
)
OFFSETS = choice(INDEXES, "536870912", "700")

STRINGS = [
    command("SET", KEYS, VALUES),
    command("SET", KEYS, INTEGERS),
    command("SET", KEYS, VALUES, flags("NX", "XX", "GET", "KEEPTTL", most=3), maybe(TIME)),
    command("SET", KEYS, VALUES, maybe(TIME), flags("NX", "XX", "GET", "KEEPTTL", "EX", "PERSIST", "nope")),
    command("GET", KEYS),
    command("GETEX", KEYS, maybe(TIME), flags("PERSIST")),
    command("GETDEL", KEYS),
    command("GETSET", KEYS, VALUES),
    command("APPEND", KEYS, VALUES),
    command("STRLEN", KEYS),
    command("SETRANGE", KEYS, choice(SMALL, OFFSETS), choice(VALUES, "")),
    command("GETRANGE", KEYS, INDEXES, INDEXES),
    command("SUBSTR", KEYS, INDEXES, INDEXES),
    command("INCR", KEYS),
    command("DECR", KEYS),
    command("INCRBY", KEYS, INTEGERS),
    command("DECRBY", KEYS, INTEGERS),
    command("INCRBYFLOAT", KEYS, FLOATS),
    command("MSET", several(KEYS, VALUES)),
    command("MSETNX", several(KEYS, VALUES)),
    command("MGET", several(KEYS)),
    command("SETEX", KEYS, SECONDS, VALUES),
    command("PSETEX", KEYS, MILLISECONDS, VALUES),
    command("SETNX", KEYS, VALUES),
    command("LCS", KEYS, KEYS, flags("LEN", "IDX", "WITHMATCHLEN", most=3), maybe("MINMATCHLEN", INTEGERS)),
    command("PTTL", KEYS, check=Pair.ttl_ms),
    command("OBJECT", "ENCODING", KEYS, check=Pair.encoding),
]


test_strings, test_strings_restarted, test_strings_at_length, test_strings_restarted_at_length = (
    history_tests("strings", STRINGS, restarted_at_length=thorough_few)
)


NUMBERS = (
    "0 -0 +0 1 -1 01 1. .5 0.5 -.5 5e-1 1e1 1E1 0x10 0xA.8p1 1e400 -1e400 1e-400 nan inf -inf infinity"
    " 9223372036854775807 9223372036854775808 -9223372036854775808 -9223372036854775809"
    " 18446744073709551616 3.0e3 0.1 0.30000000000000004 1e17 1e21 1e22 123456789012345678901234567890"
    " 1e-5 1e-6 1.7976931348623157e308 5e-324 3.14159265358979323846 17179869184.5 1e 1e+ abc 1abc 1,5 --1"
).split()


@pytest.mark.parametrize("start", ["0", "10.5", "9223372036854775807", " 1", ""])
def test_increments_by_every_kind_of_number(pair: Pair, start: str) -> None:
    for number in (*NUMBERS, "", " 1", "1 ", "\t1", "1\n", "1\x00"):
        for name in ("INCRBY", "DECRBY", "INCRBYFLOAT"):
            pair("SET", "a", start)
            pair(name, "a", number)
            pair(name, "missing", number)
            pair("DEL", "missing")
        pair("SET", "a", number)
        pair("INCR", "a")
        pair("SET", "a", number)
        pair("INCRBYFLOAT", "a", "1.5")
        pair("OBJECT", "ENCODING", "a")


def test_float_increments_add_up_alike(pair: Pair) -> None:
    for number in ("0.1", "0.2", "-0.3", "1e10", "1e-10", "3.7", "100000000000000000", "1e5", "-2.5e-3"):
        for _ in range(5):
            pair("INCRBYFLOAT", "a", number)
    pair("STRLEN", "a")


def test_ranges_of_every_bound(pair: Pair) -> None:
    pair("SET", "a", "Hello, world")
    for start in (-100, -13, -12, -11, -1, 0, 1, 5, 11, 12, 13, 100):
        for stop in (-100, -13, -12, -11, -1, 0, 1, 5, 11, 12, 13, 100):
            pair("GETRANGE", "a", start, stop)
    for offset in (0, 5, 12, 15, 100):
        pair("SETRANGE", "a", offset, "xyz")
        pair("GET", "a")
        pair("SETRANGE", "missing", offset, "")
        pair("EXISTS", "missing")


def test_big_values(pair: Pair) -> None:
    """Values above Lamina's limit for strings in one piece, and writes into their middle and behind them."""
    big = bytes(range(256)) * 1024
    pair("SET", "big", big)
    pair("GET", "big")
    pair("STRLEN", "big")
    pair("SETRANGE", "big", 70_000, b"in the middle")
    pair("SETRANGE", "big", 400_000, b"behind a gap")
    pair("APPEND", "big", b"z" * 70_000)
    for start, stop in ((0, 10), (65_530, 65_545), (69_995, 70_020), (262_140, 262_150), (399_990, -1)):
        pair("GETRANGE", "big", start, stop)
    pair("COPY", "big", "copy")
    pair("SET", "big", "small")
    pair("GET", "copy")
    pair("GETDEL", "copy")
    pair("EXISTS", "copy", "big")
    pair.assert_same_contents()

"""SORT and SORT_RO, compared with a real redis-server.

The order of elements whose texts weigh the same is no certain one, but in lists of up to six; neither is that
of a set that is not sorted. Only the length of such replies is compared.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.commands import (
    INTEGERS,
    choice,
    command,
    flags,
    histories,
    maybe,
    quick,
    several,
    thorough,
    words,
)
from harness.compat import Pair, Step
from harness.resp import to_bytes

STABLE_SIZE_MAX = 6

KEYS: st.SearchStrategy[Any] = st.sampled_from(["l", "l", "l", "m", "m", "s", "z", "w_1", "none"])
NUMBERS = ["1", "2", "10", "-3", "0", "-0", "1.5", "1.50", "0x10", "1e2", "inf", " 7", "", "007", "3.0"]
TEXTS = ["x", "y", "M", b"\xff", "1 ", "nan", b"x\x00b", b"1\x00x", b"\x00"]
MEMBERS: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(NUMBERS), st.sampled_from(NUMBERS), st.sampled_from(NUMBERS + TEXTS)
)
PATTERNS: st.SearchStrategy[Any] = choice(
    *("w_*", "w_*", "h_*->f", "h_*->g", "*", "w_*->f", "h_*->", "h_*", "#", "nosort", b"w_\x00*", "**"),
    *("*->f", "", b"#\x00", b"h_*->\x00f", b"w_*\x00->f"),
)

OPTIONS = [
    maybe("BY", PATTERNS),
    maybe("LIMIT", choice(0, 1, 2, INTEGERS), choice(0, 1, 2, 5, -1, INTEGERS)),
    several(words("GET", PATTERNS), least=0, most=3),
    flags("ASC", "DESC", "ALPHA", "alpha"),
]


def sort(pair: Pair, *arguments: bytes) -> None:
    """Compare a SORT as exactly as its result is defined."""
    # Redis takes an old error number for one of its own: a new connection makes it forget a number that was
    # out of range once.
    with pair.servers[0].client() as other:
        other.call("PING")
    options = [argument.upper() for argument in arguments[2:]]
    kind = pair.reference.call("TYPE", arguments[1]) if len(arguments) > 1 else "none"
    size = pair.reference.call("LLEN", arguments[1]) if kind == "list" else 0
    is_certain = kind in ("none", "string", "hash") or (
        b"ALPHA" not in options and (kind != "set" or b"BY" not in options)
    )
    if is_certain or (kind == "list" and size <= STABLE_SIZE_MAX):
        pair(*arguments)
    elif b"STORE" not in options:
        pair.same_length(*arguments)


def with_prefix(prefix: bytes) -> st.SearchStrategy[Any]:
    """Return a strategy for the keys that patterns lead to."""
    return MEMBERS.map(lambda member: prefix + to_bytes(member))


SORT = [
    command("SORT", KEYS, *OPTIONS, check=sort),
    command("SORT", KEYS, *OPTIONS, maybe("STORE", choice("l", "m", "d", "w_1")), check=sort),
    command("SORT_RO", KEYS, *OPTIONS, check=sort),
    command("RPUSH", choice("l", "m"), several(MEMBERS, most=2)),
    command("LPOP", choice("l", "m"), 3),
    command("SADD", "s", several(st.sampled_from(NUMBERS))),
    command("ZADD", "z", choice(1, 2, 3), st.sampled_from(NUMBERS)),
    command("SET", with_prefix(b"w_"), MEMBERS),
    command("HSET", with_prefix(b"h_"), choice("f", "g"), MEMBERS),
    command("SET", with_prefix(b""), MEMBERS),
    command("DEL", choice(KEYS, with_prefix(b"w_"), with_prefix(b"h_"))),
    command("PEXPIRE", with_prefix(b"w_"), choice(100000, 0)),
]


@given(history=histories(SORT, others=[]))
@quick
def test_sort(pair: Pair, history: list[Step]) -> None:
    pair.play(history)


@pytest.mark.slow
@given(history=histories(SORT, others=[], most=400))
@thorough
def test_sort_at_length(pair: Pair, history: list[Step]) -> None:
    pair.play(history)


def test_sort_of_many(pair: Pair) -> None:
    """Numbers, decimals and texts in lists, sets and sorted sets of some size; parts of them, and all."""
    numbers = [(i * 7919) % 1009 - 300 for i in range(1000)]
    pair("RPUSH", "numbers", *numbers)
    pair("RPUSH", "decimals", *[number / 8 for number in numbers])
    pair("SADD", "set", *numbers)
    pair("ZADD", "zset", *[word for number in numbers for word in (number % 10, f"m{number}")])
    pair.pipeline(*[("SET", f"weight:m{number}", number % 17) for number in numbers[::3]])
    pair.pipeline(*[("HSET", f"hash:{number}", "name", f"n{number}") for number in numbers[::2]])
    for options in ((), ("DESC",), ("LIMIT", 0, 10), ("LIMIT", 500, 20, "DESC"), ("LIMIT", 990, 100)):
        for key in ("numbers", "decimals", "set"):
            pair("SORT", key, *options)
            pair("SORT_RO", key, *options, "GET", "hash:*->name", "GET", "#")
        pair("SORT", "set", "ALPHA", *options)
        pair("SORT", "zset", "ALPHA", *options)
        pair("SORT", "zset", "BY", "weight:*", *options)
        pair("SORT", "zset", "BY", "nosort", *options)
        pair("SORT", "numbers", "BY", "nosort", *options)
        pair("SORT", "set", "BY", "nosort", *options, "STORE", "stored")
        pair("LRANGE", "stored", 0, -1)

"""SORT and SORT_RO: orders, patterns, limits, results that are stored."""

from __future__ import annotations

import random
from typing import Any

import pytest

from harness.local import LocalClient
from lamina.server import elements, events
from lamina.server.errors import NOT_AN_INTEGER, SYNTAX, WRONG_TYPE, CommandError, wrong_arity
from lamina.server.registry import COMMANDS, key_positions

NOT_NUMBERS = CommandError(b"ERR One or more scores can't be converted into double")


@pytest.fixture(params=["held", "loaded", "on disk"])
def filled(
    request: pytest.FixtureRequest, local: LocalClient, monkeypatch: pytest.MonkeyPatch
) -> LocalClient:
    """A client with a list, a set, a sorted set, and what their elements weigh: held, loaded or on disk."""
    local.pipeline(
        ("RPUSH", "list", "3", "1", "10", "2"),
        ("SADD", "set", "3", "1", "10", "2"),
        ("ZADD", "zset", 4, "3", 2, "1", 2, "10", 1, "2"),
        ("MSET", "w_1", "20", "w_2", "20", "w_3", "5", "plain", "x"),
        ("HSET", "h_1", "f", "b", "n", "7"),
        ("HSET", "h_10", "f", "a", "->x", "8"),
        ("SET", "h_2", "not a hash"),
    )
    if request.param == "on disk":
        monkeypatch.setattr(elements, "LOADED_AT_ONCE", -1)
        monkeypatch.setattr(elements, "LOADED_EVER", -1)
    if request.param != "held":
        local.reload()
    return local


def call(client: LocalClient, words: str) -> Any:
    """Run a command and return its reply, arrays as one text; a null is `-`."""
    reply = client(*words.split())
    if isinstance(reply, list):
        return " ".join("-" if item is None else item.decode() for item in reply)
    return reply


@pytest.mark.parametrize("name", ["SORT", "SORT_RO"])
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("list", "1 2 3 10"),
        ("set", "1 2 3 10"),
        ("zset", "1 2 3 10"),
        ("none", ""),
        ("list DESC", "10 3 2 1"),
        ("list desc ASC", "1 2 3 10"),
        ("zset ALPHA", "1 10 2 3"),
        ("set alpha DESC", "3 2 10 1"),
        # LIMIT
        ("list LIMIT 1 2", "2 3"),
        ("list LIMIT -5 2", "1 2"),
        ("list LIMIT 1 -1", "2 3 10"),
        ("list LIMIT 4 1", ""),
        ("list LIMIT 1 0", ""),
        ("list LIMIT 9223372036854775807 9223372036854775807", ""),
        ("list LIMIT 2 9223372036854775807 DESC", "2 1"),
        ("list LIMIT 0 1 LIMIT 1 1", "2"),
        # BY
        ("list BY w_*", "10 3 1 2"),
        ("set BY w_* DESC", "2 1 3 10"),
        ("zset BY w_* ALPHA LIMIT 0 2", "10 1"),
        ("list BY none_*", "1 10 2 3"),
        ("list BY none_* ALPHA", "3 1 10 2"),
        ("list BY none_* ALPHA DESC", "3 1 10 2"),
        ("list BY h_*->f ALPHA", "3 2 10 1"),
        ("list BY h_*->n DESC", "1 3 2 10"),
        ("list BY h_*->->x DESC", "10 3 2 1"),
        ("list BY h_*-> ALPHA", "3 1 10 2"),
        # BY nosort
        ("list BY nosort", "3 1 10 2"),
        ("list BY nosort DESC", "2 10 1 3"),
        ("list BY nosort DESC LIMIT 1 2", "10 1"),
        ("list BY nosort BY w_*", "3 1 10 2"),
        ("zset BY nosort", "2 1 10 3"),
        ("zset BY nosort DESC", "3 10 1 2"),
        ("zset BY nosort LIMIT 1 2", "1 10"),
        ("zset BY nosort DESC LIMIT 1 2", "10 1"),
        # GET
        ("list GET #", "1 2 3 10"),
        ("list GET w_* GET # LIMIT 1 3", "20 2 5 3 - 10"),
        ("list GET h_*->f GET h_*->->x", "b - - - - - a 8"),
        ("list GET plain GET #x", "- - - - - - - -"),
        ("list BY nosort GET w_* LIMIT 3 1", "20"),
    ],
)
def test_sorted(filled: LocalClient, name: str, words: str, expected: str) -> None:
    assert call(filled, f"{name} {words}") == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", wrong_arity(b"sort")),
        ("list foo", SYNTAX),
        ("list BY", SYNTAX),
        ("list GET", SYNTAX),
        ("list STORE", SYNTAX),
        ("list LIMIT 1", SYNTAX),
        ("list LIMIT x 1", NOT_AN_INTEGER),
        ("list LIMIT 1 x", NOT_AN_INTEGER),
        ("plain foo", SYNTAX),
        ("plain", WRONG_TYPE),
        ("h_1 BY nosort", WRONG_TYPE),
        ("list BY h_*->f", NOT_NUMBERS),
        ("list BY h_*->f LIMIT 9 9", NOT_NUMBERS),
        ("list BY h_*", NOT_NUMBERS),
    ],
)
def test_errors(filled: LocalClient, words: str, expected: CommandError) -> None:
    assert filled("SORT", *words.split()) == expected
    assert filled("SORT_RO", *words.split()) == (expected if words else wrong_arity(b"sort_ro"))
    # Nothing is stored then.
    if words.startswith("list "):
        assert filled("SORT", "list", "STORE", "plain", *words.split()[1:]) == expected
        assert filled("GET", "plain") == b"x"


def test_only_sort_stores(filled: LocalClient) -> None:
    assert filled("SORT_RO", "list", "STORE", "target") == SYNTAX


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ("1.5 1.50 -0 0 0x10 1e2 inf -inf +3 -.5 5.", "-inf -.5 -0 0 1.5 1.50 +3 5. 0x10 1e2 inf"),
        ("3 1 2.5 -7 0.001 12345678901234567890", "-7 0.001 1 2.5 3 12345678901234567890"),
        ("infinity -INF 1e308", "-INF 1e308 infinity"),
        ("9223372036854775807 9223372036854775806", "9223372036854775806 9223372036854775807"),
        ("0x1p-1074 0 0e999999", "0 0e999999 0x1p-1074"),
        ("2.2250738585072014e-308 0", "0 2.2250738585072014e-308"),
    ],
)
def test_numbers(local: LocalClient, texts: str, expected: str) -> None:
    local("RPUSH", "l", *texts.split())
    assert call(local, "SORT l") == expected
    assert call(local, "SORT l DESC") == " ".join(reversed(expected.split()))


@pytest.mark.parametrize(
    ("text", "is_number"),
    [
        *((text, True) for text in (b"", b" 7", b"\t\n\v\f\r 5", b"1\0abc", b"\0", b"\0\x001", b"0x.8p1")),
        *(
            (text, False)
            for text in (b"x", b"1 ", b"1_0", b"nan", b"nan(1)", b"0x", b"1e", b".", b"+", b"+-1")
        ),
        *((text, False) for text in (b" \0", b"1e400", b"1e-400", b"1e-310", b"5e-324", b"0x1p1024", b"--1")),
        *((text, False) for text in (b"1-2", b"1.2.3", b"-", b"9" * 400, b"0." + b"0" * 400 + b"1", b"1,5")),
    ],
)
def test_what_is_a_number(local: LocalClient, text: bytes, is_number: bool) -> None:
    for other in (b"1", b"1e0"):  # the short way, and the long
        local("DEL", "l")
        local("RPUSH", "l", text, other)
        assert (local("SORT", "l") == NOT_NUMBERS) != is_number


def test_texts_end_at_a_nul_unless_they_are_stored(local: LocalClient) -> None:
    texts = [b"a\0b", b"a\0a", b"a", b"b", b"B", b"\xff", b"", b"aa"]
    local("RPUSH", "l", *texts)
    assert local("SORT", "l", "ALPHA") == [b"", b"B", b"a\0b", b"a\0a", b"a", b"aa", b"b", b"\xff"]
    assert local("SORT", "l", "ALPHA", "DESC") == [b"\xff", b"b", b"aa", b"a\0b", b"a\0a", b"a", b"B", b""]
    assert local("SORT", "l", "ALPHA", "STORE", "stored") == 8
    assert local("LRANGE", "stored", 0, -1) == sorted(texts)


def test_a_nul_ends_a_pattern_as_far_as_it_is_one(local: LocalClient) -> None:
    local("RPUSH", "l", "2", "1")
    local("SET", b"w_2\0->f", "x")
    assert local("SORT", "l", "BY", b"w_\0*") == [b"2", b"1"]
    assert local("SORT", "l", "GET", b"w_\0*") == [None, None]
    assert local("SORT", "l", "GET", b"w_*\0->f") == [None, b"x"]
    assert local("SORT", "l", "GET", b"#\0") == [b"1", b"2"]


def test_what_patterns_lead_to_may_be_large_or_expire(local: LocalClient) -> None:
    local("RPUSH", "l", "1", "2", "3")
    local("SET", "w_1", "x" * 100_000)
    local("SET", "w_2", "y", "PX", 10)
    local("HSET", "h_3", "f", "z")
    assert local("SORT", "l", "GET", "w_*", "GET", "h_*->f") == [b"x" * 100_000, None, b"y", None, None, b"z"]
    local("PEXPIRE", "h_3", 10)
    local.clock.advance(10)
    assert local("SORT", "l", "GET", "w_*", "GET", "h_*->f") == [b"x" * 100_000, *[None] * 5]


def test_the_result_is_stored(filled: LocalClient) -> None:
    heard: list[tuple[bytes, bytes]] = []
    filled.server.databases.on_event = lambda keyspace, kind, name, key: heard.append((name, key))
    filled.client.keyspace.listens = events.ALL
    filled("SET", "target", "x", "EX", 100)
    heard.clear()
    assert filled("SORT", "list", "STORE", "target") == 4
    assert heard == [(b"sortstore", b"target")]
    assert call(filled, "LRANGE target 0 -1") == "1 2 3 10"
    assert filled("TTL", "target") == -1
    assert filled("SORT", "list", "GET", "w_*", "GET", "#", "STORE", "target") == 8
    filled.reload()
    assert filled("LRANGE", "target", 0, -1) == [b"20", b"1", b"20", b"2", b"5", b"3", b"", b"10"]
    assert filled("SORT", "list", "DESC", "STORE", "list") == 4
    assert call(filled, "LRANGE list 0 -1") == "10 3 2 1"
    heard.clear()
    assert filled("SORT", "list", "LIMIT", 9, 9, "STORE", "target") == 0
    assert filled("SORT", "none", "STORE", "list") == 0
    assert filled("SORT", "none", "STORE", "list") == 0
    assert heard == [(b"del", b"target"), (b"del", b"list")]
    assert filled("EXISTS", "target", "list") == 0


def test_a_set_is_stored_in_order_even_unsorted(filled: LocalClient) -> None:
    for options, expected in (("", "1 10 2 3"), ("DESC", "3 2 10 1"), ("LIMIT 1 2", "10 2")):
        call(filled, f"SORT set BY nosort {options} STORE target")
        assert call(filled, "LRANGE target 0 -1") == expected
        assert sorted(call(filled, "SORT set BY nosort").split()) == ["1", "10", "2", "3"]
    call(filled, "SORT zset BY nosort DESC STORE target")
    assert call(filled, "LRANGE target 0 -1") == "3 10 1 2"


def test_a_part_of_many_is_the_same_as_of_all(local: LocalClient) -> None:
    chance = random.Random(3)
    numbers = [chance.randrange(300) for _ in range(1000)]
    local("RPUSH", "l", *numbers)
    local.pipeline(*[("SET", f"w{number}", number % 7) for number in set(numbers)])
    for options in ((), ("ALPHA",), ("BY", "w*"), ("BY", "w*", "ALPHA"), ("BY", "nosort")):
        for order in ("ASC", "DESC"):
            everything = local("SORT", "l", order, *options)
            assert sorted(map(int, everything)) == sorted(numbers)
            for first, count in ((0, 5), (20, 30), (100, 500), (990, 100)):
                part = local("SORT", "l", order, *options, "LIMIT", first, count)
                assert part == everything[first : first + count]


def test_keys_of_a_call() -> None:
    def found(words: str) -> list[str]:
        argv = words.encode().split()
        return [argv[at].decode() for at in key_positions(COMMANDS[argv[0]], argv)]

    assert found("SORT k") == ["k"]
    assert found("SORT k BY STORE LIMIT 1 2 STORE d GET x store e") == ["k", "e"]
    assert found("SORT k STORE") == ["k"]
    assert found("SORT_RO k BY w_*") == ["k"]

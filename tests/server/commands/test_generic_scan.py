"""KEYS, RANDOMKEY and SCAN: all keys, and iterations while keys come and go."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.keys import BIG
from harness.local import LocalClient, Servers
from lamina.server.errors import NOT_A_CURSOR, NOT_AN_INTEGER, SYNTAX, CommandError, wrong_arity
from lamina.server.numbers import INTEGER_MAX


def test_keys_by_pattern(local: LocalClient) -> None:
    names = [b"user:%d" % i for i in range(30)] + [
        b"user",
        b"uses",
        b"",
        b"\xff",
        b"\xff\xff1",
        b"us*r",
        b"[a]",
    ]
    for name in names:
        local("SET", name, 1)
    local("PEXPIRE", "user:7", 10)
    local.clock.advance(10)
    alive = set(names) - {b"user:7"}
    for _ in range(2):
        assert set(local("KEYS", "*")) == alive
        assert len(local("KEYS", "*")) == len(alive)
        assert set(local("KEYS", "user:1?")) == {b"user:%d" % i for i in range(10, 20)}
        assert set(local("KEYS", "use[rs]")) == {b"user", b"uses"}
        assert local("KEYS", "us\\*r") == [b"us*r"]
        assert set(local("KEYS", b"\xff*")) == {b"\xff", b"\xff\xff1"}
        assert local("KEYS", "user:7") == local("KEYS", "none") == local("KEYS", "x*") == []
        assert local("KEYS", "") == [b""]
        assert local("KEYS", "\\[a]") == [b"[a]"]
        local.reload()


def test_a_pattern_reads_only_what_begins_like_it(
    local: LocalClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.pipeline(*[("SET", f"{family}:{i}", i) for i in range(500) for family in "abc"])
    read = 0
    chunks = type(local.client.keyspace.store).chunks

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal read
        for keys_, values in chunks(*arguments, **options):
            read += len(keys_)
            yield keys_, values

    monkeypatch.setattr(type(local.client.keyspace.store), "chunks", counted)
    assert len(local("KEYS", "b:*7")) == 50
    assert read == 500
    assert local("KEYS", "b:7") == [b"b:7"]
    assert read == 500


def test_every_key_is_as_likely(local: LocalClient) -> None:
    assert local("RANDOMKEY") is None
    random.seed(5)
    names = [b"a", *(b"b%d" % i for i in range(18)), b"zzz"]
    for name in names:
        local("SET", name, 1)
    drawn = [local("RANDOMKEY") for _ in range(2000)]
    assert set(drawn) == set(names)
    assert max(map(drawn.count, names)) < 160


@pytest.mark.parametrize("alive", [0, 1, 30])
def test_expired_keys_are_not_drawn(local: LocalClient, alive: int) -> None:
    local.pipeline(*[("SET", f"x{i}", i, "PX", 10) for i in range(400)])
    local.pipeline(*[("SET", f"x0{i}", i, "PX", 1000) for i in range(alive)])
    local.clock.advance(10)
    found = local("RANDOMKEY")
    assert found.startswith(b"x0") if alive else found is None
    assert local("DBSIZE") >= alive


def scan_all(client: LocalClient, *options: Any) -> list[bytes]:
    found: list[bytes] = []
    cursor: Any = 0
    for _ in range(10_000):
        cursor, part = client("SCAN", cursor, *options)
        found += part
        if cursor == b"0":
            return found
    raise AssertionError("no end")


def test_scan_finds_every_key_once(local: LocalClient) -> None:
    for make in (
        "SET s{} 1",
        "RPUSH l{} 1",
        "SADD m{} 1",
        "HSET h{} f 1",
        "ZADD z{} 1 m",
        "SET t{} 1 EX 100",
    ):
        local.pipeline(*[tuple(make.format(i).split()) for i in range(50)])
    local("SET", "big", BIG)
    local.pipeline(*[("SET", f"gone{i}", 1, "PX", 10) for i in range(50)])
    local.clock.advance(10)
    everything = [f"{kind}{i}".encode() for kind in "slmhzt" for i in range(50)] + [b"big"]
    for _ in range(2):
        for count in (1, 7, 1000, INTEGER_MAX):
            assert sorted(scan_all(local, "COUNT", count)) == sorted(everything)
        assert len(scan_all(local, "TYPE", "STRING")) == 101
        for kind in ("list", "set", "Hash", "zset"):
            assert len(scan_all(local, "TYPE", kind, "COUNT", 30)) == 50
        assert scan_all(local, "TYPE", "none") == scan_all(local, "TYPE", "stream") == []
        assert len(scan_all(local, "MATCH", "h*")) == 50
        assert len(scan_all(local, "match", "*1", "type", "list", "count", 3)) == 5
        assert scan_all(local, "MATCH", "h*", "TYPE", "list") == []
        assert scan_all(local, "MATCH", "l7") == [b"l7"]
        assert scan_all(local, "MATCH", "gone*") == []
        local.reload()


def test_a_call_of_scan_looks_at_count_keys(local: LocalClient) -> None:
    local.pipeline(*[("SET", f"k{i:04}", 1) for i in range(500)])
    local("RPUSH", "l", 1)
    # Nothing in the first 100 is a list, nothing matches, and still the call ends there.
    assert local("SCAN", 0, "COUNT", 100, "TYPE", "list")[1] == []
    assert local("SCAN", 0, "COUNT", 100, "MATCH", "*none")[1] == []
    cursor, found = local("SCAN", 0, "COUNT", 100)
    assert len(found) == 100
    assert cursor != b"0"
    # But what begins otherwise is not looked at.
    assert local("SCAN", 0, "COUNT", 2, "MATCH", "l*") == [b"0", [b"l"]]
    assert local("SCAN", 0, "COUNT", 2, "MATCH", "m*") == [b"0", []]


def test_scan_of_many_keys_while_others_come_and_go(local: LocalClient) -> None:
    chance = random.Random(11)
    steady = [b"key:%05d" % chance.randrange(100_000) for _ in range(5000)]
    local.pipeline(*[("SET", name, 1) for name in steady])
    found: list[bytes] = []
    cursor: Any = 0
    while True:
        cursor, part = local("SCAN", cursor, "COUNT", 50)
        found += part
        if cursor == b"0":
            break
        passing = [f"key:{chance.randrange(100_000):05}:x" for _ in range(20)]
        local("MSET", *[word for name in passing for word in (name, 1)])
        local("DEL", *chance.sample(passing, 10))
    assert set(steady) <= set(found)
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("x", NOT_A_CURSOR),
        ("18446744073709551616", NOT_A_CURSOR),
        ("x COUNT x", NOT_A_CURSOR),
        ("0 COUNT x foo", NOT_AN_INTEGER),
        ("0 COUNT 0", SYNTAX),
        ("0 COUNT", SYNTAX),
        ("0 MATCH", SYNTAX),
        ("0 TYPE", SYNTAX),
        ("0 foo bar", SYNTAX),
        ("", wrong_arity(b"scan")),
    ],
)
def test_errors_of_scan(local: LocalClient, arguments: str, expected: CommandError) -> None:
    assert local("SCAN", *arguments.split()) == expected


NAMES = st.builds(
    lambda family, number: b"%b%d" % (family, number),
    st.sampled_from([b"a", b"b:", b"common:beginning:", b"", b"\xff\xff"]),
    st.integers(0, 40),
)
CHANGES = st.lists(st.tuples(st.sampled_from(["SET", "SADD", "DEL", "PEXPIRE"]), NAMES), max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    first=st.sets(NAMES, max_size=60),
    turns=st.lists(CHANGES, max_size=25),
    count=st.integers(1, 15),
    options=st.sampled_from([(), ("MATCH", "common:*"), ("MATCH", "*1*"), ("TYPE", "string")]),
)
def test_scan_finds_what_is_there_all_the_time(
    make_local: Servers,
    first: set[bytes],
    turns: list[list[tuple[str, bytes]]],
    count: int,
    options: tuple[str, ...],
) -> None:
    local = make_local.make()
    for name in first:
        local("SET", name, 1)
    steady, ever = set(first), set(first)
    found: set[bytes] = set()
    cursor: Any = b"0"
    # With each call a few keys come or go; there are so many of these turns, and then the iteration ends.
    for turn in range(2000):
        cursor, part = local("SCAN", cursor, "COUNT", count, *options)
        assert len(part) <= count
        found.update(part)
        if cursor == b"0":
            break
        for verb, name in turns[turn] if turn < len(turns) else ():
            arguments = {"SET": (1,), "SADD": (1,), "DEL": (), "PEXPIRE": (1,)}[verb]
            local(verb, name, *arguments)
            ever.add(name)
            if verb in ("DEL", "PEXPIRE") or (verb == "SET" and name not in steady):
                steady.discard(name)
        local.clock.advance(2)
    else:
        raise AssertionError("no end")
    if "MATCH" in options:
        wanted = (
            (lambda name: name.startswith(b"common:"))
            if options[1] == "common:*"
            else (lambda name: b"1" in name)
        )
        steady, ever = set(filter(wanted, steady)), set(filter(wanted, ever))
    assert steady <= found <= ever

"""Commands on keys of any type: existence, expiry, names, databases, iteration, encodings, events."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.local import LocalClient, Servers
from lamina.server import elements, events
from lamina.server.errors import (
    DB_INDEX,
    NO_SUCH_KEY,
    NOT_A_CURSOR,
    NOT_AN_INTEGER,
    SAME_OBJECT,
    SYNTAX,
    CommandError,
    invalid_expire_time,
    misused_subcommand,
    not_between,
    unknown_subcommand,
    wrong_arity,
)
from lamina.server.numbers import INTEGER_MAX, INTEGER_MIN
from lamina.server.types import keys

BIG = b"b" * 200_000

MAKE: dict[str, list[tuple[Any, ...]]] = {
    "string": [("SET", "k", "value")],
    "number": [("SET", "k", "12")],
    "big string": [("SET", "k", BIG)],
    "list": [("RPUSH", "k", *range(300))],
    "set": [("SADD", "k", *(f"m{i}" for i in range(300)))],
    "hash": [("HSET", "k", *(word for i in range(300) for word in (f"f{i}", i)))],
    "zset": [("ZADD", "k", *(word for i in range(300) for word in (i, f"m{i}")))],
}
"""How to make a key of every type: `k`."""

READ: dict[bytes, tuple[str, ...]] = {
    b"string": ("GET", "{}"),
    b"list": ("LRANGE", "{}", "0", "-1"),
    b"set": ("SMEMBERS", "{}"),
    b"hash": ("HGETALL", "{}"),
    b"zset": ("ZRANGE", "{}", "0", "-1", "WITHSCORES"),
}


def contents(client: LocalClient, key: str) -> Any:
    """Return the type of a key and what it holds."""
    kind = client("TYPE", key)
    if kind == b"none":
        return None
    found = client(*(word.format(key) for word in READ[kind]))
    return kind, sorted(found) if kind == b"set" else found


@pytest.fixture(params=["held", "loaded", "on disk"])
def reopened(
    request: pytest.FixtureRequest, local: LocalClient, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], None]:
    """Return what brings the database into a state: as it is, or reopened with elements loaded or not."""
    if request.param == "on disk":
        monkeypatch.setattr(elements, "LOADED_AT_ONCE", -1)
        monkeypatch.setattr(elements, "LOADED_EVER", -1)
    return (lambda: None) if request.param == "held" else local.reload


@pytest.fixture(params=list(MAKE))
def made(
    request: pytest.FixtureRequest, local: LocalClient, reopened: Callable[[], None]
) -> tuple[LocalClient, Any]:
    """Return a client whose key `k` is of some type, and its contents."""
    for command in MAKE[request.param]:
        local(*command)
    before = contents(local, "k")
    reopened()
    return local, before


def observe(client: LocalClient) -> list[tuple[int, bytes, bytes]]:
    """Listen to all events from now on, and return the list that they are added to."""
    heard: list[tuple[int, bytes, bytes]] = []
    databases = client.server.databases
    databases.on_event = lambda keyspace, kind, name, key: heard.append((keyspace.index, name, key))
    for keyspace in databases.keyspaces:
        keyspace.listens = events.ALL
    return heard


def error(text: str) -> CommandError:
    return CommandError(text.encode())


# -- existence ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["DEL", "UNLINK"])
def test_keys_are_removed(made: tuple[LocalClient, Any], name: str) -> None:
    local, _ = made
    local("SET", "other", 1)
    heard = observe(local)
    assert local(name, "none", "k", "other", "k") == 2
    assert heard == [(0, b"del", b"k"), (0, b"del", b"other")]
    assert local("DBSIZE") == 0
    local.reload()
    assert local("EXISTS", "k", "other") == 0
    assert local(name, "k") == 0


def test_what_exists_is_counted_as_often_as_it_is_named(made: tuple[LocalClient, Any]) -> None:
    local, _ = made
    local("SET", "other", 1, "PX", 100)
    assert local("EXISTS", "k", "other", "k", "none") == 3
    assert local("TOUCH", "k", "other", "k", "none") == 3
    local.clock.advance(100)
    assert local("EXISTS", "other", "k") == 1


@pytest.mark.parametrize("name", ["DEL", "UNLINK", "EXISTS", "TOUCH"])
def test_some_key_must_be_named(local: LocalClient, name: str) -> None:
    assert local(name) == wrong_arity(name.lower().encode())


def test_types_have_names(made: tuple[LocalClient, Any]) -> None:
    local, before = made
    assert local.raw("TYPE", "k") == b"+%b\r\n" % before[0]
    assert local.raw("TYPE", "none") == b"+none\r\n"


def test_lookups_are_counted(local: LocalClient) -> None:
    local("SET", "k", 1)
    keyspace = local.client.keyspace
    for words in ("EXISTS k none", "TOUCH k none", "COPY none k"):
        local(*words.split())
    for name in ("TYPE", "TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME", "SORT_RO"):
        local(name, "k")
        local(name, "none")
    for name in ("ENCODING", "REFCOUNT", "IDLETIME", "FREQ"):
        local("OBJECT", name, "k")
        local("OBJECT", name, "none")
    assert (keyspace.hits, keyspace.misses) == (12, 13)
    # What writes does not count.
    for words in ("DEL none", "EXPIRE k 10", "EXPIRE none 10", "PERSIST k", "RENAME k k", "MOVE k 1"):
        local(*words.split())
    assert (keyspace.hits, keyspace.misses) == (12, 13)


def test_a_miss_is_an_event_but_for_object(local: LocalClient) -> None:
    heard = observe(local)
    local.client.keyspace.listens = events.ALL | events.KEY_MISS
    for words in ("EXISTS none", "TYPE none", "TTL none", "TOUCH none", "SORT none", "COPY none k"):
        local(*words.split())
        assert heard == [(0, b"keymiss", b"none")], words
        heard.clear()
    for words in ("OBJECT ENCODING none", "DEL none", "EXPIRE none 1", "RENAME none k", "MOVE none 1"):
        local(*words.split())
        assert heard == [], words


# -- expiry ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "time", "expected_ms"),
    [
        ("EXPIRE", 100, 100_000),
        ("PEXPIRE", 1234, 1234),
        ("EXPIREAT", 1_700_000_100, 100_000),
        ("PEXPIREAT", 1_700_000_001_234, 1234),
    ],
)
def test_keys_expire(made: tuple[LocalClient, Any], name: str, time: int, expected_ms: int) -> None:
    local, before = made
    assert local.clock.now_ms == 1_700_000_000_000
    heard = observe(local)
    assert local(name, "k", time) == 1
    assert heard == [(0, b"expire", b"k")]
    assert local("PTTL", "k") == expected_ms
    assert local("TTL", "k") == (expected_ms + 500) // 1000
    assert local("PEXPIRETIME", "k") == 1_700_000_000_000 + expected_ms
    assert local("EXPIRETIME", "k") == 1_700_000_000 + (expected_ms + 500) // 1000
    local.reload()
    assert contents(local, "k") == before
    local.clock.advance(expected_ms - 1)
    assert local("PTTL", "k") == 1
    local.clock.advance(1)
    heard.clear()
    assert local("TTL", "k") == local("PTTL", "k") == local("EXPIRETIME", "k") == -2
    assert heard == [(0, b"expired", b"k")]
    assert local("DBSIZE") == 0


@pytest.mark.parametrize(
    ("name", "time"),
    [
        ("EXPIRE", 0),
        ("PEXPIRE", -1),
        ("EXPIREAT", 1),
        ("PEXPIREAT", INTEGER_MIN),
        ("PEXPIREAT", 1_700_000_000_000),
    ],
)
def test_a_time_that_has_passed_deletes(made: tuple[LocalClient, Any], name: str, time: int) -> None:
    local, _ = made
    heard = observe(local)
    assert local(name, "k", time) == 1
    assert heard == [(0, b"del", b"k")]
    assert local("DBSIZE") == 0


def test_keys_persist(made: tuple[LocalClient, Any]) -> None:
    local, before = made
    assert local("PERSIST", "k") == local("PERSIST", "none") == 0
    local("EXPIRE", "k", 10)
    local("EXPIRE", "k", 20)
    heard = observe(local)
    assert local("PERSIST", "k") == 1
    assert heard == [(0, b"persist", b"k")]
    assert local("TTL", "k") == local("EXPIRETIME", "k") == -1
    local.wait_out(30_000)
    local.reload()
    assert contents(local, "k") == before


@pytest.mark.parametrize(
    ("old", "new", "met"),
    [
        (None, 100, "NX LT"),
        (100, 200, "XX GT"),
        (100, 50, "XX LT"),
        (100, 100, "XX"),
        # What deletes is subject to conditions as well.
        (None, 0, "NX LT"),
        (100, 0, "XX LT"),
    ],
)
def test_conditions_of_expire(local: LocalClient, old: int | None, new: int, met: str) -> None:
    cases = {name: name in met.split() for name in ("NX", "XX", "GT", "LT")}
    cases["xx gt"] = "XX" in met and "GT" in met
    cases["LT XX"] = cases["XX lt xx"] = "XX" in met and "LT" in met
    cases["nx NX"] = "NX" in met
    for conditions, is_met in cases.items():
        local("SET", "k", 1)
        if old is not None:
            local("EXPIRE", "k", old)
        heard = observe(local)
        assert local("EXPIRE", "k", new, *conditions.split()) == is_met, conditions
        remaining = -2 if is_met and not new else new if is_met else old or -1
        assert local("TTL", "k") == remaining
        assert [name for _, name, _ in heard] == ([b"expire" if new else b"del"] if is_met else [])


def test_errors_of_expire_come_in_order(local: LocalClient) -> None:
    incompatible = error("ERR NX and XX, GT or LT options at the same time are not compatible")
    for name, unit_ms, is_relative in (
        ("EXPIRE", 1000, True),
        ("PEXPIRE", 1, True),
        ("EXPIREAT", 1000, False),
        ("PEXPIREAT", 1, False),
    ):
        too_far = invalid_expire_time(name.lower().encode())
        for key in ("k", "none"):
            local("SET", "k", 1)
            assert local(name, key) == wrong_arity(name.lower().encode())
            assert local(name, key, "x", "foo") == error("ERR Unsupported option foo")
            assert local(name, key, "x", "NX", "XX") == incompatible
            assert local(name, key, "x", "GT", "LT", "NX") == incompatible
            assert local(name, key, "x", "LT", "GT") == error(
                "ERR GT and LT options at the same time are not compatible"
            )
            assert local(name, key, "x") == local(name, key, "1.5", "NX") == NOT_AN_INTEGER
            assert local(name, key, INTEGER_MAX + 1) == NOT_AN_INTEGER
            if unit_ms > 1:
                assert local(name, key, INTEGER_MIN) == local(name, key, INTEGER_MAX) == too_far
            if is_relative:
                assert local(name, key, INTEGER_MAX // unit_ms) == too_far
            assert local("TTL", "k") == -1


def test_the_latest_time_there_is(local: LocalClient) -> None:
    local("SET", "k", 1)
    assert local("PEXPIREAT", "k", INTEGER_MAX) == 1
    local.reload()
    assert local("PEXPIRETIME", "k") == INTEGER_MAX
    assert local("EXPIRETIME", "k") == (INTEGER_MAX + 500) // 1000
    assert local("PERSIST", "k") == 1


# -- names and places --------------------------------------------------------------------------------


def test_keys_are_renamed(made: tuple[LocalClient, Any]) -> None:
    local, before = made
    local("EXPIRE", "k", 100)
    local("RPUSH", "new", *range(100))
    local("EXPIRE", "new", 5)
    heard = observe(local)
    assert local("RENAMENX", "k", "new") == 0
    assert heard == []
    assert local.raw("RENAME", "k", "new") == b"+OK\r\n"
    assert heard == [(0, b"rename_from", b"k"), (0, b"rename_to", b"new")]
    assert local("EXISTS", "k") == 0
    assert local("TTL", "new") == 100
    assert local("RENAMENX", "new", "k") == 1
    assert local("TTL", "k") == 100
    local.reload()
    assert contents(local, "k") == before
    assert local("DBSIZE") == 1


def test_renaming_to_the_same_name_changes_nothing(local: LocalClient) -> None:
    local("SET", "k", 1)
    heard = observe(local)
    assert local("RENAME", "k", "k") == b"OK"
    assert local("RENAMENX", "k", "k") == 0
    assert heard == []
    for name in ("RENAME", "RENAMENX"):
        assert local(name, "none", "none") == local(name, "none", "k") == NO_SUCH_KEY
    local("PEXPIRE", "k", 10)
    local.clock.advance(10)
    assert local("RENAME", "k", "k") == NO_SUCH_KEY


def test_an_expired_name_is_free(local: LocalClient) -> None:
    for words in ("RENAMENX k new", "COPY k new"):
        local("SET", "k", 1)
        local("SET", "new", 2, "PX", 10)
        local.clock.advance(10)
        assert local(*words.split()) == 1
        assert local("GET", "new") == b"1"
        assert local("TTL", "new") == -1


@pytest.mark.parametrize("database", [0, 3])
def test_keys_are_copied(made: tuple[LocalClient, Any], database: int) -> None:
    local, before = made
    other = local.connect()
    other("SELECT", database)
    local("PEXPIRE", "k", 5000)
    heard = observe(local)
    assert local("COPY", "k", "copy", "DB", database) == 1
    assert heard == [(database, b"copy_to", b"copy")]
    assert contents(other, "copy") == contents(local, "k") == before
    assert other("PTTL", "copy") == local("PTTL", "k") == 5000
    local("PERSIST", "k")
    assert local("COPY", "k", "copy", "db", database) == 0
    assert local("COPY", "k", "copy", "replace", "DB", database) == 1
    assert other("PTTL", "copy") == -1
    # They have nothing in common.
    assert local("DEL", "k") == 1
    local.reload()
    assert contents(other, "copy") == before
    assert local("COPY", "k", "copy", "REPLACE", "DB", database) == 0
    assert contents(other, "copy") == before


def test_a_copy_that_replaces_is_new(local: LocalClient) -> None:
    heard = observe(local)
    local.client.keyspace.listens = events.ALL | events.NEW
    local("MSET", "a", 1, "b", 2)
    heard.clear()
    assert local("COPY", "a", "b", "REPLACE") == 1
    assert heard == [(0, b"new", b"b"), (0, b"copy_to", b"b")]
    heard.clear()
    local("RENAME", "a", "b")
    assert heard == [(0, b"new", b"b"), (0, b"rename_from", b"a"), (0, b"rename_to", b"b")]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("a b DB", SYNTAX),
        ("a b DB 1 DB", SYNTAX),
        ("a b REPLACE foo", SYNTAX),
        ("a b DB 16", DB_INDEX),
        ("a b DB -1", DB_INDEX),
        ("a b DB x", NOT_AN_INTEGER),
        ("a b DB 2147483648", not_between(-(1 << 31), (1 << 31) - 1)),
        ("a a", SAME_OBJECT),
        ("none none REPLACE", SAME_OBJECT),
        ("a a DB 1 DB 0", SAME_OBJECT),
        ("a", wrong_arity(b"copy")),
    ],
)
def test_errors_of_copy(local: LocalClient, arguments: str, expected: CommandError) -> None:
    local("SET", "a", 1)
    assert local("COPY", *arguments.split()) == expected


def test_keys_are_moved(made: tuple[LocalClient, Any]) -> None:
    local, before = made
    other = local.connect()
    other("SELECT", 5)
    local("PEXPIRE", "k", 5000)
    heard = observe(local)
    assert local("MOVE", "k", 5) == 1
    assert heard == [(0, b"move_from", b"k"), (5, b"move_to", b"k")]
    assert local("DBSIZE") == 0
    local.reload()
    assert contents(other, "k") == before
    assert other("PTTL", "k") == 5000
    local("SET", "k", "in the way")
    assert other("MOVE", "k", 0) == 0
    local("PEXPIRE", "k", 10)
    local.clock.advance(10)
    assert other("MOVE", "k", 0) == 1
    assert contents(local, "k") == before
    assert other("MOVE", "k", 0) == 0


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (0, SAME_OBJECT),
        (16, DB_INDEX),
        (-1, DB_INDEX),
        ("", NOT_AN_INTEGER),
        (99999999999, not_between(-(1 << 31), (1 << 31) - 1)),
    ],
)
def test_errors_of_move(local: LocalClient, index: Any, expected: CommandError) -> None:
    assert local("MOVE", "none", index) == expected


def test_who_watches_a_key_is_told_of_every_change(local: LocalClient) -> None:
    other = local.connect()
    changing = {
        "DEL k": True,
        "UNLINK k": True,
        "EXPIRE k 100": True,
        "EXPIRE k 0": True,
        "PERSIST e": True,
        "RENAME k x": True,
        "RENAME x k": True,
        "RENAMENX x n": True,
        "COPY x n": True,
        "COPY x k REPLACE": True,
        "MOVE k 1": True,
        "SORT l STORE k": True,
        "SORT none STORE k": True,
        "COPY x k": False,
        "RENAME k k": False,
        "RENAMENX x k": False,
        "EXPIRE k 100 XX": False,
        "PERSIST k": False,
        "TOUCH k": False,
        "SORT none STORE n": False,
        "COPY k x REPLACE": False,
        "MOVE none 1": False,
    }
    for words, is_change in changing.items():
        local("FLUSHALL")
        local.pipeline(("MSET", "k", 1, "x", 2), ("SET", "e", 3, "EX", 100), ("RPUSH", "l", 1))
        assert other("WATCH", "k", "e", "n") == b"OK"
        assert not isinstance(local(*words.split()), CommandError)
        replies = other.pipeline(("MULTI",), ("PING",), ("EXEC",))
        assert (replies[-1] is None) == is_change, words


def test_who_waits_for_a_list_gets_it_under_its_new_name(local: LocalClient) -> None:
    other = local.connect()
    for words in ("RENAME l waited", "COPY l waited", "SORT l STORE waited"):
        local("RPUSH", "l", 1)
        assert other.raw("BLPOP", "waited", 0) == b""
        local(*words.split())
        assert other.pushed() == [[b"waited", b"1"]], words
        local("DEL", "l")
    assert other("SELECT", 1) == b"OK"
    local("RPUSH", "waited", 1)
    assert other.raw("BLPOP", "waited", 0) == b""
    assert local("MOVE", "waited", 1) == 1
    assert other.pushed() == [[b"waited", b"1"]]


# -- all keys ----------------------------------------------------------------------------------------


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


# -- OBJECT ------------------------------------------------------------------------------------------


def test_encodings(local: LocalClient) -> None:
    long = "x" * 65
    expected = {
        "int": [("SET", "k", 12), ("SET", "k", INTEGER_MIN)],
        "embstr": [("SET", "k", "x" * 44), ("SET", "k", "012"), ("SET", "k", "")],
        "raw": [("SET", "k", "x" * 45), ("SET", "k", BIG)],
        "listpack": [("RPUSH", "k", 1), ("SADD", "k", "a"), ("HSET", "k", "f", 1), ("ZADD", "k", 1, "m")],
        "quicklist": [("RPUSH", "k", *range(5000))],
        "intset": [("SADD", "k", 1)],
        "hashtable": [("SADD", "k", long), ("HSET", "k", "f", long)],
        "skiplist": [("ZADD", "k", 1, long)],
    }
    for name, commands in expected.items():
        for command in commands:
            for ttl in (None, 100):
                local("DEL", "k")
                local(*command)
                if ttl:
                    local("EXPIRE", "k", ttl)
                assert local("OBJECT", "ENCODING", "k") == name.encode(), command[:3]
                local.reload()
                assert local("OBJECT", "ENCODING", "k") == name.encode(), command[:3]
                assert local("COPY", "k", "copy", "REPLACE") == 1
                assert local("OBJECT", "ENCODING", "copy") == name.encode(), command[:3]


def test_small_integers_are_shared(local: LocalClient) -> None:
    for text, expected in {0: 2147483647, 9999: 2147483647, 10000: 1, -1: 1, "x": 1}.items():
        for options in ((), ("EX", 10)):
            local("SET", "k", text, *options)
            assert local("OBJECT", "REFCOUNT", "k") == expected
    local("RPUSH", "l", 1)
    assert local("OBJECT", "REFCOUNT", "l") == 1


def test_object_of_a_missing_key(local: LocalClient) -> None:
    for name in ("ENCODING", "REFCOUNT", "IDLETIME", "FREQ"):
        assert local("OBJECT", name, "none") is None
        assert local("OBJECT", name) == wrong_arity(b"object|" + name.lower().encode())


def test_use_of_keys_by_the_policy(make_local: Servers) -> None:
    local = make_local.make()
    local("SET", "k", 1)
    assert local("OBJECT", "IDLETIME", "k") == 0
    assert local("OBJECT", "FREQ", "k").message.startswith(b"ERR An LFU maxmemory policy is not selected, ")
    local = make_local.make(maxmemory_policy="allkeys-lfu")
    local("SET", "k", 1)
    assert local("OBJECT", "IDLETIME", "k").message.startswith(b"ERR An LFU maxmemory policy is selected, ")
    assert local("OBJECT", "FREQ", "k") == 0
    assert local("OBJECT", "FREQ", "none") is None


def test_object_tells_its_subcommands(local: LocalClient) -> None:
    lines = local("OBJECT", "HELP")
    assert lines[0].startswith(b"OBJECT <subcommand>")
    for name in (b"ENCODING", b"FREQ", b"IDLETIME", b"REFCOUNT", b"HELP"):
        assert any(line.startswith(name) for line in lines)
    assert local("OBJECT") == wrong_arity(b"object")
    assert local("OBJECT", "FOO", "k") == unknown_subcommand(b"FOO", b"object")
    assert misused_subcommand(b"FOO", b"object").code == b"ERR"


def test_records_that_expire_are_told_by_their_tags() -> None:
    plain = b"\x00" + b"\xff" * 20
    expiring = b"\x10" + (1000).to_bytes(8, "big") + b"value"
    assert [keys._is_expired(raw, 1000) for raw in (plain, expiring)] == [False, True]
    assert not keys._is_expired(expiring, 999)

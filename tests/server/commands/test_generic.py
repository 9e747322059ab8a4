"""Commands on keys of any type: existence, names, databases, encodings, events."""

from __future__ import annotations

from typing import Any

import pytest

from harness.keys import BIG, contents, made, observe, reopened
from harness.local import LocalClient, Servers
from lamina.server import events
from lamina.server.errors import (
    DB_INDEX,
    NO_SUCH_KEY,
    NOT_AN_INTEGER,
    SAME_OBJECT,
    SYNTAX,
    CommandError,
    misused_subcommand,
    not_between,
    unknown_subcommand,
    wrong_arity,
)
from lamina.server.numbers import INTEGER_MIN

__all__ = ["made", "reopened"]

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


# -- OBJECT ------------------------------------------------------------------------------------------


def test_encodings(local: LocalClient) -> None:
    long = "x" * 65
    expected: dict[str, list[tuple[Any, ...]]] = {
        "int": [("SET", "k", 12), ("SET", "k", INTEGER_MIN)],
        "embstr": [("SET", "k", "x" * 44), ("SET", "k", "012"), ("SET", "k", "")],
        "raw": [("SET", "k", "x" * 45), ("SET", "k", BIG)],
        "listpack": [("RPUSH", "k", 1), ("SADD", "k", "a"), ("HSET", "k", "f", 1), ("ZADD", "k", 1, "m")],
        "quicklist": [("RPUSH", "k", *(["x" * 100] * 100))],
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

"""MULTI, EXEC, DISCARD, WATCH, UNWATCH."""

from __future__ import annotations

from typing import Any

import pytest

from harness.local import LocalClient
from lamina.server.errors import (
    DISCARD_WITHOUT_MULTI,
    EXEC_ABORT,
    EXEC_WITHOUT_MULTI,
    NESTED_MULTI,
    WATCH_INSIDE_MULTI,
    WRONG_TYPE,
    CommandError,
    wrong_arity,
)
from lamina.server.registry import COMMANDS

QUEUED = b"QUEUED"


def test_a_transaction(local: LocalClient) -> None:
    assert local("MULTI") == b"OK"
    assert local("SET", "a", 1) == QUEUED
    assert local("INCR", "a") == QUEUED
    assert local.connect()("GET", "a") is None
    assert local("GET", "missing") == QUEUED
    assert local("EXEC") == [b"OK", 2, None]
    assert local("GET", "a") == b"2"
    assert local("EXEC") == EXEC_WITHOUT_MULTI


def test_an_empty_one(local: LocalClient) -> None:
    assert local.pipeline(("MULTI",), ("EXEC",)) == [b"OK", []]


def test_discard(local: LocalClient) -> None:
    assert local.pipeline(("MULTI",), ("SET", "a", 1), ("DISCARD",)) == [b"OK", QUEUED, b"OK"]
    assert local("EXISTS", "a") == 0
    assert local("DISCARD") == DISCARD_WITHOUT_MULTI


def test_errors_while_running_stop_nothing(local: LocalClient) -> None:
    replies = local.pipeline(("MULTI",), ("SET", "a", "x"), ("LPUSH", "a", 1), ("SET", "b", 1), ("EXEC",))
    assert replies[-1] == [b"OK", WRONG_TYPE, b"OK"]


@pytest.mark.parametrize("wrong", [("NOPE",), ("GET",), ("CLIENT", "nope"), ("MULTI", "x"), ("WATCH",)])
def test_errors_while_queueing_abort_it(local: LocalClient, wrong: tuple[str, ...]) -> None:
    replies = local.pipeline(("MULTI",), ("SET", "a", 1), wrong, ("SET", "b", 1), ("EXEC",))
    assert isinstance(replies[2], CommandError)
    assert replies[-1] == EXEC_ABORT
    assert local("EXISTS", "a", "b") == 0
    assert local.pipeline(("MULTI",), ("SET", "a", 1), ("EXEC",)) == [b"OK", QUEUED, [b"OK"]]


def test_commands_that_are_not_queued_and_fail_abort_nothing(local: LocalClient) -> None:
    replies = local.pipeline(("MULTI",), ("MULTI",), ("WATCH", "k"), ("SET", "a", 1), ("EXEC",))
    assert replies == [b"OK", NESTED_MULTI, WATCH_INSIDE_MULTI, QUEUED, [b"OK"]]


def test_exec_with_arguments_ends_the_transaction(local: LocalClient) -> None:
    replies = local.pipeline(("MULTI",), ("SET", "a", 1), ("EXEC", "x"), ("SET", "b", 1), ("EXEC",))
    assert replies[2].message == (
        b"EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command"
    )
    assert replies[3:] == [b"OK", EXEC_WITHOUT_MULTI]
    assert local("MULTI", "x") == wrong_arity(b"multi")


def test_nothing_waits_inside(local: LocalClient) -> None:
    replies = local.pipeline(
        ("MULTI",), ("BLPOP", "l", 0), ("RPUSH", "l", "a", "b"), ("BLPOP", "l", 0), ("EXEC",)
    )
    assert replies[-1] == [None, 2, [b"l", b"a"]]


def test_who_waits_is_served_after_it(local: LocalClient) -> None:
    other = local.connect()
    other.run(("BLPOP", "l", 0))
    assert local.pipeline(("MULTI",), ("RPUSH", "l", "a"), ("LPOP", "l"), ("EXEC",))[-1] == [1, b"a"]
    assert other.pushed() == []
    local.pipeline(("MULTI",), ("RPUSH", "l", "a"), ("RPUSH", "l", "b"), ("EXEC",))
    assert other.pushed() == [[b"l", b"a"]]


def test_select_inside(local: LocalClient) -> None:
    local.pipeline(("MULTI",), ("SELECT", 3), ("SET", "a", 1), ("EXEC",))
    assert local("GET", "a") == b"1"
    local("SELECT", 0)
    assert local("GET", "a") is None


class TestWatch:
    @pytest.mark.parametrize(
        "change",
        [
            ("SET", "k", "2"), ("APPEND", "k", "x"), ("DEL", "k"), ("EXPIRE", "k", "100"), ("FLUSHALL",),
            ("RENAME", "k", "z"), ("SET", "k", "1"), ("RENAME", "other", "k"),
        ],
        ids=" ".join,
    )  # fmt: skip
    def test_a_change_of_others_or_one_s_own(self, local: LocalClient, change: tuple[str, ...]) -> None:
        for changer in (local.connect(), local):
            local.pipeline(("SET", "k", 1), ("SET", "other", 1), ("WATCH", "k"))
            assert not isinstance(changer(*change), CommandError)
            replies = local.pipeline(("MULTI",), ("SET", "done", 1), ("EXEC",))
            assert replies == [b"OK", QUEUED, None]
            assert local("EXISTS", "done") == 0

    def test_the_null_array(self, local: LocalClient) -> None:
        for resp, wire in ((2, b"*-1\r\n"), (3, b"_\r\n")):
            local.pipeline(("HELLO", resp), ("WATCH", "k"), ("SET", "k", 1), ("MULTI",))
            assert local.raw("EXEC") == wire

    @pytest.mark.parametrize(
        "change",
        [("GET", "k"), ("DEL", "missing"), ("SET", "l", "1"), ("SETNX", "k", "9"), ("LPUSH", "k", "1")],
    )
    def test_what_changes_nothing(self, local: LocalClient, change: tuple[str, ...]) -> None:
        other = local.connect()
        local.pipeline(("SET", "k", 1), ("WATCH", "k", "missing"))
        other(*change)
        assert local.pipeline(("MULTI",), ("ECHO", "x"), ("EXEC",))[-1] == [b"x"]

    def test_collections(self, local: LocalClient) -> None:
        other = local.connect()
        for change in (("HSET", "h", "f", 1), ("RPUSH", "h", 1), ("SADD", "h", 1), ("ZADD", "h", 1, "m")):
            local("DEL", "h")
            local("WATCH", "h")
            other(*change)
            assert local.pipeline(("MULTI",), ("EXEC",))[-1] is None

    def test_it_lasts_until_exec_discard_or_unwatch(self, local: LocalClient) -> None:
        for end in ([("MULTI",), ("EXEC",)], [("MULTI",), ("DISCARD",)], [("UNWATCH",)], [("RESET",)]):
            local.pipeline(("WATCH", "k"), *end)
            assert not local.client.watched
            local.connect()("SET", "k", 1)
            assert local.pipeline(("MULTI",), ("EXEC",))[-1] == []

    def test_unwatch_forgets_a_change(self, local: LocalClient) -> None:
        local.pipeline(("WATCH", "k"), ("SET", "k", 1), ("UNWATCH",), ("MULTI",))
        assert local("EXEC") == []

    def test_unwatch_inside_is_queued(self, local: LocalClient) -> None:
        local.pipeline(("WATCH", "k"), ("SET", "k", 1))
        assert local.pipeline(("MULTI",), ("UNWATCH",), ("EXEC",)) == [b"OK", QUEUED, None]

    def test_databases_are_told_apart(self, local: LocalClient) -> None:
        other = local.connect()
        local("WATCH", "k")
        other.pipeline(("SELECT", 1), ("SET", "k", 1))
        assert local.pipeline(("MULTI",), ("EXEC",))[-1] == []
        local.pipeline(("SELECT", 1), ("WATCH", "k"), ("SELECT", 0))
        other("SET", "k", 2)
        assert local.pipeline(("MULTI",), ("EXEC",))[-1] is None

    @pytest.mark.parametrize("is_reloaded", [False, True])
    def test_a_key_that_expires_meanwhile(self, local: LocalClient, is_reloaded: bool) -> None:
        local.pipeline(("SET", "k", 1, "PX", 100), ("WATCH", "k"))
        if is_reloaded:
            local.reload()
        local.clock.advance(200)
        assert local.pipeline(("MULTI",), ("ECHO", "x"), ("EXEC",))[-1] is None

    def test_a_key_that_had_expired_before(self, local: LocalClient) -> None:
        local("SET", "k", 1, "PX", 100)
        local.clock.advance(200)
        local("WATCH", "k")
        local.wait_out(1000)
        assert local.pipeline(("MULTI",), ("ECHO", "x"), ("EXEC",))[-1] == [b"x"]

    def test_expiry_is_in_vain_if_the_transaction_had_errors(self, local: LocalClient) -> None:
        local.pipeline(("WATCH", "k"), ("SET", "k", 1), ("MULTI",), ("NOPE",))
        assert local("EXEC") == EXEC_ABORT

    def test_many_watch_one_key(self, local: LocalClient) -> None:
        others = [local.connect() for _ in range(3)]
        for other in others:
            other("WATCH", "k", "k", "l")
        others[0]("UNWATCH")
        local("SET", "k", 1)
        outcomes: list[Any] = [other.pipeline(("MULTI",), ("EXEC",))[-1] for other in others]
        assert outcomes == [[], None, None]
        assert not local.server.databases.keyspaces[0].watched
        assert not local.server.databases.keyspaces[0].is_observed


class TestWritesRefused:
    def test_transactions_that_write_are_refused(self, local: LocalClient) -> None:
        local("SET", "k", 1)
        writer, reader = local.connect(), local.connect()
        writer.pipeline(("MULTI",), ("SET", "k", 2))
        reader.pipeline(("MULTI",), ("GET", "k"))
        local.server.refuse_writes(OSError("no space left"))
        misconf = local.server.misconfigured()
        assert writer("EXEC").message == b"EXECABORT Transaction discarded because of: " + misconf.message
        assert reader("EXEC") == [b"1"]
        assert local("SET", "k", 3) == local("PING") == misconf
        late = local.connect()
        assert late.pipeline(("MULTI",), ("SET", "k", 3), ("EXEC",)) == [b"OK", misconf, EXEC_ABORT]
        local.server.try_writing()
        assert writer("SET", "k", 4) == b"OK"


def test_rejected_and_failed_calls_are_counted_apart(local: LocalClient) -> None:
    from_start = local.connect()
    command = COMMANDS[b"INCR"]
    command.reset_statistics()
    local("SET", "k", "x")
    from_start("INCR", "k")
    assert (command.rejected, command.failed) == (0, 1)
    from_start("INCR")
    from_start("INCR", "k")
    assert (command.rejected, command.failed) == (1, 2)

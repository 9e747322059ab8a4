"""WAIT and WAITAOF: there are no replicas, but there is a disk."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from harness.local import LocalClient, as_bytes, parse_all
from lamina.engine import ClosedError, PoisonedError
from lamina.server import durability
from lamina.server.commands import waiting
from lamina.server.dispatch import run_commands
from lamina.server.errors import (
    NOT_AN_INTEGER,
    NOT_POSITIVE,
    TIMEOUT_NEGATIVE,
    TIMEOUT_NOT_AN_INTEGER,
    TIMEOUT_OUT_OF_RANGE,
    CommandError,
    not_between,
)
from lamina.server.numbers import INTEGER_MAX


@pytest.mark.parametrize("replicas", [0, -1])
def test_without_replicas_asked_for_nobody_waits(local: LocalClient, replicas: int) -> None:
    assert local("WAIT", replicas, 0) == 0


def test_wait_ends_with_its_time(local: LocalClient) -> None:
    assert local.raw("WAIT", 1, 50) == b""
    assert local.raw("PING") == b""
    local.wait_out(49)
    assert local.pushed() == []
    local.wait_out(1)
    assert local.pushed() == [0, b"PONG"]


def test_waiting_for_ever(local: LocalClient) -> None:
    assert local.raw("WAIT", 1, 0) == b""
    assert local.raw("WAITAOF", 0, 1, 0) == b""
    local.wait_out(1 << 40)
    assert local.pushed() == []


def test_a_transaction_does_not_wait(local: LocalClient) -> None:
    replies = local.pipeline(
        ("MULTI",), ("SET", "k", 1), ("WAIT", 1, 0), ("WAITAOF", 1, 1, 0), ("WAITAOF", 1, 0, 0), ("EXEC",)
    )
    # What it writes is not on the disk before it is over.
    assert replies[-1] == [b"OK", 0, [0, 0], [0, 0]]
    assert local("WAITAOF", 1, 0, 0) == [1, 0]
    assert local.pipeline(("MULTI",), ("WAITAOF", 1, 1, 0), ("EXEC",))[-1] == [[1, 0]]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("WAIT x x", NOT_AN_INTEGER),
        ("WAIT 1 x", TIMEOUT_NOT_AN_INTEGER),
        ("WAIT 1 -1", TIMEOUT_NEGATIVE),
        (f"WAIT 1 {INTEGER_MAX}", TIMEOUT_OUT_OF_RANGE),
        ("WAITAOF x 0 0", NOT_AN_INTEGER),
        ("WAITAOF 2 x x", not_between(0, 1)),
        ("WAITAOF -1 0 0", not_between(0, 1)),
        ("WAITAOF 1 x x", NOT_POSITIVE),
        ("WAITAOF 1 -1 x", NOT_POSITIVE),
        ("WAITAOF 1 0 x", TIMEOUT_NOT_AN_INTEGER),
        ("WAITAOF 1 0 -1", TIMEOUT_NEGATIVE),
    ],
)
def test_errors(local: LocalClient, arguments: str, expected: CommandError) -> None:
    assert local(*arguments.split()) == expected


def test_what_has_been_written_is_on_the_disk(local: LocalClient) -> None:
    assert local.pipeline(("SET", "k", 1), ("WAITAOF", 0, 0, 0)) == [b"OK", [0, 0]]
    assert not durability.is_durable(local.server)
    assert local.pipeline(("SET", "k", 2), ("WAITAOF", 1, 0, 0), ("GET", "k")) == [b"OK", [1, 0], b"2"]
    assert durability.is_durable(local.server)
    assert local("WAITAOF", 0, 0, 0) == [1, 0]
    assert local("WAITAOF", 1, 0, 0) == [1, 0]


def test_replicas_are_waited_for_when_the_disk_is_done(local: LocalClient) -> None:
    local("SET", "k", 1)
    assert local.raw("WAITAOF", 1, 1, 100) == b""
    local.wait_out(100)
    assert local.pushed() == [[1, 0]]


def run_with_loop(local: LocalClient, *commands: tuple[Any, ...], replies: int) -> list[Any]:
    """Run a pipeline in a loop until so many replies have come; returns them."""
    server = local.server

    async def run() -> None:
        server.loop = asyncio.get_running_loop()
        run_commands(local.client, [[as_bytes(word) for word in command] for command in commands])
        for _ in range(5000):
            if len(parse_all(local.wire.data)) >= replies:
                return
            await asyncio.sleep(0.001)
        raise AssertionError("no reply")

    local.turn()
    try:
        asyncio.run(run())
    finally:
        server.loop = None
    return local.pushed()


def test_the_loop_goes_on_while_a_thread_syncs(local: LocalClient) -> None:
    replies = run_with_loop(local, ("SET", "k", 1), ("WAITAOF", 1, 0, 0), ("GET", "k"), replies=3)
    assert replies == [b"OK", [1, 0], b"1"]
    assert durability.is_durable(local.server)
    assert run_with_loop(local, ("WAITAOF", 1, 0, 5), replies=1) == [[1, 0]]


def test_a_client_whose_time_is_over_is_not_told_again(
    local: LocalClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell: list[Any] = []
    monkeypatch.setattr(waiting, "when_durable", lambda server, end: tell.append(end))
    local("SET", "k", 1)
    assert local.raw("WAITAOF", 1, 0, 10) == b""
    local.wait_out(10)
    assert local.pushed() == [[0, 0]]
    assert local.raw("WAITAOF", 1, 0, 0) == b""
    tell[0](None)
    local.turn()
    assert local.pushed() == []
    tell[1](None)
    local.turn()
    assert local.pushed() == [[1, 0]]


def test_a_disk_that_fails_to_sync_takes_no_writes(
    local: LocalClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise PoisonedError("the disk is broken")

    db = local.server.databases.store.db
    with monkeypatch.context() as patch:
        patch.setattr(type(db), "sync", lambda self: fail())
        replies = run_with_loop(local, ("SET", "k", 1), ("WAITAOF", 1, 0, 0), ("SET", "k", 2), replies=3)
    assert replies[0] == b"OK"
    assert [reply.code for reply in replies[1:]] == [b"MISCONF", b"MISCONF"]
    assert local("GET", "k") == b"1"


def test_a_database_that_is_closed_meanwhile_is_on_the_disk(
    local: LocalClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ClosedError("closed")

    db = local.server.databases.store.db
    with monkeypatch.context() as patch:
        patch.setattr(type(db), "sync", lambda self: fail())
        assert run_with_loop(local, ("SET", "k", 1), ("WAITAOF", 1, 0, 0), replies=2) == [b"OK", [1, 0]]

"""When the engine falls behind, those who write wait, and nobody else does."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

from harness.local import LocalClient, Servers
from lamina.server.client import PAUSED
from lamina.server.errors import CommandError


class Loop:
    """A loop that does nothing by itself: a test says when time has passed."""

    def __init__(self) -> None:
        self.due: list[tuple[float, Callable[..., Any], tuple[Any, ...]]] = []

    def call_later(self, delay_s: float, callback: Callable[..., Any], *arguments: Any) -> Loop:
        self.due.append((delay_s, callback, arguments))
        return self

    def call_soon(self, callback: Callable[..., Any], *arguments: Any) -> Loop:
        return self  # `LocalClient.turn` does what is due at once

    def cancel(self) -> None: ...

    def run_due(self) -> None:
        due, self.due = self.due, []
        for _, callback, arguments in due:
            callback(*arguments)


class Stall:
    """Decides how far behind the engine is."""

    def __init__(self, local: LocalClient, monkeypatch: pytest.MonkeyPatch) -> None:
        self.delay_s = 0.0
        self.error: OSError | None = None
        self.server = local.server
        self.loop = Loop()
        monkeypatch.setattr(self.server.databases.store.db, "room_delay_s", self.room_delay_s)
        monkeypatch.setattr(self.server, "loop", self.loop)

    def room_delay_s(self) -> float:
        if self.error is not None:
            raise self.error
        return self.delay_s

    def go_on(self, local: LocalClient) -> None:
        """Let the time pass that the engine has asked for."""
        self.loop.run_due()
        local.turn()


@pytest.fixture
def local(make_local: Servers) -> LocalClient:
    return make_local.make(appendfsync="no")  # the thread that syncs would need a real loop


@pytest.fixture
def stall(local: LocalClient, monkeypatch: pytest.MonkeyPatch) -> Stall:
    return Stall(local, monkeypatch)


def test_the_engine_never_blocks_the_loop(local: LocalClient) -> None:
    assert not local.server.databases.store.db.waits_for_room
    local.reload()
    assert not local.server.databases.store.db.waits_for_room


def test_writers_wait_and_readers_do_not(local: LocalClient, stall: Stall) -> None:
    other = local.connect()
    stall.delay_s = 0.02
    assert local("SET", "k", "1") == b"OK"  # it has been written: who wrote it knows
    assert local.server.is_stalled
    assert [delay_s for delay_s, _, _ in stall.loop.due] == [0.02]
    local.run(("SET", "k", "2"), ("GET", "k"))
    assert local.pushed() == []
    assert other.pipeline(("GET", "k"), ("PING",), ("PUBLISH", "c", "m")) == [b"1", b"PONG", 0]
    stall.go_on(local)  # there is still no room
    assert local.server.is_stalled
    assert local.pushed() == []
    stall.delay_s = 0
    stall.go_on(local)
    assert local.pushed() == [b"OK", b"2"]
    assert not local.client.gate & PAUSED
    assert stall.loop.due == []


def test_transactions_wait_if_they_write(local: LocalClient, stall: Stall) -> None:
    other = local.connect()
    local.pipeline(("MULTI",), ("INCR", "n"))
    other.pipeline(("MULTI",), ("GET", "n"))
    stall.delay_s = 0.01
    local.connect()("SET", "k", "1")
    local.run(("EXEC",))
    assert other("EXEC") == [None]
    assert local.pushed() == []
    stall.delay_s = 0
    stall.go_on(local)
    assert local.pushed() == [[1]]


def test_new_clients_wait_as_well(local: LocalClient, stall: Stall) -> None:
    stall.delay_s = 0.01
    local("SET", "k", "1")
    late = local.connect()
    late.run(("SET", "k", "2"))
    assert late.pushed() == []
    stall.delay_s = 0
    stall.go_on(local)
    assert late.pushed() == [b"OK"]


def test_a_disk_that_stays_full_refuses_writes(local: LocalClient, stall: Stall) -> None:
    stall.delay_s = 0.01
    local("SET", "k", "1")
    local.run(("SET", "k", "2"))
    stall.error = OSError(errno.ENOSPC, "memtables are full and cannot be flushed: No space left on device")
    stall.go_on(local)
    assert not local.server.is_stalled
    (reply,) = local.pushed()
    assert isinstance(reply, CommandError)
    assert reply.code == b"MISCONF"
    assert local("GET", "k") == b"1"
    stall.error, stall.delay_s = None, 0
    local.server.try_writing()
    local.turn()
    assert local("SET", "k", "3") == b"OK"


def test_what_was_written_before_the_error_stays(local: LocalClient, stall: Stall) -> None:
    stall.error = OSError(errno.ENOSPC, "memtables are full and cannot be flushed: No space left on device")
    assert local("SET", "k", "1") == b"OK"
    reply = local("SET", "k", "2")
    assert isinstance(reply, CommandError)
    assert reply.code == b"MISCONF"
    assert local("GET", "k") == b"1"
    stall.error = None
    local.server.try_writing()


def test_a_pause_and_a_stall_do_not_end_each_other(local: LocalClient, stall: Stall) -> None:
    other = local.connect()
    stall.delay_s = 0.01
    local("SET", "k", "1")
    assert local("CLIENT", "PAUSE", 1000, "WRITE") == b"OK"
    other.run(("SET", "k", "2"))
    assert local("CLIENT", "UNPAUSE") == b"OK"
    assert other.pushed() == []  # the stall goes on
    assert local("CLIENT", "PAUSE", 1000, "WRITE") == b"OK"
    stall.delay_s = 0
    stall.go_on(local)
    assert other.pushed() == []  # the pause goes on
    assert local("CLIENT", "UNPAUSE") == b"OK"
    assert other.pushed() == [b"OK"]


def test_nothing_expires_by_itself_in_a_stall(local: LocalClient, stall: Stall) -> None:
    local("SET", "k", "1", "PX", 10)
    stall.delay_s = 0.01
    local("SET", "other", "1")
    local.clock.advance(20)
    local.server.cron.run()
    local.turn()
    assert local("DBSIZE") == 2
    stall.delay_s = 0
    stall.go_on(local)
    local.server.cron.run()
    local.turn()
    assert local("DBSIZE") == 1

"""Turns that fail: the disk takes no writes, or something breaks off half-way.

All that belongs to such a turn is undone and told so; what has nothing to do with it stays; reads go on; and
when the disk takes writes again, everything goes on by itself.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from harness.fault_filesystem import (
    FaultFileSystem,
    Operation,
    disk_full,
    fail,
    fail_when,
    inject_when,
    no_faults,
    torn_write,
)
from harness.keymodel import KeyModel, as_bytes
from harness.load import random_command
from harness.local import LocalClient, Servers, check_server, parse_all, together
from harness.localcontents import difference
from harness.memory_filesystem import MemoryFileSystem
from lamina.server.dispatch import run_commands
from lamina.server.errors import CommandError


def is_log(operation: Operation) -> bool:
    return operation.kind == "write" and operation.path.endswith(".wal")


FULL = fail_when(is_log, errno.ENOSPC)


class Disk:
    """A server over a disk that can be filled up."""

    def __init__(self, make_local: Servers, **options: Any) -> None:
        self.memory = MemoryFileSystem()
        self.faults = FaultFileSystem(self.memory)
        self.local = make_local.make(fs=self.faults, **options)

    @property
    def is_writable(self) -> bool:
        return self.local.server.write_error is None

    def fill(self) -> None:
        self.faults.plan = FULL

    def empty(self) -> None:
        self.faults.plan = no_faults

    def recover(self) -> None:
        """Make room, and see that the server notices within a second or so."""
        self.empty()
        self.local.wait_out(1100)
        assert self.is_writable
        self.local.wait_out(100)


@pytest.fixture
def disk(make_local: Servers) -> Disk:
    return Disk(make_local)


def codes(replies: list[Any]) -> list[Any]:
    return [reply.code if isinstance(reply, CommandError) else reply for reply in replies]


# -- a turn that does not fit ----------------------------------------------------------------------------


def test_a_turn_that_does_not_fit_is_undone_and_told_to_all_in_it(disk: Disk) -> None:
    local, other = disk.local, disk.local.connect()
    local.pipeline(("SET", "x", "old"), ("RPUSH", "l", "a", "b"))
    disk.fill()
    mine, theirs = together(
        (local, [("SET", "x", "new"), ("RPOP", "l"), ("SADD", "s", "m"), ("ZADD", "z", 1, "m")]),
        (other, [("GET", "x"), ("LLEN", "l"), ("PING",), ("TIME",)]),
    )
    assert codes(mine) == [b"MISCONF"] * 4
    assert str(mine[0]).startswith(
        "MISCONF Errors writing to the AOF file: [Errno 28] No space left on device"
    )
    assert codes(theirs[:3]) == [b"MISCONF"] * 3
    assert len(theirs[3]) == 2
    assert local.pipeline(("GET", "x"), ("LRANGE", "l", 0, -1), ("EXISTS", "s", "z")) == [
        b"old",
        [b"a", b"b"],
        0,
    ]
    disk.recover()
    check_server(local.server)


def test_a_full_disk_takes_commands_that_do_not_write(disk: Disk) -> None:
    local = disk.local
    local.pipeline(("SET", "x", 1), ("RPUSH", "l", "a"))
    disk.fill()
    assert local("SET", "x", 2).code == b"MISCONF"
    writes = len(disk.faults.injected)
    for command in (("SET", "x", 3), ("BLPOP", "l", 0), ("FLUSHALL",), ("GETEX", "x"), ("PING",)):
        assert local(*command).code == b"MISCONF", command
    assert local("BLPOP", "nothing", 0).code == b"MISCONF"
    assert local("GET", "x") == b"1"
    assert local("LRANGE", "l", 0, -1) == [b"a"]
    assert local("ECHO", "a") == b"a"
    assert len(disk.faults.injected) == writes, "nothing was tried"
    disk.recover()
    assert local("PING") == b"PONG"
    assert local("INCR", "x") == 2
    assert local.server.stats.errors[b"MISCONF"] == 7


def test_transactions_on_a_full_disk(disk: Disk) -> None:
    local = disk.local
    local("SET", "x", 1)
    local.pipeline(("MULTI",), ("INCR", "x"), ("SET", "y", 1))
    disk.fill()
    assert local("EXEC").code == b"MISCONF", "it was queued while there was room"
    assert local("GET", "x") == b"1"
    assert local.pipeline(("MULTI",), ("GET", "x"), ("EXEC",)) == [b"OK", b"QUEUED", [b"1"]]
    replies = local.pipeline(("MULTI",), ("GET", "x"), ("INCR", "x"), ("EXEC",))
    assert codes(replies) == [b"OK", b"QUEUED", b"MISCONF", b"EXECABORT"]
    disk.empty()
    local.pipeline(("MULTI",), ("INCR", "y"))
    disk.recover()
    assert local("EXEC").code == b"EXECABORT"
    # Queued before, executed while writes are refused.
    local.pipeline(("MULTI",), ("INCR", "x"))
    disk.fill()
    other = local.connect()
    assert other("SET", "z", 1).code == b"MISCONF"
    reply = local("EXEC")
    assert str(reply).startswith("EXECABORT Transaction discarded because of: MISCONF Errors writing")
    assert local("GET", "x") == b"1"
    assert local("EXEC") == CommandError(b"ERR EXEC without MULTI")


def test_what_has_nothing_to_do_with_the_turn_stays(disk: Disk) -> None:
    local = disk.local
    clients = [local.connect() for _ in range(6)]
    disk.fill()
    replies = together(
        (local, [("SET", "x", 1)]),
        (clients[0], [("MULTI",), ("GET", "x")]),
        (clients[1], [("SELECT", 3), ("GET", "x"), ("CLIENT", "SETNAME", "me")]),
        (clients[2], [("HELLO", 3), ("GET", "x")]),
        (clients[3], [("WATCH", "x"), ("NO", "SUCH"), ("GET",)]),
        (clients[4], [("SUBSCRIBE", "c")]),
        (clients[5], [("GET", "x"), ("MULTI",), ("DISCARD",), ("PUBLISH", "c", "hello"), ("GET", "x")]),
    )
    assert codes(replies[0]) == [b"MISCONF"]
    assert replies[1] == [b"OK", b"QUEUED"]
    assert codes(replies[2]) == [b"OK", b"MISCONF", b"OK"]
    assert clients[1].client.keyspace.index == 3
    assert replies[3][0][b"proto"] == 3
    assert codes(replies[3][1:]) == [b"MISCONF"]
    assert replies[4][0] == b"OK"
    assert codes(replies[5]) == [[b"subscribe", b"c", 1], [b"message", b"c", b"hello"]]
    assert codes(replies[6]) == [b"MISCONF", b"OK", b"OK", 1, b"MISCONF"]
    disk.recover()
    assert clients[0]("EXEC") == [None]
    for client in clients[:3]:
        assert not client.client.pushes


def test_clients_that_want_no_replies_get_none(disk: Disk) -> None:
    local, silent = disk.local, disk.local.connect()
    disk.fill()
    mine, theirs = together(
        (silent, [("CLIENT", "REPLY", "SKIP"), ("SELECT", 0), ("SET", "a", 1), ("SELECT", 0)]),
        (local, [("CLIENT", "REPLY", "OFF"), ("SELECT", 2), ("SET", "a", 1), ("PUBLISH", "c", "m")]),
    )
    assert codes(mine) == [b"MISCONF", b"OK"]
    assert theirs == []
    disk.recover()
    assert local("CLIENT", "REPLY", "ON") == b"OK"


def test_a_client_that_wrote_and_went(disk: Disk) -> None:
    local, gone, leaving = disk.local, disk.local.connect(), disk.local.connect()
    disk.fill()
    run_commands(gone.client, [[b"SET", b"x", b"1"]])
    local.server.remove_client(gone.client)
    replies = together((local, [("GET", "x")]), (leaving, [("SET", "y", 1), ("QUIT",), ("SET", "z", 1)]))
    assert codes(replies[0]) == [b"MISCONF"]
    assert codes(replies[1]) == [b"MISCONF", b"OK"]
    assert leaving.wire.is_closed
    assert gone.wire.data == b""
    disk.recover()
    assert local("EXISTS", "x", "y", "z") == 0


def test_watched_keys_and_a_turn_that_is_undone(disk: Disk) -> None:
    local, watcher = disk.local, disk.local.connect()
    local("SET", "x", 1)
    watcher("WATCH", "x")
    disk.fill()
    local("SET", "x", 2)
    disk.recover()
    # What is undone may or may not count as a change; a change that came through must.
    watcher.pipeline(("MULTI",), ("GET", "x"))
    assert watcher("EXEC") in (None, [b"1"])
    watcher("WATCH", "x")
    local("SET", "x", 3)
    watcher.pipeline(("MULTI",), ("GET", "x"))
    assert watcher("EXEC") is None


def test_swapping_and_flushing_are_undone(disk: Disk) -> None:
    local = disk.local
    local.pipeline(
        ("SET", "x", 1), ("RPUSH", "l", *range(200)), ("SELECT", 1), ("SET", "y", 2), ("SELECT", 0)
    )
    disk.fill()
    for command in (("SWAPDB", 0, 1), ("FLUSHDB",), ("FLUSHALL",)):
        local.server.write_error = None
        assert local(*command).code == b"MISCONF"
        assert local.pipeline(("GET", "x"), ("LLEN", "l"), ("DBSIZE",)) == [b"1", 200, 2]
        disk.recover()
        check_server(local.server)
        disk.fill()
    disk.empty()
    assert local.pipeline(("SWAPDB", 0, 1), ("GET", "y"), ("DBSIZE",)) == [b"OK", b"2", 1]
    local.reload()
    assert local.pipeline(("GET", "y"), ("SELECT", 1), ("LLEN", "l")) == [b"2", b"OK", 200]


def test_ids_go_on_after_a_turn_that_is_undone(disk: Disk) -> None:
    local = disk.local
    disk.fill()
    assert local("RPUSH", "a", 1).code == b"MISCONF", "the first collection: ids are reserved in this turn"
    disk.recover()
    for i in range(1500):
        local("RPUSH", f"l{i % 7}", i)
        local("DEL", f"l{(i + 3) % 7}")
    disk.fill()
    local("SADD", "s", "m")
    disk.recover()
    local.reload()
    local("SADD", "s", "m")
    assert len({record.id for record in records(local)}) == local("DBSIZE")


def records(local: LocalClient) -> list[Any]:
    keyspace = local.client.keyspace
    return [keyspace.find(key) for keys, _ in list(keyspace.scan_keys()) for key in keys]


# -- expiry ----------------------------------------------------------------------------------------------


def test_what_expires_while_nothing_can_be_written_looks_gone(disk: Disk) -> None:
    local = disk.local
    local.pipeline(("SET", "x", 1, "PX", 500), ("RPUSH", "l", "a"), ("PEXPIRE", "l", 500), ("SET", "y", 1))
    local.pipeline(("HSET", "h", "f", 1, "g", 2), ("HPEXPIRE", "h", 500, "FIELDS", 1, "f"))
    disk.fill()
    local("SET", "y", 2)
    local.clock.advance(600)
    assert local.pipeline(("GET", "x"), ("LLEN", "l"), ("EXISTS", "x", "l", "y"), ("HGETALL", "h")) == [
        None,
        0,
        1,
        [b"g", b"2"],
    ]
    local.server.cron.run()
    assert len(records(local)) == 4
    disk.recover()
    assert local("DBSIZE") == 2
    check_server(local.server)


def test_a_cycle_of_expiry_that_fails_takes_nothing_of_clients_along(disk: Disk) -> None:
    local = disk.local
    for i in range(20):
        local("SET", f"x{i}", 1, "PX", 500)
    local.clock.advance(600)
    run_commands(local.client, [[b"SET", b"y", b"1"]])
    local.server.cron.run()  # amid the turn
    disk.fill()
    local.turn()
    assert local.pushed() == [b"OK"]
    assert not disk.is_writable
    assert local("GET", "y") == b"1"
    disk.recover()
    assert local("DBSIZE") == 1


# -- clients that wait -----------------------------------------------------------------------------------


def test_who_is_served_in_a_turn_that_fails_is_told(disk: Disk) -> None:
    local, waiting, next_one = disk.local, disk.local.connect(), disk.local.connect()
    waiting.run(("BLPOP", "l", 0), ("ECHO", "after"))
    next_one.run(("BLPOP", "l", 0))
    disk.fill()
    assert local("RPUSH", "l", "a").code == b"MISCONF"
    assert codes(waiting.pushed()) == [b"MISCONF", b"after"]
    assert waiting.client.wait is None
    assert next_one.pushed() == []
    disk.recover()
    assert local.pipeline(("EXISTS", "l"), ("RPUSH", "l", "b")) == [0, 1]
    assert next_one.pushed() == [[b"l", b"b"]]


def test_who_has_found_nothing_because_of_a_turn_that_fails_is_served_later(disk: Disk) -> None:
    local, waiting = disk.local, disk.local.connect()
    local("RPUSH", "l", "a", "b")
    disk.fill()
    mine, _ = together((local, [("DEL", "l")]), (waiting, [("BLMOVE", "l", "m", "LEFT", "LEFT", 0)]))
    assert codes(mine) == [b"MISCONF"]
    assert waiting.pushed() == []
    assert waiting.client.wait is not None
    disk.recover()
    assert waiting.pushed() == [b"a"]
    assert local.pipeline(("LRANGE", "l", 0, -1), ("LRANGE", "m", 0, -1)) == [[b"b"], [b"a"]]


def test_times_go_on_for_those_who_wait(disk: Disk) -> None:
    local, waiting = disk.local, disk.local.connect()
    waiting.run(("BLPOP", "l", 0.5))
    disk.fill()
    local("SET", "x", 1)
    assert waiting.pushed() == []
    local.wait_out(600)
    assert waiting.pushed() == [None]


# -- faults of our own -----------------------------------------------------------------------------------


@pytest.fixture
def broken(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let the next commit fail as only a mistake in the program can make it."""

    def break_once() -> None:
        def gather() -> None:
            monkeypatch.undo()
            raise KeyError("a record that is not there")

        monkeypatch.setattr(disk.local.server.databases, "gather", gather)

    return break_once


def test_a_mistake_in_the_commit_fails_the_turn_only(disk: Disk, broken: Callable[[], None]) -> None:
    local, waiting = disk.local, disk.local.connect()
    local("RPUSH", "l", "a")
    broken()
    replies, served = together((local, [("DEL", "l"), ("SET", "x", 1)]), (waiting, [("BLPOP", "l", 0)]))
    assert codes(replies) == [b"ERR", b"ERR"]
    assert "internal error" in str(replies[0])
    assert disk.is_writable
    assert served == [[b"l", b"a"]], "the list was there again"
    assert local.pipeline(("EXISTS", "l", "x"), ("SET", "x", 1)) == [0, b"OK"]


def test_a_mistake_in_a_command_that_writes_fails_the_turn(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    local, other = disk.local, disk.local.connect()
    local("RPUSH", "l", "a", "b")

    def mark(key: bytes) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(type(local.client.keyspace), "mark", lambda self, key: mark(key))
    replies = together(
        (other, [("SET", "x", 1), ("SELECT", 0)]),
        (local, [("SET", "y", 1), ("LSET", "l", 0, "c"), ("ECHO", "a")]),
    )
    monkeypatch.undo()
    assert [codes(one) for one in replies] == [[b"ERR", b"OK"], [b"ERR", b"ERR", b"a"]]
    assert local.pipeline(("LRANGE", "l", 0, -1), ("EXISTS", "x", "y")) == [[b"a", b"b"], 0]


# -- committing in the middle of a turn ------------------------------------------------------------------


def test_what_was_committed_amid_a_turn_is_not_undone_with_it(disk: Disk) -> None:
    local, other = disk.local, disk.local.connect()

    task = local.server.saver.save_task

    def refuse(operation: Operation) -> Any:
        return fail(errno.ENOSPC) if is_log(operation) and task.last_s >= 0 else None

    disk.faults.plan = refuse
    replies = together((other, [("SET", "y", 1)]), (local, [("SET", "x", 1), ("SAVE",), ("SET", "x", 2)]))
    assert [codes(one) for one in replies] == [[b"OK"], [b"OK", b"OK", b"MISCONF"]]
    assert local.pipeline(("GET", "x"), ("GET", "y")) == [b"1", b"1"]
    disk.recover()


def test_nothing_is_committed_amid_a_transaction(disk: Disk) -> None:
    local = disk.local
    local("CONFIG", "SET", "enable-debug-command", "yes")
    local.pipeline(("MULTI",), ("SET", "x", 1), ("DEBUG", "RELOAD"), ("SET", "y", 1))
    assert codes(local("EXEC")) == [b"OK", b"ERR", b"OK"]
    assert local("EXISTS", "x", "y") == 2
    local.pipeline(("MULTI",), ("SET", "x", 2), ("BGSAVE",), ("SET", "y", 2))
    assert local("EXEC")[0::2] == [b"OK", b"OK"]
    assert local("LASTSAVE") > 0


def test_a_save_that_cannot_commit_fails_with_its_turn(disk: Disk) -> None:
    local = disk.local
    disk.fill()
    replies = local.pipeline(("SET", "x", 1), ("SAVE",), ("GET", "x"))
    assert codes(replies) == [b"MISCONF", b"MISCONF", None]
    disk.recover()


# -- a disk that is full for a while ---------------------------------------------------------------------


def plain(reply: Any) -> Any:
    if isinstance(reply, CommandError):
        return reply.code.decode()
    return reply


def same_reply(expected: Any, reply: Any) -> bool:
    return bool(plain(reply) == (as_bytes(expected) if expected == "OK" else expected))


@pytest.mark.parametrize("seed", range(4))
def test_a_disk_that_fills_up_again_and_again(make_local: Servers, seed: int) -> None:
    disk = Disk(make_local)
    random = Random(seed)
    local, model = disk.local, KeyModel()
    clients = [local, local.connect(), local.connect()]
    refused = 0
    for _ in range(6):
        disk.faults.plan = disk_full(disk.faults.used_bytes() + random.randint(500, 6000))
        while disk.is_writable:
            runs = [(client, [random_command(random, "") for _ in range(3)]) for client in clients]
            replies = together(*runs)
            is_undone = any(codes(one)[0] == b"MISCONF" for one in replies)
            refused += is_undone
            for (_, commands), answers in zip(runs, replies):
                assert all((code == b"MISCONF") == is_undone for code in codes(answers)), "all or none"
                if not is_undone:
                    for command, answer in zip(commands, answers):
                        expected = model.apply(command)
                        assert same_reply(expected, answer), (command, answer, expected)
        assert not difference(model, local)
        disk.recover()
        assert not difference(model, local)
        check_server(local.server)
    assert refused == 6
    local.reload()
    assert not difference(model, local)


def test_a_log_write_that_goes_in_by_half(disk: Disk) -> None:
    local = disk.local
    local("SET", "x", "old")
    disk.faults.plan = inject_when(is_log, torn_write(20, errno.ENOSPC))
    assert local("SET", "x", "new").code == b"MISCONF"
    assert local("GET", "x") == b"old"
    clone = disk.memory.process_crash_clone()
    disk.recover()
    local("SET", "y", 1)
    assert local.pipeline(("GET", "x"), ("GET", "y")) == [b"old", b"1"]
    again = Servers().make(fs=clone)
    assert again.pipeline(("GET", "x"), ("GET", "y")) == [b"old", None]
    again.server.close()


def test_closing_while_the_disk_is_full(disk: Disk) -> None:
    local = disk.local
    local.pipeline(("SET", "x", 1), ("RPUSH", "l", "a"))
    disk.fill()
    run_commands(local.client, [[b"SET", b"x", b"2"]])
    local.server.end_tick()
    assert parse_all(local.wire.data[-200:])[-1].code == b"MISCONF"
    local.server.close()
    again = Servers().make(fs=disk.memory)
    assert again("GET", "x") == b"1"
    check_server(again.server)
    again.server.close()

"""Each file operation of a server's history fails once, in every way it can.

What must hold: each command is answered as if nothing had been, or with an error and has not happened; after
a moment everything goes on by itself; and closed or killed, the database is found as it was.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest

from harness.fault_filesystem import (
    Fault,
    FaultFileSystem,
    Operation,
    fail,
    fail_after,
    failed_sync,
    inject_nth,
    no_faults,
    short_write,
    torn_write,
)
from harness.keymodel import KeyModel
from harness.local import LocalClient, Servers, check_server
from harness.localcontents import difference
from harness.memory_filesystem import MemoryFileSystem
from lamina.engine import EngineError
from lamina.server.errors import CommandError

SAMPLED_EVERY = 9

FAULTS: dict[str, Callable[[Operation], Fault | None]] = {
    "EIO": lambda operation: failed_sync() if operation.kind == "sync" else fail(errno.EIO),
    "ENOSPC": lambda operation: None if operation.kind in ("read", "open_read") else fail(errno.ENOSPC),
    "done and EIO": lambda operation: None if operation.kind == "lock" else fail_after(errno.EIO),
    "torn": lambda operation: torn_write(operation.size_bytes * 2 // 3, errno.ENOSPC),
    "short": lambda operation: short_write(operation.size_bytes // 2),
}
WRITES_ONLY = ("torn", "short")

Unit = Sequence[tuple[Any, ...]]
"""One command, or a transaction."""


def history() -> Iterator[Unit | str]:
    """Yield what is done, in order: units, and "reload" or "pass time"."""
    for i in range(3):
        yield [("SET", f"s{i}", "text" * 10)]
        yield [("RPUSH", "l", *(f"{i}-{j}" for j in range(12)))]
        yield [("SADD", "t", *range(i, i + 5))]
    yield [
        ("MULTI",),
        ("DECRBY", "a", 7),
        ("INCRBY", "b", 7),
        ("LMOVE", "l", "m", "LEFT", "RIGHT"),
        ("EXEC",),
    ]
    yield [("HSET", "h", "f", 1, "g", 2)]
    yield [("ZADD", "z", 1, "one", 2, "two")]
    yield "save"
    yield [("PEXPIREAT", "s1", 4_000_000_000_000)]
    yield [("RPOP", "l")]
    yield [("SREM", "t", 1, 2)]
    yield "reload"
    yield [("LSET", "l", 5, "changed")]
    yield [("MULTI",), ("RENAME", "h", "i"), ("DEL", "z"), ("APPEND", "s2", "more"), ("EXEC",)]
    yield [("ZADD", "z", *(word for i in range(40) for word in (i, f"m{i}")))]
    yield "pass time"
    yield [("DEL", "l", "s0")]
    yield [("INCR", "n")]
    yield "reload"
    yield [("SADD", "t", "last")]
    yield "save"
    yield [("HDEL", "i", "f")]


class Run:
    """A history that is told to a server."""

    def __init__(self, fs: FaultFileSystem, appendfsync: str) -> None:
        self.fs = fs
        self.model = KeyModel()
        self.errors: list[CommandError] = []
        self.local: LocalClient = Servers().make(fs=fs, appendfsync=appendfsync)

    def tell(self) -> None:
        for step in history():
            if isinstance(step, str):
                self._do(step)
            else:
                self._run(step)
            if self.local.server.write_error is not None:
                self.local.wait_out(1100)

    def _do(self, step: str) -> None:
        if step == "save":
            self._note(self.local("SAVE"))
        elif step == "pass time":
            self.local.wait_out(1500)
        else:
            try:
                self.local.reload()
            except (OSError, EngineError, CommandError) as error:
                self.errors.append(CommandError(str(error).encode()))

    def _note(self, reply: Any) -> bool:
        if isinstance(reply, CommandError) and reply.code in (b"MISCONF", b"EXECABORT", b"ERR"):
            self.errors.append(reply)
            return True
        return False

    def _run(self, unit: Unit) -> None:
        replies = self.local.pipeline(*unit)
        if not replies:  # the connection was ended: nobody knows
            assert self.local.wire.is_closed
            self.errors.append(CommandError(b"no reply"))
            self.local = LocalClient(self.local.server)
            without = self.model.copy()
            self.model.apply_unit(unit)
            self._settle([without, self.model])
            return
        if not self._note(replies[-1]):
            expected = self.model.apply_unit(unit)
            assert _plain(replies[-1]) == expected, (unit, replies, expected)

    def _settle(self, possible: list[KeyModel]) -> None:
        """Take it that what the server says now is so."""
        self.fs.plan = no_faults
        self.local.wait_out(1100)
        differences = [difference(model, self.local) for model in possible]
        assert "" in differences, differences
        self.model = possible[differences.index("")]


def _plain(reply: Any) -> Any:
    """Return a reply as the model gives it."""
    if isinstance(reply, list):
        return [_plain(one) for one in reply]
    if isinstance(reply, CommandError):
        return reply.code.decode()
    return "OK" if reply == b"OK" else reply


def operations_of(appendfsync: str) -> list[Operation]:
    """Return the operations of the history without faults, those of the first opening left out."""
    fs = FaultFileSystem(MemoryFileSystem())
    run = Run(fs, appendfsync)
    opened = len(fs.log)
    with closing(run.local.server):
        run.tell()
        assert run.errors == []
        assert not difference(run.model, run.local)
    return fs.log[opened:]


def check_fault(operation: Operation, fault: Fault, appendfsync: str) -> None:
    """Tell the history while one operation fails, and look at what that leaves."""
    memory = MemoryFileSystem()
    fs = FaultFileSystem(memory, inject_nth(operation.index, fault))
    run = Run(fs, appendfsync)
    with closing(run.local.server):
        run.tell()
        fs.plan = no_faults
        run.local.wait_out(1100)
        assert run.local.server.write_error is None
        assert not difference(run.model, run.local)
        assert run.local("SET", "end", 1) == b"OK"
        run.model.apply(("SET", "end", 1))
        run.local.server.databases.store.db.resume()  # tries again at once what the background must
        check_server(run.local.server)
        killed = memory.process_crash_clone()
        run.local.reload()
        assert not difference(run.model, run.local)
    for left in (killed, memory):
        again = Servers().make(fs=left)
        with closing(again.server):
            assert not difference(run.model, again)
            check_server(again.server)


def check_faults(name: str, appendfsync: str, every: int) -> None:
    operations = operations_of(appendfsync)
    if name in WRITES_ONLY:
        operations = [operation for operation in operations if operation.kind == "write"]
    for operation in operations[len(name) % every :: every]:
        fault = FAULTS[name](operation)
        if fault is None:
            continue
        try:
            check_fault(operation, fault, appendfsync)
        except BaseException as error:
            error.add_note(f"{name} at {operation}")
            raise


@pytest.mark.parametrize("appendfsync", ["always", "no"])
@pytest.mark.parametrize("name", FAULTS)
def test_one_fault(name: str, appendfsync: str) -> None:
    check_faults(name, appendfsync, SAMPLED_EVERY)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("appendfsync", ["always", "no"])
@pytest.mark.parametrize("name", FAULTS)
def test_one_fault_everywhere(name: str, appendfsync: str) -> None:
    check_faults(name, appendfsync, 1)

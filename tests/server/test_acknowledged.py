"""A random history of a server: commands, time, reopening, kills and full disks, against a model of what was
acknowledged."""

from __future__ import annotations

import errno
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from harness.fault_filesystem import FaultFileSystem, fail_when, no_faults
from harness.keymodel import KeyModel
from harness.local import LocalClient, Servers, check_server
from harness.localcontents import difference
from harness.memory_filesystem import MemoryFileSystem
from lamina.server.dispatch import run_commands
from lamina.server.errors import CommandError

STRING_KEYS = st.sampled_from(["s", "s2"])
ANY_KEYS = st.sampled_from(["s", "s2", "l", "t", "z"])
ELEMENTS = st.sampled_from(["a", "b", "c", "longer" * 8])
SCORES = st.integers(0, 5)
SOON_MS = 1000

COMMANDS = st.one_of(
    st.tuples(st.just("SET"), STRING_KEYS, ELEMENTS),
    st.tuples(st.just("APPEND"), STRING_KEYS, ELEMENTS),
    st.tuples(st.just("INCR"), st.just("n")),
    st.tuples(st.sampled_from(["LPUSH", "RPUSH"]), st.just("l"), ELEMENTS, ELEMENTS),
    st.tuples(st.sampled_from(["LPOP", "RPOP"]), st.just("l")),
    st.tuples(st.sampled_from(["SADD", "SREM"]), st.just("t"), ELEMENTS, ELEMENTS),
    st.tuples(st.just("ZADD"), st.just("z"), SCORES, ELEMENTS),
    st.tuples(st.just("ZREM"), st.just("z"), ELEMENTS),
    st.tuples(st.just("DEL"), ANY_KEYS, ANY_KEYS),
    st.tuples(st.just("RENAME"), STRING_KEYS, STRING_KEYS),
    st.tuples(st.just("PERSIST"), ANY_KEYS),
    st.tuples(st.just("PEXPIREAT"), ANY_KEYS, st.integers(-1, 3)),  # seconds from now
)


class Acknowledged(RuleBasedStateMachine):
    """One server and two clients."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = MemoryFileSystem()
        self.model = KeyModel()
        self.now_ms = 0
        self.local: LocalClient
        self.other: LocalClient
        self.faults: FaultFileSystem
        self.waiting: LocalClient | None = None
        """A client that waits for an element of the list "w"."""

    @initialize()
    def start(self) -> None:
        self.faults = FaultFileSystem(self.disk)
        self.local = Servers().make(fs=self.faults)
        self.local.wait_out(self.now_ms)
        self.model.expire(self.local.clock.now_ms)
        self.other = self.local.connect()
        self.waiting = None

    @property
    def is_full(self) -> bool:
        return self.faults.plan is not no_faults

    def _absolute(self, command: tuple[Any, ...]) -> tuple[Any, ...]:
        if command[0] != "PEXPIREAT":
            return command
        return ("PEXPIREAT", command[1], self.local.clock.now_ms + command[2] * SOON_MS)

    def _apply(self, command: tuple[Any, ...], reply: Any) -> None:
        if isinstance(reply, CommandError):
            assert self.model.apply(command) == reply.code.decode()
        else:
            expected = self.model.apply(command)
            assert reply == (b"OK" if expected == "OK" else expected), command

    # -- what clients do -------------------------------------------------------------------------------

    @rule(mine=st.lists(COMMANDS, max_size=4), theirs=st.lists(COMMANDS, max_size=3))
    def write(self, mine: list[tuple[Any, ...]], theirs: list[tuple[Any, ...]]) -> None:
        """Two clients write in one turn."""
        mine, theirs = list(map(self._absolute, mine)), list(map(self._absolute, theirs))
        for client, commands in ((self.local, mine), (self.other, theirs)):
            client.pushed()
            run_commands(client.client, [[str(word).encode() for word in command] for command in commands])
        self.local.turn()
        replies = self.local.pushed() + self.other.pushed()
        assert len(replies) == len(mine) + len(theirs)
        refused = [isinstance(reply, CommandError) and reply.code == b"MISCONF" for reply in replies]
        if any(refused):
            assert all(refused)
            assert self.is_full
            return
        for command, reply in zip(mine + theirs, replies):
            self._apply(command, reply)

    @rule(commands=st.lists(COMMANDS, min_size=1, max_size=4))
    def transact(self, commands: list[tuple[Any, ...]]) -> None:
        commands = list(map(self._absolute, commands))
        *_, reply = self.local.pipeline(("MULTI",), *commands, ("EXEC",))
        if isinstance(reply, CommandError):
            assert self.is_full
            assert reply.code in (b"MISCONF", b"EXECABORT")
            return
        for command, one in zip(commands, reply, strict=True):
            self._apply(command, one)

    @precondition(lambda self: self.waiting is None and not self.is_full)
    @rule()
    def wait(self) -> None:
        client = self.local.connect()
        client.run(("BLPOP", "w", 0))
        replies = client.pushed()
        if not replies:
            assert b"w" not in self.model.keys
            self.waiting = client
        else:
            assert replies == [[b"w", self.model.apply(("LPOP", "w"))]]

    @rule(element=ELEMENTS)
    def serve(self, element: str) -> None:
        reply = self.other("RPUSH", "w", element)
        if isinstance(reply, CommandError):
            assert self.is_full
            assert reply.code == b"MISCONF"
            if self.waiting is not None and self.waiting.client.wait is None:
                [told] = self.waiting.pushed()
                assert told == reply
                self.waiting = None
        elif self.waiting is not None:
            assert reply == 1
            assert self.waiting.pushed() == [[b"w", element.encode()]]
            self.waiting = None
        else:
            self._apply(("RPUSH", "w", element), reply)

    # -- what happens to the server --------------------------------------------------------------------

    @rule(elapsed_ms=st.sampled_from([1, SOON_MS, 2 * SOON_MS]))
    def pass_time(self, elapsed_ms: int) -> None:
        self.now_ms += elapsed_ms
        self.local.wait_out(elapsed_ms)
        self.model.expire(self.local.clock.now_ms)

    @precondition(lambda self: not self.is_full)
    @rule()
    def reload(self) -> None:
        self.local.reload()

    @precondition(lambda self: not self.is_full)
    @rule()
    def fill_disk(self) -> None:
        self.faults.plan = fail_when(lambda operation: operation.kind == "write", errno.ENOSPC)

    @precondition(lambda self: self.is_full)
    @rule()
    def make_room(self) -> None:
        self.faults.plan = no_faults
        self.pass_time(SOON_MS)
        self.pass_time(1)
        assert self.local.server.write_error is None

    @rule()
    def kill(self) -> None:
        self.disk = self.disk.process_crash_clone()
        self._end()
        self.start()

    def _end(self) -> None:
        self.faults.plan = no_faults
        self.local.server.close()

    # -- what holds ------------------------------------------------------------------------------------

    @invariant()
    def what_was_acknowledged_is_there(self) -> None:
        assert not self.local.server.databases.has_changes
        if self.local.server.write_error is None:
            assert not difference(self.model, self.local)
        else:
            found = {key: self.local("TYPE", key) for key in self.model.keys}
            assert found == {key: kind.encode() for key, (kind, _) in self.model.keys.items()}

    def teardown(self) -> None:
        if not self.is_full:
            check_server(self.local.server)
        self._end()


TestAcknowledged = Acknowledged.TestCase
TestAcknowledged.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)

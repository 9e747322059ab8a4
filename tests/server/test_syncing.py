"""appendfsync: who waits for the disk, who does not, and what a disk that cannot sync leads to.

These run a server's loop, its threads and its periodic work, with transports that only keep what is written.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from harness.databases import TINY
from harness.fault_filesystem import (
    Fault,
    FaultFileSystem,
    Operation,
    Plan,
    failed_sync,
    inject_nth,
    inject_when,
    no_faults,
    pause,
)
from harness.local import LocalClient, Servers, check_server, parse_all
from harness.memory_filesystem import MemoryFileSystem
from harness.resp import encode
from lamina.server.config import Config
from lamina.server.server import Server

WITHIN_S = 10.0


def is_sync(operation: Operation) -> bool:
    return operation.kind == "sync"


class Looped:
    """A server in a running loop."""

    def __init__(self, appendfsync: str, *, plan: Plan = no_faults) -> None:
        self.memory = MemoryFileSystem()
        self.faults = FaultFileSystem(self.memory)
        config = Config()
        config.load_arguments(["--appendfsync", appendfsync, "--hz", "50"])
        options = TINY | {"fs": self.faults, "memtable_size_bytes": 1 << 18}
        self.server = Server(config, engine_options=options)
        self.server.loop = asyncio.get_running_loop()
        self.server.cron.start()
        self.faults.plan = plan

    def connect(self) -> LocalClient:
        return LocalClient(self.server)

    def send(self, client: LocalClient, *commands: tuple[Any, ...]) -> None:
        """Let commands arrive from a client."""
        connection = client.client.connection
        assert connection is not None
        connection.data_received(b"".join(map(encode, commands)))

    async def call(self, client: LocalClient, *commands: tuple[Any, ...]) -> list[Any]:
        """Let commands arrive, and return their replies when they are there."""
        client.wire.data = b""
        self.send(client, *commands)
        await until(lambda: len(parse_all(client.wire.data)) >= len(commands), "replies")
        return client.pushed()

    @property
    def syncs(self) -> int:
        return self.server.databases.store.db.stats().wal_syncs

    def close(self) -> None:
        self.faults.plan = no_faults
        self.server.loop = None
        self.server.close()


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline_s, what
        await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def looped(appendfsync: str, *, plan: Plan = no_faults) -> AsyncIterator[Looped]:
    """Run a server, and check it and what it has left when it ends."""
    one = Looped(appendfsync, plan=plan)
    try:
        yield one
        one.server.cron.stop()
        one.server.loop = None
        if one.server.write_error is None:
            check_server(one.server)
    finally:
        one.close()


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def is_silent(client: LocalClient) -> bool:
    return not client.wire.data


# -- always, with a slow disk ----------------------------------------------------------------------------


def test_only_those_who_take_part_wait_for_the_disk() -> None:
    async def test() -> None:
        gate = threading.Event()
        async with looped("always") as one:
            writer, reader = one.connect(), one.connect()
            assert await one.call(writer, ("SET", "x", 1)) == [b"OK"]
            one.faults.plan = inject_when(is_sync, pause(gate))
            one.send(writer, ("SET", "x", 2), ("GET", "x"))
            await asyncio.sleep(0.02)
            assert await one.call(reader, ("GET", "y"), ("PING",)) == [None, b"PONG"]
            assert is_silent(writer)
            one.send(writer, ("INCR", "x"))
            one.send(writer, ("PING",))
            await asyncio.sleep(0.02)
            assert is_silent(writer), "what follows waits its turn"
            gate.set()
            await until(lambda: len(parse_all(writer.wire.data)) == 4, "replies")
            assert writer.pushed() == [b"OK", b"2", 3, b"PONG"]
            assert await one.call(writer, ("PING",)) == [b"PONG"]

    run(test)


def test_nothing_is_acknowledged_before_it_is_durable() -> None:
    async def test() -> None:
        async with looped("always") as one:
            clients = [one.connect() for _ in range(5)]
            for round_number in range(10):
                for i, client in enumerate(clients):
                    client.wire.data = b""
                    one.send(client, ("SET", f"x{i}", round_number), ("RPUSH", f"l{i}", round_number))
                await until(lambda: any(client.wire.data for client in clients), "a reply")
                acknowledged = [i for i, client in enumerate(clients) if client.wire.data]
                left = one.memory.power_loss_clone(round_number, unsynced_percent=0)
                await until(lambda: all(client.wire.data for client in clients), "replies")
                again = Servers().make(fs=left)
                for i in acknowledged:
                    assert again("GET", f"x{i}") == b"%d" % round_number
                    assert again("LLEN", f"l{i}") == round_number + 1
                again.server.close()

    run(test)


def test_who_takes_part_in_every_turn_is_answered_turn_by_turn() -> None:
    async def test() -> None:
        gates = [threading.Event(), threading.Event()]
        syncs = iter(gates)

        def plan(operation: Operation) -> Fault | None:
            return pause(next(syncs)) if is_sync(operation) else None

        async with looped("always") as one:
            writer = one.connect()
            await one.call(writer, ("SET", "x", 0))
            one.faults.plan = plan
            one.send(writer, ("INCR", "x"))
            await asyncio.sleep(0.02)
            one.send(writer, ("INCR", "x"))
            await asyncio.sleep(0.02)
            assert is_silent(writer)
            gates[0].set()
            await until(lambda: not is_silent(writer), "the first turn's reply")
            assert writer.pushed() == [1], "the second turn's is not durable yet"
            gates[1].set()
            one.faults.plan = no_faults
            await until(lambda: not is_silent(writer), "the second turn's reply")
            assert writer.pushed() == [2]

    run(test)


def test_replies_that_wait_for_the_disk_are_bounded() -> None:
    async def test() -> None:
        gate = threading.Event()
        async with looped("always") as one:
            client = one.connect()
            await one.call(client, ("SET", "big", "x" * 300_000))
            one.faults.plan = inject_when(is_sync, pause(gate))
            for n in range(20):
                one.send(client, ("SET", "n", n), ("GET", "big"))
                await asyncio.sleep(0.002)
            assert client.client.held_bytes < 2_000_000
            assert is_silent(client)
            gate.set()
            await until(lambda: len(parse_all(client.wire.data)) == 40, "replies")
            assert client.pushed() == [b"OK", b"x" * 300_000] * 20
            assert client.client.held_bytes == 0

    run(test)


def test_many_writers_share_few_syncs() -> None:
    async def test() -> None:
        gate = threading.Event()
        async with looped("always") as one:
            first, *others = [one.connect() for _ in range(60)]
            await one.call(first, ("SET", "x", 0))
            one.faults.plan = inject_when(is_sync, pause(gate))
            before = one.syncs
            one.send(first, ("INCR", "x"))
            await asyncio.sleep(0.02)
            for client in others:
                one.send(client, ("INCR", "x"))
                await asyncio.sleep(0)
            await asyncio.sleep(0.02)
            assert all(map(is_silent, others))
            gate.set()
            await until(lambda: not any(map(is_silent, others)), "replies")
            assert sorted(client.pushed()[0] for client in others) == list(range(2, 61))
            assert one.syncs - before <= 2

    run(test)


def test_a_client_that_goes_while_it_is_held() -> None:
    async def test() -> None:
        gate = threading.Event()
        async with looped("always", plan=inject_when(is_sync, pause(gate))) as one:
            gone, leaving, other = one.connect(), one.connect(), one.connect()
            one.send(gone, ("SET", "x", 1))
            one.send(leaving, ("SET", "y", 1), ("QUIT",))
            await asyncio.sleep(0.02)
            connection = gone.client.connection
            assert connection is not None
            connection.connection_lost(None)
            assert not leaving.wire.is_closed
            gate.set()
            await until(lambda: leaving.wire.is_closed, "the connection's end")
            assert leaving.pushed() == [b"OK", b"OK"]
            assert is_silent(gone)
            assert await one.call(other, ("MGET", "x", "y")) == [[b"1", b"1"]]
            assert gone.client.id not in one.server.clients

    run(test)


def test_what_is_published_to_a_held_client_keeps_its_place() -> None:
    async def test() -> None:
        gate = threading.Event()
        async with looped("always") as one:
            held, other = one.connect(), one.connect()
            await one.call(held, ("HELLO", 3))
            await one.call(held, ("SUBSCRIBE", "c"))
            one.faults.plan = inject_when(is_sync, pause(gate))
            one.send(held, ("SET", "x", 1))
            await asyncio.sleep(0.02)
            assert await one.call(other, ("PUBLISH", "c", "m")) == [1]
            assert is_silent(held)
            gate.set()
            await until(lambda: len(parse_all(held.wire.data)) == 2, "both")
            assert held.pushed() == [b"OK", ("push", [b"message", b"c", b"m"])]

    run(test)


def test_the_policy_can_be_changed() -> None:
    async def test() -> None:
        gate = threading.Event()
        async with looped("no", plan=inject_when(is_sync, pause(gate))) as one:
            client = one.connect()
            assert await one.call(client, ("SET", "x", 1)) == [b"OK"]
            assert await one.call(client, ("CONFIG", "SET", "appendfsync", "always")) == [b"OK"]
            one.send(client, ("SET", "x", 2))
            await asyncio.sleep(0.02)
            assert is_silent(client)
            gate.set()
            await until(lambda: not is_silent(client), "a reply")
            assert client.pushed() == [b"OK"]
            assert await one.call(client, ("CONFIG", "SET", "appendfsync", "everysec")) == [b"OK"]
            before = one.syncs
            assert await one.call(client, ("SET", "x", 3)) == [b"OK"]
            await until(lambda: one.syncs > before, "the sync of each second")
            left = Servers().make(fs=one.memory.power_loss_clone(1, unsynced_percent=0))
            assert left("GET", "x") == b"3"
            left.server.close()

    run(test)


def test_a_server_that_ends_sends_what_is_durable() -> None:
    async def test() -> None:
        gate = threading.Event()
        async with looped("always", plan=inject_when(is_sync, pause(gate))) as one:
            client = one.connect()
            one.send(client, ("SET", "x", 1))
            await asyncio.sleep(0.02)
            assert is_silent(client)
            gate.set()
            one.server.end_tick()
            one.server.syncer.finish()
            assert client.pushed() == [b"OK"]

    run(test)


# -- a sync that fails -----------------------------------------------------------------------------------


def durable_value(memory: MemoryFileSystem, key: str, seed: int) -> bytes | None:
    """Return what a key holds after a power loss."""
    again = Servers().make(fs=memory.power_loss_clone(seed))
    value: bytes | None = again("GET", key)
    check_server(again.server)
    again.server.close()
    return value


def test_a_sync_that_fails_acknowledges_nothing_and_is_recovered_from() -> None:
    async def test() -> None:
        async with looped("always") as one:
            writer, reader, other = one.connect(), one.connect(), one.connect()
            assert await one.call(writer, ("SET", "x", 1), ("SET", "kept", 1)) == [b"OK", b"OK"]
            one.faults.plan = inject_nth(0, failed_sync(), kind="sync")
            one.send(writer, ("SET", "x", 2))
            one.send(other, ("GET", "x"))
            await until(lambda: writer.wire.is_closed, "the connection's end")
            assert is_silent(writer)
            assert is_silent(other)
            assert other.wire.is_closed, "it may have read what is lost"
            [reply] = await one.call(reader, ("SET", "y", 1))
            assert reply.code == b"MISCONF"
            assert "fsync failed" in str(reply)
            assert await one.call(reader, ("GET", "kept")) == [b"1"]
            await until(lambda: one.server.write_error is None, "recovery")
            # Whether x is 1 or 2 nobody knows; but what it is now it stays.
            [x] = await one.call(reader, ("GET", "x"))
            assert x in (b"1", b"2")
            assert await one.call(reader, ("SET", "y", 2), ("GET", "kept")) == [b"OK", b"1"]
            for seed in range(8):
                assert durable_value(one.memory, "y", seed) == b"2"
                assert durable_value(one.memory, "x", seed) == x
                assert durable_value(one.memory, "kept", seed) == b"1"

    run(test)


def test_a_sync_that_fails_between_writes_is_noticed() -> None:
    async def test() -> None:
        async with looped("everysec") as one:
            client = one.connect()
            one.faults.plan = inject_nth(0, failed_sync(), kind="sync")
            assert await one.call(client, ("SET", "x", 1)) == [b"OK"]
            await until(lambda: one.server.write_error is not None, "the failure")
            assert await one.call(client, ("GET", "x")) == [b"1"]
            await until(lambda: one.server.write_error is None, "recovery")
            assert await one.call(client, ("SET", "y", 1), ("GET", "x")) == [b"OK", b"1"]
            await until(lambda: durable_value(one.memory, "y", 1) == b"1", "the sync of each second")
            for seed in range(8):
                assert durable_value(one.memory, "x", seed) == b"1", "opening has written it anew"

    run(test)


def test_syncs_that_fail_for_ever_leave_reading() -> None:
    async def test() -> None:
        async with looped("always") as one:
            writer, reader = one.connect(), one.connect()
            await one.call(reader, ("SET", "x", 1), ("RPUSH", "l", "a"))
            one.faults.plan = inject_when(is_sync, failed_sync(errno.EIO))
            one.send(writer, ("SET", "x", 2))
            await until(lambda: writer.wire.is_closed, "the connection's end")
            tried = len(one.faults.injected)
            await until(lambda: len(one.faults.injected) >= tried + 2, "trying again")
            assert one.server.write_error is not None
            [x, elements, refused] = await one.call(
                reader, ("GET", "x"), ("LRANGE", "l", 0, -1), ("SET", "y", 1)
            )
            assert x in (b"1", b"2")
            assert elements == [b"a"]
            assert refused.code == b"MISCONF"
            one.faults.plan = no_faults
            await until(lambda: one.server.write_error is None, "recovery")
            assert await one.call(reader, ("SET", "y", 1), ("GET", "x")) == [b"OK", x]
            assert durable_value(one.memory, "y", 3) == b"1"

    run(test)


@pytest.mark.parametrize("kind", ["replace", "open_append", "list_directory", "open_read"])
def test_a_database_that_cannot_be_opened_again_is_tried_again(kind: str) -> None:
    async def test() -> None:
        async with looped("always") as one:
            writer, reader = one.connect(), one.connect()
            await one.call(reader, ("SET", "x", 1))
            one.faults.plan = lambda operation: (
                failed_sync() if operation.kind == kind or (is_sync(operation) and not reopening) else None
            )
            reopening = False
            one.send(writer, ("SET", "y", 2))
            await until(lambda: writer.wire.is_closed, "the connection's end")
            reopening = True  # syncing works again, something else does not
            await until(lambda: one.server.is_reopening, "opening fails")
            replies = await one.call(reader, ("GET", "x"), ("EXISTS", "unknown"))
            if kind in ("replace", "open_append"):
                assert replies == [b"1", 0], "it is open for reading"
            else:
                assert replies[1].code == b"ERR", "at most what is in memory can be read"
            assert (await one.call(reader, ("SET", "x", 2)))[0].code == b"MISCONF"
            one.faults.plan = no_faults
            await until(lambda: one.server.write_error is None, "recovery")
            assert await one.call(reader, ("INCR", "x")) == [2]
            assert not one.server.is_reopening

    run(test)


def test_closing_when_syncs_fail() -> None:
    async def test() -> None:
        async with looped("no") as one:
            client = one.connect()
            await one.call(client, ("SET", "x", 1))
            one.faults.plan = inject_when(is_sync, failed_sync())
            one.server.loop = None
            with pytest.raises(Exception, match="fsync failed"):
                one.server.close()
            with pytest.raises(Exception, match="closed"):
                one.server.databases.store.db.stats()
            one.server.write_error = "closed"

    run(test)

"""CHECKPOINT: a second database of what is committed, while everybody is served."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import lamina.engine as engine
from harness.fault_filesystem import FaultFileSystem, fail_when
from harness.local import LocalClient, Servers
from harness.memory_filesystem import MemoryFileSystem
from harness.resp import ErrorReply
from harness.servers import TINY_MEMTABLES, LaminaServer, Server, StartServer, start_lamina
from lamina.engine.filesystem import FileSystem
from lamina.server.errors import CommandError

__all__ = ["start_lamina"]

NOT_EMPTY = CommandError(b"ERR The directory of a checkpoint must not exist, or be empty")
ELSEWHERE = CommandError(
    b"ERR A checkpoint must lie below the server's working directory, and not in the database's directory"
)
REFUSED = (
    b'ERR CHECKPOINT command not allowed. If the enable-checkpoint-command option is set to "local", you can '
    b"run it from a local connection, otherwise you need to set this option in the configuration file, and "
    b"then restart the server."
)


def entries(path: str | Path, fs: FileSystem | None = None) -> dict[bytes, bytes]:
    """Return the strings that a database holds."""
    with engine.open(path, read_only=True, fs=fs) as db:
        return {key[5:]: value[1:] for key, value in db.scan() if key[4:5] == b"k"}


def file_system(local: LocalClient) -> FileSystem:
    return local.server.databases.store.db.fs


def test_holds_what_came_before(local: LocalClient) -> None:
    # In one turn: what comes behind it in the pipeline is not in it.
    replies = local.pipeline(("SET", "a", 1), ("CHECKPOINT", "copy"), ("SET", "a", 2), ("SET", "b", 1))
    assert replies == [b"OK", b"OK", b"OK", b"OK"]
    path = os.path.join(local.server.config.dir, "copy")
    assert entries(path, file_system(local)) == {b"a": b"1"}
    assert local("GET", "a") == b"2"
    assert entries(path, file_system(local)) == {b"a": b"1"}


def test_is_a_database_of_its_own(local: LocalClient) -> None:
    for number in range(200):
        local("SET", f"key:{number}", "x" * 50)
    local("CHECKPOINT", "copy")
    local("FLUSHALL")
    path = os.path.join(local.server.config.dir, "copy")
    with engine.open(path, fs=file_system(local), background="inline") as db:
        assert db.count() == 200
        db.put(b"more", b"")
        db.compact()
    assert local("DBSIZE") == 0


@pytest.mark.parametrize("name", ["/elsewhere", "..", "../copy", ".", "lamina", "lamina/copy", "a/../../b"])
def test_lies_below_the_working_directory(local: LocalClient, name: str) -> None:
    assert local("CHECKPOINT", name) == ELSEWHERE


def test_links_lead_nowhere_else(make_local: Servers, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data" / "link").symlink_to(tmp_path / "elsewhere")
    local = make_local.make(dir=tmp_path / "data")
    assert local("CHECKPOINT", "link/copy") == ELSEWHERE
    assert local("CHECKPOINT", "link") == ELSEWHERE


def test_absolute_name(local: LocalClient) -> None:
    local("SET", "a", 1)
    path = os.path.join(local.server.config.dir, "some", "copy")
    assert local("CHECKPOINT", path) == b"OK"
    assert entries(path, file_system(local)) == {b"a": b"1"}


def test_is_refused(local: LocalClient) -> None:
    assert local("CHECKPOINT", "copy") == b"OK"
    assert local("CHECKPOINT", "copy") == NOT_EMPTY
    for name in (b"", b"a\0b"):
        assert local("CHECKPOINT", name) == CommandError(b"ERR That is no name of a directory")
    assert local("CHECKPOINT") == CommandError(b"ERR wrong number of arguments for 'checkpoint' command")
    local("MULTI")
    assert isinstance(local("CHECKPOINT", "other"), CommandError)
    local("DISCARD")


@pytest.mark.parametrize(
    ("setting", "address", "is_allowed"),
    [
        ("no", "127.0.0.1:1", False),
        ("local", "127.0.0.1:1", True),
        ("local", "[::1]:1", True),
        ("local", "10.0.0.1:1", False),
        ("yes", "10.0.0.1:1", True),
        (None, "127.0.0.1:1", True),
        (None, "10.0.0.1:1", False),
    ],
)
def test_who_may(make_local: Servers, setting: str | None, address: str, is_allowed: bool) -> None:
    options = {} if setting is None else {"enable_checkpoint_command": setting}
    local = make_local.make(**options)
    local.client.address = address
    assert local("CHECKPOINT", "copy") == (b"OK" if is_allowed else CommandError(REFUSED))


def test_the_directive_is_fixed(local: LocalClient) -> None:
    assert local("CONFIG", "GET", "enable-checkpoint-command") == [b"enable-checkpoint-command", b"local"]
    assert isinstance(local("CONFIG", "SET", "enable-checkpoint-command", "yes"), CommandError)


def test_a_disk_that_fails(make_local: Servers) -> None:
    memory = MemoryFileSystem()
    faults = FaultFileSystem(memory)
    local = make_local.make(fs=faults)
    local("SET", "a", 1)
    faults.plan = fail_when(lambda operation: "copy" in operation.path, 28)
    reply = local("CHECKPOINT", "copy")
    assert isinstance(reply, CommandError)
    assert reply.message.startswith(b"ERR The checkpoint failed: [Errno 28]")
    faults.plan = lambda operation: None
    assert local("SET", "a", 2) == b"OK"
    assert local("CHECKPOINT", "copy") == b"OK"


def test_is_listed_as_a_command(local: LocalClient) -> None:
    ((name, arity, flags, *keys),) = [info[:6] for info in local("COMMAND", "INFO", "checkpoint")]
    assert (name, arity, keys) == (b"checkpoint", 2, [0, 0, 0])
    assert {b"admin", b"noscript"} <= set(flags)
    assert b"checkpoint" in local("ACL", "CAT", "dangerous")


# --- With sockets


@pytest.fixture
def server(start_lamina: StartServer) -> Server:
    started = start_lamina("--appendfsync", "no", *TINY_MEMTABLES)
    if not isinstance(started, LaminaServer):
        pytest.skip("only Lamina makes checkpoints")
    return started


def test_others_are_served_meanwhile(server: Server) -> None:
    with server.client() as client, server.client() as other:
        for number in range(0, 4000, 100):
            client.call("MSET", *(w for n in range(number, number + 100) for w in (f"key:{n}", "x" * 100)))
        stop = threading.Event()
        longest_s, turns = [0.0], [0]

        def call_on() -> None:
            while not stop.is_set():
                then = time.perf_counter()
                other.call("SET", "turn", turns[0])
                longest_s[0] = max(longest_s[0], time.perf_counter() - then)
                turns[0] += 1

        caller = threading.Thread(target=call_on)
        caller.start()
        counts = []
        try:
            for number in range(5):
                before = turns[0]
                assert client.call("CHECKPOINT", f"copy{number}") == "OK"
                counts.append((before, turns[0]))
        finally:
            stop.set()
            caller.join()
        for number, (before, after) in enumerate(counts):
            held = entries(server.data / f"copy{number}")
            assert len(held) == 4001 if before else len(held) >= 4000
            assert before - 1 <= int(held.get(b"turn", b"-1")) <= after
        # A bound that a machine under load keeps; docs tell what is usual.
        assert longest_s[0] < 1.0


def test_a_client_that_does_not_wait_for_it(server: Server) -> None:
    with server.client() as client:
        client.call("SET", "a", 1)
        assert client.call("CHECKPOINT", "one") == "OK"
        gone = server.client()
        gone.send("CHECKPOINT", "two")
        gone.close()
        deadline_s = time.monotonic() + 10
        reply: Any = None
        while time.monotonic() < deadline_s:
            reply = client.call("CHECKPOINT", "three")
            if reply == "OK":
                break
            assert reply == ErrorReply("ERR A checkpoint is being made already")
        assert reply == "OK"
    assert entries(server.data / "three") == {b"a": b"1"}
    assert server.stop() == 0

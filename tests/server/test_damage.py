"""Damage on the disk, met by commands: who meets it is told, others are served, and nothing is half done."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

import pytest

from harness.fault_filesystem import FaultFileSystem, fail, inject_when, no_faults
from harness.local import LocalClient, Servers, as_bytes, check_server, together
from harness.memory_filesystem import MemoryFileSystem
from lamina.engine import CorruptionError
from lamina.engine.filenames import segment_name
from lamina.server import elements
from lamina.server.client import CAREFUL
from lamina.server.errors import CommandError

COUNT = 120
STRINGS = [f"s{i:03d}" for i in range(COUNT)]
HASHES = [f"h{i:03d}" for i in range(COUNT)]
EXPIRES_IN_MS = 5000

UNREADABLE = inject_when(lambda operation: operation.kind == "read", fail(errno.EIO))


def damaged_disk() -> MemoryFileSystem:
    """Return a disk with strings and small hashes, a few of each in damaged blocks."""
    fs = MemoryFileSystem()
    local = Servers().make(fs=fs)
    for string, hashed in zip(STRINGS, HASHES):
        local("SET", string, "value" * 4)
        local.pipeline(("HSET", hashed, *range(12)), ("PEXPIRE", hashed, EXPIRES_IN_MS))
    db = local.server.databases.store.db
    db.flush()
    db.compact()
    pieces = db.view.levels.slices
    inside_hashes = [piece for piece in pieces if piece.start.startswith(b"\0\0\0\1e")]
    inside_strings = [piece for piece in pieces if piece.start.startswith(b"\0\0\0\1ks")]
    for piece in (inside_hashes[1], inside_hashes[4], inside_strings[1]):
        fs.flip(f"{db.path}/{segment_name(piece.segment.number)}", 40)  # in its first block
    local.server.close()
    return fs


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalClient]:
    """A client of a server with damage. Whatever is asked for lies on disk."""
    monkeypatch.setattr(elements, "LOADED_AT_ONCE", -1)
    monkeypatch.setattr(elements, "LOADED_EVER", -1)
    local = Servers().make(fs=damaged_disk())
    yield local
    local.server.close()


def is_damage(reply: Any) -> bool:
    return isinstance(reply, CommandError) and reply.code == b"ERR" and b"checksum" in reply.message


def parted(local: LocalClient, command: str, keys: list[str]) -> tuple[list[str], list[str]]:
    """Return the keys for which a command succeeds, and those for which it meets damage."""
    replies = {key: local(command, key) for key in keys}
    good = [key for key, reply in replies.items() if not isinstance(reply, CommandError)]
    bad = [key for key, reply in replies.items() if is_damage(reply)]
    assert len(good) + len(bad) == len(keys)
    assert len(good) > len(bad) > 1
    local.server.open_gate(CAREFUL)
    return good, bad


# -- reading ---------------------------------------------------------------------------------------------


def test_who_reads_what_is_damaged_is_told_and_others_are_served(local: LocalClient) -> None:
    good, bad = parted(local, "GET", STRINGS)
    assert "checksum" in str(local.server.engine_error)
    wanted = [*good[:4], bad[0], *good[4:8]]
    replies = local.pipeline(*(("GET", key) for key in wanted), ("SET", "new", 1))
    assert [is_damage(reply) for reply in replies] == [key in bad for key in wanted] + [False]
    assert is_damage(local("MGET", good[0], bad[0]))
    assert local("GET", "new") == b"1"


def test_a_transaction_that_reads_what_is_damaged_goes_on(local: LocalClient) -> None:
    good, bad = parted(local, "GET", STRINGS)
    queued = (("SET", "x", 1), ("GET", bad[0]), ("GET", good[0]), ("INCR", "x"))
    *_, reply = local.pipeline(("MULTI",), *queued, ("EXEC",))
    assert [reply[0], *reply[2:]] == [b"OK", b"value" * 4, 2]
    assert is_damage(reply[1])
    assert local("GET", "x") == b"2"


def test_a_pipeline_of_one_command_fails_only_where_it_must(local: LocalClient) -> None:
    _, bad = parted(local, "GET", STRINGS)
    replies = local.pipeline(*(("GET", key) for key in STRINGS))
    assert [is_damage(reply) for reply in replies] == [key in bad for key in STRINGS]


# -- writing ---------------------------------------------------------------------------------------------


def test_what_a_command_has_begun_is_undone(local: LocalClient) -> None:
    good, bad = parted(local, "HGETALL", HASHES)
    for command in (("DEL", good[0], bad[0], good[1]), ("RENAME", good[0], bad[0]), ("SET", bad[0], 1)):
        assert is_damage(local(*command)), command
        assert local.pipeline(*(("HLEN", key) for key in (good[0], good[1], bad[0]))) == [6, 6, 6]
    *_, reply = local.pipeline(("MULTI",), ("SET", "x", 1), ("DEL", good[1], bad[1]), ("EXEC",))
    assert is_damage(reply)
    assert local.pipeline(("EXISTS", "x", good[1]), ("TTL", good[1])) == [1, 5]
    assert parted(local, "HGETALL", HASHES) == (good, bad)


def test_a_turn_is_undone_once_and_then_writers_are_kept_apart(local: LocalClient) -> None:
    _, bad = parted(local, "HGETALL", HASHES)
    server, other, third = local.server, local.connect(), local.connect()
    replies = together((other, [("SET", "x", 1), ("SELECT", 0)]), (local, [("DEL", bad[0])]))
    assert is_damage(replies[1][0])
    assert replies[0] == [replies[1][0], b"OK"]
    assert other("GET", "x") is None
    for _ in range(3):
        replies = together(
            (other, [("INCR", "x"), ("RPUSH", "l", "a")]),
            (local, [("INCR", "y"), ("DEL", bad[0]), ("INCR", "y")]),
            (third, [("INCR", "z")]),
        )
        assert [is_damage(reply) for reply in replies[1]] == [False, True, False]
        assert not any(map(is_damage, replies[0] + replies[2]))
    assert local.pipeline(("MGET", "x", "y", "z"), ("LLEN", "l")) == [[b"3", b"6", b"3"], 3]
    assert server.gate & CAREFUL
    server.cron.is_expiring = False
    local.wait_out(61_000)
    assert not server.gate & CAREFUL, "it has not been met for a while"


def test_clients_that_want_no_replies_get_none_even_then(local: LocalClient) -> None:
    local.server.close_gate(CAREFUL)
    local.run(("CLIENT", "REPLY", "OFF"), ("SET", "a", 1), ("SET", "b", 1), ("INCR", "a"))
    assert local.pushed() == []
    replies = local.pipeline(("CLIENT", "REPLY", "ON"), ("SET", "c", 1), ("GET", "a"))
    assert replies == [b"OK", b"OK", b"2"]


def test_transactions_stay_whole_even_then(local: LocalClient) -> None:
    _, bad = parted(local, "HGETALL", HASHES)
    local.server.close_gate(CAREFUL)
    commands = [("SET", "x", 1), ("MULTI",), ("INCR", "x"), ("INCR", "y"), ("DEL", bad[0]), ("EXEC",)]
    replies = local.pipeline(*commands)
    assert replies[:5] == [b"OK", b"OK", b"QUEUED", b"QUEUED", b"QUEUED"]
    assert is_damage(replies[5])
    assert local("MGET", "x", "y") == [b"1", None]


def test_a_commit_that_meets_damage_does_not_refuse_writes(
    make_local: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = make_local.make()

    def write(*batches: Any, sync: bool = True) -> None:
        monkeypatch.undo()
        raise CorruptionError("000001.seg", 0, "block checksum", 1, 2)

    monkeypatch.setattr(local.server.databases.store.db, "write", write)
    assert is_damage(local("SET", "x", 1))
    assert local.server.write_error is None
    assert local.pipeline(("EXISTS", "x"), ("SET", "x", 1)) == [0, b"OK"]


# -- expiry ----------------------------------------------------------------------------------------------


def test_expiry_passes_over_what_is_damaged(local: LocalClient) -> None:
    _, bad = parted(local, "HGETALL", HASHES)
    local.clock.advance(EXPIRES_IN_MS)
    for _ in range(len(bad) + 1):
        local.wait_out(1100)
        assert not local.server.databases.has_changes
    assert local.server.cron.run()
    left = [key for keys, _ in list(local.client.keyspace.scan_keys(prefix=b"h")) for key in keys]
    assert left == list(map(as_bytes, bad))
    assert local("SET", "x", 1) == b"OK"


@pytest.mark.parametrize("kind", ["hash", "fields"])
def test_who_reads_what_has_expired_and_cannot_be_removed(
    make_local: Servers, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(elements, "LOADED_AT_ONCE", -1)
    fs = FaultFileSystem(MemoryFileSystem())
    local = make_local.make(fs=fs)
    local("HSET", "h", *range(60))
    if kind == "hash":
        local("PEXPIRE", "h", 500)
    else:
        local("HPEXPIRE", "h", 500, "FIELDS", 3, 0, 2, 58)
    local("SET", "kept", 1)
    local.server.databases.store.db.flush()
    left = 0 if kind == "hash" else 27
    for allowed in range(40):
        local.reload()
        other = local.connect()
        if not allowed:
            local.clock.advance(600)
        reads = 0

        def plan(operation: Any, allowed: int = allowed) -> Any:
            nonlocal reads
            reads += operation.kind == "read"
            return fail(errno.EIO) if operation.kind == "read" and reads > allowed else None

        fs.plan = plan
        replies = together((other, [("SET", f"x{allowed}", 1)]), (local, [("HGET", "h", 0)]))
        fs.plan = no_faults
        is_told = isinstance(replies[1][0], CommandError)
        assert is_told or replies[1][0] is None
        assert other("EXISTS", f"x{allowed}") == int(replies[0][0] == b"OK")
        local.server.databases.is_writable = False  # looking must not remove anything now
        assert len(local("HGETALL", "h")) == 2 * left
        local.server.databases.is_writable = True
        check_server(local.server)
        if not is_told:
            break
    else:
        raise AssertionError("it always fails")
    assert local("HLEN", "h") == left


# -- clients that wait -----------------------------------------------------------------------------------


@pytest.mark.parametrize("allowed", range(6))
@pytest.mark.parametrize("command", ["BLPOP", "BLMOVE"])
def test_a_waiting_client_that_meets_damage(
    make_local: Servers, monkeypatch: pytest.MonkeyPatch, command: str, allowed: int
) -> None:
    fs = FaultFileSystem(MemoryFileSystem())
    local = make_local.make(fs=fs)
    local.pipeline(("RPUSH", "target", *range(50)), ("SET", "kept", 1))
    local.server.databases.store.db.flush()
    local.reload()
    monkeypatch.setattr(elements, "LOADED_AT_ONCE", -1)
    waiting, other = local.connect(), local.connect()
    waiting.run((command, "l", *(("target", "LEFT", "LEFT") if command == "BLMOVE" else ()), 0))
    other.run(("BLPOP", "l", 0))
    assert local("EXISTS", "l") == 0, "what is known of it is in memory now"
    reads = 0

    def plan(operation: Any) -> Any:
        nonlocal reads
        reads += operation.kind == "read"
        return fail(errno.EIO) if operation.kind == "read" and reads > allowed else None

    fs.plan = plan
    reply = local("RPUSH", "l", "a")
    fs.plan = no_faults
    served = waiting.pushed()
    if isinstance(reply, CommandError):
        assert served in ([reply], []), "the push is undone with it"
    else:
        assert reply == 1
        assert served == [b"a" if command == "BLMOVE" else [b"l", b"a"]]
    assert local("EXISTS", "l") == 0
    assert local("RPUSH", "l", "b") == 1
    first = waiting if waiting.client.wait is None and served == [] else other
    assert first.pushed() in ([[b"l", b"b"]], [b"b"])


def test_a_waiting_client_whose_key_cannot_be_looked_at(make_local: Servers) -> None:
    fs = FaultFileSystem(MemoryFileSystem())
    local = make_local.make(fs=fs)
    waiting, other = local.connect(), local.connect()
    waiting.run(("BLPOP", "l", 0), ("ECHO", "after"))
    other.run(("BLPOP", "m", 0))
    local("SET", "l", "not a list")
    local.server.databases.store.db.flush()
    local.reload()
    local.server.databases.offer_all()
    fs.plan = UNREADABLE
    assert local("ECHO", "a") == b"a"
    fs.plan = no_faults
    reply, after = waiting.pushed()
    assert isinstance(reply, CommandError)
    assert b"Input/output error" in reply.message
    assert after == b"after"
    assert local.pipeline(("DEL", "l"), ("RPUSH", "m", "a")) == [1, 1]
    assert other.pushed() == [[b"m", b"a"]]

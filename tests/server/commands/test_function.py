"""FUNCTION and FCALL: functions are data, and are kept and undone as such."""

from __future__ import annotations

import errno
import io
import os

import pytest

from harness.fault_filesystem import FaultFileSystem, Operation, fail_when, no_faults
from harness.local import LocalClient, Servers
from harness.memory_filesystem import MemoryFileSystem
from harness.servers import StartServer, start_lamina
from lamina.engine.filesystem import read_file
from lamina.server.rdb.loading import RdbReader
from lamina.server.rdb.payload import decode_functions, encode_functions
from lamina.server.rdb.values import Function

__all__ = ["start_lamina"]

LIBRARY = "#!lua name=lib\nredis.register_function('f', function(keys, args) return {keys, args} end)"
OTHER = (
    "#!lua name=other\n"
    "redis.register_function('g', function(keys, args) return redis.call('GET', keys[1]) end)"
)


def _is_log(operation: Operation) -> bool:
    return operation.kind == "write" and operation.path.endswith(".wal")


FULL = fail_when(_is_log, errno.ENOSPC)


def names(local: LocalClient) -> list[bytes]:
    return sorted(library[1] for library in local("FUNCTION", "LIST"))


def test_functions_are_called(local: LocalClient) -> None:
    assert local("FUNCTION", "LOAD", LIBRARY) == b"lib"
    assert local("FCALL", "f", 1, "k", "v") == [[b"k"], [b"v"]]
    assert local("FCALL", "g", 0).message == b"ERR Function not found"


def test_libraries_outlive_the_server(local: LocalClient) -> None:
    local("FUNCTION", "LOAD", LIBRARY)
    local("FUNCTION", "LOAD", OTHER)
    local("FUNCTION", "DELETE", "lib")
    local("SET", "k", "v")
    local.reload()
    assert names(local) == [b"other"]
    assert local("FCALL", "g", 1, "k") == b"v"
    local("FLUSHALL")
    assert names(local) == [b"other"]
    local("FUNCTION", "FLUSH")
    local.reload()
    assert names(local) == []


def test_a_turn_that_fails_takes_libraries_back(make_local: Servers) -> None:
    fs = FaultFileSystem(MemoryFileSystem())
    local = make_local.make(fs=fs)
    local("FUNCTION", "LOAD", LIBRARY)
    fs.plan = FULL
    replies = local.pipeline(["FUNCTION", "LOAD", OTHER], ["FUNCTION", "DELETE", "lib"])
    assert {reply.code for reply in replies} == {b"MISCONF"}
    assert names(local) == [b"lib"]
    assert local("FCALL", "f", 0).code == b"MISCONF"  # it may write, for all that is known
    assert local("FUNCTION", "LOAD", OTHER).code == b"MISCONF"
    fs.plan = no_faults
    local.server.try_writing()
    assert local("FUNCTION", "LOAD", OTHER) == b"other"
    local.reload()
    assert names(local) == [b"lib", b"other"]


def test_a_failed_restore_changes_nothing(local: LocalClient) -> None:
    local("FUNCTION", "LOAD", LIBRARY)
    payload = encode_functions([OTHER.encode(), LIBRARY.encode()], compress=True)
    assert local("FUNCTION", "RESTORE", payload).message == b"ERR Library lib already exists"
    assert names(local) == [b"lib"]
    broken = encode_functions([OTHER.encode(), b"#!lua name=x\nx y"], compress=False)
    assert local("FUNCTION", "RESTORE", broken, "FLUSH").message.startswith(b"ERR Error compiling function")
    assert names(local) == [b"lib"]
    clash = encode_functions([LIBRARY.replace("=lib", "=third").encode()], compress=False)
    assert local("FUNCTION", "RESTORE", clash, "REPLACE").message == b"ERR Function f already exists"
    assert local("FUNCTION", "RESTORE", payload, "REPLACE") == b"OK"
    assert names(local) == [b"lib", b"other"]


def test_payloads_come_back() -> None:
    sources = [LIBRARY.encode(), OTHER.encode() * 5]
    for compress in (False, True):
        assert decode_functions(encode_functions(sources, compress=compress)) == sources


def test_a_library_must_load_in_time(local: LocalClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lamina.server.scripting.engine.LOAD_MAX_NS", 20_000_000)
    reply = local("FUNCTION", "LOAD", "#!lua name=slow\nwhile true do end")
    assert reply.message == b"ERR Error registering functions: ERR FUNCTION LOAD timeout"
    assert local("EVAL", "local i = 0 while i < 1e6 do i = i + 1 end return i", 0) == 1000000


def test_a_library_needs_memory(make_local: Servers) -> None:
    local = make_local.make(script_memory=16 << 20)
    padding = "-- padding\n" * 600_000
    reply = local("FUNCTION", "LOAD", f"#!lua name=large\n{padding}")
    assert reply.message == b"ERR Error registering functions: not enough memory"
    assert local("FUNCTION", "LOAD", LIBRARY) == b"lib"


def test_libraries_outlive_a_kill(start_lamina: StartServer) -> None:
    server = start_lamina("--enable-debug-command", "yes")
    with server.client() as client:
        client.ok("FUNCTION", "LOAD", LIBRARY)
        client.ok("DEBUG", "RELOAD")
        client.ok("FUNCTION", "LOAD", OTHER)
        client.ok("SET", "k", "v")
    server.kill()
    server.start()
    with server.client() as client:
        assert client.ok("FCALL", "f", 1, "k", "x") == [[b"k"], [b"x"]]
        assert client.ok("FCALL", "g", 1, "k") == b"v"


def test_state_of_a_library_is_its_own(local: LocalClient) -> None:
    counting = "local n = 0 redis.register_function('count', function() n = n + 1 return n end)"
    local("FUNCTION", "LOAD", "#!lua name=counter\n" + counting)
    assert [local("FCALL", "count", 0) for _ in range(3)] == [1, 2, 3]
    local("FUNCTION", "LOAD", "REPLACE", "#!lua name=counter\n" + counting)
    assert local("FCALL", "count", 0) == 1


def test_read_only_functions(local: LocalClient) -> None:
    body = "callback=function() return redis.call('SET', 'a', 1) end"
    flags = "flags={'no-writes'}"
    local("FUNCTION", "LOAD", f"#!lua name=a\nredis.register_function{{function_name='w', {body}}}")
    local("FUNCTION", "LOAD", f"#!lua name=b\nredis.register_function{{function_name='r', {body}, {flags}}}")
    assert local("FCALL", "w", 0) == b"OK"
    assert b"Can not execute a script with write flag" in local("FCALL_RO", "w", 0).message
    for name in ("FCALL", "FCALL_RO"):
        assert b"Write commands are not allowed" in local(name, "r", 0).message


def test_libraries_are_in_rdb_files(make_local: Servers) -> None:
    local = make_local.make()
    local("FUNCTION", "LOAD", LIBRARY)
    assert local("SAVE") == b"OK"
    path = os.path.join(local.server.config.dir, local.server.config.dbfilename)
    data = read_file(local.server.databases.store.db.fs, path)
    reader = RdbReader(io.BytesIO(data))
    assert [item.code for item in reader if isinstance(item, Function)] == [LIBRARY.encode()]

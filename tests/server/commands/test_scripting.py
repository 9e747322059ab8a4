"""EVAL and its relatives: what only this server can be asked; the replies are compared in tests/compat."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from harness.fault_filesystem import FaultFileSystem, Operation, fail_when, no_faults
from harness.local import LocalClient, Servers, together
from harness.memory_filesystem import MemoryFileSystem
from lamina.server.errors import CommandError
from lamina.server.scripting import execution


def _is_log(operation: Operation) -> bool:
    return operation.kind == "write" and operation.path.endswith(".wal")


FULL = fail_when(_is_log, errno.ENOSPC)


def sha_of(local: LocalClient, script: str) -> str:
    sha = local("SCRIPT", "LOAD", script)
    assert isinstance(sha, bytes)
    return sha.decode()


def test_scripts_write_and_read(local: LocalClient) -> None:
    assert local("EVAL", "return redis.call('SET', KEYS[1], ARGV[1])", 1, "k", "v") == b"OK"
    assert local("EVAL", "return redis.call('GET', KEYS[1])", 1, "k") == b"v"
    local.reload()
    assert local("GET", "k") == b"v"


def test_a_cached_script_is_compiled_once(local: LocalClient) -> None:
    sha = sha_of(local, "return {KEYS[1], ARGV[1]}")
    assert local("EVALSHA", sha, 1, "a", "b") == [b"a", b"b"]
    assert local("EVALSHA", sha.upper(), 1, "a", "b") == [b"a", b"b"]
    assert local("EVAL", "return {KEYS[1], ARGV[1]}", 1, "a", "b") == [b"a", b"b"]
    assert len(local.server.scripting.scripts) == 1
    local("SCRIPT", "FLUSH")
    assert local("EVALSHA", sha, 0).code == b"NOSCRIPT"


def test_what_a_failing_script_wrote_stays(local: LocalClient) -> None:
    reply = local("EVAL", "redis.call('SET', 'a', 1) redis.call('LPUSH', 'a', 1)", 0)
    assert reply.code == b"WRONGTYPE"
    assert local("GET", "a") == b"1"


def test_a_script_is_in_one_frame_with_its_turn(local: LocalClient) -> None:
    before = local.server.databases.changes
    local.pipeline(["SET", "a", 1], ["EVAL", "for i = 1, 10 do redis.call('SET', i, i) end", 0])
    assert local.server.databases.changes == before + 11


def test_nothing_of_a_turn_that_cannot_be_committed_stays(make_local: Servers) -> None:
    fs = FaultFileSystem(MemoryFileSystem())
    local = make_local.make(fs=fs)
    local("SET", "a", "before")
    fs.plan = FULL
    replies = local.pipeline(["EVAL", "return redis.call('SET', 'a', 'after')", 0], ["GET", "a"])
    assert {reply.code for reply in replies} == {b"MISCONF"}
    assert local("GET", "a") == b"before"
    assert local("EVAL", "return redis.call('GET', 'a')", 0) == b"before"
    assert local("EVAL", "return redis.call('SET', 'a', 1)", 0).code == b"MISCONF"
    assert local("EVAL", "#!lua\nreturn 1", 0).code == b"MISCONF"
    assert local("EVAL", "#!lua flags=no-writes\nreturn 1", 0) == 1
    fs.plan = no_faults
    local.server.try_writing()
    assert local("EVAL", "return redis.call('SET', 'a', 'after')", 0) == b"OK"


def test_select_and_setresp_last_as_long_as_the_script(local: LocalClient) -> None:
    local("EVAL", "redis.setresp(3) redis.call('SELECT', 5) redis.call('SET', 'a', 1)", 0)
    assert local("GET", "a") is None
    assert local.client.resp == 2
    local("HSET", "h", "f", "v")
    assert local("EVAL", "return redis.call('HGETALL', 'h')", 0) == [b"f", b"v"]
    assert local("EVAL", "redis.call('SELECT', 5) error('x')", 0).code == b"ERR"
    assert local("GET", "a") is None


def test_nothing_waits_in_a_script(local: LocalClient) -> None:
    assert local("EVAL", "return redis.call('BLPOP', 'none', 0)", 0) is None
    assert local.client.wait is None


def test_a_waiting_client_is_served_after_the_script(local: LocalClient) -> None:
    other = local.connect()
    other.run(["BLPOP", "l", 0])
    together((local, [["EVAL", "redis.call('RPUSH', 'l', 1, 2) return redis.call('LLEN', 'l')", 0]]))
    assert other.pushed() == [[b"l", b"1"]]
    assert local("LRANGE", "l", 0, -1) == [b"2"]


def test_scripts_in_transactions(local: LocalClient) -> None:
    replies = local.pipeline(
        ["MULTI"], ["EVAL", "return redis.call('INCR', 'n')", 0], ["EVAL", "return nope", 0], ["EXEC"]
    )
    assert replies[-1][0] == 1
    assert b"nonexistent global variable 'nope'" in replies[-1][1].message
    local("WATCH", "n")
    local("EVAL", "redis.call('INCR', 'n')", 0)
    assert local.pipeline(["MULTI"], ["GET", "n"], ["EXEC"])[-1] is None


def test_time_stands_still(local: LocalClient) -> None:
    local("SET", "a", 1, "PX", 10)
    assert local("EVAL", "return redis.call('TIME')", 0) == local("TIME")
    assert local("EVAL", "return redis.call('PTTL', 'a')", 0) == 10


def test_limited_users(local: LocalClient) -> None:
    local("ACL", "SETUSER", "limited", "on", "nopass", "~own:*", "+eval", "+get", "+set")
    other = local.connect()
    other("AUTH", "limited", "x")
    assert other("EVAL", "return redis.call('SET', KEYS[1], 1)", 1, "own:a") == b"OK"
    reply = other("EVAL", "return redis.call('SET', 'others', 1)", 0)
    assert reply.code == b"NOPERM"
    assert other("EVAL", "return redis.call('DEL', 'own:a')", 0).code == b"NOPERM"
    assert other("EVAL", "return redis.acl_check_cmd('DEL', 'own:a')", 0) is None
    assert other("EVAL", "return redis.acl_check_cmd('GET', 'own:a')", 0) == 1
    assert local("EXISTS", "others") == 0


def test_errors_are_counted_once(local: LocalClient) -> None:
    local("CONFIG", "RESETSTAT")
    local("EVAL", "return redis.call('LPUSH', 'a')", 0)
    local("SET", "a", 1)
    local("EVAL", "return redis.call('LPUSH', 'a', 1)", 0)
    local("EVAL", "return redis.pcall('LPUSH', 'a', 1).err", 0)
    assert local.server.stats.errors == {b"ERR": 1, b"WRONGTYPE": 2}


def test_monitors_see_scripts_and_what_they_call(local: LocalClient) -> None:
    other = local.connect()
    other("MONITOR")
    local("EVAL", "return redis.call('SET', 'a', 1)", 0)
    other.server.end_tick()
    shown = [line for line in other.pushed() if isinstance(line, bytes)]
    assert shown[0].endswith(b'"EVAL" "return redis.call(\'SET\', \'a\', 1)" "0"')
    assert shown[1].endswith(b'[0 lua] "SET" "a" "1"')


def test_scripts_that_only_eval_brought_make_way(make_local: Servers) -> None:
    local = make_local.make(script_memory=16 << 20)
    kept = sha_of(local, "return 'kept'")
    padding = "local a = redis.call('GET', KEYS[1]) " * 200
    for number in range(400):
        local("EVAL", f"{padding} return {number}", 0)
    assert len(local.server.scripting.scripts) < 400
    assert local("EVALSHA", kept, 0) == b"kept"


def test_an_error_of_ours_in_a_command_undoes_the_turn(
    local: LocalClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> Any:
        raise RuntimeError("a fault of the server")

    local("SET", "a", "before")
    monkeypatch.setattr("lamina.server.types.lists.push", fail, raising=True)
    reply = local("EVAL", "redis.call('SET', 'a', 'after') return redis.pcall('RPUSH', 'l', 1).err", 0)
    assert reply.message.startswith(b"ERR internal error")
    assert local("GET", "a") == b"before"


def test_there_is_nothing_to_kill(local: LocalClient) -> None:
    assert local("SCRIPT", "KILL") == execution.NOT_BUSY
    assert local("FUNCTION", "KILL") == execution.NOT_BUSY
    assert isinstance(local("SCRIPT", "DEBUG", "YES"), CommandError)
    assert local("SCRIPT", "DEBUG", "NO") == b"OK"


def test_info_counts(local: LocalClient) -> None:
    local("EVAL", "return 1", 0)
    info = local("INFO", "memory")
    assert b"number_of_cached_scripts:1\r\n" in info
    assert b"number_of_functions:0\r\n" in info
    assert b"used_memory_scripts_eval:8\r\n" in info
    library = "#!lua name=l\nredis.register_function('f', function() end)"
    local("FUNCTION", "LOAD", library)
    info = local("INFO", "memory")
    assert b"number_of_functions:1\r\nnumber_of_libraries:1\r\n" in info
    assert b"used_memory_functions:%d\r\n" % len(library) in info
    assert b"used_memory_scripts:%d\r\n" % (len(library) + 8) in info

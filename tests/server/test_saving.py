"""SAVE and BGSAVE: the file holds what there was, and nothing else is left behind, whatever happens."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

import lamina.engine as engine
from harness.fault_filesystem import FaultFileSystem, Operation, fail, fail_when, no_faults
from harness.local import LocalClient, Servers
from harness.memory_filesystem import MemoryFileSystem
from harness.rdbfiles import items_of
from harness.servers import Server, StartServer, start_lamina
from lamina.engine.filesystem import read_file
from lamina.server import saving
from lamina.server.databases import Databases
from lamina.server.rdb.rules import SavingRules
from lamina.server.rdb.values import Aux, DatabaseSize, Key
from lamina.server.rdbsaving import FileRules

__all__ = ["start_lamina"]

FILL = [
    ("SET", "string", "hello"),
    ("SET", "expiring", "x", "PX", 100_000),
    ("SETRANGE", "big", 100_000, "end"),
    ("RPUSH", "list", *range(3000)),
    ("SADD", "set", *range(1000), "a"),
    ("ZADD", "zset", *[word for i in range(1000) for word in (i / 8, f"m{i}")]),
    ("HSET", "hash", *[word for i in range(1000) for word in (f"f{i}", i)]),
]


def dump_path(local: LocalClient) -> str:
    return os.path.join(local.server.config.dir, local.server.config.dbfilename)


def file_of(local: LocalClient) -> bytes:
    return read_file(local.server.databases.store.db.fs, dump_path(local))


def keys_in(data: bytes) -> dict[tuple[int, bytes], tuple[Any, int]]:
    return {
        (item.database, item.key): (item.value, item.expires_ms)
        for item in items_of(data)
        if isinstance(item, Key)
    }


def fill(local: LocalClient) -> None:
    for command in FILL:
        local(*command)


@pytest.mark.parametrize("command", ["SAVE", "BGSAVE"])
def test_a_file_holds_all_databases(local: LocalClient, command: str) -> None:
    fill(local)
    local("SELECT", 7)
    local("SET", "k", "in seven")
    local("SELECT", 3)
    local("SET", "k", "in three")
    local("SWAPDB", 3, 9)
    now_ms = local.clock.now_ms
    local(command)
    found = items_of(file_of(local))
    sizes = [item for item in found if isinstance(item, DatabaseSize)]
    assert sizes == [DatabaseSize(0, 7, 1), DatabaseSize(7, 1, 0), DatabaseSize(9, 1, 0)]
    assert {item.name for item in found if isinstance(item, Aux)} >= {b"redis-ver", b"ctime", b"lamina-ver"}
    keys = keys_in(file_of(local))
    assert keys.pop((7, b"k")) == (b"in seven", 0)
    assert keys.pop((9, b"k")) == (b"in three", 0)
    assert keys[0, b"expiring"] == (b"x", now_ms + 100_000)
    assert keys[0, b"list"][0] == ("list", [b"%d" % i for i in range(3000)])
    assert keys[0, b"zset"][0] == ("zset", {b"m%d" % i: i / 8 for i in range(1000)})
    assert len(keys) == 7
    assert local.server.saver.changes_since_save == 0


def test_an_empty_database(local: LocalClient) -> None:
    assert local("SAVE") == b"OK"
    assert keys_in(file_of(local)) == {}


def test_the_version_is_the_oldest_that_will_do(local: LocalClient) -> None:
    local("HSET", "h", "f", 1, "g", 2)
    local("SAVE")
    assert file_of(local).startswith(b"REDIS0010")
    local("HPEXPIRE", "h", 1000, "FIELDS", 1, "f")
    local("SAVE")
    assert file_of(local).startswith(b"REDIS0012")
    value, _ = keys_in(file_of(local))[0, b"h"]
    assert value == ("timed hash", {b"f": (b"1", local.clock.now_ms + 1000), b"g": (b"2", 0)})


def test_parameters_of_the_file(make_local: Servers) -> None:
    sizes = {}
    for compress in ("yes", "no"):
        local = make_local.make(rdbcompression=compress, rdbchecksum=compress, dbfilename="other.rdb")
        local("SET", "k", "x" * 1000)
        local("SAVE")
        data = file_of(local)
        assert keys_in(data)[0, b"k"] == (b"x" * 1000, 0)
        assert (data[-8:] == bytes(8)) is (compress == "no")
        sizes[compress] = len(data)
    assert sizes["no"] > 1000 > sizes["yes"]


@pytest.mark.parametrize("is_incremental", ["yes", "no"])
def test_syncs_on_the_way(make_local: Servers, is_incremental: str) -> None:
    syncs: list[str] = []

    def note(operation: Operation) -> None:
        if operation.kind == "sync" and operation.path.endswith(".rdb"):
            syncs.append(operation.path)

    fs = FaultFileSystem(MemoryFileSystem())
    local = make_local.make(fs=fs, rdb_save_incremental_fsync=is_incremental, rdbcompression="no")
    for i in range(9):
        local("SET", f"k{i}", os.urandom(1 << 20))
    fs.plan = note
    assert local("SAVE") == b"OK"
    assert len(syncs) == (3 if is_incremental == "yes" else 1)


# -- failures ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["create", "write", "sync", "replace", "sync_directory", "make_directory"])
def test_a_save_that_fails_leaves_the_old_file(make_local: Servers, kind: str) -> None:
    fs = FaultFileSystem(MemoryFileSystem())
    local = make_local.make(fs=fs)
    local("SET", "k", "old")
    assert local("SAVE") == b"OK"
    before = file_of(local)
    local("SET", "k", "new")

    def is_of_the_file(operation: Operation) -> bool:
        return operation.kind == kind and (".bgsave" in operation.path or operation.path == os.getcwd())

    fs.plan = fail_when(is_of_the_file, errno.ENOSPC)
    reply = local("SAVE")
    fs.plan = no_faults
    assert reply.code == b"ERR"
    if kind != "sync_directory":  # else it is there, but may not be after a loss of power
        assert file_of(local) == before
    assert not fs.exists(f"{local.server.path}.bgsave")
    assert "rdb_last_bgsave_status:err" in local("INFO", "persistence").decode()
    assert local("SET", "k", "newer") == b"OK"  # writes go on: they are logged
    assert local("SAVE") == b"OK"
    assert keys_in(file_of(local))[0, b"k"] == (b"newer", 0)


@pytest.mark.parametrize("seed", range(8))
def test_power_is_lost_amid_a_save(make_local: Servers, seed: int) -> None:
    memory = MemoryFileSystem()
    local = make_local.make(fs=memory)
    local("SET", "k", "old")
    local("SAVE")
    local("SET", "k", "new")
    local("SAVE")
    clone = memory.power_loss_clone(seed)
    assert keys_in(read_file(clone, dump_path(local)))[0, b"k"] == (b"new", 0)
    again = make_local.make(fs=clone)
    assert not clone.exists(f"{again.server.path}.bgsave")


def test_what_was_left_is_swept_at_the_start(make_local: Servers) -> None:
    fs = MemoryFileSystem()
    local = make_local.make(fs=fs)
    directory = f"{local.server.path}.bgsave"
    fs.make_directory(f"{directory}/database")
    fs.put_file(f"{directory}/database/000001.seg", b"x")
    fs.put_file(f"{directory}/dump.rdb", b"REDIS0010")
    assert local("SAVE") == b"OK"
    assert not fs.exists(directory)
    fs.make_directory(f"{directory}/database")
    fs.put_file(f"{directory}/dump.rdb", b"REDIS0010")
    make_local.make(fs=fs, dbdirname="other")
    assert fs.exists(directory)  # another database's
    saving.Saver(local.server)
    assert not fs.exists(directory)


# -- by itself ---------------------------------------------------------------------------------------


def test_nothing_is_saved_unasked(local: LocalClient) -> None:
    assert local("CONFIG", "GET", "save") == [b"save", b""]
    local.pipeline(*[("SET", f"k{i}", i) for i in range(200)])
    local.server.saver.last_save_s -= 100_000
    local.server.cron.run()
    assert local.server.saver.save_task.runs == 0


def saving_at(make_local: Servers, points: str, **options: Any) -> LocalClient:
    local = make_local.make(**options)
    assert local("CONFIG", "SET", "save", points) == b"OK"
    return local


def test_save_points(make_local: Servers) -> None:
    local = saving_at(make_local, "60 3")
    saver = local.server.saver
    local("SET", "a", 1)
    saver.last_save_s -= 61
    local.server.cron.run()
    assert saver.save_task.runs == 0  # too few changes
    local.pipeline(("SET", "b", 1), ("SET", "c", 1), ("SET", "d", 1))
    saver.last_save_s = int(time.time())
    local.server.cron.run()
    assert saver.save_task.runs == 0  # too early
    saver.last_save_s -= 61
    local.server.cron.run()
    assert saver.save_task.runs == 1
    assert len(keys_in(file_of(local))) == 4
    saver.last_save_s -= 61
    local.server.cron.run()
    assert saver.save_task.runs == 1  # nothing has changed
    local("CONFIG", "SET", "save", "")
    local.pipeline(*[("SET", f"k{i}", i) for i in range(10)])
    local.server.cron.run()
    assert saver.save_task.runs == 1


def test_a_save_point_rests_after_a_failure(make_local: Servers) -> None:
    fs = FaultFileSystem(MemoryFileSystem())
    local = saving_at(make_local, "1 1", fs=fs)
    saver = local.server.saver
    fs.plan = lambda operation: fail(errno.ENOSPC) if ".bgsave" in operation.path else None
    local("SET", "a", 1)
    saver.last_save_s -= 10
    for _ in range(3):
        local.server.cron.run()
    assert (saver.save_task.runs, saver.save_task.is_ok) == (1, False)
    fs.plan = no_faults
    saver.save_task._started_s -= 6
    local.server.cron.run()
    assert (saver.save_task.runs, saver.save_task.is_ok) == (2, True)


# -- the process -------------------------------------------------------------------------------------


def make_database(path: Path, count: int) -> None:
    db = engine.open(path)
    databases = Databases(db)
    for number in range(count):
        databases.keyspaces[0].put(b"k%d" % number, os.urandom(100))
    databases.commit()
    db.close()


@contextlib.contextmanager
def run_process(order: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run the process; its input is left open."""
    command = [sys.executable, "-m", "lamina.server.rdbprocess"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        try:
            yield process
        finally:
            process.kill()


def said(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.read()


def order_for(tmp_path: Path, **changes: str) -> dict[str, str]:
    order = {
        "database": str(tmp_path / "database"),
        "temporary": str(tmp_path / "temporary"),
        "path": str(tmp_path / "dump.rdb"),
        "rules": FileRules(SavingRules(compress=True), checksum=False).to_json(),
    }
    return order | changes


def test_the_process_writes_a_file(tmp_path: Path) -> None:
    make_database(tmp_path / "database", 500)
    with run_process(order_for(tmp_path)) as process:
        result = json.loads(said(process.stdout))
        assert said(process.stderr) == ""
        assert process.wait(20) == 0
    data = (tmp_path / "dump.rdb").read_bytes()
    assert result == {"keys": 500, "size_bytes": len(data)}
    assert len(keys_in(data)) == 500
    assert sorted(os.listdir(tmp_path)) == ["database", "dump.rdb"]


@pytest.mark.parametrize("changes", [{"database": "/none"}, {"temporary": "/none/x"}, {"path": "/none/x"}])
def test_the_process_says_why_it_fails(tmp_path: Path, changes: dict[str, str]) -> None:
    make_database(tmp_path / "database", 5)
    with run_process(order_for(tmp_path, **changes)) as process:
        assert said(process.stdout) == ""
        assert "none" in said(process.stderr)
        assert process.wait(20) == 1
    assert os.listdir(tmp_path) == ["database"]


def test_the_process_ends_with_its_parent(tmp_path: Path) -> None:
    make_database(tmp_path / "database", 60_000)
    with run_process(order_for(tmp_path)) as process:
        assert process.stdin is not None
        deadline = time.monotonic() + 20
        while not (tmp_path / "temporary").exists():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.002)
        process.stdin.close()  # as the system does when the parent dies
        process.wait(10)
    assert not (tmp_path / "dump.rdb").exists()


# -- whole servers -----------------------------------------------------------------------------------


def fill_server(server: Server, count: int) -> None:
    with server.client() as client:
        for start in range(0, count, 1000):
            client.pipeline([("SET", f"k{i}", f"{i:0100}") for i in range(start, start + 1000)])


def leftovers(server: Server) -> list[str]:
    return sorted(name for name in os.listdir(server.data) if name not in ("lamina", "dump.rdb"))


def wait_until_saved(server: Server) -> None:
    deadline = time.monotonic() + 30
    with server.client() as client:
        while b"rdb_bgsave_in_progress:1" in client.ok("INFO", "persistence"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert b"rdb_last_bgsave_status:ok" in client.ok("INFO", "persistence")


def child_of(pid: int, name: str) -> int:
    """Return the process that `pid` has started whose command line has this name."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for child in Path(f"/proc/{pid}/task").glob("*/children"):
            for number in child.read_text().split():
                with contextlib.suppress(OSError):
                    if name in Path(f"/proc/{number}/cmdline").read_text():
                        return int(number)
        time.sleep(0.002)
    raise AssertionError(f"no {name} runs")


def test_nobody_waits_for_a_background_save(start_lamina: StartServer) -> None:
    server = start_lamina("--rdbcompression", "no")
    fill_server(server, 30_000)
    with server.client() as client:
        assert client.call("BGSAVE") == "Background saving started"
        assert client.call("BGSAVE").text == "ERR Background save already in progress"
        assert client.call("SAVE").text == "ERR Background save already in progress"
        child_of(server.pid, "rdbprocess")
        longest_s = 0.0
        while b"rdb_bgsave_in_progress:1" in client.ok("INFO", "persistence"):
            started = time.monotonic()
            client.ok("SET", "k5", "changed")
            longest_s = max(longest_s, time.monotonic() - started)
        assert longest_s < 0.5  # machines may be slow; it is some ms
    wait_until_saved(server)
    found = keys_in((server.data / "dump.rdb").read_bytes())
    assert len(found) == 30_000
    assert leftovers(server) == []


def test_a_process_that_is_killed(start_lamina: StartServer) -> None:
    server = start_lamina()
    fill_server(server, 30_000)
    with server.client() as client:
        client.call("BGSAVE")
        os.kill(child_of(server.pid, "rdbprocess"), signal.SIGKILL)
        deadline = time.monotonic() + 20
        while b"rdb_bgsave_in_progress:1" in client.ok("INFO", "persistence"):
            assert time.monotonic() < deadline
        assert b"rdb_last_bgsave_status:err" in client.ok("INFO", "persistence")
        assert leftovers(server) == []
        client.call("BGSAVE")
    wait_until_saved(server)
    assert "killed by signal 9" in server.log()
    assert len(keys_in((server.data / "dump.rdb").read_bytes())) == 30_000


@pytest.mark.parametrize("delay_s", [0.0, 0.2, 0.5])
def test_a_server_that_is_killed(start_lamina: StartServer, delay_s: float) -> None:
    server = start_lamina()
    fill_server(server, 30_000)
    with server.client() as client:
        client.call("BGSAVE")
        time.sleep(delay_s)
    server.restart(kill=True)
    assert leftovers(server) == []
    with server.client() as client:
        assert client.ok("DBSIZE") == 30_000
        client.call("BGSAVE")
    wait_until_saved(server)
    assert len(keys_in((server.data / "dump.rdb").read_bytes())) == 30_000


def test_the_end_breaks_off_a_save(start_lamina: StartServer) -> None:
    server = start_lamina()
    fill_server(server, 50_000)
    with server.client() as client:
        client.call("BGSAVE")
        child = child_of(server.pid, "rdbprocess")
        started = time.monotonic()
        client.send("SHUTDOWN")
    assert server.wait() == 0
    assert time.monotonic() - started < 8
    assert not Path(f"/proc/{child}").exists()
    assert leftovers(server) == []
    server.start()
    with server.client() as client:
        client.call("BGSAVE")
        client.send("SHUTDOWN", "SAVE")
    assert server.wait() == 0
    assert leftovers(server) == []
    assert len(keys_in((server.data / "dump.rdb").read_bytes())) == 50_000

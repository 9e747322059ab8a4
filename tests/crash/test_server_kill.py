"""Server processes that are killed, ended, starved of room and robbed of their worker, under load.

The clients of harness/load.py know what was acknowledged; nothing of that may be missing, and nothing may be
there by half. After each life the directory is also opened in this process and held against all invariants.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from harness.load import Load
from harness.local import check_server
from harness.resp import RespClient
from harness.servers import TINY_MEMTABLES, LaminaServer
from lamina.server import server as servers
from lamina.server.config import Config

CLIENTS = 6
POLICIES = ("always", "everysec", "no")


def check_directory(server: LaminaServer) -> None:
    """Open a stopped server's database in this process, and assert that its invariants hold."""
    config = Config()
    config.load_arguments(["--dir", str(server.data)])
    opened = servers.Server(config, engine_options={"background": "inline"})
    try:
        check_server(opened)
    finally:
        opened.close()


def worker_of(server: LaminaServer) -> int | None:
    """Return the process id of the engine's worker, None if there is none."""
    for thread in Path(f"/proc/{server.pid}/task").iterdir():  # a child belongs to the thread that made it
        with contextlib.suppress(OSError):
            for child in (thread / "children").read_text().split():
                if b"lamina.engine" in Path(f"/proc/{child}/cmdline").read_bytes():
                    return int(child)
    return None


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.01)


def kill_again_and_again(directory: Path, policy: str, lives: int, seed: int) -> None:
    random = Random(seed)
    with LaminaServer(directory, "--appendfsync", policy, *TINY_MEMTABLES) as server:
        load = Load(server, clients=CLIENTS, seed=seed)
        for life in range(lives):
            with load:
                load.wait_for(random.randint(50, 800 if policy != "always" else 300))
                time.sleep(random.random() * 0.1)
                server.kill()
            if life % 2:
                check_directory(server)
            server.start()
            load.check()
        server.kill()
    check_directory(server)


@pytest.mark.parametrize("policy", POLICIES)
def test_what_was_acknowledged_survives_kills(tmp_path: Path, policy: str) -> None:
    kill_again_and_again(tmp_path, policy, lives=3, seed=POLICIES.index(policy))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(10, 20))
@pytest.mark.parametrize("policy", POLICIES)
def test_what_was_acknowledged_survives_many_kills(tmp_path: Path, policy: str, seed: int) -> None:
    kill_again_and_again(tmp_path, policy, lives=25, seed=seed)


@pytest.mark.parametrize("policy", ["always", "everysec"])
def test_being_asked_to_end_under_load(tmp_path: Path, policy: str) -> None:
    with LaminaServer(tmp_path, "--appendfsync", policy, *TINY_MEMTABLES) as server:
        load = Load(server, clients=CLIENTS, seed=5)
        with load:
            load.wait_for(300)
            assert server.stop() == 0, server.log()[-2000:]
        check_directory(server)
        server.start()
        load.check()


def test_the_engines_worker_is_killed_under_load(tmp_path: Path) -> None:
    with LaminaServer(tmp_path, "--appendfsync", "no", *TINY_MEMTABLES) as server:
        load = Load(server, clients=CLIENTS, seed=6)
        with load:
            killed: set[int] = set()
            for _ in range(3):
                load.wait_for(200)
                wait_until(lambda: worker_of(server) not in (None, *killed), "a worker is there")
                worker = worker_of(server)
                assert worker is not None
                os.kill(worker, signal.SIGKILL)
                killed.add(worker)
            load.wait_for(500)
        load.check()
        assert load.refused == 0
        assert server.stop() == 0
    check_directory(server)


def limit_files(server: LaminaServer, size_bytes: int) -> None:
    """Let the server write no file beyond a size: the nearest thing to a full disk that needs no root.

    Its worker, too: one that is started meanwhile inherits the limit, and would keep it.
    """
    threads = Path(f"/proc/{server.pid}/task").iterdir()
    children = [pid for thread in threads for pid in (thread / "children").read_text().split()]
    for pid in (server.pid, *map(int, children)):
        with contextlib.suppress(ProcessLookupError):
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size_bytes, hard))


@pytest.mark.parametrize("policy", ["always", "everysec"])
def test_writes_are_refused_for_a_while_under_load(tmp_path: Path, policy: str) -> None:
    with LaminaServer(tmp_path, "--appendfsync", policy, *TINY_MEMTABLES) as server:
        load = Load(server, clients=CLIENTS, seed=7)
        with load:
            load.wait_for(200)
            limit_files(server, 512)
            wait_until(lambda: load.refused > 50, "writes are refused")
            with server.client() as client:
                assert_reads_go_on(client)
            limit_files(server, resource.RLIM_INFINITY)
            load.wait_for(500)  # by itself, within a second or so
        load.check()
        with load:
            load.wait_for(100)
            limit_files(server, 512)
            wait_until(lambda: load.refused > 50, "writes are refused again")
            server.kill()
        server.start()
        load.check()
        server.kill()
    check_directory(server)


def assert_reads_go_on(client: RespClient) -> None:
    assert client.ok("DBSIZE") > 0
    assert client.call("SET", "x", 1).code == "MISCONF"
    assert client.call("GET", "x") is None
    client.ok("MULTI")
    assert client.call("SET", "x", 1).code == "MISCONF"
    assert client.call("EXEC").code == "EXECABORT"

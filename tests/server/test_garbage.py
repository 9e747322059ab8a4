"""What a server lets go of goes at once: there are no cycles that only the garbage collector could find.

So a server that runs has it look at young objects only (listening.py).
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.local import LocalClient, Servers
from harness.servers import StartServer, start_lamina

__all__ = ["start_lamina"]


@pytest.fixture
def cycles() -> Iterator[Callable[[], list[Any]]]:
    """Return objects of ours that are in cycles and were let go of since the test began."""
    gc.collect()
    gc.disable()

    def found() -> list[Any]:
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            gc.collect()
            return [item for item in gc.garbage if type(item).__module__.startswith("lamina.")]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()

    yield found
    gc.enable()


def test_clients_leave_none(local: LocalClient, cycles: Callable[[], list[Any]]) -> None:
    for number in range(20):
        client = local.connect()
        client("SET", "k", number)
        client.run(("SUBSCRIBE", "c") if number % 2 else ("BLPOP", "nowhere", 0))
        local.server.kill_client(client.client)
        client.client.connection = None
        del client
    assert cycles() == []


def test_collections_leave_none(make_local: Servers, cycles: Callable[[], list[Any]]) -> None:
    local = make_local.make(memory="2mb")  # so caches age
    for number in range(40):
        for kind in ("HSET", "ZADD"):
            local(kind, f"{kind}{number}", *(word for n in range(20) for word in (n, n)))
        for kind in ("SADD", "RPUSH"):
            local(kind, f"{kind}{number}", *range(20))
        local("PEXPIRE", f"HSET{number}", 1)
        local("GET", f"SADD{number}")
        local("NOSUCH")
        local("SET", "a")
    local("FLUSHALL")
    assert cycles() == []


def test_transactions_and_errors_leave_none(local: LocalClient, cycles: Callable[[], list[Any]]) -> None:
    for _ in range(20):
        local.pipeline(("WATCH", "k"), ("MULTI",), ("INCR", "k"), ("LPUSH", "k", 1), ("EXEC",), ("EVIL",))
    assert cycles() == []


def test_a_server_looks_at_young_objects_only(start_lamina: StartServer) -> None:
    with start_lamina().client() as client:
        report = client.ok("MEMORY", "MALLOC-STATS").decode()
    oldest = next(line.split() for line in report.splitlines() if line.split()[:1] == ["2"])
    assert int(oldest[1]) < 100  # what was there at the start is looked at no more
    assert int(oldest[2]) == 1 << 30

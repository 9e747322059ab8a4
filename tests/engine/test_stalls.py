"""Writers that are not blocked when flushes fall behind, but told how long to hold back."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import lamina.engine as engine
from harness.databases import OpenDb
from harness.fault_filesystem import (
    FaultFileSystem,
    Operation,
    fail_when,
    inject_when,
    no_faults,
    pause,
)
from harness.memory_filesystem import MemoryFileSystem
from lamina.engine import EngineError, stalls
from lamina.engine.metrics import Counters
from lamina.engine.stalls import OVERRUN, STOPPED, Pacer
from lamina.engine.workers import WorkerDiedError

BUDGET_BYTES = 20_000


class Background:
    """Stands in the place of the background: what matters is its error."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error


def is_new_segment(op: Operation) -> bool:
    return op.kind == "create" and op.path.endswith(".seg.tmp")


def unblocked(open_db: OpenDb, fs: FaultFileSystem) -> engine.Database:
    db = open_db(fs=fs, background="thread", memtable_size_bytes=BUDGET_BYTES, memory=16 << 20)
    db.waits_for_room = False
    return db


def write_until(db: engine.Database, is_enough: Callable[[], bool]) -> int:
    """Write batches until it is enough; returns how many."""
    count = 0
    while not is_enough():
        with db.batch() as batch:
            for n in range(20):
                batch.put(b"%06d" % (20 * count + n), b"v" * 100)
        count += 1
        assert count < 1000
    return count


def wait_for(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline_s, "nothing happened"
        time.sleep(0.005)


def test_writes_return_and_the_delay_says_when_there_is_room(open_db: OpenDb) -> None:
    gate = threading.Event()
    fs = FaultFileSystem(MemoryFileSystem(), inject_when(is_new_segment, pause(gate)))
    db = unblocked(open_db, fs)
    assert db.room_delay_s() == 0
    began_s = time.monotonic()
    count = write_until(db, lambda: db.stats().stall_state == "slowed")
    assert 0 <= db.room_delay_s() <= 0.05
    count += write_until(db, lambda: db.stats().stall_state == "stopped")
    assert 0 < db.room_delay_s() <= 0.05
    db.put(b"one more", b"goes through as well")
    assert time.monotonic() - began_s < 5
    assert db.stats().stalls
    fs.plan = no_faults
    gate.set()
    wait_for(lambda: db.room_delay_s() == 0 and db.stats().stall_state == "none")
    assert db.wait_idle(30)
    assert len(list(db.scan())) == db.count() > 20


def test_who_overruns_everything_waits_all_the_same(open_db: OpenDb) -> None:
    gate = threading.Event()
    fs = FaultFileSystem(MemoryFileSystem(), inject_when(is_new_segment, pause(gate)))
    db = unblocked(open_db, fs)
    write_until(db, lambda: db._stall >= OVERRUN)
    returned = threading.Event()

    def write() -> None:
        db.put(b"last", b"")
        returned.set()

    thread = threading.Thread(target=write)
    thread.start()
    assert not returned.wait(0.2)
    fs.plan = no_faults
    gate.set()
    assert returned.wait(30)
    thread.join()
    assert db[b"last"] == b""


def test_where_no_room_can_be_made_writes_fail_at_once(open_db: OpenDb) -> None:
    fs = FaultFileSystem(MemoryFileSystem(), fail_when(is_new_segment, errno.ENOSPC))
    db = unblocked(open_db, fs)
    with pytest.raises(OSError, match="memtables are full and cannot be flushed") as raised:
        write_until(db, lambda: False)
    assert raised.value.errno == errno.ENOSPC
    count = db.count()
    wait_for(lambda: db._background.error is not None)
    with pytest.raises(OSError, match="memtables are full"):
        db.room_delay_s()
    assert db.count() == count  # what failed has not happened
    fs.plan = no_faults
    db.resume()
    wait_for(lambda: _has_room(db))
    db.put(b"again", b"")
    assert db.count() == count + 1


def _has_room(db: engine.Database) -> bool:
    try:
        return db.room_delay_s() == 0
    except OSError:
        return False


def test_staged_writes_fail_and_are_taken_back(open_db: OpenDb) -> None:
    fs = FaultFileSystem(MemoryFileSystem(), fail_when(is_new_segment, errno.EIO))
    db = unblocked(open_db, fs)
    with pytest.raises(OSError, match="memtables are full"):
        write_until(db, lambda: False)
    count = db.count()
    batch = engine.Batch()
    batch.put(b"staged", b"")
    db.stage(batch)
    assert db.count() == count + 1
    wait_for(lambda: db._background.error is not None)
    with pytest.raises(OSError, match="memtables are full"):
        db.write()
    assert db.count() == count


def test_debts_are_paid_at_the_rate_of_flushes() -> None:
    pacer = Pacer(Counters())
    background: Any = Background()
    assert pacer.delay_s(background, 0.5) == 0
    pacer.owe(1_000_000)
    half = pacer.delay_s(background, 0.5)
    assert half == stalls._PAUSE_MAX_S  # 16 MB/s and a quarter of that: 0.25 s, in pieces
    assert pacer.delay_s(background, 0.5) == 0  # paid
    pacer.owe(8_000)
    assert pacer.delay_s(background, 0.5) == pytest.approx(0.002)
    pacer.owe(1_000)
    assert pacer.delay_s(background, 0.5) == 0  # too little to be worth it
    pacer.owe(3_000)
    assert pacer.delay_s(background, 0.5) == pytest.approx(0.001)
    pacer.owe(1 << 30)
    assert pacer.delay_s(background, 0) == 0  # there is room again
    assert pacer.delay_s(background, 0.5) == 0  # and what was owed is forgotten


def test_a_worker_that_dies_is_waited_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    pacer = Pacer(Counters())
    background: Any = Background(WorkerDiedError("gone"))
    now_s = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    assert pacer.delay_s(background, STOPPED) > 0
    now_s += stalls._PATIENCE_S - 1
    assert pacer.delay_s(background, STOPPED) > 0
    assert pacer.delay_s(background, 0.5) == 0  # it has flushed something
    now_s += 2
    assert pacer.delay_s(background, STOPPED) > 0
    now_s += stalls._PATIENCE_S
    with pytest.raises(EngineError, match="memtables are full and cannot be flushed: gone"):
        pacer.delay_s(background, STOPPED)
    background.error = OSError(errno.ENOSPC, "No space left on device", "/x")
    with pytest.raises(OSError, match=r"cannot be flushed: No space left on device: '/x'"):
        pacer.delay_s(background, STOPPED)

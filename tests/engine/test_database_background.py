"""Work in the background: pausing, limiting, stalling, failing, and going on after all of that."""

from __future__ import annotations

import errno
import gc
import os
import signal
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

import lamina.engine as engine
from harness.databases import OpenDb
from harness.fault_filesystem import (
    Fault,
    FaultFileSystem,
    Operation,
    fail_when,
    first_of,
    inject_when,
    no_faults,
    pause,
)
from harness.memory_filesystem import MemoryFileSystem
from lamina.engine.errors import ClosedError
from lamina.engine.trouble import Trouble

PATIENCE_S = 30.0


def wait_for(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "nothing happened"
        time.sleep(0.005)


def fill(db: engine.Database, count: int, prefix: bytes = b"k", value: bytes = b"value " * 4) -> None:
    for n in range(count):
        db.put(prefix + b"%05d" % n, value)


def is_new_segment(op: Operation) -> bool:
    return op.kind == "create" and op.path.endswith(".seg.tmp")


# -- pausing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("background", ["inline", "thread"])
def test_a_paused_database_flushes_and_does_not_merge(open_db: OpenDb, background: str) -> None:
    db = open_db(background=background, level_runs_max=4)
    fill(db, 100)
    db.flush()
    assert db.wait_idle(PATIENCE_S)
    db.pause()
    before = db.stats()
    for number in range(6):
        db.put(b"p%d" % number, b"")
        db.flush()
    assert db.wait_idle(PATIENCE_S)
    paused = db.stats()
    assert paused.flushes >= before.flushes + 6
    assert paused.compactions == before.compactions
    assert paused.levels[0].runs >= 6
    db.resume()
    assert db.wait_idle(PATIENCE_S)
    after = db.stats()
    assert after.compactions > paused.compactions
    assert after.levels[0].runs < 4
    assert db.count() == 106


def test_pausing_holds_a_merge_that_runs(open_db: OpenDb) -> None:
    gate, reached = threading.Event(), threading.Event()

    def is_merge(op: Operation) -> bool:
        if is_new_segment(op):
            reached.set()
            return True
        return False

    fs = FaultFileSystem(MemoryFileSystem())
    db = open_db(fs=fs, background="thread", segment_size_bytes=1 << 20, memtable_size_bytes=1 << 20)
    db.pause()
    for _ in range(2):
        fill(db, 300)
        db.flush()
    fs.plan = inject_when(is_merge, pause(gate))
    db.resume()
    assert reached.wait(PATIENCE_S)
    fs.plan = no_faults
    db.pause()
    gate.set()
    db.put(b"more", b"")
    db.flush()  # passes by the merge that stands still
    time.sleep(0.05)
    assert db.stats().compactions == 0
    db.resume()
    wait_for(lambda: db.stats().compactions > 0)
    assert db.count() == 301


# -- the rate limit ------------------------------------------------------------------------------------


def test_the_rate_limit_holds_compactions_and_not_flushes(open_db: OpenDb) -> None:
    rate = 400_000
    db = open_db(
        background="thread", rate_limit_bytes_per_s=rate, memtable_size_bytes=1 << 20,
        segment_size_bytes=16_384, block_size_bytes=4096, compression="none",
    )  # fmt: skip
    random = Random(1)
    db.pause()
    for _ in range(2):
        began_s = time.monotonic()
        with db.batch() as batch:
            for n in range(2000):
                batch.put(b"%05d" % n, random.randbytes(100))
        db.flush()
        flush_s = time.monotonic() - began_s
    began_s = time.monotonic()
    db.resume()
    assert db.wait_idle(PATIENCE_S)
    elapsed_s = time.monotonic() - began_s
    written = db.stats().compaction_bytes
    assert written > 180_000
    # A tenth of a second's worth may go at once, and the last file is not waited for.
    assert elapsed_s > (written - 16_384 * 2) / rate - 0.15
    assert flush_s < elapsed_s or flush_s < 1.0
    assert db.count() == 2000


def test_without_a_limit_it_takes_what_it_takes(open_db: OpenDb) -> None:
    db = open_db(background="thread")
    fill(db, 500)
    assert db.wait_idle(PATIENCE_S)


# -- stalls --------------------------------------------------------------------------------------------


@pytest.fixture
def stalled(open_db: OpenDb) -> Iterator[tuple[engine.Database, threading.Event, FaultFileSystem]]:
    """A database whose flushes wait for an event."""
    gate = threading.Event()
    fs = FaultFileSystem(MemoryFileSystem())
    db = open_db(fs=fs, background="thread", memtable_size_bytes=4000)
    fs.plan = inject_when(is_new_segment, pause(gate))
    yield db, gate, fs
    gate.set()
    fs.plan = no_faults


def test_writers_are_slowed_then_stopped_and_go_on(
    stalled: tuple[engine.Database, threading.Event, FaultFileSystem],
) -> None:
    db, gate, _ = stalled
    states: list[str] = []
    finished = threading.Event()

    def write() -> None:
        for n in range(200):
            db.put(b"%05d" % n, b"v" * 100)
            state = db.stats().stall_state
            if state not in states:
                states.append(state)
        finished.set()

    writer = threading.Thread(target=write)
    writer.start()
    wait_for(lambda: db.stats().stall_state == "stopped")
    time.sleep(0.1)
    written = db.count()
    time.sleep(0.1)
    assert db.count() == written  # stopped is stopped
    assert not finished.is_set()
    assert written < 200
    assert db.stats().memtables >= 4
    assert db.get(b"00000") == b"v" * 100  # readers go on
    gate.set()
    assert finished.wait(PATIENCE_S)
    writer.join()
    assert db.wait_idle(PATIENCE_S)
    stats = db.stats()
    assert states[:2] == ["none", "slowed"]
    assert stats.stall_state == "none"
    assert stats.stalls >= 1
    assert stats.stall_time_s >= stats.stall_longest_s > 0.1
    assert db.count() == 200


def test_a_batch_is_stopped_as_well(
    stalled: tuple[engine.Database, threading.Event, FaultFileSystem],
) -> None:
    db, gate, _ = stalled
    finished = threading.Event()

    def write() -> None:
        for first in range(0, 300, 10):
            with db.batch() as batch:
                for n in range(first, first + 10):
                    batch.put(b"%05d" % n, b"v" * 100)
        finished.set()

    writer = threading.Thread(target=write)
    writer.start()
    wait_for(lambda: db.stats().stall_state == "stopped")
    assert not finished.is_set()
    gate.set()
    assert finished.wait(PATIENCE_S)
    writer.join()
    assert db.count() == 300


def test_closing_frees_a_writer_that_is_stopped(
    stalled: tuple[engine.Database, threading.Event, FaultFileSystem],
) -> None:
    db, gate, fs = stalled
    outcome: list[BaseException] = []

    def write() -> None:
        try:
            for n in range(1000):
                db.put(b"%05d" % n, b"v" * 100)
        except ClosedError as error:
            outcome.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    wait_for(lambda: db.stats().stall_state == "stopped")
    threading.Timer(0.1, gate.set).start()
    db.close()
    writer.join(PATIENCE_S)
    assert not writer.is_alive()
    assert len(outcome) == 1
    with engine.open(db.path, fs=fs, background="inline") as again:
        count = again.count()
        assert count >= 30
        assert [key for key, _ in again.scan()] == [b"%05d" % n for n in range(count)]


def test_a_full_disk_stops_writers_with_its_error_and_is_left_behind(open_db: OpenDb) -> None:
    fs = FaultFileSystem(MemoryFileSystem())
    db = open_db(fs=fs, background="thread", memtable_size_bytes=4000)
    fs.plan = fail_when(is_new_segment, errno.ENOSPC)
    written = 0

    def write_on() -> None:
        nonlocal written
        for n in range(written, 1000):
            db.put(b"%05d" % n, b"v" * 100)
            written += 1

    with pytest.raises(OSError, match="cannot be flushed") as caught:
        write_on()
    assert caught.value.errno == errno.ENOSPC
    assert written > 30
    error = db.stats().background_error
    assert error is not None
    assert "No space left" in error
    assert db.count() == written
    fs.plan = no_faults
    db.resume()
    for n in range(written, written + 200):
        db.put(b"%05d" % n, b"v" * 100)
    assert db.wait_idle(PATIENCE_S)
    assert db.stats().background_error is None
    assert db.count() == written + 200


# -- the worker ----------------------------------------------------------------------------------------


def test_the_worker_may_be_killed(tmp_path: Path) -> None:
    options: dict[str, Any] = {"memtable_size_bytes": 20_000, "segment_size_bytes": 8192}
    with engine.open(tmp_path, sync="no", level_runs_max=2, **options) as db:
        for number in range(3):
            for n in range(number * 500, number * 500 + 500):
                db.put(b"%05d" % n, b"v" * 100)
            wait_for(lambda: db.stats().worker_pid is not None)
            pid = db.stats().worker_pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
        db.flush()
        assert db.wait_idle(PATIENCE_S)
        db.compact()
        assert db.count() == 1500
        assert db.stats().background_error is None
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]


@pytest.mark.parametrize("background", ["thread", "process"])
def test_closing_breaks_a_merge_off(tmp_path: Path, background: str) -> None:
    options: dict[str, Any] = {"sync": "no", "rate_limit_bytes_per_s": 20_000, "level_runs_max": 2}
    options |= {"memtable_size_bytes": 1 << 20, "segment_size_bytes": 8192}
    random = Random(2)
    db = engine.open(tmp_path, background=background, **options)
    state: dict[bytes, bytes] = {}
    for _ in range(2):
        for n in range(2000):
            key = b"%05d" % n
            state[key] = random.randbytes(50)
            db.put(key, state[key])
        db.flush()
    time.sleep(0.2)
    began_s = time.monotonic()
    db.close()
    assert time.monotonic() - began_s < 5  # the whole merge would take ten seconds and more
    with engine.open(tmp_path, background="inline") as db:
        assert dict(db.scan()) == state
        assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]
        db.compact()
        assert dict(db.scan()) == state


def test_a_forked_child_leaves_the_database_alone(tmp_path: Path) -> None:
    with engine.open(tmp_path) as db:
        fill(db, 100)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of a fork beside threads
            child = os.fork()
        if child == 0:
            status = 1
            try:
                refused = 0
                for use in (
                    lambda: db.get(b"k00001"),
                    lambda: db.put(b"x", b""),
                    db.count,
                    db.stats,
                    db.flush,
                ):
                    try:
                        use()
                    except ClosedError:
                        refused += 1
                db.close()
                status = 0 if refused == 5 else 2
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        fill(db, 100, b"later")
        db.flush()
        assert db.count() == 200
    with engine.open(tmp_path) as db:
        assert db.count() == 200


def forget(databases: list[engine.Database]) -> None:
    """Drop the only reference and wait until the interpreter has noticed."""
    alive = weakref.ref(databases.pop())

    def is_gone() -> bool:
        gc.collect()
        return alive() is None

    wait_for(is_gone)  # a thread of its own may be at work on it just now


def test_a_dropped_database_ends_its_threads(tmp_path: Path) -> None:
    before = threading.active_count()
    databases = [engine.open(tmp_path, background="thread")]
    fill(databases[0], 10)
    with pytest.warns(ResourceWarning, match="was never closed"):
        forget(databases)
    wait_for(lambda: threading.active_count() <= before)
    with engine.open(tmp_path, background="inline") as again:
        assert again.count() == 10


def test_compact_goes_through_although_paused(open_db: OpenDb) -> None:
    """It waited for a `resume` that its own caller could not give."""
    db = open_db(background="thread")
    db.pause()
    for number in range(3):
        fill(db, 50, b"k", b"%d" % number)  # over one another: they cannot just be moved
        db.flush()
    done = threading.Event()

    def compact() -> None:
        db.compact()
        done.set()

    threading.Thread(target=compact, daemon=True).start()
    assert done.wait(PATIENCE_S)
    assert sum(level.runs for level in db.stats().levels) == 1
    compactions = db.stats().compactions
    for number in range(5):  # still paused
        db.put(b"x%d" % number, b"")
        db.flush()
    assert db.wait_idle(PATIENCE_S)
    assert db.stats().compactions == compactions
    db.resume()


def test_waiting_may_take_too_long(
    stalled: tuple[engine.Database, threading.Event, FaultFileSystem],
) -> None:
    db, gate, _ = stalled
    db.put(b"k", b"v")
    db.flush(wait=False)
    began_s = time.monotonic()
    assert db.wait_idle(0.1) is False
    assert 0.1 <= time.monotonic() - began_s < PATIENCE_S
    gate.set()
    assert db.wait_idle(PATIENCE_S) is True


def test_a_flush_waits_for_its_own_writes_only(open_db: OpenDb) -> None:
    """With a busy writer beside it, a flush that waited for an empty log never returned."""
    gates = [threading.Event(), threading.Event()]
    segments: list[Operation] = []

    def plan(op: Operation) -> Fault | None:
        if not is_new_segment(op):
            return None
        segments.append(op)
        return pause(gates[min(len(segments), 2) - 1])

    fs = FaultFileSystem(MemoryFileSystem())
    db = open_db(fs=fs, background="thread", memtable_size_bytes=1 << 20)
    fs.plan = plan
    done = threading.Event()
    try:
        db.put(b"first", b"")

        def flush() -> None:
            db.flush()
            done.set()

        threading.Thread(target=flush, daemon=True).start()
        wait_for(lambda: len(segments) == 1)
        db.put(b"second", b"")
        db.flush(wait=False)
        gates[0].set()
        assert done.wait(PATIENCE_S)
        assert db.stats().memtables == 2
    finally:
        for gate in gates:
            gate.set()


def test_a_relative_path_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that changes its directory took the database's next files along."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with engine.open("db", memtable_size_bytes=2000) as db:
        fill(db, 30)
        monkeypatch.chdir(tmp_path / "elsewhere")
        fill(db, 100)
        db.compact()
        assert db.count() == 100
    assert list((tmp_path / "elsewhere").iterdir()) == []
    with engine.open(tmp_path / "db", background="inline") as db:
        assert db.count() == 100


def test_a_merge_may_find_that_its_input_was_discarded_while_it_waited(
    open_db: OpenDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That was taken for a failure of the disk, and given to the next writer that had to wait."""
    failures: list[Exception] = []
    monkeypatch.setattr(Trouble, "failed", lambda self, error, runs: failures.append(error))
    flush_gate, open_gate = threading.Event(), threading.Event()
    fs = FaultFileSystem(MemoryFileSystem())
    db = open_db(fs=fs, background="thread", memtable_size_bytes=1 << 20, segment_size_bytes=1 << 20)
    try:
        db.pause()
        fill(db, 100, b"b")
        db.flush()
        ((run,),) = db.view.levels.levels
        doomed = run.slices[0].segment.path
        del run
        fill(db, 100, b"b", b"again")
        fill(db, 100, b"c")
        db.flush()
        fs.plan = first_of(
            inject_when(is_new_segment, pause(flush_gate)),
            inject_when(lambda op: op.kind == "open_read" and op.path == doomed, pause(open_gate)),
        )
        db.put(b"x", b"")
        db.discard(b"b", b"c")
        db.flush(wait=False)
        db.resume()  # the merge of both runs waits behind the flush
        wait_for(lambda: len(db._background._running) == 2)
        flush_gate.set()
        wait_for(lambda: not fs.exists(doomed))
        open_gate.set()
        assert db.wait_idle(PATIENCE_S)
        assert failures == []
        assert db.count() == 101
        db.compact()
        assert db.count() == 101
    finally:
        flush_gate.set()
        open_gate.set()

"""Each file operation of a history fails once, in every way it can; then, everything goes on.

What must hold, whatever failed: the call says so with an OSError or PoisonedError, or does its work all the
same; reads go on; nothing acknowledged is lost; background work is tried again; and opening the database
afterwards finds a consistent one, without leftovers.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import Any

import pytest

import lamina.engine as engine
from harness.fault_filesystem import (
    Fault,
    FaultFileSystem,
    Operation,
    Plan,
    fail,
    fail_after,
    fail_when,
    failed_sync,
    first_of,
    inject_nth,
    inject_when,
    no_faults,
    short_write,
    torn_write,
)
from harness.history import COPY, PATH, SMALL, Run, State, assert_no_orphans, assert_state, recover, tell
from harness.memory_filesystem import MemoryFileSystem

SAMPLED_EVERY = 28

FAULTS: dict[str, Callable[[Operation], Fault | None]] = {
    "EIO": lambda operation: failed_sync() if operation.kind == "sync" else fail(errno.EIO),
    "ENOSPC": lambda operation: None if operation.kind in ("read", "open_read") else fail(errno.ENOSPC),
    # Not for locks: nobody could tell that one is held.
    "done and EIO": lambda operation: None if operation.kind == "lock" else fail_after(errno.EIO),
    "torn": lambda operation: torn_write(operation.size_bytes * 2 // 3, errno.ENOSPC),
    "short": lambda operation: short_write(operation.size_bytes // 2),
}
WRITES_ONLY = ("torn", "short")
SETTINGS = [(True, "always"), (False, "no")]


def operations_of(*, counted: bool, sync: str) -> list[Operation]:
    fs = FaultFileSystem(MemoryFileSystem())
    tell(Run(fs, counted=counted, sync=sync))
    return fs.log


def check_fault(plan: Plan, *, counted: bool, sync: str) -> Run:
    """Tell the history under a plan, and look at what that leaves."""
    disk = MemoryFileSystem()
    fs = FaultFileSystem(disk, plan)
    run = Run(fs, tolerant=True, counted=counted, sync=sync)
    tell(run)
    assert fs.injected, "the plan met no operation"
    fs.plan = no_faults
    assert_no_orphans(disk)
    # Not all is on the disk if the last close was what failed; a killed process leaves it to the system.
    recover(disk.process_crash_clone(), [run.now])
    if run.copied is not None and disk.exists(f"{COPY}/MANIFEST"):
        with engine.open(COPY, fs=disk, **SMALL) as copy:
            assert_state(copy, run.copied)
    return run


def check_faults(setting: tuple[bool, str], name: str, every: int) -> None:
    operations = operations_of(counted=setting[0], sync=setting[1])
    if name in WRITES_ONLY:
        operations = [operation for operation in operations if operation.kind == "write"]
        every = max(every // 3, 1)
    for operation in operations[len(name) % every :: every]:
        fault = FAULTS[name](operation)
        if fault is None:
            continue
        try:
            check_fault(inject_nth(operation.index, fault), counted=setting[0], sync=setting[1])
        except BaseException as error:
            error.add_note(f"{name} at {operation}")
            raise


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_one_fault(setting: tuple[bool, str], name: str) -> None:
    check_faults(setting, name, SAMPLED_EVERY)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_one_fault_everywhere(setting: tuple[bool, str], name: str) -> None:
    check_faults(setting, name, 1)


# -- a fault, and then the end ----------------------------------------------------------------------


def check_kills_after(fault_at: Operation, fault: Fault, *, counted: bool, sync: str) -> None:
    """Let one operation fail, and kill the process at some of those that follow."""
    disk = MemoryFileSystem()
    runs: list[Run] = []
    left: list[tuple[Operation, MemoryFileSystem, list[State]]] = []
    inject = inject_nth(fault_at.index, fault)

    def plan(operation: Operation) -> Fault | None:
        if runs and 0 < operation.index - fault_at.index < 40 and operation.index % 6 == 0:
            left.append((operation, disk.process_crash_clone(), runs[0].states[runs[0].done :]))
        return inject(operation)

    runs.append(Run(FaultFileSystem(disk, plan), tolerant=True, counted=counted, sync=sync))
    tell(runs[0])
    for operation, clone, states in left:
        try:
            recover(clone, states)
        except BaseException as error:
            error.add_note(f"{fault} at {fault_at}, killed at {operation}")
            raise


def check_faults_then_kills(setting: tuple[bool, str], every: int) -> None:
    operations = operations_of(counted=setting[0], sync=setting[1])
    chosen = [o for o in operations if o.kind in ("sync_directory", "replace", "remove", "sync", "truncate")]
    for i, operation in enumerate(chosen[::every]):
        fault = fail_after(errno.EIO) if i % 2 else fail(errno.EIO)
        check_kills_after(operation, fault, counted=setting[0], sync=setting[1])


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_a_fault_and_then_a_kill(setting: tuple[bool, str]) -> None:
    check_faults_then_kills(setting, SAMPLED_EVERY)


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_a_fault_and_then_a_kill_everywhere(setting: tuple[bool, str]) -> None:
    check_faults_then_kills(setting, 1)


# -- stories: what these tests have found, and what is said to the caller ---------------------------


def opened(
    plan: Plan = no_faults, **options: Any
) -> tuple[engine.Database, FaultFileSystem, MemoryFileSystem]:
    disk = MemoryFileSystem()
    fs = FaultFileSystem(disk)
    db = engine.open(PATH, fs=fs, **SMALL | {"sync": "no"} | options)
    fs.plan = plan
    return db, fs, disk


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.005)


def test_a_failed_write_has_not_happened() -> None:
    db, fs, _ = opened()
    db.put(b"a", b"1")
    fs.plan = fail_when(lambda operation: operation.kind == "write", errno.EIO)
    with pytest.raises(OSError, match="Input/output error") as caught:
        db.put(b"a", b"2")
    assert caught.value.filename.endswith(".wal")
    assert db[b"a"] == b"1"
    fs.plan = no_faults
    db.put(b"a", b"3")
    assert_state(db, {b"a": b"3"})
    db.close()


def test_a_failed_fsync_refuses_writes_until_the_database_is_reopened() -> None:
    db, fs, disk = opened(sync="always")
    db.put(b"a", b"1")
    fs.plan = inject_when(lambda operation: operation.kind == "sync", failed_sync())
    with pytest.raises(engine.PoisonedError, match=r"an fsync failed \(.*Input/output error.*reopened"):
        db.put(b"b", b"2")
    fs.plan = no_faults
    # The disk works again, but what it holds is unknown: nothing that would sync may claim to have.
    batch = engine.Batch()
    batch.put(b"c", b"3")
    size_bytes = sum(map(len, disk.files().values()))
    for refused in (
        lambda: db.put(b"c", b"3"),
        lambda: db.delete(b"a"),
        lambda: db.write(batch, sync=False),
        db.flush,
        db.compact,
        db.sync,
    ):
        with pytest.raises(engine.PoisonedError):
            refused()
    assert sum(map(len, disk.files().values())) == size_bytes
    assert db[b"a"] == b"1"
    assert db.get(b"c") is None
    assert "fsync failed" in (db.stats().write_error or "")
    db.close()
    with engine.open(PATH, fs=fs, **SMALL) as db:
        assert db[b"a"] == b"1"
        db.put(b"c", b"3")


def test_what_a_failed_fsync_left_is_written_anew_before_it_is_called_durable() -> None:
    """After a failed fsync Linux holds the bytes for clean: the next opening read them, synced them to no
    effect and noted that they were durable; after a power loss the log then contradicted that note."""
    db, fs, disk = opened(sync="always")
    db.put(b"a", b"1")
    fs.plan = inject_when(lambda operation: operation.kind == "sync", failed_sync())
    with pytest.raises(engine.PoisonedError):
        db.put(b"b", b"2")
    fs.plan = no_faults
    db.close()
    with engine.open(PATH, fs=fs, **SMALL | {"sync": "always"}) as db:
        state = dict(db.scan())
        db.put(b"c", b"3")
        for seed in range(30):
            recover(disk.power_loss_clone(seed), [state | {b"c": b"3"}])


@pytest.mark.parametrize("kind", ["create", "write", "sync", "replace", "sync_directory"])
def test_a_flush_that_fails_is_tried_again(kind: str) -> None:
    """With the background in a thread: `stats` names the error, and without being told the work goes on when
    its cause is gone."""
    fails = fail_when(
        lambda operation: operation.kind == kind and not operation.path.endswith(".wal"), errno.ENOSPC
    )
    db, fs, disk = opened(background="thread")
    state = {b"%d" % i: bytes(20) for i in range(8)}
    wait_until(lambda: db.logs._spare is not None, "the next log is prepared")
    fs.plan = fails
    for key, value in state.items():
        db.put(key, value)
    with pytest.raises(OSError, match="No space left"):
        db.flush()
    assert "No space left" in (db.stats().background_error or "")
    assert_state(db, state)
    fs.plan = no_faults
    wait_until(lambda: db.stats().memtables == 1, "the flush is tried again")
    wait_until(lambda: db.stats().background_error is None, "and all is well")
    assert_state(db, state)
    db.close()
    assert_no_orphans(disk)
    recover(disk, [state])


def test_a_manifest_that_was_replaced_although_it_failed_keeps_its_segments() -> None:
    """The rename was done and only the folder's sync failed: the manifest on disk named the new segment, but
    that was removed as the leftover of a failed flush. A kill then left a database without its data."""
    db, fs, disk = opened()
    db.put(b"a", b"1")
    after_replace = inject_nth(1, fail(errno.EIO), kind="sync_directory")
    fs.plan = after_replace
    with pytest.raises(OSError, match="Input/output"):
        db.flush()
    assert fs.injected[0].kind == "sync_directory"
    recover(disk.process_crash_clone(), [{b"a": b"1"}])
    db.put(b"b", b"2")
    db.flush()
    recover(disk.process_crash_clone(), [{b"a": b"1", b"b": b"2"}])
    db.close()
    assert_no_orphans(disk)


def test_a_failed_manifest_of_a_move_does_not_fail_the_write_that_caused_it() -> None:
    """Inline: a run that only had to be moved replaced the manifest inside `put`, which raised, although what
    was put had been stored."""
    state: dict[bytes, bytes] = {}
    db, fs, disk = opened(level_runs_max=2)
    fs.plan = fail_when(lambda operation: operation.kind == "replace", errno.EIO)
    for i in range(200):
        if i % 20 == 10:
            fs.plan = fail_when(lambda operation: operation.kind == "replace", errno.EIO)
        if i % 20 == 0:
            fs.plan = no_faults
        key = b"%06d" % i
        db.put(key, b"v" * 50)
        state[key] = b"v" * 50
    fs.plan = no_faults
    db.flush()
    assert db.wait_idle()
    assert_state(db, state)
    db.close()
    recover(disk, [state])


def test_a_torn_write_that_cannot_be_cut_is_not_sealed_into_the_log() -> None:
    """A write failed in the middle, and so did the cutting of what it left. The log was sealed with that at
    its end, and the next opening took it for corruption, as other logs followed."""
    torn = inject_nth(0, torn_write(15, errno.ENOSPC), kind="write")
    no_truncate = fail_when(lambda operation: operation.kind == "truncate", errno.EIO)
    db, fs, disk = opened()
    db.put(b"a", b"1")
    fs.plan = first_of(torn, no_truncate)
    with pytest.raises(OSError, match="No space left"):
        db.put(b"b", b"2")
    with pytest.raises(OSError, match="Input/output"):
        db.snapshot()
    recover(disk.process_crash_clone(), [{b"a": b"1"}])
    fs.plan = no_faults
    # A flush that fails keeps the sealed log and its successor on the disk.
    fs.plan = fail_when(lambda operation: operation.path.endswith(".seg.tmp"), errno.EIO)
    with db.snapshot():
        db.put(b"c", b"3")
        recover(disk.process_crash_clone(), [{b"a": b"1", b"c": b"3"}])
    fs.plan = no_faults
    db.close()


def test_a_log_without_frames_is_no_gap_in_the_chain() -> None:
    """Opened and sealed before anything was written, the new log stayed empty between two that were not; the
    next opening missed it."""
    db, fs, disk = opened()
    db.put(b"a", b"1")
    db.close()
    db = engine.open(PATH, fs=fs, **SMALL)
    fs.plan = fail_when(lambda operation: operation.path.endswith(".seg.tmp"), errno.EIO)
    with db.snapshot():
        db.put(b"b", b"2")
        recover(disk.process_crash_clone(), [{b"a": b"1", b"b": b"2"}])
        for seed in range(20):
            recover(disk.power_loss_clone(seed), [{b"a": b"1", b"b": b"2"}, {b"a": b"1"}])
    fs.plan = no_faults
    db.close()


def test_segments_that_nobody_reads_are_removed_while_the_database_is_open() -> None:
    """The list of open files kept every reader alive, and so every replaced segment stayed on the disk."""
    db, _, disk = opened()
    for i in range(500):
        db.put(b"%03d" % (i % 100), b"v" * 30)
    live = {piece.segment.number for run in db.view.runs for piece in run.slices}
    assert sum(name.endswith(".seg") for name in disk.files()) == len(live)
    db.close()


def test_a_checkpoint_that_fails_leaves_nothing() -> None:
    """A failure after the manifest was in place removed what it names, but not the manifest."""
    db, fs, disk = opened()
    for i in range(50):
        db.put(b"%d" % i, bytes(50))
    start = len(fs.log)
    db.checkpoint(COPY + "0")
    count = len(fs.log) - start
    for n in range(count):
        for fault in (fail(errno.EIO), fail_after(errno.EIO)):
            db.put(b"x", b"%d" % n)
            start = len(fs.log)
            fs.plan = inject_nth(start + n, fault)
            try:
                db.checkpoint(COPY)
            except (OSError, engine.PoisonedError):
                fs.plan = no_faults
                left = [name for name in disk.files() if name.startswith(COPY + "/")]
                assert left == [], (fs.log[start + n], left)
                if db.stats().write_error:
                    db.close()
                    db = engine.open(PATH, fs=fs, **SMALL)
            else:
                fs.plan = no_faults
                for name in [name for name in disk.files() if name.startswith(COPY + "/")]:
                    disk.remove(name)
    db.close()


def test_steps_of_a_job_that_was_given_up_are_removed() -> None:
    """A merge in a thread goes on after a step that could not be installed; what it wrote then stayed."""
    db, fs, disk = opened(background="thread", level_runs_max=64)
    state = {}
    for i in range(120):
        state[b"%03d" % (i % 60)] = b"%d" % i * 20
        db.put(b"%03d" % (i % 60), state[b"%03d" % (i % 60)])
    db.flush()
    fs.plan = inject_when(
        lambda operation: operation.kind == "create" and operation.path.endswith("MANIFEST.tmp"),
        fail(errno.EIO),
    )
    with pytest.raises(OSError, match="Input/output"):
        db.compact()
    fs.plan = no_faults
    db.compact()
    assert db.wait_idle(20)
    live = {piece.segment.number for run in db.view.runs for piece in run.slices}
    wait_until(
        lambda: sum(name.endswith((".seg", ".tmp")) for name in disk.files()) == len(live),
        f"only live segments are left: {sorted(disk.files())}, {live}",
    )
    assert_state(db, state)
    db.close()
    recover(disk, [state])

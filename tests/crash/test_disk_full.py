"""The disk fills up under a database that is written to, and is given room again.

Reads go on, the error names the cause, nothing that was acknowledged is lost, and when there is room, writes
and background work go on without the database being opened anew.
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

import lamina.engine as engine
from harness.fault_filesystem import FaultFileSystem, disk_full, no_faults
from harness.history import PATH, SMALL, assert_no_orphans, assert_state, recover
from harness.memory_filesystem import MemoryFileSystem

BACKGROUNDS = ("inline", "thread")


def opened(capacity_bytes: int, **options: Any) -> tuple[engine.Database, FaultFileSystem, MemoryFileSystem]:
    disk = MemoryFileSystem()
    fs = FaultFileSystem(disk, disk_full(capacity_bytes))
    return engine.open(PATH, fs=fs, **SMALL | {"sync": "no"} | options), fs, disk


def fill(db: engine.Database, state: dict[bytes, bytes], random: Random) -> OSError:
    """Write until that fails; return the error."""
    for i in range(100_000):
        changes = {b"%04d" % random.randrange(2000): random.randbytes(40) for _ in range(1 + i % 3)}
        batch = engine.Batch()
        for key, value in changes.items():
            batch.put(key, value)
        try:
            db.write(batch)
        except OSError as error:
            assert_state(db, state)
            return error
        state |= changes
    raise AssertionError("the disk was never full")


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.005)


def assert_recovers(db: engine.Database) -> None:
    """Wait until the background has done, by itself, all that there is to do."""
    wait_until(lambda: db.wait_idle(1), "the background is at rest")
    wait_until(lambda: db.stats().background_error is None, "nothing is wrong any more")
    assert db.stats().memtables == 1


def put_in_the_end(db: engine.Database, key: bytes, value: bytes) -> None:
    def is_put() -> bool:
        with contextlib.suppress(OSError):
            db.put(key, value)
            return True
        return False

    wait_until(is_put, "there is room, and so a write succeeds")


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("sync", ["always", "no"])
def test_a_full_disk_is_survived(background: str, counted: bool, sync: str) -> None:
    random = Random(f"{background} {counted} {sync}")
    capacity_bytes = 20_000
    db, fs, disk = opened(capacity_bytes, background=background, counted=counted, sync=sync)
    state: dict[bytes, bytes] = {}
    for _ in range(3):
        error = fill(db, state, random)
        assert error.errno == errno.ENOSPC
        # Asking again changes nothing, unless a merge has made room meanwhile.
        errors = [str(error)]
        for value in (bytes(10_000), b"small"):
            try:
                db.put(b"more", value)
            except OSError as again:
                errors.append(str(again))
                assert_state(db, state)
            else:
                state[b"more"] = value
        assert all("No space left on device" in message for message in errors)
        recover(disk.process_crash_clone(), [state], counted=counted)
        capacity_bytes += 15_000
        fs.plan = disk_full(capacity_bytes)
        if capacity_bytes != 35_000:
            db.resume()  # or wait: the background tries again by itself, every few seconds
        state[b"room"] = b"%d" % capacity_bytes
        put_in_the_end(db, b"room", state[b"room"])
    fs.plan = no_faults
    db.flush()
    assert_recovers(db)
    assert_state(db, state)
    db.close()
    assert_no_orphans(disk)
    recover(disk, [state], counted=counted)


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_room_made_by_the_database_itself_is_enough(background: str) -> None:
    """Discarding data and compacting gives back the room that the next writes need."""
    random = Random(1)
    db, fs, disk = opened(300_000, background=background)
    state = {b"old%04d" % i: random.randbytes(100) for i in range(400)}
    for key, value in state.items():
        db.put(key, value)
    db.compact()
    fs.plan = disk_full(fs.used_bytes() + 3000)
    error = fill(db, state, random)
    assert error.errno == errno.ENOSPC
    used_bytes = fs.used_bytes()
    # The memtables must be flushed before the discard can count, and a merge needs room for a segment.
    fs.plan = disk_full(used_bytes + 20_000)
    db.resume()
    db.discard(b"old", b"old\xff")
    state = {key: value for key, value in state.items() if not key.startswith(b"old")}
    db.flush()
    assert_recovers(db)
    wait_until(lambda: fs.used_bytes() < used_bytes * 2 // 3, "the room is given back")
    assert_state(db, state)
    db.close()
    recover(disk, [state])


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_closing_on_a_full_disk_loses_nothing(background: str) -> None:
    db, _, disk = opened(20_000, background=background)
    state: dict[bytes, bytes] = {}
    fill(db, state, Random(2))
    db.close()
    recover(disk, [state])


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_opening_on_a_full_disk_says_so_and_changes_nothing(background: str) -> None:
    db, fs, disk = opened(20_000, background=background)
    state: dict[bytes, bytes] = {}
    fill(db, state, Random(3))
    db.close()
    fs.plan = disk_full(0)
    for _ in range(3):
        with pytest.raises(OSError, match="No space left on device"):
            engine.open(PATH, fs=fs, **SMALL | {"background": background})
    with engine.open(PATH, fs=fs, read_only=True, **SMALL) as db:
        assert_state(db, state)
    fs.plan = no_faults
    recover(disk, [state])

"""Loading without a log: all that was added or nothing, in one run, whatever happens."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import lamina.engine as engine
import lamina.engine.bulk as bulk
from harness.databases import PATH, TINY
from harness.fault_filesystem import FaultFileSystem, SimulatedCrash, crash_at, fail_nth
from harness.memory_filesystem import MemoryFileSystem
from lamina.engine import BulkLoader, ClosedError, DuplicateKeyError, LockedError
from lamina.engine.check import check_directory
from lamina.engine.filesystem import DiskFileSystem, FileSystem
from lamina.engine.sorting import sorted_columns

SMALL: dict[str, Any] = TINY | {"memory": 1 << 16}
"""A pile of some hundred entries."""


def entries_of(count: int, seed: int = 1) -> dict[bytes, bytes]:
    """Return entries in no order."""
    dice = random.Random(seed)
    keys = [b"%d" % dice.getrandbits(40) for _ in range(count)]
    return {key: b"value of " + key * dice.choice((0, 1, 1, 9)) for key in keys}


def load(entries: dict[bytes, bytes], step: int = 37, **options: Any) -> bulk.Loaded:
    """Load entries, some at a time."""
    keys, values = list(entries), list(entries.values())
    options = {"path": PATH, **SMALL, **options}
    with BulkLoader(**options) as loader:
        for at in range(0, len(keys), step):
            loader.add(keys[at : at + step], values[at : at + step])
        assert loader.entries == len(keys)
        return loader.finish()


def add_all(pairs: list[tuple[bytes, bytes]], **options: Any) -> None:
    """Load entries, among which keys may come twice."""
    with BulkLoader(**options) as loader:
        for key, value in pairs:
            loader.add([key], [value])
        loader.finish()


def contents(fs: FileSystem, path: str = PATH) -> dict[bytes, bytes]:
    """Return what a database holds, which must be sound."""
    with engine.open(path, fs=fs, **TINY) as db:  # sweeps what was left behind
        found = dict(db.scan())
        assert db.count() == len(found)
    assert check_directory(path, fs) == []
    return found


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("count", [0, 1, 100, 3000])
def test_what_was_added_is_there(count: int, counted: bool) -> None:
    fs = MemoryFileSystem()
    entries = entries_of(count)
    loaded = load(entries, fs=fs, counted=counted)
    assert loaded.entries == len(entries)
    assert sorted(entries.items()) == list(contents(fs).items())
    with engine.open(PATH, fs=fs, **TINY) as db:
        assert len(db.view.runs) == (1 if entries else 0)
        assert db.counted == counted
        db.put(b"after", b"wards")
        db.put(next(iter(entries), b"x"), b"replaced")
        db.flush()
        db.compact()
        expected = entries | {b"after": b"wards", next(iter(entries), b"x"): b"replaced"}
        assert dict(db.scan()) == expected
        assert db.count() == len(expected)


def test_nothing_but_the_database_is_left() -> None:
    fs = MemoryFileSystem()
    load(entries_of(2000), fs=fs)
    names = fs.list_directory(PATH)
    assert not [name for name in names if name.endswith(".tmp")]
    with engine.open(PATH, fs=fs, read_only=True) as db:
        segments = {f"{piece.segment.number:06d}.seg" for piece in db.view.levels.slices}
    assert {name for name in names if name.endswith(".seg")} == segments


def test_more_runs_than_are_merged_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "_RUNS_MAX", 3)
    fs = MemoryFileSystem()
    entries = entries_of(3000)
    load(entries, fs=fs)
    assert contents(fs) == entries


@pytest.mark.parametrize("runs_max", [3, 128])
def test_without_counts_the_last_one_counts(monkeypatch: pytest.MonkeyPatch, runs_max: int) -> None:
    monkeypatch.setattr(bulk, "_RUNS_MAX", runs_max)
    fs = MemoryFileSystem()
    dice = random.Random(5)
    expected: dict[bytes, bytes] = {}
    with BulkLoader(PATH, fs=fs, counted=False, **SMALL) as loader:
        for number in range(4000):
            key = b"%d" % dice.randrange(900)
            expected[key] = b"%d" % number
            loader.add([key], [expected[key]])
        loader.finish()
    assert contents(fs) == expected


@pytest.mark.parametrize("distance", [0, 10, 2500])
def test_a_key_that_comes_twice_is_refused(distance: int) -> None:
    fs = MemoryFileSystem()
    entries = list(entries_of(2600).items())
    again = entries[0][0]
    entries.insert(1 + distance, (again, b"another value"))
    with pytest.raises(DuplicateKeyError) as caught:
        add_all(entries, path=PATH, fs=fs, **SMALL)
    assert caught.value.key == again
    assert contents(fs) == {}


def test_worker_processes_sort_and_merge(tmp_path: Path) -> None:
    entries = entries_of(20_000)
    merged: list[int] = []
    options: dict[str, Any] = {"path": tmp_path / "db", "background": "process", "workers": 2}
    options |= {"memory": 1 << 20, "segment_size_bytes": 1 << 14, "on_merged": merged.append}
    loaded = load(entries, step=500, **options)
    assert sum(merged) == loaded.size_bytes
    assert contents(DiskFileSystem(), str(tmp_path / "db")) == entries


def test_worker_processes_find_keys_that_come_twice(tmp_path: Path) -> None:
    entries = entries_of(20_000)
    for distance in (1, 19_000):
        keys = list(entries)
        keys.insert(distance, keys[0])
        pairs = [(key, b"x") for key in keys]
        with pytest.raises(DuplicateKeyError) as caught:
            add_all(pairs, path=tmp_path / "db", workers=2, memory=1 << 20)
        assert caught.value.key == keys[0]
        assert contents(DiskFileSystem(), str(tmp_path / "db")) == {}


def test_a_loader_left_without_finish_leaves_an_empty_database() -> None:
    fs = MemoryFileSystem()
    with BulkLoader(PATH, fs=fs, **SMALL) as loader:
        loader.add([b"%d" % number for number in range(2000)], [b"x" * 50] * 2000)
    assert not [name for name in fs.list_directory(PATH) if name.endswith((".seg", ".tmp"))]
    assert contents(fs) == {}
    assert load({b"k": b"v"}, fs=fs).entries == 1


def test_misuse_is_told() -> None:
    fs = MemoryFileSystem()
    with BulkLoader(PATH, fs=fs, **SMALL) as loader:
        with pytest.raises(LockedError):
            engine.open(PATH, fs=fs, **TINY)
        with pytest.raises(ValueError, match="2 keys and 1 values"):
            loader.add([b"a", b"b"], [b""])
        loader.add([], [])
        loader.add([b"a"], [b"1"])
        loader.finish()
        with pytest.raises(ClosedError):
            loader.add([b"b"], [b""])
        with pytest.raises(ClosedError):
            loader.finish()
    with pytest.raises(FileExistsError, match="not empty"):
        BulkLoader(PATH, fs=fs, **SMALL)
    assert contents(fs) == {b"a": b"1"}


def test_a_database_with_entries_in_its_log_is_not_empty() -> None:
    fs = MemoryFileSystem()
    with engine.open(PATH, fs=fs, **TINY | {"memtable_size_bytes": 10_000}) as db:
        db.put(b"k", b"v")
    with pytest.raises(FileExistsError, match="not empty"):
        BulkLoader(PATH, fs=fs, **SMALL)
    assert contents(fs) == {b"k": b"v"}


def test_sorting_keeps_the_last_or_refuses() -> None:
    keys, values = [b"b", b"a", b"b"], [b"1", b"2", b"3"]
    assert sorted_columns(keys, values, counted=False) == ([b"a", b"b"], [b"2", b"3"])
    with pytest.raises(DuplicateKeyError):
        sorted_columns(keys, values, counted=True)


# -- failures --------------------------------------------------------------------------------------


def test_a_crash_anywhere_leaves_an_empty_or_a_complete_database() -> None:
    entries = entries_of(700)
    operation, outcomes = 0, set()
    while True:
        memory = MemoryFileSystem()
        faults = FaultFileSystem(memory, crash_at(operation, written_bytes=operation % 7))
        try:
            load(entries, fs=faults)
        except SimulatedCrash:
            operation += 1
        else:
            break
        for survivor in (memory.process_crash_clone(), memory.power_loss_clone(operation)):
            found = contents(survivor) if survivor.exists(PATH) else {}
            assert found in ({}, entries), f"crash at operation {operation - 1}"
            outcomes.add(len(found))
    assert outcomes == {0, len(entries)}
    assert operation > 50


def test_an_error_anywhere_leaves_an_empty_or_a_complete_database() -> None:
    entries = entries_of(700)
    operation = failures = 0
    while True:
        memory = MemoryFileSystem()
        try:
            load(entries, fs=FaultFileSystem(memory, fail_nth(operation, 28)))
        except OSError:
            failures += 1
        if memory.exists(PATH):
            assert contents(memory) in ({}, entries), f"error at operation {operation}"
        operation += 1
        if operation > failures + 20:
            break
    assert failures > 50


_LOADING = """
import sys
from lamina.engine import BulkLoader
with BulkLoader(sys.argv[1], workers=2, memory=1 << 20, segment_size_bytes=1 << 16) as loader:
    for start in range(0, 60000, 500):
        keys = [b"%09d" % (number * 7919 % 60000) for number in range(start, start + 500)]
        loader.add(keys, [b"value"] * 500)
    loader.finish()
"""


@pytest.mark.parametrize("attempt", range(5))
def test_kill_9_leaves_an_empty_or_a_complete_database(tmp_path: Path, attempt: int) -> None:
    path = tmp_path / "db"
    process = subprocess.Popen([sys.executable, "-c", _LOADING, str(path)])
    while not path.exists() and process.poll() is None:
        time.sleep(0.005)
    time.sleep(random.Random(attempt).uniform(0, 1.5))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    if not path.exists() or not os.listdir(path):
        return
    with engine.open(path) as db:
        assert db.count() in (0, 60_000)
        assert not [name for name in os.listdir(path) if name.endswith(".tmp")]

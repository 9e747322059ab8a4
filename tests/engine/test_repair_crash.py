"""A repair that is broken off, at every operation: the old database is there, or the new one."""

from __future__ import annotations

import errno
from functools import cache

import pytest

import lamina.engine as engine
from harness.damage import Files, Sample, State, both, disk_of, files_of, flipped, missing, sample
from harness.databases import PATH
from harness.fault_filesystem import FaultFileSystem, Operation, disk_full, fail_nth
from harness.memory_filesystem import MemoryFileSystem
from lamina.engine.check import check_directory
from lamina.engine.filenames import MANIFEST, parse_name
from lamina.engine.repair import repair

OUTPUT = "/stores/new"


@cache
def made() -> Sample:
    return sample(writes=200)


def damaged(*, with_manifest: bool) -> Files:
    it = made()
    damage = both(flipped(it.names(".seg")[0], 40), flipped(it.names(".wal")[1], 120))
    files = damage.apply(it.files)
    return files if with_manifest else missing(MANIFEST).apply(files)


def contents(fs: MemoryFileSystem, path: str) -> State:
    with engine.open(path, fs=fs, read_only=True, background="inline") as db:
        return dict(db.scan())


def is_clean(fs: MemoryFileSystem, path: str) -> bool:
    return not [f for f in check_directory(path, fs) if f.severity == "error"]


def moments(files: Files, output: str | None) -> tuple[list[tuple[Operation, MemoryFileSystem]], State]:
    """Return the disk before each operation of a repair, and what the repaired database holds."""
    disk = disk_of(files)
    found: list[tuple[Operation, MemoryFileSystem]] = []

    def remember(operation: Operation) -> None:
        if operation.kind not in ("read", "open_read", "list_directory"):
            found.append((operation, disk.process_crash_clone()))

    repair(PATH, fs=FaultFileSystem(disk, remember), output=output)
    return found, contents(disk, output or PATH)


@pytest.mark.parametrize("with_manifest", [True, False], ids=["manifest", "no manifest"])
@pytest.mark.parametrize("output", [None, OUTPUT], ids=["in place", "elsewhere"])
@pytest.mark.parametrize("power", [False, True], ids=["kill", "power loss"])
def test_a_crash_leaves_the_old_database_or_the_new_one(
    with_manifest: bool, output: str | None, power: bool
) -> None:
    files = damaged(with_manifest=with_manifest)
    found, expected = moments(files, output)
    assert len(found) > 30
    for seed, (operation, disk) in enumerate(found):
        disk = disk.power_loss_clone(seed) if power else disk
        target = output or PATH
        if is_clean(disk, target) and MANIFEST in files_of(disk, target):
            assert contents(disk, target) == expected, operation
        else:
            there = files_of(disk)
            left = {name: data for name, data in there.items() if name in files}
            assert left == files, operation
        # Whatever was left, another repair ends as the first would have.
        if not (output and disk.exists(OUTPUT)):
            repair(PATH, fs=disk, output=output)
        assert contents(disk, target) == expected, operation
        assert check_directory(target, disk) == [], operation
        assert not disk.exists(f"{target}/repair.tmp")
        assert not disk.exists(f"{OUTPUT}.repair.tmp")


def test_a_crash_of_a_database_that_opens_leaves_one_that_opens() -> None:
    """A damaged block does not keep a database from being opened, and written to, in between."""
    it = made()
    files = flipped(it.names(".seg")[0], 40).apply(it.files)
    found, _ = moments(files, None)
    for operation, disk in found:
        with engine.open(PATH, fs=disk, background="inline", memory=1 << 20) as db:
            db.put(b"zzz", b"between")
            db.flush()
            db.put(b"zzzz", b"later")
        repair(PATH, fs=disk)
        state = contents(disk, PATH)
        assert (state[b"zzz"], state[b"zzzz"]) == (b"between", b"later"), operation
        assert check_directory(PATH, disk) == [], operation


@pytest.mark.parametrize("output", [None, OUTPUT])
def test_an_operation_that_fails_changes_nothing(output: str | None) -> None:
    files = damaged(with_manifest=True)
    found, expected = moments(files, output)
    for n in range(0, len(found), 3):
        kind = found[n][0].kind
        disk = disk_of(files)
        faults = FaultFileSystem(
            disk, fail_nth(sum(o.kind == kind for o, _ in found[:n]), errno.EIO, kind=kind)
        )
        target = output or PATH
        try:
            repair(PATH, fs=faults, output=output)
        except (OSError, engine.EngineError):
            done = MANIFEST in files_of(disk, target) and is_clean(disk, target)
            assert done or {k: v for k, v in files_of(disk).items() if k in files} == files, kind
        if not (output and disk.exists(OUTPUT)):
            repair(PATH, fs=disk, output=output)
        assert contents(disk, target) == expected, kind


def test_a_full_disk_leaves_the_old_database() -> None:
    files = damaged(with_manifest=True)
    disk = disk_of(files)
    faults = FaultFileSystem(disk)
    capacity = sum(map(len, files.values())) + 500
    faults.plan = disk_full(capacity)
    with pytest.raises(OSError, match=r".") as caught:
        repair(PATH, fs=faults)
    assert caught.value.errno == errno.ENOSPC
    assert {name: data for name, data in files_of(disk).items() if parse_name(name)}.items() <= files.items()
    assert repair(PATH, fs=disk).is_done

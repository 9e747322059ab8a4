"""Backup, prune and restore, broken at every operation: by errors, by death, by power loss."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import backups
from harness.backups import REPOSITORY, Contents, check_repository, restored
from harness.diskdata import contents, server_database
from harness.fault_filesystem import FaultFileSystem, SimulatedCrash, crash_at, fail_nth
from harness.memory_filesystem import MemoryFileSystem
from lamina.engine.errors import EngineError
from lamina.engine.filesystem import DiskFileSystem, FileSystem
from lamina.tools.backuprecord import Backup
from lamina.tools.backupsource import is_of_database
from lamina.tools.console import UsageError
from lamina.tools.repository import Repository
from lamina.tools.restoring import restore
from lamina.tools.retention import Policy

TARGET = "/restored/db"
MOMENTS = 40
"""Of each kind of fault at most so many, spread over all operations."""


class Scene:
    """Two backups of different states, and a database that is a third."""

    def __init__(self) -> None:
        self.fs = MemoryFileSystem()
        self.states: dict[str, Contents] = {}
        for turn in range(2):
            state = backups.write(self.fs, turn)
            self.states[backups.back_up(self.fs, 1_800_000_000 + turn).backup.id] = state
        self.current = backups.write(self.fs, 2)

    def check(self, fs: MemoryFileSystem, *, gone: int = 0) -> list[Backup]:
        """Assert that all backups that are there restore what they were made of."""
        found = check_repository(fs)
        missing = set(self.states) - {backup.id for backup in found}
        assert len(missing) <= gone
        elsewhere = fs.process_crash_clone()
        for number, backup in enumerate(found):
            expected = self.states.get(backup.id, self.current)
            assert restored(elsewhere, backup, f"/check/{number}") == expected
        return found


Deed = Callable[[FileSystem], object]


def take(fs: FileSystem) -> object:
    return backups.back_up(fs, 1_800_000_100)


def prune(fs: FileSystem) -> object:
    return backups.prune(fs, Policy(last=1))


def bring_back(fs: FileSystem) -> object:
    repository = backups.repository_on(fs)
    found, unreadable = repository.backups()
    if unreadable:
        raise OSError(unreadable[0].what)
    return restore(repository, found[0], TARGET)


def moments(scene: Scene, deed: Deed) -> list[int]:
    """Return the operations to break."""
    faults = FaultFileSystem(scene.fs.process_crash_clone())
    deed(faults)
    count = len(faults.log)
    step = max(count // MOMENTS, 1)
    return list(range(0, count, step))


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


def check_after(scene: Scene, fs: MemoryFileSystem, deed: Deed) -> None:
    """Assert what must hold after a deed was broken off, and that it can be done then."""
    gone = 1 if deed is prune else 0
    before = scene.check(fs, gone=gone)
    if deed is bring_back:
        if fs.exists(TARGET):
            assert backups.contents_of(fs, TARGET) == scene.states[before[0].id]
            return
        deed(fs)
        assert backups.contents_of(fs, TARGET) == scene.states[before[0].id]
        assert not fs.exists(TARGET + ".partial")
        return
    deed(fs)
    scene.check(fs, gone=gone)
    if deed is prune:
        assert not backups.unreferenced(fs)
    for folder in ("backups", "files"):
        for database in backups.repository_on(fs).databases():
            assert not [
                name
                for name in fs.list_directory(f"{REPOSITORY}/{database}/{folder}")
                if name.endswith("tmp")
            ]


@pytest.mark.parametrize("deed", [take, prune, bring_back])
def test_every_operation_fails_once(scene: Scene, deed: Deed) -> None:
    refused = 0
    for moment in moments(scene, deed):
        fs = scene.fs.process_crash_clone()
        faults = FaultFileSystem(fs, fail_nth(moment, errno.EIO))
        try:
            deed(faults)
        except (OSError, EngineError, UsageError):
            refused += 1
            if deed is take:
                check_nothing_left(fs)
        check_after(scene, fs, deed)
    assert refused > 5


def check_nothing_left(fs: MemoryFileSystem) -> None:
    """Assert that a backup that has failed has taken away what it brought, unless it is there after all."""
    found = check_repository(fs)
    assert len(found) == 3 or not backups.unreferenced(fs)


@pytest.mark.parametrize("deed", [take, prune, bring_back])
def test_death_at_every_operation(scene: Scene, deed: Deed) -> None:
    for moment in moments(scene, deed):
        faults = FaultFileSystem(scene.fs.process_crash_clone(), crash_at(moment, written_bytes=7))
        with pytest.raises(SimulatedCrash):
            deed(faults)
        assert isinstance(faults.inner, MemoryFileSystem)
        check_after(scene, faults.inner.process_crash_clone(), deed)
        check_after(scene, faults.inner.power_loss_clone(moment), deed)


def test_disk_full_leaves_nothing(scene: Scene) -> None:
    fs = scene.fs.process_crash_clone()
    for nth in range(4):
        with pytest.raises(OSError):
            take(FaultFileSystem(fs, fail_nth(nth, errno.ENOSPC, kind="write")))
        assert len(check_repository(fs)) == 2
        assert not backups.unreferenced(fs)
        scene.check(fs)


# --- Real processes


KILLER = """
import os, signal, sys
from lamina.engine.filesystem import DiskFileSystem
from lamina.tools.cli import main

left = int(sys.argv[1])

def counting(name):
    inner = getattr(DiskFileSystem, name)
    def counted(self, *arguments):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return inner(self, *arguments)
    return counted

for name in "create replace remove remove_directory sync_directory make_directory link lock".split():
    setattr(DiskFileSystem, name, counting(name))
sys.exit(main(sys.argv[2:]))
"""


def run_killed(moment: int, *arguments: object) -> int:
    """Run a verb in a process that is killed before an operation; returns its exit status."""
    words = [str(argument) for argument in arguments]
    command = [sys.executable, "-c", KILLER, str(moment), *words]
    return subprocess.run(command, capture_output=True, timeout=60).returncode


@pytest.mark.parametrize("verb", ["backup", "prune", "restore"])
def test_kill_9(tmp_path: Path, verb: str) -> None:
    directory = server_database(tmp_path)
    expected = contents(directory)
    repository, target = tmp_path / "repository", tmp_path / "restored"
    words = {
        "backup": ("backup", directory, "--to", repository),
        "prune": ("backup", "--prune", repository, "--keep-last", 1),
        "restore": ("restore", repository, "--to", target),
    }
    assert run_killed(1 << 30, *words["backup"]) == 0
    first = ids_in(repository)
    for moment in (0, 1, 2, 4, 7, 12, 20, 34):
        if verb == "prune":
            assert run_killed(1 << 30, *words["backup"]) == 0
        status = run_killed(moment, *words[verb])
        assert status in (-signal.SIGKILL, 0)
        found = ids_in(repository)
        assert found
        assert verb == "prune" or set(first) <= set(found)
        assert run_killed(1 << 30, "backup", "--verify", repository) == 0
        if target.exists():
            assert contents(target) == expected
            for name in os.listdir(target):
                os.remove(target / name)
            os.rmdir(target)
    assert run_killed(1 << 30, *words["restore"]) == 0
    assert contents(target) == expected
    assert all(is_of_database(name) for name in os.listdir(target))


def ids_in(path: Path) -> list[str]:
    """Return the ids of all backups in a repository."""
    found, unreadable = Repository(DiskFileSystem(), str(path)).backups()
    assert not unreadable
    return [backup.id for backup in found]

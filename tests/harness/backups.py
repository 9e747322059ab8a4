"""Backups in tests: databases and repositories in a memory file system, and what must hold of them."""

from __future__ import annotations

from typing import Any

import lamina.engine as engine
from harness.databases import TINY
from lamina.engine.filesystem import FileSystem
from lamina.tools.backuprecord import Backup
from lamina.tools.backupsource import closed_source
from lamina.tools.repository import Repository, referenced
from lamina.tools.restoring import Restored, restore
from lamina.tools.retention import Policy, decide
from lamina.tools.taking import Taken, take_backup
from lamina.tools.verifying import damages

DATABASE = "/stores/db"
REPOSITORY = "/backups"

Contents = dict[bytes, bytes]


def no_identity(path: str) -> str:
    """Stand in for what the disk says of a file: nothing."""
    return ""


def repository_on(fs: FileSystem, path: str = REPOSITORY) -> Repository:
    """Return a repository in a file system of the tests."""
    return Repository(fs, path, no_identity)


def write(fs: FileSystem, turn: int, *, path: str = DATABASE, count: int = 60) -> Contents:
    """Write some keys of a turn to a database; returns all that it holds then."""
    with engine.open(path, fs=fs, **TINY) as db:
        for number in range(count):
            db.put(b"key %04d" % (number * 7 % 90), b"value %d of turn %d" % (number, turn))
        db.put(b"turn %d" % turn, b"in the log")
        return dict(db.scan())


def back_up(fs: FileSystem, now_s: int = 1_800_000_000, **options: Any) -> Taken:
    """Back up the database."""
    repository = repository_on(fs)
    with repository.writing(create=True), closed_source(fs, DATABASE) as source:
        return take_backup(repository, source, now_s=lambda: now_s, **options)


def prune(fs: FileSystem, policy: Policy) -> list[str]:
    """Prune the repository; returns the ids of what has been dropped."""
    repository = repository_on(fs)
    dropped = []
    with repository.writing():
        for database in repository.databases():
            backups, unreadable = repository.backups([database])
            if unreadable:
                raise OSError(unreadable[0].what)
            sizes = dict.fromkeys(repository.stored_names(database), 0)
            decision = decide(database, backups, sizes, policy)
            repository.withdraw(decision.dropped)
            repository.remove_files(database, decision.files)
            dropped += [backup.id for backup in decision.dropped]
    return dropped


def contents_of(fs: FileSystem, path: str) -> Contents:
    """Return all entries of a database."""
    with engine.open(path, fs=fs, read_only=True) as db:
        return dict(db.scan())


def restored(fs: FileSystem, backup: Backup, target: str) -> Contents:
    """Restore a backup and return what the new database holds."""
    outcome = restore(repository_on(fs), backup, target, checks=True)
    assert isinstance(outcome, Restored), outcome
    return contents_of(fs, target)


def check_repository(fs: FileSystem) -> list[Backup]:
    """Assert that all backups that can be seen are whole; returns them."""
    if not fs.exists(REPOSITORY):
        return []
    repository = repository_on(fs)
    backups, unreadable = repository.backups()
    assert not unreadable
    assert not damages(repository, backups, lambda size_bytes: None)
    return backups


def unreferenced(fs: FileSystem) -> list[str]:
    """Return stored files that no backup names."""
    repository = repository_on(fs)
    backups, _ = repository.backups()
    needed = referenced(backups)
    names = [name for database in repository.databases() for name in repository.stored_names(database)]
    return [name for name in names if name not in needed]

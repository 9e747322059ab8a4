"""Making a database of a backup: written beside, proved, then given its name.

    DIR.partial      files, each held against its checksum; the manifest last; opened once; renamed to DIR

A restore that is broken off leaves DIR.partial at most, which the next one into DIR removes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Final, NamedTuple

from lamina.engine import Database, EngineError, LockedError, Options
from lamina.engine.check import check_directory
from lamina.engine.filenames import LOCK, MANIFEST, temporary_name
from lamina.engine.filesystem import FileSystem, sync_ancestors
from lamina.engine.findings import Finding
from lamina.tools.backuprecord import Backup, RepositoryError, StoredFile
from lamina.tools.backupsource import is_of_database, remove_database
from lamina.tools.console import UsageError
from lamina.tools.copying import OnBytes, copy_file, write_whole
from lamina.tools.repository import Repository
from lamina.tools.verifying import Damage, damage_of

PARTIAL_SUFFIX: Final = ".partial"


class Refused(NamedTuple):
    """Why nothing has been restored: files of the repository that are damaged, or what a check has found."""

    damages: list[Damage]
    findings: list[Finding]


class Restored(NamedTuple):
    """A database that is there now. `live_keys`: as the backup says, and as counted; None if not known."""

    target: str
    live_keys: int | None


def refuse_target(fs: FileSystem, target: str) -> None:
    """See that a restore may write there. Errors: UsageError."""
    if fs.exists(target) and not _is_empty_folder(fs, target):
        raise UsageError(f"{target}: is there, and not an empty folder: a restore makes a new one")


def _is_empty_folder(fs: FileSystem, path: str) -> bool:
    try:
        return not fs.list_directory(path)
    except NotADirectoryError:
        return False


def restore(
    repository: Repository,
    backup: Backup,
    target: str,
    *,
    checks: bool = False,
    on_bytes: OnBytes = lambda size_bytes: None,
    on_check: Callable[[int], None] = lambda size_bytes: None,
) -> Restored | Refused:
    """Make a database in `target`, which must not exist or be empty. `checks`: read all of it afterwards.

    Errors: UsageError, EngineError if what has been made does not open, OSError; nothing is left then.
    """
    fs = repository.fs
    target = os.path.abspath(target)
    refuse_target(fs, target)
    partial = target + PARTIAL_SUFFIX
    fs.make_directory(partial)
    try:
        held = fs.lock(os.path.join(partial, LOCK))
    except LockedError:
        raise UsageError(f"{partial}: another restore is at work there") from None
    try:
        _clear(fs, partial)
        damages = [
            damage
            for file in backup.files
            if (damage := _fetch(repository, backup, file, partial, on_bytes)) is not None
        ]
        findings: list[Finding] = []
        if not damages:
            path = os.path.join(partial, MANIFEST)
            write_whole(fs, path, backup.manifest.encode(), temporary_name(path))
            _prove(fs, partial, backup)
            findings = check_directory(partial, fs, on_read=on_check) if checks else []
        if damages or any(finding.severity == "error" for finding in findings):
            remove_database(fs, partial)
            return Refused(damages, findings)
        fs.remove(os.path.join(partial, LOCK))
        fs.replace(partial, target)
        sync_ancestors(fs, target)
        return Restored(target, backup.live_keys)
    except BaseException:
        with contextlib.suppress(OSError):
            remove_database(fs, partial)
        raise
    finally:
        held.release()


def _clear(fs: FileSystem, partial: str) -> None:
    """Remove what an earlier restore has left. Errors: UsageError where there is anything else."""
    names = [name for name in fs.list_directory(partial) if name != LOCK]
    for name in names:
        if not is_of_database(name):
            raise UsageError(f"{partial}: {name} is in the way")
    for name in names:
        fs.remove(os.path.join(partial, name))


def _fetch(
    repository: Repository, backup: Backup, file: StoredFile, partial: str, on_bytes: OnBytes
) -> Damage | None:
    """Copy one file out of the repository; returns what is wrong with it."""
    fs = repository.fs
    path = repository.stored_path(backup.database, file.stored_name)
    target = os.path.join(partial, file.name)
    with contextlib.suppress(FileNotFoundError):
        if copy_file(fs, path, target, on_bytes) == (file.size_bytes, file.sha256):
            return None
    if not repository.has(backup):
        raise RepositoryError(f"{backup.id}: this backup has been removed meanwhile")
    what = damage_of(repository, backup.database, file, lambda size_bytes: None)
    what = what or "it was read with another content at first: do not trust this disk"
    return Damage(backup.database, file.stored_name, what, [backup.id])


def _prove(fs: FileSystem, partial: str, backup: Backup) -> None:
    """Open what has been made, once, without changing it. Errors: EngineError."""
    with Database(partial, Options(read_only=True), fs) as db:
        live_keys = db.stats().live_keys if db.counted else None
    if live_keys != backup.live_keys:
        raise EngineError(f"{backup.id}: holds {live_keys} keys, and there were {backup.live_keys}")

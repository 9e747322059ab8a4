"""A repository of backups: what lies where, and who may write.

    LAMINA-BACKUPS                              what this folder is
    LOCK                                        held by the one who writes
    690a1f3c9f00aa17/                           one folder for each database, by its id
        backups/20261125T214440Z                a record: a backup is there when its record is
        files/000034-<sha256>.seg               each content once, whatever backups name it
    *.tmp                                       half-written; removed by the next one who writes

Databases share nothing, so any number of them may share a repository. Files never change, and a record is
written when all that it names is durable; it is removed before what only it names. So whoever reads needs no
lock: it finds backups that are whole, or gone.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from lamina.engine import LockedError
from lamina.engine.filenames import LOCK, TEMPORARY_SUFFIX
from lamina.engine.filesystem import FileSystem, read_file, sync_ancestors
from lamina.tools.backuprecord import (
    Backup,
    RepositoryError,
    StoredFile,
    decode_record,
    encode_record,
    is_backup_id,
    is_stored_name,
)
from lamina.tools.copying import disk_identity, write_whole

MARKER: Final = "LAMINA-BACKUPS"
_MARKER_TEXT: Final = b"lamina backups 1\n"
_RECORDS: Final = "backups"
_FILES: Final = "files"

Identify = Callable[[str], str]


class Unreadable(NamedTuple):
    """A record that cannot be read."""

    database: str
    id: str
    what: str


class Repository:
    """One repository. `identify` names a file of a database on its file system; for tests."""

    def __init__(self, fs: FileSystem, path: str, identify: Identify = disk_identity) -> None:
        self.fs = fs
        self.path = os.path.abspath(path)
        self.identify = identify

    # -- opening -----------------------------------------------------------------------------------

    def check(self) -> None:
        """See that this is a repository. Errors: RepositoryError."""
        try:
            text = read_file(self.fs, os.path.join(self.path, MARKER))
        except (FileNotFoundError, NotADirectoryError):
            raise RepositoryError(f"{self.path}: this is no repository of backups") from None
        if text != _MARKER_TEXT:
            raise RepositoryError(f"{self.path}: {MARKER} says {text[:40]!r}: made by a newer release")

    @contextlib.contextmanager
    def writing(self, *, create: bool = False) -> Iterator[None]:
        """Be the only one who writes; what others have left half-written is removed first.

        Errors: RepositoryError.
        """
        if create:
            self._prepare()
        else:
            self.check()
        try:
            held = self.fs.lock(os.path.join(self.path, LOCK))
        except LockedError as error:
            holder = str(error).partition(" is in use by ")[2].partition(";")[0]
            raise RepositoryError(f"{self.path}: {holder or 'another process'} writes to it now") from None
        try:
            marker = os.path.join(self.path, MARKER)
            if create and not self.fs.exists(marker):
                write_whole(self.fs, marker, _MARKER_TEXT, marker + TEMPORARY_SUFFIX)
                sync_ancestors(self.fs, self.path)
            self._sweep()
            yield
        finally:
            held.release()

    def _prepare(self) -> None:
        """Make the folder if there is none. Errors: RepositoryError if it is used for something else."""
        fs = self.fs
        if fs.exists(os.path.join(self.path, MARKER)):
            self.check()
            return
        names = fs.list_directory(self.path) if fs.exists(self.path) else []
        if any(name not in (LOCK, MARKER + TEMPORARY_SUFFIX) for name in names):
            raise RepositoryError(
                f"{self.path}: this is no repository of backups, and not empty: name a new folder"
            )
        fs.make_directory(self.path)

    def _sweep(self) -> None:
        for database in self.databases():
            for folder in (self._folder(database, _RECORDS), self._folder(database, _FILES)):
                for name in self._names(folder):
                    if name.endswith(TEMPORARY_SUFFIX):
                        self.fs.remove(os.path.join(folder, name))

    # -- reading -----------------------------------------------------------------------------------

    def databases(self) -> list[str]:
        """Return the ids of the databases of which there are, or were, backups."""
        is_id = frozenset("0123456789abcdef").issuperset
        return [name for name in self._names(self.path) if len(name) >= 16 and is_id(name)]

    def ids(self, database: str) -> list[str]:
        """Return the ids of a database's backups, the oldest first."""
        names = self._names(self._folder(database, _RECORDS))
        return sorted(filter(is_backup_id, names), key=_order)

    def read(self, database: str, backup_id: str) -> Backup:
        """Return a backup. Errors: RepositoryError, FileNotFoundError, OSError."""
        path = self._record_path(database, backup_id)
        backup = decode_record(path, read_file(self.fs, path))
        if (backup.database, backup.id) != (database, backup_id):
            raise RepositoryError(f"{path}: this is the record of {backup.id} of {backup.database}")
        return backup

    def backups(self, databases: Iterable[str] | None = None) -> tuple[list[Backup], list[Unreadable]]:
        """Return all backups, those of each database from the oldest on, and what cannot be read."""
        found: list[Backup] = []
        unreadable: list[Unreadable] = []
        for database in self.databases() if databases is None else databases:
            for backup_id in self.ids(database):
                try:
                    found.append(self.read(database, backup_id))
                except FileNotFoundError:
                    continue  # removed since
                except (RepositoryError, OSError) as error:
                    unreadable.append(Unreadable(database, backup_id, str(error)))
        return found, unreadable

    def newest(self, database: str) -> Backup | None:
        """Return the newest backup of a database that can be read. Errors: OSError."""
        for backup_id in reversed(self.ids(database)):
            with contextlib.suppress(RepositoryError, FileNotFoundError):
                return self.read(database, backup_id)
        return None

    def has(self, backup: Backup) -> bool:
        """Tell whether a backup is still there."""
        return self.fs.exists(self._record_path(backup.database, backup.id))

    def stored_names(self, database: str) -> list[str]:
        """Return the names of all stored files of a database, whether or not a backup names them."""
        return [name for name in self._names(self._folder(database, _FILES)) if is_stored_name(name)]

    def stored_path(self, database: str, stored_name: str) -> str:
        """Return where a file lies."""
        return os.path.join(self._folder(database, _FILES), stored_name)

    def _folder(self, database: str, name: str) -> str:
        return os.path.join(self.path, database, name)

    def _record_path(self, database: str, backup_id: str) -> str:
        return os.path.join(self._folder(database, _RECORDS), backup_id)

    def _names(self, folder: str) -> list[str]:
        try:
            return self.fs.list_directory(folder)
        except (FileNotFoundError, NotADirectoryError):
            return []

    # -- writing: only amid `writing` --------------------------------------------------------------

    def make_folders(self, database: str) -> None:
        """Make a database's folders, durably."""
        for name in (_RECORDS, _FILES):
            folder = self._folder(database, name)
            self.fs.make_directory(folder)
            sync_ancestors(self.fs, folder)

    def fresh_id(self, database: str, created_s: int) -> str:
        """Return an id that no backup of this database has: the time, UTC."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(created_s))
        taken = set(self.ids(database))
        number = 1
        while (fresh := stamp if number == 1 else f"{stamp}-{number}") in taken:
            number += 1
        return fresh

    def sync_files(self, database: str) -> None:
        """Make names of stored files durable."""
        self.fs.sync_directory(self._folder(database, _FILES))

    def publish(self, backup: Backup) -> None:
        """Write a backup's record: from then on it is there. All that it names is durable."""
        path = self._record_path(backup.database, backup.id)
        write_whole(self.fs, path, encode_record(backup), path + TEMPORARY_SUFFIX)

    def withdraw(self, backups: list[Backup]) -> None:
        """Remove records, durably."""
        for backup in backups:
            self.fs.remove(self._record_path(backup.database, backup.id))
        for database in {backup.database for backup in backups}:
            self.fs.sync_directory(self._folder(database, _RECORDS))

    def remove_files(self, database: str, stored_names: list[str]) -> None:
        """Remove files that no record names, durably."""
        for name in stored_names:
            self.fs.remove(self.stored_path(database, name))
        if stored_names:
            self.sync_files(database)


def _order(backup_id: str) -> tuple[str, int]:
    """Return what ids are sorted by: their time, and of those of one second the number behind it."""
    stamp, _, serial = backup_id.partition("-")
    return stamp, int(serial or 1)


def referenced(backups: Iterable[Backup]) -> dict[str, StoredFile]:
    """Return the files that backups of one database name, by their stored names."""
    return {file.stored_name: file for backup in backups for file in backup.files}

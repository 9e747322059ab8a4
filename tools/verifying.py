"""Reading what a repository holds, and comparing it with what its records say."""

from __future__ import annotations

from typing import NamedTuple

from lamina.tools.backuprecord import Backup, StoredFile
from lamina.tools.copying import OnBytes, sum_up
from lamina.tools.repository import Repository


class Damage(NamedTuple):
    """A stored file that is not what it was. `backups`: the ids of those that need it."""

    database: str
    file: str
    what: str
    backups: list[str]


def total_bytes(backups: list[Backup]) -> int:
    """Return the bytes of all files that backups name, each counted once."""
    return sum(file.size_bytes for file in _needed(backups).values())


def _needed(backups: list[Backup]) -> dict[tuple[str, str], StoredFile]:
    return {(backup.database, file.stored_name): file for backup in backups for file in backup.files}


def damages(repository: Repository, backups: list[Backup], on_bytes: OnBytes) -> list[Damage]:
    """Read every file that these backups name, each once, and return those that are damaged or missing."""
    found: list[Damage] = []
    for (database, stored_name), file in sorted(_needed(backups).items()):
        what = damage_of(repository, database, file, on_bytes)
        if what is None:
            continue
        users = [
            backup.id
            for backup in backups
            if backup.database == database
            and any(other.stored_name == stored_name for other in backup.files)
            and repository.has(backup)  # a prune may have removed both since the records were read
        ]
        if users:
            found.append(Damage(database, stored_name, what, users))
    return found


def damage_of(repository: Repository, database: str, file: StoredFile, on_bytes: OnBytes) -> str | None:
    """Return what is wrong with a stored file, None if nothing is."""
    path = repository.stored_path(database, file.stored_name)
    try:
        size_bytes, sha256 = sum_up(repository.fs, path, on_bytes)
    except FileNotFoundError:
        return "it is missing"
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    if size_bytes != file.size_bytes:
        return f"it has {size_bytes} bytes, not {file.size_bytes}"
    return None if sha256 == file.sha256 else f"its content has changed: SHA-256 is {sha256}"

"""Taking a backup: decide for each file whether the repository has it, bring the others in, then publish.

What is brought in is synced before the record that names it is written. If that fails on the way, what has
been brought in is removed; if the process is killed, it stays, is found by the next backup, which then need
not copy it, and goes with the next prune. Either way the backups that were there are untouched.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import NamedTuple

from lamina.engine.filenames import TEMPORARY_SUFFIX, parse_name
from lamina.engine.segment.check import open_uncached
from lamina.server.version import VERSION
from lamina.tools.backuprecord import Backup, RepositoryError, StoredFile, database_id
from lamina.tools.backupsource import Source, segment_files
from lamina.tools.copying import OnBytes, copy_file, size_of, sum_up, try_link
from lamina.tools.repository import Repository


class Taken(NamedTuple):
    """A backup that has been made. Bytes of files: copied, linked, and in the repository before."""

    backup: Backup
    copied_files: int
    copied_bytes: int
    linked_files: int
    linked_bytes: int
    kept_files: int
    kept_bytes: int


def known_files(newest: Backup | None) -> dict[tuple[str, int, str], StoredFile]:
    """Return what need not be read again: files by name, size and identity, of the newest backup."""
    files = [] if newest is None else newest.files
    return {(file.name, file.size_bytes, file.identity): file for file in files if file.identity}


def take_backup(
    repository: Repository,
    source: Source,
    *,
    label: str = "",
    link: bool = False,
    read_all: bool = False,
    on_bytes: OnBytes = lambda size_bytes: None,
    now_s: Callable[[], float] = time.time,
) -> Taken:
    """Put the state of a source into a repository that the caller is `writing` to.

    `link`: by hard links, where that can be. `read_all`: read also what has not changed since the last
    backup, here and in the repository, and replace what has been damaged there.
    Errors: RepositoryError, CorruptionError for a damaged segment, OSError; then there is no backup.
    """
    database = database_id(source.manifest)
    created_s = int(now_s())
    repository.make_folders(database)
    importer = _Importer(repository, source, database, on_bytes, link=link, read_all=read_all)
    importer.known = {} if read_all else known_files(repository.newest(database))
    backup: Backup | None = None
    try:
        files = [importer.bring_in(name, size_bytes) for name, size_bytes in segment_files(source)]
        files += [importer.bring_in(name, None) for name in source.logs]
        repository.sync_files(database)
        backup = Backup(
            id=repository.fresh_id(database, created_s),
            database=database,
            created_s=created_s,
            label=label,
            source=source.origin,
            version=VERSION,
            live_keys=source.live_keys,
            manifest=source.manifest_text.decode(),
            files=files,
        )
        repository.publish(backup)
    except BaseException:
        # An error may come from an operation that has been done: a record that is there needs its files.
        if backup is None or not repository.has(backup):
            importer.undo()
        raise
    return importer.taken(backup)


class _Importer:
    """Brings files of a source into the repository."""

    def __init__(
        self,
        repository: Repository,
        source: Source,
        database: str,
        on_bytes: OnBytes,
        *,
        link: bool,
        read_all: bool,
    ) -> None:
        self._repository = repository
        self._fs = repository.fs
        self._source = source
        self._database = database
        self._on_bytes = on_bytes
        self._link = link
        self._read_all = read_all
        self.known: dict[tuple[str, int, str], StoredFile] = {}
        self._present = set(repository.stored_names(database))
        self._present_stems = {stored.partition("-")[0] for stored in self._present}
        self._added: list[str] = []
        self._copied: list[StoredFile] = []
        self._linked: list[StoredFile] = []
        self._kept: list[StoredFile] = []

    def bring_in(self, name: str, size_bytes: int | None) -> StoredFile:
        """See to it that the repository has a file; `size_bytes` is what it must have, None: what it has."""
        path = os.path.join(self._source.directory, name)
        if size_bytes is None:
            size_bytes = size_of(self._fs, path) or 0
        identity = self._repository.identify(path)
        known = self.known.get((name, size_bytes, identity))
        if known is not None and self._is_stored(known):
            self._kept.append(known)
            self._on_bytes(size_bytes)
            return known
        is_segment = self._verify(name, size_bytes)
        if (is_segment and self._link) or name.partition(".")[0] in self._present_stems:
            # It is likely that nothing is to be written: look first.
            found = StoredFile(name, *sum_up(self._fs, path, self._on_bytes), identity)
            if self._is_stored(found):
                self._kept.append(found)
                return found
            if is_segment and self._link and self._link_in(path, found):
                return found
        return self._copy_in(path, name, identity)

    def _is_stored(self, file: StoredFile) -> bool:
        """Tell whether the repository has a file, as far as its size says or, with `read_all`, its content.

        What has a name there was whole and synced before it got it, whoever brought it in."""
        if file.stored_name not in self._present:
            return False
        path = self._repository.stored_path(self._database, file.stored_name)
        if self._read_all:
            return sum_up(self._fs, path, lambda size_bytes: None) == (file.size_bytes, file.sha256)
        return size_of(self._fs, path) == file.size_bytes

    def _verify(self, name: str, size_bytes: int) -> bool:
        """Read all blocks of a segment, so that no damage is kept for good; tells whether it is a segment."""
        parsed = parse_name(name)
        assert parsed is not None
        if parsed[0] != "seg":
            return False  # logs have been read when the source was opened
        open_uncached(self._fs, self._source.directory, parsed[1], size_bytes).verify()
        return True

    def _link_in(self, path: str, file: StoredFile) -> bool:
        temporary = self._temporary(file.stored_name)
        if not try_link(self._fs, path, temporary):
            return False
        self._place(temporary, file)
        self._linked.append(file)
        return True

    def _copy_in(self, path: str, name: str, identity: str) -> StoredFile:
        temporary = self._temporary(name)
        file = StoredFile(name, *copy_file(self._fs, path, temporary, self._on_bytes), identity)
        self._place(temporary, file)
        self._copied.append(file)
        return file

    def _temporary(self, name: str) -> str:
        return self._repository.stored_path(self._database, name + TEMPORARY_SUFFIX)

    def _place(self, temporary: str, file: StoredFile) -> None:
        # What is there under this name already has been damaged, or is what we have.
        self._fs.replace(temporary, self._repository.stored_path(self._database, file.stored_name))
        if file.stored_name not in self._present:
            self._added.append(file.stored_name)

    def undo(self) -> None:
        """Remove what has been brought in and is named by no backup."""
        with contextlib.suppress(OSError, RepositoryError):
            self._repository.remove_files(self._database, self._added)

    def taken(self, backup: Backup) -> Taken:
        """Return what has been done."""
        counts = [
            number
            for files in (self._copied, self._linked, self._kept)
            for number in (len(files), sum(file.size_bytes for file in files))
        ]
        return Taken(backup, *counts)

"""Opening a database's files: find or create it, open its segments, replay its logs, tidy up.

Nothing on disk changes before everything has been read and found sound; a read-only opener changes nothing at
all.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from contextlib import AbstractContextManager
from typing import NamedTuple

from lamina.engine.errors import EngineError
from lamina.engine.filenames import parse_name, temporary_name, wal_name
from lamina.engine.filesystem import FileSystem, read_file, sync_ancestors, write_all
from lamina.engine.levels import Levels
from lamina.engine.manifest import Manifest, write_manifest
from lamina.engine.options import Options
from lamina.engine.recovery import Replay, find_manifest, list_files, replay_logs, sweep
from lamina.engine.version import OpenSegment, levels_from_records
from lamina.engine.wal import WalWriter

_READ_ONLY_ATTEMPTS = 20
_UNCHANGED_MAX = 5


class Opened(NamedTuple):
    """What was found."""

    manifest: Manifest
    levels: Levels
    replay: Replay
    next_number: int


def make_directory(fs: FileSystem, path: str, options: Options) -> None:
    """Make the database's folder if it may be made. Errors: FileNotFoundError."""
    if fs.exists(path):
        return
    if not options.create:
        raise FileNotFoundError(errno.ENOENT, "there is no database here, and create=False", path)
    fs.make_directory(path)


def open_files(
    fs: FileSystem,
    path: str,
    options: Options,
    open_segment: OpenSegment,
    lock: AbstractContextManager[object],
) -> Opened:
    """Read manifest, segments and logs; create the database where there is none and `options` allow it.

    Beside a live writer files may go while we look, so a read-only opener looks again at the newer manifest.
    Errors: CorruptionError, FormatVersionError, FileNotFoundError, FileExistsError, ValueError, OSError.
    """
    manifest = _find_or_create(fs, path, options)
    attempts = _READ_ONLY_ATTEMPTS if options.read_only else 1
    unchanged = 0
    while True:
        attempts -= 1
        try:
            levels = levels_from_records(manifest.levels, manifest.salt, open_segment)
            replay = replay_logs(
                fs, path, manifest, memtable_size_max_bytes=options.memtable_budget_bytes, lock=lock
            )
        except (FileNotFoundError, EngineError):
            newer = find_manifest(fs, path) if attempts else None
            # A log that is written to while we read it, and followed by another one, looks damaged as well.
            unchanged += newer == manifest
            if newer is None or unchanged > _UNCHANGED_MAX:
                raise
            manifest = newer
        else:
            numbers = [parsed[1] for name in list_files(fs, path) if (parsed := parse_name(name)) is not None]
            return Opened(manifest, levels, replay, max(manifest.next_number, *numbers) + 1)


def _find_or_create(fs: FileSystem, path: str, options: Options) -> Manifest:
    manifest = find_manifest(fs, path)
    if manifest is None:
        if options.read_only or not options.create:
            raise FileNotFoundError(errno.ENOENT, "there is no database here", path)
        return _create(fs, path, counted=options.counted is not False)
    if options.error_if_exists:
        raise FileExistsError(errno.EEXIST, "there is a database here, and error_if_exists=True", path)
    if options.counted is not None and options.counted != manifest.counted:
        raise ValueError(
            f"{path}: the database was created with counted={manifest.counted}, and that cannot change"
        )
    return manifest


def _create(fs: FileSystem, path: str, *, counted: bool) -> Manifest:
    """Make a new database: an empty log, then the manifest that names it."""
    for name in list_files(fs, path):
        if parse_name(name) is not None:  # the empty log of a creation that did not get far
            fs.remove(os.path.join(path, name))
    # Not where the folder is made: who made it may have been killed before it was durable.
    sync_ancestors(fs, path)
    salt = int.from_bytes(os.urandom(4), "little")
    WalWriter(fs, path, 1, database_salt=salt).close()
    manifest = Manifest(counted, salt, int(time.time()), 2, 1, [], [], 0)
    write_manifest(fs, path, manifest)
    return manifest


def adopt_files(fs: FileSystem, path: str, manifest: Manifest, replay: Replay) -> None:
    """Take over what recovery found: carry out its decisions, and make durable what the last process left
    unsynced."""
    sweep(fs, path, manifest, replay)
    for memtable in replay.memtables:
        for number in memtable.wals:
            name = os.path.join(path, wal_name(number))
            if number not in replay.unsynced or not _rewrite(fs, name):
                file = fs.open_append(name)
                try:
                    file.sync()
                finally:
                    file.close()
    fs.sync_directory(path)


def _rewrite(fs: FileSystem, name: str) -> bool:
    """Write a log anew; returns False if there is no room for that.

    A sync alone may do nothing: if one has failed in the last process, the system holds the bytes for clean
    from then on, and would call them synced without ever having written them.
    """
    temporary = temporary_name(name)
    file = fs.create(temporary)
    try:
        write_all(file, read_file(fs, name))
        file.sync()
        fs.replace(temporary, name)
    except OSError as error:
        with contextlib.suppress(OSError):
            fs.remove(temporary)
        if error.errno != errno.ENOSPC:
            raise
        return False
    finally:
        file.close()
    return True

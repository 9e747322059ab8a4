"""Databases to be backed up: one that nobody has open, or that of a running server.

Either way a `Source` is a folder whose files stay as they are while it is held: a closed database is locked,
so that nobody opens it; a server makes a checkpoint beside its database, which is removed afterwards.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Final, NamedTuple

from lamina.engine import Database, LockedError, Options
from lamina.engine.filenames import LOCK, MANIFEST, is_temporary, parse_name, segment_name
from lamina.engine.filesystem import FileLock, FileSystem, read_file
from lamina.engine.manifest import Manifest, decode_manifest
from lamina.tools.console import UsageError
from lamina.tools.serverlink import ServerLink

_CHECKPOINT: Final = ".backup-"
"""Between the name of a database's folder and a process id, in the name of a checkpoint."""


class Source(NamedTuple):
    """A database whose files stay. `segments` have a size in the manifest, `logs` the one they have."""

    origin: str
    directory: str
    manifest: Manifest
    manifest_text: bytes
    segments: dict[int, int]
    logs: list[str]
    live_keys: int | None


@contextlib.contextmanager
def closed_source(fs: FileSystem, directory: str) -> Iterator[Source]:
    """Hold a database that nobody has open. Errors: LockedError, CorruptionError, OSError."""
    held = _lock(fs, directory)
    try:
        yield _look(fs, directory, os.path.abspath(directory))
    finally:
        if held is not None:
            held.release()


def _lock(fs: FileSystem, directory: str) -> FileLock | None:
    try:
        return fs.lock(os.path.join(directory, LOCK))
    except OSError as error:
        if error.errno == errno.EROFS:
            return None  # nobody can write there
        raise


def _look(fs: FileSystem, directory: str, origin: str) -> Source:
    """Return what a database consists of, having seen that it opens. Errors: CorruptionError, OSError."""
    # Opening reads all logs and the head of all segments: what would not open should not be kept for long.
    with Database(os.path.abspath(directory), Options(read_only=True), fs) as db:
        live_keys = db.stats().live_keys if db.counted else None
    path = os.path.join(directory, MANIFEST)
    text = read_file(fs, path)
    manifest = decode_manifest(path, text)
    segments = {
        piece.segment: piece.file_size_bytes
        for runs in manifest.levels
        for run in runs
        for piece in run.slices
    }
    numbered = [(parsed, name) for name in fs.list_directory(directory) if (parsed := parse_name(name))]
    logs = [name for (kind, number), name in numbered if kind == "wal" and number >= manifest.wal_first]
    return Source(origin, directory, manifest, text, segments, logs, live_keys)


@contextlib.contextmanager
def served_source(fs: FileSystem, link: ServerLink) -> Iterator[Source]:
    """Have a server make a checkpoint, and hold that. Errors: UsageError, OSError, EngineError."""
    directory = link.database_directory()
    if not fs.exists(os.path.join(directory, MANIFEST)):
        raise UsageError(
            f"{link.name} says that its database is in {directory}, which is not there on this machine: "
            "run lamina backup where the server runs"
        )
    _remove_stale(fs, directory)
    checkpoint = f"{directory}{_CHECKPOINT}{os.getpid()}"
    try:
        link.call("CHECKPOINT", checkpoint)
        if not fs.exists(os.path.join(checkpoint, MANIFEST)):
            raise UsageError(
                f"{link.name} has made a checkpoint, but it is not in {checkpoint} on this machine"
            )
        held = fs.lock(os.path.join(checkpoint, LOCK))
        try:
            yield _look(fs, checkpoint, f"{directory} of {link.name}")
        finally:
            held.release()
    finally:
        with contextlib.suppress(FileNotFoundError):
            remove_database(fs, checkpoint)


def _remove_stale(fs: FileSystem, directory: str) -> None:
    """Remove checkpoints whose makers have died: their files take space as soon as the server merges."""
    parent, prefix = os.path.dirname(directory), os.path.basename(directory) + _CHECKPOINT
    for name in fs.list_directory(parent):
        pid = name.removeprefix(prefix)
        if name.startswith(prefix) and pid.isdigit() and not _is_alive(int(pid)):
            path = os.path.join(parent, name)
            with contextlib.suppress(OSError, LockedError):
                held = fs.lock(os.path.join(path, LOCK))
                held.release()
                remove_database(fs, path)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    return True


def is_of_database(name: str) -> bool:
    """Tell whether a file's name is one that databases have."""
    return name in (LOCK, MANIFEST) or parse_name(name) is not None or is_temporary(name)


def remove_database(fs: FileSystem, directory: str) -> None:
    """Remove a database and its folder. Errors: OSError, if there is anything else in it."""
    names = fs.list_directory(directory)
    # The manifest first: what is left over, should this be broken off, is no database.
    for name in sorted(names, key=lambda name: name != MANIFEST):
        if is_of_database(name):
            fs.remove(os.path.join(directory, name))
    fs.remove_directory(directory)


def segment_files(source: Source) -> list[tuple[str, int]]:
    """Return names and sizes of a source's segments, in the order of their numbers."""
    return [(segment_name(number), size) for number, size in sorted(source.segments.items())]

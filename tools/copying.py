"""Copying files and summing them up, piece by piece."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable
from typing import Final

from lamina.engine.filesystem import FileSystem, WritableFile, write_all

PIECE_BYTES: Final = 1 << 20
"""Large enough that calls do not count; hashing and writing it let other threads run."""

_CANNOT_LINK: Final = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP)

OnBytes = Callable[[int], None]


def sum_up(fs: FileSystem, path: str, on_bytes: OnBytes) -> tuple[int, str]:
    """Return the size and SHA-256 of a file. Errors: OSError."""
    return _pump(fs, path, None, on_bytes)


def copy_file(fs: FileSystem, source: str, target: str, on_bytes: OnBytes) -> tuple[int, str]:
    """Copy a file and sync the copy; returns its size and SHA-256, of the bytes as they were read.

    Errors: OSError; then there is no copy.
    """
    file = fs.create(target)
    try:
        summed = _pump(fs, source, file, on_bytes)
        file.sync()
        return summed
    except OSError:
        with contextlib.suppress(OSError):
            fs.remove(target)
        raise
    finally:
        file.close()


def _pump(fs: FileSystem, source: str, target: WritableFile | None, on_bytes: OnBytes) -> tuple[int, str]:
    digest = hashlib.sha256()
    position = 0
    reader = fs.open_read(source)
    try:
        while piece := reader.pread(PIECE_BYTES, position):
            digest.update(piece)
            if target is not None:
                write_all(target, piece)
            position += len(piece)
            on_bytes(len(piece))
    finally:
        reader.close()
    return position, digest.hexdigest()


def try_link(fs: FileSystem, source: str, target: str) -> bool:
    """Give a file a second name; returns False where that cannot be. Errors: OSError."""
    try:
        fs.link(source, target)
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
        return False
    return True


def size_of(fs: FileSystem, path: str) -> int | None:
    """Return the size of a file, None if there is none. Errors: OSError."""
    try:
        reader = fs.open_read(path)
    except FileNotFoundError:
        return None
    try:
        return reader.size()
    finally:
        reader.close()


def write_whole(fs: FileSystem, path: str, data: bytes, temporary: str) -> None:
    """Write a small file so that it is there whole and durable, or not at all. Errors: OSError."""
    with contextlib.suppress(FileNotFoundError):
        fs.remove(temporary)
    file = fs.create(temporary)
    try:
        write_all(file, data)
        file.sync()
    except OSError:
        with contextlib.suppress(OSError):
            fs.remove(temporary)
        raise
    finally:
        file.close()
    fs.replace(temporary, path)
    fs.sync_directory(os.path.dirname(path))


def disk_identity(path: str) -> str:
    """Return what tells a file that never changes from all others of this machine.

    The inode's time of change is no part of it: giving the file another name changes that.
    """
    status = os.stat(path)
    return f"{status.st_dev:x}.{status.st_ino:x}.{status.st_mtime_ns:x}"

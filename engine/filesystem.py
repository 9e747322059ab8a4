"""The only place that opens, syncs, renames or lists files, so that tests can put another one in its stead.

`FileSystem` is the contract; `DiskFileSystem` keeps it with the operating system. Two rules matter to
callers: bytes written are durable only after `sync` of the file, and a name is durable only after
`sync_directory` of its folder. `OSError` passes through unchanged.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import time
from collections.abc import Callable
from typing import Protocol

from lamina.engine.errors import LockedError


class WritableFile(Protocol):
    """A file that is only ever appended to. One thread at a time, except `sync`, which any may call."""

    write: Callable[[bytes], int]
    """Append and return how many bytes went in, which may be fewer than were given."""

    def sync(self) -> None:
        """Make everything written so far durable (fdatasync)."""

    def truncate(self, size_bytes: int) -> None:
        """Cut the file to `size_bytes`; the next write goes there."""

    def close(self) -> None:
        """Close without syncing."""


class ReadableFile(Protocol):
    """A file open for positioned reads, from any thread."""

    pread: Callable[[int, int], bytes]
    """``pread(size_bytes, offset)``: fewer bytes are returned only at the end of the file."""

    def size(self) -> int:
        """Return the size in bytes."""

    def close(self) -> None:
        """Close; a read after that raises OSError."""


class FileLock(Protocol):
    """An exclusive lock held on a database."""

    def release(self) -> None:
        """Give the lock up."""

    def abandon(self) -> None:
        """Forget the lock in a forked child, without releasing the parent's."""


class FileSystem(Protocol):
    """All file operations of the engine."""

    def create(self, path: str) -> WritableFile:
        """Create `path` for appending; FileExistsError if it is there."""

    def open_append(self, path: str) -> WritableFile:
        """Open an existing file for appending at its end."""

    def open_read(self, path: str) -> ReadableFile:
        """Open an existing file for reading."""

    def exists(self, path: str) -> bool:
        """Tell whether `path` names a file or folder."""

    def list_directory(self, path: str) -> list[str]:
        """Return the names in a folder, sorted."""

    def make_directory(self, path: str) -> None:
        """Create a folder and its parents; fine if it is there."""

    def remove(self, path: str) -> None:
        """Remove a file."""

    def remove_directory(self, path: str) -> None:
        """Remove an empty folder."""

    def replace(self, source: str, target: str) -> None:
        """Rename `source` to `target`, atomically replacing what was there."""

    def link(self, source: str, target: str) -> None:
        """Give the file a second name; OSError where the two places share no file system."""

    def sync_directory(self, path: str) -> None:
        """Make creations, removals and renames in a folder durable."""

    def lock(self, path: str) -> FileLock:
        """Lock `path` exclusively, creating it if needed; LockedError naming the holder."""

    def boot_id(self) -> bytes:
        """Return 16 bytes that change when the machine may have lost unsynced writes; zeros if unknown."""


class DiskWritableFile:
    """`WritableFile` on a file descriptor."""

    __slots__ = ("_fd", "write")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        # A partial of a C function: the log calls this once for every put.
        self.write: Callable[[bytes], int] = functools.partial(os.write, fd)

    def sync(self) -> None:
        if self._fd < 0:
            raise OSError(errno.EBADF, "the file is closed")
        os.fdatasync(self._fd)

    def truncate(self, size_bytes: int) -> None:
        os.ftruncate(self._fd, size_bytes)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self.write = _write_closed


def _write_closed(data: bytes) -> int:
    raise OSError(errno.EBADF, "the file is closed")


def _read_closed(size_bytes: int, offset: int) -> bytes:
    raise OSError(errno.EBADF, "the file is closed")


class DiskReadableFile:
    """`ReadableFile` on a file descriptor, closed when the last reference to it goes.

    Readers keep a reference during a read, so a file may be closed (by dropping it) while others read it
    and its descriptor is never reused under them.
    """

    __slots__ = ("_fd", "pread")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.pread: Callable[[int, int], bytes] = functools.partial(os.pread, fd)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self.pread = _read_closed

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            self.close()


_DEAD_HOLDER_S = 1.0


def _lock_soon(fd: int) -> None:
    """Take the lock, at once or not at all; but for a holder that is dead already we wait a little.

    Killed while it was starting its worker, it has left its descriptor to that until the worker's program has
    been loaded. Errors: OSError.
    """
    deadline_s = time.monotonic() + _DEAD_HOLDER_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError:
            holder = os.pread(fd, 200, 0).split()
            is_named = len(holder) == 2 and holder[1].isdigit()
            if not is_named or _is_alive(int(holder[1])) or time.monotonic() > deadline_s:
                raise
        time.sleep(0.01)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it is somebody else's
    return True


class DiskFileLock:
    """flock on the LOCK file, whose text names the holder."""

    __slots__ = ("_fd",)

    def __init__(self, path: str) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _lock_soon(fd)
        except OSError as error:
            holder = os.pread(fd, 200, 0).decode("ascii", "replace").strip() or "unknown process"
            os.close(fd)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise LockedError(
                f"{path}: the database is in use by {holder}; close it there, or open with read_only=True"
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"process {os.getpid()}\n".encode(), 0)
        self._fd = fd

    def release(self) -> None:
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1

    def abandon(self) -> None:
        # The lock belongs to the open file, which the parent still holds: closing our copy keeps it.
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class DiskFileSystem:
    """`FileSystem` with the operating system's calls."""

    def create(self, path: str) -> DiskWritableFile:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        return DiskWritableFile(os.open(path, flags, 0o644))

    def open_append(self, path: str) -> DiskWritableFile:
        return DiskWritableFile(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC))

    def open_read(self, path: str) -> DiskReadableFile:
        return DiskReadableFile(os.open(path, os.O_RDONLY | os.O_CLOEXEC))

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def list_directory(self, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def make_directory(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)

    def remove(self, path: str) -> None:
        os.remove(path)

    def remove_directory(self, path: str) -> None:
        os.rmdir(path)

    def replace(self, source: str, target: str) -> None:
        os.replace(source, target)

    def link(self, source: str, target: str) -> None:
        os.link(source, target)

    def sync_directory(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def lock(self, path: str) -> DiskFileLock:
        return DiskFileLock(path)

    def boot_id(self) -> bytes:
        return _boot_id()


@functools.cache
def _boot_id() -> bytes:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return bytes.fromhex(file.read().strip().replace("-", ""))
    except (OSError, ValueError):
        return bytes(16)


def write_all(file: WritableFile, data: bytes) -> None:
    """Append the whole of `data`, however many calls that takes; OSError leaves a part of it in the file."""
    written = file.write(data)
    while written < len(data):
        count = file.write(data[written:])
        if count <= 0:
            raise OSError(errno.EIO, "write made no progress")
        written += count


def sync_ancestors(fs: FileSystem, path: str) -> None:
    """Make the name of a new folder durable, and those of the folders above it, which may be as new."""
    path = os.path.normpath(path)
    while True:
        parent = os.path.dirname(path)
        with contextlib.suppress(PermissionError):  # who may not read a folder has not made it
            fs.sync_directory(parent or os.curdir)
        if parent in ("", path):
            return
        path = parent


def read_file(fs: FileSystem, path: str) -> bytes:
    """Return the whole content of a file."""
    file = fs.open_read(path)
    try:
        # A read-only opener looks at files that grow: take what is there now.
        size_bytes = file.size()
        parts: list[bytes] = []
        position = 0
        while position < size_bytes:
            part = file.pread(min(size_bytes - position, 1 << 30), position)
            if not part:
                break
            parts.append(part)
            position += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
    finally:
        file.close()

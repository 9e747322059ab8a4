"""A file system in memory that knows exactly what a crash would take.

`MemoryFileSystem` keeps the contract of `lamina.engine.filesystem.FileSystem` and two images of everything:
what a running process sees, and what lies on the imagined disk. Between the two stand the changes that nobody
has synced, in their order.

    change                              becomes durable with
    bytes written, file cut             `sync` of the file, through any handle and under any name
    name created, removed, replaced,    `sync_directory` of the folder the name is in; a rename between two
    linked, folder made                 folders is one change of both, and either folder's sync is enough

    crash                               what is left of the unsynced changes
    `process_crash_clone` (kill -9)     all of them, still unsynced; the boot id stays
    `power_loss_clone` (plug pulled)    of each folder a prefix of its changes, as metadata is journalled;
                                        of each file one of: none, all, a prefix in bytes, any of the writes,
                                        any of the pages; the boot id is another

A lost write with a surviving one behind it leaves a hole of zeros. Names and data are independent: a rename
may survive whose file was never synced and is therefore empty. Harsher than ext4, and what POSIX allows.

Paths are absolute; a relative one starts at the root, which always exists. Any thread may call anything.
"""

from __future__ import annotations

import copy
import errno
import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from lamina.engine.errors import LockedError

FIRST_BOOT = b"memory boot 0001"
assert len(FIRST_BOOT) == 16

# Linux writes a dirty file back in these units, so any part of one large write may reach the disk.
PAGE_SIZE_BYTES = 4096


class _Write(NamedTuple):
    offset: int
    data: bytes


class _Truncate(NamedTuple):
    size_bytes: int


_Change = _Write | _Truncate


class _File:
    """A file apart from its names, of which hard links give it several."""

    __slots__ = ("content", "durable", "is_locked", "unsynced")

    def __init__(self, content: bytes = b"") -> None:
        self.content = bytearray(content)
        self.durable = bytearray(content)
        self.unsynced: list[_Change] = []
        self.is_locked = False

    def __deepcopy__(self, memo: dict[int, object]) -> _File:
        # Changes are immutable, so the copy shares them: a clone costs two copies of the bytes and no more.
        # The lock is left behind, as it is held by a process and the clone is what the next one finds.
        file = _File()
        file.content = self.content[:]
        file.durable = self.durable[:]
        file.unsynced = self.unsynced[:]
        return file

    def change(self, change: _Change) -> None:
        _apply(self.content, change)
        self.unsynced.append(change)

    def append(self, data: bytes) -> None:
        if data:
            self.change(_Write(len(self.content), bytes(data)))

    def sync(self) -> None:
        for change in self.unsynced:
            _apply(self.durable, change)
        self.unsynced.clear()

    def lose_power(self, random: Random, unsynced_percent: int) -> None:
        for change in _survivors(self.unsynced, random, unsynced_percent):
            _apply(self.durable, change)
        self.content = self.durable[:]
        self.unsynced.clear()


@dataclass(eq=False, slots=True)
class _NameChange:
    """What one call did to the names of one folder or, if it moved something, of two."""

    parts: list[tuple[_Folder, str, _Node | None]]

    def folders(self) -> list[_Folder]:
        return list(dict.fromkeys(folder for folder, _, _ in self.parts))


class _Folder:
    """Names of files and folders."""

    __slots__ = ("durable", "entries", "unsynced")

    def __init__(self) -> None:
        self.entries: dict[str, _Node] = {}
        self.durable: dict[str, _Node] = {}
        self.unsynced: list[_NameChange] = []

    def settle(self, count: int) -> None:
        """Make the first `count` unsynced changes durable."""
        for change in self.unsynced[:count]:
            for folder in change.folders():
                # A journal keeps order: before this change come the earlier ones of the other folder too.
                if folder is not self:
                    folder.settle(folder.unsynced.index(change))
            for folder, name, node in change.parts:
                _put(folder.durable, name, node)
            for folder in change.folders():
                folder.unsynced.remove(change)

    def sync(self) -> None:
        self.settle(len(self.unsynced))

    def lose_unsynced(self) -> None:
        self.entries = dict(self.durable)
        self.unsynced.clear()

    def nodes(self) -> list[_Node]:
        """Return everything below that is or may be here, in an order that only the content decides."""
        found = [self.entries[name] for name in sorted(self.entries)]
        found += [self.durable[name] for name in sorted(self.durable)]
        found += [node for change in self.unsynced for _, _, node in change.parts if node is not None]
        return found


_Node = _File | _Folder


def _apply(image: bytearray, change: _Change) -> None:
    size_bytes = change.size_bytes if isinstance(change, _Truncate) else change.offset
    if len(image) < size_bytes:
        image.extend(bytes(size_bytes - len(image)))
    if isinstance(change, _Truncate):
        del image[size_bytes:]
    else:
        image[change.offset : change.offset + len(change.data)] = change.data


def _put(entries: dict[str, _Node], name: str, node: _Node | None) -> None:
    if node is None:
        entries.pop(name, None)
    else:
        entries[name] = node


def _change_names(*parts: tuple[_Folder, str, _Node | None]) -> None:
    change = _NameChange(list(parts))
    for folder, name, node in parts:
        _put(folder.entries, name, node)
    for folder in change.folders():
        folder.unsynced.append(change)


def _share(random: Random, percent: int) -> float:
    """Return a part of one that is `percent` on average, all of it at 100 and nothing at 0."""
    return random.random() ** ((100 - percent) / percent) if percent else 0.0


def _survivors(changes: list[_Change], random: Random, percent: int) -> list[_Change]:
    """Return those of a file's unsynced changes that a power loss leaves."""
    if not changes:
        return []
    match random.choice(("all or none", "prefix", "writes", "pages")):
        case "all or none":
            return changes if random.random() * 100 < percent else []
        case "prefix":
            return _prefix(changes, random, percent)
        case "pages":
            return _pages(changes, random, percent)
    return [change for change in changes if random.random() * 100 < percent]


def _prefix(changes: list[_Change], random: Random, percent: int) -> list[_Change]:
    # A truncate weighs as much as a byte, so that one at the end can be lost or kept.
    weights = [len(change.data) if isinstance(change, _Write) else 1 for change in changes]
    left = min(int(_share(random, percent) * (sum(weights) + 1)), sum(weights))
    kept: list[_Change] = []
    for change, weight in zip(changes, weights, strict=True):
        if left < weight:
            if left and isinstance(change, _Write):
                kept.append(_Write(change.offset, change.data[:left]))
            break
        kept.append(change)
        left -= weight
    return kept


def _pages(changes: list[_Change], random: Random, percent: int) -> list[_Change]:
    kept: list[_Change] = []
    survives: dict[int, bool] = {}
    for change in changes:
        if isinstance(change, _Truncate):
            if random.random() * 100 < percent:
                kept.append(change)
            continue
        position = 0
        while position < len(change.data):
            page, start = divmod(change.offset + position, PAGE_SIZE_BYTES)
            size_bytes = PAGE_SIZE_BYTES - start
            if page not in survives:
                survives[page] = random.random() * 100 < percent
            if survives[page]:
                part = change.data[position : position + size_bytes]
                kept.append(_Write(change.offset + position, part))
            position += size_bytes
    return kept


def _error(number: int, path: str, target: str | None = None) -> OSError:
    # OSError picks FileNotFoundError and the like by the number, as it does for the system's own calls.
    return OSError(number, os.strerror(number), path, None, target)


def _parts(path: str) -> list[str]:
    if not path:
        raise _error(errno.ENOENT, path)
    return [part for part in os.path.normpath(path).split("/") if part not in ("", ".", "..")]


def _is_inside(path: str, folder: str) -> bool:
    parts, outer = _parts(path), _parts(folder)
    return len(parts) > len(outer) and parts[: len(outer)] == outer


class MemoryWritableFile:
    """`WritableFile` of a `MemoryFileSystem`."""

    __slots__ = ("_file", "_lock", "_path", "write")

    def __init__(self, file: _File, path: str, lock: threading.RLock) -> None:
        self._file: _File | None = file
        self._path = path
        self._lock = lock
        self.write: Callable[[bytes], int] = self._write

    def _write(self, data: bytes) -> int:
        with self._lock:
            self._open_file().append(data)
            return len(data)

    def sync(self) -> None:
        with self._lock:
            self._open_file().sync()

    def truncate(self, size_bytes: int) -> None:
        with self._lock:
            if size_bytes < 0:
                raise _error(errno.EINVAL, self._path)
            self._open_file().change(_Truncate(size_bytes))

    def close(self) -> None:
        self._file = None

    def forget_unsynced(self) -> None:
        """Do what Linux does when a sync fails: call the pages clean, so that no later sync writes them.

        They stay readable until the power goes.
        """
        with self._lock:
            self._open_file().unsynced.clear()

    def _open_file(self) -> _File:
        if self._file is None:
            raise _error(errno.EBADF, self._path)
        return self._file


class MemoryReadableFile:
    """`ReadableFile` of a `MemoryFileSystem`; reads on when the name is gone."""

    __slots__ = ("_file", "_lock", "_path", "pread")

    def __init__(self, file: _File, path: str, lock: threading.RLock) -> None:
        self._file: _File | None = file
        self._path = path
        self._lock = lock
        self.pread: Callable[[int, int], bytes] = self._pread

    def _pread(self, size_bytes: int, offset: int) -> bytes:
        with self._lock:
            content = self._open_file().content
            if size_bytes < 0 or offset < 0:
                raise _error(errno.EINVAL, self._path)
            return bytes(content[offset : offset + size_bytes])

    def size(self) -> int:
        with self._lock:
            return len(self._open_file().content)

    def close(self) -> None:
        self._file = None

    def _open_file(self) -> _File:
        if self._file is None:
            raise _error(errno.EBADF, self._path)
        return self._file


class MemoryFileLock:
    """`FileLock` of a `MemoryFileSystem`."""

    __slots__ = ("_file", "_lock")

    def __init__(self, file: _File, lock: threading.RLock) -> None:
        self._file: _File | None = file
        self._lock = lock

    def release(self) -> None:
        with self._lock:
            if self._file is not None:
                self._file.change(_Truncate(0))
                self._file.is_locked = False
                self._file = None

    def abandon(self) -> None:
        # The file stays locked, as on the disk, where the parent of this process holds it.
        self._file = None


class MemoryFileSystem:
    """`FileSystem` in memory, with clones that show what a crash leaves and means to damage files."""

    def __init__(self, *, boot_id: bytes = FIRST_BOOT) -> None:
        self._root = _Folder()
        self._boot_id = boot_id
        self._lock = threading.RLock()

    # The contract.

    def create(self, path: str) -> MemoryWritableFile:
        with self._lock:
            folder, name = self._place(path)
            if name in folder.entries:
                raise _error(errno.EEXIST, path)
            file = _File()
            _change_names((folder, name, file))
            return MemoryWritableFile(file, path, self._lock)

    def open_append(self, path: str) -> MemoryWritableFile:
        with self._lock:
            return MemoryWritableFile(self._file(path), path, self._lock)

    def open_read(self, path: str) -> MemoryReadableFile:
        with self._lock:
            return MemoryReadableFile(self._file(path), path, self._lock)

    def exists(self, path: str) -> bool:
        with self._lock:
            try:
                self._find(path)
            except OSError:
                return False
            return True

    def list_directory(self, path: str) -> list[str]:
        with self._lock:
            return sorted(self._folder(path).entries)

    def make_directory(self, path: str) -> None:
        with self._lock:
            folder = self._root
            parts = _parts(path)
            for position, part in enumerate(parts, 1):
                node = folder.entries.get(part)
                if node is None:
                    node = _Folder()
                    _change_names((folder, part, node))
                elif not isinstance(node, _Folder):
                    raise _error(errno.EEXIST if position == len(parts) else errno.ENOTDIR, path)
                folder = node

    def remove(self, path: str) -> None:
        with self._lock:
            self._file(path)
            folder, name = self._place(path)
            _change_names((folder, name, None))

    def remove_directory(self, path: str) -> None:
        with self._lock:
            if self._folder(path).entries:
                raise _error(errno.ENOTEMPTY, path)
            folder, name = self._place(path)
            _change_names((folder, name, None))

    def replace(self, source: str, target: str) -> None:
        with self._lock:
            # The order of the checks is Linux's, as the contract test compares every error with the disk's.
            source_folder, source_name = self._place(source)
            target_folder, target_name = self._place(target)
            node = self._find(source)
            replaced = target_folder.entries.get(target_name)
            if _is_inside(target, source):
                raise _error(errno.EINVAL, source, target)
            if _is_inside(source, target):
                raise _error(errno.ENOTEMPTY, source, target)
            if node is replaced:
                return  # rename(2) leaves two names of one file as they are
            if isinstance(node, _Folder):
                if isinstance(replaced, _File):
                    raise _error(errno.ENOTDIR, source, target)
                if replaced is not None and replaced.entries:
                    raise _error(errno.ENOTEMPTY, source, target)
            elif isinstance(replaced, _Folder):
                raise _error(errno.EISDIR, source, target)
            _change_names((source_folder, source_name, None), (target_folder, target_name, node))

    def link(self, source: str, target: str) -> None:
        with self._lock:
            node = self._find(source)
            folder, name = self._place(target)
            if name in folder.entries:
                raise _error(errno.EEXIST, source, target)
            if isinstance(node, _Folder):
                raise _error(errno.EPERM, source, target)
            _change_names((folder, name, node))

    def sync_directory(self, path: str) -> None:
        with self._lock:
            self._folder(path).sync()

    def lock(self, path: str) -> MemoryFileLock:
        with self._lock:
            folder, name = self._place(path)
            if name not in folder.entries:
                _change_names((folder, name, _File()))
            file = self._file(path)
            if file.is_locked:
                raise LockedError(f"{path}: the database is in use by this process; close it there")
            # No process number: the bytes would differ from run to run, and with them what a seed does.
            file.change(_Truncate(0))
            file.append(b"this process\n")
            file.is_locked = True
            return MemoryFileLock(file, self._lock)

    def boot_id(self) -> bytes:
        return self._boot_id

    # Crashes.

    def process_crash_clone(self, *, in_flight: Mapping[str, bytes] | None = None) -> MemoryFileSystem:
        """Return what the next process finds after kill -9: every completed write, and no locks.

        in_flight   bytes by path: the part that still went in of a write the kill interrupted.
                    `FaultFileSystem.in_flight` says which one that was
        """
        with self._lock:
            clone = MemoryFileSystem(boot_id=self._boot_id)
            clone._root = copy.deepcopy(self._root)
        for path, data in (in_flight or {}).items():
            clone._file(path).append(data)
        return clone

    def power_loss_clone(self, seed: int, unsynced_percent: int = 50) -> MemoryFileSystem:
        """Return what the next boot finds: everything synced, and chance decides about the rest.

        seed                equal seeds on equal content give equal clones
        unsynced_percent    how much of it survives on average; 0 is exactly what was synced, 100 is all
        """
        if not 0 <= unsynced_percent <= 100:
            raise ValueError(f"unsynced_percent must be from 0 to 100, not {unsynced_percent}")
        clone = self.process_crash_clone()
        clone._boot_id = hashlib.blake2b(self._boot_id + b"%d" % seed, digest_size=16).digest()
        random = Random(seed)
        nodes = clone._all_nodes()
        folders = [node for node in nodes if isinstance(node, _Folder)]
        for folder in folders:
            count = len(folder.unsynced)
            folder.settle(min(int(_share(random, unsynced_percent) * (count + 1)), count))
        # Only now, as settling a rename between folders settles changes of the other one as well.
        for folder in folders:
            folder.lose_unsynced()
        for node in nodes:
            if isinstance(node, _File):
                node.lose_power(random, unsynced_percent)
        return clone

    # Looking and damaging. A damaged file is first made durable, so that no crash mends it.

    def files(self) -> dict[str, bytes]:
        """Return the content of every file by its path, sorted."""
        with self._lock:
            return {path: bytes(file.content) for path, file in _walk(self._root, "")}

    def put_file(self, path: str, data: bytes) -> None:
        """Create a file, or overwrite it in place, and its folders; all of it durable at once."""
        with self._lock:
            self.make_directory(os.path.dirname(path) or "/")
            folder, name = self._place(path)
            if name not in folder.entries:
                _change_names((folder, name, _File()))
            file = self._file(path)
            file.content = bytearray(data)
            file.durable = bytearray(data)
            file.unsynced.clear()
            node = self._root
            for part in _parts(path)[:-1]:
                node.sync()
                child = node.entries[part]
                assert isinstance(child, _Folder)
                node = child
            node.sync()

    def flip(self, path: str, offset: int, mask: int = 0xFF) -> None:
        """Invert the bits `mask` of the byte at `offset`."""
        with self._lock:
            file = self._file(path)
            if not 0 <= offset < len(file.content) or not 1 <= mask <= 255:
                raise ValueError(f"{path}: no bits {mask:#x} at {offset} of {len(file.content)} bytes")
            data = bytearray(file.content)
            data[offset] ^= mask
            self.put_file(path, bytes(data))

    def truncate_file(self, path: str, size_bytes: int) -> None:
        """Cut a file to `size_bytes`."""
        with self._lock:
            content = self._file(path).content
            if not 0 <= size_bytes <= len(content):
                raise ValueError(f"{path}: cannot cut {len(content)} bytes to {size_bytes}")
            self.put_file(path, bytes(content[:size_bytes]))

    # Finding things. The caller holds the lock.

    def _find(self, path: str) -> _Node:
        return self._descend(path, _parts(path))

    def _descend(self, path: str, parts: list[str]) -> _Node:
        node: _Node = self._root
        for part in parts:
            if not isinstance(node, _Folder):
                raise _error(errno.ENOTDIR, path)
            found = node.entries.get(part)
            if found is None:
                raise _error(errno.ENOENT, path)
            node = found
        return node

    def _file(self, path: str) -> _File:
        node = self._find(path)
        if isinstance(node, _Folder):
            raise _error(errno.EISDIR, path)
        return node

    def _folder(self, path: str) -> _Folder:
        node = self._find(path)
        if isinstance(node, _File):
            raise _error(errno.ENOTDIR, path)
        return node

    def _place(self, path: str) -> tuple[_Folder, str]:
        """Return the folder that `path` is or would be in, and its name there."""
        parts = _parts(path)
        if not parts:
            raise _error(errno.EBUSY, path)
        node = self._descend(path, parts[:-1])
        if isinstance(node, _File):
            raise _error(errno.ENOTDIR, path)
        return node, parts[-1]

    def _all_nodes(self) -> list[_Node]:
        found: dict[_Node, None] = {}
        waiting: list[_Node] = [self._root]
        while waiting:
            node = waiting.pop()
            if node not in found:
                found[node] = None
                if isinstance(node, _Folder):
                    waiting.extend(node.nodes())
        return list(found)


def _walk(folder: _Folder, path: str) -> Iterator[tuple[str, _File]]:
    for name in sorted(folder.entries):
        node = folder.entries[name]
        if isinstance(node, _Folder):
            yield from _walk(node, f"{path}/{name}")
        else:
            yield f"{path}/{name}", node

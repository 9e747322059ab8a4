"""A file system that fails where a test says, around any other one.

    faults = FaultFileSystem(MemoryFileSystem(), fail_nth(7, errno.EIO))

Every operation that a disk can refuse gets the next index, from 0, and is written to `log`; then the plan
sees it and answers with a `Fault`, or with None to let it pass. A plan is any callable; these cover most:

    plan                                    what happens
    `no_faults`                             nothing; for counting and logging
    `fail_nth(n, errno)`                    operation n has no effect and raises OSError
    `fail_nth(n, errno, kind="sync")`       the same for the nth sync; all indexes are from 0
    `fail_when(predicate, errno)`           the same for every operation the predicate picks
    `inject_nth`, `inject_when`             the same with any fault
    `disk_full(capacity_bytes)`             writes go in as far as there is room, then raise ENOSPC
    `crash_at(n)`                           the process is killed at operation n, or in the middle of it
    `first_of(plan, plan, ...)`             the first plan with an answer

    fault                                   effect                      then
    `fail(errno)`                           none                        OSError
    `fail_after(errno)`                     whole                       OSError
    `short_write(size_bytes)`               so many bytes go in         returned as the count
    `torn_write(size_bytes, errno)`         so many bytes go in         OSError
    `failed_sync(errno)`                    the unsynced bytes never    OSError, only once
                                            become durable
    `crash(written_bytes)`                  so many bytes go in         SimulatedCrash, here and ever after
    `pause(gate)`                           waits for the event         as if nothing had been

A fault for writes only, given to something else, passes; one that raises as well has no effect there.

Not counted, because they do not fail: `exists`, `size`, `boot_id`, `close` and what a lock does. After a
crash all but closing and releasing are refused too, so threads in the background die at their next step.

Plans are called under a lock, one at a time: a plan may keep state, and must not block. `plan` may be set to
another one at any moment ("the disk has room again").
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from harness.memory_filesystem import MemoryWritableFile
from lamina.engine.filesystem import FileLock, FileSystem, ReadableFile, WritableFile

KINDS = frozenset(
    "create open_append open_read list_directory make_directory remove remove_directory replace link "
    "sync_directory lock read write sync truncate".split()
)

Result = TypeVar("Result")


class SimulatedCrash(BaseException):
    """The process is dead. Not an Exception, so that no handler in the engine outlives it."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One call, as the log keeps it and a plan sees it."""

    index: int
    kind: str
    path: str
    """The name as it was when the file was opened, even if it has another one by now."""
    target: str = ""
    """Of `replace` and `link`, the second path."""
    size_bytes: int = 0
    """Of `write` and `read`, what was asked for; of `truncate`, the new size."""


@dataclass(frozen=True, slots=True)
class Fault:
    """How much of an operation takes effect, and what is raised then."""

    effect_bytes: int | None = 0
    """Of a write, how many bytes go in at most. For all else, 0 is no effect. None is the whole, for both."""
    errno: int | None = None
    is_crash: bool = False
    forgets_unsynced: bool = False
    capacity_bytes: int | None = None
    """All files together take no more than this."""
    gate: threading.Event | None = None
    """The operation waits for it first, and holds no lock of ours while it does."""


Plan = Callable[[Operation], Fault | None]

_PASS = Fault(effect_bytes=None)


def fail(number: int) -> Fault:
    """Return the fault of an operation that does nothing and raises OSError."""
    return Fault(errno=number)


def fail_after(number: int) -> Fault:
    """Return the fault of an operation that is done and raises OSError all the same."""
    return Fault(effect_bytes=None, errno=number)


def short_write(size_bytes: int) -> Fault:
    """Return the fault of a write that takes no more than `size_bytes` and returns their count."""
    return Fault(effect_bytes=size_bytes)


def torn_write(size_bytes: int, number: int) -> Fault:
    """Return the fault of a write that takes no more than `size_bytes` and raises OSError."""
    return Fault(effect_bytes=size_bytes, errno=number)


def failed_sync(number: int = errno.EIO) -> Fault:
    """Return the fault of a sync that fails as Linux's does.

    The pages count as clean from then on: the next sync succeeds without writing them. Only a file of
    MemoryFileSystem can model that; on another this is `fail`.
    """
    return Fault(errno=number, forgets_unsynced=True)


def crash(written_bytes: int = 0) -> Fault:
    """Return the fault of an operation in which the process is killed, `written_bytes` into a write."""
    return Fault(effect_bytes=written_bytes, is_crash=True)


def pause(gate: threading.Event) -> Fault:
    """Return the fault of an operation that takes until `gate` is set, and then passes."""
    return Fault(effect_bytes=None, gate=gate)


def no_faults(operation: Operation) -> Fault | None:
    """Let everything pass."""
    return None


def inject_when(predicate: Callable[[Operation], bool], fault: Fault) -> Plan:
    """Return the plan that gives `fault` to every operation for which `predicate` is true."""
    return lambda operation: fault if predicate(operation) else None


def inject_nth(n: int, fault: Fault, *, kind: str | None = None) -> Plan:
    """Return the plan that gives `fault` to operation `n`, from 0; with `kind`, to the nth of that kind."""
    if kind is None:
        return lambda operation: fault if operation.index == n else None
    if kind not in KINDS:
        raise ValueError(f"no operation is called {kind!r}")
    seen = 0

    def plan(operation: Operation) -> Fault | None:
        nonlocal seen
        if operation.kind != kind:
            return None
        seen += 1
        return fault if seen == n + 1 else None

    return plan


def fail_when(predicate: Callable[[Operation], bool], number: int) -> Plan:
    """Return the plan that fails every operation for which `predicate` is true."""
    return inject_when(predicate, fail(number))


def fail_nth(n: int, number: int, *, kind: str | None = None) -> Plan:
    """Return the plan that fails operation `n`, from 0; with `kind`, the nth of that kind."""
    return inject_nth(n, fail(number), kind=kind)


def disk_full(capacity_bytes: int) -> Plan:
    """Return the plan of a disk on which files take `capacity_bytes` together.

    A write that does not fit goes in as far as it does, and the next one raises ENOSPC. What files take is
    their size, each counted once whatever its names; removing the last name or truncating gives it back at
    once, even if the file is still open. Files that were there before are counted when something is first
    done in their folder.
    """
    fault = Fault(effect_bytes=None, capacity_bytes=capacity_bytes)
    return inject_when(lambda operation: operation.kind == "write", fault)


def crash_at(n: int, *, written_bytes: int = 0) -> Plan:
    """Return the plan that kills the process at operation `n`, `written_bytes` into it if it is a write."""
    return inject_nth(n, crash(written_bytes))


def first_of(*plans: Plan) -> Plan:
    """Return the plan that asks each plan, and takes the first answer that is not None."""

    def plan(operation: Operation) -> Fault | None:
        answers = [each(operation) for each in plans]  # all are asked, as some count
        return next((answer for answer in answers if answer is not None), None)

    return plan


class FaultFileSystem:
    """`FileSystem` that passes everything to `inner`, except what `plan` says."""

    def __init__(self, inner: FileSystem, plan: Plan = no_faults) -> None:
        self.inner = inner
        self.plan = plan
        self.log: list[Operation] = []
        """Every operation so far, in order."""
        self.injected: list[Operation] = []
        """Those among them that were given a fault; empty says that a run met none."""
        self.in_flight: tuple[str, bytes] | None = None
        """After a crash in a write: the file, and the bytes that did not go in.

        Any prefix of them may be handed to `MemoryFileSystem.process_crash_clone`.
        """
        self._has_crashed = False
        self._space = _Space(inner)
        self._lock = threading.Lock()

    @property
    def has_crashed(self) -> bool:
        """Whether the process is dead."""
        return self._has_crashed

    def crash(self) -> None:
        """Kill the process between two operations."""
        self._has_crashed = True

    def used_bytes(self) -> int:
        """Return what `disk_full` compares with its capacity."""
        return self._space.used_bytes()

    # The contract.

    def create(self, path: str) -> FaultWritableFile:
        file = self._perform("create", path, lambda: self.inner.create(path))
        return FaultWritableFile(self, file, path, self._space.created(path))

    def open_append(self, path: str) -> FaultWritableFile:
        file = self._perform("open_append", path, lambda: self.inner.open_append(path))
        return FaultWritableFile(self, file, path, self._space.found(path))

    def open_read(self, path: str) -> FaultReadableFile:
        return FaultReadableFile(
            self, self._perform("open_read", path, lambda: self.inner.open_read(path)), path
        )

    def exists(self, path: str) -> bool:
        self._check_alive()
        return self.inner.exists(path)

    def list_directory(self, path: str) -> list[str]:
        return self._perform("list_directory", path, lambda: self.inner.list_directory(path))

    def make_directory(self, path: str) -> None:
        self._perform("make_directory", path, lambda: self.inner.make_directory(path))

    def remove(self, path: str) -> None:
        def effect() -> None:
            self._space.look_around(path)
            self.inner.remove(path)
            self._space.removed(path)

        self._perform("remove", path, effect)

    def remove_directory(self, path: str) -> None:
        self._perform("remove_directory", path, lambda: self.inner.remove_directory(path))

    def replace(self, source: str, target: str) -> None:
        def effect() -> None:
            self._space.look_around(source)
            self._space.look_around(target)
            self.inner.replace(source, target)
            self._space.replaced(source, target)

        self._perform("replace", source, effect, target=target)

    def link(self, source: str, target: str) -> None:
        def effect() -> None:
            self._space.look_around(source)
            self._space.look_around(target)
            self.inner.link(source, target)
            self._space.linked(source, target)

        self._perform("link", source, effect, target=target)

    def sync_directory(self, path: str) -> None:
        self._perform("sync_directory", path, lambda: self.inner.sync_directory(path))

    def lock(self, path: str) -> FileLock:
        return self._perform("lock", path, lambda: self.inner.lock(path))

    def boot_id(self) -> bytes:
        self._check_alive()
        return self.inner.boot_id()

    # Deciding and doing; the files below use these too.

    def _check_alive(self) -> None:
        """Raise SimulatedCrash if the process is dead."""
        if self._has_crashed:
            raise SimulatedCrash("the process was killed before this")

    def _decide(
        self, kind: str, path: str, *, target: str = "", size_bytes: int = 0, data: bytes = b""
    ) -> tuple[Operation, Fault]:
        """Log an operation and ask the plan about it; wait if it says so."""
        assert kind in KINDS, kind
        with self._lock:
            self._check_alive()
            operation = Operation(len(self.log), kind, path, target, size_bytes)
            self.log.append(operation)
            fault = self.plan(operation)
            if fault is None:
                return operation, _PASS
            if fault.capacity_bytes is None:
                self.injected.append(operation)
            if fault.is_crash:
                # Dead from here on for the other threads, though a part of this write is still to go in.
                self._has_crashed = True
                if kind == "write" and fault.effect_bytes is not None:
                    self.in_flight = (path, bytes(data[fault.effect_bytes :]))
        if fault.gate is not None:
            fault.gate.wait()
            self._check_alive()
        return operation, fault

    def _perform(
        self,
        kind: str,
        path: str,
        effect: Callable[[], Result],
        *,
        target: str = "",
        size_bytes: int = 0,
        forget: Callable[[], None] | None = None,
    ) -> Result:
        """Do an operation other than a write as the plan says."""
        operation, fault = self._decide(kind, path, target=target, size_bytes=size_bytes)
        if fault.effect_bytes is not None:
            if fault.forgets_unsynced and forget is not None:
                forget()
            _raise_fault(operation, fault)
        result = effect()
        _raise_fault(operation, fault)
        return result

    def _write(self, file: WritableFile, extent: _Extent, path: str, data: bytes) -> int:
        """Append as much of `data` as the plan and the room on the disk allow."""
        operation, fault = self._decide("write", path, size_bytes=len(data), data=data)
        wanted = len(data) if fault.effect_bytes is None else min(fault.effect_bytes, len(data))
        room = self._space.reserve(extent, wanted, fault.capacity_bytes)
        written = 0
        try:
            # An empty write is passed on as well: the file may be closed.
            if room or not data:
                written = file.write(data[:room])
        finally:
            self._space.give_back(extent, room - written)
        if room < wanted:
            with self._lock:
                self.injected.append(operation)
            if room == 0:
                _raise_fault(operation, fail(errno.ENOSPC))
        _raise_fault(operation, fault)
        return written

    def _read(self, file: ReadableFile, path: str, size_bytes: int, offset: int) -> bytes:
        return self._perform("read", path, lambda: file.pread(size_bytes, offset), size_bytes=size_bytes)

    def _truncate(self, file: WritableFile, extent: _Extent, path: str, size_bytes: int) -> None:
        """Cut a file, giving its bytes back to the disk."""

        def effect() -> None:
            file.truncate(size_bytes)
            self._space.truncated(extent, size_bytes)

        self._perform("truncate", path, effect, size_bytes=size_bytes)


class FaultWritableFile:
    """`WritableFile` of a `FaultFileSystem`."""

    __slots__ = ("_extent", "_file", "_fs", "_path", "write")

    def __init__(self, fs: FaultFileSystem, file: WritableFile, path: str, extent: _Extent) -> None:
        self._fs = fs
        self._file = file
        self._path = path
        self._extent = extent
        self.write: Callable[[bytes], int] = functools.partial(fs._write, file, extent, path)

    def sync(self) -> None:
        file = self._file
        forget = file.forget_unsynced if isinstance(file, MemoryWritableFile) else None
        self._fs._perform("sync", self._path, file.sync, forget=forget)

    def truncate(self, size_bytes: int) -> None:
        self._fs._truncate(self._file, self._extent, self._path, size_bytes)

    def close(self) -> None:
        self._file.close()


class FaultReadableFile:
    """`ReadableFile` of a `FaultFileSystem`."""

    __slots__ = ("_file", "_fs", "pread")

    def __init__(self, fs: FaultFileSystem, file: ReadableFile, path: str) -> None:
        self._fs = fs
        self._file = file
        # No bound method of our own: the cycle would keep the inner file open when the last reader drops us.
        self.pread: Callable[[int, int], bytes] = functools.partial(fs._read, file, path)

    def size(self) -> int:
        self._fs._check_alive()
        return self._file.size()

    def close(self) -> None:
        self._file.close()


def _raise_fault(operation: Operation, fault: Fault) -> None:
    """Raise what `fault` asks for, its effect being done."""
    if fault.is_crash:
        raise SimulatedCrash(f"killed at {operation}")
    if fault.errno is not None:
        raise OSError(fault.errno, os.strerror(fault.errno), operation.path)


@contextlib.contextmanager
def quiet_crashes() -> Iterator[None]:
    """Let threads die of SimulatedCrash without a word; pytest would call it a failure."""
    previous = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if not issubclass(arguments.exc_type, SimulatedCrash):
            previous(arguments)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = previous


class _Extent:
    """The bytes of one file, whatever its names."""

    __slots__ = ("links", "size_bytes")

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.links = 1


class _Space:
    """What the files take on the disk, as far as it can be seen from here."""

    def __init__(self, inner: FileSystem) -> None:
        self._inner = inner
        self._extents: dict[str, _Extent] = {}
        self._folders: set[str] = set()
        self._lock = threading.RLock()

    def used_bytes(self) -> int:
        with self._lock:
            return sum(extent.size_bytes for extent in dict.fromkeys(self._extents.values()))

    def look_around(self, path: str) -> None:
        """Count the files that were in the folder of `path` before we came."""
        folder = os.path.dirname(_normal(path))
        with self._lock:
            if folder in self._folders:
                return
            self._folders.add(folder)
            try:
                names = self._inner.list_directory(folder)
            except OSError:
                return
            for name in names:
                path = os.path.join(folder, name)
                if path not in self._extents:
                    size_bytes = _size(self._inner, path)
                    if size_bytes is not None:
                        self._extents[path] = _Extent(size_bytes)

    def created(self, path: str) -> _Extent:
        with self._lock:
            self.look_around(path)
            extent = self._extents[_normal(path)] = _Extent(0)
            return extent

    def found(self, path: str) -> _Extent:
        with self._lock:
            self.look_around(path)
            return self._extents.get(_normal(path)) or self.created(path)

    def reserve(self, extent: _Extent, wanted: int, capacity_bytes: int | None) -> int:
        """Take the room for a write and return how much there was of it."""
        with self._lock:
            if capacity_bytes is not None and extent.links:
                wanted = max(0, min(wanted, capacity_bytes - self.used_bytes()))
            extent.size_bytes += wanted
            return wanted

    def give_back(self, extent: _Extent, size_bytes: int) -> None:
        with self._lock:
            extent.size_bytes -= size_bytes

    def truncated(self, extent: _Extent, size_bytes: int) -> None:
        with self._lock:
            extent.size_bytes = size_bytes

    def removed(self, path: str) -> None:
        with self._lock:
            extent = self._extents.pop(_normal(path), None)
            if extent is not None:
                extent.links -= 1

    def replaced(self, source: str, target: str) -> None:
        source, target = _normal(source), _normal(target)
        with self._lock:
            extent = self._extents.get(source)
            if extent is None:
                self._folder_replaced(source, target)
            elif extent is not self._extents.get(target):
                self.removed(target)
                self._extents[target] = self._extents.pop(source)

    def _folder_replaced(self, source: str, target: str) -> None:
        for path in [path for path in self._extents if path.startswith(source + "/")]:
            self._extents[target + path.removeprefix(source)] = self._extents.pop(path)
        for folder in [folder for folder in self._folders if (folder + "/").startswith(source + "/")]:
            self._folders.remove(folder)
            self._folders.add(target + folder.removeprefix(source))

    def linked(self, source: str, target: str) -> None:
        with self._lock:
            extent = self.found(source)
            extent.links += 1
            self._extents[_normal(target)] = extent


def _normal(path: str) -> str:
    return os.path.normpath(path)


def _size(fs: FileSystem, path: str) -> int | None:
    """Return the size of a file, None for anything else."""
    try:
        file = fs.open_read(path)
    except OSError:
        return None
    try:
        file.pread(1, 0)  # a folder may be opened on a disk, not read
        return file.size()
    except OSError:
        return None
    finally:
        file.close()

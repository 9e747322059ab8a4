"""What is left of the write-ahead logs, by how much of a gap is put up with.

    strict          nothing: any damage at all, a torn end included, ends the repair
    tail            the end that opening would cut off, as a dead process or lost power leaves it; no damage
    point-in-time   everything up to the first damage, and nothing behind it: a state that there has been
    skip            everything that can be read. Writes that depended on each other may be torn apart

What is kept becomes one memtable, whose kinds are looked up anew (a frame that is missing makes those behind
it wrong about what exists), and is flushed. It is not written as a log: a new log beside the old ones, before
the manifest is replaced, would be damage to whoever opens the old database.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from lamina.engine.batch import DURABLE, LINK, MARK, decode_payload
from lamina.engine.checksum import file_salt
from lamina.engine.errors import EngineError
from lamina.engine.filenames import wal_name
from lamina.engine.filesystem import FileSystem
from lamina.engine.manifest import Manifest
from lamina.engine.memtable import Memtable
from lamina.engine.recovery import replay_logs
from lamina.engine.repair.frames import read_around
from lamina.engine.repair.report import Loss, RepairError
from lamina.engine.wal import FRAME, HEADER, Damage, good_frames, read_header

WalMode = Literal["strict", "tail", "point-in-time", "skip"]
WAL_MODES: tuple[WalMode, ...] = ("strict", "tail", "point-in-time", "skip")


class LogSalvage(NamedTuple):
    """What the logs hold. `is_whole`: nothing is wrong with them, so they can stay as they are. `ages`: the
    numbers of the first and the last."""

    memtable: Memtable
    losses: list[Loss]
    is_whole: bool
    frames: int
    ages: tuple[int, int]


class _Log(NamedTuple):
    """One log, and its good frames with their offsets."""

    name: str
    number: int
    size_bytes: int
    frames: list[tuple[int, bytes]]
    is_headed: bool
    is_named: bool

    @property
    def end(self) -> int:
        """Where the last good frame ends."""
        return self.frames[-1][0] + FRAME.size + len(self.frames[-1][1]) if self.frames else HEADER.size

    @property
    def link(self) -> tuple[int, int] | None:
        """The log before this one, and its size, if the first frame is there."""
        if self.frames and self.frames[0][0] == HEADER.size and self.frames[0][1][0] == LINK:
            _, number, size_bytes = MARK.unpack(self.frames[0][1])
            return number, size_bytes
        return None


class _Break(NamedTuple):
    """A place where something is missing."""

    offset: int | None
    what: str
    size_bytes: int = 0


_Event = tuple[int, bytes] | _Break
"""A frame, by its offset; or a place where something is missing."""


def salvage_logs(
    fs: FileSystem, directory: str, paths: dict[int, str], manifest: Manifest, mode: WalMode
) -> LogSalvage:
    """Read the logs of a database, by number, from `manifest.wal_first` on.

    Errors: RepairError if they are worse than `mode` puts up with; FormatVersionError; OSError.
    """
    if mode == "tail":
        _refuse_damage(fs, directory, manifest)
    first = manifest.wal_first
    logs = [_read(fs, paths[number], number, manifest.salt) for number in sorted(paths) if number >= first]
    memtable = Memtable(counted=manifest.counted, lock=threading.Lock())
    losses: list[Loss] = []
    frames = 0
    behind: dict[str, tuple[int, int]] = {}
    for log, event in _events(logs, first):
        is_over = bool(losses) and mode != "skip"
        if isinstance(event, _Break):
            if not is_over:
                losses.append(Loss(log.name, event.offset, event.what, event.size_bytes, None))
            continue
        offset, payload = event
        if is_over:
            count, size_bytes = behind.get(log.name, (0, 0))
            behind[log.name] = count + 1, size_bytes + len(payload)
        elif _apply(memtable, payload):
            frames += 1
        else:
            losses.append(Loss(log.name, offset, "a sound frame that makes no sense", len(payload), None))
    if mode == "strict" and losses:
        raise RepairError(f"{directory}: {losses[0].file}: {losses[0].what}: too much for the mode strict")
    for name, (count, size_bytes) in behind.items():
        what = f"{count} frames behind the first damage"
        losses.append(Loss(name, None, what, size_bytes, None))
    is_whole = not losses and all(log.is_headed and log.is_named for log in logs if log.frames)
    numbers = [log.number for log in logs if log.frames] or [first]
    return LogSalvage(memtable, losses, is_whole, frames, (numbers[0], numbers[-1]))


def _refuse_damage(fs: FileSystem, directory: str, manifest: Manifest) -> None:
    try:
        replay_logs(fs, directory, manifest, memtable_size_max_bytes=1 << 62, lock=threading.Lock())
    except EngineError as error:
        raise RepairError(f"the mode tail puts up with a torn end, and this is more: {error}") from error


def _read(fs: FileSystem, path: str, number: int, salt: int) -> _Log:
    file = fs.open_read(path)
    try:
        data = read_around(file, file.size(), 0)
    finally:
        file.close()
    header = read_header(path, data)
    own_salt = file_salt(salt, number)
    is_headed = not isinstance(header, Damage) and (header.salt, header.number) == (own_salt, number)
    frames = good_frames(data, own_salt, HEADER.size)
    name = os.path.basename(path)
    return _Log(name, number, len(data), frames, is_headed, name == wal_name(number))


def _events(logs: list[_Log], first: int) -> Iterator[tuple[_Log, _Event]]:
    """Yield frames that hold writes, and breaks, in the order of history."""
    last: _Log | None = None
    if first and (not logs or logs[0].number != first):
        missing = _Log(wal_name(first), first, 0, [], True, True)
        yield missing, _Break(None, "the log is missing")
    for log in logs:
        is_first = log.number == first
        if not log.frames and not is_first and log.size_bytes <= HEADER.size:
            continue  # never used, unless the next one says otherwise
        if log.size_bytes < HEADER.size:
            yield log, _Break(0, "nothing is left of the log")
        if last is not None and (found := _chain_break(log, last, first)) is not None:
            yield found
        at = HEADER.size
        for offset, payload in log.frames:
            if offset > at:
                yield log, _Break(at, "bytes that are no frame", offset - at)
            if payload[0] not in (DURABLE, LINK):
                yield log, (offset, payload)
            at = offset + FRAME.size + len(payload)
        if at < log.size_bytes:
            yield log, _Break(at, "the log ends with bytes that are no frame", log.size_bytes - at)
        last = log


def _chain_break(log: _Log, last: _Log, first: int) -> tuple[_Log, _Break] | None:
    """Hold a log's link against the log before it."""
    link = log.link
    if link is None:
        # Where the first bytes are no frame, that is said later.
        is_frame = bool(log.frames) and log.frames[0][0] == HEADER.size
        return (log, _Break(HEADER.size, "the link to the log before is missing")) if is_frame else None
    number, size_bytes = link
    if number != last.number:
        return log, _Break(None, f"the log before it, {number}, is missing or empty")
    if size_bytes != last.end and last.end == max(last.size_bytes, HEADER.size):
        missing = max(size_bytes - last.end, 0)
        return last, _Break(last.end, f"the log should have {size_bytes} bytes", missing)
    return None


def _apply(memtable: Memtable, payload: bytes) -> bool:
    try:
        decode_payload(payload)
    except (ValueError, OverflowError, MemoryError):
        return False
    memtable.replay([payload])
    return True


def rekinded(memtable: Memtable, exists: Callable[[bytes], bool]) -> Memtable:
    """Return the same memtable with kinds that agree with what is live in the layers below."""
    if not memtable.counted:
        return memtable
    right = Memtable(counted=True, lock=threading.Lock())
    right.discards = memtable.discards
    values: dict[bytes, bytes | None] = {**memtable.inserted, **memtable.based}
    for key, value in values.items():
        if exists(key):
            right.based[key] = value
        elif value is not None:
            right.inserted[key] = value
    return right


def decoded_kinds(data: bytes, salt: int) -> bytes:
    """Return the kinds of all entries in the good frames of a log."""
    found: list[bytes] = []
    for _, payload in good_frames(data, salt, HEADER.size):
        if payload[0] not in (DURABLE, LINK):
            with contextlib.suppress(ValueError):
                found.append(decode_payload(payload).kinds)
    return b"".join(found)

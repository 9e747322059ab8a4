"""What opening a database finds: the manifest, the logs to replay, and the files that belong to nobody.

Logs form a chain, each one naming its predecessor and that one's size, so a missing or shortened log is
noticed. Replay stops where the head of wal.py says that it may; otherwise it ends in CorruptionError, with
nothing changed on disk.
"""

from __future__ import annotations

import contextlib
import os
from contextlib import AbstractContextManager
from typing import NamedTuple

from lamina.engine.checksum import file_salt
from lamina.engine.errors import CorruptionError
from lamina.engine.filenames import MANIFEST, is_temporary, parse_name, wal_name
from lamina.engine.filesystem import FileSystem, read_file
from lamina.engine.manifest import Manifest, read_manifest
from lamina.engine.memtable import Memtable
from lamina.engine.wal import HEADER, NOTE_SIZE_BYTES, Damage, WalContents, judge, read_wal


class Cut(NamedTuple):
    """Where replay ended before the end of what is there: cut `path` to `size_bytes`, remove the logs in
    `dropped`."""

    path: str
    size_bytes: int
    dropped: list[int]
    lost_bytes: int


class Replay(NamedTuple):
    """What the logs hold. `memtables` oldest first; `last_number`, `last_size_bytes`: the newest log that was
    replayed; `is_noted`: it says of itself that it was synced to its end, as it does after a clean close.
    `unsynced`: the logs that hold more than any log says was synced."""

    memtables: list[Memtable]
    last_number: int
    last_size_bytes: int
    unused: list[int]
    cut: Cut | None
    is_noted: bool = False
    unsynced: tuple[int, ...] = ()


def find_manifest(fs: FileSystem, directory: str) -> Manifest | None:
    """Return the manifest; None where no database has been created (or its creation did not get far).

    Errors: CorruptionError if there is no manifest although there is data.
    """
    with contextlib.suppress(FileNotFoundError):
        return read_manifest(fs, directory)
    for name in list_files(fs, directory):
        parsed = parse_name(name)
        path = os.path.join(directory, name)
        if parsed is not None and (parsed[0] == "seg" or len(read_file(fs, path)) > HEADER.size):
            raise CorruptionError(
                os.path.join(directory, MANIFEST), 0, f"the manifest is missing, but {name} is there"
            )
    return None


def list_files(fs: FileSystem, directory: str) -> list[str]:
    """Return the names in the database's folder; none if there is no folder."""
    return fs.list_directory(directory) if fs.exists(directory) else []


def replay_logs(
    fs: FileSystem,
    directory: str,
    manifest: Manifest,
    *,
    memtable_size_max_bytes: int,
    lock: AbstractContextManager[object],
) -> Replay:
    """Read all logs from `manifest.wal_first` on into memtables. Changes nothing on disk.

    A log belongs to one memtable; a memtable takes logs until it has `memtable_size_max_bytes`. Errors:
    CorruptionError, FormatVersionError, OSError. Cost: 1 µs per entry.
    """
    logs = _read_logs(fs, directory, manifest.wal_first, manifest.salt)
    durable = _durable_sizes(logs)
    unsynced = tuple(
        number
        for number, contents in logs.items()
        if contents.size_bytes > max(durable.get(number, 0) + NOTE_SIZE_BYTES, HEADER.size)
    )
    boot_id = fs.boot_id()
    memtables: list[Memtable] = []
    unused: list[int] = []
    last_number = last_size = 0
    memtable: Memtable | None = None
    numbers = sorted(logs)
    followed = {contents.link[0] for contents in logs.values() if contents.link is not None}
    for index, number in enumerate(numbers):
        contents = logs[number]
        path = os.path.join(directory, wal_name(number))
        is_empty = contents.link is None and not contents.payloads and contents.damage is None
        if last_number and is_empty and number not in followed:
            unused.append(number)
            continue
        if last_number:
            later = any(logs[n].payloads or logs[n].link for n in numbers[index + 1 :])
            if not _follows(path, contents, logs[last_number], durable, boot_id, is_newest=not later):
                cut = _cut(fs, directory, logs, last_number)
                return Replay(memtables, last_number, last_size, unused, cut, unsynced=unsynced)
        if memtable is None or memtable.size_bytes >= memtable_size_max_bytes:
            memtable = Memtable(counted=manifest.counted, lock=lock)
            memtables.append(memtable)
        memtable.wals.append(number)
        _apply(path, contents, memtable)
        last_number, last_size = number, contents.size_bytes
        if contents.damage is not None:
            later = any(logs[n].payloads or logs[n].link for n in numbers[index + 1 :])
            judge(
                path,
                contents,
                is_newest=not later,
                durable_size_bytes=durable.get(number, 0),
                boot_id=boot_id,
            )
            cut = _cut(fs, directory, logs, number)
            return Replay(memtables, last_number, last_size, unused, cut, unsynced=unsynced)
    is_noted = logs[last_number].durable.get(last_number, 0) + NOTE_SIZE_BYTES >= last_size
    return Replay(memtables, last_number, last_size, unused, None, is_noted, unsynced)


def _read_logs(fs: FileSystem, directory: str, first: int, salt: int) -> dict[int, WalContents]:
    names = [parsed for name in fs.list_directory(directory) if (parsed := parse_name(name)) is not None]
    logs: dict[int, WalContents] = {}
    for kind, number in sorted(names):
        if kind != "wal" or number < first:
            continue
        path = os.path.join(directory, wal_name(number))
        data = read_file(fs, path)
        contents = read_wal(path, data)
        if isinstance(contents, Damage):
            # Header and name of a log are synced before its first frame: a bad header with something behind
            # it has been changed since, one without was never used.
            if len(data) > HEADER.size or number == first:
                raise CorruptionError(path, contents.offset, contents.what)
            continue
        if contents.header.number != number:
            raise CorruptionError(path, 0, "log number", number, contents.header.number)
        if contents.header.salt != file_salt(salt, number):
            raise CorruptionError(path, 0, "a log of another database")
        logs[number] = contents
    if first not in logs:
        raise CorruptionError(os.path.join(directory, wal_name(first)), 0, "the log is missing")
    return logs


def _durable_sizes(logs: dict[int, WalContents]) -> dict[int, int]:
    """Return up to where each log is known to have been synced."""
    sizes: dict[int, int] = {}
    newest = 0
    for contents in logs.values():
        for number, size in contents.durable.items():
            sizes[number] = max(size, sizes.get(number, 0))
            newest = max(newest, number)
    # Logs are synced in order: what is said of one says that its predecessors are whole.
    return sizes | {number: 1 << 62 for number in logs if number < newest}


def _follows(
    path: str,
    contents: WalContents,
    previous: WalContents,
    durable: dict[int, int],
    boot_id: bytes,
    *,
    is_newest: bool,
) -> bool:
    """Hold a log's link against its predecessor; False if replay ends with the predecessor. Errors:
    CorruptionError."""
    number = contents.header.number
    if contents.link is None:
        # The link is the first frame: where it is lost, so is everything in this log.
        if contents.damage is None and contents.payloads:
            raise CorruptionError(path, HEADER.size, "the link to the log before is missing")
        if contents.damage is None:
            contents = contents._replace(damage=Damage(HEADER.size, "all frames are missing", True))
        judge(path, contents, is_newest=is_newest, durable_size_bytes=durable.get(number, 0), boot_id=boot_id)
        return False
    linked, size = contents.link
    if linked != previous.header.number:
        raise CorruptionError(path, HEADER.size, "log before this one", linked, previous.header.number)
    if size == previous.size_bytes:
        return True
    damage = Damage(previous.size_bytes, f"the log should have {size} bytes", True)
    where = os.path.join(os.path.dirname(path), wal_name(linked))
    shortened = previous._replace(damage=damage)
    judge(where, shortened, is_newest=False, durable_size_bytes=durable.get(linked, 0), boot_id=boot_id)
    return False


def _cut(fs: FileSystem, directory: str, logs: dict[int, WalContents], number: int) -> Cut:
    path = os.path.join(directory, wal_name(number))
    dropped = [other for other in logs if other > number]
    lost = len(read_file(fs, path)) - logs[number].size_bytes
    lost += sum(logs[other].size_bytes - HEADER.size for other in dropped)
    return Cut(path, logs[number].size_bytes, dropped, lost)


def _apply(path: str, contents: WalContents, memtable: Memtable) -> None:
    try:
        memtable.replay(contents.payloads)
    except ValueError as error:
        raise CorruptionError(path, 0, f"a frame of the log is sound, but {error}") from None


def sweep(fs: FileSystem, directory: str, manifest: Manifest, replay: Replay) -> None:
    """Carry out what replay decided: cut the torn log, remove what belongs to nobody.

    Only for the holder of the lock. Idempotent: a crash in the middle leaves work for the next opening.
    """
    if replay.cut is not None:
        # Later logs first, the last one before all others: each is contradicted by those that follow it.
        for number in sorted(replay.cut.dropped, reverse=True):
            fs.remove(os.path.join(directory, wal_name(number)))
        fs.sync_directory(directory)
        file = fs.open_append(replay.cut.path)
        try:
            file.truncate(replay.cut.size_bytes)
            file.sync()
        finally:
            file.close()
    live = {piece.segment for runs in manifest.levels for run in runs for piece in run.slices}
    logs = {number for memtable in replay.memtables for number in memtable.wals}
    for name in list_files(fs, directory):
        parsed = parse_name(name)
        if is_temporary(name) or (
            parsed is not None and parsed[1] not in (live if parsed[0] == "seg" else logs)
        ):
            with contextlib.suppress(FileNotFoundError):
                fs.remove(os.path.join(directory, name))

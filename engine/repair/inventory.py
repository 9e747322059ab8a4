"""What there is of a damaged database: its manifest, the salt, and which file is which.

A file's header holds a salt that is made of the database's salt and the file's number, so a file that was
given another's name is known for what it is, and one of another database as a stranger.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import NamedTuple

from lamina.engine.checksum import file_salt
from lamina.engine.entry import INSERT, REMOVE
from lamina.engine.errors import CorruptionError
from lamina.engine.filenames import parse_name
from lamina.engine.filesystem import FileSystem, read_file
from lamina.engine.manifest import Manifest, read_manifest
from lamina.engine.recovery import list_files
from lamina.engine.repair.frames import read_around
from lamina.engine.repair.logs import decoded_kinds
from lamina.engine.repair.report import RepairError
from lamina.engine.segment import format as fmt
from lamina.engine.segment.check import open_uncached
from lamina.engine.wal import Damage, read_header

_MULTIPLIER = file_salt(0, 1)
_INVERSE = pow(_MULTIPLIER, -1, 1 << 32)
_UINT32 = 0xFFFFFFFF
_HEAD_SIZE_BYTES = 64


class Inventory(NamedTuple):
    """What was found. `segments` and `logs`: where the file of each number is; `strangers`: files of other
    databases. `manifest` says what is known; `is_known` whether it was read from the disk."""

    manifest: Manifest
    is_known: bool
    segments: dict[int, str]
    logs: dict[int, str]
    strangers: list[str]
    next_number: int


class _File(NamedTuple):
    kind: str
    number: int
    path: str
    salt: int | None
    """What the header says; None if there is no sound header."""


def take_inventory(fs: FileSystem, directory: str) -> Inventory:
    """Look at all headers. Errors: RepairError if there is no database; FormatVersionError; OSError."""
    manifest: Manifest | None = None
    try:
        manifest = read_manifest(fs, directory)
    except (FileNotFoundError, CorruptionError):
        pass
    files = [_look(fs, directory, name) for name in list_files(fs, directory) if parse_name(name)]
    if manifest is None and not files:
        raise RepairError(f"{directory}: there is no database here")
    salt = _salt(files) if manifest is None else manifest.salt
    if salt is None:
        raise RepairError(f"{directory}: neither the manifest nor the header of any file can be read")
    numbers = [file.number for file in files]
    named = (
        set() if manifest is None else {s.segment for runs in manifest.levels for r in runs for s in r.slices}
    )
    places: dict[str, dict[int, str]] = {"seg": {}, "wal": {}}
    strangers: list[str] = []
    misnamed: list[tuple[_File, int]] = []
    for file in files:
        number = file.number
        if file.salt is not None and file.salt != file_salt(salt, number):
            # Solve file_salt for the number.
            number = ((file.salt - salt) * _INVERSE) & _UINT32
            if number in named or number <= max(numbers):
                misnamed.append((file, number))
            else:
                strangers.append(file.path)
            continue
        places[file.kind][number] = file.path
    for file, number in misnamed:
        places[file.kind].setdefault(number, file.path)
    highest = max([*numbers, *places["seg"], *places["wal"], 0])
    if manifest is None:
        known = _made_up(fs, directory, salt, places, highest)
        return Inventory(known, False, places["seg"], places["wal"], strangers, highest + 1)
    next_number = max(manifest.next_number, highest + 1)
    return Inventory(manifest, True, places["seg"], places["wal"], strangers, next_number)


def _look(fs: FileSystem, directory: str, name: str) -> _File:
    parsed = parse_name(name)
    assert parsed is not None
    path = os.path.join(directory, name)
    file = fs.open_read(path)
    try:
        head = read_around(file, _HEAD_SIZE_BYTES, 0)
    finally:
        file.close()
    salt: int | None = None
    if parsed[0] == "seg":
        try:
            salt = fmt.decode_header(path, head[: fmt.HEADER.size])
        except CorruptionError:
            salt = None
    else:
        header = read_header(path, head)
        salt = None if isinstance(header, Damage) else header.salt
    return _File(*parsed, path, salt)


def _salt(files: list[_File]) -> int | None:
    """Return the database's salt by what most files say."""
    votes = Counter(
        (file.salt - _MULTIPLIER * file.number) & _UINT32 for file in files if file.salt is not None
    )
    return votes.most_common(1)[0][0] if votes else None


def _made_up(
    fs: FileSystem, directory: str, salt: int, places: dict[str, dict[int, str]], highest: int
) -> Manifest:
    """Return a manifest of what can be told without one; the levels are left to others."""
    found: list[fmt.Properties] = []
    for number, path in places["seg"].items():
        try:
            found.append(open_uncached(fs, os.path.dirname(path), number).properties)
        except (CorruptionError, OSError, LookupError, ValueError, ArithmeticError):
            continue  # it is damaged, or misnamed: others will tell
    counted = Counter(p.counted for p in found).most_common(1)
    created_s = min([p.created_s for p in found], default=int(time.time()))
    # What is flushed is flushed in order: later logs are in no segment.
    flushed = max([p.age_last for p in found], default=0)
    first = min([number for number in places["wal"] if number > flushed], default=0)
    is_counted = counted[0][0] if counted else _counted_by_logs(fs, places["wal"], salt)
    discards_last = max([p.discards_applied for p in found], default=0)
    return Manifest(is_counted, salt, created_s, highest + 1, first, [], [], discards_last)


def _counted_by_logs(fs: FileSystem, logs: dict[int, str], salt: int) -> bool:
    kinds = b"".join(
        decoded_kinds(read_file(fs, path), file_salt(salt, number)) for number, path in logs.items()
    )
    # The first entry of a key in a counted database is an INSERT.
    return not kinds or INSERT in kinds or REMOVE in kinds

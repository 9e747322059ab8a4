"""The write-ahead log: one file for each memtable (or a few, after restarts).

    header   magic:8s version:u32 number:u64 salt:u32 boot:16s crc:u32
    frame*   size:u32 ~size:u32 crc:u32 payload[size]        payloads are drawn in batch.py

A frame is atomic: it is replayed whole or not at all. Its checksum is seeded with the log's salt plus the
frame's offset, so that bytes of a log stored as a value are never taken for frames. The size is stored twice
(once inverted), which tells a damaged header from a write that was cut short, and lets a reader find the next
frame behind damage.

A log is created, header and name synced, before it is needed. When it comes into use its first frame is a
`link`: the number and final size of the log before it. A log without frames was never used.

What a bad frame means (`judge`):

* it is cut short by the end of the newest log: the process died in a write. Normal; the tail is cut.
* the machine has not rebooted since (same boot id), or later frames say the place had been synced, or nothing
  is known and good frames follow: bytes were changed after they were written. Corruption: opening refuses.
* the machine may have lost power and the place was never synced: writes since the last sync reached the disk
  in any order. The log is cut there, and the logs after it are dropped: what is kept is a prefix of history.

For the last two, frames of kind `durable` record what had been synced; they ride in front of the next frame.
"""

from __future__ import annotations

import contextlib
import os
import struct
from typing import NamedTuple

from lamina.engine.batch import DURABLE, LINK, MARK
from lamina.engine.checksum import crc32c, file_salt
from lamina.engine.errors import CorruptionError, FormatVersionError
from lamina.engine.filenames import wal_name
from lamina.engine.filesystem import FileSystem, write_all

WAL_VERSION = 1
HEADER = struct.Struct("<8sIQI16sI")
HEADER_MAGIC = b"LAMINWAL"
FRAME = struct.Struct("<III")
assert HEADER.size == 44 and FRAME.size == 12

NOTE_SIZE_BYTES = FRAME.size + MARK.size
"""Size of a frame that holds a `durable` or `link` note."""

_UINT32 = 0xFFFFFFFF
_pack_frame = FRAME.pack


class WalWriter:
    """Appends frames to one log.

    `append` is called under the database's lock; `sync` by any thread without it.
    """

    def __init__(self, fs: FileSystem, directory: str, number: int, *, database_salt: int = 0) -> None:
        """Create log `number` and make its header and name durable. Errors: OSError. Cost: two syncs."""
        self.number = number
        self.path = os.path.join(directory, wal_name(number))
        self._salt = file_salt(database_salt, number)
        head = HEADER.pack(HEADER_MAGIC, WAL_VERSION, number, self._salt, fs.boot_id(), 0)[:-4]
        head += crc32c(0, head).to_bytes(4, "little")
        self._file = fs.create(self.path)
        try:
            write_all(self._file, head)
            self._file.sync()
            fs.sync_directory(directory)
        except OSError:
            self._file.close()
            with contextlib.suppress(OSError):
                fs.remove(self.path)
            raise
        self._write = self._file.write
        self.size_bytes = len(head)
        self.durable_size_bytes = len(head)
        self._notes: list[bytes] = []
        self._tail_dirty = False

    def append(self, payload: bytes) -> None:
        """Append one frame. After an OSError the log is as it was before.

        Cost: one write call, 1 µs for a small frame.
        """
        if self._tail_dirty or self._notes:
            self._prepare()
        offset = self.size_bytes
        size = len(payload)
        frame = _pack_frame(size, size ^ _UINT32, crc32c((self._salt + offset) & _UINT32, payload)) + payload
        try:
            written = self._write(frame)
            if written != len(frame):
                write_all(self._file, frame[written:])
        except OSError:
            self._tail_dirty = True
            with contextlib.suppress(OSError):
                self._cut_tail()
            raise
        self.size_bytes = offset + len(frame)

    def note_link(self, number: int, size_bytes: int) -> None:
        """Have the first frame say that this log follows log `number`, which ends at `size_bytes`."""
        self._notes.insert(0, MARK.pack(LINK, number, size_bytes))

    def note_durable(self, number: int, size_bytes: int) -> None:
        """Have the next frame preceded by the note that log `number` is synced up to `size_bytes`.

        Logs are synced in order, so this says that all earlier logs are durable as well; an earlier note that
        has not been written yet is superseded.
        """
        self._notes = [note for note in self._notes if note[0] != DURABLE]
        self._notes.append(MARK.pack(DURABLE, number, size_bytes))

    @property
    def is_unused(self) -> bool:
        """Whether no frame has been written."""
        return self.size_bytes == HEADER.size

    def seal(self) -> None:
        """Cut what a failed write may have left behind: what follows is another log. Errors: OSError."""
        if self._tail_dirty:
            self._cut_tail()

    def write_notes(self) -> None:
        """Write the notes that are due now, without waiting for a frame."""
        if self._notes:
            self._prepare()

    def sync(self) -> None:
        """Make everything appended so far durable. Errors: OSError, after which nothing is known."""
        size_bytes = self.size_bytes
        if size_bytes > self.durable_size_bytes:
            self._file.sync()
            self.durable_size_bytes = size_bytes

    def close(self) -> None:
        """Close the file without syncing it."""
        self._file.close()

    def _prepare(self) -> None:
        """Cut what a failed write left behind, then write the notes that are due."""
        if self._tail_dirty:
            self._cut_tail()
        notes, self._notes = self._notes, []
        try:
            for note in notes:
                self.append(note)
        except OSError:
            self._notes = notes  # to write one twice does no harm
            raise

    def _cut_tail(self) -> None:
        self._file.truncate(self.size_bytes)
        self._tail_dirty = False


class WalHeader(NamedTuple):
    """The decoded header of a log."""

    number: int
    salt: int
    boot_id: bytes


class Damage(NamedTuple):
    """Where a log stops making sense. `is_short`: the file ends inside the frame, whose header is sound."""

    offset: int
    what: str
    is_short: bool


class WalContents(NamedTuple):
    """What could be read of a log: payloads of the good frames before the first damage, and what lies behind
    it.

    `durable` maps log numbers to sizes that are said to be synced, by frames before or behind the damage;
    `link` is (number, size) of the log before this one, None if this one was never used.
    """

    header: WalHeader
    payloads: list[bytes]
    size_bytes: int
    damage: Damage | None
    frames_behind: int
    durable: dict[int, int]
    link: tuple[int, int] | None


def read_wal(path: str, data: bytes) -> WalContents | Damage:
    """Parse a whole log. Damage is returned, not raised; a bare Damage means that the header itself is bad.

    Errors: FormatVersionError. Cost: 0.5 µs per frame.
    """
    header = read_header(path, data)
    if isinstance(header, Damage):
        return header
    payloads: list[bytes] = []
    durable: dict[int, int] = {}
    link: tuple[int, int] | None = None
    salt = header.salt
    offset = HEADER.size
    end = len(data)
    unpack, frame_size = FRAME.unpack_from, FRAME.size
    damage: Damage | None = None
    while offset < end:
        body = offset + frame_size
        if body > end:
            damage = Damage(offset, "frame header is cut short", True)
            break
        size, inverse, crc = unpack(data, offset)
        if size ^ inverse != _UINT32:
            damage = Damage(offset, "frame header is damaged", False)
            break
        payload = data[body : body + size]
        if len(payload) != size:
            damage = Damage(offset, "frame is cut short", True)
            break
        if crc32c((salt + offset) & _UINT32, payload) != crc or not payload:
            damage = Damage(offset, "frame checksum", False)
            break
        if payload[0] < DURABLE:
            payloads.append(payload)
        elif payload[0] == LINK:
            link = MARK.unpack(payload)[1:]
        else:
            _note(durable, payload)
        offset = body + size
    behind = 0
    if damage is not None:
        for payload in frames_behind(data, salt, damage.offset + 1):
            behind += 1
            if payload[0] == DURABLE:
                _note(durable, payload)
    return WalContents(header, payloads, offset, damage, behind, durable, link)


def _note(durable: dict[int, int], payload: bytes) -> None:
    _, number, size = MARK.unpack(payload)
    durable[number] = max(size, durable.get(number, 0))


def read_header(path: str, data: bytes) -> WalHeader | Damage:
    """Return the header of a log. Errors: FormatVersionError."""
    if len(data) < HEADER.size:
        return Damage(0, "log header is cut short", True)
    magic, version, number, salt, boot, crc = HEADER.unpack_from(data)
    if magic != HEADER_MAGIC or crc32c(0, data[: HEADER.size - 4]) != crc:
        return Damage(0, "log header checksum", False)
    if version != WAL_VERSION:
        raise FormatVersionError(f"{path}: log version {version} is not known here (up to {WAL_VERSION} is)")
    return WalHeader(number, salt, boot)


def frames_behind(data: bytes, salt: int, start: int) -> list[bytes]:
    """Return the payloads of all good frames found at or behind `start`, at whatever offset they lie."""
    return [payload for _, payload in good_frames(data, salt, start)]


def good_frames(data: bytes, salt: int, start: int) -> list[tuple[int, bytes]]:
    """Return offset and payload of all good frames at or behind `start`, wherever they lie.

    A frame's first eight bytes are a size and its inverse. All places where that holds are found at once: the
    bytes, taken as one large integer, xor themselves shifted by four bytes, show ``ff ff ff ff`` there.
    """
    tail = data[start:]
    if len(tail) <= FRAME.size:
        return []
    number = int.from_bytes(tail, "little")
    candidates = (number ^ (number >> 32)).to_bytes(len(tail), "little")
    frames: list[tuple[int, bytes]] = []
    at = candidates.find(b"\xff\xff\xff\xff")
    while 0 <= at <= len(tail) - FRAME.size:
        size, _, crc = FRAME.unpack_from(tail, at)
        body = at + FRAME.size
        payload = tail[body : body + size]
        if size and len(payload) == size and crc32c((salt + start + at) & _UINT32, payload) == crc:
            frames.append((start + at, payload))
            at = candidates.find(b"\xff\xff\xff\xff", body + size)
        else:
            at = candidates.find(b"\xff\xff\xff\xff", at + 1)
    return frames


def judge(
    path: str, contents: WalContents, *, is_newest: bool, durable_size_bytes: int, boot_id: bytes
) -> bool:
    """Decide about a damaged log: True if it may be cut at the damage, CorruptionError if it may not.

    `durable_size_bytes` is up to where any log says that this one had been synced. See the head of this file.
    """
    damage = contents.damage
    assert damage is not None
    if damage.offset < durable_size_bytes:
        raise CorruptionError(
            path, damage.offset, f"{damage.what}, in a part of the log that had been synced"
        )
    known = any(boot_id) and any(contents.header.boot_id)
    if known and boot_id != contents.header.boot_id:
        return True
    if damage.is_short and is_newest and not contents.frames_behind:
        return True
    if known or contents.frames_behind or not is_newest:
        raise CorruptionError(path, damage.offset, damage.what)
    return True

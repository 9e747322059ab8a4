"""A write-ahead log as it lies on the disk: its frames with their offsets, and what is behind damage.

The verdict on a log is `read_wal`'s, of the engine; here its frames are found again, one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from lamina.engine.batch import BATCH, DURABLE, LINK, MARK, Operations, decode_payload
from lamina.engine.filesystem import DiskFileSystem, read_file
from lamina.engine.wal import FRAME, HEADER, Damage, WalHeader, frames_behind, read_wal

KINDS: Final = {BATCH: "batch", DURABLE: "durable", LINK: "link"}
_INVERSE: Final = 0xFFFFFFFF


class WalFrame(NamedTuple):
    """One frame. `is_behind`: it lies behind damage, so it is not replayed."""

    offset: int
    payload: bytes
    is_behind: bool = False

    @property
    def size_bytes(self) -> int:
        """Bytes in the file."""
        return FRAME.size + len(self.payload)

    @property
    def kind(self) -> str:
        """What the payload is: entry, batch, durable, link."""
        return KINDS.get(self.payload[0], "entry")

    @property
    def mark(self) -> tuple[int, int] | None:
        """The log and the size that a link or a durable mark names."""
        if self.payload[0] in (DURABLE, LINK) and len(self.payload) == MARK.size:
            _, number, size_bytes = MARK.unpack(self.payload)
            return number, size_bytes
        return None

    def operations(self) -> Operations:
        """Return the writes. Errors: ValueError for a payload that holds none."""
        if self.payload[0] in (DURABLE, LINK):
            return Operations([], [], b"", [])
        return decode_payload(self.payload)


class WalFile:
    """One log, read whole. `header` is None where that is damaged: then there are no frames."""

    def __init__(self, path: str) -> None:
        """Read it. Errors: OSError, FormatVersionError."""
        self.path = path
        self._data = read_file(DiskFileSystem(), path)
        self.size_bytes = len(self._data)
        contents = read_wal(path, self._data)
        self.header: WalHeader | None = None
        self.damage: Damage | None = None
        self.sound_bytes = 0
        self.frames_behind = 0
        if isinstance(contents, Damage):
            self.damage = contents
            return
        self.header = contents.header
        self.damage = contents.damage
        self.sound_bytes = contents.size_bytes
        self.frames_behind = contents.frames_behind

    def frames(self) -> Iterator[WalFrame]:
        """Yield the sound frames in order, those behind damage last."""
        header = self.header
        if header is None:
            return
        data, offset = self._data, HEADER.size
        while offset < self.sound_bytes:
            size_bytes, _, _ = FRAME.unpack_from(data, offset)
            payload = data[offset + FRAME.size : offset + FRAME.size + size_bytes]
            yield WalFrame(offset, payload)
            offset += FRAME.size + size_bytes
        if self.damage is None:
            return
        offset = self.damage.offset + 1
        for payload in frames_behind(data, header.salt, offset):
            offset = self._offset_of(payload, offset)
            yield WalFrame(offset, payload, is_behind=True)
            offset += FRAME.size + len(payload)

    def _offset_of(self, payload: bytes, start: int) -> int:
        """Return where a frame that is known to lie at or behind `start` begins."""
        data = self._data
        at = data.index(payload, start + FRAME.size)
        while True:
            size_bytes, inverse, _ = FRAME.unpack_from(data, at - FRAME.size)
            if size_bytes == len(payload) and size_bytes ^ inverse == _INVERSE:
                return at - FRAME.size
            at = data.index(payload, at + 1)

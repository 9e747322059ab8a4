"""A segment file as it lies on the disk, frame by frame, whatever has become of its indexes.

    walk     every frame from the header to the footer; where bytes are damaged the walk goes on at the next
             place that makes sense, and tells what it has passed over
    blocks   the data blocks among them, decoded: in key order, as a sound file has them

Neither index nor footer is needed: only the header, which holds the salt that checksums are seeded with.
Memory: one frame.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from lamina.engine import CorruptionError
from lamina.engine.filenames import parse_name
from lamina.engine.filesystem import DiskFileSystem, ReadableFile
from lamina.engine.segment import format as fmt
from lamina.engine.segment.block import Block

NAMES: Final = {fmt.DATA: "block", fmt.PART: "index", fmt.TOP: "top index", fmt.PROPERTIES: "properties"}
CODECS: Final = {fmt.RAW: "raw", fmt.LZ4: "lz4"}

_TAG: Final = re.compile(b"[" + bytes(what | codec << 4 for what in NAMES for codec in CODECS) + b"]")
_RESUMED_SIZE_MAX: Final = 1 << 20
"""Frames larger than this are not looked for behind damage: almost anything could be the size of one."""
_SEARCHED_BYTES: Final = 4 << 20


class FrameFound(NamedTuple):
    """A sound frame, or damage: then `error` says what, and `size_bytes` how much was passed over."""

    offset: int
    size_bytes: int
    what: str
    codec: str = ""
    payload: bytes = b""
    error: CorruptionError | None = None


class BlockFound(NamedTuple):
    """A data block: where its frame lies and what is in it; or damage in its place."""

    offset: int
    size_bytes: int
    codec: str
    raw_bytes: int
    block: Block | None
    error: CorruptionError | None = None


class SegmentFile:
    """One segment file, open for reading. A context manager."""

    def __init__(self, path: str) -> None:
        """Open it. Errors: OSError; CorruptionError or FormatVersionError if the header is not sound."""
        self.path = path
        self._file: ReadableFile = DiskFileSystem().open_read(path)
        self.size_bytes = self._file.size()
        self.salt = fmt.decode_header(path, self._file.pread(fmt.HEADER.size, 0))

    def __enter__(self) -> SegmentFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    @property
    def number(self) -> int | None:
        """The number in the file's name, if it has one."""
        parsed = parse_name(os.path.basename(self.path))
        return None if parsed is None else parsed[1]

    def footer(self) -> tuple[fmt.Frame, fmt.Frame]:
        """Return where top index and properties lie. Errors: CorruptionError."""
        at = max(self.size_bytes - fmt.FOOTER.size, 0)
        return fmt.decode_footer(self.path, at, self._file.pread(fmt.FOOTER.size, at), self.salt)

    def properties(self) -> fmt.Properties:
        """Return what the segment says of itself. Errors: CorruptionError."""
        _, place = self.footer()
        data = self._file.pread(place.size_bytes, place.offset)
        payload = fmt.decode_frame(self.path, self.salt, place.offset, data, fmt.PROPERTIES)
        return fmt.Properties.decode(self.path, place.offset, payload)

    def walk(self) -> Iterator[FrameFound]:
        """Yield every frame, and the damage between them, in order; the header and the footer too."""
        yield FrameFound(0, fmt.HEADER.size, "header", "raw")
        offset, end = fmt.HEADER.size, self._end()
        while offset < end:
            found = self._frame(offset, end)
            if found.error is not None:
                resumed = self._resume(offset, end)
                found = found._replace(size_bytes=resumed - offset)
            yield found
            offset += found.size_bytes
        error = None
        try:
            self.footer()
        except CorruptionError as damage:
            error = damage
        yield FrameFound(end, self.size_bytes - end, "footer", "raw", b"", error)

    def blocks(self) -> Iterator[BlockFound]:
        """Yield the data blocks, and all damage: some of it may have been blocks."""
        for found in self.walk():
            error = found.error
            if error is not None:
                yield BlockFound(found.offset, found.size_bytes, "", 0, None, error)
            elif found.what == NAMES[fmt.DATA]:
                block = None
                try:
                    block = Block(self.path, found.offset, found.payload)
                except CorruptionError as damage:
                    error = damage
                yield BlockFound(
                    found.offset, found.size_bytes, found.codec, len(found.payload), block, error
                )

    def _end(self) -> int:
        return max(self.size_bytes - fmt.FOOTER.size, fmt.HEADER.size)

    def _frame(self, offset: int, end: int) -> FrameFound:
        """Return the frame at an offset, or what is wrong with it."""
        head = self._file.pread(fmt.FRAME.size, offset)
        what, size_bytes, error = "damage", 0, None
        if len(head) == fmt.FRAME.size:
            _, size_bytes, tag = fmt.FRAME.unpack(head)
            kind, codec = tag & 15, tag >> 4
            what = NAMES.get(kind, "damage")
            if kind in NAMES and codec in CODECS and offset + fmt.FRAME.size + size_bytes <= end:
                data = self._file.pread(fmt.FRAME.size + size_bytes, offset)
                try:
                    payload = fmt.decode_frame(self.path, self.salt, offset, data, kind)
                    return FrameFound(offset, len(data), what, CODECS[codec], payload)
                except CorruptionError as damage:
                    error = damage
        if error is None:
            error = CorruptionError(self.path, offset, "header of a frame")
        return FrameFound(offset, 0, what, error=error)

    def _resume(self, offset: int, end: int) -> int:
        """Return where the next sound frame begins, or the end.

        The frame's own size first: if only its content is damaged, the next one lies right behind.
        """
        head = self._file.pread(fmt.FRAME.size, offset)
        if len(head) == fmt.FRAME.size:
            behind: int = offset + fmt.FRAME.size + fmt.FRAME.unpack(head)[1]
            if behind == end or (behind < end and self._frame(behind, end).error is None):
                return behind
        tag_at = fmt.FRAME.size - 1
        at = offset + 1
        while at + fmt.FRAME.size <= end:
            window = self._file.pread(min(_SEARCHED_BYTES, end - at), at)
            for match in _TAG.finditer(window, tag_at):
                place = match.start() - tag_at
                size_bytes = int.from_bytes(window[place + 4 : place + 8], "little")
                is_likely = 0 < size_bytes <= _RESUMED_SIZE_MAX
                if is_likely and self._frame(at + place, end).error is None:
                    return at + place
            at += max(len(window) - tag_at, 1)
        return end

"""Walking a segment file frame by frame, past whatever is damaged.

A frame's checksum is seeded with the file's salt and the frame's offset, so a frame that verifies is one: no
stored value can be taken for it. Behind damage the next frame is looked for at the places that the file's own
indexes name, as far as these can be read; failing that at every byte.
"""

from __future__ import annotations

import errno
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lamina.engine.checksum import crc32c
from lamina.engine.filesystem import ReadableFile
from lamina.engine.segment import format as fmt

_WINDOW_SIZE_BYTES = 1 << 20
_PAGE_SIZE_BYTES = 4096
_UINT32 = 0xFFFFFFFF

_TAGS = re.compile(rb"[\x01-\x04\x11-\x14]")
"""The tags that frames have."""


class FoundFrame(NamedTuple):
    """A frame that verifies. `what` is fmt.DATA and so on; `data` the whole frame."""

    offset: int
    what: int
    data: bytes

    @property
    def end(self) -> int:
        """Where the next frame should begin."""
        return self.offset + len(self.data)


class _Window:
    """Reads small pieces of a file through a large one."""

    def __init__(self, file: ReadableFile) -> None:
        self._file = file
        self._offset = 0
        self._data = b""

    def read(self, size_bytes: int, offset: int) -> bytes:
        at = offset - self._offset
        if at < 0 or at + size_bytes > len(self._data):
            self._data = read_around(self._file, max(size_bytes, _WINDOW_SIZE_BYTES), offset)
            self._offset, at = offset, 0
        return self._data[at : at + size_bytes]


def read_around(file: ReadableFile, size_bytes: int, offset: int) -> bytes:
    """Return a part of a file; what the disk cannot read of it as zeros. Errors: OSError other than EIO."""
    try:
        return file.pread(size_bytes, offset)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
    pages: list[bytes] = []
    end = min(offset + size_bytes, file.size())
    for at in range(offset, end, _PAGE_SIZE_BYTES):
        size = min(_PAGE_SIZE_BYTES, end - at)
        try:
            pages.append(file.pread(size, at))
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            pages.append(bytes(size))
    return b"".join(pages)


def walk_frames(file: ReadableFile, salt: int, hints: Sequence[int] = ()) -> Iterator[FoundFrame]:
    """Yield every sound frame of a segment file, in order.

    `hints`: offsets, ascending, at which frames should begin. Errors: OSError. Cost: one read of the file;
    where there are no hints, 1 µs for each damaged byte, or more.
    """
    window = _Window(file)
    size_bytes = file.size()
    offset = fmt.HEADER.size
    while offset + fmt.FRAME.size <= size_bytes:
        frame = _frame_at(window, salt, offset, size_bytes)
        if frame is not None:
            yield frame
            offset = frame.end
            if frame.what == fmt.PROPERTIES:
                return  # only the footer follows
            continue
        at = bisect_right(hints, offset)
        found = None
        while at < len(hints) and found is None:
            found = _frame_at(window, salt, hints[at], size_bytes)
            at += 1
        # Hints name every block of the parts that could be read; between two of them nothing can be hidden.
        found = found or _search(window, salt, offset + 1, size_bytes)
        if found is None:
            return
        offset = found.offset


def _frame_at(window: _Window, salt: int, offset: int, end: int) -> FoundFrame | None:
    head = window.read(fmt.FRAME.size, offset)
    if len(head) < fmt.FRAME.size:
        return None
    crc, size, tag = fmt.FRAME.unpack(head)
    if size > end - offset - fmt.FRAME.size or not _TAGS.match(head, fmt.FRAME.size - 1):
        return None
    data = window.read(fmt.FRAME.size + size, offset)
    if crc32c((salt + offset) & _UINT32, data[4:]) != crc:
        return None
    return FoundFrame(offset, tag & 15, data)


def _search(window: _Window, salt: int, start: int, end: int) -> FoundFrame | None:
    """Return the first frame at or behind `start`, wherever that is."""
    tag_at = fmt.FRAME.size - 1
    while start + fmt.FRAME.size <= end:
        size = min(_WINDOW_SIZE_BYTES, end - start)
        piece = window.read(size, start)
        for match in _TAGS.finditer(piece, tag_at):
            at = match.start() - tag_at
            # Most candidates are refused by their size alone.
            if int.from_bytes(piece[at + 4 : at + 8], "little") <= end - start - at - fmt.FRAME.size:
                # The window is left where it is only for small frames: read what is looked at apart.
                frame = _frame_at(_Window(window._file), salt, start + at, end)
                if frame is not None:
                    return frame
        if len(piece) < size or start + size >= end:
            return None
        start += size - tag_at
    return None

"""The bytes being read: one buffer, refilled in large blocks, and the few forms that everything consists of.

    source = Source(file.read)            # or Source(None, payload)
    source.byte() length() string() take(8)

`data`, `at` and `end` are open to loops that parse in place. `data[at:end]` is what has been read from the
file and not been used; `offset` is the place in the file. Whatever is claimed by the bytes, no more memory is
taken than bytes have come: a long string is gathered block by block, and a compressed one is held against
what its bytes can stand for.

The checksum is taken of whole stretches of the buffer as they are left behind.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from lamina.server.rdb import lzf
from lamina.server.rdb.crc64 import crc64
from lamina.server.rdb.errors import RdbError
from lamina.server.rdb.opcodes import INT8, INT16, INT32, LZF

BLOCK_BYTES: Final = 256 * 1024
"""What is read at once. Larger is no faster, and longer in the way of the processor's cache."""

STRING_SIZE_MAX: Final = 512 * 1024 * 1024
"""The longest string that is read, unless told otherwise: what Redis lets a client send."""

_HEAD_BYTES: Final = 9
"""The longest form of a length."""

_U32: Final = struct.Struct(">I")
_U64: Final = struct.Struct(">Q")
_INT8_TEXTS: Final = tuple(b"%d" % (byte - 256 if byte > 127 else byte) for byte in range(256))


class Source:
    """A cursor over a file or over bytes in memory."""

    __slots__ = ("at", "base", "checksum", "data", "end", "long_bytes", "read", "string_size_max")

    def __init__(
        self,
        read: Callable[[int], bytes] | None,
        data: bytes = b"",
        *,
        string_size_max: int = STRING_SIZE_MAX,
    ) -> None:
        self.read = read
        self.data = data
        self.at = 0
        self.end = len(data)
        self.base = 0
        """Where in the file `data` begins."""
        self.checksum: int | None = 0
        """Of all before `base`; None if nobody asks for it."""
        self.string_size_max = string_size_max
        self.long_bytes = 0
        """Bytes of strings that are not short: those who gather strings watch it and set it back."""

    @property
    def offset(self) -> int:
        """How many bytes have been used."""
        return self.base + self.at

    def truncated(self) -> RdbError:
        """Return the error that says that the bytes end too early."""
        return RdbError(self.base + self.end, "truncated")

    def prepare(self, size: int) -> bool:
        """Have `size` bytes in the buffer; tells whether there are as many."""
        missing = size - (self.end - self.at)
        if missing <= 0:
            return True
        if self.read is None:
            return False
        self._leave_behind()
        pieces = [self.data]
        while missing > 0:
            block = self.read(BLOCK_BYTES)
            if not block:
                break
            pieces.append(block)
            missing -= len(block)
        self.data = b"".join(pieces)
        self.end = len(self.data)
        return missing <= 0

    def _leave_behind(self) -> None:
        """Drop from the buffer what has been used."""
        at = self.at
        if self.checksum is not None:
            self.checksum = crc64(self.data[:at], self.checksum)
        self.data = self.data[at:]
        self.base += at
        self.at = 0
        self.end -= at

    def computed_checksum(self) -> int:
        """Return the checksum of all that has been used."""
        self._leave_behind()
        return self.checksum or 0

    def byte(self) -> int:
        """Read one byte."""
        at = self.at
        if at >= self.end:
            if not self.prepare(1):
                raise self.truncated()
            at = self.at
        self.at = at + 1
        return self.data[at]

    def take(self, size: int) -> bytes:
        """Read `size` bytes."""
        at = self.at
        stop = at + size
        if stop > self.end:
            if size > BLOCK_BYTES and self.read is not None:
                return self._take_long(size)
            if not self.prepare(size):
                raise self.truncated()
            at = self.at
            stop = at + size
        self.at = stop
        return self.data[at:stop]

    def _take_long(self, size: int) -> bytes:
        """Read what reaches beyond the buffer and is large: it is not put into the buffer first."""
        assert self.read is not None
        self._leave_behind()
        pieces = [self.data]
        missing = size - self.end
        checksum = self.checksum
        while missing > 0:
            block = self.read(min(missing, BLOCK_BYTES))
            if not block:
                self.end = size - missing
                raise self.truncated()
            pieces.append(block)
            missing -= len(block)
        if checksum is not None:
            for piece in pieces:
                checksum = crc64(piece, checksum)
        self.checksum = checksum
        self.data = b""
        self.at = self.end = 0
        self.base += size
        return b"".join(pieces)

    def length(self) -> int:
        """Read a length, or another number that is kept as one."""
        at = self.at
        if self.end - at < _HEAD_BYTES:
            self.prepare(_HEAD_BYTES)
            at = self.at
            if at >= self.end:
                raise self.truncated()
        first = self.data[at]
        if first < 0x40:
            self.at = at + 1
            return first
        number: int
        if first < 0x80:
            stop = at + 2
        elif first == 0x80:
            stop = at + 5
        elif first == 0x81:
            stop = at + 9
        else:
            raise RdbError(self.base + at, f"no length begins with byte {first}")
        if stop > self.end:
            raise self.truncated()
        self.at = stop
        if first < 0x80:
            return (first & 0x3F) << 8 | self.data[at + 1]
        (number,) = (_U32 if first == 0x80 else _U64).unpack_from(self.data, at + 1)
        return number

    def string(self) -> bytes:
        """Read a string. Cost: 0.15 µs if it is short."""
        at = self.at
        # Enough for every short string: where less is there, the slower way finds out whether it suffices.
        if self.end - at < 64:
            self.prepare(64)
            at = self.at
            if at >= self.end:
                raise self.truncated()
        first = self.data[at]
        if first < 0x40:
            stop = at + 1 + first
            if stop > self.end:
                raise self.truncated()
            self.at = stop
            return self.data[at + 1 : stop]
        if first < 0xC0:
            return self.bounded(self.length())
        return self._encoded_string(first)

    def bounded(self, size: int) -> bytes:
        """Read a string that is `size` bytes long, which is held against the longest that is allowed."""
        if size > self.string_size_max:
            raise RdbError(self.offset, f"a string of {size} bytes; the limit is {self.string_size_max}")
        self.long_bytes += size
        return self.take(size)

    def _encoded_string(self, first: int) -> bytes:
        """Read a string that is kept as an integer or compressed; `first` is the byte that says so."""
        self.at += 1
        if first == INT8:
            return _INT8_TEXTS[self.byte()]
        if first == INT16:
            return b"%d" % int.from_bytes(self.take(2), "little", signed=True)
        if first == INT32:
            return b"%d" % int.from_bytes(self.take(4), "little", signed=True)
        if first != LZF:
            raise RdbError(self.offset - 1, f"no string begins with byte {first}")
        compressed_size = self.length()
        size = self.length()
        if size > self.string_size_max:
            raise RdbError(self.offset, f"a string of {size} bytes; the limit is {self.string_size_max}")
        compressed = self.bounded(compressed_size)
        self.long_bytes += size
        return lzf.decompress(compressed, size, self.offset)

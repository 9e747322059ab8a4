"""Ziplists: what listpacks have replaced, of Redis before 7. They are read only.

size:u32le tail:u32le count:u16le entry* 0xff       tail: where the last entry begins
                                                    count: 65535 where there are as many or more
entry      length before, head [bytes]
length     of the entry before this one: n:u8 below 254, or 0xfe n:u32le
before
head       00nnnnnn    01nnnnnn nnnnnnnn    10000000 n:u32be       a string of n bytes
           0xc0 i16le  0xd0 i32le  0xe0 i64le  0xf0 i24le  0xfe i8
           1111nnnn                                                an integer, n - 1: 0 to 12
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from lamina.server.rdb.errors import RdbError

_HEADER: Final = struct.Struct("<IIH")
_EMPTY_BYTES: Final = 11
_COUNT_UNKNOWN: Final = 0xFFFF
_END: Final = 0xFF
_LONG: Final = 0xFE
_INTEGER_SIZES: Final = {0xC0: 2, 0xD0: 4, 0xE0: 8, 0xF0: 3, 0xFE: 1}


def unpack_chunks(blob: bytes, size: int, offset: int) -> Iterator[list[bytes]]:
    """Yield the elements, `size` at a time; `offset` is what errors tell."""
    if len(blob) < _EMPTY_BYTES or blob[-1] != _END:
        raise RdbError(offset, "ziplist: cut off")
    claimed, tail, count = _HEADER.unpack_from(blob)
    if claimed != len(blob):
        raise RdbError(offset, f"ziplist: {len(blob)} bytes instead of {claimed}")
    elements: list[bytes] = []
    at = _HEADER.size
    last = at
    before = 0
    total = 0
    try:
        while (head := blob[at]) != _END:
            start = at
            if head == _LONG:
                head = int.from_bytes(blob[at + 1 : at + 5], "little")
                at += 4
            if head != before:
                raise RdbError(offset, f"ziplist: {head} instead of {before} bytes before an entry")
            element, at = _read(blob, at + 1, offset)
            if at >= claimed:
                raise RdbError(offset, "ziplist: an element reaches past the end")
            last = start
            before = at - start
            elements.append(element)
            total += 1
            if len(elements) == size:
                yield elements
                elements = []
    except IndexError:
        raise RdbError(offset, "ziplist: an element reaches past the end") from None
    if at != len(blob) - 1:
        raise RdbError(offset, "ziplist: ends before its end")
    if tail != last:
        raise RdbError(offset, "ziplist: its last entry is elsewhere")
    if count not in (total, _COUNT_UNKNOWN):
        raise RdbError(offset, f"ziplist: {total} elements instead of {count}")
    if elements:
        yield elements


def _read(blob: bytes, at: int, offset: int) -> tuple[bytes, int]:
    """Return the element whose head is at `at`, and where the next entry begins."""
    head = blob[at]
    if head < 0xC0:
        if head < 0x40:
            start = at + 1
            size = head
        elif head < 0x80:
            start = at + 2
            size = (head & 0x3F) << 8 | blob[at + 1]
        elif head == 0x80:
            start = at + 5
            size = int.from_bytes(blob[at + 1 : start], "big")
        else:
            raise RdbError(offset, f"ziplist: no element begins with byte {head}")
        return blob[start : start + size], start + size
    if 0xF1 <= head <= 0xFD:
        return b"%d" % (head - 0xF1), at + 1
    integer_size = _INTEGER_SIZES.get(head)
    if integer_size is None:
        raise RdbError(offset, f"ziplist: no element begins with byte {head}")
    stop = at + 1 + integer_size
    return b"%d" % int.from_bytes(blob[at + 1 : stop], "little", signed=True), stop

"""Zipmaps: small hashes of Redis before 2.6. They are read only.

count:u8 (length field length free:u8 value free*)* 0xff       count: 254 where there are as many or more
length     n:u8 below 254, or 0xfe n:u32le                     free: unused bytes behind the value
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lamina.server.rdb.errors import RdbError

_END: Final = 0xFF
_LONG: Final = 0xFE
_COUNT_UNKNOWN: Final = 254


def unpack_chunks(blob: bytes, size: int, offset: int) -> Iterator[list[bytes]]:
    """Yield fields and values in turn, `size` at a time, which must be even; `offset` is what errors tell."""
    elements: list[bytes] = []
    total = 0
    at = 1
    end = len(blob) - 1
    try:
        while blob[at] != _END:
            for padded in (0, 1):
                length = blob[at]
                at += 1
                if length == _LONG:
                    length = int.from_bytes(blob[at : at + 4], "little")
                    at += 4
                elif length == _END:
                    raise RdbError(offset, "zipmap: a field without a value")
                start = at + padded
                stop = start + length
                elements.append(blob[start:stop])
                at = stop + (blob[at] if padded else 0)
                if at > end:
                    raise RdbError(offset, "zipmap: a string reaches past the end")
            total += 1
            if len(elements) == size:
                yield elements
                elements = []
    except IndexError:
        raise RdbError(offset, "zipmap: cut off") from None
    if at != end:
        raise RdbError(offset, "zipmap: ends before its end")
    if blob[0] < _COUNT_UNKNOWN and blob[0] != total:
        raise RdbError(offset, f"zipmap: {total} fields instead of {blob[0]}")
    if elements:
        yield elements

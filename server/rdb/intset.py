"""Intsets: small sets of which every member is the text of a 64-bit integer.

width:u32le count:u32le integer*       width: 2, 4 or 8 bytes, of the integers, signed, little-endian,
                                       in ascending order
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from lamina.server.rdb.errors import RdbError

_HEADER: Final = struct.Struct("<II")
_FORMATS: Final = {2: "h", 4: "i", 8: "q"}


def unpack_chunks(blob: bytes, size: int, offset: int) -> Iterator[list[bytes]]:
    """Yield the members, `size` at a time; `offset` is what errors tell."""
    if len(blob) < _HEADER.size:
        raise RdbError(offset, "intset: cut off")
    width, count = _HEADER.unpack_from(blob)
    form = _FORMATS.get(width)
    if form is None:
        raise RdbError(offset, f"intset: integers of {width} bytes")
    if len(blob) != _HEADER.size + width * count:
        raise RdbError(offset, f"intset: {len(blob)} bytes for {count} integers of {width}")
    before: tuple[int, ...] = ()
    for first in range(0, count, size):
        members = struct.unpack_from(f"<{min(size, count - first)}{form}", blob, _HEADER.size + first * width)
        if any(left >= right for left, right in pairwise(before + members)):
            raise RdbError(offset, "intset: its integers do not ascend")
        before = members[-1:]
        yield [b"%d" % member for member in members]


def pack(members: Sequence[int]) -> bytes:
    """Return the intset of some integers, which need not be in order; at least one."""
    ordered = sorted(members)
    low = ordered[0]
    high = ordered[-1]
    if low >= -0x8000 and high < 0x8000:
        width = 2
    elif low >= -0x80000000 and high < 0x80000000:
        width = 4
    else:
        width = 8
    body = struct.pack(f"<{len(ordered)}{_FORMATS[width]}", *ordered)
    return _HEADER.pack(width, len(ordered)) + body

"""CRC-64 as Redis computes it: the Jones polynomial, reflected, from zero and without a final inversion.

crcmod's C extension computes it: some 400 MB/s, against 0.5 MB/s of its Python stand-in. Both are right.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

import crcmod.crcmod

crc64: Final[Callable[[bytes, int], int]] = crcmod.crcmod.mkCrcFun(
    0x1AD93D23594C935A9, initCrc=0, rev=True, xorOut=0
)
"""``crc64(data, crc)``: the checksum of what `crc` is that of, and `data` behind it. Start with 0."""

CHECKSUM: Final = struct.Struct("<Q")
"""How it is stored."""

"""Columns of little-endian numbers, as they lie in blocks, indexes and log frames."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable

_LITTLE_ENDIAN = sys.byteorder == "little"


def pack_column(code: str, numbers: Iterable[int]) -> bytes:
    """Return little-endian numbers of the `array` type `code`, side by side."""
    column = array(code, numbers)
    if not _LITTLE_ENDIAN:
        column.byteswap()
    return column.tobytes()


def unpack_column(code: str, data: bytes) -> array[int]:
    """Inverse of `pack_column`; ValueError if `data` is not a whole number of items."""
    column: array[int] = array(code)
    column.frombytes(data)
    if not _LITTLE_ENDIAN:
        column.byteswap()
    return column

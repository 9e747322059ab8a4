"""Ids of a stream's entries: milliseconds and a number among those of the same millisecond.

    StreamId    (ms, seq), both 64 bits: what arithmetic is done with, and the neutral form of rdb/values.py
    packed      sixteen bytes, big-endian, so that the order of bytes is the order of ids: what entries and
                pending lists lie under
    text        ms-seq: what clients see

Reading ids from what clients send is left to commands/stream_args.py.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

from lamina.server.rdb.values import NO_ID, StreamId

ID: Final = struct.Struct(">QQ")
ID_SIZE: Final = ID.size
PART_MAX: Final = (1 << 64) - 1
"""The largest milliseconds, and the largest sequence number."""
ID_MAX: Final[StreamId] = (PART_MAX, PART_MAX)

FIRST: Final = bytes(ID_SIZE)
"""The smallest id, packed."""
ABOVE_ALL: Final = b"\xff" * (ID_SIZE + 1)
"""Greater than every packed id."""

pack = ID.pack
unpack = ID.unpack


def format_id(stream_id: StreamId) -> bytes:
    """Return an id as clients see it."""
    return b"%d-%d" % stream_id


def format_packed(packed: bytes) -> bytes:
    """Return a packed id as clients see it."""
    return b"%d-%d" % unpack(packed)


def format_all(packed: Iterable[bytes]) -> list[bytes]:
    """Return packed ids as clients see them."""
    return [b"%d-%d" % unpack(one) for one in packed]


def next_id(stream_id: StreamId) -> StreamId | None:
    """Return the id that follows; None if there is none."""
    ms, seq = stream_id
    if seq < PART_MAX:
        return ms, seq + 1
    return (ms + 1, 0) if ms < PART_MAX else None


def previous_id(stream_id: StreamId) -> StreamId | None:
    """Return the id before; None if there is none."""
    ms, seq = stream_id
    if seq:
        return ms, seq - 1
    return (ms - 1, PART_MAX) if ms else None


def after(packed: bytes) -> bytes:
    """Return the smallest string of bytes above a packed id: where what follows it begins."""
    return packed + b"\0"


__all__ = [
    "ABOVE_ALL",
    "FIRST",
    "ID",
    "ID_MAX",
    "ID_SIZE",
    "NO_ID",
    "PART_MAX",
    "StreamId",
    "after",
    "format_all",
    "format_id",
    "format_packed",
    "next_id",
    "pack",
    "previous_id",
    "unpack",
]

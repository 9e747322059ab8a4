"""Where things lie: the keys and values that the server gives to the engine.

Every engine key begins with a physical database number, 4 bytes. SELECT's numbers map to physical ones, so
SWAPDB exchanges two numbers and FLUSHDB takes a new one and discards the old range.

    pdb:u32 'k' user key                     record: what the key holds
    pdb:u32 'e' id:u64 element               elements of the collection `id`; ids are never used twice
    pdb:u32 't' expire_ms:u64 user key       expiry index, in the order of time; empty values
    pdb:u32 'f' due_ms:u64 user key          the same for hashes some of whose fields expire
    0:u32   's' name                         the server's own state

Integers are big-endian, so that byte order is numeric order. A record:

    tag:u8 = type | flags     [expire_ms:u64 if HAS_EXPIRY]    what the type keeps of itself

    string       the bytes themselves
    big string   id:u64 size:u64                            chunks:  chunk number:u32 -> bytes
    collections  id:u64 size:u64 form:u8  type's own        elements: see the type's module in types/

The numbers below are written to disk: never change or reuse one. docs/format.md draws the same.
"""

from __future__ import annotations

import struct
from typing import Final

# Types of records: the low four bits of the tag.
STRING: Final = 0
BIG_STRING: Final = 1
LIST: Final = 2
SET: Final = 3
ZSET: Final = 4
HASH: Final = 5
STREAM: Final = 6

TYPE_MASK: Final = 0x0F
HAS_EXPIRY: Final = 0x10
"""Flag of the tag: the time of expiry follows."""

PLAIN_STRING: Final = bytes((STRING,))
"""The tag of a string that does not expire."""

RECORD: Final = b"k"
ELEMENT: Final = b"e"
EXPIRY: Final = b"t"
FIELD_EXPIRY: Final = b"f"
STATE: Final = b"s"

U32: Final = struct.Struct(">I")
U64: Final = struct.Struct(">Q")
COLLECTION: Final = struct.Struct(">QQB")
"""id, size, form."""
BIG: Final = struct.Struct(">QQ")

ARGUMENT_SIZE_MAX: Final = 512 * 1024 * 1024 - 64
"""The longest argument of a command. The engine's keys and values have 512 MiB at most, and what the server
puts before an argument in them is some 25 bytes."""

STATE_PREFIX: Final = U32.pack(0) + STATE
FUNCTION_PREFIX: Final = STATE_PREFIX + b"function:"
PDB_MAX: Final = 0xFFFFFFFF


def prefix_of(pdb: int, area: bytes) -> bytes:
    """Return what all keys of an area of a physical database begin with."""
    return U32.pack(pdb) + area


def end_of(prefix: bytes) -> bytes:
    """Return the smallest key above all that begin with `prefix`, which must not be all 0xff."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,))


DOUBLE: Final = struct.Struct(">d")

_ALL = (1 << 64) - 1
_POSITIVE_MIN = 0x80
"""The first byte of encoded scores that are not negative is this or a greater one."""


def encode_score(score: float) -> bytes:
    """Return eight bytes whose order is the order of the scores.

    Of a positive double the sign bit is set; of a negative one all bits are flipped. -0.0 becomes 0.0: to
    Redis they are equal, so they must not be two places in the order. Cost: 0.1 µs, negative 0.25.
    """
    if score >= 0.0:
        # What has the sign bit set is the same number, negated. Adding zero makes -0.0 positive before.
        return DOUBLE.pack(-(score + 0.0))
    return (int.from_bytes(DOUBLE.pack(score), "big") ^ _ALL).to_bytes(8, "big")


def decode_score(data: bytes) -> float:
    """Return the score that `encode_score` has encoded into the first eight bytes."""
    score: float
    if data[0] >= _POSITIVE_MIN:
        (score,) = DOUBLE.unpack_from(data)
        return -score
    (score,) = DOUBLE.unpack((int.from_bytes(data[:8], "big") ^ _ALL).to_bytes(8, "big"))
    return score

"""DUMP payloads: one value, with what tells that it is whole.

    type:u8 value version:u16le crc64:u64le            the checksum is of all before it
    (0xf5 code:string)* version:u16le crc64:u64le      libraries of functions: FUNCTION DUMP

RESTORE of every Redis from `version` on takes them, and decode() takes what any Redis up to 7.4 has made.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import chain
from typing import Final, TypeVar

from lamina.server.rdb import opcodes
from lamina.server.rdb.crc64 import CHECKSUM, crc64
from lamina.server.rdb.decoding import read_value
from lamina.server.rdb.encoding import EVERYTHING, encode_value
from lamina.server.rdb.errors import FooterError, RdbError
from lamina.server.rdb.lengths import encode_compressed, encode_string
from lamina.server.rdb.opcodes import REDIS_70
from lamina.server.rdb.rules import SavingRules
from lamina.server.rdb.source import STRING_SIZE_MAX, Source
from lamina.server.rdb.values import (
    Collection,
    HashValue,
    ListValue,
    SetValue,
    StreamValue,
    Value,
    ZsetValue,
)

_VERSION: Final = struct.Struct("<H")
_FOOTER_SIZE: Final = _VERSION.size + CHECKSUM.size

T = TypeVar("T")


def encode(value: Value, rules: SavingRules) -> bytes:
    """Return the payload of a value. Errors: ValueError if `rules` have no form for it."""
    code, pieces = encode_value(value, rules, EVERYTHING)
    body = b"".join((bytes((code,)), *pieces, _VERSION.pack(rules.version)))
    return body + CHECKSUM.pack(crc64(body, 0))


def decode(payload: bytes, *, string_size_max: int = STRING_SIZE_MAX) -> Value:
    """Return the value of a payload, all of it in memory.

    Errors: FooterError where Redis says "DUMP payload version or checksum are wrong", RdbError where it says
    "Bad data format".
    """
    source = _open(payload, string_size_max)
    value = read_value(source, source.byte())
    if value is None:
        raise RdbError(source.offset, "an empty collection")
    if not isinstance(value, bytes):
        _gather(value, source.offset)
    if source.at != source.end:
        raise RdbError(source.offset, "more bytes behind the value")
    return value


def encode_functions(libraries: Iterable[bytes], *, compress: bool) -> bytes:
    """Return the payload of libraries of functions, given their code."""
    string = encode_compressed if compress else encode_string
    pieces = [bytes((opcodes.FUNCTION2,)) + string(code) for code in libraries]
    body = b"".join((*pieces, _VERSION.pack(REDIS_70)))
    return body + CHECKSUM.pack(crc64(body, 0))


def decode_functions(payload: bytes) -> list[bytes]:
    """Return the code of the libraries in a payload. Errors: as `decode`."""
    source = _open(payload, STRING_SIZE_MAX)
    libraries = []
    while source.at != source.end:
        if source.byte() != opcodes.FUNCTION2:
            raise RdbError(source.offset - 1, "something that is no library of functions")
        libraries.append(source.string())
    return libraries


def _open(payload: bytes, string_size_max: int) -> Source:
    """Return what a payload holds, once its footer has been looked at. Errors: FooterError."""
    stop = len(payload) - _FOOTER_SIZE
    if stop < 0:
        raise FooterError(len(payload), "a payload that is too short")
    (version,) = _VERSION.unpack_from(payload, stop)
    if version > opcodes.VERSION_MAX:
        raise FooterError(stop, f"RDB version {version}; the latest that is read is {opcodes.VERSION_MAX}")
    computed = crc64(payload[: -CHECKSUM.size], 0)
    (expected,) = CHECKSUM.unpack_from(payload, len(payload) - CHECKSUM.size)
    if computed != expected:
        raise FooterError(stop, f"checksum {computed:016x} instead of {expected:016x}")
    source = Source(None, payload[:stop], string_size_max=string_size_max)
    source.checksum = None
    return source


def _gather(value: Collection | StreamValue, at: int) -> None:
    """Replace what is read as it is asked for by lists; elements must be unique."""
    if isinstance(value, StreamValue):
        value.chunks = list(value.chunks)
        value.groups = list(value.groups)
        value.size = value.state.size
        return
    keys: set[bytes] | None = None
    if isinstance(value, ListValue):
        value.chunks, value.size = _whole(value.chunks)
    elif isinstance(value, SetValue):
        value.chunks, value.size = _whole(value.chunks)
        keys = set(chain.from_iterable(value.chunks))
    elif isinstance(value, ZsetValue):
        value.chunks, value.size = _whole(value.chunks)
        keys = {member for chunk in value.chunks for member, _ in chunk}
    elif isinstance(value, HashValue):
        value.chunks, value.size = _whole(value.chunks)
        keys = {field for chunk in value.chunks for field, _ in chunk}
    else:
        value.chunks, value.size = _whole(value.chunks)
        keys = {field for chunk in value.chunks for field, _, _ in chunk}
    if keys is not None and len(keys) != value.size:
        raise RdbError(at, "an element comes twice")


def _whole(chunks: Iterable[list[T]]) -> tuple[list[list[T]], int]:
    """Return all chunks, and how many elements they have."""
    whole = list(chunks)
    return whole, sum(map(len, whole))

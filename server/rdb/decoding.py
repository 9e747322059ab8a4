"""Reading values: from the encoding of each type number to the classes of `values.py`.

A small value in a packed encoding is unpacked at once. Of everything else the chunks are made as they are
asked for: a value reads the source while its chunks are gone through, and no more than one chunk, one packed
string and what is needed to notice doubles lie in memory.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from math import isnan
from typing import Final, TypeVar

from lamina.server.numbers import parse_double
from lamina.server.rdb import intset, listpack, opcodes, streams, ziplist, zipmap
from lamina.server.rdb.errors import RdbError, UnsupportedError
from lamina.server.rdb.modules import module_name
from lamina.server.rdb.source import Source
from lamina.server.rdb.values import (
    HashValue,
    ListValue,
    SetValue,
    TimedHashValue,
    Value,
    ZsetValue,
)

CHUNK_SIZE: Final = 1000
"""Elements of a chunk."""

CHUNK_BYTES: Final = 1 << 20
"""A chunk ends with the string by which its long strings have this many bytes."""

FIELD_EXPIRES_MS_MAX: Final = (1 << 48) - 2
"""The latest time at which Redis lets a field expire."""

_WHOLE_BYTES: Final = 1 << 16
"""Packed strings up to here are unpacked at once."""

_UNIQUE_SIZE_MAX: Final = 1 << 17
"""Elements of a packed collection among which doubles are looked for. Redis's limits are in the hundreds."""

_ALL: Final = (1 << 64) - 1
_I64: Final = struct.Struct("<q")
_DOUBLE: Final = struct.Struct("<d")
# A length byte of a score as text that is none.
_NAN: Final = 253
_INFINITY: Final = 254
_MINUS_INFINITY: Final = 255

T = TypeVar("T")
Unpack = Callable[[bytes, int, int], Iterator[list[bytes]]]


def read_value(source: Source, code: int) -> Value | None:
    """Read a value of type `code`; None if it is an empty collection, which Redis does not let exist."""
    if code == opcodes.STRING:
        return source.string()
    reader = _READERS.get(code)
    if reader is not None:
        return reader(source)
    if code in (opcodes.MODULE_2, opcodes.MODULE_PRE_GA):
        offset = source.offset
        raise UnsupportedError(offset, f"a value of the module type {module_name(source.length())}")
    raise UnsupportedError(source.offset, f"a value of the unknown type {code}")


# Collections whose elements are strings of the file


def _strings(source: Source, count: int) -> Iterator[list[bytes]]:
    string = source.string
    while count > 0:
        source.long_bytes = 0
        chunk: list[bytes] = []
        for _ in range(min(count, CHUNK_SIZE)):
            chunk.append(string())
            if source.long_bytes > CHUNK_BYTES:
                break
        count -= len(chunk)
        yield chunk


def _fields(source: Source, count: int) -> Iterator[list[tuple[bytes, bytes]]]:
    string = source.string
    while count > 0:
        source.long_bytes = 0
        chunk: list[tuple[bytes, bytes]] = []
        for _ in range(min(count, CHUNK_SIZE)):
            chunk.append((string(), string()))
            if source.long_bytes > CHUNK_BYTES:
                break
        count -= len(chunk)
        yield chunk


def _timed_fields(source: Source, count: int, base_ms: int) -> Iterator[list[tuple[bytes, bytes, int]]]:
    """Times are stored as what they are later than `base_ms`; 0 is none.

    Modulo 2 ** 64: the earliest time that Redis counts from may be that of a field which was set to expire
    later than another one meanwhile.
    """
    string = source.string
    while count > 0:
        source.long_bytes = 0
        chunk: list[tuple[bytes, bytes, int]] = []
        for _ in range(min(count, CHUNK_SIZE)):
            expires_ms = source.length()
            if expires_ms:
                expires_ms = expires_ms + base_ms & _ALL
                if not 0 < expires_ms <= FIELD_EXPIRES_MS_MAX:
                    raise RdbError(source.offset, f"a field that expires at {expires_ms}")
            chunk.append((string(), string(), expires_ms))
            if source.long_bytes > CHUNK_BYTES:
                break
        count -= len(chunk)
        yield chunk


def _members(
    source: Source, count: int, score: Callable[[Source], float]
) -> Iterator[list[tuple[bytes, float]]]:
    string = source.string
    while count > 0:
        source.long_bytes = 0
        chunk: list[tuple[bytes, float]] = []
        for _ in range(min(count, CHUNK_SIZE)):
            chunk.append((string(), score(source)))
            if source.long_bytes > CHUNK_BYTES:
                break
        count -= len(chunk)
        yield chunk


def _binary_score(source: Source) -> float:
    score: float
    (score,) = _DOUBLE.unpack(source.take(8))
    if isnan(score):
        raise RdbError(source.offset, "a score that is no number")
    return score


def _text_score(source: Source) -> float:
    size = source.byte()
    if size == _INFINITY:
        return float("inf")
    if size == _MINUS_INFINITY:
        return float("-inf")
    if size == _NAN:
        raise RdbError(source.offset, "a score that is no number")
    return _score(source.take(size), source.offset)


def _score(text: bytes, offset: int) -> float:
    score = float(text) if text.isdigit() else parse_double(text)
    if score is None:
        raise RdbError(offset, f"a score that is no number: {text[:40]!r}")
    return score


def _read_list(source: Source) -> Value | None:
    count = source.length()
    return ListValue(_strings(source, count), count) if count else None


def _read_set(source: Source) -> Value | None:
    count = source.length()
    return SetValue(_strings(source, count), count) if count else None


def _read_zset(source: Source) -> Value | None:
    count = source.length()
    return ZsetValue(_members(source, count, _text_score), count) if count else None


def _read_zset_2(source: Source) -> Value | None:
    count = source.length()
    return ZsetValue(_members(source, count, _binary_score), count) if count else None


def _read_hash(source: Source) -> Value | None:
    count = source.length()
    return HashValue(_fields(source, count), count) if count else None


def _read_timed_hash(source: Source) -> Value | None:
    (least_ms,) = _I64.unpack(source.take(8))
    if not 0 <= least_ms <= FIELD_EXPIRES_MS_MAX + 1:
        raise RdbError(source.offset, f"fields that expire from {least_ms} on")
    count = source.length()
    return TimedHashValue(_timed_fields(source, count, least_ms - 1), count) if count else None


def _read_timed_hash_pre_ga(source: Source) -> Value | None:
    count = source.length()
    return TimedHashValue(_timed_fields(source, count, 0), count) if count else None


# Collections that are one packed string


def _packed(source: Source, unpack: Unpack, parts: int, offset: int) -> tuple[Iterable[list[bytes]], int]:
    """Read a packed string; returns its elements in chunks, and how many there are.

    `parts`: strings that make up an element of the collection; chunks are cut between those.
    """
    blob = source.string()
    if len(blob) <= _WHOLE_BYTES:
        whole = list(unpack(blob, len(blob) * parts + parts, offset))
        size = len(whole[0]) if whole else 0
        return whole, size
    # Counting first costs a second time of unpacking, but a size that is known spares the writer a copy.
    size = sum(map(len, unpack(blob, CHUNK_SIZE * parts, offset)))
    return unpack(blob, CHUNK_SIZE * parts, offset), size


def _check(size: int, parts: int, offset: int) -> int:
    """Return how many elements `size` strings are."""
    if size % parts:
        raise RdbError(offset, "packed: the last element is incomplete")
    return size // parts


class _Unique:
    """Notices doubles in a packed collection."""

    __slots__ = ("offset", "seen")

    def __init__(self, size: int, offset: int) -> None:
        self.offset = offset
        self.seen: set[bytes] | None = set() if size <= _UNIQUE_SIZE_MAX else None

    def add(self, elements: list[bytes]) -> list[bytes]:
        """Return the elements, which were not there before."""
        seen = self.seen
        if seen is not None:
            before = len(seen)
            seen.update(elements)
            if len(seen) != before + len(elements):
                raise RdbError(self.offset, "packed: an element comes twice")
        return elements


def _read_packed_list(source: Source) -> Value | None:
    chunks, size = _packed(source, ziplist.unpack_chunks, 1, source.offset)
    return ListValue(chunks, size) if size else None


def _set_reader(unpack: Unpack) -> Callable[[Source], Value | None]:
    def read(source: Source) -> Value | None:
        offset = source.offset
        strings, size = _packed(source, unpack, 1, offset)
        if size == 0:
            return None
        unique = _Unique(size, offset)
        return SetValue(_kept(map(unique.add, strings), strings), size)

    return read


def _zset_reader(unpack: Unpack) -> Callable[[Source], Value | None]:
    def read(source: Source) -> Value | None:
        offset = source.offset
        strings, count = _packed(source, unpack, 2, offset)
        size = _check(count, 2, offset)
        if size == 0:
            return None
        unique = _Unique(size, offset)

        def members(chunk: list[bytes]) -> list[tuple[bytes, float]]:
            scores = [_score(text, offset) for text in chunk[1::2]]
            return list(zip(unique.add(chunk[::2]), scores, strict=True))

        return ZsetValue(_kept(map(members, strings), strings), size)

    return read


def _hash_reader(unpack: Unpack) -> Callable[[Source], Value | None]:
    def read(source: Source) -> Value | None:
        offset = source.offset
        strings, count = _packed(source, unpack, 2, offset)
        size = _check(count, 2, offset)
        if size == 0:
            return None
        unique = _Unique(size, offset)

        def fields(chunk: list[bytes]) -> list[tuple[bytes, bytes]]:
            return list(zip(unique.add(chunk[::2]), chunk[1::2], strict=True))

        return HashValue(_kept(map(fields, strings), strings), size)

    return read


def _read_timed_listpack(source: Source) -> Value | None:
    source.take(8)  # the first time of expiry, which the listpack tells as well
    return _read_timed_listpack_pre_ga(source)


def _read_timed_listpack_pre_ga(source: Source) -> Value | None:
    offset = source.offset
    strings, count = _packed(source, listpack.unpack_chunks, 3, offset)
    size = _check(count, 3, offset)
    if size == 0:
        return None
    unique = _Unique(size, offset)

    def fields(chunk: list[bytes]) -> list[tuple[bytes, bytes, int]]:
        times = chunk[2::3]
        if not all(map(bytes.isdigit, times)) or max(map(len, times)) > 15:
            raise RdbError(offset, "a field whose time of expiry is none")
        expiries = list(map(int, times))
        if max(expiries) > FIELD_EXPIRES_MS_MAX:
            raise RdbError(offset, f"a field that expires at {max(expiries)}")
        return list(zip(unique.add(chunk[::3]), chunk[1::3], expiries, strict=True))

    return TimedHashValue(_kept(map(fields, strings), strings), size)


def _kept(chunks: Iterator[T], strings: Iterable[list[bytes]]) -> Iterable[T]:
    """Return the chunks: made at once if their strings are at hand."""
    return list(chunks) if isinstance(strings, list) else chunks


# Lists that are a row of packed strings


def _quicklist_reader(code: int) -> Callable[[Source], Value | None]:
    def read(source: Source) -> Value | None:
        chunks = _nodes(source, source.length(), code)
        first = next(chunks, None)
        if first is None:
            return None
        second = next(chunks, None)
        if second is None:
            return ListValue((first,), len(first))
        return ListValue(chain((first, second), chunks))

    return read


def _nodes(source: Source, count: int, code: int) -> Iterator[list[bytes]]:
    """Yield the elements of a quicklist's nodes, short ones of several together."""
    unpack = listpack.unpack_chunks if code == opcodes.LIST_QUICKLIST_2 else ziplist.unpack_chunks
    gathered: list[bytes] = []
    source.long_bytes = 0
    for _ in range(count):
        kind = source.length() if code == opcodes.LIST_QUICKLIST_2 else opcodes.PACKED_NODE
        offset = source.offset
        blob = source.string()
        if kind == opcodes.PLAIN_NODE:
            gathered.append(blob)
        elif kind == opcodes.PACKED_NODE:
            for chunk in unpack(blob, CHUNK_SIZE, offset):
                if len(gathered) + len(chunk) > CHUNK_SIZE and gathered:
                    yield gathered
                    gathered = chunk
                else:
                    gathered += chunk
        else:
            raise RdbError(offset, f"a list's node of the unknown kind {kind}")
        if source.long_bytes > CHUNK_BYTES:
            source.long_bytes = 0
            if gathered:
                yield gathered
                gathered = []
    if gathered:
        yield gathered


def _stream_reader(code: int) -> Callable[[Source], Value | None]:
    def read(source: Source) -> Value | None:
        return streams.read_stream(source, code)

    return read


_READERS: Final[dict[int, Callable[[Source], Value | None]]] = {
    opcodes.LIST: _read_list,
    opcodes.SET: _read_set,
    opcodes.ZSET: _read_zset,
    opcodes.HASH: _read_hash,
    opcodes.ZSET_2: _read_zset_2,
    opcodes.HASH_ZIPMAP: _hash_reader(zipmap.unpack_chunks),
    opcodes.LIST_ZIPLIST: _read_packed_list,
    opcodes.SET_INTSET: _set_reader(intset.unpack_chunks),
    opcodes.ZSET_ZIPLIST: _zset_reader(ziplist.unpack_chunks),
    opcodes.HASH_ZIPLIST: _hash_reader(ziplist.unpack_chunks),
    opcodes.LIST_QUICKLIST: _quicklist_reader(opcodes.LIST_QUICKLIST),
    opcodes.STREAM_LISTPACKS: _stream_reader(opcodes.STREAM_LISTPACKS),
    opcodes.HASH_LISTPACK: _hash_reader(listpack.unpack_chunks),
    opcodes.ZSET_LISTPACK: _zset_reader(listpack.unpack_chunks),
    opcodes.LIST_QUICKLIST_2: _quicklist_reader(opcodes.LIST_QUICKLIST_2),
    opcodes.STREAM_LISTPACKS_2: _stream_reader(opcodes.STREAM_LISTPACKS_2),
    opcodes.SET_LISTPACK: _set_reader(listpack.unpack_chunks),
    opcodes.STREAM_LISTPACKS_3: _stream_reader(opcodes.STREAM_LISTPACKS_3),
    opcodes.HASH_METADATA_PRE_GA: _read_timed_hash_pre_ga,
    opcodes.HASH_LISTPACK_EX_PRE_GA: _read_timed_listpack_pre_ga,
    opcodes.HASH_METADATA: _read_timed_hash,
    opcodes.HASH_LISTPACK_EX: _read_timed_listpack,
}

"""Writing values: which encoding Redis would choose, and its bytes.

What lies in memory as a whole is a collection small enough for a packed encoding, and the beginning of a list
or stream (BUFFERED_BYTES), because the number of their nodes comes first. If the size of a value is not
known, all of it does.

The size is held against the elements, since a file whose counts are wrong is useless: ValueError.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final, TypeVar

from lamina.server.numbers import format_score, parse_integer
from lamina.server.rdb import intset, listpack, opcodes
from lamina.server.rdb.counting import counted, gathered
from lamina.server.rdb.lengths import encode_compressed, encode_length, encode_string
from lamina.server.rdb.listpacking import list_pieces
from lamina.server.rdb.rules import SavingRules
from lamina.server.rdb.streampacking import stream_pieces
from lamina.server.rdb.values import (
    HashValue,
    ListValue,
    SetValue,
    StreamValue,
    TimedHashValue,
    Value,
    ZsetValue,
)

BUFFERED_BYTES: Final = 1 << 20
"""Up to here a list or stream is packed before the number of its nodes is written."""

EVERYTHING: Final = 1 << 62

_DOUBLE: Final = struct.Struct("<d")
_MS: Final = struct.Struct("<q")
_EXACT_MAX: Final = 1 << 62
"""Up to here whole scores are written as integers."""

T = TypeVar("T")
Encoded = tuple[int, Iterable[bytes]]
"""A type number, and the bytes in pieces that are made as they are asked for."""


def encode_value(value: Value, rules: SavingRules, buffered_bytes: int = BUFFERED_BYTES) -> Encoded:
    """Return the encoding of a value.

    Errors: ValueError for an empty collection, a wrong `size`, or fields that expire in a version that has
    none; the latter two may come while the pieces are taken.
    """
    if isinstance(value, bytes):
        string = encode_compressed if rules.compress else encode_string
        return opcodes.STRING, (string(value),)
    if isinstance(value, StreamValue):
        return stream_pieces(value, rules, buffered_bytes)
    if value.size == 0:
        raise ValueError("an empty collection")
    if isinstance(value, HashValue):
        return _encode_hash(value, rules)
    if isinstance(value, ListValue):
        return list_pieces(value, rules, buffered_bytes)
    if isinstance(value, SetValue):
        return _encode_set(value, rules)
    if isinstance(value, ZsetValue):
        return _encode_zset(value, rules)
    return _encode_timed_hash(value, rules)


def _encode_set(value: SetValue, rules: SavingRules) -> Encoded:
    chunks = value.chunks
    size = value.size
    listpack_entries = rules.set_listpack_entries if rules.version >= opcodes.REDIS_72 else 0
    if value.is_packable and size <= max(rules.set_intset_entries, listpack_entries):
        members = gathered(chunks, size)
        size = _size_of(members)
        if size <= rules.set_intset_entries:
            numbers = [number for number in map(parse_integer, members) if number is not None]
            if len(numbers) == size:
                return _packed(opcodes.SET_INTSET, intset.pack(numbers), rules)
        if size <= listpack_entries and max(map(len, members)) <= rules.set_listpack_value:
            return _packed(opcodes.SET_LISTPACK, listpack.pack(members), rules)
        chunks = (members,)
    return opcodes.SET, _set_pieces(chunks, size, rules)


def _encode_hash(value: HashValue, rules: SavingRules) -> Encoded:
    chunks = value.chunks
    size = value.size
    if value.is_packable and size <= rules.hash_listpack_entries:
        pairs = gathered(chunks, size)
        size = _size_of(pairs)
        strings = list(chain.from_iterable(pairs))
        if size <= rules.hash_listpack_entries and max(map(len, strings)) <= rules.hash_listpack_value:
            return _packed(opcodes.HASH_LISTPACK, listpack.pack(strings), rules)
        chunks = (pairs,)
    return opcodes.HASH, _hash_pieces(chunks, size, rules)


def _encode_zset(value: ZsetValue, rules: SavingRules) -> Encoded:
    chunks = value.chunks
    size = value.size
    if value.is_packable and size <= rules.zset_listpack_entries:
        pairs = gathered(chunks, size)
        size = _size_of(pairs)
        longest = max(len(member) for member, _ in pairs)
        if size <= rules.zset_listpack_entries and longest <= rules.zset_listpack_value:
            score_text = format_score if rules.version >= opcodes.REDIS_72 else _format_score_70
            # Redis relies on the order.
            # Adding zero makes -0.0 positive, which is the same score.
            ordered = sorted((score + 0.0, member) for member, score in pairs)
            strings = chain.from_iterable((member, score_text(score)) for score, member in ordered)
            return _packed(opcodes.ZSET_LISTPACK, listpack.pack(strings), rules)
        chunks = (pairs,)
    return opcodes.ZSET_2, _zset_pieces(chunks, size, rules)


def _encode_timed_hash(value: TimedHashValue, rules: SavingRules) -> Encoded:
    if rules.version < opcodes.REDIS_74:
        raise ValueError(f"fields that expire, in RDB version {rules.version}, which has none")
    chunks = value.chunks
    size = value.size
    if value.is_packable and size <= rules.hash_listpack_entries:
        triples = gathered(chunks, size)
        size = _size_of(triples)
        times = [expires_ms for _, _, expires_ms in triples if expires_ms]
        if not times:
            plain = [(field, content) for field, content, _ in triples]
            return _encode_hash(HashValue((plain,), size), rules)
        longest = max(max(len(field), len(content)) for field, content, _ in triples)
        if size <= rules.hash_listpack_entries and longest <= rules.hash_listpack_value:
            return opcodes.HASH_LISTPACK_EX, _timed_listpack_pieces(triples, min(times), rules)
        chunks = [triples]
    least_ms = 1
    if isinstance(chunks, list):
        least_ms = min((time for chunk in chunks for _, _, time in chunk if time), default=1)
    # Else the least time is not known before the end: times are counted from one that is as early as can be.
    return opcodes.HASH_METADATA, _timed_pieces(chunks, size, least_ms, rules)


def _size_of(elements: list[T]) -> int:
    if not elements:
        raise ValueError("an empty collection")
    return len(elements)


def _packed(code: int, blob: bytes, rules: SavingRules) -> Encoded:
    return code, (encode_compressed(blob) if rules.compress else encode_string(blob),)


def _set_pieces(chunks: Iterable[list[bytes]], size: int, rules: SavingRules) -> Iterator[bytes]:
    string = encode_compressed if rules.compress else encode_string
    yield encode_length(size)
    for chunk in counted(chunks, size):
        yield b"".join(map(string, chunk))


def _hash_pieces(
    chunks: Iterable[list[tuple[bytes, bytes]]], size: int, rules: SavingRules
) -> Iterator[bytes]:
    string = encode_compressed if rules.compress else encode_string
    yield encode_length(size)
    for chunk in counted(chunks, size):
        yield b"".join(map(string, chain.from_iterable(chunk)))


def _zset_pieces(
    chunks: Iterable[list[tuple[bytes, float]]], size: int, rules: SavingRules
) -> Iterator[bytes]:
    string = encode_compressed if rules.compress else encode_string
    score_bytes = _DOUBLE.pack
    yield encode_length(size)
    for chunk in counted(chunks, size):
        yield b"".join([string(member) + score_bytes(score) for member, score in chunk])


def _timed_pieces(
    chunks: Iterable[list[tuple[bytes, bytes, int]]], size: int, least_ms: int, rules: SavingRules
) -> Iterator[bytes]:
    string = encode_compressed if rules.compress else encode_string
    yield _MS.pack(least_ms)
    yield encode_length(size)
    for chunk in counted(chunks, size):
        pieces: list[bytes] = []
        for field, content, expires_ms in chunk:
            time = encode_length(expires_ms - least_ms + 1 if expires_ms else 0)
            pieces += (time, string(field), string(content))
        yield b"".join(pieces)


def _timed_listpack_pieces(
    triples: list[tuple[bytes, bytes, int]], least_ms: int, rules: SavingRules
) -> Iterator[bytes]:
    # The first to expire comes first, and last those that never do.
    triples.sort(key=lambda triple: triple[2] or EVERYTHING)
    strings = chain.from_iterable((field, content, b"%d" % time) for field, content, time in triples)
    blob = listpack.pack(strings)
    yield _MS.pack(least_ms)
    yield encode_compressed(blob) if rules.compress else encode_string(blob)


def _format_score_70(score: float) -> bytes:
    """Return a score as Redis 7.0 writes it: 17 digits, where 7.2 writes as many as are needed."""
    if -_EXACT_MAX <= score <= _EXACT_MAX and score.is_integer():
        return b"%d" % score
    return b"%.17g" % score

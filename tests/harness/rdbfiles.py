"""RDB files and DUMP payloads for tests: values that can be compared, and bytes built by hand.

    plain(value)                        a value of the codec, read to its end, as plain Python
    value_of(client, key)               the same of a server's key, asked for by commands
    items_of(data)                      all items of a file, their values plain
    rdb(6, key(b"k", 12, ziplist([b"a", b"1"])))        a file of an old version, with its checksum

The builders know the forms from their description, not from the code that is tested; what they build is also
given to a real redis-server.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Sequence
from typing import Any

from harness.resp import RespClient
from lamina.server.rdb.crc64 import crc64
from lamina.server.rdb.loading import RdbReader
from lamina.server.rdb.values import (
    HashValue,
    Key,
    ListValue,
    SetValue,
    StreamValue,
    TimedHashValue,
    Value,
    ZsetValue,
)

Plain = Any
"""bytes, or a tuple that begins with the type's name."""


def plain(value: Value) -> Plain:
    """Return all of a value; one from a file is used up."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, StreamValue):
        entries = [entry for chunk in value.chunks for entry in chunk]
        groups = {group.name: group for group in value.groups}
        return "stream", entries, value.state, groups
    elements: list[Any] = [element for chunk in value.chunks for element in chunk]
    assert value.size in (-1, len(elements))
    if isinstance(value, ListValue):
        return "list", elements
    if isinstance(value, SetValue):
        return "set", frozenset(elements)
    if isinstance(value, ZsetValue):
        return "zset", dict(elements)
    if isinstance(value, HashValue):
        return "hash", dict(elements)
    assert isinstance(value, TimedHashValue)
    return "timed hash", {field: (content, time) for field, content, time in elements}


def without_seen_times(found: dict[Any, tuple[Plain, int]]) -> dict[Any, tuple[Plain, int]]:
    """Return plain values and their expiries without when consumers of streams were seen."""
    bare: dict[Any, tuple[Plain, int]] = {}
    for name, (value, expires_ms) in found.items():
        if isinstance(value, tuple) and value[0] == "stream":
            groups = {
                group.name: group._replace(
                    consumers=[one._replace(seen_ms=0, active_ms=0) for one in group.consumers]
                )
                for group in value[3].values()
            }
            value = (*value[:3], groups)
        bare[name] = (value, expires_ms)
    return bare


def items_of(data: bytes, **options: Any) -> list[Any]:
    """Return the items of a file; of keys, `value` is plain."""
    return [
        item._replace(value=plain(item.value)) if isinstance(item, Key) else item
        for item in RdbReader(io.BytesIO(data), **options)
    ]


def keys_of(data: bytes, **options: Any) -> dict[bytes, Plain]:
    """Return the plain values of a file by their keys."""
    return {item.key: item.value for item in items_of(data, **options) if isinstance(item, Key)}


def value_of(client: RespClient, key: bytes) -> Plain:
    """Return what `plain` does, of a server's key; of a stream without its groups."""
    kind = client.ok("TYPE", key)
    if kind == "string":
        return client.ok("GET", key)
    if kind == "list":
        return kind, client.ok("LRANGE", key, 0, -1)
    if kind == "set":
        return kind, frozenset(client.ok("SMEMBERS", key))
    if kind == "hash":
        flat = client.ok("HGETALL", key)
        return kind, dict(zip(flat[::2], flat[1::2]))
    if kind == "zset":
        flat = client.ok("ZRANGE", key, 0, -1, "WITHSCORES")
        return kind, dict(zip(flat[::2], map(float, flat[1::2])))
    assert kind == "stream"
    return kind, [(stream_id(name), items) for name, items in client.ok("XRANGE", key, "-", "+")]


def stream_id(text: bytes) -> tuple[int, int]:
    """Return the id that a text like 5-1 is."""
    ms, _, seq = text.partition(b"-")
    return int(ms), int(seq)


# Bytes by hand


def length(number: int) -> bytes:
    """Return a length in the longest form that every version knows, or the shortest there is."""
    return bytes((number,)) if number < 64 else b"\x80" + struct.pack(">I", number)


def string(value: bytes) -> bytes:
    """Return a string."""
    return length(len(value)) + value


def key(name: bytes, code: int, *parts: bytes, before: bytes = b"") -> bytes:
    """Return a key with a value of type `code`, which consists of parts; `before`: its expiry, say."""
    return before + bytes((code,)) + string(name) + b"".join(parts)


def rdb(version: int, *items: bytes, checksum: bool = True) -> bytes:
    """Return a file with these items in database 0."""
    body = b"REDIS%04d" % version + b"\xfe\x00" + b"".join(items) + b"\xff"
    if version < 5:
        return body
    return body + (crc64(body, 0) if checksum else 0).to_bytes(8, "little")


def dump(code: int, *parts: bytes, version: int = 10) -> bytes:
    """Return a DUMP payload."""
    body = bytes((code,)) + b"".join(parts) + version.to_bytes(2, "little")
    return body + crc64(body, 0).to_bytes(8, "little")


def ziplist(elements: Iterable[bytes | int], *, long_lengths: bool = False) -> bytes:
    """Return a ziplist as a string of the file; integers in the shortest form."""
    entries: list[bytes] = []
    for element in elements:
        before = len(entries[-1]) if entries else 0
        is_long = long_lengths or before >= 254
        head = b"\xfe" + struct.pack("<I", before) if is_long else bytes((before,))
        entries.append(head + (_zip_integer(element) if isinstance(element, int) else _zip_string(element)))
    body = b"".join(entries)
    tail = 10 + len(body) - (len(entries[-1]) if entries else 0)
    return string(struct.pack("<IIH", len(body) + 11, tail, min(len(entries), 0xFFFF)) + body + b"\xff")


def _zip_string(value: bytes) -> bytes:
    size = len(value)
    if size < 64:
        return bytes((size,)) + value
    if size < 16384:
        return struct.pack(">H", 0x4000 | size) + value
    return b"\x80" + struct.pack(">I", size) + value


def _zip_integer(number: int) -> bytes:
    if 0 <= number <= 12:
        return bytes((0xF1 + number,))
    for head, size in ((0xFE, 1), (0xC0, 2), (0xF0, 3), (0xD0, 4), (0xE0, 8)):
        if -(1 << 8 * size - 1) <= number < 1 << 8 * size - 1:
            return bytes((head,)) + number.to_bytes(size, "little", signed=True)
    raise ValueError(number)


def zipmap(pairs: Sequence[tuple[bytes, bytes]], *, free: int = 0) -> bytes:
    """Return a zipmap as a string of the file; `free` bytes behind every value."""

    def head(size: int) -> bytes:
        return bytes((size,)) if size < 254 else b"\xfe" + struct.pack("<I", size)

    body = b"".join(
        head(len(field)) + field + head(len(value)) + bytes((free,)) + value + bytes(free)
        for field, value in pairs
    )
    return string(bytes((min(len(pairs), 254),)) + body + b"\xff")


def intset(members: Sequence[int], width: int) -> bytes:
    """Return an intset as a string of the file."""
    integers = b"".join(member.to_bytes(width, "little", signed=True) for member in members)
    return string(struct.pack("<II", width, len(members)) + integers)

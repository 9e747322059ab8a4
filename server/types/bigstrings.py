"""Big strings: kept in chunks, so that changing a part of one costs a chunk.

    e id chunk number:u32 -> bytes         chunk n holds the bytes from n x CHUNK_SIZE on

A chunk may be shorter than CHUNK_SIZE, or missing: what it lacks are zeros. So a string of 512 MB with one
bit set at its end is one chunk. There always is one.
"""

from __future__ import annotations

from collections.abc import Iterator

from lamina.server.encoding import U32
from lamina.server.keyspace import Keyspace
from lamina.server.records import BigString

SIZE_MIN = 64 * 1024
"""Strings from this size on are kept in chunks."""

CHUNK_SIZE = 16 * 1024
"""Written to disk: never change it."""

_READ_SINGLY = 4
"""Chunks that are got one by one: that is cheaper than a scan, and leaves pending writes where they are."""


def create(keyspace: Keyspace, text: bytes) -> BigString:
    """Return a new big string that holds `text`."""
    record = BigString(keyspace, keyspace.databases.take_id(), len(text))
    put, prefix = keyspace.store.put, record.prefix
    for number, at in enumerate(range(0, len(text), CHUNK_SIZE)):
        put(prefix + U32.pack(number), text[at : at + CHUNK_SIZE], False)
    return record


def read_all(keyspace: Keyspace, record: BigString) -> bytes:
    """Return all of the string."""
    return read_range(keyspace, record, 0, record.size)


def read_range(keyspace: Keyspace, record: BigString, start: int, stop: int) -> bytes:
    """Return the bytes ``start <= position < stop``. Cost: O(bytes), and a seek."""
    stop = min(stop, record.size)
    if start >= stop:
        return b""
    first, last = start // CHUNK_SIZE, (stop - 1) // CHUNK_SIZE
    begin = first * CHUNK_SIZE
    if last - first < _READ_SINGLY:
        get, prefix = keyspace.store.get, record.prefix
        chunks = [get(prefix + U32.pack(number)) or b"" for number in range(first, last + 1)]
        parts = [chunk.ljust(CHUNK_SIZE, b"\0") for chunk in chunks]
    else:
        parts = _scan_range(keyspace, record, first, last)
    return b"".join(parts)[start - begin : stop - begin]


def _scan_range(keyspace: Keyspace, record: BigString, first: int, last: int) -> list[bytes]:
    """Return parts that together are the chunks `first` to `last`."""
    prefix = record.prefix
    skip = len(prefix)
    parts: list[bytes] = []
    at = first * CHUNK_SIZE
    for key, chunk in keyspace.store.scan(prefix + U32.pack(first), prefix + U32.pack(last + 1)):
        begin = U32.unpack_from(key, skip)[0] * CHUNK_SIZE
        if begin > at:
            parts.append(bytes(begin - at))
        parts.append(chunk)
        at = begin + len(chunk)
    parts.append(bytes((last + 1) * CHUNK_SIZE - at))
    return parts


def byte_at(keyspace: Keyspace, record: BigString, position: int) -> int:
    """Return one byte; 0 behind the end. Cost: a lookup."""
    number, offset = divmod(position, CHUNK_SIZE)
    chunk = keyspace.store.get(record.prefix + U32.pack(number))
    return chunk[offset] if chunk is not None and offset < len(chunk) else 0


def pieces(keyspace: Keyspace, record: BigString, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
    """Yield what is stored of the bytes ``start <= position < stop``, each piece behind its position.

    What lies between the pieces are zeros. Cost: that of what is stored.
    """
    stop = min(stop, record.size)
    if start >= stop:
        return
    for number, chunk in _chunks(keyspace, record, start // CHUNK_SIZE, (stop - 1) // CHUNK_SIZE):
        at = number * CHUNK_SIZE
        if at + len(chunk) > stop:
            chunk = chunk[: stop - at]
        if at < start:
            chunk = chunk[start - at :]
            at = start
        if chunk:
            yield at, chunk


def _chunks(keyspace: Keyspace, record: BigString, first: int, last: int) -> Iterator[tuple[int, bytes]]:
    """Yield the chunks from `first` to `last` that are stored, each behind its number."""
    prefix = record.prefix
    if last - first < _READ_SINGLY:
        for number in range(first, last + 1):
            chunk = keyspace.store.get(prefix + U32.pack(number))
            if chunk is not None:
                yield number, chunk
        return
    skip = len(prefix)
    for key, chunk in keyspace.store.scan(prefix + U32.pack(first), prefix + U32.pack(last + 1)):
        yield U32.unpack_from(key, skip)[0], chunk


def write_range(keyspace: Keyspace, record: BigString, start: int, data: bytes) -> None:
    """Write `data` from position `start` on; the string grows if it has to. Cost: O(len(data)).

    The caller marks the record as changed.
    """
    store, prefix = keyspace.store, record.prefix
    at = 0
    while at < len(data):
        number, offset = divmod(start + at, CHUNK_SIZE)
        piece = data[at : at + CHUNK_SIZE - offset]
        key = prefix + U32.pack(number)
        old = store.get(key)
        chunk = (old or b"")[:offset].ljust(offset, b"\0") + piece
        if old is not None and len(old) > len(chunk):
            chunk += old[len(chunk) :]
        store.put(key, chunk, old is not None)
        at += len(piece)
    record.size = max(record.size, start + len(data))

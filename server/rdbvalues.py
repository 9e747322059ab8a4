"""Stored records as values of an RDB file or a DUMP payload.

    for key in read_keys(view, pdb, 0, now_ms=now_ms):     # a whole database, in the order of keys
        writer.write_key(key.key, key.value, key.expires_ms)

    value = value_of(store, pdb, raw)                      # what one raw record holds

What is read from is a `Store`, whose pending writes are seen, or a view or snapshot of the engine, which
needs no server. Elements come in chunks, each read when it is asked for, so a collection is never in memory
whole. A string is, as a value has it so: what is missing of a big one are zeros (types/bigstrings.py).

Sorted sets come highest score first, as in Redis's own files: who loads one into an ordered structure then
always adds at the same end.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Final, NamedTuple

from lamina.engine import Snapshot
from lamina.engine.layers import View
from lamina.server.encoding import (
    BIG,
    BIG_STRING,
    COLLECTION,
    DOUBLE,
    ELEMENT,
    FIELD_EXPIRY,
    FUNCTION_PREFIX,
    HAS_EXPIRY,
    HASH,
    LIST,
    PLAIN_STRING,
    RECORD,
    SET,
    STATE_PREFIX,
    STREAM,
    STRING,
    TYPE_MASK,
    U32,
    U64,
    ZSET,
    decode_score,
    end_of,
    prefix_of,
)
from lamina.server.rdb.values import (
    HashValue,
    Key,
    ListValue,
    SetValue,
    TimedHashValue,
    Value,
    ZsetValue,
)
from lamina.server.readahead import BATCH_BYTES, BATCH_RECORDS, ReadAhead, Rows
from lamina.server.store import Store
from lamina.server.types import hashes, lists, sets, zsets
from lamina.server.types.bigstrings import CHUNK_SIZE
from lamina.server.types.streamvalues import read_stream
from lamina.server.types.zsetorder import SCORE_SIZE

Source = Store | View | Snapshot
"""What records and elements are read from."""

_MAP_KEY: Final = STATE_PREFIX + b"databases"
_FIRST_FRESH_PDB: Final = 1 << 20
"""Physical numbers below are the homes of logical databases, one less."""

_BODY_AT: Final = 1 + U64.size
"""Where the body of a record begins that has an expiry."""

_PLAIN_TAG: Final = PLAIN_STRING[0]
_PLAIN_TAGS: Final = frozenset((_PLAIN_TAG,))
_TAG_OF: Final = itemgetter(0)


class BrokenRecordError(ValueError):
    """A record that is none, or a value that is not what its record says."""


# -- whole databases ---------------------------------------------------------------------------------


def database_map(view: Source) -> dict[int, int]:
    """Return the physical numbers of the logical databases that hold keys. Cost: a seek for each."""
    raw = view.get(_MAP_KEY)
    # The first number is the next fresh one.
    numbers = [] if raw is None else [number for (number,) in U32.iter_unpack(raw)][1:]
    away = dict(zip(numbers[::2], numbers[1::2], strict=True))
    logical_by_pdb = {pdb: logical for logical, pdb in away.items()}
    found: dict[int, int] = {}
    low = U32.pack(1)
    while (first := _first_key(view, low)) is not None:
        (pdb,) = U32.unpack_from(first)
        logical = logical_by_pdb.get(pdb)
        if logical is None and pdb < _FIRST_FRESH_PDB and pdb - 1 not in away:
            logical = pdb - 1
        records = prefix_of(pdb, RECORD)
        if logical is not None and any(keys for keys, _ in rows(view, records, end_of(records))):
            found[logical] = pdb
        low = end_of(first[: U32.size])
    return dict(sorted(found.items()))


def _first_key(view: Source, low: bytes) -> bytes | None:
    for keys, _ in rows(view, low, b"\xff" * U32.size):
        if keys:
            return keys[0]
    return None


def has_timed_fields(view: Source, pdb: int) -> bool:
    """Tell whether fields of some hash in a physical database expire, which older files have no form for."""
    index = prefix_of(pdb, FIELD_EXPIRY)
    return view.count(index, end_of(index)) > 0


class Strings(NamedTuple):
    """Strings that do not expire, many at once."""

    keys: list[bytes]
    texts: list[bytes]


def read_libraries(view: Source) -> Iterator[bytes]:
    """Yield the sources of the libraries of functions, by name."""
    for _, source in view.scan(FUNCTION_PREFIX, end_of(FUNCTION_PREFIX)):
        yield source


def read_keys(
    view: Source, pdb: int, db_number: int, *, prefix: bytes = b"", now_ms: int = 0
) -> Iterator[Key]:
    """Yield the keys of a physical database that begin with `prefix`, in order, as those of `db_number`.

    The chunks of a value are to be gone through before the next key is asked for, or not at all. `now_ms`:
    keys and fields that have expired by then are left out; 0: none are. Errors: BrokenRecordError; those of
    reading. Cost: 0.5 µs for a short string, some µs for a small collection (readahead.py), a seek more for
    another.
    """
    for run in read_runs(view, pdb, db_number, prefix=prefix, now_ms=now_ms):
        if isinstance(run, Key):
            yield run
        else:
            for key, text in zip(run.keys, run.texts):
                yield Key(db_number, key, text)


def read_runs(
    view: Source, pdb: int, db_number: int, *, prefix: bytes = b"", now_ms: int = 0
) -> Iterator[Key | Strings]:
    """Yield what `read_keys` does, but plain strings together where nothing else is among them."""
    low = prefix_of(pdb, RECORD)
    skip = len(low)
    low += prefix
    for keys, raws in _batches(rows(view, low, end_of(low))):
        if set(map(_TAG_OF, raws)) <= _PLAIN_TAGS:
            yield Strings([key[skip:] for key in keys], [raw[1:] for raw in raws])
            continue
        source = _Ahead(view, ReadAhead(partial(rows, view), pdb, raws))
        for engine_key, raw in zip(keys, raws):
            if raw[0] == _PLAIN_TAG:
                yield Key(db_number, engine_key[skip:], raw[1:])
                continue
            expires_ms = 0
            if raw[0] & HAS_EXPIRY:
                expires_ms = expires_ms_of(raw)
                if expires_ms <= now_ms:
                    continue
            try:
                value = value_of(source, pdb, raw, now_ms=now_ms)
            except BrokenRecordError as error:
                raise BrokenRecordError(f"key {engine_key[skip:]!r}: {error}") from None
            if value is not None:
                yield Key(db_number, engine_key[skip:], value, expires_ms)


def _batches(chunks: Rows) -> Rows:
    """Yield the same entries, more at a time."""
    keys: list[bytes] = []
    raws: list[bytes] = []
    size_bytes = 0
    for some_keys, some_raws in chunks:
        keys += some_keys
        raws += some_raws
        size_bytes += sum(map(len, some_raws))
        if len(keys) >= BATCH_RECORDS or size_bytes >= BATCH_BYTES:
            yield keys, raws
            keys, raws, size_bytes = [], [], 0
    yield keys, raws


class _Ahead:
    """A source some of whose collections have been read already."""

    __slots__ = ("_ahead", "count", "get", "source")

    def __init__(self, source: Source, ahead: ReadAhead) -> None:
        self.source = source
        self.get = source.get
        self.count = source.count
        self._ahead = ahead

    def scan_chunks(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Rows:
        """Return the entries of a range."""
        found = self._ahead.rows(start, stop, reverse=reverse)
        return rows(self.source, start, stop, reverse=reverse) if found is None else found


def rows(source: Source | _Ahead, start: bytes, stop: bytes, *, reverse: bool = False) -> Rows:
    """Return the entries of a range, in order or backwards."""
    scan = source.chunks if isinstance(source, Store) else source.scan_chunks
    return scan(start, stop, reverse=reverse)


# -- one value ---------------------------------------------------------------------------------------


def expires_ms_of(raw: bytes) -> int:
    """Return when a raw record expires; 0: never."""
    if not raw[0] & HAS_EXPIRY:
        return 0
    expires_ms: int = U64.unpack_from(raw, 1)[0]
    return expires_ms


def value_of(source: Source | _Ahead, pdb: int, raw: bytes, *, now_ms: int = 0) -> Value | None:
    """Return what a raw record of a physical database holds, but for fields that have expired by `now_ms`;
    None if these are all. Errors: BrokenRecordError; those of reading, also as chunks are asked for.
    """
    tag = raw[0] & TYPE_MASK
    body = raw[_BODY_AT if raw[0] & HAS_EXPIRY else 1 :]
    if tag == STRING:
        return body
    reader = _READERS.get(tag)
    if reader is None:
        raise BrokenRecordError(f"a record of unknown type {raw[0]}")
    try:
        return reader(source, prefix_of(pdb, ELEMENT), body, now_ms)
    except (ValueError, struct.error) as error:
        raise BrokenRecordError(f"a record of {len(raw)} bytes: {error}") from None


def _big_string(source: Source | _Ahead, elements: bytes, body: bytes, now_ms: int) -> Value:
    string_id, size = BIG.unpack(body)
    prefix = elements + U64.pack(string_id)
    skip = len(prefix)
    parts: list[bytes] = []
    at = 0
    for keys, chunks in rows(source, prefix, end_of(prefix)):
        for key, chunk in zip(keys, chunks):
            begin = U32.unpack_from(key, skip)[0] * CHUNK_SIZE
            if begin > at:
                parts.append(bytes(begin - at))
            parts.append(chunk)
            at = begin + len(chunk)
    if at < size:
        parts.append(bytes(size - at))
    text = b"".join(parts)
    return text if len(text) == size else text[:size]


def _list(source: Source | _Ahead, elements: bytes, body: bytes, now_ms: int) -> Value:
    place = lists.place_of(body)
    prefix = elements + U64.pack(place.id)
    # Not from the prefix on: what a queue has popped need not be walked over.
    found = rows(source, prefix + U64.pack(place.head), prefix + U64.pack(place.tail))
    return ListValue((values for _, values in found), place.size)


def _set(source: Source | _Ahead, elements: bytes, body: bytes, now_ms: int) -> Value:
    set_id, size, form = COLLECTION.unpack(body)
    prefix = elements + U64.pack(set_id)
    skip = len(prefix)
    found = rows(source, prefix, end_of(prefix))
    return SetValue(([key[skip:] for key in keys] for keys, _ in found), size, form != sets.HASHTABLE)


def _zset(source: Source | _Ahead, elements: bytes, body: bytes, now_ms: int) -> Value:
    zset_id, size, form = COLLECTION.unpack(body)
    prefix = elements + U64.pack(zset_id)
    chunks = _scored_chunks(source, prefix, is_signed=form == zsets.SIGNED)
    return ZsetValue(chunks, size, form == zsets.LISTPACK)


def _scored_chunks(
    source: Source | _Ahead, prefix: bytes, *, is_signed: bool
) -> Iterator[list[tuple[bytes, float]]]:
    """Yield members and scores, the highest first."""
    order = prefix + b"s"
    score_at = len(order)
    skip = score_at + SCORE_SIZE
    for keys, _ in rows(source, order, end_of(order), reverse=True):
        chunk = [(key[skip:], decode_score(key[score_at:skip])) for key in keys]
        if is_signed:
            # The order has no -0.0, but the scores do.
            chunk = [(member, score or _score_of(source, prefix + b"m" + member)) for member, score in chunk]
        yield chunk


def _score_of(source: Source | _Ahead, engine_key: bytes) -> float:
    raw = source.get(engine_key)
    if raw is None:
        raise BrokenRecordError(f"no score at {engine_key!r}")
    score: float = DOUBLE.unpack(raw)[0]
    return score


def _hash(source: Source | _Ahead, elements: bytes, body: bytes, now_ms: int) -> Value | None:
    hash_id, size, form, times_id, due_ms = hashes.place_of(body)
    prefix = elements + U64.pack(hash_id)
    skip = len(prefix)
    found = rows(source, prefix, end_of(prefix))
    is_packable = form != hashes.HASHTABLE
    if not due_ms:
        pairs = (list(zip([key[skip:] for key in keys], values)) for keys, values in found)
        return HashValue(pairs, size, is_packable)
    times = elements + U64.pack(times_id)
    if now_ms >= due_ms:
        by_time = times + b"t"
        size -= source.count(by_time, by_time + U64.pack(now_ms + 1))
        if not size:
            return None
    chunks = _timed_chunks(found, skip, _field_times(source, times + b"f"), now_ms)
    return TimedHashValue(chunks, size, is_packable)


def _field_times(source: Source | _Ahead, by_field: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield the fields that expire, in order, and when."""
    skip = len(by_field)
    return chain.from_iterable(
        [(key[skip:], int.from_bytes(packed, "big")) for key, packed in zip(keys, packed_times)]
        for keys, packed_times in rows(source, by_field, end_of(by_field))
    )


def _timed_chunks(
    found: Rows, skip: int, times: Iterator[tuple[bytes, int]], now_ms: int
) -> Iterator[list[tuple[bytes, bytes, int]]]:
    """Yield fields, values and times: two rows in the order of fields, merged."""
    upcoming = next(times, None)
    for keys, values in found:
        chunk: list[tuple[bytes, bytes, int]] = []
        for key, value in zip(keys, values):
            field = key[skip:]
            if upcoming is None or upcoming[0] != field:
                chunk.append((field, value, 0))
                continue
            if upcoming[1] > now_ms:
                chunk.append((field, value, upcoming[1]))
            upcoming = next(times, None)
        yield chunk


def _stream(source: Source | _Ahead, elements: bytes, body: bytes, now_ms: int) -> Value:
    return read_stream(lambda start, stop: rows(source, start, stop), elements, body)


_READERS: Final[dict[int, Callable[[Source | _Ahead, bytes, bytes, int], Value | None]]] = {
    BIG_STRING: _big_string,
    LIST: _list,
    SET: _set,
    ZSET: _zset,
    HASH: _hash,
    STREAM: _stream,
}
"""How the body of a record is read, by its tag."""

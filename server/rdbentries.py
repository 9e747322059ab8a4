"""Values of an RDB file or a DUMP payload as entries of the engine: all that the server would have written.

    writer = EntryWriter(pdb, take_id, sink)
    writer.put(b"greeting", b"hello")
    writer.put(b"queue", ListValue(chunks), expires_ms=1735689600000)
    writer.flush()

`sink(keys, values)` is given parallel columns, in no order, some `FLUSH_BYTES` at a time; they are its own
from then on. `take_id()` returns a new id of a collection, as Databases.take_id. docs/format.md draws the
entries.

An entry comes once for each element, so a collection never lies in memory whole. Whether elements are
different is not looked at: two that are the same are two entries of the same key, which the sink must find
(values.py says where they can come from). `last_size` tells how many elements there were, and a collection
without any is no key.

The form of a collection is the encoding that Redis would have chosen for these elements under the limits in
force (limits.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from math import copysign
from typing import Any, ClassVar, Final

from lamina.server.encoding import (
    ARGUMENT_SIZE_MAX,
    BIG,
    BIG_STRING,
    COLLECTION,
    DOUBLE,
    ELEMENT,
    EXPIRY,
    FIELD_EXPIRY,
    HAS_EXPIRY,
    HASH,
    LIST,
    PLAIN_STRING,
    RECORD,
    SET,
    STREAM,
    STRING,
    U32,
    U64,
    ZSET,
    encode_score,
    prefix_of,
)
from lamina.server.limits import LIMITS
from lamina.server.numbers import parse_integer
from lamina.server.rdb.values import (
    HashValue,
    ListValue,
    SetValue,
    StreamValue,
    TimedHashValue,
    Value,
    ZsetValue,
)
from lamina.server.types import hashes, lists, sets, zsets
from lamina.server.types.bigstrings import CHUNK_SIZE, SIZE_MIN
from lamina.server.types.listkeys import MIDDLE
from lamina.server.types.listpacks import EMPTY_BYTES, half_size_max, is_too_large, packed_size
from lamina.server.types.streams import encode_place
from lamina.server.types.streamvalues import Filled, entry_rows, group_rows

Sink = Callable[[list[bytes], list[bytes]], None]
"""Takes entries: keys and values."""

FLUSH_BYTES: Final = 1 << 20
"""About how much is gathered for the sink at a time."""

_FLUSH_ENTRIES: Final = 8192
_LONG_BYTES: Final = 512
"""Values from this size on are weighed; of others there are never so many that they take much."""


class UnsupportedValueError(ValueError):
    """A value of a type that is not stored so far, or a key or element that is too long."""


class EntryWriter:
    """Makes the entries of one physical database."""

    def __init__(self, pdb: int, take_id: Callable[[], int], sink: Sink) -> None:
        self.keys: list[bytes] = []
        self.values: list[bytes] = []
        self.last_size = 0
        """Elements of the last key; 1 for a string, and for a stream that has none."""
        self._long_bytes = 0
        self._take_id = take_id
        self._sink = sink
        self._records = prefix_of(pdb, RECORD)
        self._elements = prefix_of(pdb, ELEMENT)
        self._expiry = prefix_of(pdb, EXPIRY)
        self._field_expiry = prefix_of(pdb, FIELD_EXPIRY)

    def put(self, key: bytes, value: Value, expires_ms: int = 0) -> None:
        """Write a key, which must not be there. Cost: 0.4 µs for a short string, 0.3 for an element.

        Errors: UnsupportedValueError; those of reading the value's chunks, and of the sink. Entries of a
        value that has broken off may have been given out.
        """
        due_ms = 0
        if isinstance(value, bytes):
            self.last_size = 1
            size = len(value)
            if size < _LONG_BYTES and not expires_ms:
                # The short way of most keys of most files.
                self.keys.append(self._records + key)
                self.values.append(PLAIN_STRING + value)
                if len(self.keys) >= _FLUSH_ENTRIES:
                    self.flush()
                return
            tag, body = (STRING, value) if size < SIZE_MIN else self._big_string(value)
            self._long_bytes += len(body)
        else:
            writer = self._WRITERS.get(type(value))
            if writer is None:
                raise UnsupportedValueError(f"{type(value).__name__} is not supported")
            tag, body, due_ms = writer(self, value)
            if not body:
                return
        if len(key) > ARGUMENT_SIZE_MAX:
            raise UnsupportedValueError(f"a key of {len(key)} bytes is too long")
        self._put_record(key, tag, body, expires_ms, due_ms)
        self._settle()

    def flush(self) -> None:
        """Give what is gathered to the sink."""
        keys, values = self.keys, self.values
        self.keys, self.values = [], []
        self._long_bytes = 0
        if keys:
            self._sink(keys, values)

    def _settle(self) -> None:
        if len(self.keys) >= _FLUSH_ENTRIES or self._long_bytes >= FLUSH_BYTES:
            self.flush()

    def _put_record(self, key: bytes, tag: int, body: bytes, expires_ms: int, due_ms: int) -> None:
        keys, values = self.keys, self.values
        keys.append(self._records + key)
        if expires_ms:
            time = U64.pack(expires_ms)
            values.append(bytes((tag | HAS_EXPIRY,)) + time + body)
            keys.append(self._expiry + time + key)
            values.append(b"")
        else:
            values.append(bytes((tag,)) + body)
        if due_ms:
            keys.append(self._field_expiry + U64.pack(due_ms) + key)
            values.append(b"")

    def _add(self, keys: list[bytes], values: list[bytes]) -> None:
        """Gather elements, a chunk of them."""
        self.keys += keys
        self.values += values
        self._long_bytes += sum(map(len, keys)) + sum(map(len, values))
        self._settle()

    def _begin(self) -> tuple[int, bytes]:
        """Return a new id, and what the keys of its elements begin with."""
        taken = self._take_id()
        return taken, self._elements + U64.pack(taken)

    # -- types -------------------------------------------------------------------------------------

    def _big_string(self, text: bytes) -> tuple[int, bytes]:
        taken, prefix = self._begin()
        for number, at in enumerate(range(0, len(text), CHUNK_SIZE)):
            self._add([prefix + U32.pack(number)], [text[at : at + CHUNK_SIZE]])
        return BIG_STRING, BIG.pack(taken, len(text))

    def _list(self, value: ListValue) -> tuple[int, bytes, int]:
        taken, prefix = self._begin()
        size = 0
        packed_bytes = EMPTY_BYTES
        is_long = False
        counted_max = 2 * half_size_max()
        pack = U64.pack
        for chunk in value.chunks:
            first = MIDDLE + size
            size += len(chunk)
            self._add([prefix + pack(position) for position in range(first, MIDDLE + size)], chunk)
            if packed_bytes >= 0:
                packed_bytes += sum(map(packed_size, chunk))
                is_long = is_long or is_too_large(packed_bytes, size)
                if is_long and size > counted_max:
                    packed_bytes = -1  # as in List.note_added
        self.last_size = size
        form = lists.QUICKLIST if is_long else lists.LISTPACK
        return LIST, lists.dense_body(taken, size, form, packed_bytes) if size else b"", 0

    def _set(self, value: SetValue) -> tuple[int, bytes, int]:
        taken, prefix = self._begin()
        size = longest = 0
        are_integers = True
        small_max = max(LIMITS.set_intset_entries, LIMITS.set_listpack_entries)
        for chunk in value.chunks:
            size += len(chunk)
            self._check(chunk)
            self._add([prefix + member for member in chunk], [b""] * len(chunk))
            if size <= small_max and chunk:
                are_integers = are_integers and all(parse_integer(member) is not None for member in chunk)
                longest = max(longest, *map(len, chunk))
        self.last_size = size
        form = sets.HASHTABLE
        if value.is_packable and size <= small_max:  # as sets.natural_form
            if are_integers:
                form = sets.INTSET if size <= LIMITS.set_intset_entries else sets.HASHTABLE
            elif size <= LIMITS.set_listpack_entries and longest <= LIMITS.set_listpack_value:
                form = sets.LISTPACK
        return SET, COLLECTION.pack(taken, size, form) if size else b"", 0

    def _zset(self, value: ZsetValue) -> tuple[int, bytes, int]:
        taken, prefix = self._begin()
        by_member, in_order = prefix + b"m", prefix + b"s"
        limit, longest_max = LIMITS.zset_listpack_entries, LIMITS.zset_listpack_value
        head, rest = _head(value.chunks, limit)
        is_small = value.is_packable and len(head) <= limit
        is_small = is_small and all(len(member) <= longest_max for member, _ in head)
        form = zsets.LISTPACK if is_small else zsets.SKIPLIST
        pack, order_of = DOUBLE.pack, encode_score
        size = 0
        for chunk in chain((head,), rest):
            size += len(chunk)
            self._check([member for member, _ in chunk])
            if any(score == 0.0 and copysign(1.0, score) < 0.0 for _, score in chunk):
                if form == zsets.LISTPACK:  # which has no -0.0
                    chunk = [(member, score or 0.0) for member, score in chunk]
                else:
                    form = zsets.SIGNED
            self._add([by_member + member for member, _ in chunk], [pack(score) for _, score in chunk])
            self._add([in_order + order_of(score) + member for member, score in chunk], [b""] * len(chunk))
        self.last_size = size
        return ZSET, COLLECTION.pack(taken, size, form) if size else b"", 0

    def _hash(self, value: HashValue) -> tuple[int, bytes, int]:
        taken, prefix = self._begin()
        limit = LIMITS.hash_listpack_entries
        size = longest = 0
        for chunk in value.chunks:
            size += len(chunk)
            fields = [field for field, _ in chunk]
            contents = [content for _, content in chunk]
            self._check(fields)
            self._add([prefix + field for field in fields], contents)
            if size <= limit and chunk:
                longest = max(longest, *map(len, fields), *map(len, contents))
        self.last_size = size
        is_small = value.is_packable and size <= limit and longest <= LIMITS.hash_listpack_value
        form = hashes.LISTPACK if is_small else hashes.HASHTABLE
        return HASH, COLLECTION.pack(taken, size, form) if size else b"", 0

    def _timed_hash(self, value: TimedHashValue) -> tuple[int, bytes, int]:
        taken, prefix = self._begin()
        limit = LIMITS.hash_listpack_entries
        size = longest = times = times_id = due_ms = 0
        by_field = by_time = b""
        for chunk in value.chunks:
            size += len(chunk)
            fields = [field for field, _, _ in chunk]
            contents = [content for _, content, _ in chunk]
            self._check(fields)
            self._add([prefix + field for field in fields], contents)
            if size <= limit and chunk:
                longest = max(longest, *map(len, fields), *map(len, contents))
            timed = [(field, U64.pack(time_ms)) for field, _, time_ms in chunk if time_ms]
            if not timed:
                continue
            if not times_id:
                times_id, times_prefix = self._begin()
                by_field, by_time = times_prefix + b"f", times_prefix + b"t"
            times += len(timed)
            first_ms = min(time_ms for _, _, time_ms in chunk if time_ms)
            due_ms = min(due_ms, first_ms) if due_ms else first_ms
            self._add([by_field + field for field, _ in timed], [time for _, time in timed])
            self._add([by_time + time + field for field, time in timed], [b""] * len(timed))
        self.last_size = size
        is_small = value.is_packable and size <= limit and longest <= LIMITS.hash_listpack_value
        form = hashes.LISTPACKEX if is_small else hashes.HASHTABLE
        if not size:
            return HASH, b"", 0
        if not times:
            return HASH, COLLECTION.pack(taken, size, form), 0
        return HASH, hashes.timed_body(taken, size, form, times_id, times, due_ms), due_ms

    def _check(self, elements: list[bytes]) -> None:
        """Refuse elements that are longer than the engine's keys may be."""
        if elements and max(map(len, elements)) > ARGUMENT_SIZE_MAX:
            raise UnsupportedValueError(f"an element of more than {ARGUMENT_SIZE_MAX} bytes is too long")

    def _stream(self, value: StreamValue) -> tuple[int, bytes, int]:
        taken, prefix = self._begin()
        filled = Filled()
        for entries in value.chunks:
            filled.note(entries)
            keys, values = entry_rows(entries)
            self._add([prefix + key for key in keys], values)
        groups_id = count = 0
        for group in value.groups:
            if not groups_id:
                groups_id, prefix = self._begin()
            keys, values = group_rows(count, group)
            self._add([prefix + key for key in keys], values)
            count += 1
        self.last_size = filled.size or 1  # an empty stream is a key
        return STREAM, encode_place(filled.place(taken, value.state, groups_id, count)), 0

    _WRITERS: ClassVar[dict[type, Callable[[EntryWriter, Any], tuple[int, bytes, int]]]] = {
        ListValue: _list,
        SetValue: _set,
        ZsetValue: _zset,
        HashValue: _hash,
        TimedHashValue: _timed_hash,
        StreamValue: _stream,
    }
    """What writes the elements of a value, and returns the tag and the body of its record, which is empty if
    there are none, and when the first field expires."""


def _head(
    chunks: Iterable[list[tuple[bytes, float]]], limit: int
) -> tuple[list[tuple[bytes, float]], Iterator[list[tuple[bytes, float]]]]:
    """Return the first elements, more than `limit` unless there are no more, and the chunks that are left."""
    rest = iter(chunks)
    head: list[tuple[bytes, float]] = []
    for chunk in rest:
        head += chunk
        if len(head) > limit:
            break
    return head, rest

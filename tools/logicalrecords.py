"""The records of one physical database: what they say of ids and sizes, and how they are put right.

`RecordPass` reads all of them once and leaves a table of what lies under which id, in the order of ids, as
the elements do. A `Fix` is what the elements have shown about one id; `apply_fixes` reads the records a
second time and rewrites those concerned.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterator
from operator import attrgetter
from typing import Final

from lamina.server.encoding import (
    BIG_STRING,
    EXPIRY,
    FIELD_EXPIRY,
    LIST,
    PLAIN_STRING,
    RECORD,
    U64,
    end_of,
    prefix_of,
)
from lamina.server.records import BigString, Collection, Record
from lamina.server.types import sets, zsets
from lamina.server.types.hashes import HASHTABLE, LISTPACKEX, Hash
from lamina.server.types.lists import QUICKLIST, List
from lamina.server.types.streamgroups import Groups
from lamina.server.types.streams import Stream
from lamina.tools.logicalfixes import Fix, Fixes, Row
from lamina.tools.logicalsource import Sink, Source
from lamina.tools.logicalstreams import straighten_stream
from lamina.tools.pairsums import PairSum
from lamina.tools.rediskeys import FIELD_TIMES, STREAM_GROUPS, decode

_CHUNK: Final = 1 << 16
"""Rows of the table that are sorted at once: what is sorted is some 100 bytes a row for a moment."""

_FORMS: Final[dict[type[Collection], int]] = {
    List: QUICKLIST,
    sets.Set: sets.HASHTABLE,
    zsets.ZSet: zsets.SIGNED,
    Hash: LISTPACKEX,
    Stream: 0,
}
"""The highest form of each type."""

_PLAIN_FORMS: Final = _FORMS | {zsets.ZSet: zsets.SKIPLIST, Hash: HASHTABLE}
"""The form that suits any content."""


class IdTable:
    """Rows, read back in the order of ids; rows of one id in that in which they came. 33 bytes for each."""

    def __init__(self) -> None:
        self._chunks: list[tuple[array[int], ...]] = []
        self._rows: list[Row] = []

    def add(self, row: Row) -> None:
        """Take a row."""
        self._rows.append(row)
        if len(self._rows) >= _CHUNK:
            self._pack()

    def _pack(self) -> None:
        self._rows.sort(key=attrgetter("id"))
        columns = zip(*self._rows)
        codes = "QBQQQ"
        self._chunks.append(tuple(array(code, column) for code, column in zip(codes, columns)))
        self._rows = []

    def __iter__(self) -> Iterator[Row]:
        if self._rows:
            self._pack()
        chunks = [map(Row, *columns) for columns in self._chunks]
        return heapq.merge(*chunks, key=attrgetter("id"))


class RecordPass:
    """Reads all records of a physical database."""

    def __init__(self, source: Source, pdb: int, sink: Sink) -> None:
        self.ids = IdTable()
        self.highest_id = 0
        self.expiring = PairSum()
        """Times and keys of what expires, as the records say it."""
        self.field_expiring = PairSum()
        self.is_changed = False
        """Whether records were dropped or rewritten, so that indexes must be looked at entry by entry."""
        self._source = source
        self._pdb = pdb
        self._sink = sink

    def run(self) -> None:
        """Read the records, report and mend what each shows by itself."""
        prefix = prefix_of(self._pdb, RECORD)
        skip = len(prefix)
        for key, raw in self._source.entries(prefix, end_of(prefix)):
            if raw[:1] == PLAIN_STRING:
                continue
            self._take(key[skip:], key, raw)

    def _take(self, name: bytes, key: bytes, raw: bytes) -> None:
        sink, pdb = self._sink, self._pdb
        value = decode(raw)
        if not isinstance(value, Record):
            sink.error(
                pdb, name, "record", f"a record that does not decode: {raw.hex()}", dropped=[(key, raw)]
            )
            sink.delete(key)
            self.is_changed = True
            return
        wrong = _straighten(value)
        if isinstance(value, Stream):
            wrong += straighten_stream(self._source, pdb, value)
        encoded = value.encode()
        if not wrong and encoded != raw:
            wrong.append("bytes that mean nothing")
        if wrong:
            sink.error(pdb, name, "record", f"a record with {', '.join(wrong)}")
            sink.put(key, encoded)
            self.is_changed = True
        if value.expires_ms:
            self.expiring.add(U64.pack(value.expires_ms) + name)
        if value.fields_due_ms:
            self.field_expiring.add(U64.pack(value.fields_due_ms) + name)
        for row in rows_of(value):
            self.highest_id = max(self.highest_id, row.id)
            self.ids.add(row)


def _straighten(value: Record) -> list[str]:
    """Put right what a record shows by itself; returns what was wrong."""
    wrong = []
    for cls, highest in _FORMS.items():
        if isinstance(value, cls) and value.form > highest:
            wrong.append(f"form {value.form}, of which there is none")
            value.form = _PLAIN_FORMS[cls]
    if isinstance(value, Hash) and value.times is not None and not value.fields_due_ms:
        wrong.append("times of fields, and no time before which none is due")
        value.fields_due_ms = 1  # what it should be shows when the times are read
    return wrong


def rows_of(value: Record) -> Iterator[Row]:
    """Yield what a record says of its ids."""
    if isinstance(value, BigString):
        yield Row(value.id, BIG_STRING, value.size)
    elif isinstance(value, List):
        elements = value.elements
        yield Row(value.id, LIST, value.size, elements.head, 0 if elements.is_dense else elements.tail)
    elif isinstance(value, Collection):
        yield Row(value.id, value.tag, value.size, value.form)
        if isinstance(value, Hash) and value.times is not None:
            yield Row(value.times.id, FIELD_TIMES, value.times.size, value.id, value.fields_due_ms)
        if isinstance(value, Stream) and value.groups is not None:
            groups = value.groups
            yield Row(groups.id, STREAM_GROUPS, groups.count, value.id, groups.next_number)


def apply_fixes(source: Source, pdb: int, fixes: Fixes, sink: Sink) -> None:
    """Report what is wrong with the collections of these ids, by their keys, and rewrite their records.

    Of several records with one id the first keeps it.
    """
    prefix = prefix_of(pdb, RECORD)
    seen: set[int] = set()
    for key, raw in source.scan(prefix, end_of(prefix)):
        if raw[:1] == PLAIN_STRING:
            continue
        value = decode(raw)
        if not isinstance(value, BigString | Collection):
            continue  # a string; or it is dropped
        concerned = [row.id for row in rows_of(value) if row.id in fixes]
        if concerned:
            _apply(source, key, key[len(prefix) :], raw, value, concerned, fixes, seen, pdb, sink)


def _apply(
    source: Source,
    key: bytes,
    name: bytes,
    raw: bytes,
    value: BigString | Collection,
    concerned: list[int],
    fixes: Fixes,
    seen: set[int],
    pdb: int,
    sink: Sink,
) -> None:
    type_name = value.name.decode()
    taken = seen.intersection(concerned)
    if taken and isinstance(value, Stream) and value.groups is not None and taken == {value.groups.id}:
        what = "stream: the id of its groups belongs to another key as well: it has none any more"
        sink.error(pdb, name, "id", what)
        value.groups = None
    elif taken:
        what = f"{type_name}: an id that belongs to another key as well"
        sink.error(pdb, name, "id", what, dropped=[(key, raw)])
        sink.delete(key)
        return
    seen.update(concerned)
    _straighten(value)
    if isinstance(value, Stream):
        straighten_stream(source, pdb, value)
    drops = False
    for number in concerned:
        if number in taken:
            continue
        fix = fixes[number]
        if isinstance(value, Hash) and value.times is not None and number == value.times.id:
            _fix_times(value, fix)
        elif isinstance(value, Stream) and value.groups is not None and number == value.groups.id:
            _fix_groups(value.groups, fix)
        else:
            drops |= fix.drops
            _fix_value(value, fix)
        for what in fix.what:
            sink.error(
                pdb,
                name,
                "collection",
                f"{type_name}: {what}",
                dropped=[(key, raw)] if fix.drops and drops else (),
            )
    if drops:
        sink.delete(key)
    else:
        sink.put(key, value.encode())


def _fix_value(value: BigString | Collection, fix: Fix) -> None:
    if fix.size is not None:
        if isinstance(value, BigString):
            value.size = fix.size
        else:
            value.elements.size = fix.size
    if fix.first_id is not None and isinstance(value, Stream):
        value.elements.first = fix.first_id
    if fix.form is not None and isinstance(value, Collection):
        value.form = fix.form
    if fix.head is not None and isinstance(value, List):
        elements = value.elements
        elements.head, elements.tail, elements.is_dense = fix.head, fix.tail, not fix.is_sparse
        value.packed_bytes = fix.packed_bytes


def _fix_times(value: Hash, fix: Fix) -> None:
    times = value.times
    assert times is not None
    if fix.drops:
        value.times = None
        value.fields_due_ms = 0
        return
    if fix.size is not None:
        times._by_field.size = times._by_time.size = fix.size
    if fix.due_ms is not None:
        value.fields_due_ms = fix.due_ms


def _fix_groups(groups: Groups, fix: Fix) -> None:
    if fix.size is not None:
        groups.count = fix.size
    if fix.next_number is not None:
        groups.next_number = fix.next_number


def index_entries(value: Record, name: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the index entries, area and the rest of the key, that a record calls for."""
    if value.expires_ms:
        yield EXPIRY, U64.pack(value.expires_ms) + name
    if value.fields_due_ms:
        yield FIELD_EXPIRY, U64.pack(value.fields_due_ms) + name

"""The indexes of what expires, held against the records.

Both are in the order of time and the records in that of keys, so sums of hashes are compared; only where
they differ, or records have been changed meanwhile, is each entry looked up on the other side.
"""

from __future__ import annotations

from lamina.server.encoding import EXPIRY, FIELD_EXPIRY, PLAIN_STRING, RECORD, U64, end_of, prefix_of
from lamina.server.records import Record
from lamina.tools.logicalrecords import RecordPass, index_entries
from lamina.tools.logicalsource import Sink, Source
from lamina.tools.pairsums import PairSum
from lamina.tools.rediskeys import decode

_NAMES = {EXPIRY: "index of keys that expire", FIELD_EXPIRY: "index of hashes whose fields expire"}


def check_indexes(source: Source, pdb: int, records: RecordPass, sink: Sink) -> None:
    """Check both indexes of a physical database; mend them after its records have been mended."""
    is_same = True
    for area, expected in ((EXPIRY, records.expiring), (FIELD_EXPIRY, records.field_expiring)):
        found = PairSum()
        prefix = prefix_of(pdb, area)
        skip = len(prefix)
        for key, value in source.entries(prefix, end_of(prefix)):
            found.add(key[skip:])
            is_same &= not value
        is_same &= found == expected
    if is_same and not (records.is_changed and sink.database):
        return
    if sink.database is not None:
        # The records as they have become.
        sink.flush()
        with sink.database.snapshot() as snapshot:
            _compare(Source(snapshot), pdb, sink)
        sink.flush()
    else:
        _compare(source, pdb, sink)


def _compare(source: Source, pdb: int, sink: Sink) -> None:
    record_prefix = prefix_of(pdb, RECORD)
    for area in (EXPIRY, FIELD_EXPIRY):
        prefix = prefix_of(pdb, area)
        for key, value in source.scan(prefix, end_of(prefix)):
            rest = key[len(prefix) :]
            name = rest[U64.size :]
            record_key = record_prefix + name
            if source.is_hidden(record_key, record_key + b"\0"):
                continue
            raw = source.get(record_key)
            record = None if raw is None else decode(raw)
            called_for = dict(index_entries(record, name)) if isinstance(record, Record) else {}
            if called_for.get(area) != rest:
                sink.error(pdb, name, "index", f"{_NAMES[area]}: an entry that no record calls for")
                sink.delete(key)
            elif value:
                sink.error(pdb, name, "index", f"{_NAMES[area]}: an entry with a value")
                sink.put(key, b"")
    for key, raw in source.scan(record_prefix, end_of(record_prefix)):
        if raw[:1] == PLAIN_STRING:
            continue
        record = decode(raw)
        if isinstance(record, Record):
            name = key[len(record_prefix) :]
            for area, rest in index_entries(record, name):
                index_key = prefix_of(pdb, area) + rest
                if not source.knows(index_key):
                    sink.error(pdb, name, "index", f"{_NAMES[area]}: an entry is missing")
                    sink.put(index_key, b"")

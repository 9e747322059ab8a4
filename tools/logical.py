"""Whether a server's database fits together: records, elements, indexes and state; and how it is mended.

    records    decode, own their ids alone, and the ids are below the counter
    elements   lie under an id that a record owns, are as many as it says, and are what its type has
    orders     of sorted sets and of the times of fields: the same pairs both ways round
    indexes    of keys and of fields that expire: the entries that the records call for, and no others
    areas      nothing lies under the number of a database that was flushed, or outside of all areas
    counts     what the engine counts is what a scan finds

One pass over everything, of which the elements need to know the records' ids and sizes, though they come
first: so the records are read before, and `IdTable` keeps 33 bytes for each collection. All else that is
held is proportional to what is wrong. Orders and indexes are compared by sums of hashes of 128 bits; where
these differ, entry by entry, by lookups.

Checking and mending are one code: `Sink` takes what is found and what would put it right, and writes it or
not. What is missing is derived from what is there; what cannot be explained is dropped, and reported with
its bytes. Mending goes on where it is broken off, as every batch leaves a database that can be mended.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lamina.engine import Database
from lamina.engine.reading import Readable
from lamina.server.encoding import (
    ELEMENT,
    EXPIRY,
    FIELD_EXPIRY,
    FUNCTION_PREFIX,
    PDB_MAX,
    RECORD,
    STATE_PREFIX,
    U32,
    U64,
    end_of,
)
from lamina.server.errors import CommandError
from lamina.server.scripting.flags import parse_library
from lamina.tools.logicalelements import check_elements
from lamina.tools.logicalindexes import check_indexes
from lamina.tools.logicalrecords import RecordPass, apply_fixes
from lamina.tools.logicalsource import Problem, Ranges, Sink, Source
from lamina.tools.rediskeys import DATABASES, Numbers, place_of

FRESH_PDB_MIN: Final = 1 << 20
"""Physical numbers below this are the homes of logical databases."""

_IDS_SPARE: Final = 1024
_SAMPLES: Final = 64
_AREAS: Final = (ELEMENT, FIELD_EXPIRY, RECORD, EXPIRY)
_ID: Final = STATE_PREFIX + b"id"
_DATABASES: Final = STATE_PREFIX + DATABASES
_KNOWN_STATE: Final = (b"id", b"probe", DATABASES)


def check_logical(db: Readable, *, unreadable: Ranges = (), sink: Sink | None = None) -> list[Problem]:
    """Return what does not fit together. `unreadable`: key ranges that damage hides; nothing is said of
    them.

    Errors: CorruptionError and OSError where something else cannot be read. Cost: a scan of everything.
    """
    sink = Sink() if sink is None else sink
    _check_all(Source(db, unreadable), sink)
    return sink.problems


def mend_logical(db: Database, sink: Sink | None = None) -> list[Problem]:
    """Make a database fit together; returns what did not.

    Errors: CorruptionError, OSError. Cost: a scan of everything, a second one of the indexes if there was
    anything, and the writes.
    """
    sink = Sink(db) if sink is None else sink
    with db.snapshot() as snapshot:
        _check_all(Source(snapshot), sink)
    sink.flush()
    return sink.problems


def _check_all(source: Source, sink: Sink) -> None:
    numbers = _check_map(source, sink)
    highest_id = 0
    _check_foreign(source, b"", STATE_PREFIX, sink)
    for key, value in source.scan(STATE_PREFIX, end_of(STATE_PREFIX)):
        if key.startswith(FUNCTION_PREFIX):
            _check_library(key[len(FUNCTION_PREFIX) :], value, sink)
        elif key[len(STATE_PREFIX) :] not in _KNOWN_STATE:
            sink.warn(0, None, "state", f"unknown state {key[len(STATE_PREFIX) :]!r} of {len(value)} bytes")
    _check_foreign(source, end_of(STATE_PREFIX), U32.pack(1), sink)
    for pdb in _physical(source, sink):
        if numbers.logical(pdb) is None:
            _drop_database(source, pdb, sink)
        else:
            highest_id = max(highest_id, _check_database(source, pdb, sink))
    raw = source.get(_ID)
    limit = U64.unpack(raw)[0] if raw is not None and len(raw) == U64.size else 1
    if (raw is not None and len(raw) != U64.size) or limit <= highest_id:
        sink.error(0, None, "state", f"ids up to {highest_id} are in use, and the counter says {limit}")
        sink.put(_ID, U64.pack(max(limit, highest_id + _IDS_SPARE)))


def _check_library(name: bytes, source: bytes, sink: Sink) -> None:
    """Check a library of functions. What is wrong with one stays, for a person to look at: the server passes
    it over when it starts."""
    try:
        found, _ = parse_library(source)
    except CommandError as error:
        sink.warn(0, None, "state", f"the library of functions {name!r} is none: {error}")
        return
    if found != name:
        sink.warn(0, None, "state", f"the library of functions {name!r} calls itself {found!r}")


# -- one database ----------------------------------------------------------------------------------


def _check_database(source: Source, pdb: int, sink: Sink) -> int:
    """Check a physical database; returns the highest id in it."""
    head = U32.pack(pdb)
    ends = [head, *(end_of(head + area) for area in _AREAS)]
    starts = [*(head + area for area in _AREAS), U32.pack(pdb + 1) if pdb < PDB_MAX else None]
    for start, stop in zip(ends, starts):
        _check_foreign(source, start, stop, sink)
    records = RecordPass(source, pdb, sink)
    records.run()
    fixes, orphan_max = check_elements(source, pdb, records.ids, sink)
    if fixes:
        records.is_changed = True
        apply_fixes(source, pdb, fixes, sink)
    check_indexes(source, pdb, records, sink)
    if not source.is_damaged:
        for area in _AREAS:
            _check_count(source, head + area, sink)
    return max(records.highest_id, orphan_max)


def _check_count(source: Source, prefix: bytes, sink: Sink) -> None:
    counted, scanned = source.db.count(prefix=prefix), source.scanned.get(prefix, 0)
    if counted != scanned:
        pdb = U32.unpack_from(prefix)[0]
        sink.error(pdb, None, "count", f"{scanned} entries of area {prefix[4:]!r}, counted as {counted}")


def _check_foreign(source: Source, start: bytes, stop: bytes | None, sink: Sink) -> None:
    """Report what lies where nothing should."""
    if stop is not None and start >= stop:
        return
    for key, value in source.scan(start, stop):
        if stop is None and len(key) >= U32.size and key[:4] != start[:4]:
            return
        pdb = U32.unpack_from(key)[0] if len(key) >= U32.size else 0
        sink.error(pdb, None, "foreign", "an entry outside of all areas", dropped=[(key, value)])
        sink.delete(key)


def _physical(source: Source, sink: Sink) -> Iterator[int]:
    """Yield the numbers of the physical databases from 1 on that hold anything."""
    start = U32.pack(1)
    while True:
        found = next(source.scan(start, None), None)
        if found is None:
            return
        key = found[0]
        if len(key) < U32.size:
            sink.error(0, None, "foreign", "an entry outside of all areas", dropped=[found])
            sink.delete(key)
            start = key + b"\0"
            continue
        (pdb,) = U32.unpack_from(key)
        yield pdb
        if pdb == PDB_MAX:
            return
        start = U32.pack(pdb + 1)


def _drop_database(source: Source, pdb: int, sink: Sink) -> None:
    """Report a physical database that belongs to no logical one: what is left of one that was flushed."""
    start, stop = U32.pack(pdb), U32.pack(pdb + 1) if pdb < PDB_MAX else b"\xff\xff\xff\xff\xff"
    entries = size_bytes = 0
    for key, value in source.scan(start, stop):
        entries += 1
        size_bytes += len(key) + len(value)
    what = f"physical database {pdb} belongs to none: what is left of one that was flushed"
    sink.error(pdb, None, "leftover", what, entries=entries, size_bytes=size_bytes)
    sink.discard(start, stop)


# -- which database is which -----------------------------------------------------------------------


def _check_map(source: Source, sink: Sink) -> Numbers:
    """Return which database is which: as the state says, or as it is to say."""
    raw = source.get(_DATABASES)
    is_map = raw is not None and len(raw) % (2 * U32.size) == U32.size
    numbers = Numbers(raw if is_map else None)
    physical = list(_physical(source, Sink()))
    fresh = [pdb for pdb in physical if pdb >= FRESH_PDB_MIN]
    taken = list(numbers.away.values())
    next_pdb = U32.unpack_from(raw)[0] if is_map and raw is not None else FRESH_PDB_MIN
    next_min = max([FRESH_PDB_MIN, *(pdb + 1 for pdb in (*fresh, *taken) if pdb >= FRESH_PDB_MIN)])
    if raw is not None and not is_map:
        sink.error(0, None, "state", f"the map of databases has {len(raw)} bytes")
    elif len(set(taken)) < len(taken):
        sink.error(0, None, "state", "two databases have the same physical number")
        numbers = _numbers(_without_twins(numbers.away))
    elif next_pdb < next_min and (fresh or is_map):
        if raw is not None:
            sink.error(
                0, None, "state", f"the next physical database is {next_pdb}, {next_min - 1} is in use"
            )
    else:
        return numbers
    if not is_map and fresh:
        # Without the map it is not known whose they are: better under a wrong number than lost.
        numbers = _adopted(physical, fresh)
        what = f"whose the physical databases {fresh} are is not known: they become {numbers.away}"
        sink.error(0, None, "state", what)
    flat = [max(next_pdb, next_min)]
    for index, pdb in sorted(numbers.away.items()):
        flat += (index, pdb)
    sink.put(_DATABASES, b"".join(map(U32.pack, flat)))
    return numbers


def _without_twins(away: dict[int, int]) -> dict[int, int]:
    kept: dict[int, int] = {}
    for index, pdb in sorted(away.items()):
        if pdb not in kept.values():
            kept[index] = pdb
    return kept


def _adopted(physical: list[int], fresh: list[int]) -> Numbers:
    free = (index for index in range(FRESH_PDB_MIN) if index + 1 not in physical)
    return _numbers(dict(zip(free, fresh)))


def _numbers(away: dict[int, int]) -> Numbers:
    numbers = Numbers(None)
    flat = [FRESH_PDB_MIN, *(number for pair in sorted(away.items()) for number in pair)]
    return Numbers(b"".join(map(U32.pack, flat))) if away else numbers


# -- whether it is a server's at all ---------------------------------------------------------------


def is_of_a_server(db: Readable, unreadable: Ranges = ()) -> bool:
    """Tell whether most of a database, by some entries all over it, lies where a server puts things.

    Mending another program's database would take all of it for leftovers. Errors: CorruptionError, OSError.
    """
    if not db.view.counted:
        return False
    source = Source(db, unreadable)
    samples = foreign = 0
    count = db.count()
    for sample in range(min(_SAMPLES, count)):
        place = b""
        if not source.is_damaged:
            entry = db.select(None, None, sample * count // _SAMPLES)
            place = b"" if entry is None else entry[0]
        else:
            # Positions lead into what is damaged: the beginnings of the areas will do.
            place = next(source.scan(U32.pack(sample // 4 + 1) + _AREAS[sample % 4], None), (b"",))[0]
        if place:
            samples += 1
            foreign += place_of(place).area == "other"
    return foreign * 2 <= samples

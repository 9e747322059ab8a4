"""The keys of a server's database: what each says, whose elements are whose, and which database is which.

Everything here is read from entries alone, without a server, and no entry is refused: what the server could
not have written has a place of its own, "other". server/encoding.py draws the keys.

An element's key names the id of its collection but not its type. `Owners` knows it: it is made of all
records, and takes 9 bytes for each collection (some 40 more while it is being made).
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, cast

from lamina.engine import Database
from lamina.server.encoding import (
    ELEMENT,
    EXPIRY,
    FIELD_EXPIRY,
    PDB_MAX,
    PLAIN_STRING,
    RECORD,
    STATE,
    STATE_PREFIX,
    U32,
    U64,
    end_of,
    prefix_of,
)
from lamina.server.keyspace import Keyspace
from lamina.server.records import BigString, Collection, Record, String, decode_record
from lamina.server.types.hashes import Hash
from lamina.server.types.keys import encoding_name
from lamina.server.types.streams import Stream

FIELD_TIMES: Final = 0x40
"""Stands in `Owners` for the ids under which hashes keep the times of their fields. No tag has this bit."""

STREAM_GROUPS: Final = 0x41
"""The same for those under which streams keep their groups."""

DATABASES: Final = b"databases"
"""The piece of the server's state that says which physical databases the logical ones are."""

_AREA_AT: Final = U32.size
_REST_AT: Final = _AREA_AT + 1
_FIRST_FRESH_PDB: Final = 1 << 20
"""Physical numbers below this are the homes of logical databases: docs/format.md."""
_SAMPLES: Final = 16


# -- keys ------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """What an engine key says. `name` is the user's key, the element, or the name of a piece of state; the
    whole engine key where `area` is "other". `time_ms`: when something expires. `id`: whose element it is."""

    area: str
    pdb: int
    name: bytes
    id: int = 0
    time_ms: int = 0


def place_of(key: bytes) -> Place:
    """Take an engine key apart. Total: every key has a place."""
    area = key[_AREA_AT:_REST_AT]
    if area:
        (pdb,) = U32.unpack_from(key)
        rest = key[_REST_AT:]
        if pdb == 0:
            if area == STATE:
                return Place("state", 0, rest)
        elif area == RECORD:
            return Place("record", pdb, rest)
        elif area in (ELEMENT, EXPIRY, FIELD_EXPIRY) and len(rest) >= U64.size:
            (number,) = U64.unpack_from(rest)
            name = rest[U64.size :]
            if area == ELEMENT:
                return Place("element", pdb, name, id=number)
            return Place("expiry" if area == EXPIRY else "field-expiry", pdb, name, time_ms=number)
    return Place("other", 0, key)


class _Nowhere:
    """Stands for the keyspace that decoded records belong to: enough of one for looking at them."""

    element_prefix = b""
    store = None


_NOWHERE = cast(Keyspace, _Nowhere())


def decode(raw: bytes) -> bytes | Record | None:
    """Return what a stored record holds; None if it is none. Its elements must not be asked for."""
    if raw[:1] == PLAIN_STRING:
        return raw[1:]
    try:
        return decode_record(_NOWHERE, raw)
    except (ValueError, IndexError, struct.error):
        return None


def size_of(value: bytes | Record) -> int:
    """Return what STRLEN, LLEN, HLEN and so on would say."""
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, String):
        return len(value.value)
    return int(getattr(value, "size", 0))


def encoding_of(value: bytes | Record) -> str:
    """Return what OBJECT ENCODING would say. (What knows it imports every type, so that `decode` does.)"""
    return encoding_name(value).decode()


def ids_of(value: bytes | Record | None) -> list[tuple[int, int]]:
    """Return the ids that a record owns, and what lies under each: a type, FIELD_TIMES or STREAM_GROUPS."""
    if not isinstance(value, BigString | Collection):
        return []
    ids = [(value.id, value.tag)]
    if isinstance(value, Hash) and value.times is not None:
        ids.append((value.times.id, FIELD_TIMES))
    if isinstance(value, Stream) and value.groups is not None:
        ids.append((value.groups.id, STREAM_GROUPS))
    return ids


# -- databases -------------------------------------------------------------------------------------


def physical_databases(db: Database) -> Iterator[int]:
    """Yield the numbers of the physical databases that hold anything. Cost: a seek for each."""
    pdb = 1
    while pdb <= PDB_MAX:
        found = next(db.scan(start=U32.pack(pdb), limit=1), None)
        if found is None or len(found[0]) < U32.size:
            return
        (pdb,) = U32.unpack_from(found[0])
        yield pdb
        pdb += 1


class Numbers:
    """Which logical database a physical one is, by the server's state."""

    def __init__(self, raw: bytes | None) -> None:
        """`raw` is the state's piece "databases", None if there is none. One that is no map is as none."""
        self.away: dict[int, int] = {}
        if raw is not None and len(raw) % (2 * U32.size) == U32.size:
            flat = [number for (number,) in U32.iter_unpack(raw)]
            self.away = dict(zip(flat[1::2], flat[2::2]))
        self._logical = {pdb: index for index, pdb in self.away.items()}

    @classmethod
    def of(cls, db: Database) -> Numbers:
        """Return the numbers of a server's database. Errors: CorruptionError, OSError."""
        return cls(db.get(STATE_PREFIX + DATABASES))

    def logical(self, pdb: int) -> int | None:
        """Return SELECT's number; None for what belongs to no database."""
        index = self._logical.get(pdb)
        if index is None and 0 < pdb < _FIRST_FRESH_PDB and pdb - 1 not in self.away:
            return pdb - 1
        return index

    def physical(self, index: int) -> int:
        """Return the physical number of SELECT's `index`."""
        return self.away.get(index, index + 1)


class Owners:
    """What lies under each id. Made when it is first asked."""

    def __init__(self, found: Iterable[tuple[int, int]] = ()) -> None:
        """`found`: ids, and what lies under them, in any order. Looked at later."""
        self._found: Iterable[tuple[int, int]] | None = found
        self._ids = array("Q")
        self._types = array("B")

    @classmethod
    def of(cls, db: Database) -> Owners:
        """Return the owners in a whole database, which must be open as long as it is asked.

        Cost: the first answer takes a scan of all records.
        """
        return cls(_owned(db))

    def _gather(self, found: Iterable[tuple[int, int]]) -> None:
        ids, types = array("Q"), array("B")
        for number, tag in found:
            ids.append(number)
            types.append(tag)
        order = sorted(range(len(ids)), key=ids.__getitem__)
        self._ids = array("Q", map(ids.__getitem__, order))
        self._types = array("B", map(types.__getitem__, order))

    def type_of(self, number: int) -> int | None:
        """Return a type, FIELD_TIMES or STREAM_GROUPS; None if no record owns the id."""
        if self._found is not None:
            found, self._found = self._found, None
            self._gather(found)
        ids = self._ids
        at = bisect_left(ids, number)
        return self._types[at] if at < len(ids) and ids[at] == number else None


def _owned(db: Database) -> Iterator[tuple[int, int]]:
    for pdb in physical_databases(db):
        prefix = prefix_of(pdb, RECORD)
        for _, values in db.scan_chunks(prefix, end_of(prefix)):
            for raw in values:
                if raw[:1] != PLAIN_STRING:
                    yield from ids_of(decode(raw))


def is_servers(db: Database) -> bool:
    """Tell whether a server has written this database, by some entries spread over it.

    An empty one could be a server's. Cost: a few lookups by position.
    """
    if not db.counted:
        return False
    count = db.count()
    samples = min(_SAMPLES, count)
    places = [sample * (count - 1) // max(samples - 1, 1) for sample in range(samples)]
    return looks_servers(entry for place in places if (entry := db.select(None, None, place)) is not None)


def looks_servers(entries: Iterable[tuple[bytes, bytes | None]]) -> bool:
    """Tell whether a server could have written all of these entries. A value of None is a tombstone."""
    for key, value in entries:
        place = place_of(key)
        is_record = place.area != "record" or value is None or decode(value) is not None
        if place.area == "other" or not is_record:
            return False
        if place.area in ("expiry", "field-expiry") and value:
            return False
    return True

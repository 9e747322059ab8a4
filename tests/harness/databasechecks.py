"""Whether what the server has written fits together: records, elements, indexes, counts and caches.

    elements     every element lies under an id that one record owns, and every collection has as many as it
                 says
    indexes      hold exactly the keys that expire, and hashes whose fields do, at the times in the records
    counts       what the engine counts is what a scan finds
    areas        nothing lies under the number of a database that was flushed, or in an unknown area
    caches       what memory holds of a key is what the engine does

`check_databases` asserts all of it. Cost: a scan of everything.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from lamina.engine.memtable import ABSENT
from lamina.server.databases import Databases
from lamina.server.encoding import (
    ELEMENT,
    EXPIRY,
    FIELD_EXPIRY,
    PLAIN_STRING,
    RECORD,
    STATE_PREFIX,
    U32,
    U64,
)
from lamina.server.keyspace import Keyspace
from lamina.server.records import BigString, Collection, Record, String, decode_record
from lamina.server.types.bigstrings import CHUNK_SIZE
from lamina.server.types.hashes import Hash
from lamina.server.types.zsets import ZSet

Areas = dict[tuple[int, bytes], dict[bytes, bytes]]
"""Entries without the beginnings of their keys, by physical database and area."""


def check_databases(databases: Databases) -> None:
    """Assert that everything the engine and the caches hold fits together."""
    databases.stage_records()
    areas = read_areas(databases)
    owners: Counter[int] = Counter()
    for keyspace in databases.keyspaces:
        _check_keyspace(keyspace, areas, owners)
    assert not owners or max(owners) < databases._next_id, "an id that will be given again"
    assert all(count == 1 for count in owners.values()), f"ids that several records own: {owners}"
    for pdb, area in areas:
        assert _is_beyond(databases, pdb), f"left behind: {len(areas[pdb, area])} entries of {pdb} {area!r}"


def read_areas(databases: Databases) -> Areas:
    """Return all entries of the engine but for the server's own state. Nothing may be pending."""
    areas: Areas = defaultdict(dict)
    for key, value in databases.store.db.view.scan(b"", None):
        if not key.startswith(STATE_PREFIX):
            areas[U32.unpack_from(key)[0], key[4:5]][key[5:]] = value
    return areas


def _is_beyond(databases: Databases, pdb: int) -> bool:
    """Tell whether a number belongs to a database above those that are configured."""
    numbers = databases._read_map_without_next()
    count = len(databases.keyspaces)
    if pdb in numbers.values():
        return any(number == pdb and index >= count for index, number in numbers.items())
    return count < pdb < 1 << 20 and pdb - 1 not in numbers


def _check_keyspace(keyspace: Keyspace, areas: Areas, owners: Counter[int]) -> None:
    """Check one database and take its areas away."""
    pdb = keyspace.pdb
    raws, elements, expiring, field_expiring = (
        areas.pop((pdb, area), {}) for area in (RECORD, ELEMENT, EXPIRY, FIELD_EXPIRY)
    )
    expected: dict[int, int | None] = {}
    due, fields_due = set(), set()
    for key, raw in raws.items():
        _check_caches(keyspace, key, raw)
        if raw[:1] == PLAIN_STRING:
            continue
        value = keyspace.cache.get(key) or keyspace.cold.get(key) or decode_record(keyspace, raw)
        if value.expires_ms:
            due.add(U64.pack(value.expires_ms) + key)
        if value.fields_due_ms:
            fields_due.add(U64.pack(value.fields_due_ms) + key)
        if isinstance(value, Collection):
            assert value.size > 0, f"{key!r} is empty"
            value.check()
        counts = elements_of(value)
        owners.update(counts.keys())
        expected |= counts
    assert set(expiring) == due, (keyspace, set(expiring) ^ due)
    assert set(field_expiring) == fields_due, (keyspace, set(field_expiring) ^ fields_due)
    assert keyspace.count_keys() == len(raws)
    assert keyspace.count_expiring() == len(due)
    assert keyspace.count_hashes_expiring() == len(fields_due)
    for next_ms, index in ((keyspace.next_due_ms, due), (keyspace.next_field_due_ms, fields_due)):
        assert not index or next_ms <= int.from_bytes(min(index)[:8], "big"), f"{keyspace} will not look"
    _check_elements(keyspace, elements, expected)
    prefix = keyspace.record_prefix
    hot = [
        key[len(prefix) :] for key in (*keyspace.store.hot, *keyspace.store.warm) if key.startswith(prefix)
    ]
    for key in (*keyspace.cache, *keyspace.cold, *hot):
        assert key in raws, f"{key!r} is cached, and not there"
    assert not keyspace.cache.keys() & keyspace.cold.keys()


def elements_of(value: Record) -> dict[int, int | None]:
    """Return the ids that a record owns, and how many entries lie under each; None where that is open."""
    if isinstance(value, BigString):
        return {value.id: None}
    if isinstance(value, ZSet):
        return {value.id: 2 * value.size}
    if isinstance(value, Hash) and value.times is not None:
        return {value.id: value.size, value.times.id: 2 * value.times.size}
    return {value.id: value.size} if isinstance(value, Collection) else {}


def _check_elements(
    keyspace: Keyspace, elements: dict[bytes, bytes], expected: dict[int, int | None]
) -> None:
    found = Counter(int.from_bytes(key[:8], "big") for key in elements)
    orphans = found.keys() - expected.keys()
    assert not orphans, f"{keyspace}: elements of no collection: {[(n, found[n]) for n in orphans]}"
    for number, count in expected.items():
        assert found[number], f"{keyspace}: collection {number} has no elements"
        assert count is None or found[number] == count, (
            f"{keyspace}: {number} has {found[number]}, not {count}"
        )
    assert all(len(chunk) <= CHUNK_SIZE for key, chunk in elements.items() if expected[_id_of(key)] is None)


def _id_of(element: bytes) -> int:
    return int.from_bytes(element[:8], "big")


def _check_caches(keyspace: Keyspace, key: bytes, raw: bytes) -> None:
    """Assert that memory holds of a key what the engine does."""
    store, engine_key = keyspace.store, keyspace.record_prefix + key
    assert raw != b"\xff", f"the placeholder of {key!r}"
    assert keyspace.hot is store.hot
    assert store.hot.get(engine_key, raw) == raw
    assert store.warm.get(engine_key, raw) == raw
    assert not (engine_key in store.hot and engine_key in store.warm)
    if engine_key in store.hot or engine_key in store.warm:
        assert engine_key not in store.entries
        assert store.db.view.active.find(engine_key) is ABSENT, f"{key!r} is hot, and in the memtable"
    cached = keyspace.cache.get(key) or keyspace.cold.get(key)
    if cached is None:
        return
    assert raw[:1] != PLAIN_STRING, f"{key!r} is a plain string and cached as {cached}"
    stored = decode_record(keyspace, raw)
    assert type(stored) is type(cached)
    assert stored.expires_ms == cached.expires_ms
    if isinstance(stored, String) and isinstance(cached, String):
        assert stored.value == cached.value
    else:
        # Of what else is in it some is made out when it is first asked for, as the encoding of a list.
        assert (stored.id, stored.size) == (cached.id, cached.size)  # type: ignore[attr-defined]

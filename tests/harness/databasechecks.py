"""Whether what the server has written fits together: records, elements, indexes, counts and caches.

    data         records, elements, indexes and state fit together: tools/logical.py says how
    counts       what a keyspace counts is what a scan finds
    areas        nothing lies under the number of a database that was flushed, or in an unknown area
    caches       what memory holds of a key is what the engine does

`check_databases` asserts all of it. Cost: a scan of everything, or two.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import chain
from typing import Any

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
from lamina.server.records import Collection, String, decode_record
from lamina.server.types.streams import Stream
from lamina.tools.logical import check_logical
from lamina.tools.rediskeys import ids_of

Areas = dict[tuple[int, bytes], dict[bytes, bytes]]
"""Entries without the beginnings of their keys, by physical database and area."""


def check_databases(databases: Databases) -> None:
    """Assert that everything the engine and the caches hold fits together."""
    databases.stage_records()
    problems = check_logical(databases.store.db)
    assert not problems, "\n".join(map(str, problems))
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
    raws, _, expiring, field_expiring = (
        areas.pop((pdb, area), {}) for area in (RECORD, ELEMENT, EXPIRY, FIELD_EXPIRY)
    )
    due, fields_due = set(), set()
    for key, raw in raws.items():
        _check_caches(keyspace, key, raw)
        if raw[:1] == PLAIN_STRING:
            continue
        value = keyspace.cache.get(key) or _find_in(keyspace.cold, key) or decode_record(keyspace, raw)
        if value.expires_ms:
            due.add(U64.pack(value.expires_ms) + key)
        if value.fields_due_ms:
            fields_due.add(U64.pack(value.fields_due_ms) + key)
        if isinstance(value, Collection):
            assert value.size > 0 or isinstance(value, Stream), f"{key!r} is empty"
            value.check()
        owners.update(number for number, _ in ids_of(value))
    assert set(expiring) == due, (keyspace, set(expiring) ^ due)
    assert set(field_expiring) == fields_due, (keyspace, set(field_expiring) ^ fields_due)
    assert keyspace.count_keys() == len(raws)
    assert keyspace.count_expiring() == len(due)
    assert keyspace.count_hashes_expiring() == len(fields_due)
    for floor_ms, next_ms, index in (
        (keyspace.due_floor_ms, keyspace.next_due_ms, due),
        (keyspace.field_due_floor_ms, keyspace.next_field_due_ms, fields_due),
    ):
        assert floor_ms <= next_ms
        assert not index or next_ms <= int.from_bytes(min(index)[:8], "big"), f"{keyspace} will not look"
    prefix = keyspace.record_prefix
    strings = Counter(chain(keyspace.store.hot, *keyspace.store.warm))
    records = Counter(chain(keyspace.cache, *keyspace.cold))
    hot = [key[len(prefix) :] for key in strings if key.startswith(prefix)]
    for key in (*records, *hot):
        assert key in raws, f"{key!r} is cached, and not there"
    assert {*strings.values(), *records.values()} <= {1}, "a key is in two generations"


def _find_in(generations: list[dict[bytes, Any]], key: bytes) -> Any:
    return next((table[key] for table in generations if key in table), None)


def _check_caches(keyspace: Keyspace, key: bytes, raw: bytes) -> None:
    """Assert that memory holds of a key what the engine does."""
    store, engine_key = keyspace.store, keyspace.record_prefix + key
    assert raw != b"\xff", f"the placeholder of {key!r}"
    assert keyspace.hot is store.hot
    assert store.hot.get(engine_key, raw) == raw
    warm = _find_in(store.warm, engine_key)
    assert warm in (None, raw)
    if engine_key in store.hot or warm is not None:
        assert engine_key not in store.entries
        assert store.db.view.active.find(engine_key) is ABSENT, f"{key!r} is hot, and in the memtable"
    cached = keyspace.cache.get(key) or _find_in(keyspace.cold, key)
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

"""Stored records as RDB values: whatever is stored comes out, wherever it lies, and some at a time."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.local import LocalClient, Servers
from harness.rdbfiles import plain
from harness.rdbvalues import collections, texts, timed_hashes
from lamina.server import dumping
from lamina.server.encoding import U64
from lamina.server.keyspace import Keyspace
from lamina.server.rdb.values import (
    HashValue,
    Key,
    ListValue,
    SetValue,
    TimedHashValue,
    Value,
    ZsetValue,
)
from lamina.server.rdbvalues import (
    BrokenRecordError,
    Source,
    database_map,
    has_timed_fields,
    read_keys,
    value_of,
)
from lamina.server.types.zsets import ZSet

FAR_MS = 1 << 45


def keyspace_of(local: LocalClient, number: int = 0) -> Keyspace:
    return local.server.databases.keyspaces[number]


def stored(source: Source, keyspace: Keyspace, **options: Any) -> dict[bytes, tuple[Any, int]]:
    """Return all keys with their plain values and times, which must come in order."""
    found = [
        (item.key, (plain(item.value), item.expires_ms))
        for item in read_keys(source, keyspace.pdb, keyspace.index, **options)
    ]
    assert [key for key, _ in found] == sorted(key for key, _ in found)
    return dict(found)


def read_one(local: LocalClient, key: bytes, **options: Any) -> Key:
    keyspace = keyspace_of(local)
    local.turn()
    found = read_keys(local.server.databases.store, keyspace.pdb, 0, prefix=key, **options)
    return next(item for item in found if item.key == key)


contents = st.dictionaries(
    texts, st.tuples(st.one_of(collections(), timed_hashes()), st.sampled_from((0, 0, FAR_MS))), max_size=8
)


@given(drawn=contents, is_on_disk=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_stored_comes_out(
    make_local: Servers, drawn: dict[bytes, tuple[Value, int]], is_on_disk: bool
) -> None:
    local = make_local.make()
    keyspace = keyspace_of(local)
    for key, (value, expires_ms) in drawn.items():
        dumping.restore(keyspace, key, value, expires_ms)
    expected = {key: (whole(value), expires_ms) for key, (value, expires_ms) in drawn.items()}
    databases = local.server.databases
    databases.stage_records()  # not committed yet
    assert stored(databases.store, keyspace) == expected
    local.turn()
    with databases.store.db.snapshot() as snapshot:
        local("FLUSHALL")
        assert stored(snapshot, keyspace_before(keyspace)) == expected
        assert stored(snapshot.view, keyspace_before(keyspace)) == expected
    assert stored(databases.store, keyspace) == {}


def keyspace_before(keyspace: Keyspace) -> Keyspace:
    """Return a keyspace that shows what database 0 was before it was flushed."""
    return Keyspace(keyspace.databases, 0, 1)


def whole(value: Value) -> Any:
    """Return a plain value as it is stored: a hash without a time is one without times."""
    found = plain(value)
    if isinstance(value, TimedHashValue) and not any(time for _, time in found[1].values()):
        return "hash", {field: content for field, (content, _) in found[1].items()}
    return found


def test_a_big_string_is_zeros_where_chunks_are_missing(local: LocalClient) -> None:
    local("SETRANGE", "big", 200_000, "end")
    local("SETRANGE", "big", 70_000, "middle")
    local("SETRANGE", "big", 375_000, b"\0")
    text = local("GET", "big")
    assert len(text) == 375_001
    assert read_one(local, b"big").value == text
    local.reload()
    assert read_one(local, b"big").value == text


def test_lists_dense_and_squeezed(local: LocalClient) -> None:
    local("RPUSH", "l", *range(3000))
    local("LPUSH", "l", "first")
    local("LTRIM", "l", 0, 2500)
    for key in ("l", "squeezed"):
        if key == "squeezed":
            local("COPY", "l", key)
            for pivot in (0, 1000, 2000):
                local("LINSERT", key, "BEFORE", pivot, f"before {pivot}")
            local("LREM", key, 1, 1500)
            local("LPOP", key, 5)
        expected = local("LRANGE", key, 0, -1)
        value = read_one(local, key.encode()).value
        assert isinstance(value, ListValue)
        assert value.size == len(expected)
        assert plain(value) == ("list", expected)


def test_scores_come_highest_first_and_keep_their_sign(local: LocalClient) -> None:
    local("ZADD", "z", *[word for i in range(300) for word in (i - 150, f"m{i:03}")])
    local("ZADD", "z", "-0.0", "negative", "0.0", "positive", "inf", "top", "-inf", "bottom")
    value = read_one(local, b"z").value
    assert isinstance(value, ZsetValue)
    assert not value.is_packable
    pairs = [pair for chunk in value.chunks for pair in chunk]
    assert [score for _, score in pairs] == sorted((score for _, score in pairs), reverse=True)
    signs = {member: math.copysign(1, score) for member, score in pairs if score == 0}
    assert signs == {b"negative": -1, b"positive": 1, b"m150": 1}


def test_what_redis_never_converts_back_is_not_packed(local: LocalClient) -> None:
    long = "x" * 100
    local("HSET", "h", "f", long, "g", 1)
    local("SADD", "s", long, "a")
    local("ZADD", "z", 1, long, 2, "a")
    for key in (b"h", b"s", b"z"):
        for is_packable in (False, True):
            value = read_one(local, key).value
            assert isinstance(value, HashValue | SetValue | ZsetValue)
            assert value.is_packable is is_packable
            if not is_packable:
                local("HDEL", "h", "f")
                local("SREM", "s", long)
                local("ZREM", "z", long)
                found = read_one(local, key).value
                assert isinstance(found, HashValue | SetValue | ZsetValue)
                assert not found.is_packable  # small by now
                local("DEL", key)
                local("HSET", "h", "g", 1)
                local("SADD", "s", "a")
                local("ZADD", "z", 2, "a")


def test_what_has_expired_is_left_out_if_asked(local: LocalClient) -> None:
    now_ms = local.clock.now_ms
    local("SET", "gone", 1, "PX", 100)
    local("SET", "later", 1, "PX", 1000)
    local("HSET", "h", *[word for i in range(50) for word in (f"f{i}", i)])
    local("HPEXPIRE", "h", 100, "FIELDS", 2, "f1", "f2")
    local("HPEXPIRE", "h", 900, "FIELDS", 1, "f7")
    local("HSET", "all", "f", 1, "g", 2)
    local("HPEXPIRE", "all", 50, "FIELDS", 2, "f", "g")
    local.turn()
    source, keyspace = local.server.databases.store, keyspace_of(local)
    assert set(stored(source, keyspace)) == {b"gone", b"later", b"h", b"all"}
    found = stored(source, keyspace, now_ms=now_ms + 100)
    assert set(found) == {b"later", b"h"}
    assert found[b"later"] == (b"1", now_ms + 1000)
    kind, fields = found[b"h"][0]
    assert kind == "timed hash"
    assert len(fields) == 48
    assert {field for field, (_, time) in fields.items() if time} == {b"f7"}
    assert has_timed_fields(source, keyspace.pdb)
    assert not has_timed_fields(source, keyspace_of(local, 1).pdb)


def test_keys_of_a_prefix(local: LocalClient) -> None:
    for key in (b"a", b"ab", b"abc", b"ac", b"b", b"\xff\xff", b""):
        local("SET", key, key)
    local.turn()
    source, keyspace = local.server.databases.store, keyspace_of(local)
    assert set(stored(source, keyspace, prefix=b"ab")) == {b"ab", b"abc"}
    assert set(stored(source, keyspace, prefix=b"\xff")) == {b"\xff\xff"}
    assert len(stored(source, keyspace)) == 7


def test_databases_are_found_wherever_they_are(local: LocalClient) -> None:
    source = local.server.databases.store
    assert database_map(source) == {}
    for number in (0, 1, 7, 15):
        local("SELECT", number)
        local("SET", "in", number)
        local("RPUSH", "list", 1)
    assert database_map(source) == {0: 1, 1: 2, 7: 8, 15: 16}
    local("SWAPDB", 0, 3)
    local("SWAPDB", 1, 7)
    local("FLUSHDB")
    local("SET", "anew", 15)
    found = database_map(source)
    assert {number: pdb for number, pdb in found.items() if number != 15} == {1: 8, 3: 1, 7: 2}
    assert found[15] >= 1 << 20
    for keyspace in local.server.databases.keyspaces:
        assert found.get(keyspace.index, keyspace.pdb) == keyspace.pdb


def test_collections_are_read_some_elements_at_a_time(local: LocalClient) -> None:
    count = 20_000
    local("RPUSH", "l", *range(count))
    local("SADD", "s", *range(count))
    local("HSET", "h", *[word for i in range(count) for word in (i, i)])
    local("ZADD", "z", *[word for i in range(count) for word in (i, i)])
    local.reload()
    for key in (b"l", b"s", b"h", b"z"):
        value = read_one(local, key).value
        assert not isinstance(value, bytes)
        assert value.size == count
        sizes = [len(chunk) for chunk in value.chunks]
        assert sum(sizes) == count
        assert max(sizes) < count // 4


@pytest.mark.parametrize("raw", [b"\x02short", b"\x05", b"\x03" + bytes(16), b"\x0fx", b"\x01" + bytes(3)])
def test_a_record_that_is_none(local: LocalClient, raw: bytes) -> None:
    keyspace = keyspace_of(local)
    source = local.server.databases.store
    with pytest.raises(BrokenRecordError):
        value_of(source, keyspace.pdb, raw)
    source.put(keyspace.record_prefix + b"broken", raw, False)
    with pytest.raises(BrokenRecordError, match="broken"):
        list(read_keys(source, keyspace.pdb, 0))
    source.delete(keyspace.record_prefix + b"broken", None)


def test_a_score_that_is_missing(local: LocalClient) -> None:
    local("ZADD", "z", *[word for i in range(200) for word in (i, f"m{i}")], "-0.0", "negative")
    local.turn()
    keyspace = keyspace_of(local)
    record = keyspace.find(b"z")
    assert isinstance(record, ZSet)
    raw = record.encode()
    source = local.server.databases.store
    engine_key = keyspace.element_prefix + U64.pack(record.id) + b"mnegative"
    source.delete(engine_key, True)
    value = value_of(source, keyspace.pdb, raw)
    assert value is not None
    with pytest.raises(BrokenRecordError):
        plain(value)
    source.rollback()

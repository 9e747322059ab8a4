"""Values become the entries that the server would have written for them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lamina.engine as engine
from harness.databasechecks import check_databases
from harness.databases import PATH, TINY
from harness.local import LocalClient, Servers
from harness.memory_filesystem import MemoryFileSystem
from harness.rdbfiles import plain
from harness.rdbvalues import collections, texts, timed_hashes
from lamina.server.databases import Databases
from lamina.server.encoding import STATE_PREFIX, U64
from lamina.server.rdb.values import (
    HashValue,
    Key,
    ListValue,
    SetValue,
    StreamState,
    StreamValue,
    TimedHashValue,
    Value,
    ZsetValue,
)
from lamina.server.rdbentries import EntryWriter, UnsupportedValueError
from lamina.server.rdbvalues import read_keys
from lamina.server.types import keys as types

FAR_MS = 4_102_444_800_000


class Made:
    """Entries that a writer has made of keys."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self.entries: dict[bytes, bytes] = {}
        self.next_id = 1
        self.sizes: list[int] = []
        writer = EntryWriter(1, self._take_id, self._take)
        for key in keys:
            writer.put(key.key, key.value, key.expires_ms)
            self.sizes.append(writer.last_size)
        writer.flush()

    def _take_id(self) -> int:
        self.next_id += 1
        return self.next_id - 1

    def _take(self, keys: list[bytes], values: list[bytes]) -> None:
        assert len(keys) == len(values)
        assert self.entries.keys().isdisjoint(keys)
        assert len(set(keys)) == len(keys)
        self.entries.update(zip(keys, values))

    def open(self) -> Databases:
        """Return databases that hold them, which are sound."""
        db = engine.open(PATH, fs=MemoryFileSystem(), **TINY)
        with db.batch() as batch:
            for key, value in self.entries.items():
                batch.put(key, value)
            batch.put(STATE_PREFIX + b"id", U64.pack(self.next_id))
        databases = Databases(db)
        check_databases(databases)
        return databases


def copied(local: LocalClient) -> Made:
    """Return entries made of all that a server holds in database 0."""
    store = local.server.databases.store
    return Made(read_keys(store, local.server.databases.keyspaces[0].pdb, 0))


def encodings(databases: Databases) -> dict[bytes, bytes]:
    """Return what OBJECT ENCODING says of each key of database 0."""
    keyspace = databases.keyspaces[0]
    found: dict[bytes, bytes] = {}
    for names, _ in keyspace.scan_keys():
        for name in names:
            value = keyspace.find(name)
            assert value is not None
            found[name] = types.encoding_name(value)
    return found


COMMANDS: tuple[tuple[Any, ...], ...] = (
    ("SET", "string", "text"),
    ("SET", "", "the empty key"),
    ("SET", "number", 12),
    ("SET", "expires", "soon", "PXAT", FAR_MS),
    ("SET", "big", b"0123456789abcdef" * 5000),
    ("SET", "big expires", b"x" * 65536, "PXAT", FAR_MS),
    ("SET", "almost big", b"x" * 65535),
    ("RPUSH", "list", "a", "b", 12, -1, ""),
    ("RPUSH", "list:long", *(b"element %d" % number for number in range(3000))),
    ("RPUSH", "list:bytes", b"x" * 9000),
    ("SADD", "set:integers", *range(100)),
    ("SADD", "set:many integers", *range(600)),
    ("SADD", "set:small", "a", "b", 1),
    ("SADD", "set:large", *(b"member %d" % number for number in range(200))),
    ("SADD", "set:long", b"x" * 65),
    ("ZADD", "zset:small", 1, "a", -1.5, "b", "inf", "c", "-0.0", "d"),
    ("ZADD", "zset:large", *(word for at in range(129) for word in (at / 4 - 5, b"m%d" % at))),
    ("ZADD", "zset:signed", "-0.0", b"z" * 65, 0, "plus", "-0.0", "minus"),
    ("HSET", "hash:small", "a", "1", "b", ""),
    ("HSET", "hash:large", *(word for at in range(513) for word in (b"f%d" % at, at))),
    ("HSET", "hash:long", "f", b"x" * 65),
    ("HSET", "hash:timed", "a", 1, "b", 2, "c", 3),
    ("HPEXPIREAT", "hash:timed", FAR_MS + 5, "FIELDS", 1, "a"),
    ("HPEXPIREAT", "hash:timed", FAR_MS + 3, "FIELDS", 1, "b"),
    ("PEXPIREAT", "hash:timed", FAR_MS),
    ("HSET", "hash:timed:large", *(word for at in range(600) for word in (b"f%d" % at, at))),
    ("HPEXPIREAT", "hash:timed:large", FAR_MS, "FIELDS", 2, "f3", "f1"),
)


def test_the_same_as_commands_would_have_made(local: LocalClient) -> None:
    for command in COMMANDS:
        assert not isinstance(local(*command), Exception), command
    databases = local.server.databases
    databases.commit()
    made = copied(local)
    expected = {key: value for key, value in databases.store.db.scan() if not key.startswith(STATE_PREFIX)}
    copy = made.open()
    # Ids were taken in another order: by key and not by age. But for them everything is equal.
    assert len(made.entries) == len(expected)
    assert sorted(map(len, made.entries)) == sorted(map(len, expected))
    assert encodings(copy) == encodings(databases)
    assert {key.key: (key.expires_ms, plain(key.value)) for key in read_keys(copy.store, 1, 0)} == {
        key.key: (key.expires_ms, plain(key.value)) for key in read_keys(databases.store, 1, 0)
    }
    copy.store.db.close()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command[1]))
def test_byte_for_byte(make_local: Servers, command: tuple[Any, ...]) -> None:
    """One key at a time: then ids are the same, too."""
    local = make_local.make()
    if command[0] in ("HPEXPIREAT", "PEXPIREAT"):
        local("HSET", command[1], "a", 1, "b", 2, "f1", 3, "f3", 4)
    local(*command)
    databases = local.server.databases
    databases.commit()
    expected = {key: value for key, value in databases.store.db.scan() if not key.startswith(STATE_PREFIX)}
    made = copied(local)
    assert made.entries == expected
    made.open().store.db.close()


@given(
    st.dictionaries(
        texts, st.tuples(st.one_of(collections(), timed_hashes()), st.just(0) | st.integers(1, 1 << 60))
    )
)
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read(drawn: dict[bytes, tuple[Value, int]]) -> None:
    made = Made(Key(0, key, value, expires_ms) for key, (value, expires_ms) in drawn.items())
    databases = made.open()
    found = {key.key: (plain(key.value), key.expires_ms) for key in read_keys(databases.store, 1, 0)}
    expected = {key: (plain(value), expires_ms) for key, (value, expires_ms) in drawn.items()}
    assert found == expected
    databases.store.db.close()


def test_large_collections_are_given_out_as_they_come() -> None:
    """What is gathered stays small, whatever the size of the collection."""
    given_out: list[int] = []

    def chunks() -> Iterable[list[bytes]]:
        for number in range(200):
            yield [b"%d %d" % (number, at) for at in range(1000)]
            assert len(writer.keys) < 10_000

    writer = EntryWriter(1, lambda: 7, lambda keys, values: given_out.append(len(keys)))
    writer.put(b"k", SetValue(chunks()))
    assert writer.last_size == 200_000
    writer.flush()
    assert sum(given_out) == 200_001
    writer.put(b"large values", ListValue([[b"x" * 2_000_000], [b"y" * 2_000_000]]))
    assert len(writer.keys) <= 1


def test_a_collection_without_elements_is_no_key() -> None:
    empty: list[Value] = [ListValue([]), SetValue([[]]), ZsetValue([]), HashValue([]), TimedHashValue([[]])]
    made = Made(Key(0, b"k", value) for value in empty)
    assert made.entries == {}
    assert made.sizes == [0] * 5


def test_a_small_collection_that_was_large_stays_so() -> None:
    values: dict[bytes, Value] = {
        b"set": SetValue([[b"1"]], 1, is_packable=False),
        b"zset": ZsetValue([[(b"a", 1.0)]], 1, is_packable=False),
        b"hash": HashValue([[(b"a", b"1")]], 1, is_packable=False),
    }
    databases = Made(Key(0, key, value) for key, value in values.items()).open()
    assert encodings(databases) == {b"set": b"hashtable", b"zset": b"skiplist", b"hash": b"hashtable"}
    databases.store.db.close()


def test_what_is_not_stored_is_refused() -> None:
    with pytest.raises(UnsupportedValueError, match="StreamState"):
        Made([Key(0, b"k", StreamState())])  # type: ignore[arg-type]


def test_an_empty_stream_is_a_key() -> None:
    made = Made([Key(0, b"k", StreamValue([], 0, StreamState(0, (5, 1))))])
    assert made.sizes == [1]
    databases = made.open()
    assert databases.keyspaces[0].count_keys() == 1
    databases.store.db.close()

"""Databases and keyspaces: records cached and stored, expiry, whole databases, commits that fail."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator

import pytest

import lamina.engine as engine
from harness.databases import OpenDb
from harness.fault_filesystem import FaultFileSystem, Operation, disk_full, fail_when, no_faults
from harness.memory_filesystem import MemoryFileSystem
from lamina.engine import CorruptionError
from lamina.server import events
from lamina.server.clock import ManualClock
from lamina.server.databases import Databases
from lamina.server.encoding import prefix_of
from lamina.server.keyspace import Keyspace
from lamina.server.records import Collection, String


class Bag(Collection, tag=14, name=b"bag"):
    """A collection of elements without values, as sets are, under a tag that no type has."""

    __slots__ = ()


@pytest.fixture
def databases(open_db: OpenDb) -> Databases:
    return Databases(open_db(), clock=ManualClock(), count=4)


def reopened(databases: Databases) -> Databases:
    """Return the same databases as somebody sees them who knows nothing."""
    databases.commit()
    return Databases(databases.store.db, clock=databases.clock, count=len(databases.keyspaces))


def fill(keyspace: Keyspace, key: bytes, size: int) -> Bag:
    bag = Bag(keyspace, keyspace.databases.take_id(), 0)
    for n in range(size):
        bag.elements.put(b"%05d" % n, b"")
    keyspace.put(key, bag)
    return bag


def engine_keys(databases: Databases, keyspace: Keyspace, area: bytes) -> int:
    databases.stage_records()
    prefix = prefix_of(keyspace.pdb, area)
    return sum(len(keys) for keys, _ in databases.store.chunks(prefix, prefix[:-1] + bytes([prefix[-1] + 1])))


def test_what_is_put_is_found_by_others_after_the_commit(databases: Databases) -> None:
    first = databases.keyspaces[0]
    first.put(b"plain", b"text")
    first.put(b"expiring", String(b"gone soon", databases.clock.now_ms + 1000))
    first.put(b"empty", b"")
    assert first.find(b"plain") == b"text"
    other = reopened(databases).keyspaces[0]
    assert other.find(b"plain") == b"text"
    assert other.find(b"empty") == b""
    found = other.find(b"expiring")
    assert isinstance(found, String)
    assert (found.value, found.expires_ms) == (b"gone soon", databases.clock.now_ms + 1000)
    assert other.find(b"missing") is None
    assert databases.keyspaces[1].find(b"plain") is None


def test_counts_include_what_is_pending(databases: Databases) -> None:
    first = databases.keyspaces[0]
    for n in range(10):
        first.put(b"%d" % n, b"x")
    assert first.count_keys() == 10
    assert first.remove(b"3")
    assert not first.remove(b"3")
    first.put(b"new", b"")
    first.remove(b"new")
    assert first.count_keys() == 9
    databases.commit()
    assert first.count_keys() == 9
    assert [key for keys, _ in first.scan_keys(b"5") for key in keys] == [b"5", b"6", b"7", b"8", b"9"]
    assert first.key_at(3) == (b"4", b"\0x")


def test_a_record_changed_many_times_is_encoded_once(databases: Databases) -> None:
    first = databases.keyspaces[0]
    encoded = 0

    class Counting(Bag):
        __slots__ = ()

        def encode_body(self) -> bytes:
            nonlocal encoded
            encoded += 1
            return super().encode_body()

    bag = Counting(first, databases.take_id(), 0)
    bag.elements.put(b"a", b"")
    first.put(b"bag", bag)
    for _ in range(50):
        first.mark(b"bag")
    databases.commit()
    assert encoded == 1


@pytest.mark.parametrize("size", [3, 500])
def test_removing_a_collection_removes_its_elements(databases: Databases, size: int) -> None:
    first = databases.keyspaces[0]
    fill(first, b"bag", size)
    databases.commit()
    assert engine_keys(databases, first, b"e") == size
    first.remove(b"bag")
    assert engine_keys(databases, first, b"k") == 0
    databases.commit()
    assert engine_keys(databases, first, b"e") == 0


@pytest.mark.parametrize("size", [3, 500])
def test_putting_over_a_collection_removes_its_elements(databases: Databases, size: int) -> None:
    first = databases.keyspaces[0]
    fill(first, b"bag", size)
    first.put(b"bag", b"now a string")
    databases.commit()
    assert engine_keys(databases, first, b"e") == 0
    assert reopened(databases).keyspaces[0].find(b"bag") == b"now a string"


def test_ids_are_never_given_twice(databases: Databases) -> None:
    taken = [databases.take_id() for _ in range(3000)]
    databases = reopened(databases)
    taken += [databases.take_id() for _ in range(3000)]
    assert len(set(taken)) == len(taken)
    databases.rollback()
    again = [databases.take_id() for _ in range(10)]
    databases.commit()
    assert set(again).isdisjoint(taken[:3000])
    assert set(again).isdisjoint([reopened(databases).take_id()])


# --- Expiry


def test_an_expired_key_is_removed_when_it_is_met(databases: Databases) -> None:
    first, clock = databases.keyspaces[0], databases.clock
    assert isinstance(clock, ManualClock)
    heard: list[tuple[int, bytes, bytes]] = []
    first.listens = events.EXPIRED | events.KEYEVENT
    databases.on_event = lambda keyspace, kind, name, key: heard.append((keyspace.index, name, key))
    first.put(b"k", String(b"v", clock.now_ms + 10))
    assert first.count_expiring() == 1
    clock.advance(9)
    assert first.find(b"k") is not None
    clock.advance(1)
    assert first.count_keys() == 1
    assert first.find(b"k") is None
    assert (first.count_keys(), first.count_expiring()) == (0, 0)
    assert heard == [(0, b"expired", b"k")]
    assert databases.expired_keys == 1
    databases.commit()  # what is staged could not be checked


def test_due_keys_come_in_the_order_of_time(databases: Databases) -> None:
    first, clock = databases.keyspaces[0], databases.clock
    assert isinstance(clock, ManualClock)
    for n in (5, 3, 9, 1, 7):
        first.put(b"%d" % n, String(b"", clock.now_ms + n))
    assert first.due_keys(10) == []
    clock.advance(6)
    assert first.due_keys(2) == [b"1", b"3"]
    assert first.due_keys(10) == [b"1", b"3", b"5"]
    for key in first.due_keys(10):
        first.find(key)
    assert first.due_keys(10) == []
    first.put(b"early", String(b"", clock.now_ms))
    assert first.due_keys(10) == [b"early"]
    databases.commit()


def test_expiry_moves_with_its_key_and_goes_with_it(databases: Databases) -> None:
    first, now_ms = databases.keyspaces[0], databases.clock.now_ms
    first.put(b"a", b"text")
    value = first.find(b"a")
    assert value is not None
    first.set_expiry(b"a", value, now_ms + 1000)
    first.rename(b"a", first.find(b"a") or b"", b"b")
    found = first.find(b"b")
    assert isinstance(found, String)
    assert found.expires_ms == now_ms + 1000
    assert first.count_expiring() == 1
    first.set_expiry(b"b", found, now_ms + 2000)
    assert first.count_expiring() == 1
    first.set_expiry(b"b", first.find(b"b") or b"", 0)
    assert first.find(b"b") == b"text"
    assert first.count_expiring() == 0
    bag = fill(first, b"bag", 2)
    first.set_expiry(b"bag", bag, now_ms + 500)
    assert first.count_expiring() == 1
    databases.commit()
    other = reopened(databases).keyspaces[0]
    found_bag = other.find(b"bag")
    assert isinstance(found_bag, Collection)
    assert found_bag.expires_ms == now_ms + 500
    other.put(b"bag", b"")
    assert other.count_expiring() == 0
    other.databases.commit()
    databases.drop_caches()


# --- Whole databases


def test_flushing_is_cheap_complete_and_lasting(databases: Databases) -> None:
    first, second = databases.keyspaces[:2]
    fill(first, b"bag", 100)
    first.put(b"soon", String(b"", databases.clock.now_ms + 10))
    second.put(b"other", b"stays")
    databases.commit()
    first.put(b"pending", b"goes too")
    databases.flush(first)
    assert first.count_keys() == first.count_expiring() == 0
    assert first.find(b"pending") is None
    first.put(b"after", b"x")
    databases = reopened(databases)
    first, second = databases.keyspaces[:2]
    assert first.find(b"bag") is None
    assert first.find(b"after") == b"x"
    assert first.count_keys() == 1
    assert second.find(b"other") == b"stays"


def test_swapping_exchanges_everything(databases: Databases) -> None:
    first, second = databases.keyspaces[:2]
    first.put(b"a", b"of the first")
    second.put(b"b", String(b"of the second", databases.clock.now_ms + 1000))
    databases.commit()
    first.put(b"pending", b"of the first too")
    databases.swap(first, second)
    for seen in (databases, reopened(databases)):
        first, second = seen.keyspaces[:2]
        assert second.find(b"a") == b"of the first"
        assert second.find(b"pending") == b"of the first too"
        assert first.find(b"a") is None
        assert isinstance(first.find(b"b"), String)
        assert (first.count_keys(), second.count_keys()) == (1, 2)
        assert (first.count_expiring(), second.count_expiring()) == (1, 0)
    seen.swap(*seen.keyspaces[:2])
    assert reopened(seen).keyspaces[0].find(b"a") == b"of the first"


def test_databases_beyond_the_configured_number_keep_their_places(databases: Databases) -> None:
    last = databases.keyspaces[3]
    last.put(b"k", b"v")
    databases.swap(last, databases.keyspaces[0])
    databases.commit()
    fewer = Databases(databases.store.db, clock=databases.clock, count=2)
    fewer.flush(fewer.keyspaces[1])
    fewer.swap(*fewer.keyspaces)
    fewer.commit()
    all_again = Databases(databases.store.db, clock=databases.clock, count=4)
    assert all_again.keyspaces[1].find(b"k") == b"v"
    assert all_again.keyspaces[3].find(b"k") is None


# --- Caches


def test_caches_stay_within_their_budget_and_forget_nothing(open_db: OpenDb) -> None:
    databases = Databases(open_db(), clock=ManualClock(), count=1, cache_bytes=40_000)
    only = databases.keyspaces[0]
    for n in range(1000):
        only.put(b"%04d" % n, b"%d" % n)
        databases.commit()
        assert sum(map(len, (only.cache, *only.cold))) <= 400
    for n in range(1000):
        assert only.find(b"%04d" % n) == b"%d" % n
        if n % 50 == 0:
            databases.commit()


def test_a_collection_that_outgrows_the_cache_is_let_go(open_db: OpenDb) -> None:
    databases = Databases(open_db(), clock=ManualClock(), count=1, cache_bytes=40_000)
    bag = fill(databases.keyspaces[0], b"bag", 10)
    databases.commit()
    assert bag.elements.held is not None
    for n in range(200):
        bag.elements.put(b"more-%d" % n, b"")
    databases.keyspaces[0].mark(b"bag")
    databases.commit()
    assert bag.elements.held is None
    assert bag.elements.size == 210
    assert b"more-17" in bag.elements


# --- Failures


def on_faults() -> tuple[Databases, FaultFileSystem]:
    fs = FaultFileSystem(MemoryFileSystem(), no_faults)
    db = engine.open("/db", fs=fs, background="inline", memory=1 << 20, sync="no")
    return Databases(db, clock=ManualClock(), count=2), fs


@pytest.fixture
def faulty() -> Iterator[Callable[[], tuple[Databases, FaultFileSystem]]]:
    made: list[tuple[Databases, FaultFileSystem]] = []

    def make() -> tuple[Databases, FaultFileSystem]:
        made.append(on_faults())
        return made[-1]

    yield make
    for databases, fs in made:
        fs.plan = no_faults
        databases.store.db.close()


def test_a_commit_that_fails_leaves_everything_as_it_was(
    faulty: Callable[[], tuple[Databases, FaultFileSystem]],
) -> None:
    databases, fs = faulty()
    first, second = databases.keyspaces
    first.put(b"kept", b"old")
    fill(first, b"bag", 5)
    first.put(b"soon", String(b"", databases.clock.now_ms + 10))
    databases.commit()

    def is_write(operation: Operation) -> bool:
        return operation.kind == "write"

    for is_staged in (False, True):
        fs.plan = fail_when(is_write, errno.ENOSPC)
        first.put(b"kept", b"new")
        first.put(b"added", b"")
        first.remove(b"bag")
        first.remove(b"soon")
        fill(second, b"other bag", 100)
        if is_staged:
            assert first.count_keys() == 2
            databases.swap(first, second)
            databases.flush(first)
        with pytest.raises(OSError, match="No space"):
            databases.commit()
        fs.plan = no_faults
        assert first.find(b"kept") == b"old"
        assert first.find(b"added") is None
        bag = first.find(b"bag")
        assert isinstance(bag, Collection)
        assert sorted(bag.elements.keys()) == [b"%05d" % n for n in range(5)]
        assert (first.count_keys(), first.count_expiring(), second.count_keys()) == (3, 1, 0)
        databases.commit()


def test_while_the_disk_is_full_expired_keys_look_removed_and_are_later(
    faulty: Callable[[], tuple[Databases, FaultFileSystem]],
) -> None:
    databases, fs = faulty()
    first, clock = databases.keyspaces[0], databases.clock
    assert isinstance(clock, ManualClock)
    first.put(b"soon", String(b"", clock.now_ms + 10))
    databases.commit()
    fs.plan = disk_full(0)
    databases.is_writable = False
    clock.advance(20)
    assert first.find(b"soon") is None
    assert not databases.has_changes
    with pytest.raises(OSError, match="No space"):
        databases.probe()
    fs.plan = no_faults
    databases.probe()
    databases.is_writable = True
    assert first.find(b"soon") is None
    databases.commit()
    assert first.count_keys() == 0


def test_a_record_that_makes_no_sense_is_corruption_and_not_a_crash(databases: Databases) -> None:
    first = databases.keyspaces[0]
    for raw in (b"\x0f", b"\x10\0", b"\x0e\0\0", b"\x01abc", b""):
        databases.store.put(first.record_prefix + b"bad", raw, None)
        databases.store.commit()
        databases.drop_caches()
        with pytest.raises(CorruptionError, match="record of key b'bad'"):
            first.find(b"bad")
    databases.store.delete(first.record_prefix + b"bad", True)
    databases.commit()

"""Databases against dicts: Hypothesis draws a history of keys of all kinds, and shrinks what goes wrong.

No commands and no sockets: what is exercised is `Keyspace`, `Databases`, the records and their elements, and
the short ways of types/strings.py, which write past them. Above all it is about what the engine is told of
existence: a wrong word would make its counts wrong for ever. After each commit every invariant of the engine
and of harness/databasechecks.py must hold, and what is counted must be what the model has.

The model knows what lies there physically: a key that has expired remains until somebody meets it.
"""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

import lamina.engine as engine
import lamina.server.elements as rules
from harness.databasechecks import check_databases
from harness.databases import TINY
from harness.fault_filesystem import FaultFileSystem, Operation, fail_when, no_faults
from harness.memory_filesystem import MemoryFileSystem
from lamina.engine.check import assert_consistent
from lamina.server import events
from lamina.server.clock import ManualClock
from lamina.server.databases import Databases
from lamina.server.errors import NOT_AN_INTEGER, OVERFLOW, WRONG_TYPE, CommandError
from lamina.server.expiry import expire_due
from lamina.server.keyspace import Keyspace, Value
from lamina.server.numbers import INTEGER_MAX, INTEGER_MIN, parse_integer
from lamina.server.records import BigString, Collection, Record, String
from lamina.server.types import hashes, keys, strings
from lamina.server.types.hashes import Hash
from lamina.server.types.sets import Set

COUNT = 3
"""Databases."""

ALL_EVENTS = events.KEYEVENT | events.KEYSPACE | events.STRING | events.GENERIC | events.NEW | events.KEY_MISS

names = st.sampled_from([b"", b"a", b"b", b"\xff", b"long " * 20])
Drawn = bytes | int
"""A text, or the size of one: failures are to be readable."""

texts = st.sampled_from(
    [
        b"",
        b"1",
        b"-7",
        b"9223372036854775807",
        b"text",
        b"\x00",
        b"\xff",
        254,
        255,
        256,
        5000,
        65535,
        65536,
        100_000,
    ]
)
small_texts = st.sampled_from([b"", b"1", b"-7", b"12", b"text", b"\xff", b"x" * 254, b"y" * 255])
indexes = st.integers(0, COUNT - 1)
rarely = st.sampled_from([False, False, False, True])
elapsed = st.sampled_from([0, 0, 1, 5, 20])
amounts = st.sampled_from([1, 2, 5, 63, 64, 65, 130, 300])
members = st.sets(st.integers(0, 9), min_size=1, max_size=4)


@dataclasses.dataclass(frozen=True)
class Held:
    """What a key of the model holds; `times` are those of a hash's fields."""

    value: bytes | dict[bytes, bytes]
    is_hash: bool = False
    expires_ms: int = 0
    times: dict[bytes, int] = dataclasses.field(default_factory=dict)

    def with_value(self, value: bytes | dict[bytes, bytes]) -> Held:
        return dataclasses.replace(self, value=value)

    def without_fields(self, fields: set[bytes]) -> Held:
        assert isinstance(self.value, dict)
        left = {field: value for field, value in self.value.items() if field not in fields}
        times = {field: time for field, time in self.times.items() if field not in fields}
        return dataclasses.replace(self, value=left, times=times)


Model = list[dict[bytes, Held]]


def wide(drawn: Drawn) -> bytes:
    return drawn if isinstance(drawn, bytes) else bytes((65 + drawn % 26,)) * drawn


def numbered(numbers: Any) -> list[bytes]:
    return [b"%04d" % number for number in sorted(numbers)]


class KeyspaceMachine(RuleBasedStateMachine):
    """The rules. Each changes the databases and the model, and compares what they answer."""

    def __init__(self) -> None:
        super().__init__()
        self.fs = FaultFileSystem(MemoryFileSystem(), no_faults)
        self.clock = ManualClock()
        self.model: Model = [{} for _ in range(COUNT)]
        self.committed: Model = [{} for _ in range(COUNT)]
        self.loaded = rules.LOADED_AT_ONCE, rules.LOADED_EVER
        self.databases: Databases | None = None

    @initialize(
        is_loaded=st.booleans(),
        cache_bytes=st.sampled_from([2000, 64 << 20, 64 << 20]),
        memtable_size_bytes=st.sampled_from([500, 2000, 50_000]),
    )
    def create(self, is_loaded: bool, cache_bytes: int, memtable_size_bytes: int) -> None:
        if not is_loaded:
            rules.LOADED_AT_ONCE = rules.LOADED_EVER = -1
        self.cache_bytes = cache_bytes
        self.options = TINY | {"memtable_size_bytes": memtable_size_bytes, "fs": self.fs}
        self.databases = Databases(
            engine.open("/db", **self.options), clock=self.clock, count=COUNT, cache_bytes=cache_bytes
        )

    @property
    def opened(self) -> Databases:
        assert self.databases is not None
        return self.databases

    def keyspace(self, index: int) -> Keyspace:
        return self.opened.keyspaces[index]

    # -- the model ---------------------------------------------------------------------------------

    def meet(self, index: int, key: bytes, *, fields: bool = False) -> Held | None:
        """Return what a key holds once what has expired of it has gone."""
        held = self.model[index].get(key)
        if held is None:
            return None
        now_ms = self.clock.now_ms
        if 0 < held.expires_ms <= now_ms:
            del self.model[index][key]
            return None
        if fields and held.is_hash:
            expired = {field for field, time in held.times.items() if time <= now_ms}
            if expired:
                held = held.without_fields(expired)
                if not held.value:
                    del self.model[index][key]
                    return None
                self.model[index][key] = held
        return held

    def text_at(self, index: int, key: bytes) -> bytes | CommandError | None:
        held = self.meet(index, key)
        if held is None:
            return None
        return held.value if isinstance(held.value, bytes) else WRONG_TYPE

    def let(self, index: int, key: bytes, text: bytes, expires_ms: int = 0) -> None:
        self.model[index][key] = Held(text, expires_ms=expires_ms)

    def replace(self, index: int, key: bytes, text: bytes) -> None:
        """Another text, and the expiry stays."""
        held = self.model[index].get(key)
        self.let(index, key, text, 0 if held is None else held.expires_ms)

    def assert_holds(self, index: int, key: bytes, value: Value | None) -> None:
        """Assert that a record is what the model has."""
        held = self.model[index].get(key)
        if held is None or value is None:
            assert (held is None) is (value is None), (key, held, value)
            return
        if isinstance(held.value, bytes):
            assert isinstance(value, bytes | String | BigString)
            assert strings.text_of(self.keyspace(index), value) == held.value
        else:
            assert isinstance(value, Hash if held.is_hash else Set)
            assert isinstance(value, Collection)
            assert dict(value.elements.items()) == held.value
            if isinstance(value, Hash):
                assert dict(value.times.items() if value.times is not None else []) == held.times
        assert (value.expires_ms if isinstance(value, Record) else 0) == held.expires_ms

    # -- strings -----------------------------------------------------------------------------------

    def answered(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except CommandError as error:
            return error.release()

    @rule(index=indexes, key=names, text=texts, expires=st.sampled_from([0, 0, 0, 1, 10]))
    def put(self, index: int, key: bytes, text: Drawn, expires: int) -> None:
        text = wide(text)
        expires_ms = self.clock.now_ms + expires if expires else 0
        strings.put(self.keyspace(index), key, text, expires_ms=expires_ms)
        self.meet(index, key)
        self.let(index, key, text, expires_ms)

    @rule(index=indexes, pairs=st.lists(st.tuples(names, small_texts), min_size=1, max_size=5))
    def put_plain(self, index: int, pairs: list[tuple[bytes, bytes]]) -> None:
        keyspace = self.keyspace(index)
        if strings.put_plain(keyspace, [key for key, _ in pairs], [text for _, text in pairs]):
            assert not keyspace.is_observed
            assert not keyspace.listens
            for key, text in pairs:
                self.let(index, key, text)

    @rule(index=indexes, pairs=st.lists(st.tuples(names, texts), min_size=1, max_size=4))
    def put_many(self, index: int, pairs: list[tuple[bytes, Drawn]]) -> None:
        wide_texts = [wide(text) for _, text in pairs]
        strings.put_many(self.keyspace(index), [key for key, _ in pairs], wide_texts)
        for (key, _), text in zip(pairs, wide_texts):
            self.let(index, key, text)

    @rule(index=indexes, key=names, by=st.sampled_from([1, -1, 100]))
    def increment(self, index: int, key: bytes, by: int) -> None:
        answer = self.answered(lambda: strings.increment(self.keyspace(index), key, by))
        text = self.text_at(index, key)
        number = 0 if text is None else parse_integer(text) if isinstance(text, bytes) else None
        if isinstance(text, CommandError):
            assert answer == WRONG_TYPE
        elif number is None:
            assert answer == NOT_AN_INTEGER
        elif not INTEGER_MIN <= number + by <= INTEGER_MAX:
            assert answer == OVERFLOW
        else:
            assert answer == number + by
            self.replace(index, key, b"%d" % answer)

    @rule(index=indexes, wanted=st.lists(names, min_size=1, max_size=4))
    def increment_plain(self, index: int, wanted: list[bytes]) -> None:
        sums = strings.increment_plain(self.keyspace(index), wanted, 3)
        if sums is not None:
            assert len(set(wanted)) == len(wanted) == len(sums)
            for key, total in zip(wanted, sums):
                held = self.model[index].get(key)
                text = b"0" if held is None else held.value
                assert isinstance(text, bytes)
                assert total == int(text) + 3
                self.replace(index, key, b"%d" % total)

    @rule(index=indexes, key=names)
    def increment_float(self, index: int, key: bytes) -> None:
        answer = self.answered(lambda: strings.increment_float(self.keyspace(index), key, b"1.5"))
        self.meet(index, key)
        if not isinstance(answer, CommandError):
            self.replace(index, key, answer)

    @rule(index=indexes, key=names, tail=texts)
    def append(self, index: int, key: bytes, tail: Drawn) -> None:
        tail = wide(tail)
        answer = self.answered(lambda: strings.append(self.keyspace(index), key, tail, size_max=1 << 20))
        text = self.text_at(index, key)
        if isinstance(text, CommandError):
            assert answer == text
        elif not isinstance(answer, CommandError):
            self.replace(index, key, (text or b"") + tail)
            assert answer == len(text or b"") + len(tail)

    @rule(index=indexes, key=names, offset=st.sampled_from([0, 1, 300, 16_383, 65_000, 90_000]), data=texts)
    def write_range(self, index: int, key: bytes, offset: int, data: Drawn) -> None:
        data = wide(data)
        answer = self.answered(
            lambda: strings.write_range(self.keyspace(index), key, offset, data, size_max=1 << 20)
        )
        text = self.text_at(index, key)
        if isinstance(text, CommandError):
            assert answer == text
        elif data:
            old = text or b""
            self.replace(index, key, old[:offset].ljust(offset, b"\0") + data + old[offset + len(data) :])

    @rule(index=indexes, wanted=st.lists(names, min_size=1, max_size=5))
    def read_many(self, index: int, wanted: list[bytes]) -> None:
        found = strings.read_many(self.keyspace(index), wanted)
        expected = [self.text_at(index, key) for key in wanted]
        assert found == [None if isinstance(text, CommandError) else text for text in expected]

    @rule(index=indexes, wanted=st.lists(names, min_size=1, max_size=5))
    def read_plain(self, index: int, wanted: list[bytes]) -> None:
        found = strings.read_plain(self.keyspace(index), wanted)
        if found is not None:
            held = [self.model[index].get(key) for key in wanted]
            assert found == [None if one is None else one.value for one in held]

    @rule(index=indexes, key=names)
    def read(self, index: int, key: bytes) -> None:
        """Small plain strings become hot by this."""
        keyspace = self.keyspace(index)
        engine_key = keyspace.record_prefix + key
        if engine_key not in keyspace.hot:
            keyspace.store.get_record(engine_key)
        assert self.answered(lambda: strings.read(keyspace, key)) == self.text_at(index, key)

    @rule(index=indexes, key=names, start=st.integers(-70_000, 70_000), size=st.sampled_from([1, 40_000]))
    def read_range(self, index: int, key: bytes, start: int, size: int) -> None:
        start = max(start, 0)
        answer = self.answered(lambda: strings.read_range(self.keyspace(index), key, start, start + size - 1))
        text = self.text_at(index, key)
        assert answer == (text if isinstance(text, CommandError) else (text or b"")[start : start + size])

    # -- collections -------------------------------------------------------------------------------

    @rule(index=indexes, key=names, count=amounts)
    def put_set(self, index: int, key: bytes, count: int) -> None:
        """A new set, whatever the key held."""
        keyspace = self.keyspace(index)
        record = Set.create(keyspace)
        for member in numbered(range(count)):
            record.elements.put(member, b"")
        keyspace.put(key, record)
        self.meet(index, key)
        self.model[index][key] = Held(dict.fromkeys(numbered(range(count)), b""))

    @rule(index=indexes, key=names, count=amounts, first=st.integers(0, 400))
    def add(self, index: int, key: bytes, count: int, first: int) -> None:
        keyspace = self.keyspace(index)
        held = self.meet(index, key)
        if held is not None and (held.is_hash or isinstance(held.value, bytes)):
            assert self.answered(lambda: keyspace.find_or_create(key, Set)) == WRONG_TYPE
            return
        record = keyspace.find_or_create(key, Set)
        is_new = not record.size
        before = {} if held is None else held.value
        assert isinstance(before, dict)
        for member in numbered(range(first, first + count)):
            assert record.elements.put(member, b"") is (member not in before)
        if is_new:
            keyspace.put(key, record)
        else:
            keyspace.mark(key)
        after = before | dict.fromkeys(numbered(range(first, first + count)), b"")
        self.model[index][key] = Held(after) if held is None else held.with_value(after)

    @rule(index=indexes, key=names, count=amounts, first=st.integers(0, 400), is_known=st.booleans())
    def take(self, index: int, key: bytes, count: int, first: int, is_known: bool) -> None:
        """Remove members or fields, perhaps all: then the key goes."""
        keyspace = self.keyspace(index)
        held = self.meet(index, key)
        value = keyspace.find(key)
        if held is None or isinstance(held.value, bytes) or held.times:
            return
        assert isinstance(value, Collection)
        after = dict(held.value)
        for member in numbered(range(first, first + count)):
            old = after.pop(member, None)
            if is_known and old is not None and value.elements.get(member) is not None:
                value.elements.remove_known(member)
            else:
                assert value.elements.remove(member) == old
        if after:
            keyspace.mark(key)
            self.model[index][key] = held.with_value(after)
        else:
            keyspace.remove(key)
            del self.model[index][key]

    @rule(index=indexes, key=names, fields=members, text=small_texts)
    def put_fields(self, index: int, key: bytes, fields: set[int], text: bytes) -> None:
        keyspace = self.keyspace(index)
        argv = [b"hset", key]
        for field in numbered(fields):
            argv += field, text
        answer = self.answered(lambda: hashes.put_pairs(keyspace, key, argv))
        held = self.meet(index, key, fields=True)
        if held is not None and not held.is_hash:
            assert answer == WRONG_TYPE
            return
        held = Held({}, is_hash=True) if held is None else held
        assert isinstance(held.value, dict)
        assert answer == len(set(numbered(fields)) - held.value.keys())
        timeless = {field: time for field, time in held.times.items() if field not in numbered(fields)}
        after = held.value | dict.fromkeys(numbered(fields), text)
        self.model[index][key] = dataclasses.replace(held, value=after, times=timeless)

    @rule(index=indexes, key=names, fields=members, delay_ms=st.sampled_from([1, 3, 10]))
    def expire_fields(self, index: int, key: bytes, fields: set[int], delay_ms: int) -> None:
        keyspace = self.keyspace(index)
        record = self.answered(lambda: hashes.find(keyspace, key))
        held = self.meet(index, key, fields=True)
        if held is None or not held.is_hash:
            assert record == (None if held is None else WRONG_TYPE)
            return
        assert record is not None
        assert isinstance(held.value, dict)
        times = dict(held.times)
        for field in numbered(fields):
            if field in held.value:
                times[field] = self.clock.now_ms + delay_ms
                record.set_time(keyspace, key, field, times[field])
                keyspace.mark(key)
        self.model[index][key] = dataclasses.replace(held, times=times)

    @rule(index=indexes, key=names)
    def read_hash(self, index: int, key: bytes) -> None:
        held = self.meet(index, key, fields=True)
        if held is None or held.is_hash:
            assert hashes.items(self.keyspace(index), key) == ({} if held is None else held.value)

    # -- keys --------------------------------------------------------------------------------------

    @rule(index=indexes, key=names)
    def find(self, index: int, key: bytes) -> None:
        value = self.keyspace(index).find(key)
        self.meet(index, key)
        self.assert_holds(index, key, value)

    @rule(index=indexes, key=names)
    def remove(self, index: int, key: bytes) -> None:
        is_there = self.meet(index, key) is not None
        assert self.keyspace(index).remove(key) is is_there
        self.model[index].pop(key, None)

    @rule(index=indexes, key=names, new_key=names, replace=st.booleans())
    def rename(self, index: int, key: bytes, new_key: bytes, replace: bool) -> None:
        answer = keys.rename(self.keyspace(index), key, new_key, replace=replace)
        held = self.meet(index, key)
        assert (answer is None) is (held is None)
        if held is not None and key != new_key:
            is_taken = not replace and self.meet(index, new_key) is not None
            assert answer is not is_taken
            if not is_taken:
                del self.model[index][key]
                self.model[index][new_key] = held

    @rule(index=indexes, key=names, delay_ms=st.sampled_from([0, 0, 1, 3, 10, 10]))
    def set_expiry(self, index: int, key: bytes, delay_ms: int) -> None:
        keyspace = self.keyspace(index)
        held = self.meet(index, key)
        value = keyspace.find(key)
        if held is not None and value is not None:
            expires_ms = self.clock.now_ms + delay_ms if delay_ms else 0
            keyspace.set_expiry(key, value, expires_ms)
            self.model[index][key] = dataclasses.replace(held, expires_ms=expires_ms)

    @rule(source=indexes, key=names, into=indexes, new_key=names, replace=st.booleans())
    def copy(self, source: int, key: bytes, into: int, new_key: bytes, replace: bool) -> None:
        if (source, key) == (into, new_key):
            return
        is_done = keys.copy(self.keyspace(source), key, self.keyspace(into), new_key, replace=replace)
        held = self.meet(source, key)
        is_free = held is not None and (self.meet(into, new_key) is None or replace)
        assert is_done is is_free
        if held is not None and is_free:
            self.model[into][new_key] = held

    @rule(source=indexes, key=names, into=indexes)
    def move(self, source: int, key: bytes, into: int) -> None:
        if source == into:
            return
        is_done = keys.move(self.keyspace(source), key, self.keyspace(into))
        held = self.meet(source, key)
        is_free = held is not None and self.meet(into, key) is None
        assert is_done is is_free
        if held is not None and is_free:
            self.model[into][key] = held
            del self.model[source][key]

    # -- whole databases ---------------------------------------------------------------------------

    @rule(one=indexes, other=indexes)
    def swap(self, one: int, other: int) -> None:
        self.opened.swap(self.keyspace(one), self.keyspace(other))
        self.model[one], self.model[other] = self.model[other], self.model[one]

    @rule(index=indexes)
    def flush(self, index: int) -> None:
        self.opened.flush(self.keyspace(index))
        self.model[index] = {}

    @rule(elapsed_ms=elapsed)
    def pass_time(self, elapsed_ms: int) -> None:
        self.clock.advance(elapsed_ms)

    @rule()
    def expire_actively(self) -> None:
        while not expire_due(self.opened, set()):
            pass
        for index in range(COUNT):
            for key in list(self.model[index]):
                self.meet(index, key, fields=True)
            assert not self.keyspace(index).due_keys(1)
            assert not self.keyspace(index).due_hashes(1)

    @rule(index=indexes)
    def count(self, index: int) -> None:
        held = self.model[index].values()
        keyspace = self.keyspace(index)
        assert keyspace.count_expiring() == sum(bool(one.expires_ms) for one in held)
        assert keyspace.count_hashes_expiring() == sum(bool(one.times) for one in held)
        assert keyspace.count_keys() == len(held)

    @rule(index=indexes)
    def list_keys(self, index: int) -> None:
        found = [key for some, _ in self.keyspace(index).scan_keys() for key in some]
        assert found == sorted(self.model[index])
        for position, key in enumerate(found):
            at = self.keyspace(index).key_at(position)
            assert at is not None
            assert at[0] == key

    @rule(index=indexes, is_observed=rarely, listens=st.sampled_from([0, 0, 0, ALL_EVENTS]))
    def observe(self, index: int, is_observed: bool, listens: int) -> None:
        """The short ways are closed while somebody has to be told."""
        self.keyspace(index).is_observed = is_observed
        self.keyspace(index).listens = listens

    # -- turns -------------------------------------------------------------------------------------

    @rule(gathers=st.booleans())
    def stage(self, gathers: bool) -> None:
        """In the middle of a turn, with or without the records that have changed."""
        if gathers:
            self.opened.stage_records()
        else:
            self.opened.store.stage()

    @rule()
    def commit(self) -> None:
        self.opened.commit()
        self.note_commit()

    @rule(is_disk_full=st.booleans())
    def undo(self, is_disk_full: bool) -> None:
        """All of the turn is undone: by itself, or as its commit fails. It may be that nothing was to be
        written."""

        def is_write(operation: Operation) -> bool:
            return operation.kind == "write"

        if not is_disk_full:
            self.opened.rollback()
            self.model = [dict(one) for one in self.committed]
            return
        self.fs.plan = fail_when(is_write, errno.ENOSPC)
        try:
            self.opened.commit()
        except OSError:
            self.model = [dict(one) for one in self.committed]
        self.fs.plan = no_faults
        self.note_commit()

    def note_commit(self) -> None:
        self.committed = [dict(one) for one in self.model]
        assert_consistent(self.opened.store.db)
        check_databases(self.opened)
        self.opened.commit()
        for index in range(COUNT):
            self.count(index)
        self.opened.commit()

    @rule(is_closed=st.booleans())
    def reopen(self, is_closed: bool) -> None:
        """Everything is read anew: as the server does it, or as somebody sees it who knows nothing."""
        self.opened.commit()
        if is_closed:
            self.opened.store.db.close()
            self.opened.attach(engine.open("/db", **self.options))
        else:
            db, cache_bytes = self.opened.store.db, self.cache_bytes
            self.databases = Databases(db, clock=self.clock, count=COUNT, cache_bytes=cache_bytes)
        self.note_commit()

    @rule(times=st.sampled_from([0, 1, 1, 2]))
    def age(self, times: int) -> None:
        """What was in use grows cold, or all of it comes into use."""
        for index in range(COUNT):
            for key in list(self.model[index]):
                self.read(index, key)
        self.opened.commit()
        for _ in range(times):
            self.opened.age_caches()
        self.note_commit()

    @rule(index=indexes)
    def let_go(self, index: int) -> None:
        """In the middle of a turn, too."""
        for record in self.keyspace(index).cache.values():
            record.let_go()

    def teardown(self) -> None:
        self.fs.plan = no_faults
        rules.LOADED_AT_ONCE, rules.LOADED_EVER = self.loaded
        if self.databases is None:
            return
        try:
            self.commit()
            for index in range(COUNT):
                for key in list(self.model[index]):
                    self.find(index, key)
            self.reopen(True)
        finally:
            self.opened.store.db.close()


def run(examples: int, steps: int) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        KeyspaceMachine,
        settings=settings(max_examples=examples, stateful_step_count=steps, suppress_health_check=checks),
    )


def test_databases_hold_what_they_are_told() -> None:
    run(250, 50)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("steps", [20, 60, 200])
def test_databases_soak(steps: int) -> None:
    run(60_000 // steps, steps)

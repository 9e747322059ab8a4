"""What is written is what is read: all types, all versions, all limits; and what cannot be written."""

from __future__ import annotations

import dataclasses
import io
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.rdbfiles import items_of, keys_of, plain
from harness.rdbvalues import chunks_of, collections, streams, timed_hashes
from lamina.server.rdb import opcodes, payload
from lamina.server.rdb.loading import RdbReader
from lamina.server.rdb.rules import SavingRules
from lamina.server.rdb.saving import RdbWriter
from lamina.server.rdb.values import (
    UNKNOWN,
    Aux,
    DatabaseSize,
    Function,
    HashValue,
    Key,
    ListValue,
    SetValue,
    StreamEntry,
    StreamGroup,
    StreamState,
    StreamValue,
    TimedHashValue,
    Value,
    ZsetValue,
)

TINY = {
    "hash_listpack_entries": 2,
    "hash_listpack_value": 5,
    "list_max_listpack_size": 2,
    "list_plain_value": 100,
    "set_intset_entries": 2,
    "set_listpack_entries": 3,
    "zset_listpack_entries": 2,
    "stream_node_max_entries": 2,
}
ALL_RULES = [
    SavingRules(version=version, compress=compress, **limits)
    for version in (opcodes.REDIS_70, opcodes.REDIS_72, opcodes.REDIS_74)
    for compress in (False, True)
    for limits in ({}, TINY)
]
rules_drawn = st.sampled_from(ALL_RULES)


def file_of(rules: SavingRules, *values: Value) -> bytes:
    """Return a file with these values."""
    file = io.BytesIO()
    writer = RdbWriter(file, rules)
    for at, value in enumerate(values):
        writer.write_key(b"key %d" % at, value)
    writer.finish()
    return file.getvalue()


def expected_of(value: Value, rules: SavingRules) -> object:
    """Return what must be read of it: before Redis 7.2 nobody knew when a consumer was active."""
    if isinstance(value, StreamValue) and rules.version == opcodes.REDIS_70:
        groups = [
            group._replace(consumers=[one._replace(active_ms=one.seen_ms) for one in group.consumers])
            for group in value.groups
        ]
        value = dataclasses.replace(value, groups=groups)
    return plain(value)


@given(value=st.one_of(collections(), streams()), rules=rules_drawn)
def test_payloads_round_trip(value: Value, rules: SavingRules) -> None:
    encoded = payload.encode(value, rules)
    assert plain(payload.decode(encoded)) == expected_of(value, rules)
    # As a packed encoding may have put elements into another order, only the second is stable.
    again = payload.encode(payload.decode(encoded), rules)
    assert payload.encode(payload.decode(again), rules) == again


@given(value=timed_hashes(), compress=st.booleans(), entries=st.sampled_from([0, 2, 512]))
def test_fields_that_expire_round_trip(value: TimedHashValue, compress: bool, entries: int) -> None:
    rules = SavingRules(version=opcodes.REDIS_74, compress=compress, hash_listpack_entries=entries)
    assert plain(payload.decode(payload.encode(value, rules))) == plain(value)
    for version in (opcodes.REDIS_70, opcodes.REDIS_72):
        with pytest.raises(ValueError, match="fields that expire"):
            payload.encode(value, SavingRules(version=version))


@given(values=st.lists(st.one_of(collections(), streams()), max_size=6), rules=rules_drawn)
def test_files_round_trip(values: list[Value], rules: SavingRules) -> None:
    found = keys_of(file_of(rules, *values))
    assert found == {b"key %d" % at: expected_of(value, rules) for at, value in enumerate(values)}


@given(value=st.one_of(collections(), streams()), rules=rules_drawn)
def test_values_of_unknown_size_round_trip(value: Value, rules: SavingRules) -> None:
    if not isinstance(value, bytes):
        expected = expected_of(value, rules)
        value.size = UNKNOWN
        assert keys_of(file_of(rules, value)) == {b"key 0": expected}


def test_everything_about_a_key_and_a_file_is_kept() -> None:
    items = [
        Aux(b"redis-ver", b"7.2.0"),
        Aux(b"ctime", b"1700000000"),
        Function(b"#!lua name=x\n"),
        DatabaseSize(0, 2, 1),
        Key(0, b"a", b"1", 1, 5),
        Key(0, b"b", b"2", (1 << 63) - 1, UNKNOWN, 255),
        DatabaseSize(70000, 1, 0),
        Key(70000, b"c", b"3" * 20000),
        Key(9, b"d", b"", 0, 1 << 40, 0),
    ]
    file = io.BytesIO()
    writer = RdbWriter(file, SavingRules())
    for item in items:
        writer.write(item)
    writer.finish()
    assert items_of(file.getvalue()) == items


def test_a_value_that_is_not_looked_at_is_stepped_over() -> None:
    sample = StreamValue(
        [[StreamEntry((at, 0), [b"f", b"v"]) for at in range(3000)]],
        3000,
        StreamState(3000, (3000, 0), entries_added=3000),
        [StreamGroup(b"g", (5, 5), 3, []), StreamGroup(b"h", (5, 5), 3, [])],
    )
    fields = [(b"field %d" % at, b"%d" % at) for at in range(5000)]
    values: list[Value] = [
        HashValue([fields], 5000),
        sample,
        ListValue([[b"x" * 100] * 30000], 30000),
        b"the last",
    ]
    data = file_of(SavingRules(), *values)
    keys = []
    for item in RdbReader(io.BytesIO(data)):
        assert isinstance(item, Key)
        keys.append(item.key)
        if item.key == b"key 0":
            assert isinstance(item.value, HashValue)
            assert next(iter(item.value.chunks))[:2] == fields[:2]
        if item.key == b"key 1":
            # Groups come after the entries, which are stepped over.
            assert isinstance(item.value, StreamValue)
            assert next(iter(item.value.groups)).name == b"g"
            assert item.value.state.size == 3000
    assert keys == [b"key 0", b"key 1", b"key 2", b"key 3"]
    assert item.value == b"the last"


WRONG = pytest.mark.parametrize("size", [0, 1, 2, 4, 999, 3000])
ELEMENTS = [b"a", b"b", b"c"]


@WRONG
@pytest.mark.parametrize(
    "value",
    [
        ListValue([ELEMENTS]),
        SetValue([ELEMENTS]),
        SetValue([[b"1", b"2", b"3"]]),
        ZsetValue([[(name, 1.0) for name in ELEMENTS]]),
        HashValue([[(name, b"v") for name in ELEMENTS]]),
        TimedHashValue([[(name, b"v", 5) for name in ELEMENTS]]),
        StreamValue(
            [[StreamEntry((at, 0), []) for at in (1, 2, 3)]], state=StreamState(3, (9, 9), entries_added=3)
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_wrong_size_is_refused(value: Value, size: int) -> None:
    assert not isinstance(value, bytes)
    with pytest.raises(ValueError, match=r"collection|elements|entries"):
        payload.encode(dataclasses.replace(value, size=size), SavingRules(version=opcodes.REDIS_74))


def test_what_has_no_form_is_refused() -> None:
    for value in (ListValue([]), SetValue([[]]), ZsetValue([]), HashValue([]), ListValue([], 0)):
        with pytest.raises(ValueError, match="empty"):
            payload.encode(value, SavingRules())
    for version in (9, 13):
        with pytest.raises(ValueError, match="RDB version"):
            SavingRules(version=version)


def test_large_values_are_written_and_read_in_bounded_memory() -> None:
    """80,000 elements of each type: some 10 MB would lie in memory if one did as a whole."""
    count = 80_000
    step = 1000

    def numbers() -> Iterator[range]:
        return (range(at, at + step) for at in range(0, count, step))

    def values() -> Iterator[Value]:
        yield ListValue(([b"element %d" % at for at in part] for part in numbers()), count)
        yield SetValue(([b"member %d" % at for at in part] for part in numbers()), count)
        yield ZsetValue(([(b"member %d" % at, at / 2) for at in part] for part in numbers()), count)
        yield HashValue(([(b"field %d" % at, b"%d" % at) for at in part] for part in numbers()), count)
        entries = ([StreamEntry((at, 0), [b"f", b"%d" % at]) for at in part] for part in numbers())
        yield StreamValue(entries, count, StreamState(count, (count, 0), entries_added=count))

    written = []

    class Sink:
        def write(self, data: bytes) -> None:
            written.append(data)

    tracemalloc.start()
    try:
        writer = RdbWriter(Sink(), SavingRules())
        size = 0
        highest = 0
        for at, value in enumerate(values()):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            writer.write_key(b"key %d" % at, value)
            highest = max(highest, tracemalloc.get_traced_memory()[1] - before - (writer.position - size))
            size = writer.position
        writer.finish()
        assert highest < 5_000_000
        data = b"".join(written)
        assert len(data) > 4_000_000
        written.clear()
        file = io.BytesIO(data)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        found = 0
        for item in RdbReader(file):
            assert isinstance(item, Key)
            if not isinstance(item.value, bytes):
                for chunk in item.value.chunks:
                    assert len(chunk) <= step
                    found += len(chunk)
        assert found == 5 * count
        assert tracemalloc.get_traced_memory()[1] - before < 2_000_000
    finally:
        tracemalloc.stop()


def test_a_large_stream_is_the_same_in_regular_nodes() -> None:
    entries = [StreamEntry((at, at % 3), [b"field", b"x" * (at % 700)]) for at in range(20_000)]
    value = StreamValue(
        chunks_of(entries, 900), 20_000, StreamState(20_000, (20_000, 0), entries_added=20_000)
    )
    expected = plain(value)
    data = file_of(SavingRules(), value)
    assert keys_of(data) == {b"key 0": expected}
    for wrong in (19_999, 20_001):
        with pytest.raises(ValueError, match=r"collection|entries"):
            file_of(SavingRules(), dataclasses.replace(value, size=wrong))

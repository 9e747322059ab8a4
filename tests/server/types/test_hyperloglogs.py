"""Registers of HyperLogLogs, packed, in runs and as they are."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.server.types import hllregisters, hllsparse
from lamina.server.types.hllregisters import COUNT, PACKED_SIZE
from lamina.server.types.hllsparse import EMPTY, Runs
from lamina.server.types.murmurhash import murmurhash64a

registers = st.integers(0, 1 << 32).map(lambda seed: bytes(Random(seed).choices(range(64), k=COUNT)))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"a", 0x071717D2D36B6B11),
        (b"hello world", 0xD3BA2368A832AFCE),
    ],
)
def test_hash_of_seed_zero(data: bytes, expected: int) -> None:
    """Values of the algorithm's author's own code."""
    assert murmurhash64a(data, 0) == expected


@given(unpacked=registers)
def test_packing(unpacked: bytes) -> None:
    packed = hllregisters.pack(unpacked)
    assert len(packed) == PACKED_SIZE
    assert hllregisters.unpack(packed) == unpacked
    bits = int.from_bytes(packed, "little")
    assert all(bits >> 6 * at & 63 == unpacked[at] for at in (0, 1, 2, 3, 4, 5000, COUNT - 1))


@given(one=registers, two=registers)
def test_the_larger_of_each(one: bytes, two: bytes) -> None:
    assert hllregisters.larger(one, two) == bytes(map(max, one, two))


@given(unpacked=registers)
def test_histogram(unpacked: bytes) -> None:
    counts = hllregisters.histogram(unpacked)
    assert counts == [unpacked.count(value) for value in range(64)]


places = st.tuples(st.integers(0, COUNT - 1), st.integers(1, 32))
near = st.tuples(st.integers(60, 75), st.integers(1, 3))


@given(changes=st.lists(st.one_of(places, near), max_size=60))
def test_runs_hold_the_registers(changes: list[tuple[int, int]]) -> None:
    runs = Runs(EMPTY)
    model = bytearray(COUNT)
    for index, value in changes:
        assert runs.put(index, value, 10_000) is (model[index] < value)
        model[index] = max(model[index], value)
        assert hllsparse.unpack(runs.text()) == model
    assert hllsparse.histogram(runs.text()) == hllregisters.histogram(bytes(model))


def test_runs_that_would_grow_too_long_stay() -> None:
    runs = Runs(EMPTY)
    assert runs.put(100, 3, 5) is True
    text = runs.text()
    assert len(text) == 5
    assert runs.put(200, 3, 7) is None
    assert runs.text() == text
    assert runs.put(100, 4, 5) is True
    assert runs.put(100, 4, 5) is False


@pytest.mark.parametrize("text", [b"", b"\x00", b"\x40", b"\x83", b"\x7f"])
def test_damaged_runs(text: bytes) -> None:
    assert hllsparse.unpack(text) is None
    assert hllsparse.histogram(text) is None
    with pytest.raises(ValueError, match="run"):
        Runs(text).put(COUNT - 1, 1, 100)


@given(text=st.binary(max_size=200), index=st.integers(0, COUNT - 1))
def test_any_bytes_are_runs_or_damaged(text: bytes, index: int) -> None:
    runs = Runs(text)
    before = hllsparse.unpack(text)
    try:
        has_changed = runs.put(index, 32, 1000)
    except ValueError:
        assert before is None
    else:
        if before is not None and has_changed:
            assert hllsparse.unpack(runs.text()) == before[:index] + b"\x20" + before[index + 1 :]


def test_remembered_runs_are_used_for_the_same_bytes_only() -> None:
    runs = Runs.of(b"name", EMPTY)
    runs.put(5, 5, 100)
    runs.remember(b"name")
    assert Runs.of(b"name", runs.text()) is runs
    runs.remember(b"name")
    assert Runs.of(b"name", EMPTY) is not runs

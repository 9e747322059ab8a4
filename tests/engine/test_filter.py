"""The bloom filter of a block: never a false negative, few false positives, and bits that stay where they
are."""

from __future__ import annotations

import zlib
from random import Random

import pytest

from lamina.engine.segment import filter as filters
from lamina.engine.segment.filter import (
    Probe,
    build_filter,
    filter_shape,
    hash_key,
    may_contain,
    unpack_filter,
)

WIDTHS = [64, 128, 192, 256, 320, 384, 448, 512]
SIZES = [1, 2, 3, 5, 8, 13, 20, 32, 51, 52, 53, 64, 80, 102, 103, 128, 200, 256, 400, 512, 700, 1000]


def make_keys(count: int, seed: int, size: int = 16) -> list[bytes]:
    random = Random(seed)
    return [random.randbytes(size) for _ in range(count)]


def make_probe(keys: list[bytes], bits_per_key: int) -> Probe:
    return unpack_filter(build_filter(keys, len(keys), bits_per_key), len(keys), bits_per_key)


def share_of_false_positives(entries: int, bits_per_key: int, lookups: int) -> float:
    """Return the share of absent keys that filters of blocks with `entries` let pass."""
    passed = tried = 0
    absent = [hash_key(key) for key in make_keys(2000, 2)]
    seed = 100
    while tried < lookups:
        seed += 1
        probe = make_probe(make_keys(entries, seed), bits_per_key)
        passed += sum(may_contain(probe, h) for h in absent)
        tried += len(absent)
    return passed / tried


@pytest.mark.parametrize("entries", SIZES)
def test_few_false_positives_at_ten_bits(entries: int) -> None:
    assert share_of_false_positives(entries, 10, 60_000) < 0.015


@pytest.mark.slow
@pytest.mark.parametrize("entries", range(1, 1001))
def test_few_false_positives_whatever_the_block(entries: int) -> None:
    assert share_of_false_positives(entries, 10, 60_000) < 0.015


@pytest.mark.parametrize(("bits", "most"), [(4, 0.25), (6, 0.08), (8, 0.03), (16, 0.002), (32, 0.0005)])
def test_more_bits_let_fewer_pass(bits: int, most: float) -> None:
    assert share_of_false_positives(80, bits, 40_000) < most


@pytest.mark.parametrize("bits", [1, 10, 32])
def test_no_false_negatives(bits: int) -> None:
    for entries in (*range(1, 120), 500, 1000, 4096):
        keys = make_keys(entries, entries)
        probe = make_probe(keys, bits)
        assert all(may_contain(probe, hash_key(key)) for key in keys)


def test_keys_of_any_kind_pass_their_own_filter() -> None:
    keys = [b"", b"\0", b"\xff" * 10_000, *(b"%d" % number for number in range(100))]
    probe = make_probe(keys, 10)
    assert all(may_contain(probe, hash_key(key)) for key in keys)


def test_filters_take_what_was_asked_for() -> None:
    for entries in range(1, 1001):
        sectors, width = filter_shape(entries, 10)
        assert width % 64 == 0
        assert 64 <= width <= 512
        assert sectors * width / entries >= 10
        assert sectors * width <= 10 * entries + 64 * sectors
        assert len(build_filter([b"key"], entries, 10)) == sectors * width // 8


def test_zero_bits_switch_filters_off() -> None:
    assert build_filter([b"a"], 1, 0) == b""
    assert may_contain(make_probe([b"a"], 0), hash_key(b"b"))


def test_bits_are_part_of_the_file_format() -> None:
    """Files out there were written with these tables, shapes and hashes: if this fails, put them back."""
    assert hash_key(b"") == 0x2D06800538D394C2
    sums = []
    for width in WIDTHS:
        low, high = filters._tables(width)
        assert len(low) == len(high) == 4096
        text = "".join(f"{pattern:x}," for pattern in low + high)
        sums.append(zlib.crc32(text.encode()))
    shapes = [filter_shape(entries, bits) for entries in range(1, 1001) for bits in (1, 10, 17, 32)]
    block = build_filter([b"key %d" % number for number in range(300)], 300, 10)
    assert sums == [
        0x4B27017B,
        0x4F1B9D09,
        0x202E36CB,
        0xF98409A0,
        0x5717FB4B,
        0xDDAFECAC,
        0x4A146E2F,
        0x045BE06E,
    ]
    assert zlib.crc32(repr(shapes).encode()) == 0x44560030
    assert zlib.crc32(block) == 0xAC08F13F

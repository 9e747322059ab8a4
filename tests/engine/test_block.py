"""Data blocks: columns in, the same columns out, and damage that is noticed."""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.engine.entry import DELETE, DELTAS, INSERT, REMOVE, REPLACE
from lamina.engine.errors import CorruptionError
from lamina.engine.segment.block import HEADER, Block, encode_block

Item = tuple[bytes, tuple[bytes, int]]

keys = st.one_of(st.binary(max_size=12), st.binary(min_size=4, max_size=4))
values = st.one_of(st.binary(max_size=40), st.just(b"same"))
blocks = st.dictionaries(keys, st.tuples(values, st.integers(0, 3)), min_size=1, max_size=60)


def parse(data: bytes) -> Block:
    return Block("/db/000001.seg", 77, data)


def encode(items: dict[bytes, tuple[bytes, int]]) -> tuple[list[bytes], list[bytes], bytes, bytes]:
    order = sorted(items)
    kinds = bytes(items[key][1] for key in order)
    content = [b"" if items[key][1] in (DELETE, REMOVE) else items[key][0] for key in order]
    return order, content, kinds, encode_block(order, content, kinds)


@given(blocks)
def test_columns_round_trip(items: dict[bytes, tuple[bytes, int]]) -> None:
    order, content, kinds, data = encode(items)
    block = parse(data)
    assert (block.count, block.kinds) == (len(order), kinds)
    assert block.split_keys is None
    # Key by key from the raw column, then again from the split list.
    for _ in range(2):
        assert [block.key(i) for i in range(block.count)] == order
        assert [block.value(i) for i in range(block.count)] == content
        assert block.keys() == order
        assert block.split_keys is not None
    assert block.values() == content
    expected = [None if kind in (DELETE, REMOVE) else v for v, kind in zip(content, kinds, strict=True)]
    assert block.live_values() == expected
    assert block.column_sizes() == (sum(map(len, order)), sum(map(len, content)))


@given(blocks, st.lists(keys, max_size=20))
def test_search(items: dict[bytes, tuple[bytes, int]], wanted: list[bytes]) -> None:
    order, _, _, data = encode(items)
    raw, split = parse(data), parse(data)
    split.keys()
    for key in (*wanted, *order, b"", b"\xff" * 20):
        assert raw.bisect(key) == split.bisect(key) == bisect_left(order, key)
    assert raw.split_keys is None


@given(blocks, st.data())
def test_sums(items: dict[bytes, tuple[bytes, int]], data: st.DataObject) -> None:
    _, _, kinds, encoded = encode(items)
    block = parse(encoded)
    start, stop = sorted(data.draw(st.lists(st.integers(0, block.count), min_size=2, max_size=2)))
    assert block.delta(start, stop) == sum(DELTAS[kind] for kind in kinds[start:stop])


@pytest.mark.parametrize("count", [1, 2, 4096, 4097, 70_000])
@pytest.mark.parametrize("shape", ["fixed", "variable", "empty values", "wide"])
def test_shapes(count: int, shape: str) -> None:
    order = [b"%08d" % number for number in range(count)]
    if shape == "variable":
        order = sorted(b"%d" % number for number in range(count))
    width = {"fixed": 3, "variable": 0, "empty values": 0, "wide": 0}[shape]
    content = [b"v" * width] * count
    if shape == "wide":
        content = [b"w" * (number % 5) for number in range(count - 1)] + [b"w" * 0x10000]
    block = parse(encode_block(order, content, bytes((INSERT,)) * count))
    assert [block.key(i) for i in (0, count // 2, count - 1)] == [
        order[i] for i in (0, count // 2, count - 1)
    ]
    assert block.keys() == order
    assert block.values() == content
    assert block.bisect(order[count // 2]) == count // 2


@pytest.mark.parametrize("size", [0xFFFF, 0x10000, 0x10001])
def test_column_ends_widen_at_64_kib(size: int) -> None:
    order, content = [b"a", b"bb"], [b"x", b"y" * (size - 1)]
    block = parse(encode_block(order, content, bytes((INSERT, REPLACE))))
    assert block.values() == content
    assert block.value(1) == content[1]


def test_the_empty_key_may_be_alone() -> None:
    block = parse(encode_block([b""], [b""], bytes((INSERT,))))
    assert (block.keys(), block.values(), block.bisect(b""), block.bisect(b"a")) == ([b""], [b""], 0, 1)


def test_memory_grows_with_the_keys() -> None:
    data = encode_block([b"%05d" % n for n in range(100)], [b"v" * 50] * 100, bytes((INSERT,)) * 100)
    block = parse(data)
    before = block.memory_bytes()
    assert before > len(data)
    block.keys()
    assert block.memory_bytes() == before + block.keys_memory_bytes()


@given(blocks, st.data())
def test_a_truncated_block_is_corrupt(items: dict[bytes, tuple[bytes, int]], data: st.DataObject) -> None:
    encoded = encode(items)[3]
    cut = data.draw(st.integers(0, len(encoded) - 1))
    for damaged in (encoded[:cut], encoded + b"\0"):
        with pytest.raises(CorruptionError) as caught:
            parse(damaged)
        assert (caught.value.path, caught.value.offset) == ("/db/000001.seg", 77)


@given(st.binary(max_size=200), st.lists(st.sampled_from([0, 1, 2, 5, 0xFFFFFFFF]), min_size=5, max_size=5))
def test_any_bytes_parse_or_are_corrupt(body: bytes, header: list[int]) -> None:
    for data in (body, HEADER.pack(*header) + body):
        try:
            block = parse(data)
        except CorruptionError:
            continue
        assert len(block.keys()) == len(block.values()) == block.count


def test_overlapping_ends_do_not_crash() -> None:
    """Ends that run backwards pass no checksum in practice; reading them must not go wild all the same."""
    data = bytearray(encode_block([b"a", b"bcd", b"ef"], [b"", b"", b""], bytes(3)))
    ends = HEADER.size + 3
    assert [data[i] for i in range(ends, ends + 6, 2)] == [1, 4, 6]
    data[ends] = 9
    block = parse(bytes(data))
    assert len(block.keys()) == 3
    assert all(a <= b for a, b in pairwise(map(len, [b"", *block.keys()[:1]])))

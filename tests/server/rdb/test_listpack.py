"""Listpacks and intsets: bytes that are known, sizes at every edge, and round trips."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import rdbdata
from harness.rdbvalues import texts
from lamina.server.rdb import intset, listpack
from lamina.server.rdb.errors import RdbError
from lamina.server.types.listpacks import packed_size

LENGTHS_BEHIND = (126, 127, 128, 16382, 16383, 16384, 2097150, 2097151, 2097152)
"""Of entries, at the edges of the length that stands behind them."""


def unpacked(blob: bytes, size: int = 1 << 40) -> list[bytes]:
    return [element for chunk in listpack.unpack_chunks(blob, size, 0) for element in chunk]


@pytest.mark.parametrize(
    ("element", "entry"),
    [
        (b"", "80 01"),
        (b"a", "81 61 02"),
        (b"0", "00 01"),
        (b"127", "7f 01"),
        (b"128", "c0 80 02"),
        (b"-1", "df ff 02"),
        (b"-4096", "d0 00 02"),
        (b"4095", "cf ff 02"),
        (b"4096", "f1 00 10 03"),
        (b"-32769", "f2 ff 7f ff 04"),
        (b"8388608", "f3 00 00 80 00 05"),
        (b"-2147483649", "f4 ff ff ff 7f ff ff ff ff 09"),
        (b"007", "83 30 30 37 04"),
        (b"x" * 64, "e0 40" + " 78" * 64 + " 42"),
        (b"x" * 126, "e0 7e" + " 78" * 126 + " 01 80"),
        (b"x" * 4096, "f0 00 10 00 00" + " 78" * 4096 + " 20 85"),
    ],
)
def test_entries(element: bytes, entry: str) -> None:
    assert listpack.encode_element(element) == bytes.fromhex(entry)
    assert unpacked(listpack.pack([element])) == [element]


@pytest.mark.parametrize("size", LENGTHS_BEHIND)
def test_lengths_behind_long_entries(size: int) -> None:
    element = b"x" * (size - (2 if size < 4098 else 5))
    blob = listpack.pack([b"before", element, b"after"])
    assert unpacked(blob) == [b"before", element, b"after"]
    assert len(listpack.encode_element(element)) == packed_size(element)


def test_many_elements() -> None:
    for count in (65534, 65535, 65536, 70000):
        blob = listpack.pack([b"%d" % number for number in range(count)])
        assert int.from_bytes(blob[4:6], "little") == min(count, 65535)
        assert len(unpacked(blob)) == count
        assert [len(chunk) for chunk in listpack.unpack_chunks(blob, 60000, 0)] == [60000, count - 60000]
    # A count that is claimed is right.
    blob = listpack.pack([b"a", b"b"])
    for claim in (0, 1, 3, 65534):
        with pytest.raises(RdbError, match="2 elements instead of"):
            unpacked(blob[:4] + claim.to_bytes(2, "little") + blob[6:])


@given(elements=st.lists(texts, max_size=30), size=st.integers(1, 40))
def test_listpacks_round_trip(elements: list[bytes], size: int) -> None:
    blob = listpack.pack(elements)
    chunks = list(listpack.unpack_chunks(blob, size, 0))
    assert [element for chunk in chunks for element in chunk] == elements
    assert all(len(chunk) == size for chunk in chunks[:-1])
    assert len(blob) == listpack.EMPTY_BYTES + sum(map(packed_size, elements))


@given(
    members=st.sets(st.sampled_from(rdbdata.INTEGERS) | st.integers(-(1 << 63), (1 << 63) - 1), min_size=1)
)
def test_intsets_round_trip(members: set[int]) -> None:
    blob = intset.pack(list(members))
    found = [member for chunk in intset.unpack_chunks(blob, 3, 0) for member in chunk]
    assert found == [b"%d" % member for member in sorted(members)]
    # As narrow as it can be.
    width = blob[0]
    assert width == 2 or not all(-(1 << 4 * width - 1) <= member < 1 << 4 * width - 1 for member in members)


def test_intsets_are_in_order() -> None:
    assert intset.pack([5, -3, 70000]).hex() == "0400000003000000fdffffff0500000070110100"
    for damaged in ("03000000", "0200000001000000", "02000000020000000500", "0200000002000000050005 00"):
        with pytest.raises(RdbError):
            list(intset.unpack_chunks(bytes.fromhex(damaged), 10, 0))
    # Also from one chunk to the next.
    with pytest.raises(RdbError, match="do not ascend"):
        list(intset.unpack_chunks(bytes.fromhex("0200000003000000 0100 0200 0200"), 2, 0))

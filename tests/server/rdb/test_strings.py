"""Strings: their forms, their compression, and files that are longer than the reader's blocks."""

from __future__ import annotations

import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import rdbdata
from harness.rdbfiles import keys_of
from harness.rdbvalues import texts
from lamina.server.rdb import lzf
from lamina.server.rdb.crc64 import crc64
from lamina.server.rdb.errors import RdbError
from lamina.server.rdb.lengths import encode_compressed, encode_length, encode_string
from lamina.server.rdb.rules import SavingRules
from lamina.server.rdb.saving import RdbWriter
from lamina.server.rdb.source import BLOCK_BYTES, Source


def read_back(data: bytes) -> bytes:
    source = Source(None, data)
    found = source.string()
    assert source.at == source.end
    return found


def test_the_checksum_is_the_one_of_redis() -> None:
    assert crc64(b"123456789", 0) == 0xE9C6D914C4B8D9CA
    assert crc64(b"6789", crc64(b"12345", 0)) == 0xE9C6D914C4B8D9CA


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (b"", "00"),
        (b"0", "c0 00"),
        (b"-128", "c0 80"),
        (b"128", "c1 80 00"),
        (b"-32769", "c2 ff 7f ff ff"),
        (b"2147483647", "c2 ff ff ff 7f"),
        (b"2147483648", "0a 32 31 34 37 34 38 33 36 34 38"),
        (b"01", "02 30 31"),
        (b"x" * 64, "40 40" + " 78" * 64),
        (b"x" * 16384, "80 00 00 40 00" + " 78" * 16384),
    ],
)
def test_forms(value: bytes, form: str) -> None:
    assert encode_string(value) == bytes.fromhex(form)
    assert read_back(encode_string(value)) == value


@pytest.mark.parametrize("number", [0, 63, 64, 16383, 16384, (1 << 32) - 1, 1 << 32, (1 << 64) - 1])
def test_lengths(number: int) -> None:
    source = Source(None, encode_length(number))
    assert source.length() == number
    assert source.at == source.end


@pytest.mark.parametrize("first", [0x82, 0xBF, 0xC0, 0xC3, 0xFF])
def test_what_is_no_length(first: int) -> None:
    with pytest.raises(RdbError, match="no length"):
        Source(None, bytes((first,)) * 20).length()
    if first not in (0xC0, 0xC3):
        with pytest.raises(RdbError, match=r"no (length|string)"):
            Source(None, bytes((first,)) * 20).string()


@given(value=st.one_of(texts, st.sampled_from(rdbdata.strings())))
def test_strings_round_trip(value: bytes) -> None:
    assert read_back(encode_string(value)) == value
    assert read_back(encode_compressed(value)) == value
    assert len(encode_compressed(value)) <= len(encode_string(value))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("00 61", b"a"),
        ("1f" + " 62" * 32, b"b" * 32),
        ("01 61 62 20 01", b"ababa"),
        ("00 61 e0 00 00", b"a" * 10),
        ("00 61 e0 ff 00", b"a" * 265),
        ("02 61 62 63 c0 01", b"abcbcbcbcbc"),
    ],
)
def test_tokens_of_lzf(data: str, expected: bytes) -> None:
    assert lzf.decompress(bytes.fromhex(data), len(expected), 0) == expected


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ("05 61", "cut off within a literal"),
        ("00 61 20", "cut off within a copy"),
        ("00 61 e0 05", "cut off within a copy"),
        ("00 61 20 01", "from before the start"),
        ("20 00", "from before the start"),
        ("00 61 20 00 00 61", "the length is not 4"),
        ("00 61", "the length is not 4"),
    ],
)
def test_damaged_lzf(data: str, what: str) -> None:
    with pytest.raises(RdbError, match=what):
        lzf.decompress(bytes.fromhex(data), 4, 0)


@given(data=st.binary(max_size=400), times=st.integers(1, 100), tail=st.binary(max_size=50))
def test_lzf_round_trip(data: bytes, times: int, tail: bytes) -> None:
    """What repeats reaches over several windows and needs copies of all lengths."""
    whole = data * times + tail + data
    compressed = lzf.compress(whole)
    if compressed is not None:
        assert len(compressed) <= len(whole) - 4
        assert lzf.decompress(compressed, len(whole), 0) == whole


@pytest.mark.parametrize(
    "count", [*range(1, 40), *range(260, 300), 524, 528, 529, 530, 8191, 8192, 8193, 100_000]
)
def test_runs_of_every_length(count: int) -> None:
    whole = b"ab" + b"z" * count + b"ba"
    compressed = lzf.compress(whole)
    if compressed is None:
        assert count < 20
    else:
        assert lzf.decompress(compressed, len(whole), 0) == whole
        assert len(compressed) < 30 + len(whole) // 50


def test_what_cannot_be_compressed_is_left_alone() -> None:
    noise = random.Random(5).randbytes(100_000)
    assert lzf.compress(noise) is None
    assert encode_compressed(noise) == encode_string(noise)
    assert encode_compressed(b"a" * 20) == encode_string(b"a" * 20)
    assert len(encode_compressed(b"a" * 21)) < 21


@pytest.mark.parametrize("compress", [False, True])
def test_files_of_many_blocks(compress: bool) -> None:
    chance = random.Random(3)
    sizes = [0, 5, 100, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, BLOCK_BYTES * 3 + 7]
    expected = {}
    file = io.BytesIO()
    writer = RdbWriter(file, SavingRules(compress=compress))
    for at in range(300):
        size = chance.choice(sizes if at % 20 == 0 else sizes[:3])
        value = chance.randbytes(size) if at % 3 else b"abc" * (size // 3)
        expected[b"key %d" % at] = value
        writer.write_key(b"key %d" % at, value)
    writer.finish()
    data = file.getvalue()
    assert keys_of(data) == expected
    # The checksum covers every block.
    for place in (100, len(data) // 3, len(data) // 2, len(data) - 30):
        with pytest.raises(RdbError):
            keys_of(data[:place] + bytes((data[place] ^ 1,)) + data[place + 1 :])

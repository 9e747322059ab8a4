"""The small codecs of a segment file, and the short keys that bound its blocks."""

from __future__ import annotations

import json
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from lamina.engine.errors import CorruptionError, FormatVersionError
from lamina.engine.segment import format as fmt
from lamina.engine.segment.format import FLOOR_SIZE_MAX, is_exact, separator, upper_bound

PATH = "/db/000007.seg"

# Keys that agree for a long time, so that the limit on floors matters.
long_keys = st.builds(
    lambda prefix, size, tail: (prefix * 6000)[:size] + tail,
    st.sampled_from([b"x", b"\xff", b"\0"]),
    st.sampled_from([0, 1, FLOOR_SIZE_MAX - 2, FLOOR_SIZE_MAX - 1, FLOOR_SIZE_MAX, FLOOR_SIZE_MAX + 1, 5000]),
    st.binary(max_size=4),
)
any_keys = st.one_of(st.binary(max_size=8), long_keys)


@given(any_keys, any_keys)
@example(b"", b"\0")
@example(b"a", b"a\0")
@example(b"x" * 4095, b"x" * 4096)
@example(b"x" * 4096, b"x" * 4097)
@example(b"x" * 4096 + b"a", b"x" * 4096 + b"b")
def test_separator(one: bytes, other: bytes) -> None:
    assume(one != other)
    last, first = sorted((one, other))
    floor = separator(last, first)
    assert len(floor) <= FLOOR_SIZE_MAX
    assert floor <= first
    if is_exact(floor):
        assert last < floor
        # No shorter prefix of `first` would do.
        assert floor == first[: len(floor)]
        assert floor[:-1] <= last
    else:
        assert first.startswith(floor)


@given(any_keys)
@example(b"")
@example(b"\xff" * 4095)
@example(b"\xff" * 4096)
@example(b"x" * 4095 + b"\xff")
def test_upper_bound(key: bytes) -> None:
    bound = upper_bound(key)
    if bound is None:
        assert key.startswith(b"\xff" * FLOOR_SIZE_MAX)
    else:
        assert key < bound
        assert len(bound) <= FLOOR_SIZE_MAX
        if len(key) < FLOOR_SIZE_MAX:
            assert bound == key + b"\0"  # nothing lies between


@given(any_keys, any_keys)
def test_no_key_lies_between_a_short_key_and_its_bound(key: bytes, other: bytes) -> None:
    assume(len(key) < FLOOR_SIZE_MAX and key < other)
    bound = upper_bound(key)
    assert bound is not None
    assert bound <= other


rows = st.lists(
    st.tuples(
        st.binary(max_size=20),
        st.integers(0, 2**64 - 1),
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**40),
        st.integers(0, 2**40),
        st.integers(-(2**40), 2**40),
        st.binary(max_size=20),
    ),
    min_size=1,
    max_size=40,
)


@given(rows)
def test_index_round_trips(table: list[tuple[bytes, int, int, int, int, int, bytes]]) -> None:
    columns: list[list[Any]] = [list(column) for column in zip(*table, strict=True)]
    floors, offsets, sizes, entries, tombstones, deltas, filters = columns
    payload = fmt.encode_index(*columns)
    index = fmt.decode_index(PATH, 5, payload)
    assert index.floors == floors
    assert list(index.offsets) == offsets
    assert list(index.sizes) == sizes
    assert list(index.entries) == list(accumulate(entries, initial=0))
    assert list(index.tombstones) == list(accumulate(tombstones, initial=0))
    assert list(index.deltas) == list(accumulate(deltas, initial=0))
    assert index.filters == filters


@given(rows, st.data())
def test_a_truncated_index_is_corrupt(
    table: list[tuple[bytes, int, int, int, int, int, bytes]], data: st.DataObject
) -> None:
    columns: list[list[Any]] = [list(column) for column in zip(*table, strict=True)]
    payload = fmt.encode_index(*columns)
    cut = data.draw(st.integers(0, len(payload) - 1))
    for damaged in (payload[:cut], payload + b"\0"):
        with pytest.raises(CorruptionError) as caught:
            fmt.decode_index(PATH, 5, damaged)
        assert (caught.value.path, caught.value.offset) == (PATH, 5)


@given(st.binary(max_size=300))
def test_any_bytes_are_an_index_or_corrupt(payload: bytes) -> None:
    try:
        fmt.decode_index(PATH, 0, payload)
    except CorruptionError:
        pass


keys = st.binary(max_size=20)
properties = st.builds(
    fmt.Properties,
    number=st.integers(0, 2**60),
    level=st.integers(0, 12),
    run=st.integers(0, 2**60),
    age_first=st.integers(0, 2**60),
    age_last=st.integers(0, 2**60),
    start=keys,
    stop=st.none() | keys,
    ceiling=st.none() | keys,
    entries=st.integers(1, 2**60),
    tombstones=st.integers(0, 2**60),
    delta=st.integers(-(2**60), 2**60),
    key_bytes=st.integers(0, 2**60),
    value_bytes=st.integers(0, 2**60),
    blocks=st.integers(1, 2**60),
    discards_applied=st.integers(0, 2**60),
    filter_bits_per_key=st.integers(0, 32),
    counted=st.booleans(),
    created_s=st.integers(0, 2**40),
)


@given(properties)
def test_properties_round_trip(record: fmt.Properties) -> None:
    assert fmt.Properties.decode(PATH, 0, record.encode()) == record
    text = json.loads(record.encode())
    later = json.dumps(text | {"added by a later release": 1}).encode()
    assert fmt.Properties.decode(PATH, 0, later) == record


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"[]", b"5", b"null", b"{}", b'{"start": 5}', b'{"start": "zz"}', b"\xff\xfe"]
)
def test_what_is_no_properties_is_corrupt(payload: bytes) -> None:
    with pytest.raises(CorruptionError, match="properties do not decode"):
        fmt.Properties.decode(PATH, 9, payload)


@pytest.mark.parametrize("compress", [True, False])
@given(payload=st.one_of(st.binary(max_size=300), st.binary(min_size=1, max_size=5).map(lambda b: b * 100)))
def test_frame_round_trips(compress: bool, payload: bytes) -> None:
    frame = fmt.encode_frame(123, 4567, fmt.DATA, payload, compress=compress)
    assert fmt.decode_frame(PATH, 123, 4567, frame, fmt.DATA) == payload
    moved = fmt.reseat_frame(frame, 9, 1 << 40)
    assert fmt.decode_frame(PATH, 9, 1 << 40, moved, fmt.DATA) == payload
    if compress and len(set(payload)) == 1 and len(payload) > 64:
        assert len(frame) < len(payload)


def test_compression_must_be_worth_it() -> None:
    incompressible = bytes(range(256))
    frame = fmt.encode_frame(0, 0, fmt.DATA, incompressible, compress=True)
    assert len(frame) == fmt.FRAME.size + 256


def test_a_frame_is_valid_in_one_place_of_one_file_only() -> None:
    frame = fmt.encode_frame(1, 1000, fmt.PART, b"payload", compress=True)
    for salt, offset in ((1, 1001), (1, 999), (2, 1000), (3, 0)):
        with pytest.raises(CorruptionError, match="index part checksum"):
            fmt.decode_frame(PATH, salt, offset, frame, fmt.PART)
    with pytest.raises(CorruptionError, match="kind of block"):
        fmt.decode_frame(PATH, 1, 1000, frame, fmt.DATA)


def test_every_flipped_bit_and_every_cut_of_a_frame_is_noticed() -> None:
    frame = fmt.encode_frame(77, 20, fmt.DATA, b"some payload " * 20, compress=True)
    for at in range(len(frame) * 8):
        damaged = bytearray(frame)
        damaged[at >> 3] ^= 1 << (at & 7)
        with pytest.raises(CorruptionError):
            fmt.decode_frame(PATH, 77, 20, bytes(damaged), fmt.DATA)
    for cut in range(len(frame)):
        with pytest.raises(CorruptionError):
            fmt.decode_frame(PATH, 77, 20, frame[:cut], fmt.DATA)


def test_a_frame_that_does_not_decompress_is_corrupt() -> None:
    """A sound checksum over nonsense: a bug in the writer, or a forger."""
    for payload in (b"", b"\xff" * 20, b"\xff\xff\xff\x7f" + bytes(10)):
        body = fmt.FRAME.pack(0, len(payload), fmt.DATA | fmt.LZ4 << 4)[4:] + payload
        frame = fmt.reseat_frame(bytes(4) + body, 5, 0)
        with pytest.raises(CorruptionError, match="does not decompress"):
            fmt.decode_frame(PATH, 5, 0, frame, fmt.DATA)


def test_header() -> None:
    header = fmt.encode_header(0xDEADBEEF)
    assert len(header) == fmt.HEADER.size
    assert fmt.decode_header(PATH, header) == 0xDEADBEEF
    for at in range(len(header)):
        damaged = bytearray(header)
        damaged[at] ^= 1
        with pytest.raises(CorruptionError):
            fmt.decode_header(PATH, bytes(damaged))
        with pytest.raises(CorruptionError, match="cut short"):
            fmt.decode_header(PATH, header[:at])


def test_footer() -> None:
    top, props = fmt.Frame(1 << 40, 2000), fmt.Frame(1 << 41, 300)
    footer = fmt.encode_footer(top, props, 55)
    assert fmt.decode_footer(PATH, 9, footer, 55) == (top, props)
    with pytest.raises(CorruptionError, match="footer checksum"):
        fmt.decode_footer(PATH, 9, footer, 56)
    for at in range(len(footer)):
        damaged = bytearray(footer)
        damaged[at] ^= 1
        with pytest.raises(CorruptionError):
            fmt.decode_footer(PATH, 9, bytes(damaged), 55)
    with pytest.raises(CorruptionError, match="cut short"):
        fmt.decode_footer(PATH, 9, footer[1:], 55)


def test_files_of_the_future_are_refused_by_name() -> None:
    with pytest.raises(FormatVersionError, match="format version 2 is not known here"):
        fmt.check_version(PATH, fmt.FORMAT_VERSION + 1)
    with pytest.raises(FormatVersionError):
        fmt.check_version(PATH, 0)
    fmt.check_version(PATH, fmt.FORMAT_VERSION)


def test_numbers_on_disk_stay() -> None:
    assert (fmt.DATA, fmt.PART, fmt.TOP, fmt.PROPERTIES) == (1, 2, 3, 4)
    assert (fmt.RAW, fmt.LZ4) == (0, 1)
    assert (fmt.HEADER_MAGIC, fmt.FOOTER_MAGIC, fmt.FORMAT_VERSION) == (b"LAMINSEG", b"LAMINEND", 1)
    assert FLOOR_SIZE_MAX == 4096

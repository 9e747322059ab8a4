"""Batches and their encoding, which is the payload of a log frame."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.engine import batch as batches
from lamina.engine.batch import (
    BATCH,
    BATCH_SIZE_MAX,
    DISCARD_BOUND_SIZE_MAX,
    DURABLE,
    ENTRY,
    LINK,
    MARK,
    Batch,
    check_discard,
    check_key,
    check_value,
    decode_payload,
    encode_batch,
)
from lamina.engine.errors import ClosedError

entries = st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=300), st.integers(0, 3)), max_size=30)
discards = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), max_size=5)


@given(entries, discards)
def test_encoding_round_trips(items: list[tuple[bytes, bytes, int]], ranges: list[batches.Discard]) -> None:
    keys = [key for key, _, _ in items]
    values = [value for _, value, _ in items]
    kinds = bytes(kind for _, _, kind in items)
    payload = encode_batch(keys, values, kinds, ranges)
    assert payload[0] == BATCH
    assert decode_payload(payload) == (keys, values, kinds, ranges)


@given(st.binary(max_size=40), st.binary(max_size=300), st.integers(0, 3))
def test_a_single_entry_round_trips(key: bytes, value: bytes, kind: int) -> None:
    payload = ENTRY.pack(kind, len(key)) + key + value
    assert decode_payload(payload) == ([key], [value], bytes((kind,)), [])


def test_an_encoding_to_look_at() -> None:
    payload = encode_batch([b"a", b"bc"], [b"xyz", b""], bytes((1, 3)), [(b"d", b"e")])
    assert payload == (
        b"\x10\x02\0\0\0\x03\0\0\0\x01\0\0\0"
        b"\x01\x03"
        b"\x01\0\0\0\x02\0\0\0"
        b"\x03\0\0\0\0\0\0\0"
        b"abc"
        b"xyz"
        b"\x01\0\0\0\x01\0\0\0de"
    )


@given(entries, discards, st.data())
def test_every_truncation_is_refused(
    items: list[tuple[bytes, bytes, int]], ranges: list[batches.Discard], data: st.DataObject
) -> None:
    payload = encode_batch(
        [k for k, _, _ in items], [v for _, v, _ in items], bytes(k for _, _, k in items), ranges
    )
    cut = data.draw(st.integers(0, len(payload) - 1))
    with pytest.raises(ValueError):
        decode_payload(payload[:cut])
    with pytest.raises(ValueError):
        decode_payload(payload + b"\0")


@given(st.binary(max_size=200), st.sampled_from([b"", bytes((BATCH,))]))
def test_any_bytes_decode_or_are_refused(payload: bytes, tag: bytes) -> None:
    try:
        decode_payload(tag + payload)
    except ValueError:
        pass


def test_marks_are_not_entries() -> None:
    for tag in (DURABLE, LINK):
        with pytest.raises(ValueError, match="no entry of kind"):
            decode_payload(MARK.pack(tag, 1, 2))


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "KEY_SIZE_MAX", 10)
    monkeypatch.setattr(batches, "VALUE_SIZE_MAX", 20)
    batch = Batch()
    batch.put(b"k" * 10, b"v" * 20)
    for act in (
        lambda: batch.put(b"k" * 11, b""),
        lambda: batch.put(b"", b"v" * 21),
        lambda: batch.delete(b"k" * 11),
    ):
        with pytest.raises(ValueError, match=r"of (11|21) bytes is larger than (10|20)"):
            act()
    assert len(batch) == 1


def test_a_batch_too_large_for_a_frame_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BATCH_SIZE_MAX", 100)
    with pytest.raises(ValueError, match="is larger than 100: divide it"):
        encode_batch([b"k"], [b"v" * 100], b"\1", [])
    assert BATCH_SIZE_MAX < 2**31


@pytest.mark.parametrize("wrong", ["text", None, 5, 1.5, ["a"], object()])
def test_misuse_is_a_type_error(wrong: Any) -> None:
    batch = Batch()
    with pytest.raises(TypeError, match=f"key must be bytes, not {type(wrong).__name__}"):
        batch.put(wrong, b"")
    with pytest.raises(TypeError, match=f"value must be bytes, not {type(wrong).__name__}"):
        batch.put(b"", wrong)
    with pytest.raises(TypeError, match="key must be bytes"):
        batch.delete(wrong)
    with pytest.raises(TypeError, match="start must be bytes"):
        batch.discard(wrong, b"b")
    with pytest.raises(TypeError, match="stop must be bytes"):
        batch.discard(b"", wrong)
    assert len(batch) == 0


class Token(bytes):
    """A subclass of bytes, as some libraries use."""


@pytest.mark.parametrize("kind", [bytearray, memoryview, Token])
def test_bytes_like_things_become_bytes(kind: Any) -> None:
    batch = Batch()
    batch.put(kind(b"k"), kind(b"v"))
    batch.discard(kind(b"a"), kind(b"b"))
    assert batch.entries == {b"k": b"v"}
    for data in (*batch.entries, *batch.entries.values(), *batch.discards[0], check_key(kind(b"k"))):
        assert type(data) is bytes
    assert type(check_value(kind(b""))) is bytes


def test_discarded_ranges_have_bounds() -> None:
    assert check_discard(b"", b"a") == (b"", b"a")
    for start, stop in ((b"a", b"a"), (b"b", b"a"), (b"", b"")):
        with pytest.raises(ValueError, match="must begin before it ends"):
            check_discard(start, stop)
    longest = b"x" * DISCARD_BOUND_SIZE_MAX
    check_discard(longest, b"y")
    with pytest.raises(ValueError, match="limited to 4096 bytes"):
        check_discard(b"a", longest + b"x")


def test_the_last_write_of_a_key_counts_and_the_first_word_on_it() -> None:
    batch = Batch()
    batch.put(b"a", b"1", existed=True)
    batch.delete(b"a", existed=False)
    batch.put(b"b", b"1")
    batch.put(b"b", b"2", existed=True)
    assert batch.entries == {b"a": None, b"b": b"2"}
    assert batch.existed == {b"a": True}
    batch.discard(b"x", b"y")
    assert len(batch) == 3
    batch.clear()
    assert len(batch) == 0
    assert not batch.existed


def test_a_batch_writes_itself_once_when_its_block_ends_well() -> None:
    written: list[Batch] = []
    with Batch(written.append) as batch:
        batch.put(b"a", b"1")
        assert not written
    assert written == [batch]
    with contextlib.suppress(RuntimeError), Batch(written.append) as batch:
        batch.put(b"a", b"1")
        raise RuntimeError
    assert len(written) == 1


def test_a_batch_of_no_database_is_no_context_manager() -> None:
    with pytest.raises(ClosedError, match="belongs to no database"), Batch():
        pass

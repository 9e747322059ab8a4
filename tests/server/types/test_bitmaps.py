"""Bitmaps in chunks of a few bytes, against bits in a list."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.local import LocalClient, Servers, check_server
from lamina.server import rdbvalues
from lamina.server.records import BigString
from lamina.server.types import bigstrings, bitops, strings
from lamina.server.types.bitfields import ADD, FAIL, SATURATE, SET, WRAP, Field, Operation
from lamina.tools import logicalelements

CHUNK = 8
SIZE_MIN = 24
SIZE_MAX = 150


@contextmanager
def tiny_chunks() -> Iterator[None]:
    """Keep strings from 24 bytes on in chunks of 8."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bigstrings, "CHUNK_SIZE", CHUNK)
        for module in (bitops, rdbvalues, logicalelements):
            patch.setattr(module, "CHUNK_SIZE", CHUNK)
        patch.setattr(bigstrings, "SIZE_MIN", SIZE_MIN)
        patch.setattr(strings, "BIG_SIZE_MIN", SIZE_MIN)
        yield


def bits_of(text: bytes) -> list[int]:
    return [byte >> shift & 1 for byte in text for shift in range(7, -1, -1)]


class Model:
    """Strings, and what Redis's documentation says of their bits, done one by one."""

    def __init__(self) -> None:
        self.texts: dict[str, bytes] = {}

    def get(self, key: str) -> bytes:
        return self.texts.get(key, b"")

    def setbit(self, key: str, offset: int, bit: int) -> int:
        text = bytearray(self.get(key).ljust(offset // 8 + 1, b"\0"))
        mask = 128 >> offset % 8
        old = int(bool(text[offset // 8] & mask))
        text[offset // 8] = text[offset // 8] & ~mask | (mask if bit else 0)
        self.texts[key] = bytes(text)
        return old

    def getbit(self, key: str, offset: int) -> int:
        bits = bits_of(self.get(key))
        return bits[offset] if offset < len(bits) else 0

    def bitcount(self, key: str, start: int, end: int, unit: str) -> int:
        bits = bits_of(self.get(key))
        size = 1 if unit == "BIT" else 8
        cells = [bits[at : at + size] for at in range(0, len(bits), size)]
        return sum(map(sum, cells[start : end + 1]))

    def bitpos(self, key: str, bit: int, start: int, end: int, unit: str) -> int:
        if key not in self.texts:
            return -1 if bit else 0
        bits = bits_of(self.get(key))
        size = 1 if unit == "BIT" else 8
        return next(
            (at for at in range(start * size, min((end + 1) * size, len(bits))) if bits[at] == bit), -1
        )

    def bitop(self, name: str, target: str, *keys: str) -> int:
        texts = [self.get(key) for key in keys]
        size = max(map(len, texts))
        padded = [int.from_bytes(text.ljust(size, b"\0"), "big") for text in texts]
        found = padded[0]
        for number in padded[1:]:
            found = {"AND": found & number, "OR": found | number, "XOR": found ^ number}[name]
        if name == "NOT":
            found = (1 << 8 * size) - 1 - found
        self.texts.pop(target, None)
        if size:
            self.texts[target] = found.to_bytes(size, "big")
        return size

    def setrange(self, key: str, offset: int, data: bytes) -> int:
        text = self.get(key)
        if data:
            text = text[:offset].ljust(offset, b"\0") + data + text[offset + len(data) :]
            self.texts[key] = text
        return len(text)

    def bitfield(self, key: str, action: str, bits: int, offset: int, value: int) -> list[int]:
        """Unsigned, and wrapping."""
        before = "".join(str(self.getbit(key, offset + at)) for at in range(bits))
        old = int(before, 2)
        new = (value if action == "SET" else old + value) % (1 << bits)
        for at in range(bits):
            self.setbit(key, offset + at, new >> (bits - 1 - at) & 1)
        return [old if action == "SET" else new]


keys = st.sampled_from("abc")
offsets = st.one_of(st.integers(0, SIZE_MAX * 8 - 1), st.integers(0, 80))
bounds = st.integers(0, SIZE_MAX * 8 + 9)
steps = st.one_of(
    st.tuples(st.just("setbit"), keys, offsets, st.sampled_from([0, 1])),
    st.tuples(st.just("getbit"), keys, offsets),
    st.tuples(st.just("bitcount"), keys, bounds, bounds, st.sampled_from(["BIT", "BYTE"])),
    st.tuples(
        st.just("bitpos"), keys, st.sampled_from([0, 1]), bounds, bounds, st.sampled_from(["BIT", "BYTE"])
    ),
    st.tuples(st.just("bitop"), st.sampled_from(["AND", "OR", "XOR"]), keys, keys, keys, keys),
    st.tuples(st.just("bitop"), st.just("NOT"), keys, keys),
    st.tuples(
        *(st.just("setrange"), keys, st.integers(0, SIZE_MAX - 40)),
        st.one_of(st.binary(max_size=40), st.integers(0, 40).map(lambda size: b"\xff" * size)),
    ),
    st.tuples(
        *(st.just("bitfield"), keys, st.sampled_from(["SET", "INCRBY"])),
        *(st.integers(1, 63), offsets, st.integers(-100, 1 << 62)),
    ),
    st.tuples(st.just("reload")),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=st.lists(steps, max_size=30))
def test_bitmaps_in_chunks(history: list[tuple[object, ...]]) -> None:
    with tiny_chunks():
        servers = Servers()
        local, model = servers.make(), Model()
        try:
            for name, *words in history:
                if name == "reload":
                    local.reload()
                    continue
                expected = getattr(model, str(name))(*words)
                if name == "bitfield":
                    key, action, bits, *rest = words
                    words = [key, action, f"u{bits}", *rest]
                assert local(str(name), *words) == expected, (name, words)
            for key in "abc":
                assert local("GET", key) == model.texts.get(key)
                assert local("STRLEN", key) == len(model.get(key))
            check_server(local.server)
        finally:
            servers.close()


def chunks_of(local: LocalClient, key: bytes) -> int:
    """Return in how many chunks a string is."""
    keyspace = local.client.keyspace
    record = keyspace.find_typed(key, BigString)
    assert record is not None
    return len(list(keyspace.store.scan_prefix(record.prefix)))


def test_the_last_of_all_bits_costs_a_chunk(local: LocalClient) -> None:
    last = 4294967295
    assert local("SETBIT", "a", last, 1) == 0
    assert chunks_of(local, b"a") == 1
    local.reload()
    assert local("GETBIT", "a", last) == 1
    assert local("BITCOUNT", "a") == 1
    assert local("BITPOS", "a", 1) == last
    assert local("BITPOS", "a", 0) == 0
    assert local("BITFIELD", "a", "INCRBY", "u4", last - 3, 1) == [2]
    assert local("SETBIT", "b", 5, 1) == 0
    assert local("BITOP", "OR", "c", "a", "b") == 1 << 29
    assert chunks_of(local, b"c") == 2
    assert local("BITOP", "AND", "d", "a", "c") == 1 << 29
    assert chunks_of(local, b"d") == 1
    assert local("BITOP", "XOR", "d", "a", "a") == 1 << 29
    assert chunks_of(local, b"d") == 1
    assert local("BITCOUNT", "d") == 0
    assert local("BITPOS", "d", 1) == -1


def test_a_string_that_only_grows_has_one_chunk_for_it(local: LocalClient) -> None:
    assert local("BITFIELD", "a", "OVERFLOW", "FAIL", "SET", "u4", 1 << 31, 99) == [None]
    assert chunks_of(local, b"a") == 1
    assert local("STRLEN", "a") == (1 << 28) + 1


@pytest.mark.parametrize(
    ("bits", "is_signed", "value", "overflow", "expected"),
    [
        (8, False, 255, WRAP, 255),
        (8, False, 256, WRAP, 0),
        (8, False, -1, WRAP, 255),
        (8, False, 300, SATURATE, 255),
        (8, False, -300, SATURATE, 0),
        (8, False, 256, FAIL, None),
        (8, True, 128, WRAP, -128),
        (8, True, -129, WRAP, 127),
        (8, True, 500, SATURATE, 127),
        (8, True, -500, SATURATE, -128),
        (1, True, 1, WRAP, -1),
        (64, True, 1 << 63, WRAP, -(1 << 63)),
        (63, False, 1 << 63, SATURATE, (1 << 63) - 1),
    ],
)
def test_what_a_field_holds(
    bits: int, is_signed: bool, value: int, overflow: int, expected: int | None
) -> None:
    assert Field(0, bits, is_signed).fitted(value, overflow) == expected


def test_a_negative_operand_is_large_to_an_unsigned_field() -> None:
    field = Field(3, 8, False)
    assert Operation(SET, field, -1, SATURATE).outcome(7) == (7, 255)
    assert Operation(ADD, field, -8, SATURATE).outcome(7) == (0, 0)
    assert Operation(ADD, field, -8, FAIL).outcome(7) == (None, None)

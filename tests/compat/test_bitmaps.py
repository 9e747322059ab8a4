"""Bitmaps, compared with a real redis-server: single bits, counts, searches, operations, integers.

Strings are drawn short and, in units of a chunk of Lamina's, long, with holes: what is written behind a gap.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import strategies as st

from harness.commands import (
    INDEXES,
    INTEGERS,
    KEYS,
    ODD_NUMBERS,
    SMALL,
    VALUES,
    choice,
    command,
    flags,
    history_tests,
    maybe,
    several,
    thorough_few,
    words,
)
from harness.compat import Pair
from harness.hearing import heard

CHUNK = 16 * 1024
BIG = 64 * 1024
"""Where Lamina begins to keep a string in chunks."""

# Around the ends of bytes, chunks, and of what is kept in one piece; the last is the last of all bits.
PLACES = [0, 1, 7, 8, 9, 15, 63, 64, 100, 1000, 8 * CHUNK - 1, 8 * CHUNK, 8 * BIG - 1, 8 * BIG, 8 * BIG + 7]
FAR = [8 * (BIG + CHUNK), 8 * (BIG + 3 * CHUNK) + 5, 8 * (BIG + 5 * CHUNK) - 1]
OFFSETS = choice(st.sampled_from(PLACES), st.sampled_from(PLACES), st.integers(0, 80), st.sampled_from(FAR))
BAD_OFFSETS = choice(ODD_NUMBERS, "-1", "4294967296", "4294967304", "#1")
BITS = st.sampled_from([0, 1, 0, 1, 0, 1, 2, -1, "x"])
BOUNDS = choice(INDEXES, st.sampled_from(PLACES), st.sampled_from([-100, -8 * CHUNK, -BIG, 100_000]))
UNIT = st.sampled_from(["BYTE", "BIT", "bit", "byte", "BITS"])
TYPES = st.sampled_from(
    "u1 u2 u4 u7 u8 u9 u16 u31 u32 u33 u63 i1 i2 i5 i8 i9 i16 i32 i63 i64 u64 i65 u0 i0 x8 u I8 u08".split()
)
FIELD_OFFSETS = choice(
    OFFSETS, st.integers(0, 70), st.integers(0, 9).map(lambda n: f"#{n}"), st.sampled_from(["#", "#-1", "#x"])
)
OPERANDS = choice(
    INTEGERS,
    st.integers(-300, 300),
    st.sampled_from([127, 128, -128, -129, 255, 256, 2**31, -(2**31), 2**62]),
)
OVERFLOW = words("OVERFLOW", st.sampled_from(["WRAP", "SAT", "FAIL", "sat", "fail", "x"]))
READ = words("GET", TYPES, FIELD_OFFSETS)
STEP = choice(
    READ,
    words("SET", TYPES, FIELD_OFFSETS, OPERANDS),
    words("INCRBY", TYPES, FIELD_OFFSETS, OPERANDS),
    words(OVERFLOW, "INCRBY", TYPES, FIELD_OFFSETS, OPERANDS),
    words(OVERFLOW, "SET", TYPES, FIELD_OFFSETS, OPERANDS),
)
OPERATIONS = st.sampled_from(["AND", "OR", "XOR", "NOT", "and", "xor", "NAND"])
TEXTS = choice(
    VALUES,
    st.sampled_from([b"\0" * 20, b"\xff" * 20, b"\xff" * 3 + b"\0" * 3, b"\0\0\1\xff"]),
    st.sampled_from([b"\xff" * (BIG + 10), b"\0" * BIG + b"\x10", b"\xaa\x55" * (BIG // 2)]),
)

BITMAPS = [
    command("SETBIT", KEYS, choice(OFFSETS, OFFSETS, OFFSETS, BAD_OFFSETS), BITS),
    command("SETBIT", KEYS, OFFSETS, 1),
    command("GETBIT", KEYS, choice(OFFSETS, OFFSETS, BAD_OFFSETS)),
    command("BITCOUNT", KEYS),
    command("BITCOUNT", KEYS, BOUNDS, BOUNDS, maybe(UNIT)),
    command("BITPOS", KEYS, BITS),
    command("BITPOS", KEYS, BITS, BOUNDS, maybe(BOUNDS, maybe(UNIT))),
    command("BITOP", OPERATIONS, KEYS, KEYS),
    command("BITOP", OPERATIONS, KEYS, several(KEYS)),
    command("BITFIELD", KEYS, several(STEP, least=0)),
    command("BITFIELD", KEYS, several(READ)),
    command("BITFIELD_RO", KEYS, several(READ), maybe(STEP)),
    command("SET", KEYS, TEXTS),
    command("SETRANGE", KEYS, choice(SMALL, st.sampled_from([CHUNK, BIG, BIG + CHUNK])), TEXTS),
    command("GET", KEYS),
    command("STRLEN", KEYS),
    command("PTTL", KEYS, check=Pair.ttl_ms),
    command("COPY", KEYS, KEYS, flags("REPLACE", most=1)),
]


test_bitmaps, test_bitmaps_restarted, test_bitmaps_at_length, test_bitmaps_restarted_at_length = (
    history_tests("bitmaps", BITMAPS, restarted_at_length=thorough_few)
)


@pytest.mark.parametrize("seed", range(4))
def test_counts_and_searches_in_every_range(pair: Pair, seed: int) -> None:
    draw = random.Random(seed)
    size = (5, 40, BIG + 100, 6 * CHUNK + 3)[seed]
    pair("SETBIT", "a", size * 8 - 1, seed & 1)
    for _ in range(12):
        at = draw.randrange(size)
        run = draw.choice([b"\xff", b"\x01", b"\x80", b"\xff" * 3, b"\xff" * CHUNK, draw.randbytes(9)])
        pair("SETRANGE", "a", at, run[: size - at])
    edges = [0, 1, 7, 8, 9, size * 8 - 1, size * 8, -1, -9, -size * 8, CHUNK, CHUNK * 8, CHUNK * 8 - 1, size]
    for _ in range(150):
        start = draw.choice([draw.choice(edges), draw.randrange(size * 8)])
        stop = draw.choice([draw.choice(edges), draw.randrange(size * 8)])
        for unit in ("BYTE", "BIT"):
            pair("BITCOUNT", "a", start, stop, unit)
            pair("BITPOS", "a", 0, start, stop, unit)
            pair("BITPOS", "a", 1, start, stop, unit)
        pair("BITPOS", "a", 0, start)
        pair("BITPOS", "a", 1, start)


def test_only_ones(pair: Pair) -> None:
    for size in (1, 3, BIG, BIG + 5):
        pair("SET", "a", b"\xff" * size)
        for part in ((), (0,), (0, -1), (1,), (1, -1), (-1,), (size,), (0, -1, "BIT"), (9, -1, "BIT")):
            pair("BITPOS", "a", 0, *part)
            pair("BITPOS", "a", 1, *part)
    pair("SET", "a", "")
    for bit in (0, 1):
        pair("BITPOS", "a", bit)
        pair("BITPOS", "a", bit, 0)
        pair("BITPOS", "missing", bit)
        pair("BITCOUNT", "a")


@pytest.mark.parametrize("name", ["AND", "OR", "XOR"])
def test_operations_on_strings_with_holes(pair: Pair, name: str) -> None:
    draw = random.Random(name)
    keys = ["a", "b", "c", "d"]
    sizes = [BIG + 7, BIG * 2, CHUNK * 9 + 1, 1000]
    for key, size in zip(keys, sizes):
        pair("SETBIT", key, size * 8 - 1, draw.randrange(2))
        for _ in range(4):
            pair("SETRANGE", key, draw.randrange(size), draw.randbytes(draw.choice([1, 50, 5000])))
    for _ in range(15):
        chosen = draw.choices([*keys, "missing"], k=draw.randint(1, 4))
        pair("BITOP", name, "to", *chosen)
        pair("GET", "to")
        pair("BITCOUNT", "to")
        pair("BITOP", "NOT", "not", "to")
        pair("GET", "not")
    pair("BITOP", name, "a", *keys)
    pair("BITOP", "NOT", "b", "b")
    pair("BITOP", name, "c", "missing", "missing")
    pair("EXISTS", "c")
    pair.assert_same_contents()


def test_every_width_at_every_offset(pair: Pair) -> None:
    draw = random.Random(7)
    for kind, widest in (("u", 63), ("i", 64)):
        for bits in [*range(1, widest, 3), 31, 32, 33, widest]:
            steps: list[object] = []
            for overflow in ("WRAP", "SAT", "FAIL"):
                offset, by = draw.randrange(40), draw.randrange(-(1 << 63), 1 << 63)
                small = draw.randrange(-(1 << bits - 1), 1 << bits - 1) if bits > 1 else 0
                steps += ["OVERFLOW", overflow, "INCRBY", f"{kind}{bits}", offset, by]
                steps += ["SET", f"{kind}{bits}", f"#{draw.randrange(3)}", draw.choice([by, small, -1])]
                steps += ["GET", f"{kind}{bits}", offset, "INCRBY", f"{kind}{bits}", offset, small]
            pair("BITFIELD", "a", *steps)
            pair("GET", "a")


def test_values_at_the_ends_of_64_bits(pair: Pair) -> None:
    for kind in ("i1", "i8", "i63", "i64", "u1", "u63"):
        for near in (-(1 << 63), (1 << 63) - 1, -(1 << 62), 1 << 62):
            for value in range(max(near - 2, -(1 << 63)), min(near + 3, 1 << 63)):
                for overflow in ("WRAP", "SAT", "FAIL"):
                    for action in ("SET", "INCRBY"):
                        pair("BITFIELD", "a", "OVERFLOW", overflow, action, kind, 0, value, "GET", kind, 0)
        for value in (-(1 << 63) + 126, -(1 << 63) + 127, -(1 << 63) + 128):
            pair("BITFIELD", "a", "OVERFLOW", "SAT", "SET", "i8", 0, value, "GET", "i8", 0)


def test_fields_across_chunks(pair: Pair) -> None:
    for at in (8 * CHUNK - 3, 8 * BIG - 60, 8 * BIG - 8, 8 * (BIG + CHUNK) - 33):
        pair("BITFIELD", "a", "SET", "i64", at, -12345678912345, "GET", "u63", at + 1, "INCRBY", "u7", at, 99)
        pair("STRLEN", "a")
    pair("BITFIELD", "a", "GET", "u8", 4294967295)
    pair("BITFIELD", "b", "OVERFLOW", "FAIL", "SET", "u4", BIG * 8, 100)
    pair("STRLEN", "b")
    pair("GET", "a")


def test_what_lies_at_the_end_of_all_bits(pair: Pair) -> None:
    """Redis sets aside 512 MB for it, Lamina a chunk."""
    pair("SETBIT", "a", 4294967295, 1)
    pair("STRLEN", "a")
    pair("GETBIT", "a", 4294967295)
    pair("GETBIT", "a", 4294967294)
    pair("BITCOUNT", "a")
    pair("BITPOS", "a", 1)
    pair("BITPOS", "a", 0)
    pair("GETRANGE", "a", -2, -1)
    pair("BITFIELD", "a", "GET", "u2", 4294967294, "INCRBY", "i8", 4294967288, 100)
    pair("SETBIT", "a", 4294967296, 1)
    pair("DEL", "a")


def test_expiry_stays_where_bits_are_written(pair: Pair) -> None:
    for offset in (10, BIG * 8 + 5):
        pair("SET", "a", "x", "EX", 1000)
        pair("SETBIT", "a", offset, 1)
        pair.ttl("TTL", "a")
        pair("BITFIELD", "a", "SET", "u8", offset + 8, 7)
        pair.ttl("TTL", "a")
        pair("BITOP", "NOT", "a", "a")
        pair.ttl("TTL", "a")


def test_events(pair: Pair) -> None:
    """Events tell of what has changed, and of nothing else."""
    lines = (
        "SETBIT a 3 0",
        "SETBIT a 3 0",
        "SETBIT a 3 1",
        "SETBIT a 8 0",
        "GETBIT none 0",
        "BITCOUNT none",
        "BITPOS none 1",
        "BITFIELD a GET u8 0",
        "BITFIELD none GET u8 0",
        "BITFIELD a SET u8 0 5",
        "BITFIELD a SET u8 0 5",
        "BITFIELD a SET u8 0 6 SET u8 0 5",
        "BITFIELD a OVERFLOW FAIL SET u4 0 100",
        "BITFIELD a OVERFLOW FAIL SET u4 100 100",
        "BITFIELD c OVERFLOW FAIL SET u4 0 100",
        "BITOP OR b a none",
        "BITOP NOT a a",
        "BITOP XOR b none none",
        "BITOP XOR b none none",
    )
    assert heard(pair, [line.split() for line in lines])

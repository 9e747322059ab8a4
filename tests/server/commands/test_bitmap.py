"""Commands on bitmaps: options, errors, expiry, hits and misses."""

from __future__ import annotations

import pytest

from harness.local import LocalClient, Servers
from lamina.server.errors import NOT_AN_INTEGER, SYNTAX, WRONG_TYPE, CommandError, wrong_arity

BAD_OFFSET = CommandError(b"ERR bit offset is not an integer or out of range")
BAD_BIT = CommandError(b"ERR bit is not an integer or out of range")
BAD_TYPE = CommandError(
    b"ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is."
)


def test_bits_are_set_and_cleared(local: LocalClient) -> None:
    assert local("SETBIT", "a", 7, 1) == 0
    assert local("SETBIT", "a", 7, 1) == 1
    assert local("GET", "a") == b"\x01"
    assert local("SETBIT", "a", 8, 0) == 0
    assert local("GET", "a") == b"\x01\0"
    local.reload()
    assert [local("GETBIT", "a", offset) for offset in (6, 7, 8, 1000)] == [0, 1, 0, 0]
    assert local("SETBIT", "a", 7, 0) == 1
    assert local("BITCOUNT", "a") == 0


def test_a_bit_in_an_integer(local: LocalClient) -> None:
    local("SET", "a", 1)
    assert local("GETBIT", "a", 2) == 1
    assert local("SETBIT", "a", 6, 1) == 0
    assert local("INCR", "a") == 4


def test_expiry_stays(local: LocalClient) -> None:
    local("SET", "a", "x", "EX", 100)
    local("SETBIT", "a", 600_000, 1)
    local("BITFIELD", "a", "SET", "u8", 0, 1)
    assert local("TTL", "a") == 100
    local("BITOP", "OR", "a", "a")
    assert local("TTL", "a") == -1


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("SETBIT a -1 1", BAD_OFFSET),
        ("SETBIT a 4294967296 1", BAD_OFFSET),
        ("SETBIT a #1 1", BAD_OFFSET),
        ("SETBIT a 1 2", BAD_BIT),
        ("SETBIT a 1 x", BAD_BIT),
        ("SETBIT a 1", wrong_arity(b"setbit")),
        ("SETBIT l 1 1", WRONG_TYPE),
        ("GETBIT a x", BAD_OFFSET),
        ("GETBIT l 1", WRONG_TYPE),
        ("BITCOUNT a 1", SYNTAX),
        ("BITCOUNT none 1", SYNTAX),
        ("BITCOUNT a 1 x", NOT_AN_INTEGER),
        ("BITCOUNT a 1 2 BITS", SYNTAX),
        ("BITCOUNT a 1 2 BIT x", SYNTAX),
        ("BITCOUNT l", WRONG_TYPE),
        ("BITPOS a 2", CommandError(b"ERR The bit argument must be 1 or 0.")),
        ("BITPOS a x", NOT_AN_INTEGER),
        ("BITPOS a 1 x", NOT_AN_INTEGER),
        ("BITPOS a 1 0 x x", SYNTAX),
        ("BITPOS a 1 0 1 BIT x", SYNTAX),
        ("BITPOS l 1", WRONG_TYPE),
        ("BITOP NAND a a", SYNTAX),
        ("BITOP NOT a a b", CommandError(b"ERR BITOP NOT must be called with a single source key.")),
        ("BITOP OR a a l", WRONG_TYPE),
        ("BITFIELD a GET u64 0", BAD_TYPE),
        ("BITFIELD a GET i65 0", BAD_TYPE),
        ("BITFIELD a GET I8 0", BAD_TYPE),
        ("BITFIELD a GET u8 -1", BAD_OFFSET),
        ("BITFIELD a GET u8 #-1", BAD_OFFSET),
        ("BITFIELD a GET u8", SYNTAX),
        ("BITFIELD a SET u8 0", SYNTAX),
        ("BITFIELD a SET u8 0 x", NOT_AN_INTEGER),
        ("BITFIELD a OVERFLOW x SET u8 0 1", CommandError(b"ERR Invalid OVERFLOW type specified")),
        ("BITFIELD a OVERFLOW", SYNTAX),
        ("BITFIELD l", WRONG_TYPE),
        ("BITFIELD l SET u8 0 1", WRONG_TYPE),
        ("BITFIELD_RO a SET u8 0 1", CommandError(b"ERR BITFIELD_RO only supports the GET subcommand")),
        ("BITFIELD_RO l GET u8 0", WRONG_TYPE),
    ],
)
def test_errors_change_nothing(local: LocalClient, line: str, error: CommandError) -> None:
    local("SET", "a", "abc")
    local("RPUSH", "l", "x")
    assert local(*line.split()) == error
    assert local("GET", "a") == b"abc"
    assert local("DBSIZE") == 2


def test_counts(local: LocalClient) -> None:
    local("SET", "a", "foobar")
    assert local("BITCOUNT", "a") == 26
    assert local("BITCOUNT", "a", 0, 0) == 4
    assert local("BITCOUNT", "a", 1, 1, "byte") == 6
    assert local("BITCOUNT", "a", 5, 30, "BIT") == 17
    assert local("BITCOUNT", "a", -2, -1) == 7
    assert local("BITCOUNT", "a", 3, 2) == 0
    assert local("BITCOUNT", "a", -1, -2) == 0
    assert local("BITCOUNT", "none") == 0


def test_searches(local: LocalClient) -> None:
    local("SET", "a", b"\x00\xff\xf0")
    assert local("BITPOS", "a", 1) == 8
    assert local("BITPOS", "a", 1, 2) == 16
    assert local("BITPOS", "a", 0, 1) == 20
    assert local("BITPOS", "a", 1, 7, 15, "BIT") == 8
    assert local("BITPOS", "a", 0, 8, 18, "BIT") == -1
    local("SET", "a", b"\xff\xff")
    assert local("BITPOS", "a", 0) == 16
    assert local("BITPOS", "a", 0, 0, -1) == -1
    assert local("BITPOS", "none", 0) == 0
    assert local("BITPOS", "none", 1) == -1


def test_operations(local: LocalClient) -> None:
    local("SET", "a", b"\x0f\xff")
    local("SET", "b", b"\x3c")
    assert local("BITOP", "AND", "to", "a", "b") == 2
    assert local("GET", "to") == b"\x0c\0"
    assert local("BITOP", "or", "to", "a", "b", "none") == 2
    assert local("GET", "to") == b"\x3f\xff"
    assert local("BITOP", "XOR", "to", "a", "b") == 2
    assert local("GET", "to") == b"\x33\xff"
    assert local("BITOP", "NOT", "a", "a") == 2
    assert local("GET", "a") == b"\xf0\0"
    local("RPUSH", "l", "x")
    assert local("BITOP", "OR", "l", "b") == 1
    assert local("TYPE", "l") == b"string"
    assert local("BITOP", "OR", "l", "none") == 0
    assert local("EXISTS", "l") == 0


def test_fields(local: LocalClient) -> None:
    assert local("BITFIELD", "a", "SET", "i8", 1, -100, "GET", "u4", 0) == [0, 4]
    assert local("BITFIELD", "a", "INCRBY", "u2", 100, 1, "OVERFLOW", "SAT", "INCRBY", "u2", 102, 9) == [1, 3]
    assert local("BITFIELD", "a", "GET", "u8", "#1", "OVERFLOW", "FAIL", "INCRBY", "u2", 102, 1) == [0, None]
    assert local("BITFIELD_RO", "a", "GET", "i8", 1, "GET", "u63", 5000) == [-100, 0]
    assert local("BITFIELD", "a") == []
    local.reload()
    assert local("STRLEN", "a") == 13


def test_a_longer_string_is_refused(make_local: Servers) -> None:
    local = make_local.make(proto_max_bulk_len="1mb")
    assert local("SETBIT", "a", 8 * 1024 * 1024 - 1, 1) == 0
    assert local("SETBIT", "a", 8 * 1024 * 1024, 1) == BAD_OFFSET


def test_hits_and_misses(local: LocalClient) -> None:
    keyspace = local.client.keyspace
    local("SETBIT", "a", 1, 1)
    local("BITFIELD", "a", "SET", "u8", 0, 1)
    assert (keyspace.hits, keyspace.misses) == (0, 0)
    local("GETBIT", "a", 1)
    local("BITCOUNT", "none")
    local("BITPOS", "a", 1)
    local("BITFIELD", "none", "GET", "u8", 0)
    local("BITOP", "AND", "b", "a", "none")
    assert (keyspace.hits, keyspace.misses) == (3, 3)

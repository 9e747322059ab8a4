"""Commands on HyperLogLogs: estimates, forms, errors, expiry."""

from __future__ import annotations

import pytest

from harness.local import LocalClient, Servers
from lamina.server.errors import WRONG_TYPE, CommandError, wrong_arity

INVALID = CommandError(b"WRONGTYPE Key is not a valid HyperLogLog string value.")
CORRUPTED = CommandError(b"INVALIDOBJ Corrupted HLL object detected")
HEAD = b"HYLL\x01\0\0\0" + bytes(7) + b"\x80"


def test_elements_are_counted(local: LocalClient) -> None:
    assert local("PFADD", "a") == 1
    assert local("PFADD", "a") == 0
    assert local("PFCOUNT", "a") == 0
    assert local("PFADD", "a", "x", "y", "z") == 1
    assert local("PFADD", "a", "y", "x") == 0
    local.reload()
    assert local("PFCOUNT", "a") == 3
    assert local("PFCOUNT", "none") == 0
    assert local("PFCOUNT", "a", "none") == 3


@pytest.mark.parametrize("count", [100, 1000, 20_000])
def test_estimates_are_near(local: LocalClient, count: int) -> None:
    for start in range(0, count, 100):
        local("PFADD", "a", *range(start, start + 100))
    assert abs(local("PFCOUNT", "a") - count) < 0.04 * count
    dense = local("PFDEBUG", "ENCODING", "a")
    assert dense == (b"dense" if count > 1000 else b"sparse")
    assert local("PFDEBUG", "TODENSE", "a") == (dense == b"sparse")
    assert local("PFCOUNT", "a", "none") == local("PFCOUNT", "a")


def test_a_count_is_kept_in_the_string(local: LocalClient) -> None:
    local("PFADD", "a", "x", "y")
    assert local("GET", "a")[8:16] == bytes(7) + b"\x80"
    assert local("PFCOUNT", "a") == 2
    assert local("GET", "a")[8:16] == b"\x02" + bytes(7)
    local("SETRANGE", "a", 8, b"\x07")
    assert local("PFCOUNT", "a") == 7
    local("PFADD", "a", "z")
    assert local("PFCOUNT", "a") == 3


def test_a_count_is_not_kept_while_nothing_can_be_written(local: LocalClient) -> None:
    local("PFADD", "a", "x", "y")
    local.server.databases.is_writable = False
    assert local("PFCOUNT", "a") == 2
    local.server.databases.is_writable = True
    assert local("GET", "a")[8:16] == bytes(7) + b"\x80"


def test_the_limit_of_the_sparse_form(make_local: Servers) -> None:
    local = make_local.make(hll_sparse_max_bytes=30)
    local("PFADD", "a", "a", "b")
    assert local("PFDEBUG", "ENCODING", "a") == b"sparse"
    local("PFADD", "a", *range(10))
    assert local("PFDEBUG", "ENCODING", "a") == b"dense"
    assert local("STRLEN", "a") == 16 + 12288
    assert local("PFDEBUG", "DECODE", "a") == CommandError(b"ERR HLL encoding is not sparse")
    assert local("CONFIG", "SET", "hll-sparse-max-bytes", 3000) == b"OK"
    local("PFADD", "b", *range(100))
    assert local("PFDEBUG", "ENCODING", "b") == b"sparse"


def test_merges(local: LocalClient) -> None:
    local("PFADD", "a", *range(10))
    local("PFADD", "b", *range(5, 20))
    local("PFADD", "c", *range(3000))
    assert local("PFMERGE", "to", "a", "b", "none") == b"OK"
    assert local("PFCOUNT", "to") == local("PFCOUNT", "a", "b") == 20
    assert local("PFDEBUG", "ENCODING", "to") == b"sparse"
    assert local("PFMERGE", "to", "c") == b"OK"
    assert local("PFDEBUG", "ENCODING", "to") == b"dense"
    assert local("PFCOUNT", "to") == local("PFCOUNT", "a", "b", "c")
    assert local("PFMERGE", "new") == b"OK"
    assert local("PFDEBUG", "DECODE", "new") == b"Z:16384"


def test_registers_are_shown(local: LocalClient) -> None:
    local("PFADD", "a", "x")
    runs = local("PFDEBUG", "DECODE", "a").split()
    assert len(runs) == 3
    value = int(runs[1][2:].split(b",")[0])
    assert local("PFDEBUG", "ENCODING", "a") == b"sparse"
    registers = local("PFDEBUG", "GETREG", "a")
    assert len(registers) == 16384
    assert registers[int(runs[0][2:])] == value == sum(registers)
    assert local("PFDEBUG", "ENCODING", "a") == b"dense"


@pytest.mark.parametrize("line", ["PFADD a x", "PFCOUNT a", "PFCOUNT b a", "PFMERGE b a", "PFMERGE a b"])
@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"", INVALID),
        (b"text", INVALID),
        (HEAD[:15], INVALID),
        (b"HYLL\x02" + HEAD[5:] + b"\x7f\xff", INVALID),
        (b"HYLL\x00" + HEAD[5:] + bytes(12287), INVALID),
        (b"HYLL\x00" + HEAD[5:] + bytes(100_000), INVALID),
        (HEAD, CORRUPTED),
        (HEAD + b"\x00", CORRUPTED),
    ],
)
def test_what_is_no_hyperloglog(local: LocalClient, line: str, text: bytes, error: CommandError) -> None:
    local("SET", "a", text)
    assert local(*line.split()) == error
    assert local("GET", "a") == text
    assert local("EXISTS", "b") == 0


def test_other_errors(local: LocalClient) -> None:
    local("RPUSH", "l", "x")
    for line in ("PFADD l x", "PFCOUNT l", "PFMERGE l", "PFMERGE a l", "PFDEBUG GETREG l"):
        assert local(*line.split()) == WRONG_TYPE
    local("PFADD", "a", "x")
    assert local("PFDEBUG", "nope", "a") == CommandError(b"ERR Unknown PFDEBUG subcommand 'nope'")
    assert local("PFDEBUG", "GETREG", "none") == CommandError(b"ERR The specified key does not exist")
    assert local("PFDEBUG", "GETREG") == wrong_arity(b"pfdebug")


def test_expiry_stays(local: LocalClient) -> None:
    local("PFADD", "a", "x")
    local("EXPIRE", "a", 100)
    for line in ("PFADD a y", "PFCOUNT a", "PFMERGE a b", "PFDEBUG TODENSE a"):
        local(*line.split())
        assert local("TTL", "a") == 100


def test_selftest(local: LocalClient) -> None:
    assert local("PFSELFTEST") == b"OK"

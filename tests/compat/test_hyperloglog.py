"""HyperLogLogs, compared with a real redis-server byte for byte: what GET returns is the same string."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import strategies as st

from harness.commands import (
    ELEMENTS,
    KEY_NAMES,
    KEYS,
    VALUES,
    command,
    history_tests,
    maybe,
    several,
    thorough_few,
)
from harness.compat import Pair
from harness.hearing import heard

BULKS = st.tuples(st.integers(0, 5000), st.sampled_from([1, 5, 20, 60, 200])).map(
    lambda drawn: [b"e%d" % number for number in range(drawn[0], drawn[0] + drawn[1])]
)
HEAD = b"HYLL\x01\0\0\0" + bytes(7) + b"\x80"
# Sparse strings that Redis would not have made, some of them damaged.
STRINGS = st.sampled_from(
    [
        HEAD + b"\x7f\xff",
        HEAD + b"\x7f\xfe\x80",
        HEAD + b"\x3f" * 256,
        HEAD + b"\x83" * 4096,
        HEAD + b"\x7f\xff\x00",
        HEAD,
        HEAD[:12],
        b"HYLL\x00" + HEAD[5:] + b"\0" * 12288,
        b"HYLL\x00" + HEAD[5:] + bytes(range(256)) * 48,
        b"HYLL\x00" + HEAD[5:] + b"\0" * 12287,
        b"HYLL\x02" + HEAD[5:] + b"\x7f\xff",
        b"HYLL\x01" + bytes(10) + b"\x07\0" + b"\x7f\xff",
    ]
)


def seen(pair: Pair, *words: bytes) -> None:
    """Compare the reply, and the strings that are there then."""
    pair(*words)
    for key in KEY_NAMES[:3]:
        pair("GET", key)


HYPERLOGLOGS = [
    command("PFADD", KEYS, several(ELEMENTS, least=0), check=seen),
    command("PFADD", KEYS, several(VALUES), check=seen),
    command("PFADD", KEYS, BULKS, check=seen),
    command("PFCOUNT", KEYS, check=seen),
    command("PFCOUNT", several(KEYS)),
    command("PFMERGE", KEYS, several(KEYS, least=0), check=seen),
    command("PFDEBUG", st.sampled_from(["GETREG", "DECODE", "ENCODING", "encoding", "nope"]), KEYS),
    command("PFDEBUG", st.sampled_from(["TODENSE", "ENCODING", "DECODE"]), KEYS, check=seen),
    command("SET", KEYS, STRINGS),
    command("STRLEN", KEYS),
    command("COPY", KEYS, KEYS, maybe("REPLACE")),
    command("PTTL", KEYS, check=Pair.ttl_ms),
]

(
    test_hyperloglogs,
    test_hyperloglogs_restarted,
    test_hyperloglogs_at_length,
    test_hyperloglogs_restarted_at_length,
) = history_tests("hyperloglogs", HYPERLOGLOGS, restarted_at_length=thorough_few)


@pytest.fixture
def sparse_max(pair: Pair) -> Iterator[None]:
    """Put hll-sparse-max-bytes back."""
    yield
    pair("CONFIG", "SET", "hll-sparse-max-bytes", 3000)


@pytest.mark.parametrize("seed", range(3))
def test_from_sparse_to_dense_step_by_step(pair: Pair, seed: int) -> None:
    """Each string on the way is the same, and each count."""
    draw = random.Random(seed)
    for step in range(900):
        size = draw.choice([1, 1, 2, 5])
        pair("PFADD", "a", *(draw.randbytes(draw.randrange(40)) for _ in range(size)))
        if step % 3 == 0:
            pair("GET", "a")
        if step % 20 == 0:
            pair("PFCOUNT", "a")
            pair("GET", "a")
            pair("PFDEBUG", "ENCODING", "a")
    pair("PFDEBUG", "GETREG", "a")


def test_estimates_of_many(pair: Pair) -> None:
    for start in range(0, 60_000, 1000):
        pair("PFADD", "a", *range(start, start + 1000))
        pair("PFCOUNT", "a")
    pair("GET", "a")


def test_hashes_of_every_length(pair: Pair) -> None:
    for size in range(70):
        pair("PFADD", "a", bytes(range(1, size + 1)), b"\xff" * size)
        pair("PFADD", f"only:{size}", bytes(range(size, 0, -1)))
        pair("GET", f"only:{size}")
    pair("PFADD", "a", b"x" * 100_003)
    pair("GET", "a")


def test_merges(pair: Pair) -> None:
    draw = random.Random(5)
    for key, size in zip("abcdef", (3, 200, 400, 700, 3000, 0)):
        pair("PFADD", key, *(draw.randbytes(8) for _ in range(size)))
    for _ in range(30):
        sources = draw.choices("abcdefg", k=draw.randint(0, 4))
        target = draw.choice(["t", "u", "new"])
        pair("PFMERGE", target, *sources)
        pair("GET", target)
        pair("PFCOUNT", target, *sources)
        pair("PFCOUNT", target)
        pair("GET", target)
        if draw.random() < 0.3:
            pair("DEL", target)


@pytest.mark.parametrize("size", [0, 16, 17, 18, 19, 40, 3000, 20000])
@pytest.mark.usefixtures("sparse_max")
def test_the_limit_of_the_sparse_form(pair: Pair, size: int) -> None:
    pair("CONFIG", "SET", "hll-sparse-max-bytes", size)
    for start in range(0, 2000, 50):
        pair("PFADD", "a", *range(start, start + 50))
        pair("GET", "a")
    pair("PFMERGE", "b", "a")
    pair("GET", "b")


def test_expiry_stays(pair: Pair) -> None:
    pair("PFADD", "a", "x")
    pair("EXPIRE", "a", 1000)
    for line in ("PFADD a y", "PFCOUNT a", "PFMERGE a b", "PFDEBUG TODENSE a"):
        pair(*line.split())
        pair.ttl("TTL", "a")


def test_a_string_that_lacks_runs(pair: Pair) -> None:
    """One element at a time: of several Redis keeps those before the one that has no register."""
    text = HEAD + b"\x3f" * 100
    for number in range(40):
        pair("SET", "a", text)
        pair("PFADD", "a", number)
        pair("GET", "a")
    pair("PFCOUNT", "a")
    pair("PFMERGE", "b", "a")
    pair("PFDEBUG", "DECODE", "a")
    pair("PFDEBUG", "TODENSE", "a")


def test_dumps_go_both_ways(pair: Pair) -> None:
    for size in (5, 5000):
        pair("PFADD", "a", *range(size))
        for source, target in ((pair.reference, pair.tested), (pair.tested, pair.reference)):
            target.ok("RESTORE", "r", 0, source.call("DUMP", "a"), "REPLACE")
            assert target.call("PFCOUNT", "r") == source.call("PFCOUNT", "a")
        pair("GET", "r")


def test_events(pair: Pair) -> None:
    lines = (
        "PFADD a",
        "PFADD a",
        "PFADD a x",
        "PFADD a x",
        "PFCOUNT a",
        "PFCOUNT none",
        "PFCOUNT a none",
        "PFMERGE b a none",
        "PFMERGE b",
        "PFDEBUG TODENSE b",
        "PFDEBUG GETREG none",
    )
    assert heard(pair, [line.split() for line in lines])


def test_selftest(pair: Pair) -> None:
    assert pair.tested.ok("PFSELFTEST")
    pair("PFSELFTEST", "x")

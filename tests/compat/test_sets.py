"""Sets, compared with a real redis-server."""

from __future__ import annotations

from harness.commands import (
    ELEMENTS,
    INTEGERS,
    KEYS,
    PATTERNS,
    choice,
    command,
    counted,
    flags,
    history_tests,
    maybe,
    several,
)
from harness.compat import Pair
from harness.resp import Argument


def pop(pair: Pair, *words: Argument) -> None:
    """Compare SPOP where chance has no part in it; else only that as many are taken, then begin anew."""
    size = pair("SCARD", words[1]) if len(words) > 1 else 0
    if not isinstance(size, int) or size < 2:
        pair(*words)
        return
    taken = pair.type_only(*words) if len(words) == 2 else pair.same_length(*words)
    if isinstance(taken, bytes) or (isinstance(taken, list | set) and 0 < len(taken) < size):
        pair("DEL", words[1])


def draw(pair: Pair, *words: Argument) -> None:
    """Compare how many members SRANDMEMBER draws, and that they are members."""
    size = pair("SCARD", words[1]) if len(words) > 1 else 0
    if not isinstance(size, int) or size < 2:
        pair(*words)
        return
    drawn = pair.type_only(*words) if len(words) == 2 else pair.same_length(*words)
    if isinstance(drawn, list) and drawn:
        assert all(pair("SMISMEMBER", words[1], *drawn))


DRAWS = choice("0", "1", "2", "5", "100", "-1", "-4", "x", "-9223372036854775808")

SETS = [
    command("SADD", KEYS, several(ELEMENTS)),
    command("SADD", KEYS, several(choice(INTEGERS, ELEMENTS), most=8)),
    command("SREM", KEYS, several(ELEMENTS)),
    command("SMOVE", KEYS, KEYS, ELEMENTS),
    command("SCARD", KEYS),
    command("SISMEMBER", KEYS, ELEMENTS),
    command("SMISMEMBER", KEYS, several(ELEMENTS)),
    command("SMEMBERS", KEYS, check=Pair.unordered),
    command("SPOP", KEYS, maybe(DRAWS.filter(lambda word: word != "-4")), check=pop),
    command("SRANDMEMBER", KEYS, maybe(DRAWS), check=draw),
    command("SINTER", several(KEYS), check=Pair.unordered),
    command("SUNION", several(KEYS), check=Pair.unordered),
    command("SDIFF", several(KEYS), check=Pair.unordered),
    command("SINTERSTORE", KEYS, several(KEYS)),
    command("SUNIONSTORE", KEYS, several(KEYS)),
    command("SDIFFSTORE", KEYS, several(KEYS)),
    command("SINTERCARD", counted(KEYS), maybe("LIMIT", choice("0", "1", "3", INTEGERS))),
    command("SINTERCARD", counted(KEYS), flags("LIMIT", "nope")),
    command(
        "SSCAN",
        KEYS,
        maybe("MATCH", PATTERNS),
        maybe("COUNT", choice("1", "100", INTEGERS)),
        check=Pair.scan,
    ),
    command("OBJECT", "ENCODING", KEYS, check=Pair.encoding),
]


test_sets, test_sets_restarted, test_sets_at_length, test_sets_restarted_at_length = history_tests(
    "sets", SETS
)


def test_large_sets(pair: Pair) -> None:
    """Above what Redis keeps in one piece, and above what Lamina loads at once."""
    for key, step in (("two", 2), ("three", 3), ("seven", 7)):
        for start in range(0, 30_000, 3000):
            pair("SADD", key, *range(start, start + 3000, step))
        pair("OBJECT", "ENCODING", key)
    for keys in (["two", "three", "seven"], ["seven", "two"], ["two"]):
        for name in ("SINTER", "SUNION", "SDIFF"):
            pair.unordered(name, *keys)
            pair(f"{name}STORE", "target", *keys)
            pair("OBJECT", "ENCODING", "target")
        for limit in (0, 1, 100, 100_000):
            pair("SINTERCARD", len(keys), *keys, "LIMIT", limit)
    pair.assert_same_contents()
    assert len(pair.scan("SSCAN", "two", "COUNT", 100)) == 15_000
    pair.scan("SSCAN", "two", "MATCH", "99*")
    pair.same_length("SPOP", "two", 5000)
    pair("SCARD", "two")
    pair.same_length("SRANDMEMBER", "three", 5000)
    pair.same_length("SRANDMEMBER", "three", -50_000)
    pair.unordered("SPOP", "three", 20_000)
    pair("EXISTS", "three")


def test_encodings_of_integers(pair: Pair) -> None:
    """Where 7.0 and 7.2 are alike: integers only, and members too large for a listpack."""
    pair("SADD", "a", *range(512))
    pair("OBJECT", "ENCODING", "a")
    pair("COPY", "a", "b")
    pair("SADD", "a", 512)
    pair("SREM", "a", *range(510))
    pair("OBJECT", "ENCODING", "a")
    pair("SUNIONSTORE", "c", "a")
    pair("OBJECT", "ENCODING", "c")
    pair("SADD", "b", "x" * 65)
    pair("OBJECT", "ENCODING", "b")
    pair("SADD", "d", "x" * 65)
    pair("OBJECT", "ENCODING", "d")

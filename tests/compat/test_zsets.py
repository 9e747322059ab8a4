"""Sorted sets, compared with a real redis-server: all commands, and waiting for something to pop.

The two servers write scores with many digits differently (7.2 with as few as give the number back, before it
17), so what may hold such scores is compared as numbers.
"""

from __future__ import annotations

import re
from typing import Any

from hypothesis import strategies as st

from harness.commands import (
    ELEMENTS,
    INDEXES,
    INTEGERS,
    KEY_NAMES,
    KEYS,
    PATTERNS,
    SCORES,
    SMALL,
    choice,
    command,
    counted,
    flags,
    history_tests,
    maybe,
    several,
    words,
)
from harness.compat import Pair, Step
from harness.crowd import Crowd
from harness.resp import frozen, to_bytes

_is_number = re.compile(rb"-?([0-9.]+(e[+-]?[0-9]+)?|inf)").fullmatch


def as_numbers(reply: Any) -> Any:
    """Return a reply with numbers in the place of text that is one."""
    if isinstance(reply, list):
        return [as_numbers(item) for item in reply]
    return float(reply) if isinstance(reply, bytes) and _is_number(reply) else frozen(reply)


def numbers(pair: Pair, *words: bytes) -> None:
    """Compare replies with scores in them."""
    pair.by(as_numbers, *words)


def drawn(pair: Pair, *words: bytes) -> None:
    """Compare how much has been drawn at random; leave out what would draw without end."""
    if len(words) < 3 or len(words[2]) < 5 or not words[2].startswith(b"-"):
        # One member alone may be longer or shorter than another.
        (pair.type_only if len(words) == 2 else pair.same_length)(*words)


def briefly(pair: Pair, *words: bytes) -> None:
    """Compare a blocking command, but leave out those whose timeout has become long in the twisting."""
    timeout = words[1 if words[0].upper() == b"BZMPOP" else -1] if len(words) > 1 else b""
    if timeout in (b"0.001", b"0.002", b"-1", b"x"):
        numbers(pair, *words)


def by_member(pair: Pair, *words: bytes) -> None:
    """Compare a command on a range of members.

    Redis leaves open what that is where members have several scores. For a small set it is always the same;
    in a large one it depends on chance, so there it is not asked for.
    """
    at = 2 if words[0].upper() == b"ZRANGESTORE" else 1
    if len(words) > at and pair.reference.call("OBJECT", "ENCODING", words[at]) == b"skiplist":
        scores = as_numbers(pair.reference.call("ZRANGE", words[at], 0, -1, "WITHSCORES"))
        if len({tuple(item)[1] for item in scores} if pair.protocol == 3 else set(scores[1::2])) > 1:
            return
    numbers(pair, *words)


def scan_once(pair: Pair, *words: bytes) -> None:
    """Compare one call of ZSCAN on a small set, which is returned whole."""
    key = words[1] if len(words) > 1 else b""
    if pair.reference.call("OBJECT", "ENCODING", key) != b"skiplist":
        numbers(pair, *words)


COUNTS = choice(SMALL, SMALL, INTEGERS)
BOUNDS = choice(
    SCORES,
    SCORES.map(lambda score: f"({score}"),
    st.sampled_from(["", "(", " 1", "( 2", "1 ", "[1", "((1", "1\x00x", "1e999", "-inf", "+inf", "0x2"]),
)
LEX = choice(
    st.sampled_from(["-", "+", "-", "+", "", "[", "(", "+x", "m"]),
    ELEMENTS.map(lambda member: b"[" + to_bytes(member)),
    ELEMENTS.map(lambda member: b"(" + to_bytes(member)),
)
LIMIT = words("LIMIT", choice(SMALL, INTEGERS), choice(SMALL, INTEGERS))
WEIGHTS = words("WEIGHTS", several(choice(SCORES, SMALL), most=3))
AGGREGATE = words("AGGREGATE", st.sampled_from(["SUM", "MIN", "MAX", "min", "avg"]))
SIDES = st.sampled_from(["MIN", "MAX", "min", "max", "MIN", "MAX", "mid"])
# They end the wait in a moment where there is nothing to take, or are no timeouts.
TIMEOUTS = st.sampled_from(["0.001", "0.002", "-1", "x"])
CONDITIONS = flags("NX", "XX", "GT", "LT", "CH", "INCR", "ch", most=3)

ZSETS = [
    command("ZADD", KEYS, several(SCORES, ELEMENTS), check=numbers),
    command("ZADD", KEYS, several(SMALL, ELEMENTS, most=8), check=numbers),
    command("ZADD", KEYS, CONDITIONS, several(SCORES, ELEMENTS, most=3), check=numbers),
    command("ZADD", KEYS, CONDITIONS, SMALL, ELEMENTS, check=numbers),
    command("ZINCRBY", KEYS, SCORES, ELEMENTS, check=numbers),
    command("ZREM", KEYS, several(ELEMENTS)),
    command("ZCARD", KEYS),
    command("ZSCORE", KEYS, ELEMENTS, check=numbers),
    command("ZMSCORE", KEYS, several(ELEMENTS), check=numbers),
    command("ZRANK", KEYS, ELEMENTS),
    command("ZREVRANK", KEYS, ELEMENTS),
    command("ZRANDMEMBER", KEYS, maybe(COUNTS), flags("WITHSCORES", most=1), check=drawn),
    command("ZSCAN", KEYS, "0", maybe("MATCH", PATTERNS), maybe("COUNT", COUNTS), check=scan_once),
    command("ZRANGE", KEYS, INDEXES, INDEXES, flags("REV", "WITHSCORES", "rev"), check=numbers),
    command(
        *("ZRANGE", KEYS, BOUNDS, BOUNDS, "BYSCORE", flags("REV", "WITHSCORES"), maybe(LIMIT)), check=numbers
    ),
    command("ZRANGE", KEYS, LEX, LEX, "BYLEX", flags("REV", "WITHSCORES"), maybe(LIMIT), check=by_member),
    command(
        *("ZRANGE", KEYS, choice(INDEXES, LEX), INDEXES, maybe(LIMIT)),
        *(flags("REV", "WITHSCORES", "BYSCORE", "BYLEX", most=3), maybe(LIMIT)),
        check=by_member,
    ),
    command("ZREVRANGE", KEYS, INDEXES, INDEXES, flags("WITHSCORES", "REV"), check=numbers),
    command("ZRANGEBYSCORE", KEYS, BOUNDS, BOUNDS, flags("WITHSCORES"), maybe(LIMIT), check=numbers),
    command("ZREVRANGEBYSCORE", KEYS, BOUNDS, BOUNDS, flags("WITHSCORES"), maybe(LIMIT), check=numbers),
    command("ZRANGEBYLEX", KEYS, LEX, LEX, maybe(LIMIT), check=by_member),
    command("ZREVRANGEBYLEX", KEYS, LEX, LEX, maybe(LIMIT), check=by_member),
    command("ZRANGESTORE", KEYS, KEYS, INDEXES, INDEXES, flags("REV", "WITHSCORES")),
    command("ZRANGESTORE", KEYS, KEYS, BOUNDS, BOUNDS, "BYSCORE", flags("REV"), maybe(LIMIT)),
    command("ZRANGESTORE", KEYS, KEYS, LEX, LEX, "BYLEX", flags("REV"), maybe(LIMIT), check=by_member),
    command("ZCOUNT", KEYS, BOUNDS, BOUNDS),
    command("ZLEXCOUNT", KEYS, LEX, LEX, check=by_member),
    command("ZREMRANGEBYRANK", KEYS, INDEXES, INDEXES),
    command("ZREMRANGEBYSCORE", KEYS, BOUNDS, BOUNDS),
    command("ZREMRANGEBYLEX", KEYS, LEX, LEX, check=by_member),
    command("ZPOPMIN", KEYS, maybe(COUNTS), check=numbers),
    command("ZPOPMAX", KEYS, maybe(COUNTS), check=numbers),
    command("ZMPOP", counted(KEYS), SIDES, maybe("COUNT", COUNTS), check=numbers),
    command("BZPOPMIN", several(KEYS), TIMEOUTS, check=briefly),
    command("BZPOPMAX", several(KEYS), TIMEOUTS, check=briefly),
    command("BZMPOP", TIMEOUTS, counted(KEYS), SIDES, maybe("COUNT", COUNTS), check=briefly),
    command("ZUNION", counted(KEYS), maybe(WEIGHTS), maybe(AGGREGATE), flags("WITHSCORES"), check=numbers),
    command("ZINTER", counted(KEYS), maybe(WEIGHTS), maybe(AGGREGATE), flags("WITHSCORES"), check=numbers),
    command("ZDIFF", counted(KEYS), flags("WITHSCORES"), check=numbers),
    command("ZINTERCARD", counted(KEYS), maybe("LIMIT", COUNTS)),
    command("ZUNIONSTORE", KEYS, counted(KEYS), maybe(WEIGHTS), maybe(AGGREGATE)),
    command("ZINTERSTORE", KEYS, counted(KEYS), maybe(WEIGHTS), maybe(AGGREGATE)),
    command("ZDIFFSTORE", KEYS, counted(KEYS)),
    command("SADD", KEYS, several(ELEMENTS)),
    command("OBJECT", "ENCODING", KEYS, check=Pair.encoding),
]


def play(pair: Pair, steps: list[Step]) -> None:
    """Empty both, do the steps, and compare what is there then."""
    pair.reset()
    for step in steps:
        step.check(pair, *step.words)
    for key in KEY_NAMES:
        pair("TYPE", key)
        pair("PTTL", key) if pair("EXISTS", key) == 0 else pair.ttl_ms("PTTL", key)
        numbers(pair, b"ZRANGE", key, b"0", b"-1", b"WITHSCORES")


test_zsets, test_zsets_restarted, test_zsets_at_length, test_zsets_restarted_at_length = history_tests(
    "zsets", ZSETS, play=play
)


# --- Ranges


def test_ranges_of_every_bound(pair: Pair) -> None:
    indexes = (-100, -6, -5, -4, -1, 0, 1, 4, 5, 100, "-9223372036854775808", "9223372036854775807")
    pair("ZADD", "z", *"1 a 2 b 2 c 3 d inf e".split())
    for first in indexes:
        for last in indexes:
            pair("ZRANGE", "z", first, last)
            pair("ZRANGE", "z", first, last, "REV", "WITHSCORES")
            pair("ZRANGESTORE", "t", "z", first, last)
            pair("ZREMRANGEBYRANK", "t", first, last)
            pair("ZRANGE", "t", 0, -1, "WITHSCORES")
    bounds = ("-inf", "(-inf", "0", "1", "(1", "2", "(2", "2.5", "3", "(3", "inf", "(inf", "", "1e999")
    for low in bounds:
        for high in bounds:
            pair("ZCOUNT", "z", low, high)
            pair("ZRANGEBYSCORE", "z", low, high, "WITHSCORES")
            pair("ZREVRANGEBYSCORE", "z", high, low)
            pair("ZRANGESTORE", "t", "z", low, high, "BYSCORE", "LIMIT", 1, 2)
            pair("ZREMRANGEBYSCORE", "t", low, high)


def test_limits(pair: Pair) -> None:
    pair("ZADD", "z", *(word for n in range(10) for word in (n, f"m{n}")))
    pair("ZADD", "l", *(word for n in range(10) for word in (0, f"m{n}")))
    for offset in (-2, -1, 0, 1, 5, 9, 10, 100, "9223372036854775807"):
        for count in (-5, -1, 0, 1, 3, 100, "9223372036854775807"):
            limit = ("LIMIT", offset, count)
            pair("ZRANGEBYSCORE", "z", 2, "(8", *limit)
            pair("ZREVRANGEBYSCORE", "z", "(8", 2, *limit)
            pair("ZRANGEBYLEX", "l", "[m2", "(m8", *limit)
            pair("ZREVRANGEBYLEX", "l", "(m8", "[m2", *limit)
            pair("ZRANGE", "z", 2, 8, *limit)


def test_members_between(pair: Pair) -> None:
    members = [b"", b"\0", b"a", b"a\0", b"a\0\0", b"ab", b"b", b"\xff", b"\xff\xff"]
    pair("ZADD", "z", *(word for member in members for word in (3, member)))
    bounds = [b"-", b"+", *(sign + member for member in members for sign in (b"[", b"("))]
    for low in bounds:
        for high in bounds:
            pair("ZLEXCOUNT", "z", low, high)
            pair("ZRANGEBYLEX", "z", low, high)
            pair("ZREVRANGEBYLEX", "z", high, low)


def test_members_between_in_a_small_set_of_several_scores(pair: Pair) -> None:
    pair("ZADD", "z", *"0 d 1 a 3 c 5 b 5 e 6 a2".split())
    bounds = ["-", "+", *(sign + member for member in ("a", "a2", "b", "c", "d", "e", "f") for sign in "[(")]
    for low in bounds:
        for high in bounds:
            pair("ZLEXCOUNT", "z", low, high)
            pair("ZRANGEBYLEX", "z", low, high)
            pair("ZREVRANGEBYLEX", "z", high, low)
            pair("ZRANGESTORE", "t", "z", 0, -1)
            pair("ZREMRANGEBYLEX", "t", low, high)
            pair("ZRANGE", "t", 0, -1)


# --- Scores

NUMBERS = (
    "0 -0 +0 1 -1 01 1. .5 0.5 -.5 5e-1 1e1 1E1 0x10 0xA.8p1 1e400 -1e400 1e-400 nan -nan inf -inf +inf"
    " infinity INF Infinity 9007199254740993 9223372036854775807 1e17 1e18 4e18 5e18 1e21 1e22 1e300 1e-5"
    " 1e-7 5e-324 1.7976931348623157e308 3.14159265358979323846 17179869184.5 0.1 0.30000000000000004"
    " 1e abc 1,5"
).split()


def test_scores_of_every_kind(pair: Pair) -> None:
    for number in (*NUMBERS, "", " 1", "1 ", "1\n", "1\x00"):
        for key in ("small", "large"):
            pair("ZADD", key, 1, "a", 2, ("L" if key == "small" else "L" * 70))
            numbers(pair, b"ZADD", key.encode(), number.encode(), b"b")
            numbers(pair, b"ZINCRBY", key.encode(), number.encode(), b"a")
            numbers(pair, b"ZADD", key.encode(), b"INCR", number.encode(), b"new")
            numbers(pair, b"ZRANGE", key.encode(), b"0", b"-1", b"WITHSCORES")
            numbers(pair, b"ZCOUNT", key.encode(), number.encode(), b"inf")
            numbers(pair, b"ZUNION", b"1", key.encode(), b"WEIGHTS", number.encode(), b"WITHSCORES")
            pair("DEL", key)


def test_whole_and_short_scores_are_written_alike(pair: Pair) -> None:
    for score in ("0", "1", "-1", "1.5", "-0.25", "1000000", "4503599627370496", "-123456789", "inf", "-inf"):
        pair("ZADD", "z", score, "a")
        pair("ZSCORE", "z", "a")
        pair("ZINCRBY", "z", 0, "a")
        pair("ZRANGE", "z", 0, -1, "WITHSCORES")
        pair("ZSCAN", "z", 0)
        pair("ZMSCORE", "z", "a", "b")
        pair("ZRANDMEMBER", "z", -2, "WITHSCORES")
        pair("ZUNION", 1, "z", "WITHSCORES")
        pair("ZPOPMIN", "z")


def test_negative_zero(pair: Pair) -> None:
    for long in ("L", "L" * 65):
        pair("DEL", "z")
        pair("ZADD", "z", "-0", "a", 1, long, "-0", "b", 0, "c")
        pair("ZINCRBY", "z", "-0", "new")
        pair("ZADD", "z", "-0", "c", 0, "b")
        pair("ZRANGE", "z", 0, -1, "WITHSCORES")
        pair("ZRANGESTORE", "t", "z", 0, -1)
        pair("ZRANGE", "t", 0, -1, "WITHSCORES")
        pair("ZUNIONSTORE", "t", 1, "z", "WEIGHTS", -1)
        pair("ZRANGE", "t", 0, -1, "WITHSCORES")
        pair("ZSCAN", "z", 0) if long == "L" else pair.scan("ZSCAN", "z")
        pair("ZPOPMIN", "z", 3)


def test_sums_are_made_in_the_same_order(pair: Pair) -> None:
    pair("ZADD", "x", "0.1", "a", 1, "b", 2, "c")
    pair("ZADD", "y", "0.2", "a", "1e16", "b")
    pair("ZADD", "z", "0.3", "a", "-1e16", "b", 5, "d", 6, "e")
    for keys in ("x y z", "z y x", "y x z"):
        for name in ("ZUNION", "ZINTER"):
            numbers(pair, *f"{name} 3 {keys} WITHSCORES".encode().split())


def test_a_large_set(tiny_pair: Pair) -> None:
    """Large enough that it is not loaded, and restarted in between."""
    pair = tiny_pair
    size = 20_000
    for start in range(0, size, 1000):
        pair("ZADD", "z", *(w for n in range(start, start + 1000) for w in (n * 7919 % size, f"m{n:05}")))
    pair("ZUNIONSTORE", "l", 1, "z", "WEIGHTS", 0)
    pair("SADD", "s", *(f"m{n:05}" for n in range(0, size, 500)))
    for restart in (False, True):
        if restart:
            pair.restart(kill=True)
        for n in (0, 1, 777, 10_000, 19_998, 19_999, 30_000):
            pair("ZRANK", "z", f"m{n:05}")
            pair("ZREVRANK", "z", f"m{n:05}")
            pair("ZRANGE", "z", n, n + 5, "WITHSCORES")
            pair("ZRANGE", "z", n, n + 5, "REV")
            pair("ZRANGEBYSCORE", "z", n, "+inf", "LIMIT", 3000, 3, "WITHSCORES")
            pair("ZREVRANGEBYSCORE", "z", n, "-inf", "LIMIT", 3000, 3)
            pair("ZCOUNT", "z", n, f"({n + 4000}")
            pair("ZRANGEBYLEX", "l", f"[m{n:05}", "+", "LIMIT", 100, 3)
            pair("ZREVRANGEBYLEX", "l", f"(m{n:05}", "-", "LIMIT", 100, 3)
            pair("ZLEXCOUNT", "l", f"(m{n:05}", "+")
            pair("ZADD", "z", "GT", "CH", n + 5, f"m{n:05}")
            pair("ZINCRBY", "z", "0.5", f"m{n:05}")
        pair("ZINTERCARD", 2, "z", "s")
        pair("ZINTERCARD", 3, "l", "s", "z", "LIMIT", 7)
        pair("ZINTER", 2, "z", "s", "WITHSCORES")
        pair("ZDIFFSTORE", "d", 2, "z", "s")
        pair("ZPOPMIN", "z", 3)
        pair("ZPOPMAX", "z")
        pair("ZREMRANGEBYRANK", "z", 1000, 1010)
        pair("ZREMRANGEBYSCORE", "z", 5000, 5100)
        pair("ZREMRANGEBYLEX", "l", "[m00100", "(m00200")
        pair.scan("ZSCAN", "z", "COUNT", 1000, "MATCH", "m1*")
    pair("ZREMRANGEBYSCORE", "z", 100, "inf")
    pair.assert_same_contents()


# --- Waiting


def test_who_is_served_with_what(pair: Pair, crowd: Crowd) -> None:
    crowd.wait(0, *"BZPOPMIN y z 0".split())
    crowd.wait(1, *"BZMPOP 0 2 y z MAX COUNT 2".split())
    crowd.wait(2, *"BZPOPMAX z z 0".split())
    crowd.wait(3, *"BZPOPMAX y 0".split())
    pair("SADD", "y", "x")
    pair("ZADD", "z", *"1 a 2 b 3 c 4 d 5 e".split())
    assert crowd.read(0) is not None
    assert crowd.read(1) is not None
    assert crowd.read(2) is not None
    pair("DEL", "y")
    pair("ZINCRBY", "y", 7, "f")
    crowd.read(3)
    pair.assert_same_contents()


def test_what_serves_and_what_does_not(pair: Pair, crowd: Crowd) -> None:
    crowd.wait(0, *"BZPOPMIN z 0".split())
    for lines in (
        ["ZADD z 1 a", "DEL z"],
        ["ZADD z 1 a", "ZPOPMAX z"],
        ["ZADD z 1 a", "SET z text"],
        ["SADD z a", "BZPOPMIN none 0", "BZMPOP 0 1 none MIN"],
    ):
        pair("MULTI")
        for line in lines:
            pair(*line.split())
        pair("EXEC")
        crowd.assert_silent(0)
        pair("DEL", "z")
    pair("ZADD", "source", 1, "a", 2, "b")
    for line in ("ZUNIONSTORE z 1 source", "ZRANGESTORE z source 0 -1", "COPY source z", "RENAME source z"):
        pair(*line.split())
        crowd.read(0)
        pair("DEL", "z")
        crowd.wait(0, *"BZPOPMIN z 0".split())
    pair.assert_same_contents()


def test_timeouts(pair: Pair, crowd: Crowd) -> None:
    for line in ("BZPOPMIN y z 0.05", "BZPOPMAX z 0.05", "BZMPOP 0.05 1 z MIN"):
        crowd.wait(0, *line.split())
        assert crowd.read(0) is None
    pair("ZADD", "z", 1, "a")
    assert pair("ZCARD", "z") == 1

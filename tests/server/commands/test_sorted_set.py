"""The sorted set commands: in memory, loaded from disk and read from disk."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from math import inf
from typing import Any

import pytest

from harness.local import LocalClient, Servers
from lamina.server import elements, events
from lamina.server.errors import CommandError
from lamina.server.limits import LIMITS
from lamina.server.registry import COMMANDS, key_positions
from lamina.server.store import Store
from lamina.server.types.zsets import ZSet, encoding_name

Call = Callable[..., Any]

WRONG_TYPE = CommandError(b"WRONGTYPE Operation against a key holding the wrong kind of value")
SYNTAX = CommandError(b"ERR syntax error")
NOT_A_FLOAT = CommandError(b"ERR value is not a valid float")
NOT_AN_INTEGER = CommandError(b"ERR value is not an integer or out of range")
NAN = CommandError(b"ERR resulting score is not a number (NaN)")


def error(text: str) -> CommandError:
    return CommandError(text.encode())


def split(line: str) -> list[str]:
    """Return the words of a command; '' is an empty one."""
    return ["" if word == "''" else word for word in line.split(" ")]


@pytest.fixture(params=["held", "loaded", "on disk"])
def call(request: pytest.FixtureRequest, local: LocalClient, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs a command, given as one line; the data is in the form that the parameter names."""
    if request.param == "on disk":
        monkeypatch.setattr(elements, "LOADED_AT_ONCE", -1)
        monkeypatch.setattr(elements, "LOADED_EVER", -1)

    def run(line: str) -> Any:
        if request.param != "held":
            local.reload()
        return local(*split(line))

    return run


def zset_of(local: LocalClient, key: bytes = b"z") -> ZSet:
    record = local.client.keyspace.find(key)
    assert isinstance(record, ZSet)
    return record


@pytest.fixture
def heard(local: LocalClient) -> list[tuple[bytes, bytes]]:
    """The events that are published, by name and key."""
    seen: list[tuple[bytes, bytes]] = []
    local.server.databases.on_event = lambda keyspace, kind, name, key: seen.append((name, key))
    local.client.keyspace.listens = events.ALL
    return seen


# --- Members and scores


def test_add_and_look(call: Call) -> None:
    assert call("ZADD z 1 a 2 b 3 c") == 3
    assert call("ZADD z 1 a 5 b 4 d") == 1
    assert call("ZRANGE z 0 -1 WITHSCORES") == [b"a", b"1", b"c", b"3", b"d", b"4", b"b", b"5"]
    assert call("ZCARD z") == 4
    assert call("ZSCORE z b") == b"5"
    assert call("ZSCORE z x") is None
    assert call("ZMSCORE z a x d") == [b"1", None, b"4"]
    assert [call(f"ZRANK z {member}") for member in "acdbx"] == [0, 1, 2, 3, None]
    assert [call(f"ZREVRANK z {member}") for member in "acdbx"] == [3, 2, 1, 0, None]
    assert call("ZREM z a x b") == 2
    assert call("ZRANGE z 0 -1") == [b"c", b"d"]
    assert call("ZREM z c d") == 2
    assert call("ZCARD z") == 0
    assert call("ZREM z c") == 0
    assert call("DBSIZE") == 0


@pytest.mark.parametrize(
    ("line", "reply", "scores"),
    [
        ("ZADD z NX 9 a 9 c", 1, [1, 2, 9]),
        ("ZADD z XX 9 a 9 c", 0, [9, 2, None]),
        ("ZADD z XX CH 9 a 9 c", 1, [9, 2, None]),
        ("ZADD z CH 9 a 9 c 2 b", 2, [9, 2, 9]),
        ("ZADD z GT 0 a 3 b 3 c", 1, [1, 3, 3]),
        ("ZADD z LT 0 a 3 b 3 c", 1, [0, 2, 3]),
        ("ZADD z GT CH 0 a 3 b 3 c", 2, [1, 3, 3]),
        ("ZADD z xx lt ch 0 a 3 b 3 c", 1, [0, 2, None]),
        ("ZADD z GT XX CH 1 a 7 b", 1, [1, 7, None]),
        ("ZADD z INCR 5 a", b"6", [6, 2, None]),
        ("ZADD z INCR CH 5 c", b"5", [1, 2, 5]),
        ("ZADD z INCR 0 a", b"1", [1, 2, None]),
        ("ZADD z NX INCR 5 a", None, [1, 2, None]),
        ("ZADD z NX INCR 5 c", b"5", [1, 2, 5]),
        ("ZADD z XX INCR 5 c", None, [1, 2, None]),
        ("ZADD z XX INCR 5 a", b"6", [6, 2, None]),
        ("ZADD z GT INCR -1 a", None, [1, 2, None]),
        ("ZADD z GT INCR 0 a", None, [1, 2, None]),
        ("ZADD z LT INCR -1 a", b"0", [0, 2, None]),
        ("ZADD z 3 a 4 a 5 a", 0, [5, 2, None]),
        ("ZADD z 3 c 4 c", 1, [1, 2, 4]),
        ("ZINCRBY z 1.5 a", b"2.5", [2.5, 2, None]),
        ("ZINCRBY z -3 c", b"-3", [1, 2, -3]),
        ("ZINCRBY z inf b", b"inf", [1, inf, None]),
        ("ZADD z -inf a +inf b 0x10 c", 1, [-inf, inf, 16]),
    ],
)
def test_conditions(call: Call, line: str, reply: Any, scores: list[float | None]) -> None:
    call("ZADD z 1 a 2 b")
    assert call(line) == reply
    found = call("ZMSCORE z a b c")
    assert [None if score is None else float(score) for score in found] == scores


def test_conditions_without_a_key(call: Call) -> None:
    assert call("ZADD z XX 1 a") == 0
    assert call("ZADD z XX INCR 1 a") is None
    assert call("DBSIZE") == 0
    assert call("ZADD z GT 1 a") == 1
    assert call("ZADD y NX INCR 1 a") == b"1"


NX_XX = error("ERR XX and NX options at the same time are not compatible")
GT_LT_NX = error("ERR GT, LT, and/or NX options at the same time are not compatible")


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("ZADD z NX XX 1 a", NX_XX),
        ("ZADD z NX XX INCR foo a", NX_XX),
        ("ZADD z NX GT 1 a", GT_LT_NX),
        ("ZADD z GT LT 1 a", GT_LT_NX),
        ("ZADD z LT NX 1 a", GT_LT_NX),
        ("ZADD z INCR 1 a 2 b", error("ERR INCR option supports a single increment-element pair")),
        ("ZADD z NX 1", SYNTAX),
        ("ZADD z 1 a 2", SYNTAX),
        ("ZADD z CH", error("ERR wrong number of arguments for 'zadd' command")),
        ("ZADD z foo a", NOT_A_FLOAT),
        ("ZADD z nan a", NOT_A_FLOAT),
        ("ZADD z 1e400 a", NOT_A_FLOAT),
        ("ZADD z '' a", NOT_A_FLOAT),
        ("ZADD z 7 new foo b", NOT_A_FLOAT),
        ("ZADD z 7 new NX b", NOT_A_FLOAT),
        ("ZADD text foo a", NOT_A_FLOAT),
        ("ZADD text 1 a", WRONG_TYPE),
        ("ZADD text XX 1 a", WRONG_TYPE),
        ("ZINCRBY z nan a", NOT_A_FLOAT),
        ("ZINCRBY z -inf top", NAN),
        ("ZADD z INCR -inf top", NAN),
        ("ZADD z XX INCR -inf top", NAN),
        ("ZADD z LT INCR -inf top", NAN),
        ("ZINCRBY text 1 a", WRONG_TYPE),
        ("ZREM text a", WRONG_TYPE),
        ("ZSCORE text a", WRONG_TYPE),
        ("ZMSCORE text a", WRONG_TYPE),
        ("ZCARD text", WRONG_TYPE),
        ("ZRANK text a", WRONG_TYPE),
        ("ZRANK z a WITHSCORES", SYNTAX),
        ("ZRANK z a WITHSCORE x", error("ERR wrong number of arguments for 'zrank' command")),
        ("ZRANDMEMBER text 0", WRONG_TYPE),
        ("ZRANDMEMBER z foo", NOT_AN_INTEGER),
        ("ZRANDMEMBER z 1 foo", SYNTAX),
        ("ZRANDMEMBER z 1 WITHSCORES x", SYNTAX),
        (
            "ZRANDMEMBER z -9223372036854775808",
            error(
                "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807"
            ),
        ),
        ("ZRANDMEMBER z 4611686018427387904 WITHSCORES", error("ERR value is out of range")),
        ("ZSCAN z foo", error("ERR invalid cursor")),
        ("ZSCAN missing foo", error("ERR invalid cursor")),
        ("ZSCAN z 0 COUNT 0", SYNTAX),
        ("ZSCAN z 0 COUNT x", NOT_AN_INTEGER),
        ("ZSCAN z 0 MATCH", SYNTAX),
        ("ZSCAN text 0 MATCH", WRONG_TYPE),
    ],
)
def test_errors(local: LocalClient, line: str, reply: CommandError) -> None:
    local("ZADD", "z", 1, "a", "inf", "top")
    local("SET", "text", "x")
    assert local(*split(line)) == reply
    # Whatever failed has changed nothing.
    assert local("ZRANGE", "z", 0, -1, "WITHSCORES") == [b"a", b"1", b"top", b"inf"]
    assert local("GET", "text") == b"x"


def test_rank_with_score(local: LocalClient) -> None:
    local("ZADD", "z", 1, "a", "2.5", "b")
    assert local("ZRANK", "z", "b", "WITHSCORE") == [1, b"2.5"]
    assert local.raw("ZREVRANK", "z", "b", "withscore") == b"*2\r\n:0\r\n$3\r\n2.5\r\n"
    assert local.raw("ZRANK", "z", "x", "WITHSCORE") == b"*-1\r\n"
    assert local.raw("ZRANK", "missing", "x") == b"$-1\r\n"
    local.client.resp = 3
    assert local.raw("ZRANK", "z", "b", "WITHSCORE") == b"*2\r\n:1\r\n,2.5\r\n"
    assert local.raw("ZRANK", "z", "x", "WITHSCORE") == b"_\r\n"


def test_scores_in_both_protocols(local: LocalClient) -> None:
    local("ZADD", "z", "1.5", "a", "-inf", "b")
    assert local.raw("ZSCORE", "z", "a") == b"$3\r\n1.5\r\n"
    assert local.raw("ZRANGE", "z", 0, 0, "WITHSCORES") == b"*2\r\n$1\r\nb\r\n$4\r\n-inf\r\n"
    local.client.resp = 3
    assert local.raw("ZSCORE", "z", "a") == b",1.5\r\n"
    assert local.raw("ZINCRBY", "z", "1", "a") == b",2.5\r\n"
    assert local.raw("ZMSCORE", "z", "a", "x") == b"*2\r\n,2.5\r\n_\r\n"
    assert local.raw("ZRANGE", "z", 0, 0, "WITHSCORES") == b"*1\r\n*2\r\n$1\r\nb\r\n,-inf\r\n"
    assert local.raw("ZUNION", 1, "z", "WITHSCORES").startswith(b"*2\r\n*2\r\n$1\r\nb\r\n,-inf\r\n")
    # Text in RESP3 too.
    assert local.raw("ZSCAN", "z", 0, "MATCH", "a") == b"*2\r\n$1\r\n0\r\n*2\r\n$1\r\na\r\n$3\r\n2.5\r\n"
    assert local.raw("ZRANDMEMBER", "z", 2, "WITHSCORES").startswith(b"*2\r\n*2\r\n$1\r\n")


def test_negative_zero(call: Call, local: LocalClient) -> None:
    """Small sets have none; in a large one it is a score of its own, but no place of its own."""
    call("ZADD z -0 a 0 b")
    assert call("ZMSCORE z a b") == [b"0", b"0"]
    long = "L" * 65
    call(f"ZADD z 1 {long}")
    assert call("ZADD z -0 c -0 b") == 1
    assert call("ZINCRBY z -0 c") == b"-0"
    assert call("ZRANGE z 0 -1 WITHSCORES") == [
        *(b"a", b"0", b"b", b"0", b"c", b"-0"),
        *(long.encode(), b"1"),
    ]
    assert call("ZRANK z c") == 2
    assert call("ZCOUNT z -0 0") == 3
    assert call("ZCOUNT z 0 -0") == 3
    # A range that is stored is small before the long member comes; a union is large from the start.
    assert call("ZRANGESTORE y z 0 -1") == 4
    assert call("ZSCORE y c") == b"0"
    assert call("ZUNIONSTORE y 1 z") == 4
    assert call("ZSCORE y c") == b"-0"
    assert call("ZPOPMIN z 3") == [b"a", b"0", b"b", b"0", b"c", b"-0"]


def test_encoding(local: LocalClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LIMITS, "zset_listpack_entries", 4)
    local("ZADD", "z", 1, "a", 2, "b", 3, "c", 4, "d")
    assert encoding_name(zset_of(local)) == b"listpack"
    local("ZADD", "z", 1, "e")
    assert encoding_name(zset_of(local)) == b"skiplist"
    local("ZREM", "z", "a", "b", "c")
    local.reload()
    assert encoding_name(zset_of(local)) == b"skiplist"
    local("ZUNIONSTORE", "z", 1, "z")
    assert encoding_name(zset_of(local)) == b"listpack"
    local("ZADD", "z", 1, "l" * 65)
    assert encoding_name(zset_of(local)) == b"skiplist"
    local("ZRANGESTORE", "y", "z", 0, -1)
    assert encoding_name(zset_of(local, b"y")) == b"skiplist"
    # What may come counts, even if it is less in the end.
    local("ZADD", "x", 1, "a", 1, "a", 1, "a", 1, "a", 1, "a")
    assert encoding_name(zset_of(local, b"x")) == b"skiplist"


def test_random_members(call: Call) -> None:
    assert call("ZRANDMEMBER z") is None
    assert call("ZRANDMEMBER z 3") == []
    call("ZADD z 1 a 2 b 3 c")
    scores = {b"a": b"1", b"b": b"2", b"c": b"3"}
    assert call("ZRANDMEMBER z") in scores
    assert call("ZRANDMEMBER z 0") == []
    assert sorted(call("ZRANDMEMBER z 9")) == [b"a", b"b", b"c"]
    assert len(set(call("ZRANDMEMBER z 2"))) == 2
    drawn = call("ZRANDMEMBER z -20 WITHSCORES")
    assert len(drawn) == 40
    assert all(scores[member] == score for member, score in zip(drawn[::2], drawn[1::2]))


def test_scan(call: Call) -> None:
    assert call("ZSCAN z 0") == [b"0", []]
    call("ZADD z 2 a 1 b 0.1 c")
    assert call("ZSCAN z 0") == [b"0", [b"c", b"0.1", b"b", b"1", b"a", b"2"]]
    assert call("ZSCAN z 0 COUNT 1 MATCH [ab]") == [b"0", [b"b", b"1", b"a", b"2"]]
    numbers = range(200)
    call("ZADD z " + " ".join(f"{n} m{n:03}" for n in numbers))
    found: dict[bytes, bytes] = {}
    cursor, calls = b"0", 0
    while cursor != b"0" or not calls:
        cursor, items = call(f"ZSCAN z {cursor.decode()} MATCH m* COUNT 30")
        found.update(zip(items[::2], items[1::2]))
        calls += 1
    assert calls > 3
    assert found == {b"m%03d" % n: b"%d" % n for n in numbers}


# --- Ranges


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("ZRANGE z 0 -1", "abcdef"),
        ("ZRANGE z 1 2", "bc"),
        ("ZRANGE z -2 -1", "ef"),
        ("ZRANGE z -100 1", "ab"),
        ("ZRANGE z 4 100", "ef"),
        ("ZRANGE z 3 2", ""),
        ("ZRANGE z 6 7", ""),
        ("ZRANGE z 0 -100", ""),
        ("ZRANGE z -9223372036854775808 9223372036854775807", "abcdef"),
        ("ZRANGE z 0 1 REV", "fe"),
        ("ZREVRANGE z 0 1", "fe"),
        ("ZREVRANGE z -2 -1", "ba"),
        ("ZRANGE z 0 1 LIMIT 5 -1", "ab"),
        ("ZRANGE z 2 4 BYSCORE", "bcd"),
        ("ZRANGE z (2 4 BYSCORE", "cd"),
        ("ZRANGE z 2 (4 BYSCORE", "bc"),
        ("ZRANGE z (2 (4 BYSCORE", "c"),
        ("ZRANGE z (3 (3 BYSCORE", ""),
        ("ZRANGE z 4 2 BYSCORE", ""),
        ("ZRANGE z 4 2 BYSCORE REV", "dcb"),
        ("ZRANGE z 2 4 BYSCORE REV", ""),
        ("ZRANGE z -inf +inf BYSCORE", "abcdef"),
        ("ZRANGE z (-inf (inf BYSCORE", "bcde"),
        ("ZRANGE z -inf +inf BYSCORE LIMIT 1 2", "bc"),
        ("ZRANGE z -inf +inf BYSCORE LIMIT 4 -1", "ef"),
        ("ZRANGE z -inf +inf BYSCORE LIMIT 4 -7", "ef"),
        ("ZRANGE z -inf +inf BYSCORE LIMIT 6 1", ""),
        ("ZRANGE z -inf +inf BYSCORE LIMIT 0 0", ""),
        ("ZRANGE z -inf +inf BYSCORE LIMIT -1 3", ""),
        ("ZRANGE z 3 +inf BYSCORE LIMIT 1 9223372036854775807", "def"),
        ("ZRANGE z +inf -inf BYSCORE REV LIMIT 1 2", "ed"),
        ("ZRANGE z (5 1 BYSCORE REV LIMIT 2 1", "b"),
        ("ZRANGE z (5 2 BYSCORE REV LIMIT 3 1", ""),
        ("ZRANGEBYSCORE z 2 4 LIMIT 2 5", "d"),
        ("ZREVRANGEBYSCORE z 4 2 LIMIT 0 2", "dc"),
        ("ZRANGEBYSCORE z '' 2", "b"),
        ("ZRANGEBYSCORE missing 1 2", ""),
        ("ZRANGEBYLEX l - +", "abcde"),
        ("ZRANGEBYLEX l [b (d", "bc"),
        ("ZRANGEBYLEX l (b [d", "cd"),
        ("ZRANGEBYLEX l (b +", "cde"),
        ("ZRANGEBYLEX l - [b", "ab"),
        ("ZRANGEBYLEX l - (a", ""),
        ("ZRANGEBYLEX l + -", ""),
        ("ZRANGEBYLEX l [bb [cc", "c"),
        ("ZRANGEBYLEX l - + LIMIT 1 2", "bc"),
        ("ZRANGE l [b [d BYLEX", "bcd"),
        ("ZRANGE l [d [b BYLEX REV", "dcb"),
        ("ZRANGE l + - BYLEX REV LIMIT 1 -1", "dcba"),
        ("ZREVRANGEBYLEX l (d - LIMIT 1 1", "b"),
    ],
)
def test_ranges(call: Call, line: str, reply: str) -> None:
    call("ZADD z -inf a 2 b 3 c 4 d 5 e inf f")
    call("ZADD l 0 a 0 b 0 c 0 d 0 e")
    assert b"".join(call(line)).decode() == reply


def test_ranges_of_equal_scores(call: Call, local: LocalClient) -> None:
    """Members of one score are in the order of their bytes, whatever bytes these are."""
    members = [b"", b"\0", b"\0\0", b"a", b"a\0", b"ab", b"a\xff", b"\xff", b"\xff\xff"]
    shuffled = random.Random(1).sample(members, len(members))
    local("ZADD", "z", *(word for member in shuffled for word in (1, member)))
    local("ZADD", "z", -1, "below", "1.0000000000000002", "above")
    assert call("ZRANGE z 0 -1") == [b"below", *members, b"above"]
    assert call("ZRANGEBYSCORE z 1 1") == members
    assert call("ZRANGEBYSCORE z (1 2") == [b"above"]
    assert call("ZRANGEBYSCORE z -1 (1") == [b"below"]
    assert call("ZREMRANGEBYRANK z 0 0") == 1
    assert call("ZREM z above") == 1
    for at, member in enumerate(members):
        assert local("ZRANGEBYLEX", "z", b"[" + member, "+") == members[at:]
        assert local("ZRANGEBYLEX", "z", b"(" + member, "+") == members[at + 1 :]
        assert local("ZREVRANGEBYLEX", "z", b"[" + member, "-") == members[at::-1]
        assert local("ZLEXCOUNT", "z", "-", b"(" + member) == at
        assert local("ZRANK", "z", member) == at


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("ZCOUNT z -inf +inf", 6),
        ("ZCOUNT z (2 4", 2),
        ("ZCOUNT z 4 2", 0),
        ("ZCOUNT z (-inf (inf", 4),
        ("ZCOUNT z 1e999 1e999", 1),
        ("ZCOUNT missing 1 2", 0),
        ("ZLEXCOUNT l - +", 5),
        ("ZLEXCOUNT l [b (d", 2),
        ("ZLEXCOUNT l (e +", 0),
        ("ZLEXCOUNT l + -", 0),
        ("ZLEXCOUNT missing - +", 0),
    ],
)
def test_counts(call: Call, line: str, reply: int) -> None:
    call("ZADD z -inf a 2 b 3 c 4 d 5 e inf f")
    call("ZADD l 0 a 0 b 0 c 0 d 0 e")
    assert call(line) == reply


@pytest.mark.parametrize(
    ("line", "reply", "left"),
    [
        ("ZREMRANGEBYRANK z 0 1", 2, "cdef"),
        ("ZREMRANGEBYRANK z -2 -1", 2, "abcd"),
        ("ZREMRANGEBYRANK z 5 1", 0, "abcdef"),
        ("ZREMRANGEBYRANK z 0 -1", 6, ""),
        ("ZREMRANGEBYSCORE z (2 4", 2, "abef"),
        ("ZREMRANGEBYSCORE z -inf +inf", 6, ""),
        ("ZREMRANGEBYSCORE z 9 10", 0, "abcdef"),
        ("ZREMRANGEBYLEX l [b (d", 2, "ade"),
        ("ZREMRANGEBYLEX l - +", 5, ""),
        ("ZREMRANGEBYLEX missing - +", 0, ""),
    ],
)
def test_removal_of_ranges(call: Call, line: str, reply: int, left: str) -> None:
    call("ZADD z -inf a 2 b 3 c 4 d 5 e inf f")
    call("ZADD l 0 a 0 b 0 c 0 d 0 e")
    key = line.split(" ")[1]
    assert call(line) == reply
    assert b"".join(call(f"ZRANGE {key} 0 -1")).decode() == left
    assert call(f"ZCARD {key}") == len(left)


def test_lex_ranges_over_several_scores(call: Call) -> None:
    """Redis leaves it open; a small set is walked from one end, as in a listpack."""
    call("ZADD z 0 d 1 a 3 c 5 b")
    assert call("ZRANGEBYLEX z [b +") == [b"d", b"a", b"c", b"b"]
    assert call("ZRANGEBYLEX z - [c") == []
    assert call("ZLEXCOUNT z [b [d") == 4
    assert call("ZREVRANGEBYLEX z [d [b") == [b"b", b"c"]
    assert call("ZREMRANGEBYLEX z [b [d") == 4


def test_store_of_a_range(call: Call) -> None:
    call("ZADD z 1 a 2 b 3 c")
    call("SET other x")
    assert call("ZRANGESTORE other z (1 +inf BYSCORE LIMIT 0 1") == 1
    assert call("ZRANGE other 0 -1 WITHSCORES") == [b"b", b"2"]
    assert call("ZRANGESTORE z z 0 1 REV") == 2
    assert call("ZRANGE z 0 -1 WITHSCORES") == [b"b", b"2", b"c", b"3"]
    assert call("ZRANGESTORE z z 5 6") == 0
    assert call("ZRANGESTORE other missing 0 -1") == 0
    assert call("DBSIZE") == 0


LIMIT_WITHOUT_BY = error(
    "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX"
)
SCORE_RANGE = error("ERR min or max is not a float")
LEX_RANGE = error("ERR min or max not valid string range item")


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("ZRANGE z 0 1 LIMIT 0 1", LIMIT_WITHOUT_BY),
        ("ZREVRANGE z 0 1 LIMIT 0 1", LIMIT_WITHOUT_BY),
        ("ZRANGE z 0 1 LIMIT a b FOO", NOT_AN_INTEGER),
        ("ZRANGE z 0 1 LIMIT 1", SYNTAX),
        ("ZRANGE z 0 1 REV REV", SYNTAX),
        ("ZRANGE z 0 1 BYLEX BYSCORE", SYNTAX),
        ("ZRANGE z a 1 FOO", SYNTAX),
        ("ZRANGE z a 1", NOT_AN_INTEGER),
        ("ZRANGE text a 1", NOT_AN_INTEGER),
        ("ZRANGE text 0 1", WRONG_TYPE),
        ("ZRANGE missing a 1", NOT_AN_INTEGER),
        (
            "ZRANGE z - + BYLEX WITHSCORES",
            error("ERR syntax error, WITHSCORES not supported in combination with BYLEX"),
        ),
        ("ZREVRANGE z 0 1 REV", SYNTAX),
        ("ZREVRANGE z 0 1 BYSCORE", SYNTAX),
        ("ZRANGEBYSCORE z 1 2 REV", SYNTAX),
        ("ZRANGEBYSCORE z a 2", SCORE_RANGE),
        ("ZRANGEBYSCORE z [1 2", SCORE_RANGE),
        ("ZRANGEBYSCORE z nan 2", SCORE_RANGE),
        ("ZRANGEBYLEX z a +", LEX_RANGE),
        ("ZRANGEBYLEX z - +x", LEX_RANGE),
        ("ZRANGEBYLEX z '' +", LEX_RANGE),
        ("ZRANGESTORE d z 0 1 WITHSCORES", SYNTAX),
        ("ZRANGESTORE d text 0 1", WRONG_TYPE),
        ("ZRANGESTORE d text a 1", NOT_AN_INTEGER),
        ("ZCOUNT z a 1", SCORE_RANGE),
        ("ZCOUNT text 0 1", WRONG_TYPE),
        ("ZLEXCOUNT z a +", LEX_RANGE),
        ("ZREMRANGEBYRANK z a b", NOT_AN_INTEGER),
        ("ZREMRANGEBYSCORE z a b", SCORE_RANGE),
        ("ZREMRANGEBYSCORE text 0 1", WRONG_TYPE),
        ("ZREMRANGEBYLEX text a b", LEX_RANGE),
    ],
)
def test_errors_of_ranges(local: LocalClient, line: str, reply: CommandError) -> None:
    local("ZADD", "z", 1, "a")
    local("SET", "text", "x")
    assert local(*split(line)) == reply
    assert local("ZRANGE", "z", 0, -1, "WITHSCORES") == [b"a", b"1"]


def test_large_sets_on_disk_are_not_read_through(local: LocalClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked for by place or by bound is found in the index: few entries are read for it."""
    monkeypatch.setattr(elements, "LOADED_AT_ONCE", -1)
    monkeypatch.setattr(elements, "LOADED_EVER", -1)
    size = 6000
    for start in range(0, size, 500):
        local("ZADD", "z", *(word for n in range(start, start + 500) for word in (n, f"m{n:05}")))
        local("ZADD", "l", *(word for n in range(start, start + 500) for word in (0, f"m{n:05}")))
    local.reload()
    read = 0
    chunks = Store.chunks

    def counted(self: Store, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[Any]:
        nonlocal read
        for keys, values in chunks(self, start, stop, reverse=reverse):
            read += len(keys)
            yield keys, values

    def scan(self: Store, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[Any]:
        for keys, values in counted(self, start, stop, reverse=reverse):
            yield from zip(keys, values)

    monkeypatch.setattr(Store, "chunks", counted)
    monkeypatch.setattr(Store, "scan", scan)
    assert local("ZRANK", "z", "m04321") == 4321
    assert local("ZREVRANK", "z", "m04321") == 1678
    assert local("ZRANGE", "z", 4321, 4322) == [b"m04321", b"m04322"]
    assert local("ZRANGE", "z", 4321, 4322, "REV") == [b"m01678", b"m01677"]
    assert local("ZRANGE", "z", 100, "inf", "BYSCORE", "LIMIT", 4000, 1) == [b"m04100"]
    assert local("ZRANGE", "z", "inf", 100, "BYSCORE", "REV", "LIMIT", 4000, 1) == [b"m01999"]
    assert local("ZRANGE", "l", "[m001", "+", "BYLEX", "LIMIT", 4000, 1) == [b"m04100"]
    assert local("ZCOUNT", "z", 1000, "(5000") == 4000
    assert local("ZLEXCOUNT", "l", "[m01000", "(m05000") == 4000
    assert local("ZRANDMEMBER", "z") is not None
    assert local("ZPOPMAX", "z") == [b"m05999", b"5999"]
    assert local("ZREMRANGEBYRANK", "z", 3000, 3001) == 2
    assert read < size // 2, read
    # All of it goes without being read.
    read = 0
    assert local("ZREMRANGEBYSCORE", "z", "-inf", "+inf") == size - 3
    assert read == 0


# --- Popping


def test_pops(call: Call) -> None:
    assert call("ZPOPMIN z") == []
    assert call("ZPOPMIN z 3") == []
    call("ZADD z 1 a 2 b 3 c 4 d 5 e 6 f")
    assert call("ZPOPMIN z") == [b"a", b"1"]
    assert call("ZPOPMAX z") == [b"f", b"6"]
    assert call("ZPOPMIN z 2") == [b"b", b"2", b"c", b"3"]
    assert call("ZPOPMAX z 0") == []
    assert call("ZPOPMAX z 9") == [b"e", b"5", b"d", b"4"]
    assert call("DBSIZE") == 0


def test_pops_of_many_keys(call: Call) -> None:
    assert call("ZMPOP 2 y z MIN") is None
    call("ZADD z 1 a 2 b 3 c 4 d")
    assert call("ZMPOP 2 y z MIN") == [b"z", [[b"a", b"1"]]]
    assert call("ZMPOP 2 y z MAX COUNT 2") == [b"z", [[b"d", b"4"], [b"c", b"3"]]]
    assert call("BZMPOP 0 2 y z max count 9") == [b"z", [[b"b", b"2"]]]
    assert call("DBSIZE") == 0


def test_pops_in_resp3(local: LocalClient) -> None:
    local.client.resp = 3
    for member in "abcde":
        local("ZADD", "z", 1, member)
    assert local.raw("ZPOPMIN", "z") == b"*2\r\n$1\r\na\r\n,1\r\n"
    assert local.raw("ZPOPMIN", "z", 1) == b"*1\r\n*2\r\n$1\r\nb\r\n,1\r\n"
    assert local.raw("BZPOPMAX", "z", 0) == b"*3\r\n$1\r\nz\r\n$1\r\ne\r\n,1\r\n"
    assert local.raw("ZMPOP", 1, "z", "MIN") == b"*2\r\n$1\r\nz\r\n*1\r\n*2\r\n$1\r\nc\r\n,1\r\n"
    assert local.raw("ZPOPMIN", "missing") == b"*0\r\n"
    assert local.raw("ZMPOP", 1, "missing", "MIN") == b"_\r\n"


NUMKEYS = error("ERR numkeys should be greater than 0")
COUNT = error("ERR count should be greater than 0")


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("ZPOPMIN text", WRONG_TYPE),
        ("ZPOPMIN text 0", WRONG_TYPE),
        ("ZPOPMIN z -1", error("ERR value is out of range, must be positive")),
        ("ZPOPMIN z foo", error("ERR value is out of range, must be positive")),
        ("ZPOPMIN z 1 2", SYNTAX),
        ("ZMPOP 2 missing text MIN", WRONG_TYPE),
        ("ZMPOP 0 z MIN", NUMKEYS),
        ("ZMPOP a z MIN", NUMKEYS),
        ("ZMPOP 2 z MIN", SYNTAX),
        ("ZMPOP 1 z FOO", SYNTAX),
        ("ZMPOP 1 z MIN COUNT", SYNTAX),
        ("ZMPOP 1 z MIN COUNT 0", COUNT),
        ("ZMPOP 1 z MIN COUNT x", COUNT),
        ("ZMPOP 1 z MIN COUNT 1 COUNT 2", SYNTAX),
        ("ZMPOP 1 z MIN MAX", SYNTAX),
        ("BZMPOP x 0 z MIN", NUMKEYS),
        ("BZMPOP x 1 z FOO", SYNTAX),
        ("BZMPOP x 1 z MIN", error("ERR timeout is not a float or out of range")),
        ("BZMPOP -1 1 z MIN", error("ERR timeout is negative")),
        ("BZPOPMIN z x", error("ERR timeout is not a float or out of range")),
        ("BZPOPMIN z -1", error("ERR timeout is negative")),
        ("BZPOPMIN missing text 0", WRONG_TYPE),
    ],
)
def test_errors_of_pops(local: LocalClient, line: str, reply: CommandError) -> None:
    local("ZADD", "z", 1, "a")
    local("SET", "text", "x")
    assert local(*split(line)) == reply
    assert local("ZCARD", "z") == 1


def test_waiting(local: LocalClient) -> None:
    first, second = local.connect(), local.connect()
    assert first.raw("BZPOPMIN", "y", "z", 0) == b""
    assert second.raw("BZPOPMAX", "z", "z", 0) == b""
    assert local("ZADD", "z", 1, "a", 2, "b", 3, "c") == 3
    assert first.pushed() == [[b"z", b"a", b"1"]]
    assert second.pushed() == [[b"z", b"c", b"3"]]
    assert local("ZRANGE", "z", 0, -1) == [b"b"]


def test_waiting_longest_comes_first(local: LocalClient) -> None:
    clients = [local.connect() for _ in range(3)]
    for client in clients:
        assert client.raw("BZPOPMIN", "z", 0) == b""
    local("ZADD", "z", 1, "a")
    local("ZADD", "z", 2, "b")
    assert [client.pushed() for client in clients] == [[[b"z", b"a", b"1"]], [[b"z", b"b", b"2"]], []]
    local("ZINCRBY", "z", 5, "c")
    assert clients[2].pushed() == [[b"z", b"c", b"5"]]
    assert local("DBSIZE") == 0


def test_waiting_for_several(local: LocalClient) -> None:
    other = local.connect()
    assert other.raw("BZMPOP", 0, 2, "y", "z", "MAX", "COUNT", 2) == b""
    # A key of another type is not what it waits for.
    local("SADD", "y", "x")
    assert other.pushed() == []
    local("ZADD", "z", 1, "a", 2, "b", 3, "c")
    assert other.pushed() == [[b"z", [[b"c", b"3"], [b"b", b"2"]]]]


def test_waiting_is_ended_by_what_is_stored(local: LocalClient) -> None:
    other = local.connect()
    local("ZADD", "source", 1, "a")
    for store in (("ZUNIONSTORE", "z", 1, "source"), ("ZRANGESTORE", "z", "source", 0, -1)):
        assert other.raw("BZPOPMIN", "z", 0) == b""
        assert local(*store) == 1
        assert other.pushed() == [[b"z", b"a", b"1"]]


def test_waiting_ends_in_time(local: LocalClient) -> None:
    assert local.raw("BZPOPMIN", "z", "0.1") == b""
    local.wait_out(99)
    assert local.pushed() == []
    local.wait_out(2)
    assert local.pushed() == [None]
    assert local.raw("BZMPOP", "0.1", 1, "z", "MIN") == b""
    local.wait_out(101)
    assert local.pushed() == [None]
    assert local("ZADD", "z", 1, "a") == 1
    assert local("ZCARD", "z") == 1


# --- Several sets


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("ZUNION 2 z y", "a b c d"),
        ("ZUNION 2 z y WITHSCORES", "a 1 b 12 c 23 d 30"),
        ("ZUNION 2 z y WEIGHTS 2 0.5 WITHSCORES", "a 2 b 9 c 16 d 15"),
        ("ZUNION 2 z y AGGREGATE MIN WITHSCORES", "a 1 b 2 c 3 d 30"),
        ("ZUNION 2 z y AGGREGATE max WITHSCORES", "a 1 b 10 c 20 d 30"),
        ("ZUNION 3 z missing s WITHSCORES", "a 2 x 1 b 2 c 3"),
        ("ZUNION 2 z z WITHSCORES", "a 2 b 4 c 6"),
        ("ZINTER 2 z y WITHSCORES", "b 12 c 23"),
        ("ZINTER 2 z s WEIGHTS 1 10 WITHSCORES", "a 11"),
        ("ZINTER 2 z missing WITHSCORES", ""),
        ("ZINTER 2 y z AGGREGATE MIN WITHSCORES", "b 2 c 3"),
        ("ZINTER 2 z z WEIGHTS 1 2 WITHSCORES", "a 3 b 6 c 9"),
        ("ZDIFF 2 z y WITHSCORES", "a 1"),
        ("ZDIFF 2 y z", "d"),
        ("ZDIFF 3 z y s", ""),
        ("ZDIFF 2 s z WITHSCORES", "x 1"),
        ("ZDIFF 2 z missing", "a b c"),
        ("ZDIFF 2 missing z", ""),
        ("ZDIFF 2 z z", ""),
    ],
)
def test_algebra(call: Call, line: str, reply: str) -> None:
    call("ZADD z 1 a 2 b 3 c")
    call("ZADD y 10 b 20 c 30 d")
    call("SADD s a x")
    wanted = reply.split()
    found = call(line)
    if "WITHSCORES" in line:
        pairs = sorted(zip(wanted[::2], wanted[1::2]), key=lambda pair: (float(pair[1]), pair[0]))
        wanted = [word for pair in pairs for word in pair]
    assert [word.decode() for word in found] == wanted
    # What is stored is the same.
    words = line.replace(" WITHSCORES", "").split(" ", 1)
    assert call(f"{words[0]}STORE d {words[1]}") == len(call(line.replace(" WITHSCORES", "")))
    assert call("ZRANGE d 0 -1" + (" WITHSCORES" if "WITHSCORES" in line else "")) == found


def test_store_over_an_input(call: Call) -> None:
    call("ZADD z 1 a 2 b")
    call("ZADD y 5 b")
    assert call("ZUNIONSTORE z 2 z y") == 2
    assert call("ZRANGE z 0 -1 WITHSCORES") == [b"a", b"1", b"b", b"7"]
    call("SET text x")
    assert call("ZINTERSTORE text 2 z y WEIGHTS 0 1") == 1
    assert call("ZRANGE text 0 -1 WITHSCORES") == [b"b", b"5"]
    assert call("ZDIFFSTORE y 2 y z") == 0
    assert call("DBSIZE") == 2


def test_infinities_and_zeros(call: Call) -> None:
    """What is no number becomes 0: in a union before, in an intersection after it has been added."""
    call("ZADD z inf a 0 b 3 c")
    call("ZADD y -inf a 2 b 4 c")
    assert call("ZUNION 2 z y WITHSCORES") == [b"a", b"0", b"b", b"2", b"c", b"7"]
    assert call("ZUNION 2 z y WEIGHTS inf 1 WITHSCORES") == [b"a", b"0", b"b", b"2", b"c", b"inf"]
    assert call("ZUNION 2 z y WEIGHTS 0 1 WITHSCORES") == [b"a", b"-inf", b"b", b"2", b"c", b"4"]
    assert call("ZINTER 2 y z WEIGHTS 1 inf WITHSCORES") == [b"a", b"0", b"b", b"0", b"c", b"inf"]
    assert call("ZINTER 2 y z WEIGHTS 1 inf AGGREGATE MAX WITHSCORES") == [
        *(b"b", b"2", b"a", b"inf", b"c", b"inf")
    ]


def test_count_of_intersection(call: Call) -> None:
    call("ZADD z 1 a 2 b 3 c")
    call("ZADD y 1 b 2 c 3 d 4 a")
    call("SADD s b c x")
    assert call("ZINTERCARD 2 z y") == 3
    assert call("ZINTERCARD 3 z y s") == 2
    assert call("ZINTERCARD 2 z y LIMIT 2") == 2
    assert call("ZINTERCARD 2 z y LIMIT 0") == 3
    assert call("ZINTERCARD 2 z y LIMIT 1 LIMIT 9") == 3
    assert call("ZINTERCARD 2 z missing") == 0


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("ZUNION 0 z", error("ERR at least 1 input key is needed for 'zunion' command")),
        ("ZINTER -1 z", error("ERR at least 1 input key is needed for 'zinter' command")),
        ("ZDIFFSTORE d 0 z", error("ERR at least 1 input key is needed for 'zdiffstore' command")),
        ("ZINTERCARD 0 z LIMIT", error("ERR at least 1 input key is needed for 'zintercard' command")),
        ("ZUNION a z", NOT_AN_INTEGER),
        ("ZUNION 2 z", SYNTAX),
        ("ZUNION 1 z WEIGHTS", SYNTAX),
        ("ZUNION 2 z z WEIGHTS 1", SYNTAX),
        ("ZUNION 1 z WEIGHTS a", error("ERR weight value is not a float")),
        ("ZUNION 1 z WEIGHTS nan", error("ERR weight value is not a float")),
        ("ZUNION 1 z AGGREGATE", SYNTAX),
        ("ZUNION 1 z AGGREGATE FOO", SYNTAX),
        ("ZUNIONSTORE d 1 z WITHSCORES", SYNTAX),
        ("ZDIFF 1 z WEIGHTS 1", SYNTAX),
        ("ZDIFF 2 missing text", WRONG_TYPE),
        ("ZINTER 2 missing text", WRONG_TYPE),
        ("ZUNION 1 text FOO", WRONG_TYPE),
        ("ZUNION 1 list", WRONG_TYPE),
        ("ZINTERCARD 1 z LIMIT -1", error("ERR LIMIT can't be negative")),
        ("ZINTERCARD 1 z LIMIT x", error("ERR LIMIT can't be negative")),
        ("ZINTERCARD 1 z LIMIT", SYNTAX),
        ("ZINTERCARD 1 z WITHSCORES", SYNTAX),
        ("ZINTERCARD 1 text LIMIT -1", WRONG_TYPE),
    ],
)
def test_errors_of_algebra(local: LocalClient, line: str, reply: CommandError) -> None:
    local("ZADD", "z", 1, "a")
    local("SET", "text", "x")
    local("HSET", "list", "x", "y")
    assert local(*split(line)) == reply
    assert local("DBSIZE") == 3


# --- What others see


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("ZADD z 9 c", ["zadd z"]),
        ("ZADD z 9 a 8 b", ["zadd z"]),
        ("ZADD z 1 a", []),
        ("ZADD z CH NX 9 a", []),
        ("ZADD z INCR 1 a", ["zincr z"]),
        ("ZINCRBY z 1 a", ["zincr z"]),
        ("ZINCRBY z 0 a", []),
        ("ZREM z a x", ["zrem z"]),
        ("ZREM z x", []),
        ("ZREM z a b", ["zrem z", "del z"]),
        ("ZPOPMIN z", ["zpopmin z"]),
        ("ZPOPMAX z 5", ["zpopmax z", "del z"]),
        ("BZPOPMIN z 0", ["zpopmin z"]),
        ("ZMPOP 1 z MAX COUNT 2", ["zpopmax z", "del z"]),
        ("BZMPOP 0 1 z MIN", ["zpopmin z"]),
        ("ZREMRANGEBYRANK z 0 0", ["zremrangebyrank z"]),
        ("ZREMRANGEBYSCORE z 0 9", ["zremrangebyscore z", "del z"]),
        ("ZREMRANGEBYLEX z [a [a", ["zremrangebylex z"]),
        ("ZREMRANGEBYSCORE z 7 9", []),
        ("ZUNIONSTORE d 1 z", ["zunionstore d"]),
        ("ZINTERSTORE d 1 z", ["zinterstore d"]),
        ("ZDIFFSTORE d 1 z", ["zdiffstore d"]),
        ("ZRANGESTORE d z 0 -1", ["zrangestore d"]),
        ("ZDIFFSTORE d 2 z z", []),
        ("ZDIFFSTORE z 2 z z", ["del z"]),
        ("ZRANGESTORE z z 7 9", ["del z"]),
    ],
)
def test_events(local: LocalClient, heard: list[tuple[bytes, bytes]], line: str, names: list[str]) -> None:
    local("ZADD", "z", 1, "a", 2, "b")
    heard.clear()
    local(*split(line))
    assert [f"{name.decode()} {key.decode()}" for name, key in heard] == names


def test_keys_of_commands() -> None:
    def keys(line: str) -> list[int]:
        argv = line.encode().split(b" ")
        return key_positions(COMMANDS[argv[0]], argv)

    assert keys("ZADD z 1 a") == [1]
    assert keys("ZRANGESTORE d z 0 1") == [1, 2]
    assert keys("ZUNION 2 a b WEIGHTS 1 2") == [2, 3]
    assert keys("ZUNIONSTORE d 2 a b") == [1, 3, 4]
    assert keys("ZINTERCARD 1 a LIMIT 2") == [2]
    assert keys("ZMPOP 2 a b MIN") == [2, 3]
    assert keys("BZMPOP 0 2 a b MIN") == [3, 4]
    assert keys("BZPOPMIN a b c 0") == [1, 2, 3]
    names = {name for name, command in COMMANDS.items() if command.group == "sorted-set"}
    assert len(names) == 35


def test_hits_and_misses(local: LocalClient) -> None:
    keyspace = local.client.keyspace
    local("ZADD", "z", 1, "a")
    hits, misses = keyspace.hits, keyspace.misses
    local("ZSCORE", "z", "x")
    local("ZUNION", 2, "z", "missing")
    assert (keyspace.hits - hits, keyspace.misses - misses) == (2, 1)
    local("ZADD", "z", 1, "b")
    local("ZUNIONSTORE", "d", 2, "z", "missing")
    assert (keyspace.hits - hits, keyspace.misses - misses) == (2, 1)


def test_expiry_goes_with_the_old_value(local: LocalClient, make_local: Servers) -> None:
    local("ZADD", "z", 1, "a")
    keyspace = local.client.keyspace
    keyspace.set_expiry(b"z", zset_of(local), local.clock.now_ms + 1000)
    local("ZADD", "z", 2, "b")
    assert zset_of(local).expires_ms
    local("ZUNIONSTORE", "z", 1, "z")
    assert not zset_of(local).expires_ms
    keyspace.set_expiry(b"z", zset_of(local), local.clock.now_ms + 1000)
    local.clock.advance(1001)
    assert local("ZCARD", "z") == 0
    assert local("ZADD", "z", 1, "c") == 1
    assert local("ZRANGE", "z", 0, -1) == [b"c"]


def test_many_changes_against_a_dict(call: Call, local: LocalClient) -> None:
    """Some hundred random changes over two turns, binary members among them."""
    chance = random.Random(7)
    members = [b"", b"\0", b"\xff\xff", *(b"m%d" % n for n in range(40))]
    model: dict[bytes, float] = {}
    for _ in range(300):
        member = chance.choice(members)
        match chance.randrange(4):
            case 0 | 1:
                model[member] = chance.randrange(-5, 5) / 2
                local("ZADD", "z", model[member], member)
            case 2:
                assert local("ZREM", "z", member) == (model.pop(member, None) is not None)
            case 3 if model:
                popped, score = local("ZPOPMAX", "z")
                assert (float(score), popped) == max((value, key) for key, value in model.items())
                del model[popped]
    ordered = sorted((score, member) for member, score in model.items())
    assert call("ZRANGE z 0 -1") == [member for _, member in ordered]
    assert call("ZCARD z") == len(model)

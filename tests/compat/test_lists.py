"""Lists, compared with a real redis-server: all commands, and waiting with several clients at once."""

from __future__ import annotations

import re

import pytest
from hypothesis import strategies as st

from harness.commands import (
    ELEMENTS,
    INDEXES,
    INTEGERS,
    KEYS,
    SMALL,
    VALUES,
    choice,
    command,
    counted,
    flags,
    history_tests,
    maybe,
    several,
    words,
)
from harness.compat import Pair
from harness.crowd import Crowd

# Those that some key of the history is likely to hold.
ITEMS = choice(ELEMENTS, ELEMENTS, VALUES)
SIDES = st.sampled_from(["LEFT", "RIGHT", "left", "right", "LEFT", "RIGHT", "up"])
PLACES = st.sampled_from(["BEFORE", "AFTER", "before", "after", "beside"])
COUNTS = choice(SMALL, SMALL, INTEGERS)
# They end the wait in a moment where there is nothing to take, or are no timeouts.
TIMEOUTS = st.sampled_from(["0.001", "0.002", "-1", "x", ""])
POSITIONS = choice(
    words("RANK", choice(SMALL, INTEGERS)),
    words("COUNT", COUNTS),
    words("MAXLEN", COUNTS),
    words("NTH", SMALL),
)

_NUMBER = re.compile(rb"[ +-]*(0x|[0-9.]|inf|nan)", re.IGNORECASE)


def briefly(pair: Pair, *words: bytes) -> None:
    """Compare a blocking command, but leave out those whose timeout has become long in the twisting."""
    timeout = words[1 if words[0].upper() == b"BLMPOP" else -1] if len(words) > 1 else b""
    if timeout in (b"0.001", b"0.002", b"-1", b"-5") or not _NUMBER.match(timeout):
        pair(*words)


LISTS = [
    command("LPUSH", KEYS, several(ITEMS)),
    command("RPUSH", KEYS, several(ITEMS)),
    command("RPUSH", KEYS, several(ELEMENTS, least=20, most=60)),
    command("LPUSHX", KEYS, several(ITEMS)),
    command("RPUSHX", KEYS, several(ITEMS)),
    command("LPOP", KEYS, maybe(COUNTS)),
    command("RPOP", KEYS, maybe(COUNTS)),
    command("LLEN", KEYS),
    command("LRANGE", KEYS, INDEXES, INDEXES),
    command("LRANGE", KEYS, "0", "-1"),
    command("LINDEX", KEYS, INDEXES),
    command("LSET", KEYS, INDEXES, ITEMS),
    command("LINSERT", KEYS, PLACES, ITEMS, ITEMS),
    command("LINSERT", KEYS, PLACES, ELEMENTS, ELEMENTS),
    command("LREM", KEYS, COUNTS, ITEMS),
    command("LTRIM", KEYS, INDEXES, INDEXES),
    command("LPOS", KEYS, ITEMS, st.lists(POSITIONS, max_size=3)),
    command("LMOVE", KEYS, KEYS, SIDES, SIDES),
    command("RPOPLPUSH", KEYS, KEYS),
    command("LMPOP", counted(KEYS), SIDES, maybe("COUNT", COUNTS), flags("COUNT", "x", most=1)),
    command("BLPOP", several(KEYS), TIMEOUTS, check=briefly),
    command("BRPOP", several(KEYS), TIMEOUTS, check=briefly),
    command("BLMOVE", KEYS, KEYS, SIDES, SIDES, TIMEOUTS, check=briefly),
    command("BRPOPLPUSH", KEYS, KEYS, TIMEOUTS, check=briefly),
    command("BLMPOP", TIMEOUTS, counted(KEYS), SIDES, maybe("COUNT", COUNTS), check=briefly),
    command("OBJECT", "ENCODING", KEYS, check=Pair.encoding),
]


test_lists, test_lists_restarted, test_lists_at_length, test_lists_restarted_at_length = history_tests(
    "lists", LISTS
)


def test_ranges_of_every_bound(pair: Pair) -> None:
    bounds = (-100, -6, -5, -4, -1, 0, 1, 3, 4, 5, 100, "-9223372036854775808", "9223372036854775807")
    pair("RPUSH", "l", *"abcde")
    for first in bounds:
        pair("LINDEX", "l", first)
        for last in bounds:
            pair("LRANGE", "l", first, last)
            pair("DEL", "t")
            pair("RPUSH", "t", *"abcde")
            pair("LTRIM", "t", first, last)
            pair("LRANGE", "t", 0, -1)
            pair("EXISTS", "t")


def test_positions_with_every_option(pair: Pair) -> None:
    pair("RPUSH", "l", *"abcabcxabc")
    for rank in (-5, -3, -2, -1, 1, 2, 3, 4, "9223372036854775807", "-9223372036854775807"):
        for count in (0, 1, 2, 100):
            for maxlen in (0, 1, 5, 10, 100):
                pair("LPOS", "l", "b", "RANK", rank, "COUNT", count, "MAXLEN", maxlen)
            pair("LPOS", "l", "b", "COUNT", count, "RANK", rank)
        pair("LPOS", "l", "b", "RANK", rank)


def test_removing_from_both_ends(pair: Pair) -> None:
    for count in (-9, -3, -2, -1, 0, 1, 2, 3, 9, "-9223372036854775807", "9223372036854775807"):
        pair("DEL", "l")
        pair("RPUSH", "l", *"xaxbxxcx")
        pair("LREM", "l", count, "x")
        pair("LRANGE", "l", 0, -1)


def test_a_long_list_edited_in_the_middle(tiny_pair: Pair) -> None:
    """Long enough that it is neither loaded nor moved: squeezed in, taken out, found by rank, restarted."""
    pair = tiny_pair
    size = 20_000
    for start in range(0, size, 1000):
        pair("RPUSH", "l", *range(start, start + 1000))
    for n in range(60):
        pair("LINSERT", "l", "BEFORE" if n % 2 else "AFTER", 300, f"new{n}")
        pair("LINSERT", "l", "AFTER", f"new{n}", f"newer{n}")
    pair("LREM", "l", 1, 5000)
    pair("LREM", "l", -1, 15_000)
    for restart in (False, True):
        if restart:
            pair.restart(kill=True)
        for rank in (0, 290, 310, 360, 420, 5000, 5118, 15_000, -1, -300, size):
            pair("LINDEX", "l", rank)
            pair("LRANGE", "l", rank, rank + 5 if rank >= 0 else -1)
            pair("LSET", "l", rank, f"set{rank}")
        pair("LPOS", "l", "new33")
        pair("LPOS", "l", "newer34", "RANK", -1)
        pair("LPOP", "l", 2)
        pair("RPOP", "l", 2)
        pair("LPUSH", "l", "first")
        pair("RPUSH", "l", "last")
    pair("LTRIM", "l", 200, 15_500)
    pair("LTRIM", "l", 100, 160)
    pair("LRANGE", "l", 0, -1)
    pair.assert_same_contents()


# -- waiting ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "waits",
    [
        ["BLPOP l 0", "BRPOP l 0", "BLPOP m l 0"],
        ["BLMPOP 0 2 m l LEFT COUNT 2", "BLMPOP 0 1 l RIGHT", "BLMPOP 0 1 l LEFT COUNT 100"],
        ["BLMOVE l l LEFT RIGHT 0", "BLMOVE l m RIGHT LEFT 0", "BRPOPLPUSH l l 0"],
        ["BLMOVE l m LEFT LEFT 0", "BLMOVE m n LEFT LEFT 0", "BLPOP n 0"],
        ["BLMOVE l s LEFT LEFT 0", "BLPOP l l l 0", "BRPOPLPUSH l s 0"],
        ["BRPOPLPUSH l m 0", "BRPOPLPUSH m l 0", "BLPOP l 0"],
    ],
)
@pytest.mark.parametrize("size", [1, 2, 5])
def test_who_is_served_with_what(pair: Pair, crowd: Crowd, waits: list[str], size: int) -> None:
    for number, line in enumerate(waits):
        crowd.wait(number, *line.split())
    pair("SET", "s", "text")
    pair("RPUSH", "l", *range(size))
    pair("RPUSH", "l", "a", "b", "c", "d", "e")
    pair("RPUSH", "m", "f", "g", "h")
    pair("LPUSH", "n", "i")
    for number in range(len(waits)):
        crowd.read(number)
    pair.assert_same_contents()


def test_the_order_of_waiting(pair: Pair, crowd: Crowd) -> None:
    for number in range(5):
        crowd.wait(number, "BLPOP", "l", "m", 0)
    pair("RPUSH", "m", "a")
    assert crowd.read(0) == [b"m", b"a"]
    crowd.leave(1)
    pair("RPUSH", "l", "b", "c")
    assert [crowd.read(number) for number in (2, 3)] == [[b"l", b"b"], [b"l", b"c"]]
    crowd.wait(0, "BRPOP", "l", 0)
    pair("MULTI")
    pair("RPUSH", "l", "d")
    pair("LPUSH", "l", "e")
    pair("EXEC")
    assert crowd.read(4) == [b"l", b"e"]
    assert crowd.read(0) == [b"l", b"d"]
    pair.assert_same_contents()


def test_transactions_and_other_types_that_serve_nobody(pair: Pair, crowd: Crowd) -> None:
    crowd.wait(0, "BLPOP", "l", 0)
    crowd.wait(1, "BLMOVE", "l", "m", "LEFT", "LEFT", 0)
    for lines in (
        ["RPUSH l a", "DEL l"],
        ["RPUSH l a", "LPOP l"],
        ["RPUSH l a", "SET l text"],
        ["RPUSH l a", "RENAME l other"],
        ["SET l text", "BLPOP none 0", "BLMOVE none m LEFT LEFT 0"],
    ):
        pair("MULTI")
        for line in lines:
            pair(*line.split())
        pair("EXEC")
        crowd.assert_silent(0, 1)
        pair("DEL", "l", "other")
    pair("RPUSH", "l", "x", "y")
    crowd.read(0)
    crowd.read(1)
    pair.assert_same_contents()


def test_lists_that_are_made_in_other_ways(pair: Pair, crowd: Crowd) -> None:
    pair("RPUSH", "source", 3, 1, 2)
    for line in ("SORT source STORE l", "COPY source l", "RENAME source l"):
        crowd.wait(0, "BLMPOP", 0, 1, "l", "LEFT", "COUNT", 9)
        pair(*line.split())
        crowd.read(0)
    pair.assert_same_contents()


def test_timeouts(pair: Pair, crowd: Crowd) -> None:
    for line in (
        *("BLPOP l m 0.05", "BRPOP l 0.05", "BLMOVE l m LEFT LEFT 0.05", "BRPOPLPUSH l m 0.05"),
        "BLMPOP 0.05 1 l LEFT",
    ):
        crowd.wait(0, *line.split())
        assert crowd.read(0) is None
    pair("RPUSH", "l", "a")
    assert pair("LLEN", "l") == 1


def test_a_pipeline_goes_on_after_the_wait(pair: Pair, crowd: Crowd) -> None:
    crowd.wait(0, "BLPOP", "l", 0)
    for client in crowd.clients(0):
        client.send("RPUSH", "l", "again")
        client.send("BLPOP", "l", 0)
        client.send("BRPOP", "l", 0)
        client.send("GET", "l")
    pair("RPUSH", "l", "a")
    assert crowd.read(0) == [b"l", b"a"]
    assert crowd.read(0) == 1
    assert crowd.read(0) == [b"l", b"again"]
    crowd.assert_silent(0)
    pair("RPUSH", "l", "b", "c")
    assert crowd.read(0) == [b"l", b"c"]
    crowd.read(0)
    pair.assert_same_contents()

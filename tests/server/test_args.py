"""Arguments of commands."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.server import args, errors
from lamina.server.errors import CommandError
from lamina.server.numbers import INTEGER_MAX, INTEGER_MIN

NOW_MS = 1_700_000_000_000
OWN = CommandError(b"ERR the command's own")


def error_of(function: Callable[..., object], *arguments: object, **keywords: object) -> CommandError:
    with pytest.raises(CommandError) as caught:
        function(*arguments, **keywords)
    return caught.value.release()


def test_integers() -> None:
    assert args.integer(b"-12") == -12
    assert error_of(args.integer, b"x") == errors.NOT_AN_INTEGER
    assert error_of(args.integer, b"x", OWN) == OWN
    assert args.integer_in(b"5", 0, 5) == 5
    assert error_of(args.integer_in, b"6", 0, 5).message == (
        b"ERR value is out of range, value must between 0 and 5"
    )
    assert error_of(args.integer_in, b"x", 0, 5) == errors.NOT_AN_INTEGER
    assert error_of(args.integer_in, b"x", 0, 5, OWN) == error_of(args.integer_in, b"6", 0, 5, OWN) == OWN
    assert args.positive(b"0") == 0
    assert error_of(args.positive, b"-1") == error_of(args.positive, b"x") == errors.NOT_POSITIVE


def test_floats() -> None:
    assert args.float_(b"1.5") == 1.5
    assert error_of(args.float_, b"nan") == errors.NOT_A_FLOAT
    assert error_of(args.float_, b"nan", errors.WEIGHT_NOT_A_FLOAT) == errors.WEIGHT_NOT_A_FLOAT


@pytest.mark.parametrize(
    ("data", "timeout_ms"),
    [(b"0", 0), (b"1", 1000), (b"0.1", 100), (b"0.0001", 1), (b"1e-9", 1), (b"-0.0001", 0), (b"2.5", 2500)],
)
def test_timeouts_in_seconds(data: bytes, timeout_ms: int) -> None:
    assert args.timeout_ms(data) == timeout_ms


def test_timeouts_that_are_none() -> None:
    assert error_of(args.timeout_ms, b"x") == errors.TIMEOUT_NOT_A_FLOAT
    assert error_of(args.timeout_ms, b"nan") == errors.TIMEOUT_NOT_A_FLOAT
    assert error_of(args.timeout_ms, b"-1") == errors.TIMEOUT_NEGATIVE
    assert error_of(args.timeout_ms, b"-inf") == errors.TIMEOUT_NEGATIVE
    assert error_of(args.timeout_ms, b"1e16") == errors.TIMEOUT_OUT_OF_RANGE
    assert error_of(args.timeout_ms, b"inf") == errors.TIMEOUT_OUT_OF_RANGE
    assert args.timeout_whole_ms(b"7") == 7
    assert error_of(args.timeout_whole_ms, b"1.5") == errors.TIMEOUT_NOT_AN_INTEGER
    assert error_of(args.timeout_whole_ms, b"-1") == errors.TIMEOUT_NEGATIVE


def test_expiries_of_values_that_are_set() -> None:
    def at(data: bytes, unit_ms: int, base_ms: int) -> int:
        return args.expire_at_ms(data, unit_ms=unit_ms, base_ms=base_ms, name=b"set")

    assert at(b"10", 1000, NOW_MS) == NOW_MS + 10_000
    assert at(b"10", 1, NOW_MS) == NOW_MS + 10
    assert at(b"10", 1000, 0) == 10_000
    assert at(b"%d" % INTEGER_MAX, 1, 0) == INTEGER_MAX
    assert at(b"%d" % (INTEGER_MAX - NOW_MS), 1, NOW_MS) == INTEGER_MAX
    assert error_of(at, b"x", 1, 0) == errors.NOT_AN_INTEGER
    for data, unit_ms, base_ms in [
        (b"0", 1, NOW_MS),
        (b"-1", 1000, 0),
        (b"9223372036854775", 1000, NOW_MS),
        (b"9223372036854776", 1000, 0),
        (b"%d" % (INTEGER_MAX - NOW_MS + 1), 1, NOW_MS),
    ]:
        assert error_of(at, data, unit_ms, base_ms).message == b"ERR invalid expire time in 'set' command"


def test_expiries_that_are_changed_may_lie_in_the_past() -> None:
    def at(data: bytes, unit_ms: int, base_ms: int) -> int:
        return args.expire_change_ms(data, unit_ms=unit_ms, base_ms=base_ms, name=b"expire")

    assert at(b"-1", 1000, NOW_MS) == NOW_MS - 1000
    assert at(b"-9223372036854775", 1000, NOW_MS) < 0
    assert at(b"%d" % INTEGER_MIN, 1, NOW_MS) < 0
    assert at(b"%d" % INTEGER_MAX, 1, 0) == INTEGER_MAX
    for data, unit_ms, base_ms in [
        (b"9223372036854775", 1000, NOW_MS),
        (b"-9223372036854776", 1000, NOW_MS),
        (b"%d" % INTEGER_MAX, 1, NOW_MS),
    ]:
        assert error_of(at, data, unit_ms, base_ms).message == b"ERR invalid expire time in 'expire' command"


@pytest.mark.parametrize(
    ("data", "bound"),
    [
        (b"1", (1.0, False)),
        (b"(1", (1.0, True)),
        (b"-inf", (-math.inf, False)),
        (b"(+inf", (math.inf, True)),
        (b"", (0.0, False)),
        (b"(", (0.0, True)),
        (b"( 1", (1.0, True)),
        (b" 1", (1.0, False)),
        (b"1e400", (math.inf, False)),
        (b"(0x10", (16.0, True)),
        (b"1\0zz", (1.0, False)),
        (b"\0zz", (0.0, False)),
    ],
)
def test_score_bounds(data: bytes, bound: args.ScoreBound) -> None:
    assert args.score_bound(data) == bound


@pytest.mark.parametrize("data", [b"((1", b"1 ", b"nan", b"(nan", b"[1", b"-", b"+", b" ", b"x"])
def test_what_is_no_score_bound(data: bytes) -> None:
    assert error_of(args.score_bound, data) == errors.SCORE_RANGE


MEMBERS = [b"", b"\0", b"a", b"a\0", b"a\0\0", b"aa", b"b", b"\xff", b"\xff\xff"]
LEX_BOUNDS = st.sampled_from([b"-", b"+", *(kind + member for kind in (b"[", b"(") for member in MEMBERS)])


def is_above(member: bytes, low: bytes) -> bool:
    if low in (b"-", b"+"):
        return low == b"-"
    return member >= low[1:] if low[:1] == b"[" else member > low[1:]


def is_below(member: bytes, high: bytes) -> bool:
    if high in (b"-", b"+"):
        return high == b"+"
    return member <= high[1:] if high[:1] == b"[" else member < high[1:]


@given(LEX_BOUNDS, LEX_BOUNDS)
def test_lex_ranges(low: bytes, high: bytes) -> None:
    start, stop = args.lex_range(low, high)
    for member in MEMBERS:
        is_inside = start <= member and (stop is None or member < stop)
        assert is_inside == (is_above(member, low) and is_below(member, high))


@pytest.mark.parametrize("data", [b"", b"a", b"-x", b"+x", b"\0"])
def test_what_is_no_lex_bound(data: bytes) -> None:
    assert error_of(args.lex_range, data, b"+") == errors.LEX_RANGE
    assert error_of(args.lex_range, b"-", data) == errors.LEX_RANGE


def test_numbered_keys() -> None:
    argv = [b"ZINTER", b"2", b"a", b"b", b"WITHSCORES"]
    assert args.keys_after(argv, 1) == [b"a", b"b"]
    assert args.input_keys(argv, 1, b"zinter") == [b"a", b"b"]
    assert error_of(args.keys_after, [b"LMPOP", b"x", b"a"], 1) == errors.NUMKEYS_NOT_POSITIVE
    assert error_of(args.keys_after, [b"LMPOP", b"0", b"a"], 1) == errors.NUMKEYS_NOT_POSITIVE
    assert error_of(args.keys_after, [b"LMPOP", b"2", b"a"], 1) == errors.SYNTAX
    assert (
        error_of(args.keys_after, [b"SINTERCARD", b"2", b"a"], 1, too_many=errors.NUMKEYS_TOO_LARGE)
        == errors.NUMKEYS_TOO_LARGE
    )
    assert error_of(args.input_keys, [b"ZINTER", b"x", b"a"], 1, b"zinter") == errors.NOT_AN_INTEGER
    assert error_of(args.input_keys, [b"ZINTER", b"0", b"a"], 1, b"zinter").message == (
        b"ERR at least 1 input key is needed for 'zinter' command"
    )

"""Numbers as text. The expectations are replies of redis-server, but for the layout of 7.2's doubles."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lamina.server.numbers import (
    INTEGER_MAX,
    INTEGER_MIN,
    format_score,
    parse_double,
    parse_float,
    parse_integer,
)

INTEGERS = [
    (b"0", 0),
    (b"1", 1),
    (b"-1", -1),
    (b"999999999999999999", 10**18 - 1),
    (b"1000000000000000000", 10**18),
    (b"9223372036854775807", INTEGER_MAX),
    (b"-9223372036854775808", INTEGER_MIN),
]
NO_INTEGERS = [
    b"", b"-", b"+1", b"-0", b"00", b"01", b"-01", b" 1", b"1 ", b"1.0", b"1e3", b"1_0", b"0x1", b"1\0",
    b"9223372036854775808", b"-9223372036854775809", b"18446744073709551615", b"1" * 100,
    "١".encode(), "²".encode(), b"\xb2",
]  # fmt: skip

FLOATS = [
    (b"0", 0.0),
    (b"-0", -0.0),
    (b"00012", 12.0),
    (b"+1", 1.0),
    (b"1.", 1.0),
    (b".5", 0.5),
    (b"1.e3", 1000.0),
    (b"1e+5", 100000.0),
    (b"9007199254740993", 9007199254740992.0),
    (b"5e-324", 5e-324),
    (b"0e-999", 0.0),
    (b"0e99999999999999999999", 0.0),
    (b"1" + b"0" * 300, 1e300),
    (b"0x10", 16.0),
    (b"0X1.8P+1", 3.0),
    (b"-0x.8", -0.5),
    (b"0x1p-1074", 5e-324),
    (b"0x0p-99999", 0.0),
    (b"inf", math.inf),
    (b"+INF", math.inf),
    (b"-Infinity", -math.inf),
]
OUT_OF_RANGE = [
    (b"1e400", math.inf),
    (b"-1e400", -math.inf),
    (b"9" * 400, math.inf),
    (b"1e99999999999999999999", math.inf),
    (b"0x1p2000", math.inf),
    (b"-0x1p99999999999999999999", -math.inf),
    (b"1e-400", 0.0),
    (b"2e-324", 0.0),
    (b"0." + b"0" * 400 + b"1", 0.0),
    (b"0x1p-1075", 0.0),
]
NO_FLOATS = [
    b"", b".", b"+", b"-", b"--1", b" 1", b"1 ", b"\t1", b"1\n", b"1\0", b"1_0", b"1,5", "١".encode(),
    b"1e", b"1e+", b"1e0x1", b"1d", b"1f", b"0x", b"0x.", b"0x1p", b"0x1g",
    b"nan", b"-nan", b"NaN", b"nan(123)", b"in", b"infinit",
]  # fmt: skip


@pytest.mark.parametrize(("data", "value"), INTEGERS)
def test_integers(data: bytes, value: int) -> None:
    assert parse_integer(data) == value


@pytest.mark.parametrize("data", NO_INTEGERS)
def test_what_is_no_integer(data: bytes) -> None:
    assert parse_integer(data) is None


@given(st.integers(INTEGER_MIN * 2, INTEGER_MAX * 2))
@example(INTEGER_MAX + 1)
@example(INTEGER_MIN - 1)
def test_an_integer_is_its_own_text(value: int) -> None:
    in_range = INTEGER_MIN <= value <= INTEGER_MAX
    assert parse_integer(b"%d" % value) == (value if in_range else None)


@given(st.binary(max_size=22) | st.text("-+0123456789 ", max_size=22).map(str.encode))
def test_only_canonical_text_is_an_integer(data: bytes) -> None:
    value = parse_integer(data)
    assert value is None or b"%d" % value == data


@pytest.mark.parametrize(("data", "value"), FLOATS)
def test_floats(data: bytes, value: float) -> None:
    for parse in (parse_float, parse_double):
        parsed = parse(data)
        assert parsed == value
        assert parsed is not None
        assert math.copysign(1, parsed) == math.copysign(1, value)


@pytest.mark.parametrize(("data", "limit"), OUT_OF_RANGE)
def test_floats_out_of_range_are_refused_or_taken_to_the_limit(data: bytes, limit: float) -> None:
    assert parse_float(data) is None
    assert parse_double(data) == limit


@pytest.mark.parametrize("data", NO_FLOATS)
def test_what_is_no_float(data: bytes) -> None:
    assert parse_float(data) is None
    assert parse_double(data) is None


SCORES = [
    (0.0, b"0"),
    (-0.0, b"-0"),
    (1.0, b"1"),
    (-17.0, b"-17"),
    (0.1, b"0.1"),
    (-0.5, b"-0.5"),
    (3.0000000000000004, b"3.0000000000000004"),
    (1e15, b"1000000000000000"),
    (1e17, b"100000000000000000"),
    (123456789012345678.0, b"123456789012345680"),
    (2.0**62, b"4611686018427387904"),
    (2.0**62 + 1024, b"4611686018427389000"),
    (1e19, b"1e+19"),
    (1e20, b"1e+20"),
    (12345678901234567890.0, b"12345678901234567000"),
    (-1e300, b"-1e+300"),
    (1.5e300, b"1.5e+300"),
    (123456.123456, b"123456.123456"),
    (123456.1234567, b"1.234561234567e+5"),
    (1672531200.25, b"1672531200.25"),
    (1672531200.1234567, b"1.6725312001234567e+9"),
    (1234.12345678, b"1234.12345678"),
    (0.0001, b"0.0001"),
    (0.00001, b"0.00001"),
    (0.000012, b"0.000012"),
    (1e-7, b"1e-7"),
    (0.0001234567, b"1.234567e-4"),
    (0.001234567, b"0.001234567"),
    (5e-324, b"5e-324"),
    (math.inf, b"inf"),
    (-math.inf, b"-inf"),
    (math.nan, b"nan"),
]


@pytest.mark.parametrize(("value", "text"), SCORES)
def test_scores_are_laid_out_as_in_redis_7_2(value: float, text: bytes) -> None:
    assert format_score(value) == text


@given(st.floats(allow_nan=False))
@example(1e16)
@example(1e23)
@example(2.0**63)
def test_a_score_comes_back(value: float) -> None:
    text = format_score(value)
    assert parse_float(text) == value
    assert len(text) <= 26

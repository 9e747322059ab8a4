"""The arithmetic of INCRBYFLOAT. The expectations are replies of redis-server on x86-64."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.server.longdouble import LongDouble, add_long_doubles, format_long_double, parse_long_double

SUMS = [
    (b"0.1", b"0.2", b"0.3"),
    (b"3.0", b"1.1", b"4.1"),
    (b"5.0e3", b"2.0e2", b"5200"),
    (b"0", b"1e-5", b"0.00001"),
    (b"0", b"3.0000000000000004", b"3.0000000000000004"),
    (b"0", b"9007199254740993", b"9007199254740993"),
    (b"1e17", b"0.05", b"100000000000000000.046875"),
    (b"0", b"-0", b"0"),
    (b"0", b"-1e-18", b"0"),
    (b"0", b"1e-400", b"0"),
    (b"-0x.8", b"0", b"-0.5"),
    (b"18446744073709551615", b"1", b"18446744073709551616"),
    (b"18446744073709551615", b"0.5", b"18446744073709551616"),
    (b"1e20", b"1", b"100000000000000000000"),
    (b"0." + b"1" * 5000, b"0", b"0.11111111111111111"),
    (b"0", b"1e30", b"1000000000000000000024696061952"),
]  # fmt: skip


def parsed(data: bytes) -> LongDouble:
    number = parse_long_double(data)
    assert number is not None
    return number


@pytest.mark.parametrize(("a", "b", "total"), SUMS)
def test_sums(a: bytes, b: bytes, total: bytes) -> None:
    for left, right in ((a, b), (b, a)):
        result = add_long_doubles(parsed(left), parsed(right))
        assert result is not None
        assert format_long_double(result) == total


@pytest.mark.parametrize(
    "data",
    [
        b"", b" 1", b"1 ", b"1\0", b"nan", b"0x", b"1e", b"1_0", b".", b"0." + b"1" * 5118,
        b"1e5000", b"-1e4933", b"1e99999999999", b"0x1p16384", b"0x1p999999999999",
        b"1e-5000", b"1e-99999999999", b"0x1p-16446", b"0x1p-999999999999",
    ],
)  # fmt: skip
def test_what_is_no_number_or_out_of_range(data: bytes) -> None:
    assert parse_long_double(data) is None


def test_infinities_are_numbers_but_not_results() -> None:
    for data in (b"inf", b"+INF", b"-infinity"):
        assert add_long_doubles(parsed(data), parsed(b"1")) is None
    assert add_long_doubles(parsed(b"inf"), parsed(b"-inf")) is None
    assert add_long_doubles(parsed(b"1e4932"), parsed(b"1e4932")) is None


def test_the_largest_and_the_smallest() -> None:
    assert parsed(b"0x1p-16445") == (1, -16445)
    assert parsed(b"0x1.8p-16446") == (1, -16445)
    largest = parsed(b"0x1.fffffffffffffffep16383")
    assert largest == ((1 << 64) - 1, 16384 - 64)
    assert len(format_long_double(largest)) == 4933


def value_of(number: LongDouble) -> Fraction:
    mantissa, scale = number
    return Fraction(mantissa) * Fraction(2) ** scale


DECIMALS = st.tuples(
    st.integers(-(10**30), 10**30), st.integers(-30, 30)
).map(lambda parts: b"%de%d" % parts)  # fmt: skip


@given(DECIMALS)
def test_parsing_rounds_to_the_nearest(data: bytes) -> None:
    exact = Fraction(data.decode())
    mantissa, scale = parsed(data)
    assert abs(mantissa) < 1 << 64
    error = abs(value_of((mantissa, scale)) - exact)
    assert error <= Fraction(2) ** scale / 2
    if error == Fraction(2) ** scale / 2:
        assert mantissa % 2 == 0


@given(DECIMALS, DECIMALS)
def test_a_sum_is_exact_but_for_one_rounding(a: bytes, b: bytes) -> None:
    x, y = parsed(a), parsed(b)
    total = add_long_doubles(x, y)
    assert total is not None
    exact = value_of(x) + value_of(y)
    if exact:
        assert abs(value_of(total) - exact) <= abs(exact) / (1 << 64)
    else:
        assert total[0] == 0


@given(DECIMALS)
def test_text_has_17_decimals_and_no_zeros_to_spare(data: bytes) -> None:
    number = parsed(data)
    text = format_long_double(number)
    assert abs(Fraction(text.decode()) - value_of(number)) <= Fraction(1, 2 * 10**17)
    assert text == b"0" or not text.startswith(b"-0") or b"." in text
    if b"." in text:
        assert not text.endswith((b"0", b"."))

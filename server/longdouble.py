"""The arithmetic of INCRBYFLOAT and HINCRBYFLOAT: C's `long double`, 64 bits of mantissa, on integers.

A number is a pair: an integer of at most 64 bits and the power of two it is scaled by. All operations are
exact, then rounded once, half to even, as the x87 does; so sums come out as Redis's, to the last digit.

    0.1 is (14757395258967641293, -67), and 0.1 + 0.2 is 0.3

A result is written with 17 decimals, trailing zeros removed.
"""

from __future__ import annotations

import re

LongDouble = tuple[int, int]

TEXT_SIZE_MAX = 5 * 1024
"""Redis copies a number into a buffer of this size, its end included; longer ones are refused."""

_MANTISSA_BITS = 64
_EXPONENT_MIN = -16445  # the scale of the smallest subnormal
_EXPONENT_MAX = 16384  # numbers are below 2 ** this
_INFINITE = 1 << 20
"""The scale of infinities: (1, _INFINITE) and (-1, _INFINITE)."""

_TENTHS = 17
_DECIMALS = 10**_TENTHS
_DECIMAL_EXPONENT_MAX = 4940
_DECIMAL_EXPONENT_MIN = -4970

# CPython refuses to convert more than 4300 digits at once.
_CHUNK_DIGITS = 4000
_CHUNK = 10**_CHUNK_DIGITS

_match_decimal = re.compile(rb"([+-]?)(?:([0-9]+)\.?([0-9]*)|\.([0-9]+))(?:[eE]([+-]?[0-9]+))?").fullmatch
_match_hexadecimal = re.compile(
    rb"([+-]?)0[xX](?:([0-9a-fA-F]+)\.?([0-9a-fA-F]*)|\.([0-9a-fA-F]+))(?:[pP]([+-]?[0-9]+))?"
).fullmatch
_is_infinity = re.compile(rb"[+-]?inf(?:inity)?", re.IGNORECASE).fullmatch


def parse_long_double(data: bytes) -> LongDouble | None:
    """Return the number that `data` is, which may be infinite; None if none or out of range. Cost: 1.5 µs."""
    if len(data) >= TEXT_SIZE_MAX:
        return None
    match = _match_decimal(data)
    if match is not None:
        return _parse_decimal(*match.groups(b""))
    match = _match_hexadecimal(data)
    if match is not None:
        return _parse_hexadecimal(*match.groups(b""))
    if _is_infinity(data):
        return (-1 if data[:1] == b"-" else 1, _INFINITE)
    return None


def add_long_doubles(a: LongDouble, b: LongDouble) -> LongDouble | None:
    """Return the rounded sum, or None if it is infinite or not a number. Cost: 1 µs."""
    (x, x_scale), (y, y_scale) = a, b
    if x_scale == _INFINITE or y_scale == _INFINITE:
        return None
    scale = min(x_scale, y_scale)
    total = (x << (x_scale - scale)) + (y << (y_scale - scale))
    if scale >= 0:
        return _round(total << scale, 1)
    return _round(total, 1 << -scale)


def format_long_double(number: LongDouble) -> bytes:
    """Return a finite number with 17 decimals, less the zeros at the end. Cost: 1 µs."""
    mantissa, scale = number
    units = abs(mantissa) * _DECIMALS
    if scale >= 0:
        units <<= scale
    else:
        units = _divide_half_even(units, 1 << -scale)
    whole, fraction = divmod(units, _DECIMALS)
    text = _digits(whole)
    if fraction:
        text += f".{fraction:017d}".rstrip("0")
    if mantissa < 0 and units:
        text = "-" + text
    return text.encode()


def _parse_decimal(
    sign: bytes, whole: bytes, decimals: bytes, only_decimals: bytes, exponent_text: bytes
) -> LongDouble | None:
    decimals = decimals or only_decimals
    digits = (whole + decimals).lstrip(b"0")
    if not digits:
        return (0, 0)
    exponent = int(exponent_text or b"0")
    # Bounds first: 10 ** exponent may be too large to compute.
    magnitude = exponent + len(digits) - len(decimals)
    if not _DECIMAL_EXPONENT_MIN <= magnitude <= _DECIMAL_EXPONENT_MAX:
        return None
    number = _integer(digits)
    exponent -= len(decimals)
    if sign == b"-":
        number = -number
    rounded = _round(number * 10**exponent, 1) if exponent >= 0 else _round(number, 10**-exponent)
    return rounded if rounded is not None and rounded[0] else None


def _parse_hexadecimal(
    sign: bytes, whole: bytes, decimals: bytes, only_decimals: bytes, exponent_text: bytes
) -> LongDouble | None:
    decimals = decimals or only_decimals
    number = int(whole + decimals, 16)
    if not number:
        return (0, 0)
    exponent = int(exponent_text or b"0") - 4 * len(decimals)
    if not _EXPONENT_MIN - 2 <= exponent + number.bit_length() <= _EXPONENT_MAX + 2:
        return None
    if sign == b"-":
        number = -number
    rounded = _round(number << exponent, 1) if exponent >= 0 else _round(number, 1 << -exponent)
    return rounded if rounded is not None and rounded[0] else None


def _round(numerator: int, denominator: int) -> LongDouble | None:
    """Return numerator / denominator with 64 bits, or None if it is beyond the largest number."""
    magnitude = abs(numerator)
    # The quotient gets 64 or 65 bits, fewer if it is subnormal.
    scale = max(magnitude.bit_length() - denominator.bit_length() - _MANTISSA_BITS, _EXPONENT_MIN)
    if scale >= 0:
        denominator <<= scale
    else:
        magnitude <<= -scale
    mantissa = _divide_half_even(magnitude, denominator)
    if mantissa.bit_length() > _MANTISSA_BITS:
        # Once more from the beginning: to round 65 bits to 64 would be to round twice.
        mantissa = _divide_half_even(magnitude, denominator << 1)
        scale += 1
    if mantissa.bit_length() + scale > _EXPONENT_MAX:
        return None
    return (-mantissa if numerator < 0 else mantissa, scale)


def _divide_half_even(numerator: int, denominator: int) -> int:
    quotient, remainder = divmod(numerator, denominator)
    doubled = 2 * remainder
    if doubled > denominator or (doubled == denominator and quotient & 1):
        quotient += 1
    return quotient


def _integer(digits: bytes) -> int:
    number = 0
    for start in range(0, len(digits), _CHUNK_DIGITS):
        chunk = digits[start : start + _CHUNK_DIGITS]
        number = number * 10 ** len(chunk) + int(chunk)
    return number


def _digits(number: int) -> str:
    if number < _CHUNK:
        return str(number)
    high, low = divmod(number, _CHUNK)
    return str(high) + str(low).zfill(_CHUNK_DIGITS)

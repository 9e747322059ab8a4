"""Redis's numbers as text: which byte strings are integers or floats, and how scores are written.

    integer     -?[1-9][0-9]* or 0, within 64 bits, signed; no plus, no spaces, no leading zeros
    float       what C's strtod takes whole: decimal or hexadecimal, with exponent, inf or infinity; never
                nan. One too large or too close to zero for a double is refused, a subnormal is not
    score       the shortest digits that give the double back, laid out as Redis 7.2 does

INCRBYFLOAT computes with more digits than a double has: that is `longdouble.py`.
"""

from __future__ import annotations

import re
from math import inf

INTEGER_MIN = -(1 << 63)
INTEGER_MAX = (1 << 63) - 1

_is_integer = re.compile(rb"-?[1-9][0-9]{0,18}").fullmatch
_is_decimal = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?").fullmatch
_is_hexadecimal = re.compile(
    rb"[+-]?0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)(?:[pP][+-]?[0-9]+)?"
).fullmatch
_is_decimal_zero = re.compile(rb"[+-]?[0.]+(?:[eE].*)?").fullmatch
_is_hexadecimal_zero = re.compile(rb"[+-]?0[xX][0.]+(?:[pP].*)?").fullmatch
_INFINITIES = {
    sign + word: -inf if sign == b"-" else inf for sign in (b"", b"+", b"-") for word in (b"inf", b"infinity")
}

_EXACT_MAX = 1 << 62
"""Scores up to here that are whole are written as integers, beyond by their shortest digits."""


def parse_integer(data: bytes) -> int | None:
    """Return the integer that `data` is in Redis's eyes, or None. Cost: 0.13 µs, negative 0.26."""
    if data.isdigit() and len(data) < 19:
        # ASCII digits only: bytes.isdigit knows no others.
        if data[0] != 0x30 or len(data) == 1:
            return int(data)
        return None
    if _is_integer(data) is None:
        return None
    value = int(data)
    return value if INTEGER_MIN <= value <= INTEGER_MAX else None


def parse_float(data: bytes) -> float | None:
    """Return the double that `data` is in Redis's eyes, or None. Cost: 0.13 µs for digits, else 0.35."""
    value = float(data) if data.isdigit() else parse_double(data)
    if value is None:
        return None
    if value in (inf, -inf):
        return value if data.lower() in _INFINITIES else None
    if value == 0.0 and _is_decimal_zero(data) is None and _is_hexadecimal_zero(data) is None:
        return None
    return value


def parse_double(data: bytes) -> float | None:
    """Return what strtod makes of all of `data`: too large is infinite, too small is zero; None for nan."""
    if _is_decimal(data):
        return float(data)
    if _is_hexadecimal(data):
        try:
            return float.fromhex(data.decode())
        except OverflowError:
            return -inf if data[:1] == b"-" else inf
    return _INFINITIES.get(data.lower())


def format_score(value: float) -> bytes:
    """Return a score, or any double, as Redis 7.2 replies it. Cost: 0.2 µs for whole numbers, else 0.4.

    As in 7.2, and unlike 7.0: 0.1 and not 0.10000000000000001, but 1.23456712345678e+6 where the decimals are
    many and the number is not small.
    """
    if -_EXACT_MAX <= value <= _EXACT_MAX and value.is_integer():
        if value == 0.0 and str(value) == "-0.0":
            return b"-0"
        return b"%d" % value
    text = repr(value)
    if "e" not in text:
        decimals = len(text) - text.find(".") - 1
        if decimals < 7 or 1e-3 <= value < 1e4 or 1e-3 <= -value < 1e4:
            return text.encode()
    if not -inf < value < inf:
        return text.encode()
    return _lay_out(text).encode()


def _lay_out(text: str) -> str:
    """Return repr's digits in the layout of 7.2: where the point goes, and when an exponent is used."""
    sign = "-" if text[0] == "-" else ""
    mantissa, _, exponent = text.removeprefix("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    scale = int(exponent or 0) - len(fraction)
    digits = (whole + fraction).lstrip("0")
    kept = digits.rstrip("0")
    scale += len(digits) - len(kept)
    magnitude = scale + len(kept) - 1  # value = d.ddd * 10 ** magnitude = kept * 10 ** scale
    if 0 <= scale < 8:
        return sign + kept + "0" * scale
    if scale < 0 and (scale > -7 or abs(magnitude) < 4):
        padded = kept.rjust(1 - scale, "0")
        return f"{sign}{padded[:scale]}.{padded[scale:]}"
    point = "." if len(kept) > 1 else ""
    return f"{sign}{kept[0]}{point}{kept[1:]}e{magnitude:+d}"

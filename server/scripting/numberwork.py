"""What the Lua libraries have done in Python: integers of 32 bits as BitOp has them, and floats as bytes.

All arguments are numbers that Lua has checked. Results are exact doubles.
"""

from __future__ import annotations

import math
import struct
from typing import Final

from lamina.server.numbers import format_score

_DOUBLE: Final = struct.Struct("<d")
_FLOAT: Final = struct.Struct("<f")
_INT32: Final = struct.Struct("<i")
_UINT32: Final = struct.Struct("<I")

_TO_LOW_BITS: Final = 6755399441055744.0
"""1.5 * 2^52: what is added to it has its integer in the double's lowest bits, rounded to even."""

_WHOLE_MAX: Final = 1 << 51
_MASK: Final = 0xFFFFFFFF
_TOHEX_DIGITS_MAX: Final = 8
_INTEGER_MAX: Final = 1 << 62
"""Below, Redis writes a whole number as an integer."""


def _unsigned(number: float) -> int:
    if -_WHOLE_MAX < number < _WHOLE_MAX and number == (whole := int(number)):
        return whole & _MASK
    low: int = _UINT32.unpack_from(_DOUBLE.pack(number + _TO_LOW_BITS))[0]
    return low


def _signed(number: int) -> int:
    number &= _MASK
    return number - (1 << 32) if number & 0x80000000 else number


def bit_tobit(x: float) -> int:
    """Return the lowest 32 bits as a signed integer."""
    return _signed(_unsigned(x))


def bit_bnot(x: float) -> int:
    """Return all bits inverted."""
    return _signed(~_unsigned(x))


def bit_bswap(x: float) -> int:
    """Return the bytes in the opposite order."""
    swapped: int = _INT32.unpack(_UINT32.pack(_unsigned(x))[::-1])[0]
    return swapped


def bit_band(a: float, b: float) -> int:
    """Return the bits that both have."""
    return _signed(_unsigned(a) & _unsigned(b))


def bit_bor(a: float, b: float) -> int:
    """Return the bits that one of them has."""
    return _signed(_unsigned(a) | _unsigned(b))


def bit_bxor(a: float, b: float) -> int:
    """Return the bits that one of them has and the other has not."""
    return _signed(_unsigned(a) ^ _unsigned(b))


def bit_lshift(x: float, n: float) -> int:
    """Shift to the left; the lowest five bits of `n` count."""
    return _signed(_unsigned(x) << (_unsigned(n) & 31))


def bit_rshift(x: float, n: float) -> int:
    """Shift to the right, zeros come in."""
    return _signed(_unsigned(x) >> (_unsigned(n) & 31))


def bit_arshift(x: float, n: float) -> int:
    """Shift to the right, the sign comes in."""
    return _signed(bit_tobit(x) >> (_unsigned(n) & 31))


def bit_rol(x: float, n: float) -> int:
    """Rotate to the left."""
    bits, count = _unsigned(x), _unsigned(n) & 31
    return _signed(bits << count | bits >> (32 - count))


def bit_ror(x: float, n: float) -> int:
    """Rotate to the right."""
    bits, count = _unsigned(x), _unsigned(n) & 31
    return _signed(bits >> count | bits << (32 - count))


def bit_tohex(x: float, digits: float) -> bytes:
    """Return the last digits in hexadecimal; if their number is negative, in capitals."""
    count = bit_tobit(digits)
    text = b"%08X" % _unsigned(x) if count < 0 else b"%08x" % _unsigned(x)
    return text[_TOHEX_DIGITS_MAX - min(abs(count), _TOHEX_DIGITS_MAX) :]


def pack_float(x: float) -> bytes:
    """Return a float of 32 bits, little-endian. What is too large becomes infinite, as in C."""
    try:
        return _FLOAT.pack(x)
    except OverflowError:
        return _FLOAT.pack(math.copysign(math.inf, x))


def pack_double(x: float) -> bytes:
    """Return a double, little-endian."""
    return _DOUBLE.pack(x)


def unpack_float(data: bytes) -> float:
    """Return the number in 4 bytes."""
    value: float = _FLOAT.unpack(data)[0]
    return value


def unpack_double(data: bytes) -> float:
    """Return the number in 8 bytes."""
    value: float = _DOUBLE.unpack(data)[0]
    return value


def format_double(x: float) -> bytes:
    """Return a double as replies show it."""
    return format_score(float(x))


def argument(number: float) -> bytes:
    """Return a number as a command's argument, as Redis 7.2 writes it: 0.1, not 0.10000000000000001."""
    if -_INTEGER_MAX < number < _INTEGER_MAX and number == int(number):
        return b"%d" % number
    return format_score(float(number))


FUNCTIONS: Final = (
    bit_tobit,
    bit_bnot,
    bit_bswap,
    bit_band,
    bit_bor,
    bit_bxor,
    bit_lshift,
    bit_rshift,
    bit_arshift,
    bit_rol,
    bit_ror,
    bit_tohex,
    pack_float,
    pack_double,
    unpack_float,
    unpack_double,
    format_double,
    argument,
)
"""All of them: what Lua finds under their names."""

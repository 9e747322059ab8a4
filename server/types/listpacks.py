"""How large a list would be as a listpack, Redis's form of short lists.

Lamina stores lists in its own way, but OBJECT ENCODING is asked and list-max-listpack-size is tuned, so a
list has the encoding that Redis would have chosen. Sizes are bytes, as Redis counts them: a header and an
end, and for each element its encoding with its length behind it. Integers are stored as such.
"""

from __future__ import annotations

from typing import Final

from lamina.server.limits import LIMITS
from lamina.server.numbers import parse_integer

EMPTY_BYTES: Final = 7
"""A listpack without elements."""

_NODE_BYTES: Final = (65536, 32768, 16384, 8192, 4096)
"""What a node may take, by list-max-listpack-size from -5 to -1: it is the index."""

_COUNTED_NODE_BYTES: Final = 8192
"""What a node may take if list-max-listpack-size limits the number of its elements."""

_ELEMENT_BYTES_MIN: Final = 2
_DIGITS_MAX: Final = 20

LAST_DIGIT: Final = ord("9")
"""What begins above it is no number."""


def packed_size(value: bytes) -> int:
    """Return the bytes that a value takes in a listpack."""
    size = len(value)
    if 0 < size <= _DIGITS_MAX and value[0] <= LAST_DIGIT:
        number = parse_integer(value)
        if number is not None:
            return _packed_integer_size(number)
    if size < 64:
        return size + 2
    entry = size + (2 if size < 4096 else 5)
    # The length stands behind the entry once more, 7 bits in a byte; Redis leaves out the largest number of
    # two bytes and more.
    return entry + ((entry + (entry > 127)).bit_length() + 6) // 7


def _packed_integer_size(number: int) -> int:
    if 0 <= number < 128:
        return 2
    if -4096 <= number < 4096:
        return 3
    bits = (number if number >= 0 else ~number).bit_length() + 1
    return 4 if bits <= 16 else 5 if bits <= 24 else 6 if bits <= 32 else 10


def total_size(values: list[bytes]) -> int:
    """Return the bytes of a listpack of these values."""
    return EMPTY_BYTES + sum(map(packed_size, values))


def is_too_large(packed_bytes: int, size: int) -> bool:
    """Tell whether a listpack of so many bytes and elements would no longer be one node."""
    limit = LIMITS.list_max_listpack_size
    if limit < 0:
        return packed_bytes > _NODE_BYTES[-1] and packed_bytes > _NODE_BYTES[max(limit, -5)]
    return size > (limit or 1) or packed_bytes > _COUNTED_NODE_BYTES


def fits_in_half(packed_bytes: int, size: int) -> bool:
    """Tell whether half a node would do, so that a quicklist becomes a listpack again."""
    limit = LIMITS.list_max_listpack_size
    if limit < 0:
        return packed_bytes <= _NODE_BYTES[max(limit, -5)] >> 1
    return size <= (limit or 1) >> 1


def half_size_max() -> int:
    """Return how many elements may fit into half a node, at most."""
    limit = LIMITS.list_max_listpack_size
    return (limit or 1) >> 1 if limit >= 0 else (_NODE_BYTES[max(limit, -5)] >> 1) // _ELEMENT_BYTES_MIN

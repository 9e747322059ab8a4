"""The keys of a list's elements: positions, and room between them.

    position:u64, biased so that a list begins in the middle    [suffix, whose last byte is not 0]

Elements that are pushed get positions of their own, without a suffix. One that is squeezed in between two
others gets a key between theirs: keys are read as fractions in base 256, and there is always room in more
digits. Two rules keep them short. Where elements are inserted one after the other at the same place, which
the last inserted key tells, the new key stands close to that neighbour and leaves nearly all the room to the
next; otherwise it halves the room. So a digit lasts for 8 inserts at worst and for more than a thousand
mostly. When a suffix would become longer than `SUFFIX_SIZE_MAX` all the same, the elements around it are
spread out anew (`spread`).

A suffix never ends in 0, for between a key and the same key with zeros behind it there is no room.
"""

from __future__ import annotations

from typing import Final

from lamina.server.encoding import U64

MIDDLE: Final = 1 << 63
"""The position at which lists begin."""

POSITION_SIZE: Final = U64.size

SUFFIX_SIZE_MAX: Final = 32
"""Bytes of a suffix above which a neighbourhood is spread out anew."""

SPREAD_SUFFIX_SIZE_MAX: Final = 8
"""Bytes of the longest suffix that spreading may give: else the neighbourhood was too small."""

_LEAN_SHIFT: Final = 8
_SPREAD_ROOM: Final = 1 << 10
"""Keys that fit between two neighbours after spreading."""


def position_of(key: bytes) -> int:
    """Return the position in an element's key."""
    (position,) = U64.unpack_from(key)
    return position  # type: ignore[no-any-return]


def between(low: bytes, high: bytes, last: bytes) -> bytes:
    """Return a key with ``low < key < high``. `last` is the key that was squeezed in before this one."""
    size = max(len(low), len(high))
    first, gap = _gap(low, high, size)
    if last in (low, high):
        while gap >> _LEAN_SHIFT < 2:
            size += 1
            first <<= 8
            gap <<= 8
        step = gap >> _LEAN_SHIFT
        return _key(first + (step if last == low else gap - step), size)
    if gap < 2:
        size += 1
        first <<= 8
        gap <<= 8
    return _key(first + (gap >> 1), size)


def spread(low: bytes, high: bytes, count: int) -> list[bytes]:
    """Return `count` keys between two, in order and evenly far from each other."""
    size = max(len(low), len(high))
    first, gap = _gap(low, high, size)
    while gap < (count + 1) * _SPREAD_ROOM:
        size += 1
        first <<= 8
        gap <<= 8
    step = gap // (count + 1)
    return [_key(first + step * i, size) for i in range(1, count + 1)]


def _gap(low: bytes, high: bytes, size: int) -> tuple[int, int]:
    """Return the lower key as a number of `size` digits, and how far it is to the higher one."""
    first = int.from_bytes(low.ljust(size, b"\0"), "big")
    gap = int.from_bytes(high.ljust(size, b"\0"), "big") - first
    assert gap > 0, (low, high)
    return first, gap


def _key(number: int, size: int) -> bytes:
    # A position may end in zeros: there the shorter key comes first, as the smaller number does.
    key = number.to_bytes(size, "big")
    return key[:POSITION_SIZE] + key[POSITION_SIZE:].rstrip(b"\0")

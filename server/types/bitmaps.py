"""Bitmaps: strings seen as bits. Bit 0 is the highest bit of the first byte, as in Redis.

Nothing here goes bit by bit. What is counted or searched are pieces of a string, as they are stored, by loops
of C: a count is that of one long integer's bits, a search is that for the first byte which is not all zeros
(or all ones). Chunks of a big string that are missing are zeros: they are passed over, and never made.
"""

from __future__ import annotations

from collections.abc import Iterator

from lamina.server import events
from lamina.server.keyspace import Keyspace, Value
from lamina.server.records import BigString
from lamina.server.types import bigstrings, strings


def get_bit(keyspace: Keyspace, key: bytes, offset: int) -> int:
    """Return a bit of the string at `key`, 0 behind its end; counted as a hit or miss. Errors: WRONGTYPE."""
    value = keyspace.read(key)
    if value is None:
        return 0
    return byte_at(keyspace, value, offset >> 3) >> (7 - (offset & 7)) & 1


def set_bit(keyspace: Keyspace, key: bytes, offset: int, bit: int) -> int:
    """Set a bit of the string at `key`, which grows if it has to; returns the bit that was there.

    Errors: WRONGTYPE. Cost: that of a small string's bytes, or of one chunk, however large the offset.
    """
    value = keyspace.find(key)
    place, shift = offset >> 3, 7 - (offset & 7)
    if value is None:
        byte = size = 0
    else:
        byte, size = byte_at(keyspace, value, place), strings.size_of(value)
    old = byte >> shift & 1
    if old != bit or place >= size:
        strings.overwrite(keyspace, key, value, place, bytes((byte ^ (old ^ bit) << shift,)))
        if keyspace.listens:
            keyspace.event(events.STRING, b"setbit", key)
    return old


def byte_at(keyspace: Keyspace, value: Value, position: int) -> int:
    """Return a byte of a string, 0 behind its end. Errors: WRONGTYPE."""
    if isinstance(value, BigString):
        return bigstrings.byte_at(keyspace, value, position)
    text = strings.text_of(keyspace, value)
    return text[position] if position < len(text) else 0


def pieces(keyspace: Keyspace, value: Value, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
    """Yield what is stored of the bytes ``start <= position < stop`` of a string, each piece behind its
    position; between them are zeros. Errors: WRONGTYPE."""
    if isinstance(value, BigString):
        yield from bigstrings.pieces(keyspace, value, start, stop)
    elif text := strings.text_of(keyspace, value)[start:stop]:
        yield start, text


def count(keyspace: Keyspace, value: Value, first: int, last: int) -> int:
    """Return how many bits are set from bit `first` to bit `last` of a string, both in it.

    Cost: 1.5 µs for a KB that is stored.
    """
    start, end = first >> 3, last >> 3
    found = 0
    for _, piece in pieces(keyspace, value, start, end + 1):
        found += int.from_bytes(piece, "little").bit_count()
    # What the first and the last byte have outside of the range was counted too.
    before, behind = first & 7, 7 - (last & 7)
    if before:
        found -= (byte_at(keyspace, value, start) >> (8 - before)).bit_count()
    if behind:
        found -= (byte_at(keyspace, value, end) & (1 << behind) - 1).bit_count()
    return found


def find(keyspace: Keyspace, value: Value, bit: int, first: int, last: int) -> int:
    """Return the position of the first bit that is `bit`, from bit `first` to bit `last` of a string, both
    in it; -1 if there is none. Cost: that of the pieces before it."""
    found = _find(keyspace, value, bit, first, last)
    return found if found <= last else -1


def _find(keyspace: Keyspace, value: Value, bit: int, first: int, last: int) -> int:
    """Return where the bit is, or a position behind `last`."""
    start, stop = first >> 3, (last >> 3) + 1
    flip = 0 if bit else 0xFF
    if first & 7:
        byte = (byte_at(keyspace, value, start) ^ flip) & 0xFF >> (first & 7)
        if byte:
            return start * 8 + 8 - byte.bit_length()
        start += 1
    filler = b"\0" if bit else b"\xff"
    at = start
    for begin, piece in pieces(keyspace, value, start, stop):
        if not bit and begin > at:
            return at * 8  # zeros that nobody has written
        rest = piece.lstrip(filler)
        if rest:
            return (begin + len(piece) - len(rest)) * 8 + 8 - (rest[0] ^ flip).bit_length()
        at = begin + len(piece)
    return at * 8 if not bit and at < stop else last + 1

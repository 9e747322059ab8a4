"""LZF, the compression of strings in RDB files.

A compressed string is a row of tokens:

    000nnnnn                      n + 1 bytes follow as they are
    nnnooooo oooooooo             copy n + 2 bytes from o + 1 bytes back, n = 1..6
    111ooooo nnnnnnnn oooooooo    the same with n + 9 bytes

so at most 264 bytes come of three, and nothing reaches back further than 8 KiB. What is copied may overlap
with what it makes: a run of one byte is a literal and a copy from one byte back.

Decompressing takes one step per token (about 0.3 µs: 20 to 300 MB/s of output). Compressing looks for matches
with lz4's C code, in windows of 8 KiB so that its offsets fit, and rewrites its sequences as tokens.
"""

from __future__ import annotations

from typing import Final

import lz4.block

from lamina.server.rdb.errors import RdbError

EXPANSION_MAX: Final = 88
"""Bytes that come of one, at most: 264 of 3."""

_WINDOW_BYTES: Final = 8192
_COPY_MAX: Final = 264
_COPY_MIN: Final = 3
_LITERALS_MAX: Final = 32

_LITERAL_HEADS: Final = tuple(bytes((count - 1,)) for count in range(1, _LITERALS_MAX + 1))


def decompress(data: bytes, size: int, offset: int) -> bytes:
    """Return the `size` bytes that `data` stands for; `offset` is what errors tell.

    The output never grows past `size` by more than one token, whatever `data` says.
    """
    if size > len(data) * EXPANSION_MAX:
        raise RdbError(offset, f"LZF: {len(data)} bytes cannot stand for {size}")
    out = bytearray()
    at = 0
    end = len(data)
    filled = 0
    try:
        while at < end:
            control = data[at]
            if control < 32:
                stop = at + control + 2
                if stop > end:
                    raise RdbError(offset, "LZF: cut off within a literal")
                out += data[at + 1 : stop]
                filled += control + 1
                at = stop
            else:
                count = (control >> 5) + 2
                if count == 9:
                    at += 1
                    count += data[at]
                at += 2
                start = filled - ((control & 31) << 8) - data[at - 1] - 1
                if start < 0:
                    raise RdbError(offset, "LZF: a copy from before the start")
                if start + count <= filled:
                    out += out[start : start + count]
                else:
                    period = out[start:]
                    out += (period * (count // len(period) + 1))[:count]
                filled += count
            if filled > size:
                break
    except IndexError:
        raise RdbError(offset, "LZF: cut off within a copy") from None
    if filled != size:
        raise RdbError(offset, f"LZF: the length is not {size}")
    return bytes(out)


def compress(data: bytes) -> bytes | None:
    """Return `data` compressed, or None where that would not make it at least four bytes shorter."""
    out: list[bytes] = []
    for start in range(0, len(data), _WINDOW_BYTES):
        window = data[start : start + _WINDOW_BYTES]
        _rewrite(lz4.block.compress(window, store_size=False), window, out)
    compressed = b"".join(out)
    # The room that Redis gives its compressor: less of a gain is not worth the bytes that announce it.
    return compressed if len(compressed) <= len(data) - 4 else None


def _rewrite(block: bytes, window: bytes, out: list[bytes]) -> None:
    """Add to `out` the tokens for an lz4 block, which is what `window` was compressed to.

    A sequence of lz4: literals:4 copy:4 bits, more length bytes where a count is 15, the literals, the
    distance:u16le, more length bytes of the copy. The last one is of literals only.
    """
    at = 0
    end = len(block)
    done = 0
    while at < end:
        token = block[at]
        at += 1
        literals = token >> 4
        if literals == 15:
            more = 255
            while more == 255:
                more = block[at]
                literals += more
                at += 1
        at += literals
        stop = done + literals
        while done < stop:
            count = min(stop - done, _LITERALS_MAX)
            out.append(_LITERAL_HEADS[count - 1])
            out.append(window[done : done + count])
            done += count
        if at >= end:
            break
        distance = block[at] + (block[at + 1] << 8) - 1
        at += 2
        count = (token & 15) + 4
        if count == 19:
            more = 255
            while more == 255:
                more = block[at]
                count += more
                at += 1
        done += count
        _copy(distance, count, out)


def _copy(distance: int, count: int, out: list[bytes]) -> None:
    """Add the tokens that copy `count` bytes; `distance` is one less than the way back."""
    high = distance >> 8
    low = distance & 0xFF
    while count:
        # The last token must have enough to copy as well.
        step = count if count <= _COPY_MAX else min(_COPY_MAX, count - _COPY_MIN)
        if step < 9:
            out.append(bytes(((step - 2) << 5 | high, low)))
        else:
            out.append(bytes((0xE0 | high, step - 9, low)))
        count -= step

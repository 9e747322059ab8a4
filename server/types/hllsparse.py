"""The sparse form of a HyperLogLog: runs of equal registers, from the first register to the last.

    00nnnnnn             n + 1 zeros, up to 64
    01nnnnnn nnnnnnnn    n + 1 zeros, up to 16384
    1vvvvvnn             n + 1 registers of value v + 1: up to 4, up to 32

Redis makes runs in a certain way, and a string made here has the same bytes: a run in which a register
changes is split, with the short form for up to 64 zeros; then runs of the same value side by side are joined,
as long as they fit in one, among the five that begin with the run before.

`Runs` is such a string while it is changed. To find the run of a register takes a search and not a walk:
beside the bytes lie the first registers of their runs. That costs a walk when it is made, so those made last
are remembered, and are good for a string that has the same bytes.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final

from lamina.server.types.hllregisters import COUNT

VALUE_MAX: Final = 32

_ZEROS_MAX: Final = 64
_LONG: Final = 0x40
_VALUED: Final = 0x80
_VALUES_MAX: Final = 4
_JOINED_AMONG: Final = 5

_REMEMBERED_MAX: Final = 64
_REMEMBERED_SIZE_MAX: Final = 16 * 1024
_remembered: dict[bytes, Runs] = {}
"""Runs that were looked at last, by what the caller names them: 64 at most, of some KB each."""

EMPTY: Final = bytes((_LONG | (COUNT - 1) >> 8, (COUNT - 1) & 255))
"""All registers are zero."""


def _zeros(count: int) -> bytes:
    """Return a run of zeros; of none, nothing."""
    if count > _ZEROS_MAX:
        return bytes((_LONG | (count - 1) >> 8, (count - 1) & 255))
    return bytes((count - 1,)) if count else b""


def _values(value: int, count: int) -> bytes:
    """Return a run of a value; of none, nothing."""
    return bytes((_VALUED | value - 1 << 2 | count - 1,)) if count else b""


def walk(text: bytes) -> Iterator[tuple[int, int]]:
    """Yield the runs of a string: values, and counts, which are negative for runs in the long form."""
    at = 0
    size = len(text)
    while at < size:
        byte = text[at]
        at += 1
        if byte & _VALUED:
            yield (byte >> 2 & 31) + 1, (byte & 3) + 1
        elif not byte & _LONG:
            yield 0, byte + 1
        else:
            low = text[at] if at < size else 0
            yield 0, -(((byte & 63) << 8 | low) + 1)
            at += 1


def _checked(text: bytes) -> list[tuple[int, int]] | None:
    """Return the runs of a string, as values and counts; None if they are not exactly all registers."""
    runs: list[tuple[int, int]] = []
    total = 0
    for value, count in walk(text):
        total += abs(count)
        if total > COUNT:
            return None
        runs.append((value, abs(count)))
    return runs if total == COUNT else None


def unpack(text: bytes) -> bytes | None:
    """Return the registers, a byte each; None if the runs are not exactly all of them."""
    runs = _checked(text)
    if runs is None:
        return None
    return b"".join([bytes((value,)) * count for value, count in runs])


def histogram(text: bytes) -> list[int] | None:
    """Return how many registers have each value; None if the runs are not exactly all of them."""
    runs = _checked(text)
    if runs is None:
        return None
    counts = [0] * 64
    for value, count in runs:
        counts[value] += count
    return counts


class Runs:
    """The runs of a string. `size` is how many bytes they take."""

    __slots__ = ("_firsts", "_text")

    def __init__(self, text: bytes) -> None:
        self._text = bytearray(text)
        self._firsts = _firsts_of(text)
        """For each byte the first register of its run; COUNT where there is none any more."""

    @classmethod
    def of(cls, name: bytes, text: bytes) -> Runs:
        """Return the runs of a string; those remembered under `name`, if they are the same."""
        found = _remembered.pop(name, None)
        return found if found is not None and found._text == text else cls(text)

    def remember(self, name: bytes) -> None:
        """Keep the runs for the next time."""
        if len(self._text) <= _REMEMBERED_SIZE_MAX:
            if len(_remembered) >= _REMEMBERED_MAX:
                del _remembered[next(iter(_remembered))]
            _remembered[name] = self

    def text(self) -> bytes:
        """Return the string."""
        return bytes(self._text)

    def put(self, index: int, value: int, size_max: int) -> bool | None:
        """Raise a register to `value`, which is 1 to 32; tells whether it was lower.

        None, and nothing has changed, if it takes more bytes and there would be more than `size_max`.
        Errors: ValueError, if the string is damaged and has no such register. Cost: 1 µs, 3 for a change.
        """
        text, firsts = self._text, self._firsts
        if not firsts:
            raise ValueError("no runs")
        at = bisect_left(firsts, firsts[bisect_right(firsts, index) - 1])
        first = firsts[at]
        byte = text[at]
        old = 0
        width = 1
        if byte & _VALUED:
            old, count = (byte >> 2 & 31) + 1, (byte & 3) + 1
        elif not byte & _LONG:
            count = byte + 1
        else:
            low = text[at + 1] if at + 1 < len(text) else 0
            count, width = ((byte & 63) << 8 | low) + 1, 2
        before, behind = index - first, first + count - 1 - index
        if behind < 0:
            raise ValueError(f"no run with register {index}")
        if old >= value:
            return False
        head, tail = (_values(old, before), _values(old, behind)) if old else (_zeros(before), _zeros(behind))
        runs = head + _values(value, 1) + tail
        grows = len(runs) - width
        if grows > 0 and len(text) + grows > size_max:
            return None
        previous = bisect_left(firsts, firsts[at - 1]) if at else 0
        text[at : at + width] = runs
        firsts[at : at + width] = array("H", [first] * len(head) + [index] + [index + 1] * len(tail))
        self._join(previous)
        return True

    def _join(self, at: int) -> None:
        """Join runs of one value, among the five from `at` on."""
        text, firsts = self._text, self._firsts
        for _ in range(_JOINED_AMONG):
            if at >= len(text):
                return
            byte = text[at]
            if not byte & _VALUED:
                at += 2 if byte & _LONG else 1
                continue
            if at + 1 < len(text):
                following = text[at + 1]
                count = (byte & 3) + (following & 3) + 2
                if following & ~3 == byte & ~3 and count <= _VALUES_MAX:
                    text[at : at + 2] = bytes((byte & ~3 | count - 1,))
                    del firsts[at + 1]
                    continue
            at += 1


def _firsts_of(text: bytes) -> array[int]:
    firsts: list[int] = []
    first = at = 0
    size = len(text)
    while at < size and first < COUNT:
        firsts.append(first)
        byte = text[at]
        at += 1
        if byte & _VALUED:
            first += (byte & 3) + 1
        elif not byte & _LONG:
            first += byte + 1
        elif at < size:
            firsts.append(first)
            first += ((byte & 63) << 8 | text[at]) + 1
            at += 1
    return array("H", firsts + [COUNT] * (size - len(firsts)))

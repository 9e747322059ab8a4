"""Bit fields: integers of any width anywhere in a string, as BITFIELD reads and writes them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from lamina.server import events
from lamina.server.keyspace import Keyspace, Value
from lamina.server.records import BigString
from lamina.server.types import bigstrings, strings

# What is done to a field.
GET: Final = 0
SET: Final = 1
ADD: Final = 2

# What is done about a value that does not fit.
WRAP: Final = 0
SATURATE: Final = 1
FAIL: Final = 2

_UINT64: Final = (1 << 64) - 1


class Field(NamedTuple):
    """An integer of `bits` bits at bit `offset`."""

    offset: int
    bits: int
    is_signed: bool

    @property
    def stop(self) -> int:
        """The size of a string that just holds it."""
        return (self.offset + self.bits + 7) >> 3

    @property
    def high(self) -> int:
        """The highest value it can hold."""
        return (1 << (self.bits - 1)) - 1 if self.is_signed else (1 << self.bits) - 1

    def window(self, text: bytes | bytearray) -> int:
        """Return the bytes from the field's first to its last as a number; what lacks are zeros."""
        start = self.offset >> 3
        size = self.stop - start
        return int.from_bytes(text[start : start + size].ljust(size, b"\0"), "big")

    def value(self, window: int) -> int:
        """Return the integer."""
        bits = self.bits
        value = window >> (-(self.offset + bits) & 7) & (1 << bits) - 1
        return value - (1 << bits) if self.is_signed and value >> (bits - 1) else value

    def put(self, window: int, value: int) -> bytes:
        """Return the bytes from the field's first to its last with another integer in it."""
        bits = self.bits
        shift = -(self.offset + bits) & 7
        mask = (1 << bits) - 1
        window = window & ~(mask << shift) | (value & mask) << shift
        return window.to_bytes(self.stop - (self.offset >> 3), "big")

    def fitted(self, value: int, overflow: int) -> int | None:
        """Return a value as the field can hold it; None if it cannot and is to fail."""
        bits, high = self.bits, self.high
        low = -high - 1 if self.is_signed else 0
        if low <= value <= high:
            return value
        if overflow == FAIL:
            return None
        if overflow == SATURATE:
            return high if value > high else low
        value &= (1 << bits) - 1
        return value - (1 << bits) if value > high else value


class Operation(NamedTuple):
    """One step: GET a field, SET it to an operand, or ADD that to it."""

    kind: int
    field: Field
    operand: int = 0
    overflow: int = WRAP

    def outcome(self, old: int) -> tuple[int | None, int | None]:
        """Return the reply of a step that writes, and the field's new value; None twice if it fails."""
        if self.kind == ADD:
            new = self.field.fitted(old + self.operand, self.overflow)
            return new, new
        # Redis takes the operand for an unsigned one if the field is: -1 is large, not below all.
        field = self.field
        operand = self.operand if field.is_signed else self.operand & _UINT64
        if field.bits < 64 and field.high - operand >= 1 << 63 and self.overflow == SATURATE:
            # Its distance from the highest value is more than 63 bits hold, so Redis takes it for positive.
            operand = field.high
        new = field.fitted(operand, self.overflow)
        return (None if new is None else old), new


def read(keyspace: Keyspace, key: bytes, fields: list[Field]) -> list[int]:
    """Return the integers of fields of the string at `key`; counted as a hit or a miss. Errors: WRONGTYPE."""
    value = keyspace.read(key)
    if value is not None:
        strings.size_of(value)  # what is no string is an error even if nothing is read of it
    return [field.value(_window(keyspace, value, field)) for field in fields]


def _window(keyspace: Keyspace, value: Value | None, field: Field) -> int:
    if isinstance(value, BigString):
        start, stop = field.offset >> 3, field.stop
        found = bigstrings.read_range(keyspace, value, start, stop)
        return int.from_bytes(found.ljust(stop - start, b"\0"), "big")
    return field.window(b"" if value is None else strings.text_of(keyspace, value))


def run(keyspace: Keyspace, key: bytes, operations: list[Operation]) -> list[int | None]:
    """Do the steps in their order, some of which write, on the string at `key`; returns their replies.

    The string grows to hold all fields that are to be written, even if that fails. Errors: WRONGTYPE.
    """
    value = keyspace.find(key)
    old_size = 0 if value is None else strings.size_of(value)
    size = max(operation.field.stop for operation in operations if operation.kind != GET)
    grows = size > old_size
    if isinstance(value, BigString) or size >= strings.BIG_SIZE_MIN:
        if grows:
            strings.grow(keyspace, key, value, size)
        record = keyspace.find_typed(key, BigString)
        assert record is not None
        write_chunks = partial(bigstrings.write_range, keyspace, record)
        replies, changes = _run(operations, partial(_window, keyspace, record), write_chunks)
        if changes:
            keyspace.mark(key)
    else:
        text = b"" if value is None else strings.text_of(keyspace, value)
        buffer = bytearray(text.ljust(size, b"\0"))

        def write(start: int, part: bytes) -> None:
            buffer[start : start + len(part)] = part

        replies, changes = _run(operations, lambda field: field.window(buffer), write)
        if changes or grows:
            strings.replace(keyspace, key, value, bytes(buffer))
    # Redis does not tell of a string that has grown for steps all of which have failed.
    if (changes or (grows and _any_succeeded(operations, replies))) and keyspace.listens:
        keyspace.event(events.STRING, b"setbit", key)
    return replies


def _any_succeeded(operations: list[Operation], replies: list[int | None]) -> bool:
    return any(operation.kind != GET and reply is not None for operation, reply in zip(operations, replies))


def _run(
    operations: list[Operation], window_of: Callable[[Field], int], write: Callable[[int, bytes], None]
) -> tuple[list[int | None], bool]:
    """Do the steps on what is read and written by the functions; returns their replies, and whether anything
    has changed."""
    replies: list[int | None] = []
    changes = False
    for operation in operations:
        field = operation.field
        window = window_of(field)
        old = field.value(window)
        if operation.kind == GET:
            replies.append(old)
            continue
        reply, new = operation.outcome(old)
        replies.append(reply)
        if new is not None and new != old:
            write(field.offset >> 3, field.put(window, new))
            changes = True
    return replies, changes

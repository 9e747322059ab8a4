"""Commands on bitmaps: strings seen as bits, and as integers of any width."""

from __future__ import annotations

from typing import Final

from lamina.server.args import integer, integer_in
from lamina.server.client import Client
from lamina.server.errors import SYNTAX, CommandError
from lamina.server.numbers import parse_integer
from lamina.server.registry import ONE_KEY, Keys, command
from lamina.server.types import bitfields, bitmaps, bitops, strings
from lamina.server.types.bitfields import ADD, FAIL, GET, SATURATE, SET, WRAP, Field, Operation

_BAD_OFFSET = CommandError(b"ERR bit offset is not an integer or out of range")
_BAD_BIT = CommandError(b"ERR bit is not an integer or out of range")
_BAD_SOUGHT_BIT = CommandError(b"ERR The bit argument must be 1 or 0.")
_ONE_SOURCE = CommandError(b"ERR BITOP NOT must be called with a single source key.")
_BAD_TYPE = CommandError(
    b"ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is."
)
_BAD_OVERFLOW = CommandError(b"ERR Invalid OVERFLOW type specified")
_ONLY_GET = CommandError(b"ERR BITFIELD_RO only supports the GET subcommand")

_OVERFLOWS: Final = {b"WRAP": WRAP, b"SAT": SATURATE, b"FAIL": FAIL}
_KINDS: Final = {b"GET": (GET, 3), b"SET": (SET, 4), b"INCRBY": (ADD, 4)}
"""What an operation does, and how many words it has."""


# --- Single bits


@command("SETBIT", arity=4, flags="write denyoom", keys=ONE_KEY, since="2.2.0", complexity="O(1)")
def setbit(client: Client, argv: list[bytes]) -> int:
    """Set or clear a bit of a string, which grows if it has to; returns the bit that was there.

    SETBIT key offset value
    """
    offset = _offset(client, argv[2])
    if argv[3] not in (b"0", b"1"):
        raise _BAD_BIT
    return bitmaps.set_bit(client.keyspace, argv[1], offset, argv[3] == b"1")


@command("GETBIT", arity=3, flags="readonly fast", keys=ONE_KEY, since="2.2.0", complexity="O(1)")
def getbit(client: Client, argv: list[bytes]) -> int:
    """Return a bit of a string.

    GETBIT key offset
    """
    return bitmaps.get_bit(client.keyspace, argv[1], _offset(client, argv[2]))


def _offset(client: Client, data: bytes, bits: int = 0) -> int:
    """Return the offset of a bit: of field number n, if it is `#n` and fields have a width."""
    is_number = bits > 0 and data[:1] == b"#"
    offset = parse_integer(data[1:] if is_number else data)
    if offset is None or offset < 0:
        raise _BAD_OFFSET
    if is_number:
        offset *= bits
    if offset >> 3 >= client.server.config.proto_max_bulk_len:
        raise _BAD_OFFSET
    return offset


# --- Many bits


@command(
    "BITCOUNT",
    arity=-2,
    flags="readonly",
    keys=ONE_KEY,
    since="2.6.0",
    complexity="O(N) bytes that are stored",
    notes=("7.0.0: BYTE and BIT",),
)
def bitcount(client: Client, argv: list[bytes]) -> int:
    """Count the bits that are set in a string, or in a part of it.

    BITCOUNT key [start end [BYTE | BIT]]
    """
    argc = len(argv)
    if argc == 3 or argc > 5:
        raise SYNTAX
    first, last, in_bits = 0, -1, False
    if argc > 3:
        first, last = integer(argv[2]), integer(argv[3])
        in_bits = argc == 5 and _is_in_bits(argv[4])
    keyspace = client.keyspace
    value = keyspace.read(argv[1])
    if value is None:
        return 0
    size = strings.size_of(value)
    if first < 0 and last < 0 and first > last:
        return 0
    first, last = _bounds(first, last, size, in_bits)
    return bitmaps.count(keyspace, value, first, last) if first <= last else 0


def _is_in_bits(word: bytes) -> bool:
    unit = word.upper()
    if unit not in (b"BIT", b"BYTE"):
        raise SYNTAX
    return unit == b"BIT"


def _bounds(first: int, last: int, size: int, in_bits: bool) -> tuple[int, int]:
    """Return the first and the last bit of a range within a string of `size` bytes; negative numbers count
    from its end. The range is empty if the first is greater."""
    units = size * 8 if in_bits else size
    first = max(first + units, 0) if first < 0 else first
    last = max(last + units, 0) if last < 0 else last
    last = min(last, units - 1)
    return (first, last) if in_bits else (first * 8, last * 8 + 7)


@command(
    "BITPOS",
    arity=-3,
    flags="readonly",
    keys=ONE_KEY,
    since="2.8.7",
    complexity="O(N) bytes that are stored",
    notes=("7.0.0: BYTE and BIT",),
)
def bitpos(client: Client, argv: list[bytes]) -> int:
    """Return the position of the first bit that is set, or clear, in a string or in a part of it.

    BITPOS key bit [start [end [BYTE | BIT]]]
    """
    bit = integer(argv[2])
    if bit not in (0, 1):
        raise _BAD_SOUGHT_BIT
    argc = len(argv)
    if argc > 6:
        raise SYNTAX
    first = integer(argv[3]) if argc > 3 else 0
    in_bits = argc == 6 and _is_in_bits(argv[5])
    last = integer(argv[4]) if argc > 4 else -1
    keyspace = client.keyspace
    value = keyspace.read(argv[1])
    if value is None:
        return -1 if bit else 0
    size = strings.size_of(value)
    first, last = _bounds(first, last, size, in_bits)
    if first > last:
        return -1
    found = bitmaps.find(keyspace, value, bit, first, last)
    if found < 0 and not bit and argc < 5:
        return size * 8  # behind a string whose end was not given, zeros follow
    return found


@command(
    "BITOP",
    arity=-4,
    flags="write denyoom",
    keys=Keys(2, -1, 1),
    since="2.6.0",
    complexity="O(N) bytes of all strings",
)
def bitop(client: Client, argv: list[bytes]) -> int:
    """Combine the bits of strings, and store what they give; returns its size in bytes.

    BITOP (AND | OR | XOR | NOT) destkey key [key ...]
    """
    operation = argv[1].upper()
    if operation not in bitops.OPERATIONS:
        raise SYNTAX
    if operation == bitops.NOT and len(argv) != 4:
        raise _ONE_SOURCE
    return bitops.store(client.keyspace, operation, argv[2], argv[3:])


# --- Integers


@command(
    "BITFIELD",
    arity=-2,
    flags="write denyoom",
    keys=ONE_KEY,
    since="3.2.0",
    complexity="O(1) for each operation",
)
def bitfield(client: Client, argv: list[bytes]) -> list[int] | list[int | None]:
    """Read, set and increment integers of any width anywhere in a string.

    BITFIELD key [GET encoding offset | [OVERFLOW (WRAP | SAT | FAIL)] (SET encoding offset value | INCRBY
    encoding offset increment)] [GET encoding offset | [OVERFLOW (WRAP | SAT | FAIL)] (SET encoding offset
    value | INCRBY encoding offset increment) ...]
    """
    operations = _operations(client, argv)
    if all(operation.kind == GET for operation in operations):
        return bitfields.read(client.keyspace, argv[1], [operation.field for operation in operations])
    return bitfields.run(client.keyspace, argv[1], operations)


@command(
    "BITFIELD_RO",
    arity=-2,
    flags="readonly fast",
    keys=ONE_KEY,
    since="6.0.0",
    complexity="O(1) for each operation",
)
def bitfield_ro(client: Client, argv: list[bytes]) -> list[int]:
    """Read integers of any width anywhere in a string.

    BITFIELD_RO key [GET encoding offset [GET encoding offset ...]]
    """
    operations = _operations(client, argv)
    if any(operation.kind != GET for operation in operations):
        raise _ONLY_GET
    return bitfields.read(client.keyspace, argv[1], [operation.field for operation in operations])


def _operations(client: Client, argv: list[bytes]) -> list[Operation]:
    found: list[Operation] = []
    overflow = WRAP
    at, argc = 2, len(argv)
    while at < argc:
        word = argv[at].upper()
        if word == b"OVERFLOW" and at + 1 < argc:
            chosen = _OVERFLOWS.get(argv[at + 1].upper())
            if chosen is None:
                raise _BAD_OVERFLOW
            overflow = chosen
            at += 2
            continue
        kind, size = _KINDS.get(word, (GET, argc))
        if at + size > argc:
            raise SYNTAX
        is_signed, bits = _encoding(argv[at + 1])
        field = Field(_offset(client, argv[at + 2], bits), bits, is_signed)
        operand = 0 if kind == GET else integer(argv[at + 3])
        found.append(Operation(kind, field, operand, overflow))
        at += size
    return found


def _encoding(word: bytes) -> tuple[bool, int]:
    """Return whether a type is signed, and its width: i1 to i64, u1 to u63."""
    is_signed = word[:1] == b"i"
    if not is_signed and word[:1] != b"u":
        raise _BAD_TYPE
    return is_signed, integer_in(word[1:], 1, 64 if is_signed else 63, _BAD_TYPE)

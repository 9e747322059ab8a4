"""What commands on streams make of their arguments: ids, ranges of ids, how to trim, what to read."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from lamina.server.args import integer, timeout_whole_ms
from lamina.server.errors import STREAM_ID, SYNTAX, CommandError
from lamina.server.limits import LIMITS
from lamina.server.numbers import parse_integer
from lamina.server.types.streamids import ID_MAX, NO_ID, PART_MAX, StreamId, next_id, previous_id
from lamina.server.types.streams import Trim

_ID_SIZE_MAX: Final = 127
_PLAIN_SIZE_MAX: Final = 20
"""An id of fewer digits is within 64 bits in any case."""
_INVALID_START = CommandError(b"ERR invalid start ID for the interval")
_INVALID_END = CommandError(b"ERR invalid end ID for the interval")
_MAXLEN_NEGATIVE = CommandError(b"ERR The MAXLEN argument must be >= 0.")
_LIMIT_NEGATIVE = CommandError(b"ERR The LIMIT argument must be >= 0.")
_TWO_STRATEGIES = CommandError(
    b"ERR syntax error, MAXLEN and MINID options at the same time are not compatible"
)
_LIMIT_ALONE = CommandError(b"ERR syntax error, LIMIT cannot be used without specifying a trimming strategy")
_LIMIT_EXACT = CommandError(b"ERR syntax error, LIMIT cannot be used without the special ~ option")
_NO_STRATEGY = CommandError(b"ERR syntax error, XTRIM must be called with a trimming strategy")

_NODES_TRIMMED: Final = 100
_TRIMMED_DEFAULT: Final = 10_000
_TRIMMED_MAX: Final = 1_000_000
"""Entries that are trimmed with `~` if there is no LIMIT: so many nodes, within bounds."""

_is_number = re.compile(rb"[ \t\n\v\f\r]*[+-]?[0-9]+").fullmatch

AUTO_SEQUENCE: Final = -1
"""The sequence number of `ms-*`."""


# --- Ids


def _part(text: bytes) -> int:
    """Return one half of an id: 64 bits without a sign, read as leniently as Redis does."""
    value = parse_integer(text)
    if value is None:
        # What is no number in Redis's strict form goes through C's strtoull, which wraps negative ones.
        if _is_number(text) is None:
            raise STREAM_ID
        value = int(text)
        if not -PART_MAX <= value <= PART_MAX:
            raise STREAM_ID
        return value & PART_MAX
    if value < 0:
        raise STREAM_ID
    return value


def strict_id(text: bytes, missing_sequence: int = 0, *, takes_auto: bool = False) -> StreamId:
    """Return an id, `ms` or `ms-seq`. Errors: STREAM_ID.

    With `takes_auto`, `ms-*` is one as well, of sequence AUTO_SEQUENCE.
    """
    ms, dash, sequence = text.partition(b"-")
    # Nearly all ids are digits, and not too many: 0.6 µs less.
    if ms.isdigit() and sequence.isdigit() and len(text) < _PLAIN_SIZE_MAX:
        return int(ms), int(sequence)
    if len(text) > _ID_SIZE_MAX:
        raise STREAM_ID
    ms, dash, sequence = text.split(b"\0", 1)[0].partition(b"-")
    if not dash:
        return _part(ms), missing_sequence
    if takes_auto and sequence == b"*":
        return _part(ms), AUTO_SEQUENCE
    return _part(ms), _part(sequence)


def any_id(text: bytes, missing_sequence: int = 0) -> StreamId:
    """Return an id; `-` and `+` are the smallest and the largest."""
    shown = text.split(b"\0", 1)[0]
    if shown == b"-" and len(text) <= _ID_SIZE_MAX:
        return NO_ID
    if shown == b"+" and len(text) <= _ID_SIZE_MAX:
        return ID_MAX
    return strict_id(text, missing_sequence)


def range_start(text: bytes) -> StreamId:
    """Return where a range of ids begins: `id`, `(id` (behind it), `-`, `+`."""
    if text[:1] != b"(" or len(text) == 1:
        return any_id(text)
    found = next_id(strict_id(text[1:]))
    if found is None:
        raise _INVALID_START
    return found


def range_end(text: bytes) -> StreamId:
    """Return the last id of a range: `id`, `(id` (before it), `-`, `+`."""
    if text[:1] != b"(" or len(text) == 1:
        return any_id(text, PART_MAX)
    found = previous_id(strict_id(text[1:], PART_MAX))
    if found is None:
        raise _INVALID_END
    return found


# --- XADD and XTRIM


class Adding(NamedTuple):
    """What stands before the fields of XADD, which begin at `fields_at`; or all there is of XTRIM.

    `id` None: `*`.
    """

    trim: Trim | None
    makes_stream: bool
    id: StreamId | None
    fields_at: int


def adding(argv: list[bytes], *, is_xadd: bool) -> Adding:
    """Return what XADD or XTRIM is asked for, from the third argument on."""
    strategy = b""
    length_max, min_id = None, NO_ID
    is_rough = False
    limit: int | None = None
    makes_stream = True
    stream_id: StreamId | None = None
    at, count = 2, len(argv)
    while at < count:
        option = argv[at].upper()
        more = count - at - 1
        if is_xadd and option == b"*":
            break
        if option in (b"MAXLEN", b"MINID") and more:
            if strategy:
                raise _TWO_STRATEGIES
            is_rough = more >= 2 and argv[at + 1] == b"~"
            if more >= 2 and argv[at + 1] in (b"~", b"="):
                at += 1
            if option == b"MAXLEN":
                length_max = integer(argv[at + 1])
                if length_max < 0:
                    raise _MAXLEN_NEGATIVE
            else:
                min_id = strict_id(argv[at + 1])
            strategy = option
            at += 2
        elif option == b"LIMIT" and more:
            limit = integer(argv[at + 1])
            if limit < 0:
                raise _LIMIT_NEGATIVE
            at += 2
        elif is_xadd and option == b"NOMKSTREAM":
            makes_stream = False
            at += 1
        elif is_xadd:
            stream_id = strict_id(argv[at], takes_auto=True)
            break
        else:
            raise SYNTAX
    if limit and not strategy:
        raise _LIMIT_ALONE
    if not is_xadd and not strategy:
        raise _NO_STRATEGY
    trim = _trim(strategy, length_max, min_id, is_rough, limit)
    return Adding(trim, makes_stream, stream_id, at + 1)


def _trim(
    strategy: bytes, length_max: int | None, min_id: StreamId, is_rough: bool, limit: int | None
) -> Trim | None:
    if limit is not None and not is_rough:
        raise _LIMIT_EXACT
    if not strategy:
        return None
    if limit is None:
        limit = _NODES_TRIMMED * LIMITS.stream_node_entries
        limit = min(limit, _TRIMMED_MAX) if limit > 0 else _TRIMMED_DEFAULT
    return Trim(length_max, min_id, is_rough, limit)


# --- XREAD and XREADGROUP

NEWEST: Final = b"$"
LAST: Final = b"+"
UNSEEN: Final = b">"

_GROUP_ONLY = b"ERR The %b option is only supported by XREADGROUP. You called XREAD instead."
_GROUP_MISSING = CommandError(b"ERR Missing GROUP option for XREADGROUP")


class Reading(NamedTuple):
    """What XREAD and XREADGROUP are asked for. `at_most` 0: all. `block_ms` None: it does not wait."""

    keys: list[bytes]
    ids: list[bytes]
    at_most: int = 0
    block_ms: int | None = None
    group: bytes | None = None
    consumer: bytes = b""
    noack: bool = False


def reading(argv: list[bytes], *, is_group: bool) -> Reading:
    """Return what XREAD, or XREADGROUP, is asked for."""
    count = 0
    block_ms: int | None = None
    group: bytes | None = None
    consumer = b""
    noack = False
    at = 1
    while at < len(argv):
        option = argv[at].upper()
        more = len(argv) - at - 1
        if option == b"BLOCK" and more:
            block_ms = timeout_whole_ms(argv[at + 1])
            at += 2
        elif option == b"COUNT" and more:
            count = max(integer(argv[at + 1]), 0)
            at += 2
        elif option == b"STREAMS" and more:
            keys, ids = _halves(argv, at + 1, is_group=is_group)
            if is_group and group is None:
                raise _GROUP_MISSING
            return Reading(keys, ids, count, block_ms, group, consumer, noack)
        elif option == b"GROUP" and more >= 2:
            if not is_group:
                raise CommandError(_GROUP_ONLY % b"GROUP")
            group, consumer = argv[at + 1], argv[at + 2]
            at += 3
        elif option == b"NOACK":
            if not is_group:
                raise CommandError(_GROUP_ONLY % b"NOACK")
            noack = True
            at += 1
        else:
            raise SYNTAX
    raise SYNTAX


def _halves(argv: list[bytes], at: int, *, is_group: bool) -> tuple[list[bytes], list[bytes]]:
    size = len(argv) - at
    if size % 2:
        name, symbol = (b"xreadgroup", UNSEEN) if is_group else (b"xread", NEWEST)
        raise CommandError(
            b"ERR Unbalanced '%b' list of streams: for each stream key an ID or '%b' must be specified."
            % (name, symbol)
        )
    middle = at + size // 2
    return argv[at:middle], argv[middle:]


def find_streams(argv: list[bytes]) -> list[int]:
    """Return the positions of the keys of XREAD and XREADGROUP. Errors: ValueError, as `FindKeys`."""
    at = 1
    while at < len(argv):
        option = argv[at].upper()
        if option == b"STREAMS":
            size = len(argv) - at - 1
            if not size or size % 2:
                break
            return list(range(at + 1, at + 1 + size // 2))
        if option in (b"BLOCK", b"COUNT"):
            at += 2
        elif option == b"GROUP":
            at += 3
        elif option == b"NOACK":
            at += 1
        else:
            break
    raise ValueError("no list of streams")

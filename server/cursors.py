"""Cursors: where a SCAN, HSCAN, SSCAN or ZSCAN goes on.

What is scanned lies in order, so a cursor stands for a place in that order: a *mark*, a byte string that is
greater than the last element returned and not greater than the next. The next call returns what is not
smaller than the mark. Elements are never returned twice by that, and whatever comes or goes between two
calls, an element that was there all the time is returned: it is on this or on that side of the mark.

A cursor is a number, and must be one below 2^53: many clients keep it in a double (JavaScript, Lua). There
are three kinds, tried in this order:

    0 skip:12 text:40       the mark is short: `text`, its bytes, padded with zeros; skip is 0
    0 skip:12 text:40       the mark is short but for the `skip` bytes that all elements have in common
    1 number:52             the server remembers the mark under that number

The first two kinds hold all there is to know: they are valid for ever, after a restart too. That the common
beginning may have changed since does no harm. Has it grown, its first `skip` bytes are those of old, or else
nothing of old is left. Has it become shorter, because something foreign was added, the scan starts over: it
then returns elements a second time, which clients must expect of SCAN, rather than miss any.

The third kind is for elements with long beginnings that only some have in common. Numbers start at random,
so that one of before a restart is unknown and not taken for another. A scan whose number is not known (any
more) starts over as well. The marks of the latest `REMEMBERED_MAX` calls are kept: a scan would have to be
overtaken by that many others between two of its own calls, again and again, not to come to its end.
"""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol

from lamina.server.args import integer
from lamina.server.encoding import end_of
from lamina.server.errors import NOT_A_CURSOR, SYNTAX
from lamina.server.glob import Matcher, compile_glob, literal_prefix
from lamina.server.keyspace import Keyspace

REMEMBERED_MAX: Final = 16384
"""Marks that are remembered at most."""

REMEMBERED_BYTES_MAX: Final = 4 << 20
"""Bytes that they may have together, unless it is only one."""

COUNT_DEFAULT: Final = 10
"""Elements that one call looks at unless COUNT says otherwise."""

_TEXT_SIZE = 5
_TEXT_BITS = 8 * _TEXT_SIZE
_SKIP_MAX = (1 << 12) - 1
_REMEMBERED = 1 << (_TEXT_BITS + 12)

_CURSOR_MAX = (1 << 64) - 1
_is_cursor = re.compile(rb"[+-]?[0-9]+").fullmatch


@dataclass(frozen=True, slots=True)
class Filter:
    """The options of a call."""

    count: int = COUNT_DEFAULT
    """How many elements to look at."""
    matcher: Matcher | None = None
    """Which of them to return; None is all of them."""
    prefix: bytes = b""
    """What everything that `matcher` accepts begins with."""
    type: bytes | None = None
    """The type of the keys that SCAN returns, as the client wrote it."""


NO_FILTER: Final = Filter()


def parse_cursor(data: bytes) -> int:
    """Return a cursor as the client sent it: what C's strtoul takes for a number, or nothing at all."""
    if data.isdigit() and len(data) < 20:
        return int(data)
    text = data.split(b"\0", 1)[0]
    if not text:
        return 0
    if _is_cursor(text) is None or len(text.lstrip(b"+-0")) > 20 or abs(int(text)) > _CURSOR_MAX:
        raise NOT_A_CURSOR
    return int(text) & _CURSOR_MAX


def parse_filter(argv: list[bytes], start: int, *, takes_type: bool = False) -> Filter:
    """Return the options in argv from `start` on: MATCH pattern, COUNT count, and TYPE if it is taken."""
    if start == len(argv):
        return NO_FILTER
    count, pattern, kind = COUNT_DEFAULT, b"*", None
    for at in range(start, len(argv), 2):
        name = argv[at].upper()
        if at + 1 == len(argv):
            raise SYNTAX
        if name == b"COUNT":
            count = integer(argv[at + 1])
            if count < 1:
                raise SYNTAX
        elif name == b"MATCH":
            pattern = argv[at + 1]
        elif name == b"TYPE" and takes_type:
            kind = argv[at + 1]
        else:
            raise SYNTAX
    if pattern == b"*":
        return Filter(count, type=kind)
    return Filter(count, compile_glob(pattern), literal_prefix(pattern), kind)


class Ordered(Protocol):
    """What can be scanned: `Elements` are, and `Keys`."""

    def scan(
        self, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield elements with ``start <= element < stop`` and their values, in order or backwards."""


class Keys:
    """The keys of a database in order, with their raw records: expired ones are among them."""

    __slots__ = ("keyspace",)

    def __init__(self, keyspace: Keyspace) -> None:
        self.keyspace = keyspace

    def scan(
        self, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys with ``start <= key < stop`` and their raw records. Nothing may change meanwhile."""
        keyspace = self.keyspace
        keyspace.databases.stage_records()
        prefix = keyspace.record_prefix
        low = prefix + start
        high = end_of(prefix) if stop is None else prefix + stop
        if high <= low:
            return iter(())
        skip = len(prefix)
        found = keyspace.store.scan(low, high, reverse=reverse)
        return ((key[skip:], raw) for key, raw in found)


class Cursors:
    """The cursors of one server."""

    __slots__ = ("_marks", "_next_number", "_size_bytes")

    def __init__(self) -> None:
        self._marks: dict[int, bytes] = {}
        self._size_bytes = 0
        self._next_number = random.getrandbits(_TEXT_BITS)

    def page(
        self, source: Ordered, cursor: int, count: int, *, prefix: bytes = b""
    ) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Return the next cursor, 0 at the end, and the `count` (at least 1) elements that `cursor` is at.

        With `prefix` only what begins with it is looked at: for MATCH with a literal beginning.
        Cost: O(count), and a seek.
        """
        mark = self._mark_of(source, cursor) if cursor else b""
        stop = end_of(prefix) if prefix.rstrip(b"\xff") else None
        scan = source.scan(max(mark, prefix), stop)
        found = list(islice(scan, min(count, sys.maxsize - 1) + 1))
        if len(found) <= count:
            return 0, found
        after = found.pop()[0]
        return self._cursor_at(source, found[-1][0], after), found

    def _cursor_at(self, source: Ordered, last: bytes, after: bytes) -> int:
        """Return a cursor for a mark greater than `last`, and not greater than `after`, which is greater."""
        mark = after[: _common_size(last, after) + 1]
        if len(mark) <= _TEXT_SIZE:
            skip = 0
        else:
            skip = min(len(_common_beginning(source)), _SKIP_MAX)
        if len(mark) - skip <= _TEXT_SIZE:
            text = mark[skip:].ljust(_TEXT_SIZE, b"\0")
            # Zeros at the end are lost. A mark that has some may be `last` without them: then the text will
            # not do, and it would return the same elements for ever.
            if mark[:skip] + text.rstrip(b"\0") > last:
                return skip << _TEXT_BITS | int.from_bytes(text, "big")
        return self._remember(mark)

    def _mark_of(self, source: Ordered, cursor: int) -> bytes:
        """Return the mark of a cursor, however strange; the beginning of all if it is not known."""
        if cursor & _REMEMBERED:
            return self._marks.get(cursor, b"")
        skip = cursor >> _TEXT_BITS
        text = (cursor & ((1 << _TEXT_BITS) - 1)).to_bytes(_TEXT_SIZE, "big").rstrip(b"\0")
        if not skip:
            return text
        beginning = _common_beginning(source) if skip <= _SKIP_MAX else b""
        return beginning[:skip] + text if len(beginning) >= skip else b""

    def _remember(self, mark: bytes) -> int:
        self._next_number = (self._next_number + 1) % _REMEMBERED
        cursor = _REMEMBERED | self._next_number
        marks = self._marks
        marks[cursor] = mark
        self._size_bytes += len(mark)
        while len(marks) > REMEMBERED_MAX or (self._size_bytes > REMEMBERED_BYTES_MAX and len(marks) > 1):
            self._size_bytes -= len(marks.pop(next(iter(marks))))
        return cursor


def _common_size(one: bytes, other: bytes) -> int:
    """Return how many bytes at their beginnings are the same."""
    # Halving compares slices in C: long common beginnings cost no loop over bytes.
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _common_beginning(source: Ordered) -> bytes:
    """Return what all elements begin with: what the first and the last of them do. Cost: two seeks."""
    first = next(source.scan(), None)
    last = next(source.scan(reverse=True), None)
    if first is None or last is None:
        return b""
    return first[0][: _common_size(first[0], last[0])]

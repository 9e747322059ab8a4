"""SORT: the elements of a list, set or sorted set, ordered by themselves or by what other keys say of them.

Steps: take the elements, look up what each is weighed by, order them, cut out LIMIT, look up what GET asks
for.

The order is Redis's. Numbers are compared as doubles, and where they are equal the elements by their bytes.
With ALPHA texts are compared as C strings, up to a NUL, as a server in the C locale does, but by all their
bytes if the result is stored. Elements that tie even so come in the order in which they were found (Redis:
in no certain one, from seven elements on).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import nlargest, nsmallest
from typing import Any, Final

from lamina.server import events
from lamina.server.errors import WRONG_TYPE, CommandError
from lamina.server.gathering import check, gather
from lamina.server.keyspace import Keyspace
from lamina.server.numbers import parse_float
from lamina.server.records import Record
from lamina.server.types import hashes, lists
from lamina.server.types.hashes import Hash
from lamina.server.types.lists import List
from lamina.server.types.sets import Set
from lamina.server.types.strings import text_of
from lamina.server.types.zsetorder import SCORE_SIZE
from lamina.server.types.zsets import ZSet

_NOT_NUMBERS = CommandError(b"ERR One or more scores can't be converted into double")

_SPACES = b" \t\n\v\f\r"
_SMALLEST_NORMAL = 2.0**-1022

_PLAIN = b"0123456789.-"
_PLAIN_SIZE_MAX = 300
"""Texts of digits up to this size are neither too large for a double nor too close to zero."""

_FEW = 8
"""If no more than one of so many is wanted, a heap finds these faster than sorting all."""

_ITSELF: Final = b"#"


@dataclass(slots=True)
class Request:
    """What SORT is asked for."""

    by: bytes | None = None
    """The pattern of keys, or of hashes and their fields, that say what an element weighs."""
    is_sorted: bool = True
    """False if elements are to come as they lie: `BY nosort`."""
    skip: int = 0
    limit: int = -1
    """How many elements to return, all if negative, after the first `skip`."""
    get: Sequence[bytes] = ()
    """Patterns of what to return for each element instead of it."""
    is_descending: bool = False
    is_alpha: bool = False
    target: bytes | None = None
    """The key that is to hold the result."""


def sort(keyspace: Keyspace, key: bytes, request: Request) -> list[bytes | None]:
    """Return what SORT does, without storing it. Errors: WRONGTYPE, weights that are no numbers.

    Cost: O(elements), and O(log) times those if they are sorted; without sorting O(LIMIT).
    """
    record = keyspace.read(key)
    if record is None:
        return []
    if not isinstance(record, List | Set | ZSet):
        raise WRONG_TYPE
    first, stop = _clip(request, record.size)
    if request.is_sorted:
        # Also if nothing is to be returned: whether all weights are numbers is found out all the same.
        chosen = _sorted(keyspace, _elements(record), request, stop)[first:]
    elif first < stop:
        # A set has no order of its own to be turned round, unless the result is stored: then it is sorted.
        is_turned = request.is_descending and (request.target is not None or not isinstance(record, Set))
        chosen = _slice(record, first, stop, reverse=is_turned)
    else:
        chosen = []
    if not request.get:
        return chosen  # type: ignore[return-value]
    lookups = [_lookup(keyspace, pattern) for pattern in request.get]
    return [lookup(element) for element in chosen for lookup in lookups]


def store(keyspace: Keyspace, key: bytes, values: list[bytes | None]) -> int:
    """Let `key` hold a list of the result, whatever it held; nothing if that is empty. Returns its size."""
    if not values:
        if keyspace.remove(key) and keyspace.listens:
            keyspace.event(events.GENERIC, b"del", key)
        return 0
    lists.store(keyspace, key, [value or b"" for value in values])
    if keyspace.listens:
        keyspace.event(events.LIST, b"sortstore", key)
    return len(values)


# -- elements ----------------------------------------------------------------------------------------


def _clip(request: Request, size: int) -> tuple[int, int]:
    """Return the positions that LIMIT leaves of so many."""
    first = min(max(request.skip, 0), size)
    return first, size if request.limit < 0 else min(first + request.limit, size)


def _elements(record: List | Set | ZSet) -> list[bytes]:
    """Return all elements: those of a list in its order."""
    if isinstance(record, List):
        check(record.size)
        return gather(record.elements.chunks())
    return record.elements.keys()


def _slice(record: List | Set | ZSet, first: int, stop: int, *, reverse: bool) -> list[bytes]:
    """Return the elements at some positions of the collection's own order, or of that backwards."""
    if isinstance(record, ZSet):
        return [key[SCORE_SIZE:] for key in record.order.between(first, stop, reverse=reverse)]
    if isinstance(record, Set):
        return [member for member, _ in record.elements.between(first, stop, reverse=reverse)]
    if not reverse:
        return record.elements.between(first, stop)
    size = record.size
    return record.elements.between(size - stop, size - first)[::-1]


# -- order -------------------------------------------------------------------------------------------


def _sorted(keyspace: Keyspace, elements: list[bytes], request: Request, stop: int) -> list[bytes]:
    """Return the first `stop` of the elements in order."""
    if request.by is None:
        weights: list[bytes | None] = elements  # type: ignore[assignment]
    else:
        weights = list(map(_lookup(keyspace, request.by), elements))
    is_descending = request.is_descending
    if request.is_alpha:
        if request.target is None:
            weights = _as_c_strings(weights)
        if weights is elements:
            return _first(elements, stop, is_descending, None)
        # What has no weight comes first, before the empty text. Elements of equal weight stay as they are.
        keys = [(weight is not None, weight) for weight in weights]
        positions = _first(range(len(elements)), stop, is_descending, keys.__getitem__)
    else:
        numbers = _numbers(weights)
        if stop * _FEW <= len(elements):
            pairs = _first(list(zip(numbers, elements)), stop, is_descending, None)
            return [element for _, element in pairs]
        # By their bytes first, where numbers are equal: two sorts by one column each beat one by pairs.
        positions = sorted(range(len(elements)), key=elements.__getitem__, reverse=is_descending)
        positions.sort(key=numbers.__getitem__, reverse=is_descending)
        del positions[stop:]
    return [elements[position] for position in positions]


def _first(
    items: Sequence[Any], stop: int, is_descending: bool, key: Callable[[Any], Any] | None
) -> list[Any]:
    """Return the first `stop` items in order; those with equal keys stay in theirs."""
    if stop * _FEW > len(items):
        return sorted(items, key=key, reverse=is_descending)[:stop]
    choose = nlargest if is_descending else nsmallest
    return choose(stop, items, key)


def _as_c_strings(texts: list[bytes | None]) -> list[bytes | None]:
    """Return what C sees of the texts; the list itself if that is all."""
    if b"\0" not in b"".join(filter(None, texts)):
        return texts
    return [None if text is None else text.split(b"\0", 1)[0] for text in texts]


def _numbers(texts: list[bytes | None]) -> list[float]:
    """Return the texts as doubles; None is 0. Errors: one of them is no number."""
    known = [text or b"0" for text in texts]
    if not b"".join(known).translate(None, _PLAIN) and max(map(len, known), default=0) < _PLAIN_SIZE_MAX:
        # All of them are digits with points and minuses, which float reads as C does: 60 ns instead of 300.
        try:
            return list(map(float, known))
        except ValueError:
            raise _NOT_NUMBERS from None
    return list(map(_number, known))


def _number(text: bytes) -> float:
    """Return what strtod makes of all of a C string.

    Redis takes what is lost in underflow for an error, so decimals below the normal numbers are none: each
    loses some. Hexadecimal ones need not.
    """
    value = parse_float(text)
    if value is None:
        text = text.split(b"\0", 1)[0]
        if not text:
            return 0.0
        value = parse_float(text.lstrip(_SPACES))
        if value is None:
            raise _NOT_NUMBERS
    if 0.0 < abs(value) < _SMALLEST_NORMAL and b"x" not in text.lower():
        raise _NOT_NUMBERS
    return value


# -- patterns ----------------------------------------------------------------------------------------


def names_no_key(pattern: bytes) -> bool:
    """Tell whether a pattern has no place for the element: then BY means not to sort."""
    return b"*" not in pattern.split(b"\0", 1)[0]


def _lookup(keyspace: Keyspace, pattern: bytes) -> Callable[[bytes], bytes | None]:
    """Return what finds, for an element, what a pattern of BY or GET points at.

        weight_*        the string at this key, the element in the place of the first star
        hash_*->field   the field of the hash at this key
        #               the element itself

    It returns None if there is no such key or field, or something of another type.
    """
    if pattern.split(b"\0", 1)[0] == _ITSELF:
        return lambda element: element
    if names_no_key(pattern):
        return lambda element: None
    head, _, tail = pattern.partition(b"*")
    # As in C: what is behind a NUL is part of the name, but an arrow there is none.
    arrow = tail.split(b"\0", 1)[0].find(b"->")
    if arrow < 0 or tail[arrow + 2 : arrow + 3] in (b"", b"\0"):
        return lambda element: _string_at(keyspace, head + element + tail)
    tail, field = tail[:arrow], tail[arrow + 2 :]
    return lambda element: _field_at(keyspace, head + element + tail, field)


def _string_at(keyspace: Keyspace, key: bytes) -> bytes | None:
    value = keyspace.read(key)
    if isinstance(value, bytes) or value is None:
        return value
    return text_of(keyspace, value) if value.name == b"string" else None


def _field_at(keyspace: Keyspace, key: bytes, field: bytes) -> bytes | None:
    value: bytes | Record | None = keyspace.find(key)
    if isinstance(value, Hash):
        return hashes.get(keyspace, key, field)
    keyspace.read(key)  # for the count of hits and misses
    return None

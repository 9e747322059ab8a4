"""Lists: what LPUSH, LPOP, LINSERT and their kin do to records.

    record    id:u64 size:u64 form:u8 head:u64 packed:u32 [tail:u64 if the list is sparse]
    elements  listelements.py and listkeys.py

`form` is the encoding Redis would have chosen: a listpack while all elements fit into one node of
list-max-listpack-size, a quicklist from then on, and a listpack again when half a node would do. For that
`packed_bytes` is kept, the size of the listpack the list would be. Of a long list it is not: nobody asks.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from lamina.server import events
from lamina.server.encoding import LIST, U64
from lamina.server.errors import INDEX_OUT_OF_RANGE, NO_SUCH_KEY
from lamina.server.keyspace import Keyspace
from lamina.server.records import Collection
from lamina.server.types import listediting
from lamina.server.types.listelements import ListElements
from lamina.server.types.listkeys import MIDDLE
from lamina.server.types.listpacks import (
    EMPTY_BYTES,
    LAST_DIGIT,
    fits_in_half,
    half_size_max,
    is_too_large,
    packed_size,
    total_size,
)

LISTPACK: Final = 0
QUICKLIST: Final = 1

_DENSE = struct.Struct(">QQBQI")
_SPARSE = struct.Struct(">QQBQIQ")
_NOT_COUNTED = 0xFFFFFFFF


class Place(NamedTuple):
    """Where the elements of a list are, and what else its record says."""

    id: int
    size: int
    form: int
    head: int
    packed_bytes: int
    tail: int


def place_of(body: bytes) -> Place:
    """Return what the body of a list's record says. Errors: ValueError."""
    if len(body) == _DENSE.size:
        list_id, size, form, head, packed_bytes = _DENSE.unpack(body)
        return Place(list_id, size, form, head, packed_bytes, head + size)
    if len(body) != _SPARSE.size:
        raise ValueError(f"a list's record of {len(body)} bytes")
    return Place(*_SPARSE.unpack(body))


def dense_body(list_id: int, size: int, form: int, packed_bytes: int) -> bytes:
    """Return the body of the record of a list that begins at MIDDLE; `packed_bytes` is -1 if not known."""
    if not 0 <= packed_bytes < _NOT_COUNTED:
        packed_bytes = _NOT_COUNTED
    return _DENSE.pack(list_id, size, form, MIDDLE, packed_bytes)


class List(Collection, tag=LIST, name=b"list"):
    """A list. `packed_bytes` is the size of the listpack it would be, -1 if that is not known."""

    __slots__ = ("packed_bytes",)

    elements: ListElements  # type: ignore[assignment]

    def __init__(self, keyspace: Keyspace, id: int, size: int, form: int = LISTPACK) -> None:  # noqa: A002
        self.expires_ms = self.weighed_bytes = 0
        self.form = form
        self.bind(keyspace, id, size)
        self.packed_bytes = -1 if size else EMPTY_BYTES

    def bind(self, keyspace: Keyspace, id: int, size: int) -> None:  # noqa: A002
        """Have the elements under `id`."""
        self.id = id
        self.elements = ListElements(keyspace.store, keyspace.element_prefix + U64.pack(id), size)

    def encode_body(self) -> bytes:
        """Return what is drawn above."""
        elements = self.elements
        packed_bytes = self.packed_bytes
        if not 0 <= packed_bytes < _NOT_COUNTED:
            packed_bytes = _NOT_COUNTED
        if elements.is_dense:
            return _DENSE.pack(self.id, elements.size, self.form, elements.head, packed_bytes)
        return _SPARSE.pack(self.id, elements.size, self.form, elements.head, packed_bytes, elements.tail)

    @classmethod
    def decode_body(cls, keyspace: Keyspace, body: bytes) -> List:
        """Return the list; its elements are read when they are needed."""
        place = place_of(body)
        record = cls(keyspace, place.id, place.size, place.form)
        elements = record.elements
        elements.head, elements.tail = place.head, place.tail
        elements.is_dense = len(body) == _DENSE.size
        record.packed_bytes = -1 if place.packed_bytes == _NOT_COUNTED else place.packed_bytes
        return record

    def clone(self, keyspace: Keyspace) -> List:
        """Return a copy with elements of its own."""
        copy = List(keyspace, keyspace.databases.take_id(), 0, self.form)
        copy.packed_bytes = self.packed_bytes
        push_right = copy.elements.push_right
        for values in self.elements.chunks():
            for value in values:
                push_right(value)
        return copy

    # -- the encoding that is shown ----------------------------------------------------------------

    def note_added(self, values: list[bytes], size: int) -> None:
        """Values are added, so that there are `size` elements; `packed_bytes` is known."""
        packed_bytes = self.packed_bytes
        plain_bytes = added_bytes = 0
        for value in values:
            length = len(value)
            plain_bytes += length
            # The short way of packed_size: a tenth of a push to a short list.
            added_bytes += length + 2 if 0 < length < 64 and value[0] > LAST_DIGIT else packed_size(value)
        if self.form == LISTPACK:
            if is_too_large(packed_bytes + plain_bytes, size):
                self.form = QUICKLIST
        elif size > 2 * half_size_max():
            self.packed_bytes = -1  # it would take many pops until it mattered again
            return
        self.packed_bytes = packed_bytes + added_bytes

    def note_replaced(self, old: bytes, value: bytes) -> None:
        """A value is about to be replaced, and `packed_bytes` is known."""
        # Redis adds the new one before it takes away the old one.
        if self.form == LISTPACK and is_too_large(self.packed_bytes + len(value), self.elements.size + 1):
            self.form = QUICKLIST
        self.packed_bytes += packed_size(value)
        self.note_removed([old])

    def note_removed(self, values: list[bytes]) -> None:
        """Values have been removed."""
        packed_bytes = self.packed_bytes
        if packed_bytes >= 0:
            self.packed_bytes = packed_bytes = packed_bytes - sum(map(packed_size, values))
        if self.form == QUICKLIST:
            elements = self.elements
            if elements.size > half_size_max():
                return
            if packed_bytes < 0:
                if elements.values is None:
                    return  # reading them all for this would be too much
                self.packed_bytes = packed_bytes = total_size(elements.values[elements.start :])
            if fits_in_half(packed_bytes, elements.size):
                self.form = LISTPACK


def encoding_name(record: List) -> bytes:
    """Return what OBJECT ENCODING says."""
    return b"quicklist" if record.form else b"listpack"


# -- the ends --------------------------------------------------------------------------------------


def push(keyspace: Keyspace, key: bytes, values: list[bytes], *, left: bool) -> int:
    """Push values one after the other at one end, making a list if there is none; returns its length.

    Errors: WRONGTYPE. Cost: O(values), nothing is read but the record.
    """
    # The short way of find_or_create and of mark: a tenth of an LPUSH each.
    cached = keyspace.cache.get(key)
    if cached.__class__ is List and not cached.expires_ms:
        record: List = cached
    else:
        record = keyspace.find_or_create(key, List)
    elements = record.elements
    is_new = not elements.size
    if record.packed_bytes >= 0:
        record.note_added(values, elements.size + len(values))
    add = elements.push_left if left else elements.push_right
    for value in values:
        add(value)
    if is_new:
        keyspace.put(key, record)
    elif keyspace.is_observed or key not in keyspace.dirty:
        keyspace.mark(key)
    if keyspace.listens:
        keyspace.event(events.LIST, b"lpush" if left else b"rpush", key)
    return elements.size


def pop(keyspace: Keyspace, key: bytes, record: List, *, left: bool) -> bytes:
    """Take one element from the list at `key`, which is `record`; an empty list goes away."""
    elements = record.elements
    value = elements.pop_left() if left else elements.pop_right()
    # The short ways of note_removed and _end_removal: a fifth of a pop from a short list each.
    if record.form == LISTPACK and 0 < len(value) < 64 and value[0] > LAST_DIGIT:
        record.packed_bytes -= len(value) + 2
    elif record.packed_bytes >= 0 or elements.size <= half_size_max():
        record.note_removed([value])
    if not elements.size or not elements.is_dense or keyspace.listens:
        _end_removal(keyspace, key, record, b"lpop" if left else b"rpop")
    elif keyspace.is_observed or key not in keyspace.dirty:
        keyspace.mark(key)
    return value


def pop_many(keyspace: Keyspace, key: bytes, record: List, count: int, *, left: bool) -> list[bytes]:
    """Take up to `count` elements from the list at `key`, which is `record`, the outermost first."""
    elements = record.elements
    if count >= elements.size > 1:
        # All of them: what is left to do is dropping the list.
        values = elements.between(0, elements.size)
        if not left:
            values.reverse()
        _remove_all(keyspace, key, b"lpop" if left else b"rpop")
        return values
    values = elements.pop_many(count, left=left)
    if values:
        record.note_removed(values)
        _end_removal(keyspace, key, record, b"lpop" if left else b"rpop")
    return values


def _end_removal(keyspace: Keyspace, key: bytes, record: List, event: bytes) -> None:
    """Note that elements have been removed from a list; one that is empty goes away."""
    elements = record.elements
    if not elements.size:
        _remove_all(keyspace, key, event)
        return
    if not elements.is_dense:
        listediting.settle(elements)
    if keyspace.is_observed or key not in keyspace.dirty:
        keyspace.mark(key)
    if keyspace.listens:
        keyspace.event(events.LIST, event, key)


def _remove_all(keyspace: Keyspace, key: bytes, event: bytes) -> None:
    keyspace.remove(key)
    if keyspace.listens:
        keyspace.event(events.LIST, event, key)
        keyspace.event(events.GENERIC, b"del", key)


def move(
    keyspace: Keyspace,
    source: bytes,
    destination: bytes,
    *,
    from_left: bool,
    to_left: bool,
) -> bytes | None:
    """Take an element from one list and push it to another, or to the same; None if there is none to take.

    Errors: WRONGTYPE, of the destination only if there is something to take; then nothing has changed.
    """
    record = keyspace.find_typed(source, List)
    if record is None:
        return None
    keyspace.find_typed(destination, List)
    if source != destination:
        # The one that takes is told of before the one that gives, which may go away.
        elements = record.elements
        value = elements.pop_left() if from_left else elements.pop_right()
        push(keyspace, destination, [value], left=to_left)
        record.note_removed([value])
        _end_removal(keyspace, source, record, b"lpop" if from_left else b"rpop")
        return value
    elements = record.elements
    value = elements.pop_left() if from_left else elements.pop_right()
    (elements.push_left if to_left else elements.push_right)(value)
    keyspace.mark(source)
    if keyspace.listens:
        keyspace.event(events.LIST, b"lpush" if to_left else b"rpush", source)
        keyspace.event(events.LIST, b"lpop" if from_left else b"rpop", source)
    return value


# -- by rank ---------------------------------------------------------------------------------------


def between(record: List, first: int, last: int) -> list[bytes]:
    """Return the elements from rank `first` to `last`, both included and negative from the end."""
    elements = record.elements
    first, stop = clip(first, last, elements.size)
    return elements.between(first, stop) if first < stop else []


def clip(first: int, last: int, size: int) -> tuple[int, int]:
    """Return a range of ranks as Redis's commands have it, ends included and negative from the end, as a
    half-open one within ``0 .. size``."""
    if first < 0:
        first = max(first + size, 0)
    if last < 0:
        last += size
    return first, min(last + 1, size)


def get(record: List, rank: int) -> bytes | None:
    """Return the element at a rank, negative from the end; None if there is none. Cost: logarithmic."""
    size = record.elements.size
    if rank < 0:
        rank += size
    return record.elements.get(rank) if 0 <= rank < size else None


def replace(keyspace: Keyspace, key: bytes, record: List, rank: int, value: bytes) -> None:
    """Replace the element at a rank, negative from the end. Errors: index out of range."""
    elements = record.elements
    if rank < 0:
        rank += elements.size
    if not 0 <= rank < elements.size:
        raise INDEX_OUT_OF_RANGE
    if record.packed_bytes >= 0:
        record.note_replaced(elements.get(rank), value)
    elements.set(rank, value)
    keyspace.mark(key)
    if keyspace.listens:
        keyspace.event(events.LIST, b"lset", key)


def find_existing(keyspace: Keyspace, key: bytes) -> List:
    """Return the list at `key`. Errors: WRONGTYPE, no such key."""
    record = keyspace.find_typed(key, List)
    if record is None:
        raise NO_SUCH_KEY
    return record


def trim(keyspace: Keyspace, key: bytes, record: List, first: int, last: int) -> None:
    """Keep only the elements from rank `first` to `last`. Cost: O(the smaller of kept and removed)."""
    elements = record.elements
    size = elements.size
    first, stop = clip(first, last, size)
    if first >= stop:
        _remove_all(keyspace, key, b"ltrim")
        return
    kept, removed = stop - first, size - (stop - first)
    if removed > _TRIMMED_SINGLY and kept * _KEEPING_COST < removed:
        _restart(keyspace, record, elements.between(first, stop))
    elif removed:
        if record.packed_bytes >= 0:
            gone = elements.between(0, first) + elements.between(stop, size)
            listediting.trim(elements, first, stop)
            record.note_removed(gone)
        else:
            listediting.trim(elements, first, stop)
            record.note_removed([])
    keyspace.mark(key)
    if keyspace.listens:
        keyspace.event(events.LIST, b"ltrim", key)


_TRIMMED_SINGLY = 256
_KEEPING_COST = 8
"""Writing what is kept of a list anew is taken for that many times the work of removing as many."""


def _restart(keyspace: Keyspace, record: List, values: list[bytes]) -> None:
    """Let a list have only these values, under a fresh id. Cost: O(values), at any size before."""
    record.elements.drop()
    record.bind(keyspace, keyspace.databases.take_id(), 0)
    record.packed_bytes = total_size(values)
    push_right = record.elements.push_right
    for value in values:
        push_right(value)
    record.note_removed([])


# -- by value --------------------------------------------------------------------------------------


def insert(keyspace: Keyspace, key: bytes, record: List, pivot: bytes, value: bytes, *, after: bool) -> int:
    """Insert a value beside the first one that equals `pivot`; returns the length, -1 if there is no such.

    Cost: O(n) for the search.
    """
    elements = record.elements
    if not listediting.insert(elements, pivot, value, after=after):
        return -1
    if record.packed_bytes >= 0:
        record.note_added([value], elements.size)
    keyspace.mark(key)
    if keyspace.listens:
        keyspace.event(events.LIST, b"linsert", key)
    return elements.size


def remove(keyspace: Keyspace, key: bytes, record: List, value: bytes, count: int) -> int:
    """Remove the first `count` elements that equal `value`, the last ones if it is negative, all if it is 0;
    returns how many. Cost: O(n)."""
    removed = listediting.remove(record.elements, value, count)
    if removed:
        record.note_removed([value] * removed)
        _end_removal(keyspace, key, record, b"lrem")
    return removed


def ranks_of(record: List, value: bytes, *, rank: int, limit: int, compared: int) -> list[int]:
    """Return ranks of elements that equal `value`, in the order in which they are met.

    `rank` 1 begins with the first match, 2 with the second; -1 with the last one, and goes backwards. `limit`
    is how many are wanted, `compared` how many elements are looked at; 0 is all. Cost: O(n).
    """
    size = record.elements.size
    reverse = rank < 0
    skipped = abs(rank) - 1
    compared = min(compared or size, size)
    found: list[int] = []
    offset = 0
    for values in record.elements.chunks(reverse=reverse):
        if offset + len(values) > compared:
            values = values[: compared - offset]
        at = -1
        try:
            while True:
                at = values.index(value, at + 1)
                if skipped:
                    skipped -= 1
                    continue
                found.append(size - 1 - offset - at if reverse else offset + at)
                if len(found) == limit:
                    return found
        except ValueError:
            pass
        offset += len(values)
        if offset >= compared:
            break
    return found


# -- whole lists -----------------------------------------------------------------------------------


def store(keyspace: Keyspace, key: bytes, values: list[bytes]) -> None:
    """Let `key` hold a list of these values, whatever it held; nothing if there are none.

    For commands that make a list out of something else; they publish their own events.
    """
    if not values:
        keyspace.remove(key)
        return
    record = List(keyspace, keyspace.databases.take_id(), 0)
    record.note_added(values, len(values))
    for value in values:
        record.elements.push_right(value)
    keyspace.put(key, record)


def value_chunks(record: List) -> Iterator[list[bytes]]:
    """Yield all elements, some at a time. The list must not change meanwhile."""
    return record.elements.chunks()

"""Sets: members in byte order, each without a value.

    e id member -> (nothing)

`form` is the encoding Redis 7.2 would have chosen: integers only in an intset, few and small members in a
listpack, else a hash table. It changes one way only, until the set is deleted or stored anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from lamina.server import events
from lamina.server.encoding import SET
from lamina.server.gathering import check
from lamina.server.keyspace import Keyspace
from lamina.server.limits import LIMITS
from lamina.server.numbers import parse_integer
from lamina.server.records import Collection

INTSET: Final = 0
LISTPACK: Final = 1
HASHTABLE: Final = 2
"""Forms. Written to disk: never change or reuse one."""

_NAMES = (b"intset", b"listpack", b"hashtable")

_INTEGER_SIZE_MAX = 20
"""Bytes of the longest 64-bit integer."""

_AT_ONCE = 256
"""Members of the smallest set that are held against the others together."""

_SCAN_WORTH = 8
"""Elements that a scan passes in the time of one lookup on disk."""

_FEW_LEFT = 5
"""SPOP that leaves less than one of so many it takes makes a new set of what is left, as Redis does."""


class Set(Collection, tag=SET, name=b"set"):
    """The members of a set are its elements; their values are empty."""

    __slots__ = ()


def encoding_name(record: Set) -> bytes:
    """Return the encoding that OBJECT ENCODING reports."""
    return _NAMES[record.form]


def natural_form(members: list[bytes]) -> int:
    """Return the form of a set that has been made of these members, one by one."""
    size = len(members)
    if all(parse_integer(member) is not None for member in members):
        return INTSET if size <= LIMITS.set_intset_entries else HASHTABLE
    if size <= LIMITS.set_listpack_entries and max(map(len, members)) <= LIMITS.set_listpack_value:
        return LISTPACK
    return HASHTABLE


def _form_with(record: Set, member: bytes) -> int:
    """Return the form of a set, which is no hash table, now that a new member has come."""
    if record.form == INTSET and parse_integer(member) is not None:
        return INTSET if record.elements.size <= LIMITS.set_intset_entries else HASHTABLE
    if record.elements.size > LIMITS.set_listpack_entries or len(member) > LIMITS.set_listpack_value:
        return HASHTABLE
    if record.form == INTSET and LIMITS.set_listpack_value < _INTEGER_SIZE_MAX:
        # The integers that are there may be too long for a listpack.
        return natural_form(record.elements.keys())
    return LISTPACK


def _form_for(form: int, first: bytes | None, count: int) -> int:
    """Return the form of a set before `count` members come, of which some may be there already.

    Redis converts at once what the whole call might make too large; `first` is the first member of a new set.
    """
    if first is not None:
        form = INTSET
        if count > LIMITS.set_intset_entries or parse_integer(first) is None:
            form = LISTPACK
    if form == INTSET:
        return HASHTABLE if count > LIMITS.set_intset_entries else INTSET
    return HASHTABLE if count > LIMITS.set_listpack_entries else form


def create(keyspace: Keyspace, members: Iterable[bytes]) -> Set:
    """Return a new set, not yet stored, of members that are all different."""
    record = Set.create(keyspace)
    assert isinstance(record, Set)
    members = list(members)
    put = record.elements.put
    for member in members:
        put(member, b"")
    record.form = natural_form(members)
    return record


# --- Members


def add(keyspace: Keyspace, key: bytes, members: list[bytes]) -> int:
    """Add members to the set at `key`, a new one if there is none; returns how many are new.

    Errors: WRONGTYPE.
    """
    record = keyspace.find_or_create(key, Set)
    elements = record.elements
    is_new_set = not elements.size
    if record.form != HASHTABLE and (is_new_set or len(members) > 1):
        record.form = _form_for(record.form, members[0] if is_new_set else None, len(members))
    put = elements.put
    added = 0
    for member in members:
        if put(member, b""):
            added += 1
            if record.form != HASHTABLE:
                record.form = _form_with(record, member)
    if is_new_set:
        keyspace.put(key, record)
    elif added:
        keyspace.mark(key)
    else:
        return 0
    if keyspace.listens:
        keyspace.event(events.SET, b"sadd", key)
    return added


def remove(keyspace: Keyspace, key: bytes, members: list[bytes]) -> int:
    """Remove members from the set at `key`; returns how many were there. Errors: WRONGTYPE."""
    record = keyspace.find_typed(key, Set)
    if record is None:
        return 0
    take = record.elements.remove
    removed = 0
    for member in members:
        if take(member) is not None:
            removed += 1
    if removed:
        _note_removal(keyspace, key, record, b"srem")
    return removed


def _note_removal(keyspace: Keyspace, key: bytes, record: Set, event: bytes) -> None:
    """Store a set that members were removed from; an empty one vanishes."""
    is_empty = not record.elements.size
    if is_empty:
        keyspace.remove(key)
    else:
        keyspace.mark(key)
    if keyspace.listens:
        keyspace.event(events.SET, event, key)
        if is_empty:
            keyspace.event(events.GENERIC, b"del", key)


def move(keyspace: Keyspace, source_key: bytes, target_key: bytes, member: bytes) -> bool:
    """Move a member from one set to another, a new one if need be; tells whether it was there.

    Errors: WRONGTYPE, unless there is no source.
    """
    source = keyspace.find_typed(source_key, Set)
    if source is None:
        return False
    keyspace.find_typed(target_key, Set)
    if source_key == target_key:
        return member in source.elements
    if source.elements.remove(member) is None:
        return False
    _note_removal(keyspace, source_key, source, b"srem")
    add(keyspace, target_key, [member])
    return True


def pop(keyspace: Keyspace, key: bytes) -> bytes | None:
    """Remove a member drawn at random and return it; None if there is no set. Errors: WRONGTYPE."""
    record = keyspace.find_typed(key, Set)
    if record is None:
        return None
    drawn = record.elements.draw()
    assert drawn is not None
    member = drawn[0]
    record.elements.remove(member)
    _note_removal(keyspace, key, record, b"spop")
    return member


def pop_many(keyspace: Keyspace, key: bytes, count: int) -> list[bytes]:
    """Remove `count` members drawn at random, or all there are, and return them. Errors: WRONGTYPE."""
    record = keyspace.find_typed(key, Set)
    if record is None or not count:
        return []
    elements = record.elements
    if count >= elements.size:
        members = elements.keys()
        keyspace.remove(key)
        if keyspace.listens:
            keyspace.event(events.SET, b"spop", key)
            keyspace.event(events.GENERIC, b"del", key)
        return members
    members = [member for member, _ in elements.draw_many(count, distinct=True)]
    for member in members:
        elements.remove(member)
    if elements.size * _FEW_LEFT <= count:
        record.form = natural_form(elements.keys())
    _note_removal(keyspace, key, record, b"spop")
    return members


# --- Several sets


def intersection(records: list[Set | None], *, limit: int = 0) -> Iterator[bytes]:
    """Yield the members that all sets have; None is an empty set. Not more than `limit`, unless it is 0.

    The smallest set is read as far as it has to be, and its members are looked for in the others: of a large
    set no more is read than that. Sets must not be changed meanwhile. Cost: O(smallest x sets).
    """
    sets = [record for record in records if record is not None]
    if len(sets) < len(records):
        return iter(())
    sets.sort(key=size_of)
    smallest, *others = _without_repetition(sets)
    found = _common(smallest, others)
    return islice(found, limit) if limit else found


def size_of(record: Set) -> int:
    """Return the number of members, to sort by."""
    return record.elements.size


def _without_repetition(sets: list[Set]) -> list[Set]:
    return list({record.id: record for record in sets}.values())


def _common(smallest: Set, others: list[Set]) -> Iterator[bytes]:
    members = _each_member(smallest)
    if not others:
        yield from members
        return
    # In portions that grow: a limit that is soon reached costs little, and the loops below are C's.
    size = 16
    while portion := list(islice(members, size)):
        size = _AT_ONCE
        for other in others:
            portion = _among(portion, other)
        yield from portion


def _each_member(record: Set) -> Iterator[bytes]:
    """Yield all members, without reading all of a large set at once."""
    elements = record.elements
    held = elements.touch()
    return iter(held) if held is not None else (member for member, _ in elements.scan())


def _among(members: list[bytes], record: Set) -> list[bytes]:
    """Return those that the set has."""
    held = record.elements.held
    if held is not None:
        return [member for member in members if member in held]
    values = record.elements.get_many(members)
    return [member for member, value in zip(members, values) if value is not None]


def union(records: list[Set | None]) -> set[bytes]:
    """Return the members that at least one set has; None is an empty set. Cost: O(members of all)."""
    found: set[bytes] = set()
    for record in records:
        if record is not None:
            check(record.size)  # as many at least are in the union
            found.update(_each_member(record))
            check(len(found))
    return found


def difference(records: list[Set | None]) -> set[bytes]:
    """Return the members of the first set that no other has; None is an empty set.

    Cost: O(members of all), or O(first x sets) if that is less.
    """
    first, *others = records
    if first is None:
        return set()
    rest = _without_repetition([record for record in others if record is not None])
    if any(record.id == first.id for record in rest):
        return set()
    check(first.size)
    found = set(_each_member(first))
    for record in sorted(rest, key=size_of, reverse=True):
        if not found:
            break
        if record.elements.size <= len(found) * _SCAN_WORTH:
            found.difference_update(_each_member(record))
        else:
            found.difference_update(_among(list(found), record))
    return found


def store(keyspace: Keyspace, key: bytes, members: Iterable[bytes], *, form: int, event: bytes) -> int:
    """Let `key` hold a set of these members, whatever it held; without any, nothing. Returns the size.

    A set that is not of integers only has at least the given form.
    """
    members = list(members)
    if not members:
        if keyspace.remove(key) and keyspace.listens:
            keyspace.event(events.GENERIC, b"del", key)
        return 0
    record = create(keyspace, members)
    if record.form != INTSET:
        record.form = max(record.form, form)
    keyspace.put(key, record)
    if keyspace.listens:
        keyspace.event(events.SET, event, key)
    return record.size

"""Streams in the neutral form of rdb/values.py: what files and payloads are made of, and made into.

    read_stream(rows, elements, body)      a stored stream, read as it is asked for
    entry_rows(entries), group_rows(...)   a stream's entries and groups as they are stored
    create_stream(keyspace, value)         a new record that holds a value

`rows(start, stop)` yields what a range of the engine holds, as parallel lists of keys and values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from lamina.server.encoding import U32, U64, end_of
from lamina.server.keyspace import Keyspace
from lamina.server.numbers import INTEGER_MAX
from lamina.server.rdb.values import (
    Pending,
    StreamConsumer,
    StreamEntry,
    StreamGroup,
    StreamState,
    StreamValue,
)
from lamina.server.types.streamentries import pack_items, unpack_all
from lamina.server.types.streamgroups import (
    ALL,
    CONSUMER,
    CONSUMERS,
    DATA,
    GROUP,
    NAMES,
    NUMBERS,
    OWN,
    PENDING,
)
from lamina.server.types.streamids import NO_ID, StreamId, pack, unpack
from lamina.server.types.streams import Place, Stream, place_of

Rows = Callable[[bytes, bytes], Iterator[tuple[list[bytes], list[bytes]]]]
Columns = tuple[list[bytes], list[bytes]]
"""Keys and values, side by side."""

_MS_MAX: Final = INTEGER_MAX


# -- out -------------------------------------------------------------------------------------------


def read_stream(rows: Rows, elements: bytes, body: bytes) -> StreamValue:
    """Return the stream that the body of a record tells of; `elements` is what the keys of all elements of
    its database begin with. Errors: ValueError for a body that is none; those of reading, as it is read."""
    place = place_of(body)
    prefix = elements + U64.pack(place.id)
    state = StreamState(
        place.size,
        unpack(place.last_id),
        unpack(place.first_id),
        unpack(place.max_deleted_id),
        place.entries_added,
    )
    groups: Iterable[StreamGroup] = ()
    if place.groups:
        groups = _read_groups(rows, elements + U64.pack(place.groups_id))
    return StreamValue(_read_entries(rows, prefix, place.first_id), place.size, state, groups)


def _read_entries(rows: Rows, prefix: bytes, first: bytes) -> Iterator[list[StreamEntry]]:
    skip = len(prefix)
    for keys, values in rows(prefix + first, end_of(prefix)):
        ids = [unpack(key[skip:]) for key in keys]
        yield list(map(StreamEntry, ids, unpack_all(values)))


def _read_groups(rows: Rows, prefix: bytes) -> Iterator[StreamGroup]:
    names = prefix + NAMES
    skip = len(names)
    for keys, values in rows(names, end_of(names)):
        for key, raw in zip(keys, values):
            number, _, _, last_ms, last_seq, entries_read, _ = GROUP.unpack(raw)
            data = prefix + DATA + U32.pack(number)
            yield StreamGroup(key[skip:], (last_ms, last_seq), entries_read, _read_consumers(rows, data))


def _read_consumers(rows: Rows, data: bytes) -> list[StreamConsumer]:
    pending = data + ALL
    skip = len(pending)
    by_number: dict[int, list[Pending]] = {}
    for keys, values in rows(pending, end_of(pending)):
        for key, raw in zip(keys, values):
            number, delivered_ms, deliveries = PENDING.unpack(raw)
            by_number.setdefault(number, []).append(Pending(unpack(key[skip:]), delivered_ms, deliveries))
    names = data + CONSUMERS
    skip = len(names)
    found: list[StreamConsumer] = []
    for keys, values in rows(names, end_of(names)):
        for key, raw in zip(keys, values):
            number, seen_ms, active_ms, _ = CONSUMER.unpack(raw)
            found.append(StreamConsumer(key[skip:], seen_ms, active_ms, by_number.get(number, [])))
    return found


# -- in --------------------------------------------------------------------------------------------


def entry_rows(entries: list[StreamEntry]) -> Columns:
    """Return entries as they are stored, behind the stream's prefix."""
    return [pack(*entry.id) for entry in entries], [pack_items(entry.items) for entry in entries]


def group_rows(number: int, group: StreamGroup) -> Columns:
    """Return the group with a number, with all it has, as it is stored behind the prefix of the groups."""
    data = DATA + U32.pack(number)
    keys: list[bytes] = []
    values: list[bytes] = []
    pending = 0
    for at, consumer in enumerate(group.consumers):
        packed = U32.pack(at)
        ids = [pack(*entry.id) for entry in consumer.pending]
        pending += len(ids)
        keys += (data + CONSUMERS + consumer.name, data + NUMBERS + packed)
        times = _bounded(consumer.seen_ms), _bounded(consumer.active_ms)
        values += (CONSUMER.pack(at, *times, len(ids)), consumer.name)
        keys += [data + OWN + packed + one for one in ids]
        values += [b""] * len(ids)
        keys += [data + ALL + one for one in ids]
        values += [
            PENDING.pack(at, _bounded(entry.delivered_ms), min(entry.deliveries, _MS_MAX))
            for entry in consumer.pending
        ]
    count = len(group.consumers)
    keys.append(NAMES + group.name)
    values.append(GROUP.pack(number, count, count, *group.last_id, group.entries_read, pending))
    return keys, values


def _bounded(time_ms: int) -> int:
    """Return a time as 64 bits with a sign have it: files may say anything."""
    return max(-_MS_MAX, min(time_ms, _MS_MAX))


class Filled:
    """What is known of the entries of a stream that is being filled, for its record."""

    def __init__(self) -> None:
        self.size = 0
        self.first_id: StreamId = NO_ID
        self.last_id: StreamId = NO_ID

    def note(self, entries: list[StreamEntry]) -> None:
        """Entries have been added, in order."""
        if entries:
            if not self.size:
                self.first_id = entries[0].id
            self.size += len(entries)
            self.last_id = entries[-1].id

    def place(self, stream_id: int, state: StreamState, groups_id: int, groups: int) -> Place:
        """Return what the record says. What a file says of its entries is not more than a claim."""
        return Place(
            stream_id,
            self.size,
            0,
            groups_id,
            groups,
            groups,
            pack(*max(state.last_id, self.last_id)),
            pack(*self.first_id),
            pack(*state.max_deleted_id),
            state.entries_added,
        )


def create_stream(keyspace: Keyspace, value: StreamValue) -> Stream:
    """Return a new record, not yet stored, that holds a value which is whole in memory."""
    take_id, put = keyspace.databases.take_id, keyspace.store.put
    taken = take_id()
    prefix = keyspace.element_prefix + U64.pack(taken)
    filled = Filled()
    for entries in value.chunks:
        filled.note(entries)
        for key, stored in zip(*entry_rows(entries)):
            put(prefix + key, stored, False)
    groups_id = count = 0
    for group in value.groups:
        if not groups_id:
            groups_id = take_id()
            prefix = keyspace.element_prefix + U64.pack(groups_id)
        for key, stored in zip(*group_rows(count, group)):
            put(prefix + key, stored, False)
        count += 1
    return Stream.of(keyspace, filled.place(taken, value.state, groups_id, count))

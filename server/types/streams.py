"""Streams: entries in the order of their ids, and groups of consumers that share them out.

    e id ms:u64 seq:u64 -> fields and values                streamentries.py
    e groups_id ...                                         streamgroups.py

The record has the last id, the counters and the ids of both, so XADD reads nothing but the record, and XLEN
and the lag of a group are read off it:

    id:u64 size:u64 form:u8  groups_id:u64 groups:u32 next_group:u32  last  first  max_deleted  added:u64

`groups_id` is 0 if the stream has never had a group. The three ids are `ms:u64 seq:u64`: the last one that
was given, that of the first entry (0-0 if there is none), and the largest of an entry that XDEL has removed.
`added` is how many entries there have ever been. There is one form, 0.

A stream may be empty: it goes when it is deleted, and not with its last entry.

XTRIM may discard a range of ids, in which nothing can be written again. Ids never go back while there are
entries; if XSETID takes an empty stream back, its entries get a new id (`restart`).
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from lamina.server import events
from lamina.server.encoding import ARGUMENT_SIZE_MAX, COLLECTION, STREAM, U64
from lamina.server.keyspace import Keyspace
from lamina.server.limits import LIMITS
from lamina.server.numbers import INTEGER_MIN
from lamina.server.records import RECORD_OVERHEAD_BYTES, Collection
from lamina.server.types.streamentries import Entries
from lamina.server.types.streamgroups import UNKNOWN, Group, Groups
from lamina.server.types.streamids import ID_MAX, NO_ID, PART_MAX, StreamId, next_id, pack, unpack

_STATE: Final = struct.Struct(">QII16s16s16sQ")

_NODE_ENTRIES: Final = 100
"""Entries of a node where the configuration sets no bound: Redis's default."""

_NO_ID: Final = pack(*NO_ID)


class Place(NamedTuple):
    """What the body of a stream's record says. Ids are packed."""

    id: int
    size: int
    form: int
    groups_id: int
    groups: int
    next_group: int
    last_id: bytes
    first_id: bytes
    max_deleted_id: bytes
    entries_added: int


def place_of(body: bytes) -> Place:
    """Return what the body of a stream's record says. Errors: ValueError."""
    if len(body) != COLLECTION.size + _STATE.size:
        raise ValueError(f"a stream's record of {len(body)} bytes")
    return Place(*COLLECTION.unpack_from(body), *_STATE.unpack_from(body, COLLECTION.size))


def encode_place(place: Place) -> bytes:
    """Return the body of the record that says so."""
    return COLLECTION.pack(*place[:3]) + _STATE.pack(*place[3:])


class Stream(Collection, tag=STREAM, name=b"stream"):
    """A stream. `groups` is None if there has never been one."""

    __slots__ = ("entries_added", "groups", "last_id", "max_deleted_id")

    elements: Entries  # type: ignore[assignment]

    def __init__(self, keyspace: Keyspace, id: int, size: int, first: bytes = _NO_ID) -> None:  # noqa: A002
        self.expires_ms = self.weighed_bytes = 0
        self.form = 0
        self.id = id
        self.elements = Entries(keyspace.store, keyspace.element_prefix + U64.pack(id), size, first)
        self.groups: Groups | None = None
        self.last_id = NO_ID
        self.max_deleted_id = NO_ID
        self.entries_added = 0

    @property
    def first_id(self) -> StreamId:
        """The id of the first entry; 0-0 if there is none."""
        return unpack(self.elements.first)

    def encode_body(self) -> bytes:
        """Return what is drawn above, and write the groups that have changed."""
        groups, elements = self.groups, self.elements
        if groups is None:
            groups_id = count = next_number = 0
        else:
            groups.write()
            groups_id, count, next_number = groups.id, groups.count, groups.next_number
        return COLLECTION.pack(self.id, elements.size, self.form) + _STATE.pack(
            groups_id,
            count,
            next_number,
            pack(*self.last_id),
            elements.first,
            pack(*self.max_deleted_id),
            self.entries_added & PART_MAX,  # it may have been told to begin with the largest
        )

    @classmethod
    def decode_body(cls, keyspace: Keyspace, body: bytes) -> Stream:
        """Return the stream; its entries and groups are read when they are needed."""
        return cls.of(keyspace, place_of(body))

    @classmethod
    def of(cls, keyspace: Keyspace, place: Place) -> Stream:
        """Return the stream that is so."""
        record = cls(keyspace, place.id, place.size, place.first_id)
        record.form = place.form
        record.last_id = unpack(place.last_id)
        record.max_deleted_id = unpack(place.max_deleted_id)
        record.entries_added = place.entries_added
        if place.groups_id:
            record.groups = Groups(keyspace, place.groups_id, place.groups, place.next_group)
        return record

    def clone(self, keyspace: Keyspace) -> Stream:
        """Return a copy with entries and groups of its own."""
        copy = Stream(keyspace, keyspace.databases.take_id(), 0)
        source = self.elements
        put, skip = copy.elements.append, len(source.prefix)
        for keys, values in source.store.chunks(source.prefix + source.first, source.end):
            for key, value in zip(keys, values):
                put(key[skip:], value)
        copy.elements.let_go()
        copy.last_id = self.last_id
        copy.max_deleted_id = self.max_deleted_id
        copy.entries_added = self.entries_added
        groups = self.groups
        if groups is not None:
            groups.write()
            for group in groups.all():
                twin = copy.open_groups(keyspace).create(group.name, group.last_id, group.entries_read)
                twin.copy_from(group)
        return copy

    def drop(self, keyspace: Keyspace) -> None:
        """Remove entries and groups."""
        self.elements.drop()
        if self.groups is not None:
            self.groups.drop()

    def restart(self, keyspace: Keyspace) -> None:
        """Have entries, of which there are none, under a new id: ids are about to go back."""
        self.id = keyspace.databases.take_id()
        self.elements = Entries(keyspace.store, keyspace.element_prefix + U64.pack(self.id), 0, _NO_ID)

    def open_groups(self, keyspace: Keyspace) -> Groups:
        """Return the groups, of which there are none perhaps."""
        groups = self.groups
        if groups is None:
            groups = self.groups = Groups(keyspace, keyspace.databases.take_id(), 0, 0)
        return groups

    def find_group(self, name: bytes) -> Group | None:
        """Return a group, None if there is none of that name."""
        return None if self.groups is None else self.groups.find(name)

    def held_bytes(self) -> int:
        """Return the memory it takes."""
        held_bytes = RECORD_OVERHEAD_BYTES + self.elements.held_bytes()
        return held_bytes if self.groups is None else held_bytes + self.groups.held_bytes()

    def let_go(self) -> None:
        """Stop holding entries and groups."""
        self.elements.let_go()
        if self.groups is not None:
            self.groups.let_go()

    def check(self) -> None:
        """Assert the invariants. For tests. Cost: a scan."""
        self.elements.check()
        last = self.elements.last()
        assert last is None or last <= pack(*self.last_id)
        if self.groups is not None:
            self.groups.check()

    # -- where a reader stands ---------------------------------------------------------------------

    def has_gap_from(self, stream_id: StreamId) -> bool:
        """Tell whether an entry has been removed among those that are there, at an id or after it."""
        if not self.elements.size or self.max_deleted_id == NO_ID or self.first_id > self.max_deleted_id:
            return False
        return stream_id <= self.max_deleted_id

    def distance_to(self, stream_id: StreamId) -> int:
        """Return how many entries have been added up to an id; UNKNOWN where counters do not tell."""
        added, size = self.entries_added, self.elements.size
        if not added:
            return 0
        if not size and stream_id <= self.last_id:
            return added
        if stream_id >= self.last_id:
            return added if stream_id == self.last_id else UNKNOWN
        if self.max_deleted_id == NO_ID or self.max_deleted_id < self.first_id:
            if stream_id < self.first_id:
                return added - size
            if stream_id == self.first_id:
                return added - size + 1
        return UNKNOWN

    def lag_of(self, group: Group) -> int | None:
        """Return how many entries a group has still to be given; None where counters do not tell."""
        if not self.entries_added:
            return 0
        entries_read: int = group.entries_read
        if entries_read == UNKNOWN or self.has_gap_from(group.last_id):
            entries_read = self.distance_to(group.last_id)
            if entries_read == UNKNOWN:
                return None
        return signed(self.entries_added - entries_read)


def signed(value: int) -> int:
    """Return a counter as 64 bits have it: a group may be told to begin with the largest."""
    return ((value - INTEGER_MIN) & PART_MAX) + INTEGER_MIN


def notify(keyspace: Keyspace, key: bytes) -> None:
    """Let those who wait at a stream try again."""
    if keyspace.waiting and key in keyspace.waiting:
        keyspace.databases.ready.append((keyspace, key))


def mark_quietly(keyspace: Keyspace, key: bytes) -> None:
    """Note that the stream at `key` has changed in what only its groups' readers see.

    To Redis that is no change of the key: neither WATCH nor client tracking is told.
    """
    keyspace.dirty[key] = True


# -- adding ----------------------------------------------------------------------------------------


def generate_id(stream: Stream, now_ms: int) -> StreamId | None:
    """Return the next id of a stream by the clock, which may go backwards; None if there is none left."""
    last = stream.last_id
    return (now_ms, 0) if now_ms > last[0] else next_id(last)


def id_within(stream: Stream, ms: int) -> StreamId | None:
    """Return the next id within the given milliseconds; None if it would not be above the last one."""
    last_ms, last_seq = stream.last_id
    if ms > last_ms:
        return ms, 0
    return (ms, last_seq + 1) if ms == last_ms and last_seq < PART_MAX else None


def add(keyspace: Keyspace, key: bytes, stream: Stream | None, stream_id: StreamId, value: bytes) -> Stream:
    """Add an entry, as it is to be stored, under an id above the last one; returns the stream, a new one
    perhaps. Cost: constant, nothing is read."""
    if stream is None:
        stream = Stream(keyspace, keyspace.databases.take_id(), 0)
        stream.elements.append(pack(*stream_id), value)
        stream.last_id = stream_id
        stream.entries_added = 1
        keyspace.put(key, stream)
    else:
        stream.elements.append(pack(*stream_id), value)
        stream.last_id = stream_id
        stream.entries_added += 1
        keyspace.mark(key)
        if keyspace.waiting:
            notify(keyspace, key)
    if keyspace.listens:
        keyspace.event(events.STREAM, b"xadd", key)
    return stream


def add_pairs(
    keyspace: Keyspace, key: bytes, stream: Stream, pairs: list[tuple[bytes, bytes]]
) -> list[bytes] | None:
    """Add entries of one field and value each by the clock, for whom nobody waits or listens; returns their
    ids as text. None, and nothing is done, if they must be added singly. Cost: 0.8 µs for each."""
    if stream.last_id == ID_MAX:
        return None
    first = generate_id(stream, keyspace.clock.now_ms)
    assert first is not None
    ms, seq = first
    stop = seq + len(pairs)
    if stop > PART_MAX:
        return None
    head = U64.pack(ms)
    keys = [head + tail for tail in map(U64.pack, range(seq, stop))]
    values = [
        b"*2\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(field), field, len(value), value) for field, value in pairs
    ]
    if max(map(len, values)) > ARGUMENT_SIZE_MAX or not stream.elements.append_many(keys, values):
        return None
    stream.last_id = (ms, stop - 1)
    stream.entries_added += len(pairs)
    keyspace.mark(key)
    return [b"%d-%d" % (ms, number) for number in range(seq, stop)]


# -- removing --------------------------------------------------------------------------------------


class Trim(NamedTuple):
    """What XADD and XTRIM are asked to keep: `length_max` entries, or those from `min_id` on.

    `is_rough`: only whole nodes go, as Redis has them; `limit` is how many entries may go then, 0 all.
    """

    length_max: int | None = None
    min_id: StreamId = NO_ID
    is_rough: bool = False
    limit: int = 0


def trim(keyspace: Keyspace, key: bytes, stream: Stream, wanted: Trim) -> int:
    """Remove the first entries of a stream; returns how many. Cost: that of `Entries.trim`."""
    entries = stream.elements
    if wanted.length_max is not None:
        excess = max(entries.size - wanted.length_max, 0)
    else:
        excess = entries.count_below(pack(*wanted.min_id), wanted.limit if wanted.is_rough else 0)
    if wanted.is_rough:
        # Redis keeps some hundred entries in a node of its tree, fewer if they are long. Here nothing lies in
        # nodes; but what "~" leaves over is about the same, and so is that most calls have nothing to do.
        if wanted.limit:
            excess = min(excess, wanted.limit)
        if excess < entries.size:
            excess -= excess % _node_entries(entries.mean_size())
    if not excess:
        return 0
    entries.trim(excess)
    keyspace.mark(key)
    if keyspace.listens:
        keyspace.event(events.STREAM, b"xtrim", key)
    return excess


def _node_entries(mean_size: int) -> int:
    """Return how many entries of a size make a node of Redis's."""
    most = LIMITS.stream_node_entries or _NODE_ENTRIES
    node_bytes = LIMITS.stream_node_bytes
    if node_bytes and mean_size * most > node_bytes:
        return max(node_bytes // mean_size, 1)
    return most


def delete(keyspace: Keyspace, key: bytes, stream: Stream, ids: list[StreamId]) -> int:
    """Remove entries by their ids; returns how many were there. Cost: a lookup for each."""
    remove = stream.elements.remove
    removed = 0
    for stream_id in ids:
        if remove(pack(*stream_id)):
            removed += 1
            if stream_id > stream.max_deleted_id:
                stream.max_deleted_id = stream_id
    if removed:
        keyspace.mark(key)
        if keyspace.listens:
            keyspace.event(events.STREAM, b"xdel", key)
    return removed


def set_last_id(
    keyspace: Keyspace,
    key: bytes,
    stream: Stream,
    last_id: StreamId,
    *,
    entries_added: int | None,
    max_deleted_id: StreamId,
) -> None:
    """Set what a stream knows besides its entries. `last_id` is not below any entry's."""
    if last_id < stream.last_id and not stream.elements.size:
        stream.restart(keyspace)
    stream.last_id = last_id
    if entries_added is not None:
        stream.entries_added = entries_added
    if max_deleted_id != NO_ID:
        stream.max_deleted_id = max_deleted_id
    mark_quietly(keyspace, key)
    if keyspace.listens:
        keyspace.event(events.STREAM, b"xsetid", key)


# -- groups ----------------------------------------------------------------------------------------


def create_group(
    keyspace: Keyspace, key: bytes, stream: Stream | None, name: bytes, last_id: StreamId, entries_read: int
) -> bool:
    """Make a group, and a stream if there is none; tells whether there was no group of that name."""
    if stream is None:
        stream = Stream(keyspace, keyspace.databases.take_id(), 0)
        stream.open_groups(keyspace).create(name, last_id, entries_read)
        keyspace.put(key, stream)
    elif stream.find_group(name) is not None:
        return False
    else:
        stream.open_groups(keyspace).create(name, last_id, entries_read)
        mark_quietly(keyspace, key)
    if keyspace.listens:
        keyspace.event(events.STREAM, b"xgroup-create", key)
    return True


def set_group_id(keyspace: Keyspace, key: bytes, group: Group, last_id: StreamId, entries_read: int) -> None:
    """Let a group go on after an id."""
    group.last_id = last_id
    group.entries_read = entries_read
    group.is_changed = True
    mark_quietly(keyspace, key)
    if keyspace.listens:
        keyspace.event(events.STREAM, b"xgroup-setid", key)


def destroy_group(keyspace: Keyspace, key: bytes, stream: Stream, group: Group) -> None:
    """Remove a group; its readers who wait are told. Cost: O(1) for a large one."""
    assert stream.groups is not None
    stream.groups.remove(group)
    mark_quietly(keyspace, key)
    if keyspace.listens:
        keyspace.event(events.STREAM, b"xgroup-destroy", key)
    notify(keyspace, key)

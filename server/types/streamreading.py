"""What consumers do with the entries of a stream: read, acknowledge, claim.

All of it goes by packed ids, and nothing of it changes an entry: what changes is who has which of them
pending. Entries that are removed stay pending until their consumer asks for them, or somebody claims them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

from lamina.server import events
from lamina.server.gathering import check, watched
from lamina.server.keyspace import Keyspace
from lamina.server.types.streamentries import Found
from lamina.server.types.streamgroups import UNKNOWN, Consumer, Group, Pending
from lamina.server.types.streamids import ID_MAX, NO_ID, StreamId, after, next_id, pack, unpack
from lamina.server.types.streams import Stream, mark_quietly, signed

_ATTEMPTS_FACTOR: Final = 10
"""Pending entries that XAUTOCLAIM looks at for each that it may return."""

_CHUNK_FIRST: Final = 128
"""Pending entries that are read at once, at first."""

_SEEN_WRITTEN_MS: Final = 1000
"""For how long it is not written that a consumer was seen, if that is all: consumers may ask all the time,
and find nothing."""

_START: Final = pack(*NO_ID)
_LAST_PACKED: Final = pack(*ID_MAX)

Delivered = tuple[list[bytes], "list[bytes | None]"]
"""Packed ids and stored entries; None stands for one that has been removed."""


def read_after(stream: Stream, stream_id: StreamId, count: int) -> Found:
    """Return up to `count` entries (0: all) behind an id. Cost: nothing is read if there are none."""
    if stream.last_id <= stream_id or not stream.elements.size:
        return [], []
    following = next_id(stream_id)
    assert following is not None
    return stream.elements.between(pack(*following), _LAST_PACKED, count)


# -- consumers -------------------------------------------------------------------------------------


def visit(keyspace: Keyspace, key: bytes, group: Group, name: bytes) -> Consumer:
    """Return the consumer that asks for something, a new one perhaps; it is seen now."""
    now_ms = keyspace.clock.wall_ms
    consumer = group.find(name)
    if consumer is None:
        consumer = create_consumer(keyspace, key, group, name)
    else:
        consumer.seen_ms = now_ms
        if now_ms - consumer.written_ms >= _SEEN_WRITTEN_MS:
            group.note(consumer)
            mark_quietly(keyspace, key)
    return consumer


def create_consumer(keyspace: Keyspace, key: bytes, group: Group, name: bytes) -> Consumer:
    """Make a consumer, of whose name there is none."""
    consumer = group.create(name, keyspace.clock.wall_ms)
    mark_quietly(keyspace, key)
    if keyspace.listens:
        keyspace.event(events.STREAM, b"xgroup-createconsumer", key)
    return consumer


def remove_consumer(keyspace: Keyspace, key: bytes, group: Group, name: bytes) -> int:
    """Remove a consumer, if there is one; returns how much was pending with it."""
    consumer = group.find(name)
    if consumer is None:
        return 0
    pending = group.remove(consumer)
    mark_quietly(keyspace, key)
    if keyspace.listens:
        keyspace.event(events.STREAM, b"xgroup-delconsumer", key)
    return pending


def deliver(
    keyspace: Keyspace,
    key: bytes,
    stream: Stream,
    group: Group,
    consumer: Consumer,
    count: int,
    *,
    noack: bool,
) -> Found:
    """Give a consumer up to `count` entries (0: all) that the group has not seen."""
    found = read_after(stream, group.last_id, count)
    keys = found[0]
    if keys:
        _advance(stream, group, keys)
        if not noack:
            consumer.active_ms = now_ms = keyspace.clock.wall_ms
            group.deliver(keys, consumer, now_ms)
        mark_quietly(keyspace, key)
    return found


def _advance(stream: Stream, group: Group, keys: list[bytes]) -> None:
    """Let the group have read entries, whose packed ids ascend.

    The counter goes on by one for each as long as it is known and no gap lies ahead; else each id is tried
    whether it tells where the group is. What each does shows in the last one, but for those before a gap.
    """
    read = group.entries_read
    # Behind the largest id that was ever removed there are no gaps, and before it there is one for all.
    last_id = unpack(keys[-1])
    if read != UNKNOWN and not stream.has_gap_from(unpack(keys[0])):
        read = signed(read + len(keys))
    elif stream.entries_added:
        for packed in keys:
            stream_id = unpack(packed)
            if read != UNKNOWN and not stream.has_gap_from(stream_id):
                read = signed(read + 1)
            else:
                read = signed(stream.distance_to(stream_id))
    group.entries_read = read
    group.last_id = last_id
    group.is_changed = True


def history(
    stream: Stream, group: Group, consumer: Consumer, after_id: StreamId, count: int, now_ms: int
) -> Delivered:
    """Give a consumer again up to `count` entries (0: all) that are pending with it, behind an id."""
    first = next_id(after_id)
    if first is None:
        return [], []
    keys = [packed for packed, _ in watched(islice(consumer.own.scan(pack(*first)), count or None))]
    values: list[bytes | None] = []
    size_bytes = 0
    for packed in keys:
        value = stream.elements.get(packed)
        values.append(value)
        if value is not None:
            size_bytes += len(value)
            check(len(keys), size_bytes)
    for packed, value in zip(keys, values):
        if value is not None:
            found = group.find_pending(packed)
            assert found is not None
            group.assign(packed, found, consumer, now_ms, found.deliveries + 1)
    return keys, values


def acknowledge(keyspace: Keyspace, key: bytes, group: Group, ids: list[StreamId]) -> int:
    """Let entries be pending no longer; returns how many were."""
    acknowledged = group.acknowledge([pack(*stream_id) for stream_id in ids])
    if acknowledged:
        mark_quietly(keyspace, key)
    return acknowledged


# -- claiming --------------------------------------------------------------------------------------


class Claim(NamedTuple):
    """How entries are claimed. `delivered_ms` None: now; `deliveries` None: one more, unless `just_ids`."""

    min_idle_ms: int
    just_ids: bool
    delivered_ms: int | None = None
    deliveries: int | None = None
    is_forced: bool = False
    """Entries that are not pending become so."""


def claim(
    keyspace: Keyspace,
    key: bytes,
    stream: Stream,
    group: Group,
    consumer: Consumer,
    ids: list[StreamId],
    wanted: Claim,
) -> Found:
    """Let entries be pending with a consumer, whoever had them; returns those that now are."""
    now_ms = keyspace.clock.wall_ms
    found_keys: list[bytes] = []
    found_values: list[bytes] = []
    for stream_id in ids:
        packed = pack(*stream_id)
        pending = group.find_pending(packed)
        value = stream.elements.get(packed)
        if value is None:
            if pending is not None:
                group.forget(packed, pending)
        elif _is_claimed(group, packed, pending, consumer, wanted, now_ms):
            found_keys.append(packed)
            found_values.append(value)
    if found_keys:
        consumer.active_ms = now_ms
        group.note(consumer)
    mark_quietly(keyspace, key)
    return found_keys, found_values


def _is_claimed(
    group: Group, packed: bytes, pending: Pending | None, consumer: Consumer, wanted: Claim, now_ms: int
) -> bool:
    """Give an entry to a consumer, unless it may not have it; tells whether it has."""
    if pending is None:
        if not wanted.is_forced:
            return False
        deliveries = 1
    else:
        if wanted.min_idle_ms and now_ms - pending.delivered_ms < wanted.min_idle_ms:
            return False
        deliveries = pending.deliveries
    if wanted.deliveries is not None:
        deliveries = wanted.deliveries
    elif not wanted.just_ids:
        deliveries += 1
    at_ms = now_ms if wanted.delivered_ms is None else wanted.delivered_ms
    group.assign(packed, pending, consumer, at_ms, deliveries)
    return True


class Claimed(NamedTuple):
    """What XAUTOCLAIM has found. `next_id` is where to go on, 0-0 at the end."""

    next_id: bytes
    keys: list[bytes]
    values: list[bytes]
    deleted: list[bytes]


def claim_idle(
    keyspace: Keyspace,
    key: bytes,
    stream: Stream,
    group: Group,
    consumer: Consumer,
    start: StreamId,
    count: int,
    wanted: Claim,
) -> Claimed:
    """Let up to `count` entries that are idle be pending with a consumer, from an id on.

    Those that are gone from the stream are pending no longer, and count, too. Cost: ten times `count` pending
    entries are looked at, at most.
    """
    now_ms = keyspace.clock.wall_ms
    attempts = count * _ATTEMPTS_FACTOR
    cursor = _START
    keys: list[bytes] = []
    values: list[bytes] = []
    deleted: list[bytes] = []
    for tried, (packed, raw) in enumerate(_pending_from(group, pack(*start))):
        if tried == attempts or len(keys) + len(deleted) == count:
            cursor = packed
            break
        pending = group.decode(raw)
        value = stream.elements.get(packed)
        if value is None:
            group.forget(packed, pending)
            deleted.append(packed)
        elif _is_claimed(group, packed, pending, consumer, wanted, now_ms):
            keys.append(packed)
            values.append(value)
    if keys:
        consumer.active_ms = now_ms
        group.note(consumer)
    mark_quietly(keyspace, key)
    return Claimed(cursor, keys, values, deleted)


def _pending_from(group: Group, start: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield pending entries from an id on, as they are stored; those that were yielded may be changed."""
    size = _CHUNK_FIRST
    while chunk := list(islice(group.pending.scan(start), size)):
        yield from chunk
        start = after(chunk[-1][0])
        size *= 2

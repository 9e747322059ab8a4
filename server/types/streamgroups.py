"""The consumer groups of one stream: who has been given what and has not acknowledged it.

They lie under an id of their own, which is taken when a stream is first given a group, so that streams
without groups pay nothing, and XGROUP DESTROY gives up one range:

    g name                                         -> group: number:u32 consumers:u32 next consumer:u32
                                                      last ms:u64 seq:u64 entries read:i64 pending:u64
    d group:u32 c name                             -> consumer: number:u32 seen ms:i64 active ms:i64
                                                      pending:u64
    d group:u32 n consumer:u32                     -> its name
    d group:u32 o consumer:u32 ms:u64 seq:u64      -> nothing: the entries that are pending with the consumer
    d group:u32 p ms:u64 seq:u64                   -> consumer:u32 delivered ms:i64 deliveries:u64

Groups have numbers within the stream and consumers within their group, given once and never again. `entries
read` is -1 if the group has lost count, `active ms` is -1 of a consumer that was never given anything.

Groups and consumers are read when they are named and kept with the stream's record; those that have changed
in a turn are written once, when the record is. Pending lists are `Elements`: small ones are held in memory.
`top` is an id that no pending entry of the group is above, so that what is read for the first time, which is
nearly all, is not looked up before it is added.

Invariants: a group's pending list is the union of those of its consumers, which are disjoint. `pending` of
both is how many there are. `check` asserts them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from lamina.engine import CorruptionError
from lamina.server.elements import DELETED_SINGLY, ELEMENT_OVERHEAD_BYTES, Elements
from lamina.server.encoding import U32, U64, end_of
from lamina.server.keyspace import Keyspace
from lamina.server.numbers import INTEGER_MAX
from lamina.server.store import Store
from lamina.server.types.streamids import ABOVE_ALL, FIRST, ID_SIZE, StreamId

GROUP: Final = struct.Struct(">IIIQQqQ")
CONSUMER: Final = struct.Struct(">IqqQ")
PENDING: Final = struct.Struct(">IqQ")

UNKNOWN: Final = -1
"""The entries read of a group that has lost count."""
NEVER: Final = -1
"""The active time of a consumer that was never given anything."""

NAMES: Final = b"g"
DATA: Final = b"d"
CONSUMERS: Final = b"c"
NUMBERS: Final = b"n"
OWN: Final = b"o"
ALL: Final = b"p"

_OBJECT_BYTES: Final = 900
"""Memory of a group or consumer: the object, its `Elements`, and places in tables (measured)."""

_pack_pending = PENDING.pack
_unpack_pending = PENDING.unpack


class Consumer:
    """One consumer of a group. `own` has the ids that are pending with it."""

    __slots__ = ("active_ms", "name", "number", "own", "seen_ms", "written_ms")

    def __init__(
        self, store: Store, data: bytes, name: bytes, number: int, seen_ms: int, active_ms: int, pending: int
    ) -> None:
        """`data` is what the keys of the group's data begin with."""
        self.name = name
        self.number = number
        self.seen_ms = self.written_ms = seen_ms
        """When it last asked for something; and what of that is stored, or about to be."""
        self.active_ms = active_ms
        self.own = Elements(store, data + OWN + U32.pack(number), pending)

    def encode(self) -> bytes:
        """Return the consumer as it is stored."""
        self.written_ms = self.seen_ms
        return CONSUMER.pack(self.number, self.seen_ms, self.active_ms, self.own.size)


class Pending:
    """What is known of one pending entry."""

    __slots__ = ("consumer", "delivered_ms", "deliveries")

    def __init__(self, consumer: Consumer, delivered_ms: int, deliveries: int) -> None:
        self.consumer = consumer
        self.delivered_ms = delivered_ms
        self.deliveries = deliveries


class Group:
    """One consumer group."""

    __slots__ = (
        "_by_name",
        "_by_number",
        "_changed",
        "_store",
        "consumer_count",
        "data",
        "entries_read",
        "is_changed",
        "last_id",
        "name",
        "next_consumer",
        "number",
        "pending",
        "top",
    )

    def __init__(self, store: Store, prefix: bytes, name: bytes, raw: bytes) -> None:
        """`prefix` is what the keys of all groups of the stream begin with, `raw` the group as it is stored.

        Errors: struct.error.
        """
        number, count, next_consumer, last_ms, last_seq, entries_read, pending = GROUP.unpack(raw)
        self._store = store
        self.name = name
        self.number = number
        self.consumer_count = count
        self.next_consumer = next_consumer
        self.last_id: StreamId = (last_ms, last_seq)
        self.entries_read = entries_read
        self.data = prefix + DATA + U32.pack(number)
        self.pending = Elements(store, self.data + ALL, pending)
        self.top = ABOVE_ALL if pending else FIRST
        self.is_changed = False
        """Whether it, or a consumer, must be written."""
        self._by_name: dict[bytes, Consumer] = {}
        self._by_number: dict[int, Consumer] = {}
        self._changed: dict[Consumer, bool] = {}

    def encode(self) -> bytes:
        """Return the group as it is stored."""
        return GROUP.pack(
            self.number,
            self.consumer_count,
            self.next_consumer,
            *self.last_id,
            self.entries_read,
            self.pending.size,
        )

    # -- consumers ---------------------------------------------------------------------------------

    def find(self, name: bytes) -> Consumer | None:
        """Return a consumer, None if there is none of that name."""
        consumer = self._by_name.get(name)
        if consumer is None:
            raw = self._store.get(self.data + CONSUMERS + name)
            if raw is None:
                return None
            consumer = self._adopt(name, raw)
        return consumer

    def _adopt(self, name: bytes, raw: bytes) -> Consumer:
        """Return the consumer that is stored so. One that is known already is what memory knows of it."""
        known = self._by_name.get(name)
        if known is not None:
            return known
        if len(raw) != CONSUMER.size:
            raise CorruptionError(self._store.db.path, 0, f"a consumer of {len(raw)} bytes")
        return self._keep(Consumer(self._store, self.data, name, *CONSUMER.unpack(raw)))

    def _keep(self, consumer: Consumer) -> Consumer:
        self._by_name[consumer.name] = consumer
        self._by_number[consumer.number] = consumer
        return consumer

    def by_number(self, number: int) -> Consumer:
        """Return the consumer with a number that a pending entry names."""
        consumer = self._by_number.get(number)
        if consumer is None:
            name = self._store.get(self.data + NUMBERS + U32.pack(number))
            consumer = None if name is None else self.find(name)
            if consumer is None:
                raise CorruptionError(self._store.db.path, 0, f"a group without its consumer {number}")
        return consumer

    def consumers(self) -> Iterator[Consumer]:
        """Yield all consumers in the order of their names. Cost: a scan, unless all are known."""
        known = self._by_name
        if len(known) == self.consumer_count:
            for name in sorted(known):
                yield known[name]
            return
        prefix = self.data + CONSUMERS
        skip = len(prefix)
        for key, raw in list(self._store.scan(prefix, end_of(prefix))):
            yield self._adopt(key[skip:], raw)

    def create(self, name: bytes, now_ms: int, active_ms: int = NEVER) -> Consumer:
        """Return a new consumer, of whose name there is none."""
        number = self.next_consumer
        self.next_consumer = number + 1
        self.consumer_count += 1
        self.is_changed = True
        consumer = Consumer(self._store, self.data, name, number, now_ms, active_ms, 0)
        self._store.put(self.data + CONSUMERS + name, consumer.encode(), False)
        self._store.put(self.data + NUMBERS + U32.pack(number), name, False)
        return self._keep(consumer)

    def remove(self, consumer: Consumer) -> int:
        """Remove a consumer with all that is pending with it; returns how much that was. Cost: O(pending)."""
        own = consumer.own
        count = own.size
        for key in list(own.keys()):
            self.pending.remove_known(key)
        own.drop()
        self._store.delete(self.data + CONSUMERS + consumer.name, True)
        self._store.delete(self.data + NUMBERS + U32.pack(consumer.number), True)
        del self._by_name[consumer.name], self._by_number[consumer.number]
        self._changed.pop(consumer, None)
        self.consumer_count -= 1
        self.is_changed = True
        return count

    def note(self, consumer: Consumer) -> None:
        """Note that a consumer has changed: it is written with the group."""
        self._changed[consumer] = True
        self.is_changed = True

    # -- pending entries ---------------------------------------------------------------------------

    def find_pending(self, key: bytes) -> Pending | None:
        """Return what is known of a pending entry, by its packed id; None if it is not pending."""
        if key > self.top:
            return None
        raw = self.pending.get(key)
        return None if raw is None else self.decode(raw)

    def decode(self, raw: bytes) -> Pending:
        """Return what is stored of a pending entry."""
        if len(raw) != PENDING.size:
            raise CorruptionError(self._store.db.path, 0, f"a pending entry of {len(raw)} bytes")
        number, delivered_ms, deliveries = _unpack_pending(raw)
        return Pending(self.by_number(number), delivered_ms, deliveries)

    def deliver(self, keys: list[bytes], consumer: Consumer, now_ms: int) -> None:
        """Let entries be pending with a consumer, given to it now for the first time. Ids ascend."""
        top = self._known_top()
        raw = _pack_pending(consumer.number, now_ms, 1)
        pending, own = self.pending, consumer.own
        for key in keys:
            # Entries come again after XGROUP SETID: then they may be pending already, with whomever.
            old = pending.get(key) if key <= top else None
            if old is not None:
                owner = self.decode(old).consumer
                pending.put_known(key, raw, False)
                if owner is consumer:
                    continue
                owner.own.remove_known(key)
                self._changed[owner] = True
            else:
                pending.put_known(key, raw, True)
            own.put_known(key, b"", True)
        if keys and keys[-1] > top:
            self.top = keys[-1]
        self.note(consumer)

    def _known_top(self) -> bytes:
        """Return `top` as it is, read if it has not been."""
        if self.top is ABOVE_ALL:
            last = self.pending.at(self.pending.size - 1)
            self.top = FIRST if last is None else last[0]
        return self.top

    def assign(
        self, key: bytes, found: Pending | None, consumer: Consumer, at_ms: int, deliveries: int
    ) -> None:
        """Let an entry be pending with a consumer; `found` is what was known of it, None if it is new."""
        raw = _pack_pending(consumer.number, at_ms, min(deliveries, INTEGER_MAX))
        self.pending.put_known(key, raw, found is None)
        if found is not None and found.consumer is consumer:
            return
        if found is not None:
            found.consumer.own.remove_known(key)
            self.note(found.consumer)
        elif key > self._known_top():
            self.top = key
        consumer.own.put_known(key, b"", True)
        self.note(consumer)

    def acknowledge(self, keys: list[bytes]) -> int:
        """Let entries be pending no longer, by their packed ids; returns how many were."""
        # Flat, as it is called for nearly every entry that is delivered: `find_pending` and `forget`.
        top, pending, by_number, changed = self.top, self.pending, self._by_number, self._changed
        count = 0
        for key in keys:
            raw = pending.get(key) if key <= top else None
            if raw is not None:
                known = by_number.get(_unpack_pending(raw)[0]) if len(raw) == PENDING.size else None
                consumer = known or self.decode(raw).consumer
                pending.remove_known(key)
                consumer.own.remove_known(key)
                changed[consumer] = True
                count += 1
        if count:
            self.is_changed = True
        return count

    def forget(self, key: bytes, found: Pending) -> None:
        """Let an entry be pending no longer."""
        self.pending.remove_known(key)
        found.consumer.own.remove_known(key)
        self.note(found.consumer)

    def pending_between(
        self, low: bytes, high: bytes, consumer: Consumer | None = None
    ) -> Iterator[tuple[bytes, Pending]]:
        """Yield pending entries with ``low <= id <= high``, in order, of one consumer or of all.

        They must not be changed meanwhile.
        """
        stop = high + b"\0"
        if consumer is None:
            for key, raw in self.pending.scan(low, stop):
                yield key, self.decode(raw)
        else:
            get = self.pending.get
            for key, _ in consumer.own.scan(low, stop):
                raw_found = get(key)
                if raw_found is None:
                    raise CorruptionError(self._store.db.path, 0, "a pending entry that its group has not")
                yield key, self.decode(raw_found)

    # -- all ---------------------------------------------------------------------------------------

    def copy_from(self, other: Group) -> None:
        """Take over what another group, all of which has been written, has; this one is new."""
        put, skip = self._store.put, len(other.data)
        for keys, values in self._store.chunks(other.data, end_of(other.data)):
            for key, value in zip(keys, values):
                put(self.data + key[skip:], value, False)
        self.consumer_count = other.consumer_count
        self.next_consumer = other.next_consumer
        self.pending = Elements(self._store, self.data + ALL, other.pending.size)
        self.top = ABOVE_ALL
        self.is_changed = True

    def write(self) -> None:
        """Write the consumers that have changed. The group itself is written by `Groups`."""
        entries, existed = self._store.entries, self._store.existed
        for consumer in self._changed:
            key = self.data + CONSUMERS + consumer.name
            if key not in entries:
                existed[key] = True
            entries[key] = consumer.encode()
        self._changed.clear()
        self.is_changed = False

    def drop(self) -> None:
        """Remove all the group has but its name. Cost: O(1) for a large group."""
        store = self._store
        stop = end_of(self.data)
        if self.pending.size + self.consumer_count > DELETED_SINGLY:
            store.discard(self.data, stop)
        else:
            for key, _ in list(store.scan(self.data, stop)):
                store.delete(key, True)

    def held_bytes(self) -> int:
        """Return about how much memory the group takes."""
        held_bytes = _OBJECT_BYTES * (1 + len(self._by_name)) + self.pending.held_bytes()
        # Each of what is pending is with one consumer, who holds its id at most once more.
        held = len(self.pending.held or ())
        return held_bytes + held * (ID_SIZE + ELEMENT_OVERHEAD_BYTES)

    def check(self) -> None:
        """Assert the invariants. For tests. Cost: a scan."""
        self.pending.check()
        owners: dict[bytes, int] = {}
        consumers = list(self.consumers())
        assert len(consumers) == self.consumer_count, (len(consumers), self.consumer_count)
        for consumer in consumers:
            consumer.own.check()
            assert consumer.number < self.next_consumer
            assert self.by_number(consumer.number) is consumer
            for key in list(consumer.own.keys()):
                assert key not in owners, f"{key.hex()} is pending with two consumers"
                owners[key] = consumer.number
        found = {key: self.decode(raw).consumer.number for key, raw in self.pending.items()}
        assert found == owners
        assert all(key <= self.top for key in found)


class Groups:
    """The consumer groups of a stream, by name."""

    __slots__ = ("_known", "count", "id", "next_number", "prefix", "store")

    def __init__(self, keyspace: Keyspace, id: int, count: int, next_number: int) -> None:  # noqa: A002
        self.store = keyspace.store
        self.prefix = keyspace.element_prefix + U64.pack(id)
        self.id = id
        self.count = count
        self.next_number = next_number
        self._known: dict[bytes, Group] = {}

    def find(self, name: bytes) -> Group | None:
        """Return a group, None if there is none of that name."""
        group = self._known.get(name)
        if group is None:
            raw = self.store.get(self.prefix + NAMES + name)
            if raw is None:
                return None
            group = self._adopt(name, raw)
        return group

    def _adopt(self, name: bytes, raw: bytes) -> Group:
        known = self._known.get(name)
        if known is not None:
            return known
        if len(raw) != GROUP.size:
            raise CorruptionError(self.store.db.path, 0, f"a consumer group of {len(raw)} bytes")
        group = self._known[name] = Group(self.store, self.prefix, name, raw)
        return group

    def all(self) -> Iterator[Group]:
        """Yield all groups in the order of their names. Cost: a scan of the groups, unless all are known."""
        known = self._known
        if len(known) == self.count:
            for name in sorted(known):
                yield known[name]
            return
        prefix = self.prefix + NAMES
        skip = len(prefix)
        for key, raw in list(self.store.scan(prefix, end_of(prefix))):
            yield self._adopt(key[skip:], raw)

    def create(self, name: bytes, last_id: StreamId, entries_read: int) -> Group:
        """Return a new group, of whose name there is none."""
        raw = GROUP.pack(self.next_number, 0, 0, *last_id, entries_read, 0)
        self.next_number += 1
        self.count += 1
        self.store.put(self.prefix + NAMES + name, raw, False)
        group = self._known[name] = Group(self.store, self.prefix, name, raw)
        return group

    def remove(self, group: Group) -> None:
        """Remove a group with all it has."""
        group.drop()
        self.store.delete(self.prefix + NAMES + group.name, True)
        del self._known[group.name]
        self.count -= 1

    def write(self) -> None:
        """Write the groups that have changed."""
        if not self._known:
            return  # also where records are only looked at, and there is no store
        entries, existed = self.store.entries, self.store.existed
        for group in self._known.values():
            if group.is_changed:
                group.write()
                key = self.prefix + NAMES + group.name
                if key not in entries:
                    existed[key] = True
                entries[key] = group.encode()

    def drop(self) -> None:
        """Remove all groups. Cost: O(1) for many, or large ones. It must not be used afterwards."""
        stop = end_of(self.prefix)
        count = self.count
        if count and count <= DELETED_SINGLY:
            groups = list(self.all())
            if sum(group.pending.size + group.consumer_count for group in groups) <= DELETED_SINGLY:
                for group in groups:
                    self.remove(group)
                return
        if count:
            self.store.discard(self.prefix, stop)

    def let_go(self) -> None:
        """Forget what is known of groups, but for those that are still to be written."""
        self._known = {name: group for name, group in self._known.items() if group.is_changed}

    def held_bytes(self) -> int:
        """Return about how much memory the groups take."""
        return sum([group.held_bytes() for group in self._known.values()])

    def check(self) -> None:
        """Assert the invariants. For tests. Cost: a scan."""
        groups = list(self.all())
        assert len(groups) == self.count, (len(groups), self.count)
        numbers = [group.number for group in groups]
        assert len(set(numbers)) == len(numbers)
        assert all(number < self.next_number for number in numbers)
        for group in groups:
            group.check()

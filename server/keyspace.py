"""One logical database: the keys a client sees after SELECT.

What a key holds is

    bytes       a string that does not expire: as it lies in the engine, behind its tag. `Store.hot` has those
                in use
    Record      anything else: decoded, and cached while it is in use
    None        nothing

A record that is not in `cache` may be in `cold`, the generations before, or in the engine. It is changed in
place and noted in `dirty`; `Databases` encodes what is dirty once, at the commit, however often it was
changed. Until then a placeholder holds its place among the pending writes, so that whoever looks only there
sees that it is no plain string.

**Existence is physical.** A key that has expired still lies in the engine. `find` removes it as it meets it,
so to everybody else it is gone; what the engine is told of existence is about the engine.

Invariants: a dirty record is in `cache`. A key whose record was put since the last stage or commit is among
the pending writes. A record with an expiry has its entry in the expiry index, pending or written, and no
other has. One thread.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lamina.engine import CorruptionError
from lamina.server import events
from lamina.server.encoding import (
    ELEMENT,
    EXPIRY,
    FIELD_EXPIRY,
    PLAIN_STRING,
    RECORD,
    U64,
    end_of,
    prefix_of,
)
from lamina.server.errors import WRONG_TYPE
from lamina.server.records import Collection, Record, String, decode_record
from lamina.server.store import Store, take_from

if TYPE_CHECKING:
    from lamina.server.databases import Databases

_PLACEHOLDER: Final = b"\xff"
"""No record begins so. It is overwritten before the commit."""

R = TypeVar("R", bound=Record)
C = TypeVar("C", bound=Collection)
Value = bytes | Record

NEVER_MS: Final = 1 << 63


class Keyspace:
    """The keys of one logical database."""

    __slots__ = (
        "cache",
        "clock",
        "cold",
        "databases",
        "dirty",
        "element_prefix",
        "entries",
        "expiry_prefix",
        "field_expiry_prefix",
        "hits",
        "hot",
        "index",
        "is_observed",
        "listens",
        "minding",
        "misses",
        "due_floor_ms",
        "field_due_floor_ms",
        "next_due_ms",
        "next_field_due_ms",
        "pdb",
        "record_prefix",
        "store",
        "waiting",
        "watched",
    )

    def __init__(self, databases: Databases, index: int, pdb: int) -> None:
        self.databases = databases
        self.attach(databases.store)
        self.clock = databases.clock
        self.index = index
        self.cache: dict[bytes, Record] = {}
        self.cold: list[dict[bytes, Record]] = []
        self.dirty: dict[bytes, bool] = {}
        """Keys of changed records. The values mean nothing: it is a set that keeps its order."""
        self.watched: dict[bytes, list[Any]] = {}
        """Clients by the key they watch."""
        self.waiting: dict[bytes, deque[Any]] = {}
        """What clients wait for, by the key they wait at, first come first."""
        self.minding: dict[bytes, int] = {}
        """How many of them must hear of it if the key goes away, where there are any."""
        self.is_observed = False
        """Whether anybody must be told of changed keys: WATCH, client tracking."""
        self.listens = 0
        """Classes of events that are published."""
        self.hits = 0
        self.misses = 0
        self.next_due_ms = 0
        """No key expires before this: the active cycle need not look."""
        self.next_field_due_ms = 0
        """No field of a hash expires before this."""
        self.due_floor_ms = 0
        """The index holds no time before this; not after `next_due_ms`."""
        self.field_due_floor_ms = 0
        self.bind(pdb)

    def attach(self, store: Store) -> None:
        """Work on a store."""
        self.store = store
        self.entries = store.entries
        """The pending writes of the turn, by engine key; None is a removal."""
        self.hot = store.hot
        """See `Store.hot`. What a key holds changes nowhere but here and in types/strings.py, and both keep
        it."""

    def bind(self, pdb: int) -> None:
        """Show physical database `pdb`. The caller sees to the caches."""
        self.pdb = pdb
        self.record_prefix = prefix_of(pdb, RECORD)
        self.element_prefix = prefix_of(pdb, ELEMENT)
        self.expiry_prefix = prefix_of(pdb, EXPIRY)
        self.field_expiry_prefix = prefix_of(pdb, FIELD_EXPIRY)

    def __repr__(self) -> str:
        return f"<keyspace {self.index}>"

    # -- finding -----------------------------------------------------------------------------------

    def find(self, key: bytes) -> Value | None:
        """Return what a key holds, or None. An expired key is removed on the way.

        Cost: 0.1 µs for a cached record, else a lookup in the engine.
        """
        value: Value | None = self.cache.get(key)
        if value is None:
            value = self._load(key)
        if value.__class__ is bytes or value is None:
            return value
        if 0 < value.expires_ms <= self.clock.now_ms:  # type: ignore[union-attr]
            self._expire(key, value)
            return None
        return value

    def find_typed(self, key: bytes, cls: type[R]) -> R | None:
        """Return the record of a key, which must be of class `cls`, or None. Errors: WRONGTYPE."""
        value: Any = self.cache.get(key)
        if value.__class__ is not cls or value.expires_ms:
            value = self.find(key)
            if value is not None and value.__class__ is not cls:
                raise WRONG_TYPE
        return value  # type: ignore[no-any-return]

    def find_or_create(self, key: bytes, cls: type[C]) -> C:
        """Return the collection of a key, a new and empty one if there is none.

        A new one is not stored yet: `put` it when it has an element. Errors: WRONGTYPE.
        """
        value: Any = self.cache.get(key)
        if value.__class__ is not cls or value.expires_ms:
            value = self.find(key)
            if value is None:
                return cls.create(self)  # type: ignore[return-value]
            if value.__class__ is not cls:
                raise WRONG_TYPE
        return value

    def read(self, key: bytes) -> Value | None:
        """Return what a key holds, for a command that reads: counted as hit or miss."""
        value = self.find(key)
        if value is None:
            self.note_miss(key)
        else:
            self.hits += 1
        return value

    def read_typed(self, key: bytes, cls: type[R]) -> R | None:
        """Return what `find_typed` does, for a command that reads: counted as hit or miss."""
        value = self.find_typed(key, cls)
        if value is None:
            self.note_miss(key)
        else:
            self.hits += 1
        return value

    def note_miss(self, key: bytes) -> None:
        """Count a lookup that found nothing."""
        self.misses += 1
        if self.listens & events.KEY_MISS:
            self.event(events.KEY_MISS, b"keymiss", key)

    def _load(self, key: bytes) -> Value | None:
        """Find what is not in the cache: in the generation before, among pending writes, in the engine."""
        if self.cold:
            record = take_from(self.cold, key)
            if record is not None:
                self.store.weight += record.held_bytes()
                self.cache[key] = record
                return record
        engine_key = self.record_prefix + key
        raw = self.hot.get(engine_key) or self.store.get(engine_key)
        if raw is None:
            return None
        if raw[:1] == PLAIN_STRING:
            return raw[1:]
        try:
            decoded = decode_record(self, raw)
        except (ValueError, IndexError, struct.error) as error:
            raise CorruptionError(self.store.db.path, 0, f"record of key {key!r}: {error}") from None
        self.store.weight += len(key) + decoded.held_bytes()
        self.cache[key] = decoded
        return decoded

    def _expire(self, key: bytes, value: Value) -> None:
        """Remove a key whose time has come. While the disk takes no writes it only looks removed."""
        if not self.databases.is_writable:
            return
        store = self.store
        before = len(store.entries), len(store.batch.discards), store.is_staged
        try:
            self._take_out(key, value)
        except BaseException:
            # Somebody who only reads has begun to write.
            after = len(store.entries), len(store.batch.discards), store.is_staged
            self.databases.is_torn |= before != after
            raise
        self.databases.expired_keys += 1
        if self.listens:
            self.event(events.EXPIRED, b"expired", key)

    # -- changing ----------------------------------------------------------------------------------

    def put(self, key: bytes, value: Value) -> None:
        """Let `key` hold `value`, whatever it held; its expiry is the value's own."""
        old = self.find(key)
        if old.__class__ is not bytes and old is not None:
            self._take_out(key, old)
        engine_key = self.record_prefix + key
        entries = self.entries
        if engine_key not in entries:
            self.store.existed[engine_key] = old is not None
        if value.__class__ is bytes:
            self.store.cool(engine_key)
            entries[engine_key] = PLAIN_STRING + value
        else:
            self._put_record(key, engine_key, value)  # type: ignore[arg-type]
        if self.is_observed:
            self.databases.on_change(self, key)
        if old is None and self.listens & events.NEW:
            self.event(events.NEW, b"new", key)

    def _put_record(self, key: bytes, engine_key: bytes, record: Record) -> None:
        self.store.cool(engine_key)
        self.entries[engine_key] = _PLACEHOLDER
        self.cache[key] = record
        self.dirty[key] = True
        if record.expires_ms:
            self._note_expiry(key, record.expires_ms)
        if record.fields_due_ms:
            self.note_fields_due(key, 0, record.fields_due_ms)
        if self.waiting and key in self.waiting:
            self.databases.ready.append((self, key))

    def mark(self, key: bytes) -> None:
        """Note that the record of `key`, which is there, has been changed in place."""
        if key not in self.dirty:
            self.dirty[key] = True
        if self.is_observed:
            self.databases.on_change(self, key)

    def remove(self, key: bytes) -> bool:
        """Remove a key and all it holds; tells whether it was there. Cost: O(1) at any size."""
        value = self.find(key)
        if value is None:
            return False
        self._take_out(key, value)
        return True

    def _take_out(self, key: bytes, value: Value) -> None:
        if value.__class__ is not bytes:
            value.drop(self)  # type: ignore[union-attr]  # first, as it may have to read, which can fail
            self._forget_record(key, value)  # type: ignore[arg-type]
        self._delete_raw(key)
        if self.is_observed:
            self.databases.on_change(self, key)

    def _delete_raw(self, key: bytes) -> None:
        engine_key = self.record_prefix + key
        self.store.cool(engine_key)
        self.store.delete(engine_key, True)
        if self.minding and key in self.minding:
            self.databases.ready.append((self, key))

    def _forget_record(self, key: bytes, record: Record) -> None:
        """Take a record out of everything but the engine's record area; its elements stay."""
        if record.expires_ms:
            self.store.delete(self.expiry_prefix + U64.pack(record.expires_ms) + key, True)
        if record.fields_due_ms:
            self.note_fields_due(key, record.fields_due_ms, 0)
        self.cache.pop(key, None)
        self.dirty.pop(key, None)

    def _note_expiry(self, key: bytes, expires_ms: int) -> None:
        self.store.put(self.expiry_prefix + U64.pack(expires_ms) + key, b"", False)
        if expires_ms < self.next_due_ms:
            self.next_due_ms = expires_ms
            self.due_floor_ms = min(self.due_floor_ms, expires_ms)

    def note_fields_due(self, key: bytes, old_ms: int, due_ms: int) -> None:
        """Let the index say when fields of the hash at `key` are due; it has said `old_ms`. 0: never."""
        if old_ms:
            self.store.delete(self.field_expiry_prefix + U64.pack(old_ms) + key, True)
        if due_ms:
            self.store.put(self.field_expiry_prefix + U64.pack(due_ms) + key, b"", False)
            if due_ms < self.next_field_due_ms:
                self.next_field_due_ms = due_ms
                self.field_due_floor_ms = min(self.field_due_floor_ms, due_ms)

    def set_expiry(self, key: bytes, value: Value, expires_ms: int) -> None:
        """Let a key, which holds `value`, expire at a time; 0: never. Cost: O(1)."""
        if isinstance(value, bytes):
            if expires_ms:
                self._store_over(key, String(value, expires_ms))
        elif isinstance(value, String) and not expires_ms:
            self._forget_record(key, value)
            self._store_over(key, value.value)
        else:
            if value.expires_ms:
                self.store.delete(self.expiry_prefix + U64.pack(value.expires_ms) + key, True)
            value.expires_ms = expires_ms
            if expires_ms:
                self._note_expiry(key, expires_ms)
            self.dirty[key] = True
        if self.is_observed:
            self.databases.on_change(self, key)

    def _store_over(self, key: bytes, value: Value) -> None:
        """Store a value in another form over what is there."""
        engine_key = self.record_prefix + key
        if engine_key not in self.entries:
            self.store.existed[engine_key] = True
        if isinstance(value, bytes):
            self.entries[engine_key] = PLAIN_STRING + value
        else:
            self._put_record(key, engine_key, value)

    def rename(self, key: bytes, value: Value, new_key: bytes) -> None:
        """Move what `key` holds, `value`, to `new_key`, whatever that held. Cost: O(1) at any size."""
        self.remove(new_key)
        if isinstance(value, Record):
            self._forget_record(key, value)
        self._delete_raw(key)
        if self.is_observed:
            self.databases.on_change(self, key)
        self.put(new_key, value)

    # -- all keys ----------------------------------------------------------------------------------

    def count_keys(self) -> int:
        """Return how many keys there are, expired ones that nobody has met included. Cost: logarithmic."""
        self.databases.stage_records()
        return self.store.count(self.record_prefix, end_of(self.record_prefix))

    def count_expiring(self) -> int:
        """Return how many keys have an expiry. Cost: logarithmic."""
        return self.store.count(self.expiry_prefix, end_of(self.expiry_prefix))

    def count_hashes_expiring(self) -> int:
        """Return how many hashes have fields that expire. Cost: logarithmic."""
        return self.store.count(self.field_expiry_prefix, end_of(self.field_expiry_prefix))

    def scan_keys(self, start: bytes = b"", prefix: bytes = b"") -> Iterator[tuple[list[bytes], list[bytes]]]:
        """Yield chunks of keys not smaller than `start` that begin with `prefix`, in order, and their raw
        records.

        Expired ones are among them. Keys must not be changed meanwhile.
        """
        self.databases.stage_records()
        skip = len(self.record_prefix)
        low = self.record_prefix + max(start, prefix)
        for keys, raws in self.store.chunks(low, end_of(self.record_prefix + prefix)):
            yield [key[skip:] for key in keys], raws

    def key_at(self, position: int) -> tuple[bytes, bytes] | None:
        """Return the key at a position in key order, with its raw record. Cost: logarithmic."""
        self.databases.stage_records()
        found = self.store.select(self.record_prefix, end_of(self.record_prefix), position)
        return None if found is None else (found[0][len(self.record_prefix) :], found[1])

    def due_keys(self, limit: int) -> list[bytes]:
        """Return up to `limit` keys whose time has come, the earliest first. Cost: none if none is due."""
        if self.clock.now_ms < self.next_due_ms:
            return []
        found, self.due_floor_ms, self.next_due_ms = self._due(self.expiry_prefix, self.due_floor_ms, limit)
        return found

    def due_hashes(self, limit: int) -> list[bytes]:
        """Return up to `limit` keys of hashes some of whose fields may have expired, as `due_keys`."""
        if self.clock.now_ms < self.next_field_due_ms:
            return []
        found, self.field_due_floor_ms, self.next_field_due_ms = self._due(
            self.field_expiry_prefix, self.field_due_floor_ms, limit
        )
        return found

    def _due(self, prefix: bytes, floor_ms: int, limit: int) -> tuple[list[bytes], int, int]:
        """Return up to `limit` keys that are due by an index, a time before which it holds none, and one
        before which no other is due.

        As long as some are due the latter is now: who asks may fail to remove them. The index holds nothing
        before `floor_ms`: what has been removed there is not passed over again each time, which would take
        milliseconds until compactions have taken it away.
        """
        now_ms = self.clock.now_ms
        skip = len(prefix)
        found: list[bytes] = []
        for key, _ in self.store.scan(prefix + U64.pack(floor_ms), end_of(prefix)):
            (due_ms,) = U64.unpack_from(key, skip)
            if not found:
                floor_ms = due_ms
            if due_ms > now_ms or len(found) == limit:
                return found, floor_ms, now_ms if found else due_ms
            found.append(key[skip + U64.size :])
        return found, floor_ms, now_ms if found else NEVER_MS

    # -- telling others ----------------------------------------------------------------------------

    def event(self, kind: int, name: bytes, key: bytes) -> None:
        """Publish an event, if its class is listened to. Callers ask `listens` first, to save the call."""
        if self.listens & kind:
            self.databases.on_event(self, kind, name, key)


Observer = Callable[[Keyspace, bytes], None]
EventListener = Callable[[Keyspace, int, bytes, bytes], None]

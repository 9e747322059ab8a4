"""One logical database: the keys a client sees after SELECT.

Records that are in use are cached, decoded: `cache` maps keys to what they hold:

    bytes       a string that does not expire
    Record      anything else
    None        known not to exist

A key that is not in `cache` may be in `cold`, the generation before, or in the engine. A change is made in
the cache and noted in `dirty`, which says whether the key was physically there when it was first changed;
`Databases` encodes what is dirty once, at the commit, however often it was changed.

**Existence is physical.** A key that has expired still lies in the engine. `find` removes it as it meets it,
so to everybody else it is gone; what `dirty` says is about the engine.

Invariants: a dirty key is in `cache`. A record with an expiry has its entry in the expiry index, pending or
written, and no other has; so have hashes whose fields expire (types/hashes.py) in an index of theirs. One
thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lamina.engine import CorruptionError
from lamina.server import events
from lamina.server.encoding import ELEMENT, EXPIRY, FIELD_EXPIRY, RECORD, U64, end_of, prefix_of
from lamina.server.errors import WRONG_TYPE
from lamina.server.records import STRING_OVERHEAD_BYTES, Collection, Record, String, decode_record

if TYPE_CHECKING:
    from lamina.server.databases import Databases

UNKNOWN: Final[Any] = object()
"""What `cache.get` is given to tell a key that is not cached from one that is known not to exist."""

R = TypeVar("R", bound=Record)
C = TypeVar("C", bound=Collection)
Value = bytes | Record

NEVER_MS: Final = 1 << 63

MISSING_KEY_BYTES: Final = 120


class Keyspace:
    """The keys of one logical database."""

    __slots__ = (
        "cache",
        "clock",
        "cold",
        "databases",
        "dirty",
        "element_prefix",
        "expiry_prefix",
        "field_expiry_prefix",
        "hits",
        "index",
        "is_observed",
        "listens",
        "misses",
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
        self.store = databases.store
        self.clock = databases.clock
        self.index = index
        self.cache: dict[bytes, Value | None] = {}
        self.cold: dict[bytes, Value | None] = {}
        self.dirty: dict[bytes, bool] = {}
        self.watched: dict[bytes, list[Any]] = {}
        """Clients by the key they watch."""
        self.waiting: dict[bytes, deque[Any]] = {}
        """What clients wait for, by the key they wait at, first come first."""
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
        self.bind(pdb)

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

        Cost: 0.1 µs if cached, else a lookup in the engine.
        """
        value = self.cache.get(key, UNKNOWN)
        if value is UNKNOWN:
            value = self._load(key)
        if value.__class__ is bytes or value is None:
            return value  # type: ignore[no-any-return]
        if 0 < value.expires_ms <= self.clock.now_ms:
            self._expire(key, value)
            return None
        return value  # type: ignore[no-any-return]

    def find_typed(self, key: bytes, cls: type[R]) -> R | None:
        """Return the record of a key, which must be of class `cls`, or None. Errors: WRONGTYPE."""
        value = self.cache.get(key, UNKNOWN)
        if value.__class__ is not cls or value.expires_ms:
            value = self.find(key)
            if value is not None and value.__class__ is not cls:
                raise WRONG_TYPE
        return value  # type: ignore[no-any-return]

    def find_or_create(self, key: bytes, cls: type[C]) -> C:
        """Return the collection of a key, a new and empty one if there is none.

        A new one is not stored yet: `put` it when it has an element. Errors: WRONGTYPE.
        """
        value = self.cache.get(key, UNKNOWN)
        if value.__class__ is not cls or value.expires_ms:
            value = self.find(key)
            if value is None:
                return cls.create(self)  # type: ignore[return-value]
            if value.__class__ is not cls:
                raise WRONG_TYPE
        return value  # type: ignore[no-any-return]

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
        """Bring a key into the cache, from the generation before or from the engine."""
        databases = self.databases
        value = self.cold.pop(key, UNKNOWN)
        if value is UNKNOWN:
            raw = self.store.db.view.get(self.record_prefix + key)
            if raw is None:
                value = None
                databases.weight += len(key) + MISSING_KEY_BYTES
            else:
                databases.weight += len(key) + len(raw) + STRING_OVERHEAD_BYTES
                try:
                    value = decode_record(self, raw)
                except (ValueError, IndexError) as error:
                    raise CorruptionError(self.store.db.path, 0, f"record of key {key!r}: {error}") from None
        elif isinstance(value, Record):
            databases.weight += value.held_bytes()
        else:
            databases.weight += len(key) + len(value or b"") + STRING_OVERHEAD_BYTES
        self.cache[key] = value
        return value  # type: ignore[no-any-return]

    def _expire(self, key: bytes, value: Value) -> None:
        """Remove a key whose time has come. While the disk takes no writes it only looks removed."""
        if not self.databases.is_writable:
            return
        self._take_out(key, value)
        self.databases.expired_keys += 1
        if self.listens:
            self.event(events.EXPIRED, b"expired", key)

    # -- changing ----------------------------------------------------------------------------------

    def put(self, key: bytes, value: Value) -> None:
        """Let `key` hold `value`, whatever it held; its expiry is the value's own."""
        old = self.find(key)
        if old.__class__ is not bytes and old is not None:
            self._take_out(key, old)
        elif key not in self.dirty:
            self.dirty[key] = old is not None
        self.cache[key] = value
        if value.__class__ is not bytes:
            expires_ms = value.expires_ms  # type: ignore[union-attr]
            if expires_ms:
                self._note_expiry(key, expires_ms)
            if value.fields_due_ms:  # type: ignore[union-attr]
                self.note_fields_due(key, 0, value.fields_due_ms)  # type: ignore[union-attr]
            if self.waiting and key in self.waiting:
                self.databases.ready.append((self, key))
        if self.is_observed:
            self.databases.on_change(self, key)
        if old is None and self.listens & events.NEW:
            self.event(events.NEW, b"new", key)

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
            record: Record = value  # type: ignore[assignment]
            if record.expires_ms:
                self.store.delete(self.expiry_prefix + U64.pack(record.expires_ms) + key, True)
            if record.fields_due_ms:
                self.note_fields_due(key, record.fields_due_ms, 0)
            record.drop(self)
        if key not in self.dirty:
            self.dirty[key] = True
        self.cache[key] = None
        if self.is_observed:
            self.databases.on_change(self, key)

    def _note_expiry(self, key: bytes, expires_ms: int) -> None:
        self.store.put(self.expiry_prefix + U64.pack(expires_ms) + key, b"", False)
        if expires_ms < self.next_due_ms:
            self.next_due_ms = expires_ms

    def note_fields_due(self, key: bytes, old_ms: int, due_ms: int) -> None:
        """Let the index say when fields of the hash at `key` are due; it has said `old_ms`. 0: never."""
        if old_ms:
            self.store.delete(self.field_expiry_prefix + U64.pack(old_ms) + key, True)
        if due_ms:
            self.store.put(self.field_expiry_prefix + U64.pack(due_ms) + key, b"", False)
            if due_ms < self.next_field_due_ms:
                self.next_field_due_ms = due_ms

    def set_expiry(self, key: bytes, value: Value, expires_ms: int) -> None:
        """Let a key, which holds `value`, expire at a time; 0: never. Cost: O(1)."""
        old_ms = value.expires_ms if isinstance(value, Record) else 0
        if old_ms:
            self.store.delete(self.expiry_prefix + U64.pack(old_ms) + key, True)
        if expires_ms:
            self._note_expiry(key, expires_ms)
        if isinstance(value, String | bytes):
            text = value if isinstance(value, bytes) else value.value
            self.cache[key] = String(text, expires_ms) if expires_ms else text
        else:
            value.expires_ms = expires_ms
        self.mark(key)

    def rename(self, key: bytes, value: Value, new_key: bytes) -> None:
        """Move what `key` holds, `value`, to `new_key`, whatever that held. Cost: O(1) at any size."""
        expires_ms = value.expires_ms if isinstance(value, Record) else 0
        self.remove(new_key)
        if expires_ms:
            self.store.delete(self.expiry_prefix + U64.pack(expires_ms) + key, True)
        if value.__class__ is not bytes and value.fields_due_ms:  # type: ignore[union-attr]
            self.note_fields_due(key, value.fields_due_ms, 0)  # type: ignore[union-attr]
        if key not in self.dirty:
            self.dirty[key] = True
        self.cache[key] = None
        if self.is_observed:
            self.databases.on_change(self, key)
        self.put(new_key, value)

    def is_expired(self, value: Value) -> bool:
        """Tell whether a record's time has come."""
        return value.__class__ is not bytes and 0 < value.expires_ms <= self.clock.now_ms  # type: ignore[union-attr]

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

    def scan_keys(
        self, start: bytes = b"", prefix: bytes = b""
    ) -> Iterator[tuple[list[bytes], list[bytes]]]:
        """Yield chunks of keys not smaller than `start` that begin with `prefix`, in order, and their raw
        records.

        Expired ones are among them: ask `is_expired_raw`. Keys must not be changed meanwhile.
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
        found, self.next_due_ms = self._due(self.expiry_prefix, limit)
        return found

    def due_hashes(self, limit: int) -> list[bytes]:
        """Return up to `limit` keys of hashes some of whose fields may have expired, as `due_keys`."""
        if self.clock.now_ms < self.next_field_due_ms:
            return []
        found, self.next_field_due_ms = self._due(self.field_expiry_prefix, limit)
        return found

    def _due(self, prefix: bytes, limit: int) -> tuple[list[bytes], int]:
        """Return up to `limit` keys that are due by an index, and the time of the next."""
        now_ms = self.clock.now_ms
        skip = len(prefix)
        found: list[bytes] = []
        for key, _ in self.store.scan(prefix, end_of(prefix)):
            (due_ms,) = U64.unpack_from(key, skip)
            if due_ms > now_ms or len(found) == limit:
                return found, due_ms
            found.append(key[skip + U64.size :])
        return found, NEVER_MS

    # -- telling others ----------------------------------------------------------------------------

    def event(self, kind: int, name: bytes, key: bytes) -> None:
        """Publish an event, if its class is listened to. Callers ask `listens` first, to save the call."""
        if self.listens & kind:
            self.databases.on_event(self, kind, name, key)


Observer = Callable[[Keyspace, bytes], None]
EventListener = Callable[[Keyspace, int, bytes, bytes], None]

"""All databases of a server over one engine: which is which, and what happens when a tick ends.

At the commit, dirty records are encoded and all pending writes go to the engine as one frame. If that fails,
because the disk is full or broken, everything since the last commit is forgotten, caches included, and the
databases are as they were then.

The caches have one budget, in generations: two, more if there is much memory. When the youngest has taken its
part it grows old, and the oldest is let go, some of it a turn; what is used again moves to the youngest. This
is LRU without work on a hit.

The server's own state (0:u32 's' name):

    id           u64: ids below it may be in use
    probe        when it was last tried whether the disk takes writes
    databases    next free physical number:u32, then (logical:u32 physical:u32) for each that is not at home
    function:*   libraries of functions: see scripting/libraries.py

A logical database `n` is at home in physical number n + 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from lamina.engine import Database
from lamina.server.clock import Clock
from lamina.server.encoding import PDB_MAX, STATE_PREFIX, U32, U64
from lamina.server.keyspace import EventListener, Keyspace, Observer
from lamina.server.records import Record
from lamina.server.store import Store

_ID_KEY = STATE_PREFIX + b"id"
_MAP_KEY = STATE_PREFIX + b"databases"
_PROBE_KEY = STATE_PREFIX + b"probe"

_IDS_AT_ONCE = 1024
"""Ids that are reserved with one write."""

_FIRST_FRESH_PDB = 1 << 20
"""Physical numbers below are homes of logical databases."""

_LARGE_RECORD_BYTES = 1024

_GENERATION_BYTES = 32 << 20
"""What a generation takes while there are no more than `_GENERATIONS_MAX`. Small ones make short pauses: a
table that grows is copied by the interpreter now and then, in 10 ms at this size."""

_GENERATIONS_MAX = 8
"""What is cached nowhere is looked for in each of them: 0.1 µs."""

_FREED_AT_ONCE = 1000
"""Entries of a table that is let go which are freed in a turn: 0.3 ms. All of it at once takes 20 ms."""

_SWAPPED = (
    "cache",
    "cold",
    "due_floor_ms",
    "element_prefix",
    "expiry_prefix",
    "field_due_floor_ms",
    "field_expiry_prefix",
    "next_due_ms",
    "next_field_due_ms",
    "pdb",
    "record_prefix",
)
"""What two keyspaces exchange when their numbers are exchanged."""


class State(Protocol):
    """What somebody keeps in memory of the server's own state, and is told when that goes back."""

    def keep(self) -> None:
        """What there is now is committed."""

    def restore(self) -> None:
        """Go back to what was committed last. Must not read."""

    def read(self) -> None:
        """The database has been opened anew."""


class Databases:
    """The logical databases of a server."""

    def __init__(
        self, db: Database, *, count: int = 16, clock: Clock | None = None, cache_bytes: int = 64 << 20
    ) -> None:
        self.clock = Clock() if clock is None else clock
        self.store = Store(db)
        self.cache_bytes = cache_bytes
        self.is_writable = True
        """False while the disk takes no writes: expired keys then stay where they are."""
        self.expired_keys = 0
        self.expired_fields = 0
        self.changes = 0
        """Engine keys written since the server started."""
        self.ready: list[tuple[Keyspace, bytes]] = []
        """Keys that have come into being while somebody waited for them."""
        self.on_change: Observer = lambda keyspace, key: None
        self.on_event: EventListener = lambda keyspace, kind, name, key: None
        self.on_flush: Callable[[], None] = lambda: None
        self.is_torn = False
        """Whether a removal of something expired has broken off half-way: only a rollback puts that right."""
        self.states: list[State] = []
        """Of others than this module; who changes such state calls `note_state`."""
        self._retired: list[dict[bytes, bytes] | dict[bytes, Record]] = []
        """Tables that nobody looks into any more and that are not yet empty."""
        self._next_id = 0
        self._id_limit = 0
        self._next_pdb = _FIRST_FRESH_PDB
        self._is_state_changed = False
        self.keyspaces = [Keyspace(self, index, index + 1) for index in range(count)]
        self._read_state()

    @property
    def cache_bytes(self) -> int:
        """What decoded records and held elements may take."""
        return self._cache_bytes

    @cache_bytes.setter
    def cache_bytes(self, size_bytes: int) -> None:
        self._cache_bytes = size_bytes
        self._generations = min(max(size_bytes // _GENERATION_BYTES, 2), _GENERATIONS_MAX)
        self.generation_bytes = size_bytes // self._generations

    def _read_state(self) -> None:
        raw = self.store.get(_ID_KEY)
        self._next_id = self._id_limit = 1 if raw is None else U64.unpack(raw)[0]
        numbers = self._read_map()
        for keyspace in self.keyspaces:
            keyspace.bind(numbers.get(keyspace.index, keyspace.index + 1))
        self._keep_state()

    def _keep_state(self) -> None:
        """Note the state that is committed now, so that going back to it does not ask the disk."""
        self._kept = (self._id_limit, self._next_pdb, [keyspace.pdb for keyspace in self.keyspaces])
        self._is_state_changed = False
        for state in self.states:
            state.keep()

    def note_state(self) -> None:
        """Something of the server's own state has changed in this turn."""
        self._is_state_changed = True

    def _restore_state(self) -> None:
        # Ids that have been taken since are skipped: ids are plenty.
        self._id_limit, self._next_pdb, numbers = self._kept
        for keyspace, pdb in zip(self.keyspaces, numbers):
            keyspace.bind(pdb)
        for state in self.states:
            state.restore()
        self._is_state_changed = False

    def _read_map(self) -> dict[int, int]:
        raw = self.store.get(_MAP_KEY)
        if raw is None:
            self._next_pdb = _FIRST_FRESH_PDB
            return {}
        self._next_pdb, *numbers = [number for (number,) in U32.iter_unpack(raw)]
        return dict(zip(numbers[::2], numbers[1::2], strict=True))

    def _write_map(self) -> None:
        # Databases beyond the configured number keep their places.
        numbers = self._read_map_without_next()
        numbers.update((keyspace.index, keyspace.pdb) for keyspace in self.keyspaces)
        away = [(index, pdb) for index, pdb in sorted(numbers.items()) if pdb != index + 1]
        flat = [self._next_pdb, *(number for pair in away for number in pair)]
        self.store.put(_MAP_KEY, b"".join(map(U32.pack, flat)), None)
        self._is_state_changed = True

    def _read_map_without_next(self) -> dict[int, int]:
        kept = self._next_pdb
        numbers = self._read_map()
        self._next_pdb = kept
        return numbers

    def take_id(self) -> int:
        """Return an id for a new collection; it was never given before and never will be again."""
        taken = self._next_id
        if taken >= self._id_limit:
            self._id_limit = taken + _IDS_AT_ONCE
            self.store.put(_ID_KEY, U64.pack(self._id_limit), None)
            self._is_state_changed = True
        self._next_id = taken + 1
        return taken

    # -- the tick ----------------------------------------------------------------------------------

    @property
    def has_changes(self) -> bool:
        """Whether there is anything to commit."""
        return self.store.has_changes or any(keyspace.dirty for keyspace in self.keyspaces)

    def gather(self) -> None:
        """Encode dirty records into the store's batch, to be staged or committed next. Cost: 0.5 µs per
        record."""
        entries, hints = self.store.entries, self.store.existed
        for keyspace in self.keyspaces:
            dirty = keyspace.dirty
            if not dirty:
                continue
            cache, prefix = keyspace.cache, keyspace.record_prefix
            for key in dirty:
                record = cache[key]
                engine_key = prefix + key
                if engine_key not in entries:  # changed in place, or staged since
                    hints[engine_key] = True
                entries[engine_key] = record.encode()
                self._weigh(record)
            dirty.clear()

    def _weigh(self, record: Record) -> None:
        """Count how much a changed record has grown; one that has outgrown the caches lets go."""
        held_bytes = record.held_bytes()
        grown = held_bytes - record.weighed_bytes
        if not grown:
            return
        record.weighed_bytes = held_bytes
        if held_bytes > self.generation_bytes:
            record.let_go()
            record.weighed_bytes = record.held_bytes()
        elif grown > 0:
            self.store.weight += grown

    def stage_records(self) -> None:
        """Show all pending writes to range reads over keys."""
        self.gather()
        self.store.stage()

    def commit(self) -> None:
        """Write all that has changed as one frame of the log.

        Errors: OSError and EngineError; then the databases are as they were after the last commit.
        """
        try:
            self.gather()
            store = self.store
            if store.entries or store.is_staged or store.batch.discards:
                changes = len(store.entries)
                store.commit()
                self.changes += changes
        except BaseException:
            self.rollback()
            raise
        if self._is_state_changed:
            self._keep_state()
        self.trim_caches()

    def trim_caches(self) -> None:
        """Let caches age if the youngest generation has taken its part. For the end of a turn, also of one
        that has only read: reading is what fills them. Nothing may be dirty."""
        if self.store.weight > self.generation_bytes:
            self.age_caches()
        elif self._retired:
            self._free_some()

    def rollback(self) -> None:
        """Forget everything since the last commit. Reads nothing, so that no broken disk can prevent it."""
        self.store.rollback()
        self.ready.clear()
        self.drop_caches()
        self.is_torn = False
        if self._is_state_changed:
            self._restore_state()

    def offer_all(self) -> None:
        """Let everybody who waits try again: what they have found missing may be there once more."""
        for keyspace in self.keyspaces:
            self.ready += [(keyspace, key) for key in keyspace.waiting]

    def age_caches(self) -> None:
        """Let what is cached grow old, and let go of the oldest. Nothing may be dirty."""
        kept = self._generations - 1
        retired: list[dict[bytes, bytes] | dict[bytes, Record]] = []
        for keyspace in self.keyspaces:
            assert not keyspace.dirty
            keyspace.cold.insert(0, keyspace.cache)
            keyspace.cache = {}
            retired += keyspace.cold[kept:]
            del keyspace.cold[kept:]
        self.store.age()
        retired += self.store.warm[kept:]
        del self.store.warm[kept:]
        for keyspace in self.keyspaces:
            keyspace.hot = self.store.hot
        # What is left of those before, if turns have been few and large, goes now.
        self._retired = [table for table in retired if table]

    def _free_some(self) -> None:
        table = self._retired[-1]
        if len(table) <= _FREED_AT_ONCE:
            self._retired.pop()
            return
        free = table.popitem
        for _ in range(_FREED_AT_ONCE):
            free()

    def drop_caches(self) -> None:
        """Forget everything cached, changes included."""
        self.store.hot.clear()
        self.store.warm.clear()
        self.store.weight = 0
        for keyspace in self.keyspaces:
            keyspace.cache = {}
            keyspace.cold = []
            keyspace.dirty.clear()
            keyspace.next_due_ms = keyspace.next_field_due_ms = 0
            keyspace.due_floor_ms = keyspace.field_due_floor_ms = 0

    def probe(self) -> None:
        """Write something, to see whether that can be done. Errors: OSError, EngineError."""
        self.store.put(_PROBE_KEY, U64.pack(self.clock.now_ms), None)
        self.store.commit()

    def attach(self, db: Database) -> None:
        """Go on over another engine: the same database, reopened. Nothing may be pending."""
        self.store = Store(db)
        for keyspace in self.keyspaces:
            keyspace.attach(self.store)
        self.ready.clear()
        self.drop_caches()
        for state in self.states:
            state.read()
        self._read_state()

    # -- whole databases ---------------------------------------------------------------------------

    def flush(self, keyspace: Keyspace) -> None:
        """Remove all keys of a database. Cost: O(1) at any size, and O(pending writes)."""
        self.on_flush()
        if not keyspace.count_keys():
            return
        self._touch_watched(keyspace)
        old = U32.pack(keyspace.pdb)
        if self._next_pdb >= PDB_MAX:
            raise OverflowError("physical database numbers are used up: export and import the data")
        keyspace.bind(self._next_pdb)
        self._next_pdb += 1
        self._write_map()
        self.store.discard(old, U32.pack(int.from_bytes(old, "big") + 1))
        self._empty(keyspace)

    def _touch_watched(self, keyspace: Keyspace, replacement: Keyspace | None = None) -> None:
        """Tell those who watch keys of a database that is emptied or exchanged."""
        for key in list(keyspace.watched):
            is_there = keyspace.find(key) is not None
            if is_there or (replacement is not None and replacement.find(key) is not None):
                self.on_change(keyspace, key)

    def _empty(self, keyspace: Keyspace) -> None:
        keyspace.cache = {}
        keyspace.cold = []
        keyspace.dirty.clear()
        self.ready += [(keyspace, key) for key in keyspace.minding]

    def swap(self, one: Keyspace, other: Keyspace) -> None:
        """Exchange the contents of two databases. Cost: O(1), and O(watched and waited-for keys)."""
        if one is other:
            return
        self.stage_records()
        self._touch_watched(one, other)
        self._touch_watched(other, one)
        for name in _SWAPPED:
            mine, theirs = getattr(one, name), getattr(other, name)
            setattr(one, name, theirs)
            setattr(other, name, mine)
        self._write_map()
        for keyspace in (one, other):
            for key in keyspace.waiting:
                if key in keyspace.minding or keyspace.find(key) is not None:
                    self.ready.append((keyspace, key))

    def each_with_keys(self) -> Iterator[tuple[Keyspace, int]]:
        """Yield the databases that hold keys, with their number."""
        for keyspace in self.keyspaces:
            count = keyspace.count_keys()
            if count:
                yield keyspace, count

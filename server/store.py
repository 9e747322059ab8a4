"""The engine as the server sees it: one batch that gathers the writes of a tick, and reads that see it.

Point reads look into the batch first. Range reads cannot, so what is pending is *staged* before one: it goes
into the memtable, where every read finds it, and into the log with the rest when the tick is committed. A
tick is one frame of the log: all of it survives a crash, or nothing.

Only `Databases` commits; types go through `Elements`. One thread.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, Final, TypeVar

from lamina.engine import Batch, Database
from lamina.server.encoding import PLAIN_STRING, end_of

ABSENT: Final[Any] = object()
"""What `entries.get` is given to tell a key without pending writes from one that is about to be removed."""

HOT_SIZE_MAX: Final = 256
"""Bytes of a raw record that is kept in `hot`. Larger ones are worth the walk."""

HOT_OVERHEAD_BYTES: Final = 140
"""Memory of an entry of `hot` beside its key and value: a dict slot and two object headers (measured)."""

Table = dict[bytes, bytes] | dict[bytes, bytes | None]
Cached = TypeVar("Cached")


def _find_in(tables: list[Table], keys: list[bytes]) -> list[bytes | None]:
    """Return what the first table that has a key says of it, None where none has."""
    found = list(map(tables[0].get, keys))
    for table in tables[1:]:
        if None in found and table:
            get = table.get
            found = [get(key) if value is None else value for key, value in zip(keys, found)]
    return found


def take_from(generations: list[dict[bytes, Cached]], key: bytes) -> Cached | None:
    """Take what is cached of a key out of the generation that has it."""
    for table in generations:
        found = table.pop(key, None)
        if found is not None:
            return found
    return None


class Store:
    """Reads and writes of engine keys within one tick."""

    __slots__ = ("batch", "db", "entries", "existed", "hot", "is_staged", "warm", "weight")

    def __init__(self, db: Database) -> None:
        self.db = db
        self.batch = Batch()
        # Bound once: the hot paths of elements.py write to them without a call.
        self.entries = self.batch.entries
        self.existed = self.batch.existed
        self.is_staged = False
        """Whether something of this tick is in the memtable already."""
        self.hot: dict[bytes, bytes] = {}
        """Raw records of small plain strings that were found below the active memtable. A lookup here costs
        0.2 µs where the engine's older layers take 0.6 to 6.

        Invariant: what is hot, or warm, is neither pending nor in the active memtable; who writes a record
        takes it out. So each key lies in one large dict only, as walking into one costs more than all of a
        SET's other steps."""
        self.warm: list[dict[bytes, bytes]] = []
        """The generations of `hot` before, the youngest first: what is used again moves back."""
        self.weight = 0
        """About how many bytes have been cached since caches were last aged: here and in `Keyspace.cache`."""

    @property
    def has_changes(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self.entries or self.batch.discards or self.is_staged)

    # -- one key -----------------------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        """Return the value of an engine key, pending writes included."""
        value = self.entries.get(key, ABSENT)
        if value is ABSENT:
            return self.db.view.get(key)
        return value  # type: ignore[no-any-return]

    def put(self, key: bytes, value: bytes, existed: bool | None) -> None:
        """Write `value`. `existed`: whether the key is physically there now; None lets the engine look."""
        entries = self.entries
        if key not in entries and existed is not None:
            self.existed[key] = existed
        entries[key] = value

    def delete(self, key: bytes, existed: bool | None) -> None:
        """Remove a key. `existed` as in `put`."""
        entries = self.entries
        if key not in entries and existed is not None:
            self.existed[key] = existed
        entries[key] = None

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """Return the values of engine keys, pending writes included; None where there is nothing."""
        entries = self.entries
        if entries and not entries.keys().isdisjoint(keys):
            return list(map(self.get, keys))
        return self.db.view.get_many(keys)

    def delete_known(self, keys: list[bytes]) -> None:
        """Remove keys all of which are there. Cost: 0.2 µs for each."""
        entries = self.entries
        if entries.keys().isdisjoint(keys):
            self.existed.update(dict.fromkeys(keys, True))
        else:  # what is pending was noted when it was first written
            self.existed.update((key, True) for key in keys if key not in entries)
        entries.update(dict.fromkeys(keys))

    def discard(self, start: bytes, stop: bytes) -> None:
        """Give up a range that will never be read or written again. Cost: O(1).

        What is pending of it is forgotten when the rest is staged or committed, for all discards at once: who
        removes a hundred thousand collections in one turn must not look through what is pending each time.
        """
        self.batch.discard(start, stop)

    def _forget_discarded(self) -> None:
        """Forget pending writes in discarded ranges. Cost: O(pending writes x log discards)."""
        starts: list[bytes] = []
        stops: list[bytes] = []
        for start, stop in sorted(self.batch.discards):
            if not stops or start > stops[-1]:
                starts.append(start)
                stops.append(stop)
            elif stop > stops[-1]:  # a flush covers what was discarded in its database before
                stops[-1] = stop
        entries, existed = self.entries, self.existed
        places = [bisect_right(starts, key) - 1 for key in entries]
        for key in [key for key, at in zip(entries, places) if at >= 0 and key < stops[at]]:
            del entries[key]
            existed.pop(key, None)

    def get_record(self, key: bytes) -> bytes | None:
        """Return the raw record at a key that is not hot; a small plain string on disk is from now on."""
        raw: bytes | None = self.entries.get(key, ABSENT)
        if raw is not ABSENT:
            return raw
        active = self.db.view.active
        raw = active.inserted.get(key)
        if raw is not None:
            return raw
        raw = active.based.get(key, ABSENT)
        if raw is not ABSENT:
            return raw
        raw = take_from(self.warm, key)
        if raw is None:
            raw = self.db.view.get_below(key)
            if raw is None or raw[:1] != PLAIN_STRING:
                return raw
        if len(raw) <= HOT_SIZE_MAX:
            self.hot[key] = raw
            self.weight += len(key) + len(raw) + HOT_OVERHEAD_BYTES
        return raw

    def get_records(self, keys: list[bytes]) -> list[bytes | None]:
        """Return the raw records at keys, None where there is nothing; small plain strings on disk get hot.

        Cost: 0.1 µs for each that the active memtable has inserted, half of it waiting for memory.
        """
        hot, entries = self.hot, self.entries
        if entries and not entries.keys().isdisjoint(keys):
            return [hot.get(key) or self.get_record(key) for key in keys]
        active = self.db.view.active
        # Each key is in one of them at most: the larger, the likelier.
        raws = _find_in(sorted((hot, active.inserted, active.based), key=len, reverse=True), keys)
        if None in raws:
            get = self.get_record
            # A key may be named twice, and be hot by then.
            raws = [raw or hot.get(key) or get(key) for key, raw in zip(keys, raws)]
        return raws

    def take(self, key: bytes) -> bytes | None:
        """Return the raw record at a key that is about to be written, and note whether it exists."""
        raw: bytes | None = self.entries.get(key, ABSENT)
        if raw is ABSENT:
            raw = self.db.view.active.inserted.get(key)
            if raw is None:
                raw = self.take_below(key)
        return raw

    def take_below(self, key: bytes) -> bytes | None:
        """Do as `take` for a key that is not pending and that the active memtable has not inserted."""
        view = self.db.view
        raw: bytes | None = view.active.based.get(key, ABSENT)
        if raw is ABSENT:
            raw = self.hot.pop(key, None) or take_from(self.warm, key) or view.get_below(key)
            self.existed[key] = raw is not None
        return raw

    def take_many(self, keys: list[bytes]) -> list[bytes | None]:
        """Do as `take` for several keys. Cost: as `get_records`."""
        entries = self.entries
        if entries and not entries.keys().isdisjoint(keys):
            return list(map(self.take, keys))
        active = self.db.view.active
        inserted, based = active.inserted, active.based
        raws = _find_in([inserted, based] if len(inserted) > len(based) else [based, inserted], keys)
        if None in raws:
            take = self.take_below
            raws = [take(key) if raw is None else raw for key, raw in zip(keys, raws)]
        return raws

    def cool(self, key: bytes) -> None:
        """Take a record out of what is hot or warm: it is about to be written."""
        if self.hot.pop(key, None) is None:
            take_from(self.warm, key)

    def age(self) -> None:
        """Make what is hot the youngest generation before."""
        self.warm.insert(0, self.hot)
        self.hot = {}
        self.weight = 0

    # -- ranges ------------------------------------------------------------------------------------

    def stage(self) -> None:
        """Show pending writes to range reads. Cost: as a small write, without the log."""
        if self.batch.discards:
            self._forget_discarded()
        if self.entries:
            self.db.stage(self.batch)  # discarded ranges stay as they are until the commit
            self.batch.clear()
            self.is_staged = True

    def chunks(
        self, start: bytes, stop: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[list[bytes], list[bytes]]]:
        """Yield the entries of a range as parallel lists of keys and values, in order or backwards."""
        if self.entries:
            self.stage()
        return self.db.view.scan_chunks(start, stop, reverse=reverse)

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Yield the entries of a range, in order or backwards."""
        if self.entries:
            self.stage()
        return self.db.view.scan(start, stop, reverse=reverse)

    def scan_prefix(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield the entries whose keys begin with `prefix`, in order."""
        return self.scan(prefix, end_of(prefix))

    def count(self, start: bytes, stop: bytes) -> int:
        """Return how many keys a range holds. Cost: O(layers x log n)."""
        if self.entries:
            self.stage()
        return self.db.view.count(start, stop)

    def select(self, start: bytes, stop: bytes, n: int) -> tuple[bytes, bytes] | None:
        """Return the entry at position `n` of a range, or None. Cost: O(layers x log² n)."""
        if self.entries:
            self.stage()
        return self.db.view.select(start, stop, n)

    # -- the tick ----------------------------------------------------------------------------------

    def commit(self) -> None:
        """Write everything since the last commit as one frame, without waiting for the disk's sync.

        Errors: OSError and EngineError as `Database.write`; then nothing of it has happened, and the store is
        as it was after the last commit.
        """
        try:
            if self.batch.discards:
                self._forget_discarded()
            self.db.write(self.batch, sync=False)
        except BaseException:
            self.rollback()
            raise
        self.batch.clear()
        self.is_staged = False

    def rollback(self) -> None:
        """Forget everything since the last commit."""
        self.batch.clear()
        if self.is_staged:
            self.db.unstage()
            self.is_staged = False

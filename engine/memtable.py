"""The memtable: the newest writes, in memory.

Two dicts, so that a key's dict says whether it exists below this layer, and a put of a known key is one
store:

    inserted   key -> value            the key is not in any older layer       INSERT
    based      key -> value | None     the key is in an older layer            REPLACE, or REMOVE where None

A key removed from `inserted` leaves no trace. An uncounted memtable uses only `based` (None then is a
DELETE).

Point writes never pay for order: they only note the key in a list. The first scan or count sorts what was
noted into sortedcontainers' lists: all keys; and, for counts, the keys that add one and those that take one
away.

Invariants (`check`): the dicts share no key; after `order` the lists hold exactly the keys of the dicts.

Threads: one writer at a time, under the database's lock. Point reads need no lock. What needs order
(`chunks`, `delta_between`, `middle`) takes the lock that the memtable was given, which excludes the writer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import compress, islice, repeat

from sortedcontainers import SortedList

from lamina.engine.batch import ENTRY, Discard, decode_payload
from lamina.engine.entry import DELETE, INSERT, REMOVE, REPLACE

# Places: where a writer finds the key that it is about to write. They decide on the kind of the entry and on
# the dict that takes it. Held as a column of bytes, so that all of a batch's are handled by C loops.
IN_INSERTED = 0
IN_BASED = 1
BELOW = 2
"""Not in this memtable; live in an older layer. In an uncounted database, every key."""
NOWHERE = 3
BURIED = 4
"""In `based`, with a tombstone."""
REMOVED = 8
"""Added to the place of a key that is removed."""

ENTRY_OVERHEAD_BYTES = 160
"""Memory of an entry beside key and value: two object headers, a dict slot and allocator rounding
(measured)."""

_REBUILD_RATIO = 8
_CHUNK_FIRST = 32
_CHUNK_MAX = 1024

ABSENT = object()
"""What `based.get` is given to tell a missing key from a tombstone."""

_PENDING_SPARE = 1024
"""Keys that undone writes may leave noted beyond as many as the memtable holds."""


def _mask(*places: int) -> bytes:
    """Return the table that translates a column of places into one of 0 and 1, for `compress`."""
    return bytes(place in places for place in range(256))


_TO_INSERTED = _mask(IN_INSERTED, NOWHERE)
_TO_BASED = _mask(IN_BASED, BELOW, BURIED, IN_BASED + REMOVED, BELOW + REMOVED)
_TAKEN_OUT = IN_INSERTED + REMOVED
_FROM_INSERTED = _mask(_TAKEN_OUT)
# Whatever comes, goes, or changes between value and tombstone.
_UNORDERED = _mask(BELOW, NOWHERE, BURIED, IN_INSERTED + REMOVED, IN_BASED + REMOVED, BELOW + REMOVED)

Before = tuple[list[bytes], list[bytes | None], list[object], int]
"""What a memtable holds of some keys: the keys, what `inserted` has (or None), what `based` has (or ABSENT),
and `written_bytes`."""


class Memtable:
    """One layer in memory; sealed (immutable) once the writer has moved on."""

    __slots__ = (
        "__weakref__",
        "_lock",
        "_minus",
        "_order",
        "_plus",
        "based",
        "counted",
        "discards",
        "inserted",
        "pending",
        "wals",
        "written_bytes",
    )

    def __init__(self, *, counted: bool, lock: AbstractContextManager[object]) -> None:
        self.counted = counted
        self.inserted: dict[bytes, bytes] = {}
        self.based: dict[bytes, bytes | None] = {}
        self.pending: list[bytes] = []
        """Keys that came, went, or changed between value and tombstone since the last `order`."""
        self.discards: list[Discard] = []
        """Ranges discarded by the frames of this memtable's logs."""
        self.wals: list[int] = []
        """The logs that hold this memtable's entries, in order."""
        self.written_bytes = 0
        """Bytes of all keys and values written, also of those that have been written over."""
        self._lock = lock
        self._order: SortedList[bytes] | None = None
        self._plus: SortedList[bytes] = SortedList()
        self._minus: SortedList[bytes] = SortedList()

    def __len__(self) -> int:
        return len(self.inserted) + len(self.based)

    @property
    def size_bytes(self) -> int:
        """A bound for the memory it takes, and about the size of its logs: what decides when it is full.

        Writing over a key costs the log its bytes, but no memory: so keys that change all the time do not
        make a memtable full before its time.
        """
        return self.written_bytes + ENTRY_OVERHEAD_BYTES * (len(self.inserted) + len(self.based))

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to flush."""
        return not (self.inserted or self.based or self.discards)

    @property
    def is_ordered(self) -> bool:
        """Whether everything written so far has been sorted in."""
        return self._order is not None and not self.pending

    # -- writing -----------------------------------------------------------------------------------

    def apply(self, keys: Sequence[bytes], values: Sequence[bytes], kinds: bytes) -> None:
        """Apply entries, in order; the kind of each speaks of the moment before it. Cost: 0.3 µs per
        entry."""
        count = len(keys)
        self.written_bytes += sum(map(len, keys)) + sum(map(len, values))
        based = self.based
        if not self.counted:
            self.pending += keys
            if DELETE not in kinds:
                based.update(zip(keys, values, strict=True))
                return
            for key, value, kind in zip(keys, values, kinds, strict=True):
                based[key] = None if kind == DELETE else value
            return
        inserted = self.inserted
        if kinds.count(INSERT) == count and based.keys().isdisjoint(keys):
            self.pending += keys
            inserted.update(zip(keys, values, strict=True))
            return
        pending = self.pending
        for key, value, kind in zip(keys, values, kinds, strict=True):
            if kind == REMOVE:
                pending.append(key)
                if key in inserted:
                    del inserted[key]
                else:
                    based[key] = None
            elif key in inserted:
                inserted[key] = value
            elif key in based:
                if based[key] is None:
                    pending.append(key)
                based[key] = value
            else:
                pending.append(key)
                if kind == INSERT:
                    inserted[key] = value
                else:
                    based[key] = value

    def store(self, entries: dict[bytes, bytes | None], places: bytes, size_bytes: int) -> None:
        """Apply a batch whose keys have been looked up: `apply` for writers.

        `places` go with `entries`; a removed key has the value None; `size_bytes` are those of keys and
        values. Cost: 0.03 µs per entry if all go into the same dict, else 0.1.
        """
        self.written_bytes += size_bytes
        unordered = places.translate(_UNORDERED)
        if 1 in unordered:
            self.pending += compress(entries, unordered)
        to_based = places.translate(_TO_BASED)
        if 1 not in to_based and _TAKEN_OUT not in places:
            self.inserted.update(entries)  # type: ignore[arg-type]
        elif 0 not in to_based:
            self.based.update(entries)
        else:
            items = entries.items()
            self.based.update(compress(items, to_based))
            inserted = self.inserted
            inserted.update(compress(items, places.translate(_TO_INSERTED)))  # type: ignore[arg-type]
            if _TAKEN_OUT in places:
                for key in compress(entries, places.translate(_FROM_INSERTED)):
                    del inserted[key]

    def before(self, keys: list[bytes]) -> Before:
        """Return what `restore` needs to undo any writes of these keys. Cost: 0.05 µs per key."""
        inserted = list(map(self.inserted.get, keys))
        return keys, inserted, list(map(self.based.get, keys, repeat(ABSENT))), self.written_bytes

    def restore(self, before: Before) -> None:
        """Undo whatever has been done to some keys since `before`. May be repeated if it was interrupted.

        The caller holds the lock.
        """
        keys, of_inserted, of_based, self.written_bytes = before
        inserted, based = self.inserted, self.based
        if self._order is None:
            self.pending.clear()  # the first `order` sorts the dicts and does not look at it
        else:
            self.pending += keys
        for key, value in zip(keys, of_inserted, strict=True):
            if value is None:
                inserted.pop(key, None)
            else:
                inserted[key] = value
        for key, found in zip(keys, of_based, strict=True):
            if found is ABSENT:
                based.pop(key, None)
            else:
                based[key] = found  # type: ignore[assignment]
        # Writes that are undone again and again must not fill memory with their keys.
        if len(self.pending) > len(self) + _PENDING_SPARE:
            self.order()

    def replay(self, payloads: Iterable[bytes]) -> None:
        """Apply what a log's frames hold, in order. Errors: ValueError for a payload that makes no sense.

        Frames of single entries, which is what puts write, are gathered into columns first: a decoded tuple
        and an `apply` for each would cost 3 µs instead of 0.8 (benchmarks/flush.py).
        """
        keys: list[bytes] = []
        values: list[bytes] = []
        kinds = bytearray()
        unpack, head = ENTRY.unpack_from, ENTRY.size
        for payload in payloads:
            if payload[0] <= REMOVE and len(payload) >= head:
                kind, key_size = unpack(payload)
                at = head + key_size
                if at > len(payload):
                    raise ValueError("the key of an entry is cut short")
                keys.append(payload[head:at])
                values.append(payload[at:])
                kinds.append(kind)
                continue
            if keys:
                self.apply(keys, values, bytes(kinds))
                keys, values = [], []
                kinds.clear()
            operations = decode_payload(payload)
            self.apply(operations.keys, operations.values, operations.kinds)
            self.discards += operations.discards
        if keys:
            self.apply(keys, values, bytes(kinds))

    # -- reading -----------------------------------------------------------------------------------

    def find(self, key: bytes) -> bytes | object | None:
        """Return the value, None for a tombstone, ABSENT if this layer does not know the key."""
        value = self.inserted.get(key)
        return value if value is not None else self.based.get(key, ABSENT)

    def order(self) -> SortedList[bytes]:
        """Return all keys in order, sorting in what was written since. The caller holds the lock."""
        order = self._order
        pending = self.pending
        if order is not None and not pending:
            return order
        inserted, based = self.inserted, self.based
        if order is None or len(pending) * _REBUILD_RATIO > len(order):
            pending.clear()
            order = self._order = SortedList(inserted)
            order.update(based)
            if self.counted:
                self._plus = SortedList(inserted)
                self._minus = SortedList(key for key, value in based.items() if value is None)
            return order
        changed = set(pending)
        pending.clear()
        plus, minus = self._plus, self._minus
        for key in changed:
            if key in inserted:
                _include(order, key)
                _include(plus, key)
            elif key in based:
                _include(order, key)
                if self.counted:
                    if based[key] is None:
                        _include(minus, key)
                    else:
                        minus.discard(key)
            else:
                order.discard(key)
                plus.discard(key)
        return order

    def chunks(self, start: bytes, stop: bytes | None) -> Iterator[tuple[list[bytes], list[bytes | None]]]:
        """Yield the entries with ``start <= key < stop`` in order, as parallel lists; None is a tombstone's
        value.

        While the memtable is still written to, each chunk shows it as it is when the chunk is asked for.
        """
        size = _CHUNK_FIRST
        inclusive = (True, False)
        while True:
            with self._lock:
                keys = list(islice(self.order().irange(start, stop, inclusive), size))
                values = self._values(keys)
            if keys:
                yield keys, values
            if len(keys) < size:
                return
            start = keys[-1]
            inclusive = (False, False)
            size = min(size * 4, _CHUNK_MAX)

    def chunks_reversed(
        self, start: bytes, stop: bytes | None
    ) -> Iterator[tuple[list[bytes], list[bytes | None]]]:
        """Yield what `chunks` yields, the last chunk first; inside a chunk the keys ascend."""
        size = _CHUNK_FIRST
        while True:
            with self._lock:
                keys = list(islice(self.order().irange(start, stop, (True, False), reverse=True), size))
                keys.reverse()
                values = self._values(keys)
            if keys:
                yield keys, values
            if len(keys) < size:
                return
            stop = keys[0]
            size = min(size * 4, _CHUNK_MAX)

    def _values(self, keys: list[bytes]) -> list[bytes | None]:
        inserted, based = self.inserted, self.based
        if not based:
            return list(map(inserted.__getitem__, keys))
        if not inserted:
            return list(map(based.__getitem__, keys))
        return [value if (value := inserted.get(key)) is not None else based[key] for key in keys]

    def delta_between(self, start: bytes, stop: bytes | None) -> int:
        """Return what the entries with ``start <= key < stop`` add to the number of live keys.

        Both bounds are looked up at the same moment: a write below `start` between two lookups would be
        counted.
        """
        with self._lock:
            self.order()
            return _between(self._plus, start, stop) - _between(self._minus, start, stop)

    def middle(self, start: bytes, stop: bytes | None, share: float) -> bytes | None:
        """Return a key in ``start < key < stop`` with about that share of the entries there before it, or
        None."""
        with self._lock:
            order = self.order()
            first = order.bisect_right(start)
            last = len(order) if stop is None else order.bisect_left(stop)
            if first >= last:
                return None
            key: bytes = order[max(first, min(first + int((last - first) * share), last - 1))]
            return key

    def columns(self) -> tuple[list[bytes], list[bytes], bytes]:
        """Return all entries in order as (keys, values, kinds), for a flush. The memtable must be sealed."""
        inserted, based = self.inserted, self.based
        keys = sorted([*inserted, *based])
        if not based:
            return keys, list(map(inserted.__getitem__, keys)), bytes((INSERT,)) * len(keys)
        if not inserted and None not in based.values():
            live = list(map(based.__getitem__, keys))
            return keys, live, bytes((REPLACE,)) * len(keys)  # type: ignore[return-value]
        dead = REMOVE if self.counted else DELETE
        values: list[bytes] = []
        kinds = bytearray()
        for key in keys:
            value = inserted.get(key)
            if value is not None:
                kinds.append(INSERT)
            elif (value := based[key]) is not None:
                kinds.append(REPLACE)
            else:
                kinds.append(dead)
                value = b""
            values.append(value)
        return keys, values, bytes(kinds)

    def check(self) -> None:
        """Assert the invariants. Cost: O(n log n)."""
        with self._lock:
            order = self.order()
            assert self.inserted.keys().isdisjoint(self.based)
            assert list(order) == sorted([*self.inserted, *self.based])
            if self.counted:
                assert list(self._plus) == sorted(self.inserted)
                assert list(self._minus) == sorted(k for k, v in self.based.items() if v is None)
            else:
                assert not self.inserted


def _between(keys: SortedList[bytes], start: bytes, stop: bytes | None) -> int:
    first: int = keys.bisect_left(start) if start else 0
    last: int = len(keys) if stop is None else keys.bisect_left(stop)
    return last - first


def _include(keys: SortedList[bytes], key: bytes) -> None:
    if key not in keys:
        keys.add(key)

"""The memtable: the newest writes, in memory.

Two dicts, so that a key's dict says whether it exists below this layer, and a put of a known key is one
store:

    inserted   key -> value            the key is not in any older layer       INSERT
    based      key -> value | None     the key is in an older layer            REPLACE, or REMOVE where None

A key removed from `inserted` leaves no trace. An uncounted memtable uses only `based` (None then is a
DELETE).

Point writes never pay for order: they only note the key in a list, according to what happens to the number
of live keys. The lists belong to piles, which scans and counts sort as far as they need (pile.py):

    came       keys that became live                     +1
    went       keys that were live                       -1
    touched    known to an older layer, written first     0     uncounted: all that is written

So a range is counted without looking at the dicts: what came in it, less what went. A scan takes the keys
from the piles and asks the dicts; where it meets many that have come and gone again, it removes them from
the piles, so that who takes from the front of a queue does not pass what others took, again and again.

Invariants (`check`): the dicts share no key; the piles hold all keys of the dicts; as often as a key came,
less as often as it went, is what its entry adds. Whatever may have broken them, an interruption or a write
that is undone, calls `forget_order`: the next look notes everything anew.

Threads: one writer at a time, under the database's lock. Point reads need no lock. What needs order
(`chunks`, `delta_between`, `middle`) takes the lock that the memtable was given, which excludes the writer.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import compress, groupby, repeat

from lamina.engine.batch import ENTRY, Discard, decode_payload
from lamina.engine.entry import DELETE, INSERT, REMOVE, REPLACE
from lamina.engine.pile import NEW_MAX, KeyPile

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

_CHUNK_FIRST = 32
_CHUNK_MAX = 1024

ABSENT = object()
"""What `based.get` is given to tell a missing key from a tombstone."""

_GONE_MIN = 16
"""Neighbours that have come and gone: so many are worth being removed from the piles."""

_NOTES_SPARE = 1 << 16
"""Keys that may be noted in one pile beyond as many as there are: who puts and removes the same few keys for
ever must not fill memory with their names."""


def _mask(*places: int) -> bytes:
    """Return the table that translates a column of places into one of 0 and 1, for `compress`."""
    return bytes(place in places for place in range(256))


_TO_INSERTED = _mask(IN_INSERTED, NOWHERE)
_TO_BASED = _mask(IN_BASED, BELOW, BURIED, IN_BASED + REMOVED, BELOW + REMOVED)
_TAKEN_OUT = IN_INSERTED + REMOVED
_FROM_INSERTED = _mask(_TAKEN_OUT)
_CAME = _mask(NOWHERE, BURIED)
_WENT = _mask(IN_INSERTED + REMOVED, IN_BASED + REMOVED, BELOW + REMOVED)
_TOUCHED = _mask(BELOW)

Before = tuple[list[bytes], list[bytes | None], list[object], int]
"""What a memtable holds of some keys: the keys, what `inserted` has (or None), what `based` has (or ABSENT),
and `written_bytes`."""


class Memtable:
    """One layer in memory; sealed (immutable) once the writer has moved on."""

    __slots__ = (
        "__weakref__",
        "_is_looked_at",
        "_is_order_lost",
        "_lock",
        "_notes",
        "_piles",
        "based",
        "came",
        "counted",
        "discards",
        "inserted",
        "notes_max",
        "touched",
        "wals",
        "went",
        "written_bytes",
    )

    def __init__(self, *, counted: bool, lock: AbstractContextManager[object]) -> None:
        self.counted = counted
        self.inserted: dict[bytes, bytes] = {}
        self.based: dict[bytes, bytes | None] = {}
        self._piles = (KeyPile(), KeyPile(), KeyPile())
        self.came, self.went, self.touched = (pile.new for pile in self._piles)
        """Where writers note keys: see above."""
        came, went, touched = self.came, self.went, self.touched
        self._notes = (None, None, touched, came, came, None, None, None, went, went, went)
        """Those of each place."""
        self.notes_max = NEW_MAX
        """Who has noted more in one list calls `tidy`."""
        self._is_looked_at = False
        self._is_order_lost = False
        self.discards: list[Discard] = []
        """Ranges discarded by the frames of this memtable's logs."""
        self.wals: list[int] = []
        """The logs that hold this memtable's entries, in order."""
        self.written_bytes = 0
        """Bytes of all keys and values written, also of those that have been written over."""
        self._lock = lock

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

    # -- writing -----------------------------------------------------------------------------------

    def apply(self, keys: Sequence[bytes], values: Sequence[bytes], kinds: bytes) -> None:
        """Apply entries, in order; the kind of each speaks of the moment before it. Cost: 0.3 µs per
        entry."""
        count = len(keys)
        self.written_bytes += sum(map(len, keys)) + sum(map(len, values))
        based = self.based
        if not self.counted:
            self.touched += keys
            if DELETE not in kinds:
                based.update(zip(keys, values, strict=True))
                return
            for key, value, kind in zip(keys, values, kinds, strict=True):
                based[key] = None if kind == DELETE else value
            return
        inserted = self.inserted
        if kinds.count(INSERT) == count and based.keys().isdisjoint(keys):
            self.came += keys
            inserted.update(zip(keys, values, strict=True))
            return
        came, went = self.came, self.went
        for key, value, kind in zip(keys, values, kinds, strict=True):
            if kind == REMOVE:
                went.append(key)
                if key in inserted:
                    del inserted[key]
                else:
                    based[key] = None
            elif key in inserted:
                inserted[key] = value
            elif key in based:
                if based[key] is None:
                    came.append(key)
                based[key] = value
            elif kind == INSERT:
                came.append(key)
                inserted[key] = value
            else:
                self.touched.append(key)
                based[key] = value

    def store(self, entries: dict[bytes, bytes | None], places: bytes, size_bytes: int) -> None:
        """Apply a batch whose keys have been looked up: `apply` for writers.

        `places` go with `entries`; a removed key has the value None; `size_bytes` are those of keys and
        values. Cost: 0.03 µs per entry if all go into the same dict, else 0.1.
        """
        self.written_bytes += size_bytes
        if not places:
            return
        place = places[0]
        if places.count(place) == len(places):  # nearly all batches, and all of one entry: that saves 0.5 µs
            notes = self._notes[place]
            if notes is not None:
                notes += entries
                if len(notes) > self.notes_max:
                    self.tidy()
            if place == NOWHERE or place == IN_INSERTED:
                self.inserted.update(entries)  # type: ignore[arg-type]
            elif place == _TAKEN_OUT:
                for key in entries:
                    del self.inserted[key]
            else:
                self.based.update(entries)
            return
        for notes, mask in ((self.came, _CAME), (self.went, _WENT), (self.touched, _TOUCHED)):
            chosen = places.translate(mask)
            if 1 in chosen:
                notes += compress(entries, chosen)
                if len(notes) > self.notes_max:
                    self.tidy()
        items = entries.items()
        self.based.update(compress(items, places.translate(_TO_BASED)))
        inserted = self.inserted
        inserted.update(compress(items, places.translate(_TO_INSERTED)))  # type: ignore[arg-type]
        if _TAKEN_OUT in places:
            for key in compress(entries, places.translate(_FROM_INSERTED)):
                del inserted[key]

    def tidy(self) -> None:
        """Keep what has been noted within bounds."""
        if self._is_looked_at:
            for pile in self._piles:
                pile.deal()
        else:
            self.notes_max += NEW_MAX
        if max(map(len, self._piles)) > len(self) + _NOTES_SPARE:
            self.forget_order()

    def forget_order(self) -> None:
        """Forget what has been noted: it may be wrong, or too much. The next look into a range notes it anew,
        in 10 ns per key."""
        self._is_order_lost = True
        self._is_looked_at = False
        for pile in self._piles:
            pile.clear()

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
        self.forget_order()
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

    def _ordered(self) -> tuple[KeyPile, KeyPile, KeyPile]:
        """Return the piles, whole. The caller holds the lock."""
        if len(self._piles[1]) > len(self) + _NOTES_SPARE:
            self.forget_order()
        if self._is_order_lost:
            for pile in self._piles:
                pile.clear()  # what was written since has been noted, too
            self.came += self.inserted
            self.went += [key for key, value in self.based.items() if value is None]
            self.touched += [key for key, value in self.based.items() if value is not None]
            self._is_order_lost = False
        self._is_looked_at = True
        self.notes_max = NEW_MAX
        return self._piles

    def chunks(self, start: bytes, stop: bytes | None) -> Iterator[tuple[list[bytes], list[bytes | None]]]:
        """Yield the entries with ``start <= key < stop`` in order, as parallel lists; None is a tombstone's
        value.

        While the memtable is still written to, each chunk shows it as it is when the chunk is asked for.
        """
        size = _CHUNK_FIRST
        while True:
            with self._lock:
                found = [keys for pile in self._ordered() if (keys := pile.first(start, stop, size))]
                # Where a pile has given all it was asked for, it may hold more keys from there on.
                ends = [keys[-1] for keys in found if len(keys) == size]
                keys = _merged(found)
                if ends:
                    del keys[bisect_right(keys, min(ends)) :]
                keys = self._without_gone(keys)
                values = self._values(keys)
            if keys:
                yield keys, values
            if not ends:
                return
            start = min(ends) + b"\0"
            size = min(size * 4, _CHUNK_MAX)

    def chunks_reversed(
        self, start: bytes, stop: bytes | None
    ) -> Iterator[tuple[list[bytes], list[bytes | None]]]:
        """Yield what `chunks` yields, the last chunk first; inside a chunk the keys ascend."""
        size = _CHUNK_FIRST
        while True:
            with self._lock:
                found = [keys for pile in self._ordered() if (keys := pile.last(start, stop, size))]
                ends = [keys[0] for keys in found if len(keys) == size]
                keys = _merged(found)
                if ends:
                    del keys[: bisect_left(keys, max(ends))]
                keys = self._without_gone(keys)
                values = self._values(keys)
            if keys:
                yield keys, values
            if not ends:
                return
            stop = max(ends)
            size = min(size * 4, _CHUNK_MAX)

    def _without_gone(self, keys: list[bytes]) -> list[bytes]:
        """Return those that are still there. `keys`: all that the piles have from the first to the last."""
        if not self._piles[1]:
            return keys
        inserted, based = self.inserted, self.based
        there = [key for key in keys if key in inserted or key in based]
        if len(keys) - len(there) >= _GONE_MIN:
            for is_there, group in groupby(keys, set(there).__contains__):
                gone = [] if is_there else list(group)
                if len(gone) >= _GONE_MIN:
                    # Each of them has come as often as it went, so counts stay as they are.
                    for pile in self._piles:
                        pile.remove_between(gone[0], gone[-1] + b"\0")
        return there

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
            came, went, _ = self._ordered()
            return came.count(start, stop) - went.count(start, stop)

    def middle(self, start: bytes, stop: bytes | None, share: float) -> bytes | None:
        """Return a key in ``start < key < stop`` with about that share of the entries there before it, or
        None. The key may have come and gone."""
        with self._lock:
            # The fullest first: its keys divide the range most evenly.
            for pile in sorted(self._ordered(), key=lambda pile: -pile.count(start, stop)):
                key = pile.middle(start, stop, share)
                if key is not None:
                    return key
            return None

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
        """Assert the invariants. Sorts nothing. Cost: O(n log n)."""
        with self._lock:
            inserted, based = self.inserted, self.based
            assert inserted.keys().isdisjoint(based)
            assert self.counted or not inserted
            if self._is_order_lost:
                return
            for pile in self._piles:
                pile.check()
            came, went, touched = (Counter(pile.keys()) for pile in self._piles)
            noted = came.keys() | went.keys() | touched.keys()
            assert noted >= inserted.keys() | based.keys()
            if self.counted:
                for key in noted:
                    adds = (key in inserted) - (key in based and based[key] is None)
                    assert came[key] - went[key] == adds, key


def _merged(found: list[list[bytes]]) -> list[bytes]:
    """Return the keys of sorted lists as one, each once."""
    if len(found) == 1:
        return list(dict.fromkeys(found[0]))
    return sorted(set().union(*found))

"""The order of a sorted set: its members by score, then by bytes.

    e id 's' score member -> (nothing)      score: 8 order-preserving bytes (encoding.encode_score)

What is here is derived from the scores, and has no knowledge of its own of what exists: the caller knows,
from the scores, which key is there and which is not, so no write looks. While the scores are held in memory,
the order is too, made of them when it is first asked for:

    _sorted     SortedList of the keys (score + member) as of the last question; None if nobody has asked
    _pending    what has changed since: key -> whether it is there now. It is merged at the next question, so
                writes alone never pay for order

Of a set on disk it is remembered how far it has been emptied from either end, since a sorted set is often a
queue. Where keys have been removed the engine has tombstones, until compaction meets them, and a read from
the beginning would pass over all of them: ZPOPMIN of a set that has lost 2,500 members takes 0.05 ms, not 3.

    _floor      no key is below
    _ceiling    no key is at it or above; None if that is not known

Invariants: the keys are those of the scores, one for each, and from `_floor` to `_ceiling`. `_sorted` is only
there while the scores are held. No key of `_pending` is in `_sorted` if it says True, and every one is if it
says False. `check` asserts them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import islice

from sortedcontainers import SortedList

from lamina.server.elements import DELETED_SINGLY, Elements
from lamina.server.encoding import DOUBLE, encode_score, end_of
from lamina.server.gathering import check, watched
from lamina.server.store import Store

SCORE_SIZE = 8
"""Bytes of a key before the member."""

KEY_OVERHEAD_BYTES = 44
"""Memory of a sorted key beside its bytes: an object header and a place in a list (measured)."""

_MERGE_RATIO = 32
"""Merging costs about 0.06 µs per key that is there, adding or removing one 2 µs: with more than one change
for so many keys, all are merged at once (100,000 keys, measured)."""

_FEW = 64
"""Changes that are made one by one in any case."""


class Order:
    """The keys of a sorted set, score + member, in order."""

    __slots__ = ("_ceiling", "_floor", "_pending", "_sorted", "end", "prefix", "scores", "store")

    def __init__(self, store: Store, prefix: bytes, scores: Elements) -> None:
        """`scores` is the map from member to score, whose order this is."""
        self.store = store
        self.prefix = prefix
        self.end = end_of(prefix)
        self.scores = scores
        self._sorted: SortedList[bytes] | None = None
        self._pending: dict[bytes, bool] = {}
        self._floor = b""
        self._ceiling: bytes | None = None

    # -- changes: the caller makes the same one in the scores --------------------------------------

    def add(self, key: bytes) -> None:
        """Add a key that is not there."""
        # As in Elements.put, what Store.put does is repeated: a call less.
        store = self.store
        engine_key = self.prefix + key
        entries = store.entries
        if engine_key not in entries:
            store.existed[engine_key] = False
        entries[engine_key] = b""
        if self._sorted is not None:
            # As in `remove`, the note is made here: a call less.
            pending = self._pending
            if key in pending:
                del pending[key]
            else:
                pending[key] = True
        if key < self._floor:
            self._floor = key
        if self._ceiling is not None and key >= self._ceiling:
            self._ceiling = None

    def remove(self, key: bytes) -> None:
        """Remove a key that is there."""
        store = self.store
        engine_key = self.prefix + key
        entries = store.entries
        if engine_key not in entries:
            store.existed[engine_key] = True
        entries[engine_key] = None
        if self._sorted is not None:
            pending = self._pending
            if key in pending:
                del pending[key]  # it was added since
            else:
                pending[key] = False

    def pop(self, *, last: bool) -> bytes:
        """Remove the first or the last key, of which there is one at least, and return it."""
        key: bytes
        if self.scores.touch() is None:
            key = next(self._scan(b"", None, last))
            self.remove(key)
            if last:
                self._ceiling = key
            else:
                self._floor = key
            return key
        # By its place, without a search: half of the time of `remove`.
        key = self._merged().pop(-1 if last else 0)
        store = self.store
        engine_key = self.prefix + key
        entries = store.entries
        if engine_key not in entries:
            store.existed[engine_key] = True
        entries[engine_key] = None
        return key

    def remove_run(self, keys: Sequence[bytes]) -> None:
        """Remove keys that are there, neighbours in ascending order."""
        remove = self.remove
        for key in keys:
            remove(key)
        if keys and self.scores.held is None:
            if not self.count(b"", keys[0]):
                self._floor = keys[-1]
            elif not self.count(keys[-1], None):
                self._ceiling = keys[0]

    def drop(self) -> None:
        """Remove all keys, before the scores are dropped. Cost: O(1) for a large set."""
        if self.scores.size <= DELETED_SINGLY:
            delete, prefix = self.store.delete, self.prefix
            for member, raw in self.scores.items():
                delete(prefix + encode_score(DOUBLE.unpack(raw)[0]) + member, True)
        else:
            self.store.discard(self.prefix, self.end)
        self.let_go()

    # -- holding -----------------------------------------------------------------------------------

    def let_go(self) -> None:
        """Stop holding the order. To be called when the scores are let go."""
        self._sorted = None
        self._pending = {}

    def held_bytes(self) -> int:
        """Return about how much memory the held order takes. Cost: O(1)."""
        order = self._sorted
        if not order:
            return 0
        return (len(order) + len(self._pending)) * (KEY_OVERHEAD_BYTES + len(order[0]))

    def _merged(self) -> SortedList[bytes]:
        """Return the keys in order. The scores are held."""
        order, pending = self._sorted, self._pending
        if order is None:
            order = self._sorted = SortedList(self._keys_of_scores())
            self.store.weight += self.held_bytes()
        elif pending:
            if len(pending) > _FEW and len(pending) * _MERGE_RATIO > len(order):
                keys = [key for key in order if key not in pending]
                keys += sorted([key for key, is_there in pending.items() if is_there])
                # Two sorted runs: the sort inside finds and merges them.
                order = self._sorted = SortedList(keys)
            else:
                for key, is_there in pending.items():
                    if is_there:
                        order.add(key)
                    else:
                        order.remove(key)
            pending.clear()
        return order

    def _keys_of_scores(self) -> list[bytes]:
        held = self.scores.held
        assert held is not None
        pack = DOUBLE.pack
        values = struct.unpack(f">{len(held)}d", b"".join(held.values()))
        # The short way of encode_score: a call for each would double the time.
        return [
            (pack(-(score + 0.0)) if score >= 0.0 else encode_score(score)) + member
            for member, score in zip(held, values)
        ]

    # -- questions ---------------------------------------------------------------------------------

    def count(self, start: bytes, stop: bytes | None) -> int:
        """Return how many keys lie in ``start <= key < stop``. Cost: logarithmic."""
        if self.scores.touch() is not None:
            order = self._merged()
            last = len(order) if stop is None else order.bisect_left(stop)
            return max(last - (order.bisect_left(start) if start else 0), 0)
        if not start and stop is None:
            return self.scores.size
        low = self.prefix + start
        high = self.end if stop is None else self.prefix + stop
        return self.store.count(low, high) if low < high else 0

    def ends(self) -> tuple[bytes, bytes]:
        """Return the first and the last key; there is one at least. Cost: logarithmic."""
        if self.scores.touch() is not None:
            order = self._merged()
            return order[0], order[-1]
        return next(self._scan(b"", None, False)), next(self._scan(b"", None, True))

    def between(self, first: int, stop: int, *, reverse: bool = False) -> list[bytes]:
        """Return the keys at positions ``first <= position < stop``; positions count from the end, and keys
        come backwards, if `reverse`. Cost: logarithmic, and O(keys returned)."""
        size = self.scores.size
        first, stop = max(first, 0), min(stop, size)
        if first >= stop:
            return []
        if self.scores.touch() is not None:
            if reverse:
                first, stop = size - stop, size - first
            return list(self._merged().islice(first, stop, reverse))
        check(stop - first)
        if reverse:
            edge = self._at(size - 1 - first) + b"\0" if first else None
            return list(watched(islice(self._scan(b"", edge, True), stop - first)))
        return self._take(self._at(first) if first else b"", None, stop - first)

    def slice(
        self, start: bytes, stop: bytes | None, *, reverse: bool = False, skip: int = 0, limit: int = -1
    ) -> list[bytes]:
        """Return the keys in ``start <= key < stop``, backwards if `reverse`: at most `limit` of them, if it
        is not negative, after the first `skip`. Cost: logarithmic, and O(keys returned)."""
        if limit == 0 or skip >= self.scores.size:
            return []
        if self.scores.touch() is not None:
            order = self._merged()
            if not skip:
                # No positions: half of the time of what follows.
                found = order.irange(start, stop, (True, False), reverse)
                return list(found if limit < 0 else islice(found, limit))
            first = order.bisect_left(start)
            end = len(order) if stop is None else order.bisect_left(stop)
            if reverse:
                end -= skip
                first = first if limit < 0 else max(first, end - limit)
            else:
                first += skip
                end = end if limit < 0 else min(end, first + limit)
            return list(order.islice(first, end, reverse)) if first < end else []
        if skip:
            # A place in the order instead of reading what is skipped.
            position = self.count(b"", stop) - 1 - skip if reverse else self.count(b"", start) + skip
            if not 0 <= position < self.scores.size:
                return []
            edge = self._at(position)
            start, stop = (start, edge + b"\0") if reverse else (edge, stop)
        if reverse:
            return list(watched(islice(self._scan(start, stop, True), limit if limit >= 0 else None)))
        return self._take(start, stop, limit)

    def _at(self, position: int) -> bytes:
        found = self.store.select(self.prefix, self.end, position)
        assert found is not None
        return found[0][len(self.prefix) :]

    def _bounds(self, start: bytes, stop: bytes | None) -> tuple[bytes, bytes]:
        """Return the engine's keys between which to read, without what has been emptied."""
        ceiling = self._ceiling
        if ceiling is not None and (stop is None or stop > ceiling):
            stop = ceiling
        return self.prefix + max(start, self._floor), self.end if stop is None else self.prefix + stop

    def _scan(self, start: bytes, stop: bytes | None, reverse: bool) -> Iterator[bytes]:
        """Yield keys from the engine."""
        low, high = self._bounds(start, stop)
        if low >= high:
            return
        cut = len(self.prefix)
        for key, _ in self.store.scan(low, high, reverse=reverse):
            yield key[cut:]

    def _take(self, start: bytes, stop: bytes | None, limit: int) -> list[bytes]:
        """Return keys from the engine, read in chunks: a third of the time of `_scan`."""
        low, high = self._bounds(start, stop)
        found: list[bytes] = []
        if low >= high:
            return found
        cut = len(self.prefix)
        for keys, _ in self.store.chunks(low, high):
            found += [key[cut:] for key in keys]
            check(len(found))
            if 0 <= limit <= len(found):
                del found[limit:]
                break
        return found

    def check(self) -> None:
        """Assert the invariants. For tests. Cost: a scan."""
        cut = len(self.prefix)
        found = [key[cut:] for key, _ in self.store.scan(self.prefix, self.end)]
        scores = self.scores
        expected = sorted(encode_score(DOUBLE.unpack(raw)[0]) + member for member, raw in scores.items())
        assert found == expected, (found, expected)
        assert not found or found[0] >= self._floor
        assert not found or self._ceiling is None or found[-1] < self._ceiling
        if self._sorted is not None:
            assert scores.held is not None
            assert all((key in self._sorted) is not there for key, there in self._pending.items())
            assert list(self._merged()) == expected

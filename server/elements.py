"""The elements of one collection: an ordered map from element to value, part of the engine's key space.

    engine key = prefix + element          prefix: pdb 'e' id [letter]

Elements are either *held*, all of them in a dict, or read from the engine. Writes go through to the store in
both cases, so holding is a cache; but a held collection knows what exists without looking, and a hot queue,
set or sorted set is served without touching the tree. A new collection is held from its first element on. One
that is met on disk is loaded when that pays: at once if it is small, after so many accesses as loading is
worth if it is of middle size, never if it is large. `Keyspace` lets go of what has outgrown the cache.

Order and random choice are made when they are first asked for:

    _order      SortedList of the elements; `_fresh` are those not yet sorted in
    _drawable   list of the elements, with `_places` saying where each is, so that one can be drawn and
                removed in constant time

Invariant: `size` is the number of live elements, whether held or not; `held`, where it is a dict, has exactly
them. `check` asserts it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

from sortedcontainers import SortedList

from lamina.server.encoding import end_of
from lamina.server.gathering import check, gather, gather_items
from lamina.server.store import Store

LOADED_AT_ONCE = 256
"""Elements of a collection that is loaded when it is first touched: about 0.1 ms."""

LOADED_EVER = 16384
"""Elements above which a collection is never loaded: doing so would take more than some milliseconds."""

LOADED_BYTES_MAX = 4 << 20
"""Bytes of elements and values above which a collection is not loaded, however few they are."""

_ACCESS_WORTH = 32
"""Elements that could be loaded in the time of one access to the engine."""

DELETED_SINGLY = 64
"""Elements up to which dropping a collection removes each: they then vanish early. Larger ranges are
discarded, which costs an entry of the manifest until compaction has met it."""

ELEMENT_OVERHEAD_BYTES = 120
"""Memory of a held element beside its bytes: two object headers and a dict slot (measured)."""

_REBUILD_RATIO = 8


class Elements:
    """An ordered map within one collection."""

    __slots__ = (
        "_accesses",
        "_drawable",
        "_estimate",
        "_estimated_size",
        "_fresh",
        "_order",
        "_places",
        "end",
        "held",
        "prefix",
        "size",
        "store",
    )

    def __init__(self, store: Store, prefix: bytes, size: int) -> None:
        """`size` is 0 for a new collection, which then is held."""
        self.store = store
        self.prefix = prefix
        self.end = end_of(prefix)
        self.size = size
        self.held: dict[bytes, bytes] | None = None if size else {}
        self._order: SortedList[bytes] | None = None
        self._fresh: list[bytes] = []
        self._drawable: list[bytes] | None = None
        self._places: dict[bytes, int] = {}
        self._accesses = 0
        self._estimate = 0
        self._estimated_size = 0

    def __len__(self) -> int:
        return self.size

    # -- holding -----------------------------------------------------------------------------------

    def touch(self) -> dict[bytes, bytes] | None:
        """Note an access and return the held elements, loading them if that pays now; None if not held."""
        if self.held is None:
            self._accesses += 1
            size, accesses = self.size, self._accesses
            # Below zero: it was held or tried before, and was too much.
            if accesses > 0 and (
                size <= LOADED_AT_ONCE or (size <= LOADED_EVER and accesses * _ACCESS_WORTH >= size)
            ):
                self.load()
        return self.held

    def load(self) -> None:
        """Hold the elements, unless they turn out to be too large for that. Cost: a scan."""
        skip = len(self.prefix)
        held: dict[bytes, bytes] = {}
        size_bytes = 0
        for keys, values in self.store.chunks(self.prefix, self.end):
            held.update(zip([key[skip:] for key in keys], values))
            size_bytes += sum(map(len, keys)) + sum(map(len, values))
            if size_bytes > LOADED_BYTES_MAX:
                self._accesses = -LOADED_EVER  # not worth trying again soon
                return
        self.held = held
        self._accesses = 0
        self._estimated_size = len(held)
        self._estimate = size_bytes - skip * len(held)
        self.store.weight += self.held_bytes()

    def let_go(self) -> None:
        """Stop holding: from now on elements are read from the engine."""
        self.held = None
        self._forget_order()
        # It was too much once: wait long, also if the elements are few, for then they are large.
        self._accesses = -(max(self.size, LOADED_EVER) // _ACCESS_WORTH)

    def held_bytes(self) -> int:
        """Return about how much memory the held elements take. Cost: O(1) but when the size has changed
        much."""
        held = self.held
        if held is None:
            return 0
        count = len(held)
        known = self._estimated_size
        if not known * 3 // 4 <= count <= known * 5 // 4 or not known:
            self._estimated_size = count
            self._estimate = sum(map(len, held)) + sum(map(len, held.values()))
        per_element = ELEMENT_OVERHEAD_BYTES * (1 + (self._order is not None) + (self._drawable is not None))
        return self._estimate + count * per_element

    def _forget_order(self) -> None:
        self._order = None
        self._fresh = []
        self._drawable = None
        self._places = {}

    # -- one element -------------------------------------------------------------------------------

    def get(self, element: bytes) -> bytes | None:
        """Return the value of an element, or None."""
        held = self.held
        if held is None and (held := self.touch()) is None:
            return self.store.get(self.prefix + element)
        return held.get(element)

    def get_many(self, elements: Iterable[bytes]) -> list[bytes | None]:
        """Return the values of elements, None for those that are not there."""
        held = self.held
        if held is None and (held := self.touch()) is None:
            get, prefix = self.store.get, self.prefix
            return [get(prefix + element) for element in elements]
        return list(map(held.get, elements))

    def __contains__(self, element: bytes) -> bool:
        return self.get(element) is not None

    def put(self, element: bytes, value: bytes) -> bool:
        """Store `value` under `element`; tells whether the element is new."""
        # The body of Store.put is repeated here and below: a call more would be a tenth of an HSET.
        store = self.store
        key = self.prefix + element
        held = self.held
        if held is None and (held := self.touch()) is None:
            is_new = store.get(key) is None
        else:
            is_new = element not in held
            if len(value) > 1024:
                self._estimate += len(value)
            held[element] = value
            if is_new and (self._order is not None or self._drawable is not None):
                self._note_new(element)
        entries = store.entries
        if key not in entries:
            store.existed[key] = not is_new
        entries[key] = value
        if is_new:
            self.size += 1
        return is_new

    def remove(self, element: bytes) -> bytes | None:
        """Remove an element; returns the value it had, None if it was not there."""
        store = self.store
        key = self.prefix + element
        held = self.held
        if held is None and (held := self.touch()) is None:
            value = store.get(key)
        else:
            value = held.pop(element, None)
            if value is not None and (self._order is not None or self._drawable is not None):
                self._note_gone(element)
        if value is None:
            return None
        entries = store.entries
        if key not in entries:
            store.existed[key] = True
        entries[key] = None
        self.size -= 1
        return value

    def put_known(self, element: bytes, value: bytes, is_new: bool) -> None:
        """Store `value` under `element`. The caller has looked whether it is new."""
        store = self.store
        key = self.prefix + element
        held = self.held
        if held is not None:
            if len(value) > 1024:
                self._estimate += len(value)
            held[element] = value
            if is_new and (self._order is not None or self._drawable is not None):
                self._note_new(element)
        entries = store.entries
        if key not in entries:
            store.existed[key] = not is_new
        entries[key] = value
        if is_new:
            self.size += 1

    def remove_known(self, element: bytes) -> None:
        """Remove an element that the caller knows to be there."""
        store = self.store
        key = self.prefix + element
        held = self.held
        if held is not None:
            del held[element]
            if self._order is not None or self._drawable is not None:
                self._note_gone(element)
        entries = store.entries
        if key not in entries:
            store.existed[key] = True
        entries[key] = None
        self.size -= 1

    def drop(self) -> None:
        """Remove all elements. Cost: O(1) for a large collection. It must not be used afterwards."""
        if self.size <= DELETED_SINGLY:
            delete, prefix = self.store.delete, self.prefix
            for element in self.keys():
                delete(prefix + element, True)
        else:
            self.store.discard(self.prefix, self.end)
        self.size = 0
        self.held = {}
        self._forget_order()

    # -- order and chance --------------------------------------------------------------------------

    def _note_new(self, element: bytes) -> None:
        if self._order is not None:
            self._fresh.append(element)
        if self._drawable is not None:
            self._places[element] = len(self._drawable)
            self._drawable.append(element)

    def _note_gone(self, element: bytes) -> None:
        if self._order is not None:
            # It may be gone already: the order may have just been made anew from what is held.
            self._ordered().discard(element)
        drawable = self._drawable
        if drawable is not None:
            # The last one takes the place of the one that goes.
            place = self._places.pop(element)
            last = drawable.pop()
            if last != element:
                drawable[place] = last
                self._places[last] = place

    def _ordered(self) -> SortedList[bytes]:
        """Return the held elements in order."""
        order, fresh = self._order, self._fresh
        if order is not None and not fresh:
            return order
        assert self.held is not None
        if order is None or len(fresh) * _REBUILD_RATIO > len(order):
            if order is None:
                self.store.weight += len(self.held) * ELEMENT_OVERHEAD_BYTES
            order = self._order = SortedList(self.held)
        else:
            for element in fresh:
                order.add(element)
        fresh.clear()
        return order

    def keys(self) -> list[bytes]:
        """Return all elements, in no order that means anything."""
        held = self.touch()
        if held is not None:
            return list(held)
        check(self.size)
        skip = len(self.prefix)
        chunks = self.store.chunks(self.prefix, self.end)
        return gather([key[skip:] for key in keys] for keys, _ in chunks)

    def values(self) -> list[bytes]:
        """Return the values of all elements, in the order of `keys`."""
        held = self.touch()
        if held is not None:
            return list(held.values())
        check(self.size)
        return gather(values for _, values in self.store.chunks(self.prefix, self.end))

    def items(self) -> list[tuple[bytes, bytes]]:
        """Return all elements with their values, in the order of `keys`."""
        held = self.touch()
        if held is not None:
            return list(held.items())
        check(2 * self.size)
        return gather_items(self.scan(), self.size)

    def scan(
        self, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield elements with ``start <= element < stop`` and their values, in order or backwards.

        Elements must not be added or removed meanwhile: take a list first.
        """
        held = self.touch()
        if held is not None:
            order = self._ordered().irange(start, stop, (True, False), reverse)
            return ((element, held[element]) for element in order)
        skip = len(self.prefix)
        low = self.prefix + start
        high = self.end if stop is None else self.prefix + stop
        if high <= low:
            return iter(())
        return ((key[skip:], value) for key, value in self.store.scan(low, high, reverse=reverse))

    def count(self, start: bytes = b"", stop: bytes | None = None) -> int:
        """Return how many elements lie in ``start <= element < stop``. Cost: logarithmic."""
        if not start and stop is None:
            return self.size
        held = self.touch()
        if held is not None:
            order = self._ordered()
            last: int = len(order) if stop is None else order.bisect_left(stop)
            first: int = order.bisect_left(start)
            return max(last - first, 0)
        low = self.prefix + start
        high = self.end if stop is None else self.prefix + stop
        return self.store.count(low, high) if low < high else 0

    def at(self, position: int) -> tuple[bytes, bytes] | None:
        """Return the element at a position in the order (from 0), with its value. Cost: logarithmic."""
        if not 0 <= position < self.size:
            return None
        held = self.touch()
        if held is not None:
            element = self._ordered()[position]
            return element, held[element]
        if position == 0:
            found = next(self.store.scan(self.prefix, self.end), None)
        elif position == self.size - 1:
            found = next(self.store.scan(self.prefix, self.end, reverse=True), None)
        else:
            found = self.store.select(self.prefix, self.end, position)
        return None if found is None else (found[0][len(self.prefix) :], found[1])

    def between(self, first: int, stop: int, *, reverse: bool = False) -> list[tuple[bytes, bytes]]:
        """Return the elements at positions ``first <= position < stop``; positions count from the end, and
        elements come backwards, if `reverse`. Cost: logarithmic, and O(elements returned)."""
        size = self.size
        first, stop = max(first, 0), min(stop, size)
        if first >= stop:
            return []
        held = self.touch()
        if held is not None:
            order = self._ordered()
            if reverse:
                elements = order.islice(size - stop, size - first, reverse=True)
            else:
                elements = order.islice(first, stop)
            return [(element, held[element]) for element in elements]
        edge = self.at(size - 1 - first if reverse else first)
        if edge is None:
            return []
        if reverse:
            found = self.scan(b"", edge[0] + b"\0", reverse=True)
        else:
            found = self.scan(edge[0])
        check(2 * (stop - first))
        return gather_items(found, stop - first)

    def draw(self) -> tuple[bytes, bytes] | None:
        """Return one element, each as likely as the other, with its value; None if there is none.

        Cost: constant if held, else as `at`.
        """
        if not self.size:
            return None
        held = self.touch()
        if held is None:
            return self.at(random.randrange(self.size))
        element = random.choice(self._drawables())
        return element, held[element]

    def draw_many(self, count: int, *, distinct: bool) -> list[tuple[bytes, bytes]]:
        """Return `count` elements drawn at random, with their values; all there are if fewer and `distinct`.

        Cost: O(count) if held; else `count` times that of `at`, or one scan if that is cheaper.
        """
        size = self.size
        if not size:
            return []
        if distinct and count >= size:
            return self.items()
        check(count)  # one may be drawn any number of times, however small the collection is
        held = self.touch()
        positions = random.sample(range(size), count) if distinct else random.choices(range(size), k=count)
        if held is not None:
            drawable = self._drawables()
            return [(drawable[i], held[drawable[i]]) for i in positions]
        if count * 1000 < size:
            found = [self.at(position) for position in positions]
            return [item for item in found if item is not None]
        wanted = set(positions)
        kept = {i: item for i, item in enumerate(self.scan()) if i in wanted}
        return [kept[position] for position in positions]

    def _drawables(self) -> list[bytes]:
        drawable = self._drawable
        if drawable is None:
            assert self.held is not None
            self.store.weight += len(self.held) * ELEMENT_OVERHEAD_BYTES
            drawable = self._drawable = list(self.held)
            self._places = dict(zip(drawable, range(len(drawable))))
        return drawable

    def check(self) -> None:
        """Assert the invariants. For tests. Cost: a scan."""
        skip = len(self.prefix)
        found = {key[skip:]: value for key, value in self.store.scan(self.prefix, self.end)}
        assert len(found) == self.size, (len(found), self.size)
        if self.held is not None:
            assert self.held == found
            if self._order is not None:
                assert list(self._ordered()) == sorted(found)
            if self._drawable is not None:
                assert sorted(self._drawable) == sorted(found)
                assert all(self._drawable[place] == element for element, place in self._places.items())

"""The elements of one list: values in a row, part of the engine's key space.

    engine key = prefix + element key -> value          prefix: pdb 'e' id; element keys: listkeys.py

A list is *dense* while its elements lie at consecutive positions, without suffixes: then `head` and the
rank give the key of every element, and nothing has to be searched. It becomes sparse when an element is
squeezed in or taken out in the middle of many (listediting.py); then ranks are found by the engine's counts.

Like other elements, those of a list are either *held*, all of them in memory, or read from the engine, by the
rules of elements.py; writes go through to the store in both cases. What is held is a plain Python list with
some room at its front, so that both ends are cheap and ranks and ranges are C's business:

    values   [ b"" ... b"" | first ... last ]       `start` is where the first one is
    keys     the element keys of a sparse list, at the same places; None if the list is dense

Popping from a dense list reads exactly the key it needs, so a queue never walks over what has been popped.

Invariants: all positions lie in ``head <= position < tail``; of a dense list exactly these are there. `size`
is the number of elements, whether held or not. `check` asserts it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import lamina.server.elements as rules
from lamina.engine import CorruptionError
from lamina.server.encoding import U64, end_of
from lamina.server.gathering import check, gather
from lamina.server.store import Store
from lamina.server.types.listkeys import MIDDLE, POSITION_SIZE, SUFFIX_SIZE_MAX, position_of

LOADED_BYTES_MAX = 1 << 20
"""Bytes of values above which loading is given up: elements are counted before, but may be large."""

VALUE_OVERHEAD_BYTES = 56
"""Memory of a held value beside its bytes: an object header and a place in the list (measured)."""

KEY_OVERHEAD_BYTES = 72
"""Memory of a held element key (measured)."""

LARGE_VALUE_SIZE = 1024
"""Values of which the estimate of held memory takes note at once."""

_ACCESS_WORTH = 32
"""Elements that could be loaded in the time of one access to the engine."""

_SLACK_MIN = 16

_LOOKED_UP_MAX = 128
"""Elements at an end of a list on disk that are looked up one by one. For more, a range is read."""

_pack = U64.pack


class ListElements:
    """The values of a list, in their order."""

    __slots__ = (
        "_accesses",
        "_estimate",
        "_estimated_size",
        "head",
        "is_dense",
        "keys",
        "last_squeezed",
        "prefix",
        "size",
        "start",
        "store",
        "tail",
        "values",
    )

    def __init__(self, store: Store, prefix: bytes, size: int) -> None:
        """`size` is 0 for a new list, which then is held."""
        self.store = store
        self.prefix = prefix
        self.size = size
        self.head = MIDDLE
        self.tail = MIDDLE + size
        self.is_dense = True
        self.values: list[bytes] | None = None if size else []
        self.keys: list[bytes] | None = None
        self.start = 0
        self.last_squeezed = b""
        """The key that was squeezed in last: `listkeys.between` guesses by it where the next will go."""
        self._accesses = 0
        self._estimate = 0
        self._estimated_size = 0

    def __len__(self) -> int:
        return self.size

    # -- holding -----------------------------------------------------------------------------------

    def touch(self, count: int | None = None) -> list[bytes] | None:
        """Note that `count` elements, None for all, are about to be read, and return the values, loading them
        if that pays now; None if they are not held."""
        if self.values is None:
            size = self.size
            if count is None:
                is_worth_it = size <= rules.LOADED_AT_ONCE and self._accesses >= 0
                count = size >> 2
            else:
                is_worth_it = False
            self._accesses += _ACCESS_WORTH + count
            if is_worth_it or (size <= rules.LOADED_EVER and self._accesses >= size):
                self.load()
        return self.values

    def load(self) -> None:
        """Hold the elements, unless they are too large. Cost: a scan."""
        skip = len(self.prefix)
        values: list[bytes] = []
        keys: list[bytes] = []
        weight = 0
        self._accesses = 0
        for some_keys, some_values in self.store.chunks(self._low(), self._high()):
            weight += sum(map(len, some_values))
            if weight > LOADED_BYTES_MAX:
                self._accesses = -rules.LOADED_EVER
                return
            values += some_values
            if not self.is_dense:
                keys += [key[skip:] for key in some_keys]
        if len(values) != self.size:
            raise self._corruption(f"a list of {self.size} elements has {len(values)}")
        self.values = values
        self.keys = None if self.is_dense else keys
        self.start = 0
        self._estimated_size = 0
        self.store.weight += self.held_bytes()

    def let_go(self) -> None:
        """Stop holding: from now on elements are read from the engine."""
        self.values = self.keys = None
        self.start = 0
        # It was too much once: wait longer, also if the elements are few, for then they are large.
        self._accesses = -max(2 * self.size, rules.LOADED_EVER)

    def held_bytes(self) -> int:
        """Return about how much memory the held elements take. Cost: O(1) but when the size has changed
        much."""
        values = self.values
        if values is None:
            return 0
        count = self.size
        known = self._estimated_size
        if not known * 3 // 4 <= count <= known * 5 // 4 or not known:
            self._estimated_size = count
            self._estimate = sum(map(len, values))
        per_element = VALUE_OVERHEAD_BYTES + (0 if self.keys is None else KEY_OVERHEAD_BYTES)
        return max(self._estimate, 0) + count * per_element

    def _low(self) -> bytes:
        return self.prefix + _pack(self.head)

    def _high(self) -> bytes:
        return self.prefix + _pack(self.tail)

    def _corruption(self, what: str) -> CorruptionError:
        return CorruptionError(self.store.db.path, 0, f"{what} (elements {self.prefix.hex()})")

    # -- the ends ----------------------------------------------------------------------------------

    # Each of these four is one flat body: it is most of what LPUSH, RPUSH, LPOP and RPOP do, and the calls
    # saved (Store.put, Store.delete, a common part) are a third of it.

    def push_left(self, value: bytes) -> None:
        """Put a value before all others. Cost: amortized O(1), nothing is read."""
        position = self.head = self.head - 1
        element = _pack(position)
        values = self.values
        if values is not None:
            start = self.start or self._make_room(values)
            self.start = start = start - 1
            values[start] = value
            if self.keys is not None:
                self.keys[start] = element
            if len(value) > LARGE_VALUE_SIZE:
                self._estimate += len(value)
        self.size += 1
        store = self.store
        entries = store.entries
        key = self.prefix + element
        if key not in entries:
            store.existed[key] = False
        entries[key] = value

    def push_right(self, value: bytes) -> None:
        """Put a value behind all others. Cost: amortized O(1), nothing is read."""
        position = self.tail
        self.tail = position + 1
        element = _pack(position)
        values = self.values
        if values is not None:
            values.append(value)
            if self.keys is not None:
                self.keys.append(element)
            if len(value) > LARGE_VALUE_SIZE:
                self._estimate += len(value)
        self.size += 1
        store = self.store
        entries = store.entries
        key = self.prefix + element
        if key not in entries:
            store.existed[key] = False
        entries[key] = value

    def pop_left(self) -> bytes:
        """Take the first value; there must be one. Cost: amortized O(1), a lookup if not held."""
        values = self.values
        if values is None and (values := self.touch(1)) is None:
            return self._pop_from_engine(1, reverse=False)[0]
        start = self.start
        value = values[start]
        values[start] = b""
        keys = self.keys
        position = self.head
        if keys is None:
            element = _pack(position)
            self.head = position + 1
        else:
            element = keys[start]
            keys[start] = b""
            self.head = position_of(element)
        self.start = start = start + 1
        if start > _SLACK_MIN and start * 2 > len(values):
            self._trim_slack(values)
        if len(value) > LARGE_VALUE_SIZE:
            self._estimate -= len(value)
        self.size -= 1
        store = self.store
        entries = store.entries
        key = self.prefix + element
        if key not in entries:
            store.existed[key] = True
        entries[key] = None
        return value

    def pop_right(self) -> bytes:
        """Take the last value; there must be one. Cost: amortized O(1), a lookup if not held."""
        values = self.values
        if values is None and (values := self.touch(1)) is None:
            return self._pop_from_engine(1, reverse=True)[0]
        value = values.pop()
        keys = self.keys
        if keys is None:
            position = self.tail = self.tail - 1
            element = _pack(position)
        else:
            element = keys.pop()
            self.tail = position_of(element) + (len(element) > POSITION_SIZE)
        if len(value) > LARGE_VALUE_SIZE:
            self._estimate -= len(value)
        self.size -= 1
        store = self.store
        entries = store.entries
        key = self.prefix + element
        if key not in entries:
            store.existed[key] = True
        entries[key] = None
        return value

    def pop_many(self, count: int, *, left: bool) -> list[bytes]:
        """Take up to `count` values from one end, the outermost first. Cost: O(count)."""
        count = min(count, self.size)
        if count and self.values is None and self.touch(count) is None:
            return self._pop_from_engine(count, reverse=not left)
        pop = self.pop_left if left else self.pop_right
        return [pop() for _ in range(count)]

    def _make_room(self, values: list[bytes]) -> int:
        """Make room at the front for as many again; returns the new start. Cost: O(n), after n pushes."""
        room = max(len(values), _SLACK_MIN)
        values[:0] = [b""] * room
        if self.keys is not None:
            self.keys[:0] = [b""] * room
        return room

    def _trim_slack(self, values: list[bytes]) -> None:
        """Give back the room at the front. Cost: O(n), after n pops."""
        del values[: self.start]
        if self.keys is not None:
            del self.keys[: self.start]
        self.start = 0

    def _pop_from_engine(self, count: int, *, reverse: bool) -> list[bytes]:
        store = self.store
        if count <= _LOOKED_UP_MAX and self.is_dense:
            # Where they are is known: no range has to be put in order for it.
            first = self.tail - 1 if reverse else self.head
            places = range(first, first - count, -1) if reverse else range(first, first + count)
            keys = [self.prefix + _pack(place) for place in places]
            found_values = store.get_many(keys)
            if None in found_values:
                raise self._corruption("an element at the end of a list is missing")
            values: list[bytes] = found_values  # type: ignore[assignment]
        else:
            found = list(islice(store.scan(self._low(), self._high(), reverse=reverse), count))
            if len(found) < count:
                raise self._corruption(f"a list of {self.size} elements has {len(found)}")
            keys = [key for key, _ in found]
            values = [value for _, value in found]
        store.delete_known(keys)
        self.size -= count
        self.narrow(keys[-1][len(self.prefix) :], reverse=reverse)
        return values

    def narrow(self, element: bytes, *, reverse: bool) -> None:
        """Let the positions begin after `element`, which has been removed with all before it; if `reverse`,
        end before it."""
        if reverse:
            self.tail = position_of(element) + (len(element) > POSITION_SIZE)
        else:
            self.head = position_of(element) + self.is_dense

    # -- by rank -----------------------------------------------------------------------------------

    def get(self, rank: int) -> bytes:
        """Return the value at a rank, which must be there. Cost: O(1) if held, else logarithmic."""
        values = self.values
        if values is None and (values := self.touch(1)) is None:
            if self.is_dense:
                value = self.store.get(self.prefix + _pack(self.head + rank))
                if value is None:
                    raise self._corruption(f"element {rank} of a list of {self.size} is missing")
                return value
            return self._select(rank)[1]
        return values[self.start + rank]

    def set(self, rank: int, value: bytes) -> None:
        """Replace the value at a rank, which must be there. Cost: as `get`; a dense list is not read."""
        if self.values is None and not self.is_dense:
            self.touch(1)
        values = self.values
        if values is not None:
            at = self.start + rank
            self._estimate += len(value) - len(values[at])
            values[at] = value
        self.store.put(self.prefix + self.element_at(rank), value, True)

    def element_at(self, rank: int) -> bytes:
        """Return the element key at a rank, which must be there."""
        if self.is_dense:
            return _pack(self.head + rank)
        if self.keys is not None:
            return self.keys[self.start + rank]
        return self._select(rank)[0][len(self.prefix) :]

    def _select(self, rank: int) -> tuple[bytes, bytes]:
        low, high = self._low(), self._high()
        if rank == 0 or rank == self.size - 1:
            found = next(self.store.scan(low, high, reverse=rank > 0), None)
        else:
            found = self.store.select(low, high, rank)
        if found is None:
            raise self._corruption(f"element {rank} of a list of {self.size} is missing")
        return found

    def between(self, first: int, stop: int) -> list[bytes]:
        """Return the values at ranks ``0 <= first <= rank < stop <= size``. Cost: as `get`, and O(values)."""
        values = self.values
        if values is None and (values := self.touch(stop - first)) is None:
            if first >= stop:
                return []
            high = self._high()
            if self.is_dense:
                low = self.prefix + _pack(self.head + first)
                high = self.prefix + _pack(self.head + stop)
            else:
                low = self._select(first)[0]
            check(stop - first)
            found = gather(values for _, values in self.store.chunks(low, high))
            del found[stop - first :]
            return found
        start = self.start
        return values[start + first : start + stop]

    def chunks(self, *, reverse: bool = False) -> Iterator[list[bytes]]:
        """Yield all values, some at a time, in order or backwards. They must not change meanwhile."""
        values = self.touch()
        if values is None:
            for _, some in self.store.chunks(self._low(), self._high(), reverse=reverse):
                yield some
        else:
            values = values[self.start :]
            if reverse:
                values.reverse()
            yield values

    def rows(self, *, reverse: bool = False) -> Iterator[tuple[list[bytes], list[bytes]]]:
        """Return an iterator over whole engine keys and values, some at a time.

        Who searches needs few of the keys: to cut the prefix off all of them takes as long as the rest.
        """
        return self.store.chunks(self._low(), self._high(), reverse=reverse)

    # -- all ---------------------------------------------------------------------------------------

    def drop(self) -> None:
        """Remove all elements. Cost: O(1) for a large list. It must not be used afterwards."""
        if not self.size:
            return
        if self.size > rules.DELETED_SINGLY:
            self.store.discard(self.prefix, end_of(self.prefix))
        else:
            delete, prefix, skip = self.store.delete, self.prefix, len(self.prefix)
            if self.is_dense:
                elements = list(map(_pack, range(self.head, self.tail)))
            elif self.keys is not None:
                elements = self.keys[self.start :]
            else:
                elements = [key[skip:] for some, _ in self.rows() for key in some]
            for element in elements:
                delete(prefix + element, True)
        self.size = 0
        self.values = []
        self.keys = None
        self.start = 0

    def check(self) -> None:
        """Assert the invariants. For tests. Cost: a scan."""
        skip = len(self.prefix)
        found = list(self.store.scan(self.prefix, end_of(self.prefix)))
        elements = [key[skip:] for key, _ in found]
        assert len(found) == self.size, (len(found), self.size)
        assert all(self.head <= position_of(element) < self.tail for element in elements)
        assert all(element[-1] for element in elements if len(element) > POSITION_SIZE)
        assert all(len(element) <= POSITION_SIZE + SUFFIX_SIZE_MAX for element in elements)
        if self.is_dense:
            assert elements == list(map(_pack, range(self.head, self.tail)))
        if self.values is not None:
            assert self.values[self.start :] == [value for _, value in found]
            assert not any(self.values[: self.start])
            assert self.is_dense == (self.keys is None)
            if self.keys is not None:
                assert len(self.keys) == len(self.values)
                assert self.keys[self.start :] == elements

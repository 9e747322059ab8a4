"""A pile of keys, with repetitions, that is sorted no further than somebody looks.

For the memtable: it notes keys as they are written, must not pay for order unless ranges are read, and then
not for all of it at once. Keys lie in parts, and the parts in order:

    floors    b""        c          f          p         part i holds keys of floors[i] <= key < floors[i + 1]
    parts     [a b b]    [e c d]    []         [t p s]
    sorted    yes        no         yes        no

A look sorts as much as it needs, by an incremental quicksort: a part that is small is sorted; a large one is
split where the look begins or ends, which takes one or two passes over it. So a first look into n keys costs
40 ns for each and not the 250 of sorting, what it leaves behind helps every later one, and looks everywhere
cost together about what sorting would have. Repeated looks at one place cost nothing: it is a floor.

Keys that come later wait in `new`. The next look deals them out to the parts; after the first look writers do
so themselves (`deal`) whenever `NEW_MAX` are waiting, so that no look has many of them to deal out.

Invariants (`check`): floors ascend, each part keeps within its floors, what is said to be sorted is.
Not thread-safe.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from itertools import pairwise

NEW_MAX = 8192
"""Dealing out so many takes 2 ms."""

_SMALL = 4096
"""A part of so many keys is sorted, in 0.6 ms, rather than split."""
_INSERTED_ONE_BY_ONE = 8
_SAMPLES = 64
_PASSES_IN_VAIN = 3


class KeyPile:
    """A multiset of keys. Whoever adds some appends to `new`; whoever empties it uses `clear`."""

    __slots__ = ("_floors", "_is_sorted", "_parts", "_size", "_vain_passes", "new")

    def __init__(self) -> None:
        self.new: list[bytes] = []
        """Keys that have not been dealt out. Always the same list."""
        self.clear()

    def __len__(self) -> int:
        return self._size + len(self.new)

    def clear(self) -> None:
        """Remove all keys."""
        self.new.clear()
        self._size = 0
        self._floors = [b""]
        self._parts: list[list[bytes]] = [[]]
        self._is_sorted = [True]
        self._vain_passes = 0

    # -- looking -----------------------------------------------------------------------------------

    def count(self, start: bytes, stop: bytes | None) -> int:
        """Return how many keys there are with ``start <= key < stop``, repetitions included."""
        return self._rank(stop) - self._rank(start)

    def first(self, start: bytes, stop: bytes | None, size: int) -> list[bytes]:
        """Return the first `size` keys with ``start <= key < stop``, in order; fewer if there are no more."""
        i, at = self._find(start)
        found: list[bytes] = []
        floors, parts = self._floors, self._parts
        while len(found) < size and i < len(parts) and (stop is None or floors[i] < stop):
            self._open(i, from_end=False)
            part = parts[i]
            end = len(part) if stop is None else bisect_left(part, stop, at)
            found += part[at : min(end, at + size - len(found))]
            i += 1
            at = 0
        return found

    def last(self, start: bytes, stop: bytes | None, size: int) -> list[bytes]:
        """Return the last `size` keys with ``start <= key < stop``, in order; fewer if there are no more."""
        parts = self._parts
        if stop is None:
            self.deal()
            i, end = len(parts) - 1, -1
        else:
            i, end = self._find(stop)
            if not end:  # at the beginning of a part, which may be unsorted: the one before it is asked for
                i, end = i - 1, -1
        found: list[bytes] = []
        while len(found) < size and i >= 0:
            if end < 0:
                i = self._open(i, from_end=True)
                end = len(parts[i])
            part = parts[i]
            begin = max(bisect_left(part, start, 0, end), end - (size - len(found)))
            found[:0] = part[begin:end]
            if self._floors[i] <= start:
                break
            i, end = i - 1, -1
        return found

    def middle(self, start: bytes, stop: bytes | None, share: float) -> bytes | None:
        """Return a key with ``start < key < stop`` and about that share of those before it, or None.

        Cheap: where nothing is sorted, it is guessed from a sample.
        """
        low, high = self._rank(start), self._rank(stop)
        if low >= high:
            return None
        position = min(max(low + int((high - low) * share), low), high - 1)
        i = 0
        while position >= len(self._parts[i]):
            position -= len(self._parts[i])
            i += 1
        key = self._guess(i, position)
        if key > start:
            return key
        return next(iter(self.first(start + b"\0", stop, 1)), None)

    def remove_between(self, start: bytes, stop: bytes) -> None:
        """Remove all keys with ``start <= key < stop``."""
        i, at = self._find(start)
        k, end = self._find(stop)
        parts = self._parts
        if i == k:
            del parts[i][at:end]
            self._size -= end - at
            return
        self._size -= len(parts[i]) - at + end + sum(map(len, parts[i + 1 : k]))
        del parts[i][at:]
        del parts[k][:end]
        for part in parts[i + 1 : k]:
            part.clear()

    # -- parts -------------------------------------------------------------------------------------

    def deal(self) -> None:
        """Deal out new keys to the parts they belong to. Cost: 0.2 µs for each; next to nothing while there
        is one unsorted part."""
        new = self.new
        if not new:
            return
        self._size += len(new)
        floors, parts, is_sorted = self._floors, self._parts, self._is_sorted
        if len(parts) == 1 and not (is_sorted[0] and parts[0] and len(new) <= _INSERTED_ONE_BY_ONE):
            parts[0] += new
            is_sorted[0] = False
            new.clear()
            return
        new.sort()
        at = 0
        while at < len(new):
            i = bisect_right(floors, new[at]) - 1
            end = len(new) if i + 1 == len(floors) else bisect_left(new, floors[i + 1], at)
            part = parts[i]
            if is_sorted[i] and end - at <= _INSERTED_ONE_BY_ONE:
                for key in new[at:end]:
                    insort(part, key)
                if len(part) > 2 * _SMALL:
                    self._halve(i)
            else:
                part += new[at:end]
                is_sorted[i] = False
            at = end
        new.clear()

    def _rank(self, bound: bytes | None) -> int:
        """Return how many keys are smaller than `bound`."""
        if bound is None:
            return len(self)
        i, at = self._find(bound)
        return sum(map(len, self._parts[:i])) + at

    def _find(self, bound: bytes) -> tuple[int, int]:
        """Return the place of the first key that is not smaller: a part and an index, which is 0 if the part
        is not sorted."""
        self.deal()
        floors, parts = self._floors, self._parts
        i = bisect_right(floors, bound) - 1
        if floors[i] == bound:
            return i, 0
        part = parts[i]
        if not self._is_sorted[i]:
            if len(part) > _SMALL:
                self._split_for_look(i, bound)
                return bisect_left(floors, bound), 0
            self._sort(i)
        return i, bisect_left(part, bound)

    def _split_for_look(self, i: int, bound: bytes) -> None:
        """Split a large part where a look begins or ends.

        Looks that advance, as those of a scan do, would each pass over nearly all of it and cut off next to
        nothing. So some of them halve what is left.
        """
        self._split(i, bound)
        below, above = len(self._parts[i]), len(self._parts[i + 1])
        if min(below, above) * 8 < below + above:
            self._vain_passes += 1
            if self._vain_passes == _PASSES_IN_VAIN:
                self._vain_passes = 0
                self._split_at_share(i if below > above else i + 1, 0.5)

    def _split(self, i: int, bound: bytes) -> None:
        """Make two parts of one, the second from `bound` on. Cost: 20 ns per key, 40 if both get some."""
        part = self._parts[i]
        below = [key for key in part if key < bound]
        if not below:
            above = part
        elif len(below) == len(part):
            above = []
        else:
            above = [key for key in part if key >= bound]
        self._floors.insert(i + 1, bound)
        self._parts[i : i + 1] = [below, above]
        self._is_sorted[i : i + 1] = [len(below) < 2, len(above) < 2]

    def _split_at_share(self, i: int, share: float) -> None:
        """Split a large part where about that share of it lies below, or sort it if its keys are too much
        alike. The upper one of the two is never empty, and begins further up than the part did."""
        bound = self._guess(i, int(len(self._parts[i]) * share))
        if bound == self._floors[i]:
            self._sort(i)
        else:
            self._split(i, bound)

    def _halve(self, i: int) -> None:
        """Split a sorted part that has grown: keys are inserted more cheaply into short lists."""
        part = self._parts[i]
        at = bisect_left(part, part[len(part) // 2])
        if at:
            self._floors.insert(i + 1, part[at])
            self._parts[i : i + 1] = [part[:at], part[at:]]
            self._is_sorted.insert(i + 1, True)

    def _guess(self, i: int, position: int) -> bytes:
        """Return about the key that would be at a position if the part were sorted."""
        part = self._parts[i]
        if not self._is_sorted[i]:
            if len(part) > _SMALL:
                sample = sorted(part[:: len(part) // _SAMPLES])
                return sample[position * len(sample) // len(part)]
            self._sort(i)
        return part[position]

    def _open(self, i: int, *, from_end: bool) -> int:
        """Have a part sorted that holds the first keys of part `i`, or the last; returns its number."""
        while not self._is_sorted[i]:
            if len(self._parts[i]) <= _SMALL:
                self._sort(i)
                break
            count = len(self._parts)
            self._split_at_share(i, 0.75 if from_end else 0.25)
            if from_end and len(self._parts) > count:
                i += 1
        return i

    def _sort(self, i: int) -> None:
        self._parts[i].sort()
        self._is_sorted[i] = True

    # -- for tests and tools -----------------------------------------------------------------------

    def keys(self) -> list[bytes]:
        """Return all keys, in no order."""
        return [key for part in (*self._parts, self.new) for key in part]

    def check(self) -> None:
        """Assert the invariants."""
        floors, parts = self._floors, self._parts
        assert floors[0] == b""
        assert all(one < other for one, other in pairwise(floors))
        assert len(floors) == len(parts) == len(self._is_sorted)
        assert self._size == sum(map(len, parts))
        for i, part in enumerate(parts):
            if part:
                assert floors[i] <= min(part)
                assert i + 1 == len(floors) or max(part) < floors[i + 1]
            assert not self._is_sorted[i] or part == sorted(part)

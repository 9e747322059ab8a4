"""The block cache: decoded blocks and index parts, bounded in bytes.

A cached object sits in a slot of its container (an index part in its segment's list, a block in its part's
list), so a hit is one list access and one attribute store, without a lock and without a hash table. Eviction
is CLOCK, the approximation of LRU that needs no bookkeeping on a hit: `used` is counted up by readers; the
hand clears it once before it evicts.

Threads: hits need no lock (the interpreter makes each list access atomic; a reader keeps its own reference,
so an object evicted under it stays whole). Insertion and eviction hold the cache's lock.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any


class Cached:
    """Base of what the cache holds: knows its slot and its size."""

    __slots__ = ("chances", "container", "size_bytes", "slot", "used")

    weight = 1
    """How often the hand passes by after a use."""

    def __init__(self) -> None:
        self.container: list[Any] | None = None
        self.slot = 0
        self.size_bytes = 0
        self.used = 0
        """Uses since the hand last came by; readers count here, without a lock."""
        self.chances = 0
        """How many more times the hand passes this by."""

    def children(self) -> list[Any]:
        """Return the list of slots that become unreachable with this object."""
        return []


class Cache:
    """A CLOCK cache over `Cached` objects. `limit_bytes` may be changed at any time."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.size_bytes = 0
        self.rows_bytes = 0
        """What rows.py takes of the limit."""
        self._rows: dict[bytes, bytes] = {}
        self._rows_used: Callable[[], int] = int
        self.misses = 0
        self.evictions = 0
        self._hits = 0
        self._ring: deque[Cached] = deque()
        self._dropped = 0
        """How many entries of the ring have been dropped."""
        self._lock = threading.Lock()

    @property
    def hits(self) -> int:
        """Uses of cached objects and rows so far; approximate under threads. Cost: O(objects)."""
        with self._lock:
            return self._hits + self._rows_used() + sum(entry.used for entry in self._ring)

    def insert(self, container: list[Any], slot: int, entry: Cached, size_bytes: int) -> None:
        """Put `entry` into ``container[slot]`` and evict what is too much.

        An entry larger than an eighth of the cache is not kept: it would push out everything else.
        """
        self.misses += 1
        if size_bytes > self.limit_bytes >> 3:
            return
        with self._lock:
            if container[slot] is not None:
                return  # another thread was faster
            entry.container = container
            entry.slot = slot
            entry.size_bytes = size_bytes
            entry.chances = entry.weight - 1
            container[slot] = entry
            self._ring.append(entry)
            self.size_bytes += size_bytes
            self._evict()

    def grow(self, entry: Cached, more_bytes: int) -> None:
        """Account for `entry` having decoded more of itself."""
        with self._lock:
            if entry.container is not None:
                entry.size_bytes += more_bytes
                self.size_bytes += more_bytes
                self._evict()

    def hold_rows(self, rows: dict[bytes, bytes], used: Callable[[], int]) -> None:
        """Let these be the rows, in the place of those before, that give way when blocks need room.

        `used` tells how often they have been used.
        """
        with self._lock:
            self._hits += self._rows_used()
            self._rows_used = used
            self._rows = rows
            self.rows_bytes = 0

    def trim(self) -> None:
        """Evict down to `limit_bytes`, after that was lowered."""
        with self._lock:
            self._evict()

    def forget(self, container: list[Any]) -> None:
        """Drop all that lies in the slots of `container`."""
        with self._lock:
            self._drop_all(container)
            self._purge()

    def check(self) -> None:
        """Assert the invariants: what the ring holds is what was counted. For tests."""
        with self._lock:
            held = [entry for entry in self._ring if entry.container is not None]
            assert len(self._ring) - len(held) == self._dropped
            total = sum(entry.size_bytes for entry in held)
            assert total == self.size_bytes, (total, self.size_bytes)
            for entry in held:
                assert entry.container is not None and entry.container[entry.slot] is entry
            assert self.size_bytes <= self.limit_bytes or not held

    def _evict(self) -> None:
        ring = self._ring
        if self.rows_bytes and self.size_bytes + self.rows_bytes > self.limit_bytes:
            self._rows.clear()
            self.rows_bytes = 0
        while self.size_bytes > self.limit_bytes and ring:
            entry = ring.popleft()
            if entry.container is None:
                self._dropped -= 1
                continue
            if entry.used:
                self._hits += entry.used
                entry.used = 0
                entry.chances = entry.weight
            if entry.chances:
                entry.chances -= 1
                ring.append(entry)
            else:
                self._drop(entry)
                self._dropped -= 1  # it is out of the ring already
                self.evictions += 1

    def _purge(self) -> None:
        """Take dropped entries out of the ring before they are the greater part of it.

        The hand would take them out as it comes by, but it only moves when the cache is full: what
        compactions replace would be held until then, and counted nowhere.
        """
        if self._dropped * 2 > len(self._ring):
            self._ring = deque(entry for entry in self._ring if entry.container is not None)
            self._dropped = 0

    def _drop(self, entry: Cached) -> None:
        if entry.container is not None:
            self._hits += entry.used
            entry.used = 0
            entry.container[entry.slot] = None
            entry.container = None
            self._dropped += 1  # it stays in the ring for now
            self.size_bytes -= entry.size_bytes
            self._drop_all(entry.children())

    def _drop_all(self, container: list[Any]) -> None:
        for entry in container:
            if entry is not None:
                self._drop(entry)

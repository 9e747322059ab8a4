"""Rows: values that lookups have found in the runs, kept by key while memory is to spare.

A hot key's lookup then is one dict access instead of three binary searches, a filter and a slice (0.1 µs
against 1.5). What the runs answer changes only when a memtable is flushed, so rows need no invalidation: they
belong to the views between two flushes and go with them. Newer layers are asked first, as always.

Rows take only what the cache has left over, and all go at once when blocks need the room: a row serves one
key, a block some tens, and rows that pushed out blocks made lookups over more data than fits three times
slower.

Threads need no lock: every step is one dict access, and losing a race costs a lookup.
"""

from __future__ import annotations

from lamina.engine.cache import Cache

ROW_OVERHEAD_BYTES = 180
"""Memory of a row beside key and value: two object headers, a dict slot and allocator rounding."""

_VALUE_SIZE_MAX = 4096


class Rows:
    """Found values by key, counted against `cache`."""

    __slots__ = ("_cache", "used", "values")

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self.values: dict[bytes, bytes] = {}
        self.used = 0
        """How often a lookup has ended here; readers count it up."""
        cache.hold_rows(self.values, lambda: self.used)

    def add(self, key: bytes, value: bytes) -> None:
        """Keep what a lookup has found, if there is room."""
        cache = self._cache
        size_bytes = len(key) + len(value) + ROW_OVERHEAD_BYTES
        if (
            len(value) <= _VALUE_SIZE_MAX
            and cache.size_bytes + cache.rows_bytes + size_bytes <= cache.limit_bytes
        ):
            cache.rows_bytes += size_bytes
            self.values[key] = value

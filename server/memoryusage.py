"""MEMORY: what a key takes, and what the process takes.

A key takes space in two places: on disk, as entries of the engine, and in memory while its record, and
perhaps its elements, are cached. MEMORY USAGE adds both, before compression. The entries of a collection are
counted exactly, in logarithmic time, and their sizes are estimated from a few that lie evenly spread.

Python cannot tell what was allocated; so the process's memory is what the system says it is, and what is used
is what it was when the server started plus what caches, memtables and clients hold by their own account.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import sys
from collections.abc import Iterator, Sequence, Sized
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

from lamina.engine.memtable import ENTRY_OVERHEAD_BYTES
from lamina.server.encoding import U64, end_of
from lamina.server.keyspace import Keyspace, Value
from lamina.server.records import BigString, Collection, Record
from lamina.server.store import HOT_OVERHEAD_BYTES

if TYPE_CHECKING:
    from lamina.server.databases import Databases
    from lamina.server.server import Server

SAMPLES: Final = 5
"""Entries that are looked at by default."""

STORED_ENTRY_BYTES: Final = 6
"""What a segment adds to each entry's key and value: kind, and where both end."""

_INDEX_KEY_BYTES: Final = 13
"""What the expiry index has beside the user's key: database, area, time."""


def key_usage(keyspace: Keyspace, key: bytes, value: Value, samples: int) -> int:
    """Return about how many bytes a key takes, on disk and cached. `samples` 0: look at all entries.

    Cost: O(samples x log n), and O(n) for 0.
    """
    stored_bytes = stored_size(keyspace, key, value, samples)
    if isinstance(value, bytes):
        return stored_bytes + len(key) + len(value) + HOT_OVERHEAD_BYTES
    return stored_bytes + len(key) + value.held_bytes()


def stored_size(keyspace: Keyspace, key: bytes, value: Value, samples: int = SAMPLES) -> int:
    """Return about how many bytes a key takes on disk, before compression."""
    record_key_bytes = len(keyspace.record_prefix) + len(key)
    if isinstance(value, bytes):
        return record_key_bytes + 1 + len(value) + STORED_ENTRY_BYTES
    size = record_key_bytes + len(value.encode()) + STORED_ENTRY_BYTES
    for due_ms in (value.expires_ms, value.fields_due_ms):
        if due_ms:
            size += _INDEX_KEY_BYTES + len(key) + STORED_ENTRY_BYTES
    prefix = element_prefix(keyspace, value)
    return size if prefix is None else size + _entries_size(keyspace, prefix, samples)


def element_prefix(keyspace: Keyspace, value: Record) -> bytes | None:
    """Return what the engine keys of a record's elements begin with; None for a record that has none."""
    if isinstance(value, Collection | BigString):
        return keyspace.element_prefix + U64.pack(value.id)
    return None


def _entries_size(keyspace: Keyspace, prefix: bytes, samples: int) -> int:
    store = keyspace.store
    stop = end_of(prefix)
    count = store.count(prefix, stop)
    if not count:
        return 0
    if not samples or samples >= count:
        sizes = [len(key) + len(value) for key, value in store.scan(prefix, stop)]
    else:
        places = [count * number // samples for number in range(samples)]
        found = [store.select(prefix, stop, place) for place in places]
        sizes = [len(entry[0]) + len(entry[1]) for entry in found if entry is not None]
    return count * (sum(sizes) // len(sizes) + STORED_ENTRY_BYTES)


# --- The process


def resident_bytes() -> int:
    """Return the memory the system has given to the process."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return peak_bytes()


def peak_bytes() -> int:
    """Return the most memory the process has ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def system_bytes() -> int:
    """Return the memory of the machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def purge() -> None:
    """Collect garbage, and let the C library give back pages that nothing is on, where it can."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def collector_report() -> str:
    """Return what Python's garbage collector counts, generation by generation."""
    lines = ["generation  objects  threshold  collections  collected  uncollectable"]
    for number, (stats, threshold) in enumerate(zip(gc.get_stats(), gc.get_threshold())):
        lines.append(
            f"{number:>10}  {len(gc.get_objects(number)):>7}  {threshold:>9}  {stats['collections']:>11}  "
            f"{stats['collected']:>9}  {stats['uncollectable']:>13}"
        )
    lines.append(f"allocated blocks of small objects: {sys.getallocatedblocks()}")
    return "\n".join(lines) + "\n"


def cached_bytes(databases: Databases) -> int:
    """Return about what decoded records take.

    Only what the youngest generation takes is counted; those before, as far as there is something in them,
    were let grow old when they had taken their part.
    """
    store = databases.store
    tables: list[Sequence[Sized]] = [store.warm, *(keyspace.cold for keyspace in databases.keyspaces)]
    old = sum(any(generation) for generation in zip_longest(*tables, fillvalue=()))
    return store.weight + databases.generation_bytes * old


class Memory:
    """A picture of the server's memory, in bytes."""

    def __init__(self, server: Server) -> None:
        databases = server.databases
        stats = databases.store.db.stats()
        self.startup = server.startup_bytes
        self.records = cached_bytes(databases)
        self.memtables = stats.memtable_size_bytes
        self.blocks = stats.cache_size_bytes
        self.clients = sum(client.out_bytes + client.held_bytes for client in server.clients.values())
        self.pending = len(databases.store.entries) * ENTRY_OVERHEAD_BYTES
        self.used = self.startup + self.records + self.memtables + self.blocks + self.clients + self.pending
        self.resident = resident_bytes()
        self.peak = max(peak_bytes(), self.used)

    @property
    def dataset(self) -> int:
        """What holds data."""
        return self.records + self.memtables + self.blocks

    @property
    def fragmentation(self) -> float:
        """What the system has given for each byte used."""
        return self.resident / self.used

    def figures(self, server: Server) -> Iterator[tuple[bytes, object]]:
        """Yield what MEMORY STATS says, under Redis's names where they fit."""
        yield b"peak.allocated", self.peak
        yield b"total.allocated", self.used
        yield b"startup.allocated", self.startup
        yield b"replication.backlog", 0
        yield b"clients.slaves", 0
        yield b"clients.normal", self.clients
        yield b"cluster.links", 0
        yield b"aof.buffer", self.pending
        yield b"lua.caches", server.scripting.used_bytes
        yield b"functions.caches", server.scripting.libraries.source_bytes
        keys_count = 0
        for keyspace, count in server.databases.each_with_keys():
            keys_count += count
            overhead = (len(keyspace.cache) + sum(map(len, keyspace.cold))) * HOT_OVERHEAD_BYTES
            # Redis's names; its hash tables are what our caches are, and expiry has an index on disk.
            yield (
                b"db.%d" % keyspace.index,
                {
                    b"overhead.hashtable.main": overhead,
                    b"overhead.hashtable.expires": 0,
                    b"overhead.hashtable.slot-to-keys": 0,
                },
            )
        yield b"overhead.total", self.used - self.dataset
        yield b"keys.count", keys_count
        yield b"keys.bytes-per-key", self.dataset // keys_count if keys_count else 0
        yield b"dataset.bytes", self.dataset
        yield b"dataset.percentage", 100 * self.dataset / max(self.used - self.startup, 1)
        yield b"peak.percentage", 100 * self.used / self.peak
        yield b"fragmentation", self.fragmentation
        yield b"fragmentation.bytes", self.resident - self.used
        yield b"lamina.records", self.records
        yield b"lamina.memtables", self.memtables
        yield b"lamina.blocks", self.blocks


def report(memory: Memory, limit_bytes: int) -> str:
    """Return what MEMORY DOCTOR says. `limit_bytes` is what the configuration allows for data."""
    lines = []
    if memory.dataset > limit_bytes:
        lines.append(
            f"Caches and memtables hold {memory.dataset} bytes, more than `memory` allows: flushes are "
            "behind. INFO lamina tells whether writers are being slowed."
        )
    if memory.resident > 2 * memory.used and memory.resident > memory.startup + limit_bytes:
        lines.append(
            f"The process has {memory.resident} bytes for {memory.used} in use: memory is fragmented. "
            "MEMORY PURGE gives back what can be given back."
        )
    if memory.clients > limit_bytes // 4:
        lines.append(
            f"Replies of {memory.clients} bytes wait for clients: CLIENT LIST shows whose (omem), and "
            "client-output-buffer-limit bounds them."
        )
    return "\n".join(f"- {line}" for line in lines) + "\n" if lines else "No problem with memory was found.\n"

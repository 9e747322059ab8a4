"""Which stores are compared, and are they set up alike?

One adapter per store. Each offers the same callables, bound to the library's own methods wherever it has
one, so that the adapter adds nothing to what is measured. All stores get the same block cache, the same
write buffer, 10 bloom bits per key, the fast compression that they have (lz4, for LevelDB snappy), a
write-ahead log without fsync, and otherwise the defaults of their library.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

from measure import Rest, wait_until_quiet

BLOOM_BITS_PER_KEY = 10

Pairs = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How a store's memory is shared out, after Lamina's own rule: up to three memtables, half is cache."""

    memory_bytes: int

    @property
    def write_buffer_bytes(self) -> int:
        """One write buffer (memtable): a sixth."""
        return self.memory_bytes // 6

    @property
    def cache_bytes(self) -> int:
        """The block cache: a half."""
        return self.memory_bytes // 2

    @classmethod
    def with_cache(cls, cache_bytes: int) -> MemoryPlan:
        """Return the plan whose cache has this size."""
        return cls(cache_bytes * 2)


def length_of(iterator: Iterable[object]) -> int:
    """Return how many items an iterator yields, with no Python code run per item."""
    counter = count()
    deque(zip(iterator, counter, strict=False), maxlen=0)
    return next(counter)


class Store:
    """What every adapter offers. rank and select are None where the store has no such thing."""

    name: str
    table_suffixes: tuple[str, ...]
    log_suffixes: tuple[str, ...]

    put: Callable[[bytes, bytes], object]
    get: Callable[[bytes], bytes | None]
    put_batch: Callable[[Pairs], None]
    scan: Callable[[], Iterable[Any]]
    scan_backward: Callable[[], Iterable[Any]]
    scan_from: Callable[[bytes, int], Iterable[Any]]
    count: Callable[[bytes, bytes], int]
    rank: Callable[[bytes], int] | None = None
    select: Callable[[bytes, bytes, int], object] | None = None
    flush: Callable[[], object]
    compact: Callable[[], object]
    close: Callable[[], object]

    def __init__(self, path: Path, plan: MemoryPlan) -> None:
        """Create the store in a directory, or open the one that is there."""
        raise NotImplementedError

    def settle(self, quiet_ms: int = 300) -> Rest:
        """Wait until flushes and compactions are at rest."""
        return wait_until_quiet(quiet_ms)

    def worker_pids(self) -> list[int]:
        """Return the processes that work for this store beside our own."""
        return []

    def own_figures(self) -> dict[str, Any]:
        """Return what the store itself reports about amplification and stalls."""
        return {}


class LevelDB(Store):
    """LevelDB through plyvel."""

    name = "plyvel"
    table_suffixes = (".ldb", ".sst")
    log_suffixes = (".log",)

    def __init__(self, path: Path, plan: MemoryPlan) -> None:
        import plyvel  # type: ignore[import-untyped]

        database = plyvel.DB(
            os.fspath(path),
            create_if_missing=True,
            write_buffer_size=plan.write_buffer_bytes,
            lru_cache_size=plan.cache_bytes,
            bloom_filter_bits=BLOOM_BITS_PER_KEY,
            compression="snappy",
        )
        iterator = database.iterator
        write_batch = database.write_batch

        def put_batch(pairs: Pairs) -> None:
            with write_batch() as batch:
                put = batch.put
                for key, value in pairs:
                    put(key, value)

        self.put, self.get, self.put_batch = database.put, database.get, put_batch
        self.scan = iterator
        self.scan_backward = lambda: iterator(reverse=True)
        self.scan_from = lambda start, limit: islice(iterator(start=start), limit)
        self.count = lambda start, stop: length_of(iterator(start=start, stop=stop, include_value=False))
        # LevelDB flushes the memtable before it compacts any range, an empty one too.
        self.flush = lambda: database.compact_range(start=b"\xff" * 40, stop=b"\xff" * 41)
        # Without arguments plyvel passes an empty range, which only flushes: 57 MB are rewritten with both
        # given, 0.2 MB with none. The benchmarks' keys are 16 bytes, so they all lie in between.
        self.compact = lambda: database.compact_range(start=b"", stop=b"\xff" * 40)
        self.close = database.close
        self.property = database.get_property

    def own_figures(self) -> dict[str, Any]:
        """Return the bytes that compactions wrote, from the table of leveldb.stats (whole MB)."""
        rows = re.findall(
            r"^\s*\d+\s+\d+\s+\d+\s+\d+\s+\d+\s+(\d+)\s*$",
            self.property(b"leveldb.stats").decode(),
            re.MULTILINE,
        )
        return {"tables_written_bytes": sum(map(int, rows)) << 20}


class RocksDB(Store):
    """RocksDB through rocksdict, in raw mode (bytes in, bytes out), with its write-ahead log on."""

    name = "rocksdict"
    table_suffixes = (".sst",)
    log_suffixes = (".log",)

    def __init__(self, path: Path, plan: MemoryPlan) -> None:
        import rocksdict

        blocks = rocksdict.BlockBasedOptions()
        blocks.set_block_cache(rocksdict.Cache(plan.cache_bytes))
        blocks.set_bloom_filter(BLOOM_BITS_PER_KEY, False)
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_write_buffer_size(plan.write_buffer_bytes)
        options.set_compression_type(rocksdict.DBCompressionType.lz4())
        options.set_block_based_table_factory(blocks)
        database = rocksdict.Rdict(os.fspath(path), options)
        new_batch, write, items = rocksdict.WriteBatch, database.write, database.items

        def put_batch(pairs: Pairs) -> None:
            batch = new_batch(raw_mode=True)
            put = batch.put
            for key, value in pairs:
                put(key, value)
            write(batch)

        def count_range(start: bytes, stop: bytes) -> int:
            read_options = rocksdict.ReadOptions()
            read_options.set_iterate_upper_bound(stop)
            return length_of(database.keys(from_key=start, read_opt=read_options))

        self.put, self.get, self.put_batch = database.put, database.get, put_batch
        self.scan = items
        self.scan_backward = lambda: items(backwards=True)
        self.scan_from = lambda start, limit: islice(items(from_key=start), limit)
        self.count = count_range
        self.flush = database.flush
        self.compact = lambda: database.compact_range(None, None)
        self.close, self.property = database.close, database.property_value

    def own_figures(self) -> dict[str, Any]:
        """Return the bytes that flushes and compactions wrote, and the stall time, from rocksdb.stats.

        Its W-Amp is relative to what was flushed, so the product of the two is what was written.
        """
        text = self.property("rocksdb.stats") or ""
        figures: dict[str, Any] = {}
        flushed = re.search(r"Flush\(GB\): cumulative ([\d.]+)", text)
        amplified = re.search(r"^\s*Sum\s+\S+\s+[\d.]+ \w+(?:\s+[\d.]+){7}\s+([\d.]+)", text, re.MULTILINE)
        if flushed and amplified:
            figures["tables_written_bytes"] = int(float(flushed[1]) * float(amplified[1]) * (1 << 30))
        if found := re.search(r"Cumulative stall: (\d+):(\d+):([\d.]+) H:M:S", text):
            figures["stall_time_s"] = int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])
        return figures


class Lamina(Store):
    """Lamina with its worker process, not counted: writes are blind, counting is scanning."""

    name = "lamina"
    counted = False
    table_suffixes = (".seg",)
    log_suffixes = (".wal",)

    def __init__(self, path: Path, plan: MemoryPlan) -> None:
        import lamina.engine as engine

        database = engine.open(
            os.fspath(path), memory=plan.memory_bytes, counted=self.counted, sync="no", background="process"
        )
        new_batch, scan = database.batch, database.scan

        def put_batch(pairs: Pairs) -> None:
            with new_batch() as batch:
                put = batch.put
                for key, value in pairs:
                    put(key, value)

        self.database = database
        self.put, self.get, self.put_batch = database.put, database.get, put_batch
        self.scan = scan
        self.scan_backward = lambda: scan(reverse=True)
        self.scan_from = lambda start, limit: scan(start, limit=limit)
        self.count = database.count
        self.flush, self.compact, self.close = database.flush, database.compact, database.close
        if self.counted:
            self.rank, self.select = database.rank, database.select

    def settle(self, quiet_ms: int = 300) -> Rest:
        """Wait until flushes and compactions are at rest; Lamina says so itself."""
        self.database.wait_idle()
        return Rest(time.perf_counter(), 0.0)

    def worker_pids(self) -> list[int]:
        """Return the worker process, once there is one."""
        pid = self.database.stats().worker_pid
        return [] if pid is None else [pid]

    def own_figures(self) -> dict[str, Any]:
        """Return everything that Lamina reports about itself."""
        return dict(self.database.stats().as_dict())


class LaminaCounted(Lamina):
    """Lamina with counted entries: count, rank and select take logarithmic time."""

    name = "lamina-counted"
    counted = True


STORES: dict[str, type[Store]] = {store.name: store for store in (LevelDB, RocksDB, Lamina, LaminaCounted)}
BASE = LevelDB.name


def available(names: Iterable[str]) -> Iterator[str]:
    """Yield those of the names whose library is installed, and say which are left out."""
    for name in names:
        try:
            with tempfile.TemporaryDirectory() as directory:
                STORES[name](Path(directory) / "probe", MemoryPlan(8 << 20)).close()
        except ImportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
        else:
            yield name

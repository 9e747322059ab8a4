"""What does one operation of an embedded store cost, compared with LevelDB and RocksDB?

    python benchmarks/embedded.py [--count N] [--rounds R] [--only NAME] [--stores A,B]

Three databases per store, all in this process, the stores taking turns:

    write   fresh in every round: puts into an empty database, 100 at a time or singly
    hot     --count / 2 entries, fully compacted, smaller than the cache and read once before the rounds
    cold    ten times as large as its cache (--cache-mb), as compaction has left it after loading; the file
            system's page cache still holds it, so what is measured is finding and decoding, not the disk

Keys are 16 random bytes, values 100 bytes that compress to half (see measure.py); both are made before the
clock starts. CPU of the put cases counts until the store is at rest, so flushes are paid for; wall time
ends with the last put. The calling thread's CPU is shown apart from its process's, because LevelDB also
compacts after reads, in a thread of that process. Nothing is fsynced by the writer, in any store.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from measure import (
    ENTRY_SIZE_BYTES,
    RESULTS,
    Sample,
    machine_facts,
    make_keys,
    make_values,
    number,
    ratios,
    rotated,
    summary,
    table,
    timed,
    write_result,
)
from stores import BASE, STORES, MemoryPlan, Pairs, Store, available

QUESTION = "What does one operation of an embedded store cost, compared with LevelDB and RocksDB?"
BATCH_SIZE = 100
SCAN_SIZE = 100
RECENT_COUNT = 20_000
RANGE_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Data:
    """The entries of one database, and the same keys in order."""

    keys: list[bytes]
    values: list[bytes]
    ordered: list[bytes] = field(default_factory=list)

    @classmethod
    def make(cls, count: int, seed: int) -> Data:
        """Make `count` entries."""
        keys = make_keys(count, seed)
        return cls(keys, make_values(count, seed + 1), sorted(keys))

    def batches(self) -> list[Pairs]:
        """Return all entries in batches of 100, in random order of keys."""
        pairs = list(zip(self.keys, self.values, strict=True))
        return [pairs[at : at + BATCH_SIZE] for at in range(0, len(pairs), BATCH_SIZE)]

    def ranges(self, wanted: int, chance: random.Random) -> list[tuple[bytes, bytes]]:
        """Return key ranges that each hold a hundredth of all entries."""
        width = max(1, int(len(self.ordered) * RANGE_SHARE))
        starts = [chance.randrange(len(self.ordered) - width) for _ in range(wanted)]
        return [(self.ordered[start], self.ordered[start + width]) for start in starts]


# The timed parts. Each takes a store and what was prepared, and returns how many operations it did.


def put_singly(store: Store, data: Data) -> int:
    put = store.put
    for key, value in zip(data.keys, data.values, strict=True):
        put(key, value)
    return len(data.keys)


def put_batches(store: Store, batches: list[Pairs]) -> int:
    put_batch = store.put_batch
    for batch in batches:
        put_batch(batch)
    return len(batches) * BATCH_SIZE


def get_each(store: Store, keys: list[bytes]) -> int:
    get = store.get
    for key in keys:
        get(key)
    return len(keys)


def scan_forward(store: Store, expected: int) -> int:
    deque(store.scan(), maxlen=0)
    return expected


def scan_backward(store: Store, expected: int) -> int:
    deque(store.scan_backward(), maxlen=0)
    return expected


def scan_briefly(store: Store, starts: list[bytes]) -> int:
    scan_from = store.scan_from
    for start in starts:
        deque(scan_from(start, SCAN_SIZE), maxlen=0)
    return len(starts)


def count_ranges(store: Store, ranges: list[tuple[bytes, bytes]]) -> int:
    count = store.count
    for start, stop in ranges:
        count(start, stop)
    return len(ranges)


def rank_each(store: Store, keys: list[bytes]) -> int:
    assert store.rank is not None
    rank = store.rank
    for key in keys:
        rank(key)
    return len(keys)


def select_each(store: Store, positions: list[tuple[bytes, bytes, int]]) -> int:
    assert store.select is not None
    select = store.select
    for start, stop, position in positions:
        select(start, stop, position)
    return len(positions)


@dataclass(frozen=True, slots=True)
class Case:
    """One row group of the table.

    `prepare` makes the arguments from the database's data, outside of the timed part and once per round,
    so that all stores get the same ones.
    """

    name: str
    database: str
    operation: str
    prepare: Callable[[Data, random.Random], Any]
    run: Callable[[Store, Any], int]
    settles: bool = False
    needs: str = ""


def cases(count: int) -> list[Case]:
    """Return all cases; `count` is how many puts the largest of them does."""
    reads = max(1, count // 4)
    few = max(1, count // 200)
    fewest = max(1, count // 4000)

    def some(data: Data, chance: random.Random) -> list[bytes]:
        return chance.choices(data.keys, k=reads)

    def missing(data: Data, chance: random.Random) -> list[bytes]:
        return make_keys(reads, chance.randrange(1 << 60))

    def everything(data: Data, chance: random.Random) -> int:
        return len(data.keys)

    def starts(data: Data, chance: random.Random) -> list[bytes]:
        return [data.ordered[chance.randrange(len(data.ordered) - SCAN_SIZE)] for _ in range(few)]

    def ranges(data: Data, chance: random.Random) -> list[tuple[bytes, bytes]]:
        return data.ranges(fewest, chance)

    def positions(data: Data, chance: random.Random) -> list[tuple[bytes, bytes, int]]:
        width = int(len(data.ordered) * RANGE_SHARE)
        return [(start, stop, chance.randrange(width)) for start, stop in data.ranges(few, chance)]

    return [
        Case(
            "get just written",
            "write",
            "get",
            lambda data, chance: chance.choices(data.keys[:RECENT_COUNT], k=reads),
            get_each,
        ),
        Case(
            "put",
            "write",
            "put",
            lambda data, chance: Data.make(count, chance.randrange(1 << 60)),
            put_singly,
            settles=True,
        ),
        Case(
            "put in batches of 100",
            "write",
            "put",
            lambda data, chance: data.batches(),
            put_batches,
            settles=True,
        ),
        Case("get hot", "hot", "get", some, get_each),
        Case("get missing, hot", "hot", "get", missing, get_each),
        Case("scan forward", "hot", "entry", everything, scan_forward),
        Case("scan backward", "hot", "entry", everything, scan_backward),
        Case("short scan", "hot", "seek + 100 entries", starts, scan_briefly),
        Case("get cold", "cold", "get", some, get_each),
        Case("get missing, cold", "cold", "get", missing, get_each),
        Case("scan forward, cold", "cold", "entry", everything, scan_forward),
        Case("short scan, cold", "cold", "seek + 100 entries", starts, scan_briefly),
        Case("count 1 % of all", "cold", "range", ranges, count_ranges),
        Case(
            "rank",
            "cold",
            "key",
            lambda data, chance: chance.choices(data.keys, k=few),
            rank_each,
            needs="rank",
        ),
        Case("select in 1 % of all", "cold", "position", positions, select_each, needs="select"),
    ]


# Databases


def load(store: Store, data: Data) -> None:
    """Put all the data into a store and wait until it is at rest."""
    for batch in data.batches():
        store.put_batch(batch)
    store.settle()


def verify(store: Store, data: Data, chance: random.Random) -> None:
    """Make sure that a store answers rightly, so that no speed comes from a mistake."""
    expected = dict(zip(data.keys, data.values, strict=True))
    for key in chance.choices(data.keys, k=1000):
        assert store.get(key) == expected[key], (store.name, "get", key)
    for key in make_keys(1000, chance.randrange(1 << 60)):
        assert store.get(key) is None, (store.name, "get", key)
    forward = [key for key, _ in store.scan()]
    assert forward == data.ordered, (store.name, "scan")
    backward = [key for key, _ in store.scan_backward()]
    assert backward == data.ordered[::-1], (store.name, "scan backward")
    at = chance.randrange(len(data.ordered) - SCAN_SIZE)
    brief = list(store.scan_from(data.ordered[at], SCAN_SIZE))
    assert brief == [(key, expected[key]) for key in data.ordered[at : at + SCAN_SIZE]], (store.name, "seek")
    for start, stop in data.ranges(3, chance):
        found = store.count(start, stop)
        assert found == bisect_left(data.ordered, stop) - bisect_left(data.ordered, start), (
            store.name,
            found,
        )
    if store.rank is not None:
        assert store.rank(data.ordered[at]) == at, (store.name, "rank")
    if store.select is not None:
        key, stop = data.ordered[at + 5], data.ordered[-1]
        assert store.select(data.ordered[at], stop, 5) in (key, (key, expected[key])), (store.name, "select")


class Bench:
    """The databases of one run, and the samples taken from them."""

    def __init__(self, names: list[str], directory: Path, hot: MemoryPlan, cold: MemoryPlan) -> None:
        self.names = names
        self.directory = directory
        self.plans = {"write": hot, "hot": hot, "cold": cold}
        self.data: dict[str, Data] = {}
        self.open: dict[str, dict[str, Store]] = {}
        self.samples: dict[str, dict[str, list[Sample]]] = {}

    def open_database(self, database: str, data: Data) -> None:
        """Create one database in every store."""
        self.data[database] = data
        self.open[database] = {}
        for name in self.names:
            path = self.directory / f"{database}-{name}"
            self.open[database][name] = STORES[name](path, self.plans[database])

    def fill(self, database: str, data: Data, *, compact: bool) -> None:
        """Create one database in every store with all its data in it, checked and read once."""
        self.open_database(database, data)
        for name, store in self.open[database].items():
            start = time.perf_counter()
            load(store, data)
            store.flush()
            if compact:
                store.compact()
            store.settle()
            verify(store, data, random.Random(1))
            say(f"  {database}: {name} holds {len(data.keys):,} entries, {time.perf_counter() - start:.1f} s")

    def close_database(self, database: str) -> None:
        """Close one database in every store and remove its files."""
        for name, store in self.open.pop(database).items():
            store.close()
            shutil.rmtree(self.directory / f"{database}-{name}")

    def measure(self, case: Case, round_index: int, seed: int) -> None:
        """Run one case in every store that can do it."""
        prepared = case.prepare(self.data[case.database], random.Random(seed))
        for name in rotated(self.names, round_index):
            store = self.open[case.database][name]
            if case.needs and getattr(store, case.needs) is None:
                continue
            sample = timed(
                partial(case.run, store, prepared),
                store.worker_pids,
                store.settle if case.settles else None,
            )
            if not case.settles:
                # LevelDB compacts after reads, too: that must not run into the next store's time.
                store.settle(quiet_ms=100)
            self.samples.setdefault(case.name, {}).setdefault(name, []).append(sample)


def results_of(bench: Bench, chosen: Iterable[Case]) -> list[dict[str, Any]]:
    """Return medians, ratios to the base store and the rounds themselves, case by case."""
    results = []
    for case in chosen:
        stores: dict[str, Any] = {}
        rounds = {
            name: [sample.per_operation_us() for sample in samples]
            for name, samples in bench.samples.get(case.name, {}).items()
        }
        for name in bench.names:
            if name in rounds:
                stores[name] = {
                    "median": summary(rounds[name]),
                    "ratio": ratios(rounds[name], rounds[BASE]) if BASE in rounds else {},
                    "rounds": rounds[name],
                }
        if stores:
            results.append(
                {
                    "case": case.name,
                    "database": case.database,
                    "operation": case.operation,
                    "settles": case.settles,
                    "stores": stores,
                }
            )
    return results


HEADER = ["case", "store", "CPU caller", "CPU own", "CPU worker", "wall"]
HEADER += ["caller / plyvel", "all CPU / plyvel", "wall / plyvel"]


def rows_of(results: Iterable[dict[str, Any]]) -> list[list[str]]:
    """Return the table's rows: µs per operation, then ratios to plyvel."""
    rows = []
    for result in results:
        title = result["case"]
        for name, figures in result["stores"].items():
            median, ratio = figures["median"], figures["ratio"]
            rows.append(
                [
                    title,
                    name,
                    number(median["thread_cpu_us"]),
                    number(median["process_cpu_us"]),
                    number(median["worker_cpu_us"]),
                    number(median["wall_us"]),
                    number(ratio.get("thread_cpu_us")),
                    number(ratio.get("total_cpu_us")),
                    number(ratio.get("wall_us")),
                ]
            )
            title = ""
    return rows


def say(text: str) -> None:
    """Report progress, apart from the results."""
    print(text, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--count", type=int, default=200_000, help="puts per case and round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cache-mb", type=float, default=16.0, help="cache of the cold database")
    parser.add_argument("--memory-mb", type=int, default=128, help="memory of the write and hot databases")
    parser.add_argument("--only", action="append", help="cases whose name contains this; may be repeated")
    parser.add_argument("--stores", default=",".join(STORES), help="comma-separated, of " + ", ".join(STORES))
    parser.add_argument("--directory", type=Path, help="where databases are made (default: a temporary one)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the JSON goes")
    parser.add_argument("--name", default="embedded", help="name of the JSON file")
    return parser.parse_args()


def main() -> None:
    """Run the chosen cases in all stores, print the table and write the JSON."""
    options = arguments()
    names = list(available(options.stores.split(",")))
    chosen = [
        case
        for case in cases(options.count)
        if not options.only or any(word in case.name for word in options.only)
    ]
    databases = {case.database for case in chosen}
    hot_plan = MemoryPlan(options.memory_mb << 20)
    cold_plan = MemoryPlan.with_cache(int(options.cache_mb * (1 << 20)))
    cold_count = 10 * cold_plan.cache_bytes // ENTRY_SIZE_BYTES
    with tempfile.TemporaryDirectory(prefix="lamina-embedded-", dir=options.directory) as directory:
        machine = machine_facts(Path(directory))
        bench = Bench(names, Path(directory), hot_plan, cold_plan)
        if "hot" in databases:
            bench.fill("hot", Data.make(max(1000, options.count // 2), seed=1), compact=True)
        if "cold" in databases:
            bench.fill("cold", Data.make(cold_count, seed=2), compact=False)
        for index in range(options.rounds):
            start = time.perf_counter()
            if "write" in databases:
                bench.open_database("write", Data.make(options.count, seed=100 + index))
                recent = Data(
                    *(part[:RECENT_COUNT] for part in (bench.data["write"].keys, bench.data["write"].values))
                )
                for store in bench.open["write"].values():
                    load(store, recent)
            for case_index, case in enumerate(chosen):
                bench.measure(case, index, seed=1000 * index + case_index)
            if "write" in databases:
                bench.close_database("write")
            say(f"round {index + 1} of {options.rounds}: {time.perf_counter() - start:.1f} s")
        for database in ("hot", "cold"):
            if database in databases:
                bench.close_database(database)
    results = results_of(bench, chosen)
    print(table(HEADER, rows_of(results), text_columns=2))
    settings = {
        "count": options.count,
        "rounds": options.rounds,
        "stores": names,
        "memory_bytes": hot_plan.memory_bytes,
        "cold_cache_bytes": cold_plan.cache_bytes,
        "cold_count": cold_count,
        "hot_count": max(1000, options.count // 2),
        "entry_size_bytes": ENTRY_SIZE_BYTES,
        "only": options.only,
    }
    print(
        "\nµs per operation, medians; ratios are medians of the rounds' ratios. Written to",
        write_result(options.name, QUESTION, machine, settings, results, options.results),
    )


if __name__ == "__main__":
    main()

"""What does a store sustain under a long random load, and what does that leave behind?

    python benchmarks/load.py [--count 10_000_000] [--store NAME] [--batch 100] [--memory-mb 256]

Each store is loaded in a process of its own, one store after the other (a load of minutes cannot take turns;
run the script on a quiet machine). Per store, four processes:

    load     puts all entries, waits until compaction is at rest, measures, closes cleanly
    reopen   opens the closed database, reads one key, flushes, compacts everything, measures, closes
    extend   opens it and puts another million (at most a tenth of --count); this script kills it -9 at once
    recover  opens what is left, reads one key, and checks that acknowledged entries are there

Keys are 16 random bytes and never repeat (unless --updates says so), values 100 bytes that compress to
half (see measure.py). They are made in chunks while loading, and that time counts: the share that it takes
is reported. Nothing is fsynced by the writer, in any store.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from measure import (
    ENTRY_SIZE_BYTES,
    RESULTS,
    cpu_time_of,
    descendants,
    directory_size_bytes,
    is_running,
    machine_facts,
    make_keys,
    make_values,
    number,
    peak_memory_bytes,
    percentile,
    resident_memory_bytes,
    table,
    write_result,
    written_bytes,
)
from stores import STORES, MemoryPlan, Store, available

QUESTION = "What does a store sustain under a long random load, and what does that leave behind?"
CHUNK_SIZE = 100_000
VALUE_POOL_SIZE = 10_007  # a prime, so that chunks do not repeat the same pairing
EXTEND_COUNT_MAX = 1_000_000
SLOW_US = 10_000
QUIET_MS = 1000

Say = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Job:
    """What one child process is told."""

    phase: str
    store: str
    path: str
    memory_bytes: int
    count: int
    batch: int
    seed: int
    updates: float
    expected_chunks: int = 0


class Entries:
    """Makes the entries chunk by chunk; the same job makes the same ones, so they can be checked later."""

    def __init__(self, seed: int, updates: float) -> None:
        self.seed = seed
        self.updates = updates
        self.values = make_values(VALUE_POOL_SIZE, seed)

    def new_keys(self, chunk: int) -> list[bytes]:
        """Return the keys that a chunk would insert if nothing were updated."""
        return make_keys(CHUNK_SIZE, (self.seed << 32) + chunk)

    def keys(self, chunk: int) -> list[bytes]:
        """Return a chunk's keys: with `updates`, that share is replaced by keys of one earlier chunk."""
        keys = self.new_keys(chunk)
        updated = int(self.updates * CHUNK_SIZE) if chunk else 0
        if updated:
            chance = random.Random(self.seed + chunk)
            earlier = self.new_keys(chance.randrange(chunk))
            keys[:updated] = chance.sample(earlier, updated)
            chance.shuffle(keys)
        return keys

    def chunk(self, chunk: int) -> tuple[list[bytes], list[bytes]]:
        """Return a chunk's keys and values, apart: 100,000 tuples would cost more than both."""
        start = chunk * CHUNK_SIZE % VALUE_POOL_SIZE
        repeats = CHUNK_SIZE // VALUE_POOL_SIZE + 2
        return self.keys(chunk), (self.values * repeats)[start : start + CHUNK_SIZE]


# The child processes


class Watch:
    """Peak memory and CPU of this process and of those that it has started."""

    def __init__(self) -> None:
        self.peaks: dict[int, int] = {}
        self.baseline_bytes = resident_memory_bytes(os.getpid())

    def look(self) -> None:
        """Read the peaks; called often, because a worker may be replaced."""
        for pid in descendants(os.getpid()):
            self.peaks[pid] = max(self.peaks.get(pid, 0), peak_memory_bytes(pid))

    def figures(self) -> dict[str, Any]:
        """Return the peaks, the CPU used so far and what has been written so far."""
        self.look()
        workers = descendants(os.getpid())
        written = written_bytes([os.getpid(), *workers])
        return {
            "memory_baseline_bytes": self.baseline_bytes,
            "memory_writer_peak_bytes": peak_memory_bytes(os.getpid()),
            "memory_worker_peak_bytes": max(self.peaks.values(), default=0),
            "cpu_writer_s": time.process_time(),
            "cpu_worker_s": sum(map(cpu_time_of, workers)),
            "written_calls_bytes": written.calls_bytes,
            "written_storage_bytes": written.storage_bytes,
        }


def open_timed(job: Job) -> tuple[Store, float]:
    """Open a store and return it with the seconds that took; the library is imported before."""
    store_class = STORES[job.store]
    with tempfile.TemporaryDirectory() as directory:  # imports the library and runs its first-time setup
        store_class(Path(directory) / "warm-up", MemoryPlan(8 << 20)).close()
    start = time.perf_counter()
    store = store_class(Path(job.path), MemoryPlan(job.memory_bytes))
    return store, time.perf_counter() - start


def put_chunk(
    store: Store, keys: list[bytes], values: list[bytes], batch: int, latencies: array[int]
) -> None:
    """Put one chunk, and append each batch's (or each single put's) latency in ns."""
    clock, note = time.perf_counter_ns, latencies.append
    if batch == 1:
        put = store.put
        before = clock()
        for key, value in zip(keys, values):
            put(key, value)
            after = clock()
            note(after - before)
            before = after
        return
    put_batch = store.put_batch
    before = clock()
    for at in range(0, len(keys), batch):
        put_batch(zip(keys[at : at + batch], values[at : at + batch]))
        after = clock()
        note(after - before)
        before = after


def load(job: Job, say: Say) -> dict[str, Any]:
    """Put all entries, wait for rest, and return everything measured on the way."""
    entries = Entries(job.seed, job.updates)
    watch = Watch()
    store, open_s = open_timed(job)
    cpu_start, written_start = time.process_time(), written_bytes([os.getpid()])
    latencies_us: Counter[int] = Counter()
    timeline: list[tuple[float, int]] = []
    making_s = slow_s = 0.0
    longest_ns = 0
    chunks = job.count // CHUNK_SIZE
    start = time.perf_counter()
    for chunk in range(chunks):
        chunk_start = time.perf_counter()
        keys, values = entries.chunk(chunk)
        making_s += time.perf_counter() - chunk_start
        latencies = array("q")
        put_chunk(store, keys, values, job.batch, latencies)
        timeline.append((round(time.perf_counter() - start, 3), (chunk + 1) * CHUNK_SIZE))
        making_start = time.perf_counter()
        longest_ns = max(longest_ns, *latencies)
        latencies_us.update([nanoseconds // 1000 for nanoseconds in latencies])
        watch.look()
        making_s += time.perf_counter() - making_start
        say({"entries": (chunk + 1) * CHUNK_SIZE, "elapsed_s": timeline[-1][0]})
    acknowledged_s = time.perf_counter() - start
    slow_s = sum(us * times for us, times in latencies_us.items() if us > SLOW_US) / 1e6
    acknowledged_cpu_s = time.process_time() - cpu_start
    rest = store.settle(QUIET_MS)
    figures = watch.figures()
    figures["cpu_writer_s"] -= cpu_start + rest.watching_cpu_s
    figures["written_calls_bytes"] -= written_start.calls_bytes
    figures["written_storage_bytes"] -= written_start.storage_bytes
    path = Path(job.path)
    user_bytes = chunks * CHUNK_SIZE * ENTRY_SIZE_BYTES
    figures |= {
        "count": chunks * CHUNK_SIZE,
        "user_bytes": user_bytes,
        "create_s": open_s,
        "acknowledged_s": acknowledged_s,
        "rest_s": rest.at - start,
        "making_s": making_s,
        "acknowledged_per_s": chunks * CHUNK_SIZE / acknowledged_s,
        "rest_per_s": chunks * CHUNK_SIZE / (rest.at - start),
        "cpu_writer_acknowledged_s": acknowledged_cpu_s,
        "write_amplification_calls": figures["written_calls_bytes"] / user_bytes,
        "write_amplification_storage": figures["written_storage_bytes"] / user_bytes,
        "latency_us": {
            f"p{share}": percentile(latencies_us, share / 100) for share in (50, 90, 99, 99.9, 99.99)
        }
        | {"longest": longest_ns // 1000},
        "slow_s": slow_s,
        "disk_at_rest_bytes": directory_size_bytes(path),
        "disk_at_rest_tables_bytes": directory_size_bytes(path, store.table_suffixes),
        "disk_at_rest_logs_bytes": directory_size_bytes(path, store.log_suffixes),
        "own_figures": store.own_figures(),
        "timeline": timeline,
    }
    closing = time.perf_counter()
    store.close()
    figures["close_s"] = time.perf_counter() - closing
    return figures


def first_get(job: Job, store: Store, chunk: int) -> float:
    """Return the seconds that the first get after opening takes; it finds its key."""
    key = Entries(job.seed, job.updates).keys(chunk)[CHUNK_SIZE // 2]
    start = time.perf_counter()
    value = store.get(key)
    elapsed = time.perf_counter() - start
    assert value is not None, "an acknowledged entry is missing"
    return elapsed


def reopen(job: Job, say: Say) -> dict[str, Any]:
    """Open a cleanly closed database, read one key, then flush, compact everything and look at its size."""
    store, open_s = open_timed(job)
    memory_open = resident_memory_bytes(os.getpid())
    first_get_s = first_get(job, store, chunk=0)
    path = Path(job.path)
    store.flush()
    store.settle(QUIET_MS)
    flushed_bytes = directory_size_bytes(path, store.table_suffixes)
    written_start = written_bytes([os.getpid(), *descendants(os.getpid())]).calls_bytes
    start = time.perf_counter()
    store.compact()
    compact_s = store.settle(QUIET_MS).at - start
    written = written_bytes([os.getpid(), *descendants(os.getpid())]).calls_bytes - written_start
    figures = {
        "open_s": open_s,
        "first_get_s": first_get_s,
        "memory_after_open_bytes": memory_open,
        "compact_s": compact_s,
        "compact_written_bytes": written,
        "disk_flushed_tables_bytes": flushed_bytes,
        "disk_compacted_bytes": directory_size_bytes(path),
        "disk_compacted_tables_bytes": directory_size_bytes(path, store.table_suffixes),
    }
    store.close()
    return figures


def extend(job: Job, say: Say) -> dict[str, Any]:
    """Put more entries, and wait to be killed, with memtables full and compaction under way."""
    store, _ = open_timed(job)
    entries = Entries(job.seed, job.updates)
    first = job.expected_chunks
    for chunk in range(first, first + job.count // CHUNK_SIZE):
        put_chunk(store, *entries.chunk(chunk), job.batch, array("q"))
    say({"killable": True, "workers": descendants(os.getpid())})
    signal.pause()
    raise AssertionError("nobody killed us")


def recover(job: Job, say: Say) -> dict[str, Any]:
    """Open a database whose writer was killed, read one key, and check what had been acknowledged."""
    store, open_s = open_timed(job)
    first_get_s = first_get(job, store, chunk=job.expected_chunks - 1)
    entries = Entries(job.seed, job.updates)
    chance = random.Random(job.seed)
    checked = 0
    for chunk in {0, job.expected_chunks // 2, *range(max(0, job.expected_chunks - 10), job.expected_chunks)}:
        keys = entries.keys(chunk)
        for key in [*chance.sample(keys, 1000), *keys[-1000:]]:
            assert store.get(key) is not None, f"acknowledged entry {key!r} of chunk {chunk} is missing"
            checked += 1
    figures = {"open_s": open_s, "first_get_s": first_get_s, "checked": checked}
    store.close()
    return figures


PHASES = {"load": load, "reopen": reopen, "extend": extend, "recover": recover}


def run_phase(job: Job) -> None:
    """Do one phase in this process, reporting in lines of JSON on standard output."""

    def say(message: dict[str, Any]) -> None:
        print(json.dumps(message), flush=True)

    say({"result": PHASES[job.phase](job, say)})


# The parent


def progress(text: str, *, last: bool = False) -> None:
    """Show progress on standard error: a line that is overwritten on a terminal, else only its last state."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="\n" if last else "", file=sys.stderr, flush=True)
    elif last:
        print(text, file=sys.stderr, flush=True)


def run_child(job: Job) -> dict[str, Any]:
    """Run one phase in a child process and return its result; the extend phase ends by kill -9."""
    command = [sys.executable, str(Path(__file__).resolve()), "--job", json.dumps(asdict(job))]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            message = json.loads(line)
            if "entries" in message:
                rate = message["entries"] / message["elapsed_s"]
                progress(f"{job.store} {job.phase}: {message['entries']:,} of {job.count:,}, {rate:,.0f}/s")
            elif "killable" in message:
                child.kill()
                child.wait()
                progress(f"{job.store} {job.phase}: killed", last=True)
                return {"workers_outlived_s": wait_until_gone(message["workers"])}
            else:
                took = time.perf_counter() - started
                progress(f"{job.store} {job.phase}: {took:.1f} s", last=True)
                result: dict[str, Any] = message["result"]
                child.wait()
                return result
    raise RuntimeError(f"{job.phase} of {job.store} failed with status {child.returncode}")


def wait_until_gone(pids: list[int], timeout_s: float = 10.0) -> float:
    """Return for how long workers outlived their writer; those that would not go are killed."""
    start = time.perf_counter()
    while any(map(is_running, pids)):
        if time.perf_counter() - start > timeout_s:
            for pid in filter(is_running, pids):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
    return time.perf_counter() - start if pids else 0.0


def measure_store(name: str, path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run all phases for one store."""

    def job(phase: str, count: int, expected_chunks: int = 0) -> Job:
        memory = options.memory_mb << 20
        return Job(
            phase,
            name,
            str(path),
            memory,
            count,
            options.batch,
            options.seed,
            options.updates,
            expected_chunks,
        )

    loaded = options.count // CHUNK_SIZE
    extra = max(1, min(EXTEND_COUNT_MAX, options.count // 10) // CHUNK_SIZE)
    result: dict[str, Any] = {"store": name, "load": run_child(job("load", options.count))}
    result["reopen"] = run_child(job("reopen", 0))
    result["extend"] = run_child(job("extend", extra * CHUNK_SIZE, loaded))
    result["recover"] = run_child(job("recover", 0, loaded + extra))
    before, after = result["load"], result["reopen"]
    result["space_amplification"] = before["disk_at_rest_bytes"] / after["disk_compacted_bytes"]
    tables = after["disk_compacted_tables_bytes"]
    result["space_amplification_flushed"] = after["disk_flushed_tables_bytes"] / tables if tables else None
    return result


MIB = 1 << 20


def rows_of(results: list[dict[str, Any]]) -> list[list[str]]:
    """Return the table's rows: one per figure, one column per store."""

    def row(title: str, figure: Callable[[dict[str, Any]], float | None], digits: int = 0) -> list[str]:
        return [title, *(number(figure(result), digits) for result in results)]

    def latency(name: str) -> Callable[[dict[str, Any]], Any]:
        return lambda result: result["load"]["latency_us"][name] / 1000

    def own_stall(result: dict[str, Any]) -> Any:
        return result["load"]["own_figures"].get("stall_time_s")

    def own_amplification(result: dict[str, Any]) -> Any:
        """Lamina's own figure, or what the tables of the others cost."""
        figures = result["load"]["own_figures"]
        if "tables_written_bytes" in figures:
            return figures["tables_written_bytes"] / result["load"]["user_bytes"]
        return figures.get("write_amplification")

    count = results[0]["load"]["count"]
    return [
        row("entries/s until acknowledged", lambda result: result["load"]["acknowledged_per_s"]),
        row("entries/s until at rest", lambda result: result["load"]["rest_per_s"]),
        row(
            "share of the time spent making entries, %",
            lambda result: 100 * result["load"]["making_s"] / result["load"]["acknowledged_s"],
            1,
        ),
        row(
            "CPU of the writer until at rest, µs/entry",
            lambda result: result["load"]["cpu_writer_s"] / count * 1e6,
            2,
        ),
        row(
            "CPU of the worker until at rest, µs/entry",
            lambda result: result["load"]["cpu_worker_s"] / count * 1e6,
            2,
        ),
        row(
            "write amplification (write calls)", lambda result: result["load"]["write_amplification_calls"], 2
        ),
        row(
            "write amplification (reached storage)",
            lambda result: result["load"]["write_amplification_storage"],
            2,
        ),
        row("write amplification (its own figure)", own_amplification, 2),
        row("space amplification", lambda result: result["space_amplification"], 3),
        row("space amplification once flushed", lambda result: result["space_amplification_flushed"], 3),
        row(
            "on disk after full compaction, MiB",
            lambda result: result["reopen"]["disk_compacted_bytes"] / MIB,
        ),
        row("full compaction, s", lambda result: result["reopen"]["compact_s"], 2),
        row(
            "written by full compaction, MiB", lambda result: result["reopen"]["compact_written_bytes"] / MIB
        ),
        row(
            "peak memory of the writer, MiB", lambda result: result["load"]["memory_writer_peak_bytes"] / MIB
        ),
        row(
            "peak memory of the worker, MiB", lambda result: result["load"]["memory_worker_peak_bytes"] / MIB
        ),
        row("batch latency p50, ms", latency("p50"), 3),
        row("batch latency p99, ms", latency("p99"), 3),
        row("batch latency p99.9, ms", latency("p99.9"), 3),
        row("longest batch, ms", latency("longest"), 1),
        row("time in batches over 10 ms, s", lambda result: result["load"]["slow_s"], 2),
        row("stall time (its own figure), s", own_stall, 2),
        row("open after a clean close, ms", lambda result: result["reopen"]["open_s"] * 1000, 1),
        row("first get after it, ms", lambda result: result["reopen"]["first_get_s"] * 1000, 2),
        row("open after kill -9, ms", lambda result: result["recover"]["open_s"] * 1000, 1),
        row("first get after it, ms ", lambda result: result["recover"]["first_get_s"] * 1000, 2),
        row(
            "worker outlived the killed writer, ms",
            lambda result: result["extend"]["workers_outlived_s"] * 1000,
            1,
        ),
    ]


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--count", type=int, default=10_000_000, help="entries, a multiple of 100,000")
    parser.add_argument(
        "--store", action="append", choices=list(STORES), help="may be repeated; default: all"
    )
    parser.add_argument("--batch", type=int, default=100, help="entries per batch; 1 means single puts")
    parser.add_argument("--memory-mb", "--memory", type=int, default=256, help="memtables and cache together")
    parser.add_argument("--updates", type=float, default=0.0, help="share of entries that overwrite others")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", type=Path, help="where databases are made (default: a temporary one)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the JSON goes")
    parser.add_argument("--name", default="load", help="JSON files are called NAME-STORE.json")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.count < CHUNK_SIZE or options.count % CHUNK_SIZE:
        parser.error(f"--count must be a multiple of {CHUNK_SIZE:,}")
    return options


def main() -> None:
    """Load the chosen stores one after the other, write a JSON for each and print one table."""
    options = arguments()
    if options.job:
        run_phase(Job(**json.loads(options.job)))
        return
    results = []
    settings = {
        "count": options.count,
        "batch": options.batch,
        "memory_bytes": options.memory_mb << 20,
        "updates": options.updates,
        "seed": options.seed,
        "entry_size_bytes": ENTRY_SIZE_BYTES,
    }
    for name in available(options.store or STORES):
        with tempfile.TemporaryDirectory(prefix="lamina-load-", dir=options.directory) as directory:
            machine = machine_facts(Path(directory))
            result = measure_store(name, Path(directory) / "database", options)
            shutil.rmtree(Path(directory) / "database")
        results.append(result)
        path = write_result(f"{options.name}-{name}", QUESTION, machine, settings, result, options.results)
        print(f"written to {path}", file=sys.stderr)
    if results:
        print(table(["", *(result["store"] for result in results)], rows_of(results)))


if __name__ == "__main__":
    main()

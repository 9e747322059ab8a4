"""What does the merge kernel cost per entry, and what would the usual heap of cursors cost?

Four sorted runs are merged in memory, once with `lamina.engine.compaction.merge` and once with the cursors of
this script, one object per run behind `heapq.merge`, as most LSM trees do it. Both read the same segments
from memory, apply the same rule of combination and throw the result away; what differs is the walk.

    python benchmarks/merge.py [--count 200000] [--rounds 5]

`interleaved`: every key in one run, at random. `overwritten`: all runs hold the same keys. `disjoint`: the
runs follow one another, so that blocks are copied.
"""

from __future__ import annotations

import argparse
import heapq
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from measure import make_keys, make_values

from harness.trees import Entry, Workshop
from lamina.engine.compaction.merge import CopiedBlock, Cursor, merge
from lamina.engine.discards import Discards
from lamina.engine.entry import INSERT, REPLACE, VANISHED, combine
from lamina.engine.run import Run

RUNS = 4
BLOCK_SIZE_BYTES = 8 * 1024


def make_runs(shape: str, count: int) -> list[Run]:
    """Return four runs, newest first, with `count` entries between them."""
    workshop = Workshop(cache_bytes=0)
    keys = make_keys(count, 1)
    values = make_values(count, 2)
    rng = random.Random(3)
    if shape == "overwritten":
        kept = keys[: count // RUNS]
        layers = [kept] * RUNS
    elif shape == "disjoint":
        keys.sort()
        layers = [keys[i * count // RUNS : (i + 1) * count // RUNS] for i in range(RUNS)]
    else:
        rng.shuffle(keys)
        layers = [keys[i::RUNS] for i in range(RUNS)]
    runs: list[Run] = []
    for number, layer in enumerate(layers):
        kind = REPLACE if shape == "overwritten" and number else INSERT
        entries: list[Entry] = [(key, kind, values[i]) for i, key in enumerate(sorted(layer))]
        runs.insert(0, workshop.run(entries, block_size_bytes=BLOCK_SIZE_BYTES))
    return runs


def merge_with_kernel(runs: list[Run]) -> int:
    """Merge with the engine's kernel; returns how many entries came out."""
    cursors = [Cursor(run.slices, b"", None, Discards()) for run in runs]
    total = 0
    for piece in merge(cursors, counted=True, is_last=True, filter_bits_per_key=10, path=""):
        total += piece.counts[0] if isinstance(piece, CopiedBlock) else len(piece.keys)
    return total


def walk(run: Run, age: int) -> Iterator[tuple[bytes, int, int, bytes]]:
    """Yield a run's entries one by one, as a cursor would: key, age, kind, value."""
    for piece in run.slices:
        segment = piece.segment
        for number in range(len(segment.part_floors)):
            part = segment.part(number)
            for b, frame in enumerate(segment.read_frames(part, 0, len(part.floors))):
                block = segment.decode_block(part, b, frame)
                for key, kind, value in zip(block.keys(), block.kinds, block.values(), strict=True):
                    yield key, age, kind, value


def merge_with_heap(runs: list[Run]) -> int:
    """Merge with `heapq.merge` over cursors; returns how many entries came out."""
    total = 0
    current: bytes | None = None
    kind = VANISHED
    # Of equal keys the newest comes first: the ages settle that.
    for key, _, next_kind, _ in heapq.merge(*(walk(run, age) for age, run in enumerate(runs))):
        if key == current:
            kind = combine(kind, next_kind)
            continue
        total += kind != VANISHED
        current, kind = key, next_kind
    return total + (kind != VANISHED)


def time_ns(work: Callable[[list[Run]], int], runs: list[Run], expected: int) -> float:
    """Return CPU time per entry that goes in."""
    began_s = time.process_time()
    found = work(runs)
    elapsed_s = time.process_time() - began_s
    assert found == expected, (found, expected)
    return elapsed_s * 1e9 / sum(run.entries for run in runs)


def main() -> None:
    """Measure both in turns and print medians."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=200_000, help="entries that go in")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print(f"{RUNS} runs, {arguments.count:,} entries of 116 bytes; ns of CPU per entry, median of rounds")
    print(f"{'':14}{'kernel':>10}{'heap':>10}{'ratio':>8}")
    for shape in ("interleaved", "overwritten", "disjoint"):
        runs = make_runs(shape, arguments.count)
        expected = arguments.count // RUNS if shape == "overwritten" else sum(run.entries for run in runs)
        kernel: list[float] = []
        heap: list[float] = []
        for _ in range(arguments.rounds):
            kernel.append(time_ns(merge_with_kernel, runs, expected))
            heap.append(time_ns(merge_with_heap, runs, expected))
        ratio = statistics.median(b / a for a, b in zip(kernel, heap, strict=True))
        print(f"{shape:14}{statistics.median(kernel):10.0f}{statistics.median(heap):10.0f}{ratio:8.1f}")


if __name__ == "__main__":
    main()

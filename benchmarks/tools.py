"""How fast are the offline tools?

    python benchmarks/tools.py [--entries 2_000_000] [--rounds 3] [--only compact] [--results DIRECTORY]

Makes one database of 16-byte keys and 100-byte values that compress to half, in random order, a third of them
written twice, so that it lies in several runs which overlap everywhere. Then each case runs `lamina VERB` as
a process on a copy of it, all cases in turn in each round, and the median is shown: time, entries and
megabytes of input per second, and CPU of all its processes. Entries and bytes are those that are stored, of
keys and values before compression; the copy is in the page cache.

To add a verb, add a case to CASES.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import (
    RESULTS,
    directory_size_bytes,
    machine_facts,
    make_keys,
    make_values,
    number,
    rotated,
    summary,
    table,
    write_result,
)

import lamina.engine as engine

QUESTION = "How fast are the offline tools?"
MIB = 1 << 20
BATCH = 1000
CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class Case:
    """One way to run a verb. `arguments` makes its command line of the copy and of a folder to write into."""

    name: str
    verb: str
    arguments: Callable[[Path, Path], list[str]]


CASES = (
    Case("compact, one process", "compact", lambda db, new: [str(db), "--jobs", "1"]),
    Case(f"compact, {CORES} processes", "compact", lambda db, new: [str(db), "--jobs", str(CORES)]),
    Case("compact into a new database", "compact", lambda db, new: [str(db), "--output", str(new / "db")]),
    Case("compact --dry-run", "compact", lambda db, new: [str(db), "--dry-run"]),
    Case("check", "check", lambda db, new: [str(db)]),
    Case("check --quick", "check", lambda db, new: [str(db), "--quick"]),
    Case("repair into a new database", "repair", lambda db, new: [str(db), "--output", str(new / "db")]),
    Case("stats", "stats", lambda db, new: [str(db)]),
    Case("stats --quick", "stats", lambda db, new: [str(db), "--quick"]),
    Case("dump keys --json", "dump", lambda db, new: ["keys", str(db)]),
)


def build(directory: Path, entries: int) -> None:
    """Make the database that all cases work on."""
    with engine.open(directory, memory=96 * MIB, level_runs_max=8, sync="no") as db:
        keys, values = make_keys(entries, seed=1), make_values(entries, seed=2)
        for first in (0, entries * 2 // 3):
            again = keys[: entries // 3] if first else keys
            for at in range(0, len(again), BATCH):
                with db.batch() as batch:
                    for key, value in zip(again[at : at + BATCH], values[at : at + BATCH]):
                        batch.put(key, value)
        db.flush()
        db.wait_idle()


def input_of(directory: Path) -> tuple[int, int]:
    """Return how many entries a database stores, and the bytes of their keys and values."""
    with engine.open(directory, read_only=True) as db:
        properties = [piece.segment.properties for piece in db.view.levels.slices]
    raw_bytes = sum(p.key_bytes + p.value_bytes for p in properties)
    return sum(p.entries for p in properties), raw_bytes


def measured(case: Case, source: Path, scratch: Path, entries: int, raw_bytes: int) -> dict[str, float]:
    """Run a case once on a fresh copy of the database."""
    copy, new = scratch / "copy", scratch / "new"
    for folder in (copy, new):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, copy)
    new.mkdir()
    command = [sys.executable, "-m", "lamina.tools", case.verb, *case.arguments(copy, new), "--json"]
    cpu_before, begun = children_cpu_s(), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall_s = time.perf_counter() - begun
    return {
        "wall_s": wall_s,
        "cpu_s": children_cpu_s() - cpu_before,
        "entries_per_s": entries / wall_s,
        "mib_per_s": raw_bytes / MIB / wall_s,
        "after_bytes": float(directory_size_bytes(new) or directory_size_bytes(copy)),
    }


def children_cpu_s() -> float:
    """Return the CPU of all children that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def show(results: dict[str, Any]) -> str:
    """Return the results as a table."""
    rows = [
        [
            name,
            number(figures["wall_s"]),
            number(figures["cpu_s"]),
            number(figures["entries_per_s"], 0),
            number(figures["mib_per_s"], 1),
            number(figures["after_bytes"] / MIB, 1),
        ]
        for name, figures in results.items()
    ]
    return table(["case", "s", "CPU s", "entries/s", "MiB/s", "MiB on disk after"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="only cases whose names contain this")
    parser.add_argument("--directory", type=Path, help="where databases are made (a temporary folder)")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    cases = [case for case in CASES if arguments.only in case.name]
    with tempfile.TemporaryDirectory(dir=arguments.directory) as folder:
        scratch = Path(folder)
        machine = machine_facts(scratch)
        source = scratch / "source"
        build(source, arguments.entries)
        entries, raw_bytes = input_of(source)
        size_bytes = directory_size_bytes(source)
        print(f"{entries:,} entries stored, {raw_bytes / MIB:,.1f} MiB, {size_bytes / MIB:,.1f} MiB on disk")
        rounds: dict[str, list[dict[str, float]]] = {case.name: [] for case in cases}
        for turn in range(arguments.rounds):
            for case in rotated(cases, turn):
                rounds[case.name].append(measured(case, source, scratch, entries, raw_bytes))
    results = {name: summary(figures) for name, figures in rounds.items()}
    print(show(results))
    options = {
        "entries": arguments.entries,
        "rounds": arguments.rounds,
        "stored_entries": entries,
        "raw_bytes": raw_bytes,
        "size_bytes": size_bytes,
    }
    print(json.dumps(options))
    print(write_result("tools", QUESTION, machine, options, results, arguments.results))


if __name__ == "__main__":
    main()

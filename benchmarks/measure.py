"""How do we measure, so that two figures in a table may be compared?

Every script in this folder uses these helpers and keeps these rules:

- Stores take turns within a round (A, B, C, then A, B, C again), because the machine is shared and its
  speed drifts. A ratio is taken between two measurements of the same round; the median of the rounds'
  ratios is what is reported.
- CPU time is the main figure, since it depends least on what else the machine does. It is reported in
  three parts: the calling thread, the whole process (LevelDB and RocksDB compact in threads of it) and
  Lamina's worker process.
- Processes are read through /proc and the CPU clocks of Linux, so the scripts run on Linux only.
"""

from __future__ import annotations

import datetime
import gc
import importlib.metadata
import json
import os
import platform
import random
import statistics
import struct
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

Item = TypeVar("Item")

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("plyvel", "rocksdict", "lz4", "google-crc32c", "crcmod", "sortedcontainers", "xxhash", "lamina")

KEY_SIZE_BYTES = 16
VALUE_SIZE_BYTES = 100
ENTRY_SIZE_BYTES = KEY_SIZE_BYTES + VALUE_SIZE_BYTES


# Keys and values


def make_keys(count: int, seed: int) -> list[bytes]:
    """Return `count` random keys of 16 bytes; the same seed gives the same keys."""
    blob = random.Random(seed).randbytes(KEY_SIZE_BYTES * count)
    return list(struct.unpack(f"{KEY_SIZE_BYTES}s" * count, blob))


def make_values(count: int, seed: int) -> list[bytes]:
    """Return `count` values of 100 bytes that compress to about half: 50 random bytes, twice.

    Source: LevelDB's db_bench makes its values in the same way for a compression ratio of 0.5.
    """
    half = VALUE_SIZE_BYTES // 2
    blob = random.Random(seed).randbytes(half * count)
    return [part * 2 for part in struct.unpack(f"{half}s" * count, blob)]


# Processes


def cpu_time_of(pid: int) -> float:
    """Return the CPU seconds that another process has used so far, all its threads, ended ones included.

    The process's own CPU clock counts nanoseconds, where /proc/PID/stat counts ticks of 10 ms. Its number
    is made as glibc's clock_getcpuclockid makes it. A process that is gone has used 0.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def descendants(pid: int) -> list[int]:
    """Return the live children of a process, their children and so on."""
    found: list[int] = []
    pending = [pid]
    while pending:
        for task in Path(f"/proc/{pending.pop()}/task").glob("*/children"):
            try:
                children = [int(word) for word in task.read_text().split()]
            except OSError:  # ended while we were looking
                continue
            found += children
            pending += children
    return found


def is_running(pid: int) -> bool:
    """Say whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def peak_memory_bytes(pid: int) -> int:
    """Return the largest resident size that a process has had (VmHWM), or 0 when it is gone."""
    return status_bytes(pid, "VmHWM")


def resident_memory_bytes(pid: int) -> int:
    """Return the resident size of a process now (VmRSS), or 0 when it is gone."""
    return status_bytes(pid, "VmRSS")


def status_bytes(pid: int, field: str) -> int:
    """Return a field of /proc/PID/status that is given in kB."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


@dataclass(frozen=True, slots=True)
class Written:
    """What processes have written: by system calls, and to the storage layer (truncated pages taken off)."""

    calls_bytes: int
    storage_bytes: int


def written_bytes(pids: Iterable[int]) -> Written:
    """Return what these processes and the children they have waited for have written (/proc/PID/io)."""
    calls = storage = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/io").read_text().splitlines()
        except OSError:
            continue
        fields = {name: int(number) for name, _, number in (line.partition(":") for line in lines)}
        calls += fields["wchar"]
        storage += fields["write_bytes"] - fields["cancelled_write_bytes"]
    return Written(calls, storage)


def directory_size_bytes(directory: Path, suffixes: tuple[str, ...] = ("",)) -> int:
    """Return the summed length of the files below a directory whose names end in one of the suffixes."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            if name.endswith(suffixes):
                try:
                    total += os.path.getsize(os.path.join(folder, name))
                except FileNotFoundError:  # compaction has just removed it
                    continue
    return total


# Time


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured run of an action. CPU runs until the store was at rest if it was told to settle."""

    operations: int
    thread_cpu_s: float
    process_cpu_s: float
    worker_cpu_s: float
    wall_s: float

    def per_operation_us(self) -> dict[str, float]:
        """Return the four times, and the sum of both processes' CPU, in µs per operation."""
        scale = 1e6 / self.operations
        return {
            "thread_cpu_us": self.thread_cpu_s * scale,
            "process_cpu_us": self.process_cpu_s * scale,
            "worker_cpu_us": self.worker_cpu_s * scale,
            "total_cpu_us": (self.process_cpu_s + self.worker_cpu_s) * scale,
            "wall_us": self.wall_s * scale,
        }


@dataclass(frozen=True, slots=True)
class Rest:
    """When a store came to rest (perf_counter), and what the calling thread spent on watching it."""

    at: float
    watching_cpu_s: float


def timed(
    action: Callable[[], int],
    worker_pids: Callable[[], list[int]],
    settle: Callable[[], Rest] | None = None,
) -> Sample:
    """Run an action that returns how many operations it did, and measure it.

    With `settle`, CPU counts until the store is at rest, so that flushes and compactions are paid for by
    the writes that caused them; wall time still ends when the action returns.
    """
    gc.collect()
    workers = worker_pids()
    workers_start = sum(map(cpu_time_of, workers))
    process_start, thread_start = time.process_time(), time.thread_time()
    wall_start = time.perf_counter()
    operations = action()
    wall = time.perf_counter() - wall_start
    thread = time.thread_time() - thread_start
    watching = settle().watching_cpu_s if settle else 0.0
    process = time.process_time() - process_start - watching
    workers_end = sum(map(cpu_time_of, {*workers, *worker_pids()}))
    return Sample(operations, thread, process, max(0.0, workers_end - workers_start), wall)


def wait_until_quiet(quiet_ms: int = 300, timeout_s: float = 3600.0) -> Rest:
    """Wait until no other thread of this process has used CPU, written or run for a while.

    For stores that cannot say themselves whether a compaction is under way. A thread that waits for the
    disk (state D) is not at rest, so a slow fsync does not pass for the end.
    """
    watching_start = time.thread_time()
    deadline = time.monotonic() + timeout_s
    last_change = time.perf_counter()
    before = background_activity()
    while time.perf_counter() - last_change < quiet_ms / 1000:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the store was not at rest after {timeout_s} s")
        time.sleep(0.02)
        now = background_activity()
        # Half a millisecond of CPU is a library's timer, not a compaction.
        if now[1] != before[1] or now[0] - before[0] > 0.0005 or other_threads_busy():
            before, last_change = now, time.perf_counter()
    return Rest(last_change, time.thread_time() - watching_start)


def background_activity() -> tuple[float, int]:
    """Return the CPU seconds of this process's other threads and the bytes that it has written."""
    return time.process_time() - time.thread_time(), written_bytes([os.getpid()]).calls_bytes


def other_threads_busy() -> bool:
    """Say whether another thread of this process is running or waiting for the disk."""
    own = time_thread_id()
    for task in os.listdir("/proc/self/task"):
        if int(task) != own:
            try:
                state = Path(f"/proc/self/task/{task}/stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if state in "RD":
                return True
    return False


def time_thread_id() -> int:
    """Return the kernel's number of the calling thread."""
    return int(os.readlink("/proc/thread-self").rpartition("/")[2])


# Figures


def rotated(items: Sequence[Item], by: int) -> list[Item]:
    """Return the items beginning `by` places later, so that no store always comes first."""
    by %= len(items)
    return [*items[by:], *items[:by]]


def summary(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the median over the rounds of each figure."""
    return {name: statistics.median(figures[name] for figures in rounds) for name in rounds[0]}


def ratios(rounds: Sequence[dict[str, float]], base: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure's ratio to the base store's figure of the same round."""
    return {
        name: statistics.median(mine[name] / theirs[name] for mine, theirs in zip(rounds, base, strict=True))
        for name in rounds[0]
        if all(theirs[name] > 0 for theirs in base)
    }


def percentile(histogram: dict[int, int], share: float) -> int:
    """Return the smallest value below or at which `share` of a histogram (value -> count) lies."""
    wanted = share * sum(histogram.values())
    seen = 0
    for value in sorted(histogram):
        seen += histogram[value]
        if seen >= wanted:
            return value
    raise ValueError("the histogram is empty")


def number(value: float | None, digits: int = 2) -> str:
    """Return a figure for a table; a dash where there is none."""
    return "-" if value is None else f"{value:,.{digits}f}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 1) -> str:
    """Return a Markdown table that reads well on a terminal too; all but the first columns are numbers."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    marks = [
        "-" * width if column < text_columns else "-" * (width - 1) + ":"
        for column, width in enumerate(widths)
    ]
    lines.insert(1, marks)
    return "\n".join(
        "| "
        + " | ".join(
            cell.ljust(width) if column < text_columns else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in lines
    )


# Results


def machine_facts(directory: Path) -> dict[str, Any]:
    """Return what one has to know about the machine to judge a figure."""
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    cpu = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    memory_kib = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": cpu[0] if cpu else platform.machine(),
        "memory_bytes": memory_kib * 1024,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "libraries": versions,
        "filesystem": filesystem_of(directory),
        "load_average_at_start": os.getloadavg()[0],
    }


def filesystem_of(directory: Path) -> str:
    """Return the type of the file system that a directory lies on."""
    path = directory.resolve()
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    holding = [(len(point), kind) for _, point, kind, *_ in mounts if path.is_relative_to(point)]
    return max(holding)[1] if holding else "unknown"


def commit() -> str | None:
    """Return the commit of the checkout, with a plus sign where files differ from it; None outside of one."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def write_result(
    name: str, question: str, machine: dict[str, Any], options: dict[str, Any], results: Any, directory: Path
) -> Path:
    """Write one run's results to NAME.json, replacing an earlier run's, and return the path.

    `machine` is passed in because its load average has to be read before the run.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.json"
    document = {
        "name": name,
        "question": question,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine,
        "options": options,
        "results": results,
    }
    beside = path.with_suffix(".json.new")
    beside.write_text(json.dumps(document, indent=1, sort_keys=False) + "\n")
    beside.replace(path)
    return path

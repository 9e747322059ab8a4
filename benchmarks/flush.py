"""What does a flush cost, step by step? Reading a log, making a memtable of it, writing the segment.

    python benchmarks/flush.py [ENTRIES]

Prints CPU microseconds per entry for logs of single puts and for logs of batches of 100, 16-byte keys and
100-byte values.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import threading
import time

import lamina.engine as engine
from lamina.engine.compaction.job import FlushJob, Output, run_flush
from lamina.engine.filenames import wal_name
from lamina.engine.filesystem import DiskFileSystem, read_file
from lamina.engine.memtable import Memtable
from lamina.engine.wal import WalContents, read_wal


def write_log(path: str, entries: int, batch_size: int) -> int:
    """Fill a database's first log and return its number."""
    source = random.Random(1)
    with engine.open(path, counted=False, sync="no", background="inline", memtable_size_bytes=1 << 34) as db:
        number = db.view.memtables[0].wals[-1]
        for _ in range(entries // batch_size):
            pairs = [(source.randbytes(16), source.randbytes(50) + bytes(50)) for _ in range(batch_size)]
            if batch_size == 1:
                db.put(*pairs[0])
                continue
            with db.batch() as batch:
                for key, value in pairs:
                    batch.put(key, value)
        os.link(os.path.join(path, wal_name(number)), os.path.join(path, "kept"))
    os.rename(os.path.join(path, "kept"), os.path.join(path, wal_name(number)))
    return number


def measure(entries: int, batch_size: int) -> list[tuple[str, float]]:
    """Return (step, CPU µs per entry) for the steps of one flush."""
    fs = DiskFileSystem()
    with tempfile.TemporaryDirectory() as path:
        number = write_log(path, entries, batch_size)
        times = [time.process_time()]
        log = os.path.join(path, wal_name(number))
        contents = read_wal(log, read_file(fs, log))
        assert isinstance(contents, WalContents)
        times.append(time.process_time())
        memtable = Memtable(counted=False, lock=threading.Lock())
        memtable.replay(contents.payloads)
        times.append(time.process_time())
        memtable.columns()
        times.append(time.process_time())
        output = Output(path, 8192, 32 << 20, True, 10, False, 0, 1, number, number, 100, 200, 0, 0)
        run_flush(fs, FlushJob([number], False, [], output), memtable)
        times.append(time.process_time())
    steps = ("read the log", "make a memtable", "sort", "sort and write the segment")
    return [(step, (b - a) / entries * 1e6) for step, a, b in zip(steps, times, times[1:], strict=False)]


def main() -> None:
    """Measure both kinds of logs."""
    entries = int(sys.argv[1]) if len(sys.argv) > 1 else 150_000
    for batch_size in (1, 100):
        for step, cost in measure(entries, batch_size):
            print(f"batches of {batch_size:3}: {step:28} {cost:6.2f} µs per entry")


if __name__ == "__main__":
    main()

"""How long does a server keep a client waiting that asks for next to nothing?

    python benchmarks/pauses.py PORT [--seconds 10]

A process of its own sends a PING every millisecond and notes how long each reply takes. PINGs that would have
been due while one was waited for are not made up for: each stands for a moment at which somebody asked.
What the machine itself adds is told apart: `late` is how much later than asked the process woke up from its
sleep, so a longest wait that is not much above the latest waking says nothing against the server.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import sys
import time
from collections import Counter
from multiprocessing.connection import Connection as Pipe
from typing import Any

from measure import number, percentile, table
from servers import Connection, encode

QUESTION = "How long does a server keep a client waiting that asks for next to nothing?"
INTERVAL_S = 0.001
SHARES = (50, 99, 99.9)


def _ping(port: int, pipe: Pipe) -> None:
    """Send PINGs until something arrives on the pipe; answer with the two histograms."""
    waits_us: Counter[int] = Counter()
    late_us: Counter[int] = Counter()
    clock = time.perf_counter_ns
    ping = encode(["PING"])
    gc.disable()
    with Connection(port) as connection:
        pipe.send("ready")
        while not pipe.poll():
            before = clock()
            time.sleep(INTERVAL_S)
            start = clock()
            connection.send(ping)
            connection.read()
            waits_us[(clock() - start) // 1000] += 1
            late_us[max(0, (start - before) // 1000 - int(INTERVAL_S * 1e6))] += 1
    pipe.send((waits_us, late_us))


class Pinger:
    """Watches a server from `start` to `stop`."""

    def __init__(self, port: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_ping, args=(port, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.recv()

    def stop(self) -> dict[str, Any]:
        """Return the percentiles in ms, `max` the longest, and how late the process itself woke up."""
        self._pipe.send("stop")
        waits_us, late_us = self._pipe.recv()
        self._process.join()
        figures: dict[str, Any] = {"pings": sum(waits_us.values())}
        for name, histogram in (("wait", waits_us), ("late", late_us)):
            for share in SHARES:
                figures[f"{name}_p{share:g}_ms"] = percentile(histogram, share / 100) / 1000
            figures[f"{name}_max_ms"] = max(histogram) / 1000
        return figures


def pause_table(rows: dict[str, dict[str, Any]]) -> str:
    """Return a table of what `Pinger.stop` has returned, a row for each name."""
    columns = [f"{name}_{share}_ms" for name in ("wait", "late") for share in ("p50", "p99", "p99.9", "max")]
    header = ["PING every ms, in ms", "pings"]
    header += [column.removesuffix("_ms").replace("_", " ") for column in columns]
    lines = [
        [name, number(figures["pings"], 0), *(number(figures[column]) for column in columns)]
        for name, figures in rows.items()
    ]
    return table(header, lines)


def main() -> int:
    """Watch a server that is running."""
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("port", type=int)
    parser.add_argument("--seconds", type=float, default=10)
    arguments = parser.parse_args()
    pinger = Pinger(arguments.port)
    time.sleep(arguments.seconds)
    print(pause_table({f"port {arguments.port}": pinger.stop()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What does a command cost the server, compared with redis-server?

    python benchmarks/server.py [--tests SET,GET] [--rounds 3] [--requests 40000] [--pipeline 1,16]

Both servers are started with everything acknowledged in a log that is synced every second, and driven by
redis-benchmark with 50 clients over 100,000 random keys. The figure is CPU time of the server's process
per command, from before to after each test; CPU of the processes that the server has started (Lamina's
worker) is told apart and not in the ratio, as it runs on another core. The servers take turns within a
round; ratios are taken within a round and their median is reported.

The order of the tests matters: RPOP, SPOP, ZPOPMIN and LRANGE consume what the tests before have filled,
XREADGROUP reads it, GEOSEARCH searches it.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import machine_facts, number, table, write_result
from servers import SERVERS, BenchmarkError, Server, directory_for, names_of, progress

QUESTION = "What does a command cost the server, compared with redis-server?"
CLIENTS = 50
KEYS = 100_000
LIST = "list"
LIST_LENGTH = 10_000
STREAM = "stream"
GROUP = "group"
BITMAP = "bitmap"
BITMAP_SIZE_BYTES = 1_000_000
RANDOM = "__rand_int__"
PLACE = (f"{RANDOM}e-3", f"{RANDOM}e-4")
"""Longitude and latitude: 100 degrees by 10, in which a circle of 20 km has some ten places."""
SCRIPT = "return redis.call('GET', KEYS[1])"
PIPELINED_FACTOR = 5
"""Pipelined commands cost a fraction, so that many more are needed for as exact a figure."""

TESTS = {
    # name as reported: what redis-benchmark's -t takes, or a command line. LRANGE is given as one because
    # -t lrange_100 would measure the LPUSHes that fill its list as well.
    "PING_MBULK": "ping_mbulk",
    "SET": "set",
    "GET": "get",
    "INCR": "incr",
    "LPUSH": "lpush",
    "RPOP": "rpop",
    "SADD": "sadd",
    "HSET": "hset",
    "SPOP": "spop",
    "ZADD": "zadd",
    "ZPOPMIN": "zpopmin",
    "LRANGE_100": ["LRANGE", LIST, "0", "99"],
    "MSET": "mset",
    "XADD": ["XADD", STREAM, "*", "field", "value"],
    "XREADGROUP": ["XREADGROUP", "GROUP", GROUP, "consumer", "COUNT", "1", "STREAMS", STREAM, ">"],
    "SETBIT": ["SETBIT", f"bits:{RANDOM}", "700", "1"],
    "BITCOUNT_1MB": ["BITCOUNT", BITMAP],
    "PFADD": ["PFADD", "hll", f"element:{RANDOM}"],
    "GEOADD": ["GEOADD", "geo", *PLACE, f"member:{RANDOM}"],
    "EVALSHA": ["EVALSHA", hashlib.sha1(SCRIPT.encode()).hexdigest(), "1", f"key:{RANDOM}"],
    "GEOSEARCH": ["GEOSEARCH", "geo", "FROMLONLAT", *PLACE, "BYRADIUS", "20", "km"],
}
HEAVY = {"LRANGE_100": 4, "MSET": 4, "BITCOUNT_1MB": 100, "GEOSEARCH": 10}
"""Tests whose commands cost several times as much get fewer requests."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One test of one server in one round."""

    server_us: float
    children_us: float
    requests_per_s: float


Figures = dict[tuple[str, int, str], list[Figure]]
"""(test, pipeline, server) -> one figure a round."""


def run_benchmark(server: Server, test: str, requests: int, pipeline: int) -> float:
    """Run one of redis-benchmark's tests; return the requests per second it reports."""
    command = ["redis-benchmark", "-p", str(server.port), "-n", str(requests), "-c", str(CLIENTS)]
    command += ["-P", str(pipeline), "-r", str(KEYS), "--csv"]
    wanted = TESTS[test]
    command += ["-t", wanted] if isinstance(wanted, str) else wanted
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    said = done.stdout + done.stderr
    rows = [row for row in csv.reader(done.stdout.splitlines()) if len(row) > 1 and row[0] != "test"]
    if done.returncode or len(rows) != 1 or "Error" in said or "ERR" in said:
        raise BenchmarkError(f"{' '.join(command)}: {said}\n{server.log_end()}")
    return float(rows[0][1])


def measure_test(server: Server, test: str, requests: int, pipeline: int) -> Figure:
    """Run one test and return what it cost the server."""
    count = max(requests // HEAVY.get(test, 1), CLIENTS * pipeline) // pipeline * pipeline
    if test == "LRANGE_100":
        with server.connect() as connection:
            connection.call("DEL", LIST)
            connection.call("RPUSH", LIST, *["xxx"] * LIST_LENGTH)
    elif test == "XREADGROUP":
        with server.connect() as connection:
            connection.call("XGROUP", "DESTROY", STREAM, GROUP)
            connection.call("XGROUP", "CREATE", STREAM, GROUP, "0")
    elif test == "EVALSHA":
        with server.connect() as connection:
            connection.call("SCRIPT", "LOAD", SCRIPT)
    elif test == "BITCOUNT_1MB":
        with server.connect() as connection:
            connection.call("SET", BITMAP, b"\x55" * BITMAP_SIZE_BYTES)
    before = server.cpu_s()
    rate = run_benchmark(server, test, count, pipeline)
    after = server.cpu_s()
    scale = 1e6 / count
    return Figure((after[0] - before[0]) * scale, max(0.0, after[1] - before[1]) * scale, rate)


def measure(arguments: argparse.Namespace, servers: Sequence[Server]) -> Figures:
    """Run all rounds; the servers take turns test by test, and who comes first changes with the round."""
    figures: Figures = {}
    for turn in range(arguments.rounds):
        for pipeline in arguments.pipeline:
            for server in servers:
                with server.connect() as connection:
                    connection.call("FLUSHALL")
            requests = arguments.requests * (PIPELINED_FACTOR if pipeline > 1 else 1)
            for test in arguments.tests:
                for server in servers if turn % 2 == 0 else servers[::-1]:
                    figure = measure_test(server, test, requests, pipeline)
                    figures.setdefault((test, pipeline, server.name), []).append(figure)
                progress(f"round {turn + 1}, pipeline {pipeline}: {test}")
    progress(f"{arguments.rounds} rounds of {len(arguments.tests)} tests", last=True)
    return figures


def median(figures: Sequence[Figure], field: str) -> float:
    """Return the median of one field."""
    return float(statistics.median(getattr(figure, field) for figure in figures))


def ratio(mine: Sequence[Figure], theirs: Sequence[Figure]) -> float:
    """Return the median over the rounds of the ratio of server CPU."""
    return statistics.median(a.server_us / b.server_us for a, b in zip(mine, theirs, strict=True))


def report(arguments: argparse.Namespace, figures: Figures) -> list[dict[str, Any]]:
    """Print a table for each pipeline length and return its figures."""
    names = arguments.servers
    results: list[dict[str, Any]] = []
    for pipeline in arguments.pipeline:
        rows = []
        for test in arguments.tests:
            one = {name: figures[test, pipeline, name] for name in names}
            result: dict[str, Any] = {"test": test, "pipeline": pipeline}
            for name in names:
                for field in ("server_us", "children_us", "requests_per_s"):
                    result[f"{name}_{field}"] = round(median(one[name], field), 3)
            cells = [number(result[f"{name}_server_us"]) for name in names]
            if len(names) == 2:
                result["ratio"] = round(ratio(one[names[1]], one[names[0]]), 3)
                cells.append(number(result["ratio"]))
            cells += [number(result[f"{name}_children_us"]) for name in names]
            cells += [number(result[f"{name}_requests_per_s"], 0) for name in names]
            rows.append([test, *cells])
            results.append(result)
        header = [f"-P {pipeline}: CPU µs per command", *names, *(["ratio"] if len(names) == 2 else [])]
        header += [f"{name} children" for name in names] + [f"{name} per s" for name in names]
        print("\n" + table(header, rows))
    return results


def parse_arguments() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--tests", type=names_of(tuple(TESTS)), default=list(TESTS), help="comma-separated")
    parser.add_argument("--servers", type=names_of(SERVERS), default=list(SERVERS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=40_000, help="per test; 5 times as many pipelined")
    parser.add_argument("--pipeline", type=lambda text: list(map(int, text.split(","))), default=[1, 16])
    parser.add_argument("--lamina-flags", type=str.split, default=[], help="added to lamina's command line")
    parser.add_argument("--json", type=Path, help="keep the results in this file")
    return parser.parse_args()


def main() -> int:
    """Measure, print and keep."""
    arguments = parse_arguments()
    with directory_for(None) as directory, ExitStack() as stack:
        machine = machine_facts(directory)
        servers = []
        for name in arguments.servers:
            flags = arguments.lamina_flags if name == "lamina" else []
            servers.append(stack.enter_context(Server(name, directory / name, flags)))
        figures = measure(arguments, servers)
    results = report(arguments, figures)
    if arguments.json:
        options = {name: value for name, value in vars(arguments).items() if name != "json"}
        folder, name = arguments.json.parent, arguments.json.stem
        print("\nkept in", write_result(name, QUESTION, machine, options, results, folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())

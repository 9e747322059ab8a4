"""What does a server do with far more data than it may keep in memory?

    python benchmarks/server_large.py [--keys 5_000_000] [--memory 256mb] [--servers lamina] [--json FILE]

Loads every key once in random order with pipelined SETs over several connections, while another process
sends a PING every millisecond; waits for rest; reads and writes random keys of the whole range with
redis-benchmark, in several processes; stops the server and starts it again, then kills it and starts it
again, each time until it answers. Values are 100 bytes that compress to half. `--servers redis,lamina` shows
redis-server beside.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from measure import directory_size_bytes, machine_facts, make_values, number, table, write_result
from pauses import Pinger, pause_table
from servers import (
    SERVERS,
    BenchmarkError,
    Server,
    directory_for,
    names_of,
    progress,
    shuffled,
    wait_until_idle,
)

QUESTION = "What does a server do with far more data than it may keep in memory?"
CONNECTIONS = 4
BATCH = 32
VALUE_POOL_SIZE = 10_007
SET_HEAD = b"*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$100\r\n"
"""Keys have the form that redis-benchmark gives to key:__rand_int__."""

OK = b"+OK\r\n"
MIB = 1 << 20


def load(server: Server, keys: int) -> dict[str, Any]:
    """SET all keys; return the time, the CPU, and the memory at its peak."""
    tails = [value + b"\r\n" for value in make_values(VALUE_POOL_SIZE, seed=1)]
    sockets = [server.connect().socket for _ in range(CONNECTIONS)]
    before, begun, shown = server.cpu_s(), time.perf_counter(), 0.0
    at = 0
    while at < keys:
        sent = []
        for sock in sockets:
            stop = min(at + BATCH, keys)
            sock.sendall(
                b"".join(
                    [SET_HEAD % (shuffled(n, keys)) + tails[n % VALUE_POOL_SIZE] for n in range(at, stop)]
                )
            )
            sent.append(stop - at)
            at = stop
        for sock, count in zip(sockets, sent, strict=True):
            expect_ok(sock, count)
        if time.perf_counter() - shown > 1:
            shown = time.perf_counter()
            server.memory()  # remembers the children's peak
            progress(f"{server.name}: {at:,} of {keys:,} keys, {at / (shown - begun):,.0f}/s")
    wall = time.perf_counter() - begun
    after = server.cpu_s()
    for sock in sockets:
        sock.close()
    progress(f"{server.name}: {keys:,} keys in {wall:.1f} s", last=True)
    return {
        "load_s": wall,
        "load_per_s": keys / wall,
        "load_server_cpu_us": (after[0] - before[0]) * 1e6 / keys,
        "load_children_cpu_us": (after[1] - before[1]) * 1e6 / keys,
    }


def expect_ok(sock: Any, count: int) -> None:
    """Read `count` replies, each of which must be +OK."""
    missing = count * len(OK)
    pieces = []
    while missing:
        piece = sock.recv(missing)
        if not piece:
            raise BenchmarkError("the server closed the connection")
        pieces.append(piece)
        missing -= len(piece)
    if b"".join(pieces) != OK * count:
        raise BenchmarkError(f"replied {b''.join(pieces)[:200]!r}")


def random_access(
    server: Server, name: str, keys: int, requests: int, pipeline: int, processes: int
) -> dict[str, Any]:
    """Read or write random keys from several redis-benchmark processes; return rate and CPU."""
    words = ["GET", "key:__rand_int__"] if name == "GET" else ["SET", "key:__rand_int__", "v" * 100]
    command = ["redis-benchmark", "-p", str(server.port), "-n", str(requests // processes)]
    command += ["-c", str(50 // processes), "-P", str(pipeline), "-r", str(keys), "--csv", *words]
    before, begun = server.cpu_s(), time.perf_counter()
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(processes)
    ]
    said = [process.communicate(timeout=1800)[0] for process in running]
    wall, after = time.perf_counter() - begun, server.cpu_s()
    for process, text in zip(running, said, strict=True):
        if process.returncode or "rror" in text or "ERR" in text:
            raise BenchmarkError(f"{' '.join(command)}: {text}\n{server.log_end()}")
    count = requests // processes * processes
    return {
        "command": name,
        "pipeline": pipeline,
        "per_s": count / wall,
        "server_cpu_us": (after[0] - before[0]) * 1e6 / count,
        "children_cpu_us": (after[1] - before[1]) * 1e6 / count,
    }


def check(server: Server, keys: int) -> None:
    """Assert that nothing is missing."""
    with server.connect() as connection:
        size = connection.call("DBSIZE")
        if size != keys:
            raise BenchmarkError(f"{server.name} has {size} keys of {keys}")
        for index in (0, keys // 2, keys - 1):
            value = connection.call("GET", b"key:%012d" % index)
            if value is None or len(value) != 100:
                raise BenchmarkError(f"{server.name}: key {index} is {value!r}")


def measure(server: Server, arguments: argparse.Namespace) -> dict[str, Any]:
    """Do everything with one server; it is started and ended here."""
    keys = arguments.keys
    figures: dict[str, Any] = {"server": server.name, "keys": keys, "create_s": server.start()}
    pinger = Pinger(server.port)
    figures |= load(server, keys)
    figures["memory_after_load"] = server.memory()
    figures["pauses"] = {"load": pinger.stop()}
    pinger = Pinger(server.port)
    figures["rest_after_s"] = wait_until_idle(server)
    figures["pauses"]["until rest"] = pinger.stop()
    figures["disk_bytes"] = directory_size_bytes(server.directory)
    check(server, keys)
    figures["access"] = []
    for pipeline in (1, 16):
        requests = arguments.requests * (2 if pipeline > 1 else 1)
        for name in ("GET", "SET"):
            progress(f"{server.name}: random {name}, pipeline {pipeline}")
            pinger = Pinger(server.port)
            figures["access"].append(
                random_access(server, name, keys, requests, pipeline, arguments.processes)
            )
            figures["pauses"][f"{name}, -P {pipeline}"] = pinger.stop()
    figures["memory_at_end"] = server.memory()
    figures["stop_s"] = server.end()
    figures["reopen_clean_s"] = server.start()
    check(server, keys)
    # Something to recover: the log of a memtable that has not been flushed.
    random_access(server, "SET", keys, arguments.requests, 16, 1)
    server.end(signal.SIGKILL)
    figures["reopen_killed_s"] = server.start()
    check(server, keys)
    server.end()
    return figures


def mib(size_bytes: int) -> str:
    """Return a size for a table."""
    return number(size_bytes / MIB, 0)


def report(results: list[dict[str, Any]]) -> None:
    """Print the tables."""
    rows: list[tuple[str, Any]] = [
        ("keys", lambda r: number(r["keys"], 0)),
        ("load: keys per s", lambda r: number(r["load_per_s"], 0)),
        ("load: server CPU, µs per key", lambda r: number(r["load_server_cpu_us"])),
        ("load: children's CPU, µs per key", lambda r: number(r["load_children_cpu_us"])),
        ("at rest after, s", lambda r: number(r["rest_after_s"], 1)),
        ("on disk, MiB", lambda r: mib(r["disk_bytes"])),
        ("resident after the load, MiB", lambda r: mib(r["memory_after_load"]["server_bytes"])),
        ("resident at the end, MiB", lambda r: mib(r["memory_at_end"]["server_bytes"])),
        ("resident at the peak, MiB", lambda r: mib(r["memory_at_end"]["server_peak_bytes"])),
        ("children at the end, MiB", lambda r: mib(r["memory_at_end"]["children_bytes"])),
        ("children at the peak, MiB", lambda r: mib(r["memory_at_end"]["children_peak_bytes"])),
        ("stop, s", lambda r: number(r["stop_s"])),
        ("start after a clean stop, s", lambda r: number(r["reopen_clean_s"])),
        ("start after kill -9, s", lambda r: number(r["reopen_killed_s"])),
    ]
    names = [result["server"] for result in results]
    print(table(["", *names], [[label, *map(value, results)] for label, value in rows]))
    for result in results:
        print()
        print(
            table(
                [f"{result['server']}: random keys", "-P", "per s", "server CPU µs", "children's CPU µs"],
                [
                    [
                        one["command"],
                        str(one["pipeline"]),
                        number(one["per_s"], 0),
                        number(one["server_cpu_us"]),
                        number(one["children_cpu_us"]),
                    ]
                    for one in result["access"]
                ],
            )
        )
        print()
        print(pause_table({f"{result['server']}: {name}": one for name, one in result["pauses"].items()}))


def main() -> int:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--keys", type=int, default=5_000_000)
    parser.add_argument("--memory", default="256mb", help="Lamina's --memory")
    parser.add_argument("--servers", type=names_of(SERVERS), default=["lamina"])
    parser.add_argument("--requests", type=int, default=200_000, help="per random test; twice that pipelined")
    parser.add_argument("--processes", type=int, default=2, help="clients of the random tests")
    parser.add_argument("--lamina-flags", type=str.split, default=[], help="added to lamina's command line")
    parser.add_argument("--directory", type=Path, help="where the data lies; a temporary folder by default")
    parser.add_argument("--json", type=Path, help="keep the results in this file")
    arguments = parser.parse_args()
    results = []
    with directory_for(arguments.directory) as directory:
        machine = machine_facts(directory)
        for name in arguments.servers:
            flags = ["--memory", arguments.memory, *arguments.lamina_flags] if name == "lamina" else []
            with closing(Server(name, directory / name, flags)) as server:
                results.append(measure(server, arguments))
    report(results)
    if arguments.json:
        options = {key: str(value) for key, value in vars(arguments).items() if key != "json"}
        folder, name = arguments.json.parent, arguments.json.stem
        print("\nkept in", write_result(name, QUESTION, machine, options, results, folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What does one command cost on a collection of millions that lies on disk?

    python benchmarks/complexity.py [--members 1_000_000] [--members 10_000_000] [--servers lamina]

Builds a sorted set, a list, a set and a hash of N members each and N / 10 keys beside them, restarts the
server, so that nothing is cached, and sends single commands one after the other over one connection. `first`
is the first of its kind, with nothing in the cache; the time of a PING says what of each is the connection's.
A command that takes long is repeated less often: until its share of time (--seconds) is used up.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import machine_facts, number, table, write_result
from servers import (
    SERVERS,
    Connection,
    Server,
    directory_for,
    encode,
    names_of,
    progress,
    shuffled,
    wait_until_idle,
)

QUESTION = "What does one command cost on a collection of millions that lies on disk?"
VARIADIC = 500
PIPELINE = 8
PIVOT = b"pivot"
SEED = 7

Words = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Case:
    """A command, made anew for each time, and how often it is sent at most."""

    name: str
    command: Callable[[], Words]
    times: int


def building(members: int) -> Iterator[Words]:
    """Yield the commands that make the collections; members come in an order that looks random."""
    chance = random.Random(SEED)
    half = members // 2 // VARIADIC * VARIADIC
    for start in range(0, members, VARIADIC):
        numbers = range(start, min(start + VARIADIC, members))
        names = [b"m:%09d" % shuffled(n, members) for n in numbers]
        scores = chance.choices(range(members), k=len(names))
        yield ["ZADD", "zset", *(word for pair in zip(scores, names, strict=True) for word in pair)]
        if start == half:
            yield ["RPUSH", "list", PIVOT]
        yield ["RPUSH", "list", *names]
        yield ["SADD", "set", *names]
        yield ["HSET", "hash", *(word for name in names for word in (name, name))]
        yield ["MSET", *(word for n in numbers[::10] for word in (b"key:%d" % n, b"value"))]


def build(server: Server, members: int) -> float:
    """Make the collections; return the seconds that took."""
    begun = time.perf_counter()
    with server.connect() as connection:
        waiting: list[bytes] = []
        for at, words in enumerate(building(members)):
            waiting.append(encode(words))
            if len(waiting) == PIPELINE:
                connection.pipeline(waiting)
                waiting.clear()
            if at % 1000 == 0:
                progress(f"{server.name}: {at // 5 * VARIADIC:,} of {members:,} members")
        connection.pipeline(waiting)
        sizes = [connection.call(*words) for words in SIZES]
    expected = [members, members + 1, members, members, 4 + (members + 9) // 10]
    assert sizes == expected, f"built {sizes} instead of {expected}"
    progress(f"{server.name}: {members:,} members of four kinds", last=True)
    return time.perf_counter() - begun


SIZES = (("ZCARD", "zset"), ("LLEN", "list"), ("SCARD", "set"), ("HLEN", "hash"), ("DBSIZE",))


def cases(members: int, times: int) -> Iterator[Case]:
    """Yield the cases in an order in which those that destroy come last."""
    chance = random.Random(SEED + 1)
    middle = members // 2

    def member() -> bytes:
        return b"m:%09d" % chance.randrange(members)

    def near_the_middle() -> int:
        return middle + chance.randrange(-middle // 2, middle // 2)

    def middle_range() -> Words:
        start = near_the_middle()
        return ["ZRANGE", "zset", start, start + 9]

    def score_range() -> Words:
        low = chance.randrange(members)
        return ["ZCOUNT", "zset", low, low + members // 3]

    names = iter(range(10**9))

    def renamed() -> Words:
        at = next(names)
        return ["RENAME", f"zset:{at - 1}" if at else "zset", f"zset:{at}"]

    yield Case("PING", lambda: ["PING"], times)
    yield Case("ZRANK", lambda: ["ZRANK", "zset", member()], times)
    yield Case("ZRANGE by index", middle_range, times)
    yield Case("ZCOUNT a third", score_range, times)
    yield Case("LINDEX", lambda: ["LINDEX", "list", near_the_middle()], times)
    yield Case("SISMEMBER", lambda: ["SISMEMBER", "set", member()], times)
    yield Case("HGET", lambda: ["HGET", "hash", member()], times)
    yield Case("SRANDMEMBER", lambda: ["SRANDMEMBER", "set"], times)
    yield Case("HRANDFIELD", lambda: ["HRANDFIELD", "hash"], times)
    yield Case("RANDOMKEY", lambda: ["RANDOMKEY"], times)
    yield Case("DBSIZE", lambda: ["DBSIZE"], times)
    yield Case("ZADD", lambda: ["ZADD", "zset", chance.randrange(members), member()], times)
    yield Case("SPOP", lambda: ["SPOP", "set"], times)
    yield Case("LINSERT in the middle", lambda: ["LINSERT", "list", "BEFORE", PIVOT, "x"], 1000)
    yield Case("LINDEX after it", lambda: ["LINDEX", "list", near_the_middle()], times)
    yield Case("RENAME", renamed, times)
    yield Case("EXPIRE", lambda: ["EXPIRE", "hash", 10_000 + chance.randrange(1000)], times)
    yield Case("PERSIST", lambda: ["PERSIST", "hash"], 1)
    yield Case("DEL list", lambda: ["DEL", "list"], 1)
    yield Case("UNLINK set", lambda: ["UNLINK", "set"], 1)
    yield Case("SET over a hash", lambda: ["SET", "hash", "x"], 1)
    yield Case("DBSIZE after them", lambda: ["DBSIZE"], times)
    yield Case("FLUSHALL", lambda: ["FLUSHALL"], 1)
    yield Case("PING after it", lambda: ["PING"], times)


def run(connection: Connection, case: Case, seconds: float) -> dict[str, Any]:
    """Send one case's commands one after the other and return its latencies in ms."""
    latencies_ms: list[float] = []
    clock = time.perf_counter
    deadline = clock() + seconds
    for _ in range(case.times):
        data = encode(case.command())
        before = clock()
        connection.send(data)
        reply = connection.read()
        latencies_ms.append((clock() - before) * 1000)
        assert reply is not None, f"{data[:100]!r} found nothing"
        if clock() > deadline:
            break
    return {
        "command": case.name,
        "times": len(latencies_ms),
        "first_ms": latencies_ms[0],
        "median_ms": statistics.median(latencies_ms),
        "max_ms": max(latencies_ms),
    }


def measure(server: Server, members: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Build, restart, measure; the server is started and ended here."""
    server.start()
    build_s = build(server, members)
    wait_until_idle(server)
    stop_s, start_s = server.end(), server.start()
    results = []
    with server.connect() as connection:
        for case in cases(members, arguments.times):
            progress(f"{server.name}: {members:,} members, {case.name}")
            results.append(run(connection, case, arguments.seconds))
    progress(f"{server.name}: {members:,} members measured", last=True)
    server.end()
    return {
        "server": server.name,
        "members": members,
        "build_s": build_s,
        "stop_s": stop_s,
        "start_s": start_s,
        "commands": results,
    }


def report(result: dict[str, Any]) -> None:
    """Print the table of one server and size."""
    print(
        f"\n{result['server']}, {result['members']:,} members: built in {result['build_s']:.1f} s,"
        f" stopped in {result['stop_s']:.2f} s, started in {result['start_s']:.2f} s\n"
    )
    rows = [
        [
            one["command"],
            number(one["times"], 0),
            *(number(one[f"{name}_ms"], 3) for name in ("first", "median", "max")),
        ]
        for one in result["commands"]
    ]
    print(table(["command", "times", "first ms", "median ms", "max ms"], rows))


def main() -> int:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--members", type=int, action="append", help="may be repeated; 1 and 10 million")
    parser.add_argument("--times", type=int, default=200, help="how often a command is sent")
    parser.add_argument("--seconds", type=float, default=10, help="most time for one command")
    parser.add_argument("--servers", type=names_of(SERVERS), default=["lamina"])
    parser.add_argument("--lamina-flags", type=str.split, default=[], help="added to lamina's command line")
    parser.add_argument("--directory", type=Path, help="where the data lies; a temporary folder by default")
    parser.add_argument("--json", type=Path, help="keep the results in this file")
    arguments = parser.parse_args()
    results = []
    with directory_for(arguments.directory) as directory:
        machine = machine_facts(directory)
        for members in arguments.members or [1_000_000, 10_000_000]:
            for name in arguments.servers:
                flags = arguments.lamina_flags if name == "lamina" else []
                with closing(Server(name, directory / f"{name}-{members}", flags)) as server:
                    results.append(measure(server, members, arguments))
                report(results[-1])
    if arguments.json:
        options = {key: str(value) for key, value in vars(arguments).items() if key != "json"}
        folder, name = arguments.json.parent, arguments.json.stem
        print("\nkept in", write_result(name, QUESTION, machine, options, results, folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""How fast are import and export, beside redis-server's own loading and saving?

    python benchmarks/exchange.py [--keys 1_000_000] [--rounds 3] [--only small] [--results DIRECTORY]

Two sets of data are made with a redis-server: `small`, short strings (what DEBUG POPULATE makes), and
`mixed`: a half are strings of 100 bytes that compress to half, the rest small collections of all types and
some large ones. Its RDB file is what is imported, loaded and saved again. In each round come, in turn:

    redis-server load      the time that its log tells, of a server that starts on the file
    redis-server SAVE      the time until the reply, of the same server
    lamina import, export  the wall clock of a process, its start (0.3 s) included

Megabytes are those of the RDB file in all lines, so that lines can be compared. CPU is that of all processes
of a case; where it is not told it could not be taken apart.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measure import RESULTS, machine_facts, make_values, number, rotated, summary, table, write_result
from servers import BenchmarkError, Server

from lamina.server.rdb.values import HashValue, ListValue, SetValue, Value, ZsetValue
from lamina.tools.commandwriter import CommandWriter

QUESTION = "How fast are import and export, beside redis-server's own loading and saving?"
MIB = 1 << 20
FLAGS = ["--enable-debug-command", "yes", "--appendonly", "no"]
LOADED = re.compile(r"DB loaded from disk: ([0-9.]+) seconds")

Figures = dict[str, float]


# -- data --------------------------------------------------------------------------------------------


def make_file(name: str, keys: int, folder: Path) -> Path:
    """Make a server's RDB file; returns it."""
    with Server("redis", folder, FLAGS) as server, server.connect() as connection:
        if name == "small":
            connection.call("DEBUG", "POPULATE", str(keys))
        else:
            commands = folder / "commands.resp"
            with open(commands, "wb") as file:
                writer = CommandWriter(file.write)
                for key, value in mixed(keys):
                    writer.write_key(0, key, value)
                writer.finish()
            with open(commands, "rb") as file:
                program = ["redis-cli", "-p", str(server.port), "--pipe"]
                subprocess.run(program, stdin=file, check=True, stdout=subprocess.DEVNULL)
            commands.unlink()
        connection.call("SAVE")
    return folder / "dump.rdb"


def mixed(keys: int) -> Iterator[tuple[bytes, Value]]:
    """Yield keys of all types: a half are strings."""
    dice = random.Random(3)
    texts = make_values(keys // 2, seed=2)
    for at, text in enumerate(texts):
        yield b"string:%d" % at, text
    sizes = [dice.randint(1, 40) for _ in range(keys // 2)] + [20_000] * (keys // 50_000)
    for at, size in enumerate(sizes):
        elements = [b"%x" % dice.getrandbits(48) for _ in range(size)]
        if at % 4 == 0:
            yield b"list:%d" % at, ListValue([elements])
        elif at % 4 == 1:
            yield b"set:%d" % at, SetValue([list(set(elements))])
        elif at % 4 == 2:
            yield b"zset:%d" % at, ZsetValue([[(item, dice.random()) for item in set(elements)]])
        else:
            yield b"hash:%d" % at, HashValue([[(item, item) for item in set(elements)]])


# -- cases -------------------------------------------------------------------------------------------


def redis(file: Path, folder: Path) -> tuple[Figures, Figures]:
    """Have a redis-server load and save the file; returns the figures of each."""
    (folder / "dump.rdb").write_bytes(file.read_bytes())
    with Server("redis", folder, FLAGS) as server:
        found = LOADED.search((folder / "server.log").read_text())
        if found is None:
            raise BenchmarkError(f"the server has not said how long loading took:\n{server.log_end()}")
        with server.connect() as connection:
            before, begun = server.cpu_s()[0], time.perf_counter()
            connection.call("SAVE")
            saving = {"wall_s": time.perf_counter() - begun, "cpu_s": server.cpu_s()[0] - before}
    return {"wall_s": float(found[1])}, saving


def lamina(*arguments: str | Path) -> Figures:
    """Run a verb as a process."""
    before, begun = children_cpu_s(), time.perf_counter()
    command = [sys.executable, "-m", "lamina.tools", *map(str, arguments), "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return {"wall_s": time.perf_counter() - begun, "cpu_s": children_cpu_s() - before}


def children_cpu_s() -> float:
    """Return the CPU of all children that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def one_round(file: Path, folder: Path, turn: int) -> dict[str, Figures]:
    """Do everything once."""
    figures: dict[str, Figures] = {}

    def by_redis() -> None:
        (folder / "redis").mkdir()
        figures["redis-server load"], figures["redis-server SAVE"] = redis(file, folder / "redis")

    def by_lamina() -> None:
        db = folder / "db"
        figures["lamina import, rdb"] = lamina("import", file, db)
        for kind in ("rdb", "resp", "json"):
            figures[f"lamina export, {kind}"] = lamina("export", db, folder / f"out.{kind}")
        for kind in ("resp", "json"):
            figures[f"lamina import, {kind}"] = lamina(
                "import", folder / f"out.{kind}", folder / f"db-{kind}"
            )

    for step in rotated([by_redis, by_lamina], turn):
        step()
    return figures


def show(results: dict[str, Figures]) -> str:
    """Return the results as a table."""
    columns = ("wall_s", "cpu_s", "keys_per_s", "mib_per_s")
    rows = [
        [name, *(number(figures.get(column), 0 if column == "keys_per_s" else 2) for column in columns)]
        for name, figures in results.items()
    ]
    return table(["case", "s", "CPU s", "keys/s", "MiB/s"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="small or mixed")
    parser.add_argument("--directory", type=Path, help="where files are made (a temporary folder)")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    machine: dict[str, Any] = {}
    for name in ("small", "mixed"):
        if arguments.only not in name:
            continue
        with tempfile.TemporaryDirectory(dir=arguments.directory) as scratch:
            folder = Path(scratch)
            machine = machine or machine_facts(folder)
            keys = arguments.keys if name == "small" else arguments.keys // 5
            (folder / "source").mkdir()
            file = make_file(name, keys, folder / "source")
            size_bytes = file.stat().st_size
            print(f"{name}: {keys:,} keys, {size_bytes / MIB:,.1f} MiB")
            rounds: list[dict[str, Figures]] = []
            for turn in range(arguments.rounds):
                with tempfile.TemporaryDirectory(dir=folder) as fresh:
                    rounds.append(one_round(file, Path(fresh), turn))
            for case in rounds[0]:
                figures = summary([found[case] for found in rounds])
                figures["keys_per_s"] = keys / figures["wall_s"]
                figures["mib_per_s"] = size_bytes / MIB / figures["wall_s"]
                results[f"{name}: {case}"] = figures
    print(show(results))
    options = {"keys": arguments.keys, "rounds": arguments.rounds}
    print(json.dumps(options))
    print(write_result("exchange", QUESTION, machine, options, results, arguments.results))


if __name__ == "__main__":
    main()

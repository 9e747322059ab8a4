"""How long are the turns of the server's loop, in CPU time of its own thread?

    python benchmarks/turns.py [--keys 1_500_000] [--memory 256mb] [--looks dbsize,scan] [--expire]

`pauses.py` asks from outside, where the machine's other work shows as well. Here the loop's callbacks are
timed from inside, in wall and in CPU time: what a turn has of the latter is the server's own doing. Keys are
loaded as in server_large.py; every 64,000 keys a client looks at ranges, and with `--expire` each fourth
key expires within a minute.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from measure import make_values, number, percentile, table
from pauses import Pinger, pause_table
from servers import Connection, Server, directory_for, encode, names_of, progress, shuffled

from lamina.server.connection import Connection as ServerConnection
from lamina.server.cron import Cron
from lamina.server.server import Server as LaminaServer
from lamina.tools import serve as verb

QUESTION = "How long are the turns of the server's loop, in CPU time of its own thread?"
SHARES = (50, 99, 99.9, 100)
LOOKS: dict[str, list[list[Any]]] = {
    "dbsize": [["DBSIZE"]],
    "scan": [["SCAN", 0, "COUNT", 10], ["SCAN", 1 << 40, "COUNT", 10]],
    "randomkey": [["RANDOMKEY"]],
    "info": [["INFO"]],
}
CONNECTIONS = 4
BATCH = 32
BATCHES_BETWEEN_LOOKS = 2000
"""Few: the more has been written since the last look, the more a look has to do."""


class Turns:
    """Times the callbacks of a loop; those up to an `end_tick` are one turn."""

    def __init__(self) -> None:
        self.wall_us: Counter[int] = Counter()
        self.cpu_us: Counter[int] = Counter()
        self._wall_ns = self._cpu_ns = 0
        self._is_inside = False

    def timed(self, call: Callable[..., Any], *, ends: bool = False) -> Callable[..., Any]:
        """Return `call` with its time noted; `ends`: it is the last of a turn."""
        wall, cpu = time.perf_counter_ns, time.thread_time_ns

        def timed(*arguments: Any) -> Any:
            if self._is_inside:
                return call(*arguments)
            self._is_inside = True
            wall_ns, cpu_ns = wall(), cpu()
            try:
                return call(*arguments)
            finally:
                self._wall_ns += wall() - wall_ns
                self._cpu_ns += cpu() - cpu_ns
                self._is_inside = False
                if ends:
                    self.wall_us[self._wall_ns // 1000] += 1
                    self.cpu_us[self._cpu_ns // 1000] += 1
                    self._wall_ns = self._cpu_ns = 0

        return timed


def serve(result: str, arguments: list[str]) -> int:
    """Serve until SIGTERM, then write the figures to a file."""
    turns = Turns()
    patched: list[tuple[type, str, bool]] = [
        (ServerConnection, "data_received", False),
        (LaminaServer, "run_resumed", False),
        (LaminaServer, "_on_timeout", True),
        (LaminaServer, "end_tick", True),
        (Cron, "_run", True),
    ]
    for owner, name, ends in patched:
        setattr(owner, name, turns.timed(getattr(owner, name), ends=ends))
    status = verb.main(arguments)
    Path(result).write_text(json.dumps({"wall": turns.wall_us, "cpu": turns.cpu_us}))
    return status


class TimedServer(Server):
    """Lamina in a process that times its turns."""

    @property
    def result(self) -> Path:
        """Where the figures are, once it has ended."""
        return self.directory / "turns.json"

    def command(self) -> list[str]:
        """Return the command line."""
        common = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)]
        return [sys.executable, __file__, "--serve", str(self.result), *common, *self.flags]


def load(server: Server, keys: int, looks: list[list[Any]], *, expire: bool) -> None:
    """SET all keys, in batches over several connections, and look now and then."""
    values = make_values(10_007, seed=1)
    connections = [server.connect() for _ in range(CONNECTIONS)]
    for batch, at in enumerate(range(0, keys, BATCH)):
        commands = []
        for index in range(at, min(at + BATCH, keys)):
            words: list[Any] = ["SET", b"key:%012d" % shuffled(index, keys), values[index % len(values)]]
            commands.append(
                encode([*words, "PX", 1000 + index % 60_000] if expire and index % 4 == 0 else words)
            )
        connection: Connection = connections[batch % CONNECTIONS]
        connection.pipeline(commands)
        if batch % BATCHES_BETWEEN_LOOKS == 0:
            progress(f"{at:,} of {keys:,} keys")
            for look in looks:
                connection.call(*look)
    for connection in connections:
        connection.close()


def report(figures: dict[str, dict[str, int]]) -> str:
    """Return the table of what `serve` has written."""
    lines = []
    for name, counts in figures.items():
        histogram = Counter({int(us): count for us, count in counts.items()})
        spots = [percentile(histogram, share / 100) / 1000 for share in SHARES]
        lines.append([name, number(sum(histogram.values()), 0), *map(number, spots)])
    return table(["turns, in ms", "turns", "p50", "p99", "p99.9", "longest"], lines)


def main() -> int:
    """Load a server, end it, and print how long its turns were."""
    if sys.argv[1:2] == ["--serve"]:
        return serve(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--keys", type=int, default=1_500_000)
    parser.add_argument("--memory", default="256mb")
    parser.add_argument("--looks", type=names_of(list(LOOKS)), default=[])
    parser.add_argument("--expire", action="store_true")
    arguments = parser.parse_args()
    looks = [look for name in arguments.looks for look in LOOKS[name]]
    with directory_for(None) as directory:
        flags = ["--memory", arguments.memory]
        with closing(TimedServer("lamina", directory / "lamina", flags)) as server:
            server.start()
            pinger = Pinger(server.port)
            load(server, arguments.keys, looks, expire=arguments.expire)
            waits = pinger.stop()
            server.end()
            print(report(json.loads(server.result.read_text())))
            print()
            print(pause_table({"load": waits}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

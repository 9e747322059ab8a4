"""Commands that tell how the server is doing: INFO, SLOWLOG, LATENCY, MEMORY."""

from __future__ import annotations

from typing import Any

from lamina.server.args import integer
from lamina.server.client import Client
from lamina.server.commands.help import add_help
from lamina.server.errors import SYNTAX, CommandError, misused_subcommand
from lamina.server.info import info
from lamina.server.latency import cumulative_histogram
from lamina.server.latency import report as latency_report
from lamina.server.memoryusage import SAMPLES, Memory, collector_report, key_usage, purge
from lamina.server.memoryusage import report as memory_report
from lamina.server.numbers import parse_integer
from lamina.server.registry import COMMANDS, Command, Keys, all_commands, command
from lamina.server.replies import OK, Simple, Verbatim

_ADMIN = "admin noscript loading stale"
_SLOWLOG_SHOWN = 10
_SLOWLOG_COUNT = CommandError(b"ERR count should be greater than or equal to -1")


@command(
    "INFO",
    arity=-1,
    flags="loading stale",
    since="1.0.0",
    complexity="O(1)",
    notes=("7.0.0: several sections.",),
    group="server",
)
def info_(client: Client, argv: list[bytes]) -> Verbatim:
    """Return the state of the server, all of it or some sections.

    INFO [section [section ...]]
    """
    return Verbatim(b"txt", info(client.server, [name.decode("latin-1") for name in argv[1:]]).encode())


# --- SLOWLOG


@command("SLOWLOG", arity=-2, flags="", since="2.2.12", complexity="Depends on subcommand.", group="server")
def slowlog(client: Client, argv: list[bytes]) -> object:
    """Show the commands that took longest lately.

    SLOWLOG <subcommand>
    """
    raise misused_subcommand(argv[1], b"slowlog")


@command(
    "SLOWLOG|GET",
    arity=-2,
    flags="admin loading stale",
    since="2.2.12",
    complexity="O(N) entries returned",
    notes=("4.0.0: the client's address and name.",),
    group="server",
)
def slowlog_get(client: Client, argv: list[bytes]) -> list[list[Any]]:
    """Return the newest entries, 10 unless a number is given; -1 is all.

    SLOWLOG GET [count]
    """
    if len(argv) > 3:
        raise misused_subcommand(argv[1], b"slowlog")
    count = _SLOWLOG_SHOWN
    if len(argv) == 3:
        given = parse_integer(argv[2])
        if given is None or given < -1:
            raise _SLOWLOG_COUNT
        count = given
    entries = list(client.server.slowlog.entries)
    shown = entries if count < 0 else entries[:count]
    return [
        [entry.id, entry.time_s, entry.elapsed_us, entry.argv, entry.address.encode(), entry.name]
        for entry in shown
    ]


@command(
    "SLOWLOG|LEN", arity=2, flags="admin loading stale", since="2.2.12", complexity="O(1)", group="server"
)
def slowlog_len(client: Client, argv: list[bytes]) -> int:
    """Return the number of entries.

    SLOWLOG LEN
    """
    return len(client.server.slowlog.entries)


@command(
    "SLOWLOG|RESET",
    arity=2,
    flags="admin loading stale",
    since="2.2.12",
    complexity="O(N) entries",
    group="server",
)
def slowlog_reset(client: Client, argv: list[bytes]) -> Simple:
    """Forget all entries.

    SLOWLOG RESET
    """
    client.server.slowlog.entries.clear()
    return OK


add_help("SLOWLOG", group="server", since="6.2.0")


# --- LATENCY


@command("LATENCY", arity=-2, flags="", since="2.8.13", complexity="Depends on subcommand.", group="server")
def latency(client: Client, argv: list[bytes]) -> object:
    """Show what has taken long, and how long commands take.

    LATENCY <subcommand>
    """
    raise misused_subcommand(argv[1], b"latency")


@command("LATENCY|DOCTOR", arity=2, flags=_ADMIN, since="2.8.13", complexity="O(1)", group="server")
def latency_doctor(client: Client, argv: list[bytes]) -> Verbatim:
    """Return a report for people about latency spikes.

    LATENCY DOCTOR
    """
    return Verbatim(b"txt", latency_report(client.server.latency).encode())


@command("LATENCY|GRAPH", arity=3, flags=_ADMIN, since="2.8.13", complexity="O(1)", group="server")
def latency_graph(client: Client, argv: list[bytes]) -> Verbatim:
    """Draw an event's samples.

    LATENCY GRAPH event
    """
    server = client.server
    if argv[2] not in server.latency.events:
        raise CommandError(b"ERR No samples available for event '%b'" % argv[2])
    return Verbatim(b"txt", server.latency.graph(argv[2], server.clock.now_ms // 1000).encode())


@command(
    "LATENCY|HISTOGRAM",
    arity=-2,
    flags=_ADMIN,
    since="7.0.0",
    complexity="O(N) commands",
    group="server",
)
def latency_histogram(client: Client, argv: list[bytes]) -> dict[bytes, dict[bytes, Any]]:
    """Return how many calls of each command took up to so many microseconds.

    LATENCY HISTOGRAM [command [command ...]]
    """
    records = all_commands() if len(argv) == 2 else [found for name in argv[2:] for found in _leaves(name)]
    histograms = {record.wire_name: record.tracked for record in records}
    return {
        name: {b"calls": sum(histogram), b"histogram_usec": cumulative_histogram(histogram)}
        for name, histogram in histograms.items()
        if any(histogram)
    }


def _leaves(name: bytes) -> list[Command]:
    """Return the command of a name, or all subcommands of a container."""
    container, _, rest = name.upper().partition(b"|")
    record = COMMANDS.get(container)
    if record is None:
        return []
    if rest:
        return [record.subcommands[rest]] if rest in record.subcommands else []
    return [record, *record.subcommands.values()]


@command("LATENCY|HISTORY", arity=3, flags=_ADMIN, since="2.8.13", complexity="O(1)", group="server")
def latency_history(client: Client, argv: list[bytes]) -> list[list[int]]:
    """Return an event's samples: Unix time in seconds, and milliseconds.

    LATENCY HISTORY event
    """
    event = client.server.latency.events.get(argv[2])
    return [] if event is None else [list(sample) for sample in event.samples]


@command("LATENCY|LATEST", arity=2, flags=_ADMIN, since="2.8.13", complexity="O(1)", group="server")
def latency_latest(client: Client, argv: list[bytes]) -> list[list[Any]]:
    """Return each event's last sample, and its longest of all time.

    LATENCY LATEST
    """
    return [list(row) for row in client.server.latency.latest()]


@command("LATENCY|RESET", arity=-2, flags=_ADMIN, since="2.8.13", complexity="O(1)", group="server")
def latency_reset(client: Client, argv: list[bytes]) -> int:
    """Forget the samples of events, of all without names; returns how many events had some.

    LATENCY RESET [event [event ...]]
    """
    return client.server.latency.reset(argv[2:])


add_help("LATENCY", group="server", since="2.8.13")


# --- MEMORY


@command("MEMORY", arity=-2, flags="", since="4.0.0", complexity="Depends on subcommand.", group="server")
def memory(client: Client, argv: list[bytes]) -> object:
    """Show what memory is used for.

    MEMORY <subcommand>
    """
    raise misused_subcommand(argv[1], b"memory")


@command("MEMORY|DOCTOR", arity=2, flags="", since="4.0.0", complexity="O(1)", group="server")
def memory_doctor(client: Client, argv: list[bytes]) -> Verbatim:
    """Return a report for people about problems with memory.

    MEMORY DOCTOR
    """
    server = client.server
    return Verbatim(b"txt", memory_report(Memory(server), server.config.memory).encode())


@command("MEMORY|MALLOC-STATS", arity=2, flags="", since="4.0.0", complexity="O(N) objects", group="server")
def memory_malloc_stats(client: Client, argv: list[bytes]) -> Verbatim:
    """Return what Python says of its garbage collection.

    MEMORY MALLOC-STATS
    """
    return Verbatim(b"txt", collector_report().encode())


@command("MEMORY|PURGE", arity=2, flags="", since="4.0.0", complexity="O(N) objects", group="server")
def memory_purge(client: Client, argv: list[bytes]) -> Simple:
    """Collect garbage and give unused memory back to the system.

    MEMORY PURGE
    """
    purge()
    return OK


@command("MEMORY|STATS", arity=2, flags="", since="4.0.0", complexity="O(1)", group="server")
def memory_stats(client: Client, argv: list[bytes]) -> dict[bytes, object]:
    """Return what the server's memory is used for.

    MEMORY STATS
    """
    return dict(Memory(client.server).figures(client.server))


@command(
    "MEMORY|USAGE",
    arity=-3,
    flags="readonly",
    keys=Keys(2, 2, 1),
    since="4.0.0",
    complexity="O(N) samples, each in logarithmic time",
    group="server",
)
def memory_usage(client: Client, argv: list[bytes]) -> int | None:
    """Return about how many bytes a key takes, on disk before compression and in the caches.

    MEMORY USAGE key [SAMPLES count]
    """
    samples = SAMPLES
    for at in range(3, len(argv), 2):
        if argv[at].upper() != b"SAMPLES" or at + 1 == len(argv):
            raise SYNTAX
        samples = integer(argv[at + 1])
        if samples < 0:
            raise SYNTAX
    value = client.keyspace.find(argv[2])
    return None if value is None else key_usage(client.keyspace, argv[2], value, samples)


add_help("MEMORY", group="server", since="4.0.0")

"""The latency monitor: events that took longer than latency-monitor-threshold, and what is made of them.

    command, fast-command     a command, by its flag `fast`
    expire-cycle              one round of active expiry
    commit                    writing a turn's frame into the log
    aof-fsync-always          the sync that replies wait for with appendfsync always

Of each event the last samples are kept, one a second: the longest in it. The histograms that LATENCY
HISTOGRAM and INFO show are another thing: they count all calls of each command, and the registry keeps them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

_SAMPLES_MAX: Final = 160
_GRAPH_ROWS: Final = 4
_GRAPH_STEPS: Final = "_o#"
_BUCKET_FIRST_BITS: Final = 10

Row = tuple[int, int]
"""Unix time in seconds, and milliseconds."""


class Event:
    """The samples of one event."""

    __slots__ = ("longest_ms", "samples")

    def __init__(self) -> None:
        self.samples: deque[Row] = deque(maxlen=_SAMPLES_MAX)
        self.longest_ms = 0

    def add(self, time_s: int, elapsed_ms: int) -> None:
        """Keep a sample; of one second only the longest."""
        self.longest_ms = max(self.longest_ms, elapsed_ms)
        samples = self.samples
        if samples and samples[-1][0] == time_s:
            samples[-1] = (time_s, max(samples[-1][1], elapsed_ms))
        else:
            samples.append((time_s, elapsed_ms))


class Analysis(NamedTuple):
    """What can be said of an event's samples. Times in milliseconds, the period in seconds."""

    samples: int
    average_ms: int
    deviation_ms: int
    period_s: float
    longest_ms: int


class LatencyMonitor:
    """Events by name. Nothing is kept while the threshold is 0."""

    def __init__(self) -> None:
        self.threshold_ms = 0
        self.events: dict[bytes, Event] = {}

    def note(self, name: bytes, elapsed_ns: int, time_s: int) -> None:
        """Keep an event if it took long enough."""
        elapsed_ms = elapsed_ns // 1_000_000
        if 0 < self.threshold_ms <= elapsed_ms:
            self.events.setdefault(name, Event()).add(time_s, elapsed_ms)

    def reset(self, names: list[bytes]) -> int:
        """Forget these events, or all of them if none is named; returns how many there were."""
        if not names:
            count = len(self.events)
            self.events.clear()
            return count
        return sum(self.events.pop(name, None) is not None for name in names)

    def latest(self) -> Iterator[tuple[bytes, int, int, int]]:
        """Yield each event's name, the time and duration of its last sample, and its longest duration."""
        for name, event in self.events.items():
            yield name, *event.samples[-1], event.longest_ms

    def graph(self, name: bytes, now_s: int) -> str:
        """Return an event's samples as columns of characters. Errors: KeyError."""
        event = self.events[name]
        values = [elapsed_ms for _, elapsed_ms in event.samples]
        low, high = min(values), max(values)
        head = (
            f"{name.decode()} - high {high} ms, low {low} ms (all time high {event.longest_ms} ms)\n"
            f"{'-' * 80}\n"
        )
        labels = [_ago(now_s - time_s) for time_s, _ in event.samples]
        return head + _columns(values, low, high) + " " * len(values) + "\n" + _upright(labels)

    def analyses(self) -> dict[bytes, Analysis]:
        """Return figures about each event's samples."""
        return {name: _analyse(event) for name, event in self.events.items()}


def _analyse(event: Event) -> Analysis:
    times = [time_s for time_s, _ in event.samples]
    values = [elapsed_ms for _, elapsed_ms in event.samples]
    count = len(values)
    average_ms = sum(values) // count
    deviation_ms = sum(abs(value - average_ms) for value in values) // count
    return Analysis(count, average_ms, deviation_ms, (times[-1] - times[0]) / count, event.longest_ms)


def _columns(values: list[int], low: int, high: int) -> str:
    top = _GRAPH_ROWS * len(_GRAPH_STEPS) - 1
    heights = [(value - low) * top // max(high - low, 1) for value in values]
    rows = []
    for row in range(_GRAPH_ROWS - 1, -1, -1):
        floor = row * len(_GRAPH_STEPS)
        rows.append("".join([_cell(height - floor) for height in heights]))
    return "\n".join(rows) + "\n"


def _cell(height: int) -> str:
    if height < 0:
        return " "
    return _GRAPH_STEPS[height] if height < len(_GRAPH_STEPS) else "|"


def _upright(labels: list[str]) -> str:
    """Return labels from top to bottom, one in each column."""
    rows = max(map(len, labels))
    padded = [label.ljust(rows) for label in labels]
    return "".join(["".join([label[row] for label in padded]) + "\n" for row in range(rows)])


def _ago(elapsed_s: int) -> str:
    for unit_s, letter in ((86400, "d"), (3600, "h"), (60, "m")):
        if elapsed_s >= unit_s:
            return f"{elapsed_s // unit_s}{letter}"
    return f"{elapsed_s}s"


# --- Reports


_ADVICE: Final[dict[bytes, str]] = {
    b"command": "SLOWLOG GET tells which commands are slow; slowlog-log-slower-than may be lowered for it.",
    b"fast-command": "Commands of constant time are late: look for other load on the machine, or swapping.",
    b"expire-cycle": "Many keys expire at the same time: spread their times to live.",
    b"commit": "Writing the log takes long: the disk is busy, or compactions are behind (INFO lamina).",
    b"aof-fsync-always": "The disk's sync is slow: appendfsync everysec does not let replies wait for it.",
}


def report(monitor: LatencyMonitor) -> str:
    """Return what LATENCY DOCTOR says."""
    if not monitor.threshold_ms:
        return (
            "Latency monitoring is off. CONFIG SET latency-monitor-threshold <milliseconds> turns it on: "
            "what takes longer is then recorded.\n"
        )
    if not monitor.events:
        return "No latency spike has been observed since the server has started or LATENCY RESET.\n"
    lines = ["Latency spikes have been observed:", ""]
    for number, (name, found) in enumerate(monitor.analyses().items(), 1):
        lines.append(
            f"{number}. {name.decode()}: {found.samples} latency spikes (average {found.average_ms}ms, mean "
            f"deviation {found.deviation_ms}ms, period {found.period_s:.2f} sec). Worst all time event "
            f"{found.longest_ms}ms."
        )
    lines += ["", "What may help:", ""]
    lines += [f"- {_ADVICE[name]}" for name in monitor.events if name in _ADVICE]
    return "\n".join(lines) + "\n"


# --- Histograms of all calls


def cumulative_histogram(counts: list[int]) -> dict[int, int]:
    """Return calls by their duration in microseconds, each bound with all calls up to it.

    `counts` are calls by the bit length of their duration in nanoseconds. Redis's bounds are powers of two of
    1024 ns, each rounded up by a 128th, the resolution of its histograms: exact to that.
    """
    found: dict[int, int] = {}
    total = sum(counts[: _BUCKET_FIRST_BITS + 1])
    if total:
        found[1] = total
    for bits in range(_BUCKET_FIRST_BITS + 1, len(counts)):
        if counts[bits]:
            total += counts[bits]
            found[(1 << bits) * 129 // 128 // 1000] = total
    return found


def percentiles_us(counts: list[int], wanted: list[float] | tuple[float, ...]) -> list[float]:
    """Return durations in microseconds below which so many percent of all calls lie.

    Within a power of two calls are taken to be spread evenly.
    """
    total = sum(counts)
    return [_percentile_ns(counts, total * percent / 100) / 1000 for percent in wanted]


def _percentile_ns(counts: list[int], rank: float) -> float:
    below = 0
    last_ns = 0.0
    for bits, count in enumerate(counts):
        if count:
            low_ns, high_ns = (1 << bits) >> 1, 1 << bits
            last_ns = float(high_ns)
            if below + count >= rank:
                return low_ns + (high_ns - low_ns) * max(rank - below, 0.0) / count
            below += count
    return last_ns

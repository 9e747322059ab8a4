"""Write stalls: slow writers down, then stop them, while flushes and merges fall behind.

Slowing comes first, so that a burst costs every put a little instead of one put seconds. Slowed writers
together go at the rate at which memtables are being flushed, and the more slowly the further things are
behind.

A program that must not be blocked, as one with an event loop, lets its writes run up a debt instead (`owe`),
and holds its writers back itself for as long as it is told (`Database.room_delay_s`).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from lamina.engine.background import Background
from lamina.engine.errors import EngineError
from lamina.engine.layers import View
from lamina.engine.metrics import Counters
from lamina.engine.workers import WorkerDiedError

# In multiples of the memtable budget that wait to be flushed ...
_SLOW_SEALED = 1.5
_STOP_SEALED = 3.0
# ... and in runs of level 0 beyond what a level holds.
_SLOW_RUNS = 4
_STOP_RUNS = 16

STOPPED = 1.0
"""The severity at which writers are stopped."""
OVERRUN = 2.0
"""The severity at which even those wait who promised to hold back by themselves: memory is finite."""
_SEVERITY_MIN = 0.05
_SLOWEST_SHARE = 0.05
"""Writers that are almost stopped go at this part of the rate at which memtables are flushed."""

_PAUSE_MIN_S = 0.001
"""Sleeping for less costs more than it delays: shorter pauses are saved up."""
_PAUSE_MAX_S = 0.05

_RETRY_S = 0.02
_PATIENCE_S = 20.0
"""How long a writer waits while workers die one after the other: the flush is tried again all the time."""


def stall_severity(view: View, *, budget_bytes: int, runs_max: int) -> float:
    """Return how far flushes and merges have fallen behind: 0 if they have not, STOPPED or more at the end.

    `runs_max`: what level 0 may hold without being late.
    """
    sealed = sum(memtable.size_bytes for memtable in view.memtables[1:]) / budget_bytes
    levels = view.levels.levels
    spare_runs = (len(levels[0]) if levels else 0) - runs_max
    by_flushes = (sealed - _SLOW_SEALED) / (_STOP_SEALED - _SLOW_SEALED)
    by_merges = (spare_runs - _SLOW_RUNS) / (_STOP_RUNS - _SLOW_RUNS)
    severity = max(by_flushes, by_merges)
    return 0.0 if severity < 0 else max(severity, _SEVERITY_MIN)


def describe_stall(severity: float) -> str:
    """Return "none", "slowed" or "stopped"."""
    return "none" if not severity else "slowed" if severity < STOPPED else "stopped"


class Pacer:
    """Holds slowed writers to a rate. Approximate under threads, which is all it has to be."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._debt_bytes = 0
        self._stopped_since_s: float | None = None
        self.rate_bytes_per_s = 16e6

    def flushed(self, size_bytes: int, elapsed_s: float) -> None:
        """Take note of how fast a memtable of `size_bytes` was flushed."""
        rate = size_bytes / max(elapsed_s, 0.001)
        self.rate_bytes_per_s = max(0.5 * self.rate_bytes_per_s + 0.5 * rate, 1e6)

    def slow_down(self, size_bytes: int, severity: float) -> None:
        """Sleep for what a write of `size_bytes` owes."""
        self.owe(size_bytes)
        pause_s = self._due_s(severity)
        if pause_s:
            began_s = time.monotonic()
            time.sleep(pause_s)
            self._stalled(time.monotonic() - began_s)

    def owe(self, size_bytes: int) -> None:
        """Note that `size_bytes` have been written without a pause."""
        self._debt_bytes += size_bytes

    def _due_s(self, severity: float) -> float:
        """Return the pause that is owed now, and forget the debt; 0 if it is too short to be worth it."""
        rate_bytes_per_s = self.rate_bytes_per_s * max((1.0 - severity) ** 2, _SLOWEST_SHARE)
        pause_s = self._debt_bytes / rate_bytes_per_s
        if pause_s < _PAUSE_MIN_S:
            return 0.0
        self._debt_bytes = 0
        return min(pause_s, _PAUSE_MAX_S)

    def delay_s(self, background: Background, severity: float) -> float:
        """Return how long writers should be held back before they are asked about again.

        Errors: as `wait_for_room`.
        """
        if not severity:  # what was owed is no longer due
            self._debt_bytes = 0
            self._stopped_since_s = None
            return 0.0
        if severity < STOPPED:
            self._stopped_since_s = None
            pause_s = self._due_s(severity)
        else:
            self.check(background)
            pause_s = _RETRY_S
        if pause_s:
            self._stalled(pause_s)
        return pause_s

    def check(self, background: Background) -> None:
        """Raise what keeps the background from making room. Errors: as `wait_for_room`."""
        error = background.error
        if error is None:
            return
        now_s = time.monotonic()
        if self._stopped_since_s is None:
            self._stopped_since_s = now_s
        if isinstance(error, WorkerDiedError) and now_s < self._stopped_since_s + _PATIENCE_S:
            return  # it is started again, and the flush with it
        message = "memtables are full and cannot be flushed"
        if isinstance(error, OSError):
            raise OSError(error.errno, f"{message}: {error.strerror}", error.filename)
        raise EngineError(f"{message}: {error}") from error

    def wait_for_room(self, background: Background, has_room: Callable[[], bool]) -> None:
        """Wait until there is room. Errors: OSError or EngineError with the cause if the background cannot
        work. A worker that dies is no such cause, unless it does nothing else."""
        began_s = time.monotonic()
        self._stopped_since_s = None
        while not has_room():
            if not background.wait(has_room, 1.0) and background.error is not None:
                self.check(background)
                time.sleep(_RETRY_S)
        self._stalled(time.monotonic() - began_s)

    def _stalled(self, elapsed_s: float) -> None:
        """Account for a stall."""
        counters = self._counters
        counters.stalls += 1
        counters.stall_time_s += elapsed_s
        counters.stall_longest_s = max(counters.stall_longest_s, elapsed_s)

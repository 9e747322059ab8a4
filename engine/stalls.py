"""Write stalls: slow writers down, then stop them, while flushes and merges fall behind.

Slowing comes first, so that a burst costs every put a little instead of one put seconds. Slowed writers
together go at the rate at which memtables are being flushed.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from lamina.engine.background import Background
from lamina.engine.errors import EngineError
from lamina.engine.layers import View
from lamina.engine.metrics import Counters

NONE, SLOWED, STOPPED = 0, 1, 2
NAMES = ("none", "slowed", "stopped")

# In multiples of the memtable budget that wait to be flushed ...
_SLOW_SEALED = 2
_STOP_SEALED = 3
# ... and in runs of level 0 beyond what a level holds.
_SLOW_RUNS = 6
_STOP_RUNS = 12

_PAUSE_MIN_S = 0.001
"""Sleeping for less costs more than it delays: shorter pauses are saved up."""
_PAUSE_MAX_S = 0.05


def stall_state(view: View, *, budget_bytes: int, runs_max: int) -> int:
    """Return NONE, SLOWED or STOPPED for the layers there are. `runs_max`: what level 0 may hold without
    being late."""
    sealed_bytes = sum(memtable.size_bytes for memtable in view.memtables[1:])
    levels = view.levels.levels
    spare_runs = (len(levels[0]) if levels else 0) - runs_max
    if sealed_bytes >= _STOP_SEALED * budget_bytes or spare_runs >= _STOP_RUNS:
        return STOPPED
    if sealed_bytes >= _SLOW_SEALED * budget_bytes or spare_runs >= _SLOW_RUNS:
        return SLOWED
    return NONE


class Pacer:
    """Holds slowed writers to a rate. Approximate under threads, which is all it has to be."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._debt_bytes = 0
        self.rate_bytes_per_s = 16e6

    def flushed(self, size_bytes: int, elapsed_s: float) -> None:
        """Take note of how fast a memtable of `size_bytes` was flushed."""
        rate = size_bytes / max(elapsed_s, 0.001)
        self.rate_bytes_per_s = max(0.5 * self.rate_bytes_per_s + 0.5 * rate, 1e6)

    def slow_down(self, size_bytes: int) -> None:
        """Sleep for what a write of `size_bytes` owes."""
        self._debt_bytes += size_bytes
        pause_s = self._debt_bytes / self.rate_bytes_per_s
        if pause_s >= _PAUSE_MIN_S:
            self._debt_bytes = 0
            began_s = time.monotonic()
            time.sleep(min(pause_s, _PAUSE_MAX_S))
            self._stalled(began_s)

    def wait_for_room(self, background: Background, has_room: Callable[[], bool]) -> None:
        """Wait until there is room. Errors: OSError or EngineError with the cause if the background cannot
        work."""
        began_s = time.monotonic()
        while not has_room():
            if background.wait(has_room, 1.0) or background.error is None:
                continue
            error, message = background.error, "memtables are full and cannot be flushed"
            if isinstance(error, OSError):
                raise OSError(error.errno, f"{message}: {error.strerror}", error.filename)
            raise EngineError(f"{message}: {error}") from error
        self._stalled(began_s)

    def _stalled(self, began_s: float) -> None:
        """Account for a stall that began at `began_s` (monotonic) and ends now."""
        elapsed_s = time.monotonic() - began_s
        counters = self._counters
        counters.stalls += 1
        counters.stall_time_s += elapsed_s
        counters.stall_longest_s = max(counters.stall_longest_s, elapsed_s)

"""The time, read once for everything that happens in one step of the event loop.

Commands of one chunk see one moment, as they do in Redis; reading the clock for each would cost 50 ns.
Tests put a clock of their own in its place.
"""

from __future__ import annotations

import time


class Clock:
    """Milliseconds and microseconds since 1970, as of the last `tick`."""

    __slots__ = ("now_ms", "now_us")

    def __init__(self) -> None:
        self.now_us = 0
        self.now_ms = 0
        self.tick()

    @property
    def wall_ms(self) -> int:
        """The time of day: `now_ms`, unless time stands still so that no key expires (TimelessClock)."""
        return self.now_ms

    def tick(self) -> None:
        """Read the time."""
        self.now_us = time.time_ns() // 1000
        self.now_ms = self.now_us // 1000


class ManualClock(Clock):
    """A clock that stands still until it is told otherwise, for tests."""

    __slots__ = ()

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.now_ms = now_ms
        self.now_us = now_ms * 1000

    def tick(self) -> None:
        """Stand still."""

    def advance(self, elapsed_ms: int) -> None:
        """Move on."""
        self.now_ms += elapsed_ms
        self.now_us = self.now_ms * 1000


class TimelessClock(ManualClock):
    """A clock that stands still at the beginning of time: no key ever expires, as while a file of commands is
    being read."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(1)

    @property
    def wall_ms(self) -> int:
        """The time of day, which what is remembered for people to see (consumers of streams) goes by."""
        return time.time_ns() // 1_000_000

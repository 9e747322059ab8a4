"""What a database says of itself: counters kept while it runs, and the picture `stats` makes of them."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(slots=True)
class Counters:
    """Running totals since the database was opened. Written under the locks of those who count."""

    user_bytes: int = 0
    flushes: int = 0
    flush_bytes: int = 0
    flush_time_s: float = 0.0
    compactions: int = 0
    compaction_bytes: int = 0
    compaction_time_s: float = 0.0
    moved_runs: int = 0
    moved_segments: int = 0
    stalls: int = 0
    stall_time_s: float = 0.0
    stall_longest_s: float = 0.0
    worker_deaths: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class LevelStats:
    """One level. `tombstones` is exact where segments are whole and an estimate where they are cut."""

    runs: int
    segments: int
    size_bytes: int
    entries: int
    tombstones: int


@dataclasses.dataclass(frozen=True, slots=True)
class Stats:
    """A picture of a database. Sizes in bytes, times in seconds, totals since it was opened.

    `write_amplification`: bytes written to logs and segments for each byte of keys and values put.
    `read_amplification`: layers that a lookup may have to ask. `space_amplification`: entries stored for each
    live one (exact for a counted database, an estimate for an uncounted one).
    """

    levels: tuple[LevelStats, ...]
    live_keys: int | None
    memtables: int
    memtable_size_bytes: int
    wal_size_bytes: int
    wal_bytes: int
    wal_syncs: int
    wal_lost_bytes: int
    cache_size_bytes: int
    cache_limit_bytes: int
    cache_hits: int
    cache_misses: int
    cache_evictions: int
    user_bytes: int
    write_amplification: float
    read_amplification: int
    space_amplification: float
    flushes: int
    flush_bytes: int
    flush_time_s: float
    compactions: int
    compaction_bytes: int
    compaction_time_s: float
    moved_runs: int
    moved_segments: int
    stalls: int
    stall_time_s: float
    stall_longest_s: float
    stall_state: str
    discarded_ranges: int
    discarded_pending_bytes: int
    snapshots: int
    worker_pid: int | None
    worker_deaths: int
    background_error: str | None
    write_error: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return the same as plain data for JSON."""
        return dataclasses.asdict(self)

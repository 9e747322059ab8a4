"""Making the picture that `Database.stats` returns."""

from __future__ import annotations

from lamina.engine.background import Background
from lamina.engine.cache import Cache
from lamina.engine.layers import View
from lamina.engine.logs import Logs
from lamina.engine.metrics import Counters, LevelStats, Stats


def build_stats(
    view: View,
    counters: Counters,
    logs: Logs | None,
    cache: Cache,
    background: Background,
    *,
    wal_lost_bytes: int,
    stall_state: str,
    snapshots: int,
    write_error: Exception | None,
) -> Stats:
    """Put together what the parts of a database know. `logs` is None for a read-only database."""
    c = counters
    trouble = background.error or background.trouble.damage
    levels = tuple(
        LevelStats(
            runs=len(runs),
            segments=sum(len(run.slices) for run in runs),
            size_bytes=sum(run.size_bytes for run in runs),
            entries=sum(run.entries for run in runs),
            tombstones=sum(piece.tombstones for run in runs for piece in run.slices),
        )
        for runs in view.levels.levels
    )
    entries = sum(level.entries for level in levels) + sum(map(len, view.memtables))
    live = view.count(b"", None) if view.counted else None
    # Without counts, each tombstone is taken to hide one value.
    alive = live if live is not None else max(entries - 2 * sum(level.tombstones for level in levels), 1)
    wal_bytes = 0 if logs is None else logs.rotated_bytes + logs.size_bytes
    written_bytes = wal_bytes + c.flush_bytes + c.compaction_bytes
    return Stats(
        levels=levels,
        live_keys=live,
        memtables=len(view.memtables),
        memtable_size_bytes=sum(memtable.size_bytes for memtable in view.memtables),
        wal_size_bytes=0
        if logs is None
        else sum(wal.size_bytes for wal in (*logs.unsynced_logs, logs.active)),
        wal_bytes=wal_bytes,
        wal_syncs=0 if logs is None else logs.syncs,
        wal_lost_bytes=wal_lost_bytes,
        cache_size_bytes=cache.size_bytes,
        cache_limit_bytes=cache.limit_bytes,
        cache_hits=cache.hits,
        cache_misses=cache.misses,
        cache_evictions=cache.evictions,
        user_bytes=c.user_bytes,
        write_amplification=round(written_bytes / c.user_bytes, 3) if c.user_bytes else 0.0,
        read_amplification=len(view.layers),
        space_amplification=round(entries / alive, 3) if alive else 1.0,
        flushes=c.flushes,
        flush_bytes=c.flush_bytes,
        flush_time_s=c.flush_time_s,
        compactions=c.compactions,
        compaction_bytes=c.compaction_bytes,
        compaction_time_s=c.compaction_time_s,
        moved_runs=c.moved_runs,
        moved_segments=c.moved_segments,
        stalls=c.stalls,
        stall_time_s=c.stall_time_s,
        stall_longest_s=c.stall_longest_s,
        stall_state=stall_state,
        discarded_ranges=len(view.discards),
        discarded_pending_bytes=sum(background.discarded_bytes(run) for run in view.runs),
        snapshots=snapshots,
        worker_pid=background.worker_pid,
        worker_deaths=c.worker_deaths,
        background_error=None if trouble is None else str(trouble),
        write_error=None if write_error is None else str(write_error),
    )

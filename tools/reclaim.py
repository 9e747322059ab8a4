"""How much space a compaction would give back, without doing it.

    stored      what segments and logs take now
    expected    what the segments will take: those bytes, times the share of them that is alive

The share is sampled: in key ranges of one block each, spread evenly over all segments, everything that any
layer holds is read, and held against what is alive there. Hidden parts of segments, and logs, are known
exactly. Of a counted database, so is how many entries are alive.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from lamina.engine import Database
from lamina.engine.filenames import parse_name
from lamina.engine.run import Run, Slice
from lamina.tools.provenance import blocks

SAMPLES = 64


class Estimate(NamedTuple):
    """What a compaction of a range would do. Bytes are those of files, but for the samples'."""

    segment_bytes: int
    log_bytes: int
    hidden_bytes: int
    expected_bytes: int
    entries: int
    live_entries: int | None
    discarded_bytes: int
    samples: int
    sampled_stored_bytes: int
    sampled_live_bytes: int

    @property
    def reclaimed_bytes(self) -> int:
        """What would be given back; negative where logs become segments and nothing is dropped."""
        return self.segment_bytes + self.log_bytes - self.expected_bytes


def estimate(db: Database, start: bytes, stop: bytes | None, *, samples: int = SAMPLES) -> Estimate:
    """Return the estimate for a range of an open database. Errors: CorruptionError, OSError.

    Cost: some block reads for each sample and layer. Memory: a few blocks.
    """
    view = db.view
    pieces = _in_range(view.runs, start, stop)
    shown_bytes = sum(piece.size_bytes for piece in pieces)
    whole = not start and stop is None
    files = {piece.segment.number: piece.segment.size_bytes for piece in view.levels.slices}
    all_shown = sum(piece.size_bytes for piece in view.levels.slices)
    hidden_bytes = max(sum(files.values()) - all_shown, 0) if whole else 0
    stored = live = count = 0
    for low, high in _ranges(pieces, samples):
        count += 1
        stored += sum(_stored_bytes(run, low, high) for run in view.runs)
        for keys, values in view.scan_chunks(low, high):
            live += sum(map(len, keys)) + sum(map(len, values))
    memtable_bytes = sum(_memtable_bytes(db)) if whole else 0
    share = min(live / stored, 1.0) if stored else 1.0
    expected = round(shown_bytes * share)
    if not pieces:
        expected = memtable_bytes
    return Estimate(
        segment_bytes=shown_bytes + hidden_bytes,
        log_bytes=_log_bytes(db) if whole else 0,
        hidden_bytes=hidden_bytes,
        expected_bytes=expected,
        entries=sum(piece.entries for piece in pieces) + (sum(map(len, view.memtables)) if whole else 0),
        live_entries=db.count(start, stop) if db.counted else None,
        discarded_bytes=db.stats().discarded_pending_bytes if whole else 0,
        samples=count,
        sampled_stored_bytes=stored,
        sampled_live_bytes=live,
    )


def _in_range(runs: tuple[Run, ...], start: bytes, stop: bytes | None) -> list[Slice]:
    found = [piece for run in runs for piece in run.overlapping(start, stop)]
    if not start and stop is None:
        return found
    return [part for piece in found if (part := piece.restrict(start, stop)) is not None]


def _log_bytes(db: Database) -> int:
    names = [name for name in os.listdir(db.path) if (parsed := parse_name(name)) and parsed[0] == "wal"]
    return sum(os.path.getsize(os.path.join(db.path, name)) for name in names)


def _memtable_bytes(db: Database) -> list[int]:
    """Return how many bytes of keys and values each memtable holds."""
    sizes: list[int] = []
    for memtable in db.view.memtables:
        keys, values, _ = memtable.columns()
        sizes.append(sum(map(len, keys)) + sum(map(len, values)))
    return sizes


def _ranges(pieces: list[Slice], samples: int) -> list[tuple[bytes, bytes | None]]:
    """Return the key ranges of some blocks, evenly spread over the bytes of all slices."""
    parts = [
        (piece, p)
        for piece in pieces
        for p, floor in enumerate(piece.segment.part_floors)
        if piece.stop is None or floor < piece.stop
    ]
    if not parts or not samples:
        return []
    step = max(len(parts) // samples, 1)
    chosen = parts[step // 2 :: step]
    found: set[tuple[bytes, bytes | None]] = set()
    for piece, p in chosen:
        floors = piece.segment.part(p).floors
        wanted = min(max(samples // len(chosen), 1), len(floors))
        for at in range(wanted):
            b = (2 * at + 1) * len(floors) // (2 * wanted)
            ceiling = floors[b + 1] if b + 1 < len(floors) else _behind(piece, p)
            low, high = piece.bounds(floors[b], ceiling)
            if high is None or low < high:
                found.add((low, high))
    return sorted(found, key=lambda item: item[0])


def _behind(piece: Slice, p: int) -> bytes | None:
    floors = piece.segment.part_floors
    return floors[p + 1] if p + 1 < len(floors) else piece.stop


def _stored_bytes(run: Run, low: bytes, high: bytes | None) -> int:
    return sum(
        sum(map(len, block.keys)) + sum(map(len, block.values))
        for piece in run.overlapping(low, high)
        for block in blocks(piece.segment, *piece.bounds(low, high))
    )

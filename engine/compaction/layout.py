"""How a merge's output is laid out: which slices stay as they are, which key ranges are rewritten. Pure
functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lamina.engine.discards import DiscardedRange, Discards
from lamina.engine.levels import Levels
from lamina.engine.run import Run, Slice


def movable(
    runs: list[Run],
    settled: Discards,
    start: bytes,
    stop: bytes | None,
    *,
    is_last: bool,
    size_min_bytes: int,
) -> list[Slice]:
    """Return the slices within a key range that can become part of the output without being rewritten, in
    order.

    Those are whole segments of a good size that no other input overlaps and that hold nothing to be dropped:
    no discarded entries, and in the last layer nothing but inserts.
    """
    found = [
        piece
        for run in runs
        for piece in run.slices
        if piece.size_bytes >= size_min_bytes
        and piece.is_whole
        and piece.start >= start
        and (stop is None or (piece.stop is not None and piece.stop <= stop))
        and not (is_last and _is_unclean(piece))
        and not any(
            item.number > piece.segment.properties.discards_applied
            for item in settled.overlapping(piece.start, piece.stop)
        )
        and not any(other is not piece for run in runs for other in run.overlapping(piece.start, piece.stop))
    ]
    return sorted(found, key=lambda piece: piece.start)


def _is_unclean(piece: Slice) -> bool:
    p = piece.segment.properties
    return p.tombstones > 0 or p.delta != (p.entries if p.counted else 0)


def gaps(moved: Iterable[Slice], start: bytes, stop: bytes | None) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield what is left of a key range between slices that are moved, given in order."""
    for piece in moved:
        if start < piece.start:
            yield start, piece.start
        if piece.stop is None:
            return
        start = piece.stop
    if stop is None or start < stop:
        yield start, stop


def discarded_bytes(run: Run, settled: Discards) -> int:
    """Return about how much of a run lies in discarded ranges that it has not been rid of."""
    if not len(settled):
        return 0
    total = 0
    for piece in run.slices:
        for item in settled.overlapping(piece.start, piece.stop):
            if item.number > piece.segment.properties.discards_applied:
                start = max(item.start, piece.start)
                stop = item.stop if piece.stop is None else min(item.stop, piece.stop)
                total += piece.segment.offset_before(stop) - piece.segment.offset_before(start)
    return total


def settle(levels: Levels, settled: Discards, *, may_forget: bool) -> tuple[Levels, Discards]:
    """Drop slices that lie wholly in discarded ranges; forget ranges that no segment still has entries
    of.

    `may_forget` is false while merges run: what they write comes from segments as they were when they began,
    and may bring back entries of a range that has been discarded since.
    """
    if not len(settled):
        return levels, settled
    dropped: set[Slice] = set()
    done: list[DiscardedRange] = []
    for item in settled:
        is_pending = False
        for run in levels.runs:
            for piece in run.overlapping(item.start, item.stop):
                if piece.start >= item.start and piece.stop is not None and piece.stop <= item.stop:
                    dropped.add(piece)
                elif piece.segment.properties.discards_applied < item.number:
                    is_pending = True
        if may_forget and not is_pending:
            done.append(item)
    if done:
        settled = settled.copy()
        settled.forget(done)
    return (levels.without_slices(dropped) if dropped else levels), settled

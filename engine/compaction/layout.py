"""How a merge's output is laid out: which slices stay as they are, which key ranges are rewritten. Pure
functions."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from lamina.engine.discards import DiscardedRange, Discards
from lamina.engine.levels import Levels
from lamina.engine.run import Run, Slice


class AgedRange(NamedTuple):
    """A key range to be rewritten, and the ages its segments will have."""

    start: bytes
    stop: bytes | None
    age_first: int
    age_last: int


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


def aged_ranges(
    ranges: Iterable[tuple[bytes, bytes | None]], inputs: Sequence[Run], others: Sequence[Run]
) -> list[AgedRange]:
    """Return the ranges that hold anything, with the ages their output will have; `others` are not merged.

    A segment replaces, in its key range, the logs of its ages. After a compaction of a part of the key space,
    ages differ from place to place: output that spans several places could then claim ages of a run that is
    not among the inputs, and overlaps. Such a range is divided wherever an input's slice begins or ends.
    """
    found: list[AgedRange] = []
    for start, stop in ranges:
        pieces = [piece for run in inputs for piece in run.overlapping(start, stop)]
        if not pieces:
            continue
        aged = _aged(start, stop, pieces)
        if not any(_is_among(aged, piece) for run in others for piece in run.overlapping(start, stop)):
            found.append(aged)
            continue
        bounds = {bound for piece in pieces for bound in (piece.start, piece.stop) if bound is not None}
        cuts = sorted(bound for bound in bounds if start < bound and (stop is None or bound < stop))
        for low, high in pairwise([start, *cuts, stop]):
            assert low is not None
            between = [piece for piece in pieces if piece.overlaps(low, high)]
            if between:
                found.append(_aged(low, high, between))
    return found


def divided(ranges: Sequence[AgedRange], slices: Iterable[Slice], size_min_bytes: int) -> list[AgedRange]:
    """Return the same ranges cut into pieces of `size_min_bytes` of the slices or a little more, for several
    workers to share.

    Cuts lie where index parts begin: at exact floors, which are known without a read.
    """
    weights: dict[bytes, int] = {}
    for piece in slices:
        top = piece.segment.top
        ends = [offset + size for offset, size in zip(top.offsets, top.sizes)]
        for floor, ceiling, begin, end in zip(top.floors, [*top.floors[1:], None], [0, *ends], ends):
            is_hidden = ceiling is not None and ceiling <= piece.start
            if not is_hidden and piece.overlaps(floor, None):
                floor = max(floor, piece.start)
                weights[floor] = weights.get(floor, 0) + end - begin
    floors = sorted(weights)
    found: list[AgedRange] = []
    for item in ranges:
        start = item.start
        first = bisect_right(floors, start)
        last = len(floors) if item.stop is None else bisect_left(floors, item.stop)
        size_bytes = weights[floors[first - 1]] if first else 0  # of the part that the range begins in
        for floor in floors[first:last]:
            if size_bytes >= size_min_bytes:
                found.append(item._replace(start=start, stop=floor))
                start, size_bytes = floor, 0
            size_bytes += weights[floor]
        found.append(item._replace(start=start))
    return found


def _aged(start: bytes, stop: bytes | None, pieces: Iterable[Slice]) -> AgedRange:
    all_of = [piece.segment.properties for piece in pieces]
    return AgedRange(start, stop, min(p.age_first for p in all_of), max(p.age_last for p in all_of))


def _is_among(aged: AgedRange, piece: Slice) -> bool:
    p = piece.segment.properties
    return p.age_first <= aged.age_last and aged.age_first <= p.age_last


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


def has_garbage(run: Run, settled: Discards) -> bool:
    """Tell whether rewriting a run that is the last layer would drop anything of it."""
    # Not `discarded_bytes`, which is a guess from block offsets: 0 for a range inside one block.
    return any(
        (piece.entries != piece.delta if piece.segment.properties.counted else piece.tombstones > 0)
        or any(
            item.number > piece.segment.properties.discards_applied
            for item in settled.overlapping(piece.start, piece.stop)
        )
        for piece in run.slices
    )


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

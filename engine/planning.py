"""From a decision to a job: what a flush or a merge reads, what it writes, and under which numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lamina.engine.compaction.job import FlushJob, MergeJob, Output, SliceRef
from lamina.engine.compaction.layout import AgedRange, aged_ranges, divided, gaps
from lamina.engine.compaction.picker import Plan
from lamina.engine.discards import Discards
from lamina.engine.host import Host
from lamina.engine.levels import Levels
from lamina.engine.memtable import Memtable
from lamina.engine.options import Options
from lamina.engine.run import Slice

_SHARES_EACH = 4
_RAW_OVERHEAD_BYTES = 32
"""What an entry takes in a segment beside key and value, at most: column ends, filter, frames, indexes."""


def flush_size_bytes(options: Options) -> int:
    """Return what a full memtable becomes on disk, roughly: about a quarter of the memory it takes."""
    return max(options.memtable_budget_bytes // 4, 1)


def share_size_bytes(pieces: Sequence[Slice], options: Options) -> int:
    """Return the size of the ranges that workers share a merge by.

    Several for each, so that all end together, but none so small that it leaves tiny segments.
    """
    size_bytes = sum(piece.size_bytes for piece in pieces)
    return max(size_bytes // (_SHARES_EACH * options.workers), options.segment_size_bytes // 4)


def flush_job(host: Host, memtable: Memtable, settled: Discards, *, is_last: bool) -> FlushJob:
    """Return the job that writes a sealed memtable into a new run of level 0.

    The ranges that the memtable's own logs discard get their numbers here, as they will when the flush is
    installed.
    """
    discards = settled.with_ranges(memtable.discards)
    ages = (memtable.wals[0], memtable.wals[-1])
    output = _output(host, 0, None, ages, memtable.size_bytes, 1)
    return FlushJob(memtable.wals, is_last, list(discards), output)


def merge_job(
    host: Host,
    plan: Plan,
    levels: Levels,
    settled: Discards,
    moved: list[Slice],
    start: bytes,
    stop: bytes | None,
    *,
    output_run: int,
    is_last: bool,
) -> MergeJob | None:
    """Return the job that merges the plan's runs within a key range, but for the slices that were `moved`.

    None if they were all there was. `levels` are those after the move.
    """
    inputs = [run for run in levels.runs if run.number in plan.runs]
    kept_out = {piece.segment.number for piece in moved}
    # Slices that were moved lie between the ranges, so they count for nothing there.
    others = [run for run in levels.runs if run.number not in plan.runs]
    ranges = aged_ranges(gaps(moved, start, stop), inputs, others)
    pieces = [
        [piece for piece in run.overlapping(start, stop) if piece.segment.number not in kept_out]
        for run in inputs
    ]
    options = host.options
    if options.workers > 1:
        all_pieces = [piece for row in pieces for piece in row]
        ranges = divided(ranges, all_pieces, share_size_bytes(all_pieces, options))
        pieces = [list(_within(ranges, row)) for row in pieces]
        ranges = [item for item in ranges if any(_is_in(item, piece) for row in pieces for piece in row)]
    refs = [[SliceRef(p.segment.number, p.start, p.stop) for p in row] for row in pieces if row]
    if not ranges:
        return None
    properties = [piece.segment.properties for run in inputs for piece in run.slices]
    size_bytes = sum(p.key_bytes + p.value_bytes + _RAW_OVERHEAD_BYTES * p.entries for p in properties)
    ages = (ranges[0].age_first, ranges[0].age_last)
    output = _output(host, plan.level, output_run, ages, size_bytes, len(ranges))
    return MergeJob(refs, ranges, is_last, list(settled), output)


def _within(ranges: Sequence[AgedRange], pieces: Sequence[Slice]) -> Iterator[Slice]:
    """Yield what the slices show of each range, without what shows nothing there.

    A worker may begin with a range when others have been installed. A segment of which nothing else was left
    is gone by then, so none may be named that has no entry in the range. Cost: two block reads for each slice
    and range at most.
    """
    for item in ranges:
        for piece in pieces:
            if piece.overlaps(item.start, item.stop):
                part = piece.restrict(item.start, item.stop)
                if part is not None:
                    yield part


def _is_in(item: AgedRange, piece: Slice) -> bool:
    return piece.start >= item.start and piece.overlaps(item.start, item.stop)


def _output(
    host: Host, level: int, run: int | None, ages: tuple[int, int], size_bytes: int, ranges: int
) -> Output:
    """Return where `size_bytes` of raw data go. A `run` of None becomes a new one."""
    options = host.options
    # Twice what the data needs, uncompressed as it is measured here: numbers cost nothing.
    segments = 2 * (size_bytes // options.segment_size_bytes + 1) + ranges + 8
    if options.workers > 1:
        segments *= ranges  # each range is given as many as the whole may need: it could be nearly all of it
    number = host.take_numbers(segments + 1)
    return Output(
        directory=host.path,
        block_size_bytes=options.block_size_bytes,
        segment_size_bytes=options.segment_size_bytes,
        compress=options.compression == "lz4",
        filter_bits_per_key=options.filter_bits_per_key,
        counted=host.counted,
        level=level,
        run=number if run is None else run,
        age_first=ages[0],
        age_last=ages[1],
        first_number=number + 1,
        numbers_end=number + 1 + segments,
        rate_limit_bytes_per_s=options.rate_limit_bytes_per_s,
        database_salt=host.salt,
    )

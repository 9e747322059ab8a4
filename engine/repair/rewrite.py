"""Making counts right where entries were lost: the keys of a hole are rewritten from what is left of them.

An entry says what its key was in older layers, so the loss of one makes others wrong: an INSERT that is gone
leaves a REPLACE over nothing. In the key range of a hole, which may lie in any layer, all layers are
therefore merged into one: the newest value of each key wins, and becomes an INSERT of the oldest run. Outside
of the holes every key has all its entries, and nothing is touched.
"""

from __future__ import annotations

from collections.abc import Iterable

from lamina.engine.compaction.job import Builder, FlushJob, Output, Step, run_flush
from lamina.engine.discards import Discards
from lamina.engine.entry import INSERT
from lamina.engine.filesystem import FileSystem
from lamina.engine.layers import View
from lamina.engine.levels import Levels
from lamina.engine.memtable import Memtable
from lamina.engine.repair.numbers import OpenSegments
from lamina.engine.repair.salvage import BLOCK_SIZE_BYTES, FILTER_BITS_PER_KEY
from lamina.engine.run import Run, Slice
from lamina.engine.segment import format as fmt

Range = tuple[bytes, bytes | None]

_RANGES_MAX = 256
"""Each range that is rewritten cuts runs in two; of many, neighbours are taken together."""

SEGMENT_SIZE_BYTES = 32 << 20


def joined_ranges(ranges: Iterable[Range]) -> list[Range]:
    """Return few, disjoint ranges that cover those given, with bounds that segments may have."""
    joined: list[Range] = []
    for start, stop in sorted(map(_short, ranges), key=lambda one: one[0]):
        if joined and ((last := joined[-1][1]) is None or start <= last):
            if last is not None and (stop is None or stop > last):
                joined[-1] = joined[-1][0], stop
        elif stop is None or start < stop:
            joined.append((start, stop))
    group = -(-len(joined) // _RANGES_MAX)
    if group > 1:
        parts = [joined[i : i + group] for i in range(0, len(joined), group)]
        joined = [(part[0][0], part[-1][1]) for part in parts]
    return joined


def _short(one: Range) -> Range:
    start, stop = one
    if stop is not None and len(stop) >= fmt.FLOOR_SIZE_MAX:
        stop = fmt.upper_bound(stop)
    return start[: fmt.FLOOR_SIZE_MAX - 1], stop


def rewrite_ranges(
    fs: FileSystem,
    directory: str,
    levels: Levels,
    discards: Discards,
    ranges: Iterable[Range],
    segments: OpenSegments,
) -> Levels:
    """Rewrite key ranges of a counted database into its oldest run; returns the new levels.

    Errors: CorruptionError, OSError. Cost: reads and writes what lies in the ranges.
    """
    for start, stop in ranges:
        pieces = [piece for run in levels.runs for piece in run.overlapping(start, stop)]
        if not pieces:
            continue
        oldest = levels.runs[-1]
        properties = [piece.segment.properties for piece in pieces]
        ages = min(p.age_first for p in properties), max(p.age_last for p in properties)
        level = levels.level_of(oldest.number)
        output = _output(directory, segments, level, oldest.number, ages, counted=True)
        builder = Builder(fs, output, start, stop, discards.last_number, None)
        try:
            steps = _write(builder, View((), levels, discards, counted=True), start, stop)
        except BaseException:
            builder.abort()
            raise
        segments.next_number = builder.next_number
        inputs = [run.number for run in levels.runs]
        for step in steps:
            written = [Slice.whole(segments.open(directory, number)) for number in step.segments]
            levels = levels.apply(inputs, step.start, step.stop, output.run, output.level, written, ())
    return levels


def _write(builder: Builder, view: View, start: bytes, stop: bytes | None) -> list[Step]:
    steps: list[Step] = []
    for keys, values in view.scan_chunks(start, stop):
        if keys:
            step = builder.add(keys, values, bytes((INSERT,)) * len(keys))
            if step is not None:
                steps.append(step)
    steps.append(builder.finish(stop))
    return steps


def flush_memtable(
    fs: FileSystem,
    directory: str,
    levels: Levels,
    settled: Discards,
    memtable: Memtable,
    ages: tuple[int, int],
    segments: OpenSegments,
) -> Levels:
    """Write a memtable, whose kinds are right, into a new run of level 0; returns the new levels.

    Errors: OSError.
    """
    youngest = max((piece.segment.properties.age_last for piece in levels.slices), default=0)
    age_first = max(ages[0], youngest + 1)
    run = segments.take()
    output = _output(
        directory, segments, 0, run, (age_first, max(ages[1], age_first)), counted=memtable.counted
    )
    discards = settled.with_ranges(memtable.discards)
    step = run_flush(fs, FlushJob([], not levels.runs, list(discards), output), memtable)
    segments.next_number = max([segments.next_number, *(number + 1 for number in step.segments)])
    slices = [Slice.whole(segments.open(directory, number)) for number in step.segments]
    return levels.with_run(Run(run, slices)) if slices else levels


def _output(
    directory: str,
    segments: OpenSegments,
    level: int,
    run: int,
    ages: tuple[int, int],
    *,
    counted: bool,
) -> Output:
    return Output(
        directory=directory,
        block_size_bytes=BLOCK_SIZE_BYTES,
        segment_size_bytes=SEGMENT_SIZE_BYTES,
        compress=True,
        filter_bits_per_key=FILTER_BITS_PER_KEY,
        counted=counted,
        level=level,
        run=run,
        age_first=ages[0],
        age_last=ages[1],
        first_number=segments.next_number,
        numbers_end=1 << 62,
        rate_limit_bytes_per_s=0,
        database_salt=segments.salt,
    )

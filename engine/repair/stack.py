"""The layers of the repaired database: planned from what was found, then built from files.

With a manifest whose layout is sound the runs are as it says, less what is lost. Without one they are
arranged by the segments' footers; then the newest flush may not have come to its end, in which case its logs
are still there and are replayed instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from lamina.engine.errors import CorruptionError
from lamina.engine.filenames import segment_name
from lamina.engine.filesystem import FileSystem
from lamina.engine.levels import Levels
from lamina.engine.manifest import Manifest
from lamina.engine.repair.arrange import Footer, arrange
from lamina.engine.repair.inventory import Inventory
from lamina.engine.repair.numbers import OpenSegments
from lamina.engine.repair.report import Loss, RepairReport
from lamina.engine.repair.rewrite import Range
from lamina.engine.repair.salvage import Salvage, rewrite
from lamina.engine.run import Run, Slice
from lamina.engine.segment.check import open_uncached
from lamina.engine.segment.format import Properties
from lamina.engine.segment.reader import SegmentReader

Ages = tuple[int, int]


class PlannedSlice(NamedTuple):
    """What a run will show of a segment, by its old number."""

    segment: int
    start: bytes
    stop: bytes | None


class PlannedRun(NamedTuple):
    """A run to be."""

    number: int
    slices: list[PlannedSlice]


class Plan(NamedTuple):
    """What will be built. `kept`: segments that stay as they are; `rewritten`: those that are salvaged;
    `gone`: of which nothing is left; `hidden`: which others stand in the place of. `ages`: of segments, by
    number. `holes`: key ranges in which entries were lost. `next_number`: no run has it or a larger one."""

    manifest: Manifest
    levels: list[list[PlannedRun]]
    salvaged: dict[int, Salvage]
    kept: list[int]
    rewritten: list[int]
    gone: list[int]
    hidden: list[int]
    ages: dict[int, Ages]
    holes: list[Range]
    next_number: int


def plan_levels(
    fs: FileSystem,
    found: Inventory,
    salvaged: dict[int, Salvage],
    report: RepairReport,
    is_layout_wrong: bool,
) -> Plan:
    """Plan the layers; what is lost of segments goes into the report. Errors: OSError."""
    properties = _properties(fs, found, salvaged)
    if found.is_known and not is_layout_wrong:
        return _plan_by_manifest(found, salvaged, properties, report)
    return _plan_by_footers(found, salvaged, properties, report)


def _properties(fs: FileSystem, found: Inventory, salvaged: dict[int, Salvage]) -> dict[int, Properties]:
    """Return what each segment says of itself, where that can be read."""
    known: dict[int, Properties] = {}
    for number, path in found.segments.items():
        if number in salvaged:
            properties = salvaged[number].properties
            if properties is not None:
                known[number] = properties
        else:
            try:
                known[number] = open_uncached(fs, path[: -len(segment_name(number)) - 1], number).properties
            except CorruptionError:
                continue  # nobody names it, so nobody has looked at it
    return known


# -- by the manifest -------------------------------------------------------------------------------


def _plan_by_manifest(
    found: Inventory, salvaged: dict[int, Salvage], properties: dict[int, Properties], report: RepairReport
) -> Plan:
    levels: list[list[PlannedRun]] = []
    holes: list[Range] = []
    used: dict[int, None] = {}
    gone: dict[int, None] = {}
    for runs in found.manifest.levels:
        row: list[PlannedRun] = []
        for run in runs:
            slices: list[PlannedSlice] = []
            for record in run.slices:
                number = record.segment
                salvage = salvaged.get(number)
                if number in found.segments and (salvage is None or salvage.blocks):
                    slices.append(PlannedSlice(number, record.start, record.stop))
                    used[number] = None
                    continue
                gone[number] = None
                holes.append((record.start, record.stop))
                what = "the segment is missing" if salvage is None else "nothing of the segment can be read"
                size_bytes, entries = record.size_bytes, record.entries
                report.losses.append(
                    Loss(segment_name(number), None, what, size_bytes, entries, record.start, record.stop)
                )
            if slices:
                row.append(PlannedRun(run.number, slices))
        levels.append(row)
    holes += _note_holes(salvaged, used, report)
    return Plan(
        found.manifest,
        levels,
        salvaged,
        [number for number in used if number not in salvaged],
        [number for number in used if number in salvaged],
        list(gone),
        [],
        _ages(levels, properties),
        holes,
        found.next_number,
    )


def _note_holes(salvaged: dict[int, Salvage], used: Iterable[int], report: RepairReport) -> list[Range]:
    holes: list[Range] = []
    for number in used:
        if number in salvaged:
            report.losses += salvaged[number].losses()
            holes += [(hole.start, hole.stop) for hole in salvaged[number].holes]
    return holes


def _ages(levels: list[list[PlannedRun]], properties: dict[int, Properties]) -> dict[int, Ages]:
    """Return the ages of all segments; of one whose own are lost some that fit between its neighbours'."""
    ages = {number: (p.age_first, p.age_last) for number, p in properties.items()}
    older: list[PlannedSlice] = []
    for run in reversed([run for runs in levels for run in runs]):
        for piece in run.slices:
            if piece.segment not in ages:
                below = [ages[other.segment][1] for other in older if _overlap(piece, other)]
                # The logs it came from have numbers between those of what lies below and above it.
                age = max(below, default=0) + 1
                ages[piece.segment] = age, age
        older += run.slices
    return ages


def _overlap(a: PlannedSlice, b: PlannedSlice) -> bool:
    return (a.stop is None or b.start < a.stop) and (b.stop is None or a.start < b.stop)


# -- by footers ------------------------------------------------------------------------------------


def _plan_by_footers(
    found: Inventory, salvaged: dict[int, Salvage], properties: dict[int, Properties], report: RepairReport
) -> Plan:
    named = {s.segment for runs in found.manifest.levels for run in runs for s in run.slices}
    candidates = [n for n in found.segments if n in named or not found.is_known]
    gone = [n for n in candidates if n in salvaged and not salvaged[n].blocks]
    gone += [n for n in candidates if n not in salvaged and n not in properties]
    for number in gone:
        what = "nothing of the segment can be read"
        size_bytes = sum(hole.size_bytes for hole in salvaged[number].holes) if number in salvaged else 0
        report.losses.append(Loss(segment_name(number), None, what, size_bytes, None))
    candidates = sorted(set(candidates) - set(gone))
    manifest = found.manifest
    if not found.is_known:
        candidates, manifest = _without_unfinished(found, candidates, properties, salvaged, report)
    ages = {number: (p.age_first, p.age_last) for number, p in properties.items()}
    unknown = [number for number in candidates if number not in properties]
    for i, number in enumerate(unknown):
        ages[number] = (i - len(unknown), i - len(unknown))
        report.notes.append(
            f"how old {segment_name(number)} is, is not known: it is taken for older than all others"
        )
    stack = arrange(_footer(number, properties.get(number), ages[number]) for number in candidates)
    if stack.doubtful:
        report.notes.append("the ages of segments contradict each other: the younger ones win")
    next_number = found.next_number
    taken: set[int] = set()
    levels: list[list[PlannedRun]] = []
    for runs in stack.levels:
        row: list[PlannedRun] = []
        for run in runs:
            number = max(run, key=lambda piece: piece.footer.level).footer.run
            if number in taken:
                number, next_number = next_number, next_number + 1
            taken.add(number)
            row.append(PlannedRun(number, [PlannedSlice(p.footer.number, p.start, p.stop) for p in run]))
        levels.append(row)
    used = [number for number in candidates if number not in stack.hidden]
    holes = _note_holes(salvaged, used, report)
    holes += [(b"", None)] if gone else []
    return Plan(
        manifest,
        levels,
        salvaged,
        [number for number in used if number not in salvaged],
        [number for number in used if number in salvaged],
        gone,
        stack.hidden,
        ages,
        holes,
        next_number,
    )


def _footer(number: int, p: Properties | None, ages: Ages) -> Footer:
    if p is None:
        return Footer(number, 0, number, *ages, b"", None, b"", None)
    return Footer(number, p.level, p.run, *ages, p.start, p.stop, p.start, p.ceiling)


def _without_unfinished(
    found: Inventory,
    candidates: list[int],
    properties: dict[int, Properties],
    salvaged: dict[int, Salvage],
    report: RepairReport,
) -> tuple[list[int], Manifest]:
    """Leave out the segments of the newest flush, if it is not whole and its logs are still there."""
    known = {number: properties[number] for number in candidates if number in properties}
    newest = max(((p.age_last, p.age_first) for p in known.values()), default=(0, 0))
    flush = sorted(
        (p.start, number)
        for number, p in known.items()
        if (p.age_last, p.age_first) == newest and p.level == 0
    )
    numbers = [number for _, number in flush]
    logs = [number for number in found.logs if newest[1] <= number <= newest[0]]
    if not flush or newest[1] not in logs or newest[0] not in logs:
        return candidates, found.manifest
    stops = [known[number].stop for number in numbers]
    starts: list[bytes | None] = [known[number].start for number in numbers]
    is_whole = starts[0] == b"" and stops[-1] is None and starts[1:] == stops[:-1]
    if is_whole and not any(number in salvaged for number in numbers):
        return candidates, found.manifest
    report.actions.append(
        f"{', '.join(map(segment_name, numbers))}: an unfinished flush, whose logs are replayed instead"
    )
    kept = [number for number in candidates if number not in numbers]
    return kept, found.manifest._replace(wal_first=newest[1])


# -- building --------------------------------------------------------------------------------------


def build_levels(fs: FileSystem, work: str, plan: Plan, segments: OpenSegments) -> Levels:
    """Write the salvaged segments into `work`, where those that are kept are already, and return the levels.

    Errors: CorruptionError, OSError.
    """
    segments.next_number = max(segments.next_number, plan.next_number)
    readers: dict[int, SegmentReader] = {number: segments.open(work, number) for number in plan.kept}
    levels: list[list[Run]] = []
    for level, runs in enumerate(plan.levels):
        row: list[Run] = []
        for run in runs:
            slices: list[Slice] = []
            for piece in run.slices:
                if piece.segment not in readers:
                    number = _rewrite(fs, work, plan, piece.segment, level, run.number, segments)
                    readers[piece.segment] = segments.open(work, number)
                shown = Slice.whole(readers[piece.segment]).restrict(piece.start, piece.stop)
                if shown is not None:
                    slices.append(shown)
            if slices:
                row.append(Run(run.number, slices))
        levels.append(row)
    return Levels(levels)


def _rewrite(
    fs: FileSystem, work: str, plan: Plan, old: int, level: int, run: int, segments: OpenSegments
) -> int:
    salvage = plan.salvaged[old]
    p = salvage.properties
    number = segments.take()
    rewrite(
        fs,
        salvage,
        work,
        number,
        database_salt=segments.salt,
        counted=plan.manifest.counted,
        start=b"" if p is None else p.start,
        stop=None if p is None else p.stop,
        level=level,
        run=run,
        ages=plan.ages[old],
        discards_applied=0 if p is None else p.discards_applied,
    )
    return number

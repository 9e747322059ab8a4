"""Which runs to merge next: a pure function of their sizes.

Tiered levels above, one run at the bottom (lazy leveling). With T = `level_runs_max` and F the size of a
flush, a run of level n has up to about F x T^n bytes:

* a level above the bottom that holds T runs is merged into one run of the next level; into the bottom run
  itself where that is the next level;
* if the T runs are small for their level, the newest ones of like size are merged and stay there, so that
  many tiny flushes do not reach the bottom;
* the bottom run moves a level down when it outgrows its own, which makes room for a tier between.

A run moves down without being rewritten where it is alone. Runs that a task is working on are busy and never
picked twice. Inputs of a merge are neighbours in age; with the bottom run among them, tombstones end there.
"""

from __future__ import annotations

from typing import NamedTuple

LEVELS_MAX = 12
_ALIKE_RATIO = 2


class RunShape(NamedTuple):
    """What the picker knows of a run. `discarded_bytes`: how much of it lies in discarded ranges."""

    number: int
    size_bytes: int
    busy: bool = False
    discarded_bytes: int = 0


class Plan(NamedTuple):
    """Merge `runs` (numbers, newest first) into one run of `level`; `reason` is for people."""

    runs: tuple[int, ...]
    level: int
    reason: str


Levels = list[list[RunShape]]


def level_capacity_bytes(level: int, flush_size_bytes: int, level_runs_max: int) -> int:
    """Return the nominal size of one run of `level`."""
    return flush_size_bytes * int(level_runs_max**level)


def pick_compaction(levels: Levels, *, flush_size_bytes: int, level_runs_max: int) -> Plan | None:
    """Return the most urgent merge, or None.

    Shape: `levels[n]` is newest first; upper levels are newer than lower ones. Upper levels go first: they
    are what reads and writers wait for.
    """
    bottom = max((level for level, runs in enumerate(levels) if runs), default=0)
    for level, runs in enumerate(levels):
        if len(runs) >= level_runs_max or (level == bottom > 0 and len(runs) > 1):
            plan = _merge_level(levels, level, bottom, flush_size_bytes, level_runs_max)
            if plan is not None:
                return plan
    return _pick_discarded(levels)


def _merge_level(
    levels: Levels, level: int, bottom: int, flush_size_bytes: int, level_runs_max: int
) -> Plan | None:
    inputs = _free_tail(levels[level])
    if len(inputs) < 2 or len(inputs) < min(level_runs_max, len(levels[level])):
        return _merge_while_waiting(levels[level], level, level_runs_max)
    size_bytes = sum(run.size_bytes for run in inputs)
    if (
        level < bottom
        and size_bytes <= level_capacity_bytes(level, flush_size_bytes, level_runs_max) * level_runs_max // 2
    ):
        return Plan(tuple(run.number for run in _newest_alike(inputs)), level, "small runs")
    target = level if level == bottom and level > 0 else level + 1
    if target == bottom and level < bottom:
        below = levels[bottom]
        if any(run.busy for run in below):
            return _merge_while_waiting(levels[level], level, level_runs_max)
        inputs = inputs + below
        size_bytes += sum(run.size_bytes for run in below)
    if target >= bottom:
        # The bottom run has as much room as all the runs of its level would have together.
        while (
            size_bytes > level_capacity_bytes(target + 1, flush_size_bytes, level_runs_max)
            and target < LEVELS_MAX - 1
        ):
            target += 1
    return Plan(tuple(run.number for run in inputs), target, f"level {level} is full")


def _merge_while_waiting(runs: list[RunShape], level: int, level_runs_max: int) -> Plan | None:
    """Return a merge within a level whose runs cannot go down yet, because older ones are being merged.

    A merge into a large bottom run takes as long as tens of flushes: without this, their runs would pile up
    until writers are stopped.
    """
    free: list[RunShape] = []
    for run in runs:
        if run.busy:
            break
        free.append(run)
    if len(free) < level_runs_max:
        return None
    return Plan(tuple(run.number for run in _newest_alike(free)), level, "older runs are being merged")


def _newest_alike(runs: list[RunShape]) -> list[RunShape]:
    """Return the newest runs, two or more, up to the first that is much larger than those before it together.

    Merging small runs with a large one again and again would write the large one again and again; among their
    like, each entry is written once for each doubling.
    """
    group = runs[:2]
    size_bytes = sum(run.size_bytes for run in group)
    for run in runs[2:]:
        if run.size_bytes > _ALIKE_RATIO * size_bytes:
            break
        group.append(run)
        size_bytes += run.size_bytes
    return group


def _free_tail(runs: list[RunShape]) -> list[RunShape]:
    """Return the oldest runs of a level down from the last busy one."""
    free: list[RunShape] = []
    for run in reversed(runs):
        if run.busy:
            break
        free.insert(0, run)
    if len(free) < len(runs) and any(run.busy for run in runs[len(runs) - len(free) :]):
        return []
    return free


def _pick_discarded(levels: Levels) -> Plan | None:
    """Return a rewrite of the run that would give back the largest share of itself, if a third or more of it
    is dead."""
    best: tuple[float, int, int] | None = None
    for level, runs in enumerate(levels):
        for run in runs:
            if not run.busy and run.discarded_bytes * 3 >= run.size_bytes > 0:
                share = run.discarded_bytes / run.size_bytes
                if best is None or share > best[0]:
                    best = (share, level, run.number)
    return None if best is None else Plan((best[2],), best[1], "discarded data")

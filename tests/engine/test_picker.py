"""Which runs are merged next. The cases are in tests/data/compaction and read as a specification."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.datadriven import Case, run_datadriven
from lamina.engine.compaction.picker import LEVELS_MAX, Plan, RunShape, level_capacity_bytes, pick_compaction

DATA = Path(__file__).parent.parent / "data" / "compaction"
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
RUN = re.compile(r"(\d+):(\d+)([KMG]?)(\*?)(?:-(\d+)([KMG]?))?")
"""A run: its number and size; ``*`` if it is busy; behind a minus sign what of it is discarded."""


def parse_size(text: str) -> int:
    return int(text.rstrip("KMG")) * UNITS[text.lstrip("0123456789")]


def show_size(size_bytes: int) -> str:
    for unit in ("G", "M", "K"):
        if size_bytes >= 10 * UNITS[unit]:
            return f"{round(size_bytes / UNITS[unit])}{unit}"
    return str(size_bytes)


def parse_run(word: str) -> RunShape:
    match = RUN.fullmatch(word)
    if match is None:
        raise ValueError(f"{word!r} is no run")
    number, size, unit, busy, dead, dead_unit = match.groups()
    dead_bytes = int(dead) * UNITS[dead_unit] if dead else 0
    return RunShape(int(number), int(size) * UNITS[unit], bool(busy), dead_bytes)


class Tree:
    """Levels as the picker sees them, and what installing a plan does to them."""

    def __init__(self, flush_size_bytes: int, level_runs_max: int) -> None:
        self.flush_size_bytes = flush_size_bytes
        self.level_runs_max = level_runs_max
        self.levels: list[list[RunShape]] = []
        self.last_number = 0
        self.flushed_bytes = 0
        self.merged_bytes = 0
        self.runs_most = 0

    @classmethod
    def parse(cls, case: Case) -> Tree:
        tree = cls(parse_size(case.option("flush", "1M")), case.integer("runs", 4))
        for line in case.lines():
            level, *words = line.split()
            while len(tree.levels) < int(level.removeprefix("L")):
                tree.levels.append([])
            tree.levels.append([parse_run(word) for word in words])
        tree.last_number = max((run.number for runs in tree.levels for run in runs), default=0)
        return tree

    def pick(self) -> Plan | None:
        plan = pick_compaction(
            self.levels, flush_size_bytes=self.flush_size_bytes, level_runs_max=self.level_runs_max
        )
        if plan is not None:
            self.check(plan)
        return plan

    def check(self, plan: Plan) -> None:
        """Assert what holds for every plan: neighbours in age, none of them busy, and never upwards."""
        order = [run for runs in self.levels for run in runs]
        at = [run.number for run in order].index(plan.runs[0])
        chosen = order[at : at + len(plan.runs)]
        assert tuple(run.number for run in chosen) == plan.runs
        assert not any(run.busy for run in chosen)
        deepest = max(level for level, runs in enumerate(self.levels) for run in runs if run in chosen)
        assert deepest <= plan.level < LEVELS_MAX

    def install(self, plan: Plan, result_bytes: int) -> None:
        chosen = set(plan.runs)
        stays = next((n for n in plan.runs if any(r.number == n for r in self.level(plan.level))), None)
        self.last_number += 1
        result = RunShape(self.last_number, result_bytes)
        while len(self.levels) <= plan.level:
            self.levels.append([])
        row = self.levels[plan.level]
        at = next(i for i, run in enumerate(row) if run.number == stays) if stays is not None else 0
        if len(plan.runs) > 1:
            self.merged_bytes += result_bytes
        row.insert(at, result)
        self.levels = [[run for run in runs if run.number not in chosen] for runs in self.levels]

    def level(self, number: int) -> list[RunShape]:
        return self.levels[number] if number < len(self.levels) else []

    def flush(self, size_bytes: int) -> None:
        self.last_number += 1
        if not self.levels:
            self.levels.append([])
        self.levels[0].insert(0, RunShape(self.last_number, size_bytes))
        self.flushed_bytes += size_bytes

    def settle(self, universe_bytes: int) -> None:
        """Merge until nothing is due; a run never grows beyond `universe_bytes`, all the data there is."""
        for _ in range(100):
            self.runs_most = max(self.runs_most, sum(map(len, self.levels)))
            plan = self.pick()
            if plan is None:
                return
            sizes = {run.number: run.size_bytes for runs in self.levels for run in runs}
            self.install(plan, min(sum(sizes[number] for number in plan.runs), universe_bytes))
        raise AssertionError("merging does not come to an end")

    def shape(self) -> str:
        rows = [" ".join(show_size(run.size_bytes) for run in runs) for runs in self.levels]
        return "\n".join(f"L{level} {row}".rstrip() for level, row in enumerate(rows)) or "nothing"


def show(plan: Plan | None) -> str:
    if plan is None:
        return "nothing"
    return f"{' '.join(map(str, plan.runs))} -> L{plan.level}: {plan.reason}"


def grow(case: Case) -> str:
    """Flush memtable after memtable and merge whatever is due."""
    tree = Tree(parse_size(case.option("flush", "1M")), case.integer("runs", 4))
    size_bytes = parse_size(case.option("size", case.option("flush", "1M")))
    universe_bytes = parse_size(case.option("universe", "1000G"))
    for _ in range(case.integer("flushes")):
        tree.flush(size_bytes)
        tree.settle(universe_bytes)
    amplification = 1 + tree.merged_bytes / tree.flushed_bytes
    return f"{tree.shape()}\nwritten {amplification:.2f} times, at most {tree.runs_most} runs"


@pytest.mark.parametrize("path", sorted(DATA.iterdir()), ids=lambda path: path.name)
def test_cases(path: Path) -> None:
    tree = Tree(1 << 20, 4)

    def run(case: Case) -> str:
        nonlocal tree
        match case.command:
            case "define":
                tree = Tree.parse(case)
                return show(tree.pick())
            case "install":
                plan = tree.pick()
                assert plan is not None
                tree.install(plan, parse_size(case.option("result")))
                return f"{show(plan)}\n{tree.shape()}"
            case "grow":
                return grow(case)
        raise case.unknown()

    run_datadriven(path, run)


def test_capacities() -> None:
    assert [level_capacity_bytes(level, 100, 4) for level in range(4)] == [100, 400, 1600, 6400]


@pytest.mark.parametrize("runs", [2, 3, 4, 8])
def test_growth_keeps_its_promises(runs: int) -> None:
    """About one write per level above the bottom; at most T runs in each, and one at the bottom."""
    tree = Tree(1000, runs)
    for flushes in range(1, 3001):
        tree.flush(1000)
        tree.settle(1 << 60)
        bottom = max(level for level, row in enumerate(tree.levels) if row)
        assert bottom == 0 or len(tree.levels[bottom]) == 1
        assert all(len(row) < runs or level == bottom for level, row in enumerate(tree.levels))
        assert sum(run.size_bytes for row in tree.levels for run in row) == flushes * 1000
        depth = len(tree.levels)
    assert runs ** (depth - 1) <= 3000 * runs
    # Each entry moves down once per level, and is rewritten at the bottom about T times at most.
    assert 1 + tree.merged_bytes / tree.flushed_bytes <= depth + runs + 1


@pytest.mark.parametrize("percent", [1, 3, 10, 30, 100, 250])
def test_flushes_of_any_size_stay_cheap(percent: int) -> None:
    """A `flush` every second, or huge values: flushes need not have their nominal size.

    The worst are flushes of a hundredth: merged where they are, then into the bottom in smaller portions.
    """
    tree = Tree(100_000, 4)
    for _ in range(2000):
        tree.flush(1000 * percent)
        tree.settle(1 << 60)
    assert 1 + tree.merged_bytes / tree.flushed_bytes < 25
    assert tree.runs_most < 24

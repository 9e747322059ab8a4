"""The levels of the tree: which runs there are, newest first, and how an installed result changes them.

`Levels` is immutable; each change returns a new one, so readers and snapshots keep what they hold. Level 0 is
the newest; within a level the first run is the newest.

Invariants (`check`): run numbers are unique; slices of a run are disjoint and in order; between runs that
overlap, the order of the ages of their segments is the order of the runs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from lamina.engine.run import Run, Slice


class Levels:
    """An immutable stack of runs."""

    __slots__ = ("levels", "runs")

    def __init__(self, levels: Iterable[Iterable[Run]] = ()) -> None:
        trimmed = [tuple(runs) for runs in levels]
        while trimmed and not trimmed[-1]:
            trimmed.pop()
        self.levels = tuple(trimmed)
        self.runs = tuple(run for runs in trimmed for run in runs)

    @property
    def slices(self) -> list[Slice]:
        """All slices of all runs."""
        return [piece for run in self.runs for piece in run.slices]

    def level_of(self, run_number: int) -> int:
        """Return the level of a run; KeyError if there is none of that number."""
        for level, runs in enumerate(self.levels):
            if any(run.number == run_number for run in runs):
                return level
        raise KeyError(run_number)

    def with_run(self, run: Run) -> Levels:
        """Return the levels with a new, newest run in level 0."""
        first = self.levels[0] if self.levels else ()
        return Levels([(run, *first), *self.levels[1:]])

    def move_run(self, run_number: int, level: int) -> Levels:
        """Return the levels with a run moved down to `level`, as its newest run, as it is."""
        run = next(run for run in self.runs if run.number == run_number)
        rest = [[r for r in runs if r is not run] for runs in self.levels]
        return Levels(_insert(rest, level, run, self.below(run_number, level)))

    def below(self, output: int, level: int) -> frozenset[int]:
        """Return the runs of `level` that lie below `output`, or will: all of them if it is not there yet.

        To be asked when a merge begins, and told with each of its steps.
        """
        numbers = [run.number for run in self.levels[level]] if level < len(self.levels) else []
        return frozenset(numbers[numbers.index(output) + 1 :] if output in numbers else numbers)

    def apply(
        self,
        inputs: Iterable[int],
        start: bytes,
        stop: bytes | None,
        output: int,
        level: int,
        slices: list[Slice],
        below: Collection[int],
    ) -> Levels:
        """Return the levels after a step of a merge: ``start <= key < stop`` of the input runs is now in
        `slices`.

        The result goes into run `output` if that exists, which then is one of the inputs and stays where it
        is; otherwise a new run of that number goes into `level`, above the runs that were there when the
        merge began (`below`), and below those that came meanwhile. Ages cannot tell: those of one step are
        not those of the next. Input runs left without a slice vanish; the output may, and come again. Cost:
        reads at the two bounds of each input.
        """
        cut = set(inputs)

        def left(run: Run) -> Run:
            if run.number not in cut:
                return run
            return Run(run.number, [part for piece in run.slices for part in piece.without(start, stop)])

        return self._with_output(left, output, level, slices, below)

    def move_slices(self, moved: list[Slice], output: int, level: int, below: Collection[int]) -> Levels:
        """Return the levels with whole slices moved from their runs into run `output`, which is placed as by
        `apply`. Cost: O(n), without a read."""
        gone = set(moved)

        def left(run: Run) -> Run:
            slices = [piece for piece in run.slices if piece not in gone]
            return run if len(slices) == len(run.slices) else Run(run.number, slices)

        return self._with_output(left, output, level, moved, below)

    def _with_output(
        self,
        left: Callable[[Run], Run],
        output: int,
        level: int,
        slices: list[Slice],
        below: Collection[int],
    ) -> Levels:
        is_placed = False
        changed: list[list[Run]] = []
        for runs in self.levels:
            row: list[Run] = []
            for run in runs:
                kept = left(run)
                if run.number == output:
                    kept = Run(output, sorted([*kept.slices, *slices], key=lambda piece: piece.start))
                    is_placed = True
                if kept.slices:
                    row.append(kept)
            changed.append(row)
        if not is_placed and slices:
            changed = _insert(changed, level, Run(output, slices), below)
        return Levels(changed)

    def without_slices(self, dropped: set[Slice]) -> Levels:
        """Return the levels without these slices; others of the same segments stay."""
        levels = [
            [Run(run.number, [piece for piece in run.slices if piece not in dropped]) for run in runs]
            for runs in self.levels
        ]
        return Levels([[run for run in runs if run.slices] for runs in levels])

    def check(self) -> None:
        """Assert the invariants that can be seen without reading blocks."""
        numbers = [run.number for run in self.runs]
        assert len(set(numbers)) == len(numbers), numbers
        for run in self.runs:
            assert run.slices, run
            run.check()
        for i, newer in enumerate(self.runs):
            for older in self.runs[i + 1 :]:
                _check_ages(newer, older)


def _check_ages(newer: Run, older: Run) -> None:
    for piece in newer.slices:
        for other in older.overlapping(piece.start, piece.stop):
            young, old = piece.segment.properties, other.segment.properties
            assert young.age_first > old.age_last, (newer, piece, older, other)


def _insert(levels: list[list[Run]], level: int, run: Run, below: Collection[int]) -> list[list[Run]]:
    while len(levels) <= level:
        levels.append([])
    row = levels[level]
    place = next((i for i, other in enumerate(row) if other.number in below), len(row))
    row.insert(place, run)
    return levels

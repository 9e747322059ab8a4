"""Layers put in order by what segments say of themselves."""

from __future__ import annotations

from itertools import pairwise
from random import Random

from lamina.engine.repair.arrange import Footer, Piece, Stack, arrange


def footer(
    number: int,
    ages: tuple[int, int],
    start: bytes = b"",
    stop: bytes | None = None,
    *,
    level: int = 0,
    run: int | None = None,
) -> Footer:
    return Footer(number, level, number if run is None else run, *ages, start, stop, start, stop)


def shape(stack: Stack) -> list[list[list[int]]]:
    return [[[piece.footer.number for piece in run] for run in runs] for runs in stack.levels]


def test_levels_and_runs_are_kept() -> None:
    footers = [
        footer(9, (8, 8)),
        footer(7, (6, 6)),
        footer(5, (1, 4), b"", b"m", level=1, run=4),
        footer(6, (1, 4), b"m", None, level=1, run=4),
    ]
    stack = arrange(footers)
    assert shape(stack) == [[[9], [7]], [[5, 6]]]
    assert (stack.hidden, stack.doubtful) == ([], False)


def test_the_output_of_a_merge_stands_in_the_place_of_its_inputs() -> None:
    footers = [
        footer(2, (1, 1)),
        footer(4, (3, 3)),
        footer(6, (1, 3), b"", b"k", level=1, run=5),  # the merge came to k
    ]
    stack = arrange(footers)
    assert shape(stack) == [[[4], [2]], [[6]]]
    pieces = {p.footer.number: (p.start, p.stop) for runs in stack.levels for run in runs for p in run}
    assert pieces == {4: (b"k", None), 2: (b"k", None), 6: (b"", b"k")}
    whole = arrange([*footers, footer(7, (1, 3), b"k", None, level=1, run=5)])
    assert (shape(whole), sorted(whole.hidden)) == ([[], [[6, 7]]], [2, 4])


def test_a_run_rewritten_by_itself_is_the_later_one() -> None:
    stack = arrange([footer(5, (1, 4), level=2, run=4), footer(9, (1, 4), level=2, run=4)])
    assert (shape(stack), stack.hidden) == ([[], [], [[9]]], [5])


def test_a_run_number_that_was_used_again_makes_two_runs() -> None:
    stack = arrange([footer(5, (1, 4), run=4), footer(9, (5, 8), run=4)])
    assert shape(stack) == [[[9], [5]]]


def test_levels_never_rise_from_newer_to_older() -> None:
    # The older one has been moved down since it was written, or the newer one says so falsely.
    stack = arrange([footer(5, (1, 4), level=0), footer(9, (5, 8), level=2)])
    assert shape(stack) == [[], [], [[9]], [[5]]]


def test_runs_that_fit_nowhere_are_taken_apart() -> None:
    footers = [
        footer(1, (5, 5), b"a", b"c", run=1),
        footer(2, (1, 1), b"m", b"p", run=1),
        footer(3, (2, 2), b"m", b"p", run=2),
        footer(4, (4, 4), b"a", b"c", run=2),
    ]
    stack = arrange(footers)
    order = [piece.footer.number for runs in stack.levels for run in runs for piece in run]
    assert order.index(1) < order.index(4)
    assert order.index(3) < order.index(2)
    assert not stack.doubtful


def test_ages_that_contradict_each_other_are_doubtful() -> None:
    stack = arrange([footer(5, (1, 4)), footer(9, (3, 8))])
    assert (shape(stack), stack.doubtful) == ([[[9], [5]]], True)


def test_nothing_is_an_empty_stack() -> None:
    assert arrange([]) == Stack([], [], False)


def test_any_footers_make_a_legal_layout() -> None:
    for seed in range(300):
        random = Random(seed)
        footers = []
        for number in range(random.randrange(1, 12)):
            first = random.randrange(1, 9)
            ages = first, first + random.choice((0, 0, 1, 3))
            start, stop = sorted(random.sample(range(8), 2))
            bounds = bytes((97 + start,)), None if stop == 7 else bytes((97 + stop,))
            level, run = random.randrange(3), random.randrange(20, 24)
            footers.append(footer(number, ages, *bounds, level=level, run=run))
        stack = arrange(footers)
        runs = [run for row in stack.levels for run in row]
        shown = {piece.footer.number for run in runs for piece in run}
        assert shown | set(stack.hidden) == {f.number for f in footers}
        assert len(stack.levels) <= 1 or len(stack.levels[-1]) == 1
        for run in runs:
            assert all(a.stop is not None and a.stop <= b.start for a, b in pairwise(run))
        if stack.doubtful:
            continue
        for i, newer in enumerate(runs):
            for older in runs[i + 1 :]:
                for a in newer:
                    for b in older:
                        assert not _overlap(a, b) or a.footer.age_first > b.footer.age_last, seed


def _overlap(a: Piece, b: Piece) -> bool:
    return (a.stop is None or b.start < a.stop) and (b.stop is None or a.start < b.stop)

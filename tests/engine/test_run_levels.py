"""Slices, runs and levels: cutting, searching, counting, and what an installed result changes."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from harness.trees import Entry, Workshop, live
from lamina.engine.discards import Discards
from lamina.engine.entry import DELTAS, INSERT, REMOVE, REPLACE, is_live
from lamina.engine.layers import View
from lamina.engine.levels import Levels
from lamina.engine.run import Run, Slice

KINDS = (INSERT, INSERT, REPLACE, REMOVE)
ENTRIES: list[Entry] = [
    (b"%03d" % n, KINDS[n % 4], b"v%d" % n if is_live(KINDS[n % 4]) else b"") for n in range(0, 400, 2)
]
POINTS = [
    b"",
    b"000",
    b"0005",
    b"001",
    b"100",
    b"1000",
    b"101",
    b"200",
    b"300",
    b"398",
    b"3980",
    b"399",
    b"zzz",
]
STOPS: list[bytes | None] = [*POINTS, None]


def inside(start: bytes, stop: bytes | None, entries: list[Entry] = ENTRIES) -> list[Entry]:
    return [e for e in entries if e[0] >= start and (stop is None or e[0] < stop)]


def check_slice(piece: Slice, expected: list[Entry]) -> None:
    assert piece.entries == len(expected)
    assert piece.delta == sum(DELTAS[kind] for _, kind, _ in expected)
    assert piece.size_bytes > 0
    assert piece.start <= expected[0][0]
    assert piece.stop is None or piece.stop > expected[-1][0]
    for point in POINTS:
        assert piece.delta_before(point) == sum(DELTAS[kind] for key, kind, _ in expected if key < point)


@pytest.fixture(scope="module")
def whole() -> Slice:
    return Slice.whole(Workshop().segment(ENTRIES))


def test_a_whole_slice_shows_everything(whole: Slice) -> None:
    assert whole.is_whole
    check_slice(whole, ENTRIES)
    assert whole.tombstones == whole.segment.properties.tombstones


@pytest.mark.parametrize("start", POINTS)
def test_restrict(whole: Slice, start: bytes) -> None:
    for stop in STOPS:
        expected = inside(start, stop)
        piece = whole.restrict(start, stop)
        if not expected:
            assert piece is None
            continue
        assert piece is not None
        check_slice(piece, expected)
        assert piece.is_whole == (len(expected) == len(ENTRIES))
        # Cutting again is cutting at once.
        for again in STOPS[3:9]:
            twice = piece.restrict(b"1", again)
            left = [e for e in expected if e in inside(b"1", again)]
            if left:
                assert twice is not None
                check_slice(twice, left)
            else:
                assert twice is None


@pytest.mark.parametrize("start", POINTS)
def test_without(whole: Slice, start: bytes) -> None:
    for stop in STOPS:
        if stop is not None and stop < start:
            continue
        removed = inside(start, stop)
        pieces = whole.without(start, stop)
        left = [e for e in ENTRIES if e not in removed]
        assert sum(piece.entries for piece in pieces) == len(left)
        assert len(pieces) <= 2
        run = Run(1, pieces)
        run.check()
        assert run.delta == sum(DELTAS[kind] for _, kind, _ in left)
        assert [key for keys, _ in run.chunks(b"", None) for key in keys] == [key for key, _, _ in left]


@pytest.mark.parametrize("gaps", [False, True])
def test_a_run_of_several_slices(gaps: bool) -> None:
    run = Workshop().run(ENTRIES[:50], ENTRIES[50:120], ENTRIES[120:121], ENTRIES[121:])
    expected = ENTRIES
    if gaps:
        pieces = [p for piece in run.slices for p in piece.without(b"080", b"120")]
        run = Run(7, [p for piece in pieces for p in piece.without(b"300", b"310")])
        expected = [e for e in ENTRIES if not b"080" <= e[0] < b"120" and not b"300" <= e[0] < b"310"]
    run.check()
    assert run.entries == len(expected)
    assert run.delta == sum(DELTAS[kind] for _, kind, _ in expected)
    view = View((), Levels([[run]]), Discards(), counted=True)
    found = {key: value for key, kind, value in expected if is_live(kind)}
    for key in (b"", b"\xff", *(b"%03d" % n for n in range(400))):
        assert view.get(key) == found.get(key)
    for start in POINTS:
        before = sum(DELTAS[kind] for key, kind, _ in expected if key < start)
        assert run.delta_before(start) == before
        for stop in STOPS:
            if stop is not None and stop < start:
                continue
            shown = inside(start, stop, expected)
            rows = [(key, value if is_live(kind) else None) for key, kind, value in shown]
            chunks = list(run.chunks(start, stop))
            assert [e for keys, values in chunks for e in zip(keys, values, strict=True)] == rows
            chunks = list(run.chunks_reversed(start, stop))
            assert [e for keys, values in reversed(chunks) for e in zip(keys, values, strict=True)] == rows
            pieces = run.overlapping(start, stop)
            assert all(piece in pieces for piece in run.slices if any(map(shows(piece), shown)))
            assert all(piece.overlaps(start, stop) for piece in pieces) or start == stop
    assert run.delta_before(None) == run.delta


def shows(piece: Slice) -> Callable[[Entry], bool]:
    return lambda entry: piece.start <= entry[0] and (piece.stop is None or entry[0] < piece.stop)


# -- levels --------------------------------------------------------------------------------------------


def pile(workshop: Workshop, *rows: int) -> Levels:
    """Return levels with so many runs each; older runs lie deeper."""
    made: list[list[Run]] = []
    for count in reversed(rows):
        runs = [workshop.run(ENTRIES[:70], ENTRIES[70:]) for _ in range(count)]
        made.insert(0, runs[::-1])
    return Levels(made)


def numbers(levels: Levels) -> list[list[int]]:
    return [[run.number for run in runs] for runs in levels.levels]


def test_levels_are_newest_first() -> None:
    levels = pile(Workshop(), 2, 0, 1)
    assert numbers(levels) == [[6, 4], [], [2]]
    levels.check()
    assert levels.level_of(4) == 0
    assert levels.level_of(2) == 2
    with pytest.raises(KeyError):
        levels.level_of(99)
    assert len(levels.slices) == 6


def test_empty_levels_at_the_end_go() -> None:
    assert numbers(Levels([[], []])) == []
    assert Levels().runs == ()


def test_a_new_run_comes_on_top() -> None:
    workshop = Workshop()
    levels = pile(workshop, 1, 1)
    run = workshop.run(ENTRIES)
    assert numbers(levels.with_run(run)) == [[5, 4], [2]]
    assert numbers(Levels().with_run(run)) == [[5]]
    assert numbers(levels) == [[4], [2]]


def test_a_run_moves_down_as_it_is() -> None:
    levels = pile(Workshop(), 2, 1)
    moved = levels.move_run(4, 1)
    assert numbers(moved) == [[6], [4, 2]]
    moved.check()
    assert numbers(levels.move_run(2, 3)) == [[6, 4], [], [], [2]]


def test_a_merge_is_installed_step_by_step() -> None:
    workshop = Workshop()
    levels = pile(workshop, 2, 1)
    for number, (start, stop) in enumerate([(b"", b"100"), (b"100", b"250"), (b"250", None)]):
        result = workshop.segment(inside(start, stop), start=start, stop=stop)
        levels = levels.apply([6, 4], start, stop, 77, 1, [Slice.whole(result)], {2})
        for run in levels.runs:
            run.check()
        new = next(run for run in levels.runs if run.number == 77)
        assert levels.level_of(77) == 1
        assert len(new.slices) == number + 1
        assert new.entries == len(inside(b"", stop))
    assert numbers(levels) == [[], [77, 2]]


def test_a_result_may_go_into_one_of_the_inputs() -> None:
    workshop = Workshop()
    levels = pile(workshop, 2, 1)
    result = workshop.segment(inside(b"100", b"200"), start=b"100", stop=b"200")
    levels = levels.apply([6, 4, 2], b"100", b"200", 2, 1, [Slice.whole(result)], ())
    assert numbers(levels) == [[6, 4], [2]]
    assert [run.entries for run in levels.runs] == [150, 150, 200]
    levels.runs[-1].check()


def test_a_step_without_a_result_only_cuts() -> None:
    levels = pile(Workshop(), 1)
    levels = levels.apply([2], b"100", b"200", 88, 1, [], ())
    assert numbers(levels) == [[2]]
    assert numbers(levels.apply([2], b"", None, 88, 1, [], ())) == []


def test_dropping_a_slice_leaves_other_slices_of_its_segment() -> None:
    """A segment that was cut in two lost both halves when a discarded range covered one of them."""
    workshop = Workshop()
    run = workshop.run(ENTRIES)
    (piece,) = run.slices
    left, right = piece.without(b"100", b"200")
    levels = Levels([[Run(run.number, [left, right])]])
    kept = levels.without_slices({left})
    assert kept.slices == [right]
    assert numbers(kept.without_slices({right})) == []


def test_random_cuts_keep_what_is_left() -> None:
    random = Random(4)
    levels = pile(Workshop(), 1, 1)
    expected = {run.number: {key for key, _, _ in ENTRIES} for run in levels.runs}
    for _ in range(25):
        start, stop = sorted(b"%03d" % random.randrange(400) for _ in range(2))
        chosen = random.choice([[4], [2], [4, 2]])
        levels = levels.apply(chosen, start, stop, 99, 0, [], ())
        for number in chosen:
            expected[number] -= {key for key in expected[number] if start <= key < stop}
        for run in levels.runs:
            assert {key for keys, _ in run.chunks(b"", None) for key in keys} == expected[run.number]
            run.check()
        assert {run.number for run in levels.runs} == {n for n, keys in expected.items() if keys}


@pytest.mark.skipif(not __debug__, reason="`check` asserts")
def test_ages_out_of_order_are_noticed() -> None:
    workshop = Workshop()
    older, newer = workshop.run(live({b"a": b"1"})), workshop.run(live({b"a": b"2"}))
    Levels([[newer], [older]]).check()
    with pytest.raises(AssertionError):
        Levels([[older], [newer]]).check()

"""Discarded ranges against a model that knows every key of a small key space."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from lamina.engine.discards import DiscardedRange, Discards

SPACE = 30
points = st.integers(0, SPACE)
ranges = st.tuples(points, points).filter(lambda r: r[0] != r[1]).map(sorted)


def key(point: int) -> bytes:
    return b"%03d" % point


def number_of(discards: Discards, point: int) -> int | None:
    for item in discards:
        if item.start <= key(point) < item.stop:
            return item.number
    return None


def check(discards: Discards) -> None:
    items = list(discards)
    assert len(discards) == len(items)
    for item in items:
        assert item.start < item.stop
        assert item.number <= discards.last_number
    for before, after in pairwise(items):
        assert before.stop < after.start  # those that touch have become one


@given(st.lists(ranges, max_size=15))
def test_ranges_are_remembered_with_their_youngest_number(added: list[list[int]]) -> None:
    discards = Discards()
    youngest: dict[int, int] = {}
    for expected, (start, stop) in enumerate(added, 1):
        assert discards.add(key(start), key(stop)) == expected
        youngest |= dict.fromkeys(range(start, stop), expected)
        check(discards)
    for point in range(SPACE):
        number = number_of(discards, point)
        assert (number is not None) == (point in youngest)
        # A range that swallowed others has the youngest number: that errs on the side of remembering.
        assert number is None or number >= youngest[point]
    assert list(Discards(list(discards), discards.last_number)) == list(discards.copy()) == list(discards)


@given(st.lists(ranges, max_size=10), points, st.none() | points)
def test_queries(added: list[list[int]], start: int, stop: int | None) -> None:
    discards = Discards()
    for low, high in added:
        discards.add(key(low), key(high))
    last = SPACE + 5 if stop is None else stop
    high_key = None if stop is None else key(stop)
    inside = range(start, last)
    dead = [point for point in inside if number_of(discards, point) is not None]
    found = discards.overlapping(key(start), high_key)
    if start < last:
        assert found == [
            item for item in discards if item.stop > key(start) and (stop is None or item.start < key(stop))
        ]
        assert all(any(item.start <= key(point) < item.stop for item in found) for point in dead)
    kept = discards.kept(key(start), high_key)
    for low, upper in kept:
        assert upper is None or low < upper
    if start < last or stop is None:
        alive = [
            point
            for point in inside
            if any(a <= key(point) and (b is None or key(point) < b) for a, b in kept)
        ]
        assert alive == [point for point in inside if point not in dead]
    else:
        assert kept == []


def test_a_copy_is_independent() -> None:
    discards = Discards()
    discards.add(b"a", b"b")
    copy = discards.copy()
    copy.add(b"c", b"d")
    assert len(discards) == 1
    assert (copy.last_number, discards.last_number) == (2, 1)


def test_forget_drops_only_what_is_still_as_it_was() -> None:
    discards = Discards()
    discards.add(b"a", b"c")
    discards.add(b"x", b"z")
    seen = list(discards)
    discards.add(b"b", b"d")  # grows the first one
    discards.forget(seen)
    assert list(discards) == [DiscardedRange(b"a", b"d", 3)]
    assert discards.last_number == 3


def test_numbers_go_on_when_nothing_is_left() -> None:
    discards = Discards([], 41)
    assert discards.add(b"a", b"b") == 42
    discards.forget(list(discards))
    assert discards.add(b"a", b"b") == 43
    assert Discards([DiscardedRange(b"a", b"b", 50)], 7).last_number == 50


def test_touching_ranges_become_one() -> None:
    discards = Discards()
    discards.add(b"a", b"b")
    discards.add(b"c", b"d")
    discards.add(b"b", b"c")
    assert list(discards) == [DiscardedRange(b"a", b"d", 3)]
    discards.add(b"b", b"c")
    assert list(discards) == [DiscardedRange(b"a", b"d", 4)]


def test_the_end_of_the_key_space() -> None:
    discards = Discards()
    discards.add(b"m", b"\xff\xff")
    assert discards.kept(b"", None) == [(b"", b"m"), (b"\xff\xff", None)]
    assert discards.kept(b"n", b"o") == []
    assert discards.kept(b"a", b"a") == []
    assert Discards().kept(b"", None) == [(b"", None)]

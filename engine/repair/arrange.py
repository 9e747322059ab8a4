"""Which segments are layers above which, when only their footers tell: a pure function.

    ages      the numbers of the logs that a segment's entries came from. Where two overlap in keys, their
              ages do not overlap, and the younger is newer
    answers   for the keys it answers for, a segment stands in the place of all whose ages lie inside its own:
              they were inputs of the merge that made it, or were left over

Footers say of what run and level a segment was when it was written; runs may have moved down since. So ages
decide, and levels are kept as far as they agree.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

Range = tuple[bytes, bytes | None]


class Footer(NamedTuple):
    """What a segment says of itself. It answers for ``start..stop`` and has keys in ``first..ceiling``."""

    number: int
    level: int
    run: int
    age_first: int
    age_last: int
    start: bytes
    stop: bytes | None
    first: bytes
    ceiling: bytes | None


class Piece(NamedTuple):
    """A part of a segment that is shown."""

    footer: Footer
    start: bytes
    stop: bytes | None


class Stack(NamedTuple):
    """The outcome. `levels[n]`: runs, newest first, each a list of pieces in order. `hidden`: segments of
    which nothing is shown. `doubtful`: whether ages overlap where keys do, which no sound database has."""

    levels: list[list[list[Piece]]]
    hidden: list[int]
    doubtful: bool


def arrange(footers: Iterable[Footer]) -> Stack:
    """Return a legal layout of the segments. Where ages contradict each other, what is younger is newer."""
    footers = sorted(footers, key=lambda footer: footer.start)
    pieces = [piece for footer in footers for piece in _shown(footer, footers)]
    shown = {piece.footer.number for piece in pieces}
    hidden = [footer.number for footer in footers if footer.number not in shown]
    runs = _runs(pieces)
    doubtful = any(
        a.footer.age_first <= b.footer.age_last and _overlap(a, b)
        for i, newer in enumerate(runs)
        for older in runs[i + 1 :]
        for a in newer
        for b in older
    )
    return Stack(_levels(runs), hidden, doubtful)


def _shown(footer: Footer, footers: list[Footer]) -> list[Piece]:
    """Return what no other segment stands in the place of."""
    ranges: list[Range] = [(footer.first, footer.ceiling)]
    for other in footers:
        if _replaces(other, footer):
            ranges = [left for one in ranges for left in _cut(one, (other.start, other.stop))]
    return [Piece(footer, start, stop) for start, stop in ranges]


def _replaces(newer: Footer, older: Footer) -> bool:
    if not (older.age_first >= newer.age_first and older.age_last <= newer.age_last):
        return False
    if (older.age_first, older.age_last) == (newer.age_first, newer.age_last):
        return newer.number > older.number  # rewritten by itself
    return True


def _cut(whole: Range, out: Range) -> list[Range]:
    start, stop = whole
    low, high = out
    if (stop is not None and low >= stop) or (high is not None and high <= start):
        return [whole]
    left: list[Range] = []
    if start < low:
        left.append((start, low))
    if high is not None and (stop is None or high < stop):
        left.append((high, stop))
    return left


def _overlap(a: Piece, b: Piece) -> bool:
    return (a.stop is None or b.start < a.stop) and (b.stop is None or a.start < b.stop)


def _runs(pieces: list[Piece]) -> list[list[Piece]]:
    """Group pieces into runs, newest first: as the footers say, but for runs that fit nowhere as a whole."""
    by_number: dict[int, list[Piece]] = {}
    for piece in sorted(pieces, key=lambda piece: piece.start):
        by_number.setdefault(piece.footer.run, []).append(piece)
    runs: list[list[Piece]] = []
    for run in by_number.values():
        # A number may have been used again: then its pieces overlap.
        is_run = all(not _overlap(a, b) for a, b in pairwise(run))
        runs += [run] if is_run else [[piece] for piece in run]
    # As they were, if that is in order.
    runs.sort(key=_age, reverse=True)
    runs.sort(key=lambda run: max(piece.footer.level for piece in run))
    while (misfit := _misfit(runs)) is not None:
        # Single pieces can always be put in order, by their age alone.
        runs = [run for i, run in enumerate(runs) if i not in misfit] + [
            [piece] for i in misfit for piece in runs[i]
        ]
        runs.sort(key=_age, reverse=True)
    return _joined(runs)


def _joined(runs: list[list[Piece]]) -> list[list[Piece]]:
    """Join neighbours that share no key: segments that were moved into a run still name the one before."""
    joined: list[list[Piece]] = []
    for run in runs:
        is_flush = bool(joined) and all(piece.footer.level == 0 for piece in joined[-1])
        if joined and not is_flush and not any(_overlap(a, b) for a in joined[-1] for b in run):
            joined[-1] = sorted([*joined[-1], *run], key=lambda piece: piece.start)
        else:
            joined.append(run)
    return joined


def _age(run: list[Piece]) -> tuple[int, int, int]:
    youngest = max(run, key=lambda piece: (piece.footer.age_last, piece.footer.age_first))
    return youngest.footer.age_last, youngest.footer.age_first, youngest.footer.number


def _misfit(runs: list[list[Piece]]) -> tuple[int, ...] | None:
    """Return two runs whose order is not that of their pieces."""
    for i, newer in enumerate(runs):
        for j in range(i + 1, len(runs)):
            older = runs[j]
            if any(_overlap(a, b) and _age([a]) < _age([b]) for a in newer for b in older):
                return i, j
    return None


def _levels(runs: list[list[Piece]]) -> list[list[list[Piece]]]:
    levels: list[list[list[Piece]]] = []
    level = 0
    for run in runs:
        # Of pieces that have been joined: the deeper ones were there already.
        level = max(level, *(piece.footer.level for piece in run))
        while len(levels) <= level:
            levels.append([])
        levels[level].append(run)
    # The bottom level has one run, unless it is level 0.
    if len(levels) > 1 and len(levels[-1]) > 1:
        levels.append([levels[-1].pop()])
    return levels

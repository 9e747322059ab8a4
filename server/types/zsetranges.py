"""Ranges of a sorted set: by rank, by score, by member.

Each class is one way to name a range. It says which keys of the order lie in it (`keys`), and how many
(`count`), and never reads more than it returns: ranges of scores and members are ranges of keys, so their
ends are found, and what LIMIT skips is skipped, in logarithmic time.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

from lamina.server import events
from lamina.server.args import ScoreBound
from lamina.server.encoding import encode_score
from lamina.server.keyspace import Keyspace
from lamina.server.types.zsetorder import SCORE_SIZE
from lamina.server.types.zsets import LISTPACK, ZSet, save_removal


class Ranks(NamedTuple):
    """From one rank to another, both included; negative ones count from the end. LIMIT is not for these."""

    first: int
    last: int

    def keys(self, zset: ZSet, *, reverse: bool = False, skip: int = 0, limit: int = -1) -> list[bytes]:
        """Return the keys in the range. Ranks count from the highest score, and down, if `reverse`."""
        first, stop = self._positions(zset.elements.size)
        return zset.order.between(first, stop, reverse=reverse)

    def count(self, zset: ZSet) -> int:
        """Return how many members lie in the range."""
        first, stop = self._positions(zset.elements.size)
        return max(stop - first, 0)

    def _positions(self, size: int) -> tuple[int, int]:
        first = max(self.first + size, 0) if self.first < 0 else self.first
        last = self.last + size if self.last < 0 else self.last
        return first, min(last + 1, size)


class Scores(NamedTuple):
    """From one score to another."""

    low: ScoreBound
    high: ScoreBound

    def keys(self, zset: ZSet, *, reverse: bool = False, skip: int = 0, limit: int = -1) -> list[bytes]:
        """Return the keys in the range, at most `limit` (if not negative) after the first `skip`."""
        start, stop = self._bounds()
        return zset.order.slice(start, stop, reverse=reverse, skip=skip, limit=limit)

    def count(self, zset: ZSet) -> int:
        """Return how many members lie in the range. Cost: logarithmic."""
        return zset.order.count(*self._bounds())

    def _bounds(self) -> tuple[bytes, bytes]:
        """Return the range as keys ``start <= key < stop``."""
        low, is_low_excluded = self.low
        high, is_high_excluded = self.high
        start, stop = encode_score(low), encode_score(high)
        # All keys of a score begin with it: behind them is the next number of eight bytes.
        return (_next(start) if is_low_excluded else start), (stop if is_high_excluded else _next(stop))


def _next(score: bytes) -> bytes:
    return (int.from_bytes(score, "big") + 1).to_bytes(SCORE_SIZE, "big")


class Members(NamedTuple):
    """From one member to another, for sets whose members all have the same score.

    Redis leaves open what such a range is in any other set. There a range here is a run of neighbours too: in
    a small set the one that Redis finds by walking from one end, in a large one that which a binary search
    finds, so that no call walks through all of it.
    """

    start: bytes
    stop: bytes | None

    def keys(self, zset: ZSet, *, reverse: bool = False, skip: int = 0, limit: int = -1) -> list[bytes]:
        """Return the keys in the range, at most `limit` (if not negative) after the first `skip`."""
        start, stop = self.start, self.stop
        if stop is not None and start >= stop:
            return []
        lowest, highest = zset.order.ends()
        score = lowest[:SCORE_SIZE]
        if score == highest[:SCORE_SIZE]:
            end = None if stop is None else score + stop
            return zset.order.slice(score + start, end, reverse=reverse, skip=skip, limit=limit)
        first, behind = self._run(zset, lowest, highest, reverse)
        if reverse:
            first, behind = zset.elements.size - behind, zset.elements.size - first
        first += skip
        return zset.order.between(first, behind if limit < 0 else min(behind, first + limit), reverse=reverse)

    def count(self, zset: ZSet) -> int:
        """Return how many members lie in the range. Cost: logarithmic, but in a small set of many scores."""
        start, stop = self.start, self.stop
        if stop is not None and start >= stop:
            return 0
        lowest, highest = zset.order.ends()
        score = lowest[:SCORE_SIZE]
        if score == highest[:SCORE_SIZE]:
            return zset.order.count(score + start, None if stop is None else score + stop)
        first, behind = self._run(zset, lowest, highest, False)
        return behind - first

    def _run(self, zset: ZSet, lowest: bytes, highest: bytes, reverse: bool) -> tuple[int, int]:
        """Return the positions ``first <= position < behind`` of the range in a set of several scores."""
        start, stop = self.start, self.stop
        if highest[SCORE_SIZE:] < start or (stop is not None and lowest[SCORE_SIZE:] >= stop):
            return 0, 0
        size = zset.elements.size
        if zset.form == LISTPACK:
            members = [key[SCORE_SIZE:] for key in zset.order.between(0, size)]
            reaches = [member >= start for member in members]
            passes = [stop is not None and member >= stop for member in members]
            if not reverse:
                first = reaches.index(True)
                return first, passes.index(True, first) if True in passes[first:] else size
            behind = size - passes[::-1].index(False)
            below = [at for at in range(behind) if not reaches[at]]
            return (below[-1] + 1 if below else 0), behind

        def member_at(position: int) -> bytes:
            return zset.order.between(position, position + 1)[0][SCORE_SIZE:]

        first = bisect_left(range(size), start, key=member_at)
        return first, size if stop is None else max(bisect_left(range(size), stop, key=member_at), first)


Range = Ranks | Scores | Members


def remove(keyspace: Keyspace, key: bytes, wanted: Range, event: bytes) -> int:
    """Remove a range of the set at `key`; returns how many went.

    Cost: O(log n), and O(removed) unless that is all of them. Errors: WRONGTYPE.
    """
    zset = keyspace.find_typed(key, ZSet)
    if zset is None:
        return 0
    count = wanted.count(zset)
    if not count:
        return 0
    if count == zset.elements.size:
        # The whole set goes, and that costs the same at any size.
        keyspace.remove(key)
        if keyspace.listens:
            keyspace.event(events.ZSET, event, key)
            keyspace.event(events.GENERIC, b"del", key)
        return count
    keys = wanted.keys(zset)
    zset.remove_run(keys)
    save_removal(keyspace, key, zset, event)
    return len(keys)

"""Unions, intersections and differences of sorted sets, and of sets, whose members have the score 1.

Inputs are read member by member; what takes memory is the result. Sums are made in the order in which Redis
makes them, the smallest input first, since the order may decide about the last digit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter

from lamina.server.elements import Elements
from lamina.server.encoding import DOUBLE, SET, ZSET
from lamina.server.errors import WRONG_TYPE
from lamina.server.gathering import check, watched
from lamina.server.keyspace import Keyspace
from lamina.server.records import Collection
from lamina.server.types.zsets import Scored, ZSet

Result = dict[bytes, float]
Aggregate = Callable[[float, float], float]

_unpack = DOUBLE.unpack

_OFTEN = 8191
"""Of the members of a result: after each so many, and one, it is looked whether there are too many."""


def add(one: float, other: float) -> float:
    """Return the sum; that of opposite infinities is 0."""
    total = one + other
    return total if total == total else 0.0


def lower(one: float, other: float) -> float:
    """Return the lower of two scores."""
    return other if other < one else one


def higher(one: float, other: float) -> float:
    """Return the higher of two scores."""
    return other if other > one else one


class Source:
    """An input: a sorted set, a set, or a key that does not exist."""

    __slots__ = ("elements", "is_scored", "size", "weight")

    def __init__(self, record: Collection | None) -> None:
        self.elements: Elements | None = None if record is None else record.elements
        self.is_scored = isinstance(record, ZSet)
        self.size = 0 if self.elements is None else self.elements.size
        self.weight = 1.0

    def pairs(self) -> Iterator[tuple[bytes, float]]:
        """Yield members and scores, in any order."""
        elements = self.elements
        if elements is None:
            return iter(())
        held = elements.touch()
        found: Iterable[tuple[bytes, bytes]] = elements.scan() if held is None else held.items()
        if self.is_scored:
            return ((member, _unpack(raw)[0]) for member, raw in found)
        return ((member, 1.0) for member, _ in found)

    def score(self, member: bytes) -> float | None:
        """Return a member's score, or None."""
        raw = None if self.elements is None else self.elements.get(member)
        if raw is None:
            return None
        return _unpack(raw)[0] if self.is_scored else 1.0


def open_sources(keyspace: Keyspace, keys: Sequence[bytes], *, is_read: bool) -> list[Source]:
    """Return the inputs. `is_read`: they count as hits and misses. Errors: WRONGTYPE."""
    find = keyspace.read if is_read else keyspace.find
    sources = []
    for key in keys:
        value = find(key)
        if value is None or (isinstance(value, Collection) and value.tag in (ZSET, SET)):
            sources.append(Source(value))
        else:
            raise WRONG_TYPE
    return sources


def union(sources: list[Source], aggregate: Aggregate) -> Result:
    """Return the members of any input. Cost: O(members of all inputs)."""
    result: Result = {}
    for source in _by_size(sources):
        check(max(source.size, len(result)))  # as many at least are in the union
        weight = source.weight
        for member, score in source.pairs():
            score *= weight
            if score != score:
                score = 0.0  # infinity times zero
            result[member] = aggregate(result[member], score) if member in result else score
    check(len(result))
    return result


def intersection(sources: list[Source], aggregate: Aggregate) -> Result:
    """Return the members of all inputs. Cost: O(members of the smallest input) for each input."""
    smallest, *others = _by_size(sources)
    if not smallest.size:
        return {}
    result: Result = {}
    for member, first in smallest.pairs():
        total = first * smallest.weight
        if total != total:
            total = 0.0
        for source in others:
            score = source.score(member)
            if score is None:
                break
            # Unlike in a union, infinity times zero makes a sum 0, and does not count in the others.
            total = aggregate(total, score * source.weight)
        else:
            result[member] = total
            if not len(result) & _OFTEN:
                check(len(result))
    check(len(result))
    return result


def count_intersection(sources: list[Source], limit: int) -> int:
    """Return how many members all inputs have, `limit` at most, if it is not 0: then it stops there."""
    smallest, *others = _by_size(sources)
    if not smallest.size:
        return 0
    count = 0
    for member, _ in smallest.pairs():
        for source in others:
            if source.score(member) is None:
                break
        else:
            count += 1
            if count == limit:
                break
    return count


def difference(sources: list[Source]) -> Result:
    """Return the members of the first input that no other has.

    Cost: whichever is less, a look into each other input for every member, or a walk through all inputs.
    """
    first, *rest = sources
    others = [source for source in rest if source.size]
    if not first.size or any(source.elements is first.elements for source in others):
        return {}
    # Most members are found missing only by the last look, but a look is cheaper than a step of a walk.
    if first.size * len(others) <= 2 * sum(source.size for source in others):
        others = _by_size(others)[::-1]
        missing = (
            (member, score)
            for member, score in first.pairs()
            if all(source.score(member) is None for source in others)
        )
        return dict(watched(missing))
    check(first.size)
    result = dict(first.pairs())
    for source in others:
        for member, _ in source.pairs():
            result.pop(member, None)
        if not result:
            break
    return result


def in_order(result: Result) -> Scored:
    """Return members and scores as a sorted set has them."""
    return sorted(result.items(), key=_score_and_member)


def _score_and_member(item: tuple[bytes, float]) -> tuple[float, bytes]:
    return item[1], item[0]


def _by_size(sources: list[Source]) -> list[Source]:
    return sorted(sources, key=attrgetter("size"))

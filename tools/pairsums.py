"""Sums of hashes: whether two large collections hold the same, without holding either or sorting."""

from __future__ import annotations

from xxhash import xxh3_128_intdigest


class PairSum:
    """A multiset of byte strings, as their number and the sum of their hashes.

    Two that differ have the same sum with a probability of about 2^-128, unless somebody has made them so.
    """

    __slots__ = ("_sum", "count")

    def __init__(self) -> None:
        self.count = 0
        self._sum = 0

    def add(self, item: bytes) -> None:
        """Take an item."""
        self.count += 1
        self._sum += xxh3_128_intdigest(item)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PairSum):
            return NotImplemented
        return (self.count, self._sum) == (other.count, other._sum)

    def __hash__(self) -> int:
        return hash((self.count, self._sum))

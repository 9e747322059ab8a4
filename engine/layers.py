"""A view of the tree: the layers a reader sees, and how they are searched together.

Layers are ordered, newest first: the active memtable, the sealed ones, the runs from level 0 down. A newer
layer shadows the older ones. A `View` never changes (but for the active memtable, which its writer goes on
filling), so readers need no lock: they keep the view they began with, and with it every file it needs.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import chain, islice, starmap

from lamina.engine.cache import Cache
from lamina.engine.discards import Discards
from lamina.engine.entry import INSERT, REPLACE
from lamina.engine.levels import Levels
from lamina.engine.memtable import ABSENT, Memtable
from lamina.engine.rows import Rows
from lamina.engine.run import Chunks, Run
from lamina.engine.segment.filter import hash_key

_SELECT_MEMTABLE_ENTRIES = 64


class View:
    """What a reader sees. `memtables` newest first; `rows` what lookups found in the runs."""

    __slots__ = (
        "__weakref__",
        "_sealed",
        "active",
        "counted",
        "discards",
        "layers",
        "levels",
        "memtables",
        "rows",
        "runs",
    )

    def __init__(
        self,
        memtables: tuple[Memtable, ...],
        levels: Levels,
        discards: Discards,
        *,
        counted: bool,
        rows: Rows | None = None,
    ) -> None:
        self.memtables = memtables
        self.active = memtables[0] if memtables else Memtable(counted=counted, lock=nullcontext())
        """The newest memtable: in a database that is open, the one that is written to."""
        self._sealed = memtables[1:]
        self.levels = levels
        self.runs = levels.runs
        self.discards = discards
        self.counted = counted
        self.rows = Rows(Cache(0)) if rows is None else rows
        self.layers: tuple[Memtable | Run, ...] = (*memtables, *levels.runs)

    # -- one key -----------------------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, or None.

        Cost: 0.4 µs from a memtable or from the rows; otherwise a filter for each run that covers the key,
        and one block.
        """
        active = self.active
        value = active.inserted.get(key)
        if value is not None:
            return value
        found = active.based.get(key, ABSENT)
        return self.get_below(key) if found is ABSENT else found  # type: ignore[return-value]

    def get_below(self, key: bytes) -> bytes | None:
        """Return what `get` would if `active` did not know the key."""
        for memtable in self._sealed:
            value = memtable.inserted.get(key)
            if value is not None:
                return value
            found = memtable.based.get(key, ABSENT)
            if found is not ABSENT:
                return found  # type: ignore[return-value]
        rows = self.rows
        value = rows.values.get(key)
        if value is not None:
            rows.used += 1
            return value
        value = self._get_from_runs(key)
        if value is not None:
            rows.add(key, value)
        return value

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the values of keys, None for those that are not there.

        Cost: as `get`, but 0.1 µs for what the active memtable has inserted.
        """
        values: list[bytes | None] = list(map(self.active.inserted.get, keys))
        if None in values:
            get = self.get
            values = [get(key) if value is None else value for key, value in zip(keys, values, strict=True)]
        return values

    def exists_below(self, key: bytes) -> bool:
        """Tell whether `key` is live in the layers below the active memtable."""
        for memtable in self._sealed:
            found = memtable.find(key)
            if found is not ABSENT:
                return found is not None
        return key in self.rows.values or self._get_from_runs(key) is not None

    def _get_from_runs(self, key: bytes) -> bytes | None:
        # One flat loop over the runs down to the blocks: a call for each run, segment, part and filter costs
        # twice as much (benchmarks/embedded.py, "get hot" and "get missing").
        h = 0
        for run in self.runs:
            i = bisect_right(run.part_floors, key) - 1
            if i < 0:
                continue
            segment, p, stop = run.parts[i]
            if stop is not None and key >= stop:
                continue
            part = segment.parts[p]
            if part is None or not part.is_exact:
                entry = segment.get(key, hash_key(key))
            else:
                b = bisect_right(part.floors, key) - 1
                block = part.blocks[b]
                if block is not None and block.split_keys is not None:
                    # Searching split keys is cheaper than asking the filter whether to.
                    keys = block.split_keys
                    j = bisect_left(keys, key)
                    if j == len(keys) or keys[j] != key:
                        continue
                    block.used += 1
                    part.used += 1
                    kind = block.kinds[j]
                    return block.value(j) if kind == INSERT or kind == REPLACE else None
                h = h or hash_key(key)
                low, high, words = part.probes[b] or segment.probe(part, b)
                if (low[h & 4095] | high[h >> 12 & 4095]) & ~words[(h >> 32) * len(words) >> 32]:
                    continue
                entry = segment.find(part, b, key)
            if entry is not None:
                kind, value = entry
                return value if kind == INSERT or kind == REPLACE else None
        return None

    # -- ranges ------------------------------------------------------------------------------------

    def scan(
        self, start: bytes, stop: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Return an iterator over the live entries with ``start <= key < stop`` in order, or backwards."""
        # Both iterators are C's: a generator here would cost each entry a Python step, 60 ns of its 150.
        return chain.from_iterable(starmap(zip, self.scan_chunks(start, stop, reverse=reverse)))

    def scan_chunks(
        self, start: bytes, stop: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[list[bytes], list[bytes]]]:
        """Yield what `scan` yields as parallel lists of some tens of keys and values. Cost: 0.2 µs per
        entry."""
        pieces = self.discards.kept(start, stop)
        for low, high in reversed(pieces) if reverse else pieces:
            if reverse:
                yield from _merge_reversed([layer.chunks_reversed(low, high) for layer in self.layers])
            else:
                yield from _merge([layer.chunks(low, high) for layer in self.layers])

    # -- counts ------------------------------------------------------------------------------------

    def count(self, start: bytes, stop: bytes | None) -> int:
        """Return how many live keys lie in ``start <= key < stop``.

        Cost: O(layers x log n) in a counted database; a scan otherwise.
        """
        if not self.counted:
            return sum(len(keys) for keys, _ in self.scan_chunks(start, stop))
        return sum(self._delta(low, high) for low, high in self.discards.kept(start, stop))

    def _delta(self, start: bytes, stop: bytes | None) -> int:
        runs = self.runs
        total = sum([memtable.delta_between(start, stop) for memtable in self.memtables])
        total += sum([run.delta_before(stop) for run in runs])
        return total - sum([run.delta_before(start) for run in runs]) if start else total

    def select(self, start: bytes, stop: bytes | None, n: int) -> tuple[bytes, bytes] | None:
        """Return the entry at position `n` (from 0) of ``start <= key < stop``, or None if there are fewer.

        Cost: O(layers x log² n) in a counted database; a scan otherwise.
        """
        if n < 0:
            return None
        if not self.counted:
            return next(islice(self.scan(start, stop), n, None), None)
        for low, high in self.discards.kept(start, stop):
            count = self._delta(low, high)
            if n < count:
                return self._select(low, high, n, count)
            n -= count
        return None

    def _select(self, low: bytes, high: bytes | None, n: int, count: int) -> tuple[bytes, bytes] | None:
        """Narrow the range at block boundaries of one layer after the other, then scan what is left.

        Interpolation: where position `n` of `count` should be, give or take the square root that chance
        allows, first below it, then above it. Two probes take a range of a million to some thousands; halving
        would need nine. Shifted by that margin, a bad guess still cuts something off.
        """
        # The layers with most entries first: narrowing those narrows all others as well.
        for layer in sorted(self.layers, key=_weight, reverse=True):
            sign = -1
            while True:
                share = (n + 0.5 + sign * 1.5 * math.sqrt(count)) / count
                middle = _middle(layer, low, high, share)
                if middle is None:
                    break
                before = self._delta(low, middle)
                if n < before:
                    high, count = middle, before
                else:
                    low, n, count = middle, n - before, count - before
                sign = -sign
        return next(islice(self.scan(low, high), n, None), None)


def visible_discards(settled: Discards, memtables: Iterable[Memtable]) -> Discards:
    """Return all ranges that readers pass over: the settled ones, and those the memtables' logs hold."""
    return settled.with_ranges(chain.from_iterable(memtable.discards for memtable in memtables))


def _weight(layer: Memtable | Run) -> int:
    return len(layer) if isinstance(layer, Memtable) else layer.entries


def _middle(layer: Memtable | Run, low: bytes, high: bytes | None, share: float) -> bytes | None:
    """Return a key inside the range with about that share of the layer's entries in the range before it.

    None if the layer has few entries there.
    """
    if isinstance(layer, Memtable):
        return layer.middle(low, high, share) if len(layer) > _SELECT_MEMTABLE_ENTRIES else None
    middle = _middle_floor(layer.part_floors, low, high, share)
    if middle is not None:
        return middle
    for piece in layer.overlapping(low, high):
        segment = piece.segment
        p = max(bisect_right(segment.part_floors, low) - 1, 0)
        middle = _middle_floor(segment.part(p).floors, low, high, share)
        if middle is not None:
            return middle
    return None


def _middle_floor(floors: Sequence[bytes], low: bytes, high: bytes | None, share: float) -> bytes | None:
    first = bisect_right(floors, low)
    last = len(floors) if high is None else bisect_left(floors, high)
    if first >= last:
        return None
    return floors[max(first, min(first + int((last - first) * share), last - 1))]


def _merge(sources: Iterable[Chunks]) -> Iterator[tuple[list[bytes], list[bytes]]]:
    """Merge ascending chunk streams, newest first; drop what is shadowed or removed.

    As in compaction/merge.py: each round takes what is not larger than the smallest of the last buffered
    keys.
    """
    heads: list[tuple[Chunks, list[bytes], list[bytes | None]]] = []
    for source in sources:
        chunk = next(source, None)
        if chunk is not None:
            heads.append((source, *chunk))
    while len(heads) > 1:
        boundary = min([keys[-1] for _, keys, _ in heads])
        pieces: list[tuple[list[bytes], list[bytes | None]]] = []
        kept: list[tuple[Chunks, list[bytes], list[bytes | None]]] = []
        for source, keys, values in heads:
            if keys[-1] == boundary:
                pieces.append((keys, values))
                chunk = next(source, None)
                if chunk is not None:
                    kept.append((source, *chunk))
                continue
            upto = bisect_right(keys, boundary)
            if upto:
                pieces.append((keys[:upto], values[:upto]))
                kept.append((source, keys[upto:], values[upto:]))
            else:
                kept.append((source, keys, values))
        heads = kept
        yield _combine(pieces)
    for source, keys, values in heads:
        yield _combine([(keys, values)])
        for chunk in source:
            yield _combine([chunk])


def _merge_reversed(sources: Iterable[Chunks]) -> Iterator[tuple[list[bytes], list[bytes]]]:
    """The mirror image of `_merge`: chunks come last first, and what is yielded descends."""
    heads: list[tuple[Chunks, list[bytes], list[bytes | None]]] = []
    for source in sources:
        chunk = next(source, None)
        if chunk is not None:
            heads.append((source, *chunk))
    while heads:
        boundary = max([keys[0] for _, keys, _ in heads])
        pieces: list[tuple[list[bytes], list[bytes | None]]] = []
        kept: list[tuple[Chunks, list[bytes], list[bytes | None]]] = []
        for source, keys, values in heads:
            if keys[0] == boundary:
                pieces.append((keys, values))
                chunk = next(source, None)
                if chunk is not None:
                    kept.append((source, *chunk))
                continue
            first = bisect_left(keys, boundary)
            if first < len(keys):
                pieces.append((keys[first:], values[first:]))
                kept.append((source, keys[:first], values[:first]))
            else:
                kept.append((source, keys, values))
        heads = kept
        merged_keys, merged_values = _combine(pieces)
        yield merged_keys[::-1], merged_values[::-1]


def _combine(pieces: list[tuple[list[bytes], list[bytes | None]]]) -> tuple[list[bytes], list[bytes]]:
    """Merge entries of one key range, newest piece first, and drop tombstones."""
    if len(pieces) == 1:
        keys, values = pieces[0]
    else:
        merged: dict[bytes, bytes | None] = {}
        for piece_keys, piece_values in reversed(pieces):
            merged.update(zip(piece_keys, piece_values, strict=True))
        keys = sorted(merged)
        values = list(map(merged.__getitem__, keys))
    if None in values:
        keys = [key for key, value in zip(keys, values, strict=True) if value is not None]
        values = [value for value in values if value is not None]
    return keys, values  # type: ignore[return-value]

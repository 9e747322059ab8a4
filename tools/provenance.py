"""Where entries lie: the layers of a database, newest first, and what each of them says of a key.

    log or memtable     level 0 run, its segment and block     ...     last level

`entries` goes through a whole open database in the order of keys, each key's newest entry first. For looking
up one key in files that may be damaged there is find.py.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from heapq import merge
from typing import Final, NamedTuple

from lamina.engine import Database
from lamina.engine.entry import DELETE, INSERT, REMOVE, REPLACE, is_live
from lamina.engine.memtable import Memtable
from lamina.engine.run import Run
from lamina.engine.segment import format as fmt
from lamina.engine.segment.reader import SegmentReader

KIND_NAMES: Final = {DELETE: "DELETE", INSERT: "INSERT", REPLACE: "REPLACE", REMOVE: "REMOVE"}


class Where(NamedTuple):
    """A place: a block of a segment of a run, or a memtable, of which only the logs are known."""

    level: int | None
    run: int
    segment: int
    offset: int
    logs: tuple[int, ...] = ()

    def __str__(self) -> str:
        if self.level is None:
            return f"memtable of log {', '.join(map(str, self.logs))}"
        return f"level {self.level} run {self.run} segment {self.segment} byte {self.offset}"

    def facts(self) -> dict[str, object]:
        """Return plain data for JSON."""
        if self.level is None:
            return {"logs": list(self.logs)}
        return {"level": self.level, "run": self.run, "segment": self.segment, "offset": self.offset}


class LayerEntry(NamedTuple):
    """What one layer says of a key. `layer` counts from the newest; a tombstone's value is None."""

    key: bytes
    layer: int
    kind: int
    value: bytes | None
    where: Where


def entries(db: Database, start: bytes, stop: bytes | None) -> Iterator[LayerEntry]:
    """Yield what all layers say of the keys in a range, by key, the newest entry of a key first.

    Discarded entries that are still there are among them. Errors: CorruptionError, OSError.
    Cost: 2 µs per entry. Memory: a block for each layer.
    """
    view = db.view
    layers: list[Iterator[LayerEntry]] = []
    for memtable in view.memtables:
        layers.append(_of_memtable(memtable, len(layers), start, stop))
    for level, runs in enumerate(view.levels.levels):
        for run in runs:
            layers.append(_of_run(run, level, len(layers), start, stop))
    return merge(*layers)


def _of_memtable(memtable: Memtable, layer: int, start: bytes, stop: bytes | None) -> Iterator[LayerEntry]:
    where = Where(None, 0, 0, 0, tuple(memtable.wals))
    keys, values, kinds = memtable.columns()
    first = bisect_left(keys, start)
    last = len(keys) if stop is None else bisect_left(keys, stop)
    for i in range(first, last):
        yield _entry(keys[i], layer, kinds[i], values[i], where)


def _of_run(run: Run, level: int, layer: int, start: bytes, stop: bytes | None) -> Iterator[LayerEntry]:
    for piece in run.overlapping(start, stop):
        for block in blocks(piece.segment, *piece.bounds(start, stop)):
            where = Where(level, run.number, piece.segment.number, block.offset)
            for key, value, kind in zip(block.keys, block.values, block.kinds, strict=True):
                yield _entry(key, layer, kind, value, where)


def _entry(key: bytes, layer: int, kind: int, value: bytes, where: Where) -> LayerEntry:
    return LayerEntry(key, layer, kind, value if is_live(kind) else None, where)


class BlockEntries(NamedTuple):
    """The entries of one block that lie in a range, as columns."""

    offset: int
    keys: list[bytes]
    values: list[bytes]
    kinds: bytes


def blocks(segment: SegmentReader, start: bytes, stop: bytes | None) -> Iterator[BlockEntries]:
    """Yield the entries of a segment in a range, block by block. Errors: CorruptionError, OSError."""
    first_part = max(bisect_right(segment.part_floors, start) - 1, 0)
    for p in range(first_part, len(segment.part_floors)):
        if stop is not None and segment.part_floors[p] >= stop:
            return
        part = segment.part(p)
        b = max(bisect_right(part.floors, start) - 1, 0) if p == first_part else 0
        while b and not fmt.is_exact(part.floors[b]):
            b -= 1  # a floor that was cut short may lie below keys of the block before it
        for number in range(b, len(part.floors)):
            if stop is not None and part.floors[number] >= stop:
                return
            (block,) = segment.read_blocks(part, number, number + 1)
            keys = block.keys()
            first = bisect_left(keys, start)
            last = len(keys) if stop is None else bisect_left(keys, stop)
            if first < last:
                yield BlockEntries(
                    part.offsets[number],
                    keys[first:last],
                    block.values()[first:last],
                    block.kinds[first:last],
                )

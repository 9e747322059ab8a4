"""What is in a database: sizes, types, expiry and the biggest keys, by one pass over the live entries.

The areas of a server's database come in the order elements, records, expiry. So when a record is met, what
lies under its id has been counted already: 24 bytes of memory for each collection of one physical database.
All else is bounded. What is counted without looking at data (entries of an area, keys that expire) comes from
the engine's running sums.
"""

from __future__ import annotations

import dataclasses
import heapq
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

import lz4.block

from lamina.engine import Database
from lamina.engine.run import Slice
from lamina.engine.segment.reader import Part, SegmentReader
from lamina.server.encoding import (
    ELEMENT,
    EXPIRY,
    FIELD_EXPIRY,
    PLAIN_STRING,
    RECORD,
    U32,
    U64,
    end_of,
    prefix_of,
)
from lamina.server.records import BigString, Record, type_name
from lamina.tools.rediskeys import Numbers, decode, ids_of, physical_databases, size_of

BUCKETS: Final = (("expired", 0), ("1 hour", 3600), ("1 day", 86400), ("1 week", 7 * 86400), ("later", None))
"""When keys expire: up to so many seconds from now."""

_AREA_SIZE: Final = U32.size + 1
_ID_SIZE: Final = _AREA_SIZE + U64.size

Facts = dict[str, Any]
Advance = Callable[[int], None]


class Sizes:
    """How large things are: a histogram by powers of two, which costs C loops only."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.total_bytes = 0
        self.largest_bytes = 0

    def add(self, items: list[bytes]) -> None:
        """Count the sizes of all items, of which there is at least one."""
        sizes = list(map(len, items))
        self.counts.update(map(int.bit_length, sizes))
        self.total_bytes += sum(sizes)
        self.largest_bytes = max(self.largest_bytes, *sizes)

    def facts(self) -> Facts:
        """Return the sum, the mean, the largest, and [least, most, count] of each power of two."""
        count = sum(self.counts.values())
        rows = [[(1 << bits) >> 1, (1 << bits) - 1, self.counts[bits]] for bits in sorted(self.counts)]
        return {
            "count": count,
            "total_bytes": self.total_bytes,
            "mean_bytes": round(self.total_bytes / count, 1) if count else 0.0,
            "largest_bytes": self.largest_bytes,
            "histogram": rows,
        }


@dataclasses.dataclass(slots=True)
class TypeTotals:
    """The keys of one type. `size_bytes`: keys and values of records, of elements and of indexes."""

    keys: int = 0
    elements: int = 0
    size_bytes: int = 0
    largest_bytes: int = 0
    largest_elements: int = 0


class Biggest:
    """The N keys of which a number is largest."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._heap: list[tuple[int, int, Facts]] = []
        self._threshold = -1 if count else 1 << 62
        self._made = 0

    @property
    def threshold(self) -> int:
        """Only what is larger than this is worth being added."""
        return self._threshold

    def add(self, number: int, facts: Facts) -> None:
        """Consider a key."""
        if number <= self._threshold:
            return
        self._made += 1
        # A counter between, so that the heap never compares facts. Earlier ones win where numbers agree.
        heapq.heappush(self._heap, (number, -self._made, facts))
        if len(self._heap) > self._count:
            heapq.heappop(self._heap)
        if len(self._heap) == self._count:
            self._threshold = self._heap[0][0]

    def facts(self) -> list[Facts]:
        """Return the facts, the largest first."""
        return [entry[-1] for entry in sorted(self._heap, reverse=True)]


class _Collections:
    """What lies under the ids of one physical database, met in the order of the ids."""

    def __init__(self) -> None:
        self._ids = array("Q")
        self._bytes = array("Q")
        self._counts = array("Q")

    def add(self, keys: list[bytes], values: list[bytes]) -> None:
        """Count elements: engine keys and values, in order."""
        at = 0
        while at < len(keys):
            prefix = keys[at][:_ID_SIZE]
            end = len(keys) if keys[-1].startswith(prefix) else bisect_left(keys, end_of(prefix), at)
            size_bytes = sum(map(len, keys[at:end])) + sum(map(len, values[at:end]))
            number = int.from_bytes(prefix[_AREA_SIZE:], "big")
            if self._ids and self._ids[-1] == number:
                self._bytes[-1] += size_bytes
                self._counts[-1] += end - at
            else:
                self._ids.append(number)
                self._bytes.append(size_bytes)
                self._counts.append(end - at)
            at = end

    def take(self, number: int) -> int:
        """Return the bytes that lie under an id, which then has been accounted for."""
        at = bisect_left(self._ids, number)
        if at == len(self._ids) or self._ids[at] != number:
            return 0
        self._counts[at] = 0
        return self._bytes[at]

    def left(self) -> tuple[int, int]:
        """Return how many entries, and bytes, lie under ids that were not taken."""
        rows = [at for at, count in enumerate(self._counts) if count]
        return sum(self._counts[at] for at in rows), sum(self._bytes[at] for at in rows)


class Survey:
    """One pass over a server's database, or over a plain one, of which only sizes are known."""

    def __init__(self, db: Database, *, is_redis: bool, biggest: int, advance: Advance) -> None:
        self.keys = Sizes()
        self.values = Sizes()
        self.types: dict[int, dict[str, TypeTotals]] = {}
        self.orphans: dict[int, tuple[int, int]] = {}
        """By physical database: elements under ids that no record owns, and their bytes."""
        self.by_elements = Biggest(biggest)
        self.by_bytes = Biggest(biggest)
        self._db = db
        self._numbers = Numbers.of(db) if is_redis else Numbers(None)
        self._is_redis = is_redis
        self._biggest = biggest
        self._advance = advance

    def run(self) -> None:
        """Go through all live entries. Cost: 1 to 2 µs each. Errors: CorruptionError, OSError."""
        area = b""
        pdb = 0
        collections = _Collections()
        divide = _by_area if self._is_redis else _whole
        for chunk_keys, chunk_values in self._db.scan_chunks():
            for keys, values in divide(chunk_keys, chunk_values):
                self.keys.add(keys)
                self.values.add(values)
                self._advance(len(keys))
                if not self._is_redis or len(keys[0]) < _AREA_SIZE:
                    continue
                (number,) = U32.unpack_from(keys[0])
                if number != pdb:
                    self._settle(pdb, collections)
                    pdb, collections = number, _Collections()
                area = keys[0][U32.size : _AREA_SIZE]
                if area == ELEMENT and pdb:
                    if len(keys[0]) >= _ID_SIZE:
                        collections.add(keys, values)
                elif area == RECORD and pdb:
                    self._records(pdb, keys, values, collections)
        self._settle(pdb, collections)

    def _settle(self, pdb: int, collections: _Collections) -> None:
        left = collections.left()
        if left[0]:
            self.orphans[pdb] = left

    def _records(self, pdb: int, keys: list[bytes], values: list[bytes], collections: _Collections) -> None:
        types = self.types.setdefault(pdb, {})
        strings = types.get("string")
        if strings is None:
            strings = types["string"] = TypeTotals()
        by_bytes = self.by_bytes
        for key, raw in zip(keys, values):
            size_bytes = len(key) + len(raw)
            if raw[:1] == PLAIN_STRING:  # nine of ten records of most databases: nothing to decode
                strings.keys += 1
                strings.size_bytes += size_bytes
                if size_bytes > strings.largest_bytes:
                    strings.largest_bytes = size_bytes
                if size_bytes > by_bytes.threshold:
                    by_bytes.add(size_bytes, self._facts(pdb, key, "string", len(raw) - 1, size_bytes))
                continue
            value = decode(raw)
            name = "unknown" if value is None else type_name(value).decode()
            size = 0 if value is None else size_of(value)
            for number, _ in ids_of(value):
                size_bytes += collections.take(number)
            if isinstance(value, Record):
                for time_ms in (value.expires_ms, value.fields_due_ms):
                    size_bytes += len(key) + U64.size if time_ms else 0  # its entry in the index
            totals = types.setdefault(name, TypeTotals())
            totals.keys += 1
            totals.size_bytes += size_bytes
            has_elements = bool(ids_of(value)) and not isinstance(value, BigString)
            totals.largest_bytes = max(totals.largest_bytes, size_bytes)
            if has_elements:
                totals.elements += size
                totals.largest_elements = max(totals.largest_elements, size)
            facts = self._facts(pdb, key, name, size, size_bytes)
            by_bytes.add(size_bytes, facts)
            if has_elements:
                self.by_elements.add(size, facts)

    def _facts(self, pdb: int, key: bytes, name: str, size: int, size_bytes: int) -> Facts:
        return {
            "db": self._numbers.logical(pdb),
            "key": key[_AREA_SIZE:],
            "type": name,
            "size": size,
            "size_bytes": size_bytes,
        }


def _whole(keys: list[bytes], values: list[bytes]) -> Iterator[tuple[list[bytes], list[bytes]]]:
    if keys:
        yield keys, values


def _by_area(keys: list[bytes], values: list[bytes]) -> Iterator[tuple[list[bytes], list[bytes]]]:
    """Divide a chunk where the physical database or the area changes."""
    at = 0
    while at < len(keys):
        prefix = keys[at][:_AREA_SIZE]
        if keys[-1].startswith(prefix) or not prefix.strip(b"\xff"):
            end = len(keys)
        else:
            end = bisect_left(keys, end_of(prefix), at)
        yield (keys[at:end], values[at:end]) if at or end < len(keys) else (keys, values)
        at = end


# -- without looking at data -----------------------------------------------------------------------


def database_facts(db: Database, now_ms: int) -> list[Facts]:
    """Return what running sums say of each database of a server: keys, elements, when keys expire.

    Cost: some block reads for each database.
    """
    numbers = Numbers.of(db)
    found: list[Facts] = []
    for pdb in physical_databases(db):
        expiry = prefix_of(pdb, EXPIRY)
        counts: dict[str, int] = {}
        low = expiry
        for name, seconds in BUCKETS:
            if seconds is None:
                high = end_of(expiry)
            else:
                high = expiry + U64.pack(now_ms + seconds * 1000 + 1)
            counts[name] = db.count(low, high)
            low = high
        found.append(
            {
                "db": numbers.logical(pdb),
                "pdb": pdb,
                "keys": db.count(prefix=prefix_of(pdb, RECORD)),
                "element_entries": db.count(prefix=prefix_of(pdb, ELEMENT)),
                "expiring": sum(counts.values()),
                "expiry": counts,
                "hashes_with_expiring_fields": db.count(prefix=prefix_of(pdb, FIELD_EXPIRY)),
            }
        )
    return found


# -- compressibility -------------------------------------------------------------------------------


def compressibility(pieces: list[Slice], samples: int) -> Facts:
    """Return how well blocks compress, by some that lie evenly spread. Errors: CorruptionError, OSError."""
    segments = {piece.segment.number: piece.segment for piece in pieces}.values()
    raw_bytes = stored_bytes = lz4_bytes = count = 0
    for segment, part, b in _spread(list(segments), samples):
        payload, size_bytes = segment.payload(part, b)
        count += 1
        raw_bytes += len(payload)
        stored_bytes += size_bytes
        lz4_bytes += min(len(lz4.block.compress(payload)), len(payload))
    return {
        "sampled_blocks": count,
        "of_blocks": sum(segment.properties.blocks for segment in segments),
        "raw_bytes": raw_bytes,
        "stored_bytes": stored_bytes,
        "lz4_bytes": lz4_bytes,
        "stored_ratio": round(stored_bytes / raw_bytes, 3) if raw_bytes else None,
        "lz4_ratio": round(lz4_bytes / raw_bytes, 3) if raw_bytes else None,
    }


def _spread(segments: list[SegmentReader], samples: int) -> Iterator[tuple[SegmentReader, Part, int]]:
    """Yield about so many blocks, as segment, index part and number; no part is read in vain."""
    parts = [(segment, p) for segment in segments for p in range(len(segment.part_floors))]
    if not parts or not samples:
        return
    step = max(len(parts) // samples, 1)
    chosen = parts[step // 2 :: step]
    for segment, p in chosen:
        part = segment.part(p)
        blocks = len(part.floors)
        wanted = min(max(samples // len(chosen), 1), blocks)
        for at in range(wanted):
            yield segment, part, (2 * at + 1) * blocks // (2 * wanted)

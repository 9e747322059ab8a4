"""Reading the elements of many small collections together, for those who read a database from end to end.

Records lie in the order of keys, elements in that of ids. To look for the elements of each record alone costs
60 µs; most of a database of small hashes would be spent on that. So the records of a batch are looked at
together: their ids are put in order, and where these lie close to each other the elements of all of them are
read in one go, with those in between, which are passed over.

What has been read is shown as a `Source` of its own would show it. A collection that is large, or not in it
for another reason, is read from what lies behind.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from lamina.server.encoding import (
    BIG_STRING,
    COLLECTION,
    ELEMENT,
    HAS_EXPIRY,
    STRING,
    TYPE_MASK,
    U32,
    U64,
    prefix_of,
)

Rows = Iterator[tuple[list[bytes], list[bytes]]]
"""Entries as parallel lists of keys and values, some at a time."""

Scan = Callable[[bytes, bytes], Rows]

BATCH_RECORDS: Final = 1 << 14
BATCH_BYTES: Final = 4 << 20
"""Records that are looked at together, and the bytes of them from which on there are enough."""

_SIZE_MAX: Final = 256
"""Elements of a collection that is read together with others."""

_ELEMENTS_MAX: Final = 1 << 17
_ELEMENT_BYTES_MAX: Final = 8 << 20
"""Elements, and bytes of them, that are held for a batch."""

_GAP_MAX: Final = 24
"""Ids between two that are wanted which are passed over: for more, looking anew is cheaper."""

_PASSED_MAX: Final = 512
"""Elements that are passed over in a row: one of the ids in between may be that of a large collection."""

_ID_AT: Final = U32.size + len(ELEMENT)
_PREFIX_SIZE: Final = _ID_AT + U64.size
_BODY_AT: Final = 1 + U64.size


class ReadAhead:
    """The elements of the small collections among raw records of a physical database, by engine keys."""

    __slots__ = ("_elements", "_held", "_held_bytes", "_scan")

    def __init__(self, scan: Scan, pdb: int, raws: Iterable[bytes]) -> None:
        """Read them. Cost: 1 µs for each element, half of it for one that is passed over."""
        self._scan = scan
        self._elements = prefix_of(pdb, ELEMENT)
        self._held: dict[bytes, tuple[list[bytes], list[bytes]]] = {}
        """Engine keys, in order, and values, by what the keys of a collection begin with."""
        self._held_bytes = 0
        wanted = _small_ids(raws)
        at = 0
        while at < len(wanted) and self._held_bytes <= _ELEMENT_BYTES_MAX:
            stop = at + 1
            while stop < len(wanted) and wanted[stop] - wanted[stop - 1] <= _GAP_MAX:
                stop += 1
            # One that is alone is looked for by whoever needs it.
            at = stop if stop - at == 1 else self._read_run(wanted, at, stop)

    def _read_run(self, wanted: list[int], at: int, stop: int) -> int:
        """Read the collections `wanted[at:stop]`, whose ids lie close together; returns where to go on."""
        elements, held = self._elements, self._held
        ids = dict.fromkeys(wanted[at:stop])
        passed = 0
        prefix = b""
        end = elements + U64.pack(wanted[stop - 1] + 1)
        for keys, values in self._scan(elements + U64.pack(wanted[at]), end):
            first, count = 0, len(keys)
            while first < count:
                prefix = keys[first][:_PREFIX_SIZE]
                collection_id = int.from_bytes(prefix[_ID_AT:], "big")
                last = bisect_left(keys, elements + U64.pack(collection_id + 1), first)
                if collection_id not in ids:
                    passed += last - first
                elif prefix in held:  # the chunk before ended amid it
                    held[prefix][0].extend(keys[first:last])
                    held[prefix][1].extend(values[first:last])
                else:
                    passed = 0
                    held[prefix] = keys[first:last], values[first:last]
                first = last
            if passed > _PASSED_MAX:
                return bisect_left(wanted, collection_id, at, stop)
            self._held_bytes += sum(map(len, values))
            if self._held_bytes > _ELEMENT_BYTES_MAX:
                held.pop(prefix, None)  # it may go on
                break
        return stop

    def rows(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Rows | None:
        """Return the elements in a range inside one collection; None if it has not been read."""
        found = self._held.get(start[:_PREFIX_SIZE])
        if found is None:
            return None
        keys, values = found
        first = bisect_left(keys, start) if len(start) > _PREFIX_SIZE else 0
        last = len(keys)
        if keys[-1] >= stop:
            last = bisect_left(keys, stop)
        if first or last < len(keys):
            keys, values = keys[first:last], values[first:last]
        if reverse:
            keys, values = keys[::-1], values[::-1]
        return iter(((keys, values),))


def _small_ids(raws: Iterable[bytes]) -> list[int]:
    """Return the ids of the small collections, in order: so many that their elements are not too many."""
    found: list[int] = []
    total = 0
    unpack = COLLECTION.unpack_from
    for raw in raws:
        tag = raw[0] & TYPE_MASK
        if tag == STRING or tag == BIG_STRING or len(raw) < 1 + COLLECTION.size:
            continue
        collection_id, size, _ = unpack(raw, _BODY_AT if raw[0] & HAS_EXPIRY else 1)
        if size <= _SIZE_MAX:
            total += size
            if total > _ELEMENTS_MAX:
                break
            found.append(collection_id)
    found.sort()
    return found

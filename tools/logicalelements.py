"""The elements of one physical database, held against what its records say of them.

Elements lie in the order of ids, so they are read once, side by side with the table of ids. Each type has a
checker, which is given the elements of one id as they come and says what its record should be (`Fix`). What
is wrong with single elements is reported and mended at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Final

from lamina.server.encoding import (
    BIG_STRING,
    DOUBLE,
    ELEMENT,
    HASH,
    LIST,
    SET,
    STREAM,
    U32,
    U64,
    ZSET,
    decode_score,
    encode_score,
    end_of,
    prefix_of,
)
from lamina.server.types.bigstrings import CHUNK_SIZE
from lamina.server.types.listkeys import POSITION_SIZE, SUFFIX_SIZE_MAX
from lamina.server.types.listpacks import EMPTY_BYTES, packed_size
from lamina.server.types.zsets import SIGNED
from lamina.tools.logicalfixes import Elements, Fix, Fixes, Row
from lamina.tools.logicalsource import Entry, Sink, Source
from lamina.tools.logicalstreams import check_groups, check_stream
from lamina.tools.pairsums import PairSum
from lamina.tools.rediskeys import FIELD_TIMES, STREAM_GROUPS

_ID_MAX: Final = (1 << 64) - 1
_MINUS_ZERO: Final = DOUBLE.pack(-0.0)


def check_elements(source: Source, pdb: int, ids: Iterable[Row], sink: Sink) -> tuple[Fixes, int]:
    """Check all elements; returns what is to become of records, by id, and the highest id without one.

    Orphans are removed.
    """
    prefix = prefix_of(pdb, ELEMENT)
    stop = end_of(prefix)
    skip = len(prefix)
    end = skip + U64.size
    fixes: Fixes = {}
    rows = _unique(ids, fixes)
    row: Row | None = next(rows, None)
    orphan_max = 0
    for packed, group in groupby(source.entries(prefix, stop), key=lambda entry: entry[0][skip:end]):
        if len(packed) < U64.size:
            for key, value in group:
                sink.error(pdb, None, "element", "an element without an id", dropped=[(key, value)])
                sink.delete(key)
            continue
        (number,) = U64.unpack(packed)
        while row is not None and row.id < number:
            _check(source, pdb, row, prefix + U64.pack(row.id), iter(()), fixes, sink)
            row = next(rows, None)
        if row is not None and row.id == number:
            elements = ((key[end:], value) for key, value in group)
            _check(source, pdb, row, prefix + packed, elements, fixes, sink)
            row = next(rows, None)
        elif not source.is_hidden(prefix_of(pdb, b"k"), end_of(prefix_of(pdb, b"k"))):
            orphan_max = max(orphan_max, number)
            bounds = prefix + packed, prefix + U64.pack(number + 1) if number < _ID_MAX else stop
            what = f"elements of id {number}, which belongs to no key"
            sink.drop_range(pdb, "orphan", what, bounds, group)
    while row is not None:
        _check(source, pdb, row, prefix + U64.pack(row.id), iter(()), fixes, sink)
        row = next(rows, None)
    return fixes, orphan_max


def _unique(rows: Iterable[Row], fixes: Fixes) -> Iterator[Row]:
    """Yield the first row of each id; that an id has several is left to whoever applies the fixes."""
    last = 0
    for row in rows:
        if row.id == last:
            fixes.setdefault(row.id, Fix())
        else:
            yield row
        last = row.id


def _check(
    source: Source, pdb: int, row: Row, prefix: bytes, elements: Iterator[Entry], fixes: Fixes, sink: Sink
) -> None:
    if source.is_hidden(prefix, prefix[:-8] + U64.pack(min(row.id + 1, (1 << 64) - 1))):
        for _ in elements:
            pass
        sink.warn(pdb, None, "unreadable", f"elements of id {row.id} are damaged: they were not checked")
        return
    group = Elements(source, sink, prefix, row, pdb)
    _CHECKERS[row.kind](group, elements)
    if group.is_wrong:
        known = fixes.get(row.id)
        fixes[row.id] = group.fix
        if known is not None:
            group.fix.what += known.what


# -- sets, hashes, big strings -------------------------------------------------------------------


def _check_set(group: Elements, elements: Iterator[Entry]) -> None:
    found = 0
    for member, value in elements:
        found += 1
        if value:
            group.sink.error(group.pdb, None, "element", f"set {group.row.id}: a member with a value")
            group.sink.put(group.prefix + member, b"")
    group.expect_size(found, "members")


def _check_hash(group: Elements, elements: Iterator[Entry]) -> None:
    group.expect_size(sum(1 for _ in elements), "fields")


def _check_big(group: Elements, elements: Iterator[Entry]) -> None:
    row, found, end = group.row, 0, 0
    for element, chunk in elements:
        if len(element) != U32.size:
            group.drop(element, chunk, f"a chunk with a key of {len(element)} bytes")
            continue
        found += 1
        if len(chunk) > CHUNK_SIZE:
            what = f"string {row.id}: a chunk of {len(chunk)} bytes"
            rest = (group.prefix + element, chunk[CHUNK_SIZE:])
            group.sink.error(group.pdb, None, "element", what, dropped=[rest])
            chunk = chunk[:CHUNK_SIZE]
            group.sink.put(group.prefix + element, chunk)
        end = U32.unpack(element)[0] * CHUNK_SIZE + len(chunk)
    if not found:
        group.note(f"says that it has {row.size} bytes, and there are none")
        group.fix.drops = True
    elif end > row.size:
        # Strings that are written in place grow and never shrink.
        group.note(f"says that it has {row.size} bytes, and there are {end}")
        group.fix.size = end


# -- lists ---------------------------------------------------------------------------------------


def _check_list(group: Elements, elements: Iterator[Entry]) -> None:
    row = group.row
    found, first, last, packed_bytes = 0, -1, -1, EMPTY_BYTES
    is_row = True
    for element, value in elements:
        suffix = element[POSITION_SIZE:]
        if len(element) < POSITION_SIZE or len(suffix) > SUFFIX_SIZE_MAX or suffix.endswith(b"\0"):
            group.drop(element, value, f"an element with the key {element.hex()}")
            continue
        (position,) = U64.unpack_from(element)
        is_row &= not suffix and (last < 0 or position == last + 1)
        first = position if first < 0 else first
        last = position
        found += 1
        packed_bytes += packed_size(value)
    group.expect_size(found)
    if not found:
        return
    is_dense = not row.second
    if is_dense and not is_row:
        group.note("is not dense, as its record says")
    elif is_dense and first != row.first:
        group.note(f"begins at {first:#x}, and not where its record says ({row.first:#x})")
    elif not is_dense and not row.first <= first <= last < row.second:
        group.note(f"reaches from {first:#x} to {last:#x}, beyond what its record says")
    if group.is_wrong:
        fix = group.fix
        fix.is_sparse = not (is_dense and is_row)
        fix.head, fix.tail, fix.packed_bytes = first, last + 1, packed_bytes
        fix.size = found


# -- sorted sets -----------------------------------------------------------------------------------


def _check_zset(group: Elements, elements: Iterator[Entry]) -> None:
    scores, order = PairSum(), PairSum()
    for element, value in elements:
        area, rest = element[:1], element[1:]
        if area == b"m":
            score = DOUBLE.unpack(value)[0] if len(value) == DOUBLE.size else math.nan
            if math.isnan(score):
                group.drop(element, value, f"a member with the score {value.hex()}")
                continue
            scores.add(encode_score(score) + rest)
            if value == _MINUS_ZERO and group.row.first != SIGNED and group.fix.form is None:
                group.note("has a score of -0.0, and its form is one that has none")
                group.fix.form = SIGNED
        elif area == b"s" and len(rest) >= DOUBLE.size and not math.isnan(decode_score(rest)):
            order.add(rest)
            if value:
                group.sink.error(group.pdb, None, "element", f"zset {group.row.id}: an order with a value")
                group.sink.put(group.prefix + element, b"")
        else:
            group.drop(element, value, f"neither a score nor a place in the order: {element.hex()}")
    count = scores.count
    if scores != order:
        count = _settle_order(group, count)
    group.expect_size(count, "members")


def _settle_order(group: Elements, count: int) -> int:
    """Make scores and order say the same, by looking each entry up; returns how many members there are.

    A member that only the order has was lost, and is put back, unless there are as many scores as the record
    says without it: then it was removed, and its place in the order has come back.
    """
    source, sink, prefix = group.source, group.sink, group.prefix
    restores = count < group.row.size
    strays = missing = 0
    restored: set[bytes] = set()
    for key, _ in source.scan(prefix + b"s", prefix + b"t"):
        rest = key[len(prefix) + 1 :]
        member = rest[DOUBLE.size :]
        raw = source.get(prefix + b"m" + member) if len(rest) >= DOUBLE.size else b""
        if raw is not None and len(raw) == DOUBLE.size and encode_score(DOUBLE.unpack(raw)[0]) == rest[:8]:
            continue
        if raw is None and restores and member not in restored:
            sink.put(prefix + b"m" + member, DOUBLE.pack(decode_score(rest)))
            restored.add(member)
        else:
            strays += 1
            sink.delete(key)
    for key, raw in source.scan(prefix + b"m", prefix + b"n"):
        if len(raw) == DOUBLE.size and not math.isnan(score := DOUBLE.unpack(raw)[0]):
            place = prefix + b"s" + encode_score(score) + key[len(prefix) + 1 :]
            if source.get(place) is None:
                missing += 1
                sink.put(place, b"")
    more = strays + len(restored)
    group.note(f"its scores and its order differ: the order lacks {missing}, and has {more} more")
    if restored:
        group.note(f"{len(restored)} members are only in the order: their scores are known from there")
    return count + len(restored)


# -- times of fields -------------------------------------------------------------------------------


def _check_times(group: Elements, elements: Iterator[Entry]) -> None:
    row, source = group.row, group.source
    hash_prefix = prefix_of(group.pdb, ELEMENT) + U64.pack(row.first)
    by_field, by_time = PairSum(), PairSum()
    strays, due_ms = 0, 0
    for element, value in elements:
        area, rest = element[:1], element[1:]
        if area == b"f" and len(value) == U64.size and any(value):
            if not source.knows(hash_prefix + rest):
                strays += 1
                group.sink.delete(group.prefix + element)
                continue
            by_field.add(value + rest)
            time_ms = int.from_bytes(value, "big")
            due_ms = min(due_ms or time_ms, time_ms)
        elif area == b"t" and len(rest) >= U64.size and not value:
            by_time.add(rest)
        else:
            group.drop(element, value, f"no time of a field: {element.hex()}")
    if strays:
        group.note(f"{strays} times of fields that are not there")
    if strays or by_field != by_time:
        _settle_times(group, hash_prefix)
    group.expect_size(by_field.count, "fields that expire")
    if by_field.count and due_ms < row.second:
        group.note(f"a field expires at {due_ms}, and none should before {row.second}")
        group.fix.due_ms = due_ms
    elif by_field.count and row.second == 1:
        group.fix.due_ms = due_ms  # it was not known: logicalrecords.py has reported that
        group.is_wrong = True


def _settle_times(group: Elements, hash_prefix: bytes) -> None:
    """Make the order of times say what the times by field say."""
    source, sink, prefix = group.source, group.sink, group.prefix
    strays = missing = 0
    for key, _ in source.scan(prefix + b"t", prefix + b"u"):
        rest = key[len(prefix) + 1 :]
        field = rest[U64.size :]
        if source.get(prefix + b"f" + field) != rest[: U64.size] or not source.knows(hash_prefix + field):
            strays += 1
            sink.delete(key)
    for key, value in source.scan(prefix + b"f", prefix + b"g"):
        field = key[len(prefix) + 1 :]
        place = prefix + b"t" + value + field
        is_time = len(value) == U64.size and any(value)
        if is_time and source.knows(hash_prefix + field) and source.get(place) is None:
            missing += 1
            sink.put(place, b"")
    group.note(f"the order of the times of its fields lacks {missing}, and has {strays} more")


_CHECKERS: Final[dict[int, Callable[[Elements, Iterator[Entry]], None]]] = {
    BIG_STRING: _check_big,
    LIST: _check_list,
    SET: _check_set,
    ZSET: _check_zset,
    HASH: _check_hash,
    FIELD_TIMES: _check_times,
    STREAM: check_stream,
    STREAM_GROUPS: check_groups,
}

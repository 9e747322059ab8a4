"""Changing a list elsewhere than at its ends: LINSERT, LREM, LTRIM.

Elements never move further than they must. Where only few lie between the place and one end of a dense list,
these are moved by one and the list stays dense. Otherwise a new element gets a key between its neighbours',
a removed one leaves a hole, and the list is sparse from then on (listelements.py). A sparse list that has
become small is written anew, densely.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import compress, islice

from lamina.server.encoding import U64
from lamina.server.types.listelements import ListElements
from lamina.server.types.listkeys import (
    POSITION_SIZE,
    SPREAD_SUFFIX_SIZE_MAX,
    SUFFIX_SIZE_MAX,
    between,
    position_of,
    spread,
)

MOVED_MAX = 16
"""Elements that are written again rather than making a list sparse, or leaving it so."""

MOVED_BYTES_MAX = 4096
"""Bytes that may be written for it."""

_NEIGHBOURS = 32
"""Elements on each side that are spread out together at first, when the keys between them get long."""

_pack = U64.pack


def _is_cheap(values: list[bytes]) -> bool:
    """Tell whether values may be written again."""
    return len(values) <= MOVED_MAX and sum(map(len, values)) <= MOVED_BYTES_MAX


def _write(elements: ListElements, position: int, values: list[bytes]) -> None:
    """Store values at positions of a dense list, from `position` on."""
    put, prefix = elements.store.put, elements.prefix
    head, tail = elements.head, elements.tail
    for at, value in enumerate(values, position):
        put(prefix + _pack(at), value, head <= at < tail)


def _erase(elements: ListElements, keys: Iterable[bytes]) -> None:
    """Remove elements by their keys."""
    delete, prefix = elements.store.delete, elements.prefix
    for key in keys:
        delete(prefix + key, True)


def _make_sparse(elements: ListElements) -> None:
    """Say of a dense list that its positions need not be consecutive. Cost: O(n) if held."""
    elements.is_dense = False
    if elements.values is not None:
        held_keys = list(map(_pack, range(elements.head, elements.tail)))
        elements.keys = [b""] * elements.start + held_keys


# -- inserting -------------------------------------------------------------------------------------


def insert(elements: ListElements, pivot: bytes, value: bytes, *, after: bool) -> bool:
    """Insert a value beside the first one that equals `pivot`; tells whether there is one.

    Cost: O(n) for the search, as in Redis; what is written does not depend on n.
    """
    values = elements.touch()
    if values is None:
        return _insert_in_engine(elements, pivot, value, after=after)
    start = elements.start
    try:
        rank = values.index(pivot, start) - start + after
    except ValueError:
        return False
    size = elements.size
    if rank == 0:
        elements.push_left(value)
    elif rank == size:
        elements.push_right(value)
    elif not elements.is_dense:
        _squeeze_held(elements, rank, value)
    elif rank <= MOVED_MAX and _is_cheap(values[start : start + rank]):
        _write(elements, elements.head - 1, [*values[start : start + rank], value])
        elements.head -= 1
        values.insert(start + rank, value)
        elements.size += 1
    elif size - rank <= MOVED_MAX and _is_cheap(values[start + rank :]):
        _write(elements, elements.head + rank, [value, *values[start + rank :]])
        elements.tail += 1
        values.insert(start + rank, value)
        elements.size += 1
    else:
        _make_sparse(elements)
        _squeeze_held(elements, rank, value)
    return True


def _squeeze_held(elements: ListElements, rank: int, value: bytes) -> None:
    """Insert a value between two others of a held sparse list."""
    values, keys = elements.values, elements.keys
    assert values is not None
    assert keys is not None
    at = elements.start + rank
    key = between(keys[at - 1], keys[at], elements.last_squeezed)
    if len(key) > POSITION_SIZE + SUFFIX_SIZE_MAX:
        _spread_held(elements, rank)
        key = between(keys[at - 1], keys[at], b"")
    values.insert(at, value)
    keys.insert(at, key)
    _add(elements, key, value)


def _add(elements: ListElements, key: bytes, value: bytes) -> None:
    elements.last_squeezed = key
    elements.size += 1
    elements.store.put(elements.prefix + key, value, False)


def _spread_held(elements: ListElements, rank: int) -> None:
    """Give the elements around a rank new keys, with room between them."""
    values, keys = elements.values, elements.keys
    assert values is not None
    assert keys is not None
    start = elements.start
    width = _NEIGHBOURS
    while True:
        first, stop = start + max(rank - width, 0), min(start + rank + width, len(keys))
        low = keys[first - 1] if first > start else _pack(elements.head - 1)
        high = keys[stop] if stop < len(keys) else _pack(elements.tail)
        new_keys = spread(low, high, stop - first)
        if _may_be_given(new_keys) or stop - first == elements.size:
            break
        width *= 2
    _rewrite(elements, keys[first:stop], new_keys, values[first:stop])
    keys[first:stop] = new_keys
    elements.head = min(elements.head, position_of(new_keys[0]))


def _may_be_given(new_keys: list[bytes]) -> bool:
    return max(map(len, new_keys)) <= POSITION_SIZE + SPREAD_SUFFIX_SIZE_MAX


def _rewrite(
    elements: ListElements, old_keys: list[bytes], new_keys: list[bytes], values: list[bytes]
) -> None:
    """Give elements other keys."""
    old = set(old_keys)
    _erase(elements, old.difference(new_keys))
    put, prefix = elements.store.put, elements.prefix
    for key, value in zip(new_keys, values):
        put(prefix + key, value, key in old)


def _insert_in_engine(elements: ListElements, pivot: bytes, value: bytes, *, after: bool) -> bool:
    low = high = b""
    is_found = False
    skip = len(elements.prefix)
    for keys, values in elements.rows():
        if is_found and keys:  # the pivot was the last of the rows before
            high = keys[0]
            break
        if pivot in values:
            is_found = True
            at = values.index(pivot) + after
            if at:
                low = keys[at - 1]
            if at < len(keys):
                high = keys[at]
                break
        elif keys:
            low = keys[-1]
    if not is_found:
        return False
    if not low:
        elements.push_left(value)
        return True
    if not high:
        elements.push_right(value)
        return True
    low, high = low[skip:], high[skip:]
    if elements.is_dense:
        _make_sparse(elements)
    key = between(low, high, elements.last_squeezed)
    if len(key) > POSITION_SIZE + SUFFIX_SIZE_MAX:
        low, high = _spread_in_engine(elements, low, high)
        key = between(low, high, b"")
    _add(elements, key, value)
    return True


def _spread_in_engine(elements: ListElements, low: bytes, high: bytes) -> tuple[bytes, bytes]:
    """Give the elements around two neighbours new keys, with room between them; returns the two's."""
    store, prefix = elements.store, elements.prefix
    skip = len(prefix)
    first, end = prefix + _pack(elements.head), prefix + _pack(elements.tail)
    width = _NEIGHBOURS
    while True:
        # One more on each side: what is spread has to stay between these.
        left = list(islice(store.scan(first, prefix + high, reverse=True), width + 1))[::-1]
        right = list(islice(store.scan(prefix + high, end), width + 1))
        bottom = left.pop(0)[0][skip:] if len(left) > width else _pack(elements.head - 1)
        top = right.pop()[0][skip:] if len(right) > width else _pack(elements.tail)
        around = left + right
        new_keys = spread(bottom, top, len(around))
        if _may_be_given(new_keys) or len(around) == elements.size:
            break
        width *= 2
    _rewrite(elements, [key[skip:] for key, _ in around], new_keys, [value for _, value in around])
    elements.head = min(elements.head, position_of(new_keys[0]))
    return new_keys[len(left) - 1], new_keys[len(left)]


# -- removing --------------------------------------------------------------------------------------


def remove(elements: ListElements, value: bytes, count: int) -> int:
    """Remove the first `count` elements that equal `value`, the last ones if it is negative, all if it is 0;
    returns how many. Cost: O(n)."""
    limit = abs(count) or elements.size
    values = elements.touch()
    if values is None:
        keys = _keys_equal(elements, value, limit, reverse=count < 0)
        _remove_keys(elements, keys)
        return len(keys)
    ranks = _ranks_equal(values[elements.start :], value, limit, reverse=count < 0)
    if ranks:
        _remove_ranks(elements, ranks)
    return len(ranks)


def _ranks_equal(values: list[bytes], value: bytes, limit: int, *, reverse: bool) -> list[int]:
    """Return up to `limit` ranks of elements that equal `value`, in order, the last ones if `reverse`."""
    if reverse:
        values.reverse()
    ranks: list[int] = []
    at = -1
    try:
        while len(ranks) < limit:
            at = values.index(value, at + 1)
            ranks.append(at)
    except ValueError:
        pass
    if reverse:
        last = len(values) - 1
        ranks = [last - rank for rank in reversed(ranks)]
    return ranks


def _remove_ranks(elements: ListElements, ranks: list[int]) -> None:
    """Remove elements of a held list."""
    values, start, size = elements.values, elements.start, elements.size
    assert values is not None
    is_kept = bytearray(b"\1") * size
    for rank in ranks:
        is_kept[rank] = 0
    kept = list(compress(values[start:], is_kept))
    count = len(ranks)
    if elements.is_dense:
        # Close the gaps from whichever end has less to move.
        before, behind = kept[: ranks[-1] + 1 - count], kept[ranks[0] :]
        if len(behind) <= len(before) and _is_cheap(behind):
            _write(elements, elements.head + ranks[0], behind)
            _erase(elements, map(_pack, range(elements.tail - count, elements.tail)))
            elements.tail -= count
        elif _is_cheap(before):
            _write(elements, elements.head + count, before)
            _erase(elements, map(_pack, range(elements.head, elements.head + count)))
            elements.head += count
        else:
            _make_sparse(elements)
    keys = elements.keys
    if keys is not None:
        _erase(elements, [keys[start + rank] for rank in ranks])
        elements.keys = list(compress(keys[start:], is_kept))
    elements.values = kept
    elements.start = 0
    elements.size -= count
    settle(elements)


def _keys_equal(elements: ListElements, value: bytes, limit: int, *, reverse: bool) -> list[bytes]:
    found: list[bytes] = []
    skip = len(elements.prefix)
    for keys, values in elements.rows(reverse=reverse):
        if value in values:
            found += [key[skip:] for key, other in zip(keys, values) if other == value]
            if len(found) >= limit:
                break
    return found[:limit]


def _remove_keys(elements: ListElements, keys: list[bytes]) -> None:
    """Remove elements of a list that is not held."""
    _erase(elements, keys)
    elements.size -= len(keys)
    if elements.is_dense:
        gone = set(map(position_of, keys))
        while elements.head in gone:
            gone.remove(elements.head)
            elements.head += 1
        while elements.tail - 1 in gone:
            gone.remove(elements.tail - 1)
            elements.tail -= 1
        if gone:
            _make_sparse(elements)


def trim(elements: ListElements, first: int, stop: int) -> None:
    """Keep only the elements at ranks ``first <= rank < stop``, of which there must be some.

    Cost: O(elements removed).
    """
    behind = elements.size - stop
    if elements.values is None:
        if elements.is_dense:
            _erase(elements, map(_pack, range(elements.head, elements.head + first)))
            _erase(elements, map(_pack, range(elements.tail - behind, elements.tail)))
            elements.head += first
            elements.tail -= behind
            elements.size -= first + behind
        else:
            elements.pop_many(first, left=True)
            elements.pop_many(behind, left=False)
        return
    elements.pop_many(behind, left=False)
    elements.pop_many(first, left=True)
    settle(elements)


def settle(elements: ListElements) -> None:
    """Make a sparse list that is held and has become small dense again."""
    keys = elements.keys
    if keys is None or elements.size > MOVED_MAX or elements.values is None:
        return
    values = elements.values[elements.start :]
    if not values or not _is_cheap(values):
        return
    keys = keys[elements.start :]
    head = position_of(keys[0])
    _rewrite(elements, keys, list(map(_pack, range(head, head + len(values)))), values)
    elements.head, elements.tail = head, head + len(values)
    elements.values, elements.keys, elements.start = values, None, 0
    elements.is_dense = True

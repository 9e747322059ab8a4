"""The entries of one stream: fields and values by id, part of the engine's key space.

    engine key = prefix + ms:u64 + seq:u64 -> *n\\r\\n and n bulk strings: fields and values in turn

An entry lies as it goes over the wire, since that is where most of them go: XRANGE and XREAD put the stored
bytes behind the id, and nothing is taken apart. What adds an entry knows that it is new, its id being above
all others, and does not look.

Entries are read by range, so not all of them are held in memory, but three kinds of pieces are:

    tail     the last entries, from `_tail_from` on: consumers that keep up, and XREAD's waiters, read what
             has just been added without asking the tree. All of a new stream is tail until it outgrows that
    head     ids of the first entries, read ahead, so that trimming one entry for each that is added does not
             search for the new first one each time
    windows  what has been read lately: streamwindows.py

`first` is the id of the first entry; nothing is read below it, where the tombstones of what was trimmed lie.

Invariants: `size` is the number of live entries. `first` is the smallest id among them, `FIRST` if there are
none. The tail has exactly the live entries that are not below `_tail_from`; the head, if it has any, exactly
those from `first` to its last. `check` asserts it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque

import hiredis

from lamina.engine import CorruptionError
from lamina.server.elements import DELETED_SINGLY
from lamina.server.encoding import end_of
from lamina.server.gathering import check
from lamina.server.store import Store
from lamina.server.types.streamids import ABOVE_ALL, FIRST, after
from lamina.server.types.streamwindows import Windows

TAIL_ENTRIES_MAX = 2048
"""Entries of a tail above which the older half of it is let go."""

TAIL_BYTES_MAX = 1 << 20
"""Bytes of such a tail."""

TAIL_OVERHEAD_BYTES = 160
"""Memory of a tail's entry beside its value: two objects, the id, and places in two lists (measured)."""

_HEAD_ENTRIES = 128
"""Ids that are read ahead at the beginning of a stream."""

_TRIMMED_SINGLY = 2048
"""Entries up to which trimming removes each, so that they vanish early. Larger ranges are discarded."""

_FORMATS_MAX = 64
_FORMATS = [b"*%d\r\n" % count + b"$%d\r\n%b\r\n" * count for count in range(_FORMATS_MAX)]

Found = tuple[list[bytes], list[bytes]]
"""Packed ids and stored entries, side by side."""


def pack_items(items: list[bytes]) -> bytes:
    """Return fields and values as they are stored. Cost: 0.2 µs for each."""
    count = len(items)
    if count < _FORMATS_MAX:
        flat = [part for item in items for part in (len(item), item)]
        return _FORMATS[count] % tuple(flat)
    return b"*%d\r\n" % count + b"".join([b"$%d\r\n%b\r\n" % (len(item), item) for item in items])


class BrokenEntryError(ValueError):
    """A stored entry that is none."""


def unpack_all(values: list[bytes]) -> list[list[bytes]]:
    """Return the fields and values of stored entries. Errors: BrokenEntryError. Cost: 0.3 µs for each."""
    reader = hiredis.Reader(notEnoughData=None)
    try:
        reader.feed(b"".join(values))
        found = [reader.gets() for _ in values]
        rest = reader.gets()
    except (hiredis.ProtocolError, hiredis.ReplyError) as error:
        raise BrokenEntryError(f"an entry of a stream: {error}") from None
    for items in found:
        # Of what the reader takes, arrays of strings alone are entries.
        if items.__class__ is not list or len(items) % 2 or set(map(type, items)) - {bytes}:
            raise BrokenEntryError("an entry of a stream that has no fields and values")
    if rest is not None or reader.has_data():
        raise BrokenEntryError("an entry of a stream with more behind it")
    return found


class Entries:
    """The entries of a stream, in the order of their ids."""

    __slots__ = (
        "_head",
        "_tail_bytes",
        "_tail_from",
        "_tail_keys",
        "_tail_values",
        "_windows",
        "end",
        "first",
        "prefix",
        "size",
        "store",
    )

    def __init__(self, store: Store, prefix: bytes, size: int, first: bytes) -> None:
        """`first` is the packed id of the first entry."""
        self.store = store
        self.prefix = prefix
        self.end = end_of(prefix)
        self.size = size
        self.first = first
        self._tail_keys: list[bytes] = []
        self._tail_values: list[bytes] = []
        self._tail_from = ABOVE_ALL if size else FIRST
        self._tail_bytes = 0
        self._head: deque[bytes] = deque()
        self._windows = Windows()

    # -- adding ------------------------------------------------------------------------------------

    def append(self, key: bytes, value: bytes) -> None:
        """Add an entry, whose id is above that of every entry there has been."""
        # The body of Store.put: as in Elements.put, a call more would be a tenth of an XADD.
        store = self.store
        engine_key = self.prefix + key
        entries = store.entries
        if engine_key not in entries:
            store.existed[engine_key] = False
        entries[engine_key] = value
        if not self.size:
            self.first = key
        self.size += 1
        if self._tail_from is ABOVE_ALL:
            self._tail_from = key
            self._windows.cap(key)
        keys = self._tail_keys
        keys.append(key)
        self._tail_values.append(value)
        self._tail_bytes += len(value)
        if len(keys) > TAIL_ENTRIES_MAX or self._tail_bytes > TAIL_BYTES_MAX:
            self._cut_tail()

    def append_many(self, keys: list[bytes], values: list[bytes]) -> bool:
        """Add entries as `append` does, in order; False, and nothing is done, if that must be done singly."""
        store, prefix = self.store, self.prefix
        engine_keys = [prefix + key for key in keys]
        entries = store.entries
        if not entries.keys().isdisjoint(engine_keys):
            return False
        store.existed.update(dict.fromkeys(engine_keys, False))
        entries.update(zip(engine_keys, values))
        if not self.size:
            self.first = keys[0]
        self.size += len(keys)
        if self._tail_from is ABOVE_ALL:
            self._tail_from = keys[0]
            self._windows.cap(keys[0])
        self._tail_keys += keys
        self._tail_values += values
        self._tail_bytes += sum(map(len, values))
        if len(self._tail_keys) > TAIL_ENTRIES_MAX or self._tail_bytes > TAIL_BYTES_MAX:
            self._cut_tail()
        return True

    def _cut_tail(self) -> None:
        """Let go of the older half of the tail; of all but the last entry if these are large."""
        keys, values = self._tail_keys, self._tail_values
        cut = len(keys) // 2
        kept_bytes = sum(map(len, values[cut:]))
        while kept_bytes > TAIL_BYTES_MAX // 2 and cut < len(keys) - 1:
            kept_bytes -= len(values[cut])
            cut += 1
        if not cut:
            self.let_go()
            return
        del keys[:cut], values[:cut]
        self._tail_bytes = kept_bytes
        self._tail_from = keys[0]

    # -- reading -----------------------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        """Return the entry with an id, as it is stored; None if there is none."""
        if key >= self._tail_from:
            keys, values = self._tail_keys, self._tail_values
        elif key < self.first:
            return None
        else:
            window = self._windows.covering(key)
            if window is None:
                return self.store.get(self.prefix + key)
            keys, values = window.keys, window.values
        at = bisect_left(keys, key)
        return values[at] if at < len(keys) and keys[at] == key else None

    def between(self, low: bytes, high: bytes, limit: int, *, reverse: bool = False) -> Found:
        """Return up to `limit` entries (0: all) with ``low <= id <= high``, the last ones first if `reverse`.

        Cost: O(entries returned), and a search if they are not in the tail.
        """
        if low < self.first:
            low = self.first
        if not self.size or low > high:
            return [], []
        if reverse:
            return self._between_reversed(low, high, limit)
        tail_from = self._tail_from
        found_keys: list[bytes] = []
        found_values: list[bytes] = []
        if low < tail_from:
            found_keys, found_values = self._below_tail(low, min(after(high), tail_from), limit)
            if high < tail_from or (limit and len(found_keys) >= limit):
                return found_keys, found_values
            if limit:
                limit -= len(found_keys)
        keys = self._tail_keys
        start = bisect_left(keys, low)
        stop = bisect_right(keys, high, start)
        if limit and stop - start > limit:
            stop = start + limit
        if not found_keys:
            return keys[start:stop], self._tail_values[start:stop]
        return found_keys + keys[start:stop], found_values + self._tail_values[start:stop]

    def _below_tail(self, low: bytes, stop: bytes, limit: int) -> Found:
        """Return up to `limit` entries (0: all) with ``low <= id < stop``, none of which is in the tail."""
        window = self._windows.covering(low)
        if window is None:
            return self._read_on(low, stop, limit)
        keys, values = window.keys, window.values
        start = bisect_left(keys, low)
        if limit and start + limit <= len(keys):
            end = bisect_left(keys, stop, start, start + limit)
        elif stop <= window.stop:
            end = bisect_left(keys, stop, start)
        else:
            rest = limit - (len(keys) - start) if limit else 0
            more_keys, more_values = self._read_on(window.stop, stop, rest)
            return keys[start:] + more_keys, values[start:] + more_values
        return keys[start:end], values[start:end]

    def _read_on(self, low: bytes, stop: bytes, limit: int) -> Found:
        """Do as `_below_tail` by reading, and keep what has been read."""
        keys, values, is_all = self._read(self.prefix + low, self.prefix + stop, limit, reverse=False)
        if keys:
            self._windows.add(low, stop if is_all else after(keys[-1]), keys, values)
        return (keys[:limit], values[:limit]) if limit else (keys[:], values[:])

    def _between_reversed(self, low: bytes, high: bytes, limit: int) -> Found:
        keys = self._tail_keys
        start = bisect_left(keys, low)
        stop = bisect_right(keys, high, start)
        if limit and stop - start > limit:
            start = stop - limit
        found_keys, found_values = keys[start:stop][::-1], self._tail_values[start:stop][::-1]
        if low >= self._tail_from or (limit and len(found_keys) == limit):
            return found_keys, found_values
        rest = limit - len(found_keys) if limit else 0
        more_keys, more_values = self._below_tail_reversed(low, min(self._tail_from, after(high)), rest)
        return (
            (found_keys + more_keys, found_values + more_values) if found_keys else (more_keys, more_values)
        )

    def _below_tail_reversed(self, low: bytes, stop: bytes, limit: int) -> Found:
        window = self._windows.ending(stop)
        if window is not None:
            keys, values = window.keys, window.values
            end = bisect_left(keys, stop)
            if window.low <= low or (limit and end - bisect_left(keys, self.first) >= limit):
                start = max(bisect_left(keys, low), end - limit if limit else 0)
                return keys[start:end][::-1], values[start:end][::-1]
        keys, values, is_all = self._read(self.prefix + low, self.prefix + stop, limit, reverse=True)
        if keys:
            self._windows.add(low if is_all else keys[-1], stop, keys[::-1], values[::-1])
        return (keys[:limit], values[:limit]) if limit else (keys, values)

    def _read(
        self, start: bytes, stop: bytes, limit: int, *, reverse: bool
    ) -> tuple[list[bytes], list[bytes], bool]:
        """Return entries from the engine, at least `limit` if there are so many, and whether these are all;
        0: all. Errors: CommandError, if they are more than a command may gather."""
        skip = len(self.prefix)
        found_keys: list[bytes] = []
        found_values: list[bytes] = []
        size_bytes = 0
        for keys, values in self.store.chunks(start, min(stop, self.end), reverse=reverse):
            found_keys += [key[skip:] for key in keys]
            found_values += values
            size_bytes += sum(map(len, values))
            check(len(found_keys), size_bytes)
            if limit and len(found_keys) >= limit:
                return found_keys, found_values, False
        return found_keys, found_values, True

    def mean_size(self) -> int:
        """Return about how many bytes an entry has, by those that were added last; 0 if that is not known."""
        return self._tail_bytes // len(self._tail_keys) if self._tail_keys else 0

    def last(self) -> bytes | None:
        """Return the packed id of the last entry; None if there is none."""
        if self._tail_keys:
            return self._tail_keys[-1]
        keys, _ = self.between(FIRST, ABOVE_ALL, 1, reverse=True)
        return keys[0] if keys else None

    def count_below(self, key: bytes, limit: int) -> int:
        """Return how many entries have an id below `key`; if `limit` is not 0, no more than that.

        Cost: logarithmic; constant if they are no more than some hundred.
        """
        if not self.size or key <= self.first:
            return 0
        if self.first >= self._tail_from:
            found = bisect_left(self._tail_keys, key)
        else:
            head = self._filled_head()
            if key <= head[-1]:
                found = bisect_left(head, key)
            else:
                found = self.store.count(self.prefix + self.first, min(self.prefix + key, self.end))
        return min(found, limit) if limit else found

    # -- removing ----------------------------------------------------------------------------------

    def remove(self, key: bytes) -> bool:
        """Remove the entry with an id; tells whether it was there. Cost: a lookup."""
        if not self.size or self.get(key) is None:
            return False
        self.store.delete(self.prefix + key, True)
        self.size -= 1
        head = self._head
        if head and key <= head[-1]:
            head.remove(key)
        if key >= self._tail_from:
            keys = self._tail_keys
            at = bisect_left(keys, key)
            del keys[at]
            self._tail_bytes -= len(self._tail_values.pop(at))
        else:
            self._windows.remove(key)
        if key == self.first:
            self._find_first()
        return True

    def trim(self, count: int) -> None:
        """Remove the first `count` entries. Cost: O(entries), but for so many that a range is discarded."""
        count = min(count, self.size)
        if count == self.size:
            self._trim_all()
        elif count > _TRIMMED_SINGLY:
            self._trim_range(count)
        else:
            self._trim_singly(count)

    def _trim_singly(self, count: int) -> None:
        prefix = self.prefix
        if self.first >= self._tail_from:
            keys = self._tail_keys[:count]
            self._head.clear()
        else:
            head = self._filled_head()
            if len(head) < count:
                head = deque(self.between(FIRST, ABOVE_ALL, count)[0])
            keys = [head.popleft() for _ in range(count)]
            self._head = head
        self.store.delete_known([prefix + key for key in keys])
        self.size -= count
        # Not below that; what is first shows when it is searched for.
        self.first = after(keys[-1])
        self._trim_tail(self.first)
        self._find_first()

    def _trim_range(self, count: int) -> None:
        prefix = self.prefix
        found = self.store.select(prefix + self.first, self.end, count)
        if found is None:
            raise CorruptionError(self.store.db.path, 0, f"a stream of {self.size} entries has fewer")
        self._head.clear()
        self.store.discard(prefix, found[0])
        self.size -= count
        self.first = found[0][len(prefix) :]
        self._trim_tail(self.first)

    def _trim_all(self) -> None:
        prefix = self.prefix
        if self.size > _TRIMMED_SINGLY:
            last = self.last()
            assert last is not None
            self.store.discard(prefix, prefix + after(last))
        elif self.size:
            keys, _ = self.between(FIRST, ABOVE_ALL, 0)
            self.store.delete_known([prefix + key for key in keys])
        self._trim_tail(ABOVE_ALL)
        self._head.clear()
        self.size = 0
        self.first = FIRST
        # There is nothing that is not in the tail.
        self._tail_from = FIRST

    def _trim_tail(self, first: bytes) -> None:
        """Forget what of the tail is below `first`."""
        keys, values = self._tail_keys, self._tail_values
        cut = bisect_left(keys, first)
        if cut:
            self._tail_bytes -= sum(map(len, values[:cut]))
            del keys[:cut], values[:cut]
        if self._windows.stretches:
            self._windows.drop_below(first)

    def _find_first(self) -> None:
        """Set `first`, below which everything has been removed."""
        if not self.size:
            self.first = FIRST
            self._tail_from = FIRST
        elif self.first >= self._tail_from:
            self.first = self._tail_keys[0]
        else:
            self.first = self._filled_head()[0]

    def _filled_head(self) -> deque[bytes]:
        """Return the ids of the first entries, one at least."""
        head = self._head
        if not head:
            found, _ = self.between(FIRST, ABOVE_ALL, _HEAD_ENTRIES)
            if not found:
                raise CorruptionError(self.store.db.path, 0, f"a stream of {self.size} entries has none")
            head.extend(found)
        return head

    # -- all ---------------------------------------------------------------------------------------

    def drop(self) -> None:
        """Remove all entries. Cost: O(1) for many. It must not be used afterwards."""
        if self.size > DELETED_SINGLY:
            self.store.discard(self.prefix, self.end)
        else:
            self._trim_all()
        self.size = 0

    def let_go(self) -> None:
        """Stop holding what can be read."""
        self._windows.clear()
        self._tail_keys, self._tail_values = [], []
        self._tail_bytes = 0
        self._tail_from = ABOVE_ALL if self.size else FIRST
        self._head.clear()

    def held_bytes(self) -> int:
        """Return about how much memory the held entries take."""
        return self._tail_bytes + TAIL_OVERHEAD_BYTES * len(self._tail_keys) + self._windows.held_bytes

    def check(self) -> None:
        """Assert the invariants. For tests. Cost: a scan."""
        skip = len(self.prefix)
        found = [(key[skip:], value) for key, value in self.store.scan(self.prefix, self.end)]
        assert len(found) == self.size, (len(found), self.size)
        assert self.first == (found[0][0] if found else FIRST)
        tail = [entry for entry in found if entry[0] >= self._tail_from]
        assert tail == list(zip(self._tail_keys, self._tail_values))
        assert self._tail_bytes == sum(len(value) for _, value in tail)
        head = list(self._head)
        assert head == [key for key, _ in found[: len(head)]]
        self._windows.check(found, self.first)
        unpack_all([value for _, value in found])

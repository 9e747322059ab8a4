"""What can be read, from a database as it is now or from a snapshot: one set of methods for both."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NoReturn, overload

from lamina.engine.batch import as_bytes, check_key
from lamina.engine.errors import ClosedError
from lamina.engine.layers import View


class ClosedView:
    """Stands where the view was once there is nothing left to read: every use says why.

    Readers thereby pay nothing for checking whether the database is open.
    """

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __getattr__(self, name: str) -> NoReturn:
        raise ClosedError(self._reason)


def prefix_end(prefix: bytes) -> bytes | None:
    """Return the smallest key above all keys that begin with `prefix`; None if there is none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else None


class Readable:
    """Lookups, scans, counts and positions. Ranges are half open: ``start <= key < stop``; None is no bound.

    Any thread may read, without locks. A scan shows the layers that exist when it is asked for: every key
    that is there from then until the scan passes its place is seen exactly once; keys written or removed
    meanwhile may be seen either way. A snapshot's scan shows one moment.
    """

    view: View

    @overload
    def get(self, key: bytes) -> bytes | None: ...
    @overload
    def get(self, key: bytes, default: bytes) -> bytes: ...
    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:
        """Return the value of `key`, or `default`. Cost: see `View.get`. Errors: CorruptionError, OSError."""
        if type(key) is not bytes:
            key = check_key(key)
        value = self.view.get(key)
        return default if value is None else value

    def __getitem__(self, key: bytes) -> bytes:
        if type(key) is not bytes:
            key = check_key(key)
        value = self.view.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __contains__(self, key: object) -> bool:
        return self.view.get(check_key(key)) is not None

    def scan(
        self,
        start: bytes | None = None,
        stop: bytes | None = None,
        *,
        prefix: bytes | None = None,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, value) in key order, or backwards, at most `limit` of them.

        `prefix` stands for the range of keys that begin with it, narrowed by `start` and `stop` if they are
        given. Cost: a seek in every layer, then 0.3 µs per entry. Errors: CorruptionError, OSError.
        """
        low, high = range_bounds(start, stop, prefix)
        if limit is not None and limit < 0:
            raise ValueError(f"limit must not be negative, but is {limit}")
        entries = self.view.scan(low, high, reverse=reverse)
        return entries if limit is None else islice(entries, limit)

    def scan_chunks(
        self,
        start: bytes | None = None,
        stop: bytes | None = None,
        *,
        prefix: bytes | None = None,
        reverse: bool = False,
    ) -> Iterator[tuple[list[bytes], list[bytes]]]:
        """Yield what `scan` yields as pairs of parallel lists, some tens to thousands of entries at a time.

        For callers that handle many entries at once: it saves them a Python step for each. A list may be
        empty.
        """
        low, high = range_bounds(start, stop, prefix)
        return self.view.scan_chunks(low, high, reverse=reverse)

    def count(
        self, start: bytes | None = None, stop: bytes | None = None, *, prefix: bytes | None = None
    ) -> int:
        """Return how many keys lie in a range. Cost: logarithmic if the database is counted, else a scan."""
        return self.view.count(*range_bounds(start, stop, prefix))

    def rank(self, key: bytes, start: bytes | None = None) -> int:
        """Return how many keys are smaller than `key` (and not smaller than `start`). Cost: as `count`."""
        low, high = range_bounds(start, check_key(key), None)
        return self.view.count(low, high)

    def select(
        self, start: bytes | None, stop: bytes | None, n: int, *, reverse: bool = False
    ) -> tuple[bytes, bytes] | None:
        """Return the entry at position `n`, counted from 0, of a range (from its end if `reverse`), or None.

        Cost: a few hundred microseconds if the database is counted, else a scan up to there.
        """
        low, high = range_bounds(start, stop, None)
        if isinstance(n, bool) or not isinstance(n, int):
            raise TypeError(f"a position must be an integer, not {n!r}")
        if reverse:
            n = self.view.count(low, high) - 1 - n
        return self.view.select(low, high, n)


def range_bounds(start: bytes | None, stop: bytes | None, prefix: bytes | None) -> tuple[bytes, bytes | None]:
    """Return a range as (inclusive start, exclusive stop or None). Errors: TypeError."""
    low = b"" if start is None else as_bytes("start", start)
    high = None if stop is None else as_bytes("stop", stop)
    if prefix is not None:
        prefix = as_bytes("prefix", prefix)
        low = max(low, prefix)
        end = prefix_end(prefix)
        if end is not None:
            high = end if high is None else min(high, end)
    if high is not None and high < low:
        high = low
    return low, high

"""What logical checks read from, and where they put what they find.

`Source` reads a database and passes over what damage hides; `Sink` gathers problems, and carries out what
puts them right if it was given a database to write to.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, Literal, NamedTuple

from lamina.engine import CorruptionError, Database
from lamina.engine.batch import Batch
from lamina.engine.reading import Readable

Entry = tuple[bytes, bytes]
Ranges = Sequence[tuple[bytes, bytes | None]]
Severity = Literal["error", "warning"]

_BATCH_ENTRIES: Final = 1000
_BATCH_BYTES: Final = 4 << 20
_PREFIX_SIZE: Final = 5
_PROBLEMS_MAX: Final = 10_000
"""Problems that are kept; more of a kind are only counted."""
_KEPT_MAX: Final = 256
"""Entries of a range that are removed one by one, and kept in the problem; of more the range is given up, as
a server does it."""


class Problem(NamedTuple):
    """Something that does not fit. `pdb` is 0 for the server's state; `key` the user's, if it is about one.

    `entries` and `size_bytes`: engine entries that are, or would be, dropped, and what they hold; `dropped`
    has them where they are few.
    """

    severity: Severity
    pdb: int
    key: bytes | None
    kind: str
    what: str
    entries: int = 0
    size_bytes: int = 0
    dropped: Sequence[Entry] = ()


class Source:
    """Reads a database, or a snapshot. `unreadable`: key ranges that are passed over, in order."""

    def __init__(self, db: Readable, unreadable: Ranges = ()) -> None:
        self.db = db
        self._unreadable = _joined(unreadable)
        self._starts = [start for start, _ in self._unreadable]
        self.scanned: Counter[bytes] = Counter()
        """Entries that `entries` has read, by area."""

    @property
    def is_damaged(self) -> bool:
        """Whether something is passed over."""
        return bool(self._unreadable)

    def is_hidden(self, start: bytes, stop: bytes | None) -> bool:
        """Tell whether some of a key range is passed over."""
        return any(
            (stop is None or low < stop) and (high is None or start < high) for low, high in self._unreadable
        )

    def get(self, key: bytes) -> bytes | None:
        """Return a value, None if it is not there. Errors: CorruptionError, where it is hidden."""
        return self.db.get(key)

    def knows(self, key: bytes) -> bool:
        """Tell whether a key is there, or may be, as that cannot be read."""
        at = bisect_right(self._starts, key) - 1
        if at >= 0 and ((stop := self._unreadable[at][1]) is None or key < stop):
            return True
        try:
            return self.db.get(key) is not None
        except CorruptionError:
            return True

    def scan(self, start: bytes, stop: bytes | None) -> Iterator[Entry]:
        """Yield what can be read of ``start <= key < stop``, in order."""
        for low, high in self._unreadable:
            if high is not None and high <= start:
                continue
            if stop is not None and low >= stop:
                break
            if start < low:
                yield from self.db.scan(start, low)
            if high is None:
                return
            start = max(start, high)
        if stop is None or start < stop:
            yield from self.db.scan(start, stop)

    def entries(self, prefix: bytes, stop: bytes) -> Iterator[Entry]:
        """Yield the entries of an area, and count them."""
        count = 0
        for entry in self.scan(prefix, stop):
            count += 1
            yield entry
        self.scanned[prefix[:_PREFIX_SIZE]] += count


def _joined(ranges: Ranges) -> list[tuple[bytes, bytes | None]]:
    """Return disjoint ranges in order."""
    joined: list[tuple[bytes, bytes | None]] = []
    for start, stop in sorted(ranges, key=lambda item: item[0]):
        if joined and ((last := joined[-1][1]) is None or start <= last):
            if last is not None and (stop is None or stop > last):
                joined[-1] = joined[-1][0], stop
        else:
            joined.append((start, stop))
    return joined


class Sink:
    """Takes problems, and the writes that put them right; carries these out if there is a database."""

    def __init__(self, db: Database | None = None) -> None:
        self.problems: list[Problem] = []
        self.left_out: Counter[str] = Counter()
        """Problems beyond those that are kept, by kind."""
        self._db = db
        self._batch = Batch()
        self._batch_bytes = 0

    @property
    def database(self) -> Database | None:
        """Where writes go; None if they are not carried out."""
        return self._db

    def error(
        self,
        pdb: int,
        key: bytes | None,
        kind: str,
        what: str,
        *,
        entries: int = 0,
        size_bytes: int = 0,
        dropped: Sequence[Entry] = (),
    ) -> None:
        """Note a problem."""
        if dropped:
            entries = len(dropped)
            size_bytes = sum(len(key) + len(value) for key, value in dropped)
        self._add(Problem("error", pdb, key, kind, what, entries, size_bytes, dropped))

    def warn(self, pdb: int, key: bytes | None, kind: str, what: str) -> None:
        """Note something that is not wrong and not understood."""
        self._add(Problem("warning", pdb, key, kind, what))

    def _add(self, problem: Problem) -> None:
        if len(self.problems) < _PROBLEMS_MAX:
            self.problems.append(problem)
        else:
            self.left_out[problem.kind] += 1

    def put(self, key: bytes, value: bytes) -> None:
        """Write an entry."""
        if self._db is not None:
            self._batch.put(key, value)
            self._grown(len(key) + len(value))

    def delete(self, key: bytes) -> None:
        """Remove an entry."""
        if self._db is not None:
            self._batch.delete(key)
            self._grown(len(key))

    def discard(self, start: bytes, stop: bytes) -> None:
        """Give up a key range: nothing will ever be written there again."""
        if self._db is not None:
            self.flush()
            self._db.discard(start, stop)

    def drop_range(
        self, pdb: int, kind: str, what: str, bounds: tuple[bytes, bytes], found: Iterator[Entry]
    ) -> None:
        """Remove all that is `found` between two keys, and say so: how many entries, and `what` they are."""
        kept: list[Entry] = []
        entries = size_bytes = 0
        for key, value in found:
            entries += 1
            size_bytes += len(key) + len(value)
            if entries <= _KEPT_MAX:
                kept.append((key, value))
        what = f"{entries} {what}"
        if entries <= _KEPT_MAX:
            self.error(pdb, None, kind, what, dropped=kept)
            for key, _ in kept:
                self.delete(key)
        else:
            self.error(pdb, None, kind, what, entries=entries, size_bytes=size_bytes)
            self.discard(*bounds)

    def _grown(self, size_bytes: int) -> None:
        self._batch_bytes += size_bytes
        if len(self._batch.entries) >= _BATCH_ENTRIES or self._batch_bytes >= _BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is pending."""
        if self._db is not None and len(self._batch):
            self._db.write(self._batch)
        self._batch.clear()
        self._batch_bytes = 0

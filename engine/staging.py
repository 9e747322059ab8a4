"""Staged batches: writes that readers see already and that are not in the log yet.

They are in the memtable, where scans and counts find them. What is kept here is what it takes to log them as
one frame, and to take them back:

    stage    columns for the log (keys, values, kinds), and what the memtable held of those keys before

In the frame each key occurs once. What several stages say of a key is combined by the rule for layers
(entry.py), so replaying the frame leads to the memtable that the stages, one by one, have led to.

While something is staged, nothing else is written and the memtable is not sealed: see writing.py. Everything
here happens under the database's lock.
"""

from __future__ import annotations

from itertools import chain
from typing import NamedTuple

from lamina.engine.batch import Discard
from lamina.engine.entry import INVALID, VANISHED, combine
from lamina.engine.layers import View
from lamina.engine.memtable import Before, Memtable
from lamina.engine.resolution import columns, resolve


class _Stage(NamedTuple):
    """One batch that has been staged."""

    keys: list[bytes]
    values: list[bytes]
    kinds: bytes
    discards: list[Discard]
    before: Before


class Staged:
    """What is staged in one memtable, in order."""

    def __init__(self, memtable: Memtable) -> None:
        self._memtable = memtable
        self._stages: list[_Stage] = []
        self.written_before_bytes = memtable.written_bytes
        """What had been written to the memtable without what is staged."""

    def __len__(self) -> int:
        return len(self._stages)

    def add(
        self,
        entries: dict[bytes, bytes | None],
        existed: dict[bytes, bool],
        discards: list[Discard],
        view: View,
    ) -> None:
        """Put a batch into the memtable. If anything is raised, `rewind` to the length before.

        Its discards wait for the log: what was given up cannot be taken back from those who looked.
        """
        memtable = self._memtable
        entries, places, kinds = resolve(entries, existed, memtable, view)
        keys, values = columns(entries, kinds)
        # Kept before anything is changed: whatever interrupts the rest, there is a way back.
        self._stages.append(_Stage(keys, values, kinds, discards[:], memtable.before(keys)))
        memtable.store(entries, places, sum(map(len, keys)) + sum(map(len, values)))

    def rewind(self, count: int) -> None:
        """Take back all stages but the first `count`, newest first. If interrupted, call it again."""
        stages = self._stages
        while len(stages) > count:
            self._memtable.restore(stages[-1].before)
            stages.pop()

    def joined(self) -> tuple[list[bytes], list[bytes], bytes, list[Discard]]:
        """Return everything as the columns of one frame, each key once, and all discards.

        Errors: ValueError if the stages contradict each other, which takes a wrong `existed`.
        """
        stages = self._stages
        if len(stages) == 1:
            return stages[0][:4]
        keys = list(chain.from_iterable(stage.keys for stage in stages))
        values = list(chain.from_iterable(stage.values for stage in stages))
        kinds = b"".join(stage.kinds for stage in stages)
        discards = list(chain.from_iterable(stage.discards for stage in stages))
        if len(set(keys)) < len(keys):
            keys, values, kinds = _combined(keys, values, kinds, counted=self._memtable.counted)
        return keys, values, kinds, discards


def _combined(
    keys: list[bytes], values: list[bytes], kinds: bytes, *, counted: bool
) -> tuple[list[bytes], list[bytes], bytes]:
    """Return columns in which each key occurs once, standing for all its entries in order."""
    last = dict(zip(keys, values, strict=True))
    if not counted:
        return list(last), list(last.values()), bytes(dict(zip(keys, kinds, strict=True)).values())
    sums: dict[bytes, int] = {}
    for key, kind in zip(keys, kinds, strict=True):
        older = sums.get(key, VANISHED)
        if older != VANISHED:
            kind = combine(kind, older)
            if kind == INVALID:
                raise ValueError(f"staged batches were told wrongly whether {key!r} existed")
        sums[key] = kind
    # A key that came and went within the stages was never there. It keeps its place until here, so that both
    # dicts hold the keys in the same order.
    left = [key for key, kind in sums.items() if kind != VANISHED]
    return left, [last[key] for key in left], bytes([sums[key] for key in left])

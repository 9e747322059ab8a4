"""Segments, runs and layers made by hand, for tests of what reads and merges them.

    workshop = Workshop()
    segment = workshop.segment(live({b"a": b"1", b"b": b"2"}))
    run = workshop.run(live({b"a": b"1"}), live({b"m": b"2"}))     # one segment for each argument

An entry is (key, kind, value), the value of a tombstone ``b""``; entries come in key order.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from itertools import pairwise
from random import Random

from harness.memory_filesystem import MemoryFileSystem
from lamina.engine.cache import Cache
from lamina.engine.entry import DELETE, INSERT, REMOVE, REPLACE, is_live
from lamina.engine.memtable import Memtable
from lamina.engine.run import Run, Slice
from lamina.engine.segment.format import is_exact, separator
from lamina.engine.segment.reader import OpenFiles, SegmentReader
from lamina.engine.segment.writer import SegmentWriter

Entry = tuple[bytes, int, bytes]

DIRECTORY = "/db"


def live(items: Mapping[bytes, bytes], kind: int = INSERT) -> list[Entry]:
    """Return the entries of a dict, all of one kind."""
    return [(key, kind, items[key]) for key in sorted(items)]


class Workshop:
    """Makes segments with rising numbers; each is younger than the one before."""

    def __init__(self, *, counted: bool = True, cache_bytes: int = 1 << 20, files_max: int = 64) -> None:
        self.counted = counted
        self.fs = MemoryFileSystem()
        self.fs.make_directory(DIRECTORY)
        self.cache = Cache(cache_bytes)
        self.files = OpenFiles(files_max)
        self.last_number = 0

    def segment(
        self,
        entries: Sequence[Entry],
        *,
        start: bytes = b"",
        stop: bytes | None = None,
        block_size_bytes: int = 128,
        compress: bool = True,
        filter_bits_per_key: int = 10,
        discards_applied: int = 0,
        chunk: int = 50,
    ) -> SegmentReader:
        """Write a segment and open it. `chunk`: how many entries are handed over at a time."""
        self.last_number += 1
        writer = SegmentWriter(
            self.fs,
            DIRECTORY,
            self.last_number,
            start=start,
            block_size_bytes=block_size_bytes,
            compress=compress,
            filter_bits_per_key=filter_bits_per_key,
        )
        for at in range(0, len(entries), chunk):
            writer.add(*columns(entries[at : at + chunk]))
        return self.finish(writer, stop=stop, discards_applied=discards_applied)

    def finish(
        self, writer: SegmentWriter, *, stop: bytes | None = None, discards_applied: int = 0
    ) -> SegmentReader:
        """Finish a writer's segment and open it."""
        writer.finish(
            stop=stop,
            level=0,
            run=writer.number,
            age_first=writer.number,
            age_last=writer.number,
            discards_applied=discards_applied,
            counted=self.counted,
        )
        return self.open(writer.number)

    def open(self, number: int) -> SegmentReader:
        """Open a segment anew, with nothing cached."""
        return SegmentReader(self.fs, DIRECTORY, number, cache=self.cache, files=self.files)

    def run(self, *pieces: Sequence[Entry], block_size_bytes: int = 128) -> Run:
        """Return a run with a segment for each list of entries; empty lists are passed over.

        Lists that no short key divides share a segment, as they do in a compaction.
        """
        filled: list[list[Entry]] = []
        for entries in pieces:
            if filled and entries and not is_exact(separator(filled[-1][-1][0], entries[0][0])):
                filled[-1] += entries
            elif entries:
                filled.append(list(entries))
        bounds = [b"", *(separator(a[-1][0], b[0][0]) for a, b in pairwise(filled)), None]
        slices = [
            Slice.whole(
                self.segment(
                    entries, start=bounds[i] or b"", stop=bounds[i + 1], block_size_bytes=block_size_bytes
                )
            )
            for i, entries in enumerate(filled)
        ]
        return Run(self.last_number, slices)


def columns(entries: Sequence[Entry]) -> tuple[list[bytes], list[bytes], bytes]:
    """Return entries as three parallel columns."""
    return (
        [key for key, _, _ in entries],
        [value for _, _, value in entries],
        bytes(kind for _, kind, _ in entries),
    )


def memtable(entries: Sequence[Entry], *, counted: bool = True) -> Memtable:
    """Return a memtable that holds these entries."""
    table = Memtable(counted=counted, lock=threading.Lock())
    table.apply(*columns(entries))
    return table


def random_history(
    random: Random, keys: Sequence[bytes], layers: int, *, counted: bool = True, changes: int = 30
) -> tuple[list[list[Entry]], dict[bytes, bytes]]:
    """Return the entries of `layers` layers, oldest first, as a writer would make them, and what they
    amount to."""
    state: dict[bytes, bytes] = {}
    history: list[list[Entry]] = []
    for number in range(layers):
        layer: dict[bytes, tuple[int, bytes]] = {}
        below = dict(state)
        for key in random.choices(keys, k=changes):
            if random.random() < 0.35:
                state.pop(key, None)
            else:
                state[key] = b"%d:%d" % (number, random.randrange(1000))
            layer[key] = (0, b"")
        entries: list[Entry] = []
        for key in sorted(layer):
            if counted and key not in below and key not in state:
                continue
            if key in state:
                kind = REPLACE if key in below or not counted else INSERT
            else:
                kind = REMOVE if counted else DELETE
            entries.append((key, kind, state.get(key, b"")))
        assert all(is_live(kind) or value == b"" for _, kind, value in entries)
        history.append(entries)
    return history, state

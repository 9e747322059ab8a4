"""The face that a database turns to its background work."""

from __future__ import annotations

from typing import Protocol

from lamina.engine.discards import Discards
from lamina.engine.filesystem import FileSystem
from lamina.engine.layers import View
from lamina.engine.levels import Levels
from lamina.engine.logs import Logs
from lamina.engine.memtable import Memtable
from lamina.engine.metrics import Counters
from lamina.engine.options import Options
from lamina.engine.segment.reader import SegmentReader


class Host(Protocol):
    """What the background asks of its database."""

    fs: FileSystem
    path: str
    options: Options
    counters: Counters
    counted: bool
    created_s: int
    salt: int
    next_number: int
    view: View
    logs: Logs

    def open_segment(self, number: int, size_bytes: int | None = None) -> SegmentReader:
        """Open a segment with the database's cache."""

    def take_numbers(self, count: int) -> int:
        """Return the first of `count` fresh file numbers."""

    def install_view(self, levels: Levels, settled: Discards, flushed: Memtable | None) -> None:
        """Publish new levels, and the departure of a flushed memtable, to readers."""

    def note_flush(self, size_bytes: int, elapsed_s: float) -> None:
        """Take note of how long a flush took."""

    def forget_segment(self, segment: SegmentReader) -> None:
        """Free what is cached of a segment that is no longer live."""

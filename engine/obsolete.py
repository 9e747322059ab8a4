"""Segments that the tree no longer names but that somebody may still be reading."""

from __future__ import annotations

import contextlib
import weakref

from lamina.engine.filesystem import FileSystem
from lamina.engine.segment.reader import SegmentReader


class ObsoleteSegments:
    """Removes a segment's file once no view, snapshot or scan refers to its reader any more.

    References are counted by the interpreter, so there is nothing to pin and unpin. Used under the
    background's install lock.
    """

    def __init__(self, fs: FileSystem) -> None:
        self._fs = fs
        self._waiting: list[tuple[str, weakref.ref[SegmentReader]]] = []

    def add(self, segment: SegmentReader) -> None:
        """Have the file removed when nobody reads it any more."""
        self._waiting.append((segment.path, weakref.ref(segment)))

    def sweep(self, *, everything: bool = False) -> None:
        """Remove the files that nobody reads; `everything`: all of them, because the database is closing."""
        kept: list[tuple[str, weakref.ref[SegmentReader]]] = []
        for path, reader in self._waiting:
            if reader() is not None and not everything:
                kept.append((path, reader))
                continue
            # What cannot be removed now is swept as an orphan when the database is opened again.
            with contextlib.suppress(OSError):
                self._fs.remove(path)
        self._waiting = kept

"""The numbers and open segments of a repair, which reads old files in one folder and new ones in another."""

from __future__ import annotations

from lamina.engine.cache import Cache
from lamina.engine.filesystem import FileSystem
from lamina.engine.segment.reader import OpenFiles, SegmentReader

_CACHE_BYTES = 64 << 20
_FILES_MAX = 256


class OpenSegments:
    """Opens segments, and hands out numbers that no file has."""

    def __init__(self, fs: FileSystem, salt: int, next_number: int) -> None:
        self.salt = salt
        self.next_number = next_number
        self.first_number = next_number
        """Files from this number on are new."""
        self._fs = fs
        self._cache = Cache(_CACHE_BYTES)
        self._files = OpenFiles(_FILES_MAX)

    def take(self) -> int:
        """Return a fresh number."""
        number = self.next_number
        self.next_number += 1
        return number

    def open(self, directory: str, number: int) -> SegmentReader:
        """Open a segment. Errors: CorruptionError, OSError."""
        return SegmentReader(
            self._fs,
            directory,
            number,
            cache=self._cache,
            files=self._files,
            database_salt=self.salt,
        )

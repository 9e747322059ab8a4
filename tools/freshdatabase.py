"""A new database that is built beside its place and put there when it is complete.

    DIR.partial/     where it is built
    DIR/             the same folder, renamed at the end

What an interruption leaves behind is a folder `DIR.partial`, which the next attempt removes. `BulkTarget`
fills it with keys, without a log.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from typing import Final

from lamina.engine import BulkLoader, Loaded
from lamina.engine.filenames import LOCK, LOST_FOLDER, MANIFEST, is_temporary, parse_name
from lamina.engine.filesystem import DiskFileSystem, sync_ancestors
from lamina.server.encoding import STATE_PREFIX, U64
from lamina.server.rdb.values import Value
from lamina.server.rdbentries import EntryWriter
from lamina.tools.functionlibraries import NewLibraries
from lamina.tools.keyfilter import check_database

PARTIAL_SUFFIX: Final = ".partial"


def is_vacant(path: str) -> bool:
    """Tell whether there is nothing at `path`, or an empty folder, or one with nothing but a lock file."""
    try:
        return not set(os.listdir(path)) - {LOCK}
    except FileNotFoundError:
        return True


@contextlib.contextmanager
def partial_folder(path: str, suffix: str = PARTIAL_SUFFIX) -> Iterator[str]:
    """Return a folder in which a database can be built; what is left of it at the end is removed.

    Errors: FileExistsError where something else is in the way; LockedError if somebody is at it.
    """
    partial = path.rstrip(os.sep) + suffix
    _clear(partial)
    try:
        yield partial
    finally:
        _clear(partial)


def _clear(partial: str) -> None:
    """Remove a folder if it is one of ours. Errors: FileExistsError, LockedError."""
    if not os.path.lexists(partial):
        return
    for name in os.listdir(partial):
        if name not in (LOCK, MANIFEST, LOST_FOLDER) and parse_name(name) is None and not is_temporary(name):
            raise FileExistsError(errno.EEXIST, f"{name} is in the way: remove it", partial)
    lock = DiskFileSystem().lock(os.path.join(partial, LOCK))
    try:
        shutil.rmtree(partial)
    finally:
        lock.release()


def put_in_place(partial: str, path: str) -> None:
    """Rename a database that is complete, closed and durable to its place, which is vacant."""
    fs = DiskFileSystem()
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(path, LOCK))
    fs.replace(partial, path)
    sync_ancestors(fs, path)


class BulkTarget:
    """Takes keys into a new database, each at most once."""

    def __init__(
        self, path: str, *, workers: int, memory: int, on_merged: Callable[[int], None] = lambda count: None
    ) -> None:
        self._loader = BulkLoader(path, workers=workers, memory=memory, on_merged=on_merged)
        self._writers: dict[int, EntryWriter] = {}
        self._libraries = NewLibraries()
        self._next_id = 1
        self._is_complete = False

    def __enter__(self) -> BulkTarget:
        return self

    def __exit__(self, *error: object) -> None:
        self._loader.abort()

    def _take_id(self) -> int:
        taken = self._next_id
        self._next_id = taken + 1
        return taken

    def put(self, database: int, key: bytes, value: Value, expires_ms: int) -> bool:
        """Write a key. A key or an element that comes twice is found, at the latest, by `finish`.

        Errors: DuplicateKeyError, UnsupportedValueError, those of reading the value and of the engine;
        UsageError for a database whose number is too high.
        """
        writer = self._writers.get(database)
        if writer is None:
            check_database(database)
            # A logical database is at home in the physical one of the next number.
            writer = self._writers[database] = EntryWriter(database + 1, self._take_id, self._loader.add)
        writer.put(key, value, expires_ms)
        return writer.last_size > 0

    def put_library(self, source: bytes) -> bool:
        """Write a library of functions. Errors: LibraryError."""
        self._libraries.add(source)
        return True

    def sort_rest(self) -> int:
        """Do what is to be done before the merge; returns about how many bytes that will write."""
        for writer in self._writers.values():
            writer.flush()
        if not self._is_complete and self._next_id > 1:
            self._loader.add([STATE_PREFIX + b"id"], [U64.pack(self._next_id)])
        names, sources = self._libraries.entries()
        if not self._is_complete and names:
            self._loader.add(names, sources)
        self._is_complete = True
        self._loader.sort_rest()
        return self._loader.merged_bytes

    def finish(self) -> Loaded:
        """Complete the database."""
        self.sort_rest()
        return self._loader.finish()

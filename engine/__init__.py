"""Lamina's engine: an ordered, durable key-value store that lives in your program and may outgrow its memory.

    import lamina.engine as engine

    with engine.open("data") as db:
        db.put(b"key", b"value")
        db[b"key"]                          # b"value"
        with db.batch() as batch:           # all or nothing
            batch.put(b"a", b"1")
            batch.delete(b"key")
        for key, value in db.scan(prefix=b"a"):
            ...
        db.count(b"a", b"b")                # exact, without reading the range

Keys and values are bytes; keys are ordered as bytes are. docs/embedding.md is a tutorial,
docs/architecture.md says how it works.
"""

from __future__ import annotations

import os
from typing import Any

from lamina.engine.batch import Batch
from lamina.engine.bulk import BulkLoader, Loaded
from lamina.engine.database import Database
from lamina.engine.errors import (
    ClosedError,
    CorruptionError,
    DuplicateKeyError,
    EngineError,
    FormatVersionError,
    LockedError,
    PoisonedError,
    ReadOnlyError,
)
from lamina.engine.filesystem import DiskFileSystem, FileSystem
from lamina.engine.metrics import Stats
from lamina.engine.options import Options
from lamina.engine.snapshot import Snapshot

__all__ = [
    "Batch",
    "BulkLoader",
    "ClosedError",
    "CorruptionError",
    "Database",
    "DuplicateKeyError",
    "EngineError",
    "FormatVersionError",
    "Loaded",
    "LockedError",
    "Options",
    "PoisonedError",
    "ReadOnlyError",
    "Snapshot",
    "Stats",
    "open",
]


def open(path: str | os.PathLike[str], *, fs: FileSystem | None = None, **options: Any) -> Database:
    """Open the database in directory `path`, creating it if there is none.

    `options` are the fields of `Options`. `fs` is for tests: another file system than the disk's.

    Errors: LockedError if it is open elsewhere; CorruptionError where files are damaged; FormatVersionError;
    OSError; TypeError and ValueError for bad options. Cost: milliseconds, plus 1 µs per entry that was not
    flushed yet.
    """
    # Absolute, so that the database stays where it is when the program changes its directory.
    return Database(os.path.abspath(os.fsdecode(path)), Options(**options), fs or DiskFileSystem())

"""Databases for tests, checked when the test ends.

    def test_something(open_db: OpenDb) -> None:
        db = open_db(counted=False)               # in memory, inline, tiny
        db = open_db(fs=db.fs)                    # after db.close(): the same one again

Every database that is still open at the end is held against all its invariants and closed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import pytest

import lamina.engine as engine
from harness.memory_filesystem import MemoryFileSystem
from lamina.engine.check import assert_consistent
from lamina.engine.filesystem import FileSystem
from lamina.engine.reading import ClosedView

PATH = "/stores/db"

TINY: dict[str, Any] = {
    # Some writes fill a memtable, some entries a block, some blocks a segment.
    "background": "inline",
    "memory": 1 << 20,
    "memtable_size_bytes": 2000,
    "block_size_bytes": 128,
    "segment_size_bytes": 1024,
    "level_runs_max": 2,
    "sync": "no",
}


class OpenDb(Protocol):
    """Opens a database with `TINY` options, changed by those given."""

    def __call__(
        self, path: str = PATH, *, fs: FileSystem | None = None, **options: Any
    ) -> engine.Database: ...


@pytest.fixture
def open_db() -> Iterator[OpenDb]:
    """Open databases that are checked at the end of the test."""
    opened: list[engine.Database] = []

    def open_one(path: str = PATH, *, fs: FileSystem | None = None, **options: Any) -> engine.Database:
        db = engine.open(path, fs=fs or MemoryFileSystem(), **TINY | options)
        opened.append(db)
        return db

    yield open_one
    try:
        for db in opened:
            if not isinstance(db.view, ClosedView):
                assert_consistent(db)
    finally:
        for db in opened:
            db.close()

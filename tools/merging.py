"""Keys on their way into a database that is there already: through batches, as the server writes them.

What a key held before decides, by the policy, what becomes of the new value:

    error      nothing is taken over at all: `find_conflict` looks for one before anything is written, and
               `find_library_conflict` for a library of functions with another source
    keep       the old value stays
    replace    the new one takes its place
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

from lamina.engine import Database
from lamina.server.databases import Databases
from lamina.server.encoding import RECORD, end_of, prefix_of
from lamina.server.keyspace import Keyspace
from lamina.server.rdb.values import Value
from lamina.server.rdbentries import EntryWriter
from lamina.server.rdbvalues import database_map, read_keys, read_libraries
from lamina.tools.console import Progress
from lamina.tools.functionlibraries import MergedLibraries, library_name
from lamina.tools.intake import Intake, Tally
from lamina.tools.keyfilter import KeyFilter, check_database

Policy = Literal["error", "keep", "replace"]

_DATABASE_MAX: Final = 16_383
"""A server of so many databases can be configured; each takes some kilobytes."""
_COMMIT_ENTRIES: Final = 20_000
_COMMIT_BYTES: Final = 8 << 20
_KEY_SHARE: Final = 16
"""So many times as much may one key take in a commit: only what is larger is divided."""


class MergeTarget:
    """Takes keys into an open database of a server. Elements of a collection must be different.

    Keys are committed some thousand at a time: a process that dies leaves those that came before, and of a
    collection above 128 MiB perhaps elements that no key has. They take room until `repair --logical` removes
    them, and nobody sees them.
    """

    def __init__(self, db: Database, databases: Iterable[int], *, policy: Policy, tally: Tally) -> None:
        """`databases`: the logical numbers that keys will go to."""
        self._databases = _open(db, databases)
        self._libraries = MergedLibraries(self._databases)
        self._policy = policy
        self._tally = tally
        self._writers: dict[int, EntryWriter] = {}
        self._pending_bytes = 0

    def put(self, database: int, key: bytes, value: Value, expires_ms: int) -> bool:
        """Write a key as the policy has it. Errors: OSError and EngineError."""
        keyspace = self._databases.keyspaces[database]
        if keyspace.find(key) is not None:
            if self._policy != "replace":
                self._tally.kept += 1
                return False
            keyspace.remove(key)
            self._tally.replaced += 1
        writer = self._writer(keyspace)
        writer.put(key, value, expires_ms)
        writer.flush()  # so that the same key is found if it comes again
        self._commit_above(_COMMIT_ENTRIES, _COMMIT_BYTES)
        return writer.last_size > 0

    def put_library(self, source: bytes) -> bool:
        """Write a library of functions as the policy has it. Errors: LibraryError; OSError, EngineError."""
        before = self._libraries.source_of(library_name(source))
        if before is not None:
            if before == source or self._policy != "replace":
                self._tally.kept += 1
                return False
            self._tally.replaced += 1
        self._libraries.put(source)
        return True

    def _writer(self, keyspace: Keyspace) -> EntryWriter:
        writer = self._writers.get(keyspace.index)
        if writer is None:
            writer = EntryWriter(keyspace.pdb, self._databases.take_id, self._write)
            self._writers[keyspace.index] = writer
        return writer

    def _write(self, keys: list[bytes], values: list[bytes]) -> None:
        store = self._databases.store
        put = store.put
        for key, value in zip(keys, values):
            put(key, value, False)
        self._pending_bytes += sum(map(len, values))
        self._commit_above(_COMMIT_ENTRIES * _KEY_SHARE, _COMMIT_BYTES * _KEY_SHARE)

    def _commit_above(self, entries_max: int, bytes_max: int) -> None:
        if len(self._databases.store.entries) >= entries_max or self._pending_bytes >= bytes_max:
            self.commit()

    def commit(self) -> None:
        """Commit what is pending. Errors: OSError and EngineError."""
        self._databases.commit()
        self._pending_bytes = 0


def find_conflict(db: Database, filled: Database) -> tuple[int, bytes] | None:
    """Return the database and the name of a key that both have, None if there is none.

    Keys of `db` that have expired are there no more. Cost: a lookup for each key of `filled`.
    """
    numbers = database_map(filled.view)
    keyspaces = _open(db, numbers).keyspaces
    for number, pdb in numbers.items():
        find = keyspaces[number].find
        low = prefix_of(pdb, RECORD)
        skip = len(low)
        for keys, _ in filled.scan_chunks(low, end_of(low)):
            for engine_key in keys:
                if find(engine_key[skip:]) is not None:
                    return number, engine_key[skip:]
            keyspaces[number].databases.trim_caches()
    return None


def merge_into(db: Database, filled: Database, policy: Policy, tally: Tally, progress: Progress) -> None:
    """Write all keys and libraries of `filled` into `db`. Errors: OSError and EngineError; LibraryError
    before anything is written."""
    numbers = database_map(filled.view)
    total = sum(filled.count(prefix=prefix_of(pdb, RECORD)) for pdb in numbers.values())
    progress.begin("writing", total)
    tally.keys.clear()
    tally.libraries = 0
    target = MergeTarget(db, numbers, policy=policy, tally=tally)
    intake = Intake(target, KeyFilter(), tally)
    # Before the keys, the first of which are committed when the last ones have not been read.
    for source in read_libraries(filled.view):
        tally.libraries += target.put_library(source)
    for number, pdb in numbers.items():
        for key in read_keys(filled.view, pdb, number):
            intake.take(key)
            progress.advance(1)
    target.commit()


def _open(db: Database, numbers: Iterable[int]) -> Databases:
    """Return the databases of a server, enough of them for these logical numbers. Errors: UsageError."""
    return Databases(db, count=check_database(max((*numbers, 15)), _DATABASE_MAX) + 1)

"""Filling a new database from a file of any kind: what `lamina import` does before anybody sees it.

    rdb, json    keys, libraries -> filter -> sorted runs (BulkTarget)
    aof, resp    an RDB preamble as above, unfiltered; then the commands are run by a server over it. If not
                 all keys are wanted, or some go elsewhere, a second database is filled from the first

Commands see all keys, wanted or not, or they would not do what they did.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable
from typing import Final, Protocol

import lamina.engine as engine
from lamina.engine import Database
from lamina.server.databases import Databases
from lamina.server.encoding import ARGUMENT_SIZE_MAX, FUNCTION_PREFIX, RECORD, TYPE_MASK, end_of, prefix_of
from lamina.server.rdb.loading import RdbReader
from lamina.server.rdb.values import Function, Item
from lamina.server.rdbvalues import database_map, read_keys, read_libraries
from lamina.tools.aofmanifest import AofPart, parts_of
from lamina.tools.commandfile import CommandFileError, CommandReader
from lamina.tools.console import Progress
from lamina.tools.freshdatabase import BulkTarget, partial_folder
from lamina.tools.intake import Intake, Tally
from lamina.tools.jsonlines import JsonLinesReader
from lamina.tools.keyfilter import KeyFilter
from lamina.tools.localserver import DATABASES, CommandFailedError, LocalServer, expire

_TOLD_EVERY: Final = 1024
"""Keys between two looks at how far the file has been read."""
_FAILURES_TOLD: Final = 5
_TYPES: Final = {0: "string", 1: "string", 2: "list", 3: "set", 4: "zset", 5: "hash", 6: "stream"}


class InputFile(Protocol):
    """What is read from."""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes, none only at the end."""

    def readline(self, size: int = -1, /) -> bytes:
        """Return a line, or `size` bytes of it."""


@dataclasses.dataclass
class Source:
    """A file, and what is in it; `file` is None for one in parts."""

    name: str
    kind: str
    file: InputFile | None
    size_bytes: int | None
    where: str = ""
    """The file that is being read: one of the parts."""

    def __post_init__(self) -> None:
        self.where = self.name


class Filler:
    """Fills the database at `path`, which does not exist, once."""

    def __init__(
        self,
        source: Source,
        path: str,
        wanted: KeyFilter,
        tally: Tally,
        *,
        progress: Progress,
        workers: int,
        memory: int,
        allows_truncated: bool,
        skips_errors: bool,
    ) -> None:
        self._source = source
        self._path = path
        self._wanted = wanted
        self._tally = tally
        self._progress = progress
        self._workers = workers
        self._memory = memory
        self._allows_truncated = allows_truncated
        self._skips_errors = skips_errors
        self.read_bytes = 0
        self.truncated_bytes = 0
        self.failures: list[str] = []
        """The first commands that have failed."""

    def fill(self) -> None:
        """Do it. Errors: RdbError, JsonLinesError, CommandFileError, CommandFailedError, DuplicateKeyError,
        UnsupportedValueError, UsageError; those of the engine and the file system."""
        source = self._source
        if source.kind in ("rdb", "json"):
            assert source.file is not None
            self._fill_by_keys(self._path, self._wanted, self._tally, self._items(source.file))
            return
        if self._wanted.takes_all:
            self._replay(self._path)
            self._finish_replayed()
            return
        with partial_folder(self._path, ".commands") as raw:
            self._replay(raw)
            with engine.open(raw, read_only=True) as db:
                self._fill_by_keys(self._path, self._wanted, self._tally, _all_keys(db))

    # -- keys --------------------------------------------------------------------------------------

    def _items(self, file: InputFile) -> Iterable[Item]:
        """Yield what an RDB file or JSON lines hold, and tell how far it has been read."""
        reader: RdbReader | JsonLinesReader
        if self._source.kind == "rdb":
            reader = RdbReader(file, skip_modules=True, string_size_max=ARGUMENT_SIZE_MAX)
        else:
            reader = JsonLinesReader(file.readline)
        begin = self.read_bytes
        for count, item in enumerate(reader):
            yield item
            if not count % _TOLD_EVERY:
                self._note_read(begin + reader.position)
        self._note_read(begin + reader.position)

    def _note_read(self, read_bytes: int) -> None:
        self._progress.advance(read_bytes - self.read_bytes)
        self.read_bytes = read_bytes

    def _fill_by_keys(self, path: str, wanted: KeyFilter, tally: Tally, items: Iterable[Item]) -> None:
        progress = self._progress
        with BulkTarget(
            path, workers=self._workers, memory=self._memory, on_merged=progress.advance
        ) as target:
            Intake(target, wanted, tally).take_all(items)
            total = target.sort_rest()
            if total:
                progress.begin("merging", total)
            target.finish()

    # -- commands ----------------------------------------------------------------------------------

    def _replay(self, path: str) -> None:
        """Run all commands on a new database."""
        source = self._source
        if source.kind == "resp":
            assert source.file is not None
            with self._server(path, is_timeless=False) as server:
                self._run(server, source.file, 0, is_last=True)
            return
        parts = parts_of(source.name)
        sizes = [os.path.getsize(part.path) for part in parts]
        self._progress.begin("reading", sum(sizes))
        starts: dict[str, int] = {}
        for part in parts:
            if part.is_rdb:
                # Only the first file can have keys of its own: those after it build on what is there.
                if part is not parts[0]:
                    raise CommandFileError(0, f"{part.path} is an RDB file, and not the first one")
                starts[part.path] = self._load_preamble(part, path)
        with self._server(path, is_timeless=True) as server:
            for part in parts:
                source.where = part.path
                with open(part.path, "rb") as file:
                    start = starts.get(part.path, 0)
                    file.seek(start)
                    self._run(server, file, start, is_last=part.is_last)

    def _load_preamble(self, part: AofPart, path: str) -> int:
        """Fill the database from the RDB file that a part begins with; returns where that ends."""
        self._source.where = part.path
        unfiltered = Tally()
        with open(part.path, "rb") as file:
            reader = RdbReader(file, skip_modules=True, string_size_max=ARGUMENT_SIZE_MAX, is_preamble=True)
            self._fill_by_keys(path, KeyFilter(), unfiltered, reader)
        self._tally.unsupported += unfiltered.unsupported
        self._note_read(self.read_bytes + reader.position)
        return reader.position

    def _server(self, path: str, *, is_timeless: bool) -> LocalServer:
        return LocalServer(
            path,
            is_timeless=is_timeless,
            memory=self._memory,
            on_failure=self._note_failure,
        )

    def _run(self, server: LocalServer, file: InputFile, start: int, *, is_last: bool) -> None:
        """Run the commands of a file, from `start` on. Errors: CommandFileError and others, see `fill`."""
        reader = CommandReader(file.read, offset=start, inline=self._source.kind == "resp")
        begun = self.read_bytes
        transaction = -1
        try:
            for argvs, offsets in reader:
                self._tally.commands += len(argvs)
                server.run(argvs, offsets)
                transaction = self._transaction_at(server, argvs, offsets, transaction)
                self._note_read(begun + reader.offset - start)
            if server.is_in_transaction:
                raise CommandFileError(transaction, "the file ends in a transaction", is_truncated=True)
        except CommandFileError as error:
            if not (error.is_truncated and is_last):
                raise CommandFileError(error.offset, error.what) from None
            if not self._allows_truncated:
                raise
            offset = error.offset
            if server.is_in_transaction:
                server.discard_transaction()
                offset = transaction
            self.truncated_bytes += reader.end - offset

    def _transaction_at(
        self, server: LocalServer, argvs: list[list[bytes]], offsets: list[int], before: int
    ) -> int:
        """Return where the transaction begins that has not ended; `before`: if it began earlier."""
        if not server.is_in_transaction:
            return -1
        for argv, offset in zip(reversed(argvs), reversed(offsets)):
            if argv[0].upper() == b"MULTI":
                return offset
        return before

    def _note_failure(self, error: CommandFailedError) -> None:
        if not self._skips_errors:
            raise error
        self._tally.failed_commands += 1
        if len(self.failures) < _FAILURES_TOLD:
            self.failures.append(str(error))

    def _finish_replayed(self) -> None:
        """Remove what has expired, and count what is there."""
        with engine.open(self._path, sync="no") as db:
            if self._wanted.now_ms:
                self._tally.expired += expire(Databases(db, count=DATABASES))
            self._tally.keys += _count_types(db)
            self._tally.libraries += db.count(prefix=FUNCTION_PREFIX)
            db.flush()
            db.sync()


def _all_keys(db: Database) -> Iterable[Item]:
    """Yield the libraries of functions, and the keys of all databases, those that have expired, too."""
    for source in read_libraries(db.view):
        yield Function(source)
    for database, pdb in database_map(db.view).items():
        yield from read_keys(db.view, pdb, database)


def _count_types(db: Database) -> Counter[str]:
    """Return how many keys of each type there are. Cost: 0.2 µs for each."""
    found: Counter[int] = Counter()
    for pdb in database_map(db.view).values():
        low = prefix_of(pdb, RECORD)
        for _, raws in db.scan_chunks(low, end_of(low)):
            found.update([raw[0] & TYPE_MASK for raw in raws])
    counted: Counter[str] = Counter()
    for tag, count in found.items():
        counted[_TYPES[tag]] += count
    return counted

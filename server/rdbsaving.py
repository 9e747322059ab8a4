"""Writing a database as an RDB file, whole or not at all.

    written = save_file(fs, snapshot, "/data/lamina.bgsave/dump.rdb", "/data/dump.rdb", FileRules())

The file is written under another name, synced and renamed: under its own name there is the file of before or
the new one, whatever happens. It is in the oldest version that has a form for all that the database holds,
which is what the most servers load: Redis 7.0's, and 7.4's if fields of some hash expire. Keys that have
expired are in it, as in Redis's own files: who loads it drops them.

Memory: some megabytes of records and small collections (readahead.py), one chunk of a large one, one string.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from typing import Any, Final, NamedTuple

from lamina.engine.filesystem import FileSystem, WritableFile, write_all
from lamina.server.encoding import EXPIRY, RECORD, end_of, prefix_of
from lamina.server.rdb.opcodes import REDIS_70, REDIS_74
from lamina.server.rdb.rules import SavingRules
from lamina.server.rdb.saving import RdbWriter
from lamina.server.rdb.values import Key
from lamina.server.rdbvalues import Source, database_map, has_timed_fields, read_libraries, read_runs
from lamina.server.version import REDIS_VERSION, VERSION

_SYNCED_BYTES: Final = 4 << 20
"""What is written between syncs, if there are to be any: so Redis has it."""


@dataclasses.dataclass(frozen=True, slots=True)
class FileRules:
    """How a file is written. `values.version` is chosen by what there is to write."""

    values: SavingRules = dataclasses.field(default_factory=SavingRules)
    checksum: bool = True
    incremental_sync: bool = True

    def to_json(self) -> str:
        """Return the rules as text, for another process."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> FileRules:
        """Return what `to_json` was called on."""
        fields: dict[str, Any] = json.loads(text)
        return cls(**fields | {"values": SavingRules(**fields["values"])})


class Written(NamedTuple):
    """What a file holds."""

    keys: int
    size_bytes: int


class _Output:
    """The file as `RdbWriter` wants one: takes all it is given, and syncs now and then."""

    def __init__(self, file: WritableFile, *, incremental_sync: bool) -> None:
        self._file = file
        self._incremental_sync = incremental_sync
        self._unsynced_bytes = 0

    def write(self, data: bytes) -> None:
        write_all(self._file, data)
        self._unsynced_bytes += len(data)
        if self._incremental_sync and self._unsynced_bytes >= _SYNCED_BYTES:
            # Little by little: all at once at the end would keep the disk from others for seconds.
            self._file.sync()
            self._unsynced_bytes = 0


def save_file(fs: FileSystem, source: Source, temporary: str, path: str, rules: FileRules) -> Written:
    """Write all databases that `source` shows to `path`, through `temporary`, which must not be there.

    Errors: OSError, EngineError, BrokenRecordError and ValueError from a database that is damaged; then
    `path` is as it was and `temporary` is gone.
    """
    try:
        file = fs.create(temporary)
        try:
            written = write_databases(_Output(file, incremental_sync=rules.incremental_sync), source, rules)
            file.sync()
        finally:
            file.close()
        fs.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            fs.remove(temporary)
        raise
    fs.sync_directory(os.path.dirname(path) or os.curdir)
    return written


def write_databases(file: _Output, source: Source, rules: FileRules) -> Written:
    """Write a whole file. Cost: 1 µs for a short string; what collections cost see rdbvalues.py."""
    numbers = database_map(source)
    has_times = any(has_timed_fields(source, pdb) for pdb in numbers.values())
    values = dataclasses.replace(rules.values, version=REDIS_74 if has_times else REDIS_70)
    writer = RdbWriter(file, values, checksum=rules.checksum)
    writer.write_aux(b"redis-ver", REDIS_VERSION.encode())
    writer.write_aux(b"redis-bits", b"64")
    writer.write_aux(b"ctime", b"%d" % time.time())
    writer.write_aux(b"aof-base", b"0")
    writer.write_aux(b"lamina-ver", VERSION.encode())
    for code in read_libraries(source):
        writer.write_function(code)
    count = 0
    for number, pdb in numbers.items():
        records, index = prefix_of(pdb, RECORD), prefix_of(pdb, EXPIRY)
        expiring = source.count(index, end_of(index))
        writer.select_database(number, source.count(records, end_of(records)), expiring)
        write_key = writer.write_key
        for run in read_runs(source, pdb, number):
            if isinstance(run, Key):
                write_key(run.key, run.value, run.expires_ms)
                count += 1
            else:
                writer.write_strings(run.keys, run.texts)
                count += len(run.keys)
    writer.finish()
    return Written(count, writer.position)

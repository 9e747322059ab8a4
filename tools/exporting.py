"""lamina export: all keys of a database, or some, as an RDB file, as commands or as JSON lines."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

import lamina.engine as engine
from lamina.engine import Database
from lamina.engine.checksum import crc32c
from lamina.engine.filenames import TEMPORARY_SUFFIX
from lamina.engine.filesystem import DiskFileSystem, write_all
from lamina.server.encoding import EXPIRY, RECORD, end_of, prefix_of
from lamina.server.rdb.opcodes import REDIS_70, REDIS_72, REDIS_74
from lamina.server.rdb.rules import SavingRules
from lamina.server.rdb.saving import RdbWriter
from lamina.server.rdb.values import Value
from lamina.server.rdbvalues import (
    BrokenRecordError,
    database_map,
    has_timed_fields,
    read_keys,
    read_libraries,
)
from lamina.server.version import REDIS_VERSION, VERSION
from lamina.tools import console
from lamina.tools.commandwriter import CommandWriter
from lamina.tools.console import FINE, Progress, UsageError, human_count, human_size
from lamina.tools.jsonlines import JsonLinesWriter
from lamina.tools.keyfilter import KeyFilter, add_filters, filter_of, type_name
from lamina.tools.rediskeys import is_servers

SUMMARY: Final = "Write all keys of a database that nobody has open, or some of them, to one file."

EPILOG: Final = """\
formats:
  rdb     what redis-server loads: version 10 is read from Redis 7.0 on, 11 from 7.2, 12 from 7.4. Fields of
          hashes that expire need 12. Ends with a checksum
  resp    commands that make the keys, for `redis-cli --pipe` or `lamina import`. Keys must not be there yet.
          Of streams they cannot say when consumers were seen, nor what is pending of entries that are gone.
          Libraries of functions, which come first, must not be there either
  json    lines of JSON, one for each key, more for large collections:
            {"lamina":"keys","version":1}
            {"db":0,"key":"greeting","type":"string","value":"hello"}
            {"db":0,"key":"token","type":"string","expires_ms":1735689600000,"value":{"base64":"/wA="}}
            {"db":0,"key":"queue","type":"list","value":["a","b"],"more":true}
            {"db":0,"key":"queue","type":"list","value":["c"]}
            {"db":0,"key":"board","type":"zset","value":[["ann",1.5],["bob","inf"]]}
            {"db":0,"key":"user","type":"hash","timed":true,"value":[["a","1"],["pin","1",1735689600000]]}
            {"db":0,"key":"log","type":"stream","last_id":"1-1","value":[["1-1",["field","value"]]]}
            {"library":"lib","code":"#!lua name=lib\\n..."}
            {"end":true,"keys":6,"crc32c":"89abcdef"}
          Bytes that are not UTF-8 are objects with their base64. The last line has the checksum of all others

Libraries of functions are written with the keys, unless --only-db, --prefix, --match or --type choose among
these.

FILE is written beside its place, as FILE.tmp, synced and renamed: it is complete or not there. Without FILE,
or with -, standard output is written to. The format is that of FILE's ending (.rdb, .resp, .aof, .json,
.jsonl), or else rdb.

examples:
  lamina export lamina dump.rdb
  lamina export --rdb-version 11 --only-db 0 lamina new.rdb
  lamina export --format resp lamina | redis-cli -p 6380 --pipe
  lamina export --format json --match 'user:*' lamina | jq -r 'select(.key).key'

see also:
  lamina import FILE DIR    the other way round
  BGSAVE                    an RDB file of a server that runs
"""

_FORMATS: Final = {".rdb": "rdb", ".resp": "resp", ".aof": "resp", ".json": "json", ".jsonl": "json"}
_VERSIONS: Final = {10: REDIS_70, 11: REDIS_72, 12: REDIS_74}
_TOLD_EVERY: Final = 256

WriteKey = Callable[[int, bytes, Value, int], None]


def main(arguments: list[str]) -> int:
    """Export a database; returns the exit status."""
    parser = console.parser("export", SUMMARY, EPILOG)
    parser.add_argument("directory", metavar="DIR", help="the database's folder")
    parser.add_argument("file", metavar="FILE", nargs="?", default="-", help="what is written")
    parser.add_argument("--format", choices=("rdb", "resp", "json"), help="what FILE becomes")
    parser.add_argument("--force", action="store_true", help="replace FILE if it is there")
    parser.add_argument(
        "--rdb-version", type=int, choices=tuple(_VERSIONS), help="10, or 12 where fields expire"
    )
    parser.add_argument("--compress", action="store_true", help="compress strings in an RDB file: slow")
    add_filters(parser, maps=True)
    return console.run(parser, _export, arguments)


def _export(arguments: argparse.Namespace) -> int:
    begun_s = time.monotonic()
    path = console.database_directory(arguments.directory)
    kind = _format_of(arguments)
    wanted = filter_of(arguments, time.time_ns() // 1_000_000)
    with contextlib.ExitStack() as stack:
        stack.enter_context(console.offline(path, writes=False))
        db = stack.enter_context(engine.open(path, read_only=True))
        if not is_servers(db):
            raise UsageError(
                f"{path}: no server has written this database: `lamina dump` shows what it holds"
            )
        numbers = _databases(db, wanted)
        version = _version(arguments, kind, db, numbers)
        output = stack.enter_context(_Output.open(arguments.file, replaces=arguments.force))
        total = sum(db.count(prefix=prefix_of(pdb, RECORD)) for pdb in numbers.values())
        silent = arguments.json or arguments.quiet
        progress = stack.enter_context(Progress("writing", total, silent=silent))
        walk = _Walk(db, numbers, wanted, progress)
        try:
            _write(kind, output, walk, SavingRules(version=version, compress=arguments.compress))
        except BrokenRecordError as error:
            raise UsageError(f"{path}: {error}: see `lamina check --logical {path}`") from None
        output.finish()
    facts: dict[str, Any] = {
        "directory": arguments.directory,
        "file": arguments.file,
        "format": kind,
        "rdb_version": version if kind == "rdb" else None,
        "keys": sum(walk.keys.values()),
        "keys_by_type": dict(sorted(walk.keys.items())),
        "libraries": len(walk.libraries),
        "filtered": walk.filtered,
        "expired": walk.expired,
        "written_bytes": output.size_bytes,
        "crc32c": f"{output.checksum:08x}",
        "seconds": round(time.monotonic() - begun_s, 3),
    }
    if arguments.json:
        console.print_json(facts)
    elif arguments.file != "-":
        types = ", ".join(f"{human_count(count)} {name}" for name, count in facts["keys_by_type"].items())
        libraries = f" {len(walk.libraries)} libraries of functions;" if walk.libraries else ""
        sys.stdout.write(
            f"{human_count(facts['keys'])} keys exported{f': {types}' if types else ''};{libraries}"
            f" {human_size(output.size_bytes)} in {facts['seconds']:.1f} s\n"
        )
    return FINE


def _format_of(arguments: argparse.Namespace) -> str:
    """Return the format to write. Errors: UsageError."""
    to_stdout = arguments.file == "-"
    if to_stdout and arguments.json:
        raise UsageError("--json prints a summary where the keys would go: name a FILE, or use --format json")
    suffix = os.path.splitext(arguments.file)[1]
    kind: str = arguments.format or _FORMATS.get(suffix, "rdb")
    if to_stdout and kind == "rdb" and sys.stdout.isatty():
        raise UsageError("an RDB file is nothing for a terminal: name a FILE")
    if kind != "rdb" and (arguments.rdb_version is not None or arguments.compress):
        raise UsageError("--rdb-version and --compress are for RDB files")
    return kind


def _databases(db: Database, wanted: KeyFilter) -> dict[int, int]:
    """Return the physical numbers of the databases of which something may be wanted. Errors: UsageError."""
    numbers = {number: pdb for number, pdb in database_map(db.view).items() if wanted.wants_database(number)}
    goals = [wanted.database_for(number) for number in numbers]
    if len(set(goals)) < len(goals):
        raise UsageError("two databases would become one, in which keys could come twice: use --only-db")
    return numbers


def _version(arguments: argparse.Namespace, kind: str, db: Database, numbers: dict[int, int]) -> int:
    """Return the RDB version to write. Errors: UsageError."""
    has_times = any(has_timed_fields(db.view, pdb) for pdb in numbers.values())
    if arguments.rdb_version is None:
        return REDIS_74 if has_times else REDIS_70
    version = _VERSIONS[arguments.rdb_version]
    if kind == "rdb" and has_times and version < REDIS_74:
        raise UsageError("fields of some hash expire: only RDB files of version 12 have that")
    return version


# -- what is written ---------------------------------------------------------------------------------


class _Walk:
    """The keys that are wanted, counted."""

    def __init__(self, db: Database, numbers: dict[int, int], wanted: KeyFilter, progress: Progress) -> None:
        self.db = db
        self.numbers = numbers
        self.wanted = wanted
        self.keys: Counter[str] = Counter()
        self.libraries = list(read_libraries(db.view)) if wanted.takes_libraries else []
        """Libraries of functions that are wanted. There are few of them."""
        self.filtered = 0
        self.expired = 0
        self._progress = progress

    def write(self, pdb: int, number: int, write_key: WriteKey) -> None:
        """Hand all keys of a physical database on, as those of database `number`."""
        wanted, keys, advance = self.wanted, self.keys, self._progress.advance
        takes_all = wanted.takes_all
        low = prefix_of(pdb, RECORD) + wanted.prefix
        seen = count = 0
        for item in read_keys(self.db.view, pdb, number, prefix=wanted.prefix, now_ms=wanted.now_ms):
            seen += 1
            if not seen % _TOLD_EVERY:
                advance(_TOLD_EVERY)
            if takes_all or wanted.wants(item.key, item.value):
                count += 1
                keys[type_name(item.value)] += 1
                write_key(number, item.key, item.value, item.expires_ms)
        stored = self.db.count(low, end_of(low))
        self.expired += stored - seen
        self.filtered += seen - count + self.db.count(prefix=prefix_of(pdb, RECORD)) - stored


def _write(kind: str, output: _Output, walk: _Walk, rules: SavingRules) -> None:
    if kind == "rdb":
        _write_rdb(output, walk, rules)
        return
    writer = CommandWriter(output.write) if kind == "resp" else JsonLinesWriter(output.write)
    for source in walk.libraries:
        writer.write_library(source)
    for number, pdb in walk.numbers.items():
        walk.write(pdb, walk.wanted.database_for(number), writer.write_key)
    writer.finish()


def _write_rdb(output: _Output, walk: _Walk, rules: SavingRules) -> None:
    writer = RdbWriter(output, rules)
    writer.write_aux(b"redis-ver", REDIS_VERSION.encode())
    writer.write_aux(b"redis-bits", b"64")
    writer.write_aux(b"ctime", b"%d" % time.time())
    writer.write_aux(b"aof-base", b"0")
    writer.write_aux(b"lamina-ver", VERSION.encode())
    for source in walk.libraries:
        writer.write_function(source)

    def write_key(database: int, key: bytes, value: Value, expires_ms: int) -> None:
        writer.write_key(key, value, expires_ms)

    db = walk.db
    for number, pdb in walk.numbers.items():
        # A hint of how much room to make, and no more: with a filter there will be fewer.
        keys, expiring = db.count(prefix=prefix_of(pdb, RECORD)), db.count(prefix=prefix_of(pdb, EXPIRY))
        database = walk.wanted.database_for(number)
        writer.select_database(database, keys, expiring)
        walk.write(pdb, database, write_key)
    writer.finish()


class _Output:
    """A file that is written beside its place, or standard output."""

    def __init__(self, write: Callable[[bytes], object], finish: Callable[[], None]) -> None:
        self._write = write
        self.finish = finish
        """Completes the file."""
        self.size_bytes = 0
        self.checksum = 0

    def write(self, data: bytes, /) -> int:
        """Write all of it."""
        self._write(data)
        self.size_bytes += len(data)
        self.checksum = crc32c(self.checksum, data)
        return len(data)

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: str, *, replaces: bool) -> Iterator[_Output]:
        """Begin a file; what is not finished is removed. Errors: UsageError, OSError."""
        if path == "-":
            yield cls(sys.stdout.buffer.write, sys.stdout.buffer.flush)
            return
        if os.path.exists(path) and not replaces:
            raise UsageError(f"{path} is there already: --force replaces it")
        fs = DiskFileSystem()
        temporary = path + TEMPORARY_SUFFIX
        with contextlib.suppress(FileNotFoundError):
            fs.remove(temporary)
        file = fs.create(temporary)

        def finish() -> None:
            file.sync()
            fs.replace(temporary, path)
            fs.sync_directory(os.path.dirname(path) or os.curdir)

        try:
            yield cls(lambda data: write_all(file, data), finish)
        finally:
            file.close()
            with contextlib.suppress(FileNotFoundError):
                fs.remove(temporary)

"""lamina import: keys from Redis's files, from files of commands and from JSON lines."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import lamina.engine as engine
from lamina.engine import Database, DuplicateKeyError
from lamina.server.rdb.errors import RdbError
from lamina.server.rdbentries import UnsupportedValueError
from lamina.tools import console
from lamina.tools.aofmanifest import RDB_MAGIC, is_multi_part
from lamina.tools.commandfile import CommandFileError
from lamina.tools.console import FINDINGS, FINE, Progress, UsageError, human_count, human_size, text_of
from lamina.tools.filling import Filler, Source
from lamina.tools.freshdatabase import is_vacant, partial_folder, put_in_place
from lamina.tools.functionlibraries import LibraryError, find_library_conflict
from lamina.tools.intake import Tally
from lamina.tools.jsonlines import JsonLinesError
from lamina.tools.keyfilter import add_filters, filter_of
from lamina.tools.localserver import CommandFailedError
from lamina.tools.merging import find_conflict, merge_into
from lamina.tools.rediskeys import is_servers, place_of

SUMMARY: Final = "Take keys over from an RDB file, an append-only file, a file of commands or JSON lines."

EPILOG: Final = """\
what FILE can be:
  rdb     what SAVE, BGSAVE and `redis-cli --rdb` write, of any version from 1 to 12
  aof     an append-only file, with an RDB preamble or without, or the folder or manifest of one in parts
  resp    commands, as `redis-cli --pipe` takes them, or one on each line; run with the clock of today
  json    lines of JSON, as `lamina export --format json` writes them: its help draws them
  A file named - is standard input.

what DIR can be:
  Nothing, or an empty folder: the new database is built beside it, in DIR.partial, sorted and without a log,
  and renamed when it is complete. Whatever happens before, there is no database at DIR.
  A database that nobody has open: FILE is read into DIR.partial first, so that damage of any kind changes
  nothing; then its keys are written as a server would. A process that is killed meanwhile leaves those that
  came before: run it again with --on-conflict replace.

what is left out:
  Keys and fields that have expired, unless --keep-expired is given. What only modules read, and libraries of
  functions that cannot be loaded: they are counted and named, and the exit status is 1, unless
  --skip-unsupported is given.

libraries of functions:
  They are taken over with the keys, unless --only-db, --prefix, --match or --type choose among these. One
  that DIR has already, from the same source, stays; if its source differs, --on-conflict decides. Nothing is
  changed if a function of theirs belongs to another library of DIR.

examples:
  lamina import /var/lib/redis/dump.rdb lamina && lamina serve
  lamina import /var/lib/redis/appendonlydir lamina
  lamina import --only-db 3 --map-db 3=0 --match 'user:*' dump.rdb users
  lamina import --on-conflict replace --json more.rdb lamina
  lamina export old - --format json | lamina import --format json - new

see also:
  lamina export DIR FILE    the other way round
"""

_PEEK_BYTES: Final = 16
_MEMORY_BYTES: Final = 256 << 20
_CPUS: Final = len(os.sched_getaffinity(0))


def main(arguments: list[str]) -> int:
    """Import a file; returns the exit status."""
    parser = console.parser("import", SUMMARY, EPILOG)
    parser.add_argument("file", metavar="FILE", help="what is imported; - is standard input")
    parser.add_argument("directory", metavar="DIR", help="the database's folder")
    parser.add_argument(
        "--format", choices=("auto", "rdb", "aof", "resp", "json"), default="auto", help="what FILE is"
    )
    parser.add_argument(
        "--on-conflict",
        choices=("error", "keep", "replace"),
        default="error",
        help="what becomes of keys that DIR has already; error: nothing is changed",
    )
    add_filters(parser, maps=True)
    more = parser.add_argument_group("more")
    more.add_argument(
        "--allow-truncated", action="store_true", help="take commands up to where the file ends in one"
    )
    more.add_argument("--skip-errors", action="store_true", help="go on behind commands that fail")
    more.add_argument(
        "--skip-unsupported", action="store_true", help="what cannot be taken over makes no exit status 1"
    )
    more.add_argument("--jobs", type=int, default=_CPUS, metavar="N", help="processes that sort and merge")
    more.add_argument(
        "--memory", type=int, default=_MEMORY_BYTES >> 20, metavar="MIB", help="memory for sorting"
    )
    return console.run(parser, _import, arguments)


def _import(arguments: argparse.Namespace) -> int:
    begun_s = time.monotonic()
    path = os.path.abspath(arguments.directory)
    wanted = filter_of(arguments, time.time_ns() // 1_000_000)
    if not 1 <= arguments.jobs <= 256 or not 1 <= arguments.memory <= 1 << 20:
        raise UsageError("--jobs is from 1 to 256, --memory from 1 MiB to 1 TiB")
    silent = arguments.json or arguments.quiet
    tally = Tally()
    with contextlib.ExitStack() as stack:
        db = None if is_vacant(path) else stack.enter_context(_existing(path))
        source = stack.enter_context(_source(arguments))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        partial = stack.enter_context(partial_folder(path))
        progress = stack.enter_context(Progress("reading", source.size_bytes, unit="bytes", silent=silent))
        filler = Filler(
            source,
            partial,
            wanted,
            tally,
            progress=progress,
            workers=arguments.jobs,
            memory=arguments.memory << 20,
            allows_truncated=arguments.allow_truncated,
            skips_errors=arguments.skip_errors,
        )
        with _explained(source):
            filler.fill()
        if db is None:
            put_in_place(partial, path)
        else:
            with engine.open(partial, read_only=True) as filled:
                if arguments.on_conflict == "error":
                    _refuse_conflict(db, filled)
                try:
                    merge_into(db, filled, arguments.on_conflict, tally, progress)
                except LibraryError as error:
                    raise UsageError(f"{error}: nothing was changed") from None
    _report(arguments, source, tally, filler, time.monotonic() - begun_s)
    has_left_out = tally.unsupported and not arguments.skip_unsupported
    return FINDINGS if has_left_out or tally.failed_commands else FINE


# -- what is read, and where it goes -----------------------------------------------------------------


@contextlib.contextmanager
def _existing(path: str) -> Iterator[Database]:
    """Open a database that is there. Errors: UsageError, LockedError, those of the engine."""
    console.database_directory(path)
    with engine.open(path, create=False) as db:
        if not is_servers(db):
            raise UsageError(f"{path}: no server has written this database: import into another one")
        yield db


@contextlib.contextmanager
def _source(arguments: argparse.Namespace) -> Iterator[Source]:
    """Find out what is to be read. Errors: UsageError, OSError."""
    name = arguments.file
    if name == "-":
        with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as raw:
            stream = io.BufferedReader(raw)
            head = stream.peek(_PEEK_BYTES)[:_PEEK_BYTES]
            kind = _kind_of("", head) if arguments.format == "auto" else arguments.format
            if kind == "aof":
                kind = "resp"  # it has no name to tell them apart, and no parts
            yield Source("standard input", kind, stream, None)
            stream.detach()
        return
    if is_multi_part(name):
        if arguments.format not in ("auto", "aof"):
            raise UsageError(f"{name} is an append-only file in parts, not --format {arguments.format}")
        yield Source(name, "aof", None, None)
        return
    if os.path.isdir(name):
        raise UsageError(f"{name}: this folder holds no append-only file in parts")
    with open(name, "rb") as file:
        kind = arguments.format
        if kind == "auto":
            kind = _kind_of(name, file.peek(_PEEK_BYTES)[:_PEEK_BYTES])
        yield Source(name, kind, file, os.fstat(file.fileno()).st_size)


def _kind_of(name: str, head: bytes) -> str:
    """Return the format that a file seems to have."""
    if name.endswith(".aof"):
        return "aof"
    if head.startswith(RDB_MAGIC):
        return "rdb"
    return "json" if head.lstrip()[:1] == b"{" else "resp"


@contextlib.contextmanager
def _explained(source: Source) -> Iterator[None]:
    """Say of errors in the file which file it is, and what can be done."""
    try:
        yield
    except CommandFileError as error:
        hint = ": --allow-truncated takes what comes before" if error.is_truncated else ""
        raise UsageError(f"{source.where}: {error}{hint}") from None
    except CommandFailedError as error:
        raise UsageError(f"{source.where}: {error}: --skip-errors goes on behind it") from None
    except RdbError as error:
        raise UsageError(f"{source.where}: {error}") from None
    except (JsonLinesError, UnsupportedValueError) as error:
        raise UsageError(f"{source.where}: {error}") from None
    except DuplicateKeyError as error:
        place = place_of(error.key)
        what = "key" if place.area == "record" else "element"
        where = f"database {place.pdb - 1}" if place.area == "record" else "a collection"
        raise UsageError(
            f"{source.where}: the {what} '{text_of(place.name)}' comes twice in {where}"
        ) from None


def _refuse_conflict(db: Database, filled: Database) -> None:
    found = find_conflict(db, filled)
    if found is not None:
        database, key = found
        raise UsageError(
            f"the key '{text_of(key)}' is there already in database {database}, and nothing was changed:"
            " use --on-conflict keep or replace"
        )
    name = find_library_conflict(db, filled)
    if name is not None:
        raise UsageError(
            f"the library of functions '{text_of(name)}' is there already with another source, and nothing"
            " was changed: use --on-conflict keep or replace"
        )


# -- what is shown -----------------------------------------------------------------------------------


def _report(
    arguments: argparse.Namespace, source: Source, tally: Tally, filler: Filler, elapsed_s: float
) -> None:
    facts: dict[str, Any] = {
        "file": source.name,
        "format": source.kind,
        "directory": arguments.directory,
        **tally.facts(),
        "read_bytes": filler.read_bytes,
        "truncated_bytes": filler.truncated_bytes,
        "seconds": round(elapsed_s, 3),
    }
    if arguments.json:
        console.print_json(facts)
    else:
        for line in _lines(facts, quiet=arguments.quiet):
            sys.stdout.write(f"{line}\n")
    err = sys.stderr
    for kind, count in sorted(tally.unsupported.items()):
        reason = "" if ":" in kind else ": Lamina does not have that"
        err.write(f"lamina import: left out: {human_count(count)} x {kind}{reason}\n")
    if filler.truncated_bytes:
        err.write(f"lamina import: {source.where}: the last {filler.truncated_bytes} bytes were cut off\n")
    for text in filler.failures:
        err.write(f"lamina import: {source.where}: {text}\n")


def _lines(facts: dict[str, Any], *, quiet: bool) -> Iterator[str]:
    types = ", ".join(f"{human_count(count)} {kind}" for kind, count in facts["keys_by_type"].items())
    yield f"{human_count(facts['keys'])} keys imported{f': {types}' if types else ''}"
    if facts["libraries"]:
        yield f"{human_count(facts['libraries'])} libraries of functions"
    if quiet:
        return
    for name in ("filtered", "expired", "kept", "replaced", "commands", "failed_commands"):
        if facts[name]:
            yield f"{human_count(facts[name])} {name.replace('_', ' ')}"
    seconds = max(facts["seconds"], 0.001)
    rate = f"{human_size(int(facts['read_bytes'] / seconds))}/s"
    yield f"{human_size(facts['read_bytes'])} read in {facts['seconds']:.1f} s: {rate}"

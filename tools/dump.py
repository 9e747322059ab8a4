"""lamina dump: what is in a segment, a log, a manifest, or a whole database, entry by entry."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Final

import lamina.engine as engine
from lamina.engine import CorruptionError, Database
from lamina.server.encoding import RECORD, prefix_of
from lamina.tools import console
from lamina.tools.console import FINE
from lamina.tools.damage import complain_of
from lamina.tools.dumpfiles import VERB, dump_manifest, dump_segment, dump_wal, first_entries
from lamina.tools.provenance import KIND_NAMES, entries
from lamina.tools.rediskeys import Numbers
from lamina.tools.redisview import EntryView
from lamina.tools.selection import Selection, add_range, print_count, print_line, selection_of
from lamina.tools.views import add_format, view_of, view_of_files

EPILOG: Final = """\
formats:
  raw      bytes as text, as redis-cli shows them: printable ASCII as it is, the rest as \\n or \\x00
  hex      bytes as hexadecimal digits; --start, --stop and --prefix are given so, too
  redis    what a server's entries mean: databases, keys, types, sizes, expiry, elements
  auto     redis if the database looks like a server's, else raw (this is the default)

A file needs nothing but itself. If it lies in a database that can be opened, that is asked which database is
which and what the elements belong to. What is damaged is told, with its place, and the rest is shown.

examples:
  lamina dump segment data/000034.seg                      what the segment says of itself
  lamina dump segment data/000034.seg --blocks             one line for each data block
  lamina dump segment data/000034.seg --entries --limit 20
  lamina dump wal data/000012.wal --format hex             every frame and what it writes
  lamina dump manifest data                                levels, runs, segments, discarded ranges
  lamina dump keys data --db 0 --prefix user:              keys of database 0, as Redis data
  lamina dump keys data --all-layers --start k --stop l    what each layer says of them, newest first
  lamina dump keys data --count-only
"""


def main(arguments: list[str]) -> int:
    """Dump; returns the exit status: 1 if something is damaged."""
    parser = console.parser("dump", "Shows what is in a database's files, down to the entries.", EPILOG)
    nouns = parser.add_subparsers(dest="noun", required=True, metavar="WHAT", parser_class=console.Parser)
    common = _common()
    segment = nouns.add_parser("segment", parents=[common], help="a segment file: NUMBER.seg")
    segment.add_argument("file", metavar="FILE")
    what = segment.add_mutually_exclusive_group()
    for name, text in (
        ("properties", "what the segment says of itself (the default)"),
        ("layout", "every frame: blocks, indexes, properties, footer, and damage"),
        ("blocks", "every data block: place, sizes, entries, first and last key"),
        ("entries", "every entry"),
    ):
        what.add_argument(f"--{name}", dest="what", action="store_const", const=name, help=text)
    wal = nouns.add_parser("wal", parents=[common], help="a write-ahead log: NUMBER.wal")
    wal.add_argument("file", metavar="FILE")
    manifest = nouns.add_parser("manifest", parents=[common], help="levels, runs and segments of a database")
    manifest.add_argument("directory", metavar="DIR")
    keys = nouns.add_parser("keys", parents=[common], help="all entries of a database, in order")
    keys.add_argument("directory", metavar="DIR")
    keys.add_argument("--all-layers", action="store_true", help="what older layers say, too; tombstones")
    keys.add_argument("--db", type=int, metavar="N", help="only keys of this database; ranges speak of them")
    return console.run(parser, dump, arguments)


def _common() -> console.Parser:
    """Return the options of all nouns. --json and --quiet may stand before the noun, too."""
    common = console.Parser(add_help=False)
    absent = argparse.SUPPRESS
    common.add_argument("--json", action="store_true", default=absent, help="JSON; entries as one line each")
    common.add_argument("--quiet", action="store_true", default=absent, help="no more text than is needed")
    add_format(common)
    add_range(common)
    common.add_argument("--limit", type=_count, metavar="N", help="at most so many entries")
    common.add_argument("--count-only", action="store_true", help="only say how many entries there are")
    return common


def _count(text: str) -> int:
    count = int(text)
    if count < 0:
        raise ValueError(text)
    return count


def dump(arguments: argparse.Namespace) -> int:
    """Dump what the arguments name."""
    try:
        match arguments.noun:
            case "keys":
                return _dump_keys(arguments)
            case "manifest":
                directory = console.database_directory(arguments.directory)
                with view_of_files(directory, arguments) as view:
                    return dump_manifest(directory, view, as_json=arguments.json)
        selection = selection_of(arguments, is_hex=arguments.format == "hex")
        directory = os.path.dirname(os.path.abspath(arguments.file))
        with view_of_files(directory, arguments, first_entries(arguments.file)) as view:
            if arguments.noun == "wal":
                return dump_wal(arguments.file, view, selection)
            return dump_segment(arguments.file, view, selection, arguments.what or "properties")
    except CorruptionError as error:
        return complain_of(VERB, error)


# -- whole databases -------------------------------------------------------------------------------


def _dump_keys(arguments: argparse.Namespace) -> int:
    directory = console.database_directory(arguments.directory)
    with console.offline(directory, writes=False), engine.open(directory, read_only=True) as db:
        prefix = b""
        if arguments.db is not None:
            prefix = prefix_of(Numbers.of(db).physical(arguments.db), RECORD)
        selection = selection_of(arguments, prefix, is_hex=arguments.format == "hex")
        view = view_of(db, arguments)
        if arguments.all_layers:
            return _dump_layers(db, view, selection)
        return _dump_newest(db, view, selection)


def _dump_newest(db: Database, view: EntryView, selection: Selection) -> int:
    if selection.count_only:
        print_count(db.count(selection.start, selection.stop), selection)
        return FINE
    for key, value in db.scan(selection.start, selection.stop, limit=selection.limit):
        if selection.as_json:
            print_line(view.facts(key, value))
        else:
            sys.stdout.write(view.line(key, value) + "\n")
    return FINE


def _dump_layers(db: Database, view: EntryView, selection: Selection) -> int:
    """Show what each layer says. Of a key, only the first line is what readers see."""
    count = 0
    last: bytes | None = None
    for entry in entries(db, selection.start, selection.stop):
        if count == selection.limit:
            break
        count += 1
        if selection.count_only:
            continue
        is_newest, last = entry.key != last, entry.key
        is_discarded = bool(db.view.discards.overlapping(entry.key, entry.key + b"\0"))
        state = "discarded" if is_discarded else "newest" if is_newest else "shadowed"
        kind = KIND_NAMES[entry.kind]
        if selection.as_json:
            facts = view.facts(entry.key, entry.value)
            print_line(facts | {"kind": kind, "state": state, "where": entry.where.facts()})
        else:
            line = view.line(entry.key, entry.value)
            sys.stdout.write(f"{state:9} {kind:7} {line}   [{entry.where}]\n")
    if selection.count_only:
        print_count(count, selection)
    return FINE

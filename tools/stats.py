"""lamina stats: what is in a database, how it lies, and what could be had back."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from typing import Any, Final

import lamina.engine as engine
from lamina.engine import CorruptionError, Database
from lamina.engine.filenames import parse_name
from lamina.server.encoding import FUNCTION_PREFIX
from lamina.tools import console, plot
from lamina.tools.console import (
    FINE,
    Progress,
    UsageError,
    human_count,
    human_size,
    print_json,
    text_of,
)
from lamina.tools.damage import complain_of
from lamina.tools.rediskeys import is_servers
from lamina.tools.survey import Facts, Survey, compressibility, database_facts

EPILOG: Final = """\
Levels, amplification and discarded ranges come from manifest and properties. Sizes, types and the biggest
keys take one pass over the data; --quick leaves them out.

amplification:
  read      layers that a lookup may have to ask
  space     entries that are stored for each live one; and bytes of keys and values, likewise
  write     how often each byte is written, as far as the files tell: once into the log, once when it is
            flushed, and about once for each level below that holds data

examples:
  lamina stats data
  lamina stats data --quick --json
  lamina stats data --top 20                   the 20 biggest keys, by elements and by bytes
  lamina stats data --plot data.png            a picture of levels and sizes; needs matplotlib
"""

_SAMPLES: Final = 256
_MEMORY_BYTES: Final = 64 << 20
"""For the engine's cache: one pass in order needs none, but index parts are met several times."""


def main(arguments: list[str]) -> int:
    """Show statistics; returns the exit status."""
    parser = console.parser("stats", "Says what is in a database and how it lies on the disk.", EPILOG)
    parser.add_argument("directory", metavar="DIR", help="the database's folder")
    parser.add_argument("--quick", action="store_true", help="only what can be said without reading the data")
    parser.add_argument("--top", type=int, default=10, metavar="N", help="how many of the biggest keys (10)")
    parser.add_argument("--samples", type=int, default=_SAMPLES, metavar="N", help="blocks to sample (256)")
    parser.add_argument("--plot", metavar="FILE.png", help="also draw levels and sizes into a file")
    return console.run(parser, stats, arguments)


def stats(arguments: argparse.Namespace) -> int:
    """Show what the arguments ask for."""
    if arguments.top < 0 or arguments.samples < 0:
        raise UsageError("--top and --samples are counts: 0 or more")
    if arguments.plot is not None:
        plot.require(arguments.plot)
    directory = console.database_directory(arguments.directory)
    silent = arguments.json or arguments.quiet
    try:
        with console.offline(directory, writes=False), open_for_reading(directory) as db:
            facts = gather(
                db,
                quick=arguments.quick,
                top=arguments.top,
                samples=arguments.samples,
                now_ms=int(time.time() * 1000),
                silent=silent,
            )
    except CorruptionError as error:
        return complain_of("stats", error)
    if arguments.json:
        print_json(facts)
    else:
        sys.stdout.write(text(facts))
    if arguments.plot is not None:
        plot.draw(facts, arguments.plot)
        if not silent:
            sys.stdout.write(f"drawn into {arguments.plot}\n")
    return FINE


def open_for_reading(directory: str) -> Database:
    """Open a database for a pass over it."""
    return engine.open(directory, read_only=True, memory=_MEMORY_BYTES)


def gather(db: Database, *, quick: bool, top: int, samples: int, now_ms: int, silent: bool = True) -> Facts:
    """Return everything that is known of a database, as plain data. Errors: CorruptionError, OSError."""
    is_redis = is_servers(db)
    facts: Facts = {
        "directory": db.path,
        "counted": db.counted,
        "created_s": db.created_s,
        "redis": is_redis,
        "files": _file_facts(db),
        "levels": _level_facts(db),
        "memtables": [len(memtable) for memtable in db.view.memtables if len(memtable)],
        **_sums(db),
        "compressibility": compressibility(db.view.levels.slices, samples),
    }
    if is_redis:
        facts["databases"] = database_facts(db, now_ms)
        facts["libraries"] = db.count(prefix=FUNCTION_PREFIX)
    if quick:
        return facts
    total = facts["live_keys"] if db.counted else facts["entries"]
    with Progress("reading", total, silent=silent) as progress:
        survey = Survey(db, is_redis=is_redis, biggest=top, advance=progress.advance)
        survey.run()
    _add_survey(facts, survey)
    return facts


def _file_facts(db: Database) -> Facts:
    segments = {piece.segment.number: piece.segment.size_bytes for piece in db.view.levels.slices}
    shown_bytes = sum(piece.size_bytes for piece in db.view.levels.slices)
    names = [name for name in os.listdir(db.path) if (parsed := parse_name(name)) and parsed[0] == "wal"]
    return {
        "segments": len(segments),
        "segment_bytes": sum(segments.values()),
        # Of segments that a merge has been through half-way, which was broken off.
        "hidden_bytes": max(sum(segments.values()) - shown_bytes, 0),
        "logs": len(names),
        "log_bytes": sum(os.path.getsize(os.path.join(db.path, name)) for name in names),
    }


def _level_facts(db: Database) -> list[Facts]:
    return [
        {"level": number, **dataclasses.asdict(level), "segment_bytes": _segment_sizes(db, number)}
        for number, level in enumerate(db.stats().levels)
    ]


def _segment_sizes(db: Database, level: int) -> list[int]:
    return [piece.segment.size_bytes for run in db.view.levels.levels[level] for piece in run.slices]


def _sums(db: Database) -> Facts:
    """Return counts, amplification and discards: all that properties and running sums tell."""
    found = db.stats()
    pieces = db.view.levels.slices
    memtables = [memtable for memtable in db.view.memtables if len(memtable)]
    entries = sum(piece.entries for piece in pieces) + sum(map(len, memtables))
    levels_below = sum(1 for runs in db.view.levels.levels[1:] if runs)
    return {
        "entries": entries,
        "live_keys": found.live_keys,
        "stored_raw_bytes": sum(_raw_bytes(piece.segment.properties, piece.entries) for piece in pieces),
        "amplification": {
            "read": len(memtables) + len(db.view.runs),
            "space_entries": found.space_amplification,
            "write_estimate": (2 if pieces else 1) + levels_below,
        },
        "discards": {
            "ranges": found.discarded_ranges,
            "pending_bytes": found.discarded_pending_bytes,
        },
    }


def _raw_bytes(properties: Any, entries: int) -> int:
    """Return about how many bytes keys and values of a slice have before compression."""
    return int((properties.key_bytes + properties.value_bytes) * entries // max(properties.entries, 1))


def _add_survey(facts: Facts, survey: Survey) -> None:
    facts["live_keys"] = sum(survey.keys.counts.values())
    facts["key_sizes"] = survey.keys.facts()
    facts["value_sizes"] = survey.values.facts()
    live_bytes = survey.keys.total_bytes + survey.values.total_bytes
    facts["live_raw_bytes"] = live_bytes
    stored_bytes = facts["stored_raw_bytes"]
    facts["amplification"]["space_bytes"] = round(stored_bytes / live_bytes, 3) if live_bytes else None
    if not facts["redis"]:
        return
    for database in facts["databases"]:
        types = survey.types.get(database["pdb"], {})
        database["types"] = {
            name: dataclasses.asdict(totals) for name, totals in types.items() if totals.keys
        }
        entries, size_bytes = survey.orphans.get(database["pdb"], (0, 0))
        database["orphans"] = {"entries": entries, "size_bytes": size_bytes}
    facts["biggest"] = {
        "by_elements": survey.by_elements.facts(),
        "by_bytes": survey.by_bytes.facts(),
    }


# -- text ------------------------------------------------------------------------------------------


def text(facts: Facts) -> str:
    """Return the statistics for people."""
    parts = [_overview(facts), _levels_text(facts)]
    if facts["redis"]:
        if facts["libraries"]:
            parts.append(f"libraries of functions: {human_count(facts['libraries'])}\n")
        parts += [_database_text(database) for database in facts["databases"]]
    for name in ("key_sizes", "value_sizes"):
        if name in facts:
            parts.append(_histogram_text(name.replace("_", " "), facts[name]))
    for name, rows in facts.get("biggest", {}).items():
        parts.append(_biggest_text(name, rows))
    return "\n".join(part for part in parts if part)


def _overview(facts: Facts) -> str:
    files, amplification, packed = facts["files"], facts["amplification"], facts["compressibility"]
    live = "unknown (not counted)" if facts["live_keys"] is None else human_count(facts["live_keys"])
    space = f"{amplification['space_entries']} entries stored for each live one"
    if amplification.get("space_bytes"):
        space += f", {amplification['space_bytes']} bytes for each live one"
    discards = facts["discards"]
    rows = [
        ("database", f"{facts['directory']}, {'a server' if facts['redis'] else 'the engine'}'s"),
        ("live entries", f"{live} of {human_count(facts['entries'])} stored"),
        ("segments", f"{human_count(files['segments'])}, {human_size(files['segment_bytes'])}"),
        ("logs", f"{files['logs']}, {human_size(files['log_bytes'])}"),
        ("hidden", f"{human_size(files['hidden_bytes'])} of segments that were merged half-way"),
        ("discarded", f"{discards['ranges']} ranges, {human_size(discards['pending_bytes'])}"),
        ("read", f"{amplification['read']} layers"),
        ("space", space),
        ("write", f"about {amplification['write_estimate']} times each byte (an estimate: see --help)"),
    ]
    if packed["raw_bytes"]:
        ratios = f"stored at {packed['stored_ratio']:.0%}, lz4 would take {packed['lz4_ratio']:.0%}"
        rows.append(("compression", f"{ratios} (of {packed['sampled_blocks']} blocks)"))
    return "".join(f"{name:14}{value}\n" for name, value in rows)


def _levels_text(facts: Facts) -> str:
    if not facts["levels"]:
        return ""
    lines = [f"{'level':>5} {'runs':>5} {'segments':>9} {'size':>11} {'entries':>13} {'tombstones':>12}"]
    lines += [
        f"{level['level']:5} {level['runs']:5} {level['segments']:9,} {human_size(level['size_bytes']):>11} "
        f"{level['entries']:13,} {level['tombstones']:12,}"
        for level in facts["levels"]
    ]
    return "\n".join(lines) + "\n"


def _database_text(database: Facts) -> str:
    name = f"db {database['db']}" if database["db"] is not None else "no database"
    expiry = ", ".join(f"{bucket} {human_count(n)}" for bucket, n in database["expiry"].items() if n)
    entries = human_count(database["element_entries"])
    head = (
        f"{name} (pdb {database['pdb']}): {human_count(database['keys'])} keys, {entries} entries of elements"
    )
    lines = [f"{head}, {human_count(database['expiring'])} keys expire{': ' if expiry else ''}{expiry}"]
    if database.get("types"):
        lines.append(f"  {'type':8} {'keys':>12} {'elements':>13} {'size':>11} {'largest':>11}")
    lines += [
        f"  {kind:8} {t['keys']:12,} {t['elements']:13,} {human_size(t['size_bytes']):>11} "
        f"{human_size(t['largest_bytes']):>11}"
        for kind, t in database.get("types", {}).items()
    ]
    orphans = database.get("orphans", {"entries": 0})
    if orphans["entries"]:
        lines.append(f"  {human_count(orphans['entries'])} elements of no key: see lamina check --logical")
    return "\n".join(lines) + "\n"


def _histogram_text(name: str, sizes: Facts) -> str:
    head = f"{name}: mean {sizes['mean_bytes']} B, largest {human_size(sizes['largest_bytes'])}\n"
    most = max((count for _, _, count in sizes["histogram"]), default=1)
    return head + "".join(
        f"  {low:>10,} .. {high:<10,} {count:>13,} {'#' * round(40 * count / most)}\n"
        for low, high, count in sizes["histogram"]
    )


def _biggest_text(name: str, rows: list[Facts]) -> str:
    if not rows:
        return ""
    return f"biggest keys {name.replace('_', ' ')}\n" + "".join(
        f"  {human_count(row['size']):>13} {human_size(row['size_bytes']):>11}  "
        f'{row["type"]:7} db {row["db"]}  "{text_of(row["key"])}"\n'
        for row in rows
    )

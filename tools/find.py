"""lamina find: every place where a key occurs, and which of them counts."""

from __future__ import annotations

import argparse
import sys
from typing import Any, Final, NamedTuple

from lamina.server.encoding import (
    ELEMENT,
    EXPIRY,
    FIELD_EXPIRY,
    RECORD,
    STATE_PREFIX,
    U64,
    end_of,
    prefix_of,
)
from lamina.server.records import Record
from lamina.server.types.hashes import Hash
from lamina.tools import console
from lamina.tools.console import FINDINGS, FINE, UsageError, bytes_of, human_count, print_json
from lamina.tools.haystack import Haystack, LayerCount, Spot
from lamina.tools.rediskeys import DATABASES, FIELD_TIMES, STREAM_GROUPS, Numbers, decode, ids_of
from lamina.tools.redisview import EntryView, RedisView
from lamina.tools.selection import from_hex
from lamina.tools.views import add_format, view_of_files

EPILOG: Final = """\
Places come newest first: frames of the logs that are replayed, then the runs from level 0 down. The first
one is what readers see; it shadows the others. Last come places that nobody reads any more: logs that were
flushed, parts of segments that were merged, files that belong to no run.

Files are searched one by one, so a damaged one hides nothing in the others. Without a manifest, segments are
ordered by their ages.

examples:
  lamina find data mykey                           a key of the engine
  lamina find data '\\x00\\x00\\x00\\x01kuser:1'        the same with bytes that are not printable
  lamina find data 000000016b757365723a31 --hex
  lamina find data user:1 --redis                  a Redis key of database 0: its record, expiry and elements
  lamina find data user:1 --redis --db 3 --json

exit status 1 also if the key is nowhere.
"""


def main(arguments: list[str]) -> int:
    """Find a key; returns the exit status."""
    parser = console.parser("find", "Shows every place where a key occurs, newest first.", EPILOG)
    parser.add_argument("directory", metavar="DIR", help="the database's folder")
    parser.add_argument("key", metavar="KEY", help="the key; escapes as \\n and \\x00 are read")
    parser.add_argument("--hex", action="store_true", help="KEY is given as hexadecimal digits")
    parser.add_argument("--redis", action="store_true", help="KEY is a Redis key")
    parser.add_argument("--db", type=int, metavar="N", help="the Redis key's database (0)")
    add_format(parser)
    return console.run(parser, find, arguments)


def find(arguments: argparse.Namespace) -> int:
    """Find the key that the arguments name."""
    directory = console.database_directory(arguments.directory)
    key = from_hex(arguments.key) if arguments.hex else bytes_of(arguments.key)
    if arguments.db is not None and not arguments.redis:
        raise UsageError("--db goes with --redis: an engine key says itself where it belongs")
    if arguments.db is not None and arguments.db < 0:
        raise UsageError(f"there is no database {arguments.db}")
    with console.offline(directory, writes=False):
        haystack = Haystack(directory)
        if arguments.redis:
            found = _find_redis(haystack, key, arguments.db or 0)
        else:
            found = [Traced("key", key, haystack.spots(key))]
        sample = [(trace.key, spot.value) for trace in found for spot in trace.spots]
        with view_of_files(directory, arguments, sample) as view:
            _show(haystack, found, view, arguments)
    for text in haystack.damage:
        sys.stderr.write(f"lamina find: {text}\n")
    return FINDINGS if haystack.damage or not found[0].spots else FINE


class Traced(NamedTuple):
    """A key and its places; or, of elements, how many entries each layer holds."""

    what: str
    key: bytes
    spots: list[Spot]
    layers: list[LayerCount] | None = None
    id: int = 0


_OWNED: Final = {FIELD_TIMES: "field times", STREAM_GROUPS: "groups"}


def _find_redis(haystack: Haystack, key: bytes, index: int) -> list[Traced]:
    """Return where a Redis key's record lies, its entries in the indexes, and its elements."""
    pdb = Numbers(haystack.newest(STATE_PREFIX + DATABASES)).physical(index)
    record_key = prefix_of(pdb, RECORD) + key
    found = [Traced("record", record_key, haystack.spots(record_key))]
    raw = haystack.newest(record_key)
    value = None if raw is None else decode(raw)
    if not isinstance(value, Record):
        return found
    times = [("expiry", EXPIRY, value.expires_ms)]
    if isinstance(value, Hash):
        times.append(("field expiry", FIELD_EXPIRY, value.fields_due_ms))
    for what, area, time_ms in times:
        if time_ms:
            index_key = prefix_of(pdb, area) + U64.pack(time_ms) + key
            found.append(Traced(what, index_key, haystack.spots(index_key)))
    for number, owner in ids_of(value):
        prefix = prefix_of(pdb, ELEMENT) + U64.pack(number)
        what = _OWNED.get(owner, "elements")
        layers = haystack.counts(prefix, end_of(prefix))
        found.append(Traced(what, prefix, [], layers, number))
    return found


# -- showing ---------------------------------------------------------------------------------------


def states_of(haystack: Haystack, trace: Traced) -> list[str]:
    """Return what counts: live, removed, discarded, shadowed, or why a place is dead."""
    is_discarded = bool(haystack.discards.overlapping(trace.key, trace.key + b"\0"))
    states: list[str] = []
    for at, spot in enumerate(trace.spots):
        if spot.dead:
            states.append(spot.dead)
        elif is_discarded:
            states.append("discarded")
        elif at:
            states.append("shadowed")
        else:
            states.append("live" if spot.value is not None else "removed")
    return states


def _show(haystack: Haystack, found: list[Traced], view: EntryView, arguments: argparse.Namespace) -> None:
    if arguments.json:
        document = {trace.what: _facts(haystack, trace, view) for trace in found}
        print_json(document | {"damage": haystack.damage})
        return
    for trace in found:
        if trace.layers is not None:
            _print_layers(trace)
            continue
        if len(found) > 1:
            sys.stdout.write(f"{trace.what}:\n")
        if not trace.spots:
            sys.stdout.write(f"{view.key(trace.key)}: nowhere\n")
        for number, (spot, state) in enumerate(zip(trace.spots, states_of(haystack, trace)), 1):
            by = " by 1" if state == "shadowed" else ""
            line = view.line(trace.key, spot.value)
            sys.stdout.write(f"{number:3}  {state + by:14}  {spot.place}\n")
            sys.stdout.write(f"     {spot.kind_name:14}  {line}\n")


def _facts(haystack: Haystack, trace: Traced, view: EntryView) -> dict[str, Any]:
    if trace.layers is not None:
        layers = [{"layer": layer.place, "entries": layer.entries} for layer in trace.layers]
        return {"id": trace.id, "layers": layers}
    states = states_of(haystack, trace)
    places = [
        {"state": state, "kind": spot.kind_name, "where": spot.facts, **_value_facts(view, trace.key, spot)}
        for spot, state in zip(trace.spots, states)
    ]
    return {"key": trace.key, "state": states[0] if states else "nowhere", "places": places}


def _value_facts(view: EntryView, key: bytes, spot: Spot) -> dict[str, Any]:
    if isinstance(view, RedisView):
        return {"entry": view.facts(key, spot.value)}
    return {"value": view.facts(key, spot.value)["value"]}


def _print_layers(trace: Traced) -> None:
    assert trace.layers is not None
    total = sum(layer.entries for layer in trace.layers)
    sys.stdout.write(f"{trace.what}, under id {trace.id}: {human_count(total)} entries in all layers\n")
    for layer in trace.layers:
        sys.stdout.write(f"     {human_count(layer.entries):>14}  {layer.place}\n")

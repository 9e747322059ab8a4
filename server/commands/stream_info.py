"""XINFO: what a stream, its groups and their consumers know of themselves."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from lamina.server.args import integer
from lamina.server.client import Client
from lamina.server.commands.help import add_help
from lamina.server.errors import NO_SUCH_KEY, misused_subcommand, no_such_group
from lamina.server.gathering import watched
from lamina.server.limits import LIMITS
from lamina.server.registry import NO_KEYS, Keys, command
from lamina.server.replies import StreamEntries
from lamina.server.types.streamentries import unpack_all
from lamina.server.types.streamgroups import NEVER, UNKNOWN, Consumer, Group
from lamina.server.types.streamids import ABOVE_ALL, FIRST, format_id, format_packed
from lamina.server.types.streams import Stream, signed

_GROUP: Final = "stream"
_KEY: Final = Keys(2, 2, 1)
_FULL_COUNT: Final = 10
"""Entries, and pending ones, that XINFO STREAM FULL shows if it is not said how many."""

_LAST: Final = b"\xff" * len(FIRST)


@command(
    "XINFO",
    arity=-2,
    flags="",
    keys=NO_KEYS,
    since="5.0.0",
    complexity="Depends on subcommand.",
    group=_GROUP,
)
def xinfo(client: Client, argv: list[bytes]) -> Any:
    """Tell about streams, their groups and consumers.

    XINFO CONSUMERS | GROUPS | STREAM | HELP
    """
    raise misused_subcommand(argv[1], b"xinfo")


def _find(client: Client, key: bytes) -> Stream:
    stream = client.keyspace.read_typed(key, Stream)
    if stream is None:
        raise NO_SUCH_KEY
    return stream


def _counter(value: int) -> int | None:
    return None if value == UNKNOWN else value


# --- STREAM


@command(
    "XINFO|STREAM",
    arity=-3,
    flags="readonly",
    keys=_KEY,
    since="5.0.0",
    complexity="O(log(N)); with FULL O(M) with what is shown",
    notes=(
        "6.0.0: FULL",
        "7.0.0: max-deleted-entry-id, entries-added, recorded-first-entry-id, entries-read and lag",
        "7.2.0: active-time of consumers",
    ),
    group=_GROUP,
)
def xinfo_stream(client: Client, argv: list[bytes]) -> dict[bytes, Any]:
    """Return what a stream knows of itself; with FULL its entries, groups and consumers as well.

    XINFO STREAM key [FULL [COUNT count]]
    """
    stream = _find(client, argv[2])
    count = _full_count(argv)
    elements = stream.elements
    # Redis's tree has a key for each node of entries. Here there are none: this is how many there would be.
    nodes = -(-elements.size // (LIMITS.stream_node_entries or 100))
    facts: dict[bytes, Any] = {
        b"length": elements.size,
        b"radix-tree-keys": nodes,
        b"radix-tree-nodes": nodes + 1,
        b"last-generated-id": format_id(stream.last_id),
        b"max-deleted-entry-id": format_id(stream.max_deleted_id),
        b"entries-added": signed(stream.entries_added),
        b"recorded-first-entry-id": format_id(stream.first_id),
    }
    groups = stream.groups
    if count is None:
        facts[b"groups"] = 0 if groups is None else groups.count
        facts[b"first-entry"] = _edge(stream, is_last=False)
        facts[b"last-entry"] = _edge(stream, is_last=True)
    else:
        facts[b"entries"] = StreamEntries(*elements.between(FIRST, ABOVE_ALL, count))
        found = () if groups is None else groups.all()
        facts[b"groups"] = [_full_group(stream, group, count) for group in found]
    return facts


def _full_count(argv: list[bytes]) -> int | None:
    """Return how much FULL shows, 0 all; None if it is not given."""
    if len(argv) == 3:
        return None
    is_right = argv[3].upper() == b"FULL" and len(argv) in (4, 6)
    if not is_right or (len(argv) == 6 and argv[4].upper() != b"COUNT"):
        raise misused_subcommand(argv[1], b"xinfo")
    if len(argv) == 4:
        return _FULL_COUNT
    count = integer(argv[5])
    return _FULL_COUNT if count < 0 else count


def _edge(stream: Stream, *, is_last: bool) -> Any:
    elements = stream.elements
    packed = elements.last() if is_last else elements.first
    value = None if packed is None else elements.get(packed)
    return None if packed is None or value is None else [format_packed(packed), unpack_all([value])[0]]


def _full_group(stream: Stream, group: Group, count: int) -> dict[bytes, Any]:
    pending = [
        [format_packed(packed), found.consumer.name, found.delivered_ms, found.deliveries]
        for packed, found in watched(islice(group.pending_between(FIRST, _LAST), count or None))
    ]
    return {
        b"name": group.name,
        b"last-delivered-id": format_id(group.last_id),
        b"entries-read": _counter(group.entries_read),
        b"lag": stream.lag_of(group),
        b"pel-count": group.pending.size,
        b"pending": pending,
        b"consumers": [_full_consumer(group, consumer, count) for consumer in group.consumers()],
    }


def _full_consumer(group: Group, consumer: Consumer, count: int) -> dict[bytes, Any]:
    pending = [
        [format_packed(packed), found.delivered_ms, found.deliveries]
        for packed, found in watched(islice(group.pending_between(FIRST, _LAST, consumer), count or None))
    ]
    return {
        b"name": consumer.name,
        b"seen-time": consumer.seen_ms,
        b"active-time": consumer.active_ms,
        b"pel-count": consumer.own.size,
        b"pending": pending,
    }


# --- GROUPS and CONSUMERS


@command(
    "XINFO|GROUPS",
    arity=3,
    flags="readonly",
    keys=_KEY,
    since="5.0.0",
    complexity="O(N) with N groups",
    notes=("7.0.0: entries-read and lag",),
    group=_GROUP,
)
def xinfo_groups(client: Client, argv: list[bytes]) -> list[dict[bytes, Any]]:
    """Return the groups of a stream.

    XINFO GROUPS key
    """
    stream = _find(client, argv[2])
    if stream.groups is None:
        return []
    return [
        {
            b"name": group.name,
            b"consumers": group.consumer_count,
            b"pending": group.pending.size,
            b"last-delivered-id": format_id(group.last_id),
            b"entries-read": _counter(group.entries_read),
            b"lag": stream.lag_of(group),
        }
        for group in stream.groups.all()
    ]


@command(
    "XINFO|CONSUMERS",
    arity=4,
    flags="readonly",
    keys=_KEY,
    since="5.0.0",
    complexity="O(N) with N consumers",
    notes=("7.2.0: inactive",),
    group=_GROUP,
)
def xinfo_consumers(client: Client, argv: list[bytes]) -> list[dict[bytes, Any]]:
    """Return the consumers of a group.

    XINFO CONSUMERS key group
    """
    group = _find(client, argv[2]).find_group(argv[3])
    if group is None:
        raise no_such_group(argv[3], argv[2])
    now_ms = client.keyspace.clock.now_ms
    return [
        {
            b"name": consumer.name,
            b"pending": consumer.own.size,
            b"idle": max(now_ms - consumer.seen_ms, 0),
            b"inactive": NEVER if consumer.active_ms == NEVER else now_ms - consumer.active_ms,
        }
        for consumer in group.consumers()
    ]


add_help("XINFO", group=_GROUP, since="5.0.0")

"""Commands on the consumer groups of streams, but for XREADGROUP and XINFO."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from lamina.server.args import integer, integer_in
from lamina.server.client import Client
from lamina.server.commands.help import add_help
from lamina.server.commands.stream_args import any_id, range_end, range_start, strict_id
from lamina.server.errors import (
    STREAM_ID,
    SYNTAX,
    CommandError,
    misused_subcommand,
    no_such_group,
    no_such_key_or_group,
)
from lamina.server.gathering import watched
from lamina.server.numbers import INTEGER_MAX
from lamina.server.registry import NO_KEYS, ONE_KEY, Keys, command
from lamina.server.replies import NULL_ARRAY, OK, Simple, StreamEntries
from lamina.server.types import streamreading, streams
from lamina.server.types.streamgroups import UNKNOWN, Group
from lamina.server.types.streamids import NO_ID, StreamId, format_all, format_packed, pack
from lamina.server.types.streamreading import Claim
from lamina.server.types.streams import Stream

_GROUP: Final = "stream"
_KEY: Final = Keys(2, 2, 1)

_NO_KEY = CommandError(
    b"ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the "
    b"MKSTREAM option to create an empty stream automatically."
)
_BUSY_GROUP = CommandError(b"BUSYGROUP Consumer Group name already exists")
_READ_NEGATIVE = CommandError(b"ERR value for ENTRIESREAD must be positive or -1")

_AUTOCLAIM_COUNT: Final = 100
_AUTOCLAIM_COUNT_MAX: Final = INTEGER_MAX // 16
_COUNT_NOT_POSITIVE = CommandError(b"ERR COUNT must be > 0")


def _invalid(what: bytes, name: bytes) -> CommandError:
    return CommandError(b"ERR Invalid %b argument for %b" % (what, name))


def _find(client: Client, key: bytes, group: bytes) -> tuple[Stream, Group]:
    """Return a stream and its group. Errors: WRONGTYPE, NOGROUP."""
    stream = client.keyspace.read_typed(key, Stream)
    found = None if stream is None else stream.find_group(group)
    if stream is None or found is None:
        raise no_such_key_or_group(key, group)
    return stream, found


# --- XGROUP


@command(
    "XGROUP",
    arity=-2,
    flags="",
    keys=NO_KEYS,
    since="5.0.0",
    complexity="Depends on subcommand.",
    group=_GROUP,
)
def xgroup(client: Client, argv: list[bytes]) -> Any:
    """Make, change and remove consumer groups.

    XGROUP CREATE | CREATECONSUMER | DELCONSUMER | DESTROY | SETID | HELP
    """
    raise misused_subcommand(argv[1], b"xgroup")


def _group_options(argv: list[bytes], *, is_create: bool) -> tuple[int, bool]:
    """Return ENTRIESREAD, UNKNOWN if it is not given, and whether MKSTREAM is."""
    entries_read, makes_stream = UNKNOWN, False
    at = 5
    while at < len(argv):
        option = argv[at].upper()
        if is_create and option == b"MKSTREAM":
            makes_stream = True
            at += 1
        elif option == b"ENTRIESREAD" and at + 1 < len(argv):
            entries_read = integer(argv[at + 1])
            if entries_read < 0 and entries_read != UNKNOWN:
                raise _READ_NEGATIVE
            at += 2
        else:
            raise misused_subcommand(argv[1], b"xgroup")
    return entries_read, makes_stream


def _existing(client: Client, argv: list[bytes]) -> tuple[Stream, Group]:
    """Return the stream and the group that a subcommand is about, both of which must be there."""
    stream = client.keyspace.find_typed(argv[2], Stream)
    if stream is None:
        raise _NO_KEY
    group = stream.find_group(argv[3])
    if group is None:
        raise no_such_group(argv[3], argv[2])
    return stream, group


@command(
    "XGROUP|CREATE",
    arity=-5,
    flags="write denyoom",
    keys=_KEY,
    since="5.0.0",
    complexity="O(1)",
    notes=("7.0.0: ENTRIESREAD",),
    group=_GROUP,
)
def xgroup_create(client: Client, argv: list[bytes]) -> Simple:
    """Make a consumer group, whose consumers get what comes behind an id, or from now on.

    XGROUP CREATE key group id | $ [MKSTREAM] [ENTRIESREAD entries-read]
    """
    entries_read, makes_stream = _group_options(argv, is_create=True)
    keyspace, key = client.keyspace, argv[2]
    stream = keyspace.find_typed(key, Stream)
    if stream is None and not makes_stream:
        raise _NO_KEY
    if len(argv) > 8:
        raise misused_subcommand(argv[1], b"xgroup")
    if argv[4].split(b"\0", 1)[0] == b"$":
        last_id = NO_ID if stream is None else stream.last_id
    else:
        last_id = strict_id(argv[4])
    if not streams.create_group(keyspace, key, stream, argv[3], last_id, entries_read):
        raise _BUSY_GROUP
    return OK


@command(
    "XGROUP|SETID",
    arity=-5,
    flags="write",
    keys=_KEY,
    since="5.0.0",
    complexity="O(1)",
    notes=("7.0.0: ENTRIESREAD",),
    group=_GROUP,
)
def xgroup_setid(client: Client, argv: list[bytes]) -> Simple:
    """Let a group go on behind an id, or from now on.

    XGROUP SETID key group id | $ [ENTRIESREAD entries-read]
    """
    entries_read, _ = _group_options(argv, is_create=False)
    stream, group = _existing(client, argv)
    if len(argv) > 7:
        raise misused_subcommand(argv[1], b"xgroup")
    last_id = stream.last_id if argv[4].split(b"\0", 1)[0] == b"$" else any_id(argv[4])
    streams.set_group_id(client.keyspace, argv[2], group, last_id, entries_read)
    return OK


@command(
    "XGROUP|DESTROY",
    arity=4,
    flags="write",
    keys=_KEY,
    since="5.0.0",
    complexity="O(1) for a large group",
    group=_GROUP,
)
def xgroup_destroy(client: Client, argv: list[bytes]) -> int:
    """Remove a consumer group with all that is pending; tell whether there was one.

    XGROUP DESTROY key group
    """
    keyspace, key = client.keyspace, argv[2]
    stream = keyspace.find_typed(key, Stream)
    if stream is None:
        raise _NO_KEY
    group = stream.find_group(argv[3])
    if group is None:
        return 0
    streams.destroy_group(keyspace, key, stream, group)
    return 1


@command(
    "XGROUP|CREATECONSUMER",
    arity=5,
    flags="write denyoom",
    keys=_KEY,
    since="6.2.0",
    complexity="O(1)",
    group=_GROUP,
)
def xgroup_createconsumer(client: Client, argv: list[bytes]) -> int:
    """Make a consumer; tell whether there was none of that name.

    XGROUP CREATECONSUMER key group consumer
    """
    _, group = _existing(client, argv)
    if group.find(argv[4]) is not None:
        return 0
    streamreading.create_consumer(client.keyspace, argv[2], group, argv[4])
    return 1


@command(
    "XGROUP|DELCONSUMER",
    arity=5,
    flags="write",
    keys=_KEY,
    since="5.0.0",
    complexity="O(N) with N entries pending with the consumer",
    group=_GROUP,
)
def xgroup_delconsumer(client: Client, argv: list[bytes]) -> int:
    """Remove a consumer; returns how many entries were pending with it, which are so no longer.

    XGROUP DELCONSUMER key group consumer
    """
    _, group = _existing(client, argv)
    return streamreading.remove_consumer(client.keyspace, argv[2], group, argv[4])


add_help("XGROUP", group=_GROUP, since="5.0.0")


# --- What is pending


@command(
    "XACK",
    arity=-4,
    flags="write fast",
    keys=ONE_KEY,
    since="5.0.0",
    complexity="O(log(N)) for each id",
    group=_GROUP,
)
def xack(client: Client, argv: list[bytes]) -> int:
    """Let entries of a group be pending no longer; returns how many were.

    XACK key group id [id ...]
    """
    keyspace, key = client.keyspace, argv[1]
    stream = keyspace.read_typed(key, Stream)
    group = None if stream is None else stream.find_group(argv[2])
    if group is None:
        return 0
    return streamreading.acknowledge(keyspace, key, group, [strict_id(text) for text in argv[3:]])


@command(
    "XPENDING",
    arity=-3,
    flags="readonly",
    keys=ONE_KEY,
    since="5.0.0",
    complexity="O(log(N) + M) with M pending entries looked at, or consumers",
    notes=("6.2.0: IDLE, and `(` excludes an end of the range",),
    group=_GROUP,
)
def xpending(client: Client, argv: list[bytes]) -> Any:
    """Return how many entries of a group are pending, and with whom; or the pending entries of a range.

    XPENDING key group [[IDLE min-idle-ms] start end count [consumer]]
    """
    if len(argv) == 3:
        return _pending_summary(client, argv[1], argv[2])
    if not 6 <= len(argv) <= 9:
        raise SYNTAX
    at, min_idle_ms = 3, 0
    if argv[3].upper() == b"IDLE":
        min_idle_ms = integer(argv[4])
        if len(argv) < 8:
            raise SYNTAX
        at = 5
    count = max(integer(argv[at + 2]), 0)
    start, end = range_start(argv[at]), range_end(argv[at + 1])
    name = argv[at + 3] if at + 3 < len(argv) else None
    return _pending_range(client, argv, start, end, count, min_idle_ms, name)


def _pending_summary(client: Client, key: bytes, name: bytes) -> Any:
    _, group = _find(client, key, name)
    first = group.pending.at(0)
    last = group.pending.at(group.pending.size - 1)
    if first is None or last is None:
        return [0, None, None, NULL_ARRAY]
    owners = [
        [consumer.name, b"%d" % consumer.own.size] for consumer in group.consumers() if consumer.own.size
    ]
    return [group.pending.size, format_packed(first[0]), format_packed(last[0]), owners]


def _pending_range(
    client: Client,
    argv: list[bytes],
    start: StreamId,
    end: StreamId,
    count: int,
    min_idle_ms: int,
    name: bytes | None,
) -> Any:
    _, group = _find(client, argv[1], argv[2])
    consumer = None
    if name is not None:
        consumer = group.find(name)
        if consumer is None:
            return []
    if start > end:
        return []
    now_ms = client.keyspace.clock.now_ms
    found = group.pending_between(pack(*start), pack(*end), consumer)
    if min_idle_ms:
        found = (item for item in found if now_ms - item[1].delivered_ms >= min_idle_ms)
    return [
        [
            format_packed(packed),
            pending.consumer.name,
            max(now_ms - pending.delivered_ms, 0),
            pending.deliveries,
        ]
        for packed, pending in watched(islice(found, count))
    ]


# --- Claiming


@command(
    "XCLAIM",
    arity=-6,
    flags="write fast",
    keys=ONE_KEY,
    since="5.0.0",
    complexity="O(log(N)) for each id",
    group=_GROUP,
)
def xclaim(client: Client, argv: list[bytes]) -> Any:
    """Let entries be pending with a consumer that have been so for some time with another; returns them.

    XCLAIM key group consumer min-idle-ms id [id ...] [IDLE ms] [TIME unix-time-ms] [RETRYCOUNT count]
    [FORCE] [JUSTID] [LASTID last-id]
    """
    keyspace, key = client.keyspace, argv[1]
    stream, group = _find(client, key, argv[2])
    min_idle_ms = max(integer(argv[4], _invalid(b"min-idle-time", b"XCLAIM")), 0)
    ids, at = _leading_ids(argv, 5)
    wanted, last_id = _claim_options(argv, at, min_idle_ms, keyspace.clock.wall_ms)
    if last_id > group.last_id:
        group.last_id = last_id
        group.is_changed = True
    consumer = streamreading.visit(keyspace, key, group, argv[3])
    keys, values = streamreading.claim(keyspace, key, stream, group, consumer, ids, wanted)
    return format_all(keys) if wanted.just_ids else StreamEntries(keys, values)


def _leading_ids(argv: list[bytes], at: int) -> tuple[list[StreamId], int]:
    """Return the ids from an argument on, and where they end."""
    ids: list[StreamId] = []
    while at < len(argv):
        try:
            ids.append(strict_id(argv[at]))
        except CommandError as error:
            if error != STREAM_ID:
                raise
            error.release()
            break
        at += 1
    return ids, at


def _claim_options(argv: list[bytes], at: int, min_idle_ms: int, now_ms: int) -> tuple[Claim, StreamId]:
    """Return how XCLAIM is to be done, and LASTID."""
    deliveries: int | None = None
    delivered_ms: int | None = None
    is_forced = just_ids = False
    last_id = NO_ID
    while at < len(argv):
        option = argv[at].upper()
        has_value = at + 1 < len(argv)
        if option == b"FORCE":
            is_forced = True
            at += 1
            continue
        if option == b"JUSTID":
            just_ids = True
            at += 1
            continue
        if option in (b"IDLE", b"TIME") and has_value:
            delivered_ms = integer(argv[at + 1], _invalid(option + b" option", b"XCLAIM"))
            if option == b"IDLE":
                delivered_ms = now_ms - delivered_ms
        elif option == b"RETRYCOUNT" and has_value:
            deliveries = integer(argv[at + 1], _invalid(b"RETRYCOUNT option", b"XCLAIM"))
        elif option == b"LASTID" and has_value:
            last_id = strict_id(argv[at + 1])
        else:
            raise CommandError(b"ERR Unrecognized XCLAIM option '%b'" % argv[at].split(b"\0", 1)[0])
        at += 2
    if delivered_ms is None or not 0 <= delivered_ms <= now_ms:
        delivered_ms = now_ms  # clients' clocks may be ahead
    if deliveries is not None and deliveries < 0:
        deliveries = None
    return Claim(min_idle_ms, just_ids, delivered_ms, deliveries, is_forced), last_id


@command(
    "XAUTOCLAIM",
    arity=-6,
    flags="write fast",
    keys=ONE_KEY,
    since="6.2.0",
    complexity="O(log(N)) for each of up to ten times COUNT entries",
    notes=("7.0.0: the reply has a third part, of entries that are gone",),
    group=_GROUP,
)
def xautoclaim(client: Client, argv: list[bytes]) -> Any:
    """Let entries, whichever are pending for some time, be pending with a consumer; returns them.

    XAUTOCLAIM key group consumer min-idle-ms start [COUNT count] [JUSTID]
    """
    min_idle_ms = max(integer(argv[4], _invalid(b"min-idle-time", b"XAUTOCLAIM")), 0)
    start = range_start(argv[5])
    count, just_ids = _AUTOCLAIM_COUNT, False
    at = 6
    while at < len(argv):
        option = argv[at].upper()
        if option == b"COUNT" and at + 1 < len(argv):
            count = integer_in(argv[at + 1], 1, _AUTOCLAIM_COUNT_MAX, _COUNT_NOT_POSITIVE)
            at += 2
        elif option == b"JUSTID":
            just_ids = True
            at += 1
        else:
            raise SYNTAX
    keyspace, key = client.keyspace, argv[1]
    stream, group = _find(client, key, argv[2])
    consumer = streamreading.visit(keyspace, key, group, argv[3])
    wanted = Claim(min_idle_ms, just_ids)
    found = streamreading.claim_idle(keyspace, key, stream, group, consumer, start, count, wanted)
    claimed = format_all(found.keys) if just_ids else StreamEntries(found.keys, found.values)
    return [format_packed(found.next_id), claimed, format_all(found.deleted)]

"""XREAD and XREADGROUP, which may wait for entries.

Whoever finds nothing to read waits at all of its streams, and when something comes into one of them, all of
the command is tried again. `$` and `+` are what they were at first. A reader of a group also wakes up if its
stream goes away, is overwritten, or loses the group, and is told what the command would say now.
"""

from __future__ import annotations

from typing import Any, Final

from lamina.server.blocking import NOTHING, wait_for
from lamina.server.client import Client
from lamina.server.commands.stream_args import (
    LAST,
    NEWEST,
    UNSEEN,
    Reading,
    find_streams,
    reading,
    strict_id,
)
from lamina.server.errors import CommandError, no_such_key_or_group
from lamina.server.keyspace import Keyspace
from lamina.server.registry import command
from lamina.server.replies import NULL_ARRAY, Keyed, StreamEntries
from lamina.server.types import streamreading
from lamina.server.types.streamgroups import Group
from lamina.server.types.streamids import ID_MAX, NO_ID, StreamId, previous_id, unpack
from lamina.server.types.streams import Stream

_MEANINGLESS = (
    b"ERR The %b ID is meaningless in the context of XREADGROUP: you want to read the history of this "
    b"consumer by specifying a proper ID, or use the > ID to get new messages. The %b ID would just return "
    b"an empty result set."
)
_UNSEEN_ALONE = CommandError(
    b"ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option."
)
_GROUP: Final = "stream"
_IN_GROUP = b" in XREADGROUP with GROUP option"


# --- XREAD


def _resolve(keyspace: Keyspace, key: bytes, text: bytes) -> StreamId:
    """Return the id behind which a stream is read."""
    stream = keyspace.read_typed(key, Stream)
    shown = text.split(b"\0", 1)[0]
    if shown == NEWEST:
        return NO_ID if stream is None else stream.last_id
    if shown == LAST:
        # Of the stream's last entry; there may have been later ones.
        last = None if stream is None else stream.elements.last()
        return NO_ID if last is None else previous_id(unpack(last)) or NO_ID
    if shown == UNSEEN:
        raise _UNSEEN_ALONE
    return strict_id(text)


def _read(client: Client, keys: list[bytes], ids: list[StreamId], count: int) -> Any:
    """Return the reply of XREAD, or NOTHING."""
    keyspace = client.keyspace
    found: list[tuple[bytes, StreamEntries]] = []
    for key, stream_id in zip(keys, ids):
        stream = keyspace.read_typed(key, Stream)
        if stream is not None:
            entries = streamreading.read_after(stream, stream_id, count)
            if entries[0]:
                found.append((key, StreamEntries(*entries)))
    return Keyed(found) if found else NOTHING


@command(
    "XREAD",
    arity=-4,
    flags="readonly blocking movablekeys",
    find_keys=find_streams,
    since="5.0.0",
    complexity="O(log(N) + M) for each stream, with M entries returned",
    notes=("7.4.0: `+`",),
    group=_GROUP,
)
def xread(client: Client, argv: list[bytes]) -> Any:
    """Return the entries of streams behind given ids, and wait for some if there are none.

    XREAD [COUNT count] [BLOCK milliseconds] STREAMS key [key ...] id [id ...]
    """
    wanted = reading(argv, is_group=False)
    keyspace, keys = client.keyspace, wanted.keys
    ids = [_resolve(keyspace, key, text) for key, text in zip(keys, wanted.ids)]
    reply = _read(client, keys, ids, wanted.at_most)
    if reply is not NOTHING:
        return reply
    if wanted.block_ms is None:
        return NULL_ARRAY

    def attempt(key: bytes) -> Any:
        # Something of another type that has come to where a stream is waited for is no reason to wake up.
        if not isinstance(keyspace.find(key), Stream):
            return NOTHING
        return _read(client, keys, ids, wanted.at_most)

    return wait_for(client, keys, attempt, timeout_ms=wanted.block_ms)


# --- XREADGROUP


def _parse_group_id(text: bytes) -> StreamId | None:
    """Return the id behind which a consumer reads its history; None for what nobody has seen."""
    shown = text.split(b"\0", 1)[0]
    if shown == UNSEEN:
        return None
    if shown in (NEWEST, LAST):
        raise CommandError(_MEANINGLESS % (shown, shown))
    found = strict_id(text)
    # To Redis the largest of all ids is another way to say ">".
    return None if found == ID_MAX else found


def _read_group(client: Client, wanted: Reading) -> Any:
    """Return the reply of XREADGROUP, or NOTHING. Nothing is changed before all streams have been found."""
    keyspace = client.keyspace
    name = wanted.group
    assert name is not None
    places: list[tuple[bytes, Stream, Group, StreamId | None]] = []
    for key, text in zip(wanted.keys, wanted.ids):
        stream = keyspace.read_typed(key, Stream)
        group = None if stream is None else stream.find_group(name)
        if stream is None or group is None:
            raise no_such_key_or_group(key, name, _IN_GROUP)
        places.append((key, stream, group, _parse_group_id(text)))
    found: list[tuple[bytes, StreamEntries]] = []
    for key, stream, group, after_id in places:
        consumer = streamreading.visit(keyspace, key, group, wanted.consumer)
        if after_id is None:
            fresh = streamreading.deliver(
                keyspace, key, stream, group, consumer, wanted.at_most, noack=wanted.noack
            )
            if fresh[0]:
                found.append((key, StreamEntries(*fresh)))
        else:
            now_ms = keyspace.clock.wall_ms
            known = streamreading.history(stream, group, consumer, after_id, wanted.at_most, now_ms)
            found.append((key, StreamEntries(*known)))
    return Keyed(found) if found else NOTHING


@command(
    "XREADGROUP",
    arity=-7,
    flags="write blocking movablekeys",
    find_keys=find_streams,
    since="5.0.0",
    complexity="O(log(N) + M) for each stream, with M entries returned",
    group=_GROUP,
)
def xreadgroup(client: Client, argv: list[bytes]) -> Any:
    """Give a consumer entries that its group has not seen (`>`), or again those pending with it behind an id.

    XREADGROUP GROUP group consumer [COUNT count] [BLOCK milliseconds] [NOACK] STREAMS key [key ...] id [id
    ...]
    """
    wanted = reading(argv, is_group=True)
    reply = _read_group(client, wanted)
    if reply is not NOTHING:
        return reply
    if wanted.block_ms is None:
        return NULL_ARRAY
    return wait_for(
        client,
        wanted.keys,
        lambda key: _read_group(client, wanted),
        timeout_ms=wanted.block_ms,
        minds_removal=True,
    )

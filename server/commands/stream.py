"""Commands on streams: adding, removing, reading by range. Those of groups are in stream_group.py."""

from __future__ import annotations

from typing import Any, Final

from lamina.server.args import integer
from lamina.server.client import Client
from lamina.server.commands.stream_args import (
    AUTO_SEQUENCE,
    Adding,
    adding,
    range_end,
    range_start,
    strict_id,
)
from lamina.server.encoding import ARGUMENT_SIZE_MAX
from lamina.server.errors import NO_SUCH_KEY, SYNTAX, CommandError, wrong_arity
from lamina.server.registry import ONE_KEY, command
from lamina.server.replies import NULL_ARRAY, OK, Simple, StreamEntries
from lamina.server.types import streams
from lamina.server.types.streamentries import pack_items
from lamina.server.types.streamids import ID_MAX, NO_ID, StreamId, pack
from lamina.server.types.streams import Stream

_ADDED_ZERO = CommandError(b"ERR The ID specified in XADD must be greater than 0-0")
_ADDED_SMALL = CommandError(
    b"ERR The ID specified in XADD is equal or smaller than the target stream top item"
)
_EXHAUSTED = CommandError(b"ERR The stream has exhausted the last possible ID, unable to add more items")
_TOO_LARGE = CommandError(b"ERR Elements are too large to be stored")

_ADDED_NEGATIVE = CommandError(b"ERR entries_added must be positive")
_ADDED_TOO_FEW = CommandError(
    b"ERR The entries_added specified in XSETID is smaller than the target stream length"
)
_BELOW: Final = b"ERR The ID specified in XSETID is smaller than "
_BELOW_GIVEN = CommandError(_BELOW + b"the provided max_deleted_entry_id")
_BELOW_DELETED = CommandError(_BELOW + b"current max_deleted_entry_id")
_BELOW_TOP = CommandError(_BELOW + b"the target stream top item")

_JUST_ADD = Adding(None, True, None, 3)


@command(
    "XADD",
    arity=-5,
    flags="write denyoom fast",
    keys=ONE_KEY,
    since="5.0.0",
    complexity="O(1), and O(N) with N entries trimmed",
    notes=("6.2.0: NOMKSTREAM, MINID and LIMIT", "7.0.0: `ms-*` as an id"),
)
def xadd(client: Client, argv: list[bytes]) -> bytes | None:
    """Add an entry to a stream, creating the stream if it is missing, and trim it; returns the entry's id.

    XADD key [NOMKSTREAM] [MAXLEN | MINID [= | ~] threshold [LIMIT count]] * | id field value [field value
    ...]
    """
    wanted = _JUST_ADD if argv[2] == b"*" else adding(argv, is_xadd=True)
    items = argv[wanted.fields_at :]
    if not items or len(items) % 2:
        raise wrong_arity(b"xadd")
    if wanted.id == NO_ID:
        raise _ADDED_ZERO
    keyspace, key = client.keyspace, argv[1]
    stream = keyspace.find_typed(key, Stream)
    if stream is None and not wanted.makes_stream:
        return None
    stream_id = _id_to_add(stream, wanted.id, keyspace.clock.now_ms)
    value = pack_items(items)
    if len(value) > ARGUMENT_SIZE_MAX:
        raise _TOO_LARGE
    stream = streams.add(keyspace, key, stream, stream_id, value)
    if wanted.trim is not None:
        streams.trim(keyspace, key, stream, wanted.trim)
    return b"%d-%d" % stream_id


def _id_to_add(stream: Stream | None, given: StreamId | None, now_ms: int) -> StreamId:
    """Return the id of an entry that is to be added, by what was given (None: nothing)."""
    if stream is None:
        if given is None:
            return now_ms, 0
        ms, sequence = given
        if sequence != AUTO_SEQUENCE:
            return given
        return ms, 0 if ms else 1
    if stream.last_id == ID_MAX:
        raise _EXHAUSTED
    if given is None:
        found = streams.generate_id(stream, now_ms)
        assert found is not None
        return found
    if given[1] == AUTO_SEQUENCE:
        found = streams.id_within(stream, given[0])
        if found is None:
            raise _ADDED_SMALL
        return found
    if given <= stream.last_id:
        raise _ADDED_SMALL
    return given


@command("XLEN", arity=2, flags="readonly fast", keys=ONE_KEY, since="5.0.0", complexity="O(1)")
def xlen(client: Client, argv: list[bytes]) -> int:
    """Return how many entries a stream has.

    XLEN key
    """
    stream = client.keyspace.read_typed(argv[1], Stream)
    return 0 if stream is None else stream.elements.size


def _range(client: Client, argv: list[bytes], *, reverse: bool) -> Any:
    start = range_start(argv[3 if reverse else 2])
    end = range_end(argv[2 if reverse else 3])
    count = -1
    at = 4
    while at < len(argv):
        if argv[at].upper() != b"COUNT" or at + 1 == len(argv):
            raise SYNTAX
        count = max(integer(argv[at + 1]), 0)
        at += 2
    stream = client.keyspace.read_typed(argv[1], Stream)
    if stream is None:
        return []
    if not count:
        return NULL_ARRAY
    return StreamEntries(*stream.elements.between(pack(*start), pack(*end), max(count, 0), reverse=reverse))


@command(
    "XRANGE",
    arity=-4,
    flags="readonly",
    keys=ONE_KEY,
    since="5.0.0",
    complexity="O(log(N) + M) with M entries returned",
    notes=("6.2.0: `(` excludes an end of the range",),
)
def xrange(client: Client, argv: list[bytes]) -> Any:
    """Return the entries of a range of ids.

    XRANGE key start end [COUNT count]
    """
    return _range(client, argv, reverse=False)


@command(
    "XREVRANGE",
    arity=-4,
    flags="readonly",
    keys=ONE_KEY,
    since="5.0.0",
    complexity="O(log(N) + M) with M entries returned",
    notes=("6.2.0: `(` excludes an end of the range",),
)
def xrevrange(client: Client, argv: list[bytes]) -> Any:
    """Return the entries of a range of ids, the last one first.

    XREVRANGE key end start [COUNT count]
    """
    return _range(client, argv, reverse=True)


@command(
    "XDEL",
    arity=-3,
    flags="write fast",
    keys=ONE_KEY,
    since="5.0.0",
    complexity="O(log(N)) for each id",
)
def xdel(client: Client, argv: list[bytes]) -> int:
    """Remove entries by their ids; returns how many there were.

    XDEL key id [id ...]
    """
    keyspace = client.keyspace
    stream = keyspace.find_typed(argv[1], Stream)
    if stream is None:
        return 0
    return streams.delete(keyspace, argv[1], stream, [strict_id(text) for text in argv[2:]])


@command(
    "XTRIM",
    arity=-4,
    flags="write",
    keys=ONE_KEY,
    since="5.0.0",
    complexity="O(N) with N entries removed; of many, O(log(N))",
    notes=("6.2.0: MINID and LIMIT",),
)
def xtrim(client: Client, argv: list[bytes]) -> int:
    """Remove the first entries of a stream, so that so many stay, or those from an id on; returns how many.

    XTRIM key MAXLEN | MINID [= | ~] threshold [LIMIT count]
    """
    wanted = adding(argv, is_xadd=False).trim
    assert wanted is not None
    keyspace = client.keyspace
    stream = keyspace.find_typed(argv[1], Stream)
    return 0 if stream is None else streams.trim(keyspace, argv[1], stream, wanted)


@command(
    "XSETID",
    arity=-3,
    flags="write denyoom fast",
    keys=ONE_KEY,
    since="5.0.0",
    complexity="O(1)",
    notes=("7.0.0: ENTRIESADDED and MAXDELETEDID",),
)
def xsetid(client: Client, argv: list[bytes]) -> Simple:
    """Set the last id of a stream, and its counters.

    XSETID key last-id [ENTRIESADDED entries-added] [MAXDELETEDID max-deleted-id]
    """
    last_id = strict_id(argv[2])
    entries_added: int | None = None
    max_deleted_id = NO_ID
    at = 3
    while at < len(argv):
        option = argv[at].upper()
        if option not in (b"ENTRIESADDED", b"MAXDELETEDID") or at + 1 == len(argv):
            raise SYNTAX
        if option == b"ENTRIESADDED":
            entries_added = integer(argv[at + 1])
            if entries_added < 0:
                raise _ADDED_NEGATIVE
        else:
            max_deleted_id = strict_id(argv[at + 1])
            if last_id < max_deleted_id:
                raise _BELOW_GIVEN
        at += 2
    keyspace, key = client.keyspace, argv[1]
    stream = keyspace.find_typed(key, Stream)
    if stream is None:
        raise NO_SUCH_KEY
    if last_id < stream.max_deleted_id:
        raise _BELOW_DELETED
    top = stream.elements.last()
    if top is not None:
        if pack(*last_id) < top:
            raise _BELOW_TOP
        if entries_added is not None and stream.elements.size > entries_added:
            raise _ADDED_TOO_FEW
    streams.set_last_id(
        keyspace, key, stream, last_id, entries_added=entries_added, max_deleted_id=max_deleted_id
    )
    return OK

"""Streams, read and checked.

nodes:length (first id:string of 16 bytes, listpack:string)*
size:length last ms:length last seq:length
[first ms, first seq, deleted ms, deleted seq, entries added: lengths]              from type 19 on
groups:length group*

group      name:string last ms:length last seq:length [entries read:length]         from type 19 on
           pending:length (id:16 bytes, delivered_ms:i64le, deliveries:length)*
           consumers:length consumer*
consumer   name:string seen_ms:i64le [active_ms:i64le] pending:length id*           from type 21 on

listpack   head entry*
head       count deleted fields field* 0                     the fields of the node's first entry
entry      flags ms seq value* elements                      flags & 2: it has the fields of the head
           flags ms seq fields (field value)* elements       flags & 1: it was deleted
                                                             ms and seq: minus those of the node's id
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Final

from lamina.server.rdb import listpack, opcodes
from lamina.server.rdb.errors import RdbError
from lamina.server.rdb.source import Source
from lamina.server.rdb.values import (
    NO_ID,
    UNKNOWN,
    Pending,
    StreamConsumer,
    StreamEntry,
    StreamGroup,
    StreamId,
    StreamState,
    StreamValue,
)

DELETED: Final = 1
SAME_FIELDS: Final = 2

ID: Final = struct.Struct(">QQ")
MS: Final = struct.Struct("<q")

CHUNK_SIZE: Final = 1000
CHUNK_BYTES: Final = 1 << 20

_ALL: Final = (1 << 64) - 1
_ITEMS_MAX: Final = 1 << 21
"""Fields and values of an entry: twice what a command can have as arguments."""

_NODE_ELEMENTS: Final = 4096
"""Elements of a node's listpack that are unpacked at once."""


def read_stream(source: Source, code: int) -> StreamValue:
    """Read a stream of type `code`; it may be empty."""
    state = StreamState()
    chunks = _read_entries(source, code, state)
    return StreamValue(chunks, UNKNOWN, state, _read_groups(source, code, state, chunks))


def _read_entries(source: Source, code: int, state: StreamState) -> Iterator[list[StreamEntry]]:
    first_id: StreamId = NO_ID
    last_id: StreamId = (-1, -1)
    size = 0
    gathered: list[StreamEntry] = []
    source.long_bytes = 0
    for _ in range(source.length()):
        offset = source.offset
        raw = source.string()
        if len(raw) != ID.size:
            raise RdbError(offset, f"a stream's node with an id of {len(raw)} bytes")
        blob = source.string()
        elements = chain.from_iterable(listpack.unpack_chunks(blob, _NODE_ELEMENTS, offset))
        for entry in _unpack_node(elements, ID.unpack(raw), offset):
            if entry.id <= last_id:
                raise RdbError(offset, "a stream whose ids do not ascend")
            last_id = entry.id
            if size == 0:
                first_id = last_id
            size += 1
            gathered.append(entry)
            if len(gathered) == CHUNK_SIZE:
                yield gathered
                gathered = []
        if source.long_bytes > CHUNK_BYTES:
            source.long_bytes = 0
            if gathered:
                yield gathered
                gathered = []
    if gathered:
        yield gathered
    _read_state(source, code, state, first_id)
    if state.size != size:
        raise RdbError(source.offset, f"a stream of {size} entries instead of {state.size}")
    if last_id > state.last_id:
        raise RdbError(source.offset, "a stream with an entry behind its last")


def _unpack_node(elements: Iterator[bytes], base: StreamId, offset: int) -> Iterator[StreamEntry]:
    """Yield the entries of a node that were not deleted."""
    base_ms, base_seq = base
    entry_id: StreamId
    try:
        count = int(next(elements))
        deleted = int(next(elements))
        fields = _take(elements, int(next(elements)), offset)
        if next(elements) != b"0" or count < 0 or deleted < 0:
            raise RdbError(offset, "a stream's node with a wrong head")
        for _ in range(count + deleted):
            flags = int(next(elements))
            entry_id = ((base_ms + int(next(elements))) & _ALL, (base_seq + int(next(elements))) & _ALL)
            if flags & SAME_FIELDS:
                values = _take(elements, len(fields), offset)
                items = [b""] * (2 * len(fields))
                items[::2] = fields
                items[1::2] = values
                size = len(values) + 3
            else:
                items = _take(elements, 2 * int(next(elements)), offset)
                size = len(items) + 4
            if int(next(elements)) != size:
                raise RdbError(offset, "a stream's entry with a wrong length behind it")
            if flags & DELETED:
                deleted -= 1
            else:
                yield StreamEntry(entry_id, items)
        if deleted:
            raise RdbError(offset, "a stream's node with a wrong number of deleted entries")
    except StopIteration:
        raise RdbError(offset, "a stream's node that is cut off") from None
    except ValueError:
        raise RdbError(offset, "a stream's node with a text for a number") from None
    if next(elements, None) is not None:
        raise RdbError(offset, "a stream's node with more than its entries")


def _take(elements: Iterator[bytes], count: int, offset: int) -> list[bytes]:
    if not 0 <= count <= _ITEMS_MAX:
        raise RdbError(offset, f"a stream's entry of {count} strings")
    taken = list(islice(elements, count))
    if len(taken) != count:
        raise RdbError(offset, "a stream's node that is cut off")
    return taken


def _read_state(source: Source, code: int, state: StreamState, first_id: StreamId) -> None:
    length = source.length
    state.size = length()
    state.last_id = (length(), length())
    if code == opcodes.STREAM_LISTPACKS:
        state.first_id = first_id
        state.entries_added = state.size
    else:
        state.first_id = (length(), length())
        state.max_deleted_id = (length(), length())
        state.entries_added = length()


def _read_groups(
    source: Source, code: int, state: StreamState, chunks: Iterable[list[StreamEntry]]
) -> Iterator[StreamGroup]:
    """Yield the groups; what is left of the entries is stepped over first."""
    for _ in chunks:
        pass
    names: set[bytes] = set()
    for _ in range(source.length()):
        group = _read_group(source, code, state)
        if group.name in names:
            raise RdbError(source.offset, "a stream with two groups of one name")
        names.add(group.name)
        yield group


def _read_group(source: Source, code: int, state: StreamState) -> StreamGroup:
    length = source.length
    name = source.string()
    last_id = (length(), length())
    if code == opcodes.STREAM_LISTPACKS:
        entries_read = _estimate_entries_read(state, last_id)
    else:
        entries_read = length()
        if entries_read > _ALL >> 1:
            entries_read = UNKNOWN
    pending: dict[bytes, tuple[int, int]] = {}
    take = source.take
    for _ in range(length()):
        raw = take(ID.size)
        if raw in pending:
            raise RdbError(source.offset, "a group in which an entry is pending twice")
        (delivered_ms,) = MS.unpack(take(MS.size))
        pending[raw] = (delivered_ms, length())
    consumers: dict[bytes, StreamConsumer] = {}
    for _ in range(length()):
        consumer = _read_consumer(source, code, pending)
        if consumer.name in consumers:
            raise RdbError(source.offset, "a group with two consumers of one name")
        consumers[consumer.name] = consumer
    if pending:
        raise RdbError(source.offset, "a group with a pending entry of no consumer")
    return StreamGroup(name, last_id, entries_read, list(consumers.values()))


def _read_consumer(source: Source, code: int, pending: dict[bytes, tuple[int, int]]) -> StreamConsumer:
    """Read a consumer; what is pending with it is taken out of its group's `pending`."""
    name = source.string()
    (seen_ms,) = MS.unpack(source.take(MS.size))
    active_ms = seen_ms
    if code == opcodes.STREAM_LISTPACKS_3:
        (active_ms,) = MS.unpack(source.take(MS.size))
    own: list[Pending] = []
    for _ in range(source.length()):
        raw = source.take(ID.size)
        delivery = pending.pop(raw, None)
        if delivery is None:
            raise RdbError(source.offset, "a consumer with a pending entry that its group has not")
        own.append(Pending(ID.unpack(raw), *delivery))
    own.sort()
    return StreamConsumer(name, seen_ms, active_ms, own)


def _estimate_entries_read(state: StreamState, last_id: StreamId) -> int:
    """Return how many entries a group has read, as far as can be told where it was not counted.

    As nothing is known to have been deleted, the ends of the stream have known numbers; between them none
    has.
    """
    if state.entries_added == 0:
        return 0
    if last_id == state.last_id:
        return state.entries_added
    if last_id < state.first_id:
        return state.entries_added - state.size
    if last_id == state.first_id:
        return state.entries_added - state.size + 1
    return UNKNOWN

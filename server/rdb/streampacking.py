"""Streams, written; `streams.py` draws the form.

Entries go into nodes as Redis puts those that are added at the end. The number of nodes comes first in the
file: up to a number of bytes the nodes are made before it is written. A larger stream gets, from there on,
nodes of as many entries as those before have on average, so that the number follows from the size. Redis
reads either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Final

from lamina.server.rdb import listpack, opcodes
from lamina.server.rdb.counting import counted
from lamina.server.rdb.lengths import encode_compressed, encode_length, encode_string
from lamina.server.rdb.rules import SavingRules
from lamina.server.rdb.streams import ID, MS, SAME_FIELDS
from lamina.server.rdb.values import UNKNOWN, StreamEntry, StreamGroup, StreamId, StreamState, StreamValue

_NODE_BYTES_MAX: Final = 1 << 30
_NO_LIMIT: Final = 1 << 62
_ALL: Final = (1 << 64) - 1
_SIGN: Final = 1 << 63

_ZERO: Final = listpack.encode_integer(0)
_NO_FLAGS: Final = listpack.encode_integer(0)
_SAME: Final = listpack.encode_integer(SAME_FIELDS)


def stream_pieces(value: StreamValue, rules: SavingRules, buffered_bytes: int) -> tuple[int, Iterable[bytes]]:
    """Return the type number and the bytes of a stream."""
    code = opcodes.STREAM_LISTPACKS_2 if rules.version == opcodes.REDIS_70 else opcodes.STREAM_LISTPACKS_3
    return code, _pieces(value, rules, buffered_bytes, code)


def _pieces(value: StreamValue, rules: SavingRules, buffered_bytes: int, code: int) -> Iterator[bytes]:
    node_bytes = min(rules.stream_node_max_bytes or _NODE_BYTES_MAX, _NODE_BYTES_MAX)
    packer = _Packer(rules, node_bytes, rules.stream_node_max_entries or _NO_LIMIT)
    chunks = iter(value.chunks if value.size == UNKNOWN else counted(value.chunks, value.size))
    count = 0
    for chunk in chunks:
        packer.add(chunk)
        count += len(chunk)
        if packer.packed_bytes > buffered_bytes and value.size != UNKNOWN:
            packer.finish()
            per_node = max(count // len(packer.nodes), 1)
            left = value.size - count
            yield encode_length(len(packer.nodes) + (left + per_node - 1) // per_node)
            yield from packer.nodes
            yield from _regular_nodes(chunks, _Packer(rules, _NO_LIMIT, per_node))
            count = value.size
            break
    else:
        nodes = packer.finish()
        yield encode_length(len(nodes))
        yield from nodes
    state = value.state
    if state.size != count:
        raise ValueError(f"a stream of {count} entries instead of {state.size}")
    yield _state_bytes(state)
    # Redis keeps groups and consumers in the order of their names.
    groups = sorted(value.groups)
    yield encode_length(len(groups))
    for group in groups:
        yield _group_bytes(group, packer.string, code)


def _regular_nodes(chunks: Iterable[list[StreamEntry]], packer: _Packer) -> Iterator[bytes]:
    for chunk in chunks:
        packer.add(chunk)
        yield from packer.nodes
        packer.nodes.clear()
    yield from packer.finish()


def _state_bytes(state: StreamState) -> bytes:
    numbers = (
        state.size,
        *state.last_id,
        *state.first_id,
        *state.max_deleted_id,
        state.entries_added,
    )
    return b"".join(map(encode_length, numbers))


def _group_bytes(group: StreamGroup, string: Callable[[bytes], bytes], code: int) -> bytes:
    entries_read = group.entries_read if group.entries_read >= 0 else _ALL
    pieces = [string(group.name), *map(encode_length, (*group.last_id, entries_read))]
    pending = sorted(chain.from_iterable(consumer.pending for consumer in group.consumers))
    pieces.append(encode_length(len(pending)))
    for entry in pending:
        pieces += (ID.pack(*entry.id), MS.pack(entry.delivered_ms), encode_length(entry.deliveries))
    pieces.append(encode_length(len(group.consumers)))
    for consumer in sorted(group.consumers):
        pieces += (string(consumer.name), MS.pack(consumer.seen_ms))
        if code == opcodes.STREAM_LISTPACKS_3:
            pieces.append(MS.pack(consumer.active_ms))
        pieces.append(encode_length(len(consumer.pending)))
        pieces += [ID.pack(*entry.id) for entry in sorted(consumer.pending)]
    return b"".join(pieces)


class _Packer:
    """Puts entries into nodes of up to so many bytes and so many entries."""

    __slots__ = (
        "_count",
        "_entries",
        "_entries_max",
        "_entry_bytes",
        "_fields",
        "_head",
        "_id",
        "_node_bytes",
        "nodes",
        "packed_bytes",
        "string",
    )

    def __init__(self, rules: SavingRules, node_bytes: int, entries_max: int) -> None:
        self.string = encode_compressed if rules.compress else encode_string
        self.nodes: list[bytes] = []
        self.packed_bytes = 0
        self._node_bytes = node_bytes
        self._entries_max = entries_max
        self._count = 0
        self._id: StreamId = (0, 0)
        self._fields: list[bytes] = []
        self._head: list[bytes] = []
        self._entries: list[bytes] = []
        self._entry_bytes = 0

    def add(self, entries: list[StreamEntry]) -> None:
        """Add entries at the end."""
        integer = listpack.encode_integer
        element = listpack.encode_element
        for entry_id, items in entries:
            if self._count and self._is_full(items):
                self._end_node()
            fields = items[::2]
            if self._count == 0:
                self._begin_node(entry_id, fields)
            ms, seq = entry_id
            base_ms, base_seq = self._id
            numbers = (integer(_signed(ms - base_ms)), integer(_signed(seq - base_seq)))
            if fields == self._fields:
                values = list(map(element, items[1::2]))
                entry = (_SAME, *numbers, *values, integer(len(values) + 3))
            else:
                strings = list(map(element, items))
                entry = (_NO_FLAGS, *numbers, integer(len(fields)), *strings, integer(len(items) + 4))
            self._entries += entry
            self._entry_bytes += sum(map(len, entry))
            self._count += 1

    def _is_full(self, items: list[bytes]) -> bool:
        if self._count >= self._entries_max:
            return True
        size_bytes = listpack.EMPTY_BYTES + len(listpack.encode_integer(self._count)) + self._entry_bytes
        return size_bytes + sum(map(len, items)) >= self._node_bytes

    def _begin_node(self, entry_id: StreamId, fields: list[bytes]) -> None:
        self._id = entry_id
        self._fields = fields
        count = listpack.encode_integer(len(fields))
        self._head = [_ZERO, count, *map(listpack.encode_element, fields), _ZERO]
        self._entry_bytes = sum(map(len, self._head))

    def _end_node(self) -> None:
        if self._count:
            entries = [listpack.encode_integer(self._count), *self._head, *self._entries]
            node = self.string(ID.pack(*self._id)) + self.string(listpack.assemble(entries))
            self.nodes.append(node)
            self.packed_bytes += len(node)
            self._entries = []
            self._count = 0

    def finish(self) -> list[bytes]:
        """Return all nodes that have not been taken."""
        self._end_node()
        return self.nodes


def _signed(difference: int) -> int:
    """Return a difference of 64-bit numbers as C has it."""
    return ((difference + _SIGN) & _ALL) - _SIGN

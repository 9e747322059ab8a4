"""Lists, written as the nodes of a quicklist, or as a row of strings where nodes cannot be counted first.

quicklist    nodes:length (kind:length, listpack or element:string)*
plain        size:length string*
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Final

from lamina.server.rdb import listpack, opcodes
from lamina.server.rdb.counting import counted
from lamina.server.rdb.lengths import encode_compressed, encode_length, encode_string
from lamina.server.rdb.rules import SavingRules
from lamina.server.rdb.values import UNKNOWN, ListValue

_NODE_BYTES: Final = (4096, 8192, 16384, 32768, 65536)
_COUNTED_NODE_BYTES: Final = 8192
"""What a node may take if the number of its elements is limited."""

_ENTRY_ESTIMATE_BYTES: Final = 8
"""What Redis allows for an element besides its bytes when it asks whether there is room for it."""

_PLAIN_BYTES: Final = 1 << 30
"""An element of this size is not packed by Redis before 7.4."""

_NO_LIMIT: Final = 1 << 62

_PACKED_HEAD: Final = encode_length(opcodes.PACKED_NODE)
_PLAIN_HEAD: Final = encode_length(opcodes.PLAIN_NODE)


def list_pieces(value: ListValue, rules: SavingRules, buffered_bytes: int) -> tuple[int, Iterable[bytes]]:
    """Return the type number and the bytes of a list."""
    packer = _Packer(rules)
    chunks = iter(value.chunks)
    kept: list[list[bytes]] = []
    size = 0
    for chunk in chunks:
        packer.add(chunk)
        size += len(chunk)
        if value.size != UNKNOWN:
            # The elements themselves are kept as well, in case that the nodes turn out to be too many.
            kept.append(chunk)
            if packer.packed_bytes > buffered_bytes:
                return opcodes.LIST, _plain_pieces(chain(kept, chunks), value.size, packer.string)
    if size == 0:
        raise ValueError("an empty collection")
    if value.size not in (size, UNKNOWN):
        raise ValueError(f"a list of {size} elements instead of {value.size}")
    nodes = packer.finish()
    return opcodes.LIST_QUICKLIST_2, chain((encode_length(len(nodes)),), nodes)


def _plain_pieces(
    chunks: Iterable[list[bytes]], size: int, string: Callable[[bytes], bytes]
) -> Iterator[bytes]:
    yield encode_length(size)
    for chunk in counted(chunks, size):
        yield b"".join(map(string, chunk))


class _Packer:
    """Puts elements into nodes as Redis does with one that is pushed to the right."""

    __slots__ = (
        "_entries",
        "_fill",
        "_node_bytes",
        "_plain_size",
        "_size_bytes",
        "nodes",
        "packed_bytes",
        "string",
    )

    def __init__(self, rules: SavingRules) -> None:
        fill = rules.list_max_listpack_size
        self._fill = fill if fill >= 0 else _NO_LIMIT
        self._node_bytes = _COUNTED_NODE_BYTES if fill >= 0 else _NODE_BYTES[min(-fill, len(_NODE_BYTES)) - 1]
        self._plain_size = rules.list_plain_value or (
            self._node_bytes + 1 if rules.version >= opcodes.REDIS_74 else _PLAIN_BYTES
        )
        self.string = encode_compressed if rules.compress else encode_string
        self.nodes: list[bytes] = []
        self.packed_bytes = 0
        self._entries: list[bytes] = []
        self._size_bytes = listpack.EMPTY_BYTES

    def add(self, elements: list[bytes]) -> None:
        """Add elements at the end."""
        encode = listpack.encode_element
        fill = self._fill
        plain_size = self._plain_size
        room = self._node_bytes - _ENTRY_ESTIMATE_BYTES
        entries = self._entries
        size_bytes = self._size_bytes
        for element in elements:
            if size_bytes + len(element) > room or len(entries) >= fill or len(element) >= plain_size:
                self._end_node()
                entries = self._entries
                size_bytes = listpack.EMPTY_BYTES
                if len(element) >= plain_size:
                    self._add_node(_PLAIN_HEAD + self.string(element))
                    continue
            entry = encode(element)
            entries.append(entry)
            size_bytes += len(entry)
        self._size_bytes = size_bytes

    def _end_node(self) -> None:
        if self._entries:
            self._add_node(_PACKED_HEAD + self.string(listpack.assemble(self._entries)))
            self._entries = []

    def _add_node(self, node: bytes) -> None:
        self.nodes.append(node)
        self.packed_bytes += len(node)

    def finish(self) -> list[bytes]:
        """Return all nodes."""
        self._end_node()
        return self.nodes

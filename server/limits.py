"""The sizes at which a collection changes its encoding, as far as OBJECT ENCODING shows it.

Lamina stores a collection in one way at any size; but clients read its encoding and tune these limits, so
each collection has the encoding that Redis would have chosen (records.py: `Collection.form`). That is asked
at every write, so the limits lie here as plain integers, where data types find them without a server at hand:

    from lamina.server.limits import LIMITS
    if size > LIMITS.hash_listpack_entries: ...

What one command may gather is asked for in the same places, so it is here, too.

There is one set for the process: it follows the configuration of the server that was started last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lamina.server.config import Config


class Limits:
    """Entries: elements of a collection. Values: bytes of one element. Defaults are Redis's."""

    __slots__ = (
        "command_memory",
        "hash_listpack_entries",
        "hash_listpack_value",
        "hll_sparse_bytes",
        "list_max_listpack_size",
        "set_intset_entries",
        "set_listpack_entries",
        "set_listpack_value",
        "stream_node_bytes",
        "stream_node_entries",
        "zset_listpack_entries",
        "zset_listpack_value",
    )

    def __init__(self) -> None:
        self.command_memory = 1 << 30
        """Bytes that one command may gather; 0: any number. See gathering.py."""
        self.hash_listpack_entries = 512
        self.hash_listpack_value = 64
        self.hll_sparse_bytes = 3000
        """Of a HyperLogLog in its sparse form, which is a form of the string itself, and no encoding."""
        self.list_max_listpack_size = -2
        """Positive: elements of a node. Negative, -1 to -5: 4, 8, 16, 32 or 64 KiB of a node."""
        self.set_intset_entries = 512
        self.set_listpack_entries = 128
        self.set_listpack_value = 64
        self.stream_node_bytes = 4096
        """Of a node of a stream where streams have nodes: in files and payloads."""
        self.stream_node_entries = 100
        """Of such a node, which is also what trimming with "~" removes; 0: no bound."""
        self.zset_listpack_entries = 128
        self.zset_listpack_value = 64

    def follow(self, config: Config) -> None:
        """Be what `config` says, now and after every change of it."""

        def copy() -> None:
            for name, parameter in _PARAMETERS.items():
                setattr(self, name, getattr(config, parameter))

        copy()
        for parameter in _PARAMETERS.values():
            config.on_change(parameter.replace("_", "-"), copy)


_PARAMETERS = {
    "command_memory": "command_memory",
    "hash_listpack_entries": "hash_max_listpack_entries",
    "hash_listpack_value": "hash_max_listpack_value",
    "hll_sparse_bytes": "hll_sparse_max_bytes",
    "list_max_listpack_size": "list_max_listpack_size",
    "set_intset_entries": "set_max_intset_entries",
    "set_listpack_entries": "set_max_listpack_entries",
    "set_listpack_value": "set_max_listpack_value",
    "stream_node_bytes": "stream_node_max_bytes",
    "stream_node_entries": "stream_node_max_entries",
    "zset_listpack_entries": "zset_max_listpack_entries",
    "zset_listpack_value": "zset_max_listpack_value",
}
"""The names of the configuration's parameters, by those that are used here."""

LIMITS: Final = Limits()
"""The limits in force."""

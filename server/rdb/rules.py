"""How values are written: for which Redis, and up to which size in packed encodings."""

from __future__ import annotations

from dataclasses import dataclass

from lamina.server.rdb.opcodes import REDIS_70, REDIS_72, REDIS_74


@dataclass(frozen=True, slots=True)
class SavingRules:
    """Entries: elements of a collection. Values: bytes of one element. The defaults are Redis 7.2's."""

    version: int = REDIS_72
    """The RDB version: REDIS_70, REDIS_72 or REDIS_74, the first Redis that reads it. Only with the last can
    fields of a hash expire."""

    compress: bool = False
    """Strings of more than 20 bytes are compressed with LZF where that makes them shorter. Writing becomes
    some ten times slower for what is worth compressing."""

    hash_listpack_entries: int = 512
    hash_listpack_value: int = 64
    list_max_listpack_size: int = -2
    """Positive: elements of a node. Negative, -1 to -5: 4, 8, 16, 32 or 64 KiB of a node."""
    list_plain_value: int = 0
    """An element from this size on is a node of its own that is not packed. 0: what Redis does, from 7.4 on
    with elements that are larger than a node, before with those of 1 GiB."""
    set_intset_entries: int = 512
    set_listpack_entries: int = 128
    set_listpack_value: int = 64
    zset_listpack_entries: int = 128
    zset_listpack_value: int = 64
    stream_node_max_bytes: int = 4096
    """0: no limit."""
    stream_node_max_entries: int = 100
    """0: no limit."""

    def __post_init__(self) -> None:
        if self.version not in (REDIS_70, REDIS_72, REDIS_74):
            raise ValueError(f"RDB version {self.version} cannot be written")

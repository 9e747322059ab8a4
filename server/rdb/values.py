"""What RDB files and DUMP payloads hold, in a form that is neither theirs nor Lamina's.

A value is `bytes`, which is a string, or one of the classes below. Reading makes the same objects that
writing takes, so a file is copied by handing every item of a reader to a writer.

`chunks` yields the elements, some thousand at a time at most, and fewer where they are long:

    ListValue         list[bytes]                            in the list's order
    SetValue          list[bytes]
    ZsetValue         list[tuple[bytes, float]]              member, score
    HashValue         list[tuple[bytes, bytes]]              field, value
    TimedHashValue    list[tuple[bytes, bytes, int]]         field, value, time of expiry in ms or 0
    StreamValue       list[StreamEntry]                      then `state`, then `groups`

A value that comes from a file reads the file as its chunks are asked for: once, and before the next item of
the reader is. A value from a payload lies in memory and can be gone through again and again. `size` is the
number of elements; UNKNOWN where the bytes do not tell before their end, as they do not for quicklists and
streams. From a file it is a claim.

`is_packable` tells writing that a small collection may be packed. It is False for one that Redis would hold
in its large encoding although it has become small: Redis never converts back.

Elements of sets, sorted sets and hashes are unique in packed encodings and in payloads, else reading refuses
them. Not so in large collections of a file: they are never held in memory whole, so whoever takes their
elements in must look, and count.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

UNKNOWN: Final = -1
"""A size that is not known, or the entries read of a group that lost count."""

StreamId = tuple[int, int]
"""Milliseconds and sequence number."""

NO_ID: Final[StreamId] = (0, 0)


class StreamEntry(NamedTuple):
    """An entry of a stream; `items` are fields and values in turn."""

    id: StreamId
    items: list[bytes]


class Pending(NamedTuple):
    """An entry that was delivered to a consumer and not acknowledged."""

    id: StreamId
    delivered_ms: int
    deliveries: int


class StreamConsumer(NamedTuple):
    """A consumer; `active_ms` is -1 if it was never given anything. `pending` is in the order of ids."""

    name: bytes
    seen_ms: int
    active_ms: int
    pending: list[Pending]


class StreamGroup(NamedTuple):
    """A consumer group; `entries_read` may be UNKNOWN."""

    name: bytes
    last_id: StreamId
    entries_read: int
    consumers: list[StreamConsumer]


@dataclass(slots=True)
class StreamState:
    """What a stream knows besides its entries."""

    size: int = 0
    last_id: StreamId = NO_ID
    first_id: StreamId = NO_ID
    max_deleted_id: StreamId = NO_ID
    entries_added: int = 0


@dataclass(slots=True)
class ListValue:
    """A list."""

    chunks: Iterable[list[bytes]]
    size: int = UNKNOWN


@dataclass(slots=True)
class SetValue:
    """A set."""

    chunks: Iterable[list[bytes]]
    size: int = UNKNOWN
    is_packable: bool = True


@dataclass(slots=True)
class ZsetValue:
    """A sorted set. Its elements come in any order: from Redis, the highest first if it is large."""

    chunks: Iterable[list[tuple[bytes, float]]]
    size: int = UNKNOWN
    is_packable: bool = True


@dataclass(slots=True)
class HashValue:
    """A hash whose fields do not expire."""

    chunks: Iterable[list[tuple[bytes, bytes]]]
    size: int = UNKNOWN
    is_packable: bool = True


@dataclass(slots=True)
class TimedHashValue:
    """A hash some of whose fields expire, as of Redis 7.4."""

    chunks: Iterable[list[tuple[bytes, bytes, int]]]
    size: int = UNKNOWN
    is_packable: bool = True


@dataclass(slots=True)
class StreamValue:
    """A stream. `state` is right once `chunks` is exhausted, and `groups` comes after it, one by one."""

    chunks: Iterable[list[StreamEntry]]
    size: int = UNKNOWN
    state: StreamState = field(default_factory=StreamState)
    groups: Iterable[StreamGroup] = ()


Collection = ListValue | SetValue | ZsetValue | HashValue | TimedHashValue
Value = bytes | Collection | StreamValue


class Key(NamedTuple):
    """A key with all that a file says of it."""

    database: int
    key: bytes
    value: Value
    expires_ms: int = 0
    """0: never."""
    idle_s: int = UNKNOWN
    """For how long it was not used, if eviction went by that."""
    frequency: int = UNKNOWN
    """How often it was used, 0 to 255, if eviction went by that."""


class Aux(NamedTuple):
    """Something that the file says of itself: redis-ver, ctime, used-mem, ..."""

    name: bytes
    value: bytes


class Function(NamedTuple):
    """A library of functions, as FUNCTION LOAD takes it."""

    code: bytes


class DatabaseSize(NamedTuple):
    """How many keys a database has, and how many of them expire: a claim, made before they come."""

    database: int
    keys: int
    expiring: int


class Skipped(NamedTuple):
    """Something that was left out because only a module could read it; `key` is empty if it is no key."""

    database: int
    key: bytes
    what: str


Item = Key | Aux | Function | DatabaseSize | Skipped
"""What a file consists of."""

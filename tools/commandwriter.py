r"""Keys as commands that make them: what `redis-cli --pipe` sends, and `lamina import` reads.

    FUNCTION LOAD   a library of functions
    SELECT n        before the keys of a database
    SET  RPUSH  SADD  ZADD  HSET      with some hundred elements each
    HPEXPIREAT                        for fields that expire (Redis 7.4)
    XADD  XSETID  XGROUP  XCLAIM      a stream, its counters, its groups, and what is pending
    PEXPIREAT                         last, for a key that expires

Keys and libraries must not be there yet where the commands are run: lists would grow.

Commands cannot say when a consumer was seen, nor that an entry is pending which is no longer in its stream:
that is lost, as it is when Redis rewrites an append-only file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, groupby
from operator import itemgetter
from typing import Final

from lamina.server.numbers import INTEGER_MAX
from lamina.server.rdb.values import (
    HashValue,
    ListValue,
    SetValue,
    StreamGroup,
    StreamValue,
    TimedHashValue,
    Value,
    ZsetValue,
)
from lamina.server.types.streamids import NO_ID, format_id

_ELEMENTS: Final = 256
_COMMAND_BYTES: Final = 256 * 1024
_BLOCK_BYTES: Final = 256 * 1024


class CommandWriter:
    """Writes keys with `write`, which takes bytes."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._pieces: list[bytes] = []
        self._buffered_bytes = 0
        self._database = 0
        self.commands = 0

    def write_key(self, database: int, key: bytes, value: Value, expires_ms: int = 0) -> None:
        """Write the commands that make a key. Cost: 1 µs for a short string."""
        if database != self._database:
            self._database = database
            self._add(b"SELECT", b"%d" % database)
        if isinstance(value, bytes):
            self._add(b"SET", key, value)
        elif isinstance(value, ListValue | SetValue):
            name = b"RPUSH" if isinstance(value, ListValue) else b"SADD"
            for texts in value.chunks:
                for some in _divided(texts, 1):
                    self._add(name, key, *some)
        elif isinstance(value, ZsetValue):
            for scored in value.chunks:
                flat = chain.from_iterable((repr(score).encode(), member) for member, score in scored)
                for some in _divided(list(flat), 2):
                    self._add(b"ZADD", key, *some)
        elif isinstance(value, HashValue):
            for pairs in value.chunks:
                for some in _divided(list(chain.from_iterable(pairs)), 2):
                    self._add(b"HSET", key, *some)
        elif isinstance(value, TimedHashValue):
            self._write_timed(key, value)
        else:
            self._write_stream(key, value)
        if expires_ms:
            self._add(b"PEXPIREAT", key, b"%d" % expires_ms)

    def _write_timed(self, key: bytes, value: TimedHashValue) -> None:
        for rows in value.chunks:
            flat = list(chain.from_iterable((field, content) for field, content, _ in rows))
            for some in _divided(flat, 2):
                self._add(b"HSET", key, *some)
            by_time: dict[int, list[bytes]] = {}
            for field, _, time_ms in rows:
                if time_ms:
                    by_time.setdefault(time_ms, []).append(field)
            for time_ms, fields in by_time.items():
                for some in _divided(fields, 1):
                    self._add(b"HPEXPIREAT", key, b"%d" % time_ms, b"FIELDS", b"%d" % len(some), *some)

    def _write_stream(self, key: bytes, value: StreamValue) -> None:
        count = 0
        for entries in value.chunks:
            count += len(entries)
            for entry in entries:
                self._add(b"XADD", key, format_id(entry.id), *entry.items)
        state = value.state
        if not count:
            # An empty stream is one whose only entry is trimmed at once.
            stream_id = max(state.last_id, (0, 1))
            self._add(b"XADD", key, b"MAXLEN", b"0", format_id(stream_id), b"f", b"v")
        counters: list[bytes] = []
        if state.entries_added >= count:
            counters += [b"ENTRIESADDED", b"%d" % min(state.entries_added, INTEGER_MAX)]
        if NO_ID < state.max_deleted_id <= state.last_id:
            counters += [b"MAXDELETEDID", format_id(state.max_deleted_id)]
        self._add(b"XSETID", key, format_id(state.last_id), *counters)
        for group in value.groups:
            self._write_group(key, group)

    def _write_group(self, key: bytes, group: StreamGroup) -> None:
        name = group.name
        last_id, entries_read = format_id(group.last_id), b"%d" % group.entries_read
        self._add(b"XGROUP", b"CREATE", key, name, last_id, b"ENTRIESREAD", entries_read)
        for consumer in group.consumers:
            self._add(b"XGROUP", b"CREATECONSUMER", key, name, consumer.name)
            for (delivered_ms, deliveries), alike in groupby(consumer.pending, itemgetter(1, 2)):
                options = (b"TIME", b"%d" % delivered_ms, b"RETRYCOUNT", b"%d" % deliveries)
                for some in _divided([format_id(entry.id) for entry in alike], 1):
                    self._add(
                        *(b"XCLAIM", key, name, consumer.name, b"0", *some, *options, b"FORCE", b"JUSTID")
                    )

    def write_library(self, source: bytes) -> None:
        """Write the command that loads a library of functions."""
        self._add(b"FUNCTION", b"LOAD", source)

    def finish(self) -> None:
        """Write what is buffered."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._buffered_bytes = 0
        if data:
            self._write(data)

    def _add(self, *arguments: bytes) -> None:
        pieces = [b"*%d\r\n" % len(arguments)]
        pieces += [b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in arguments]
        data = b"".join(pieces)
        self.commands += 1
        self._pieces.append(data)
        self._buffered_bytes += len(data)
        if self._buffered_bytes >= _BLOCK_BYTES:
            self.finish()


def _divided(arguments: list[bytes], step: int) -> Iterator[list[bytes]]:
    """Divide arguments of which `step` belong together among commands of a handy size."""
    if len(arguments) <= _ELEMENTS and sum(map(len, arguments)) <= _COMMAND_BYTES:
        if arguments:
            yield arguments
        return
    some: list[bytes] = []
    size_bytes = 0
    for at in range(0, len(arguments), step):
        item = arguments[at : at + step]
        some += item
        size_bytes += sum(map(len, item))
        if len(some) >= _ELEMENTS or size_bytes >= _COMMAND_BYTES:
            yield some
            some, size_bytes = [], 0
    if some:
        yield some

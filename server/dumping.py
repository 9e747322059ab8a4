"""DUMP and RESTORE: what a key holds as a payload that any Redis takes, and back.

A payload is written in the oldest version that has a form for it, which is what the most servers read: Redis
7.0's, and 7.4's for hashes some of whose fields expire.

A value that comes in gets the form, and thereby the encoding, that it would have if its elements had been
added here: what a payload says of its own encoding depends on the limits of whoever made it. Nothing is
changed before all of a payload has been read and found to be right.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any, Final

from lamina.server import events
from lamina.server.encoding import ARGUMENT_SIZE_MAX
from lamina.server.errors import CommandError
from lamina.server.gathering import check
from lamina.server.keyspace import Keyspace, Value
from lamina.server.limits import LIMITS
from lamina.server.rdb import payload, values
from lamina.server.rdb.errors import FooterError, RdbError
from lamina.server.rdb.opcodes import REDIS_70, REDIS_74
from lamina.server.rdb.rules import SavingRules
from lamina.server.rdbvalues import Source, value_of
from lamina.server.records import String
from lamina.server.types import bigstrings, hashes, lists, sets, zsets
from lamina.server.types.streamvalues import create_stream
from lamina.server.types.strings import BIG_SIZE_MIN

WRONG_FOOTER: Final = CommandError(b"ERR DUMP payload version or checksum are wrong")
BAD_FORMAT: Final = CommandError(b"ERR Bad data format")
BUSY_KEY: Final = CommandError(b"BUSYKEY Target key name already exists.")


def saving_rules(version: int, *, compress: bool) -> SavingRules:
    """Return how values are written, by the configuration's limits."""
    return SavingRules(
        version=version,
        compress=compress,
        hash_listpack_entries=LIMITS.hash_listpack_entries,
        hash_listpack_value=LIMITS.hash_listpack_value,
        list_max_listpack_size=LIMITS.list_max_listpack_size,
        set_intset_entries=LIMITS.set_intset_entries,
        set_listpack_entries=LIMITS.set_listpack_entries,
        set_listpack_value=LIMITS.set_listpack_value,
        stream_node_max_bytes=LIMITS.stream_node_bytes,
        stream_node_max_entries=LIMITS.stream_node_entries,
        zset_listpack_entries=LIMITS.zset_listpack_entries,
        zset_listpack_value=LIMITS.zset_listpack_value,
    )


# -- out ---------------------------------------------------------------------------------------------


def dump(keyspace: Keyspace, key: bytes, *, compress: bool) -> bytes | None:
    """Return the payload of what a key holds, None if it holds nothing. Cost: O(elements)."""
    value = keyspace.read(key)
    if isinstance(value, hashes.Hash):
        value = hashes.find(keyspace, key)
    if value is None:
        return None
    if isinstance(value, bytes):
        return _packed(value, compress=compress)
    return dump_raw(
        keyspace.store, keyspace.pdb, value.encode(), now_ms=keyspace.clock.now_ms, compress=compress
    )


def dump_raw(source: Source, pdb: int, raw: bytes, *, now_ms: int, compress: bool) -> bytes | None:
    """Return the payload of a raw record; None if all of its fields have expired."""
    value = value_of(source, pdb, raw, now_ms=now_ms)
    if value is not None and not isinstance(value, bytes):
        check(value.size)
    return None if value is None else _packed(value, compress=compress)


def _packed(value: values.Value, *, compress: bool) -> bytes:
    version = REDIS_74 if isinstance(value, values.TimedHashValue) else REDIS_70
    return payload.encode(value, saving_rules(version, compress=compress))


# -- in ----------------------------------------------------------------------------------------------


def decode(data: bytes) -> values.Value:
    """Return what a payload holds. Errors: CommandError, with Redis's texts."""
    try:
        return payload.decode(data, string_size_max=ARGUMENT_SIZE_MAX)
    except FooterError:
        raise WRONG_FOOTER from None
    except RdbError:
        raise BAD_FORMAT from None


def restore(keyspace: Keyspace, key: bytes, value: values.Value, expires_ms: int) -> None:
    """Let `key` hold a value, whatever it held; 0: for ever. If the time has come, it holds nothing."""
    # Not left to `put`: this is a new key to those who listen to events.
    was_there = keyspace.remove(key)
    if expires_ms and expires_ms <= keyspace.clock.now_ms:
        if was_there and keyspace.listens:
            keyspace.event(events.GENERIC, b"del", key)
        return
    record = create(keyspace, value)
    if not expires_ms:
        keyspace.put(key, record)
    elif isinstance(record, bytes):
        keyspace.put(key, String(record, expires_ms))
    else:
        record.expires_ms = expires_ms
        keyspace.put(key, record)
    if keyspace.listens:
        keyspace.event(events.GENERIC, b"restore", key)


def create(keyspace: Keyspace, value: values.Value) -> Value:
    """Return a new record, not yet stored, that holds a value which is whole in memory."""
    return _MAKERS[value.__class__](keyspace, value)


def _string(keyspace: Keyspace, value: bytes) -> Value:
    return bigstrings.create(keyspace, value) if len(value) >= BIG_SIZE_MIN else value


def _list(keyspace: Keyspace, value: values.ListValue) -> Value:
    record = lists.List(keyspace, keyspace.databases.take_id(), 0)
    push_right = record.elements.push_right
    for chunk in value.chunks:
        if record.packed_bytes >= 0:
            record.note_added(chunk, record.elements.size + len(chunk))
        for element in chunk:
            push_right(element)
    return record


def _set(keyspace: Keyspace, value: values.SetValue) -> Value:
    return sets.create(keyspace, chain.from_iterable(value.chunks))


def _zset(keyspace: Keyspace, value: values.ZsetValue) -> Value:
    scores = dict(chain.from_iterable(value.chunks))
    form = zsets.LISTPACK if len(scores) <= LIMITS.zset_listpack_entries else zsets.SKIPLIST
    if form == zsets.LISTPACK and max(map(len, scores)) > LIMITS.zset_listpack_value:
        form = zsets.SKIPLIST  # before the first -0.0 comes, which a listpack has not
    record = zsets.ZSet(keyspace, keyspace.databases.take_id(), 0, form)
    record.fill(scores)
    return record


def _hash(keyspace: Keyspace, value: values.HashValue) -> Value:
    record = hashes.Hash(keyspace, keyspace.databases.take_id(), 0)
    put = record.elements.put
    longest = 0
    for field, content in chain.from_iterable(value.chunks):
        put(field, content)
        longest = max(longest, len(field), len(content))
    if longest > LIMITS.hash_listpack_value or record.size > LIMITS.hash_listpack_entries:
        record.form = hashes.HASHTABLE
    return record


def _timed_hash(keyspace: Keyspace, value: values.TimedHashValue) -> Value:
    triples = list(chain.from_iterable(value.chunks))
    pairs = [(field, content) for field, content, _ in triples]
    record = _hash(keyspace, values.HashValue([pairs], len(pairs)))
    assert isinstance(record, hashes.Hash)
    if record.form == hashes.LISTPACK:
        record.form = hashes.LISTPACKEX
    # Fields whose time has come are taken in: whoever looks at the hash removes them, and tells.
    record.adopt_times(keyspace, [(field, expires_ms) for field, _, expires_ms in triples if expires_ms])
    return record


_MAKERS: Final[dict[type, Callable[[Keyspace, Any], Value]]] = {
    bytes: _string,
    values.ListValue: _list,
    values.SetValue: _set,
    values.ZsetValue: _zset,
    values.HashValue: _hash,
    values.TimedHashValue: _timed_hash,
    values.StreamValue: create_stream,
}
"""How a value becomes a record."""

"""Pipelines of one command on one key: queues, sets and hashes that are filled or emptied at speed.

Each function here runs a whole pipeline at once, where that is the same as running its calls one by one, and
returns None where it might not be: the loop of dispatch.py then does that. registry.py: `many`.
"""

from __future__ import annotations

from lamina.server.client import Client
from lamina.server.registry import many
from lamina.server.types import hashes, lists, sets, streams, zsets
from lamina.server.types.hashes import Hash
from lamina.server.types.lists import List
from lamina.server.types.sets import Set
from lamina.server.types.streams import Stream
from lamina.server.types.zsets import ZSet

_REST_MIN = 8
"""So many times as much as is taken out must be there: then nothing becomes empty or changes its form."""


def _shared_key(client: Client, argvs: list[list[bytes]]) -> bytes | None:
    """Return the key that all these calls are about; None if they are not, or if others look on.

    Who is told of each change, or waits for elements, must see every single step.
    """
    keyspace = client.keyspace
    if keyspace.listens or keyspace.waiting:
        return None
    key = argvs[0][1]
    for argv in argvs:
        if argv[1] != key:
            return None
    return key


def _push(client: Client, argvs: list[list[bytes]], *, left: bool) -> list[int] | None:
    key = _shared_key(client, argvs)
    if key is None or not isinstance(client.keyspace.find(key), List):
        return None
    size = lists.push(client.keyspace, key, [argv[2] for argv in argvs], left=left)
    return list(range(size - len(argvs) + 1, size + 1))


@many("LPUSH")
def lpush(client: Client, argvs: list[list[bytes]]) -> list[int] | None:
    """Push all, one after the other."""
    return _push(client, argvs, left=True)


@many("RPUSH")
def rpush(client: Client, argvs: list[list[bytes]]) -> list[int] | None:
    """Push all, one after the other."""
    return _push(client, argvs, left=False)


def _pop(client: Client, argvs: list[list[bytes]], *, left: bool) -> list[bytes] | None:
    key = _shared_key(client, argvs)
    if key is None:
        return None
    record = client.keyspace.find(key)
    if not isinstance(record, List) or record.size < _REST_MIN * len(argvs):
        return None
    return lists.pop_many(client.keyspace, key, record, len(argvs), left=left)


@many("LPOP")
def lpop(client: Client, argvs: list[list[bytes]]) -> list[bytes] | None:
    """Pop as many as there are calls."""
    return _pop(client, argvs, left=True)


@many("RPOP")
def rpop(client: Client, argvs: list[list[bytes]]) -> list[bytes] | None:
    """Pop as many as there are calls."""
    return _pop(client, argvs, left=False)


@many("SADD")
def sadd(client: Client, argvs: list[list[bytes]]) -> list[int] | None:
    """Add all members to a large set."""
    key = _shared_key(client, argvs)
    if key is None:
        return None
    record = client.keyspace.find(key)
    if not isinstance(record, Set) or record.form != sets.HASHTABLE:
        return None
    put = record.elements.put
    added = [1 if put(argv[2], b"") else 0 for argv in argvs]
    if 1 in added:
        client.keyspace.mark(key)
    return added


@many("SPOP")
def spop(client: Client, argvs: list[list[bytes]]) -> list[bytes] | None:
    """Draw as many members as there are calls."""
    key = _shared_key(client, argvs)
    if key is None:
        return None
    record = client.keyspace.find(key)
    if not isinstance(record, Set) or record.size < _REST_MIN * len(argvs):
        return None
    return sets.pop_many(client.keyspace, key, len(argvs))


@many("HSET")
def hset(client: Client, argvs: list[list[bytes]]) -> list[int] | None:
    """Set a field of a large hash for each call."""
    key = _shared_key(client, argvs)
    if key is None:
        return None
    record = client.keyspace.find(key)
    if not isinstance(record, Hash) or record.form != hashes.HASHTABLE or record.fields_due_ms:
        return None
    put = record.elements.put
    added = [1 if put(argv[2], argv[3]) else 0 for argv in argvs]
    client.keyspace.mark(key)
    return added


def _pop_scored(client: Client, argvs: list[list[bytes]], *, last: bool) -> list[tuple[bytes, float]] | None:
    key = _shared_key(client, argvs)
    if key is None:
        return None
    record = client.keyspace.find(key)
    if not isinstance(record, ZSet) or record.size < _REST_MIN * len(argvs):
        return None
    return zsets.pop(client.keyspace, key, record, len(argvs), last=last)


@many("ZPOPMIN")
def zpopmin(client: Client, argvs: list[list[bytes]]) -> list[tuple[bytes, float]] | None:
    """Pop as many members as there are calls."""
    return _pop_scored(client, argvs, last=False)


@many("ZPOPMAX")
def zpopmax(client: Client, argvs: list[list[bytes]]) -> list[tuple[bytes, float]] | None:
    """Pop as many members as there are calls."""
    return _pop_scored(client, argvs, last=True)


@many("XADD")
def xadd(client: Client, argvs: list[list[bytes]]) -> list[bytes] | None:
    """Add an entry of one field with an id by the clock for each call."""
    key = _shared_key(client, argvs)
    if key is None:
        return None
    record = client.keyspace.find(key)
    if not isinstance(record, Stream) or [argv[2] for argv in argvs].count(b"*") != len(argvs):
        return None
    pairs = [(argv[3], argv[4]) for argv in argvs]
    return streams.add_pairs(client.keyspace, key, record, pairs)

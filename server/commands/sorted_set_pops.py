"""Popping from sorted sets, and waiting for one to pop from."""

from __future__ import annotations

from typing import Any

from lamina.server.args import positive, timeout_ms
from lamina.server.blocking import NOTHING, Attempt, wait_for
from lamina.server.client import Client
from lamina.server.commands.sorted_set_args import Popping
from lamina.server.errors import SYNTAX
from lamina.server.keyspace import Keyspace
from lamina.server.replies import NULL_ARRAY, Scored
from lamina.server.types import zsets
from lamina.server.types.zsets import ZSet


def pop(client: Client, argv: list[bytes], *, last: bool) -> Any:
    """Do ``key [count]`` of ZPOPMIN and ZPOPMAX."""
    if len(argv) > 3:
        raise SYNTAX
    count = positive(argv[2]) if len(argv) == 3 else 1
    keyspace, key = client.keyspace, argv[1]
    zset = keyspace.find_typed(key, ZSet)
    if zset is None or not count:
        return []
    popped = zsets.pop(keyspace, key, zset, count, last=last)
    # Without a count the one member is not nested in RESP3 either.
    return Scored(popped) if len(argv) == 3 else popped[0]


def pop_or_wait(client: Client, argv: list[bytes], *, last: bool) -> Any:
    """Do ``key [key ...] timeout`` of BZPOPMIN and BZPOPMAX."""
    timeout = timeout_ms(argv[-1])

    def take(keyspace: Keyspace, key: bytes, zset: ZSet) -> list[Any]:
        return [key, *zsets.pop(keyspace, key, zset, 1, last=last)[0]]

    keyspace, keys = client.keyspace, argv[1:-1]
    for key in keys:
        zset = keyspace.find_typed(key, ZSet)
        if zset is not None:
            return take(keyspace, key, zset)
    return wait_for(client, keys, _attempt(keyspace, take), timeout_ms=timeout)


def pop_any(client: Client, wanted: Popping, *, timeout_ms: int | None = None) -> Any:
    """Do what ZMPOP asks for, and BZMPOP, which has a timeout."""

    def take(keyspace: Keyspace, key: bytes, zset: ZSet) -> list[Any]:
        popped = zsets.pop(keyspace, key, zset, wanted.at_most, last=wanted.last)
        # Members and scores are nested here in RESP2 too.
        return [key, [list(item) for item in popped]]

    keyspace = client.keyspace
    for key in wanted.keys:
        zset = keyspace.find_typed(key, ZSet)
        if zset is not None:
            return take(keyspace, key, zset)
    if timeout_ms is None:
        return NULL_ARRAY
    return wait_for(client, wanted.keys, _attempt(keyspace, take), timeout_ms=timeout_ms)


def _attempt(keyspace: Keyspace, take: Any) -> Attempt:
    """Return what a waiting client tries. A key of another type does not end the wait."""

    def attempt(key: bytes) -> Any:
        zset = keyspace.find(key)
        return take(keyspace, key, zset) if isinstance(zset, ZSet) else NOTHING

    return attempt

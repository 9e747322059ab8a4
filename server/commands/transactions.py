"""MULTI and EXEC, and the watching of keys.

A turn of the event loop is one frame of the log, so what EXEC runs is atomic as it is: it only has to run
without anybody in between.
"""

from __future__ import annotations

from typing import Any

from lamina.server.client import IN_MULTI, WRITES_REFUSED, Client
from lamina.server.dispatch import call
from lamina.server.errors import (
    DISCARD_WITHOUT_MULTI,
    EXEC_ABORT,
    EXEC_WITHOUT_MULTI,
    NESTED_MULTI,
    WATCH_INSIDE_MULTI,
    exec_aborted,
)
from lamina.server.registry import ALL_KEYS, command
from lamina.server.replies import NULL_ARRAY, OK, Simple


def _end(client: Client) -> None:
    """Leave the transaction; nothing is watched any more."""
    client.queue = None
    client.is_transaction_aborted = False
    client.gate &= ~IN_MULTI
    client.server.unwatch(client)


@command("MULTI", arity=1, flags="noscript loading stale fast allow_busy", since="1.2.0", complexity="O(1)")
def multi(client: Client, argv: list[bytes]) -> Simple:
    """Begin a transaction: what follows is queued until EXEC.

    MULTI
    """
    if client.queue is not None:
        raise NESTED_MULTI
    client.queue = []
    client.is_transaction_aborted = False
    client.gate |= IN_MULTI
    return OK


@command(
    "EXEC",
    arity=1,
    flags="noscript loading stale skip_slowlog",
    since="1.2.0",
    complexity="that of the commands",
)
def exec_(client: Client, argv: list[bytes]) -> Any:
    """Run the queued commands, unless a watched key has changed.

    EXEC
    """
    queue = client.queue
    if queue is None:
        raise EXEC_WITHOUT_MULTI
    server = client.server
    if client.is_transaction_aborted:
        _end(client)
        raise EXEC_ABORT
    if any(server.is_watch_broken(keyspace, key) for keyspace, key in client.watched):
        client.dirty_transaction = True
    if client.dirty_transaction:
        _end(client)
        return NULL_ARRAY
    if client.gate & WRITES_REFUSED and any(queued.is_write for queued, _ in queue):
        _end(client)
        raise exec_aborted(server.misconfigured().message.split(b" ", 1)[1])
    _end(client)
    before = server.denies_blocking
    server.denies_blocking = True
    try:
        return [call(client, queued, queued_argv) for queued, queued_argv in queue]
    finally:
        server.denies_blocking = before


@command("DISCARD", arity=1, flags="noscript loading stale fast allow_busy", since="2.0.0", complexity="O(N)")
def discard(client: Client, argv: list[bytes]) -> Simple:
    """Forget the queued commands.

    DISCARD
    """
    if client.queue is None:
        raise DISCARD_WITHOUT_MULTI
    _end(client)
    return OK


@command(
    "WATCH",
    arity=-2,
    flags="noscript loading stale fast allow_busy",
    keys=ALL_KEYS,
    since="2.2.0",
    complexity="O(1) for every key",
)
def watch(client: Client, argv: list[bytes]) -> Simple:
    """Let the next EXEC fail if one of these keys changes before it.

    WATCH key [key ...]
    """
    if client.queue is not None:
        raise WATCH_INSIDE_MULTI
    if not client.dirty_transaction:
        for key in argv[1:]:
            client.server.watch(client, key)
    return OK


@command("UNWATCH", arity=1, flags="noscript loading stale fast allow_busy", since="2.2.0", complexity="O(1)")
def unwatch(client: Client, argv: list[bytes]) -> Simple:
    """Watch no keys any more.

    UNWATCH
    """
    client.server.unwatch(client)
    return OK

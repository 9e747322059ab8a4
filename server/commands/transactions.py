"""MULTI and EXEC, and the watching of keys.

A turn of the event loop is one frame of the log, so what EXEC runs is atomic as it is: it only has to run
without anybody in between.
"""

from __future__ import annotations

from typing import Any

from lamina.server.acl.access import check_command
from lamina.server.acl.log import IN_MULTI as CONTEXT
from lamina.server.client import IN_MULTI, RESTRICTED, Client
from lamina.server.dispatch import call
from lamina.server.errors import (
    DISCARD_WITHOUT_MULTI,
    EXEC_ABORT,
    EXEC_WITHOUT_MULTI,
    NESTED_MULTI,
    WATCH_INSIDE_MULTI,
)
from lamina.server.registry import ALL_KEYS, Command, command
from lamina.server.replies import NO_REPLY, NULL_ARRAY, OK, Encoded, Simple
from lamina.server.scripting.execution import Progress


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
    is_aborted = client.is_transaction_aborted
    if not is_aborted:
        for keyspace, key in client.watched:
            keyspace.find(key)  # one that has expired meanwhile goes now, which is a change
    is_dirty = client.dirty_transaction
    client.leave_transaction()
    if is_aborted:
        raise EXEC_ABORT
    if is_dirty:
        return NULL_ARRAY
    if server.has_scripts(queue):
        # All of the transaction is one, whichever of its scripts takes long.
        has_others = server.databases.has_changes
        progress = Progress.WITH_OTHERS if has_others else Progress.ALONE
        return server.scripting.yielder.run(client, _run_all, (client, queue), lambda: progress)
    return _run_all((client, queue))


def _run_all(transaction: tuple[Client, list[tuple[Command, list[bytes]]]]) -> list[Any]:
    client, queue = transaction
    server = client.server
    before = server.denies_blocking
    server.denies_blocking = True
    try:
        return _run_queued(client, queue)
    finally:
        server.denies_blocking = before


def _run_queued(client: Client, queue: list[tuple[Command, list[bytes]]]) -> list[Any]:
    replies: list[Any] = []
    out = client.out
    for queued, argv in queue:
        start = len(out)
        # Rules may have changed since it was queued, by what has run before it as well.
        denial = check_command(client, queued, argv) if client.gate & RESTRICTED else None
        if denial is not None:
            client.server.users.note_denial(client, denial, CONTEXT)
            client.server.note_error(denial.error_in_exec)
            replies.append(denial.error_in_exec)
            continue
        reply = call(client, queued, argv)
        if reply is NO_REPLY:
            # What SUBSCRIBE has said is its element of the array. CLIENT REPLY, which says nothing, has none.
            if len(out) == start:
                continue
            reply = Encoded(b"".join(out[start:]))
            del out[start:]
            client.pushes = [position for position in client.pushes if position < start]
        replies.append(reply)
    return replies


@command("DISCARD", arity=1, flags="noscript loading stale fast allow_busy", since="2.0.0", complexity="O(N)")
def discard(client: Client, argv: list[bytes]) -> Simple:
    """Forget the queued commands.

    DISCARD
    """
    if client.queue is None:
        raise DISCARD_WITHOUT_MULTI
    client.leave_transaction()
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

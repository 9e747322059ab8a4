"""Commands on keys of any type."""

from __future__ import annotations

from lamina.server import events
from lamina.server.client import Client
from lamina.server.registry import ALL_KEYS, command


@command("DEL", arity=-2, flags="write", keys=ALL_KEYS, since="1.0.0", complexity="O(N) keys, of any size")
def del_(client: Client, argv: list[bytes]) -> int:
    """Remove keys.

    DEL key [key ...]
    """
    keyspace = client.keyspace
    removed = 0
    for key in argv[1:]:
        if keyspace.remove(key):
            removed += 1
            if keyspace.listens:
                keyspace.event(events.GENERIC, b"del", key)
    return removed

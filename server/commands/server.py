"""Commands about the server as a whole."""

from __future__ import annotations

from lamina.server.client import Client
from lamina.server.registry import command
from lamina.server.replies import OK, Simple


@command("DBSIZE", arity=1, flags="readonly fast", since="1.0.0", complexity="O(log N)")
def dbsize(client: Client, argv: list[bytes]) -> int:
    """Return how many keys the database has, exactly.

    DBSIZE
    """
    return client.keyspace.count_keys()


@command("FLUSHALL", arity=-1, flags="write", since="1.0.0", complexity="O(1)")
def flushall(client: Client, argv: list[bytes]) -> Simple:
    """Remove all keys of all databases.

    FLUSHALL [ASYNC | SYNC]
    """
    databases = client.server.databases
    for keyspace in databases.keyspaces:
        databases.flush(keyspace)
    return OK

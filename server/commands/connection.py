"""Commands about the connection itself."""

from __future__ import annotations

from typing import Any

from lamina.server.args import integer
from lamina.server.client import SUBSCRIBED, Client
from lamina.server.errors import DB_INDEX, wrong_arity
from lamina.server.registry import command
from lamina.server.replies import OK, PONG, Simple


@command("PING", arity=-1, flags="fast", since="1.0.0", complexity="O(1)")
def ping(client: Client, argv: list[bytes]) -> Any:
    """Answer, with the argument if there is one.

    PING [message]
    """
    if len(argv) > 2:
        raise wrong_arity(b"ping")
    if client.gate & SUBSCRIBED and client.resp == 2:
        return [b"pong", argv[1] if len(argv) > 1 else b""]
    return argv[1] if len(argv) > 1 else PONG


@command("SELECT", arity=2, flags="loading stale fast", since="1.0.0", complexity="O(1)")
def select(client: Client, argv: list[bytes]) -> Simple:
    """Turn to another database.

    SELECT index
    """
    index = integer(argv[1])
    if not 0 <= index < len(client.server.databases.keyspaces):
        raise DB_INDEX
    client.select(index)
    return OK

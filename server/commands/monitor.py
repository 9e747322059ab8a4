"""The command that shows all commands."""

from __future__ import annotations

from lamina.server.client import Client
from lamina.server.errors import CommandError
from lamina.server.registry import command
from lamina.server.replies import NO_REPLY, OK

_NOT_IN_TRANSACTIONS = CommandError(b"ERR MONITOR isn't allowed for DENY BLOCKING client")


@command(
    "MONITOR",
    arity=1,
    flags="admin noscript loading stale",
    since="1.0.0",
    complexity="O(1)",
    group="server",
)
def monitor(client: Client, argv: list[bytes]) -> object:
    """Show this client every command that any client runs, until RESET.

    MONITOR
    """
    if client.server.denies_blocking:
        raise _NOT_IN_TRANSACTIONS
    if client.is_monitor:
        return NO_REPLY
    client.server.monitors.add(client)
    return OK

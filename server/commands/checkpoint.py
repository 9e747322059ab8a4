"""CHECKPOINT: a copy of the database while it is served. Lamina's own; `lamina backup --host` uses it."""

from __future__ import annotations

from typing import Any, Final

from lamina.server.blocking import NOTHING, Wait, end_wait, wait_for
from lamina.server.checkpointing import checkpoint_directory, start_checkpoint
from lamina.server.client import Client
from lamina.server.errors import CommandError
from lamina.server.protection import check_allowed
from lamina.server.registry import command
from lamina.server.replies import OK

_GOES_ON: Final = CommandError(b"ERR The checkpoint goes on, but nobody waits for it any more")


def _never(key: bytes) -> object:
    return NOTHING


@command(
    "CHECKPOINT",
    arity=2,
    flags="admin noscript no_multi",
    since="0.1.0",
    complexity="O(N) where N is the number of the database's files, beside the loop",
    group="server",
)
def checkpoint(client: Client, argv: list[bytes]) -> Any:
    """Make a database of its own, by hard links, of what is committed now. The directory must not exist or be
    empty; a relative name starts from `dir`, and it must lie below that.

    CHECKPOINT directory
    """
    server = client.server
    check_allowed(client, server.config.enable_checkpoint_command, b"checkpoint")
    target = checkpoint_directory(server, argv[1])
    outcome: list[CommandError | None] = []
    waits: list[Wait] = []

    def tell(error: CommandError | None) -> None:
        outcome.append(error)
        for wait in waits:
            if client.wait is wait:  # else it has been unblocked, or is gone
                end_wait(wait, error or OK)

    start_checkpoint(server, target, tell)
    if outcome:
        return outcome[0] or OK
    suspended = wait_for(client, [], _never, timeout_ms=0, timeout_reply=_GOES_ON)
    if client.wait is not None:
        waits.append(client.wait)
    return suspended

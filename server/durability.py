"""Waiting for the disk, for those who ask for it by themselves: WAITAOF.

What the server has acknowledged survives its own death, but until the log is synced not the machine's. A sync
runs in a thread of the loop's executor; several at once share one fdatasync, as the engine lets the first one
sync for all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from lamina.engine import ClosedError

if TYPE_CHECKING:
    from lamina.server.server import Server


def is_durable(server: Server) -> bool:
    """Tell whether everything that has been written, this turn included, is known to be on the disk."""
    databases = server.databases
    if databases.has_changes:
        return False
    logs = databases.store.db.logs
    active = logs.active
    return not logs.unsynced_logs and active.size_bytes <= active.durable_size_bytes


def when_durable(server: Server, tell: Callable[[BaseException | None], None]) -> None:
    """Sync what has been written, this turn included, and call `tell` in the loop's thread when that is done.

    It is called with the error if the disk refuses, and before this returns if the server has no loop.
    """
    loop = server.loop
    if loop is None:
        server.commit_now()
        server.databases.store.db.sync()
        tell(None)
        return

    def end(future: asyncio.Future[None]) -> None:
        if not future.cancelled():
            error = future.exception()
            # Closing a database syncs it.
            tell(None if isinstance(error, ClosedError) else error)

    def start() -> None:
        loop.run_in_executor(None, server.databases.store.db.sync).add_done_callback(end)

    # The end of the turn, its commit, stands in the loop's queue already: this comes after it.
    loop.call_soon(start)

"""Checkpoints of the database while it is served: where they may lie, and how they are made beside the loop.

Sealing takes microseconds; syncing the logs and linking the files is done by a thread, and the loop goes on.
What a checkpoint holds is what was committed when the engine sealed its memtable: all that was acknowledged
before CHECKPOINT was sent, whole turns only.

A checkpoint lies below `dir`, and beside the database, not in it: like SAVE in Redis, the command writes
nowhere else, whoever asks for it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from lamina.engine import Database, EngineError, PoisonedError
from lamina.server.errors import CommandError

if TYPE_CHECKING:
    from lamina.server.server import Server

log = logging.getLogger(__name__)

_ELSEWHERE: Final = CommandError(
    b"ERR A checkpoint must lie below the server's working directory, and not in the database's directory"
)
_NO_NAME: Final = CommandError(b"ERR That is no name of a directory")
_NOT_EMPTY: Final = CommandError(b"ERR The directory of a checkpoint must not exist, or be empty")
_BUSY: Final = CommandError(b"ERR A checkpoint is being made already")

_STAGED_PAUSE_S = 0.001
_STAGED_S = 60.0

_BUSY_SERVERS: Final[weakref.WeakSet[Server]] = weakref.WeakSet()
"""Servers that are making a checkpoint. One at a time: others would only wait for it, each in a thread."""


def checkpoint_directory(server: Server, name: bytes) -> str:
    """Return the directory that a client means. Errors: CommandError."""
    if not name or b"\0" in name:
        raise _NO_NAME
    root = os.path.realpath(server.config.dir)
    # Links are followed first, so that none leads out of the working directory.
    target = os.path.realpath(os.path.join(root, os.fsdecode(name)))
    database = os.path.realpath(server.path)
    if not _is_below(target, root) or target == database or _is_below(target, database):
        raise _ELSEWHERE
    return target


def _is_below(path: str, folder: str) -> bool:
    return path != folder and os.path.commonpath((path, folder)) == folder


def start_checkpoint(server: Server, target: str, tell: Callable[[CommandError | None], None]) -> None:
    """Commit the turn so far and make a checkpoint in `target`; `tell` is called when that is done or failed.

    It is called in the loop's thread, and before this returns if the server has no loop. Errors: CommandError
    if it cannot begin.
    """
    if server in _BUSY_SERVERS:
        raise _BUSY
    server.commit_now()
    db, loop = server.databases.store.db, server.loop
    if loop is None:
        tell(_error_of(server, _attempt(db, target)))
        return
    _BUSY_SERVERS.add(server)

    def end(future: asyncio.Future[Exception | None]) -> None:
        _BUSY_SERVERS.discard(server)
        if not future.cancelled():
            tell(_error_of(server, future.result()))

    loop.run_in_executor(None, _attempt, db, target).add_done_callback(end)


def _attempt(db: Database, target: str) -> Exception | None:
    """Make the checkpoint; returns what has kept it from being made."""
    deadline_s = time.monotonic() + _STAGED_S
    while True:
        try:
            db.checkpoint(target)
            return None
        except ValueError as error:
            # Writes of the turn that is under way are staged, which they are for moments only.
            if time.monotonic() > deadline_s:
                return error
            time.sleep(_STAGED_PAUSE_S)
        except (OSError, EngineError) as error:
            return error


def _error_of(server: Server, error: Exception | None) -> CommandError | None:
    """Return what the client is answered if there was an error."""
    if error is None:
        return None
    if isinstance(error, FileExistsError):
        return _NOT_EMPTY
    if isinstance(error, PoisonedError):
        server.refuse_writes(error)
    log.error("a checkpoint failed: %s", error)
    what = " ".join(str(error).split())
    return CommandError(b"ERR The checkpoint failed: " + what.encode(errors="replace"))

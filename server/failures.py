"""When the disk or what lies on it fails: what is told to whom, and how the server comes back.

    the log cannot be written   the turn is undone, writes are refused, and once a second it is tried whether
    (disk full, EIO)            the disk takes them again
    a sync fails                the same; but only opening the database anew helps, which is tried as soon as
                                something else can be synced in its directory
    something cannot be read    the command fails; if it may have written, all of its turn is undone, and from
    (corruption, EIO)           then on commands that write have turns of their own: others need not suffer
    a fault of our own          the command fails, and its turn if it may have written

Reading goes on in all cases. Everything here runs in the loop's thread.
"""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING

from lamina.engine import CorruptionError, Database, EngineError, PoisonedError
from lamina.engine.filenames import MANIFEST, temporary_name
from lamina.engine.filesystem import write_all
from lamina.server.blocking import serve_ready
from lamina.server.client import CAREFUL, WRITES_REFUSED
from lamina.server.errors import INTERNAL_ERROR, CommandError

if TYPE_CHECKING:
    from lamina.server.server import Server

log = logging.getLogger(__name__)

_QUEUED_WIRE = b"+QUEUED\r\n"
_PROBE = b"lamina probes whether this disk can sync"


def fail_tick(server: Server, reply: CommandError) -> None:
    """Undo the turn so far, and let `reply` be the answer to every command in it.

    Except to those that have nothing to do with what is undone: MULTI has begun a transaction, SELECT has
    chosen a database, and what is queued is queued. A client that has waited and was served in this turn is
    told the error as well, and waits no more. What was published stays published.
    """
    server.databases.rollback()
    wire = reply.reply
    for client in server.flushing:
        out, staying = client.out, set(client.pushes)
        for i, old in enumerate(out):
            if i not in staying and old != _QUEUED_WIRE and old is not wire:
                out[i] = wire
                server.note_error(reply)
    if server.write_error is None:
        # What others wait for may be there again, as its removal is undone.
        server.databases.offer_all()


def note_failed_commit(server: Server, error: Exception) -> CommandError:
    """Fail the turn whose commit has raised `error`; returns what its commands are answered."""
    if isinstance(error, CorruptionError):
        reply = note_damage(server, error)  # met in a look at what there was: the disk takes writes
    elif isinstance(error, OSError | EngineError):
        server.refuse_writes(error)
        reply = server.misconfigured()
    else:
        log.error("internal error in the commit", exc_info=error)
        reply = INTERNAL_ERROR
    fail_tick(server, reply)
    return reply


def note_damage(server: Server, error: Exception) -> CommandError:
    """Remember that the engine could not read what a command had to; returns the command's answer.

    For a while every command that may write has a turn of its own (dispatch.py, cron.py).
    """
    server.engine_error = str(error)
    server.damaged_ms = server.clock.now_ms
    server.close_gate(CAREFUL)
    return CommandError(b"ERR " + str(error).encode(errors="replace"))


def try_writing(server: Server) -> None:
    """See whether the disk takes writes again, and let everybody write if it does."""
    databases = server.databases
    try:
        db = databases.store.db
        if server.is_reopening or db.stats().write_error is not None:
            probe_sync(db)
            reopen(server)
        databases.probe()
    except (OSError, EngineError) as error:
        server.write_error = str(error)
        return
    log.warning("the database takes writes again")
    server.write_error = None
    databases.is_writable = True
    server.open_gate(WRITES_REFUSED)
    databases.offer_all()
    serve_ready(server)
    server.schedule_tick()


def probe_sync(db: Database) -> None:
    """Sync a file of our own beside the database's. Errors: OSError if the disk does not.

    To open a database is to sync its logs. Where that must fail, the one that is open had better stay so: it
    can be read.
    """
    path = os.path.join(db.path, temporary_name(MANIFEST))
    file = db.fs.create(path)
    try:
        write_all(file, _PROBE)
        file.sync()
    finally:
        file.close()
        with contextlib.suppress(OSError):
            db.fs.remove(path)


def reopen(server: Server) -> None:
    """Close the database and open it again. Nothing may be pending.

    Errors: OSError and EngineError if it cannot be opened. It is then read from as well as may be, and
    `try_writing` goes on trying.
    """
    server.syncer.wait_idle()
    server.is_reopening = True
    try:
        server.databases.store.db.close()
    except PoisonedError as error:
        log.error("closing the database: %s", error)
    try:
        _open(server)
    except (OSError, EngineError) as error:
        server.refuse_writes(error)
        with contextlib.suppress(OSError, EngineError):
            _open(server, read_only=True)
        raise
    server.is_reopening = False
    server.open_gate(CAREFUL)  # what is damaged has perhaps been repaired


def _open(server: Server, *, read_only: bool = False) -> None:
    db = server.open_engine(read_only=read_only)
    try:
        server.databases.attach(db)
    except BaseException:
        with contextlib.suppress(PoisonedError):
            db.close()
        raise

"""SAVE, BGSAVE and BGREWRITEAOF: what there is to do for them when every write is in the log already.

    SAVE, BGSAVE     the memtables become segments and everything is synced: opening then replays nothing
    BGREWRITEAOF     the whole database is compacted: all space that can be given back is

The background's part runs in a thread, which waits for the engine's worker most of the time. One such task
runs at a time, as one child process does in Redis; what is asked for meanwhile is refused or scheduled in
Redis's words. INFO shows their state.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from lamina.engine import ClosedError, Database, EngineError
from lamina.server.errors import CommandError

if TYPE_CHECKING:
    from lamina.server.server import Server

log = logging.getLogger(__name__)

SAVE_IN_PROGRESS: Final = CommandError(b"ERR Background save already in progress")
REWRITE_IN_PROGRESS: Final = CommandError(b"ERR Background append only file rewriting already in progress")
OTHER_TASK: Final = CommandError(
    b"ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in order to "
    b"schedule a BGSAVE whenever possible."
)

_STAGED_PAUSE_S = 0.001
_CLOSE_S = 10.0


class Task:
    """One kind of background work: whether it runs, and how it went the last time."""

    def __init__(self, name: str, work: Callable[[Database], None]) -> None:
        self.name = name
        self._work = work
        self._thread: threading.Thread | None = None
        self._started_s = 0.0
        self.is_scheduled = False
        self.is_ok = True
        self.last_s = -1
        """Seconds the last run took; -1 if there was none."""
        self.runs = 0
        self.failures_in_a_row = 0

    @property
    def is_running(self) -> bool:
        """Whether it is under way."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def current_s(self) -> int:
        """Seconds for which it has been running; -1 if it is not."""
        return int(time.monotonic() - self._started_s) if self.is_running else -1

    def run(self, db: Database) -> None:
        """Do the work in this thread. Errors: none; `is_ok` tells how it went."""
        self._started_s = time.monotonic()
        self.runs += 1
        try:
            self._work(db)
        except (OSError, EngineError) as error:
            if isinstance(error, ClosedError):
                log.warning("%s was broken off: the database has been closed", self.name)
            else:
                log.error("%s failed: %s", self.name, error)
            self.is_ok = False
            self.failures_in_a_row += 1
        else:
            self.is_ok = True
            self.failures_in_a_row = 0
        self.last_s = int(time.monotonic() - self._started_s)

    def start(self, db: Database, *, in_thread: bool) -> None:
        """Begin; without a thread, do all of it at once."""
        self.is_scheduled = False
        if not in_thread:
            self.run(db)
            return
        self._thread = threading.Thread(target=self.run, args=(db,), name=f"lamina-{self.name}", daemon=True)
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for its end."""
        if self._thread is not None:
            self._thread.join(timeout_s)


class Saver:
    """The background work that clients ask for."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.save_task = Task("save", self._flush)
        self.rewrite_task = Task("rewrite", _compact)
        self.last_save_s = int(time.time())
        """When the last save that went well had ended: what LASTSAVE says."""
        self._saved_changes = 0

    @property
    def changes_since_save(self) -> int:
        """Keys changed since the last save."""
        return self._server.databases.changes - self._saved_changes

    @property
    def is_busy(self) -> bool:
        """Whether something runs in the background."""
        return self.save_task.is_running or self.rewrite_task.is_running

    def save(self) -> None:
        """Save now, while everybody waits. Errors: CommandError."""
        if self.save_task.is_running:
            raise SAVE_IN_PROGRESS
        self._server.commit_now()
        self.save_task.run(self._server.databases.store.db)
        if not self.save_task.is_ok:
            raise CommandError(b"ERR the data could not be saved: the server's log has the details")

    def start_save(self, *, may_schedule: bool) -> bool:
        """Save in the background; tells whether that has begun or is only scheduled. Errors: CommandError."""
        if self.save_task.is_running:
            raise SAVE_IN_PROGRESS
        # Inside a transaction nothing is committed before its end.
        in_transaction = self._server.denies_blocking
        if self.is_busy or in_transaction:
            if not (may_schedule or in_transaction):
                raise OTHER_TASK
            self.save_task.is_scheduled = True
            return False
        self._start(self.save_task)
        return True

    def start_rewrite(self) -> bool:
        """Compact in the background; tells whether that has begun or is only scheduled.

        Errors: CommandError.
        """
        if self.rewrite_task.is_running:
            raise REWRITE_IN_PROGRESS
        if self.is_busy or self._server.denies_blocking:
            self.rewrite_task.is_scheduled = True
            return False
        self._start(self.rewrite_task)
        return True

    def run_scheduled(self) -> None:
        """Begin what has been scheduled, if nothing else runs."""
        for task in (self.rewrite_task, self.save_task):
            if task.is_scheduled and not self.is_busy and self._server.write_error is None:
                try:
                    self._start(task)
                except CommandError as error:
                    log.error("the scheduled %s could not begin: %s", task.name, error.release())

    def _start(self, task: Task) -> None:
        server = self._server
        server.commit_now()
        task.start(server.databases.store.db, in_thread=server.loop is not None)

    def _flush(self, db: Database) -> None:
        changes = self._server.databases.changes
        _when_unstaged(db.flush)
        db.sync()
        self._saved_changes = changes
        self.last_save_s = int(time.time())

    def close(self) -> None:
        """Wait for the background's end: the database has been closed, or is to be closed."""
        self.save_task.join(_CLOSE_S)
        self.rewrite_task.join(_CLOSE_S)


def _compact(db: Database) -> None:
    _when_unstaged(db.compact)


def _when_unstaged(action: Callable[[], None]) -> None:
    """Do something that cannot be done while a turn's writes are staged, which they are for moments only."""
    while True:
        try:
            action()
            return
        except ValueError:
            time.sleep(_STAGED_PAUSE_S)

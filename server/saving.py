"""SAVE, BGSAVE and BGREWRITEAOF: a file for Redis, and compaction.

    SAVE, BGSAVE     an RDB file of the database as it is at that moment: for Redis, for backups, for other
                     tools. Nothing of Lamina's depends on it, as every write is logged
    BGREWRITEAOF     the whole database is compacted: all space that can be given back is

SAVE writes the file in this process, while everybody waits. BGSAVE has a process of its own do it
(rdbprocess.py), which reads a checkpoint: hard links in a directory beside the database's.

    <dbdirname>.bgsave/database/        the checkpoint
    <dbdirname>.bgsave/dump.rdb         the file while it is being written

Whatever is killed in between leaves nothing but that directory; it is removed when the server starts, and
before and after every save.

The background's part runs in a thread, which waits for other processes most of the time. One such task runs
at a time, as one child process does in Redis; what is asked for meanwhile is refused or scheduled in Redis's
words. INFO shows their state.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from lamina.engine import ClosedError, Database, EngineError
from lamina.engine.filesystem import FileSystem
from lamina.server.dumping import saving_rules
from lamina.server.errors import CommandError
from lamina.server.rdb.opcodes import REDIS_70
from lamina.server.rdbsaving import FileRules, save_file

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
_RETRY_S = 5
"""How long after a save that failed the next one begins by itself."""


class SaveError(Exception):
    """The process that was to write a file has failed."""


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

    @property
    def since_start_s(self) -> float:
        """Seconds since it was begun last."""
        return time.monotonic() - self._started_s

    def run(self, db: Database, work: Callable[[Database], None] | None = None) -> None:
        """Do the work, or this in its stead, in this thread. Errors: none; `is_ok` tells how it went."""
        self._started_s = time.monotonic()
        self.runs += 1
        try:
            (work or self._work)(db)
        except (OSError, EngineError, SaveError, ValueError) as error:
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
        self.save_task = Task("save", self._save_beside)
        self.rewrite_task = Task("rewrite", _compact)
        self.last_save_s = int(time.time())
        """When the last save that went well had ended: what LASTSAVE says."""
        self._saved_changes = 0
        self._process: subprocess.Popen[str] | None = None
        self._is_stopping = False
        try:
            self._sweep(server.databases.store.db.fs)
        except OSError as error:
            log.warning("what a save has left could not be removed: %s", error)

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
        self.save_task.run(self._server.databases.store.db, self._save_here)
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
        """Begin what has been scheduled, or what is due by the configuration, if nothing else runs."""
        if self._server.config.save:
            self._schedule_due()
        for task in (self.rewrite_task, self.save_task):
            if task.is_scheduled and not self.is_busy and self._server.write_error is None:
                try:
                    self._start(task)
                except CommandError as error:
                    log.error("the scheduled %s could not begin: %s", task.name, error.release())

    def _schedule_due(self) -> None:
        """Schedule a save if one of the points in the configuration has been reached."""
        task = self.save_task
        if task.is_running or not (task.is_ok or task.since_start_s > _RETRY_S):
            return
        elapsed_s, changes = time.time() - self.last_save_s, self.changes_since_save
        for seconds, changes_min in self._server.config.save:
            if elapsed_s > seconds and changes >= max(changes_min, 1):
                if not task.is_scheduled:
                    log.info("%d changes in %d seconds. Saving...", changes_min, seconds)
                task.is_scheduled = True
                return

    def _start(self, task: Task) -> None:
        server = self._server
        server.commit_now()
        task.start(server.databases.store.db, in_thread=server.loop is not None)

    # -- writing a file ----------------------------------------------------------------------------

    @property
    def _directory(self) -> str:
        return f"{self._server.path}.bgsave"

    def _rules(self) -> FileRules:
        config = self._server.config
        values = saving_rules(REDIS_70, compress=config.rdbcompression)
        return FileRules(values, config.rdbchecksum, config.rdb_save_incremental_fsync)

    def _paths(self) -> tuple[str, str]:
        """Return the file's name while it is written, and when it is whole."""
        config = self._server.config
        return os.path.join(self._directory, "dump.rdb"), os.path.join(config.dir, config.dbfilename)

    def _save_here(self, db: Database) -> None:
        """Write the file in this thread, which is the server's."""
        changes = self._server.databases.changes
        self._sweep(db.fs)
        db.fs.make_directory(self._directory)
        try:
            with db.snapshot() as snapshot:
                save_file(db.fs, snapshot.view, *self._paths(), self._rules())
        finally:
            self._sweep_quietly(db.fs)
        self._note_saved(changes)

    def _save_beside(self, db: Database) -> None:
        """Have another process write the file; without a loop to serve meanwhile there is no reason to."""
        if self._server.loop is None:
            self._save_here(db)
            return
        changes = self._server.databases.changes
        self._is_stopping = False
        self._sweep(db.fs)
        db.fs.make_directory(self._directory)
        try:
            checkpoint = os.path.join(self._directory, "database")
            _when_unstaged(lambda: db.checkpoint(checkpoint))
            self._run_process(checkpoint)
        finally:
            self._sweep_quietly(db.fs)
        self._note_saved(changes)

    def _note_saved(self, changes: int) -> None:
        self._saved_changes = changes
        self.last_save_s = int(time.time())

    def _run_process(self, checkpoint: str) -> None:
        """Run the process and wait for its end. Errors: SaveError."""
        temporary, path = self._paths()
        order = {
            "database": checkpoint,
            "temporary": temporary,
            "path": path,
            "rules": self._rules().to_json(),
        }
        # As the engine starts its worker: nothing of the folder we are in is imported.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path or os.curdir for path in sys.path)}
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "lamina.server.rdbprocess"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
        )
        self._process = process
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        if self._is_stopping:  # just now
            process.kill()
        try:
            with contextlib.suppress(OSError):  # it has ended already: its status says why
                process.stdin.write(json.dumps(order) + "\n")
                process.stdin.flush()
            # Its input stays open until it has ended: that it ends tells the process that we have.
            result = process.stdout.read()
            errors = process.stderr.read()
            status = process.wait()
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                with contextlib.suppress(OSError):
                    pipe.close()
            self._process = None
        if status:
            ended = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
            raise SaveError(errors.strip() or f"the process that writes the file has ended: {ended}")
        written = json.loads(result)
        log.info("DB saved on disk: %d keys, %d bytes", written["keys"], written["size_bytes"])

    def _sweep(self, fs: FileSystem) -> None:
        """Remove what a save has left. Errors: OSError."""
        directory = self._directory
        if not fs.exists(directory):
            return
        checkpoint = os.path.join(directory, "database")
        if fs.exists(checkpoint):
            for name in fs.list_directory(checkpoint):
                fs.remove(os.path.join(checkpoint, name))
            fs.remove_directory(checkpoint)
        for name in fs.list_directory(directory):
            fs.remove(os.path.join(directory, name))
        fs.remove_directory(directory)

    def _sweep_quietly(self, fs: FileSystem) -> None:
        try:
            self._sweep(fs)
        except OSError as error:
            log.warning("what a save has left could not be removed: %s", error)

    def stop_save(self) -> None:
        """Break off the save that runs in the background, if one does."""
        self._is_stopping = True
        process = self._process
        if process is not None:
            process.kill()
        self.save_task.join(_CLOSE_S)

    def close(self) -> None:
        """End what runs in the background: the database has been closed, or is to be closed."""
        self.stop_save()
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

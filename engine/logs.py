"""The logs of an open database: the one that is written, those that are sealed and not synced yet, and the
next one.

Syncing is group commit: whoever syncs covers everybody's writes so far, and those who waited for their turn
find that nothing is left to do. Logs are synced in the order in which they were written, and closed once they
are both sealed and durable.

Threads: `append` and `rotate` are called under the database's lock; the rest locks for itself. Lock order:
`_sync_lock`, the database's lock.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from lamina.engine.errors import PoisonedError
from lamina.engine.filesystem import FileSystem
from lamina.engine.wal import WalWriter

_SYNC_INTERVAL_S = 1.0

TakeNumber = Callable[[], int]


class Logs:
    """Owns the write-ahead logs of one database."""

    def __init__(
        self,
        fs: FileSystem,
        directory: str,
        take_number: TakeNumber,
        lock: AbstractContextManager[object],
        *,
        database_salt: int,
    ) -> None:
        self._fs = fs
        self._directory = directory
        self._take_number = take_number
        self._lock = lock
        self._sync_lock = threading.Lock()
        self._sealed: list[WalWriter] = []
        self._spare: WalWriter | None = None
        self.is_closed = False
        self.poison: PoisonedError | None = None
        """Set when an fsync has failed: nothing may be written any more."""
        self.syncs = 0
        self.rotated_bytes = 0
        self._database_salt = database_salt
        self.active = self._create()
        self.append: Callable[[bytes], None] = self.active.append

    @property
    def size_bytes(self) -> int:
        """Size of the active log."""
        return self.active.size_bytes

    @property
    def unsynced_logs(self) -> list[WalWriter]:
        """The sealed logs that are not known to be durable."""
        return self._sealed

    def _create(self) -> WalWriter:
        number = self._take_number()
        return WalWriter(self._fs, self._directory, number, database_salt=self._database_salt)

    def rotate(self) -> int:
        """Seal the active log and begin the next one; returns its number.

        A log that nothing was written to is not sealed: it stays the active one. Errors: OSError if no log
        was prepared and none can be created; the active one then stays.
        """
        old = self.active
        if old.is_unused:
            # Its link, still unwritten, says where the chain goes on. Sealed, it would be a gap in the chain.
            return old.number
        old.seal()
        wal = self._spare if self._spare is not None else self._create()
        self._spare = None
        wal.note_link(old.number, old.size_bytes)
        self._sealed.append(old)
        self.rotated_bytes += old.size_bytes
        self.active = wal
        self.append = wal.append
        return wal.number

    def prepare(self) -> None:
        """Create the next log ahead of time, so that `rotate` never waits for the disk."""
        if self._spare is not None or self.is_closed or self.poison is not None:
            return
        with contextlib.suppress(OSError):
            wal = self._create()
            with self._lock:
                # Meanwhile the writer may have had to create one for itself; numbers must rise along the
                # chain.
                if self._may_keep(wal):
                    self._spare = wal
                    return
            wal.close()
            self._fs.remove(wal.path)

    def _may_keep(self, wal: WalWriter) -> bool:
        # Meanwhile the writer may have had to create a log for itself; numbers must rise along the chain.
        return self._spare is None and wal.number > self.active.number and not self.is_closed

    def sync(self) -> None:
        """Make everything appended so far durable. Errors: PoisonedError."""
        with self._sync_lock:
            self._sync()

    def sync_active(self) -> None:
        """Return when what this thread has appended is durable: group commit. Errors: PoisonedError."""
        wal = self.active
        size_bytes = wal.size_bytes
        with self._sync_lock:
            if wal.durable_size_bytes < size_bytes or self._sealed:
                self._sync()

    def _sync(self) -> None:
        if self.poison is not None:
            raise self.poison
        with self._lock:
            sealed, active = self._sealed[:], self.active
        if not sealed and active.size_bytes <= active.durable_size_bytes:
            return
        try:
            for wal in sealed:  # in order: a log is never durable before its predecessors
                wal.sync()
            active.sync()
        except OSError as error:
            self.poison = PoisonedError(
                f"{self._directory}: an fsync failed ({error}); what reached the disk is unknown, so writes "
                "are refused until the database is reopened"
            )
            raise self.poison from error
        self.syncs += 1
        with self._lock:
            self._drop(sealed)
            active.note_durable(active.number, active.durable_size_bytes)

    def forget(self, numbers: list[int]) -> None:
        """Close sealed logs whose entries are in segments now: nobody has to sync them any more."""
        # Not while somebody syncs them: a file closed under a sync would look like a failed disk.
        with self._sync_lock, self._lock:
            self._drop([wal for wal in self._sealed if wal.number in numbers])

    def _drop(self, logs: list[WalWriter]) -> None:
        for wal in logs:
            if wal in self._sealed:
                self._sealed.remove(wal)
                wal.close()

    def close(self, *, drop_unused: bool = False) -> None:
        """Note what is durable, close all files, and remove the log that was never used.

        `drop_unused`: also the active one if nothing was written to it. The caller knows that an earlier log
        takes its place, and that what its notes would say is known from there.
        """
        with self._sync_lock, self._lock:
            self.is_closed = True
            unused = [] if self._spare is None else [self._spare]
            self._spare = None
            if drop_unused and self.active.is_unused:
                unused.append(self.active)
            elif self.poison is None:
                with contextlib.suppress(OSError):
                    self.active.write_notes()
            for wal in (*self._sealed, self.active):
                wal.close()
        for wal in unused:
            wal.close()
            with contextlib.suppress(OSError):
                self._fs.remove(wal.path)


class Syncable(Protocol):
    """What `sync_every_second` looks after."""

    def tick_sync(self) -> None:
        """Sync, if there is something to sync. Must not raise."""


def sync_every_second(target: weakref.ref[Syncable], closing: threading.Event) -> None:
    """Start a thread that syncs until `closing` is set. It does not keep its target alive."""

    def loop() -> None:
        while not closing.wait(_SYNC_INTERVAL_S):
            this = target()
            if this is None:
                return
            this.tick_sync()
            del this

    threading.Thread(target=loop, name="lamina-sync", daemon=True).start()

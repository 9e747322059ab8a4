"""When the log reaches the disk: appendfsync.

With `always` the turn's clients are held; a thread syncs; when it is done, what they were to be sent is
sent. Turns that end while a sync runs are covered by the next one: group commit. Other clients are served
meanwhile.

With `everysec` the same thread syncs once a second, and nobody waits. It can be changed at any time.
"""

from __future__ import annotations

import logging
import threading
from time import perf_counter_ns, sleep
from typing import TYPE_CHECKING

from lamina.engine import EngineError

if TYPE_CHECKING:
    from lamina.server.client import Client
    from lamina.server.server import Server

log = logging.getLogger(__name__)

_POLL_S = 0.0005


class Syncer:
    """Holds clients until their writes are durable. The thread is started when it is first needed."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._thread: threading.Thread | None = None
        self._wake = threading.Condition()
        self._asked = 0
        """Number of the last turn that waits."""
        self._done = 0
        self._is_closed = False
        self._held: list[Client] = []

    def hold(self, clients: list[Client]) -> None:
        """Send these clients nothing until all that has been written so far is durable."""
        if self._server.loop is None:  # no loop, no thread: tests
            error = self._sync()
            if error is not None:
                self._fail(clients, error)
            return
        asked = self._ask()
        for client in clients:
            if not client.held_sync:
                self._held.append(client)
            client.held_sync = asked

    def sync_soon(self) -> None:
        """Sync what has been written so far, without anybody waiting for it."""
        if self._server.loop is not None and not self.is_syncing:
            self._ask()

    @property
    def is_syncing(self) -> bool:
        """Whether a sync runs or is due."""
        return self._asked != self._done

    def wait_idle(self) -> None:
        """Wait until no sync runs: the database is to be closed."""
        while self.is_syncing:
            sleep(_POLL_S)

    def _ask(self) -> int:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="lamina-sync", daemon=True)
            self._thread.start()
        with self._wake:
            self._asked += 1
            self._wake.notify()
            return self._asked

    def _run(self) -> None:
        server = self._server
        assert server.loop is not None
        while True:
            with self._wake:
                while self._asked == self._done and not self._is_closed:
                    self._wake.wait()
                if self._is_closed:
                    return
                asked = self._asked
            then = perf_counter_ns()
            error = self._sync()
            self._done = asked
            try:
                server.loop.call_soon_threadsafe(self._release, asked, error, perf_counter_ns() - then)
            except RuntimeError:
                return  # the loop has ended

    def _sync(self) -> Exception | None:
        try:
            self._server.databases.store.db.sync()
        except (OSError, EngineError) as error:
            return error
        except Exception as error:
            log.exception("internal error in a sync")
            return error
        return None

    def _release(self, done: int, error: Exception | None, elapsed_ns: int) -> None:
        """Send what waited for sync number `done`, in the loop's thread."""
        server = self._server
        if self._held:
            server.latency.note(b"aof-fsync-always", elapsed_ns, server.clock.now_ms // 1000)
        held, self._held = self._held, []
        if error is not None:
            # Whoever waits for a later sync than this one has been written to the same disk.
            self._fail(held, error)
            return
        for client in held:
            wires = []
            while client.held and client.held[0][0] <= done:
                wires.append(client.held.popleft()[1])
            if client.held_sync <= done:
                client.held_sync = 0
            else:
                # Taking part in later turns must not put off what belongs to this one.
                self._held.append(client)
            wire = b"".join(wires)
            client.held_bytes -= len(wire)
            connection = client.connection
            if connection is None:
                continue
            if wire:
                server.stats.output_bytes += len(wire)
                connection.transport.write(wire)
            if client.closing and not client.held_sync:
                server.close_client(client)
            elif client.pending:
                server.resume(client)

    def _fail(self, clients: list[Client], error: Exception) -> None:
        """End the connections of those whose writes may survive or not: no reply is right.

        Redis ends the process here.
        """
        self._server.refuse_writes(error)
        for client in clients:
            client.out.clear()
            client.held.clear()
            client.held_bytes = client.held_sync = 0
            if client.connection is not None:
                self._server.kill_client(client)

    def finish(self) -> None:
        """Stop the thread, and send what has waited for the disk: the server ends."""
        self.close()
        if self._held:
            self._release(self._asked, self._sync(), 0)

    def close(self) -> None:
        """Stop the thread."""
        with self._wake:
            self._is_closed = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()

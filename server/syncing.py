"""appendfsync always: replies that wait for the disk.

The turn's clients are held; a thread syncs; when it is done, what they were to be sent is sent. Turns that
end while a sync runs are covered by the next one: group commit. Other clients are served meanwhile.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from lamina.engine import EngineError

if TYPE_CHECKING:
    from lamina.server.client import Client
    from lamina.server.server import Server

log = logging.getLogger(__name__)


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
            self._server.databases.store.db.sync()
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="lamina-always", daemon=True)
            self._thread.start()
        with self._wake:
            self._asked += 1
            asked = self._asked
            self._wake.notify()
        for client in clients:
            if not client.held_sync:
                self._held.append(client)
            client.held_sync = asked

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
            error: Exception | None = None
            try:
                server.databases.store.db.sync()
            except (OSError, EngineError) as failure:
                error = failure
            self._done = asked
            try:
                server.loop.call_soon_threadsafe(self._release, asked, error)
            except RuntimeError:
                return  # the loop has ended

    def _release(self, done: int, error: Exception | None) -> None:
        """Send what waited for sync number `done`, in the loop's thread."""
        server = self._server
        if error is not None:
            server.refuse_writes(error)
        held, self._held = self._held, []
        for client in held:
            if client.held_sync > done:
                self._held.append(client)
                continue
            client.held_sync = 0
            wire = b"".join(client.held)
            client.held.clear()
            connection = client.connection
            if connection is None:
                continue
            if error is not None:
                # Whether the writes survive is unknown: no reply is right. Redis ends the process here.
                server.kill_client(client)
                continue
            if wire:
                server.stats.output_bytes += len(wire)
                connection.transport.write(wire)
            if client.closing:
                server.close_client(client)

    def close(self) -> None:
        """Stop the thread."""
        with self._wake:
            self._is_closed = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()

"""What happens by itself, ten times a second and once a second."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from lamina.engine import EngineError
from lamina.server.expiry import expire_due

if TYPE_CHECKING:
    from lamina.server.server import Server

log = logging.getLogger(__name__)

INTERVAL_S = 0.1
_AT_ONCE_S = 0.001
_TURNS_PER_S = 10


class Cron:
    """The server's periodic work."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._turn = 0
        self.is_expiring = True
        """DEBUG SET-ACTIVE-EXPIRE turns it off."""

    def start(self) -> None:
        """Begin; the server's loop runs it."""
        self._schedule(INTERVAL_S)

    def _schedule(self, delay_s: float) -> None:
        loop = self._server.loop
        assert loop is not None
        loop.call_later(delay_s, self._run)

    def _run(self) -> None:
        try:
            is_done = self.run()
        except Exception:  # one turn's fault must not end all the turns to come
            log.exception("periodic work failed")
            is_done = True
        self._schedule(INTERVAL_S if is_done else _AT_ONCE_S)

    def run(self) -> bool:
        """Do one turn's work; tells whether nothing is left that should be done at once."""
        server = self._server
        server.clock.tick()
        self._turn += 1
        is_done = True
        if self.is_expiring and server.write_error is None:
            try:
                is_done = expire_due(server.databases)
            except (OSError, EngineError) as error:
                server.note_engine_error(error)
                server.databases.rollback()
            server.schedule_tick()
        now_ms = server.clock.now_ms
        stats = server.stats
        stats.samples.append((now_ms, server.commands_processed, stats.input_bytes, stats.output_bytes))
        if self._turn % _TURNS_PER_S == 0:
            self._each_second(now_ms)
        return is_done

    def _each_second(self, now_ms: int) -> None:
        server = self._server
        if server.write_error is not None:
            server.try_writing()
        timeout_ms = server.config.timeout * 1000
        if timeout_ms:
            for client in list(server.clients.values()):
                is_idle = now_ms - client.last_ms > timeout_ms
                if is_idle and client.wait is None and not client.subscriptions and not client.is_monitor:
                    server.close_client(client)

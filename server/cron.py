"""What happens by itself: `hz` times a second, and once a second."""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter_ns
from typing import TYPE_CHECKING

from lamina.engine import EngineError
from lamina.server.blocking import serve_ready
from lamina.server.client import CAREFUL, PAUSED
from lamina.server.expiry import Damaged, expire_due

if TYPE_CHECKING:
    from lamina.server.server import Server

log = logging.getLogger(__name__)

_AT_ONCE_S = 0.001
_SAMPLE_MS = 100
_CAREFUL_MS = 60_000
"""How long after damage has been met last nothing is taken to be damaged any more: until it is met again."""
_AFTER_FAILURE_MS = 1000
"""How long active expiry rests when it has met what cannot be read."""


class Cron:
    """The server's periodic work."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._sample_ms = 0
        self._second_ms = 0
        self._expiring_again_ms = 0
        self._timer: asyncio.TimerHandle | None = None
        self._damaged: Damaged = set()
        self.is_expiring = True
        """DEBUG SET-ACTIVE-EXPIRE turns it off."""

    def start(self) -> None:
        """Begin; the server's loop runs it."""
        self._schedule(1 / self._server.config.hz)

    def _schedule(self, delay_s: float) -> None:
        loop = self._server.loop
        assert loop is not None
        self._timer = loop.call_later(delay_s, self._run)

    def stop(self) -> None:
        """End: the database is to be closed."""
        if self._timer is not None:
            self._timer.cancel()

    def _run(self) -> None:
        try:
            is_done = self.run()
        except Exception:  # one turn's fault must not end all the turns to come
            log.exception("periodic work failed")
            is_done = True
        self._schedule(1 / self._server.config.hz if is_done else _AT_ONCE_S)

    def run(self) -> bool:
        """Do one turn's work; tells whether nothing is left that should be done at once."""
        server = self._server
        if server.scripting.is_busy:
            return True  # its turn is not over: nothing may be committed, nor anything else be written
        server.clock.tick()
        is_done = True
        now_ms = server.clock.now_ms
        is_held = server.write_error is not None or server.gate & PAUSED
        if self.is_expiring and not is_held and now_ms >= self._expiring_again_ms:
            server.end_tick()  # should this fail, it is not clients' commands that are undone
            then = perf_counter_ns()
            try:
                is_done = expire_due(server.databases, self._damaged)
            except (OSError, EngineError) as error:
                log.error("active expiry failed: %s", error)
                server.note_damage(error)
                server.databases.rollback()
                self._expiring_again_ms = now_ms + _AFTER_FAILURE_MS
            if server.databases.ready:
                serve_ready(server)  # who reads a group of a stream that has expired is told
            elapsed_ns = perf_counter_ns() - then
            server.stats.expiry_ns += elapsed_ns
            server.stats.expiry_cycles_cut += not is_done
            server.latency.note(b"expire-cycle", elapsed_ns, server.clock.now_ms // 1000)
            server.schedule_tick()
        server.saver.run_scheduled()
        if now_ms - self._sample_ms >= _SAMPLE_MS:
            self._sample_ms = now_ms
            stats = server.stats
            stats.samples.append((now_ms, server.commands_processed, stats.input_bytes, stats.output_bytes))
        if now_ms - self._second_ms >= 1000:
            self._second_ms = now_ms
            self._each_second(now_ms)
        return is_done

    def _each_second(self, now_ms: int) -> None:
        server = self._server
        if server.write_error is not None:
            server.try_writing()
        elif server.config.appendfsync == "everysec":
            server.syncer.sync_soon()
        if server.gate & CAREFUL and now_ms - server.damaged_ms > _CAREFUL_MS:
            server.open_gate(CAREFUL)
            self._damaged.clear()
        for client in list(server.clients.values()):
            connection = client.connection
            # Who is written to no more may be above the soft limit all the same.
            if connection is not None and not connection.is_writable:
                server.check_output_limit(client, connection)
        timeout_ms = server.config.timeout * 1000
        if timeout_ms:
            for client in list(server.clients.values()):
                is_idle = now_ms - client.last_ms > timeout_ms
                if is_idle and client.wait is None and not client.subscriptions and not client.is_monitor:
                    server.kill_client(client)  # what it has not read by now it never will

"""The server: clients, databases, and the tick that ties them together.

All that arrives in one turn of the event loop is run at once and its replies are kept. At the end of the turn
one commit writes one frame of the log for all clients, and only then are replies sent, one write per client.
So nothing is acknowledged that a kill -9 can lose, and the cost of a commit is shared. With
``appendfsync always`` the replies of a turn that wrote wait for an fdatasync in a thread, while other clients
are served on.

If the commit fails, all of the turn is undone and everybody who had a part in it is told: also those who only
read, for what they read may not be so.

One thread, but for the syncing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import lamina.engine as engine
from lamina.engine import EngineError
from lamina.server import applying, failures
from lamina.server.acl.users import Users
from lamina.server.blocking import Waits, serve_ready, stop_waiting, time_out
from lamina.server.client import PAUSED, SERVER_WIDE, SILENT, WRITES_REFUSED, Client
from lamina.server.clock import Clock
from lamina.server.cron import Cron
from lamina.server.cursors import Cursors
from lamina.server.databases import Databases
from lamina.server.errors import NOT_IN_TRANSACTION, CommandError, write_failed
from lamina.server.keyspace import Keyspace
from lamina.server.latency import LatencyMonitor
from lamina.server.limits import LIMITS
from lamina.server.memoryusage import resident_bytes
from lamina.server.monitoring import Monitors
from lamina.server.pubsub import PubSub
from lamina.server.redaction import redacted
from lamina.server.registry import COMMANDS, Command, all_commands
from lamina.server.saving import Saver
from lamina.server.scripting.engine import Scripting
from lamina.server.slowlog import SlowLog
from lamina.server.stats import Stats
from lamina.server.syncing import Syncer
from lamina.server.tracking import Tracking

if TYPE_CHECKING:
    from lamina.server.config import Config
    from lamina.server.connection import Connection

log = logging.getLogger(__name__)

_SCRIPTS = frozenset((b"eval", b"evalsha", b"fcall"))
"""Commands that may write although they are not flagged so."""
_READING_SCRIPTS = frozenset((b"eval_ro", b"evalsha_ro", b"fcall_ro"))

_MEMTABLE_BYTES_MAX = 64 << 20
"""What a memtable takes at most unless memtable-size says otherwise. A larger one saves little compaction,
and costs pauses (the interpreter copies its dict when that grows: 60 ms at 512 MB) and a longer recovery."""

_ERROR_CODES_MAX = 128
"""Codes of errors that are counted each by itself: scripts can invent any number of them."""
_OTHER_ERRORS = b"ERRORSTATS_OVERFLOW"

_CACHE_SHARE = 4
"""The part of `memory` that decoded records may take is one of so many; the engine has the rest."""


class Server:
    """A server over one database directory. `listening.py` gives it sockets and a loop."""

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock | None = None,
        engine_options: dict[str, Any] | None = None,
    ) -> None:
        self.config = config
        LIMITS.follow(config)
        self.clock = Clock() if clock is None else clock
        self.started_ms = self.clock.now_ms
        self.clients: dict[int, Client] = {}
        self.users = Users(self)
        self.run_id = os.urandom(20).hex()
        self.replication_id = os.urandom(20).hex()
        self._engine_options = engine_options or {}
        self.databases = Databases(
            self.open_engine(),
            count=config.databases,
            clock=self.clock,
            cache_bytes=config.memory // _CACHE_SHARE,
        )
        self.databases.on_change = self._on_change
        self.pubsub = PubSub()
        self.databases.on_event = self.pubsub.publish_event
        self.monitors = Monitors(self)
        self.tracking = Tracking(self)
        self.databases.on_flush = self.tracking.note_flush
        self.stats = Stats()
        self.slowlog = SlowLog()
        self.latency = LatencyMonitor()
        self.cursors = Cursors()
        self.slow_ns = 0
        self.gate = 0
        """Gates that are closed for all clients."""
        self.running: Client | None = None
        """The client whose command runs."""
        self.is_in_script = False
        """Whether what runs is called by a script: MONITOR shows that."""
        self.waits = Waits()
        self.flushing: list[Client] = []
        """Clients that take part in this turn."""
        self.is_tick_due = False
        self.denies_blocking = False
        """Whether a transaction or script runs, in which nothing waits."""
        self.paused_until_ms = 0
        """Until when CLIENT PAUSE is in force; 0: it is not."""
        self.is_pause_for_writes = False
        self.is_stalled = False
        """Whether commands that write wait because the engine's flushes and merges have fallen behind."""
        self.is_migrating = False
        """Whether those who write are held back until keys have been handed over to another server."""
        self.write_error: str | None = None
        """Why the disk takes no writes; None when it does."""
        self.is_reopening = False
        """Whether the database has been closed and could not be opened again so far."""
        self.engine_error: str | None = None
        """The last error the engine reported when reading."""
        self.damaged_ms = 0
        """When that was."""
        self.on_shutdown: Callable[[], None] = lambda: None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.syncer = Syncer(self)
        self.saver = Saver(self)
        self.scripting = Scripting(self)
        self.cron = Cron(self)
        self.write_high_bytes = 0
        """What may wait for a client before it is looked at closer; it follows client-output-buffer-limit."""
        self._resuming: list[Client] = []
        self._last_client_id = 0
        self._timeout: asyncio.TimerHandle | None = None
        self._timeout_ms = 0
        applying.follow_config(self)
        config.freeze()
        self.startup_bytes = resident_bytes()
        """Memory of the process before it has served anybody."""

    def apply_config(self) -> None:
        """Take over what the configuration says of hot paths."""
        applying.apply_config(self)

    # -- the engine --------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """The database directory."""
        return os.path.join(self.config.dir, self.config.dbdirname)

    def open_engine(self, **changes: Any) -> engine.Database:
        """Open the database; `changes` go over the configuration. Errors: as `engine.open`."""
        config = self.config
        memory_bytes = max(config.memory - config.memory // _CACHE_SHARE, 64 * 1024)
        # Smaller ones are the engine's to choose.
        memtable_bytes = _MEMTABLE_BYTES_MAX if memory_bytes > 6 * _MEMTABLE_BYTES_MAX else None
        options: dict[str, Any] = {
            # The server syncs by itself, so that appendfsync can be changed: see cron.py and syncing.py.
            "sync": "no",
            "memory": memory_bytes,
            "memtable_size_bytes": config.memtable_size or memtable_bytes,
            "block_size_bytes": config.block_size,
            "segment_size_bytes": config.segment_size,
            "compression": config.compression,
            "filter_bits_per_key": config.filter_bits,
            "level_runs_max": config.level_runs,
            "rate_limit_bytes_per_s": config.rate_limit,
            "open_files_max": config.open_files,
        }
        db = engine.open(self.path, **options | self._engine_options | changes)
        db.waits_for_room = False  # it is not the loop that waits, but those who write: see `_hold_writers`
        return db

    def reopen(self) -> None:
        """Close the database and open it again: DEBUG RELOAD.

        Errors: CommandError if what has been written cannot be committed first; as `failures.reopen`.
        """
        if self.write_error is None:
            self.commit_now()
        failures.reopen(self)

    # -- the tick ----------------------------------------------------------------------------------

    def schedule_tick(self) -> None:
        """See to it that the turn that is under way is ended."""
        if not self.is_tick_due:
            self.is_tick_due = True
            if self.loop is not None:
                self.loop.call_soon(self.end_tick)

    def note_output(self, client: Client) -> None:
        """A client takes part in this turn."""
        self.flushing.append(client)
        if not self.is_tick_due:
            self.schedule_tick()

    def end_tick(self) -> CommandError | None:
        """Commit what the turn has changed, then send its replies. Returns what is sent in their place if the
        commit fails."""
        self.is_tick_due = False
        databases = self.databases
        failure = None
        # A script that others need not wait for is in the middle of its turn: that is not over, and what is
        # sent now has nothing to do with it.
        is_amid = self.scripting.is_busy
        has_written = not is_amid and databases.has_changes
        if has_written:
            then = time.perf_counter_ns()
            try:
                databases.commit()
            except Exception as error:
                has_written = False
                failure = failures.note_failed_commit(self, error)
            if self.latency.threshold_ms:
                self.latency.note(b"commit", time.perf_counter_ns() - then, self.clock.now_ms // 1000)
        elif not is_amid:
            databases.trim_caches()
        if self.tracking.is_broadcast_due:
            self.tracking.broadcast()
        flushing = self.flushing
        self.flushing = []
        if has_written and not self.is_stalled:
            self._hold_writers()
        if has_written and self.config.appendfsync == "always":
            self.syncer.hold(flushing)
        output_bytes = 0
        for client in flushing:
            out = client.out
            if out:
                wire = out[0] if len(out) == 1 else b"".join(out)
                out.clear()
                client.out_bytes = 0
                if client.pushes:
                    client.pushes.clear()
                connection = client.connection
                if client.held_sync:
                    client.held.append((client.held_sync, wire))
                    client.held_bytes += len(wire)
                elif connection is not None:
                    output_bytes += len(wire)
                    connection.transport.write(wire)
                    if not connection.is_writable:
                        self.check_output_limit(client, connection)
            if client.closing and not client.held_sync:
                self.close_client(client)
        self.stats.output_bytes += output_bytes
        if failure is not None and databases.ready:
            serve_ready(self)  # in a turn of its own: the one that has failed is over
            self.schedule_tick()
        return failure

    def commit_now(self) -> None:
        """End the turn before the command that runs: for those that hand the data to others, as SAVE does.

        Errors: CommandError, after the turn has been undone; also inside a transaction or a script, which is
        committed as a whole.
        """
        if self.denies_blocking:
            raise NOT_IN_TRANSACTION
        failure = self.end_tick()
        client = self.running
        if client is not None:  # its further replies belong to the next turn
            client.silent_from = 0
            self.note_output(client)
            if not client.gate & SILENT:
                client.pushes.append(0)  # what the command has to say holds, whatever comes
        if failure is not None:
            raise failure

    def fail_tick(self, reply: CommandError) -> None:
        """Undo the turn so far, and let this be the answer to every command in it."""
        failures.fail_tick(self, reply)

    def refuse_writes(self, error: Exception) -> None:
        """Let no command write until `try_writing` has found that the disk takes it again."""
        log.error("the database takes no writes: %s", error)
        self.write_error = str(error)
        self.databases.is_writable = False
        self.close_gate(WRITES_REFUSED)

    def try_writing(self) -> None:
        """See whether the disk takes writes again."""
        failures.try_writing(self)

    def misconfigured(self) -> CommandError:
        """Return the error for a write that the disk refuses."""
        return write_failed((self.write_error or "").encode(errors="replace"))

    # -- clients -----------------------------------------------------------------------------------

    @property
    def needs_password(self) -> bool:
        """Whether clients have to authenticate."""
        return self.users.needs_login

    @property
    def is_protected(self) -> bool:
        """Whether only local clients are let in."""
        return bool(self.config.protected_mode) and self.users.default.is_passless

    def take_client_id(self) -> int:
        """Return the id of a new client."""
        self._last_client_id += 1
        return self._last_client_id

    def add_client(self, client: Client) -> None:
        """Take on a client."""
        self.clients[client.id] = client
        self.stats.connections += 1

    def remove_client(self, client: Client) -> None:
        """Forget a client whose connection has ended."""
        self.clients.pop(client.id, None)
        if client.wait is not None:
            stop_waiting(client.wait)
        client.pending.clear()
        client.closing = True
        client.connection = None
        self.unwatch(client)
        self.pubsub.unsubscribe_all(client)
        self.monitors.remove(client)
        self.tracking.disable(client)

    def close_client(self, client: Client) -> None:
        """End a client's connection once what was written to it has left."""
        connection = client.connection
        client.closing = True
        if connection is not None:
            connection.transport.close()

    def kill_client(self, client: Client) -> None:
        """End a client's connection at once."""
        connection = client.connection
        self.remove_client(client)
        if connection is not None:
            connection.transport.abort()

    def end_greedy(self, client: Client) -> None:
        """End the connection of a client that has sent more of a request, or queued more for EXEC, than
        client-query-buffer-limit lets it."""
        log.warning("client %s closed: it has sent too much at once", client.address)
        self.stats.query_limit_disconnections += 1
        self.kill_client(client)

    def check_output_limit(self, client: Client, connection: Connection) -> None:
        """End the connection of a client that has too much waiting for it."""
        name = "pubsub" if client.subscriptions or client.is_monitor else "normal"
        hard, soft, soft_s = self.config.client_output_buffer_limit[name]
        waiting_bytes = connection.transport.get_write_buffer_size()
        if not soft or waiting_bytes < soft:
            connection.soft_limit_ms = 0
        elif not connection.soft_limit_ms:
            connection.soft_limit_ms = self.clock.now_ms
        is_over_soft = (
            connection.soft_limit_ms and self.clock.now_ms - connection.soft_limit_ms > soft_s * 1000
        )
        if (hard and waiting_bytes > hard) or is_over_soft:
            log.warning("client %s closed: %d bytes wait for it", client.address, waiting_bytes)
            self.stats.output_limit_disconnections += 1
            self.kill_client(client)

    def resume(self, client: Client) -> None:
        """Let a client's waiting commands run, in a turn of their own."""
        if not self._resuming and self.loop is not None:
            self.loop.call_soon(self.run_resumed)
        self._resuming.append(client)

    def run_resumed(self) -> None:
        """Run what has waited."""
        resuming, self._resuming = self._resuming, []
        self.clock.tick()
        for client in resuming:
            if client.connection is not None:
                client.connection.run_pending()
        self.schedule_tick()

    def close_gate(self, gate: int) -> None:
        """Look closer at every client's commands from now on."""
        self.gate |= gate
        for client in self.clients.values():
            client.gate |= gate

    def open_gate(self, gate: int) -> None:
        """The reason of `close_gate` is gone."""
        assert gate & SERVER_WIDE
        self.gate &= ~gate
        for client in self.clients.values():
            client.gate &= ~gate

    # -- pauses, stalls and timeouts ---------------------------------------------------------------

    def pause(self, until_ms: int, *, writes_only: bool) -> None:
        """Let commands wait, all or those that may write. A longer or stricter pause is not weakened."""
        if self.paused_until_ms:
            until_ms = max(until_ms, self.paused_until_ms)
            writes_only = writes_only and self.is_pause_for_writes
        self.paused_until_ms = until_ms
        self.is_pause_for_writes = writes_only
        self.close_gate(PAUSED)
        self.schedule_timeout(until_ms)

    def unpause(self) -> None:
        """End the pause."""
        self.paused_until_ms = 0
        self._let_go()

    def _let_go(self) -> None:
        """Let commands run that have waited, unless there is another reason for it."""
        if self.paused_until_ms or self.is_stalled or self.is_migrating:
            return
        self.open_gate(PAUSED)
        for client in list(self.clients.values()):
            if client.pending and client.wait is None:
                self.resume(client)

    def is_paused_for(self, client: Client, command: Command) -> bool:
        """Tell whether a command has to wait for the end of the pause or stall."""
        if self.paused_until_ms and (not self.is_pause_for_writes or "may_replicate" in command.flags):
            return True
        return self.may_write(client, command) or command.wire_name in _SCRIPTS

    def _hold_writers(self) -> None:
        """Let commands that write wait if the engine has fallen behind, for as long as it asks: it would
        block everybody. If it will not catch up, as on a full disk, they are refused."""
        try:
            delay_s = self.databases.store.db.room_delay_s()
        except (OSError, EngineError) as error:
            self.refuse_writes(error)
            delay_s = 0.0
        if delay_s and self.loop is not None:
            if not self.is_stalled:
                self.is_stalled = True
                self.close_gate(PAUSED)
            self.loop.call_later(delay_s, self._hold_writers)
        elif self.is_stalled:
            self.is_stalled = False
            self._let_go()

    def hold_writers(self) -> None:
        """Let commands that write wait until `release_writers`: MIGRATE hands over what must not change."""
        self.is_migrating = True
        self.close_gate(PAUSED)

    def release_writers(self) -> None:
        """The keys have been handed over."""
        self.is_migrating = False
        self._let_go()

    def may_write(self, client: Client, command: Command) -> bool:
        """Tell whether a command writes, by itself or as EXEC."""
        if command.wire_name != b"exec":
            return command.is_write
        return any(queued.is_write for queued, _ in client.queue or ())

    def has_scripts(self, queue: list[tuple[Command, list[bytes]]]) -> bool:
        """Tell whether commands that are queued for EXEC may take long: scripts are among them."""
        return any(
            queued.wire_name in _SCRIPTS or queued.wire_name in _READING_SCRIPTS for queued, _ in queue
        )

    def schedule_timeout(self, deadline_ms: int) -> None:
        """Wake up at a time, to end waits or a pause. 0 is never."""
        if not deadline_ms or self.loop is None:
            return
        if self._timeout is not None:
            if self._timeout_ms <= deadline_ms:
                return
            self._timeout.cancel()
        self._timeout_ms = deadline_ms
        delay_s = max(deadline_ms - time.time_ns() // 1_000_000, 0) / 1000
        self._timeout = self.loop.call_later(delay_s, self._on_timeout)

    def _on_timeout(self) -> None:
        self._timeout = None
        self.clock.tick()
        now_ms = self.clock.now_ms
        time_out(self, now_ms)
        if self.paused_until_ms:
            if self.paused_until_ms <= now_ms:
                self.unpause()
            else:
                self.schedule_timeout(self.paused_until_ms)
        self.schedule_timeout(self.waits.next_deadline_ms)

    # -- observers ---------------------------------------------------------------------------------

    def _on_change(self, keyspace: Keyspace, key: bytes) -> None:
        """A key has changed: transactions that watch it will fail, and copies that clients hold are void."""
        for client in keyspace.watched.get(key, ()):
            client.dirty_transaction = True
        if self.tracking.clients:
            self.tracking.note_change(key)

    def watch(self, client: Client, key: bytes) -> None:
        """Let a client's next EXEC fail if `key` changes before it."""
        keyspace = client.keyspace
        if (keyspace, key) in client.watched:
            return
        keyspace.find(key)  # one that has expired already is gone now, not later
        client.watched[keyspace, key] = None
        keyspace.watched.setdefault(key, []).append(client)
        keyspace.is_observed = True

    def unwatch(self, client: Client) -> None:
        """Forget what a client watches."""
        for keyspace, key in client.watched:
            watchers = keyspace.watched[key]
            watchers.remove(client)
            if not watchers:
                del keyspace.watched[key]
                keyspace.is_observed = bool(keyspace.watched or self.tracking.clients)
        client.watched.clear()
        client.dirty_transaction = False

    # -- counting ----------------------------------------------------------------------------------

    @property
    def commands_processed(self) -> int:
        """Commands run since the statistics were reset."""
        return sum(
            command.calls + sum(sub.calls for sub in command.subcommands.values())
            for command in COMMANDS.values()
        )

    def reset_statistics(self) -> None:
        """Begin to count anew: CONFIG RESETSTAT."""
        databases = self.databases
        self.stats.reset()
        self.stats.expired_keys_base = databases.expired_keys
        self.stats.expired_fields_base = databases.expired_fields
        for keyspace in databases.keyspaces:
            keyspace.hits = keyspace.misses = 0
        for command in all_commands():
            command.reset_statistics()

    def note_error(self, error: CommandError) -> None:
        """Count an error reply."""
        code = error.code
        errors = self.stats.errors
        if code not in errors and len(errors) >= _ERROR_CODES_MAX:
            code = _OTHER_ERRORS
        errors[code] = errors.get(code, 0) + 1

    def note_damage(self, error: Exception) -> CommandError:
        """Remember what the engine could not read, for INFO; returns what its command is answered."""
        return failures.note_damage(self, error)

    def note_slow(self, client: Client, command: Command, argv: list[bytes], elapsed_us: int) -> None:
        """Log a command that took long, by either of two measures."""
        config, now_s = self.config, self.clock.now_ms // 1000
        if self.latency.threshold_ms:
            name = b"fast-command" if "fast" in command.flags else b"command"
            self.latency.note(name, elapsed_us * 1000, now_s)
        is_slow = 0 <= config.slowlog_log_slower_than <= elapsed_us
        if is_slow and "skip_slowlog" not in command.flags:
            self.slowlog.add(redacted(argv), elapsed_us, client, now_s, config.slowlog_max_len)

    # -- the end -----------------------------------------------------------------------------------

    def close(self) -> None:
        """Commit, close the database, stop the threads. Connections have been ended."""
        self.scripting.abort()
        if self._timeout is not None:
            self._timeout.cancel()
        self.cron.stop()
        try:
            if self.write_error is None:
                self.databases.commit()
        finally:
            self.syncer.close()
            try:
                self.databases.store.db.close()
            finally:
                self.saver.close()

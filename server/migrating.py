"""MIGRATE: handing keys over to another server.

Redis does it while everybody waits, which makes it atomic: a key is here or there. Here the talking happens
in a thread, and those who only read are served on; those who write wait until the keys have been handed over
and removed, as they do while the engine has fallen behind (`Server.hold_writers`). So nothing changes
meanwhile. Inside a transaction or a script, amid which nobody else may run, everybody waits as in Redis.

Keys are read, packed and sent one after the other, so that one payload is in memory at a time, and the other
side never has more than a window's replies waiting for us. What has been acknowledged is removed, also if the
connection then breaks.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from lamina.engine import EngineError
from lamina.server import events
from lamina.server.blocking import NOTHING, Wait, end_wait, wait_for
from lamina.server.dumping import dump_raw
from lamina.server.errors import CommandError
from lamina.server.rdbvalues import Source, expires_ms_of
from lamina.server.replies import OK

if TYPE_CHECKING:
    from lamina.server.client import Client
    from lamina.server.keyspace import Keyspace
    from lamina.server.server import Server

NOT_CONNECTED: Final = CommandError(b"IOERR error or timeout connecting to the client")
NOT_WRITTEN: Final = CommandError(b"IOERR error or timeout writing to target instance")
NOT_READ: Final = CommandError(b"IOERR error or timeout reading to target instance")

_WINDOW_KEYS: Final = 64
_WINDOW_BYTES: Final = 1 << 20
"""Keys, and bytes of them, that are sent before their replies are read."""

_REPLY_BYTES_MAX: Final = 64 * 1024
_RECEIVE_BYTES: Final = 64 * 1024
_TIMEOUT_MS_MAX: Final = (1 << 31) - 1
_BUSY_DELAY_S: Final = 0.01

Item = tuple[bytes, int, bytes]
"""Key, time to live in ms (0: for ever), payload."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a MIGRATE asks for. `credentials` are AUTH's arguments, none if there is nothing to say."""

    host: bytes
    port: int
    database: int
    timeout_ms: int
    keys: tuple[bytes, ...]
    copies: bool = False
    replaces: bool = False
    credentials: tuple[bytes, ...] = ()


@dataclass(slots=True)
class Outcome:
    """What has become of an order: the keys that the target has taken, and the first thing to go wrong."""

    taken: list[bytes] = field(default_factory=list)
    error: Exception | None = None


class _TransferError(Exception):
    """The connection failed; `reply` says at what."""

    def __init__(self, reply: CommandError) -> None:
        super().__init__(reply)
        self.reply = reply


# -- talking -----------------------------------------------------------------------------------------


def transfer(order: Order, items: Iterator[Item]) -> Outcome:
    """Send keys to the target. Errors: none, they are in the outcome."""
    outcome = Outcome()
    try:
        target = _Target(order)
        try:
            target.introduce_self()
            _send_all(order, target, items, outcome)
        finally:
            target.close()
    except _TransferError as error:
        # What the target has said of an earlier key tells more.
        outcome.error = outcome.error or error.reply
    except (CommandError, EngineError, OSError, ValueError) as error:
        outcome.error = outcome.error or error
    return outcome


def _send_all(order: Order, target: _Target, items: Iterator[Item], outcome: Outcome) -> None:
    options = (b"REPLACE",) if order.replaces else ()
    sent: list[bytes] = []
    window_bytes = 0
    for key, ttl_ms, payload in items:
        target.send(b"RESTORE", key, b"%d" % ttl_ms, payload, *options)
        sent.append(key)
        window_bytes += len(payload)
        if len(sent) >= _WINDOW_KEYS or window_bytes >= _WINDOW_BYTES:
            _take_replies(target, sent, outcome)
            window_bytes = 0
    _take_replies(target, sent, outcome)


def _take_replies(target: _Target, sent: list[bytes], outcome: Outcome) -> None:
    """Read a reply for each key that has been sent."""
    for key in sent:
        try:
            target.expect_fine()
        except CommandError as error:
            outcome.error = outcome.error or error.release()
        else:
            outcome.taken.append(key)
    sent.clear()


class _Target:
    """A connection to the server that takes the keys. Errors: _TransferError; CommandError for its errors."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._received = b""
        timeout_s = min(order.timeout_ms, _TIMEOUT_MS_MAX) / 1000
        self._timeout_s = timeout_s
        try:
            self._socket = socket.create_connection((order.host.decode(), order.port), timeout_s)
        except ConnectionRefusedError:
            # To Redis, which connects without waiting for it, that is a failed write.
            raise _TransferError(NOT_WRITTEN) from None
        except (OSError, ValueError):
            raise _TransferError(NOT_CONNECTED) from None
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def introduce_self(self) -> None:
        """Authenticate, and select the database. Nothing is sent to a target that refuses either."""
        order = self._order
        if order.credentials:
            self.send(b"AUTH", *order.credentials)
            self.expect_fine()
        self.send(b"SELECT", b"%d" % order.database)
        self.expect_fine()

    def send(self, *words: bytes) -> None:
        """Send a command."""
        pieces = [b"*%d\r\n" % len(words)]
        for word in words:
            pieces += (b"$%d\r\n" % len(word), word, b"\r\n")
        try:
            self._socket.settimeout(self._timeout_s)
            self._socket.sendall(b"".join(pieces))
        except OSError:
            raise _TransferError(NOT_WRITTEN) from None

    def expect_fine(self) -> None:
        """Read a reply, which is one line unless it is an error of a kind unknown to us."""
        line = self._read_line()
        if line.startswith(b"-"):
            raise CommandError(b"ERR Target instance replied with error: %b" % line[1:])

    def _read_line(self) -> bytes:
        deadline_s = time.monotonic() + self._timeout_s
        while b"\n" not in self._received:
            if len(self._received) > _REPLY_BYTES_MAX:
                raise _TransferError(NOT_READ)
            remaining_s = deadline_s - time.monotonic()
            if remaining_s <= 0:
                raise _TransferError(NOT_READ)
            try:
                self._socket.settimeout(remaining_s)
                data = self._socket.recv(_RECEIVE_BYTES)
            except OSError:
                raise _TransferError(NOT_READ) from None
            if not data:
                raise _TransferError(NOT_READ)
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return line.rstrip(b"\r")


# -- reading -----------------------------------------------------------------------------------------


def _items(
    source: Source, keyspace: Keyspace, keys: tuple[bytes, ...], clock: Callable[[], int], *, compress: bool
) -> Iterator[Item]:
    """Yield what keys hold, each as it is asked for; what has expired by then is left out."""
    pdb, prefix = keyspace.pdb, keyspace.record_prefix
    for key in keys:
        raw = source.get(prefix + key)
        if raw is None:
            continue
        expires_ms = expires_ms_of(raw)
        now_ms = clock()
        if expires_ms and expires_ms < now_ms:
            continue
        payload = dump_raw(source, pdb, raw, now_ms=now_ms, compress=compress)
        if payload is not None:
            yield key, max(expires_ms - now_ms, 1) if expires_ms else 0, payload


# -- the command -------------------------------------------------------------------------------------


def start(client: Client, order: Order) -> Any:
    """Hand keys over, of which one at least is there; returns what the command's handler has to return."""
    server = client.server
    keyspace = client.keyspace
    compress = server.config.rdbcompression
    if server.denies_blocking or server.loop is None:
        server.databases.stage_records()
        now_ms = server.clock.now_ms
        found = _items(server.databases.store, keyspace, order.keys, lambda: now_ms, compress=compress)
        return _settle(server, keyspace, order, transfer(order, found))
    # What others have written in this turn must not reach the target if it then fails.
    server.commit_now()
    view = server.databases.store.db.view
    then_ms, then_s = server.clock.now_ms, time.monotonic()

    def clock() -> int:
        return then_ms + int((time.monotonic() - then_s) * 1000)

    items = _items(view, keyspace, order.keys, clock, compress=compress)
    suspended = wait_for(client, [], _never, timeout_ms=0, timeout_reply=NOT_READ)
    wait = client.wait
    assert wait is not None
    server.hold_writers()
    loop = server.loop

    def work() -> None:
        outcome = transfer(order, items)
        try:
            loop.call_soon_threadsafe(_end, server, keyspace, order, wait, outcome)
        except RuntimeError:
            pass  # the server has ended meanwhile: the keys are in both places, as if it had been killed

    threading.Thread(target=work, name="lamina-migrate", daemon=True).start()
    return suspended


def _never(key: bytes) -> object:
    return NOTHING


def _end(server: Server, keyspace: Keyspace, order: Order, wait: Wait, outcome: Outcome) -> None:
    """Remove what has been handed over, let everybody write again, and answer."""
    if server.scripting.is_busy and server.loop is not None:
        server.loop.call_later(_BUSY_DELAY_S, _end, server, keyspace, order, wait, outcome)
        return
    server.clock.tick()
    reply: Any
    try:
        reply = _settle(server, keyspace, order, outcome)
    except CommandError as error:
        reply = error.release()
        server.note_error(reply)
    except (EngineError, OSError) as error:
        reply = server.note_damage(error)
        server.note_error(reply)
        server.fail_tick(reply)
    server.release_writers()
    if wait.client.wait is wait:  # else it has gone
        end_wait(wait, reply)
    server.schedule_tick()


def _settle(server: Server, keyspace: Keyspace, order: Order, outcome: Outcome) -> Any:
    """Remove what has been handed over; returns the reply. Errors: CommandError, EngineError, OSError."""
    if outcome.taken and not order.copies:
        if server.write_error is not None:
            raise server.misconfigured()
        for key in outcome.taken:
            if keyspace.remove(key) and keyspace.listens:
                keyspace.event(events.GENERIC, b"del", key)
    error = outcome.error
    if error is None:
        return OK
    if isinstance(error, CommandError):
        raise error
    raise server.note_damage(error)

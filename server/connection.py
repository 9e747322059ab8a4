"""One connection: bytes in, commands run, bytes out.

Flow control: a client that does not read what it is sent is not read from any more once a megabyte is
waiting in the transport (`Server.write_high_bytes`), and a client whose pipeline has produced much output is
served on when that has left. So one client costs a bounded amount of memory, whatever it does. What is left
is what others publish to it; for that there are the limits of client-output-buffer-limit.
"""

from __future__ import annotations

import asyncio
import re
import socket
from typing import TYPE_CHECKING, Any, cast

from lamina.server.client import Client
from lamina.server.dispatch import run_commands
from lamina.server.encoding import ARGUMENT_SIZE_MAX
from lamina.server.errors import MAX_CLIENTS, PROTECTED_MODE, CommandError
from lamina.server.protocol import RequestReader

if TYPE_CHECKING:
    from lamina.server.server import Server

_COMMANDS_PER_TURN = 2048
"""More that one client has sent are run in turns to come: else all others would wait for them."""

_HELD_BYTES_MAX = 1 << 20
"""Replies that may wait for the disk before a client's further commands wait as well."""

_PENDING_COMMANDS_MAX = 1024
_PENDING_BYTES_MAX = 1 << 20
_READ_AT_ONCE_BYTES = 128 * 1024
"""From a client of whom so much arrives at once more will have come already. The loop would read on, up to 32
times, while all others wait."""

_find_password = re.compile(rb"AUTH", re.IGNORECASE).search


class Connection(asyncio.Protocol):
    """Feeds one client."""

    __slots__ = (
        "_is_divided",
        "_is_paused",
        "_pending_bytes",
        "client",
        "is_writable",
        "reader",
        "server",
        "soft_limit_ms",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self.server = server
        self.client: Client | None = None
        self.reader = RequestReader(
            min(server.config.proto_max_bulk_len, ARGUMENT_SIZE_MAX),
            is_authenticated=not server.needs_password,
        )
        self.soft_limit_ms = 0
        """Since when the output buffer is above its soft limit; 0: it is not."""
        self._is_divided = False
        """Whether what is received is a part of what has come."""
        self._is_paused = False
        self._pending_bytes = 0
        """What has been read since commands began to be left in `Client.pending`."""
        self.is_writable = True
        """Whether the client takes what it is sent."""

    # -- asyncio.Protocol --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take on a client, or turn it away."""
        self.transport = transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it
        server = self.server
        refusal = self._refusal()
        if refusal is not None:
            server.stats.rejected_connections += 1
            transport.write(refusal.reply)
            transport.close()
            return
        transport.set_write_buffer_limits(high=server.write_high_bytes)
        server.clock.tick()
        client = self.client = Client(server, self)
        client.address, client.local_address, client.is_unix = _addresses(transport)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            client.fd = sock.fileno()
            if not client.is_unix:
                _set_keepalive(sock, server.config.tcp_keepalive)
        server.add_client(client)

    def _refusal(self) -> CommandError | None:
        server = self.server
        if len(server.clients) >= server.config.maxclients:
            return MAX_CLIENTS
        if server.is_protected:
            peer = self.transport.get_extra_info("peername")
            if isinstance(peer, tuple) and not (peer[0].startswith("127.") or peer[0] == "::1"):
                return PROTECTED_MODE
        return None

    def data_received(self, data: bytes) -> None:
        """Run what has arrived."""
        if not self.reader.is_authenticated and not self._is_divided:
            data = self._receive_password(data)
        client = self.client
        if client is None or client.closing:
            return
        server = self.server
        if not server.is_tick_due:
            # The first of this turn: all of it happens at one time.
            server.clock.tick()
            server.schedule_tick()
        client.last_ms = server.clock.now_ms
        server.stats.input_bytes += len(data)
        reader = self.reader
        commands = reader.feed(data)
        if client.wait is not None or client.pending or client.held_bytes > _HELD_BYTES_MAX:
            client.pending.extend(commands)
            self._pending_bytes += len(data)
            if len(client.pending) > _PENDING_COMMANDS_MAX or self._pending_bytes > _PENDING_BYTES_MAX:
                self._pause()
        elif commands:
            self._run(client, commands)
        if len(data) >= _READ_AT_ONCE_BYTES and not self._is_paused:
            # It is the others' turn.
            self._pause()
            server.resume(client)
        if not commands and reader.buffered_bytes > server.config.client_query_buffer_limit:
            server.end_greedy(client)
        if reader.error is not None:
            self._break_off(client)

    def _receive_password(self, data: bytes) -> bytes:
        """Receive what may be a password, and return the rest: limits for those who have not authenticated
        are not for that if the password is right.

        One may be seen where there is none, which does no harm: requests may be parsed in any pieces.
        """
        self._is_divided = True
        if self.reader.buffered_bytes:  # of a request that began before
            end = data.find(b"\n*") + 1
            if end:
                self.data_received(data[:end])
                data = data[end:]
        found = _find_password(data)
        end = 0 if found is None else data.find(b"\n*", found.end()) + 1
        if end:
            self.data_received(data[:end])
        self._is_divided = False
        return data[end:]

    def _break_off(self, client: Client) -> None:
        """Answer a breach of the protocol, after all that came before it, and end the connection."""
        error = self.reader.error
        assert error is not None
        if client.wait is not None or client.pending:
            return  # run_pending will come to it
        if not client.closing:
            client.send(CommandError(error.message))
            client.close_after_reply()

    def eof_received(self) -> bool:
        """Close: a client that has sent all it had to say has gone, or reads what is left and goes then."""
        client = self.client
        if client is None or self.transport.get_extra_info("sslcontext") is not None:
            return False  # with TLS nothing can be sent any more
        client.close_after_reply()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the client."""
        if self.client is not None:
            self.server.remove_client(self.client)

    def pause_writing(self) -> None:
        """Stop reading from a client that does not read."""
        self.is_writable = False
        self._pause()

    def resume_writing(self) -> None:
        """Go on."""
        self.is_writable = True
        if self.client is not None and (self.client.pending or self.reader.error is not None):
            self.server.resume(self.client)
        else:
            self._resume()

    # -- for the server ----------------------------------------------------------------------------

    def _pause(self) -> None:
        if not self._is_paused and not self.transport.is_closing():
            self._is_paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self._is_paused and self.is_writable and not self.transport.is_closing():
            self._is_paused = False
            self.transport.resume_reading()

    def _run(self, client: Client, commands: list[list[bytes]]) -> None:
        """Run commands, but no more of them than others can wait for."""
        if len(commands) <= _COMMANDS_PER_TURN:
            run_commands(client, commands)
            return
        run_commands(client, commands[:_COMMANDS_PER_TURN])
        if not client.closing:
            client.pending.extend(commands[_COMMANDS_PER_TURN:])
            self.server.resume(client)

    def run_pending(self) -> None:
        """Run the commands that had to wait."""
        client = self.client
        if client is None or client.closing or not self.is_writable or client.held_bytes > _HELD_BYTES_MAX:
            return  # resume_writing, or the end of a sync, will come back to it
        pending = client.pending
        if client.wait is not None:
            # Who waits is read from, within bounds: else nobody would notice that it has gone.
            if len(pending) <= _PENDING_COMMANDS_MAX and self._pending_bytes <= _PENDING_BYTES_MAX:
                self._resume()
            return
        if pending:
            commands = list(pending)
            pending.clear()
            self._pending_bytes = 0
            self._run(client, commands)
        if self.reader.error is not None:
            self._break_off(client)
        elif not pending:
            self._resume()


def _addresses(transport: asyncio.Transport) -> tuple[str, str, bool]:
    """Return the client's address and ours as Redis writes them, and whether the socket is a Unix one."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family == socket.AF_UNIX:
        path = transport.get_extra_info("sockname") or ""
        return f"{path}:0", f"{path}:0", True
    peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    return _join(peer), _join(own), False


def _join(address: Any) -> str:
    if not isinstance(address, tuple):
        return "?:0"
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _set_keepalive(sock: socket.socket, interval_s: int) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if interval_s:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, interval_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(interval_s // 3, 1))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)

r"""MONITOR: clients that are shown every command of all clients, as one line each.

    1700000000.000000 [0 127.0.0.1:50000] "set" "key" "a\x00b"

The number in brackets is the database after the command. A command is shown when it has run, so that EXEC
comes after what it runs; only scripts come before what they call. What never ran is not shown, nor are
administrative commands; passwords are left out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lamina.server.client import MONITORED, Client
from lamina.server.redaction import redacted

if TYPE_CHECKING:
    from lamina.server.server import Server

_NAMED = {7: b"\\a", 8: b"\\b", 9: b"\\t", 10: b"\\n", 13: b"\\r", 34: b'\\"', 92: b"\\\\"}
_ESCAPES = [_NAMED.get(byte, b"\\x%02x" % byte) for byte in range(256)]
_escape_special = re.compile(rb'[^\x20-\x7e]|["\\]').sub


def quoted(text: bytes) -> bytes:
    """Return a byte string in quotes, such that redis-cli would read it as it is."""
    return b'"%b"' % _escape_special(lambda match: _ESCAPES[match.group()[0]], text)


class Monitors:
    """Those who watch."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.clients: dict[Client, None] = {}  # a set that keeps its order

    def add(self, client: Client) -> None:
        """Show a client all commands from now on."""
        client.is_monitor = True
        self.clients[client] = None
        self._server.close_gate(MONITORED)

    def remove(self, client: Client) -> None:
        """Show a client no more, whether it has watched or not."""
        if client.is_monitor:
            client.is_monitor = False
            del self.clients[client]
            if not self.clients:
                self._server.open_gate(MONITORED)

    def feed(self, client: Client, argv: list[bytes]) -> None:
        """Show a command of `client`'s."""
        now_us = self._server.clock.now_us
        if self._server.is_in_script:
            source = b"lua"
        elif client.is_unix:
            source = b"unix:" + client.address.removesuffix(":0").encode(errors="surrogateescape")
        else:
            source = client.address.encode()
        wire = b"+%d.%06d [%d %b] %b\r\n" % (
            now_us // 1_000_000,
            now_us % 1_000_000,
            client.keyspace.index,
            source,
            b" ".join(map(quoted, redacted(argv))),
        )
        for monitor in self.clients:
            monitor.push_wire(wire)

"""One client's state. No input or output here: a connection, or a test, drives it.

Replies gather in `out`, one item for each reply, until the tick they belong to is committed. `gate` is zero
for a client about which nothing is unusual, which then is served on the short path of dispatch.py.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from lamina.server.replies import encode

if TYPE_CHECKING:
    from lamina.server.blocking import Wait
    from lamina.server.connection import Connection
    from lamina.server.keyspace import Keyspace
    from lamina.server.registry import Command
    from lamina.server.server import Server

# Reasons to look closer before a command runs.
UNAUTHENTICATED: Final = 1
IN_MULTI: Final = 2
SUBSCRIBED: Final = 4  # in RESP2 only few commands are allowed then
SILENT: Final = 8  # CLIENT REPLY OFF or SKIP
PAUSED: Final = 16  # CLIENT PAUSE
MONITORED: Final = 32  # somebody watches all commands
TRACKED: Final = 64  # keys this client reads are remembered
WRITES_REFUSED: Final = 128  # the disk takes none
RESTRICTED: Final = 256  # the user may not do everything
NO_TOUCH: Final = 512
CLOSING: Final = 1024  # what follows in the pipeline is not run

SERVER_WIDE: Final = PAUSED | MONITORED | WRITES_REFUSED
"""Gates that are closed for all clients at once."""


class Client:
    """A client of the server."""

    __slots__ = (
        "address",
        "channels",
        "closing",
        "command",
        "connection",
        "created_ms",
        "dirty_transaction",
        "gate",
        "held",
        "held_sync",
        "id",
        "is_authenticated",
        "is_monitor",
        "is_no_evict",
        "is_transaction_aborted",
        "is_unix",
        "keyspace",
        "last_ms",
        "library_name",
        "library_version",
        "local_address",
        "name",
        "out",
        "out_bytes",
        "patterns",
        "pending",
        "pushes",
        "queue",
        "reply_mode",
        "resp",
        "server",
        "shard_channels",
        "silent_from",
        "tracking",
        "user",
        "wait",
        "watched",
    )

    def __init__(self, server: Server, connection: Connection | None = None) -> None:
        self.server = server
        self.connection = connection
        self.id = server.take_client_id()
        self.keyspace: Keyspace = server.databases.keyspaces[0]
        self.resp = 2
        self.gate = server.gate
        self.out: list[bytes] = []
        self.out_bytes = 0
        """Bytes of large replies in `out`; small ones are not counted."""
        self.pushes: list[int] = []
        """Positions in `out` of what is no reply: it stays if the tick fails."""
        self.pending: deque[list[bytes]] = deque()
        """Commands that came while the client could not be served."""
        self.wait: Wait | None = None
        self.held: list[bytes] = []
        """Replies of committed ticks that wait for the disk (appendfsync always)."""
        self.held_sync = 0
        self.closing = False
        """Whether the connection ends once everything has been sent."""
        self.address = ""
        self.local_address = ""
        self.is_unix = False
        self.name = b""
        self.library_name = b""
        self.library_version = b""
        self.user = b"default"
        self.is_authenticated = not server.needs_password
        if not self.is_authenticated:
            self.gate |= UNAUTHENTICATED
        self.created_ms = self.last_ms = server.clock.now_ms
        self.command: Command | None = None
        """The last command, for CLIENT LIST."""
        self.queue: list[tuple[Command, list[bytes]]] | None = None
        """Commands of a transaction under way."""
        self.is_transaction_aborted = False
        self.dirty_transaction = False
        """Whether a watched key has changed."""
        self.watched: list[tuple[Keyspace, bytes]] = []
        self.channels: dict[bytes, None] = {}  # sets that keep their order
        self.patterns: dict[bytes, None] = {}
        self.shard_channels: dict[bytes, None] = {}
        self.is_monitor = False
        self.is_no_evict = False
        self.reply_mode = b"ON"
        self.silent_from = 0
        """Position in `out` from which on replies are taken back, while there are to be none."""
        self.tracking: Any = None

    def __repr__(self) -> str:
        return f"<client {self.id}>"

    @property
    def subscriptions(self) -> int:
        """Channels and patterns the client listens to."""
        return len(self.channels) + len(self.patterns) + len(self.shard_channels)

    def send(self, reply: Any) -> None:
        """Add the reply of a command that has several, or whose time has come later."""
        self._add(encode(reply, self.resp))

    def push(self, reply: Any) -> None:
        """Add something that is no reply to a command: a message, an invalidation."""
        out = self.out
        if not out:
            self.server.note_output(self)
        self.pushes.append(len(out))
        self._add(encode(reply, self.resp))

    def push_wire(self, wire: bytes) -> None:
        """Add an encoded push: for one message to many clients."""
        out = self.out
        if not out:
            self.server.note_output(self)
        self.pushes.append(len(out))
        out.append(wire)
        self.out_bytes += len(wire)

    def _add(self, wire: bytes) -> None:
        if not self.out:
            self.server.note_output(self)
        self.out.append(wire)
        self.out_bytes += len(wire)

    def close_after_reply(self) -> None:
        """End the connection once what is in `out` has been sent."""
        if not self.out:
            self.server.note_output(self)
        self.closing = True
        self.gate |= CLOSING

    def select(self, index: int) -> None:
        """Turn to another database; the caller has checked the index."""
        self.keyspace = self.server.databases.keyspaces[index]

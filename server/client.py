"""One client's state. No input or output here: a connection, or a test, drives it.

Replies gather in `out`, one item for each reply, until the tick they belong to is committed. `gate` is zero
for a client about which nothing is unusual, which then is served on the short path of dispatch.py.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from lamina.server.replies import encode

if TYPE_CHECKING:
    from lamina.server.acl.user import User
    from lamina.server.blocking import Wait
    from lamina.server.connection import Connection
    from lamina.server.keyspace import Keyspace
    from lamina.server.registry import Command
    from lamina.server.server import Server
    from lamina.server.tracking import Tracker

# Reasons to look closer before a command runs.
UNAUTHENTICATED: Final = 1
IN_MULTI: Final = 2
SUBSCRIBED: Final = 4  # in RESP2 only few commands are allowed then
SILENT: Final = 8  # CLIENT REPLY OFF or SKIP
PAUSED: Final = 16  # CLIENT PAUSE
MONITORED: Final = 32  # somebody watches all commands
TRACKED: Final = 64  # keys this client reads are remembered, or it is told of all
WRITES_REFUSED: Final = 128  # the disk takes none
RESTRICTED: Final = 256  # the user may not do everything: see acl/
NO_TOUCH: Final = 512
CLOSING: Final = 1024  # what follows in the pipeline is not run
DEFERRED: Final = 2048  # pushes wait for the end of the command that runs
CAREFUL: Final = 4096  # something on the disk is damaged: commands that write have turns of their own
BUSY: Final = 8192  # a script takes long: see scripting/yielding.py

SERVER_WIDE: Final = PAUSED | MONITORED | WRITES_REFUSED | CAREFUL | BUSY
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
        "deferred",
        "dirty_transaction",
        "fd",
        "gate",
        "held",
        "held_bytes",
        "held_sync",
        "id",
        "is_monitor",
        "is_no_evict",
        "is_rejected",
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
        "passed",
        "patterns",
        "pending",
        "pushes",
        "queue",
        "queued_bytes",
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
        """Positions in `out` of what stays if the tick fails: pushes, which are no replies, and replies that
        nothing which may be undone has a part in."""
        self.deferred: list[bytes] = []
        """Pushes that came amid the client's own command: they follow its reply."""
        self.pending: deque[list[bytes]] = deque()
        """Commands that came while the client could not be served."""
        self.wait: Wait | None = None
        self.held: deque[tuple[int, bytes]] = deque()
        """Replies of committed ticks that wait for the disk (appendfsync always), with the sync each waits
        for."""
        self.held_bytes = 0
        self.held_sync = 0
        """The last sync the client waits for; 0: none."""
        self.closing = False
        """Whether the connection ends once everything has been sent."""
        self.address = ""
        self.local_address = ""
        self.fd = -1
        self.is_unix = False
        self.name = b""
        self.library_name = b""
        self.library_version = b""
        self.log_out()
        self.created_ms = self.last_ms = server.clock.now_ms
        self.command: Command | None = None
        """The last command, for CLIENT LIST."""
        self.is_rejected = False
        """Whether the gates are looking at the command under way and have not let it pass so far."""
        self.passed: list[bytes] | None = None
        """What the gates have let pass last; None before they have let pass what is under way."""
        self.queue: list[tuple[Command, list[bytes]]] | None = None
        """Commands of a transaction under way."""
        self.queued_bytes = 0
        """Memory they take: client-query-buffer-limit is for them as well."""
        self.is_transaction_aborted = False
        self.dirty_transaction = False
        """Whether a watched key has changed."""
        self.watched: dict[tuple[Keyspace, bytes], None] = {}
        self.channels: dict[bytes, None] = {}  # sets that keep their order
        self.patterns: dict[bytes, None] = {}
        self.shard_channels: dict[bytes, None] = {}
        self.is_monitor = False
        self.is_no_evict = False
        self.reply_mode = b"ON"
        self.silent_from = 0
        """Position in `out` from which on replies are taken back, while there are to be none."""
        self.tracking: Tracker | None = None
        """How the client is tracked; None: it is not."""

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
        self.push_wire(encode(reply, self.resp))

    def push_wire(self, wire: bytes) -> None:
        """Add an encoded push: for one message to many clients.

        Amid the client's own command, PUBLISH to a channel it hears itself say, it waits for the reply.
        """
        if self.server.running is self:
            self.deferred.append(wire)
            self.gate |= DEFERRED
        else:
            self._push_now(wire)

    def push_as_reply(self, reply: Any) -> None:
        """Add the push that is a command's answer: what SUBSCRIBE and its relatives have for a reply."""
        self._push_now(encode(reply, self.resp))

    def send_deferred(self) -> None:
        """The command is over: add the pushes that waited for that."""
        self.gate &= ~DEFERRED
        for wire in self.deferred:
            self._push_now(wire)
        self.deferred.clear()

    def _push_now(self, wire: bytes) -> None:
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

    def skip_reply(self) -> None:
        """The client wants no replies and would have got one: CLIENT REPLY SKIP is good for one only."""
        if self.reply_mode == b"SKIP":
            self.reply_mode = b"ON"
            self.gate &= ~SILENT

    def close_after_reply(self) -> None:
        """End the connection once what is in `out` has been sent."""
        if not self.out:
            self.server.note_output(self)
        self.closing = True
        self.gate |= CLOSING

    def leave_transaction(self) -> None:
        """Forget what has been queued; nothing is watched any more."""
        self.queue = None
        self.queued_bytes = 0
        self.is_transaction_aborted = False
        self.gate &= ~IN_MULTI
        self.server.unwatch(self)

    def become(self, user: User) -> None:
        """Act as a user from now on, or by the rules that it has now."""
        self.user = user
        if user.is_limited:
            self.gate |= RESTRICTED
        else:
            self.gate &= ~RESTRICTED

    def log_out(self) -> None:
        """Be the default user's, as a new connection is, who may have to log in first."""
        users = self.server.users
        self.become(users.default)
        if users.needs_login:
            self.gate |= UNAUTHENTICATED
            if self.connection is not None:
                self.connection.reader.unauthenticate()

    def select(self, index: int) -> None:
        """Turn to another database; the caller has checked the index."""
        self.keyspace = self.server.databases.keyspaces[index]

"""Clients as CLIENT LIST and CLIENT INFO describe them, and the filters that pick some of them.

One client is one line of `name=value` pairs; the names and their order are Redis's. Values are Lamina's own
where Redis speaks of its buffers:

    qbuf            bytes received of requests that have not been run yet
    obl, oll, omem  bytes of replies of this turn; chunks and bytes that wait for the disk or in the socket
    argv-mem        arguments of the command under way; multi-mem: of those that are queued
    tot-mem         all of these and a client's own size
    qbuf-free, rbs, rbp   0: there is no such buffer
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lamina.server.client import IN_MULTI, NO_TOUCH, PAUSED, SUBSCRIBED, Client
from lamina.server.tracking import redirection

CLIENT_BYTES = 4400
"""What a client takes that does nothing, measured over 3,000 of them: itself, its connection, its parser."""

CLIENT_TYPES = {
    b"normal": b"normal",
    b"master": b"master",
    b"slave": b"replica",
    b"replica": b"replica",
    b"pubsub": b"pubsub",
}


def client_type(client: Client) -> bytes:
    """Return the type that TYPE filters by. Who monitors is a normal client, and masters there are none."""
    return b"pubsub" if client.gate & SUBSCRIBED else b"normal"


def _flags(client: Client) -> str:
    tracker = client.tracking
    is_postponed = client.gate & PAUSED and client.pending
    flags = [
        ("O", client.is_monitor),
        ("P", client.gate & SUBSCRIBED),
        ("x", client.gate & IN_MULTI),
        ("b", client.wait is not None or is_postponed),
        ("t", tracker is not None),
        ("R", tracker is not None and tracker.is_broken),
        ("B", tracker is not None and tracker.is_bcast),
        ("d", client.dirty_transaction),
        ("c", client.closing),
        ("U", client.is_unix),
        ("e", client.is_no_evict),
        ("T", client.gate & NO_TOUCH),
    ]
    return "".join(letter for letter, is_set in flags if is_set) or "N"


def _size(argvs: Iterable[list[bytes]]) -> int:
    return sum(len(argument) for argv in argvs for argument in argv)


def describe(client: Client, now_ms: int, argv: list[bytes] | None = None) -> bytes:
    """Return a client's line, without the line's end; `argv` is the command it is running."""
    connection = client.connection
    query_bytes = _size(client.pending)
    unsent_bytes = 0
    if connection is not None:
        query_bytes += connection.reader.buffered_bytes
        unsent_bytes = connection.transport.get_write_buffer_size()
    waiting_bytes = unsent_bytes + client.held_bytes
    turn_bytes = sum(map(len, client.out))
    argv_bytes = _size([argv] if argv else [])
    queue = client.queue or []
    queued_bytes = _size(queued for _, queued in queue)
    fields = (
        ("id", client.id),
        ("addr", client.address),
        ("laddr", client.local_address),
        ("fd", client.fd),
        ("name", client.name.decode()),
        ("age", (now_ms - client.created_ms) // 1000),
        ("idle", (now_ms - client.last_ms) // 1000),
        ("flags", _flags(client)),
        ("db", client.keyspace.index),
        ("sub", len(client.channels)),
        ("psub", len(client.patterns)),
        ("ssub", len(client.shard_channels)),
        ("multi", -1 if client.queue is None else len(queue)),
        ("watch", len(client.watched)),
        ("qbuf", query_bytes),
        ("qbuf-free", 0),
        ("argv-mem", argv_bytes),
        ("multi-mem", queued_bytes),
        ("rbs", 0),
        ("rbp", 0),
        ("obl", turn_bytes),
        ("oll", len(client.held) + (unsent_bytes > 0)),
        ("omem", waiting_bytes),
        ("tot-mem", CLIENT_BYTES + query_bytes + argv_bytes + queued_bytes + turn_bytes + waiting_bytes),
        ("events", "rw" if unsent_bytes else "r"),
        ("cmd", "NULL" if client.command is None else client.command.wire_name.decode()),
        ("user", client.user.name.decode(errors="surrogateescape")),
        ("redir", redirection(client)),
        ("resp", client.resp),
        ("lib-name", client.library_name.decode()),
        ("lib-ver", client.library_version.decode()),
    )
    return " ".join(f"{name}={value}" for name, value in fields).encode(errors="surrogateescape")


def describe_all(clients: Iterable[Client], caller: Client, argv: list[bytes]) -> bytes:
    """Return the lines of clients; `caller` is the one that runs `argv`."""
    now_ms = caller.server.clock.now_ms
    lines = [describe(client, now_ms, argv if client is caller else None) for client in clients]
    return b"".join([line + b"\n" for line in lines])


@dataclass(slots=True)
class ClientFilter:
    """What CLIENT KILL picks clients by: all that is given must fit."""

    id: int | None = None
    address: str | None = None
    local_address: str | None = None
    type: bytes | None = None
    user: bytes | None = None
    age_s: int | None = None
    """How old a client has to be, at least."""
    is_caller_spared: bool = True

    def matches(self, client: Client, caller: Client) -> bool:
        """Tell whether a client is picked."""
        if self.is_caller_spared and client is caller:
            return False
        age_s = (caller.server.clock.now_ms - client.created_ms) // 1000
        return (
            self.id in (None, client.id)
            and self.address in (None, client.address)
            and self.local_address in (None, client.local_address)
            and self.type in (None, client_type(client))
            and self.user in (None, client.user.name)
            and (self.age_s is None or age_s >= self.age_s)
        )

"""Replication: there is none, so this server is always the master of no replicas.

What asks about that state is answered as a Redis in it answers; what would change it is refused.
"""

from __future__ import annotations

from typing import Any

from lamina.server.args import integer, integer_in
from lamina.server.client import Client
from lamina.server.errors import SYNTAX, CommandError
from lamina.server.numbers import parse_integer
from lamina.server.registry import command
from lamina.server.replies import NO_REPLY, OK, Simple

_PORT_MAX = 65535
_BAD_PORT = CommandError(b"ERR Invalid master port")
_NO_REPLICATION = CommandError(b"ERR Lamina does not replicate")
_NO_FAILOVER = CommandError(b"ERR No failover in progress.")
_NO_REPLICAS = CommandError(b"ERR FAILOVER requires connected replicas.")
_TIMEOUT_NOT_POSITIVE = CommandError(b"ERR FAILOVER timeout must be greater than 0")


def _follow(argv: list[bytes]) -> Simple:
    if argv[1].upper() == b"NO" and argv[2].upper() == b"ONE":
        return OK
    port = parse_integer(argv[2])
    if port is None or not 0 <= port <= _PORT_MAX:
        raise _BAD_PORT
    raise _NO_REPLICATION


@command(
    "REPLICAOF",
    arity=3,
    flags="admin noscript stale no_async_loading",
    since="5.0.0",
    complexity="O(1)",
    group="server",
)
def replicaof(client: Client, argv: list[bytes]) -> Simple:
    """Stay a master, which is all that can be asked for.

    REPLICAOF (host port | NO ONE)
    """
    return _follow(argv)


@command(
    "SLAVEOF",
    arity=3,
    flags="admin noscript stale no_async_loading",
    since="1.0.0",
    complexity="O(1)",
    group="server",
)
def slaveof(client: Client, argv: list[bytes]) -> Simple:
    """Stay a master, which is all that can be asked for.

    SLAVEOF (host port | NO ONE)
    """
    return _follow(argv)


@command(
    "ROLE", arity=1, flags="noscript loading stale fast", since="2.8.12", complexity="O(1)", group="server"
)
def role(client: Client, argv: list[bytes]) -> list[Any]:
    """Return the server's part in replication: master, at offset 0, of no replicas.

    ROLE
    """
    return [b"master", 0, []]


@command("FAILOVER", arity=-1, flags="admin noscript stale", since="6.2.0", complexity="O(1)", group="server")
def failover(client: Client, argv: list[bytes]) -> object:
    """Refuse to hand over: there is no replica.

    FAILOVER [TO host port [FORCE]] [ABORT] [TIMEOUT milliseconds]
    """
    seen: set[bytes] = set()
    at = 1
    while at < len(argv):
        option = argv[at].upper()
        size = {b"TO": 3, b"TIMEOUT": 2, b"FORCE": 1, b"ABORT": 1}.get(option, 0)
        if not size or option in seen or at + size > len(argv) or (option == b"ABORT" and len(argv) > 2):
            raise SYNTAX
        if option == b"TIMEOUT" and integer(argv[at + 1]) <= 0:
            raise _TIMEOUT_NOT_POSITIVE
        if option == b"TO":
            integer(argv[at + 2])
        seen.add(option)
        at += size
    raise _NO_FAILOVER if b"ABORT" in seen else _NO_REPLICAS


@command(
    "REPLCONF",
    arity=-1,
    flags="admin noscript loading stale allow_busy",
    since="3.0.0",
    complexity="O(1)",
    group="server",
)
def replconf(client: Client, argv: list[bytes]) -> Any:
    """Take note of what a replica says before it asks for PSYNC, which is refused.

    REPLCONF [option value [option value ...]]
    """
    if len(argv) % 2 == 0:
        raise SYNTAX
    for option, value in zip(argv[1::2], argv[2::2]):
        name = option.upper()
        if name in (b"ACK", b"GETACK"):
            return NO_REPLY
        if name == b"LISTENING-PORT":
            integer(value)
        elif name == b"RDB-ONLY":
            integer_in(value, 0, 1)
        elif name == b"RDB-FILTER-ONLY":
            if value and value.lower() != b"functions":
                raise CommandError(b"ERR Unsupported rdb-filter-only option: %b" % value)
        elif name not in (b"IP-ADDRESS", b"CAPA"):
            raise CommandError(b"ERR Unrecognized REPLCONF option: %b" % option)
    return OK


@command(
    "PSYNC",
    arity=-3,
    flags="admin noscript no_async_loading no_multi",
    since="2.8.0",
    complexity="O(1)",
    group="server",
)
def psync(client: Client, argv: list[bytes]) -> object:
    """Refuse to be replicated.

    PSYNC replicationid offset
    """
    raise _NO_REPLICATION


@command(
    "SYNC",
    arity=1,
    flags="admin noscript no_async_loading no_multi",
    since="1.0.0",
    complexity="O(1)",
    group="server",
)
def sync(client: Client, argv: list[bytes]) -> object:
    """Refuse to be replicated.

    SYNC
    """
    raise _NO_REPLICATION

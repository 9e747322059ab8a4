"""Commands about the connection itself: who is there, in which protocol, with which database."""

from __future__ import annotations

from typing import Any

from lamina.server.acl.user import DEFAULT
from lamina.server.args import integer
from lamina.server.client import NO_TOUCH, SILENT, SUBSCRIBED, UNAUTHENTICATED, Client
from lamina.server.errors import (
    DB_INDEX,
    NO_AUTH_HELLO,
    NO_PASSWORD_SET,
    NO_PROTO,
    SYNTAX,
    CommandError,
    wrong_arity,
)
from lamina.server.names import valid_client_name
from lamina.server.numbers import parse_integer
from lamina.server.registry import command, many
from lamina.server.replies import OK, PONG, Simple
from lamina.server.version import REDIS_VERSION

_RESET = Simple(b"RESET")
_PROTOCOL_NOT_AN_INTEGER = CommandError(b"ERR Protocol version is not an integer or out of range")


@command(
    "AUTH",
    arity=-2,
    flags="noscript loading stale fast no_auth allow_busy",
    since="1.0.0",
    complexity="O(1)",
    notes=("6.0.0: Added ACL style (username and password).",),
)
def auth(client: Client, argv: list[bytes]) -> Simple:
    """Authenticate the connection.

    AUTH [username] password
    """
    if len(argv) > 3:
        raise SYNTAX
    users = client.server.users
    if len(argv) == 2:
        if users.default.is_passless:
            raise NO_PASSWORD_SET
        users.authenticate(client, DEFAULT, argv[1], argv)
    else:
        users.authenticate(client, argv[1], argv[2], argv)
    return OK


@command("ECHO", arity=2, flags="loading stale fast", since="1.0.0", complexity="O(1)")
def echo(client: Client, argv: list[bytes]) -> bytes:
    """Answer with the argument.

    ECHO message
    """
    return argv[1]


@command(
    "HELLO",
    arity=-1,
    flags="noscript loading stale fast no_auth allow_busy",
    since="6.0.0",
    complexity="O(1)",
    notes=("6.2.0: `protover` made optional; without arguments the command reports the current context.",),
)
def hello(client: Client, argv: list[bytes]) -> dict[bytes, Any]:
    """Choose the protocol, log in and give the connection a name, and learn about the server.

    HELLO [protover [AUTH username password] [SETNAME clientname]]
    """
    protocol = 0
    if len(argv) > 1:
        version = parse_integer(argv[1])
        if version is None:
            raise _PROTOCOL_NOT_AN_INTEGER
        if version not in (2, 3):
            raise NO_PROTO
        protocol = version
    name: bytes | None = None
    credentials: tuple[bytes, bytes] | None = None
    at = 2
    while at < len(argv):
        option = argv[at].upper()
        if option == b"AUTH" and at + 2 < len(argv):
            credentials = argv[at + 1], argv[at + 2]
            at += 3
        elif option == b"SETNAME" and at + 1 < len(argv):
            name = valid_client_name(argv[at + 1])
            at += 2
        else:
            raise CommandError(b"ERR Syntax error in HELLO option '%b'" % argv[at])
    if credentials is not None:
        client.server.users.authenticate(client, *credentials, argv)
    if client.gate & UNAUTHENTICATED and client.server.needs_password:
        raise NO_AUTH_HELLO
    if name is not None:
        client.name = name
    if protocol:
        client.resp = protocol
    return {
        b"server": b"redis",
        b"version": REDIS_VERSION.encode(),
        b"proto": client.resp,
        b"id": client.id,
        b"mode": b"standalone",
        b"role": b"master",
        b"modules": [],
    }


@command("PING", arity=-1, flags="fast", since="1.0.0", complexity="O(1)")
def ping(client: Client, argv: list[bytes]) -> Any:
    """Answer, with the argument if there is one.

    PING [message]
    """
    if len(argv) > 2:
        raise wrong_arity(b"ping")
    if client.gate & SUBSCRIBED and client.resp == 2:
        return [b"pong", argv[1] if len(argv) > 1 else b""]
    return argv[1] if len(argv) > 1 else PONG


@many("PING")
def ping_many(client: Client, argvs: list[list[bytes]]) -> list[Simple]:
    """Answer a pipeline of PINGs."""
    return [PONG] * len(argvs)


@command(
    "QUIT",
    arity=-1,
    flags="noscript loading stale fast no_auth allow_busy",
    since="1.0.0",
    complexity="O(1)",
)
def quit_(client: Client, argv: list[bytes]) -> Simple:
    """Close the connection once everything has been answered.

    QUIT
    """
    client.close_after_reply()
    return OK


@command(
    "RESET",
    arity=1,
    flags="noscript loading stale fast no_auth allow_busy",
    since="6.2.0",
    complexity="O(1)",
)
def reset(client: Client, argv: list[bytes]) -> Simple:
    """Make the connection what it was when it was new, except for its id.

    RESET
    """
    server = client.server
    server.monitors.remove(client)
    server.tracking.disable(client)
    server.pubsub.unsubscribe_all(client)
    client.leave_transaction()
    client.select(0)
    client.resp = 2
    client.name = b""
    client.is_no_evict = False
    client.reply_mode = b"ON"
    client.gate &= ~(SILENT | NO_TOUCH)
    client.log_out()
    return _RESET


@command("SELECT", arity=2, flags="loading stale fast", since="1.0.0", complexity="O(1)")
def select(client: Client, argv: list[bytes]) -> Simple:
    """Turn to another database.

    SELECT index
    """
    index = integer(argv[1])
    if not 0 <= index < len(client.server.databases.keyspaces):
        raise DB_INDEX
    client.select(index)
    return OK

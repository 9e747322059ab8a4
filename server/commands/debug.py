"""DEBUG: for tests of clients and of this server. Off unless enable-debug-command lets it on."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Any, Final

from lamina.server.args import positive
from lamina.server.client import Client
from lamina.server.commands.help import help_lines
from lamina.server.debugging import describe, digest_of_all, key_digest
from lamina.server.errors import NO_SUCH_KEY, CommandError, misused_subcommand
from lamina.server.glob import compile_glob
from lamina.server.numbers import parse_double, parse_integer
from lamina.server.protection import check_allowed
from lamina.server.registry import command
from lamina.server.replies import OK, BigNumber, Encoded, Push, Simple, Verbatim, encode
from lamina.server.types import strings

log = logging.getLogger(__name__)

_RELOAD_OPTIONS = frozenset((b"MERGE", b"NOFLUSH", b"NOSAVE"))
_BAD_RELOAD = CommandError(b"ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.")
_BAD_PROTOCOL = CommandError(
    b"ERR Wrong protocol type name. Please use one of the following: "
    b"string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false"
)
_NOT_IN_RESP2 = CommandError(b"ERR RESP2 is not supported by this command")

Handler = Callable[[Client, list[bytes]], Any]

_SUBCOMMANDS: Final[dict[bytes, tuple[int, int, str, Handler]]] = {}
"""By name: least and most arguments behind it, syntax, handler."""


def _subcommand(syntax: str, least: int, most: int | None = None) -> Callable[[Handler], Handler]:
    """Register a function as a subcommand; `args` begin behind its name."""

    def register(handler: Handler) -> Handler:
        name = syntax.split(" ", 1)[0].encode()
        _SUBCOMMANDS[name] = (least, least if most is None else most, syntax, handler)
        return handler

    return register


@command(
    "DEBUG",
    arity=-2,
    flags="admin noscript loading stale",
    since="1.0.0",
    complexity="Depends on subcommand.",
    group="server",
)
def debug(client: Client, argv: list[bytes]) -> Any:
    """Look inside, or do what is of use to tests only.

    DEBUG subcommand [arg ...]
    """
    check_allowed(client, client.server.config.enable_debug_command, b"debug")
    found = _SUBCOMMANDS.get(argv[1].upper())
    args = argv[2:]
    if found is None or not found[0] <= len(args) <= found[1]:
        raise misused_subcommand(argv[1], b"debug")
    return found[3](client, args)


_MANY = 1 << 31


@_subcommand("CHANGE-REPL-ID", 0)
def _change_repl_id(client: Client, args: list[bytes]) -> Simple:
    """Take another replication id."""
    client.server.replication_id = os.urandom(20).hex()
    return OK


@_subcommand("DIGEST", 0)
def _digest(client: Client, args: list[bytes]) -> Simple:
    """Return a digest of all data."""
    return Simple(digest_of_all(client.server.databases).hex().encode())


@_subcommand("DIGEST-VALUE [<key> ...]", 0, _MANY)
def _digest_value(client: Client, args: list[bytes]) -> list[Simple]:
    """Return a digest of what each key holds."""
    return [Simple(key_digest(client.keyspace, key).hex().encode()) for key in args]


@_subcommand("ERROR <text>", 1)
def _error(client: Client, args: list[bytes]) -> CommandError:
    """Answer with an error of this text."""
    return CommandError(args[0])


@_subcommand("HELP", 0)
def _help(client: Client, args: list[bytes]) -> list[Simple]:
    return help_lines(
        "DEBUG",
        [
            (syntax, " ".join((handler.__doc__ or "").split()))
            for name, (_, _, syntax, handler) in _SUBCOMMANDS.items()
            if name != b"HELP"
        ],
    )


@_subcommand("LOG <message>", 1)
def _log(client: Client, args: list[bytes]) -> Simple:
    """Write a line to the server's log."""
    log.warning("DEBUG LOG: %s", args[0].decode("utf-8", "backslashreplace"))
    return OK


@_subcommand("OBJECT <key>", 1)
def _object(client: Client, args: list[bytes]) -> Simple:
    """Tell of a key's encoding and size."""
    value = client.keyspace.find(args[0])
    if value is None:
        raise NO_SUCH_KEY
    return Simple(describe(client.keyspace, args[0], value))


@_subcommand("POPULATE <count> [<prefix>] [<size>]", 1, 3)
def _populate(client: Client, args: list[bytes]) -> Simple:
    """Create strings under the names key:0, key:1 and so on, where there are none."""
    count = positive(args[0])
    prefix = args[1] if len(args) > 1 else b"key"
    size = positive(args[2]) if len(args) > 2 else 0
    keyspace = client.keyspace
    for number in range(count):
        key = b"%b:%d" % (prefix, number)
        text = b"value:%d" % number
        if keyspace.find(key) is None:
            strings.put(keyspace, key, text[:size].ljust(size, b"\0") if size else text)
    return OK


@_subcommand("PROTOCOL <type>", 1)
def _protocol(client: Client, args: list[bytes]) -> Any:
    """Answer with a value of a type: string, integer, double, bignum, null, array, set, map, attrib, push,
    verbatim, true or false."""
    kind = args[0].lower()
    if kind == b"attrib":
        return _attributed(client)
    if kind == b"push":
        if client.resp == 2:
            raise _NOT_IN_RESP2
        client.push_as_reply(Push([b"server-cpu-usage", 42]))
        return b"Some real reply following the push reply"
    if kind not in _SAMPLES:
        raise _BAD_PROTOCOL
    return _SAMPLES[kind]


_SAMPLES: Final[dict[bytes, Any]] = {
    b"string": b"Hello World",
    b"integer": 12345,
    b"double": 3.141,
    b"bignum": BigNumber(b"1234567999999999999999999999999999999"),
    b"null": None,
    b"array": [0, 1, 2],
    b"set": {0, 1, 2},
    b"map": {0: False, 1: True, 2: False},
    b"verbatim": Verbatim(b"txt", b"This is a verbatim\nstring"),
    b"true": True,
    b"false": False,
}


def _attributed(client: Client) -> Any:
    """Return a reply with an attribute in front of it, which RESP2 does not have."""
    reply = b"Some real reply following the attribute"
    if client.resp == 2:
        return reply
    attribute = encode(b"key-popularity", 3) + encode([b"key:123", 90], 3)
    return Encoded(b"|1\r\n" + attribute + encode(reply, 3))


@_subcommand("RELOAD [NOSAVE] [NOFLUSH] [MERGE]", 0, _MANY)
def _reload(client: Client, args: list[bytes]) -> Simple:
    """Close the database and open it again. There is nothing but what is on disk: the options are one."""
    if any(option.upper() not in _RELOAD_OPTIONS for option in args):
        raise _BAD_RELOAD
    client.server.reopen()
    return OK


@_subcommand("SET-ACTIVE-EXPIRE <0|1>", 1)
def _set_active_expire(client: Client, args: list[bytes]) -> Simple:
    """Whether keys expire that nobody looks at."""
    client.server.cron.is_expiring = bool(parse_integer(args[0]))
    return OK


@_subcommand("SLEEP <seconds>", 1)
def _sleep(client: Client, args: list[bytes]) -> Simple:
    """Stand still for a while, for all clients."""
    time.sleep(max(parse_double(args[0]) or 0.0, 0.0))
    return OK


@_subcommand("STRINGMATCH-LEN <pattern> <string>", 2)
def _stringmatch(client: Client, args: list[bytes]) -> int:
    """Tell whether a string matches a pattern."""
    return int(bool(compile_glob(args[0])(args[1])))

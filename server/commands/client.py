"""CLIENT: what a connection may ask and set of itself and of others, but for the caching of what it reads."""

from __future__ import annotations

from typing import Any, Final

from lamina.server.args import integer, timeout_whole_ms
from lamina.server.blocking import end_wait
from lamina.server.client import NO_TOUCH, SILENT, Client
from lamina.server.clientlist import CLIENT_TYPES, ClientFilter, describe_all
from lamina.server.commands.help import add_help
from lamina.server.errors import (
    NO_SUCH_CLIENT,
    SYNTAX,
    TIMEOUT_OUT_OF_RANGE,
    UNBLOCKED,
    CommandError,
    misused_subcommand,
)
from lamina.server.names import is_one_word, valid_client_name
from lamina.server.numbers import INTEGER_MAX, parse_integer
from lamina.server.registry import command
from lamina.server.replies import NO_REPLY, OK, Simple, Verbatim

_GROUP: Final = "connection"
_OPEN: Final = "noscript loading stale"
_ADMIN: Final = "admin noscript loading stale"

_BAD_ID = CommandError(b"ERR Invalid client ID")
_ID_NOT_POSITIVE = CommandError(b"ERR client-id should be greater than 0")
_AGE_NOT_AN_INTEGER = CommandError(b"ERR maxage is not an integer or out of range")
_AGE_NOT_POSITIVE = CommandError(b"ERR maxage should be greater than 0")
_BAD_PAUSE_MODE = CommandError(b"ERR CLIENT PAUSE mode must be WRITE or ALL")
_BAD_UNBLOCK_REASON = CommandError(b"ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")


@command("CLIENT", arity=-2, flags="", since="2.4.0", complexity="Depends on subcommand.", group=_GROUP)
def client_(client: Client, argv: list[bytes]) -> object:
    """Manage connections.

    CLIENT <subcommand>
    """
    raise misused_subcommand(argv[1], b"client")


def _on_or_off(argument: bytes) -> bool:
    word = argument.upper()
    if word not in (b"ON", b"OFF"):
        raise SYNTAX
    return word == b"ON"


def _parse_type(argument: bytes) -> bytes:
    found = CLIENT_TYPES.get(argument.lower())
    if found is None:
        raise CommandError(b"ERR Unknown client type '%b'" % argument)
    return found


# --- Oneself


@command("CLIENT|ID", arity=2, flags=_OPEN, since="5.0.0", complexity="O(1)", group=_GROUP)
def client_id(client: Client, argv: list[bytes]) -> int:
    """Return the id of this connection.

    CLIENT ID
    """
    return client.id


@command("CLIENT|INFO", arity=2, flags=_OPEN, since="6.2.0", complexity="O(1)", group=_GROUP)
def client_info(client: Client, argv: list[bytes]) -> Verbatim:
    """Describe this connection in one line of text.

    CLIENT INFO
    """
    return Verbatim(b"txt", describe_all([client], client, argv))


@command("CLIENT|GETNAME", arity=2, flags=_OPEN, since="2.6.9", complexity="O(1)", group=_GROUP)
def client_getname(client: Client, argv: list[bytes]) -> bytes | None:
    """Return the name of this connection, if it has one.

    CLIENT GETNAME
    """
    return client.name or None


@command("CLIENT|SETNAME", arity=3, flags=_OPEN, since="2.6.9", complexity="O(1)", group=_GROUP)
def client_setname(client: Client, argv: list[bytes]) -> Simple:
    """Give this connection a name, or none.

    CLIENT SETNAME connection-name
    """
    client.name = valid_client_name(argv[2])
    return OK


@command("CLIENT|SETINFO", arity=4, flags=_OPEN, since="7.2.0", complexity="O(1)", group=_GROUP)
def client_setinfo(client: Client, argv: list[bytes]) -> Simple:
    """Tell which client library this connection uses.

    CLIENT SETINFO <LIB-NAME libname | LIB-VER libver>
    """
    option, value = argv[2], argv[3]
    name = option.upper()
    if name not in (b"LIB-NAME", b"LIB-VER"):
        raise CommandError(b"ERR Unrecognized option '%b'" % option)
    if not is_one_word(value):
        raise CommandError(b"ERR %b cannot contain spaces, newlines or special characters." % option)
    if name == b"LIB-NAME":
        client.library_name = value
    else:
        client.library_version = value
    return OK


@command("CLIENT|NO-EVICT", arity=3, flags=_ADMIN, since="7.0.0", complexity="O(1)", group=_GROUP)
def client_no_evict(client: Client, argv: list[bytes]) -> Simple:
    """Keep this connection from being closed to save memory.

    CLIENT NO-EVICT <ON | OFF>
    """
    client.is_no_evict = _on_or_off(argv[2])
    return OK


@command("CLIENT|NO-TOUCH", arity=3, flags=_OPEN, since="7.2.0", complexity="O(1)", group=_GROUP)
def client_no_touch(client: Client, argv: list[bytes]) -> Simple:
    """Keep this connection's commands from counting as uses of keys.

    CLIENT NO-TOUCH <ON | OFF>
    """
    if _on_or_off(argv[2]):
        client.gate |= NO_TOUCH
    else:
        client.gate &= ~NO_TOUCH
    return OK


@command("CLIENT|REPLY", arity=3, flags=_OPEN, since="3.2.0", complexity="O(1)", group=_GROUP)
def client_reply(client: Client, argv: list[bytes]) -> Any:
    """Have this connection's commands answered, or not, or not the next one.

    CLIENT REPLY <ON | OFF | SKIP>
    """
    mode = argv[2].upper()
    if mode == b"ON":
        client.reply_mode = b"ON"
        client.gate &= ~SILENT
        return OK
    if mode not in (b"OFF", b"SKIP"):
        raise SYNTAX
    if mode == b"OFF":
        client.reply_mode = b"OFF"
    elif client.reply_mode != b"OFF":
        client.reply_mode = b"SKIP_NEXT"
    client.gate |= SILENT
    client.silent_from = len(client.out)
    return NO_REPLY


# --- All of them


@command(
    "CLIENT|LIST",
    arity=-2,
    flags=_ADMIN,
    since="2.4.0",
    complexity="O(N) where N is the number of client connections",
    group=_GROUP,
    notes=(
        "2.8.12: Added unique client `id` field.",
        "5.0.0: Added optional `TYPE` filter.",
        "6.0.0: Added `user` field.",
        "6.2.0: Added `argv-mem`, `tot-mem`, `laddr` and `redir` fields and the optional `ID` filter.",
        "7.0.0: Added `resp`, `multi-mem`, `rbs` and `rbp` fields.",
        "7.0.3: Added `ssub` field.",
        "7.2.0: Added `lib-name` and `lib-ver` fields.",
        "7.4.0: Added `watch` field.",
    ),
)
def client_list(client: Client, argv: list[bytes]) -> Verbatim:
    """Describe connections, one in each line of text.

    CLIENT LIST [TYPE <NORMAL | MASTER | REPLICA | PUBSUB>] [ID client-id [client-id ...]]
    """
    clients = client.server.clients
    option = argv[2].upper() if len(argv) > 2 else b""
    if len(argv) == 2:
        picked = list(clients.values())
    elif option == b"TYPE" and len(argv) == 4:
        by_type = ClientFilter(type=_parse_type(argv[3]), is_caller_spared=False)
        picked = [other for other in clients.values() if by_type.matches(other, client)]
    elif option == b"ID" and len(argv) > 3:
        ids = [integer(argument, _BAD_ID) for argument in argv[3:]]
        picked = [clients[id_] for id_ in ids if id_ in clients]
    else:
        raise SYNTAX
    return Verbatim(b"txt", describe_all(picked, client, argv))


@command(
    "CLIENT|KILL",
    arity=-3,
    flags=_ADMIN,
    since="2.4.0",
    complexity="O(N) where N is the number of client connections",
    group=_GROUP,
    notes=(
        "2.8.12: Added new filter format.",
        "2.8.12: `ID` option.",
        "3.2.0: Added `master` type in for `TYPE` option.",
        "5.0.0: Replaced `slave` `TYPE` with `replica`. `slave` still supported for backward compatibility.",
        "6.2.0: `LADDR` option.",
        "7.4.0: `MAXAGE` option.",
    ),
)
def client_kill(client: Client, argv: list[bytes]) -> Any:
    """Close connections: the one of an address, or all that fit the filters.

    CLIENT KILL <ip:port | <[ID client-id] | [TYPE <NORMAL | MASTER | REPLICA | PUBSUB>] | [USER username]
    | [ADDR ip:port] | [LADDR ip:port] | [SKIPME <YES | NO>] | [MAXAGE seconds] ...>>
    """
    if len(argv) == 3:
        picker = ClientFilter(address=_text(argv[2]), is_caller_spared=False)
    else:
        picker = _parse_filter(client, argv)
    clients = client.server.clients
    killed = 0
    for other in list(clients.values()) if picker.id is None else [clients.get(picker.id)]:
        if other is None or not picker.matches(other, client):
            continue
        killed += 1
        if other is client:
            client.close_after_reply()
        else:
            client.server.kill_client(other)
    if len(argv) > 3:
        return killed
    if not killed:
        raise NO_SUCH_CLIENT
    return OK


def _text(address: bytes) -> str:
    return address.decode(errors="surrogateescape")


def _parse_filter(client: Client, argv: list[bytes]) -> ClientFilter:
    picker = ClientFilter()
    for at in range(2, len(argv), 2):
        if at + 1 == len(argv):
            raise SYNTAX
        option, value = argv[at].upper(), argv[at + 1]
        if option == b"ID":
            picker.id = parse_integer(value)
            if picker.id is None or picker.id < 1:
                raise _ID_NOT_POSITIVE
        elif option == b"TYPE":
            picker.type = _parse_type(value)
        elif option == b"ADDR":
            picker.address = _text(value)
        elif option == b"LADDR":
            picker.local_address = _text(value)
        elif option == b"USER":
            if client.server.users.get(value) is None:
                raise CommandError(b"ERR No such user '%b'" % value)
            picker.user = value
        elif option == b"SKIPME":
            if value.upper() not in (b"YES", b"NO"):
                raise SYNTAX
            picker.is_caller_spared = value.upper() == b"YES"
        elif option == b"MAXAGE":
            picker.age_s = integer(value, _AGE_NOT_AN_INTEGER)
            if picker.age_s < 1:
                raise _AGE_NOT_POSITIVE
        else:
            raise SYNTAX
    return picker


@command(
    "CLIENT|PAUSE",
    arity=-3,
    flags=_ADMIN,
    since="3.0.0",
    complexity="O(1)",
    group=_GROUP,
    notes=("6.2.0: `CLIENT PAUSE WRITE` mode added along with the `mode` option.",),
)
def client_pause(client: Client, argv: list[bytes]) -> Simple:
    """Let all clients' commands, or those that write, wait for a while.

    CLIENT PAUSE timeout [WRITE | ALL]
    """
    if len(argv) > 4:
        raise misused_subcommand(argv[1], b"client")
    mode = argv[3].upper() if len(argv) == 4 else b"ALL"
    if mode not in (b"WRITE", b"ALL"):
        raise _BAD_PAUSE_MODE
    server = client.server
    timeout_ms = timeout_whole_ms(argv[2])
    if timeout_ms > INTEGER_MAX - server.clock.now_ms:
        raise TIMEOUT_OUT_OF_RANGE
    server.pause(server.clock.now_ms + timeout_ms, writes_only=mode == b"WRITE")
    return OK


@command(
    "CLIENT|UNPAUSE",
    arity=2,
    flags=_ADMIN,
    since="6.2.0",
    complexity="O(N) Where N is the number of paused clients",
    group=_GROUP,
)
def client_unpause(client: Client, argv: list[bytes]) -> Simple:
    """End the pause that CLIENT PAUSE has begun.

    CLIENT UNPAUSE
    """
    client.server.unpause()
    return OK


@command(
    "CLIENT|UNBLOCK",
    arity=-3,
    flags=_ADMIN,
    since="5.0.0",
    complexity="O(log N) where N is the number of client connections",
    group=_GROUP,
)
def client_unblock(client: Client, argv: list[bytes]) -> int:
    """End the waiting of a client, as if its time were over or with an error; tell whether it waited.

    CLIENT UNBLOCK client-id [TIMEOUT | ERROR]
    """
    if len(argv) > 4:
        raise misused_subcommand(argv[1], b"client")
    reason = argv[3].upper() if len(argv) == 4 else b"TIMEOUT"
    if reason not in (b"TIMEOUT", b"ERROR"):
        raise _BAD_UNBLOCK_REASON
    other = client.server.clients.get(integer(argv[2]))
    if other is None or other.wait is None:
        return 0
    end_wait(other.wait, UNBLOCKED if reason == b"ERROR" else other.wait.timeout_reply)
    return 1


add_help("CLIENT", group=_GROUP, since="5.0.0")

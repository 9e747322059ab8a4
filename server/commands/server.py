"""Commands about the server as a whole: its databases, its configuration, saving and stopping."""

from __future__ import annotations

from typing import Any

from lamina.server.args import integer
from lamina.server.client import Client
from lamina.server.commands.help import add_help
from lamina.server.errors import (
    DB_INDEX,
    FIRST_DB_INDEX,
    SECOND_DB_INDEX,
    SYNTAX,
    CommandError,
    misused_subcommand,
)
from lamina.server.lolwut import draw_strata
from lamina.server.protection import check_allowed
from lamina.server.registry import command
from lamina.server.replies import NO_REPLY, OK, Simple, Verbatim
from lamina.server.splitting import quote_if_needed

_OPEN = "noscript loading stale"
_ADMIN = "admin noscript loading stale"

_SAVE_STARTED = Simple(b"Background saving started")
_SAVE_SCHEDULED = Simple(b"Background saving scheduled")
_REWRITE_STARTED = Simple(b"Background append only file rewriting started")
_REWRITE_SCHEDULED = Simple(b"Background append only file rewriting scheduled")
_NO_SHUTDOWN = CommandError(b"ERR No shutdown in progress.")
_SHUTDOWN_FAILED = CommandError(b"ERR Errors trying to SHUTDOWN. Check logs.")
_NOT_LOADED = CommandError(b"ERR Error loading the extension. Please check the server logs.")
_NO_MODULE = CommandError(b"ERR Error unloading module: no such module with that name")

# --- Databases


@command("DBSIZE", arity=1, flags="readonly fast", since="1.0.0", complexity="O(log N)")
def dbsize(client: Client, argv: list[bytes]) -> int:
    """Return how many keys the database has, exactly.

    DBSIZE
    """
    return client.keyspace.count_keys()


def _check_flush_mode(argv: list[bytes]) -> None:
    """A flush takes constant time, so it is the same whether asked to be done now or in the background."""
    if len(argv) > 2 or (len(argv) == 2 and argv[1].upper() not in (b"ASYNC", b"SYNC")):
        raise SYNTAX


@command(
    "FLUSHALL",
    arity=-1,
    flags="write",
    since="1.0.0",
    complexity="O(1)",
    notes=("4.0.0: ASYNC.", "6.2.0: SYNC."),
)
def flushall(client: Client, argv: list[bytes]) -> Simple:
    """Remove all keys of all databases.

    FLUSHALL [ASYNC | SYNC]
    """
    _check_flush_mode(argv)
    databases = client.server.databases
    for keyspace in databases.keyspaces:
        databases.flush(keyspace)
    return OK


@command(
    "FLUSHDB",
    arity=-1,
    flags="write",
    since="1.0.0",
    complexity="O(1)",
    notes=("4.0.0: ASYNC.", "6.2.0: SYNC."),
)
def flushdb(client: Client, argv: list[bytes]) -> Simple:
    """Remove all keys of the database.

    FLUSHDB [ASYNC | SYNC]
    """
    _check_flush_mode(argv)
    client.server.databases.flush(client.keyspace)
    return OK


_INT_MAX = (1 << 31) - 1


@command(
    "SWAPDB",
    arity=3,
    flags="write fast",
    since="4.0.0",
    complexity="O(N) clients that watch keys of the two databases or wait at them",
)
def swapdb(client: Client, argv: list[bytes]) -> Simple:
    """Exchange the contents of two databases.

    SWAPDB index1 index2
    """
    databases = client.server.databases
    one, other = integer(argv[1], FIRST_DB_INDEX), integer(argv[2], SECOND_DB_INDEX)
    for index, error in ((one, FIRST_DB_INDEX), (other, SECOND_DB_INDEX)):
        if not -_INT_MAX - 1 <= index <= _INT_MAX:
            raise error
    count = len(databases.keyspaces)
    if not (0 <= one < count and 0 <= other < count):
        raise DB_INDEX
    databases.swap(databases.keyspaces[one], databases.keyspaces[other])
    return OK


# --- Configuration


@command("CONFIG", arity=-2, flags="", since="2.0.0", complexity="Depends on subcommand.")
def config(client: Client, argv: list[bytes]) -> object:
    """Read and change the configuration.

    CONFIG <subcommand>
    """
    raise misused_subcommand(argv[1], b"config")


@command(
    "CONFIG|GET",
    arity=-3,
    flags=_ADMIN,
    since="2.0.0",
    complexity="O(N) parameters",
    notes=("7.0.0: several patterns.",),
)
def config_get(client: Client, argv: list[bytes]) -> dict[bytes, bytes]:
    """Return the parameters whose names match patterns.

    CONFIG GET parameter [parameter ...]
    """
    found: dict[bytes, bytes] = {}
    seen: set[bytes] = set()
    for pattern in argv[2:]:
        for name, value in client.server.config.get(pattern).items():
            # One that is asked for by its name is shown under that, however it is spelled.
            if name.lower() not in seen:
                seen.add(name.lower())
                found[name] = value
    return found


@command(
    "CONFIG|SET",
    arity=-4,
    flags=_ADMIN,
    since="2.0.0",
    complexity="O(N) parameters",
    notes=("7.0.0: several parameters.",),
)
def config_set(client: Client, argv: list[bytes]) -> Simple:
    """Change parameters, all of them or none.

    CONFIG SET parameter value [parameter value ...]
    """
    if len(argv) % 2:
        raise SYNTAX
    client.server.config.set(zip(argv[2::2], argv[3::2]))
    return OK


@command("CONFIG|REWRITE", arity=2, flags=_ADMIN, since="2.8.0", complexity="O(N) lines of the file")
def config_rewrite(client: Client, argv: list[bytes]) -> Simple:
    """Write what has been changed into the configuration file.

    CONFIG REWRITE
    """
    server = client.server
    # With an aclfile the users stand there, and lines of the configuration file must not say otherwise.
    lines = [] if server.config.aclfile else server.users.lines()
    server.config.rewrite([b" ".join(map(quote_if_needed, line.split(b" "))) for line in lines])
    return OK


@command("CONFIG|RESETSTAT", arity=2, flags=_ADMIN, since="2.0.0", complexity="O(1)")
def config_resetstat(client: Client, argv: list[bytes]) -> Simple:
    """Begin to count anew what INFO shows.

    CONFIG RESETSTAT
    """
    client.server.reset_statistics()
    return OK


add_help("CONFIG", group="server", since="5.0.0")


# --- Saving


@command("LASTSAVE", arity=1, flags="loading stale fast", since="1.0.0", complexity="O(1)")
def lastsave(client: Client, argv: list[bytes]) -> int:
    """Return the Unix time of the last SAVE or BGSAVE that went well.

    LASTSAVE
    """
    return client.server.saver.last_save_s


@command(
    "SAVE",
    arity=1,
    flags="admin noscript no_async_loading no_multi",
    since="1.0.0",
    complexity="O(N) bytes",
)
def save(client: Client, argv: list[bytes]) -> Simple:
    """Write the database as an RDB file, while all clients wait.

    SAVE
    """
    client.server.saver.save()
    return OK


@command(
    "BGSAVE",
    arity=-1,
    flags="admin noscript no_async_loading",
    since="1.0.0",
    complexity="O(1); another process reads the database and writes the file",
    notes=("3.2.2: SCHEDULE.",),
)
def bgsave(client: Client, argv: list[bytes]) -> Simple:
    """Write the database as an RDB file in the background.

    BGSAVE [SCHEDULE]
    """
    if len(argv) > 2 or (len(argv) == 2 and argv[1].upper() != b"SCHEDULE"):
        raise SYNTAX
    is_begun = client.server.saver.start_save(may_schedule=len(argv) == 2)
    return _SAVE_STARTED if is_begun else _SAVE_SCHEDULED


@command(
    "BGREWRITEAOF",
    arity=1,
    flags="admin noscript no_async_loading",
    since="1.0.0",
    complexity="O(1); the background rewrites the database",
)
def bgrewriteaof(client: Client, argv: list[bytes]) -> Simple:
    """Compact the whole database in the background.

    BGREWRITEAOF
    """
    return _REWRITE_STARTED if client.server.saver.start_rewrite() else _REWRITE_SCHEDULED


@command(
    "SHUTDOWN",
    arity=-1,
    flags="admin noscript loading stale no_multi allow_busy",
    since="1.0.0",
    complexity="O(1); O(N) bytes with SAVE",
    notes=("7.0.0: NOW, FORCE and ABORT.",),
)
def shutdown(client: Client, argv: list[bytes]) -> Any:
    """Stop the server. What was written is kept in any case; SAVE also writes an RDB file.

    SHUTDOWN [NOSAVE | SAVE] [NOW] [FORCE] [ABORT]
    """
    options = {word.upper() for word in argv[1:]}
    if options - {b"NOSAVE", b"SAVE", b"NOW", b"FORCE", b"ABORT"} or {b"NOSAVE", b"SAVE"} <= options:
        raise SYNTAX
    if b"ABORT" in options:
        if len(argv) > 2:
            raise SYNTAX
        # Stopping begins at once and waits for nobody, as there are no replicas: so it has never begun. For
        # the same reason NOW changes nothing.
        raise _NO_SHUTDOWN
    server = client.server
    if server.scripting.is_busy and b"NOSAVE" not in options:
        raise server.scripting.busy_error
    try:
        if b"SAVE" in options:
            server.saver.stop_save()  # its file would be an older one
            server.saver.save()
        elif b"NOSAVE" not in options:
            server.commit_now()
    except CommandError:
        if b"FORCE" not in options:
            raise _SHUTDOWN_FAILED from None
    client.close_after_reply()
    server.on_shutdown()
    return NO_REPLY


# --- Miscellaneous


@command("TIME", arity=1, flags="loading stale fast", since="2.6.0", complexity="O(1)")
def time_(client: Client, argv: list[bytes]) -> list[bytes]:
    """Return the Unix time in seconds, and the microseconds of the second.

    TIME
    """
    seconds, microseconds = divmod(client.server.clock.now_us, 1_000_000)
    return [b"%d" % seconds, b"%d" % microseconds]


@command("LOLWUT", arity=-1, flags="readonly fast", since="5.0.0", complexity="O(N) characters")
def lolwut(client: Client, argv: list[bytes]) -> Verbatim:
    """Draw layers of sediment, and tell the version.

    LOLWUT [VERSION version [columns [rows]]]
    """
    sizes: list[int] = []
    if len(argv) > 2 and argv[1].upper() == b"VERSION":
        integer(argv[2])
        sizes = [integer(argument) for argument in argv[3:5]]
    return Verbatim(b"txt", draw_strata(*sizes).encode())


# --- Modules: none can be loaded


@command("MODULE", arity=-2, flags="", since="4.0.0", complexity="Depends on subcommand.")
def module(client: Client, argv: list[bytes]) -> object:
    """Manage modules, of which there are none.

    MODULE <subcommand>
    """
    raise misused_subcommand(argv[1], b"module")


@command("MODULE|LIST", arity=2, flags="admin noscript", since="4.0.0", complexity="O(1)")
def module_list(client: Client, argv: list[bytes]) -> list[object]:
    """List the modules that have been loaded: none.

    MODULE LIST
    """
    return []


def _check_modules_allowed(client: Client) -> None:
    name = b"enable-module-command"
    check_allowed(client, client.server.config.get(name)[name].decode(), b"module")


@command("MODULE|LOAD", arity=-3, flags="admin noscript no_async_loading", since="4.0.0", complexity="O(1)")
def module_load(client: Client, argv: list[bytes]) -> object:
    """Refuse to load a module: they are made for another server.

    MODULE LOAD path [arg [arg ...]]
    """
    _check_modules_allowed(client)
    raise _NOT_LOADED


@command("MODULE|LOADEX", arity=-3, flags="admin noscript no_async_loading", since="7.0.0", complexity="O(1)")
def module_loadex(client: Client, argv: list[bytes]) -> object:
    """Refuse to load a module: they are made for another server.

    MODULE LOADEX path [CONFIG name value [CONFIG name value ...]] [ARGS arg [arg ...]]
    """
    _check_modules_allowed(client)
    raise _NOT_LOADED


@command("MODULE|UNLOAD", arity=3, flags="admin noscript no_async_loading", since="4.0.0", complexity="O(1)")
def module_unload(client: Client, argv: list[bytes]) -> object:
    """Answer that no module of that name has been loaded.

    MODULE UNLOAD name
    """
    _check_modules_allowed(client)
    raise _NO_MODULE


add_help("MODULE", group="server", since="5.0.0")

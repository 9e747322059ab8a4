"""COMMAND and its subcommands: what this server knows of its commands."""

from __future__ import annotations

from typing import Any

from lamina.server.aclcategories import CATEGORIES, commands_in
from lamina.server.client import Client
from lamina.server.commanddocs import command_docs, command_info
from lamina.server.commands.help import add_help
from lamina.server.errors import SYNTAX, CommandError
from lamina.server.glob import compile_glob
from lamina.server.keyspecs import are_in_place, key_specs, keys_with_uses, takes_keys
from lamina.server.registry import COMMANDS, Command, all_commands, command
from lamina.server.replies import Distinct

_INVALID_COMMAND = CommandError(b"ERR Invalid command specified")
_INVALID_COUNT = CommandError(b"ERR Invalid number of arguments specified for command")
_INVALID_ARGUMENTS = CommandError(b"ERR Invalid arguments specified for command")
_NO_KEYS = CommandError(b"ERR The command has no key arguments")


def _find(name: bytes) -> Command | None:
    """Return the command that is called `name`, subcommands with a bar: config|get."""
    container, _, rest = name.upper().partition(b"|")
    found = COMMANDS.get(container)
    return found.subcommands.get(rest) if found is not None and rest else found


@command(
    "COMMAND", arity=-1, flags="loading stale", since="2.8.13", complexity="O(N) commands", group="server"
)
def command_(client: Client, argv: list[bytes]) -> list[Any]:
    """Describe all commands.

    COMMAND
    """
    return [command_info(record) for _, record in sorted(COMMANDS.items())]


@command("COMMAND|COUNT", arity=2, flags="loading stale", since="2.8.13", complexity="O(1)", group="server")
def command_count(client: Client, argv: list[bytes]) -> int:
    """Return how many commands there are.

    COMMAND COUNT
    """
    return len(COMMANDS)


@command(
    "COMMAND|DOCS",
    arity=-2,
    flags="loading stale",
    since="7.0.0",
    complexity="O(N) commands asked for",
    group="server",
)
def command_docs_(client: Client, argv: list[bytes]) -> dict[bytes, Any]:
    """Return documentation of commands, of all of them without names.

    COMMAND DOCS [command-name [command-name ...]]
    """
    if len(argv) == 2:
        return {record.wire_name: command_docs(record) for _, record in sorted(COMMANDS.items())}
    found = [record for name in argv[2:] if (record := _find(name)) is not None]
    return {record.wire_name: command_docs(record) for record in found}


@command(
    "COMMAND|INFO",
    arity=-2,
    flags="loading stale",
    since="2.8.13",
    complexity="O(N) commands asked for",
    notes=("7.0.0: without names it describes all commands.",),
    group="server",
)
def command_info_(client: Client, argv: list[bytes]) -> list[Any]:
    """Describe commands, all of them without names.

    COMMAND INFO [command-name [command-name ...]]
    """
    if len(argv) == 2:
        return command_(client, argv)
    return [None if (record := _find(name)) is None else command_info(record) for name in argv[2:]]


@command(
    "COMMAND|LIST",
    arity=-2,
    flags="loading stale",
    since="7.0.0",
    complexity="O(N) commands",
    group="server",
)
def command_list(client: Client, argv: list[bytes]) -> list[bytes]:
    """List the names of commands.

    COMMAND LIST [FILTERBY (MODULE module-name | ACLCAT category | PATTERN pattern)]
    """
    if len(argv) == 2:
        return [record.wire_name for record in all_commands()]
    if len(argv) != 5 or argv[2].upper() != b"FILTERBY":
        raise SYNTAX
    kind, value = argv[3].upper(), argv[4]
    if kind == b"MODULE":
        return []  # no module is ever loaded
    if kind == b"ACLCAT":
        category = value.decode("latin-1").lower()
        records = commands_in(category) if category in CATEGORIES else []
    elif kind == b"PATTERN":
        matches = compile_glob(value, ignore_case=True)
        records = [record for record in all_commands() if matches(record.wire_name)]
    else:
        raise SYNTAX
    return [record.wire_name for record in records]


def _keys(argv: list[bytes]) -> list[tuple[bytes, tuple[str, ...]]]:
    """Return the keys of the call that stands behind COMMAND GETKEYS. Errors: CommandError."""
    call = argv[2:]
    record = COMMANDS.get(call[0].upper())
    if record is not None and record.subcommands:
        record = record.subcommands.get(call[1].upper()) if len(call) > 1 else None
    if record is None:
        raise _INVALID_COMMAND
    if not takes_keys(record):
        raise _NO_KEYS
    if not record.argc_min <= len(call) <= record.argc_max:
        raise _INVALID_COUNT
    try:
        found = keys_with_uses(record, call) if are_in_place(record, call) else []
    except (ValueError, IndexError):
        # An odd number of words behind STREAMS is no call, but half of them are told to be keys.
        halves = [spec for spec in key_specs(record) if spec.limit]
        found = [(call[at], spec.flags) for spec in halves for at in spec.find(call)]
    if not found and "no_mandatory_keys" not in record.flags:
        raise _INVALID_ARGUMENTS
    return found


@command(
    "COMMAND|GETKEYS",
    arity=-3,
    flags="loading stale",
    since="2.8.13",
    complexity="O(N) arguments",
    group="server",
)
def command_getkeys(client: Client, argv: list[bytes]) -> list[bytes]:
    """Return the keys in a complete call of a command.

    COMMAND GETKEYS command [arg ...]
    """
    return [key for key, _ in _keys(argv)]


@command(
    "COMMAND|GETKEYSANDFLAGS",
    arity=-3,
    flags="loading stale",
    since="7.0.0",
    complexity="O(N) arguments",
    group="server",
)
def command_getkeysandflags(client: Client, argv: list[bytes]) -> list[Any]:
    """Return the keys in a complete call of a command, and what is done to each.

    COMMAND GETKEYSANDFLAGS command [arg ...]
    """
    return [[key, Distinct.words(uses)] for key, uses in _keys(argv)]


add_help("COMMAND", group="server", since="5.0.0")

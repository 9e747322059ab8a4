"""ACL: users and their rules. What the rules mean is the package acl's business."""

from __future__ import annotations

import secrets
from typing import Any

from lamina.server.acl.access import find_denial
from lamina.server.aclcategories import CATEGORIES, commands_in
from lamina.server.args import integer
from lamina.server.client import Client
from lamina.server.commands.help import add_help
from lamina.server.dispatch import find_command
from lamina.server.errors import CommandError, misused_subcommand, wrong_arity
from lamina.server.registry import command, lookup
from lamina.server.replies import OK, Distinct, Simple

_OPEN = "noscript loading stale"
_ADMIN = "admin noscript loading stale"
_LOG_SHOWN = 10
_BITS = 256
_BITS_MAX = 4096
_BITS_OUT_OF_RANGE = CommandError(
    b"ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to %d"
    % _BITS_MAX
)


@command("ACL", arity=-2, flags="", since="6.0.0", complexity="Depends on subcommand.", group="server")
def acl(client: Client, argv: list[bytes]) -> object:
    """Manage who may do what.

    ACL <subcommand>
    """
    raise misused_subcommand(argv[1], b"acl")


@command("ACL|CAT", arity=-2, flags=_OPEN, since="6.0.0", complexity="O(N) commands", group="server")
def acl_cat(client: Client, argv: list[bytes]) -> list[bytes]:
    """List the categories of commands, or the commands of one.

    ACL CAT [category]
    """
    if len(argv) > 3:
        raise misused_subcommand(argv[1], b"acl")
    if len(argv) == 2:
        return [name.encode() for name in CATEGORIES]
    category = argv[2].decode("latin-1").lower()
    if category not in CATEGORIES:
        raise CommandError(b"ERR Unknown category '%b'" % argv[2])
    return [record.wire_name for record in commands_in(category, declared=True)]


@command("ACL|GENPASS", arity=-2, flags=_OPEN, since="6.0.0", complexity="O(1)", group="server")
def acl_genpass(client: Client, argv: list[bytes]) -> bytes:
    """Return a password nobody can guess, as hexadecimal digits.

    ACL GENPASS [bits]
    """
    if len(argv) > 3:
        raise misused_subcommand(argv[1], b"acl")
    bits = integer(argv[2]) if len(argv) == 3 else _BITS
    if not 0 < bits <= _BITS_MAX:
        raise _BITS_OUT_OF_RANGE
    digits = (bits + 3) // 4
    return secrets.token_hex((digits + 1) // 2)[:digits].encode()


@command(
    "ACL|USERS",
    arity=2,
    flags=_ADMIN,
    since="6.0.0",
    complexity="O(N) users",
    group="server",
)
def acl_users(client: Client, argv: list[bytes]) -> list[bytes]:
    """List the names of the users.

    ACL USERS
    """
    return client.server.users.names()


@command("ACL|WHOAMI", arity=2, flags=_OPEN, since="6.0.0", complexity="O(1)", group="server")
def acl_whoami(client: Client, argv: list[bytes]) -> bytes:
    """Return the name of the user of this connection.

    ACL WHOAMI
    """
    return client.user.name


@command("ACL|LIST", arity=2, flags=_ADMIN, since="6.0.0", complexity="O(N) users", group="server")
def acl_list(client: Client, argv: list[bytes]) -> list[bytes]:
    """List the users with their rules, as lines of a configuration file.

    ACL LIST
    """
    return [b"user " + line for line in client.server.users.lines()]


@command(
    "ACL|GETUSER",
    arity=3,
    flags=_ADMIN,
    since="6.0.0",
    complexity="O(N) passwords and rules",
    group="server",
    notes=(
        "6.2.0: Added Pub/Sub channel patterns.",
        "7.0.0: Added selectors and changed the format of key and channel patterns from a list to words.",
    ),
)
def acl_getuser(client: Client, argv: list[bytes]) -> dict[bytes, Any] | None:
    """Return the flags, passwords and rules of a user.

    ACL GETUSER username
    """
    user = client.server.users.get(argv[2])
    if user is None:
        return None
    own, *further = (
        {
            b"commands": selector.command_rules,
            b"keys": selector.key_rules,
            b"channels": selector.channel_rules,
        }
        for selector in user.selectors
    )
    return {b"flags": Distinct(user.flags), b"passwords": list(user.passwords), **own, b"selectors": further}


@command(
    "ACL|SETUSER",
    arity=-3,
    flags=_ADMIN,
    since="6.0.0",
    complexity="O(N) rules",
    group="server",
    notes=(
        "6.2.0: Added Pub/Sub channel patterns.",
        "7.0.0: Added selectors and key based permissions.",
    ),
)
def acl_setuser(client: Client, argv: list[bytes]) -> Simple:
    """Change a user by rules, or make it.

    ACL SETUSER username [rule [rule ...]]
    """
    client.server.users.change(argv[2], argv[3:])
    return OK


@command(
    "ACL|DELUSER",
    arity=-3,
    flags=_ADMIN,
    since="6.0.0",
    complexity="O(1) for each user, and O(N) clients",
    group="server",
)
def acl_deluser(client: Client, argv: list[bytes]) -> int:
    """Remove users, and close their connections.

    ACL DELUSER username [username ...]
    """
    return client.server.users.remove(argv[2:])


@command("ACL|DRYRUN", arity=-4, flags=_ADMIN, since="7.0.0", complexity="O(1)", group="server")
def acl_dryrun(client: Client, argv: list[bytes]) -> Simple | bytes:
    """Tell whether a user may call a command, without calling it.

    ACL DRYRUN username command [arg [arg ...]]
    """
    user = client.server.users.get(argv[2])
    if user is None:
        raise CommandError(b"ERR User '%b' not found" % argv[2])
    call = argv[3:]
    try:
        record = find_command(call)
    except CommandError:
        if len(call) == 1 and (found := lookup(call[0])) is not None:
            raise wrong_arity(found.wire_name) from None  # a container alone
        raise CommandError(b"ERR Command '%b' not found" % call[0]) from None
    if not record.argc_min <= len(call) <= record.argc_max:
        raise wrong_arity(record.wire_name)
    denial = find_denial(user, record, call)
    return OK if denial is None else denial.explanation


@command(
    "ACL|LOG",
    arity=-2,
    flags=_ADMIN,
    since="6.0.0",
    complexity="O(N) entries shown",
    group="server",
    notes=("7.2.0: Added entry ID, timestamp created, and timestamp last updated.",),
)
def acl_log(client: Client, argv: list[bytes]) -> list[dict[bytes, Any]] | Simple:
    """Show what has been refused lately, or forget it.

    ACL LOG [count | RESET]
    """
    if len(argv) > 3:
        raise misused_subcommand(argv[1], b"acl")
    log = client.server.users.log
    if len(argv) == 3 and argv[2].upper() == b"RESET":
        log.clear()
        return OK
    count = integer(argv[2]) if len(argv) == 3 else _LOG_SHOWN
    now_ms = client.server.clock.now_ms
    return [entry.reply(now_ms) for entry in log.recent(count)]


@command("ACL|LOAD", arity=2, flags=_ADMIN, since="6.0.0", complexity="O(N) users", group="server")
def acl_load(client: Client, argv: list[bytes]) -> Simple:
    """Read the users from aclfile anew.

    ACL LOAD
    """
    client.server.users.load()
    return OK


@command("ACL|SAVE", arity=2, flags=_ADMIN, since="6.0.0", complexity="O(N) users", group="server")
def acl_save(client: Client, argv: list[bytes]) -> Simple:
    """Write the users to aclfile.

    ACL SAVE
    """
    client.server.users.save()
    return OK


add_help("ACL", group="server", since="6.0.0")

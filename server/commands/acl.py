"""ACL: what there is to know of categories, and of users while there is one only."""

from __future__ import annotations

import secrets

from lamina.server.aclcategories import CATEGORIES, commands_in
from lamina.server.args import integer
from lamina.server.client import Client
from lamina.server.commands.help import add_help
from lamina.server.errors import CommandError, misused_subcommand
from lamina.server.registry import command

_OPEN = "noscript loading stale"
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
    return [record.wire_name for record in commands_in(category)]


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
    flags="admin noscript loading stale",
    since="6.0.0",
    complexity="O(N) users",
    group="server",
)
def acl_users(client: Client, argv: list[bytes]) -> list[bytes]:
    """List the names of the users.

    ACL USERS
    """
    return [b"default"]


@command("ACL|WHOAMI", arity=2, flags=_OPEN, since="6.0.0", complexity="O(1)", group="server")
def acl_whoami(client: Client, argv: list[bytes]) -> bytes:
    """Return the name of the user of this connection.

    ACL WHOAMI
    """
    return client.user


add_help("ACL", group="server", since="6.0.0")

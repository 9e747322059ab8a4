"""ACL categories: which each command belongs to, derived from its flags and its group.

    @read @write @admin @pubsub @blocking       the flag of that name; @dangerous for all that is @admin
    @fast, @slow                                the flag `fast`, or its absence
    @string, @list, ...                         the command's group

What neither says is in a table: what belongs to two data types, what is dangerous though it only reads, and
containers, which do nothing themselves.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from lamina.server.registry import Command, all_commands

CATEGORIES: Final = tuple(
    "keyspace read write set sortedset list hash string bitmap hyperloglog geo stream pubsub admin fast slow "
    "blocking dangerous connection transaction scripting".split()
)
"""In the order in which ACL CAT lists them."""

_BY_FLAG: Final = {
    "write": ("write",),
    "readonly": ("read",),
    "admin": ("admin", "dangerous"),
    "pubsub": ("pubsub",),
    "blocking": ("blocking",),
    "dangerous": ("dangerous",),
}
_BY_GROUP: Final = {
    "bitmap": "bitmap",
    "connection": "connection",
    "generic": "keyspace",
    "geo": "geo",
    "hash": "hash",
    "hyperloglog": "hyperloglog",
    "list": "list",
    "scripting": "scripting",
    "set": "set",
    "sorted-set": "sortedset",
    "stream": "stream",
    "string": "string",
    "transactions": "transaction",
}

_SORT: Final = frozenset(("dangerous", "list", "set", "sortedset"))
_SPECIAL: Final = {
    **dict.fromkeys(
        ("FLUSHALL", "FLUSHDB", "SWAPDB", "RESTORE-ASKING"), frozenset(("keyspace", "dangerous"))
    ),
    **dict.fromkeys(("KEYS", "RESTORE", "MIGRATE"), frozenset(("keyspace", "dangerous"))),
    **dict.fromkeys(("LASTSAVE", "ROLE"), frozenset(("admin", "dangerous"))),
    **dict.fromkeys(("SORT", "SORT_RO"), _SORT),
    **dict.fromkeys(("READONLY", "READWRITE", "ASKING", "WAIT", "WAITAOF"), frozenset(("connection",))),
    "COMMAND": frozenset(("connection",)),
    "DBSIZE": frozenset(("keyspace",)),
    "INFO": frozenset(("dangerous",)),
}
"""In the place of what the group says; it holds for subcommands, too."""

_READ_THROUGH_SCRIPTS: Final = frozenset(("EVAL_RO", "EVALSHA_RO", "FCALL_RO"))
"""Read-only, but no data of their own: they are not in @read."""


@cache
def categories_of(record: Command) -> tuple[str, ...]:
    """Return a command's categories, in the order of `CATEGORIES`."""
    found = {"fast" if "fast" in record.flags else "slow"}
    for flag in record.flags:
        found.update(_BY_FLAG.get(flag, ()))
    if record.name in _READ_THROUGH_SCRIPTS:
        found.discard("read")
    special = _SPECIAL.get(record.name.partition("|")[0])
    if special is not None:
        found |= special
    elif not record.subcommands and record.group in _BY_GROUP:
        found.add(_BY_GROUP[record.group])
    return tuple(name for name in CATEGORIES if name in found)


def commands_in(category: str, *, declared: bool = False) -> list[Command]:
    """Return the commands and subcommands of a category; `declared` as for `all_commands`."""
    return [record for record in all_commands(declared=declared) if category in categories_of(record)]

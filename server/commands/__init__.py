"""The commands, a module for each of Redis's groups. Importing this package fills the registry.

To add a command: one function with a `@command` line in the module of its group. If it needs a new operation
on data, that goes to types/. `make docs` then writes docs/commands.md anew.
"""

from __future__ import annotations

from lamina.server.commands import (
    client,
    client_tracking,
    connection,
    generic,
    hash,  # noqa: A004
    list,  # noqa: A004
    monitor,
    pubsub,
    server,
    set,  # noqa: A004
    sort,
    sorted_set,
    string,
    transactions,
    waiting,
)

GROUPS = (
    client,
    client_tracking,
    connection,
    generic,
    hash,
    list,
    monitor,
    pubsub,
    server,
    set,
    sort,
    sorted_set,
    string,
    transactions,
    waiting,
)
"""Every module that declares commands."""

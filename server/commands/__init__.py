"""The commands, a module for each of Redis's groups. Importing this package fills the registry.

To add a command: one function with a `@command` line in the module of its group. If it needs a new operation
on data, that goes to types/. `make docs` then writes docs/commands.md anew.
"""

from __future__ import annotations

from lamina.server.commands import (
    acl,
    alike,
    checkpoint,
    client,
    client_tracking,
    cluster,
    connection,
    debug,
    generic,
    hash,  # noqa: A004
    introspection,
    list,  # noqa: A004
    metrics,
    migration,
    monitor,
    pubsub,
    replication,
    server,
    set,  # noqa: A004
    sort,
    sorted_set,
    string,
    transactions,
    waiting,
)

ALIKE = alike
"""Runs pipelines of one command at once."""

GROUPS = (
    acl,
    checkpoint,
    client,
    client_tracking,
    cluster,
    connection,
    debug,
    generic,
    hash,
    introspection,
    list,
    metrics,
    migration,
    monitor,
    pubsub,
    replication,
    server,
    set,
    sort,
    sorted_set,
    string,
    transactions,
    waiting,
)
"""Every module that declares commands."""

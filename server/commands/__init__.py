"""The commands, a module for each of Redis's groups. Importing this package fills the registry.

To add a command: one function with a `@command` line in the module of its group. If it needs a new operation
on data, that goes to types/. `make docs` then writes docs/commands.md anew.
"""

from __future__ import annotations

from lamina.server.commands import (
    acl,
    alike,
    bitmap,
    checkpoint,
    client,
    client_tracking,
    cluster,
    connection,
    debug,
    function,
    generic,
    geo,
    hash,  # noqa: A004
    hyperloglog,
    introspection,
    list,  # noqa: A004
    metrics,
    migration,
    monitor,
    pubsub,
    replication,
    scripting,
    server,
    set,  # noqa: A004
    sort,
    sorted_set,
    stream,
    stream_group,
    stream_info,
    stream_read,
    string,
    transactions,
    waiting,
)

ALIKE = alike
"""Runs pipelines of one command at once."""

GROUPS = (
    acl,
    bitmap,
    checkpoint,
    client,
    client_tracking,
    cluster,
    connection,
    debug,
    function,
    generic,
    geo,
    hash,
    hyperloglog,
    introspection,
    list,
    metrics,
    migration,
    monitor,
    pubsub,
    replication,
    scripting,
    server,
    set,
    sort,
    sorted_set,
    stream,
    stream_group,
    stream_info,
    stream_read,
    string,
    transactions,
    waiting,
)
"""Every module that declares commands."""

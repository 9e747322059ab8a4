"""The commands, a module for each of Redis's groups. Importing this package fills the registry.

To add a command: one function with a `@command` line in the module of its group. If it needs a new operation
on data, that goes to types/. `make docs` then writes docs/commands.md anew.
"""

from __future__ import annotations

from lamina.server.commands import connection, generic, hash, server, string, transactions

GROUPS = (connection, generic, hash, server, string, transactions)
"""Every module that declares commands."""

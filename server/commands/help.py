"""HELP: what a container command says of its subcommands, derived from the registry.

The module that declares a container and its subcommands says once, after them::

    add_help("CLIENT", group="connection", since="5.0.0")

The shape is Redis's: a line about the container, then each subcommand with its arguments and, indented, what
it does: syntax and summary of its docstring. A command without registered subcommands calls `help_lines`.
"""

from __future__ import annotations

from collections.abc import Iterable

from lamina.server.client import Client
from lamina.server.registry import COMMANDS, command
from lamina.server.replies import Simple

_INDENT = b"    "


def help_lines(container: str, entries: Iterable[tuple[str, str]]) -> list[Simple]:
    """Return the reply of `container HELP`: entries are syntax, without the container, and summary."""
    lines = [f"{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:".encode()]
    for syntax, summary in (*sorted(entries), ("HELP", "Print this help.")):
        lines += [syntax.encode(), _INDENT + summary.encode()]
    return [Simple(line) for line in lines]


def add_help(container: str, *, group: str, since: str, flags: str = "loading stale") -> None:
    """Register the subcommand HELP of a container. `group`, `since` and `flags` as for `command`."""

    subcommands = COMMANDS[container.encode()].subcommands  # found now: commands may be renamed later

    def help_(client: Client, argv: list[bytes]) -> list[Simple]:
        return help_lines(
            container,
            [
                (sub.syntax.removeprefix(container).lstrip(), sub.summary)
                for sub in subcommands.values()
                if sub.handler is not help_
            ],
        )

    help_.__doc__ = f"Tell what the subcommands of {container} do.\n\n{container} HELP"
    command(f"{container}|HELP", arity=2, flags=flags, since=since, complexity="O(1)", group=group)(help_)

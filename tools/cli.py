"""The `lamina` command: finds the verb and hands it the rest of the line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

from lamina.server.version import VERSION
from lamina.tools import serve

VERBS: dict[str, tuple[Callable[[list[str]], int], str]] = {
    # verb: (function of the arguments that returns the exit status, what it does)
    "serve": (serve.main, "serve a database over Redis's protocol"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run a verb; returns the exit status: 0 fine, 1 findings, 2 usage or input and output."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(usage())
        return 0 if arguments else 2
    if arguments[0] in ("-v", "--version", "version"):
        sys.stdout.write(f"lamina {VERSION}\n")
        return 0
    verb = VERBS.get(arguments[0])
    if verb is None:
        sys.stderr.write(f"lamina: no verb {arguments[0]!r}\n{usage()}")
        return 2
    return verb[0](arguments[1:])


def usage() -> str:
    """Return what `lamina --help` says."""
    lines = [f"  {name:10} {text}" for name, (_, text) in VERBS.items()]
    return _USAGE.format(verbs="\n".join(lines))


_USAGE: Final = """\
usage: lamina VERB [arguments]
       lamina VERB --help
       lamina --version

Lamina is a Redis that keeps its data on disk.

{verbs}

examples:
  lamina serve                                   port 6379 of this machine, data in ./lamina
  lamina serve /etc/lamina.conf --port 7000      what a file in redis.conf's syntax says, but for the port
  redis-cli -p 7000 PING                         any Redis client will do
"""

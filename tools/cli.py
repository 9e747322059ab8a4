"""The `lamina` command: finds the verb and hands it the rest of the line."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Final

from lamina.server.version import VERSION

VERBS: dict[str, tuple[str, str]] = {
    # verb: (module whose main takes the arguments and returns the exit status, what it does)
    "check": ("lamina.tools.check", "say what is wrong with a database"),
    "repair": ("lamina.tools.repair", "make a damaged database one that opens, and say what is lost"),
    "serve": ("lamina.tools.serve", "serve a database over Redis's protocol"),
    "dump": ("lamina.tools.dump", "show what is in a segment, a log, a manifest or a whole database"),
    "find": ("lamina.tools.find", "show every place where a key occurs, newest first"),
    "stats": ("lamina.tools.stats", "say what is in a database and how it lies on the disk"),
    "backup": ("lamina.tools.backup", "keep states of a database in a repository of backups"),
    "restore": ("lamina.tools.restore", "make a new database of a backup"),
    "compact": ("lamina.tools.compact", "give back the space of what is no longer alive"),
    "import": ("lamina.tools.importing", "take keys over from Redis's files, from commands or JSON lines"),
    "export": ("lamina.tools.exporting", "write keys as an RDB file, as commands or as JSON lines"),
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
    # Imported here and not above: a server should not pay for what the other verbs need, nor they for it.
    run: Callable[[list[str]], int] = importlib.import_module(verb[0]).main
    return run(arguments[1:])


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

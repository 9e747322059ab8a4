"""The `lamina` command: finds the verb and hands it the rest of the line."""

from __future__ import annotations

import sys
from collections.abc import Callable

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
    verb = VERBS.get(arguments[0])
    if verb is None:
        sys.stderr.write(f"lamina: no verb {arguments[0]!r}\n{usage()}")
        return 2
    return verb[0](arguments[1:])


def usage() -> str:
    """Return what `lamina --help` says."""
    lines = [f"  {name:10} {text}" for name, (_, text) in VERBS.items()]
    return "usage: lamina VERB [arguments]\n\n" + "\n".join(lines) + "\n"

"""How the verbs that only look say that something is damaged: where, and what is wrong there."""

from __future__ import annotations

import sys

from lamina.engine import CorruptionError
from lamina.tools.console import FINDINGS


def complain(verb: str, path: str, offset: int, what: str) -> int:
    """Say on stderr what is damaged; returns the exit status that goes with it."""
    sys.stderr.write(f"lamina {verb}: {path}: damaged at byte {offset}: {what}\n")
    return FINDINGS


def complain_of(verb: str, error: CorruptionError) -> int:
    """The same for what the engine has raised."""
    facts = "" if error.expected is None else f" (expected {error.expected!r}, found {error.found!r})"
    return complain(verb, error.path, error.offset, error.what + facts)

"""Every file name of a database is built and parsed here.

    LOCK                held by the one writer
    MANIFEST            what is live; replaced atomically
    000012.wal          write-ahead log number 12
    000034.seg          segment number 34
    MANIFEST.tmp, 000034.seg.tmp   half-written; swept when the database is opened
    lost/1              folder of files that the first repair has replaced; nobody reads or removes them
    repair.tmp          folder in which a repair builds, or that one has left that was broken off

Logs and segments draw their numbers from one counter, so a larger number was begun later.
"""

from __future__ import annotations

import re

LOCK = "LOCK"
MANIFEST = "MANIFEST"
TEMPORARY_SUFFIX = ".tmp"
LOST_FOLDER = "lost"
REPAIR_FOLDER = "repair.tmp"

_NUMBERED = re.compile(r"([0-9]{6}|[1-9][0-9]{6,})\.(wal|seg)")


def wal_name(number: int) -> str:
    """Return the name of write-ahead log `number`."""
    return f"{number:06d}.wal"


def segment_name(number: int) -> str:
    """Return the name of segment `number`."""
    return f"{number:06d}.seg"


def temporary_name(name: str) -> str:
    """Return the name under which `name` is written until it is complete."""
    return name + TEMPORARY_SUFFIX


def parse_name(name: str) -> tuple[str, int] | None:
    """Return ``("wal" | "seg", number)``, or None for a name of another kind."""
    match = _NUMBERED.fullmatch(name)
    return None if match is None else (match[2], int(match[1]))


def is_temporary(name: str) -> bool:
    """Tell whether `name` is a file of ours that was never finished."""
    if not name.endswith(TEMPORARY_SUFFIX):
        return False
    stem = name.removesuffix(TEMPORARY_SUFFIX)
    return stem == MANIFEST or parse_name(stem) is not None

"""Which files an append-only file consists of.

    one file            commands, perhaps behind an RDB preamble (up to Redis 6.2, and afterwards as a base)
    a folder            appendonly.aof.manifest names a base and increments, to be read in order:

        file appendonly.aof.1.base.rdb seq 1 type b
        file appendonly.aof.1.incr.aof seq 1 type i
        file appendonly.aof.2.incr.aof seq 2 type i

Files of type h, history, have been replaced by others and wait for their removal.
"""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from lamina.server.splitting import split_arguments
from lamina.tools.console import UsageError

MANIFEST_SUFFIX: Final = ".manifest"
RDB_MAGIC: Final = b"REDIS"
_LINE_SIZE_MAX: Final = 1024


class AofPart(NamedTuple):
    """One file. `is_rdb`: it begins with an RDB file. `is_last`: only then may it be truncated."""

    path: str
    is_rdb: bool
    is_last: bool


def is_multi_part(path: str) -> bool:
    """Tell whether a path is a manifest, or a folder that holds one."""
    return path.endswith(MANIFEST_SUFFIX) or (os.path.isdir(path) and bool(_manifests(path)))


def parts_of(path: str) -> list[AofPart]:
    """Return the files to read, in order. Errors: UsageError; OSError."""
    if os.path.isdir(path):
        found = _manifests(path)
        if len(found) != 1:
            what = "no manifest of an append-only file" if not found else f"several manifests: {found}"
            raise UsageError(f"{path}: there is {what} in this folder: name a file")
        path = os.path.join(path, found[0])
    if not path.endswith(MANIFEST_SUFFIX):
        return [AofPart(path, _begins_with_rdb(path), True)]
    with open(path, "rb") as file:
        names = _names(path, file.read())
    paths = [os.path.join(os.path.dirname(path), name) for name in names]
    return [AofPart(part, _begins_with_rdb(part), part == paths[-1]) for part in paths]


def _manifests(folder: str) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.endswith(MANIFEST_SUFFIX))


def _begins_with_rdb(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(len(RDB_MAGIC)) == RDB_MAGIC


def _names(path: str, text: bytes) -> list[str]:
    """Return the names of base and increments. Errors: UsageError."""
    base: list[str] = []
    increments: list[tuple[int, str]] = []
    for number, line in enumerate(text.split(b"\n"), 1):
        if not line.strip() or line.startswith(b"#"):
            continue
        words = split_arguments(line.strip()) if len(line) <= _LINE_SIZE_MAX else None
        facts = dict(zip(words[::2], words[1::2])) if words and len(words) % 2 == 0 else {}
        name, sequence, kind = (facts.get(word, b"") for word in (b"file", b"seq", b"type"))
        if not name or b"/" in name or not sequence.isdigit() or kind not in (b"b", b"i", b"h"):
            raise UsageError(f"{path}: line {number} names no file of an append-only file: {line[:80]!r}")
        if kind == b"b":
            base.append(os.fsdecode(name))
        elif kind == b"i":
            increments.append((int(sequence), os.fsdecode(name)))
    if len(base) > 1:
        raise UsageError(f"{path}: there are {len(base)} base files")
    if increments != sorted(increments):
        raise UsageError(f"{path}: the increments are not in order")
    if not base and not increments:
        raise UsageError(f"{path}: no files are named")
    return base + [name for _, name in increments]

"""The first line of a script or library: `#!lua name=... flags=no-writes,allow-stale`."""

from __future__ import annotations

import re
from typing import Final

from lamina.server.errors import CommandError
from lamina.server.splitting import split_arguments

NO_WRITES: Final = "no-writes"
FLAGS: Final = (NO_WRITES, "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys")
"""All flags, in the order in which they are listed. The first alone matters here: nothing is refused for want
of memory, and there are neither replicas nor slots."""

_INVALID: Final = CommandError(b"ERR Invalid script shebang")
_INVALID_ENGINE: Final = CommandError(b"ERR Invalid engine in script shebang")
_MISSING_METADATA: Final = CommandError(b"ERR Missing library metadata")
_INVALID_METADATA: Final = CommandError(b"ERR Invalid library metadata")
_NO_NAME: Final = CommandError(b"ERR Library name was not given")
_NAME_TWICE: Final = CommandError(b"ERR Invalid metadata value, name argument was given multiple times")
INVALID_NAME: Final = CommandError(
    b"ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one"
    b" character long"
)

_is_name = re.compile(rb"[A-Za-z0-9_]+").fullmatch


def parse_script(source: bytes) -> tuple[bytes, frozenset[str] | None]:
    """Return the code of a script, its shebang replaced by an empty line, and its flags; None: it has no
    shebang.

    Errors: CommandError.
    """
    if not source.startswith(b"#!"):
        return source, None
    end = source.find(b"\n")
    if end < 0:
        raise _INVALID
    words = split_arguments(source[:end])
    if not words:
        raise _INVALID_ENGINE
    if words[0] != b"#!lua":
        raise CommandError(b"ERR Unexpected engine in script shebang: %b" % words[0])
    flags: set[str] = set()
    for word in words[1:]:
        if not word.startswith(b"flags="):
            raise CommandError(b"ERR Unknown lua shebang option: %b" % word)
        if len(word) > len(b"flags="):
            flags.update(map(_flag, word.removeprefix(b"flags=").split(b",")))
    return source[end:], frozenset(flags)


def _flag(word: bytes) -> str:
    name = word.decode("latin-1")
    if name not in FLAGS:
        raise CommandError(b"ERR Unexpected flag in script shebang: %b" % word)
    return name


def parse_library(source: bytes) -> tuple[bytes, bytes]:
    """Return the name of a library and its code, the first line empty. Errors: CommandError."""
    end = source.find(b"\n")
    if not source.startswith(b"#!"):
        raise _MISSING_METADATA
    words = split_arguments(source[:end]) if end >= 0 else None
    if not words:
        raise _INVALID_METADATA
    name: bytes | None = None
    for word in words[1:]:
        if word[:5].lower() != b"name=":
            raise CommandError(b"ERR Invalid metadata value given: %b" % word)
        if name is not None:
            raise _NAME_TWICE
        name = word[5:]
    if name is None:
        raise _NO_NAME
    if _is_name(name) is None:
        raise INVALID_NAME
    engine = words[0].removeprefix(b"#!")
    if engine.lower() != b"lua":
        raise CommandError(b"ERR Engine '%b' not found" % engine)
    return name, source[end:]

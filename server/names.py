"""What names clients may give themselves: names stand in the lines of CLIENT LIST, apart by spaces."""

from __future__ import annotations

import re

from lamina.server.errors import CommandError

_fullmatch = re.compile(rb"[!-~]*").fullmatch

_BAD_NAME = CommandError(b"ERR Client names cannot contain spaces, newlines or special characters.")


def is_one_word(text: bytes) -> bool:
    """Tell whether `text` is printable ASCII without spaces, or nothing."""
    return _fullmatch(text) is not None


def valid_client_name(name: bytes) -> bytes:
    """Return a name that is valid. Errors: CommandError."""
    if not is_one_word(name):
        raise _BAD_NAME
    return name

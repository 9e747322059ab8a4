r"""Splitting a line into arguments: inline commands, and the lines of a configuration file.

    set key "a b\x41\n" 'it\'s' a"b c"

Double quotes know the escapes \n \r \t \b \a and \xHH; before any other character the backslash goes away.
Single quotes know \' alone. Quotes may open inside an argument, but they end it: a space or the line's end
must follow. Outside of quotes a backslash is itself. A NUL ends the line, as it ends a C string.
"""

from __future__ import annotations

import re

_ARGUMENT = re.compile(
    rb"""[ \t\n\v\f\r]*+
    (?P<bare>[^ \t\n\r\0"']*+)
    (?: "(?P<double>(?:[^"\\\0]|\\[^\0])*+)"
      | '(?P<single>(?:[^'\\\0]|\\'|\\(?!'))*+)' )?
    (?=[ \t\n\v\f\r\0]|\Z)""",
    re.VERBOSE,
)
_NEEDS_CARE = re.compile(rb"[\"'\v\f\0]")
_END = re.compile(rb"[ \t\n\v\f\r]*(?:\0|\Z)")

_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_CONTROLS = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}

_NEEDS_QUOTES = re.compile(rb"[^!-~]|[\"'\\]")
_NAMES = {0x0A: b"\\n", 0x0D: b"\\r", 0x09: b"\\t", 0x08: b"\\b", 0x07: b"\\a", 0x22: b'\\"', 0x5C: b"\\\\"}
_QUOTED = [
    _NAMES.get(byte) or (b"%c" % byte if 0x20 <= byte < 0x7F else b"\\x%02x" % byte) for byte in range(256)
]


def split_arguments(line: bytes) -> list[bytes] | None:
    """Return the arguments in `line`, which may be none, or None if its quotes are unbalanced."""
    if _NEEDS_CARE.search(line) is None:
        return line.split()
    arguments = []
    position = 0
    while _END.match(line, position) is None:
        match = _ARGUMENT.match(line, position)
        if match is None:
            return None
        bare, double, single = match.groups()
        if double is not None:
            bare += _ESCAPE.sub(_unescape, double)
        elif single is not None:
            bare += single.replace(b"\\'", b"'")
        arguments.append(bare)
        position = match.end()
    return arguments


def quote_argument(argument: bytes) -> bytes:
    """Return `argument` in double quotes, printable, such that `split_arguments` gives it back."""
    return b'"' + b"".join([_QUOTED[byte] for byte in argument]) + b'"'


def quote_if_needed(argument: bytes) -> bytes:
    """Return `argument` as it is, or in double quotes where it would not come back as one argument."""
    if argument and _NEEDS_QUOTES.search(argument) is None:
        return argument
    return quote_argument(argument)


def _unescape(match: re.Match[bytes]) -> bytes:
    digits, other = match.groups()
    if digits is not None:
        return bytes.fromhex(digits.decode())
    return _CONTROLS.get(other, other)

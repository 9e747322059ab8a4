"""Users in a file of their own: aclfile, which ACL LOAD reads and ACL SAVE writes.

    user alice on #2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90 ~app:* resetchannels +@all

One line for each user. There are no comments and no quotes: a space ends a word, and words may be empty.
"""

from __future__ import annotations

import os

from lamina.server.acl.rules import RuleError, UnknownNameError, UnmatchedError, has_spaces, merge_selectors
from lamina.server.acl.user import User
from lamina.server.configfile import replace_file

_NOTHING_CHANGED = b"WARNING: ACL errors detected, no change to the previously active ACL rules was performed"


class UserFileError(Exception):
    """A file of users that cannot be read or makes no sense; `message` says all that is wrong with it."""

    def __init__(self, message: bytes) -> None:
        super().__init__(message.decode(errors="replace"))
        self.message = message


def read_users(path: str, shown: str, *, opens_channels: bool) -> dict[bytes, User]:
    """Return the users of a file; errors show its name as `shown`. Errors: UserFileError."""
    name = os.fsencode(shown)
    try:
        with open(path, "rb") as file:
            lines = file.read().split(b"\0")[0].split(b"\n")
    except OSError as error:
        reason = os.fsencode(error.strerror or str(error))
        raise UserFileError(b"Error loading ACLs, opening file '%b': %b" % (name, reason)) from None
    users: dict[bytes, User] = {}
    problems: list[bytes] = []
    for number, line in enumerate(lines, 1):
        words = line.strip(b" \t\r").split(b" ")
        if words != [b""]:
            problems += _read_line(
                words, b"%b:%d" % (name, number), number, users, opens_channels=opens_channels
            )
    if problems:
        raise UserFileError(b"".join(problems) + _NOTHING_CHANGED)
    return users


def _read_line(
    words: list[bytes], place: bytes, number: int, users: dict[bytes, User], *, opens_channels: bool
) -> list[bytes]:
    """Add the user of one line; returns what is wrong with it."""
    if words[0] != b"user" or len(words) < 2:
        return [b"%b should start with user keyword followed by the username. " % place]
    name = words[1]
    if has_spaces(name):
        return [b"'%b: username '%b' contains invalid characters. " % (place, name)]
    if name in users:
        return [b"WARNING: Duplicate user '%b' found on line %d. " % (name, number)]
    user = users[name] = User(name, opens_channels=opens_channels)
    try:
        merged = merge_selectors(words[2:])
    except UnmatchedError:
        return [b"%b: Unmatched parenthesis in selector definition." % place]
    problems: list[bytes] = []
    is_told = False
    for word in (word.strip(b"\t\r\n") for word in merged):
        try:
            user.obey(word, opens_channels=opens_channels)
        except UnknownNameError as error:
            problems.append(
                b"%b: Error in applying operation '%b': %b. " % (place, word, str(error).encode())
            )
        except RuleError as error:
            # Of other mistakes the first is told: it may be what causes the rest, and rules hold secrets.
            if not is_told:
                problems.append(b"%b: %b. " % (place, str(error).encode()))
            is_told = True
    return problems


def write_users(path: str, lines: list[bytes]) -> None:
    """Swap a file's content for users, each a line that begins with the name. Errors: OSError."""
    replace_file(path, b"".join([b"user %b\n" % line for line in lines]))

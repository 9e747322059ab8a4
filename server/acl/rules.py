"""The words that describe a user: how they are split, and what is said of those that make no sense.

    on  >password  #hash  nopass  +get  -@dangerous  +config|get  ~app:*  %R~shared:*  &news  (~tmp:* +set)

What each word means is said where it is obeyed: in `user.py` and `selector.py`.
"""

from __future__ import annotations

import re
from typing import Final

from lamina.server.registry import DECLARED, Command

_has_space = re.compile(rb"[\s\0]").search


class RuleError(ValueError):
    """A word that cannot be obeyed; the text says why, in Redis's words."""


class UnknownNameError(RuleError):
    """It names a command or category that there is not."""

    def __init__(self) -> None:
        super().__init__("Unknown command or category name in ACL")


class UnmatchedError(RuleError):
    """A selector that is opened and not closed; `word` is the one that opens it."""

    def __init__(self, word: bytes) -> None:
        super().__init__("Unmatched parenthesis in ACL selector")
        self.word = word


BAD_WORD: Final = "Syntax error"
PATTERN_AFTER_ALL_KEYS: Final = (
    "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. "
    "Try 'resetkeys' to start with an empty list of patterns"
)
PATTERN_AFTER_ALL_CHANNELS: Final = (
    "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any "
    "effect. Try 'resetchannels' to start with an empty list of channels"
)
NO_SUCH_PASSWORD: Final = "The password you are trying to remove from the user does not exist"
BAD_HASH: Final = (
    "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
)
FIRST_ARGUMENT_OF_SUBCOMMAND: Final = "Allowing first-arg of a subcommand is not supported"
DUPLICATE_USER: Final = "Duplicate user found. A user can only be defined once in config files"


def has_spaces(text: bytes) -> bool:
    """Tell whether a name or pattern has bytes that would end it in a file."""
    return _has_space(text) is not None


def merge_selectors(words: list[bytes]) -> list[bytes]:
    """Return the words with those of each selector joined into one. Errors: UnmatchedError."""
    merged: list[bytes] = []
    parts: list[bytes] = []
    for word in words:
        if parts:
            parts.append(word)
        elif word.startswith(b"(") and not word.endswith(b")"):
            parts = [word]
            continue
        else:
            merged.append(word)
            continue
        if word.endswith(b")"):
            merged.append(b" ".join(parts))
            parts = []
    if parts:
        raise UnmatchedError(parts[0])
    return merged


def find_command(name: bytes) -> Command:
    """Return the command or subcommand (`config|get`) of that name, whatever rename-command has made of it.

    Errors: UnknownNameError.
    """
    container, bar, rest = name.upper().partition(b"|")
    found = DECLARED.get(container)
    if found is not None and bar:
        found = found.subcommands.get(rest)
    if found is None:
        raise UnknownNameError
    return found

"""What can be wrong with an RDB file or a DUMP payload. Nothing else is raised by reading, but OSError."""

from __future__ import annotations


class RdbError(Exception):
    """The bytes are not what they must be: truncated, damaged, or made to deceive.

    `offset` counts from the start of the file or payload. Inside of a packed or compressed string it is the
    place right behind that string: what lies within has no offset of its own in the file.
    """

    def __init__(self, offset: int, what: str) -> None:
        super().__init__(offset, what)
        self.offset = offset
        self.what = what

    def __str__(self) -> str:
        return f"offset {self.offset}: {self.what}"


class UnsupportedError(RdbError):
    """The bytes may be whole, but hold what only other programs read: a newer version, a module's data."""


class FooterError(RdbError):
    """A DUMP payload whose last ten bytes do not fit: too new a version, or a checksum that differs."""

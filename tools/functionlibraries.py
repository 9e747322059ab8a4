"""Libraries of functions on their way into a database.

They belong to no database and no key. Each is loaded as a server would, so that none is taken over that the
server could not use. What cannot be loaded, or has a function that another library has, raises LibraryError.
"""

from __future__ import annotations

from lamina.engine import Database
from lamina.server.databases import Databases
from lamina.server.encoding import FUNCTION_PREFIX
from lamina.server.errors import CommandError
from lamina.server.rdbvalues import read_libraries
from lamina.server.scripting.flags import parse_library
from lamina.server.scripting.libraries import Libraries, Table, joined, make_library
from lamina.server.scripting.loading import LibraryLoader
from lamina.tools.console import text_of


class LibraryError(Exception):
    """A library that cannot be taken over; the text names it and says why."""


def library_name(source: bytes) -> bytes:
    """Return the name of a library. Errors: LibraryError."""
    try:
        return parse_library(source)[0]
    except CommandError as error:
        raise LibraryError(f"a library of functions: {error}") from None


class NewLibraries:
    """Libraries for a database that has none."""

    def __init__(self) -> None:
        self._table: Table = {}
        self._load = LibraryLoader()

    def add(self, source: bytes) -> None:
        """Take a library. Errors: LibraryError."""
        name = library_name(source)
        try:
            if name in self._table:
                raise CommandError(b"it comes twice")
            self._table = joined(self._table, {name: make_library(source, self._load)})
        except CommandError as error:
            raise _refusal(name, error) from None

    def entries(self) -> tuple[list[bytes], list[bytes]]:
        """Return engine keys, in order, and values."""
        names = sorted(self._table)
        return [FUNCTION_PREFIX + name for name in names], [self._table[name].source for name in names]


class MergedLibraries:
    """Libraries for a database that may have some."""

    def __init__(self, databases: Databases) -> None:
        self._libraries = Libraries(databases, LibraryLoader())

    def source_of(self, name: bytes) -> bytes | None:
        """Return the source of the library of a name; None if there is none."""
        for library in self._libraries.all():
            if library.name == name:
                return library.source
        return None

    def put(self, source: bytes) -> None:
        """Write a library, in the place of one of its name. Errors: LibraryError; OSError, EngineError."""
        try:
            self._libraries.load(source, replaces=True)
        except CommandError as error:
            raise _refusal(library_name(source), error) from None


def find_library_conflict(db: Database, filled: Database) -> bytes | None:
    """Return the name of a library that both have, with different sources; None if there is none."""
    there = {library_name(source): source for source in read_libraries(db.view)}
    for source in read_libraries(filled.view):
        name = library_name(source)
        if there.get(name, source) != source:
            return name
    return None


def _refusal(name: bytes, error: CommandError) -> LibraryError:
    return LibraryError(f"the library of functions '{text_of(name)}': {error}")

"""Libraries of functions: FUNCTION LOAD brings them, FCALL runs their functions.

They are part of the data, kept in the server's own state, an entry for each:

    0:u32 's' "function:" name        the source of the library, as it was loaded

They are loaded when the server starts; if they cannot be read then, when the first command asks for
functions. A turn that fails takes back what it has done to them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from lamina.engine import EngineError
from lamina.server.databases import Databases
from lamina.server.encoding import FUNCTION_PREFIX
from lamina.server.errors import CommandError
from lamina.server.scripting.flags import parse_library
from lamina.server.scripting.runtime import CompileError, LoadError, Registered

log = logging.getLogger(__name__)

NO_FUNCTION: Final = CommandError(b"ERR Function not found")
_NO_LIBRARY: Final = CommandError(b"ERR Library not found")
_NO_FUNCTIONS: Final = CommandError(b"ERR No functions registered")

Loader = Callable[[bytes], list[Registered]]
"""Runs the code of a library; returns what it registers. Errors: CompileError, LoadError."""


class Library(NamedTuple):
    """A library that has been loaded."""

    name: bytes
    source: bytes
    functions: tuple[Registered, ...]


Table = dict[bytes, Library]


def make_library(source: bytes, load: Loader) -> Library:
    """Return the library with a source, loaded. Errors: CommandError."""
    name, code = parse_library(source)
    try:
        functions = load(code)
    except CompileError as error:
        raise CommandError(b"ERR Error compiling function: " + error.message) from None
    except LoadError as error:
        raise CommandError(b"ERR Error registering functions: " + error.message) from None
    if not functions:
        raise _NO_FUNCTIONS
    return Library(name, source, tuple(functions))


def joined(table: Table, added: Table) -> Table:
    """Return `table` with the libraries of `added`, which replace those of their names. Errors: CommandError
    if two of them have a function of one name."""
    others = {name: library for name, library in table.items() if name not in added}
    taken = {function.name for library in others.values() for function in library.functions}
    for library in added.values():
        for function in library.functions:
            if function.name in taken:
                raise CommandError(b"ERR Function %b already exists" % function.name)
            taken.add(function.name)
    return others | added


class Libraries:
    """All libraries of a server. Both dicts are replaced as a whole when something changes."""

    def __init__(self, databases: Databases, load: Loader) -> None:
        self._databases = databases
        self._load = load
        self._table: Table = {}
        self._functions: dict[bytes, Registered] = {}
        self._is_loaded = False
        self._kept: Table = {}
        databases.states.append(self)
        self._try()

    # -- state of the databases --------------------------------------------------------------------

    def keep(self) -> None:
        """What there is now is committed."""
        self._kept = self._table

    def restore(self) -> None:
        """Go back to what was committed last."""
        self._set(self._kept)

    def read(self) -> None:
        """The database has been opened anew."""
        self._is_loaded = False
        self._set({})
        self._kept = {}
        self._try()

    def _try(self) -> None:
        """Load what there is, if it can be read."""
        try:
            self._ensure()
        except (OSError, EngineError) as error:
            log.error("functions cannot be loaded: %s", error)

    def _set(self, table: Table) -> None:
        self._table = table
        self._functions = {
            function.name: function for library in table.values() for function in library.functions
        }

    def _ensure(self) -> None:
        """Load what lies in the database, if that has not happened."""
        if self._is_loaded:
            return
        table: Table = {}
        for key, source in list(self._databases.store.scan_prefix(FUNCTION_PREFIX)):
            try:
                library = make_library(source, self._load)
            except CommandError as error:
                # It was loaded once; perhaps there is less memory now. It stays where it is.
                log.error("library %s cannot be loaded: %s", key[len(FUNCTION_PREFIX) :], error)
                continue
            table[library.name] = library
        self._is_loaded = True
        self._set(table)
        self._kept = table

    # -- for commands ------------------------------------------------------------------------------

    @property
    def libraries_count(self) -> int:
        """Number of libraries that are loaded."""
        return len(self._table)

    @property
    def source_bytes(self) -> int:
        """Size of the sources of all libraries that are loaded."""
        return sum(len(library.source) for library in self._table.values())

    @property
    def functions_count(self) -> int:
        """Number of functions that are loaded."""
        return len(self._functions)

    def all(self) -> list[Library]:
        """Return all libraries, in the order in which they came."""
        self._ensure()
        return list(self._table.values())

    def find(self, name: bytes) -> Registered:
        """Return the function of a name. Errors: CommandError if there is none."""
        function = self._functions.get(name)
        if function is None:
            self._ensure()
            function = self._functions.get(name)
            if function is None:
                raise NO_FUNCTION
        return function

    def load(self, source: bytes, *, replaces: bool) -> bytes:
        """Add a library, in the place of one of that name if `replaces`; returns its name. Errors:
        CommandError."""
        self._ensure()
        name, _ = parse_library(source)
        if name in self._table and not replaces:
            raise CommandError(b"ERR Library '%b' already exists" % name)
        library = make_library(source, self._load)
        self._write(joined(self._table, {name: library}), [library], [])
        return name

    def restore_all(self, sources: Iterable[bytes], *, flushes: bool, replaces: bool) -> None:
        """Add the libraries of a dump, all or none. Errors: CommandError."""
        self._ensure()
        added: Table = {}
        for source in sources:
            library = make_library(source, self._load)
            if library.name in added:
                raise CommandError(b"ERR Library %b already exists" % library.name)
            added[library.name] = library
        before: Table = {} if flushes else self._table
        if not replaces:
            for name in added:
                if name in before:
                    raise CommandError(b"ERR Library %b already exists" % name)
        table = joined(before, added)
        self._write(table, list(added.values()), [name for name in self._table if name not in table])

    def delete(self, name: bytes) -> None:
        """Remove a library. Errors: CommandError if there is none."""
        self._ensure()
        if name not in self._table:
            raise _NO_LIBRARY
        self._write({key: value for key, value in self._table.items() if key != name}, [], [name])

    def flush(self) -> None:
        """Remove all libraries."""
        self._ensure()
        self._write({}, [], list(self._table))

    def _write(self, table: Table, changed: list[Library], removed: list[bytes]) -> None:
        store = self._databases.store
        for library in changed:
            store.put(FUNCTION_PREFIX + library.name, library.source, None)
        for name in removed:
            store.delete(FUNCTION_PREFIX + name, None)
        if changed or removed:
            self._databases.note_state()
            self._set(table)

"""Which keys `import` and `export` take over, and into which database: the options, and what they mean.

--only-db 0,2    --prefix user:    --match 'user:*:name'    --type hash,zset
--map-db 0=3 or --db 3             --keep-expired
"""

from __future__ import annotations

import argparse
from typing import Final

from lamina.server.glob import Matcher, compile_glob
from lamina.server.rdb.values import (
    HashValue,
    ListValue,
    SetValue,
    StreamValue,
    TimedHashValue,
    Value,
    ZsetValue,
)
from lamina.tools.console import UsageError, bytes_of

TYPES: Final = ("string", "list", "set", "zset", "hash", "stream")

_NAMES: Final[dict[type, str]] = {
    bytes: "string",
    ListValue: "list",
    SetValue: "set",
    ZsetValue: "zset",
    HashValue: "hash",
    TimedHashValue: "hash",
    StreamValue: "stream",
}

DATABASE_MAX: Final = (1 << 20) - 2
"""The highest database: numbers above are those of databases that have been flushed (docs/format.md)."""


def type_name(value: Value) -> str:
    """Return a value's type, as TYPE names it."""
    return _NAMES[value.__class__]


def check_database(number: int, highest: int = DATABASE_MAX) -> int:
    """Return a database's number. Errors: UsageError if it is too high."""
    if number > highest:
        raise UsageError(f"database {number} is above {highest}, the highest: use --map-db or --only-db")
    return number


class KeyFilter:
    """What is wanted of all keys. `now_ms`: keys and fields that have expired by then are not; 0: all are."""

    def __init__(
        self,
        *,
        databases: frozenset[int] | None = None,
        numbers: dict[int, int] | None = None,
        single: int | None = None,
        prefix: bytes = b"",
        match: bytes | None = None,
        types: frozenset[str] | None = None,
        now_ms: int = 0,
    ) -> None:
        self.databases = databases
        self.prefix = prefix
        self.types = types
        self.now_ms = now_ms
        self._numbers = numbers or {}
        self._single = single
        self._matches: Matcher | None = None if match is None else compile_glob(match)

    @property
    def takes_all(self) -> bool:
        """Whether every key is wanted, whatever becomes of those that have expired, and stays where it is."""
        return (
            self.databases is None
            and not self.prefix
            and self._matches is None
            and self.types is None
            and not self._numbers
            and self._single is None
        )

    @property
    def takes_libraries(self) -> bool:
        """Whether libraries of functions are wanted. They belong to no database and no key: they come along
        unless something chooses among these."""
        return self.databases is None and not self.prefix and self._matches is None and self.types is None

    def wants_database(self, number: int) -> bool:
        """Tell whether anything of a database is wanted."""
        return self.databases is None or number in self.databases

    def wants(self, key: bytes, value: Value) -> bool:
        """Tell whether a key of a database that is wanted is."""
        return (
            key.startswith(self.prefix)
            and (self._matches is None or bool(self._matches(key)))
            and (self.types is None or type_name(value) in self.types)
        )

    def database_for(self, number: int) -> int:
        """Return the database into which keys of `number` go. Errors: UsageError."""
        return check_database(self._numbers.get(number, number if self._single is None else self._single))


def add_filters(parser: argparse.ArgumentParser, *, maps: bool) -> None:
    """Add the options; `maps`: those that name a database into which keys go, too."""
    group = parser.add_argument_group("which keys")
    group.add_argument("--only-db", metavar="N,...", help="those of these databases")
    group.add_argument(
        "--prefix", metavar="TEXT", help="those that begin so; escapes as \\n and \\x00 are read"
    )
    group.add_argument("--match", metavar="PATTERN", help="those that match a pattern, as of KEYS and SCAN")
    group.add_argument(
        "--type", metavar="NAME,...", dest="types", help=f"those that hold one of {', '.join(TYPES)}"
    )
    group.add_argument("--keep-expired", action="store_true", help="also keys and fields that have expired")
    if maps:
        group.add_argument("--db", type=int, metavar="N", help="all go into database N")
        group.add_argument(
            "--map-db", metavar="N=M,...", help="those of database N go into M; others stay where they are"
        )


def filter_of(arguments: argparse.Namespace, now_ms: int) -> KeyFilter:
    """Return what the options say. Errors: UsageError."""
    types = None
    if arguments.types is not None:
        types = frozenset(arguments.types.split(","))
        if not types <= set(TYPES):
            raise UsageError(f"--type {arguments.types}: the types are {', '.join(TYPES)}")
    single = getattr(arguments, "db", None)
    mapped = getattr(arguments, "map_db", None)
    if single is not None and mapped is not None:
        raise UsageError("--db and --map-db: give one of them")
    return KeyFilter(
        databases=None
        if arguments.only_db is None
        else frozenset(map(_number, arguments.only_db.split(","))),
        numbers=None if mapped is None else dict(map(_pair, mapped.split(","))),
        single=None if single is None else _number(str(single)),
        prefix=b"" if arguments.prefix is None else bytes_of(arguments.prefix),
        match=None if arguments.match is None else bytes_of(arguments.match),
        types=types,
        now_ms=0 if arguments.keep_expired else now_ms,
    )


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > DATABASE_MAX:
        raise UsageError(f"{text!r} is no database: they have numbers from 0 to {DATABASE_MAX}")
    return int(text)


def _pair(text: str) -> tuple[int, int]:
    source, equals, target = text.partition("=")
    if not equals:
        raise UsageError(f"--map-db {text}: write it as 0=3")
    return _number(source), _number(target)

"""The table of commands, and the decorator that fills it.

A command is one decorator line and one function::

    @command("APPEND", arity=3, flags="write denyoom fast", keys=ONE_KEY, since="2.0.0", complexity="O(1)")
    def append(client: Client, argv: list[bytes]) -> int:
        \"\"\"Append a value to a string, creating the key if it is missing.

        APPEND key value
        \"\"\"

The decorator returns the function unchanged: a wrapper would cost each call 65 ns. ``argv[0]`` is the name
(of a subcommand, ``argv[1]`` is its own), so positions in the table are the indexes in the code. COMMAND and
its subcommands, ACL categories, the arity error and docs/commands.md are derived from what is here: the
group is the module's name, the summary and the syntax come from the docstring.

A subcommand is named with a bar: ``@command("CLIENT|LIST", ...)``. Its container is a command of its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar


class Keys(NamedTuple):
    """Where the keys of a command stand in argv: first, last (negative: from the end), step."""

    first: int
    last: int
    step: int


NO_KEYS = Keys(0, 0, 0)
ONE_KEY = Keys(1, 1, 1)
TWO_KEYS = Keys(1, 2, 1)
ALL_KEYS = Keys(1, -1, 1)
PAIRS = Keys(1, -1, 2)
KEYS_BEFORE_LAST = Keys(1, -2, 1)

FindKeys = Callable[[list[bytes]], list[int]]
"""For movable keys: returns the positions of the keys in argv. Errors: ValueError for argv without sense."""

FLAGS = frozenset(
    "write readonly denyoom admin pubsub noscript blocking loading stale skip_monitor skip_slowlog asking"
    " fast no_auth may_replicate no_mandatory_keys allow_busy movablekeys no_async_loading no_multi"
    " dangerous".split()
)
"""Redis's command flags. `dangerous` is no flag of Redis's but a category that no other flag implies."""

Handler = Callable[[Any, list[bytes]], Any]
F = TypeVar("F", bound=Handler)

ManyHandler = Callable[[Any, list[list[bytes]]], "list[Any] | None"]
M = TypeVar("M", bound=ManyHandler)

_MANY: dict[str, ManyHandler] = {}
"""What `many` has been given, as it may come before the command."""

_BUCKETS = 64


class Command:
    """One command or subcommand: what is declared of it, and what is counted while it runs."""

    __slots__ = (
        "_frozen",
        "_untracked",
        "argc_max",
        "argc_min",
        "arity",
        "complexity",
        "elapsed_ns",
        "failed",
        "find_keys",
        "flags",
        "group",
        "handler",
        "histogram",
        "is_blocking",
        "is_write",
        "keys",
        "many",
        "name",
        "notes",
        "rejected",
        "since",
        "subcommands",
        "summary",
        "syntax",
        "wire_name",
    )

    def __init__(
        self,
        name: str,
        handler: Handler,
        *,
        arity: int,
        flags: str,
        keys: Keys,
        find_keys: FindKeys | None,
        since: str,
        complexity: str,
        group: str,
        notes: tuple[str, ...],
    ) -> None:
        self.name = name
        self.handler = handler
        self.arity = arity
        # Two comparisons decide about arity, whatever its sign.
        self.argc_min = abs(arity)
        self.argc_max = arity if arity > 0 else 1 << 31
        self.flags = frozenset(flags.split())
        self.keys = keys
        self.find_keys = find_keys
        self.since = since
        self.complexity = complexity
        self.group = group
        self.notes = notes
        self.is_write = "write" in self.flags
        self.is_blocking = "blocking" in self.flags
        self.many: ManyHandler | None = _MANY.get(name)
        """See `many`."""
        self.subcommands: dict[bytes, Command] = {}
        self.wire_name = name.lower().encode()
        self.summary, self.syntax = _summary_and_syntax(handler)
        # What is counted. The histogram holds calls by the bit length of their duration in nanoseconds.
        self.histogram = [0] * _BUCKETS
        self.elapsed_ns = 0
        self.rejected = 0
        self.failed = 0
        # Of latency-tracking, see `track`: the histogram when it was switched off, and what has been counted
        # while it was off.
        self._frozen: list[int] | None = None
        self._untracked = [0] * _BUCKETS

    def __repr__(self) -> str:
        return f"<command {self.name}>"

    @property
    def calls(self) -> int:
        """How often the command has been called since the statistics were reset."""
        return sum(self.histogram)

    def track(self, is_on: bool) -> None:
        """Collect durations, or stop to: latency-tracking.

        The histogram is what counts calls, so it goes on in either case, which costs nothing more; what comes
        in while tracking is off is left out of `tracked`.
        """
        if not is_on and self._frozen is None:
            self._frozen = list(self.histogram)
        elif is_on and self._frozen is not None:
            now = zip(self._untracked, self.histogram, self._frozen)
            self._untracked = [before + count - frozen for before, count, frozen in now]
            self._frozen = None

    @property
    def tracked(self) -> list[int]:
        """The histogram of the calls that were made while durations were collected."""
        counts = self.histogram if self._frozen is None else self._frozen
        return [count - untracked for count, untracked in zip(counts, self._untracked)]

    def reset_statistics(self) -> None:
        """Forget what has been counted."""
        self.histogram[:] = [0] * _BUCKETS
        self._untracked = [0] * _BUCKETS
        self._frozen = None if self._frozen is None else [0] * _BUCKETS
        self.elapsed_ns = self.rejected = self.failed = 0


COMMANDS: dict[bytes, Command] = {}
"""Commands by upper-case name; subcommands hang on their containers."""

DECLARED: dict[bytes, Command] = {}
"""The same under the names they were declared with, rename-command or not: ACL rules name them."""


def command(
    name: str,
    *,
    arity: int,
    flags: str,
    keys: Keys = NO_KEYS,
    find_keys: FindKeys | None = None,
    since: str,
    complexity: str,
    notes: tuple[str, ...] = (),
    group: str | None = None,
) -> Callable[[F], F]:
    """Register the decorated function as a command. `notes` are its history lines: "version: what changed".

    `group` is Redis's name for its group, where that is not the module's name.

    Errors: ValueError, when the module is imported, for a declaration that contradicts itself.
    """

    def register(function: F) -> F:
        record = Command(
            name,
            function,
            arity=arity,
            flags=flags,
            keys=keys,
            find_keys=find_keys,
            since=since,
            complexity=complexity,
            group=group or function.__module__.rsplit(".", 1)[-1].replace("_", "-"),
            notes=notes,
        )
        _check(record)
        table = COMMANDS
        container, _, rest = name.partition("|")
        if rest:
            if container.encode() not in COMMANDS:
                raise ValueError(f"{name}: declare the container {container} before its subcommands")
            table = COMMANDS[container.encode()].subcommands
        key = (rest or container).encode()
        if key in table:
            raise ValueError(f"{name} is declared twice")
        table[key] = record
        if not rest:
            DECLARED[key] = record
        return function

    return register


def many(name: str) -> Callable[[M], M]:
    """Register the decorated function as what runs a pipeline of calls of command `name` at once.

    It gets all their argvs, each with as many arguments as the command needs at least, and returns their
    replies; or None, before it has changed anything, if it is not sure of all of them: then they run one by
    one. Loops of C over columns make a pipelined GET three times as fast (benchmarks/server.py).
    """

    def register(function: M) -> M:
        _MANY[name] = function
        if name.encode() in COMMANDS:
            COMMANDS[name.encode()].many = function
        return function

    return register


def _check(record: Command) -> None:
    name = record.name
    if name != name.upper():
        raise ValueError(f"{name}: names are upper case")
    unknown = record.flags - FLAGS
    if unknown:
        raise ValueError(f"{name}: unknown flags {', '.join(sorted(unknown))}")
    if record.arity == 0 or (record.keys.first and record.keys.first >= record.argc_min):
        raise ValueError(f"{name}: arity {record.arity} leaves no room for its key")
    if not record.summary or not record.syntax:
        raise ValueError(f"{name}: the docstring needs a summary and, as its second paragraph, the syntax")


def _summary_and_syntax(handler: Handler) -> tuple[str, str]:
    """Return the first paragraph of the docstring, and the second, as one line each."""
    paragraphs = (inspect.getdoc(handler) or "").split("\n\n")
    lines = [" ".join(paragraph.split()) for paragraph in paragraphs]
    return lines[0], lines[1] if len(lines) > 1 else ""


def rename(old: bytes, new: bytes, table: dict[bytes, Command] | None = None) -> None:
    """Let a command be found under the name `new` only, in whatever case; an empty one takes it away.

    Replies and statistics show it under its own name still. `table` is COMMANDS if not given, which is for a
    process that is to serve, before it does.

    Errors: ValueError with Redis's text.
    """
    table = COMMANDS if table is None else table
    record = table.get(old.upper())
    if record is None:
        raise ValueError("No such command in rename-command")
    if new and table.get(new.upper(), record) is not record:
        raise ValueError("Target command name already exists")
    del table[old.upper()]
    if new:
        table[new.upper()] = record


def lookup(name: bytes) -> Command | None:
    """Return the command of that name in whatever case, without regard to subcommands."""
    return COMMANDS.get(name.upper())


def all_commands(*, declared: bool = False) -> list[Command]:
    """Return every command and subcommand, containers before what hangs on them.

    `declared` counts those in that rename-command has taken away.
    """
    table = DECLARED if declared else COMMANDS
    found: list[Command] = []
    for name in sorted(table):
        found.append(table[name])
        found += [sub for _, sub in sorted(table[name].subcommands.items())]
    return found


def key_positions(record: Command, argv: list[bytes]) -> list[int]:
    """Return the positions of the keys in a complete argv. Errors: ValueError as `FindKeys`."""
    if record.find_keys is not None:
        return record.find_keys(argv)
    first, last, step = record.keys
    if not first:
        return []
    stop = (len(argv) + last if last < 0 else last) + 1
    return list(range(first, min(stop, len(argv)), step))


def keys_after_count(position: int, first: int | None = None) -> FindKeys:
    """Return a finder for ``numkeys key [key ...]`` with the count at `position`.

    The keys follow it; `first` is the position of one more key before it (a destination).
    """

    def find(argv: list[bytes]) -> list[int]:
        count = int(argv[position])
        if not 0 < count < len(argv) - position:
            raise ValueError("a number of keys that argv does not have")
        own = [] if first is None else [first]
        return own + list(range(position + 1, position + 1 + count))

    return find

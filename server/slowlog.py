"""The slow log: the last commands that took longer than slowlog-log-slower-than."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lamina.server.client import Client

_ARGUMENTS_MAX = 32
_ARGUMENT_SIZE_MAX = 128


class SlowCommand(NamedTuple):
    """One entry of the slow log."""

    id: int
    time_s: int
    elapsed_us: int
    argv: list[bytes]
    address: str
    name: bytes


class SlowLog:
    """The newest entries, newest first."""

    __slots__ = ("_next_id", "entries")

    def __init__(self) -> None:
        self.entries: deque[SlowCommand] = deque()
        self._next_id = 0

    def add(self, argv: list[bytes], elapsed_us: int, client: Client, time_s: int, entries_max: int) -> None:
        """Keep a command, cut to a size that can be kept."""
        entry = SlowCommand(self._next_id, time_s, elapsed_us, shorten(argv), client.address, client.name)
        self._next_id += 1
        self.entries.appendleft(entry)
        self.trim(entries_max)

    def trim(self, entries_max: int) -> None:
        """Forget the oldest entries above a number."""
        while len(self.entries) > entries_max:
            self.entries.pop()


def shorten(argv: list[bytes]) -> list[bytes]:
    """Return the arguments as the slow log shows them: not too many, none too long."""
    kept = argv
    if len(argv) > _ARGUMENTS_MAX:
        more = len(argv) - _ARGUMENTS_MAX + 1
        kept = argv[: _ARGUMENTS_MAX - 1] + [b"... (%d more arguments)" % more]
    return [
        argument
        if len(argument) <= _ARGUMENT_SIZE_MAX
        else argument[:_ARGUMENT_SIZE_MAX] + b"... (%d more bytes)" % (len(argument) - _ARGUMENT_SIZE_MAX)
        for argument in kept
    ]

"""What one command may gather in memory: the directive command-memory.

Collections lie on disk and may be larger than memory; commands that return, sort or combine all of one must
gather it first, and everybody else waits meanwhile. So each counts what it gathers, and fails once that is
more than it may take: where the number of elements says so, before any is read. Nothing has been changed by
then, as commands write when they have all they need.

What is counted is what the process grows by, the reply included, which is made of copies. What is held in
memory already is not counted, for caches have their own bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, TypeVar

from lamina.server.errors import CommandError
from lamina.server.limits import LIMITS

T = TypeVar("T")

ELEMENT_BYTES: Final = 200
"""Memory of an element beside its bytes: objects, places in lists, tuples, tables and the reply (measured:
210 for SMEMBERS and SORT, 250 for SUNION, 260 for each of HGETALL's two)."""

_COPIES: Final = 3
"""How often its bytes are there at most: read, encoded, and waiting to be sent."""

_PORTION: Final = 8192


def too_much() -> CommandError:
    """Return the error of a command that has gathered too much."""
    return CommandError(b"ERR the command needs more memory than command-memory, %d" % LIMITS.command_memory)


def check(count: int, size_bytes: int = 0) -> None:
    """Fail if so many elements of so many bytes are too much. Errors: CommandError."""
    if 0 < LIMITS.command_memory < count * ELEMENT_BYTES + _COPIES * size_bytes:
        raise too_much()


def gather(chunks: Iterable[list[bytes]]) -> list[bytes]:
    """Return what all chunks hold. Errors: as `check`."""
    found: list[bytes] = []
    size_bytes = 0
    for chunk in chunks:
        found += chunk
        size_bytes += sum(map(len, chunk))
        check(len(found), size_bytes)
    return found


def gather_items(items: Iterable[tuple[bytes, bytes]], most: int) -> list[tuple[bytes, bytes]]:
    """Return pairs, `most` at most. Errors: as `check`."""
    items = islice(items, most)
    found: list[tuple[bytes, bytes]] = []
    size_bytes = 0
    while portion := list(islice(items, _PORTION)):
        found += portion
        size_bytes += sum([len(first) + len(second) for first, second in portion])
        check(2 * len(found), size_bytes)
    return found


def watched(items: Iterable[T]) -> Iterator[T]:
    """Yield all items, which are gathered by who asks for them. Errors: as `check`."""
    items = iter(items)
    count = 0
    while portion := list(islice(items, _PORTION)):
        yield from portion
        count += len(portion)
        check(count)

"""Forks: a database belongs to the process that opened it.

After a fork the child shares the parent's files and holds copies of its locks, some perhaps locked for ever
by threads that do not exist here. So each open database is told to let go in the child; using it there raises
ClosedError.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Abandonable(Protocol):
    """What can be left to the parent process."""

    def abandon(self) -> None:
        """Let go of everything without touching it. Called in the child, before anything else runs there."""


_open: weakref.WeakSet[Abandonable] = weakref.WeakSet()


def register(database: Abandonable) -> None:
    """Have `database` abandoned in children from now on."""
    _open.add(database)


def unregister(database: Abandonable) -> None:
    """Forget a database that has been closed."""
    _open.discard(database)


def _abandon_all() -> None:
    for database in list(_open):
        database.abandon()


os.register_at_fork(after_in_child=_abandon_all)

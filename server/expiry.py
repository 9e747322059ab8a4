"""Active expiry: keys, and fields of hashes, are removed when their time has come, whether or not anybody
looks at them.

The expiry indexes lie in the order of time, so nothing is sampled: a cycle takes what is due from the front.
It is bounded in time, and the next follows at once if some of what is due is left.

A key that cannot be removed, as something of it is damaged, must not keep those behind it from being removed:
it is passed over from then on.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING

from lamina.engine import EngineError
from lamina.server.records import Record

if TYPE_CHECKING:
    from lamina.server.databases import Databases
    from lamina.server.keyspace import Keyspace

Damaged = set[tuple[int, bytes]]
"""Databases and keys that are passed over."""

_KEYS_AT_ONCE = 256
_FIELDS_AT_ONCE = 256
_CYCLE_S_MAX = 0.005


def expire_due(databases: Databases, damaged: Damaged) -> bool:
    """Remove keys and fields that are due, in all databases; tells whether all of them are gone.

    Writes that this makes are committed by the caller. Errors: OSError and EngineError; the caller undoes
    what has been done, and `damaged` holds what could not be removed.
    """
    until = perf_counter() + _CYCLE_S_MAX
    for keyspace in databases.keyspaces:
        for find_due in (keyspace.due_keys, keyspace.due_hashes):
            while due := _undamaged(keyspace, find_due, damaged):
                for key in due:
                    try:
                        if not _expire(keyspace, key, until):
                            return False
                    except (OSError, EngineError):
                        damaged.add((keyspace.index, key))
                        raise
                if perf_counter() > until:
                    return False
    return True


def _undamaged(keyspace: Keyspace, find_due: Callable[[int], list[bytes]], damaged: Damaged) -> list[bytes]:
    if not damaged:
        return find_due(_KEYS_AT_ONCE)
    due = find_due(_KEYS_AT_ONCE + len(damaged))
    return [key for key in due if (keyspace.index, key) not in damaged]


def _expire(keyspace: Keyspace, key: bytes, until: float) -> bool:
    """Remove a key that is due, or those of its fields that are; tells whether there was time for all."""
    value = keyspace.find(key)  # removes it
    while isinstance(value, Record) and value.expire_fields(keyspace, key, _FIELDS_AT_ONCE):
        if perf_counter() > until:
            return False
    return True

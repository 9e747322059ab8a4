"""Active expiry: keys, and fields of hashes, are removed when their time has come, whether or not anybody
looks at them.

The expiry indexes lie in the order of time, so nothing is sampled: a cycle takes what is due from the front.
It is bounded in time, and the next follows at once if some of what is due is left.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from lamina.server.records import Record

if TYPE_CHECKING:
    from lamina.server.databases import Databases

_KEYS_AT_ONCE = 256
_FIELDS_AT_ONCE = 256
_CYCLE_S_MAX = 0.005


def expire_due(databases: Databases) -> bool:
    """Remove keys and fields that are due, in all databases; tells whether all of them are gone.

    Writes that this makes are committed by the caller.
    """
    until = perf_counter() + _CYCLE_S_MAX
    for keyspace in databases.keyspaces:
        while due := keyspace.due_keys(_KEYS_AT_ONCE):
            for key in due:
                keyspace.find(key)  # removes it
            if perf_counter() > until:
                return False
        while due := keyspace.due_hashes(_KEYS_AT_ONCE):
            for key in due:
                value = keyspace.find(key)
                while isinstance(value, Record) and value.expire_fields(keyspace, key, _FIELDS_AT_ONCE):
                    if perf_counter() > until:
                        return False
            if perf_counter() > until:
                return False
    return True

"""What HEXPIRE, HTTL, HPERSIST and their kin do to the fields of a hash: one number per field tells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lamina.server import events
from lamina.server.keyspace import Keyspace
from lamina.server.types import hashes
from lamina.server.types.hashes import HASHTABLE, LISTPACKEX

EXPIRES_MS_MAX: Final = (1 << 46) - 1
"""The latest time at which a field can expire: in the year 4199."""

# What became of a field.
NO_FIELD: Final = -2
NO_TIME: Final = -1
NOT_MET: Final = 0
"""The condition forbade it."""
DONE: Final = 1
DELETED: Final = 2
"""The time had come already."""


def expire(
    keyspace: Keyspace, key: bytes, fields: Sequence[bytes], expires_ms: int, condition: bytes
) -> list[int]:
    """Let fields expire at a time, at once if it has come; returns what became of each.

    `condition` is empty or NX, XX, GT or LT: the field must have no time yet, have one, an earlier or a later
    one. No time is later than any. Errors: WRONGTYPE. Cost: O(fields named) x logarithmic.
    """
    record = hashes.find(keyspace, key, fields)
    if record is None:
        return [NO_FIELD] * len(fields)
    if record.form != HASHTABLE and record.form != LISTPACKEX:
        # Redis makes room for times before it looks at the fields.
        record.form = LISTPACKEX
        keyspace.dirty.setdefault(key, True)
    is_due = expires_ms <= keyspace.clock.now_ms
    elements = record.elements
    found: list[int] = []
    for field in fields:
        if field not in elements:
            found.append(NO_FIELD)
        elif condition and not _is_met(condition, record.times.get(field) if record.times else 0, expires_ms):
            found.append(NOT_MET)
        elif is_due:
            elements.remove(field)
            record.forget_time(keyspace, key, field)
            found.append(DELETED)
        else:
            record.set_time(keyspace, key, field, expires_ms)
            found.append(DONE)
    if DELETED in found:
        hashes.note_removed(keyspace, key, record)
    elif DONE in found:
        keyspace.mark(key)
        if keyspace.listens:
            keyspace.event(events.HASH, b"hexpire", key)
    return found


def _is_met(condition: bytes, old_ms: int, expires_ms: int) -> bool:
    """Tell whether a field that expires at `old_ms`, 0 for never, may expire at `expires_ms` instead."""
    if condition == b"NX":
        return not old_ms
    if condition == b"XX":
        return old_ms > 0
    if condition == b"GT":
        return 0 < old_ms < expires_ms
    return not old_ms or old_ms > expires_ms


def persist(keyspace: Keyspace, key: bytes, fields: Sequence[bytes]) -> list[int]:
    """Let fields never expire; returns what became of each. Errors: WRONGTYPE."""
    record = hashes.find(keyspace, key, fields)
    if record is None:
        return [NO_FIELD] * len(fields)
    found = []
    for field in fields:
        if field not in record.elements:
            found.append(NO_FIELD)
        else:
            found.append(DONE if record.forget_time(keyspace, key, field) else NO_TIME)
    if DONE in found:
        keyspace.mark(key)
        if keyspace.listens:
            keyspace.event(events.HASH, b"hpersist", key)
    return found


def times(keyspace: Keyspace, key: bytes, fields: Sequence[bytes]) -> list[int]:
    """Return when fields expire, in milliseconds since 1970, or NO_FIELD or NO_TIME. Errors: WRONGTYPE."""
    record = hashes.read(keyspace, key, fields)
    if record is None:
        return [NO_FIELD] * len(fields)
    found = []
    for field in fields:
        if field not in record.elements:
            found.append(NO_FIELD)
        else:
            found.append((record.times.get(field) if record.times else 0) or NO_TIME)
    return found

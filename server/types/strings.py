"""Strings: what GET, SET, INCR and their kin do to records.

A string up to `BIG_SIZE_MIN` lies in its record; a larger one in chunks (bigstrings.py), so that changing a
part of it costs a chunk and not the whole.
"""

from __future__ import annotations

from lamina.server import events
from lamina.server.errors import NOT_AN_INTEGER, OVERFLOW, WRONG_TYPE
from lamina.server.keyspace import Keyspace, Value
from lamina.server.numbers import parse_integer
from lamina.server.records import BigString, Record, String
from lamina.server.types import bigstrings

BIG_SIZE_MIN = bigstrings.SIZE_MIN

_INTEGER_MIN, _INTEGER_MAX = -(1 << 63), (1 << 63) - 1


def text_of(keyspace: Keyspace, value: Value) -> bytes:
    """Return the bytes of a string record. Errors: WRONGTYPE. Cost: O(size)."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, String):
        return value.value
    if isinstance(value, BigString):
        return bigstrings.read_all(keyspace, value)
    raise WRONG_TYPE


def find(keyspace: Keyspace, key: bytes) -> bytes | None:
    """Return the string at `key`, or None. Errors: WRONGTYPE."""
    value = keyspace.find(key)
    return None if value is None else text_of(keyspace, value)


def read(keyspace: Keyspace, key: bytes) -> bytes | None:
    """Return the string at `key`, or None, counted as a hit or a miss. Errors: WRONGTYPE."""
    value = keyspace.read(key)
    return None if value is None else text_of(keyspace, value)


def put(keyspace: Keyspace, key: bytes, text: bytes, *, expires_ms: int = 0) -> None:
    """Let `key` hold a string, whatever it held. Cost: 0.2 µs over a cached string that does not expire."""
    cache = keyspace.cache
    if (
        cache.get(key).__class__ is bytes
        and not expires_ms
        and len(text) < BIG_SIZE_MIN
        and not keyspace.is_observed
    ):
        # Keyspace.put without a call: two thirds of a SET over a known string.
        if key not in keyspace.dirty:
            keyspace.dirty[key] = True
        cache[key] = text
    elif len(text) >= BIG_SIZE_MIN:
        record = bigstrings.create(keyspace, text)
        record.expires_ms = expires_ms
        keyspace.put(key, record)
    else:
        keyspace.put(key, String(text, expires_ms) if expires_ms else text)


def replace(keyspace: Keyspace, key: bytes, old: Value | None, text: bytes) -> None:
    """Let `key`, which holds the string `old` or nothing, hold another; its expiry stays."""
    put(keyspace, key, text, expires_ms=old.expires_ms if isinstance(old, Record) else 0)


def increment(keyspace: Keyspace, key: bytes, by: int) -> int:
    """Add to the integer at `key`, 0 if there is none; returns the sum. Its expiry stays.

    Errors: WRONGTYPE, not an integer, overflow.
    """
    value = keyspace.cache.get(key)
    if value.__class__ is not bytes:
        value = keyspace.find(key)
    if value is None:
        total = by
    else:
        number = parse_integer(value if isinstance(value, bytes) else text_of(keyspace, value))
        if number is None:
            raise NOT_AN_INTEGER
        total = number + by
    if not _INTEGER_MIN <= total <= _INTEGER_MAX:
        raise OVERFLOW
    replace(keyspace, key, value, b"%d" % total)
    if keyspace.listens:
        keyspace.event(events.STRING, b"incrby", key)
    return total

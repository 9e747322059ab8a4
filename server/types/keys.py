"""Keys of any type: what EXPIRE, RENAME, COPY, SCAN and their kin do, whatever a key holds.

Keys lie in order, so those with a common beginning lie together: KEYS and SCAN read no others. Expired keys
that nobody has met yet lie among them; they are passed over by their raw records, without decoding these.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from lamina.server import events
from lamina.server.cursors import Cursors, Filter, Keys
from lamina.server.encoding import (
    BIG_STRING,
    HAS_EXPIRY,
    HASH,
    LIST,
    SET,
    STREAM,
    STRING,
    TYPE_MASK,
    U64,
    ZSET,
)
from lamina.server.gathering import check
from lamina.server.glob import compile_glob, is_literal, literal_prefix
from lamina.server.keyspace import Keyspace, Value
from lamina.server.records import BigString, Record, String
from lamina.server.types import hashes, lists, sets, strings, zsets

MISSING: Final = -2
PERSISTENT: Final = -1
"""What is said of the expiry of a key that does not exist, and of one that does not expire."""

_ENCODING_NAMES: dict[type, Callable[[Any], bytes]] = {
    bytes: strings.encoding_name,
    String: strings.encoding_name,
    BigString: strings.encoding_name,
    lists.List: lists.encoding_name,
    sets.Set: sets.encoding_name,
    zsets.ZSet: zsets.encoding_name,
    hashes.Hash: hashes.encoding_name,
}

_TYPES: Final = {
    STRING: b"string",
    BIG_STRING: b"string",
    LIST: b"list",
    SET: b"set",
    ZSET: b"zset",
    HASH: b"hash",
    STREAM: b"stream",
}
"""The names of types, as TYPE says them, by the tags of records."""

_SHARED = (1 << 31) - 1
_SHARED_INTEGERS = 10_000

_DRAWS_MAX = 100
"""Expired keys that RANDOMKEY removes before it does without chance."""


# -- what a key is -----------------------------------------------------------------------------------


def encoding_name(value: Value) -> bytes:
    """Return what OBJECT ENCODING says."""
    encoding_of = _ENCODING_NAMES.get(value.__class__)
    if encoding_of is not None:
        return encoding_of(value)
    assert isinstance(value, Record)
    return value.name  # a stream: there is one way to keep it, which is called as the type


def reference_count(value: Value) -> int:
    """Return what OBJECT REFCOUNT says: small integers are one object to Redis, which is never freed."""
    if encoding_name(value) != b"int":
        return 1
    text = value.value if isinstance(value, String) else value
    return _SHARED if isinstance(text, bytes) and 0 <= int(text) < _SHARED_INTEGERS else 1


def find_quietly(keyspace: Keyspace, key: bytes) -> Value | None:
    """Return what a key holds, counted as a hit or a miss, which is no event: OBJECT looks like this."""
    value = keyspace.find(key)
    if value is None:
        keyspace.misses += 1
    else:
        keyspace.hits += 1
    return value


def _is_expired(raw: bytes, now_ms: int) -> bool:
    """Tell whether the time of a raw record has come."""
    if not raw[0] & HAS_EXPIRY:
        return False
    expires_ms: int = U64.unpack_from(raw, 1)[0]
    return expires_ms <= now_ms


def _expires_ms(value: Value) -> int:
    return value.expires_ms if isinstance(value, Record) else 0


# -- existence ---------------------------------------------------------------------------------------


def remove(keyspace: Keyspace, keys: Iterable[bytes]) -> int:
    """Remove keys; returns how many there were. Cost: O(1) for each, of any size."""
    removed = 0
    for key in keys:
        if keyspace.remove(key):
            removed += 1
            if keyspace.listens:
                keyspace.event(events.GENERIC, b"del", key)
    return removed


def count(keyspace: Keyspace, keys: Iterable[bytes]) -> int:
    """Return how many of the keys exist, each as often as it is named."""
    found = 0
    for key in keys:
        if keyspace.read(key) is not None:
            found += 1
    return found


# -- expiry ------------------------------------------------------------------------------------------


def expire(keyspace: Keyspace, key: bytes, at_ms: int, conditions: Sequence[bytes] = ()) -> bool:
    """Let a key expire at a time if all conditions hold; at once if that has passed.

    Tells whether something was done: not without the key, nor if a condition failed.
    """
    value = keyspace.find(key)
    if value is None:
        return False
    if conditions:
        old_ms = _expires_ms(value)
        if not all(_is_met(condition, old_ms, at_ms) for condition in conditions):
            return False
    if at_ms > keyspace.clock.now_ms:
        keyspace.set_expiry(key, value, at_ms)
        if keyspace.listens:
            keyspace.event(events.GENERIC, b"expire", key)
    else:
        keyspace.remove(key)
        if keyspace.listens:
            keyspace.event(events.GENERIC, b"del", key)
    return True


def _is_met(condition: bytes, old_ms: int, at_ms: int) -> bool:
    """Tell whether a condition of EXPIRE holds; a key that does not expire (0) does so later than any."""
    if condition == b"NX":
        return not old_ms
    if condition == b"XX":
        return old_ms > 0
    if condition == b"GT":
        return 0 < old_ms < at_ms
    return not old_ms or at_ms < old_ms  # LT


def persist(keyspace: Keyspace, key: bytes) -> bool:
    """Let a key not expire any more; tells whether it was to."""
    value = keyspace.find(key)
    if value is None or not _expires_ms(value):
        return False
    keyspace.set_expiry(key, value, 0)
    if keyspace.listens:
        keyspace.event(events.GENERIC, b"persist", key)
    return True


def expires_at_ms(keyspace: Keyspace, key: bytes) -> int:
    """Return when a key expires, or `PERSISTENT` or `MISSING`."""
    value = keyspace.read(key)
    if value is None:
        return MISSING
    return _expires_ms(value) or PERSISTENT


def expires_in_ms(keyspace: Keyspace, key: bytes) -> int:
    """Return in how many milliseconds a key expires, or `PERSISTENT` or `MISSING`."""
    at_ms = expires_at_ms(keyspace, key)
    return at_ms if at_ms < 0 else max(at_ms - keyspace.clock.now_ms, 0)


def in_seconds(time_ms: int) -> int:
    """Return what of the above in whole seconds, to the nearest."""
    return time_ms if time_ms < 0 else (time_ms + 500) // 1000


# -- places ------------------------------------------------------------------------------------------


def rename(keyspace: Keyspace, key: bytes, new_key: bytes, *, replace: bool) -> bool | None:
    """Give what `key` holds another key, and replace what that holds, if `replace`. Cost: O(1).

    Tells whether `key` has been renamed; None if it does not exist. To its own name it always is, and stays.
    """
    value = keyspace.find(key)
    if value is None:
        return None
    if key == new_key:
        return replace
    if not replace and keyspace.find(new_key) is not None:
        return False
    keyspace.rename(key, value, new_key)
    if keyspace.listens:
        keyspace.event(events.GENERIC, b"rename_from", key)
        keyspace.event(events.GENERIC, b"rename_to", new_key)
    return True


def copy(source: Keyspace, key: bytes, target: Keyspace, new_key: bytes, *, replace: bool) -> bool:
    """Let `new_key` hold a copy of what `key` holds, expiry included; tells whether it now does.

    It does not if there is no `key`, or a `new_key` that is not to be replaced. Cost: O(elements).
    """
    value = source.read(key)
    if value is None:
        return False
    if target.find(new_key) is not None:
        if not replace:
            return False
        # Not left to `put`: this is a new key to those who listen to events.
        target.remove(new_key)
    target.put(new_key, _clone(value, target))
    if target.listens:
        target.event(events.GENERIC, b"copy_to", new_key)
    return True


def move(source: Keyspace, key: bytes, target: Keyspace) -> bool:
    """Move a key to another database; tells whether there was one to move, and none in its place.

    Cost: O(elements): they lie under the number of their database.
    """
    value = source.find(key)
    if value is None or target.find(key) is not None:
        return False
    target.put(key, _clone(value, target))
    source.remove(key)
    if source.listens:
        source.event(events.GENERIC, b"move_from", key)
    if target.listens:
        target.event(events.GENERIC, b"move_to", key)
    return True


def _clone(value: Value, target: Keyspace) -> Value:
    """Return a copy for another place that expires when `value` does."""
    copied = value if isinstance(value, bytes) else value.clone(target)
    expires_ms = _expires_ms(value)
    if not expires_ms:
        return copied
    if isinstance(copied, bytes):
        return String(copied, expires_ms)
    copied.expires_ms = expires_ms
    return copied


# -- all keys ----------------------------------------------------------------------------------------


def matching(keyspace: Keyspace, pattern: bytes) -> list[bytes]:
    """Return the keys that match a pattern. Cost: O(keys that begin as the pattern does)."""
    prefix = literal_prefix(pattern)
    if is_literal(pattern):
        return [] if keyspace.find(prefix) is None else [prefix]
    matches = None if pattern == b"*" else compile_glob(pattern)
    now_ms = keyspace.clock.now_ms
    found: list[bytes] = []
    for keys, raws in keyspace.scan_keys(prefix=prefix):
        live = _live(zip(keys, raws), now_ms)
        found += live if matches is None else filter(matches, live)
        check(len(found))
    return found


def _live(items: Iterable[tuple[bytes, bytes]], now_ms: int) -> list[bytes]:
    """Return those keys of keys and raw records that have not expired."""
    # The test of the tag is repeated here: a call for every key would double the cost of KEYS *.
    return [key for key, raw in items if not (raw[0] & HAS_EXPIRY and _is_expired(raw, now_ms))]


def draw(keyspace: Keyspace) -> bytes | None:
    """Return a key, each as likely as the other; None if there is none. Cost: logarithmic."""
    now_ms = keyspace.clock.now_ms
    for _ in range(_DRAWS_MAX):
        size = keyspace.count_keys()
        found = keyspace.key_at(random.randrange(size)) if size else None
        if found is None:
            return None
        key, raw = found
        if not _is_expired(raw, now_ms):
            return key
        keyspace.find(key)  # removes it
    # So many have expired at once that those which have not are looked for.
    for keys, raws in keyspace.scan_keys():
        if live := _live(zip(keys, raws), now_ms):
            return random.choice(live)
    return None


def page(keyspace: Keyspace, cursors: Cursors, cursor: int, wanted: Filter) -> tuple[int, list[bytes]]:
    """Return the next cursor of a SCAN, 0 at the end, and what the filter lets pass of the keys at `cursor`.

    Cost: O(wanted.count), however few these are.
    """
    cursor, items = cursors.page(Keys(keyspace), cursor, wanted.count, prefix=wanted.prefix)
    if wanted.type is not None:
        name = wanted.type.lower()
        items = [item for item in items if _TYPES.get(item[1][0] & TYPE_MASK) == name]
    keys = _live(items, keyspace.clock.now_ms)
    if wanted.matcher is not None:
        keys = list(filter(wanted.matcher, keys))
    return cursor, keys

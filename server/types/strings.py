"""Strings: what GET, SET, INCR and their kin do to records.

A string up to `BIG_SIZE_MIN` lies in its record; a larger one in chunks (bigstrings.py), so that changing a
part of it costs a chunk and not the whole.
"""

from __future__ import annotations

from lamina.server import events
from lamina.server.encoding import PLAIN_STRING, STRING
from lamina.server.errors import (
    NAN_OR_INFINITY,
    NOT_A_FLOAT,
    NOT_AN_INTEGER,
    OVERFLOW,
    STRING_TOO_LONG,
    WRONG_TYPE,
)
from lamina.server.keyspace import Keyspace, Value
from lamina.server.longdouble import LongDouble, add_long_doubles, format_long_double, parse_long_double
from lamina.server.numbers import INTEGER_MAX, INTEGER_MIN, parse_integer
from lamina.server.records import BigString, Record, String
from lamina.server.store import ABSENT
from lamina.server.types import bigstrings

BIG_SIZE_MIN = bigstrings.SIZE_MIN

_EMBEDDED_SIZE_MAX = 44
"""Redis keeps strings up to here in one allocation with their object, and calls that embstr."""

_ZERO: LongDouble = (0, 0)

_STRINGS = frozenset((STRING,))


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
    """Let `key` hold a string, whatever it held. Cost: 0.4 µs over a plain string that memory holds."""
    if expires_ms or keyspace.is_observed or keyspace.listens or len(text) >= BIG_SIZE_MIN:
        if len(text) >= BIG_SIZE_MIN:
            record = bigstrings.create(keyspace, text)
            record.expires_ms = expires_ms
            keyspace.put(key, record)
        else:
            keyspace.put(key, String(text, expires_ms) if expires_ms else text)
        return
    # Store.take and Keyspace.put without a call where plain strings follow one another: half of a SET.
    engine_key = keyspace.record_prefix + key
    store = keyspace.store
    old = store.entries.get(engine_key, ABSENT)
    if old is ABSENT:
        old = store.db.view.active.inserted.get(engine_key)
        if old is None:
            old = store.take_below(engine_key)
    if old is not None and old[0] != STRING:
        keyspace.put(key, text)
        return
    store.entries[engine_key] = PLAIN_STRING + text


def _are_plain(raws: list[bytes | None]) -> bool:
    return {raw[0] for raw in raws if raw is not None} <= _STRINGS


def replace(keyspace: Keyspace, key: bytes, old: Value | None, text: bytes) -> None:
    """Let `key`, which holds the string `old` or nothing, hold another; its expiry stays."""
    if old.__class__ is String and len(text) < BIG_SIZE_MIN:
        # In place: the expiry index, which `put` would write twice, has nothing to do with it.
        old.value = text
        keyspace.mark(key)
    else:
        put(keyspace, key, text, expires_ms=old.expires_ms if isinstance(old, Record) else 0)


def put_many(keyspace: Keyspace, keys: list[bytes], texts: list[bytes]) -> None:
    """Let each key hold the string beside it, in that order. Cost: as `put_plain` or `put`."""
    if not put_plain(keyspace, keys, texts):
        for key, text in zip(keys, texts):
            put(keyspace, key, text)


def put_plain(keyspace: Keyspace, keys: list[bytes], texts: list[bytes]) -> bool:
    """Let each key hold the string beside it, in that order.

    False, and nothing has happened, unless all strings are small, the keys hold plain strings or nothing, and
    nobody has to be told. Cost: 0.4 µs for each that is hot, half of it waiting for memory.
    """
    if keyspace.is_observed or keyspace.listens or max(map(len, texts)) >= BIG_SIZE_MIN:
        return False
    prefix = keyspace.record_prefix
    engine_keys = [prefix + key for key in keys]
    if not _are_plain(keyspace.store.take_many(engine_keys)):
        return False
    keyspace.entries.update(zip(engine_keys, [PLAIN_STRING + text for text in texts]))
    return True


def read_plain(keyspace: Keyspace, keys: list[bytes]) -> list[bytes | None] | None:
    """Return the strings at keys, None where there is nothing, counted as hits and misses.

    None if some key holds anything but a plain string. Cost: 0.3 µs for each that is hot.
    """
    prefix = keyspace.record_prefix
    raws = keyspace.store.get_records([prefix + key for key in keys])
    if not _are_plain(raws):
        return None
    missing = raws.count(None)
    keyspace.hits += len(raws) - missing
    if not missing:
        return [raw[1:] for raw in raws]  # type: ignore[index]
    for key, raw in zip(keys, raws):
        if raw is None:
            keyspace.note_miss(key)
    return [None if raw is None else raw[1:] for raw in raws]


def increment_plain(keyspace: Keyspace, keys: list[bytes], by: int) -> list[int] | None:
    """Add to the integers at keys, 0 where there is none; returns the sums.

    None, and nothing has happened, unless the keys are different and hold plain strings that are integers or
    nothing, the sums fit, and nobody has to be told.
    """
    if keyspace.is_observed or keyspace.listens:
        return None
    prefix = keyspace.record_prefix
    engine_keys = [prefix + key for key in keys]
    if len(set(engine_keys)) != len(engine_keys):
        return None
    raws = keyspace.store.take_many(engine_keys)
    if not _are_plain(raws):
        return None
    numbers = [0 if raw is None else parse_integer(raw[1:]) for raw in raws]
    if None in numbers:
        return None
    totals = [number + by for number in numbers]  # type: ignore[operator]
    if min(totals) < INTEGER_MIN or max(totals) > INTEGER_MAX:
        return None
    keyspace.entries.update(zip(engine_keys, [PLAIN_STRING + b"%d" % total for total in totals]))
    return totals


def read_many(keyspace: Keyspace, keys: list[bytes]) -> list[bytes | None]:
    """Return the strings at keys, None for what is missing or no string, counted as hits and misses."""
    found = read_plain(keyspace, keys)
    if found is not None:
        return found
    texts: list[bytes | None] = []
    for key in keys:
        value = keyspace.read(key)
        is_string = value.__class__ is bytes or isinstance(value, String | BigString)
        texts.append(text_of(keyspace, value) if is_string else None)  # type: ignore[arg-type]
    return texts


# --- Numbers


def increment(keyspace: Keyspace, key: bytes, by: int) -> int:
    """Add to the integer at `key`, 0 if there is none; returns the sum. Its expiry stays.

    Errors: WRONGTYPE, not an integer, overflow.
    """
    engine_key = keyspace.record_prefix + key
    raw = keyspace.store.take(engine_key)
    if raw is None:
        value: Value | None = None
        number: int | None = 0
    else:
        value = raw[1:] if raw[:1] == PLAIN_STRING else keyspace.find(key)
        number = 0 if value is None else parse_integer(text_of(keyspace, value))
        if number is None:
            raise NOT_AN_INTEGER
    total = number + by  # type: ignore[operator]
    if not INTEGER_MIN <= total <= INTEGER_MAX:
        raise OVERFLOW
    if keyspace.is_observed or keyspace.listens or (raw is not None and raw[:1] != PLAIN_STRING):
        replace(keyspace, key, value, b"%d" % total)
    else:
        # `replace` without two calls: a third of an INCR.
        keyspace.entries[engine_key] = PLAIN_STRING + b"%d" % total
    if keyspace.listens:
        keyspace.event(events.STRING, b"incrby", key)
    return total


def increment_float(keyspace: Keyspace, key: bytes, by: bytes) -> bytes:
    """Add to the float at `key`, 0 if there is none; returns the sum, as it is stored. Its expiry stays.

    Errors: WRONGTYPE, not a float, a sum that is infinite.
    """
    value = keyspace.find(key)
    number = _ZERO if value is None else parse_long_double(text_of(keyspace, value))
    addend = parse_long_double(by)
    if number is None or addend is None:
        raise NOT_A_FLOAT
    total = add_long_doubles(number, addend)
    if total is None:
        raise NAN_OR_INFINITY
    text = format_long_double(total)
    replace(keyspace, key, value, text)
    if keyspace.listens:
        keyspace.event(events.STRING, b"incrbyfloat", key)
    return text


# --- Parts


def length(keyspace: Keyspace, key: bytes) -> int:
    """Return the size of the string at `key`, 0 if there is none; counted as a hit or a miss."""
    value = keyspace.read(key)
    return 0 if value is None else size_of(value)


def size_of(value: Value) -> int:
    """Return the size of a string record. Errors: WRONGTYPE. Cost: O(1)."""
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, String):
        return len(value.value)
    if isinstance(value, BigString):
        return value.size
    raise WRONG_TYPE


def append(keyspace: Keyspace, key: bytes, tail: bytes, *, size_max: int) -> int:
    """Add to the end of the string at `key`; returns its size. Its expiry stays.

    Errors: WRONGTYPE, too long. Cost: O(len(tail)), and that of a chunk.
    """
    value = keyspace.find(key)
    if value is None:
        put(keyspace, key, tail)
        size = len(tail)
    else:
        old_size = size_of(value)
        size = old_size + len(tail)
        if size > size_max:
            raise STRING_TOO_LONG
        if isinstance(value, BigString):
            bigstrings.write_range(keyspace, value, old_size, tail)
            keyspace.mark(key)
        else:
            replace(keyspace, key, value, text_of(keyspace, value) + tail)
    if keyspace.listens:
        keyspace.event(events.STRING, b"append", key)
    return size


def write_range(keyspace: Keyspace, key: bytes, offset: int, data: bytes, *, size_max: int) -> int:
    """Write `data` into the string at `key` from `offset` (0 or more) on; returns its size. Its expiry stays.

    Zeros fill what lies between its end and `offset`. Writing nothing changes nothing.
    Errors: WRONGTYPE, too long. Cost: O(len(data)), and that of a chunk, however large the offset.
    """
    value = keyspace.find(key)
    old_size = 0 if value is None else size_of(value)
    if not data:
        return old_size
    stop = offset + len(data)
    if stop > size_max:
        raise STRING_TOO_LONG
    overwrite(keyspace, key, value, offset, data)
    if keyspace.listens:
        keyspace.event(events.STRING, b"setrange", key)
    return max(old_size, stop)


def overwrite(keyspace: Keyspace, key: bytes, value: Value | None, offset: int, data: bytes) -> None:
    """Write `data`, which is not empty, into the string at `key`, which holds `value`. Its expiry stays.

    Cost: as `write_range`. Errors: WRONGTYPE.
    """
    stop = offset + len(data)
    if isinstance(value, BigString):
        bigstrings.write_range(keyspace, value, offset, data)
        keyspace.mark(key)
        return
    text = b"" if value is None else text_of(keyspace, value)
    if stop < BIG_SIZE_MIN:
        replace(keyspace, key, value, text[:offset].ljust(offset, b"\0") + data + text[stop:])
        return
    # From now on in chunks: the gap is none of them.
    record = bigstrings.create(keyspace, text)
    record.expires_ms = value.expires_ms if isinstance(value, Record) else 0
    bigstrings.write_range(keyspace, record, offset, data)
    keyspace.put(key, record)


def grow(keyspace: Keyspace, key: bytes, value: Value | None, size: int) -> None:
    """Let zeros follow the string at `key`, which holds `value`, until it has `size` bytes, which is more
    than it has. Its expiry stays. Cost: that of a chunk, for what is kept in chunks."""
    if isinstance(value, BigString):
        value.size = size
        keyspace.mark(key)
    else:
        # The last byte is written, so that what is kept in chunks has one.
        overwrite(keyspace, key, value, size - 1, b"\0")


def read_range(keyspace: Keyspace, key: bytes, start: int, stop: int) -> bytes:
    """Return the bytes from `start` to `stop`, both included, negative ones counted from the end.

    Counted as a hit or a miss. Errors: WRONGTYPE. Cost: O(bytes).
    """
    value = keyspace.read(key)
    if value is None:
        return b""
    size = size_of(value)
    if start < 0 and stop < 0 and start > stop:
        return b""
    first = max(start + size, 0) if start < 0 else start
    last = max(stop + size, 0) if stop < 0 else min(stop, size - 1)
    if first > last:
        return b""
    if isinstance(value, BigString):
        return bigstrings.read_range(keyspace, value, first, last + 1)
    return text_of(keyspace, value)[first : last + 1]


def encoding_name(value: Value) -> bytes:
    """Return the encoding that OBJECT ENCODING reports, by the size of the string alone.

    Redis also remembers how a string was made: what APPEND and SETRANGE have changed is raw at any size.
    """
    if isinstance(value, BigString):
        return b"raw"
    text = value if isinstance(value, bytes) else value.value  # type: ignore[attr-defined]
    if len(text) <= _EMBEDDED_SIZE_MAX:
        return b"embstr" if parse_integer(text) is None else b"int"
    return b"raw"

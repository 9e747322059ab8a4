"""Commands on hashes."""

from __future__ import annotations

from typing import Any

from lamina.server import events
from lamina.server.args import integer, integer_in
from lamina.server.client import Client
from lamina.server.cursors import parse_cursor, parse_filter
from lamina.server.errors import (
    HASH_VALUE_NAN_OR_INFINITY,
    NOT_A_FLOAT,
    OUT_OF_RANGE,
    SYNTAX,
    CommandError,
    invalid_expire_time,
    wrong_arity,
)
from lamina.server.longdouble import add_long_doubles, parse_long_double
from lamina.server.numbers import INTEGER_MAX
from lamina.server.registry import ONE_KEY, command
from lamina.server.replies import OK, Simple
from lamina.server.types import fieldexpiry, hashes
from lamina.server.types.hashes import HASHTABLE, Hash

_DRAWN_MAX = 1 << 24
"""Fields that HRANDFIELD draws with repetitions at most. Redis has no limit but memory."""

_CONDITIONS = frozenset(b"NX XX GT LT".split())

_NO_FIELDS = CommandError(b"ERR Mandatory argument FIELDS is missing or not at the right position")
_FIELDS_NOT_POSITIVE = CommandError(b"ERR Parameter `numFields` should be greater than 0")
_COUNT_NOT_POSITIVE = CommandError(b"ERR Number of fields must be a positive integer")
_FIELDS_NOT_AS_MANY = CommandError(b"ERR The `numfields` parameter must match the number of arguments")
_EXPIRE_NEGATIVE = CommandError(b"ERR invalid expire time, must be >= 0")


# --- Setting


@command(
    "HSET",
    arity=-4,
    flags="write denyoom fast",
    keys=ONE_KEY,
    since="2.0.0",
    complexity="O(1) for each field",
    notes=("4.0.0: several fields in one call",),
)
def hset(client: Client, argv: list[bytes]) -> int:
    """Set fields of a hash; returns how many of them are new.

    HSET key field value [field value ...]
    """
    if len(argv) & 1:
        raise wrong_arity(b"hset")
    keyspace = client.keyspace
    added = hashes.put_pairs(keyspace, argv[1], argv)
    if keyspace.listens:
        keyspace.event(events.HASH, b"hset", argv[1])
    return added


@command(
    "HMSET",
    arity=-4,
    flags="write denyoom fast",
    keys=ONE_KEY,
    since="2.0.0",
    complexity="O(N) with N fields being set",
    notes=("4.0.0: HSET does the same",),
)
def hmset(client: Client, argv: list[bytes]) -> Simple:
    """Set fields of a hash.

    HMSET key field value [field value ...]
    """
    if len(argv) & 1:
        raise wrong_arity(b"hmset")
    keyspace = client.keyspace
    hashes.put_pairs(keyspace, argv[1], argv)
    if keyspace.listens:
        keyspace.event(events.HASH, b"hset", argv[1])
    return OK


@command("HSETNX", arity=4, flags="write denyoom fast", keys=ONE_KEY, since="2.0.0", complexity="O(1)")
def hsetnx(client: Client, argv: list[bytes]) -> int:
    """Set a field of a hash if it does not exist.

    HSETNX key field value
    """
    keyspace = client.keyspace
    if not hashes.put_new(keyspace, argv[1], argv[2], argv[3]):
        return 0
    if keyspace.listens:
        keyspace.event(events.HASH, b"hset", argv[1])
    return 1


@command("HINCRBY", arity=4, flags="write denyoom fast", keys=ONE_KEY, since="2.0.0", complexity="O(1)")
def hincrby(client: Client, argv: list[bytes]) -> int:
    """Add to the integer value of a field, 0 if there is none.

    HINCRBY key field increment
    """
    keyspace = client.keyspace
    total = hashes.increment(keyspace, argv[1], argv[2], integer(argv[3]))
    if keyspace.listens:
        keyspace.event(events.HASH, b"hincrby", argv[1])
    return total


@command("HINCRBYFLOAT", arity=4, flags="write denyoom fast", keys=ONE_KEY, since="2.6.0", complexity="O(1)")
def hincrbyfloat(client: Client, argv: list[bytes]) -> bytes:
    """Add to the number in a field, 0 if there is none.

    HINCRBYFLOAT key field increment
    """
    by = parse_long_double(argv[3])
    if by is None:
        raise NOT_A_FLOAT
    if argv[3][-1:] in b"fFyY" and add_long_doubles(by, (0, 0)) is None:  # it ends as inf or infinity do
        raise HASH_VALUE_NAN_OR_INFINITY
    keyspace = client.keyspace
    total = hashes.increment_float(keyspace, argv[1], argv[2], by)
    if keyspace.listens:
        keyspace.event(events.HASH, b"hincrbyfloat", argv[1])
    return total


@command(
    "HDEL",
    arity=-3,
    flags="write fast",
    keys=ONE_KEY,
    since="2.0.0",
    complexity="O(N) with N fields to remove",
    notes=("2.4.0: several fields in one call",),
)
def hdel(client: Client, argv: list[bytes]) -> int:
    """Remove fields; returns how many there were. The key goes with the last one.

    HDEL key field [field ...]
    """
    return hashes.delete(client.keyspace, argv[1], argv[2:])


# --- Getting


@command("HGET", arity=3, flags="readonly fast", keys=ONE_KEY, since="2.0.0", complexity="O(1)")
def hget(client: Client, argv: list[bytes]) -> bytes | None:
    """Return the value of a field.

    HGET key field
    """
    keyspace = client.keyspace
    record = keyspace.cache.get(argv[1])
    if record.__class__ is Hash and not record.expires_ms and not record.fields_due_ms:
        # The short way of hashes.get: half of an HGET.
        keyspace.hits += 1
        return record.elements.get(argv[2])
    return hashes.get(keyspace, argv[1], argv[2])


@command("HMGET", arity=-3, flags="readonly fast", keys=ONE_KEY, since="2.0.0", complexity="O(N) fields")
def hmget(client: Client, argv: list[bytes]) -> list[bytes | None]:
    """Return the values of several fields.

    HMGET key field [field ...]
    """
    fields = argv[2:]
    record = hashes.read(client.keyspace, argv[1], fields)
    return [None] * len(fields) if record is None else record.elements.get_many(fields)


@command("HEXISTS", arity=3, flags="readonly fast", keys=ONE_KEY, since="2.0.0", complexity="O(1)")
def hexists(client: Client, argv: list[bytes]) -> int:
    """Tell whether a field exists.

    HEXISTS key field
    """
    return 0 if hashes.get(client.keyspace, argv[1], argv[2]) is None else 1


@command("HSTRLEN", arity=3, flags="readonly fast", keys=ONE_KEY, since="3.2.0", complexity="O(1)")
def hstrlen(client: Client, argv: list[bytes]) -> int:
    """Return the length of the value of a field, in bytes.

    HSTRLEN key field
    """
    return len(hashes.get(client.keyspace, argv[1], argv[2]) or b"")


@command("HLEN", arity=2, flags="readonly fast", keys=ONE_KEY, since="2.0.0", complexity="O(1)")
def hlen(client: Client, argv: list[bytes]) -> int:
    """Return the number of fields.

    HLEN key
    """
    return hashes.length(client.keyspace, argv[1])


@command("HGETALL", arity=2, flags="readonly", keys=ONE_KEY, since="2.0.0", complexity="O(N) fields")
def hgetall(client: Client, argv: list[bytes]) -> dict[bytes, bytes]:
    """Return all fields with their values.

    HGETALL key
    """
    return hashes.items(client.keyspace, argv[1])


@command("HKEYS", arity=2, flags="readonly", keys=ONE_KEY, since="2.0.0", complexity="O(N) fields")
def hkeys(client: Client, argv: list[bytes]) -> list[bytes]:
    """Return all fields.

    HKEYS key
    """
    record = hashes.read(client.keyspace, argv[1])
    return [] if record is None else record.elements.keys()


@command("HVALS", arity=2, flags="readonly", keys=ONE_KEY, since="2.0.0", complexity="O(N) fields")
def hvals(client: Client, argv: list[bytes]) -> list[bytes]:
    """Return all values.

    HVALS key
    """
    record = hashes.read(client.keyspace, argv[1])
    return [] if record is None else record.elements.values()


@command(
    "HRANDFIELD",
    arity=-2,
    flags="readonly",
    keys=ONE_KEY,
    since="6.2.0",
    complexity="O(N) fields returned",
)
def hrandfield(client: Client, argv: list[bytes]) -> Any:
    """Return fields at random: `count` different ones, or with repetitions if it is negative.

    HRANDFIELD key [count [WITHVALUES]]
    """
    if len(argv) == 2:
        record = hashes.read(client.keyspace, argv[1])
        drawn = None if record is None else record.elements.draw()
        return None if drawn is None else drawn[0]
    count = integer_in(argv[2], -INTEGER_MAX, INTEGER_MAX)
    with_values = len(argv) > 3
    if len(argv) > 4 or (with_values and argv[3].upper() != b"WITHVALUES"):
        raise SYNTAX
    if count < -_DRAWN_MAX or (with_values and count > INTEGER_MAX // 2):
        raise OUT_OF_RANGE
    record = hashes.read(client.keyspace, argv[1])
    if record is None or not count:
        return []
    items = record.elements.draw_many(abs(count), distinct=count > 0)
    if not with_values:
        return [field for field, _ in items]
    return items if client.resp > 2 else [text for item in items for text in item]


@command(
    "HSCAN",
    arity=-3,
    flags="readonly",
    keys=ONE_KEY,
    since="2.8.0",
    complexity="O(1)",
    notes=("7.4.0: NOVALUES",),
)
def hscan(client: Client, argv: list[bytes]) -> list[bytes | list[bytes]]:
    """Return some fields with their values, and a cursor to go on from; it is 0 at the end.

    HSCAN key cursor [MATCH pattern] [COUNT count] [NOVALUES]
    """
    cursor = parse_cursor(argv[2])
    keyspace = client.keyspace
    record = hashes.read(keyspace, argv[1], ())
    if record is None:
        return [b"0", []]
    others = _without_novalues(argv)
    wanted = parse_filter(others, 3)
    if record.form != HASHTABLE:
        # Redis returns small hashes whole, whatever the cursor and the count.
        cursor, items = 0, record.elements.items()
    else:
        cursor, items = client.server.cursors.page(
            record.elements, cursor, wanted.count, prefix=wanted.prefix
        )
    items = hashes.live_of(keyspace, record, items)
    if wanted.matcher is not None:
        matches = wanted.matcher
        items = [item for item in items if matches(item[0])]
    if len(others) < len(argv):
        return [b"%d" % cursor, [field for field, _ in items]]
    return [b"%d" % cursor, [text for item in items for text in item]]


def _without_novalues(argv: list[bytes]) -> list[bytes]:
    """Return argv without the NOVALUES among its options; all others have one argument."""
    kept = argv[:3]
    at = 3
    while at < len(argv):
        if argv[at].upper() == b"NOVALUES":
            at += 1
        else:
            kept += argv[at : at + 2]
            at += 2
    return kept


# --- Expiry of fields


@command(
    "HEXPIRE",
    arity=-6,
    flags="write denyoom fast",
    keys=ONE_KEY,
    since="7.4.0",
    complexity="O(N) fields",
)
def hexpire(client: Client, argv: list[bytes]) -> list[int]:
    """Let fields expire in so many seconds.

    HEXPIRE key seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]
    """
    return _expire(client, argv, b"hexpire", 1000, client.server.clock.now_ms)


@command(
    "HPEXPIRE",
    arity=-6,
    flags="write denyoom fast",
    keys=ONE_KEY,
    since="7.4.0",
    complexity="O(N) fields",
)
def hpexpire(client: Client, argv: list[bytes]) -> list[int]:
    """Let fields expire in so many milliseconds.

    HPEXPIRE key milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]
    """
    return _expire(client, argv, b"hpexpire", 1, client.server.clock.now_ms)


@command(
    "HEXPIREAT",
    arity=-6,
    flags="write denyoom fast",
    keys=ONE_KEY,
    since="7.4.0",
    complexity="O(N) fields",
)
def hexpireat(client: Client, argv: list[bytes]) -> list[int]:
    """Let fields expire at a Unix time in seconds.

    HEXPIREAT key unix-time-seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]
    """
    return _expire(client, argv, b"hexpireat", 1000, 0)


@command(
    "HPEXPIREAT",
    arity=-6,
    flags="write denyoom fast",
    keys=ONE_KEY,
    since="7.4.0",
    complexity="O(N) fields",
)
def hpexpireat(client: Client, argv: list[bytes]) -> list[int]:
    """Let fields expire at a Unix time in milliseconds.

    HPEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]
    """
    return _expire(client, argv, b"hpexpireat", 1, 0)


@command("HTTL", arity=-5, flags="readonly fast", keys=ONE_KEY, since="7.4.0", complexity="O(N) fields")
def httl(client: Client, argv: list[bytes]) -> list[int]:
    """Return in how many seconds fields expire; -1 for never, -2 for no such field.

    HTTL key FIELDS numfields field [field ...]
    """
    now_ms = client.server.clock.now_ms
    return [at_ms if at_ms < 0 else (at_ms - now_ms + 999) // 1000 for at_ms in _times(client, argv)]


@command("HPTTL", arity=-5, flags="readonly fast", keys=ONE_KEY, since="7.4.0", complexity="O(N) fields")
def hpttl(client: Client, argv: list[bytes]) -> list[int]:
    """Return in how many milliseconds fields expire; -1 for never, -2 for no such field.

    HPTTL key FIELDS numfields field [field ...]
    """
    now_ms = client.server.clock.now_ms
    return [at_ms if at_ms < 0 else at_ms - now_ms for at_ms in _times(client, argv)]


@command(
    "HEXPIRETIME", arity=-5, flags="readonly fast", keys=ONE_KEY, since="7.4.0", complexity="O(N) fields"
)
def hexpiretime(client: Client, argv: list[bytes]) -> list[int]:
    """Return the Unix time in seconds at which fields expire; -1 for never, -2 for no such field.

    HEXPIRETIME key FIELDS numfields field [field ...]
    """
    return [at_ms if at_ms < 0 else (at_ms + 999) // 1000 for at_ms in _times(client, argv)]


@command(
    "HPEXPIRETIME", arity=-5, flags="readonly fast", keys=ONE_KEY, since="7.4.0", complexity="O(N) fields"
)
def hpexpiretime(client: Client, argv: list[bytes]) -> list[int]:
    """Return the Unix time in milliseconds at which fields expire; -1 for never, -2 for no such field.

    HPEXPIRETIME key FIELDS numfields field [field ...]
    """
    return _times(client, argv)


@command("HPERSIST", arity=-5, flags="write fast", keys=ONE_KEY, since="7.4.0", complexity="O(N) fields")
def hpersist(client: Client, argv: list[bytes]) -> list[int]:
    """Let fields never expire: 1 for those that would have, -1 for others, -2 for no such field.

    HPERSIST key FIELDS numfields field [field ...]
    """
    keyspace = client.keyspace
    keyspace.find_typed(argv[1], Hash)  # Redis complains of the type before it complains of the syntax
    return fieldexpiry.persist(keyspace, argv[1], _fields(argv, 2, _COUNT_NOT_POSITIVE))


def _expire(client: Client, argv: list[bytes], name: bytes, unit_ms: int, base_ms: int) -> list[int]:
    """Do HEXPIRE and its relatives. The order of the checks is Redis's."""
    keyspace = client.keyspace
    keyspace.find_typed(argv[1], Hash)
    expires = integer(argv[2])
    if expires < 0:
        raise _EXPIRE_NEGATIVE
    expires_ms = expires * unit_ms + base_ms
    if expires_ms > fieldexpiry.EXPIRES_MS_MAX:
        raise invalid_expire_time(name)
    condition = argv[3].upper()
    if condition in _CONDITIONS:
        fields = _fields(argv, 4, _FIELDS_NOT_POSITIVE)
    else:
        condition = b""
        fields = _fields(argv, 3, _FIELDS_NOT_POSITIVE)
    return fieldexpiry.expire(keyspace, argv[1], fields, expires_ms, condition)


def _times(client: Client, argv: list[bytes]) -> list[int]:
    client.keyspace.find_typed(argv[1], Hash)
    return fieldexpiry.times(client.keyspace, argv[1], _fields(argv, 2, _COUNT_NOT_POSITIVE))


def _fields(argv: list[bytes], at: int, not_positive: CommandError) -> list[bytes]:
    """Return the fields after ``FIELDS numfields``, which stand at `at`."""
    if argv[at].upper() != b"FIELDS":
        raise _NO_FIELDS
    count = integer_in(argv[at + 1], 1, INTEGER_MAX, not_positive)
    if count != len(argv) - at - 2:
        raise _FIELDS_NOT_AS_MANY
    return argv[at + 2 :]

"""Commands on keys of any type."""

from __future__ import annotations

from lamina.server.args import expire_change_ms, integer_in
from lamina.server.client import Client
from lamina.server.commands.help import add_help
from lamina.server.cursors import parse_cursor, parse_filter
from lamina.server.errors import (
    DB_INDEX,
    NO_SUCH_KEY,
    SAME_OBJECT,
    SYNTAX,
    CommandError,
    misused_subcommand,
)
from lamina.server.keyspace import Keyspace
from lamina.server.records import type_name
from lamina.server.registry import ALL_KEYS, ONE_KEY, TWO_KEYS, Keys, command
from lamina.server.replies import OK, Simple
from lamina.server.types import keys

_SUBJECT = Keys(2, 2, 1)
"""The key of OBJECT's subcommands."""

_LEAST = 0
"""What can be said of the use of a key. Nothing is evicted, so nobody notes it, which would cost each GET a
tenth. Who deletes what has been idle for long deletes nothing by it."""

_INT_MIN, _INT_MAX = -(1 << 31), (1 << 31) - 1

_CONDITIONS = frozenset(b"NX XX GT LT".split())
_TYPES = {name: Simple(name) for name in b"none string list set zset hash stream".split()}

_NX_WITH_OTHERS = CommandError(b"ERR NX and XX, GT or LT options at the same time are not compatible")
_GT_WITH_LT = CommandError(b"ERR GT and LT options at the same time are not compatible")
_LFU_NOT_SELECTED = CommandError(
    b"ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when "
    b"switching between policies at runtime LRU and LFU data will take some time to adjust."
)
_LFU_SELECTED = CommandError(
    b"ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching "
    b"between policies at runtime LRU and LFU data will take some time to adjust."
)


# --- Existence


@command("DEL", arity=-2, flags="write", keys=ALL_KEYS, since="1.0.0", complexity="O(N) keys, of any size")
def del_(client: Client, argv: list[bytes]) -> int:
    """Remove keys; returns how many there were.

    DEL key [key ...]
    """
    return keys.remove(client.keyspace, argv[1:])


@command(
    "UNLINK", arity=-2, flags="write fast", keys=ALL_KEYS, since="4.0.0", complexity="O(N) keys, of any size"
)
def unlink(client: Client, argv: list[bytes]) -> int:
    """Remove keys, as DEL does: that never waits for elements to be removed either.

    UNLINK key [key ...]
    """
    return keys.remove(client.keyspace, argv[1:])


@command(
    "EXISTS",
    arity=-2,
    flags="readonly fast",
    keys=ALL_KEYS,
    since="1.0.0",
    complexity="O(N) keys",
    notes=("3.0.3: several keys in one call",),
)
def exists(client: Client, argv: list[bytes]) -> int:
    """Return how many of the keys exist; a key named twice counts twice.

    EXISTS key [key ...]
    """
    return keys.count(client.keyspace, argv[1:])


@command("TOUCH", arity=-2, flags="readonly fast", keys=ALL_KEYS, since="3.2.1", complexity="O(N) keys")
def touch(client: Client, argv: list[bytes]) -> int:
    """Use keys, so that they are not idle; returns how many of them exist.

    TOUCH key [key ...]
    """
    return keys.count(client.keyspace, argv[1:])


@command("TYPE", arity=2, flags="readonly fast", keys=ONE_KEY, since="1.0.0", complexity="O(1)")
def type_(client: Client, argv: list[bytes]) -> Simple:
    """Return the type of what a key holds, or none.

    TYPE key
    """
    return _TYPES[type_name(client.keyspace.read(argv[1]))]


# --- Expiry


def _parse_conditions(argv: list[bytes]) -> list[bytes]:
    """Return what has to hold for a key to be given a time. Errors: unknown or contradictory ones."""
    conditions = [argument.upper() for argument in argv[3:]]
    for condition, argument in zip(conditions, argv[3:]):
        if condition not in _CONDITIONS:
            # A C string, which a NUL ends, and line breaks at the end of an error are cut off.
            shown = argument.split(b"\0", 1)[0].rstrip(b"\r\n")
            raise CommandError(b"ERR Unsupported option %b" % shown)
    if b"NX" in conditions and any(condition != b"NX" for condition in conditions):
        raise _NX_WITH_OTHERS
    if b"GT" in conditions and b"LT" in conditions:
        raise _GT_WITH_LT
    return conditions


def _expire(client: Client, argv: list[bytes], *, unit_ms: int, base_ms: int, name: bytes) -> int:
    """Do what EXPIRE does; the time is given in units of `unit_ms` and counts from `base_ms`."""
    conditions = _parse_conditions(argv) if len(argv) > 3 else ()
    at_ms = expire_change_ms(argv[2], unit_ms=unit_ms, base_ms=base_ms, name=name)
    return int(keys.expire(client.keyspace, argv[1], at_ms, conditions))


_CONDITIONS_NOTE = ("7.0.0: the options NX, XX, GT and LT",)


@command(
    "EXPIRE",
    arity=-3,
    flags="write fast",
    keys=ONE_KEY,
    since="1.0.0",
    complexity="O(1)",
    notes=_CONDITIONS_NOTE,
)
def expire(client: Client, argv: list[bytes]) -> int:
    """Let a key expire in some seconds, at once if they are not positive; returns 1 if that was done.

    EXPIRE key seconds [NX | XX | GT | LT]
    """
    return _expire(client, argv, unit_ms=1000, base_ms=client.server.clock.now_ms, name=b"expire")


@command(
    "PEXPIRE",
    arity=-3,
    flags="write fast",
    keys=ONE_KEY,
    since="2.6.0",
    complexity="O(1)",
    notes=_CONDITIONS_NOTE,
)
def pexpire(client: Client, argv: list[bytes]) -> int:
    """Let a key expire in some milliseconds, at once if they are not positive; returns 1 if that was done.

    PEXPIRE key milliseconds [NX | XX | GT | LT]
    """
    return _expire(client, argv, unit_ms=1, base_ms=client.server.clock.now_ms, name=b"pexpire")


@command(
    "EXPIREAT",
    arity=-3,
    flags="write fast",
    keys=ONE_KEY,
    since="1.2.0",
    complexity="O(1)",
    notes=_CONDITIONS_NOTE,
)
def expireat(client: Client, argv: list[bytes]) -> int:
    """Let a key expire at a Unix time, at once if it has passed; returns 1 if that was done.

    EXPIREAT key unix-time-seconds [NX | XX | GT | LT]
    """
    return _expire(client, argv, unit_ms=1000, base_ms=0, name=b"expireat")


@command(
    "PEXPIREAT",
    arity=-3,
    flags="write fast",
    keys=ONE_KEY,
    since="2.6.0",
    complexity="O(1)",
    notes=_CONDITIONS_NOTE,
)
def pexpireat(client: Client, argv: list[bytes]) -> int:
    """Let a key expire at a Unix time in milliseconds, at once if it has passed; returns 1 if that was done.

    PEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT]
    """
    return _expire(client, argv, unit_ms=1, base_ms=0, name=b"pexpireat")


@command("TTL", arity=2, flags="readonly fast", keys=ONE_KEY, since="1.0.0", complexity="O(1)")
def ttl(client: Client, argv: list[bytes]) -> int:
    """Return in how many seconds a key expires; -1 if it does not, -2 if it does not exist.

    TTL key
    """
    return keys.in_seconds(keys.expires_in_ms(client.keyspace, argv[1]))


@command("PTTL", arity=2, flags="readonly fast", keys=ONE_KEY, since="2.6.0", complexity="O(1)")
def pttl(client: Client, argv: list[bytes]) -> int:
    """Return in how many milliseconds a key expires; -1 if it does not, -2 if it does not exist.

    PTTL key
    """
    return keys.expires_in_ms(client.keyspace, argv[1])


@command("EXPIRETIME", arity=2, flags="readonly fast", keys=ONE_KEY, since="7.0.0", complexity="O(1)")
def expiretime(client: Client, argv: list[bytes]) -> int:
    """Return the Unix time at which a key expires; -1 if it does not, -2 if it does not exist.

    EXPIRETIME key
    """
    return keys.in_seconds(keys.expires_at_ms(client.keyspace, argv[1]))


@command("PEXPIRETIME", arity=2, flags="readonly fast", keys=ONE_KEY, since="7.0.0", complexity="O(1)")
def pexpiretime(client: Client, argv: list[bytes]) -> int:
    """Return the Unix time in milliseconds at which a key expires; -1 if not, -2 if it does not exist.

    PEXPIRETIME key
    """
    return keys.expires_at_ms(client.keyspace, argv[1])


@command("PERSIST", arity=2, flags="write fast", keys=ONE_KEY, since="2.2.0", complexity="O(1)")
def persist(client: Client, argv: list[bytes]) -> int:
    """Let a key not expire any more; returns 1 if it was to.

    PERSIST key
    """
    return int(keys.persist(client.keyspace, argv[1]))


# --- Names and places


@command("RENAME", arity=3, flags="write", keys=TWO_KEYS, since="1.0.0", complexity="O(1) at any size")
def rename(client: Client, argv: list[bytes]) -> Simple:
    """Rename a key, and replace what the new name held.

    RENAME key newkey
    """
    if keys.rename(client.keyspace, argv[1], argv[2], replace=True) is None:
        raise NO_SUCH_KEY
    return OK


@command("RENAMENX", arity=3, flags="write fast", keys=TWO_KEYS, since="1.0.0", complexity="O(1) at any size")
def renamenx(client: Client, argv: list[bytes]) -> int:
    """Rename a key unless the new name is taken; returns 1 if it has been renamed.

    RENAMENX key newkey
    """
    renamed = keys.rename(client.keyspace, argv[1], argv[2], replace=False)
    if renamed is None:
        raise NO_SUCH_KEY
    return int(renamed)


def _database(client: Client, index: bytes) -> Keyspace:
    keyspaces = client.server.databases.keyspaces
    number = integer_in(index, _INT_MIN, _INT_MAX)
    if not 0 <= number < len(keyspaces):
        raise DB_INDEX
    return keyspaces[number]


@command(
    "COPY",
    arity=-3,
    flags="write denyoom",
    keys=TWO_KEYS,
    since="6.2.0",
    complexity="O(N) elements",
)
def copy(client: Client, argv: list[bytes]) -> int:
    """Copy what a key holds, with its expiry; returns 1 if that was done.

    COPY source destination [DB destination-db] [REPLACE]
    """
    source = target = client.keyspace
    replace = False
    rest = iter(argv[3:])
    for option in rest:
        name = option.upper()
        if name == b"REPLACE":
            replace = True
        elif name == b"DB" and (index := next(rest, None)) is not None:
            target = _database(client, index)
        else:
            raise SYNTAX
    if source is target and argv[1] == argv[2]:
        raise SAME_OBJECT
    return int(keys.copy(source, argv[1], target, argv[2], replace=replace))


@command("MOVE", arity=3, flags="write fast", keys=ONE_KEY, since="1.0.0", complexity="O(N) elements")
def move(client: Client, argv: list[bytes]) -> int:
    """Move a key to another database, unless that has one of this name; returns 1 if it has been moved.

    MOVE key db
    """
    source = client.keyspace
    target = _database(client, argv[2])
    if source is target:
        raise SAME_OBJECT
    return int(keys.move(source, argv[1], target))


# --- All keys


@command(
    "KEYS",
    arity=2,
    flags="readonly dangerous",
    since="1.0.0",
    complexity="O(N) keys that begin as the pattern does before its first wildcard",
)
def keys_(client: Client, argv: list[bytes]) -> list[bytes]:
    """Return all keys that match a pattern.

    KEYS pattern
    """
    return keys.matching(client.keyspace, argv[1])


@command("RANDOMKEY", arity=1, flags="readonly", since="1.0.0", complexity="O(log N)")
def randomkey(client: Client, argv: list[bytes]) -> bytes | None:
    """Return a key at random, each as likely as the other.

    RANDOMKEY
    """
    return keys.draw(client.keyspace)


@command(
    "SCAN",
    arity=-2,
    flags="readonly",
    since="2.8.0",
    complexity="O(COUNT) for every call, O(N) for an iteration over all keys that begin as the pattern does",
    notes=("6.0.0: the option TYPE",),
)
def scan(client: Client, argv: list[bytes]) -> list[bytes | list[bytes]]:
    """Return some keys, and a cursor to go on from; it is 0 at the end.

    SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]
    """
    cursor = parse_cursor(argv[1])
    wanted = parse_filter(argv, 2, takes_type=True)
    cursor, found = keys.page(client.keyspace, client.server.cursors, cursor, wanted)
    return [b"%d" % cursor, found]


# --- What lies behind a key


@command("OBJECT", arity=-2, flags="", since="2.2.3", complexity="depends on the subcommand")
def object_(client: Client, argv: list[bytes]) -> object:
    """Tell how what a key holds is kept.

    OBJECT ENCODING | FREQ | IDLETIME | REFCOUNT | HELP
    """
    raise misused_subcommand(argv[1], b"object")


@command("OBJECT|ENCODING", arity=3, flags="readonly", keys=_SUBJECT, since="2.2.3", complexity="O(1)")
def object_encoding(client: Client, argv: list[bytes]) -> bytes | None:
    """Return the encoding that Redis would have chosen for what a key holds.

    OBJECT ENCODING key
    """
    value = keys.find_quietly(client.keyspace, argv[2])
    return None if value is None else keys.encoding_name(value)


@command("OBJECT|FREQ", arity=3, flags="readonly", keys=_SUBJECT, since="4.0.0", complexity="O(1)")
def object_freq(client: Client, argv: list[bytes]) -> int | None:
    """Return how often a key is used, on a logarithmic scale: at least so often, as uses are not counted.

    OBJECT FREQ key
    """
    if keys.find_quietly(client.keyspace, argv[2]) is None:
        return None
    if "lfu" not in client.server.config.maxmemory_policy:
        raise _LFU_NOT_SELECTED
    return _LEAST


@command("OBJECT|IDLETIME", arity=3, flags="readonly", keys=_SUBJECT, since="2.2.3", complexity="O(1)")
def object_idletime(client: Client, argv: list[bytes]) -> int | None:
    """Return for how many seconds a key has not been used: at least so many, as uses are not timed.

    OBJECT IDLETIME key
    """
    if keys.find_quietly(client.keyspace, argv[2]) is None:
        return None
    if "lfu" in client.server.config.maxmemory_policy:
        raise _LFU_SELECTED
    return _LEAST


@command("OBJECT|REFCOUNT", arity=3, flags="readonly", keys=_SUBJECT, since="2.2.3", complexity="O(1)")
def object_refcount(client: Client, argv: list[bytes]) -> int | None:
    """Return how often what a key holds is referred to: Redis shares small integers for ever, else once.

    OBJECT REFCOUNT key
    """
    value = keys.find_quietly(client.keyspace, argv[2])
    return None if value is None else keys.reference_count(value)


add_help("OBJECT", group="generic", since="6.2.0")

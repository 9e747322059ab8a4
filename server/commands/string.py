"""Commands on strings."""

from __future__ import annotations

from lamina.server import events
from lamina.server.args import expire_at_ms, integer
from lamina.server.client import Client
from lamina.server.encoding import STRING
from lamina.server.errors import (
    OFFSET_OUT_OF_RANGE,
    SYNTAX,
    WRONG_TYPE,
    CommandError,
    wrong_arity,
)
from lamina.server.keyspace import Keyspace
from lamina.server.numbers import INTEGER_MIN
from lamina.server.records import Record
from lamina.server.registry import ALL_KEYS, ONE_KEY, PAIRS, TWO_KEYS, command, many
from lamina.server.replies import OK, Simple
from lamina.server.types import lcs, strings

_DECREMENT_OVERFLOW = CommandError(b"ERR decrement would overflow")
_LCS_NOT_STRINGS = CommandError(b"ERR The specified keys must contain string values")
_LCS_LENGTH_AND_INDEXES = CommandError(b"ERR If you want both the length and indexes, please just use IDX.")
_LCS_TOO_LARGE = CommandError(b"ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len")

# Times of expiry: the unit in milliseconds, and whether it counts from now.
_TIMES = {b"EX": (1000, True), b"PX": (1, True), b"EXAT": (1000, False), b"PXAT": (1, False)}
_SET_FLAGS = frozenset((b"NX", b"XX", b"GET", b"KEEPTTL"))
_GETEX_FLAGS = frozenset((b"PERSIST",))
_NO_FLAGS: frozenset[bytes] = frozenset()


# --- One value


@command("GET", arity=2, flags="readonly fast", keys=ONE_KEY, since="1.0.0", complexity="O(1)")
def get(client: Client, argv: list[bytes]) -> bytes | None:
    """Return the string value of a key.

    GET key
    """
    keyspace = client.keyspace
    # Store.get_record and strings.read without their calls, for what memory holds: half of a GET.
    store = keyspace.store
    engine_key = keyspace.record_prefix + argv[1]
    raw = None if store.entries else store.db.view.active.inserted.get(engine_key)
    if raw is None:
        raw = keyspace.hot.get(engine_key) or store.get_record(engine_key)
    if raw is None:
        keyspace.note_miss(argv[1])
        return None
    if raw[0] == STRING:
        keyspace.hits += 1
        return raw[1:]
    return strings.read(keyspace, argv[1])


@many("GET")
def get_many(client: Client, argvs: list[list[bytes]]) -> list[bytes | None] | None:
    """Run a pipeline of GETs."""
    return strings.read_plain(client.keyspace, [argv[1] for argv in argvs])


@command(
    "SET",
    arity=-3,
    flags="write denyoom",
    keys=ONE_KEY,
    since="1.0.0",
    complexity="O(1)",
    notes=(
        "2.6.12: Added the EX, PX, NX and XX options.",
        "6.0.0: Added the KEEPTTL option.",
        "6.2.0: Added the GET, EXAT and PXAT options.",
        "7.0.0: Allowed NX and GET to be used together.",
    ),
)
def set_(client: Client, argv: list[bytes]) -> Simple | bytes | None:
    """Set the string value of a key, whatever it held before.

    SET key value [NX | XX] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds |
    PXAT unix-time-milliseconds | KEEPTTL]
    """
    if len(argv) > 3:
        return _set_with_options(client, argv)
    keyspace = client.keyspace
    strings.put(keyspace, argv[1], argv[2])
    if keyspace.listens:
        keyspace.event(events.STRING, b"set", argv[1])
    return OK


@many("SET")
def set_many(client: Client, argvs: list[list[bytes]]) -> list[Simple] | None:
    """Run a pipeline of SETs without options."""
    is_done = strings.put_plain(client.keyspace, [argv[1] for argv in argvs], [argv[2] for argv in argvs])
    return [OK] * len(argvs) if is_done else None


def _set_with_options(client: Client, argv: list[bytes]) -> Simple | bytes | None:
    keyspace, key = client.keyspace, argv[1]
    flags, time = _parse_time(argv, 3, _SET_FLAGS)
    expires_ms = 0 if time is None else _expires_ms(keyspace, time, b"set")
    reply: Simple | bytes | None = OK
    refusal = None
    if b"GET" in flags:
        reply = refusal = strings.read(keyspace, key)
    wants_missing = b"NX" in flags
    if (wants_missing or b"XX" in flags) and (keyspace.find(key) is None) is not wants_missing:
        return refusal
    if b"KEEPTTL" in flags:
        old = keyspace.find(key)
        expires_ms = old.expires_ms if isinstance(old, Record) else 0
    strings.put(keyspace, key, argv[2], expires_ms=expires_ms)
    if keyspace.listens:
        keyspace.event(events.STRING, b"set", key)
        if time is not None:
            keyspace.event(events.GENERIC, b"expire", key)
    return reply


def _parse_time(
    argv: list[bytes], at: int, allowed: frozenset[bytes]
) -> tuple[frozenset[bytes] | set[bytes], tuple[bytes, bytes] | None]:
    """Return the flags in argv from `at` on, and the unit and text of a time, if one is given.

    Which exclude each other is the same for SET and GETEX. Of a time given twice in one unit the last counts.
    """
    argc = len(argv)
    if at + 2 == argc and argv[at].upper() in _TIMES:  # most calls
        return _NO_FLAGS, (argv[at].upper(), argv[at + 1])
    flags = set()
    time: tuple[bytes, bytes] | None = None
    while at < argc:
        word = argv[at].upper()
        at += 1
        if word in _TIMES:
            if at == argc or (time is not None and time[0] != word):
                raise SYNTAX
            time = (word, argv[at])
            at += 1
        elif word in allowed:
            flags.add(word)
        else:
            raise SYNTAX
    if not flags:
        return _NO_FLAGS, time
    if (time is not None and (b"KEEPTTL" in flags or b"PERSIST" in flags)) or flags.issuperset(
        (b"NX", b"XX")
    ):
        raise SYNTAX
    return flags, time


def _expires_ms(keyspace: Keyspace, time: tuple[bytes, bytes], name: bytes) -> int:
    unit_ms, is_from_now = _TIMES[time[0]]
    base_ms = keyspace.clock.now_ms if is_from_now else 0
    return expire_at_ms(time[1], unit_ms=unit_ms, base_ms=base_ms, name=name)


@command("SETNX", arity=3, flags="write denyoom fast", keys=ONE_KEY, since="1.0.0", complexity="O(1)")
def setnx(client: Client, argv: list[bytes]) -> int:
    """Set the string value of a key that does not exist.

    SETNX key value
    """
    keyspace, key = client.keyspace, argv[1]
    if keyspace.find(key) is not None:
        return 0
    strings.put(keyspace, key, argv[2])
    if keyspace.listens:
        keyspace.event(events.STRING, b"set", key)
    return 1


@command("SETEX", arity=4, flags="write denyoom", keys=ONE_KEY, since="2.0.0", complexity="O(1)")
def setex(client: Client, argv: list[bytes]) -> Simple:
    """Set the string value of a key, and the seconds after which it expires.

    SETEX key seconds value
    """
    return _set_expiring(client.keyspace, argv, b"EX", b"setex")


@command("PSETEX", arity=4, flags="write denyoom", keys=ONE_KEY, since="2.6.0", complexity="O(1)")
def psetex(client: Client, argv: list[bytes]) -> Simple:
    """Set the string value of a key, and the milliseconds after which it expires.

    PSETEX key milliseconds value
    """
    return _set_expiring(client.keyspace, argv, b"PX", b"psetex")


def _set_expiring(keyspace: Keyspace, argv: list[bytes], unit: bytes, name: bytes) -> Simple:
    key = argv[1]
    strings.put(keyspace, key, argv[3], expires_ms=_expires_ms(keyspace, (unit, argv[2]), name))
    if keyspace.listens:
        keyspace.event(events.STRING, b"set", key)
        keyspace.event(events.GENERIC, b"expire", key)
    return OK


@command("GETSET", arity=3, flags="write denyoom fast", keys=ONE_KEY, since="1.0.0", complexity="O(1)")
def getset(client: Client, argv: list[bytes]) -> bytes | None:
    """Set the string value of a key, and return the one it had.

    GETSET key value
    """
    keyspace, key = client.keyspace, argv[1]
    old = strings.read(keyspace, key)
    strings.put(keyspace, key, argv[2])
    if keyspace.listens:
        keyspace.event(events.STRING, b"set", key)
    return old


@command("GETDEL", arity=2, flags="write fast", keys=ONE_KEY, since="6.2.0", complexity="O(1)")
def getdel(client: Client, argv: list[bytes]) -> bytes | None:
    """Return the string value of a key, and delete the key.

    GETDEL key
    """
    keyspace, key = client.keyspace, argv[1]
    old = strings.read(keyspace, key)
    if old is not None:
        keyspace.remove(key)
        if keyspace.listens:
            keyspace.event(events.GENERIC, b"del", key)
    return old


@command("GETEX", arity=-2, flags="write fast", keys=ONE_KEY, since="6.2.0", complexity="O(1)")
def getex(client: Client, argv: list[bytes]) -> bytes | None:
    """Return the string value of a key, and change when it expires.

    GETEX key [EX seconds | PX milliseconds | EXAT unix-time-seconds |
    PXAT unix-time-milliseconds | PERSIST]
    """
    keyspace, key = client.keyspace, argv[1]
    flags, time = _parse_time(argv, 2, _GETEX_FLAGS)
    value = keyspace.read(key)
    if value is None:
        return None
    # The time is checked before the value is read, but after its type: errors come in Redis's order.
    strings.size_of(value)
    expires_ms = 0 if time is None else _expires_ms(keyspace, time, b"getex")
    text = strings.text_of(keyspace, value)
    event = b""
    if time is not None and expires_ms <= keyspace.clock.now_ms:
        keyspace.remove(key)
        event = b"del"
    elif time is not None:
        keyspace.set_expiry(key, value, expires_ms)
        event = b"expire"
    elif b"PERSIST" in flags and isinstance(value, Record) and value.expires_ms:
        keyspace.set_expiry(key, value, 0)
        event = b"persist"
    if event and keyspace.listens:
        keyspace.event(events.GENERIC, event, key)
    return text


# --- Many values


@command("MGET", arity=-2, flags="readonly fast", keys=ALL_KEYS, since="1.0.0", complexity="O(N)")
def mget(client: Client, argv: list[bytes]) -> list[bytes | None]:
    """Return the string values of keys, nil for keys that hold none.

    MGET key [key ...]
    """
    return strings.read_many(client.keyspace, argv[1:])


@command("MSET", arity=-3, flags="write denyoom", keys=PAIRS, since="1.0.1", complexity="O(N)")
def mset(client: Client, argv: list[bytes]) -> Simple:
    """Set the string values of keys, whatever they held before.

    MSET key value [key value ...]
    """
    if not len(argv) & 1:
        raise wrong_arity(b"mset")
    _set_many(client.keyspace, argv)
    return OK


@command("MSETNX", arity=-3, flags="write denyoom", keys=PAIRS, since="1.0.1", complexity="O(N)")
def msetnx(client: Client, argv: list[bytes]) -> int:
    """Set the string values of keys, unless one of them exists.

    MSETNX key value [key value ...]
    """
    if not len(argv) & 1:
        raise wrong_arity(b"msetnx")
    keyspace = client.keyspace
    for key in argv[1::2]:
        if keyspace.find(key) is not None:
            return 0
    _set_many(keyspace, argv)
    return 1


def _set_many(keyspace: Keyspace, argv: list[bytes]) -> None:
    keys = argv[1::2]
    strings.put_many(keyspace, keys, argv[2::2])
    if keyspace.listens:
        for key in keys:
            keyspace.event(events.STRING, b"set", key)


# --- Numbers


@command("INCR", arity=2, flags="write denyoom fast", keys=ONE_KEY, since="1.0.0", complexity="O(1)")
def incr(client: Client, argv: list[bytes]) -> int:
    """Add one to the integer value of a key, 0 if there is none.

    INCR key
    """
    return strings.increment(client.keyspace, argv[1], 1)


@many("INCR")
def incr_many(client: Client, argvs: list[list[bytes]]) -> list[int] | None:
    """Run a pipeline of INCRs."""
    return strings.increment_plain(client.keyspace, [argv[1] for argv in argvs], 1)


@command("DECR", arity=2, flags="write denyoom fast", keys=ONE_KEY, since="1.0.0", complexity="O(1)")
def decr(client: Client, argv: list[bytes]) -> int:
    """Subtract one from the integer value of a key, 0 if there is none.

    DECR key
    """
    return strings.increment(client.keyspace, argv[1], -1)


@command("INCRBY", arity=3, flags="write denyoom fast", keys=ONE_KEY, since="1.0.0", complexity="O(1)")
def incrby(client: Client, argv: list[bytes]) -> int:
    """Add to the integer value of a key, 0 if there is none.

    INCRBY key increment
    """
    return strings.increment(client.keyspace, argv[1], integer(argv[2]))


@command("DECRBY", arity=3, flags="write denyoom fast", keys=ONE_KEY, since="1.0.0", complexity="O(1)")
def decrby(client: Client, argv: list[bytes]) -> int:
    """Subtract from the integer value of a key, 0 if there is none.

    DECRBY key decrement
    """
    by = integer(argv[2])
    if by == INTEGER_MIN:
        # It has no counterpart among 64-bit integers.
        raise _DECREMENT_OVERFLOW
    return strings.increment(client.keyspace, argv[1], -by)


@command("INCRBYFLOAT", arity=3, flags="write denyoom fast", keys=ONE_KEY, since="2.6.0", complexity="O(1)")
def incrbyfloat(client: Client, argv: list[bytes]) -> bytes:
    """Add to the floating point value of a key, 0 if there is none.

    INCRBYFLOAT key increment
    """
    return strings.increment_float(client.keyspace, argv[1], argv[2])


# --- Parts


@command("STRLEN", arity=2, flags="readonly fast", keys=ONE_KEY, since="2.2.0", complexity="O(1)")
def strlen(client: Client, argv: list[bytes]) -> int:
    """Return the size of the string value of a key in bytes.

    STRLEN key
    """
    return strings.length(client.keyspace, argv[1])


@command("APPEND", arity=3, flags="write denyoom fast", keys=ONE_KEY, since="2.0.0", complexity="O(1)")
def append(client: Client, argv: list[bytes]) -> int:
    """Append a value to a string, creating the key if it is missing.

    APPEND key value
    """
    size_max = client.server.config.proto_max_bulk_len
    return strings.append(client.keyspace, argv[1], argv[2], size_max=size_max)


@command("SETRANGE", arity=4, flags="write denyoom", keys=ONE_KEY, since="2.2.0", complexity="O(1)")
def setrange(client: Client, argv: list[bytes]) -> int:
    """Overwrite a part of a string, which grows if it has to.

    SETRANGE key offset value
    """
    offset = integer(argv[2])
    if offset < 0:
        raise OFFSET_OUT_OF_RANGE
    size_max = client.server.config.proto_max_bulk_len
    return strings.write_range(client.keyspace, argv[1], offset, argv[3], size_max=size_max)


@command("GETRANGE", arity=4, flags="readonly", keys=ONE_KEY, since="2.4.0", complexity="O(N)")
def getrange(client: Client, argv: list[bytes]) -> bytes:
    """Return a part of a string; negative positions count from its end.

    GETRANGE key start end
    """
    return strings.read_range(client.keyspace, argv[1], integer(argv[2]), integer(argv[3]))


@command("SUBSTR", arity=4, flags="readonly", keys=ONE_KEY, since="1.0.0", complexity="O(N)")
def substr(client: Client, argv: list[bytes]) -> bytes:
    """Return a part of a string: the old name of GETRANGE.

    SUBSTR key start end
    """
    return getrange(client, argv)


@command("LCS", arity=-3, flags="readonly", keys=TWO_KEYS, since="7.0.0", complexity="O(N*M)")
def lcs_(client: Client, argv: list[bytes]) -> bytes | int | dict[bytes, object]:
    """Return the longest subsequence that two strings have in common, its length, or where it lies.

    LCS key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len] [WITHMATCHLEN]
    """
    keyspace = client.keyspace
    values = keyspace.read(argv[1]), keyspace.read(argv[2])
    try:
        sizes = [0 if value is None else strings.size_of(value) for value in values]
    except CommandError as error:
        assert error == WRONG_TYPE
        raise _LCS_NOT_STRINGS from None
    flags, smallest = _parse_lcs(argv)
    if b"LEN" in flags and b"IDX" in flags:
        raise _LCS_LENGTH_AND_INDEXES
    if lcs.table_size(*sizes) > client.server.config.proto_max_bulk_len:
        raise _LCS_TOO_LARGE
    a, b = [b"" if value is None else strings.text_of(keyspace, value) for value in values]
    if b"LEN" in flags:
        return lcs.length(a, b)
    matches = lcs.matches(a, b)
    if b"IDX" not in flags:
        return b"".join([a[match.a : match.a + match.size] for match in reversed(matches)])
    has_sizes = b"WITHMATCHLEN" in flags
    return {
        b"matches": [_lcs_match(match, has_sizes) for match in matches if match.size >= smallest],
        b"len": sum([match.size for match in matches]),
    }


def _parse_lcs(argv: list[bytes]) -> tuple[set[bytes], int]:
    """Return the flags of LCS, and the size from which on matches are reported."""
    flags: set[bytes] = set()
    smallest = 0
    words = iter(argv[3:])
    for argument in words:
        word = argument.upper()
        if word in (b"LEN", b"IDX", b"WITHMATCHLEN"):
            flags.add(word)
        elif word == b"MINMATCHLEN":
            text = next(words, None)
            if text is None:
                raise SYNTAX
            smallest = integer(text)
        else:
            raise SYNTAX
    return flags, smallest


def _lcs_match(match: lcs.Match, has_size: bool) -> list[object]:
    a, b, size = match
    ranges: list[object] = [[a, a + size - 1], [b, b + size - 1]]
    return [*ranges, size] if has_size else ranges

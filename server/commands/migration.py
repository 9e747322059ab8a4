"""Commands that take keys out of one server and put them into another."""

from __future__ import annotations

import re
from typing import Any, Final

from lamina.server import dumping, migrating
from lamina.server.args import integer
from lamina.server.client import Client
from lamina.server.dumping import BUSY_KEY
from lamina.server.errors import SYNTAX, CommandError
from lamina.server.numbers import INTEGER_MAX
from lamina.server.registry import ONE_KEY, Keys, command
from lamina.server.replies import OK, Simple

_NEGATIVE_TTL: Final = CommandError(b"ERR Invalid TTL value, must be >= 0")
_NEGATIVE_IDLE_TIME: Final = CommandError(b"ERR Invalid IDLETIME value, must be >= 0")
_WRONG_FREQUENCY: Final = CommandError(b"ERR Invalid FREQ value, must be >= 0 and <= 255")
_KEY_NOT_EMPTY: Final = CommandError(
    b"ERR When using MIGRATE KEYS option, the key argument must be set to the empty string"
)
_NO_KEY: Final = Simple(b"NOKEY")

_FREQUENCY_MAX: Final = 255
_TIMEOUT_MS: Final = 1000
"""What a timeout is that is none."""

_PORT_MASK: Final = 0xFFFF
_match_number = re.compile(rb"[ \t\n\v\f\r]*([+-]?[0-9]+)").match

_SETTINGS: Final = {b"COPY": 0, b"REPLACE": 0, b"AUTH": 1, b"AUTH2": 2}
"""MIGRATE's options, and how many arguments they have."""


@command(
    "DUMP", arity=2, flags="readonly", keys=ONE_KEY, since="2.6.0", complexity="O(N) bytes", group="generic"
)
def dump(client: Client, argv: list[bytes]) -> bytes | None:
    """Return what a key holds as a payload for RESTORE, here or of a Redis from 7.0 on.

    DUMP key
    """
    return dumping.dump(client.keyspace, argv[1], compress=client.server.config.rdbcompression)


def _restore_options(argv: list[bytes]) -> tuple[bool, bool]:
    """Return whether to replace a key, and whether its time is a point in time.

    IDLETIME and FREQ are checked; the use of keys is not noted (OBJECT IDLETIME), so they say nothing.
    """
    replaces = is_absolute = False
    idle_s = frequency = -1
    at, stop = 4, len(argv)
    while at < stop:
        option = argv[at].upper()
        has_more = at + 1 < stop
        if option == b"REPLACE":
            replaces = True
        elif option == b"ABSTTL":
            is_absolute = True
        elif option == b"IDLETIME" and has_more and frequency < 0:
            at += 1
            idle_s = integer(argv[at])
            if idle_s < 0:
                raise _NEGATIVE_IDLE_TIME
        elif option == b"FREQ" and has_more and idle_s < 0:
            at += 1
            frequency = integer(argv[at])
            if not 0 <= frequency <= _FREQUENCY_MAX:
                raise _WRONG_FREQUENCY
        else:
            raise SYNTAX
        at += 1
    return replaces, is_absolute


@command(
    "RESTORE",
    arity=-4,
    flags="write denyoom",
    keys=ONE_KEY,
    since="2.6.0",
    complexity="O(N) bytes, O(N log N) members of a sorted set",
    group="generic",
    notes=("3.0.0: REPLACE.", "5.0.0: ABSTTL, IDLETIME and FREQ."),
)
def restore(client: Client, argv: list[bytes]) -> Simple:
    """Let a key hold what a payload of DUMP says, made here or by any Redis up to 7.4.

    RESTORE key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]
    """
    replaces, is_absolute = _restore_options(argv)
    keyspace = client.keyspace
    key = argv[1]
    if not replaces and keyspace.find(key) is not None:
        raise BUSY_KEY
    expires_ms = integer(argv[2])
    if expires_ms < 0:
        raise _NEGATIVE_TTL
    value = dumping.decode(argv[3])
    if expires_ms and not is_absolute:
        now_ms = client.server.clock.now_ms
        # Beyond the end of time Redis's numbers turn negative: such a key has expired.
        expires_ms = expires_ms + now_ms if expires_ms <= INTEGER_MAX - now_ms else 1
    dumping.restore(keyspace, key, value, expires_ms)
    return OK


@command(
    "RESTORE-ASKING",
    arity=-4,
    flags="write denyoom asking",
    keys=ONE_KEY,
    since="3.0.0",
    complexity="O(N) bytes, O(N log N) members of a sorted set",
    group="server",
    notes=("3.0.0: REPLACE.", "5.0.0: ABSTTL, IDLETIME and FREQ."),
)
def restore_asking(client: Client, argv: list[bytes]) -> Simple:
    """Do what RESTORE does. To nodes of a cluster, which Lamina has not, it says ASKING as well.

    RESTORE-ASKING key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]
    """
    return restore(client, argv)


# --- MIGRATE


def _find_keys(argv: list[bytes]) -> list[int]:
    """Return the positions of the keys: the one in its place, or those after the word KEYS."""
    at = 6
    while at < len(argv):
        option = argv[at].upper()
        if option == b"KEYS":
            return [] if argv[3] else list(range(at + 1, len(argv)))
        at += 1 + _SETTINGS.get(option, 0)
    return [3]


def _order(argv: list[bytes]) -> migrating.Order:
    """Return what a MIGRATE asks for."""
    keys: tuple[bytes, ...] = (argv[3],)
    options: set[bytes] = set()
    credentials: tuple[bytes, ...] = ()
    at, stop = 6, len(argv)
    while at < stop:
        option = argv[at].upper()
        if option == b"KEYS":
            if argv[3]:
                raise _KEY_NOT_EMPTY
            keys = tuple(argv[at + 1 :])
            break
        count = _SETTINGS.get(option, stop)
        if at + count >= stop:
            raise SYNTAX
        if count:
            credentials = tuple(argv[at + 1 : at + 1 + count])
        options.add(option)
        at += 1 + count
    timeout_ms = integer(argv[5])
    database = integer(argv[4])
    return migrating.Order(
        host=argv[1],
        port=_port(argv[2]),
        database=database,
        timeout_ms=timeout_ms if timeout_ms > 0 else _TIMEOUT_MS,
        keys=tuple(dict.fromkeys(keys)),
        copies=b"COPY" in options,
        replaces=b"REPLACE" in options,
        credentials=credentials,
    )


def _port(text: bytes) -> int:
    """Return the port that a text begins with: Redis does not check it, so there is one in any text."""
    match = _match_number(text)
    return int(match[1]) & _PORT_MASK if match else 0


@command(
    "MIGRATE",
    arity=-6,
    flags="write movablekeys",
    keys=Keys(3, 3, 1),
    find_keys=_find_keys,
    since="2.6.0",
    complexity="as DUMP, DEL and the target's RESTORE for each key",
    group="generic",
    notes=("3.0.0: COPY and REPLACE.", "3.0.6: KEYS.", "4.0.7: AUTH.", "6.0.0: AUTH2."),
)
def migrate(client: Client, argv: list[bytes]) -> Any:
    """Hand keys over to another server. Meanwhile others may read; those who write wait.

    MIGRATE host port <key | ""> destination-db timeout [COPY] [REPLACE] [AUTH password |
    AUTH2 username password] [KEYS key [key ...]]
    """
    order = _order(argv)
    keyspace = client.keyspace
    found = [keyspace.read(key) for key in order.keys]  # all of them, as each is a hit or a miss
    if found.count(None) == len(found):
        return _NO_KEY
    return migrating.start(client, order)

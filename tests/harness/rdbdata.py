"""Commands that make a redis-server hold every type in every encoding.

fill(client)                            # what its limits make of it
for limits in LIMITS: configure(client, limits)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from harness.resp import Argument, RespClient

LIMITS: Final[dict[str, dict[str, str]]] = {
    "defaults": {},
    "nothing packed": {
        "hash-max-listpack-entries": "0",
        "zset-max-listpack-entries": "0",
        "set-max-intset-entries": "0",
        "list-max-listpack-size": "1",
        "stream-node-max-entries": "1",
    },
    "much packed": {
        "hash-max-listpack-entries": "5000",
        "hash-max-listpack-value": "10000",
        "zset-max-listpack-entries": "5000",
        "zset-max-listpack-value": "10000",
        "set-max-intset-entries": "5000",
        "list-max-listpack-size": "-5",
        "stream-node-max-bytes": "100000",
        "stream-node-max-entries": "0",
    },
    "short nodes": {
        "list-max-listpack-size": "3",
        "list-compress-depth": "1",
        "stream-node-max-bytes": "60",
    },
}
"""Configurations by name; each is to be applied on top of the first."""

DEFAULTS: Final = {
    "hash-max-listpack-entries": "512",
    "hash-max-listpack-value": "64",
    "zset-max-listpack-entries": "128",
    "zset-max-listpack-value": "64",
    "set-max-intset-entries": "512",
    "list-max-listpack-size": "-2",
    "list-compress-depth": "0",
    "stream-node-max-bytes": "4096",
    "stream-node-max-entries": "100",
}

INTEGERS: Final = (
    0, 1, 12, 13, 127, 128, -1, -4096, -4097, 4095, 4096, 32767, 32768, -32768, -32769, 8388607, 8388608,
    -8388608, -8388609, 2147483647, 2147483648, -2147483648, -2147483649, 9223372036854775807,
    -9223372036854775808,
)  # fmt: skip
"""At the edges of every form."""

SIZES: Final = (
    0,
    1,
    20,
    21,
    62,
    63,
    64,
    65,
    122,
    123,
    124,
    125,
    126,
    127,
    128,
    253,
    254,
    300,
    4090,
    4095,
    4096,
)
"""Of strings, at the edges of every form, heads and lengths behind included."""

LOOKALIKES: Final = (b"", b"-", b"-0", b"00", b"01", b"+1", b" 1", b"1 ", b"1.0", b"9223372036854775808")
"""Not quite integers."""


def strings() -> list[bytes]:
    """Return strings of all kinds, each once."""
    numbers = [b"%d" % number for number in INTEGERS]
    return [*numbers, *LOOKALIKES, *(bytes([97 + size % 26]) * size for size in SIZES if size > 1)]


def configure(client: RespClient, limits: Mapping[str, str]) -> None:
    """Apply a configuration."""
    for name, value in {**DEFAULTS, **limits}.items():
        client.ok("CONFIG", "SET", name, value)


def fill(client: RespClient) -> None:
    """Make a server, which is empty, hold something of everything."""
    _run(client, [*_strings(), *_lists(), *_sets(), *_zsets(), *_hashes(), *_streams()])
    _run(client, [("SELECT", 3), ("SET", "elsewhere", "x"), ("SET", "and", 1), ("EXPIRE", "and", 3000)])
    _run(client, [("SELECT", 0)])


def _run(client: RespClient, commands: Sequence[Sequence[Argument]]) -> None:
    for command in commands:
        client.ok(*command)


Commands = list[tuple[Argument, ...]]


def _strings() -> Commands:
    commands: Commands = [("SET", b"string:%d" % at, value) for at, value in enumerate(strings())]
    commands += [
        ("SET", "string:long", b"all work and no play " * 5000),
        ("SET", "string:binary", bytes(range(256)) * 3),
        ("SET", "string:expires", "soon", "PXAT", 33_333_333_333_333),
        ("SET", b"\x00\xff\r\n", "a key of any bytes"),
        ("SET", "", "the empty key"),
        ("SET", 12345, "a key that is a number"),
    ]
    return commands


def _lists() -> Commands:
    return [
        ("RPUSH", "list:mixed", *strings()),
        ("RPUSH", "list:one", "a"),
        ("RPUSH", "list:numbers", *range(-2000, 2000)),
        ("RPUSH", "list:long", *(b"x" * size for size in (10, 9000, 70000, 5, 8180, 8190))),
        ("LPUSH", "list:backwards", *range(300)),
        ("EXPIREAT", "list:backwards", 33_333_333_333),
    ]


def _sets() -> Commands:
    return [
        ("SADD", "set:16", *range(-50, 50)),
        ("SADD", "set:32", 1, 70000, -70000),
        ("SADD", "set:64", 1, 1 << 40, -(1 << 40)),
        ("SADD", "set:600", *range(600)),
        ("SADD", "set:mixed", *strings()),
        ("SADD", "set:large", *(b"member %d" % number for number in range(3000))),
    ]


def _zsets() -> Commands:
    scores = ("inf", "-inf", 0, -1, 1.5, 3.14159265358979, 1e300, -1e-300, 4503599627370497, 1 << 60, 0.1)
    return [
        ("ZADD", "zset:scores", *(word for at, score in enumerate(scores) for word in (score, f"m{at}"))),
        ("ZADD", "zset:mixed", *(word for at, name in enumerate(strings()) for word in (at % 5, name))),
        ("ZADD", "zset:large", *(word for at in range(2500) for word in (at * 0.5, f"member {at}"))),
    ]


def _hashes() -> Commands:
    names = strings()
    pairs = zip(names, reversed(names), strict=True)
    return [
        ("HSET", "hash:mixed", *(word for pair in pairs for word in pair)),
        ("HSET", "hash:small", "name", "Ada", "born", 1815, "", ""),
        ("HSET", "hash:large", *(word for at in range(2500) for word in (f"field {at}", at))),
        ("PEXPIREAT", "hash:large", 33_333_333_333_334),
    ]


def _streams() -> Commands:
    commands: Commands = [
        ("XADD", "stream:same", f"{at}-1", "t", at, "name", f"n{at}") for at in range(1, 400)
    ]
    for at in range(1, 60):
        fields = [word for field in range(at % 4 + 1) for word in (f"f{field}", field * at)]
        commands.append(("XADD", "stream:various", f"7-{at}", *fields))
    commands += [
        ("XADD", "stream:long", "1-1", "data", b"x" * 5000),
        ("XADD", "stream:long", f"{(1 << 64) - 1}-5", *strings()),
        ("XADD", "stream:gaps", "5-9", "a", "b"),
        ("XADD", "stream:gaps", "6-1", "a", "b"),
        ("XADD", "stream:gaps", "7-0", "a", "b"),
        ("XDEL", "stream:gaps", "6-1"),
        ("XGROUP", "CREATE", "stream:empty", "idle", "$", "MKSTREAM"),
        ("XADD", "stream:emptied", "3-3", "a", "b"),
        ("XDEL", "stream:emptied", "3-3"),
        ("XTRIM", "stream:various", "MAXLEN", 50),
        ("XGROUP", "CREATE", "stream:same", "zweite", "0"),
        ("XGROUP", "CREATE", "stream:same", "erste", "200-1"),
        ("XGROUP", "CREATE", "stream:same", "unread", "$"),
        ("XGROUP", "CREATECONSUMER", "stream:same", "erste", "idler"),
        ("XREADGROUP", "GROUP", "zweite", "carol", "COUNT", 30, "STREAMS", "stream:same", ">"),
        ("XREADGROUP", "GROUP", "zweite", "alice", "COUNT", 20, "STREAMS", "stream:same", ">"),
        ("XREADGROUP", "GROUP", "zweite", "carol", "COUNT", 10, "STREAMS", "stream:same", "5"),
        ("XACK", "stream:same", "zweite", "4-1", "33-1"),
        ("XCLAIM", "stream:same", "zweite", "bob", 0, "10-1", "40-1"),
        *(("XADD", "stream:pending", f"{at}-1", "a", at) for at in range(1, 9)),
        ("XGROUP", "CREATE", "stream:pending", "group", "0"),
        ("XREADGROUP", "GROUP", "group", "reader", "COUNT", 5, "STREAMS", "stream:pending", ">"),
        ("XDEL", "stream:pending", "3-1", "7-1"),
    ]
    return commands

"""All that a server holds, read through commands into values that can be compared.

    before = contents(client)                     # {database: {key: Item}}
    assert not problems_of(before, contents(other))

Order is kept where Redis promises it (lists, sorted sets, streams); times to live may differ a little.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.resp import Reply, RespClient

DATABASES = 16
TOLERANCE_MS = 3000


@dataclass(frozen=True, slots=True)
class Item:
    """One key's type, value and time of expiry, in values that can be compared."""

    type: str
    value: Any
    expires_ms: int


Contents = dict[int, dict[bytes, Item]]


def contents(client: RespClient) -> Contents:
    """Return all that a server holds: {database: {key: Item}}, empty databases left out.

    The client must speak RESP2; database 0 is selected in the end.
    """
    found: Contents = {}
    for number in range(DATABASES):
        client.ok("SELECT", number)
        keys = client.ok("KEYS", "*")
        if keys:
            found[number] = _database(client, sorted(keys))
    client.ok("SELECT", 0)
    return found


def _database(client: RespClient, keys: list[bytes]) -> dict[bytes, Item]:
    items: dict[bytes, Item] = {}
    for start in range(0, len(keys), 100):
        part = keys[start : start + 100]
        types = client.pipeline([("TYPE", key) for key in part])
        times = client.pipeline([("PEXPIRETIME", key) for key in part])
        for key, kind, expires_ms in zip(part, types, times):
            if kind != "none":  # else it has expired since
                items[key] = Item(kind, _value(client, key, kind), expires_ms)
    return items


def _value(client: RespClient, key: bytes, kind: str) -> Any:
    match kind:
        case "string":
            return client.call("GET", key)
        case "list":
            return client.call("LRANGE", key, 0, -1)
        case "set":
            return frozenset(client.call("SMEMBERS", key))
        case "hash":
            flat = client.call("HGETALL", key)
            return dict(zip(flat[::2], flat[1::2]))
        case "zset":
            return client.call("ZRANGE", key, 0, -1, "WITHSCORES")
        case "stream":
            return _stream(client, key)
        case _:
            raise AssertionError(f"{key!r} is of an unknown type {kind}")


_STREAM_FACTS = (b"length", b"last-generated-id", b"max-deleted-entry-id", b"entries-added")


def _stream(client: RespClient, key: bytes) -> Any:
    flat = client.call("XINFO", "STREAM", key)
    facts = dict(zip(flat[::2], flat[1::2]))
    groups = {}
    for group in client.call("XINFO", "GROUPS", key):
        about = dict(zip(group[::2], group[1::2]))
        name = about[b"name"]
        consumers = client.call("XINFO", "CONSUMERS", key, name)
        about[b"consumers"] = sorted((one[1], one[3]) for one in consumers)
        # Without the idle time, which is the clock's.
        waiting = client.call("XPENDING", key, name, "-", "+", 10_000)
        groups[name] = (about, [(entry[0], entry[1], entry[3]) for entry in waiting])
    return [facts[name] for name in _STREAM_FACTS], client.call("XRANGE", key, "-", "+"), groups


def problems_of(reference: Contents, tested: Contents) -> list[str]:
    """Return what differs, a line each; nothing if the contents are the same."""
    problems: list[str] = []
    for number in sorted({*reference, *tested}):
        mine, theirs = reference.get(number, {}), tested.get(number, {})
        for key in sorted({*mine, *theirs}):
            expected, found = mine.get(key), theirs.get(key)
            if expected is None or found is None or _what(expected) != _what(found):
                problems.append(f"db {number}, {key!r}: expected {expected}, found {found}")
            elif not are_close(expected.expires_ms, found.expires_ms, TOLERANCE_MS):
                problems.append(
                    f"db {number}, {key!r}: PEXPIRETIME {expected.expires_ms}, found {found.expires_ms}"
                )
    return problems


def _what(item: Item) -> tuple[str, Any]:
    if item.type == "zset":  # scores as numbers: 7.0 writes 17 digits of them, 7.2 as few as there need be
        return item.type, (item.value[::2], list(map(float, item.value[1::2])))
    return item.type, item.value


def are_close(mine: Reply, theirs: Reply, tolerance: float) -> bool:
    """Tell whether numbers, or lists of them, lie at most `tolerance` apart; negative ones must be equal."""
    if isinstance(mine, list) and isinstance(theirs, list) and len(mine) == len(theirs):
        return all(are_close(a, b, tolerance) for a, b in zip(mine, theirs))
    if not (isinstance(mine, int | float) and isinstance(theirs, int | float)):
        return bool(mine == theirs)
    return mine == theirs or (mine >= 0 and theirs >= 0 and abs(mine - theirs) <= tolerance)


__all__ = ["Contents", "Item", "TOLERANCE_MS", "are_close", "contents", "problems_of"]

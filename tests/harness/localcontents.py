"""What a server without sockets holds, held against a model: for tests that use harness/local.py."""

from __future__ import annotations

from typing import Any

from harness.keymodel import KeyModel
from harness.local import LocalClient


def contents_of(local: LocalClient) -> dict[bytes, tuple[str, Any]]:
    """Return {key: (type, value)} of the database selected, as KeyModel.difference wants it."""
    items: dict[bytes, tuple[str, Any]] = {}
    for key in local("KEYS", "*"):
        kind = local("TYPE", key).decode()
        items[key] = kind, _value(local, key, kind)
    return items


def _value(local: LocalClient, key: bytes, kind: str) -> Any:
    match kind:
        case "string":
            return local("GET", key)
        case "list":
            return local("LRANGE", key, 0, -1)
        case "set":
            return frozenset(local("SMEMBERS", key))
        case "hash":
            flat = local("HGETALL", key)
            return dict(zip(flat[::2], flat[1::2]))
        case "zset":
            return local("ZRANGE", key, 0, -1, "WITHSCORES")
        case "stream":
            return _stream(local, key)
        case _:
            raise AssertionError(f"{key!r} is of an unknown type {kind}")


def difference(model: KeyModel, local: LocalClient) -> str:
    """Return what is different between a model and a server, expiries included; nothing if they agree."""
    found = model.difference(contents_of(local))
    if not found:
        for key in model.keys:
            expires_ms = local("PEXPIRETIME", key)
            if expires_ms != model.expiries.get(key, -1):
                return f"{key!r} expires at {expires_ms} instead of {model.expiries.get(key)}"
        if local("DBSIZE") != len(model.keys):
            return f"{local('DBSIZE')} keys instead of {len(model.keys)}"
    return found


def _stream(local: LocalClient, key: bytes) -> Any:
    """Return all of a stream but the times of its consumers."""
    names = [group[1] for group in local("XINFO", "GROUPS", key)]
    consumers = [[one[:4] for one in local("XINFO", "CONSUMERS", key, name)] for name in names]
    pending = [local("XPENDING", key, name, "-", "+", 10_000) for name in names]
    facts = local("XINFO", "STREAM", key)
    entries = local("XRANGE", key, "-", "+")
    return facts, entries, local("XINFO", "GROUPS", key), consumers, pending

"""A model of what some commands do to keys: what a server must hold after those that it has acknowledged.

    model = KeyModel()
    model.apply(("SADD", "s", "a", "b"))          # 2: the reply the server must give
    model.apply_unit([("MULTI",), ("INCR", "n"), ("EXEC",)])
    assert not model.difference(found)            # `found` as contents.py reads it

Arguments are bytes, str or int, as clients send them; replies are as harness.resp parses them. Keys expire at
times that the model is told (`now_ms`); it knows what the generators in load.py use, and no more.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

Arguments = Sequence[Any]
Value = bytes | list[bytes] | set[bytes] | dict[bytes, bytes] | dict[bytes, float]

WRONG_TYPE = "WRONGTYPE"

_TYPES: dict[str, type] = {"list": list, "set": set, "hash": dict, "zset": dict}


class WrongTypeError(Exception):
    """The command does not fit what the key holds."""


class KeyModel:
    """The keys of one database: {key: (type name, value)}."""

    def __init__(self) -> None:
        self.keys: dict[bytes, tuple[str, Any]] = {}
        self.expiries: dict[bytes, int] = {}
        self.now_ms = 0

    def copy(self) -> KeyModel:
        """Return a model of its own."""
        return copy.deepcopy(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyModel) and (self.keys, self.expiries) == (other.keys, other.expiries)

    __hash__ = None  # type: ignore[assignment]

    # -- running ---------------------------------------------------------------------------------------

    def apply(self, arguments: Arguments) -> Any:
        """Do what a command does; returns its reply, the error's code if it fails."""
        words = [as_bytes(argument) for argument in arguments]
        name = words[0].upper().decode()
        method: Callable[[list[bytes]], Any] = getattr(self, "_" + name.lower())
        try:
            return method(words[1:])
        except WrongTypeError:
            return WRONG_TYPE

    def apply_unit(self, commands: Sequence[Arguments]) -> Any:
        """Do what one command, or one transaction from MULTI to EXEC, does; returns the last reply."""
        if len(commands) == 1:
            return self.apply(commands[0])
        return [self.apply(command) for command in commands[1:-1]]

    def expire(self, now_ms: int) -> None:
        """Let time be `now_ms`: what has expired goes."""
        self.now_ms = now_ms
        for key, expires_ms in list(self.expiries.items()):
            if expires_ms <= now_ms:
                self._remove(key)

    # -- keys ------------------------------------------------------------------------------------------

    def _get_typed(self, key: bytes, kind: str) -> Any:
        held = self.keys.get(key)
        if held is None:
            return None
        if held[0] != kind:
            raise WrongTypeError
        return held[1]

    def _created(self, key: bytes, kind: str) -> Any:
        value = self._get_typed(key, kind)
        if value is None:
            value = _TYPES[kind]()
            self.keys[key] = (kind, value)
        return value

    def _remove(self, key: bytes) -> bool:
        self.expiries.pop(key, None)
        return self.keys.pop(key, None) is not None

    def _drop_if_empty(self, key: bytes) -> None:
        if key in self.keys and not self.keys[key][1]:
            self._remove(key)

    def _del(self, keys: list[bytes]) -> int:
        return sum(self._remove(key) for key in keys)

    def _pexpireat(self, words: list[bytes]) -> int:
        key, expires_ms = words[0], int(words[1])
        if key not in self.keys:
            return 0
        if expires_ms <= self.now_ms:
            self._remove(key)
        else:
            self.expiries[key] = expires_ms
        return 1

    def _persist(self, words: list[bytes]) -> int:
        return int(self.expiries.pop(words[0], None) is not None)

    def _rename(self, words: list[bytes]) -> str:
        source, target = words
        if source not in self.keys:
            return "ERR"
        held, expires_ms = self.keys[source], self.expiries.get(source)
        self._remove(source)
        self._remove(target)
        self.keys[target] = held
        if expires_ms is not None:
            self.expiries[target] = expires_ms
        return "OK"

    # -- strings ---------------------------------------------------------------------------------------

    def _get(self, words: list[bytes]) -> bytes | None:
        value: bytes | None = self._get_typed(words[0], "string")
        return value

    def _set(self, words: list[bytes]) -> str:
        self._remove(words[0])
        self.keys[words[0]] = ("string", words[1])
        return "OK"

    def _append(self, words: list[bytes]) -> int:
        value = (self._get_typed(words[0], "string") or b"") + words[1]
        self.keys[words[0]] = ("string", value)
        return len(value)

    def _incrby(self, words: list[bytes]) -> int:
        value = int(self._get_typed(words[0], "string") or 0) + int(words[1])
        self.keys[words[0]] = ("string", b"%d" % value)
        return value

    def _incr(self, words: list[bytes]) -> int:
        return self._incrby([words[0], b"1"])

    def _decrby(self, words: list[bytes]) -> int:
        return self._incrby([words[0], b"%d" % -int(words[1])])

    # -- lists -----------------------------------------------------------------------------------------

    def _rpush(self, words: list[bytes]) -> int:
        held: list[bytes] = self._created(words[0], "list")
        held += words[1:]
        return len(held)

    def _lpush(self, words: list[bytes]) -> int:
        held: list[bytes] = self._created(words[0], "list")
        held[:0] = reversed(words[1:])
        return len(held)

    def _pop(self, key: bytes, at: int) -> bytes | None:
        held: list[bytes] | None = self._get_typed(key, "list")
        if held is None:
            return None
        element = held.pop(at)
        self._drop_if_empty(key)
        return element

    def _lpop(self, words: list[bytes]) -> bytes | None:
        return self._pop(words[0], 0)

    def _rpop(self, words: list[bytes]) -> bytes | None:
        return self._pop(words[0], -1)

    def _lmove(self, words: list[bytes]) -> bytes | None:
        """LMOVE source target LEFT|RIGHT LEFT|RIGHT."""
        source, target, whence, whither = words
        if self._get_typed(source, "list") is None:
            return None
        self._get_typed(target, "list")
        element = self._pop(source, 0 if whence == b"LEFT" else -1)
        assert element is not None
        (self._lpush if whither == b"LEFT" else self._rpush)([target, element])
        return element

    def _lset(self, words: list[bytes]) -> str:
        held: list[bytes] | None = self._get_typed(words[0], "list")
        if held is None or not -len(held) <= int(words[1]) < len(held):
            return "ERR"
        held[int(words[1])] = words[2]
        return "OK"

    # -- sets, hashes, sorted sets ---------------------------------------------------------------------

    def _sadd(self, words: list[bytes]) -> int:
        held: set[bytes] = self._created(words[0], "set")
        before = len(held)
        held.update(words[1:])
        return len(held) - before

    def _srem(self, words: list[bytes]) -> int:
        return self._discard(words, "set")

    def _hset(self, words: list[bytes]) -> int:
        held: dict[bytes, bytes] = self._created(words[0], "hash")
        before = len(held)
        held.update(zip(words[1::2], words[2::2], strict=True))
        return len(held) - before

    def _hdel(self, words: list[bytes]) -> int:
        return self._discard(words, "hash")

    def _zadd(self, words: list[bytes]) -> int:
        held: dict[bytes, float] = self._created(words[0], "zset")
        before = len(held)
        held.update(zip(words[2::2], map(float, words[1::2]), strict=True))
        return len(held) - before

    def _zrem(self, words: list[bytes]) -> int:
        return self._discard(words, "zset")

    def _discard(self, words: list[bytes], kind: str) -> int:
        held: Any = self._get_typed(words[0], kind)
        if held is None:
            return 0
        found = [word for word in dict.fromkeys(words[1:]) if word in held]
        for word in found:
            if kind == "set":
                held.discard(word)
            else:
                del held[word]
        self._drop_if_empty(words[0])
        return len(found)

    # -- comparing -------------------------------------------------------------------------------------

    def difference(self, found: dict[bytes, tuple[str, Any]]) -> str:
        """Return what is different in `found` (as `seen` makes it), nothing if it is the same."""
        for key in sorted({*self.keys, *found}):
            mine, theirs = self.keys.get(key), found.get(key)
            expected = None if mine is None else seen(*mine)
            if theirs != expected:
                return f"{key!r}: {expected} is expected, {theirs} is there"
        return ""


def seen(kind: str, value: Any) -> tuple[str, Any]:
    """Return a model's value as contents.py shows it."""
    if kind == "set":
        return kind, frozenset(value)
    if kind == "zset":
        ordered = sorted(value.items(), key=lambda item: (item[1], item[0]))
        return kind, [word for member, score in ordered for word in (member, b"%d" % score)]
    return kind, value


def as_bytes(argument: Any) -> bytes:
    """Return an argument as it is sent."""
    return argument if isinstance(argument, bytes) else str(argument).encode()

"""Replies: what commands return, and how it goes over the wire in RESP2 and RESP3.

Most replies are plain values; the classes here say what those cannot:

    value                       RESP2                            RESP3
    bytes                       $ bulk string                    the same
    int                         : integer                        the same
    None                        $-1 null bulk                    _ null
    list, tuple                 * array                          the same
    dict                        * flat array of pairs            % map
    set, frozenset              * array                          ~ set
    float                       $ bulk string                    , double
    bool                        : 1 or 0                         # boolean
    CommandError                - error                          the same
    Simple(b"OK")               + simple string                  the same
    NULL_ARRAY                  *-1 null array                   _ null
    Verbatim(b"txt", text)      $ bulk string                    = verbatim string
    BigNumber(n)                $ bulk string                    ( big number
    Decimal(digits)             $ bulk string                    , double
    Scored([(member, score)])   * flat array                     * array of [member, double] pairs
    Pairs([(a, b), ...])        * flat array                     % map (keeps order and repetitions)
    Distinct([...])             * array                          ~ set (keeps order)
    Keyed([(a, b), ...])        * array of [a, b] pairs          % map (keeps order)
    StreamEntries(ids, values)  * array of [id, * items] pairs   the same
    Push([...])                 * array                          > push
    Encoded(wire)               as it is                         as it is
    SUSPENDED, NO_REPLY         nothing                          nothing

Handlers return these; only the connection turns them into bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, Final

from lamina.server.errors import CommandError
from lamina.server.numbers import format_score


class Simple:
    """A simple string, encoded once: these are constants."""

    __slots__ = ("text", "wire")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.wire = b"+%b\r\n" % text

    def __repr__(self) -> str:
        return f"Simple({self.text!r})"


class Verbatim:
    """Text for people, with its three-letter format."""

    __slots__ = ("format", "text")

    def __init__(self, format: bytes, text: bytes) -> None:  # noqa: A002  # the protocol's own word
        self.format = format
        self.text = text


class BigNumber:
    """An integer of any size."""

    __slots__ = ("digits",)

    def __init__(self, digits: bytes) -> None:
        self.digits = digits


class Decimal:
    """A double whose digits are not those that a float has by itself."""

    __slots__ = ("digits",)

    def __init__(self, digits: bytes) -> None:
        self.digits = digits


class Scored:
    """Members with their scores: flat in RESP2, nested in RESP3."""

    __slots__ = ("items",)

    def __init__(self, items: list[tuple[bytes, float]]) -> None:
        self.items = items


class Pairs:
    """A map whose order or repetitions matter."""

    __slots__ = ("items",)

    def __init__(self, items: Iterable[tuple[Any, Any]]) -> None:
        self.items = list(items)


class Distinct:
    """A set whose order stays."""

    __slots__ = ("items",)

    def __init__(self, items: Iterable[Any]) -> None:
        self.items = list(items)

    @classmethod
    def words(cls, words: Iterable[str]) -> Distinct:
        """Return a set of simple strings."""
        return cls([Simple(word.encode()) for word in words])


class Keyed:
    """A map that is an array of pairs in RESP2."""

    __slots__ = ("items",)

    def __init__(self, items: list[tuple[Any, Any]]) -> None:
        self.items = items


class StreamEntries:
    """Entries of a stream, side by side: packed ids, and what is stored, which is an array as it goes over
    the wire; None for an entry that is gone. They are never taken apart on their way (0.5 µs for each)."""

    __slots__ = ("ids", "values")

    def __init__(self, ids: list[bytes], values: list[bytes] | list[bytes | None]) -> None:
        self.ids = ids
        self.values = values


class Push:
    """A message out of band. In RESP2 it is an array like any other."""

    __slots__ = ("items",)

    def __init__(self, items: list[Any]) -> None:
        self.items = items


class Encoded:
    """Bytes that are a reply already: what SUBSCRIBE has pushed inside a transaction."""

    __slots__ = ("wire",)

    def __init__(self, wire: bytes) -> None:
        self.wire = wire


class _Token:
    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


OK: Final = Simple(b"OK")
QUEUED: Final = Simple(b"QUEUED")
PONG: Final = Simple(b"PONG")
NULL_ARRAY: Final = _Token("NULL_ARRAY")
NO_REPLY: Final = _Token("NO_REPLY")
"""The command has sent what it had to send, or has nothing to say."""
SUSPENDED: Final = _Token("SUSPENDED")
"""The client waits; its reply comes when what it waits for does."""

_HEADS_MAX = 2048
_HEADS = [b"$%d" % size for size in range(_HEADS_MAX)]
_INTEGERS_MAX = 2048
_INTEGERS = [b":%d\r\n" % n for n in range(_INTEGERS_MAX)]
_MANY = 8
_STREAM_ID = struct.Struct(">QQ")


def encode(reply: Any, resp: int) -> bytes:
    """Return a reply as it goes over the wire. `resp` is 2 or 3."""
    kind = reply.__class__
    if kind is bytes:
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    if kind is int:
        return _INTEGERS[reply] if 0 <= reply < _INTEGERS_MAX else b":%d\r\n" % reply
    return _ENCODERS[kind](reply, resp)


def _encode_array(items: list[Any] | tuple[Any, ...], resp: int) -> bytes:
    head = b"*%d\r\n" % len(items)
    if len(items) >= _MANY and set(map(type, items)) == {bytes}:
        return head + _encode_bulks(items)
    return head + b"".join([encode(item, resp) for item in items])


def _encode_bulks(items: Iterable[bytes]) -> bytes:
    """Return many bulk strings side by side, by loops of C: 40-80 ns for each instead of 200."""
    items = items if isinstance(items, list) else list(items)
    sizes = list(map(len, items))
    smallest, largest = min(sizes), max(sizes)
    if smallest == largest:
        between = b"\r\n$%d\r\n" % smallest
        return b"%b%b\r\n" % (between[2:], between.join(items))
    if largest < _HEADS_MAX:
        heads = map(_HEADS.__getitem__, sizes)
        return b"\r\n".join(chain.from_iterable(zip(heads, items))) + b"\r\n"
    return b"".join([b"$%d\r\n%b\r\n" % (len(item), item) for item in items])


def _encode_dict(items: dict[Any, Any], resp: int) -> bytes:
    if resp == 2:
        return _encode_array(list(chain.from_iterable(items.items())), resp)
    flat = chain.from_iterable(items.items())
    return b"%%%d\r\n" % len(items) + b"".join([encode(item, resp) for item in flat])


def _encode_pairs(pairs: Pairs, resp: int) -> bytes:
    head = b"*%d\r\n" % (2 * len(pairs.items)) if resp == 2 else b"%%%d\r\n" % len(pairs.items)
    return head + b"".join([encode(item, resp) for item in chain.from_iterable(pairs.items)])


def _encode_set(items: set[Any] | frozenset[Any], resp: int) -> bytes:
    if resp == 2:
        return _encode_array(list(items), resp)
    return b"~%d\r\n" % len(items) + b"".join([encode(item, resp) for item in items])


def _encode_float(value: float, resp: int) -> bytes:
    text = format_score(value)
    return b"$%d\r\n%b\r\n" % (len(text), text) if resp == 2 else b",%b\r\n" % text


def _encode_scored(scored: Scored, resp: int) -> bytes:
    items = scored.items
    if resp == 2:
        return _encode_array([part for member, score in items for part in (member, format_score(score))], 2)
    parts = [
        b"*2\r\n$%d\r\n%b\r\n,%b\r\n" % (len(member), member, format_score(score)) for member, score in items
    ]
    return b"*%d\r\n" % len(items) + b"".join(parts)


def _encode_distinct(distinct: Distinct, resp: int) -> bytes:
    head = b"*%d\r\n" if resp == 2 else b"~%d\r\n"
    return head % len(distinct.items) + b"".join([encode(item, resp) for item in distinct.items])


def _encode_keyed(keyed: Keyed, resp: int) -> bytes:
    items = keyed.items
    parts = [b"*%d\r\n" % len(items) if resp == 2 else b"%%%d\r\n" % len(items)]
    for key, value in items:
        if resp == 2:
            parts.append(b"*2\r\n")
        parts += (encode(key, resp), encode(value, resp))
    return b"".join(parts)


def _encode_stream(entries: StreamEntries, resp: int) -> bytes:
    # Flat: of XRANGE's time this is nearly all.
    unpack = _STREAM_ID.unpack
    parts = [b"*%d\r\n" % len(entries.ids)]
    add = parts.append
    for packed, value in zip(entries.ids, entries.values):
        text = b"%d-%d" % unpack(packed)
        if value is None:
            value = b"*-1\r\n" if resp == 2 else b"_\r\n"
        add(b"*2\r\n$%d\r\n%b\r\n%b" % (len(text), text, value))
    return b"".join(parts)


def _encode_push(push: Push, resp: int) -> bytes:
    head = b"*%d\r\n" if resp == 2 else b">%d\r\n"
    return head % len(push.items) + b"".join([encode(item, resp) for item in push.items])


def _encode_verbatim(reply: Verbatim, resp: int) -> bytes:
    text = reply.text
    if resp == 2:
        return b"$%d\r\n%b\r\n" % (len(text), text)
    return b"=%d\r\n%b:%b\r\n" % (len(text) + 4, reply.format, text)


def _encode_big_number(reply: BigNumber, resp: int) -> bytes:
    digits = reply.digits
    return b"$%d\r\n%b\r\n" % (len(digits), digits) if resp == 2 else b"(%b\r\n" % digits


def _encode_decimal(reply: Decimal, resp: int) -> bytes:
    digits = reply.digits
    return b"$%d\r\n%b\r\n" % (len(digits), digits) if resp == 2 else b",%b\r\n" % digits


def _encode_bool(value: bool, resp: int) -> bytes:
    if resp == 2:
        return b":1\r\n" if value else b":0\r\n"
    return b"#t\r\n" if value else b"#f\r\n"


def _encode_token(token: _Token, resp: int) -> bytes:
    if token is NULL_ARRAY:
        return b"*-1\r\n" if resp == 2 else b"_\r\n"
    return b""


_ENCODERS: dict[type, Callable[[Any, int], bytes]] = {
    bytes: lambda reply, _: b"$%d\r\n%b\r\n" % (len(reply), reply),
    int: lambda reply, _: b":%d\r\n" % reply,
    type(None): lambda _, resp: b"$-1\r\n" if resp == 2 else b"_\r\n",
    Simple: lambda reply, _: reply.wire,
    list: _encode_array,
    tuple: _encode_array,
    dict: _encode_dict,
    set: _encode_set,
    frozenset: _encode_set,
    float: _encode_float,
    bool: _encode_bool,
    CommandError: lambda reply, _: reply.reply,
    Verbatim: _encode_verbatim,
    BigNumber: _encode_big_number,
    Decimal: _encode_decimal,
    Scored: _encode_scored,
    Pairs: _encode_pairs,
    Push: _encode_push,
    Distinct: _encode_distinct,
    Keyed: _encode_keyed,
    StreamEntries: _encode_stream,
    Encoded: lambda reply, _: reply.wire,
    _Token: _encode_token,
}

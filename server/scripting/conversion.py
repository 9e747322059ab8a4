"""Replies of commands as values for Lua.

    reply                     in a script of RESP2          in a script of RESP3 (redis.setresp(3))
    bytes                     string                        string
    int                       number                        number
    None                      false                         nil
    bool                      number                        boolean
    float                     string                        {double = number}
    list, tuple               table                         table
    dict, Pairs               table, flat                   {map = table}
    set, Distinct             table                         {set = {member = true, ...}}
    Simple                    {ok = text}                   {ok = text}
    CommandError              {err = text}                  {err = text}
    Verbatim                  string                        {verbatim_string = {format =, string =}}
    BigNumber                 string                        {big_number = digits}
    Decimal                   string                        {double = number}
    Keyed                     table of pairs                {map = table}
    StreamEntries             table of pairs                the same

`for_lua` returns what lupa can hand over: bytes, numbers, booleans, tables; or a tuple `(None, kind, ...)`,
for which redis.lua knows what to do. Nothing else: whatever else lupa were given would be an object of
Python's in a script's hands.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

import hiredis

from lamina.server.errors import CommandError
from lamina.server.numbers import format_score
from lamina.server.replies import (
    NULL_ARRAY,
    BigNumber,
    Decimal,
    Distinct,
    Keyed,
    Pairs,
    Push,
    Scored,
    Simple,
    StreamEntries,
    Verbatim,
)

if TYPE_CHECKING:
    from lamina.server.scripting.runtime import Runtime

STATUS: Final = 1
ARRAY: Final = 2
NIL: Final = 3
FAILED: Final = 4
REFUSED: Final = 5
OUT_OF_MEMORY: Final = 6

_NIL: Final = (None, NIL)
_OUT_OF_MEMORY: Final = (None, OUT_OF_MEMORY)

_SPREAD_MAX: Final = 64
"""Elements of an array that are returned side by side: building the table in Lua is twice as fast then."""

_ELEMENT_BYTES: Final = 48
"""Memory of an element of a table in Lua, beside its bytes."""

_TABLE_BYTES: Final = 120

_SMALL_BYTES: Final = 4096


def for_lua(runtime: Runtime, reply: Any, resp: int) -> Any:
    """Return a reply as redis.lua's `finish` takes it."""
    kind = reply.__class__
    if kind is bytes:
        if len(reply) > _SMALL_BYTES and not runtime.has_room(len(reply)):
            return _OUT_OF_MEMORY
        return reply
    if kind is int:
        return reply
    if reply is None:
        return False if resp == 2 else _NIL
    if kind is Simple:
        return (None, STATUS, reply.text)
    if kind is CommandError:
        return (None, FAILED, reply.message)
    if kind is list and set(map(type, reply)) == _ALL_BYTES:
        size = len(reply)
        if not runtime.has_room(sum(map(len, reply)) + _ELEMENT_BYTES * size + _SMALL_BYTES):
            return _OUT_OF_MEMORY
        return (None, ARRAY, *reply) if size <= _SPREAD_MAX else runtime.flat_table(reply)
    value = convert(reply, resp)
    if not runtime.has_room(weight(value)):
        return _OUT_OF_MEMORY
    if value is None:
        return _NIL
    if value.__class__ not in _CONTAINERS:
        return value
    return runtime.table(value) if resp == 2 else runtime.table_with_rows(value)


_STREAM_ID: Final = struct.Struct(">QQ")
_CONTAINERS: Final = (list, dict)
_ALL_BYTES: Final = {bytes}


def weight(value: Any) -> int:
    """Return about how many bytes a converted value takes in Lua."""
    kind = value.__class__
    if kind is bytes:
        return len(value) + _ELEMENT_BYTES
    if kind is list:
        if value and set(map(type, value)) == {bytes}:
            return _TABLE_BYTES + sum(map(len, value)) + _ELEMENT_BYTES * len(value)
        return _TABLE_BYTES + _ELEMENT_BYTES * len(value) + sum(map(weight, value))
    if kind is dict:
        return _TABLE_BYTES + sum(map(weight, value)) + sum(map(weight, value.values()))
    if kind is Rows:
        return _TABLE_BYTES + sum(weight(key) + weight(item) for key, item in value)
    return _ELEMENT_BYTES


def convert(reply: Any, resp: int) -> Any:
    """Return a reply as bytes, numbers, booleans, None, and lists, dicts and Rows of such.

    Errors: KeyError for what no command of a script replies.
    """
    kind = reply.__class__
    if kind is bytes or kind is int:
        return reply
    return (_CONVERTERS_2 if resp == 2 else _CONVERTERS_3)[kind](reply)


def _all_2(items: Iterable[Any]) -> list[Any]:
    return [convert(item, 2) for item in items]


def _all_3(items: Iterable[Any]) -> list[Any]:
    # A hole would end the array; Redis's has the nil in it, which is the same to a script.
    return [convert(item, 3) for item in items]


def _flat(pairs: Iterable[tuple[Any, Any]]) -> list[Any]:
    return [convert(item, 2) for pair in pairs for item in pair]


class Rows(list[tuple[Any, Any]]):
    """A map or set among whose keys are tables, such as simple strings: pairs of keys and values."""


def _keyed(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any] | Rows:
    rows = [(b"" if key is None else key, value) for key, value in pairs]
    if any(key.__class__ in _CONTAINERS for key, _ in rows):
        return Rows(rows)
    return dict(rows)


def _map(pairs: Iterable[tuple[Any, Any]]) -> dict[bytes, Any]:
    return {b"map": _keyed((convert(name, 3), convert(value, 3)) for name, value in pairs)}


def _set(items: Iterable[Any]) -> dict[bytes, Any]:
    return {b"set": _keyed((convert(item, 3), True) for item in items)}


def _entries(entries: StreamEntries, missing: Any) -> list[Any]:
    """Return entries of a stream; their items are stored as they go over the wire."""
    reader = hiredis.Reader(encoding=None)
    converted = []
    for packed, wire in zip(entries.ids, entries.values):
        items = missing
        if wire is not None:
            reader.feed(wire)
            items = reader.gets()
        converted.append([b"%d-%d" % _STREAM_ID.unpack(packed), items])
    return converted


_CONVERTERS_2: Final[dict[type, Callable[[Any], Any]]] = {
    type(None): lambda _: False,
    type(NULL_ARRAY): lambda _: False,
    bool: int,
    float: format_score,
    list: _all_2,
    tuple: _all_2,
    set: _all_2,
    frozenset: _all_2,
    dict: lambda reply: _flat(reply.items()),
    Pairs: lambda reply: _flat(reply.items),
    Distinct: lambda reply: _all_2(reply.items),
    Push: lambda reply: _all_2(reply.items),
    Scored: lambda reply: [part for member, score in reply.items for part in (member, format_score(score))],
    Simple: lambda reply: {b"ok": reply.text},
    CommandError: lambda reply: {b"err": reply.message},
    Verbatim: lambda reply: reply.text,
    BigNumber: lambda reply: reply.digits,
    Decimal: lambda reply: reply.digits,
    Keyed: lambda reply: [[convert(name, 2), convert(value, 2)] for name, value in reply.items],
    StreamEntries: lambda reply: _entries(reply, False),
}

_CONVERTERS_3: Final[dict[type, Callable[[Any], Any]]] = {
    type(None): lambda _: None,
    type(NULL_ARRAY): lambda _: None,
    bool: lambda reply: reply,
    float: lambda reply: {b"double": reply},
    list: _all_3,
    tuple: _all_3,
    set: _set,
    frozenset: _set,
    dict: lambda reply: _map(reply.items()),
    Pairs: lambda reply: _map(reply.items),
    Distinct: lambda reply: _set(reply.items),
    Push: lambda reply: _all_3(reply.items),
    Scored: lambda reply: [[member, {b"double": score}] for member, score in reply.items],
    Simple: lambda reply: {b"ok": reply.text},
    CommandError: lambda reply: {b"err": reply.message},
    Verbatim: lambda reply: {b"verbatim_string": {b"format": reply.format, b"string": reply.text}},
    BigNumber: lambda reply: {b"big_number": reply.digits},
    Decimal: lambda reply: {b"double": float(reply.digits)},
    Keyed: lambda reply: _map(reply.items),
    StreamEntries: lambda reply: _entries(reply, None),
}

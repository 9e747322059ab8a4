r"""Keys as lines of JSON: for people, scripts and other programs, without loss.

    {"lamina":"keys","version":1}
    {"db":0,"key":"greeting","type":"string","value":"hello"}
    {"db":0,"key":"token","type":"string","value":{"base64":"/wA="},"expires_ms":1735689600000}
    {"db":0,"key":"queue","type":"list","value":["a","b"],"more":true}
    {"db":0,"key":"queue","type":"list","value":["c"]}
    {"db":3,"key":"board","type":"zset","value":[["ann",1.5],["bob","inf"]]}
    {"db":3,"key":"user","type":"hash","timed":true,"value":[["name","ann"],["pin","1",1735689600000]]}
    {"db":3,"key":"log","type":"stream","value":[["1-1",["f","v"]]],...}     jsonstreams.py draws more
    {"library":"lib","code":"#!lua name=lib\n..."}                            a library of functions
    {"end":true,"keys":6,"crc32c":"89abcdef"}

Bytes that are UTF-8 are a JSON string, others an object with their base64. Sets are as lists. A score is a
number, or "inf" or "-inf"; the third piece of a hash's item is when the field expires, and such a hash is
`timed`. Times are Unix time in milliseconds. A collection with many elements takes several lines: `more` says
that the next one goes on.

The last line says how many keys there are, and has the CRC-32C of all lines before. A file that begins with
the first line must end with the last one. Lines that people write need neither, nor `db`: it is 0.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
from collections.abc import Callable, Iterator
from math import inf, isinf, isnan
from typing import Any, ClassVar, Final

from lamina.engine.checksum import crc32c
from lamina.server.encoding import ARGUMENT_SIZE_MAX
from lamina.server.rdb.values import (
    Function,
    HashValue,
    Key,
    ListValue,
    SetValue,
    StreamValue,
    TimedHashValue,
    Value,
    ZsetValue,
)
from lamina.tools.functionlibraries import library_name
from lamina.tools.jsonstreams import StreamParser, entry_item, group_lines, state_facts
from lamina.tools.keyfilter import DATABASE_MAX, type_name

_VERSION: Final = 1
_FIRST: Final = {"lamina": "keys", "version": _VERSION}
_LINE_ELEMENTS: Final = 1000
_LINE_BYTES: Final = 1 << 20
_LINE_SIZE_MAX: Final = 1 << 32
_BLOCK_BYTES: Final = 256 * 1024
_EXPIRES_MS_MAX: Final = (1 << 63) - 1
_INFINITIES: Final = {"inf": inf, "-inf": -inf}

Text = str | dict[str, str]
Parse = Callable[[Any, Any], Any]
"""A method of the reader that takes an item of a value apart."""


class JsonLinesError(Exception):
    """The file is not what is drawn above, or it has been damaged."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(f"line {line}: {what}")


# -- writing -----------------------------------------------------------------------------------------


class JsonLinesWriter:
    """Writes keys with `write`, which takes bytes."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._checksum = 0
        self._keys = 0
        self._pieces: list[bytes] = []
        self._buffered_bytes = 0
        self._encode = json.JSONEncoder(separators=(",", ":")).encode
        self._add(_FIRST)

    def write_key(self, database: int, key: bytes, value: Value, expires_ms: int = 0) -> None:
        """Write a key. Cost: 4 µs for a short string."""
        facts: dict[str, Any] = {"db": database, "key": _text(key), "type": type_name(value)}
        if expires_ms:
            facts["expires_ms"] = expires_ms
        if isinstance(value, TimedHashValue):
            facts["timed"] = True
        self._keys += 1
        if isinstance(value, bytes):
            self._add(facts | {"value": _text(value)})
            return
        last: list[Any] | None = None
        for items in _lines(value):
            if last is not None:
                self._add(facts | {"value": last, "more": True})
            last = items
        if isinstance(value, StreamValue):
            self._end_stream(facts, last or [], value)
        else:
            self._add(facts | {"value": last or []})

    def _end_stream(self, facts: dict[str, Any], items: list[Any], value: StreamValue) -> None:
        """Write the last entries of a stream, what it knows of itself, and its groups."""
        last = facts | {"value": items} | state_facts(value.state)
        for number, groups in enumerate(group_lines(value.groups, _text)):
            if number:
                self._add(last | {"more": True})
                last = dict(facts)
            last["groups"] = groups
        self._add(last)

    def write_library(self, source: bytes) -> None:
        """Write a library of functions. Its name, which is in its code as well, is for people."""
        self._add({"library": _text(library_name(source)), "code": _text(source)})

    def finish(self) -> None:
        """Write the end, and all that is buffered."""
        self._flush()
        self._add({"end": True, "keys": self._keys, "crc32c": f"{self._checksum:08x}"})
        self._flush()

    def _add(self, facts: dict[str, Any]) -> None:
        line = self._encode(facts).encode() + b"\n"
        self._pieces.append(line)
        self._buffered_bytes += len(line)
        if self._buffered_bytes >= _BLOCK_BYTES:
            self._flush()

    def _flush(self) -> None:
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._buffered_bytes = 0
        self._checksum = crc32c(self._checksum, data)
        self._write(data)


def _text(data: bytes) -> Text:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _score(score: float) -> float | str:
    return score if not isinf(score) else "inf" if score > 0 else "-inf"


def _lines(value: Value) -> Iterator[list[Any]]:
    """Yield the elements of a collection, as many at a time as a line takes."""
    line: list[Any] = []
    size_bytes = 0
    for item in _items(value):
        line.append(item)
        size_bytes += _size_of(item)
        if len(line) >= _LINE_ELEMENTS or size_bytes >= _LINE_BYTES:
            yield line
            line, size_bytes = [], 0
    if line:
        yield line


def _size_of(item: Any) -> int:
    if isinstance(item, list):
        return sum(map(_size_of, item))
    if isinstance(item, dict):
        return len(item["base64"])
    return len(item) if isinstance(item, str) else 0


def _items(value: Value) -> Iterator[Any]:
    if isinstance(value, ListValue | SetValue):
        for texts in value.chunks:
            yield from map(_text, texts)
    elif isinstance(value, ZsetValue):
        for scored in value.chunks:
            yield from ([_text(member), _score(score)] for member, score in scored)
    elif isinstance(value, HashValue):
        for pairs in value.chunks:
            yield from ([_text(field), _text(content)] for field, content in pairs)
    elif isinstance(value, TimedHashValue):
        for rows in value.chunks:
            for field, content, time_ms in rows:
                item: list[Any] = [_text(field), _text(content)]
                yield [*item, time_ms] if time_ms else item
    elif isinstance(value, StreamValue):
        for entries in value.chunks:
            yield from (entry_item(entry, _text) for entry in entries)


# -- reading -----------------------------------------------------------------------------------------


class JsonLinesReader:
    """The keys of a file, to be gone through once, each value before the next key is asked for."""

    def __init__(self, read_line: Callable[[int], bytes]) -> None:
        self._read_line = read_line
        self._line = 0
        self._keys = 0
        self._checksum = 0
        self._must_end = False
        self._has_ended = False
        self._more: dict[str, Any] | None = None
        """The line that said that there is more, until all has been read."""
        self.position = 0
        """Bytes read."""

    def __iter__(self) -> Iterator[Key | Function]:
        """Yield the keys and the libraries of functions. Errors: JsonLinesError; OSError."""
        while (facts := self._next()) is not None:
            if "library" in facts:
                yield Function(self._bytes(facts.get("code"), "code"))
                continue
            yield self._key(facts)
            while self._more is not None:  # nobody has asked for these elements
                self._go_on()
        if self._must_end and not self._has_ended:
            raise self._error("the file ends too early")

    def _error(self, what: str) -> JsonLinesError:
        return JsonLinesError(self._line, what)

    def _next(self) -> dict[str, Any] | None:
        """Return the next line about a key; None at the end."""
        while line := self._read_line(_LINE_SIZE_MAX):
            self._line += 1
            self.position += len(line)
            checksum = self._checksum
            self._checksum = crc32c(checksum, line)
            if not line.strip():
                continue
            if self._has_ended:
                raise self._error("there is more behind the end")
            try:
                facts = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise self._error(f"no JSON: {error}") from None
            if not isinstance(facts, dict):
                raise self._error("no JSON object")
            if "lamina" in facts and self._line == 1:
                if facts != _FIRST:
                    raise self._error(f"version {facts.get('version')}; version {_VERSION} is read")
                self._must_end = True
            elif "end" in facts:
                self._check_end(facts, checksum)
            else:
                return facts
        return None

    def _check_end(self, facts: dict[str, Any], checksum: int) -> None:
        if facts.get("keys") != self._keys:
            raise self._error(f"{self._keys} keys have come of {facts.get('keys')}")
        if facts.get("crc32c") != f"{checksum:08x}":
            raise self._error(f"checksum {checksum:08x} instead of {facts.get('crc32c')}")
        self._has_ended = True

    def _key(self, facts: dict[str, Any]) -> Key:
        database = facts.get("db", 0)
        if not _is_int(database) or not 0 <= database <= DATABASE_MAX:
            raise self._error(f"db {database!r} is no database")
        key = self._bytes(facts.get("key"), "key")
        self._keys += 1
        kind = facts.get("type")
        if kind == "string":
            value: Value = self._bytes(facts.get("value"), "value")
            return Key(database, key, value, self._expires_ms(facts))
        if kind == "stream":
            self._note(facts)
            stream = StreamParser(self._error, self._bytes, self._lines(facts)).value()
            return Key(database, key, stream, self._expires_ms(facts))
        make = _MAKERS.get(kind) if isinstance(kind, str) else None
        if make is None:
            raise self._error(f"the type {kind!r} is not one of string, {', '.join(_MAKERS)}, stream")
        parse = self._PARSERS[make]
        first = self._values(facts, parse)
        if make is HashValue and (facts.get("timed") is True or any(len(row) > 2 for row in first)):
            make, parse = TimedHashValue, self._PARSERS[TimedHashValue]
            first = self._values(facts, parse)
        self._note(facts)
        return Key(database, key, make(self._rows(first, parse)), self._expires_ms(facts))

    def _rows(self, first: list[Any], parse: Parse) -> Iterator[list[Any]]:
        yield first
        while self._more is not None:
            yield self._values(self._go_on(), parse)

    def _lines(self, first: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield all lines of the key that begins with `first`."""
        yield first
        while self._more is not None:
            yield self._go_on()

    def _note(self, facts: dict[str, Any]) -> None:
        self._more = facts if facts.get("more") is True else None

    def _go_on(self) -> dict[str, Any]:
        """Return the next line of a key that has more."""
        begun = self._more
        assert begun is not None
        facts = self._next()
        if facts is None:
            self._more = None
            raise self._error("the file ends where more of a key was to come")
        if any(facts.get(name) != begun.get(name) for name in ("db", "key", "type", "expires_ms")):
            raise self._error("more of the key before was to come")
        self._note(facts)
        return facts

    # -- pieces ------------------------------------------------------------------------------------

    def _values(self, facts: dict[str, Any], parse: Parse) -> list[Any]:
        values = facts.get("value")
        if not isinstance(values, list):
            raise self._error(f"the value of a {facts['type']} is a list")
        return [parse(self, item) for item in values]

    def _bytes(self, item: object, what: str) -> bytes:
        data = None
        if isinstance(item, str):
            try:
                data = item.encode()
            except UnicodeEncodeError:
                raise self._error(f"a lone surrogate in a {what}") from None
        elif isinstance(item, dict) and item.keys() == {"base64"} and isinstance(item["base64"], str):
            with contextlib.suppress(binascii.Error, ValueError):
                data = base64.b64decode(item["base64"], validate=True)
        if data is None:
            raise self._error(f"a {what} is a string, or an object with its base64")
        if len(data) > ARGUMENT_SIZE_MAX:
            raise self._error(f"a {what} of {len(data)} bytes is too long")
        return data

    def _expires_ms(self, facts: dict[str, Any]) -> int:
        expires_ms = facts.get("expires_ms", 0)
        if not _is_int(expires_ms) or not 0 <= expires_ms <= _EXPIRES_MS_MAX:
            raise self._error(f"expires_ms {expires_ms!r} is no time")
        return int(expires_ms)

    def _element(self, item: object) -> bytes:
        return self._bytes(item, "value")

    def _scored(self, item: object) -> tuple[bytes, float]:
        if isinstance(item, list) and len(item) == 2:
            score = item[1]
            if isinstance(score, str):
                score = _INFINITIES.get(score)
            if isinstance(score, int | float) and not isinstance(score, bool):
                try:
                    number = float(score)
                except OverflowError:
                    number = inf
                if not isnan(number):
                    return self._bytes(item[0], "member"), number
        raise self._error("an item of a sorted set is a member and a score")

    def _field(self, item: object) -> tuple[bytes, ...]:
        if isinstance(item, list) and len(item) == 2:
            return self._bytes(item[0], "field"), self._bytes(item[1], "value")
        if isinstance(item, list) and len(item) == 3:
            return self._timed_field(item)  # type: ignore[return-value]
        raise self._error("an item of a hash is a field, a value and perhaps a time")

    def _timed_field(self, item: object) -> tuple[bytes, bytes, int]:
        if isinstance(item, list) and 2 <= len(item) <= 3:
            time_ms = item[2] if len(item) == 3 else 0
            if _is_int(time_ms) and 0 <= time_ms <= _EXPIRES_MS_MAX:
                return self._bytes(item[0], "field"), self._bytes(item[1], "value"), time_ms
        raise self._error("an item of a hash is a field, a value and perhaps a time")

    _PARSERS: ClassVar[dict[type, Parse]] = {
        ListValue: _element,
        SetValue: _element,
        ZsetValue: _scored,
        HashValue: _field,
        TimedHashValue: _timed_field,
    }


def _is_int(item: object) -> bool:
    return isinstance(item, int) and not isinstance(item, bool)


_MAKERS: Final[dict[str, Any]] = {
    "list": ListValue,
    "set": SetValue,
    "zset": ZsetValue,
    "hash": HashValue,
}

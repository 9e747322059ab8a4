"""Engine entries as what they mean: as Redis data, as text, or as hexadecimal digits.

    RawView      "\\x00\\x00\\x00\\x01kgreeting" = "\\x00hello"
    HexView      000000016b6772656574696e67 = 0068656c6c6f
    RedisView    db 0  key "greeting" = string "hello" (5 bytes, embstr)

A view shows an entry in two ways: `facts`, plain data for JSON, in which bytes are bytes, and `line`, text
for people. What the server could not have written is shown raw by RedisView too: nothing is hidden or
refused.
"""

from __future__ import annotations

import datetime
import struct
from typing import Any, Final, Protocol

from lamina.server.encoding import (
    BIG_STRING,
    DOUBLE,
    FUNCTION_PREFIX,
    HASH,
    LIST,
    SET,
    STATE_PREFIX,
    STREAM,
    TYPE_MASK,
    U32,
    U64,
    ZSET,
    decode_score,
)
from lamina.server.numbers import format_score
from lamina.server.records import BigString, Record, String, type_name
from lamina.server.types.bigstrings import CHUNK_SIZE
from lamina.server.types.hashes import Hash
from lamina.server.types.listkeys import MIDDLE, POSITION_SIZE
from lamina.server.types.streamids import format_id
from lamina.server.types.streams import Stream
from lamina.tools.console import text_of
from lamina.tools.rediskeys import (
    DATABASES,
    FIELD_TIMES,
    STREAM_GROUPS,
    Numbers,
    Owners,
    Place,
    decode,
    encoding_of,
    ids_of,
    place_of,
    size_of,
)
from lamina.tools.streamview import entry_facts, group_facts, stream_facts

Facts = dict[str, Any]

_ID_NAMES: Final = {FIELD_TIMES: "times_id", STREAM_GROUPS: "groups_id"}
"""What the ids of a record are called, but for the one of its elements."""

_FUNCTION: Final = FUNCTION_PREFIX[len(STATE_PREFIX) :]
_NUMBERS: Final = (b"id", b"probe")
"""Pieces of the server's state that are a number."""


class EntryView(Protocol):
    """A way to show entries. A value of None is a tombstone."""

    def facts(self, key: bytes, value: bytes | None) -> Facts:
        """Return plain data for JSON."""

    def line(self, key: bytes, value: bytes | None) -> str:
        """Return text for people, on one line."""

    def key(self, key: bytes) -> str:
        """Return a key alone: a bound of a range, say."""


class RawView:
    """Bytes as text, with escapes. `shown_bytes`: how much of a key or value `line` shows, 0 for all."""

    def __init__(self, shown_bytes: int = 0) -> None:
        self.shown_bytes = shown_bytes

    def facts(self, key: bytes, value: bytes | None) -> Facts:
        """Return key and value."""
        return {"key": key, "value": value}

    def line(self, key: bytes, value: bytes | None) -> str:
        """Return key and value."""
        return f"{self.quoted(key)} = {'removed' if value is None else self.quoted(value)}"

    def key(self, key: bytes) -> str:
        """Return the key in quotes."""
        return self.quoted(key)

    def quoted(self, data: bytes) -> str:
        """Return bytes in quotes, cut short with a note of how many there are."""
        limit = self.shown_bytes
        if limit and len(data) > limit:
            return f'"{text_of(data[:limit])}"... ({len(data)} bytes)'
        return f'"{text_of(data)}"'


class HexView(RawView):
    """Bytes as hexadecimal digits."""

    def facts(self, key: bytes, value: bytes | None) -> Facts:
        """Return key and value."""
        return {"key": key.hex(), "value": None if value is None else value.hex()}

    def quoted(self, data: bytes) -> str:
        """Return digits, cut short with a note of how many bytes there are."""
        limit = self.shown_bytes
        if limit and len(data) > limit:
            return f"{data[:limit].hex()}... ({len(data)} bytes)"
        return data.hex() or "-"


class RedisView(RawView):
    """What the entries of a server's database mean.

    Without `numbers` it is not known which database a physical one is: it is shown by its own number.
    """

    def __init__(
        self, numbers: Numbers | None = None, owners: Owners | None = None, shown_bytes: int = 0
    ) -> None:
        super().__init__(shown_bytes)
        self.numbers = numbers
        self.owners = owners

    # -- facts -------------------------------------------------------------------------------------

    def facts(self, key: bytes, value: bytes | None) -> Facts:
        """Return what the entry means. Bytes are text with escapes, times are Unix time in ms."""
        place = place_of(key)
        if place.area == "other":
            return {"area": "other", **super().facts(key, value)}
        facts: Facts = {"area": place.area}
        if place.area == "state":
            facts["name"] = place.name
        else:
            facts |= {"db": self._logical(place.pdb), "pdb": place.pdb}
        if place.area == "element":
            return facts | self._element_facts(place, value)
        if place.time_ms:
            facts["expires_ms"] = place.time_ms
        if place.area != "state":
            facts["key"] = place.name
        if value is None:
            facts["removed"] = True
        elif place.area == "record":
            facts |= record_facts(value)
        elif place.area == "state":
            facts["value"] = _state_value(place.name, value)
        elif value:
            facts["value"] = value
        return facts

    def _logical(self, pdb: int) -> int | None:
        return None if self.numbers is None else self.numbers.logical(pdb)

    def _element_facts(self, place: Place, value: bytes | None) -> Facts:
        owner = None if self.owners is None else self.owners.type_of(place.id)
        facts: Facts = {"id": place.id, "type": _OWNER_NAMES.get(owner) if owner is not None else None}
        read = _ELEMENTS.get(owner) if owner is not None else None
        try:
            facts |= _plain_element(place.name, value) if read is None else read(place.name, value)
        except (struct.error, IndexError, KeyError):
            facts |= _plain_element(place.name, value)
        if value is None:
            facts["removed"] = True
        return facts

    # -- lines -------------------------------------------------------------------------------------

    def key(self, key: bytes) -> str:
        """Return what a key says, without a value."""
        place = place_of(key)
        match place.area:
            case "other":
                return self.quoted(key)
            case "state":
                return f"state {self.quoted(place.name)}"
            case "record":
                return f"{self._database(place.pdb)}  key {self.quoted(place.name)}"
            case "element":
                return f"{self._database(place.pdb)}  element {self.quoted(place.name)} of {place.id}"
        index = "expires" if place.area == "expiry" else "fields expire"
        return (
            f"{self._database(place.pdb)}  {index} {time_text(place.time_ms)} key {self.quoted(place.name)}"
        )

    def line(self, key: bytes, value: bytes | None) -> str:
        """Return what the entry means."""
        place = place_of(key)
        if place.area == "other":
            return f"raw   {super().line(key, value)}"
        if place.area == "element":
            return f"{self._database(place.pdb)}  {self._element_text(place, value)}"
        head = self.key(key)
        if value is None:
            return f"{head} = removed"
        if place.area == "record":
            return f"{head} = {self._record_text(value)}"
        if place.area == "state":
            return f"{head} = {_state_text(place.name, value) or self.quoted(value)}"
        return f"{head} = {self.quoted(value)}" if value else head

    def _database(self, pdb: int) -> str:
        index = self._logical(pdb)
        if index is not None:
            return f"db {index}"
        return f"pdb {pdb}" if self.numbers is None else f"pdb {pdb} (of no database)"

    def _record_text(self, raw: bytes) -> str:
        value = decode(raw)
        if value is None:
            return f"no record: {self.quoted(raw)}"
        size, encoding = size_of(value), encoding_of(value)
        name = text_of(type_name(value))
        if isinstance(value, bytes | String):
            text = value if isinstance(value, bytes) else value.value
            shown = f"{name} {self.quoted(text)} ({_many(size, 'byte')}, {encoding})"
        elif isinstance(value, BigString):
            shown = f"{name} of {_many(size, 'byte')} (in chunks), id {value.id}"
        else:
            shown = f"{name} of {size} ({encoding}), id {getattr(value, 'id', 0)}"
        if isinstance(value, Hash) and value.times is not None:
            shown += f", {_many(value.times.size, 'field')} expiring, id {value.times.id}"
        if isinstance(value, Stream):
            shown += f", last id {format_id(value.last_id).decode()}"
            if value.groups is not None:
                shown += f", {_many(value.groups.count, 'group')}, id {value.groups.id}"
        if isinstance(value, Record) and value.expires_ms:
            shown += f", expires {time_text(value.expires_ms)}"
        return shown

    def _element_text(self, place: Place, value: bytes | None) -> str:
        owner = None if self.owners is None else self.owners.type_of(place.id)
        facts = self._element_facts(place, value)
        name = "element of" if owner is None else _OWNER_NAMES[owner]
        words = [f"{name} {place.id}"]
        words += [_word(what, facts[what], self) for what in _WORDS if what in facts]
        if "expires_ms" in facts:
            words.append(f"expires {time_text(facts['expires_ms'])}")
        if value is None:
            words.append("= removed")
        elif "items" in facts:
            words += ["=", *map(self.quoted, facts["items"])]
        elif "value" in facts:
            words.append(f"= {self.quoted(value)}")
        return " ".join(words)


def _word(what: str, fact: Any, view: RawView) -> str:
    if isinstance(fact, bytes):
        fact = fact.decode() if what in ("entry", "last_id") else view.quoted(fact)
    return f"{what.replace('_', ' ')} {fact}" if what != "part" else str(fact)


def _many(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def record_facts(raw: bytes) -> Facts:
    """Return what a record says: type, size, encoding, expiry, and the string or the id of the elements."""
    value = decode(raw)
    if value is None:
        return {"type": None, "value": raw}
    facts: Facts = {
        "type": text_of(type_name(value)),
        "encoding": encoding_of(value),
        "size": size_of(value),
    }
    if isinstance(value, Record) and value.expires_ms:
        facts["expires_ms"] = value.expires_ms
    if isinstance(value, bytes | String):
        facts["value"] = value if isinstance(value, bytes) else value.value
    for number, owner in ids_of(value):
        facts[_ID_NAMES.get(owner, "id")] = number
    if isinstance(value, Hash) and value.times is not None:
        facts |= {"expiring_fields": value.times.size, "fields_due_ms": value.fields_due_ms}
    if isinstance(value, Stream):
        facts |= stream_facts(value)
    return facts


# -- elements, by what they belong to --------------------------------------------------------------


def _plain_element(name: bytes, value: bytes | None) -> Facts:
    return {"element": name} | ({"value": value} if value else {})


def _chunk(name: bytes, value: bytes | None) -> Facts:
    (number,) = U32.unpack(name)
    return {"chunk": number, "offset": number * CHUNK_SIZE, "value": value or b""}


def _list_element(name: bytes, value: bytes | None) -> Facts:
    (position,) = U64.unpack_from(name)
    facts: Facts = {"position": position - MIDDLE}
    if len(name) > POSITION_SIZE:
        facts["suffix"] = name[POSITION_SIZE:].hex()
    return facts | {"value": value or b""}


def _member(name: bytes, value: bytes | None) -> Facts:
    return {"member": name} | ({"value": value} if value else {})


def _zset_element(name: bytes, value: bytes | None) -> Facts:
    if name[:1] == b"m":
        facts: Facts = {"part": "scores", "member": name[1:]}
        if value is not None:
            (score,) = DOUBLE.unpack(value)
            facts["score"] = format_score(score).decode()
        return facts
    if name[:1] == b"s" and len(name) > DOUBLE.size:
        score_text = format_score(decode_score(name[1:])).decode()
        return {"part": "order", "score": score_text, "member": name[1 + DOUBLE.size :]}
    raise IndexError(name)


def _field(name: bytes, value: bytes | None) -> Facts:
    return {"field": name, "value": value or b""}


def _field_time(name: bytes, value: bytes | None) -> Facts:
    if name[:1] == b"f":
        facts: Facts = {"part": "by field", "field": name[1:]}
        return facts if value is None else facts | {"expires_ms": U64.unpack(value)[0]}
    if name[:1] == b"t":
        (time_ms,) = U64.unpack_from(name, 1)
        return {"part": "by time", "field": name[1 + U64.size :], "expires_ms": time_ms}
    raise IndexError(name)


_ELEMENTS: Final = {
    BIG_STRING: _chunk,
    LIST: _list_element,
    SET: _member,
    ZSET: _zset_element,
    HASH: _field,
    FIELD_TIMES: _field_time,
    STREAM: entry_facts,
    STREAM_GROUPS: group_facts,
}

_WORDS: Final = (
    *("part", "element", "field", "member", "position", "suffix", "chunk", "offset", "score"),
    *("group", "name", "number", "last_id", "entries_read", "consumers", "pending"),
    *("consumer", "entry", "deliveries"),
)
"""The facts of an element that its line shows, in this order."""

_OWNER_NAMES: Final = {
    BIG_STRING: "string",
    LIST: "list",
    SET: "set",
    ZSET: "zset",
    HASH: "hash",
    STREAM: "stream",
    FIELD_TIMES: "field times",
    STREAM_GROUPS: "stream groups",
    **{tag: f"type {tag}" for tag in range(STREAM + 1, TYPE_MASK + 1)},
}


# -- the server's state, and times -----------------------------------------------------------------


def _state_value(name: bytes, value: bytes) -> object:
    if name in _NUMBERS and len(value) == U64.size:
        return U64.unpack(value)[0]
    if name == DATABASES and len(value) % (2 * U32.size) == U32.size:
        return {"next_pdb": U32.unpack_from(value)[0], "physical": Numbers(value).away}
    return value


def _state_text(name: bytes, value: bytes) -> str:
    found = _state_value(name, value)
    if isinstance(found, int):
        return str(found)
    if name.startswith(_FUNCTION):
        return f"library of functions, {len(value)} bytes"
    if isinstance(found, dict):
        pairs = "".join(f", db {index} is pdb {pdb}" for index, pdb in found["physical"].items())
        return f"next pdb {found['next_pdb']}{pairs}"
    return ""


def time_text(time_ms: int) -> str:
    """Return a time for people: 2100-01-01 00:00:00.000 UTC. One that no calendar has is shown in ms."""
    try:
        moment = datetime.datetime.fromtimestamp(time_ms // 1000, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return f"at {time_ms} ms"
    return f"{moment:%Y-%m-%d %H:%M:%S}.{time_ms % 1000:03d} UTC"

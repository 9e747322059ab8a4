"""Streams for people and JSON: what redisview.py shows of their records, entries and consumer groups."""

from __future__ import annotations

from typing import Any, Final

from lamina.server.encoding import U32
from lamina.server.types.streamentries import BrokenEntryError, unpack_all
from lamina.server.types.streamgroups import (
    ALL,
    CONSUMER,
    CONSUMERS,
    DATA,
    GROUP,
    NAMES,
    NUMBERS,
    OWN,
    PENDING,
)
from lamina.server.types.streamids import format_id, format_packed
from lamina.server.types.streams import Stream

Facts = dict[str, Any]


def stream_facts(stream: Stream) -> Facts:
    """Return what a record says besides id and size."""
    return {
        "groups": 0 if stream.groups is None else stream.groups.count,
        "last_id": format_id(stream.last_id),
        "first_id": format_id(stream.first_id),
        "max_deleted_id": format_id(stream.max_deleted_id),
        "entries_added": stream.entries_added,
    }


def entry_facts(name: bytes, value: bytes | None) -> Facts:
    """Return what is stored as an entry. Errors: struct.error."""
    facts: Facts = {"entry": format_packed(name)}
    if value is not None:
        try:
            facts["items"] = unpack_all([value])[0]
        except BrokenEntryError:
            facts["value"] = value
    return facts


def group_facts(name: bytes, value: bytes | None) -> Facts:
    """Return what is stored of consumer groups. Errors: struct.error, IndexError, KeyError."""
    if name[:1] == NAMES:
        facts: Facts = {"part": "group", "name": name[1:]}
        if value is not None:
            number, consumers, _, last_ms, last_seq, entries_read, pending = GROUP.unpack(value)
            facts |= {
                "number": number,
                "last_id": format_id((last_ms, last_seq)),
                "entries_read": entries_read,
            }
            facts |= {"consumers": consumers, "pending": pending}
        return facts
    if name[:1] != DATA:
        raise IndexError(name)
    (group,) = U32.unpack_from(name, 1)
    part, rest = name[1 + U32.size : 2 + U32.size], name[2 + U32.size :]
    return {"part": _PARTS[part], "group": group} | _of_group(part, rest, value)


def _of_group(part: bytes, rest: bytes, value: bytes | None) -> Facts:
    """Return what an element says of a group. Errors: struct.error."""
    if part == CONSUMERS:
        facts: Facts = {"name": rest}
        if value is not None:
            number, seen_ms, active_ms, pending = CONSUMER.unpack(value)
            facts |= {"number": number, "seen_ms": seen_ms, "active_ms": active_ms, "pending": pending}
        return facts
    if part == NUMBERS:
        return {"number": U32.unpack(rest)[0]} | ({} if value is None else {"name": value})
    if part == OWN:
        return {"consumer": U32.unpack_from(rest)[0], "entry": format_packed(rest[U32.size :])}
    facts = {"entry": format_packed(rest)}
    if value is not None:
        consumer, delivered_ms, deliveries = PENDING.unpack(value)
        facts |= {"consumer": consumer, "delivered_ms": delivered_ms, "deliveries": deliveries}
    return facts


_PARTS: Final = {CONSUMERS: "consumer", NUMBERS: "consumer by number", OWN: "pending with", ALL: "pending"}

r"""Streams as lines of JSON: what jsonlines.py writes of them, and reads.

    {..., "type":"stream", "value":[["1-1",["field","value"]],["2-0",["f","v","g","w"]]],
          "last_id":"2-0", "max_deleted_id":"0-0", "entries_added":2,
          "groups":[{"name":"g", "last_id":"1-1", "entries_read":1, "consumers":[
              {"name":"ann", "seen_ms":1735689600000, "active_ms":1735689600000,
               "pending":[["1-1",1735689600000,1]]}]}]}

`value` has the ids and the fields and values in turn, `pending` ids, when each was delivered, and how often.
Of a stream in several lines the first ones have entries; what the stream knows of itself comes with the last
of them, and groups may go on after it, in lines that have only these.

All but the entries may be left out. Then the last id is that of the last entry, nothing was ever deleted, a
group begins before the first entry and has not counted, and a consumer was never seen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from lamina.server.numbers import INTEGER_MAX
from lamina.server.rdb.values import (
    NO_ID,
    UNKNOWN,
    Pending,
    StreamConsumer,
    StreamEntry,
    StreamGroup,
    StreamId,
    StreamState,
    StreamValue,
)
from lamina.server.types.streamids import PART_MAX

Facts = dict[str, Any]
Text = Any
"""What stands for bytes."""

_LINE_PENDING: Final = 10_000
"""Pending entries, and groups, on a line."""

_matches_id = re.compile(r"([0-9]{1,20})-([0-9]{1,20})").fullmatch


# -- writing -----------------------------------------------------------------------------------------


def entry_item(entry: StreamEntry, text: Callable[[bytes], Text]) -> list[Any]:
    """Return an entry's item of `value`."""
    return [_id_text(entry.id), list(map(text, entry.items))]


def state_facts(state: StreamState) -> Facts:
    """Return what a stream knows of itself."""
    return {
        "last_id": _id_text(state.last_id),
        "max_deleted_id": _id_text(state.max_deleted_id),
        "entries_added": state.entries_added,
    }


def group_lines(groups: Iterable[StreamGroup], text: Callable[[bytes], Text]) -> Iterator[list[Facts]]:
    """Yield groups, as many at a time as a line takes."""
    line: list[Facts] = []
    size = 0
    for group in groups:
        line.append(
            {
                "name": text(group.name),
                "last_id": _id_text(group.last_id),
                "entries_read": group.entries_read,
                "consumers": [_consumer_facts(consumer, text) for consumer in group.consumers],
            }
        )
        size += 1 + sum(len(consumer.pending) for consumer in group.consumers)
        if size >= _LINE_PENDING:
            yield line
            line, size = [], 0
    if line:
        yield line


def _consumer_facts(consumer: StreamConsumer, text: Callable[[bytes], Text]) -> Facts:
    pending = [[_id_text(one.id), one.delivered_ms, one.deliveries] for one in consumer.pending]
    return {
        "name": text(consumer.name),
        "seen_ms": consumer.seen_ms,
        "active_ms": consumer.active_ms,
        "pending": pending,
    }


def _id_text(stream_id: StreamId) -> str:
    return f"{stream_id[0]}-{stream_id[1]}"


# -- reading -----------------------------------------------------------------------------------------


class StreamParser:
    """Makes a stream of its lines. `error` makes the error for what is wrong with the last one that was read,
    `bytes_of` takes a text and what it is."""

    def __init__(
        self,
        error: Callable[[str], Exception],
        bytes_of: Callable[[object, str], bytes],
        lines: Iterator[Facts],
    ) -> None:
        self._error = error
        self._bytes = bytes_of
        self._lines = lines
        self._rest: Facts = {}
        """The line on which the entries end."""

    def value(self) -> StreamValue:
        """Return the stream; its lines are read as its entries and groups are asked for."""
        state = StreamState()
        return StreamValue(self._entries(state), UNKNOWN, state, self._groups())

    def _entries(self, state: StreamState) -> Iterator[list[StreamEntry]]:
        last_id = (-1, -1)
        for facts in self._lines:
            values = facts.get("value")
            if not isinstance(values, list):
                raise self._error("the value of a stream is a list")
            entries = list(map(self._entry, values))
            for entry in entries:
                if entry.id <= last_id:
                    raise self._error("the ids of a stream ascend")
                last_id = entry.id
            if entries and not state.size:
                state.first_id = entries[0].id
            state.size += len(entries)
            yield entries
            self._rest = facts
            if "last_id" in facts or "groups" in facts:
                break
        self._take_state(state, last_id)

    def _take_state(self, state: StreamState, last_id: StreamId) -> None:
        facts = self._rest
        state.last_id = self._id(facts["last_id"]) if "last_id" in facts else max(last_id, NO_ID)
        if state.last_id < last_id:
            raise self._error("an entry of a stream is behind its last id")
        state.max_deleted_id = self._id(facts.get("max_deleted_id", "0-0"))
        state.entries_added = self._integer(facts, "entries_added", state.size, 0, PART_MAX)

    def _groups(self) -> Iterator[StreamGroup]:
        names: set[bytes] = set()
        facts: Facts | None = self._rest
        while facts is not None:
            groups = facts.get("groups", [])
            if not isinstance(groups, list) or (facts is not self._rest and facts.get("value")):
                raise self._error("the groups of a stream are a list, and come behind its entries")
            for one in groups:
                group = self._group(one)
                if group.name in names:
                    raise self._error("a stream with two groups of one name")
                names.add(group.name)
                yield group
            facts = next(self._lines, None)

    # -- pieces ------------------------------------------------------------------------------------

    def _entry(self, item: object) -> StreamEntry:
        if not isinstance(item, list) or len(item) != 2 or not isinstance(item[1], list):
            raise self._error("an item of a stream is an id, and a list of fields and values")
        items = [self._bytes(text, "field or value") for text in item[1]]
        if len(items) % 2:
            raise self._error("an entry of a stream has fields and values in turn")
        return StreamEntry(self._id(item[0]), items)

    def _group(self, facts: object) -> StreamGroup:
        if not isinstance(facts, dict):
            raise self._error("a group of a stream is an object")
        name = self._bytes(facts.get("name"), "group's name")
        last_id = self._id(facts.get("last_id", "0-0"))
        entries_read = self._integer(facts, "entries_read", UNKNOWN, UNKNOWN, INTEGER_MAX)
        consumers = facts.get("consumers", [])
        if not isinstance(consumers, list):
            raise self._error("the consumers of a group are a list")
        found = list(map(self._consumer, consumers))
        if len({consumer.name for consumer in found}) < len(found):
            raise self._error("a group with two consumers of one name")
        pending = [one.id for consumer in found for one in consumer.pending]
        if len(set(pending)) < len(pending):
            raise self._error("an entry that is pending twice in one group")
        return StreamGroup(name, last_id, entries_read, found)

    def _consumer(self, facts: object) -> StreamConsumer:
        if not isinstance(facts, dict):
            raise self._error("a consumer is an object")
        pending = facts.get("pending", [])
        if not isinstance(pending, list):
            raise self._error("what is pending with a consumer is a list")
        return StreamConsumer(
            self._bytes(facts.get("name"), "consumer's name"),
            self._integer(facts, "seen_ms", 0, -INTEGER_MAX, INTEGER_MAX),
            self._integer(facts, "active_ms", -1, -INTEGER_MAX, INTEGER_MAX),
            sorted(map(self._pending, pending)),
        )

    def _pending(self, item: object) -> Pending:
        if isinstance(item, list) and len(item) == 3:
            facts = {"when": item[1], "count": item[2]}
            delivered_ms = self._integer(facts, "when", 0, -INTEGER_MAX, INTEGER_MAX)
            return Pending(self._id(item[0]), delivered_ms, self._integer(facts, "count", 0, 0, PART_MAX))
        raise self._error("a pending entry is an id, a time, and how often it was delivered")

    def _id(self, item: object) -> StreamId:
        found = _matches_id(item) if isinstance(item, str) else None
        if found is not None:
            ms, seq = int(found[1]), int(found[2])
            if max(ms, seq) <= PART_MAX:
                return ms, seq
        raise self._error(f"{item!r} is no id")

    def _integer(self, facts: Facts, name: str, default: int, least: int, most: int) -> int:
        number = facts.get(name, default)
        if not isinstance(number, int) or isinstance(number, bool) or not least <= number <= most:
            raise self._error(f"{name} {number!r} of a stream is out of range")
        return number

"""Strategies that draw values for RDB files."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from lamina.server.rdb.values import (
    HashValue,
    ListValue,
    Pending,
    SetValue,
    StreamConsumer,
    StreamEntry,
    StreamGroup,
    StreamState,
    StreamValue,
    TimedHashValue,
    Value,
    ZsetValue,
)

U64 = (1 << 64) - 1

texts = st.one_of(
    st.binary(max_size=8),
    st.integers(-(1 << 65), 1 << 65).map(lambda number: b"%d" % number),
    st.integers(-140, 140).map(lambda number: b"%d" % number),
    st.tuples(st.binary(min_size=1, max_size=3), st.integers(1, 3000)).map(lambda drawn: drawn[0] * drawn[1]),
)
"""Strings: short ones, integers and what is just none, long ones that can be compressed."""

scores = st.floats(allow_nan=False).map(lambda score: score + 0.0)
"""Without the negative zero, which is no score of its own."""

times = st.one_of(st.just(0), st.integers(1, (1 << 48) - 2))
ids = st.tuples(st.integers(0, U64), st.integers(0, U64))


def chunks_of(elements: list[Any], size: int) -> list[list[Any]]:
    """Return the elements in chunks."""
    return [elements[at : at + size] for at in range(0, len(elements), size)]


@st.composite
def collections(draw: st.DrawFn) -> Value:
    """Draw a value that is neither a stream nor has fields that expire."""
    kind = draw(st.sampled_from(("string", "list", "set", "zset", "hash")))
    if kind == "string":
        return draw(texts)
    elements = draw(st.lists(texts, min_size=1, max_size=20, unique=kind != "list"))
    chunk = draw(st.integers(1, 20))
    if kind == "list":
        return ListValue(chunks_of(elements, chunk), len(elements))
    if kind == "set":
        return SetValue(chunks_of(elements, chunk), len(elements))
    if kind == "zset":
        members = [(element, draw(scores)) for element in elements]
        return ZsetValue(chunks_of(members, chunk), len(members))
    fields = [(element, draw(texts)) for element in elements]
    return HashValue(chunks_of(fields, chunk), len(fields))


@st.composite
def timed_hashes(draw: st.DrawFn) -> TimedHashValue:
    """Draw a hash of which at least one field expires."""
    names = draw(st.lists(texts, min_size=1, max_size=12, unique=True))
    fields = [(name, draw(texts), draw(times)) for name in names]
    fields[0] = (*fields[0][:2], draw(st.integers(1, (1 << 48) - 2)))
    return TimedHashValue(chunks_of(fields, draw(st.integers(1, 12))), len(fields))


@st.composite
def streams(draw: st.DrawFn) -> StreamValue:
    """Draw a stream with groups."""
    entries = [
        StreamEntry(
            entry_id, draw(st.lists(texts, max_size=4).map(lambda items: items[: len(items) // 2 * 2]))
        )
        for entry_id in sorted(draw(st.sets(ids, max_size=8)))
    ]
    last_id = max([entry.id for entry in entries] + [draw(ids)])
    added = draw(st.integers(len(entries), U64))
    state = StreamState(len(entries), last_id, draw(ids), draw(ids), added)
    groups = [
        StreamGroup(name, draw(ids), draw(st.integers(-1, U64 >> 1)), draw(consumers()))
        for name in sorted(draw(st.sets(texts, max_size=3)))
    ]
    return StreamValue(chunks_of(entries, draw(st.integers(1, 8))), len(entries), state, groups)


@st.composite
def consumers(draw: st.DrawFn) -> list[StreamConsumer]:
    """Draw the consumers of a group: no entry is pending with two of them."""
    names = sorted(draw(st.sets(texts, max_size=3)))
    pending = sorted(draw(st.sets(ids, max_size=6))) if names else []
    moments = st.integers(-1, 1 << 45)
    found = []
    for at, name in enumerate(names):
        own = [
            Pending(entry_id, draw(moments), draw(st.integers(0, U64)))
            for entry_id in pending[at :: len(names)]
        ]
        found.append(StreamConsumer(name, draw(moments), draw(moments), own))
    return found

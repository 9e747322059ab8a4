"""The elements of streams, held against each other and against what records say of them.

    entries    have ids of 16 bytes and fields and values; as many as the record says, from its first id to
               its last
    groups     have numbers of their own, below the next one that will be given
    consumers  as entries of their group by name and by number, which say the same
    pending    what is pending with the group is what is pending with its consumers, as often as they say

What is known of pending entries lies with the group; with consumers lie only ids. So the group's list is
taken for right, and the others are made to fit it. But what is pending must not get lost, or it would never
be done: an entry that only a consumer's list has, a consumer with whom something is pending, and a group that
has given something away are put back, if need be under a new name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from lamina.server.encoding import ELEMENT, U32, U64, end_of, prefix_of
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
    UNKNOWN,
)
from lamina.server.types.streamids import FIRST, ID_SIZE, after, format_id, format_packed, pack, unpack
from lamina.server.types.streams import Stream
from lamina.tools.logicalfixes import Elements
from lamina.tools.logicalsource import Entry, Source
from lamina.tools.pairsums import PairSum

_PART_AT: Final = 1 + U32.size
"""Where it begins, in the key of something of a group, what of the group it is."""
_REST_AT: Final = _PART_AT + 1
_NUMBER_MAX: Final = (1 << 32) - 1


def straighten_stream(source: Source, pdb: int, stream: Stream) -> list[str]:
    """Put right where a stream begins and ends, by its entries; returns what was wrong. Cost: two seeks."""
    prefix = prefix_of(pdb, ELEMENT) + U64.pack(stream.id)
    skip = len(prefix)
    stop = end_of(prefix)
    if source.is_hidden(prefix, stop):
        return []
    wrong: list[str] = []
    first = next((key for key, _ in source.scan(prefix, stop) if len(key) == skip + ID_SIZE), None)
    found = FIRST if first is None else first[skip:]
    if found != stream.elements.first:
        said = format_id(stream.first_id)
        wrong.append(f"first id {said.decode()}, which is {format_packed(found).decode()}")
        stream.elements.first = found
    beyond, last = 0, b""
    for key, _ in source.scan(prefix + after(pack(*stream.last_id)), stop):
        if len(key) == skip + ID_SIZE:
            beyond += 1
            last = key[skip:]
    if beyond:
        wrong.append(f"{beyond} entries behind its last id {format_id(stream.last_id).decode()}")
        stream.last_id = unpack(last)
    return wrong


def check_stream(group: Elements, elements: Iterator[Entry]) -> None:
    """Check the entries of a stream."""
    row = group.row
    found = dropped = 0
    first = FIRST
    for element, value in elements:
        if len(element) != ID_SIZE:
            group.drop(element, value, f"an entry of a stream with a key of {len(element)} bytes")
            continue
        try:
            unpack_all([value])
        except BrokenEntryError as error:
            dropped += 1
            group.drop(element, value, f"{error}: {format_packed(element).decode()}")
            continue
        if not found:
            first = element
        found += 1
    if found != row.size:
        group.note(f"says that it has {row.size} entries, and there are {found}")
        group.fix.size = found
    if dropped:
        group.is_wrong = True
        group.fix.first_id = first  # the one that the record names may be among them


# -- groups ----------------------------------------------------------------------------------------


class _Data:
    """What is found of one group, but for its name. Consumers by number."""

    def __init__(self) -> None:
        self.consumers: dict[int, tuple[bytes, bytes]] = {}
        """Name, and what is stored."""
        self.names: dict[int, bytes] = {}
        self.own = PairSum()
        self.pending = PairSum()
        self.pending_with: Counter[int] = Counter()
        self.delivered_ms: dict[int, int] = {}
        """When each consumer was last given something that is pending."""
        self.last_pending = FIRST

    def take(self, part: bytes, rest: bytes, value: bytes) -> bool:
        """Take an element of the group, in order; tells whether it makes sense."""
        if part == CONSUMERS and len(value) == CONSUMER.size:
            number = CONSUMER.unpack(value)[0]
            if number in self.consumers:
                return False
            self.consumers[number] = (rest, value)
        elif part == NUMBERS and len(rest) == U32.size:
            self.names[U32.unpack(rest)[0]] = value
        elif part == OWN and len(rest) == U32.size + ID_SIZE and not value:
            self.own.add(rest)
        elif part == ALL and len(rest) == ID_SIZE and len(value) == PENDING.size:
            number, delivered_ms, _ = PENDING.unpack(value)
            self.pending_with[number] += 1
            self.pending.add(U32.pack(number) + rest)
            self.delivered_ms[number] = max(self.delivered_ms.get(number, 0), delivered_ms)
            self.last_pending = rest
        else:
            return False
        return True


def check_groups(group: Elements, elements: Iterator[Entry]) -> None:
    """Check the groups of a stream."""
    data: dict[int, _Data] = {}
    named: dict[int, tuple[bytes, bytes]] = {}
    for element, value in elements:
        area = element[:1]
        if area == DATA and len(element) >= _REST_AT:
            (number,) = U32.unpack_from(element, 1)
            part, rest = element[_PART_AT:_REST_AT], element[_REST_AT:]
            if data.setdefault(number, _Data()).take(part, rest, value):
                continue
        elif area == NAMES and len(value) == GROUP.size:
            number = GROUP.unpack(value)[0]
            if number not in named:
                named[number] = (element[1:], value)
                continue
        group.drop(element, value, f"nothing that belongs to a consumer group: {element.hex()}")
    for number in sorted(data.keys() - named.keys()):
        if len(named) < group.row.size and data[number].pending_with:
            named[number] = _named_anew(group, number, data[number], {name for name, _ in named.values()})
        else:
            prefix = group.prefix + DATA + U32.pack(number)
            what = f"entries of a consumer group without a name, in collection {group.row.id}"
            bounds = prefix, end_of(prefix)
            group.sink.drop_range(group.pdb, "element", what, bounds, group.source.scan(*bounds))
    for number, (name, raw) in named.items():
        _check_group(group, number, name, raw, data.get(number) or _Data())
    next_number = max(named, default=-1) + 1
    if len(named) != group.row.size:
        group.note(f"says that it has {group.row.size} groups, and there are {len(named)}")
        group.fix.size = len(named)
    if next_number > group.row.second:
        group.note(f"would give a group the number {group.row.second}, and has {next_number - 1}")
        group.fix.next_number = next_number


def _named_anew(group: Elements, number: int, data: _Data, taken: set[bytes]) -> tuple[bytes, bytes]:
    """Return a name and a beginning for a group that has lost its own: what is pending must not get lost.

    Where it was is not known, but it was not before what it has given away last.
    """
    name = _recovered(number, taken)
    group.note(f"a consumer group has lost its name: it is {name!r} now")
    return name, GROUP.pack(number, 0, 0, *unpack(data.last_pending), UNKNOWN, 0)


def _recovered(number: int, taken: Iterable[bytes]) -> bytes:
    """Return a name for what has lost its own."""
    name = b"recovered-%d" % number
    while name in taken:
        name += b"+"
    return name


def _check_group(group: Elements, number: int, name: bytes, raw: bytes, data: _Data) -> None:
    prefix = group.prefix + DATA + U32.pack(number)
    what = f"group {name!r}"
    _, count, next_consumer, last_ms, last_seq, entries_read, said = GROUP.unpack(raw)
    if data.own != data.pending:
        _settle_pending(group, prefix, what, data, said)
    _restore_consumers(group, prefix, what, data)
    _check_names(group, prefix, what, data)
    for at, (consumer, stored) in data.consumers.items():
        _, seen_ms, active_ms, pending = CONSUMER.unpack(stored)
        found = data.pending_with[at]
        if pending != found:
            group.note(f"{what}: consumer {consumer!r} says that {pending} are pending, and {found} are")
            group.sink.put(prefix + CONSUMERS + consumer, CONSUMER.pack(at, seen_ms, active_ms, found))
    total = data.pending_with.total()
    next_found = max(next_consumer, min(max(data.consumers, default=-1) + 1, _NUMBER_MAX))
    if (count, next_consumer, said) != (len(data.consumers), next_found, total):
        group.note(
            f"{what} says that it has {count} consumers, the next of number {next_consumer}, and {said} "
            f"pending entries; there are {len(data.consumers)}, {next_found} and {total}"
        )
        fixed = GROUP.pack(number, len(data.consumers), next_found, last_ms, last_seq, entries_read, total)
        group.sink.put(group.prefix + NAMES + name, fixed)


def _restore_consumers(group: Elements, prefix: bytes, what: str, data: _Data) -> None:
    """Put consumers back with whom something is pending: by their names, or new ones."""
    taken = {name for name, _ in data.consumers.values()}
    for at in sorted(data.pending_with.keys() - data.consumers.keys()):
        name = data.names.get(at)
        if name is None or name in taken:
            name = _recovered(at, taken)
        count, time_ms = data.pending_with[at], data.delivered_ms[at]
        group.note(
            f"{what}: {count} entries are pending with a consumer that is not there: it is {name!r} now"
        )
        stored = CONSUMER.pack(at, time_ms, time_ms, count)
        group.sink.put(prefix + CONSUMERS + name, stored)
        data.consumers[at] = (name, stored)
        taken.add(name)


def _check_names(group: Elements, prefix: bytes, what: str, data: _Data) -> None:
    """Make the names of consumers by number those of the consumers."""
    for at, name in data.names.items():
        if at not in data.consumers:
            group.note(f"{what}: {name!r} is the name of no consumer")
            group.sink.delete(prefix + NUMBERS + U32.pack(at))
    for at, (name, _) in data.consumers.items():
        if data.names.get(at) != name:
            group.note(f"{what}: consumer {name!r} is not found by its number")
            group.sink.put(prefix + NUMBERS + U32.pack(at), name)


def _settle_pending(group: Elements, prefix: bytes, what: str, data: _Data, said: int) -> None:
    """Make the lists of the group and of its consumers say the same, by looking each entry up.

    What only a consumer's list has was lost, and is put back, unless the group has as many as is `said`
    without it: then it was acknowledged, and has come back.
    """
    source, sink = group.source, group.sink
    restores = data.pending.count < said
    strays = missing = 0
    restored: set[bytes] = set()
    low = prefix + OWN
    skip = len(low)
    for key, value in source.scan(low, end_of(low)):
        rest = key[skip:]
        if len(rest) != U32.size + ID_SIZE or value:
            continue
        packed = rest[U32.size :]
        found = source.get(prefix + ALL + packed)
        if found is not None and len(found) != PENDING.size:
            found = None  # it has been dropped
        if found is None and restores and packed not in restored:
            (at,) = U32.unpack_from(rest)
            known = data.consumers.get(at)
            delivered_ms = 0 if known is None else max(CONSUMER.unpack(known[1])[1], 0)  # when it was seen
            sink.put(prefix + ALL + packed, PENDING.pack(at, delivered_ms, 1))
            data.pending_with[at] += 1
            data.delivered_ms.setdefault(at, delivered_ms)
            restored.add(packed)
        elif found is None or found[: U32.size] != rest[: U32.size]:
            strays += 1
            sink.delete(key)
    low = prefix + ALL
    for key, value in source.scan(low, end_of(low)):
        if len(key) == skip + ID_SIZE and len(value) == PENDING.size:
            own = prefix + OWN + value[: U32.size] + key[skip:]
            if source.get(own) is None:
                missing += 1
                sink.put(own, b"")
    more = strays + len(restored)
    group.note(f"{what}: what is pending with its consumers lacks {missing} entries, and has {more} more")
    if restored:
        group.note(
            f"{what}: {len(restored)} entries are pending with its consumers only: they are known from there"
        )

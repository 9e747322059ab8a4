"""Streams, in memory and on disk, against a model made of dicts and lists."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from harness.local import LocalClient, Servers, check_server
from lamina.engine import CorruptionError
from lamina.server import elements
from lamina.server.types import streamentries, streamgroups
from lamina.server.types.streamentries import BrokenEntryError, pack_items, unpack_all
from lamina.server.types.streamids import ABOVE_ALL, FIRST, pack
from lamina.server.types.streams import Stream
from lamina.server.types.streamwindows import Windows

KEY = "s"

# -- entries -----------------------------------------------------------------------------------------


@given(
    st.lists(st.lists(st.binary(max_size=300), max_size=140).map(lambda items: items[: len(items) // 2 * 2]))
)
def test_entries_are_packed_without_loss(entries: list[list[bytes]]) -> None:
    assert unpack_all([pack_items(items) for items in entries]) == entries


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"+OK\r\n",
        b"*1\r\n$1\r\nf\r\n",
        b"*2\r\n$1\r\nf\r\n",
        b"*2\r\n$1\r\nf\r\n:1\r\n",
        b"-ERR\r\n",
        b"?",
    ]
    + [pack_items([b"f", b"v"]) + b"x", pack_items([b"f", b"v"])[:-1], pack_items([b"f", b"v"]) * 2],
)
def test_what_is_no_entry_is_told(value: bytes) -> None:
    with pytest.raises(BrokenEntryError):
        unpack_all([value])


def test_windows() -> None:
    windows = Windows()
    rows = [(pack(n, 0), b"%d" % n) for n in range(20)]
    keys, values = [key for key, _ in rows], [value for _, value in rows]
    windows.add(keys[3], keys[8], keys[3:8], values[3:8])
    assert windows.covering(keys[2]) is None
    assert windows.covering(keys[8]) is None
    assert windows.covering(keys[3]) is windows.ending(keys[8]) is not None
    assert windows.ending(keys[3]) is None
    windows.check(rows, FIRST)
    windows.remove(keys[5])
    windows.remove(keys[5])
    windows.check([row for row in rows if row[0] != keys[5]], FIRST)
    windows.cap(keys[7])
    assert windows.covering(keys[7]) is None
    windows.drop_below(keys[7])
    assert windows.stretches == []
    assert windows.held_bytes == 0
    for n in range(10):
        windows.add(keys[n], keys[n + 1], keys[n : n + 1], values[n : n + 1])
    assert windows.covering(keys[5]) is None, "only the last ones are kept"
    windows.add(keys[0], ABOVE_ALL, keys, [b"x" * (1 << 20)] * 20)
    assert windows.covering(keys[0]) is None, "what is large is not kept"
    windows.cap(keys[7])
    assert [window.low for window in windows.stretches] == [keys[6]]


# -- the machine -------------------------------------------------------------------------------------


@dataclasses.dataclass
class GroupModel:
    last: int
    consumers: dict[bytes, None] = dataclasses.field(default_factory=dict)
    pending: dict[int, tuple[bytes, int, int]] = dataclasses.field(default_factory=dict)
    """Consumer, when it was delivered, and how often, by id."""


class Model:
    """A stream whose ids are n-0."""

    def __init__(self) -> None:
        self.entries: dict[int, list[bytes]] = {}
        self.last = 0
        self.deleted = 0
        self.added = 0
        self.groups: dict[bytes, GroupModel] = {}

    def shown(self, ids: list[int]) -> list[Any]:
        return [[b"%d-0" % n, self.entries[n]] for n in ids]

    def between(self, low: int, high: int) -> list[int]:
        return [n for n in self.entries if low <= n <= high]


names = st.sampled_from([b"g", b"h", b"i"])
consumer_names = st.sampled_from([b"ann", b"bob", b"cid"])
places = st.integers(0, 70)
counts = st.integers(1, 9)
texts = st.sampled_from([b"", b"v", b"text", b"long " * 30])


class StreamMachine(RuleBasedStateMachine):
    """Whatever is done, and wherever the stream lies, it answers what the model answers."""

    @initialize(loads=st.booleans(), is_small=st.booleans())
    def open(self, loads: bool, is_small: bool) -> None:
        self.patch = pytest.MonkeyPatch()
        if not loads:
            self.patch.setattr(elements, "LOADED_AT_ONCE", -1)
            self.patch.setattr(elements, "LOADED_EVER", -1)
        if is_small:
            self.patch.setattr(streamentries, "TAIL_ENTRIES_MAX", 6)
            self.patch.setattr(streamentries, "_HEAD_ENTRIES", 3)
            self.patch.setattr(streamentries, "_TRIMMED_SINGLY", 5)
            self.patch.setattr(streamentries, "DELETED_SINGLY", 5)
            self.patch.setattr(streamgroups, "DELETED_SINGLY", 5)
        self.local: LocalClient = Servers().make()
        self.model = Model()

    def teardown(self) -> None:
        if hasattr(self, "local"):
            self.local.turn()
            self.compare_all()
            check_server(self.local.server)
            self.local.server.close()
            self.patch.undo()

    def exists(self) -> bool:
        return hasattr(self, "local") and self.local("EXISTS", KEY) == 1

    @property
    def stream(self) -> Stream:
        found = self.local.client.keyspace.find_typed(KEY.encode(), Stream)
        assert found is not None
        return found

    @property
    def now_ms(self) -> int:
        return self.local.clock.now_ms

    # -- entries -----------------------------------------------------------------------------------

    @rule(gap=st.integers(1, 3), value=texts, keeps=st.none() | st.integers(0, 20), by_id=st.booleans())
    def add(self, gap: int, value: bytes, keeps: int | None, by_id: bool) -> None:
        model = self.model
        n = model.last + gap
        options: tuple[Any, ...] = ()
        if keeps is not None:
            options = ("MINID", "=", max(n - keeps, 0)) if by_id else ("MAXLEN", keeps)
        assert self.local("XADD", KEY, *options, f"{n}-0", "f", value) == b"%d-0" % n
        model.entries[n] = [b"f", value]
        model.last = n
        model.added += 1
        if keeps is not None:
            self.trim_model(keeps, max(n - keeps, 0) if by_id else None)

    @rule(count=st.integers(1, 15))
    def add_many(self, count: int) -> None:
        model = self.model
        ids = list(range(model.last + 1, model.last + count + 1))
        self.local.pipeline(*(("XADD", KEY, f"{n}-0", "f", n) for n in ids))
        model.entries |= {n: [b"f", b"%d" % n] for n in ids}
        model.last = ids[-1]
        model.added += count

    def trim_model(self, keeps: int, min_id: int | None) -> int:
        model = self.model
        ids = list(model.entries)
        gone = ids[: max(len(ids) - keeps, 0)] if min_id is None else [n for n in ids if n < min_id]
        for n in gone:
            del model.entries[n]
        return len(gone)

    @precondition(exists)
    @rule(keeps=st.integers(0, 30), back=places, by_id=st.booleans())
    def trim(self, keeps: int, back: int, by_id: bool) -> None:
        low = max(self.model.last - back, 0)
        words = ("MINID", low) if by_id else ("MAXLEN", keeps)
        assert self.local("XTRIM", KEY, *words) == self.trim_model(keeps, low if by_id else None)

    @precondition(exists)
    @rule(at=st.lists(places, min_size=1, max_size=4))
    def delete(self, at: list[int]) -> None:
        model = self.model
        ids = [max(model.last - back, 0) for back in at]
        found = {n for n in ids if n in model.entries}
        assert self.local("XDEL", KEY, *(f"{n}-0" for n in ids)) == len(found)
        for n in found:
            del model.entries[n]
            model.deleted = max(model.deleted, n)

    @precondition(exists)
    @rule(back=places, span=places, count=st.none() | counts)
    def ranges(self, back: int, span: int, count: int | None) -> None:
        model = self.model
        low = max(model.last - back, 0)
        high = low + span
        limit = () if count is None else ("COUNT", count)
        ids = model.between(low, high)
        assert self.local("XRANGE", KEY, low, high, *limit) == model.shown(ids[:count])
        assert self.local("XREVRANGE", KEY, high, low, *limit) == model.shown(ids[::-1][:count])
        later = model.shown([n for n in model.entries if n > low][:count])
        assert self.local("XREAD", *limit, "STREAMS", KEY, f"{low}-0") == ([[b"s", later]] if later else None)
        first = self.stream.elements
        expected = model.entries.get(low)
        assert first.get(pack(low, 0)) == (None if expected is None else pack_items(expected))
        assert first.count_below(pack(low, 0), 0) == sum(n < low for n in model.entries)

    @precondition(exists)
    @rule(ahead=st.integers(-5, 3))
    def set_id(self, ahead: int) -> None:
        model = self.model
        n = max(model.last + ahead, 0)
        lowest = max([model.deleted, *model.entries])
        reply = self.local("XSETID", KEY, f"{n}-0")
        if n < lowest:
            assert isinstance(reply, Exception)
        else:
            assert reply == b"OK"
            model.last = n

    # -- groups ------------------------------------------------------------------------------------

    @rule(name=names, back=places)
    def create_group(self, name: bytes, back: int) -> None:
        model = self.model
        last = max(model.last - back, 0)
        reply = self.local("XGROUP", "CREATE", KEY, name, f"{last}-0", "MKSTREAM")
        if name in model.groups:
            assert isinstance(reply, Exception)
        else:
            model.groups[name] = GroupModel(last)

    def has_groups(self) -> bool:
        return hasattr(self, "model") and bool(self.model.groups)

    def group(self, name: bytes) -> tuple[bytes, GroupModel]:
        groups = self.model.groups
        return (name, groups[name]) if name in groups else next(iter(groups.items()))

    @precondition(has_groups)
    @rule(name=names, consumer=consumer_names, count=st.none() | counts, noack=st.booleans())
    def read_group(self, name: bytes, consumer: bytes, count: int | None, noack: bool) -> None:
        name, group = self.group(name)
        model = self.model
        limit = () if count is None else ("COUNT", count)
        options = (*limit, "NOACK") if noack else limit
        found = self.local("XREADGROUP", "GROUP", name, consumer, *options, "STREAMS", KEY, ">")
        ids = [n for n in model.entries if n > group.last][:count]
        assert found == ([[b"s", model.shown(ids)]] if ids else None)
        group.consumers[consumer] = None
        if ids:
            group.last = ids[-1]
        if not noack:
            group.pending |= dict.fromkeys(ids, (consumer, self.now_ms, 1))

    @precondition(has_groups)
    @rule(name=names, consumer=consumer_names, back=places, count=counts)
    def read_history(self, name: bytes, consumer: bytes, back: int, count: int) -> None:
        name, group = self.group(name)
        model = self.model
        low = max(model.last - back, 0)
        found = self.local("XREADGROUP", "GROUP", name, consumer, "COUNT", count, "STREAMS", KEY, f"{low}-0")
        group.consumers[consumer] = None
        own = sorted(n for n, one in group.pending.items() if one[0] == consumer and n > low)[:count]
        assert found == [[b"s", [[b"%d-0" % n, model.entries.get(n)] for n in own]]]
        for n in own:
            if n in model.entries:
                group.pending[n] = (consumer, self.now_ms, group.pending[n][2] + 1)

    @precondition(has_groups)
    @rule(name=names, at=st.lists(places, min_size=1, max_size=8))
    def acknowledge(self, name: bytes, at: list[int]) -> None:
        name, group = self.group(name)
        ids = [max(self.model.last - back, 0) for back in at]
        expected = len({n for n in ids if n in group.pending})
        assert self.local("XACK", KEY, name, *(f"{n}-0" for n in ids)) == expected
        for n in ids:
            group.pending.pop(n, None)

    @precondition(has_groups)
    @rule(
        name=names,
        consumer=consumer_names,
        at=st.lists(places, min_size=1, max_size=6, unique=True),
        idle_ms=st.sampled_from([0, 0, 50]),
        forces=st.booleans(),
    )
    def claim(self, name: bytes, consumer: bytes, at: list[int], idle_ms: int, forces: bool) -> None:
        name, group = self.group(name)
        model = self.model
        ids = list(dict.fromkeys(max(model.last - back, 0) for back in at))
        options = ("FORCE",) if forces else ()
        found = self.local("XCLAIM", KEY, name, consumer, idle_ms, *(f"{n}-0" for n in ids), *options)
        group.consumers[consumer] = None
        claimed = [n for n in ids if self.claim_one(group, n, consumer, idle_ms, forces)]
        assert found == model.shown(claimed)

    def claim_one(self, group: GroupModel, n: int, consumer: bytes, idle_ms: int, forces: bool) -> bool:
        known = group.pending.get(n)
        if n not in self.model.entries:
            group.pending.pop(n, None)
            return False
        if known is None and not forces:
            return False
        if known is not None and idle_ms and self.now_ms - known[1] < idle_ms:
            return False
        group.pending[n] = (consumer, self.now_ms, 2 if known is None else known[2] + 1)
        return True

    @precondition(has_groups)
    @rule(name=names, consumer=consumer_names, back=places, count=counts)
    def claim_idle(self, name: bytes, consumer: bytes, back: int, count: int) -> None:
        name, group = self.group(name)
        model = self.model
        low = max(model.last - back, 0)
        cursor, found, gone = self.local("XAUTOCLAIM", KEY, name, consumer, 0, f"{low}-0", "COUNT", count)
        group.consumers[consumer] = None
        candidates = sorted(n for n in group.pending if n >= low)
        taken, rest = candidates[:count], candidates[count:]
        assert cursor == (b"%d-0" % rest[0] if rest else b"0-0")
        assert gone == [b"%d-0" % n for n in taken if n not in model.entries]
        assert found == model.shown([n for n in taken if self.claim_one(group, n, consumer, 0, False)])

    @precondition(has_groups)
    @rule(name=names, consumer=consumer_names)
    def delete_consumer(self, name: bytes, consumer: bytes) -> None:
        name, group = self.group(name)
        own = [n for n, one in group.pending.items() if one[0] == consumer]
        assert self.local("XGROUP", "DELCONSUMER", KEY, name, consumer) == len(own)
        group.consumers.pop(consumer, None)
        for n in own:
            del group.pending[n]

    @precondition(has_groups)
    @rule(name=names, back=places)
    def set_group_id(self, name: bytes, back: int) -> None:
        name, group = self.group(name)
        group.last = max(self.model.last - back, 0)
        assert self.local("XGROUP", "SETID", KEY, name, f"{group.last}-0") == b"OK"

    @precondition(has_groups)
    @rule(name=names)
    def destroy_group(self, name: bytes) -> None:
        name, _ = self.group(name)
        assert self.local("XGROUP", "DESTROY", KEY, name) == 1
        del self.model.groups[name]

    # -- the whole ---------------------------------------------------------------------------------

    @precondition(exists)
    @rule(how=st.sampled_from(["copy", "rename", "dump", "reload", "let go", "swap"]))
    def move(self, how: str) -> None:
        local = self.local
        if how == "copy":
            local("COPY", KEY, "other")
            local("DEL", KEY)
            local("RENAME", "other", KEY)
        elif how == "rename":
            local("RENAME", KEY, "other")
            local("RENAME", "other", KEY)
        elif how == "dump":
            assert local("RESTORE", KEY, 0, local("DUMP", KEY), "REPLACE") == b"OK"
        elif how == "reload":
            local.reload()
        elif how == "swap":
            local("SWAPDB", 0, 1)
            local("SELECT", 1)
            local("MOVE", KEY, 0)
            local("SELECT", 0)
            local("SWAPDB", 0, 1)
            local("SWAPDB", 0, 1)
        else:
            self.stream.let_go()

    @rule(elapsed_ms=st.sampled_from([1, 30, 2000]))
    def wait(self, elapsed_ms: int) -> None:
        self.local.clock.advance(elapsed_ms)

    @precondition(exists)
    @rule()
    def remove(self) -> None:
        self.local("DEL", KEY)
        self.model = Model()

    @precondition(exists)
    @rule()
    def compare_all(self) -> None:
        if not self.exists():
            assert not self.model.entries
            assert not self.model.groups
            return
        local, model = self.local, self.model
        assert local("XRANGE", KEY, "-", "+") == model.shown(list(model.entries))
        stream = self.stream
        assert (stream.last_id, stream.max_deleted_id) == ((model.last, 0), (model.deleted, 0))
        assert stream.entries_added == model.added
        assert [group[1] for group in local("XINFO", "GROUPS", KEY)] == sorted(model.groups)
        for name, group in model.groups.items():
            known = stream.find_group(name)
            assert known is not None
            assert known.last_id == (group.last, 0)
            found = local("XPENDING", KEY, name, "-", "+", 1000)
            assert found == [
                [b"%d-0" % n, consumer, self.now_ms - at_ms, deliveries]
                for n, (consumer, at_ms, deliveries) in sorted(group.pending.items())
            ]
            owners = [consumer for consumer, _, _ in group.pending.values()]
            consumers = local("XINFO", "CONSUMERS", KEY, name)
            assert [one[1:4:2] for one in consumers] == [
                [consumer, owners.count(consumer)] for consumer in sorted(group.consumers)
            ]

    @invariant()
    def says_how_many(self) -> None:
        if self.exists():
            assert self.local("XLEN", KEY) == len(self.model.entries)
            self.stream.check()


StreamMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestStreams = StreamMachine.TestCase


# -- single stories ----------------------------------------------------------------------------------


def stream_of(local: LocalClient, key: bytes = b"s") -> Stream:
    found = local.client.keyspace.find_typed(key, Stream)
    assert found is not None
    return found


def fill(local: LocalClient, count: int, key: str = "s") -> None:
    for start in range(1, count + 1, 500):
        stop = min(start + 500, count + 1)
        local.pipeline(*(("XADD", key, f"{n}-0", "f", n) for n in range(start, stop)))


def ids_of(reply: Any) -> list[int]:
    return [int(one[0].partition(b"-")[0]) for one in reply]


def test_the_tail_is_bounded(local: LocalClient) -> None:
    fill(local, 5000)
    held = stream_of(local).elements
    assert len(held._tail_keys) <= streamentries.TAIL_ENTRIES_MAX
    assert ids_of(local("XRANGE", "s", 1, 10)) == list(range(1, 11))
    assert ids_of(local("XRANGE", "s", 2900, 3200)) == list(range(2900, 3201))
    assert ids_of(local("XREVRANGE", "s", "+", "-"))[::-1] == list(range(1, 5001))
    for n in range(6000, 6010):
        local("XADD", "s", f"{n}-0", "f", "x" * 300_000)
    assert held.held_bytes() < 3 << 20
    assert local("XLEN", "s") == 5010
    local("XADD", "s", "7000-0", "f", "x" * 2_000_000)
    assert ids_of(local("XREVRANGE", "s", "+", "-", "COUNT", 2)) == [7000, 6009]


def test_a_backlog_is_read_in_stretches(local: LocalClient, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(local, 300)
    for name in ("g", "h"):
        local("XGROUP", "CREATE", "s", name, 0)
    local.reload()
    reads = 0
    read = streamentries.Entries._read

    def count_reads(*args: Any, **options: Any) -> Any:
        nonlocal reads
        reads += 1
        return read(*args, **options)

    monkeypatch.setattr(streamentries.Entries, "_read", count_reads)
    for n in range(1, 301):
        for name in ("g", "h"):
            found = local("XREADGROUP", "GROUP", name, "c", "COUNT", 1, "STREAMS", "s", ">")
            assert ids_of(found[0][1]) == [n]
    assert reads < 200, "two readers of one stream, and blocks of a few entries"
    local("XDEL", "s", "150-0")
    assert local("XRANGE", "s", "150", "150") == []
    stream_of(local).check()


def test_trimming_gives_up_a_range(local: LocalClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamentries, "_TRIMMED_SINGLY", 100)
    fill(local, 1000)
    local.reload()
    assert local("XTRIM", "s", "MAXLEN", 300) == 700
    assert ids_of(local("XRANGE", "s", "-", "+", "COUNT", 3)) == [701, 702, 703]
    local.reload()
    assert local("XTRIM", "s", "MINID", 801) == 100
    assert local("XTRIM", "s", "MAXLEN", 0) == 200
    # Where a range was given up nothing may be written again.
    assert local("XSETID", "s", "5-0") == b"OK"
    assert local("XADD", "s", "6-0", "f", "v") == b"6-0"
    local.reload()
    assert ids_of(local("XRANGE", "s", "-", "+")) == [6]
    assert local("XINFO", "STREAM", "s")[9:12:2] == [b"0-0", 1001]


def test_trimming_through_the_end_of_what_was_there_before(local: LocalClient) -> None:
    """Below the tail nothing is left: the first entry is the tail's."""
    fill(local, 10)
    local.reload()
    for n in range(11, 40):
        assert local("XADD", "s", "MAXLEN", 10, f"{n}-0", "f", "v") == b"%d-0" % n
        assert ids_of(local("XRANGE", "s", "-", "+")) == list(range(n - 9, n + 1))


def test_consumers_get_numbers_that_are_never_used_again(local: LocalClient) -> None:
    fill(local, 30)
    local("XGROUP", "CREATE", "s", "g", 0)
    for _ in range(5):
        local("XREADGROUP", "GROUP", "g", "c", "COUNT", 3, "STREAMS", "s", ">")
        assert local("XGROUP", "DELCONSUMER", "s", "g", "c") == 3
        local.reload()
        assert local("XPENDING", "s", "g")[0] == 0
    group = stream_of(local).find_group(b"g")
    assert group is not None
    assert group.next_consumer == 5


def test_entries_that_were_read_before_are_delivered_again(local: LocalClient) -> None:
    fill(local, 6)
    local("XGROUP", "CREATE", "s", "g", 0)
    local("XREADGROUP", "GROUP", "g", "a", "STREAMS", "s", ">")
    local("XGROUP", "SETID", "s", "g", "3-0")
    local.reload()
    found = local("XREADGROUP", "GROUP", "g", "b", "STREAMS", "s", ">")
    assert ids_of(found[0][1]) == [4, 5, 6]
    assert [(one[0], one[1]) for one in local("XPENDING", "s", "g", "-", "+", 10)] == [
        *((b"%d-0" % n, b"a") for n in (1, 2, 3)),
        *((b"%d-0" % n, b"b") for n in (4, 5, 6)),
    ]


def test_what_is_only_seen_is_written_now_and_then(local: LocalClient) -> None:
    local("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
    read = ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">")
    local(*read)
    local.clock.advance(400)
    local(*read)
    assert not local.server.databases.store.has_changes
    assert local("XINFO", "CONSUMERS", "s", "g")[0][5] == 0, "it is known at once"
    local.reload()
    assert local("XINFO", "CONSUMERS", "s", "g")[0][5] == 400
    local.clock.advance(600)
    local(*read)
    local.reload()
    assert local("XINFO", "CONSUMERS", "s", "g")[0][5] == 0


def test_damage_is_told(local: LocalClient) -> None:
    fill(local, 3)
    local("XGROUP", "CREATE", "s", "g", 0)
    local("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">")
    group = stream_of(local).find_group(b"g")
    assert group is not None
    consumer = group.find(b"c")
    assert consumer is not None
    with pytest.raises(CorruptionError):
        group.decode(b"short")
    with pytest.raises(CorruptionError):
        group.by_number(99)
    with pytest.raises(CorruptionError):
        group._adopt(b"new", b"short")
    groups = stream_of(local).groups
    assert groups is not None
    with pytest.raises(CorruptionError):
        groups._adopt(b"new", b"short")

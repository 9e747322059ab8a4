"""Lists: held in memory, read from the engine, dense and sparse, against a Python list."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import lamina.engine as engine
from harness.databases import TINY
from harness.local import LocalClient
from harness.memory_filesystem import MemoryFileSystem
from lamina.engine import CorruptionError
from lamina.engine.check import assert_consistent
from lamina.server import elements as rules
from lamina.server.encoding import U64
from lamina.server.limits import LIMITS
from lamina.server.store import Store
from lamina.server.types import listediting, listelements, lists
from lamina.server.types.listelements import ListElements
from lamina.server.types.listkeys import MIDDLE, POSITION_SIZE, between, spread
from lamina.server.types.listpacks import packed_size
from lamina.server.types.lists import List

PREFIX = b"\0\0\0\1e\0\0\0\0\0\0\0\1"
values = st.one_of(st.sampled_from([b"a", b"b", b"c", b""]), st.integers(0, 99).map(lambda n: b"%d" % n))
ends = st.booleans()


class ListMachine(RuleBasedStateMachine):
    """Whatever is done in whatever form, a list's elements are those of a Python list."""

    @initialize(size=st.sampled_from([0, 3, 40, 120]), is_loaded=st.booleans())
    def open(self, size: int, is_loaded: bool) -> None:
        self.before = rules.LOADED_AT_ONCE, rules.LOADED_EVER
        if not is_loaded:
            rules.LOADED_AT_ONCE = rules.LOADED_EVER = -1
        self.store = Store(engine.open("/db", fs=MemoryFileSystem(), **TINY))
        # Neighbours below and above: a range that reaches too far finds them.
        for neighbour in (b"\0\0\0\1e\0\0\0\0\0\0\0\0x", b"\0\0\0\1e\0\0\0\0\0\0\0\2x"):
            self.store.put(neighbour, b"not yours", None)
        self.elements = ListElements(self.store, PREFIX, 0)
        self.model: list[bytes] = []
        for n in range(size):
            self.push(b"%d" % n, bool(n % 3))

    def teardown(self) -> None:
        if hasattr(self, "store"):
            rules.LOADED_AT_ONCE, rules.LOADED_EVER = self.before
            self.store.commit()
            self.elements.check()
            assert_consistent(self.store.db)
            self.store.db.close()

    @rule(value=values, left=ends)
    def push(self, value: bytes, left: bool) -> None:
        if left:
            self.elements.push_left(value)
            self.model.insert(0, value)
        else:
            self.elements.push_right(value)
            self.model.append(value)

    @precondition(lambda self: self.model)
    @rule(left=ends)
    def pop(self, left: bool) -> None:
        if left:
            assert self.elements.pop_left() == self.model.pop(0)
        else:
            assert self.elements.pop_right() == self.model.pop()

    @rule(count=st.integers(0, 12), left=ends)
    def pop_many(self, count: int, left: bool) -> None:
        count = min(count, len(self.model))
        expected = [self.model.pop(0 if left else -1) for _ in range(count)]
        assert self.elements.pop_many(count, left=left) == expected
        listediting.settle(self.elements)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), value=values)
    def replace(self, data: st.DataObject, value: bytes) -> None:
        rank = data.draw(st.integers(0, len(self.model) - 1))
        assert self.elements.get(rank) == self.model[rank]
        self.elements.set(rank, value)
        self.model[rank] = value

    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        first = data.draw(st.integers(0, len(self.model)))
        stop = data.draw(st.integers(first, len(self.model)))
        assert self.elements.between(first, stop) == self.model[first:stop]

    @rule(reverse=st.booleans())
    def read_all(self, reverse: bool) -> None:
        found = [value for some in self.elements.chunks(reverse=reverse) for value in some]
        assert found == self.model[:: -1 if reverse else 1]

    @rule(data=st.data(), value=values, after=st.booleans(), times=st.sampled_from([1, 1, 5, 40]))
    def insert(self, data: st.DataObject, value: bytes, after: bool, times: int) -> None:
        pivot = data.draw(st.sampled_from(self.model) if self.model else values)
        for _ in range(times):
            is_there = pivot in self.model
            assert listediting.insert(self.elements, pivot, value, after=after) == is_there
            if is_there:
                self.model.insert(self.model.index(pivot) + after, value)

    @rule(value=values, count=st.integers(-4, 4))
    def remove(self, value: bytes, count: int) -> None:
        ranks = [rank for rank, other in enumerate(self.model) if other == value]
        if count:
            ranks = ranks[:count] if count > 0 else ranks[count:]
        assert listediting.remove(self.elements, value, count) == len(ranks)
        for rank in reversed(ranks):
            del self.model[rank]

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def trim(self, data: st.DataObject) -> None:
        first = data.draw(st.integers(0, min(len(self.model) - 1, 9)))
        stop = data.draw(st.integers(max(first + 1, len(self.model) - 9), len(self.model)))
        listediting.trim(self.elements, first, stop)
        self.model = self.model[first:stop]

    @rule()
    def let_go(self) -> None:
        if self.model:
            self.elements.let_go()

    @rule()
    def commit(self) -> None:
        self.store.commit()
        self.elements.check()

    @precondition(lambda self: self.model)
    @rule()
    def reload(self) -> None:
        old = self.elements
        self.elements = ListElements(self.store, PREFIX, old.size)
        self.elements.head, self.elements.tail = old.head, old.tail
        self.elements.is_dense = old.is_dense


ListMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
test_machine = ListMachine.TestCase


# -- keys ------------------------------------------------------------------------------------------


@given(places=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.booleans()), max_size=300))
def test_there_is_always_room_between_two_keys(places: list[tuple[float, bool]]) -> None:
    keys = [U64.pack(MIDDLE - 1), U64.pack(MIDDLE)]
    last = b""
    for place, leans in places:
        at = int(place * (len(keys) - 1)) + 1
        key = between(keys[at - 1], keys[at], last if leans else b"")
        assert keys[at - 1] < key < keys[at]
        assert len(key) > POSITION_SIZE
        assert key[-1]
        keys.insert(at, key)
        last = key


def test_keys_in_a_hole_have_no_suffix() -> None:
    assert between(U64.pack(4), U64.pack(6), b"") == U64.pack(5)
    assert between(U64.pack(255), U64.pack(257), b"") == U64.pack(256)


@given(low=st.integers(0, 3), gap=st.integers(1, 3), count=st.integers(1, 500))
def test_spread_keys_are_short_and_have_room_between(low: int, gap: int, count: int) -> None:
    keys = spread(U64.pack(low), U64.pack(low + gap), count)
    assert len(keys) == count
    assert keys == sorted(set(keys))
    assert U64.pack(low) < keys[0]
    assert keys[-1] < U64.pack(low + gap)
    assert max(map(len, keys)) <= POSITION_SIZE + 3
    for one, other in pairwise(keys):
        assert len(between(one, other, b"")) <= POSITION_SIZE + 4


def test_keys_for_ten_thousand_inserts_in_a_row_stay_short() -> None:
    for ascends in (True, False):
        low, high, last = U64.pack(1), U64.pack(2), b""
        for _ in range(10_000):
            last = between(low, high, last)
            if ascends:
                low = last
            else:
                high = last
        assert len(last) <= POSITION_SIZE + 12


# -- many inserts ----------------------------------------------------------------------------------


class CountingStore(Store):
    """Counts what is written."""

    writes = 0

    def put(self, key: bytes, value: bytes, existed: bool | None) -> None:
        self.writes += 1
        super().put(key, value, existed)


@pytest.fixture
def store() -> Iterator[CountingStore]:
    store = CountingStore(engine.open("/db", fs=MemoryFileSystem(), **TINY))
    yield store
    store.commit()
    assert_consistent(store.db)
    store.db.close()


def filled(store: Store, size: int) -> tuple[ListElements, list[bytes]]:
    """Return a list of 0, 1, 2... and its model."""
    model = [b"%d" % n for n in range(size)]
    elements = ListElements(store, PREFIX, 0)
    for value in model:
        elements.push_right(value)
    return elements, model


@pytest.fixture(params=["held", "on disk"])
def is_held(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if request.param == "on disk":
        monkeypatch.setattr(rules, "LOADED_AT_ONCE", -1)
        monkeypatch.setattr(rules, "LOADED_EVER", -1)
    return bool(request.param == "held")


@pytest.mark.parametrize("after", [False, True])
def test_a_thousand_inserts_at_one_place_write_one_element_each(
    store: CountingStore, is_held: bool, after: bool
) -> None:
    elements, model = filled(store, 100)
    if not is_held:
        elements.let_go()
    before = store.writes
    for n in range(1000):
        assert listediting.insert(elements, b"50", b"new%d" % n, after=after)
        model.insert(model.index(b"50") + after, b"new%d" % n)
    assert store.writes - before <= 1000
    assert elements.between(0, elements.size) == model
    elements.check()


@pytest.mark.parametrize("count", [1, None])
@pytest.mark.parametrize("size", [1, 10, 200])
def test_what_was_let_go_is_not_loaded_again_soon(store: CountingStore, size: int, count: int | None) -> None:
    """However few the elements are: they may be large."""
    elements, model = filled(store, size)
    elements.let_go()
    touches = next(n for n in range(10_000) if elements.touch(count) is not None)
    assert 150 < touches < 1000
    assert elements.between(0, size) == model


@pytest.mark.parametrize("seed", range(3))
def test_inserts_that_defeat_every_guess_stay_cheap_and_their_keys_short(
    store: CountingStore, is_held: bool, seed: int
) -> None:
    elements, model = filled(store, 100)
    if not is_held:
        elements.let_go()
    chance = random.Random(seed)
    before = store.writes
    pivot, count = b"50", 1500 if is_held else 400
    for n in range(count):
        # Always beside the newest, on a side that cannot be foreseen.
        after = bool(n % 2) if seed == 0 else chance.random() < 0.5
        assert listediting.insert(elements, pivot, b"new%d" % n, after=after)
        model.insert(model.index(pivot) + after, b"new%d" % n)
        pivot = b"new%d" % n
    assert store.writes - before <= 5 * count
    assert elements.between(0, elements.size) == model
    elements.check()


def test_few_elements_are_moved_rather_than_made_sparse(store: CountingStore) -> None:
    elements, model = filled(store, 1000)
    for pivot in (b"3", b"996"):
        assert listediting.insert(elements, pivot, b"x", after=True)
        model.insert(model.index(pivot) + 1, b"x")
    assert elements.is_dense
    assert listediting.remove(elements, b"5", 0) == 1
    assert listediting.remove(elements, b"990", -1) == 1
    model.remove(b"5")
    model.remove(b"990")
    assert elements.is_dense
    assert elements.between(0, 1000) == model
    elements.check()


def test_large_elements_are_not_moved(store: CountingStore) -> None:
    elements, _ = filled(store, 3)
    for _ in range(10):
        elements.push_left(b"L" * 1000)
        elements.push_right(b"L" * 1000)
    before = store.writes
    assert listediting.insert(elements, b"1", b"x", after=True)
    assert listediting.remove(elements, b"0", 0) == 1
    assert store.writes - before == 1
    assert not elements.is_dense
    elements.check()


def test_a_sparse_list_becomes_dense_again_when_it_is_small(store: CountingStore) -> None:
    elements, model = filled(store, 100)
    assert listediting.insert(elements, b"50", b"x", after=True)
    assert listediting.remove(elements, b"40", 0) == 1
    assert (elements.is_dense, elements.size) == (False, 100)
    listediting.trim(elements, 45, 60)
    model.insert(51, b"x")
    model.remove(b"40")
    assert (elements.is_dense, elements.size) == (True, 15)
    assert elements.between(0, 15) == model[45:60]
    elements.check()


# -- queues and holding ----------------------------------------------------------------------------


@pytest.mark.parametrize("left", [True, False])
def test_a_queue_reads_only_the_keys_it_pops(
    store: CountingStore, monkeypatch: pytest.MonkeyPatch, left: bool
) -> None:
    monkeypatch.setattr(rules, "LOADED_EVER", -1)
    elements, model = filled(store, 400)
    elements.let_go()

    def no_scan(*_: object, **__: object) -> None:
        raise AssertionError("a dense list was scanned")

    monkeypatch.setattr(Store, "scan", no_scan)
    monkeypatch.setattr(Store, "chunks", no_scan)
    for _ in range(300):
        assert (elements.pop_left() if left else elements.pop_right()) == model.pop(0 if left else -1)
        store.commit()
        (elements.push_right if left else elements.push_left)(b"again")
        model.insert(len(model) if left else 0, b"again")
    monkeypatch.undo()
    assert elements.between(0, 400) == model


def test_a_queue_gives_back_the_room_at_its_front(store: CountingStore) -> None:
    elements = ListElements(store, PREFIX, 0)
    assert elements.values is not None
    for n in range(20_000):
        elements.push_right(b"%d" % n)
        if n >= 100:
            assert elements.pop_left() == b"%d" % (n - 100)
    assert len(elements.values) < 400
    elements.check()


def test_lists_of_large_values_are_not_loaded(store: CountingStore) -> None:
    elements, _ = filled(store, 20)
    for _ in range(20):
        elements.push_right(b"L" * (listelements.LOADED_BYTES_MAX // 10))
    elements.let_go()
    elements.touch()
    assert elements.values is None
    assert elements.get(0) == b"0"
    assert elements.held_bytes() == 0


def test_held_bytes_follow_what_is_held(store: CountingStore) -> None:
    elements, _ = filled(store, 1000)
    assert 50_000 < elements.held_bytes() < 100_000
    elements.push_right(b"x" * 100_000)
    assert elements.held_bytes() > 150_000
    elements.pop_right()
    assert elements.held_bytes() < 100_000
    elements.let_go()
    assert elements.held_bytes() == 0


def test_a_missing_element_is_corruption(store: CountingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "LOADED_EVER", -1)
    elements, _ = filled(store, 300)
    elements.let_go()
    for position in (MIDDLE, MIDDLE + 7, MIDDLE + 299):
        store.delete(PREFIX + U64.pack(position), True)
    for rank in (0, 7, 299):
        with pytest.raises(CorruptionError):
            elements.get(rank)
    with pytest.raises(CorruptionError):
        elements.pop_left()
    monkeypatch.setattr(rules, "LOADED_AT_ONCE", 1000)
    with pytest.raises(CorruptionError):
        elements.load()


# -- records ---------------------------------------------------------------------------------------


def find(local: LocalClient, key: bytes) -> List:
    record = local.client.keyspace.find(key)
    assert isinstance(record, List)
    return record


def test_records_of_dense_and_sparse_lists_survive_a_reload(local: LocalClient) -> None:
    keyspace = local.client.keyspace
    model = [b"%d" % n for n in range(500)]
    for key in (b"dense", b"sparse"):
        lists.push(keyspace, key, model, left=False)
    sparse = find(local, b"sparse")
    assert lists.insert(keyspace, b"sparse", sparse, b"250", b"x", after=False) == 501
    with_x = model[:250] + [b"x"] + model[250:]
    for _ in range(2):
        local.server.databases.commit()
        local.reload()
        dense, sparse = find(local, b"dense"), find(local, b"sparse")
        assert (dense.elements.is_dense, sparse.elements.is_dense) == (True, False)
        assert lists.between(dense, 0, -1) == model
        assert lists.between(sparse, 0, -1) == with_x
        assert lists.get(sparse, 250) == b"x"


@pytest.mark.parametrize("body", [b"", b"x" * 28, b"x" * 30, b"x" * 38])
def test_records_of_the_wrong_length_are_refused(local: LocalClient, body: bytes) -> None:
    with pytest.raises(ValueError, match="record"):
        List.decode_body(local.client.keyspace, body)


@pytest.mark.parametrize("is_sparse", [False, True])
def test_a_clone_has_elements_of_its_own(local: LocalClient, is_sparse: bool, is_held: bool) -> None:
    keyspace = local.client.keyspace
    lists.push(keyspace, b"a", [b"%d" % n for n in range(300)], left=True)
    if is_sparse:
        lists.insert(keyspace, b"a", find(local, b"a"), b"150", b"x", after=True)
    if not is_held:
        local.server.databases.commit()
        local.reload()
    original = find(local, b"a")
    copy = original.clone(keyspace)
    keyspace.put(b"b", copy)
    local.server.databases.commit()
    expected = lists.between(original, 0, -1)
    assert lists.between(find(local, b"b"), 0, -1) == expected
    keyspace.remove(b"a")
    local.server.databases.commit()
    local.reload()
    assert lists.between(find(local, b"b"), 0, -1) == expected


def test_store_replaces_whatever_there_was(local: LocalClient) -> None:
    keyspace = local.client.keyspace
    keyspace.put(b"k", b"text")
    lists.store(keyspace, b"k", [b"1", b"2"])
    assert list(lists.value_chunks(find(local, b"k"))) == [[b"1", b"2"]]
    lists.store(keyspace, b"k", [])
    assert keyspace.find(b"k") is None


@pytest.mark.parametrize("first", [0, 1, 999, 500])
def test_trimming_most_of_a_list_costs_what_is_kept(
    local: LocalClient, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    keyspace = local.client.keyspace
    lists.push(keyspace, b"k", [b"%d" % n for n in range(1000)], left=False)
    local.server.databases.commit()
    deleted: list[bytes] = []
    monkeypatch.setattr(Store, "delete", lambda self, key, existed: deleted.append(key))
    lists.trim(keyspace, b"k", find(local, b"k"), first, first + 9)
    monkeypatch.undo()
    assert not deleted
    expected = [b"%d" % n for n in range(first, min(first + 10, 1000))]
    for _ in range(2):
        assert lists.between(find(local, b"k"), 0, -1) == expected
        local.server.databases.commit()
        local.reload()


# -- the encoding that is shown --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "size"),
    [
        *((b"0", 2), (b"127", 2), (b"128", 3), (b"-1", 3), (b"4095", 3), (b"-4096", 3), (b"4096", 4)),
        *((b"32767", 4), (b"-32768", 4), (b"32768", 5), (b"8388607", 5), (b"8388608", 6), (b"-8388609", 6)),
        *((b"2147483647", 6), (b"2147483648", 10), (b"9223372036854775807", 10), (b"", 2), (b"a", 3)),
        *((b"01", 4), (b"9223372036854775808", 21), (b"x" * 63, 65), (b"x" * 64, 67), (b"x" * 125, 128)),
        *((b"x" * 126, 130), (b"x" * 4095, 4099), (b"x" * 4096, 4103), (b"x" * 20_000, 20_008)),
        *((b"x" * 16_377, 16_384), (b"x" * 16_378, 16_386)),
    ],
)
def test_sizes_in_a_listpack(value: bytes, size: int) -> None:
    assert packed_size(value) == size


def encoding(local: LocalClient, key: bytes) -> bytes:
    return lists.encoding_name(find(local, key))


@pytest.fixture
def limit() -> Iterator[None]:
    before = LIMITS.list_max_listpack_size
    yield
    LIMITS.list_max_listpack_size = before


@pytest.mark.parametrize(("setting", "limit_bytes"), [(-1, 4096), (-2, 8192), (-3, 16384), (-5, 65536)])
def test_a_listpack_becomes_a_quicklist_by_size(
    local: LocalClient, limit: None, setting: int, limit_bytes: int
) -> None:
    LIMITS.list_max_listpack_size = setting
    keyspace = local.client.keyspace
    total = 7
    while total + 98 <= limit_bytes:
        lists.push(keyspace, b"k", [b"x" * 98], left=True)
        total += 101
        assert encoding(local, b"k") == b"listpack"
        local.server.databases.commit()
    lists.push(keyspace, b"k", [b"x" * 98], left=True)
    assert encoding(local, b"k") == b"quicklist"
    # Half of it makes it a listpack again, also where it has been reloaded on the way.
    total += 101
    local.server.databases.commit()
    local.reload()
    while total > limit_bytes // 2:
        assert encoding(local, b"k") == b"quicklist"
        lists.pop(keyspace, b"k", find(local, b"k"), left=False)
        total -= 101
    assert encoding(local, b"k") == b"listpack"


def test_a_listpack_becomes_a_quicklist_by_count(local: LocalClient, limit: None) -> None:
    LIMITS.list_max_listpack_size = 6
    keyspace = local.client.keyspace
    lists.push(keyspace, b"k", [b"x"] * 6, left=True)
    assert encoding(local, b"k") == b"listpack"
    lists.push(keyspace, b"k", [b"x"], left=False)
    assert encoding(local, b"k") == b"quicklist"
    lists.pop_many(keyspace, b"k", find(local, b"k"), 3, left=False)
    assert encoding(local, b"k") == b"quicklist"
    lists.trim(keyspace, b"k", find(local, b"k"), 1, -1)
    assert encoding(local, b"k") == b"listpack"
    lists.push(keyspace, b"large", [b"x" * 9000], left=True)
    assert encoding(local, b"large") == b"quicklist"


def test_every_change_keeps_the_packed_size(local: LocalClient) -> None:
    chance = random.Random(7)
    keyspace = local.client.keyspace
    texts = [b"5", b"-77", b"70000", b"text", b"x" * 70, b"y" * 200, b""]

    def some() -> list[bytes]:
        return chance.choices(texts, k=chance.randint(1, 5))

    lists.push(keyspace, b"k", some(), left=True)
    for step in range(600):
        record = find(local, b"k")
        match chance.randrange(8):
            case 0 | 1 | 2:
                lists.push(keyspace, b"k", some(), left=chance.random() < 0.5)
            case 3:
                lists.insert(keyspace, b"k", record, *chance.sample(texts, 2), after=chance.random() < 0.5)
            case 4 if record.size > 8:
                lists.remove(keyspace, b"k", record, chance.choice(texts), chance.randint(-2, 2) or 1)
            case 5:
                lists.replace(keyspace, b"k", record, chance.randrange(record.size), chance.choice(texts))
            case 6 if record.size > 12:
                lists.trim(keyspace, b"k", record, chance.randrange(4), -chance.randint(1, 4))
            case 7 if record.size > 6:
                lists.pop_many(keyspace, b"k", record, chance.randint(1, 5), left=chance.random() < 0.5)
        if step % 10 == 0:
            local.server.databases.commit()
            local.reload()
        record = find(local, b"k")
        assert record.packed_bytes == 7 + sum(map(packed_size, lists.between(record, 0, -1)))

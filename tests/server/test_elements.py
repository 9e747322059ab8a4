"""Elements: an ordered map, held in memory or read from the engine, against a sorted dict."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import lamina.engine as engine
from harness.databases import TINY
from harness.memory_filesystem import MemoryFileSystem
from lamina.engine.check import assert_consistent
from lamina.server.elements import LOADED_AT_ONCE, LOADED_BYTES_MAX, LOADED_EVER, Elements
from lamina.server.store import Store

PREFIX = b"\0\0\0\1e\0\0\0\0\0\0\0\1"
names = st.one_of(
    st.binary(max_size=2), st.integers(0, 60).map(lambda n: b"element-%03d" % n), st.just(b"\xff\xff")
)
values = st.binary(max_size=6)
bounds = st.one_of(st.none(), names)


class ElementsMachine(RuleBasedStateMachine):
    """Whatever is done in whatever form, elements answer what a dict answers."""

    @initialize()
    def open(self) -> None:
        self.store = Store(engine.open("/db", fs=MemoryFileSystem(), **TINY))
        # Neighbours below and above: a range that reaches too far finds them.
        for neighbour in (b"\0\0\0\1e\0\0\0\0\0\0\0\0x", b"\0\0\0\1e\0\0\0\0\0\0\0\2x"):
            self.store.put(neighbour, b"not yours", None)
        self.elements = Elements(self.store, PREFIX, 0)
        self.model: dict[bytes, bytes] = {}

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.commit()
            self.elements.check()
            self.store.commit()
            assert_consistent(self.store.db)
            self.store.db.close()

    def ordered(self) -> list[tuple[bytes, bytes]]:
        return sorted(self.model.items())

    @rule(element=names, value=values)
    def put(self, element: bytes, value: bytes) -> None:
        assert self.elements.put(element, value) == (element not in self.model)
        self.model[element] = value

    @rule(element=names)
    def remove(self, element: bytes) -> None:
        assert self.elements.remove(element) == self.model.pop(element, None)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove_one_that_is_there(self, data: st.DataObject) -> None:
        element = data.draw(st.sampled_from(sorted(self.model)))
        assert self.elements.remove(element) == self.model.pop(element)

    @rule(elements=st.lists(names, max_size=5))
    def get(self, elements: list[bytes]) -> None:
        assert self.elements.get_many(elements) == [self.model.get(element) for element in elements]
        for element in elements:
            assert self.elements.get(element) == self.model.get(element)
            assert (element in self.elements) == (element in self.model)

    @rule(start=names, stop=bounds, reverse=st.booleans())
    def scan(self, start: bytes, stop: bytes | None, reverse: bool) -> None:
        expected = [(e, v) for e, v in self.ordered() if start <= e and (stop is None or e < stop)]
        assert list(self.elements.scan(start, stop, reverse=reverse)) == expected[:: -1 if reverse else 1]
        assert self.elements.count(start, stop) == len(expected)

    @rule(first=st.integers(0, 70), length=st.integers(0, 70), reverse=st.booleans())
    def positions(self, first: int, length: int, reverse: bool) -> None:
        ordered = self.ordered()[:: -1 if reverse else 1]
        assert (
            self.elements.between(first, first + length, reverse=reverse) == ordered[first : first + length]
        )
        assert self.elements.at(first) == (self.ordered()[first] if first < len(ordered) else None)

    @rule()
    def everything(self) -> None:
        assert sorted(self.elements.keys()) == sorted(self.model)
        assert dict(self.elements.items()) == self.model
        assert self.elements.values() == [value for _, value in self.elements.items()]

    @rule(count=st.integers(0, 80))
    def draw(self, count: int) -> None:
        one = self.elements.draw()
        assert one is None if not self.model else one is not None and self.model[one[0]] == one[1]
        several = self.elements.draw_many(count, distinct=True)
        assert len(dict(several)) == len(several) == min(count, len(self.model))
        assert set(several) <= set(self.model.items())
        repeated = self.elements.draw_many(count, distinct=False)
        assert len(repeated) == (count if self.model else 0)
        assert set(repeated) <= set(self.model.items())

    @rule()
    def commit(self) -> None:
        self.store.commit()

    @rule()
    def stage(self) -> None:
        self.store.stage()

    @rule()
    def let_go(self) -> None:
        self.elements.let_go()

    @rule()
    def load(self) -> None:
        self.elements.load()

    @rule()
    def forget_everything(self) -> None:
        self.store.commit()
        self.elements = Elements(self.store, PREFIX, len(self.model))
        if not self.model:
            assert self.elements.held == {}

    @invariant()
    def size_is_right(self) -> None:
        if hasattr(self, "model"):
            assert self.elements.size == len(self.elements) == len(self.model)
            assert self.elements.held_bytes() >= 0


TestElements = ElementsMachine.TestCase
TestElements.settings = settings(max_examples=60, stateful_step_count=40)


class UnheldElements(Elements):
    """Elements that are only loaded when told to."""

    __slots__ = ()

    def touch(self) -> dict[bytes, bytes] | None:
        return self.held


class UnheldMachine(ElementsMachine):
    """The same, with elements that are read from the engine whenever they can be."""

    @initialize()
    def open(self) -> None:
        super().open()
        self.forget_everything()

    @rule()
    def forget_everything(self) -> None:
        self.store.commit()
        self.elements = UnheldElements(self.store, PREFIX, len(self.model))
        self.elements.held = None


TestUnheld = UnheldMachine.TestCase
TestUnheld.settings = settings(max_examples=60, stateful_step_count=40)


@pytest.fixture
def make_elements(open_db: Callable[..., Any]) -> Callable[[int], Elements]:
    """Make a collection of so many elements that lies on disk."""

    def make(size: int) -> Elements:
        store = Store(open_db(memtable_size_bytes=1 << 20))
        elements = Elements(store, PREFIX, 0)
        for n in range(size):
            elements.put(b"%06d" % n, b"v")
        store.commit()
        return Elements(store, PREFIX, size)

    return make


def test_a_small_collection_is_loaded_at_once(make_elements: Callable[[int], Elements]) -> None:
    elements = make_elements(LOADED_AT_ONCE)
    assert elements.held is None
    assert elements.get(b"000007") == b"v"
    assert elements.held is not None


def test_a_middling_one_is_loaded_when_that_has_been_earned(
    make_elements: Callable[[int], Elements],
) -> None:
    elements = make_elements(4000)
    accesses = 0
    while elements.held is None:
        assert elements.get(b"%06d" % accesses) == b"v"
        accesses += 1
    assert 20 < accesses < 400


def test_a_large_one_is_never_loaded(make_elements: Callable[[int], Elements]) -> None:
    elements = make_elements(LOADED_EVER + 1)
    for n in range(1000):
        assert elements.get(b"%06d" % n) == b"v"
    assert elements.held is None


def test_one_with_large_values_is_not_loaded_however_few_they_are(
    make_elements: Callable[[int], Elements],
) -> None:
    elements = make_elements(3)
    for n in range(3):
        elements.put(b"%06d" % n, bytes(LOADED_BYTES_MAX // 2))
    elements.store.commit()
    elements = Elements(elements.store, PREFIX, 3)
    for _ in range(3):
        assert elements.get(b"000001") == bytes(LOADED_BYTES_MAX // 2)
    assert elements.held is None


def test_held_bytes_grow_with_elements_and_with_their_values(
    make_elements: Callable[[int], Elements],
) -> None:
    elements = make_elements(100)
    elements.load()
    small = elements.held_bytes()
    elements.put(b"000001", bytes(100_000))
    assert elements.held_bytes() > small + 90_000
    for n in range(1000):
        elements.put(b"more-%d" % n, b"")
    assert elements.held_bytes() > small + 90_000 + 100_000
    elements.let_go()
    assert elements.held_bytes() == 0


@pytest.mark.parametrize("size", [1, 10, 31, 32, 1000])
def test_what_was_let_go_is_not_loaded_again_soon(
    make_elements: Callable[[int], Elements], size: int
) -> None:
    """However few the elements are: they may be large."""
    elements = make_elements(size)
    elements.store.commit()
    elements.load()
    assert elements.held is not None
    elements.let_go()
    touches = next(n for n in range(10_000) if elements.touch() is not None)
    assert 500 < touches < 1000


@pytest.mark.parametrize("size", [10, 1000])
def test_dropping_removes_everything_whatever_the_size(
    make_elements: Callable[[int], Elements], size: int
) -> None:
    elements = make_elements(size)
    store = elements.store
    elements.put(b"pending", b"")
    elements.drop()
    assert elements.size == 0
    store.commit()
    assert list(store.scan_prefix(PREFIX)) == []
    assert store.db.count() == 0


def test_draws_are_uniform(make_elements: Callable[[int], Elements]) -> None:
    random.seed(11)
    for held in (False, True):
        elements = make_elements(10)
        elements.held = {} if held else None
        if held:
            elements.load()
        counts: dict[bytes, int] = {}
        for _ in range(2000):
            drawn = elements.draw()
            assert drawn is not None
            counts[drawn[0]] = counts.get(drawn[0], 0) + 1
        assert len(counts) == 10
        assert max(counts.values()) < 300

"""The block cache: CLOCK with a second chance, bounded in bytes, exact in its accounts."""

from __future__ import annotations

import threading
import weakref
from random import Random

import pytest

from lamina.engine.cache import Cache, Cached


class Leaf(Cached):
    """What a block is to the cache."""


class Branch(Cached):
    """What an index part is to the cache: it has slots of its own."""

    def __init__(self, slots: int) -> None:
        super().__init__()
        self.slots: list[Leaf | None] = [None] * slots

    def children(self) -> list[Leaf | None]:
        return self.slots


def fill(cache: Cache, slots: list[Leaf | None], size_bytes: int = 10) -> None:
    for slot in range(len(slots)):
        cache.insert(slots, slot, Leaf(), size_bytes)


def held(slots: list[Leaf | None]) -> list[int]:
    return [slot for slot, leaf in enumerate(slots) if leaf is not None]


def test_the_oldest_unused_goes_first() -> None:
    cache = Cache(100)
    slots: list[Leaf | None] = [None] * 14
    fill(cache, slots)
    assert held(slots) == list(range(4, 14))
    assert (cache.size_bytes, cache.evictions, cache.misses) == (100, 4, 14)
    cache.check()


def test_what_was_used_gets_a_second_chance_and_no_third() -> None:
    cache = Cache(100)
    slots: list[Leaf | None] = [None] * 10
    fill(cache, slots)
    for slot in (0, 1, 5):
        leaf = slots[slot]
        assert leaf is not None
        leaf.used = 1
    more: list[Leaf | None] = [None] * 7
    fill(cache, more)
    assert held(slots) == [0, 1, 5]
    assert held(more) == list(range(7))
    cache.check()
    again: list[Leaf | None] = [None] * 3
    fill(cache, again)
    # The hand comes by in the order in which it left them: the first of `more`, then 0 and 1, then 5.
    assert held(slots) == [5]
    assert held(more) == list(range(1, 7))


def test_a_large_entry_is_not_kept() -> None:
    cache = Cache(800)
    slots: list[Leaf | None] = [None] * 2
    cache.insert(slots, 0, Leaf(), 101)
    cache.insert(slots, 1, Leaf(), 100)
    assert held(slots) == [1]
    assert cache.size_bytes == 100


@pytest.mark.parametrize("limit", [0, -5])
def test_a_cache_of_nothing_keeps_nothing(limit: int) -> None:
    cache = Cache(limit)
    slots: list[Leaf | None] = [None] * 3
    fill(cache, slots)
    assert held(slots) == []
    assert cache.size_bytes == 0
    cache.check()


def test_the_first_to_fill_a_slot_wins() -> None:
    cache = Cache(100)
    slots: list[Leaf | None] = [None]
    first = Leaf()
    cache.insert(slots, 0, first, 10)
    cache.insert(slots, 0, Leaf(), 10)
    assert slots[0] is first
    assert cache.size_bytes == 10
    cache.check()


def test_growth_counts_until_the_entry_is_gone() -> None:
    cache = Cache(100)
    slots: list[Leaf | None] = [None] * 2
    leaf = Leaf()
    cache.insert(slots, 0, leaf, 10)
    cache.grow(leaf, 7)
    assert cache.size_bytes == 17
    cache.forget(slots)
    assert cache.size_bytes == 0
    cache.grow(leaf, 50)
    assert cache.size_bytes == 0
    cache.check()


def test_a_lower_limit_takes_effect_with_trim() -> None:
    cache = Cache(200)
    slots: list[Leaf | None] = [None] * 10
    fill(cache, slots)
    cache.limit_bytes = 35
    cache.trim()
    assert held(slots) == [7, 8, 9]
    cache.check()


def test_children_go_with_their_parent() -> None:
    cache = Cache(1000)
    roots: list[Branch | None] = [None]
    branch = Branch(5)
    cache.insert(roots, 0, branch, 20)
    fill(cache, branch.slots)
    assert cache.size_bytes == 70
    cache.forget(roots)
    assert roots == [None]
    assert held(branch.slots) == []
    assert cache.size_bytes == 0
    cache.check()


def test_an_entry_put_into_a_parent_that_is_gone_is_evicted_in_its_turn() -> None:
    """A reader may hold an index part that has just been evicted, and cache a block in it."""
    cache = Cache(200)
    roots: list[Branch | None] = [None]
    branch = Branch(1)
    cache.insert(roots, 0, branch, 20)
    cache.forget(roots)
    cache.insert(branch.slots, 0, Leaf(), 20)
    cache.check()
    fill(cache, [None] * 20)
    assert held(branch.slots) == []
    cache.check()


def test_accounts_stay_right_under_threads() -> None:
    cache = Cache(20_000)
    roots: list[Branch | None] = [None] * 20
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        random = Random(seed)
        try:
            for _ in range(4000):
                slot = random.randrange(len(roots))
                branch = roots[slot]
                if branch is None:
                    branch = Branch(10)
                    cache.insert(roots, slot, branch, 200)
                branch.used = 1
                at = random.randrange(10)
                leaf = branch.slots[at]
                if leaf is None:
                    cache.insert(branch.slots, at, Leaf(), random.randrange(1, 300))
                else:
                    leaf.used = 1
                    if random.random() < 0.1:
                        cache.grow(leaf, 50)
                if random.random() < 0.01:
                    cache.forget(branch.slots)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    cache.trim()
    cache.check()
    cache.forget(roots)
    cache.limit_bytes = 0
    cache.trim()
    assert cache.size_bytes == 0


def test_what_is_forgotten_is_let_go_although_the_hand_never_moves() -> None:
    """Compactions replace segments while the cache is far from full: its ring must not hold their parts."""
    cache = Cache(1 << 30)
    gone: list[weakref.ref[Cached]] = []
    for _ in range(50):
        container: list[Cached | None] = [None] * 20
        for slot in range(20):
            entry = Weak()
            gone.append(weakref.ref(entry))
            cache.insert(container, slot, entry, 100)
        del entry
        cache.forget(container)
        cache.check()
    assert sum(reference() is not None for reference in gone) <= 20


class Weak(Cached):
    """An entry that can be referred to weakly."""

    __slots__ = ("__weakref__",)

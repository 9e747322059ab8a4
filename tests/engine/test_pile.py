"""Piles of keys against a sorted list: whatever is asked in whatever order, the answers are the list's."""

from __future__ import annotations

from random import Random

import pytest

from harness.piles import shrink_piles
from lamina.engine.pile import KeyPile

ALPHABETS = (b"ab", b"\x00\x01", b"\xff\xfe", bytes(range(256)))


class Model:
    """A pile and the list that says what it holds."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.alphabet = random.choice(ALPHABETS)
        self.width = random.choice((1, 2, 3, 8))
        self.pile = KeyPile()
        self.keys: list[bytes] = []

    def key(self) -> bytes:
        random = self.random
        return bytes(random.choice(self.alphabet) for _ in range(random.randrange(self.width + 1)))

    def add(self) -> None:
        new = [self.key() for _ in range(self.random.choice((1, 3, 50, 300)))]
        self.pile.new += new
        self.keys += new
        if self.random.random() < 0.3:
            self.pile.deal()

    def remove(self) -> None:
        start, stop = sorted((self.key(), self.key()))
        self.pile.remove_between(start, stop)
        self.keys = [key for key in self.keys if not start <= key < stop]

    def look(self) -> None:
        random, pile = self.random, self.pile
        start, stop = sorted((self.key(), self.key()))
        start = start if random.random() < 0.7 else b""
        bound = stop if random.random() < 0.7 else None
        inside = sorted(key for key in self.keys if key >= start and (bound is None or key < bound))
        size = random.choice((1, 5, 40))
        match random.randrange(4):
            case 0:
                assert pile.count(start, bound) == len(inside)
            case 1:
                assert pile.first(start, bound, size) == inside[:size]
            case 2:
                assert pile.last(start, bound, size) == inside[-size:]
            case 3:
                middle = pile.middle(start, bound, random.choice((-0.2, 0, 0.3, 0.5, 1, 1.4)))
                inside = [key for key in inside if key > start]
                assert middle in inside if inside else middle is None

    def check(self) -> None:
        self.pile.check()
        assert len(self.pile) == len(self.keys)
        assert sorted(self.pile.keys()) == sorted(self.keys)


@pytest.mark.parametrize("small", [8, 16, 64])
@pytest.mark.parametrize("seed", range(20))
def test_against_a_list(seed: int, small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = Random(seed)
    shrink_piles(monkeypatch, small=small, samples=random.choice((2, 3, 7)))
    model = Model(random)
    for _ in range(150):
        random.choices((model.add, model.look, model.remove), (40, 55, 5))[0]()
        model.check()


def test_a_first_look_leaves_what_it_is_not_about_unsorted() -> None:
    random = Random(1)
    pile = KeyPile()
    keys = [random.randbytes(8) for _ in range(100_000)]
    pile.new += keys
    ordered = sorted(keys)
    assert pile.first(ordered[5000], None, 30) == ordered[5000:5030]
    is_sorted = dict(zip(map(len, pile._parts), pile._is_sorted, strict=True))
    assert sum(size for size, done in is_sorted.items() if done) < 20_000
    assert pile.first(ordered[5000], None, 30) == ordered[5000:5030]  # and finds it again


def test_looks_that_advance_do_not_pass_over_the_rest_each_time() -> None:
    random = Random(2)
    pile = KeyPile()
    pile.new += [random.randbytes(8) for _ in range(100_000)]
    ordered = sorted(pile.keys())
    passed = 0
    split = pile._split
    parts = pile._parts

    def counting(i: int, bound: bytes) -> None:
        nonlocal passed
        passed += len(parts[i])
        split(i, bound)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KeyPile, "_split", lambda self, i, bound: counting(i, bound))
        for at in range(0, 100_000, 100):
            assert pile.count(ordered[at], ordered[at + 50]) == 50
    assert passed < 30 * len(ordered)  # a thousand passes would be 1000 times


def test_a_bound_that_is_asked_for_again_needs_no_pass() -> None:
    pile = KeyPile()
    pile.new += [b"k%06d" % (number * 7919 % 50_000) for number in range(50_000)]
    assert pile.count(b"k", b"l") == 50_000
    assert pile.count(b"k", b"l") == 50_000
    assert pile._is_sorted.count(False) == 1  # one part, between the bounds, as it was


@pytest.mark.parametrize("copies", [10, 20_000])
def test_one_key_many_times(copies: int) -> None:
    pile = KeyPile()
    pile.new += [b"a", *[b"b"] * copies, b"c"]
    assert pile.count(b"b", b"b\x00") == copies
    assert pile.first(b"b", None, copies + 5) == [b"b"] * copies + [b"c"]
    assert pile.last(b"", b"c", 2) == [b"b"] * 2
    assert pile.middle(b"a", b"c", 0.5) == b"b"
    pile.remove_between(b"b", b"c")
    assert sorted(pile.keys()) == [b"a", b"c"]
    pile.check()


def test_what_comes_later_is_dealt_out() -> None:
    random = Random(3)
    pile = KeyPile()
    pile.new += [random.randbytes(8) for _ in range(20_000)]
    keys = sorted(pile.keys())
    assert pile.first(b"", None, 20_000) == keys
    parts = len(pile._parts)
    assert parts > 2
    for count in (1, 8, 9, 5000):
        more = [random.randbytes(8) for _ in range(count)]
        pile.new += more
        keys = sorted(keys + more)
        pile.deal()
        assert not pile.new
        pile.check()
        assert pile.count(b"", keys[7]) == 7
        assert pile.first(keys[500], None, 1000) == keys[500:1500]


def test_a_sorted_part_that_grows_key_by_key_is_halved() -> None:
    random = Random(4)
    pile = KeyPile()
    for _ in range(20_000):
        pile.new.append(random.randbytes(6))
        pile.first(b"", None, 1)
    assert max(map(len, pile._parts)) <= 2 * 4096
    assert len(pile._parts) > 2
    pile.check()


def test_clear_keeps_the_list_that_writers_have() -> None:
    pile = KeyPile()
    new = pile.new
    new += [b"b", b"a"]
    assert pile.count(b"", None) == 2
    pile.clear()
    assert len(pile) == 0
    new.append(b"c")
    assert pile.first(b"", None, 5) == [b"c"]

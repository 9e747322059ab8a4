"""The memtable against a model: what it holds, in order, and what it adds to the number of live keys."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from random import Random

import pytest

from harness.trees import memtable
from lamina.engine.entry import DELETE, INSERT, REMOVE, REPLACE, is_live
from lamina.engine.memtable import ABSENT, Memtable

KEYS = [b"k%02d" % number for number in range(40)]


class Model:
    """A memtable over older layers in which the keys of `below` are live."""

    def __init__(self, below: set[bytes], *, counted: bool = True) -> None:
        self.below = below
        self.counted = counted
        self.state: dict[bytes, bytes | None] = {}
        self.table = Memtable(counted=counted, lock=threading.Lock())

    def exists(self, key: bytes) -> bool:
        return self.state[key] is not None if key in self.state else key in self.below

    def write(self, items: dict[bytes, bytes | None]) -> None:
        keys: list[bytes] = []
        values: list[bytes] = []
        kinds = bytearray()
        for key, value in items.items():
            if self.counted and value is None and not self.exists(key):
                continue
            keys.append(key)
            values.append(value or b"")
            if not self.counted:
                kinds.append(DELETE if value is None else REPLACE)
            elif value is None:
                kinds.append(REMOVE)
            else:
                kinds.append(REPLACE if self.exists(key) else INSERT)
            if self.counted and value is None and key not in self.below:
                self.state.pop(key, None)
            else:
                self.state[key] = value
        self.table.apply(keys, values, bytes(kinds))

    def delta(self, start: bytes, stop: bytes | None) -> int:
        keys = [key for key in self.state if key >= start and (stop is None or key < stop)]
        return sum((self.state[key] is not None) - (key in self.below) for key in keys)

    def check(self, random: Random) -> None:
        table, state = self.table, self.state
        table.check()
        assert len(table) == len(state)
        for key in KEYS:
            assert table.find(key) == state.get(key, ABSENT)
        start, stop = sorted(random.choices(KEYS, k=2))
        bounds: list[tuple[bytes, bytes | None]] = [(b"", None), (start, stop), (start, None), (b"", stop)]
        for low, high in bounds:
            expected = [(k, state[k]) for k in sorted(state) if k >= low and (high is None or k < high)]
            assert flat(table.chunks(low, high)) == expected
            assert flat(table.chunks_reversed(low, high), reverse=True) == expected
            if self.counted:
                assert table.delta_between(low, high) == self.delta(low, high)
            middle = table.middle(low, high, 0.5)
            inside = [key for key, _ in expected if key > low]
            if inside:
                assert middle in inside
                assert abs(inside.index(middle) - len(inside) // 2) <= 1
            else:
                assert middle is None

    def check_columns(self) -> None:
        keys, values, kinds = self.table.columns()
        assert keys == sorted(self.state)
        assert values == [self.state[key] or b"" for key in keys]
        for key, kind in zip(keys, kinds, strict=True):
            value = self.state[key]
            assert is_live(kind) == (value is not None)
            if self.counted:
                assert kind == (REMOVE if value is None else REPLACE if key in self.below else INSERT)
            else:
                assert kind == (DELETE if value is None else REPLACE)


def flat(
    chunks: Iterator[tuple[list[bytes], list[bytes | None]]], *, reverse: bool = False
) -> list[tuple[bytes, bytes | None]]:
    found = [list(zip(keys, values, strict=True)) for keys, values in chunks]
    return [entry for chunk in (reversed(found) if reverse else found) for entry in chunk]


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("seed", range(15))
def test_against_a_model(seed: int, counted: bool) -> None:
    random = Random(seed)
    model = Model(set(random.sample(KEYS, 15)), counted=counted)
    for _ in range(60):
        # Small changes after a look are sorted in, large ones have the order built anew.
        count = random.choice((1, 1, 2, 30))
        model.write(
            {
                key: None if random.random() < 0.4 else b"%d" % random.randrange(1000)
                for key in random.sample(KEYS, count)
            }
        )
        if random.random() < 0.5:
            model.check(random)
    model.check(random)
    model.check_columns()


def test_all_inserts_take_the_short_way() -> None:
    model = Model(set())
    model.write(dict.fromkeys(KEYS, b"v"))
    model.check_columns()
    model.write(dict.fromkeys(KEYS, None))
    assert model.table.is_empty
    assert len(model.table) == 0


def test_a_key_removed_from_an_older_layer_and_put_again_replaces() -> None:
    table = memtable([(b"a", REMOVE, b"")])
    assert table.delta_between(b"", None) == -1
    table.apply([b"a"], [b"new"], bytes((INSERT,)))
    assert table.columns() == ([b"a"], [b"new"], bytes((REPLACE,)))
    assert table.delta_between(b"", None) == 0
    table.check()


def test_size_grows_with_every_write() -> None:
    table = memtable([(b"a", INSERT, b"value")])
    once = table.size_bytes
    assert once > len(b"a" + b"value")
    table.apply([b"a"], [b"value"], bytes((REPLACE,)))
    # An overwritten value takes its room in the log all the same, and no memory.
    assert table.size_bytes == once + len(b"a" + b"value")
    assert table.written_bytes == 2 * len(b"a" + b"value")


def test_discards_alone_are_worth_a_flush() -> None:
    table = memtable([])
    assert table.is_empty
    table.discards.append((b"a", b"b"))
    assert not table.is_empty


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_goes_on_while_keys_come_and_go(reverse: bool) -> None:
    """Keys that stay are seen once each, whatever happens around them."""
    stay = [b"%06d" % number for number in range(0, 20_000, 2)]
    table = memtable([(key, INSERT, b"stays") for key in stay])
    random = Random(5)
    seen: list[bytes] = []
    guests: set[bytes] = set()
    for keys, values in (table.chunks_reversed if reverse else table.chunks)(b"", None):
        assert keys == sorted(keys)
        seen += reversed(keys) if reverse else keys
        assert all(value == (b"stays" if key in table.inserted and key not in guests else b"guest")
                   for key, value in zip(keys, values, strict=True))  # fmt: skip
        for _ in range(50):
            key = b"%06d" % (2 * random.randrange(10_000) + 1)
            if key in guests:
                guests.remove(key)
                table.apply([key], [b""], bytes((REMOVE,)))
            else:
                guests.add(key)
                table.apply([key], [b"guest"], bytes((INSERT,)))
    assert seen == sorted(seen, reverse=reverse)
    assert len(seen) == len(set(seen))
    assert [key for key in sorted(seen) if int(key) % 2 == 0] == stay

"""The memtable against a model: what it holds, in order, and what it adds to the number of live keys."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from random import Random

import pytest

from harness.databases import OpenDb
from harness.piles import shrink_piles
from harness.trees import memtable
from lamina.engine.entry import DELETE, INSERT, REMOVE, REPLACE, is_live
from lamina.engine.memtable import ABSENT, IN_INSERTED, NOWHERE, REMOVED, Memtable

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
                assert middle is not None
            # A key that has come and gone divides a range as well as any.
            assert middle is None or (low < middle and (high is None or middle < high))

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
def test_against_a_model(seed: int, counted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    random = Random(seed)
    if seed % 3:
        shrink_piles(monkeypatch, small=random.choice((4, 8, 16)))
    model = Model(set(random.sample(KEYS, 15)), counted=counted)
    for _ in range(60):
        # Small changes after a look are inserted, larger ones sorted in.
        count = random.choice((1, 1, 2, 30))
        model.write(
            {
                key: None if random.random() < 0.4 else b"%d" % random.randrange(1000)
                for key in random.sample(KEYS, count)
            }
        )
        if random.random() < 0.1:
            model.table.forget_order()
        if random.random() < 0.5:
            model.check(random)
    model.check(random)
    model.check_columns()


@pytest.mark.parametrize("reverse", [False, True])
def test_who_takes_from_the_front_of_a_queue_does_not_pass_what_others_took(reverse: bool) -> None:
    table = Memtable(counted=True, lock=threading.Lock())
    names = [b"%06d" % number for number in range(30_000)]
    table.apply(names, [b""] * len(names), bytes((INSERT,)) * len(names))
    chunks = table.chunks_reversed if reverse else table.chunks
    for name in reversed(names) if reverse else names:
        keys, _ = next(chunks(b"", None))
        assert name == (keys[-1] if reverse else keys[0])
        table.apply([name], [b""], bytes((REMOVE,)))
        if name.endswith(b"999"):
            table.check()
            # What is gone is forgotten, some neighbours at a time.
            assert len(table._piles[0]) - len(table) < 100
    assert next(chunks(b"", None), None) is None
    assert table.delta_between(b"", None) == 0


@pytest.mark.parametrize("looks", [False, True])
def test_keys_that_come_and_go_for_ever_take_no_memory(looks: bool) -> None:
    table = Memtable(counted=True, lock=threading.Lock())
    for _ in range(300_000):
        table.store({b"k": b"v"}, bytes((NOWHERE,)), 2)
        table.store({b"k": None}, bytes((IN_INSERTED + REMOVED,)), 1)
        if looks and not len(table.came) % 1000:
            assert table.delta_between(b"", None) == 0
    assert sum(map(len, table._piles)) < 200_000
    table.check()
    assert table.delta_between(b"", None) == 0
    table.store({b"k": b"v"}, bytes((NOWHERE,)), 2)
    assert table.delta_between(b"k", b"l") == 1
    assert flat(table.chunks(b"", None)) == [(b"k", b"v")]


@pytest.mark.parametrize("counted", [True, False])
def test_writers_deal_out_what_they_note_once_ranges_are_read(
    counted: bool, monkeypatch: pytest.MonkeyPatch, open_db: OpenDb
) -> None:
    shrink_piles(monkeypatch)
    db = open_db(counted=counted, memtable_size_bytes=1 << 20)
    random = Random(1)
    table = db._memtable
    for number in range(3000):
        key = b"%06d" % random.randrange(10**6)
        if number % 2:
            db.put(key, b"")
        else:
            with db.batch() as batch:
                batch.put(key, b"")
        if number == 500:
            assert db.count() == len(table)
        if number > 500:
            assert len(table.came) + len(table.touched) <= 21
    assert [key for key, _ in db.scan()] == sorted([*table.inserted, *table.based])


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

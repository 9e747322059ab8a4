"""A view of several layers against a model: lookups, scans, counts and positions."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from random import Random

import pytest

from harness.trees import Entry, Workshop, live, memtable, random_history
from lamina.engine.discards import Discards
from lamina.engine.entry import INSERT, REMOVE, is_live
from lamina.engine.layers import View
from lamina.engine.levels import Levels
from lamina.engine.memtable import Memtable
from lamina.engine.run import Run

KEYS = [b"k%03d" % n for n in range(120)]
Item = tuple[bytes, bytes]


def make_view(
    history: list[list[Entry]], random: Random, *, counted: bool, discards: Discards | None = None
) -> View:
    """Return a view of layers, given oldest first: the newest few in memory, the others as runs."""
    workshop = Workshop(counted=counted)
    in_memory = random.randrange(1, 4)
    runs: list[Run] = []
    for layer in history[:-in_memory]:
        cut = random.randrange(len(layer) + 1)
        if layer:
            runs.insert(0, workshop.run(layer[:cut], layer[cut:], block_size_bytes=random.choice((64, 500))))
    memtables = tuple(memtable(layer, counted=counted) for layer in reversed(history[-in_memory:]))
    cut = random.randrange(len(runs) + 1)
    return View(memtables, Levels([runs[:cut], runs[cut:]]), discards or Discards(), counted=counted)


def check(view: View, state: dict[bytes, bytes], random: Random) -> None:
    everything = sorted(state.items())
    for key in [*KEYS, b"", b"zzz"]:
        assert view.get(key) == state.get(key)
    bounds: list[tuple[bytes, bytes | None]] = [(b"", None), (b"", b""), (b"k05", b"k05"), (b"zz", None)]
    for _ in range(12):
        start, stop = sorted(random.choices([*KEYS, b"", b"k0", b"k050x", b"l"], k=2))
        bounds += [(start, stop), (start, None), (b"", stop)]
    for start, stop in bounds:
        expected = [e for e in everything if e[0] >= start and (stop is None or e[0] < stop)]
        assert list(view.scan(start, stop)) == expected
        assert list(view.scan(start, stop, reverse=True)) == expected[::-1]
        chunks = view.scan_chunks(start, stop)
        assert [e for keys, values in chunks for e in zip(keys, values, strict=True)] == expected
        assert view.count(start, stop) == len(expected)
        for n in (0, len(expected) // 2, len(expected) - 1, len(expected), len(expected) + 5, -1):
            item = expected[n] if 0 <= n < len(expected) else None
            assert view.select(start, stop, n) == item


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("seed", range(30))
def test_against_a_model(seed: int, counted: bool) -> None:
    random = Random(seed)
    layers = random.randrange(1, 8)
    history, state = random_history(
        random, KEYS, layers, counted=counted, changes=random.choice((3, 40, 200))
    )
    view = make_view(history, random, counted=counted)
    check(view, state, random)
    below = {}
    for layer in history[:-1]:
        below |= {key: is_live(kind) for key, kind, _ in layer}
    for key in KEYS:
        assert view.exists_below(key) == below.get(key, False)


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("seed", range(10))
def test_discarded_ranges_are_passed_over(seed: int, counted: bool) -> None:
    random = Random(seed)
    history, state = random_history(random, KEYS, 4, counted=counted, changes=100)
    discards = Discards()
    for _ in range(random.randrange(1, 5)):
        start, stop = sorted(random.sample(KEYS, 2))
        discards.add(start, stop)
        state = {key: value for key, value in state.items() if not start <= key < stop}
    view = make_view(history, random, counted=counted, discards=discards)
    bounds: list[tuple[bytes, bytes | None]] = [(b"", None), (b"k010", b"k100"), (b"k050", None)]
    for low, high in bounds:
        expected = [e for e in sorted(state.items()) if e[0] >= low and (high is None or e[0] < high)]
        assert list(view.scan(low, high)) == expected
        assert list(view.scan(low, high, reverse=True)) == expected[::-1]
        assert view.count(low, high) == len(expected)
        for n in range(len(expected) + 2):
            assert view.select(low, high, n) == (expected[n] if n < len(expected) else None)


def test_every_position_of_a_large_view() -> None:
    random = Random(8)
    keys = [b"%05d" % n for n in range(3000)]
    history, state = random_history(random, keys, 5, changes=2500)
    view = make_view(history, random, counted=True)
    everything = sorted(state.items())
    for n in range(0, len(everything), 13):
        assert view.select(b"", None, n) == everything[n]
        assert view.count(b"", everything[n][0]) == n
    assert view.select(b"", None, len(everything)) is None


def test_keys_with_long_common_prefixes() -> None:
    random = Random(2)
    stems = (b"p" * 4094, b"p" * 5000)
    keys = [b"a", b"z", *(stem + b"%03d" % n for stem in stems for n in range(60))]
    history, state = random_history(random, keys, 5, changes=150)
    view = make_view(history, random, counted=True)
    everything = sorted(state.items())
    assert list(view.scan(b"", None)) == everything
    assert list(view.scan(b"", None, reverse=True)) == everything[::-1]
    for n, (key, value) in enumerate(everything):
        assert view.get(key) == value
        assert view.count(b"", key) == n
        assert view.select(b"", None, n) == (key, value)


def test_an_empty_view() -> None:
    view = View((memtable([]),), Levels(), Discards(), counted=True)
    assert list(view.scan(b"", None)) == list(view.scan(b"", None, reverse=True)) == []
    assert view.count(b"", None) == 0
    assert view.select(b"", None, 0) is None
    assert view.get(b"") is None


def active_view(table: Memtable) -> View:
    run = Workshop().run(live({b"m%03d" % n: b"v" for n in range(300)}))
    return View((table,), Levels([[run]]), Discards(), counted=True)


def test_a_count_is_not_disturbed_by_writes_elsewhere() -> None:
    """A write below the range, between the lookups of its two bounds, made an empty range count -1 keys."""
    table = memtable([])
    view = active_view(table)
    stop = threading.Event()
    wrong: list[object] = []

    def write() -> None:
        n = 0
        while not stop.is_set():
            key = b"a%06d" % (n % 5000)
            with table._lock:
                kind = INSERT if table.find(key) is not None and key not in table.inserted else REMOVE
                table.apply([key], [b"v" if kind == INSERT else b""], bytes((kind,)))
            n += 1

    def count() -> None:
        while not stop.is_set():
            found = view.count(b"m", b"n"), view.count(b"x", None), view.select(b"m", None, 299)
            if found != (300, 0, (b"m299", b"v")):
                wrong.append(found)
                return

    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=target) for target in (write, count, count)]
    try:
        for thread in threads:
            thread.start()
        stop.wait(1.5)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval_s)
    assert wrong == []


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_of_the_active_memtable_shows_what_stays_once(reverse: bool) -> None:
    table = memtable(live({b"m%03dx" % n: b"new" for n in range(0, 300, 2)}))
    view = active_view(table)
    scan: Iterator[Item] = view.scan(b"", None, reverse=reverse)
    seen: list[bytes] = []
    for number, (key, _) in enumerate(scan):
        seen.append(key)
        guest = b"m%03dy" % (number * 7 % 300)
        if table.find(guest) is not None and guest not in table.inserted:
            table.apply([guest], [b"guest"], bytes((INSERT,)))
    assert seen == sorted(set(seen), reverse=reverse)
    stay = {b"m%03d" % n for n in range(300)} | {b"m%03dx" % n for n in range(0, 300, 2)}
    assert stay <= set(seen)

"""Cursors: whole iterations over all kinds of elements, while elements come and go."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest
from sortedcontainers import SortedDict

from lamina.server import cursors
from lamina.server.cursors import NO_FILTER, Cursors, Filter, parse_cursor, parse_filter
from lamina.server.errors import NOT_A_CURSOR, NOT_AN_INTEGER, SYNTAX, CommandError

DOUBLE_EXACT_MAX = 1 << 53


class Sorted:
    """Elements in memory, in order."""

    def __init__(self, elements: list[bytes]) -> None:
        self.elements: SortedDict[bytes, bytes] = SortedDict((element, b"") for element in elements)

    def scan(
        self, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        found = self.elements.irange(start, stop, (True, False), reverse)
        return ((element, b"") for element in found)


def iterate(
    make: Callable[[], Cursors], source: Sorted, count: int, change: Callable[[int], None] = lambda turn: None
) -> list[bytes]:
    """Return all that an iteration finds; `make` gives the cursors of each call."""
    found: list[bytes] = []
    cursor = 0
    for turn in range(100_000):
        cursor, items = make().page(source, cursor, count)
        assert 0 <= cursor < DOUBLE_EXACT_MAX
        assert len(items) <= count
        found += [element for element, _ in items]
        if not cursor:
            return found
        change(turn)
    raise AssertionError("no end")


KINDS = {
    "numbers": [b"%d" % i for i in range(500)],
    "common beginning": [b"user:account:%06d" % i for i in range(500)],
    "families": [b"%s:%06d:name" % (name, i) for name in (b"user", b"session", b"s") for i in range(150)],
    "long beginnings": [b"x" * 6000 + b"%05d" % i for i in range(100)],
    "long beginnings of some": [b"x" * size + b"%05d" % i for size in (9, 300) for i in range(100)],
    "zeros": [b"\0" * i for i in range(40)] + [b"ab" + b"\0" * i for i in range(40)],
    "zeros after a common beginning": [b"common:" + b"\0" * i for i in range(40)],
    "ends of the range": [b"\xff" * i for i in range(30)] + [b"\xff\xff\0" + b"\xff" * i for i in range(30)],
    "random": [random.Random(7).randbytes(i % 12) for i in range(400)],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_an_iteration_finds_every_element_once(kind: str, count: int) -> None:
    table = Cursors()
    source = Sorted(KINDS[kind])
    assert iterate(lambda: table, source, count) == sorted(set(KINDS[kind]))


@pytest.mark.parametrize("kind", ["numbers", "common beginning"])
def test_short_marks_need_no_memory(kind: str) -> None:
    """Each call is answered by a server that has just been started."""
    assert iterate(Cursors, Sorted(KINDS[kind]), 10) == sorted(KINDS[kind])


def test_a_restart_in_the_middle_repeats_but_misses_nothing() -> None:
    source = Sorted(KINDS["families"])
    table, found = Cursors(), []
    cursor = 0
    for turn in range(1000):
        cursor, items = table.page(source, cursor, 10)
        found += [element for element, _ in items]
        if not cursor:
            break
        if turn == 20:
            table = Cursors()
    assert not cursor
    assert set(found) == set(KINDS["families"])
    assert len(found) > len(KINDS["families"])


@pytest.mark.parametrize("seed", range(20))
def test_what_stays_is_found_whatever_comes_and_goes(seed: int) -> None:
    rng = random.Random(seed)
    elements = KINDS[rng.choice(sorted(KINDS))]
    stays = set(rng.sample(elements, len(elements) // 2))
    source, table = Sorted(elements), Cursors()

    def change(turn: int) -> None:
        for element in rng.sample(elements, 5):
            if element not in stays:
                source.elements.pop(element, None)
        # Fewer each time: what keeps coming in front of a cursor would lengthen the iteration for ever.
        if turn < 50:
            for element in rng.sample(elements, 5):
                source.elements[element + rng.randbytes(rng.randrange(3))] = b""
            source.elements[rng.randbytes(rng.randrange(4))] = b""

    found = iterate(lambda: table, source, rng.choice([1, 3, 10]), change)
    assert stays <= set(found)


def test_elements_deleted_as_they_are_returned() -> None:
    for kind in KINDS.values():
        source, table, found = Sorted(kind), Cursors(), []
        cursor = 0
        while True:
            cursor, items = table.page(source, cursor, 3)
            for element, _ in items:
                found.append(element)
                del source.elements[element]
            if not cursor:
                break
        assert found == sorted(set(kind))
        assert not source.elements


def test_a_common_beginning_that_shrinks_or_grows_misses_nothing() -> None:
    elements = KINDS["common beginning"]
    for foreign in (b"a", b"user:b", b"z"):
        source = Sorted(elements)
        cursor, first = Cursors().page(source, 0, 100)
        source.elements[foreign] = b""
        rest: list[tuple[bytes, bytes]] = []
        while cursor:
            cursor, more = Cursors().page(source, cursor, 1000)
            rest += more
        assert {element for element, _ in first + rest} >= set(elements)
    source = Sorted(elements)
    cursor, _ = Cursors().page(source, 0, 100)
    for element in elements[:490]:
        del source.elements[element]
    assert [element for element, _ in Cursors().page(source, cursor, 1000)[1]] == elements[490:]


def test_strange_cursors_do_no_harm() -> None:
    rng = random.Random(1)
    source, table = Sorted(KINDS["families"]), Cursors()
    for bits in (1, 8, 40, 41, 52, 53, 54, 63, 64):
        for cursor in (1 << (bits - 1), (1 << bits) - 1, rng.getrandbits(bits)):
            following, items = table.page(source, cursor, 10)
            assert following < DOUBLE_EXACT_MAX
            assert len(items) <= 10
    assert table.page(Sorted([]), (5 << 40) + 1, 10) == (0, [])


def test_a_prefix_limits_what_is_looked_at() -> None:
    source, table = Sorted(KINDS["families"] + [b"\xff\xffa"]), Cursors()
    found, cursor = [], 0
    while True:
        cursor, items = table.page(source, cursor, 20, prefix=b"session:")
        found += [element for element, _ in items]
        if not cursor:
            break
    assert found == [b"session:%06d:name" % i for i in range(150)]
    assert table.page(source, 0, 20, prefix=b"\xff") == (0, [(b"\xff\xffa", b"")])
    assert table.page(source, 0, 20, prefix=b"nothing") == (0, [])


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cursors, "REMEMBERED_MAX", 10)
    table = Cursors()
    for kind in KINDS.values():
        iterate(lambda: table, Sorted(kind), 1)
        assert len(table._marks) <= 10
    monkeypatch.setattr(cursors, "REMEMBERED_BYTES_MAX", 1000)
    iterate(lambda: table, Sorted(KINDS["long beginnings of some"]), 1)
    assert table._size_bytes == sum(map(len, table._marks.values())) <= 1000


def test_a_mark_longer_than_the_memory_is_kept_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cursors, "REMEMBERED_BYTES_MAX", 1000)
    table = Cursors()
    elements = [b"a"] + KINDS["long beginnings"]
    assert iterate(lambda: table, Sorted(elements), 7) == sorted(elements)
    assert len(table._marks) == 1


@pytest.mark.parametrize(
    ("text", "cursor"),
    [
        (b"0", 0),
        (b"", 0),
        (b"12", 12),
        (b"+12", 12),
        (b"-1", (1 << 64) - 1),
        (b"00000000000000000000000000012", 12),
        (b"18446744073709551615", (1 << 64) - 1),
        (b"5\0x", 5),
    ],
)
def test_cursors_as_clients_send_them(text: bytes, cursor: int) -> None:
    assert parse_cursor(text) == cursor


@pytest.mark.parametrize(
    "text", [b"x", b"1x", b" 1", b"1 ", b"+", b"18446744073709551616", b"-18446744073709551616", b"9" * 5000]
)
def test_what_is_no_cursor(text: bytes) -> None:
    with pytest.raises(CommandError) as raised:
        parse_cursor(text)
    assert raised.value == NOT_A_CURSOR


def test_options() -> None:
    assert parse_filter([b"SSCAN", b"k", b"0"], 3) is NO_FILTER
    assert parse_filter([b"count", b"5", b"COUNT", b"7", b"match", b"*"], 0) == Filter(7)
    found = parse_filter([b"MATCH", b"ab*", b"TYPE", b"set"], 0, takes_type=True)
    assert (found.count, found.prefix, found.type) == (10, b"ab", b"set")
    assert found.matcher is not None
    assert found.matcher(b"abc")
    assert not found.matcher(b"xab")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("COUNT", SYNTAX),
        ("COUNT 0", SYNTAX),
        ("COUNT x NOPE", NOT_AN_INTEGER),
        ("NOPE COUNT x", SYNTAX),
        ("TYPE set", SYNTAX),
        ("MATCH a COUNT", SYNTAX),
    ],
)
def test_options_that_make_no_sense(words: str, error: CommandError) -> None:
    with pytest.raises(CommandError) as raised:
        parse_filter(words.encode().split(), 0)
    assert raised.value == error

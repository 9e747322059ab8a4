"""Histories of commands for Hypothesis: what a family of commands is made of.

A family is a list of commands, a command a template whose parts are fixed words or strategies:

    STRINGS = [
        command("SET", KEYS, VALUES, flags("NX", "XX", "GET"), maybe("EX", SECONDS)),
        command("MSET", several(KEYS, VALUES)),
        command("TTL", KEYS, check=Pair.ttl),
    ]

    test_strings, test_strings_restarted, test_strings_at_length, test_strings_restarted_at_length = (
        history_tests("strings", STRINGS)
    )

`check` says how the replies are compared; it is a method of Pair or any function (pair, *words). `histories`
mixes in, on its own, keys of other types, wrong arities and odd arguments in any place, names in lower case
and, if `restarts`, restarts of the tested server.

Times must not be so short that one server sees them pass and the other does not: SECONDS and MILLISECONDS
hold only times that are long, past or invalid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.compat import Pair, Step
from harness.resp import Argument, to_bytes

Words = Any
"""A word, or words nested in tuples and lists, as strategies draw them."""

Part = Argument | st.SearchStrategy[Words]
Command = st.SearchStrategy[Step]
Family = Sequence[Command]

_CHECKS = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]

quick = settings(max_examples=40, deadline=None, suppress_health_check=_CHECKS)
"""For what runs with every change."""

few = settings(max_examples=10, deadline=None, suppress_health_check=_CHECKS)
"""For histories with restarts."""

thorough = settings(max_examples=1000, deadline=None, suppress_health_check=_CHECKS)
"""For what is marked slow."""

thorough_few = settings(max_examples=150, deadline=None, suppress_health_check=_CHECKS)
"""For what is marked slow and restarts the server: several times in each long history."""


# Words

KEY_NAMES = (b"a", b"b", b"k:1", b"k:2", b"", b"\x00k\r\n\xff", b"{t}x")
KEYS: st.SearchStrategy[Words] = st.sampled_from(KEY_NAMES)
"""Few, so that commands meet each other's keys; every type may be behind each."""

ODD_NUMBERS: st.SearchStrategy[Words] = st.sampled_from(
    [
        *("", " 1", "1 ", "+1", "-0", "00", "0x10", "1.0", "1e2", "1e400", "-1e400", "nan", "inf", "-inf"),
        *("9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809"),
        *("18446744073709551615", "18446744073709551616", "99999999999999999999999", "abc", "1\x00", "1\n"),
        *("3.0e-400", "1.7976931348623157e308", "0.1", "-5"),
    ]
)
"""What is a number to one function and none to another, and what lies at the ends of the ranges."""

SMALL: st.SearchStrategy[Words] = st.integers(-8, 8)
INTEGERS: st.SearchStrategy[Words] = st.one_of(
    SMALL,
    st.sampled_from(["100", "-100", "9223372036854775807", "-9223372036854775808", "4611686018427387904"]),
    ODD_NUMBERS,
)
INDEXES: st.SearchStrategy[Words] = st.one_of(
    SMALL, SMALL, SMALL, st.sampled_from([-1000, 1000]), ODD_NUMBERS
)
FLOATS: st.SearchStrategy[Words] = st.one_of(
    SMALL,
    st.sampled_from(
        ["0.5", "-1.25", "3.14", "1e3", "5.0e3", "1e17", "0.1", "0.2", "1e-7", "1e21", "1.5e300"]
    ),
    ODD_NUMBERS,
)

_TEXTS = st.sampled_from([b"", b"x", b"hello", b"10", b"-3", b"3.5", b" 7", b"0", b"ohmytext", b"mynewtext"])
VALUES: st.SearchStrategy[Words] = st.one_of(
    _TEXTS,
    _TEXTS,
    st.binary(max_size=12),
    st.integers(-1000, 1000),
    # 44 bytes is where Redis changes the encoding; the long ones fill tiny memtables and blocks.
    st.sampled_from([b"e" * 44, b"r" * 45, b"v" * 300, b"w" * 5000]),
)

ELEMENTS: st.SearchStrategy[Words] = st.sampled_from(
    [*(f"m{i}" for i in range(12)), b"", b"\x00\xff\r\n", "1", "2", "10", b"l" * 70]
)
"""Members, fields and list elements: few, so that they are found again. 64 bytes is a limit of listpacks."""

SCORES: st.SearchStrategy[Words] = st.one_of(
    SMALL, st.sampled_from(["1.5", "-0.5", "1e10", "inf", "-inf", "+inf", "1e-5", "0.1"]), ODD_NUMBERS
)

SECONDS: st.SearchStrategy[Words] = st.sampled_from(
    ["100", "1000", "5000000", "0", "-1", "abc", "", "9223372036854775807", "9223372036854770", "1.5"]
)
MILLISECONDS: st.SearchStrategy[Words] = st.sampled_from(
    ["100000", "1000000", "5000000000", "0", "-1", "abc", "", "9223372036854775807", "1.5"]
)
AT_SECONDS: st.SearchStrategy[Words] = st.sampled_from(
    ["33177117420", "33177117421", "1", "0", "-1", "9223372036854775807", "abc"]
)
AT_MILLISECONDS: st.SearchStrategy[Words] = st.sampled_from(
    ["33177117420000", "33177117420001", "1", "0", "-1", "9223372036854775807", "abc"]
)
DATABASE_NUMBERS: st.SearchStrategy[Words] = st.sampled_from([0, 1, 2, 0, 1, 2, 0, 1, 15, 16, -1, "x"])
PATTERNS: st.SearchStrategy[Words] = st.sampled_from(
    ["*", "k:*", "k:?", "[ab]", "[^a]*", "k\\:1", "", "a", "[a-k]", "m*", "m[0-4]", "*1*", "**", "[", "\\"]
)


# Templates


def command(*parts: Part, check: Callable[..., Any] = Pair.__call__) -> Command:
    """Return a command template; a strategy among the parts may draw one word or several."""
    strategies = [part if isinstance(part, st.SearchStrategy) else st.just(part) for part in parts]
    return st.tuples(*strategies).map(lambda words: Step(tuple(_flat(words)), check))


def words(*parts: Part) -> st.SearchStrategy[Words]:
    """Return a strategy for several words in a row."""
    return st.tuples(*(part if isinstance(part, st.SearchStrategy) else st.just(part) for part in parts))


def maybe(*parts: Part) -> st.SearchStrategy[Words]:
    """Return a strategy for these words or none."""
    return st.one_of(st.just(()), words(*parts))


def choice(*parts: Part) -> st.SearchStrategy[Words]:
    """Return a strategy for one of the parts; `words` makes a part of several."""
    return st.one_of(*(part if isinstance(part, st.SearchStrategy) else st.just(part) for part in parts))


def several(*parts: Part, least: int = 1, most: int = 4) -> st.SearchStrategy[Words]:
    """Return a strategy for the parts repeated `least` to `most` times."""
    return st.lists(words(*parts), min_size=least, max_size=most)


def flags(*names: str, most: int = 2) -> st.SearchStrategy[Words]:
    """Return a strategy for some of the flags in any order, contradictions included."""
    # None at all is as likely as any.
    return st.one_of(st.just(()), st.lists(st.sampled_from(names), max_size=most, unique=True))


def counted(*parts: Part, least: int = 1, most: int = 3) -> st.SearchStrategy[Words]:
    """Return a strategy for `numkeys key ...`: the number, right nearly always, then that many parts."""

    def with_count(items: list[Words]) -> Words:
        return (len(items), items)

    right = several(*parts, least=least, most=most).map(with_count)
    return st.one_of(right, right, right, right, right, words(INTEGERS, several(*parts, least=0)))


def _flat(value: Words) -> Iterator[bytes]:
    if isinstance(value, tuple | list):
        for item in value:
            yield from _flat(item)
    else:
        yield to_bytes(value)


# Histories

OTHER_TYPES: Family = [
    command("SET", KEYS, VALUES),
    command("RPUSH", KEYS, several(ELEMENTS)),
    command("SADD", KEYS, several(ELEMENTS)),
    command("HSET", KEYS, several(ELEMENTS, VALUES)),
    command("ZADD", KEYS, several(SMALL, ELEMENTS)),
    command("XADD", KEYS, "5-*", several(ELEMENTS, VALUES, most=2)),
    command("DEL", KEYS),
    command("PEXPIRE", KEYS, "100000"),
]
"""A few keys of every type in every history: what a command says about a key of the wrong type."""

_PLAIN = 40


def histories(
    *families: Family,
    restarts: bool = False,
    most: int = 40,
    others: Family = OTHER_TYPES,
) -> st.SearchStrategy[list[Step]]:
    """Return a strategy for histories of commands of these families, some `most` commands long."""
    own = st.one_of(*(template for family in families for template in family))
    base = st.one_of(own, own, own, own, own, st.one_of(*others)) if others else own
    # Drawn from one list, so that a plain command is what a failure shrinks to.
    twists = ["plain"] * _PLAIN + ["cut", "append", "replace", "insert", "lower"]
    if restarts:
        twists += ["reload", "reload", "restart", "kill"]
    # A list of lists: one list of this kind is short on the average, and a minimum length would not shrink.
    part = st.lists(_step(base, twists), max_size=10)
    return st.lists(part, min_size=most // 16, max_size=most // 4).map(
        lambda parts: list(chain.from_iterable(parts))
    )


Test = Callable[..., None]
Play = Callable[[Pair, list[Step]], None]


def history_tests(
    name: str, family: Family, *, play: Play = Pair.play, restarted_at_length: settings = thorough
) -> tuple[Test, Test, Test, Test]:
    """Return the four tests of a family's histories: short ones; with restarts; and slow, long ones of both.

    They are to be assigned to names that begin with `test_` and `name`.
    """

    def test(strategy: st.SearchStrategy[list[Step]], how_many: settings, suffix: str = "") -> Test:
        def compare(pair: Pair, history: list[Step]) -> None:
            play(pair, history)

        compare.__name__ = f"test_{name}{suffix}"  # Hypothesis files failures under it
        decorated: Test = how_many(given(history=strategy)(compare))
        return decorated

    def restarted(strategy: st.SearchStrategy[list[Step]], how_many: settings, suffix: str) -> Test:
        def compare(tiny_pair: Pair, history: list[Step]) -> None:
            play(tiny_pair, history)

        compare.__name__ = f"test_{name}_restarted{suffix}"
        decorated: Test = how_many(given(history=strategy)(compare))
        return decorated

    return (
        test(histories(family), quick),
        restarted(histories(family, restarts=True), few, ""),
        pytest.mark.slow(test(histories(family, most=400), thorough, "_at_length")),
        pytest.mark.slow(
            restarted(histories(family, restarts=True, most=400), restarted_at_length, "_at_length")
        ),
    )


@st.composite
def _step(draw: st.DrawFn, base: Command, twists: list[str]) -> Step:
    twist = draw(st.sampled_from(twists))
    if twist in _UPKEEP:
        return _UPKEEP[twist]
    step = draw(base)
    return step if twist == "plain" else Step(_twisted(draw, step.words, twist), step.check)


def _twisted(draw: st.DrawFn, before: tuple[bytes, ...], twist: str) -> tuple[bytes, ...]:
    if twist == "lower":
        return (before[0].lower(), *before[1:])
    if twist == "cut":
        return before[: draw(st.integers(1, max(1, len(before) - 1)))]
    odd = to_bytes(draw(st.one_of(ODD_NUMBERS, KEYS)))
    if twist == "append" or len(before) == 1:
        return (*before, odd)
    at = draw(st.integers(1, len(before) - 1))
    return (*before[:at], odd, *before[at + (twist == "replace") :])


def _reload(pair: Pair) -> None:
    pair.reload()


def _restart(pair: Pair) -> None:
    pair.restart()


def _kill(pair: Pair) -> None:
    pair.restart(kill=True)


_UPKEEP = {"reload": Step((), _reload), "restart": Step((), _restart), "kill": Step((), _kill)}


__all__ = [
    "AT_MILLISECONDS",
    "AT_SECONDS",
    "Command",
    "DATABASE_NUMBERS",
    "ELEMENTS",
    "FLOATS",
    "Family",
    "INDEXES",
    "INTEGERS",
    "KEYS",
    "KEY_NAMES",
    "MILLISECONDS",
    "ODD_NUMBERS",
    "OTHER_TYPES",
    "PATTERNS",
    "SCORES",
    "SECONDS",
    "SMALL",
    "VALUES",
    "choice",
    "command",
    "counted",
    "few",
    "flags",
    "histories",
    "history_tests",
    "maybe",
    "quick",
    "several",
    "thorough",
    "thorough_few",
    "words",
]

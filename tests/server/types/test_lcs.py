"""The longest common subsequence, held against the table that everybody knows."""

from __future__ import annotations

import random
import time

import pytest

from lamina.server.types import lcs
from lamina.server.types.lcs import Match


def textbook(a: bytes, b: bytes) -> list[Match]:
    """Return the matches as Redis finds them: from the full table, going back from its last place."""
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, byte in enumerate(a, 1):
        for j, other in enumerate(b, 1):
            table[i][j] = table[i - 1][j - 1] + 1 if byte == other else max(table[i - 1][j], table[i][j - 1])
    matches: list[Match] = []
    i, j, is_running = len(a), len(b), False
    while i and j:
        if a[i - 1] == b[j - 1]:
            i, j = i - 1, j - 1
            size = matches.pop().size + 1 if is_running else 1
            matches.append(Match(i, j, size))
            is_running = True
            continue
        is_running = False
        if table[i - 1][j] > table[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return matches


@pytest.mark.parametrize("seed", range(10))
def test_like_the_textbook(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(300):
        kinds = rng.choice([1, 2, 3, 5, 20])
        a, b = [bytes(rng.randrange(kinds) for _ in range(rng.randrange(25))) for _ in range(2)]
        expected = textbook(a, b)
        assert lcs.matches(a, b) == expected, (a, b)
        assert lcs.length(a, b) == sum(match.size for match in expected), (a, b)


@pytest.mark.parametrize(("size_a", "size_b"), [(300, 700), (700, 300), (1, 2000), (2000, 1)])
def test_like_the_textbook_at_length(size_a: int, size_b: int) -> None:
    rng = random.Random(size_a)
    a, b = [bytes(rng.randrange(97, 103) for _ in range(size)) for size in (size_a, size_b)]
    assert lcs.matches(a, b) == textbook(a, b)


def test_equal_and_disjoint_strings() -> None:
    text = bytes(range(256)) * 20
    assert lcs.matches(text, text) == [Match(0, 0, len(text))]
    assert lcs.matches(b"a" * 1000, b"b" * 1000) == []
    assert lcs.matches(b"", text) == lcs.matches(text, b"") == []
    assert lcs.length(b"", text) == 0


def test_the_largest_strings_take_a_moment_only() -> None:
    """Redis fills a table of 512 MB for these; here it must not hold up other clients for long either."""
    rng = random.Random(1)
    a, b = [bytes(rng.choices(b"acgt", k=11_500)) for _ in range(2)]
    then = time.process_time()
    assert sum(match.size for match in lcs.matches(a, b)) == lcs.length(a, b) > 6000
    assert time.process_time() - then < 2

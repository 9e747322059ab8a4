"""Patterns, as far as can be said alone; tests/compat/test_text.py asks a real server."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.server.glob import compile_glob, is_literal, literal_prefix

MATCHES = [
    (b"", b"", True),
    (b"*", b"", True),
    (b"**", b"", False),
    (b"**", b"a", True),
    (b"a*", b"a", True),
    (b"a*b*c", b"a1b2c", True),
    (b"a*b*c", b"a1b2", False),
    (b"*aab", b"aaab", True),
    (b"*ab*ab", b"ab", False),
    (b"h?llo", b"h\nllo", True),
    (b"h[ae]llo", b"hello", True),
    (b"h[^e]llo", b"hello", False),
    (b"[b-a]", b"a", True),
    (b"[a-]", b"^", True),
    (b"[a-]", b"-", False),
    (b"[a-", b"-", True),
    (b"[]", b"a", False),
    (b"[^]", b"a", True),
    (b"[^", b"a", True),
    (b"[", b"[", False),
    (b"[\\", b"\\", True),
    (b"[\\]]", b"]", True),
    (b"[^\\a]", b"a", False),
    (b"\\*", b"*", True),
    (b"\\*", b"a", False),
    (b"\\a", b"a", True),
    (b"a\\", b"a\\", True),
    (b"[\xff-a]", b"\0", True),
    (b"[\xff-a]", b"\xfe", False),
    (b"a.c", b"abc", False),
    (b"A", b"a", False),
]


@pytest.mark.parametrize(("pattern", "text", "expected"), MATCHES)
def test_matches(pattern: bytes, text: bytes, expected: bool) -> None:
    assert bool(compile_glob(pattern)(text)) is expected


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        (b"MAX*", b"maxclients", True),
        (b"[M]ax*", b"maxclients", True),
        (b"[\\M]ax*", b"maxclients", False),
        (b"[A-_]ax*", b"maxclients", False),
        (b"[K-n]ax*", b"maxclients", True),
        (b"maxCLIENTS", b"MAXclients", True),
        (b"\xc4", b"\xe4", False),
    ],
)
def test_matches_in_either_case(pattern: bytes, text: bytes, expected: bool) -> None:
    assert bool(compile_glob(pattern, ignore_case=True)(text)) is expected


@pytest.mark.parametrize(
    ("pattern", "prefix", "literal"),
    [
        (b"", b"", True),
        (b"*", b"", False),
        (b"user:*", b"user:", False),
        (b"user:1", b"user:1", True),
        (b"a\\*b*c", b"a*b", False),
        (b"a\\*b", b"a*b", True),
        (b"a\\", b"a\\", True),
        (b"a\n[b]c", b"a\n", False),
        (b"a?", b"a", False),
    ],
)
def test_the_literal_prefix(pattern: bytes, prefix: bytes, literal: bool) -> None:
    assert literal_prefix(pattern) == prefix
    assert is_literal(pattern) is literal


ALPHABET = "ab-*?[]^\\"
PATTERNS = st.text(ALPHABET, max_size=8).map(str.encode)
TEXTS = st.text("ab-]^\\", max_size=8).map(str.encode)


@given(PATTERNS, TEXTS)
def test_what_matches_begins_with_the_prefix(pattern: bytes, text: bytes) -> None:
    if compile_glob(pattern)(text):
        assert text.startswith(literal_prefix(pattern))
        assert not is_literal(pattern) or text == literal_prefix(pattern)


@given(st.lists(st.sampled_from([b"a", b"b", b"*", b"?"]), max_size=8), TEXTS)
def test_stars_match_as_backtracking_would(parts: list[bytes], text: bytes) -> None:
    slow = b"".join({b"*": b".*", b"?": b"."}.get(part, part) for part in parts)
    expected = re.fullmatch(slow, text, re.DOTALL) is not None
    if not text and len(parts) > 1:
        expected = False  # several stars do not match the empty string
    assert bool(compile_glob(b"".join(parts))(text)) is expected


@given(st.binary(max_size=40))
def test_every_pattern_compiles(pattern: bytes) -> None:
    for ignore_case in (False, True):
        compile_glob(pattern, ignore_case=ignore_case)(b"text")


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (b"a*" * 50 + b"b", b"a" * 50_000),
        (b"*a" * 50 + b"*b", b"a" * 50_000),
        (b"*" * 100 + b"ab" * 20 + b"*?*[ab]*x", b"ab" * 25_000),
        (b"[ab]*" * 30 + b"c", b"ab" * 25_000),
    ],
)
def test_no_pattern_explodes(pattern: bytes, text: bytes) -> None:
    then = time.process_time()
    assert not compile_glob(pattern)(text)
    assert time.process_time() - then < 2

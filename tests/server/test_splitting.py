"""Splitting lines into arguments. The expectations are what Redis makes of inline commands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.server.splitting import quote_argument, quote_if_needed, split_arguments

SPLIT = [
    (b"", []),
    (b"  \t ", []),
    (b"a b", [b"a", b"b"]),
    (b"x  y  ", [b"x", b"y"]),
    (b"a\tb\rc\nd", [b"a", b"b", b"c", b"d"]),
    (b"a\vb", [b"a\vb"]),
    (b"\va", [b"a"]),
    (b'"a"\vb', [b"a", b"b"]),
    (b"a\x1cb", [b"a\x1cb"]),
    (b"a\\ b", [b"a\\", b"b"]),
    (b'a"b"', [b"ab"]),
    (b"a'b' c", [b"ab", b"c"]),
    (b'a"b\\"c"', [b'ab"c']),
    (b'"\\x41\\xzz\\x4"', [b"Axzzx4"]),
    (b'"\\xfF"', [b"\xff"]),
    (b'"\\n\\r\\t\\b\\a\\q\\""', [b'\n\r\t\b\aq"']),
    (b"'a\\'b\\n'", [b"a'b\\n"]),
    (b'""', [b""]),
    (b"'' x", [b"", b"x"]),
    (b"a\0b", [b"a"]),
    (b'"a"\0', [b"a"]),
]
UNBALANCED = [
    b'"a',
    b"'a",
    b'a"',
    b'"a"b',
    b'a"b"c',
    b'"a\\"',
    b"'a\\'",
    b"'a\\\\'",
    b"'it''s'",
    b'"a\0"',
    b'"\\',
]


@pytest.mark.parametrize(("line", "arguments"), SPLIT)
def test_lines_are_split_as_redis_splits_them(line: bytes, arguments: list[bytes]) -> None:
    assert split_arguments(line) == arguments


@pytest.mark.parametrize("line", UNBALANCED)
def test_unbalanced_quotes_are_refused(line: bytes) -> None:
    assert split_arguments(line) is None


@given(st.lists(st.binary()))
def test_quoted_arguments_come_back(arguments: list[bytes]) -> None:
    assert split_arguments(b" ".join(map(quote_argument, arguments))) == arguments
    assert split_arguments(b" ".join(map(quote_if_needed, arguments))) == arguments


@given(st.text(alphabet="ab \"'\\x4\v\0", max_size=30))
def test_any_line_is_split_or_refused(text: str) -> None:
    arguments = split_arguments(text.encode())
    assert arguments is None or all(isinstance(argument, bytes) for argument in arguments)


def test_a_long_line_of_quotes_takes_linear_time() -> None:
    assert split_arguments(b"'" + b"\\'" * 100_000) is None
    assert split_arguments(b'"' + b"\\x4" * 100_000) is None


def test_plain_words_are_not_quoted() -> None:
    assert quote_if_needed(b"/var/lib/lamina") == b"/var/lib/lamina"
    assert quote_if_needed(b"") == b'""'
    assert quote_if_needed(b"a b") == b'"a b"'

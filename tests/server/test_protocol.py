"""Requests: what is parsed fast, what is parsed strictly, and that both say the same."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.server.errors import (
    INVALID_BULK_LENGTH,
    INVALID_MULTIBULK_LENGTH,
    TOO_BIG_BULK_COUNT_STRING,
    TOO_BIG_COUNT_STRING,
    TOO_BIG_INLINE,
    UNAUTHENTICATED_BULK_LENGTH,
    UNAUTHENTICATED_MULTIBULK_LENGTH,
    UNBALANCED_QUOTES,
    ProtocolError,
    expected_dollar,
)
from lamina.server.protocol import RequestReader

BULK_SIZE_MAX = 1 << 20


def encode(*arguments: bytes) -> bytes:
    parts = [b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in arguments]
    return b"*%d\r\n" % len(arguments) + b"".join(parts)


def new_reader(*, is_authenticated: bool = True) -> RequestReader:
    return RequestReader(BULK_SIZE_MAX, is_authenticated=is_authenticated)


def feed_in_pieces(reader: RequestReader, data: bytes, cuts: list[int]) -> list[list[bytes]]:
    commands = []
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    for start, stop in pairwise(edges):
        if start < stop and reader.error is None:
            commands += reader.feed(data[start:stop])
    return commands


# What looks like heads of requests inside of arguments is what confuses readers.
arguments = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(
        [b"", b"*1", b"$3", b"*2\r\n", b"\r\n", b"$-1\r\n", b"*1\r\n$4\r\nPING\r\n", b"x" * 3000]
        + [b"+", b">", b"=", b"~", b"(5-1", b"+" * 12, b"$1", b"$12"]
    ),
)
commands = st.lists(st.lists(arguments, min_size=1, max_size=4), max_size=6)


@given(commands, st.lists(st.integers(0, 1 << 16), max_size=5))
def test_requests_come_out_as_they_went_in_however_they_are_cut(
    sent: list[list[bytes]], cuts: list[int]
) -> None:
    data = b"".join(encode(*command) for command in sent)
    for is_authenticated in (True, False):
        reader = new_reader(is_authenticated=is_authenticated)
        assert feed_in_pieces(reader, data, cuts) == sent
        assert reader.error is None


inline_words = st.lists(
    st.text("abcXYZ019-_", min_size=1, max_size=8).map(str.encode), min_size=1, max_size=3
)


@given(
    st.lists(st.one_of(st.lists(arguments, min_size=1, max_size=3), inline_words.map(tuple)), max_size=6),
    st.lists(st.integers(0, 1 << 16), max_size=5),
)
def test_inline_commands_mix_with_others(
    sent: list[list[bytes] | tuple[bytes, ...]], cuts: list[int]
) -> None:
    data = b"".join(
        b" ".join(command) + b"\r\n" if isinstance(command, tuple) else encode(*command) for command in sent
    )
    assert feed_in_pieces(new_reader(), data, cuts) == [list(command) for command in sent]


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=4))
def test_garbage_raises_nothing_and_cutting_it_changes_nothing(data: bytes, cuts: list[int]) -> None:
    whole, pieces = new_reader(), new_reader()
    commands = whole.feed(data) if data else []
    assert feed_in_pieces(pieces, data, cuts) == commands
    assert pieces.error == whole.error


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"*abc\r\n", INVALID_MULTIBULK_LENGTH),
        (b"*2147483648\r\n", INVALID_MULTIBULK_LENGTH),
        (b"*1\r\n:5\r\n", expected_dollar(b":")),
        (b"*1\r\n*1\r\n$4\r\nPING\r\n", expected_dollar(b"*")),
        (b"*1\r\n~1\r\n$4\r\nPING\r\n", expected_dollar(b"~")),
        (b"*1\r\n+PING\r\n", expected_dollar(b"+")),
        (b"*2\r\n$2\r\n$4\r\n+PING\r\n", expected_dollar(b"+")),
        (b"*2\r\n$3\r\n$12\r\n(123456789012\r\n", expected_dollar(b"(")),
        (b"*1\r\n=8\r\ntxt:PING\r\n", expected_dollar(b"=")),
        (b"*2\r\n$4\r\nECHO\r\n(12\r\n", expected_dollar(b"(")),
        (b"*1\r\n$-1\r\n", INVALID_BULK_LENGTH),
        (b"*1\r\n$abc\r\n", INVALID_BULK_LENGTH),
        (b"*1\r\n$%d\r\n" % (BULK_SIZE_MAX + 1), INVALID_BULK_LENGTH),
        (b"*" + b"1" * 70000, TOO_BIG_COUNT_STRING),
        (b"*1\r\n$" + b"1" * 70000, TOO_BIG_BULK_COUNT_STRING),
        (b"a" * 70000, TOO_BIG_INLINE),
        (b'set "a b\r\n', UNBALANCED_QUOTES),
    ],
)
def test_breaches_are_named_after_what_came_before_them(data: bytes, error: ProtocolError) -> None:
    reader = new_reader()
    assert reader.feed(encode(b"PING") + data) == [[b"PING"]]
    assert reader.error == error


def test_a_breach_in_a_request_that_began_in_an_earlier_chunk() -> None:
    reader = new_reader()
    assert reader.feed(encode(b"PING") + b"*2\r\n$1\r\na\r\n") == [[b"PING"]]
    assert reader.feed(b":5\r\n") == []
    assert reader.error == expected_dollar(b":")


@pytest.mark.parametrize("empty", [b"*0\r\n", b"*-1\r\n", b"*-10\r\n", b"\r\n", b"   \r\n"])
def test_empty_requests_are_passed_over(empty: bytes) -> None:
    reader = new_reader()
    assert reader.feed(empty + encode(b"PING") + empty) == [[b"PING"]]
    assert reader.error is None
    assert reader.feed(encode(b"ECHO", b"x")) == [[b"ECHO", b"x"]]


def test_clients_without_a_password_are_kept_short() -> None:
    reader = new_reader(is_authenticated=False)
    reader.feed(b"*11\r\n")
    assert reader.error == UNAUTHENTICATED_MULTIBULK_LENGTH
    reader = new_reader(is_authenticated=False)
    reader.feed(b"*2\r\n$4\r\nAUTH\r\n$16385\r\n")
    assert reader.error == UNAUTHENTICATED_BULK_LENGTH
    reader = new_reader(is_authenticated=False)
    reader.authenticate()
    many = [b"%d" % n for n in range(20)]
    assert reader.feed(encode(*many)) == [many]


def test_a_large_argument_is_held_once_and_comes_out_whole() -> None:
    value = random.Random(7).randbytes(600_000)
    data = encode(b"SET", b"k", value) + encode(b"GET", b"k")
    reader = new_reader()
    found = []
    for start in range(0, len(data), 65536):
        found += reader.feed(data[start : start + 65536])
        assert reader.buffered_bytes <= start + 65536 + 200
    assert found == [[b"SET", b"k", value], [b"GET", b"k"]]
    assert reader.feed(encode(b"PING")) == [[b"PING"]]
    assert reader.buffered_bytes == 0


def test_a_promise_of_many_arguments_costs_nothing() -> None:
    reader = new_reader()
    assert reader.feed(b"*1000000000\r\n$1\r\na\r\n") == []
    assert reader.buffered_bytes < 100


# --- What hiredis takes for replies


@pytest.mark.parametrize(
    "data",
    [
        b"%1\r\n$1\r\na\r\n$1\r\nb\r\n",
        b"%0\r\n",
        b"#f\r\n",
        b"#t\r\n",
        b"_\r\n",
        b"+\r\n",
        b"+OK\r\n",
        b"$0\r\n\r\n",
        b"(123\r\n",
        b">1\r\n$4\r\nPING\r\n",
    ],
)
@pytest.mark.parametrize("before", [b"", encode(b"SET", b"a", b"b")])
def test_replies_are_no_requests_but_lines(data: bytes, before: bytes) -> None:
    """To Redis whatever does not begin with a star is an inline command."""
    reader = new_reader()
    lines = [line.split() for line in data.split(b"\r\n")]
    expected = [[b"SET", b"a", b"b"]] if before else []
    assert reader.feed(before + data) == expected + [line for line in lines if line]
    assert reader.error is None
    assert reader.feed(encode(b"GET", b"a")) == [[b"GET", b"a"]]


def test_no_command_comes_out_twice_where_the_parser_changes() -> None:
    reader = new_reader()
    assert reader.feed(b"#f\r\n*1\r\n$4\r\nPI") == [[b"#f"]]
    assert reader.feed(b"NG\r\n*1\r\n") == [[b"PING"]]
    assert reader.feed(b"$4\r\nECHO\r\ninline\r\n") == [[b"ECHO"], [b"inline"]]


def test_what_is_buffered_is_counted_with_what_it_takes() -> None:
    reader = new_reader()
    reader.feed(b"*1000000\r\n" + b"$1\r\nx\r\n" * 5000)
    assert reader.buffered_bytes > 5000 * 40
    reader.feed(b"$1\r\nx\r\n" * 995_000)
    assert reader.buffered_bytes == 0

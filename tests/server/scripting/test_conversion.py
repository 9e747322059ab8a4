"""Replies in Lua, and Lua's values in replies: what goes in comes out, where both sides have it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.commands import quick
from harness.local import LocalClient, Servers
from lamina.server import replies
from lamina.server.errors import CommandError
from lamina.server.replies import (
    NULL_ARRAY,
    OK,
    BigNumber,
    Decimal,
    Distinct,
    Encoded,
    Keyed,
    Pairs,
    Scored,
    StreamEntries,
    Verbatim,
    encode,
)
from lamina.server.scripting import conversion
from lamina.server.scripting.conversion import ARRAY, FAILED, NIL, OUT_OF_MEMORY, STATUS, convert, for_lua
from lamina.server.scripting.numberwork import (
    argument,
    bit_bswap,
    bit_rol,
    bit_ror,
    bit_tobit,
    pack_float,
    unpack_float,
)


@pytest.fixture(scope="module")
def lasting() -> Iterator[LocalClient]:
    servers = Servers()
    yield servers.make()
    servers.close()


CONVERTED = [
    (b"x", b"x", b"x"),
    (5, 5, 5),
    (None, False, None),
    (NULL_ARRAY, False, None),
    (True, 1, True),
    (1.5, b"1.5", {b"double": 1.5}),
    ([b"a", None, [1]], [b"a", False, [1]], [b"a", None, [1]]),
    ({b"f": 1.5}, [b"f", b"1.5"], {b"map": {b"f": {b"double": 1.5}}}),
    (Pairs([(b"a", b"b")]), [b"a", b"b"], {b"map": {b"a": b"b"}}),
    ({b"m"}, [b"m"], {b"set": {b"m": True}}),
    (Distinct([b"m", b"n"]), [b"m", b"n"], {b"set": {b"m": True, b"n": True}}),
    (Scored([(b"m", 2.0)]), [b"m", b"2"], [[b"m", {b"double": 2.0}]]),
    (OK, {b"ok": b"OK"}, {b"ok": b"OK"}),
    (CommandError(b"ERR x"), {b"err": b"ERR x"}, {b"err": b"ERR x"}),
    (Verbatim(b"txt", b"t"), b"t", {b"verbatim_string": {b"format": b"txt", b"string": b"t"}}),
    (BigNumber(b"12"), b"12", {b"big_number": b"12"}),
    (Decimal(b"1.50"), b"1.50", {b"double": 1.5}),
    (Keyed([(b"k", [1])]), [[b"k", [1]]], {b"map": {b"k": [1]}}),
    (
        StreamEntries([struct.pack(">QQ", 1, 2)], [b"*2\r\n$1\r\nf\r\n$1\r\nv\r\n"]),
        [[b"1-2", [b"f", b"v"]]],
        [[b"1-2", [b"f", b"v"]]],
    ),
    (
        StreamEntries([struct.pack(">QQ", 1, 2), struct.pack(">QQ", 1, 3)], [None, b"*0\r\n"]),
        [[b"1-2", False], [b"1-3", []]],
        [[b"1-2", None], [b"1-3", []]],
    ),
    (Distinct([OK]), [{b"ok": b"OK"}], {b"set": [({b"ok": b"OK"}, True)]}),
    (Pairs([([1], 2)]), [[1], 2], {b"map": [([1], 2)]}),
]


@pytest.mark.parametrize(("reply", "in_resp2", "in_resp3"), CONVERTED)
def test_conversions(reply: Any, in_resp2: Any, in_resp3: Any) -> None:
    assert convert(reply, 2) == in_resp2
    assert convert(reply, 3) == in_resp3


def test_every_kind_of_reply_is_known() -> None:
    elsewhere = {
        bytes,
        int,
        Encoded,
    }  # what no conversion needs, and what no command that scripts call replies
    kinds = set(replies._ENCODERS) - elsewhere
    assert kinds - {type(NULL_ARRAY)} <= set(conversion._CONVERTERS_2)
    assert set(conversion._CONVERTERS_2) == set(conversion._CONVERTERS_3)


def test_keys_may_be_tables(lasting: LocalClient) -> None:
    script = (
        "redis.setresp(3) local names = {}"
        " for flag in pairs(redis.call('COMMAND', 'INFO', 'GET')[1][3].set) do"
        " names[#names + 1] = flag.ok end"
        " table.sort(names) return names"
    )
    assert lasting("EVAL", script, 0) == [b"fast", b"readonly"]


class Roomless:
    """Stands for an interpreter without memory."""

    def has_room(self, size_bytes: int) -> bool:
        return size_bytes < 100


def test_what_is_handed_over(lasting: LocalClient) -> None:
    runtime = lasting.server.scripting.runtime
    assert for_lua(runtime, b"x", 2) == b"x"
    assert for_lua(runtime, None, 2) is False
    assert for_lua(runtime, None, 3) == (None, NIL)
    assert for_lua(runtime, OK, 2) == (None, STATUS, b"OK")
    assert for_lua(runtime, CommandError(b"ERR x"), 2) == (None, FAILED, b"ERR x")
    assert for_lua(runtime, [b"a", b"b"], 2) == (None, ARRAY, b"a", b"b")
    assert list(for_lua(runtime, [b"a", 1], 2).values()) == [b"a", 1]
    for reply in (b"x" * 5000, [b"x"] * 1000, [1, [b"x" * 200]]):
        assert for_lua(Roomless(), reply, 2) == (None, OUT_OF_MEMORY)  # type: ignore[arg-type]


REPLIES = st.recursive(
    st.binary(max_size=8) | st.integers(-(2**53), 2**53) | st.just(OK),
    lambda inner: st.lists(inner, max_size=6),
    max_leaves=30,
)


@quick
@given(reply=REPLIES, resp=st.sampled_from((2, 3)))
def test_a_reply_goes_through_a_script(lasting: LocalClient, reply: Any, resp: int) -> None:
    handler = lasting.server.scripting._calls._find([b"ECHO", b"x"])
    original, handler.handler = handler.handler, lambda client, argv: reply
    lasting.client.resp = resp
    try:
        assert lasting.raw("EVAL", "redis.setresp(3) return redis.call('ECHO', '')", 0) == encode(reply, resp)
    finally:
        handler.handler = original
        lasting.client.resp = 2


@quick
@given(arguments=st.lists(st.binary(max_size=10), max_size=200))
def test_arguments_come_through(lasting: LocalClient, arguments: list[bytes]) -> None:
    assert lasting("EVAL", "return ARGV", 0, *arguments) == arguments
    assert lasting("EVAL", "return KEYS", len(arguments), *arguments) == arguments
    if arguments:
        lasting("DEL", "l")
        lasting("EVAL", "redis.call('RPUSH', 'l', unpack(ARGV))", 0, *arguments)
        assert lasting("LRANGE", "l", 0, -1) == arguments
        assert lasting("EVAL", "return redis.call('LRANGE', 'l', 0, -1)", 0) == arguments


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, b"0"), (-0.0, b"0"), (1.5, b"1.5"), (0.1, b"0.1"), (2**53, b"9007199254740992"), (1e300, b"1e+300")],
)
def test_numbers_as_arguments(number: float, text: bytes) -> None:
    assert argument(number) == text


@quick
@given(x=st.floats(-(2.0**51), 2.0**51), n=st.integers(0, 100))
def test_bits(x: float, n: int) -> None:
    assert -(2**31) <= bit_tobit(x) < 2**31
    assert (bit_tobit(x) - round(x)) % 2**32 == 0
    assert bit_bswap(bit_bswap(x)) == bit_tobit(x)
    assert bit_ror(bit_rol(x, n), n) == bit_tobit(x)


@quick
@given(x=st.floats(width=32, allow_nan=False))
def test_floats(x: float) -> None:
    assert unpack_float(pack_float(x)) == x
    assert unpack_float(pack_float(1e300)) == float("inf")

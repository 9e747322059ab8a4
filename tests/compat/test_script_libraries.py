"""The libraries that scripts may use, side by side: cjson, cmsgpack, struct, bit."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.commands import quick
from harness.compat import Pair

NUMBERS = (
    "1 0 -1 1.5 -1.5 1e300 2^31 2^32 2^53 2^63 -2^63 2^64 1/0 -1/0 0/0 1e-10 255 -255 65535 -32768"
    " 127 128 -32"
    " -33 -128 -129 3.14159 0.1 1e15 1e14 123456789012 4294967295 -2147483648 -2147483649 16777217"
    " 1e38 1e39 -0"
).split()
OTHERS = [
    '"str"',
    '""',
    '"a\\0b"',
    '"\\195\\169"',
    "true",
    "false",
    "nil",
    "{}",
    "{1,2,3}",
    "{1,nil,3}",
    "{[1]=1,[3]=3}",
    "{a=1}",
    "{[1]=1,a=2}",
    "{[1.5]=1}",
    "{[0]=1}",
    "{[-1]=1}",
    "{[20]=1}",
    "{1,2,3,[30]=1}",
    "{true,false}",
    "{{},{{}}}",
    "{a={b={c={}}}}",
    "cjson.null",
    "{cjson.null}",
    "{x=cjson.null}",
    "function() end",
    "coroutine.create(function() end)",
    '"5"',
    '"0x10"',
    "{[true]=1}",
    'string.rep("x",32)',
    'string.rep("x",300)',
    'string.rep("x",70000)',
    '"\\n\\t\\"\\\\/\\127\\1"',
    "{1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17}",
]
VALUES = NUMBERS + OTHERS

CJSON_CALLS = [
    "encode()",
    "encode(1,2)",
    "decode()",
    "decode(1)",
    "decode({})",
    'decode("1","2")',
    "encode_max_depth()",
    "encode_max_depth(0)",
    'encode_max_depth("x")',
    "encode_max_depth(5)",
    "encode({{{{{{1}}}}}})",
    "encode({{{{1}}}})",
    "encode_max_depth(1000)",
    "decode_max_depth(3)",
    'decode("[[[1]]]")',
    'decode("[[[[1]]]]")',
    'decode("{\\"a\\":[[[1]]]}")',
    "decode_max_depth(1000)",
    "encode_number_precision()",
    "encode_number_precision(3)",
    "encode(3.14159)",
    "encode_number_precision(15)",
    "encode_number_precision(0)",
    "encode_number_precision(14)",
    "encode_invalid_numbers()",
    'encode_invalid_numbers("null")',
    "encode({1/0,0/0})",
    "encode_invalid_numbers(true)",
    "encode({1/0,-1/0,0/0,-(0/0)})",
    'encode_invalid_numbers("foo")',
    "encode_invalid_numbers(1)",
    'encode_invalid_numbers("off")',
    "encode_keep_buffer()",
    "encode_keep_buffer(false)",
    'encode_keep_buffer("null")',
    "encode_keep_buffer(true)",
    "encode_sparse_array()",
    "encode_sparse_array(true,2,3)",
    "encode({[10]=1})",
    "encode_sparse_array(false,2,10)",
    "encode({[11]=1})",
    "encode_sparse_array(1)",
    "encode_sparse_array(true,-1)",
    "encode_sparse_array(1,2,3,4)",
    "encode_sparse_array(false,2,10)",
    "encode_max_depth(1,2)",
    "encode_keep_buffer(1,2)",
    "new().encode({1})",
    "encode(setmetatable({},{__index={1,2}}))",
    "encode(cjson)",
    'decode(string.rep("[",1001)..string.rep("]",1001))',
    'decode(string.rep("[",1001))',
]

TEXTS = [
    *(
        "1 -1 1.5 1e5 1E+5 1e-5 01 -01 0x1F 0x -0x1f +1 .5 5. - --1 inf -inf Infinity nan -nan NaN null"
        " nul nulll true tru trueq false [] [1,2,3] [1,] [,1] [ { } {} {a:1} {1:2} 1, 1e400 1e 1e+"
        " 0.1 0 -0 00"
        " 1a 12345678901234567890 [1.0,2.50] [[[[1]]]] 0x1p3 0x1.8 1.e5 nan(1) [1,2 : , tRue [inf]"
        " [-inf,nan] [1]]"
    ).split(),
    '"abc"',
    '"a\\n\\u0041"',
    '"\\ud83d\\ude00"',
    '"\\ud83d"',
    '"\\ude00"',
    '"\\ud83d\\u0041"',
    '"\\u00"',
    '"\\x"',
    '"abc',
    '"a\x01b"',
    '"\\u0000"',
    "[1 2]",
    '{"a":1}',
    '{"a":1,}',
    '{"a" 1}',
    '{"a":}',
    '{"a":1 "b":2}',
    '{"a":[1,{"b":null}],"c":"d"}',
    " 1 ",
    "\t\n\r 1",
    "1 2",
    "",
    "  ",
    '"é"',
    '{"":1}',
    '{"a":1,"a":2}',
    '"\\/\\b\\f\\n\\r\\t\\\\"',
    '{"a":tru}',
    '{"a":"\\q"}',
    '{"\\q":1}',
    "{null:1}",
    '{"a":1}}',
    "[1}",
    '{"a":1]',
    "\0",
    '"\0"',
    '{"a"',
    '{"a":',
    '{"a":1,,}',
    "[1,,2]",
    '"a" "b"',
    '{"a":+1}',
]

PACKED = [
    *(bytes((byte,)) for byte in range(256)),
    *(bytes((byte, 1)) for byte in range(256)),
    *(bytes((byte,)) + b"\xff\x80\0\0\0\0\0\0\1" for byte in range(192, 224)),
    b"\xa3abc",
    b"\xd9\x03abc",
    b"\xda\0\3abc",
    b"\xdb\0\0\0\3abc",
    b"\xdb\xff\xff\xff\xff",
    b"\x93\1\2\3",
    b"\x81\xa1a\1",
    b"\xdc\0\1\1",
    b"\xdf\0\0\0\1\1\2",
    b"\x81\xc0\1",
    b"\x82\1\xc0\2\3",
    b"\1\2\3",
    b"",
]

FORMATS = (
    "b B h H i I l L T f d s c1 c3 c0 bc0 i3 I5 i8 I8 i9 x xb >i4 <i4 !4bi !bi !8bd !3b !0b i33 I32"
    " z % > xxx ss"
    " Bs i99999999999 c99999999999 !16bd >!4hi bbbb >I2c0 >Bc0 >d >f n ! !i"
).split()
DATA = [
    b"",
    b"a",
    b"abcd",
    b"abcdefgh",
    b"\xff" * 40,
    b"\x02abc\x00def",
    b"\x03abcdefghijklmnopqrstuvwxyz0123456789",
    b"\x80\0\0\0\0\0\0\0\x80",
    b"\0\0\0\0\0\0\xf0\x7f",
]

_SHOW = (
    "for i, v in ipairs(t) do if type(v) == 'number' then t[i] = string.format('%.17g', v) end end return t"
)


def test_values(pair: Pair) -> None:
    for value in VALUES:
        pair("EVAL", f"return cjson.encode({value})", 0)
        pair("EVAL", f"return cmsgpack.pack({value})", 0)
        pair("EVAL", f"return cmsgpack.pack({value}, 1, {{{value}}})", 0)
        pair("EVAL", f"return redis.sha1hex({value})", 0)
        for name in ("tobit", "bnot", "bswap", "tohex"):
            pair("EVAL", f"return bit.{name}({value})", 0)
        for form in FORMATS:
            pair("EVAL", f"return struct.pack('{form}', {value})", 0)


@pytest.mark.parametrize("name", "band bor bxor lshift rshift arshift rol ror tohex".split())
def test_bits(pair: Pair, name: str) -> None:
    pair("EVAL", f"return bit.{name}()", 0)
    pair("EVAL", f"return bit.{name}(1, 2, 4, '8')", 0)
    for first in NUMBERS:
        for second in NUMBERS[::3]:
            pair("EVAL", f"return bit.{name}({first}, {second})", 0)


def test_cjson_calls(pair: Pair) -> None:
    for call in CJSON_CALLS:
        pair("EVAL", f"return {{cjson.{call}}}", 0)


def test_cjson_texts(pair: Pair) -> None:
    shown = "return {type(v), type(v) == 'table' and cjson.encode(v) or tostring(v)}"
    for text in TEXTS:
        pair("EVAL", f"local v = cjson.decode(ARGV[1]) {shown}", 0, text)
        strict = (
            "cjson.decode_invalid_numbers(false) local ok, v = pcall(cjson.decode, ARGV[1])"
            f" cjson.decode_invalid_numbers(true) {shown}"
        )
        pair("EVAL", strict, 0, text)


def test_cmsgpack_data(pair: Pair) -> None:
    for data in PACKED:
        pair("EVAL", "local t = {cmsgpack.unpack(ARGV[1])} " + _SHOW, 0, data)
        pair("EVAL", "return {cmsgpack.unpack_one(ARGV[1])}", 0, data)
        pair("EVAL", "return {cmsgpack.unpack_limit(ARGV[1], 2)}", 0, data)
    for call in (
        "pack() unpack() unpack({}) unpack(1) unpack_one('a',5) unpack_one('a',-1) unpack_one('abc',1)"
        " unpack_limit('abc',0) unpack_limit('abc',2,1) unpack_limit('abc',-1) unpack_limit('abc')"
        " unpack_limit()"
        " unpack_one('abc','x') pack(nil) pack(nil,nil)"
    ).split():
        pair("EVAL", f"return {{cmsgpack.{call}}}", 0)


@pytest.mark.parametrize("form", FORMATS)
def test_struct(pair: Pair, form: str) -> None:
    pair("EVAL", "return struct.size(ARGV[1])", 0, form)
    pair("EVAL", "return struct.pack(ARGV[1], 1, 2, 3, 4)", 0, form)
    pair("EVAL", "return struct.pack(ARGV[1], 'abc', 'defg', -1)", 0, form)
    pair("EVAL", "return struct.pack(ARGV[1])", 0, form)
    for data in DATA:
        pair("EVAL", "local t = {struct.unpack(ARGV[1], ARGV[2])} " + _SHOW, 0, form, data)
        pair("EVAL", "return {struct.unpack(ARGV[1], ARGV[2], 3)}", 0, form, data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=5),
    max_leaves=20,
)


@quick
@given(value=JSON, is_ascii=st.booleans())
def test_json_comes_back(shared_pair: Pair, value: object, is_ascii: bool) -> None:
    text = json.dumps(value, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass")
    loose = "cjson.encode_invalid_numbers(true) return cjson.encode(cjson.decode(ARGV[1]))"
    strict = "cjson.encode_invalid_numbers(false) return cmsgpack.pack(cjson.decode(ARGV[1]))"
    shared_pair("EVAL", loose, 0, text)
    shared_pair("EVAL", strict, 0, text)


@quick
@given(text=st.text('[]{}":,0123456789.eE+-xtrufalsn \\u', max_size=20))
def test_anything_for_json(shared_pair: Pair, text: str) -> None:
    shared_pair("EVAL", "local v = cjson.decode(ARGV[1]) return {type(v), tostring(v):sub(1, 5)}", 0, text)


@quick
@given(data=st.binary(max_size=20))
def test_anything_for_cmsgpack(shared_pair: Pair, data: bytes) -> None:
    shared_pair("EVAL", "local t = {cmsgpack.unpack(ARGV[1])} " + _SHOW, 0, data)


@quick
@given(
    form=st.text("<>!=bBhHiIlLTfdsxc 0123456789", max_size=8),
    data=st.binary(max_size=40),
    number=st.floats(allow_nan=False) | st.integers(-(2**63), 2**63).map(float),
)
def test_anything_for_struct(shared_pair: Pair, form: str, data: bytes, number: float) -> None:
    shared_pair("EVAL", "local t = {struct.unpack(ARGV[1], ARGV[2])} " + _SHOW, 0, form, data)
    shared_pair(
        "EVAL",
        "local n = tonumber(ARGV[2]) return struct.pack(ARGV[1], n, n, n, n, n, n, n, n)",
        0,
        form,
        repr(number),
    )

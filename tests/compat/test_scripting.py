"""EVAL and its relatives, and functions, side by side."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.commands import quick
from harness.compat import Pair
from harness.resp import RespClient, Verbatim

SCRIPTS = (Path(__file__).parents[1] / "data" / "scripting" / "scripts.txt").read_text().splitlines()
"""One script on each line, in which \\n is a line break."""

SHEBANGS = [
    "#!lua\nreturn 1",
    "#!lua flags=\nreturn 1",
    "#!lua flags=a b\nreturn 1",
    "#!lua  flags=no-writes flags=allow-oom\nreturn 1",
    "#!lua flags=no-writes,,allow-oom\nreturn 1",
    "#!lua flags=no-writes\nreturn redis.call('set','a',1)",
    "#!lua flags=no-writes,allow-stale,allow-oom,no-cluster,allow-cross-slot-keys\nreturn {KEYS,ARGV}",
    "#!lua flags=foo\nreturn 1",
    "#! lua\nreturn 1",
    "#!\nreturn 1",
    "#!LUA\nreturn 1",
    '#!lua "flags=no-writes"\nreturn 1',
    '#!lua "flags=no-writes\nreturn 1',
    "#!lua flags\nreturn 1",
    "#!lua\r\nreturn 1",
    "#!lua name=x\nreturn 1",
    "#!lua",
    " #!lua\nreturn 1",
    "#foo",
]

REGISTRATIONS = [
    "redis.register_function()",
    "redis.register_function('a')",
    "redis.register_function(1,2)",
    "redis.register_function('a','b')",
    "redis.register_function('a b',function() end)",
    "redis.register_function('',function() end)",
    "redis.register_function({},function() end)",
    "redis.register_function{}",
    "redis.register_function{function_name='x'}",
    "redis.register_function{callback=function() end}",
    "redis.register_function{function_name='x',callback=1}",
    "redis.register_function{function_name=1,callback=function() end}",
    "redis.register_function{function_name={},callback=function() end}",
    "redis.register_function{function_name='x',callback=function() end, foo=1}",
    "redis.register_function{function_name='x',callback=function() end, [1]=1}",
    "redis.register_function{function_name='x',callback=function() end, flags=1}",
    "redis.register_function{function_name='x',callback=function() end, flags={'foo'}}",
    "redis.register_function{function_name='x',callback=function() end, flags={1}}",
    "redis.register_function{function_name='x',callback=function() end, flags={'no-writes',foo=1}}",
    "redis.register_function{function_name='x',callback=function() end, description={}}",
    "redis.register_function{function_name='x',callback=function() end, description=1}",
    "redis.register_function('x',function() end) redis.register_function('x',function() end)",
    "redis.register_function('a',function() end, 3)",
    "redis.register_function(redis)",
    "redis.foo()",
    "error('foo')",
    "redis.call('ping')",
    "redis.log(redis.LOG_DEBUG,'a') redis.set_repl(1)",
    "local a = nil; a.b=1",
    "x = 1",
    "return x",
    "x y",
    "",
]

HEADS = [
    '#!lua name=a"b\n',
    '#!lua name="ab"\n',
    "#!LUA name=ab\n",
    "#!lua name=\n",
    "#!lua  name=ab  \n",
    "#!lua name=ab\r\n",
    "#!lua name\n",
    "#!\n",
    "#!lua NAME=ab\n",
    "#! lua name=x\n",
    "#!lua name=ab foo\n",
    "#!lua name=ab name=ab\n",
    "#!lua name=a-b\n",
    "#!foo name=ab\n",
    "#!lua  \n",
    "lua name=ab\n",
    '#!lua name=ab desc="a b"\n',
    "#!lua name=ab",
    "",
]

LIBRARY = """#!lua name=lib
redis.register_function{function_name='f', callback=function(keys, args) return {keys, args} end,
  flags={'no-writes'}, description='gives back'}
"""

FUNCTIONS = """#!lua name=lib
local register = redis.register_function
local count = 0
register('set', function(keys, args) return redis.call('SET', keys[1], args[1]) end)
register('count', function() count = count + 1 return count end)
register('registers', function() register('a', register) end)
register('global', function() return x end)
register('sets', function() x = 1 end)
register('breakpoint', function() return redis.breakpoint end)
register('arguments', function(...) return select('#', ...) end)
register('fails', function() error('foo') end)
register('raises', function() error({err='A b'}) end)
register('unknown', function() return redis.call('foo') end)
register('keys', function() return type(KEYS) end)
register('log', redis.log)
register{function_name='reads', callback=function() return redis.call('set', 'a', 1) end, flags={'no-writes'}}
"""


def test_scripts(pair: Pair) -> None:
    for script in SCRIPTS:
        pair("EVAL", script.replace("\\n", "\n"), 0)


@pytest.mark.parametrize("script", SHEBANGS)
def test_shebangs(pair: Pair, script: str) -> None:
    pair("EVAL", script, 1, "a", "b")
    pair("EVAL_RO", script, 1, "a", "b")
    pair("SCRIPT", "LOAD", script)


def test_the_cache(pair: Pair) -> None:
    sha = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"
    for name in ("EVALSHA", "EVALSHA_RO"):
        pair("SCRIPT", "FLUSH", "SYNC")
        pair(name, sha, 0)
        pair(name, "ab", 0)
        pair("SCRIPT", "LOAD", "return 1")
        pair(name, sha, 0)
        pair(name, sha.upper(), 0)
        pair(name, sha, 1)
        pair(name, sha, -1)
        pair(name, sha, "x")
        pair("SCRIPT", "EXISTS", sha, sha.upper(), "x")
        pair("SCRIPT", "FLUSH", "ASYNC")
        pair("SCRIPT", "EXISTS", sha)
    pair("SCRIPT", "FLUSH", "x")
    pair("SCRIPT", "FLUSH", "SYNC", "x")
    pair("SCRIPT", "LOAD", "x y")
    pair("SCRIPT", "KILL")
    pair("SCRIPT", "DEBUG", "NO")
    pair("SCRIPT", "DEBUG", "x")
    pair("SCRIPT", "nope")
    pair("EVAL", "x y", 0)
    pair("EVAL", "return 1", 1)
    pair("EVAL", "return 1", -1)
    pair("EVAL", "return 1", "x")


def test_keys_and_arguments(pair: Pair) -> None:
    for words in ([0], [0, "a"], [1, "a"], [2, "a", "b", b"\0\xff", ""]):
        pair("EVAL", "return {KEYS, ARGV, #KEYS, #ARGV}", *words)
    pair("EVAL", "return #ARGV", 0, *range(9000))
    pair("EVAL", "return {#KEYS, KEYS[7000], #ARGV}", 7000, *range(9000))
    pair("EVAL", "local t = {'mset'} for i = 1, 2000 do t[#t+1] = i end return redis.call(unpack(t))", 0)
    pair("EVAL", "return #redis.call('mget', unpack(ARGV))", 0, *range(3000))


def test_effects(pair: Pair) -> None:
    pair("EVAL", "redis.call('SET', 'a', 1) redis.call('SELECT', 3) redis.call('SET', 'b', 2)", 0)
    pair("GET", "a")
    pair("GET", "b")
    pair("EVAL", "redis.call('SET', 'kept', 1) redis.call('LPUSH', 'kept', 1)", 0)
    pair("GET", "kept")
    pair("MULTI")
    pair("EVAL", "return redis.call('INCR', 'n')", 0)
    pair("EVAL", "return redis.call('nope')", 0)
    pair("EVAL", "nope nope", 0)
    pair("EXEC")
    pair("EVAL_RO", "return redis.call('GET', KEYS[1])", 1, "n")
    pair("EVAL_RO", "return redis.call('SET', KEYS[1], 1)", 1, "n")
    pair("WATCH", "n")
    pair("EVAL", "return redis.call('INCR', 'n')", 0)
    pair("MULTI")
    pair("EXEC")
    pair.assert_same_contents()


def test_replies_of_every_kind(pair: Pair) -> None:
    pair("HSET", "h", "f", "v")
    pair("SADD", "s", "m")
    pair("ZADD", "z", 1.5, "m", 2, "n")
    pair("RPUSH", "l", *range(100))
    pair("XADD", "x", "1-1", "f", "v", "g", "w")
    pair("XADD", "x", "1-2", "f", "v")
    pair("XGROUP", "CREATE", "x", "g", 0)
    pair("GEOADD", "geo", 1.5, 2.5, "m", 3, 4, "n")
    commands = [
        "'XRANGE','x','-','+'",
        "'XREAD','STREAMS','x','0'",
        "'XREAD','STREAMS','none','0'",
        "'XREADGROUP','GROUP','g','c','STREAMS','x','>'",
        "'XREADGROUP','GROUP','g','c','STREAMS','x','0'",
        "'XPENDING','x','g'",
        "'XAUTOCLAIM','x','g','c',0,'0'",
        "'XINFO','GROUPS','x'",
        "'GEOPOS','geo','m','none'",
        "'GEODIST','geo','m','n'",
        "'GEOSEARCH','geo','FROMLONLAT',0,0,'BYRADIUS',5000,'km','WITHCOORD','WITHDIST','WITHHASH'",
        "'INCRBYFLOAT','float',1.5",
        "'ZMSCORE','z','m','none'",
        "'ZDIFF',2,'z','none','WITHSCORES'",
        "'COMMAND','GETKEYS','GET','a'",
        "'ACL','WHOAMI'",
        "'CLIENT','TRACKINGINFO'",
        "'LCS','k','k','IDX'",
        "'HGETALL','h'",
        "'SMEMBERS','s'",
        "'ZSCORE','z','m'",
        "'ZSCORE','z','x'",
        "'ZRANGE','z',0,-1,'WITHSCORES'",
        "'ZADD','z','INCR',1,'m'",
        "'LRANGE','l',0,-1",
        "'LPOP','none',2",
        "'LPOP','none'",
        "'CONFIG','GET','x'",
        "'HRANDFIELD','h',2,'WITHVALUES'",
        "'HRANDFIELD','none'",
        "'LPOS','l',5",
        "'SMISMEMBER','s','m','x'",
        "'SCAN',0,'MATCH','h'",
        "'TYPE','h'",
        "'PING'",
        "'ECHO','x'",
        "'GETDEL','none'",
        "'LMPOP',1,'none','LEFT'",
        "'ZPOPMIN','z'",
        "'SORT','none'",
        "'OBJECT','ENCODING','none'",
        "'EXISTS','h','none'",
    ]
    for resp in (2, 3):
        for command in commands:
            pair("EVAL", f"redis.setresp({resp}) return redis.call({command})", 0)
            pair("EVAL", f"redis.setresp({resp}) return type(redis.call({command}))", 0)
            pair("EVAL", f"redis.setresp({resp}) return cjson.encode(redis.call({command}))", 0)


COUNTED = [
    "return redis.call('LPUSH', 'a', 1)",
    "return redis.pcall('LPUSH', 'a', 1)",
    "redis.pcall('LPUSH', 'a', 1) return 1",
    "pcall(redis.call, 'LPUSH', 'a', 1)",
    "local e = redis.pcall('LPUSH', 'a', 1) return {1, e}",
    "local e = redis.pcall('LPUSH', 'a', 1) return {err = e.err}",
    "local e = redis.pcall('LPUSH', 'a', 1) error(e)",
    "return redis.call('nope')",
    "return redis.pcall('GET')",
    "return redis.call('EVAL', 'x', 0)",
    "return redis.call()",
    "error('x')",
    "error({err = 'Q y'})",
    "error({err = 'WRONGTYPE a', ignore_error_stats_update = true})",
    "return {err = 'X y'}",
    "return {err = 'X y', ignore_error_stats_update = true}",
    "return {err = 'X y', ignore_error_stats_update = 1}",
    "return {{err = 'X y'}, {err = 'Z y'}, {map = {a = {err = 'A b'}}}}",
    "return {err = ''}",
    "return {err = 'noword'}",
    "return {ok = 'x'}",
    "return redis.error_reply('Z y')",
    "return nope",
    "x y",
    "#!lua flags=no-writes\nreturn redis.call('SET', 'a', 1)",
    "#!lua flags=no-writes\nreturn redis.pcall('PUBLISH', 'a', 1)",
    "#!lua flags=x\nreturn 1",
]


OURS = re.compile("cmdstat_(config|info|set:)")
"""What the test itself calls."""


@pytest.mark.parametrize("script", COUNTED)
def test_what_is_counted(pair: Pair, script: str) -> None:
    pair("SET", "a", 1)
    pair("CONFIG", "RESETSTAT")
    pair("EVAL", script, 0)
    pair("EVAL_RO", script, 0)

    def counts(client: RespClient) -> list[str]:
        replies = [client.ok("INFO", section) for section in ("commandstats", "errorstats")]
        texts = [reply.text if isinstance(reply, Verbatim) else reply for reply in replies]
        lines = b"".join(texts).decode().split("\r\n")
        return sorted(re.sub("usec.*?,rej", "rej", line) for line in lines if not OURS.search(line))

    assert counts(pair.tested) == counts(pair.reference)


@pytest.mark.parametrize("code", REGISTRATIONS)
def test_registrations(pair: Pair, code: str) -> None:
    pair("FUNCTION", "FLUSH")
    pair("FUNCTION", "LOAD", "#!lua name=lib\n" + code)
    pair("FUNCTION", "LIST", "WITHCODE")


@pytest.mark.parametrize("head", HEADS)
def test_library_metadata(pair: Pair, head: str) -> None:
    pair("FUNCTION", "FLUSH")
    pair("FUNCTION", "LOAD", head)
    pair("FUNCTION", "LOAD", head + "redis.register_function('f', function() return 1 end)")
    pair("FUNCTION", "LIST", "WITHCODE")


def test_functions(pair: Pair) -> None:
    pair("FUNCTION", "FLUSH")
    pair("FUNCTION", "LOAD", FUNCTIONS)
    pair("FUNCTION", "LOAD", FUNCTIONS)
    pair("FUNCTION", "STATS")
    names = "set count count registers global sets breakpoint arguments fails raises unknown keys log"
    for name in names.split():
        pair("FCALL", name, 1, "k", "v")
        pair("FCALL_RO", name, 1, "k", "v")
    pair("FCALL", "reads", 0)
    pair("FCALL_RO", "reads", 0)
    for words in (["nope", 0], ["set", "x"], ["set", -1], ["set", 3, "a"], ["set", 0]):
        pair("FCALL", *words)
    pair("FUNCTION", "LOAD", LIBRARY)
    pair("FUNCTION", "LOAD", "REPLACE", LIBRARY)
    pair("FCALL", "set", 1, "k", "v")
    pair("FCALL_RO", "f", 1, "k", "v")
    pair("FUNCTION", "LOAD", LIBRARY.replace("=lib", "=other"))
    pair("FUNCTION", "LOAD", "nope", LIBRARY)
    pair("FUNCTION", "LOAD", "REPLACE")
    pair("FUNCTION", "DELETE", "lib")
    pair("FUNCTION", "DELETE", "lib")
    pair("FCALL", "f", 0)
    pair("GET", "k")


def test_function_list(pair: Pair) -> None:
    pair("FUNCTION", "FLUSH", "ASYNC")
    pair("FUNCTION", "LIST")
    pair("FUNCTION", "LOAD", LIBRARY)
    for words in ([], ["WITHCODE"], ["LIBRARYNAME", "l*"], ["LIBRARYNAME", "L?B", "WITHCODE"]):
        pair("FUNCTION", "LIST", *words)
    for words in (
        ["LIBRARYNAME"],
        ["nope"],
        ["WITHCODE", "WITHCODE"],
        ["LIBRARYNAME", "a", "LIBRARYNAME", "b"],
    ):
        pair("FUNCTION", "LIST", *words)
    pair("FUNCTION", "LIST", "LIBRARYNAME", "x*")
    pair("FUNCTION", "FLUSH", "nope")
    pair("FUNCTION", "FLUSH", "SYNC", "nope")
    pair("FUNCTION", "nope")
    pair("FUNCTION", "KILL")


def test_function_dumps_move_both_ways(pair: Pair) -> None:
    pair("FUNCTION", "FLUSH")
    pair("FUNCTION", "DUMP")
    pair("FUNCTION", "LOAD", LIBRARY)
    pair.type_only("FUNCTION", "DUMP")  # what repeats is found in other ways
    for maker in (pair.reference, pair.tested):
        _restore(pair, maker.ok("FUNCTION", "DUMP"))


def _restore(pair: Pair, dump: bytes) -> None:
    for policy in ([], ["APPEND"], ["REPLACE"], ["FLUSH"], ["nope"], ["FLUSH", "nope"]):
        pair("FUNCTION", "RESTORE", dump, *policy)
        pair("FUNCTION", "LIST", "WITHCODE")
    pair("FUNCTION", "FLUSH")
    pair("FUNCTION", "LOAD", LIBRARY.replace("=lib", "=other"))
    pair("FUNCTION", "RESTORE", dump, "REPLACE")
    for damaged in (b"", b"x", dump[:-1], dump[:5] + b"\xff" + dump[6:]):
        pair("FUNCTION", "RESTORE", damaged)
    pair("FUNCTION", "FLUSH")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**52), 2**52).map(float)
    | st.integers(-100, 100).map(lambda quarters: quarters / 4)
    | st.text("ab\n\r\0é", max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=1)
    ),
    max_leaves=8,
)


def literal(value: object) -> str:
    """Return a value in Lua's words."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return "1/0" if value == float("inf") else "-1/0" if value == float("-inf") else f"{value!r}"
    if isinstance(value, str):
        return '"' + "".join(f"\\{byte:03}" for byte in value.encode()) + '"'
    if isinstance(value, list):
        return "{" + ", ".join(map(literal, value)) + "}"
    assert isinstance(value, dict)
    return "{" + ", ".join(f"[{literal(key)}] = {literal(item)}" for key, item in value.items()) + "}"


@quick
@given(value=VALUES, resp=st.sampled_from((2, 3)))
def test_any_value(shared_pair: Pair, value: object, resp: int) -> None:
    shared_pair("EVAL", f"redis.setresp({resp}) return {literal(value)}", 0)
    for name in ("map", "set", "double", "ok", "err", "verbatim_string"):
        shared_pair("EVAL", f"redis.setresp({resp}) return {{{name} = {literal(value)}}}", 0)

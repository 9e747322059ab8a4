"""The sandbox against programs that are drawn from all that it shows, and from what others have fallen for.

Whatever a script does, it is answered; and afterwards the interpreter is as it was: the same functions under
the same names, no hook left behind, no state of the server changed but the data. Scripts that take long are
killed, as an administrator would.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import hiredis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.commands import quick
from harness.local import LocalClient, Servers
from lamina.server.scripting.execution import Verdict

MEMORY_BYTES = 16 << 20
PATIENCE_NS = 20_000_000

FINGERPRINT = """
local shown = {}
local function show(name, value)
  shown[#shown + 1] = name .. '=' .. tostring(value)
end
for name, value in pairs(_G) do
  if name ~= 'KEYS' and name ~= 'ARGV' then show(name, value) end
end
for name in ('redis string table math cjson cmsgpack struct bit coroutine os'):gmatch('%a+') do
  for key, value in pairs(_G[name]) do show(name .. '.' .. key, value) end
  show('getmetatable of ' .. name, getmetatable(_G[name]))
end
show('strings', getmetatable('').__index)
show('globals', getmetatable(_G).__index)
local n = 0
for i = 1, 60000 do n = n + i end
show('sum', n)
show('works', ('a-b'):gsub('-', '+') .. cjson.encode({1}) .. redis.call('ECHO', 'x'))
table.sort(shown)
return shown
"""
"""What a script sees, and where it lies; the strings' methods, too. The hook comes by as it runs."""

FUNCTIONS = """
assert collectgarbage error gcinfo getmetatable ipairs load loadstring next pairs pcall rawequal rawget rawset
select setmetatable tonumber tostring type unpack xpcall
redis.call redis.pcall redis.log redis.sha1hex redis.error_reply redis.status_reply redis.setresp
redis.set_repl redis.acl_check_cmd redis.breakpoint redis.debug redis.replicate_commands
string.byte string.char string.dump string.find string.format string.gfind string.gmatch string.gsub
string.len string.lower string.match string.rep string.reverse string.sub string.upper
table.concat table.foreach table.foreachi table.getn table.maxn table.remove table.setn table.sort
coroutine.create coroutine.resume coroutine.running coroutine.status coroutine.wrap coroutine.yield
math.abs math.floor math.fmod math.frexp math.ldexp math.max math.random math.randomseed os.clock
bit.band bit.bnot bit.tohex bit.rol bit.tobit cjson.encode cjson.decode cjson.new
cmsgpack.pack cmsgpack.unpack cmsgpack.unpack_one cmsgpack.unpack_limit struct.pack struct.unpack struct.size
""".split()

UNREACHABLE = """
python python.eval python.builtins debug debug.getinfo debug.sethook debug.getregistry io io.open os.execute
os.exit os.getenv package package.loaded require module dofile loadfile newproxy getfenv setfenv print arg
lupa redis.register_function server x _G.x redis.call.__globals__ cjson.null.__class__
""".split()

WORDS = """
nil true false 0 1 -1 2.5 0/0 1/0 2^31 2^53 1e308 '' 'x' '%1' '(.-)%s*' '\\0' '\\27LuaQ\\0' '[[1]]' '*' '>I4'
'c0' 'k' 'GET' 'SET' 'HGETALL' 'RPUSH' 'XADD' 'LRANGE' 'EVAL' 'SHUTDOWN' 'CONFIG' '__index' '__gc' 'nope'
'__metatable' '\\221\\255\\255\\255\\255' {} _G redis string table math cjson cmsgpack struct bit coroutine os
KEYS ARGV cjson.null getmetatable('') getmetatable(_G) getmetatable(redis)
""".split()

VALUES = [
    *("'return 1'", "('x'):rep(999)", "string.rep('x', 300000)", "coroutine.create(function() end)"),
    *(
        "{1, 2, nil, 4}",
        "{err = 'A b'}",
        "{err = {}}",
        "{ok = 1}",
        "{map = {}}",
        "{set = {{}}}",
        "{double = 1}",
    ),
    *("{verbatim_string = {format = 'txt', string = 'x'}}", "{big_number = '1'}", "{x = {y = {}}}"),
    *(
        "function(...) return ... end",
        "function() error({err = 'B c'}) end",
        "function() while true do end end",
    ),
    "(function() local t = {} t[1] = t t[2] = t return t end)()",
    "(function() local t = {} t.map = {t} return t end)()",
    "(function() local t = {} for i = 1, 3000 do t = {t} end return t end)()",
    "setmetatable({}, {__index = function(t, k) return t[k] end})",
    "setmetatable({}, {__index = _G, __newindex = _G, __metatable = 1})",
    "setmetatable({}, {__gc = error, __tostring = error, __call = pcall, __len = error, __mode = 'kv'})",
    "setmetatable({}, {__eq = error, __lt = error, __le = error, __concat = error, __add = pcall})",
]

EXPRESSIONS = [
    *("<F>(<V>)", "<F>(<V>, <V>)", "<F>(<V>, <V>, <V>)", "<F>()", "select(2, pcall(<F>, <V>))", "(<V>)[<V>]"),
    *(
        "#(<V>)",
        "(<V> .. <V>)",
        "(<V> + <V>)",
        "(<V> == <V>)",
        "(<V> < <V>)",
        "(<V> and <V>)",
        "(<V>):rep(2)",
    ),
]

STATEMENTS = [
    *("local a = <E>", "local a, b, c = <E>", "a = <E>", "local t = <E> t[<E>] = <E>", "error(<E>)"),
    *(
        "redis.setresp(3)",
        "local a = redis.pcall(<V>, <V>, <V>)",
        "redis.call(<V>, <V>)",
        "do return <E> end",
    ),
    *(
        "local f = loadstring(<E>) if f then f() end",
        "local f = load(function() return <E> end) if f then f() end",
    ),
    *("table.sort({3, 1, 2}, <V>)", "('abc'):gsub('.', <V>)", "local s = string.dump(<F>) loadstring(s)()"),
    *(
        "local t = {} while true do t[#t + 1] = <E> end",
        "table.insert(<V>, <V>)",
        "local a = unpack(<V>, 1, 9)",
    ),
]

BLOCKS = [
    *("do <S> end", "for k, v in pairs(<E>) do <S> end", "for i = 1, 3 do <S> end", "if <E> then <S> end"),
    *("while true do <S> end", "repeat <S> until <V>", "pcall(function() <S> end)"),
    *("while true do pcall(function() <S> end) end", "xpcall(function() <S> end, function(...) <S> end)"),
    *("xpcall(function() <S> end, <F>)", "coroutine.wrap(function(...) <S> end)()"),
    "local c = coroutine.create(function() <S> end) while coroutine.resume(c) do end",
    "local function f(...) <S> ; return f(...) end f(1)",
    "local function f(...) <S> ; return pcall(f) end f()",
    "local a = setmetatable({}, {__index = function(t, k) <S> end}).x",
]

KINDS = (WORDS, WORDS, WORDS, VALUES, VALUES, FUNCTIONS, FUNCTIONS, UNREACHABLE)
PIECES = re.compile("<([FVES])>")
DEPTH_MAX = 4


@st.composite
def programs(draw: st.DrawFn) -> str:
    """Draw a program: some statements, each with some within it."""

    def pick(choices: Sequence[str]) -> str:
        return draw(st.sampled_from(choices))

    def filled(template: str, depth: int) -> str:
        return PIECES.sub(lambda piece: drawn(piece[1], depth + 1), template)

    def drawn(kind: str, depth: int) -> str:
        if kind == "F":
            return pick(FUNCTIONS)
        if kind == "E" and depth < DEPTH_MAX and draw(st.booleans()):
            return filled(pick(EXPRESSIONS), depth)
        if kind in "VE":
            return pick(KINDS[draw(st.integers(0, len(KINDS) - 1))])
        if depth < DEPTH_MAX and draw(st.booleans()):
            return filled(pick(BLOCKS), depth)
        return " ; ".join(filled(pick(STATEMENTS), depth) for _ in range(draw(st.integers(1, 2))))

    lines = [drawn("S", 0) for _ in range(draw(st.integers(0, 4)))]
    # What fails is not to keep all behind it from running.
    lines = [f"pcall(function() {line} end)" if draw(st.booleans()) else line for line in lines]
    if draw(st.booleans()):
        lines.append("return " + drawn("E", 0))
    return " ;\n".join(lines)


@pytest.fixture(scope="module")
def lasting() -> Iterator[LocalClient]:
    """A server in which every script that takes long is killed."""
    servers = Servers()
    local = servers.make(script_memory=MEMORY_BYTES)
    scripting = local.server.scripting

    def look_around(now_ns: int) -> None:
        running = scripting.running
        if running is None or running.argv[1] == FINGERPRINT.encode():
            return
        if now_ns - running.started_ns > PATIENCE_NS:
            running.verdict = Verdict.KILLED

    scripting.yielder.look_around = look_around  # type: ignore[method-assign]
    yield local
    servers.close()


@pytest.fixture(scope="module")
def fingerprint(lasting: LocalClient) -> Any:
    found = lasting("EVAL", FINGERPRINT, 0)
    assert len(found) > 150, found
    return found


def check(local: LocalClient, fingerprint: Any, program: str) -> None:
    scripting = local.server.scripting
    if local("EXISTS", "k") and local("DBSIZE") > 100:
        local("FLUSHALL")
    reply = local.raw("EVAL", program, 0)
    assert reply[:1] in (b"+", b"-", b":", b"$", b"*"), reply
    assert not reply.startswith(b"-ERR internal error"), reply
    assert b"Traceback" not in reply
    if len(reply) < 10_000 and b"*1\r\n*1\r\n*1\r\n*1\r\n" not in reply:  # deeper than hiredis goes
        reader = hiredis.Reader(encoding=None, notEnoughData=Ellipsis)
        reader.feed(reply)
        assert reader.gets() is not Ellipsis
        assert reader.gets() is Ellipsis
    client, server = local.client, local.server
    assert scripting.running is None
    assert (client.resp, client.keyspace.index, client.wait) == (2, 0, None)
    assert not server.denies_blocking
    assert not server.is_in_script
    scripting.flush_scripts()
    assert local("EVAL", FINGERPRINT, 0) == fingerprint
    assert scripting.used_bytes < MEMORY_BYTES


@quick
@given(program=programs())
def test_programs(lasting: LocalClient, fingerprint: Any, program: str) -> None:
    check(lasting, fingerprint, program)


@pytest.mark.slow
@settings(max_examples=20_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(program=programs())
def test_programs_at_length(lasting: LocalClient, fingerprint: Any, program: str) -> None:
    check(lasting, fingerprint, program)


@quick
@given(body=programs())
def test_libraries(lasting: LocalClient, fingerprint: Any, body: str) -> None:
    lasting("FUNCTION", "FLUSH")
    loaded = lasting.raw("FUNCTION", "LOAD", f"#!lua name=l\n{body}")
    assert loaded.startswith((b"-ERR Error ", b"-ERR No functions registered", b"$1\r\nl")), loaded
    source = f"#!lua name=l\nredis.register_function('f', function(KEYS, ARGV) {body}\nend)"
    if lasting.raw("FUNCTION", "LOAD", source) == b"$1\r\nl\r\n":
        reply = lasting.raw("FCALL", "f", 1, "k", "v")
        assert not reply.startswith(b"-ERR internal error"), reply
    assert lasting("EVAL", FINGERPRINT, 0) == fingerprint

"""The sandbox: what scripts must not reach, keep, or use up."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lupa.lua51
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.commands import quick
from harness.local import LocalClient, Servers
from lamina.server import scripting
from lamina.server.errors import CommandError

FOLDER = Path(scripting.__file__).parent / "lua"

UNREACHABLE = (
    "python io debug require package module dofile loadfile newproxy getfenv setfenv print arg lupa"
    " __redis__err__handler"
).split()

ESCAPES = [
    # what lupa lets Lua do with an object of Python's, were there one
    "return python.eval('1')",
    "return python.builtins",
    "return redis.call.__globals__",
    "return redis.call.__class__",
    "return getmetatable(redis.call)",
    "return getmetatable(redis.log).__index",
    "return redis.call('GET', 'a').__class__",
    "local ok, e = pcall(redis.call, {}) return e.__traceback__",
    "local ok, e = pcall(redis.call, redis.call) return e.__class__",
    "local ok, e = pcall(redis.call, coroutine.create(function() end)) return e.__class__",
    "local ok, e = pcall(redis.sha1hex, redis) return e.__class__",
    "return cjson.null.__class__",
    "cjson.null.x = 1",
    "return getmetatable(cjson.null)",
    # Redis's own history: bytecode, the registry, shared tables, the string metatable
    "return load(string.dump(function() return 1 end))()",
    "return loadstring('\\27LuaQ')()",
    "local n = 0 return load(function() n = n + 1 return ({'\\27Lua', 'Q'})[n] end)()",
    "_G.x = 1",
    "rawset(_G, 'x', 1)",
    "setmetatable(_G, nil)",
    "getmetatable(_G).__index = nil",
    "redis.call = nil",
    "rawset(redis, 'call', nil)",
    "setmetatable(redis, {})",
    "table.insert(redis, 1)",
    "table.insert(_G, 1, 1)",
    "string.rep = nil",
    "rawset(string, 'rep', nil)",
    "getmetatable('').__index = nil",
    "getmetatable('').__add = function() end",
    "rawset(getmetatable(''), '__index', {})",
    "setmetatable('', {})",
    "for _, t in pairs(redis) do end local f, t = pairs(redis) t.call = nil",
    "for k in next, redis do redis[k] = nil end",
    "math.random = nil",
    "cjson.encode = nil",
    "cmsgpack.pack = nil",
    "struct.pack = nil",
    "bit.band = nil",
    "os.exit()",
    "os.execute('true')",
    "os.clock = nil",
    "coroutine.create = nil",
]


@pytest.mark.parametrize("name", UNREACHABLE)
def test_what_is_not_there(local: LocalClient, name: str) -> None:
    reply = local("EVAL", f"return {name}", 0)
    assert b"attempted to access nonexistent global variable" in reply.message
    assert local("EVAL", f"return rawget(_G, '{name}')", 0) is None
    assert b"nonexistent global variable" in local("FUNCTION", "LOAD", f"#!lua name=a\nreturn {name}").message


@pytest.mark.parametrize("script", ESCAPES)
def test_escapes(local: LocalClient, script: str) -> None:
    reply = local("EVAL", script, 0)
    assert reply is None or isinstance(reply, CommandError), reply
    healthy = (
        "return {redis.call('PING').ok, ('x'):rep(2), cjson.encode({1}), math.max(1, 2), type(bit.band)}"
    )
    assert local("EVAL", healthy, 0) == [b"PONG", b"xx", b"[1]", 2, b"function"]


def test_scripts_share_nothing(local: LocalClient) -> None:
    local("EVAL", "KEYS.x = 1 ARGV[1] = 2 local t = {} t.y = 1", 0)
    assert local("EVAL", "return {KEYS.x or 0, #ARGV}", 0) == [0, 0]
    assert local("EVAL", "local n = 0 for k in pairs(redis) do n = n + 1 end return n", 0) > 20


def everything_reachable(local: LocalClient) -> Any:
    """Walk from a script's globals through all tables and metatables; returns the types found."""
    return local(
        "EVAL",
        """
        local seen, kinds, left = {}, {}, {_G, redis, getmetatable(''), getmetatable(_G)}
        while #left > 0 do
          local value = table.remove(left)
          local kind = type(value)
          if value ~= nil and not seen[value] then
            seen[value] = true
            kinds[kind .. (kind == 'userdata' and tostring(value) or '')] = true
            if kind == 'table' then
              for k, v in pairs(value) do left[#left + 1] = k left[#left + 1] = v end
            end
            left[#left + 1] = getmetatable(value)
          end
        end
        local names = {}
        for name in pairs(kinds) do names[#names + 1] = name end
        table.sort(names)
        return names
        """,
        0,
    )


def test_only_plain_values_are_reachable(local: LocalClient) -> None:
    plain = [b"boolean", b"function", b"number", b"string", b"table", b"userdatauserdata: (nil)"]
    assert everything_reachable(local) == plain


def test_attributes_of_python_are_refused_even_if_an_object_gets_through(local: LocalClient) -> None:
    local("EVAL", "return 1", 0)
    lua: Any = local.server.scripting.runtime._lua
    for attribute in (b"__class__", b"__globals__", b"x"):
        with pytest.raises(AttributeError):
            lua.execute(b"local object, name = ... return object[name]", test_escapes, attribute)
        with pytest.raises(AttributeError):
            lua.execute(b"local object, name = ... object[name] = 1", test_escapes, attribute)


def globals_of(code: bytes, at: int, depth: int, found: list[tuple[int, bytes]]) -> int:
    """Note the names that functions within a chunk of bytecode look up as globals; returns its end."""

    def u32(position: int) -> int:
        return int(struct.unpack_from("<I", code, position)[0])

    def after_string(position: int) -> int:
        return position + 8 + int(struct.unpack_from("<Q", code, position)[0])

    at = after_string(at)
    line = u32(at)
    at += 12
    instructions = [u32(at + 4 + 4 * i) for i in range(u32(at))]
    at += 4 + 4 * len(instructions)
    constants: list[bytes] = []
    count = u32(at)
    at += 4
    for _ in range(count):
        kind = code[at]
        end = after_string(at + 1) if kind == 4 else at + 1 + {0: 0, 1: 1, 3: 8}[kind]
        constants.append(code[at + 9 : end - 1] if kind == 4 else b"")
        at = end
    if depth:
        found += [(line, constants[word >> 14]) for word in instructions if word & 63 in (5, 7)]
    count = u32(at)
    at += 4
    for _ in range(count):
        at = globals_of(code, at, depth + 1, found)
    at += 4 + 4 * u32(at)
    for extra in (8, 0):
        count = u32(at)
        at += 4
        for _ in range(count):
            at = after_string(at) + extra
    return at


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.lua")), ids=lambda path: path.stem)
def test_trusted_code_uses_no_globals_once_it_is_loaded(path: Path) -> None:
    lua: Any = lupa.lua51.LuaRuntime(encoding=None)
    code = lua.execute(b"return string.dump(assert(loadstring((...))))", path.read_bytes())
    found: list[tuple[int, bytes]] = []
    globals_of(code, 12, 0, found)
    while_loading = {b"string", b"_G"} if path.stem == "sandbox" else set()
    assert {name for _, name in found} <= while_loading


# -- memory and depth --------------------------------------------------------------------------------------

LIMIT = 16 << 20

HUNGRY = [
    "local t = {} while true do t[#t + 1] = string.rep('x', 1000) .. #t end",
    "local t = {} while true do t[#t + 1] = {} end",
    "local s = 'x' while true do s = s .. s end",
    "return string.rep('x', 1e9)",
    "local t = {1} for i = 1, 30 do t = {t, t} end return t",
    "local t = {} for i = 1, 1e6 do t[i] = 'x' end return t",
    "local t = {} for i = 1, 1e6 do t[i] = coroutine.create(function() end) end",
    "local t = {} for i = 1, 1000 do t[i] = redis.call('GETRANGE', 'large', i, -1) end",
    "local t = {} for i = 1, 1000 do t[i] = redis.call('LRANGE', 'list', 0, -1) end",
    "local s = redis.call('GET', 'large') return redis.call('ECHO', s .. s .. s .. s)",
    "local t = {} for i = 1, 1e6 do t[i] = i end return cjson.encode(t)",
    "local t = {} for i = 1, 1e6 do t[i] = i end return cmsgpack.pack(t)",
    "return load(function() return 'x' end)",
    "return cmsgpack.unpack('\\221\\255\\255\\255\\255' .. string.rep('\\1', 5000000))",
    "return cjson.decode('[' .. string.rep('1,', 3000000) .. '1]')",
]

CAUGHT = """
local t = {}
pcall(function() while true do t[#t + 1] = string.rep('x', 10) .. #t end end)
local ok, message = pcall(%s)
return message
"""

CROSSINGS = [
    "redis.call, 'GET', 'large'",
    "redis.pcall, 'GET', 'a'",
    "redis.sha1hex, 'a'",
    "redis.log, 1, 'a'",
    "redis.acl_check_cmd, 'GET', 'a'",
    "bit.band, 1, 2",
    "struct.pack, 'd', 1.5",
    "cmsgpack.pack, 1.5",
    "cjson.encode, t",
]


@pytest.fixture
def small(make_local: Servers) -> LocalClient:
    local = make_local.make(script_memory=LIMIT)
    local("SET", "large", "x" * 3_000_000)
    local("RPUSH", "list", *range(10_000))
    return local


@pytest.mark.parametrize("script", HUNGRY)
def test_memory_is_bounded(small: LocalClient, script: str) -> None:
    reply = small("EVAL", script, 0)
    assert b"not enough memory" in reply.message
    assert small.server.scripting.used_bytes < LIMIT + (10 << 20)
    assert small("EVAL", "return #redis.call('GET', 'large')", 0) == 3_000_000


@pytest.mark.parametrize("crossing", CROSSINGS)
def test_python_is_not_entered_without_memory(small: LocalClient, crossing: str) -> None:
    assert b"not enough memory" in small("EVAL", CAUGHT % crossing, 0)
    assert small("EVAL", "return redis.call('ECHO', 'fine')", 0) == b"fine"


def test_large_arguments_are_weighed(small: LocalClient) -> None:
    assert small("EVAL", "return #ARGV[1]", 0, "x" * 10_000_000) == 10_000_000
    assert b"not enough memory" in small("EVAL", "return #ARGV[1]", 0, "x" * 20_000_000).message
    assert small("EVAL", "return #ARGV", 0, *range(100_000)) == 100_000


@pytest.mark.parametrize(
    "script",
    [
        "local function f() return f() end return f()",
        "local function f() f() end f()",
        "local function f() return pcall(f) end return {f()}",
        "local function f(x) return x:gsub('.', f) end f('a')",
        "local function f() coroutine.wrap(f)() end f()",
        "local t = setmetatable({}, {__index = function(t, k) return t[k + 1] end}) return t[1]",
        "local t = {} t[1] = t return t",
        "local t = {} t[1] = t return cjson.encode(t)",
        "local t = {} t[1] = t return #cmsgpack.pack(t)",
        "return xpcall(error, error)",
        "error(setmetatable({}, {__tostring = error, __index = error}))",
        "return unpack({}, 1, 1e8)",
        "return cjson.decode(string.rep('[', 100000))",
        "return cmsgpack.unpack(string.rep('\\145', 100000))",
        "return loadstring(string.rep('(', 100000))()",
        "return loadstring('return ' .. string.rep('{', 1000))()",
    ],
)
def test_depth_is_bounded(local: LocalClient, script: str) -> None:
    local.raw("EVAL", script, 0)  # some replies are deeper than the tests' parser goes
    assert local("EVAL", "return 1", 0) == 1


@pytest.mark.parametrize("repeated", "?*+-")
@pytest.mark.parametrize("call", ["s:find(p)", "s:match(p)", "s:gsub(p, '')", "s:gmatch(p)()"])
def test_patterns_do_not_exhaust_the_stack(local: LocalClient, repeated: str, call: str) -> None:
    script = f"local s, p = string.rep('a', 3e5), string.rep('a{repeated}', ARGV[1]) return {call} and 1"
    assert b"user_script:1: pattern too complex" in local("EVAL", script, 0, 300_000).message
    if repeated != "+":  # which would try for ever
        assert local("EVAL", script, 0, 9_000) == 1


WORDS = st.sampled_from(
    (
        "local function end return if then else for in do while break and or not nil true"
        " false redis . call ( )"
        " { } , = == ~= .. # [ ] : pcall error string table cjson setmetatable getmetatable _G x 1 'a' ; ..."
    ).split()
)


@pytest.fixture(scope="module")
def lasting() -> Iterator[LocalClient]:
    servers = Servers()
    yield servers.make()
    servers.close()


@quick
@given(words=st.lists(WORDS, max_size=25))
def test_any_words(lasting: LocalClient, words: list[str]) -> None:
    lasting.server.scripting.flush_scripts()
    script = " ".join(words)
    if "while" in words:  # one that never ends would never end
        script = script.replace("while", "if")
    lasting("EVAL", script, 0)
    assert lasting("EVAL", "return {redis.call('ECHO', 'x'), #KEYS}", 0) == [b"x", 0]

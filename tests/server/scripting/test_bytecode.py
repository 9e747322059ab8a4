"""Tail calls are made ordinary calls, and nothing else changes."""

from __future__ import annotations

from typing import Any

import lupa.lua51
import pytest

from lamina.server.scripting.bytecode import without_tail_calls


@pytest.fixture
def lua() -> Any:
    return lupa.lua51.LuaRuntime(encoding=None)


PROGRAMS = [
    ("return f(1)", True),
    ("local function g(...) return f(...) end return g(2)", True),
    ("if true then return (f(3)) end", False),
    ("return f(1) + 1", False),
    ("return", False),
    ("local t = {f = function(self, x) return f(x) end} return t:f(4)", True),
    ("local s = 'a\\0b' local n, b = 1.5, nil return f(s, n, b, true)", True),
]


@pytest.mark.parametrize(("source", "has_tail_calls"), PROGRAMS)
def test_programs(lua: Any, source: str, has_tail_calls: bool) -> None:
    lua.execute(b"function f(...) return ... end")
    dump = lua.execute(b"return function(s) return string.dump(assert(loadstring(s))) end")
    run = lua.execute(b"return function(s) return assert(loadstring(s))() end")
    code = dump(source.encode())
    patched = without_tail_calls(code)
    assert (patched is not None) == has_tail_calls
    if patched is not None:
        assert len(patched) == len(code)
        assert run(patched) == run(source.encode())
        assert without_tail_calls(patched) is None


def test_frames_stay(lua: Any) -> None:
    depth = b"local n = 0 while debug.getinfo(n + 1, 'S') do n = n + 1 end return n"
    lua.globals()[b"depth"] = lua.execute(b"return loadstring(...)", depth)
    dump = lua.execute(b"return function(s) return string.dump(assert(loadstring(s))) end")
    load = lua.execute(b"return loadstring")
    source = b"local function g() return depth() end return g()"
    patched = without_tail_calls(dump(source))
    assert patched is not None
    count = lua.execute(b"return function(f) local tails, n = 0, 1 f() return tails, n end")
    assert count(load(patched)) == (0, 1)
    what = b"return debug.getinfo(2, 'S').what"
    lua.globals()[b"depth"] = lua.execute(b"return loadstring(...)", what)
    assert load(source)() == b"tail"
    assert load(patched)() == b"Lua"


def test_other_forms_are_left_alone() -> None:
    assert without_tail_calls(b"") is None
    assert without_tail_calls(b"\x1bLuaR\0\1\4\x08\4\x08\0" + b"\x1d" * 100) is None

"""One Lua interpreter, with what scripts may use and nothing else.

Built when the first script comes, which takes some ms. `lua/` holds the trusted code; this is what it may
call of Python, and how Python calls it.

Nothing of Python is reachable for a script: all globals of Lua and of lupa are taken away once the trusted
code has what it needs of them, that code hands out strings, numbers, booleans and tables only, and if an
object of Python's should get through all the same, each access to its attributes is refused.

Memory is bounded by `script-memory`. The interpreter's own limit lies `_SLACK_BYTES` above: an allocation
that fails raises an error in Lua by a jump, and must not do so while Python's frames are between. So
redis.lua enters Python below the limit only, and whatever Python hands over is weighed before (`has_room`).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from lupa.lua51 import LuaError, LuaMemoryError, LuaRuntime

from lamina.server.scripting import numberwork
from lamina.server.scripting.bytecode import without_tail_calls
from lamina.server.scripting.conversion import Rows
from lamina.server.scripting.execution import VERDICTS
from lamina.server.scripting.flags import NO_WRITES
from lamina.server.version import REDIS_VERSION

log = logging.getLogger(__name__)

_SLACK_BYTES: Final = 8 << 20
_ARGUMENT_BYTES: Final = 64
_TABLES_FROM: Final = 2000
"""Arguments from which on they are handed over in tables: Lua's stack has room for some 8000."""

_HOOK_INSTRUCTIONS: Final = 20_000
"""Instructions of Lua between two looks at the clock: 0.1 ms, of which a look takes a hundredth. Some that
call C are a thousand times as dear, as `string.rep` of a megabyte."""

_FILES: Final = "random sandbox reply struct cmsgpack cjson bit redis".split()
_LIBRARIES: Final = "struct cmsgpack cjson bit".split()
"""Files that scripts which are to end may be stopped in: see redis.lua."""
_TRUSTED: Final = b"=lamina"
_DUMP: Final = b"local source, name = ... return string.dump(assert(loadstring(source, name)))"

_LEVELS: Final = (logging.DEBUG, (logging.DEBUG + logging.INFO) // 2, logging.INFO, logging.WARNING)
"""Python's levels for redis.LOG_DEBUG and so on."""

LuaFunction = Callable[..., Any]


class Registered(NamedTuple):
    """A function as a library has registered it."""

    name: bytes
    callback: LuaFunction
    description: bytes | None
    flags: frozenset[str]

    @property
    def is_read_only(self) -> bool:
        """Whether it has said that it does not write."""
        return NO_WRITES in self.flags


class CompileError(Exception):
    """Source that is no Lua. The message is Lua's."""

    def __init__(self, message: bytes) -> None:
        super().__init__(message)
        self.message = message


class LoadError(Exception):
    """A library whose code has failed. The message says how."""

    def __init__(self, message: bytes) -> None:
        super().__init__(message)
        self.message = message


class Host(NamedTuple):
    """What redis.lua may ask of the server. None of them may raise anything."""

    call: Callable[..., Any]
    call_packed: Callable[..., Any]
    acl_check_cmd: Callable[..., Any]
    setresp: Callable[[int], None]
    poll: Callable[[], int | None]


class Runtime:
    """A Lua interpreter."""

    def __init__(self, host: Host, *, memory_bytes: int) -> None:
        self.limit_bytes = memory_bytes
        self._lua = lua = LuaRuntime(
            encoding=None,
            attribute_filter=_refuse,
            register_eval=False,
            register_builtins=False,
            unpack_returned_tuples=True,
            max_memory=memory_bytes + _SLACK_BYTES,
        )
        self._used = lua.get_memory_used
        shared = lua.table_from({b"HOOK_INSTRUCTIONS": _HOOK_INSTRUCTIONS})
        functions = {name.encode(): function for name, function in host._asdict().items()}
        functions |= {function.__name__.encode(): function for function in numberwork.FUNCTIONS}
        functions |= {b"log": _log, b"sha1hex": _sha1hex, b"patch": without_tail_calls}
        constants = {
            b"soft_limit_kb": memory_bytes // 1024,
            b"verdicts": lua.table_from({int(verdict): text for verdict, text in VERDICTS.items()}),
            b"version": REDIS_VERSION.encode(),
            b"version_number": _version_number(),
        }
        table = lua.table_from(functions | constants)
        folder = Path(__file__).parent / "lua"
        for name in _FILES:
            chunk_name = _TRUSTED + b"." + name.encode() if name in _LIBRARIES else _TRUSTED
            code = lua.execute(_DUMP, (folder / f"{name}.lua").read_bytes(), chunk_name)
            lua.execute(without_tail_calls(code) or code, shared, table)
        self._compile = shared[b"compile"]
        self._run = shared[b"run"]
        self._run_with_tables = shared[b"run_with_tables"]
        self._run_function = shared[b"run_function"]
        self._run_function_with_tables = shared[b"run_function_with_tables"]
        self._release = shared[b"release"]
        self._load_library = shared[b"load_library"]
        # Scripts have globals of their own; what is left of the interpreter's is nobody's.
        lua.execute(b"local all = _G for name in next, all do all[name] = nil end")

    def table(self, value: Any) -> Any:
        """Return a Lua table of a list or dict of bytes, numbers, booleans, lists and dicts."""
        return self._lua.table_from(value, recursive=True)

    def table_with_rows(self, value: Any) -> Any:
        """As `table`; maps may also be `Rows`, whose keys are tables."""
        kind = value.__class__
        if kind is list:
            return self._lua.table_from([self.table_with_rows(item) for item in value])
        if kind is dict:
            return self._lua.table_from({key: self.table_with_rows(item) for key, item in value.items()})
        if kind is not Rows:
            return value
        table = self._lua.table()
        for key, item in value:
            table[self.table_with_rows(key)] = self.table_with_rows(item)
        return table

    def flat_table(self, items: list[bytes]) -> Any:
        """Return a Lua table of strings, in a fifth of the time."""
        return self._lua.table_from(items)

    @property
    def used_bytes(self) -> int:
        """Memory that Lua has allocated."""
        return int(self._used())

    def has_room(self, size_bytes: int) -> bool:
        """Tell whether so much can be handed over to Lua."""
        return bool(self._used() + size_bytes <= self.limit_bytes)

    def collect(self) -> None:
        """Free what is not used any more."""
        self._lua.gccollect()

    def compile(self, source: bytes) -> LuaFunction:
        """Compile a script. Errors: CompileError."""
        self._make_room(4 * len(source))
        try:
            result = self._compile(source)
        except LuaError as error:
            raise CompileError(_message_of(error)) from None
        if result.__class__ is tuple:
            raise CompileError(result[1])
        return result  # type: ignore[no-any-return]

    def run(self, script: LuaFunction, resp: int, keys_count: int, words: list[bytes]) -> Any:
        """Run a script; `words` are the keys, and behind them the other arguments.

        Returns what `outcome` in redis.lua does. Errors: LuaError.
        """
        count = len(words)
        self._make_room(sum(map(len, words)) + _ARGUMENT_BYTES * count)
        if count < _TABLES_FROM:
            return self._run(script, resp, keys_count, *words)
        table = self._lua.table_from
        return self._run_with_tables(script, resp, table(words[:keys_count]), table(words[keys_count:]))

    def run_function(self, function: LuaFunction, resp: int, keys_count: int, words: list[bytes]) -> Any:
        """Run a function of a library, as `run`."""
        count = len(words)
        self._make_room(sum(map(len, words)) + _ARGUMENT_BYTES * count)
        if count < _TABLES_FROM:
            return self._run_function(function, resp, keys_count, *words)
        table = self._lua.table_from
        keys, values = table(words[:keys_count]), table(words[keys_count:])
        return self._run_function_with_tables(function, resp, keys, values)

    def load_library(self, source: bytes) -> list[Registered]:
        """Run the code of a library; returns what it registers. Errors: CompileError, LoadError."""
        try:
            self._make_room(4 * len(source))
            is_loaded, *found = _as_tuple(self._load_library(source))
        except LuaError as error:
            raise LoadError(_message_of(error)) from None
        if not is_loaded:
            is_compiled, message = found
            raise (LoadError if is_compiled else CompileError)(message or b"")
        return [
            Registered(name, callback, description or None, frozenset(flags.decode().split()))
            for name, callback, description, flags in zip(*(found[i::4] for i in range(4)))
        ]

    def _make_room(self, size_bytes: int) -> None:
        """See to it that arguments can be handed over. Errors: LuaMemoryError."""
        if self._used() + size_bytes > self.limit_bytes // 2:
            self._release()
            self.collect()
            if not self.has_room(size_bytes):
                raise LuaMemoryError("not enough memory")


def _message_of(error: LuaError) -> bytes:
    if isinstance(error, LuaMemoryError):
        return b"not enough memory"
    return str(error).encode("latin-1", "replace")


def _as_tuple(result: Any) -> tuple[Any, ...]:
    return result if result.__class__ is tuple else (result,)


def _version_number() -> int:
    major, minor, patch = map(int, REDIS_VERSION.split("."))
    return major << 16 | minor << 8 | patch


def _refuse(target: object, name: object, is_setting: bool) -> NoReturn:
    raise AttributeError("Lua has no access to Python's objects")


def _log(level: int, text: bytes) -> None:
    log.log(_LEVELS[level], "%s", text.decode(errors="backslashreplace"))


def _sha1hex(text: bytes) -> bytes:
    return hashlib.sha1(text).hexdigest().encode()

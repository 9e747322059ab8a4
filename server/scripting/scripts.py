"""The cache of scripts: what EVAL has run or SCRIPT LOAD has brought, by its SHA-1.

It is not part of the data: a server that starts anew has none. Scripts that only EVAL has brought are
dropped, the oldest first, when they fill Lua's memory: whoever calls one by its SHA-1 then is told so and
sends it again.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

from lamina.server.errors import CommandError
from lamina.server.scripting.flags import NO_WRITES, parse_script
from lamina.server.scripting.runtime import CompileError, LuaFunction, Runtime

NO_SCRIPT: Final = CommandError(b"NOSCRIPT No matching script. Please use EVAL.")

_SHARE: Final = 4
"""Above this part of Lua's memory it is seen to what takes it."""


class Script(NamedTuple):
    """A compiled script."""

    sha: bytes
    source: bytes
    function: LuaFunction
    is_read_only: bool
    declares_writes: bool
    """Whether it has flags and `no-writes` is not among them. One without flags may do as it likes."""


class Scripts:
    """Scripts by SHA-1, in lower case."""

    def __init__(self) -> None:
        self._by_sha: dict[bytes, Script] = {}
        self._shas: dict[bytes, bytes] = {}
        """SHA-1s of sources that are cached: computing one costs a microsecond and more for each kB."""
        self._passing: dict[bytes, None] = {}
        """SHA-1s of those that nobody has asked to keep, in the order they came."""
        self.source_bytes = 0

    def __len__(self) -> int:
        return len(self._by_sha)

    def __contains__(self, sha: bytes) -> bool:
        return sha.lower() in self._by_sha

    def find(self, sha: bytes) -> Script:
        """Return the script with a SHA-1. Errors: CommandError if there is none."""
        script = self._by_sha.get(sha)
        if script is None:
            script = self._by_sha.get(sha.lower())
            if script is None:
                raise NO_SCRIPT
        return script

    def take(self, runtime: Runtime, source: bytes, *, keeps: bool) -> Script:
        """Return the script with a source, compiled if it is new. Errors: CommandError, LuaError.

        `keeps` is for SCRIPT LOAD.
        """
        sha = self._shas.get(source)
        if sha is not None:
            if keeps:
                self._passing.pop(sha, None)
            return self._by_sha[sha]
        if self._passing and runtime.used_bytes > runtime.limit_bytes // _SHARE:
            self._drop_oldest(runtime)
        sha = hashlib.sha1(source).hexdigest().encode()
        code, flags = parse_script(source)
        try:
            function = runtime.compile(code)
        except CompileError as error:
            raise CommandError(b"ERR Error compiling script (new function): " + error.message) from None
        is_read_only = flags is not None and NO_WRITES in flags
        script = Script(sha, source, function, is_read_only, flags is not None and not is_read_only)
        self._by_sha[sha] = script
        self._shas[source] = sha
        self.source_bytes += len(source)
        if not keeps:
            self._passing[sha] = None
        return script

    def _drop_oldest(self, runtime: Runtime) -> None:
        """Forget half of what EVAL has brought, if it is that which fills the memory."""
        runtime.collect()
        if runtime.used_bytes <= runtime.limit_bytes // _SHARE:
            return
        for sha in list(self._passing)[: len(self._passing) // 2 + 1]:
            del self._passing[sha]
            script = self._by_sha.pop(sha)
            del self._shas[script.source]
            self.source_bytes -= len(script.source)
        runtime.collect()

    def flush(self) -> None:
        """Forget all scripts."""
        self._by_sha.clear()
        self._shas.clear()
        self._passing.clear()
        self.source_bytes = 0

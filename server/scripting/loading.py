"""Libraries of functions where there is no server: whether they can be loaded, and what they register."""

from __future__ import annotations

from time import perf_counter_ns
from typing import Any, Final

from lamina.server.scripting.execution import LOAD_MAX_NS, Verdict
from lamina.server.scripting.runtime import Host, Registered, Runtime

_MEMORY_BYTES: Final = 64 << 20


class LibraryLoader:
    """A `Loader` with an interpreter of its own, which is built when it is first needed."""

    def __init__(self) -> None:
        self._runtime: Runtime | None = None
        self._deadline_ns = 0

    def __call__(self, code: bytes) -> list[Registered]:
        """Run the code of a library. Errors: CompileError, LoadError."""
        if self._runtime is None:
            # While a library is loaded there is no redis.call, nor anything else that asks for a server.
            host = Host(_nothing, _nothing, _nothing, _nothing, self._poll)
            self._runtime = Runtime(host, memory_bytes=_MEMORY_BYTES)
        self._deadline_ns = perf_counter_ns() + LOAD_MAX_NS
        return self._runtime.load_library(code)

    def _poll(self) -> int | None:
        return Verdict.TIMEOUT.value if perf_counter_ns() > self._deadline_ns else None


def _nothing(*arguments: Any) -> None:
    """Stand for what nobody calls."""

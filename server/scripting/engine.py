"""Scripts and functions of one server: how a call of EVAL or FCALL becomes a run of Lua, and a run a reply.

What a script has written before it failed stays written, as in Redis. It is part of the turn in any case: one
frame of the log has all of it, or nothing.
"""

from __future__ import annotations

import logging
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

from lupa.lua51 import LuaError, LuaMemoryError

from lamina.engine import EngineError
from lamina.server.errors import INTERNAL_ERROR, CommandError
from lamina.server.registry import COMMANDS
from lamina.server.replies import Encoded
from lamina.server.scripting.calls import Calls
from lamina.server.scripting.execution import LOAD_MAX_NS, Execution, Verdict
from lamina.server.scripting.libraries import Libraries
from lamina.server.scripting.runtime import Host, Registered, Runtime
from lamina.server.scripting.scripts import Script, Scripts
from lamina.server.scripting.yielding import Yielder

if TYPE_CHECKING:
    from lamina.server.client import Client
    from lamina.server.server import Server

log = logging.getLogger(__name__)

_MISSING_ERROR: Final = b"ERR unknown error"
_CANNOT_WRITE: Final = CommandError(b"ERR Can not execute a script with write flag using *_ro command.")

# What redis.lua's `outcome` says first.
_VALUE: Final = 0
_WIRE: Final = 1
_BOOLEAN: Final = 2
_FAILURE: Final = 3

_ERRORS_AT: Final = 2
"""Where, behind a reply with errors in it, their texts are."""

_CODE_BYTES_MAX: Final = 32
"""An error whose first word is longer has no code of its own."""

_INTEGER_MIN: Final = -(1 << 63)
_COLLECTED_EVERY: Final = 256
"""Runs after which it is seen to the garbage they have left."""


class Scripting:
    """Runs scripts and functions."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.scripts = Scripts()
        self.yielder = Yielder(server, self._note_failure)
        self.running: Execution | None = None
        self._calls = Calls(self)
        self._runtime: Runtime | None = None
        self._runs = 0
        self.libraries = Libraries(server.databases, self._load_library)  # runs their code

    @property
    def is_busy(self) -> bool:
        """Whether a script has been running for so long that others are served meanwhile."""
        return self.yielder.is_busy

    @property
    def busy_error(self) -> CommandError:
        """What others are answered while a script takes long."""
        assert self.running is not None
        return self.running.busy_error

    @property
    def runtime(self) -> Runtime:
        """The Lua interpreter."""
        runtime = self._runtime
        if runtime is None:
            calls = self._calls
            host = Host(calls.call, calls.call_packed, calls.acl_check_cmd, calls.setresp, self._poll)
            runtime = self._runtime = Runtime(host, memory_bytes=self.server.config.script_memory)
        return runtime

    @property
    def used_bytes(self) -> int:
        """Memory of the interpreter; 0 before there is one."""
        return 0 if self._runtime is None else self._runtime.used_bytes

    def take_script(self, source: bytes, *, keeps: bool = False) -> Script:
        """Return the script with a source, for EVAL and SCRIPT LOAD. Errors: CommandError."""
        try:
            return self.scripts.take(self.runtime, source, keeps=keeps)
        except LuaError as error:
            raise CommandError(b"ERR " + str(error).encode("latin-1", "replace")) from None

    def flush_scripts(self) -> None:
        """Forget all scripts."""
        self.scripts.flush()
        if self._runtime is not None:
            self._runtime.collect()

    # -- running -----------------------------------------------------------------------------------

    def run_script(
        self, client: Client, script: Script, argv: list[bytes], keys_count: int, *, is_read_only: bool
    ) -> Any:
        """Run a script for a client; returns its reply. Keys begin at argv[3]. Errors: CommandError."""
        if script.declares_writes:
            self._check_writing(is_read_only)
        execution = Execution(
            client,
            script.sha,
            script.function,
            argv,
            keys_count,
            is_function=False,
            is_read_only=is_read_only or script.is_read_only,
        )
        return self.yielder.run(client, self._run_now, execution, lambda: execution.progress)

    def run_function(
        self, client: Client, function: Registered, argv: list[bytes], keys_count: int, *, is_read_only: bool
    ) -> Any:
        """Run a function for a client, as `run_script`."""
        if not function.is_read_only:
            self._check_writing(is_read_only)
        execution = Execution(
            client,
            function.name,
            function.callback,
            argv,
            keys_count,
            is_function=True,
            is_read_only=is_read_only or function.is_read_only,
        )
        return self.yielder.run(client, self._run_now, execution, lambda: execution.progress)

    def _check_writing(self, is_read_only: bool) -> None:
        """See whether something that says it writes may run."""
        if is_read_only:
            raise _CANNOT_WRITE
        if self.server.write_error is not None:
            raise self.server.misconfigured()

    def _run_now(self, execution: Execution) -> Any:
        # Flat: what is here is half of what a small script costs (benchmarks/server.py, EVALSHA).
        server, client = self.server, execution.client
        assert client is not None
        denied_blocking, keyspace, resp = server.denies_blocking, client.keyspace, client.resp
        server.denies_blocking = server.is_in_script = True
        client.resp = 2  # of what commands reply to the script
        self.running = execution
        threshold_ms = server.config.busy_reply_threshold
        self.yielder.yield_ns = execution.started_ns + threshold_ms * 1_000_000 if threshold_ms else 0
        runtime = self.runtime
        run = runtime.run_function if execution.is_function else runtime.run
        try:
            outcome = run(execution.code, resp, execution.keys_count, execution.argv[3:])
        except LuaMemoryError:
            runtime.collect()
            raise _out_of_memory(execution) from None
        except LuaError as error:
            raise CommandError(b"ERR %b" % str(error).encode("latin-1", "replace")) from None
        finally:
            self.running = None
            server.denies_blocking, server.is_in_script = denied_blocking, False
            client.keyspace, client.resp = keyspace, resp
            self._runs += 1
            if self._runs % _COLLECTED_EVERY == 0:
                self._tidy()
        fault = self._calls.fault
        if fault is not None:
            self._calls.fault = None
            raise fault
        return self._reply_of(outcome, execution)

    def _reply_of(self, outcome: Any, execution: Execution) -> Any:
        """Return the reply for what redis.lua's `outcome` has said. Errors: CommandError."""
        if outcome.__class__ is not tuple:
            return None  # nil, as the last of the results, is lost
        kind, value = outcome[0], outcome[1]
        if kind == _VALUE:
            if value.__class__ is bytes:
                return value
            if value.__class__ is int or value.__class__ is float:
                return int(value) if _INTEGER_MIN <= value < -_INTEGER_MIN else _INTEGER_MIN
            return 1 if value else None
        if kind == _WIRE:
            if outcome[_ERRORS_AT] is not None:
                self._note_errors(execution, outcome[_ERRORS_AT])
            return Encoded(value)
        if kind == _BOOLEAN:
            return value
        if kind != _FAILURE:  # Lua itself, out of memory as a rule
            self.runtime.collect()
            text = value if value.__class__ is bytes else b"execution failure"
            raise CommandError(b"ERR Error running script %b, %b" % (execution.name, text))
        _, message, source, line, is_counted = outcome
        message = _MISSING_ERROR if message is None else message.split(b"\0", 1)[0]
        if source is not None and line is not None:
            message = b"%b script: %b, on %b:%b." % (message, execution.name, source, line)
        error = CommandError(message)
        if is_counted:
            self._note_errors(execution, b"")
            return error  # a command's, which has been counted: whoever raises one has it counted
        raise error

    def _note_errors(self, execution: Execution, errors: bytes) -> None:
        """Count a script that has answered with errors, and those of them that count, a line each."""
        COMMANDS[execution.argv[0].upper()].failed += 1
        for text in errors.splitlines():
            self.server.note_error(CommandError(text if b" " in text[:_CODE_BYTES_MAX] else b"ERR"))

    def _tidy(self) -> None:
        """Collect garbage if there is much: Lua itself waits until twice as much is in use as before."""
        runtime = self.runtime
        if runtime.used_bytes > runtime.limit_bytes // 4:
            runtime.collect()

    def _load_library(self, code: bytes) -> list[Registered]:
        """Run the code of a library. Errors: CompileError, LoadError."""
        execution = Execution(None, b"", None, [], 0, is_function=True, is_read_only=True)
        execution.deadline_ns = perf_counter_ns() + LOAD_MAX_NS
        before, self.running = self.running, execution
        try:
            return self.runtime.load_library(code)
        finally:
            self.running = before

    def _poll(self) -> int | None:
        """For the hook: return why a script has to end, or None."""
        try:
            execution = self.running
            if execution is None:
                return None
            now_ns = perf_counter_ns()
            if execution.deadline_ns:
                if now_ns > execution.deadline_ns:
                    execution.verdict = Verdict.TIMEOUT
            else:
                self.yielder.look_around(now_ns)
            return None if execution.verdict is None else execution.verdict.value
        except BaseException as error:
            self._calls.fault = error
            return Verdict.FAULT.value

    def _note_failure(self, error: BaseException) -> CommandError:
        """Answer for a script that the server itself has failed after others had been served; undo its
        turn."""
        server = self.server
        if isinstance(error, EngineError | OSError):
            reply = server.note_damage(error)
        else:
            log.error("internal error in a script", exc_info=error)
            reply = INTERNAL_ERROR
        server.note_error(reply)
        server.fail_tick(reply)
        return reply

    # -- ending ------------------------------------------------------------------------------------

    def abort(self) -> None:
        """The server ends: so does what runs, and nothing of it is kept."""
        if self.running is not None:
            self.running.verdict = Verdict.ENDING
        self.yielder.abort()


def _out_of_memory(execution: Execution) -> CommandError:
    return CommandError(b"ERR Error running script %b, not enough memory" % execution.name)

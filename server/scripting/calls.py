"""redis.call: a command on behalf of a script, and what else a script asks of the server.

What is here is called by Lua and must raise nothing: an exception would become an object in Lua. So each
function has its `try`, and the faults of the server itself are kept in `Calls.fault` until Lua has come to
its end.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import hiredis

from lamina.server.acl.access import check_command
from lamina.server.acl.log import IN_SCRIPT
from lamina.server.client import RESTRICTED
from lamina.server.dispatch import call, find_command
from lamina.server.errors import CommandError
from lamina.server.registry import COMMANDS, Command
from lamina.server.scripting.conversion import FAILED, REFUSED, for_lua
from lamina.server.scripting.execution import VERDICTS, Progress, Verdict
from lamina.server.scripting.numberwork import argument

if TYPE_CHECKING:
    from lamina.server.scripting.engine import Scripting

log = logging.getLogger(__name__)

_NO_ARGUMENTS: Final = b"ERR Please specify at least one argument for this redis lib call"
_BAD_ARGUMENTS: Final = b"ERR Lua redis lib command arguments must be strings or integers"
_UNKNOWN: Final = CommandError(b"ERR Unknown Redis command called from script")
_WRONG_ARITY: Final = CommandError(b"ERR Wrong number of args calling Redis command from script")
_NOT_ALLOWED: Final = CommandError(b"ERR This Redis command is not allowed from script")
_READ_ONLY: Final = CommandError(b"ERR Write commands are not allowed from read-only scripts.")
_INVALID_COMMAND: Final = b"ERR Invalid command passed to redis.acl_check_cmd()"
_NOTHING: Final = Progress.NOTHING
_FAULT: Final = (None, REFUSED, VERDICTS[Verdict.FAULT])

_SPELLINGS_MAX: Final = 1024


class Calls:
    """What scripts call."""

    def __init__(self, scripting: Scripting) -> None:
        self._scripting = scripting
        self._server = scripting.server
        self._spelled: dict[bytes, Command] = {}
        """Commands without subcommands that scripts may call, by their name as a script wrote it."""
        self.fault: BaseException | None = None
        """What has made the server fail amid a command of the script: all of the turn must be undone."""

    def call(self, *arguments: Any) -> Any:
        """Run a command; returns what `conversion.for_lua` does."""
        try:
            argv = list(arguments)
            for word in arguments:  # a loop is half as dear as a set of the types
                if word.__class__ is not bytes:
                    if not _take_numbers(argv):
                        return (None, REFUSED, _BAD_ARGUMENTS)
                    break
            if not argv:
                return (None, REFUSED, _NO_ARGUMENTS)
            return self._run(argv)
        except CommandError as error:
            return self._note(error)
        except BaseException as error:
            return self._note_fault(error)

    def call_packed(self, packed: bytes | None = None) -> Any:
        """Run a command with many arguments, which come as a request."""
        try:
            if packed is None:
                return (None, REFUSED, _BAD_ARGUMENTS)
            reader = hiredis.Reader(encoding=None)
            reader.feed(packed)
            argv: list[bytes] = reader.gets()
            return self._run(argv)
        except CommandError as error:
            return self._note(error)
        except BaseException as error:
            return self._note_fault(error)

    def _run(self, argv: list[bytes]) -> Any:
        execution = self._scripting.running
        assert execution is not None and execution.client is not None
        client = execution.client
        command = self._spelled.get(argv[0])
        if command is None or not command.argc_min <= len(argv) <= command.argc_max:
            command = self._find(argv)
        if client.gate & RESTRICTED:
            denial = check_command(client, command, argv)
            if denial is not None:
                self._server.users.note_denial(client, denial, IN_SCRIPT)
                raise _rejected(command, denial.error_in_script)
        if command.is_write:
            if execution.is_read_only:
                raise _rejected(command, _READ_ONLY)
            if self._server.write_error is not None:
                raise _rejected(command, self._server.misconfigured())
            if execution.progress is _NOTHING:
                others = self._server.databases.has_changes
                execution.progress = Progress.WITH_OTHERS if others else Progress.ALONE
        elif execution.is_read_only and "may_replicate" in command.flags:
            raise _rejected(command, _READ_ONLY)
        resp = client.resp
        return for_lua(self._scripting.runtime, call(client, command, argv), resp)

    def _find(self, argv: list[bytes]) -> Command:
        """Return the command that argv names, if a script may call it. Errors: CommandError."""
        try:
            command = find_command(argv)
        except CommandError as error:
            raise (_WRONG_ARITY if b"wrong number of arguments" in error.message else _UNKNOWN) from None
        if not command.argc_min <= len(argv) <= command.argc_max:
            raise _rejected(command, _WRONG_ARITY)
        if "noscript" in command.flags:
            raise _rejected(command, _NOT_ALLOWED)
        if "|" not in command.name and not command.subcommands and len(self._spelled) < _SPELLINGS_MAX:
            self._spelled[argv[0]] = command
        return command

    def _note(self, error: CommandError) -> tuple[None, int, bytes]:
        error.release()
        self._server.note_error(error)
        return (None, FAILED, error.message)

    def _note_fault(self, error: BaseException) -> Any:
        """Remember what has broken a command off, and let the script end."""
        self.fault = error
        execution = self._scripting.running
        if execution is not None:
            execution.verdict = Verdict.FAULT
        return _FAULT

    def acl_check_cmd(self, *arguments: Any) -> Any:
        """Tell whether the client's user may make a call."""
        try:
            argv = list(arguments)
            if not argv:
                return (None, REFUSED, _NO_ARGUMENTS)
            if not _take_numbers(argv):
                return (None, REFUSED, _BAD_ARGUMENTS)
            execution = self._scripting.running
            assert execution is not None and execution.client is not None
            # A name alone is enough, also of a command that has subcommands.
            command = COMMANDS.get(argv[0].upper())
            if command is not None and command.subcommands and len(argv) > 1:
                command = command.subcommands.get(argv[1].upper())
            if command is None:
                return (None, REFUSED, _INVALID_COMMAND)
            return check_command(execution.client, command, argv) is None
        except BaseException as error:
            return self._note_fault(error)

    def setresp(self, version: int) -> None:
        """Let commands reply to the script in RESP2 or RESP3."""
        execution = self._scripting.running
        if execution is not None and execution.client is not None:
            execution.client.resp = version


def _rejected(command: Command, error: CommandError) -> CommandError:
    """Count a call that is refused before it has begun."""
    command.rejected += 1
    return error


def _take_numbers(argv: list[Any]) -> bool:
    """Make the numbers among arguments strings; tells whether all others are strings."""
    for at, value in enumerate(argv):
        kind = value.__class__
        if kind is int or kind is float:
            argv[at] = argument(value)
        elif kind is not bytes:
            return False
    return True

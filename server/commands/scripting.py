"""EVAL and its relatives, and SCRIPT."""

from __future__ import annotations

from typing import Any, Final

from lamina.server.args import integer
from lamina.server.client import Client
from lamina.server.commands.help import add_help
from lamina.server.errors import CommandError
from lamina.server.registry import command, keys_after_count
from lamina.server.replies import OK, Simple
from lamina.server.scripting.execution import NOT_BUSY

_FLAGS: Final = "noscript stale skip_monitor no_mandatory_keys movablekeys"
_READING: Final = "readonly " + _FLAGS
_COMPLEXITY: Final = "that of the script"

_TOO_MANY_KEYS: Final = CommandError(b"ERR Number of keys can't be greater than number of args")
_NEGATIVE_KEYS: Final = CommandError(b"ERR Number of keys can't be negative")
_FLUSH_MODE: Final = CommandError(b"ERR SCRIPT FLUSH only support SYNC|ASYNC option")
_DEBUG_MODE: Final = CommandError(b"ERR Use SCRIPT DEBUG YES/SYNC/NO")
_NO_DEBUGGER: Final = CommandError(b"ERR Lamina has no debugger for scripts")


def check_keys_count(count: int, argv: list[bytes]) -> int:
    """Return the number of keys if argv has so many behind it. Errors: CommandError."""
    if count > len(argv) - 3:
        raise _TOO_MANY_KEYS
    if count < 0:
        raise _NEGATIVE_KEYS
    return count


def _eval(client: Client, argv: list[bytes], *, is_read_only: bool) -> Any:
    count = check_keys_count(integer(argv[2]), argv)
    scripting = client.server.scripting
    return scripting.run_script(
        client, scripting.take_script(argv[1]), argv, count, is_read_only=is_read_only
    )


def _evalsha(client: Client, argv: list[bytes], *, is_read_only: bool) -> Any:
    count = check_keys_count(integer(argv[2]), argv)
    scripting = client.server.scripting
    return scripting.run_script(
        client, scripting.scripts.find(argv[1]), argv, count, is_read_only=is_read_only
    )


@command("EVAL", arity=-3, flags=_FLAGS, find_keys=keys_after_count(2), since="2.6.0", complexity=_COMPLEXITY)
def eval_(client: Client, argv: list[bytes]) -> Any:
    """Run a script.

    EVAL script numkeys [key [key ...]] [arg [arg ...]]
    """
    return _eval(client, argv, is_read_only=False)


@command(
    "EVAL_RO", arity=-3, flags=_READING, find_keys=keys_after_count(2), since="7.0.0", complexity=_COMPLEXITY
)
def eval_ro(client: Client, argv: list[bytes]) -> Any:
    """Run a script that may not write.

    EVAL_RO script numkeys [key [key ...]] [arg [arg ...]]
    """
    return _eval(client, argv, is_read_only=True)


@command(
    "EVALSHA", arity=-3, flags=_FLAGS, find_keys=keys_after_count(2), since="2.6.0", complexity=_COMPLEXITY
)
def evalsha(client: Client, argv: list[bytes]) -> Any:
    """Run a script from the cache, by its SHA-1.

    EVALSHA sha1 numkeys [key [key ...]] [arg [arg ...]]
    """
    return _evalsha(client, argv, is_read_only=False)


@command(
    "EVALSHA_RO",
    arity=-3,
    flags=_READING,
    find_keys=keys_after_count(2),
    since="7.0.0",
    complexity=_COMPLEXITY,
)
def evalsha_ro(client: Client, argv: list[bytes]) -> Any:
    """Run a script from the cache that may not write.

    EVALSHA_RO sha1 numkeys [key [key ...]] [arg [arg ...]]
    """
    return _evalsha(client, argv, is_read_only=True)


@command("SCRIPT", arity=-2, flags="", since="2.6.0", complexity="Depends on subcommand.")
def script(client: Client, argv: list[bytes]) -> object:
    """Manage the cache of scripts, and the one that runs.

    SCRIPT <subcommand>
    """
    raise AssertionError("SCRIPT has subcommands only")


@command("SCRIPT|LOAD", arity=3, flags="noscript stale", since="2.6.0", complexity="O(N), its size")
def script_load(client: Client, argv: list[bytes]) -> bytes:
    """Put a script into the cache, without running it; its SHA-1 is returned.

    SCRIPT LOAD script
    """
    return client.server.scripting.take_script(argv[2], keeps=True).sha


@command("SCRIPT|EXISTS", arity=-3, flags="noscript", since="2.6.0", complexity="O(N) scripts")
def script_exists(client: Client, argv: list[bytes]) -> list[int]:
    """Tell which scripts are in the cache.

    SCRIPT EXISTS sha1 [sha1 ...]
    """
    scripts = client.server.scripting.scripts
    return [int(sha in scripts) for sha in argv[2:]]


@command("SCRIPT|FLUSH", arity=-2, flags="noscript", since="2.6.0", complexity="O(N) scripts")
def script_flush(client: Client, argv: list[bytes]) -> Simple:
    """Empty the cache.

    SCRIPT FLUSH [ASYNC | SYNC]
    """
    if len(argv) > 3 or (len(argv) == 3 and argv[2].upper() not in (b"ASYNC", b"SYNC")):
        raise _FLUSH_MODE
    client.server.scripting.flush_scripts()
    return OK


@command("SCRIPT|KILL", arity=2, flags="noscript allow_busy", since="2.6.0", complexity="O(1)")
def script_kill(client: Client, argv: list[bytes]) -> Simple:
    """End the script that runs, if it has not written so far.

    SCRIPT KILL
    """
    execution = client.server.scripting.running
    if execution is None:
        raise NOT_BUSY
    if execution.is_function:
        raise execution.busy_error
    execution.kill()
    return OK


@command("SCRIPT|DEBUG", arity=3, flags="noscript", since="3.2.0", complexity="O(1)")
def script_debug(client: Client, argv: list[bytes]) -> Simple:
    """Say that scripts are not to be debugged: there is no debugger.

    SCRIPT DEBUG <YES | SYNC | NO>
    """
    mode = argv[2].upper()
    if mode == b"NO":
        return OK
    raise _NO_DEBUGGER if mode in (b"YES", b"SYNC") else _DEBUG_MODE


add_help("SCRIPT", group="scripting", since="5.0.0")

"""FCALL, and FUNCTION: libraries of functions that are part of the data."""

from __future__ import annotations

from typing import Any, Final

from lamina.server.args import integer
from lamina.server.client import Client
from lamina.server.commands.help import add_help
from lamina.server.commands.scripting import check_keys_count
from lamina.server.errors import CommandError, misused_subcommand
from lamina.server.glob import compile_glob
from lamina.server.rdb import payload
from lamina.server.rdb.errors import FooterError, RdbError
from lamina.server.registry import command, keys_after_count
from lamina.server.replies import OK, Distinct, Pairs, Simple
from lamina.server.scripting.execution import BUSY_WITH_SCRIPT, NOT_BUSY
from lamina.server.scripting.flags import FLAGS
from lamina.server.scripting.libraries import Library
from lamina.server.scripting.runtime import Registered

_CALL_FLAGS: Final = "noscript stale skip_monitor no_mandatory_keys movablekeys"
_WRITES: Final = "write noscript"
_GROUP: Final = "scripting"
_COMPLEXITY: Final = "that of the function"

_BAD_KEYS_COUNT: Final = CommandError(b"ERR Bad number of keys provided")
_FLUSH_MODE: Final = CommandError(b"ERR FUNCTION FLUSH only supports SYNC|ASYNC option")
_NO_PATTERN: Final = CommandError(b"ERR library name argument was not given")
_BAD_PAYLOAD: Final = CommandError(b"ERR DUMP payload version or checksum are wrong")
_NOT_A_FUNCTION: Final = CommandError(b"ERR given type is not a function")
_BAD_POLICY: Final = CommandError(
    b"ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE."
)
_POLICIES: Final = (b"FLUSH", b"APPEND", b"REPLACE")


def _call(client: Client, argv: list[bytes], *, is_read_only: bool) -> Any:
    scripting = client.server.scripting
    function = scripting.libraries.find(argv[1])
    count = check_keys_count(integer(argv[2], _BAD_KEYS_COUNT), argv)
    return scripting.run_function(client, function, argv, count, is_read_only=is_read_only)


@command(
    "FCALL",
    arity=-3,
    flags=_CALL_FLAGS,
    find_keys=keys_after_count(2),
    since="7.0.0",
    complexity=_COMPLEXITY,
    group=_GROUP,
)
def fcall(client: Client, argv: list[bytes]) -> Any:
    """Call a function.

    FCALL function numkeys [key [key ...]] [arg [arg ...]]
    """
    return _call(client, argv, is_read_only=False)


@command(
    "FCALL_RO",
    arity=-3,
    flags="readonly " + _CALL_FLAGS,
    find_keys=keys_after_count(2),
    since="7.0.0",
    complexity=_COMPLEXITY,
    group=_GROUP,
)
def fcall_ro(client: Client, argv: list[bytes]) -> Any:
    """Call a function that does not write.

    FCALL_RO function numkeys [key [key ...]] [arg [arg ...]]
    """
    return _call(client, argv, is_read_only=True)


@command("FUNCTION", arity=-2, flags="", since="7.0.0", complexity="Depends on subcommand.", group=_GROUP)
def function(client: Client, argv: list[bytes]) -> object:
    """Manage libraries of functions.

    FUNCTION <subcommand>
    """
    raise AssertionError("FUNCTION has subcommands only")


@command(
    "FUNCTION|LOAD",
    arity=-3,
    flags="write denyoom noscript",
    since="7.0.0",
    complexity="O(1) (considering compilation time is redundant)",
    group=_GROUP,
)
def function_load(client: Client, argv: list[bytes]) -> bytes:
    """Load a library; its name is returned.

    FUNCTION LOAD [REPLACE] function-code
    """
    for option in argv[2:-1]:
        if option.upper() != b"REPLACE":
            raise CommandError(b"ERR Unknown option given: %b" % option)
    return client.server.scripting.libraries.load(argv[-1], replaces=len(argv) > 3)


@command("FUNCTION|DELETE", arity=3, flags=_WRITES, since="7.0.0", complexity="O(1)", group=_GROUP)
def function_delete(client: Client, argv: list[bytes]) -> Simple:
    """Remove a library.

    FUNCTION DELETE library-name
    """
    client.server.scripting.libraries.delete(argv[2])
    return OK


@command("FUNCTION|FLUSH", arity=-2, flags=_WRITES, since="7.0.0", complexity="O(N) functions", group=_GROUP)
def function_flush(client: Client, argv: list[bytes]) -> Simple:
    """Remove all libraries.

    FUNCTION FLUSH [ASYNC | SYNC]
    """
    if len(argv) > 3:
        raise misused_subcommand(argv[1], b"function")
    if len(argv) == 3 and argv[2].upper() not in (b"ASYNC", b"SYNC"):
        raise _FLUSH_MODE
    client.server.scripting.libraries.flush()
    return OK


@command(
    "FUNCTION|LIST", arity=-2, flags="noscript", since="7.0.0", complexity="O(N) functions", group=_GROUP
)
def function_list(client: Client, argv: list[bytes]) -> list[Pairs]:
    """List libraries and their functions.

    FUNCTION LIST [LIBRARYNAME library-name-pattern] [WITHCODE]
    """
    pattern, with_code = None, False
    words = iter(argv[2:])
    for word in words:
        option = word.upper()
        if option == b"WITHCODE" and not with_code:
            with_code = True
        elif option == b"LIBRARYNAME" and pattern is None:
            pattern = next(words, None)
            if pattern is None:
                raise _NO_PATTERN
        else:
            raise CommandError(b"ERR Unknown argument %b" % word)
    libraries = client.server.scripting.libraries.all()
    if pattern is not None:
        matches = compile_glob(pattern, ignore_case=True)
        libraries = [library for library in libraries if matches(library.name)]
    return [_described(library, with_code=with_code) for library in libraries]


def _described(library: Library, *, with_code: bool) -> Pairs:
    shown: list[tuple[bytes, Any]] = [
        (b"library_name", library.name),
        (b"engine", b"LUA"),
        (b"functions", [_described_function(function) for function in library.functions]),
    ]
    if with_code:
        shown.append((b"library_code", library.source))
    return Pairs(shown)


def _described_function(function: Registered) -> Pairs:
    flags = Distinct.words(flag for flag in FLAGS if flag in function.flags)
    return Pairs([(b"name", function.name), (b"description", function.description), (b"flags", flags)])


@command(
    "FUNCTION|STATS", arity=2, flags="noscript allow_busy", since="7.0.0", complexity="O(1)", group=_GROUP
)
def function_stats(client: Client, argv: list[bytes]) -> Pairs:
    """Tell which function runs, and how many there are.

    FUNCTION STATS
    """
    scripting = client.server.scripting
    execution = scripting.running
    running = None
    if execution is not None:
        if not execution.is_function:
            raise BUSY_WITH_SCRIPT
        running = Pairs(
            [
                (b"name", execution.name),
                (b"command", list(execution.argv)),
                (b"duration_ms", execution.elapsed_ms),
            ]
        )
    libraries = scripting.libraries
    counts = Pairs(
        [
            (b"libraries_count", libraries.libraries_count),
            (b"functions_count", libraries.functions_count),
        ]
    )
    return Pairs([(b"running_script", running), (b"engines", Pairs([(b"LUA", counts)]))])


@command(
    "FUNCTION|KILL", arity=2, flags="noscript allow_busy", since="7.0.0", complexity="O(1)", group=_GROUP
)
def function_kill(client: Client, argv: list[bytes]) -> Simple:
    """End the function that runs, if it has not written so far.

    FUNCTION KILL
    """
    execution = client.server.scripting.running
    if execution is None:
        raise NOT_BUSY
    if not execution.is_function:
        raise execution.busy_error
    execution.kill()
    return OK


@command("FUNCTION|DUMP", arity=2, flags="noscript", since="7.0.0", complexity="O(N) functions", group=_GROUP)
def function_dump(client: Client, argv: list[bytes]) -> bytes:
    """Return all libraries in one string, which FUNCTION RESTORE takes.

    FUNCTION DUMP
    """
    sources = [library.source for library in client.server.scripting.libraries.all()]
    return payload.encode_functions(sources, compress=client.server.config.rdbcompression)


@command(
    "FUNCTION|RESTORE",
    arity=-3,
    flags="write denyoom noscript",
    since="7.0.0",
    complexity="O(N) functions",
    group=_GROUP,
)
def function_restore(client: Client, argv: list[bytes]) -> Simple:
    """Load the libraries of a dump.

    FUNCTION RESTORE serialized-value [FLUSH | APPEND | REPLACE]
    """
    if len(argv) > 4:
        raise misused_subcommand(argv[1], b"function")
    policy = argv[3].upper() if len(argv) == 4 else b"APPEND"
    if policy not in _POLICIES:
        raise _BAD_POLICY
    try:
        sources = payload.decode_functions(argv[2])
    except FooterError:
        raise _BAD_PAYLOAD from None
    except RdbError:
        raise _NOT_A_FUNCTION from None
    libraries = client.server.scripting.libraries
    libraries.restore_all(sources, flushes=policy == b"FLUSH", replaces=policy == b"REPLACE")
    return OK


add_help("FUNCTION", group=_GROUP, since="7.0.0", flags="loading stale")

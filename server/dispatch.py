"""From argv to reply: which command, may it run, how long did it take, what went wrong.

`run_commands` is the loop that every command passes. What is usual, a known command with the right number of
arguments from a client without gates, takes the short way; `_guard` decides about everything else.

Errors: a `CommandError` is the reply. An engine that cannot read (corruption, a broken disk) makes the
command fail, and if the command had begun to write, all of the tick: what it left half-done must not be
committed, nor may replies that have seen it go out.
"""

from __future__ import annotations

import logging
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

from lamina.engine import EngineError
from lamina.server.acl.access import check_command
from lamina.server.blocking import serve_ready
from lamina.server.client import (
    BUSY,
    CAREFUL,
    DEFERRED,
    IN_MULTI,
    MONITORED,
    PAUSED,
    RESTRICTED,
    SILENT,
    SUBSCRIBED,
    TRACKED,
    UNAUTHENTICATED,
    WRITES_REFUSED,
    Client,
)
from lamina.server.errors import (
    INTERNAL_ERROR,
    NO_AUTH,
    NOT_IN_MULTI,
    CommandError,
    exec_aborted,
    only_in_pubsub,
    unknown_command,
    unknown_subcommand,
    wrong_arity,
)
from lamina.server.registry import COMMANDS, Command
from lamina.server.replies import OK, QUEUED, SUSPENDED, Simple, encode

if TYPE_CHECKING:
    from lamina.server.server import Server

log = logging.getLogger(__name__)

_LARGE_REPLY_BYTES: Final = 1024
_HEADS: Final = [b"$%d\r\n" % size for size in range(_LARGE_REPLY_BYTES)]
"""Heads of bulk strings: joining three pieces is 50 ns faster than formatting them."""
OUTPUT_PER_TURN_BYTES: Final = 1 << 20
"""Large replies a client may gather before its further commands wait until these have been sent."""

_MANY: Final = 4
"""Commands from which on it pays to see whether they can be run at once."""

_AT_ONCE_MAX: Final = 512
"""Commands that are run at once: after each so many it is seen to what they have produced."""

_TIMED_SINGLY_NS: Final = 1_000_000
"""If commands below this count as slow, each is timed by itself."""

_QUEUED_OVERHEAD_BYTES: Final = 64
"""Memory of a queued argument beside its bytes."""

_SPELLINGS_MAX = 4096
_spelled: dict[bytes, Command] = {}
"""Commands without subcommands, by the name as a client wrote it, but for those in `_spelled_aside`."""
_spelled_aside: dict[bytes, Command] = {}
"""The same for commands that stand aside from the turn: see `_stands_aside`."""

_RESP2_SUBSCRIBER = frozenset(
    b"SUBSCRIBE UNSUBSCRIBE PSUBSCRIBE PUNSUBSCRIBE SSUBSCRIBE SUNSUBSCRIBE PING QUIT RESET".split()
)
_NOT_QUEUED = frozenset(b"EXEC DISCARD MULTI WATCH QUIT RESET".split())
_OF_KEYS = frozenset(("write", "readonly", "may_replicate"))
_OF_DATA = frozenset(("write", "readonly", "blocking"))
_OF_DATA_UNFLAGGED = frozenset(b"exec eval evalsha fcall debug acl client|reply ping wait waitaof".split())
"""Commands that may read or write keys, or the state that lies beside them, although no flag says so; one
that may have no reply; and one too frequent to be looked at closer, which a failed disk makes fail anyway."""
_OF_HTTP = frozenset((b"POST", b"HOST:"))
"""Lines of a request that a browser can be made to send. What follows them must not run, as in Redis."""
_HIDDEN = frozenset(("admin", "skip_monitor"))
"""Flags of commands that MONITOR does not show once they have run."""

NOT_FOR_MONITORS = CommandError(b"ERR Replica can't interact with the keyspace")
"""To Redis, who monitors is a kind of replica."""


def find_command(argv: list[bytes]) -> Command:
    """Return the command or subcommand that argv names. Errors: CommandError, Redis's texts."""
    name = argv[0]
    command = COMMANDS.get(name.upper())
    if command is None:
        raise unknown_command(argv)
    if command.subcommands:
        if len(argv) < 2:
            if command.argc_min > 1:
                raise wrong_arity(command.wire_name)
            return command
        found = command.subcommands.get(argv[1].upper())
        if found is None:
            raise unknown_subcommand(argv[1], name)
        return found
    spelled = _spelled_aside if _stands_aside(command) else _spelled
    if len(spelled) < _SPELLINGS_MAX:
        spelled[name] = command
    return command


def _stands_aside(command: Command) -> bool:
    """Tell whether a command has nothing to do with keys: if its turn fails, it has happened all the same.

    MULTI has begun a transaction then, and HELLO has changed the protocol: the client must be told so.
    """
    return _OF_DATA.isdisjoint(command.flags) and command.wire_name not in _OF_DATA_UNFLAGGED


def _find_unusual(client: Client, argv: list[bytes]) -> Command:
    """Find what is not in `_spelled`; the reply of a command that stands aside stays, whatever comes."""
    command = _spelled_aside.get(argv[0])
    if command is None:
        if argv[0].upper() in _OF_HTTP:
            log.warning("client %s closed: it speaks HTTP, as a web page that attacks does", client.address)
            client.server.kill_client(client)
            raise _Answered(SUSPENDED)
        command = find_command(argv)
        if not _stands_aside(command):
            return command
    if not client.gate & SILENT:
        client.pushes.append(len(client.out))
    return command


def run_commands(client: Client, commands: list[list[bytes]]) -> None:
    """Run commands of one client and gather the replies, until the client has to wait.

    What is left then goes to `client.pending`. Cost: 0.4 µs per command beside its own, 0.3 µs per call.
    """
    # One flat loop: split into functions for lookup, timing and encoding it costs 0.3 µs more per command
    # (benchmarks/server.py, pipelined GET). What is rare hangs on `client.gate` or on the last branch.
    if len(commands) >= _MANY and not client.gate:
        commands = _run_alike(client, commands)
        if not commands:
            return
    server = client.server
    out = client.out
    if not out:
        server.note_output(client)
    if client.gate & SILENT:
        client.silent_from = len(out)
    add = out.append
    ready = server.databases.ready
    slow_ns = server.slow_ns
    by_name = _spelled.get
    clock = perf_counter_ns
    command: Command | None = None
    has_run = True
    server.running = client
    remaining = iter(commands)
    then = clock()
    for argv in remaining:
        try:
            command = by_name(argv[0])
            if command is None:
                command = client.command = _find_unusual(client, argv)
            if client.gate or not command.argc_min <= len(argv) <= command.argc_max:
                _guard(client, command, argv)
            reply = command.handler(client, argv)
        except CommandError as error:
            has_run = command is not None and not client.is_rejected
            reply = _note_error(server, client, command, error.release())
        except _Answered as answered:
            has_run = False
            reply = answered.reply
            if reply is _PARKED:
                client.pending.extendleft((argv,))
                reply = SUSPENDED
        except Exception as error:
            has_run = command is not None
            reply = _note_failure(server, client, command, argv, error)
        now = clock()
        if has_run:
            elapsed = now - then
            command.elapsed_ns += elapsed  # type: ignore[union-attr]
            command.histogram[elapsed.bit_length()] += 1  # type: ignore[union-attr]
            if elapsed > slow_ns:
                server.note_slow(client, command, argv, elapsed // 1000)  # type: ignore[arg-type]
                server.clock.tick()  # for those that come after it in this turn
        else:
            has_run = True
        then = now
        kind = reply.__class__
        if kind is bytes and len(reply) < _LARGE_REPLY_BYTES:
            add(_HEADS[len(reply)] + reply + b"\r\n")
        elif reply is OK:
            add(b"+OK\r\n")
        elif kind is int:
            add(b":%d\r\n" % reply)
        elif reply is SUSPENDED:
            if client.wait is not None:
                client.wait.call = command, argv  # type: ignore[assignment]
            if client.gate:
                _conclude(client, command, argv, is_answered=False)
            break
        else:
            wire = encode(reply, client.resp)
            if wire:
                add(wire)
                if len(wire) > _LARGE_REPLY_BYTES:
                    client.out_bytes += len(wire)
                    if client.out_bytes > OUTPUT_PER_TURN_BYTES:
                        server.resume(client)
                        if client.gate:
                            _conclude(client, command, argv)
                        break
        if ready:
            serve_ready(server)
        if client.gate:
            _conclude(client, command, argv)
            if client.closing:
                server.running = None
                return
    client.command = command
    client.pending.extend(remaining)
    server.running = None
    if ready:
        serve_ready(server)


def _run_alike(client: Client, commands: list[list[bytes]]) -> list[list[bytes]]:
    """Run a pipeline that consists of calls of one command at once, if the command can; returns what is left.

    Their time is measured together and divided among them. What is slow is not run so.
    """
    names = [argv[0] for argv in commands]
    command = _spelled.get(names[0])
    count = len(names)
    if command is None or command.many is None or names.count(names[0]) != count:
        return commands
    server = client.server
    if server.slow_ns < _TIMED_SINGLY_NS or set(map(len, commands)) != {command.argc_min}:
        return commands
    if count <= _AT_ONCE_MAX:
        return [] if _run_part(server, client, command, commands) else commands
    for at in range(0, count, _AT_ONCE_MAX):
        if not _run_part(server, client, command, commands[at : at + _AT_ONCE_MAX]):
            return commands[at:]
        if client.out_bytes > OUTPUT_PER_TURN_BYTES:
            client.pending.extend(commands[at + _AT_ONCE_MAX :])
            server.resume(client)
            break
    return []


def _run_part(server: Server, client: Client, command: Command, commands: list[list[bytes]]) -> bool:
    """Run calls of one command at once; tells whether that could be done. Else nothing has happened."""
    assert command.many is not None
    count = len(commands)
    then = perf_counter_ns()
    try:
        replies = command.many(client, commands)
    except Exception as error:
        # What may have been changed half-way is undone, with all of the turn. Run singly, only those fail
        # that must.
        _note_failure(server, client, command, commands[0], error)
        return False
    if replies is None:
        return False
    if not client.out:
        server.note_output(client)
    kinds = set(map(type, replies))
    if kinds == {bytes}:
        wires = [b"$%d\r\n%b\r\n" % (len(reply), reply) for reply in replies]
        client.out += wires
        client.out_bytes += sum(map(len, wires))
    elif kinds == {int}:
        client.out += [b":%d\r\n" % reply for reply in replies]
    elif kinds == {Simple} and replies.count(replies[0]) == count:
        client.out.append(encode(replies[0], 2) * count)
    else:
        resp = client.resp
        wires = [encode(reply, resp) for reply in replies]
        client.out += wires
        client.out_bytes += sum(map(len, wires))
    elapsed = perf_counter_ns() - then
    command.elapsed_ns += elapsed
    command.histogram[(elapsed // count).bit_length()] += count
    client.command = command
    return True


class _Answered(Exception):  # noqa: N818  # no error: it ends the way to the handler
    """The gates have an answer of their own; the command does not run."""

    def __init__(self, reply: Any) -> None:
        self.reply = reply


_PARKED: Final = object()


def _guard(client: Client, command: Command, argv: list[bytes]) -> None:
    """Let a command pass, or raise what is answered instead. The order of the checks is Redis's."""
    server = client.server
    is_careful = client.gate & CAREFUL and not client.gate & BUSY
    if is_careful and "readonly" not in command.flags and not _stands_aside(command):
        server.end_tick()
        client.silent_from = 0
        server.note_output(client)
    gate = client.gate
    client.is_rejected = True  # so far: see _note_error
    if not command.argc_min <= len(argv) <= command.argc_max:
        raise wrong_arity(command.wire_name)
    if gate & UNAUTHENTICATED and "no_auth" not in command.flags and server.needs_password:
        raise NO_AUTH
    if gate & RESTRICTED:
        denial = check_command(client, command, argv)
        if denial is not None:
            client.command = command
            server.users.note_denial(client, denial)
            raise denial.error
    if gate & WRITES_REFUSED and (server.may_write(client, command) or command.wire_name == b"ping"):
        raise server.misconfigured()
    if gate & SUBSCRIBED and client.resp == 2 and command.wire_name.upper() not in _RESP2_SUBSCRIBER:
        raise only_in_pubsub(command.wire_name)
    if client.is_monitor and not _OF_KEYS.isdisjoint(command.flags):
        raise NOT_FOR_MONITORS
    if gate & BUSY and "allow_busy" not in command.flags:
        raise server.scripting.busy_error
    if gate & PAUSED and server.is_paused_for(client, command):
        client.is_rejected = False
        raise _Answered(_PARKED)
    if gate & IN_MULTI and command.wire_name.upper() not in _NOT_QUEUED:
        if "no_multi" in command.flags:
            raise NOT_IN_MULTI
        assert client.queue is not None
        client.queue.append((command, argv))
        client.is_rejected = False
        client.queued_bytes += sum(map(len, argv)) + _QUEUED_OVERHEAD_BYTES * len(argv)
        if client.queued_bytes > server.config.client_query_buffer_limit:
            server.end_greedy(client)
        raise _Answered(QUEUED)
    client.is_rejected = False
    client.command = command
    client.passed = argv
    if gate & MONITORED:
        _announce(client, command, argv)


def _announce(client: Client, command: Command, argv: list[bytes]) -> None:
    """Show a script to those who monitor, before what it calls. Others are shown when they have run."""
    if "skip_monitor" in command.flags:
        client.server.monitors.feed(client, argv)


def _conclude(
    client: Client, command: Command | None, argv: list[bytes], *, is_answered: bool = True
) -> None:
    """Do what gates ask for after a command, whether it has run or not."""
    gate = client.gate
    if gate & (MONITORED | TRACKED):
        if command is not None and client.passed is argv:
            _note_run(client, command, argv)
        if gate & TRACKED:
            client.server.tracking.end_command(client, command)
    client.passed = None
    if is_answered and gate & SILENT:
        _keep_silent(client)
    if client.gate & DEFERRED:
        client.send_deferred()


def _note_run(client: Client, command: Command, argv: list[bytes]) -> None:
    """Tell observers of a command that has run: from a client, or out of a transaction or script."""
    gate = client.gate
    if gate & MONITORED and _HIDDEN.isdisjoint(command.flags):
        client.server.monitors.feed(client, argv)
    if gate & TRACKED:
        client.server.tracking.note_read(client, command, argv)


def call(client: Client, command: Command, argv: list[bytes]) -> Any:
    """Run a command for EXEC; returns the reply, which may be a CommandError."""
    server = client.server
    then = perf_counter_ns()
    if client.gate & MONITORED:
        _announce(client, command, argv)
    try:
        reply = command.handler(client, argv)
    except CommandError as error:
        command.failed += 1
        server.note_error(error)
        reply = error.release()
    except (OSError, EngineError) as error:
        if "readonly" not in command.flags or server.databases.is_torn:
            raise  # all of the transaction is undone
        reply = server.note_damage(error)
        server.note_error(reply)
    if client.gate & (MONITORED | TRACKED):
        _note_run(client, command, argv)
    elapsed = perf_counter_ns() - then
    command.elapsed_ns += elapsed
    command.histogram[elapsed.bit_length()] += 1
    if elapsed > server.slow_ns:
        server.note_slow(client, command, argv, elapsed // 1000)
    return reply


def _note_error(server: Server, client: Client, command: Command | None, error: CommandError) -> CommandError:
    """Count an error that is a reply. A command rejected inside a transaction makes EXEC fail."""
    if command is not None and not client.is_rejected:
        command.failed += 1
    else:
        client.is_rejected = False
        if command is not None:
            command.rejected += 1
            client.command = command
            if command.wire_name == b"exec":
                client.leave_transaction()
                error = exec_aborted(error.message.removeprefix(b"ERR "))
                if client.gate & MONITORED:
                    server.monitors.feed(client, [b"exec"])
        if client.queue is not None:
            client.is_transaction_aborted = True
    server.note_error(error)
    return error


def _note_failure(
    server: Server, client: Client, command: Command | None, argv: list[bytes], error: Exception
) -> CommandError:
    """Answer for a command that broke off in the middle; undo the tick if it may have written."""
    if isinstance(error, EngineError | OSError):
        log.error("%s failed: %s", argv[0][:64], error)
        reply = server.note_damage(error)
    else:
        log.exception("internal error in %s", argv[0][:64])
        reply = INTERNAL_ERROR
    server.note_error(reply)
    # EXEC and scripts are neither read nor write; and who reads may remove what has expired.
    if command is None or "readonly" not in command.flags or server.databases.is_torn:
        server.fail_tick(reply)
    return reply


def _keep_silent(client: Client) -> None:
    """Take back the replies of a client that wants none. What was pushed stays."""
    if client.reply_mode == b"SKIP_NEXT":  # CLIENT REPLY SKIP itself, which has no reply
        client.reply_mode = b"SKIP"
        client.silent_from = len(client.out)
        return
    out, first, pushes = client.out, client.silent_from, client.pushes
    kept = [wire for i, wire in enumerate(out[first:], first) if i in pushes]
    pushes[:] = [i for i in pushes if i < first] + list(range(first, first + len(kept)))
    out[first:] = kept
    client.silent_from = len(out)
    client.skip_reply()

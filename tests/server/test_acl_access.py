"""Whether a user may make a call."""

from __future__ import annotations

import shlex

import pytest

from lamina.server import commands
from lamina.server.acl.access import Denial, find_denial, keys_needed, reads_every_key
from lamina.server.acl.rules import find_command
from lamina.server.acl.selector import READ, WRITE
from lamina.server.acl.user import User
from lamina.server.registry import Command, all_commands, key_positions

GROUPS = commands.GROUPS


def parsed(call: str) -> tuple[Command, list[bytes]]:
    argv = [word.encode() for word in shlex.split(call)]
    command = find_command(argv[0])
    return (find_command(b"|".join(argv[:2])) if command.subcommands else command), argv


def denial(rules: str, call: str) -> Denial | None:
    user = User(b"bob")
    user.obey_all(rules.encode().split(b" "), opens_channels=False)
    return find_denial(user, *parsed(call))


def refused(rules: str, call: str) -> str:
    """Return what is refused and where, or "" if nothing is."""
    found = denial(rules, call)
    return "" if found is None else f"{found.reason} {found.subject.decode()}"


@pytest.mark.parametrize(
    ("rules", "call", "what"),
    [
        ("allkeys", "get k", "command get"),
        ("+get", "get k", "key k"),
        ("+get ~k", "get k", ""),
        ("+get %W~k", "get k", "key k"),
        ("+set %W~k", "set k v", ""),
        ("+set %W~k", "set k v get", "key k"),
        ("+mget ~a ~c", "mget a c b", "key b"),
        ("+mset ~a", "mset a b c b", "key c"),
        ("+copy %R~a %W~b", "copy a b", ""),
        ("+copy %R~a %W~b", "copy b a", "key b"),
        ("+exists %R~a", "exists a", ""),
        ("+exists %W~a", "exists a", ""),
        ("+blpop ~a", "blpop a b 0", "key b"),
        ("+zunionstore ~a", "zunionstore a 2 a b", "key b"),
        ("+zunionstore ~a", "zunionstore a x a b", ""),
        ("+config|get", "config set x y", "command config|set"),
        ("+config|get", "config get x", ""),
        ("+@all", "publish c x", "channel c"),
        ("+@all &c*", "publish c x", ""),
        ("+@all &c*", "subscribe c1 d", "channel d"),
        ("+@all &c*", "psubscribe c*", ""),
        ("+@all &c*", "psubscribe c1", "channel c1"),
        ("+@all", "unsubscribe c", ""),
        ("+@all", "sunsubscribe c", ""),
        ("+@all", "ssubscribe c", "channel c"),
        ("+@all", "spublish c x", "channel c"),
        ("+@all", "pubsub channels", ""),
        ("+@all", "client id", ""),
        ("", "auth x", ""),
        ("", "quit", ""),
        # Of several reasons that of the selector which came closest is told.
        ("~a +get", "set a 1", "command set"),
        ("~a +get (~b +mget)", "mget b a", "key a"),
        ("~a +mget (~b +mget)", "mget b a", "key a"),
        ("~b +get (~a +publish)", "publish c x", "channel c"),
        ("(+get) (~a +get)", "get a", ""),
        # All of it by one selector.
        ("+set (~a +get)", "set a 1", "key a"),
    ],
)
def test_what_is_refused(rules: str, call: str, what: str) -> None:
    assert refused(rules, call) == what


def test_what_is_answered() -> None:
    found = denial("+get", "get k")
    assert found is not None
    assert found.error.message == b"NOPERM No permissions to access a key"
    assert found.explanation == b"User bob has no permissions to access the 'k' key"
    assert found.error_in_script.message == b"NOPERM ACL failure in script: No permissions to access a key"
    assert found.error_in_exec.message.endswith(b"reason: no permission to touch the specified keys")
    found = denial("~k", "config get x")
    assert found is not None
    assert found.error.message == b"NOPERM User bob has no permissions to run the 'config|get' command"
    assert found.explanation == b"User bob has no permissions to run the 'config|get' command"
    assert found.error_in_exec.message.endswith(b"reason: no permission to execute the command or subcommand")
    found = denial("+@all", "subscribe c")
    assert found is not None
    assert found.error.message == b"NOPERM No permissions to access a channel"
    assert found.explanation == b"User bob has no permissions to access the 'c' channel"


def test_what_keys_are_needed_for() -> None:
    def needed(call: str) -> list[tuple[int, int]]:
        return keys_needed(*parsed(call))

    assert needed("get k") == [(1, READ)]
    assert needed("set k v") == [(1, WRITE)]
    assert needed("getdel k") == [(1, READ | WRITE)]
    assert needed("exists a b") == [(1, 0), (2, 0)]
    assert needed("del a b") == [(1, WRITE), (2, WRITE)]
    assert needed("mset a 1 b 2") == [(1, WRITE), (3, WRITE)]
    assert needed("blpop a b 0") == [(1, READ | WRITE), (2, READ | WRITE)]
    assert needed("lmove a b left left") == [(1, READ | WRITE), (2, WRITE)]
    assert needed("sort a store b") == [(1, READ), (3, WRITE)]
    assert needed("zunionstore d 2 a b") == [(1, WRITE), (3, READ), (4, READ)]
    assert needed("migrate h 1 '' 0 1 keys a b") == [(7, READ | WRITE), (8, READ | WRITE)]
    assert needed("subscribe a") == needed("ssubscribe a") == needed("ping") == needed("client id") == []


def test_keys_are_found_where_they_stand() -> None:
    """The short way for commands whose keys are all used alike finds what the registry says."""
    for command in all_commands():
        argv = [b"%d" % at for at in range(max(command.argc_min, 1) + 4)]
        if command.find_keys is None and command.keys.first and not command.name.startswith(("S", "X")):
            assert [at for at, _ in keys_needed(command, argv)] == key_positions(command, argv), command.name


def test_reading_every_key() -> None:
    def may(rules: str) -> bool:
        user = User(b"bob")
        user.obey_all(rules.encode().split(b" "), opens_channels=False)
        return reads_every_key(user, *parsed("sort k get x*"))

    assert may("allkeys +sort")
    assert may("%R~* +sort")
    assert may("~a (%RW~* +sort)")
    assert not may("~k ~x* +sort")
    assert not may("%W~* +sort")
    assert not may("allkeys (~k +sort)")

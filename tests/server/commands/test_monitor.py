"""MONITOR, and what is left out when commands are shown."""

from __future__ import annotations

from typing import Any

import pytest

from harness.local import LocalClient, Servers
from lamina.server.errors import CommandError
from lamina.server.monitoring import quoted
from lamina.server.redaction import redacted


def error(text: str) -> CommandError:
    return CommandError(text.encode())


@pytest.fixture
def monitor(local: LocalClient) -> LocalClient:
    """A client that watches."""
    client = local.connect()
    assert client("MONITOR") == b"OK"
    return client


def lines_of(monitor: LocalClient) -> list[str]:
    """Return what the monitor has been shown, without times."""
    return [line.decode().split(" ", 1)[1] for line in monitor.pushed()]


def shown(client: LocalClient, text: str, db: int = 0) -> str:
    return f"[{db} {client.client.address}] {text}"


def test_a_line(local: LocalClient, monitor: LocalClient) -> None:
    local.clock.now_us = 1_700_000_000_000_042
    local("SET", "k", "v")
    assert monitor.wire.data == b'+1700000000.000042 [0 %b] "SET" "k" "v"\r\n' % (
        local.client.address.encode()
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", b'""'),
        (b'a "b" \\', b'"a \\"b\\" \\\\"'),
        (b"\a\b\t\n\r\0\x1b", b'"\\a\\b\\t\\n\\r\\x00\\x1b"'),
        ("é~\x7f".encode(), b'"\\xc3\\xa9~\\x7f"'),
    ],
)
def test_quotes(text: bytes, expected: bytes) -> None:
    assert quoted(text) == expected


def test_what_is_shown(local: LocalClient, monitor: LocalClient) -> None:
    local("get", "a")
    local("INCR", "a", "too", "many")
    local("NOPE")
    local("CLIENT", "NOPE")
    local("RPUSH", "l", 1)
    assert local("GET", "l").code == b"WRONGTYPE"
    local("CLIENT", "LIST")  # administrative
    local("CLIENT", "SETNAME", "x")
    assert lines_of(monitor) == [
        shown(local, '"get" "a"'),
        shown(local, '"RPUSH" "l" "1"'),
        shown(local, '"GET" "l"'),
        shown(local, '"CLIENT" "SETNAME" "x"'),
    ]


def test_the_database_is_the_one_afterwards(local: LocalClient, monitor: LocalClient) -> None:
    local("SELECT", 3)
    assert lines_of(monitor) == [shown(local, '"SELECT" "3"', db=3)]


def test_transactions(local: LocalClient, monitor: LocalClient) -> None:
    local.pipeline(("MULTI",), ("SET", "a", 1), ("GET", "a"), ("EXEC",))
    assert lines_of(monitor) == [
        shown(local, text) for text in ('"MULTI"', '"SET" "a" "1"', '"GET" "a"', '"EXEC"')
    ]
    local.pipeline(("MULTI",), ("SET", "a", 1), ("DISCARD",), ("EXEC",))
    assert lines_of(monitor) == [shown(local, text) for text in ('"MULTI"', '"DISCARD"', '"EXEC"')]
    local("EXEC", "x")
    assert lines_of(monitor) == [shown(local, '"exec"')]


def test_waiting_commands_are_shown_when_they_come(local: LocalClient, monitor: LocalClient) -> None:
    local.run(("BLPOP", "l", 1), ("PING",))
    assert lines_of(monitor) == [shown(local, '"BLPOP" "l" "1"')]
    local.wait_out(1500)
    assert lines_of(monitor) == [shown(local, '"PING"')]


def test_scripts_come_before_what_they_call(local: LocalClient, monitor: LocalClient) -> None:
    local.server.is_in_script = True
    local("PING")
    local.server.is_in_script = False
    assert lines_of(monitor) == ['[0 lua] "PING"']


def test_unix_sockets(local: LocalClient, monitor: LocalClient) -> None:
    local.client.is_unix = True
    local.client.address = "/run/lamina.sock:0"
    local("PING")
    assert lines_of(monitor) == ['[0 unix:/run/lamina.sock] "PING"']


def test_passwords_are_left_out(make_local: Servers) -> None:
    local = make_local.make(requirepass="secret")
    local("AUTH", "secret")
    monitor = local.connect()
    monitor("AUTH", "secret")
    monitor("MONITOR")
    local("AUTH", "secret")
    local("AUTH", "default", "wrong")
    local("HELLO", 2, "AUTH", "default", "secret", "SETNAME", "me")
    local("HELLO", 2, "AUTH", "secret")
    assert [line.split("] ")[1] for line in lines_of(monitor)] == [
        '"AUTH" "(redacted)"',
        '"AUTH" "(redacted)" "(redacted)"',
        '"HELLO" "2" "AUTH" "(redacted)" "(redacted)" "SETNAME" "me"',
        '"HELLO" "2" "AUTH" "secret"',
    ]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("SET auth x", "SET auth x"),
        ("acl setuser bob on >pw", "acl setuser (redacted) (redacted) (redacted)"),
        ("ACL WHOAMI", "ACL WHOAMI"),
        ("config set maxclients 5 RequirePass pw", "config set maxclients 5 RequirePass (redacted)"),
        ("CONFIG GET requirepass", "CONFIG GET requirepass"),
        ("MIGRATE h 1 k 0 9 AUTH pw KEYS a", "MIGRATE h 1 k 0 9 AUTH (redacted) KEYS a"),
        ("MIGRATE h 1 k 0 9 auth2 me pw", "MIGRATE h 1 k 0 9 auth2 (redacted) (redacted)"),
        ("HELLO", "HELLO"),
    ],
)
def test_secrets(command: str, expected: str) -> None:
    assert redacted(command.encode().split()) == expected.encode().split()


def test_the_slow_log_has_no_passwords(make_local: Servers) -> None:
    local = make_local.make(slowlog_log_slower_than=0)
    local("AUTH", "default", "secret")
    assert local.server.slowlog.entries[0].argv == [b"AUTH", b"(redacted)", b"(redacted)"]


def test_a_monitor_sees_its_own_commands_after_their_replies(monitor: LocalClient) -> None:
    reply, line = monitor.raw("PING").splitlines()
    assert reply == b"+PONG"
    assert line.endswith(b'"PING"')


@pytest.mark.parametrize("words", [["GET", "k"], ["SET", "k", "v"], ["PUBLISH", "c", "m"]])
def test_a_monitor_has_no_access_to_keys(monitor: LocalClient, words: list[Any]) -> None:
    assert monitor(*words) == error("ERR Replica can't interact with the keyspace")
    monitor.raw("RESET")
    assert not isinstance(monitor(*words), CommandError)


def test_monitoring_twice_is_not_answered(monitor: LocalClient) -> None:
    assert monitor.raw("MONITOR") == b""


def test_it_is_not_for_transactions(local: LocalClient) -> None:
    replies = local.pipeline(("MULTI",), ("MONITOR",), ("EXEC",))
    assert replies[-1] == [error("ERR MONITOR isn't allowed for DENY BLOCKING client")]
    assert not local.client.is_monitor


def test_it_costs_nothing_when_the_last_has_gone(local: LocalClient, monitor: LocalClient) -> None:
    other = local.connect()
    other("MONITOR")
    assert local.client.gate
    other("RESET")
    assert local.client.gate
    local.server.remove_client(monitor.client)
    assert not local.client.gate
    assert not local.connect().client.gate


def test_lines_are_simple_strings_in_resp3(local: LocalClient) -> None:
    client = local.connect()
    client("HELLO", 3)
    client("MONITOR")
    local("PING")
    assert client.wire.data.startswith(b"+1700")

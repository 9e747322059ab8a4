"""AUTH, ECHO, HELLO, PING, QUIT, RESET, SELECT."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from harness.local import LocalClient, Servers, parse_all
from lamina.server.errors import (
    DB_INDEX,
    NO_AUTH,
    NO_AUTH_HELLO,
    NO_PASSWORD_SET,
    NO_PROTO,
    NOT_AN_INTEGER,
    SYNTAX,
    WRONG_PASS,
    CommandError,
    wrong_arity,
)
from lamina.server.version import REDIS_VERSION, VERSION


def error(text: str) -> CommandError:
    return CommandError(text.encode())


def test_the_version_is_the_package_s() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    assert project["project"]["version"] == VERSION


def test_ping_and_echo(local: LocalClient) -> None:
    assert local.raw("PING") == b"+PONG\r\n"
    assert local("PING", "hello") == b"hello"
    assert local("PING", "a", "b") == wrong_arity(b"ping")
    assert local("ECHO", b"\0\r\n") == b"\0\r\n"
    assert local("ECHO") == local("ECHO", "a", "b") == wrong_arity(b"echo")


def test_select(local: LocalClient) -> None:
    local("SET", "k", "in 0")
    assert local("SELECT", 15) == b"OK"
    assert local("GET", "k") is None
    assert local("SELECT", 0) == b"OK"
    assert local("GET", "k") == b"in 0"
    assert local("SELECT", 16) == local("SELECT", -1) == DB_INDEX
    assert local("SELECT", "x") == NOT_AN_INTEGER


class TestAuth:
    def test_without_a_password(self, local: LocalClient) -> None:
        assert local("AUTH", "x") == NO_PASSWORD_SET
        assert local("AUTH", "default", "anything") == b"OK"
        assert local("AUTH", "somebody", "x") == WRONG_PASS
        assert local("AUTH", "a", "b", "c") == SYNTAX
        assert local("AUTH") == wrong_arity(b"auth")

    def test_with_a_password(self, make_local: Servers) -> None:
        local = make_local.make(requirepass="secret")
        assert local("GET", "k") == local("PING") == local("CLIENT", "ID") == NO_AUTH
        assert local("GET") == wrong_arity(b"get")
        assert local("NOPE").code == b"ERR"
        assert local("AUTH", "wrong") == local("AUTH", "default", "wrong") == WRONG_PASS
        assert local("AUTH", "nobody", "secret") == WRONG_PASS
        assert local("GET", "k") == NO_AUTH
        assert local("AUTH", "secret") == b"OK"
        assert local("GET", "k") is None
        assert local.connect()("AUTH", "default", "secret") == b"OK"

    def test_a_failed_attempt_does_not_log_out(self, make_local: Servers) -> None:
        local = make_local.make(requirepass="secret")
        local("AUTH", "secret")
        assert local("AUTH", "wrong") == WRONG_PASS
        assert local("SET", "k", "v") == b"OK"

    def test_what_is_possible_before_it(self, make_local: Servers) -> None:
        local = make_local.make(requirepass="secret")
        assert local("RESET") == b"RESET"
        assert local("QUIT") == b"OK"
        assert local.wire.is_closed

    def test_exec_is_told_in_its_own_words(self, make_local: Servers) -> None:
        local = make_local.make(requirepass="secret")
        assert local("EXEC") == error(
            "EXECABORT Transaction discarded because of: NOAUTH Authentication required."
        )

    def test_a_password_taken_away_lets_everybody_in(self, make_local: Servers) -> None:
        local = make_local.make(requirepass="secret")
        assert local("PING") == NO_AUTH
        local.server.config.set({b"requirepass": b""})
        assert local("PING") == b"PONG"

    def test_a_password_set_later_asks_new_clients_only(self, local: LocalClient) -> None:
        local.server.config.set({b"requirepass": b"late"})
        assert local("PING") == b"PONG"
        assert local.connect()("PING") == NO_AUTH


class TestHello:
    FIELDS = (b"server", b"version", b"proto", b"id", b"mode", b"role", b"modules")

    def test_the_reply_in_both_protocols(self, local: LocalClient) -> None:
        flat = local("HELLO")
        assert tuple(flat[::2]) == self.FIELDS
        values = [b"redis", REDIS_VERSION.encode(), 2, local.client.id, b"standalone", b"master", []]
        assert flat[1::2] == values
        mapped = local("HELLO", 3)
        values[2] = 3
        assert mapped == dict(zip(self.FIELDS, values, strict=True))
        assert local.raw("GET", "missing") == b"_\r\n"
        assert local("HELLO") == mapped
        assert local.raw("HELLO", 2).startswith(b"*14\r\n")
        assert local.raw("GET", "missing") == b"$-1\r\n"

    @pytest.mark.parametrize("version", ["0", "1", "4", "-3"])
    def test_other_protocols_are_refused(self, local: LocalClient, version: str) -> None:
        assert local("HELLO", version) == NO_PROTO
        assert local.client.resp == 2

    @pytest.mark.parametrize("version", ["x", "2.0", "", "3 ", "99999999999999999999"])
    def test_a_version_is_an_integer(self, local: LocalClient, version: str) -> None:
        assert local("HELLO", version) == error("ERR Protocol version is not an integer or out of range")

    def test_options(self, local: LocalClient) -> None:
        assert local("HELLO", 3, "SETNAME", "me", "AUTH", "default", "x")[b"proto"] == 3
        assert local("CLIENT", "GETNAME") == b"me"
        assert local("HELLO", 2, "setname", "")[5] == 2
        assert local("CLIENT", "GETNAME") is None

    @pytest.mark.parametrize(
        ("option", "culprit"),
        [
            (["foo"], "foo"),
            (["AUTH", "default"], "AUTH"),
            (["SetName"], "SetName"),
            (["SETNAME", "a", "b"], "b"),
        ],
    )
    def test_wrong_options_change_nothing(self, local: LocalClient, option: list[str], culprit: str) -> None:
        assert local("HELLO", 3, *option) == error(f"ERR Syntax error in HELLO option '{culprit}'")
        assert local.client.resp == 2
        assert local("CLIENT", "GETNAME") is None

    def test_a_bad_name_or_password_changes_nothing(self, local: LocalClient) -> None:
        assert local("HELLO", 3, "SETNAME", "a b") == error(
            "ERR Client names cannot contain spaces, newlines or special characters."
        )
        assert local("HELLO", 3, "SETNAME", "bob", "AUTH", "nobody", "x") == WRONG_PASS
        assert local.client.resp == 2
        assert local("CLIENT", "GETNAME") is None

    def test_logging_in_with_it(self, make_local: Servers) -> None:
        local = make_local.make(requirepass="secret")
        assert local("HELLO", 3) == local("HELLO") == NO_AUTH_HELLO
        assert local("HELLO", 3, "AUTH", "default", "wrong") == WRONG_PASS
        assert local("HELLO", 3, "SETNAME", "x") == NO_AUTH_HELLO
        assert local("HELLO", 3, "AUTH", "default", "secret", "SETNAME", "x")[b"proto"] == 3
        assert local("CLIENT", "GETNAME") == b"x"


class TestQuit:
    def test_what_follows_is_not_run(self, local: LocalClient) -> None:
        assert local.pipeline(("SET", "k", 1), ("QUIT",), ("SET", "k", 2)) == [b"OK", b"OK"]
        assert local.wire.is_closed
        assert local.connect()("GET", "k") == b"1"

    def test_arguments_do_not_matter(self, local: LocalClient) -> None:
        assert local("QUIT", "a", "b") == b"OK"

    def test_inside_a_transaction_it_is_not_queued(self, local: LocalClient) -> None:
        assert local.pipeline(("MULTI",), ("SET", "k", 1), ("QUIT",)) == [b"OK", b"QUEUED", b"OK"]
        assert local.wire.is_closed
        assert local.connect()("EXISTS", "k") == 0


class TestReset:
    def test_everything_is_as_it_was(self, local: LocalClient) -> None:
        other = local.connect()
        local("HELLO", 3, "SETNAME", "me")
        local("CLIENT", "SETINFO", "LIB-NAME", "tester")
        local("CLIENT", "TRACKING", "ON")
        local("CLIENT", "NO-EVICT", "ON")
        local("CLIENT", "NO-TOUCH", "ON")
        local("SELECT", 3)
        local("WATCH", "w")
        local("MULTI")
        local("SET", "k", "v")
        assert local.raw("RESET") == b"+RESET\r\n"
        info = local("CLIENT", "INFO").decode()
        for field in (
            "name=",
            "flags=N",
            "db=0",
            "multi=-1",
            "watch=0",
            "redir=-1",
            "resp=2",
            "lib-name=tester",
        ):
            assert f" {field} " in info
        other("SET", "w", 1)
        assert local("MULTI") == b"OK"
        assert local("EXEC") == []

    def test_subscriptions_end_without_a_word(self, local: LocalClient) -> None:
        other = local.connect()
        local.pipeline(("SUBSCRIBE", "a"), ("PSUBSCRIBE", "b*"), ("SSUBSCRIBE", "c"))
        assert local.raw("RESET") == b"+RESET\r\n"
        assert other("PUBLISH", "a", "x") == other("PUBLISH", "b", "x") == other("SPUBLISH", "c", "x") == 0
        assert local("GET", "k") is None

    def test_it_ends_monitoring_and_silence(self, local: LocalClient) -> None:
        local("MONITOR")
        assert local.raw("RESET").startswith(b"+RESET\r\n")
        local.connect()("PING")
        assert local.pushed() == []
        local.run(("CLIENT", "REPLY", "OFF"))
        assert parse_all(local.raw("RESET")) == [b"RESET"]
        assert local("PING") == b"PONG"

    def test_it_logs_out(self, make_local: Servers) -> None:
        local = make_local.make(requirepass="secret")
        local("AUTH", "secret")
        assert local("RESET") == b"RESET"
        assert local("PING") == NO_AUTH

    def test_arity(self, local: LocalClient) -> None:
        assert local("RESET", "x") == wrong_arity(b"reset")

"""The subcommands of CLIENT, but for those about tracking."""

from __future__ import annotations

import pytest

from harness.local import LocalClient
from lamina.server.errors import (
    NO_SUCH_CLIENT,
    NOT_AN_INTEGER,
    SYNTAX,
    TIMEOUT_NEGATIVE,
    TIMEOUT_NOT_AN_INTEGER,
    TIMEOUT_OUT_OF_RANGE,
    UNBLOCKED,
    CommandError,
    misused_subcommand,
    unknown_subcommand,
    wrong_arity,
)


def error(text: str) -> CommandError:
    return CommandError(text.encode())


def fields_of(line: bytes) -> dict[str, str]:
    return dict(word.split("=", 1) for word in line.decode().split())


def info(client: LocalClient) -> dict[str, str]:
    return fields_of(client("CLIENT", "INFO"))


def ids(reply: bytes) -> list[int]:
    return [int(fields_of(line)["id"]) for line in reply.splitlines()]


def test_id_and_names(local: LocalClient) -> None:
    assert local("CLIENT", "ID") == local.client.id
    assert local.connect()("CLIENT", "ID") == local.client.id + 1
    assert local("CLIENT", "GETNAME") is None
    assert local("CLIENT", "SETNAME", "!a~") == b"OK"
    assert local("CLIENT", "GETNAME") == b"!a~"
    for name in ("a b", "a\n", "\x7f", "é", " "):
        assert local("CLIENT", "SETNAME", name) == error(
            "ERR Client names cannot contain spaces, newlines or special characters."
        )
    assert local("CLIENT", "SETNAME", "") == b"OK"
    assert local("CLIENT", "GETNAME") is None


def test_what_is_no_subcommand(local: LocalClient) -> None:
    assert local("CLIENT") == wrong_arity(b"client")
    assert local("CLIENT", "foo") == unknown_subcommand(b"foo", b"client")
    assert local("CLIENT", "ID", "x") == wrong_arity(b"client|id")
    assert local("CLIENT", "KILL") == wrong_arity(b"client|kill")


def test_setinfo(local: LocalClient) -> None:
    assert local("CLIENT", "SETINFO", "lib-name", "redis-py(x)") == b"OK"
    assert local("CLIENT", "SETINFO", "LIB-VER", "1.2.3") == b"OK"
    assert (info(local)["lib-name"], info(local)["lib-ver"]) == ("redis-py(x)", "1.2.3")
    assert local("CLIENT", "SETINFO", "lib-Ver", "1 2") == error(
        "ERR lib-Ver cannot contain spaces, newlines or special characters."
    )
    assert local("CLIENT", "SETINFO", "lib", "x") == error("ERR Unrecognized option 'lib'")
    assert local("CLIENT", "SETINFO", "lib-ver", "") == b"OK"
    assert info(local)["lib-ver"] == ""


@pytest.mark.parametrize(("subcommand", "letter"), [("NO-EVICT", "e"), ("NO-TOUCH", "T")])
def test_switches(local: LocalClient, subcommand: str, letter: str) -> None:
    assert local("CLIENT", subcommand, "on") == b"OK"
    assert info(local)["flags"] == letter
    assert local("CLIENT", subcommand, "OFF") == b"OK"
    assert info(local)["flags"] == "N"
    assert local("CLIENT", subcommand, "x") == SYNTAX


def test_help_names_every_subcommand(local: LocalClient) -> None:
    lines = local("CLIENT", "HELP")
    assert lines[0] == b"CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    assert lines[-2:] == [b"HELP", b"    Print this help."]
    named = [line.split()[0] for line in lines[1::2]]
    assert named == sorted(named[:-1]) + [b"HELP"]
    assert {b"KILL", b"LIST", b"SETINFO", b"TRACKING", b"UNBLOCK"} < set(named)
    assert all(line.startswith(b"    ") for line in lines[2::2])
    assert local.raw("CLIENT", "HELP").split(b"\r\n")[1].startswith(b"+CLIENT ")
    assert local("CLIENT", "HELP", "x") == wrong_arity(b"client|help")


class TestList:
    NAMES = (
        "id addr laddr fd name age idle flags db sub psub ssub multi watch qbuf qbuf-free argv-mem multi-mem"
        " rbs rbp obl oll omem tot-mem events cmd user redir resp lib-name lib-ver"
    ).split()

    def test_the_fields(self, local: LocalClient) -> None:
        local.clock.advance(2500)
        local.client.last_ms = local.clock.now_ms - 1200
        reply = local("CLIENT", "INFO")
        assert reply.endswith(b"\n")
        fields = fields_of(reply)
        assert list(fields) == self.NAMES
        expected = {
            "id": str(local.client.id),
            "addr": local.client.address,
            "laddr": "127.0.0.1:6379",
            "age": "2",
            "idle": "1",
            "flags": "N",
            "db": "0",
            "multi": "-1",
            "argv-mem": "10",
            "cmd": "client|info",
            "user": "default",
            "redir": "-1",
            "resp": "2",
        }
        assert expected.items() <= fields.items()
        assert int(fields["tot-mem"]) > 1000

    def test_state_of_others(self, local: LocalClient) -> None:
        other = local.connect()
        other("SELECT", 2)
        other("WATCH", "a", "b")
        other("MULTI")
        other("SET", "a", "12345")
        fields = fields_of(local("CLIENT", "LIST", "ID", other.client.id))
        assert fields["db"] == "2"
        assert (fields["flags"], fields["multi"], fields["watch"], fields["multi-mem"]) == (
            "x",
            "1",
            "2",
            "9",
        )
        assert fields["cmd"] == "set"
        other("EXEC")
        other("HELLO", 3)
        other.run(("SUBSCRIBE", "a", "b"), ("PSUBSCRIBE", "c*"), ("SSUBSCRIBE", "d"))
        fields = fields_of(local("CLIENT", "LIST", "ID", other.client.id))
        assert (fields["sub"], fields["psub"], fields["ssub"], fields["flags"]) == ("2", "1", "1", "P")
        assert (fields["resp"], fields["cmd"]) == ("3", "ssubscribe")

    def test_flags(self, local: LocalClient) -> None:
        other = local.connect()
        for commands, letters in (
            ([("BLPOP", "l", 0)], "b"),
            ([("MONITOR",)], "O"),
            ([("CLIENT", "TRACKING", "ON", "BCAST")], "tB"),
        ):
            other = local.connect()
            other.run(*commands)
            assert fields_of(local("CLIENT", "LIST", "ID", other.client.id))["flags"] == letters
        other = local.connect()
        other("WATCH", "k")
        local("SET", "k", 1)
        assert fields_of(local("CLIENT", "LIST", "ID", other.client.id))["flags"] == "d"

    def test_all_and_filters(self, local: LocalClient) -> None:
        others = [local.connect() for _ in range(3)]
        others[1].run(("SUBSCRIBE", "x"))
        own = local.client.id
        assert ids(local("CLIENT", "LIST")) == [own, own + 1, own + 2, own + 3]
        assert ids(local("CLIENT", "LIST", "TYPE", "pubsub")) == [own + 2]
        assert ids(local("CLIENT", "LIST", "type", "NORMAL")) == [own, own + 1, own + 3]
        for none in ("master", "replica", "slave"):
            assert local("CLIENT", "LIST", "TYPE", none) == b""
        assert ids(local("CLIENT", "LIST", "ID", own + 3, 999, own)) == [own + 3, own]

    def test_mistakes(self, local: LocalClient) -> None:
        assert local("CLIENT", "LIST", "TYPE", "x") == error("ERR Unknown client type 'x'")
        assert local("CLIENT", "LIST", "ID", "x") == error("ERR Invalid client ID")
        for words in (["TYPE"], ["ID"], ["FOO"], ["TYPE", "normal", "x"]):
            assert local("CLIENT", "LIST", *words) == SYNTAX

    def test_it_is_verbatim_text_in_resp3(self, local: LocalClient) -> None:
        local("HELLO", 3)
        assert local.raw("CLIENT", "LIST").startswith(b"=")
        assert b"\r\ntxt:id=" in local.raw("CLIENT", "INFO")


class TestKill:
    def test_by_address(self, local: LocalClient) -> None:
        other = local.connect()
        assert local("CLIENT", "KILL", other.client.address) == b"OK"
        assert other.wire.is_closed
        assert local("CLIENT", "KILL", other.client.address) == NO_SUCH_CLIENT
        assert ids(local("CLIENT", "LIST")) == [local.client.id]

    def test_oneself(self, local: LocalClient) -> None:
        replies = local.pipeline(("CLIENT", "KILL", local.client.address), ("SET", "k", 1))
        assert replies == [b"OK"]
        assert local.wire.is_closed
        assert local.connect()("EXISTS", "k") == 0

    def test_by_filters(self, local: LocalClient) -> None:
        a, b, c = (local.connect() for _ in range(3))
        assert local("CLIENT", "KILL", "ID", a.client.id) == 1
        assert local("CLIENT", "KILL", "ID", a.client.id) == 0
        assert local("CLIENT", "KILL", "ADDR", b.client.address, "ID", c.client.id) == 0
        assert local("CLIENT", "KILL", "ADDR", b.client.address, "LADDR", "127.0.0.1:6379") == 1
        c.run(("SUBSCRIBE", "x"))
        assert local("CLIENT", "KILL", "TYPE", "pubsub", "USER", "default") == 1
        assert [a.wire.is_closed, b.wire.is_closed, c.wire.is_closed] == [True] * 3
        assert local("PUBLISH", "x", "m") == 0

    def test_skipme(self, local: LocalClient) -> None:
        others = [local.connect() for _ in range(3)]
        assert local("CLIENT", "KILL", "SKIPME", "yes") == 3
        assert all(other.wire.is_closed for other in others)
        assert not local.wire.is_closed
        assert local("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "NO") == 1
        assert local.wire.is_closed

    def test_maxage(self, local: LocalClient) -> None:
        local.clock.advance(5000)
        young = local.connect()
        local.clock.advance(5000)
        assert young("CLIENT", "KILL", "MAXAGE", 11) == 0
        assert young("CLIENT", "KILL", "MAXAGE", 10) == 1
        assert local.wire.is_closed
        assert young("CLIENT", "KILL", "MAXAGE", "x") == error("ERR maxage is not an integer or out of range")
        assert young("CLIENT", "KILL", "MAXAGE", 0) == error("ERR maxage should be greater than 0")

    def test_a_client_that_waits(self, local: LocalClient) -> None:
        other = local.connect()
        other.run(("BLPOP", "l", 0))
        assert local("CLIENT", "KILL", "ID", other.client.id) == 1
        local("RPUSH", "l", "a")
        assert local("LLEN", "l") == 1
        assert not local.server.waits.active

    def test_one_that_has_replies_in_this_turn(self, local: LocalClient) -> None:
        other = local.connect()
        other.client.send(b"late")
        assert local("CLIENT", "KILL", "ID", other.client.id) == 1
        assert other.wire.data == b""

    @pytest.mark.parametrize("id_", ["x", "0", "-1"])
    def test_ids_are_positive(self, local: LocalClient, id_: str) -> None:
        assert local("CLIENT", "KILL", "ID", id_) == error("ERR client-id should be greater than 0")

    def test_mistakes(self, local: LocalClient) -> None:
        assert local("CLIENT", "KILL", "TYPE", "x") == error("ERR Unknown client type 'x'")
        assert local("CLIENT", "KILL", "USER", "x") == error("ERR No such user 'x'")
        for words in (["SKIPME", "x"], ["ID", "1", "SKIPME"], ["ID", "1", "FOO", "x"]):
            assert local("CLIENT", "KILL", *words) == SYNTAX
        assert local("CLIENT", "KILL", "ID") == NO_SUCH_CLIENT


class TestReply:
    def test_off_and_on(self, local: LocalClient) -> None:
        replies = local.pipeline(
            ("ECHO", "a"), ("CLIENT", "REPLY", "OFF"), ("ECHO", "b"), ("NOPE",), ("GET",), ("SET", "k", "v")
        )
        assert replies == [b"a"]
        assert local.pipeline(("GET", "k"), ("CLIENT", "REPLY", "SKIP"), ("ECHO", "c")) == []
        assert local.pipeline(("CLIENT", "REPLY", "ON"), ("GET", "k")) == [b"OK", b"v"]

    def test_skip(self, local: LocalClient) -> None:
        skip = ("CLIENT", "REPLY", "SKIP")
        assert local.pipeline(skip, ("ECHO", "a"), ("ECHO", "b")) == [b"b"]
        assert local.pipeline(skip) == []
        assert local.pipeline(("ECHO", "a"), ("ECHO", "b")) == [b"b"]
        assert local.pipeline(skip, skip, ("ECHO", "a"), ("ECHO", "b")) == [b"b"]
        assert local.pipeline(skip, ("NOPE",), ("ECHO", "b")) == [b"b"]
        assert local.pipeline(skip, ("CLIENT", "REPLY", "ON"), ("ECHO", "b")) == [b"OK", b"b"]
        assert local.pipeline(skip, ("CLIENT", "REPLY", "OFF"), ("ECHO", "b")) == []

    def test_a_pipeline_of_one_command(self, local: LocalClient) -> None:
        many = [("INCR", "n")] * 40
        assert local.pipeline(("CLIENT", "REPLY", "OFF"), *many) == []
        assert local.pipeline(*many) == []
        assert local.pipeline(("CLIENT", "REPLY", "ON"), ("GET", "n")) == [b"OK", b"80"]
        assert local.pipeline(("CLIENT", "REPLY", "SKIP"), *many) == list(range(82, 121))

    def test_skip_over_a_wait(self, local: LocalClient) -> None:
        other = local.connect()
        local.run(("CLIENT", "REPLY", "SKIP"), ("BLPOP", "l", 0), ("ECHO", "b"))
        other("RPUSH", "l", "x")
        assert local.pushed() == [b"b"]
        local.run(("CLIENT", "REPLY", "OFF"), ("BLPOP", "l", 0), ("ECHO", "b"))
        other("RPUSH", "l", "x")
        assert local.pushed() == []
        assert local("CLIENT", "REPLY", "ON") == b"OK"

    def test_inside_a_transaction(self, local: LocalClient) -> None:
        replies = local.pipeline(
            ("MULTI",), ("CLIENT", "REPLY", "SKIP"), ("ECHO", "a"), ("EXEC",), ("ECHO", "b"), ("ECHO", "c")
        )
        assert replies == [b"OK", b"QUEUED", b"QUEUED", [b"a"], b"c"]

    def test_pushes_are_heard_nevertheless(self, local: LocalClient) -> None:
        other = local.connect()
        local("HELLO", 3)
        replies = local.pipeline(("CLIENT", "REPLY", "OFF"), ("SUBSCRIBE", "c"), ("PUBLISH", "c", "m"))
        assert replies == [("push", [b"subscribe", b"c", 1]), ("push", [b"message", b"c", b"m"])]
        other("PUBLISH", "c", "n")
        assert local.pushed() == [("push", [b"message", b"c", b"n"])]

    def test_mistakes(self, local: LocalClient) -> None:
        assert local("CLIENT", "REPLY", "x") == SYNTAX


class TestPause:
    def test_all(self, local: LocalClient) -> None:
        other = local.connect()
        assert local("CLIENT", "PAUSE", 100) == b"OK"
        other.run(("GET", "k"), ("ECHO", "a"))
        local.run(("CLIENT", "UNPAUSE"))
        assert other.pushed() == []
        local.wait_out(99)
        assert other.pushed() == []
        local.wait_out(1)
        assert other.pushed() == [None, b"a"]
        assert local.pushed() == [b"OK"]

    def test_writes(self, local: LocalClient) -> None:
        other = local.connect()
        assert local("CLIENT", "PAUSE", 10_000, "write") == b"OK"
        assert other("GET", "k") is None
        other.run(("SET", "k", 1), ("GET", "k"))
        assert other.pushed() == []
        listed = fields_of(local("CLIENT", "LIST", "ID", other.client.id))
        assert (listed["flags"], listed["qbuf"]) == ("b", str(len("SETk1GETk")))
        third = local.connect()
        third.run(("PUBLISH", "c", "m"))
        assert third.pushed() == []
        assert local("CLIENT", "UNPAUSE") == b"OK"
        assert other.pushed() == [b"OK", b"1"]
        assert third.pushed() == [0]

    def test_transactions_wait_if_they_write(self, local: LocalClient) -> None:
        other, third = local.connect(), local.connect()
        other.pipeline(("MULTI",), ("SET", "k", 1))
        third.pipeline(("MULTI",), ("GET", "k"))
        local("CLIENT", "PAUSE", 10_000, "WRITE")
        other.run(("EXEC",))
        assert third("EXEC") == [None]
        assert other.pushed() == []
        local("CLIENT", "UNPAUSE")
        assert other.pushed() == [[b"OK"]]

    def test_a_pause_is_not_weakened(self, local: LocalClient) -> None:
        other = local.connect()
        local("CLIENT", "PAUSE", 1000, "WRITE")
        local("CLIENT", "PAUSE", 10, "WRITE")
        other.run(("SET", "k", 1))
        local.wait_out(500)
        assert other.pushed() == []
        local.wait_out(500)
        assert other.pushed() == [b"OK"]

    @pytest.mark.parametrize("mode", ["ALL", "WRITE"])
    def test_nothing_expires_by_itself(self, local: LocalClient, mode: str) -> None:
        local("SET", "k", 1, "PX", 10)
        other = local.connect()
        other("CLIENT", "PAUSE", 1000, mode)
        local.wait_out(500)
        # The engine's count: while all is paused, DBSIZE would wait.
        assert local.server.databases.keyspaces[0].count_keys() == 1
        local.wait_out(500)
        local.wait_out(100)
        assert local("DBSIZE") == 0

    def test_a_paused_client_may_be_killed(self, local: LocalClient) -> None:
        other = local.connect()
        local("CLIENT", "PAUSE", 1000, "WRITE")
        other.run(("SET", "k", 1))
        assert local("CLIENT", "UNBLOCK", other.client.id) == 0
        assert local("CLIENT", "KILL", "ID", other.client.id) == 1
        local("CLIENT", "UNPAUSE")
        assert local("EXISTS", "k") == 0

    def test_mistakes(self, local: LocalClient) -> None:
        assert local("CLIENT", "PAUSE", "x") == local("CLIENT", "PAUSE", "1.5") == TIMEOUT_NOT_AN_INTEGER
        assert local("CLIENT", "PAUSE", -1) == TIMEOUT_NEGATIVE
        assert local("CLIENT", "PAUSE", (1 << 63) - 1) == TIMEOUT_OUT_OF_RANGE
        assert local("CLIENT", "PAUSE", 1, "x") == error("ERR CLIENT PAUSE mode must be WRITE or ALL")
        assert local("CLIENT", "PAUSE", 1, "ALL", "x") == misused_subcommand(b"PAUSE", b"client")
        assert local("CLIENT", "UNPAUSE") == b"OK"


class TestUnblock:
    def test_with_the_reply_of_the_timeout(self, local: LocalClient) -> None:
        other = local.connect()
        other.run(("BLPOP", "l", 0), ("ECHO", "next"))
        assert local("CLIENT", "UNBLOCK", other.client.id) == 1
        assert other.pushed() == [None, b"next"]
        assert local("CLIENT", "UNBLOCK", other.client.id) == 0

    def test_with_an_error(self, local: LocalClient) -> None:
        other = local.connect()
        other.run(("BLPOP", "l", 0))
        assert local("CLIENT", "UNBLOCK", other.client.id, "error") == 1
        assert other.pushed() == [UNBLOCKED]
        other.run(("BLPOP", "l", 0))
        assert local("CLIENT", "UNBLOCK", other.client.id, "Timeout") == 1
        assert other.pushed() == [None]

    def test_mistakes(self, local: LocalClient) -> None:
        assert local("CLIENT", "UNBLOCK", 999) == 0
        assert local("CLIENT", "UNBLOCK", "x") == NOT_AN_INTEGER
        assert local("CLIENT", "UNBLOCK", 1, "x") == error(
            "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"
        )
        assert local("CLIENT", "UNBLOCK", 1, "ERROR", "x") == misused_subcommand(b"UNBLOCK", b"client")

"""ACL: its subcommands. What rules mean is tested with the package acl."""

from __future__ import annotations

from typing import Any

import pytest

from harness.local import LocalClient, Servers
from lamina.server.errors import CommandError


def logged_in(local: LocalClient, name: str, *rules: str) -> LocalClient:
    local("ACL", "SETUSER", name, "on", "nopass", *rules)
    client = local.connect()
    assert client("AUTH", name, "x") == b"OK"
    return client


def entries(local: LocalClient, *words: Any) -> list[dict[bytes, Any]]:
    return [dict(zip(entry[::2], entry[1::2], strict=True)) for entry in local("ACL", "LOG", *words)]


def test_cat(local: LocalClient) -> None:
    assert local("ACL", "CAT")[:3] == [b"keyspace", b"read", b"write"]
    assert b"acl|setuser" in local("ACL", "CAT", "Dangerous")
    assert b"get" not in local("ACL", "CAT", "write")
    assert local("ACL", "CAT", "nosuch") == CommandError(b"ERR Unknown category 'nosuch'")
    assert local("ACL", "CAT", "a", "b").message.startswith(b"ERR unknown subcommand or wrong number")


def test_genpass(local: LocalClient) -> None:
    assert len(local("ACL", "GENPASS")) == 64
    assert [len(local("ACL", "GENPASS", bits)) for bits in (1, 4, 5, 8, 4096)] == [1, 1, 2, 2, 1024]
    assert local("ACL", "GENPASS") != local("ACL", "GENPASS")
    for bits in (0, -1, 4097):
        assert local("ACL", "GENPASS", bits).message.startswith(b"ERR ACL GENPASS argument must be")


def test_setuser_and_getuser(local: LocalClient) -> None:
    assert local("ACL", "GETUSER", "bob") is None
    assert local("ACL", "SETUSER", "bob") == b"OK"
    local("ACL", "SETUSER", "bob", "on", ">p", "~a", "%R~b", "&c", "+@read", "-get", "(~d", "+set)")
    assert local("ACL", "GETUSER", "bob") == [
        b"flags",
        [b"on", b"sanitize-payload"],
        b"passwords",
        [b"148de9c5a7a44d19e56cd9ae1a554bf67847afb0c58f6e12fa29ac7ddfca9940"],
        b"commands",
        b"-@all +@read -get",
        b"keys",
        b"~a %R~b",
        b"channels",
        b"&c",
        b"selectors",
        [[b"commands", b"-@all +set", b"keys", b"~d", b"channels", b""]],
    ]
    local.client.resp = 3
    assert local("ACL", "GETUSER", "bob")[b"flags"] == {b"on", b"sanitize-payload"}
    assert local("ACL", "SETUSER", "bob", "+nosuch") == CommandError(
        b"ERR Error in ACL SETUSER modifier '+nosuch': Unknown command or category name in ACL"
    )
    assert local("ACL", "SETUSER", "b b") == CommandError(
        b"ERR Usernames can't contain spaces or null characters"
    )


def test_list_users_and_whoami(local: LocalClient) -> None:
    local("ACL", "SETUSER", "zoe")
    local("ACL", "SETUSER", "Bob")
    assert local("ACL", "USERS") == [b"Bob", b"default", b"zoe"]
    assert local("ACL", "LIST") == [
        b"user Bob off sanitize-payload resetchannels -@all",
        b"user default on nopass sanitize-payload ~* &* +@all",
        b"user zoe off sanitize-payload resetchannels -@all",
    ]
    assert local("ACL", "WHOAMI") == b"default"
    assert logged_in(local, "bob", "+acl|whoami")("ACL", "WHOAMI") == b"bob"


def test_deluser(local: LocalClient) -> None:
    bob = logged_in(local, "bob")
    assert local("ACL", "DELUSER", "bob", "nosuch", "bob") == 1
    assert bob.wire.is_closed
    assert local("ACL", "DELUSER", "default").message == b"ERR The 'default' user cannot be removed"


def test_dryrun(local: LocalClient) -> None:
    local("ACL", "SETUSER", "bob", "+get", "+config|get", "~a")
    assert local("ACL", "DRYRUN", "bob", "GET", "a") == b"OK"
    assert local("ACL", "DRYRUN", "bob", "get", "b") == b"User bob has no permissions to access the 'b' key"
    assert local("ACL", "DRYRUN", "bob", "config", "set", "a", "b") == (
        b"User bob has no permissions to run the 'config|set' command"
    )
    for words, text in (
        (("eve", "get", "a"), b"ERR User 'eve' not found"),
        (("bob", "nosuch"), b"ERR Command 'nosuch' not found"),
        (("bob", "config", "nosuch"), b"ERR Command 'config' not found"),
        (("bob", "config"), b"ERR wrong number of arguments for 'config' command"),
        (("bob", "get"), b"ERR wrong number of arguments for 'get' command"),
    ):
        assert local("ACL", "DRYRUN", *words) == CommandError(text)
    assert local("EXISTS", "a") == 0


def test_log(local: LocalClient) -> None:
    bob = logged_in(local, "bob", "~k", "+get", "+multi", "+exec")
    bob("GET", "z")
    local.clock.advance(1500)
    bob("GET", "z")
    local.clock.advance(250)
    bob("SET", "k", "1")
    bob.pipeline(("MULTI",), ("GET", "z"), ("EXEC",))
    local("AUTH", "bob2", "wrong")
    found = entries(local)
    assert [(entry[b"reason"], entry[b"context"], entry[b"object"], entry[b"count"]) for entry in found] == [
        (b"auth", b"toplevel", b"AUTH", 1),
        (b"key", b"multi", b"z", 1),
        (b"command", b"toplevel", b"set", 1),
        (b"key", b"toplevel", b"z", 2),
    ]
    assert [entry[b"entry-id"] for entry in found] == [3, 2, 1, 0]
    last = found[-1]
    assert last[b"age-seconds"] == b"0.25"
    assert last[b"timestamp-last-updated"] - last[b"timestamp-created"] == 1500
    assert b" cmd=get user=bob " in last[b"client-info"]
    assert entries(local, 2) == found[:2]
    assert entries(local, -1) == entries(local, 0) == []
    info = local("INFO", "stats").decode()
    assert [f"acl_access_denied_{what}:{count}\r\n" in info for what, count in (("auth", 1), ("key", 3))] == [
        True,
        True,
    ]
    assert local("ACL", "LOG", "RESET") == b"OK"
    assert entries(local) == []
    assert local("ACL", "LOG", "x") == CommandError(b"ERR value is not an integer or out of range")


def test_a_log_of_bounded_length(make_local: Servers) -> None:
    local = make_local.make(acllog_max_len=3)
    for i in range(5):
        local("AUTH", f"user{i}", "x")
    assert [entry[b"username"] for entry in entries(local)] == [b"user4", b"user3", b"user2"]
    local("CONFIG", "SET", "acllog-max-len", 0)
    assert len(entries(local)) == 3, "as in Redis, they go when there is something new"
    local("AUTH", "user5", "x")
    assert entries(local) == []


@pytest.mark.parametrize("word", ["LOAD", "SAVE"])
def test_load_and_save_need_a_file(local: LocalClient, word: str) -> None:
    assert local("ACL", word).message.startswith(
        b"ERR This Redis instance is not configured to use an ACL file."
    )


def test_transactions(local: LocalClient) -> None:
    bob = logged_in(local, "bob", "~k", "&c", "+@all")
    bob.pipeline(("MULTI",), ("GET", "k"), ("PUBLISH", "c", "1"), ("INCR", "k"), ("PING",))
    local("ACL", "SETUSER", "bob", "resetkeys", "%R~k", "resetchannels", "-ping")
    errors = bob("EXEC")
    assert errors[0] is None
    assert [error.message.rpartition(b"reason: ")[2] for error in errors[1:]] == [
        b"no permission to access one of the channels used as arguments",
        b"no permission to touch the specified keys",
        b"no permission to execute the command or subcommand",
    ]
    assert local("EXISTS", "k") == 0
    local("ACL", "SETUSER", "bob", "allkeys")
    local("ACL", "SETUSER", "eve", "on", "nopass", "+acl|whoami")
    bob.pipeline(("MULTI",), ("INCR", "k"), ("AUTH", "eve", "x"), ("INCR", "k"), ("ACL", "WHOAMI"))
    replies = bob("EXEC")
    assert [replies[0], replies[1], replies[3]] == [1, b"OK", b"eve"]
    assert replies[2].code == b"NOPERM", "what has run before it counts"


def test_exec_may_be_forbidden(local: LocalClient) -> None:
    bob = logged_in(local, "bob", "+multi")
    bob("MULTI")
    assert bob("EXEC") == CommandError(
        b"EXECABORT Transaction discarded because of: NOPERM User bob has no permissions to run the 'exec' "
        b"command"
    )
    assert bob("MULTI") == b"OK", "the transaction is over"


def test_sort_by_keys_that_cannot_be_named(local: LocalClient) -> None:
    local("RPUSH", "k", "1")
    bob = logged_in(local, "bob", "~k", "+sort", "+sort_ro")
    assert bob("SORT", "k", "BY", "w*").message == (
        b"ERR BY option of SORT denied due to insufficient ACL permissions."
    )
    assert bob("SORT_RO", "k", "GET", "#").message == (
        b"ERR GET option of SORT denied due to insufficient ACL permissions."
    )
    assert bob("SORT", "k", "BY", "nosort") == [b"1"]
    local("ACL", "SETUSER", "bob", "%R~*")
    assert bob("SORT", "k", "BY", "w*", "GET", "#") == [b"1"]


def test_help(local: LocalClient) -> None:
    lines = local("ACL", "HELP")
    assert lines[0].startswith(b"ACL <subcommand>")
    assert b"SETUSER username [rule [rule ...]]" in lines

"""The users of a server: where they come from, where they go, what that does to clients."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.databases import TINY
from harness.local import LocalClient, Servers
from harness.memory_filesystem import MemoryFileSystem
from lamina.server.acl.log import AclLog
from lamina.server.acl.userfile import UserFileError, read_users, write_users
from lamina.server.client import RESTRICTED, UNAUTHENTICATED
from lamina.server.clock import ManualClock
from lamina.server.config import Config, ConfigError
from lamina.server.errors import CommandError
from lamina.server.server import Server


def logged_in(local: LocalClient, name: str, *rules: str) -> LocalClient:
    """Return a client of a user that is made."""
    local("ACL", "SETUSER", name, "on", "nopass", *rules)
    client = local.connect()
    assert client("AUTH", name, "x") == b"OK"
    return client


def test_the_gate_is_closed_for_those_who_are_limited_only(local: LocalClient) -> None:
    full = logged_in(local, "full", "allkeys", "allchannels", "allcommands")
    part = logged_in(local, "part", "allkeys", "+@all")
    assert (local.client.gate, full.client.gate, part.client.gate) == (0, 0, RESTRICTED)
    local("ACL", "SETUSER", "part", "allchannels")
    local("ACL", "SETUSER", "full", "-ping")
    assert (full.client.gate, part.client.gate) == (RESTRICTED, 0)
    assert isinstance(full("PING"), CommandError)
    assert part.pipeline(*[("PING",)] * 8) == [b"PONG"] * 8
    assert [type(reply) for reply in full.pipeline(*[("PING",)] * 8)] == [CommandError] * 8
    assert full("RESET") == b"RESET"
    assert full.client.gate == 0


def test_a_user_is_changed_as_a_whole_or_not_at_all(local: LocalClient) -> None:
    local("ACL", "SETUSER", "bob", "on", ">p", "~a", "+get")
    before = local("ACL", "LIST")
    for words in (["~b", "foo"], ["reset", "+nosuch"], ["(~a", "x"], ["clearselectors", ">x", "<nosuch"]):
        assert isinstance(local("ACL", "SETUSER", "bob", *words), CommandError)
        assert isinstance(local("ACL", "SETUSER", "eve", *words), CommandError)
    assert local("ACL", "LIST") == before


def test_who_waits_is_asked_again(local: LocalClient) -> None:
    waiting = logged_in(local, "bob", "~k", "+blpop", "+blmove")
    waiting.run(("BLPOP", "k", "0"))
    local("ACL", "SETUSER", "bob", "-blpop")
    local("RPUSH", "k", "1")
    assert waiting.pushed() == [
        CommandError(b"NOPERM User bob has no permissions to run the 'blpop' command")
    ]
    assert local("LLEN", "k") == 1, "nothing was taken"
    local("DEL", "k")
    waiting.run(("BLMOVE", "k", "k", "LEFT", "RIGHT", "0"))
    local("ACL", "SETUSER", "bob", "resetkeys", "%R~k")
    local("RPUSH", "k", "1")
    assert waiting.pushed() == [CommandError(b"NOPERM No permissions to access a key")]
    entry = local("ACL", "LOG", "1")[0]
    assert dict(zip(entry[::2], entry[1::2]))[b"object"] == b"k"


def test_who_had_all_rights_when_beginning_to_wait_is_asked_again(local: LocalClient) -> None:
    waiting = local.connect()
    waiting.run(("BLPOP", "a", "k", "0"))
    local("ACL", "SETUSER", "default", "resetkeys", "~k")
    local.server.users.change(b"admin", [b"on", b"nopass", b"+@all", b"allkeys"])
    local("AUTH", "admin", "x")
    local("RPUSH", "k", "1")
    assert waiting.pushed() == [CommandError(b"NOPERM No permissions to access a key")]
    waiting.run(("BLPOP", "k", "0"))
    assert waiting.pushed() == [[b"k", b"1"]]


def test_a_user_that_is_removed(local: LocalClient) -> None:
    bob, other = logged_in(local, "bob", "+@all"), logged_in(local, "bob")
    assert bob("ACL", "DELUSER", "bob") == 1
    for client in (bob, other):
        assert client.wire.is_closed
        assert client.client.gate & UNAUTHENTICATED
    assert local("ACL", "USERS") == [b"default"]
    assert isinstance(local("ACL", "DELUSER", "bob", "default"), CommandError)


def test_what_is_refused_in_a_pipeline_does_not_stop_it(local: LocalClient) -> None:
    bob = logged_in(local, "bob", "~k*", "+get", "+set")
    replies = bob.pipeline(("SET", "k", "1"), ("SET", "z", "1"), ("GET", "k"), ("DEL", "k"), ("GET", "k"))
    assert [reply for reply in replies if not isinstance(reply, CommandError)] == [b"OK", b"1", b"1"]
    assert local("EXISTS", "z") == 0


def test_the_default_user_at_the_start(make_local: Servers) -> None:
    local = make_local.make(requirepass="secret")
    assert local("PING").code == b"NOAUTH"
    assert local("AUTH", "secret") == b"OK"
    assert local("ACL", "GETUSER", "default")[1] == [b"on", b"sanitize-payload"]
    assert not local.server.is_protected
    local("ACL", "SETUSER", "default", "nopass")
    assert local.server.is_protected
    assert local.connect()("PING") == b"PONG"
    local("ACL", "SETUSER", "default", "off")
    assert local.server.is_protected, "as in Redis: only a password makes the difference"
    assert local.connect()("PING").code == b"NOAUTH"


def configured(tmp_path: Path, text: str) -> Server:
    path = tmp_path / "lamina.conf"
    path.write_text(text)
    config = Config()
    config.load_file(str(path))
    config.dir = str(tmp_path)
    return Server(config, clock=ManualClock(), engine_options=TINY | {"fs": MemoryFileSystem()})


def lines_of(server: Server) -> list[bytes]:
    return server.users.lines()


def test_users_of_the_configuration_file(tmp_path: Path) -> None:
    server = configured(
        tmp_path, "requirepass x\nuser bob on >p ~a (~b\t+set)\nuser default on nopass +@all ~*\n"
    )
    try:
        assert lines_of(server)[1] == b"default on nopass sanitize-payload ~* resetchannels +@all"
        assert len(lines_of(server)) == 2
    finally:
        server.close()
    with pytest.raises(ConfigError, match="Duplicate user found"):
        configured(tmp_path, "user bob on\nuser bob off\n")
    with pytest.raises(ConfigError, match="declare them either here or there"):
        configured(tmp_path, "user bob on\naclfile x\n")


def test_rewriting_the_configuration_file(tmp_path: Path) -> None:
    server = configured(tmp_path, "user bob on\nuser eve on\nmaxclients 7\n")
    client = LocalClient(server)
    try:
        client("ACL", "SETUSER", "bob", '~a"b', "~c\\d", "(~e +get)")
        client("ACL", "DELUSER", "eve")
        assert client("CONFIG", "REWRITE") == b"OK"
        before = lines_of(server)
    finally:
        server.close()
    text = (tmp_path / "lamina.conf").read_text()
    assert [line for line in text.splitlines() if line.startswith("user")] == [
        'user bob on sanitize-payload "~a\\"b" "~c\\\\d" resetchannels -@all (~e resetchannels -@all +get)',
        "user default on nopass sanitize-payload ~* &* +@all",
    ]
    again = configured(tmp_path, text)
    try:
        assert lines_of(again) == before
    finally:
        again.close()


def test_users_of_a_file_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "users").write_text("user bob on nopass +@all\n\nuser default on >p ~* &* +@all\n")
    server = configured(tmp_path, "aclfile users\n")
    client = LocalClient(server)
    try:
        assert client("PING").code == b"NOAUTH"
        assert client("AUTH", "bob", "x") == b"OK"
        assert client("ACL", "SETUSER", "eve", "on", "(~a +get)") == b"OK"
        assert client("ACL", "SAVE") == b"OK"
        saved = (tmp_path / "users").read_bytes()
        assert saved == b"".join([b"user %b\n" % line for line in lines_of(server)])
        client("ACL", "DELUSER", "eve")
        assert client("CONFIG", "REWRITE") == b"OK"
        assert "user " not in (tmp_path / "lamina.conf").read_text().replace("aclfile users", "")
        assert client("ACL", "LOAD") == b"OK"
        assert client.wire.is_closed, "the users are others now"
        assert [line.split()[0] for line in lines_of(server)] == [b"bob", b"default", b"eve"]
        (tmp_path / "users").write_text("user x on\nuser x off\nuser y foo\n")
        admin = LocalClient(server)
        assert admin("AUTH", "p") == b"OK"
        assert admin("ACL", "LOAD").message == (
            b"ERR WARNING: Duplicate user 'x' found on line 2. users:3: Syntax error. WARNING: ACL errors "
            b"detected, no change to the previously active ACL rules was performed"
        )
        assert len(lines_of(server)) == 3
        os.unlink(tmp_path / "users")
        assert admin("ACL", "LOAD").message == (
            b"ERR Error loading ACLs, opening file 'users': No such file or directory"
        )
        os.mkdir(tmp_path / "users")
        assert admin("ACL", "SAVE").message.startswith(b"ERR There was an error trying to save the ACLs.")
    finally:
        server.close()
    with pytest.raises(ConfigError, match="Error loading ACLs"):
        configured(tmp_path, "aclfile users\n")


def test_a_file_is_read_as_a_whole(tmp_path: Path) -> None:
    path = str(tmp_path / "users")
    write_users(path, [b"a on sanitize-payload resetchannels -@all", b"b off"])
    assert sorted(read_users(path, "users", opens_channels=False)) == [b"a", b"b"]
    (tmp_path / "users").write_bytes(
        b"user a on\n# no\nuser b +nosuch foo bar\nuser\nuser c (~a\nuser d\te on\n"
    )
    with pytest.raises(UserFileError) as caught:
        read_users(path, "u", opens_channels=False)
    assert caught.value.message == (
        b"u:2 should start with user keyword followed by the username. u:3: Error in applying operation "
        b"'+nosuch': Unknown command or category name in ACL. u:3: Syntax error. u:4 should start with user "
        b"keyword followed by the username. u:5: Unmatched parenthesis in selector definition.'u:6: username "
        b"'d\te' contains invalid characters. WARNING: ACL errors detected, no change to the previously "
        b"active ACL rules was performed"
    )


def test_the_log_groups_what_is_alike() -> None:
    log = AclLog()

    def add(subject: bytes, now_ms: int, user: bytes = b"u") -> None:
        log.add(
            reason="key",
            context="toplevel",
            subject=subject,
            user=user,
            now_ms=now_ms,
            client_info=b"at %d" % now_ms,
            size_max=12,
        )

    add(b"a", 0)
    add(b"b", 1000)
    add(b"a", 60_000)
    assert [(entry.id, entry.subject, entry.count) for entry in log.recent(9)] == [(0, b"a", 2), (1, b"b", 1)]
    newest = log.recent(1)[0].reply(61_500)
    assert newest[b"age-seconds"] == 1.5
    assert newest[b"client-info"] == b"at 60000"
    assert (newest[b"timestamp-created"], newest[b"timestamp-last-updated"]) == (0, 60_000)
    add(b"b", 61_001)  # more than a minute later
    add(b"a", 61_002, b"v")
    assert [entry.id for entry in log.recent(9)] == [3, 2, 0, 1]
    for i in range(20):
        add(b"%d" % i, 61_003)
    assert len(log) == 12
    add(b"8", 61_004)  # beyond the latest ten it is not looked for
    assert log.recent(1)[0].id == 24
    assert log.denied["key"] == 26
    log.clear()
    assert log.recent(9) == []
    add(b"a", 61_005)
    assert log.recent(1)[0].id == 25

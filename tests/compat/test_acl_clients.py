"""What users mean for their clients, side by side: logging in, being refused, the log, files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.compat import Pair
from harness.servers import Server
from harness.users import known, listed, other, run, users

__all__ = ["other", "users"]


def test_logging_in(users: Pair, other: Pair) -> None:
    run(
        users,
        """
        ACL SETUSER u on >p +@all ~k* &c*
        ACL SETUSER off >p
        ACL SETUSER any on nopass +ping +acl|whoami
        """,
    )
    run(
        other,
        """
        AUTH u wrong
        AUTH u p
        ACL WHOAMI
        AUTH off p
        ACL WHOAMI
        GET z
        GET k
        NOSUCH
        GET
        CONFIG NOSUCH
        AUTH any thing
        ACL WHOAMI
        GET k
        PING
        PING a b
        AUTH default x
        RESET
        ACL WHOAMI
        AUTH default x
        """,
    )
    other.by(lambda reply: type(reply), "HELLO", other.protocol, "AUTH", "u", "p", "SETNAME", "me")
    other("ACL", "WHOAMI")
    other("HELLO", other.protocol, "AUTH", "u", "wrong", "SETNAME", "you")
    run(
        other,
        """
        CLIENT GETNAME
        ACL WHOAMI
        """,
    )
    run(
        users,
        """
        ACL SETUSER u off
        ACL SETUSER u -@all
        ACL GETUSER nobody
        """,
    )
    run(
        other,
        """
        PING
        AUTH u p
        """,
    )


def test_transactions(users: Pair, other: Pair) -> None:
    users("ACL", "SETUSER", "u", "on", "nopass", "+@all", "~k*", "&c*")
    run(
        other,
        """
        AUTH u x
        MULTI
        GET z
        GET k
        EXEC
        MULTI
        GET k
        PUBLISH c 1
        SUBSCRIBE c
        SET k 1
        """,
    )
    users("ACL", "SETUSER", "u", "resetkeys", "~q*", "-publish", "resetchannels")
    run(
        other,
        """
        EXEC
        MULTI
        PING
        """,
    )
    users("ACL", "SETUSER", "u", "-exec")
    run(
        other,
        """
        EXEC
        PING
        MULTI
        AUTH u x
        AUTH default x
        ACL WHOAMI
        """,
    )
    users("ACL", "SETUSER", "u", "+exec")
    other("EXEC")
    for reason in ("key", "command", "channel"):
        assert reason.encode() in [field(entry, b"reason") for entry in log_of(users)]


def field(entry: Any, name: bytes) -> Any:
    """Return a field of an entry of the log."""
    if isinstance(entry, list):
        entry = dict(zip(entry[::2], entry[1::2], strict=True))
    return entry[name]


def log_of(pair: Pair, *words: Any) -> Any:
    """Compare the log, without times and what 7.2 has added."""

    def view(reply: Any) -> Any:
        names = (b"count", b"reason", b"context", b"object", b"username")
        return [[field(entry, name) for name in names] for entry in reply]

    pair.by(view, "ACL", "LOG", *words)
    return pair.tested.ok("ACL", "LOG", *words)


def test_the_log(users: Pair, other: Pair) -> None:
    assert log_of(users) == []
    users(
        "ACL", "SETUSER", "u", "on", "nopass", "+get", "+mget", "+set", "+publish", "+multi", "+exec", "~k*"
    )
    run(
        other,
        """
        AUTH u x
        AUTH u x
        auth u2 x
        AUTH u2 x
        AUTH u2 y
        HELLO 3 AUTH u3 x
        GET z
        GET z
        mget k z y
        SET z 1
        CONFIG GET x
        config set
        PUBLISH ch x
        PUBLISH ch2 x
        MULTI
        GET z
        INCR k
        EXEC
        GET z
        """,
    )
    entries = log_of(users)
    assert len(entries) == 9
    log_of(users, 3)
    log_of(users, 0)
    log_of(users, 100)
    for entry in entries:
        assert b" user=u " in field(entry, b"client-info") or field(entry, b"reason") == b"auth"
    run(
        users,
        """
        CONFIG SET acllog-max-len 2
        AUTH nobody x
        """,
    )
    log_of(users)
    run(
        users,
        """
        CONFIG SET acllog-max-len 0
        AUTH nobody2 x
        """,
    )
    log_of(users)
    run(
        users,
        """
        CONFIG SET acllog-max-len 128
        ACL LOG RESET
        ACL LOG
        """,
    )


def test_sort_by_and_get(users: Pair, other: Pair) -> None:
    users("RPUSH", "k", 1)
    users("ACL", "SETUSER", "u", "on", "nopass", "+@all", "~k*")
    script = """
        SORT k BY w*
        SORT k BY nosort
        SORT k GET #
        SORT k GET w* BY x*
        SORT k BY k->f
        SORT k LIMIT
        SORT_RO k GET k*
        SORT k STORE z
        SORT k STORE k2 GET k*
    """
    run(other, "AUTH u x" + script)
    for rules in (
        ["(%W~* +@all)", "(%R~* -@all)"],
        ["clearselectors", "(%R~* +sort)"],
        ["clearselectors", "(allkeys +sort_ro)"],
    ):
        users("ACL", "SETUSER", "u", *rules)
        run(other, script.strip())


def test_users_that_go(users: Pair) -> None:
    first, second = (Pair(*users.servers, protocol=users.protocol) for _ in range(2))
    try:
        users("ACL", "SETUSER", "u", "on", "nopass", "+@all")
        first("AUTH", "u", "x")
        second("AUTH", "u", "x")
        first("ACL", "DELUSER", "u")
        for pair in (first, second):
            assert all(client.is_closed() for client in (pair.reference, pair.tested))
    finally:
        first.close()
        second.close()


@pytest.mark.parametrize(
    ("before", "after", "stays"),
    [
        ("&c*", "&x", True),
        ("&c*", "resetchannels &c1 &p* &s", True),
        ("&c*", "resetchannels &c2", False),
        ("&c* &p*", "resetchannels &p* &s", False),
        ("allchannels", "resetchannels &c* &p* &s*", True),
        ("allchannels", "resetchannels &c* &p1 &s*", False),
        ("allchannels", "resetchannels", False),
        ("&c* &p* &s", "resetchannels (&c* &p* &s)", True),
        ("&c* &p* &s", "resetchannels (allchannels)", True),
        ("allchannels", "-@all", True),
    ],
)
def test_listeners_whose_channels_are_taken_away(users: Pair, before: str, after: str, stays: bool) -> None:
    listener = Pair(*users.servers, protocol=users.protocol)
    try:
        users("ACL", "SETUSER", "u", "on", "nopass", "+@all", *before.split(" "))
        run(
            listener,
            """
            AUTH u x
            SUBSCRIBE c1
            PSUBSCRIBE p*
            SSUBSCRIBE s
            """,
        )
        users("ACL", "SETUSER", "u", *after.split(" "))
        closed = [client.is_closed(0.05 if stays else 5) for client in (listener.reference, listener.tested)]
        assert closed == [not stays] * 2
    finally:
        listener.close()


def own_pair(start_redis: Callable[..., Server], start_lamina: Callable[..., Server], *flags: str) -> Pair:
    return Pair(start_redis(*flags), start_lamina(*flags))


def test_the_default_user(start_redis: Callable[..., Server], start_lamina: Callable[..., Server]) -> None:
    pair = own_pair(start_redis, start_lamina)
    late: list[Pair] = []

    def newcomer() -> Pair:
        late.append(Pair(*pair.servers))
        return late[-1]

    clients = [Pair(*pair.servers) for _ in range(4)]
    try:
        for client in clients:
            client("PING")  # the servers know them before there is a password
        run(
            pair,
            """
            CONFIG SET requirepass foo
            ACL SETUSER default >bar
            CONFIG GET requirepass
            """,
        )
        pair.by(listed, "ACL", "LIST")
        run(
            clients[0],
            """
            PING
            RESET
            PING
            AUTH bar
            ACL WHOAMI
            CONFIG SET requirepass foo
            """,
        )
        pair.by(listed, "ACL", "LIST")
        pair("CONFIG", "SET", "requirepass", "")
        pair.by(listed, "ACL", "LIST")
        run(
            pair,
            """
            ACL SETUSER v on nopass +@all allkeys
            ACL SETUSER default off
            """,
        )
        run(
            clients[1],
            """
            PING
            RESET
            PING
            NOSUCH
            GET
            AUTH x
            AUTH default x
            HELLO 3
            AUTH v x
            ACL SETUSER default on -ping
            RESET
            PING
            MULTI
            PING
            EXEC
            """,
        )
        newcomer()("ECHO", "x")
        pair("ACL", "SETUSER", "default", "resetpass")
        run(
            clients[1],
            """
            RESET
            AUTH x
            ECHO x
            """,
        )
        run(
            clients[2],
            """
            ECHO x
            RESET
            AUTH default ""
            ECHO x
            """,
        )
    finally:
        for client in (pair, *clients, *late):
            client.close()


FILES = {
    "users": "user alice on nopass ~a +@all\nuser bob off\nuser default on nopass ~* &* +@all\n",
    "no default user": "user alice on nopass  ~a +get  \r\n\n   \n",
    "selectors": "user alice on (~a +get) +set (~b\t +@read)\n",
    "mistakes": (
        "user alice on +get  ~a\n# c\nuser bob +foo +bar\nuser bob off\nuser x (~a\n user y\tfoo\n"
        'user z ~a ~* ~b &a foo\nuser\nuser "q w" on\nUSER a on\nuser w +@all (~a +get) (~b)  \n'
        "user p <pw #abc +nosuch\nuser default on foo\nuser default\n"
    ),
    "twice": "user alice on\nuser alice off\n",
    "nothing": "",
}


def test_the_file(
    start_redis: Callable[..., Server], start_lamina: Callable[..., Server], tmp_path: Path
) -> None:
    servers = start_redis(), start_lamina()
    for server in servers:
        (server.data / "u.acl").write_text("user carol on nopass +@all\n")
        server.stop()
        server.flags += ["--aclfile", "u.acl", "--requirepass", "ignored"]
        server.start()
    pair = Pair(*servers)
    other = Pair(*servers)
    try:
        run(
            pair,
            """
            ACL LOAD
            ACL SETUSER default >x
            """,
        )
        for text in FILES.values():
            for server in servers:
                (server.data / "u.acl").write_text(text)
            pair("ACL", "LOAD")
            pair.by(listed, "ACL", "LIST")
        for server in servers:
            (server.data / "u.acl").unlink()
        run(
            pair,
            """
            ACL LOAD
            ACL SETUSER alice on nopass +@all ~a* (~b +get)
            ACL SETUSER bob on >pw
            ACL SETUSER default >pw
            ACL SAVE
            """,
        )
        saved = [sorted(map(known, (server.data / "u.acl").read_bytes().splitlines())) for server in servers]
        assert saved[0] == saved[1]
        assert len(saved[0]) == 3
        run(
            other,
            """
            AUTH alice x
            PING
            ACL LOAD
            """,
        )
        assert all(client.is_closed() for client in (other.reference, other.tested))
        pair.by(listed, "ACL", "LIST")
        for server in servers:
            (server.data / "u.acl").unlink()
            (server.data / "u.acl").mkdir()
        pair("ACL", "SAVE")
    finally:
        pair.close()
        other.close()


def test_the_configuration_file(
    start_redis: Callable[..., Server], start_lamina: Callable[..., Server], tmp_path: Path
) -> None:
    lines = "user alice on >pw ~a* +@all -@dangerous (~b +get)\nuser default on nopass ~* +@all -flushdb\n"
    paths = [tmp_path / name for name in ("redis.conf", "lamina.conf")]
    for path in paths:
        path.write_text(f"# users\n{lines}maxclients 100\n")
    pair = Pair(start_redis(paths[0]), start_lamina(paths[1]))
    try:
        pair.by(listed, "ACL", "LIST")
        run(
            pair,
            """
            FLUSHDB
            PUBLISH a b
            ACL SETUSER bob on +get
            ACL DELUSER alice
            CONFIG REWRITE
            """,
        )
    finally:
        pair.close()
    texts = [
        [known(line.encode()) for line in path.read_text().splitlines() if line.startswith("user")]
        for path in paths
    ]
    assert texts[0] == texts[1]
    assert len(texts[0]) == 2
    for server in pair.servers:
        server.restart()
    pair = Pair(*pair.servers)
    try:
        pair.by(listed, "ACL", "LIST")
        pair("FLUSHDB")
    finally:
        pair.close()

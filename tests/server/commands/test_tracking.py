"""CLIENT TRACKING, CACHING, GETREDIR, TRACKINGINFO, and the messages that come of them."""

from __future__ import annotations

from typing import Any

import pytest

from harness.local import LocalClient, Servers
from lamina.server.errors import NOT_AN_INTEGER, SYNTAX, CommandError


def error(text: str) -> CommandError:
    return CommandError(text.encode())


def invalidation(*keys: str) -> tuple[str, list[Any]]:
    return "push", [b"invalidate", [key.encode() for key in keys]]


EVERYTHING = ("push", [b"invalidate", None])


def tracked(local: LocalClient, *options: Any) -> LocalClient:
    """Return a client in RESP3 that is tracked."""
    client = local.connect()
    client("HELLO", 3)
    assert client("CLIENT", "TRACKING", "ON", *options) == b"OK"
    return client


def flags_of(client: LocalClient) -> list[bytes]:
    found: list[bytes] = client("CLIENT", "TRACKINGINFO")[1]
    return found


class TestDefaultMode:
    def test_a_key_is_told_once(self, local: LocalClient) -> None:
        client = tracked(local)
        client("GET", "a")
        client("MGET", "b", "c", "b")
        local("SET", "a", 1)
        local("SET", "a", 2)
        local("DEL", "c")
        local("MSET", "c", 1, "never read", 1, "b", 2)
        assert client.pushed() == [invalidation("a"), invalidation("c"), invalidation("b")]
        client("GET", "a")
        local("SET", "a", 3)
        assert client.pushed() == [invalidation("a")]

    @pytest.mark.parametrize(
        "change",
        [
            ("SET", "s", "x"), ("APPEND", "s", "x"), ("DEL", "s"), ("UNLINK", "s"), ("EXPIRE", "s", "100"),
            ("GETDEL", "s"), ("RENAME", "s", "t"), ("RENAME", "u", "s"), ("COPY", "u", "s", "REPLACE"),
        ],
        ids=" ".join,
    )  # fmt: skip
    def test_changes(self, local: LocalClient, change: tuple[Any, ...]) -> None:
        local("SET", "s", "v")
        local("SET", "u", "v")
        client = tracked(local)
        client("GET", "s")
        result = local(*change)
        assert not isinstance(result, CommandError)
        assert client.pushed() == [invalidation("s")]

    def test_collections(self, local: LocalClient) -> None:
        client = tracked(local)
        client("HGETALL", "h")
        client("LRANGE", "l", 0, -1)
        client("SMEMBERS", "s")
        client("ZSCORE", "z", "m")
        local("HSET", "h", "f", 1)
        local("RPUSH", "l", "a")
        local("SADD", "s", "a")
        local("ZADD", "z", 1, "m")
        assert client.pushed() == [invalidation(key) for key in "hlsz"]

    def test_commands_that_do_not_read(self, local: LocalClient) -> None:
        client = tracked(local)
        client("SET", "w", 1)
        client("GETEX", "g")
        client("WATCH", "x")
        client("NOPE", "n")
        client("GET", "k", "too many")
        for key in "wgxnk":
            local("SET", key, 2)
        assert client.pushed() == []

    def test_commands_that_fail_have_read(self, local: LocalClient) -> None:
        local("RPUSH", "l", 1)
        client = tracked(local)
        assert client("GET", "l").code == b"WRONGTYPE"
        local("RPUSH", "l", 2)
        assert client.pushed() == [invalidation("l")]

    def test_an_own_change_is_told_after_the_reply(self, local: LocalClient) -> None:
        client = tracked(local)
        replies = client.pipeline(("GET", "k"), ("SET", "k", 1), ("PING",))
        assert replies == [None, b"OK", invalidation("k"), b"PONG"]

    def test_a_transaction_comes_before_its_messages(self, local: LocalClient) -> None:
        client = tracked(local)
        client("GET", "a")
        replies = client.pipeline(
            ("MULTI",), ("SET", "a", 1), ("GET", "b"), ("SET", "b", 2), ("EXEC",), ("PING",)
        )
        assert replies[-4:] == [
            [b"OK", None, b"OK"], invalidation("a"), invalidation("b"), b"PONG",
        ]  # fmt: skip

    def test_queued_commands_read_when_they_run(self, local: LocalClient) -> None:
        client = tracked(local)
        client.pipeline(("MULTI",), ("GET", "a"))
        local("SET", "a", 1)
        assert client.pushed() == []
        client("EXEC")
        local("SET", "a", 2)
        assert client.pushed() == [invalidation("a")]

    def test_databases_do_not_matter(self, local: LocalClient) -> None:
        client = tracked(local)
        client.pipeline(("SELECT", 5), ("GET", "k"))
        local("SET", "k", 1)
        assert client.pushed() == [invalidation("k")]

    def test_a_key_that_expires(self, local: LocalClient) -> None:
        client = tracked(local)
        local("SET", "k", 1, "PX", 100)
        client("GET", "k")
        local.wait_out(150)
        assert client.pushed() == [invalidation("k")]

    def test_a_key_found_expired_is_remembered_again(self, local: LocalClient) -> None:
        client = tracked(local)
        local("SET", "k", 1, "PX", 100)
        client("GET", "k")
        local.clock.advance(150)
        assert client.pipeline(("GET", "k")) == [None, invalidation("k")]
        local("SET", "k", 2)
        assert client.pushed() == [invalidation("k")]

    def test_flushing(self, local: LocalClient) -> None:
        client = tracked(local)
        client("GET", "k")
        local("FLUSHALL")
        assert client.pushed() == [EVERYTHING]
        local("SET", "k", 1)
        assert client.pushed() == []
        assert client.pipeline(("FLUSHALL",), ("PING",)) == [b"OK", EVERYTHING, b"PONG"]

    def test_noloop(self, local: LocalClient) -> None:
        client = tracked(local, "NOLOOP")
        other = tracked(local)
        client("GET", "k")
        other("GET", "k")
        assert client.pipeline(*[("SET", "k", 1)] * 40) == [b"OK"] * 40
        assert other.pushed() == [invalidation("k")]
        local("SET", "k", 2)
        assert client.pushed() == []
        client("GET", "k")
        local("SET", "k", 3)
        assert client.pushed() == [invalidation("k")]

    def test_it_ends(self, local: LocalClient) -> None:
        client = tracked(local)
        client("GET", "k")
        assert client("CLIENT", "TRACKING", "OFF") == b"OK"
        local("SET", "k", 1)
        assert client.pushed() == []
        client("CLIENT", "TRACKING", "ON")
        client("GET", "a")
        client("HELLO", 2)
        local("SET", "a", 1)
        assert client.pushed() == []

    def test_a_client_that_has_gone(self, local: LocalClient) -> None:
        client, stays = tracked(local), tracked(local)
        client("GET", "k")
        stays("GET", "k")
        client("QUIT")
        local.server.remove_client(client.client)
        local("SET", "k", 1)
        assert stays.pushed() == [invalidation("k")]

    def test_the_table_is_bounded(self, make_local: Servers) -> None:
        local = make_local.make(tracking_table_max_keys=2)
        client = tracked(local)
        client.pipeline(("GET", "a"), ("GET", "b"))
        assert client.pipeline(("GET", "c"), ("PING",)) == [None, invalidation("a"), b"PONG"]
        assert list(local.server.tracking.table) == [b"b", b"c"]
        local("MSET", "a", 1, "b", 1, "c", 1)
        assert client.pushed() == [invalidation("b"), invalidation("c")]

    def test_nothing_is_observed_when_nobody_tracks(self, local: LocalClient) -> None:
        server = local.server
        client, other = tracked(local), tracked(local, "BCAST")
        client("GET", "k")
        other("GET", "k")
        assert all(keyspace.is_observed for keyspace in server.databases.keyspaces)
        assert (len(server.tracking.table), server.tracking.item_count) == (1, 1)
        local("WATCH", "w")
        client("CLIENT", "TRACKING", "OFF")
        other("RESET")
        assert [keyspace.is_observed for keyspace in server.databases.keyspaces] == [True] + [False] * 15
        local("UNWATCH")
        assert not server.databases.keyspaces[0].is_observed
        assert not server.tracking.table
        assert not server.tracking.prefixes


class TestBroadcasting:
    def test_every_key(self, local: LocalClient) -> None:
        client = tracked(local, "BCAST")
        local("SET", "a", 1)
        assert client.pushed() == [invalidation("a")]
        local.pipeline(("SET", "b", 1), ("SET", "c", 1), ("SET", "b", 2))
        assert client.pushed() == [invalidation("b", "c")]

    def test_prefixes(self, local: LocalClient) -> None:
        client = tracked(local, "BCAST", "PREFIX", "user:", "PREFIX", "o")
        local("MSET", "user:1", 1, "use", 1, "user:2", 1, "o", 1, "u", 1, "", 1)
        assert client.pushed() == [invalidation("user:1", "user:2"), invalidation("o")]
        assert client("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "x") == b"OK"
        local("MSET", "x1", 1, "user:9", 1)
        assert client.pushed() == [invalidation("user:9"), invalidation("x1")]

    def test_replies_come_first(self, local: LocalClient) -> None:
        client = tracked(local, "BCAST")
        assert client.pipeline(("SET", "a", 1), ("SET", "b", 2)) == [b"OK", b"OK", invalidation("a", "b")]

    def test_noloop(self, local: LocalClient) -> None:
        client, other = tracked(local, "BCAST", "NOLOOP"), tracked(local, "BCAST")
        client("SET", "a", 1)
        assert client.pushed() == []
        assert other.pushed() == [invalidation("a")]
        local("SET", "a", 2)
        assert client.pushed() == other.pushed() == [invalidation("a")]
        client.pipeline(*[("SET", f"k{i}", 1) for i in range(40)])
        assert client.pushed() == []
        assert len(other.pushed()[0][1][1]) == 40

    def test_flushing(self, local: LocalClient) -> None:
        client = tracked(local, "BCAST", "PREFIX", "x")
        local("FLUSHALL")
        assert client.pushed() == [EVERYTHING]

    def test_a_client_that_has_gone(self, local: LocalClient) -> None:
        client, other = tracked(local, "BCAST", "PREFIX", "a"), tracked(local, "BCAST", "PREFIX", "ab")
        local.server.remove_client(client.client)
        local("SET", "abc", 1)
        assert client.wire.data == b""
        assert other.pushed() == [invalidation("abc")]
        assert list(local.server.tracking.prefixes) == [b"ab"]


class TestOptInAndOut:
    def test_optin(self, local: LocalClient) -> None:
        client = tracked(local, "OPTIN")
        client("GET", "a")
        client("CLIENT", "CACHING", "YES")
        client("GET", "b")
        client("GET", "c")
        local("MSET", "a", 1, "b", 1, "c", 1)
        assert client.pushed() == [invalidation("b")]

    def test_a_whole_transaction(self, local: LocalClient) -> None:
        client = tracked(local, "OPTIN")
        client.pipeline(
            ("CLIENT", "CACHING", "YES"), ("MULTI",), ("GET", "a"), ("GET", "b"), ("EXEC",), ("GET", "c")
        )
        local("MSET", "a", 1, "b", 1, "c", 1)
        assert client.pushed() == [invalidation("a"), invalidation("b")]

    @pytest.mark.parametrize(
        ("between", "is_tracked"),
        [(("CLIENT", "ID"), True), (("PING",), False), (("NOPE",), False), (("GET",), False)],
    )
    def test_what_stands_between(
        self, local: LocalClient, between: tuple[str, ...], is_tracked: bool
    ) -> None:
        client = tracked(local, "OPTIN")
        client.pipeline(("CLIENT", "CACHING", "YES"), between, ("GET", "a"))
        local("SET", "a", 1)
        assert client.pushed() == [invalidation("a")] * is_tracked

    def test_optout(self, local: LocalClient) -> None:
        client = tracked(local, "OPTOUT")
        client("GET", "a")
        client("CLIENT", "CACHING", "NO")
        client("GET", "b")
        client("GET", "c")
        local("MSET", "a", 1, "b", 1, "c", 1)
        assert client.pushed() == [invalidation("a"), invalidation("c")]

    def test_mistakes(self, local: LocalClient) -> None:
        assert local("CLIENT", "CACHING", "YES") == error(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT"
            " mode enabled"
        )
        yes = error("ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
        no = error("ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")
        plain, optin, optout = tracked(local), tracked(local, "OPTIN"), tracked(local, "OPTOUT")
        assert plain("CLIENT", "CACHING", "YES") == optout("CLIENT", "CACHING", "yes") == yes
        assert plain("CLIENT", "CACHING", "NO") == optin("CLIENT", "CACHING", "no") == no
        assert optin("CLIENT", "CACHING", "x") == SYNTAX


class TestRedirection:
    def test_to_a_resp2_subscriber(self, local: LocalClient) -> None:
        receiver = local.connect()
        receiver.run(("SUBSCRIBE", "__redis__:invalidate"))
        receiver.pushed()
        assert local("CLIENT", "TRACKING", "ON", "REDIRECT", receiver.client.id) == b"OK"
        assert local("CLIENT", "GETREDIR") == receiver.client.id
        assert local.pipeline(("GET", "k"), ("SET", "k", 1)) == [None, b"OK"]
        assert receiver.pushed() == [[b"message", b"__redis__:invalidate", [b"k"]]]
        local("FLUSHALL")
        assert receiver.wire.data.endswith(b"$20\r\n__redis__:invalidate\r\n$-1\r\n")
        receiver.pushed()
        receiver.run(("UNSUBSCRIBE",))
        receiver.pushed()
        local.pipeline(("GET", "k"), ("SET", "k", 1))
        assert receiver.pushed() == []

    def test_to_a_resp3_client(self, local: LocalClient) -> None:
        receiver = local.connect()
        receiver("HELLO", 3)
        local("CLIENT", "TRACKING", "ON", "REDIRECT", receiver.client.id, "BCAST")
        assert local.pipeline(("SET", "a", 1), ("SET", "b", 1)) == [b"OK", b"OK"]
        assert receiver.pushed() == [invalidation("a", "b")]

    def test_to_oneself(self, local: LocalClient) -> None:
        client = local.connect()
        client("HELLO", 3)
        client("CLIENT", "TRACKING", "ON", "REDIRECT", client.client.id)
        assert client.pipeline(("GET", "k"), ("SET", "k", 1)) == [None, b"OK", invalidation("k")]

    def test_to_a_client_that_has_gone(self, local: LocalClient) -> None:
        receiver = local.connect()
        client = tracked(local, "REDIRECT", receiver.client.id)
        local("CLIENT", "KILL", "ID", receiver.client.id)
        client.pipeline(("GET", "a"), ("GET", "b"))
        local("MSET", "a", 1, "b", 1)
        assert client.pushed() == [("push", [b"tracking-redir-broken", receiver.client.id])] * 2
        assert client("CLIENT", "TRACKINGINFO")[b"flags"] == {b"on", b"broken_redirect"}
        assert b" flags=tR " in client("CLIENT", "INFO")
        client("CLIENT", "TRACKING", "ON")
        assert client("CLIENT", "TRACKINGINFO")[b"flags"] == {b"on"}

    def test_a_resp2_client_alone_hears_nothing(self, local: LocalClient) -> None:
        local("CLIENT", "TRACKING", "ON")
        assert local.pipeline(("GET", "k"), ("SET", "k", 1)) == [None, b"OK"]


class TestOptions:
    def test_info(self, local: LocalClient) -> None:
        assert local("CLIENT", "TRACKINGINFO") == [b"flags", [b"off"], b"redirect", -1, b"prefixes", []]
        assert local("CLIENT", "GETREDIR") == -1
        local("CLIENT", "TRACKING", "ON", "OPTIN", "NOLOOP")
        assert flags_of(local) == [b"on", b"optin", b"noloop"]
        local("CLIENT", "CACHING", "YES")
        assert flags_of(local) == [b"on", b"optin", b"caching-yes", b"noloop"]
        assert local("CLIENT", "GETREDIR") == 0
        local("CLIENT", "TRACKING", "ON")
        assert flags_of(local) == [b"on"]
        local("CLIENT", "TRACKING", "OFF")
        local("CLIENT", "TRACKING", "ON", "OPTOUT")
        local("CLIENT", "CACHING", "NO")
        assert flags_of(local) == [b"on", b"optout", b"caching-no"]
        local("CLIENT", "TRACKING", "OFF")
        local("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "b", "PREFIX", "a")
        assert local("CLIENT", "TRACKINGINFO")[1::2] == [[b"on", b"bcast"], 0, [b"a", b"b"]]
        local("HELLO", 3)
        assert local.raw("CLIENT", "TRACKINGINFO").startswith(b"%3\r\n$5\r\nflags\r\n~2\r\n")

    @pytest.mark.parametrize(
        "words", [["x"], ["ON", "x"], ["ON", "PREFIX"], ["ON", "REDIRECT"], ["OFF", "x"]]
    )
    def test_syntax(self, local: LocalClient, words: list[str]) -> None:
        assert local("CLIENT", "TRACKING", *words) == SYNTAX
        assert local.client.tracking is None

    @pytest.mark.parametrize(
        ("words", "text"),
        [
            (["PREFIX", "a"], "ERR PREFIX option requires BCAST mode to be enabled"),
            (["BCAST", "OPTIN"], "ERR OPTIN and OPTOUT are not compatible with BCAST"),
            (["OPTOUT", "BCAST"], "ERR OPTIN and OPTOUT are not compatible with BCAST"),
            (["OPTIN", "OPTOUT"], "ERR You can't specify both OPTIN mode and OPTOUT mode"),
            (["REDIRECT", "99"], "ERR The client ID you want redirect to does not exist"),
            (["REDIRECT", "1", "REDIRECT", "1"], "ERR A client can only redirect to a single other client"),
        ],
    )
    def test_what_excludes_each_other(self, local: LocalClient, words: list[str], text: str) -> None:
        assert local("CLIENT", "TRACKING", "ON", *words) == error(text)
        assert local("CLIENT", "GETREDIR") == -1
        assert local("CLIENT", "TRACKING", "ON", "REDIRECT", "x") == NOT_AN_INTEGER

    def test_modes_are_not_switched(self, local: LocalClient) -> None:
        tail = " before disabling tracking for this client, and then re-enabling it with a different mode."
        bcast, plain, optin = tracked(local, "BCAST"), tracked(local), tracked(local, "OPTIN")
        expected = error("ERR You can't switch BCAST mode on/off" + tail)
        assert bcast("CLIENT", "TRACKING", "ON") == plain("CLIENT", "TRACKING", "ON", "BCAST") == expected
        assert optin("CLIENT", "TRACKING", "ON", "OPTOUT") == error(
            "ERR You can't switch OPTIN/OPTOUT mode" + tail
        )
        assert plain("CLIENT", "TRACKING", "ON", "OPTOUT") == b"OK"

    @pytest.mark.parametrize(
        ("existing", "provided", "culprit", "what", "other"),
        [
            ("", "foo foobar", "foo", "another provided", "foobar"),
            ("", "foo foo", "foo", "another provided", "foo"),
            ("foo bar", "fo", "fo", "an existing", "foo"),
            ("foo", "foo", "foo", "an existing", "foo"),
            ("foo", "x fooz", "fooz", "an existing", "foo"),
        ],
    )
    def test_prefixes_do_not_overlap(
        self, local: LocalClient, existing: str, provided: str, culprit: str, what: str, other: str
    ) -> None:
        def words(prefixes: str) -> list[str]:
            return [word for prefix in prefixes.split() for word in ("PREFIX", prefix)]

        if existing:
            local("CLIENT", "TRACKING", "ON", "BCAST", *words(existing))
        assert local("CLIENT", "TRACKING", "ON", "BCAST", *words(provided)) == error(
            f"ERR Prefix '{culprit}' overlaps with {what} prefix '{other}'. "
            "Prefixes for a single client must not overlap."
        )
        assert local("CLIENT", "TRACKINGINFO")[5] == sorted(existing.encode().split())

    def test_off_ignores_what_follows_if_it_is_well_formed(self, local: LocalClient) -> None:
        assert local("CLIENT", "TRACKING", "OFF", "BCAST", "PREFIX", "a") == b"OK"

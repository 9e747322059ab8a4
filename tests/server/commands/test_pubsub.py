"""Publishing and subscribing."""

from __future__ import annotations

from typing import Any

import pytest

from harness.local import LocalClient, parse_all
from lamina.server.errors import misused_subcommand, only_in_pubsub, unknown_subcommand, wrong_arity


def replies(client: LocalClient, *words: Any) -> list[Any]:
    return parse_all(client.raw(*words))


def test_subscribing(local: LocalClient) -> None:
    assert replies(local, "SUBSCRIBE", "a", "b", "a") == [
        [b"subscribe", b"a", 1], [b"subscribe", b"b", 2], [b"subscribe", b"a", 2],
    ]  # fmt: skip
    assert replies(local, "PSUBSCRIBE", "a*") == [[b"psubscribe", b"a*", 3]]
    assert replies(local, "SSUBSCRIBE", "s", "s") == [[b"ssubscribe", b"s", 1]] * 2
    assert replies(local, "UNSUBSCRIBE", "a", "zz") == [[b"unsubscribe", b"a", 2], [b"unsubscribe", b"zz", 2]]
    assert replies(local, "UNSUBSCRIBE") == [[b"unsubscribe", b"b", 1]]
    assert replies(local, "UNSUBSCRIBE") == [[b"unsubscribe", None, 1]]
    assert replies(local, "PUNSUBSCRIBE") == [[b"punsubscribe", b"a*", 0]]
    assert local("GET", "k") == only_in_pubsub(b"get")
    assert replies(local, "SUNSUBSCRIBE") == [[b"sunsubscribe", b"s", 0]]
    assert local("GET", "k") is None


@pytest.mark.parametrize("verb", ["unsubscribe", "punsubscribe", "sunsubscribe"])
def test_leaving_what_one_never_entered(local: LocalClient, verb: str) -> None:
    assert local.raw(verb) == b"*3\r\n$%d\r\n%b\r\n$-1\r\n:0\r\n" % (len(verb), verb.encode())
    assert local(verb, "x") == [verb.encode(), b"x", 0]
    local("HELLO", 3)
    assert local.raw(verb) == b">3\r\n$%d\r\n%b\r\n_\r\n:0\r\n" % (len(verb), verb.encode())


@pytest.mark.parametrize("verb", ["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"])
def test_arity(local: LocalClient, verb: str) -> None:
    assert local(verb) == wrong_arity(verb.lower().encode())


def test_messages(local: LocalClient) -> None:
    one, two, three = (local.connect() for _ in range(3))
    one.run(("SUBSCRIBE", "news"), ("PSUBSCRIBE", "n*", "ne?s", "x*"))
    two.run(("HELLO", 3), ("SUBSCRIBE", "news", "other"))
    three.run(("PSUBSCRIBE", "n*"))
    for client in (one, two, three):
        client.pushed()
    assert local("PUBLISH", "news", b"\0\r\n") == 5
    assert one.pushed() == [
        [b"message", b"news", b"\0\r\n"],
        [b"pmessage", b"n*", b"news", b"\0\r\n"],
        [b"pmessage", b"ne?s", b"news", b"\0\r\n"],
    ]
    assert two.pushed() == [("push", [b"message", b"news", b"\0\r\n"])]
    assert three.pushed() == [[b"pmessage", b"n*", b"news", b"\0\r\n"]]
    assert local("PUBLISH", "elsewhere", "x") == 0


def test_shard_channels_are_apart(local: LocalClient) -> None:
    client = local.connect()
    client.run(("SSUBSCRIBE", "c"), ("PSUBSCRIBE", "*"))
    client.pushed()
    assert local("SPUBLISH", "c", "m") == 1
    assert client.pushed() == [[b"smessage", b"c", b"m"]]
    assert local("PUBLISH", "c", "m") == 1
    assert client.pushed() == [[b"pmessage", b"*", b"c", b"m"]]


def test_one_s_own_message_comes_after_the_reply(local: LocalClient) -> None:
    local("HELLO", 3)
    local.run(("SUBSCRIBE", "c"))
    local.pushed()
    assert local.pipeline(("PUBLISH", "c", "m"), ("PING",)) == [
        1,
        ("push", [b"message", b"c", b"m"]),
        b"PONG",
    ]
    replies_ = local.pipeline(("MULTI",), ("PUBLISH", "c", "m"), ("ECHO", "x"), ("EXEC",))
    assert replies_[-2:] == [[1, b"x"], ("push", [b"message", b"c", b"m"])]


@pytest.mark.parametrize(("resp", "head"), [(2, b"*3"), (3, b">3")])
def test_subscribing_inside_a_transaction(local: LocalClient, resp: int, head: bytes) -> None:
    local("HELLO", resp)
    local.pipeline(("MULTI",), ("ECHO", "x"), ("SUBSCRIBE", "a", "b"), ("PUBLISH", "a", "m"))
    confirmation = head + b"\r\n$9\r\nsubscribe\r\n$1\r\n%b\r\n:%d\r\n"
    assert local.raw("EXEC") == (
        b"*3\r\n$1\r\nx\r\n"
        + confirmation % (b"a", 1)
        + confirmation % (b"b", 2)
        + b":1\r\n"
        + head
        + b"\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nm\r\n"
    )


def test_shard_channels_are_not_for_transactions(local: LocalClient) -> None:
    outcome = local.pipeline(("MULTI",), ("SSUBSCRIBE", "a"), ("SUNSUBSCRIBE", "a"), ("EXEC",))[-1]
    assert outcome[0].message == b"ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client"
    assert outcome[1] == [b"sunsubscribe", b"a", 0]


def test_what_a_resp2_subscriber_may_do(local: LocalClient) -> None:
    local.run(("SUBSCRIBE", "a"))
    local.pushed()
    assert local("PING") == [b"pong", b""]
    assert local("PING", "x") == [b"pong", b"x"]
    assert local("GET", "k") == only_in_pubsub(b"get")
    assert local("CLIENT", "LIST") == only_in_pubsub(b"client|list")
    assert local("MULTI") == only_in_pubsub(b"multi")
    assert local("HELLO", 3) == only_in_pubsub(b"hello")
    assert local("EXEC").message == (
        b"EXECABORT Transaction discarded because of: " + only_in_pubsub(b"exec").message[4:]
    )
    assert local("GET") == wrong_arity(b"get")
    assert local.raw("RESET") == b"+RESET\r\n"
    local.run(("SUBSCRIBE", "a"))
    assert local.raw("QUIT").endswith(b"+OK\r\n")
    assert local.wire.is_closed


def test_a_resp3_subscriber_may_do_anything(local: LocalClient) -> None:
    local("HELLO", 3)
    local.run(("SUBSCRIBE", "a"))
    local.pushed()
    assert local("PING") == b"PONG"
    assert local("SET", "k", "v") == b"OK"
    assert local("HELLO", 2)[1] == b"redis"
    assert local("GET", "k") == only_in_pubsub(b"get")


def test_introspection(local: LocalClient) -> None:
    one, two = local.connect(), local.connect()
    one.run(("SUBSCRIBE", "a", "ab"), ("PSUBSCRIBE", "x*", "y*"), ("SSUBSCRIBE", "s", "sb"))
    two.run(("SUBSCRIBE", "a"), ("PSUBSCRIBE", "x*"), ("SSUBSCRIBE", "s"))
    assert local("PUBSUB", "CHANNELS") == [b"a", b"ab"]
    assert local("PUBSUB", "CHANNELS", "?b") == [b"ab"]
    assert local("PUBSUB", "CHANNELS", "s*") == []
    assert local("PUBSUB", "NUMSUB") == []
    assert local("PUBSUB", "NUMSUB", "a", "ab", "zz") == [b"a", 2, b"ab", 1, b"zz", 0]
    assert local("PUBSUB", "NUMPAT") == 2
    assert local("PUBSUB", "SHARDCHANNELS") == [b"s", b"sb"]
    assert local("PUBSUB", "SHARDCHANNELS", "*b") == [b"sb"]
    assert local("PUBSUB", "SHARDNUMSUB", "s", "sb", "a") == [b"s", 2, b"sb", 1, b"a", 0]
    local("HELLO", 3)
    assert local.raw("PUBSUB", "NUMSUB", "a") == b"*2\r\n$1\r\na\r\n:2\r\n"


def test_mistakes(local: LocalClient) -> None:
    assert local("PUBSUB") == wrong_arity(b"pubsub")
    assert local("PUBSUB", "foo") == unknown_subcommand(b"foo", b"pubsub")
    assert local("PUBSUB", "channels", "a", "b") == misused_subcommand(b"channels", b"pubsub")
    assert local("PUBSUB", "SHARDCHANNELS", "a", "b") == misused_subcommand(b"SHARDCHANNELS", b"pubsub")
    assert local("PUBSUB", "NUMPAT", "x") == wrong_arity(b"pubsub|numpat")
    assert local("PUBSUB", "HELP")[0].startswith(b"PUBSUB <subcommand>")


def test_clients_that_have_gone_hear_nothing(local: LocalClient) -> None:
    client = local.connect()
    client.run(("SUBSCRIBE", "a"), ("PSUBSCRIBE", "a*"), ("SSUBSCRIBE", "a"))
    local.server.remove_client(client.client)
    assert local("PUBLISH", "a", "m") == local("SPUBLISH", "a", "m") == 0
    pubsub = local.server.pubsub
    assert [pubsub.channels, pubsub.patterns, pubsub.shard_channels] == [{}, {}, {}]


def test_messages_outlive_a_turn_that_fails(local: LocalClient) -> None:
    """What was published has been heard; that the turn's writes fail does not change it."""
    client = local.connect()
    client.run(("SUBSCRIBE", "c"))
    client.pushed()
    client.client.push([b"message", b"c", b"m"])
    client.client.send(1)
    local.server.fail_tick(wrong_arity(b"x"))
    client.turn()
    assert client.pushed() == [[b"message", b"c", b"m"], wrong_arity(b"x")]

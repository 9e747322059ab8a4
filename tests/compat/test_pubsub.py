"""Publishing and subscribing, side by side."""

from __future__ import annotations

import pytest

from harness.compat import Pair
from harness.resp import Reply, RespClient


def script(pair: Pair, text: str) -> None:
    """Run commands, one a line; a number before a command is how many replies it has, 1 without."""
    for line in text.strip().splitlines():
        words = line.split()
        replies = int(words.pop(0)) if words[0].isdigit() else 1
        pair.raw(" ".join(words).encode() + b"\r\n", replies=replies)


def test_confirmations(pair: Pair) -> None:
    script(
        pair,
        """
        3 SUBSCRIBE a b a
        2 PSUBSCRIBE a* b?
        1 SSUBSCRIBE s
        PING
        PING x
        NOPE
        SUBSCRIBE
        CLIENT nope
        2 UNSUBSCRIBE a zz
        UNSUBSCRIBE
        UNSUBSCRIBE
        2 PUNSUBSCRIBE a* b?
        PUNSUBSCRIBE
        SUNSUBSCRIBE s
        SUNSUBSCRIBE
        GET k
        """,
    )


def test_what_subscribers_may_do(pair: Pair) -> None:
    script(
        pair,
        """
        SSUBSCRIBE s
        GET k
        MULTI
        EXEC
        CLIENT ID x
        CONFIG GET maxclients
        UNSUBSCRIBE
        GET k
        SUNSUBSCRIBE
        GET k
        SUBSCRIBE a
        RESET
        GET k
        SUBSCRIBE a
        2 QUIT
        """,
    )


def test_messages(pair: Pair) -> None:
    script(pair, "SUBSCRIBE news\n2 PSUBSCRIBE n* ne?s\nSSUBSCRIBE shard")
    counts = []
    for server in pair.servers:
        with server.client() as publisher:
            counts.append(
                [
                    publisher.call("PUBLISH", "news", b"\0\r\n"),
                    publisher.call("SPUBLISH", "shard", ""),
                    publisher.call("PUBLISH", "shard", "x"),
                    publisher.call("SPUBLISH", "news", "x"),
                    publisher.call("PUBLISH", "n", "last"),
                ]
            )
    assert counts[0] == counts[1] == [3, 1, 0, 0, 1]

    def heard(client: RespClient) -> list[Reply]:
        first, *rest = (client.read() for _ in range(5))
        return [first, *sorted(rest)]  # the order of patterns is not promised

    pair.both(heard)


def test_introspection(pair: Pair) -> None:
    script(
        pair,
        """
        PUBSUB
        PUBSUB nope
        PUBSUB channels a b
        PUBSUB shardchannels a b
        PUBSUB numpat x
        PUBSUB NUMSUB
        PUBSUB NUMSUB a b
        PUBSUB SHARDNUMSUB
        PUBSUB SHARDNUMSUB a
        PUBSUB NUMPAT
        PUBSUB CHANNELS
        PUBSUB SHARDCHANNELS x*
        """,
    )
    reference, tested = pair.servers
    with reference.client() as one, tested.client() as other:
        for listener in (one, other):
            listener.send("SUBSCRIBE", "a", "ab", "x")
            listener.send("PSUBSCRIBE", "p*", "q*")
            listener.send("SSUBSCRIBE", "s")
            for _ in range(6):
                listener.read()
        pair.unordered("PUBSUB", "CHANNELS")
        pair.unordered("PUBSUB", "CHANNELS", "a*")
        pair("PUBSUB", "NUMSUB", "a", "zz", "x")
        pair("PUBSUB", "NUMPAT")
        pair("PUBSUB", "SHARDCHANNELS")
        pair("PUBSUB", "SHARDNUMSUB", "s", "a")


@pytest.mark.parametrize("letter", ["", "P", "S"])
def test_inside_a_transaction(pair: Pair, letter: str) -> None:
    enter, leave = letter + "SUBSCRIBE", letter + "UNSUBSCRIBE"
    pair.pipeline(("MULTI",), ("ECHO", "a"), (enter, "x", "y"), ("PING",), (leave, "x"), ("GET", "k"))
    replies = pair.raw(b"EXEC\r\n", replies=1)
    assert replies[0][0] == b"a"


def test_keyspace_events_reach_subscribers(pair: Pair) -> None:
    pair("CONFIG", "SET", "notify-keyspace-events", "KEA")
    pair.raw(b"PSUBSCRIBE __key*\r\n")
    for server in pair.servers:
        with server.client() as writer:
            writer.ok("SET", "k", "v")
            writer.ok("EXPIRE", "k", 100)
            writer.ok("DEL", "k")
    for _ in range(6):
        pair.read()
    for server in pair.servers:
        with server.client() as writer:
            writer.ok("CONFIG", "SET", "notify-keyspace-events", "")

"""Publish and subscribe: who listens to what, and how a message reaches them.

A message is encoded once for each protocol, however many listen. Messages and confirmations are pushes: they
are no replies, and stay when a turn fails.

Order: a channel's subscribers hear a message in the order in which they subscribed, and those of patterns
after them, as in Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from lamina.server import events
from lamina.server.client import SUBSCRIBED, Client
from lamina.server.glob import compile_glob
from lamina.server.keyspace import Keyspace
from lamina.server.replies import Push, encode

Listeners = dict[Client, None]
"""A set that keeps its order."""


class PubSub:
    """The channels of a server."""

    def __init__(self) -> None:
        self.channels: dict[bytes, Listeners] = {}
        self.shard_channels: dict[bytes, Listeners] = {}
        self.patterns: dict[bytes, Listeners] = {}
        self._matchers: dict[bytes, Callable[[bytes], Any]] = {}

    # -- subscribing -------------------------------------------------------------------------------

    def subscribe(self, client: Client, channels: Iterable[bytes]) -> None:
        """Let a client hear channels, and tell it so for each."""
        self._enter(client, channels, client.channels, self.channels, b"subscribe")

    def subscribe_shard(self, client: Client, channels: Iterable[bytes]) -> None:
        """Let a client hear shard channels, and tell it so for each."""
        self._enter(client, channels, client.shard_channels, self.shard_channels, b"ssubscribe")

    def subscribe_patterns(self, client: Client, patterns: Iterable[bytes]) -> None:
        """Let a client hear all channels that match, and tell it so for each pattern."""
        patterns = list(patterns)
        for pattern in patterns:
            if pattern not in self._matchers:
                self._matchers[pattern] = compile_glob(pattern)
        self._enter(client, patterns, client.patterns, self.patterns, b"psubscribe")

    def _enter(
        self,
        client: Client,
        names: Iterable[bytes],
        own: dict[bytes, None],
        table: dict[bytes, Listeners],
        verb: bytes,
    ) -> None:
        for name in names:
            if name not in own:
                own[name] = None
                table.setdefault(name, {})[client] = None
            client.gate |= SUBSCRIBED
            client.push_as_reply(Push([verb, name, self._count(client, own)]))

    def unsubscribe(self, client: Client, channels: Iterable[bytes] | None, *, tell: bool = True) -> None:
        """Let a client hear channels no more (None: all of them), and tell it so for each."""
        self._leave(client, channels, client.channels, self.channels, b"unsubscribe", tell=tell)

    def unsubscribe_shard(
        self, client: Client, channels: Iterable[bytes] | None, *, tell: bool = True
    ) -> None:
        """The same for shard channels."""
        self._leave(client, channels, client.shard_channels, self.shard_channels, b"sunsubscribe", tell=tell)

    def unsubscribe_patterns(
        self, client: Client, patterns: Iterable[bytes] | None, *, tell: bool = True
    ) -> None:
        """The same for patterns."""
        leaving = list(client.patterns) if patterns is None else list(patterns)
        self._leave(
            client,
            None if patterns is None else leaving,
            client.patterns,
            self.patterns,
            b"punsubscribe",
            tell=tell,
        )
        for pattern in leaving:
            if pattern not in self.patterns:
                self._matchers.pop(pattern, None)

    def unsubscribe_all(self, client: Client) -> None:
        """Let a client hear nothing any more: RESET, or it has gone."""
        self.unsubscribe(client, None, tell=False)
        self.unsubscribe_shard(client, None, tell=False)
        self.unsubscribe_patterns(client, None, tell=False)

    def _leave(
        self,
        client: Client,
        names: Iterable[bytes] | None,
        own: dict[bytes, None],
        table: dict[bytes, Listeners],
        verb: bytes,
        *,
        tell: bool,
    ) -> None:
        is_all = names is None
        leaving: list[bytes] = list(own) if names is None else list(names)
        for name in leaving:
            if name in own:
                del own[name]
                listeners = table[name]
                del listeners[client]
                if not listeners:
                    del table[name]
            if tell:
                client.push_as_reply(Push([verb, name, self._count(client, own)]))
        if tell and is_all and not leaving:
            client.push_as_reply(Push([verb, None, self._count(client, own)]))
        if not client.subscriptions:
            client.gate &= ~SUBSCRIBED

    @staticmethod
    def _count(client: Client, own: dict[bytes, None]) -> int:
        """Return what the confirmation says: shard channels are counted by themselves."""
        if own is client.shard_channels:
            return len(own)
        return len(client.channels) + len(client.patterns)

    # -- publishing --------------------------------------------------------------------------------

    def publish(self, channel: bytes, message: bytes) -> int:
        """Send a message; returns how many receive it. Cost: O(subscribers + patterns)."""
        receivers = 0
        listeners = self.channels.get(channel)
        if listeners:
            receivers = _send(listeners, [b"message", channel, message])
        for pattern, matching in self.patterns.items():
            if self._matchers[pattern](channel):
                receivers += _send(matching, [b"pmessage", pattern, channel, message])
        return receivers

    def publish_shard(self, channel: bytes, message: bytes) -> int:
        """Send a message to a shard channel; returns how many receive it."""
        listeners = self.shard_channels.get(channel)
        return _send(listeners, [b"smessage", channel, message]) if listeners else 0

    def publish_event(self, keyspace: Keyspace, kind: int, name: bytes, key: bytes) -> None:
        """Publish a keyspace event, by the flags that the keyspace listens to."""
        if keyspace.listens & events.KEYSPACE:
            self.publish(b"__keyspace@%d__:%b" % (keyspace.index, key), name)
        if keyspace.listens & events.KEYEVENT:
            self.publish(b"__keyevent@%d__:%b" % (keyspace.index, name), key)


def _send(listeners: Listeners, items: list[bytes]) -> int:
    wires: dict[int, bytes] = {}
    for client in listeners:
        wire = wires.get(client.resp)
        if wire is None:
            wire = wires[client.resp] = encode(Push(items), client.resp)
        client.push_wire(wire)
    return len(listeners)

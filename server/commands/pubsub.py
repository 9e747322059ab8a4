"""Commands that publish and subscribe."""

from __future__ import annotations

from lamina.server.client import Client
from lamina.server.commands.help import add_help
from lamina.server.errors import CommandError, misused_subcommand
from lamina.server.glob import compile_glob
from lamina.server.registry import Keys, command
from lamina.server.replies import NO_REPLY

_SHARD_KEYS = Keys(1, -1, 1)

_NO_SHARDS_IN_TRANSACTIONS = CommandError(b"ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client")


@command("SUBSCRIBE", arity=-2, flags="pubsub noscript loading stale", since="2.0.0", complexity="O(N)")
def subscribe(client: Client, argv: list[bytes]) -> object:
    """Listen to channels.

    SUBSCRIBE channel [channel ...]
    """
    client.server.pubsub.subscribe(client, argv[1:])
    return NO_REPLY


@command("UNSUBSCRIBE", arity=-1, flags="pubsub noscript loading stale", since="2.0.0", complexity="O(N)")
def unsubscribe(client: Client, argv: list[bytes]) -> object:
    """Listen to channels no more, to none at all without arguments.

    UNSUBSCRIBE [channel [channel ...]]
    """
    client.server.pubsub.unsubscribe(client, argv[1:] or None)
    return NO_REPLY


@command("PSUBSCRIBE", arity=-2, flags="pubsub noscript loading stale", since="2.0.0", complexity="O(N)")
def psubscribe(client: Client, argv: list[bytes]) -> object:
    """Listen to all channels that match patterns.

    PSUBSCRIBE pattern [pattern ...]
    """
    client.server.pubsub.subscribe_patterns(client, argv[1:])
    return NO_REPLY


@command("PUNSUBSCRIBE", arity=-1, flags="pubsub noscript loading stale", since="2.0.0", complexity="O(N)")
def punsubscribe(client: Client, argv: list[bytes]) -> object:
    """Listen to patterns no more, to none at all without arguments.

    PUNSUBSCRIBE [pattern [pattern ...]]
    """
    client.server.pubsub.unsubscribe_patterns(client, argv[1:] or None)
    return NO_REPLY


@command(
    "SSUBSCRIBE",
    arity=-2,
    flags="pubsub noscript loading stale",
    keys=_SHARD_KEYS,
    since="7.0.0",
    complexity="O(N)",
)
def ssubscribe(client: Client, argv: list[bytes]) -> object:
    """Listen to shard channels.

    SSUBSCRIBE shardchannel [shardchannel ...]
    """
    if client.server.denies_blocking:
        raise _NO_SHARDS_IN_TRANSACTIONS
    client.server.pubsub.subscribe_shard(client, argv[1:])
    return NO_REPLY


def _all_arguments(argv: list[bytes]) -> list[int]:
    # keys=ALL_KEYS would say that there is one at least.
    return list(range(1, len(argv)))


@command(
    "SUNSUBSCRIBE",
    arity=-1,
    flags="pubsub noscript loading stale",
    find_keys=_all_arguments,
    since="7.0.0",
    complexity="O(N)",
)
def sunsubscribe(client: Client, argv: list[bytes]) -> object:
    """Listen to shard channels no more, to none at all without arguments.

    SUNSUBSCRIBE [shardchannel [shardchannel ...]]
    """
    client.server.pubsub.unsubscribe_shard(client, argv[1:] or None)
    return NO_REPLY


@command(
    "PUBLISH",
    arity=3,
    flags="pubsub loading stale fast may_replicate",
    since="2.0.0",
    complexity="O(N+M) subscribers and patterns",
)
def publish(client: Client, argv: list[bytes]) -> int:
    """Send a message to a channel.

    PUBLISH channel message
    """
    return client.server.pubsub.publish(argv[1], argv[2])


@command(
    "SPUBLISH",
    arity=3,
    flags="pubsub loading stale fast may_replicate",
    keys=Keys(1, 1, 1),
    since="7.0.0",
    complexity="O(N) subscribers",
)
def spublish(client: Client, argv: list[bytes]) -> int:
    """Send a message to a shard channel.

    SPUBLISH shardchannel message
    """
    return client.server.pubsub.publish_shard(argv[1], argv[2])


@command("PUBSUB", arity=-2, flags="", since="2.8.0", complexity="depends on the subcommand")
def pubsub(client: Client, argv: list[bytes]) -> object:
    """Tell about channels and those who listen.

    PUBSUB CHANNELS | NUMPAT | NUMSUB | SHARDCHANNELS | SHARDNUMSUB | HELP
    """
    raise misused_subcommand(argv[1], b"pubsub")


def _matching(names: dict[bytes, dict[Client, None]], argv: list[bytes]) -> list[bytes]:
    if len(argv) > 3:
        raise misused_subcommand(argv[1], b"pubsub")
    if len(argv) == 2:
        return list(names)
    matches = compile_glob(argv[2])
    return [name for name in names if matches(name)]


def _numbers(names: dict[bytes, dict[Client, None]], argv: list[bytes]) -> list[bytes | int]:
    # A flat array in RESP3 too: this reply was forgotten when others became maps, and stays so.
    return [part for name in argv[2:] for part in (name, len(names.get(name, ())))]


@command("PUBSUB|CHANNELS", arity=-2, flags="pubsub loading stale", since="2.8.0", complexity="O(N) channels")
def pubsub_channels(client: Client, argv: list[bytes]) -> list[bytes]:
    """List the channels that somebody listens to.

    PUBSUB CHANNELS [pattern]
    """
    return _matching(client.server.pubsub.channels, argv)


@command("PUBSUB|NUMPAT", arity=2, flags="pubsub loading stale", since="2.8.0", complexity="O(1)")
def pubsub_numpat(client: Client, argv: list[bytes]) -> int:
    """Return how many patterns somebody listens to.

    PUBSUB NUMPAT
    """
    return len(client.server.pubsub.patterns)


@command("PUBSUB|NUMSUB", arity=-2, flags="pubsub loading stale", since="2.8.0", complexity="O(N)")
def pubsub_numsub(client: Client, argv: list[bytes]) -> list[bytes | int]:
    """Return how many listen to each channel.

    PUBSUB NUMSUB [channel [channel ...]]
    """
    return _numbers(client.server.pubsub.channels, argv)


@command(
    "PUBSUB|SHARDCHANNELS", arity=-2, flags="pubsub loading stale", since="7.0.0", complexity="O(N) channels"
)
def pubsub_shardchannels(client: Client, argv: list[bytes]) -> list[bytes]:
    """List the shard channels that somebody listens to.

    PUBSUB SHARDCHANNELS [pattern]
    """
    return _matching(client.server.pubsub.shard_channels, argv)


@command("PUBSUB|SHARDNUMSUB", arity=-2, flags="pubsub loading stale", since="7.0.0", complexity="O(N)")
def pubsub_shardnumsub(client: Client, argv: list[bytes]) -> list[bytes | int]:
    """Return how many listen to each shard channel.

    PUBSUB SHARDNUMSUB [shardchannel [shardchannel ...]]
    """
    return _numbers(client.server.pubsub.shard_channels, argv)


add_help("PUBSUB", group="pubsub", since="6.2.0")

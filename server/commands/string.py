"""Commands on strings."""

from __future__ import annotations

from lamina.server import events
from lamina.server.args import integer
from lamina.server.client import Client
from lamina.server.registry import ONE_KEY, command
from lamina.server.replies import OK, Simple
from lamina.server.types import strings


@command("GET", arity=2, flags="readonly fast", keys=ONE_KEY, since="1.0.0", complexity="O(1)")
def get(client: Client, argv: list[bytes]) -> bytes | None:
    """Return the string value of a key.

    GET key
    """
    keyspace = client.keyspace
    value = keyspace.cache.get(argv[1])
    if value.__class__ is bytes:
        # The short way of strings.read: half of a GET.
        keyspace.hits += 1
        return value  # type: ignore[return-value]
    return strings.read(keyspace, argv[1])


@command("SET", arity=-3, flags="write denyoom", keys=ONE_KEY, since="1.0.0", complexity="O(1)")
def set_(client: Client, argv: list[bytes]) -> Simple | bytes | None:
    """Set the string value of a key, whatever it held before.

    SET key value [NX | XX] [GET] [EX seconds | PX milliseconds | EXAT seconds | PXAT milliseconds | KEEPTTL]
    """
    keyspace = client.keyspace
    strings.put(keyspace, argv[1], argv[2])
    if keyspace.listens:
        keyspace.event(events.STRING, b"set", argv[1])
    return OK


@command("INCR", arity=2, flags="write denyoom fast", keys=ONE_KEY, since="1.0.0", complexity="O(1)")
def incr(client: Client, argv: list[bytes]) -> int:
    """Add one to the integer value of a key, 0 if there is none.

    INCR key
    """
    return strings.increment(client.keyspace, argv[1], 1)


@command("INCRBY", arity=3, flags="write denyoom fast", keys=ONE_KEY, since="1.0.0", complexity="O(1)")
def incrby(client: Client, argv: list[bytes]) -> int:
    """Add to the integer value of a key, 0 if there is none.

    INCRBY key increment
    """
    return strings.increment(client.keyspace, argv[1], integer(argv[2]))

"""WAIT and WAITAOF: waiting for replicas, of which there are none, and for the disk."""

from __future__ import annotations

from typing import Any

from lamina.server.args import integer, integer_in, positive, timeout_whole_ms
from lamina.server.blocking import NOTHING, end_wait, wait_for
from lamina.server.client import Client
from lamina.server.durability import is_durable, when_durable
from lamina.server.errors import TIMEOUT_OUT_OF_RANGE
from lamina.server.numbers import INTEGER_MAX
from lamina.server.registry import command


def _timeout_ms(client: Client, data: bytes) -> int:
    timeout_ms = timeout_whole_ms(data)
    if timeout_ms > INTEGER_MAX - client.server.clock.now_ms:
        raise TIMEOUT_OUT_OF_RANGE
    return timeout_ms


def _never(key: bytes) -> object:
    return NOTHING


@command("WAIT", arity=3, flags="", since="3.0.0", complexity="O(1)", group="generic")
def wait(client: Client, argv: list[bytes]) -> Any:
    """Wait until so many replicas have what the client has written; returns how many have. There are none.

    WAIT numreplicas timeout
    """
    replicas = integer(argv[1])
    timeout_ms = _timeout_ms(client, argv[2])
    if replicas <= 0:
        return 0
    return wait_for(client, [], _never, timeout_ms=timeout_ms, timeout_reply=0)


@command("WAITAOF", arity=4, flags="noscript", since="7.2.0", complexity="O(1)", group="generic")
def waitaof(client: Client, argv: list[bytes]) -> Any:
    """Wait until what has been written is on the disk (numlocal 1), and on those of so many replicas.

    WAITAOF numlocal numreplicas timeout
    """
    is_local = integer_in(argv[1], 0, 1) == 1
    replicas = positive(argv[2])
    timeout_ms = _timeout_ms(client, argv[3])
    server = client.server
    acknowledged = [int(is_durable(server)), 0]
    # The writes of a transaction are logged when it is over: amid one there is nothing to wait for.
    if server.denies_blocking or (not replicas and acknowledged[0] >= is_local):
        return acknowledged
    suspended = wait_for(client, [], _never, timeout_ms=timeout_ms, timeout_reply=acknowledged)
    waiting = client.wait

    def tell(error: BaseException | None) -> None:
        if waiting is None or client.wait is not waiting:
            return  # the time was over before
        if isinstance(error, Exception):
            server.refuse_writes(error)
            end_wait(waiting, server.misconfigured())
            return
        acknowledged[0] = 1
        if not replicas:
            end_wait(waiting, acknowledged)

    if not acknowledged[0]:
        when_durable(server, tell)
    return suspended

"""The events of a history, heard from both servers of a pair and compared."""

from __future__ import annotations

from collections.abc import Sequence

from harness.compat import Pair
from harness.resp import Argument

_END = b"(end)"


def heard(pair: Pair, commands: Sequence[Sequence[Argument]]) -> list[tuple[bytes, bytes]]:
    """Run commands on both servers; assert that they publish the same events, misses too, in the same order.

    Returns these: names and keys.
    """
    pair("CONFIG", "SET", "notify-keyspace-events", "EAm")
    listeners = Pair(*pair.servers, protocol=pair.protocol)
    try:
        listeners("PSUBSCRIBE", "__keyevent@0__:*")
        for words in commands:
            pair(*words)
        pair("PUBLISH", "__keyevent@0__:", _END)
        found: list[tuple[bytes, bytes]] = []
        while True:
            message = listeners.read()
            assert isinstance(message, list)
            if message[-1] == _END:
                return found
            found.append((message[-2].split(b":", 1)[1], message[-1]))
    finally:
        listeners.close()
        pair("CONFIG", "SET", "notify-keyspace-events", "")


__all__ = ["heard"]

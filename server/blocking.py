"""Clients that wait: for an element, for a time, for a sync.

A command that finds nothing to take returns ``wait_for(client, ...)``, which parks the client and is
`SUSPENDED`. When a key that somebody waits at comes into being, `Databases.ready` names it; `serve_ready`
then lets those who wait there try again, in the order in which they came, as long as there is something to
take. What comes later in a waiting client's pipeline stays in `pending`.

Inside a transaction nothing waits: the command answers at once what it would answer after its time.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any, Final

from lamina.engine import EngineError
from lamina.server.acl.access import check_command
from lamina.server.acl.log import TOPLEVEL
from lamina.server.client import RESTRICTED, SILENT
from lamina.server.errors import INTERNAL_ERROR, CommandError
from lamina.server.replies import NO_REPLY, NULL_ARRAY, SUSPENDED

if TYPE_CHECKING:
    from lamina.server.client import Client
    from lamina.server.keyspace import Keyspace
    from lamina.server.registry import Command
    from lamina.server.server import Server

log = logging.getLogger(__name__)

NOTHING: Final = object()
"""What an attempt returns when there still is nothing to take."""

_OVER_MAX: Final = 64

Attempt = Callable[[bytes], Any]
"""Tries to serve a waiting client from the key given; returns the reply or `NOTHING`."""


class Wait:
    """What one client waits for. `deadline_ms` 0 is for ever."""

    __slots__ = (
        "attempt",
        "call",
        "client",
        "deadline_ms",
        "keys",
        "keyspace",
        "minds_removal",
        "timeout_reply",
    )

    def __init__(
        self,
        client: Client,
        keys: list[bytes],
        attempt: Attempt,
        *,
        deadline_ms: int,
        timeout_reply: Any,
        minds_removal: bool = False,
    ) -> None:
        self.client = client
        self.keyspace: Keyspace = client.keyspace
        self.keys = keys
        self.attempt = attempt
        self.deadline_ms = deadline_ms
        self.timeout_reply = timeout_reply
        self.minds_removal = minds_removal
        self.call: tuple[Command, list[bytes]] | None = None
        """What the client has called, once that is parked: its user's rules may change while it waits."""


class Waits:
    """All waits of a server, with those that end by themselves in the order of their deadlines.

    A wait that is over stays among the deadlines until its own has come or most of them are such: consumers
    with long timeouts that are served all the time would otherwise fill the memory.
    """

    __slots__ = ("_deadlines", "_over", "_serial", "active")

    def __init__(self) -> None:
        self.active: set[Wait] = set()
        self._deadlines: list[tuple[int, int, Wait]] = []
        self._over = 0
        """How many of the deadlines are those of waits that are over."""
        self._serial = 0

    def add(self, wait: Wait) -> None:
        """Take note of a wait."""
        self.active.add(wait)
        if wait.deadline_ms:
            self._serial += 1
            heappush(self._deadlines, (wait.deadline_ms, self._serial, wait))

    def forget(self, wait: Wait) -> None:
        """A wait is over."""
        self.active.discard(wait)
        if wait.deadline_ms:
            self._over += 1
            if self._over > _OVER_MAX and self._over * 2 > len(self._deadlines):
                self._deadlines = [entry for entry in self._deadlines if entry[2] in self.active]
                heapify(self._deadlines)
                self._over = 0

    @property
    def next_deadline_ms(self) -> int:
        """When the next wait ends by itself; 0 if none does."""
        deadlines = self._deadlines
        while deadlines and deadlines[0][2] not in self.active:
            heappop(deadlines)
            self._over -= 1
        return deadlines[0][0] if deadlines else 0

    def overdue(self, now_ms: int) -> list[Wait]:
        """Return the waits whose time is over, the earliest first."""
        found: list[Wait] = []
        while 0 < self.next_deadline_ms <= now_ms:
            found.append(heappop(self._deadlines)[2])
            self._over -= 1  # `forget` will count it
        return found


def wait_for(
    client: Client,
    keys: list[bytes],
    attempt: Attempt,
    *,
    timeout_ms: int,
    timeout_reply: Any = NULL_ARRAY,
    minds_removal: bool = False,
) -> Any:
    """Park a client until `attempt` succeeds for one of `keys`, or the time is over (0: never).

    With `minds_removal` it is also tried when one of them goes away. Returns what the command's handler has
    to return. The caller has found that there is nothing to take now.
    """
    server = client.server
    if server.denies_blocking:
        return timeout_reply
    server.clock.tick()  # the turn may have been long, and its time is when it began
    deadline_ms = server.clock.now_ms + timeout_ms if timeout_ms else 0
    wait = Wait(
        client,
        list(dict.fromkeys(keys)),
        attempt,
        deadline_ms=deadline_ms,
        timeout_reply=timeout_reply,
        minds_removal=minds_removal,
    )
    client.wait = wait
    waiting = wait.keyspace.waiting
    for key in wait.keys:
        if key not in waiting:
            waiting[key] = deque()
        waiting[key].append(wait)
    if minds_removal:
        minding = wait.keyspace.minding
        for key in wait.keys:
            minding[key] = minding.get(key, 0) + 1
    server.waits.add(wait)
    server.schedule_timeout(deadline_ms)
    return SUSPENDED


def stop_waiting(wait: Wait) -> None:
    """Take a wait off all its keys; its client is free again."""
    waiting = wait.keyspace.waiting
    for key in wait.keys:
        queue = waiting.get(key)
        if queue is not None:
            queue.remove(wait)
            if not queue:
                del waiting[key]
    if wait.minds_removal:
        minding = wait.keyspace.minding
        for key in wait.keys:
            minding[key] -= 1
            if not minding[key]:
                del minding[key]
    wait.client.wait = None
    wait.client.server.waits.forget(wait)


def end_wait(wait: Wait, reply: Any) -> None:
    """End a wait with a reply, and let the client's further commands run."""
    client = wait.client
    stop_waiting(wait)
    if client.gate & SILENT:
        client.skip_reply()
    elif reply is not NO_REPLY:
        client.send(reply)
    client.server.resume(client)


def serve_ready(server: Server) -> None:
    """Let waiting clients take from the keys that have come into being."""
    ready = server.databases.ready
    while ready:
        batch = list(dict.fromkeys(ready))
        ready.clear()
        for keyspace, key in batch:
            _serve_key(keyspace, key)


def _serve_key(keyspace: Keyspace, key: bytes) -> None:
    queue = keyspace.waiting.get(key)
    if queue is None:
        return
    at = 0
    while at < len(queue):
        wait = queue[at]
        reply = NOTHING
        try:
            if keyspace.find(key) is None:
                if key not in keyspace.minding:
                    return
                if not wait.minds_removal:
                    at += 1
                    continue
            if not wait.client.closing:  # else what it took would be lost
                if wait.client.gate & RESTRICTED:
                    _check_again(wait)
                reply = wait.attempt(key)
        except CommandError as error:
            reply = error.release()
        except Exception as error:
            reply = _note_failure(wait, key, error)
        if reply is NOTHING:
            at += 1
        else:
            end_wait(wait, reply)  # takes it out of the queue


def _check_again(wait: Wait) -> None:
    """See whether the client's user may still do what it waits for. Errors: CommandError."""
    if wait.call is None:
        return
    denial = check_command(wait.client, *wait.call)
    if denial is not None:
        server = wait.client.server
        server.users.note_denial(wait.client, denial, TOPLEVEL)
        server.note_error(denial.error)
        raise denial.error


def _note_failure(wait: Wait, key: bytes, error: Exception) -> CommandError:
    """Answer for an attempt that broke off in the middle; what it left half-done must not be committed."""
    server = wait.client.server
    log.error("serving a client that waits at %s failed", key[:64], exc_info=error)
    if isinstance(error, EngineError | OSError):
        reply = server.note_damage(error)
    else:
        reply = INTERNAL_ERROR
    server.note_error(reply)
    server.fail_tick(reply)
    return reply


def time_out(server: Server, now_ms: int) -> None:
    """End the waits whose time is over."""
    for wait in server.waits.overdue(now_ms):
        end_wait(wait, wait.timeout_reply)

"""What programs do over and over with redis-py, each in a thread, while the server is killed and comes again.

An actor takes small steps until it is told to stop, and counts them. Clients retry, as programs tell them to:
a command whose reply was lost is sent again and may have been done twice. `check` asserts what must hold all
the same: nothing that was acknowledged is lost, and what locks and transactions keep whole is whole.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ConstantBackoff
from redis.exceptions import LockNotOwnedError, NoScriptError
from redis.retry import Retry

Client = Any
"""redis-py's return types are unions of the synchronous and the asynchronous result."""

PAUSE_S = 0.002
LOCK_S = 20.0
"""Longer than any server is away."""
TRIES = 1200
"""Times a command is tried, a twentieth of a second apart."""


def connect(port: int, **options: Any) -> Client:
    """Return a client that waits for a server that is away."""
    retry = Retry(ConstantBackoff(0.05), TRIES)
    return redis.Redis(port=port, retry=retry, decode_responses=True, **options)


class Actor(threading.Thread):
    """One program. Subclasses say what a step is and what must be true at the end."""

    def __init__(self, port: int, number: int = 0, protocol: int = 2) -> None:
        super().__init__(name=f"{type(self).__name__}-{number}", daemon=True)
        self.port = port
        self.number = number
        self.client = connect(port, protocol=protocol)
        self.steps = 0
        self.error: Exception | None = None
        self._is_over = threading.Event()

    def run(self) -> None:
        try:
            while not self._is_over.is_set():
                self.step()
                self.steps += 1
                time.sleep(PAUSE_S)
        except Exception as error:
            self.error = error

    def stop(self) -> None:
        self._is_over.set()

    def step(self) -> None:
        raise NotImplementedError

    def check(self) -> None:
        """Assert what must hold when all actors have stopped."""

    def close(self) -> None:
        self.client.close()


class LockedCounter(Actor):
    """Reads, adds one and writes back, under a lock that others wait for."""

    def step(self) -> None:
        try:
            with self.client.lock("lock", timeout=LOCK_S, blocking_timeout=3 * LOCK_S, sleep=0.005):
                value = int(self.client.get("counted") or 0)
                self.client.set("counted", value + 1)
                self.client.sadd("counters", f"{self.number}:{self.steps}:{value}")
        except LockNotOwnedError:
            pass  # it was released, and the reply was lost

    def check(self) -> None:
        values = [member.rsplit(":", 1)[1] for member in self.client.smembers("counters")]
        assert len(values) == len(set(values)), "two had the lock at the same time"
        assert int(self.client.get("counted")) == len(values) >= self.steps


class Transfers(Actor):
    """Moves money by WATCH, MULTI and EXEC, tried again when somebody else was quicker."""

    ACCOUNTS = ("account:0", "account:1", "account:2")
    MONEY = 1000

    def __init__(self, port: int, number: int = 0, protocol: int = 2) -> None:
        super().__init__(port, number, protocol)
        self.client.msetnx(dict.fromkeys(self.ACCOUNTS, self.MONEY))

    def step(self) -> None:
        source = self.ACCOUNTS[self.steps % 3]
        target = self.ACCOUNTS[(self.steps + 1 + self.number % 2) % 3]

        def move(pipeline: Any) -> None:
            left, right = (int(pipeline.get(account)) for account in (source, target))
            pipeline.multi()
            pipeline.set(source, left - 1)
            pipeline.set(target, right + 1)
            pipeline.incr("transfers")

        self.client.transaction(move, source, target)

    def check(self) -> None:
        assert sum(map(int, self.client.mget(self.ACCOUNTS))) == self.MONEY * len(self.ACCOUNTS)
        assert int(self.client.get("transfers")) >= self.steps


class Producer(Actor):
    """Adds entries to a stream, and elements to a list, in pipelines."""

    def __init__(self, port: int, number: int = 0, protocol: int = 2) -> None:
        super().__init__(port, number, protocol)
        self.acknowledged: list[str] = []

    def step(self) -> None:
        names = [f"{self.number}:{self.steps}:{part}" for part in range(3)]
        with self.client.pipeline(transaction=bool(self.steps % 2)) as pipeline:
            for name in names:
                pipeline.xadd("stream", {"name": name}, maxlen=1_000_000)
                pipeline.lpush("queue", name)
            pipeline.execute()
        self.acknowledged += names


class Consumer(Actor):
    """Reads the stream as one of a group, notes what it has read, and acknowledges it."""

    GROUP = "group"

    def __init__(self, port: int, number: int = 0, protocol: int = 2) -> None:
        super().__init__(port, number, protocol)
        try:
            self.client.xgroup_create("stream", self.GROUP, id="0", mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def step(self) -> None:
        self.read()

    def read(self) -> int:
        """Read what is there, and return the number of entries."""
        count = 0
        # What was given to it in a reply that was lost is pending, and is read first.
        for start in ("0", ">"):
            reply = self.client.xreadgroup(
                self.GROUP, self.name, {"stream": start}, count=10, block=50 if start == ">" else None
            )
            streams = reply.items() if isinstance(reply, dict) else reply or []
            for _, entries in streams:
                # RESP3's reply is a map, of which redis-py makes lists of lists.
                entries = entries[0] if entries and isinstance(entries[0], list) else entries
                self.take(entries)
                count += len(entries)
        return count

    def take(self, entries: list[tuple[str, dict[str, str]]]) -> None:
        for entry_id, fields in entries:
            self.client.sadd("consumed", fields["name"])
            self.client.xack("stream", self.GROUP, entry_id)

    def check(self) -> None:
        """Take over what others have left, then look for what nobody got."""
        start = "0-0"
        while True:
            start, entries, _ = self.client.xautoclaim("stream", self.GROUP, self.name, 0, start)
            self.take(entries)
            if start == "0-0":
                break
        while self.read():
            pass
        assert self.client.xpending("stream", self.GROUP)["pending"] == 0


class Mover(Actor):
    """Waits for elements of a list and moves them to another one, so that none is lost on the way."""

    def step(self) -> None:
        self.client.blmove("queue", "moved", timeout=0.05)


class Scripts(Actor):
    """Calls registered scripts, alone and in pipelines; a new server does not know them any more."""

    TEXT = "redis.call('RPUSH', KEYS[1], ARGV[1]); return redis.call('INCR', KEYS[2])"

    def step(self) -> None:
        script = self.client.register_script(self.TEXT)
        keys = [f"scripted:{self.number}", f"script runs:{self.number}"]
        script(keys=keys, args=[self.steps])
        while True:
            with self.client.pipeline() as pipeline:
                script(keys=keys, args=[self.steps], client=pipeline)
                try:
                    pipeline.execute()
                    break
                except NoScriptError:
                    pass  # killed between the script and its call

    def check(self) -> None:
        runs = int(self.client.get(f"script runs:{self.number}"))
        assert runs == self.client.llen(f"scripted:{self.number}") >= 2 * self.steps


class Subscriber(Actor):
    """Listens, and publishes to itself: a message comes back however often the connection was lost."""

    def __init__(self, port: int, number: int = 0, protocol: int = 2) -> None:
        super().__init__(port, number, protocol)
        self.subscription = self.client.pubsub(ignore_subscribe_messages=True)
        self.subscription.subscribe(f"news:{number}")
        self.subscription.psubscribe(f"n?ws:{number}")

    def step(self) -> None:
        text = f"{self.steps}"
        wanted = {("message", text), ("pmessage", text)}
        deadline_s = time.monotonic() + 30
        while wanted:
            assert time.monotonic() < deadline_s, f"no message {text}"
            # Again and again: a message is lost if the subscriber is away.
            self.client.publish(f"news:{self.number}", text)
            while message := self.subscription.get_message(timeout=0.02):
                wanted.discard((message["type"], message["data"]))

    def close(self) -> None:
        self.subscription.close()
        super().close()


class Asynchronous(Actor):
    """Many tasks over redis.asyncio."""

    TASKS = 5

    def run(self) -> None:
        try:
            asyncio.run(self.main())
        except Exception as error:
            self.error = error

    async def main(self) -> None:
        retry = AsyncRetry(ConstantBackoff(0.05), TRIES)
        async with redis.asyncio.Redis(port=self.port, retry=retry, decode_responses=True) as client:
            while not self._is_over.is_set():
                await asyncio.gather(*(self.one(client, task) for task in range(self.TASKS)))
                self.steps += 1
                await asyncio.sleep(PAUSE_S)

    async def one(self, client: Any, task: int) -> None:
        key = f"async:{self.number}:{task}"
        async with client.pipeline() as pipeline:
            await pipeline.rpush(key, self.steps).set(f"{key}:last", self.steps).execute()
        assert await client.get(f"{key}:last") == str(self.steps)

    def check(self) -> None:
        for task in range(self.TASKS):
            noted = self.client.lrange(f"async:{self.number}:{task}", 0, -1)
            assert {str(step) for step in range(self.steps)} <= set(noted)

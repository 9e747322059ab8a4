"""Clients that write without a pause and remember what was acknowledged.

    load = Load(server, clients=8, seed=1)
    with load:
        time.sleep(0.5)
        server.kill()                             # or whatever is to be survived
    server.start()
    load.check()                                  # raises AssertionError with what is wrong
    with load: ...                                # the same clients, from where they are known to be

Each client has keys of its own, which a model follows: every reply is compared, and after a crash what is
there must be what was acknowledged, and of what was not, a beginning of it, in whole commands and
transactions. Beside that, all clients share

    account:<n>      money; a transfer takes from one and gives to another in a transaction, which also notes
                     it in the client's own list. So balances follow from the notes, to the unit
    ring:<n>         lists between which elements are moved: none is lost, none is there twice
    tickets          a counter: no number is given out twice

A client that is answered -MISCONF takes it that nothing has happened, and goes on.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from random import Random
from types import TracebackType
from typing import Any, Self

from harness.contents import Item, contents
from harness.keymodel import Arguments, KeyModel
from harness.resp import ConnectionClosedError, ErrorReply, RespClient, encode
from harness.servers import Server

Unit = list[Arguments]
"""One command, or a transaction from MULTI to EXEC: all of it happens, or nothing."""

ACCOUNTS = 6
BALANCE = 10_000
RINGS = 3
RING_ELEMENTS = 40
PIPELINE_MAX = 12
FAR_MS = 4_000_000_000_000
"""A time of expiry in the year 2096."""


class Worker(threading.Thread):
    """One client."""

    def __init__(self, port: int, number: int, random: Random, model: KeyModel, tickets: list[int]) -> None:
        super().__init__(name=f"client-{number}", daemon=True)
        self.port = port
        self.number = number
        self.random = random
        self.model = model
        """What is acknowledged of the client's own keys."""
        self.tickets = tickets
        self.in_flight: list[Unit] = []
        """What has been sent and not been answered, in order."""
        self.acknowledged = 0
        self.refused = 0
        self.stopping = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        """Write until told to stop or the server has gone."""
        try:
            with RespClient(self.port) as client:
                while not self.stopping.is_set():
                    self._pipeline(client)
        except (ConnectionClosedError, ConnectionError):
            pass
        except BaseException as error:
            self.error = error

    def _pipeline(self, client: RespClient) -> None:
        count = 1 if self.random.random() < 0.4 else self.random.randint(2, PIPELINE_MAX)
        self.in_flight = [self._unit() for _ in range(count)]
        client.send_raw(b"".join(encode(command) for unit in self.in_flight for command in unit))
        while self.in_flight:
            unit = self.in_flight[0]
            replies = [client.read() for _ in unit]
            self.in_flight.pop(0)
            self._note(unit, replies[-1])

    def _note(self, unit: Unit, reply: Any) -> None:
        if isinstance(reply, ErrorReply) and reply.code in ("MISCONF", "EXECABORT"):
            self.refused += 1
            return
        self.acknowledged += 1
        if unit[0][0] == "INCR" and unit[0][1] == "tickets":
            assert isinstance(reply, int), reply
            self.tickets.append(reply)
        elif not _is_shared(unit):
            expected = self.model.apply_unit(unit)
            found = [_plain(one) for one in reply] if isinstance(reply, list) else _plain(reply)
            assert found == expected, f"{unit}: {found} instead of {expected}"
        elif unit[0][0] == "MULTI":
            # Of a transfer, the client's own note is followed, whose reply is the last.
            expected = self.model.apply(unit[-2])
            assert reply[-1] == expected, f"{unit}: {reply}, {expected} notes"

    def _unit(self) -> Unit:
        chance = self.random.random()
        if chance < 0.12:
            source, target = self.random.sample(range(ACCOUNTS), 2)
            amount = self.random.randint(1, 9)
            note = f"{source} {target} {amount}"
            return [
                ("MULTI",),
                ("DECRBY", f"account:{source}", amount),
                ("INCRBY", f"account:{target}", amount),
                ("RPUSH", f"c{self.number}:notes", note),
                ("EXEC",),
            ]
        if chance < 0.22:
            source, target = self.random.sample(range(RINGS), 2)
            return [("LMOVE", f"ring:{source}", f"ring:{target}", "LEFT", "RIGHT")]
        if chance < 0.27:
            return [("INCR", "tickets")]
        if chance < 0.37:
            return [("MULTI",), *(self._command() for _ in range(self.random.randint(1, 5))), ("EXEC",)]
        return [self._command()]

    def _command(self) -> Arguments:
        return random_command(self.random, f"c{self.number}:")

    def possible(self) -> Iterator[KeyModel]:
        """Yield what the client's keys may hold now: what is acknowledged, and then what was in flight."""
        model = self.model.copy()
        yield model.copy()
        for unit in self.in_flight:
            if unit[0][0] == "MULTI" and _is_shared(unit):
                model.apply(unit[-2])
            elif not _is_shared(unit):
                model.apply_unit(unit)
            yield model.copy()


def random_command(random: Random, prefix: str) -> Arguments:
    """Return a command that changes a key with that prefix."""
    n = random.randrange(4)
    string, target = f"{prefix}s{n}", f"{prefix}s{random.randrange(4)}"
    element = f"{random.randrange(30)}" * random.choice((1, 1, 1, 12))
    score = random.randrange(100)
    kinds = [f"{prefix}{kind}{n}" for kind in ("s", "l", "t", "h", "z")]
    return random.choice(
        (
            ("SET", string, element * 4),
            ("INCR", f"{prefix}n{n}"),
            ("APPEND", f"{prefix}a", element),
            ("LPUSH", f"{prefix}l{n}", element, element + "!"),
            ("RPUSH", f"{prefix}l{n}", element),
            ("RPOP", f"{prefix}l{n}"),
            ("LPOP", f"{prefix}l{n}"),
            ("LMOVE", f"{prefix}l{n}", f"{prefix}l{(n + 1) % 4}", "RIGHT", "LEFT"),
            ("SADD", f"{prefix}t{n}", element, f"{score}"),
            ("SREM", f"{prefix}t{n}", element, f"{score}"),
            ("HSET", f"{prefix}h{n}", element, f"{score}", f"{score}", element),
            ("HDEL", f"{prefix}h{n}", element),
            ("ZADD", f"{prefix}z{n}", score, element),
            ("ZREM", f"{prefix}z{n}", element),
            ("DEL", random.choice(kinds), random.choice(kinds)),
            ("PEXPIREAT", random.choice(kinds), FAR_MS + score),
            ("PERSIST", random.choice(kinds)),
            ("RENAME", string, target),
        )
    )


def _is_shared(unit: Unit) -> bool:
    """Tell whether a unit changes keys that all clients share."""
    command = unit[1] if len(unit) > 1 else unit[0]
    return str(command[1]).startswith(("account:", "ring:", "tickets"))


def _plain(reply: Any) -> Any:
    return reply.code if isinstance(reply, ErrorReply) else reply


class Load:
    """Workers, and what they know together."""

    def __init__(self, server: Server, *, clients: int, seed: int) -> None:
        self.server = server
        self.random = Random(seed)
        self.models = [KeyModel() for _ in range(clients)]
        self.tickets: list[int] = []
        self.workers: list[Worker] = []
        with server.client() as client:
            for account in range(ACCOUNTS):
                client.ok("SET", f"account:{account}", BALANCE)
            client.ok("RPUSH", "ring:0", *range(RING_ELEMENTS))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def acknowledged(self) -> int:
        """Commands and transactions that have been acknowledged since the start."""
        return sum(worker.acknowledged for worker in self.workers)

    @property
    def refused(self) -> int:
        """Those that have been refused."""
        return sum(worker.refused for worker in self.workers)

    def start(self) -> None:
        """Let all clients begin, or begin again."""
        self.workers = [
            Worker(self.server.port, number, Random(self.random.random()), model, self.tickets)
            for number, model in enumerate(self.models)
        ]
        for worker in self.workers:
            worker.start()

    def wait_for(self, count: int, timeout_s: float = 20.0) -> None:
        """Wait until so many more have been acknowledged."""
        until = self.acknowledged + count
        deadline_s = time.monotonic() + timeout_s
        while self.acknowledged < until:
            self.raise_errors()
            assert time.monotonic() < deadline_s, "the server does not answer"
            time.sleep(0.005)

    def stop(self) -> None:
        """Let all clients finish what they have sent, and wait for them."""
        for worker in self.workers:
            worker.stopping.set()
        for worker in self.workers:
            worker.join()
        self.raise_errors()

    def raise_errors(self) -> None:
        """Raise what a client has found wrong."""
        for worker in self.workers:
            if worker.error is not None:
                raise worker.error

    def check(self) -> None:
        """Hold what the server has against what it must have; the models then are what it has."""
        with self.server.client() as client:
            found = contents(client).get(0, {})
            _check_sizes(client, found)
        for worker in self.workers:
            self.models[worker.number] = _settled(worker, found)
        self._check_accounts(found)
        rings = Counter(
            element for key, item in found.items() if key.startswith(b"ring:") for element in item.value
        )
        assert rings == Counter(b"%d" % i for i in range(RING_ELEMENTS))
        assert len(set(self.tickets)) == len(self.tickets)
        in_flight = sum(unit[0][1:] == ("tickets",) for worker in self.workers for unit in worker.in_flight)
        count = int(found[b"tickets"].value) if b"tickets" in found else 0
        assert max(self.tickets, default=0) <= count <= len(self.tickets) + self._lost_tickets + in_flight
        self._lost_tickets = count - len(self.tickets)

    _lost_tickets = 0
    """Numbers that were given out and never reached anybody."""

    def _check_accounts(self, found: dict[bytes, Item]) -> None:
        balances = [BALANCE] * ACCOUNTS
        for number in range(len(self.models)):
            notes = found.get(b"c%d:notes" % number)
            for note in [] if notes is None else notes.value:
                source, target, amount = map(int, note.split())
                balances[source] -= amount
                balances[target] += amount
        assert balances == [int(found[b"account:%d" % i].value) for i in range(ACCOUNTS)]


def _settled(worker: Worker, found: dict[bytes, Item]) -> KeyModel:
    """Return the model, of those that are possible, that is what was found."""
    prefix = b"c%d:" % worker.number
    items = {key: item for key, item in found.items() if key.startswith(prefix)}
    differences = []
    for model in worker.possible():
        difference = model.difference({key: (item.type, item.value) for key, item in items.items()})
        expiring = {key for key, item in items.items() if item.expires_ms >= 0}
        if not difference and expiring != set(model.expiries):
            difference = f"{sorted(expiring)} expire instead of {sorted(model.expiries)}"
        if not difference:
            return model
        differences.append(difference)
    raise AssertionError(
        f"client {worker.number}: none of the possible states, in flight {worker.in_flight}:\n"
        + "\n".join(differences)
    )


_SIZE_COMMANDS = {"string": "STRLEN", "list": "LLEN", "set": "SCARD", "hash": "HLEN", "zset": "ZCARD"}


def _check_sizes(client: RespClient, found: dict[bytes, Item]) -> None:
    """Assert that what the server says of sizes agrees with what it shows."""
    assert client.call("DBSIZE") == len(found)
    sizes = client.pipeline([(_SIZE_COMMANDS[item.type], key) for key, item in found.items()])
    for (key, item), size in zip(found.items(), sizes):
        assert size == len(item.value) // (2 if item.type == "zset" else 1), key

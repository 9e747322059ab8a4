"""redis-py's own idioms over a server that is killed: locks, transactions, groups, scripts, messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
from programs.actors import (
    Actor,
    Asynchronous,
    Consumer,
    LockedCounter,
    Mover,
    Producer,
    Scripts,
    Subscriber,
    Transfers,
    connect,
)

from harness.programs import wait_until
from harness.servers import TESTED_SERVER, Server

KINDS: list[type[Actor]] = [
    LockedCounter,
    LockedCounter,
    Transfers,
    Transfers,
    Producer,
    Producer,
    Consumer,
    Consumer,
    Mover,
    Scripts,
    Subscriber,
    Asynchronous,
]


@pytest.fixture
def actors(server: Server) -> Iterator[list[Actor]]:
    """Give one of each, not started; half of them speak RESP3."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(closing(kind(server.port, number, 2 + number % 2)))
            for number, kind in enumerate(KINDS)
        ]


def go_on(actors: list[Actor], steps: int) -> None:
    """Wait until every actor has taken some more steps."""
    goal = [actor.steps + steps for actor in actors]

    def is_reached() -> bool:
        errors = [(actor.name, actor.error) for actor in actors if actor.error]
        assert not errors
        return all(actor.steps >= wanted for actor, wanted in zip(actors, goal))

    try:
        wait_until(is_reached, "all go on")
    except AssertionError as error:
        late = [actor.name for actor, wanted in zip(actors, goal) if actor.steps < wanted]
        error.add_note(f"late: {late}")
        raise


@pytest.mark.parametrize("kills", [1, pytest.param(30, marks=pytest.mark.slow)])
def test_programs_go_on_when_the_server_was_killed(server: Server, actors: list[Actor], kills: int) -> None:
    for actor in actors:
        actor.start()
    for _ in range(kills):
        go_on(actors, 5)
        server.kill()
        server.start()
    go_on(actors, 5)
    for actor in actors:
        actor.stop()
    for actor in actors:
        actor.join(30)
        assert not actor.is_alive(), actor.name
        assert actor.error is None

    for actor in actors:
        actor.check()
    produced = {name for actor in actors if isinstance(actor, Producer) for name in actor.acknowledged}
    with connect(server.port) as client:
        assert produced <= client.smembers("consumed")
        assert produced <= {*client.lrange("queue", 0, -1), *client.lrange("moved", 0, -1)}
        assert produced <= {fields["name"] for _, fields in client.xrange("stream")}


def test_iterating_goes_on_when_the_server_was_killed(server: Server) -> None:
    """A cursor is a place in the order of keys, which is the same to the server that comes after."""
    names = {f"name:{number}" for number in range(1000)}
    with connect(server.port) as client:
        with client.pipeline() as pipeline:
            for name in names:
                pipeline.set(name, 1)
            pipeline.hset("hash", mapping=dict.fromkeys(names, 1))
            pipeline.sadd("set", *names)
            pipeline.zadd("sorted set", dict.fromkeys(names, 1))
            pipeline.execute()
        iterators: list[Iterator[str]] = [
            client.scan_iter("name:*", count=50),
            (field for field, _ in client.hscan_iter("hash", count=50)),
            client.sscan_iter("set", count=50),
            (member for member, _ in client.zscan_iter("sorted set", count=50)),
        ]
        found = [{next(iterator) for _ in range(120)} for iterator in iterators]
        server.kill()
        server.start()
        for iterator, seen in zip(iterators, found):
            seen.update(iterator)
    # Redis's own cursors are worth nothing after a restart: another process hashes otherwise.
    if TESTED_SERVER != "redis":
        assert found == [names] * 4

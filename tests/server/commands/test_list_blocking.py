"""Waiting for list elements: who is served, when, with what; and that no element is ever lost."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from harness.local import LocalClient
from lamina.engine import CorruptionError
from lamina.server import events
from lamina.server.blocking import Waits, end_wait
from lamina.server.errors import (
    TIMEOUT_NEGATIVE,
    TIMEOUT_NOT_A_FLOAT,
    TIMEOUT_OUT_OF_RANGE,
    UNBLOCKED,
    WRONG_TYPE,
)
from lamina.server.types import lists

Waiter = Callable[..., LocalClient]


@pytest.fixture
def waiter(local: LocalClient) -> Waiter:
    """Make a client of the same server that sends a command and waits."""

    def wait(*words: Any) -> LocalClient:
        client = local.connect()
        assert client.raw(*words) == b""
        assert is_waiting(client)
        return client

    return wait


def is_waiting(client: LocalClient) -> bool:
    return client.client.wait is not None


def assert_nobody_waits(local: LocalClient) -> None:
    """Assert that nothing is left of any wait."""
    assert not local.server.waits.active
    assert not any(keyspace.waiting for keyspace in local.server.databases.keyspaces)


# -- being served ----------------------------------------------------------------------------------


def test_what_is_there_is_taken_at_once(local: LocalClient) -> None:
    local("RPUSH", "l", *"abcdefgh")
    assert local("BLPOP", "no", "l", 0) == [b"l", b"a"]
    assert local("BRPOP", "l", "no", 0) == [b"l", b"h"]
    assert local("BLMOVE", "l", "m", "RIGHT", "LEFT", 0) == b"g"
    assert local("BRPOPLPUSH", "l", "m", 0) == b"f"
    assert local("BLMPOP", 0, 2, "no", "l", "LEFT", "COUNT", 2) == [b"l", [b"b", b"c"]]
    assert local("BLMPOP", 0, 1, "l", "RIGHT") == [b"l", [b"e"]]
    assert local("LRANGE", "m", 0, -1) == [b"f", b"g"]
    assert_nobody_waits(local)


@pytest.mark.parametrize(
    ("words", "reply", "left"),
    [
        ("BLPOP l 0", [b"l", b"a"], [b"b", b"c"]),
        ("BRPOP l 0", [b"l", b"c"], [b"a", b"b"]),
        ("BLMOVE l l LEFT RIGHT 0", b"a", [b"b", b"c", b"a"]),
        ("BRPOPLPUSH l l 0", b"c", [b"c", b"a", b"b"]),
        ("BLMPOP 0 1 l LEFT", [b"l", [b"a"]], [b"b", b"c"]),
        ("BLMPOP 0 1 l RIGHT COUNT 2", [b"l", [b"c", b"b"]], [b"a"]),
        ("BLMPOP 0 1 l LEFT COUNT 9", [b"l", [b"a", b"b", b"c"]], []),
    ],
)
def test_who_waits_is_served_after_the_push(
    local: LocalClient, waiter: Waiter, words: str, reply: Any, left: list[bytes]
) -> None:
    client = waiter(*words.split())
    assert local("RPUSH", "l", "a", "b", "c") == 3
    assert client.pushed() == [reply]
    assert local("LRANGE", "l", 0, -1) == left
    assert_nobody_waits(local)
    local.reload()
    assert local("LRANGE", "l", 0, -1) == left


def test_the_one_who_waits_longest_is_served_first(local: LocalClient, waiter: Waiter) -> None:
    clients = [waiter("BLPOP", "l", 0) for _ in range(5)]
    assert local("RPUSH", "l", "a") == 1
    assert [client.pushed() for client in clients] == [[[b"l", b"a"]], [], [], [], []]
    assert local("RPUSH", "l", "b", "c") == 2
    assert [client.pushed() for client in clients[1:]] == [[[b"l", b"b"]], [[b"l", b"c"]], [], []]
    # One who comes back stands at the end.
    assert clients[0].raw("BLPOP", "l", 0) == b""
    assert local("RPUSH", "l", "d", "e", "f", "g") == 4
    assert [client.pushed() for client in (*clients[3:], clients[0])] == [
        *([[b"l", b"d"]], [[b"l", b"e"]], [[b"l", b"f"]])
    ]
    assert local("LRANGE", "l", 0, -1) == [b"g"]


def test_kinds_of_waits_share_one_queue(local: LocalClient, waiter: Waiter) -> None:
    first = waiter("BRPOP", "l", 0)
    second = waiter("BLMPOP", 0, 1, "l", "LEFT", "COUNT", 2)
    third = waiter("BLMOVE", "l", "m", "LEFT", "LEFT", 0)
    fourth = waiter("BLPOP", "l", 0)
    local("RPUSH", "l", "a", "b", "c", "d")
    assert first.pushed() == [[b"l", b"d"]]
    assert second.pushed() == [[b"l", [b"a", b"b"]]]
    assert third.pushed() == [b"c"]
    assert fourth.pushed() == []
    assert is_waiting(fourth)


def test_of_several_keys_the_first_in_the_command_is_taken(local: LocalClient, waiter: Waiter) -> None:
    client = waiter("BLPOP", "a", "b", "c", 0)
    local("MULTI")
    local("RPUSH", "c", 3)
    local("RPUSH", "b", 2)
    local("EXEC")
    assert client.pushed() == [[b"b", b"2"]]
    assert local("LRANGE", "c", 0, -1) == [b"3"]
    assert_nobody_waits(local)


def test_a_key_given_twice_serves_once(local: LocalClient, waiter: Waiter) -> None:
    client = waiter("BLPOP", "l", "l", "l", 0)
    local("RPUSH", "l", "a", "b")
    assert client.pushed() == [[b"l", b"a"]]
    assert local("LLEN", "l") == 1
    assert_nobody_waits(local)


def test_other_keys_and_databases_wake_nobody(local: LocalClient, waiter: Waiter) -> None:
    client = waiter("BLPOP", "l", 0)
    local("RPUSH", "m", "a")
    local("SELECT", 1)
    local("RPUSH", "l", "a")
    assert client.pushed() == []
    assert is_waiting(client)


def test_each_way_to_make_a_list_wakes(local: LocalClient, waiter: Waiter) -> None:
    local("RPUSH", "source", *"abcdef")
    keyspace = local.client.keyspace
    for words in ("LPUSH l x", "RPUSH l x", "LMOVE source l LEFT LEFT", "RPOPLPUSH source l"):
        client = waiter("BLPOP", "l", 0)
        local(*words.split())
        assert len(client.pushed()) == 1, words
    client = waiter("BLPOP", "l", 0)
    lists.store(keyspace, b"l", [b"stored"])
    local("LLEN", "l")
    assert client.pushed() == [[b"l", b"stored"]]
    client = waiter("BLPOP", "l", 0)
    record = keyspace.find(b"source")
    assert record is not None
    keyspace.rename(b"source", record, b"l")
    local("LLEN", "l")
    assert client.pushed() == [[b"l", b"b"]]


def test_a_push_served_in_its_own_pipeline_replies_in_order(local: LocalClient, waiter: Waiter) -> None:
    client = waiter("BLPOP", "l", 0)
    assert local.pipeline(("RPUSH", "l", "a"), ("LLEN", "l"), ("RPUSH", "l", "b"), ("LLEN", "l")) == [
        1,
        0,
        1,
        1,
    ]
    assert client.pushed() == [[b"l", b"a"]]


def test_what_comes_after_in_the_pipeline_waits_too(local: LocalClient) -> None:
    client = local.connect()
    client.run(("SET", "s", 1), ("BLPOP", "l", 0), ("GET", "s"), ("BLPOP", "l", 0), ("GET", "s"))
    assert client.pushed() == [b"OK"]
    client.run(("SET", "s", 2))
    assert local("GET", "s") == b"1"
    local("RPUSH", "l", "a")
    assert client.pushed() == [[b"l", b"a"], b"1"]
    local("RPUSH", "l", "b")
    assert client.pushed() == [[b"l", b"b"], b"1", b"OK"]
    assert local("GET", "s") == b"2"


# -- other types -----------------------------------------------------------------------------------


def test_a_key_of_another_type_wakes_nobody(local: LocalClient, waiter: Waiter) -> None:
    client = waiter("BLPOP", "l", 0)
    local("HSET", "l", "f", "v")
    local("SET", "l", "text")
    assert client.pushed() == []
    local("DEL", "l")
    local("RPUSH", "l", "a")
    assert client.pushed() == [[b"l", b"a"]]


def test_the_whole_command_is_tried_again(local: LocalClient, waiter: Waiter) -> None:
    """A key before the one that has become ready, and of the wrong type, is an error then as it is now."""
    client = waiter("BLPOP", "a", "b", 0)
    several = waiter("BLMPOP", 0, 2, "a", "b", "LEFT")
    local("SET", "a", "text")
    assert is_waiting(client)
    local("RPUSH", "b", "x")
    assert client.pushed() == several.pushed() == [WRONG_TYPE]
    assert local("LRANGE", "b", 0, -1) == [b"x"]
    assert_nobody_waits(local)


def test_a_destination_of_the_wrong_type_fails_and_keeps_the_element(
    local: LocalClient, waiter: Waiter
) -> None:
    client = waiter("BLMOVE", "l", "s", "LEFT", "LEFT", 0)
    local("SET", "s", "text")
    other = waiter("BLPOP", "l", 0)
    local("RPUSH", "l", "a")
    assert client.pushed() == [WRONG_TYPE]
    # The next one in the queue gets what was left.
    assert other.pushed() == [[b"l", b"a"]]


# -- chains ----------------------------------------------------------------------------------------


def test_chains_of_moves(local: LocalClient, waiter: Waiter) -> None:
    steps = [waiter("BLMOVE", f"l{i}", f"l{i + 1}", "LEFT", "RIGHT", 0) for i in range(5)]
    last = waiter("BLPOP", "l5", 0)
    found: list[tuple[bytes, bytes]] = []
    local.client.keyspace.listens = events.ALL
    local.server.databases.on_event = lambda keyspace, kind, name, key: found.append((name, key))
    local("RPUSH", "l0", "x")
    assert [client.pushed() for client in steps] == [[b"x"]] * 5
    assert last.pushed() == [[b"l5", b"x"]]
    assert local("DBSIZE") == 0
    assert found[:5] == [
        (b"rpush", b"l0"),
        (b"rpush", b"l1"),
        (b"lpop", b"l0"),
        (b"del", b"l0"),
        (b"rpush", b"l2"),
    ]
    assert found[-2:] == [(b"lpop", b"l5"), (b"del", b"l5")]


def test_a_circle_of_moves_ends(local: LocalClient, waiter: Waiter) -> None:
    one = waiter("BRPOPLPUSH", "a", "b", 0)
    other = waiter("BRPOPLPUSH", "b", "a", 0)
    local("RPUSH", "a", "x")
    assert one.pushed() == other.pushed() == [b"x"]
    assert local("LRANGE", "a", 0, -1) == [b"x"]
    assert_nobody_waits(local)


def test_moving_to_the_list_itself(local: LocalClient, waiter: Waiter) -> None:
    clients = [waiter("BLMOVE", "l", "l", "LEFT", "RIGHT", 0) for _ in range(3)]
    local("RPUSH", "l", "a", "b")
    assert [client.pushed() for client in clients] == [[b"a"], [b"b"], [b"a"]]
    assert local("LRANGE", "l", 0, -1) == [b"b", b"a"]


# -- transactions ----------------------------------------------------------------------------------


def test_in_a_transaction_nothing_waits(local: LocalClient) -> None:
    def replies() -> bytes:
        local("MULTI")
        for words in (
            *(
                "BLPOP no 0",
                "BRPOP no 0",
                "BLMPOP 0 1 no LEFT",
                "BLMOVE no l LEFT LEFT 0",
                "BRPOPLPUSH no l 0",
            ),
        ):
            assert local(*words.split()) == b"QUEUED"
        return local.raw("EXEC")

    assert replies() == b"*5\r\n*-1\r\n*-1\r\n*-1\r\n$-1\r\n$-1\r\n"
    local.client.resp = 3
    assert replies() == b"*5\r\n" + b"_\r\n" * 5
    assert_nobody_waits(local)


def test_a_transaction_serves_when_it_is_over(local: LocalClient, waiter: Waiter) -> None:
    clients = [waiter("BLPOP", "l", 0) for _ in range(2)]
    local("MULTI")
    local("RPUSH", "l", "a")
    local("LPUSH", "l", "b")
    local("LLEN", "l")
    assert local("EXEC") == [1, 2, 2]
    assert [client.pushed() for client in clients] == [[[b"l", b"b"]], [[b"l", b"a"]]]


def test_what_is_pushed_and_popped_in_a_transaction_serves_nobody(local: LocalClient, waiter: Waiter) -> None:
    client = waiter("BLPOP", "l", 0)
    for last in ("LPOP l", "DEL l", "LMOVE l m LEFT LEFT", "SET l text"):
        local("MULTI")
        local("RPUSH", "l", "a")
        local(*last.split())
        assert len(local("EXEC")) == 2
        assert client.pushed() == []
        local("DEL", "l")
    local("RPUSH", "l", "b")
    assert client.pushed() == [[b"l", b"b"]]


def test_serving_breaks_a_watch(local: LocalClient, waiter: Waiter) -> None:
    client = waiter("BLMOVE", "l", "m", "LEFT", "LEFT", 0)
    other = local.connect()
    other("WATCH", "m")
    local("RPUSH", "l", "a")
    assert client.pushed() == [b"a"]
    other("MULTI")
    assert other("EXEC") is None


# -- the end of waiting ----------------------------------------------------------------------------


def test_timeouts(local: LocalClient, waiter: Waiter) -> None:
    commands = (
        "BLPOP l {}",
        "BRPOP l {}",
        "BLMOVE l m LEFT LEFT {}",
        "BRPOPLPUSH l m {}",
        "BLMPOP {} 1 l LEFT",
    )
    clients = [waiter(*command.format(0.5).split()) for command in commands]
    modern = local.connect()
    modern.client.resp = 3
    assert modern.raw("BLMOVE", "l", "m", "LEFT", "LEFT", "0.5") == b""
    forever = waiter("BLPOP", "l", 0)
    local.wait_out(499)
    assert all(map(is_waiting, clients))
    local.wait_out(1)
    assert [client.wire.data for client in clients] == [b"*-1\r\n"] * 5
    assert modern.wire.data == b"_\r\n"
    local.wait_out(10**9)
    assert is_waiting(forever)
    assert local.server.waits.next_deadline_ms == 0
    local("RPUSH", "l", "a")
    assert forever.pushed() == [[b"l", b"a"]]


def test_the_shortest_timeout_ends_first(local: LocalClient, waiter: Waiter) -> None:
    clients = {ms: waiter("BLPOP", "l", ms / 1000) for ms in (300, 100, 200)}
    for ms in (100, 200, 300):
        local.wait_out(100)
        assert {waited for waited, client in clients.items() if not is_waiting(client)} == {
            waited for waited in clients if waited <= ms
        }


@pytest.mark.parametrize("seconds", ["0.0001", "1e-9", "0x1p-12"])
def test_a_tiny_timeout_is_not_for_ever(local: LocalClient, waiter: Waiter, seconds: str) -> None:
    client = waiter("BLPOP", "l", seconds)
    local.wait_out(1)
    assert client.wire.data == b"*-1\r\n"


@pytest.mark.parametrize(
    ("timeout", "error"),
    [
        ("-1", TIMEOUT_NEGATIVE),
        ("x", TIMEOUT_NOT_A_FLOAT),
        ("", TIMEOUT_NOT_A_FLOAT),
        ("nan", TIMEOUT_NOT_A_FLOAT),
        ("1e30", TIMEOUT_OUT_OF_RANGE),
        ("inf", TIMEOUT_OUT_OF_RANGE),
    ],
)
def test_timeouts_that_are_none(local: LocalClient, timeout: str, error: Any) -> None:
    local("SET", "s", "text")
    assert local("BLPOP", "s", timeout) == local("BRPOP", "s", timeout) == error
    assert (
        local("BLMOVE", "s", "s", "LEFT", "LEFT", timeout) == local("BRPOPLPUSH", "s", "s", timeout) == error
    )
    assert local("BLMPOP", timeout, 1, "s", "LEFT") == error


def test_who_is_gone_is_forgotten(local: LocalClient, waiter: Waiter) -> None:
    gone, stays = waiter("BLPOP", "l", "m", 0), waiter("BLPOP", "l", 0)
    local.server.remove_client(gone.client)
    local("RPUSH", "l", "a")
    assert stays.pushed() == [[b"l", b"a"]]
    assert gone.wire.data == b""
    local("RPUSH", "m", "x")
    assert local("LRANGE", "m", 0, -1) == [b"x"]
    assert_nobody_waits(local)


def test_who_is_being_closed_takes_nothing(local: LocalClient, waiter: Waiter) -> None:
    closing, stays = waiter("BLPOP", "l", 0), waiter("BLPOP", "l", 0)
    local.server.close_client(closing.client)
    local("RPUSH", "l", "a", "b")
    assert closing.wire.data == b""
    assert stays.pushed() == [[b"l", b"a"]]
    assert local("LRANGE", "l", 0, -1) == [b"b"]


def test_a_wait_can_be_ended_from_outside(local: LocalClient, waiter: Waiter) -> None:
    client = waiter("BLMOVE", "l", "m", "LEFT", "LEFT", 0)
    wait = client.client.wait
    assert wait is not None
    end_wait(wait, UNBLOCKED)
    local.turn()
    assert client.pushed() == [UNBLOCKED]
    local("RPUSH", "l", "a")
    assert local("LLEN", "l") == 1
    assert client("BLPOP", "l", 0) == [b"l", b"a"]


def test_deadlines_of_those_who_were_served_are_not_kept(local: LocalClient) -> None:
    client = local.connect()
    for n in range(1000):
        assert client.raw("BLPOP", "l", 3600 + n % 7) == b""
        local("RPUSH", "l", n)
        assert client.pushed() == [[b"l", b"%d" % n]]
    assert len(local.server.waits._deadlines) < 200
    assert local.server.waits.next_deadline_ms == 0
    assert local.server.waits._over == 0


def test_deadlines_stay_in_order_through_clearing(local: LocalClient, waiter: Waiter) -> None:
    chance = random.Random(1)
    clients = [
        (seconds, waiter("BLPOP", f"k{seconds}", seconds)) for seconds in chance.sample(range(1, 999), 300)
    ]
    for seconds, client in clients[:200]:
        local("RPUSH", f"k{seconds}", "x")
        assert client.pushed() == [[b"k%d" % seconds, b"x"]]
    waits: Waits = local.server.waits
    for seconds, client in sorted(clients[200:], key=lambda pair: pair[0]):
        assert waits.next_deadline_ms == local.clock.now_ms + seconds * 1000
        wait = client.client.wait
        assert wait is not None
        end_wait(wait, None)
    local.turn()
    assert_nobody_waits(local)


# -- nothing is lost -------------------------------------------------------------------------------


def test_popping_transactions_and_waiting_pops_lose_nothing(local: LocalClient) -> None:
    """Producers push alone and in transactions, consumers wait and poll, some of them vanish: each element is
    delivered to exactly one, or still there; nothing changes when the database is opened anew."""
    chance = random.Random(5)
    produced = 0
    consumers = [local.connect() for _ in range(6)]
    waiting_pops = ("BRPOP q 0", "BLPOP other q 0", "BRPOPLPUSH q done 0", "BLMPOP 0 2 other q LEFT COUNT 3")
    taken: list[bytes] = []

    def collect(client: LocalClient) -> None:
        for reply in client.pushed():
            if isinstance(reply, list) and len(reply) == 2:
                taken.extend(reply[1] if isinstance(reply[1], list) else [reply[1]])

    for _ in range(1500):
        at = chance.randrange(len(consumers))
        match chance.randrange(7):
            case 0 | 1 | 2:
                if not is_waiting(consumers[at]):
                    consumers[at].run(tuple(chance.choice(waiting_pops).split()))
            case 3 | 4:
                count = chance.randint(1, 4)
                local.run(
                    ("MULTI",),
                    *(("LPUSH", "q", produced + n) for n in range(count)),
                    *([("BRPOP", "q", 0)] if chance.random() < 0.3 else []),
                    ("EXEC",),
                )
                produced += count
                executed = local.pushed()[-1]
                taken += [executed[-1][1]] if isinstance(executed[-1], list) else []
            case 5:
                local.run(("LPUSH", "q", produced), ("RPOP", "q"), ("LPUSH", "q", produced + 1))
                reply = local.pushed()[1]
                taken += [] if reply is None else [reply]
                produced += 2
            case 6:
                if chance.random() < 0.5:
                    local.server.remove_client(consumers[at].client)
                else:
                    local.server.close_client(consumers[at].client)
                collect(consumers[at])
                consumers[at] = local.connect()
        for client in consumers:
            collect(client)
    local.reload()
    rest = local("LRANGE", "q", 0, -1) + local("LRANGE", "done", 0, -1)
    assert sorted(map(int, taken + rest)) == list(range(produced))


def test_a_commit_that_fails_gives_back_what_was_taken(
    local: LocalClient, waiter: Waiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    local("RPUSH", "kept", "x")
    client, other = waiter("BLMOVE", "l", "kept", "LEFT", "LEFT", 0), waiter("BLPOP", "l", 0)

    def no_commit() -> None:
        local.server.databases.rollback()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(local.server.databases, "commit", no_commit)
    reply = local("RPUSH", "l", "a")
    assert reply.message.startswith(b"MISCONF")
    monkeypatch.undo()
    assert client.pushed() == [reply]
    assert is_waiting(other)
    local.server.try_writing()
    assert local("LRANGE", "kept", 0, -1) == [b"x"]
    assert local("LRANGE", "l", 0, -1) == []
    assert local("RPUSH", "l", "b") == 1
    assert other.pushed() == [[b"l", b"b"]]


def test_an_element_that_cannot_be_moved_undoes_the_push(
    local: LocalClient, waiter: Waiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = waiter("BLMOVE", "l", "m", "LEFT", "LEFT", 0)

    def break_off(*_: Any, **__: Any) -> bytes:
        raise CorruptionError("000001.seg", 0, "block checksum")

    monkeypatch.setattr(lists, "push", break_off)
    pushing = local.connect()
    lists.store(local.client.keyspace, b"l", [b"a"])
    reply = pushing("GET", "nothing")
    monkeypatch.undo()
    assert b"corruption" in reply.message
    assert client.pushed() == [reply]
    assert local("DBSIZE") == 0
    assert_nobody_waits(local)

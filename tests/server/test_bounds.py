"""What one client can take of the server: memory and time are bounded, whatever it sends."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from harness.local import LocalClient, Servers, Wire
from lamina.server.clock import ManualClock
from lamina.server.config import Config
from lamina.server.connection import Connection
from lamina.server.dispatch import OUTPUT_PER_TURN_BYTES, run_commands
from lamina.server.elements import LOADED_EVER, Elements
from lamina.server.errors import CommandError
from lamina.server.server import Server
from lamina.server.store import Store


class PacedTransport(Wire):
    """A transport that knows whether it is read from, and how it was ended."""

    def __init__(self) -> None:
        super().__init__()
        self.is_read = True
        self.is_aborted = False

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1) if name in ("peername", "sockname") else None

    def set_write_buffer_limits(self, high: int) -> None: ...

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True

    def abort(self) -> None:
        self.is_closed = self.is_aborted = True


def connect(local: LocalClient) -> tuple[Connection, PacedTransport]:
    connection, transport = Connection(local.server), PacedTransport()
    connection.connection_made(transport)  # type: ignore[arg-type]
    return connection, transport


def reads(transport: PacedTransport) -> bool:
    return transport.is_read


def encode(*arguments: bytes) -> bytes:
    return b"*%d\r\n" % len(arguments) + b"".join([b"$%d\r\n%b\r\n" % (len(one), one) for one in arguments])


# --- Caches


def test_caches_are_bounded_while_nobody_writes(make_local: Servers) -> None:
    local = make_local.make()
    local.server.databases.cache_bytes = 40_000
    for n in range(2000):
        local("SET", f"string {n}", "x" * 50)
        if n % 4 == 0:
            local("SET", f"expiring {n}", "x", "EX", 1000)
    local.reload()
    for n in range(2000):
        local("GET", f"string {n}")
        if n % 4 == 0:
            local("GET", f"expiring {n}")
        store, keyspace = local.server.databases.store, local.client.keyspace
        assert sum(map(len, (store.hot, *store.warm))) <= 400
        assert sum(map(len, (keyspace.cache, *keyspace.cold))) <= 100


def test_a_generation_of_the_caches_is_let_go_in_several_turns(make_local: Servers) -> None:
    """Nobody has to wait until all of it has been freed."""
    local = make_local.make()
    databases = local.server.databases
    warm = {b"%d" % n: b"x" for n in range(2500)}
    databases.store.warm = [warm]
    databases.age_caches()
    sizes = []
    for _ in range(4):
        local("PING")
        sizes.append(len(warm))
    assert sizes == [1500, 500, 500, 500]  # what is as small as that goes as a whole


def test_codes_that_scripts_invent_are_bounded(local: LocalClient) -> None:
    for n in range(300):
        reply = local("EVAL", "return redis.error_reply(ARGV[1])", 0, f"CODE{n} of an error")
        assert isinstance(reply, CommandError)
    counts = local.server.stats.errors
    assert len(counts) == 129
    assert sum(counts.values()) == 300
    assert b"errorstat_ERRORSTATS_OVERFLOW:count=172" in local("INFO", "errorstats")


@pytest.mark.parametrize(
    ("memory", "memtable_size", "expected"),
    [("256mb", "0", 32 << 20), ("4gb", "0", 64 << 20), ("4gb", "500mb", 500 << 20)],
)
def test_more_memory_makes_no_larger_memtables(
    tmp_path: Path, memory: str, memtable_size: str, expected: int
) -> None:
    config = Config()
    config.load_arguments(["--dir", str(tmp_path), "--memory", memory, "--memtable-size", memtable_size])
    server = Server(config)
    assert server.databases.store.db.options.memtable_budget_bytes == expected
    server.close()


def test_more_memory_makes_more_generations(make_local: Servers) -> None:
    local = make_local.make(memory="1gb")
    databases = local.server.databases
    local.pipeline(*[("SET", f"expiring {n}", n, "EX", 1000) for n in range(3)])
    local.reload()
    assert databases.generation_bytes == 32 << 20
    local("GET", "expiring 0")
    for age in range(7):
        databases.age_caches()
        assert len(databases.store.warm) == len(local.client.keyspace.cold) == age + 1
    for n in (1, 0):
        local("GET", f"expiring {n}")
    assert set(local.client.keyspace.cache) == {b"expiring 0", b"expiring 1"}
    assert not any(local.client.keyspace.cold)
    databases.age_caches()
    assert len(databases.store.warm) == 7


def test_strings_are_weighed_once_however_they_come(make_local: Servers) -> None:
    """Also those that are named several times in one command, and not those that are too large to be hot."""
    local = make_local.make()
    local("MSET", *[word for n in range(50) for word in (f"n{n}", n)], "large", "x" * 5000)
    store = local.server.databases.store
    store.db.flush()
    for turn in range(5):
        local("MGET", *["n1"] * 50)
        local.pipeline(*[("GET", "n2")] * 50)
        local("MGET", *[f"n{n}" for n in range(turn * 10, 50)], "large")
        hot_bytes = sum(map(len, store.hot)) + sum(map(len, store.hot.values()))
        per_entry = (store.weight - hot_bytes) / len(store.hot)
        assert 100 < per_entry < 200
    assert len(store.hot) == 50


def test_what_is_written_is_not_hot(make_local: Servers) -> None:
    """It lies in the memtable, and in one large dict only."""
    local = make_local.make()
    local("MSET", *[word for n in range(8) for word in (f"n{n}", n)])
    local.reload()
    store = local.server.databases.store
    store.db.flush()
    local("MGET", *[f"n{n}" for n in range(8)])
    assert len(store.hot) == 8
    local.server.databases.age_caches()
    local("GET", "n0")
    local("SET", "n0", "x")
    local("SET", "n1", "x")
    local("INCR", "n2")
    local("APPEND", "n3", "x")
    local("DEL", "n4")
    local("EXPIRE", "n5", 100)
    local.pipeline(*[("SET", f"n{n}", "y") for n in (6, 7, 8, 9)])
    assert not store.hot
    assert not any(store.warm)


@pytest.mark.parametrize("kind", ["set", "zset", "list", "hash"])
def test_collections_that_are_only_read_count_as_cached(make_local: Servers, kind: str) -> None:
    local = make_local.make()
    fill, look = {
        "set": (("SADD", "{}", *range(100)), ("SISMEMBER", "{}", 5)),
        "hash": (("HSET", "{}", *range(200)), ("HGET", "{}", 4)),
        "zset": (("ZADD", "{}", *range(200)), ("ZRANK", "{}", 5)),
        "list": (("RPUSH", "{}", *range(100)), ("LRANGE", "{}", 0, -1)),
    }[kind]
    for n in range(60):
        local(*[str(word).format(n) for word in fill])
    local.reload()
    local.server.databases.cache_bytes = 100_000
    for n in range(60):
        for _ in range(5):
            local(*[str(word).format(n) for word in look])
        keyspace = local.client.keyspace
        records = [record for table in (keyspace.cache, *keyspace.cold) for record in table.values()]
        assert sum(record.held_bytes() for record in records) < 150_000


def test_values_that_are_overwritten_by_large_ones_are_weighed() -> None:
    elements = Elements(Store(None), b"p", 0)  # type: ignore[arg-type]
    for n in range(100):
        elements.put_known(b"%d" % n, b"small", True)
    before = elements.held_bytes()
    for n in range(100):
        elements.put_known(b"%d" % n, b"x" * 50_000, False)
    assert elements.held_bytes() >= before + 100 * 50_000
    assert len(elements) < LOADED_EVER


# --- Pipelines


def test_a_pipeline_of_large_reads_is_served_in_pieces(local: LocalClient) -> None:
    for n in range(20):
        local("SET", f"k{n}", b"%d" % n * 30_000)
    client = local.client
    run_commands(client, [[b"GET", b"k%d" % (n % 20)] for n in range(5000)])
    gathered = sum(map(len, client.out))
    assert OUTPUT_PER_TURN_BYTES < gathered < 40 * OUTPUT_PER_TURN_BYTES
    assert len(client.pending) > 3000
    local.turn()
    replies = local.pushed()
    assert replies == [b"%d" % (n % 20) * 30_000 for n in range(5000)]


def test_who_sends_much_at_once_takes_turns_with_the_others(local: LocalClient) -> None:
    connection, transport = connect(local)
    connection.data_received(encode(b"INCR", b"n") * 10_000)
    assert not reads(transport)
    assert connection.client is not None
    assert len(connection.client.pending) > 7000
    local.turn()
    assert reads(transport)
    assert transport.data.endswith(b":10000\r\n")
    connection.data_received(encode(b"INCR", b"n"))
    assert reads(transport)
    connection.data_received(encode(b"INCR", b"n") * 10_000 + encode(b"BLPOP", b"list", b"0"))
    local.turn()
    assert reads(transport), "who waits is read from, so that it is noticed when it goes"


def test_what_waits_behind_a_wait_is_bounded_in_bytes(make_local: Servers) -> None:
    local = make_local.make()
    connection, transport = connect(local)
    connection.data_received(encode(b"BLPOP", b"list", b"0"))
    sent = 0
    while reads(transport):
        connection.data_received(encode(b"SET", b"k", b"x" * 50_000))
        sent += 1
        assert sent < 100
    local("RPUSH", "list", "x")
    assert reads(transport)
    assert transport.data.count(b"+OK\r\n") == sent


def test_a_request_that_never_ends_is_bounded_behind_a_wait_too(make_local: Servers) -> None:
    local = make_local.make(client_query_buffer_limit="1mb")
    connection, transport = connect(local)
    connection.data_received(encode(b"BLPOP", b"list", b"0"))
    connection.data_received(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000000\r\n")
    for _ in range(30):
        connection.data_received(b"x" * 60_000)
    assert transport.is_aborted
    assert local.server.stats.query_limit_disconnections == 1


def test_many_small_arguments_count_with_what_they_take(make_local: Servers) -> None:
    local = make_local.make(client_query_buffer_limit="1mb")
    connection, transport = connect(local)
    connection.data_received(b"*1000000\r\n")
    for _ in range(30):
        connection.data_received(b"$1\r\nx\r\n" * 1000)
    assert transport.is_aborted


def test_what_is_queued_for_exec_is_bounded(make_local: Servers) -> None:
    local = make_local.make(client_query_buffer_limit="1mb")
    connection, transport = connect(local)
    connection.data_received(encode(b"MULTI"))
    for _ in range(40):
        connection.data_received(encode(b"SET", b"k", b"x" * 50_000))
    local.turn()
    assert transport.is_aborted
    assert local("EXISTS", "k") == 0
    assert local.server.stats.query_limit_disconnections == 1
    assert local("MULTI") == b"OK"
    for _ in range(3):  # EXEC and DISCARD free what was queued
        for _ in range(10):
            assert local("SET", "k", "x" * 50_000) == b"QUEUED"
        assert local("DISCARD") == b"OK"
        assert local("MULTI") == b"OK"
    assert local("EXEC") == []


def test_idle_clients_go_though_they_do_not_read(make_local: Servers) -> None:
    """To wait until they have read what was written to them would be to wait for ever."""
    local = make_local.make(timeout=10)
    _, idle = connect(local)
    connection, busy = connect(local)
    local.clock.advance(11_000)
    connection.data_received(encode(b"PING"))
    local.wait_out(1000)
    assert idle.is_aborted
    assert not busy.is_closed


# --- Many at once


def test_many_large_collections_are_removed_in_one_turn(
    local: LocalClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is pending is looked through once, and not for each of them."""
    for n in range(50):
        local("SADD", f"set {n}", *range(100))
    looks = 0
    forget = Store._forget_discarded

    def counting(store: Store) -> None:
        nonlocal looks
        looks += 1
        forget(store)

    monkeypatch.setattr(Store, "_forget_discarded", counting)
    assert local("UNLINK", *[f"set {n}" for n in range(50)]) == 50
    assert looks == 1


def test_what_is_discarded_is_not_written(local: LocalClient) -> None:
    """Collections that come and go within a turn, alone and in databases that are emptied."""
    local.pipeline(
        ("SADD", "gone", *range(500)),
        ("SADD", "stays", *range(500)),
        ("DEL", "gone"),
        ("SELECT", 1),
        ("SADD", "gone", *range(500)),
        ("ZADD", "gone too", *range(1000)),
        ("DEL", "gone too"),
        ("FLUSHDB",),
        ("SADD", "stays", *range(100)),
        ("SELECT", 0),
    )
    local.reload()
    assert local("SCARD", "stays") == 500
    assert local("DBSIZE") == 1
    local("SELECT", 1)
    assert local("SCARD", "stays") == 100


def test_leaving_patterns_forgets_how_they_match(local: LocalClient) -> None:
    other = local.connect()
    local("PSUBSCRIBE", "a*")
    other("PSUBSCRIBE", "a*")
    other("PSUBSCRIBE", "b*")
    matchers = local.server.pubsub._matchers
    assert set(matchers) == {b"a*", b"b*"}
    other.run(("PUNSUBSCRIBE",))
    assert set(matchers) == {b"a*"}
    local.run(("PUNSUBSCRIBE", "a*", "c*", "a*"))
    assert not matchers


# --- Time


class PassingClock(ManualClock):
    """A clock that goes on in the middle of turns, and shows it when it is read."""

    __slots__ = ("real_ms",)

    def __init__(self) -> None:
        super().__init__()
        self.real_ms = self.now_ms

    def tick(self) -> None:
        self.advance(self.real_ms - self.now_ms)


def test_a_wait_begins_when_it_begins_however_long_the_turn_is(local: LocalClient) -> None:
    server = local.server
    server.clock = server.databases.clock = clock = PassingClock()
    clock.real_ms += 5000  # something else has taken five seconds of this turn
    local.run(("BLPOP", "list", 1))
    assert server.waits.next_deadline_ms == clock.real_ms + 1000


def test_who_comes_after_a_slow_command_sees_the_time_after_it(make_local: Servers) -> None:
    local = make_local.make(slowlog_log_slower_than=0)
    server = local.server
    clock = PassingClock()
    server.clock = server.databases.clock = clock
    for keyspace in server.databases.keyspaces:
        keyspace.clock = clock
    clock.real_ms += 5000
    local.pipeline(("DBSIZE",), ("SET", "k", "v", "PX", 1000))
    assert local("PEXPIRETIME", "k") == clock.real_ms + 1000


# --- Faults of pipelines that are run at once


@pytest.mark.parametrize("error", [OSError(errno.EIO, "the disk"), RuntimeError("a fault of our own")])
def test_a_pipeline_that_breaks_off_half_way_leaves_nothing_half_done(
    local: LocalClient, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    local("SADD", "set", *[f"member {n}" for n in range(600)])
    put = Elements.put
    count = 0

    def failing(elements: Elements, element: bytes, value: bytes) -> bool:
        nonlocal count
        count += 1
        if count == 3:
            raise error
        return put(elements, element, value)

    monkeypatch.setattr(Elements, "put", failing)
    replies = local.pipeline(*[("SADD", "set", f"new {n}") for n in range(6)])
    assert replies == [1] * 6, "they are run again, one by one"
    assert local("SCARD", "set") == 606
    assert not any(isinstance(reply, CommandError) for reply in replies)


def test_a_soft_limit_holds_for_who_is_written_to_no_more(
    make_local: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = make_local.make()
    local("CONFIG", "SET", "client-output-buffer-limit", "normal 0 1mb 10")
    connection, transport = connect(local)
    monkeypatch.setattr(transport, "get_write_buffer_size", lambda: 2 << 20)
    connection.pause_writing()
    for _ in range(11):
        assert not transport.is_aborted
        local.clock.advance(1000)
        local.server.cron.run()
    local.clock.advance(1000)
    local.server.cron.run()
    assert transport.is_aborted
    assert local.server.stats.output_limit_disconnections == 1

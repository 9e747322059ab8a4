"""The file that BGSAVE and SAVE write, loaded by a real redis-server."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import pytest

from harness.contents import contents, problems_of
from harness.resp import Argument, RespClient
from harness.servers import NO_REDIS, RedisServer, Server, StartServer, has_redis

pytestmark = pytest.mark.skipif(not has_redis(), reason=NO_REDIS)

FILL: list[tuple[Argument, ...]] = [
    ("SET", "string", "hello"),
    ("SET", "integer", -123456789),
    ("SET", b"\x00\xff\r\n", b"\xff" * 30),
    ("SET", "", "empty"),
    ("SET", "expiring", "x", "PX", 1_000_000),
    ("SETRANGE", "big", 300_000, "end"),
    ("RPUSH", "list", *range(5000), "x" * 10_000),
    ("RPUSH", "short list", "a", 1, "b" * 100),
    ("LINSERT", "list", "BEFORE", 2500, "squeezed in"),
    ("SADD", "intset", *range(-50, 50)),
    ("SADD", "set", *range(2000), "a"),
    ("SADD", "small set", "a", "b", 3),
    ("ZADD", "zset", *[word for i in range(3000) for word in ((i * 7919 % 3001) / 8 - 100, f"m{i}")]),
    ("ZADD", "small zset", 1, "a", "-inf", "b", "inf", "c"),
    ("HSET", "hash", *[word for i in range(3000) for word in (f"f{i}", i)]),
    ("HSET", "small hash", "f", 1, "g", "x"),
    ("EXPIRE", "hash", 5000),
    *(("XADD", "stream", f"{n}-{n % 3}", "n", n, "text", "x" * (n % 50)) for n in range(1, 700)),
    ("XTRIM", "stream", "MAXLEN", 600),
    ("XDEL", "stream", "300-0", "301-1", "699-0"),
    ("XGROUP", "CREATE", "stream", "g", 0),
    ("XGROUP", "CREATE", "stream", "idle", "$", "ENTRIESREAD", 7),
    ("XREADGROUP", "GROUP", "g", "ann", "COUNT", 300, "STREAMS", "stream", ">"),
    ("XREADGROUP", "GROUP", "g", "bob", "COUNT", 100, "STREAMS", "stream", ">"),
    ("XACK", "stream", "g", *(f"{n}-{n % 3}" for n in range(100, 400, 7))),
    ("XDEL", "stream", "150-0"),
    ("XGROUP", "CREATE", "empty stream", "g", "$", "MKSTREAM"),
]


def wait_until_saved(client: RespClient) -> None:
    deadline = time.monotonic() + 60
    while b"rdb_bgsave_in_progress:1" in client.ok("INFO", "persistence"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert b"rdb_last_bgsave_status:ok" in client.ok("INFO", "persistence")


def redis_with(dump: Path, directory: Path) -> Server:
    """Return a redis-server, not yet started, that will load a file."""
    server = RedisServer(directory)
    shutil.copy(dump, server.data / "dump.rdb")
    return server


@pytest.mark.parametrize("compression", ["yes", "no"])
@pytest.mark.parametrize("command", ["SAVE", "BGSAVE"])
def test_redis_loads_what_was_saved(
    start_lamina: StartServer, tmp_path: Path, command: str, compression: str
) -> None:
    lamina = start_lamina("--rdbcompression", compression, "--memtable-size", "64kb")
    with lamina.client() as client:
        for number in (0, 5, 15):
            client.ok("SELECT", number)
            for words in FILL:
                client.ok(*words)
        client.ok("SWAPDB", 5, 6)
        client.ok("SELECT", 0)
        client.ok(command)
        wait_until_saved(client)
        with redis_with(lamina.data / "dump.rdb", tmp_path / "redis") as redis, redis.client() as other:
            assert not problems_of(contents(client), contents(other))


def test_a_save_amid_writes_shows_one_moment(start_lamina: StartServer, tmp_path: Path) -> None:
    lamina = start_lamina("--memtable-size", "256kb")
    count = 20_000
    is_over = threading.Event()

    def write() -> None:
        """Write rounds, each of which is whole or not there at all."""
        with lamina.client() as client:
            number = 0
            while not is_over.is_set():
                number += 1
                client.pipeline(
                    [
                        ("MULTI",),
                        ("SET", "a", number),
                        ("RPUSH", "rounds", number),
                        ("HSET", "h", number, number),
                        ("ZADD", "z", number, number),
                        ("SET", f"k{number % count}", "changed"),
                        ("SET", "b", number),
                        ("EXEC",),
                    ]
                )

    with lamina.client() as client:
        for start in range(0, count, 1000):
            client.pipeline([("SET", f"k{i}", f"value {i}") for i in range(start, start + 1000)])
        writer = threading.Thread(target=write)
        writer.start()
        try:
            time.sleep(0.3)
            before = int(client.ok("GET", "a"))
            client.ok("BGSAVE")
            wait_until_saved(client)
            after = int(client.ok("GET", "a"))
        finally:
            is_over.set()
            writer.join()
    assert after > before
    with redis_with(lamina.data / "dump.rdb", tmp_path / "redis") as redis, redis.client() as client:
        number = int(client.ok("GET", "a"))
        assert before <= number <= after
        assert int(client.ok("GET", "b")) == number
        assert client.ok("LRANGE", "rounds", 0, -1) == [b"%d" % i for i in range(1, number + 1)]
        assert client.ok("HLEN", "h") == client.ok("ZCARD", "z") == number
        assert client.ok("DBSIZE") == count + 5
        values = client.ok("MGET", *[f"k{i}" for i in range(count)])
        changed = [i for i, value in enumerate(values) if value == b"changed"]
        assert changed == sorted(i % count for i in range(1, number + 1))[: len(changed)]
        assert len(changed) == min(number, count)

"""What programs do with redis-py, in both protocols."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import redis.asyncio

from harness.servers import Server

Client = Any
"""redis-py's return types are unions of the synchronous and the asynchronous result."""


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def protocol(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def client(server: Server, protocol: int) -> Iterator[Client]:
    with redis.Redis(port=server.port, protocol=protocol, socket_timeout=20) as client:
        yield client


@pytest.fixture
def text_client(server: Server, protocol: int) -> Iterator[Client]:
    with redis.Redis(port=server.port, protocol=protocol, decode_responses=True, socket_timeout=20) as client:
        yield client


def test_values_of_every_type(text_client: Client) -> None:
    client = text_client
    assert client.ping() is True
    assert client.set("a", 1, ex=100) is True
    assert client.incrby("a", 41) == 42
    assert 90 < client.ttl("a") <= 100
    assert client.set("a", "x", nx=True) is None
    assert client.getex("a", persist=True) == "42"
    assert client.ttl("a") == -1
    assert client.mget("a", "missing") == ["42", None]
    assert client.hset("h", mapping={"f": "v", "g": 2}) == 2
    assert client.hgetall("h") == {"f": "v", "g": "2"}
    assert client.hmget("h", "f", "x") == ["v", None]
    assert client.hincrbyfloat("h", "g", 0.5) == 2.5
    assert client.rpush("l", 1, 2, 3) == 3
    assert client.lrange("l", 0, -1) == ["1", "2", "3"]
    assert client.lmove("l", "k", "LEFT", "RIGHT") == "1"
    assert client.sadd("s", "x", "y") == 2
    assert client.smembers("s") == {"x", "y"}
    assert client.smismember("s", ["x", "z"]) == [1, 0]
    assert client.zadd("z", {"one": 1, "two": 2.5}) == 2
    assert client.zscore("z", "two") == 2.5
    assert client.zrank("z", "two") == 1
    assert [tuple(pair) for pair in client.zrange("z", 0, -1, withscores=True)] == [("one", 1), ("two", 2.5)]
    assert client.zincrby("z", 2, "one") == 3
    assert client.type("z") == "zset"
    assert client.xadd("x", {"f": "v"}, id="1-1") == "1-1"
    assert client.xrange("x") == [("1-1", {"f": "v"})]
    assert client.setbit("bits", 7, 1) == 0
    assert client.bitcount("bits") == 1
    assert client.pfadd("hll", "a", "b", "c") == 1
    assert client.pfcount("hll") == 3
    assert client.geoadd("geo", (13.361389, 38.115556, "Palermo")) == 1
    assert client.exists("a", "h", "missing") == 2
    assert client.delete("a", "h") == 2
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        client.lpush("z", 1)


def test_bits_sketches_and_places(text_client: Client) -> None:
    client = text_client
    assert client.setbit("bits", 7, 1) == 0
    assert client.bitcount("bits") == 1
    assert client.bitpos("bits", 1) == 7
    assert client.bitop("NOT", "inverted", "bits") == 1
    assert client.bitfield("bits").set("u8", "#1", 200).incrby("u8", "#1", 100, "SAT").execute() == [0, 255]
    assert client.pfadd("hll", "a", "b", "c") == 1
    assert client.pfcount("hll") == 3
    assert client.pfmerge("merged", "hll", "none")
    assert client.pfcount("merged", "hll") == 3
    assert client.geoadd("geo", (13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania")) == 2
    assert client.geodist("geo", "Palermo", "Catania", "km") == 166.2742
    assert client.geohash("geo", "Palermo") == ["sqc8b49rny0"]
    place, missing = client.geopos("geo", "Palermo", "none")
    assert list(place) == [13.361389338970184, 38.1155563954963]
    assert missing is None
    found = client.geosearch(
        "geo", longitude=15, latitude=37, radius=200, unit="km", sort="ASC", withdist=True
    )
    assert found == [["Catania", 56.4413], ["Palermo", 190.4424]]
    assert client.geosearchstore("near", "geo", member="Palermo", width=10, height=10, unit="km") == 1


def test_bytes_stay_bytes(client: Client) -> None:
    data = bytes(range(256)) + b"\r\n$-1\r\n"
    client.set(data, data)
    assert client.get(data) == data
    assert client.keys() == [data]
    big = data * 10_000
    client.set("big", big)
    assert client.get("big") == big
    assert client.getrange("big", 1_000_000, 1_000_003) == big[1_000_000:1_000_004]


def test_pipelines(client: Client) -> None:
    with client.pipeline(transaction=False) as pipeline:
        for number in range(5000):
            pipeline.set(f"k:{number}", number)
        assert pipeline.execute() == [True] * 5000
        for number in range(5000):
            pipeline.get(f"k:{number}")
        assert pipeline.execute() == [b"%d" % number for number in range(5000)]
        pipeline.set("a", "x").incr("a").get("a")
        replies = pipeline.execute(raise_on_error=False)
        assert isinstance(replies[1], redis.ResponseError)
        assert replies[2] == b"x"


def test_transactions(client: Client) -> None:
    with client.pipeline() as pipeline:
        assert pipeline.set("a", 1).incr("a").execute() == [True, 2]
        pipeline.watch("a")
        client.set("a", "changed")
        pipeline.multi()
        pipeline.set("a", "lost")
        with pytest.raises(redis.WatchError):
            pipeline.execute()
    assert client.get("a") == b"changed"
    client.set("counter", 0)

    def add_one(pipeline: Any) -> None:
        current = int(pipeline.get("counter"))
        pipeline.multi()
        pipeline.set("counter", current + 1)

    def add_many() -> None:
        for _ in range(20):
            client.transaction(add_one, "counter")

    threads = [threading.Thread(target=add_many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert client.get("counter") == b"80"


def test_iterators(client: Client) -> None:
    with client.pipeline(transaction=False) as pipeline:
        for number in range(1000):
            pipeline.set(f"k:{number}", number)
            pipeline.hset("h", f"f{number}", number)
            pipeline.sadd("s", number)
            pipeline.zadd("z", {f"m{number}": number})
        pipeline.execute()
    assert len(set(client.scan_iter("k:*", count=50))) == 1000
    assert dict(client.hscan_iter("h"))[b"f999"] == b"999"
    assert len(dict(client.hscan_iter("h", count=7))) == 1000
    assert len(set(client.sscan_iter("s"))) == 1000
    assert dict(client.zscan_iter("z"))[b"m5"] == 5.0
    assert set(client.scan_iter(_type="zset")) == {b"z"}


def test_messages(client: Client) -> None:
    with client.pubsub() as subscriber:
        subscriber.subscribe("news")
        subscriber.psubscribe("w*")
        kinds = [subscriber.get_message(timeout=10)["type"] for _ in range(2)]
        assert kinds == ["subscribe", "psubscribe"]
        assert client.publish("news", "hello") == 1
        assert client.publish("weather", b"\xff") == 1
        assert client.publish("nobody", "x") == 0
        first, second = (subscriber.get_message(timeout=10) for _ in range(2))
        assert (first["channel"], first["data"]) == (b"news", b"hello")
        assert (second["pattern"], second["channel"], second["data"]) == (b"w*", b"weather", b"\xff")
        assert client.pubsub_numsub("news") == [(b"news", 1)]
        subscriber.unsubscribe()
        assert subscriber.get_message(timeout=10)["type"] == "unsubscribe"


def test_blocking_calls(server: Server, client: Client, protocol: int) -> None:
    assert client.blpop("nothing", timeout=0.05) is None
    assert client.bzpopmin("nothing", timeout=0.05) is None
    results: list[Any] = []

    def wait() -> None:
        with redis.Redis(port=server.port, protocol=protocol, socket_timeout=20) as waiting:
            results.append(list(waiting.blpop(["queue", "other"], timeout=10)))
            results.append(waiting.blmove("queue", "done", timeout=10))

    thread = threading.Thread(target=wait)
    thread.start()
    while not client.info("clients")["blocked_clients"]:
        pass
    client.rpush("queue", "job 1", "job 2")
    thread.join(20)
    assert results == [[b"queue", b"job 1"], b"job 2"]
    assert client.lrange("done", 0, -1) == [b"job 2"]


def test_stream_groups(text_client: Client) -> None:
    client = text_client
    client.xgroup_create("x", "g", id="0", mkstream=True)
    ids = [client.xadd("x", {"n": number}) for number in range(5)]
    read = client.xreadgroup("g", "c", {"x": ">"}, count=3)
    batch = read["x"][0] if isinstance(read, dict) else read[0][1]
    assert [entry[0] for entry in batch] == ids[:3]
    assert client.xack("x", "g", ids[0]) == 1
    assert client.xpending("x", "g")["pending"] == 2
    assert client.xautoclaim("x", "g", "d", 0)[1][0][0] == ids[1]


def test_databases_and_names(server: Server, client: Client, protocol: int) -> None:
    with redis.Redis(port=server.port, db=3, protocol=protocol, client_name="third") as third:
        third.set("only", "here")
        assert client.get("only") is None
        assert third.dbsize() == 1
        assert third.client_getname() in (b"third", "third")
        assert any(entry["name"] == "third" for entry in client.client_list())
    assert client.info("keyspace")["db3"]["keys"] == 1
    assert int(client.config_get("databases")["databases"]) == 16


def test_users(server: Server, text_client: Client, protocol: int) -> None:
    client = text_client
    assert client.acl_setuser(
        "alice",
        enabled=True,
        passwords=["+secret"],
        keys=["app:*"],
        channels=["news"],
        categories=["+@read", "+@connection"],
        commands=["+set", "+publish", "-mget"],
        selectors=[("+set", "%W~out:*")],
    )
    try:
        user = client.acl_getuser("alice")
        assert user["enabled"] is True
        assert user["keys"] == ["~app:*"]
        assert user["channels"] == ["&news"]
        assert "+set" in user["commands"]
        assert "+@read" in user["categories"]
        assert sorted(client.acl_users()) == ["alice", "default"]
        assert client.acl_dryrun("alice", "get", "app:1") == "OK"
        assert "no permissions" in client.acl_dryrun("alice", "mget", "app:1")
        with redis.Redis(
            port=server.port, protocol=protocol, username="alice", password="secret", socket_timeout=20
        ) as alice:
            assert alice.set("app:1", "x")
            assert alice.set("out:1", "x")
            assert alice.get("app:1") == b"x"
            for refused in (
                lambda: alice.get("out:1"),
                lambda: alice.mget("app:1"),
                lambda: alice.publish("other", "x"),
                lambda: alice.acl_list(),
            ):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    refused()
            assert alice.publish("news", "x") == 0
        wrong = redis.Redis(port=server.port, protocol=protocol, username="alice", password="wrong")
        with wrong, pytest.raises(redis.exceptions.AuthenticationError):
            wrong.ping()
        assert [entry["reason"] for entry in client.acl_log(2)] == ["auth", "command"]
        assert client.acl_log_reset()
    finally:
        assert client.acl_deluser("alice") == 1


def test_asyncio(server: Server, protocol: int) -> None:
    async def main() -> None:
        async with redis.asyncio.Redis(port=server.port, protocol=protocol, socket_timeout=20) as client:
            await asyncio.gather(*(client.set(f"k:{number}", number) for number in range(50)))
            values = await asyncio.gather(*(client.get(f"k:{number}") for number in range(50)))
            assert values == [b"%d" % number for number in range(50)]
            found = {key async for key in client.scan_iter("k:*")}
            assert len(found) == 50
            async with client.pubsub() as subscriber:
                await subscriber.subscribe("news")
                await client.publish("news", "hello")
                messages = [await subscriber.get_message(timeout=10) for _ in range(2)]
                assert messages[1]["data"] == b"hello"

    asyncio.run(main())

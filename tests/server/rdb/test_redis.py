"""Files and payloads against a real redis-server, in both directions and in all encodings that it has."""

from __future__ import annotations

import io
from collections.abc import Mapping

import pytest

from harness import rdbdata, rdbfiles
from harness.contents import contents, problems_of
from harness.resp import ErrorReply, RespClient
from harness.servers import Server, StartServer
from lamina.server.rdb import opcodes, payload
from lamina.server.rdb.loading import RdbReader
from lamina.server.rdb.rules import SavingRules
from lamina.server.rdb.saving import RdbWriter
from lamina.server.rdb.values import Aux, DatabaseSize, Function, Key, ListValue, Skipped

COMPRESSION = pytest.mark.parametrize("compression", ["no", "yes"])
LIMITS = pytest.mark.parametrize("name", list(rdbdata.LIMITS))

LIBRARY = b"#!lua name=mylib\nredis.register_function('f', function(keys, args) return 1 end)"

ALL_TYPES = {
    opcodes.STRING,
    opcodes.SET,
    opcodes.HASH,
    opcodes.ZSET_2,
    opcodes.SET_INTSET,
    opcodes.HASH_LISTPACK,
    opcodes.ZSET_LISTPACK,
    opcodes.LIST_QUICKLIST_2,
    opcodes.STREAM_LISTPACKS_2,
}
"""What Redis 7.0 writes."""


def filled(server: Server, name: str, compression: str) -> RespClient:
    """Return a client of a server that holds everything in encodings as `name` says."""
    client = server.client()
    client.ok("FLUSHALL")
    client.ok("FUNCTION", "FLUSH")
    client.ok("CONFIG", "SET", "rdbcompression", compression)
    rdbdata.configure(client, rdbdata.LIMITS[name])
    rdbdata.fill(client)
    return client


def saved(server: Server, client: RespClient) -> bytes:
    """Return the file that the server writes."""
    client.ok("SAVE")
    return (server.data / "dump.rdb").read_bytes()


def rules_for(limits: Mapping[str, str]) -> SavingRules:
    """Return rules by which the same encodings are chosen as by a server of these limits."""
    limit = {name: int(value) for name, value in {**rdbdata.DEFAULTS, **limits}.items()}
    return SavingRules(
        version=opcodes.REDIS_70,
        hash_listpack_entries=limit["hash-max-listpack-entries"],
        hash_listpack_value=limit["hash-max-listpack-value"],
        list_max_listpack_size=limit["list-max-listpack-size"],
        set_intset_entries=limit["set-max-intset-entries"],
        zset_listpack_entries=limit["zset-max-listpack-entries"],
        zset_listpack_value=limit["zset-max-listpack-value"],
        stream_node_max_bytes=limit["stream-node-max-bytes"],
        stream_node_max_entries=limit["stream-node-max-entries"],
    )


def copied(data: bytes, rules: SavingRules) -> bytes:
    """Return a file read and written again."""
    file = io.BytesIO()
    writer = RdbWriter(file, rules)
    for item in RdbReader(io.BytesIO(data)):
        writer.write(item)
    writer.finish()
    assert writer.position == len(file.getvalue())
    return file.getvalue()


@LIMITS
@COMPRESSION
def test_what_redis_saves_is_read_as_it_was(redis_server: Server, name: str, compression: str) -> None:
    with filled(redis_server, name, compression) as client:
        items = rdbfiles.items_of(saved(redis_server, client))
        keys = [item for item in items if isinstance(item, Key)]
        assert {item.database for item in keys} == {0, 3}
        for database in (0, 3):
            client.ok("SELECT", database)
            found = {item.key: item for item in keys if item.database == database}
            assert set(found) == set(client.ok("KEYS", "*"))
            expiring = sum(item.expires_ms > 0 for item in found.values())
            assert DatabaseSize(database, len(found), expiring) in items
            for key, item in found.items():
                value = item.value[:2] if item.value[:1] == ("stream",) else item.value
                assert value == rdbfiles.value_of(client, key), key
                assert item.expires_ms == max(client.ok("PEXPIRETIME", key), 0)


@LIMITS
@COMPRESSION
def test_redis_loads_what_is_written(
    redis_server: Server, start_redis: StartServer, name: str, compression: str
) -> None:
    compress = compression == "yes"
    with filled(redis_server, name, compression) as client:
        client.ok("FUNCTION", "LOAD", LIBRARY)
        before = contents(client)
        data = saved(redis_server, client)
    other = start_redis()
    other.stop()
    (other.data / "dump.rdb").write_bytes(copied(data, SavingRules(version=10, compress=compress)))
    other.start()
    with other.client() as client:
        assert not problems_of(before, contents(client))
        assert client.ok("FUNCTION", "LIST")[0][1] == b"mylib"


@LIMITS
def test_payloads_are_byte_for_byte_those_of_redis(redis_server: Server, name: str) -> None:
    with filled(redis_server, name, "no") as client:
        if name == "short nodes":
            client.ok("CONFIG", "SET", "list-compress-depth", "0")
        rules = rules_for(rdbdata.LIMITS[name])
        # Deleted entries stay in a stream's nodes until those are rewritten, so they are not the same.
        with_gaps = (b"stream:gaps", b"stream:various", b"stream:pending")
        codes = set()
        for key in client.ok("KEYS", "*"):
            if name == "short nodes" and key.startswith(b"list:"):
                continue  # compressed in memory, and written like that
            theirs = client.ok("DUMP", key)
            codes.add(theirs[0])
            if key not in with_gaps:
                assert payload.encode(payload.decode(theirs), rules) == theirs, key
        if name == "defaults":
            assert codes == ALL_TYPES


@LIMITS
@COMPRESSION
@pytest.mark.parametrize("compress", [False, True], ids=["plain", "compress"])
def test_redis_restores_payloads(redis_server: Server, name: str, compression: str, compress: bool) -> None:
    rules = SavingRules(version=10, compress=compress, list_max_listpack_size=-1, hash_listpack_entries=3)
    with filled(redis_server, name, compression) as client:
        client.ok("CONFIG", "SET", "sanitize-dump-payload", "yes")
        before = contents(client)[0]
        for key in before:
            value = payload.decode(client.ok("DUMP", key))
            ttl_ms = max(client.ok("PTTL", key), 0)
            client.ok("RESTORE", key, ttl_ms, payload.encode(value, rules), "REPLACE")
            # A payload read from another one says the same as what Redis makes of it.
            assert rdbfiles.plain(payload.decode(client.ok("DUMP", key))) == rdbfiles.plain(value)
        assert not problems_of({0: before}, {0: contents(client)[0]})
        client.ok("CONFIG", "SET", "sanitize-dump-payload", "no")


def test_plain_nodes_of_lists(redis_server: Server) -> None:
    elements = [b"short", b"x" * 300, b"7", b"y" * 400, b""]
    with filled(redis_server, "defaults", "no") as client:
        client.ok("DEBUG", "QUICKLIST-PACKED-THRESHOLD", "200b")
        client.ok("RPUSH", "list:plain", *elements)
        theirs = client.ok("DUMP", "list:plain")
        value = payload.decode(theirs)
        assert rdbfiles.plain(value) == ("list", elements)
        mine = payload.encode(value, SavingRules(version=10, list_plain_value=200))
        assert mine == theirs
        client.ok("DEBUG", "QUICKLIST-PACKED-THRESHOLD", "0")


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu"])
def test_idle_times_and_frequencies(start_redis: StartServer, policy: str) -> None:
    server = start_redis("--maxmemory-policy", policy, "--maxmemory", "100mb")
    with server.client() as client:
        client.ok("SET", "a", 1)
        client.ok("SET", "b", 1, "PXAT", 33_333_333_333_333)
        client.ok("RPUSH", "c", 1)
        data = saved(server, client)
        keys = [item for item in rdbfiles.items_of(data) if isinstance(item, Key)]
        assert len(keys) == 3
        if policy == "allkeys-lru":
            assert all(0 <= item.idle_s < 60 and item.frequency == -1 for item in keys)
        else:
            assert all(item.idle_s == -1 and item.frequency == 5 for item in keys)
        # Nothing is lost in a copy, and Redis reads it.
        assert rdbfiles.items_of(copied(data, SavingRules(version=10))) == rdbfiles.items_of(data)
        (server.data / "dump.rdb").write_bytes(copied(data, SavingRules(version=10)))
        client.ok("DEBUG", "RELOAD", "NOSAVE")
        assert client.ok("DBSIZE") == 3


def test_what_a_file_says_of_itself(redis_server: Server) -> None:
    with filled(redis_server, "defaults", "yes") as client:
        client.ok("FUNCTION", "LOAD", LIBRARY)
        data = saved(redis_server, client)
        client.ok("FUNCTION", "FLUSH")
    reader = RdbReader(io.BytesIO(data))
    items = list(reader)
    assert reader.version == 10
    assert reader.position == len(data)
    about = {item.name: item.value for item in items if isinstance(item, Aux)}
    assert about[b"redis-ver"].startswith(b"7.0")
    assert about[b"redis-bits"] == b"64"
    assert [item.code for item in items if isinstance(item, Function)] == [LIBRARY]
    assert not [item for item in items if isinstance(item, Skipped)]


def test_a_large_list_is_written_as_a_row_of_strings(start_redis: StartServer) -> None:
    elements = [[b"element %d of chunk %d" % (at, chunk) for at in range(1000)] for chunk in range(200)]
    file = io.BytesIO()
    writer = RdbWriter(file, SavingRules(version=10))
    writer.select_database(0, 1, 0)
    writer.write_key(b"large", ListValue(elements, 200_000))
    writer.finish()
    assert file.getvalue()[9 + 2 + 3] == opcodes.LIST
    server = start_redis()
    server.stop()
    (server.data / "dump.rdb").write_bytes(file.getvalue())
    server.start()
    with server.client() as client:
        assert client.ok("LLEN", "large") == 200_000
        assert client.ok("LRANGE", "large", 100_998, 101_001) == [*elements[100][998:], *elements[101][:2]]


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(opcodes.STREAM_LISTPACKS, id="of Redis 5"),
        pytest.param(opcodes.STREAM_LISTPACKS_2, id="of Redis 7"),
    ],
)
def test_what_redis_makes_of_the_counters_of_old_streams(redis_server: Server, code: int) -> None:
    number = rdbfiles.length
    with redis_server.client() as client:
        client.ok("FLUSHALL")
        client.ok("CONFIG", "SET", "rdbcompression", "no")
        for at in range(1, 11):
            client.ok("XADD", "s", f"{at}-0", "f", at)
        raw = client.ok("DUMP", "s")
        # Behind the nodes: size, three ids of two numbers, entries added, no groups, and the footer.
        nodes = raw[1 : -(1 + 6 + 1 + 1 + 10)]
        groups = [(b"g%d" % at, at) for at in (0, 1, 5, 10)]
        parts = [nodes, number(10), number(10), number(0)]
        if code == opcodes.STREAM_LISTPACKS_2:
            parts += [number(1), number(0), number(0), number(0), number(10)]
        parts.append(number(len(groups)))
        for name, last in groups:
            parts += [rdbfiles.string(name), number(last), number(0)]
            if code == opcodes.STREAM_LISTPACKS_2:
                parts.append(number(last))
            parts += [number(0), number(0)]
        old = rdbfiles.dump(code, *parts, version=9)
        client.ok("RESTORE", "old", 0, old)
        expected = rdbfiles.plain(payload.decode(client.ok("DUMP", "old")))
        assert rdbfiles.plain(payload.decode(old)) == expected


def test_redis_refuses_what_is_refused_here(redis_server: Server) -> None:
    with redis_server.client() as client:
        client.ok("FLUSHALL")
        client.ok("SET", "a", "b")
        good = client.ok("DUMP", "a")
        for bad in (b"", good[:-1], good + b"x", good[:-1] + bytes((good[-1] ^ 1,))):
            reply = client.call("RESTORE", "c", 0, bad)
            assert isinstance(reply, ErrorReply)
            assert reply.text == "ERR DUMP payload version or checksum are wrong"
            with pytest.raises(payload.FooterError):
                payload.decode(bad)
        string, number = rdbfiles.string, rdbfiles.length
        for code, parts in (
            (opcodes.SET, (number(0),)),
            (opcodes.SET, (number(2), string(b"a"))),
            (opcodes.SET, (number(2), string(b"a"), string(b"a"))),
            (opcodes.HASH, (number(2), *[string(b"a")] * 4)),
            (opcodes.ZSET_2, (number(2), *[string(b"a"), bytes(8)] * 2)),
            (opcodes.ZSET_2, (number(1), string(b"a"), b"\xff" * 8)),
            (opcodes.LIST_QUICKLIST, (number(0),)),
            (opcodes.LIST_ZIPLIST, (rdbfiles.ziplist([]),)),
            (opcodes.HASH_ZIPLIST, (rdbfiles.ziplist([b"a", 1, b"a", 2]),)),
            (opcodes.HASH_ZIPLIST, (rdbfiles.ziplist([b"a", 1, b"b"]),)),
            (opcodes.HASH_ZIPMAP, (rdbfiles.zipmap([(b"a", b"1"), (b"a", b"2")]),)),
            (opcodes.SET_INTSET, (rdbfiles.intset([1, 2, 2], 2),)),
            (opcodes.SET_INTSET, (rdbfiles.intset([], 2),)),
            (99, (b"",)),
        ):
            bad = rdbfiles.dump(code, *parts)
            client.ok("CONFIG", "SET", "sanitize-dump-payload", "yes")
            reply = client.call("RESTORE", "c", 0, bad)
            client.ok("CONFIG", "SET", "sanitize-dump-payload", "no")
            assert isinstance(reply, ErrorReply), (code, parts)
            assert reply.text == "ERR Bad data format"
            with pytest.raises(payload.RdbError):
                payload.decode(bad)

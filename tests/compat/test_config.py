"""CONFIG GET and SET: parameters, defaults and the texts of errors, against a real redis-server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.resp import ErrorReply, RespClient
from harness.servers import StartServer
from lamina.server.config import Config
from lamina.server.errors import CommandError

LAMINAS_OWN = {
    b"dbdirname", b"memory", b"script-memory", b"command-memory", b"memtable-size", b"block-size",
    b"segment-size", b"compression", b"filter-bits", b"level-runs", b"rate-limit", b"open-files",
    b"enable-checkpoint-command",
}  # fmt: skip
SINCE_7_2 = {
    b"set-max-listpack-entries", b"set-max-listpack-value", b"cluster-announce-human-nodename",
    b"locale-collate",
}  # fmt: skip
NOT_LAMINAS_DEFAULT = {
    b"appendonly",  # every write is logged
    b"dir",
    b"port",
    b"bind",  # this machine only, which it takes a file to make Redis do
}
HARNESS_SETS = {b"save", b"logfile", b"enable-debug-command", b"protected-mode", b"appendfsync"}


@pytest.fixture
def redis(start_redis: StartServer) -> Iterator[RespClient]:
    """A connection to a redis-server of this test's own, which it may configure as it likes."""
    with start_redis().client() as client:
        yield client


def test_every_parameter_is_there_with_its_default(redis: RespClient) -> None:
    shown = redis.ok("CONFIG", "GET", "*")
    theirs = dict(zip(shown[::2], shown[1::2]))
    ours = Config().get(b"*")
    assert theirs.keys() - ours.keys() == set()
    assert ours.keys() - theirs.keys() == LAMINAS_OWN | SINCE_7_2
    assert (theirs[b"bind"], ours[b"bind"]) == (b"127.0.0.1", b"127.0.0.1 -::1")
    different = {name for name in theirs if theirs[name] != ours[name]}
    assert different <= NOT_LAMINAS_DEFAULT | HARNESS_SETS


VALUES = {
    "foo": ["1"],
    "maxclients": ["100", "x", "0", "-1", "99999999999999999999", "1 ", "", "+5"],
    "appendonly": ["maybe"],
    "loglevel": ["foo", "NOTICE"],
    "maxmemory": [
        "1x", "1kB", "-1", "1.5gb", "", "0x10", "+5", " 5", "1 kb", "kb", "10g", "1gb", "5b", "1tb", "0",
    ],
    "save": ["1", "1 2", "1 2 3", "0 1", "1 -1", "a b", "", "3600 1 300 100", "900   1"],
    "client-output-buffer-limit": [
        "normal 0 0", "foo 0 0 0", "normal 0 0 0 pubsub 1mb 1kb 5", "normal x 0 0", "master 0 0 0",
        "replica 1 2 3", "normal 0 0 -1", "normal -1 0 0", "", "NORMAL 5 6 7",
    ],
    "notify-keyspace-events": ["KEA", "q", "", "KgEx$", "Km", "nK", "KEdt$", "KEg$lshzxet", "AKm"],
    "port": ["0x10", "70000"],
    "databases": ["5"],
    "dir": ["/"],
    "dbfilename": ["x"],
    "unixsocketperm": ["777"],
    "slowlog-log-slower-than": ["-2", "-1", "9223372036854775807"],
    "slowlog-max-len": ["-1", "0"],
    "hz": ["0", "9999", "", "-1", "x"],
    "latency-tracking-info-percentiles": ["50 101", "50 x", "", "99.9 50 1e1", "-1", "0.1 33.333333333 1e-5"],
    "proto-max-bulk-len": ["1", "1mb", "x"],
    "client-query-buffer-limit": ["1"],
    "maxmemory-policy": ["foo", "allkeys-LRU"],
    "maxmemory-clients": ["5%", "101%", "-5%", "x", "1mb", "0"],
    "list-max-listpack-size": ["-5", "x"],
    "list-max-ziplist-size": ["7"],
    "hash-max-listpack-value": ["1kb", "-1"],
    "set-max-intset-entries": ["-1", "1kb"],
    "shutdown-on-sigterm": ["save now", "foo", "default save", "NoSave force"],
    "rename-command": ["a b"],
    "tls-auth-clients": ["maybe", "optional"],
    "busy-reply-threshold": ["-1", "5"],
    "lua-time-limit": ["6"],
    "repl-backlog-size": ["0", "1mb"],
    "min-slaves-max-lag": ["5"],
    "acl-pubsub-default": ["foo", "AllChannels"],
    "active-expire-effort": ["11", "1"],
    "oom-score-adj": ["foo"],
    "sanitize-dump-payload": ["foo", "clients"],
    "repl-diskless-load": ["foo"],
    "timeout": ["2147483648", "2147483647"],
    "io-threads": ["2"],
    "aclfile": ["x"],
    "enable-debug-command": ["no"],
    "replicaof": ["no one"],
    "masterauth": ["secret"],
}  # fmt: skip


def test_values_are_taken_and_refused_alike(redis: RespClient) -> None:
    config = Config()
    config.freeze()
    for name in VALUES:
        for value in VALUES[name]:
            reply = redis.call("CONFIG", "SET", name, value)
            assert answer(config, (name, value)) == reply, (name, value)
            if reply == "OK":
                shown = redis.ok("CONFIG", "GET", name)
                assert config.get(name.encode()) == {shown[0]: shown[1]}


def test_several_at_once(redis: RespClient) -> None:
    config = Config()
    config.freeze()
    for pairs in [
        [("maxclients", "100"), ("foo", "1")],
        [("foo", "1"), ("maxclients", "x")],
        [("maxclients", "100"), ("MAXCLIENTS", "200")],
        [("maxclients", "100"), ("timeout", "x")],
        [("databases", "1"), ("timeout", "x")],
        [("lua-time-limit", "1"), ("busy-reply-threshold", "2")],
        [("timeout", "5"), ("tcp-keepalive", "6")],
    ]:
        assert answer(config, *pairs) == redis.call(
            "CONFIG", "SET", *[word for pair in pairs for word in pair]
        )
        for name in ("maxclients", "timeout", "tcp-keepalive", "busy-reply-threshold"):
            shown = redis.ok("CONFIG", "GET", name)
            assert config.get(name.encode()) == {shown[0]: shown[1]}


def answer(config: Config, *pairs: tuple[str, str]) -> str | ErrorReply:
    try:
        config.set([(name.encode(), value.encode()) for name, value in pairs])
    except CommandError as error:
        return ErrorReply(error.message.decode())
    return "OK"


def test_redis_reads_what_was_rewritten(start_redis: StartServer, tmp_path: Path) -> None:
    path = tmp_path / "written.conf"
    path.write_text("save 900 1\nhz 20\n")
    config = Config()
    config.load_file(str(path))
    password = b"a b'\"\\\x01\xff"
    changes = {
        b"requirepass": password, b"maxclients": b"77", b"maxmemory": b"3221225472",
        b"notify-keyspace-events": b"AKE", b"zset-max-ziplist-entries": b"9", b"hz": b"30",
        b"latency-tracking-info-percentiles": b"50 99.9",
        b"client-output-buffer-limit": b"normal 0 0 0 slave 1 2 3 pubsub 1048576 2 3",
    }  # fmt: skip
    config.set(changes)
    config.rewrite()
    with start_redis(path).client() as client:
        client.ok("AUTH", password)
        for name, value in changes.items():
            assert client.ok("CONFIG", "GET", name) == [name, value]


RENAMES = """
rename-command CONFIG cfg
rename-command GET fetch
rename-command FETCH Fetch2
rename-command DEBUG ""
rename-command CLIENT "my client"
rename-command EXEC commit
rename-command PING pung
rename-command subscribe sub
"""
CALLS: list[tuple[str, ...]] = [
    ("CONFIG", "GET", "hz"), ("cfg", "get", "hz"), ("CFG", "get"), ("cfg", "foo"), ("cfg",),
    ("GET", "a"), ("fetch", "a"), ("fetch2",), ("FETCH2", "a"), ("COMMAND", "INFO", "fetch2"),
    ("COMMAND", "INFO", "get", "cfg|get", "config|get", "debug"), ("COMMAND", "GETKEYS", "fetch2", "a"),
    ("COMMAND", "GETKEYS", "get", "a"), ("COMMAND", "LIST", "FILTERBY", "PATTERN", "*etch*"),
    ("COMMAND", "LIST", "FILTERBY", "PATTERN", "get"), ("my client", "no-such"), ("my client", "getname"),
    ("DEBUG", "SLEEP", "0"), ("MULTI",), ("SET", "x", "1"), ("fetch2", "x"), ("COMMIT",), ("MULTI",),
    ("exec",), ("commit",), ("pung",), ("cfg", "help", "x"), ("LATENCY", "HISTOGRAM", "get"), ("sub", "a"),
    ("fetch2", "x"), ("Pung",),
]  # fmt: skip


def test_renamed_commands(start_redis: StartServer, start_lamina: StartServer, tmp_path: Path) -> None:
    path = tmp_path / "renamed.conf"
    path.write_text(RENAMES)
    with start_redis(path).client() as theirs, start_lamina(path).client() as ours:
        for call in CALLS:
            assert ours.call_raw(*call) == theirs.call_raw(*call), call


def test_latency_tracking_leaves_out_what_comes_while_it_is_off(
    start_redis: StartServer, start_lamina: StartServer
) -> None:
    """Bounds of times differ, so it is the numbers of calls that are compared."""
    with start_redis().client() as theirs, start_lamina().client() as ours:
        for steps in (
            [("SET", "a", "1"), ("CONFIG", "SET", "latency-tracking", "no"), ("SET", "a", "1")],
            [("CONFIG", "SET", "latency-tracking", "no"), ("SET", "a", "1"), ("GET", "a")],
            [("CONFIG", "SET", "latency-tracking", "yes"), ("GET", "a")],
            [("SET", "a", "1"), ("CONFIG", "SET", "latency-tracking", "no"), ("SET", "a", "1")],
            [("CONFIG", "RESETSTAT"), ("SET", "a", "1")],
            [("CONFIG", "SET", "latency-tracking", "yes"), ("SET", "a", "1")],
        ):
            counts = []
            for client in (theirs, ours):
                for step in steps:
                    client.ok(*step)
                shown = client.ok("LATENCY", "HISTOGRAM", "set", "get")
                calls = [(name, fields[1], fields[3][-1]) for name, fields in zip(shown[::2], shown[1::2])]
                lines = client.ok("INFO", "latencystats").decode().splitlines()
                counts.append(
                    (calls, sorted(line.split(":")[0] for line in lines if "_set" in line or "_get" in line))
                )
            assert counts[0] == counts[1], steps

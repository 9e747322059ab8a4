"""What people do with redis-cli, without its prompt."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from harness.resp import encode
from harness.servers import Server

pytestmark = pytest.mark.skipif(
    shutil.which("redis-cli") is None, reason="needs redis-cli (Debian: apt install redis-tools)"
)


def cli(server: Server, *arguments: str, standard_input: bytes = b"", status: int = 0) -> str:
    """Run redis-cli and return what it prints."""
    done = subprocess.run(
        ["redis-cli", "-p", str(server.port), *arguments],
        input=standard_input,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, (done.stdout[-2000:], done.stderr)
    assert status or done.stderr == b""
    return (done.stdout + done.stderr).decode(errors="replace")


def fill(server: Server, count: int) -> None:
    with server.client() as client:
        client.pipeline([("SET", f"string:{number}", "x" * number) for number in range(count)])
        client.ok("RPUSH", "list:long", *range(500))
        client.ok("HSET", "hash:big", *(word for number in range(300) for word in (number, "v")))
        client.ok("SADD", "set:big", *range(200))
        client.ok("ZADD", "zset:big", *(word for number in range(100) for word in (number, f"m{number}")))
        client.ok("XADD", "stream:one", "*", "f", "v")


def test_single_commands(server: Server) -> None:
    assert cli(server, "PING") == "PONG\n"
    assert cli(server, "SET", "a", "1") == "OK\n"
    assert cli(server, "INCR", "a") == "2\n"
    assert cli(server, "--no-raw", "GET", "a") == '"2"\n'
    assert cli(server, "--no-raw", "GET", "missing") == "(nil)\n"
    assert cli(server, "-n", "5", "DBSIZE") == "0\n"
    assert cli(server, "-r", "3", "INCR", "a") == "3\n4\n5\n"
    assert "WRONGTYPE" in cli(server, "LPUSH", "a", "x")
    assert cli(server, "-x", "SET", "b", standard_input=b"from a file") == "OK\n"
    assert cli(server, "STRLEN", "b") == "11\n"


def test_commands_from_a_file(server: Server) -> None:
    lines = b'SET a "1 2"\nGET a\nHSET h f v\nHGETALL h\nMULTI\nINCR n\nINCR n\nEXEC\n'
    assert cli(server, standard_input=lines) == "OK\n1 2\n1\nf\nv\nOK\nQUEUED\nQUEUED\n1\n2\n"


def test_protocol_3(server: Server) -> None:
    assert cli(server, "-3", "HSET", "h", "f", "v") == "1\n"
    assert cli(server, "-3", "--no-raw", "HGETALL", "h") == '1# "f" => "v"\n'
    assert cli(server, "-3", "--no-raw", "SADD", "s", "x") == "(integer) 1\n"
    assert cli(server, "-3", "--no-raw", "SMEMBERS", "s") == '1~ "x"\n'
    assert cli(server, "-3", "--no-raw", "ZADD", "z", "1.5", "m") == "(integer) 1\n"
    assert cli(server, "-3", "--no-raw", "ZSCORE", "z", "m") == "(double) 1.5\n"


def test_pipe(server: Server) -> None:
    commands = b"".join(encode(("SET", f"k:{number}", "x" * 100)) for number in range(20_000))
    said = cli(server, "--pipe", standard_input=commands)
    assert "errors: 0, replies: 20000" in said
    assert cli(server, "DBSIZE") == "20000\n"
    wrong = encode(("LPUSH", "k:1", "x")) + encode(("PING",))
    said = cli(server, "--pipe", standard_input=wrong, status=1)
    assert "errors: 1, replies: 2" in said
    assert "WRONGTYPE Operation against a key holding the wrong kind of value" in said


def test_scan(server: Server) -> None:
    fill(server, 500)
    assert len(cli(server, "--scan").split()) == 505
    assert len(cli(server, "--scan", "--pattern", "string:1*").split()) == 111
    assert cli(server, "--no-raw", "--scan", "--pattern", "l*") == '"list:long"\n'


def test_biggest_keys(server: Server) -> None:
    fill(server, 200)
    said = cli(server, "--bigkeys")
    assert "Sampled 205 keys in the keyspace" in said
    biggest = [
        line.split()[1:]
        for line in said.replace('"', "").replace("'", "").splitlines()
        if line.startswith("Biggest ")
    ]
    assert sorted(biggest) == sorted(
        [
            ["list", "found", "list:long", "has", "500", "items"],
            ["hash", "found", "hash:big", "has", "300", "fields"],
            ["string", "found", "string:199", "has", "199", "bytes"],
            ["stream", "found", "stream:one", "has", "1", "entries"],
            ["set", "found", "set:big", "has", "200", "members"],
            ["zset", "found", "zset:big", "has", "100", "members"],
        ]
    )
    said = cli(server, "--memkeys")
    assert "Sampled 205 keys in the keyspace" in said


def test_statistics_and_help(server: Server) -> None:
    info = cli(server, "INFO")
    for line in ("redis_version:", "connected_clients:", "used_memory:", "role:master", "# Keyspace"):
        assert line in info
    assert "maxmemory" in cli(server, "CONFIG", "GET", "maxmemory*")
    assert "cmd=client|list" in cli(server, "CLIENT", "LIST")
    assert "set" in cli(server, "COMMAND", "LIST").split()

"""redis-benchmark's tests run to their end without an error."""

from __future__ import annotations

import csv
import shutil
import subprocess

import pytest

from harness.servers import Server

pytestmark = pytest.mark.skipif(
    shutil.which("redis-benchmark") is None, reason="needs redis-benchmark (Debian: apt install redis-tools)"
)

TESTS = (
    *("PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "LPUSH", "RPUSH", "LPOP", "RPOP", "SADD", "HSET"),
    *("SPOP", "ZADD", "ZPOPMIN", "LPUSH (needed to benchmark LRANGE)"),
    *("LRANGE_100 (first 100 elements)", "LRANGE_300 (first 300 elements)"),
    *("LRANGE_500 (first 500 elements)", "LRANGE_600 (first 600 elements)", "MSET (10 keys)"),
)


def run(server: Server, *arguments: str) -> dict[str, float]:
    """Run redis-benchmark; return {test: requests per second}."""
    done = subprocess.run(
        ["redis-benchmark", "-p", str(server.port), "--csv", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    said = done.stdout + done.stderr
    assert "rror" not in said, said
    rows = list(csv.reader(line for line in done.stdout.splitlines() if line.startswith('"')))
    return {row[0]: float(row[1]) for row in rows if row[0] != "test"}


@pytest.mark.parametrize("pipeline", ["1", "16"])
def test_all_default_tests(server: Server, pipeline: str) -> None:
    rates = run(server, "-n", "1000", "-c", "20", "-P", pipeline, "-r", "1000")
    assert tuple(rates) == TESTS
    assert all(rate > 0 for rate in rates.values())


def test_options(server: Server) -> None:
    assert set(run(server, "-n", "1000", "-t", "set,get", "-3", "-k", "0", "-d", "5000")) == {"SET", "GET"}
    rates = run(server, "-n", "1000", "-r", "100", "XADD", "stream:__rand_int__", "*", "f", "v")
    assert len(rates) == 1
    with server.client() as client:
        assert len(client.ok("KEYS", "stream:*")) <= 100
        assert client.ok("STRLEN", "key:__rand_int__") == 5000

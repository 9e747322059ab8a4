"""Scripts and functions as redis-py's users have them: locks, registered scripts, libraries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from harness.servers import Server

Client = Any


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[Client]:
    with redis.Redis(
        port=server.port, protocol=request.param, decode_responses=True, socket_timeout=20
    ) as client:
        yield client


def test_a_registered_script_is_sent_once_and_again_when_it_is_gone(client: Client) -> None:
    client.delete("n")
    add = client.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    assert add(keys=["n"], args=[5]) == 5
    assert client.script_exists(add.sha) == [True]
    client.script_flush()
    assert client.script_exists(add.sha) == [False]
    assert add(keys=["n"], args=[5]) == 10
    with client.pipeline() as pipeline:
        client.script_flush()
        add(keys=["n"], args=[1], client=pipeline)
        add(keys=["n"], args=[1], client=pipeline)
        assert pipeline.execute() == [11, 12]


def test_locks(client: Client) -> None:
    client.delete("lock")
    lock = client.lock("lock", timeout=10)
    assert lock.acquire(blocking=False)
    other = client.lock("lock", timeout=10)
    assert not other.acquire(blocking=False)
    assert lock.extend(5)
    assert lock.reacquire()
    lock.release()
    assert other.acquire(blocking=False)
    with pytest.raises(redis.exceptions.LockError):
        lock.release()
    other.release()


def test_replies_and_errors(client: Client) -> None:
    assert client.eval("return {1, 'two', {3, false}}", 0) == [1, "two", [3, None]]
    assert client.eval_ro("return ARGV", 0, "a", "b") == ["a", "b"]
    with pytest.raises(redis.exceptions.NoScriptError):
        client.evalsha("0" * 40, 0)
    with pytest.raises(redis.exceptions.ResponseError, match="user_script:1: wrong"):
        client.eval("error('wrong')", 0)
    with pytest.raises(redis.exceptions.ResponseError, match="No scripts in execution"):
        client.script_kill()


def test_functions(client: Client) -> None:
    client.function_flush()
    add = "redis.register_function('add', function(keys, args) return args[1] + args[2] end)"
    library = f"#!lua name=tests\n{add}"
    assert client.function_load(library) == "tests"
    assert client.fcall("add", 0, 2, 3) == 5
    assert len(client.function_list()) == 1
    with pytest.raises(redis.exceptions.ResponseError, match="already exists"):
        client.function_load(library)
    assert client.function_load(library, replace=True) == "tests"
    assert client.function_delete("tests")
    assert not client.function_list()

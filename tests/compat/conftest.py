"""Pairs of servers: a real redis-server and Lamina's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.compat import Pair
from harness.crowd import Crowd
from harness.servers import (
    Server,
    lamina_server,
    redis_server,
    start_lamina,
    start_redis,
    tiny_lamina_server,
)

__all__ = ["lamina_server", "redis_server", "start_lamina", "start_redis", "tiny_lamina_server"]


@pytest.fixture(scope="session", params=[2, 3], ids=["resp2", "resp3"])
def shared_pair(
    request: pytest.FixtureRequest, redis_server: Server, lamina_server: Server
) -> Iterator[Pair]:
    """Connect to the session's two servers, in each protocol."""
    pair = Pair(redis_server, lamina_server, protocol=request.param)
    yield pair
    pair.close()


@pytest.fixture
def pair(shared_pair: Pair) -> Pair:
    """Give the two servers, emptied, with fresh connections."""
    shared_pair.reset()
    return shared_pair


@pytest.fixture(scope="session")
def shared_tiny_pair(redis_server: Server, tiny_lamina_server: Server) -> Iterator[Pair]:
    """Connect to the session's redis-server and to a Lamina with tiny memtables."""
    pair = Pair(redis_server, tiny_lamina_server)
    yield pair
    pair.close()


@pytest.fixture
def tiny_pair(shared_tiny_pair: Pair) -> Pair:
    """Give redis-server and a Lamina with tiny memtables; made for restarts."""
    shared_tiny_pair.reset()
    return shared_tiny_pair


@pytest.fixture
def crowd(pair: Pair) -> Iterator[Crowd]:
    """Give more clients of the two servers."""
    crowd = Crowd(pair)
    yield crowd
    crowd.close()

"""Servers to be fuzzed: in this process, and as processes of their own beside a real redis-server."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.local import local, make_local
from harness.servers import Server, StartServer, lamina_server, redis_server, start_lamina, start_redis

__all__ = ["lamina_server", "local", "make_local", "redis_server", "start_lamina", "start_redis"]


@pytest.fixture
def nothing() -> None:
    """For what is fuzzed without a server."""


@pytest.fixture(scope="session")
def server_pair(redis_server: Server, lamina_server: Server) -> tuple[Server, Server]:
    """A real redis-server and a Lamina."""
    return redis_server, lamina_server


@pytest.fixture
def closed_pair(start_redis: StartServer, start_lamina: StartServer) -> tuple[Server, Server]:
    """The same, to which nobody has given the password."""
    return start_redis("--requirepass", "secret"), start_lamina("--requirepass", "secret")


@pytest.fixture
def make_lamina(start_lamina: StartServer) -> Callable[[], Server]:
    """Start a Lamina."""
    return start_lamina

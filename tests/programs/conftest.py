"""A server for each test that kills it, held against all invariants at the end, and one for all others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.programs import check_directory
from harness.servers import Server, lamina_server, tested_server

__all__ = ["lamina_server"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Start a server with the settings that users get: it may be killed and started again."""
    directory = tmp_path / "server"
    directory.mkdir()
    with tested_server(directory) as server:
        yield server
        check_directory(server)


@pytest.fixture
def steady_server(lamina_server: Server) -> Server:
    """Give the session's server, emptied."""
    with lamina_server.client() as client:
        client.ok("FLUSHALL")
    return lamina_server

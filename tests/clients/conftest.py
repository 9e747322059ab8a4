"""One server for the session, empty for each test."""

from __future__ import annotations

import pytest

from harness.servers import Server, lamina_server

__all__ = ["lamina_server"]


@pytest.fixture
def server(lamina_server: Server) -> Server:
    """Give the session's server, emptied."""
    with lamina_server.client() as client:
        client.ok("FLUSHALL")
    return lamina_server

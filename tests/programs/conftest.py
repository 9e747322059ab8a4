"""A server for each test, whose directory is held against all invariants when the test has ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.programs import check_directory
from harness.servers import Server, tested_server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Start a server with the settings that users get: it may be killed and started again."""
    directory = tmp_path / "server"
    directory.mkdir()
    with tested_server(directory) as server:
        yield server
        check_directory(server)

"""What may be in the place of the Unix socket: only what nobody needs goes."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path

import pytest

from lamina.server.sockets import _bind_unix


def test_a_socket_that_was_left_behind_makes_way(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    _bind_unix(path, 0o700, 10).close()  # as a kill -9 leaves it
    with contextlib.closing(_bind_unix(path, 0o710, 10)):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o710
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)


def test_a_socket_that_is_listened_on_stays(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with contextlib.closing(_bind_unix(path, 0, 1)):
        with contextlib.ExitStack() as clients:
            for _ in range(4):  # the last ones find its backlog full
                with pytest.raises(OSError, match=f"Unix socket {path}: Address already in use"):
                    _bind_unix(path, 0, 1)
                client = clients.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    client.connect(path)
        assert os.path.exists(path)


def test_a_file_in_its_place_stays(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(OSError, match="is no socket"):
        _bind_unix(str(path), 0, 10)
    assert path.read_text() == "data"

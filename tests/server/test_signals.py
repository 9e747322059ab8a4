"""What signals do to a server: real processes."""

from __future__ import annotations

import os
import signal

from harness.resp import RespClient
from harness.servers import StartServer, start_lamina

__all__ = ["start_lamina"]


def test_a_terminal_that_is_closed_ends_no_server(start_lamina: StartServer) -> None:
    server = start_lamina()
    os.kill(server.pid, signal.SIGHUP)
    os.kill(server.pid, signal.SIGPIPE)
    with RespClient(server.port) as client:
        assert client.call("SET", "k", "v") == "OK"
    assert server.stop() == 0

"""Several clients of each of two servers, for commands that wait: who is served, with what, in which order.

def test_waiting(pair: Pair, crowd: Crowd) -> None:
    crowd.wait(0, "BLPOP", "l", 0)            # when this returns, both servers' clients wait
    crowd.wait(1, "BRPOP", "l", 0)
    pair("RPUSH", "l", "a")
    crowd.read(0)                             # the same bytes
    crowd.assert_silent(1)
"""

from __future__ import annotations

from harness.compat import Pair
from harness.resp import Argument, RespClient, encode, parse


class Crowd:
    """Clients by number; a client is one of each server."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self._clients: dict[int, tuple[RespClient, ...]] = {}

    def clients(self, number: int) -> tuple[RespClient, ...]:
        """Return the connections of a client, which are made when they are first asked for."""
        if number not in self._clients:
            servers, protocol = self.pair.servers, self.pair.protocol
            self._clients[number] = tuple(server.client(protocol=protocol) for server in servers)
        return self._clients[number]

    def wait(self, number: int, *command: Argument) -> None:
        """Send a command that will wait; when this returns, it does."""
        for client in self.clients(number):
            # What is sent together is run together: once the first has been answered, the second was run.
            client.send_raw(encode(["ECHO", "before"]) + encode(command))
            assert client.read() == b"before"
            assert client.is_silent(0.01)

    def read(self, number: int) -> object:
        """Compare the replies that have come."""
        reference, tested = (client.read_raw() for client in self.clients(number))
        assert reference == tested
        return parse(reference)

    def leave(self, number: int) -> None:
        """End the connections of a client, and let the servers see it."""
        for client in self._clients.pop(number):
            client.close()
        self.pair("PING")

    def assert_silent(self, *numbers: int) -> None:
        """Assert that nothing has come."""
        for number in numbers:
            assert all(client.is_silent(0.02) for client in self.clients(number))

    def close(self) -> None:
        """Close all connections."""
        for clients in self._clients.values():
            for client in clients:
                client.close()

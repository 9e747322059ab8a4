"""Who is let in, and what a connection does about floods: without sockets."""

from __future__ import annotations

from typing import Any

import pytest

from harness.local import LocalClient, Servers, Wire
from lamina.engine.entry import KEY_SIZE_MAX, VALUE_SIZE_MAX
from lamina.server.connection import Connection
from lamina.server.encoding import ARGUMENT_SIZE_MAX, DOUBLE, ELEMENT, PLAIN_STRING, U32, U64
from lamina.server.errors import MAX_CLIENTS, NO_AUTH, PROTECTED_MODE


class FakeTransport(Wire):
    """A transport that says who is at the other end."""

    def __init__(self, peer: Any, own: Any = ("127.0.0.1", 6379)) -> None:
        super().__init__()
        self.extra = {"peername": peer, "sockname": own}
        self.reading_paused = 0

    def get_extra_info(self, name: str) -> Any:
        return self.extra.get(name)

    def set_write_buffer_limits(self, high: int) -> None:
        self.high = high

    def pause_reading(self) -> None:
        self.reading_paused += 1

    def resume_reading(self) -> None:
        self.reading_paused -= 1


def request(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def connect(
    local: LocalClient, peer: Any, own: Any = ("127.0.0.1", 6379)
) -> tuple[Connection, FakeTransport]:
    connection, transport = Connection(local.server), FakeTransport(peer, own)
    connection.connection_made(transport)  # type: ignore[arg-type]
    return connection, transport


@pytest.mark.parametrize("peer", [("127.0.0.1", 5000), ("127.8.9.1", 5000), ("::1", 5000, 0, 0), ""])
def test_protected_mode_lets_in_local_clients(local: LocalClient, peer: Any) -> None:
    connection, transport = connect(local, peer)
    connection.data_received(b"PING\r\n")
    local.turn()
    assert transport.data == b"+PONG\r\n"


@pytest.mark.parametrize("peer", [("10.0.0.1", 5000), ("2001:db8::1", 5000, 0, 0), ("128.0.0.1", 1)])
def test_protected_mode_refuses_others(local: LocalClient, peer: Any) -> None:
    connection, transport = connect(local, peer)
    assert transport.data == PROTECTED_MODE.reply
    assert transport.is_closed
    assert connection.client is None
    connection.data_received(b"SET k v\r\n")  # what was under way already
    connection.connection_lost(None)
    assert local("EXISTS", "k") == 0
    assert local.server.stats.rejected_connections == 1


@pytest.mark.parametrize("options", [{"protected_mode": "no"}, {"requirepass": "secret"}])
def test_others_are_let_in_without_it(make_local: Servers, options: dict[str, str]) -> None:
    local = make_local.make(**options)
    connection, transport = connect(local, ("10.0.0.1", 5000))
    assert transport.data == b""
    assert connection.client is not None
    assert connection.client.address == "10.0.0.1:5000"


@pytest.mark.parametrize("login", [["AUTH", "secret"], ["HELLO", "3", "AUTH", "default", "secret"]])
@pytest.mark.parametrize("is_inline", [False, True])
def test_the_limits_before_authentication_end_with_it(
    make_local: Servers, login: list[str], is_inline: bool
) -> None:
    """Also for what has arrived with the password."""
    local = make_local.make(requirepass="secret")
    words = [word.encode() for word in login]
    password = b" ".join(words) + b"\r\n" if is_inline else request(*words)
    large = request(b"SET", b"k", b"v" * 20_000) + request(b"DEL", *(b"%d" % n for n in range(20)))
    connection, transport = connect(local, ("127.0.0.1", 1))
    connection.data_received(request(b"PING") + password + large)
    local.turn()
    replies = transport.data.split(b"\r\n")
    assert replies[0] == NO_AUTH.reply.rstrip()
    assert replies[-3:] == [b"+OK", b":0", b""]
    assert not transport.is_closed


@pytest.mark.parametrize("login", [b"wrong", b"secret"])
def test_limits_before_authentication(make_local: Servers, login: bytes) -> None:
    """They hold for what comes before the password, and after a wrong one."""
    local = make_local.make(requirepass="secret")
    large = request(b"SET", b"k", b"v" * 20_000)
    wire = large + request(b"AUTH", login) if login == b"secret" else request(b"AUTH", login) + large
    connection, transport = connect(local, ("127.0.0.1", 1))
    connection.data_received(wire)
    local.turn()
    assert transport.data.endswith(b"-ERR Protocol error: unauthenticated bulk length\r\n")
    assert transport.is_closed


def test_passwords_cut_in_two(make_local: Servers) -> None:
    local = make_local.make(requirepass="secret")
    wire = request(b"AUTH", b"secret") + request(b"SET", b"k", b"v" * 20_000)
    for cut in range(1, 40):
        connection, transport = connect(local, ("127.0.0.1", 1))
        connection.data_received(wire[:cut])
        local.turn()
        connection.data_received(wire[cut:])
        local.turn()
        assert transport.data == b"+OK\r\n+OK\r\n"
        connection.connection_lost(None)


@pytest.mark.parametrize("cut", [0, 1, 9])
def test_the_limits_come_back_with_a_reset(make_local: Servers, cut: int) -> None:
    """Also for a request of which something came in the same chunk."""
    local = make_local.make(requirepass="secret")
    connection, transport = connect(local, ("127.0.0.1", 1))
    connection.data_received(request(b"AUTH", b"secret"))
    local.turn()
    large = request(b"SET", b"k", b"v" * 20_000)
    connection.data_received(request(b"RESET") + large[:cut])
    local.turn()
    connection.data_received(large[cut:])
    local.turn()
    assert transport.data == b"+OK\r\n+RESET\r\n-ERR Protocol error: unauthenticated bulk length\r\n"
    assert transport.is_closed


@pytest.mark.parametrize("line", [b"POST / HTTP/1.1", b"host: example.org", b"Host:"])
def test_browsers_are_not_listened_to(local: LocalClient, line: bytes) -> None:
    """A page can make a browser send a request here; what stands in its body must not run."""
    connection, transport = connect(local, ("127.0.0.1", 5000))
    connection.data_received(b"GET / HTTP/1.1\r\n" + line + b"\r\n\r\nSET stolen 1\r\n")
    connection.data_received(b"SET stolen 2\r\n")
    local.turn()
    assert transport.is_closed
    assert local("EXISTS", "stolen") == 0


def test_maxclients(make_local: Servers) -> None:
    local = make_local.make(maxclients=2)
    first, _ = connect(local, ("127.0.0.1", 1))
    refused, transport = connect(local, ("127.0.0.1", 2))
    assert transport.data == MAX_CLIENTS.reply
    assert transport.is_closed
    assert refused.client is None
    first.connection_lost(None)
    _, transport = connect(local, ("127.0.0.1", 3))
    assert not transport.is_closed


def test_addresses(local: LocalClient) -> None:
    connection, _ = connect(local, ("::1", 5000, 0, 0), ("::1", 6379, 0, 0))
    assert connection.client is not None
    assert connection.client.address == "[::1]:5000"
    assert connection.client.local_address == "[::1]:6379"


def test_a_client_that_waits_is_not_read_from_for_ever(local: LocalClient) -> None:
    connection, transport = connect(local, ("127.0.0.1", 1))
    connection.data_received(b"BLPOP l 0\r\n")
    for _ in range(300):
        connection.data_received(b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n" * 5)
    assert transport.reading_paused == 1
    local("RPUSH", "l", "x")
    local.turn()
    assert transport.reading_paused == 0
    assert transport.data.endswith(b":1500\r\n")


def test_a_client_that_does_not_read_is_not_served(local: LocalClient) -> None:
    connection, transport = connect(local, ("127.0.0.1", 1))
    connection.pause_writing()
    assert transport.reading_paused == 1
    connection.resume_writing()
    local.turn()
    assert transport.reading_paused == 0


def test_a_large_request_that_never_ends(make_local: Servers) -> None:
    local = make_local.make(client_query_buffer_limit="1mb")
    connection, transport = connect(local, ("127.0.0.1", 1))
    connection.data_received(b"*1\r\n$100000000\r\n")
    for _ in range(20):
        connection.data_received(b"x" * 60_000)
    assert transport.is_closed
    assert local.server.stats.query_limit_disconnections == 1


@pytest.mark.parametrize("limit", ["1mb", "512mb", "4gb"])
def test_the_longest_argument(make_local: Servers, limit: str) -> None:
    """It is what proto-max-bulk-len says, or what the engine can keep as a key or a value."""
    local = make_local.make(proto_max_bulk_len=limit)
    longest = min(local.server.config.proto_max_bulk_len, ARGUMENT_SIZE_MAX)
    for size, reply in ((longest, b""), (longest + 1, b"-ERR Protocol error: invalid bulk length\r\n")):
        connection, transport = connect(local, ("127.0.0.1", 1))
        connection.data_received(b"*2\r\n$4\r\nECHO\r\n$%d\r\nx" % size)
        local.turn()
        assert transport.data == reply


def test_the_longest_argument_fits_into_the_engine() -> None:
    longest_prefix = len(U32.pack(0) + ELEMENT + U64.pack(0) + b"s" + DOUBLE.pack(0.0))
    assert ARGUMENT_SIZE_MAX + longest_prefix <= KEY_SIZE_MAX
    assert ARGUMENT_SIZE_MAX + len(PLAIN_STRING + U64.pack(0)) <= VALUE_SIZE_MAX


def test_a_fault_behind_a_command_that_waits(local: LocalClient) -> None:
    """What came before the fault is answered first."""
    connection, transport = connect(local, ("127.0.0.1", 1))
    connection.data_received(b"BLPOP l 0\r\n")
    connection.data_received(b"PING\r\n*x\r\n")
    local.turn()
    assert transport.data == b""
    assert not transport.is_closed
    local("RPUSH", "l", "x")
    local.turn()
    assert transport.data == (
        b"*2\r\n$1\r\nl\r\n$1\r\nx\r\n+PONG\r\n-ERR Protocol error: invalid multibulk length\r\n"
    )
    assert transport.is_closed

"""Connections as clients see them: a server in a process of its own, and real sockets."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.resp import ConnectionClosedError, ErrorReply, ReplyScanner, RespClient, encode, parse
from harness.servers import Server, StartServer, lamina_server, start_lamina

__all__ = ["lamina_server", "start_lamina"]

MEGABYTE = 1 << 20


@pytest.fixture
def server(lamina_server: Server) -> Server:
    """The session's server, emptied."""
    with lamina_server.client() as client:
        client.ok("FLUSHALL")
    return lamina_server


@pytest.fixture
def client(server: Server) -> Iterator[RespClient]:
    """A connection to it."""
    with server.client() as connected:
        yield connected


def resident_bytes(server: Server) -> int:
    """Return how much memory the server's process takes."""
    for line in Path(f"/proc/{server.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


def wait_until(is_so: object, within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not is_so():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


class TestRequests:
    STREAM = b"".join(
        [
            encode(["SET", "a", b"\r\n*1\r\n$4\r\nPING\r\n"]),
            b"GET a\r\n",
            encode(["ECHO", b""]),
            b"\r\n",
            b'ECHO "a b\\x00\\n"\n',
            b"*0\r\n*-1\r\n",
            encode(["INCR", "n"]),
            encode(["ECHO", b"x" * 3000]),
            b"PING\r\n",
            encode(["INCR", "n"]),
        ]
    )

    @pytest.mark.parametrize("step", [1, 2, 3, 7, 16, 1000, 100_000])
    def test_pieces_of_any_size(self, client: RespClient, step: int) -> None:
        stream = self.STREAM
        for at in range(0, len(stream), step):
            client.send_raw(stream[at : at + step])
        expected = ["OK", b"\r\n*1\r\n$4\r\nPING\r\n", b"", b"a b\0\n", 1, b"x" * 3000, "PONG", 2]
        assert [client.read() for _ in expected] == expected
        assert client.is_silent()

    @pytest.mark.parametrize(
        ("line", "reply"),
        [
            (b"PING\r\n", "PONG"),
            (b"ping\n", "PONG"),
            (b"  ECHO   'it''s'\r\nPING\r\n", ErrorReply("ERR Protocol error: unbalanced quotes in request")),
            (b"ECHO 'it\\'s'\r\n", b"it's"),
            (b'ECHO "\\x41\\t"\r\n', b"A\t"),
            (b"ECHO \"\"\r\n", b""),
            (b"\r\n \r\nPING\r\n", "PONG"),
            (b"ECHO a b\r\n", ErrorReply("ERR wrong number of arguments for 'echo' command")),
        ],
    )  # fmt: skip
    def test_inline_commands(self, client: RespClient, line: bytes, reply: object) -> None:
        client.send_raw(line)
        assert client.read() == reply

    @pytest.mark.parametrize(
        ("data", "text"),
        [
            (b"*x\r\n", "invalid multibulk length"),
            (b"*2147483648\r\n", "invalid multibulk length"),
            (b"*1\r\n*2147483647\r\n", "expected '$', got '*'"),
            (b"*1\r\n~2147483647\r\n", "expected '$', got '~'"),
            (b"*1\r\n>2147483647\r\n", "expected '$', got '>'"),
            (b"*99999999999999999999\r\n", "invalid multibulk length"),
            (b"*1\r\nPING\r\n", "expected '$', got 'P'"),
            (b"*1\r\n*1\r\n$4\r\nPING\r\n", "expected '$', got '*'"),
            (b"*1\r\n$x\r\n", "invalid bulk length"),
            (b"*1\r\n$-1\r\n", "invalid bulk length"),
            (b"*1\r\n$536870913\r\n", "invalid bulk length"),
            (b'SET a "b\r\n', "unbalanced quotes in request"),
            (b"a" * 70_000, "too big inline request"),
            (b"*" + b"1" * 70_000, "too big mbulk count string"),
            (b"*1\r\n$" + b"1" * 70_000, "too big bulk count string"),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("is_first", [True, False])
    def test_faults_are_named_and_end_the_connection(
        self, client: RespClient, data: bytes, text: str, is_first: bool
    ) -> None:
        if not is_first:
            client.send_raw(encode(["SET", "k", "v"]) + b"GET k\r\n" + data)
            assert [client.read(), client.read()] == ["OK", b"v"]
        else:
            client.send_raw(data)
        assert client.read() == ErrorReply(f"ERR Protocol error: {text}")
        with pytest.raises(ConnectionClosedError):
            client.read()

    def test_a_fault_behind_a_command_that_waits(self, client: RespClient, server: Server) -> None:
        client.send_raw(encode(["BLPOP", "l", "0"]) + b"PING\r\n*x\r\n" + b"junk" * 1000)
        with server.client() as other:
            wait_until(lambda: b"flags=b " in other.ok("CLIENT", "LIST"))
            other.ok("RPUSH", "l", "x")
        assert [client.read(), client.read()] == [[b"l", b"x"], "PONG"]
        assert client.read() == ErrorReply("ERR Protocol error: invalid multibulk length")
        assert client.is_closed()

    def test_a_large_value_in_pieces(self, client: RespClient, server: Server) -> None:
        value = bytes(range(256)) * (24 * MEGABYTE // 256)
        data = encode(["SET", "large", value]) + encode(["STRLEN", "large"])
        for at in range(0, len(data), 70_001):
            client.send_raw(data[at : at + 70_001])
        assert client.read() == "OK"
        assert client.read() == len(value)
        assert client.call("GET", "large") == value
        assert client.call("DEL", "large") == 1

    def test_a_deep_pipeline(self, client: RespClient) -> None:
        assert client.pipeline([("INCR", "n")] * 20_000)[-1] == 20_000

    @pytest.mark.parametrize("step", [1, 100])
    def test_a_promise_of_many_arguments_costs_nothing(
        self, client: RespClient, server: Server, step: int
    ) -> None:
        started = time.monotonic()
        with server.client() as promising:
            promise = b"*2147483647\r\n$4\r\nMSET\r\n"
            for at in range(0, len(promise), step):
                promising.send_raw(promise[at : at + step])
            assert client.call("PING") == "PONG"
        assert client.call("PING") == "PONG"
        assert time.monotonic() - started < 2

    def test_too_much_of_one_request(self, start_lamina: StartServer) -> None:
        limited = start_lamina("--client-query-buffer-limit", "1mb")
        with limited.client() as client, limited.client() as other:
            with pytest.raises(ConnectionError):  # noqa: PT012
                for _ in range(100):
                    client.send_raw(b"*2\r\n$4\r\nECHO\r\n$90000000\r\n" if not _ else b"x" * MEGABYTE)
                client.read()
            assert other.call("PING") == "PONG"


class TestAuthentication:
    def test_limits_before_it(self, start_lamina: StartServer) -> None:
        server = start_lamina("--requirepass", "secret")
        for data, text in (
            (b"*11\r\n", "unauthenticated multibulk length"),
            (b"*2\r\n$4\r\nAUTH\r\n$16385\r\n", "unauthenticated bulk length"),
        ):
            with server.client() as client:
                client.send_raw(data)
                assert client.read() == ErrorReply(f"ERR Protocol error: {text}")
                assert client.is_closed()
        with server.client() as client:
            many = ["MSET", *(str(i) for i in range(20))]
            assert client.call("GET", "k") == ErrorReply("NOAUTH Authentication required.")
            assert client.call("AUTH", "secret") == "OK"
            assert client.call("SET", "k", "x" * 20_000) == "OK"
            assert client.call(*many) == "OK"


class TestManyClients:
    def test_opened_and_dropped(self, server: Server) -> None:
        """10,000 connections, 250 at once; each is used, and none is left behind."""
        address = ("127.0.0.1", server.port)
        with server.client() as admin:
            before = resident_bytes(server)
            for batch in range(40):
                sockets = [socket.create_connection(address) for _ in range(250)]
                for connected in sockets:
                    connected.sendall(b"PING\r\n" if batch % 2 else b"*1\r\n$4\r\nPI")
                if batch % 2:
                    assert all(connected.recv(7) == b"+PONG\r\n" for connected in sockets)
                for connected in sockets:
                    connected.close()
            wait_until(lambda: admin.ok("CLIENT", "LIST").count(b"\n") == 1)
            assert resident_bytes(server) - before < 30 * MEGABYTE

    def test_no_more_than_maxclients(self, start_lamina: StartServer) -> None:
        server = start_lamina("--maxclients", "3")
        clients = [server.client() for _ in range(3)]
        assert all(client.call("PING") == "PONG" for client in clients)
        with server.client() as refused:
            assert refused.read() == ErrorReply("ERR max number of clients reached")
            assert refused.is_closed()
        clients.pop().close()
        wait_until(lambda: clients[0].ok("CLIENT", "LIST").count(b"\n") == 2)
        with server.client() as admitted:
            assert admitted.call("PING") == "PONG"
        for client in clients:
            client.close()

    def test_idle_clients_are_disconnected(self, start_lamina: StartServer) -> None:
        server = start_lamina("--timeout", "1")
        with server.client() as idle, server.client() as subscriber, server.client() as waiting:
            subscriber.ok("SUBSCRIBE", "c")
            waiting.send("BLPOP", "l", "0")
            assert idle.is_closed(within_s=5)
            with server.client() as other:
                assert other.call("PUBLISH", "c", "m") == 1
                assert other.call("RPUSH", "l", "x") == 1
            assert subscriber.read() == [b"message", b"c", b"m"]
            assert waiting.read() == [b"l", b"x"]

    def test_a_client_killed_while_it_waits(self, server: Server, client: RespClient) -> None:
        with server.client() as waiting:
            number = waiting.ok("CLIENT", "ID")
            waiting.send("BLPOP", "l", "0")
            wait_until(lambda: b"flags=b " in client.ok("CLIENT", "LIST", "ID", number))
            assert client.call("CLIENT", "KILL", "ID", number) == 1
            assert waiting.is_closed()
        assert client.call("RPUSH", "l", "x") == 1
        assert client.call("LRANGE", "l", 0, -1) == [b"x"]

    def test_a_client_that_leaves_while_it_waits(self, server: Server, client: RespClient) -> None:
        with server.client() as waiting:
            number = waiting.ok("CLIENT", "ID")
            waiting.send("BLPOP", "l", "0")
            wait_until(lambda: b"flags=b " in client.ok("CLIENT", "LIST", "ID", number))
        wait_until(lambda: client.ok("CLIENT", "LIST", "ID", number) == b"")
        client.ok("RPUSH", "l", "x")
        assert client.call("LLEN", "l") == 1


class TestSlowReaders:
    def test_others_are_served_and_memory_is_bounded(self, server: Server, client: RespClient) -> None:
        client.ok("SET", "large", b"v" * MEGABYTE)
        count = 400
        request = encode(["GET", "large"]) * count
        with server.client(timeout_s=60) as slow:
            before = resident_bytes(server)
            slow.send_raw(request)
            time.sleep(0.3)
            slowest = 0.0
            for _ in range(100):
                started = time.monotonic()
                client.ok("PING")
                slowest = max(slowest, time.monotonic() - started)
            assert slowest < 0.5
            assert resident_bytes(server) - before < 60 * MEGABYTE
            expected = b"v" * MEGABYTE
            assert all(slow.read() == expected for _ in range(count))
            assert slow.is_silent()
            assert slow.call("PING") == "PONG"

    def test_a_writer_that_never_reads(self, server: Server, client: RespClient) -> None:
        """It sends until it blocks, and cannot fill the server's memory."""
        before = resident_bytes(server)
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.settimeout(1.0)
            request = encode(["ECHO", b"x" * 10_000]) * 100
            sent = 0
            try:
                while sent < 200 * MEGABYTE:
                    sent += sock.send(request)
            except TimeoutError:
                pass
            assert sent < 100 * MEGABYTE
            assert client.call("PING") == "PONG"
            assert resident_bytes(server) - before < 60 * MEGABYTE

    @pytest.mark.parametrize("verb", ["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"])
    def test_subscribers_have_a_limit(self, start_lamina: StartServer, verb: str) -> None:
        server = start_lamina("--client-output-buffer-limit", *"pubsub 2mb 0 0".split())
        publish = "SPUBLISH" if verb == "SSUBSCRIBE" else "PUBLISH"
        with server.client() as slow, server.client() as quick, server.client() as publisher:
            slow.ok(verb, "c")
            quick.ok(verb, "c")
            before = resident_bytes(server)
            received = 0
            for _ in range(400):
                receivers = publisher.ok(publish, "c", b"x" * 100_000)
                assert quick.read()[-1] == b"x" * 100_000
                received += 1
                if receivers == 1:
                    break
            assert receivers == 1
            assert received > 20
            assert resident_bytes(server) - before < 40 * MEGABYTE
            assert slow.is_closed()
            assert publisher.call(publish, "c", "m") == 1

    def test_limits_may_be_small(self, start_lamina: StartServer) -> None:
        """Whether the server has started with one, or it has been set since the client connected."""
        server = start_lamina("--client-output-buffer-limit", *"pubsub 100kb 0 0".split())
        with server.client() as slow, server.client() as reader, server.client() as publisher:
            slow.ok("SUBSCRIBE", "c")
            for _ in range(20_000):
                if publisher.ok("PUBLISH", "c", b"x" * 1000) == 0:
                    break
            assert publisher.ok("PUBLISH", "c", "m") == 0
            assert slow.is_closed()
            publisher.ok("SET", "long", b"x" * MEGABYTE)
            assert len(reader.ok("GET", "long")) == MEGABYTE
            publisher.ok("CONFIG", "SET", "client-output-buffer-limit", "normal 100kb 0 0")
            reader.send_raw(encode(["GET", "long"]) * 30)
            wait_until(lambda: publisher.ok("CLIENT", "LIST").count(b"\n") == 1)

    def test_a_soft_limit_needs_time(self, start_lamina: StartServer) -> None:
        server = start_lamina("--client-output-buffer-limit", *"pubsub 0 1500000 1".split())
        with server.client() as slow, server.client() as publisher:
            slow.ok("SUBSCRIBE", "c")
            for _ in range(150):
                assert publisher.ok("PUBLISH", "c", b"x" * 100_000) == 1
            deadline = time.monotonic() + 10
            while publisher.ok("PUBLISH", "c", b"x") == 1:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            assert slow.is_closed()


def test_resets_amid_everything(server: Server, client: RespClient) -> None:
    """Connections that end with a reset, half-sent requests and unread replies, do the server no harm."""
    client.ok("SET", "large", b"v" * MEGABYTE)
    for turn in range(60):
        sock = socket.create_connection(("127.0.0.1", server.port))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.sendall(encode(["GET", "large"]) * (turn % 7) + b"*2\r\n$3\r\nGET\r\n$9")
        sock.close()
    assert client.call("PING") == "PONG"
    wait_until(lambda: client.ok("CLIENT", "LIST").count(b"\n") == 1)


def test_half_closed_connections_are_answered(server: Server) -> None:
    """A client may send everything, shut down its side, and read."""
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(encode(["ECHO", "a"]) + b"PING\r\n")
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(10)
        received = b""
        while piece := sock.recv(4096):
            received += piece
    assert received == b"$1\r\na\r\n+PONG\r\n"


def test_clients_in_parallel(server: Server, client: RespClient) -> None:
    def count() -> None:
        with server.client() as own:
            for _ in range(50):
                own.pipeline([("INCR", "n"), ("MULTI",), ("INCR", "n"), ("INCR", "n"), ("EXEC",)])

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.call("GET", "n") == b"1200"


def test_a_unix_socket(start_lamina: StartServer, tmp_path: Path) -> None:
    path = tmp_path / "lamina.sock"
    server = start_lamina("--unixsocket", str(path), "--unixsocketperm", "700")
    assert path.stat().st_mode & 0o777 == 0o700
    with RespClient(unix_socket=str(path)) as client, server.client() as other:
        assert client.call("SET", "k", "v") == "OK"
        assert other.call("GET", "k") == b"v"
        described = client.ok("CLIENT", "INFO")
        assert f" addr={path}:0 laddr={path}:0 ".encode() in described
        assert b" flags=U " in described
        other.ok("MONITOR")
        client.ok("PING")
        assert other.read().endswith(f'[0 unix:{path}] "PING"')
    server.stop()
    assert not path.exists()


# TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an authority and certificates it has signed: ca, server, client; and a stranger's."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make certificates")
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new_key = ("-newkey", "rsa:2048", "-nodes", "-sha256")
    for authority in ("ca", "stranger"):
        openssl(
            "req", "-x509", *new_key, "-keyout", f"{authority}.key", "-out", f"{authority}.crt", "-days", "2",
            "-subj", f"/CN={authority}",
        )  # fmt: skip
    for name in ("server", "client"):
        (folder / f"{name}.ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        openssl("req", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", f"{name}.crt", "-days", "2", "-sha256", "-extfile", f"{name}.ext",
        )  # fmt: skip
    return folder


def tls_port(server: Server) -> int:
    return int(server.flags[server.flags.index("--tls-port") + 1])


def call_over_tls(port: int, context: ssl.SSLContext, *commands: list[str | bytes]) -> list[object]:
    """Run commands over one connection and return their replies."""
    scanner = ReplyScanner()
    replies: list[object] = []
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        for command in commands:
            sock.sendall(encode(command))
            while (reply := scanner.next()) is None:
                data = sock.recv(65536)
                if not data:
                    raise ConnectionClosedError("closed by the server")
                scanner.feed(data)
            replies.append(parse(reply))
    return replies


@pytest.fixture
def free_tls_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def flags_for_tls(certificates: Path, port: int, *more: str) -> list[str]:
    return [
        "--tls-port", str(port),
        "--tls-cert-file", str(certificates / "server.crt"),
        "--tls-key-file", str(certificates / "server.key"),
        "--tls-ca-cert-file", str(certificates / "ca.crt"),
        *more,
    ]  # fmt: skip


def test_tls(start_lamina: StartServer, certificates: Path, free_tls_port: int) -> None:
    server = start_lamina(*flags_for_tls(certificates, free_tls_port, "--tls-auth-clients", "no"))
    context = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
    value = b"v" * 3_000_000
    replies = call_over_tls(tls_port(server), context, ["SET", "k", value], ["GET", "k"], ["CLIENT", "ID"])
    assert replies[:2] == ["OK", value]
    with server.client() as plain:
        assert plain.call("STRLEN", "k") == len(value)
    untrusting = ssl.create_default_context(cafile=str(certificates / "stranger.crt"))
    with pytest.raises(ssl.SSLCertVerificationError):
        call_over_tls(tls_port(server), untrusting, ["PING"])
    with socket.create_connection(("127.0.0.1", tls_port(server)), timeout=10) as sock:
        sock.sendall(b"PING\r\n")
        assert b"PONG" not in sock.recv(100)


def test_mutual_tls(start_lamina: StartServer, certificates: Path, free_tls_port: int) -> None:
    server = start_lamina(*flags_for_tls(certificates, free_tls_port))
    context = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        call_over_tls(tls_port(server), context, ["PING"])
    context.load_cert_chain(str(certificates / "client.crt"), str(certificates / "client.key"))
    assert call_over_tls(tls_port(server), context, ["PING"]) == ["PONG"]
    stranger = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
    stranger.load_cert_chain(str(certificates / "stranger.crt"), str(certificates / "stranger.key"))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        call_over_tls(tls_port(server), stranger, ["PING"])

"""The protocol: bytes that are requests, nearly are, or are none, cut anywhere.

The parser must give the same commands and the same error however the bytes are cut, and hold no more than it
was sent. A whole server must answer what a redis-server answers, byte for byte, break off where it does, and
serve others as if nothing had been.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import strategies as st

from harness.fuzzing import MUTATIONS, fuzz_tests, in_pieces, mutate
from harness.resp import encode
from harness.servers import Server
from lamina.server.protocol import RequestReader

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

BULK_SIZE_MAX = 1 << 20
OVERHEAD_BYTES = 1024

# Commands that answer at once, always the same, and leave nothing behind that outlives the connection.
WORDS = st.one_of(
    st.binary(max_size=6), st.sampled_from([b"", b"a b", b"\r\n", b"x" * 300, b"$3", b"*1", b"'"])
)
COMMANDS = st.one_of(
    st.tuples(st.sampled_from([b"PING", b"ping", b"ECHO", b"GET", b"NOSUCH", b"STRLEN", b"TYPE"]), WORDS),
    st.tuples(st.just(b"EXISTS"), WORDS, WORDS, WORDS),
    st.just((b"PING",)),
    st.lists(WORDS, max_size=4).map(lambda words: (b"NOSUCH", *words)),
)
INLINE = st.sampled_from(
    [
        b"PING\r\n", b"ping  \n", b"\r\n", b"\n", b"  \r\n", b'ECHO "a\\x41\\n"\r\n', b"echo 'a b'\r\n",
        b'echo "a\r\n', b"echo 'a'b\r\n", b"ECHO \x00\xff\r\n", b"EXISTS " + b"k " * 50 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\n\r\n",
    ]
)  # fmt: skip
ODD = st.sampled_from(
    [
        b"*0\r\n", b"*-1\r\n", b"*-10\r\n", b"*1\r\n", b"*abc\r\n", b"*\r\n", b"* 1\r\n", b"*+1\r\n",
        b"*01\r\n", b"*2147483647\r\n", b"*2147483648\r\n", b"*99999999999999999999\r\n", b"*1048577\r\n",
        b"*1000000\r\n", b"*1\r\n$-1\r\n", b"*1\r\n$-2\r\n", b"*1\r\n$abc\r\n", b"*1\r\n$\r\n",
        b"*1\r\n$4294967296\r\n", b"*1\r\n$536870913\r\n", b"*1\r\n$99999999999999999999\r\n",
        b"*1\r\n$ 4\r\nPING\r\n", b"*1\r\n$04\r\nPING\r\n", b"*1\r\n:4\r\n", b"*1\r\n+PING\r\n",
        b"*1\r\n*1\r\n$4\r\nPING\r\n", b"*2\r\n$4\r\nECHO\r\n*1\r\n$1\r\na\r\n", b"*1\r\n\r\n",
        b"*1\r\n$4\r\nPINGxx", b"*1\r\n$4\nPING\r\n", b"*1\n$4\r\nPING\r\n",
        b"$4\r\nPING\r\n", b"+OK\r\n", b":1\r\n", b"%1\r\n+a\r\n+b\r\n",
        b"~1\r\n$1\r\na\r\n", b"_\r\n", b"#t\r\n", b"(12345678901234567890\r\n",
        b">2\r\n$1\r\na\r\n$1\r\nb\r\n", b"|1\r\n+a\r\n+b\r\n",
    ]
)  # fmt: skip
# Lines without an end. What is shorter may be taken if it arrives at once, by either server.
ENDLESS = st.sampled_from([b"z" * (1 << 20), b"*" + b"1" * (1 << 20), b"*1\r\n$" + b"1" * (1 << 20)])
REQUESTS = COMMANDS.map(lambda words: encode(words))
PARTS = st.one_of(REQUESTS, REQUESTS, REQUESTS, INLINE, ODD, st.binary(max_size=30))
WHOLE = st.lists(PARTS, max_size=8).map(b"".join)
NEARLY = st.lists(st.one_of(PARTS, st.builds(mutate, REQUESTS, MUTATIONS)), max_size=8).map(b"".join)
STREAMS = st.one_of(WHOLE, NEARLY, st.builds(mutate, WHOLE, MUTATIONS))
LONG_STREAMS = st.one_of(*[STREAMS] * 15, st.builds(bytes.__add__, WHOLE, ENDLESS))
CUTS = st.lists(st.integers(0, 1 << 18), max_size=12)


def parsed(data: list[bytes], *, is_authenticated: bool) -> tuple[list[list[bytes]], bytes | None]:
    """Return the commands, and what was wrong."""
    reader = RequestReader(BULK_SIZE_MAX, is_authenticated=is_authenticated)
    commands: list[list[bytes]] = []
    fed = 0
    for piece in data:
        commands += reader.feed(piece)
        fed += len(piece)
        # An argument costs more than its bytes; its head has 6 of them at least.
        assert reader.buffered_bytes <= 9 * fed + OVERHEAD_BYTES
    return commands, None if reader.error is None else reader.error.message


def is_ambiguous(data: bytes) -> bool:
    """Tell whether there is a line that looks like a reply and ends in a bare line feed, which may wait, or
    the head of a request that ends in a bare carriage return: to Redis any byte will do behind that."""
    lines, heads = rb"(?:\A|\n)[-+$:(,#!%|_=~>][^\r\n]*\n", rb"[*$][^\r\n]{0,30}\r[^\n]"
    return re.search(lines, data) is not None or re.search(heads, data) is not None


def parse(_: None, case: tuple[bytes, list[int], bool]) -> None:
    data, cuts, is_authenticated = case
    if is_ambiguous(data):
        return
    whole = parsed([data] if data else [], is_authenticated=is_authenticated)
    assert parsed(in_pieces(data, cuts), is_authenticated=is_authenticated) == whole
    if len(data) < 600:
        assert (
            parsed([data[at : at + 1] for at in range(len(data))], is_authenticated=is_authenticated) == whole
        )
    assert all(command and set(map(type, command)) == {bytes} for command in whole[0])


test_parser, test_parser_for_long = fuzz_tests(
    "parser", parse, "nothing", st.tuples(STREAMS, CUTS, st.booleans()), count=300
)


def answers(server: Server, pieces: list[bytes]) -> tuple[bytes, bool]:
    """Return all that a server says to these bytes until it has nothing more to say, and closes; and whether
    the connection was reset, as one is that is closed while more arrives: then not all may come through."""
    said = []
    is_reset = False
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for piece in pieces:
                sock.sendall(piece)
        except ConnectionError:  # it may break off while there is more to send
            is_reset = True
        with suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
        try:
            while part := sock.recv(1 << 16):
                said.append(part)
        except ConnectionError:
            is_reset = True
    return b"".join(said), is_reset


def compare(servers: tuple[Server, Server], case: tuple[bytes, list[int]]) -> None:
    # Redis sees no end of an inline command behind a zero byte.
    data, cuts = case[0].replace(b"\0", b"\1"), case[1]
    if is_ambiguous(data):
        return
    pieces = [piece for piece in in_pieces(data, cuts) if piece]
    (reference, is_cut), (tested, is_cut_too) = (answers(server, pieces) for server in servers)
    # Who speaks HTTP is cut off as well, whatever still waits for him.
    if is_cut or is_cut_too or b"HTTP" in data:
        size = min(len(reference), len(tested))
        reference, tested = reference[:size], tested[:size]
    assert tested == reference
    with servers[1].client() as client:
        assert client.call("AUTH", "default", "secret") == "OK"  # any password, where none is asked for
        assert client.call("PING") == "PONG"


test_server, test_server_for_long = fuzz_tests(
    "server", compare, "server_pair", st.tuples(LONG_STREAMS, CUTS), count=150
)
test_server_with_password, test_server_with_password_for_long = fuzz_tests(
    "server_with_password", compare, "closed_pair", st.tuples(LONG_STREAMS, CUTS), count=100
)


def resident_bytes(server: Server) -> int:
    """Return the memory of a server's process."""
    with open(f"/proc/{server.pid}/statm") as file:
        return int(file.read().split()[1]) * 4096


def test_what_is_promised_takes_no_memory(make_lamina: Callable[[], Server]) -> None:
    """Hundreds of connections that announce much, and send little or nothing of it."""
    server = make_lamina()
    before = resident_bytes(server)
    heads = [
        b"*1000000\r\n",
        b"*2\r\n$3\r\nSET\r\n$500000000\r\n",
        b"*1\r\n$536870911\r\nx",
        b"~1000000\r\n",
        b"*3\r\n$3\r\nSET",
    ]
    socks = []
    for at in range(300):
        sock = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        sock.sendall(heads[at % len(heads)])
        socks.append(sock)
    with server.client() as client:
        assert client.call("PING") == "PONG"
        assert int(client.ok("CLIENT", "LIST").count(b"\n")) > 200
    assert resident_bytes(server) - before < 32 << 20
    for sock in socks:
        sock.close()

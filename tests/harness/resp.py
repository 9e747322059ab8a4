"""A small blocking client for tests: it sends commands or raw bytes and reads exactly one reply at a time.

    with RespClient(port=6379) as client:
        client.call("SET", "a", 1)                # 'OK': a status is a str
        client.call("GET", "a")                   # b'1': a bulk string is bytes
        client.call_raw("GET", "missing")         # b'$-1\\r\\n': what was on the wire

A reply is returned as it was on the wire, so that two servers can be compared byte for byte, or as a Python
value (`parse`). Nothing is interpreted: an error is returned, not raised, and a push is a reply like another.
Every wait is bounded by `timeout_s`; a connection that the server has closed raises ConnectionClosedError.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

Argument = bytes | str | int | float
"""What may stand in a command: text is sent as UTF-8, numbers as Python writes them."""

Reply = Any
"""A parsed reply: None, bool, int, float, str, bytes, list, dict, or one of the classes below."""

TIMEOUT_S = 20.0

_PIECE_BYTES = 1 << 16
_COUNTED = b"*~>%|"
_MEASURED = b"$=!"
_SIMPLE = b"+-:,#_("


class ConnectionClosedError(ConnectionError):
    """The server has closed the connection where a reply was expected."""


class ProtocolError(ValueError):
    """The server sent what is no reply."""


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An error: `-ERR no such key` has the code `ERR`. Bulk errors (`!`) look the same."""

    text: str

    @property
    def code(self) -> str:
        """The first word."""
        return self.text.split(" ", 1)[0]


@dataclass(frozen=True, slots=True)
class Verbatim:
    """A text with its format (`txt` or `mkd`)."""

    format: str
    text: bytes


@dataclass(frozen=True, slots=True)
class BigNumber:
    """A number beyond 64 bits."""

    value: int


class SetReply(list[Reply]):
    """A RESP3 set, in the order in which it was sent."""


class Push(list[Reply]):
    """A RESP3 push message."""


@dataclass(frozen=True, slots=True)
class Attributed:
    """A reply that attributes came with."""

    attributes: dict[Reply, Reply]
    value: Reply


def encode(arguments: Iterable[Argument]) -> bytes:
    """Return a command as it is sent."""
    words = [to_bytes(argument) for argument in arguments]
    pieces = [b"*%d\r\n" % len(words)]
    pieces += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return b"".join(pieces)


def to_bytes(argument: Argument) -> bytes:
    """Return an argument as it is sent."""
    if isinstance(argument, bytes):
        return argument
    return (argument if isinstance(argument, str) else repr(argument)).encode()


class ReplyScanner:
    """Finds where replies end in a growing buffer, without looking at any byte twice."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self._at = 0
        self._missing = 1

    def feed(self, data: bytes) -> None:
        """Append what has been received."""
        self.buffer += data

    def next(self) -> bytes | None:
        """Return the next whole reply and take it off the buffer, or None if more must be received."""
        buffer = self.buffer
        while self._missing:
            end = buffer.find(b"\r\n", self._at)
            if end < 0:
                return None
            kind, after = buffer[self._at], end + 2
            if kind in _MEASURED:
                size = int(buffer[self._at + 1 : end])
                after += size + 2 if size >= 0 else 0
                if len(buffer) < after:
                    return None
            elif kind in _COUNTED:
                count = max(0, int(buffer[self._at + 1 : end]))
                # A map counts pairs; attributes are followed by the reply that they belong to.
                self._missing += count * (2 if kind in b"%|" else 1) + (kind == b"|"[0])
            elif kind not in _SIMPLE:
                raise ProtocolError(f"a reply begins with {bytes(buffer[self._at : self._at + 40])!r}")
            self._at = after
            self._missing -= 1
        reply = bytes(buffer[: self._at])
        del buffer[: self._at]
        self._at, self._missing = 0, 1
        return reply


def parse(raw: bytes) -> Reply:
    """Return the Python value of one whole reply."""
    value, end = _parse(raw, 0)
    if end != len(raw):
        raise ProtocolError(f"{len(raw) - end} bytes after the reply: {raw[end : end + 40]!r}")
    return value


def _parse(raw: bytes, at: int) -> tuple[Reply, int]:
    end = raw.index(b"\r\n", at)
    kind, header, after = raw[at : at + 1], raw[at + 1 : end], end + 2
    if kind in b"$=!":
        size = int(header)
        if size < 0:
            return None, after
        return _measured(kind, raw[after : after + size]), after + size + 2
    if kind in b"*~>%|":
        return _parse_aggregate(kind, int(header), raw, after)
    return _simple(kind, header), after


def _measured(kind: bytes, data: bytes) -> Reply:
    if kind == b"=":
        return Verbatim(data[:3].decode(), data[4:])
    return ErrorReply(data.decode(errors="surrogateescape")) if kind == b"!" else data


def _simple(kind: bytes, header: bytes) -> Reply:
    match kind:
        case b"+":
            return header.decode(errors="surrogateescape")
        case b"-":
            return ErrorReply(header.decode(errors="surrogateescape"))
        case b":":
            return int(header)
        case b",":
            return float(header)
        case b"#":
            return header == b"t"
        case b"(":
            return BigNumber(int(header))
        case _:
            return None


def _parse_aggregate(kind: bytes, count: int, raw: bytes, at: int) -> tuple[Reply, int]:
    if count < 0:
        return None, at
    items: list[Reply] = []
    for _ in range(count * 2 if kind in b"%|" else count):
        item, at = _parse(raw, at)
        items.append(item)
    if kind in b"%|":
        pairs = dict(zip(map(frozen, items[::2]), items[1::2]))
        if kind == b"%":
            return pairs, at
        value, at = _parse(raw, at)
        return Attributed(pairs, value), at
    if kind == b"~":
        return SetReply(items), at
    return (Push(items) if kind == b">" else items), at


def frozen(value: Reply) -> Reply:
    """Return a value that may be a key: lists become tuples, dicts tuples of sorted pairs."""
    if isinstance(value, list):
        return tuple(frozen(item) for item in value)
    if isinstance(value, dict):
        return tuple(sorted(((key, frozen(item)) for key, item in value.items()), key=repr))
    return value


class RespClient:
    """One connection."""

    def __init__(
        self,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        unix_socket: str | None = None,
        protocol: int = 2,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.timeout_s = timeout_s
        if unix_socket is not None:
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.socket.settimeout(timeout_s)
            self.socket.connect(unix_socket)
        else:
            self.socket = socket.create_connection((host, port), timeout_s)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._scanner = ReplyScanner()
        if protocol != 2:
            reply = self.call("HELLO", protocol)
            if isinstance(reply, ErrorReply):
                raise ProtocolError(reply.text)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; once more does nothing."""
        self.socket.close()

    def send(self, *arguments: Argument) -> None:
        """Send one command and do not wait for its reply."""
        self.send_raw(encode(arguments))

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are: inline commands, halves of commands, or what is none at all."""
        self.socket.settimeout(self.timeout_s)
        self.socket.sendall(data)

    def read_raw(self, timeout_s: float | None = None) -> bytes:
        """Return the next reply as it was sent. Errors: TimeoutError, ConnectionClosedError."""
        self.socket.settimeout(self.timeout_s if timeout_s is None else timeout_s)
        while (reply := self._scanner.next()) is None:
            try:
                data = self.socket.recv(_PIECE_BYTES)
            except ConnectionResetError:
                data = b""
            if not data:
                raise ConnectionClosedError(
                    f"closed by the server, {bytes(self._scanner.buffer)!r} was received"
                )
            self._scanner.feed(data)
        return reply

    def read(self, timeout_s: float | None = None) -> Reply:
        """Return the next reply as a Python value."""
        return parse(self.read_raw(timeout_s))

    def call_raw(self, *arguments: Argument) -> bytes:
        """Send one command and return its reply as it was sent."""
        self.send_raw(encode(arguments))
        return self.read_raw()

    def call(self, *arguments: Argument) -> Reply:
        """Send one command and return its reply as a Python value."""
        return parse(self.call_raw(*arguments))

    def ok(self, *arguments: Argument) -> Reply:
        """Do as `call`, and raise AssertionError if the reply is an error: for preparing a test."""
        reply = self.call(*arguments)
        if isinstance(reply, ErrorReply):
            raise AssertionError(f"{arguments!r}: {reply.text}")
        return reply

    def pipeline_raw(self, commands: Sequence[Sequence[Argument]]) -> list[bytes]:
        """Send all commands at once and return their replies as they were sent.

        Only for what fits into the sockets' buffers: nothing is read before everything has been sent.
        """
        self.send_raw(b"".join(map(encode, commands)))
        return [self.read_raw() for _ in commands]

    def pipeline(self, commands: Sequence[Sequence[Argument]]) -> list[Reply]:
        """Send all commands at once and return their replies as Python values."""
        return [parse(raw) for raw in self.pipeline_raw(commands)]

    def is_silent(self, for_s: float = 0.05) -> bool:
        """Tell whether nothing is received for a while; a reply that is underway stays to be read."""
        if self._scanner.buffer:
            return False
        self.socket.settimeout(for_s)
        try:
            data = self.socket.recv(_PIECE_BYTES)
        except TimeoutError:
            return True
        self._scanner.feed(data)
        return False

    def is_closed(self, within_s: float = 5.0) -> bool:
        """Tell whether the server closes the connection within a time; what it sends before stays."""
        self.socket.settimeout(within_s)
        try:
            while data := self.socket.recv(_PIECE_BYTES):
                self._scanner.feed(data)
        except TimeoutError:
            return False
        except ConnectionResetError:
            return True
        return True


__all__ = [
    "Argument",
    "Attributed",
    "BigNumber",
    "ConnectionClosedError",
    "ErrorReply",
    "ProtocolError",
    "Push",
    "Reply",
    "ReplyScanner",
    "RespClient",
    "SetReply",
    "Verbatim",
    "encode",
    "frozen",
    "parse",
    "to_bytes",
]

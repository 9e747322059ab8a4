"""A connection to a running Lamina server, for tools that need little of it: one command, one reply."""

from __future__ import annotations

import os
import socket
from types import TracebackType
from typing import Any, Final, Self

import hiredis

from lamina.tools.console import UsageError

PASSWORD_VARIABLE: Final = "LAMINA_PASSWORD"
_CONNECT_S: Final = 10.0
_RECEIVE_BYTES: Final = 1 << 16


class ServerLink:
    """One connection. Errors: UsageError, with what the server has said."""

    def __init__(self, host: str, port: int, password: str | None = None) -> None:
        self.name = f"the server at {host}:{port}"
        self._reader = hiredis.Reader()
        try:
            self._socket = socket.create_connection((host, port), _CONNECT_S)
        except OSError as error:
            raise UsageError(f"{self.name} does not answer: {error.strerror or error}") from None
        # A checkpoint syncs the log first, which may take long on a busy disk.
        self._socket.settimeout(None)
        try:
            if password:
                self.call("AUTH", password)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def call(self, *words: str) -> Any:
        """Send a command and return its reply. Errors: UsageError."""
        reply = self._exchange(hiredis.pack_command(words))  # type: ignore[arg-type]
        if isinstance(reply, hiredis.ReplyError):
            raise UsageError(f"{self.name} refuses {words[0]}: {reply}")
        return reply

    def _exchange(self, request: bytes) -> Any:
        try:
            self._socket.sendall(request)
            while (reply := self._reader.gets()) is False:
                received = self._socket.recv(_RECEIVE_BYTES)
                if not received:
                    raise UsageError(f"{self.name} has closed the connection")
                self._reader.feed(received)
            return reply
        except OSError as error:
            raise UsageError(f"{self.name}: {error.strerror or error}") from None
        except hiredis.ProtocolError as error:
            raise UsageError(f"{self.name} is no Redis: {error}") from None

    def database_directory(self) -> str:
        """Return where the server's database lies, on its machine. Errors: UsageError."""
        for line in bytes(self.call("INFO", "lamina")).splitlines():
            name, _, value = line.partition(b":")
            if name == b"directory":
                return os.fsdecode(value)
        raise UsageError(f"{self.name} is no Lamina server")


def read_password(path: str | None) -> str | None:
    """Return the password in a file's first line, or else in the environment. Errors: OSError."""
    if path is None:
        return os.environ.get(PASSWORD_VARIABLE)
    with open(path, encoding="utf-8") as file:
        return file.readline().rstrip("\r\n")

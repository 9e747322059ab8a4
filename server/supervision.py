"""What the server says to those who have started it: the file with its process number, and that it is ready.

systemd is told over the socket that NOTIFY_SOCKET names (sd_notify). Upstart waits until the process stops
itself, and lets it go on then.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lamina.server.config import Config

log = logging.getLogger(__name__)

_LEFT_BY = {"upstart": "UPSTART_JOB", "systemd": "NOTIFY_SOCKET"}
"""The variable of the environment that each supervisor leaves; `auto` asks for them in this order."""


def supervisor_of(config: Config) -> str:
    """Return who supervises the server as far as that is to be told of anything: systemd, upstart or no."""
    for name, variable in _LEFT_BY.items():
        if config.supervised in (name, "auto") and os.environ.get(variable):
            return name
    return "no"


def notify_ready(config: Config) -> None:
    """Tell the supervisor that clients can connect."""
    supervisor = supervisor_of(config)
    if supervisor == "systemd":
        _notify_systemd("READY=1\nSTATUS=Ready to accept connections\n")
    elif supervisor == "upstart":
        log.info("supervised by upstart, will stop to signal readiness")
        os.kill(os.getpid(), signal.SIGSTOP)
    elif config.supervised in _LEFT_BY:
        log.warning(
            "%s supervision requested, but %s not found", config.supervised, _LEFT_BY[config.supervised]
        )


def notify_stopping(config: Config) -> None:
    """Tell the supervisor that the server ends because it has been asked to."""
    if supervisor_of(config) == "systemd":
        _notify_systemd("STOPPING=1\n")


def _notify_systemd(state: str) -> None:
    path = os.environ["NOTIFY_SOCKET"]
    if path.startswith("@"):  # a name without a file
        path = "\0" + path[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(path)
            sock.sendall(state.encode())
        except OSError as error:
            log.warning("systemd cannot be told of anything: %s", error.strerror)


@contextlib.contextmanager
def pidfile(path: str) -> Iterator[None]:
    """Keep the process's number in a file, if it has a name; one that cannot be written keeps nobody up."""
    is_written = False
    if path:
        try:
            with open(path, "w") as file:
                file.write(f"{os.getpid()}\n")
            is_written = True
        except OSError as error:
            log.warning("Failed to write PID file: %s: %s", path, error.strerror)
    try:
        yield
    finally:
        if is_written:
            with contextlib.suppress(OSError):
                os.unlink(path)

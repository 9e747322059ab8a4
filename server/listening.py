"""Sockets, signals, the loop: runs a server until somebody ends it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import ssl
from typing import TYPE_CHECKING

import uvloop

from lamina.engine import EngineError
from lamina.server import commands
from lamina.server.connection import Connection
from lamina.server.server import Server

if TYPE_CHECKING:
    from lamina.server.config import Config

log = logging.getLogger(__name__)

_GROUPS = commands.GROUPS
"""Importing the commands is what fills the registry."""


def run(config: Config) -> int:
    """Serve until SIGTERM, SIGINT or SHUTDOWN; returns the exit status.

    Errors: what opening the database or the sockets raises.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(config))


async def _serve(config: Config) -> int:
    loop = asyncio.get_running_loop()
    server = Server(config)
    server.loop = loop
    stopped = asyncio.Event()
    server.on_shutdown = stopped.set
    listeners: list[asyncio.Server] = []
    try:
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signal_number, _on_signal, signal_number, stopped)
        listeners = await _listen(server, config)
        server.cron.start()
        with _pidfile(config):
            log.info("Ready to accept connections")
            _notify_supervisor(config, "READY=1\nSTATUS=Ready to accept connections\n")
            await stopped.wait()
        _notify_supervisor(config, "STOPPING=1\n")
    finally:
        for listener in listeners:
            listener.close()
        server.end_tick()
        server.syncer.finish()
        for client in list(server.clients.values()):
            server.close_client(client)
        await asyncio.sleep(0)  # lets what was written leave
        is_whole = _close(server)
        if config.unixsocket:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(config.unixsocket)
    log.info("Lamina is now ready to exit, bye bye...")
    return 0 if is_whole else 1


def _close(server: Server) -> bool:
    """Close the database; tells whether all that has been acknowledged is known to be on the disk."""
    try:
        server.close()
    except (OSError, EngineError) as error:
        log.critical("what was written last may not be on the disk: %s", error)
        return False
    return True


def _on_signal(signal_number: int, stopped: asyncio.Event) -> None:
    log.warning("Received %s, shutting down...", signal.Signals(signal_number).name)
    stopped.set()


async def _listen(server: Server, config: Config) -> list[asyncio.Server]:
    """Open all sockets that the configuration names. Errors: OSError, ValueError."""
    loop = asyncio.get_running_loop()

    def connect() -> Connection:
        return Connection(server)

    listeners: list[asyncio.Server] = []
    try:
        for port, context in ((config.port, None), (config.tls_port, _tls_context(config))):
            if not port:
                continue
            for address in config.bind:
                is_optional = address.startswith("-")
                host = address.removeprefix("-")
                try:
                    sock = _bind(host, port, config.tcp_backlog)
                except OSError as error:
                    if is_optional:
                        log.info("not listening on %s:%d: %s", host, port, error)
                        continue
                    raise
                listeners.append(
                    await loop.create_server(connect, sock=sock, backlog=config.tcp_backlog, ssl=context)
                )
        if config.unixsocket:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(config.unixsocket)
            listeners.append(
                await loop.create_unix_server(connect, config.unixsocket, backlog=config.tcp_backlog)
            )
            if config.unixsocketperm:
                os.chmod(config.unixsocket, config.unixsocketperm)
        if not listeners:
            raise ValueError("nothing to listen on: port, tls-port and unixsocket are all off")
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _bind(host: str, port: int, backlog: int) -> socket.socket:
    """Return a listening TCP socket. `host` "*" is every IPv4 address, "::*" every IPv6 one."""
    name = {"*": "0.0.0.0", "::*": "::"}.get(host, host)
    family, kind, protocol, _, address = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _tls_context(config: Config) -> ssl.SSLContext | None:
    """Return the TLS context for tls-port, or None if that is off. Errors: OSError, ssl.SSLError."""
    if not config.tls_port:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(
        config.tls_cert_file, config.tls_key_file or None, config.tls_key_file_pass or None
    )
    if config.tls_ca_cert_file or config.tls_ca_cert_dir:
        context.load_verify_locations(config.tls_ca_cert_file or None, config.tls_ca_cert_dir or None)
    context.verify_mode = {"yes": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "no": ssl.CERT_NONE}[
        config.tls_auth_clients
    ]
    protocols = config.tls_protocols.split()
    if protocols and "TLSv1.3" not in protocols:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    if protocols and "TLSv1.2" not in protocols:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    if config.tls_ciphers:
        context.set_ciphers(config.tls_ciphers)
    if config.tls_prefer_server_ciphers:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    if not config.tls_session_caching:
        context.options |= ssl.OP_NO_TICKET
    return context


@contextlib.contextmanager
def _pidfile(config: Config):  # type: ignore[no-untyped-def]
    """Keep the process's number in a file while it serves."""
    if not config.pidfile:
        yield
        return
    with open(config.pidfile, "w") as file:
        file.write(f"{os.getpid()}\n")
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(config.pidfile)


def _notify_supervisor(config: Config, state: str) -> None:
    """Tell systemd how we are, if it asked to be told (sd_notify)."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path or config.supervised not in ("systemd", "auto"):
        return
    if path.startswith("@"):
        path = "\0" + path[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
        sock.connect(path)
        sock.sendall(state.encode())

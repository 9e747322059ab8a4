"""The sockets a server listens on: opened when it starts, exchanged when CONFIG SET says so.

CONFIG SET has to answer at once whether an address can be had, while the loop takes a socket on in a turn to
come. So a socket is bound and listens before the loop is given it; who connects meanwhile waits in its
backlog. What cannot be had changes nothing. Connections that are there stay, whatever happens here.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import logging
import os
import socket
import ssl
import stat
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

from lamina.server.parameters import ConfigError

if TYPE_CHECKING:
    from lamina.server.config import Config

log = logging.getLogger(__name__)

_PORT_FAILED: Final = "Unable to listen on this port. Check server logs."
_BIND_FAILED: Final = "Failed to bind to specified addresses."
_TLS_FAILED: Final = "Unable to update TLS configuration. Check server logs."
TLS_SETTINGS: Final = (
    "tls-cert-file tls-key-file tls-key-file-pass tls-ca-cert-file tls-ca-cert-dir tls-auth-clients"
    " tls-protocols tls-ciphers tls-prefer-server-ciphers tls-session-caching"
).split()
"""What a TLS context is made of."""
_TLS_VERSIONS: Final = frozenset(("tlsv1.2", "tlsv1.3"))

_NOT_SUPPORTED: Final = frozenset(
    (
        errno.ENOPROTOOPT,
        errno.EPROTONOSUPPORT,
        errno.ESOCKTNOSUPPORT,
        errno.EPFNOSUPPORT,
        errno.EAFNOSUPPORT,
    )
)
"""Why a machine without IPv6, say, has no address of that kind: reason enough to do without it."""


class Place(NamedTuple):
    """Where a TCP socket listens. `host` is a word of `bind` without its minus."""

    host: str
    port: int
    is_tls: bool


class Listener:
    """A socket that listens, and the loop's server that accepts from it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._server: asyncio.Server | None = None
        self.task: asyncio.Task[None] | None = None
        """What gives the socket to the loop."""

    def serve(
        self, connect: Callable[[], asyncio.Protocol], backlog: int, context: ssl.SSLContext | None
    ) -> None:
        """Let the loop accept, over TLS if there is a context. Called again, the new context takes over."""
        if self.task is not None:
            self.task.cancel()
        self.task = asyncio.get_running_loop().create_task(self._serve(connect, backlog, context))
        self.task.add_done_callback(_log_failure)

    async def _serve(
        self, connect: Callable[[], asyncio.Protocol], backlog: int, context: ssl.SSLContext | None
    ) -> None:
        loop = asyncio.get_running_loop()
        previous = self._server
        # The loop closes what it is given: it gets a descriptor of its own, so that the socket goes on
        # listening when another server takes over from this one.
        sock = self._sock.dup()
        if sock.family == socket.AF_UNIX:
            self._server = await loop.create_unix_server(connect, sock=sock, backlog=backlog)
        else:
            self._server = await loop.create_server(connect, sock=sock, backlog=backlog, ssl=context)
        if previous is not None:
            previous.close()

    def close(self) -> None:
        """Listen no more."""
        if self.task is not None:
            self.task.cancel()
        if self._server is not None:
            self._server.close()
        self._sock.close()


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("a socket that listens cannot be served: %s", task.exception())


class Listeners:
    """All sockets that the configuration names."""

    def __init__(self, config: Config, connect: Callable[[], asyncio.Protocol]) -> None:
        self._config = config
        self._connect = connect
        self._open: dict[Place, Listener] = {}
        self._unix: Listener | None = None
        self._context: ssl.SSLContext | None = None

    async def start(self) -> None:
        """Open all of them, and follow the configuration from now on.

        Errors: OSError; ValueError if that leaves nothing to listen on, or for TLS without sense.
        """
        config = self._config
        self._reopen()
        if config.unixsocket:
            self._unix = Listener(_bind_unix(config.unixsocket, config.unixsocketperm, config.tcp_backlog))
            self._unix.serve(self._connect, config.tcp_backlog, None)
        listeners = [*self._open.values(), *([self._unix] if self._unix is not None else [])]
        if not listeners:
            raise ValueError("nothing to listen on: port, tls-port and unixsocket are all off, or bind is")
        await asyncio.gather(*[listener.task for listener in listeners if listener.task is not None])
        for name, failed in (("bind", _BIND_FAILED), ("port", _PORT_FAILED), ("tls-port", _PORT_FAILED)):
            config.on_change(name, functools.partial(self._follow, failed, renews_tls=False))
        renew_tls = functools.partial(self._follow, _TLS_FAILED, renews_tls=True)
        for name in TLS_SETTINGS:
            config.on_change(name, renew_tls)

    def close(self) -> None:
        """Listen nowhere any more."""
        for listener in self._open.values():
            listener.close()
        self._open.clear()
        if self._unix is not None:
            self._unix.close()
            self._unix = None
            with contextlib.suppress(OSError):
                os.unlink(self._config.unixsocket)

    def _follow(self, failed: str, *, renews_tls: bool) -> None:
        """Be what CONFIG SET has made of the configuration. Errors: ConfigError with the text `failed`."""
        try:
            self._reopen(renews_tls=renews_tls)
        except (ValueError, ssl.SSLError) as error:
            log.warning("TLS cannot be configured so: %s", error)
            raise ConfigError(_TLS_FAILED) from None
        except OSError as error:
            log.warning("%s", error.strerror or error)
            raise ConfigError(failed) from None

    def _reopen(self, *, renews_tls: bool = False) -> None:
        """Listen where the configuration says, and nowhere else; `renews_tls` if what makes TLS has changed.

        Errors: OSError, ValueError; all is as before then.
        """
        config = self._config
        context = None
        if config.tls_port:
            is_kept = self._context is not None and not renews_tls
            context = self._context if is_kept else tls_context(config)
        wanted = _places(config)
        opened = self._open_places([place for place in wanted if place not in self._open], wanted)
        self._drop([place for place in self._open if place not in wanted])
        is_renewed = context is not self._context
        self._context = context
        for place, listener in self._open.items():
            if place.is_tls and is_renewed:
                listener.serve(self._connect, config.tcp_backlog, context)
        self._add(opened)

    def _open_places(self, missing: list[Place], wanted: dict[Place, bool]) -> dict[Place, socket.socket]:
        """Return sockets for the places that are missing. Errors: OSError."""
        try:
            return self._bind_all(missing, wanted)
        except OSError as error:
            ports = {place.port for place in missing}
            leaving = [place for place in self._open if place not in wanted and place.port in ports]
            if error.errno != errno.EADDRINUSE or not leaving:
                raise
        # All addresses of the machine and one of them exclude each other on the same port, and so do TLS and
        # plain connections: who leaves has to go first. If that does not help they come back.
        self._drop(leaving)
        try:
            return self._bind_all(missing, wanted)
        except OSError:
            for place in leaving:
                with contextlib.suppress(OSError):
                    self._add(self._bind_all([place], {place: False}))
            raise

    def _bind_all(
        self, places: Iterable[Place], is_optional: dict[Place, bool]
    ) -> dict[Place, socket.socket]:
        """Return a listening socket for each place that can be had. Errors: OSError; then there is none."""
        found: dict[Place, socket.socket] = {}
        try:
            for place in places:
                try:
                    found[place] = _bind(place, self._config.tcp_backlog)
                except OSError as error:
                    is_absent = error.errno == errno.EADDRNOTAVAIL and is_optional[place]
                    if not is_absent and error.errno not in _NOT_SUPPORTED:
                        raise
                    log.info("%s", error.strerror)
        except BaseException:
            for sock in found.values():
                sock.close()
            raise
        return found

    def _add(self, opened: dict[Place, socket.socket]) -> None:
        for place, sock in opened.items():
            listener = self._open[place] = Listener(sock)
            listener.serve(self._connect, self._config.tcp_backlog, self._context if place.is_tls else None)

    def _drop(self, places: Iterable[Place]) -> None:
        for place in places:
            self._open.pop(place).close()


def _places(config: Config) -> dict[Place, bool]:
    """Return where the configuration wants TCP sockets, and of each whether it may be missing."""
    return {
        Place(address.removeprefix("-"), port, is_tls): address.startswith("-")
        for port, is_tls in ((config.port, False), (config.tls_port, True))
        for address in config.bind
        if port
    }


def _bind(place: Place, backlog: int) -> socket.socket:
    """Return a listening TCP socket. Errors: OSError that names the place."""
    host, port, _ = place
    # As Redis has it: a name stands for its first IPv4 address, "*" for all of them, "::*" for all of IPv6.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    name = {"*": "0.0.0.0", "::*": "::"}.get(host, host)
    sock: socket.socket | None = None
    try:
        _, kind, protocol, _, address = socket.getaddrinfo(name, port, family, socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(backlog)
        sock.setblocking(False)
    except OSError as error:
        if sock is not None:
            sock.close()
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {reason}") from error
    return sock


def _bind_unix(path: str, permissions: int, backlog: int) -> socket.socket:
    """Return a listening Unix socket; one left behind makes way. Errors: OSError that names the path."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _make_way(path)
        sock.bind(path)
        if permissions:
            os.chmod(path, permissions)
        sock.listen(backlog)  # only now: nobody comes in before the permissions are right
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"cannot listen on the Unix socket {path}: {reason}") from error
    return sock


def _make_way(path: str) -> None:
    """Remove a Unix socket that somebody has left behind.

    Errors: OSError for one that is in use, and for what is no socket: it may be precious.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "what is there is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # whoever listens has much to do
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def tls_context(config: Config) -> ssl.SSLContext:
    """Return what TLS is made of. Errors: OSError, ssl.SSLError; ValueError for what does not fit."""
    if not config.tls_cert_file:
        raise ValueError("tls-port needs a tls-cert-file")
    has_authorities = config.tls_ca_cert_file or config.tls_ca_cert_dir
    if config.tls_auth_clients != "no" and not has_authorities:
        raise ValueError(
            f"tls-auth-clients {config.tls_auth_clients} needs a tls-ca-cert-file or tls-ca-cert-dir"
        )
    versions = set(config.tls_protocols.lower().split())
    if not versions <= _TLS_VERSIONS:
        raise ValueError("tls-protocols takes TLSv1.2 and TLSv1.3")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # An empty passphrase is a wrong one. None would make OpenSSL ask for it at the terminal.
    context.load_cert_chain(
        config.tls_cert_file, config.tls_key_file or None, password=config.tls_key_file_pass
    )
    if has_authorities:
        context.load_verify_locations(config.tls_ca_cert_file or None, config.tls_ca_cert_dir or None)
    context.verify_mode = {"yes": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "no": ssl.CERT_NONE}[
        config.tls_auth_clients
    ]
    if versions == {"tlsv1.2"}:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    elif versions == {"tlsv1.3"}:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    if config.tls_ciphers:
        context.set_ciphers(config.tls_ciphers)
    if config.tls_prefer_server_ciphers:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    if not config.tls_session_caching:
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0  # TLS 1.3's, which the option leaves
    return context

"""The loop, signals, beginning and end: runs a server until somebody ends it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
from typing import TYPE_CHECKING

import uvloop

from lamina.engine import EngineError
from lamina.server import commands
from lamina.server.connection import Connection
from lamina.server.registry import rename
from lamina.server.server import Server
from lamina.server.sockets import Listeners
from lamina.server.supervision import notify_ready, notify_stopping, pidfile

if TYPE_CHECKING:
    from lamina.server.config import Config

log = logging.getLogger(__name__)

_NEVER = 1 << 30

_GROUPS = commands.GROUPS
"""Importing the commands is what fills the registry."""


def run(config: Config) -> int:
    """Serve until SIGTERM, SIGINT or SHUTDOWN; returns the exit status.

    Commands are renamed for the whole process, so it should have nothing else to do.

    Errors: what opening the database or the sockets raises; ValueError for a command that cannot be renamed.
    """
    for old, new in config.renamed_commands:
        rename(old, new)
    _spare_the_old()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(config))


def _spare_the_old() -> None:
    """Let the garbage collector look at young objects only.

    A look at all of them takes 0.1 µs for each, and a cache of small collections consists of millions: all
    clients would wait for 0.2 s. There is nothing to find: what a server lets go of has no cycles, and MEMORY
    PURGE looks everywhere.
    """
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, _NEVER)


async def _serve(config: Config) -> int:
    with contextlib.ExitStack() as until_closed:
        return await _serve_until_stopped(config, until_closed)


async def _serve_until_stopped(config: Config, until_closed: contextlib.ExitStack) -> int:
    loop = asyncio.get_running_loop()
    server = Server(config)
    server.loop = loop
    stopped = asyncio.Event()
    server.on_shutdown = stopped.set
    listeners = Listeners(config, lambda: Connection(server))
    try:
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signal_number, _on_signal, signal_number, stopped)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a terminal that is closed ends no server, as in Redis
        await listeners.start()
        server.cron.start()
        until_closed.enter_context(pidfile(config.pidfile))  # who sees it go may open the database
        log.info("Ready to accept connections")
        notify_ready(config)
        await stopped.wait()
        notify_stopping(config)
    finally:
        listeners.close()
        server.end_tick()
        server.syncer.finish()
        for client in list(server.clients.values()):
            server.close_client(client)
        await asyncio.sleep(0)  # lets what was written leave
        is_whole = _close(server)
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

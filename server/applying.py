"""What a change of the configuration does to a server that runs.

Most parameters are read where they matter, each time. Here are the others: those that hot paths have a copy
of, and those that something has to be done about.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from lamina.server import events
from lamina.server.registry import all_commands

if TYPE_CHECKING:
    from lamina.server.server import Server

_NEVER_NS: Final = 1 << 62

_WRITE_HIGH_BYTES: Final = 1 << 20
"""What may wait in a transport before its client is not read from any more. Limits of output are looked at
from there on, so it is less where one of them is."""

VERBOSE: Final = (logging.DEBUG + logging.INFO) // 2
"""A level of Redis's that Python does not have."""

LOG_LEVELS: Final = {
    "debug": logging.DEBUG,
    "verbose": VERBOSE,
    "notice": logging.INFO,
    "warning": logging.WARNING,
}
"""Python's levels for the values of `loglevel`."""

_COPIED: Final = (
    "slowlog-log-slower-than",
    "slowlog-max-len",
    "latency-monitor-threshold",
    "notify-keyspace-events",
    "client-output-buffer-limit",
)


def follow_config(server: Server) -> None:
    """Apply the configuration, now and whenever it changes."""
    config = server.config
    for name in _COPIED:
        config.on_change(name, server.apply_config)
    config.on_change("loglevel", lambda: logging.getLogger("lamina").setLevel(LOG_LEVELS[config.loglevel]))
    config.on_change("latency-tracking", lambda: _track_latency(config.latency_tracking))
    _track_latency(config.latency_tracking)
    server.apply_config()


def _track_latency(is_on: bool) -> None:
    for record in all_commands():
        record.track(is_on)


def apply_config(server: Server) -> None:
    """Copy to where hot paths look what they need."""
    config = server.config
    server.latency.threshold_ms = config.latency_monitor_threshold
    slow_ns = config.slowlog_log_slower_than * 1000 if config.slowlog_log_slower_than >= 0 else _NEVER_NS
    event_ns = config.latency_monitor_threshold * 1_000_000 or _NEVER_NS
    # One comparison after each command: who took longer than either is looked at closer. A command of no
    # measurable time is slow, too, where the threshold is 0.
    server.slow_ns = min(slow_ns, event_ns) - 1
    server.slowlog.trim(config.slowlog_max_len)
    limits = [config.client_output_buffer_limit[name] for name in ("normal", "pubsub")]
    sizes = [size for hard, soft, _ in limits for size in (hard, soft) if size]
    write_high_bytes = min([_WRITE_HIGH_BYTES, *sizes])
    if write_high_bytes != server.write_high_bytes:
        server.write_high_bytes = write_high_bytes
        for client in server.clients.values():
            if client.connection is not None:
                client.connection.transport.set_write_buffer_limits(high=write_high_bytes)
    classes = config.notify_keyspace_events
    listens = classes if classes & (events.KEYSPACE | events.KEYEVENT) else 0
    for keyspace in server.databases.keyspaces:
        keyspace.listens = listens

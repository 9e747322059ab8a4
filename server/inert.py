"""Redis's parameters that have no meaning here: replication, clusters, RDB and AOF files, memory tricks.

They are taken, checked and shown, because configuration files hold them and clients ask for them. A file that
sets one to anything but its default gets one warning for it. Where taking a value would be a promise not kept
(a replica, a cluster), only the harmless one is taken and the error says why.
"""

from __future__ import annotations

from typing import Any

from lamina.engine.options import KIB, MIB
from lamina.server.numbers import INTEGER_MAX
from lamina.server.parameters import (
    INT_MAX,
    Choices,
    Enum,
    Integer,
    Memory,
    MemoryOrPercent,
    Only,
    Parameter,
    Text,
    Words,
    YesNo,
)

WITHOUT_EFFECT = "Taken and shown, without effect"
_NOTHING = f"{WITHOUT_EFFECT}."
_SHUTDOWN = "default save nosave now force"


def _flags(default: bool, names: str) -> list[Parameter[bool]]:
    return [YesNo(default, _NOTHING).named(name) for name in names.split()]


def _integer(name: str, default: int, low: int = 0, high: int = INT_MAX, alias: str = "") -> Parameter[int]:
    return Integer(default, low, high, _NOTHING, alias=alias).named(name)


def _memory(name: str, default: int, low: int = 0, high: int = INTEGER_MAX) -> Parameter[int]:
    return Memory(default, low, high, _NOTHING).named(name)


def _enum(name: str, default: str, choices: str) -> Parameter[str]:
    return Enum(default, choices, _NOTHING).named(name)


def _texts(names: str) -> list[Parameter[str]]:
    return [Text("", _NOTHING).named(name) for name in names.split()]


def _fixed_text(name: str, default: str) -> Parameter[str]:
    return Text(default, _NOTHING, access="fixed").named(name)


def _only(name: str, default: str, reason: str, alias: str = "") -> Parameter[str]:
    return Only(default, reason, alias=alias).named(name)


def _with_alias(default: bool, name: str, alias: str) -> Parameter[bool]:
    return YesNo(default, _NOTHING, alias=alias).named(name)


_REPLICATION: list[Parameter[Any]] = [
    _only("replicaof", "", "Lamina does not replicate: it cannot be a replica", "slaveof"),
    *_texts("masterauth masteruser"),
    Text("", _NOTHING, alias="slave-announce-ip").named("replica-announce-ip"),
    _integer("replica-announce-port", 0, 0, 65535, "slave-announce-port"),
    _with_alias(True, "replica-read-only", "slave-read-only"),
    _with_alias(True, "replica-serve-stale-data", "slave-serve-stale-data"),
    _with_alias(True, "replica-ignore-maxmemory", "slave-ignore-maxmemory"),
    _with_alias(False, "replica-lazy-flush", "slave-lazy-flush"),
    _integer("replica-priority", 100, alias="slave-priority"),
    *_flags(True, "replica-announced repl-diskless-sync"),
    *_flags(False, "replica-ignore-disk-write-errors repl-disable-tcp-nodelay"),
    _integer("repl-ping-replica-period", 10, 1, alias="repl-ping-slave-period"),
    _integer("repl-timeout", 60, 1),
    _integer("repl-backlog-ttl", 3600),
    _memory("repl-backlog-size", MIB, 1),
    _integer("repl-diskless-sync-delay", 5),
    _integer("repl-diskless-sync-max-replicas", 0),
    _enum("repl-diskless-load", "disabled", "disabled on-empty-db swapdb"),
    _integer("min-replicas-to-write", 0, alias="min-slaves-to-write"),
    _integer("min-replicas-max-lag", 10, alias="min-slaves-max-lag"),
    _enum("propagation-error-behavior", "ignore", "ignore panic panic-on-replicas"),
]

_CLUSTER: list[Parameter[Any]] = [
    _only("cluster-enabled", "no", "Lamina has no cluster mode"),
    *_flags(True, "cluster-allow-pubsubshard-when-down cluster-allow-replica-migration"),
    *_flags(True, "cluster-require-full-coverage"),
    *_flags(False, "cluster-allow-reads-when-down"),
    _with_alias(False, "cluster-replica-no-failover", "cluster-slave-no-failover"),
    _integer("cluster-replica-validity-factor", 10, alias="cluster-slave-validity-factor"),
    _integer("cluster-migration-barrier", 1),
    _integer("cluster-node-timeout", 15000),
    _integer("cluster-port", 0, 0, 65535),
    _integer("cluster-announce-bus-port", 0, 0, 65535),
    _integer("cluster-announce-port", 0, 0, 65535),
    _integer("cluster-announce-tls-port", 0, 0, 65535),
    _memory("cluster-link-sendbuf-limit", 0),
    *_texts("cluster-announce-hostname cluster-announce-human-nodename cluster-announce-ip"),
    _fixed_text("cluster-config-file", "nodes.conf"),
    _enum("cluster-preferred-endpoint-type", "ip", "ip hostname unknown-endpoint"),
]

_FILES: list[Parameter[Any]] = [
    # Every write is logged, whatever this says; "yes" is nearest to the truth.
    YesNo(True, f"{WITHOUT_EFFECT}: every write is logged.").named("appendonly"),
    _fixed_text("appendfilename", "appendonly.aof"),
    _fixed_text("appenddirname", "appendonlydir"),
    *_flags(True, "aof-load-truncated aof-rewrite-incremental-fsync aof-use-rdb-preamble"),
    *_flags(False, "aof-disable-auto-gc aof-timestamp-enabled no-appendfsync-on-rewrite"),
    _integer("auto-aof-rewrite-percentage", 100),
    _memory("auto-aof-rewrite-min-size", 64 * MIB),
    YesNo(True, f"{WITHOUT_EFFECT}: every write is logged, whatever becomes of an RDB file.").named(
        "stop-writes-on-bgsave-error"
    ),
    *_flags(False, "rdb-del-sync-files"),
    _enum("sanitize-dump-payload", "no", "no yes clients"),
]

_MEMORY: list[Parameter[Any]] = [
    *_flags(False, "lazyfree-lazy-eviction lazyfree-lazy-expire lazyfree-lazy-server-del"),
    *_flags(False, "lazyfree-lazy-user-del lazyfree-lazy-user-flush"),
    MemoryOrPercent(0, -100, INTEGER_MAX, _NOTHING).named("maxmemory-clients"),
    _integer("maxmemory-eviction-tenacity", 10, 0, 100),
    _integer("maxmemory-samples", 5, 1),
    _integer("lfu-decay-time", 1),
    _integer("lfu-log-factor", 10),
    *_flags(False, "activedefrag"),
    _integer("active-defrag-cycle-max", 25, 1, 99),
    _integer("active-defrag-cycle-min", 1, 1, 99),
    _memory("active-defrag-ignore-bytes", 100 * MIB, 1),
    _integer("active-defrag-max-scan-fields", 1000, 1),
    _integer("active-defrag-threshold-lower", 10, 0, 1000),
    _integer("active-defrag-threshold-upper", 100, 0, 1000),
    *_flags(True, "activerehashing jemalloc-bg-thread"),
    _integer("list-compress-depth", 0),
]

_PROCESS: list[Parameter[Any]] = [
    # Debian's file has "yes", and its service "no" on the command line: files with it must be taken.
    YesNo(False, f"{WITHOUT_EFFECT}: the server stays in the foreground.", access="fixed").named("daemonize"),
    _integer("active-expire-effort", 1, 1, 10),
    *_flags(True, "crash-log-enabled crash-memcheck-enabled dynamic-hz set-proc-title disable-thp"),
    *_flags(False, "always-show-logo io-threads-do-reads syslog-enabled"),
    Integer(1, 1, 128, _NOTHING, access="fixed").named("io-threads"),
    *_texts("aof_rewrite_cpulist bgsave_cpulist bio_cpulist server_cpulist bind-source-addr ignore-warnings"),
    *_texts("locale-collate"),
    _enum("oom-score-adj", "no", "no yes relative absolute"),
    Words(("0", "200", "800"), _NOTHING).named("oom-score-adj-values"),
    _fixed_text("proc-title-template", "{title} {listen-addr} {server-mode}"),
    Choices("default", _SHUTDOWN, _NOTHING).named("shutdown-on-sigint"),
    Choices("default", _SHUTDOWN, _NOTHING).named("shutdown-on-sigterm"),
    _integer("shutdown-timeout", 10),
    Integer(0, 0, (1 << 32) - 1, _NOTHING, access="fixed").named("socket-mark-id"),
    _enum("syslog-facility", "local0", "user local0 local1 local2 local3 local4 local5 local6 local7"),
    _fixed_text("syslog-ident", "redis"),
    _enum("enable-module-command", "no", "no yes local"),
    _enum("enable-protected-configs", "no", "no yes local"),
]

_TLS: list[Parameter[Any]] = [
    *_flags(False, "tls-cluster tls-replication"),
    *_texts("tls-ciphersuites tls-client-cert-file tls-client-key-file tls-client-key-file-pass"),
    *_texts("tls-dh-params-file"),
    _integer("tls-session-cache-size", 20 * KIB),
    _integer("tls-session-cache-timeout", 300),
]

INERT: tuple[Parameter[Any], ...] = (
    *_REPLICATION,
    *_CLUSTER,
    *_FILES,
    *_MEMORY,
    *_PROCESS,
    *_TLS,
)
"""All of them."""

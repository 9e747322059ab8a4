"""INFO: the state of the server as lines of `name:value`, in sections.

Names are Redis's, so that what reads INFO of a Redis (redis_exporter, redis-cli --stat, client libraries)
reads this; where Redis's word is about its own mechanism, the value is that of ours which serves the purpose:

    rdb_...     SAVE and BGSAVE: writing an RDB file
    aof_...     the write-ahead log; rewriting is compaction

The section `# Lamina` tells of the engine: levels, memory, caches, stalls, errors.
"""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any, Final

from lamina.engine import EngineError
from lamina.engine.metrics import Stats as EngineStats
from lamina.server.encoding import U64, end_of
from lamina.server.keyspace import Keyspace
from lamina.server.latency import percentiles_us
from lamina.server.memoryusage import Memory, cached_bytes, system_bytes
from lamina.server.registry import Command, all_commands
from lamina.server.supervision import supervisor_of
from lamina.server.version import REDIS_VERSION, VERSION

if TYPE_CHECKING:
    from lamina.server.config import Config
    from lamina.server.server import Server

Line = tuple[str, Any]

_TTL_SAMPLES: Final = 16
_LRU_CLOCK_BITS: Final = 24
_UNITS: Final = "KMGTP"
_NO_REPLICATION_ID: Final = "0" * 40


def _server(server: Server) -> Iterator[Line]:
    config = server.config
    uptime_s = (server.clock.now_ms - server.started_ms) // 1000
    yield "redis_version", REDIS_VERSION
    yield "redis_git_sha1", "00000000"
    yield "redis_git_dirty", 0
    yield "redis_build_id", f"lamina-{VERSION}"
    yield "redis_mode", "standalone"
    yield "os", f"{platform.system()} {platform.release()} {platform.machine()}"
    yield "arch_bits", 64 if sys.maxsize > 1 << 32 else 32
    yield "monotonic_clock", time.get_clock_info("monotonic").implementation.removesuffix("(CLOCK_MONOTONIC)")
    yield "multiplexing_api", type(server.loop).__module__.partition(".")[0] if server.loop else "none"
    yield "process_id", os.getpid()
    yield "process_supervised", supervisor_of(config)
    yield "run_id", server.run_id
    yield "tcp_port", config.port or config.tls_port
    yield "server_time_usec", server.clock.now_us
    yield "uptime_in_seconds", uptime_s
    yield "uptime_in_days", uptime_s // 86400
    yield "hz", config.hz
    yield "configured_hz", config.hz
    yield "lru_clock", server.clock.now_ms // 1000 & (1 << _LRU_CLOCK_BITS) - 1
    yield "executable", sys.executable
    yield "config_file", config.path or ""
    yield "io_threads_active", 0
    yield from _listeners(config)


def _listeners(config: Config) -> Iterator[Line]:
    """Say where clients can connect, as 7.2 does: a line for each kind of socket."""
    addresses = "".join(f",bind={address}" for address in config.bind)
    kinds = [
        f"name={name}{addresses},port={port}"
        for name, port in (("tcp", config.port), ("tls", config.tls_port))
        if port and config.bind
    ]
    if config.unixsocket:
        kinds.append(f"name=unix,bind={config.unixsocket}")
    for number, kind in enumerate(kinds):
        yield f"listener{number}", kind


def _clients(server: Server) -> Iterator[Line]:
    clients = server.clients.values()
    connections = [client.connection for client in clients if client.connection is not None]
    inputs = [connection.reader.buffered_bytes for connection in connections if hasattr(connection, "reader")]
    outputs = [connection.transport.get_write_buffer_size() for connection in connections]
    waits = server.waits.active
    yield "connected_clients", len(clients)
    yield "cluster_connections", 0
    yield "maxclients", server.config.maxclients
    yield "client_recent_max_input_buffer", max(inputs, default=0)
    yield "client_recent_max_output_buffer", max(outputs, default=0)
    yield "blocked_clients", len(waits)
    yield "tracking_clients", len(server.tracking.clients)
    yield "pubsub_clients", sum(bool(client.subscriptions) for client in clients)
    yield "watching_clients", sum(bool(client.watched) for client in clients)
    yield "clients_in_timeout_table", sum(bool(wait.deadline_ms) for wait in waits)
    yield "total_watched_keys", sum(len(keyspace.watched) for keyspace in server.databases.keyspaces)
    yield "total_blocking_keys", sum(len(keyspace.waiting) for keyspace in server.databases.keyspaces)


def _memory(server: Server) -> Iterator[Line]:
    memory = Memory(server)
    maximum = server.config.maxmemory
    yield from _sized("used_memory", memory.used)
    yield from _sized("used_memory_rss", memory.resident)
    yield from _sized("used_memory_peak", memory.peak)
    yield "used_memory_peak_perc", f"{100 * memory.used / memory.peak:.2f}%"
    yield "used_memory_overhead", memory.used - memory.dataset
    yield "used_memory_startup", memory.startup
    yield "used_memory_dataset", memory.dataset
    scripting = server.scripting
    scripts, libraries = scripting.scripts, scripting.libraries
    # Scripts and functions share one interpreter.
    yield "used_memory_vm_eval", scripting.used_bytes
    yield from _sized("used_memory_lua", scripting.used_bytes)
    yield "used_memory_scripts_eval", scripts.source_bytes
    yield "number_of_cached_scripts", len(scripts)
    yield "number_of_functions", libraries.functions_count
    yield "number_of_libraries", libraries.libraries_count
    yield "used_memory_vm_functions", 0
    yield from _sized("used_memory_vm_total", scripting.used_bytes)
    yield "used_memory_functions", libraries.source_bytes
    yield from _sized("used_memory_scripts", scripts.source_bytes + libraries.source_bytes)
    share = 100 * memory.dataset / max(memory.used - memory.startup, 1)
    yield "used_memory_dataset_perc", f"{share:.2f}%"
    yield from _sized("total_system_memory", system_bytes())
    yield from _sized("maxmemory", maximum)
    yield "maxmemory_policy", server.config.maxmemory_policy
    yield "mem_fragmentation_ratio", f"{memory.fragmentation:.2f}"
    yield "mem_fragmentation_bytes", memory.resident - memory.used
    yield "mem_not_counted_for_evict", 0
    yield "mem_replication_backlog", 0
    yield "mem_total_replication_buffers", 0
    yield "mem_clients_slaves", 0
    yield "mem_clients_normal", memory.clients
    yield "mem_cluster_links", 0
    yield "mem_aof_buffer", memory.pending
    yield "mem_allocator", "python"
    yield "active_defrag_running", 0
    yield "lazyfree_pending_objects", 0
    yield "lazyfreed_objects", 0


def _persistence(server: Server) -> Iterator[Line]:
    saver = server.saver
    save, rewrite = saver.save_task, saver.rewrite_task
    stats = server.databases.store.db.stats()
    yield "loading", 0
    yield "async_loading", 0
    yield "current_fork_perc", "0.00"
    yield "rdb_changes_since_last_save", saver.changes_since_save
    yield "rdb_bgsave_in_progress", int(save.is_running)
    yield "rdb_last_save_time", saver.last_save_s
    yield "rdb_last_bgsave_status", "ok" if save.is_ok else "err"
    yield "rdb_last_bgsave_time_sec", save.last_s
    yield "rdb_current_bgsave_time_sec", save.current_s
    yield "rdb_saves", save.runs
    yield "rdb_last_cow_size", 0
    yield "aof_enabled", 1
    yield "aof_rewrite_in_progress", int(rewrite.is_running)
    yield "aof_rewrite_scheduled", int(rewrite.is_scheduled)
    yield "aof_last_rewrite_time_sec", rewrite.last_s
    yield "aof_current_rewrite_time_sec", rewrite.current_s
    yield "aof_last_bgrewrite_status", "ok" if rewrite.is_ok else "err"
    yield "aof_rewrites", rewrite.runs
    yield "aof_rewrites_consecutive_failures", rewrite.failures_in_a_row
    yield "aof_last_write_status", "ok" if server.write_error is None else "err"
    yield "aof_last_cow_size", 0
    yield "module_fork_in_progress", 0
    yield "module_fork_last_cow_size", 0
    yield "aof_current_size", stats.wal_size_bytes
    yield "aof_base_size", sum(level.size_bytes for level in stats.levels)
    yield "aof_pending_rewrite", int(rewrite.is_scheduled)
    yield "aof_pending_bio_fsync", int(server.syncer.is_syncing)


def _stats(server: Server) -> Iterator[Line]:
    stats, databases = server.stats, server.databases
    commands_per_s, input_per_s, output_per_s = stats.rates()
    yield "total_connections_received", stats.connections
    yield "total_commands_processed", server.commands_processed
    yield "instantaneous_ops_per_sec", round(commands_per_s)
    yield "total_net_input_bytes", stats.input_bytes
    yield "total_net_output_bytes", stats.output_bytes
    yield "total_net_repl_input_bytes", 0
    yield "total_net_repl_output_bytes", 0
    yield "instantaneous_input_kbps", f"{input_per_s / 1024:.2f}"
    yield "instantaneous_output_kbps", f"{output_per_s / 1024:.2f}"
    yield "instantaneous_input_repl_kbps", "0.00"
    yield "instantaneous_output_repl_kbps", "0.00"
    yield "rejected_connections", stats.rejected_connections
    yield "sync_full", 0
    yield "sync_partial_ok", 0
    yield "sync_partial_err", 0
    yield "expired_keys", databases.expired_keys - stats.expired_keys_base
    yield "expired_subkeys", databases.expired_fields - stats.expired_fields_base
    yield "expired_stale_perc", "0.00"
    yield "expired_time_cap_reached_count", stats.expiry_cycles_cut
    yield "expire_cycle_cpu_milliseconds", stats.expiry_ns // 1_000_000
    yield "evicted_keys", 0
    yield "evicted_clients", stats.evicted_clients
    yield "total_eviction_exceeded_time", 0
    yield "current_eviction_exceeded_time", 0
    yield "keyspace_hits", sum(keyspace.hits for keyspace in databases.keyspaces)
    yield "keyspace_misses", sum(keyspace.misses for keyspace in databases.keyspaces)
    yield "pubsub_channels", len(server.pubsub.channels)
    yield "pubsub_patterns", len(server.pubsub.patterns)
    yield "pubsubshard_channels", len(server.pubsub.shard_channels)
    yield "latest_fork_usec", 0
    yield "total_forks", 0
    yield "migrate_cached_sockets", 0
    yield "slave_expires_tracked_keys", 0
    yield "active_defrag_hits", 0
    yield "active_defrag_misses", 0
    yield "active_defrag_key_hits", 0
    yield "active_defrag_key_misses", 0
    yield "total_active_defrag_time", 0
    yield "current_active_defrag_time", 0
    yield "tracking_total_keys", len(server.tracking.table)
    yield "tracking_total_items", server.tracking.item_count
    yield "tracking_total_prefixes", len(server.tracking.prefixes)
    yield "unexpected_error_replies", stats.unexpected_errors
    yield "total_error_replies", sum(stats.errors.values())
    yield "dump_payload_sanitizations", 0
    yield "client_query_buffer_limit_disconnections", stats.query_limit_disconnections
    yield "client_output_buffer_limit_disconnections", stats.output_limit_disconnections
    denied = server.users.log.denied
    yield "acl_access_denied_auth", denied["auth"]
    yield "acl_access_denied_cmd", denied["command"]
    yield "acl_access_denied_key", denied["key"]
    yield "acl_access_denied_channel", denied["channel"]


def _replication(server: Server) -> Iterator[Line]:
    yield "role", "master"
    yield "connected_slaves", 0
    yield "master_failover_state", "no-failover"
    yield "master_replid", server.replication_id
    yield "master_replid2", _NO_REPLICATION_ID
    yield "master_repl_offset", 0
    yield "second_repl_offset", -1
    yield "repl_backlog_active", 0
    yield "repl_backlog_size", 0
    yield "repl_backlog_first_byte_offset", 0
    yield "repl_backlog_histlen", 0


def _cpu(server: Server) -> Iterator[Line]:
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    yield "used_cpu_sys", f"{own.ru_stime:.6f}"
    yield "used_cpu_user", f"{own.ru_utime:.6f}"
    yield "used_cpu_sys_children", f"{children.ru_stime:.6f}"
    yield "used_cpu_user_children", f"{children.ru_utime:.6f}"
    if hasattr(resource, "RUSAGE_THREAD"):
        thread = resource.getrusage(resource.RUSAGE_THREAD)
        yield "used_cpu_sys_main_thread", f"{thread.ru_stime:.6f}"
        yield "used_cpu_user_main_thread", f"{thread.ru_utime:.6f}"


def _modules(server: Server) -> Iterator[Line]:
    return iter(())


def _leaves() -> Iterator[Command]:
    return (record for record in all_commands() if record.calls or record.rejected or record.failed)


def _commandstats(server: Server) -> Iterator[Line]:
    for record in _leaves():
        calls, elapsed_us = record.calls, record.elapsed_ns / 1000
        text = f"calls={calls},usec={int(elapsed_us)},usec_per_call={elapsed_us / max(calls, 1):.2f}"
        text += f",rejected_calls={record.rejected},failed_calls={record.failed}"
        yield f"cmdstat_{record.wire_name.decode()}", text


def _errorstats(server: Server) -> Iterator[Line]:
    for code, count in sorted(server.stats.errors.items()):
        yield f"errorstat_{code.decode(errors='replace')}", f"count={count}"


def _latencystats(server: Server) -> Iterator[Line]:
    wanted = server.config.latency_tracking_info_percentiles
    if not server.config.latency_tracking:
        return
    for record in _leaves():
        if any(record.tracked):
            found = percentiles_us(record.tracked, wanted)
            text = ",".join([f"p{percent:g}={value:.3f}" for percent, value in zip(wanted, found)])
            yield f"latency_percentiles_usec_{record.wire_name.decode()}", text


def _cluster(server: Server) -> Iterator[Line]:
    yield "cluster_enabled", 0


def _keyspace(server: Server) -> Iterator[Line]:
    for keyspace, count in server.databases.each_with_keys():
        expiring = keyspace.count_expiring()
        average_ms = _average_ttl_ms(keyspace, expiring) if expiring else 0
        yield f"db{keyspace.index}", f"keys={count},expires={expiring},avg_ttl={average_ms}"


def _average_ttl_ms(keyspace: Keyspace, expiring: int) -> int:
    """Return about how long keys that expire have still to live, from some that lie evenly spread."""
    prefix, now_ms = keyspace.expiry_prefix, keyspace.clock.now_ms
    samples = min(_TTL_SAMPLES, expiring)
    total_ms = 0
    for number in range(samples):
        entry = keyspace.store.select(prefix, end_of(prefix), expiring * number // samples)
        assert entry is not None
        total_ms += max(U64.unpack_from(entry[0], len(prefix))[0] - now_ms, 0)
    return total_ms // samples


def _lamina(server: Server) -> Iterator[Line]:
    yield "lamina_version", VERSION
    databases = server.databases
    try:
        stats = databases.store.db.stats()
    except EngineError as error:
        yield "engine_error", _one_line(str(error))
        return
    yield "directory", server.path
    yield "engine_error", _one_line(server.engine_error or "")
    yield "write_error", _one_line(server.write_error or stats.write_error or "")
    yield "background_error", _one_line(stats.background_error or "")
    yield "record_cache_bytes", cached_bytes(databases)
    yield "record_cache_limit_bytes", databases.cache_bytes
    store = databases.store
    tables: list[Sized] = [store.hot, *store.warm]
    for keyspace in databases.keyspaces:
        tables += [keyspace.cache, *keyspace.cold]
    yield "records_cached", sum(map(len, tables))
    hashes = sum(keyspace.count_hashes_expiring() for keyspace in databases.keyspaces)
    yield "hashes_with_expiring_fields", hashes
    yield from _engine_lines(stats)


_ENGINE_FIELDS: Final = (
    "live_keys memtables memtable_size_bytes wal_size_bytes wal_bytes wal_syncs wal_lost_bytes"
    " cache_size_bytes cache_limit_bytes cache_hits cache_misses cache_evictions user_bytes"
    " write_amplification read_amplification space_amplification flushes flush_bytes flush_time_s"
    " compactions compaction_bytes compaction_time_s moved_runs moved_segments stalls stall_time_s"
    " stall_longest_s stall_state discarded_ranges discarded_pending_bytes snapshots worker_pid"
    " worker_deaths"
).split()


def _engine_lines(stats: EngineStats) -> Iterator[Line]:
    for number, level in enumerate(stats.levels):
        text = f"runs={level.runs},segments={level.segments},bytes={level.size_bytes}"
        yield f"level{number}", f"{text},entries={level.entries},tombstones={level.tombstones}"
    for name in _ENGINE_FIELDS:
        value = getattr(stats, name)
        yield name, "" if value is None else f"{value:.3f}" if isinstance(value, float) else value


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _sized(name: str, size_bytes: int) -> Iterator[Line]:
    yield name, size_bytes
    yield f"{name}_human", human_size(size_bytes)


def human_size(size_bytes: int) -> str:
    """Return a size as people read it: 1.50M."""
    if size_bytes < 1024:
        return f"{size_bytes}B"
    power = min((size_bytes.bit_length() - 1) // 10, len(_UNITS))
    return f"{size_bytes / 1024**power:.2f}{_UNITS[power - 1]}"


Section = Callable[["Server"], Iterator[Line]]

_SECTIONS: Final[dict[str, tuple[str, Section]]] = {
    "server": ("Server", _server),
    "clients": ("Clients", _clients),
    "memory": ("Memory", _memory),
    "persistence": ("Persistence", _persistence),
    "stats": ("Stats", _stats),
    "replication": ("Replication", _replication),
    "cpu": ("CPU", _cpu),
    "modules": ("Modules", _modules),
    "commandstats": ("Commandstats", _commandstats),
    "errorstats": ("Errorstats", _errorstats),
    "latencystats": ("Latencystats", _latencystats),
    "cluster": ("Cluster", _cluster),
    "keyspace": ("Keyspace", _keyspace),
    "lamina": ("Lamina", _lamina),
}
"""In the order in which they are shown."""

_ALL: Final = frozenset(_SECTIONS)
_DEFAULT: Final = _ALL - {"commandstats", "latencystats"}
_GROUPS: Final = {
    "default": _DEFAULT,
    "all": _ALL,
    "everything": _ALL,
    "module_list": frozenset(("modules",)),
}


def info(server: Server, names: Iterable[str]) -> str:
    """Return the sections of these names, in any case; the default ones without names."""
    wanted: set[str] = set()
    for name in names:
        lowered = name.lower()
        wanted |= _GROUPS.get(lowered, {lowered})
    shown = []
    for name, (title, section) in _SECTIONS.items():
        if name in (wanted or _DEFAULT):
            lines = "".join([f"{key}:{value}\r\n" for key, value in section(server)])
            shown.append(f"# {title}\r\n{lines}")
    return "\r\n".join(shown)

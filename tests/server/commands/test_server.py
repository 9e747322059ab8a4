"""The server's commands: databases, configuration, saving, slow log, latency, memory, DEBUG, replication."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from harness.local import LocalClient, Servers
from lamina.engine import EngineError
from lamina.server import events
from lamina.server.client import Client
from lamina.server.errors import CommandError
from lamina.server.latency import LatencyMonitor, cumulative_histogram, percentiles_us
from lamina.server.limits import LIMITS
from lamina.server.lolwut import draw_strata
from lamina.server.protection import is_local


@pytest.fixture
def debug(make_local: Servers) -> LocalClient:
    """Return a client that may use DEBUG."""
    return make_local.make(enable_debug_command="yes")


# --- Databases


def test_flushdb_leaves_other_databases_alone(local: LocalClient) -> None:
    local("SET", "a", 1)
    local("SELECT", 1)
    local("RPUSH", "b", 1, 2)
    assert local("FLUSHDB", "async") == b"OK"
    assert local("DBSIZE") == 0
    local("SELECT", 0)
    assert local("DBSIZE") == 1
    local.reload()
    assert local("GET", "a") == b"1"


def test_flushall_with_what_this_turn_has_written(local: LocalClient) -> None:
    replies = local.pipeline(("SET", "a", 1), ("FLUSHALL", "SYNC"), ("SET", "b", 2), ("DBSIZE",))
    assert replies == [b"OK", b"OK", b"OK", 1]
    local.reload()
    assert local("KEYS", "*") == [b"b"]


def test_swapdb(local: LocalClient) -> None:
    local("SET", "a", 1)
    assert local("SWAPDB", 0, 3) == b"OK"
    assert local("GET", "a") is None
    local.reload()
    local("SELECT", 3)
    assert local("GET", "a") == b"1"
    assert local("SWAPDB", 0, 99) == CommandError(b"ERR DB index is out of range")


# --- Configuration


def test_config_set_works_at_once(local: LocalClient) -> None:
    before = LIMITS.hash_listpack_entries
    try:
        assert local("CONFIG", "SET", "hash-max-listpack-entries", 7, "slowlog-max-len", 3) == b"OK"
        assert LIMITS.hash_listpack_entries == 7
        assert local("CONFIG", "GET", "hash-max-listpack-entries") == [b"hash-max-listpack-entries", b"7"]
    finally:
        local("CONFIG", "SET", "hash-max-listpack-entries", before)


def test_events_are_published_only_where_one_can_listen(local: LocalClient) -> None:
    keyspaces = local.server.databases.keyspaces
    assert not any(keyspace.listens for keyspace in keyspaces)
    local("CONFIG", "SET", "notify-keyspace-events", "$x")
    assert not any(keyspace.listens for keyspace in keyspaces)
    local("CONFIG", "SET", "notify-keyspace-events", "E$x")
    wanted = events.KEYEVENT | events.STRING | events.EXPIRED
    assert all(keyspace.listens == wanted for keyspace in keyspaces)
    local("CONFIG", "SET", "notify-keyspace-events", "")
    assert not any(keyspace.listens for keyspace in keyspaces)


def test_what_is_fixed_cannot_be_changed(local: LocalClient) -> None:
    reply = local("CONFIG", "SET", "databases", 4)
    assert reply == CommandError(
        b"ERR CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config"
    )


def test_config_rewrite(make_local: Servers, tmp_path: Path) -> None:
    local = make_local.make()
    path = tmp_path / "lamina.conf"
    path.write_text("# mine\ntimeout 10\n")
    local.server.config.path = str(path)
    assert local("CONFIG", "SET", "timeout", 20) == b"OK"
    assert local("CONFIG", "REWRITE") == b"OK"
    assert "# mine\ntimeout 20\n" in path.read_text()


def test_resetstat(local: LocalClient) -> None:
    local("SET", "a", 1, "PX", 10)
    local("GET", "a")
    local("LPUSH", "a", 1)
    local.clock.advance(20)
    local("GET", "a")
    assert local.server.stats.errors
    assert local("CONFIG", "RESETSTAT") == b"OK"
    assert not local.server.stats.errors
    info = local("INFO", "stats").decode()
    for field in ("expired_keys:0", "keyspace_hits:0", "keyspace_misses:0", "total_error_replies:0"):
        assert field in info
    assert local.server.commands_processed == 2


# --- Saving


def test_save_writes_a_file(local: LocalClient) -> None:
    local("SET", "a", "v" * 500)
    assert local.server.saver.changes_since_save > 0
    assert local("SAVE") == b"OK"
    fs = local.server.databases.store.db.fs
    assert fs.exists(os.path.join(local.server.config.dir, "dump.rdb"))
    assert not fs.exists(f"{local.server.path}.bgsave")
    assert local.server.saver.changes_since_save == 0


def test_bgsave_and_bgrewriteaof_without_a_loop_are_done_at_once(local: LocalClient) -> None:
    for number in range(200):
        local("SET", f"k{number}", "v" * 50)
    assert local("BGSAVE") == b"Background saving started"
    assert local("BGREWRITEAOF") == b"Background append only file rewriting started"
    saver = local.server.saver
    assert (saver.save_task.runs, saver.rewrite_task.runs) == (1, 1)
    assert saver.save_task.is_ok
    assert saver.rewrite_task.is_ok
    stats = local.server.databases.store.db.stats()
    assert sum(level.runs for level in stats.levels) == 1


def test_inside_a_transaction_it_is_scheduled(local: LocalClient) -> None:
    local("MULTI")
    local("SET", "a", 1)
    local("BGSAVE")
    local("BGREWRITEAOF")
    assert local("EXEC") == [
        b"OK",
        b"Background saving scheduled",
        b"Background append only file rewriting scheduled",
    ]
    saver = local.server.saver
    assert (saver.save_task.runs, saver.rewrite_task.runs) == (0, 0)
    local.server.cron.run()
    assert (saver.save_task.runs, saver.rewrite_task.runs) == (1, 1)


def test_one_task_at_a_time(local: LocalClient) -> None:
    saver = local.server.saver
    may_end = threading.Event()
    saver.save_task._thread = threading.Thread(target=may_end.wait)
    saver.save_task._thread.start()
    busy = CommandError(b"ERR Background save already in progress")
    try:
        for words in (["SAVE"], ["BGSAVE"], ["BGSAVE", "SCHEDULE"]):
            assert local(*words) == busy
        assert local("BGREWRITEAOF") == b"Background append only file rewriting scheduled"
        assert "rdb_bgsave_in_progress:1" in local("INFO", "persistence").decode()
        saver.rewrite_task._thread, saver.save_task._thread = saver.save_task._thread, None
        assert local("BGREWRITEAOF") == CommandError(
            b"ERR Background append only file rewriting already in progress"
        )
        assert local("BGSAVE").message.startswith(b"ERR Another child process is active (AOF?)")
        assert local("BGSAVE", "SCHEDULE") == b"Background saving scheduled"
    finally:
        may_end.set()
        saver.close()


def test_a_save_that_fails_is_told(local: LocalClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise EngineError("no room")

    monkeypatch.setattr(local.server.databases.store.db, "snapshot", fail)
    assert local("SAVE").code == b"ERR"
    assert local("BGSAVE") == b"Background saving started"
    info = local("INFO", "persistence").decode()
    assert "rdb_last_bgsave_status:err" in info
    monkeypatch.undo()
    assert local("SAVE") == b"OK"
    assert local.server.saver.save_task.failures_in_a_row == 0


def test_shutdown_commits_and_says_nothing(local: LocalClient) -> None:
    stopped: list[str] = []
    local.server.on_shutdown = lambda: stopped.append("stopped")
    assert local.raw("SHUTDOWN", "ABORT").startswith(b"-ERR No shutdown")
    other = local.connect()
    other.run(("SET", "a", 1), ("SHUTDOWN", "SAVE"), ("SET", "a", 2))
    assert stopped == ["stopped"]
    assert other.wire.data == b"+OK\r\n"
    assert other.wire.is_closed
    local.reload()
    assert local("GET", "a") == b"1"


# --- SLOWLOG and LATENCY


def test_slowlog(local: LocalClient) -> None:
    local("CONFIG", "SET", "slowlog-log-slower-than", 0)
    local("SET", "a", 1)
    (entry,) = local("SLOWLOG", "GET", 1)
    assert entry[1] == local.clock.now_ms // 1000
    assert entry[3] == [b"SET", b"a", b"1"]
    assert entry[4] == local.client.address.encode()
    assert local("SLOWLOG", "LEN") == 2
    local("CONFIG", "SET", "slowlog-log-slower-than", -1)
    local("SLOWLOG", "RESET")
    local("SET", "a", 1)
    assert local("SLOWLOG", "GET", -1) == []


def test_a_threshold_for_latency_alone_logs_nothing_slow(debug: LocalClient) -> None:
    debug("CONFIG", "SET", "latency-monitor-threshold", 1, "slowlog-log-slower-than", 1_000_000)
    debug("DEBUG", "SLEEP", 0.003)
    assert debug("SLOWLOG", "LEN") == 0
    ((name, _, last_ms, longest_ms),) = debug("LATENCY", "LATEST")
    assert name == b"command"
    assert 3 <= last_ms <= longest_ms
    assert debug("LATENCY", "RESET") == 1


def test_events_keep_the_longest_of_each_second() -> None:
    monitor = LatencyMonitor()
    monitor.note(b"commit", 10**9, 1)
    assert not monitor.events
    monitor.threshold_ms = 10
    for time_s, elapsed_ms in ((1, 9), (1, 20), (1, 50), (1, 30), (2, 10), (5, 40)):
        monitor.note(b"commit", elapsed_ms * 1_000_000, time_s)
    assert list(monitor.events[b"commit"].samples) == [(1, 50), (2, 10), (5, 40)]
    assert list(monitor.latest()) == [(b"commit", 5, 40, 50)]
    for time_s in range(10, 1000):
        monitor.note(b"commit", 10**8, time_s)
    assert len(monitor.events[b"commit"].samples) == 160


def test_the_graph_has_a_column_for_each_sample() -> None:
    monitor = LatencyMonitor()
    monitor.threshold_ms = 1
    for time_s, elapsed_ms in ((100, 50), (4000, 30), (4059, 90)):
        monitor.note(b"command", elapsed_ms * 1_000_000, time_s)
    assert monitor.graph(b"command", 4060).splitlines() == [
        "command - high 90 ms, low 30 ms (all time high 90 ms)",
        "-" * 80,
        "  #",
        "  |",
        "_ |",
        "|_|",
        "   ",
        "111",
        "hms",
    ]


def test_the_doctor_knows_three_states(debug: LocalClient) -> None:
    assert b"Latency monitoring is off" in debug("LATENCY", "DOCTOR")
    debug("CONFIG", "SET", "latency-monitor-threshold", 1)
    assert b"No latency spike" in debug("LATENCY", "DOCTOR")
    debug("DEBUG", "SLEEP", 0.002)
    report = debug("LATENCY", "DOCTOR")
    assert b"1. command: 1 latency spikes" in report
    assert b"SLOWLOG" in report


def test_histograms_have_redis_s_bounds() -> None:
    counts = [0] * 64
    for bits, calls in ((5, 1), (10, 2), (11, 3), (15, 1), (16, 1), (20, 1), (30, 1)):
        counts[bits] = calls
    assert cumulative_histogram(counts) == {1: 3, 2: 6, 33: 7, 66: 8, 1056: 9, 1082130: 10}
    assert cumulative_histogram([0] * 64) == {}


def test_percentiles_lie_in_their_bucket() -> None:
    counts = [0] * 64
    counts[11] = 100  # 1.024 to 2.048 µs
    counts[21] = 1
    low, median, high = percentiles_us(counts, (0.0, 50.0, 100.0))
    assert low == 1.024
    assert 1.5 < median < 1.6
    assert high == 2097.152
    assert percentiles_us([0] * 64, (50.0,)) == [0.0]


# --- MEMORY


def test_memory_usage_grows_with_what_a_key_holds(local: LocalClient) -> None:
    local("SET", "s", "x" * 1000)
    local("SET", "big", "x" * 200_000)
    local("RPUSH", "l", *range(1000))
    local("HSET", "h", *(f"f{number // 2}" for number in range(2000)))
    local("ZADD", "z", *(part for number in range(500) for part in (number, f"m{number}")))
    local("SADD", "t", "one")
    local.reload()
    assert 2000 < local("MEMORY", "USAGE", "s") < 3000
    assert 200_000 < local("MEMORY", "USAGE", "big") < 450_000
    for key, least in ((b"l", 20_000), (b"h", 20_000), (b"z", 20_000), (b"t", 30)):
        exact = local("MEMORY", "USAGE", key, "SAMPLES", 0)
        assert exact > least
        assert abs(local("MEMORY", "USAGE", key) - exact) < exact / 4
    local("PEXPIRE", "t", 1000)
    assert local("MEMORY", "USAGE", "t", "SAMPLES", 0) > exact


def test_memory_stats_and_reports(local: LocalClient) -> None:
    local.client.resp = 3
    local("RPUSH", "a", 1)
    stats = local("MEMORY", "STATS")
    assert stats[b"keys.count"] == 1
    assert stats[b"db.0"][b"overhead.hashtable.main"] > 0
    assert stats[b"total.allocated"] >= stats[b"startup.allocated"]
    assert local("MEMORY", "DOCTOR") == b"No problem with memory was found.\n"
    assert b"generation" in local("MEMORY", "MALLOC-STATS")
    assert local("MEMORY", "PURGE") == b"OK"


# --- DEBUG


def test_debug_is_off_by_default(local: LocalClient) -> None:
    reply = local("DEBUG", "SLEEP", 0)
    assert reply.message.startswith(b"ERR DEBUG command not allowed. If the enable-debug-command option")


@pytest.mark.parametrize(
    ("address", "is_unix", "expected"),
    [
        ("127.0.0.1:5", False, True),
        ("127.1.2.3:5", False, True),
        ("[::1]:5", False, True),
        ("10.0.0.1:5", False, False),
        ("[::2]:5", False, False),
        ("/tmp/socket:0", True, True),
    ],
)
def test_who_is_local(local: LocalClient, address: str, is_unix: bool, expected: bool) -> None:
    client = Client(local.server)
    client.address, client.is_unix = address, is_unix
    assert is_local(client) is expected


def test_digests_are_of_contents_not_of_histories(debug: LocalClient) -> None:
    assert debug("DEBUG", "DIGEST") == b"0" * 40
    debug("RPUSH", "l", 1, 2, 3)
    debug("HSET", "h", "a", 1, "b", 2)
    debug("SET", "s", "x", "EX", 100)
    debug("SADD", "t", 3, "x")
    debug("ZADD", "z", 1, "m", 2.5, "n")
    debug("SET", "big", "y" * 100_000)
    whole = debug("DEBUG", "DIGEST")
    keys = ["l", "h", "t", "z", "big"]
    before = debug("DEBUG", "DIGEST-VALUE", *keys)
    debug.reload()
    assert debug("DEBUG", "DIGEST") == whole
    debug("DEL", *keys)
    debug("LPUSH", "l", 3, 2, 1)
    debug("HSET", "h", "b", 2)
    debug("HSET", "h", "a", 1)
    debug("SADD", "t", "x", 3)
    debug("ZADD", "z", 2, "m", 2.5, "n")
    debug("ZINCRBY", "z", -1, "m")
    debug("SET", "big", "y" * 99_000)
    debug("APPEND", "big", "y" * 1000)
    assert debug("DEBUG", "DIGEST-VALUE", *keys) == before
    assert debug("DEBUG", "DIGEST") == whole
    debug("RPOP", "l")
    assert debug("DEBUG", "DIGEST") != whole
    assert debug("DEBUG", "DIGEST-VALUE", "nosuch") == [b"0" * 40]


def test_reload_keeps_clients_and_data(debug: LocalClient) -> None:
    debug("SET", "a", 1)
    debug("SELECT", 2)
    debug("SET", "b", 2)
    assert debug("DEBUG", "RELOAD", "NOSAVE") == b"OK"
    assert debug("GET", "b") == b"2"
    assert debug("DBSIZE") == 1


def test_active_expiry_can_be_stopped(debug: LocalClient) -> None:
    debug("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    debug("SET", "a", 1, "PX", 10)
    debug.wait_out(5000)
    assert debug.server.databases.keyspaces[0].count_keys() == 1
    debug("DEBUG", "SET-ACTIVE-EXPIRE", 1)
    debug.wait_out(5000)
    assert debug.server.databases.keyspaces[0].count_keys() == 0


def test_the_replication_id_can_be_changed(debug: LocalClient) -> None:
    before = debug("INFO", "replication")
    debug("DEBUG", "CHANGE-REPL-ID")
    assert debug("INFO", "replication") != before


def test_a_push_that_precedes_its_reply(debug: LocalClient) -> None:
    debug.client.resp = 3
    assert debug.raw("DEBUG", "PROTOCOL", "push") == (
        b">2\r\n$16\r\nserver-cpu-usage\r\n:42\r\n$40\r\nSome real reply following the push reply\r\n"
    )


def test_debug_object_and_stringmatch(debug: LocalClient) -> None:
    debug("RPUSH", "l", "a", "b")
    assert b" encoding:listpack serializedlength:" in debug("DEBUG", "OBJECT", "l")
    assert debug("DEBUG", "STRINGMATCH-LEN", "a*c", "abc") == 1
    assert debug("DEBUG", "STRINGMATCH-LEN", "a*c", "abd") == 0


def test_debug_help_lists_what_there_is(debug: LocalClient) -> None:
    lines = debug("DEBUG", "HELP")
    assert lines[0].startswith(b"DEBUG <subcommand>")
    assert b"SLEEP <seconds>" in lines
    assert lines[-2] == b"HELP"


# --- Others


def test_time(local: LocalClient) -> None:
    local.clock.now_us = 1_700_000_000_123_456
    assert local("TIME") == [b"1700000000", b"123456"]


def test_lolwut_ends_with_the_version() -> None:
    text = draw_strata(40, 10)
    *drawing, empty, version = text.splitlines()
    assert len(drawing) == 10
    assert max(map(len, drawing)) <= 40
    assert empty == ""
    assert version.endswith("Redis ver. 7.2.4")
    assert len(draw_strata(0, 0).splitlines()) == 3


def test_replication_is_refused(local: LocalClient) -> None:
    for words in (["REPLICAOF", "localhost", 6379], ["SYNC"], ["PSYNC", "?", -1]):
        assert local(*words) == CommandError(b"ERR Lamina does not replicate")
    assert local("ROLE") == [b"master", 0, []]
    assert local.raw("REPLCONF", "ACK", 1) == b""


def test_modules_cannot_be_loaded(make_local: Servers) -> None:
    local = make_local.make(enable_module_command="yes")
    assert local("MODULE", "LOAD", "/x").message.startswith(b"ERR Error loading the extension")
    assert local("MODULE", "UNLOAD", "x").message.startswith(b"ERR Error unloading module")


def test_acl_genpass(local: LocalClient) -> None:
    assert [len(local("ACL", "GENPASS", bits)) for bits in (1, 4, 5, 256)] == [1, 1, 2, 64]
    assert local("ACL", "GENPASS") != local("ACL", "GENPASS")

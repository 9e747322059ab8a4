"""INFO: sections, and the fields that change with what happens."""

from __future__ import annotations

import pytest

from harness.local import LocalClient, Servers
from lamina.server.info import human_size


def fields(local: LocalClient, *sections: str) -> dict[str, str]:
    text = local("INFO", *sections).decode()
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def titles(local: LocalClient, *sections: str) -> list[str]:
    text = local("INFO", *sections).decode()
    return [line[2:] for line in text.splitlines() if line.startswith("# ")]


def test_which_sections(local: LocalClient) -> None:
    default = titles(local)
    assert default[0] == "Server"
    assert "Commandstats" not in default
    assert default[-1] == "Lamina"
    assert set(titles(local, "all")) - set(default) == {"Commandstats", "Latencystats"}
    assert titles(local, "everything") == titles(local, "ALL")
    assert titles(local, "keyspace", "Server", "nosuch") == ["Server", "Keyspace"]
    assert local("INFO", "nosuch") == b""


def test_sections_are_parted_by_an_empty_line(local: LocalClient) -> None:
    assert local("INFO", "cluster", "modules") == b"# Modules\r\n\r\n# Cluster\r\ncluster_enabled:0\r\n"


def test_it_is_verbatim_in_resp3(local: LocalClient) -> None:
    local.client.resp = 3
    assert local.raw("INFO", "cluster").startswith(b"=")


def test_keyspace(local: LocalClient) -> None:
    local("SET", "a", 1)
    for number in range(100):
        local("SET", f"k{number}", 1, "PX", 1000 + number * 10)
    local("SELECT", 3)
    local("SET", "a", 1)
    found = fields(local, "keyspace")
    assert found["db3"] == "keys=1,expires=0,avg_ttl=0"
    counts = dict(part.split("=") for part in found["db0"].split(","))
    assert (counts["keys"], counts["expires"]) == ("101", "100")
    assert 1300 < int(counts["avg_ttl"]) < 1700


def test_clients(local: LocalClient) -> None:
    other = local.connect()
    other.run(("BLPOP", "q", 10))
    third = local.connect()
    third("WATCH", "a", "b")
    local("SUBSCRIBE", "c")
    found = fields(third, "clients", "stats")
    assert found["connected_clients"] == "3"
    assert found["blocked_clients"] == found["clients_in_timeout_table"] == "1"
    assert found["total_blocking_keys"] == "1"
    assert found["total_watched_keys"] == "2"
    assert found["pubsub_clients"] == found["pubsub_channels"] == "1"


def test_stats(local: LocalClient) -> None:
    local("CONFIG", "RESETSTAT")
    local("SET", "a", 1, "PX", 10)
    local("GET", "a")
    local("GET", "b")
    local("LPUSH", "a", 1)
    local.wait_out(1000)
    found = fields(local, "stats", "errorstats")
    assert found["keyspace_hits"] == "1"
    assert found["keyspace_misses"] == "1"
    assert found["expired_keys"] == "1"
    assert found["errorstat_WRONGTYPE"] == "count=1"
    assert found["total_error_replies"] == "1"
    assert int(found["total_commands_processed"]) == 5
    assert int(found["total_net_output_bytes"]) > 0


def test_commandstats_and_latencystats(local: LocalClient) -> None:
    local("CONFIG", "RESETSTAT")
    local("SET", "a", 1)
    local("LPUSH", "a", 1)
    found = fields(local, "commandstats", "latencystats")
    assert found["cmdstat_set"].startswith("calls=1,usec=")
    assert found["cmdstat_lpush"].endswith("rejected_calls=0,failed_calls=1")
    assert "cmdstat_config|resetstat" in found
    assert "cmdstat_get" not in found
    percentiles = dict(part.split("=") for part in found["latency_percentiles_usec_set"].split(","))
    assert list(percentiles) == ["p50", "p99", "p99.9"]
    assert 0 < float(percentiles["p50"]) <= float(percentiles["p99.9"])
    local("CONFIG", "SET", "latency-tracking-info-percentiles", "25 100")
    assert "p25=" in fields(local, "latencystats")["latency_percentiles_usec_set"]
    local("CONFIG", "SET", "latency-tracking", "no")
    assert fields(local, "latencystats") == {}


def test_the_engine(local: LocalClient) -> None:
    for number in range(500):
        local("SET", f"k{number}", "v" * 50)
    local("GET", "k0")  # from below the memtable: that is kept at hand
    found = fields(local, "lamina")
    assert int(found["live_keys"]) >= 500
    assert found["write_error"] == found["engine_error"] == found["background_error"] == ""
    assert found["level0"].startswith("runs=")
    assert int(found["flushes"]) > 0
    assert int(found["record_cache_bytes"]) > 0


def test_errors_of_the_engine_are_shown(local: LocalClient) -> None:
    local.server.note_damage(OSError("cannot\nread"))
    assert fields(local, "lamina")["engine_error"] == "cannot read"
    local.server.refuse_writes(OSError("disk full"))
    assert fields(local, "persistence")["aof_last_write_status"] == "err"
    assert fields(local, "lamina")["write_error"] == "disk full"
    local.server.try_writing()
    assert fields(local, "persistence")["aof_last_write_status"] == "ok"


def test_memory_adds_up(local: LocalClient) -> None:
    local("SET", "a", "v" * 10_000)
    found = fields(local, "memory")
    used = int(found["used_memory"])
    assert used == int(found["used_memory_overhead"]) + int(found["used_memory_dataset"])
    assert used >= int(found["used_memory_startup"])
    assert int(found["used_memory_peak"]) >= used
    assert found["maxmemory_policy"] == "noeviction"


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0B"),
        (1023, "1023B"),
        (1024, "1.00K"),
        (1536, "1.50K"),
        (1 << 20, "1.00M"),
        (5 * (1 << 30) // 2, "2.50G"),
        (1 << 62, "4096.00P"),
    ],
)
def test_human_size(size_bytes: int, text: str) -> None:
    assert human_size(size_bytes) == text


def test_listeners(make_local: Servers) -> None:
    local = make_local.make(port=7001, unixsocket="/run/lamina.sock")
    found = fields(local, "server")
    assert found["listener0"] == "name=tcp,bind=127.0.0.1,bind=-::1,port=7001"
    assert found["listener1"] == "name=unix,bind=/run/lamina.sock"
    assert "listener2" not in found

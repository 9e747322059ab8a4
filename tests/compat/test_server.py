"""Commands about the server as a whole: replies and errors, compared with a real redis-server."""

from __future__ import annotations

import re
import time

import pytest

from harness.compat import Pair
from harness.resp import ErrorReply, Verbatim
from harness.servers import TESTED_SERVER, Server, StartServer

SAME = """
config
config foo
config get
config get nosuch
config get MAXCLIENTS maxclients nosuch
config set a
config set a b c
config set nosuch 1
config set maxclients abc
config set maxclients 100 nosuch 1
config set maxclients 100 maxclients 200
config set databases 3
config set appendfsync never
config set timeout -1
config set notify-keyspace-events QQ
config set maxmemory 1zb
config set slowlog-log-slower-than -2
config set client-output-buffer-limit foo
config set latency-tracking-info-percentiles 200
config set enable-debug-command no
config rewrite
config resetstat
config resetstat x
config help x
command foo
command count x
command getkeys get
command getkeys get a
command getkeys get a b c
command getkeys nosuch a
command getkeys ping
command getkeys ping a
command getkeys mset a b c d
command getkeys config
command getkeys config get a
command getkeys object encoding a
command getkeys object foo a
command getkeys memory usage
command getkeys memory usage a
command getkeys zunionstore d 3 a b
command getkeys lmpop 2 a b left
command getkeys lmpop 3 a b left
command getkeys blmpop 0 2 a b left
command getkeys sort a store b store c
command getkeys ssubscribe a b
command getkeys publish a b
command getkeys command getkeys
command getkeysandflags set a b
command getkeysandflags set a b get
command getkeysandflags set a b nx get
command getkeysandflags zunionstore d 2 a b
command getkeysandflags zdiffstore d 1 a
command getkeysandflags sort a by x get y
command getkeysandflags sort a store b
command getkeysandflags sort_ro a
command getkeysandflags lmove a b left right
command getkeysandflags mset a 1 b 2
command getkeysandflags copy a b
command getkeysandflags blpop a b 0
command getkeysandflags rename a b
command getkeysandflags sinterstore d a b
command getkeysandflags memory usage a
command getkeysandflags object encoding a
command getkeysandflags get
command getkeysandflags ping x
command info nosuch
command info config|nosuch
command docs nosuch
command list foo
command list filterby
command list filterby module
command list filterby module foo
command list filterby foo foo
command list filterby aclcat nosuch
command list filterby pattern
command list filterby pattern a b
command list filterby pattern nosuch*
dbsize x
flushall foo
flushall async sync
flushall async
flushall sync
flushdb foo
flushdb async sync
flushdb SYNC
swapdb 0
swapdb a 0
swapdb 0 a
swapdb 0 16
swapdb -1 0
swapdb 0 0
swapdb 99999999999999999999 1
swapdb 4294967296 1
swapdb 1 4294967296
time x
role
role x
lastsave x
save x
save
bgsave foo
bgsave schedule x
bgrewriteaof x
shutdown foo
shutdown save nosave
shutdown abort
shutdown abort now
shutdown nosave abort
slowlog
slowlog foo
slowlog get abc
slowlog get -2
slowlog get 0
slowlog get 1 2
slowlog len x
slowlog reset
slowlog reset x
latency
latency foo
latency history
latency history foo
latency graph foo
latency latest
latency reset
latency reset a b
latency histogram nosuch
latency histogram latency|nosuch
memory
memory foo
memory usage
memory usage nosuch
memory usage nosuch samples
memory usage nosuch samples x
memory usage nosuch samples -1
memory usage nosuch foo 1
memory usage nosuch samples 1 samples 2
memory purge
memory malloc-stats x
memory stats x
lolwut version x
debug
debug foo
debug sleep
debug sleep x
debug sleep 0.01
debug sleep -1
debug sleep 0.01 2
debug object nosuch
debug object
debug set-active-expire
debug set-active-expire 0
debug set-active-expire 1
debug reload
debug reload nosave noflush merge
debug reload foo
debug digest x
debug digest
debug digest-value nosuch nosuch
debug digest-value
debug change-repl-id
debug change-repl-id x
debug error FOO
debug error
debug log hello
debug log
debug populate x
debug populate -1
debug populate 1 a -1
debug populate 1 a 3 x
debug protocol
debug protocol foo
debug protocol string
debug protocol integer
debug protocol double
debug protocol bignum
debug protocol null
debug protocol array
debug protocol set
debug protocol map
debug protocol attrib
debug protocol verbatim
debug protocol true
debug protocol false
debug help x
replicaof no one
slaveof NO ONE
replicaof
replicaof localhost abc
replicaof localhost 99999
replicaof localhost -1
replconf
replconf foo
replconf listening-port 1234
replconf listening-port abc
replconf capa eof capa psync2
replconf foo bar
replconf capa
replconf ip-address 1.2.3.4
replconf rdb-only 0
replconf rdb-only 2
replconf rdb-filter-only functions
replconf rdb-filter-only foo
failover
failover to
failover to a x
failover to a 1
failover to a 1 to b 2
failover to a 1 timeout 10 force
failover abort
failover abort timeout 10
failover abort to a 1
failover timeout
failover timeout 0
failover timeout 10
failover foo
failover force
module
module foo
module list
module list x
module load
module load /nonexistent
module loadex /nonexistent
module unload nosuch
module unload
acl
acl foo
acl cat
acl cat nosuch
acl cat a b
acl whoami
acl whoami x
acl users
acl genpass x
acl genpass 0
acl genpass 4097
acl genpass 5 5
cluster
cluster foo
cluster info
cluster keyslot a
cluster keyslot
cluster help
cluster nodes
cluster meet a
cluster countkeysinslot 1
readonly
readwrite
asking
asking x
info nosuch
info modules
info module_list
""".strip().splitlines()
"""Calls whose replies are the same bytes, in the order given."""


@pytest.mark.parametrize("line", SAME)
def test_the_same_bytes(pair: Pair, line: str) -> None:
    pair(*line.split(" "))


def test_a_push_before_the_reply(pair: Pair) -> None:
    pair("DEBUG", "PROTOCOL", "push")
    if pair.protocol == 3:
        pair.read()


@pytest.mark.parametrize(
    "line",
    ["time", "lastsave", "acl genpass", "acl genpass 5", "command count", "lolwut version 5 1 1 1"],
)
def test_the_same_kind(pair: Pair, line: str) -> None:
    pair.type_only(*line.split(" "))


def test_generated_passwords_have_the_same_size(pair: Pair) -> None:
    for bits in (1, 4, 5, 8, 9, 255, 256, 4096):
        pair.same_length("ACL", "GENPASS", bits)


def test_config_get_with_several_patterns(pair: Pair) -> None:
    pair.pairs("CONFIG", "GET", "maxclients", "MAXCLIENTS", "nosuch", "timeout")
    pair.pairs("CONFIG", "GET", "hash-max-*-entries", "zset-max-*", "zset-*")


def test_lists_of_commands(pair: Pair) -> None:
    for pattern in ("GET*", "x*", "config|*", "*store", "hset", "client|[ik]*"):
        reference, tested = (
            set(client.call("COMMAND", "LIST", "FILTERBY", "PATTERN", pattern))
            for client in (pair.reference, pair.tested)
        )
        assert tested <= reference
    pair.unordered("COMMAND", "LIST", "FILTERBY", "PATTERN", "latency*")
    pair.unordered("COMMAND", "LIST", "FILTERBY", "ACLCAT", "transaction")


def test_populate(pair: Pair) -> None:
    pair("SET", "key:1", "mine")
    pair("DEBUG", "POPULATE", 3)
    pair("DEBUG", "POPULATE", 2, "foo", 10)
    pair("DEBUG", "POPULATE", 2, "bar", 3)
    pair("DEBUG", "POPULATE", 0)
    pair.assert_same_contents()


def test_flushing_and_swapping(pair: Pair) -> None:
    pair("SET", "a", 1)
    pair("SELECT", 1)
    pair("SET", "b", 2, "EX", 100)
    pair("SWAPDB", 0, 1)
    pair("KEYS", "*")
    pair("FLUSHDB", "ASYNC")
    pair("DBSIZE")
    pair("SELECT", 0)
    pair("KEYS", "*")
    pair.by(lambda info: re.sub(r"avg_ttl=\d+", "", info_text(info)), "INFO", "keyspace")
    pair("FLUSHALL")
    pair.by(info_text, "INFO", "keyspace")


def test_slowlog(pair: Pair) -> None:
    """Ids and times differ; what was logged does not, and long arguments are cut alike."""

    def commands(entries: list[list[object]]) -> list[object]:
        return [entry[3] for entry in entries]

    try:
        pair("CONFIG", "SET", "slowlog-log-slower-than", 0)
        pair("SLOWLOG", "RESET")
        pair("CLIENT", "SETNAME", "me")
        pair("SET", "a", "v" * 200)
        pair("MSET", *range(60))
        pair("GET", "a")
        pair.by(commands, "SLOWLOG", "GET", 4)
        pair.by(lambda entries: [entry[5] for entry in entries], "SLOWLOG", "GET", 2)
        pair("SLOWLOG", "LEN")
        pair("CONFIG", "SET", "slowlog-max-len", 2)
        pair("SLOWLOG", "LEN")
        pair("CONFIG", "SET", "slowlog-max-len", 0)
        pair("SLOWLOG", "LEN")
        pair("PING")
        pair("SLOWLOG", "LEN")
    finally:
        for name, value in (("slowlog-max-len", 128), ("slowlog-log-slower-than", 10000)):
            pair("CONFIG", "SET", name, value)


def test_latency_events(pair: Pair) -> None:
    try:
        pair("LATENCY", "RESET")
        pair("CONFIG", "SET", "latency-monitor-threshold", 20)
        pair("DEBUG", "SLEEP", 0.05)
        pair("PING")
        pair.by(lambda rows: [row[0] for row in rows], "LATENCY", "LATEST")
        for row in pair.reference.call("LATENCY", "LATEST"), pair.tested.call("LATENCY", "LATEST"):
            assert row[0][0] == b"command"
            assert 50 <= row[0][2] <= row[0][3] < 1000
        pair.by(len, "LATENCY", "HISTORY", "command")
        graph = re.compile(rb"\d+ ms|\d+s|\d\n")
        pair.by(lambda text: graph.sub(b"", as_text(text)), "LATENCY", "GRAPH", "command")
        pair("LATENCY", "RESET", "nosuch", "command")
        pair("LATENCY", "LATEST")
    finally:
        pair("CONFIG", "SET", "latency-monitor-threshold", 0)


def test_latency_histograms(pair: Pair) -> None:
    pair("CONFIG", "RESETSTAT")
    for _ in range(5):
        pair("SET", "a", 1)
    for client in (pair.reference, pair.tested):
        found = client.call("LATENCY", "HISTOGRAM", "set", "config")
        if isinstance(found, list):
            found = as_dict([as_dict(item) if isinstance(item, list) else item for item in found])
            found = {
                name: as_dict(value) if isinstance(value, list) else value for name, value in found.items()
            }
        assert set(found) == {b"set", b"config|resetstat"}
        histogram = found[b"set"][b"histogram_usec"]
        if isinstance(histogram, list):
            histogram = as_dict(histogram)
        assert found[b"set"][b"calls"] == 5
        assert max(histogram.values()) == 5
        assert list(histogram.values()) == sorted(histogram.values())


def as_dict(flat: list[object]) -> dict[object, object]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def as_text(reply: object) -> bytes:
    if isinstance(reply, Verbatim):
        return reply.text
    assert isinstance(reply, bytes)
    return reply


def info_text(reply: object) -> str:
    return as_text(reply).decode()


# --- INFO


NOT_OURS = re.compile(
    r"allocator_|rss_overhead|active_defrag|.*cow_|.*_cow"
    r"|current_save|rdb_last_load|io_threaded|reply_buffer|total_(reads|writes)_processed|atomicvar"
    r"|gcc_version"
)
"""Fields about mechanisms that Lamina has not: an allocator of its own, forks, threads."""


def fields(text: str) -> dict[str, str]:
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


@pytest.mark.parametrize(
    "section",
    "server clients memory persistence stats replication cpu cluster".split(),
)
def test_info_has_redis_s_fields(pair: Pair, section: str) -> None:
    real, mine = (info_text(client.call("INFO", section)) for client in (pair.reference, pair.tested))
    assert real.splitlines()[0] == mine.splitlines()[0]
    lacking = [name for name in fields(real) if name not in fields(mine) and not NOT_OURS.match(name)]
    assert not lacking


def test_info_sections(pair: Pair) -> None:
    def titles(reply: object) -> list[str]:
        found = re.findall(r"^# (\w+)", info_text(reply), re.MULTILINE)
        return [title for title in found if title != "Lamina"]

    for names in (
        [],
        ["default"],
        ["all"],
        ["everything"],
        ["server"],
        ["KEYSPACE", "Server", "server"],
        ["commandstats", "default"],
        ["replication", "nosuch", "cluster"],
    ):
        pair.by(titles, "INFO", *names)


def test_commandstats_and_errorstats(pair: Pair) -> None:
    pair("CONFIG", "RESETSTAT")
    pair("SET", "a", 1)
    pair("SET", "a", 2)
    pair("LPUSH", "a", 1)
    pair("CONFIG", "GET", "maxmemory")
    pair("NOSUCH")

    def counts(reply: object) -> dict[str, str]:
        return {
            name: re.sub(r"usec\w*=[\d.]+,", "", value) for name, value in fields(info_text(reply)).items()
        }

    pair.by(counts, "INFO", "commandstats")
    pair.by(info_text, "INFO", "errorstats")
    pair.by(lambda reply: sorted(fields(info_text(reply))), "INFO", "latencystats")


# --- Stopping, and what must be asked for when starting


def test_debug_is_off_unless_asked_for(start_redis: StartServer, start_lamina: StartServer) -> None:
    for mode in ("no", "local"):
        flags = ("--enable-debug-command", mode)
        pair = Pair(start_redis(*flags), start_lamina(*flags))
        pair("DEBUG", "SLEEP", 0)
        pair("DEBUG", "NOSUCH")
        pair("DEBUG")
        pair("MODULE", "LOAD", "/nonexistent")
        pair("MODULE", "LIST")
        pair.close()


@pytest.mark.parametrize("words", [[], ["NOSAVE"], ["SAVE"], ["NOW", "FORCE"]], ids=" ".join)
def test_shutdown(start_lamina: StartServer, words: list[str]) -> None:
    server = start_lamina()
    with server.client() as client:
        client.ok("SET", "a", 1)
        client.send("SHUTDOWN", *words)
        with pytest.raises(ConnectionError):
            client.read_raw()
    assert server.wait() == 0
    server.start()
    with server.client() as client:
        assert client.call("GET", "a") == b"1"


@pytest.fixture
def lamina(start_lamina: StartServer) -> Server:
    """Start a server of the test's own."""
    return start_lamina("--memtable-size", "64kb")


def persistence(server: Server) -> dict[str, str]:
    with server.client() as client:
        return fields(info_text(client.call("INFO", "persistence")))


def test_saving_in_the_background(lamina: Server) -> None:
    with lamina.client() as client:
        before = client.call("LASTSAVE")
        for number in range(2000):
            client.call("SET", f"k{number}", "v" * 100)
        assert int(persistence(lamina)["rdb_changes_since_last_save"]) == 2000
        assert client.call("BGSAVE") == "Background saving started"
        again = client.call("BGSAVE")
        assert again == "Background saving started" or isinstance(again, ErrorReply)
        wait_for_background(lamina)
        found = persistence(lamina)
        assert found["rdb_changes_since_last_save"] == "0"
        assert found["rdb_last_bgsave_status"] == "ok"
        assert int(found["rdb_last_save_time"]) >= before
        assert client.call("BGREWRITEAOF") == "Background append only file rewriting started"
        wait_for_background(lamina)
        assert persistence(lamina)["aof_rewrites"] == "1"
        assert client.call("MULTI") == "OK"
        client.call("BGSAVE")
        client.call("BGREWRITEAOF")
        assert client.call("EXEC") == [
            "Background saving scheduled",
            "Background append only file rewriting scheduled",
        ]
        wait_for_background(lamina, rewrites=2)
        assert int(persistence(lamina)["rdb_saves"]) >= 2


def test_the_end_breaks_off_what_runs_in_the_background(lamina: Server) -> None:
    with lamina.client() as client:
        for number in range(4):
            client.ok("DEBUG", "POPULATE", 30_000, f"p{number}", 100)
        assert client.call("BGREWRITEAOF") == "Background append only file rewriting started"
        client.ok("DEBUG", "RELOAD")
        wait_for_background(lamina)
        assert client.call("DBSIZE") == 120_000
        assert client.call("BGREWRITEAOF") == "Background append only file rewriting started"
        client.send("SHUTDOWN")
    started = time.monotonic()
    assert lamina.wait() == 0
    assert time.monotonic() - started < 8
    lamina.start()
    with lamina.client() as client:
        assert client.call("DBSIZE") == 120_000


def wait_for_background(server: Server, *, rewrites: int = 0) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = persistence(server)
        names = ("rdb_bgsave_in_progress", "aof_rewrite_in_progress", "aof_rewrite_scheduled")
        if all(found[name] == "0" for name in names) and int(found["aof_rewrites"]) >= rewrites:
            return
        time.sleep(0.02)
    raise AssertionError(f"the background does not end: {found}")


@pytest.mark.skipif(TESTED_SERVER != "lamina", reason="INFO lamina is Lamina's own")
def test_appendfsync_can_be_changed(lamina: Server) -> None:
    with lamina.client() as client:
        for mode in ("always", "no", "everysec", "always"):
            client.ok("CONFIG", "SET", "appendfsync", mode)
            client.ok("SET", mode, 1)
        syncs = int(fields(info_text(client.call("INFO", "lamina")))["wal_syncs"])
        client.ok("SET", "a", 1)
        assert int(fields(info_text(client.call("INFO", "lamina")))["wal_syncs"]) > syncs


def test_parameters_that_work_at_once(pair: Pair) -> None:
    try:
        pair("CONFIG", "SET", "hash-max-listpack-entries", 2, "notify-keyspace-events", "Kh")
        pair("SUBSCRIBE", "__keyspace@0__:h")
        with pair.servers[0].client() as one, pair.servers[1].client() as other:
            for client in (one, other):
                client.call("HSET", "h", "a", 1, "b", 2, "c", 3)
                assert client.call("OBJECT", "ENCODING", "h") == b"hashtable"
        pair.read()
        pair("UNSUBSCRIBE")
    finally:
        pair("CONFIG", "SET", "hash-max-listpack-entries", 128, "notify-keyspace-events", "")

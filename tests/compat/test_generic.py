"""Keys of any type: existence, expiry, names, databases; compared with a real redis-server."""

from __future__ import annotations

from harness.commands import (
    AT_MILLISECONDS,
    AT_SECONDS,
    DATABASE_NUMBERS,
    INTEGERS,
    KEYS,
    MILLISECONDS,
    PATTERNS,
    SECONDS,
    VALUES,
    choice,
    command,
    flags,
    history_tests,
    maybe,
    several,
    thorough_few,
)
from harness.compat import Pair

CONDITIONS = flags("NX", "XX", "GT", "LT")

GENERIC = [
    command("SET", KEYS, VALUES, maybe("PX", MILLISECONDS)),
    command("DEL", several(KEYS)),
    command("UNLINK", several(KEYS)),
    command("EXISTS", several(KEYS)),
    command("TYPE", KEYS),
    command("TOUCH", several(KEYS)),
    command("EXPIRE", KEYS, SECONDS, CONDITIONS),
    command("PEXPIRE", KEYS, MILLISECONDS, CONDITIONS),
    command("EXPIREAT", KEYS, AT_SECONDS, CONDITIONS),
    command("PEXPIREAT", KEYS, AT_MILLISECONDS, CONDITIONS),
    command("TTL", KEYS, check=Pair.ttl),
    command("PTTL", KEYS, check=Pair.ttl_ms),
    command("EXPIRETIME", KEYS, check=Pair.ttl),
    command("PEXPIRETIME", KEYS, check=Pair.ttl_ms),
    command("PERSIST", KEYS),
    command("RENAME", KEYS, KEYS),
    command("RENAMENX", KEYS, KEYS),
    command("COPY", KEYS, KEYS, maybe("DB", DATABASE_NUMBERS), flags("REPLACE")),
    command("COPY", KEYS, KEYS, flags("REPLACE"), maybe("DB", DATABASE_NUMBERS)),
    command("MOVE", KEYS, DATABASE_NUMBERS),
    command("SELECT", DATABASE_NUMBERS),
    command("SWAPDB", DATABASE_NUMBERS, DATABASE_NUMBERS),
    command("FLUSHDB", flags("ASYNC", "SYNC")),
    command("OBJECT", "ENCODING", KEYS, check=Pair.encoding),
    command("OBJECT", "REFCOUNT", KEYS, check=Pair.type_only),
    command("DBSIZE"),
    command("RANDOMKEY", check=Pair.random_key),
    command("KEYS", PATTERNS, check=Pair.unordered),
    command(
        "SCAN",
        maybe("MATCH", PATTERNS),
        maybe("COUNT", choice(1, 2, 100, INTEGERS)),
        maybe("TYPE", choice("string", "list", "hash", "zset", "set", "stream", "HASH", "nope")),
        check=Pair.scan,
    ),
]


test_generic, test_generic_restarted, test_generic_at_length, test_generic_restarted_at_length = (
    history_tests("generic", GENERIC, restarted_at_length=thorough_few)
)


def fill(pair: Pair, count: int) -> None:
    """Make keys of all types."""
    for start in range(0, count, 100):
        pair.pipeline(
            *(("SET", f"s:{i}", i) for i in range(start, start + 100)),
            *(("HSET", f"h:{i}", "f", i) for i in range(start, start + 100, 10)),
            *(("RPUSH", f"l:{i}", i, "x") for i in range(start, start + 100, 10)),
            *(("ZADD", f"z:{i}", i, "m") for i in range(start, start + 100, 10)),
            *(("SADD", f"t:{i}", i, "m") for i in range(start, start + 100, 10)),
        )


def test_scan_finds_every_key_once_whatever_its_count(pair: Pair) -> None:
    fill(pair, 1000)
    assert pair("DBSIZE") == 1400
    for count in (1, 3, 10, 1000, 100_000):
        assert len(pair.scan("SCAN", "COUNT", count)) == 1400
    assert len(pair.scan("SCAN", "MATCH", "s:1*", "COUNT", 50)) == 111
    assert len(pair.scan("SCAN", "TYPE", "zset")) == 100
    assert pair.scan("SCAN", "TYPE", "zset", "MATCH", "s*") == []
    assert len(pair.unordered("KEYS", "?:*00")) == 10 * 5 - 9 + 4


def test_scan_finds_what_is_there_all_the_time(pair: Pair) -> None:
    """Keys that come and go during the iteration may be found or not; those that stay must be."""
    fill(pair, 500)

    def scanned(client: object) -> set[bytes]:
        found: set[bytes] = set()
        cursor, turn = b"0", 0
        while True:
            cursor, keys = client.call("SCAN", cursor, "COUNT", 20)  # type: ignore[attr-defined]
            found.update(keys)
            turn += 1
            client.call("SET", f"new:{turn}", turn)  # type: ignore[attr-defined]
            client.call("DEL", f"s:{turn * 10}")  # type: ignore[attr-defined]
            if cursor == b"0":
                return {key for key in found if not key.startswith((b"new:", b"s:"))}

    assert len(pair.both(scanned)) == 200


def test_databases_swapped_moved_and_flushed(pair: Pair) -> None:
    pair("SET", "a", "in 0")
    pair("SELECT", 1)
    pair("SET", "a", "in 1", "PX", 100_000)
    pair("SET", "b", "in 1")
    pair("SWAPDB", 0, 1)
    pair("GET", "a")
    pair("MOVE", "a", 0)
    pair("SELECT", 0)
    pair("MOVE", "b", 1)
    pair.ttl_ms("PTTL", "a")
    pair("MOVE", "a", 0)
    pair("MOVE", "missing", 3)
    pair.assert_same_contents()
    pair("FLUSHDB")
    pair("DBSIZE")
    pair("SELECT", 1)
    pair("DBSIZE")
    pair("FLUSHALL")
    pair("DBSIZE")


def test_everything_is_there_after_a_restart(tiny_pair: Pair) -> None:
    fill(tiny_pair, 300)
    tiny_pair("SELECT", 5)
    fill(tiny_pair, 100)
    tiny_pair("PEXPIRE", "s:1", 100_000)
    tiny_pair("SWAPDB", 5, 6)
    tiny_pair("RENAME", "h:10", "renamed")
    for kill in (False, True, True):
        tiny_pair.restart(kill=kill)
        tiny_pair("DBSIZE")
        tiny_pair.assert_same_contents()
        tiny_pair("APPEND", "s:2", "more")


def test_expired_keys_are_gone_for_every_command(pair: Pair) -> None:
    for make in (("SET", "a", "1"), ("RPUSH", "a", "1"), ("HSET", "a", "f", "1"), ("ZADD", "a", 1, "m")):
        pair(*make)
        pair("PEXPIRE", "a", 30)
        # Both have passed it after this wait, whatever their timers have done.
        pair("BLPOP", "nothing", "0.08")
        pair("EXISTS", "a")
        pair("TYPE", "a")
        pair.unordered("KEYS", "*")
        pair("DBSIZE")
        pair("RENAME", "a", "b")
        pair.scan("SCAN")
        pair("SET", "a", "new", "NX")
        pair.ttl_ms("PTTL", "a")
        pair("DEL", "a")

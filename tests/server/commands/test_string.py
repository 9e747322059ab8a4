"""String commands: options, expiry, numbers, parts, big strings, events."""

from __future__ import annotations

import pytest

from harness.local import LocalClient, Servers
from lamina.server import events
from lamina.server.errors import (
    NAN_OR_INFINITY,
    NOT_A_FLOAT,
    NOT_AN_INTEGER,
    OFFSET_OUT_OF_RANGE,
    OVERFLOW,
    STRING_TOO_LONG,
    SYNTAX,
    WRONG_TYPE,
    CommandError,
    invalid_expire_time,
    wrong_arity,
)
from lamina.server.records import BigString, Record
from lamina.server.types import bigstrings, strings

MAX = 512 << 20
CHUNK = bigstrings.CHUNK_SIZE


def ttl_ms(local: LocalClient, key: bytes) -> int | None:
    """Return the time a key has left; 0 if it stays, None if it is not there."""
    value = local.client.keyspace.find(key)
    if value is None:
        return None
    return value.expires_ms - local.clock.now_ms if isinstance(value, Record) and value.expires_ms else 0


def heard(local: LocalClient) -> list[tuple[bytes, bytes]]:
    """Listen to all events from now on, and return the list that they are added to."""
    found: list[tuple[bytes, bytes]] = []
    keyspace = local.client.keyspace
    keyspace.listens = events.ALL
    keyspace.databases.on_event = lambda keyspace, kind, name, key: found.append((name, key))
    return found


# --- SET and its options


def test_set_replaces_whatever_was_there(local: LocalClient) -> None:
    assert local("SET", "k", "v") == b"OK"
    assert local("GET", "k") == b"v"
    local("SADD", "k2", "m")
    assert local("SET", "k2", "v2", "EX", 5) == b"OK"
    assert local("SET", "k2", b"\0\xff\r\n") == b"OK"
    assert ttl_ms(local, b"k2") == 0
    local.reload()
    assert local("MGET", "k", "k2", "k3") == [b"v", b"\0\xff\r\n", None]


@pytest.mark.parametrize(
    ("words", "left_ms"),
    [
        ("EX 5", 5000),
        ("px 5", 5),
        ("EXAT 1700000009", 9000),
        ("PXAT 1700000000007", 7),
        ("EX 7 EX 5", 5000),
        ("NX EX 5", 5000),
        ("KEEPTTL", 0),
    ],
)
def test_set_with_a_time(local: LocalClient, words: str, left_ms: int) -> None:
    assert local("SET", "k", "v", *words.split()) == b"OK"
    assert ttl_ms(local, b"k") == left_ms
    local.reload()
    assert ttl_ms(local, b"k") == left_ms
    assert local("GET", "k") == b"v"
    if left_ms:
        local.clock.advance(left_ms)
        assert local("GET", "k") is None


def test_set_with_a_time_that_has_passed(local: LocalClient) -> None:
    assert local("SET", "k", "v") == b"OK"
    assert local("SET", "k", "w", "EXAT", 1) == b"OK"
    assert local("GET", "k") is None


@pytest.mark.parametrize(
    "words",
    [
        "NX XX",
        "EX",
        "EX 5 PX 5",
        "EX 5 KEEPTTL",
        "KEEPTTL PXAT 5",
        "EXAT 5 EX",
        "PERSIST",
        "nope",
        "EX 0 nope",
    ],
)
def test_set_options_that_make_no_sense(local: LocalClient, words: str) -> None:
    assert local("SET", "k", "v", *words.split()) == SYNTAX
    assert local("GET", "k") is None


@pytest.mark.parametrize("command", ["SET k v EX", "SET k v PX", "SET k v EXAT", "GETEX k EX", "SETEX k"])
def test_times_that_are_none(local: LocalClient, command: str) -> None:
    local("SET", "k", "old")
    words = command.split()
    tail = ["v"] if words[0] == "SETEX" else []
    invalid = invalid_expire_time(words[0].lower().encode())
    assert local(*words, "0", *tail) == invalid
    assert local(*words, "-1", *tail) == invalid
    assert local(*words, "x", *tail) == NOT_AN_INTEGER
    if "PX" not in words:
        assert local(*words, "9223372036854775807", *tail) == invalid
    assert local("GET", "k") == b"old"
    assert ttl_ms(local, b"k") == 0


def test_set_if_missing_or_there(local: LocalClient) -> None:
    assert local("SET", "k", "1", "XX") is None
    assert local("SET", "k", "1", "NX") == b"OK"
    assert local("SET", "k", "2", "NX") is None
    assert local("SET", "k", "2", "XX", "PX", 100) == b"OK"
    assert local("SET", "k", "3", "KEEPTTL") == b"OK"
    assert ttl_ms(local, b"k") == 100
    local.clock.advance(100)
    assert local("SET", "k", "4", "NX") == b"OK"
    assert ttl_ms(local, b"k") == 0


def test_set_and_get(local: LocalClient) -> None:
    assert local("SET", "k", "1", "GET") is None
    assert local("SET", "k", "2", "get", "nx") == b"1"
    assert local("SET", "k", "2", "XX", "GET") == b"1"
    assert local("SET", "missing", "2", "XX", "GET") is None
    assert local("SET", "new", "2", "NX", "GET") is None
    assert local("MGET", "k", "missing", "new") == [b"2", None, b"2"]
    local("SADD", "s", "m")
    assert local("SET", "s", "1", "GET") == WRONG_TYPE
    assert local("SCARD", "s") == 1


def test_setnx_setex_psetex_getset(local: LocalClient) -> None:
    assert local("SETNX", "k", "1") == 1
    assert local("SETNX", "k", "2") == 0
    assert local("SETEX", "k", 10, "3") == b"OK"
    assert ttl_ms(local, b"k") == 10_000
    assert local("PSETEX", "k", 10, "4") == b"OK"
    assert ttl_ms(local, b"k") == 10
    assert local("GETSET", "k", "5") == b"4"
    assert ttl_ms(local, b"k") == 0
    assert local("GETSET", "new", "6") is None
    local("SADD", "s", "m")
    assert local("GETSET", "s", "6") == WRONG_TYPE
    assert local("SETEX", "s", 10, "over it") == b"OK"


def test_getdel(local: LocalClient) -> None:
    assert local("GETDEL", "k") is None
    local("SET", "k", "v", "EX", 5)
    assert local("GETDEL", "k") == b"v"
    assert local("GETDEL", "k") is None
    local("SADD", "s", "m")
    assert local("GETDEL", "s") == WRONG_TYPE


def test_getex(local: LocalClient) -> None:
    assert local("GETEX", "k", "EX", 0) is None
    local("SET", "k", "v")
    assert local("GETEX", "k", "EX", 5) == b"v"
    assert ttl_ms(local, b"k") == 5000
    assert local("GETEX", "k") == b"v"
    assert ttl_ms(local, b"k") == 5000
    assert local("GETEX", "k", "PXAT", 1700000000001) == b"v"
    assert ttl_ms(local, b"k") == 1
    assert local("GETEX", "k", "persist") == b"v"
    assert ttl_ms(local, b"k") == 0
    assert local("GETEX", "k", "PERSIST", "EX", 5) == SYNTAX
    assert local("GETEX", "k", "KEEPTTL") == SYNTAX
    assert local("GETEX", "k", "EXAT", 1) == b"v"
    assert local("GETEX", "k") is None
    local("SADD", "s", "m")
    assert local("GETEX", "s", "EX", 0) == WRONG_TYPE


# --- Many


def test_mset_and_mget(local: LocalClient) -> None:
    assert local("MSET", "a", 1, "b", 2, "a", 3) == b"OK"
    local("SADD", "s", "m")
    local("SETEX", "c", 5, "soon gone")
    assert local("MGET", "a", "b", "s", "missing", "a", "c") == [b"3", b"2", None, None, b"3", b"soon gone"]
    local.reload()
    assert local("MGET", "a", "b", "c") == [b"3", b"2", b"soon gone"]
    local.clock.advance(5000)
    assert local("MGET", "c") == [None]
    assert local("MSET", "s", "over it", "big", "x" * 70_000) == b"OK"
    assert local("MGET", "s", "big") == [b"over it", b"x" * 70_000]
    assert local("MSET", "a", 1, "b") == wrong_arity(b"mset")


def test_msetnx_sets_all_or_none(local: LocalClient) -> None:
    assert local("MSETNX", "a", 1, "b", 2) == 1
    assert local("MSETNX", "c", 1, "b", 3) == 0
    assert local("MGET", "a", "b", "c") == [b"1", b"2", None]
    assert local("MSETNX", "a", 1, "b") == wrong_arity(b"msetnx")


# --- Numbers


def test_increments(local: LocalClient) -> None:
    assert local("INCR", "n") == 1
    assert local("INCRBY", "n", 41) == 42
    assert local("DECR", "n") == 41
    assert local("DECRBY", "n", -9) == 50
    assert local("GET", "n") == b"50"
    local.reload()
    assert local("INCR", "n") == 51
    local("SET", "n", "9223372036854775806", "EX", 9)
    assert local("INCR", "n") == (1 << 63) - 1
    assert local("INCR", "n") == OVERFLOW
    assert local("GET", "n") == b"9223372036854775807"
    assert ttl_ms(local, b"n") == 9000
    assert local("DECRBY", "n", "-9223372036854775808") == CommandError(b"ERR decrement would overflow")
    assert local("INCRBY", "n", "1.5") == NOT_AN_INTEGER
    for text in ("", " 1", "1 ", "01", "x", "9223372036854775808", "x" * 70_000):
        local("SET", "n", text)
        assert local("INCR", "n") == NOT_AN_INTEGER
    local("SADD", "s", "m")
    assert local("INCR", "s") == WRONG_TYPE


def test_increments_within_a_turn(local: LocalClient) -> None:
    assert local.pipeline(*[("INCR", "n")] * 5, ("SET", "n", 7), ("INCRBY", "n", 1), ("DECR", "m")) == [
        *(1, 2, 3, 4, 5),
        b"OK",
        8,
        -1,
    ]
    local.reload()
    assert local("MGET", "n", "m") == [b"8", b"-1"]


def test_increments_of_floats(local: LocalClient) -> None:
    assert local("INCRBYFLOAT", "f", "0.1") == b"0.1"
    assert local("INCRBYFLOAT", "f", "0.2") == b"0.3"
    assert local("INCRBYFLOAT", "f", "-5.0e3") == b"-4999.70000000000000018"
    local("SET", "f", "10.50", "EX", 9)
    assert local("INCRBYFLOAT", "f", "0.1") == b"10.6"
    assert ttl_ms(local, b"f") == 9000
    assert local("INCRBYFLOAT", "f", "x") == NOT_A_FLOAT
    assert local("INCRBYFLOAT", "f", "inf") == NAN_OR_INFINITY
    local("SET", "f", "ten")
    assert local("INCRBYFLOAT", "f", "1") == NOT_A_FLOAT
    local("SADD", "s", "m")
    assert local("INCRBYFLOAT", "s", "x") == WRONG_TYPE


# --- Parts


def test_append_and_strlen(local: LocalClient) -> None:
    assert local("STRLEN", "k") == 0
    assert local("APPEND", "k", "ab") == 2
    assert local("APPEND", "k", "cd") == 4
    assert local("APPEND", "k", "") == 4
    assert local("APPEND", "empty", "") == 0
    assert local("GET", "empty") == b""
    assert local("STRLEN", "k") == 4
    local("SET", "e", "x", "EX", 5)
    assert local("APPEND", "e", "y") == 2
    assert ttl_ms(local, b"e") == 5000
    assert local("STRLEN", "e") == 2
    local.reload()
    assert local("MGET", "k", "e") == [b"abcd", b"xy"]
    local("SADD", "s", "m")
    assert local("APPEND", "s", "x") == WRONG_TYPE
    assert local("STRLEN", "s") == WRONG_TYPE


def test_setrange(local: LocalClient) -> None:
    assert local("SETRANGE", "k", 5, "") == 0
    assert local("GET", "k") is None
    assert local("SETRANGE", "k", 2, "ab") == 4
    assert local("GET", "k") == b"\0\0ab"
    assert local("SETRANGE", "k", 1, "x") == 4
    assert local("GET", "k") == b"\0xab"
    assert local("SETRANGE", "k", 100, "") == 4
    assert local("SETRANGE", "k", -1, "x") == OFFSET_OUT_OF_RANGE
    assert local("SETRANGE", "k", "x", "x") == NOT_AN_INTEGER
    assert local("SETRANGE", "k", MAX, "x") == STRING_TOO_LONG
    assert local("SETRANGE", "new", MAX, "x") == STRING_TOO_LONG
    assert local("GET", "new") is None
    local("SADD", "s", "m")
    assert local("SETRANGE", "s", 0, "") == WRONG_TYPE


def test_getrange(local: LocalClient) -> None:
    local("SET", "k", "Hello, world")
    local("SETEX", "e", 5, "Hello, world")
    local("SET", "big", "x" * 70_000)
    text = b"Hello, world"
    for key in ("k", "e"):
        for name in ("GETRANGE", "SUBSTR"):
            assert local(name, key, 0, -1) == text
            assert local(name, key, 0, 4) == text[:5]
            assert local(name, key, -5, -1) == text[-5:]
            assert local(name, key, -100, 0) == text[:1]
            assert local(name, key, 3, 2) == b""
            assert local(name, key, -1, -3) == b""
            assert local(name, key, 12, 100) == b""
            assert local(name, key, 0, -100) == text[:1]
    assert local("GETRANGE", "missing", 0, -1) == b""
    assert local("GETRANGE", "missing", "x", -1) == NOT_AN_INTEGER
    local("SADD", "s", "m")
    assert local("GETRANGE", "s", 0, -1) == WRONG_TYPE


# --- Big strings


def chunks_of(local: LocalClient, key: bytes) -> list[int]:
    """Return the sizes of a big string's chunks."""
    record = local.client.keyspace.find(key)
    assert isinstance(record, BigString)
    return [len(chunk) for _, chunk in local.server.databases.store.scan_prefix(record.prefix)]


def elements_count(local: LocalClient) -> int:
    keyspace = local.client.keyspace
    return len(list(local.server.databases.store.scan_prefix(keyspace.element_prefix)))


def test_a_small_string_grows_into_a_big_one(local: LocalClient) -> None:
    local("SET", "k", "x", "EX", 100)
    size = 1
    while size < 100_000:
        size += 9999
        assert local("APPEND", "k", "y" * 9999) == size
    assert isinstance(local.client.keyspace.find(b"k"), BigString)
    assert ttl_ms(local, b"k") == 100_000
    local.reload()
    assert local("GET", "k") == b"x" + b"y" * (size - 1)
    assert local("STRLEN", "k") == size
    assert local("SETRANGE", "k", 50_000, "middle") == size
    assert local("GETRANGE", "k", 49_998, 50_007) == b"yymiddleyy"
    local.clock.advance(100_000)
    assert local("GET", "k") is None
    assert elements_count(local) == 0


def test_a_huge_offset_costs_one_chunk(local: LocalClient) -> None:
    assert local("SETRANGE", "k", MAX - 1, "x") == MAX
    assert chunks_of(local, b"k") == [CHUNK]
    assert local("STRLEN", "k") == MAX
    assert local("GETRANGE", "k", 0, 3) == b"\0\0\0\0"
    assert local("GETRANGE", "k", -3, -1) == b"\0\0x"
    assert local("APPEND", "k", "y") == STRING_TOO_LONG
    assert local("SETRANGE", "k", 100_000, "abc") == MAX
    assert local("GETRANGE", "k", 99_999, 100_003) == b"\0abc\0"
    assert len(chunks_of(local, b"k")) == 2
    local.reload()
    assert local("GETRANGE", "k", -2, -1) == b"\0x"


def test_a_small_string_with_a_far_write_keeps_its_beginning(local: LocalClient) -> None:
    local("SET", "k", "begins", "PX", 5000)
    assert local("SETRANGE", "k", 1_000_000, "ends") == 1_000_004
    assert ttl_ms(local, b"k") == 5000
    assert local("GET", "k") == b"begins" + bytes(1_000_000 - 6) + b"ends"
    assert local("GETRANGE", "k", 0, 7) == b"begins\0\0"


def test_appending_costs_a_chunk(local: LocalClient) -> None:
    local("SET", "k", "x" * 1_000_000)
    local.turn()
    store = local.server.databases.store
    before = local.client.keyspace.find(b"k")
    assert isinstance(before, BigString)
    strings.append(local.client.keyspace, b"k", b"yz", size_max=MAX)
    pending = [value for key, value in store.entries.items() if value and key.startswith(before.prefix)]
    assert len(pending) == 1
    assert len(pending[0]) <= CHUNK
    local.turn()
    assert local("GETRANGE", "k", -4, -1) == b"xxyz"


@pytest.mark.parametrize("command", ["SET k small", "GETDEL k", "GETSET k small", "MSET k small"])
def test_the_chunks_go_with_the_string(local: LocalClient, command: str) -> None:
    local("SET", "k", "x" * 70_000)
    local("SET", "other", "y" * 70_000)
    local(*command.split())
    assert elements_count(local) == len(chunks_of(local, b"other"))
    local("SET", "other", "z" * 100_000)
    assert elements_count(local) == len(chunks_of(local, b"other")) == 7
    assert local("GET", "other") == b"z" * 100_000


def test_writes_against_a_model(local: LocalClient) -> None:
    """Writes at the borders of chunks and of what is big, with restarts in between."""
    text = b""
    borders = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 65_535, 65_536, 5 * CHUNK + 7, 9 * CHUNK]
    for turn, offset in enumerate(borders * 2 + borders[::-1]):
        data = bytes([turn + 65]) * (1, 100, CHUNK, 2 * CHUNK + 1)[turn % 4]
        if turn % 5 == 4:
            text += data
            assert local("APPEND", "k", data) == len(text)
        else:
            text = text[:offset].ljust(offset, b"\0") + data + text[offset + len(data) :]
            assert local("SETRANGE", "k", offset, data) == len(text)
        if turn % 3 == 0:
            local.reload()
        assert local("GET", "k") == text
        for start in borders:
            assert local("GETRANGE", "k", start, start + CHUNK) == text[start : start + CHUNK + 1]


# --- LCS


def test_lcs(local: LocalClient) -> None:
    local("MSET", "a", "ohmytext", "b", "mynewtext")
    assert local("LCS", "a", "b") == b"mytext"
    assert local("LCS", "a", "b", "LEN") == 6
    runs = [[[4, 7], [5, 8]], [[2, 3], [0, 1]]]
    assert local("LCS", "a", "b", "IDX") == [b"matches", runs, b"len", 6]
    assert local("LCS", "a", "b", "idx", "minmatchlen", 4, "withmatchlen") == [
        b"matches",
        [[[4, 7], [5, 8], 4]],
        b"len",
        6,
    ]
    assert local("LCS", "a", "b", "IDX", "MINMATCHLEN", -1)[1] == runs
    assert local("LCS", "a", "missing") == b""
    assert local("LCS", "a", "missing", "LEN") == 0
    local.client.resp = 3
    assert local("LCS", "a", "b", "IDX") == {b"matches": runs, b"len": 6}


def test_lcs_errors(local: LocalClient) -> None:
    local("MSET", "a", "x" * 12_000, "b", "y" * 12_000)
    local("SADD", "s", "m")
    not_strings = CommandError(b"ERR The specified keys must contain string values")
    assert local("LCS", "a", "s", "nope") == not_strings
    assert local("LCS", "a", "b", "nope") == SYNTAX
    assert local("LCS", "a", "b", "MINMATCHLEN") == SYNTAX
    assert local("LCS", "a", "b", "MINMATCHLEN", "x") == NOT_AN_INTEGER
    both = CommandError(b"ERR If you want both the length and indexes, please just use IDX.")
    assert local("LCS", "a", "b", "LEN", "IDX") == both
    too_large = CommandError(b"ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len")
    assert local("LCS", "a", "b") == too_large
    # An expired key is no string of another type, but none.
    local("SET", "b", "x", "PX", 1)
    local.clock.advance(1)
    assert local("LCS", "a", "b", "LEN") == 0


def test_the_limit_is_a_configuration_parameter(make_local: Servers) -> None:
    local = make_local.make(proto_max_bulk_len=1 << 20)
    assert local("SETRANGE", "k", (1 << 20) - 1, "x") == 1 << 20
    assert local("APPEND", "k", "x") == STRING_TOO_LONG
    local("MSET", "a", "x" * 511, "b", "y" * 511)
    assert local("LCS", "a", "b", "LEN") == 0
    local("APPEND", "a", "x")
    assert local("LCS", "a", "b", "LEN").code == b"ERR"


# --- What others see


def test_events(local: LocalClient) -> None:
    found = heard(local)
    local("SET", "k", "1")
    local("SET", "k", "1", "EX", 5)
    local("SET", "k", "1", "NX")
    local("SETNX", "n", "1")
    local("SETEX", "k", 5, "1")
    local("GETSET", "k", "1")
    local("MSET", "a", 1, "b", 2)
    local("MSETNX", "c", 1)
    assert found == [
        *((b"set", b"k"), (b"set", b"k"), (b"expire", b"k"), (b"set", b"n")),
        *((b"set", b"k"), (b"expire", b"k"), (b"set", b"k")),
        *((b"set", b"a"), (b"set", b"b"), (b"set", b"c")),
    ]
    found.clear()
    local("INCR", "a")
    local("DECR", "a")
    local("INCRBYFLOAT", "a", 1)
    local("APPEND", "a", "1")
    local("SETRANGE", "a", 0, "1")
    local("SETRANGE", "a", 0, "")
    assert [name for name, _ in found] == [b"incrby", b"incrby", b"incrbyfloat", b"append", b"setrange"]
    found.clear()
    local("GETEX", "k", "EX", 9)
    local("GETEX", "k", "PERSIST")
    local("GETEX", "k", "PERSIST")
    local("GETEX", "k", "EXAT", 1)
    local("GETDEL", "a")
    local("GETDEL", "a")
    assert found == [(b"expire", b"k"), (b"persist", b"k"), (b"del", b"k"), (b"del", b"a")]


def test_hits_and_misses(local: LocalClient) -> None:
    keyspace = local.client.keyspace
    local("SET", "k", "10")
    local("SETEX", "e", 5, "10")
    counted = {
        "GET k": (1, 0),
        "GET e": (1, 0),
        "GET missing": (0, 1),
        "MGET k missing e": (2, 1),
        "STRLEN k": (1, 0),
        "GETRANGE missing 0 -1": (0, 1),
        "GETEX k": (1, 0),
        "LCS k missing": (1, 1),
        "GETSET k 10": (1, 0),
        "GETDEL missing": (0, 1),
        "SET k 1 GET": (1, 0),
        "SET k 1": (0, 0),
        "INCR k": (0, 0),
        "APPEND missing 1": (0, 0),
    }
    for command, expected in counted.items():
        keyspace.hits = keyspace.misses = 0
        local(*command.split())
        assert (keyspace.hits, keyspace.misses) == expected, command


def test_encodings(local: LocalClient) -> None:
    names = {
        b"0": b"int",
        b"-9223372036854775808": b"int",
        b"9223372036854775808": b"embstr",
        b"01": b"embstr",
        b"": b"embstr",
        b"x" * 44: b"embstr",
        b"x" * 45: b"raw",
        b"x" * 70_000: b"raw",
    }
    for text, name in names.items():
        for words in ((), ("EX", 5)):
            local("SET", "k", text, *words)
            value = local.client.keyspace.find(b"k")
            assert value is not None
            assert strings.encoding_name(value) == name

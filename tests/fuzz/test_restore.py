"""RESTORE of payloads, and RDB files, that have been changed, with the checksum put right again.

Either the value is refused with `Bad data format`, or it is one: every command reads it, it is dumped and
restored again, and all invariants of the database hold. What is taken in between is bounded.
"""

from __future__ import annotations

import tracemalloc
from typing import Any

from hypothesis import strategies as st

from harness.fuzzing import MUTATIONS, Mutation, fuzz_tests, mutate
from harness.local import LocalClient, check_server
from harness.payloads import bodies, files, sealed, sealed_file
from harness.rdbfiles import items_of
from lamina.server.errors import CommandError
from lamina.server.rdb.errors import RdbError

BAD_FORMAT = CommandError(b"ERR Bad data format")
WRONG_FOOTER = CommandError(b"ERR DUMP payload version or checksum are wrong")

MEMORY_MAX = 48 << 20
"""Bytes that a payload of some thousands may take while it is read."""

READING: dict[bytes, list[tuple[Any, ...]]] = {
    b"string": [("GET", "k"), ("STRLEN", "k"), ("GETRANGE", "k", 0, -1), ("BITCOUNT", "k"), ("PFCOUNT", "k")],
    b"list": [("LRANGE", "k", 0, -1), ("LLEN", "k"), ("LINDEX", "k", -1), ("LPOS", "k", "a"), ("SORT", "k")],
    b"set": [("SMEMBERS", "k"), ("SCARD", "k"), ("SSCAN", "k", 0), ("SRANDMEMBER", "k", -3)],
    b"zset": [("ZRANGE", "k", 0, -1, "WITHSCORES"), ("ZSCAN", "k", 0), ("ZCOUNT", "k", "-inf", "inf")],
    b"hash": [("HGETALL", "k"), ("HSCAN", "k", 0), ("HRANDFIELD", "k", -3), ("HLEN", "k")],
    b"stream": [
        ("XRANGE", "k", "-", "+"),
        ("XREVRANGE", "k", "+", "-", "COUNT", 3),
        ("XINFO", "STREAM", "k", "FULL"),
        ("XINFO", "GROUPS", "k"),
        ("XREAD", "STREAMS", "k", 0),
    ],
}
"""What reads all of a value."""

CHANGING: dict[bytes, list[tuple[Any, ...]]] = {
    b"string": [("APPEND", "k", "x"), ("SETBIT", "k", 9, 1)],
    b"list": [("RPUSH", "k", "x"), ("LREM", "k", 1, "a"), ("LPOP", "k"), ("LTRIM", "k", 1, -2)],
    b"set": [("SADD", "k", "x", 5), ("SPOP", "k"), ("SREM", "k", "a")],
    b"zset": [("ZADD", "k", 1, "x"), ("ZPOPMIN", "k"), ("ZREMRANGEBYRANK", "k", 1, 2)],
    b"hash": [("HSET", "k", "x", 1), ("HDEL", "k", "a"), ("HINCRBY", "k", "n", 1)],
    b"stream": [
        ("XADD", "k", "*", "f", "v"),
        ("XGROUP", "CREATE", "k", "new", 0),
        ("XREADGROUP", "GROUP", "new", "c", "COUNT", 2, "STREAMS", "k", ">"),
        ("XAUTOCLAIM", "k", "new", "d", 0, 0),
        ("XTRIM", "k", "MAXLEN", 2),
        ("XGROUP", "DESTROY", "k", "new"),
    ],
}
"""What changes it in different places."""


def is_internal(reply: Any) -> bool:
    return isinstance(reply, CommandError) and reply.message.startswith(b"ERR internal")


def restore(local: LocalClient, case: tuple[bytes, list[Mutation], bytes]) -> None:
    body, mutations, version = case
    payload = sealed(mutate(body, mutations), version)
    local("DEL", "k", "l")
    tracemalloc.start()
    try:
        reply = local("RESTORE", "k", 0, payload)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MEMORY_MAX, f"{peak} bytes"
    if reply != b"OK":
        assert reply == BAD_FORMAT
        assert local("EXISTS", "k") == 0
        return
    use(local)
    check_server(local.server)


def use(local: LocalClient) -> None:
    """Read all of the value at k, from memory and from disk, give it on, and change it."""
    kind = local("TYPE", "k")
    before = [local(*command) for command in READING[kind]]
    assert not any(map(is_internal, before))
    if not local("EXISTS", "k"):  # a hash whose fields have all expired
        return
    local.reload()
    if kind not in (b"set", b"hash", b"list"):  # what is drawn from them, and LPOS by form, may differ
        assert [local(*command) for command in READING[kind]] == before
    assert local("OBJECT", "ENCODING", "k")
    dumped = local("DUMP", "k")
    assert isinstance(dumped, bytes), dumped
    assert local("RESTORE", "l", 0, dumped, "REPLACE") == b"OK"
    assert local("TYPE", "l") == kind
    assert local("COPY", "k", "l", "REPLACE") == 1
    for command in CHANGING[kind]:
        assert not is_internal(local(*command)), command
    for command in READING[kind]:
        assert not is_internal(local(*command)), command


versions = st.sampled_from([b"\x0a\0", b"\x0a\0", b"\x0b\0", b"\x0c\0", b"\x01\0"])
PAYLOADS = st.tuples(bodies(), MUTATIONS, versions)

test_restore, test_restore_for_long = fuzz_tests("restore", restore, "local", PAYLOADS, count=150)


def restore_any(local: LocalClient, payload: bytes) -> None:
    """Payloads whose checksum is not put right, or whose footer is not there."""
    local("DEL", "k")
    reply = local("RESTORE", "k", 0, payload)
    assert reply in (b"OK", BAD_FORMAT, WRONG_FOOTER)
    assert local("EXISTS", "k") == (reply == b"OK")


ANY_PAYLOADS = st.one_of(st.binary(max_size=40), st.builds(mutate, bodies().map(sealed), MUTATIONS))

test_footers, test_footers_for_long = fuzz_tests("footers", restore_any, "local", ANY_PAYLOADS, count=50)


def read_file(_: None, case: tuple[bytes, list[Mutation], bool]) -> None:
    """A whole file, whose values are read to their end."""
    data, mutations, is_sealed = case
    data = mutate(data, mutations)
    data = sealed_file(data) if is_sealed else data
    tracemalloc.start()
    try:
        items_of(data)
    except RdbError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < MEMORY_MAX, f"{peak} bytes"


FILES = st.tuples(files(), MUTATIONS, st.booleans())

test_files, test_files_for_long = fuzz_tests("files", read_file, "nothing", FILES, count=100)


def drop_functions(local: LocalClient, case: tuple[bytes, list[Mutation]]) -> None:
    """FUNCTION RESTORE: libraries that are not whole change nothing."""
    body, mutations = case
    local("FUNCTION", "FLUSH")
    reply = local("FUNCTION", "RESTORE", sealed(mutate(body, mutations)))
    assert not is_internal(reply)
    names = [library[1] for library in local("FUNCTION", "LIST")]
    assert (reply == b"OK") or not names


CODE = b"#!lua name=lib\nredis.register_function('f', function(keys, args) return 1 end)"
LIBRARIES = st.tuples(
    st.sampled_from([b"", b"\xf5" + bytes((0x40 | len(CODE) >> 8, len(CODE) & 0xFF)) + CODE]), MUTATIONS
)

test_functions, test_functions_for_long = fuzz_tests(
    "functions", drop_functions, "local", LIBRARIES, count=40
)

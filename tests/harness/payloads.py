"""DUMP payloads and RDB files of every type in every encoding, to be changed and read again.

What this project writes is made by its own encoder, under rules that choose each of its forms; what only old
Redises wrote is built by hand.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

from hypothesis import strategies as st

from harness.rdbfiles import dump, intset, key, length, rdb, string, ziplist, zipmap
from harness.rdbvalues import collections, streams, timed_hashes
from lamina.server.rdb import opcodes, payload
from lamina.server.rdb.crc64 import crc64
from lamina.server.rdb.rules import SavingRules
from lamina.server.rdb.saving import RdbWriter
from lamina.server.rdb.values import Value

FOOTER_SIZE = 10
VERSION = (10).to_bytes(2, "little")

# Rules under which collections of some elements are packed, or none are.
RULES = [
    SavingRules(version=opcodes.REDIS_74, compress=False),
    SavingRules(version=opcodes.REDIS_74, compress=True),
    SavingRules(version=opcodes.REDIS_70, compress=True),
]


def sealed(body: bytes, version: bytes = VERSION) -> bytes:
    """Return a payload with this type and value, its checksum right."""
    body += version
    return body + crc64(body, 0).to_bytes(8, "little")


def sealed_file(body: bytes) -> bytes:
    """Return an RDB file whose last eight bytes are right, as of one that ended in them before."""
    body = body[:-8]
    return body + crc64(body, 0).to_bytes(8, "little")


def _old_payloads() -> list[bytes]:
    words: list[bytes | int] = [b"a", -5, 300, b"y" * 70, 100000, 1 << 40]
    scored: list[bytes | int] = [b"a", 1, b"b", b"2.5", b"c", b"-inf"]
    return [
        dump(opcodes.LIST_ZIPLIST, ziplist(words)),
        dump(opcodes.LIST_QUICKLIST, length(2), ziplist(words), ziplist([b"z"], long_lengths=True)),
        dump(opcodes.HASH_ZIPLIST, ziplist(words, long_lengths=True)),
        dump(opcodes.ZSET_ZIPLIST, ziplist(scored)),
        dump(opcodes.HASH_ZIPMAP, zipmap([(b"a", b"1"), (b"b", b"y" * 300)], free=1)),
        dump(opcodes.SET_INTSET, intset([1, 70000], 4)),
        dump(opcodes.SET_INTSET, intset([-3, 2, 1 << 40], 8)),
        dump(opcodes.ZSET, length(2), string(b"a"), b"\x031.5", string(b"b"), b"\xff"),
        dump(opcodes.LIST, length(2), string(b"a"), string(b"b")),
    ]


OLD = _old_payloads()

VALUES: st.SearchStrategy[Value] = st.one_of(collections(), streams(), streams(), timed_hashes())


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Draw the type and the value of a payload, without what is behind them."""
    if draw(st.integers(0, 4)) == 0:
        return draw(st.sampled_from(OLD))[:-FOOTER_SIZE]
    value = draw(VALUES)
    for rules in draw(st.permutations(RULES)):
        try:
            return payload.encode(value, rules)[:-FOOTER_SIZE]
        except ValueError:  # a hash whose fields expire has no form of an old version
            continue
    raise AssertionError("a value that no rules have a form for")


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """Draw an RDB file, new or old."""
    if draw(st.integers(0, 4)) == 0:
        return rdb(9, *_old_keys(draw(st.lists(st.sampled_from(OLD), max_size=4))))
    file = io.BytesIO()
    writer = RdbWriter(file, RULES[draw(st.integers(0, 1))])
    writer.write_aux(b"redis-ver", b"7.4.0")
    values = draw(st.lists(VALUES, max_size=4))
    writer.select_database(draw(st.integers(0, 20)), len(values), 0)
    for at, value in enumerate(values):
        expires_ms = draw(st.sampled_from((0, 1, 1_900_000_000_000)))
        writer.write_key(b"k%d" % at, value, expires_ms, -1, -1)
    writer.finish()
    return file.getvalue()


def _old_keys(payloads: list[bytes]) -> Iterator[bytes]:
    for at, one in enumerate(payloads):
        yield key(b"k%d" % at, one[0], one[1:-FOOTER_SIZE])

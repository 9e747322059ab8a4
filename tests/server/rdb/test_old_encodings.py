"""What only old versions wrote, and what only newer ones do: files and payloads built by hand."""

from __future__ import annotations

import io
import struct

import pytest

from harness import rdbfiles
from harness.rdbdata import INTEGERS, SIZES
from harness.rdbfiles import dump, intset, items_of, key, keys_of, length, rdb, string, ziplist, zipmap
from harness.servers import Server
from lamina.server.rdb import listpack, opcodes, payload
from lamina.server.rdb.errors import RdbError, UnsupportedError
from lamina.server.rdb.loading import RdbReader
from lamina.server.rdb.values import DatabaseSize, Function, Key, Skipped

ELEMENTS = [*INTEGERS, *(b"x" * size for size in (*SIZES, 16383, 16384, 70000))]
TEXTS = [element if isinstance(element, bytes) else b"%d" % element for element in ELEMENTS]
FIELDS = [b"field %d" % at for at in range(len(ELEMENTS))]
FLAT = [word for pair in zip(FIELDS, ELEMENTS, strict=True) for word in pair]
PAIRS = list(zip(FIELDS, TEXTS, strict=True))

OLD = {
    "list": (opcodes.LIST, [length(2), string(b"a"), string(b"b")], ("list", [b"a", b"b"])),
    "list ziplist": (opcodes.LIST_ZIPLIST, [ziplist(ELEMENTS)], ("list", TEXTS)),
    "long lengths": (opcodes.LIST_ZIPLIST, [ziplist(ELEMENTS, long_lengths=True)], ("list", TEXTS)),
    "many elements": (opcodes.LIST_ZIPLIST, [ziplist([7] * 70000)], ("list", [b"7"] * 70000)),
    "quicklist": (
        opcodes.LIST_QUICKLIST,
        [length(3), ziplist(ELEMENTS), ziplist([]), ziplist([b"a"])],
        ("list", [*TEXTS, b"a"]),
    ),
    "intset 16": (opcodes.SET_INTSET, [intset([-32768, 0, 5], 2)], ("set", {b"-32768", b"0", b"5"})),
    "intset 32": (opcodes.SET_INTSET, [intset([-5, 70000], 4)], ("set", {b"-5", b"70000"})),
    "intset 64": (
        opcodes.SET_INTSET,
        [intset(range(-3000, 3000), 8)],
        ("set", {b"%d" % number for number in range(-3000, 3000)}),
    ),
    "zset": (
        opcodes.ZSET,
        [length(5), string(b"a"), b"\x031.5", string(b"b"), b"\xfe", string(b"c"), b"\xff"]
        + [string(b"d"), b"\x17-2.2250738585072014e-30", string(b"e"), b"\x0217"],
        (
            "zset",
            {b"a": 1.5, b"b": float("inf"), b"c": float("-inf"), b"d": -2.2250738585072014e-30, b"e": 17},
        ),
    ),
    "zset ziplist": (
        opcodes.ZSET_ZIPLIST,
        [ziplist([b"low", b"-inf", b"a", -3, b"b", b"2.5", 7, 1 << 40])],
        ("zset", {b"low": float("-inf"), b"a": -3.0, b"b": 2.5, b"7": float(1 << 40)}),
    ),
    "hash": (opcodes.HASH, [length(1), string(b"f"), b"\xc1\x39\x30"], ("hash", {b"f": b"12345"})),
    "hash ziplist": (opcodes.HASH_ZIPLIST, [ziplist(FLAT)], ("hash", dict(PAIRS))),
    "zipmap": (opcodes.HASH_ZIPMAP, [zipmap(PAIRS)], ("hash", dict(PAIRS))),
    "zipmap with gaps": (opcodes.HASH_ZIPMAP, [zipmap(PAIRS[:9], free=3)], ("hash", dict(PAIRS[:9]))),
    "zipmap of many": (
        opcodes.HASH_ZIPMAP,
        [zipmap([(b"%d" % at, b"v") for at in range(9000)])],
        ("hash", {b"%d" % at: b"v" for at in range(9000)}),
    ),
}
OLD_ENCODINGS = pytest.mark.parametrize("name", list(OLD))


@OLD_ENCODINGS
@pytest.mark.parametrize("version", [1, 2, 4, 6, 9])
def test_old_files(name: str, version: int) -> None:
    code, parts, expected = OLD[name]
    assert keys_of(rdb(version, key(b"k", code, *parts))) == {b"k": expected}


@OLD_ENCODINGS
def test_payloads(name: str) -> None:
    code, parts, expected = OLD[name]
    assert rdbfiles.plain(payload.decode(dump(code, *parts, version=6))) == expected


@OLD_ENCODINGS
def test_redis_reads_the_same(redis_server: Server, name: str) -> None:
    code, parts, expected = OLD[name]
    with redis_server.client() as client:
        client.ok("CONFIG", "SET", "sanitize-dump-payload", "yes")
        client.ok("RESTORE", "k", 0, dump(code, *parts, version=6), "REPLACE")
        client.ok("CONFIG", "SET", "sanitize-dump-payload", "no")
        assert rdbfiles.value_of(client, b"k") == expected


def test_every_form_of_an_expiry() -> None:
    now_s = 2_000_000_000
    data = rdb(
        6,
        key(b"seconds", opcodes.STRING, string(b"v"), before=b"\xfd" + struct.pack("<I", now_s)),
        key(b"ms", opcodes.STRING, string(b"v"), before=b"\xfc" + struct.pack("<Q", now_s * 1000 + 1)),
        key(b"before 1970", opcodes.SET, length(1), string(b"m"), before=b"\xfc" + struct.pack("<q", -5)),
        key(b"1970", opcodes.STRING, string(b"v"), before=b"\xfc" + bytes(8)),
        key(b"1970 as well", opcodes.STRING, string(b"v"), before=b"\xfd" + bytes(4)),
        key(b"never", opcodes.STRING, string(b"v")),
        key(b"idle", opcodes.STRING, string(b"v"), before=b"\xf8\x40\x64\xf9\x07"),
        key(b"not idle", opcodes.STRING, string(b"v")),
    )
    found = [(item.key, item.expires_ms, item.idle_s, item.frequency) for item in items_of(data)]
    assert found == [
        (b"seconds", now_s * 1000, -1, -1),
        (b"ms", now_s * 1000 + 1, -1, -1),
        (b"before 1970", 1, -1, -1),
        (b"1970", 1, -1, -1),
        (b"1970 as well", 1, -1, -1),
        (b"never", 0, -1, -1),
        (b"idle", 0, 100, 7),
        (b"not idle", 0, -1, -1),
    ]


def test_all_forms_of_lengths_and_strings() -> None:
    data = rdb(
        9,
        key(b"8", opcodes.STRING, b"\xc0\x85"),
        key(b"16", opcodes.STRING, b"\xc1\x00\x80"),
        key(b"32", opcodes.STRING, b"\xc2\xff\xff\xff\x7f"),
        b"\xfe\x41\x00",
        key(b"14 bits", opcodes.STRING, b"\x40\x03abc"),
        b"\xfe\x80\x00\x00\x00\x05\xfb\x81\x00\x00\x00\x01\x00\x00\x00\x00\x02",
        key(b"64 bits", opcodes.STRING, b"\x81\x00\x00\x00\x00\x00\x00\x00\x03abc"),
    )
    items = items_of(data)
    assert [(item.database, item.key, item.value) for item in items if isinstance(item, Key)] == [
        (0, b"8", b"-123"),
        (0, b"16", b"-32768"),
        (0, b"32", b"2147483647"),
        (256, b"14 bits", b"abc"),
        (5, b"64 bits", b"abc"),
    ]
    assert DatabaseSize(5, 1 << 32, 2) in items


def test_the_checksum_is_looked_at_from_version_5_on() -> None:
    good = rdb(5, key(b"k", opcodes.STRING, string(b"v")))
    assert keys_of(good) == {b"k": b"v"}
    assert keys_of(good[:-8] + bytes(8)) == {b"k": b"v"}
    with pytest.raises(RdbError, match="checksum"):
        keys_of(good[:-1] + bytes((good[-1] ^ 0x80,)))
    with pytest.raises(RdbError, match="truncated"):
        keys_of(good[:-8])


def test_slots_functions_and_modules() -> None:
    module_id = b"\x81" + (0x123456789ABCDE << 10 & (1 << 64) - 1 | 7).to_bytes(8, "big")
    parts = b"\x01\x05\x02\x41\x00\x03\x00\x00\x80\x3f\x04" + bytes(8) + b"\x05\x03abc\x00"
    data = rdb(
        12,
        b"\xf7" + module_id + b"\x02\x02" + parts,
        b"\xf4\x05\x0a\x02",
        b"\xf5" + string(b"#!lua name=x"),
        key(b"module", opcodes.MODULE_2, module_id, parts),
        key(b"k", opcodes.STRING, string(b"v")),
    )
    with pytest.raises(UnsupportedError, match="module type"):
        items_of(data)
    items = items_of(data, skip_modules=True)
    assert items[1] == Function(b"#!lua name=x")
    assert [type(item) for item in items] == [Skipped, Function, Skipped, Key]
    assert items[2].key == b"module"
    with pytest.raises(UnsupportedError, match="release candidate"):
        items_of(rdb(10, b"\xf6" + string(b"x")))
    with pytest.raises(UnsupportedError, match="module type"):
        payload.decode(dump(opcodes.MODULE_2, module_id, parts))


def test_other_files_and_versions_are_refused() -> None:
    for data in (b"", b"REDIS", b"# comment", b"REDIS00x1" + bytes(20), b"*2\r\n$6\r\nSELECT\r\n"):
        with pytest.raises(RdbError):
            RdbReader(io.BytesIO(data))
    for version in (0, 13, 80, 9999):
        with pytest.raises(UnsupportedError, match="RDB version"):
            RdbReader(io.BytesIO(rdb(version)))
    with pytest.raises(RdbError, match="append-only"):
        items_of(rdb(10) + b"*2\r\n")
    with pytest.raises(UnsupportedError, match="unknown type"):
        items_of(rdb(10, key(b"k", 26, b"\x00")))
    with pytest.raises(payload.FooterError, match="version 13"):
        payload.decode(dump(opcodes.STRING, string(b"v"), version=13))


def test_empty_collections_of_files_are_left_out() -> None:
    empty = [
        key(b"list", opcodes.LIST, length(0)),
        key(b"set", opcodes.SET, length(0)),
        key(b"zset", opcodes.ZSET_2, length(0)),
        key(b"hash", opcodes.HASH, length(0)),
        key(b"nodes", opcodes.LIST_QUICKLIST, length(1), ziplist([])),
        key(b"none", opcodes.LIST_QUICKLIST_2, length(0)),
        key(b"ziplist", opcodes.HASH_ZIPLIST, ziplist([])),
        key(b"listpack", opcodes.ZSET_LISTPACK, string(listpack.pack([]))),
        key(b"zipmap", opcodes.HASH_ZIPMAP, zipmap([])),
        key(b"intset", opcodes.SET_INTSET, intset([], 2)),
    ]
    assert keys_of(rdb(10, *empty, key(b"k", opcodes.STRING, string(b"v")))) == {b"k": b"v"}


def test_hashes_whose_fields_expire() -> None:
    base = 1_900_000_000_000
    least = struct.pack("<q", base)
    triples = [b"a", b"1", b"%d" % base, b"b", b"2", b"%d" % (base + 500), b"c", b"3", b"0"]
    packed = string(listpack.pack(triples))
    expected = ("timed hash", {b"a": (b"1", base), b"b": (b"2", base + 500), b"c": (b"3", 0)})
    fields = (length(3), length(1), string(b"a"), string(b"1"), length(501), string(b"b"), string(b"2"))
    rest = (length(0), string(b"c"), string(b"3"))
    absolute = (b"\x81" + struct.pack(">Q", base), b"\x81" + struct.pack(">Q", base + 500))
    early = (length(3), absolute[0], string(b"a"), string(b"1"), absolute[1], string(b"b"), string(b"2"))
    data = rdb(
        12,
        key(b"listpack", opcodes.HASH_LISTPACK_EX, least, packed),
        key(b"listpack early", opcodes.HASH_LISTPACK_EX_PRE_GA, packed),
        key(b"table", opcodes.HASH_METADATA, least, *fields, *rest),
        key(b"table early", opcodes.HASH_METADATA_PRE_GA, *early, *rest),
    )
    assert keys_of(data) == dict.fromkeys(
        (b"listpack", b"listpack early", b"table", b"table early"), expected
    )


def test_fields_that_expire_before_the_first_one() -> None:
    """What Redis counts from may be out of date, and later than a field: differences go round the end."""
    least = struct.pack("<q", 5000)
    parts = (length(2), b"\x81" + struct.pack(">q", 3000 - 5000 + 1), string(b"a"), string(b"1"))
    found = payload.decode(
        dump(opcodes.HASH_METADATA, least, *parts, length(3), string(b"b"), string(b"2"), version=12)
    )
    assert rdbfiles.plain(found) == ("timed hash", {b"a": (b"1", 3000), b"b": (b"2", 5002)})


@pytest.mark.parametrize(
    ("code", "parts"),
    [
        (opcodes.HASH_LISTPACK_EX, [bytes(8), string(listpack.pack([b"a", b"1", b"x"]))]),
        (opcodes.HASH_LISTPACK_EX, [bytes(8), string(listpack.pack([b"a", b"1", b"-5"]))]),
        (opcodes.HASH_LISTPACK_EX, [bytes(8), string(listpack.pack([b"a", b"1", b"%d" % (1 << 48)]))]),
        (opcodes.HASH_LISTPACK_EX, [bytes(8), string(listpack.pack([b"a", b"1"]))]),
        (opcodes.HASH_LISTPACK_EX, [bytes(8), string(listpack.pack([b"a", b"1", b"0"] * 2))]),
        (opcodes.HASH_METADATA, [b"\xff" * 8, length(1), length(0), string(b"a"), string(b"1")]),
        (opcodes.HASH_METADATA, [bytes(8), length(1), b"\x81" + b"\xff" * 8, string(b"a"), string(b"1")]),
        (opcodes.HASH_METADATA, [bytes(8), length(2), *[length(0), string(b"a"), string(b"1")] * 2]),
    ],
)
def test_fields_that_cannot_expire_like_that(code: int, parts: list[bytes]) -> None:
    with pytest.raises(RdbError):
        payload.decode(dump(code, *parts, version=12))

"""Files and payloads that are cut off, damaged or made to deceive: nothing but RdbError, bounded memory."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import rdbfiles
from harness.rdbfiles import dump, intset, items_of, key, length, plain, rdb, string, ziplist, zipmap
from harness.rdbvalues import collections, streams
from lamina.server.rdb import intset as intsets
from lamina.server.rdb import listpack, lzf, opcodes, payload
from lamina.server.rdb import ziplist as ziplists
from lamina.server.rdb import zipmap as zipmaps
from lamina.server.rdb.errors import FooterError, RdbError
from lamina.server.rdb.loading import RdbReader
from lamina.server.rdb.rules import SavingRules
from lamina.server.rdb.saving import RdbWriter
from lamina.server.rdb.values import (
    Function,
    HashValue,
    Key,
    ListValue,
    Pending,
    SetValue,
    StreamConsumer,
    StreamEntry,
    StreamGroup,
    StreamState,
    StreamValue,
    TimedHashValue,
    Value,
    ZsetValue,
)


def sample_values() -> list[Value]:
    """Return something of every type, small and in every encoding."""
    words = [b"a", b"-5", b"300", b"y" * 70, b"100000", b"%d" % (1 << 40)]
    group = StreamGroup(b"g", (2, 0), 2, [StreamConsumer(b"c", 5, 6, [Pending((1, 0), 5, 1)])])
    entries = [StreamEntry((1, 0), [b"f", b"v"]), StreamEntry((2, 1), [b"f", b"w"]), StreamEntry((3, 0), [])]
    return [
        b"value",
        b"12345",
        b"compress me " * 9,
        ListValue([words], 6),
        SetValue([[b"1", b"2", b"70000"]], 3),
        SetValue([words[:3]], 3),
        SetValue([words], 6),
        ZsetValue([[(word, at / 3) for at, word in enumerate(words[:3])]], 3),
        ZsetValue([[(word, at / 3) for at, word in enumerate(words)]], 6),
        HashValue([[(word, word) for word in words[:3]]], 3),
        HashValue([[(word, word) for word in words]], 6),
        TimedHashValue([[(word, word, at * 5) for at, word in enumerate(words[:3])]], 3),
        TimedHashValue([[(word, word, at * 5) for at, word in enumerate(words)]], 6),
        StreamValue([entries], 3, StreamState(3, (3, 0), (1, 0), (0, 0), 3), [group]),
    ]


def sample_file(*, compress: bool) -> bytes:
    """Return a file that holds all those and what else there is."""
    file = io.BytesIO()
    writer = RdbWriter(file, SavingRules(version=opcodes.REDIS_74, compress=compress))
    writer.write_aux(b"redis-ver", b"7.4.0")
    writer.write(Function(b"#!lua name=x"))
    writer.select_database(0, 20, 1)
    for at, value in enumerate(sample_values()):
        writer.write_key(b"k%d" % at, value, at % 2 * 1_900_000_000_000, at % 3 * 7 or -1, at % 5 * 4 or -1)
    writer.finish()
    return file.getvalue()


def old_file() -> bytes:
    """Return the same of what only old versions wrote."""
    words: list[bytes | int] = [b"a", -5, 300, b"y" * 70, 100000, 1 << 40]
    pairs = [(b"a", b"1"), (b"b", b"y" * 300)]
    return rdb(
        9,
        key(b"list", opcodes.LIST_ZIPLIST, ziplist(words)),
        key(b"quicklist", opcodes.LIST_QUICKLIST, length(1), ziplist(words)),
        key(b"hash", opcodes.HASH_ZIPLIST, ziplist(words, long_lengths=True)),
        key(b"zset", opcodes.ZSET_ZIPLIST, ziplist([b"a", 1, b"b", b"2.5"])),
        key(b"zipmap", opcodes.HASH_ZIPMAP, zipmap(pairs, free=1)),
        key(b"intset", opcodes.SET_INTSET, intset([1, 70000], 4)),
        key(b"text", opcodes.ZSET, length(2), string(b"a"), b"\x031.5", string(b"b"), b"\xff"),
    )


FILES: dict[str, Callable[[], bytes]] = {
    "new": lambda: sample_file(compress=False),
    "compressed": lambda: sample_file(compress=True),
    "old": old_file,
}
ALL_FILES = pytest.mark.parametrize("name", list(FILES))


@contextmanager
def memory_below(limit_bytes: int) -> Iterator[None]:
    """Fail if more than so many bytes were taken at any moment."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
        assert peak < limit_bytes
    finally:
        tracemalloc.stop()


@ALL_FILES
def test_every_truncation(name: str) -> None:
    data = FILES[name]()
    items_of(data)
    for size in range(len(data)):
        with pytest.raises(RdbError):
            items_of(data[:size])


@ALL_FILES
def test_every_truncation_of_a_file_that_comes_in_drops(name: str) -> None:
    data = FILES[name]()
    expected = items_of(data)

    class Drops(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(random.Random(self.tell()).choice((1, 2, 3, 17)))

    found = []
    for item in RdbReader(Drops(data)):
        if hasattr(item, "value") and hasattr(item, "expires_ms"):
            item = item._replace(value=plain(item.value))
        found.append(item)
    assert found == expected
    for size in range(0, len(data), 7):
        with pytest.raises(RdbError):
            for _ in RdbReader(Drops(data[:size])):
                pass


@ALL_FILES
@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF, 0x3F])
def test_every_byte_flipped(name: str, flip: int) -> None:
    """With the checksum, each is noticed; without one, nothing but RdbError comes of it."""
    data = FILES[name]()
    for at in range(len(data) - 8):
        damaged = bytearray(data)
        damaged[at] ^= flip
        with pytest.raises(RdbError) as caught:
            items_of(bytes(damaged))
        assert 0 <= caught.value.offset <= len(data)
        assert str(caught.value).startswith("offset ")
        damaged[-8:] = bytes(8)
        with suppress(RdbError):
            items_of(bytes(damaged))


def test_no_flipped_byte_takes_much_memory() -> None:
    data = sample_file(compress=True)
    with memory_below(1_000_000):
        for at in range(len(data) - 8):
            for high in (0x80, 0xC3):
                damaged = bytearray(data)
                damaged[at] = high
                damaged[-8:] = bytes(8)
                with suppress(RdbError):
                    items_of(bytes(damaged))


HUGE = [b"\x80\xff\xff\xff\xff", b"\x81" + b"\xff" * 8, b"\x81\x7f" + b"\xff" * 7]
COUNTED = [
    opcodes.STRING,
    opcodes.LIST,
    opcodes.SET,
    opcodes.ZSET,
    opcodes.HASH,
    opcodes.ZSET_2,
    opcodes.HASH_METADATA_PRE_GA,
    opcodes.LIST_QUICKLIST,
    opcodes.LIST_QUICKLIST_2,
    opcodes.STREAM_LISTPACKS,
    opcodes.STREAM_LISTPACKS_3,
    opcodes.HASH_LISTPACK,
    opcodes.SET_INTSET,
    opcodes.HASH_ZIPMAP,
]


@pytest.mark.parametrize("code", COUNTED)
@pytest.mark.parametrize("claim", HUGE, ids=["32 bits", "64 bits", "63 bits"])
def test_claims_that_are_too_large(code: int, claim: bytes) -> None:
    with memory_below(2_000_000):
        for rest in (b"", b"\x01a" * 50):
            with pytest.raises(RdbError):
                items_of(rdb(12, key(b"k", code, claim, rest)))
            with pytest.raises(RdbError):
                payload.decode(dump(code, claim, rest))


@pytest.mark.parametrize("claim", HUGE, ids=["32 bits", "64 bits", "63 bits"])
def test_claims_inside_of_a_stream(claim: bytes) -> None:
    """Each number of it in turn: nodes, groups, pending entries, consumers, and their entries."""
    id_bytes = bytes(16)
    empty = length(0) * 3 + length(0) * 5
    before = [
        b"",
        length(1) + string(id_bytes) + string(listpack.pack([b"1", b"0"])),
        length(0) + empty,
        length(0) + empty + length(1) + string(b"g") + length(0) * 3,
        length(0) + empty + length(1) + string(b"g") + length(0) * 4,
        length(0) + empty + length(1) + string(b"g") + length(0) * 4 + length(1) + string(b"c") + bytes(16),
    ]
    with memory_below(1_000_000):
        for prefix in before:
            with pytest.raises(RdbError):
                payload.decode(dump(opcodes.STREAM_LISTPACKS_3, prefix, claim, bytes(100)))


def test_a_long_string_that_never_comes() -> None:
    claimed = key(b"k", opcodes.STRING, b"\x80" + struct.pack(">I", 400_000_000), b"x" * 300_000)
    with memory_below(3_000_000), pytest.raises(RdbError, match="truncated"):
        items_of(rdb(12, claimed))


def test_the_limit_of_strings() -> None:
    data = rdb(12, key(b"k", opcodes.STRING, string(b"x" * 2000)))
    assert rdbfiles.keys_of(data, string_size_max=2000)
    with pytest.raises(RdbError, match="the limit is 1999"):
        items_of(data, string_size_max=1999)
    compressed = lzf.compress(b"x" * 2000)
    assert compressed is not None
    head = bytes((opcodes.LZF,)) + length(len(compressed))
    good = dump(opcodes.STRING, head + length(2000) + compressed)
    assert payload.decode(good, string_size_max=2000) == b"x" * 2000
    with pytest.raises(RdbError, match="the limit is 1999"):
        payload.decode(good, string_size_max=1999)
    for claim in (1999, 2001, 1 << 31):
        with memory_below(1_000_000), pytest.raises(RdbError, match="LZF"):
            payload.decode(
                dump(opcodes.STRING, head + b"\x80" + struct.pack(">I", claim) + compressed),
                string_size_max=1 << 40,
            )


def test_bombs() -> None:
    """Packed strings of 600 KB that are 8 KB compressed: chunks are small whatever they hold."""
    body = b"\x07\x01" * 300_000
    blob = struct.pack("<IH", len(body) + 7, 0xFFFF) + body + b"\xff"
    compressed = lzf.compress(blob)
    assert compressed is not None
    assert len(compressed) < 8_000
    head = bytes((opcodes.LZF,)) + length(len(compressed)) + length(len(blob))
    # The string, twice while it is made, and a chunk.
    limit_bytes = len(blob) * 2 + 700_000
    for code, parts, count in (
        (opcodes.LIST_QUICKLIST_2, (length(1), length(2)), 300_000),
        (opcodes.HASH_LISTPACK, (), 150_000),
    ):
        data = rdb(12, key(b"k", code, *parts, head, compressed))
        with memory_below(limit_bytes):
            for item in RdbReader(io.BytesIO(data)):
                assert isinstance(item, Key)
                assert isinstance(item.value, ListValue | HashValue)
                assert sum(map(len, item.value.chunks)) == count
    stream = (length(1), string(bytes(16)), head, compressed)
    with memory_below(limit_bytes), pytest.raises(RdbError):
        items_of(rdb(12, key(b"k", opcodes.STREAM_LISTPACKS_3, *stream)))
    # A hash of fewer fields is looked through for doubles, which are noticed before they are many.
    body = b"\x07\x01" * 200_000
    double = string(struct.pack("<IH", len(body) + 7, 0xFFFF) + body + b"\xff")
    with memory_below(len(double) * 3 + 700_000), pytest.raises(RdbError, match="twice"):
        items_of(rdb(12, key(b"k", opcodes.HASH_LISTPACK, double)))


PACKED = {
    "listpack": (listpack.unpack_chunks, lambda texts: listpack.pack(texts)),
    "ziplist": (ziplists.unpack_chunks, lambda texts: _unwrapped(ziplist(texts))),
    "zipmap": (
        zipmaps.unpack_chunks,
        lambda texts: _unwrapped(zipmap(list(zip(texts[::2], texts[1::2], strict=True)))),
    ),
    "intset": (intsets.unpack_chunks, lambda texts: intsets.pack([len(text) for text in texts])),
}


def _unwrapped(text: bytes) -> bytes:
    return text[1:] if text[0] < 64 else text[5:]


@pytest.mark.parametrize("name", list(PACKED))
def test_packed_strings_cut_off_or_changed(name: str) -> None:
    unpack, pack = PACKED[name]
    texts = [b"a" * size for size in (0, 1, 63, 64, 130, 300, 254, 5000)] + [b"17", b"-1000"]
    blob = pack(texts)  # type: ignore[no-untyped-call]
    assert list(unpack(blob, 10, 0))
    for size in (*range(min(len(blob), 900)), *range(900, len(blob), 97)):
        with pytest.raises(RdbError):
            list(unpack(blob[:size], 10, 0))
    for extra in (b"\x00", b"\xff", b"\x01\x01"):
        with pytest.raises(RdbError):
            list(unpack(blob + extra, 10, 0))
    chance = random.Random(7)
    for _ in range(3000):
        damaged = bytearray(blob)
        for _ in range(chance.choice((1, 1, 2, 5))):
            damaged[chance.randrange(len(damaged))] = chance.choice((0, 1, 0x7F, 0x80, 0xF0, 0xFE, 0xFF))
        with suppress(RdbError):
            list(unpack(bytes(damaged), 10, 0))


@given(blob=st.binary(max_size=60))
def test_packed_strings_of_any_bytes(blob: bytes) -> None:
    sizes = struct.pack("<IH", len(blob) + 7, 0xFFFF)
    for data in (blob, sizes + blob + b"\xff"):
        for unpack, _ in PACKED.values():
            with suppress(RdbError):
                list(unpack(data, 10, 0))
    for data in (blob, bytes((len(blob),)) + blob):
        with suppress(RdbError):
            assert len(lzf.decompress(data, len(blob) * 2, 0)) == len(blob) * 2


@given(code=st.integers(0, 30), body=st.binary(max_size=80))
def test_payloads_of_any_bytes(code: int, body: bytes) -> None:
    with suppress(RdbError):
        plain(payload.decode(dump(code, body)))


@given(value=st.one_of(collections(), streams()), at=st.integers(0, 1 << 30), byte=st.integers(0, 255))
def test_payloads_with_one_byte_changed(value: Value, at: int, byte: int) -> None:
    good = payload.encode(value, SavingRules(version=opcodes.REDIS_74))
    body = bytearray(good[:-10])
    body[at % len(body)] = byte
    with suppress(RdbError):
        plain(payload.decode(dump(body[0], bytes(body[1:]))))
    changed = bytearray(good)
    changed[at % len(good)] ^= byte or 1
    with pytest.raises(FooterError):
        payload.decode(bytes(changed))


def stream_payload(*, nodes: list[bytes] | None = None, size: int = 1, groups: bytes = length(0)) -> bytes:
    """Return a stream of one entry 5-0, or of other nodes."""
    head = [b"1", b"0", b"1", b"f", b"0"]
    entry = [b"2", b"0", b"0", b"v", b"4"]
    if nodes is None:
        nodes = [string(struct.pack(">QQ", 5, 0)) + string(listpack.pack([*head, *entry]))]
    state = length(size) + length(5) + length(0) + length(5) + length(0) * 3 + length(1)
    return dump(opcodes.STREAM_LISTPACKS_3, length(len(nodes)), *nodes, state, groups)


def _node(*elements: bytes, name: bytes = struct.pack(">QQ", 5, 0)) -> bytes:
    return string(name) + string(listpack.pack(elements))


GROUP = string(b"g") + length(0) * 3
PENDING = struct.pack(">QQ", 5, 0) + bytes(8) + length(1)
CONSUMER = string(b"c") + bytes(16)
ENTRY_ID = struct.pack(">QQ", 5, 0)

HEAD = (b"1", b"0", b"1", b"f", b"0")
LAST = (b"2", b"0", b"0", b"v", b"4")
ONE = length(1) + GROUP

BAD_STREAMS = {
    "an id that is too short": {"nodes": [_node(*HEAD, *LAST, name=b"short")]},
    "no listpack": {"nodes": [string(ENTRY_ID) + string(b"nonsense")]},
    "an empty listpack": {"nodes": [_node()]},
    "a head without its end": {"nodes": [_node(b"1", b"0", b"1", b"f", b"9", *LAST)]},
    "a text for a number": {"nodes": [_node(b"x", b"0", b"1", b"f", b"0", *LAST)]},
    "a negative number": {"nodes": [_node(b"-1", b"0", b"1", b"f", b"0")], "size": 0},
    "too few entries": {"nodes": [_node(b"2", b"0", b"1", b"f", b"0", *LAST)]},
    "too many entries": {"nodes": [_node(b"0", b"0", b"1", b"f", b"0", *LAST)], "size": 0},
    "a wrong length": {"nodes": [_node(*HEAD, b"2", b"0", b"0", b"v", b"5")]},
    "a wrong count of deleted": {"nodes": [_node(b"0", b"1", b"1", b"f", b"0", *LAST)]},
    "many fields": {"nodes": [_node(b"1", b"0", b"9999999999", b"f", b"0", *LAST)]},
    "negative fields": {"nodes": [_node(b"1", b"0", b"-1", b"0", *LAST)]},
    "an entry behind the last": {"nodes": [_node(*HEAD, b"2", b"9", b"0", b"v", b"4")]},
    "another size": {"size": 2},
    "the same id twice": {"nodes": [_node(*HEAD, *LAST)] * 2, "size": 2},
    "two groups of one name": {"groups": length(2) + (GROUP + length(0) * 2) * 2},
    "pending with nobody": {"groups": ONE + length(1) + PENDING + length(0)},
    "pending twice": {"groups": ONE + length(2) + PENDING * 2 + length(0)},
    "pending in no group": {"groups": ONE + length(0) + length(1) + CONSUMER + length(1) + ENTRY_ID},
    "pending with two": {
        "groups": ONE + length(1) + PENDING + length(2)
        + CONSUMER + length(1) + ENTRY_ID + string(b"d") + bytes(16) + length(1) + ENTRY_ID
    },
    "two consumers of one name": {"groups": ONE + length(0) + length(2) + (CONSUMER + length(0)) * 2},
}  # fmt: skip


@pytest.mark.parametrize("name", list(BAD_STREAMS))
def test_streams_that_contradict_themselves(name: str) -> None:
    one = length(1) + CONSUMER + length(1) + ENTRY_ID
    good = plain(payload.decode(stream_payload(groups=ONE + length(1) + PENDING + one)))
    assert good[1] == [((5, 0), [b"f", b"v"])]
    assert good[3][b"g"].consumers[0].pending == [((5, 0), 0, 1)]
    with pytest.raises(RdbError):
        payload.decode(stream_payload(**BAD_STREAMS[name]))  # type: ignore[arg-type]


def test_deleted_entries_of_streams() -> None:
    node = _node(
        *(b"2", b"1", b"1", b"f", b"0"),
        *(b"2", b"0", b"0", b"v", b"4"),
        *(b"3", b"0", b"1", b"w", b"4"),
        *(b"0", b"0", b"2", b"1", b"other", b"x", b"6"),
        name=struct.pack(">QQ", 4, 7),
    )
    found = plain(payload.decode(stream_payload(nodes=[node], size=2)))
    assert found[1] == [((4, 7), [b"f", b"v"]), ((4, 9), [b"other", b"x"])]


def test_nothing_behind_a_value() -> None:
    with pytest.raises(RdbError, match="more bytes"):
        payload.decode(dump(opcodes.STRING, string(b"v"), b"x"))

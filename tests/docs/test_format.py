"""docs/format.md against what the engine writes.

The first half is a reader of databases, written from the page alone: of the engine's code it uses nothing.
The tests hold what it reads against what the engine says, and the page's tables and examples against the
code.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import random
import re
import struct
from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

import lz4.block
import pytest
from xxhash import xxh3_64_intdigest

import lamina.engine as engine

PAGE = Path(__file__).parents[2] / "docs" / "format.md"

DELETE, INSERT, REPLACE, REMOVE = range(4)
DELTAS = (0, 1, 0, -1)
FLOOR_SIZE_MAX = 4096


# --- The reader: section 1, conventions


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


CRC_TABLE = _crc_table()


def crc32c(seed: int, data: bytes) -> int:
    register = seed ^ 0xFFFFFFFF
    for byte in data:
        register = CRC_TABLE[(register ^ byte) & 255] ^ (register >> 8)
    return register ^ 0xFFFFFFFF


def column(data: bytes, at: int, code: str, count: int) -> tuple[list[int], int]:
    layout = struct.Struct(f"<{count}{code}")
    return list(layout.unpack_from(data, at)), at + layout.size


def slices_of(data: bytes, at: int, ends: list[int]) -> list[bytes]:
    return [data[at + a : at + b] for a, b in pairwise([0, *ends])]


# --- Section 4, MANIFEST


def read_manifest(text: bytes) -> dict[str, Any]:
    body, _, last = text[:-1].rpartition(b"\n")
    body += b"\n"
    assert text.endswith(b"\n")
    assert last == b"crc32c %08x" % crc32c(0, body)
    first, _, record = body.partition(b"\n")
    assert first == b"lamina manifest 1"
    manifest: dict[str, Any] = json.loads(record)
    return manifest


def key_of(text: str | None) -> bytes | None:
    return None if text is None else unquote_to_bytes(text)


# --- Section 5, write-ahead log


class Log(NamedTuple):
    number: int
    salt: int
    boot: bytes
    payloads: list[bytes]
    size: int
    is_whole: bool


def read_log(data: bytes) -> Log:
    magic, version, number, salt, boot, crc = struct.unpack_from("<8sIQI16sI", data)
    assert (magic, version, crc) == (b"LAMINWAL", 1, crc32c(0, data[:40]))
    payloads: list[bytes] = []
    at = 44
    while at < len(data):
        if at + 12 > len(data):
            return Log(number, salt, boot, payloads, at, False)
        size, inverse, crc = struct.unpack_from("<III", data, at)
        payload = data[at + 12 : at + 12 + size]
        is_sound = size ^ inverse == 0xFFFFFFFF and 0 < size == len(payload)
        if not is_sound or crc != crc32c((salt + at) % 2**32, payload):
            return Log(number, salt, boot, payloads, at, False)
        payloads.append(payload)
        at += 12 + size
    return Log(number, salt, boot, payloads, at, True)


class Frame(NamedTuple):
    entries: list[tuple[bytes, int, bytes]]
    discards: list[tuple[bytes, bytes]]
    mark: tuple[str, int, int] | None = None


def read_payload(payload: bytes) -> Frame:
    if payload[0] <= 3:
        kind, key_size = struct.unpack_from("<BI", payload)
        return Frame([(payload[5 : 5 + key_size], kind, payload[5 + key_size :])], [])
    if payload[0] in (0x20, 0x21):
        tag, number, size = struct.unpack("<BQQ", payload)
        return Frame([], [], ("durable" if tag == 0x20 else "link", number, size))
    assert payload[0] == 0x10
    _, count, key_bytes, discard_count = struct.unpack_from("<BIII", payload)
    at = 13 + count
    kinds = payload[13:at]
    key_sizes, at = column(payload, at, "I", count)
    value_sizes, at = column(payload, at, "I", count)
    assert sum(key_sizes) == key_bytes
    items = []
    for size in key_sizes + value_sizes:
        items.append(payload[at : at + size])
        at += size
    discards = []
    for _ in range(discard_count):
        start_size, stop_size = struct.unpack_from("<II", payload, at)
        at += 8
        discards.append(
            (payload[at : at + start_size], payload[at + start_size : at + start_size + stop_size])
        )
        at += start_size + stop_size
    assert at == len(payload)
    return Frame(list(zip(items[:count], kinds, items[count:], strict=True)), discards)


# --- Section 6, segment


@dataclasses.dataclass
class Index:
    offsets: list[int]
    sizes: list[int]
    entries: list[int]
    tombstones: list[int]
    deltas: list[int]
    floors: list[bytes]
    filters: list[bytes]


Entries = list[tuple[bytes, int, bytes]]


class Segment:
    """A whole segment in memory, every rule of the page checked."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        magic, version, self.salt, crc = struct.unpack_from("<8sIII", data)
        assert (magic, version, crc) == (b"LAMINSEG", 1, crc32c(0, data[:16]))
        footer = data[-40:]
        top_at, top_size, properties_at, properties_size, version, crc, magic = struct.unpack(
            "<QIQIII8s", footer
        )
        assert (magic, version) == (b"LAMINEND", 1)
        assert crc == crc32c(self.salt, footer[:28] + bytes(4) + footer[32:])
        self.properties = json.loads(self.frame(properties_at, properties_size, 4))
        self.top = read_index(self.frame(top_at, top_size, 3))
        self.parts: list[Index] = []
        self.blocks: list[list[Entries]] = []
        self._walk(top_at, top_size, properties_at, properties_size)

    def frame(self, offset: int, size: int, what: int) -> bytes:
        crc, stored, tag = struct.unpack_from("<IIB", self.data, offset)
        body = self.data[offset + 4 : offset + size]
        assert stored == size - 9
        assert crc == crc32c((self.salt + offset) % 2**32, body)
        assert tag & 15 == what
        payload = body[5:]
        if tag >> 4 == 0:
            return payload
        assert tag >> 4 == 1
        unpacked = lz4.block.decompress(payload)
        assert int.from_bytes(payload[:4], "little") == len(unpacked) > 64
        assert len(payload) < len(unpacked) - len(unpacked) // 8
        return bytes(unpacked)

    def _walk(self, top_at: int, top_size: int, properties_at: int, properties_size: int) -> None:
        at = 20
        for part_at, part_size in zip(self.top.offsets, self.top.sizes, strict=True):
            part = read_index(self.frame(part_at, part_size, 2))
            blocks = []
            for offset, size in zip(part.offsets, part.sizes, strict=True):
                assert offset == at
                blocks.append(read_block(self.frame(offset, size, 1)))
                at += size
            assert part_at == at
            at += part_size
            self.parts.append(part)
            self.blocks.append(blocks)
        assert at == top_at
        assert top_at + top_size == properties_at
        assert properties_at + properties_size == len(self.data) - 40

    def entries(self) -> Entries:
        return [entry for blocks in self.blocks for block in blocks for entry in block]

    def get(self, key: bytes) -> tuple[int, bytes] | None:
        """Find one key by floors and filters."""
        p = bisect_right(self.top.floors, key) - 1
        if p < 0:
            return None
        floors = self.parts[p].floors
        b = bisect_right(floors, key) - 1
        first = b
        if len(floors[b]) >= FLOOR_SIZE_MAX and key.startswith(floors[b]):
            first = max(floors.index(floors[b]) - 1, 0)
        candidates = [i for i in range(first, b + 1) if self.blocks[p][i][0][0] <= key]
        if not candidates:
            return None
        i = candidates[-1]
        bits = self.properties["filter_bits_per_key"]
        if not may_contain(self.parts[p].filters[i], len(self.blocks[p][i]), bits, key):
            return None
        return next(((kind, value) for k, kind, value in self.blocks[p][i] if k == key), None)

    def check(self) -> None:
        """Check what the page says about counts, floors, filters and properties."""
        properties = self.properties
        entries = self.entries()
        keys = [key for key, _, _ in entries]
        assert all(a < b for a, b in pairwise(keys))
        start, stop = bytes.fromhex(properties["start"]), properties["stop"]
        assert start <= keys[0]
        assert stop is None or keys[-1] < bytes.fromhex(stop)
        assert ceiling_of(keys[-1], stop) == properties["ceiling"]
        totals = (properties["entries"], properties["tombstones"], properties["delta"])
        assert totals == counts_of(entries)
        assert properties["blocks"] == sum(map(len, self.blocks))
        assert properties["key_bytes"] == sum(map(len, keys))
        assert properties["value_bytes"] == sum(len(value) for _, _, value in entries)
        last = None
        for p, (part, blocks) in enumerate(zip(self.parts, self.blocks, strict=True)):
            assert self.top.floors[p] == part.floors[0]
            assert p == 0 or len(part.floors[0]) < FLOOR_SIZE_MAX
            row = (self.top.entries[p], self.top.tombstones[p], self.top.deltas[p])
            assert row == counts_of([entry for block in blocks for entry in block])
            assert self.top.filters[p] == b""
            for b, block in enumerate(blocks):
                assert (part.entries[b], part.tombstones[b], part.deltas[b]) == counts_of(block)
                assert part.floors[b] == floor_of(last, block[0][0], start)
                last = block[-1][0]
                bits = properties["filter_bits_per_key"]
                assert all(may_contain(part.filters[b], len(block), bits, key) for key, _, _ in block)


def counts_of(entries: Entries) -> tuple[int, int, int]:
    kinds = [kind for _, kind, _ in entries]
    return len(kinds), sum(kind in (DELETE, REMOVE) for kind in kinds), sum(DELTAS[kind] for kind in kinds)


def floor_of(last: bytes | None, first: bytes, start: bytes) -> bytes:
    if last is None:
        return max(start, first[: FLOOR_SIZE_MAX - 1])
    for size in range(1, min(len(first), FLOOR_SIZE_MAX) + 1):
        if first[:size] > last:
            return first[:size]
    return first[:FLOOR_SIZE_MAX]


def ceiling_of(last: bytes, stop: str | None) -> str | None:
    if len(last) < FLOOR_SIZE_MAX:
        ceiling: bytes | None = last + b"\0"
    else:
        stem = last[:FLOOR_SIZE_MAX].rstrip(b"\xff")
        ceiling = stem[:-1] + bytes([stem[-1] + 1]) if stem else None
    if ceiling is None or (stop is not None and bytes.fromhex(stop) < ceiling):
        return stop
    return ceiling.hex()


def read_index(payload: bytes) -> Index:
    rows, floor_bytes, filter_bytes = struct.unpack_from("<III", payload)
    assert rows >= 1
    columns = []
    at = 12
    for code in "QIQQqII":
        numbers, at = column(payload, at, code, rows)
        columns.append(numbers)
    assert len(payload) == at + floor_bytes + filter_bytes
    floors = slices_of(payload, at, columns[5])
    filters = slices_of(payload, at + floor_bytes, columns[6])
    return Index(columns[0], columns[1], columns[2], columns[3], columns[4], floors, filters)


def read_block(payload: bytes) -> Entries:
    count, key_bytes, value_bytes, key_width, value_width = struct.unpack_from("<IIIII", payload)
    assert count >= 1
    at = 20 + count
    kinds = payload[20:at]
    ends = []
    for size, width in ((key_bytes, key_width), (value_bytes, value_width)):
        if width == 0xFFFFFFFF:
            numbers, at = column(payload, at, "H" if size < 65536 else "I", count)
        else:
            numbers = [width * (i + 1) for i in range(count)]
        assert numbers[-1] == size
        ends.append(numbers)
    keys = slices_of(payload, at, ends[0])
    values = slices_of(payload, at + key_bytes, ends[1])
    assert len(payload) == at + key_bytes + value_bytes
    assert all(value == b"" for kind, value in zip(kinds, values, strict=True) if kind in (DELETE, REMOVE))
    return list(zip(keys, kinds, values, strict=True))


def pattern(table: int, index: int, width: int) -> int:
    x = (index * 2 + table + 1) * 0x9E3779B97F4A7C15 % 2**64
    x ^= x >> 29
    x = x * 0x9E3779B97F4A7C15 % 2**64
    bits = 0
    for shift in (0, 20, 40):
        bits |= 1 << (((x >> shift) & 0xFFFFF) * width >> 20)
    return bits


def may_contain(bloom: bytes, entries: int, bits_per_key: int, key: bytes) -> bool:
    total = entries * bits_per_key
    if total == 0:
        assert bloom == b""
        return True
    sectors = math.ceil(total / 512)
    width = math.ceil(total / (sectors * 64)) * 64
    assert len(bloom) == sectors * width // 8
    h = xxh3_64_intdigest(key)
    at = ((h >> 32) * sectors >> 32) * width // 8
    word = int.from_bytes(bloom[at : at + width // 8], "little")
    bits = pattern(0, h & 4095, width) | pattern(1, (h >> 12) & 4095, width)
    return word & bits == bits


# --- Section 7, a database


COMBINED = {
    (INSERT, REMOVE): REPLACE,
    (REPLACE, INSERT): INSERT,
    (REPLACE, REPLACE): REPLACE,
    (REMOVE, INSERT): None,
    (REMOVE, REPLACE): REMOVE,
}
"""(newer, older): what the pair amounts to; the sums of the page, worked out."""


class Reader:
    """A closed database, read by the page."""

    def __init__(self, directory: Path) -> None:
        self.manifest = read_manifest((directory / "MANIFEST").read_bytes())
        self.counted: bool = self.manifest["counted"]
        self.segments: dict[int, Segment] = {}
        self.discards = [(unquote_to_bytes(a), unquote_to_bytes(b)) for a, b, _ in self.manifest["discards"]]
        self.layers: list[dict[bytes, tuple[int, bytes]]] = []
        """Newest first."""
        self._replay(directory)
        for runs in self.manifest["levels"]:
            for run in runs:
                self.layers.append(dict(self._run(directory, run["slices"])))

    def _replay(self, directory: Path) -> None:
        memtable: dict[bytes, tuple[int, bytes]] = {}
        before: Log | None = None
        for path in sorted(directory.glob("*.wal")):
            log = read_log(path.read_bytes())
            assert log.is_whole
            assert path.name == f"{log.number:06d}.wal"
            assert log.salt == self._salt(log.number)
            if log.number < self.manifest["wal_first"] or (before is not None and not log.payloads):
                continue
            frames = [read_payload(payload) for payload in log.payloads]
            if before is not None:
                assert frames[0].mark == ("link", before.number, before.size)
            for frame in frames:
                self.discards += frame.discards
                for key, kind, value in frame.entries:
                    self._apply(memtable, key, kind, value)
            before = log
        assert before is not None
        self.layers.append(memtable)

    def _salt(self, number: int) -> int:
        salt: int = self.manifest["salt"]
        return (salt + number * 0x9E3779B1) % 2**32

    def _apply(self, memtable: dict[bytes, tuple[int, bytes]], key: bytes, kind: int, value: bytes) -> None:
        combined: int | None = kind
        if self.counted and key in memtable:
            combined = COMBINED[kind, memtable[key][0]]
        if combined is None:
            del memtable[key]
        else:
            memtable[key] = (combined, value)

    def _run(
        self, directory: Path, slices: list[dict[str, Any]]
    ) -> Iterator[tuple[bytes, tuple[int, bytes]]]:
        bound: bytes | None = b""
        for record in slices:
            start, stop = key_of(record["start"]), key_of(record["stop"])
            assert start is not None
            assert bound is not None
            assert bound <= start
            bound = stop
            number = record["segment"]
            data = (directory / f"{number:06d}.seg").read_bytes()
            assert len(data) == record["file_size_bytes"]
            segment = self.segments.get(number)
            if segment is None:
                segment = self.segments[number] = Segment(data)
                segment.check()
            assert segment.properties["number"] == number
            assert segment.salt == self._salt(number)
            assert segment.properties["counted"] == self.counted
            entries = segment.entries()
            shown = [entry for entry in entries if start <= entry[0] and (stop is None or entry[0] < stop)]
            assert (record["entries"], record["delta"]) == (len(shown), counts_of(shown)[2])
            assert record["base"] == counts_of([entry for entry in entries if entry[0] < start])[2]
            for key, kind, value in shown:
                yield key, (kind, value)

    def is_discarded(self, key: bytes) -> bool:
        return any(start <= key < stop for start, stop in self.discards)

    def contents(self) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for layer in reversed(self.layers):
            for key, (kind, value) in layer.items():
                if kind in (INSERT, REPLACE):
                    found[key] = value
                else:
                    found.pop(key, None)
        return {key: found[key] for key in sorted(found) if not self.is_discarded(key)}

    def count(self) -> int:
        """Count by deltas alone."""
        return sum(
            DELTAS[kind]
            for layer in self.layers
            for key, (kind, _) in layer.items()
            if not self.is_discarded(key)
        )


# --- Databases that the engine wrote


OPTIONS: dict[str, Any] = {"background": "inline", "sync": "no", "memory": 32 << 20}


def fill(db: engine.Database, seed: int, model: dict[bytes, bytes]) -> None:
    """Write, remove and discard at random, with flushes between."""
    rng = random.Random(seed)
    for _ in range(5):
        for _ in range(120):
            with db.batch() as batch:
                for _ in range(rng.choice((0, 1, 1, 7))):
                    key = b"%c%d" % (rng.choice(b"abkxyz"), rng.randrange(150))
                    if rng.random() < 0.3:
                        batch.delete(key)
                        model.pop(key, None)
                    else:
                        model[key] = rng.choice((b"", b"v", rng.randbytes(20), b"long " * rng.randrange(40)))
                        batch.put(key, model[key])
            key = b"\xff\x00%%%d" % rng.randrange(40)
            model[key] = b"fixed"
            db.put(key, model[key])
        db.flush()


def compare(directory: Path, model: dict[bytes, bytes]) -> Reader:
    reader = Reader(directory)
    with engine.open(directory, read_only=True) as db:
        assert dict(db.scan()) == model
    assert reader.contents() == dict(sorted(model.items()))
    if reader.counted:
        assert reader.count() == len(model)
    return reader


@pytest.mark.parametrize("compression", ["lz4", "none"])
@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("filter_bits_per_key", [10, 0])
def test_the_page_reads_what_the_engine_wrote(
    tmp_path: Path, counted: bool, compression: str, filter_bits_per_key: int
) -> None:
    options = OPTIONS | {
        "counted": counted,
        "compression": compression,
        "filter_bits_per_key": filter_bits_per_key,
        "block_size_bytes": 300,
        "segment_size_bytes": 4096,
    }
    directory = tmp_path / "db"
    model: dict[bytes, bytes] = {}
    with engine.open(directory, **options) as db:
        fill(db, 1, model)
    compare(directory, model)
    with engine.open(directory, **options) as db:
        db.compact(b"b", b"k7")
        fill(db, 2, model)
        db.compact(None, b"k5")
        db.discard(b"k", b"l")
        db.put(b"last", b"word")
    model = {key: value for key, value in model.items() if key[:1] != b"k"} | {b"last": b"word"}
    reader = compare(directory, model)
    kinds = {kind for layer in reader.layers for kind, _ in layer.values()}
    assert len(reader.segments) > 3
    assert kinds == ({INSERT, REPLACE, REMOVE} if counted else {DELETE, REPLACE})


def test_every_key_is_found_by_floors_and_filters(tmp_path: Path) -> None:
    model: dict[bytes, bytes] = {}
    with engine.open(tmp_path, **OPTIONS, block_size_bytes=300) as db:
        fill(db, 3, model)
        db.compact()
    (segment,) = compare(tmp_path, model).segments.values()
    for key, value in model.items():
        assert segment.get(key) == (INSERT, value)
        assert segment.get(key + b"?") is None
    absent = [b"absent %d" % number for number in range(3000)]
    block, bloom = segment.blocks[0][0], segment.parts[0].filters[0]
    passed = sum(may_contain(bloom, len(block), 10, key) for key in absent)
    assert passed < 150


def test_floors_are_cut_short_behind_long_keys(tmp_path: Path) -> None:
    stem = b"s" * 5000
    model = {stem + b"%04d" % number: b"v" * 50 for number in range(80)}
    model |= {b"a": b"1", b"t": b"2", stem[:4095]: b"3", stem[:4096]: b"4", b"\xff" * 5000: b"5"}
    options = OPTIONS | {"block_size_bytes": 6000, "segment_size_bytes": 20000, "compression": "none"}
    with engine.open(tmp_path, **options) as db:
        for key, value in model.items():
            db.put(key, value)
        db.flush()
    reader = compare(tmp_path, model)
    floors = [
        floor for segment in reader.segments.values() for part in segment.parts for floor in part.floors
    ]
    assert stem[:4096] in floors
    assert max(map(len, floors)) == 4096
    for key, value in model.items():
        found = [entry for s in reader.segments.values() if (entry := s.get(key)) is not None]
        assert found == [(INSERT, value)]


def test_wide_columns_and_many_parts(tmp_path: Path) -> None:
    model = {b"%05d" % number: b"" for number in range(4500)}
    model |= {b"wide %d" % number: bytes([number]) * 70_000 for number in range(2)}
    model |= {b"zz%d" % number: b"z" * (number * 700) for number in range(15)}
    for block_size_bytes in (64, 1 << 20):
        directory = tmp_path / str(block_size_bytes)
        with engine.open(directory, **OPTIONS, block_size_bytes=block_size_bytes) as db:
            for key, value in model.items():
                db.put(key, value)
            db.flush()
        (segment,) = compare(directory, model).segments.values()
        assert (len(segment.parts) > 1) == (block_size_bytes == 64)


def test_a_torn_log_is_read_up_to_the_tear(tmp_path: Path) -> None:
    with engine.open(tmp_path, **OPTIONS) as db:
        db.put(b"a", b"1")
        db.put(b"b", b"2")
    path = max(tmp_path.glob("*.wal"))
    data = path.read_bytes()
    frames = [read_payload(payload) for payload in read_log(data).payloads]
    assert [frame.mark and frame.mark[0] for frame in frames] == ["link", "durable", None, None, "durable"]
    torn = read_log(data[: -12 - 17 - 1])
    assert not torn.is_whole
    assert [read_payload(payload).entries for payload in torn.payloads][2:] == [[(b"a", INSERT, b"1")]]
    flipped = bytearray(data)
    flipped[torn.size + 13] ^= 1
    assert read_log(bytes(flipped))[2:] == torn[2:]


# --- The page itself


def page_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def undump(text: str) -> bytes:
    rows = [line for line in text.splitlines() if re.match(r"[0-9a-f]{8}\b", line)]
    data = b""
    for row in rows:
        assert int(row[:8], 16) == len(data)
        data += bytes.fromhex(row[10:58])
    return data


def test_the_log_in_the_page_reads_as_it_says() -> None:
    log = read_log(undump(page_blocks("hexdump")[0]))
    assert log.is_whole
    assert [read_payload(payload) for payload in log.payloads] == [
        Frame([], [], ("link", 1, 0x2C)),
        Frame([], [], ("durable", 1, 0x2C)),
        Frame([(b"apple", INSERT, b"red")], []),
        Frame([(b"banana", INSERT, b"yellow"), (b"apple", REMOVE, b"")], []),
        Frame([], [(b"old:", b"old;")]),
        Frame([], [], ("durable", 3, 0xE4)),
    ]


def test_the_segment_in_the_page_reads_as_it_says() -> None:
    segment = Segment(undump(page_blocks("hexdump")[1]))
    segment.check()
    assert segment.entries() == [
        (b"banana", INSERT, b"yellow"),
        (b"cherry", INSERT, b"red"),
        (b"date", INSERT, b"brown"),
    ]
    assert segment.parts[0].filters[0].hex(" ") in PAGE.read_text("utf-8")
    assert (segment.top.offsets, segment.top.sizes) == ([0x5E], [0x4F])
    assert segment.properties["number"] == 7


def test_the_manifest_in_the_page_is_whole() -> None:
    manifest = read_manifest(page_blocks("manifest")[0].encode())
    assert [[run["run"] for run in runs] for runs in manifest["levels"]] == [[19, 6]]
    assert key_of(manifest["levels"][0][0]["slices"][0]["start"]) == "éclair".encode()


def test_the_program_in_the_page_makes_such_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (program,) = page_blocks("python")
    exec(compile(program, str(PAGE), "exec"), {})
    reader = Reader(tmp_path / "example.db")
    assert reader.contents() == {b"banana": b"yellow", b"date": b"brown", "éclair".encode(): b"sweet"}
    expected = read_manifest(page_blocks("manifest")[0].encode())
    drawn = {name: reader.manifest[name] for name in ("created_s", "salt")}
    assert reader.manifest == expected | drawn


def test_the_patterns_in_the_page_are_right() -> None:
    text = PAGE.read_text("utf-8")
    assert f"{crc32c(0, b'123456789'):#X}".replace("0X", "0x") in text
    h = xxh3_64_intdigest(b"banana")
    assert f"hash of `banana` is {h:#018x}" in text
    assert f"index is {h & 4095} in table 0 and {h >> 12 & 4095} in table 1" in text
    assert f"pattern(0, {h & 4095}) is {pattern(0, h & 4095, 64):#018x}" in text
    assert f"pattern(1, {h >> 12 & 4095}) is {pattern(1, h >> 12 & 4095, 64):#018x}" in text


def numbers_in_the_page() -> list[tuple[str, str, int | None]]:
    rows = re.findall(r"^\| `([\w.]+)` \| `([^`]+)`(?:, (\d+))? \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    return [(name, value, int(size) if size else None) for name, value, size in rows]


@pytest.mark.parametrize(("name", "value", "size"), numbers_in_the_page(), ids=lambda item: str(item)[:40])
def test_numbers_in_the_page_are_those_of_the_code(name: str, value: str, size: int | None) -> None:
    module, _, attribute = name.rpartition(".")
    found = getattr(importlib.import_module(f"lamina.engine.{module}"), attribute)
    if isinstance(found, struct.Struct):
        assert (found.format, found.size) == (value, size)
    elif isinstance(found, int):
        assert found == int(value, 0)
    else:
        assert (found.decode() if isinstance(found, bytes) else found) == value


def test_the_page_has_a_table_of_numbers() -> None:
    assert len(numbers_in_the_page()) > 30

"""Segments: what the writer was given, the reader finds, by whatever way it is asked."""

from __future__ import annotations

import weakref
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from random import Random

import pytest

from harness.trees import DIRECTORY, Entry, Workshop, columns, live
from lamina.engine.cache import Cache
from lamina.engine.compaction.merge import CopiedBlock
from lamina.engine.entry import DELTAS, INSERT, REMOVE, REPLACE, is_live
from lamina.engine.errors import CorruptionError, EngineError
from lamina.engine.filenames import segment_name, temporary_name
from lamina.engine.segment import format as fmt
from lamina.engine.segment.filter import hash_key
from lamina.engine.segment.reader import OpenFiles, SegmentReader
from lamina.engine.segment.writer import SegmentWriter

PATH = f"{DIRECTORY}/{segment_name(1)}"


def numbered(count: int, *, value: bytes = b"value %d") -> list[Entry]:
    """Return entries of all kinds."""
    kinds = (INSERT, INSERT, REPLACE, REMOVE, INSERT)
    return [
        (b"key %05d" % n, kinds[n % 5], value % n if is_live(kinds[n % 5]) else b"")
        for n in range(0, 2 * count, 2)
    ]


def prefixed(count: int, size: int = 5000) -> list[Entry]:
    """Return keys that agree for longer than a floor may be, between short ones."""
    long = [(b"m" * size + b"%05d" % n, INSERT, b"long %d" % n) for n in range(count)]
    before = [(b"a%03d" % n, INSERT, b"short") for n in range(20)]
    longer = [(b"m" * (size + 9) + b"%03d" % n, INSERT, b"longer") for n in range(count)]
    behind = [(b"z%03d" % n, INSERT, b"short") for n in range(20)]
    return sorted(before + long + longer + behind)


WORKLOADS: dict[str, list[Entry]] = {
    "one": [(b"only", INSERT, b"value")],
    "one tombstone": [(b"only", REMOVE, b"")],
    "the empty key": [(b"", INSERT, b""), (b"\0", INSERT, b""), (b"a", INSERT, b"")],
    "empty values": [(b"%04d" % n, INSERT, b"") for n in range(500)],
    "many": numbered(3000),
    "common prefixes": prefixed(40),
    "only common prefixes": [(b"p" * 6000 + b"%04d" % n, INSERT, b"") for n in range(30)],
    "the end of the key space": [(b"\xff" * n, INSERT, b"%d" % n) for n in (1, 2, 3, 4095, 4096, 4097, 6000)],
    "nested prefixes": [(b"n" * n, INSERT, b"%d" % n) for n in range(4080, 4120)],
    "huge values": [
        (b"%03d" % n, INSERT, b"small" if n % 7 else bytes([n]) * 100_000) for n in range(100)
    ],
    "random": sorted({
        key: (key, INSERT, Random(n).randbytes(n % 50))
        for n in range(800)
        if (key := Random(n).randbytes(1 + n % 20)) is not None
    }.values()),
}  # fmt: skip


@pytest.fixture(params=WORKLOADS)
def entries(request: pytest.FixtureRequest) -> list[Entry]:
    return WORKLOADS[request.param]


@pytest.fixture(params=[64, 1000])
def segment(request: pytest.FixtureRequest, entries: list[Entry]) -> SegmentReader:
    return Workshop().segment(entries, block_size_bytes=request.param)


def probes(entries: Sequence[Entry]) -> list[bytes]:
    """Return keys that are there, and neighbours of theirs that may not be."""
    some = [key for key, _, _ in entries]
    if len(some) > 200:
        some = some[:20] + some[90 : len(some) - 90 : 37] + some[-20:]
    around = [
        k for key in some for k in (key, key + b"\0", key[:-1], key[:-1] + b"\xff", key[:4096], key[:4095])
    ]
    return sorted({b"", b"\0", b"\xff", b"\xff" * 7000, b"m" * 5000, b"m" * 4096, *around})


def flat(
    chunks: Iterator[tuple[list[bytes], list[bytes | None]]], *, reverse: bool = False
) -> list[tuple[bytes, bytes | None]]:
    found = []
    for keys, values in chunks:
        assert keys
        assert keys == sorted(keys)
        found.append(list(zip(keys, values, strict=True)))
    return [entry for chunk in (reversed(found) if reverse else found) for entry in chunk]


def test_point_lookups(segment: SegmentReader, entries: list[Entry]) -> None:
    expected = {key: (kind, value) for key, kind, value in entries}
    for _ in range(3):  # from disk, from the cache, and with the keys split
        for key in probes(entries):
            assert segment.get(key, hash_key(key)) == expected.get(key)
            kind = expected.get(key, (None, b""))[0]
            found = segment.get(key, hash_key(key))
            assert (found and is_live(found[0])) is (None if kind is None else is_live(kind))


def test_counts_before_a_key(segment: SegmentReader, entries: list[Entry]) -> None:
    keys = [key for key, _, _ in entries]
    for key in probes(entries):
        before = bisect_left(keys, key)
        assert segment.entries_before(key) == before
        assert segment.delta_before(key) == sum(DELTAS[kind] for _, kind, _ in entries[:before])
        assert 0 <= segment.offset_before(key) < segment.size_bytes


def test_seek(segment: SegmentReader, entries: list[Entry]) -> None:
    keys = [key for key, _, _ in entries]
    for key in probes(entries):
        place = segment.seek(key)
        part = segment.part(place.part)
        passed = segment.top.entries[place.part] + part.entries[place.block] + place.row
        assert passed == bisect_left(keys, key)


def test_ranges(segment: SegmentReader, entries: list[Entry]) -> None:
    everything = [(key, value if is_live(kind) else None) for key, kind, value in entries]
    random = Random(1)
    ends = probes(entries)
    bounds: list[tuple[bytes, bytes | None]] = [(b"", None), (b"", b"\xff"), (b"zzz", None)]
    bounds += [tuple(sorted(random.choices(ends, k=2))) for _ in range(60)]  # type: ignore[misc]
    bounds += [(start, None) for start in random.choices(ends, k=10)]
    for start, stop in bounds:
        expected = [e for e in everything if e[0] >= start and (stop is None or e[0] < stop)]
        assert flat(segment.chunks(start, stop)) == expected
        assert flat(segment.chunks_reversed(start, stop), reverse=True) == expected


def test_properties(segment: SegmentReader, entries: list[Entry]) -> None:
    p = segment.properties
    assert p.entries == len(entries)
    assert p.tombstones == sum(kind == REMOVE for _, kind, _ in entries)
    assert p.delta == sum(DELTAS[kind] for _, kind, _ in entries)
    assert p.key_bytes == sum(len(key) for key, _, _ in entries)
    assert p.value_bytes == sum(len(value) for _, _, value in entries)
    assert p.ceiling is None or p.ceiling > entries[-1][0]
    assert segment.part_floors[0] <= entries[0][0]
    assert p.blocks == sum(len(segment.part(n).floors) for n in range(len(segment.parts)))


def blocks_of(segment: SegmentReader) -> list[list[bytes]]:
    return [
        segment.block(part, number).keys()
        for part in map(segment.part, range(len(segment.part_floors)))
        for number in range(len(part.floors))
    ]


def test_a_huge_value_has_a_block_of_its_own() -> None:
    segment = Workshop().segment(WORKLOADS["huge values"], block_size_bytes=1000)
    huge = {b"%03d" % n for n in range(0, 100, 7)}
    for keys in blocks_of(segment):
        assert len(keys) == 1 or not huge & set(keys)


def test_blocks_are_about_as_large_as_asked_for() -> None:
    segment = Workshop().segment(WORKLOADS["many"], block_size_bytes=1000)
    sizes = [sum(len(key) for key in keys) for keys in blocks_of(segment)]
    assert len(sizes) > 2
    assert max(sizes) < 1100


def test_parts_are_divided() -> None:
    entries = [(b"%06d" % n, INSERT, b"v" * 60) for n in range(1500)]
    segment = Workshop().segment(entries, block_size_bytes=64)
    assert len(segment.part_floors) == -(-1500 // fmt.PART_BLOCKS_MAX)
    for n in (0, 255, 256, 257, 511, 512, 1499):
        key = b"%06d" % n
        assert segment.get(key, hash_key(key)) == (INSERT, b"v" * 60)
        assert segment.entries_before(key) == n
    assert len(flat(segment.chunks(b"", None))) == 1500


def test_parts_stay_whole_where_floors_are_not_exact() -> None:
    """Keys with one long common prefix: no short floor tells their blocks apart, so they share a part."""
    entries = [(b"p" * 5000 + b"%04d" % n, INSERT, b"%d" % n) for n in range(400)]
    segment = Workshop().segment(entries, block_size_bytes=64)
    assert segment.properties.blocks == 400
    assert len(segment.part_floors) == 1
    for key, kind, value in entries:
        assert segment.get(key, hash_key(key)) == (kind, value)


def test_the_index_stays_small_under_huge_keys() -> None:
    entries = [(bytes([65 + n]) * 200_000, INSERT, b"v") for n in range(20)]
    segment = Workshop().segment(entries)
    assert max(map(len, segment.part(0).floors)) <= fmt.FLOOR_SIZE_MAX
    assert segment.part(0).memory_bytes() < 20 * 5000


def test_reading_takes_a_few_reads_only() -> None:
    workshop = Workshop()
    segment = workshop.segment(WORKLOADS["many"], block_size_bytes=500)
    reads: list[int] = []

    class CountingFile:
        def __init__(self, file: object) -> None:
            self.file = file

        def pread(self, size_bytes: int, offset: int) -> bytes:
            reads.append(size_bytes)
            return self.file.pread(size_bytes, offset)  # type: ignore[attr-defined,no-any-return]

    segment.file = CountingFile(segment.file)  # type: ignore[assignment]
    key = b"key 03000"
    assert segment.get(key, hash_key(key)) is not None
    assert len(reads) == 2  # the index part, and the block
    assert segment.get(key, hash_key(key)) is not None
    assert len(reads) == 2
    absent = sum(
        segment.get(b"key %05d" % n, hash_key(b"key %05d" % n)) is not None for n in range(1, 3000, 2)
    )
    assert absent == 0
    # The filter turns them away: some tens of blocks at most are read for 1500 absent keys.
    assert len(reads) < 2 + 60


def test_without_filters_everything_is_found() -> None:
    segment = Workshop().segment(WORKLOADS["many"], filter_bits_per_key=0)
    for key, kind, value in WORKLOADS["many"][::17]:
        assert segment.get(key, hash_key(key)) == (kind, value)
    assert segment.get(b"absent", hash_key(b"absent")) is None


@pytest.mark.parametrize("chunk", [1, 7, 5000])
def test_how_entries_are_handed_over_does_not_matter(chunk: int) -> None:
    workshop = Workshop()
    one = workshop.segment(WORKLOADS["huge values"], block_size_bytes=300, chunk=chunk)
    other = workshop.segment(WORKLOADS["huge values"], block_size_bytes=300, chunk=33)
    assert flat(one.chunks(b"", None)) == flat(other.chunks(b"", None))
    # A block may end early where a chunk does, but only then.
    assert abs(len(blocks_of(one)) - len(blocks_of(other))) <= 100 // 33 + 1 or chunk == 1


def copied_blocks(segment: SegmentReader) -> list[CopiedBlock]:
    found = []
    for part in map(segment.part, range(len(segment.part_floors))):
        for b, frame in enumerate(segment.read_frames(part, 0, len(part.floors))):
            block = segment.decode_block(part, b, frame)
            counts = (
                part.entries[b + 1] - part.entries[b],
                part.tombstones[b + 1] - part.tombstones[b],
                part.deltas[b + 1] - part.deltas[b],
            )
            ends = block.key(0), block.key(block.count - 1)
            found.append(CopiedBlock(*ends, frame, counts, block.column_sizes(), part.filters[b]))
    return found


@pytest.mark.parametrize("name", ["many", "common prefixes", "the empty key", "huge values"])
def test_copied_blocks_read_as_written_ones(name: str) -> None:
    entries = WORKLOADS[name]
    workshop = Workshop()
    source = workshop.segment(entries, block_size_bytes=300)
    writer = SegmentWriter(
        workshop.fs, DIRECTORY, 2, start=b"", block_size_bytes=300, compress=True, filter_bits_per_key=10
    )
    for number, block in enumerate(copied_blocks(source)):
        if number % 3 == 2:  # between copied blocks, entries that were merged
            chosen = [e for e in entries if block.first <= e[0] <= block.last]
            writer.add(*columns(chosen))
        else:
            writer.add_block(*block)
    copy = workshop.finish(writer)
    assert flat(copy.chunks(b"", None)) == flat(source.chunks(b"", None))
    for key, kind, value in entries[:: max(len(entries) // 100, 1)]:
        assert copy.get(key, hash_key(key)) == (kind, value)
    ours, theirs = copy.properties, source.properties
    for field in ("entries", "tombstones", "delta", "key_bytes", "value_bytes"):
        assert getattr(ours, field) == getattr(theirs, field), field


# -- writing -------------------------------------------------------------------------------------------


def test_a_segment_has_its_name_only_when_it_is_whole() -> None:
    workshop = Workshop()
    writer = SegmentWriter(
        workshop.fs, DIRECTORY, 1, start=b"", block_size_bytes=64, compress=True, filter_bits_per_key=10
    )
    assert writer.is_empty
    writer.add(*columns(numbered(10)))
    assert not writer.is_empty
    assert writer.size_bytes > 0
    assert workshop.fs.list_directory(DIRECTORY) == [temporary_name(segment_name(1))]
    workshop.finish(writer)
    assert workshop.fs.list_directory(DIRECTORY) == [segment_name(1)]
    assert workshop.fs.power_loss_clone(1, 0).files().get(PATH) is None  # the caller syncs the folder
    for path in ("/", DIRECTORY):
        workshop.fs.sync_directory(path)
    assert workshop.fs.power_loss_clone(1, 0).files()[PATH] == workshop.fs.files()[PATH]


def test_abort_leaves_nothing() -> None:
    workshop = Workshop()
    writer = SegmentWriter(
        workshop.fs, DIRECTORY, 1, start=b"", block_size_bytes=64, compress=True, filter_bits_per_key=10
    )
    writer.add(*columns(numbered(10)))
    writer.abort()
    assert workshop.fs.list_directory(DIRECTORY) == []


def test_an_empty_segment_is_refused() -> None:
    with pytest.raises(EngineError, match="without entries"):
        Workshop().segment([])


def test_what_is_written_goes_through_the_throttle() -> None:
    workshop = Workshop()
    told: list[int] = []
    writer = SegmentWriter(
        workshop.fs, DIRECTORY, 1, start=b"", block_size_bytes=64, compress=False, filter_bits_per_key=10,
        throttle=told.append,
    )  # fmt: skip
    writer.add(*columns([(b"%06d" % n, INSERT, b"v" * 100) for n in range(10_000)]))
    segment = workshop.finish(writer)
    assert sum(told) == segment.size_bytes
    assert len(told) > 2


# -- opening -------------------------------------------------------------------------------------------


def test_opening_checks_number_and_size() -> None:
    workshop = Workshop()
    segment = workshop.segment(numbered(50))
    workshop.fs.link(PATH, f"{DIRECTORY}/{segment_name(9)}")
    with pytest.raises(CorruptionError, match="segment number"):
        workshop.open(9)
    cache, files = Cache(0), OpenFiles(8)
    for size_bytes in (segment.size_bytes - 1, segment.size_bytes + 1):
        with pytest.raises(CorruptionError, match="size of file"):
            SegmentReader(workshop.fs, DIRECTORY, 1, cache=cache, files=files, size_bytes=size_bytes)
    SegmentReader(workshop.fs, DIRECTORY, 1, cache=cache, files=files, size_bytes=segment.size_bytes)


@pytest.mark.parametrize("compress", [True, False])
def test_every_flipped_byte_is_noticed(compress: bool) -> None:
    workshop = Workshop(cache_bytes=0)
    workshop.segment(numbered(60), compress=compress)
    size_bytes = len(workshop.fs.files()[PATH])
    for at in range(size_bytes):
        workshop.fs.flip(PATH, at)
        with pytest.raises(CorruptionError) as caught:
            flat(workshop.open(1).chunks(b"", None))
        assert caught.value.path == PATH
        assert 0 <= caught.value.offset <= at
        workshop.fs.flip(PATH, at)
    flat(workshop.open(1).chunks(b"", None))


def test_every_truncation_is_noticed() -> None:
    workshop = Workshop()
    workshop.segment(numbered(60))
    data = workshop.fs.files()[PATH]
    for size_bytes in range(len(data)):
        workshop.fs.put_file(PATH, data[:size_bytes])
        with pytest.raises(CorruptionError):
            workshop.open(1)


def test_open_files_are_bounded() -> None:
    workshop = Workshop(files_max=8, cache_bytes=0)
    segments = [workshop.segment(live({b"k%02d" % n: b"v"})) for n in range(20)]
    for _ in range(3):
        for n, segment in enumerate(segments):
            key = b"k%02d" % n
            assert segment.get(key, hash_key(key)) == (INSERT, b"v")
            assert sum(s.file is not None for s in segments) <= 8
    workshop.files.forget(segments[-1])
    assert segments[-1].file is None


def test_a_file_stays_open_until_the_read_is_done() -> None:
    """Another thread, opening one file too many, closed the file in the middle of a read: EBADF, or the bytes
    of whatever file got the descriptor next."""
    workshop = Workshop(cache_bytes=0)
    segment = workshop.segment(WORKLOADS["many"])
    inner = segment.file
    assert inner is not None

    class Fragile:
        """As DiskReadableFile: closed with its last reference, which its `pread` is not."""

        def __init__(self) -> None:
            this = weakref.ref(self)

            def pread(size_bytes: int, offset: int) -> bytes:
                segment.file = None
                assert this() is not None, "closed in the middle of a read"
                return inner.pread(size_bytes, offset)

            self.pread = pread

    for read in (
        lambda: segment.part(0),
        lambda: segment.get(b"key 00000", hash_key(b"key 00000")),
        lambda: next(segment.chunks(b"", None)),
        lambda: next(segment.chunks_reversed(b"", None)),
    ):
        segment.file = Fragile()  # type: ignore[assignment]
        read()

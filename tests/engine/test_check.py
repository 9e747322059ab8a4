"""What engine/check.py finds in damaged databases, and that it finds nothing in sound ones."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

import lamina.engine as engine
from harness.databases import PATH, OpenDb
from harness.memory_filesystem import MemoryFileSystem
from lamina.engine.check import assert_consistent, check_database, check_directory, check_log_files
from lamina.engine.entry import INSERT, REMOVE, REPLACE
from lamina.engine.filenames import MANIFEST, REPAIR_FOLDER, parse_name
from lamina.engine.findings import Finding, Findings
from lamina.engine.manifest import Manifest, SliceRecord, decode_manifest, encode_manifest
from lamina.engine.segment import format as fmt
from lamina.engine.segment.check import check_segment
from lamina.engine.segment.writer import SegmentWriter


def closed(open_db: OpenDb, **options: Any) -> MemoryFileSystem:
    """Return the file system of a sound, closed database."""
    db = open_db(memtable_size_bytes=4000, block_size_bytes=256, level_runs_max=4, **options)
    for i in range(120):
        db.put(b"k%03d" % (i * 37 % 90), b"%d" % i * (i % 30))
    db.close()
    assert isinstance(db.fs, MemoryFileSystem)
    assert check_directory(PATH, db.fs) == []
    return db.fs


def files(fs: MemoryFileSystem, kind: str) -> list[str]:
    """Return the paths of all segments ("seg") or logs ("wal")."""
    names = [os.path.basename(path) for path in fs.files() if path.startswith(PATH + "/")]
    return [f"{PATH}/{name}" for name in names if (p := parse_name(name)) is not None and p[0] == kind]


def errors(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.severity == "error"]


def change_manifest(fs: MemoryFileSystem, change: Callable[[Manifest], Manifest]) -> None:
    path = f"{PATH}/{MANIFEST}"
    manifest = decode_manifest(path, fs.files()[path])
    fs.put_file(path, encode_manifest(change(manifest)))


def change_slice(fs: MemoryFileSystem, change: Callable[[SliceRecord], SliceRecord]) -> None:
    """Change what the manifest says of the newest slice."""

    def apply(manifest: Manifest) -> Manifest:
        run = next(run for runs in manifest.levels for run in runs)
        run.slices[0] = change(run.slices[0])
        return manifest

    change_manifest(fs, apply)


# -- sound databases ---------------------------------------------------------------------------------


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("background", ["inline", "thread"])
def test_a_sound_database_has_no_findings(open_db: OpenDb, counted: bool, background: str) -> None:
    db = open_db(counted=counted, background=background, memtable_size_bytes=1000)
    for i in range(300):
        db.put(b"%03d" % (i * 7 % 100), b"v" * (i % 40))
        if i % 5 == 0:
            db.delete(b"%03d" % (i * 3 % 100))
        if i % 60 == 0:
            assert errors(check_database(db)) == []
    assert db.wait_idle(30)
    assert check_database(db) == []
    with engine.open(PATH, fs=db.fs, read_only=True) as reader:
        assert check_database(reader) == []
    db.close()
    assert errors(check_directory(PATH, db.fs)) == []


def test_an_empty_database_has_no_findings(open_db: OpenDb) -> None:
    db = open_db()
    assert check_database(db) == []
    db.close()
    assert check_directory(PATH, db.fs) == []


def test_checking_changes_nothing(open_db: OpenDb) -> None:
    fs = closed(open_db)
    before = fs.files()
    check_directory(PATH, fs)
    assert fs.files() == before


# -- damage of every kind ------------------------------------------------------------------------------


def test_every_flipped_byte_of_a_segment_is_found(open_db: OpenDb) -> None:
    fs = closed(open_db)
    path = files(fs, "seg")[0]
    content = fs.files()[path]
    for offset in range(0, len(content), 7):
        fs.flip(path, offset)
        found = errors(check_directory(PATH, fs))
        assert found, offset
        assert all(finding.path == path for finding in found), found
        fs.flip(path, offset)
    assert check_directory(PATH, fs) == []


def test_a_damaged_block_loses_no_more_than_itself(open_db: OpenDb) -> None:
    fs = closed(open_db)
    path = files(fs, "seg")[0]
    fs.flip(path, fmt.HEADER.size + fmt.FRAME.size + 30)
    (finding,) = errors(check_directory(PATH, fs))
    assert finding.offset == fmt.HEADER.size
    assert "data block checksum" in finding.what
    assert 0 < finding.lost_bytes < 600
    assert f"{path}, byte 20: data block checksum" in str(finding)


@pytest.mark.parametrize("size_bytes", [0, 10, 59, 200])
def test_a_shortened_segment_is_found(open_db: OpenDb, size_bytes: int) -> None:
    fs = closed(open_db)
    path = files(fs, "seg")[0]
    fs.truncate_file(path, size_bytes)
    (finding,) = errors(check_directory(PATH, fs))
    assert finding.path == path
    assert finding.lost_bytes > 0


def test_a_missing_segment_is_found(open_db: OpenDb) -> None:
    fs = closed(open_db)
    path = files(fs, "seg")[0]
    fs.remove(path)
    (finding,) = errors(check_directory(PATH, fs))
    assert (finding.path, finding.what) == (path, "the file is missing")


def test_damage_under_an_open_database_is_found(open_db: OpenDb) -> None:
    db = open_db(memtable_size_bytes=1000)
    for i in range(100):
        db.put(b"%03d" % i, b"v" * 20)
    assert isinstance(db.fs, MemoryFileSystem)
    path = files(db.fs, "seg")[0]
    db.fs.flip(path, 40)
    with pytest.raises(AssertionError, match="data block checksum"):
        assert_consistent(db)
    db.fs.flip(path, 40)
    log = files(db.fs, "wal")[-1]
    db.fs.flip(log, 60)
    with pytest.raises(AssertionError, match=r"frame|would restore"):
        assert_consistent(db)
    db.fs.flip(log, 60)


@pytest.mark.parametrize(
    ("field", "value", "what"),
    [
        ("entries", 3, "entries of slice"),
        ("base", 1, "delta before it"),
        ("delta", 3, "delta of slice"),
        ("size_bytes", 7, "size of slice"),
        ("file_size_bytes", 77, "size of file"),
        ("segment", 999, "file is missing"),
        ("start", b"k02", "entries of slice"),
        ("stop", b"k02", "entries of slice"),
    ],
)
def test_a_wrong_slice_in_the_manifest_is_found(
    open_db: OpenDb, field: str, value: object, what: str
) -> None:
    fs = closed(open_db)
    change_slice(fs, lambda record: record._replace(**{field: value}))  # type: ignore[arg-type]
    assert any(what in finding.what for finding in errors(check_directory(PATH, fs)))


def test_runs_in_the_wrong_order_are_found(open_db: OpenDb) -> None:
    db = open_db(level_runs_max=4)
    for value in (b"old", b"new"):
        db.put(b"key", value)
        db.flush()
    db.close()
    assert isinstance(db.fs, MemoryFileSystem)
    change_manifest(db.fs, lambda manifest: manifest._replace(levels=[manifest.levels[0][::-1]]))
    whats = [finding.what for finding in errors(check_directory(PATH, db.fs))]
    assert any("lies above" in what for what in whats)
    assert any("contradict each other" in what for what in whats)


def test_a_segment_shown_twice_is_found(open_db: OpenDb) -> None:
    fs = closed(open_db)

    def repeat(manifest: Manifest) -> Manifest:
        run = manifest.levels[0][0]
        return manifest._replace(
            levels=[[run._replace(number=999), *manifest.levels[0]], *manifest.levels[1:]]
        )

    change_manifest(fs, repeat)
    assert any("shown twice" in finding.what for finding in errors(check_directory(PATH, fs)))


def test_a_damaged_or_missing_manifest_is_found(open_db: OpenDb) -> None:
    fs = closed(open_db)
    path = f"{PATH}/{MANIFEST}"
    fs.flip(path, 40)
    (finding,) = errors(check_directory(PATH, fs))
    assert "manifest checksum" in finding.what
    fs.flip(path, 40)
    fs.remove(path)
    fs.flip(files(fs, "seg")[0], 40)
    missing, damaged = errors(check_directory(PATH, fs))
    assert (missing.path, missing.what) == (path, "the file is missing")
    assert "data block" in damaged.what


def test_a_manifest_that_is_not_the_views_is_found(open_db: OpenDb) -> None:
    db = open_db()
    db.put(b"key", b"value")
    db.flush()
    assert isinstance(db.fs, MemoryFileSystem)
    before = db.fs.files()[f"{PATH}/{MANIFEST}"]
    change_manifest(db.fs, lambda manifest: manifest._replace(levels=[]))
    with pytest.raises(AssertionError, match="manifest: levels"):
        assert_consistent(db)
    db.fs.put_file(f"{PATH}/{MANIFEST}", before)


@pytest.mark.parametrize("known", [False, True])
def test_wrong_hints_are_found(open_db: OpenDb, known: bool) -> None:
    db = open_db()
    db.put(b"old", b"1")
    db.flush()
    # The key is there, and is said not to be; or the other way round.
    db.put(b"new" if known else b"old", b"2", existed=known)
    whats = [finding.what for finding in errors(check_database(db))]
    key = "b'new'" if known else "b'old'"
    assert f"entries of key {key} contradict each other" in whats
    db.close()
    whats = [finding.what for finding in errors(check_directory(PATH, db.fs))]
    assert f"entries of key {key} contradict each other" in whats


# -- files that nobody names --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["000999.seg", "000000.wal", "000007.seg.tmp", "MANIFEST.tmp"])
def test_an_orphan_is_a_warning(open_db: OpenDb, name: str) -> None:
    fs = closed(open_db)
    fs.put_file(f"{PATH}/{name}", b"")
    (finding,) = check_directory(PATH, fs)
    assert (finding.severity, finding.path) == ("warning", f"{PATH}/{name}")
    assert "nobody names" in finding.what


def test_an_orphan_of_an_open_database_is_a_warning(open_db: OpenDb) -> None:
    db = open_db()
    assert isinstance(db.fs, MemoryFileSystem)
    db.fs.put_file(f"{PATH}/000000.seg", b"")
    (finding,) = check_database(db)
    assert (finding.severity, finding.path) == ("warning", f"{PATH}/000000.seg")


def test_a_missing_log_is_found(open_db: OpenDb) -> None:
    db = open_db()
    db.put(b"key", b"value")
    assert isinstance(db.fs, MemoryFileSystem)
    path = files(db.fs, "wal")[-1]
    content = db.fs.files()[path]
    db.fs.remove(path)
    with pytest.raises(AssertionError, match="missing"):
        assert_consistent(db)
    db.fs.put_file(path, content)


def test_foreign_files_are_nobodys_business(open_db: OpenDb) -> None:
    fs = closed(open_db)
    fs.put_file(f"{PATH}/notes.txt", b"mine")
    assert check_directory(PATH, fs) == []


# -- logs ---------------------------------------------------------------------------------------------


def with_a_log(open_db: OpenDb) -> tuple[MemoryFileSystem, str]:
    db = open_db(memtable_size_bytes=100_000)
    for i in range(20):
        db.put(b"%d" % i, b"value")
    db.close()
    assert isinstance(db.fs, MemoryFileSystem)
    return db.fs, files(db.fs, "wal")[-1]


def test_a_torn_tail_is_a_warning(open_db: OpenDb) -> None:
    fs, log = with_a_log(open_db)
    fs.truncate_file(log, len(fs.files()[log]) - 3)
    findings = check_directory(PATH, fs)
    assert {finding.severity for finding in findings} == {"warning"}
    assert all(finding.path == log and finding.lost_bytes > 0 for finding in findings)


def test_damage_inside_a_log_is_an_error(open_db: OpenDb) -> None:
    fs, log = with_a_log(open_db)
    fs.flip(log, len(fs.files()[log]) // 2)
    (finding,) = errors(check_directory(PATH, fs))
    assert finding.path == log
    with pytest.raises(engine.CorruptionError):
        open_db(fs=fs)


def test_logs_are_clean_torn_damaged_or_unused(open_db: OpenDb) -> None:
    fs, log = with_a_log(open_db)
    content = fs.files()[log]

    def state() -> tuple[str, int, int]:
        found = {state.path: state for state in check_log_files(PATH, fs, Findings())}[log]
        return found.state, found.frames, found.frames_behind

    assert state() == ("clean", 20, 0)
    fs.truncate_file(log, len(content) - 40)
    assert state()[0] == "torn"
    fs.put_file(log, content)
    fs.flip(log, len(content) // 2)
    kind, frames, behind = state()
    assert kind == "damaged"
    assert 18 <= frames <= 20
    assert 0 < behind < 19
    fs.put_file(log, content[:44])
    assert state() == ("unused", 0, 0)
    assert check_log_files(PATH, fs, Findings(), first=1 << 30) == []
    fs.flip(log, 3)
    fs.put_file(log, fs.files()[log] + b"more")
    assert state()[0] == "damaged"


def test_a_quick_check_reads_no_blocks(open_db: OpenDb) -> None:
    fs = closed(open_db)
    path = files(fs, "seg")[0]
    read: list[int] = []
    assert check_directory(PATH, fs, on_read=read.append) == []
    sizes = sum(len(fs.files()[path]) for path in files(fs, "seg"))
    assert sizes // 2 < sum(read) < sizes
    fs.flip(path, fmt.HEADER.size + fmt.FRAME.size + 30)
    assert check_directory(PATH, fs, is_quick=True) == []
    fs.flip(path, len(fs.files()[path]) - 5)
    (finding,) = check_directory(PATH, fs, is_quick=True)
    assert (finding.severity, finding.path) == ("error", path)
    assert finding.lost_bytes > 0
    assert finding.lost_entries > 0


def test_what_cannot_be_read_is_bounded_by_keys(open_db: OpenDb) -> None:
    fs = closed(open_db)
    path = files(fs, "seg")[0]
    fs.flip(path, fmt.HEADER.size + fmt.FRAME.size + 30)
    (finding,) = errors(check_directory(PATH, fs))
    assert 0 < finding.lost_entries < 60
    assert finding.start is not None
    assert finding.stop is not None
    assert finding.start <= b"k000" < finding.stop <= b"k090"


def test_what_a_broken_repair_has_left_is_a_warning(open_db: OpenDb) -> None:
    fs = closed(open_db)
    fs.make_directory(f"{PATH}/{REPAIR_FOLDER}")
    (finding,) = check_directory(PATH, fs)
    assert (finding.severity, finding.path) == ("warning", f"{PATH}/{REPAIR_FOLDER}")


# -- segments whose checksums are right and whose content is not -----------------------------------------


def write_segment(
    fs: MemoryFileSystem,
    keys: list[bytes],
    kinds: bytes,
    tamper: Callable[[SegmentWriter], None] = lambda writer: None,
    *,
    counted: bool = True,
    values: list[bytes] | None = None,
) -> list[str]:
    """Return what the check says of such a segment."""
    fs.make_directory("/s")
    writer = SegmentWriter(
        fs, "/s", 1, start=b"", block_size_bytes=64, compress=False, filter_bits_per_key=10
    )
    for i, key in enumerate(keys):
        writer.add([key], [b"v" * 20] if values is None else [values[i]], kinds[i : i + 1])
    writer._cut(final=True)
    tamper(writer)
    writer.finish(stop=None, level=0, run=1, age_first=1, age_last=1, discards_applied=0, counted=counted)
    findings = Findings()
    check_segment(fs, "/s", 1, findings)
    return [finding.what for finding in findings]


KEYS = [b"%02d" % i for i in range(30)]
ALL_NEW = bytes((INSERT,)) * 30


def test_a_sound_segment_has_no_findings() -> None:
    assert write_segment(MemoryFileSystem(), KEYS, ALL_NEW) == []


def test_keys_out_of_order_are_found() -> None:
    for keys in ([*KEYS[:5], KEYS[4], *KEYS[5:29]], KEYS[::-1]):
        assert "keys do not ascend" in write_segment(MemoryFileSystem(), keys, ALL_NEW)


def test_foreign_kinds_are_found() -> None:
    what = "kinds that do not belong into this database"
    assert what in write_segment(MemoryFileSystem(), KEYS, bytes((0,)) * 30)
    assert what in write_segment(MemoryFileSystem(), KEYS, bytes((9,)) * 30)
    assert what in write_segment(MemoryFileSystem(), KEYS, ALL_NEW, counted=False)
    assert write_segment(MemoryFileSystem(), KEYS, bytes((REPLACE,)) * 30, counted=False) == []


def test_a_tombstone_with_a_value_is_found() -> None:
    kinds = ALL_NEW[1:] + bytes((REMOVE,))
    assert "a tombstone with a value" in write_segment(MemoryFileSystem(), KEYS, kinds)
    empty = [b""] * 30
    assert write_segment(MemoryFileSystem(), KEYS, kinds, values=empty) == []


@pytest.mark.parametrize("column", ["entries", "tombstones", "deltas"])
def test_wrong_index_rows_are_found(column: str) -> None:
    def tamper(writer: SegmentWriter) -> None:
        getattr(writer._part, column)[1] += 1

    whats = write_segment(MemoryFileSystem(), KEYS, ALL_NEW, tamper)
    assert any(column.removesuffix("s")[:5] in what for what in whats), whats


def test_a_filter_without_a_key_is_found() -> None:
    def tamper(writer: SegmentWriter) -> None:
        writer._part.filters[1] = bytes(len(writer._part.filters[1]))

    assert "a filter denies a key of its block" in write_segment(MemoryFileSystem(), KEYS, ALL_NEW, tamper)


def test_wrong_floors_are_found() -> None:
    def raise_floor(writer: SegmentWriter) -> None:
        writer._part.floors[1] += b"\xff"

    def lower_floor(writer: SegmentWriter) -> None:
        writer._part.floors[1] = writer._part.floors[0]

    whats = write_segment(MemoryFileSystem(), KEYS, ALL_NEW, raise_floor)
    assert "a block's floor lies above its first key" in whats
    whats = write_segment(MemoryFileSystem(), KEYS, ALL_NEW, lower_floor)
    assert "a block's floor does not lie above the key before it" in whats


@pytest.mark.parametrize(
    "name", ["entries", "_tombstones", "_delta", "_key_bytes", "_value_bytes", "_blocks"]
)
def test_wrong_properties_are_found(name: str) -> None:
    def tamper(writer: SegmentWriter) -> None:
        setattr(writer, name, getattr(writer, name) + 1)

    whats = write_segment(MemoryFileSystem(), KEYS, ALL_NEW, tamper)
    assert f"{name.strip('_').replace('_', ' ')} in the properties" in " ".join(whats)


def test_a_low_ceiling_is_found() -> None:
    def tamper(writer: SegmentWriter) -> None:
        writer._last_key = b"05"

    whats = write_segment(MemoryFileSystem(), KEYS, ALL_NEW, tamper)
    assert "the ceiling is not above the last key" in whats

"""Large keys and values: refused beyond the limits, and no burden on anything below them."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lamina.engine as engine
from harness.databases import OpenDb
from lamina.engine.entry import KEY_SIZE_MAX, VALUE_SIZE_MAX

MIB = 1 << 20
LIMIT = 512 * MIB


@pytest.fixture
def too_large() -> Iterator[memoryview]:
    """One byte more than may be, of which no page is ever touched."""
    with mmap.mmap(-1, LIMIT + 1) as memory:
        view = memoryview(memory)
        yield view
        view.release()


def test_limits_are_as_documented() -> None:
    assert KEY_SIZE_MAX == VALUE_SIZE_MAX == LIMIT


@pytest.mark.slow
def test_what_is_too_large_is_refused_before_anything(open_db: OpenDb, too_large: memoryview) -> None:
    db = open_db()
    db.put(b"k", b"v")
    before = db.fs.files()  # type: ignore[attr-defined]
    calls: list[Any] = [
        lambda: db.put(bytes(too_large), b""),
        lambda: db.put(b"", bytes(too_large)),
        lambda: db.delete(bytes(too_large)),
        lambda: engine.Batch().put(b"", bytes(too_large)),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=f"of {LIMIT + 1} bytes is larger than {LIMIT}"):
            call()
    assert db.fs.files() == before  # type: ignore[attr-defined]
    assert list(db.scan()) == [(b"k", b"v")]


def test_limits_hold_for_every_way_of_writing(open_db: OpenDb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lamina.engine.batch.KEY_SIZE_MAX", 100)
    monkeypatch.setattr("lamina.engine.batch.VALUE_SIZE_MAX", 200)
    monkeypatch.setattr("lamina.engine.writing._SMALL_SIZE_BYTES", 100)
    db = open_db()
    before = db.fs.files()  # type: ignore[attr-defined]
    for call in (
        lambda: db.put(b"k" * 101, b""),
        lambda: db.put(b"", b"v" * 201),
        lambda: db.delete(b"k" * 101),
        lambda: db.batch().put(b"k" * 101, b""),
    ):
        with pytest.raises(ValueError, match="is larger than"):
            call()
    assert db.fs.files() == before  # type: ignore[attr-defined]
    db.put(b"k" * 100, b"v" * 200)
    assert db.count() == 1


def test_a_batch_too_large_writes_nothing(open_db: OpenDb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lamina.engine.batch.BATCH_SIZE_MAX", 1000)
    db = open_db()
    batch = engine.Batch()
    for n in range(20):
        batch.put(b"%d" % n, b"v" * 100)
    with pytest.raises(ValueError, match="divide it"):
        db.write(batch)
    assert db.count() == 0
    db.put(b"k", b"v")
    assert db.count() == 1


def value_of(size: int, seed: int) -> bytes:
    block = bytes((n * n * seed + n >> 3) & 255 for n in range(4099))
    return (block * (size // 4099 + 1))[:size]


@pytest.mark.parametrize("counted", [True, False])
def test_moderately_huge_entries_make_the_whole_journey(tmp_path: Path, counted: bool) -> None:
    """32 MiB values and 8 MiB keys through log, flush, compaction and reopening."""
    memory = 16 * MIB
    options: dict[str, Any] = {"counted": counted, "memory": memory, "background": "inline", "sync": "no"}
    value, key = value_of(32 * MIB, 3), value_of(8 * MIB, 5)
    keys = [b"K" + key, b"K" + key + b"x", b"M" * (4 * MIB)]
    with engine.open(tmp_path, **options) as db:
        for n in range(300):
            db.put(b"small %03d" % n, b"value %d" % n)
        db.put(b"small 150x", value)
        for number, huge in enumerate(keys):
            db.put(huge, b"under a huge key %d" % number)
        check_huge(db, keys, value)
        db.flush()
        check_huge(db, keys, value)
        db.put(b"small 150x", value[::-1])
        db.put(keys[0], b"another")
        db.flush()
        db.put(b"small 150x", value)
        db.put(keys[0], b"under a huge key 0")
        db.delete(b"not there")
        db.compact()
        check_huge(db, keys, value)
    with engine.open(tmp_path, **options) as db:
        check_huge(db, keys, value)
        stats = db.stats()
        assert stats.cache_size_bytes < memory
        assert stats.memtable_size_bytes < MIB
        # No block with a huge entry was cached, and no index holds a huge key.
        for run in db.view.runs:
            for floor in run.part_floors:
                assert len(floor) <= 4096
            for piece in run.slices:
                assert len(piece.start) <= 4096
                assert piece.stop is None or len(piece.stop) <= 4097


def check_huge(db: engine.Database, keys: list[bytes], value: bytes) -> None:
    assert db[b"small 150x"] == value
    for number, key in enumerate(keys):
        assert db[key] == b"under a huge key %d" % number
        assert key in db
        assert key + b"y" not in db
    assert db.count() == 304
    assert db.count(b"small 150", b"small 151") == 2
    assert [key for key, _ in db.scan(limit=3)] == sorted(keys)
    assert [len(found) for _, found in db.scan(b"small 150", b"small 151")] == [9, len(value)]
    assert db.rank(keys[1]) == 1
    assert db.select(None, None, 1) == (keys[1], b"under a huge key 1")
    assert sum(1 for _ in db.scan(reverse=True)) == 304


def test_bounds_of_a_compaction_may_be_huge(open_db: OpenDb) -> None:
    """They become bounds of slices and floors of indexes, where nothing may be huge."""
    db = open_db()
    for n in range(200):
        db.put(b"k%03d" % n, b"v")
    db.put(b"k" + b"1" * 9000, b"long")
    db.compact(b"k" + b"0" * 100_000, b"k" + b"1" * 100_000)
    db.compact(b"k" + b"1" * 8000, None)
    db.compact(None, b"k" + b"1" * 100_000)
    assert db.count() == 201
    assert len(list(db.scan())) == 201
    assert db[b"k" + b"1" * 9000] == b"long"
    for run in db.view.runs:
        assert max(map(len, run.floors)) <= 4096
        assert all(piece.stop is None or len(piece.stop) <= 4097 for piece in run.slices)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_largest_entry_there_may_be(tmp_path: Path) -> None:
    """512 MiB of value under a key of 64 MiB; needs about 4 GiB of memory."""
    key, value = value_of(64 * MIB, 7), value_of(LIMIT, 9)
    options: dict[str, Any] = {"background": "inline", "sync": "no", "memory": 64 * MIB}
    with engine.open(tmp_path, **options) as db:
        db.put(key, value)
        db.put(b"small", b"1")
        db.compact()
        assert db[key] == value
    with engine.open(tmp_path, **options) as db:
        assert db.count() == 2
        assert db[key] == value
        assert db[b"small"] == b"1"

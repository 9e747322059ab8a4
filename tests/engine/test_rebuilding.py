"""A new database from an old one: the same entries, other files; whole or not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import lamina.engine as engine
from harness.databases import TINY
from lamina.engine import CorruptionError, EngineError, LockedError, Options
from lamina.engine.check import check_directory
from lamina.engine.filesystem import DiskFileSystem
from lamina.engine.rebuilding import PARTIAL_SUFFIX, rebuild
from lamina.engine.rewriting import open_view
from lamina.engine.segment.check import open_uncached


def make(directory: Path, **options: Any) -> dict[bytes, bytes]:
    """Write a database of several layers; returns what it holds."""
    with engine.open(directory, **TINY | options) as db:
        for number in range(500):
            db.put(b"%04d" % (number * 7 % 500), b"value %d" % number)
        for number in range(0, 500, 3):
            db.delete(b"%04d" % number)
        db.discard(b"0100", b"0150")
        db.flush()
        db.put(b"0001", b"in the log")
        db.put(b"x" * 5000, b"a key longer than floors are")
        return dict(db.scan())


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("workers", [1, 2])
def test_the_same_entries(tmp_path: Path, counted: bool, workers: int) -> None:
    expected = make(tmp_path / "old", counted=counted)
    progress: list[int] = []
    options = Options(workers=workers, block_size_bytes=256, segment_size_bytes=2048, filter_bits_per_key=3)
    made = rebuild(str(tmp_path / "old"), str(tmp_path / "new"), options, on_progress=progress.append)
    assert made.entries == len(expected)
    assert sum(progress) == made.size_bytes
    assert check_directory(str(tmp_path / "new"), DiskFileSystem()) == []
    with engine.open(tmp_path / "new", read_only=True) as db:
        assert dict(db.scan()) == expected
        assert db.counted == counted
        assert len(db.view.runs) == 1
        assert made.segments == len(db.view.levels.slices) > 1
        assert {piece.segment.properties.filter_bits_per_key for piece in db.view.levels.slices} == {3}
    with engine.open(tmp_path / "old", read_only=True) as old, engine.open(tmp_path / "new", **TINY) as db:
        assert db.created_s == old.created_s
        assert db.salt != old.salt
        db.put(b"after", b"wards")
        db.flush()
        db.compact()
        assert dict(db.scan()) == expected | {b"after": b"wards"}


def test_blocks_have_the_size_that_is_asked_for(tmp_path: Path) -> None:
    make(tmp_path / "old", block_size_bytes=64)
    rebuild(str(tmp_path / "old"), str(tmp_path / "new"), Options(block_size_bytes=4096, compression="none"))
    (path,) = (tmp_path / "new").glob("*.seg")
    segment = open_uncached(DiskFileSystem(), str(tmp_path / "new"), int(path.stem))
    part = segment.part(0)
    sizes = [segment.payload(part, b) for b in range(len(part.floors))]
    assert all(len(payload) > 4000 for payload, _ in sizes[:-2])
    assert all(size_bytes == len(payload) + 9 for payload, size_bytes in sizes)


def test_a_view_of_a_closed_database(tmp_path: Path) -> None:
    expected = make(tmp_path / "old")
    view, manifest = open_view(DiskFileSystem(), str(tmp_path / "old"))
    assert manifest.counted
    assert dict(view.scan(b"", None)) == expected
    assert view.count(b"", None) == len(expected)


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    make(tmp_path / "old")
    path = max((tmp_path / "old").glob("*.seg"), key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptionError, match="data block checksum"):
        rebuild(str(tmp_path / "old"), str(tmp_path / "new"), Options())
    assert [entry.name for entry in tmp_path.iterdir()] == ["old"]


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    make(tmp_path / "old")

    def interrupt(size_bytes: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rebuild(str(tmp_path / "old"), str(tmp_path / "new"), Options(), on_progress=interrupt)
    assert [entry.name for entry in tmp_path.iterdir()] == ["old"]


def test_what_was_left_behind_is_cleared_up(tmp_path: Path) -> None:
    expected = make(tmp_path / "old")
    partial = tmp_path / f"new{PARTIAL_SUFFIX}"
    partial.mkdir()
    for name in ("000003.seg", "000009.seg.tmp", "000100.wal", "MANIFEST", "LOCK"):
        (partial / name).write_bytes(b"left behind")
    made = rebuild(str(tmp_path / "old"), str(tmp_path / "new"), Options())
    assert made.entries == len(expected)
    assert not partial.exists()
    assert check_directory(str(tmp_path / "new"), DiskFileSystem()) == []


def test_two_at_once_do_not_meet(tmp_path: Path) -> None:
    make(tmp_path / "old")
    partial = tmp_path / f"new{PARTIAL_SUFFIX}"
    partial.mkdir()
    lock = DiskFileSystem().lock(str(partial / "LOCK"))
    try:
        with pytest.raises(LockedError):
            rebuild(str(tmp_path / "old"), str(tmp_path / "new"), Options())
    finally:
        lock.release()


def test_a_count_that_does_not_agree_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "old")
    monkeypatch.setattr("lamina.engine.layers.View.count", lambda *arguments: 12)
    with pytest.raises(EngineError, match="entries were written of 12"):
        rebuild(str(tmp_path / "old"), str(tmp_path / "new"), Options())
    assert not (tmp_path / "new").exists()

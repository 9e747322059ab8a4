"""What sessions leave behind, and what must not be carried from one database, or one moment, into another."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import lamina.engine as engine
from lamina.engine.check import assert_consistent
from lamina.engine.memtable import Memtable
from lamina.engine.stalls import STOPPED, describe_stall

OPTIONS: dict[str, Any] = {"background": "inline", "sync": "no"}


def logs_of(path: Path) -> list[str]:
    return sorted(file.name for file in path.glob("*.wal"))


def test_sessions_that_write_nothing_leave_no_logs(tmp_path: Path) -> None:
    with engine.open(tmp_path / "db", **OPTIONS) as db:
        db.put(b"a", b"1")
    before = logs_of(tmp_path / "db")
    for _ in range(10):
        with engine.open(tmp_path / "db", **OPTIONS) as db:
            assert db[b"a"] == b"1"
            assert_consistent(db)
    assert logs_of(tmp_path / "db") == before


def test_logs_of_short_sessions_do_not_pile_up(tmp_path: Path) -> None:
    expected = {}
    for number in range(40):
        with engine.open(tmp_path / "db", **OPTIONS) as db:
            expected[b"%d" % number] = b"x"
            db.put(b"%d" % number, b"x")
        assert len(logs_of(tmp_path / "db")) <= 12
    with engine.open(tmp_path / "db", **OPTIONS) as db:
        assert dict(db.scan()) == expected
        assert_consistent(db)


def two_alike(tmp_path: Path) -> tuple[Path, Path]:
    """Make two databases whose files have the same names and sizes but other contents."""
    paths = tmp_path / "one", tmp_path / "two"
    for path, letter in zip(paths, (b"a", b"b"), strict=True):
        with engine.open(path, compression="none", **OPTIONS) as db:
            db.put(b"key", letter)
            db.flush()
            db.put(b"other", letter)
    names = [sorted(file.name for file in path.iterdir()) for path in paths]
    assert names[0] == names[1]
    return paths


@pytest.mark.parametrize("kind", ["seg", "wal"])
def test_a_file_of_another_database_is_refused(tmp_path: Path, kind: str) -> None:
    one, two = two_alike(tmp_path)
    name = sorted(file.name for file in one.glob(f"*.{kind}"))[-1]
    assert (one / name).stat().st_size == (two / name).stat().st_size
    shutil.copy(one / name, two / name)
    with pytest.raises(engine.CorruptionError, match="another database"):
        engine.open(two, **OPTIONS)


def test_an_interrupted_write_refuses_those_that_would_build_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C between the log and the memtable: the log has the write, the memtable does not."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with engine.open(tmp_path / "db", counted=True, **OPTIONS) as db:
        db.put(b"a", b"1")
        with monkeypatch.context() as patch:
            patch.setattr(Memtable, "store", interrupt)
            with pytest.raises(KeyboardInterrupt):
                db.delete(b"a")
        with pytest.raises(engine.PoisonedError, match="interrupted"):
            db.delete(b"a")
        assert db.get(b"a") == b"1"
    with engine.open(tmp_path / "db", **OPTIONS) as db:
        assert db.count() == 0
        db.put(b"a", b"2")
        assert_consistent(db)


def test_damage_does_not_refuse_writes(tmp_path: Path) -> None:
    """A lookup that meets damage says so; it is no reason to stop writing."""
    options = OPTIONS | {"compression": "none", "counted": True}
    with engine.open(tmp_path / "db", **options) as db:
        db.put(b"key", b"x" * 100)
        db.flush()
        segment = next((tmp_path / "db").glob("*.seg"))
    data = bytearray(segment.read_bytes())
    data[60] ^= 1
    segment.write_bytes(data)
    with engine.open(tmp_path / "db", **options) as db:
        with pytest.raises(engine.CorruptionError):
            db.put(b"key", b"y")
        db.put(b"new", b"z")
        assert db[b"new"] == b"z"


def test_what_a_lookup_found_is_forgotten_with_the_next_flush(tmp_path: Path) -> None:
    with engine.open(tmp_path / "db", **OPTIONS) as db:
        for value in (b"1", b"2", b"3"):
            db.put(b"a", value)
            assert db[b"a"] == value
            snapshot = db.snapshot()
            db.flush()
            assert db[b"a"] == value
            assert db[b"a"] == value  # from the rows
            db.put(b"a", b"newer")
            assert (db[b"a"], snapshot[b"a"]) == (b"newer", value)
            db.flush()
            assert (db[b"a"], snapshot[b"a"]) == (b"newer", value)
            snapshot.close()


def test_rows_make_room_for_blocks(tmp_path: Path) -> None:
    with engine.open(tmp_path / "db", memory=1 << 20, **OPTIONS) as db:
        for number in range(20_000):
            db.put(b"%08d" % number, b"v" * 100)
        db.compact()
        for number in range(20_000):
            assert db[b"%08d" % number] == b"v" * 100
        assert_consistent(db)
        assert db.stats().cache_size_bytes <= db.stats().cache_limit_bytes


@pytest.mark.parametrize(
    ("severity", "word"),
    [(0.0, "none"), (0.05, "slowed"), (0.99, "slowed"), (STOPPED, "stopped"), (7.0, "stopped")],
)
def test_stalls_have_names(severity: float, word: str) -> None:
    assert describe_stall(severity) == word

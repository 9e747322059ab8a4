"""Snapshots, checkpoints, and how space comes back: compaction, discarded ranges, tombstones."""

from __future__ import annotations

import errno
import gc
import threading
from pathlib import Path
from random import Random

import pytest

import lamina.engine as engine
from harness.databases import PATH, OpenDb
from harness.fault_filesystem import FaultFileSystem, Operation, fail_when, inject_when, no_faults, pause
from harness.memory_filesystem import MemoryFileSystem
from lamina.engine.errors import ClosedError


def fill(db: engine.Database, prefix: bytes, count: int, value: bytes = b"value " * 4) -> None:
    for n in range(count):
        db.put(prefix + b"%05d" % n, value)


def segment_bytes(db: engine.Database, path: str = PATH) -> int:
    files = db.fs.files()  # type: ignore[attr-defined]
    return sum(len(data) for name, data in files.items() if name.startswith(path) and name.endswith(".seg"))


# -- snapshots -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("background", ["inline", "thread"])
def test_a_snapshot_stays_as_it_was(open_db: OpenDb, counted: bool, background: str) -> None:
    db = open_db(counted=counted, background=background)
    fill(db, b"k", 200)
    before = dict(db.scan())
    snapshot = db.snapshot()
    assert db.stats().snapshots == 1
    for n in range(0, 200, 2):
        db.delete(b"k%05d" % n)
    fill(db, b"new", 100)
    db.discard(b"k00100", b"k00200")
    db.compact()
    assert dict(snapshot.scan()) == before
    assert snapshot.count() == 200
    assert snapshot[b"k00000"] == before[b"k00000"]
    assert snapshot.get(b"new00001") is None
    assert snapshot.select(None, None, 7) == (b"k00007", before[b"k00007"])
    assert db.count(prefix=b"k") == 50
    snapshot.close()
    snapshot.close()
    assert db.stats().snapshots == 0
    with pytest.raises(ClosedError, match="the snapshot is closed"):
        snapshot.get(b"k00000")


def test_a_snapshot_has_no_writes() -> None:
    for name in ("put", "delete", "write", "discard", "batch", "flush"):
        assert not hasattr(engine.Snapshot, name)


def test_a_snapshot_keeps_its_files_until_it_is_closed(open_db: OpenDb) -> None:
    db = open_db()
    fill(db, b"k", 300)
    db.compact()
    with db.snapshot() as snapshot:
        fill(db, b"k", 300, b"other" * 4)
        db.compact()
        held = segment_bytes(db)
        assert snapshot[b"k00299"] == b"value " * 4
    gc.collect()
    assert segment_bytes(db) < held * 0.7


def test_a_snapshot_of_nothing_and_a_snapshot_of_a_snapshot_in_time(open_db: OpenDb) -> None:
    db = open_db()
    with db.snapshot() as empty, db.snapshot() as other:
        db.put(b"a", b"1")
        with db.snapshot() as one:
            db.put(b"a", b"2")
            assert [s.get(b"a") for s in (empty, other, one)] == [None, None, b"1"]
        assert db[b"a"] == b"2"


# -- checkpoints ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("counted", [True, False])
def test_a_checkpoint_is_a_database_of_its_own(open_db: OpenDb, counted: bool) -> None:
    db = open_db(counted=counted)
    fill(db, b"k", 200)
    db.discard(b"k00000", b"k00010")
    before = dict(db.scan())
    db.checkpoint("/stores/copy")
    copy = open_db("/stores/copy", fs=db.fs)
    assert dict(copy.scan()) == before
    assert copy.count() == len(before)
    # Each goes its own way from here.
    fill(db, b"k1", 100, b"original")
    fill(copy, b"k2", 100, b"copy")
    copy.delete(b"k00100")
    db.compact()
    copy.compact()
    assert db[b"k00100"] == before[b"k00100"]
    assert copy.get(b"k00100") is None
    assert db.count(prefix=b"k2") == copy.count(prefix=b"k1") == 0
    db.close()
    copy.close()
    copy = open_db("/stores/copy", fs=db.fs)
    assert copy.count(prefix=b"k2") == 100
    assert copy.count() == len(before) - 1 + 100


def test_a_checkpoint_of_an_empty_database(open_db: OpenDb) -> None:
    db = open_db()
    db.checkpoint("/stores/copy")
    copy = open_db("/stores/copy", fs=db.fs, create=False)
    assert copy.count() == 0
    copy.put(b"a", b"1")


def test_a_checkpoint_goes_to_an_empty_place_only(open_db: OpenDb) -> None:
    db = open_db()
    db.put(b"a", b"1")
    db.checkpoint("/stores/copy")
    for path in ("/stores/copy", PATH):
        with pytest.raises(FileExistsError):
            db.checkpoint(path)
    db.fs.make_directory("/stores/empty")
    db.checkpoint("/stores/empty")
    assert open_db("/stores/empty", fs=db.fs)[b"a"] == b"1"


def test_a_checkpoint_of_a_read_only_database(open_db: OpenDb) -> None:
    db = open_db()
    fill(db, b"k", 100)
    reader = open_db(fs=db.fs, read_only=True)
    reader.checkpoint("/stores/copy")
    assert open_db("/stores/copy", fs=db.fs).count() == 100


def test_a_checkpoint_on_disk_shares_files(tmp_path: Path) -> None:
    with engine.open(tmp_path / "db", background="inline", memtable_size_bytes=2000) as db:
        fill(db, b"k", 200)
        db.checkpoint(tmp_path / "copy")
    shared = [path for path in (tmp_path / "copy").iterdir() if path.stat().st_nlink == 2]
    assert any(path.suffix == ".seg" for path in shared)
    with engine.open(tmp_path / "copy", background="inline") as copy:
        assert copy.count() == 200


def test_a_checkpoint_where_nothing_can_be_linked(open_db: OpenDb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lamina.engine.checkpoint._COPY_BYTES", 100)  # files are copied in pieces
    faults = FaultFileSystem(MemoryFileSystem(), fail_when(lambda o: o.kind == "link", errno.EXDEV))
    db = open_db(fs=faults)
    fill(db, b"k", 200)
    db.checkpoint("/stores/copy")
    copy = open_db("/stores/copy", fs=faults)
    assert dict(copy.scan()) == dict(db.scan())
    copies = {o.path for o in faults.log if o.kind == "create" and o.path.startswith("/stores/copy/0")}
    assert copies <= {o.path for o in faults.log if o.kind == "sync"}


def test_closing_waits_for_a_checkpoint(open_db: OpenDb) -> None:
    gate, begun = threading.Event(), threading.Event()
    faults = FaultFileSystem(MemoryFileSystem())
    db = open_db(fs=faults)
    fill(db, b"k", 200)
    expected = dict(db.scan())

    def is_first_link(operation: Operation) -> bool:
        is_first = operation.kind == "link" and not begun.is_set()
        if is_first:
            begun.set()
        return is_first

    faults.plan = inject_when(is_first_link, pause(gate))
    maker = threading.Thread(target=db.checkpoint, args=("/stores/copy",))
    maker.start()
    assert begun.wait(10)
    closer = threading.Thread(target=db.close)
    closer.start()
    closer.join(0.05)
    assert closer.is_alive()
    gate.set()
    maker.join(10)
    closer.join(10)
    assert not closer.is_alive()
    assert dict(open_db("/stores/copy", fs=faults).scan()) == expected
    with pytest.raises(ClosedError):
        db.checkpoint("/stores/other")
    assert not faults.exists("/stores/other")


# -- compaction ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("counted", [True, False])
def test_compact_gives_back_what_is_dead(open_db: OpenDb, counted: bool) -> None:
    db = open_db(counted=counted)
    for _ in range(4):
        fill(db, b"k", 300)
    for n in range(300):
        if n % 10:
            db.delete(b"k%05d" % n)
    db.compact()
    stats = db.stats()
    assert sum(level.entries for level in stats.levels) == 30
    assert sum(level.tombstones for level in stats.levels) == 0
    assert sum(level.runs for level in stats.levels) == 1
    assert stats.space_amplification == 1.0
    assert segment_bytes(db) < 30 * 100
    assert db.count() == 30
    compactions = db.stats().compactions
    db.compact()  # nothing to do: it is one clean run
    assert db.stats().compactions == compactions


def test_compact_an_emptied_database(open_db: OpenDb) -> None:
    for counted in (True, False):
        db = open_db(f"/stores/{counted}", counted=counted)
        db.compact()
        fill(db, b"k", 100)
        for n in range(100):
            db.delete(b"k%05d" % n)
        db.compact()
        assert db.stats().levels == ()
        assert segment_bytes(db, f"/stores/{counted}") == 0


@pytest.mark.parametrize("seed", range(6))
def test_compact_ranges(open_db: OpenDb, seed: int) -> None:
    random = Random(seed)
    db = open_db(counted=bool(seed % 2))
    state: dict[bytes, bytes] = {}
    bounds = [None, b"", b"k00050", b"k0010", b"k00150x", b"z", b"k" * 5000]
    for _ in range(6):
        for _ in range(60):
            key = b"k%05d" % random.randrange(200)
            if random.random() < 0.3:
                state.pop(key, None)
                db.delete(key)
            else:
                state[key] = b"%d" % random.randrange(1000)
                db.put(key, state[key])
        db.compact(random.choice(bounds), random.choice(bounds))
        assert dict(db.scan()) == state
        assert db.count() == len(state)


def test_what_compresses_well_may_be_compacted_without_compression(open_db: OpenDb) -> None:
    """A merge was given numbers for as many segments as its input had on disk, and failed for ever where the
    output needed ten times that, as it does when compression is switched off."""
    sizes = {"segment_size_bytes": 1 << 16, "block_size_bytes": 1 << 13, "memtable_size_bytes": 1 << 21}
    sizes["level_runs_max"] = 4
    db = open_db(counted=False, **sizes)
    for _ in range(2):
        fill(db, b"k", 400, bytes(4000))
        db.flush()
    before = segment_bytes(db)
    db.close()
    db = open_db(fs=db.fs, compression="none", **sizes)
    db.compact()
    assert db.stats().background_error is None
    assert segment_bytes(db) > 20 * before
    assert db.count() == 400
    assert all(value == bytes(4000) for _, value in db.scan())


def test_a_sequential_load_moves_segments_instead_of_writing_them_again(open_db: OpenDb) -> None:
    # Values that do not compress, so that a flush fills segments.
    random = Random(1)
    db = open_db(memtable_size_bytes=8000)
    for n in range(2000):
        db.put(b"k%06d" % n, random.randbytes(60))
    db.flush()
    stats = db.stats()
    assert stats.moved_segments > 50
    assert stats.compaction_bytes < stats.flush_bytes
    assert db.count() == 2000
    assert [key for key, _ in db.scan()] == [b"k%06d" % n for n in range(2000)]


def test_an_overwriting_load_moves_nothing_that_others_overlap(open_db: OpenDb) -> None:
    db = open_db()
    for _ in range(5):
        fill(db, b"k", 200)
    assert db.count() == 200
    assert len(list(db.scan())) == 200


# -- tombstones ----------------------------------------------------------------------------------------


def stored(db: engine.Database) -> tuple[int, int]:
    levels = db.stats().levels
    return sum(level.entries for level in levels), sum(level.tombstones for level in levels)


@pytest.mark.parametrize("counted", [True, False])
def test_tombstones_of_short_lives_vanish_early_where_keys_are_counted(
    open_db: OpenDb, counted: bool
) -> None:
    """An insert and its removal meet above the last level: a counted database needs neither any more."""
    db = open_db(counted=counted, level_runs_max=4)
    fill(db, b"a", 300)
    db.compact()
    db.pause()
    fill(db, b"m", 20)
    db.flush()
    for n in range(20):
        db.delete(b"m%05d" % n)
    db.flush()
    assert stored(db) == (300 + 40, 20)
    # Two runs more, so that the level is full; the bottom is too deep to take part in it.
    for number in range(2):
        db.put(b"x%d" % number, b"")
        db.flush()
    db.resume()
    db.wait_idle()
    levels = db.stats().levels
    if counted:
        assert stored(db) == (302, 0)
    assert len(levels) >= 1
    assert db.count() == 302


def test_what_lives_shortly_never_reaches_a_segment(open_db: OpenDb) -> None:
    db = open_db(memtable_size_bytes=100_000)
    for n in range(100):
        db.put(b"k%d" % n, b"v")
        db.delete(b"k%d" % n)
    db.put(b"stays", b"")
    db.flush()
    assert stored(db) == (1, 0)


# -- discarded ranges ----------------------------------------------------------------------------------


@pytest.mark.parametrize("counted", [True, False])
def test_a_discarded_range_is_gone_at_once(open_db: OpenDb, counted: bool) -> None:
    db = open_db(counted=counted)
    for prefix in (b"a", b"b", b"c"):
        fill(db, prefix, 200)
    db.discard(b"b", b"c")
    assert db.count() == 400
    assert [key[:1] for key, _ in db.scan()] == [b"a"] * 200 + [b"c"] * 200
    assert [key[:1] for key, _ in db.scan(reverse=True)] == [b"c"] * 200 + [b"a"] * 200
    assert db.select(None, None, 200) == (b"c00000", b"value " * 4)
    assert db.count(prefix=b"b") == 0
    db.close()
    db = open_db(fs=db.fs)
    assert db.count() == 400
    db.compact()
    stats = db.stats()
    assert (stats.discarded_ranges, stats.discarded_pending_bytes) == (0, 0)
    assert sum(level.entries for level in stats.levels) == 400


def test_whole_segments_go_without_a_compaction(open_db: OpenDb) -> None:
    db = open_db()
    for prefix in (b"a", b"b", b"c"):
        fill(db, prefix, 300)
    db.compact()
    db.pause()
    before, compactions = segment_bytes(db), db.stats().compactions
    reads = sum(level.entries for level in db.stats().levels)
    db.discard(b"b", b"c")
    assert db.stats().discarded_ranges == 1
    db.flush()
    assert db.stats().compactions == compactions
    assert segment_bytes(db) < before * 0.75
    assert sum(level.entries for level in db.stats().levels) < reads - 250
    assert db.count() == 600


def test_discarded_data_is_compacted_away(open_db: OpenDb) -> None:
    """A run that is a third or more dead is rewritten although its level is not full."""
    db = open_db(segment_size_bytes=1 << 20)
    fill(db, b"a", 200)
    fill(db, b"b", 300)
    db.compact()
    before = segment_bytes(db)
    db.discard(b"b", b"c")
    db.flush()
    db.wait_idle()
    assert segment_bytes(db) < before * 0.6
    assert db.stats().discarded_ranges == 0
    assert db.count() == 200


def test_a_range_of_which_nothing_is_stored_is_forgotten(open_db: OpenDb) -> None:
    db = open_db()
    fill(db, b"a", 100)
    for n in range(50):
        db.discard(b"x%02d" % n, b"x%02d0" % n)
    assert db.stats().discarded_ranges == 50
    db.flush()
    assert db.stats().discarded_ranges == 0


def test_writes_before_a_discard_of_the_same_memtable_go_with_it(open_db: OpenDb) -> None:
    for counted in (True, False):
        db = open_db(f"/stores/{counted}", counted=counted, memtable_size_bytes=100_000)
        fill(db, b"b", 50)
        db.flush()
        fill(db, b"a", 50)
        for n in range(0, 50, 2):
            db.delete(b"b%05d" % n)
            db.put(b"b%05d" % (n + 1), b"new")
        db.discard(b"b", b"c")
        fill(db, b"c", 50)
        assert db.count() == 100
        db.flush()
        db.compact()
        assert [key[:1] for key, _ in db.scan()] == [b"a"] * 50 + [b"c"] * 50
        assert stored(db) == (100, 0)


def test_discarding_one_part_of_a_divided_segment_leaves_the_other(open_db: OpenDb) -> None:
    """Both parts went, because segments and not their parts were dropped: data was lost."""
    db = open_db(segment_size_bytes=1 << 20, memtable_size_bytes=1 << 17)
    fill(db, b"k", 1000)
    db.flush()
    db.put(b"k00500", b"new")
    db.flush()
    db.pause()
    db.compact(b"k00400", b"k00600")
    assert db.stats().levels[0].segments + db.stats().levels[-1].segments >= 3
    db.discard(b"", b"k00400")
    db.flush()
    assert db.count() == 600
    assert [key for key, _ in db.scan()] == [b"k%05d" % n for n in range(400, 1000)]
    assert db[b"k00999"] == b"value " * 4


def test_a_range_discarded_while_a_merge_runs_does_not_come_back(open_db: OpenDb) -> None:
    """The merge had read the segments before they were dropped, and nothing was left to say that what it
    wrote was discarded."""
    gate = threading.Event()
    fs = FaultFileSystem(MemoryFileSystem())
    db = open_db(fs=fs, background="thread", segment_size_bytes=1 << 20, memtable_size_bytes=1 << 20)
    try:
        fill(db, b"b", 300)
        db.flush()
        fill(db, b"b", 300, b"again")
        db.pause()
        db.flush()
        writing = threading.Event()

        def is_merge(op: object) -> bool:
            if op.kind == "create" and op.path.endswith(".seg.tmp"):  # type: ignore[attr-defined]
                writing.set()
                return True
            return False

        fs.plan = inject_when(is_merge, pause(gate))
        db.resume()
        assert writing.wait(20)
        fs.plan = no_faults
        db.put(b"a", b"1")
        db.discard(b"b", b"c")
        seal = db.snapshot()
        seal.close()
        gate.set()
        assert db.wait_idle(20)
        db.flush()
        assert db.wait_idle(20)
        assert list(db.scan()) == [(b"a", b"1")]
        assert db.count() == 1
        db.compact()
        assert db.stats().discarded_ranges == 0
        assert stored(db) == (1, 0)
    finally:
        gate.set()


# -- stats ---------------------------------------------------------------------------------------------


def test_stats_are_plausible(open_db: OpenDb) -> None:
    db = open_db()
    fill(db, b"k", 500)
    fill(db, b"k", 250, b"new value")
    stats = db.stats()
    assert stats.live_keys == 500
    assert stats.user_bytes == 750 * 6 + 500 * 24 + 250 * 9
    assert stats.memtables == 1
    assert 0 < stats.memtable_size_bytes < 2300
    assert stats.wal_bytes > stats.user_bytes
    assert 0 < stats.wal_size_bytes <= stats.wal_bytes
    assert stats.flushes > 10
    assert stats.compactions > 3
    written = stats.wal_bytes + stats.flush_bytes + stats.compaction_bytes
    assert stats.write_amplification == round(written / stats.user_bytes, 3)
    assert 1 <= stats.read_amplification == 1 + sum(level.runs for level in stats.levels)
    assert stats.space_amplification >= 1.0
    assert sum(level.size_bytes for level in stats.levels) == segment_bytes(db)
    assert stats.stall_state == "none"
    assert (stats.background_error, stats.write_error, stats.worker_pid) == (None, None, None)
    assert stats.cache_size_bytes <= stats.cache_limit_bytes
    assert stats.as_dict()["levels"][0]["runs"] == stats.levels[0].runs
    uncounted = open_db("/stores/other", counted=False)
    assert uncounted.stats().live_keys is None


def test_compact_leaves_one_run_even_where_segments_need_not_be_rewritten(open_db: OpenDb) -> None:
    """Of a single run, segments that were clean stayed behind in level 0."""
    random = Random(1)
    db = open_db(counted=False, memtable_size_bytes=1 << 22, compression="none")
    for n in range(10_000):  # a flush divides after some thousands
        db.put(b"k%05d" % n, random.randbytes(20))
    db.flush()
    assert [(level.runs, level.segments > 1) for level in db.stats().levels] == [(1, True)]
    db.discard(b"k00100", b"k00103")
    db.compact()
    levels = db.stats().levels
    assert [level.runs for level in levels] == [0, 1]
    assert stored(db) == (9997, 0)
    assert db.count() == 9997
    assert db.stats().moved_segments >= 1

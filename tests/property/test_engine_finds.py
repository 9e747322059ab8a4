"""What test_engine_machine.py has found, each find as a test of its own. They stay."""

from __future__ import annotations

import itertools
import threading
from itertools import pairwise
from random import Random

from harness.databases import PATH, OpenDb
from harness.fault_filesystem import FaultFileSystem, Operation, inject_when, pause
from harness.memory_filesystem import MemoryFileSystem
from harness.trees import Workshop, live
from lamina.engine.cache import Cache, Cached
from lamina.engine.check import assert_consistent
from lamina.engine.levels import Levels
from lamina.engine.run import Run, Slice

COPY = "/stores/copy"


def test_a_block_that_grows_in_the_cache_pushes_others_out() -> None:
    """A block whose keys were split made the cache larger than its limit, until the next insertion."""
    cache = Cache(1000)
    slots: list[Cached | None] = [None] * 10
    entries = [Cached() for _ in slots]
    for slot, entry in enumerate(entries):
        cache.insert(slots, slot, entry, 100)
    cache.grow(entries[-1], 50)
    cache.check()
    assert cache.size_bytes <= 1000


def test_a_part_of_a_lone_run_is_compacted_without_moving_the_rest(open_db: OpenDb) -> None:
    """Where one run overlapped the range, all of it was moved, below older runs that its rest overlaps."""
    db = open_db(counted=False, level_runs_max=4)
    db.put(b"a", b"old")
    db.flush()
    db.put(b"a", b"new")
    db.put(b"z", b"1")
    db.flush()
    db.compact(b"y", None)
    assert_consistent(db)
    assert db.get(b"a") == b"new"


def test_a_slice_that_ends_before_the_merge_does_not_end_it(open_db: OpenDb) -> None:
    """Entries were lost: a run shows two parts of a segment, and a merge of a range reads ahead over the gap
    between them, past the end of the range. It took that for the end of the run.
    """
    db = open_db(block_size_bytes=64, memtable_size_bytes=100_000, segment_size_bytes=100_000)
    expected = {b"%02d" % i: b"." * 70 for i in range(20)}
    for key, value in expected.items():
        db.put(key, value)
    for key in (b"04", b"05"):
        db.delete(key)
        del expected[key]
    db.flush()
    db.compact(b"04", b"06")
    assert [piece.stop for run in db.view.runs for piece in run.slices] == [b"04", b"19\x00"]
    db.compact(b"02", b"09")
    assert dict(db.scan()) == expected


def test_ages_tell_what_is_replaced_after_a_part_was_compacted(open_db: OpenDb) -> None:
    """A merge over parts of different ages gave its output the ages of all: among them those of a run that
    was not merged and overlaps, which rebuilding a lost manifest would have taken for replaced.
    """
    db = open_db(level_runs_max=4, memtable_size_bytes=100_000, segment_size_bytes=100_000)
    db.put(b"a", b"1")
    for i in range(20):
        db.put(b"c%02d" % i, Random(i).randbytes(200))
    db.put(b"z", b"1")
    db.compact()
    for value in (b"2", b"3"):
        db.put(b"a", value)
        db.put(b"z", value)
        db.flush()
    db.compact(b"y", None)  # the bottom run is now young above y, and old below
    db.discard(b"c", b"d")
    db.flush()  # and is rewritten without the discarded range, while the runs above it stay
    assert [len(level) for level in db.view.levels.levels] == [2, 1]
    assert db.view.runs[-1].entries == 2
    assert_consistent(db)
    assert dict(db.scan()) == {b"a": b"3", b"z": b"3"}


def test_a_readers_checkpoint_does_not_share_the_log_that_is_written_to(open_db: OpenDb) -> None:
    """The checkpoint of a read-only database linked the writer's log, and went on growing with it."""
    db = open_db()
    db.put(b"before", b"1")
    reader = open_db(fs=db.fs, read_only=True)
    reader.checkpoint(COPY)
    reader.close()
    db.put(b"after", b"2")
    with open_db(COPY, fs=db.fs) as copy:
        assert dict(copy.scan()) == {b"before": b"1"}
        copy.put(b"mine", b"3")
    assert dict(db.scan()) == {b"after": b"2", b"before": b"1"}
    db.close()
    assert dict(open_db(PATH, fs=db.fs).scan()) == {b"after": b"2", b"before": b"1"}


def test_segments_do_not_begin_at_bounds_longer_than_floors(open_db: OpenDb) -> None:
    """Compacting from a key of more than 4096 bytes on made a segment whose floors did not ascend."""
    db = open_db(counted=True, memtable_size_bytes=100_000, block_size_bytes=64)
    prefix = b"L" * 5000
    for name in (b"b", b"c", b"d"):
        db.put(prefix + name, b"." * 60)
    db.compact(prefix + b"b", prefix + b"d")
    for run in db.view.runs:
        for piece in run.slices:
            floors = piece.segment.part(0).floors
            assert all(low <= high for low, high in pairwise(floors))
    assert_consistent(db)
    assert [key[-1:] for key, _ in db.scan()] == [b"b", b"c", b"d"]


def test_a_merges_output_that_comes_again_stays_below_newer_runs() -> None:
    """Found by reading. The first step of a merge removed all that was in the run that takes the output;
    the second step made that run anew, above one that had been flushed meanwhile.
    """
    workshop = Workshop()
    oldest = workshop.run(live({b"a": b"1"}))
    older = workshop.run(live({b"a": b"2", b"z": b"2"}))
    merged = workshop.segment(live({b"z": b"2"}), start=b"m")
    flushed = workshop.run(live({b"z": b"3"}))
    levels = Levels([[flushed, older, oldest]])
    inputs = (older.number, oldest.number)
    below = levels.below(oldest.number, 0)
    levels = levels.apply(inputs, b"", b"m", oldest.number, 0, [], below)
    levels = levels.apply(inputs, b"m", None, oldest.number, 0, [Slice.whole(merged)], below)
    assert [run.number for run in levels.runs] == [flushed.number, oldest.number]
    levels.check()


def test_a_merges_output_lies_above_what_was_there_whatever_its_first_step_holds() -> None:
    """After a part of the key space had been compacted, a merge into the level of its result began with old
    data. Its output took its place by their age, below that result, and then got newer data of the same keys.
    """
    workshop = Workshop()

    def segment_run(content: dict[bytes, bytes], *, start: bytes = b"", stop: bytes | None = None) -> Run:
        piece = Slice.whole(workshop.segment(live(content), start=start, stop=stop))
        return Run(piece.segment.number, [piece])

    first = segment_run({b"a": b"1"}, stop=b"m")
    older = segment_run({b"a": b"1"}, stop=b"m")
    compacted = segment_run({b"z": b"1"}, start=b"m")
    newer = segment_run({b"z": b"2"}, start=b"m")
    second = segment_run({b"z": b"2"}, start=b"m")
    levels = Levels([[newer, older], [compacted]])
    below = levels.below(77, 1)
    inputs = (newer.number, older.number)
    levels = levels.apply(inputs, b"", b"m", 77, 1, list(first.slices), below)
    levels = levels.apply(inputs, b"m", None, 77, 1, list(second.slices), below)
    assert [run.number for run in levels.runs] == [77, compacted.number]
    levels.check()


def test_merges_that_stand_still_are_not_waited_for(open_db: OpenDb) -> None:
    """`wait_idle` never returned while compaction was paused in the middle of a merge."""
    gate, reached, creations = threading.Event(), threading.Event(), itertools.count()

    def begins_merge(operation: Operation) -> bool:
        is_segment = operation.kind == "create" and ".seg" in operation.path
        if is_segment and next(creations) == 2:  # after two flushes
            reached.set()
            return True
        return False

    fs = FaultFileSystem(MemoryFileSystem(), inject_when(begins_merge, pause(gate)))
    db = open_db(fs=fs, background="thread", level_runs_max=2, memtable_size_bytes=1_000_000)
    for value in (b"1", b"2"):
        for i in range(200):
            db.put(b"%03d" % i, value * 50)
        db.flush()
    assert reached.wait(30)
    db.pause()
    gate.set()
    assert db.wait_idle(5)
    assert [len(level) for level in db.view.levels.levels] == [2]
    db.resume()
    assert db.wait_idle(30)
    assert len(db.view.runs) == 1

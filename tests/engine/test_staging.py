"""Staged batches: what readers see of them, and that in the end they are in the log whole or nowhere."""

from __future__ import annotations

import errno
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

import lamina.engine as engine
from harness.databases import PATH, TINY, OpenDb
from harness.fault_filesystem import (
    FaultFileSystem,
    Operation,
    disk_full,
    fail_when,
    failed_sync,
    inject_when,
    no_faults,
    torn_write,
)
from harness.memory_filesystem import MemoryFileSystem
from lamina.engine.batch import decode_payload
from lamina.engine.check import assert_consistent, check_database
from lamina.engine.filenames import wal_name
from lamina.engine.filesystem import read_file
from lamina.engine.memtable import Memtable
from lamina.engine.resolution import columns, resolve
from lamina.engine.wal import WalContents, read_wal

State = dict[bytes, bytes]
Changes = dict[bytes, bytes | None]

ROOMY = {"memtable_size_bytes": 20_000}


@pytest.fixture(params=[True, False], ids=["counted", "uncounted"])
def db(request: pytest.FixtureRequest, open_db: OpenDb) -> engine.Database:
    return open_db(counted=request.param, **ROOMY)


def batch_of(changes: Changes, state: State | None = None) -> engine.Batch:
    """Return a batch; with a state, one that says of each key whether it is there."""
    batch = engine.Batch()
    for key, value in changes.items():
        existed = None if state is None else key in state
        if value is None:
            batch.delete(key, existed=existed)
        else:
            batch.put(key, value, existed=existed)
    return batch


def changed(state: State, changes: Changes) -> State:
    merged: Changes = {**state, **changes}
    return {key: value for key, value in merged.items() if value is not None}


def assert_shows(db: engine.Database, state: State) -> None:
    """Assert that every way of reading shows exactly this."""
    entries = sorted(state.items())
    assert list(db.scan()) == entries
    assert list(db.scan(reverse=True)) == entries[::-1]
    assert [pair for keys, values in db.scan_chunks() for pair in zip(keys, values, strict=True)] == entries
    assert db.count() == len(entries)
    for i, (key, value) in enumerate(entries):
        assert db[key] == value
        assert db.rank(key) == i
        assert db.select(None, None, i) == (key, value)
        assert db.count(key, key + b"\0") == 1
    assert db.select(None, None, len(entries)) is None


def memtable_of(db: engine.Database) -> tuple[State, Changes, int, list[Any], int]:
    """Return what must be as before when what was staged has been taken back."""
    memtable = db._memtable
    return (
        dict(memtable.inserted),
        dict(memtable.based),
        memtable.size_bytes,
        memtable.discards[:],
        db.counters.user_bytes,
    )


def frames(db: engine.Database) -> list[bytes]:
    """Return the payloads of the active log."""
    path = os.path.join(db.path, wal_name(db.logs.active.number))
    contents = read_wal(path, read_file(db.fs, path))
    assert isinstance(contents, WalContents)
    return contents.payloads


def is_write(operation: Operation) -> bool:
    return operation.kind == "write"


def reopened(fs: MemoryFileSystem, **options: Any) -> engine.Database:
    """Open what a killed process leaves, and check it."""
    db = engine.open(PATH, fs=fs.process_crash_clone(), **TINY | options)
    assert_consistent(db)
    return db


# -- seeing, writing, taking back -----------------------------------------------------------------------


def test_what_is_staged_is_seen_by_every_read_and_logged_by_none(db: engine.Database) -> None:
    state = {b"a": b"1", b"b": b"2", b"c": b"3"}
    for key, value in state.items():
        db.put(key, value)
    assert_shows(db, state)
    logged = frames(db)
    for changes in ({b"b": None, b"d": b"4"}, {b"a": b"5", b"bb": b"6"}, {b"d": None, b"b": b"7"}):
        batch = batch_of(changes)
        db.stage(batch)
        batch.clear()  # it is not needed any more
        state = changed(state, changes)
        assert_shows(db, state)
        assert frames(db) == logged
    db.write(batch_of({b"c": None, b"e": b"8"}))
    state = changed(state, {b"c": None, b"e": b"8"})
    assert_shows(db, state)
    assert len(frames(db)) == len(logged) + 1
    keys = decode_payload(frames(db)[-1]).keys
    assert len(keys) == len(set(keys))
    assert_consistent(db)


def test_writing_nothing_writes_what_is_staged(db: engine.Database) -> None:
    db.stage(batch_of({b"a": b"1"}))
    db.write()
    assert len(frames(db)) == 1
    db.stage(batch_of({b"b": b"2"}))
    db.write(engine.Batch())
    assert len(frames(db)) == 2
    db.write()
    db.unstage()
    assert len(frames(db)) == 2
    assert_shows(db, {b"a": b"1", b"b": b"2"})


def test_nothing_staged_is_nothing_to_write(db: engine.Database) -> None:
    db.stage(engine.Batch())
    db.put(b"a", b"1")  # would be refused if something were staged
    logged = frames(db)
    db.stage(batch_of({b"b": b"2"}))
    db.stage(batch_of({b"b": None}))
    db.write()
    if db.counted:  # it came and went
        assert frames(db) == logged
    assert_shows(db, {b"a": b"1"})
    assert_consistent(db)


def test_unstaging_leaves_the_memtable_as_it_was(db: engine.Database) -> None:
    db.unstage()
    for i in range(20):
        db.put(b"%02d" % i, b"x")
    db.flush()
    for i in range(5, 15):
        db.put(b"%02d" % i, b"y")
    db.put(b"new", b"z")
    db.delete(b"03")
    state = dict(db.scan())
    before = memtable_of(db)
    db.stage(batch_of({b"%02d" % i: None if i % 2 else b"s" for i in range(20)} | {b"new": None}))
    db.count()
    db.stage(batch_of({b"%02d" % i: b"t" if i % 3 else None for i in range(25)} | {b"new": b"n"}))
    assert memtable_of(db) != before
    db.unstage()
    assert memtable_of(db) == before
    db._memtable.check()
    assert_shows(db, state)
    assert_consistent(db)
    db.put(b"more", b"1")
    assert_shows(db, state | {b"more": b"1"})


PLACES = ("nowhere", "below", "inserted", "based", "buried")
HISTORIES = list(itertools.product(("put", "remove", ""), repeat=3))


def prepare(db: engine.Database) -> State:
    """Put a key into each place that a writer can find one in, for each history."""
    for i in range(len(HISTORIES)):
        for place in ("below", "based", "buried"):
            db.put(b"%s %02d" % (place.encode(), i), b"below")
    db.flush()
    for i in range(len(HISTORIES)):
        db.put(b"inserted %02d" % i, b"memory")
        db.put(b"based %02d" % i, b"memory")
        db.delete(b"buried %02d" % i)
    return dict(db.scan())


@pytest.mark.parametrize("outcome", ["write", "write more", "unstage", "fail"])
@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("give_hints", [True, False])
@pytest.mark.parametrize("look", [True, False])
def test_every_history_of_a_key_in_every_place(
    open_db: OpenDb, counted: bool, give_hints: bool, look: bool, outcome: str
) -> None:
    """Three stages do all there is to do to a key, wherever it was."""
    disk = MemoryFileSystem()
    fs = FaultFileSystem(disk)
    db = open_db(fs=fs, counted=counted, memtable_size_bytes=150_000)
    state = old = prepare(db)
    before = memtable_of(db)
    logged = len(frames(db))
    for step in range(3):
        changes: Changes = {}
        for (i, history), place in itertools.product(enumerate(HISTORIES), PLACES):
            if history[step]:
                key = b"%s %02d" % (place.encode(), i)
                changes[key] = b"stage %d" % step if history[step] == "put" else None
        batch = batch_of(changes, state if give_hints else None)
        if step == 2 and outcome == "write more":
            db.write(batch)
        else:
            db.stage(batch)
        state = changed(state, changes)
        if look:
            assert_shows(db, state)
            db._memtable.check()
    if outcome == "unstage":
        db.unstage()
    elif outcome == "fail":
        fs.plan = fail_when(is_write, errno.ENOSPC)
        with pytest.raises(OSError, match="No space left"):
            db.write(batch_of({b"another": b"1"}))
        fs.plan = no_faults
    else:
        db.write()
    if outcome in ("unstage", "fail"):
        state = old
        assert memtable_of(db) == before
        assert len(frames(db)) == logged
    else:
        assert len(frames(db)) == logged + 1
    assert_shows(db, state)
    db._memtable.check()
    assert_consistent(db)
    recovered = reopened(disk, memtable_size_bytes=150_000)
    assert_shows(recovered, state)
    assert recovered._memtable.size_bytes == db._memtable.size_bytes
    recovered.compact()
    assert_shows(recovered, state)
    recovered.close()


@pytest.mark.parametrize("counted", [True, False])
def test_sizes_are_those_of_one_write(open_db: OpenDb, counted: bool) -> None:
    """However a write was gathered, it counts what its frame holds."""
    staged, plain = (open_db(path, counted=counted, **ROOMY) for path in ("/stores/a", "/stores/b"))
    for db in (staged, plain):
        db.put(b"old", b"1")
        db.put(b"gone", b"1")
    parts: list[Changes] = [{b"old": b"22", b"new": b"3"}, {b"new": b"4444", b"gone": None}, {b"x": b"5"}]
    for part in parts[:2]:
        staged.stage(batch_of(part))
    staged.write(batch_of(parts[2]))
    plain.write(*map(batch_of, parts))
    assert memtable_of(staged) == memtable_of(plain)
    assert staged.stats().user_bytes == plain.stats().user_bytes


def test_words_about_existence_speak_of_the_moment_of_staging(open_db: OpenDb) -> None:
    db = open_db(**ROOMY)
    db.put(b"a", b"1")
    db.flush()
    with_looks = db.view.exists_below
    db.stage(batch_of({b"a": None}))
    batch = engine.Batch()
    batch.put(b"a", b"2", existed=False)
    batch.put(b"b", b"1", existed=False)
    db.stage(batch)
    batch.clear()
    batch.delete(b"b", existed=True)
    db.stage(batch)
    db.write()
    assert with_looks(b"a")
    assert_shows(db, {b"a": b"2"})
    assert_consistent(db)


def test_wrong_words_that_contradict_each_other_are_refused(open_db: OpenDb) -> None:
    """Two stages whose kinds cannot both be true: no frame could hold them."""
    db = open_db(**ROOMY)
    db.put(b"a", b"1")
    before = memtable_of(db)
    db.stage(batch_of({b"a": None}))
    db.stage(batch_of({b"a": b"2"}, {b"a": b"wrong: it was removed"}))
    with pytest.raises(ValueError, match=r"told wrongly whether b'a' existed"):
        db.write()
    assert memtable_of(db) == before
    assert_shows(db, {b"a": b"1"})


# -- discards --------------------------------------------------------------------------------------------


def test_discards_wait_for_the_write(db: engine.Database) -> None:
    for i in range(5):
        db.put(b"d%d" % i, b"x")
    batch = batch_of({b"a": b"1"})
    batch.discard(b"d", b"e")
    db.stage(batch)
    batch.clear()
    assert db.count(b"d", b"e") == 5
    db.unstage()
    assert db.count() == 5
    assert_consistent(db)
    batch.discard(b"d", b"e")
    db.stage(batch)
    batch.clear()
    db.write(batch_of({b"b": b"2"}))
    assert db.count(b"d", b"e") == 0
    assert_consistent(db)
    db.flush()
    assert list(db.scan()) == [(b"b", b"2")]


# -- what else may happen meanwhile ----------------------------------------------------------------------


@pytest.mark.parametrize("background", ["inline", "thread"])
def test_nothing_else_logs_or_seals_meanwhile(open_db: OpenDb, background: str) -> None:
    db = open_db(background=background, **ROOMY)
    db.put(b"a", b"1")
    log = db.logs.active.number
    refused: list[Callable[[], object]] = [
        lambda: db.put(b"b", b"2"),
        lambda: db.delete(b"a"),
        lambda: db.discard(b"x", b"y"),
        lambda: db.flush(),
        lambda: db.flush(wait=False),
        lambda: db.compact(),
        lambda: db.snapshot(),
        lambda: db.checkpoint("/stores/copy"),
        lambda: check_database(db),
    ]
    for end in (db.unstage, db.write):
        db.stage(batch_of({b"s": b"staged"}))
        for call in refused:
            with pytest.raises(ValueError, match="write or unstage what is staged first"):
                call()
        db.sync()
        db.wait_idle(1)
        assert db.logs.active.number == log
        assert len(db.view.memtables) == 1
        assert_shows(db, {b"a": b"1", b"s": b"staged"})
        end()
    with db.snapshot() as snapshot:
        assert list(snapshot.scan()) == [(b"a", b"1"), (b"s", b"staged")]
    db.checkpoint("/stores/copy")
    db.put(b"b", b"2")
    db.compact()
    assert_shows(db, {b"a": b"1", b"b": b"2", b"s": b"staged"})


def test_a_full_memtable_is_sealed_by_the_write(db: engine.Database) -> None:
    before = db._memtable
    for i in range(0, 300, 50):
        db.stage(batch_of({b"%03d" % j: b"v" for j in range(i, i + 50)}))
        db._seal_full()  # as another thread might, whose write has just ended
        assert db._memtable is before
    assert before.size_bytes > ROOMY["memtable_size_bytes"]
    db.write()
    assert db._memtable is not before
    assert_shows(db, {b"%03d" % i: b"v" for i in range(300)})


def test_closing_takes_back_what_is_staged(open_db: OpenDb) -> None:
    db = open_db(**ROOMY)
    db.put(b"a", b"1")
    db.stage(batch_of({b"%03d" % i: b"v" for i in range(300)}))  # enough to be flushed when closing
    db.close()
    db.unstage()
    with pytest.raises(engine.ClosedError):
        db.stage(batch_of({b"a": b"2"}))
    again = open_db(fs=db.fs, **ROOMY)
    assert_shows(again, {b"a": b"1"})


def test_a_reader_that_may_not_write_may_not_stage(open_db: OpenDb) -> None:
    db = open_db(**ROOMY)
    reader = open_db(fs=db.fs, read_only=True)
    with pytest.raises(engine.ReadOnlyError):
        reader.stage(batch_of({b"a": b"1"}))
    reader.unstage()


def test_other_threads_see_it_and_scans_go_on(open_db: OpenDb) -> None:
    """Scans in another thread see each key that stays, once, whatever is staged and taken back."""
    db = open_db(background="thread", memtable_size_bytes=8000)
    state = {b"%04d" % i: b"v" for i in range(0, 400, 2)}
    db.write(batch_of(state))
    problems: list[object] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            keys = [key for key, _ in db.scan()]
            if [key for key in keys if int(key) % 2 == 0] != sorted(state) or keys != sorted(set(keys)):
                problems.append(keys)

    reader = threading.Thread(target=read)
    reader.start()
    random = Random(1)
    try:
        for i in range(150):
            for _ in range(3):
                odd = (b"%04d" % (2 * random.randrange(200) + 1) for _ in range(5))
                db.stage(batch_of({key: random.choice((b"w", None)) for key in odd}))
                db.count(b"0100", b"0300")
            if i % 2:
                db.write(batch_of({random.choice(sorted(state)): b"v"}))
            else:
                db.unstage()
    finally:
        done.set()
        reader.join()
    assert not problems
    assert db.wait_idle(20)


# -- failures --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("torn_bytes", [None, 5, 40])
def test_a_refused_log_takes_everything_back(open_db: OpenDb, counted: bool, torn_bytes: int | None) -> None:
    disk = MemoryFileSystem()
    fs = FaultFileSystem(disk)
    db = open_db(fs=fs, counted=counted, **ROOMY)
    state = {b"%02d" % i: b"x" for i in range(10)}
    db.write(batch_of(state))
    before = memtable_of(db)
    for _ in range(3):
        db.stage(batch_of({b"01": None, b"aa": b"1"}))
        db.stage(batch_of({b"02": b"y", b"aa": None}))
        assert db.count() == 9
        fs.plan = fail_when(is_write, errno.EIO)
        if torn_bytes is not None:
            fs.plan = inject_when(is_write, torn_write(torn_bytes, errno.EIO))
        with pytest.raises(OSError, match="Input/output error"):
            db.write(batch_of({b"03": None}))
        fs.plan = no_faults
        assert memtable_of(db) == before
        assert_shows(db, state)
        assert_consistent(db)
    db.stage(batch_of({b"01": None}))
    db.write(batch_of({b"02": None}))
    del state[b"01"], state[b"02"]
    assert_shows(db, state)
    assert_consistent(db)
    recovered = reopened(disk, **ROOMY)
    assert_shows(recovered, state)
    recovered.close()


def test_a_full_disk_is_survived(open_db: OpenDb) -> None:
    disk = MemoryFileSystem()
    fs = FaultFileSystem(disk, disk_full(6000))
    db = open_db(fs=fs)
    state: State = {}
    random = Random(3)
    failures = 0
    for i in range(200):
        after = state
        for _ in range(2):
            changes = {
                b"%03d" % random.randrange(100): random.choice((None, b"v" * random.randrange(30)))
                for _ in range(4)
            }
            db.stage(batch_of(changes, after))
            after = changed(after, changes)
        try:
            db.write()
            state = after
        except OSError:
            failures += 1
            if failures == 5:
                fs.plan = no_faults
                db.resume()
        if i % 10 == 0:
            assert_shows(db, state)
    assert failures >= 5
    assert_shows(db, state)
    recovered = reopened(disk)
    assert_shows(recovered, state)
    recovered.close()


def test_writes_that_fail_for_hours_take_no_memory(open_db: OpenDb) -> None:
    """A server on a full disk goes on gathering writes, each time with new keys."""
    for look in (False, True):
        db = open_db(f"/stores/{look}", **ROOMY)
        for i in range(100):
            if look:
                db.count()
            db.stage(batch_of({b"%d %d" % (i, j): b"" for j in range(100)}))
            db.unstage()
        assert len(db._memtable.came) < 2000
        assert_shows(db, {})


def test_a_write_too_large_for_a_frame_takes_everything_back(
    db: engine.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lamina.engine.batch.BATCH_SIZE_MAX", 1000)
    db.put(b"a", b"1")
    before = memtable_of(db)
    db.stage(batch_of({b"b": bytes(600), b"c": b""}))
    with pytest.raises(ValueError, match="larger than 1000: divide it"):
        db.write(batch_of({b"d": bytes(600)}))
    assert memtable_of(db) == before
    assert_shows(db, {b"a": b"1"})


def test_waiting_for_room_in_vain_takes_everything_back(
    db: engine.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(size_bytes: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    db.put(b"a", b"1")
    before = memtable_of(db)
    db.stage(batch_of({b"b": b"2"}))
    monkeypatch.setattr(db, "_stall", 1.0)
    monkeypatch.setattr(db, "_wait_for_room", refuse)
    with pytest.raises(OSError, match="No space"):
        db.write()
    monkeypatch.undo()
    assert memtable_of(db) == before
    db.put(b"b", b"3")


def test_a_failed_sync_finds_it_logged(open_db: OpenDb) -> None:
    disk = MemoryFileSystem()
    fs = FaultFileSystem(disk)
    db = open_db(fs=fs, sync="always", **ROOMY)
    db.stage(batch_of({b"a": b"1"}))
    fs.plan = inject_when(lambda operation: operation.kind == "sync", failed_sync())
    with pytest.raises(engine.PoisonedError):
        db.write(batch_of({b"b": b"2"}))
    fs.plan = no_faults
    assert_shows(db, {b"a": b"1", b"b": b"2"})
    with pytest.raises(engine.PoisonedError):
        db.stage(batch_of({b"c": b"3"}))
    recovered = reopened(disk, **ROOMY)
    assert_shows(recovered, {b"a": b"1", b"b": b"2"})
    recovered.close()


def test_writes_refused_meanwhile_take_everything_back(open_db: OpenDb) -> None:
    """The fsync of an earlier write fails after the stage and before the write."""
    fs = FaultFileSystem(MemoryFileSystem())
    db = open_db(fs=fs, sync="everysec", **ROOMY)
    db.put(b"a", b"1")
    db.stage(batch_of({b"b": b"2"}))
    fs.plan = inject_when(lambda operation: operation.kind == "sync", failed_sync())
    with pytest.raises(engine.PoisonedError):
        db.sync()
    fs.plan = no_faults
    with pytest.raises(engine.PoisonedError):
        db.write()
    assert_shows(db, {b"a": b"1"})
    with db.snapshot() as snapshot:
        assert list(snapshot.scan()) == [(b"a", b"1")]


@pytest.mark.parametrize("after_bytes", [0, 1])
def test_an_interrupted_stage_is_taken_back_alone(
    db: engine.Database, monkeypatch: pytest.MonkeyPatch, after_bytes: int
) -> None:
    store = Memtable.store

    def interrupted(memtable: Memtable, entries: Changes, places: bytes, size_bytes: int) -> None:
        store(memtable, entries if after_bytes else dict([*entries.items()][:1]), places, size_bytes)
        raise KeyboardInterrupt

    db.put(b"a", b"1")
    before = memtable_of(db)
    for earlier in ({}, {b"b": b"2"}):
        db.stage(batch_of(earlier))
        with monkeypatch.context() as patch:
            patch.setattr(Memtable, "store", interrupted)
            with pytest.raises(KeyboardInterrupt):
                db.stage(batch_of({b"a": None, b"b": b"3"}))
        assert_shows(db, {b"a": b"1"} | earlier)
    db.unstage()
    assert memtable_of(db) == before
    db.put(b"c", b"3")
    assert_consistent(db)


def test_an_interrupted_undo_ends_writing(db: engine.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    db.put(b"a", b"1")
    before = memtable_of(db)
    db.stage(batch_of({b"a": b"2"}))
    with monkeypatch.context() as patch:
        patch.setattr(Memtable, "restore", interrupted)
        with pytest.raises(KeyboardInterrupt):
            db.unstage()
    with pytest.raises(engine.PoisonedError, match="interrupted"):
        db.write()
    assert memtable_of(db) == before


def test_an_interruption_around_the_log(open_db: OpenDb, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the log is written it does no harm; from then on nobody knows, and writing ends."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    disk = MemoryFileSystem()
    db = open_db(fs=disk, **ROOMY)
    db.put(b"a", b"1")
    before = memtable_of(db)
    db.stage(batch_of({b"a": None}))
    with monkeypatch.context() as patch:
        patch.setattr("lamina.engine.writing.encode_writes", interrupted)
        with pytest.raises(KeyboardInterrupt):
            db.write()
    assert memtable_of(db) == before
    db.stage(batch_of({b"a": None}))
    append = db.logs.append

    def append_and_stop(payload: bytes) -> None:
        append(payload)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(db.logs, "append", append_and_stop)
        with pytest.raises(KeyboardInterrupt):
            db.write()
    with pytest.raises(engine.PoisonedError, match="interrupted"):
        db.write(batch_of({b"b": b"2"}))
    db.unstage()
    recovered = reopened(disk, **ROOMY)
    assert_shows(recovered, {})
    recovered.close()


# -- crashes ---------------------------------------------------------------------------------------------


def crashes(fs: FaultFileSystem, disk: MemoryFileSystem, clones: list[MemoryFileSystem]) -> None:
    """Keep what a kill at each operation from now on would leave."""

    def plan(operation: Operation) -> None:
        clones.append(disk.process_crash_clone())

    fs.plan = plan


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("sync", ["always", "no"])
def test_a_crash_leaves_a_whole_frame_or_none(open_db: OpenDb, counted: bool, sync: str) -> None:
    """Killed at every operation, and in the middle of every write of the log."""
    disk = MemoryFileSystem()
    fs = FaultFileSystem(disk)
    clones: list[MemoryFileSystem] = []
    db = open_db(fs=fs, counted=counted, sync=sync)
    states: list[State] = [{}]
    bounds: list[int] = []
    crashes(fs, disk, clones)
    random = Random(4)
    for _ in range(25):
        state = states[-1]
        for last in (False, False, True):
            changes = {b"%02d" % random.randrange(30): random.choice((None, b"v" * 20)) for _ in range(4)}
            batch = batch_of(changes, state)
            state = changed(state, changes)
            if last:
                states.append(state)
                db.write(batch)
            else:
                db.stage(batch)
        bounds.append(len(clones))
    assert len(clones) > 100
    steps = iter(range(len(bounds)))
    step = next(steps)
    for i, clone in enumerate(clones):
        while i >= bounds[step]:
            step = next(steps)
        for found in left(clone, clones[i + 1] if i + 1 < len(clones) else None):
            recovered = engine.open(PATH, fs=found, **TINY | {"sync": sync})
            entries = dict(recovered.scan())
            assert entries in (states[step], states[step + 1]), f"operation {i}"
            assert recovered.count() == len(entries)
            recovered.close()


def left(clone: MemoryFileSystem, following: MemoryFileSystem | None) -> Iterator[MemoryFileSystem]:
    """Yield what a kill leaves, also in the middle of an append to the log."""
    after = {} if following is None else following.files()
    for path, data in clone.files().items():
        grown = after.get(path, b"")[len(data) :]
        if path.endswith(".wal") and data and after.get(path, b"").startswith(data):
            for size in {1, len(grown) // 2, len(grown) - 1}:
                if 0 < size < len(grown):
                    yield clone.process_crash_clone(in_flight={path: grown[:size]})
    yield clone


def test_on_a_real_disk_with_a_worker_process(tmp_path: Path) -> None:
    options: dict[str, Any] = {"memory": 1 << 20, "memtable_size_bytes": 4000, "sync": "no"}
    random = Random(6)
    state: State = {}
    for _ in range(2):
        with engine.open(tmp_path / "db", **options) as db:
            for _ in range(100):
                for _ in range(3):
                    changes = {
                        b"%03d" % random.randrange(200): random.choice((None, b"v" * random.randrange(50)))
                        for _ in range(5)
                    }
                    db.stage(batch_of(changes, state))
                    state = changed(state, changes)
                    assert db.count() == len(state)
                db.write()
            assert db.wait_idle(30)
            assert_shows(db, state)
            assert_consistent(db)
            db.stage(batch_of({b"never": b"logged"}))


# -- the memtable's two ways of taking writes in ---------------------------------------------------------


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_storing_does_what_replaying_does(counted: bool, seed: int, open_db: OpenDb) -> None:
    """`store` goes by places and `apply`, on replay, by kinds: they must lead to the same memtable."""
    random = Random(seed)
    lock = threading.Lock()
    stored, applied = (Memtable(counted=counted, lock=lock) for _ in range(2))
    below = {b"%02d" % i for i in range(0, 60, 3)}
    db = open_db(counted=counted, memtable_size_bytes=20_000)
    db.write(batch_of(dict.fromkeys(below, b"below")))
    db.flush()
    for _ in range(60):
        names = [b"%02d" % random.randrange(60) for _ in range(random.choice((1, 3, 20)))]
        share = random.choice((0, 0.3, 1))
        entries: Changes = {
            k: None if random.random() < share else b"%d" % random.randrange(99) for k in names
        }
        resolved, places, kinds = resolve(entries, {}, stored, db.view)
        keys, values = columns(resolved, kinds)
        size_bytes = sum(map(len, keys)) + sum(map(len, values))
        before = stored.before(list(entries))
        stored.store(resolved, places, size_bytes)
        if random.random() < 0.3:
            stored.delta_between(b"2", b"4")
        if random.random() < 0.3:
            stored.restore(before)
        else:
            applied.apply(keys, values, kinds)
        assert (stored.inserted, stored.based) == (applied.inserted, applied.based)
        assert stored.size_bytes == applied.size_bytes
        if random.random() < 0.5:
            stored.check()
    stored.check()

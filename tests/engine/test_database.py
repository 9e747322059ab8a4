"""The interface of a database: reading, writing, ranges, misuse, closing. Other stories have files of their
own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import lamina.engine as engine
from harness.databases import PATH, OpenDb
from harness.fault_filesystem import FaultFileSystem, failed_sync, inject_when
from harness.memory_filesystem import MemoryFileSystem
from lamina.engine.errors import ClosedError, LockedError, PoisonedError, ReadOnlyError
from lamina.engine.reading import prefix_end

KEYS = [b"", b"\0", b"a", b"aa", b"ab", b"b", b"\xfe", b"\xff", b"\xff\xff", b"\xff\xff\0", b"\xff\xff\xff"]


@pytest.fixture(params=[True, False], ids=["counted", "uncounted"])
def db(request: pytest.FixtureRequest, open_db: OpenDb) -> engine.Database:
    return open_db(counted=request.param)


def spread(db: engine.Database, items: dict[bytes, bytes]) -> None:
    """Store items so that they end up in several layers, with stale values and tombstones below them."""
    for number, (key, value) in enumerate(items.items()):
        db.put(key, b"stale")
        if number % 3 == 0:
            db.flush()
            db.delete(key)
        if number % 4 == 0:
            db.flush()
        db.put(key, value)
    db.put(b"gone", b"x")
    db.flush()
    db.delete(b"gone")


# -- one key -------------------------------------------------------------------------------------------


def test_get_put_delete(db: engine.Database) -> None:
    assert db.get(b"k") is None
    assert db.get(b"k", b"default") == b"default"
    db.put(b"k", b"v")
    assert db.get(b"k") == db[b"k"] == b"v"
    assert b"k" in db
    db[b"k"] = b"w"
    assert db.get(b"k", b"default") == b"w"
    del db[b"k"]
    assert b"k" not in db
    db.delete(b"k")
    del db[b"k"]
    with pytest.raises(KeyError) as caught:
        db[b"k"]
    assert caught.value.args == (b"k",)


def test_an_empty_value_is_a_value(db: engine.Database) -> None:
    db.put(b"k", b"")
    for _ in range(2):
        assert db.get(b"k", b"default") == b""
        assert b"k" in db
        assert list(db.scan()) == [(b"k", b"")]
        db.flush()


def test_every_layer_answers(db: engine.Database) -> None:
    items = {b"k%02d" % n: b"v%d" % n for n in range(40)}
    spread(db, items)
    for key, value in items.items():
        assert db.get(key) == value
    assert db.get(b"gone") is None
    assert dict(db.scan()) == items


# -- batches -------------------------------------------------------------------------------------------


def test_a_batch_is_written_when_its_block_ends(db: engine.Database) -> None:
    with db.batch() as batch:
        batch.put(b"a", b"1")
        batch.put(b"b", b"2")
        batch.delete(b"a")
        assert list(db.scan()) == []
    assert list(db.scan()) == [(b"b", b"2")]


def test_a_batch_whose_block_fails_is_not_written(db: engine.Database) -> None:
    def fail() -> None:
        with db.batch() as batch:
            batch.put(b"a", b"1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert b"a" not in db


def test_several_batches_are_one_write(db: engine.Database) -> None:
    first, second, third = engine.Batch(), engine.Batch(), engine.Batch()
    first.put(b"a", b"1")
    first.put(b"b", b"1")
    second.delete(b"a")
    second.put(b"c", b"2")
    third.put(b"c", b"3")
    third.delete(b"never there")
    db.write(first, second, third)
    assert list(db.scan()) == [(b"b", b"1"), (b"c", b"3")]
    assert db.count() == 2
    db.write()
    db.write(engine.Batch())


def test_hints_about_existence_are_the_first_of_several_batches(open_db: OpenDb) -> None:
    db = open_db()
    db.put(b"old", b"0")
    db.flush()
    first, second = engine.Batch(), engine.Batch()
    first.put(b"new", b"1", existed=False)
    first.delete(b"old", existed=True)
    second.put(b"new", b"2", existed=True)
    second.put(b"old", b"2", existed=False)
    db.write(first, second)
    assert list(db.scan()) == [(b"new", b"2"), (b"old", b"2")]
    assert db.count() == 2


def test_a_batch_may_be_written_again(db: engine.Database) -> None:
    batch = engine.Batch()
    batch.put(b"a", b"1")
    db.write(batch)
    db.delete(b"a")
    db.write(batch)
    assert db[b"a"] == b"1"
    batch.clear()
    db.write(batch)
    assert db.count() == 1


# -- ranges --------------------------------------------------------------------------------------------


@pytest.fixture
def items(db: engine.Database) -> dict[bytes, bytes]:
    items = {key: b"value of " + key for key in KEYS}
    spread(db, items)
    return items


def pick(items: dict[bytes, bytes], start: bytes | None, stop: bytes | None) -> list[tuple[bytes, bytes]]:
    return [e for e in sorted(items.items()) if e[0] >= (start or b"") and (stop is None or e[0] < stop)]


BOUNDS = [None, *KEYS, b"zz", b"\xff\xff\xff\xff"]


@pytest.mark.parametrize("start", BOUNDS)
def test_scan_variants(db: engine.Database, items: dict[bytes, bytes], start: bytes | None) -> None:
    for stop in BOUNDS:
        expected = pick(items, start, stop)
        assert list(db.scan(start, stop)) == expected
        assert list(db.scan(start, stop, reverse=True)) == expected[::-1]
        assert db.count(start, stop) == len(expected)
        for limit in (0, 1, 3, 100):
            assert list(db.scan(start, stop, limit=limit)) == expected[:limit]
            assert list(db.scan(start, stop, limit=limit, reverse=True)) == expected[::-1][:limit]
        chunks = [list(zip(*chunk, strict=True)) for chunk in db.scan_chunks(start, stop)]
        assert [entry for chunk in chunks for entry in chunk] == expected
        chunks = [list(zip(*chunk, strict=True)) for chunk in db.scan_chunks(start, stop, reverse=True)]
        assert [entry for chunk in chunks for entry in chunk] == expected[::-1]
        for n in range(-1, len(expected) + 1):
            item = expected[n] if 0 <= n < len(expected) else None
            assert db.select(start, stop, n) == item
            item = expected[-1 - n] if 0 <= n < len(expected) else None
            assert db.select(start, stop, n, reverse=True) == item


@pytest.mark.parametrize("prefix", [b"", b"a", b"ab", b"\xff", b"\xff\xff", b"\xff\xff\xff", b"x", b"\xfe"])
def test_prefixes(db: engine.Database, items: dict[bytes, bytes], prefix: bytes) -> None:
    expected = [entry for entry in sorted(items.items()) if entry[0].startswith(prefix)]
    assert list(db.scan(prefix=prefix)) == expected
    assert list(db.scan(prefix=prefix, reverse=True)) == expected[::-1]
    assert list(db.scan(prefix=prefix, limit=1)) == expected[:1]
    assert db.count(prefix=prefix) == len(expected)
    for bound in KEYS:
        narrowed = [entry for entry in expected if entry[0] >= bound]
        assert list(db.scan(bound, prefix=prefix)) == narrowed
        assert list(db.scan(None, bound, prefix=prefix)) == [e for e in expected if e[0] < bound]
        assert db.count(bound, prefix=prefix) == len(narrowed)


def test_prefix_end() -> None:
    assert prefix_end(b"") is None
    assert prefix_end(b"\xff\xff") is None
    assert prefix_end(b"a") == b"b"
    assert prefix_end(b"a\xff") == b"b"
    assert prefix_end(b"a\xff\0") == b"a\xff\1"


def test_rank(db: engine.Database, items: dict[bytes, bytes]) -> None:
    for key in (*KEYS, b"aaa", b"zzz"):
        assert db.rank(key) == len(pick(items, None, key))
        assert db.rank(key, b"ab") == len(pick(items, b"ab", key))


def test_a_scan_is_not_disturbed_by_what_happens_meanwhile(open_db: OpenDb) -> None:
    db = open_db(background="thread")
    items = {b"k%03d" % n: b"v%d" % n for n in range(300)}
    for key, value in items.items():
        db.put(key, value)
    for reverse in (False, True):
        seen = []
        for number, (key, value) in enumerate(db.scan(reverse=reverse)):
            seen.append((key, value))
            db.put(b"k%03dx" % (number * 7 % 300), b"guest" * 20)
            if number == 100:
                db.compact()
        seen = [entry for entry in seen if entry[1] != b"guest" * 20]
        assert seen == sorted(items.items(), reverse=reverse)


# -- misuse --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["text", 5, 1.5, ("a",)])
def test_only_bytes(db: engine.Database, wrong: Any) -> None:
    calls: list[Callable[[], object]] = [
        lambda: db.get(wrong),
        lambda: db[wrong],
        lambda: wrong in db,
        lambda: db.put(wrong, b""),
        lambda: db.put(b"", wrong),
        lambda: db.delete(wrong),
        lambda: db.scan(wrong),
        lambda: db.scan(None, wrong),
        lambda: db.scan(prefix=wrong),
        lambda: db.count(wrong),
        lambda: db.rank(wrong),
        lambda: db.select(wrong, None, 0),
        lambda: db.discard(wrong, b"b"),
        lambda: db.compact(wrong),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=f"must be bytes, not {type(wrong).__name__}"):
            call()
    nothing: Any = None
    for call in (lambda: db.get(nothing), lambda: db.put(nothing, b""), lambda: db.put(b"", nothing)):
        with pytest.raises(TypeError, match="must be bytes, not NoneType"):
            call()
    assert db.count() == 0


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_what_is_like_bytes_will_do(db: engine.Database, kind: Any) -> None:
    key = bytearray(b"key")
    db.put(kind(key), kind(b"value"))
    key[0] = 0
    assert db[kind(b"key")] == b"value"
    assert kind(b"key") in db
    assert list(db.scan(kind(b"k"), kind(b"l"))) == [(b"key", b"value")]
    assert db.count(prefix=kind(b"k")) == 1
    db.delete(kind(b"key"))
    assert db.count() == 0


def test_numbers_are_checked(db: engine.Database) -> None:
    with pytest.raises(ValueError, match="limit must not be negative"):
        db.scan(limit=-1)
    for wrong in ("1", 1.0, None, True):
        with pytest.raises(TypeError, match="a position must be an integer"):
            db.select(None, None, wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must begin before it ends"):
        db.discard(b"b", b"a")


def uses(db: engine.Database) -> dict[str, Callable[[], object]]:
    return {
        "get": lambda: db.get(b"k"),
        "in": lambda: b"k" in db,
        "scan": lambda: list(db.scan()),
        "scan_chunks": lambda: list(db.scan_chunks()),
        "count": db.count,
        "rank": lambda: db.rank(b"k"),
        "select": lambda: db.select(None, None, 0),
        "snapshot": db.snapshot,
        "checkpoint": lambda: db.checkpoint("/elsewhere"),
        "stats": db.stats,
        "sync": db.sync,
        "wait_idle": db.wait_idle,
    }


def changes(db: engine.Database) -> dict[str, Callable[[], object]]:
    batch = engine.Batch()
    batch.put(b"k", b"v")
    return {
        "put": lambda: db.put(b"k", b"v"),
        "delete": lambda: db.delete(b"k"),
        "write": lambda: db.write(batch),
        "discard": lambda: db.discard(b"a", b"b"),
        "flush": db.flush,
        "compact": db.compact,
        "pause": db.pause,
        "resume": db.resume,
    }


def test_a_closed_database_says_so(db: engine.Database) -> None:
    db.put(b"k", b"v")
    db.close()
    db.close()
    for name, use in (uses(db) | changes(db)).items():
        with pytest.raises(ClosedError, match="the database is closed"):
            use()
        assert name


def test_a_read_only_database_reads(open_db: OpenDb) -> None:
    writer = open_db()
    for n in range(100):
        writer.put(b"k%03d" % n, b"v")
    reader = open_db(fs=writer.fs, read_only=True)
    writer.put(b"k", b"later")
    before = writer.fs.files()  # type: ignore[attr-defined]
    for use in uses(reader).values():
        use()
    for name, change in changes(reader).items():
        with pytest.raises(ReadOnlyError, match="read_only=True"):
            change()
        assert name
    assert reader.count() == 100
    assert reader.get(b"k") is None
    reader.close()
    after = writer.fs.files()  # type: ignore[attr-defined]
    assert {path: data for path, data in after.items() if path.startswith(PATH)} == before
    with pytest.raises(ClosedError):
        reader.count()


def test_with_closes(open_db: OpenDb) -> None:
    with open_db() as db:
        db.put(b"k", b"v")
    with pytest.raises(ClosedError):
        db.get(b"k")
    assert open_db(fs=db.fs)[b"k"] == b"v"


# -- opening -------------------------------------------------------------------------------------------


def test_options_of_opening(open_db: OpenDb) -> None:
    with pytest.raises(FileNotFoundError, match="there is no database here"):
        open_db(create=False)
    with pytest.raises(FileNotFoundError, match="there is no database here"):
        open_db(read_only=True)
    db = open_db(counted=False)
    assert db.counted is False
    with pytest.raises(LockedError, match="in use"):
        open_db(fs=db.fs)
    db.close()
    with pytest.raises(FileExistsError, match="error_if_exists"):
        open_db(fs=db.fs, error_if_exists=True)
    with pytest.raises(ValueError, match="created with counted=False"):
        open_db(fs=db.fs, counted=True)
    assert open_db(fs=db.fs, create=False).counted is False


def test_a_failed_opening_gives_the_lock_back(open_db: OpenDb) -> None:
    db = open_db()
    db.close()
    for _ in range(2):
        with pytest.raises(FileExistsError):
            open_db(fs=db.fs, error_if_exists=True)
    open_db(fs=db.fs)


def test_other_peoples_files_stay(tmp_path: Path) -> None:
    """Creating a database in a folder with `2024.jpg` in it removed the picture: its name began with a
    number."""
    strangers = ["2024.jpg", "7", "000001.walrus", "1.wal", "notes.txt", "\u00b2.txt", "backup.tmp"]
    for name in strangers:
        (tmp_path / name).write_bytes(b"precious")
    (tmp_path / "12").mkdir()
    for _ in range(3):
        with engine.open(tmp_path, background="inline", memtable_size_bytes=500) as db:
            for n in range(50):
                db.put(b"%d" % n, b"v")
            db.compact()
    for name in strangers:
        assert (tmp_path / name).read_bytes() == b"precious"
    assert (tmp_path / "12").is_dir()


@pytest.mark.parametrize("background", ["inline", "thread", "process"])
@pytest.mark.parametrize("sync", ["always", "everysec", "no"])
def test_everything_is_there_after_reopening(tmp_path: Path, background: Any, sync: Any) -> None:
    items = {b"key %04d" % n: b"value %d" % n * 5 for n in range(300)}
    for first in range(0, 300, 100):
        with engine.open(tmp_path, background=background, sync=sync, memtable_size_bytes=5000) as db:
            for key in sorted(items)[first : first + 100]:
                db.put(key, items[key])
    with engine.open(tmp_path, background=background) as db:
        assert dict(db.scan()) == items
        assert db.count() == 300
        db.compact()
        db.verify()
        assert dict(db.scan()) == items
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]


# -- a disk that fails ---------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["put", "write", "sync"])
def test_after_a_failed_fsync_writes_are_refused_and_reads_go_on(open_db: OpenDb, call: str) -> None:
    fs = FaultFileSystem(MemoryFileSystem())
    db = open_db(fs=fs, sync="no" if call == "sync" else "always")
    db.put(b"before", b"1")
    fs.plan = inject_when(lambda op: op.kind == "sync" and op.path.endswith(".wal"), failed_sync())
    batch = engine.Batch()
    batch.put(b"during", b"2")
    with pytest.raises(PoisonedError):
        {"put": lambda: db.put(b"during", b"2"), "write": lambda: db.write(batch), "sync": db.sync}[call]()
    fs.plan = lambda operation: None
    for n in range(3):
        with pytest.raises(PoisonedError, match="reopen"):
            db.put(b"after %d" % n, b"3")
        with pytest.raises(PoisonedError):
            db.sync()
        # A write that was refused may not show.
        assert db.get(b"after %d" % n) is None
    assert db[b"before"] == b"1"
    assert db.stats().write_error is not None
    db.close()
    assert open_db(fs=fs)[b"before"] == b"1"


# -- threads -------------------------------------------------------------------------------------------


def in_threads(*targets: Callable[[], None]) -> None:
    """Run functions at once; the first exception of any is raised."""
    errors: list[BaseException] = []

    def guarded(target: Callable[[], None]) -> None:
        try:
            target()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(target,)) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("background", ["inline", "thread", "process"])
@pytest.mark.parametrize("counted", [True, False])
def test_many_threads(tmp_path: Path, background: Any, counted: bool) -> None:
    """Each writer owns keys of its own and knows what they hold; readers see no impossible state."""
    writers, keys_each, rounds = 3, 50, 6
    db = engine.open(
        tmp_path, background=background, counted=counted, sync="no", memtable_size_bytes=8000,
        block_size_bytes=256, segment_size_bytes=4096, level_runs_max=2,
    )  # fmt: skip
    final: list[dict[bytes, bytes]] = [{} for _ in range(writers)]
    done = threading.Event()

    def write(number: int) -> None:
        mine = final[number]
        for step in range(rounds):
            batch = engine.Batch()
            for n in range(keys_each):
                key = b"%03d:%d" % (n, number)
                if (n * 7 + step * 3 + number) % 4 == 0:
                    mine.pop(key, None)
                    db.delete(key) if n % 2 else batch.delete(key)
                else:
                    mine[key] = b"%d:%d" % (step, n)
                    db.put(key, mine[key]) if n % 2 else batch.put(key, mine[key])
            db.write(batch)
            for n in range(keys_each):
                key = b"%03d:%d" % (n, number)
                assert db.get(key) == mine.get(key), key

    def read() -> None:
        while not done.is_set():
            keys = [key for key, _ in db.scan()]
            assert keys == sorted(set(keys))
            keys = [key for key, _ in db.scan(reverse=True)]
            assert keys == sorted(set(keys), reverse=True)
            with db.snapshot() as snapshot:
                items = list(snapshot.scan())
                assert snapshot.count() == len(items)
                assert list(snapshot.scan(reverse=True)) == items[::-1]
                if items:
                    assert snapshot.select(None, None, len(items) // 2) == items[len(items) // 2]
            assert 0 <= db.count() <= writers * keys_each

    def write_all() -> None:
        try:
            in_threads(*(partial(write, number) for number in range(writers)))
        finally:
            done.set()

    try:
        in_threads(write_all, read, read)
        expected = {key: value for mine in final for key, value in mine.items()}
        assert dict(db.scan()) == expected
        assert db.count() == len(expected)
        db.compact()
        assert dict(db.scan()) == expected
    finally:
        done.set()
        db.close()
    with engine.open(tmp_path, background="inline", read_only=True) as db:
        assert dict(db.scan()) == expected

"""The file systems keep their contract; those of the tests lose and fail exactly what they promise to."""

from __future__ import annotations

import errno
import itertools
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import pytest

from harness.contract import FileSystemContract, write_file
from harness.datadriven import Case, parse_cases, run_datadriven
from harness.fault_filesystem import (
    Fault,
    FaultFileSystem,
    Operation,
    Plan,
    SimulatedCrash,
    crash_at,
    disk_full,
    fail_after,
    fail_nth,
    fail_when,
    failed_sync,
    first_of,
    inject_nth,
    inject_when,
    no_faults,
    pause,
    quiet_crashes,
    short_write,
    torn_write,
)
from harness.memory_filesystem import MemoryFileSystem
from lamina.engine.errors import LockedError
from lamina.engine.filesystem import DiskFileSystem, FileSystem, read_file, write_all

SEEDS = range(200)


class TestDiskFileSystem(FileSystemContract):
    @pytest.fixture
    def fs(self) -> FileSystem:
        return DiskFileSystem()

    @pytest.fixture
    def root(self, tmp_path: Path) -> str:
        return str(tmp_path)


class TestMemoryFileSystem(FileSystemContract):
    @pytest.fixture
    def fs(self) -> FileSystem:
        return MemoryFileSystem()

    @pytest.fixture
    def root(self, fs: FileSystem) -> str:
        fs.make_directory("/db")
        return "/db"


class TestFaultFileSystem(TestMemoryFileSystem):
    @pytest.fixture
    def fs(self) -> FileSystem:
        return FaultFileSystem(MemoryFileSystem())


class TestFaultFileSystemOnDisk(TestDiskFileSystem):
    @pytest.fixture
    def fs(self) -> FileSystem:
        return FaultFileSystem(DiskFileSystem())


# Memory and disk do the same, whatever one does.


def outcome(call: Callable[[], object]) -> object:
    try:
        return call()
    except OSError as error:
        return error.errno


def random_operation(random: Random, fs: FileSystem, root: str) -> object:
    names = ["a", "b", "folder", "folder/a", "folder/deep", "folder/deep/b", "a/b"]
    path, other = (f"{root}/{random.choice(names)}" for _ in range(2))
    data = random.randbytes(random.randrange(20))
    size_bytes = random.randrange(30)

    def append() -> int:
        file = fs.open_append(path)
        try:
            return file.write(data)
        finally:
            file.close()

    def truncate() -> None:
        file = fs.open_append(path)
        try:
            file.truncate(size_bytes)
        finally:
            file.close()

    return outcome(
        random.choice(
            [
                lambda: fs.create(path).close(),
                append,
                append,
                truncate,
                lambda: read_file(fs, path),
                lambda: fs.exists(path),
                lambda: fs.list_directory(path),
                lambda: fs.make_directory(path),
                lambda: fs.remove(path),
                lambda: fs.remove_directory(path),
                lambda: fs.replace(path, other),
                lambda: fs.link(path, other),
                lambda: fs.sync_directory(path),
            ]
        )
    )


@pytest.mark.parametrize("seed", range(20))
def test_memory_does_what_a_disk_does(tmp_path: Path, seed: int) -> None:
    memory, faults = MemoryFileSystem(), FaultFileSystem(MemoryFileSystem())
    memory.make_directory("/db")
    faults.make_directory("/db")
    randoms = [Random(seed) for _ in range(3)]
    for _ in range(400):
        on_disk = random_operation(randoms[0], DiskFileSystem(), str(tmp_path))
        assert random_operation(randoms[1], memory, "/db") == on_disk
        assert random_operation(randoms[2], faults, "/db") == on_disk
    found = {path: tmp_path.joinpath(path.removeprefix("/db/")).read_bytes() for path in memory.files()}
    assert memory.files() == found
    assert len(found) == sum(path.is_file() for path in tmp_path.rglob("*"))
    sizes = {path.stat().st_ino: path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()}
    assert faults.used_bytes() == sum(sizes.values())


# What a crash leaves.


def database() -> MemoryFileSystem:
    fs = MemoryFileSystem()
    fs.make_directory("/db")
    fs.sync_directory("/")
    return fs


def losses(fs: MemoryFileSystem, path: str = "/db/a") -> set[bytes | None]:
    """Return all that power losses leave of a file."""
    return {fs.power_loss_clone(seed).files().get(path) for seed in SEEDS}


def test_a_killed_process_loses_no_write() -> None:
    fs = database()
    lock = fs.lock("/db/LOCK")
    write_file(fs, "/db/a", b"unsynced", sync=False)
    fs.link("/db/a", "/db/b")
    clone = fs.process_crash_clone()
    assert clone.files() == fs.files()
    assert clone.boot_id() == fs.boot_id()
    clone.lock("/db/LOCK").release()
    with pytest.raises(LockedError):
        fs.lock("/db/LOCK")
    lock.release()

    # The two go different ways from here, and links are still links.
    file = clone.open_append("/db/b")
    file.write(b" more")
    assert clone.files()["/db/a"] == b"unsynced more"
    assert fs.files()["/db/a"] == b"unsynced"


def test_a_killed_process_may_tear_the_write_in_flight() -> None:
    fs = database()
    write_file(fs, "/db/a", b"done")
    clone = fs.process_crash_clone(in_flight={"/db/a": b"tor"})
    assert clone.files() == {"/db/a": b"donetor"}
    assert fs.files() == {"/db/a": b"done"}
    with pytest.raises(FileNotFoundError):
        fs.process_crash_clone(in_flight={"/db/b": b"x"})


def test_what_a_kill_leaves_is_still_unsynced() -> None:
    fs = database()
    write_file(fs, "/db/a", b"unsynced", sync=False)
    assert fs.process_crash_clone().power_loss_clone(0, unsynced_percent=0).files() == {}


def test_power_loss_keeps_what_was_synced() -> None:
    fs = database()
    file = fs.create("/db/a")
    file.write(b"synced")
    file.sync()
    fs.sync_directory("/db")
    file.write(b"unsynced")
    for seed in SEEDS:
        found = fs.power_loss_clone(seed).files()["/db/a"]
        assert found.startswith(b"synced")
        assert len(found) <= len(b"syncedunsynced")
    assert fs.power_loss_clone(1, unsynced_percent=0).files() == {"/db/a": b"synced"}
    assert fs.power_loss_clone(1, unsynced_percent=100).files() == fs.files()


def test_power_loss_is_decided_by_the_seed_and_leaves_the_original_alone() -> None:
    fs = database()
    for name in "abc":
        write_file(fs, f"/db/{name}", b"data" * 10, sync=False)
    before = fs.files()
    clones = [fs.power_loss_clone(seed) for seed in SEEDS]
    assert [clone.files() for clone in clones] == [fs.power_loss_clone(seed).files() for seed in SEEDS]
    assert len({str(clone.files()) for clone in clones}) > 50
    assert fs.files() == before
    ids = [fs.boot_id()] + [clone.boot_id() for clone in clones]
    assert len(set(ids)) == len(ids)
    assert {len(boot_id) for boot_id in ids} == {16}
    assert fs.power_loss_clone(1).power_loss_clone(1).boot_id() != fs.power_loss_clone(1).boot_id()


def test_nothing_is_volatile_after_a_power_loss() -> None:
    fs = database()
    write_file(fs, "/db/a", b"data" * 10, sync=False)
    fs.make_directory("/db/folder")
    for seed in SEEDS:
        clone = fs.power_loss_clone(seed)
        assert clone.power_loss_clone(0, unsynced_percent=0).files() == clone.files()
        assert clone.power_loss_clone(0, unsynced_percent=0).exists("/db/folder") == clone.exists(
            "/db/folder"
        )


def test_power_loss_of_writes_takes_every_form() -> None:
    fs = database()
    file = fs.create("/db/a")
    fs.sync_directory("/db")
    for data in (b"AAAA", b"BBBB", b"CCCC"):
        file.write(data)
    found = losses(fs)
    prefixes = {b"AAAABBBBCCCC"[:size] for size in range(13)}
    subsets = {
        b"".join(
            data if kept else bytes(4) for data, kept in zip((b"AAAA", b"BBBB", b"CCCC"), choice)
        ).rstrip(b"\0")
        for choice in itertools.product((False, True), repeat=3)
    }
    assert found == prefixes | subsets


def test_power_loss_of_one_large_write_leaves_any_of_its_pages() -> None:
    fs = database()
    file = fs.create("/db/a")
    file.write(b"head")
    file.sync()
    fs.sync_directory("/db")
    file.write(b"x" * 8192)
    hole = b"head" + bytes(4092) + b"x" * 4096
    found = losses(fs)
    assert {b"head", b"head" + b"x" * 8192, hole, hole + b"xxxx", b"head" + b"x" * 4092} <= found
    assert all(data is not None and data.startswith(b"head") for data in found)


def test_power_loss_may_undo_a_truncate() -> None:
    fs = database()
    file = fs.create("/db/a")
    file.write(b"0123456789")
    file.sync()
    fs.sync_directory("/db")
    file.truncate(4)
    assert losses(fs) == {b"0123456789", b"0123"}
    file.write(b"ab")
    # Truncate and write in order, neither, or only the write.
    assert losses(fs) == {b"0123456789", b"0123", b"0123a", b"0123ab", b"0123ab6789"}
    file.sync()
    assert losses(fs) == {b"0123ab"}


def test_a_sync_is_for_the_file_not_the_handle() -> None:
    fs = database()
    writer, syncer = fs.create("/db/a"), fs.open_append("/db/a")
    fs.sync_directory("/db")
    writer.write(b"data")
    writer.close()
    syncer.sync()
    assert losses(fs) == {b"data"}


def test_names_need_their_folder_synced() -> None:
    fs = database()
    write_file(fs, "/db/a", b"data")
    assert losses(fs) == {None, b"data"}
    fs.sync_directory("/")
    assert losses(fs) == {None, b"data"}
    fs.sync_directory("/db")
    assert losses(fs) == {b"data"}
    fs.remove("/db/a")
    assert losses(fs) == {None, b"data"}
    fs.sync_directory("/db")
    assert losses(fs) == {None}


def test_a_folder_needs_its_parent_synced() -> None:
    fs = MemoryFileSystem()
    fs.make_directory("/x/db")
    write_file(fs, "/x/db/a", b"data")
    fs.sync_directory("/x/db")
    fs.sync_directory("/x")
    assert losses(fs, "/x/db/a") == {None, b"data"}
    fs.sync_directory("/")
    assert losses(fs, "/x/db/a") == {b"data"}


def test_name_changes_of_a_folder_survive_as_a_prefix() -> None:
    fs = database()
    for name in "abc":
        write_file(fs, f"/db/{name}", b"")
    fs.remove("/db/b")
    fs.link("/db/a", "/db/d")
    history = [[], ["a"], ["a", "b"], ["a", "b", "c"], ["a", "c"], ["a", "c", "d"]]
    found = [fs.power_loss_clone(seed).list_directory("/db") for seed in SEEDS]
    assert all(names in found for names in history)
    assert all(names in history for names in found)


def test_a_file_made_and_removed_may_come_back() -> None:
    fs = database()
    write_file(fs, "/db/a", b"data")
    fs.remove("/db/a")
    assert losses(fs) == {None, b"data"}


def test_replace_is_atomic_and_volatile() -> None:
    fs = database()
    write_file(fs, "/db/a", b"old")
    write_file(fs, "/db/a.tmp", b"new")
    fs.sync_directory("/db")
    fs.replace("/db/a.tmp", "/db/a")
    found = [fs.power_loss_clone(seed).files() for seed in SEEDS]
    assert {"/db/a": b"old", "/db/a.tmp": b"new"} in found
    assert {"/db/a": b"new"} in found
    assert len({str(files) for files in found}) == 2
    fs.sync_directory("/db")
    assert losses(fs) == {b"new"}


def test_a_rename_may_survive_the_bytes_it_was_to_publish() -> None:
    fs = database()
    write_file(fs, "/db/a", b"old")
    fs.sync_directory("/db")
    write_file(fs, "/db/a.tmp", b"new", sync=False)
    fs.replace("/db/a.tmp", "/db/a")
    assert losses(fs) == {b"old", b"", b"n", b"ne", b"new"}


def test_a_rename_between_folders_neither_loses_nor_doubles_the_file() -> None:
    fs = database()
    for folder in ("x", "y"):
        fs.make_directory(f"/db/{folder}")
    fs.sync_directory("/db")
    write_file(fs, "/db/x/a", b"data")
    fs.sync_directory("/db/x")
    write_file(fs, "/db/x/before", b"")
    fs.replace("/db/x/a", "/db/y/a")
    write_file(fs, "/db/y/after", b"")
    moved = 0
    for seed in SEEDS:
        names = sorted(fs.power_loss_clone(seed).files())
        places = [name for name in names if name.endswith("/a")]
        assert len(places) == 1
        if places == ["/db/y/a"]:
            moved += 1
            assert "/db/x/before" in names  # what came before a change came to the disk before it
        else:
            assert "/db/y/after" not in names
    assert 0 < moved < len(SEEDS)
    fs.sync_directory("/db/y")
    assert fs.power_loss_clone(0, unsynced_percent=0).list_directory("/db/x") == ["before"]


def test_links_are_volatile_and_share_what_is_lost() -> None:
    fs = database()
    file = fs.create("/db/a")
    fs.sync_directory("/db")
    fs.link("/db/a", "/db/b")
    file.write(b"data")
    for seed in SEEDS:
        files = fs.power_loss_clone(seed).files()
        assert files.get("/db/b", files["/db/a"]) == files["/db/a"]
    assert losses(fs, "/db/b") == {None, b"", b"d", b"da", b"dat", b"data"}
    assert fs.power_loss_clone(0, unsynced_percent=0).files() == {"/db/a": b""}


def test_the_percentage_is_how_much_survives() -> None:
    fs = database()
    file = fs.create("/db/a")
    fs.sync_directory("/db")
    for _ in range(100):
        file.write(b"x" * 10)
    for percent in (0, 20, 50, 80, 100):
        sizes = [
            fs.power_loss_clone(seed, unsynced_percent=percent).files()["/db/a"].count(b"x")
            for seed in range(400)
        ]
        assert abs(sum(sizes) / len(sizes) / 10 - percent) <= 5
    for percent in (-1, 101):
        with pytest.raises(ValueError):
            fs.power_loss_clone(0, unsynced_percent=percent)


def test_random_histories_never_lose_a_synced_byte() -> None:
    for seed in range(10):
        random = Random(seed)
        fs = database()
        file = fs.create("/db/a")
        fs.sync_directory("/db")
        synced = written = b""
        for _ in range(30):
            match random.randrange(4):
                case 0:
                    file.sync()
                    synced = written
                case _:
                    data = random.randbytes(random.randrange(1, 3000))
                    file.write(data)
                    written += data
            found = fs.power_loss_clone(random.randrange(1000)).files()["/db/a"]
            assert found.startswith(synced)
            assert len(found) <= len(written)
            assert all(byte in (0, written[index]) for index, byte in enumerate(found))
            assert fs.power_loss_clone(0, unsynced_percent=0).files()["/db/a"] == synced


# Looking and damaging.


def test_put_file_is_durable_and_keeps_open_readers() -> None:
    fs = MemoryFileSystem()
    fs.put_file("/x/y/a", b"first")
    reader = fs.open_read("/x/y/a")
    fs.put_file("/x/y/a", b"second")
    assert reader.pread(9, 0) == b"second"
    assert fs.power_loss_clone(0, unsynced_percent=0).files() == {"/x/y/a": b"second"}
    with pytest.raises(IsADirectoryError):
        fs.put_file("/x/y", b"")


def test_flip() -> None:
    fs = MemoryFileSystem()
    fs.put_file("/a", b"\x00\x01\x02")
    fs.flip("/a", 1)
    fs.flip("/a", 2, 0x80)
    assert fs.files() == {"/a": b"\x00\xfe\x82"}
    for offset, mask in ((3, 1), (-1, 1), (0, 0), (0, 256)):
        with pytest.raises(ValueError):
            fs.flip("/a", offset, mask)


def test_truncate_file() -> None:
    fs = MemoryFileSystem()
    fs.put_file("/a", b"0123456789")
    fs.truncate_file("/a", 4)
    assert fs.files() == {"/a": b"0123"}
    for size_bytes in (5, -1):
        with pytest.raises(ValueError):
            fs.truncate_file("/a", size_bytes)


def test_no_crash_mends_damage() -> None:
    fs = database()
    write_file(fs, "/db/a", b"0123456789", sync=False)
    fs.flip("/db/a", 0, 1)
    fs.truncate_file("/db/a", 5)
    assert losses(fs) == {b"11234"}


def test_relative_paths_start_at_the_root() -> None:
    fs = MemoryFileSystem()
    fs.make_directory("db")
    write_file(fs, "db/a", b"data")
    assert fs.files() == {"/db/a": b"data"}
    assert fs.list_directory("/") == fs.list_directory(".") == ["db"]
    for path in ("/", "."):
        with pytest.raises(OSError):
            fs.create(path)
    with pytest.raises(FileNotFoundError):
        fs.create("")


# Faults.


def faulty(plan: Plan = no_faults) -> tuple[MemoryFileSystem, FaultFileSystem]:
    inner = database()
    return inner, FaultFileSystem(inner, plan)


def test_every_operation_is_counted_and_logged() -> None:
    _, fs = faulty()
    fs.make_directory("/db/x")
    lock = fs.lock("/db/LOCK")
    file = fs.create("/db/a")
    file.write(b"data")
    file.sync()
    file.truncate(2)
    file.close()
    fs.open_append("/db/a").close()
    fs.link("/db/a", "/db/b")
    fs.replace("/db/a", "/db/c")
    fs.sync_directory("/db")
    fs.list_directory("/db")
    reader = fs.open_read("/db/c")
    reader.pread(10, 0)
    assert reader.size() == 2
    assert fs.exists("/db/c")
    assert fs.boot_id() == fs.inner.boot_id()
    reader.close()
    fs.remove("/db/b")
    fs.remove_directory("/db/x")
    lock.release()
    assert [(operation.kind, operation.path) for operation in fs.log] == [
        ("make_directory", "/db/x"),
        ("lock", "/db/LOCK"),
        ("create", "/db/a"),
        ("write", "/db/a"),
        ("sync", "/db/a"),
        ("truncate", "/db/a"),
        ("open_append", "/db/a"),
        ("link", "/db/a"),
        ("replace", "/db/a"),
        ("sync_directory", "/db"),
        ("list_directory", "/db"),
        ("open_read", "/db/c"),
        ("read", "/db/c"),
        ("remove", "/db/b"),
        ("remove_directory", "/db/x"),
    ]
    assert [operation.index for operation in fs.log] == list(range(15))
    assert [operation.size_bytes for operation in fs.log if operation.size_bytes] == [4, 2, 10]
    assert [operation.target for operation in fs.log if operation.target] == ["/db/b", "/db/c"]
    assert fs.injected == []


def story(fs: FileSystem) -> None:
    """Do one of each."""
    fs.make_directory("/db/x")
    file = fs.create("/db/x/a")
    file.write(b"data")
    file.sync()
    file.truncate(2)
    file.close()
    fs.open_append("/db/x/a").close()
    fs.link("/db/x/a", "/db/x/b")
    fs.replace("/db/x/a", "/db/x/c")
    fs.sync_directory("/db/x")
    fs.list_directory("/db/x")
    fs.open_read("/db/x/c").pread(10, 0)
    fs.remove("/db/x/b")
    fs.lock("/db/x/LOCK").release()


def states() -> list[dict[str, bytes]]:
    """Return the files before each operation of the story, and at its end."""
    seen: list[dict[str, bytes]] = []
    inner, fs = faulty()

    def look(operation: Operation) -> Fault | None:
        seen.append(inner.files())
        return None

    fs.plan = look
    story(fs)
    return seen + [inner.files()]


def test_fail_nth_has_no_effect_and_says_so() -> None:
    before = states()
    for n in itertools.count():
        inner, fs = faulty(fail_nth(n, errno.EIO))
        if n == len(before) - 1:
            story(fs)
            assert fs.injected == []
            assert len(fs.log) == n
            return
        with pytest.raises(OSError) as caught:
            story(fs)
        assert caught.value.errno == errno.EIO
        assert caught.value.filename == fs.log[-1].path
        assert inner.files() == before[n]
        assert fs.injected == [fs.log[n]] == [fs.log[-1]]


def test_fail_after_has_its_effect() -> None:
    before = states()
    for n in range(len(before) - 1):
        inner, fs = faulty(inject_nth(n, fail_after(errno.EIO)))
        with pytest.raises(OSError):
            story(fs)
        # A lock writes its name into the file and could not be released.
        if fs.log[-1].kind != "lock":
            assert inner.files() == before[n + 1]


def test_fail_nth_of_a_kind() -> None:
    inner, fs = faulty(fail_nth(1, errno.EIO, kind="write"))
    file = fs.create("/db/a")
    file.write(b"one")
    file.sync()
    with pytest.raises(OSError):
        file.write(b"two")
    file.write(b"three")
    assert inner.files() == {"/db/a": b"onethree"}
    with pytest.raises(ValueError):
        fail_nth(0, errno.EIO, kind="fsync")


def test_fail_when() -> None:
    inner, fs = faulty(fail_when(lambda operation: operation.path.endswith(".seg"), errno.EACCES))
    write_file(fs, "/db/a.wal", b"")
    for _ in range(2):
        with pytest.raises(PermissionError):
            fs.create("/db/a.seg")
    fs.plan = no_faults
    write_file(fs, "/db/a.seg", b"")
    assert sorted(inner.files()) == ["/db/a.seg", "/db/a.wal"]
    assert [operation.kind for operation in fs.injected] == ["create", "create"]


def test_short_write() -> None:
    inner, fs = faulty(inject_nth(1, short_write(3)))
    file = fs.create("/db/a")
    assert file.write(b"0123456789") == 3
    assert file.write(b"3456789") == 7
    assert inner.files() == {"/db/a": b"0123456789"}
    _, fs = faulty(inject_when(lambda operation: operation.kind == "write", short_write(1)))
    write_all(fs.create("/db/a"), b"0123456789")
    assert read_file(fs, "/db/a") == b"0123456789"
    _, fs = faulty(inject_nth(1, short_write(99)))
    assert fs.create("/db/a").write(b"0123") == 4


def test_a_short_write_of_nothing_is_an_error_in_the_end() -> None:
    _, fs = faulty(inject_when(lambda operation: operation.kind == "write", short_write(0)))
    with pytest.raises(OSError, match="no progress"):
        write_all(fs.create("/db/a"), b"0123456789")


def test_torn_write() -> None:
    inner, fs = faulty(inject_nth(1, torn_write(3, errno.EIO)))
    file = fs.create("/db/a")
    with pytest.raises(OSError):
        file.write(b"0123456789")
    assert inner.files() == {"/db/a": b"012"}


def test_faults_of_writes_do_no_more_to_other_operations_than_fail() -> None:
    inner, fs = faulty(inject_nth(0, short_write(3)))
    fs.create("/db/a")
    assert inner.exists("/db/a")
    inner, fs = faulty(inject_nth(0, torn_write(3, errno.EIO)))
    with pytest.raises(OSError):
        fs.create("/db/a")
    assert not inner.exists("/db/a")


@pytest.mark.parametrize(
    ("fault", "survivors"),
    [
        (torn_write(0, errno.EIO), [b"", b"one", b"onetwo"]),
        (fail_after(errno.EIO), [b"one", b"one", b"onetwo"]),
        # The dirty pages were called clean: the second sync writes only what came after the first.
        (failed_sync(errno.EIO), [b"", b"", b"\0\0\0two"]),
    ],
)
def test_a_sync_that_fails(fault: Fault, survivors: list[bytes]) -> None:
    inner, fs = faulty(inject_nth(0, fault, kind="sync"))
    file = fs.create("/db/a")
    fs.sync_directory("/db")
    found = []

    def note_durable() -> None:
        found.append(inner.power_loss_clone(0, unsynced_percent=0).files()["/db/a"])

    file.write(b"one")
    with pytest.raises(OSError):
        file.sync()
    note_durable()
    assert inner.files()["/db/a"] == b"one"
    if survivors[1] != survivors[0]:
        file.sync()
    note_durable()
    file.write(b"two")
    file.sync()
    note_durable()
    assert found == survivors
    assert inner.files()["/db/a"] == b"onetwo"


def test_a_failed_sync_on_a_disk_just_fails(tmp_path: Path) -> None:
    fs = FaultFileSystem(DiskFileSystem(), inject_nth(0, failed_sync(), kind="sync"))
    file = fs.create(str(tmp_path / "a"))
    with pytest.raises(OSError):
        file.sync()
    file.sync()
    file.close()


def test_disk_full_takes_what_fits() -> None:
    inner, fs = faulty(disk_full(10))
    file = fs.create("/db/a")
    assert file.write(b"01234567") == 8
    assert file.write(b"89xx") == 2
    assert file.write(b"") == 0
    with pytest.raises(OSError) as caught:
        file.write(b"x")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "/db/a")
    assert inner.files() == {"/db/a": b"0123456789"}
    assert fs.used_bytes() == 10
    assert [operation.size_bytes for operation in fs.injected] == [4, 1]
    file.sync()
    fs.create("/db/b")
    fs.plan = disk_full(11)
    assert file.write(b"xyz") == 1


def test_disk_full_gets_its_space_back() -> None:
    _, fs = faulty(disk_full(10))
    write_file(fs, "/db/a", b"01234")
    write_file(fs, "/db/b", b"56789")
    file = fs.create("/db/c")

    def is_full() -> bool:
        try:
            file.write(b"x")
        except OSError:
            return True
        file.truncate(0)
        return False

    assert is_full()
    fs.link("/db/a", "/db/d")
    fs.remove("/db/a")
    assert is_full()  # the other name holds the bytes
    fs.replace("/db/d", "/db/b")
    assert not is_full()
    assert fs.used_bytes() == 5
    fs.replace("/db/b", "/db/e")
    fs.remove("/db/e")
    assert fs.used_bytes() == 0


def test_disk_full_counts_what_was_there_before() -> None:
    inner = MemoryFileSystem()
    inner.put_file("/db/a", b"01234567")
    inner.put_file("/db/x/c", b"0123")
    fs = FaultFileSystem(inner, disk_full(10))
    file = fs.create("/db/b")
    assert file.write(b"xyz") == 2
    fs.remove("/db/a")
    assert file.write(b"x" * 20) == 8
    fs.open_append("/db/x/c").truncate(0)
    with pytest.raises(OSError):
        file.write(b"x")
    assert fs.used_bytes() == 10


def test_disk_full_follows_a_folder() -> None:
    _, fs = faulty(disk_full(10))
    fs.make_directory("/db/a")
    write_file(fs, "/db/a/x", b"0123456789")
    fs.replace("/db/a", "/db/b")
    assert fs.used_bytes() == 10
    fs.remove("/db/b/x")
    assert fs.used_bytes() == 0


def test_disk_full_is_exact_between_threads() -> None:
    inner, fs = faulty(disk_full(1000))

    def fill(number: int) -> None:
        file = fs.create(f"/db/{number}")
        while True:
            try:
                file.write(b"x" * 7)
            except OSError:
                return

    threads = [threading.Thread(target=fill, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(len(data) for data in inner.files().values()) == fs.used_bytes() == 1000


def test_crash_at_refuses_everything_later() -> None:
    before = states()
    for n in range(len(before) - 1):
        inner, fs = faulty(crash_at(n))
        with pytest.raises(SimulatedCrash):
            story(fs)
        assert fs.has_crashed
        assert len(fs.log) == n + 1
        assert inner.process_crash_clone().files() == before[n]
        later: list[Callable[[], object]] = [
            partial(fs.create, "/db/later"),
            partial(fs.exists, "/db"),
            partial(fs.list_directory, "/db"),
            fs.boot_id,
        ]
        for call in later:
            with pytest.raises(SimulatedCrash):
                call()
        assert inner.files() == before[n]
        assert len(fs.log) == n + 1


def test_open_files_die_in_a_crash_too() -> None:
    inner, fs = faulty()
    writer = fs.create("/db/a")
    reader = fs.open_read("/db/a")
    lock = fs.lock("/db/LOCK")
    fs.crash()
    for call in (
        lambda: writer.write(b"x"),
        writer.sync,
        lambda: writer.truncate(0),
        lambda: reader.pread(1, 0),
        reader.size,
    ):
        with pytest.raises(SimulatedCrash):
            call()
    # What runs in `finally` meets no second error.
    writer.close()
    reader.close()
    lock.release()
    assert inner.files()["/db/a"] == b""
    assert not isinstance(SimulatedCrash(), Exception)


def test_crash_in_the_middle_of_a_write() -> None:
    inner, fs = faulty(crash_at(1, written_bytes=3))
    file = fs.create("/db/a")
    with pytest.raises(SimulatedCrash):
        file.write(b"0123456789")
    assert inner.process_crash_clone().files() == {"/db/a": b"012"}
    # One run serves every way the write may have been torn.
    assert fs.in_flight == ("/db/a", b"3456789")
    path, rest = fs.in_flight
    for size in range(len(rest) + 1):
        clone = inner.process_crash_clone(in_flight={path: rest[:size]})
        assert clone.files() == {"/db/a": b"0123456789"[: 3 + size]}


def test_a_crash_outside_of_a_write_has_nothing_in_flight() -> None:
    _, fs = faulty(crash_at(2))
    file = fs.create("/db/a")
    file.write(b"data")
    with pytest.raises(SimulatedCrash):
        file.sync()
    assert fs.in_flight is None


def test_a_crash_ends_the_threads() -> None:
    _, fs = faulty(inject_when(lambda operation: operation.index == 100, Fault(is_crash=True)))

    def write_for_ever(number: int) -> None:
        file = fs.create(f"/db/{number}")
        while True:
            try:
                file.write(b"x")
            except Exception:
                continue

    threads = [threading.Thread(target=write_for_ever, args=(number,)) for number in range(4)]
    with quiet_crashes():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(fs.log) == 101


def test_quiet_crashes_hides_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: seen.append(arguments.exc_type))

    def die(error: BaseException) -> None:
        raise error

    with quiet_crashes():
        for error in (SimulatedCrash(), KeyError()):
            thread = threading.Thread(target=die, args=(error,))
            thread.start()
            thread.join()
    assert seen == [KeyError]


def test_pause_holds_one_operation_and_no_other() -> None:
    gate = threading.Event()
    _, fs = faulty(inject_nth(0, pause(gate), kind="sync"))
    file = fs.create("/db/a")
    done: list[str] = []

    def sync() -> None:
        file.sync()
        done.append("sync")

    thread = threading.Thread(target=sync)
    thread.start()
    while len(fs.log) < 2:
        time.sleep(0.001)
    write_file(fs, "/db/b", b"passes")
    done.append("write")
    gate.set()
    thread.join()
    assert done == ["write", "sync"]


def test_first_of() -> None:
    inner, fs = faulty(
        first_of(fail_nth(1, errno.EIO, kind="write"), fail_nth(1, errno.EACCES, kind="write"), disk_full(4))
    )
    file = fs.create("/db/a")
    assert file.write(b"012345") == 4
    with pytest.raises(OSError) as caught:
        file.write(b"x")
    assert caught.value.errno == errno.EIO
    with pytest.raises(OSError) as caught:
        file.write(b"x")
    assert caught.value.errno == errno.ENOSPC
    assert inner.files() == {"/db/a": b"0123"}


# Tests written as text.

EXAMPLE = """\
# A comment.

echo one two name=value quoted="a # b"    # not an argument
first line

third line
----
echo ['one', 'two'] {'name': 'value', 'quoted': 'a # b'}
first line, , third line

silent
----

blank
----
----
a

b
----
----

silent
----
"""


def example_run(case: Case) -> str:
    match case.command:
        case "echo":
            return f"echo {case.words} {dict(case.options)}\n{', '.join(case.lines())}"
        case "silent":
            return ""
        case "blank":
            return "a\n\nb\n"
    raise case.unknown()


@pytest.fixture
def data_file(tmp_path: Path) -> Path:
    path = tmp_path / "example"
    path.write_text(EXAMPLE)
    return path


def test_datadriven_passes(data_file: Path) -> None:
    run_datadriven(data_file, example_run)
    assert [(case.command, case.line_number) for case in parse_cases(data_file)] == [
        ("echo", 3),
        ("silent", 11),
        ("blank", 14),
        ("silent", 23),
    ]


def test_datadriven_shows_all_that_differs(data_file: Path) -> None:
    with pytest.raises(AssertionError) as caught:
        run_datadriven(data_file, lambda case: "loud" if case.command == "silent" else example_run(case))
    message = str(caught.value)
    assert message.startswith(f"{data_file}:11: the output differs; with LAMINA_REWRITE=1 ")
    assert message.count("+loud") == 2
    assert data_file.read_text() == EXAMPLE


def test_datadriven_rewrites(data_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(case: Case) -> str:
        return {"echo": "", "silent": "x\n\ny", "blank": "z"}[case.command]

    monkeypatch.setenv("LAMINA_REWRITE", "1")
    run_datadriven(data_file, run)
    monkeypatch.delenv("LAMINA_REWRITE")
    run_datadriven(data_file, run)
    text = data_file.read_text()
    assert text.startswith(
        EXAMPLE[: EXAMPLE.index("echo [")] + "\nsilent\n----\n----\nx\n\ny\n----\n----\n\n"
    )
    run_datadriven(data_file, example_run, rewrite=True)
    assert data_file.read_text() == EXAMPLE


def test_datadriven_compares_when_rewriting_is_off(data_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for value, rewrite in (("0", None), ("1", False)):
        monkeypatch.setenv("LAMINA_REWRITE", value)
        with pytest.raises(AssertionError):
            run_datadriven(data_file, lambda case: "other", rewrite=rewrite)


def test_datadriven_says_where_a_case_raised(data_file: Path) -> None:
    def run(case: Case) -> str:
        return f"{case.integer('n')}"

    with pytest.raises(ValueError, match="example:3: echo needs n=") as caught:
        run_datadriven(data_file, run)
    assert caught.value.__notes__ == [f"in the case at {data_file}:3: echo"]


def test_datadriven_options(tmp_path: Path) -> None:
    path = tmp_path / "options"
    path.write_text("cmd n=-3 empty= b\n----\n")
    (case,) = parse_cases(path)
    assert (case.integer("n"), case.integer("m", 7)) == (-3, 7)
    assert (case.option("empty"), case.option("m", "x"), case.words) == ("", "x", ["b"])
    assert (case.input, case.lines(), case.expected) == ("", [], "")
    assert str(case.unknown()) == f"{path}:1: unknown command 'cmd'"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cmd\n", ":1: no ---- after this command"),
        ("cmd\n----\na\n\ncmd\n", ":5: no ---- after this command"),
        ("cmd\n----\na\ncmd\n----\nb\n", ":5: a blank line is missing"),
        ("cmd\n----\n----\na\n\n----\n", ":3: no second pair"),
        ("cmd\n----\n----\na\n\nb\n----\n----\ncmd\n----\n", ":9: a blank line is missing"),
        ("  # indented\n----\n", ":1: no command"),
    ],
)
def test_datadriven_refuses_malformed_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "malformed"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        parse_cases(path)


def test_datadriven_refuses_output_it_could_not_read_back(data_file: Path) -> None:
    with pytest.raises(ValueError, match="may not be ----"):
        run_datadriven(data_file, lambda case: "a\n----\nb", rewrite=True)
    assert data_file.read_text() == EXAMPLE

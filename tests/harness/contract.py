"""What every `FileSystem` keeps, as a test body that each of them inherits.

A subclass provides the fixtures `fs` and `root`, the latter an empty folder in it.
"""

from __future__ import annotations

import errno
import gc
import os
import threading
import warnings

import pytest

from lamina.engine.errors import LockedError
from lamina.engine.filesystem import FileSystem, read_file, write_all


def write_file(fs: FileSystem, path: str, data: bytes, *, sync: bool = True) -> None:
    """Create a file with this content."""
    file = fs.create(path)
    write_all(file, data)
    if sync:
        file.sync()
    file.close()


class FileSystemContract:
    """Inherit, and add the fixtures."""

    @pytest.fixture
    def fs(self) -> FileSystem:
        raise NotImplementedError

    @pytest.fixture
    def root(self) -> str:
        raise NotImplementedError

    # Writing.

    def test_create_writes_at_the_end(self, fs: FileSystem, root: str) -> None:
        file = fs.create(f"{root}/a")
        assert file.write(b"one") == 3
        assert file.write(b"") == 0
        assert file.write(b"two") == 3
        assert read_file(fs, f"{root}/a") == b"onetwo"
        file.sync()
        file.close()
        assert read_file(fs, f"{root}/a") == b"onetwo"

    def test_create_refuses_what_is_there(self, fs: FileSystem, root: str) -> None:
        write_file(fs, f"{root}/a", b"kept")
        fs.make_directory(f"{root}/folder")
        for name in ("a", "folder"):
            with pytest.raises(FileExistsError) as caught:
                fs.create(f"{root}/{name}")
            assert caught.value.errno == errno.EEXIST
            assert caught.value.filename == f"{root}/{name}"
        assert read_file(fs, f"{root}/a") == b"kept"

    def test_open_append_continues(self, fs: FileSystem, root: str) -> None:
        write_file(fs, f"{root}/a", b"one")
        first, second = fs.open_append(f"{root}/a"), fs.open_append(f"{root}/a")
        first.write(b"two")
        second.write(b"three")
        first.write(b"four")
        assert read_file(fs, f"{root}/a") == b"onetwothreefour"
        first.close()
        second.close()

    def test_a_write_goes_where_truncate_cut(self, fs: FileSystem, root: str) -> None:
        file = fs.create(f"{root}/a")
        file.write(b"0123456789")
        file.truncate(4)
        assert read_file(fs, f"{root}/a") == b"0123"
        file.write(b"x")
        file.truncate(8)
        file.write(b"y")
        assert read_file(fs, f"{root}/a") == b"0123x\0\0\0y"
        with pytest.raises(OSError) as caught:
            file.truncate(-1)
        assert caught.value.errno == errno.EINVAL
        file.close()

    def test_a_closed_writer_refuses(self, fs: FileSystem, root: str) -> None:
        file = fs.create(f"{root}/a")
        file.close()
        file.close()
        # Something else may get the descriptor that is free now, and must not get our bytes.
        other = fs.create(f"{root}/b")
        for call in (lambda: file.write(b"x"), file.sync, lambda: file.truncate(0)):
            with pytest.raises(OSError) as caught:
                call()
            assert caught.value.errno == errno.EBADF
        other.close()
        assert read_file(fs, f"{root}/b") == b""

    # Reading.

    def test_pread(self, fs: FileSystem, root: str) -> None:
        write_file(fs, f"{root}/a", b"0123456789")
        file = fs.open_read(f"{root}/a")
        assert file.size() == 10
        assert file.pread(3, 2) == b"234"
        assert file.pread(3, 8) == b"89"
        assert file.pread(3, 10) == b""
        assert file.pread(3, 99) == b""
        assert file.pread(0, 0) == b""
        with pytest.raises(OSError) as caught:
            file.pread(1, -1)
        assert caught.value.errno == errno.EINVAL
        file.close()

    def test_a_reader_sees_the_file_grow(self, fs: FileSystem, root: str) -> None:
        writer = fs.create(f"{root}/a")
        reader = fs.open_read(f"{root}/a")
        assert (reader.size(), reader.pread(9, 0)) == (0, b"")
        writer.write(b"data")
        assert (reader.size(), reader.pread(9, 0)) == (4, b"data")
        writer.close()
        reader.close()

    def test_a_closed_reader_refuses(self, fs: FileSystem, root: str) -> None:
        write_file(fs, f"{root}/a", b"a")
        write_file(fs, f"{root}/b", b"b")
        file = fs.open_read(f"{root}/a")
        file.close()
        file.close()
        other = fs.open_read(f"{root}/b")  # may get the descriptor that is free now
        for call in (lambda: file.pread(1, 0), file.size):
            with pytest.raises(OSError) as caught:
                call()
            assert caught.value.errno == errno.EBADF
        other.close()

    def test_a_reader_outlives_the_name(self, fs: FileSystem, root: str) -> None:
        for name in ("removed", "replaced"):
            write_file(fs, f"{root}/{name}", b"old")
        write_file(fs, f"{root}/new", b"newer")
        readers = [fs.open_read(f"{root}/{name}") for name in ("removed", "replaced")]
        fs.remove(f"{root}/removed")
        fs.replace(f"{root}/new", f"{root}/replaced")
        gc.collect()
        for reader in readers:
            assert (reader.size(), reader.pread(9, 0)) == (3, b"old")
            reader.close()
        assert read_file(fs, f"{root}/replaced") == b"newer"

    # Names.

    def test_what_is_missing_is_not_found(self, fs: FileSystem, root: str) -> None:
        missing = f"{root}/missing"
        for call in (
            lambda: fs.open_append(missing),
            lambda: fs.open_read(missing),
            lambda: fs.list_directory(missing),
            lambda: fs.remove(missing),
            lambda: fs.replace(missing, f"{root}/b"),
            lambda: fs.link(missing, f"{root}/b"),
            lambda: fs.sync_directory(missing),
            lambda: fs.create(f"{missing}/a"),
            lambda: fs.lock(f"{missing}/LOCK"),
        ):
            with pytest.raises(FileNotFoundError) as caught:
                call()
            assert caught.value.errno == errno.ENOENT
        assert not fs.exists(missing)
        assert fs.list_directory(root) == []

    def test_a_file_is_not_a_folder(self, fs: FileSystem, root: str) -> None:
        write_file(fs, f"{root}/a", b"")
        for call in (
            lambda: fs.list_directory(f"{root}/a"),
            lambda: fs.sync_directory(f"{root}/a"),
            lambda: fs.create(f"{root}/a/b"),
            lambda: fs.open_read(f"{root}/a/b"),
            lambda: fs.remove(f"{root}/a/b"),
            lambda: fs.make_directory(f"{root}/a/b/c"),
        ):
            with pytest.raises(NotADirectoryError):
                call()
        with pytest.raises(FileExistsError):
            fs.make_directory(f"{root}/a")
        assert not fs.exists(f"{root}/a/b")

    def test_a_folder_is_not_a_file(self, fs: FileSystem, root: str) -> None:
        write_file(fs, f"{root}/a", b"")
        fs.make_directory(f"{root}/folder/inner")
        for call in (
            lambda: fs.open_append(f"{root}/folder"),
            lambda: fs.remove(f"{root}/folder"),
            lambda: fs.replace(f"{root}/a", f"{root}/folder"),
            lambda: fs.lock(f"{root}/folder"),
        ):
            with pytest.raises(IsADirectoryError):
                call()
        with pytest.raises(PermissionError):
            fs.link(f"{root}/folder", f"{root}/b")
        assert fs.list_directory(root) == ["a", "folder"]

    def test_make_directory(self, fs: FileSystem, root: str) -> None:
        fs.make_directory(f"{root}/x/y/z")
        fs.make_directory(f"{root}/x/y/z")
        fs.make_directory(root)
        write_file(fs, f"{root}/x/y/z/a", b"deep")
        assert fs.list_directory(f"{root}/x") == ["y"]
        assert fs.exists(f"{root}/x/y/z")
        assert read_file(fs, f"{root}/x/./y//z/a") == b"deep"
        fs.sync_directory(f"{root}/x/y/z")

    def test_list_directory_is_sorted(self, fs: FileSystem, root: str) -> None:
        for name in ("b", "000010.wal", "c", "a", "000009.wal"):
            write_file(fs, f"{root}/{name}", b"")
        fs.make_directory(f"{root}/bb")
        assert fs.list_directory(root) == ["000009.wal", "000010.wal", "a", "b", "bb", "c"]

    def test_remove(self, fs: FileSystem, root: str) -> None:
        write_file(fs, f"{root}/a", b"first")
        fs.remove(f"{root}/a")
        assert not fs.exists(f"{root}/a")
        write_file(fs, f"{root}/a", b"second")
        assert read_file(fs, f"{root}/a") == b"second"

    def test_replace(self, fs: FileSystem, root: str) -> None:
        fs.make_directory(f"{root}/folder")
        write_file(fs, f"{root}/a", b"a")
        write_file(fs, f"{root}/b", b"b")
        fs.replace(f"{root}/a", f"{root}/b")
        assert fs.list_directory(root) == ["b", "folder"]
        fs.replace(f"{root}/b", f"{root}/b")
        fs.replace(f"{root}/b", f"{root}/folder/c")
        assert read_file(fs, f"{root}/folder/c") == b"a"
        assert fs.list_directory(root) == ["folder"]

    def test_an_open_writer_follows_its_file(self, fs: FileSystem, root: str) -> None:
        file = fs.create(f"{root}/a.tmp")
        file.write(b"one")
        fs.replace(f"{root}/a.tmp", f"{root}/a")
        file.write(b"two")
        file.sync()
        file.close()
        assert read_file(fs, f"{root}/a") == b"onetwo"

    def test_replace_moves_folders(self, fs: FileSystem, root: str) -> None:
        fs.make_directory(f"{root}/a")
        fs.make_directory(f"{root}/empty")
        write_file(fs, f"{root}/a/x", b"x")
        write_file(fs, f"{root}/file", b"")
        fs.replace(f"{root}/a", f"{root}/empty")
        assert read_file(fs, f"{root}/empty/x") == b"x"
        fs.make_directory(f"{root}/b")
        for source, target, number in (
            ("b", "empty", errno.ENOTEMPTY),
            ("b", "file", errno.ENOTDIR),
            ("b", "b/c", errno.EINVAL),
        ):
            with pytest.raises(OSError) as caught:
                fs.replace(f"{root}/{source}", f"{root}/{target}")
            assert caught.value.errno == number
        assert fs.list_directory(root) == ["b", "empty", "file"]

    def test_link_shares_the_file(self, fs: FileSystem, root: str) -> None:
        fs.make_directory(f"{root}/copy")
        write_file(fs, f"{root}/a", b"one")
        fs.link(f"{root}/a", f"{root}/copy/a")
        file = fs.open_append(f"{root}/copy/a")
        file.write(b"two")
        file.close()
        assert read_file(fs, f"{root}/a") == b"onetwo"
        with pytest.raises(FileExistsError):
            fs.link(f"{root}/a", f"{root}/copy/a")
        # POSIX: replacing a name by another name of the same file changes nothing.
        fs.replace(f"{root}/a", f"{root}/copy/a")
        assert fs.exists(f"{root}/a")
        fs.remove(f"{root}/a")
        assert read_file(fs, f"{root}/copy/a") == b"onetwo"

    # Locks and the rest.

    def test_a_lock_has_one_holder(self, fs: FileSystem, root: str) -> None:
        lock = fs.lock(f"{root}/LOCK")
        assert fs.list_directory(root) == ["LOCK"]
        for _ in range(2):
            with pytest.raises(LockedError, match=r"LOCK: the database is in use by .*process"):
                fs.lock(f"{root}/LOCK")
        other = fs.lock(f"{root}/OTHER")
        lock.release()
        lock.release()
        again = fs.lock(f"{root}/LOCK")
        with pytest.raises(LockedError):
            fs.lock(f"{root}/LOCK")
        again.release()
        other.release()
        assert read_file(fs, f"{root}/LOCK") == b""

    def test_a_lock_survives_the_child_that_abandons_it(self, fs: FileSystem, root: str) -> None:
        lock = fs.lock(f"{root}/LOCK")
        with warnings.catch_warnings():
            # Python 3.12 warns of a fork beside threads, which a parallel test run has.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            # Whatever happens, the child must not go on to run the other tests.
            status = 1
            try:
                lock.abandon()
                lock.release()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        with pytest.raises(LockedError):
            fs.lock(f"{root}/LOCK")
        lock.release()
        fs.lock(f"{root}/LOCK").release()

    def test_the_boot_id_stays(self, fs: FileSystem) -> None:
        assert len(fs.boot_id()) == 16
        assert fs.boot_id() == fs.boot_id()

    def test_threads(self, fs: FileSystem, root: str) -> None:
        def append(number: int) -> None:
            file = fs.create(f"{root}/{number}")
            for _ in range(50):
                file.write(b"%d" % number)
                file.sync()
                shared.write(b"%d" % number)
                data = reader.pread(1000, 0)
                assert data.count(b"%d" % number) >= 1
            file.close()
            fs.replace(f"{root}/{number}", f"{root}/done{number}")
            finished.append(number)

        shared = fs.create(f"{root}/shared")
        reader = fs.open_read(f"{root}/shared")
        finished: list[int] = []
        threads = [threading.Thread(target=append, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(finished) == [0, 1, 2, 3]
        assert fs.list_directory(root) == ["done0", "done1", "done2", "done3", "shared"]
        assert [read_file(fs, f"{root}/done{number}") for number in range(4)] == [
            b"%d" % number * 50 for number in range(4)
        ]
        assert sorted(read_file(fs, f"{root}/shared")) == sorted(b"0123" * 50)
        shared.close()
        reader.close()

"""Real processes on a real disk: killed while they write, forked, locked out, or ended without closing.

Every child has a bounded life: `Child` kills what is left of it, and children end by themselves when nobody
listens to them any more.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

import lamina.engine as engine
from lamina.engine.check import assert_consistent

SYNCS = ("always", "everysec", "no")
LIFE_MAX_S = 60

OPTIONS = "memory=1 << 20, memtable_size_bytes=20_000, segment_size_bytes=16_384, level_runs_max=2"
"""Small, so that the worker always has something to do."""

WRITER = f"""
import os, sys, lamina.engine as engine
path, sync, counted = sys.argv[1], sys.argv[2], sys.argv[3] == "True"
with engine.open(path, sync=sync, counted=counted, {OPTIONS}) as db:
    number = int(db.get(b"last", b"0"))
    db.put(b"begun", b"")
    while number < 1_000_000:
        print(number, db.stats().worker_pid or 0, flush=True)
        number += 1
        with db.batch() as batch:
            for part in range(4):
                batch.put(b"%d:%d" % (number % 500, part), b"%d " % number * 20)
            batch.delete(b"%d:0" % ((number + 7) % 500))
            batch.put(b"last", b"%d" % number)
"""


def options() -> dict[str, int]:
    return {
        "memory": 1 << 20,
        "memtable_size_bytes": 20_000,
        "segment_size_bytes": 16_384,
        "level_runs_max": 2,
    }


class Child:
    """A Python process whose output is read line by line."""

    def __init__(self, code: str, *arguments: str) -> None:
        command = [sys.executable, "-c", code, *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def line(self) -> list[str]:
        assert self.process.stdout is not None
        return self.process.stdout.readline().split()

    def kill(self) -> list[list[str]]:
        """Kill it, as the system does when memory runs out; return the lines that it still managed to say."""
        self.process.send_signal(signal.SIGKILL)
        out, _ = self.process.communicate(timeout=LIFE_MAX_S)
        # The last line is cut short, perhaps.
        return [line.split() for line in out.split("\n")[:-1]]

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that only waits to be noticed by its parent does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def is_dead(pid: int) -> bool:
    return not is_alive(pid)


def has_deaths(db: engine.Database, deaths: int) -> bool:
    return db.stats().worker_deaths == deaths


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.005)


def assert_whole(db: engine.Database, acknowledged: int) -> int:
    """Assert that a database of our own is in order and holds what `WRITER` has acknowledged."""
    last = assert_entries(db, acknowledged)
    assert_consistent(db)
    return last


def assert_entries(db: engine.Database, acknowledged: int) -> int:
    """Assert that the database holds every batch up to some number not below `acknowledged`; return that."""
    last = int(db.get(b"last", b"0"))
    assert last >= acknowledged
    expected: dict[bytes, bytes] = {}
    for number in range(max(last - 1500, 1), last + 1):
        for part in range(4):
            expected[b"%d:%d" % (number % 500, part)] = b"%d " % number * 20
        expected.pop(b"%d:0" % ((number + 7) % 500), None)
    found = {key: value for key, value in db.scan() if b":" in key}
    assert found == expected
    return last


def kill_in_a_loop(path: str, sync: str, random: Random, rounds: int) -> None:
    last = 0
    is_counted = sync != "no"
    for _ in range(rounds):
        with Child(WRITER, path, sync, str(is_counted)) as child:
            line = child.line()
            assert int(line[0]) == last
            until_s = time.monotonic() + random.uniform(0.0, 0.25)
            while time.monotonic() < until_s:
                line = child.line()
            lines = [line, *child.kill()]
        acknowledged, worker = map(int, next(line for line in reversed(lines) if len(line) == 2))
        if worker:
            wait_until(functools.partial(is_dead, worker), "the worker dies with its parent")
        with engine.open(path, sync=sync, background=random.choice(("process", "inline")), **options()) as db:
            last = assert_whole(db, acknowledged)


@pytest.mark.parametrize("sync", SYNCS)
def test_kill_while_writing(tmp_path: Path, sync: str) -> None:
    kill_in_a_loop(str(tmp_path / "db"), sync, Random(f"kill {sync}"), 8)


@pytest.mark.slow
@pytest.mark.parametrize("sync", SYNCS)
def test_kill_while_writing_for_long(tmp_path: Path, sync: str) -> None:
    kill_in_a_loop(str(tmp_path / "db"), sync, Random(), 200)


# -- the worker -------------------------------------------------------------------------------------


def load(db: engine.Database, seconds: float, state: dict[bytes, bytes]) -> None:
    until_s = time.monotonic() + seconds
    i = len(state)
    while time.monotonic() < until_s:
        i += 1
        state[b"%06d" % (i * 7919 % 5000)] = b"%d" % i * 10
        db.put(b"%06d" % (i * 7919 % 5000), b"%d" % i * 10)


def worker_of(db: engine.Database) -> int:
    wait_until(lambda: db.stats().worker_pid is not None, "there is a worker")
    pid = db.stats().worker_pid
    assert pid is not None
    return pid


def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    state: dict[bytes, bytes] = {}
    with engine.open(tmp_path / "db", **options()) as db:
        load(db, 0.1, state)
        for deaths in range(1, 6):
            pid = worker_of(db)
            os.kill(pid, signal.SIGKILL)
            wait_until(functools.partial(has_deaths, db, deaths), "its death is counted")
            load(db, 0.1, state)
            db.flush()
            assert worker_of(db) != pid
            assert db.stats().background_error is None
        db.compact()
        assert db.wait_idle(20)
        assert dict(db.scan()) == state
        assert_consistent(db)
    left = sorted(os.listdir(tmp_path / "db"))
    assert not [name for name in left if name.endswith(".tmp")], left


def test_a_compaction_survives_its_worker(tmp_path: Path) -> None:
    """`compact` returned as if done when the worker had died under it."""
    state: dict[bytes, bytes] = {}
    with engine.open(
        tmp_path / "db", rate_limit_bytes_per_s=400_000, **options() | {"level_runs_max": 64}
    ) as db:
        load(db, 0.3, state)
        db.flush()
        pid = worker_of(db)
        os.kill(pid, signal.SIGSTOP)  # so that it dies in the middle and not before or after
        killer = subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -9 {pid}"])
        try:
            db.compact()
        finally:
            killer.wait()
        assert db.stats().worker_deaths == 1
        assert len(db.view.runs) == 1
        assert dict(db.scan()) == state


@pytest.mark.parametrize("executable", ["/nonexistent/python", "/bin/false"])
def test_a_worker_that_cannot_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executable: str
) -> None:
    """A flush waited for ever, and a core was busy starting processes."""
    with engine.open(tmp_path / "db", **options()) as db:
        db.put(b"a", b"1")
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", executable)
            with pytest.raises((OSError, engine.EngineError), match=r"nonexistent|ended with status"):
                db.flush()
            assert db.stats().background_error
            deaths = db.stats().worker_deaths
            time.sleep(0.3)
            assert db.stats().worker_deaths - deaths < 10
            assert db[b"a"] == b"1"
            db.put(b"b", b"2")
        wait_until(lambda: db.stats().memtables == 1, "it recovers by itself")
        wait_until(lambda: db.stats().background_error is None, "and says so")
        assert dict(db.scan()) == {b"a": b"1", b"b": b"2"}


def test_a_worker_finds_its_modules_whatever_lies_around(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of the current folder that is called like a module of the library was imported by the worker."""
    (tmp_path / "json.py").write_text("raise SystemExit('not the json you mean')")
    (tmp_path / "queue.py").write_text("raise SystemExit('not the queue you mean')")
    monkeypatch.chdir(tmp_path)
    with engine.open("db", **options()) as db:
        db.put(b"a", b"1")
        db.flush()
        assert db.stats().worker_deaths == 0


def test_a_worker_that_outlives_its_parent_for_a_moment_does_no_harm(tmp_path: Path) -> None:
    """It may be stuck in a system call when its parent dies, and go on when the database is open again."""
    path = str(tmp_path / "db")
    random = Random(5)
    for _ in range(6):
        with Child(WRITER, path, "no", "True") as child:
            until_s = time.monotonic() + random.uniform(0.1, 0.2)
            line = child.line()
            while time.monotonic() < until_s or line[1] == "0":
                line = child.line()
            worker = int(line[1])
            os.kill(worker, signal.SIGSTOP)
            child.kill()
        try:
            with engine.open(path, background="thread", **options()) as db:
                last = assert_entries(db, int(line[0]))
                os.kill(worker, signal.SIGCONT)
                for i in range(300):
                    db.put(b"more%03d" % i, b"%d" % last * 10)
                db.flush()
                db.compact()
                wait_until(lambda pid=worker: not is_alive(pid), "the worker ends")  # type: ignore[misc]
                assert_whole(db, last)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)


# -- forks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("background", ["process", "thread", "inline"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_leaves_the_database_to_the_parent(tmp_path: Path, background: str) -> None:
    state: dict[bytes, bytes] = {}
    db = engine.open(tmp_path / "db", background=background, **options())
    load(db, 0.05, state)
    worker = worker_of(db) if background == "process" else 0
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = use_in_child(db, tmp_path)
        finally:
            os._exit(status)
    try:
        load(db, 0.05, state)
        assert wait_for_exit(pid) == 0
        db.flush()
        assert dict(db.scan()) == state
        if worker:
            assert worker_of(db) == worker
        with pytest.raises(engine.LockedError):
            engine.open(tmp_path / "db")
    finally:
        db.close()
    with engine.open(tmp_path / "db", background="inline", **options()) as again:
        assert dict(again.scan()) == state


def use_in_child(db: engine.Database, tmp_path: Path) -> int:
    """Use the parent's database: refused, whatever it is. Another one of our own works."""
    for use in (
        lambda: db.put(b"child", b""),
        lambda: db.get(b"child"),
        lambda: list(db.scan()),
        lambda: db.flush(),
        lambda: db.sync(),
        lambda: db.snapshot(),
        lambda: db.stats(),
    ):
        with contextlib.suppress(engine.ClosedError):
            use()
            return 2
    db.close()
    with engine.open(tmp_path / "own", background="process", **options()) as own:
        own.put(b"child", b"")
        own.flush()
    return 0


def wait_for_exit(pid: int) -> int:
    """Wait for a child of ours; kill it if that takes too long."""
    deadline_s = time.monotonic() + LIFE_MAX_S
    while time.monotonic() < deadline_s:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError("the child did not end")


def test_the_worker_does_not_live_on_for_a_forked_child(tmp_path: Path) -> None:
    """The child had inherited the pipes to the worker, which waited for it after the parent was gone."""
    code = f"""
import os, sys, time, lamina.engine as engine
db = engine.open(sys.argv[1], {OPTIONS})
db.put(b"a", b"1"); db.flush()
child = os.fork()
if child == 0:
    os.close(1)
    time.sleep({LIFE_MAX_S})
    os._exit(0)
print(db.stats().worker_pid, child, flush=True)
time.sleep({LIFE_MAX_S})
"""
    with Child(code, str(tmp_path / "db")) as parent:
        worker, child = map(int, parent.line())
        try:
            parent.kill()
            assert is_alive(child)
            wait_until(lambda: not is_alive(worker), "the worker dies with the parent, not with the child")
        finally:
            os.kill(child, signal.SIGKILL)


# -- programs ---------------------------------------------------------------------------------------

PROGRAM = f"""
import lamina.engine as engine, sys
db = engine.open(sys.argv[1], {OPTIONS})
for i in range(2000):
    db.put(b"%d" % i, b"x" * 20)
db.flush()
print("worker", db.stats().worker_pid, db.stats().worker_deaths, flush=True)
"""

ENDS = {
    "closed": "db.close()",
    "just ends": "",
    "dropped": "del db",
    "sys.exit": "sys.exit(0)",
    "os._exit": "import os; os._exit(0)",
    "exception": "sys.stderr = None; raise RuntimeError",
    "in a function": "def f():\n    global db\n    held, db = db, None\n    sys.exit(0)\nf()",
    "in a thread": "import threading; threading.Thread(target=lambda: db.put(b'a', b'')).start()",
}


@pytest.mark.parametrize("end", ENDS)
def test_the_worker_outlives_nothing(tmp_path: Path, end: str) -> None:
    """However a program ends, it ends soon, its worker with it, and what it has put is there."""
    with Child(PROGRAM + ENDS[end], str(tmp_path / "db")) as child:
        word, worker, deaths = child.line()
        assert (word, deaths) == ("worker", "0")
        assert child.process.wait(LIFE_MAX_S) == (1 if end == "exception" else 0)
        wait_until(lambda: not is_alive(int(worker)), "the worker ends")
    with engine.open(tmp_path / "db", background="inline", **options()) as db:
        assert db.count(b"0", b":") == 2000


@pytest.mark.parametrize("how", ["script", "-c", "stdin"])
def test_an_embedding_program_needs_no_main_guard(tmp_path: Path, how: str) -> None:
    program = PROGRAM + "db.close()\n"
    database = str(tmp_path / "db")
    script = tmp_path / "program.py"
    script.write_text(program)
    source = ""
    match how:
        case "script":
            command = [str(script), database]
        case "-c":
            command = ["-c", program, database]
        case _:
            command = ["-", database]
            source = program
    done = subprocess.run(
        [sys.executable, *command],
        input=source,
        capture_output=True,
        text=True,
        timeout=LIFE_MAX_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split()[0::2] == ["worker", "0"]


# -- two processes ----------------------------------------------------------------------------------


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Child]:
    with Child(WRITER, str(tmp_path / "db"), "no", "True") as child:
        child.line()
        yield child


def test_two_writers_are_one_too_many(tmp_path: Path, writer: Child) -> None:
    for _ in range(3):
        with pytest.raises(engine.LockedError, match=f"in use by process {writer.process.pid}"):
            engine.open(tmp_path / "db")
    writer.kill()
    engine.open(tmp_path / "db", background="inline").close()


def test_reading_beside_a_writing_process(tmp_path: Path, writer: Child) -> None:
    """A log that grew while it was read, and was followed by another one meanwhile, was taken for damaged."""
    acknowledged = 0
    until_s = time.monotonic() + 2.5
    opened = 0
    while time.monotonic() < until_s:
        for _ in range(20):
            acknowledged = int(writer.line()[0])
        with engine.open(tmp_path / "db", read_only=True, background="inline", **options()) as db:
            assert_entries(db, acknowledged)
            with pytest.raises(engine.ReadOnlyError):
                db.put(b"a", b"")
        opened += 1
    assert opened > 5

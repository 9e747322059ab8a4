"""A fixed, rich history of one database, told to any file system, with what must be there after each step.

    run = Run(fs, counted=True, sync="always")
    tell(run)
    run.states[run.done]        what the database holds, as a dict

Every write puts the state it leads to into `states` before it begins, and counts itself into `done` when it
has returned: a process that is killed leaves `states[done]`, or the one after it. A power loss may go back,
but not behind `durable`.

With `tolerant`, steps that fail are noted in `errors` and the history goes on, as a program would: a failed
write has not happened; after a failed fsync the database is closed and opened again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import lamina.engine as engine
from harness.memory_filesystem import MemoryFileSystem
from lamina.engine.check import assert_consistent
from lamina.engine.filenames import LOCK, MANIFEST, is_temporary, parse_name
from lamina.engine.filesystem import FileSystem
from lamina.engine.manifest import read_manifest

PATH = "/stores/db"
COPY = "/stores/copy"
State = dict[bytes, bytes]

SMALL: dict[str, Any] = {
    # Everything happens often: about eight entries for each flush, several blocks in each segment, several
    # segments in each run.
    "background": "inline",
    "memory": 1 << 20,
    "memtable_size_bytes": 2000,
    "block_size_bytes": 256,
    "segment_size_bytes": 1024,
    "level_runs_max": 2,
}


class Run:
    """A database, and what is known of it."""

    def __init__(
        self, fs: FileSystem, *, tolerant: bool = False, counted: bool, sync: str, **options: Any
    ) -> None:
        self.fs = fs
        self.tolerant = tolerant
        self.is_always = sync == "always"
        self.options: dict[str, Any] = SMALL | {"counted": counted, "sync": sync} | options
        self.states: list[State] = [{}]
        self.done = 0
        self.durable = 0
        self.copied: State | None = None
        self.errors: list[Exception] = []
        self.db = self._open()

    @property
    def now(self) -> State:
        """What the database holds."""
        return self.states[self.done]

    # -- writing -------------------------------------------------------------------------------------

    def put(self, key: bytes, value: bytes) -> None:
        self._change(self.now | {key: value}, lambda: self.db.put(key, value))

    def delete(self, key: bytes) -> None:
        state = dict(self.now)
        state.pop(key, None)
        self._change(state, lambda: self.db.delete(key))

    def write(self, changes: dict[bytes, bytes | None], *, sync: bool = True) -> None:
        batch = engine.Batch()
        state = dict(self.now)
        for key, value in changes.items():
            if value is None:
                batch.delete(key)
                state.pop(key, None)
            else:
                batch.put(key, value)
                state[key] = value
        self._change(state, lambda: self.db.write(batch, sync=sync), is_durable=self.is_always and sync)

    def discard(self, start: bytes, stop: bytes) -> None:
        state = {key: value for key, value in self.now.items() if not start <= key < stop}
        self._change(state, lambda: self.db.discard(start, stop))

    def _change(self, state: State, act: Callable[[], None], *, is_durable: bool | None = None) -> None:
        self.states.append(state)
        try:
            act()
        except engine.PoisonedError as error:
            # It is in memory and perhaps on disk: either way is right.
            self._note(error)
            self.reopen()
        except OSError as error:
            self.states.pop()
            self._note(error)
            assert_state(self.db, self.now)
        else:
            self.done = len(self.states) - 1
            if self.is_always if is_durable is None else is_durable:
                self.durable = self.done

    # -- the rest -----------------------------------------------------------------------------------

    def sync(self) -> None:
        self._attempt(lambda: self.db.sync(), is_durable=True)

    def flush(self) -> None:
        self._attempt(lambda: self.db.flush(), is_durable=True)

    def compact(self, start: bytes | None = None, stop: bytes | None = None) -> None:
        self._attempt(lambda: self.db.compact(start, stop), is_durable=True)

    def checkpoint(self, path: str) -> None:
        self.copied = self.now
        self._attempt(lambda: self.db.checkpoint(path), is_durable=True)

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Hold a snapshot meanwhile, and see that it does not change."""
        held: list[engine.Snapshot] = []
        self._attempt(lambda: held.append(self.db.snapshot()))
        state, db = self.now, self.db
        yield
        if held and db is self.db:
            self._attempt(lambda: assert_equal(dict(held[0].scan()), state))
            held[0].close()

    def reopen(self) -> None:
        """Close and open again."""
        is_clean = self._attempt(self.db.close)
        if is_clean:
            self.durable = self.done
        self.db = self._open()
        self._settle()

    def close(self) -> None:
        if self._attempt(self.db.close):
            self.durable = self.done

    def _attempt(self, act: Callable[[], object], *, is_durable: bool = False) -> bool:
        try:
            act()
        except engine.PoisonedError as error:
            self._note(error)
            if not is_closed(self.db):
                self.reopen()
            return False
        except OSError as error:
            self._note(error)
            return False
        if is_durable:
            self.durable = self.done
        return True

    def _open(self) -> engine.Database:
        try:
            return engine.open(PATH, fs=self.fs, **self.options)
        except OSError as error:
            self._note(error)
            return engine.open(PATH, fs=self.fs, **self.options)

    def _settle(self) -> None:
        """Find out which state it is, if a write failed in a way that leaves it open."""
        if len(self.states) == self.done + 1:
            return
        found: State = {}
        if not self._attempt(lambda: found.update(self.db.scan())):
            found = dict(self.db.scan())
        assert found in self.states[self.done :], describe(found, self.states[self.done :])
        self.done = self.done + self.states[self.done :].index(found)
        del self.states[self.done + 1 :]

    def _note(self, error: Exception) -> None:
        if not self.tolerant:
            raise error
        self.errors.append(error)


def is_closed(db: engine.Database) -> bool:
    """Tell whether `close` has been called, whatever came of it."""
    try:
        db.sync()
    except engine.ClosedError:
        return True
    except engine.EngineError:
        return False
    return False


def tell(run: Run) -> None:
    """The history. Deterministic; about 70 writes and 900 file operations."""
    random = Random(7)

    def value() -> bytes:
        return random.randbytes(random.choice((0, 3, 20, 60))) + b"%d" % run.done

    for i in range(12):
        run.put(b"d%02d" % i, value())
        run.put(b"k%02d" % random.randrange(30), value())
    run.sync()
    run.write({b"k%02d" % i: None if i % 3 == 0 else value() for i in range(10)})
    run.write({b"e%02d" % i: value() for i in range(5)}, sync=False)
    with run.snapshot():
        for _ in range(10):
            run.delete(b"k%02d" % random.randrange(30))
            run.put(b"k%02d" % random.randrange(30), value())
        run.discard(b"d02", b"d09")
        run.flush()
        run.put(b"m", value())
    run.reopen()
    with run.snapshot():
        # The log of this opening holds nothing yet; the next one must be found all the same.
        run.put(b"n", value())
    run.write({b"big": random.randbytes(3000), b"k00": None})
    run.checkpoint(COPY)
    for _ in range(10):
        run.write(
            {b"k%02d" % random.randrange(30): value() if random.random() < 0.6 else None for _ in "123"}
        )
    run.compact(b"k05", b"k20")
    run.discard(b"d", b"e")
    run.put(b"big", value())
    run.compact()
    run.reopen()
    run.reopen()
    for _ in range(6):
        run.put(b"k%02d" % random.randrange(30), value())
    run.close()


# -- what must be so --------------------------------------------------------------------------------


def assert_equal(found: State, state: State) -> None:
    assert found == state, describe(found, [state])


def assert_state(db: engine.Database, state: State) -> None:
    """Assert that a database holds exactly this, whichever way one asks."""
    keys = sorted(state)
    entries = [(key, state[key]) for key in keys]
    assert list(db.scan()) == entries, describe(dict(db.scan()), [state])
    assert list(db.scan(reverse=True)) == entries[::-1]
    assert db.count() == len(keys)
    assert db.count(b"k", b"l") == sum(key.startswith(b"k") for key in keys)
    for i in range(0, len(keys), max(len(keys) // 10, 1)):
        assert db[keys[i]] == state[keys[i]]
        assert db.select(None, None, i) == entries[i]


def describe(found: State, states: list[State]) -> str:
    """Say in which keys what was found differs from each state that would be right."""
    lines = [
        f"{name}: missing {sorted(state.keys() - found.keys())}, unexpected "
        f"{sorted(found.keys() - state.keys())}, other values "
        f"{sorted(key for key in found.keys() & state.keys() if found[key] != state[key])}"
        for name, state in enumerate(states[-5:])
    ]
    return "\n".join(["no state that may be there (differences from the last ones):", *lines])


def assert_no_orphans(fs: FileSystem, path: str = PATH) -> None:
    """Assert that a closed database's folder holds its files and no others."""
    names = set(fs.list_directory(path))
    manifest = read_manifest(fs, path)
    live = {piece.segment for runs in manifest.levels for run in runs for piece in run.slices}
    for name in names - {LOCK, MANIFEST}:
        assert not is_temporary(name), names
        parsed = parse_name(name)
        assert parsed is not None, names
        kind, number = parsed
        assert number in live if kind == "seg" else number >= manifest.wal_first, (name, names, manifest)


def recover(fs: MemoryFileSystem, states: list[State], **options: Any) -> State:
    """Open what a crash has left, hold it against the states it may be in, write on, and open it again."""
    options = SMALL | {"sync": "no"} | options
    with engine.open(PATH, fs=fs, **options) as db:
        found = dict(db.scan())
        assert found in states, describe(found, states)
        assert_state(db, found)
        after = found | {b"after": b"the crash"}
        db.put(b"after", b"the crash")
    with engine.open(PATH, fs=fs, **options) as db:
        assert_state(db, after)
        assert_consistent(db)
    assert_no_orphans(fs)
    return found

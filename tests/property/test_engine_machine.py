"""The engine against a dict: Hypothesis draws options and a history, and shrinks what goes wrong.

After each step every invariant of engine/check.py must hold. A find is kept as a test of its own in
test_engine_finds.py.

    machine             background          file system     crashes
    `InlineMachine`     inline              memory          kill -9, power loss
    `ThreadMachine`     a thread            memory          kill -9, power loss
    `ProcessMachine`    a worker process    disk            none

A failure of the first can be repeated; the others depend on timing.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import lamina.engine as engine
from harness.memory_filesystem import MemoryFileSystem
from harness.model import Model, Pair, State, assert_same
from harness.piles import shrink_piles
from lamina.engine.check import assert_consistent, check_directory
from lamina.engine.filesystem import DiskFileSystem, FileSystem
from lamina.engine.reading import Readable, prefix_end

T = TypeVar("T")
Write = tuple[bytes, bytes | None]

# Drawn keys and values are short, so that failures are readable; `wide` makes some of them long. Floors are
# cut at 4096 bytes: keys of the same prefix here share just that, or a byte less, or more.
PREFIXES = {
    b"K:": b"L" * 4094,
    b"L:": b"L" * 4095,
    b"M:": b"L" * 4096,
    b"N:": b"L" * 5000,
    b"H:": b"\xff" * 4096,
}
VALUES = {
    b"all": bytes(range(256)),
    b"same": b"long " * 120,
    b"mixed": bytes(i * i % 251 for i in range(700)),
}
SHORT_KEYS = [
    b"", b"\x00", b"\x00\x00", b"\x01", b"\xff", b"\xff\xff", b"\xff\xff\x01", b"\xff\x00", b"a", b"a\x00",
    b"a\xff", b"aa", b"ab", b"b", b"b" * 30, b"b" * 30 + b"\x00", *(b"k%04d" % i for i in range(24)),
]  # fmt: skip
COLLECTIONS = [b"C" + bytes((i,)) for i in (0, 1, 2, 3, 0x80, 0xFE, 0xFF)]
MEMBERS = [prefix + name for prefix in COLLECTIONS for name in (b"", b"\x00", b"1", b"22", b"\xff")]
LONG_KEYS = [
    prefix + name for prefix in PREFIXES for name in (b"", b"\x00", b"M", b"a", b"a\x00", b"b", b"\xff")
]


def wide(key: T) -> T:
    """Return the key that a drawn one stands for."""
    if isinstance(key, bytes) and key[:2] in PREFIXES:
        return PREFIXES[key[:2]] + key[2:]  # type: ignore[return-value]
    return key


short_keys = st.sampled_from(SHORT_KEYS)
keys = st.one_of(short_keys, short_keys, st.sampled_from(MEMBERS), st.sampled_from(LONG_KEYS))
values = st.sampled_from([b"", b"1", b"two", b"3" * 30, *VALUES])
writes = st.tuples(keys, st.one_of(values, values, st.none()))
bounds = st.one_of(st.none(), keys, st.binary(max_size=2))
stored = st.fixed_dictionaries(
    {
        "memory": st.sampled_from([65536, 1 << 20]),
        "memtable_size_bytes": st.sampled_from([256, 1000, 4000, 20000]),
        "block_size_bytes": st.sampled_from([64, 128, 512]),
        "segment_size_bytes": st.sampled_from([1024, 2048, 8192]),
        "level_runs_max": st.sampled_from([2, 3, 4]),
        "compression": st.sampled_from(["lz4", "none"]),
        "filter_bits_per_key": st.sampled_from([0, 1, 10]),
        "sync": st.sampled_from(["always", "no", "no", "everysec"]),
        "open_files_max": st.sampled_from([8, 512]),
        "verify_on_open": st.booleans(),
    }
)  # fmt: skip


class Held(NamedTuple):
    """Something opened earlier, and what it must show."""

    what: Any
    state: State


class HeldScan(NamedTuple):
    """A scan that was begun earlier; `touched`: keys that have been written since, None for snapshots."""

    entries: Iterator[Pair]
    expected: list[Pair]
    seen: list[Pair]
    touched: set[bytes] | None


class EngineMachine(RuleBasedStateMachine):
    """The rules; subclasses choose where it all takes place."""

    background = "inline"

    def __init__(self) -> None:
        super().__init__()
        self.fs: FileSystem = self.make_file_system()
        self.path = "/stores/db"
        self.names = (f"/stores/copy{i}" for i in itertools.count())
        self.model = Model()
        self.history: list[State] = [self.model.state()]
        self.durable = 0
        self.snapshots: list[Held] = []
        self.scans: list[HeldScan] = []
        self.copies: list[Held] = []
        self.db: engine.Database | None = None
        self.options: dict[str, Any] = {}

    def make_file_system(self) -> FileSystem:
        return MemoryFileSystem()

    # -- opening and closing ---------------------------------------------------------------------

    @initialize(options=stored, counted=st.booleans())
    def create(self, options: dict[str, Any], counted: bool) -> None:
        self.counted = counted
        self.open(options | {"counted": counted})

    def open(self, options: dict[str, Any]) -> None:
        self.options = options
        self.db = engine.open(self.path, fs=self.fs, background=self.background, **options)
        assert self.db.counted == self.counted
        self.durable = len(self.history) - 1

    @property
    def opened(self) -> engine.Database:
        assert self.db is not None
        return self.db

    @rule(options=stored, hold=st.booleans())
    def reopen(self, options: dict[str, Any], hold: bool) -> None:
        """Close and open with other options. `hold`: snapshots are closed only after the database."""
        if not hold:
            self.let_go()
        self.close()
        self.let_go()
        self.check_closed()
        self.open(options)
        self.model.assert_holds(self.opened)

    def close(self) -> None:
        db, self.db = self.opened, None
        db.close()

    def let_go(self) -> None:
        for snapshot in self.snapshots:
            snapshot.what.close()
        self.snapshots.clear()
        self.scans.clear()

    def check_closed(self) -> None:
        findings = [f for f in check_directory(self.path, self.fs) if "will be merged" not in f.what]
        if self.background != "inline":  # a merge that is broken off leaves files behind
            findings = [finding for finding in findings if finding.severity == "error"]
        assert not findings, "\n".join(map(str, findings))

    @precondition(lambda self: isinstance(self.fs, MemoryFileSystem))
    @rule(options=stored)
    def kill(self, options: dict[str, Any]) -> None:
        """Everything acknowledged must be there."""
        assert isinstance(self.fs, MemoryFileSystem)
        self.after_crash(self.fs.process_crash_clone(), options)
        self.model.assert_holds(self.opened)

    @precondition(lambda self: isinstance(self.fs, MemoryFileSystem))
    @rule(options=stored, seed=st.integers(0, 1000), unsynced_percent=st.sampled_from([0, 30, 90]))
    def lose_power(self, options: dict[str, Any], seed: int, unsynced_percent: int) -> None:
        """What is there must be a prefix of history, with everything that was made durable."""
        assert isinstance(self.fs, MemoryFileSystem)
        durable = self.durable
        self.after_crash(self.fs.power_loss_clone(seed, unsynced_percent), options)
        found = dict(self.opened.scan())
        for i in range(len(self.history) - 1, durable - 1, -1):
            if self.history[i].entries == found:
                break
        else:
            latest = Model(self.history[durable])
            latest.assert_holds(self.opened)
            raise AssertionError("what power loss left is no prefix of history")
        del self.history[i + 1 :]
        self.durable = i
        self.model = Model(self.history[i])

    def after_crash(self, fs: MemoryFileSystem, options: dict[str, Any]) -> None:
        self.let_go()
        self.close()
        self.copies.clear()
        self.fs = fs
        errors = [finding for finding in check_directory(self.path, fs) if finding.severity == "error"]
        assert not errors, "\n".join(map(str, errors))
        self.open(options)

    # -- writing ---------------------------------------------------------------------------------

    def usable(self, entries: Sequence[Write]) -> list[Write]:
        """Return what the drawn entries stand for, without those that must not be written any more."""
        return [
            (wide(key), None if value is None else VALUES.get(value, value))
            for key, value in entries
            if not self.model.is_dead(key)
        ]

    def applied(self, entries: list[Write]) -> None:
        for key, value in entries:
            if value is None:
                self.model.entries.pop(key, None)
            else:
                self.model.entries[key] = value
        self.written({key for key, _ in entries})

    def written(self, touched: set[bytes], *, sync: bool = True) -> None:
        self.history.append(self.model.state())
        if self.options["sync"] == "always" and sync:
            self.durable = len(self.history) - 1
        for scan in self.scans:
            if scan.touched is not None:
                scan.touched.update(touched)

    def hint(self, key: bytes, give: bool) -> bool | None:
        return key in self.model.entries if give else None

    @rule(entry=st.tuples(keys, values), give_hint=st.booleans())
    def put(self, entry: tuple[bytes, bytes], give_hint: bool) -> None:
        for key, value in self.usable([entry]):
            assert value is not None
            self.opened.put(key, value, existed=self.hint(key, give_hint))
            self.applied([(key, value)])

    @rule(key=keys, give_hint=st.booleans())
    def delete(self, key: bytes, give_hint: bool) -> None:
        key = wide(key)
        if not self.model.is_dead(key):
            self.opened.delete(key, existed=self.hint(key, give_hint))
            self.applied([(key, None)])

    @rule(entries=st.lists(writes, max_size=30), give_hints=st.booleans())
    def batch(self, entries: list[Write], give_hints: bool) -> None:
        entries = self.usable(entries)
        with self.opened.batch() as batch:
            self.fill(batch, entries, give_hints)
        self.applied(entries)

    def fill(self, batch: engine.Batch, entries: list[Write], give_hints: bool) -> None:
        for key, value in entries:
            if value is None:
                batch.delete(key, existed=self.hint(key, give_hints))
            else:
                batch.put(key, value, existed=self.hint(key, give_hints))

    @rule(
        lists=st.lists(st.lists(writes, max_size=6), max_size=3), give_hints=st.booleans(), sync=st.booleans()
    )
    def several_batches(self, lists: list[list[Write]], give_hints: bool, sync: bool) -> None:
        batches: list[engine.Batch] = []
        touched: set[bytes] = set()
        before = self.model.state()
        for entries in map(self.usable, lists):
            batch = engine.Batch()
            self.fill(batch, entries, give_hints)
            batches.append(batch)
            for key, value in entries:
                touched.add(key)
                if value is None:
                    self.model.entries.pop(key, None)
                else:
                    self.model.entries[key] = value
        assert before.dead == self.model.dead
        self.opened.write(*batches, sync=sync)
        self.written(touched, sync=sync)

    @rule(
        lists=st.lists(st.lists(writes, max_size=8), min_size=1, max_size=4),
        prefix=st.one_of(st.none(), st.sampled_from(COLLECTIONS)),
        last=st.one_of(st.none(), st.lists(writes, max_size=6)),
        give_hints=st.booleans(),
        look=st.sampled_from(["no", "scan", "count", "both"]),
        outcome=st.sampled_from(["write", "write", "unstage", "reopen"]),
        sync=st.booleans(),
    )
    def stages(
        self,
        lists: list[list[Write]],
        prefix: bytes | None,
        last: list[Write] | None,
        give_hints: bool,
        look: str,
        outcome: str,
        sync: bool,
    ) -> None:
        """Stage batches, and look at them; then write them, with one more, or take them back.

        In one rule: until the end the memtable holds what its log does not, which no invariant allows.
        """
        before = self.model.state()
        touched: set[bytes] = set()
        if prefix in self.model.dead:
            prefix = None
        batch = engine.Batch()
        for entries in [*lists, last or []]:
            usable = self.usable(entries)
            if prefix is not None:
                usable = [(key, value) for key, value in usable if not key.startswith(prefix)]
            self.fill(batch, usable, give_hints)
            for key, value in usable:
                touched.add(key)
                if value is None:
                    self.model.entries.pop(key, None)
                else:
                    self.model.entries[key] = value
            if entries is last:
                break
            self.opened.stage(batch)
            batch.clear()
            if look in ("count", "both"):
                assert self.opened.count() == len(self.model.entries)
            if look in ("scan", "both"):
                self.model.assert_holds(self.opened)
        for scan in self.scans:
            if scan.touched is not None:
                scan.touched.update(touched)
        if outcome == "write":
            if prefix is not None:
                stop = prefix_end(prefix)
                assert stop is not None
                batch.discard(prefix, stop)
                touched |= {key for key in self.model.entries if key.startswith(prefix)}
                self.model.discard(prefix)
            self.opened.write(batch, sync=sync)
            self.written(touched, sync=sync)
            return
        self.model = Model(before)
        if outcome == "unstage":
            self.opened.unstage()
        else:
            self.let_go()
            self.close()
            self.check_closed()
            self.open(self.options)
        self.model.assert_holds(self.opened)

    @rule(first=st.integers(0, 300), count=st.integers(1, 80), size=st.sampled_from([0, 10, 300]))
    def load(self, first: int, count: int, size: int) -> None:
        """Many keys in a row, so that trees get several segments and levels."""
        entries: list[Write] = [
            (b"k%04d" % i, b"%d/" % len(self.history) + b"." * size) for i in range(first, first + count)
        ]
        self.write_in_portions(entries)

    def write_in_portions(self, entries: list[Write]) -> None:
        for at in range(0, len(entries), 20):
            with self.opened.batch() as batch:
                self.fill(batch, entries[at : at + 20], False)
            self.applied(entries[at : at + 20])

    @rule(first=st.integers(0, 300), count=st.integers(1, 80))
    def unload(self, first: int, count: int) -> None:
        """Remove many keys in a row, so that blocks, segments and runs vanish."""
        self.write_in_portions([(b"k%04d" % i, None) for i in range(first, first + count)])

    @rule(prefix=st.sampled_from(COLLECTIONS), entries=st.lists(writes, max_size=4))
    def discard(self, prefix: bytes, entries: list[Write]) -> None:
        """Discard a collection, in one batch with writes to others."""
        if prefix in self.model.dead:
            return
        entries = [(key, v) for key, v in self.usable(entries) if not key.startswith(prefix)]
        stop = prefix_end(prefix)
        assert stop is not None
        with self.opened.batch() as batch:
            batch.discard(prefix, stop)
            self.fill(batch, entries, False)
        touched = {key for key in self.model.entries if key.startswith(prefix)}
        self.model.discard(prefix)
        for key, value in entries:
            if value is None:
                self.model.entries.pop(key, None)
            else:
                self.model.entries[key] = value
        self.written(touched | {key for key, _ in entries})

    # -- reading ---------------------------------------------------------------------------------

    @rule(key=keys)
    def get(self, key: bytes) -> None:
        key = wide(key)
        if not self.model.is_dead(key):
            expected = self.model.entries.get(key)
            assert self.opened.get(key) == expected
            assert (key in self.opened) == (expected is not None)
            assert self.opened.get(key, b"default") == (b"default" if expected is None else expected)

    @rule(
        start=bounds,
        stop=bounds,
        prefix=st.one_of(st.none(), st.none(), keys, st.sampled_from(COLLECTIONS)),
        reverse=st.booleans(),
        limit=st.one_of(st.none(), st.integers(0, 40)),
    )
    def scan(
        self, start: bytes | None, stop: bytes | None, prefix: bytes | None, reverse: bool, limit: int | None
    ) -> None:
        start, stop, prefix = wide(start), wide(stop), wide(prefix)
        expected = self.model.range(start, stop, prefix)
        assert self.opened.count(start, stop, prefix=prefix) == len(expected)
        if reverse:
            expected.reverse()
        found = list(self.opened.scan(start, stop, prefix=prefix, reverse=reverse, limit=limit))
        assert_same(found, expected[:limit])

    @rule(start=bounds, stop=bounds, n=st.integers(-1, 60), reverse=st.booleans(), key=keys)
    def positions(self, start: bytes | None, stop: bytes | None, n: int, reverse: bool, key: bytes) -> None:
        self.compare_positions(self.opened, self.model, wide(start), wide(stop), n, reverse, wide(key))

    def compare_positions(
        self,
        db: Readable,
        model: Model,
        start: bytes | None,
        stop: bytes | None,
        n: int,
        reverse: bool,
        key: bytes,
    ) -> None:
        inside = model.range(start, stop)
        assert db.count(start, stop) == len(inside)
        if reverse:
            inside.reverse()
        expected = inside[n] if 0 <= n < len(inside) else None
        assert db.select(start, stop, n, reverse=reverse) == expected
        below = [k for k, _ in model.range(start)]
        assert db.rank(key, start) == bisect_left(below, key)

    @rule()
    def everything(self) -> None:
        self.model.assert_holds(self.opened)

    # -- reading the past ------------------------------------------------------------------------

    @precondition(lambda self: len(self.snapshots) < 3)
    @rule()
    def take_snapshot(self) -> None:
        self.snapshots.append(Held(self.opened.snapshot(), self.model.state()))

    @precondition(lambda self: self.snapshots)
    @rule(i=st.integers(0, 2), start=bounds, stop=bounds, n=st.integers(0, 60), key=keys, close=st.booleans())
    def read_snapshot(
        self, i: int, start: bytes | None, stop: bytes | None, n: int, key: bytes, close: bool
    ) -> None:
        held = self.snapshots[i % len(self.snapshots)]
        model = Model(held.state)
        model.assert_holds(held.what)
        start, stop, key = wide(start), wide(stop), wide(key)
        self.compare_positions(held.what, model, start, stop, n, False, key)
        if not model.is_dead(key):
            assert held.what.get(key) == model.entries.get(key)
        if close:
            self.snapshots.remove(held)
            held.what.close()

    @precondition(lambda self: len(self.scans) < 3)
    @rule(start=bounds, stop=bounds, reverse=st.booleans(), of_snapshot=st.booleans())
    def begin_scan(self, start: bytes | None, stop: bytes | None, reverse: bool, of_snapshot: bool) -> None:
        start, stop = wide(start), wide(stop)
        source: Readable = self.opened
        expected = self.model.range(start, stop)
        if of_snapshot and self.snapshots:
            source = self.snapshots[-1].what
            expected = Model(self.snapshots[-1].state).range(start, stop)
        if reverse:
            expected.reverse()
        touched: set[bytes] | None = None if source is not self.opened else set()
        self.scans.append(HeldScan(source.scan(start, stop, reverse=reverse), expected, [], touched))

    @precondition(lambda self: self.scans)
    @rule(i=st.integers(0, 2), count=st.integers(1, 50), finish=st.booleans())
    def go_on_scanning(self, i: int, count: int, finish: bool) -> None:
        scan = self.scans[i % len(self.scans)]
        scan.seen.extend(itertools.islice(scan.entries, None if finish else count))
        touched = scan.touched or set()
        seen = [pair for pair in scan.seen if pair[0] not in touched]
        expected = [pair for pair in scan.expected if pair[0] not in touched]
        assert_same(seen, expected if finish else expected[: len(seen)])
        passed = [key for key, _ in scan.seen]
        assert passed in (sorted(set(passed)), sorted(set(passed), reverse=True))
        if finish:
            self.scans.remove(scan)

    @precondition(lambda self: len(self.copies) < 3)
    @rule(from_reader=st.booleans())
    def checkpoint(self, from_reader: bool) -> None:
        path = next(self.names)
        if from_reader:
            with self.open_reader() as reader:
                try:
                    reader.checkpoint(path)
                except FileNotFoundError:
                    # The writer has removed files since; a reader has no say in that.
                    assert self.background != "inline"
                    return
        else:
            self.opened.checkpoint(path)
            self.durable = len(self.history) - 1
        self.copies.append(Held(path, self.model.state()))

    @precondition(lambda self: self.copies)
    @rule(options=stored, write=st.booleans())
    def open_checkpoint(self, options: dict[str, Any], write: bool) -> None:
        """A checkpoint is a database of its own: what happens to either leaves the other alone."""
        held = self.copies.pop(0)
        findings = [f for f in check_directory(held.what, self.fs) if "will be merged" not in f.what]
        assert not findings, "\n".join(map(str, findings))
        with engine.open(held.what, fs=self.fs, background="inline", **options) as copy:
            Model(held.state).assert_holds(copy)
            if write:
                for i in range(10):
                    copy.put(b"copy%d" % i, b"." * 100)
                copy.compact()
            assert_consistent(copy)

    def open_reader(self) -> engine.Database:
        return engine.open(self.path, fs=self.fs, read_only=True)

    @rule()
    def read_only(self) -> None:
        with self.open_reader() as reader:
            self.model.assert_holds(reader)
            assert reader.count() == len(self.model.entries)
            if self.background == "inline":  # else files may go under a check, which opens them anew
                assert_consistent(reader)
            with reader.snapshot() as snapshot:
                self.model.assert_holds(snapshot)

    # -- maintenance -----------------------------------------------------------------------------

    @rule()
    def flush(self) -> None:
        self.opened.flush()
        self.durable = len(self.history) - 1

    @rule()
    def compact(self) -> None:
        self.opened.compact()
        self.durable = len(self.history) - 1

    @rule(start=bounds, stop=bounds)
    def compact_range(self, start: bytes | None, stop: bytes | None) -> None:
        self.opened.compact(wide(start), wide(stop))

    @rule(pause=st.booleans())
    def pause_or_resume(self, pause: bool) -> None:
        if pause:
            self.opened.pause()
        else:
            self.opened.resume()

    @rule()
    def sync(self) -> None:
        self.opened.sync()
        self.durable = len(self.history) - 1

    @rule()
    def idle(self) -> None:
        assert self.opened.wait_idle(30)
        self.opened.verify()
        self.opened.stats()

    # -- what always holds -----------------------------------------------------------------------

    @invariant()
    def is_consistent(self) -> None:
        if self.db is not None:
            assert_consistent(self.db)
            assert self.db.stats().background_error is None

    def teardown(self) -> None:
        if self.db is not None:
            try:
                self.model.assert_holds(self.db)
            finally:
                self.let_go()
                self.close()
            self.check_closed()


class InlineMachine(EngineMachine):
    """Deterministic."""


class ThreadMachine(EngineMachine):
    """Flushes and merges take place beside the rules."""

    background = "thread"


class ProcessMachine(EngineMachine):
    """On a real disk, with a real worker."""

    background = "process"

    def __init__(self) -> None:
        self.directory = tempfile.mkdtemp(prefix="lamina-machine-")
        super().__init__()
        self.path = self.directory + "/db"
        self.names = (f"{self.directory}/copy{i}" for i in itertools.count())

    def make_file_system(self) -> FileSystem:
        return DiskFileSystem()

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            shutil.rmtree(self.directory)


def run(machine: type[EngineMachine], examples: int, steps: int = 40) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=examples, stateful_step_count=steps, suppress_health_check=checks),
    )


def test_inline() -> None:
    run(InlineMachine, 120)


def test_inline_with_small_piles(monkeypatch: pytest.MonkeyPatch) -> None:
    """What memtables do with many keys when ranges are read, they do with a few."""
    shrink_piles(monkeypatch, small=4)
    run(InlineMachine, 60)


def test_thread() -> None:
    run(ThreadMachine, 25)


def test_process() -> None:
    run(ProcessMachine, 5, steps=20)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("steps", [20, 60, 200])
def test_inline_soak(steps: int) -> None:
    run(InlineMachine, 60_000 // steps, steps)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_thread_soak() -> None:
    run(ThreadMachine, 500)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_process_soak() -> None:
    run(ProcessMachine, 50)

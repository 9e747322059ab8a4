"""Everything at once: writers, readers and maintenance in threads of their own, for a while.

Each writer owns its keys, so it knows what must be there while the others are busy. What this finds is not
repeatable; whatever it has found has a test of its own beside the module at fault.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

import lamina.engine as engine
from lamina.engine.check import assert_consistent

KEYS = [b"k%04d" % n for n in range(500)]


class Chaos:
    """One database and those who work on it until `seconds` have passed or something is wrong."""

    def __init__(self, path: Path, seed: int, **options: Any) -> None:
        random = Random(seed)
        self.path = path
        self.seed = seed
        self.options: dict[str, Any] = {
            "sync": random.choice(("no", "everysec", "always")),
            "memtable_size_bytes": random.choice((1500, 6000)),
            "block_size_bytes": random.choice((128, 512)),
            "segment_size_bytes": random.choice((1024, 4096)),
            "level_runs_max": random.choice((2, 3)),
            "memory": random.choice((1 << 17, 1 << 21)),
            "open_files_max": 8,
            **options,
        }
        self.db = engine.open(path / "db", **self.options)
        self.states: list[dict[bytes, bytes]] = [{}, {}]
        self.errors: list[BaseException] = []
        self.stop = threading.Event()

    def run(self, seconds: float) -> None:
        jobs: list[Callable[[], None]] = [
            lambda: self.write(0),
            lambda: self.write(1),
            self.read,
            self.maintain,
        ]
        threads = [threading.Thread(target=self.guarded, args=(job,), daemon=True) for job in jobs]
        for thread in threads:
            thread.start()
        self.stop.wait(seconds)
        self.stop.set()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive(), "somebody waits for ever"
        if self.errors:
            self.db.close()
            raise self.errors[0]

    def guarded(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            error.add_note(f"seed {self.seed}, {self.options}")
            self.errors.append(error)
            self.stop.set()

    def write(self, number: int) -> None:
        random = Random(self.seed * 10 + number)
        db, state = self.db, self.states[number]
        mine = [key + b":%d" % number for key in KEYS]
        epoch = 0
        while not self.stop.is_set():
            key, choice = random.choice(mine), random.random()
            if choice < 0.5:
                state[key] = random.randbytes(random.choice((0, 5, 10, 10, 40, 900)))
                db.put(key, state[key])
            elif choice < 0.7:
                state.pop(key, None)
                db.delete(key)
            elif choice < 0.9:
                with db.batch() as batch:
                    for key in random.choices(mine, k=random.randrange(1, 20)):
                        if random.random() < 0.4:
                            state.pop(key, None)
                            batch.delete(key)
                        else:
                            state[key] = random.randbytes(8)
                            batch.put(key, state[key])
            elif choice < 0.93:
                epoch += 1
                self.discard(b"d%d:%06d:" % (number, epoch), random)
            else:
                for key in random.sample(mine, 10):
                    assert db.get(key) == state.get(key), key
                start = random.choice(KEYS)
                found = db.scan(start, reverse=random.random() < 0.5)
                own = {key: value for key, value in found if key.endswith(b":%d" % number)}
                assert own == {key: value for key, value in state.items() if key >= start}

    def discard(self, prefix: bytes, random: Random) -> None:
        for n in range(random.randrange(1, 30)):
            self.db.put(prefix + b"%d" % n, b"x" * 20)
        if random.random() < 0.5:
            self.db.delete(prefix + b"0")
        self.db.discard(prefix, prefix + b"\xff")
        assert self.db.count(prefix=prefix) == 0

    def read(self) -> None:
        random = Random(self.seed + 1)
        while not self.stop.is_set():
            with self.db.snapshot() as snapshot:
                items = list(snapshot.scan())
                assert snapshot.count() == len(items)
                assert list(snapshot.scan(reverse=True)) == items[::-1]
                start, stop = sorted(random.choices(KEYS, k=2))
                assert snapshot.count(start, stop) == sum(start <= key < stop for key, _ in items)
                if items:
                    n = random.randrange(len(items))
                    assert snapshot.select(None, None, n) == items[n]
                    assert snapshot.get(items[n][0]) == items[n][1]
            assert self.db.count(b"zzz") == 0

    def maintain(self) -> None:
        random = Random(self.seed + 2)
        db = self.db
        tasks: list[Callable[[], object]] = [
            lambda: db.compact(*sorted(random.choices(KEYS, k=2))),
            db.compact,
            db.flush,
            db.verify,
            lambda: (db.pause(), time.sleep(0.01), db.resume()),
            lambda: (db.stats(), db.sync()),
            self.copy,
            self.look,
            self.kill_worker,
        ]
        while not self.stop.is_set():
            random.choice(tasks)()
            time.sleep(0.005)

    def copy(self) -> None:
        copy = self.path / "copy"
        self.db.checkpoint(copy)
        with engine.open(copy, background="inline") as db:
            assert db.count() == sum(1 for _ in db.scan())
        shutil.rmtree(copy)

    def look(self) -> None:
        with engine.open(self.path / "db", read_only=True) as db:
            assert db.count() == sum(1 for _ in db.scan())

    def kill_worker(self) -> None:
        pid = self.db.stats().worker_pid
        if pid is not None:
            os.kill(pid, signal.SIGKILL)

    def check(self) -> None:
        expected = self.states[0] | self.states[1]
        self.compare(self.db, expected)
        self.db.compact()
        self.compare(self.db, expected)
        assert self.db.stats().background_error is None
        self.db.close()
        with engine.open(self.path / "db", background="inline") as db:
            self.compare(db, expected)

    def compare(self, db: engine.Database, expected: dict[bytes, bytes]) -> None:
        assert dict(db.scan()) == expected
        assert db.count() == len(expected)
        assert_consistent(db)


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("background", ["thread", "process"])
def test_everything_at_once(tmp_path: Path, background: str, counted: bool) -> None:
    chaos = Chaos(tmp_path, 1, background=background, counted=counted)
    chaos.run(1.5)
    chaos.check()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("background", ["thread", "process", "inline"])
@pytest.mark.parametrize("seed", range(2, 12))
def test_everything_at_once_for_long(tmp_path: Path, background: str, counted: bool, seed: int) -> None:
    chaos = Chaos(tmp_path, seed, background=background, counted=counted)
    chaos.run(20)
    chaos.check()

"""lamina compact: in place and into a new database, whole and in part, broken off wherever it may be."""

from __future__ import annotations

import datetime
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lamina.engine as engine
from harness.diskdata import contents, open_server, plain_database, server_database
from lamina.engine.check import check_directory
from lamina.engine.compaction.job import Step
from lamina.engine.filesystem import DiskFileSystem
from lamina.engine.manifest import read_manifest
from lamina.engine.segment.check import open_uncached
from lamina.engine.workers import ProcessWorker, Reply
from lamina.tools import compact as compact_verb
from lamina.tools.compact import disk_bytes, seconds_until, size_of_text
from lamina.tools.console import UsageError
from lamina.tools.reclaim import estimate

Run = Callable[..., Any]

ENTRIES = 6000


def large_database(directory: Path, *, counted: bool = True) -> Path:
    """Write entries of which half are written over and a quarter removed: many runs of many segments."""
    randomness = random.Random(7)
    options: dict[str, Any] = {
        "background": "inline",
        "sync": "no",
        "counted": counted,
        "memtable_size_bytes": 400_000,
        "segment_size_bytes": 16 << 10,
        "block_size_bytes": 1 << 10,
        "level_runs_max": 64,
    }
    with engine.open(directory, **options) as db:
        for turn in range(2):
            for number in range(turn, ENTRIES, turn + 1):
                db.put(b"key %06d" % number, b"%d " % turn + randomness.randbytes(60))
        for number in range(0, ENTRIES, 4):
            db.delete(b"key %06d" % number)
        db.discard(b"key 001000", b"key 001500")
        db.flush()
        db.put(b"key 000001", b"in the log")
    return directory


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("originals")
    return {
        "large": large_database(folder / "large"),
        "blind": large_database(folder / "blind", counted=False),
        "plain": plain_database(folder),
        "server": server_database(folder),
    }


@pytest.fixture
def copy(originals: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(originals[name], tmp_path / "db"))


def assert_sound(directory: Path) -> None:
    findings = check_directory(str(directory), DiskFileSystem())
    errors = [finding for finding in findings if finding.severity == "error"]
    assert not errors, "\n".join(map(str, errors))


def assert_one_clean_run(directory: Path) -> None:
    manifest = read_manifest(DiskFileSystem(), str(directory))
    runs = [run for level in manifest.levels for run in level]
    assert len(runs) == 1
    for piece in runs[0].slices:
        p = open_uncached(DiskFileSystem(), str(directory), piece.segment).properties
        assert p.tombstones == 0
        assert piece.entries == p.entries
        assert p.delta == (p.entries if p.counted else 0)
    assert manifest.discards == []


# -- in place --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["large", "blind", "plain", "server"])
@pytest.mark.parametrize("jobs", [1, 3])
def test_in_place(lamina: Run, copy: Callable[[str], Path], name: str, jobs: int) -> None:
    directory = copy(name)
    expected = contents(directory)
    outcome = lamina("compact", directory, "--jobs", jobs, "--segment-size", "16kb", "--json")
    assert (outcome.status, outcome.err) == (0, "")
    facts = outcome.json
    assert facts["complete"] is True
    assert facts["reclaimed_bytes"] == facts["before_bytes"] - facts["after_bytes"] > 0
    assert facts["after_bytes"] == disk_bytes(str(directory))
    assert contents(directory) == expected
    assert_sound(directory)
    assert_one_clean_run(directory)


def test_work_is_shared(copy: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, lamina: Run) -> None:
    """With three processes, at least two of them write segments, and none is tiny for that."""
    steps: list[tuple[int, Step]] = []
    real = ProcessWorker.__init__

    def watched(self: ProcessWorker, on_reply: Callable[[Reply], None]) -> None:
        def noting(reply: Reply) -> None:
            if reply.step is not None and reply.step.segments:
                steps.append((id(self), reply.step))
            on_reply(reply)

        real(self, noting)

    monkeypatch.setattr(ProcessWorker, "__init__", watched)
    directory = copy("large")
    assert lamina("compact", directory, "--jobs", 3, "--segment-size", "16kb").status == 0
    assert len({worker for worker, _ in steps}) >= 2
    sizes = [path.stat().st_size for path in directory.glob("*.seg")]
    assert len(sizes) > 8
    assert sorted(sizes)[len(sizes) // 2] > 8 << 10


def test_compacting_twice_changes_nothing(lamina: Run, copy: Callable[[str], Path]) -> None:
    directory = copy("large")
    lamina("compact", directory)
    before = {path.name: path.read_bytes() for path in directory.glob("*.seg")}
    outcome = lamina("compact", directory, "--json")
    assert outcome.status == 0
    assert {path.name: path.read_bytes() for path in directory.glob("*.seg")} == before


def test_a_part_of_the_keys(lamina: Run, copy: Callable[[str], Path]) -> None:
    directory = copy("large")
    expected = contents(directory)
    start, stop = "key 002000", "key 003000"
    lamina("compact", directory, "--start", start, "--stop", stop, "--jobs", 2, "--segment-size", "16kb")
    assert contents(directory) == expected
    assert_sound(directory)
    manifest = read_manifest(DiskFileSystem(), str(directory))
    runs = [run for level in manifest.levels for run in level]
    assert len(runs) > 1
    inside = [
        run.number
        for run in runs
        if any(p.start < stop.encode() and (p.stop is None or start.encode() < p.stop) for p in run.slices)
    ]
    assert len(inside) == 1


def test_a_database_whose_data_is_all_dead(lamina: Run, tmp_path: Path) -> None:
    with engine.open(tmp_path / "db", background="inline") as db:
        for number in range(100):
            db.put(b"%d" % number, b"v")
        db.flush()
        for number in range(100):
            db.delete(b"%d" % number)
    assert lamina("compact", tmp_path / "db", "--quiet") == (0, "", "")
    assert contents(tmp_path / "db") == []
    assert list((tmp_path / "db").glob("*.seg")) == []


def test_as_text(lamina: Run, copy: Callable[[str], Path]) -> None:
    outcome = lamina("compact", copy("large"))
    assert outcome.out.startswith("compacted: ")
    assert " given back\n" in outcome.out


def test_the_rate_is_kept(lamina: Run, copy: Callable[[str], Path]) -> None:
    """What all processes write together stays below it, once the first buffers are full."""
    directory = copy("large")
    facts = lamina(
        "compact", directory, "--rate", "400kb", "--jobs", 2, "--segment-size", "16kb", "--json"
    ).json
    assert facts["elapsed_s"] > 0.5 * facts["written_bytes"] / (400 << 10)


# -- the deadline ----------------------------------------------------------------------------------


def test_the_deadline_keeps_what_is_done(
    lamina: Run, copy: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = copy("large")
    expected = contents(directory)
    before = {path.name for path in directory.glob("*.seg")}
    monkeypatch.setattr(compact_verb, "seconds_until", lambda text, now: 1.2)
    arguments = ("--until", "05:00", "--rate", "100kb", "--jobs", 2, "--segment-size", "16kb")
    began_s = time.monotonic()
    outcome = lamina("compact", directory, *arguments, "--json")
    assert outcome.status == 0
    assert outcome.json["complete"] is False
    assert time.monotonic() - began_s < 4
    assert contents(directory) == expected
    assert_sound(directory)
    assert {path.name for path in directory.glob("*.seg")} - before
    assert lamina("compact", directory, "--json").json["complete"] is True
    assert contents(directory) == expected
    assert_one_clean_run(directory)


@pytest.mark.parametrize(
    ("now", "text", "expected"),
    [
        ("2026-01-31 23:30:00", "05:00", 5.5 * 3600),
        ("2026-01-31 04:00:00", "05:00", 3600),
        ("2026-01-31 05:00:00", "05:00", 24 * 3600),
        ("2026-01-31 04:59:59", "5:00", 1),
    ],
)
def test_seconds_until(now: str, text: str, expected: float) -> None:
    assert seconds_until(text, datetime.datetime.fromisoformat(now)) == expected


@pytest.mark.parametrize("text", ["", "5", "24:00", "12:60", "noon", "05:00:00"])
def test_times_that_clocks_do_not_show(text: str) -> None:
    with pytest.raises(UsageError, match="HH:MM"):
        seconds_until(text, datetime.datetime(2026, 1, 1))


@pytest.mark.parametrize(
    ("text", "size"), [("4096", 4096), ("16kb", 16384), ("16K", 16384), ("2MB", 2 << 20), ("1g", 1 << 30)]
)
def test_sizes(text: str, size: int) -> None:
    assert size_of_text(text) == size


@pytest.mark.parametrize("text", ["", "kb", "-1", "1.5mb", "1 kb", "1tb"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="sizes are written as"):
        size_of_text(text)


# -- a new database --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["large", "blind", "plain", "server"])
@pytest.mark.parametrize("jobs", [1, 3])
def test_a_new_database(
    lamina: Run, copy: Callable[[str], Path], tmp_path: Path, name: str, jobs: int
) -> None:
    directory, target = copy(name), tmp_path / "new"
    expected = contents(directory)
    before = {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "LOCK"}
    arguments = ("--block-size", "2kb", "--compression", "none", "--filter-bits", 5, "--segment-size", "32kb")
    outcome = lamina("compact", directory, "--output", target, "--jobs", jobs, *arguments, "--json")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.json["entries"] == len(expected)
    assert contents(target) == expected
    assert_sound(target)
    assert_one_clean_run(target)
    assert {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "LOCK"} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["db", "new"]
    properties = [open_uncached(DiskFileSystem(), str(target), n).properties for n in numbers(target)]
    assert {p.filter_bits_per_key for p in properties} == {5}
    with engine.open(target, read_only=True) as db:
        assert db.counted == (name != "blind")


def numbers(directory: Path) -> list[int]:
    return sorted(int(path.stem) for path in directory.glob("*.seg"))


def test_a_new_database_can_be_written_to(lamina: Run, copy: Callable[[str], Path], tmp_path: Path) -> None:
    lamina("compact", copy("large"), "--output", tmp_path / "new")
    expected = dict(contents(tmp_path / "new"))
    with engine.open(tmp_path / "new", background="inline") as db:
        db.put(b"key 000001", b"again")
        db.put(b"more", b"than before")
        db.delete(b"key 000002")
        db.flush()
        db.compact()
    del expected[b"key 000002"]
    expected |= {b"key 000001": b"again", b"more": b"than before"}
    assert dict(contents(tmp_path / "new")) == expected
    assert_sound(tmp_path / "new")


def test_a_server_goes_on_with_the_new_database(
    lamina: Run, copy: Callable[[str], Path], tmp_path: Path
) -> None:
    target = tmp_path / "there" / "lamina"
    target.parent.mkdir()
    assert lamina("compact", copy("server"), "--output", target).status == 0
    servers, local = open_server(target.parent)
    try:
        assert local("LLEN", "list") == 62
        assert local("ZSCORE", "zset", "m1") == b"-2.75"
        assert local("GET", "string:003") == b"changed 3"
        local("SET", "string:003", "again")
    finally:
        servers.close()  # which checks everything


def test_an_empty_database_anew(lamina: Run, tmp_path: Path) -> None:
    engine.open(tmp_path / "db", background="inline").close()
    outcome = lamina("compact", tmp_path / "db", "--output", tmp_path / "new", "--json")
    assert outcome.status == 0
    assert contents(tmp_path / "new") == []
    assert_sound(tmp_path / "new")


def test_a_folder_that_holds_something_is_refused(
    lamina: Run, copy: Callable[[str], Path], tmp_path: Path
) -> None:
    directory = copy("plain")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "letter.txt").write_text("mine")
    outcome = lamina("compact", directory, "--output", tmp_path / "new")
    assert outcome.status == 2
    assert "must not exist, or be empty" in outcome.err
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["letter.txt"]
    assert not (tmp_path / "new.partial").exists()


def test_an_empty_folder_will_do(lamina: Run, copy: Callable[[str], Path], tmp_path: Path) -> None:
    directory = copy("plain")
    (tmp_path / "new").mkdir()
    assert lamina("compact", directory, "--output", tmp_path / "new").status == 0
    assert contents(tmp_path / "new") == contents(directory)


def test_what_is_not_ours_is_not_removed(lamina: Run, copy: Callable[[str], Path], tmp_path: Path) -> None:
    directory = copy("plain")
    (tmp_path / "new.partial").mkdir()
    (tmp_path / "new.partial" / "letter.txt").write_text("mine")
    outcome = lamina("compact", directory, "--output", tmp_path / "new")
    assert outcome.status == 2
    assert "letter.txt is in the way" in outcome.err
    assert (tmp_path / "new.partial" / "letter.txt").read_text() == "mine"
    assert not (tmp_path / "new").exists()


def test_damage_is_told_and_leaves_nothing_behind(
    lamina: Run, copy: Callable[[str], Path], tmp_path: Path
) -> None:
    directory = copy("large")
    path = max(directory.glob("*.seg"), key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.write_bytes(data)
    text = f"lamina compact: {path}: damaged at byte 20: data block checksum"
    outcome = lamina("compact", directory, "--output", tmp_path / "new", "--jobs", 2)
    assert outcome.status == 1
    assert text in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["db"]
    for arguments in (["--jobs", 1], ["--jobs", 2]):
        outcome = lamina("compact", directory, *arguments)
        assert outcome.status == 1
        assert text in outcome.err
    path.write_bytes(data[:-100])
    assert lamina("compact", directory, "--dry-run").status == 1


# -- dry run ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["large", "blind", "plain", "server"])
def test_a_dry_run_changes_nothing_and_is_not_far_off(
    lamina: Run, copy: Callable[[str], Path], name: str
) -> None:
    directory = copy(name)
    before = {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "LOCK"}
    facts = lamina("compact", directory, "--dry-run", "--json").json
    assert {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "LOCK"} == before
    done = lamina("compact", directory, "--json", "--jobs", 1, "--segment-size", "16kb").json
    if name == "large":  # where files are large enough for their headers not to matter
        assert facts["reclaimed_bytes"] == pytest.approx(done["reclaimed_bytes"], rel=0.3)
    assert (facts["reclaimed_bytes"] > 0) == (done["reclaimed_bytes"] > 0)


def test_an_estimate_of_a_part(copy: Callable[[str], Path]) -> None:
    with engine.open(copy("large"), read_only=True) as db:
        whole = estimate(db, b"", None)
        part = estimate(db, b"key 002000", b"key 003000")
        none = estimate(db, b"zzz", None)
        assert part.live_entries == db.count(b"key 002000", b"key 003000")
    assert 0 < part.segment_bytes < whole.segment_bytes / 3
    assert 0 < part.reclaimed_bytes < whole.reclaimed_bytes / 2
    assert (none.segment_bytes, none.samples) == (0, 0)


def test_an_estimate_as_text(lamina: Run, copy: Callable[[str], Path]) -> None:
    text = lamina("compact", copy("large"), "--dry-run").out
    assert "reclaimed  about " in text
    assert "of them alive" in text
    assert "key ranges that were looked at" in text


def test_an_estimate_of_a_clean_database(lamina: Run, copy: Callable[[str], Path]) -> None:
    directory = copy("large")
    lamina("compact", directory)
    facts = lamina("compact", directory, "--dry-run", "--json").json
    assert facts["sampled_live_bytes"] == facts["sampled_stored_bytes"]
    assert facts["expected_bytes"] == facts["segment_bytes"]


# -- usage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["--block-size", "4kb"],
        ["--compression", "none"],
        ["--filter-bits", "5"],
        ["--jobs", "0"],
        ["--jobs", "many"],
        ["--rate", "0"],
        ["--rate", "fast"],
        ["--until", "noon"],
        ["--segment-size", "1"],
        ["--output", "new", "--start", "a"],
        ["--output", "new", "--until", "05:00"],
        ["--output", "new", "--block-size", "1"],
        ["--output", "new", "--compression", "zstd"],
        ["--output", "db"],
        ["--output", "db/new"],
        ["--start", "b", "--stop", "a"],
    ],
)
def test_usage(
    lamina: Run, copy: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    directory = copy("plain")
    monkeypatch.chdir(directory.parent)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    outcome = lamina("compact", "db", *arguments)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("lamina compact: ")
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


def test_no_database(lamina: Run, tmp_path: Path) -> None:
    assert lamina("compact", tmp_path).status == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [[], ["--dry-run"], ["--output", "new"]])
def test_a_database_in_use_is_refused(
    lamina: Run, copy: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    directory = copy("plain")
    monkeypatch.chdir(directory.parent)
    with engine.open(directory, background="inline"):
        outcome = lamina("compact", directory, *arguments)
    assert outcome.status == 2
    assert "in use by process" in outcome.err
    assert not (directory.parent / "new").exists()


# -- broken off ------------------------------------------------------------------------------------


def start(*arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "lamina.tools", "compact", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline_s
        if process.poll() is not None:
            return
        time.sleep(0.002)


@pytest.mark.parametrize("steps", [0, 1, 3, 6, 12])
def test_kill_9_in_place(lamina: Run, copy: Callable[[str], Path], steps: int) -> None:
    """Killed after so many new segments: the database opens, is whole, and can be compacted."""
    directory = copy("large")
    expected = contents(directory)
    last = max(numbers(directory))
    process = start(directory, "--jobs", 2, "--segment-size", "16kb", "--rate", "300kb")
    wait_for(lambda: sum(number > last for number in numbers(directory)) >= steps, process)
    time.sleep(random.Random(steps).random() / 20)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert_sound(directory)
    assert contents(directory) == expected
    assert lamina("compact", directory).status == 0
    assert contents(directory) == expected
    assert_sound(directory)
    assert_one_clean_run(directory)


@pytest.mark.parametrize("segments", [0, 1, 4])
def test_kill_9_of_a_new_database(
    lamina: Run, copy: Callable[[str], Path], tmp_path: Path, segments: int
) -> None:
    """Killed before it is complete, it is not there; the next attempt clears up and makes it."""
    directory, target = copy("large"), tmp_path / "new"
    partial = tmp_path / "new.partial"
    process = start(directory, "--output", target, "--jobs", 2, "--segment-size", "16kb", "--rate", "300kb")
    wait_for(lambda: partial.exists() and len(numbers(partial)) >= segments, process)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert not target.exists()
    assert not (partial / "MANIFEST").exists()
    assert lamina("compact", directory, "--output", target).status == 0
    assert contents(target) == contents(directory)
    assert not partial.exists()
    assert_sound(target)


def test_ctrl_c(copy: Callable[[str], Path]) -> None:
    directory = copy("large")
    expected = contents(directory)
    last = max(numbers(directory))
    process = start(directory, "--jobs", 2, "--segment-size", "16kb", "--rate", "60kb")
    wait_for(lambda: sum(number > last for number in numbers(directory)) >= 2, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, b"")
    assert contents(directory) == expected
    assert_sound(directory)


def test_ctrl_c_of_a_new_database(copy: Callable[[str], Path], tmp_path: Path) -> None:
    directory = copy("large")
    partial = tmp_path / "new.partial"
    process = start(directory, "--output", tmp_path / "new", "--segment-size", "16kb", "--rate", "60kb")
    wait_for(lambda: partial.exists() and len(numbers(partial)) >= 1, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, b"")
    assert [path.name for path in tmp_path.iterdir()] == ["db"]


def test_a_worker_that_is_killed_is_replaced(copy: Callable[[str], Path]) -> None:
    directory = copy("large")
    expected = contents(directory)
    last = max(numbers(directory))
    process = start(directory, "--jobs", 2, "--segment-size", "16kb", "--rate", "300kb")
    wait_for(lambda: sum(number > last for number in numbers(directory)) >= 2, process)
    threads = Path(f"/proc/{process.pid}/task").glob("*/children")
    children = [pid for path in threads for pid in path.read_text().split()]
    os.kill(int(children[0]), signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert contents(directory) == expected
    assert_sound(directory)
    assert_one_clean_run(directory)

"""Repair of every kind of damage: what is left opens, is clean, is right, and nothing else is missing.

After a repair, check finds nothing. No key has a value that it never had. Keys that differ from what the
database held lie in the ranges that the report calls lost, and are no more than were in the damaged blocks;
unless a log or the manifest was damaged, which the report says too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lamina.engine as engine
from harness.damage import (
    Damage,
    Files,
    Sample,
    State,
    both,
    catalogue,
    disk_of,
    everything_at_random,
    files_of,
    flipped,
    missing,
    pairs,
    sample,
    truncated,
    write_files,
)
from harness.databases import PATH, TINY
from harness.memory_filesystem import MemoryFileSystem
from lamina.engine.check import check_directory
from lamina.engine.entry import INSERT
from lamina.engine.filenames import MANIFEST
from lamina.engine.filesystem import DiskFileSystem
from lamina.engine.findings import Finding
from lamina.engine.repair import WAL_MODES, Loss, RepairError, RepairReport, repair


@cache
def made(counted: bool) -> Sample:
    return sample(counted=counted)


def errors_of(fs: MemoryFileSystem, path: str = PATH) -> list[Finding]:
    return [f for f in check_directory(path, fs) if "they will be merged" not in f.what]


def contents(fs: MemoryFileSystem, path: str = PATH) -> State:
    with engine.open(path, fs=fs, read_only=True, background="inline") as db:
        found = dict(db.scan())
        assert db.count() == len(found)
        return found


def is_in(key: bytes, losses: Iterable[Loss]) -> bool:
    return any(
        loss.start is not None and loss.start <= key and (loss.stop is None or key < loss.stop)
        for loss in losses
    )


def check_repair(damage: Damage, it: Sample, **options: Any) -> RepairReport | None:
    """Damage the sample and repair it; None if that was refused, which the files must survive."""
    fs = disk_of(damage.apply(it.files))
    before = fs.files()
    try:
        report = repair(PATH, fs=fs, **{"wal_mode": "skip"} | options)
    except RepairError:
        after = {path: data for path, data in fs.files().items() if not path.endswith("LOCK")}
        assert after == before, damage
        return None
    assert errors_of(fs) == [], damage
    found = contents(fs)
    check_contents(found, it, report, damage)
    with engine.open(PATH, fs=fs, **TINY) as db:
        db.put(b"new", b"value")
        db.delete(b"k100")
        db.compact()
        assert dict(db.scan()) == {k: v for k, v in found.items() if k != b"k100"} | {b"new": b"value"}
    assert errors_of(fs) == [], damage
    return report


def check_contents(found: State, it: Sample, report: RepairReport, damage: Damage) -> None:
    invented = [key for key, value in found.items() if value not in it.history.get(key, ())]
    assert not invented, (damage, invented)
    if MANIFEST in damage.names or any(name.endswith("wal") for name in damage.names):
        return
    differing = [key for key in found.keys() | it.state.keys() if found.get(key) != it.state.get(key)]
    outside = [key for key in differing if not is_in(key, report.losses)]
    assert not outside, (damage, outside, report.losses)
    known = [loss.entries for loss in report.losses if loss.start is not None]
    if None not in known:
        assert len(differing) <= sum(count or 0 for count in known), damage


# -- the catalogue ---------------------------------------------------------------------------------


@pytest.mark.parametrize("counted", [True, False], ids=["counted", "uncounted"])
def test_every_damage_is_repaired(counted: bool) -> None:
    it = made(counted)
    for damage in catalogue(it.files, step=331):
        assert check_repair(damage, it) is not None, damage


@pytest.mark.parametrize("counted", [True, False], ids=["counted", "uncounted"])
def test_two_damages_at_once_are_repaired(counted: bool) -> None:
    it = made(counted)
    for damage in pairs(it.files, 60):
        check_repair(damage, it)


@pytest.mark.slow
@pytest.mark.parametrize("counted", [True, False], ids=["counted", "uncounted"])
@pytest.mark.parametrize("seed", range(4))
def test_every_damage_of_other_samples_is_repaired(counted: bool, seed: int) -> None:
    it = sample(counted=counted, seed=seed, writes=400 + 300 * seed)
    for damage in [*catalogue(it.files, step=5), *pairs(it.files, 2000, seed)]:
        check_repair(damage, it)


@settings(max_examples=40)
@given(seed=st.integers(0, 1 << 32), count=st.integers(1, 4), counted=st.booleans())
def test_any_damage_is_repaired(seed: int, count: int, counted: bool) -> None:
    it, random = made(counted), Random(seed)
    damage = everything_at_random(it.files, random)
    for _ in range(count - 1):
        damage = both(damage, everything_at_random(it.files, random))
    check_repair(damage, it)


@pytest.mark.slow
@settings(max_examples=5000)
@given(seed=st.integers(0, 1 << 32), count=st.integers(1, 8), counted=st.booleans())
def test_any_damage_is_repaired_for_long(seed: int, count: int, counted: bool) -> None:
    test_any_damage_is_repaired.hypothesis.inner_test(seed, count, counted)  # type: ignore[attr-defined]


# -- where nothing is lost -------------------------------------------------------------------------


def test_a_sound_database_is_left_alone() -> None:
    fs = disk_of(made(True).files)
    before = fs.files()
    report = repair(PATH, fs=fs)
    assert (report.is_done, report.losses, report.actions) == (False, [], [])
    assert {path: data for path, data in fs.files().items() if not path.endswith("LOCK")} == before


@pytest.mark.parametrize("counted", [True, False])
def test_the_manifest_alone_loses_nothing_but_discards(counted: bool) -> None:
    it = made(counted)
    for damage in (missing(MANIFEST), truncated(MANIFEST, 50), flipped(MANIFEST, 3)):
        fs = disk_of(damage.apply(it.files))
        report = repair(PATH, fs=fs)
        assert report.losses == []
        found = contents(fs)
        discarded = {key for key in found if b"k050" <= key < b"k058"}
        assert {key: value for key, value in found.items() if key not in discarded} == it.state
        assert errors_of(fs) == []


def test_levels_are_kept_without_a_manifest() -> None:
    it = made(True)
    fs = disk_of(it.files)
    with engine.open(PATH, fs=fs, read_only=True) as db:
        before = [[len(run.slices) for run in runs] for runs in db.view.levels.levels]
    assert sum(map(len, before)) > 1
    fs = disk_of(missing(MANIFEST).apply(it.files))
    repair(PATH, fs=fs)
    with engine.open(PATH, fs=fs, read_only=True) as db:
        assert [[len(run.slices) for run in runs] for runs in db.view.levels.levels] == before
    segments = {name: data for name, data in it.files.items() if name.endswith(".seg")}
    assert segments.items() <= files_of(fs).items(), "sound segments stay as they are"


def test_indexes_alone_lose_nothing() -> None:
    it = made(True)
    name = max((name for name in it.files if name.endswith(".seg")), key=lambda name: len(it.files[name]))
    size = len(it.files[name])
    for damage in (truncated(name, size - 5), flipped(name, size - 100), flipped(name, 3)):
        fs = disk_of(damage.apply(it.files))
        report = repair(PATH, fs=fs)
        assert report.losses == []
        assert contents(fs) == it.state


def test_swapped_files_are_told_apart() -> None:
    it = made(True)
    for suffix in ("seg", "wal"):
        one, *_, other = it.names(suffix)
        fs = disk_of(it.files | {one: it.files[other], other: it.files[one]})
        report = repair(PATH, fs=fs)
        assert report.losses == []
        assert contents(fs) == it.state


def test_wrong_kinds_are_made_right() -> None:
    fs = MemoryFileSystem()
    with engine.open(PATH, fs=fs, **TINY) as db:
        for number in range(50):
            db.put(b"%02d" % number, b"old")
        db.flush()
        db.put(b"07", b"new", existed=False)
        db.put(b"new", b"new", existed=True)
        db.flush()
        db.put(b"08", b"new", existed=False)
    assert any("contradict" in finding.what for finding in errors_of(fs))
    report = repair(PATH, fs=fs)
    assert report.losses == []
    assert errors_of(fs) == []
    found = contents(fs)
    assert (len(found), found[b"07"], found[b"08"], found[b"new"]) == (51, b"new", b"new", b"new")


def test_a_file_of_another_database_is_left_out() -> None:
    it, other = made(True), sample(seed=9)
    stranger = other.files[other.names(".seg")[0]]
    fs = disk_of(missing(MANIFEST).apply(it.files) | {"999999.seg": stranger})
    report = repair(PATH, fs=fs)
    assert any("another database" in action for action in report.actions)
    assert contents(fs).items() >= it.state.items()
    assert fs.files()[f"{PATH}/lost/1/999999.seg"] == stranger


def test_an_input_that_was_left_over_is_not_shown() -> None:
    fs = MemoryFileSystem()
    with engine.open(PATH, fs=fs, **TINY | {"level_runs_max": 8}) as db:
        for value in (b"old", b"new"):
            for number in range(30):
                db.put(b"%02d" % number, value)
            db.delete(b"05")
            db.flush()
        inputs = files_of(fs)
        db.compact()
    for name, data in inputs.items():
        if name.endswith(".seg"):
            fs.put_file(f"{PATH}/{name}", data)
    fs.remove(f"{PATH}/{MANIFEST}")
    report = repair(PATH, fs=fs)
    assert any("an input of a merge" in action for action in report.actions)
    assert contents(fs) == {b"%02d" % number: b"new" for number in range(30) if number != 5}
    with engine.open(PATH, fs=fs, read_only=True) as db:
        assert len(db.view.runs) == 1
        assert all(chunk.segment.properties.delta > 0 for chunk in db.view.levels.slices)


def test_an_unfinished_flush_is_replayed_from_its_log() -> None:
    fs = MemoryFileSystem()
    random = Random(1)
    state = {b"%05d" % number: random.randbytes(8) for number in range(15_000)}
    options = TINY | {"memtable_size_bytes": 10_000_000, "level_runs_max": 8}
    with engine.open(PATH, fs=fs, **options) as db:
        with db.batch() as batch:
            for key, value in state.items():
                batch.put(key, value)
        db.sync()
        logs = {name: data for name, data in files_of(fs).items() if name.endswith(".wal")}
        db.flush()
        flushed = [name for name in files_of(fs) if name.endswith(".seg")]
    assert len(flushed) > 2
    for name, data in logs.items():
        fs.put_file(f"{PATH}/{name}", data)
    fs.remove(f"{PATH}/{MANIFEST}")
    fs.remove(f"{PATH}/{flushed[-1]}")
    report = repair(PATH, fs=fs)
    assert any("unfinished flush" in action for action in report.actions)
    assert contents(fs) == state
    assert errors_of(fs) == []


def test_older_values_come_to_light_only_in_lost_ranges() -> None:
    fs = MemoryFileSystem()
    options = TINY | {"level_runs_max": 8, "memtable_size_bytes": 100_000}
    with engine.open(PATH, fs=fs, **options) as db:
        for number in range(200):
            db.put(b"%03d" % number, b"old")
        db.flush()
        for number in range(0, 200, 2):
            db.put(b"%03d" % number, b"new")
        for number in range(1, 200, 4):
            db.delete(b"%03d" % number)
        db.flush()
        newest = db.view.runs[0].slices[0].segment.path
    fs.flip(newest, 60)
    report = repair(PATH, fs=fs)
    (loss,) = report.losses
    assert loss.entries
    found = contents(fs)
    for number in range(200):
        key = b"%03d" % number
        expected = b"new" if number % 2 == 0 else None if number % 4 == 1 else b"old"
        assert found.get(key) == (b"old" if is_in(key, [loss]) else expected)
    with engine.open(PATH, fs=fs, read_only=True) as db:
        kinds = {db.view.runs[-1].slices[0].segment.get(b"000", 0)}
        assert {entry[0] for entry in kinds if entry} <= {INSERT}


def test_keys_longer_than_floors_are_repaired() -> None:
    fs = MemoryFileSystem()
    state = {b"x" * 5000 + b"%03d" % number: b"%d" % number for number in range(60)}
    options = TINY | {"memtable_size_bytes": 1 << 20, "block_size_bytes": 20_000, "level_runs_max": 8}
    with engine.open(PATH, fs=fs, **options) as db:
        for value in (b"old", b"new"):
            for key in state:
                db.put(key, state[key] + value)
            db.put(b"a", value)
            db.put(b"z", value)
            db.flush()
        newest = db.view.runs[0].slices[0].segment
        middle = newest.part(0).offsets[len(newest.part(0).floors) // 2]
    fs.flip(newest.path, middle + 30)
    report = repair(PATH, fs=fs)
    (loss,) = report.losses
    assert errors_of(fs) == []
    found = contents(fs)
    assert found.keys() == {*state, b"a", b"z"}
    changed = {key for key, value in found.items() if value.endswith(b"old")}
    assert 0 < len(changed) == loss.entries
    assert all(is_in(key, [loss]) for key in changed)


@pytest.mark.parametrize("output", [None, "/stores/new"])
def test_a_repair_that_fails_cleans_up(output: str | None) -> None:
    it = made(True)
    fs = disk_of(flipped(it.names(".seg")[0], 40).apply(it.files))
    before = fs.files()

    def mend(folder: str) -> None:
        raise ZeroDivisionError(folder)

    with pytest.raises(ZeroDivisionError, match=r"repair\.tmp"):
        repair(PATH, fs=fs, output=output, mend=mend)
    assert {path: data for path, data in fs.files().items() if not path.endswith("LOCK")} == before
    assert not fs.exists(f"{output or PATH}.repair.tmp")
    assert not fs.exists(f"{PATH}/repair.tmp")


# -- logs --------------------------------------------------------------------------------------------


def logged(count: int = 20) -> tuple[Files, str]:
    """Return a database of one log, and the log's name."""
    fs = MemoryFileSystem()
    with engine.open(PATH, fs=fs, **TINY | {"memtable_size_bytes": 100_000}) as db:
        for number in range(count):
            db.put(b"%02d" % number, b"value")
    files = files_of(fs)
    return files, max(name for name in files if name.endswith(".wal"))


def test_modes_keep_what_they_say() -> None:
    files, log = logged()
    middle = len(files[log]) // 2
    found = {}
    for mode in WAL_MODES:
        fs = disk_of(flipped(log, middle).apply(files))
        try:
            report = repair(PATH, fs=fs, wal_mode=mode)
        except RepairError as error:
            assert "puts up with" in str(error) or "too much" in str(error)  # noqa: PT017
            continue
        assert errors_of(fs) == []
        assert report.losses
        found[mode] = set(contents(fs))
    every = {b"%02d" % number for number in range(20)}
    assert set(found) == {"point-in-time", "skip"}
    assert len(found["skip"]) == 19
    assert found["point-in-time"] == {key for key in every if key < min(every - found["skip"])}


def test_a_torn_end_is_put_up_with_by_all_but_strict() -> None:
    files, log = logged()
    for mode in WAL_MODES:
        fs = disk_of(truncated(log, len(files[log]) - 33).apply(files))
        if mode == "strict":
            with pytest.raises(RepairError, match="too much"):
                repair(PATH, fs=fs, wal_mode=mode)
            continue
        repair(PATH, fs=fs, wal_mode=mode)
        assert len(contents(fs)) == 19
        assert errors_of(fs) == []


def test_a_log_that_is_missing_ends_history_unless_it_is_skipped() -> None:
    it = made(True)
    middle = it.names(".wal")[1]
    for mode, is_last_there in (("point-in-time", False), ("skip", True)):
        fs = disk_of(missing(middle).apply(it.files))
        report = repair(PATH, fs=fs, wal_mode=mode)  # type: ignore[arg-type]
        assert report.losses
        late = {key for key, value in contents(fs).items() if value.startswith(b"late 1")}
        assert bool(late) == is_last_there
        assert errors_of(fs) == []


# -- where to ----------------------------------------------------------------------------------------


def test_what_is_replaced_is_kept() -> None:
    it = made(True)
    name = it.names(".seg")[0]
    damage = both(flipped(name, 40), flipped(it.names(".wal")[1], 100))
    damaged = damage.apply(it.files)
    fs = disk_of(damaged)
    report = repair(PATH, fs=fs)
    assert report.lost_directory == f"{PATH}/lost/1"
    kept = files_of(fs, f"{PATH}/lost/1")
    assert set(kept) >= {name, MANIFEST, *it.names(".wal")}
    assert kept.items() <= damaged.items()
    assert not any("repair.tmp" in path for path in fs.files())
    fs.flip(f"{PATH}/{max(n for n in files_of(fs) if n.endswith('.seg'))}", 40)
    assert repair(PATH, fs=fs).lost_directory == f"{PATH}/lost/2"


def test_into_another_folder_the_old_one_stays() -> None:
    it = made(True)
    damage = flipped(it.names(".seg")[0], 40)
    fs = disk_of(damage.apply(it.files))
    report = repair(PATH, fs=fs, output="/stores/repaired")
    assert (report.is_done, report.output, report.lost_directory) == (True, "/stores/repaired", None)
    assert files_of(fs) == damage.apply(it.files)
    assert errors_of(fs, "/stores/repaired") == []
    check_contents(contents(fs, "/stores/repaired"), it, report, damage)
    with pytest.raises(RepairError, match="must not exist"):
        repair(PATH, fs=fs, output="/stores/repaired")


def test_a_dry_run_says_the_same_and_changes_nothing() -> None:
    it = made(True)
    for damage in list(catalogue(it.files, step=997))[::5]:
        fs = disk_of(damage.apply(it.files))
        before = fs.files()
        plan = repair(PATH, fs=fs, dry_run=True, wal_mode="skip")
        assert {path: data for path, data in fs.files().items() if not path.endswith("LOCK")} == before
        assert not plan.is_done
        assert plan.losses == repair(PATH, fs=fs, wal_mode="skip").losses


def test_it_works_on_a_disk(tmp_path: Path) -> None:
    it = made(True)
    largest = max(it.names(".seg"), key=lambda name: len(it.files[name]))
    damage = both(missing(MANIFEST), flipped(largest, 400))
    folder = str(tmp_path / "db")
    write_files(DiskFileSystem(), folder, damage.apply(it.files))
    report = repair(folder, output=tmp_path / "new")
    assert report.is_done
    assert sorted(os.listdir(tmp_path)) == ["db", "new"]
    assert check_directory(str(tmp_path / "new"), DiskFileSystem()) == []
    sound = next(name for name in it.names(".seg") if (tmp_path / "new" / name).exists())
    assert os.path.samefile(tmp_path / "db" / sound, tmp_path / "new" / sound)
    repair(folder)
    assert sorted(name for name in os.listdir(folder) if "." not in name) == ["LOCK", MANIFEST, "lost"]
    with engine.open(folder, read_only=True) as one, engine.open(tmp_path / "new", read_only=True) as other:
        assert dict(one.scan()) == dict(other.scan())


def test_a_live_database_is_refused() -> None:
    fs = MemoryFileSystem()
    with engine.open(PATH, fs=fs, **TINY), pytest.raises(engine.LockedError):
        repair(PATH, fs=fs)


@pytest.mark.parametrize("files", [{}, {"notes.txt": b"mine"}, {"000003.seg": b"", "000004.wal": b"x"}])
def test_no_database_is_refused(files: Files) -> None:
    fs = disk_of(files)
    fs.make_directory(PATH)
    with pytest.raises(RepairError, match=r"no database here|can be read"):
        repair(PATH, fs=fs)
    with pytest.raises(RepairError, match="no such folder"):
        repair("/nowhere", fs=fs)


def test_what_is_mended_is_put_in_place_with_the_rest() -> None:
    it = made(True)
    fs = disk_of(flipped(it.names(".seg")[0], 40).apply(it.files))

    def mend(folder: str) -> None:
        assert errors_of(fs, folder) == []
        with engine.open(folder, fs=fs, **TINY) as db:
            db.put(b"mended", b"yes")
            db.compact()

    repair(PATH, fs=fs, mend=mend)
    assert contents(fs)[b"mended"] == b"yes"
    assert errors_of(fs) == []

"""lamina repair: the verb, and the mending of Redis data."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import lamina.engine as engine
from harness.damage import both, flipped, missing
from harness.redisdamage import LOGICAL, OPTIONS, TOGETHER, change, redis_files, write_sample
from lamina.engine.filenames import MANIFEST


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        name: (folder / name).read_bytes()
        for name in os.listdir(folder)
        if name != "LOCK" and (folder / name).is_file()
    }


def contents(folder: Path) -> dict[bytes, bytes]:
    with engine.open(folder, read_only=True) as db:
        return dict(db.scan())


def assert_clean(lamina: Any, folder: Path) -> None:
    outcome = lamina("check", folder, "--logical", "--strict")
    assert outcome.status == 0, outcome.out + outcome.err


def damaged(folder: Path, *, with_manifest: bool = True) -> Path:
    """Write a database with a damaged block and a damaged log."""
    files = redis_files()
    segment = max((name for name in files if name.endswith(".seg")), key=lambda name: len(files[name]))
    damage = flipped(segment, len(files[segment]) // 3)
    if not with_manifest:
        damage = both(damage, missing(MANIFEST))
    return write_sample(folder, damage.apply(files))


# -- the verb ----------------------------------------------------------------------------------------


def test_a_sound_database_is_left_alone(tmp_path: Path, lamina) -> None:
    folder = write_sample(tmp_path / "db")
    before = files_in(folder)
    for options in ((), ("--logical",), ("--dry-run",), ("--yes", "--logical")):
        outcome = lamina("repair", folder, *options)
        assert (outcome.status, outcome.err) == (0, "")
        assert outcome.out == f"{folder}: nothing is wrong\n"
    assert files_in(folder) == before
    assert not (folder / "lost").exists()


def test_in_place_with_everything_kept(tmp_path: Path, lamina) -> None:
    folder = damaged(tmp_path / "db")
    before = files_in(folder)
    outcome = lamina("repair", folder, "--yes", "--logical", "--json")
    assert outcome.status == 1
    facts = outcome.json
    assert facts["is_done"]
    assert facts["lost_directory"] == str(folder / "lost" / "1")
    kept = files_in(folder / "lost" / "1")
    assert kept
    assert kept.items() <= before.items()
    assert before.keys() - kept.keys() <= files_in(folder).keys()
    assert sorted(name for name in os.listdir(folder) if "." not in name) == ["LOCK", MANIFEST, "lost"]
    assert_clean(lamina, folder)


def test_into_another_folder(tmp_path: Path, lamina) -> None:
    folder = damaged(tmp_path / "db")
    before = files_in(folder)
    outcome = lamina("repair", folder, "--logical", "--output", tmp_path / "new")
    assert outcome.status == 1
    assert f"repaired into {tmp_path / 'new'}" in outcome.out
    assert files_in(folder) == before
    assert sorted(os.listdir(tmp_path)) == ["db", "new"]
    assert_clean(lamina, tmp_path / "new")
    again = lamina("repair", folder, "--output", tmp_path / "new")
    assert again.status == 2
    assert "must not exist, or be empty" in again.err


def test_a_dry_run_tells_and_changes_nothing(tmp_path: Path, lamina) -> None:
    folder = damaged(tmp_path / "db")
    before = files_in(folder)
    outcome = lamina("repair", folder, "--dry-run", "--logical")
    assert outcome.status == 1
    assert "would be done: " in outcome.out
    assert "nothing was changed" in outcome.out
    plan = lamina("repair", folder, "--dry-run", "--json").json
    assert files_in(folder) == before
    done = lamina("repair", folder, "--yes", "--json").json
    assert (plan["dry_run"], done["dry_run"]) == (True, False)
    assert plan["losses"] == done["losses"]
    assert plan["actions"] == done["actions"]


def test_losses_are_told_in_redis_terms(tmp_path: Path, lamina) -> None:
    folder = damaged(tmp_path / "db")
    report = tmp_path / "report.json"
    outcome = lamina("repair", folder, "--yes", "--logical", "--report", report)
    facts = json.loads(report.read_text())
    assert "lost: " in outcome.out
    (loss,) = facts["losses"]
    assert loss["entries"] > 0
    assert loss["size_bytes"] > 0
    assert "db 0" in loss["keys"]
    named = [facts["key"] for facts in facts["affected_keys"]]
    mended = [problem["key"] for problem in facts["logical"] if problem["key"] is not None]
    assert named or mended
    assert set(mended) >= {key for key in named if key in mended}
    assert facts["lost_directory"] == str(folder / "lost" / "1")


def test_it_asks_before_it_repairs_in_place(tmp_path: Path, lamina) -> None:
    folder = damaged(tmp_path / "db")
    before = files_in(folder)
    outcome = lamina("repair", folder)
    assert outcome.status == 2
    assert "say --yes; --output DIR2 repairs into a new folder" in outcome.err
    for answer, is_done in ((b"n\n", False), (b"\n", False), (b"yes\n", True)):
        parent, child = pty.openpty()
        os.write(parent, answer)
        done = subprocess.run(
            [sys.executable, "-m", "lamina.tools", "repair", str(folder)],
            stdin=child,
            capture_output=True,
            timeout=60,
            check=False,
        )
        os.close(parent)
        os.close(child)
        assert b"in its place? [y/N]" in done.stdout
        assert done.returncode == (1 if is_done else 2), done.stderr
        assert (files_in(folder) == before) is not is_done
    assert lamina("check", folder, "--strict").status == 0


def test_a_lost_manifest_is_made_anew(tmp_path: Path, lamina) -> None:
    folder = damaged(tmp_path / "db", with_manifest=False)
    outcome = lamina("repair", folder, "--yes", "--logical", "--json")
    assert any("manifest is made anew" in action for action in outcome.json["actions"])
    assert any("discarded" in note for note in outcome.json["notes"])
    assert_clean(lamina, folder)


def test_modes_are_passed_on(tmp_path: Path, lamina) -> None:
    files = redis_files()
    folder = write_sample(tmp_path / "db")
    change(
        folder, lambda db: db.put(b"\0\0\0\1kfirst", b"\0one"), lambda db: db.put(b"\0\0\0\1klast", b"\0two")
    )
    files = files_in(folder)
    log = max(name for name in files if name.endswith(".wal"))
    data = files[log]
    at = data.index(b"first")
    damaged_log = data[:at] + b"FIRST" + data[at + 5 :]
    for mode, status in (("strict", 2), ("tail", 2), ("point-in-time", 1), ("skip", 1)):
        folder = write_sample(tmp_path / mode, files | {log: damaged_log})
        outcome = lamina("repair", folder, "--yes", "--wal-mode", mode)
        assert outcome.status == status, outcome.err
        if status == 1:
            found = contents(folder)
            assert b"\0\0\0\1kfirst" not in found
            assert (b"\0\0\0\1klast" in found) == (mode == "skip")
            assert_clean(lamina, folder)
    assert lamina("repair", folder, "--wal-mode", "wish").status == 2


def test_a_live_database_is_refused(tmp_path: Path, lamina) -> None:
    folder = write_sample(tmp_path / "db")
    with engine.open(folder, **OPTIONS):
        for options in (("--yes",), ("--dry-run",), ("--output", tmp_path / "new")):
            outcome = lamina("repair", folder, *options)
            assert outcome.status == 2
            assert "in use by process" in outcome.err


def test_a_database_of_another_program_is_not_mended(tmp_path: Path, lamina) -> None:
    with engine.open(tmp_path / "db", **OPTIONS) as db:
        for number in range(100):
            db.put(b"word %d" % number, b"x")
    before = files_in(tmp_path / "db")
    for options in (("--yes",), ("--dry-run",), ("--output", tmp_path / "new")):
        outcome = lamina("repair", tmp_path / "db", "--logical", *options)
        assert outcome.status == 2
        assert "no server has written this database" in outcome.err
    assert files_in(tmp_path / "db") == before
    assert os.listdir(tmp_path) == ["db"]


# -- Redis data ------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", LOGICAL)
def test_data_that_do_not_fit_are_mended(tmp_path: Path, lamina, what: str) -> None:
    apply, kind = LOGICAL[what]
    folder = write_sample(tmp_path / "db")
    sound = contents(folder)
    change(folder, apply)
    wrong = contents(folder)
    outcome = lamina("repair", folder, "--yes", "--logical", "--json")
    assert outcome.status in (0, 1), outcome.err
    assert kind in {problem["kind"] for problem in outcome.json["logical"]}
    assert_clean(lamina, folder)
    mended = contents(folder)
    # What is gone was reported, with its bytes unless it was much.
    dropped = sum(problem["entries"] for problem in outcome.json["logical"])
    told = {bytes.fromhex(k) for problem in outcome.json["logical"] for k, _ in problem["dropped"]}
    gone = {
        key for key in wrong.keys() - mended.keys() if key[4:5] in (b"k", b"e") and key not in told
    } - _implied(wrong, mended)
    assert len(gone) <= dropped, gone
    # Nothing else was touched.
    changed = {key for key in sound.keys() | mended.keys() if sound.get(key) != mended.get(key)}
    assert len(changed) <= 420, changed
    again = lamina("repair", folder, "--yes", "--logical")
    assert "nothing is wrong" in again.out


def _implied(wrong: dict[bytes, bytes], mended: dict[bytes, bytes]) -> set[bytes]:
    """Return what a removal takes with it: places in orders, and what lies by numbers of consumers, which are
    derived from what is there."""
    gone = [key for key in wrong.keys() - mended.keys() if key[4:5] == b"e"]
    return {
        key
        for key in gone
        if key[13:14] in (b"s", b"t", b"f") or (key[13:14] == b"d" and key[18:19] in (b"n", b"o"))
    }


def test_members_are_put_back_from_the_order(tmp_path: Path, lamina) -> None:
    folder = write_sample(tmp_path / "db")
    sound = contents(folder)
    change(folder, LOGICAL["members that are only in the order"][0])
    outcome = lamina("repair", folder, "--yes", "--logical")
    assert outcome.status == 0
    assert contents(folder) == sound


def test_the_order_is_made_from_the_scores(tmp_path: Path, lamina) -> None:
    for what in ("a member without a place in the order", "a place in the order without a member"):
        folder = write_sample(tmp_path / what)
        sound = contents(folder)
        change(folder, LOGICAL[what][0])
        assert lamina("repair", folder, "--yes", "--logical").status == 0
        assert contents(folder) == sound


@pytest.mark.parametrize(
    "what",
    [
        "a consumer without its number",
        "pending with the group only",
        "a stream that says too little",
        "a stream's first entry at another id",
        "a stream that says it has more groups",
        "a group that says it has less",
        "a consumer that says it has more",
        "pending with a consumer who has acknowledged it",
    ],
)
def test_of_streams_nothing_is_lost_that_is_said_twice(tmp_path: Path, lamina, what: str) -> None:
    folder = write_sample(tmp_path / "db")
    sound = contents(folder)
    change(folder, LOGICAL[what][0])
    assert lamina("repair", folder, "--yes", "--logical").status == 0
    assert contents(folder) == sound


@pytest.mark.parametrize(
    "what",
    [
        "a group without its name",
        "a consumer that is gone",
        "a consumer of whom nothing is left",
        "pending with a consumer only",
    ],
)
def test_what_is_pending_stays_so(tmp_path: Path, lamina, what: str) -> None:
    folder = write_sample(tmp_path / "db")
    before = pending_ids(contents(folder))
    change(folder, LOGICAL[what][0])
    assert lamina("repair", folder, "--yes", "--logical").status == 0
    assert pending_ids(contents(folder)) == before


def pending_ids(found: dict[bytes, bytes]) -> set[bytes]:
    """Return the keys of all pending entries of streams."""
    return {key for key in found if key[4:5] == b"e" and key[13:14] == b"d" and key[18:19] == b"p"}


def test_everything_at_once(tmp_path: Path, lamina) -> None:
    folder = write_sample(tmp_path / "db")
    change(folder, *TOGETHER)
    outcome = lamina("repair", folder, "--yes", "--logical", "--json")
    assert outcome.status == 1
    assert len({problem["kind"] for problem in outcome.json["logical"]}) > 6
    assert_clean(lamina, folder)


def test_undecodable_records_are_in_the_report(tmp_path: Path, lamina) -> None:
    folder = write_sample(tmp_path / "db")
    change(folder, LOGICAL["a record of no type"][0])
    outcome = lamina("repair", folder, "--yes", "--logical", "--json")
    (problem,) = outcome.json["logical"]
    assert problem["key"] == "odd"
    assert problem["dropped"] == [["00000001" + b"kodd".hex(), b"\x0e123".hex()]]

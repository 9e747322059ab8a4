"""lamina check: what is found in damaged databases, and that nothing is found in sound ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import lamina.engine as engine
from harness.damage import catalogue, sample
from harness.redisdamage import LOGICAL, OPTIONS, change, redis_files, write_sample
from lamina.engine.filenames import MANIFEST

Run = Callable[..., object]


def kinds_of(outcome) -> set[str]:
    return {problem["kind"] for problem in outcome.json["logical"]}


# -- sound databases -------------------------------------------------------------------------------


def test_a_sound_database_is_fine(tmp_path: Path, lamina) -> None:
    folder = write_sample(tmp_path / "db")
    before = {name: (folder / name).read_bytes() for name in os.listdir(folder)}
    for options in ((), ("--quick",), ("--logical",)):
        outcome = lamina("check", folder, *options)
        assert outcome.status == 0, outcome.out + outcome.err
        assert "nothing is wrong" in outcome.out
        assert "wal: " in outcome.out
        facts = lamina("check", folder, *options, "--json").json
        assert facts["findings"] == []
        assert facts["logical"] == ([] if "--logical" in options else None)
        assert facts["summary"] == {
            "errors": 0,
            "warnings": 0,
            "lost_bytes": 0,
            "lost_entries": 0,
            "redis_keys": 0,
        }
        assert {log["state"] for log in facts["logs"]} <= {"clean", "unused"}
    assert {name: (folder / name).read_bytes() for name in os.listdir(folder)} == before


def test_it_runs_as_a_process(tmp_path: Path) -> None:
    folder = write_sample(tmp_path / "db")
    command = [sys.executable, "-m", "lamina.tools", "check", str(folder), "--json"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    assert json.loads(done.stdout)["summary"]["errors"] == 0


def test_a_database_that_is_open_is_refused(tmp_path: Path, lamina) -> None:
    folder = write_sample(tmp_path / "db")
    with engine.open(folder, **OPTIONS):
        outcome = lamina("check", folder)
    assert outcome.status == 2
    assert f"in use by process {os.getpid()}: stop it" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "the following arguments are required: DIR"),
        (("nowhere",), "nowhere: there is no such folder"),
        (("DIR", "--quick", "--logical"), "leave one out"),
    ],
)
def test_wrong_usage_is_told(tmp_path: Path, lamina, arguments: tuple[str, ...], text: str) -> None:
    folder = write_sample(tmp_path / "db")
    outcome = lamina("check", *(str(folder) if word == "DIR" else word for word in arguments))
    assert (outcome.status, outcome.out) == (2, "")
    assert text in outcome.err


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["missing", "cut", "bytes"])
@pytest.mark.parametrize("suffix", ["seg", "MANIFEST"])
def test_damaged_files_are_found(tmp_path: Path, lamina, what: str, suffix: str) -> None:
    files = redis_files()
    damages = [d for d in catalogue(files) if d.what.startswith(what) and d.names[0].endswith(suffix)]
    for number, damage in enumerate(damages[:: max(len(damages) // 4, 1)]):
        folder = write_sample(tmp_path / str(number), damage.apply(files))
        outcome = lamina("check", folder, "--json")
        assert outcome.status == 1, damage
        errors = [f for f in outcome.json["findings"] if f["severity"] == "error"]
        assert any(error["file"] == damage.names[0] for error in errors), (str(damage), errors)
        text = lamina("check", folder)
        assert text.status == 1
        assert damage.names[0] in text.out
        assert "lamina repair" in text.out


def test_losses_are_told_by_key_and_number(tmp_path: Path, lamina) -> None:
    folder = write_sample(tmp_path / "db")
    segment = max(
        (folder / name for name in os.listdir(folder) if name.endswith(".seg")), key=os.path.getsize
    )
    data = bytearray(segment.read_bytes())
    data[40] ^= 0xFF
    segment.write_bytes(data)
    outcome = lamina("check", folder, "--json")
    (finding,) = outcome.json["findings"]
    assert (finding["file"], finding["offset"]) == (segment.name, 20)
    assert 0 < finding["lost_bytes"] < 300
    assert 0 < finding["lost_entries"] < 40
    assert "db 0" in finding["keys"] or "pdb 1" in finding["keys"]
    assert outcome.json["summary"]["lost_entries"] == finding["lost_entries"]
    assert lamina("check", folder, "--quick").status == 0
    # What can be read is checked, and nothing is said of the rest.
    logical = lamina("check", folder, "--logical", "--json")
    assert [p for p in logical.json["logical"] if p["severity"] == "error"] == []


@pytest.mark.parametrize(
    ("size", "state", "status"), [(-3, "torn", 0), (-40, "torn", 0)], ids=["in a frame", "in another"]
)
def test_a_torn_log_is_a_warning(tmp_path: Path, lamina, size: int, state: str, status: int) -> None:
    files = sample().files
    name = max(name for name in files if name.endswith(".wal"))
    folder = write_sample(tmp_path / "db", files | {name: files[name][:size]})
    outcome = lamina("check", folder, "--json")
    assert outcome.status == status
    assert outcome.json["summary"]["errors"] == 0
    assert outcome.json["summary"]["warnings"] > 0
    assert {log["file"]: log["state"] for log in outcome.json["logs"]}[name] == state
    assert lamina("check", folder, "--strict").status == 1


def test_a_damaged_log_is_an_error(tmp_path: Path, lamina) -> None:
    files = sample().files
    name = max(name for name in files if name.endswith(".wal"))
    half = len(files[name]) // 2
    damaged = files[name][:half] + b"????" + files[name][half + 4 :]
    folder = write_sample(tmp_path / "db", files | {name: damaged})
    outcome = lamina("check", folder, "--json")
    assert outcome.status == 1
    log = next(log for log in outcome.json["logs"] if log["file"] == name)
    assert log["state"] == "damaged"
    assert log["frames_behind_damage"] > 0
    refused = lamina("check", folder, "--logical", "--json")
    assert any("before a repair" in f["what"] for f in refused.json["findings"])


def test_a_lost_manifest_is_an_error_and_segments_are_checked(tmp_path: Path, lamina) -> None:
    folder = write_sample(tmp_path / "db")
    (folder / MANIFEST).unlink()
    outcome = lamina("check", folder, "--json")
    assert outcome.status == 1
    assert [f["file"] for f in outcome.json["findings"]] == [MANIFEST]


# -- Redis data ------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", LOGICAL)
def test_data_that_do_not_fit_are_found(tmp_path: Path, lamina, what: str) -> None:
    apply, kind = LOGICAL[what]
    folder = write_sample(tmp_path / "db")
    change(folder, apply)
    assert lamina("check", folder).status == 0, "the files are sound"
    outcome = lamina("check", folder, "--logical", "--json")
    assert outcome.status == 1
    assert kind in kinds_of(outcome), outcome.json["logical"]
    assert len(outcome.json["logical"]) < 25
    text = lamina("check", folder, "--logical")
    assert text.status == 1
    assert "error: " in text.out


def test_problems_name_database_and_key(tmp_path: Path, lamina) -> None:
    folder = write_sample(tmp_path / "db")
    change(folder, LOGICAL["a set that says too much"][0])
    outcome = lamina("check", folder, "--logical", "--json")
    (problem,) = outcome.json["logical"]
    assert (problem["db"], problem["key"]) == (0, "m07")
    assert problem["what"] == "set: says that it has 11 members, and there are 8"
    assert outcome.json["summary"]["redis_keys"] == 1
    assert 'error: db 0, key "m07": set: says that it has 11' in lamina("check", folder, "--logical").out


def test_a_database_of_another_program_is_refused(tmp_path: Path, lamina) -> None:
    with engine.open(tmp_path / "db", **OPTIONS) as db:
        for number in range(100):
            db.put(b"word %d" % number, b"x")
    assert lamina("check", tmp_path / "db").status == 0
    outcome = lamina("check", tmp_path / "db", "--logical")
    assert outcome.status == 2
    assert "no server has written this database" in outcome.err

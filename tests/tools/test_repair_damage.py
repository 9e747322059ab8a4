"""Repair under stress: any damage to a server's database, and kills at any moment."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lamina.engine as engine
from harness.damage import both, everything_at_random, flipped
from harness.redisdamage import LOGICAL, change, redis_files, write_sample
from lamina.tools.cli import main

KILLS = 4


def states_of(folder: Path) -> dict[bytes, bytes]:
    with engine.open(folder, read_only=True) as db:
        return dict(db.scan())


def check_any_damage(folder: Path, seed: int, count: int, logical: list[str]) -> None:
    random = Random(seed)
    shutil.rmtree(folder, ignore_errors=True)
    write_sample(folder)
    change(folder, *[LOGICAL[what][0] for what in logical])
    files = {name: (folder / name).read_bytes() for name in os.listdir(folder) if name != "LOCK"}
    for _ in range(count):
        files = everything_at_random(files, random).apply(files)
    shutil.rmtree(folder)
    write_sample(folder, files)
    status = main(["check", str(folder), "--logical", "--quiet"])
    assert status in (0, 1, 2)
    status = main(["repair", str(folder), "--logical", "--yes", "--quiet", "--wal-mode", "skip"])
    if status == 2:
        return  # it may be refused where nothing is left
    assert main(["check", str(folder), "--logical", "--strict", "--quiet"]) == 0


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1 << 32),
    count=st.integers(1, 3),
    logical=st.lists(st.sampled_from(["a key of no area", "a record of no type", "many elements of no key"])),
)
def test_any_damage_is_repaired(tmp_path: Path, seed: int, count: int, logical: list[str]) -> None:
    check_any_damage(tmp_path / "db", seed, count, logical[:2])


@pytest.mark.slow
@settings(max_examples=600, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32), count=st.integers(1, 5))
def test_any_damage_is_repaired_for_long(tmp_path: Path, seed: int, count: int) -> None:
    check_any_damage(tmp_path / "db", seed, count, [])


@pytest.mark.parametrize("output", [False, True], ids=["in place", "elsewhere"])
def test_a_kill_leaves_the_old_database_or_the_new_one(tmp_path: Path, output: bool, lamina: Any) -> None:
    files = redis_files()
    segments = [name for name in files if name.endswith(".seg")]
    damage = both(flipped(segments[0], 60), flipped(segments[-1], 60))
    template = write_sample(tmp_path / "template", damage.apply(files))
    arguments = ["--logical", "--wal-mode", "skip"]

    whole = tmp_path / "whole"
    shutil.copytree(template, whole)
    begun = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "lamina.tools", "repair", str(whole), "--yes", *arguments],
        capture_output=True,
        timeout=60,
        check=False,
    )
    took_s = time.monotonic() - begun
    expected = states_of(whole)

    random = Random(took_s)
    for number in range(KILLS):
        folder = tmp_path / str(number)
        shutil.copytree(template, folder)
        target = tmp_path / f"{number}.new" if output else folder
        where = ["--output", str(target)] if output else ["--yes"]
        command = [sys.executable, "-m", "lamina.tools", "repair", str(folder), *where, *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            # Imports take the first part of the time.
            time.sleep(took_s * random.uniform(0.4, 1.0))
            process.send_signal(signal.SIGKILL)
            process.wait(60)
        old = {name: (template / name).read_bytes() for name in os.listdir(template)}
        is_new = target.exists() and main(["check", str(target), "--logical", "--quiet"]) == 0
        if is_new:
            assert states_of(target) == expected
        else:
            left = {name: (folder / name).read_bytes() for name in old if (folder / name).exists()}
            assert left == old
            assert lamina("repair", folder, *where, *arguments).status == 1
        assert states_of(target) == expected
        # One that was killed when all was done but to tidy up has left what is warned of.
        strict = [] if is_new else ["--strict"]
        assert lamina("check", target, "--logical", *strict).status == 0

"""The small shell: ``python -m lamina.engine DIRECTORY``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import lamina.engine as engine
from lamina.engine.__main__ import run_command


def shell(path: Path, commands: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "lamina.engine", str(path)],
        input=commands,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    return done.stdout


def test_an_empty_database_gets_something_to_look_at_and_a_used_one_does_not(tmp_path: Path) -> None:
    assert "wrote 10,000 entries" in shell(tmp_path / "db", "put name value of it\nquit\nnot read any more")
    assert "holds 10001 keys" in shell(tmp_path / "db", "")
    with engine.open(tmp_path / "db") as db:
        assert db[b"name"] == b"value of it"
        assert db.count(prefix=b"demo:") == 10_000


def test_commands(tmp_path: Path) -> None:
    with engine.open(tmp_path / "db", background="inline") as db:
        assert run_command(db, ["put", "a", "1"]) == "ok"
        assert run_command(db, ["get", "a"]) == "1"
        assert run_command(db, ["put", "ab", "2"]) == "ok"
        assert run_command(db, ["scan", "a"]) == "a = 1\nab = 2"
        assert run_command(db, ["count"]) == "2"
        assert run_command(db, ["delete", "a"]) == "ok"
        assert run_command(db, ["get", "a"]) == "(no such key)"
        assert run_command(db, ["compact"]) == "ok"
        assert json.loads(run_command(db, ["stats"]))["live_keys"] == 1
        for words in (["put", "a"], ["get"], ["nonsense"]):
            with pytest.raises(ValueError, match="put KEY VALUE"):
                run_command(db, words)

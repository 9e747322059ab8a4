"""lamina restore: what comes back, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import lamina.engine as engine
from harness.databases import TINY
from harness.diskdata import contents, open_server, plain_database, server_database
from lamina.engine.filenames import parse_name
from lamina.engine.filesystem import DiskFileSystem
from lamina.tools import restoring
from lamina.tools.backuprecord import Backup, encode_record
from lamina.tools.repository import Repository
from tests.tools.conftest import Outcome

Lamina = Callable[..., Outcome]


def records(repository: Path) -> list[Backup]:
    """Return all backups."""
    return Repository(DiskFileSystem(), str(repository)).backups()[0]


@pytest.fixture
def scene(lamina: Lamina, tmp_path: Path) -> tuple[Path, Path, list[list[tuple[bytes, bytes]]]]:
    """Return a database, a repository of three of its states, and what they hold."""
    directory, repository = plain_database(tmp_path), tmp_path / "repository"
    states = []
    for turn in range(3):
        with engine.open(directory, **TINY) as db:
            for number in range(turn, 80, 3):
                db.put(b"key %04d" % number, b"turn %d" % turn)
        states.append(contents(directory))
        assert lamina("backup", directory, "--to", repository).status == 0
    return directory, repository, states


Scene = tuple[Path, Path, list[list[tuple[bytes, bytes]]]]


def test_every_state_comes_back(lamina: Lamina, tmp_path: Path, scene: Scene) -> None:
    _, repository, states = scene
    for number, (backup, state) in enumerate(zip(records(repository), states, strict=True)):
        target = tmp_path / f"new {number}"
        facts = lamina("restore", repository, backup.id, "--to", target, "--check", "--json").json
        assert facts["restored"]
        assert facts["id"] == backup.id
        assert facts["entries"] == len(state)
        assert contents(target) == state
        assert lamina("check", target).status == 0
        assert not target.with_name(target.name + ".partial").exists()
    assert lamina("restore", repository, "--to", tmp_path / "newest").status == 0
    assert contents(tmp_path / "newest") == states[-1]


def test_what_is_restored_is_independent(lamina: Lamina, tmp_path: Path, scene: Scene) -> None:
    directory, repository, states = scene
    lamina("backup", directory, "--to", repository, "--link")
    target = tmp_path / "new"
    assert lamina("restore", repository, "--to", target).status == 0
    with engine.open(target, **TINY) as db:
        db.put(b"later", b"here only")
        db.compact()
    for name in os.listdir(target):
        os.remove(target / name)
    assert lamina("backup", "--verify", repository).status == 0
    assert contents(directory) == states[-1]


def test_torn_log(lamina: Lamina, tmp_path: Path) -> None:
    # As the death of its writer leaves it: opening cuts it, wherever that is.
    directory, repository = server_database(tmp_path), tmp_path / "repository"
    log = max(directory.glob("*.wal"))
    log.write_bytes(log.read_bytes()[:-5])
    expected = contents(directory)
    assert lamina("backup", directory, "--to", repository).status == 0
    target = tmp_path / "copy" / "lamina"
    assert lamina("restore", repository, "--to", target).status == 0
    assert contents(target) == expected
    servers, local = open_server(tmp_path / "copy")
    try:
        assert local("GET", "string:003") == b"changed 3"
    finally:
        servers.close()


def test_into_an_empty_folder(lamina: Lamina, tmp_path: Path, scene: Scene) -> None:
    _, repository, states = scene
    (tmp_path / "new").mkdir()
    assert lamina("restore", repository, "--to", f"{tmp_path / 'new'}/").status == 0
    assert contents(tmp_path / "new") == states[-1]
    assert lamina("restore", repository, "--to", tmp_path / "deep" / "er" / "new").status == 0


def test_ids(lamina: Lamina, tmp_path: Path, scene: Scene) -> None:
    _, repository, states = scene
    ids = [backup.id for backup in records(repository)]
    assert lamina("restore", repository, ids[1], "--to", tmp_path / "whole").status == 0
    assert contents(tmp_path / "whole") == states[1]
    outcome = lamina("restore", repository, "2", "--to", tmp_path / "none")
    assert outcome.status == 2
    assert "several backups may be meant" in outcome.err
    outcome = lamina("restore", repository, "1999", "--to", tmp_path / "none")
    assert outcome.status == 2
    assert "there is no backup 1999" in outcome.err
    assert not (tmp_path / "none").exists()


def test_never_over_something(lamina: Lamina, tmp_path: Path, scene: Scene) -> None:
    directory, repository, states = scene
    (tmp_path / "file").write_text("text")
    for target in (directory, tmp_path / "file", repository):
        outcome = lamina("restore", repository, "--to", target)
        assert outcome.status == 2
        assert "a restore makes a new one" in outcome.err
    assert contents(directory) == states[-1]
    assert (tmp_path / "file").read_text() == "text"


def test_leftovers_of_an_earlier_restore(lamina: Lamina, tmp_path: Path, scene: Scene) -> None:
    _, repository, states = scene
    partial = tmp_path / "new.partial"
    partial.mkdir()
    (partial / "000001.seg").write_bytes(b"half")
    (partial / "MANIFEST.tmp").write_bytes(b"half")
    held = DiskFileSystem().lock(str(partial / "LOCK"))
    try:
        outcome = lamina("restore", repository, "--to", tmp_path / "new")
        assert outcome.status == 2
        assert "another restore is at work" in outcome.err
    finally:
        held.release()
    assert lamina("restore", repository, "--to", tmp_path / "new").status == 0
    assert contents(tmp_path / "new") == states[-1]
    (tmp_path / "other.partial").mkdir()
    (tmp_path / "other.partial" / "letter").write_text("dear")
    outcome = lamina("restore", repository, "--to", tmp_path / "other")
    assert outcome.status == 2
    assert "letter is in the way" in outcome.err
    assert (tmp_path / "other.partial" / "letter").read_text() == "dear"


def test_damaged_files_are_named(lamina: Lamina, tmp_path: Path, scene: Scene) -> None:
    _, repository, _ = scene
    (newest,) = records(repository)[-1:]
    place = next(repository.glob("*/files"))
    missing, changed, short = sorted(file.stored_name for file in newest.files)[:3]
    (place / missing).unlink()
    data = bytearray((place / changed).read_bytes())
    data[len(data) // 2] ^= 1
    (place / changed).write_bytes(data)
    (place / short).write_bytes((place / short).read_bytes()[:-1])
    target = tmp_path / "new"
    outcome = lamina("restore", repository, "--to", target, "--json")
    assert outcome.status == 1
    assert not outcome.json["restored"]
    found = {item["file"]: item["what"] for item in outcome.json["damages"]}
    assert set(found) == {missing, changed, short}
    assert found[missing] == "it is missing"
    assert "content has changed" in found[changed]
    text = lamina("restore", repository, "--to", target).out
    assert all(str(place / name) in text for name in found)
    assert "nothing has been restored: 3 files of the backup cannot be used" in text
    assert not target.exists()
    assert not (tmp_path / "new.partial").exists()


def test_a_state_that_does_not_open_is_not_restored(lamina: Lamina, tmp_path: Path, scene: Scene) -> None:
    _, repository, _ = scene
    newest = records(repository)[-1]
    record = next(repository.glob(f"*/backups/{newest.id}"))
    assert newest.live_keys is not None
    record.write_bytes(encode_record(newest._replace(live_keys=newest.live_keys + 1)))
    outcome = lamina("restore", repository, "--to", tmp_path / "new")
    assert outcome.status == 2
    assert f"holds {newest.live_keys} keys" in outcome.err
    logless = [file for file in newest.files if not file.name.endswith(".wal")]
    record.write_bytes(encode_record(newest._replace(files=logless)))
    outcome = lamina("restore", repository, "--to", tmp_path / "new")
    assert outcome.status == 2
    assert "the log is missing" in outcome.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain", "repository"]


def test_check_refuses_what_has_errors(
    lamina: Lamina, tmp_path: Path, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, repository, _ = scene
    inner = restoring.check_directory

    def check(path: str, fs: DiskFileSystem, **options: object) -> list[object]:
        # As if the disk had changed a byte behind our back.
        victim = max(Path(path).glob("*.seg"))
        data = bytearray(victim.read_bytes())
        data[50] ^= 1
        victim.write_bytes(data)
        return list(inner(path, fs, **options))  # type: ignore[arg-type]

    monkeypatch.setattr(restoring, "check_directory", check)
    outcome = lamina("restore", repository, "--to", tmp_path / "new", "--check")
    assert outcome.status == 1
    assert "nothing has been restored: the check has found" in outcome.out
    assert not (tmp_path / "new").exists()
    assert lamina("restore", repository, "--to", tmp_path / "new").status == 0


def test_a_repository_that_is_read_only(lamina: Lamina, tmp_path: Path, scene: Scene) -> None:
    # Nothing is written there: not even a lock.
    _, repository, states = scene
    before = {path: path.stat().st_mtime_ns for path in repository.rglob("*")}
    assert lamina("restore", repository, "--to", tmp_path / "new").status == 0
    assert lamina("backup", "--verify", repository).status == 0
    assert {path: path.stat().st_mtime_ns for path in repository.rglob("*")} == before
    assert contents(tmp_path / "new") == states[-1]


def test_usage(lamina: Lamina, tmp_path: Path) -> None:
    assert lamina("restore", tmp_path).status == 2
    outcome = lamina("restore", tmp_path / "nothing", "--to", tmp_path / "new")
    assert outcome.status == 2
    assert "no repository of backups" in outcome.err
    help_text = lamina("restore", "--help").out
    assert "examples:" in help_text
    assert all(len(line) <= 110 for line in help_text.splitlines())
    directory = plain_database(tmp_path)
    assert all(parse_name(name) or name in ("LOCK", "MANIFEST") for name in os.listdir(directory))

"""lamina backup: what is copied, what is kept, and what is refused."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import lamina.engine as engine
from harness.databases import TINY
from harness.diskdata import contents, plain_database, server_database
from harness.servers import TINY_MEMTABLES, LaminaServer, StartServer, start_lamina
from lamina.engine.checksum import crc32c
from lamina.engine.filenames import LOCK, parse_name
from lamina.engine.filesystem import DiskFileSystem
from lamina.tools.backuprecord import Backup, RepositoryError, StoredFile, decode_record, encode_record
from lamina.tools.repository import MARKER, Repository
from lamina.tools.retention import Policy, added_bytes, decide, kept_by
from tests.tools.conftest import Outcome

__all__ = ["start_lamina"]

Lamina = Callable[..., Outcome]


def stored(repository: Path) -> dict[str, int]:
    """Return the sizes of all stored files by name."""
    return {path.name: path.stat().st_size for path in repository.glob("*/files/*")}


def records(repository: Path) -> list[Backup]:
    """Return all backups."""
    found, unreadable = Repository(DiskFileSystem(), str(repository)).backups()
    assert not unreadable
    return found


def damage(path: Path, offset: int) -> None:
    """Change a byte of a file in place."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x40
    path.write_bytes(data)


# --- What is copied


def test_full(lamina: Lamina, tmp_path: Path) -> None:
    directory, repository = server_database(tmp_path), tmp_path / "repository"
    facts = lamina("backup", directory, "--to", repository, "--label", "first", "--json").json
    named = {name for name in os.listdir(directory) if parse_name(name)}
    (backup,) = records(repository)
    assert {file.name for file in backup.files} == named
    assert stored(repository) == {file.stored_name: file.size_bytes for file in backup.files}
    assert facts["id"] == backup.id
    assert (facts["copied_files"], facts["copied_bytes"]) == (len(named), sum(stored(repository).values()))
    assert facts["kept_files"] == facts["linked_files"] == 0
    assert facts["label"] == "first"
    assert facts["entries"] == len(contents(directory))
    assert sum(path.is_file() for path in repository.rglob("*")) == len(named) + 3  # record, marker, lock


def test_incremental_copies_what_is_new(lamina: Lamina, tmp_path: Path) -> None:
    directory, repository = plain_database(tmp_path), tmp_path / "repository"
    lamina("backup", directory, "--to", repository)
    before = stored(repository)
    facts = lamina("backup", directory, "--to", repository, "--json").json
    assert (facts["copied_files"], facts["copied_bytes"]) == (0, 0)
    assert facts["kept_bytes"] == sum(before.values())
    assert stored(repository) == before
    with engine.open(directory, **TINY) as db:
        db.pause()
        for number in range(40):
            db.put(b"new %04d" % number, b"value")
        db.flush()
    old_names = {name.partition("-")[0] for name in before}
    expected = {
        name: (directory / name).stat().st_size
        for name in os.listdir(directory)
        if parse_name(name) and name.partition(".")[0] not in old_names
    }
    facts = lamina("backup", directory, "--to", repository, "--json").json
    assert facts["copied_bytes"] == sum(expected.values()) > 0
    assert facts["copied_files"] == len(expected)
    assert facts["kept_files"] > 5
    assert sum(stored(repository).values()) == sum(before.values()) + facts["copied_bytes"]
    assert lamina("backup", "--list", repository, "--json").json["backups"][2]["added_bytes"] == sum(
        expected.values()
    )


def test_unchanged_files_are_not_read_again(
    lamina: Lamina, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, repository = plain_database(tmp_path), tmp_path / "repository"
    lamina("backup", directory, "--to", repository)
    calls: list[object] = []
    monkeypatch.setattr("lamina.tools.taking.sum_up", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr("lamina.tools.taking.copy_file", lambda *arguments: calls.append(arguments))
    assert lamina("backup", directory, "--to", repository).status == 0
    assert not calls


def test_copies_of_a_database_share_contents_and_nothing_else(lamina: Lamina, tmp_path: Path) -> None:
    directory, repository, copy = plain_database(tmp_path), tmp_path / "repository", tmp_path / "copy"
    lamina("backup", directory, "--to", repository)
    shutil.copytree(directory, copy)
    facts = lamina("backup", copy, "--to", repository, "--json").json
    assert facts["copied_bytes"] == 0
    # From here on both give their files the same numbers.
    for path, value in ((directory, b"one"), (copy, b"two")):
        with engine.open(path, **TINY) as db:
            db.put(b"key 0001", value * 20)
            db.flush()
        lamina("backup", path, "--to", repository)
    first, second = records(repository)[-2:]
    assert lamina("restore", repository, first.id, "--to", tmp_path / "a").status == 0
    assert lamina("restore", repository, second.id, "--to", tmp_path / "b").status == 0
    assert contents(tmp_path / "a") == contents(directory)
    assert contents(tmp_path / "b") == contents(copy)


def test_links(lamina: Lamina, tmp_path: Path) -> None:
    directory, repository = plain_database(tmp_path), tmp_path / "repository"
    facts = lamina("backup", directory, "--to", repository, "--link", "--json").json
    (backup,) = records(repository)
    for file in backup.files:
        (place,) = repository.glob(f"*/files/{file.stored_name}")
        is_linked = place.samefile(directory / file.name)
        assert is_linked == file.name.endswith(".seg")  # a log may be cut in place when it is opened
    logs = sum(file.size_bytes for file in backup.files if file.name.endswith(".wal"))
    assert facts["copied_bytes"] == logs
    assert facts["linked_bytes"] == backup.size_bytes - logs - len(backup.manifest)
    assert lamina("backup", directory, "--to", repository, "--link", "--json").json["linked_files"] == 0


def test_read_all_mends_the_repository(lamina: Lamina, tmp_path: Path) -> None:
    directory, repository = plain_database(tmp_path), tmp_path / "repository"
    lamina("backup", directory, "--to", repository)
    victim = max(repository.glob("*/files/*.seg"))
    damage(victim, 90)
    lamina("backup", directory, "--to", repository)
    assert lamina("backup", "--verify", repository).status == 1
    facts = lamina("backup", directory, "--to", repository, "--read-all", "--json").json
    assert (facts["copied_files"], facts["copied_bytes"]) == (1, victim.stat().st_size)
    assert lamina("backup", "--verify", repository).status == 0


def test_what_is_missing_is_copied_again(lamina: Lamina, tmp_path: Path) -> None:
    directory, repository = plain_database(tmp_path), tmp_path / "repository"
    lamina("backup", directory, "--to", repository)
    first, second = sorted(repository.glob("*/files/*.seg"))[:2]
    first.unlink()
    second.write_bytes(second.read_bytes()[:50])
    assert lamina("backup", directory, "--to", repository, "--json").json["copied_files"] == 2
    assert lamina("backup", "--verify", repository).status == 0


def test_several_databases(lamina: Lamina, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    directories = [plain_database(tmp_path / "a"), plain_database(tmp_path / "b", counted=False)]
    ids = [
        lamina("backup", path, "--to", repository, "--json").json["database"]
        for path in (*directories, *directories)
    ]
    assert ids[:2] == ids[2:]
    assert len(set(ids)) == 2
    assert len(lamina("backup", "--list", repository, "--json").json["backups"]) == 4
    only = lamina("backup", "--list", repository, "--database", ids[0], "--json").json["backups"]
    assert [backup["database"] for backup in only] == [ids[0]] * 2
    outcome = lamina("restore", repository, "--to", tmp_path / "new")
    assert outcome.status == 2
    assert "--database" in outcome.err
    assert lamina("restore", repository, "--database", ids[1], "--to", tmp_path / "new").status == 0
    assert contents(tmp_path / "new") == contents(directories[1])
    # What is pruned of one leaves the other alone.
    assert lamina("backup", "--prune", repository, "--keep-last", 1, "--database", ids[0]).status == 0
    assert [backup.database for backup in records(repository)].count(ids[1]) == 2
    assert lamina("backup", "--verify", repository).status == 0


# --- What is refused


def test_database_in_use(lamina: Lamina, tmp_path: Path) -> None:
    directory, repository = plain_database(tmp_path), tmp_path / "repository"
    with engine.open(directory, **TINY):
        outcome = lamina("backup", directory, "--to", repository)
    assert outcome.status == 2
    assert f"in use by process {os.getpid()}" in outcome.err
    assert "lamina backup --host" in outcome.err
    assert not records(repository)


def test_the_database_is_locked_while_it_is_copied(
    lamina: Lamina, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, repository = plain_database(tmp_path), tmp_path / "repository"
    refused = []

    def open_it(fs: DiskFileSystem, *arguments: object) -> None:
        with pytest.raises(engine.LockedError) as error:
            engine.open(directory)
        refused.append(error)
        raise OSError(5, "enough")

    monkeypatch.setattr("lamina.tools.taking.copy_file", open_it)
    assert lamina("backup", directory, "--to", repository).status == 2
    assert len(refused) == 1
    engine.open(directory).close()


def test_a_damaged_database_is_not_kept(lamina: Lamina, tmp_path: Path) -> None:
    directory, repository = plain_database(tmp_path), tmp_path / "repository"
    victim = max(directory.glob("*.seg"))
    damage(victim, 60)  # in a block, which opening does not read
    outcome = lamina("backup", directory, "--to", repository)
    assert outcome.status == 2
    assert f"{victim}: corruption" in outcome.err
    assert not stored(repository)
    assert lamina("backup", "--list", repository).out == f"{repository}: there are no backups\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["DB"], "--to: name the repository"),
        (["--to", "REPO"], "name a database's folder, or a running server"),
        (["DB", "--port", "1", "--to", "REPO"], "name a database's folder, or a running server"),
        (["DB", "more", "--to", "REPO"], "ID does not go with a backup"),
        (["DB", "--to", "REPO", "--dry-run"], "--dry-run does not go with a backup"),
        (["DB", "--to", "REPO", "--password-file", "x"], "--password-file goes with --host"),
        (["--list"], "--list: name the repository"),
        (["--list", "REPO", "--keep-last", "1"], "--keep-last does not go with --list"),
        (["--verify", "REPO", "20001111"], "there is no such backup"),
        (["--list", "REPO", "--database", "00"], "there is no such database"),
        (["--prune", "REPO"], "no rule keeps anything"),
        (["--prune", "REPO", "--keep-last", "0"], "no rule keeps anything"),
        (["--prune", "REPO", "--keep-last", "-1"], "fewer than no backups"),
        (["--list", "DB"], "no repository of backups"),
        (["DB", "--to", "FOREIGN"], "not empty: name a new folder"),
        (["DB", "--to", "INSIDE"], "must not lie in each other"),
        (["FOREIGN", "--to", "REPO"], "there is no database here"),
        (["--port", "1", "--to", "REPO"], "does not answer"),
    ],
)
def test_usage(lamina: Lamina, tmp_path: Path, words: list[str], expected: str) -> None:
    directory, foreign = plain_database(tmp_path), tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "letter").write_text("dear")
    places = {"DB": directory, "REPO": tmp_path / "repo", "FOREIGN": foreign, "INSIDE": directory / "backups"}
    lamina("backup", directory, "--to", places["REPO"])
    before = stored(places["REPO"])
    outcome = lamina("backup", *(places.get(word, word) for word in words))
    assert outcome.status == 2
    assert expected in outcome.err
    assert stored(places["REPO"]) == before
    assert os.listdir(foreign) == ["letter"]


def test_one_writes_at_a_time(lamina: Lamina, tmp_path: Path) -> None:
    directory, repository = plain_database(tmp_path), tmp_path / "repository"
    lamina("backup", directory, "--to", repository)
    held = DiskFileSystem().lock(str(repository / LOCK))
    try:
        for words in ((directory, "--to", repository), ("--prune", repository, "--keep-last", 1)):
            outcome = lamina("backup", *words)
            assert outcome.status == 2
            assert f"process {os.getpid()} writes to it now" in outcome.err
        assert lamina("backup", "--verify", repository).status == 0
    finally:
        held.release()


def test_a_repository_of_a_newer_release(lamina: Lamina, tmp_path: Path) -> None:
    directory, repository = plain_database(tmp_path), tmp_path / "repository"
    lamina("backup", directory, "--to", repository)
    (repository / MARKER).write_text("lamina backups 2\n")
    outcome = lamina("backup", directory, "--to", repository)
    assert outcome.status == 2
    assert "newer release" in outcome.err


# --- Verifying


def test_verify_names_what_is_damaged(lamina: Lamina, tmp_path: Path) -> None:
    directory, repository = plain_database(tmp_path), tmp_path / "repository"
    lamina("backup", directory, "--to", repository)
    with engine.open(directory, **TINY) as db:
        db.compact()
        db.put(b"more", b"in a new log")
    lamina("backup", directory, "--to", repository)
    first, second = records(repository)
    assert lamina("backup", "--verify", repository).out.endswith("2 backups, " + _size(repository))
    only_first = {f.stored_name for f in first.files} - {f.stored_name for f in second.files}
    only_second = {f.stored_name for f in second.files} - {f.stored_name for f in first.files}
    one, two, three = min(only_first), max(only_first), max(only_second)
    place = next(repository.glob("*/files"))
    damage(place / one, 50)
    (place / two).unlink()
    (place / three).write_bytes((place / three).read_bytes()[:-1])
    outcome = lamina("backup", "--verify", repository, "--json")
    assert outcome.status == 1
    found = {item["file"]: item for item in outcome.json["damages"]}
    assert set(found) == {one, two, three}
    assert "content has changed" in found[one]["what"]
    assert found[two]["what"] == "it is missing"
    assert found[three]["what"].startswith("it has ")
    assert [item["backups"] for item in found.values()].count([first.id]) == 2
    assert found[three]["backups"] == [second.id]
    outcome = lamina("backup", "--verify", repository, second.id)
    assert outcome.status == 1
    assert three in outcome.out
    assert one not in outcome.out


def _size(repository: Path) -> str:
    return f"{sum(stored(repository).values()) / 1024:.1f} KiB: all is well\n"


def test_damaged_record(lamina: Lamina, tmp_path: Path) -> None:
    directory, repository = plain_database(tmp_path), tmp_path / "repository"
    lamina("backup", directory, "--to", repository)
    lamina("backup", directory, "--to", repository)
    first, second = sorted(repository.glob("*/backups/*"))
    before = stored(repository)
    damage(second, 300)
    for action in (["--list", repository], ["--verify", repository], ["--verify", repository, second.name]):
        outcome = lamina("backup", *action)
        assert outcome.status == 1
        assert f"{second}: the record of this backup is damaged" in outcome.out
    # What it needs is not known.
    outcome = lamina("backup", "--prune", repository, "--keep-last", 1)
    assert outcome.status == 2
    assert "nothing is pruned" in outcome.err
    assert stored(repository) == before
    assert lamina("restore", repository, "--to", tmp_path / "new").status == 2
    assert lamina("restore", repository, first.name, "--to", tmp_path / "new").status == 0
    # Backups go on, and other states can be restored.
    assert lamina("backup", directory, "--to", repository).status == 0
    assert lamina("restore", repository, "--to", tmp_path / "newer").status == 0


def test_records_that_lie() -> None:
    backup = sample("20260101T000000Z", 1)
    assert decode_record("x", encode_record(backup)) == backup
    for name in ("../../etc/passwd", "MANIFEST", "000001.seg/.."):
        lying = backup._replace(files=[StoredFile(name, 1, "0" * 64)])
        with pytest.raises(RepositoryError, match="no file of a database"):
            decode_record("x", encode_record(lying))
    with pytest.raises(RepositoryError, match="another database's"):
        decode_record("x", encode_record(backup._replace(database="00000000000000ff")))
    for cut in range(0, len(encode_record(backup)), 37):
        with pytest.raises(RepositoryError, match="damaged"):
            decode_record("x", encode_record(backup)[:cut])


MANIFEST_TEXT = (
    'lamina manifest 1\n{"counted": true, "salt": 255, "created_s": 1, "next_number": 2, "wal_first": 1,'
    ' "discards_last_number": 0, "discards": [], "levels": []}\n'
)


def sample(backup_id: str, created_s: int, *names: str) -> Backup:
    """Return a record of files that have a byte each."""
    manifest = MANIFEST_TEXT + f"crc32c {crc32c(0, MANIFEST_TEXT.encode()):08x}\n"
    files = [StoredFile(name, 1, f"{number:064x}") for number, name in enumerate(names)]
    return Backup(backup_id, "00000001000000ff", created_s, "", "/db", "0", 0, manifest, files)


# --- Pruning


DAY_S = 86_400
NOON_S = 1_795_608_000  # Wednesday, 2026-11-25 12:00 UTC


def days(*ages: float) -> list[Backup]:
    """Return backups of so many days before one noon, the oldest first; ids are their ages."""
    return [sample(f"{age:g}", NOON_S - int(age * DAY_S)) for age in sorted(ages, reverse=True)]


@pytest.mark.parametrize(
    ("ages", "policy", "kept"),
    [
        ([0, 1, 2, 3], Policy(last=2), "0 1"),
        ([0, 1, 2, 3], Policy(last=9), "0 1 2 3"),
        # The newest of each day; days without a backup do not count.
        ([0, 0.25, 1, 1.25, 5, 9], Policy(daily=3), "0 1 5"),
        ([0, 0.01, 0.02, 0.04, 0.1], Policy(hourly=2), "0 0.01"),
        # Weeks begin on Mondays: Wednesday, Monday | Sunday, Saturday.
        ([0, 2, 3, 4, 10], Policy(weekly=2), "0 3"),
        ([0, 24, 25, 26, 60, 400], Policy(monthly=3), "0 25 60"),
        ([0, 200, 400, 800], Policy(yearly=2), "0 400"),
        ([0, 1, 2, 10, 40], Policy(last=1, daily=2, monthly=2), "0 1 40"),
        ([], Policy(last=1), ""),
    ],
)
def test_rules(ages: list[float], policy: Policy, kept: str) -> None:
    found = kept_by(days(*ages), policy)
    assert sorted(found, key=float) == kept.split()
    assert all(found.values())


def test_decision_is_exact() -> None:
    old = sample("a", 1, "000001.seg", "000002.seg")
    new = sample("b", 2, "000001.seg", "000003.seg")
    files = {file.stored_name: 5 for backup in (old, new) for file in backup.files}
    orphan = StoredFile("000009.seg", 7, "f" * 64).stored_name
    decision = decide("d", [old, new], files | {orphan: 7}, Policy(last=1))
    assert decision.dropped == [old]
    assert decision.files == sorted([old.files[1].stored_name, orphan])
    assert decision.freed_bytes == 12
    assert decide("d", [old, new], files | {orphan: 7}, None).files == [orphan]
    assert added_bytes([old, new]) == {"a": 2, "b": 1}


def test_prune_removes_what_nobody_needs(lamina: Lamina, tmp_path: Path) -> None:
    directory, repository = plain_database(tmp_path), tmp_path / "repository"
    lamina("backup", directory, "--to", repository)
    with engine.open(directory, **TINY) as db:
        db.compact()
    lamina("backup", directory, "--to", repository)
    expected = contents(directory)
    first, second = records(repository)
    orphan = next(repository.glob("*/files")) / StoredFile("999999.seg", 3, "e" * 64).stored_name
    orphan.write_bytes(b"abc")
    half = orphan.with_name("000001.seg.tmp")
    half.write_bytes(b"abc")
    before = stored(repository)
    planned = lamina("backup", "--prune", repository, "--keep-last", 1, "--dry-run", "--json").json
    assert stored(repository) == before
    facts = lamina("backup", "--prune", repository, "--keep-last", 1, "--json").json
    assert facts == planned | {"dry_run": False}
    needed = {file.stored_name for file in second.files}
    assert set(stored(repository)) == needed
    (removed,) = facts["removed_files"].values()
    assert set(removed) == set(before) - needed - {half.name}
    assert facts["freed_bytes"] == sum(before[name] for name in removed)
    assert [backup["id"] for backup in facts["dropped"]] == [first.id]
    assert facts["kept"][0]["kept_by"] == ["last"]
    assert lamina("restore", repository, "--to", tmp_path / "new").status == 0
    assert contents(tmp_path / "new") == expected
    assert lamina("backup", "--prune", repository, "--keep-last", 1, "--json").json["freed_bytes"] == 0


def test_texts(lamina: Lamina, tmp_path: Path) -> None:
    directory, repository = plain_database(tmp_path), tmp_path / "repository"
    outcome = lamina("backup", directory, "--to", repository, "--label", "for ever")
    (backup,) = records(repository)
    assert outcome.out.startswith(f"{backup.id}: a backup of {directory}, ")
    assert lamina("backup", directory, "--to", repository, "--quiet").out == f"{records(repository)[1].id}\n"
    lines = lamina("backup", "--list", repository).out.splitlines()
    assert lines[0] == f"database {backup.database}, from {directory}"
    assert lines[1].endswith("for ever")
    outcome = lamina("backup", "--prune", repository, "--keep-last", 1, "--dry-run")
    assert f"{backup.id} of {backup.database} would be dropped\n" in outcome.out
    assert outcome.out.endswith("1 backup and 0 files would be removed, 0 B\n")
    help_text = lamina("backup", "--help").out
    assert "examples:" in help_text
    assert all(len(line) <= 110 for line in help_text.splitlines())


# --- Running servers


@pytest.fixture
def server(start_lamina: StartServer) -> LaminaServer:
    started = start_lamina("--appendfsync", "no", *TINY_MEMTABLES)
    if not isinstance(started, LaminaServer):
        pytest.skip("only Lamina makes checkpoints")
    return started


def writing(server: LaminaServer, stop: threading.Event, acknowledged: list[int]) -> None:
    """Count a key up, in step with another one, as fast as the server lets us; note each number."""
    with server.client() as client:
        number = 0
        while not stop.is_set():
            number += 1
            client.call("MSET", "number", number, f"key:{number % 500}", f"{number} ".ljust(200, "x"))
            acknowledged.append(number)


def test_live_server_under_writes(lamina: Lamina, tmp_path: Path, server: LaminaServer) -> None:
    repository = tmp_path / "repository"
    stop, acknowledged = threading.Event(), [0]
    writer = threading.Thread(target=writing, args=(server, stop, acknowledged))
    writer.start()
    try:
        bounds = []
        while len(acknowledged) < 1000:
            time.sleep(0.01)
        for _ in range(3):
            begin = acknowledged[-1]
            outcome = lamina("backup", "--port", server.port, "--to", repository)
            assert outcome.status == 0, outcome.err
            bounds.append((begin, acknowledged[-1] + 1))
    finally:
        stop.set()
        writer.join()
    assert set(os.listdir(server.data)) <= {"lamina", "dump.rdb"}
    for backup, (begin, end) in zip(records(repository), bounds, strict=True):
        target = tmp_path / f"restored {backup.id}"
        assert lamina("restore", repository, backup.id, "--to", target, "--check").status == 0
        assert lamina("check", "--logical", target).status == 0
        held = {key[5:]: value[1:] for key, value in contents(target) if key[4:5] == b"k"}
        number = int(held.pop(b"number"))
        assert begin <= number <= end
        # Exactly what was current after that number: the newest value of each key up to it, nothing newer.
        expected = {b"key:%d" % (n % 500): b"%d " % n for n in range(max(1, number - 499), number + 1)}
        assert {key: value[: len(expected[key])] for key, value in held.items()} == expected


def test_restored_server_serves_on(
    lamina: Lamina, tmp_path: Path, server: LaminaServer, start_lamina: StartServer
) -> None:
    repository = tmp_path / "repository"
    with server.client() as client:
        client.call("ZADD", "z", 1, "a", 2, "b")
        client.call("SET", "k", "v")
        assert lamina("backup", "--host", "127.0.0.1", "--port", server.port, "--to", repository).status == 0
        client.call("SET", "k", "later")
    data = tmp_path / "elsewhere"
    assert lamina("restore", repository, "--to", data / "lamina").status == 0
    other = start_lamina("--dir", str(data))
    with other.client() as client:
        assert client.call("GET", "k") == b"v"
        assert client.call("ZRANGE", "z", 0, -1) == [b"a", b"b"]
        client.call("SET", "k", "here")
    assert lamina("backup", "--port", other.port, "--to", repository).status == 0
    assert lamina("backup", "--verify", repository).status == 0


def test_password(
    lamina: Lamina, tmp_path: Path, start_lamina: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_lamina("--requirepass", "sesame")
    words = ("backup", "--port", server.port, "--to", tmp_path / "repository")
    outcome = lamina(*words)
    assert outcome.status == 2
    assert "NOAUTH" in outcome.err
    (tmp_path / "password").write_text("sesame\n")
    assert lamina(*words, "--password-file", tmp_path / "password").status == 0
    (tmp_path / "password").write_text("wrong\n")
    outcome = lamina(*words, "--password-file", tmp_path / "password")
    assert outcome.status == 2
    assert "WRONGPASS" in outcome.err
    monkeypatch.setenv("LAMINA_PASSWORD", "sesame")
    assert lamina(*words).status == 0
    assert len(records(tmp_path / "repository")) == 2


def test_checkpoints_of_the_dead_are_removed(lamina: Lamina, tmp_path: Path, server: LaminaServer) -> None:
    with server.client() as client:
        client.call("SET", "k", "v")
        for pid in (4_194_305, os.getppid()):  # above what Linux gives, and one that lives
            client.call("CHECKPOINT", f"lamina.backup-{pid}")
    assert lamina("backup", "--port", server.port, "--to", tmp_path / "repository").status == 0
    left = [name for name in os.listdir(server.data) if name.startswith("lamina.backup")]
    assert left == [f"lamina.backup-{os.getppid()}"]


def test_server_that_refuses(lamina: Lamina, tmp_path: Path, start_lamina: StartServer) -> None:
    server = start_lamina("--enable-checkpoint-command", "no")
    outcome = lamina("backup", "--port", server.port, "--to", tmp_path / "repository")
    assert outcome.status == 2
    assert "enable-checkpoint-command" in outcome.err
    assert os.listdir(server.data) == ["lamina"]
    assert not records(tmp_path / "repository")

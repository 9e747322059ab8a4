"""lamina find: every place of a key, in whatever state the files are."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lamina.engine as engine
from harness.databases import TINY
from harness.diskdata import FAR_MS, contents, plain_database, server_database
from lamina.engine.filesystem import DiskFileSystem
from lamina.engine.manifest import read_manifest
from lamina.tools.haystack import Haystack

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("originals")
    return layered(folder / "layered"), server_database(folder)


@pytest.fixture
def plain(originals: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(originals[0], tmp_path / "plain"))


@pytest.fixture
def server(originals: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(originals[1], tmp_path / "lamina"))


def layered(directory: Path) -> Path:
    """Write a key into two runs and twice into the log; another is removed, one discarded."""
    with engine.open(directory, background="inline", level_runs_max=8) as db:
        for turn in range(2):
            for key in (b"key", b"other", b"gone", b"thrown away"):
                db.put(key, b"turn %d" % turn)
            db.flush()
        db.put(b"key", b"turn 2")
        db.put(b"key", b"turn 3")
        db.delete(b"gone")
        db.discard(b"thrown", b"u")
    return directory


def states(places: list[dict[str, Any]]) -> list[tuple[str, str, str | None]]:
    return [(place["state"], place["kind"], place["value"]) for place in places]


def test_places_come_newest_first(lamina: Run, plain: Path) -> None:
    found = lamina("find", plain, "key", "--json").json["key"]
    assert found["state"] == "live"
    assert states(found["places"]) == [
        ("live", "REPLACE", "turn 3"),
        ("shadowed", "REPLACE", "turn 2"),
        ("shadowed", "REPLACE", "turn 1"),
        ("shadowed", "INSERT", "turn 0"),
    ]
    first, second, third, fourth = [place["where"] for place in found["places"]]
    assert first["log"] == second["log"]
    assert first["offset"] > second["offset"]
    assert third["segment"] > fourth["segment"]
    assert third["level"] == fourth["level"] == 0


def test_as_text(lamina: Run, plain: Path) -> None:
    outcome = lamina("find", plain, "key")
    assert (outcome.status, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[0].startswith("  1  live            log ")
    assert lines[1] == '     REPLACE         "key" = "turn 3"'
    assert lines[4].startswith("  3  shadowed by 1   level 0 run ")


def test_a_key_that_is_removed(lamina: Run, plain: Path) -> None:
    found = lamina("find", plain, "gone", "--json").json["key"]
    assert states(found["places"])[0] == ("removed", "REMOVE", None)
    assert found["state"] == "removed"


def test_a_key_that_is_discarded(lamina: Run, plain: Path) -> None:
    found = lamina("find", plain, "thrown away", "--json").json["key"]
    assert [state for state, _, _ in states(found["places"])] == ["discarded", "discarded"]


def test_a_key_that_is_nowhere(lamina: Run, plain: Path) -> None:
    outcome = lamina("find", plain, "nothing")
    assert (outcome.status, outcome.out) == (1, '"nothing": nowhere\n')
    outcome = lamina("find", plain, "nothing", "--json")
    assert outcome.json["key"] == {"key": "nothing", "state": "nowhere", "places": []}


def test_a_key_as_digits(lamina: Run, plain: Path) -> None:
    assert lamina("find", plain, b"key".hex(), "--hex").out == lamina("find", plain, "key").out
    assert lamina("find", plain, "key", "--hex").status == 2
    assert lamina("find", plain, "\\q").status == 2


def test_every_key_is_found_as_readers_see_it(tmp_path: Path) -> None:
    directory = plain_database(tmp_path)
    live = dict(contents(directory))
    expected = {key: live.get(key) for key in (b"key %04d" % n for n in range(310))}
    haystack = Haystack(str(directory))
    assert {key: haystack.newest(key) for key in expected} == expected
    assert haystack.damage == []


def test_hidden_parts_of_segments_are_dead(lamina: Run, tmp_path: Path) -> None:
    """A merge that was broken off leaves segments of which only a part is shown."""
    directory = tmp_path / "db"
    options = TINY | {"level_runs_max": 8}
    with engine.open(directory, **options) as db:
        for turn in range(2):
            for number in range(100):
                db.put(b"key %04d" % number, b"turn %d" % turn)
            db.flush()
        db.compact(b"key 0000", b"key 0010")
    found = lamina("find", directory, "key 0005", "--json").json["key"]["places"]
    assert found[0]["state"] == "live"
    assert found[0]["value"] == "turn 1"
    assert {place["state"] for place in found[1:]} <= {"merged before", "in no run"}


# -- Redis keys ------------------------------------------------------------------------------------


def test_a_string(lamina: Run, server: Path) -> None:
    found = lamina("find", server, "string:003", "--redis", "--json").json
    places = found["record"]["places"]
    assert [place["state"] for place in places] == ["live", *["shadowed"] * (len(places) - 1)]
    assert places[0]["entry"]["value"] == "changed 3"
    assert set(found) == {"record", "damage"}


def test_a_string_that_expires(lamina: Run, server: Path) -> None:
    found = lamina("find", server, "token", "--redis", "--json").json
    assert found["record"]["places"][0]["entry"]["expires_ms"] == FAR_MS
    assert found["expiry"]["state"] == "live"
    assert found["expiry"]["places"][0]["entry"]["key"] == "token"


def test_a_collection(lamina: Run, server: Path) -> None:
    found = lamina("find", server, "hash", "--redis", "--json").json
    assert found["record"]["places"][0]["entry"]["type"] == "hash"
    assert found["field expiry"]["state"] == "live"
    assert sum(layer["entries"] for layer in found["elements"]["layers"]) >= 40
    assert sum(layer["entries"] for layer in found["field times"]["layers"]) == 2
    text = lamina("find", server, "zset", "--redis").out
    assert "record:\n  1  live" in text
    assert "elements, under id 4: 100 entries in all layers\n" in text


def test_another_database(lamina: Run, server: Path) -> None:
    assert lamina("find", server, "elsewhere", "--redis").status == 1
    assert lamina("find", server, "elsewhere", "--redis", "--db", 5).status == 0
    assert lamina("find", server, "elsewhere", "--db", 5).status == 2
    assert lamina("find", server, "elsewhere", "--redis", "--db", -1).status == 2


# -- damage ----------------------------------------------------------------------------------------


def test_a_damaged_block_hides_nothing_in_other_files(lamina: Run, plain: Path) -> None:
    path = min(plain.glob("*.seg"))
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    outcome = lamina("find", plain, "key", "--json")
    assert outcome.status == 1
    assert f"{path}: damaged at byte 20: data block checksum" in outcome.err
    assert [v for _, _, v in states(outcome.json["key"]["places"])] == ["turn 3", "turn 2", "turn 1"]


def test_a_segment_without_a_footer_is_searched_block_by_block(lamina: Run, plain: Path) -> None:
    sound = lamina("find", plain, "key", "--json").json["key"]["places"]
    path = max(plain.glob("*.seg"))
    path.write_bytes(path.read_bytes()[:-10])
    outcome = lamina("find", plain, "key", "--json")
    assert outcome.status == 1
    assert outcome.json["key"]["places"] == sound


def test_a_segment_that_is_missing(lamina: Run, plain: Path) -> None:
    path = max(plain.glob("*.seg"))
    path.unlink()
    outcome = lamina("find", plain, "key", "--json")
    assert outcome.status == 1
    assert outcome.json["damage"] == [f"{path}: the segment is missing"]
    assert [v for _, _, v in states(outcome.json["key"]["places"])] == ["turn 3", "turn 2", "turn 0"]


def test_without_a_manifest_ages_order_the_segments(lamina: Run, plain: Path) -> None:
    sound = states(lamina("find", plain, "key", "--json").json["key"]["places"])
    (plain / "MANIFEST").unlink()
    outcome = lamina("find", plain, "key", "--json")
    assert outcome.status == 1
    assert outcome.json["damage"] == [f"{plain / 'MANIFEST'}: the manifest is missing"]
    assert states(outcome.json["key"]["places"]) == sound


def test_a_torn_log(lamina: Run, plain: Path) -> None:
    found = lamina("find", plain, "key", "--json").json["key"]["places"]
    number = found[0]["where"]["log"]
    path = plain / f"{number:06}.wal"
    with path.open("r+b") as file:
        file.truncate(found[0]["where"]["offset"] + 14)
    outcome = lamina("find", plain, "key", "--json")
    assert outcome.status == 1
    assert states(outcome.json["key"]["places"])[0] == ("live", "REPLACE", "turn 2")


def test_a_database_in_use_is_refused(lamina: Run, plain: Path) -> None:
    with engine.open(plain, background="inline"):
        outcome = lamina("find", plain, "key")
    assert outcome.status == 2
    assert "in use by process" in outcome.err


def test_nothing_is_changed(lamina: Run, plain: Path) -> None:
    before = {path.name: path.read_bytes() for path in plain.iterdir() if path.name != "LOCK"}
    lamina("find", plain, "key")
    lamina("dump", "keys", plain)
    assert {path.name: path.read_bytes() for path in plain.iterdir() if path.name != "LOCK"} == before
    assert read_manifest(DiskFileSystem(), str(plain)).levels


def test_as_a_process(plain: Path) -> None:
    command = [sys.executable, "-m", "lamina.tools", "find", str(plain), "key"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("shadowed by 1") == 3

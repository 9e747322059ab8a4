"""lamina dump: what it shows of sound files and databases, and of damaged ones."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lamina.engine as engine
from harness.diskdata import contents, plain_database, server_database
from lamina.engine.segment.format import FRAME
from lamina.engine.wal import HEADER as WAL_HEADER
from lamina.tools.console import text_of
from lamina.tools.segmentfile import SegmentFile
from lamina.tools.walfile import WalFile

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("originals")
    return plain_database(folder), server_database(folder)


@pytest.fixture
def plain(originals: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(originals[0], tmp_path / "plain"))


@pytest.fixture
def server(originals: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(originals[1], tmp_path / "lamina"))


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.seg"))


def largest(directory: Path) -> Path:
    return max(segments(directory), key=lambda path: path.stat().st_size)


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(data)


# -- keys ------------------------------------------------------------------------------------------


def test_keys_are_all_entries_in_order(lamina: Run, plain: Path) -> None:
    outcome = lamina("dump", "keys", plain, "--json")
    assert (outcome.status, outcome.err) == (0, "")
    expected = [{"key": text_of(key), "value": text_of(value)} for key, value in contents(plain)]
    assert json_lines(outcome.out) == expected


def test_keys_in_a_range(lamina: Run, plain: Path) -> None:
    outcome = lamina("dump", "keys", plain, "--start", "key 0001", "--stop", "key 0004")
    assert outcome.out.splitlines() == [
        '"key 0001" = "value 1 of turn 1"',
        '"key 0002" = "value 2 of turn 2"',
        '"key 0003" = "value 3 of turn 1"',
    ]
    assert lamina("dump", "keys", plain, "--prefix", "la").out == '"last" = "in the log"\n'
    assert lamina("dump", "keys", plain, "--limit", 2, "--count-only").out == "2\n"
    assert lamina("dump", "keys", plain, "--limit", 2).out.count("\n") == 2
    count = len(contents(plain))
    assert lamina("dump", "keys", plain, "--count-only").out == f"{count}\n"
    assert lamina("dump", "keys", plain, "--count-only", "--json").json == {"entries": count}


def test_keys_in_hexadecimal(lamina: Run, plain: Path) -> None:
    outcome = lamina("dump", "keys", plain, "--format", "hex", "--prefix", b"last".hex())
    assert outcome.out == f"{b'last'.hex()} = {b'in the log'.hex()}\n"
    refused = lamina("dump", "keys", plain, "--format", "hex", "--prefix", "last")
    assert refused.status == 2
    assert "hexadecimal" in refused.err


def test_all_layers_tell_who_shadows_whom(lamina: Run, plain: Path) -> None:
    with engine.open(plain, background="inline") as db:
        db.put(b"key 0001", b"newest")
        db.delete(b"key 0002")
    rows = json_lines(lamina("dump", "keys", plain, "--all-layers", "--prefix", "key 000", "--json").out)
    of_one = [row for row in rows if row["key"] == "key 0001"]
    assert [row["value"] for row in of_one] == ["newest", "value 1 of turn 1"]
    assert [row["state"] for row in of_one] == ["newest", "shadowed"]
    assert of_one[0]["kind"] == "REPLACE"
    assert "logs" in of_one[0]["where"]
    assert of_one[1]["where"]["level"] >= 0
    of_two = [row for row in rows if row["key"] == "key 0002"]
    assert (of_two[0]["kind"], of_two[0]["value"]) == ("REMOVE", None)
    assert [row["key"] for row in rows] == sorted(row["key"] for row in rows)
    text = lamina("dump", "keys", plain, "--all-layers", "--prefix", "key 0001").out
    assert text.startswith('newest    REPLACE "key 0001" = "newest"   [memtable of log ')
    assert text.splitlines()[1].startswith("shadowed  ")
    newest = {row["key"] for row in rows if row["state"] == "newest" and row["value"] is not None}
    assert newest == {text_of(key) for key, _ in contents(plain) if key.startswith(b"key 000")}


def test_all_layers_name_segment_and_block(lamina: Run, plain: Path) -> None:
    """The place that is told holds the entry."""
    (row,) = json_lines(lamina("dump", "keys", plain, "--all-layers", "--start", "key 0299", "--json").out)[
        :1
    ]
    where = row["where"]
    (path,) = [path for path in segments(plain) if int(path.stem) == where["segment"]]
    with SegmentFile(str(path)) as segment:
        (block,) = [found.block for found in segment.blocks() if found.offset == where["offset"]]
    assert block is not None
    assert block.find(b"key 0299") is not None


def test_discarded_entries_are_told(lamina: Run, tmp_path: Path) -> None:
    with engine.open(tmp_path / "db", background="inline") as db:
        db.put(b"a", b"1")
        db.put(b"b", b"2")
        db.flush()
        db.discard(b"a", b"b")
    outcome = lamina("dump", "keys", tmp_path / "db", "--all-layers")
    assert [line.split()[0] for line in outcome.out.splitlines()] == ["discarded", "newest"]
    assert lamina("dump", "keys", tmp_path / "db").out == '"b" = "2"\n'


def test_an_uncounted_database(lamina: Run, tmp_path: Path) -> None:
    plain = plain_database(tmp_path, counted=False)
    count = len(contents(plain))
    assert lamina("dump", "keys", plain, "--count-only").out == f"{count}\n"
    assert lamina("dump", "keys", plain).out.count("\n") == count
    assert "DELETE" in lamina("dump", "keys", plain, "--all-layers").out


def test_keys_of_a_server(lamina: Run, server: Path) -> None:
    outcome = lamina("dump", "keys", server, "--db", 0, "--prefix", "string:00", "--json")
    rows = json_lines(outcome.out)
    assert [row["key"] for row in rows] == [f"string:00{n}" for n in (0, 2, 3, 4, 5, 6, 7, 8, 9)]
    assert rows[2]["value"] == "changed 3"
    assert lamina("dump", "keys", server, "--db", 5, "--count-only").out == "1\n"
    assert lamina("dump", "keys", server, "--db", 3, "--count-only").out == "0\n"
    assert lamina("dump", "keys", server, "--format", "raw", "--limit", 1).out.startswith('"\\x00\\x00')


def test_damage_ends_the_dump_with_its_place(lamina: Run, plain: Path) -> None:
    path = segments(plain)[0]
    flip(path, 40)
    outcome = lamina("dump", "keys", plain)
    assert outcome.status == 1
    assert f"lamina dump: {path}: damaged at byte 20: data block checksum" in outcome.err


def test_a_database_in_use_is_refused(lamina: Run, plain: Path) -> None:
    with engine.open(plain, background="inline"):
        outcome = lamina("dump", "keys", plain)
    assert outcome.status == 2
    assert "in use by process" in outcome.err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["keys"],
        ["keys", "nowhere"],
        ["keys", "nowhere", "--limit", "-1"],
        ["pages", "nowhere"],
        ["segment", "nowhere/000001.seg"],
        ["wal", "nowhere/000001.wal"],
        ["manifest", "nowhere"],
    ],
)
def test_usage(lamina: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = lamina("dump", *arguments)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("lamina dump")


def test_a_range_that_ends_before_it_begins(lamina: Run, plain: Path) -> None:
    outcome = lamina("dump", "keys", plain, "--start", "b", "--stop", "a")
    assert outcome.status == 2
    assert "ends before it begins" in outcome.err


# -- segments --------------------------------------------------------------------------------------


def test_properties(lamina: Run, plain: Path) -> None:
    path = largest(plain)
    outcome = lamina("dump", "segment", path, "--json")
    assert outcome.status == 0
    facts = outcome.json
    assert facts["number"] == int(path.stem)
    assert facts["size_bytes"] == path.stat().st_size
    count = json_lines(lamina("dump", "segment", path, "--count-only", "--json").out)
    assert count == [{"entries": facts["entries"]}]
    text = lamina("dump", "segment", path).out
    assert f"number          {facts['number']}\n" in text


def test_layout_covers_the_file(lamina: Run, plain: Path) -> None:
    path = largest(plain)
    rows = json_lines(lamina("dump", "segment", path, "--layout", "--json").out)
    end = 0
    for row in rows:
        assert row["offset"] == end
        end += row["size_bytes"]
    assert end == path.stat().st_size
    kinds = [row["what"] for row in rows]
    assert kinds[0] == "header"
    assert kinds[-4:] == ["index", "top index", "properties", "footer"]
    assert " x block, " in lamina("dump", "segment", path, "--layout").out


def test_blocks_and_entries_agree(lamina: Run, plain: Path) -> None:
    for path in segments(plain):
        blocks = json_lines(lamina("dump", "segment", path, "--blocks", "--json").out)
        entries = json_lines(lamina("dump", "segment", path, "--entries", "--json").out)
        assert sum(row["entries"] for row in blocks) == len(entries)
        assert blocks[0]["first"] == entries[0]["key"]
        assert blocks[-1]["last"] == entries[-1]["key"]
        assert sorted({row["offset"] for row in entries}) == [row["offset"] for row in blocks]
        assert lamina("dump", "segment", path, "--blocks").out.count("\n") == len(blocks)


def test_entries_in_a_range(lamina: Run, plain: Path) -> None:
    path = largest(plain)
    keys = [row["key"] for row in json_lines(lamina("dump", "segment", path, "--entries", "--json").out)]
    some = lamina("dump", "segment", path, "--entries", "--json", "--start", keys[3], "--stop", keys[7])
    assert [row["key"] for row in json_lines(some.out)] == keys[3:7]
    few = lamina("dump", "segment", path, "--entries", "--json", "--start", keys[3], "--limit", 2)
    assert [row["key"] for row in json_lines(few.out)] == keys[3:5]


def test_a_segment_needs_nothing_but_itself(lamina: Run, server: Path, tmp_path: Path) -> None:
    """Alone, database and type are not known; in its database they are."""
    path = largest(server)
    there = lamina("dump", "segment", path, "--entries").out
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / path.name).write_bytes(path.read_bytes())
    here = lamina("dump", "segment", alone / path.name, "--entries").out
    assert there.count("\n") == here.count("\n")
    assert "db 0  " in there
    assert "db 0  " not in here
    assert "pdb 1  " in here


def test_a_plain_segment_alone_is_shown_raw(lamina: Run, plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "000099.seg"
    path.write_bytes(largest(plain).read_bytes())
    assert ' "key ' in lamina("dump", "segment", path, "--entries").out
    assert "raw  " not in lamina("dump", "segment", path, "--entries").out


def test_a_damaged_block_is_told_and_passed_over(lamina: Run, plain: Path) -> None:
    path = largest(plain)
    with SegmentFile(str(path)) as segment:
        places = [(found.offset, found.size_bytes) for found in segment.blocks()]
    whole = json_lines(lamina("dump", "segment", path, "--entries", "--json").out)
    offset, size_bytes = places[1]
    flip(path, offset + size_bytes - 1)
    outcome = lamina("dump", "segment", path, "--entries", "--json")
    assert outcome.status == 1
    assert f"{path}: damaged at byte {offset}: data block checksum" in outcome.err
    assert json_lines(outcome.out) == [row for row in whole if row["offset"] != offset]
    layout = json_lines(lamina("dump", "segment", path, "--layout", "--json").out)
    assert [row["offset"] for row in layout if row["damage"]] == [offset]
    assert "DAMAGED: data block checksum" in lamina("dump", "segment", path, "--blocks").out


def test_a_frame_whose_size_is_damaged_costs_only_itself(lamina: Run, plain: Path) -> None:
    path = largest(plain)
    with SegmentFile(str(path)) as segment:
        places = [found.offset for found in segment.blocks()]
    whole = json_lines(lamina("dump", "segment", path, "--entries", "--json").out)
    for byte in range(4, FRAME.size):
        sound = path.read_bytes()
        flip(path, places[2] + byte)
        found = json_lines(lamina("dump", "segment", path, "--entries", "--json").out)
        assert found == [row for row in whole if row["offset"] != places[2]]
        path.write_bytes(sound)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.6, 0.95])
def test_a_segment_cut_short(lamina: Run, plain: Path, kept: float) -> None:
    path = largest(plain)
    whole = json_lines(lamina("dump", "segment", path, "--entries", "--json").out)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    outcome = lamina("dump", "segment", path, "--entries", "--json")
    assert outcome.status == 1
    assert str(path) in outcome.err
    found = json_lines(outcome.out)
    assert found == whole[: len(found)]
    assert lamina("dump", "segment", path).status == 1


def test_zeros_in_the_middle(lamina: Run, plain: Path) -> None:
    path = largest(plain)
    data = bytearray(path.read_bytes())
    data[200:500] = bytes(300)
    path.write_bytes(data)
    outcome = lamina("dump", "segment", path, "--layout", "--json")
    assert outcome.status == 1
    rows = json_lines(outcome.out)
    assert sum(row["size_bytes"] for row in rows) == len(data)
    assert rows[-1] == {
        "offset": len(data) - 40,
        "size_bytes": 40,
        "what": "footer",
        "codec": "raw",
        "raw_bytes": None,
        "damage": None,
    }


# -- logs ------------------------------------------------------------------------------------------


def last_log(directory: Path) -> Path:
    return sorted(directory.glob("*.wal"))[-1]


def test_frames_and_what_they_write(lamina: Run, tmp_path: Path) -> None:
    with engine.open(tmp_path / "db", background="inline") as db:
        db.put(b"a", b"1")
        with db.batch() as batch:
            batch.put(b"b", b"2")
            batch.delete(b"a")
            batch.discard(b"x", b"y")
    path = last_log(tmp_path / "db")
    rows = json_lines(lamina("dump", "wal", path, "--json").out)
    assert rows[0]["number"] == int(path.stem)
    assert rows[0]["sound_bytes"] == path.stat().st_size
    frames = [row for row in rows if "frame" in row]
    assert [row["frame"] for row in frames] == ["link", "durable", "entry", "batch", "durable"]
    end = WAL_HEADER.size
    for frame in frames:
        assert frame["offset"] == end
        end += frame["size_bytes"]
    assert end == path.stat().st_size
    entries = [(row["key"], row["kind"], row["value"]) for row in rows if "kind" in row]
    assert entries == [("a", "INSERT", "1"), ("b", "INSERT", "2"), ("a", "REMOVE", None)]
    assert [row["discard"] for row in rows if "discard" in row] == [{"start": "x", "stop": "y"}]
    text = lamina("dump", "wal", path, "--prefix", "b").out
    assert 'INSERT  "b" = "2"' in text
    assert '"1"' not in text
    assert 'discard "x" .. "y"' in text
    assert lamina("dump", "wal", path, "--count-only").out == "3\n"
    assert lamina("dump", "wal", path, "--count-only", "--limit", 2).out == "2\n"


def written_log(folder: Path, count: int = 20) -> tuple[Path, list[int]]:
    """Write a log; returns it, and where its entries' frames begin."""
    with engine.open(folder / "db", background="inline") as db:
        for number in range(count):
            db.put(b"key %d" % number, b"value %d" % number)
    path = last_log(folder / "db")
    return path, [frame.offset for frame in WalFile(str(path)).frames() if frame.kind == "entry"]


def test_a_torn_tail_is_told(lamina: Run, tmp_path: Path) -> None:
    path, offsets = written_log(tmp_path)
    with path.open("r+b") as file:
        file.truncate(offsets[-1] + 15)
    outcome = lamina("dump", "wal", path)
    assert outcome.status == 1
    assert f"damaged at byte {offsets[-1]}: frame is cut short" in outcome.err
    assert '"key 18"' in outcome.out
    assert '"key 19"' not in outcome.out


def test_frames_behind_damage_are_told(lamina: Run, tmp_path: Path) -> None:
    path, offsets = written_log(tmp_path)
    flip(path, offsets[5] + 14)
    outcome = lamina("dump", "wal", path, "--json")
    assert outcome.status == 1
    rows = json_lines(outcome.out)
    assert rows[0]["damage"] == {"offset": offsets[5], "what": "frame checksum"}
    behind = [row["offset"] for row in rows if row.get("behind_damage")]
    assert behind[:14] == offsets[6:]
    assert [row["key"] for row in rows if "key" in row] == [f"key {n}" for n in range(20) if n != 5]


def test_a_log_with_a_damaged_header(lamina: Run, tmp_path: Path) -> None:
    path, _ = written_log(tmp_path)
    flip(path, 3)
    outcome = lamina("dump", "wal", path)
    assert outcome.status == 1
    assert "damaged at byte 0: log header checksum" in outcome.err


# -- manifests -------------------------------------------------------------------------------------


def test_the_manifest(lamina: Run, plain: Path) -> None:
    facts = lamina("dump", "manifest", plain, "--json").json
    assert facts["counted"] is True
    named = {piece["segment"] for runs in facts["levels"] for run in runs for piece in run["slices"]}
    assert named == {int(path.stem) for path in segments(plain)}
    text = lamina("dump", "manifest", plain).out
    assert "counted, created " in text
    assert all(f"segment {number:6}  " in text for number in named)


def test_a_manifest_with_a_false_checksum_is_shown_all_the_same(lamina: Run, plain: Path) -> None:
    sound = lamina("dump", "manifest", plain, "--json").json
    path = plain / "MANIFEST"
    text = path.read_text()
    path.write_text(text.replace(f'"salt": {sound["salt"]}', '"salt": 7'))
    outcome = lamina("dump", "manifest", plain, "--json")
    assert outcome.status == 1
    assert "manifest checksum" in outcome.err
    assert outcome.json == sound | {"salt": 7}


def test_a_manifest_that_does_not_decode(lamina: Run, plain: Path) -> None:
    (plain / "MANIFEST").write_bytes(b"\x00" * 100)
    outcome = lamina("dump", "manifest", plain)
    assert outcome.status in (1, 2)
    assert str(plain / "MANIFEST") in outcome.err


# -- damage of all kinds ---------------------------------------------------------------------------


def damage(directory: Path, randomness: random.Random) -> None:
    """Spoil one or two files: bits, zeros, a cut, a removal, the content of another."""
    for _ in range(randomness.randint(1, 2)):
        path = randomness.choice(sorted(path for path in directory.iterdir() if path.name != "LOCK"))
        data = bytearray(path.read_bytes())
        at = randomness.randrange(len(data)) if data else 0
        match randomness.randrange(6):
            case 0 | 1 if data:
                data[at] ^= 1 << randomness.randrange(8)
            case 2 if data:
                data[at : at + 200] = bytes(len(data[at : at + 200]))
            case 3:
                del data[at:]
            case 4:
                path.unlink()
                continue
            case _:
                data = bytearray(randomness.choice(sorted(directory.iterdir())).read_bytes())
        path.write_bytes(data)


@pytest.mark.parametrize("seed", range(12))
def test_no_damage_ends_in_anything_but_a_line(lamina: Run, server: Path, seed: int) -> None:
    damage(server, random.Random(seed))
    commands: list[tuple[object, ...]] = [
        ("dump", "keys", server),
        ("dump", "keys", server, "--all-layers"),
        ("dump", "manifest", server),
        ("find", server, "hash", "--redis"),
        ("find", server, "string:003", "--redis", "--json"),
        ("stats", server, "--json"),
        ("compact", server, "--dry-run"),
    ]
    for path in segments(server):
        commands += [("dump", "segment", path, what) for what in ("--properties", "--layout", "--entries")]
    commands += [("dump", "wal", path) for path in sorted(server.glob("*.wal"))]
    for command in commands:
        outcome = lamina(*command)
        assert outcome.status in (0, 1, 2), command
        assert (outcome.status == 0) == (not outcome.err) or command[0] == "find"
        assert "Traceback" not in outcome.err


# -- as a process ----------------------------------------------------------------------------------


def test_as_a_process(server: Path) -> None:
    command = [sys.executable, "-m", "lamina.tools", "dump", "keys", str(server), "--db", "0", "--limit", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith('db 0  key "big" = string of 70003 bytes (in chunks), id 1\n')


def test_a_reader_that_has_had_enough(plain: Path) -> None:
    command = f"{sys.executable} -m lamina.tools dump keys {plain} --all-layers | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1

"""lamina stats: figures held against what was written."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lamina.engine as engine
from harness.diskdata import contents, open_server, plain_database, server_database
from lamina.tools.stats import gather, open_for_reading
from lamina.tools.survey import Biggest, Sizes

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("originals")
    return plain_database(folder), server_database(folder, *expiring())


@pytest.fixture
def plain(originals: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(originals[0], tmp_path / "plain"))


@pytest.fixture
def server(originals: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(originals[1], tmp_path / "lamina"))


NOW_MS = 4_000_000_000_000


def expiring() -> list[tuple[Any, ...]]:
    """Keys that expire at times round NOW_MS, which all lies in the future of the tests' clock."""
    times = {"gone": -1, "soon": 1, "hour": 3600_000, "day": 3600_001, "week": 7 * 86400_000, "late": 10**10}
    return [("SET", f"expiring:{name}", name, "PXAT", NOW_MS + after) for name, after in times.items()]


def test_of_a_plain_database(lamina: Run, plain: Path) -> None:
    outcome = lamina("stats", plain, "--json")
    assert (outcome.status, outcome.err) == (0, "")
    facts = outcome.json
    entries = contents(plain)
    assert (facts["redis"], facts["counted"]) == (False, True)
    assert facts["live_keys"] == len(entries)
    assert facts["key_sizes"]["total_bytes"] == sum(len(key) for key, _ in entries)
    assert facts["value_sizes"]["total_bytes"] == sum(len(value) for _, value in entries)
    assert facts["live_raw_bytes"] == sum(len(key) + len(value) for key, value in entries)
    expected = Counter(len(value).bit_length() for _, value in entries)
    assert {low: count for low, _, count in facts["value_sizes"]["histogram"]} == {
        (1 << bits) >> 1: count for bits, count in expected.items()
    }
    paths = list(plain.glob("*.seg"))
    assert facts["files"]["segments"] == len(paths)
    assert facts["files"]["segment_bytes"] == sum(path.stat().st_size for path in paths)
    assert facts["files"]["log_bytes"] == sum(path.stat().st_size for path in plain.glob("*.wal"))
    assert sum(level["segments"] for level in facts["levels"]) == len(paths)
    assert facts["amplification"]["read"] == sum(level["runs"] for level in facts["levels"]) + 1
    assert "databases" not in facts


def test_of_a_server(server: Path) -> None:
    with open_for_reading(str(server)) as db:
        facts = gather(db, quick=False, top=3, samples=50, now_ms=NOW_MS)
        assert facts["live_keys"] == db.count()
    assert facts["redis"]
    zero, five = facts["databases"]
    assert (zero["db"], zero["pdb"], five["db"]) == (0, 1, 5)
    assert zero["keys"] == 200 - 20 + 6 + 6
    types = zero["types"]
    assert {name: totals["keys"] for name, totals in types.items()} == {
        "string": 200 - 20 + 2 + 6,
        "list": 1,
        "set": 1,
        "zset": 1,
        "hash": 1,
    }
    counts = {name: totals["elements"] for name, totals in types.items()}
    assert counts == {"string": 0, "list": 62, "set": 40, "zset": 50, "hash": 40}
    assert zero["orphans"] == {"entries": 0, "size_bytes": 0}
    assert five["types"]["string"]["keys"] == 1
    assert zero["expiring"] == 7
    assert zero["expiry"] == {"expired": 1, "1 hour": 2, "1 day": 1, "1 week": 1, "later": 2}
    assert zero["hashes_with_expiring_fields"] == 1


def test_bytes_of_types_are_those_of_the_entries(server: Path) -> None:
    """All entries of a database but for the two indexes, whose keys are counted without their beginnings."""
    with open_for_reading(str(server)) as db:
        facts = gather(db, quick=False, top=3, samples=0, now_ms=NOW_MS)
    zero = facts["databases"][0]
    expected = 0
    for key, value in contents(server):
        if key.startswith(b"\0\0\0\x01"):
            expected += len(key) + len(value)
    assert sum(totals["size_bytes"] for totals in zero["types"].values()) == expected


def test_the_biggest_keys(server: Path) -> None:
    with open_for_reading(str(server)) as db:
        facts = gather(db, quick=False, top=3, samples=0, now_ms=NOW_MS)
        found = [(row["key"], row["size"]) for row in facts["biggest"]["by_elements"]]
        assert found == [(b"list", 62), (b"zset", 50), (b"hash", 40)]
        sizes = [row["size_bytes"] for row in facts["biggest"]["by_bytes"]]
        assert sizes == sorted(sizes, reverse=True)
        assert len(sizes) == 3
        none = gather(db, quick=False, top=0, samples=0, now_ms=NOW_MS)["biggest"]
        assert none == {"by_elements": [], "by_bytes": []}


def test_quick_reads_no_data(lamina: Run, server: Path) -> None:
    full = lamina("stats", server, "--json").json
    quick = lamina("stats", server, "--json", "--quick").json
    assert "biggest" not in quick
    assert "types" not in quick["databases"][0]
    assert quick["live_keys"] == full["live_keys"]
    assert quick["levels"] == full["levels"]
    assert [d["keys"] for d in quick["databases"]] == [d["keys"] for d in full["databases"]]


def test_as_text(lamina: Run, server: Path) -> None:
    text = lamina("stats", server, "--quiet").out
    assert f"database      {server}, a server's\n" in text
    assert "db 0 (pdb 1): 192 keys, " in text
    assert "biggest keys by elements\n" in text
    assert '  "list"\n' in text
    assert "level  runs  segments" in text


def test_an_uncounted_database(lamina: Run, tmp_path: Path) -> None:
    plain = plain_database(tmp_path, counted=False)
    assert lamina("stats", plain, "--json").json["live_keys"] == len(contents(plain))
    assert lamina("stats", plain, "--json", "--quick").json["live_keys"] is None
    assert "unknown (not counted)" in lamina("stats", plain, "--quick").out


def test_a_database_that_is_all_log(lamina: Run, tmp_path: Path) -> None:
    with engine.open(tmp_path / "db", background="inline") as db:
        db.put(b"k", b"v")
    facts = lamina("stats", tmp_path / "db", "--json").json
    assert (facts["live_keys"], facts["levels"], facts["amplification"]["read"]) == (1, [], 1)
    assert facts["compressibility"]["sampled_blocks"] == 0


def test_an_empty_database(lamina: Run, tmp_path: Path) -> None:
    engine.open(tmp_path / "db", background="inline").close()
    outcome = lamina("stats", tmp_path / "db", "--json")
    assert outcome.status == 0
    assert outcome.json["live_keys"] == 0


def test_discarded_ranges(lamina: Run, tmp_path: Path) -> None:
    with engine.open(tmp_path / "db", background="inline") as db:
        for number in range(2000):
            db.put(b"%05d" % number, bytes(100))
        db.flush()
        db.discard(b"00500", b"01000")
        db.flush()
    facts = lamina("stats", tmp_path / "db", "--json").json
    assert facts["discards"]["ranges"] == 1
    assert facts["discards"]["pending_bytes"] > 0
    assert facts["live_keys"] == 1500


def test_orphans_are_told(lamina: Run, tmp_path: Path) -> None:
    directory = server_database(tmp_path, ("SADD", "orphaned", *range(300)))
    with engine.open(directory, background="inline") as db:
        db.delete(b"\0\0\0\x01korphaned")
    database = lamina("stats", directory, "--json").json["databases"][0]
    assert database["orphans"]["entries"] == 300
    assert "300 elements of no key: see lamina check --logical" in lamina("stats", directory).out


def test_compressibility(lamina: Run, tmp_path: Path) -> None:
    for name in ("lz4", "none"):
        with engine.open(tmp_path / name, background="inline", compression=name) as db:
            for number in range(3000):
                db.put(b"%05d" % number, b"the same again and again")
            db.flush()
        packed = lamina("stats", tmp_path / name, "--json", "--samples", 5).json["compressibility"]
        assert packed["sampled_blocks"] == 5
        assert packed["lz4_ratio"] < 0.5
        assert (packed["stored_ratio"] < 0.5) == (name == "lz4")


def test_damage_ends_with_its_place(lamina: Run, plain: Path) -> None:
    path = max(plain.glob("*.seg"), key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    outcome = lamina("stats", plain, "--samples", 0)
    assert outcome.status == 1
    assert f"{path}: damaged at byte 20: data block checksum" in outcome.err
    assert lamina("stats", plain, "--quick", "--samples", 0).status == 0


def test_a_server_that_is_running_is_refused(lamina: Run, tmp_path: Path) -> None:
    servers, local = open_server(tmp_path)
    try:
        local("SET", "k", "v")
        outcome = lamina("stats", tmp_path / "lamina")
    finally:
        servers.close()
    assert outcome.status == 2
    assert "in use by process" in outcome.err


@pytest.mark.parametrize(
    "arguments", [["nowhere"], [], [".", "--top", "-1"], [".", "--samples", "-1"], [".", "--plot", "x.txt"]]
)
def test_usage(lamina: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = lamina("stats", *arguments)
    assert (outcome.status, outcome.out) == (2, "")


# -- pictures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("quick", [[], ["--quick"]])
def test_pictures(lamina: Run, plain: Path, server: Path, tmp_path: Path, quick: list[str]) -> None:
    engine.open(tmp_path / "empty", background="inline").close()
    for number, directory in enumerate((plain, server, tmp_path / "empty")):
        path = tmp_path / f"{number}.png"
        outcome = lamina("stats", directory, "--plot", path, *quick)
        assert (outcome.status, outcome.err) == (0, "")
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 10_000


def test_pictures_without_matplotlib(lamina: Run, plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    outcome = lamina("stats", plain, "--plot", plain / "x.png")
    assert outcome.status == 2
    assert outcome.err == "lamina stats: --plot needs matplotlib: pip install 'lamina[plot]'\n"


def test_a_picture_that_cannot_be_written(lamina: Run, plain: Path) -> None:
    outcome = lamina("stats", plain, "--plot", plain / "no folder" / "x.png")
    assert outcome.status == 2
    assert "there is no folder" in outcome.err


# -- the parts -------------------------------------------------------------------------------------


def test_sizes() -> None:
    sizes = Sizes()
    sizes.add([b"", b"a", b"abc", b"ab"])
    sizes.add([bytes(1000)])
    assert sizes.facts() == {
        "count": 5,
        "total_bytes": 1006,
        "mean_bytes": 201.2,
        "largest_bytes": 1000,
        "histogram": [[0, 0, 1], [1, 1, 1], [2, 3, 2], [512, 1023, 1]],
    }


def test_biggest_keeps_the_first_of_equals() -> None:
    biggest = Biggest(2)
    for number, name in [(1, "a"), (5, "b"), (3, "c"), (5, "d"), (3, "e")]:
        biggest.add(number, {"name": name})
    assert [facts["name"] for facts in biggest.facts()] == ["b", "d"]
    assert biggest.threshold == 5


def test_as_a_process(server: Path) -> None:
    command = [sys.executable, "-m", "lamina.tools", "stats", str(server), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert '"redis": true' in done.stdout

"""lamina export: RDB files, commands and JSON lines, whole or not there."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lamina.engine as engine
from harness.contents import contents
from harness.databases import TINY
from harness.diskdata import FAR_MS, plain_database, server_database
from harness.rdbfiles import items_of, plain
from harness.rdbvalues import collections, texts, timed_hashes
from harness.servers import StartServer
from lamina.server.encoding import RECORD, prefix_of
from lamina.server.rdb.values import Aux, DatabaseSize, Key, ListValue, Value
from lamina.server.rdbvalues import database_map, read_keys
from lamina.tools.commandwriter import CommandWriter
from lamina.tools.jsonlines import JsonLinesReader, JsonLinesWriter

Lamina = Callable[..., Any]

WITHOUT_TIMES = (("HPERSIST", "hash", "FIELDS", 1, "field 7"),)


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A database with something of everything."""
    (tmp_path / "sample").mkdir()
    return server_database(tmp_path / "sample", ("SET", b"\xff\x00 binary", b"\xfe\r\n"))


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """The same, but that no field of a hash expires."""
    (tmp_path / "older").mkdir()
    return server_database(tmp_path / "older", ("SET", b"\xff\x00 binary", b"\xfe\r\n"), *WITHOUT_TIMES)


def stored(path: Path) -> dict[tuple[int, bytes], tuple[Any, int]]:
    """Return all that a database holds."""
    with engine.open(path, read_only=True) as db:
        return {
            (number, key.key): (plain(key.value), key.expires_ms)
            for number, pdb in database_map(db.view).items()
            for key in read_keys(db.view, pdb, number)
        }


@pytest.mark.parametrize("form", ["rdb", "resp", "json"])
def test_there_and_back_again(lamina: Lamina, tmp_path: Path, sample: Path, form: str) -> None:
    expected = stored(sample)
    outcome = lamina("export", sample, tmp_path / f"out.{form}", "--json")
    assert outcome.status == 0, outcome.err
    facts = outcome.json
    assert facts["keys"] == len(expected) == sum(facts["keys_by_type"].values())
    assert facts["format"] == form
    assert facts["written_bytes"] == os.path.getsize(tmp_path / f"out.{form}")
    assert lamina("import", tmp_path / f"out.{form}", tmp_path / "again").status == 0
    assert stored(tmp_path / "again") == expected
    assert sorted(os.listdir(tmp_path)) == ["again", f"out.{form}", "sample"]


def test_a_redis_server_takes_the_commands(
    lamina: Lamina, start_redis: StartServer, tmp_path: Path, older: Path
) -> None:
    server = start_redis()
    lamina("export", older, tmp_path / "out.resp")
    with open(tmp_path / "out.resp", "rb") as file:
        program = ["redis-cli", "-p", str(server.port), "--pipe"]
        done = subprocess.run(program, stdin=file, check=True, capture_output=True)
    assert b"errors: 0" in done.stdout
    lamina("export", older, tmp_path / "out.rdb", "--rdb-version", 10)
    other = start_redis("--dbfilename", "out.rdb", "--dir", str(tmp_path))
    with server.client() as piped, other.client() as loaded:
        found = contents(piped)
        # Lists that are read in another way, and times to live but for some milliseconds, are the same.
        assert {
            number: {name: (item.type, item.value) for name, item in items.items()}
            for number, items in found.items()
        } == {
            number: {name: (item.type, item.value) for name, item in items.items()}
            for number, items in contents(loaded).items()
        }
    assert sum(map(len, found.values())) == len(stored(older))


@pytest.mark.parametrize("version", [10, 11, 12])
def test_rdb_versions(lamina: Lamina, tmp_path: Path, older: Path, version: int) -> None:
    path = tmp_path / "out.rdb"
    assert lamina("export", older, path, "--rdb-version", version, "--compress").status == 0
    data = path.read_bytes()
    assert data.startswith(b"REDIS%04d" % version)
    items = items_of(data)
    sizes = {item.database: item for item in items if isinstance(item, DatabaseSize)}
    keys = [item for item in items if isinstance(item, Key)]
    for number, size in sizes.items():
        mine = [key for key in keys if key.database == number]
        assert (size.keys, size.expiring) == (len(mine), sum(key.expires_ms > 0 for key in mine))
    assert {item.name for item in items if isinstance(item, Aux)} >= {b"redis-ver", b"lamina-ver", b"ctime"}


def test_fields_that_expire_need_version_12(lamina: Lamina, tmp_path: Path, sample: Path) -> None:
    outcome = lamina("export", sample, tmp_path / "out.rdb", "--rdb-version", 11)
    assert outcome.status == 2
    assert "only RDB files of version 12 have that" in outcome.err
    assert sorted(os.listdir(tmp_path)) == ["sample"]
    assert lamina("export", sample, tmp_path / "out.rdb", "--json").json["rdb_version"] == 12


def test_filters(lamina: Lamina, tmp_path: Path, sample: Path) -> None:
    everything = stored(sample)
    other = max(number for number, _ in everything)
    assert other
    cases: list[tuple[list[str], Callable[[int, bytes, Any], bool]]] = [
        (["--only-db", str(other)], lambda number, name, value: number == other),
        (["--prefix", "string:0"], lambda number, name, value: name.startswith(b"string:0")),
        (["--prefix", "\\xff\\x00"], lambda number, name, value: name.startswith(b"\xff\0")),
        (["--match", "*1?"], lambda number, name, value: len(name) > 1 and name[-2:-1] == b"1"),
        (["--type", "zset,list"], lambda number, name, value: value[0] in ("zset", "list")),
    ]
    for at, (options, wanted) in enumerate(cases):
        outcome = lamina("export", sample, tmp_path / f"{at}.json", "--json", *options)
        expected = {place: value for place, value in everything.items() if wanted(*place, value[0])}
        assert expected
        assert outcome.json["keys"] == len(expected)
        in_these = len(everything) if options[0] != "--only-db" else len(expected)
        assert outcome.json["filtered"] == in_these - len(expected)
        lamina("import", tmp_path / f"{at}.json", tmp_path / f"db-{at}")
        assert stored(tmp_path / f"db-{at}") == expected


def test_databases_are_mapped(lamina: Lamina, tmp_path: Path, sample: Path) -> None:
    expected = {(number or 9, name): value for (number, name), value in stored(sample).items()}
    assert lamina("export", sample, tmp_path / "out.rdb", "--map-db", "0=9").status == 0
    lamina("import", tmp_path / "out.rdb", tmp_path / "db")
    assert stored(tmp_path / "db") == expected
    outcome = lamina("export", sample, tmp_path / "out-2.rdb", "--db", 1)
    assert outcome.status == 2
    assert "two databases would become one" in outcome.err


def test_what_has_expired_is_left_out(lamina: Lamina, tmp_path: Path) -> None:
    lines = b'{"key":"k","type":"string","value":"x","expires_ms":1}\n{"key":"l","type":"string","value":"y"}'
    (tmp_path / "lines.json").write_bytes(lines)
    lamina("import", tmp_path / "lines.json", tmp_path / "db", "--keep-expired")
    outcome = lamina("export", tmp_path / "db", tmp_path / "out.json", "--json")
    assert (outcome.json["keys"], outcome.json["expired"]) == (1, 1)
    outcome = lamina("export", tmp_path / "db", tmp_path / "all.json", "--json", "--keep-expired")
    assert (outcome.json["keys"], outcome.json["expired"]) == (2, 0)


def test_large_collections_take_several_lines_and_commands(lamina: Lamina, tmp_path: Path) -> None:
    members = [f"member {number}" for number in range(20_000)]
    line = {"key": "s", "type": "set", "value": members, "expires_ms": FAR_MS}
    (tmp_path / "lines.json").write_text(json.dumps(line))
    lamina("import", tmp_path / "lines.json", tmp_path / "db")
    lamina("export", tmp_path / "db", tmp_path / "out.json")
    found = [json.loads(text) for text in (tmp_path / "out.json").read_text().splitlines()]
    assert len(found) > 20
    assert [facts.get("more", False) for facts in found[1:-1]] == [True] * (len(found) - 3) + [False]
    assert max(len(facts.get("value", ())) for facts in found) <= 1000
    lamina("export", tmp_path / "db", tmp_path / "out.resp")
    assert (tmp_path / "out.resp").read_bytes().count(b"SADD") > 50
    for name in ("out.json", "out.resp"):
        lamina("import", tmp_path / name, tmp_path / f"db {name}")
        assert stored(tmp_path / f"db {name}") == stored(tmp_path / "db")


# -- where it goes -----------------------------------------------------------------------------------


def test_a_file_that_is_there_is_not_replaced(lamina: Lamina, tmp_path: Path, sample: Path) -> None:
    path = tmp_path / "out.rdb"
    path.write_bytes(b"precious")
    outcome = lamina("export", sample, path)
    assert outcome.status == 2
    assert "--force replaces it" in outcome.err
    assert path.read_bytes() == b"precious"
    (tmp_path / "out.rdb.tmp").write_bytes(b"remains of an attempt")
    assert lamina("export", sample, path, "--force").status == 0
    assert path.read_bytes().startswith(b"REDIS")
    assert sorted(os.listdir(tmp_path)) == ["out.rdb", "sample"]


def test_standard_output(tmp_path: Path, sample: Path) -> None:
    program = [sys.executable, "-m", "lamina.tools", "export"]
    for form in ("rdb", "resp", "json"):
        done = subprocess.run([*program, sample, "--format", form], check=True, capture_output=True)
        assert done.stderr == b""
        again = [sys.executable, "-m", "lamina.tools", "import", "-", str(tmp_path / form)]
        subprocess.run(again, input=done.stdout, check=True, capture_output=True)
        assert stored(tmp_path / form) == stored(sample)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-", "--json"], "name a FILE"),
        (["x.json", "--rdb-version", "10"], "are for RDB files"),
        (["x.resp", "--compress"], "are for RDB files"),
        (["x.rdb", "--rdb-version", "9"], "invalid choice"),
    ],
)
def test_options_without_sense(lamina: Lamina, sample: Path, options: list[str], said: str) -> None:
    outcome = lamina("export", sample, *options)
    assert outcome.status == 2
    assert said in outcome.err


def test_a_database_in_use_is_refused(lamina: Lamina, tmp_path: Path, sample: Path) -> None:
    with engine.open(sample):
        outcome = lamina("export", sample, tmp_path / "out.rdb")
    assert outcome.status == 2
    assert "stop it, or use BGSAVE" in outcome.err
    assert sorted(os.listdir(tmp_path)) == ["sample"]


def test_a_database_that_is_not_a_servers_is_refused(lamina: Lamina, tmp_path: Path) -> None:
    outcome = lamina("export", plain_database(tmp_path / "plain"), tmp_path / "out.rdb")
    assert outcome.status == 2
    assert "no server has written this database" in outcome.err


def test_a_broken_record_is_named_and_no_file_is_left(lamina: Lamina, tmp_path: Path, sample: Path) -> None:
    with engine.open(sample, **TINY) as db:
        db.put(prefix_of(1, RECORD) + b"string:100", b"\x03broken")
    outcome = lamina("export", sample, tmp_path / "out.rdb")
    assert outcome.status == 2
    assert "key b'string:100'" in outcome.err
    assert "lamina check --logical" in outcome.err
    assert sorted(os.listdir(tmp_path)) == ["sample"]


# -- forms ---------------------------------------------------------------------------------------------

drawn_keys = st.dictionaries(
    texts, st.tuples(st.one_of(collections(), timed_hashes()), st.just(0) | st.integers(1, 1 << 62))
)


@given(drawn_keys, st.integers(0, 15))
@settings(max_examples=60)
def test_json_lines_lose_nothing(drawn: dict[bytes, tuple[Value, int]], number: int) -> None:
    pieces: list[bytes] = []
    writer = JsonLinesWriter(pieces.append)
    for name, (value, expires_ms) in drawn.items():
        writer.write_key(number, name, value, expires_ms)
    writer.finish()
    data = b"".join(pieces)
    assert data.isascii()
    reader = JsonLinesReader(io.BytesIO(data).readline)
    found = [key._replace(value=plain(key.value)) for key in reader]
    assert found == [Key(number, name, plain(value), ms) for name, (value, ms) in drawn.items()]
    assert reader.position == len(data)


def test_json_lines_are_stepped_over() -> None:
    pieces: list[bytes] = []
    writer = JsonLinesWriter(pieces.append)
    value = [b"%d" % number for number in range(5000)]
    writer.write_key(0, b"long", ListValue([value]))
    writer.write_key(0, b"short", b"x")
    writer.finish()
    reader = JsonLinesReader(io.BytesIO(b"".join(pieces)).readline)
    assert [key.key for key in reader] == [b"long", b"short"]


def test_commands_have_a_handy_size() -> None:
    pieces: list[bytes] = []
    writer = CommandWriter(pieces.append)
    writer.write_key(0, b"l", ListValue([[b"x" * 100_000] * 7 + [b"y"] * 1000]))
    writer.finish()
    sizes = [len(piece) for piece in b"".join(pieces).split(b"*")[1:]]
    assert writer.commands == len(sizes)
    assert max(sizes) < 500_000

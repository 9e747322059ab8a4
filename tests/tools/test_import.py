"""lamina import: Redis's files, commands and JSON lines into new databases and into those that are there."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lamina.engine as engine
from harness import rdbdata
from harness.contents import contents, problems_of
from harness.diskdata import FAR_MS, plain_database, server_database
from harness.rdbfiles import key, length, plain, rdb, string, without_seen_times
from harness.resp import RespClient, encode
from harness.servers import Server, StartServer
from lamina.engine.check import check_directory
from lamina.engine.filesystem import DiskFileSystem
from lamina.server.rdbvalues import database_map, read_keys
from lamina.tools.logical import check_logical

Lamina = Callable[..., Any]
Contents = dict[tuple[int, bytes], tuple[Any, int]]

SELECT_1 = b"\xfe" + length(1)
STRING, LIST, SET, STREAM = 0, 1, 2, 15


def stored(path: Path) -> Contents:
    """Return all that a database holds, which must be sound: {(database, key): (value, time of expiry)}."""
    findings = check_directory(str(path), DiskFileSystem())
    assert [finding for finding in findings if finding.severity == "error"] == []
    with engine.open(path, read_only=True) as db:
        assert check_logical(db) == []
        return {
            (number, key.key): (plain(key.value), key.expires_ms)
            for number, pdb in database_map(db.view).items()
            for key in read_keys(db.view, pdb, number)
        }


def strings(**values: str) -> Contents:
    """Return strings of database 0."""
    return {(0, name.encode()): (value.encode(), 0) for name, value in values.items()}


def folder_in(folder: Path, name: str) -> Path:
    """Return a new folder."""
    (folder / name).mkdir()
    return folder / name


def write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def commands(*lines: str) -> bytes:
    """Return commands as clients send them."""
    return b"".join(encode(line.split()) for line in lines)


def left_over(folder: Path) -> list[str]:
    """Return what is in a folder beside what the test has put there."""
    return sorted(name for name in os.listdir(folder) if name.startswith("db"))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A file with something of everything."""
    return write(
        tmp_path,
        "small.rdb",
        rdb(
            10,
            key(b"text", STRING, string(b"hello")),
            key(b"user:1", LIST, length(2), string(b"a"), string(b"b")),
            key(b"user:2", SET, length(2), string(b"a"), string(b"b")),
            key(b"gone", STRING, string(b"x"), before=b"\xfc" + (1000).to_bytes(8, "little")),
            key(b"later", STRING, string(b"x"), before=b"\xfc" + FAR_MS.to_bytes(8, "little")),
            SELECT_1,
            key(b"elsewhere", STRING, string(b"in 1")),
        ),
    )


SMALL: Contents = {
    (0, b"text"): (b"hello", 0),
    (0, b"user:1"): (("list", [b"a", b"b"]), 0),
    (0, b"user:2"): (("set", frozenset((b"a", b"b"))), 0),
    (0, b"later"): (b"x", FAR_MS),
    (1, b"elsewhere"): (b"in 1", 0),
}


# -- files of a real redis-server --------------------------------------------------------------------


def is_stream(value: Any) -> bool:
    return isinstance(value, tuple) and value[0] == "stream"


def loaded(start_redis: StartServer, file: Path) -> dict[int, Any]:
    """Return what a redis-server holds that has loaded a file."""
    server = start_redis("--dbfilename", file.name, "--dir", str(file.parent))
    with server.client() as client:
        found = contents(client)
    server.kill()
    return found


@pytest.mark.parametrize("name", list(rdbdata.LIMITS))
def test_there_and_back_again(lamina: Lamina, start_redis: StartServer, tmp_path: Path, name: str) -> None:
    """From a redis-server into a database, and from there into another redis-server."""
    first = start_redis()
    with first.client() as client:
        rdbdata.configure(client, rdbdata.LIMITS[name])
        rdbdata.fill(client)
        expected = contents(client)
        client.ok("SAVE")
    outcome = lamina("import", first.data / "dump.rdb", tmp_path / "db", "--json")
    assert outcome.status == 0, outcome.err
    assert outcome.json["keys"] == sum(map(len, expected.values()))
    stored(tmp_path / "db")
    for number, form in enumerate(("rdb", "resp", "json")):
        file = tmp_path / f"out.{form}"
        assert lamina("export", tmp_path / "db", file, *(["--rdb-version", 10] * (form == "rdb"))).status == 0
        again = tmp_path / f"again-{number}.rdb"
        if form != "rdb":
            assert lamina("import", file, tmp_path / f"db-{form}").status == 0
            found = stored(tmp_path / f"db-{form}")
            if form == "resp":  # which says less of streams: test_streams.py
                found = {name: stored_as for name, stored_as in found.items() if not is_stream(stored_as[0])}
                assert found.items() <= stored(tmp_path / "db").items()
                continue
            assert found == stored(tmp_path / "db")
            lamina("export", tmp_path / f"db-{form}", again, "--rdb-version", 10)
        else:
            file.rename(again)
        assert not problems_of(expected, loaded(start_redis, again))


def change(client: RespClient, turn: int) -> None:
    """Make all kinds of entries in an append-only file."""
    client.ok("SET", f"string {turn}", "x" * 100)
    client.ok("APPEND", "appended", f"{turn} ")
    client.ok("INCRBYFLOAT", "float", "0.1")
    client.ok("RPUSH", "list", *range(turn, turn + 5))
    client.ok("LPOP", "list")
    client.ok("HSET", "hash", f"field {turn}", turn, "same", turn)
    client.ok("ZINCRBY", "zset", 1.5, f"member {turn % 3}")
    client.ok("SADD", "set", turn, f"member {turn}")
    client.ok("SPOP", "set")
    client.ok("SET", f"short {turn}", "x", "PX", 1)
    client.ok("SET", f"long {turn}", "x", "EX", 10_000)
    client.ok("EXPIRE", "hash", 5000 + turn)
    client.pipeline([("MULTI",), ("SELECT", 2), ("SET", f"in 2: {turn}", "x"), ("SELECT", 0), ("EXEC",)])
    client.ok("RENAME", f"string {turn}", f"renamed {turn}")


@pytest.mark.parametrize("preamble", ["yes", "no"])
@pytest.mark.parametrize("rewritten", [True, False])
def test_an_append_only_file_in_parts(
    lamina: Lamina, start_redis: StartServer, tmp_path: Path, preamble: str, rewritten: bool
) -> None:
    server = start_redis("--appendonly", "yes", "--aof-use-rdb-preamble", preamble)
    with server.client() as client:
        rdbdata.fill(client)
        for turn in range(20):
            change(client, turn)
        if rewritten:
            client.ok("BGREWRITEAOF")
            while b"aof_rewrite_in_progress:1" in client.ok("INFO", "persistence"):
                time.sleep(0.05)
            for turn in range(20, 40):
                change(client, turn)
        time.sleep(0.01)
        client.ok("DEBUG", "LOADAOF")  # not all that streams know is in the file
        expected = contents(client)
    server.stop()
    folder = server.data / "appendonlydir"
    outcome = lamina("import", folder, tmp_path / "db", "--json")
    assert outcome.status == 0, outcome.err
    assert outcome.json["unsupported"] == {}
    assert outcome.json["failed_commands"] == 0
    assert lamina("export", tmp_path / "db", tmp_path / "out.rdb", "--rdb-version", 10).status == 0
    assert not problems_of(expected, loaded(start_redis, tmp_path / "out.rdb"))
    # The same as one file, as Redis wrote it before version 7; with a filter, what is wanted comes out of it.
    parts = sorted(folder.glob("*.base.*")) + sorted(folder.glob("*.incr.aof"))
    whole = write(tmp_path, "appendonly.aof", b"".join(part.read_bytes() for part in parts))
    assert lamina("import", whole, tmp_path / "db-2").status in (0, 1)
    assert without_seen_times(stored(tmp_path / "db-2")) == without_seen_times(stored(tmp_path / "db"))
    lamina("import", whole, tmp_path / "db-3", "--only-db", 2, "--map-db", "2=5")
    expected_2 = {
        (5, name): value for (number, name), value in stored(tmp_path / "db").items() if number == 2
    }
    assert stored(tmp_path / "db-3") == expected_2 != {}


# -- which keys --------------------------------------------------------------------------------------


def test_a_small_file(lamina: Lamina, tmp_path: Path, small: Path) -> None:
    outcome = lamina("import", small, tmp_path / "db")
    assert outcome.status == 0
    assert outcome.out.startswith("5 keys imported: 1 list, 1 set, 3 string\n1 expired\n")
    assert stored(tmp_path / "db") == SMALL
    assert left_over(tmp_path) == ["db"]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--only-db", "0"], lambda number, name: number == 0),
        (["--only-db", "1,7"], lambda number, name: number == 1),
        (["--prefix", "user:"], lambda number, name: name.startswith(b"user:")),
        (["--match", "*e?*"], lambda number, name: b"e" in name[:-1]),
        (["--type", "list,set"], lambda number, name: name.startswith(b"user:")),
        (["--type", "hash"], lambda number, name: False),
        (["--prefix", "user:", "--type", "set"], lambda number, name: name == b"user:2"),
    ],
)
def test_filters(
    lamina: Lamina, tmp_path: Path, small: Path, options: list[str], wanted: Callable[[int, bytes], bool]
) -> None:
    outcome = lamina("import", small, tmp_path / "db", *options, "--json")
    expected = {place: value for place, value in SMALL.items() if wanted(*place)}
    assert outcome.json["keys"] == len(expected)
    assert outcome.json["filtered"] + outcome.json["expired"] == 6 - len(expected)
    assert stored(tmp_path / "db") == expected


def test_databases_are_mapped(lamina: Lamina, tmp_path: Path, small: Path) -> None:
    assert lamina("import", small, tmp_path / "db", "--map-db", "0=3,1=0").status == 0
    numbers = {0: 3, 1: 0}
    assert stored(tmp_path / "db") == {
        (numbers[number], name): value for (number, name), value in SMALL.items()
    }
    assert lamina("import", small, tmp_path / "db-7", "--db", 7).status == 0
    assert stored(tmp_path / "db-7") == {(7, name): value for (_, name), value in SMALL.items()}


def test_databases_with_high_numbers(lamina: Lamina, tmp_path: Path) -> None:
    select = b"\xfe" + length(20_000) + key(b"high", STRING, string(b"x"))
    file = write(tmp_path, "high.rdb", rdb(10, select))
    assert lamina("import", file, tmp_path / "db").status == 0
    assert stored(tmp_path / "db") == {(20_000, b"high"): (b"x", 0)}
    outcome = lamina("import", file, tmp_path / "db", "--on-conflict", "replace")
    assert outcome.status == 2
    assert "database 20000 is above 16383" in outcome.err
    assert lamina("import", file, tmp_path / "db", "--map-db", "20000=1").status == 0
    assert len(stored(tmp_path / "db")) == 2
    select = b"\xfe" + length(1 << 21) + key(b"high", STRING, string(b"x"))
    outcome = lamina("import", write(tmp_path, "high.rdb", rdb(10, select)), tmp_path / "db-2")
    assert outcome.status == 2
    assert "--map-db" in outcome.err


def test_what_has_expired_is_kept_if_asked(lamina: Lamina, tmp_path: Path, small: Path) -> None:
    outcome = lamina("import", small, tmp_path / "db", "--keep-expired", "--json")
    assert outcome.json["expired"] == 0
    assert stored(tmp_path / "db") == SMALL | {(0, b"gone"): (b"x", 1000)}


def test_fields_that_have_expired_are_left_out(lamina: Lamina, tmp_path: Path) -> None:
    lines = [
        {"key": "h", "type": "hash", "value": [["a", "1", 1000], ["b", "2", FAR_MS], ["c", "3"]]},
        {"key": "gone", "type": "hash", "value": [["a", "1", 1000]]},
    ]
    file = write(tmp_path, "lines.json", b"\n".join(json.dumps(line).encode() for line in lines))
    outcome = lamina("import", file, tmp_path / "db", "--json")
    assert (outcome.json["keys"], outcome.json["expired"]) == (1, 1)
    assert stored(tmp_path / "db") == {
        (0, b"h"): (("timed hash", {b"b": (b"2", FAR_MS), b"c": (b"3", 0)}), 0)
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--type", "tree"], "the types are"),
        (["--map-db", "3"], "write it as 0=3"),
        (["--db", "0", "--map-db", "0=1"], "give one of them"),
        (["--only-db", "x"], "is no database"),
        (["--db", "9999999"], "is no database"),
        (["--jobs", "0"], "--jobs"),
    ],
)
def test_options_without_sense(
    lamina: Lamina, tmp_path: Path, small: Path, options: list[str], said: str
) -> None:
    outcome = lamina("import", small, tmp_path / "db", *options)
    assert outcome.status == 2
    assert said in outcome.err
    assert left_over(tmp_path) == []


# -- into a database that is there -------------------------------------------------------------------


def test_a_conflict_changes_nothing(lamina: Lamina, tmp_path: Path, small: Path) -> None:
    path = server_database(folder_in(tmp_path, "old"), ("SET", "later", "mine"))
    before = stored(path)
    outcome = lamina("import", small, path)
    assert outcome.status == 2
    assert "the key 'later' is there already in database 0, and nothing was changed" in outcome.err
    assert stored(path) == before
    assert sorted(os.listdir(tmp_path / "old")) == ["lamina"]


@pytest.mark.parametrize("policy", ["keep", "replace", "error"])
def test_policies(lamina: Lamina, tmp_path: Path, small: Path, policy: str) -> None:
    mine = (
        () if policy == "error" else (("HSET", "user:1", "mine", 1), ("SET", "text", "mine", "PXAT", FAR_MS))
    )
    path = server_database(folder_in(tmp_path, "old"), *mine)
    before = stored(path)
    outcome = lamina("import", small, path, "--on-conflict", policy, "--json")
    assert outcome.status == 0, outcome.err
    conflicts = len(mine)
    assert outcome.json["keys"] == len(SMALL) - (conflicts if policy == "keep" else 0)
    assert outcome.json["kept" if policy == "keep" else "replaced"] == conflicts
    assert stored(path) == (SMALL | before if policy == "keep" else before | SMALL)


def test_large_collections_into_a_database_that_is_there(lamina: Lamina, tmp_path: Path) -> None:
    path = server_database(folder_in(tmp_path, "old"), ("SADD", "members", *range(3000)))
    members = [f"member {number}" for number in range(50_000)]
    line = {"key": "members", "type": "set", "value": members}
    large = {"key": "large", "type": "string", "value": "x" * 200_000}
    file = write(tmp_path, "lines.json", b"\n".join(json.dumps(item).encode() for item in (line, large)))
    before = stored(path)
    assert lamina("import", file, path, "--on-conflict", "replace").status == 0
    members_then = frozenset(member.encode() for member in members)
    expected = {(0, b"members"): (("set", members_then), 0), (0, b"large"): (b"x" * 200_000, 0)}
    assert stored(path) == before | expected


def test_what_has_expired_there_is_no_conflict(lamina: Lamina, tmp_path: Path, small: Path) -> None:
    assert lamina("import", small, tmp_path / "db", "--keep-expired").status == 0
    file = write(tmp_path, "more.resp", b"SET gone back\n")
    assert lamina("import", file, tmp_path / "db").status == 0
    assert stored(tmp_path / "db") == SMALL | strings(gone="back")


def test_a_database_that_is_not_a_servers_is_refused(lamina: Lamina, tmp_path: Path, small: Path) -> None:
    path = plain_database(tmp_path / "plain")
    outcome = lamina("import", small, path)
    assert outcome.status == 2
    assert "no server has written this database" in outcome.err


def test_a_database_in_use_is_refused(lamina: Lamina, tmp_path: Path, small: Path) -> None:
    path = server_database(folder_in(tmp_path, "old"))
    with engine.open(path):
        outcome = lamina("import", small, path)
    assert outcome.status == 2
    assert "stop it, or use BGSAVE" in outcome.err


def test_other_files_are_in_the_way(lamina: Lamina, tmp_path: Path, small: Path) -> None:
    (tmp_path / "db").mkdir()
    write(tmp_path / "db", "holiday.jpg", b"")
    outcome = lamina("import", small, tmp_path / "db")
    assert outcome.status == 2
    assert "no database here" in outcome.err
    (tmp_path / "db2.partial").mkdir()
    write(tmp_path / "db2.partial", "holiday.jpg", b"")
    outcome = lamina("import", small, tmp_path / "db2")
    assert outcome.status == 2
    assert "holiday.jpg is in the way" in outcome.err
    assert sorted(os.listdir(tmp_path / "db2.partial")) == ["holiday.jpg"]


def test_an_empty_folder_and_remains_of_an_attempt(lamina: Lamina, tmp_path: Path, small: Path) -> None:
    (tmp_path / "db").mkdir()
    (tmp_path / "db.partial").mkdir()
    write(tmp_path / "db.partial", "000007.seg.tmp", b"remains")
    assert lamina("import", small, tmp_path / "db").status == 0
    assert stored(tmp_path / "db") == SMALL
    assert left_over(tmp_path) == ["db"]


# -- commands ----------------------------------------------------------------------------------------


def test_commands_as_one_types_them(lamina: Lamina, tmp_path: Path) -> None:
    text = (
        b'# a remark\r\nSET a 1\n\nincr a\r\nSET "b c" "x\\x00y"\nSELECT 2\nRPUSH l 1 2\nGET a\nSET last line'
    )
    file = write(tmp_path, "commands.txt", text)
    outcome = lamina("import", file, tmp_path / "db", "--json", "--memory", 1)
    assert outcome.status == 0, outcome.err
    assert outcome.json["commands"] == 7
    assert stored(tmp_path / "db") == {
        (0, b"a"): (b"2", 0),
        (0, b"b c"): (b"x\x00y", 0),
        (2, b"l"): (("list", [b"1", b"2"]), 0),
        (2, b"last"): (b"line", 0),
    }


def test_commands_that_fail(lamina: Lamina, tmp_path: Path) -> None:
    data = commands("SET a x", "INCR a", "NONSENSE 1", "SHUTDOWN NOSAVE", "BLPOP nothing 0", "SET b y")
    file = write(tmp_path, "commands.resp", data)
    outcome = lamina("import", file, tmp_path / "db")
    assert outcome.status == 2
    assert "offset 27: the command 'INCR a' has failed: ERR value is not an integer" in outcome.err
    assert left_over(tmp_path) == []
    outcome = lamina("import", file, tmp_path / "db", "--skip-errors", "--json")
    assert outcome.status == 1
    assert outcome.json["failed_commands"] == 3
    assert "unknown command 'NONSENSE'" in outcome.err
    assert "'SHUTDOWN NOSAVE' has failed: it is none that reads or writes keys" in outcome.err
    assert stored(tmp_path / "db") == strings(a="x", b="y")


def test_errors_inside_a_transaction_are_seen(lamina: Lamina, tmp_path: Path) -> None:
    file = write(tmp_path, "x.resp", commands("MULTI", "SET a x", "INCR a", "EXEC"))
    outcome = lamina("import", file, tmp_path / "db")
    assert outcome.status == 2
    assert "not an integer" in outcome.err


def test_replies_may_be_large(lamina: Lamina, tmp_path: Path) -> None:
    lines = ["SET a " + "x" * 100_000, *["GET a"] * 50, "SET b y"]
    file = write(tmp_path, "x.resp", commands(*lines))
    assert lamina("import", file, tmp_path / "db").status == 0
    assert stored(tmp_path / "db") == strings(a="x" * 100_000, b="y")


def test_time_stands_still_in_an_append_only_file(lamina: Lamina, tmp_path: Path) -> None:
    """What has expired since must not have been so for the commands that came before it did."""
    data = commands("SET a 1 PXAT 1000", "APPEND a 2", "PERSIST a", "SET b 1 PXAT 1000", "APPEND b 2")
    file = write(tmp_path, "x.aof", b"#TS:1700000000\r\n" + data)
    outcome = lamina("import", file, tmp_path / "db", "--json")
    assert outcome.json["expired"] == 1
    assert stored(tmp_path / "db") == strings(a="12")
    lamina("import", file, tmp_path / "db-2", "--keep-expired")
    assert stored(tmp_path / "db-2") == strings(a="12") | {(0, b"b"): (b"12", 1000)}


def test_standard_input(tmp_path: Path, small: Path) -> None:
    program = [sys.executable, "-m", "lamina.tools", "import", "-"]
    with open(small, "rb") as file:
        subprocess.run([*program, tmp_path / "db"], stdin=file, check=True, stdout=subprocess.DEVNULL)
    assert stored(tmp_path / "db") == SMALL
    subprocess.run([*program, tmp_path / "db-2"], input=commands("SET a 1"), check=True)
    assert stored(tmp_path / "db-2") == strings(a="1")


# -- files that are damaged --------------------------------------------------------------------------


@pytest.mark.parametrize("existing", [False, True])
def test_truncated_rdb_files(lamina: Lamina, tmp_path: Path, small: Path, existing: bool) -> None:
    path = server_database(folder_in(tmp_path, "old")) if existing else tmp_path / "db"
    before = stored(path) if existing else {}
    data = small.read_bytes()
    for size in range(0, len(data), 1 if not existing else 40):
        outcome = lamina("import", write(tmp_path, "cut.rdb", data[:size]), path, "--format", "rdb")
        assert outcome.status == 2
        assert "cut.rdb: offset" in outcome.err
        assert left_over(tmp_path) == []
    if existing:
        assert stored(path) == before


def test_flipped_rdb_files(lamina: Lamina, tmp_path: Path, small: Path) -> None:
    data = small.read_bytes()
    for offset in range(0, len(data), 3):
        flipped = bytearray(data)
        flipped[offset] ^= 0x55
        outcome = lamina("import", write(tmp_path, "flipped.rdb", bytes(flipped)), tmp_path / "db")
        assert outcome.status == 2
        assert "Traceback" not in outcome.err
        assert left_over(tmp_path) == []


def test_keys_and_elements_that_come_twice(lamina: Lamina, tmp_path: Path) -> None:
    members = [string(b"%d" % number) for number in range(9000)]
    twice = [*members, string(b"17")]
    data = rdb(10, key(b"s", SET, length(len(twice)), *twice))
    outcome = lamina("import", write(tmp_path, "twice.rdb", data), tmp_path / "db", "--memory", 1)
    assert outcome.status == 2
    assert "the element '17' comes twice in a collection" in outcome.err
    data = rdb(10, key(b"k", STRING, string(b"1")), key(b"k", STRING, string(b"2")))
    outcome = lamina("import", write(tmp_path, "twice.rdb", data), tmp_path / "db")
    assert outcome.status == 2
    assert "the key 'k' comes twice in database 0" in outcome.err
    assert left_over(tmp_path) == []


def test_truncated_commands(lamina: Lamina, tmp_path: Path) -> None:
    whole = commands("SET a 1", "SET b 2")
    data = whole + commands("SET c 3")
    for size in range(len(whole) + 1, len(data)):
        file = write(tmp_path, "cut.aof", data[:size])
        outcome = lamina("import", file, tmp_path / "db")
        assert outcome.status == 2
        assert f"offset {len(whole)}: the file ends in a command: --allow-truncated" in outcome.err
        assert left_over(tmp_path) == []
    outcome = lamina("import", file, tmp_path / "db", "--allow-truncated", "--json")
    assert outcome.status == 0
    assert outcome.json["truncated_bytes"] == len(data) - 1 - len(whole)
    assert stored(tmp_path / "db") == strings(a="1", b="2")


def test_a_transaction_without_its_end(lamina: Lamina, tmp_path: Path) -> None:
    whole = commands("SET a 1")
    file = write(tmp_path, "cut.aof", whole + commands("MULTI", "SET b 2"))
    outcome = lamina("import", file, tmp_path / "db")
    assert outcome.status == 2
    assert f"offset {len(whole)}: the file ends in a transaction" in outcome.err
    outcome = lamina("import", file, tmp_path / "db", "--allow-truncated", "--json")
    assert outcome.json["truncated_bytes"] == file.stat().st_size - len(whole)
    assert stored(tmp_path / "db") == strings(a="1")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (b"*1\r\n$4\r\nPINGxx", "no end of line behind an argument"),
        (b"*x\r\n", "a command of b'x' arguments"),
        (b"*2\r\n:1\r\n", "where the length of an argument is"),
        (b"*1\r\n$99999999999\r\n", "is too long"),
        (b"GET a\r\n", "where a command begins"),
        (b"\x00" * 100, "where a command begins"),
        (b"*" + b"1" * 40, "no length in"),
    ],
)
def test_damaged_commands(lamina: Lamina, tmp_path: Path, damage: bytes, said: str) -> None:
    before = commands("SET a 1")
    file = write(tmp_path, "bad.aof", before + damage + commands("SET b 2"))
    outcome = lamina("import", file, tmp_path / "db", "--allow-truncated")
    assert outcome.status == 2
    assert said in outcome.err
    assert left_over(tmp_path) == []


def test_only_the_last_part_may_be_truncated(lamina: Lamina, tmp_path: Path) -> None:
    folder = tmp_path / "appendonlydir"
    folder.mkdir()
    write(folder, "a.1.incr.aof", commands("SET a 1") + b"*1\r\n")
    write(folder, "a.2.incr.aof", commands("SET b 2") + b"*1\r\n")
    manifest = b"file a.1.incr.aof seq 1 type i\nfile a.2.incr.aof seq 2 type i\nfile old.aof seq 1 type h\n"
    write(folder, "a.manifest", manifest)
    outcome = lamina("import", folder, tmp_path / "db", "--allow-truncated")
    assert outcome.status == 2
    assert "a.1.incr.aof: offset 27: the file ends in a command\n" in outcome.err
    write(folder, "a.1.incr.aof", commands("SET a 1"))
    assert lamina("import", folder / "a.manifest", tmp_path / "db", "--allow-truncated").status == 0
    assert stored(tmp_path / "db") == strings(a="1", b="2")


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (b"", "no files are named"),
        (b"file a seq 1\n", "line 1 names no file"),
        (b"file ../a seq 1 type i\n", "line 1 names no file"),
        (b"file a seq 1 type b\nfile b seq 1 type b\n", "2 base files"),
        (b"file a seq 2 type i\nfile b seq 1 type i\n", "not in order"),
        (b"file a seq 1 type i\n", "No such file"),
    ],
)
def test_damaged_manifests(lamina: Lamina, tmp_path: Path, manifest: bytes, said: str) -> None:
    folder = tmp_path / "appendonlydir"
    folder.mkdir()
    write(folder, "x.manifest", manifest)
    outcome = lamina("import", folder, tmp_path / "db")
    assert outcome.status == 2
    assert said in outcome.err
    assert left_over(tmp_path) == []


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('{"key":"k"}', "line 1: the type None"),
        ("[1]", "no JSON object"),
        ('{"key":"k","type":"string","value":"a"', "no JSON: "),
        ('{"key":1,"type":"string","value":"a"}', "a key is a string"),
        ('{"key":{"base64":"*"},"type":"string","value":"a"}', "a key is a string"),
        ('{"key":"\\ud800","type":"string","value":"a"}', "a lone surrogate"),
        ('{"key":"k","type":"string","value":1}', "a value is a string"),
        ('{"key":"k","type":"list","value":"a"}', "the value of a list is a list"),
        ('{"key":"k","type":"zset","value":[["a","b"]]}', "a member and a score"),
        ('{"key":"k","type":"zset","value":[["a",NaN]]}', "a member and a score"),
        ('{"key":"k","type":"hash","value":[["a"]]}', "a field, a value"),
        ('{"key":"k","type":"hash","value":[["a","b",-1]]}', "a field, a value"),
        ('{"key":"k","type":"string","value":"a","db":-1}', "db -1 is no database"),
        ('{"key":"k","type":"string","value":"a","expires_ms":true}', "expires_ms True is no time"),
        ('{"key":"k","type":"list","value":["a"],"more":true}', "more of a key was to come"),
        (
            '{"key":"k","type":"list","value":["a"],"more":true}\n{"key":"l","type":"list","value":[]}',
            "more of",
        ),
        ('{"lamina":"keys","version":1}\n{"key":"k","type":"string","value":"a"}', "ends too early"),
        ('{"lamina":"keys","version":2}', "version 2; version 1 is read"),
        ('{"lamina":"keys","version":1}\n{"end":true,"keys":1,"crc32c":"0"}', "0 keys have come of 1"),
        ('{"lamina":"keys","version":1}\n{"end":true,"keys":0,"crc32c":"0"}', "checksum"),
        ("[" * 100_000, "no JSON: "),
    ],
)
def test_damaged_json_lines(lamina: Lamina, tmp_path: Path, lines: str, said: str) -> None:
    outcome = lamina("import", write(tmp_path, "x.json", lines.encode()), tmp_path / "db", "--format", "json")
    assert outcome.status == 2
    assert said in outcome.err
    assert left_over(tmp_path) == []


# -- kill -9 -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A file that takes a second."""
    count = 60_000
    folder = tmp_path_factory.mktemp("large")
    keys = (key(b"key %d" % number, STRING, string(b"value %d" % number)) for number in range(count))
    return write(folder, "large.rdb", rdb(10, *keys)), count


@pytest.mark.parametrize("attempt", range(5))
def test_kill_9(tmp_path: Path, large: tuple[Path, int], attempt: int) -> None:
    file, count = large
    program: list[str | Path] = [sys.executable, "-m", "lamina.tools", "import", "--memory", "2"]
    program += [file, tmp_path / "db"]
    process = subprocess.Popen(program, stdout=subprocess.DEVNULL)
    while not (tmp_path / "db.partial").exists() and process.poll() is None:
        time.sleep(0.005)
    time.sleep(random.Random(attempt).uniform(0, 1.2))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    if (tmp_path / "db").exists():
        assert len(stored(tmp_path / "db")) == count
    else:
        subprocess.run(program, check=True, stdout=subprocess.DEVNULL)
        assert len(stored(tmp_path / "db")) == count
        assert left_over(tmp_path) == ["db"]


def test_a_server_serves_what_was_imported(
    lamina: Lamina, start_lamina: StartServer, tmp_path: Path, small: Path
) -> None:
    server: Server = start_lamina()
    server.stop()
    database = server.data / "lamina"
    assert lamina("import", small, database, "--on-conflict", "replace").status == 0
    server.start()
    with server.client() as client:
        assert client.ok("GET", "text") == b"hello"
        assert client.ok("SADD", "user:2", "c", "a") == 1
        assert client.ok("RPUSH", "new", "x") == 1
        assert client.ok("LRANGE", "user:1", 0, -1) == [b"a", b"b"]
    assert server.stop() == 0
    assert lamina("check", "--logical", database).status == 0

"""Streams in the offline tools: shown, counted, found, written out and read in, whatever the form."""

from __future__ import annotations

import io
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

import lamina.engine as engine
from harness import rdbdata
from harness.contents import contents, problems_of
from harness.diskdata import server_database
from harness.rdbfiles import plain, without_seen_times
from harness.rdbvalues import streams
from harness.resp import RespClient
from harness.servers import StartServer
from lamina.server.encoding import ELEMENT, RECORD, U32, U64, prefix_of
from lamina.server.rdb.values import (
    Pending,
    StreamConsumer,
    StreamEntry,
    StreamGroup,
    StreamState,
    StreamValue,
)
from lamina.server.rdbvalues import database_map, read_keys
from lamina.server.types.streamgroups import DATA
from lamina.server.types.streamids import pack
from lamina.tools import jsonstreams
from lamina.tools.jsonlines import JsonLinesError, JsonLinesReader, JsonLinesWriter
from lamina.tools.logical import check_logical
from lamina.tools.rediskeys import Numbers, Owners, decode, place_of
from lamina.tools.redisview import RedisView

Lamina = Callable[..., Any]

NOW_MS = 1_700_000_000_000
"""When the sample is made: the clock of the server stands still."""

COMMANDS: tuple[tuple[Any, ...], ...] = (
    *(("XADD", "log", f"{n}-0", "field", n, b"\xff", "") for n in range(1, 31)),
    ("XDEL", "log", "2-0", "30-0"),
    ("XTRIM", "log", "MAXLEN", 25),
    ("XGROUP", "CREATE", "log", "readers", 0),
    ("XGROUP", "CREATE", "log", "idle", "$", "ENTRIESREAD", 7),
    ("XREADGROUP", "GROUP", "readers", "ann", "COUNT", 4, "STREAMS", "log", ">"),
    ("XREADGROUP", "GROUP", "readers", "bob", "COUNT", 6, "STREAMS", "log", ">"),
    ("XCLAIM", "log", "readers", "ann", 0, "10-0", "RETRYCOUNT", 5, "TIME", NOW_MS - 1000),
    ("XACK", "log", "readers", "6-0", "14-0"),
    ("XGROUP", "CREATECONSUMER", "log", "readers", "cid"),
    ("XADD", "plain", "5-5", "f", "v"),
    ("XGROUP", "CREATE", "empty", "g", "$", "MKSTREAM"),
    ("XADD", "emptied", "3-3", "f", "v"),
    ("XDEL", "emptied", "3-3"),
    ("XADD", "expiring", "1-1", "f", "v"),
    ("PEXPIREAT", "expiring", 4_102_444_800_000),
    ("HPERSIST", "hash", "FIELDS", 1, "field 7"),
)


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A database with streams of all kinds, and other keys."""
    (tmp_path / "sample").mkdir()
    return server_database(tmp_path / "sample", *COMMANDS)


def stored(path: Path) -> dict[tuple[int, bytes], tuple[Any, int]]:
    """Return all that a database holds, which must fit together."""
    with engine.open(path, read_only=True) as db:
        assert check_logical(db) == []
        return {
            (number, key.key): (plain(key.value), key.expires_ms)
            for number, pdb in database_map(db.view).items()
            for key in read_keys(db.view, pdb, number)
        }


# -- shown -------------------------------------------------------------------------------------------


def test_every_part_is_shown(sample: Path) -> None:
    with engine.open(sample, read_only=True) as db:
        view = RedisView(Numbers.of(db), Owners.of(db))
        ids: Any = decode(db[prefix_of(1, RECORD) + b"log"])
        entries, groups = ids.id, ids.groups.id
        lines = {view.line(key, value) for key, value in db.scan()}
        (facts,) = [view.facts(k, v) for k, v in db.scan() if place_of(k) == ("record", 1, b"log", 0, 0)]
        pending = prefix_of(1, ELEMENT) + U64.pack(groups) + DATA + U32.pack(0) + b"p" + pack(10, 0)
        shown = view.facts(pending, db[pending])
        odd = view.line(pending[:-3], b"?")
        gone = view.line(pending, None)
        broken = view.line(prefix_of(1, ELEMENT) + U64.pack(entries) + pack(5, 0), b"*1\r\n$1\r\nf\r\n")
        no_record = view.line(prefix_of(1, RECORD) + b"log", db[prefix_of(1, RECORD) + b"log"][:-1])
    told = "last id 14-0 entries read -1 consumers 3 pending 8"
    assert {
        f'db 0  key "log" = stream of 25 (stream), id {entries}, last id 30-0, 2 groups, id {groups}',
        f'db 0  stream {entries} entry 5-0 = "field" "5" "\\xff" ""',
        f'db 0  stream groups {groups} group name "readers" number 0 {told}',
        f'db 0  stream groups {groups} consumer group 0 name "ann" number 0 pending 4',
        f'db 0  stream groups {groups} consumer by number group 0 name "ann" number 0',
        f"db 0  stream groups {groups} pending with group 0 consumer 0 entry 10-0",
        f"db 0  stream groups {groups} pending group 0 consumer 0 entry 10-0 deliveries 5",
    } <= lines
    assert facts == {
        "area": "record",
        "db": 0,
        "pdb": 1,
        "key": b"log",
        "type": "stream",
        "encoding": "stream",
        "size": 25,
        "id": entries,
        "groups_id": groups,
        "groups": 2,
        "last_id": b"30-0",
        "first_id": b"5-0",
        "max_deleted_id": b"30-0",
        "entries_added": 30,
    }
    assert shown == {
        "area": "element",
        "db": 0,
        "pdb": 1,
        "id": groups,
        "type": "stream groups",
        "part": "pending",
        "group": 0,
        "entry": b"10-0",
        "consumer": 0,
        "delivered_ms": NOW_MS - 1000,
        "deliveries": 5,
    }
    assert odd.startswith(f"db 0  stream groups {groups} element ")
    assert gone == f"db 0  stream groups {groups} pending group 0 entry 10-0 = removed"
    assert broken == f'db 0  stream {entries} entry 5-0 = "*1\\r\\n$1\\r\\nf\\r\\n"'
    assert "no record: " in no_record


def test_the_verbs_know_streams(lamina: Lamina, sample: Path) -> None:
    (zero,) = [one for one in lamina("stats", sample, "--json").json["databases"] if one["db"] == 0]
    counted = zero["types"]["stream"]
    assert (counted["keys"], counted["elements"], counted["largest_elements"]) == (5, 27, 25)
    found = lamina("find", sample, "log", "--redis")
    assert found.status == 0
    assert "groups" in found.out
    dumped = lamina("dump", "keys", sample)
    assert dumped.status == 0
    assert "stream groups" in dumped.out


# -- written and read --------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["rdb", "json"])
def test_there_and_back_again(lamina: Lamina, tmp_path: Path, sample: Path, form: str) -> None:
    expected = stored(sample)
    file = tmp_path / f"out.{form}"
    # Files of Redis 7.0 do not say when a consumer was last given something.
    outcome = lamina("export", sample, file, "--json", *(("--rdb-version", 11) if form == "rdb" else ()))
    assert outcome.status == 0, outcome.err
    assert outcome.json["keys_by_type"]["stream"] == 5
    imported = lamina("import", file, tmp_path / "again", "--json")
    assert imported.json["keys_by_type"]["stream"] == 5
    assert stored(tmp_path / "again") == expected


def test_commands_make_the_same_streams(lamina: Lamina, tmp_path: Path, sample: Path) -> None:
    assert lamina("export", sample, tmp_path / "out.resp").status == 0
    assert lamina("import", tmp_path / "out.resp", tmp_path / "again").status == 0
    assert without_seen_times(stored(tmp_path / "again")) == without_seen_times(stored(sample))


def test_only_streams(lamina: Lamina, tmp_path: Path, sample: Path) -> None:
    outcome = lamina("export", sample, tmp_path / "out.json", "--type", "stream", "--json")
    assert outcome.json["keys_by_type"] == {"stream": 5}


def test_a_redis_server_takes_the_commands(
    lamina: Lamina, start_redis: StartServer, tmp_path: Path, sample: Path
) -> None:
    server = start_redis()
    lamina("export", sample, tmp_path / "out.resp", "--type", "stream")
    with open(tmp_path / "out.resp", "rb") as file:
        program = ["redis-cli", "-p", str(server.port), "--pipe"]
        done = subprocess.run(program, stdin=file, check=True, capture_output=True)
    assert b"errors: 0" in done.stdout
    lamina("export", sample, tmp_path / "out.rdb", "--rdb-version", 10, "--type", "stream")
    other = start_redis("--dbfilename", "out.rdb", "--dir", str(tmp_path))
    with server.client() as piped, other.client() as loaded:
        assert not problems_of(contents(piped), contents(loaded))
        assert piped.ok("XPENDING", "log", "readers")[0] == 8
        delivered = piped.ok("XINFO", "STREAM", "log", "FULL")
        assert NOW_MS - 1000 in [entry[2] for entry in pending_of(delivered, 1)]


def pending_of(full: list[Any], at: int) -> list[Any]:
    """Return what XINFO STREAM FULL says is pending with one of the groups."""
    group = full[full.index(b"groups") + 1][at]
    found: list[Any] = group[group.index(b"pending") + 1]
    return found


def churn(client: RespClient) -> None:
    """Do to streams what becomes all kinds of commands in an append-only file."""
    rdbdata.fill(client)
    for turn in range(1, 30):
        client.ok("XADD", "s", "MAXLEN", "~", 20, "*", "turn", turn)
        client.ok("XADD", "t", "NOMKSTREAM", "MINID", "=", turn, f"{turn}-*", "turn", turn)
        client.call("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
        client.ok("XREADGROUP", "GROUP", "g", f"c{turn % 3}", "COUNT", 2, "STREAMS", "s", ">")
        client.ok("XREADGROUP", "GROUP", "g", "silent", "NOACK", "STREAMS", "s", ">")
        client.ok("XAUTOCLAIM", "s", "g", "claimer", 0, "-", "COUNT", 1)
        client.ok("XREADGROUP", "GROUP", "g", "claimer", "STREAMS", "s", 0)
    client.ok("XGROUP", "SETID", "s", "g", 0)
    client.ok("XREADGROUP", "GROUP", "g", "again", "COUNT", 5, "STREAMS", "s", ">")
    client.ok("XGROUP", "DELCONSUMER", "s", "g", "c1")
    client.ok("XSETID", "s", "9999999999999-0", "ENTRIESADDED", 1000, "MAXDELETEDID", "5-0")


@pytest.mark.parametrize("preamble", ["yes", "no"])
@pytest.mark.parametrize("rewritten", [True, False])
def test_an_append_only_file(
    lamina: Lamina, start_redis: StartServer, tmp_path: Path, preamble: str, rewritten: bool
) -> None:
    server = start_redis("--appendonly", "yes", "--aof-use-rdb-preamble", preamble)
    with server.client() as client:
        churn(client)
        if rewritten:
            client.ok("BGREWRITEAOF")
            while b"aof_rewrite_in_progress:1" in client.ok("INFO", "persistence"):
                time.sleep(0.05)
        pending = client.ok("XINFO", "STREAM", "s", "FULL", "COUNT", 0)
        # What of it is in the file is what Redis reads there itself.
        client.ok("DEBUG", "LOADAOF")
        expected = contents(client)
        before_s = time.time()
    server.stop()
    outcome = lamina("import", server.data / "appendonlydir", tmp_path / "db", "--json")
    assert outcome.status == 0, outcome.err
    assert outcome.json["failed_commands"] == 0
    assert lamina("export", tmp_path / "db", tmp_path / "out.rdb", "--rdb-version", 10).status == 0
    again = start_redis("--dbfilename", "out.rdb", "--dir", str(tmp_path))
    with again.client() as client:
        assert not problems_of(expected, contents(client))
        assert pending_of(client.ok("XINFO", "STREAM", "s", "FULL", "COUNT", 0), 0) == pending_of(pending, 0)
    seen = [one.seen_ms for one in stored(tmp_path / "db")[0, b"s"][0][3][b"g"].consumers]
    assert min(seen) > (before_s - 60) * 1000, "a consumer was seen when the file was read, or before"


# -- lines of JSON -----------------------------------------------------------------------------------


def written(value: StreamValue) -> list[bytes]:
    """Return the lines of a file with one stream, and no more."""
    pieces: list[bytes] = []
    writer = JsonLinesWriter(pieces.append)
    writer.write_key(3, b"s", value)
    writer.finish()
    return b"".join(pieces).splitlines(keepends=True)


def read_back(lines: list[bytes]) -> Any:
    (key,) = [
        key._replace(value=plain(key.value)) for key in JsonLinesReader(io.BytesIO(b"".join(lines)).readline)
    ]
    return key.value


@given(streams())
@settings(max_examples=80)
def test_json_lines_lose_nothing(value: StreamValue) -> None:
    found = read_back(written(value))
    expected = plain(value)
    entries = expected[1]
    expected[2].first_id = entries[0].id if entries else (0, 0)
    assert found == expected


def test_large_streams_take_several_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonstreams, "_LINE_PENDING", 3)
    entries = [StreamEntry((n, n), [b"f", b"x" * (n % 7)]) for n in range(2500)]
    groups = [
        StreamGroup(b"%d" % n, (n, 0), n, [StreamConsumer(b"c", 5, 6, [Pending((n, n), 7, 8)] * (n % 2))])
        for n in range(10)
    ]
    state = StreamState(2500, (9999, 0), (0, 0), (3, 0), 5000)
    value = StreamValue([entries], 2500, state, groups)
    lines = written(value)
    assert len(lines) == 1 + 3 + 5 + 1 - 1
    assert read_back(lines) == plain(value)
    # Nobody asks for the value: it is stepped over.
    assert [key.key for key in JsonLinesReader(io.BytesIO(b"".join(lines)).readline)] == [b"s"]


def test_what_people_write_needs_little() -> None:
    found = read_back([b'{"key":"s","type":"stream","value":[["1-1",["f","v"]],["2-0",["f","w"]]]}\n'])
    assert found == (
        "stream",
        [StreamEntry((1, 1), [b"f", b"v"]), StreamEntry((2, 0), [b"f", b"w"])],
        StreamState(2, (2, 0), (1, 1), (0, 0), 2),
        {},
    )
    found = read_back([b'{"key":"s","type":"stream","value":[],"groups":[{"name":"g"}]}\n'])
    assert found[3] == {b"g": StreamGroup(b"g", (0, 0), -1, [])}


GOOD: dict[str, Any] = {
    "key": "s",
    "type": "stream",
    "value": [["1-1", ["f", "v"]]],
    "last_id": "1-1",
    "groups": [{"name": "g", "consumers": [{"name": "c", "pending": [["1-1", 1, 1]]}]}],
}

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no entries": ({"value": None}, "is a list"),
    "an entry that is none": ({"value": ["1-1"]}, "an id, and a list"),
    "a field without a value": ({"value": [["1-1", ["f"]]]}, "in turn"),
    "an id that is none": ({"value": [["1-x", ["f", "v"]]]}, "is no id"),
    "an id that is too large": ({"value": [["1-18446744073709551616", ["f", "v"]]]}, "is no id"),
    "ids that do not ascend": ({"value": [["1-1", ["f", "v"]]] * 2}, "ascend"),
    "an entry behind the last": ({"last_id": "1-0"}, "behind its last id"),
    "a number of entries that is none": ({"entries_added": -1}, "out of range"),
    "groups that are none": ({"groups": {}}, "are a list"),
    "a group that is none": ({"groups": ["g"]}, "is an object"),
    "a group without a name": ({"groups": [{}]}, "group's name"),
    "two groups of one name": ({"groups": [{"name": "g"}] * 2}, "two groups"),
    "consumers that are none": ({"groups": [{"name": "g", "consumers": 1}]}, "are a list"),
    "a consumer that is none": ({"groups": [{"name": "g", "consumers": [1]}]}, "is an object"),
    "two consumers of one name": (
        {"groups": [{"name": "g", "consumers": [{"name": "c"}] * 2}]},
        "two consumers",
    ),
    "a seen time that is none": (
        {"groups": [{"name": "g", "consumers": [{"name": "c", "seen_ms": "x"}]}]},
        "out of range",
    ),
    "pending that is none": (
        {"groups": [{"name": "g", "consumers": [{"name": "c", "pending": 1}]}]},
        "is a list",
    ),
    "a pending entry that is none": (
        {"groups": [{"name": "g", "consumers": [{"name": "c", "pending": [["1-1"]]}]}]},
        "a pending entry is",
    ),
    "what is pending twice": (
        {"groups": [{"name": "g", "consumers": [{"name": "c", "pending": [["1-1", 1, 1]] * 2}]}]},
        "pending twice",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_wrong_is_told(what: str) -> None:
    changes, message = BAD[what]
    assert read_back([json.dumps(GOOD).encode()])
    with pytest.raises(JsonLinesError, match=message):
        read_back([json.dumps(GOOD | changes).encode()])


def test_entries_behind_groups_are_refused() -> None:
    lines = [json.dumps(GOOD | {"more": True}).encode() + b"\n", json.dumps(GOOD).encode() + b"\n"]
    with pytest.raises(JsonLinesError, match="come behind its entries"):
        read_back(lines)

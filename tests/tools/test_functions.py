"""Libraries of functions in the tools: from Redis and to it, through every format, and into what is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lamina.engine as engine
from harness.rdbfiles import rdb, string
from harness.resp import encode
from harness.servers import Server, StartServer
from lamina.server.encoding import FUNCTION_PREFIX
from lamina.tools.logical import check_logical

Lamina = Callable[..., Any]

ADDS = "#!lua name=adds\nredis.register_function('add', function(keys, args) return args[1] + args[2] end)\n"
READS = """#!lua name=reads
local function read(keys) return redis.call('GET', keys[1]) end
redis.register_function{function_name='read', callback=read, flags={'no-writes'}, description='gets \xe9'}
"""
OTHER_ADDS = ADDS.replace("+", "-")
CLASHES = ADDS.replace("name=adds", "name=clashes")


def libraries(path: Path) -> dict[bytes, bytes]:
    """Return the libraries that a database holds, which must be sound."""
    with engine.open(path, read_only=True) as db:
        assert check_logical(db) == []
        return {key[len(FUNCTION_PREFIX) :]: source for key, source in db.view.scan(*_range())}


def _range() -> tuple[bytes, bytes]:
    return FUNCTION_PREFIX, FUNCTION_PREFIX[:-1] + bytes((FUNCTION_PREFIX[-1] + 1,))


def file_of(folder: Path, *sources: str, name: str = "x.rdb") -> Path:
    """Write an RDB file of libraries, and a key."""
    path = folder / name
    items = [b"\xf5" + string(source.encode()) for source in sources]
    path.write_bytes(rdb(10, *items, b"\x00" + string(b"k") + string(b"v")))
    return path


def database_of(lamina: Lamina, folder: Path, *sources: str) -> Path:
    """Make a database with libraries."""
    path = folder / "db"
    outcome = lamina("import", file_of(folder, *sources, name="made.rdb"), path, "--json")
    assert outcome.status == 0, outcome.err
    assert outcome.json["libraries"] == len(sources)
    return path


def works(server: Server) -> None:
    """Assert that a server has both libraries."""
    with server.client() as client:
        client.ok("SET", "k", "v")
        assert client.ok("FCALL", "add", 0, 2, 3) == 5
        assert client.ok("FCALL_RO", "read", 1, "k") == b"v"
        assert len(client.ok("FUNCTION", "LIST")) == 2


def load(server: Server, *sources: str) -> None:
    with server.client() as client:
        for source in sources:
            client.ok("FUNCTION", "LOAD", source)


def test_from_redis_and_back(lamina: Lamina, start_redis: StartServer, tmp_path: Path) -> None:
    redis = start_redis()
    load(redis, ADDS, READS)
    with redis.client() as client:
        client.ok("SAVE")
    redis.stop()
    assert lamina("import", redis.data / "dump.rdb", tmp_path / "db").status == 0
    assert libraries(tmp_path / "db") == {b"adds": ADDS.encode(), b"reads": READS.encode()}
    outcome = lamina("export", tmp_path / "db", redis.data / "dump.rdb", "--force", "--json")
    assert outcome.json["libraries"] == 2
    redis.start()
    works(redis)


def test_commands_for_redis(lamina: Lamina, start_redis: StartServer, tmp_path: Path) -> None:
    path = database_of(lamina, tmp_path, ADDS, READS)
    assert lamina("export", path, tmp_path / "out.resp").status == 0
    redis = start_redis()
    with redis.client() as client:
        client.send_raw((tmp_path / "out.resp").read_bytes())
        assert [client.read() for _ in range(3)] == [b"adds", b"reads", "OK"]
    works(redis)


@pytest.mark.parametrize("preamble", ["yes", "no"])
def test_append_only_files(lamina: Lamina, start_redis: StartServer, tmp_path: Path, preamble: str) -> None:
    redis = start_redis("--appendonly", "yes", "--aof-use-rdb-preamble", preamble)
    load(redis, ADDS, OTHER_ADDS.replace("name=adds", "name=gone").replace("'add'", "'sub'"))
    with redis.client() as client:
        client.ok("BGREWRITEAOF")
        while b"aof_rewrite_in_progress:1" in client.ok("INFO", "persistence"):
            pass
        client.ok("FUNCTION", "DELETE", "gone")
        client.ok("FUNCTION", "LOAD", READS)
        client.ok("SET", "k", "v")
    redis.stop()
    outcome = lamina("import", redis.data / "appendonlydir", tmp_path / "db", "--json")
    assert outcome.status == 0, outcome.err
    assert outcome.json["libraries"] == 2
    assert set(libraries(tmp_path / "db")) == {b"adds", b"reads"}
    outcome = lamina("import", "--db", "3", redis.data / "appendonlydir", tmp_path / "mapped", "--json")
    assert outcome.json["libraries"] == 2
    assert libraries(tmp_path / "mapped") == libraries(tmp_path / "db")


@pytest.mark.parametrize("form", ["rdb", "resp", "json"])
def test_there_and_back_again(lamina: Lamina, tmp_path: Path, form: str) -> None:
    path = database_of(lamina, tmp_path, ADDS, READS)
    assert lamina("export", path, tmp_path / f"out.{form}").status == 0
    outcome = lamina("import", tmp_path / f"out.{form}", tmp_path / "again", "--json")
    assert outcome.status == 0, outcome.err
    assert outcome.json["libraries"] == 2
    assert outcome.json["keys"] == 1
    assert libraries(tmp_path / "again") == libraries(path)


def test_a_server_over_what_was_imported(lamina: Lamina, start_lamina: StartServer, tmp_path: Path) -> None:
    server = start_lamina()
    server.stop()
    assert lamina("import", file_of(tmp_path, ADDS, READS), server.data / "lamina").status == 0
    server.start()
    works(server)
    server.kill()
    server.start()
    works(server)


def test_libraries_belong_to_no_database(lamina: Lamina, tmp_path: Path) -> None:
    path = database_of(lamina, tmp_path, ADDS)
    choices = (["--only-db", "0"], ["--match", "*"], ["--type", "string"], ["--prefix", "k"])
    for number, words in enumerate(choices):
        outcome = lamina("export", *words, path, tmp_path / "out.json", "--force", "--json")
        assert (outcome.json["keys"], outcome.json["libraries"]) == (1, 0)
        part = tmp_path / f"part {number}"
        outcome = lamina("import", *words, file_of(tmp_path, ADDS), part, "--json")
        assert (outcome.json["keys"], outcome.json["libraries"], outcome.json["filtered"]) == (1, 0, 1)
        assert libraries(part) == {}
    outcome = lamina("import", "--db", "2", file_of(tmp_path, ADDS), tmp_path / "mapped", "--json")
    assert outcome.json["libraries"] == 1


def test_what_is_there_already(lamina: Lamina, tmp_path: Path) -> None:
    path = database_of(lamina, tmp_path, ADDS)
    same, other = file_of(tmp_path, ADDS, READS), file_of(tmp_path, OTHER_ADDS, name="other.rdb")
    outcome = lamina("import", "--on-conflict", "keep", same, path, "--json")
    assert (outcome.json["libraries"], outcome.json["kept"]) == (1, 2)  # the key, too
    assert set(libraries(path)) == {b"adds", b"reads"}
    with engine.open(path) as db:
        assert b"k" in next(iter(db.view.scan(b"\0\0\0\1k", b"\0\0\0\1l")))[0]
    outcome = lamina("import", "--map-db", "0=5", other, path)
    assert outcome.status == 2
    assert "'adds' is there already with another source, and nothing was changed" in outcome.err
    outcome = lamina("import", "--on-conflict", "keep", other, path, "--json")
    assert (outcome.json["libraries"], outcome.json["kept"]) == (0, 2)
    assert libraries(path)[b"adds"] == ADDS.encode()
    outcome = lamina("import", "--on-conflict", "replace", other, path, "--json")
    assert (outcome.json["libraries"], outcome.json["replaced"]) == (1, 2)
    assert libraries(path)[b"adds"] == OTHER_ADDS.encode()


def test_functions_of_one_name(lamina: Lamina, tmp_path: Path) -> None:
    path = database_of(lamina, tmp_path, ADDS)
    for policy in ("error", "keep", "replace"):
        outcome = lamina(
            "import", "--on-conflict", policy, "--map-db", "0=1", file_of(tmp_path, CLASHES), path
        )
        assert outcome.status == 2
        assert "'clashes': ERR Function add already exists: nothing was changed" in outcome.err
        assert set(libraries(path)) == {b"adds"}
        assert lamina("stats", path, "--json").json["databases"][0]["keys"] == 1


def test_what_cannot_be_loaded_is_named(lamina: Lamina, tmp_path: Path) -> None:
    sources = [
        ADDS,
        CLASHES,
        "#!js name=script\nx",
        "#!lua name=broken\nx y",
        "#!lua name=slow\nwhile true do end",
    ]
    outcome = lamina("import", file_of(tmp_path, *sources), tmp_path / "db", "--json")
    assert outcome.status == 1
    unsupported = outcome.json["unsupported"]
    assert len(unsupported) == 4
    for text in (
        "'clashes': ERR Function add already exists",
        "ERR Engine 'js' not found",
        "'broken': ERR Error compiling function",
        "'slow': ERR Error registering functions: ERR FUNCTION LOAD timeout",
    ):
        assert any(text in kind for kind in unsupported), text
    assert "left out: 1 x the library of functions 'broken': ERR Error compiling" in outcome.err
    assert set(libraries(tmp_path / "db")) == {b"adds"}
    assert lamina("import", "--skip-unsupported", file_of(tmp_path, *sources), tmp_path / "b").status == 0


def test_lines_that_people_write(lamina: Lamina, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"library": "adds", "code": ADDS}) + "\n")
    assert lamina("import", tmp_path / "x.json", tmp_path / "db", "--json").json["libraries"] == 1
    for facts in ({"library": "adds"}, {"library": "adds", "code": 1}):
        (tmp_path / "x.json").write_text(json.dumps(facts) + "\n")
        outcome = lamina("import", tmp_path / "x.json", tmp_path / "new")
        assert outcome.status == 2
        assert "line 1: a code is a string" in outcome.err


def test_they_are_seen(lamina: Lamina, tmp_path: Path) -> None:
    path = database_of(lamina, tmp_path, ADDS)
    assert lamina("stats", path, "--json").json["libraries"] == 1
    assert "libraries of functions: 1" in lamina("stats", path).out
    assert "library of functions" in lamina("dump", "keys", path).out
    assert lamina("check", "--logical", path).status == 0


def test_a_library_that_is_none_is_found(lamina: Lamina, tmp_path: Path) -> None:
    path = database_of(lamina, tmp_path, ADDS)
    with engine.open(path) as db:
        db.put(FUNCTION_PREFIX + b"none", b"no library")
        db.put(FUNCTION_PREFIX + b"other", ADDS.encode())
        problems = [str(problem) for problem in check_logical(db)]
    assert len(problems) == 2
    assert "b'none' is none" in problems[0]
    assert "b'other' calls itself b'adds'" in problems[1]


def test_commands_with_functions_run(lamina: Lamina, tmp_path: Path) -> None:
    calls = [
        ["FUNCTION", "LOAD", ADDS],
        ["FCALL", "add", 0, 1, 2],
        ["EVAL", "return redis.call('SET', 'a', 1)", 0],
    ]
    (tmp_path / "x.resp").write_bytes(b"".join(encode([str(word) for word in call]) for call in calls))
    outcome = lamina("import", tmp_path / "x.resp", tmp_path / "db", "--json")
    assert (outcome.json["keys"], outcome.json["libraries"], outcome.json["unsupported"]) == (1, 1, {})

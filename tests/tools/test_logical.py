"""What the logical checks are made of: the table of ids, sums of pairs, a source with holes, the sink."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

import lamina.engine as engine
from harness.damage import both, catalogue, flipped
from harness.local import LocalClient, check_server
from harness.redisdamage import TOGETHER, change, redis_files, write_sample
from lamina.engine.filesystem import DiskFileSystem
from lamina.server.clock import ManualClock
from lamina.server.config import Config
from lamina.server.encoding import U32
from lamina.server.server import Server
from lamina.tools import logicalrecords, logicalsource
from lamina.tools.cli import main
from lamina.tools.logical import check_logical, is_of_a_server, mend_logical
from lamina.tools.logicalfixes import Row
from lamina.tools.logicalrecords import IdTable
from lamina.tools.logicalsource import Sink, Source
from lamina.tools.pairsums import PairSum

# -- parts -----------------------------------------------------------------------------------------


def test_the_table_of_ids_is_read_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logicalrecords, "_CHUNK", 7)
    random = Random(1)
    rows = [Row(random.randrange(1, 60), 3, number, number, (1 << 64) - 1) for number in range(100)]
    table = IdTable()
    for row in rows:
        table.add(row)
    found = list(table)
    assert found == sorted(rows, key=lambda row: row.id), "rows of one id stay in their order"
    assert list(table) == found
    assert list(IdTable()) == []


def test_sums_tell_multisets_apart() -> None:
    items = [b"%d" % number for number in range(50)]
    one, other = PairSum(), PairSum()
    for item in items:
        one.add(item)
    for item in reversed(items):
        other.add(item)
    assert one == other
    other.add(b"more")
    assert one != other
    one.add(b"most")
    assert one != other
    assert one.count == other.count == 51


def test_a_source_passes_over_what_is_hidden(tmp_path: Path) -> None:
    with engine.open(tmp_path, background="inline") as db:
        for number in range(100):
            db.put(b"%02d" % number, b"x")
        source = Source(db, [(b"50", b"60"), (b"20", b"30"), (b"25", b"33"), (b"90", None)])
        seen = [key for key, _ in source.scan(b"10", b"95")]
        expected = [b"%02d" % n for n in range(10, 90) if not 20 <= n < 33 and not 50 <= n < 60]
        assert seen == expected
        assert all(low < high for low, high in pairwise(seen))
        assert source.is_damaged
        assert source.is_hidden(b"59", b"61")
        assert not source.is_hidden(b"60", b"61")
        assert source.knows(b"95")
        assert source.knows(b"10")
        assert not source.knows(b"1x")
        assert [key for key, _ in source.scan(b"95", None)] == []


def test_the_sink_bounds_what_it_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logicalsource, "_PROBLEMS_MAX", 3)
    sink = Sink()
    for _ in range(5):
        sink.error(1, None, "orphan", "one more")
    assert len(sink.problems) == 3
    assert sink.left_out == {"orphan": 2}


# -- databases -------------------------------------------------------------------------------------


def test_a_servers_database_is_told_from_others(tmp_path: Path) -> None:
    folder = write_sample(tmp_path / "db")
    with engine.open(folder, read_only=True) as db:
        assert is_of_a_server(db)
        assert is_of_a_server(db, [(U32.pack(1), U32.pack(1) + b"f")])
    with engine.open(tmp_path / "other", background="inline") as db:
        assert is_of_a_server(db), "an empty one could be"
        for number in range(50):
            db.put(b"%d" % number, b"x")
        assert not is_of_a_server(db)
    with engine.open(tmp_path / "uncounted", background="inline", counted=False) as db:
        assert not is_of_a_server(db)


def test_mending_twice_finds_nothing(tmp_path: Path) -> None:
    folder = write_sample(tmp_path / "db")
    change(folder, *TOGETHER[::3])
    with engine.open(folder, background="inline") as db:
        assert mend_logical(db)
        assert check_logical(db) == []
        assert mend_logical(db) == []


def serve(folder: Path) -> LocalClient:
    """Return a client of a server over a database's folder."""
    config = Config()
    config.load_arguments(["--dir", str(folder.parent), "--dbdirname", folder.name])
    options = {"fs": DiskFileSystem(), "background": "inline"}
    return LocalClient(Server(config, clock=ManualClock(), engine_options=options))


def read_everything(local: LocalClient) -> int:
    """Read all keys of all databases in every way; returns how many there are."""
    count = 0
    for index in range(16):
        local("SELECT", index)
        keys = local("KEYS", "*")
        assert len(keys) == local("DBSIZE")
        count += len(keys)
        for key in keys:
            kind = local("TYPE", key)
            local("OBJECT", "ENCODING", key)
            local("PTTL", key)
            match kind:
                case b"string":
                    assert len(local("GET", key)) == local("STRLEN", key)
                case b"list":
                    values = local("LRANGE", key, 0, -1)
                    assert len(values) == local("LLEN", key)
                    assert [local("LINDEX", key, i) for i in range(len(values))] == values
                case b"set":
                    assert len(local("SMEMBERS", key)) == local("SCARD", key)
                case b"hash":
                    assert len(local("HKEYS", key)) == local("HLEN", key)
                case b"zset":
                    members = local("ZRANGE", key, 0, -1)
                    assert len(members) == local("ZCARD", key)
                    assert [local("ZRANK", key, member) for member in members] == list(range(len(members)))
                case b"stream":
                    read_stream(local, key)
                case _:
                    raise AssertionError(kind)
    return count


def read_stream(local: LocalClient, key: bytes) -> None:
    """Read a stream in every way."""
    entries = local("XRANGE", key, "-", "+")
    assert len(entries) == local("XLEN", key)
    assert local("XREVRANGE", key, "+", "-") == entries[::-1]
    assert local("XREAD", "STREAMS", key, 0) == ([[key, entries]] if entries else None)
    facts = local("XINFO", "STREAM", key)
    assert facts[facts.index(b"first-entry") + 1] == (entries[0] if entries else None)
    for group in local("XINFO", "GROUPS", key):
        name = group[1]
        pending = local("XPENDING", key, name, "-", "+", 1000)
        assert len(pending) == local("XPENDING", key, name)[0] == group[group.index(b"pending") + 1]
        by_consumer = []
        for consumer in local("XINFO", "CONSUMERS", key, name):
            own = local("XPENDING", key, name, "-", "+", 1000, consumer[1])
            assert len(own) == consumer[3]
            by_consumer += own
        assert sorted(by_consumer) == sorted(pending)


def test_a_server_finds_its_way_in_what_was_mended(tmp_path: Path) -> None:
    files = redis_files()
    segments = [damage for damage in catalogue(files) if damage.names[0].endswith("seg")]
    cases = [damage for damage in segments if damage.what.startswith(("bytes", "missing", "cut"))]
    for number, damage in enumerate(cases[::30]):
        folder = write_sample(tmp_path / str(number), both(damage, flipped("MANIFEST", 30)).apply(files))
        if number % 2:
            folder = write_sample(tmp_path / f"{number}m", damage.apply(files))
        assert main(["repair", str(folder), "--logical", "--yes", "--quiet"]) in (0, 1)
        local = serve(folder)
        read_everything(local)
        check_server(local.server)
        local.server.close()


def test_a_server_finds_its_way_after_everything_at_once(tmp_path: Path) -> None:
    folder = write_sample(tmp_path / "db")
    change(folder, *TOGETHER)
    assert main(["repair", str(folder), "--logical", "--yes", "--quiet"]) == 1
    local = serve(folder)
    assert read_everything(local) > 250
    check_server(local.server)
    local.server.close()

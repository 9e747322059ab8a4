"""Entries of a server's database as Redis data: every type is told, every bit pattern is shown somehow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lamina.engine as engine
from harness.diskdata import FAR_MS, plain_database, server_database
from lamina.engine import Database
from lamina.server.encoding import ELEMENT, EXPIRY, RECORD, STATE_PREFIX, U32, U64, prefix_of
from lamina.tools.console import json_text
from lamina.tools.rediskeys import (
    FIELD_TIMES,
    Numbers,
    Owners,
    decode,
    ids_of,
    is_servers,
    looks_servers,
    physical_databases,
    place_of,
    size_of,
)
from lamina.tools.redisview import HexView, RawView, RedisView, time_text


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    directory = server_database(tmp_path_factory.mktemp("server"))
    with engine.open(directory, read_only=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def lines(db: Database) -> list[str]:
    view = RedisView(Numbers.of(db), Owners.of(db))
    return [view.line(key, value) for key, value in db.scan()]


@pytest.mark.parametrize(
    "line",
    [
        'db 0  key "string:003" = string "changed 3" (9 bytes, embstr)',
        'db 0  key "string:002" = string "value 2" (7 bytes, embstr)',
        'db 0  key "token" = string "x" (1 byte, embstr), expires 2100-01-01 00:00:00.000 UTC',
        'db 0  expires 2100-01-01 00:00:00.000 UTC key "token"',
        'db 0  key "big" = string of 70003 bytes (in chunks), id 1',
        'db 0  key "list" = list of 62 (listpack), id 2',
        'db 0  list 2 position -1 = "first"',
        'db 0  list 2 position 0 = "0"',
        'db 0  set 3 member "member 1"',
        'db 0  key "zset" = zset of 50 (listpack), id 4',
        'db 0  zset 4 scores member "m1" score -2.75',
        'db 0  zset 4 order member "m1" score -2.75',
        'db 0  key "hash" = hash of 40 (listpackex), id 5, 1 field expiring, id 6',
        'db 0  hash 5 field "field 7" = "7"',
        'db 0  field times 6 by field field "field 7" expires 2100-01-01 00:00:00.001 UTC',
        'db 0  field times 6 by time field "field 7" expires 2100-01-01 00:00:00.001 UTC',
        'db 0  fields expire 2100-01-01 00:00:00.001 UTC key "hash"',
        'db 5  key "elsewhere" = string "in database 3" (13 bytes, embstr)',
        'state "databases" = next pdb 1048576, db 3 is pdb 6, db 5 is pdb 4',
        'state "id" = 1025',
    ],
)
def test_every_type_is_shown(lines: list[str], line: str) -> None:
    assert line in lines


def test_elements_that_were_squeezed_in_have_suffixes(lines: list[str]) -> None:
    (squeezed,) = [line for line in lines if '"squeezed"' in line]
    assert " position 29 suffix " in squeezed or " position 30 suffix " in squeezed


def test_chunks_tell_where_they_begin(lines: list[str]) -> None:
    assert any(line.startswith("db 0  string 1 chunk 4 offset 65536 = ") for line in lines)


def test_nothing_is_left_of_what_was_discarded(lines: list[str]) -> None:
    assert not any("dropped" in line for line in lines)
    assert not any("raw " in line or "element of" in line for line in lines)


def test_without_a_database_numbers_and_types_are_open(db: Database) -> None:
    view = RedisView()
    lines = [view.line(key, value) for key, value in db.scan()]
    assert 'pdb 1  key "string:002" = string "value 2" (7 bytes, embstr)' in lines
    assert 'pdb 1  element of 3 element "member 1"' in lines
    assert 'pdb 4  key "elsewhere" = string "in database 3" (13 bytes, embstr)' in lines


def test_facts(db: Database) -> None:
    view = RedisView(Numbers.of(db), Owners.of(db))
    (facts,) = [view.facts(k, v) for k, v in db.scan() if place_of(k) == ("record", 1, b"hash", 0, 0)]
    assert facts == {
        "area": "record",
        "db": 0,
        "pdb": 1,
        "key": b"hash",
        "type": "hash",
        "encoding": "listpackex",
        "size": 40,
        "id": 5,
        "times_id": 6,
        "expiring_fields": 1,
        "fields_due_ms": FAR_MS + 1,
    }
    assert view.facts(prefix_of(1, RECORD) + b"gone", None) == {
        "area": "record",
        "db": 0,
        "pdb": 1,
        "key": b"gone",
        "removed": True,
    }
    score = prefix_of(1, ELEMENT) + U64.pack(4) + b"mm1"
    found = {"area": "element", "db": 0, "pdb": 1, "id": 4, "type": "zset", "part": "scores"}
    assert view.facts(score, db[score]) == found | {"member": b"m1", "score": "-2.75"}
    assert view.facts(score, None) == found | {"member": b"m1", "removed": True}


def test_tombstones_are_told() -> None:
    view = RedisView(Numbers(None))
    assert view.line(prefix_of(1, RECORD) + b"k", None) == 'db 0  key "k" = removed'
    assert view.line(prefix_of(1, ELEMENT) + U64.pack(9) + b"e", None) == (
        'db 0  element of 9 element "e" = removed'
    )
    assert RawView().line(b"k", None) == '"k" = removed'


def test_a_foreign_key_is_shown_raw() -> None:
    view = RedisView(Numbers(None))
    assert view.line(b"apple", b"red") == 'raw   "apple" = "red"'
    assert view.facts(b"apple", b"red") == {"area": "other", "key": b"apple", "value": b"red"}


def test_a_record_of_no_type_is_shown_raw() -> None:
    view = RedisView(Numbers(None))
    assert view.line(prefix_of(1, RECORD) + b"k", b"\x0fodd") == 'db 0  key "k" = no record: "\\x0fodd"'
    assert view.facts(prefix_of(1, RECORD) + b"k", b"\x03short")["type"] is None


def test_a_database_that_no_number_leads_to() -> None:
    raw = U32.pack(1 << 20) + U32.pack(0) + U32.pack(7)
    numbers = Numbers(raw)
    assert (numbers.logical(7), numbers.logical(1), numbers.logical(2), numbers.physical(0)) == (
        0,
        None,
        1,
        7,
    )
    line = RedisView(numbers).line(prefix_of(1, RECORD) + b"k", b"\0v")
    assert line == 'pdb 1 (of no database)  key "k" = string "v" (1 byte, embstr)'


def test_long_values_are_cut() -> None:
    assert RawView(4).line(b"k", b"0123456789") == '"k" = "0123"... (10 bytes)'
    assert HexView(2).line(b"k", b"0123") == "6b = 3031... (4 bytes)"
    assert HexView().facts(b"k", b"v") == {"key": "6b", "value": "76"}
    assert HexView().line(b"", b"") == "- = -"


def test_physical_databases(db: Database) -> None:
    assert list(physical_databases(db)) == [1, 4]


def test_owners(db: Database) -> None:
    owners = Owners.of(db)
    assert owners.type_of(6) == FIELD_TIMES
    assert owners.type_of(999) is None


def test_whose_database_it_is(db: Database, tmp_path: Path) -> None:
    assert is_servers(db)
    with engine.open(plain_database(tmp_path), read_only=True) as plain:
        assert not is_servers(plain)
    with engine.open(plain_database(tmp_path / "blind", counted=False), read_only=True) as plain:
        assert not is_servers(plain)


def test_a_time_that_no_calendar_has() -> None:
    assert time_text(0) == "1970-01-01 00:00:00.000 UTC"
    assert time_text((1 << 64) - 1) == "at 18446744073709551615 ms"


def test_an_index_entry_with_a_value_is_no_servers() -> None:
    key = prefix_of(1, EXPIRY) + U64.pack(5) + b"k"
    assert looks_servers([(key, b"")])
    assert not looks_servers([(key, b"v")])


def test_strings_and_their_sizes() -> None:
    assert decode(b"\0text") == b"text"
    plain = decode(b"\0text")
    assert plain is not None
    assert size_of(plain) == 4
    assert ids_of(plain) == ids_of(None) == []


@given(
    key=st.one_of(
        st.binary(max_size=40),
        st.builds(lambda pdb, rest: U32.pack(pdb) + rest, st.integers(0, 3), st.binary(max_size=30)),
        st.builds(lambda rest: prefix_of(1, ELEMENT) + rest, st.binary(max_size=30)),
        st.builds(lambda name: STATE_PREFIX + name, st.sampled_from([b"id", b"databases", b"probe"])),
    ),
    value=st.one_of(st.none(), st.binary(max_size=60)),
    owner=st.sampled_from([1, 2, 3, 4, 5, 6, FIELD_TIMES]),
)
def test_every_entry_can_be_shown(key: bytes, value: bytes | None, owner: int) -> None:
    owners = Owners([(place_of(key).id, owner)])
    for view in (RedisView(Numbers(None), owners), RedisView(), RawView(5), HexView(5)):
        assert "\n" not in view.line(key, value)
        assert json_text(view.facts(key, value))
        assert view.key(key)

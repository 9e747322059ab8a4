"""List commands: pushing, popping, ranks, values, encodings, events. Waiting is tested beside this."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from harness.local import LocalClient
from lamina.server import elements, events
from lamina.server.errors import (
    COUNT_NEGATIVE,
    COUNT_NOT_POSITIVE,
    INDEX_OUT_OF_RANGE,
    NO_SUCH_KEY,
    NOT_AN_INTEGER,
    NOT_POSITIVE,
    NUMKEYS_NOT_POSITIVE,
    SYNTAX,
    WRONG_TYPE,
    CommandError,
    not_between,
    wrong_arity,
)
from lamina.server.limits import LIMITS
from lamina.server.numbers import INTEGER_MAX
from lamina.server.types import lists

SIZE = 60
FORMS = ["held", "loaded", "on disk", "sparse and held", "sparse and loaded", "sparse and on disk"]


@pytest.fixture(params=FORMS)
def listed(
    request: pytest.FixtureRequest, local: LocalClient, monkeypatch: pytest.MonkeyPatch
) -> LocalClient:
    """A client with the list `l` of 60 elements v0..v59, dense or sparse: in memory from the start, loaded,
    or never loaded."""
    assert local("RPUSH", "l", *[f"v{i}" for i in range(SIZE)]) == SIZE
    if "sparse" in request.param:
        assert local("LREM", "l", 1, "v30") == 1
        assert local("LINSERT", "l", "AFTER", "v29", "v30") == SIZE
        assert local("LINSERT", "l", "BEFORE", "v30", "gone") == SIZE + 1
        assert local("LREM", "l", 0, "gone") == 1
    if "on disk" in request.param:
        monkeypatch.setattr(elements, "LOADED_AT_ONCE", -1)
        monkeypatch.setattr(elements, "LOADED_EVER", -1)
    if "held" not in request.param:
        local.reload()
    record = local.client.keyspace.find(b"l")
    assert isinstance(record, lists.List)
    assert record.elements.is_dense == ("sparse" not in request.param)
    return local


VALUES = [b"v%d" % i for i in range(SIZE)]


def all_of(local: LocalClient, key: Any = "l") -> list[bytes]:
    found = local("LRANGE", key, 0, -1)
    assert local("LLEN", key) == len(found)
    return found  # type: ignore[no-any-return]


def heard(local: LocalClient) -> list[tuple[bytes, bytes]]:
    """Listen to all events from now on, and return the list that they are added to."""
    found: list[tuple[bytes, bytes]] = []
    keyspace = local.client.keyspace
    keyspace.listens = events.ALL
    keyspace.databases.on_event = lambda keyspace, kind, name, key: found.append((name, key))
    return found


def encoding(local: LocalClient, key: bytes) -> bytes:
    record = local.client.keyspace.find(key)
    assert isinstance(record, lists.List)
    return lists.encoding_name(record)


@pytest.fixture
def limit() -> Iterator[None]:
    before = LIMITS.list_max_listpack_size
    yield
    LIMITS.list_max_listpack_size = before


# -- pushing and popping ---------------------------------------------------------------------------


def test_push_at_both_ends(listed: LocalClient) -> None:
    assert listed("RPUSH", "l", "x", "y") == SIZE + 2
    assert listed("LPUSH", "l", "a", "b", "") == SIZE + 5
    expected = [b"", b"b", b"a", *VALUES, b"x", b"y"]
    assert all_of(listed) == expected
    listed.reload()
    assert all_of(listed) == expected


def test_push_only_to_what_exists(listed: LocalClient) -> None:
    assert listed("RPUSHX", "l", "x", "y") == SIZE + 2
    assert listed("LPUSHX", "l", "a", "b") == SIZE + 4
    assert all_of(listed) == [b"b", b"a", *VALUES, b"x", b"y"]
    assert listed("LPUSHX", "no", "a") == listed("RPUSHX", "no", "a") == 0
    assert listed("LLEN", "no") == 0


def test_pop_at_both_ends(listed: LocalClient) -> None:
    model = list(VALUES)
    for step in range(SIZE):
        if step % 3:
            assert listed("LPOP", "l") == model.pop(0)
        else:
            assert listed("RPOP", "l") == model.pop()
        assert all_of(listed) == model
    assert listed("LPOP", "l") is None
    assert listed.client.keyspace.find(b"l") is None
    listed.reload()
    assert listed("RPOP", "l") is None


def test_pop_several(listed: LocalClient) -> None:
    assert listed("LPOP", "l", 3) == VALUES[:3]
    assert listed("RPOP", "l", 2) == [b"v59", b"v58"]
    assert listed("LPOP", "l", 0) == []
    listed.reload()
    assert all_of(listed) == VALUES[3:-2]
    assert listed("RPOP", "l", 50) == VALUES[-3:7:-1]
    assert listed("LPOP", "l", INTEGER_MAX) == VALUES[3:8]
    assert listed("LPOP", "l", 1) is None


def test_pop_what_is_missing(local: LocalClient) -> None:
    assert local.raw("LPOP", "no") == b"$-1\r\n"
    assert local.raw("LPOP", "no", 0) == local.raw("RPOP", "no", 2) == b"*-1\r\n"
    local.client.resp = 3
    assert local.raw("LPOP", "no") == local.raw("LPOP", "no", 2) == b"_\r\n"


def test_a_key_can_be_filled_and_drained_again_and_again(local: LocalClient) -> None:
    for left in (True, False):
        for _ in range(3):
            for n in range(200):
                local("RPUSH" if left else "LPUSH", "q", n)
            local.reload()
            for n in range(200):
                assert local("LPOP" if left else "RPOP", "q") == b"%d" % n
            assert local("DBSIZE") == 0


@pytest.mark.parametrize("count", [-1, "x", "", "1.0", INTEGER_MAX + 1])
def test_pop_counts_that_are_none(local: LocalClient, count: Any) -> None:
    local("SET", "s", 1)
    for key in ("no", "s"):
        assert local("LPOP", key, count) == local("RPOP", key, count) == NOT_POSITIVE
    assert local("LPOP", "no", 1, 1) == wrong_arity(b"lpop")
    assert local("RPOP", "no", 1, 1) == wrong_arity(b"rpop")


# -- moving ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("where_from", ["LEFT", "right"])
@pytest.mark.parametrize("where_to", ["left", "RIGHT"])
def test_move_between_lists(listed: LocalClient, where_from: str, where_to: str) -> None:
    model, other = list(VALUES), [b"x"]
    listed("RPUSH", "other", "x")
    for _ in range(SIZE):
        value = model.pop(0 if where_from == "LEFT" else -1)
        other.insert(0 if where_to == "left" else len(other), value)
        assert listed("LMOVE", "l", "other", where_from, where_to) == value
        assert all_of(listed, "other") == other
    assert listed("LMOVE", "l", "other", where_from, where_to) is None
    assert listed.client.keyspace.find(b"l") is None


def test_rotate(listed: LocalClient) -> None:
    assert listed("RPOPLPUSH", "l", "l") == b"v59"
    assert listed("LMOVE", "l", "l", "LEFT", "RIGHT") == b"v59"
    assert listed("LMOVE", "l", "l", "LEFT", "LEFT") == b"v0"
    assert all_of(listed) == VALUES
    listed("RPUSH", "one", "x")
    listed("LMOVE", "one", "one", "LEFT", "RIGHT")
    assert all_of(listed, "one") == [b"x"]
    listed.reload()
    assert all_of(listed, "one") == [b"x"]


def test_rotating_keeps_the_expiry(local: LocalClient) -> None:
    local("RPUSH", "k", "x")
    keyspace = local.client.keyspace
    record = keyspace.find(b"k")
    assert record is not None
    keyspace.set_expiry(b"k", record, local.clock.now_ms + 1000)
    assert local("RPOPLPUSH", "k", "k") == b"x"
    assert local("RPUSH", "k", "y") == 2
    local.clock.advance(999)
    assert local("LLEN", "k") == 2
    local.clock.advance(1)
    assert local("LLEN", "k") == 0
    assert local("RPUSH", "k", "new") == 1


def test_moves_that_fail_change_nothing(local: LocalClient) -> None:
    local("RPUSH", "l", "a", "b")
    local("SET", "s", 1)
    assert local("LMOVE", "l", "s", "LEFT", "LEFT") == WRONG_TYPE
    assert local("RPOPLPUSH", "l", "s") == local("RPOPLPUSH", "s", "l") == WRONG_TYPE
    assert local("LMOVE", "no", "s", "LEFT", "LEFT") is None
    assert local("RPOPLPUSH", "no", "s") is None
    assert local("LMOVE", "l", "l", "LEFT", "UP") == local("LMOVE", "s", "s", "x", "LEFT") == SYNTAX
    assert all_of(local) == [b"a", b"b"]


def test_pop_from_the_first_list_that_exists(listed: LocalClient) -> None:
    assert listed("LMPOP", 2, "no", "l", "LEFT") == [b"l", [b"v0"]]
    assert listed("LMPOP", 3, "no", "l", "m", "right", "count", 2) == [b"l", [b"v59", b"v58"]]
    assert listed("LMPOP", 1, "l", "LEFT", "COUNT", 1000) == [b"l", VALUES[1:-2]]
    assert listed.raw("LMPOP", 2, "no", "l", "LEFT") == b"*-1\r\n"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("0 l LEFT", NUMKEYS_NOT_POSITIVE),
        ("x l LEFT", NUMKEYS_NOT_POSITIVE),
        ("-1 l LEFT", NUMKEYS_NOT_POSITIVE),
        ("2 l LEFT", SYNTAX),
        ("3000000000 l LEFT", SYNTAX),
        ("1 l UP", SYNTAX),
        ("1 l LEFT COUNT", SYNTAX),
        ("1 l LEFT LIMIT 1", SYNTAX),
        ("1 l LEFT COUNT 1 COUNT 1", SYNTAX),
        ("1 l LEFT COUNT 0", COUNT_NOT_POSITIVE),
        ("1 l LEFT COUNT x", COUNT_NOT_POSITIVE),
        ("1 l LEFT COUNT x COUNT 1", COUNT_NOT_POSITIVE),
        ("2 no s LEFT", WRONG_TYPE),
    ],
)
def test_what_lmpop_refuses(local: LocalClient, words: str, error: CommandError) -> None:
    local("RPUSH", "l", "a")
    local("SET", "s", 1)
    assert local("LMPOP", *words.split()) == error
    assert local("BLMPOP", 0, *words.split()) == error
    assert all_of(local) == [b"a"]


# -- by rank ---------------------------------------------------------------------------------------


def test_ranges(listed: LocalClient) -> None:
    for first in (-1000, -SIZE, -SIZE + 1, -2, -1, 0, 1, 29, 30, SIZE - 1, SIZE, 1000):
        for last in (-1000, -SIZE, -SIZE + 1, -2, -1, 0, 1, 30, 31, SIZE - 1, SIZE, 1000):
            start = max(first + SIZE, 0) if first < 0 else first
            stop = (last + SIZE if last < 0 else last) + 1
            assert listed("LRANGE", "l", first, last) == VALUES[start : max(stop, 0)]
    assert listed("LRANGE", "l", -INTEGER_MAX - 1, INTEGER_MAX) == VALUES
    assert listed("LRANGE", "no", 0, -1) == []


def test_elements_by_rank(listed: LocalClient) -> None:
    for rank, value in enumerate(VALUES):
        assert listed("LINDEX", "l", rank) == listed("LINDEX", "l", rank - SIZE) == value
    assert listed("LINDEX", "l", SIZE) is None
    assert listed("LINDEX", "l", -SIZE - 1) is None
    assert listed("LINDEX", "no", "x") is None


def test_replace_by_rank(listed: LocalClient) -> None:
    model = list(VALUES)
    for rank in (0, 1, 29, 30, 31, SIZE - 1, -1, -2, -SIZE):
        assert listed("LSET", "l", rank, f"new{rank}") == b"OK"
        model[rank] = b"new%d" % rank
    assert all_of(listed) == model
    listed.reload()
    assert all_of(listed) == model
    assert listed("LSET", "l", SIZE, "x") == listed("LSET", "l", -SIZE - 1, "x") == INDEX_OUT_OF_RANGE
    assert all_of(listed) == model


@pytest.mark.parametrize(
    ("first", "last"),
    [(0, -1), (0, -2), (1, -1), (5, 40), (-20, -5), (59, 100), (0, 0), (-1, -1), (-1000, 30), (28, 32)],
)
def test_trim(listed: LocalClient, first: int, last: int) -> None:
    assert listed("LTRIM", "l", first, last) == b"OK"
    start = max(first + SIZE, 0) if first < 0 else first
    expected = VALUES[start : (last + SIZE if last < 0 else last) + 1]
    assert all_of(listed) == expected
    assert listed("RPUSH", "l", "x") == len(expected) + 1
    assert listed("LPUSH", "l", "a") == len(expected) + 2
    listed.reload()
    assert all_of(listed) == [b"a", *expected, b"x"]


@pytest.mark.parametrize(("first", "last"), [(60, 70), (5, 4), (-1, 0), (1000, -1), (0, -61)])
def test_trim_to_nothing(listed: LocalClient, first: int, last: int) -> None:
    assert listed("LTRIM", "l", first, last) == b"OK"
    assert listed.client.keyspace.find(b"l") is None
    assert listed("RPUSH", "l", "x") == 1
    listed.reload()
    assert all_of(listed) == [b"x"]


# -- by value --------------------------------------------------------------------------------------


def test_insert_beside_a_pivot(listed: LocalClient) -> None:
    model = list(VALUES)
    size = SIZE
    for pivot in ("v0", "v1", "v30", "v30", "v58", "v59"):
        for where in ("before", "AFTER"):
            size += 1
            assert listed("LINSERT", "l", where, pivot, f"new{size}") == size
            model.insert(model.index(pivot.encode()) + (where == "AFTER"), b"new%d" % size)
            assert all_of(listed) == model
    assert listed("LINSERT", "l", "BEFORE", "none", "x") == -1
    assert listed("LINSERT", "no", "BEFORE", "v1", "x") == 0
    assert listed("LINSERT", "l", "beside", "v1", "x") == SYNTAX
    listed.reload()
    assert all_of(listed) == model


def test_remove_by_value(listed: LocalClient) -> None:
    model = list(VALUES)
    assert listed("LREM", "l", 0, "none") == 0
    for value in ("v0", "v59", "v30", "v1", "v45", "v10"):
        assert listed("LREM", "l", 1, value) == 1
        model.remove(value.encode())
        assert all_of(listed) == model
    listed("LPUSH", "l", "x", "x", "x")
    listed("RPUSH", "l", "x", "y", "x")
    assert listed("LREM", "l", 2, "x") == 2
    assert all_of(listed) == [b"x", *model, b"x", b"y", b"x"]
    assert listed("LREM", "l", -1, "x") == 1
    assert all_of(listed) == [b"x", *model, b"x", b"y"]
    assert listed("LREM", "l", -7, "x") == 2
    listed.reload()
    assert all_of(listed) == [*model, b"y"]


def test_removing_the_last_element_removes_the_key(listed: LocalClient) -> None:
    listed("RPUSH", "same", *["x"] * 100)
    listed.reload()
    assert listed("LREM", "same", -30, "x") == 30
    assert listed("LREM", "same", 0, "x") == 70
    assert listed("DBSIZE") == 1


def test_ranks_of_a_value(local: LocalClient) -> None:
    local("RPUSH", "l", *"a b c 1 2 3 c c".split())
    for _ in range(2):
        assert local("LPOS", "l", "c") == 2
        assert local("LPOS", "l", "c", "RANK", 2) == 6
        assert local("LPOS", "l", "c", "RANK", -1) == 7
        assert local("LPOS", "l", "c", "RANK", 4) is None
        assert local("LPOS", "l", "c", "COUNT", 2) == [2, 6]
        assert local("LPOS", "l", "c", "COUNT", 0) == [2, 6, 7]
        assert local("LPOS", "l", "c", "count", 0, "rank", -2) == [6, 2]
        assert local("LPOS", "l", "c", "COUNT", 0, "MAXLEN", 7) == [2, 6]
        assert local("LPOS", "l", "c", "COUNT", 0, "MAXLEN", 7, "RANK", -1) == [7, 6, 2]
        assert local("LPOS", "l", "c", "COUNT", 0, "MAXLEN", 2) == []
        assert local("LPOS", "l", "c", "MAXLEN", 2, "MAXLEN", 3) == 2
        assert local("LPOS", "l", "none") is None
        assert local("LPOS", "l", "none", "COUNT", 1) == []
        local.reload()
    assert local("LPOS", "no", "c") is None
    assert local("LPOS", "no", "c", "COUNT", 1) == []


def test_ranks_in_every_form(listed: LocalClient) -> None:
    listed("RPUSH", "l", "v30", "v30")
    assert listed("LPOS", "l", "v30") == 30
    assert listed("LPOS", "l", "v30", "COUNT", 0) == [30, 60, 61]
    assert listed("LPOS", "l", "v30", "COUNT", 2, "RANK", -2) == [60, 30]
    assert listed("LPOS", "l", "v30", "COUNT", 0, "MAXLEN", 61) == [30, 60]
    assert listed("LPOS", "l", "v30", "COUNT", 0, "MAXLEN", 31, "RANK", -1) == [61, 60]
    assert listed("LPOS", "l", "v30", "COUNT", 0, "MAXLEN", 32, "RANK", -1) == [61, 60, 30]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("RANK", SYNTAX),
        ("NTH 1", SYNTAX),
        ("RANK 1 COUNT", SYNTAX),
        ("RANK x", NOT_AN_INTEGER),
        ("RANK -9223372036854775808", not_between(-INTEGER_MAX, INTEGER_MAX)),
        ("COUNT -1", COUNT_NEGATIVE),
        ("COUNT x", COUNT_NEGATIVE),
        ("MAXLEN -1", CommandError(b"ERR MAXLEN can't be negative")),
        (
            "RANK 0",
            CommandError(
                b"ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use "
                b"negative to start from the end of the list"
            ),
        ),
    ],
)
def test_what_lpos_refuses(local: LocalClient, words: str, error: CommandError) -> None:
    local("SET", "s", 1)
    for key in ("no", "s"):
        assert local("LPOS", key, "a", *words.split()) == error


# -- errors ----------------------------------------------------------------------------------------


def test_wrong_types(local: LocalClient) -> None:
    local("SET", "s", "x")
    for command in (
        *("LPUSH s a", "RPUSH s a", "LPUSHX s a", "RPUSHX s a", "LPOP s", "RPOP s 1", "LLEN s", "LINDEX s x"),
        *("LRANGE s 0 -1", "LSET s x y", "LINSERT s BEFORE a b", "LREM s 0 a", "LTRIM s 0 -1", "LPOS s a"),
        *("LMOVE s l LEFT LEFT", "RPOPLPUSH s l", "LMPOP 1 s LEFT", "BLPOP s 0", "BRPOP no s 0"),
        *("BLMOVE s l LEFT LEFT 0", "BRPOPLPUSH s l 0", "BLMPOP 0 2 no s LEFT"),
    ):
        assert local(*command.split()) == WRONG_TYPE, command
    assert local("GET", "s") == b"x"


def test_which_error_comes_first(local: LocalClient) -> None:
    local("SET", "s", "x")
    local("RPUSH", "l", "a")
    for command in (
        "LREM s x a",
        "LREM no x a",
        "LTRIM s x 0",
        "LTRIM no 0 x",
        "LRANGE s x 0",
        "LRANGE no 0 x",
    ):
        assert local(*command.split()) == NOT_AN_INTEGER, command
    assert local("LINDEX", "l", "x") == local("LSET", "l", "x", "y") == NOT_AN_INTEGER
    assert local("LSET", "no", "x", "y") == NO_SUCH_KEY
    assert local("LINSERT", "s", "beside", "a", "b") == SYNTAX


# -- events and encodings --------------------------------------------------------------------------


def test_events(local: LocalClient) -> None:
    found = heard(local)

    def after(*words: str) -> list[str]:
        found.clear()
        local(*words)
        return [f"{name.decode()} {key.decode()}" for name, key in found]

    assert after("RPUSH", "l", "a", "b", "c", "d") == ["rpush l"]
    assert after("LPUSH", "l", "x", "y") == ["lpush l"]
    assert after("LPUSHX", "l", "x") == ["lpush l"]
    assert after("RPUSHX", "no", "x") == []
    assert after("LPOP", "l") == ["lpop l"]
    assert after("RPOP", "l", "2") == ["rpop l"]
    assert after("LPOP", "l", "0") == []
    assert after("LINSERT", "l", "BEFORE", "a", "q") == ["linsert l"]
    assert after("LINSERT", "l", "BEFORE", "none", "q") == []
    assert after("LREM", "l", "0", "q") == ["lrem l"]
    assert after("LREM", "l", "0", "q") == []
    assert after("LSET", "l", "0", "a") == ["lset l"]
    assert after("LTRIM", "l", "0", "-1") == ["ltrim l"]
    assert after("LTRIM", "l", "0", "1") == ["ltrim l"]
    assert after("LMOVE", "l", "m", "LEFT", "RIGHT") == ["rpush m", "lpop l"]
    assert after("LMOVE", "l", "m", "RIGHT", "LEFT") == ["lpush m", "rpop l", "del l"]
    assert after("RPOPLPUSH", "m", "m") == ["lpush m", "rpop m"]
    assert after("LMPOP", "1", "m", "LEFT") == ["lpop m"]
    assert after("LMPOP", "1", "m", "RIGHT", "COUNT", "9") == ["rpop m", "del m"]
    local("RPUSH", "l", "a", "a")
    assert after("LTRIM", "l", "5", "6") == ["ltrim l", "del l"]
    local("RPUSH", "l", "a", "a")
    assert after("LREM", "l", "0", "a") == ["lrem l", "del l"]
    local("RPUSH", "l", "a")
    assert after("LPOP", "l") == ["lpop l", "del l"]
    local("RPUSH", "l", "a", "b")
    assert after("RPOP", "l", "7") == ["rpop l", "del l"]


def test_a_new_list_is_an_event_to_who_asked_for_it(local: LocalClient) -> None:
    found = heard(local)
    local.client.keyspace.listens = events.ALL | events.NEW
    local("RPUSH", "l", "a")
    local("RPUSH", "l", "a")
    assert found == [(b"new", b"l"), (b"rpush", b"l"), (b"rpush", b"l")]


def test_watched_lists(local: LocalClient) -> None:
    other = local.connect()
    for change, is_change in (
        *(("RPUSH l x", True), ("LPOP l", True), ("LSET l 0 a", True), ("LTRIM l 0 -1", True)),
        *(("LINSERT l AFTER b x", True), ("LINSERT l AFTER none x", False), ("LREM l 0 none", False)),
        *(("LREM l 0 b", True), ("LRANGE l 0 -1", False), ("LPOP l 0", False), ("LMOVE l l LEFT LEFT", True)),
        *(("RPOPLPUSH m l", True), ("RPOPLPUSH l m", True), ("LPUSHX l x", True)),
    ):
        local("RPUSH", "l", "a", "b", "c", "d")
        local("RPUSH", "m", "a")
        other("WATCH", "l")
        local(*change.split())
        other("MULTI")
        assert (other("EXEC") is None) == is_change, change
        local("LTRIM", "l", 1, 0)


def test_encodings(local: LocalClient, limit: None) -> None:
    local("RPUSH", "l", "a")
    assert encoding(local, b"l") == b"listpack"
    local("RPUSH", "l", "x" * 8190)
    assert encoding(local, b"l") == b"quicklist"
    local.reload()
    assert encoding(local, b"l") == b"quicklist"
    local("LREM", "l", 1, "a")
    assert encoding(local, b"l") == b"quicklist"
    local("LSET", "l", 0, "a")
    assert encoding(local, b"l") == b"listpack"
    local("LINSERT", "l", "BEFORE", "a", "x" * 8190)
    assert encoding(local, b"l") == b"quicklist"
    local("LTRIM", "l", 1, 1)
    assert encoding(local, b"l") == b"listpack"
    local("LSET", "l", 0, "x" * 9000)
    assert encoding(local, b"l") == b"quicklist"
    LIMITS.list_max_listpack_size = 3
    local("RPUSH", "n", 1, 2, 3)
    assert encoding(local, b"n") == b"listpack"
    local("LMOVE", "l", "n", "LEFT", "RIGHT")
    assert encoding(local, b"n") == b"quicklist"
    local("RPOP", "n", 2)
    assert encoding(local, b"n") == b"quicklist"
    local("LMOVE", "n", "m", "LEFT", "RIGHT")
    assert (encoding(local, b"n"), encoding(local, b"m")) == (b"listpack", b"listpack")


# -- everything ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_random_histories(local: LocalClient, seed: int) -> None:
    """Long histories on one list of some hundred elements, with reloads, against a Python list."""
    chance = random.Random(seed)
    model = [b"%d" % n for n in range(300)]
    local("RPUSH", "l", *model)
    for step in range(400):
        value = b"%d" % chance.randrange(300)
        rank = chance.randrange(len(model))
        match chance.randrange(9):
            case 0:
                assert local("LPUSH", "l", value) == len(model) + 1
                model.insert(0, value)
            case 1:
                assert local("RPUSH", "l", value, value) == len(model) + 2
                model += [value, value]
            case 2:
                assert local("LPOP", "l") == model.pop(0)
            case 3:
                assert local("RPOP", "l", 2) == [model.pop(), model.pop()]
            case 4:
                assert local("LSET", "l", rank, value) == b"OK"
                model[rank] = value
            case 5 | 6:
                pivot = model[rank]
                after = chance.random() < 0.5
                local("LINSERT", "l", "AFTER" if after else "BEFORE", pivot, value)
                model.insert(model.index(pivot) + after, value)
            case 7:
                assert local("LREM", "l", 1, value) == (value in model)
                if value in model:
                    model.remove(value)
            case 8:
                assert local("LRANGE", "l", rank, rank + 9) == model[rank : rank + 10]
                assert local("LINDEX", "l", rank) == model[rank]
        if step % 40 == 0:
            local.reload()
    assert all_of(local) == model

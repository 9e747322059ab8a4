"""Set commands: members, random draws, several sets, scans, encodings, events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest

from harness.local import LocalClient
from lamina.server import elements, events
from lamina.server.errors import (
    NOT_A_CURSOR,
    NOT_AN_INTEGER,
    NOT_POSITIVE,
    NUMKEYS_NOT_POSITIVE,
    NUMKEYS_TOO_LARGE,
    OUT_OF_RANGE,
    SYNTAX,
    WRONG_TYPE,
    CommandError,
)
from lamina.server.limits import LIMITS
from lamina.server.types import sets

MEMBERS = {b"m%d" % i for i in range(40)}


def never_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elements, "LOADED_AT_ONCE", -1)
    monkeypatch.setattr(elements, "LOADED_EVER", -1)


@pytest.fixture(params=["held", "loaded", "on disk"])
def filled(
    request: pytest.FixtureRequest, local: LocalClient, monkeypatch: pytest.MonkeyPatch
) -> LocalClient:
    """A client with the set `s` of 40 members m0..m39, in memory from the start, loaded, or never loaded."""
    assert local("SADD", "s", *sorted(MEMBERS)) == 40
    if request.param == "on disk":
        never_load(monkeypatch)
    if request.param != "held":
        local.reload()
    return local


def members(local: LocalClient, key: str) -> set[bytes]:
    found = local("SMEMBERS", key)
    assert len(set(found)) == len(found) == local("SCARD", key)
    return set(found)


def encoding(local: LocalClient, key: bytes) -> bytes:
    record = local.client.keyspace.find(key)
    assert isinstance(record, sets.Set)
    return sets.encoding_name(record)


def heard(local: LocalClient) -> list[tuple[bytes, bytes]]:
    """Listen to all events from now on, and return the list that they are added to."""
    found: list[tuple[bytes, bytes]] = []
    keyspace = local.client.keyspace
    keyspace.listens = events.ALL
    keyspace.databases.on_event = lambda keyspace, kind, name, key: found.append((name, key))
    return found


# --- Members


def test_adding_and_removing(filled: LocalClient) -> None:
    local = filled
    assert local("SADD", "s", "m1", "new", "m2", "new") == 1
    assert local("SADD", "s", "new") == 0
    assert local("SCARD", "s") == 41
    assert local("SREM", "s", "new", "missing", "m0", "m0") == 2
    assert members(local, "s") == MEMBERS - {b"m0"}
    local.reload()
    assert members(local, "s") == MEMBERS - {b"m0"}
    assert local("SREM", "s", *MEMBERS) == 39
    assert local("SCARD", "s") == 0
    assert local("SMEMBERS", "s") == []
    assert local("SREM", "s", "m1") == 0
    assert local("SADD", "s", b"", b"\0\xff\r\n") == 2
    assert members(local, "s") == {b"", b"\0\xff\r\n"}


def test_asking_for_members(filled: LocalClient) -> None:
    local = filled
    assert local("SISMEMBER", "s", "m7") == 1
    assert local("SISMEMBER", "s", "m70") == 0
    assert local("SISMEMBER", "missing", "m7") == 0
    assert local("SMISMEMBER", "s", "m1", "x", "m1", "") == [1, 0, 1, 0]
    assert local("SMISMEMBER", "missing", "m1", "x") == [0, 0]
    local.client.resp = 3
    assert local("SMEMBERS", "s") == MEMBERS
    assert local("SMEMBERS", "missing") == set()


def test_moving(filled: LocalClient) -> None:
    local = filled
    local("SET", "string", "x")
    assert local("SMOVE", "s", "t", "m1") == 1
    assert local("SMOVE", "s", "t", "m1") == 0
    assert local("SMOVE", "t", "s", "m1") == 1
    assert local("SCARD", "t") == 0
    assert local("SMOVE", "s", "s", "m1") == 1
    assert local("SMOVE", "s", "s", "x") == 0
    assert local("SMOVE", "missing", "string", "x") == 0
    assert local("SMOVE", "s", "string", "x") == WRONG_TYPE
    assert local("SMOVE", "string", "s", "x") == WRONG_TYPE
    local("SADD", "t", "m2")
    assert local("SMOVE", "s", "t", "m2") == 1
    assert members(local, "s") == MEMBERS - {b"m2"}
    assert members(local, "t") == {b"m2"}


def test_wrong_types(local: LocalClient) -> None:
    local("SET", "k", "x")
    commands = (
        "SADD k a|SREM k a|SCARD k|SISMEMBER k a|SMISMEMBER k a|SMEMBERS k|SPOP k|SPOP k 0|SRANDMEMBER k"
        "|SRANDMEMBER k 0|SSCAN k 0 COUNT 0|SINTER missing k|SUNION missing k|SDIFF missing k"
        "|SINTERSTORE t missing k|SUNIONSTORE t missing k|SDIFFSTORE t missing k|SINTERCARD 2 missing k"
    )
    for command in commands.split("|"):
        assert local(*command.split()) == WRONG_TYPE, command


# --- Draws


def test_popping(filled: LocalClient) -> None:
    local = filled
    popped = [local("SPOP", "s") for _ in range(5)]
    popped += local("SPOP", "s", 7)
    assert len(set(popped)) == 12
    assert members(local, "s") == MEMBERS - set(popped)
    assert local("SPOP", "s", 0) == []
    local.reload()
    popped += local("SPOP", "s", 27)
    assert local("SCARD", "s") == 1
    popped += local("SPOP", "s", 100)
    assert set(popped) == MEMBERS
    assert len(popped) == 40
    assert local("SPOP", "s") is None
    assert local("SPOP", "s", 3) == []
    assert local("SADD", "s", "x") == 1
    assert local("SPOP", "s") == b"x"
    assert local("SCARD", "s") == 0


def test_popping_errors_and_protocols(local: LocalClient) -> None:
    local("SADD", "s", "a", "b")
    assert local("SPOP", "s", -1) == NOT_POSITIVE
    assert local("SPOP", "s", "x") == NOT_POSITIVE
    assert local("SPOP", "s", 1, 2) == SYNTAX
    local.client.resp = 3
    assert local("SPOP", "s", 5) == {b"a", b"b"}
    assert local("SPOP", "s", 5) == set()
    assert local("SPOP", "s") is None


def test_drawing(filled: LocalClient) -> None:
    local = filled
    assert local("SRANDMEMBER", "s") in MEMBERS
    assert local("SRANDMEMBER", "missing") is None
    assert local("SRANDMEMBER", "missing", 5) == []
    assert local("SRANDMEMBER", "s", 0) == []
    some = local("SRANDMEMBER", "s", 15)
    assert len(some) == len(set(some)) == 15
    assert set(some) < MEMBERS
    assert sorted(local("SRANDMEMBER", "s", 100)) == sorted(MEMBERS)
    many = local("SRANDMEMBER", "s", -500)
    assert len(many) == 500
    assert set(many) <= MEMBERS
    # That each is as likely as any other: 12.5 times on the average, 0 times once in 250,000.
    assert min(Counter(many).values()) >= 1
    assert len(set(many)) >= 38
    assert local("SCARD", "s") == 40


def test_drawing_errors(local: LocalClient) -> None:
    local("SADD", "s", "a")
    assert local("SRANDMEMBER", "s", "x") == NOT_AN_INTEGER
    assert local("SRANDMEMBER", "s", 1, "x") == SYNTAX
    low = "-9223372036854775808"
    assert local("SRANDMEMBER", "s", low) == CommandError(
        b"ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807"
    )
    local.client.resp = 3
    assert local("SRANDMEMBER", "s", 1) == [b"a"]


# --- Several sets


NUMBERS = {
    "two": range(0, 400, 2),
    "three": range(0, 400, 3),
    "five": range(0, 100, 5),
    "none": range(0),
}


@pytest.fixture(params=["held", "loaded", "on disk"])
def numbered(
    request: pytest.FixtureRequest, local: LocalClient, monkeypatch: pytest.MonkeyPatch
) -> LocalClient:
    """A client with the sets of NUMBERS, in memory from the start, loaded, or never loaded."""
    for key, numbers in NUMBERS.items():
        if numbers:
            local("SADD", key, *numbers)
    if request.param == "on disk":
        never_load(monkeypatch)
    if request.param != "held":
        local.reload()
    return local


COMBINATIONS = [
    ["two"],
    ["two", "three"],
    ["three", "two", "five"],
    ["five", "two", "none"],
    ["none", "two"],
    ["two", "two", "three"],
    ["five", "five"],
    ["none"],
]


def as_bytes(numbers: Iterable[int]) -> set[bytes]:
    return {b"%d" % number for number in numbers}


@pytest.mark.parametrize("keys", COMBINATIONS)
def test_set_algebra(numbered: LocalClient, keys: list[str]) -> None:
    local = numbered
    inputs = [set(NUMBERS[key]) for key in keys]
    expected = {
        "SINTER": as_bytes(set.intersection(*inputs)),
        "SUNION": as_bytes(set.union(*inputs)),
        "SDIFF": as_bytes(inputs[0].difference(*inputs[1:])),
    }
    for command, result in expected.items():
        found = local(command, *keys)
        assert len(found) == len(result)
        assert set(found) == result
        local("SET", "target", "to be replaced")
        assert local(f"{command}STORE", "target", *keys) == len(result)
        assert members(local, "target") == result
        local.reload()
        assert members(local, "target") == result
        # The target may be among the sources.
        local("DEL", "target")
        local("SUNIONSTORE", "target", keys[0])
        assert local(f"{command}STORE", "target", "target", *keys[1:]) == len(result)
        assert members(local, "target") == result
    size = len(expected["SINTER"])
    assert local("SINTERCARD", len(keys), *keys) == size
    for limit in (0, 1, 3, 20, 1000):
        assert local("SINTERCARD", len(keys), *keys, "LIMIT", limit) == (min(limit, size) if limit else size)
    local.client.resp = 3
    for command, result in expected.items():
        assert local(command, *keys) == result


def test_sintercard_errors(local: LocalClient) -> None:
    local("SADD", "s", "a")
    negative = CommandError(b"ERR LIMIT can't be negative")
    errors = {
        "0 s": NUMKEYS_NOT_POSITIVE,
        "x s": NUMKEYS_NOT_POSITIVE,
        "-1 s": NUMKEYS_NOT_POSITIVE,
        "2 s": NUMKEYS_TOO_LARGE,
        "1 s LIMIT": SYNTAX,
        "1 s s": SYNTAX,
        "1 s LIMIT 1 nope": SYNTAX,
        "1 s LIMIT -1": negative,
        "1 s LIMIT x": negative,
    }
    for words, error in errors.items():
        assert local("SINTERCARD", *words.split()) == error, words
    assert local("SINTERCARD", "1", "s", "limit", "5", "LIMIT", "0") == 1


def test_an_intersection_reads_no_more_than_it_must(
    local: LocalClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The large set is never read, and of the small one no more than the limit asks for."""
    for start in range(0, 3000, 500):
        local("SADD", "large", *(f"m{i:05}" for i in range(start, start + 500)))
    local("SADD", "small", *(f"m{i:05}" for i in range(0, 3000, 3)))
    never_load(monkeypatch)
    local.reload()
    lookups: list[bytes] = []
    scanned: list[bytes] = []
    get, scan = type(local.server.databases.store).get, elements.Elements.scan

    def counted_get(store: object, key: bytes) -> bytes | None:
        lookups.append(key)
        return get(store, key)  # type: ignore[arg-type]

    def counted_scan(source: elements.Elements, *bounds: bytes) -> Iterable[tuple[bytes, bytes]]:
        for item in scan(source, *bounds):
            scanned.append(item[0])
            yield item

    monkeypatch.setattr(type(local.server.databases.store), "get", counted_get)
    monkeypatch.setattr(elements.Elements, "scan", counted_scan)
    assert local("SINTERCARD", 2, "large", "small", "LIMIT", 10) == 10
    assert len(scanned) <= 20
    assert len(lookups) <= 30
    scanned.clear()
    assert local("SINTERCARD", 2, "large", "small") == 1000
    assert len(scanned) == 1000


# --- SSCAN


def scan(local: LocalClient, *words: object) -> tuple[list[bytes], int]:
    """Return what a whole iteration finds, and how many calls it took."""
    cursor, found, calls = b"0", [], 0
    while True:
        cursor, items = local("SSCAN", "s", cursor, *words)
        found += items
        calls += 1
        if cursor == b"0":
            return found, calls


def test_small_sets_are_scanned_at_once(filled: LocalClient) -> None:
    local = filled
    found, calls = scan(local, "COUNT", 3)
    assert calls == 1
    assert set(found) == MEMBERS
    assert set(local("SSCAN", "s", 99, "MATCH", "m1?")[1]) == {b"m%d" % i for i in range(10, 20)}
    assert local("SSCAN", "missing", 0) == [b"0", []]


@pytest.mark.parametrize("is_loaded", [True, False])
def test_large_sets_are_scanned_in_pages(
    local: LocalClient, monkeypatch: pytest.MonkeyPatch, is_loaded: bool
) -> None:
    everything = {b"member:%d" % i for i in range(1000)}
    local("SADD", "s", *everything)
    if not is_loaded:
        never_load(monkeypatch)
        local.reload()
    for count in (1, 10, 99, 1000, 1 << 62):
        found, calls = scan(local, "COUNT", count)
        assert len(found) == 1000
        assert set(found) == everything
        assert calls == -(-1000 // min(count, 1000))
    found, calls = scan(local)
    assert (len(found), calls) == (1000, 100)
    found, calls = scan(local, "MATCH", "member:5*")
    assert (len(found), calls) == (111, 12)
    found, _ = scan(local, "MATCH", "*7", "COUNT", 50)
    assert set(found) == {member for member in everything if member.endswith(b"7")}


def test_what_stays_is_scanned_while_others_go(local: LocalClient) -> None:
    local("SADD", "s", *(f"{kind}{i}" for kind in ("stays", "goes") for i in range(300)))
    cursor, found, turn = b"0", set(), 0
    while True:
        cursor, items = local("SSCAN", "s", cursor, "COUNT", 7)
        found.update(items)
        local("SREM", "s", *(item for item in items if item.startswith(b"goes")), f"goes{turn}")
        if turn % 10 == 5:
            local.reload()
        turn += 1
        if cursor == b"0":
            break
    assert {member for member in found if member.startswith(b"stays")} == {b"stays%d" % i for i in range(300)}


def test_scan_errors(local: LocalClient) -> None:
    local("SADD", "s", "a")
    assert local("SSCAN", "s", "x") == NOT_A_CURSOR
    assert local("SSCAN", "missing", "x") == NOT_A_CURSOR
    assert local("SSCAN", "s", 0, "COUNT", 0) == SYNTAX
    assert local("SSCAN", "s", 0, "COUNT", "x") == NOT_AN_INTEGER
    assert local("SSCAN", "s", 0, "MATCH") == SYNTAX
    assert local("SSCAN", "s", 0, "TYPE", "set") == SYNTAX
    assert local("SSCAN", "missing", 0, "nope") == [b"0", []]


# --- Encodings


@pytest.mark.parametrize(
    ("added", "name"),
    [
        (["1", "2", "-9223372036854775808"], b"intset"),
        (["1", "a"], b"listpack"),
        (["01"], b"listpack"),
        (["9223372036854775808"], b"listpack"),
        (["a" * 64], b"listpack"),
        (["a" * 65], b"hashtable"),
        (["1", "a" * 65], b"hashtable"),
        ([str(i) for i in range(512)], b"intset"),
        ([str(i) for i in range(513)], b"hashtable"),
        (["x"] + [str(i) for i in range(127)], b"listpack"),
        (["x"] + [str(i) for i in range(128)], b"hashtable"),
        ([str(i) for i in range(127)] + ["x"], b"listpack"),
        ([str(i) for i in range(128)] + ["x"], b"hashtable"),
    ],
)
@pytest.mark.parametrize("one_by_one", [True, False])
def test_encodings(local: LocalClient, added: list[str], name: bytes, one_by_one: bool) -> None:
    if one_by_one:
        local.pipeline(*(("SADD", "s", member) for member in added))
    else:
        local("SADD", "s", *added)
    assert encoding(local, b"s") == name
    local.reload()
    assert encoding(local, b"s") == name
    # Redis stores results by the same rules.
    assert local("SUNIONSTORE", "t", "s") == len(added)
    assert encoding(local, b"t") == name


def test_encodings_change_one_way_only(local: LocalClient) -> None:
    local("SADD", "s", "1", "a", "b" * 65)
    assert encoding(local, b"s") == b"hashtable"
    local("SREM", "s", "a", "b" * 65)
    assert encoding(local, b"s") == b"hashtable"
    local("SINTERSTORE", "t", "s")
    assert encoding(local, b"t") == b"intset"
    local("SADD", "s", "a")
    local("SINTERSTORE", "t", "s")
    assert encoding(local, b"t") == b"hashtable"
    local("SDIFFSTORE", "t", "s")
    assert encoding(local, b"t") == b"listpack"
    local("SREM", "t", "a")
    assert encoding(local, b"t") == b"listpack"
    local("DEL", "s")
    local("SADD", "s", "1")
    assert encoding(local, b"s") == b"intset"
    local("SMOVE", "s", "u", "1")
    assert encoding(local, b"u") == b"intset"
    local("SADD", "u", *range(20), "x" * 65)
    local("SREM", "u", "x" * 65)
    local("SPOP", "u", 19)
    assert encoding(local, b"u") == b"intset"


def test_what_a_call_might_add_decides_the_encoding(local: LocalClient) -> None:
    local("SADD", "s", *["a"] * 129)
    assert local("SCARD", "s") == 1
    assert encoding(local, b"s") == b"hashtable"
    local("SADD", "i", *["1"] * 513)
    assert encoding(local, b"i") == b"hashtable"
    local("SADD", "j", "1")
    local("SADD", "j", *["1"] * 513)
    assert encoding(local, b"j") == b"hashtable"
    local("SADD", "l", "a")
    local("SADD", "l", *["a"] * 129)
    assert encoding(local, b"l") == b"hashtable"


def test_the_limits_are_configuration_parameters(local: LocalClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LIMITS, "set_intset_entries", 2)
    monkeypatch.setattr(LIMITS, "set_listpack_entries", 3)
    monkeypatch.setattr(LIMITS, "set_listpack_value", 4)
    local("SADD", "s", "1")
    local("SADD", "s", "2")
    assert encoding(local, b"s") == b"intset"
    local("SADD", "s", "3")
    assert encoding(local, b"s") == b"hashtable"
    local.pipeline(*(("SADD", "t", member) for member in ("a", "b", "1234")))
    assert encoding(local, b"t") == b"listpack"
    local("SADD", "t", "c")
    assert encoding(local, b"t") == b"hashtable"
    local("SADD", "u", "12345")
    assert encoding(local, b"u") == b"intset"
    local("SADD", "u", "a")
    assert encoding(local, b"u") == b"hashtable"


# --- Events


def test_events(local: LocalClient) -> None:
    found = heard(local)
    local("SADD", "s", "a", "b", "c")
    local("SADD", "s", "a")
    local("SREM", "s", "a", "x")
    local("SREM", "s", "x")
    local("SMOVE", "s", "t", "b")
    local("SMOVE", "s", "t", "c")
    assert found == [
        (b"sadd", b"s"),
        (b"srem", b"s"),
        *((b"srem", b"s"), (b"sadd", b"t")),
        *((b"srem", b"s"), (b"del", b"s"), (b"sadd", b"t")),
    ]
    found.clear()
    local("SINTERSTORE", "i", "t")
    local("SUNIONSTORE", "u", "t", "i")
    local("SDIFFSTORE", "d", "t", "missing")
    local("SDIFFSTORE", "d", "t", "i")
    local("SDIFFSTORE", "d", "t", "i")
    assert found == [
        *((b"sinterstore", b"i"), (b"sunionstore", b"u"), (b"sdiffstore", b"d")),
        (b"del", b"d"),
    ]
    found.clear()
    local("SPOP", "u")
    local("SPOP", "u")
    local("SPOP", "i", 1)
    local("SPOP", "i", 1)
    local("SPOP", "t", 5)
    local("SPOP", "t", 5)
    expected = [(b"spop", b"u"), (b"spop", b"u"), (b"del", b"u")]
    expected += [(b"spop", b"i"), (b"spop", b"i"), (b"del", b"i"), (b"spop", b"t"), (b"del", b"t")]
    assert found == expected


def test_srandmember_repeats_no_more_than_fits_into_memory(local: LocalClient) -> None:
    local("SADD", "s", "a")
    assert local("SRANDMEMBER", "s", -(1 << 24) - 1) == OUT_OF_RANGE
    assert local("SRANDMEMBER", "s", -3) == [b"a"] * 3

"""Expiry of hash fields: HEXPIRE and its relatives, and what other commands make of fields that expire."""

from __future__ import annotations

import random
from typing import Any

import pytest

from harness.local import LocalClient, Servers
from lamina.server import elements, events, expiry
from lamina.server.errors import NOT_AN_INTEGER, WRONG_TYPE, CommandError, invalid_expire_time
from lamina.server.keyspace import Keyspace
from lamina.server.records import Collection
from lamina.server.types import hashes

NOW_MS = 1_700_000_000_000

NO_FIELD, NO_TIME, NOT_MET, DONE, DELETED = -2, -1, 0, 1, 2


@pytest.fixture(params=["held", "loaded", "on disk"])
def hashed(
    request: pytest.FixtureRequest, local: LocalClient, monkeypatch: pytest.MonkeyPatch
) -> LocalClient:
    """A client with the hash `h`: f0 to f9 expire in 100 to 1000 ms, g0 to g9 never."""
    local("HSET", "h", *(text for i in range(10) for text in (f"f{i}", i, f"g{i}", i)))
    for i in range(10):
        assert local("HPEXPIRE", "h", 100 + 100 * i, "FIELDS", 1, f"f{i}") == [DONE]
    if request.param == "on disk":
        monkeypatch.setattr(elements, "LOADED_AT_ONCE", -1)
        monkeypatch.setattr(elements, "LOADED_EVER", -1)
    if request.param != "held":
        local.reload()
    return local


@pytest.fixture
def heard(local: LocalClient) -> list[bytes]:
    """Names of the events at `h`, from now on."""
    found: list[bytes] = []

    def listen(keyspace: Keyspace, kind: int, name: bytes, key: bytes) -> None:
        if key == b"h":
            found.append(name)

    local.client.keyspace.listens = events.ALL
    local.client.keyspace.databases.on_event = listen
    return found


def ttls(local: LocalClient, key: str, *fields: str) -> Any:
    return local("HPTTL", key, "FIELDS", len(fields), *fields)


def record_of(local: LocalClient, key: bytes = b"h") -> hashes.Hash:
    record = local.client.keyspace.find(key)
    assert isinstance(record, hashes.Hash)
    return record


def indexed(local: LocalClient) -> int:
    return local.client.keyspace.count_hashes_expiring()


# --- The commands


def test_times_are_told(hashed: LocalClient) -> None:
    hashed.clock.advance(1)
    words = ("FIELDS", 4, "f4", "g1", "none", "f9")
    assert hashed("HPTTL", "h", *words) == [499, NO_TIME, NO_FIELD, 999]
    assert hashed("HTTL", "h", *words) == [1, NO_TIME, NO_FIELD, 1]
    assert hashed("HPEXPIRETIME", "h", *words) == [NOW_MS + 500, NO_TIME, NO_FIELD, NOW_MS + 1000]
    assert hashed("HEXPIRETIME", "h", *words) == [NOW_MS // 1000 + 1, NO_TIME, NO_FIELD, NOW_MS // 1000 + 1]


def test_times_are_set_in_four_units(hashed: LocalClient) -> None:
    assert hashed("HEXPIRE", "h", 7, "FIELDS", 1, "g0") == [DONE]
    assert hashed("HPEXPIRE", "h", 7000, "fields", 1, "g1") == [DONE]
    assert hashed("HEXPIREAT", "h", NOW_MS // 1000 + 7, "FIELDS", 1, "g2") == [DONE]
    assert hashed("HPEXPIREAT", "h", NOW_MS + 7000, "Fields", 1, "f0") == [DONE]
    hashed.reload()
    assert ttls(hashed, "h", "g0", "g1", "g2", "f0", "f1") == [7000, 7000, 7000, 7000, 200]


@pytest.mark.parametrize(
    ("condition", "has_time", "has_none"),
    [
        # to 100 ms, to 200 ms (as it is), to 300 ms
        ("NX", [NOT_MET, NOT_MET, NOT_MET], DONE),
        ("XX", [DONE, DONE, DONE], NOT_MET),
        ("GT", [NOT_MET, NOT_MET, DONE], NOT_MET),
        ("LT", [DONE, NOT_MET, NOT_MET], DONE),
    ],
)
def test_conditions(hashed: LocalClient, condition: str, has_time: list[int], has_none: int) -> None:
    for expires_ms, expected in zip((100, 200, 300), has_time, strict=True):
        hashed("HPEXPIRE", "h", 200, "FIELDS", 1, "f1")
        hashed("HPERSIST", "h", "FIELDS", 1, "g1")
        reply = hashed("HPEXPIRE", "h", expires_ms, condition.lower(), "FIELDS", 3, "f1", "g1", "none")
        assert reply == [expected, has_none, NO_FIELD]
        assert ttls(hashed, "h", "f1", "g1") == [
            expires_ms if expected else 200,
            expires_ms if has_none else NO_TIME,
        ]


def test_a_time_that_has_come_deletes(hashed: LocalClient, heard: list[bytes]) -> None:
    assert hashed("HPEXPIRE", "h", 0, "FIELDS", 3, "f1", "none", "f1") == [DELETED, NO_FIELD, NO_FIELD]
    assert hashed("HEXPIREAT", "h", 1, "NX", "FIELDS", 2, "f2", "g2") == [NOT_MET, DELETED]
    assert hashed("HEXPIREAT", "h", 0, "LT", "FIELDS", 2, "f2", "g3") == [DELETED, DELETED]
    assert hashed("HMGET", "h", "f1", "f2", "g2", "g3", "f3") == [None, None, None, None, b"3"]
    assert heard == [b"hdel"] * 3


def test_a_time_that_has_come_deletes_the_last_field(local: LocalClient, heard: list[bytes]) -> None:
    local("HSET", "h", "f", 1)
    assert local("HEXPIRE", "h", 0, "FIELDS", 2, "f", "f") == [DELETED, NO_FIELD]
    assert local("DBSIZE") == 0
    assert heard == [b"hset", b"hdel", b"del"]


def test_persist(hashed: LocalClient, heard: list[bytes]) -> None:
    assert hashed("HPERSIST", "h", "FIELDS", 4, "f1", "f1", "g1", "none") == [
        DONE,
        NO_TIME,
        NO_TIME,
        NO_FIELD,
    ]
    assert hashed("HPERSIST", "h", "FIELDS", 1, "g1") == [NO_TIME]
    assert heard == [b"hpersist"]
    assert hashed("HPERSIST", "h", "FIELDS", 10, *(f"f{i}" for i in range(10))).count(DONE) == 9
    assert indexed(hashed) == 0
    hashed.clock.advance(10_000)
    assert hashed("HLEN", "h") == 20


def test_no_such_key(local: LocalClient) -> None:
    for command in (
        ("HEXPIRE", "no", 1),
        ("HPEXPIRE", "no", 1, "NX"),
        ("HEXPIREAT", "no", 1),
        ("HPEXPIREAT", "no", 1),
        ("HTTL", "no"),
        ("HPTTL", "no"),
        ("HEXPIRETIME", "no"),
        ("HPEXPIRETIME", "no"),
        ("HPERSIST", "no"),
    ):
        assert local(*command, "FIELDS", 2, "f", "f") == [NO_FIELD, NO_FIELD]


_MISSING = CommandError(b"ERR Mandatory argument FIELDS is missing or not at the right position")
_NOT_POSITIVE = CommandError(b"ERR Parameter `numFields` should be greater than 0")
_COUNT = CommandError(b"ERR Number of fields must be a positive integer")
_NOT_AS_MANY = CommandError(b"ERR The `numfields` parameter must match the number of arguments")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("1", "FIELD", 1, "f"), _MISSING),
        (("1", "NX", "XX", "FIELDS", 1, "f"), _MISSING),
        (("1", "FIELDS", 0, "f"), _NOT_POSITIVE),
        (("1", "FIELDS", "x", "f"), _NOT_POSITIVE),
        (("1", "NX", "FIELDS", -1, "f"), _NOT_POSITIVE),
        (("1", "FIELDS", 2, "f"), _NOT_AS_MANY),
        (("1", "FIELDS", 1, "f", "g"), _NOT_AS_MANY),
        (("1", "NX", "FIELDS", 1), _NOT_AS_MANY),
        (("1", "FIELDS", 1 << 62, "f"), _NOT_AS_MANY),
        (("x", "FIELD", 0, "f"), NOT_AN_INTEGER),
        (("-1", "FIELD", 0, "f"), CommandError(b"ERR invalid expire time, must be >= 0")),
    ],
)
def test_expiry_refused(local: LocalClient, words: tuple[Any, ...], error: CommandError) -> None:
    local("HSET", "h", "f", "v")
    for name in ("HEXPIRE", "HPEXPIRE", "HEXPIREAT", "HPEXPIREAT"):
        assert local(name, "h", *words) == error
        assert local(name, "no", *words) == error
    assert ttls(local, "h", "f") == [NO_TIME]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("FIELD", 1, "f"), _MISSING),
        (("FIELDS", 0, "f"), _COUNT),
        (("FIELDS", "x", "f"), _COUNT),
        (("FIELDS", 2, "f"), _NOT_AS_MANY),
        (("FIELDS", 1, "f", "g"), _NOT_AS_MANY),
    ],
)
def test_questions_refused(local: LocalClient, words: tuple[Any, ...], error: CommandError) -> None:
    local("HSET", "h", "f", "v")
    for name in ("HTTL", "HPTTL", "HEXPIRETIME", "HPEXPIRETIME", "HPERSIST"):
        assert local(name, "h", *words) == error
        assert local(name, "no", *words) == error


def test_wrong_type_comes_before_wrong_syntax(local: LocalClient) -> None:
    local("SET", "k", "text")
    for name in ("HEXPIRE", "HPEXPIRE", "HEXPIREAT", "HPEXPIREAT"):
        assert local(name, "k", "x", "FIELD", 0, "f") == WRONG_TYPE
    for name in ("HTTL", "HPTTL", "HEXPIRETIME", "HPEXPIRETIME", "HPERSIST"):
        assert local(name, "k", "FIELD", 0, "f") == WRONG_TYPE


def test_the_latest_time(local: LocalClient) -> None:
    local("HSET", "h", "f", "v")
    latest = (1 << 46) - 1
    assert local("HPEXPIREAT", "h", latest, "FIELDS", 1, "f") == [DONE]
    assert local("HPEXPIREAT", "h", latest + 1, "FIELDS", 1, "f") == invalid_expire_time(b"hpexpireat")
    assert local("HEXPIREAT", "h", latest // 1000 + 1, "FIELDS", 1, "f") == invalid_expire_time(b"hexpireat")
    assert local("HPEXPIRE", "h", latest - NOW_MS, "FIELDS", 1, "f") == [DONE]
    assert local("HPEXPIRE", "h", latest - NOW_MS + 1, "FIELDS", 1, "f") == invalid_expire_time(b"hpexpire")
    assert local("HEXPIRE", "h", (1 << 63) - 1, "FIELDS", 1, "f") == invalid_expire_time(b"hexpire")
    assert local("HPEXPIRETIME", "h", "FIELDS", 1, "f") == [latest]


# --- What other commands see and do


def test_expired_fields_are_not_seen(hashed: LocalClient) -> None:
    hashed.clock.advance(499)
    assert hashed("HGET", "h", "f4") == b"4"
    hashed.clock.advance(1)
    assert hashed("HGET", "h", "f4") is None
    hashed.clock.advance(100)
    assert hashed("HMGET", "h", "f0", "f5", "f6", "g0") == [None, None, b"6", b"0"]
    hashed.clock.advance(100)
    assert hashed("HEXISTS", "h", "f6") == 0
    assert hashed("HSTRLEN", "h", "f6") == 0
    assert hashed("HLEN", "h") == 13
    hashed.clock.advance(100)
    left = [b"f8", b"f9", *(b"g%d" % i for i in range(10))]
    assert sorted(hashed("HKEYS", "h")) == left
    assert len(hashed("HVALS", "h")) == 12
    assert sorted(hashed("HGETALL", "h")[::2]) == left
    hashed.clock.advance(100)
    assert sorted(hashed("HSCAN", "h", 0)[1][::2]) == left[1:]
    assert sorted(hashed("HRANDFIELD", "h", 100)) == left[1:]
    hashed.clock.advance(100)
    assert ttls(hashed, "h", "f9", "g9") == [NO_FIELD, NO_TIME]
    assert indexed(hashed) == 0


@pytest.mark.parametrize(
    ("command", "reply", "value"),
    [
        (("HSET", "h", "f0", "x"), 1, b"x"),
        (("HSETNX", "h", "f0", "x"), 1, b"x"),
        (("HINCRBY", "h", "f0", 5), 5, b"5"),
        (("HINCRBYFLOAT", "h", "f0", "0.5"), b"0.5", b"0.5"),
        (("HDEL", "h", "f0"), 0, None),
        (("HPEXPIRE", "h", 5, "FIELDS", 1, "f0"), [NO_FIELD], None),
        (("HPERSIST", "h", "FIELDS", 1, "f0"), [NO_FIELD], None),
    ],
)
def test_writing_to_an_expired_field(
    hashed: LocalClient, command: tuple[Any, ...], reply: Any, value: bytes | None
) -> None:
    hashed.clock.advance(100)
    assert hashed(*command) == reply
    assert hashed("HGET", "h", "f0") == value
    assert ttls(hashed, "h", "f0", "f1") == [NO_FIELD if value is None else NO_TIME, 100]


def test_what_keeps_a_time_and_what_does_not(hashed: LocalClient) -> None:
    hashed("HINCRBY", "h", "f0", 1)
    hashed("HINCRBYFLOAT", "h", "f1", 1)
    hashed("HSETNX", "h", "f2", "x")
    hashed("HSET", "h", "f3", "x", "g3", "x", "f4", "x")
    hashed("HSET", "h", "f5", "x")
    hashed("HMSET", "h", "f6", "x")
    hashed("HDEL", "h", "f7")
    hashed("HSET", "h", "f7", "x")
    hashed.reload()
    fields = [f"f{i}" for i in range(8)]
    assert ttls(hashed, "h", *fields) == [100, 200, 300, *[NO_TIME] * 5]


def test_the_key_goes_with_its_last_field(local: LocalClient, heard: list[bytes]) -> None:
    local("HSET", "h", "f", 1, "g", 1)
    local("HPEXPIRE", "h", 10, "FIELDS", 1, "f")
    local("HPEXPIRE", "h", 20, "FIELDS", 1, "g")
    local.clock.advance(10)
    local("HMGET", "h", "f", "g")
    local.clock.advance(10)
    assert local("HLEN", "h") == 0
    assert heard == [b"hset", b"hexpire", b"hexpire", b"hexpired", b"hexpired", b"del"]
    assert local("DBSIZE") == indexed(local) == 0
    assert local("HSET", "h", "f", 1) == 1
    assert ttls(local, "h", "f") == [NO_TIME]


def test_several_fields_expire_with_one_event(hashed: LocalClient, heard: list[bytes]) -> None:
    hashed.clock.advance(500)
    hashed("HMGET", "h", "f0", "f1", "f2")
    assert heard == [b"hexpired"]
    assert hashed.client.keyspace.databases.expired_fields == 5


def test_active_expiry(hashed: LocalClient, heard: list[bytes]) -> None:
    hashed("HSET", "other", "f", 1)
    hashed("HPEXPIRE", "other", 300, "FIELDS", 1, "f")
    hashed.wait_out(99)
    assert heard == []
    hashed.wait_out(201)
    assert heard == [b"hexpired"]
    assert record_of(hashed).size == 17
    assert hashed("DBSIZE") == 1
    hashed.wait_out(1000)
    assert record_of(hashed).size == 10
    assert indexed(hashed) == 0
    assert hashed.client.keyspace.databases.expired_fields == 11


@pytest.mark.parametrize("cycle_s_max", [0, 1])
def test_active_expiry_of_many(
    make_local: Servers, monkeypatch: pytest.MonkeyPatch, cycle_s_max: float
) -> None:
    """Whatever the time for a cycle, each removes some, and the last leaves nothing that is due."""
    monkeypatch.setattr(expiry, "_FIELDS_AT_ONCE", 32)
    monkeypatch.setattr(expiry, "_CYCLE_S_MAX", cycle_s_max)
    local = make_local.make()
    for h in range(3):
        fields = [f"f{i}" for i in range(240 + 5 * h)]
        local("HSET", f"h{h}", *(text for i in range(250) for text in (f"f{i}", i)))
        local("HPEXPIRE", f"h{h}", 50, "FIELDS", len(fields), *fields)
    local.clock.advance(50)
    cycles = 1
    while not local.server.cron.run():
        local.turn()
        cycles += 1
    assert (cycles > 5) == (cycle_s_max == 0)
    assert local.client.keyspace.databases.expired_fields == 240 + 245 + 250
    assert local("DBSIZE") == 2
    assert [record_of(local, key).size for key in (b"h0", b"h1")] == [10, 5]


def test_no_command_removes_more_than_its_share(make_local: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """With very many expired fields every command still sees none, but leaves most to be removed later."""
    monkeypatch.setattr(hashes, "_SETTLED_AT_ONCE", 20)
    local = make_local.make()
    fields = [f"f{i:03}" for i in range(300)]
    local("HSET", "h", "stays", 1, *(text for field in fields for text in (field, 1)))
    local("HPEXPIRE", "h", 50, "FIELDS", len(fields), *fields)
    local.clock.advance(50)
    assert local("HGET", "h", "f299") is None
    assert record_of(local).size == 301 - 20 - 1
    assert local("HEXISTS", "h", "f298") == 0
    assert local("HMGET", "h", "f297", "stays", "f296", "f297") == [None, b"1", None, None]
    local("HSET", "h", "f295", 2)
    assert ttls(local, "h", "f295", "f294") == [NO_TIME, NO_FIELD]
    assert local("HDEL", "h", "f293", "f295") == 1
    assert record_of(local).size > 150
    assert local("HLEN", "h") == 1
    assert record_of(local).size > 150
    assert scanned(local, "h") == [b"stays", b"1"]
    assert record_of(local).size > 1
    assert local("HRANDFIELD", "h", 5) == [b"stays"]
    assert record_of(local).size == 1


def scanned(local: LocalClient, key: str) -> list[bytes]:
    """Return what one call that looks at everything finds."""
    cursor, items = local("HSCAN", key, 0, "COUNT", 1000)
    assert cursor == b"0"
    return list(items)


def test_while_nothing_can_be_removed(hashed: LocalClient) -> None:
    """A disk that takes no writes: expired fields then only look removed."""
    databases = hashed.client.keyspace.databases
    hashed.clock.advance(1000)
    databases.is_writable = False
    assert hashed("HLEN", "h") == 10
    assert hashed("HGET", "h", "f1") is None
    assert sorted(hashed("HKEYS", "h")) == [b"g%d" % i for i in range(10)]
    assert ttls(hashed, "h", "f1", "g1") == [NO_FIELD, NO_TIME]
    assert sorted(hashed("HSCAN", "h", 0, "NOVALUES")[1]) == [b"g%d" % i for i in range(10)]
    assert set(hashed("HRANDFIELD", "h", -50)) <= {b"g%d" % i for i in range(10)}
    assert record_of(hashed).size == 20
    databases.is_writable = True
    assert hashed("HLEN", "h") == 10
    assert record_of(hashed).size == 10


def test_removing_and_replacing_the_key(local: LocalClient) -> None:
    for command in (("DEL", "h"), ("SET", "h", "text"), ("FLUSHALL",)):
        local("HSET", "h", "f", 1)
        local("HPEXPIRE", "h", 10, "FIELDS", 1, "f")
        assert indexed(local) == 1
        local(*command)
        assert indexed(local) == 0
        local("DEL", "h")


def test_renaming_and_copying_keep_times(hashed: LocalClient) -> None:
    keyspace = hashed.client.keyspace
    keyspace.put(b"target", b"text")
    keyspace.rename(b"h", record_of(hashed), b"target")
    assert indexed(hashed) == 1
    hashed.reload()
    assert ttls(hashed, "target", "f1", "g1") == [200, NO_TIME]
    keyspace = hashed.client.keyspace
    copy = record_of(hashed, b"target").clone(keyspace)
    keyspace.put(b"copy", copy)
    elsewhere = hashed.server.databases.keyspaces[1]
    elsewhere.put(b"target", record_of(hashed, b"target").clone(elsewhere))
    assert indexed(hashed) == 2
    hashed("HPERSIST", "target", "FIELDS", 1, "f1")
    hashed("DEL", "target")
    hashed.reload()
    assert ttls(hashed, "copy", "f1", "g1") == [200, NO_TIME]
    hashed.wait_out(500)
    assert hashed("HLEN", "copy") == 15
    assert elsewhere.count_hashes_expiring() == 1
    record = elsewhere.find(b"target")
    assert isinstance(record, Collection)
    assert record.size == 15


def test_swapping_databases_takes_times_along(hashed: LocalClient) -> None:
    one, other = hashed.server.databases.keyspaces[:2]
    hashed.server.databases.swap(one, other)
    assert one.count_hashes_expiring() == 0
    assert other.count_hashes_expiring() == 1
    hashed.wait_out(300)
    record = other.find(b"h")
    assert isinstance(record, hashes.Hash)
    assert record.size == 17


def test_keys_and_fields_expire_side_by_side(hashed: LocalClient) -> None:
    keyspace = hashed.client.keyspace
    keyspace.set_expiry(b"h", record_of(hashed), NOW_MS + 450)
    assert (keyspace.count_expiring(), indexed(hashed)) == (1, 1)
    hashed.reload()
    assert ttls(hashed, "h", "f5") == [600]
    hashed.wait_out(400)
    assert hashed("HLEN", "h") == 16
    hashed.wait_out(50)
    assert hashed("DBSIZE") == 0
    assert (keyspace.count_expiring(), indexed(hashed)) == (0, 0)


def test_encoding(local: LocalClient) -> None:
    local("HSET", "h", "f", 1)
    local("HPEXPIRE", "h", 100, "FIELDS", 1, "none")
    assert hashes.encoding_name(record_of(local)) == b"listpackex"
    local.reload()
    assert hashes.encoding_name(record_of(local)) == b"listpackex"
    local("HSET", "h", "f", "v" * 65)
    assert hashes.encoding_name(record_of(local)) == b"hashtable"
    local("HPEXPIRE", "h", 100, "FIELDS", 1, "f")
    assert hashes.encoding_name(record_of(local)) == b"hashtable"


def test_watchers_are_told_of_times(local: LocalClient) -> None:
    changed: list[bytes] = []
    local("HSET", "h", "f", 1, "g", 1)
    keyspace = local.client.keyspace
    keyspace.is_observed = True
    keyspace.databases.on_change = lambda keyspace, key: changed.append(key)
    for command, is_change in (
        (("HPEXPIRE", "h", 100, "FIELDS", 1, "f"), True),
        (("HPEXPIRE", "h", 200, "NX", "FIELDS", 1, "f"), False),
        (("HPEXPIRE", "h", 200, "FIELDS", 1, "none"), False),
        (("HPERSIST", "h", "FIELDS", 1, "f"), True),
        (("HPERSIST", "h", "FIELDS", 1, "f"), False),
        (("HTTL", "h", "FIELDS", 1, "f"), False),
        (("HPEXPIRE", "h", 0, "FIELDS", 1, "f"), True),
    ):
        local(*command)
        assert changed == [b"h"] * is_change, command
        changed.clear()
    keyspace.is_observed = False


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("is_held", [True, False], ids=["held", "on disk"])
def test_against_a_model(
    make_local: Servers, monkeypatch: pytest.MonkeyPatch, seed: int, is_held: bool
) -> None:
    """Random histories over few fields, compared with two dictionaries."""
    if not is_held:
        monkeypatch.setattr(elements, "LOADED_AT_ONCE", -1)
        monkeypatch.setattr(elements, "LOADED_EVER", -1)
    local = make_local.make()
    chance = random.Random(seed)
    names = [f"f{i}" for i in range(8)]
    values: dict[str, str] = {}
    times: dict[str, int] = {}
    for step in range(400):
        field = chance.choice(names)
        expires_ms = local.clock.now_ms + chance.randrange(60)
        action = chance.randrange(9)
        if action < 2:
            local("HSET", "h", field, step)
            values[field] = str(step)
            times.pop(field, None)
        elif action == 2:
            is_there = field in values
            assert local("HDEL", "h", field) == is_there
            values.pop(field, None)
            times.pop(field, None)
        elif action < 6:
            reply = local("HPEXPIREAT", "h", expires_ms, "FIELDS", 1, field)
            if field not in values:
                assert reply == [NO_FIELD]
            elif expires_ms > local.clock.now_ms:
                assert reply == [DONE]
                times[field] = expires_ms
            else:
                assert reply == [DELETED]
                del values[field]
                times.pop(field, None)
        elif action == 6:
            reply = local("HPERSIST", "h", "FIELDS", 1, field)
            assert reply == [DONE if times.pop(field, None) else NO_TIME if field in values else NO_FIELD]
        elif action == 7:
            local.clock.advance(chance.randrange(30))
            if chance.random() < 0.5:
                local.wait_out(0)
        else:
            local.reload()
        for name, at_ms in list(times.items()):
            if at_ms <= local.clock.now_ms:
                del times[name], values[name]
        expected = [NO_FIELD if name not in values else times.get(name, NO_TIME) for name in names]
        assert local("HPEXPIRETIME", "h", "FIELDS", len(names), *names) == expected
        if step % 7 == 0:
            flat = local("HGETALL", "h")
            assert {name.decode(): value.decode() for name, value in zip(flat[::2], flat[1::2])} == values
        assert local("HLEN", "h") == len(values)
        assert local("DBSIZE") == bool(values)
        assert indexed(local) == bool(times)

"""Reading the elements of many collections together gives what reading each alone gives."""

from __future__ import annotations

import random
from typing import Any

import pytest

from harness.local import LocalClient
from harness.rdbfiles import plain
from lamina.server import rdbvalues, readahead
from lamina.server.encoding import U64, prefix_of
from lamina.server.rdbvalues import read_keys, value_of
from lamina.server.readahead import ReadAhead

LIMITS = [
    {},
    {"_GAP_MAX": 0},
    {"_GAP_MAX": 1000},
    {"_GAP_MAX": 1000, "_PASSED_MAX": 3},
    {"_ELEMENT_BYTES_MAX": 200},
    {"_ELEMENTS_MAX": 40},
    {"BATCH_RECORDS": 7},
    {"_SIZE_MAX": 2},
]


def fill(local: LocalClient, *, seed: int) -> None:
    """Make collections of all types and sizes, in any order, and remove many."""
    chance = random.Random(seed)
    names = [f"k{number:03}" for number in range(250)]
    chance.shuffle(names)
    for name in names:
        count = chance.choice((1, 2, 5, 20, 20, 300))
        words = chance.sample(range(10_000), count)
        match chance.randrange(6):
            case 0:
                local("RPUSH", name, *words)
                local("LPOP", name, count // 2)
            case 1:
                local("SADD", name, *words)
            case 2:
                local("ZADD", name, *[word for number in words for word in (number / 4 - 300, number)])
            case 3:
                local("HSET", name, *[word for number in words for word in (number, f"value {number}")])
            case 4:
                local("HSET", name, *[word for number in words for word in (number, number)])
                local("HPEXPIRE", name, 100_000, "FIELDS", 1, words[0])
            case _:
                local("SET", name, "x" * count)
        if chance.random() < 0.3:
            local("PEXPIRE", name, 1_000_000)
    local("DEL", *chance.sample(names, 60))


@pytest.mark.parametrize("limits", LIMITS, ids=str)
def test_all_elements_are_found(
    local: LocalClient, monkeypatch: pytest.MonkeyPatch, limits: dict[str, int]
) -> None:
    fill(local, seed=len(str(limits)))
    local.turn()
    keyspace = local.server.databases.keyspaces[0]
    source = local.server.databases.store
    expected: dict[bytes, Any] = {}
    for keys, raws in keyspace.scan_keys():
        for key, raw in zip(keys, raws):
            value = value_of(source, keyspace.pdb, raw)
            assert value is not None
            expected[key] = plain(value)
    for name, limit in limits.items():
        monkeypatch.setattr(readahead, name, limit)
        if hasattr(rdbvalues, name):
            monkeypatch.setattr(rdbvalues, name, limit)
    found = {item.key: plain(item.value) for item in read_keys(source, keyspace.pdb, 0)}
    assert found == expected
    # Those that were not gone through must not disturb those that come after them.
    assert [item.key for item in read_keys(source, keyspace.pdb, 0)] == sorted(expected)


def test_what_is_held_is_bounded_and_whole(local: LocalClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readahead, "_ELEMENT_BYTES_MAX", 5000)
    for number in range(200):
        local("HSET", f"h{number}", *[word for i in range(20) for word in (i, "x" * 20)])
    local.turn()
    keyspace = local.server.databases.keyspaces[0]
    raws = [raw for _, some in keyspace.scan_keys() for raw in some]
    ahead = ReadAhead(local.server.databases.store.chunks, keyspace.pdb, raws)
    assert 5 < len(ahead._held) < 30
    assert all(len(keys) == len(values) == 20 for keys, values in ahead._held.values())


def test_a_large_collection_in_between_is_not_read(local: LocalClient) -> None:
    local("SADD", "a", 1, 2)
    local("SADD", "large", *range(20_000))
    local("SADD", "b", 3, 4)
    local.reload()
    keyspace = local.server.databases.keyspaces[0]
    store = local.server.databases.store
    raws = [raw for _, some in keyspace.scan_keys() for raw in some]
    read: list[int] = []

    def scan(start: bytes, stop: bytes) -> Any:
        for keys, values in store.chunks(start, stop):
            read.append(len(keys))
            yield keys, values

    ahead = ReadAhead(scan, keyspace.pdb, raws)
    assert sum(read) < 5000
    elements = prefix_of(keyspace.pdb, b"e")
    assert [len(keys) for keys, _ in ahead._held.values()] == [2]
    assert ahead.rows(elements + U64.pack(1 << 40), elements + U64.pack(1 << 41)) is None

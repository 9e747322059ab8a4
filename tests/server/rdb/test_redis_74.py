"""What a redis-server 7.4.1 wrote: payloads and a file, kept in tests/data/rdb with what they hold below.

Sets as listpacks, streams of the third form and fields that expire are not in 7.0, which other tests run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.rdbfiles import items_of, plain
from lamina.server.rdb import opcodes, payload
from lamina.server.rdb.rules import SavingRules
from lamina.server.rdb.values import (
    Key,
    Pending,
    StreamConsumer,
    StreamEntry,
    StreamGroup,
    StreamState,
)

LINES = (Path(__file__).parents[2] / "data/rdb/redis-7.4.1.txt").read_text().splitlines()
BYTES = {name: bytes.fromhex(text) for name, text in (line.split() for line in LINES if line[0] != "#")}

SECOND_MS = 1795642961354
READ_MS = 1795642961355
EXPECTED: dict[str, tuple[int, Any]] = {
    "set": (opcodes.SET_LISTPACK, ("set", {b"a", b"bb", b"5"})),
    "zset": (opcodes.ZSET_LISTPACK, ("zset", {b"low": -5.0, b"tenth": 0.1, b"huge": 1e300})),
    "list": (opcodes.LIST_QUICKLIST_2, ("list", [b"a", b"x" * 9000, b"300", b"b"])),
    "hash-listpack": (
        opcodes.HASH_LISTPACK_EX,
        (
            "timed hash",
            {b"a": (b"1", 33333333333330), b"b": (b"2", 33333333333333), b"never": (b"x", 0)},
        ),
    ),
    "hash-table": (
        opcodes.HASH_METADATA,
        (
            "timed hash",
            {b"a": (b"1", 33333333333340), b"b": (b"2", 33333333333333), b"never": (b"x", 0)},
        ),
    ),
    "hash-early": (
        opcodes.HASH_METADATA,
        ("timed hash", {b"a": (b"1", 33333333333340), b"b": (b"2", 33333333333350)}),
    ),
    "hash-persisted": (opcodes.HASH, ("hash", {b"a": b"1"})),
    "stream": (
        opcodes.STREAM_LISTPACKS_3,
        (
            "stream",
            [
                *(
                    StreamEntry((at, 1), [b"t", b"%d" % at, b"name", b"x" * at])
                    for at in range(1, 6)
                    if at != 2
                ),
                StreamEntry((6, 0), [b"other", b"fields"]),
            ],
            StreamState(5, (6, 0), (1, 1), (2, 1), 6),
            {
                b"g": StreamGroup(
                    b"g",
                    (4, 1),
                    -1,
                    [
                        StreamConsumer(b"idle", SECOND_MS, -1, []),
                        StreamConsumer(
                            b"reader", READ_MS, READ_MS, [Pending((at, 1), READ_MS, 1) for at in (1, 3, 4)]
                        ),
                    ],
                ),
                b"lost": StreamGroup(b"lost", (4, 1), -1, []),
            },
        ),
    ),
}
NAMES = pytest.mark.parametrize("name", list(EXPECTED))


@NAMES
def test_payloads(name: str) -> None:
    code, expected = EXPECTED[name]
    assert BYTES[name][0] == code
    assert plain(payload.decode(BYTES[name])) == expected


def test_the_file() -> None:
    found = {item.key: item.value for item in items_of(BYTES["file"]) if isinstance(item, Key)}
    assert found == {name.encode(): value for name, (_, value) in EXPECTED.items()}


@pytest.mark.parametrize("name", ["set", "hash-listpack", "hash-table", "hash-persisted"])
def test_payloads_are_written_byte_for_byte(name: str) -> None:
    """The others hold strings that Redis has compressed, or traces of what was deleted."""
    entries = 512 if name == "hash-listpack" else 0
    rules = SavingRules(version=opcodes.REDIS_74, hash_listpack_entries=entries)
    mine = payload.encode(payload.decode(BYTES[name]), rules)
    if name == "hash-listpack":
        # Redis had not noticed that the earliest time had changed, and nothing reads it.
        assert (mine[:1], mine[9:-8]) == (BYTES[name][:1], BYTES[name][9:-8])
    else:
        assert mine == BYTES[name]


@NAMES
def test_all_but_fields_that_expire_can_be_written_for_earlier_versions(name: str) -> None:
    value = payload.decode(BYTES[name])
    for version in (opcodes.REDIS_70, opcodes.REDIS_72):
        if EXPECTED[name][1][0] == "timed hash":
            with pytest.raises(ValueError, match="fields that expire"):
                payload.encode(value, SavingRules(version=version))
        else:
            written = payload.encode(value, SavingRules(version=version))
            assert written[-10:-8] == version.to_bytes(2, "little")
            if name != "stream":
                assert plain(payload.decode(written)) == EXPECTED[name][1]

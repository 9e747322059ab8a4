"""The stream commands: in memory, after a reload, and with nothing of groups held in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.local import LocalClient, Servers
from lamina.server import elements, events
from lamina.server.errors import CommandError
from lamina.server.rdb import opcodes, payload
from lamina.server.rdb.rules import SavingRules
from lamina.server.rdb.values import (
    Pending,
    StreamConsumer,
    StreamEntry,
    StreamGroup,
    StreamState,
    StreamValue,
)

Call = Callable[..., Any]

WRONG_TYPE = CommandError(b"WRONGTYPE Operation against a key holding the wrong kind of value")
SYNTAX = CommandError(b"ERR syntax error")
NO_ID = CommandError(b"ERR Invalid stream ID specified as stream command argument")
SMALL = CommandError(b"ERR The ID specified in XADD is equal or smaller than the target stream top item")

ENTRIES = [
    [b"1-1", [b"a", b"1"]],
    [b"2-0", [b"b", b"2", b"c", b"3"]],
    [b"2-5", [b"d", b"4"]],
    [b"9-0", [b"e", b""]],
]


def error(text: str) -> CommandError:
    return CommandError(text.encode())


@pytest.fixture(params=["held", "loaded", "on disk"])
def call(request: pytest.FixtureRequest, local: LocalClient, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs a command, given as one line; the data is in the form that the parameter names."""
    if request.param == "on disk":
        monkeypatch.setattr(elements, "LOADED_AT_ONCE", -1)
        monkeypatch.setattr(elements, "LOADED_EVER", -1)

    def run(line: str) -> Any:
        if request.param != "held":
            local.reload()
        return local(*("" if word == "''" else word for word in line.split(" ")))

    return run


@pytest.fixture
def four(call: Call) -> Call:
    """The same, with a stream `s` of four entries."""
    for line in ("1-1 a 1", "2-0 b 2 c 3", "2-5 d 4", "9-0 e ''"):
        call(f"XADD s {line}")
    return call


@pytest.fixture
def shared(four: Call) -> Call:
    """The same, with a group `g` of `s`, of which `ann` has two entries pending, and `bob` one."""
    four("XGROUP CREATE s g 0")
    four("XREADGROUP GROUP g ann COUNT 2 STREAMS s >")
    four("XREADGROUP GROUP g bob COUNT 1 STREAMS s >")
    return four


@pytest.fixture
def heard(local: LocalClient) -> list[tuple[bytes, bytes]]:
    """The events that are published, by name and key."""
    seen: list[tuple[bytes, bytes]] = []
    local.server.databases.on_event = lambda keyspace, kind, name, key: seen.append((name, key))
    local.client.keyspace.listens = events.ALL
    return seen


# --- Entries


def test_ids(call: Call, local: LocalClient) -> None:
    now_ms = local.clock.now_ms
    assert call("XADD s * f v") == b"%d-0" % now_ms
    assert call("XADD s * f v") == b"%d-1" % now_ms
    local.clock.advance(-1000)
    assert call("XADD s * f v") == b"%d-2" % now_ms, "the clock may go backwards"
    assert call(f"XADD s {now_ms}-* f v") == b"%d-3" % now_ms
    assert call(f"XADD s {now_ms + 1}-* f v") == b"%d-0" % (now_ms + 1)
    assert call(f"XADD s {now_ms}-* f v") == call(f"XADD s {now_ms} f v") == SMALL
    assert call("XADD s x f v") == call("XADD s 1-x f v") == call("XADD s -1 f v") == NO_ID
    assert call("XADD t 0-0 f v") == error("ERR The ID specified in XADD must be greater than 0-0")
    assert call("XADD t 0-* f v") == b"0-1"
    assert call("XADD t 5 f") == error("ERR wrong number of arguments for 'xadd' command")
    largest = (1 << 64) - 1
    assert call(f"XADD t {largest}-{largest} f v") == b"%d-%d" % (largest, largest)
    assert call("XADD t * f v") == error(
        "ERR The stream has exhausted the last possible ID, unable to add more items"
    )
    assert call("XADD missing NOMKSTREAM * f v") is None
    assert call("EXISTS missing") == 0


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("XRANGE s - +", ENTRIES),
        ("XREVRANGE s + -", ENTRIES[::-1]),
        ("XRANGE s 2 2", ENTRIES[1:3]),
        ("XRANGE s (1-1 (9-0", ENTRIES[1:3]),
        ("XRANGE s 2-1 + COUNT 1", ENTRIES[2:3]),
        ("XREVRANGE s (9-0 - COUNT 2", ENTRIES[2:0:-1]),
        ("XRANGE s 9-0 1-1", []),
        ("XRANGE s - + COUNT 0", None),
        ("XRANGE s - + COUNT -1", None),
        ("XRANGE missing - +", []),
        (
            "XRANGE s (18446744073709551615-18446744073709551615 +",
            error("ERR invalid start ID for the interval"),
        ),
        ("XRANGE s - (0-0", error("ERR invalid end ID for the interval")),
        ("XRANGE s - + COUNT", SYNTAX),
        ("XREAD STREAMS s 2-0", [[b"s", ENTRIES[2:]]]),
        ("XREAD COUNT 1 STREAMS s missing 0 0", [[b"s", ENTRIES[:1]]]),
        ("XREAD STREAMS s $", None),
        ("XREAD STREAMS s +", [[b"s", ENTRIES[3:]]]),
        ("XREAD STREAMS s", error("ERR wrong number of arguments for 'xread' command")),
        (
            "XREAD STREAMS s >",
            error(
                "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> "
                "<consumer> option."
            ),
        ),
        ("XLEN s", 4),
        ("XLEN missing", 0),
        ("XDEL s 1-1 2-0 2-0 5", 2),
        ("XTRIM s MAXLEN 1", 3),
        ("XTRIM s MINID 2-1", 2),
        ("XTRIM s MAXLEN ~ 1", 0),
        (
            "XTRIM s MAXLEN = 1 LIMIT 5",
            error("ERR syntax error, LIMIT cannot be used without the special ~ option"),
        ),
        ("XADD s MAXLEN 2 10-0 f v", b"10-0"),
        ("TYPE s", b"stream"),
        ("OBJECT ENCODING s", b"stream"),
        ("SCAN 0 TYPE stream", [b"0", [b"s"]]),
        ("SORT s", WRONG_TYPE),
        ("GET s", WRONG_TYPE),
    ],
)
def test_replies(four: Call, line: str, expected: Any) -> None:
    assert four(line) == expected


def test_trimming_and_deleting(four: Call, local: LocalClient) -> None:
    assert four("XDEL s 2-0") == 1
    assert four("XRANGE s - +") == [ENTRIES[0], *ENTRIES[2:]]
    assert four("XADD s MAXLEN 2 10-0 f v") == b"10-0"
    assert [entry[0] for entry in four("XRANGE s - +")] == [b"9-0", b"10-0"]
    assert four("XTRIM s MAXLEN 0") == 2
    assert four("EXISTS s") == 1, "an empty stream is a key"
    assert four("XADD s 10-0 f v") == SMALL
    assert four("XSETID s 20-5 ENTRIESADDED 100 MAXDELETEDID 7-0") == b"OK"
    facts = four("XINFO STREAM s")
    assert dict(zip(facts[::2], facts[1::2])) == {
        b"length": 0,
        b"radix-tree-keys": 0,
        b"radix-tree-nodes": 1,
        b"last-generated-id": b"20-5",
        b"max-deleted-entry-id": b"7-0",
        b"entries-added": 100,
        b"recorded-first-entry-id": b"0-0",
        b"groups": 0,
        b"first-entry": None,
        b"last-entry": None,
    }
    assert four("XSETID s 5-0") == error(
        "ERR The ID specified in XSETID is smaller than current max_deleted_entry_id"
    )
    assert four("XADD s 20-5 f v") == SMALL
    assert four("DEL s") == 1


# --- Groups


def test_a_group_shares_entries_out(shared: Call, local: LocalClient) -> None:
    assert shared("XPENDING s g") == [3, b"1-1", b"2-5", [[b"ann", b"2"], [b"bob", b"1"]]]
    assert shared("XREADGROUP GROUP g bob STREAMS s >") == [[b"s", ENTRIES[3:]]]
    assert shared("XREADGROUP GROUP g bob STREAMS s >") is None
    assert shared("XREADGROUP GROUP g bob STREAMS s 0") == [[b"s", ENTRIES[2:]]]
    local.clock.advance(500)
    assert shared("XREADGROUP GROUP g bob COUNT 1 STREAMS s 2-5") == [[b"s", ENTRIES[3:]]]
    assert shared("XPENDING s g - + 10") == [
        [b"1-1", b"ann", 500, 1],
        [b"2-0", b"ann", 500, 1],
        [b"2-5", b"bob", 500, 2],
        [b"9-0", b"bob", 0, 3],
    ]
    assert shared("XPENDING s g IDLE 100 (1-1 + 10 ann") == [[b"2-0", b"ann", 500, 1]]
    assert shared("XPENDING s g - + 10 nobody") == []
    assert shared("XACK s g 1-1 1-1 2-5 77") == 2
    assert shared("XACK s missing 1-1") == 0
    assert shared("XPENDING s g") == [2, b"2-0", b"9-0", [[b"ann", b"1"], [b"bob", b"1"]]]
    assert shared("XINFO GROUPS s") == [
        [
            *(b"name", b"g", b"consumers", 2, b"pending", 2, b"last-delivered-id", b"9-0"),
            *(b"entries-read", 4, b"lag", 0),
        ]
    ]
    assert shared("XGROUP DELCONSUMER s g ann") == 1
    assert shared("XGROUP DELCONSUMER s g ann") == 0
    assert shared("XGROUP SETID s g 2-0") == b"OK"
    assert shared("XREADGROUP GROUP g cid STREAMS s >") == [[b"s", ENTRIES[2:]]]
    assert shared("XPENDING s g") == [2, b"2-5", b"9-0", [[b"cid", b"2"]]]
    assert shared("XGROUP DESTROY s g") == 1
    assert shared("XPENDING s g") == error("NOGROUP No such key 's' or consumer group 'g'")
    assert shared("XGROUP CREATE s g $") == b"OK"
    assert shared("XPENDING s g") == [0, None, None, None]


def test_noack_leaves_nothing_pending(four: Call) -> None:
    four("XGROUP CREATE s g 0")
    assert four("XREADGROUP GROUP g ann COUNT 3 NOACK STREAMS s >") == [[b"s", ENTRIES[:3]]]
    assert four("XPENDING s g") == [0, None, None, None]
    assert four("XINFO CONSUMERS s g")[0][7] == -1, "it was never given anything to keep"


def test_claiming(shared: Call, local: LocalClient) -> None:
    local.clock.advance(1000)
    assert shared("XCLAIM s g cid 5000 1-1") == []
    assert shared("XCLAIM s g cid 500 1-1 9-0 JUSTID") == [b"1-1"]
    assert shared("XCLAIM s g cid 0 9-0 FORCE RETRYCOUNT 7 IDLE 300") == [ENTRIES[3]]
    assert shared("XPENDING s g - + 9 cid") == [[b"1-1", b"cid", 0, 1], [b"9-0", b"cid", 300, 7]]
    assert shared("XDEL s 2-0") == 1
    assert shared("XCLAIM s g cid 0 2-0") == []
    assert shared("XPENDING s g")[0] == 3, "an entry that is gone is pending no longer"
    assert shared("XCLAIM s g cid 0 1-1 LASTID 50-0 NOPE") == error("ERR Unrecognized XCLAIM option 'NOPE'")
    assert shared("XCLAIM s g cid 0 1-1 LASTID 50-0 JUSTID") == [b"1-1"]
    assert shared("XINFO GROUPS s")[0][7] == b"50-0"
    assert shared("XCLAIM s nope cid 0 1-1") == error("NOGROUP No such key 's' or consumer group 'nope'")


def test_claiming_what_is_idle(shared: Call, local: LocalClient) -> None:
    shared("XREADGROUP GROUP g bob STREAMS s >")
    shared("XDEL s 2-0")
    local.clock.advance(100)
    assert shared("XAUTOCLAIM s g cid 500 0") == [b"0-0", [], [b"2-0"]]
    assert shared("XAUTOCLAIM s g cid 50 - COUNT 2") == [b"9-0", [ENTRIES[0], ENTRIES[2]], []]
    assert shared("XAUTOCLAIM s g cid 50 9-0 JUSTID") == [b"0-0", [b"9-0"], []]
    assert shared("XPENDING s g - + 9") == [
        [b"1-1", b"cid", 0, 2],
        [b"2-5", b"cid", 0, 2],
        [b"9-0", b"cid", 0, 1],
    ]
    assert shared("XAUTOCLAIM s g cid 0 0 COUNT 0") == error("ERR COUNT must be > 0")


def test_consumers_are_seen_and_active(shared: Call, local: LocalClient) -> None:
    local.clock.advance(5000)
    shared("XGROUP CREATECONSUMER s g cid")
    shared("XREADGROUP GROUP g ann STREAMS s 0")
    consumers = {one[1]: one for one in shared("XINFO CONSUMERS s g")}
    assert consumers[b"ann"] == [b"name", b"ann", b"pending", 2, b"idle", 0, b"inactive", 5000]
    assert consumers[b"bob"] == [b"name", b"bob", b"pending", 1, b"idle", 5000, b"inactive", 5000]
    assert consumers[b"cid"] == [b"name", b"cid", b"pending", 0, b"idle", 0, b"inactive", -1]
    full = shared("XINFO STREAM s FULL COUNT 1")
    (group,) = full[full.index(b"groups") + 1]
    assert group[group.index(b"pending") + 1] == [[b"1-1", b"ann", local.clock.now_ms, 2]]
    ann = group[group.index(b"consumers") + 1][0]
    now_ms = local.clock.now_ms
    assert ann[2:8] == [b"seen-time", now_ms, b"active-time", now_ms - 5000, b"pel-count", 2]
    assert ann[9] == [[b"1-1", now_ms, 2]]


def test_groups_go_where_the_stream_goes(shared: Call) -> None:
    expected = shared("XPENDING s g - + 10"), shared("XINFO GROUPS s")
    assert shared("COPY s t") == 1
    assert shared("RENAME s u") == b"OK"
    assert shared("MOVE u 3") == 1
    assert shared("SWAPDB 0 3") == b"OK"
    assert (shared("XPENDING u g - + 10"), shared("XINFO GROUPS u")) == expected
    assert shared("DEL u") == 1
    assert shared("SWAPDB 0 3") == b"OK"
    assert (shared("XPENDING t g - + 10"), shared("XINFO GROUPS t")) == expected
    assert shared("FLUSHDB") == b"OK"
    assert shared("DBSIZE") == 0


@pytest.mark.parametrize(
    "line",
    [
        *("XGROUP CREATE missing g $", "XGROUP SETID missing g 0", "XGROUP DESTROY missing g"),
        *("XGROUP CREATECONSUMER missing g c", "XGROUP DELCONSUMER missing g c"),
    ],
)
def test_groups_need_a_stream(call: Call, line: str) -> None:
    reply = call(line)
    assert isinstance(reply, CommandError)
    assert reply.message.startswith(b"ERR The XGROUP subcommand requires the key to exist.")
    assert call("XGROUP CREATE missing g $ MKSTREAM") == b"OK"
    assert call("XGROUP CREATE missing g $ MKSTREAM") == error("BUSYGROUP Consumer Group name already exists")


def test_wrong_types(call: Call) -> None:
    call("RPUSH l x")
    for line in (
        *("XADD l * f v", "XLEN l", "XRANGE l - +", "XREVRANGE l + -", "XDEL l 1-1", "XTRIM l MAXLEN 1"),
        *("XSETID l 1-1", "XREAD STREAMS l 0", "XREADGROUP GROUP g c STREAMS l >", "XACK l g 1-1"),
        *("XPENDING l g", "XCLAIM l g c 0 1-1", "XAUTOCLAIM l g c 0 0", "XINFO STREAM l", "XINFO GROUPS l"),
        *("XGROUP CREATE l g $", "XGROUP SETID l g 0", "XGROUP DESTROY l g", "XINFO CONSUMERS l g"),
        *("XGROUP CREATECONSUMER l g c", "XGROUP DELCONSUMER l g c"),
    ):
        assert call(line) == WRONG_TYPE, line
    assert call("LRANGE l 0 -1") == [b"x"]


def test_help(local: LocalClient) -> None:
    for name in ("XGROUP", "XINFO"):
        assert local(name, "HELP")[0].startswith(name.encode() + b" <subcommand>")
        assert isinstance(local(name, "NOPE", "s"), CommandError)


def test_events(local: LocalClient, heard: list[tuple[bytes, bytes]]) -> None:
    for line in (
        *("XADD s MAXLEN 1 1-1 f v", "XADD s MAXLEN 1 2-1 f v", "XGROUP CREATE s g 0"),
        *("XREADGROUP GROUP g c STREAMS s >", "XACK s g 2-1", "XGROUP CREATECONSUMER s g d", "XSETID s 9-9"),
        *("XGROUP DELCONSUMER s g d", "XGROUP SETID s g 0", "XGROUP DESTROY s g", "XDEL s 2-1", "XDEL s 2-1"),
    ):
        local(*line.split())
    assert [name.decode() for name, _ in heard if name not in (b"new", b"keymiss")] == [
        *(
            "xadd",
            "xadd",
            "xtrim",
            "xgroup-create",
            "xgroup-createconsumer",
            "xgroup-createconsumer",
            "xsetid",
        ),
        *("xgroup-delconsumer", "xgroup-setid", "xgroup-destroy", "xdel"),
    ]


def test_maps_in_resp3(shared: Call, local: LocalClient) -> None:
    local.client.resp = 3
    assert local("XREAD", "STREAMS", "s", "2-5") == {b"s": ENTRIES[3:]}
    assert local("XREADGROUP", "GROUP", "g", "ann", "STREAMS", "s", "1-1") == {b"s": ENTRIES[1:2]}
    local("XDEL", "s", "2-0")
    assert local.raw("XREADGROUP", "GROUP", "g", "ann", "STREAMS", "s", "1-1").endswith(b"2-0\r\n_\r\n")
    assert local("XINFO", "STREAM", "s")[b"length"] == 3
    assert local("XINFO", "GROUPS", "s")[0][b"lag"] == 1
    assert local.raw("XREAD", "STREAMS", "s", "$") == b"_\r\n"


# --- Waiting


def test_readers_wait_in_turn(local: LocalClient) -> None:
    clients = [local.connect() for _ in range(4)]
    local("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
    for n, client in enumerate(clients[:3]):
        client.raw("XREADGROUP", "GROUP", "g", f"c{n}", "COUNT", 1, "BLOCK", 0, "STREAMS", "s", ">")
    clients[3].raw("XREAD", "BLOCK", 0, "STREAMS", "t", "s", "$", "$")
    local("XADD", "s", "1-1", "f", "v")
    told = [client.pushed() for client in clients]
    entry = [[[b"s", [[b"1-1", [b"f", b"v"]]]]]]
    assert told == [entry, [], [], entry]
    local("XGROUP", "DESTROY", "s", "g")
    gone = error("NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option")
    assert [client.pushed() for client in clients] == [[], [gone], [gone], []]


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        (("DEL", "s"), b"NOGROUP"),
        (("SET", "s", "v"), b"WRONGTYPE"),
        (("RENAME", "s", "t"), b"NOGROUP"),
        (("FLUSHALL",), b"NOGROUP"),
        (("PEXPIREAT", "s", 1), b"NOGROUP"),
    ],
)
def test_readers_of_a_group_hear_that_it_is_gone(
    local: LocalClient, ending: tuple[Any, ...], code: bytes
) -> None:
    local("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
    reader, other = local.connect(), local.connect()
    reader.raw("XREADGROUP", "GROUP", "g", "c", "BLOCK", 0, "STREAMS", "s", ">")
    other.raw("XREAD", "BLOCK", 0, "STREAMS", "s", "$")
    local(*ending)
    (reply,) = reader.pushed()
    assert isinstance(reply, CommandError)
    assert reply.code == code
    assert other.pushed() == []


def test_waiting_has_an_end(local: LocalClient) -> None:
    local("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
    assert local.raw("XREADGROUP", "GROUP", "g", "c", "BLOCK", 50, "STREAMS", "s", ">") == b""
    local.wait_out(51)
    assert local.pushed() == [None]
    assert local("XREADGROUP", "GROUP", "g", "c", "BLOCK", 0, "STREAMS", "s", 0) == [[b"s", []]]
    assert local.pipeline(("MULTI",), ("XREAD", "BLOCK", 0, "STREAMS", "s", "$"), ("EXEC",))[-1] == [None]


# --- Payloads


ANN = StreamConsumer(b"ann", 1000, 2000, [Pending((1, 1), 500, 3)])


@pytest.mark.parametrize(
    ("version", "active_ms"), [(opcodes.REDIS_70, 1000), (opcodes.REDIS_72, 2000), (opcodes.REDIS_74, 2000)]
)
def test_payloads_of_every_version(local: LocalClient, version: int, active_ms: int) -> None:
    state = StreamState(2, (5, 0), (1, 1), (4, 4), 9)
    entries = [StreamEntry((1, 1), [b"f", b"v"]), StreamEntry((2, 0), [b"f", b"w"])]
    value = StreamValue([entries], 2, state, [StreamGroup(b"g", (1, 1), 7, [ANN])])
    data = payload.encode(value, SavingRules(version=version))
    assert local("RESTORE", "s", 0, data) == b"OK"
    local.reload()
    local.clock.now_ms = 10_000
    assert local("XRANGE", "s", "-", "+") == [[b"1-1", [b"f", b"v"]], [b"2-0", [b"f", b"w"]]]
    assert local("XPENDING", "s", "g", "-", "+", 10) == [[b"1-1", b"ann", 9500, 3]]
    assert local("XINFO", "CONSUMERS", "s", "g")[0][4:] == [b"idle", 9000, b"inactive", 10_000 - active_ms]
    assert local("XADD", "s", "5-0", "f", "v") == SMALL
    again = local("DUMP", "s")
    assert local("RESTORE", "s", 0, again, "REPLACE") == b"OK"
    assert local("DUMP", "s") == again


# --- What one command may gather


def test_what_a_command_gathers_is_bounded(make_local: Servers) -> None:
    local = make_local.make(command_memory=2_000_000)
    for start in range(1, 12_001, 1000):
        local.pipeline(*(("XADD", "s", f"{n}-0", "f", "x" * 10) for n in range(start, start + 1000)))
    local("XGROUP", "CREATE", "s", "g", 0)
    local.reload()
    refused = error("ERR the command needs more memory than command-memory, 2000000")
    assert local("XRANGE", "s", "-", "+") == refused
    assert local("XREAD", "STREAMS", "s", 0) == refused
    assert local("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">") == refused
    assert local("XPENDING", "s", "g")[0] == 0
    assert len(local("XRANGE", "s", "-", "+", "COUNT", 5000)) == 5000
    local("CONFIG", "SET", "command-memory", 0)

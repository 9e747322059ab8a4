"""Streams and their consumer groups, compared with a real redis-server."""

from __future__ import annotations

from typing import Any

import pytest

from harness.commands import (
    INTEGERS,
    KEYS,
    ODD_NUMBERS,
    VALUES,
    choice,
    command,
    flags,
    history_tests,
    maybe,
    several,
    words,
)
from harness.compat import Pair
from harness.crowd import Crowd
from harness.resp import Argument, Reply, to_bytes

# What a clock or the number of nodes goes into is left out of comparisons.
_CLOCKED = (b"idle", b"inactive", b"seen-time", b"active-time")
_NODES = (b"radix-tree-keys", b"radix-tree-nodes")


def timeless(reply: Reply) -> Any:
    """Return what XINFO says without times and nodes."""
    if isinstance(reply, dict):
        flat = [part for pair in reply.items() for part in pair]
        return "map", timeless(flat)
    if not isinstance(reply, list):
        return reply
    if len(reply) > 2 and reply[0] in (b"name", b"length"):
        about = [
            (key, timeless(value))
            for key, value in zip(reply[::2], reply[1::2])
            if key not in _CLOCKED and key not in _NODES
        ]
        return [(key, _pending(value) if key == b"pending" else value) for key, value in about]
    return [timeless(item) for item in reply]


def _pending(value: Any) -> Any:
    """Return pending entries without when they were delivered, which is the last but one of each."""
    return [(*entry[:-2], entry[-1]) for entry in value] if isinstance(value, list) else value


def info(pair: Pair, *line: Argument) -> None:
    """Compare XINFO."""
    pair.by(timeless, *line)


def pending(pair: Pair, *line: Argument) -> None:
    """Compare XPENDING without idle times."""
    is_range = len(line) > 3

    def view(reply: Reply) -> Any:
        return [(*entry[:2], entry[3]) for entry in reply] if is_range and isinstance(reply, list) else reply

    pair.by(view, *line)


def with_consumers(pair: Pair, *line: Argument) -> Reply:
    """Do a command that makes its consumer in any case as of 7.2, and in 7.0 if it has something for it."""
    plain = [to_bytes(word) for word in line]
    upper = [word.upper() for word in plain]
    if upper[0] == b"XREADGROUP" and b"GROUP" in upper and b"STREAMS" in upper:
        at, first = upper.index(b"GROUP"), upper.index(b"STREAMS") + 1
        keys, names = plain[first : first + (len(plain) - first) // 2], plain[at + 1 : at + 3]
    else:
        keys, names = plain[1:2], plain[2:4]
    if len(names) == 2:
        for key in dict.fromkeys(keys):
            pair("XGROUP", "CREATECONSUMER", key, *names)
    return pair(*line)


def set_id(pair: Pair, *line: Argument) -> None:
    """Do XSETID, but for what 7.2 refuses and 7.0 does not: to go back behind what was removed."""
    reply = pair.by(timeless, "XINFO", "STREAM", line[1]) if len(line) > 2 else None
    if isinstance(reply, dict):
        reply = [part for item in reply.items() for part in item]
    if isinstance(reply, list):
        removed = reply[reply.index(b"max-deleted-entry-id") + 1]
        if number_of(to_bytes(line[2])) < number_of(removed):
            return
    pair(*line)


def number_of(text: bytes) -> tuple[int, int]:
    """Return an id as two numbers; what is none as the largest."""
    try:
        ms, _, sequence = text.partition(b"-")
        return int(ms), int(sequence or 0)
    except ValueError:
        return 1 << 64, 0


PARTS = choice(*range(6), *range(6), *range(6), "18446744073709551615", ODD_NUMBERS)
IDS = choice(
    words(PARTS),
    *(PARTS.flatmap(lambda ms: PARTS.map(lambda seq: to_bytes(ms) + b"-" + to_bytes(seq))) for _ in range(4)),
)
RANGE_IDS = choice(
    IDS, IDS, IDS.map(lambda one: b"(" + to_bytes(one[0] if isinstance(one, tuple) else one)), "-", "+"
)
NEW_IDS = choice(
    IDS,
    *(choice(*range(1, 30)).map(lambda ms: b"%d-*" % ms) for _ in range(4)),
)
GROUPS = choice("g", "g", "h", "", "missing")
CONSUMERS = choice("alice", "bob", "bob", "", "carol")
TRIMS = choice(
    words(choice("MAXLEN", "maxlen"), maybe("="), choice(*range(8), INTEGERS)),
    words("MINID", maybe("="), IDS),
    words(
        choice("MAXLEN", "MINID"),
        choice("=", "x"),
        choice(*range(8), INTEGERS),
        maybe("LIMIT", INTEGERS),
    ),
    # How much goes depends on nodes, which hold as many entries as fit: other tests see to that.
    words("MAXLEN", "~", choice(1000, 10**6, "-1", "x", "9223372036854775807"), maybe("LIMIT", INTEGERS)),
    words("MINID", "~", choice("0", "0-0", "x"), maybe("LIMIT", INTEGERS)),
)
COUNTS = maybe("COUNT", choice(0, 1, 2, 3, 100, INTEGERS))

STREAMS = [
    *(command("XADD", KEYS, NEW_IDS, several("f", VALUES, most=3)) for _ in range(4)),
    command("XADD", KEYS, flags("NOMKSTREAM"), maybe(TRIMS), NEW_IDS, several(VALUES, VALUES, most=2)),
    command("XTRIM", KEYS, TRIMS),
    command("XDEL", KEYS, several(IDS)),
    command("XLEN", KEYS),
    command("XRANGE", KEYS, RANGE_IDS, RANGE_IDS, COUNTS),
    command("XREVRANGE", KEYS, RANGE_IDS, RANGE_IDS, COUNTS),
    command("XRANGE", KEYS, "-", "+"),
    command("XREAD", COUNTS, "STREAMS", KEYS, IDS),
    command("XREAD", COUNTS, "STREAMS", KEYS, KEYS, choice(IDS, "$"), IDS),
    command("XSETID", KEYS, IDS, maybe("ENTRIESADDED", INTEGERS), maybe("MAXDELETEDID", IDS), check=set_id),
    command(
        "XGROUP",
        "CREATE",
        KEYS,
        GROUPS,
        choice("$", 0, IDS),
        maybe("MKSTREAM"),
        maybe("ENTRIESREAD", INTEGERS),
    ),
    command("XGROUP", "CREATE", KEYS, GROUPS, "0", "MKSTREAM"),
    command("XGROUP", "SETID", KEYS, GROUPS, choice("$", 0, IDS), maybe("ENTRIESREAD", INTEGERS)),
    command("XGROUP", "DESTROY", KEYS, GROUPS),
    command("XGROUP", "CREATECONSUMER", KEYS, GROUPS, CONSUMERS),
    command("XGROUP", "DELCONSUMER", KEYS, GROUPS, CONSUMERS),
    *(
        command(
            *("XREADGROUP", "GROUP", GROUPS, CONSUMERS, COUNTS, flags("NOACK"), "STREAMS", KEYS, ids),
            check=with_consumers,
        )
        for ids in (">", ">", choice(IDS, 0))
    ),
    command(
        *("XREADGROUP", "GROUP", GROUPS, CONSUMERS, COUNTS, "STREAMS", KEYS, KEYS, choice(">", IDS), ">"),
        check=with_consumers,
    ),
    command("XACK", KEYS, GROUPS, several(IDS)),
    command(
        *("XCLAIM", KEYS, GROUPS, CONSUMERS, choice(0, 0, 10**9), several(IDS), flags("FORCE", "JUSTID")),
        *(maybe("RETRYCOUNT", INTEGERS), maybe("LASTID", IDS)),
        check=with_consumers,
    ),
    command(
        *("XAUTOCLAIM", KEYS, GROUPS, CONSUMERS, choice(0, 0, 10**9), RANGE_IDS),
        *(maybe("COUNT", choice(1, 2, 3, 0)), flags("JUSTID")),
        check=with_consumers,
    ),
    command("XPENDING", KEYS, GROUPS),
    command(
        "XPENDING", KEYS, GROUPS, RANGE_IDS, RANGE_IDS, choice(1, 2, 100), maybe(CONSUMERS), check=pending
    ),
    command("XINFO", "STREAM", KEYS, check=info),
    command("XINFO", "STREAM", KEYS, "FULL", COUNTS, check=info),
    command("XINFO", "GROUPS", KEYS),
    command("XINFO", "CONSUMERS", KEYS, GROUPS, check=info),
    command("COPY", KEYS, KEYS, flags("REPLACE")),
    command("RENAME", KEYS, KEYS),
    command("OBJECT", "ENCODING", KEYS, check=Pair.encoding),
    command("TYPE", KEYS),
]

test_streams, test_streams_restarted, test_streams_at_length, test_streams_restarted_at_length = (
    history_tests("streams", STREAMS)
)


ODD_IDS = (
    *("0", "0-0", "0-1", "1", "1-", "-1", "-", "+", "1-+", "*", "1-*", "0-*", "5-*", "5-**", "*-1", "$", ">"),
    *("18446744073709551615", "18446744073709551615-18446744073709551615", "18446744073709551616", "007-01"),
    *(
        "18446744073709551615-*",
        "18446744073709551615-18446744073709551614",
        "1-18446744073709551615",
        "1-1-1",
    ),
    *(
        "+5-+6",
        " 5- 6",
        "5 -6",
        "5- 6 ",
        "5--6",
        "5--06",
        "5-\x00",
        "5-6\x00x",
        "5\x00x",
        "",
        "(",
        "(5",
        "(5-1",
    ),
    *(
        "(-",
        "(+",
        "(0-0",
        "(18446744073709551615-18446744073709551615",
        "((5",
        "1" * 127,
        "0" * 127,
        "0" * 128,
    ),
    *("abc", "1.5", "0x10", "9223372036854775807", "9223372036854775808-9223372036854775808", "1e3", "5-6-"),
)


@pytest.mark.parametrize("last", [None, "0-1", "5-5", "5-18446744073709551615", "18446744073709551615-7"])
def test_ids_of_every_kind(pair: Pair, last: str | None) -> None:
    for text in ODD_IDS:
        for line in (
            ("XADD", "s", text, "f", "v"),
            ("XADD", "s", "NOMKSTREAM", text, "f", "v"),
            ("XADD", "s", "MINID", text, "5-*", "f", "v"),
            ("XREAD", "STREAMS", "s", text),
            ("XDEL", "s", "1-1", text),
            ("XTRIM", "s", "MINID", "=", text),
            ("XSETID", "s", text),
            ("XSETID", "s", "30-0", "MAXDELETEDID", text),
            ("XGROUP", "CREATE", "s", f"g{text}", text),
            ("XGROUP", "SETID", "s", "g", text),
            ("XACK", "s", "g", text),
            ("XRANGE", "s", text, "+"),
            ("XRANGE", "s", "-", text),
            ("XREVRANGE", "s", text, "-"),
            ("XCLAIM", "s", "g", "c", 0, text),
            ("XCLAIM", "s", "g", "c", 0, "1-1", "LASTID", text),
            ("XAUTOCLAIM", "s", "g", "c", 0, text),
            ("XPENDING", "s", "g", text, "+", 10),
            ("XPENDING", "s", "g", "-", text, 10),
        ):
            if text == "*" and line[0] == "XADD":
                continue  # the clock's
            pair("DEL", "s")
            if last is not None:
                pair("XADD", "s", last, "f", "v")
                pair("XGROUP", "CREATE", "s", "g", "0")
                pair("XGROUP", "CREATECONSUMER", "s", "g", "c")
            with_consumers(pair, *line)
            info(pair, "XINFO", "STREAM", "s", "FULL")


def test_exhausted_ids(pair: Pair) -> None:
    pair("XADD", "s", "18446744073709551615-18446744073709551615", "f", "v")
    pair("XADD", "s", "*", "f", "v")
    pair("XADD", "s", "1-1", "f", "v")
    pair("XREAD", "STREAMS", "s", "18446744073709551615-18446744073709551615")
    pair("XREAD", "STREAMS", "s", "18446744073709551615-18446744073709551614")
    pair("XGROUP", "CREATE", "s", "g", "18446744073709551615-18446744073709551615")
    pair("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">")
    pair("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", "18446744073709551615-18446744073709551615")


def test_ids_follow_the_clock(pair: Pair) -> None:
    for _ in range(3):
        pair.type_only("XADD", "s", "*", "f", "v")
    pair.type_only("XADD", "s", "MAXLEN", "2", "*", "f", "v")
    pair("XLEN", "s")
    pair("XADD", "s", "99999999999999-7", "f", "v")
    pair("XADD", "s", "*", "f", "v")
    pair("XADD", "s", "*", "f", "v")


OPTIONS = (
    *(
        ("MAXLEN",),
        ("MAXLEN", "2"),
        ("MAXLEN", "=", "2"),
        ("MAXLEN", "~", "2"),
        ("MAXLEN", "-1"),
        ("MAXLEN", "x"),
    ),
    *(
        ("MINID",),
        ("MINID", "3"),
        ("MINID", "=", "3-1"),
        ("MINID", "~", "3"),
        ("MINID", "x"),
        ("MAXLEN", "~"),
    ),
    *(("MAXLEN", "2", "MINID", "1"), ("MAXLEN", "2", "LIMIT", "1"), ("MAXLEN", "~", "2", "LIMIT", "1")),
    *(
        ("LIMIT", "1"),
        ("LIMIT", "0"),
        ("LIMIT", "-1"),
        ("LIMIT", "x"),
        ("LIMIT",),
        ("MAXLEN", "=", "2", "LIMIT", "0"),
    ),
    *(
        ("NOMKSTREAM",),
        ("NOMKSTREAM", "MAXLEN", "1"),
        ("maxlen", "0"),
        ("MAXLEN", "~", "0", "LIMIT", "0"),
        ("nope",),
    ),
    *(
        ("MAXLEN", "=", "~", "2"),
        ("MAXLEN", "2", "MAXLEN", "3"),
        ("MAXLEN", "9223372036854775808"),
        ("=", "2"),
    ),
)


def test_options_of_trimming(pair: Pair) -> None:
    for options in OPTIONS:
        for line in (
            ("XADD", "s", *options, "9-9", "f", "v"),
            ("XADD", "s", *options, "9-9", "f"),
            ("XADD", "missing", *options, "9-9", "f", "v"),
            ("XTRIM", "s", *options),
            ("XTRIM", "missing", *options),
        ):
            pair("DEL", "s", "missing")
            pair("XADD", "s", "1-1", "a", "1")
            pair("XADD", "s", "2-1", "b", "2", "c", "3")
            pair("XADD", "s", "3-1", "d", "4")
            pair(*line)
            info(pair, "XINFO", "STREAM", "s", "FULL")


def test_rough_trimming_leaves_whole_nodes(pair: Pair) -> None:
    for kept in (0, 1, 50, 99, 100, 101, 250, 349, 350, 351):
        for limit in ((), ("LIMIT", 0), ("LIMIT", 99), ("LIMIT", 100), ("LIMIT", 250)):
            pair("DEL", "s")
            pair.pipeline(*(("XADD", "s", f"{at}-1", "f", at) for at in range(1, 351)))
            pair("XTRIM", "s", "MAXLEN", "~", kept, *limit)
            pair("XTRIM", "s", "MINID", "~", f"{kept}-1", *limit)
            pair("XLEN", "s")
            pair("XADD", "s", "MAXLEN", "~", kept, *limit, "999-1", "f", "v")
            info(pair, "XINFO", "STREAM", "s")


def test_rough_trimming_of_long_entries(pair: Pair) -> None:
    """Nodes of long entries hold few, so that not much more stays than was asked for."""
    for size, most in ((10, 100), (1000, 5), (10_000, 1)):
        pair("DEL", "s")
        pair.pipeline(*(("XADD", "s", f"{at}-1", "f", "x" * size) for at in range(1, 301)))
        for client in (pair.reference, pair.tested):
            client.call("XTRIM", "s", "MAXLEN", "~", 50)
            length = client.call("XLEN", "s")
            assert isinstance(length, int)
            assert 50 <= length < 50 + most


EVERY = (
    *(("XADD", "*"), ("XADD", "1-1", "f"), ("XADD", "1-1", "f", "v", "g"), ("XADD", "MAXLEN", "1", "f", "v")),
    *(("XLEN",), ("XLEN", "x"), ("XRANGE", "-"), ("XRANGE", "-", "+"), ("XRANGE", "-", "+", "COUNT")),
    *(("XRANGE", "-", "+", "COUNT", "x"), ("XRANGE", "-", "+", "nope", "1"), ("XREVRANGE", "+", "-")),
    *(("XRANGE", "-", "+", "COUNT", "1", "COUNT", "2"), ("XRANGE", "-", "+", "COUNT", "-5"), ("XDEL",)),
    *(
        ("XDEL", "1-1"),
        ("XDEL", "1-1", "x"),
        ("XTRIM", "MAXLEN"),
        ("XTRIM", "MAXLEN", "0"),
        ("XTRIM", "LIMIT", "1"),
    ),
    *(
        ("XSETID",),
        ("XSETID", "9-9"),
        ("XSETID", "9-9", "ENTRIESADDED"),
        ("XSETID", "9-9", "ENTRIESADDED", "-1"),
    ),
    *(("XSETID", "0-1"), ("XSETID", "9-9", "ENTRIESADDED", "0"), ("XSETID", "9", "MAXDELETEDID", "10")),
    *(("XACK", "g"), ("XACK", "g", "1-1"), ("XACK", "g", "x"), ("XACK", "missing", "x"), ("XPENDING",)),
    *(("XPENDING", "g"), ("XPENDING", "missing"), ("XPENDING", "g", "-"), ("XPENDING", "g", "-", "+")),
    *(("XPENDING", "g", "-", "+", "x"), ("XPENDING", "g", "x", "+", "1"), ("XPENDING", "g", "-", "+", "-1")),
    *(
        ("XPENDING", "g", "IDLE", "1", "-", "+"),
        ("XPENDING", "g", "IDLE", "x", "-", "+", "1"),
        ("XPENDING", "g", "a"),
    ),
    *(("XPENDING", "g", "IDLE", "999999", "-", "+", "1"), ("XPENDING", "g", "-", "+", "9", "nobody", "x")),
    *(("XPENDING", "g", "-", "+", "9", "nobody"), ("XPENDING", "missing", "-", "+", "9", "nobody")),
    *(("XCLAIM", "g", "c", "0"), ("XCLAIM", "g", "c", "x", "1-1"), ("XCLAIM", "missing", "c", "x", "1-1")),
    *(
        ("XCLAIM", "g", "c", "0", "1-1", "nope"),
        ("XCLAIM", "g", "c", "0", "1-1", "IDLE"),
        ("XCLAIM", "g", "c", "0", "x"),
    ),
    *(("XCLAIM", "g", "c", "0", "1-1", "IDLE", "x"), ("XCLAIM", "g", "c", "0", "1-1", "TIME", "x", "FORCE")),
    *(
        ("XCLAIM", "g", "c", "0", "1-1", "RETRYCOUNT", "x"),
        ("XCLAIM", "g", "c", "0", "1-1", "FORCE", "RETRYCOUNT", "7"),
    ),
    *(("XCLAIM", "g", "c", "0", "1-1", "FORCE"), ("XCLAIM", "g", "c", "0", "1-1", "FORCE", "JUSTID")),
    *(("XCLAIM", "g", "c", "0", "1-1", "1-1", "FORCE", "IDLE", "-5"), ("XCLAIM", "g", "c", "-5", "FORCE")),
    *(("XAUTOCLAIM", "g", "c", "0"), ("XAUTOCLAIM", "g", "c", "x", "0"), ("XAUTOCLAIM", "g", "c", "0", "x")),
    *(("XAUTOCLAIM", "g", "c", "0", "-", "COUNT", "0"), ("XAUTOCLAIM", "g", "c", "0", "-", "COUNT", "x")),
    *(("XAUTOCLAIM", "g", "c", "0", "-", "COUNT"), ("XAUTOCLAIM", "g", "c", "0", "(0-0", "JUSTID", "x")),
    *(
        ("XAUTOCLAIM", "g", "c", "0", "-", "COUNT", "9223372036854775807"),
        ("XAUTOCLAIM", "missing", "c", "0", "-"),
    ),
)

CONTAINERS = (
    *(
        ("XGROUP", "CREATE"),
        ("XGROUP", "CREATE", "g"),
        ("XGROUP", "CREATE", "g", "$"),
        ("XGROUP", "CREATE", "n", "$"),
    ),
    *(
        ("XGROUP", "CREATE", "n", "x"),
        ("XGROUP", "CREATE", "n", "$", "nope"),
        ("XGROUP", "CREATE", "n", "0", "MKSTREAM"),
    ),
    *(
        ("XGROUP", "CREATE", "g", "x", "MKSTREAM"),
        ("XGROUP", "CREATE", "n", "0", "ENTRIESREAD"),
        ("XGROUP", "NOPE", "g"),
    ),
    *(
        ("XGROUP", "CREATE", "n", "0", "ENTRIESREAD", "-2"),
        ("XGROUP", "CREATE", "n", "0", "ENTRIESREAD", "x"),
    ),
    *(
        ("XGROUP", "CREATE", "n", "0", "ENTRIESREAD", "3", "MKSTREAM"),
        ("XGROUP", "CREATE", "n", "0", *["MKSTREAM"] * 4),
    ),
    *(
        ("XGROUP", "SETID", "g"),
        ("XGROUP", "SETID", "g", "$"),
        ("XGROUP", "SETID", "n", "x"),
        ("XGROUP", "SETID", "g", "-"),
    ),
    *(("XGROUP", "SETID", "g", "0", "MKSTREAM"), ("XGROUP", "SETID", "g", "0", "ENTRIESREAD", "2")),
    *(
        ("XGROUP", "SETID", "g", "0", "ENTRIESREAD", "2", "ENTRIESREAD", "3"),
        ("XGROUP", "SETID", "n", "$", "x"),
    ),
    *(
        ("XGROUP", "DESTROY"),
        ("XGROUP", "DESTROY", "g"),
        ("XGROUP", "DESTROY", "n"),
        ("XGROUP", "DESTROY", "g", "x"),
    ),
    *(
        ("XGROUP", "CREATECONSUMER", "g"),
        ("XGROUP", "CREATECONSUMER", "g", "c"),
        ("XGROUP", "CREATECONSUMER", "n", "c"),
    ),
    *(
        ("XGROUP", "DELCONSUMER", "g", "c"),
        ("XGROUP", "DELCONSUMER", "n", "c"),
        ("XGROUP", "DELCONSUMER", "g"),
    ),
    *(
        ("XINFO", "STREAM"),
        ("XINFO", "STREAM", "x"),
        ("XINFO", "STREAM", "FULL"),
        ("XINFO", "STREAM", "full", "COUNT"),
    ),
    *(
        ("XINFO", "STREAM", "FULL", "COUNT", "x"),
        ("XINFO", "STREAM", "FULL", "COUNT", "-1"),
        ("XINFO", "NOPE"),
    ),
    *(
        ("XINFO", "STREAM", "FULL", "x", "1"),
        ("XINFO", "STREAM", "FULL", "COUNT", "0"),
        ("XINFO", "STREAM", "a", "b", "c"),
    ),
    *(("XINFO", "GROUPS"), ("XINFO", "GROUPS", "x"), ("XINFO", "CONSUMERS"), ("XINFO", "CONSUMERS", "g")),
    *(("XINFO", "CONSUMERS", "n"), ("XINFO", "CONSUMERS", "g", "x")),
)

READS = (
    *(
        ("XREAD",),
        ("XREAD", "STREAMS"),
        ("XREAD", "STREAMS", "k"),
        ("XREAD", "STREAMS", "k", "0"),
        ("XREAD", "x", "k", "0"),
    ),
    *(("XREAD", "STREAMS", "k", "$"), ("XREAD", "STREAMS", "k", ">"), ("XREAD", "STREAMS", "k", "n", "0")),
    *(
        ("XREAD", "COUNT", "x", "STREAMS", "k", "0"),
        ("XREAD", "COUNT", "-1", "STREAMS", "k", "0"),
        ("XREAD", "COUNT", "1"),
    ),
    *(
        ("XREAD", "BLOCK", "x", "STREAMS", "k", "0"),
        ("XREAD", "BLOCK", "-1", "STREAMS", "k", "0"),
        ("XREAD", "BLOCK"),
    ),
    *(
        ("XREAD", "BLOCK", "1", "STREAMS", "k", "$"),
        ("XREAD", "NOACK", "STREAMS", "k", "0"),
        ("XREAD", "nope", "1", "2"),
    ),
    *(("XREAD", "GROUP", "g", "c", "STREAMS", "k", "0"), ("XREAD", "STREAMS", "missing", "k", "0", "0")),
    *(("XREAD", "STREAMS", "k", "k", "0", "1-1"), ("XREAD", "BLOCK", "1.5", "STREAMS", "k", "0")),
    *(
        ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "k"),
        ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "k", ">"),
    ),
    *(
        ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "k", "0"),
        ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "k", "$"),
    ),
    *(
        ("XREADGROUP", "GROUP", "n", "c", "STREAMS", "k", ">"),
        ("XREADGROUP", "STREAMS", "k", ">", "k", ">", "a", "b"),
    ),
    *(
        ("XREADGROUP", "COUNT", "1", "COUNT", "2", "STREAMS", "k", ">"),
        ("XREADGROUP", "GROUP", "g", "STREAMS", "k", ">", "x"),
    ),
    *(("XREADGROUP", "GROUP", "g", "c", "STREAMS", "k", "missing", ">", ">"),),
    *(("XREADGROUP", "GROUP", "g", "c", "STREAMS", "missing", "k", ">", "x"),),
    *(("XREADGROUP", "GROUP", "g", "c", "NOACK", "STREAMS", "k", ">"),),
    *(("XREADGROUP", "GROUP", "g", "c", "BLOCK", "1", "STREAMS", "k", "0"),),
    *(
        ("XREADGROUP", "GROUP", "n", "c", "GROUP", "g", "c", "STREAMS", "k", ">"),
        ("XREADGROUP", "a", *"bcdef"),
    ),
)

MADE = (
    (("SET", "k", "v"),),
    (("RPUSH", "k", "v"),),
    (),
    (
        ("XADD", "k", "1-1", "f", "v"),
        ("XGROUP", "CREATE", "k", "g", "0"),
        ("XGROUP", "CREATECONSUMER", "k", "g", "c"),
    ),
    (
        ("XADD", "k", "1-1", "f", "v"),
        ("XADD", "k", "1-2", "f", "v"),
        ("XGROUP", "CREATE", "k", "g", "0"),
        ("XREADGROUP", "GROUP", "g", "other", "STREAMS", "k", ">"),
        ("XGROUP", "CREATECONSUMER", "k", "g", "c"),
        ("XDEL", "k", "1-2"),
    ),
)


@pytest.mark.parametrize("made", MADE, ids=["string", "list", "missing", "stream", "pending"])
def test_every_command_at_every_type(pair: Pair, made: tuple[tuple[str, ...], ...]) -> None:
    lines: list[tuple[str, ...]] = [(name, "k", *rest) for name, *rest in EVERY if rest]
    lines += [(name, "k") for name, *rest in EVERY if not rest]
    lines += [(name, sub, "k", *rest) for name, sub, *rest in CONTAINERS]
    lines += list(READS)
    for line in lines:
        pair("DEL", "k")
        for step in made:
            pair(*step)
        if line[0] == "XPENDING":
            pending(pair, *line)
        elif line[0] == "XINFO":
            info(pair, *line)
        elif line[:2] == ("XADD", "k") and line[2:3] == ("*",):
            pair.type_only(*line)
        else:
            pair(*line)
        pair("TYPE", "k")
    pair.assert_same_contents()


def test_lag(pair: Pair) -> None:
    """What groups say of where they are, through all that makes them lose count and find it again."""

    def groups() -> None:
        pair("XINFO", "GROUPS", "s")
        info(pair, "XINFO", "STREAM", "s", "FULL")

    pair("XGROUP", "CREATE", "s", "new", "$", "MKSTREAM")
    groups()
    for at in range(1, 11):
        pair("XADD", "s", f"{at}-0", "f", at)
    for name, start in (
        ("zero", "0"),
        ("first", "1-0"),
        ("middle", "5-0"),
        ("between", "5-5"),
        ("last", "$"),
        ("far", "99"),
    ):
        pair("XGROUP", "CREATE", "s", name, start)
    groups()
    for line in (
        ("XDEL", "s", "1-0"),
        ("XDEL", "s", "7-0"),
        ("XTRIM", "s", "MAXLEN", "6"),
        ("XADD", "s", "20-0", "f", "v"),
        ("XTRIM", "s", "MINID", "9"),
        ("XDEL", "s", "20-0"),
        ("XADD", "s", "21-0", "f", "v"),
        ("XSETID", "s", "30-0", "ENTRIESADDED", "100", "MAXDELETEDID", "25-0"),
        ("XADD", "s", "31-0", "f", "v"),
        ("XTRIM", "s", "MAXLEN", "0"),
        ("XADD", "s", "40-0", "f", "v"),
    ):
        pair(*line)
        groups()
        for name in ("new", "zero", "first", "middle", "between", "last"):
            with_consumers(pair, "XREADGROUP", "GROUP", name, "c", "COUNT", "1", "STREAMS", "s", ">")
        groups()
    pair("XGROUP", "SETID", "s", "zero", "5-0", "ENTRIESREAD", "9223372036854775807")
    with_consumers(pair, "XREADGROUP", "GROUP", "zero", "c", "STREAMS", "s", ">")
    groups()


def test_consumers_and_what_is_pending(pair: Pair) -> None:
    pair.pipeline(*(("XADD", "s", f"{at}-0", "f", at) for at in range(1, 301)))
    pair("XGROUP", "CREATE", "s", "g", "0")
    for name, count in (("a", 10), ("b", 100), ("c", 1), ("d", 150)):
        pair("XREADGROUP", "GROUP", "g", name, "COUNT", count, "STREAMS", "s", ">")
    pair("XACK", "s", "g", *(f"{at}-0" for at in range(1, 300, 7)))
    pair("XPENDING", "s", "g")
    for name in ("a", "b", "c", "d", "e"):
        pending(pair, "XPENDING", "s", "g", "-", "+", 1000, name)
        pending(pair, "XPENDING", "s", "g", "(20-0", "(90-0", 10, name)
        with_consumers(pair, "XREADGROUP", "GROUP", "g", name, "COUNT", 20, "STREAMS", "s", "30")
        with_consumers(pair, "XREADGROUP", "GROUP", "g", name, "STREAMS", "s", "0")
    pair("XDEL", "s", *(f"{at}-0" for at in range(1, 300, 5)))
    cursor: Any = "0-0"
    for _ in range(40):
        reply = pair("XAUTOCLAIM", "s", "g", "e", 0, cursor, "COUNT", 13)
        cursor = reply[0]  # type: ignore[index, call-overload]
        if cursor == b"0-0":
            break
    pair("XPENDING", "s", "g")
    pair("XCLAIM", "s", "g", "a", 0, *(f"{at}-0" for at in range(1, 400)), "FORCE", "JUSTID")
    pair(
        "XCLAIM",
        "s",
        "g",
        "b",
        0,
        *(f"{at}-0" for at in range(1, 400, 2)),
        "RETRYCOUNT",
        5,
        "LASTID",
        "999-0",
    )
    pair("XCLAIM", "s", "g", "b", 100000, "2-0", "3-0")
    pair("XPENDING", "s", "g")
    pair("XGROUP", "DELCONSUMER", "s", "g", "a")
    pair("XGROUP", "SETID", "s", "g", "100-0")
    pair("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">")
    pending(pair, "XPENDING", "s", "g", "-", "+", 1000)
    info(pair, "XINFO", "CONSUMERS", "s", "g")
    info(pair, "XINFO", "STREAM", "s", "FULL", "COUNT", 3)
    info(pair, "XINFO", "STREAM", "s", "FULL", "COUNT", 0)
    pair("COPY", "s", "t")
    pair("XGROUP", "DESTROY", "s", "g")
    pair.assert_same_contents()


def test_what_xautoclaim_looks_at_is_bounded(pair: Pair) -> None:
    pair.pipeline(*(("XADD", "s", f"{at}-0", "f", at) for at in range(1, 101)))
    pair("XGROUP", "CREATE", "s", "g", "0")
    pair("XREADGROUP", "GROUP", "g", "a", "COUNT", 60, "STREAMS", "s", ">")
    pair("XGROUP", "CREATECONSUMER", "s", "g", "b")
    for count in (1, 2, 5, 6, 7):
        pair("XAUTOCLAIM", "s", "g", "b", 1000000, "0-0", "COUNT", count)


def test_large_entries(pair: Pair) -> None:
    for at, size in enumerate((0, 1, 63, 64, 127, 4095, 4096, 70_000, 1_000_000), 1):
        pair("XADD", "s", f"{at}-0", "x" * size, "y" * size)
    pair("XADD", "many", "1-1", *(text for at in range(3000) for text in (f"f{at}", at)))
    pair("XADD", "odd", "1-1", "", "", b"\x00\r\n\xff", "*2\r\n$1\r\na\r\n$1\r\nb\r\n")
    for key in ("s", "many", "odd"):
        pair("XRANGE", key, "-", "+")
        pair("XREVRANGE", key, "+", "-", "COUNT", "2")


def test_events(pair: Pair) -> None:
    """The events of a history, heard by another client of each server."""
    pair("CONFIG", "SET", "notify-keyspace-events", "KEAmn")
    listeners = Pair(*pair.servers, protocol=pair.protocol)
    try:
        listeners("PSUBSCRIBE", "__key*__:*")
        for line in (
            ("XADD", "s", "1-1", "f", "v"),
            ("XADD", "s", "1-1", "f", "v"),
            ("XADD", "s", "MAXLEN", "1", "2-1", "f", "v"),
            ("XADD", "s", "MAXLEN", "1", "3-1", "f", "v"),
            ("XADD", "missing", "NOMKSTREAM", "1-1", "f", "v"),
            ("XTRIM", "s", "MAXLEN", "1"),
            ("XADD", "s", "4-1", "f", "v"),
            ("XTRIM", "s", "MAXLEN", "1"),
            ("XDEL", "s", "9-9"),
            ("XSETID", "s", "9-9"),
            ("XGROUP", "CREATE", "s", "g", "0"),
            ("XGROUP", "CREATE", "s", "g", "0"),
            ("XGROUP", "CREATE", "t", "g", "0", "MKSTREAM"),
            ("XGROUP", "CREATECONSUMER", "s", "g", "a"),
            ("XGROUP", "CREATECONSUMER", "s", "g", "a"),
            ("XREADGROUP", "GROUP", "g", "b", "STREAMS", "s", ">"),
            ("XREADGROUP", "GROUP", "g", "b", "STREAMS", "s", "0"),
            ("XCLAIM", "s", "g", "c", "0", "4-1"),
            ("XAUTOCLAIM", "s", "g", "d", "0", "0"),
            ("XACK", "s", "g", "4-1"),
            ("XPENDING", "s", "g"),
            ("XREAD", "STREAMS", "s", "0"),
            ("XINFO", "GROUPS", "s"),
            ("XLEN", "missing"),
            ("XACK", "missing", "g", "1-1"),
            ("XDEL", "missing", "1-1"),
            ("XRANGE", "missing", "-", "+"),
            ("XGROUP", "SETID", "s", "g", "0"),
            ("XGROUP", "DELCONSUMER", "s", "g", "a"),
            ("XGROUP", "DELCONSUMER", "s", "g", "a"),
            ("XGROUP", "DESTROY", "s", "g"),
            ("XGROUP", "DESTROY", "s", "g"),
            ("XDEL", "s", "4-1"),
            ("COPY", "s", "u"),
            ("RENAME", "s", "v"),
            ("DEL", "v"),
        ):
            pair(*line)
            pair("PUBLISH", "__key__:done", line[0])
            while listeners.read()[-1] != to_bytes(line[0]):  # type: ignore[index, call-overload]
                pass
    finally:
        listeners.close()
        pair("CONFIG", "SET", "notify-keyspace-events", "")


def test_watching_and_streams(pair: Pair, crowd: Crowd) -> None:
    """Which commands change a key in the eyes of WATCH."""
    pair("XADD", "s", "1-1", "f", "v")
    pair("XADD", "s", "1-2", "f", "v")
    pair("XGROUP", "CREATE", "s", "g", "0")
    for line in (
        ("XGROUP", "CREATE", "s", "h", "0"),
        ("XGROUP", "CREATECONSUMER", "s", "g", "c"),
        ("XREADGROUP", "GROUP", "g", "c", "COUNT", "1", "STREAMS", "s", ">"),
        ("XACK", "s", "g", "1-1"),
        ("XCLAIM", "s", "g", "c", "0", "1-1", "FORCE"),
        ("XAUTOCLAIM", "s", "g", "c", "0", "0"),
        ("XGROUP", "SETID", "s", "g", "0"),
        ("XSETID", "s", "5-0"),
        ("XDEL", "s", "9-9"),
        ("XDEL", "s", "1-1"),
        ("XADD", "s", "6-0", "f", "v"),
        ("XTRIM", "s", "MAXLEN", "5"),
        ("XTRIM", "s", "MAXLEN", "1"),
        ("XGROUP", "DELCONSUMER", "s", "g", "c"),
        ("XGROUP", "DESTROY", "s", "g"),
        ("XGROUP", "CREATE", "s2", "g", "0", "MKSTREAM"),
    ):
        pair("WATCH", "s", "s2")
        for client in crowd.clients(0):
            client.call(*line)
        pair("MULTI")
        pair("PING")
        pair("EXEC")


# --- Waiting


def test_waiting_readers_get_what_is_added(pair: Pair, crowd: Crowd) -> None:
    pair("XADD", "s", "1-1", "f", "v")
    crowd.wait(0, "XREAD", "BLOCK", 0, "STREAMS", "s", "t", "$", "$")
    crowd.wait(1, "XREAD", "BLOCK", 0, "STREAMS", "t", "$")
    crowd.wait(2, "XREAD", "BLOCK", 0, "COUNT", 1, "STREAMS", "s", "5")
    pair("XADD", "s", "2-1", "f", "v")
    crowd.read(0)
    crowd.assert_silent(1, 2)
    pair("XADD", "t", "9-1", "f", "v")
    crowd.read(1)
    pair("XADD", "s", "5-0", "f", "v")
    crowd.assert_silent(2)
    pair.pipeline(("MULTI",), ("XADD", "s", "6-0", "f", "v"), ("XADD", "s", "7-0", "f", "v"), ("EXEC",))
    crowd.read(2)


def test_readers_of_a_group_take_turns(pair: Pair, crowd: Crowd) -> None:
    pair("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
    for number in range(4):
        crowd.wait(
            number, "XREADGROUP", "GROUP", "g", f"c{number}", "BLOCK", 0, "COUNT", 2, "STREAMS", "s", ">"
        )
    crowd.wait(4, "XREAD", "BLOCK", 0, "STREAMS", "s", "$")
    pair("XADD", "s", "1-1", "f", "v")
    crowd.read(0)
    crowd.read(4)
    crowd.assert_silent(1, 2, 3)
    pair.pipeline(("MULTI",), *(("XADD", "s", f"2-{at}", "f", "v") for at in range(3)), ("EXEC",))
    crowd.read(1)
    crowd.read(2)
    crowd.assert_silent(3)
    pair("XADD", "s", "3-1", "f", "v")
    crowd.read(3)
    for number in range(4):
        pair("XGROUP", "CREATECONSUMER", "s", "g", f"c{number}")
    pair.assert_same_contents()


@pytest.mark.parametrize(
    "ending",
    [
        ("DEL", "s"),
        ("UNLINK", "s"),
        ("XGROUP", "DESTROY", "s", "g"),
        ("RENAME", "s", "t"),
        ("FLUSHALL",),
        ("FLUSHDB",),
        ("SET", "s", "v"),
        ("MOVE", "s", "5"),
        ("PEXPIRE", "s", "1"),
    ],
    ids=" ".join,
)
def test_readers_of_a_group_that_goes_away(pair: Pair, crowd: Crowd, ending: tuple[str, ...]) -> None:
    """The text is 7.2's, which says what the command would say now; 7.0 says that the key is gone."""
    pair("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
    crowd.wait(0, "XREADGROUP", "GROUP", "g", "c", "BLOCK", 0, "STREAMS", "s", ">")
    crowd.wait(1, "XREAD", "BLOCK", 0, "STREAMS", "s", "$")
    crowd.wait(2, "XREADGROUP", "GROUP", "g", "d", "BLOCK", 0, "STREAMS", "s", ">")
    pair(*ending)
    for number in (0, 2):
        replies = [client.read_raw() for client in crowd.clients(number)]
        assert all(reply.startswith((b"-NOGROUP ", b"-UNBLOCKED ", b"-WRONGTYPE ")) for reply in replies), (
            replies
        )
        assert replies[1].startswith(b"-WRONGTYPE" if ending[0] == "SET" else b"-NOGROUP"), replies
    crowd.assert_silent(1)
    if ending[0] not in ("SET", "XGROUP"):
        pair("XADD", "s", "1-1", "f", "v")
        crowd.read(1)


def test_waiting_ends(pair: Pair, crowd: Crowd) -> None:
    pair("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
    pair("XADD", "s", "1-1", "f", "v")
    pair("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">")
    pair("XREAD", "BLOCK", 20, "STREAMS", "s", "$")
    pair("XREADGROUP", "GROUP", "g", "c", "BLOCK", 20, "STREAMS", "s", ">")
    pair("XREADGROUP", "GROUP", "g", "c", "BLOCK", 0, "STREAMS", "s", "0")
    pair("MULTI")
    pair("XREAD", "BLOCK", 0, "STREAMS", "s", "$")
    pair("XREADGROUP", "GROUP", "g", "c", "BLOCK", 0, "STREAMS", "s", ">")
    pair("EXEC")
    crowd.wait(0, "XREAD", "BLOCK", 0, "STREAMS", "s", "$")
    crowd.leave(0)
    pair("XADD", "s", "2-1", "f", "v")


def test_other_types_do_not_wake_readers(pair: Pair, crowd: Crowd) -> None:
    crowd.wait(0, "XREAD", "BLOCK", 0, "STREAMS", "s", "$")
    crowd.wait(1, "BLPOP", "s", 0)
    pair("SADD", "s", "x")
    pair("DEL", "s")
    pair("XADD", "s", "1-1", "f", "v")
    crowd.read(0)
    pair("DEL", "s")
    pair("RPUSH", "s", "x")
    crowd.read(1)


def test_plus_reads_the_last_entry(pair: Pair) -> None:
    """7.4's, which the reference does not know."""
    tested = pair.tested
    for client in (pair.reference, tested):
        client.call("XADD", "s", "1-1", "f", "1")
        client.call("XADD", "s", "2-1", "f", "2")
    for last in ("2-1", "1-1"):
        assert tested.call_raw("XREAD", "STREAMS", "s", "+") == tested.call_raw(
            "XREAD", "STREAMS", "s", f"({last}"[1:2] + "-0"
        )
        tested.call("XDEL", "s", last)
    assert tested.call("XREAD", "STREAMS", "s", "+") is None

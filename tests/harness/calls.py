"""Calls of every command, drawn from its syntax: right, nearly right, and wrong.

    CALLS       a strategy for the words of a call of any command but those in SKIPPED

The arguments are drawn by their types, with numbers at all limits, empty, long and binary strings. Then words
are left out, repeated, exchanged, replaced, and mixed with the command's own keywords in odd places.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from lamina.server import commands
from lamina.server.directives import BY_NAME
from lamina.server.registry import Command, all_commands
from lamina.server.syntaxes import parse_syntax

GROUPS = commands.GROUPS

Words = list[bytes]

SKIPPED = {
    "ACL|LOAD": "reads a file",
    "ACL|SAVE": "writes a file",
    "BGREWRITEAOF": "needs a loop",
    "BGSAVE": "starts a process",
    "CHECKPOINT": "makes a directory",
    "CONFIG|REWRITE": "writes a file",
    "DEBUG": "sleeps, and does on purpose what must not happen",
    "MIGRATE": "connects to other servers",
    "PFSELFTEST": "takes half a second, and no arguments",
    "SAVE": "writes a file",
    "SHUTDOWN": "ends the process",
}
"""Commands that are not called, by why."""

_DIRECTIVES_LEFT_OUT = frozenset(
    "bind port unixsocket loglevel logfile dir dbfilename save requirepass proto-max-bulk-len hz".split()
)
"""Directives that reach beyond the server's own state, or would bring the history to its end."""

KEYS = [
    b"string",
    b"number",
    b"list",
    b"set",
    b"ints",
    b"zset",
    b"hash",
    b"stream",
    b"geo",
    b"hll",
    b"none",
    b"",
    b"\0\xff",
]
"""Of every type, see `setup`, and of none."""

NUMBERS = [
    *(b"0", b"1", b"-1", b"2", b"3", b"5", b"10", b"-3", b"100", b"127", b"128", b"255", b"256", b"-128"),
    *(b"2147483647", b"2147483648", b"-2147483648", b"-2147483649", b"4294967295", b"4294967296"),
    *(b"9223372036854775807", b"9223372036854775808", b"-9223372036854775808", b"-9223372036854775809"),
    *(b"9223372036854775806", b"-9223372036854775807", b"18446744073709551615", b"18446744073709551616"),
    *(b"99999999999999999999999999", b"1048577", b"16777217", b"4611686018427387904", b"1700000000000"),
]
FLOATS = [
    *(
        b"0.5",
        b"-0.0",
        b"1e308",
        b"1e309",
        b"-1e309",
        b"inf",
        b"-inf",
        b"+inf",
        b"nan",
        b"-nan",
        b"1e-400",
        b"0x1p3",
    ),
    *(
        b"1.7976931348623157e308",
        b"4.9e-324",
        b"3.0000000000000000000000001",
        b"1e",
        b".5",
        b"5.",
        b"180",
        b"-85.06",
    ),
]
TEXTS = [
    *(
        b"",
        b"a",
        b"b",
        b"c",
        b"m1",
        b"f1",
        b"g",
        b"user",
        b"*",
        b"a*",
        b"[",
        b"\\",
        b"(a",
        b"[b",
        b"-",
        b"+",
        b"$",
        b">",
    ),
    *(
        b"1-1",
        b"5-*",
        b"0-0",
        b"18446744073709551615-18446744073709551615",
        b"1-",
        b"-1-1",
        b"1-1-1",
        b"(1-1",
    ),
    *(
        b"return 1",
        b"return redis.call('get', KEYS[1])",
        b"#!lua name=x\n",
        b"u8",
        b"i64",
        b"u64",
        b"#1",
        b"yes",
        b"no",
    ),
    *(
        b"\x00",
        b"\xff\xfe",
        b"\r\n",
        b"x" * 100,
        b"y" * 5000,
        b"\xc3\x28",
        b" 1",
        b"1 ",
        b"+1",
        b"1.0",
        b"127.0.0.1:1",
    ),
]

_numbers = st.sampled_from(NUMBERS)
_small = st.integers(-5, 12).map(lambda number: b"%d" % number)
_by_type: dict[bytes, st.SearchStrategy[bytes]] = {
    b"key": st.sampled_from(KEYS),
    b"integer": st.one_of(_small, _small, _numbers, st.sampled_from(FLOATS + TEXTS)),
    b"double": st.one_of(_small, st.sampled_from(FLOATS), _numbers, st.sampled_from(TEXTS)),
    b"unix-time": st.one_of(_numbers, _small),
    b"pattern": st.sampled_from(
        [b"*", b"s*", b"[a-z]*", b"*" * 20 + b"x", b"", b"?", b"\\", b"[", b"[^a-", b"{a}*", b"#"]
    ),
    b"string": st.one_of(st.sampled_from(TEXTS), st.sampled_from(KEYS), _numbers, st.sampled_from(FLOATS)),
}


def _words_of(argument: dict[bytes, Any]) -> st.SearchStrategy[Words]:
    """Return a strategy for the words of one argument."""
    flags = {word.text for word in argument[b"flags"].items} if b"flags" in argument else set()
    token = [argument[b"token"]] if b"token" in argument else []
    kind = argument[b"type"]
    if kind == b"pure-token":
        one: st.SearchStrategy[Words] = st.just(token)
        token = []
    elif kind == b"oneof":
        one = st.one_of(*map(_words_of, argument[b"arguments"]))
    elif kind == b"block":
        one = _all_of(argument[b"arguments"])
    else:
        one = _by_type[kind].map(lambda word: [word])
    if b"multiple_token" in flags:
        one = one.map(lambda words: token + words)
    if b"multiple" in flags:
        one = st.lists(one, min_size=1, max_size=3).map(_flat)
    if token and b"multiple_token" not in flags:
        one = one.map(lambda words: token + words)
    return st.one_of(st.just([]), one) if b"optional" in flags else one


def _all_of(arguments: list[dict[bytes, Any]]) -> st.SearchStrategy[Words]:
    return st.tuples(*map(_words_of, arguments)).map(lambda parts: _flat(list(parts)))


def _flat(parts: list[Words]) -> Words:
    return [word for part in parts for word in part]


def _keywords(arguments: list[dict[bytes, Any]]) -> Iterator[bytes]:
    for argument in arguments:
        if b"token" in argument:
            yield argument[b"token"]
        yield from _keywords(argument.get(b"arguments", []))


@st.composite
def _calls_of(
    draw: st.DrawFn, record: Command, arguments: st.SearchStrategy[Words], odd: list[bytes]
) -> Words:
    words = list(draw(arguments))
    for twist in draw(
        st.lists(st.sampled_from(("drop", "repeat", "swap", "replace", "insert", "insert")), max_size=3)
    ):
        at = draw(st.integers(0, max(len(words) - 1, 0)))
        if twist == "insert":
            words.insert(at, draw(st.sampled_from(odd)))
        elif not words:
            continue
        elif twist == "drop":
            del words[at]
        elif twist == "repeat":
            words.insert(at, words[at])
        elif twist == "replace":
            words[at] = draw(st.sampled_from(odd))
        else:
            other = draw(st.integers(0, len(words) - 1))
            words[at], words[other] = words[other], words[at]
    return [*record.name.encode().split(b"|"), *words]


def calls_of(record: Command) -> st.SearchStrategy[Words]:
    """Return a strategy for calls of one command."""
    arguments = parse_syntax(record.syntax, record.name)
    odd = [*TEXTS, *NUMBERS, *FLOATS, *KEYS]
    # The command's own words come as often as all others.
    keywords = sorted(set(_keywords(arguments)))
    odd += keywords * (len(odd) // max(len(keywords), 1))
    drawn = _all_of(arguments)
    if record.name in ("CONFIG|SET", "CONFIG|GET"):
        names = [
            name
            for name in BY_NAME
            if name.decode() not in _DIRECTIVES_LEFT_OUT and not name.startswith(b"tls-")
        ]
        pair = st.tuples(st.sampled_from(names), _by_type[b"string"]).map(list)
        drawn = st.lists(pair, min_size=1, max_size=3).map(_flat)
        odd = NUMBERS + TEXTS
    return _calls_of(record, drawn, odd)


CALLED = [record for record in all_commands() if record.name not in SKIPPED]

CALLS: st.SearchStrategy[Words] = st.one_of(*map(calls_of, CALLED))


def setup() -> list[tuple[Any, ...]]:
    """Return commands that make a key of each type."""
    return [
        ("SET", "string", "a string of some length"),
        ("SET", "number", 10),
        ("RPUSH", "list", "a", "b", "c", 1, 2, "x" * 100),
        ("SADD", "set", "a", "b", "m1", "x" * 100),
        ("SADD", "ints", 1, 2, 3),
        ("ZADD", "zset", 1, "a", 2, "b", 2.5, "m1", "-inf", "c"),
        ("HSET", "hash", "f1", "v", "a", 1, "b", 2.5),
        ("XADD", "stream", "1-1", "f1", "v"),
        ("XADD", "stream", "5-2", "f1", "w", "a", "b"),
        ("XGROUP", "CREATE", "stream", "g", 0),
        ("XREADGROUP", "GROUP", "g", "c", "COUNT", 1, "STREAMS", "stream", ">"),
        ("GEOADD", "geo", 13.361389, 38.115556, "a", 15.087269, 37.502669, "b"),
        ("PFADD", "hll", "a", "b", "c"),
        ("EXPIRE", "hash", 100),
        ("HEXPIRE", "hash", 50, "FIELDS", 1, "a"),
    ]

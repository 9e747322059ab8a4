"""COMMAND GETKEYS and GETKEYSANDFLAGS of drawn calls: where the keys stand, and what is done to them.

What is drawn is the calls of commands whose keys move about, in all their forms, with numbers of keys that
are right, wrong and none, and with options that look like others. Plain commands come from the table.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.commands import (
    Command,
    Family,
    choice,
    command,
    flags,
    maybe,
    quick,
    several,
    words,
)
from harness.compat import Pair, Step
from harness.newer import LAMINAS_OWN, NEWER
from lamina.server import commands
from lamina.server.registry import Command as Declared
from lamina.server.registry import all_commands

GROUPS = commands.GROUPS

KEYS = st.sampled_from([b"k", b"l", b"", b"STORE", b"get", b"KEYS", b"streams", b"\x00\xff", b"2"])
WORDS = st.sampled_from(["a", "1", "0", "2", "-1", "STORE", "STOREDIST", "GET", "BY", "LIMIT", "COUNT", ""])
COUNTS = st.sampled_from(["0", "1", "2", "3", "-1", "x", "", "99999999999999999999"])
COUNTED = words(COUNTS, several(KEYS, least=0))
NAMES = st.sampled_from(["g", "c", ">", "$", "0-0", "STREAMS"])

MOVABLE: Family = [
    command(
        choice("SORT", "SORT_RO"),
        KEYS,
        several(
            choice(
                words("STORE", KEYS),
                words("BY", KEYS),
                words("GET", KEYS),
                words("LIMIT", WORDS, WORDS),
                "ALPHA",
                "DESC",
                WORDS,
            ),
            least=0,
        ),
    ),
    command(choice("ZUNIONSTORE", "ZINTERSTORE", "ZDIFFSTORE"), KEYS, COUNTED, several(WORDS, least=0)),
    command(
        choice("ZUNION", "ZINTER", "ZDIFF", "ZINTERCARD", "SINTERCARD"),
        COUNTED,
        maybe("WEIGHTS", WORDS, WORDS),
        flags("WITHSCORES", "LIMIT"),
    ),
    command(choice("LMPOP", "ZMPOP"), COUNTED, WORDS, maybe("COUNT", WORDS)),
    command(choice("BLMPOP", "BZMPOP"), WORDS, COUNTED, WORDS, maybe("COUNT", WORDS)),
    command(
        choice("EVAL", "EVALSHA", "FCALL", "EVAL_RO", "EVALSHA_RO", "FCALL_RO"),
        WORDS,
        COUNTED,
        several(WORDS, least=0),
    ),
    command(choice("EVAL", "EVALSHA", "FCALL", "EVAL_RO"), WORDS, COUNTS, several(WORDS, least=0)),
    command("XREAD", maybe("COUNT", WORDS), maybe("BLOCK", WORDS), "STREAMS", several(KEYS), several(NAMES)),
    command(
        "XREADGROUP",
        "GROUP",
        NAMES,
        NAMES,
        flags("NOACK"),
        maybe("COUNT", WORDS),
        "STREAMS",
        several(KEYS),
        several(NAMES),
    ),
    # Words before STREAMS that are no options make no call, of which more is not asked.
    command("XREAD", "STREAMS", several(choice(WORDS, "STREAMS", NAMES, "GROUP"), most=8)),
    command("XREADGROUP", "GROUP", NAMES, NAMES, "STREAMS", several(choice(WORDS, "STREAMS", NAMES), most=8)),
    command(
        "MIGRATE",
        "h",
        "6379",
        choice(KEYS, ""),
        "0",
        "10",
        flags("COPY", "REPLACE"),
        maybe("AUTH", WORDS),
        maybe("KEYS", several(KEYS)),
    ),
    command(
        "MIGRATE",
        "h",
        "6379",
        choice(KEYS, ""),
        "0",
        "10",
        maybe("AUTH", "KEYS"),
        maybe("AUTH2", "KEYS", "KEYS"),
        maybe("KEYS", several(KEYS)),
    ),
    command(
        "GEORADIUS",
        KEYS,
        "1",
        "2",
        "3",
        "m",
        several(
            choice(
                words("STORE", KEYS),
                words("STOREDIST", KEYS),
                words("COUNT", WORDS),
                "ANY",
                "WITHDIST",
                WORDS,
            ),
            least=0,
        ),
    ),
    command(
        "GEORADIUSBYMEMBER",
        KEYS,
        WORDS,
        "3",
        "m",
        several(
            choice(words("STORE", KEYS), words("STOREDIST", KEYS), words("COUNT", WORDS), "ASC", WORDS),
            least=0,
        ),
    ),
    command("GEORADIUS_RO", KEYS, "1", "2", "3", "m", several(words("STORE", KEYS), least=0)),
    command("GEOSEARCHSTORE", KEYS, KEYS, several(WORDS, least=5, most=7)),
    command("BITOP", choice("AND", "NOT", WORDS), KEYS, several(KEYS, least=0)),
    command(
        "BITFIELD",
        KEYS,
        several(
            choice(
                words("GET", "u8", "0"),
                words("SET", "u8", "0", "1"),
                words("INCRBY", "u8", "0", "1"),
                words("OVERFLOW", "FAIL"),
                WORDS,
            ),
            least=0,
        ),
    ),
    command("SET", KEYS, WORDS, several(choice("GET", "NX", words("EX", WORDS), WORDS), least=0)),
    command(
        choice("PFCOUNT", "PFMERGE", "SDIFFSTORE", "SINTER", "DEL", "WATCH", "EXISTS", "MGET"), several(KEYS)
    ),
    command(choice("MSET", "MSETNX"), several(KEYS, WORDS)),
    command(choice("BLPOP", "BZPOPMIN"), several(KEYS), WORDS),
    command(
        choice("OBJECT", "MEMORY", "XGROUP", "XINFO"),
        choice("ENCODING", "USAGE", "CREATE", "STREAM", "HELP"),
        several(KEYS, least=0),
    ),
    command(choice("SPUBLISH", "PUBLISH", "SSUBSCRIBE", "SUNSUBSCRIBE", "SUBSCRIBE"), several(KEYS, least=0)),
    command(
        choice("PING", "MULTI", "DBSIZE", "CLUSTER", "nosuch", "LCS", "COPY", "PFDEBUG", "RESTORE"),
        several(WORDS, least=0),
    ),
]


def _ask(question: str, call: Step) -> Step:
    return Step((b"COMMAND", question.encode(), *call.words), call.check)


def _questions(template: Command) -> st.SearchStrategy[Step]:
    return st.builds(_ask, st.sampled_from(["GETKEYS", "GETKEYSANDFLAGS"]), template)


@quick
@given(history=st.lists(st.one_of(*map(_questions, MOVABLE)), min_size=10, max_size=60))
def test_keys_of_drawn_calls(pair: Pair, history: list[Step]) -> None:
    for step in history:
        step.check(pair, *step.words)


PLAIN = [
    record
    for record in all_commands()
    if not record.subcommands and record.find_keys is None and record.name not in NEWER | LAMINAS_OWN
]


@pytest.mark.parametrize("question", ["GETKEYS", "GETKEYSANDFLAGS"])
@pytest.mark.parametrize("record", PLAIN, ids=lambda record: record.name)
def test_keys_of_every_command(pair: Pair, record: Declared, question: str) -> None:
    """With all numbers of arguments, those included that are too few or too many."""
    name = record.name.split("|")
    for count in range(6):
        pair("COMMAND", question, *name, *(f"a{number}" for number in range(count)))

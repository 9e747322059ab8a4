"""Transactions, side by side."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.commands import quick
from harness.compat import Pair

SCRIPTS = {
    "plain": "MULTI|SET a 1|INCR a|GET missing|EXEC|GET a",
    "empty": "MULTI|EXEC|EXEC|DISCARD|MULTI|DISCARD|EXEC",
    "nested": "MULTI|MULTI|WATCH a|SET a 1|EXEC",
    "unknown": "MULTI|NOPE|SET a 1|EXEC|EXEC|GET a",
    "arity": "MULTI|GET|SET a 1|EXEC|GET a",
    "subcommand": "MULTI|CLIENT nope|EXEC",
    "exec with arguments": "MULTI|SET a 1|EXEC x|SET b 1|EXEC|MULTI x|DISCARD x|UNWATCH x|WATCH",
    "discard with arguments": "MULTI|SET a 1|DISCARD x|EXEC",
    "failing inside": "MULTI|SET a x|LPUSH a 1|INCR a|SET b 1|EXEC|GET b",
    "nothing waits": "MULTI|BLPOP l 0|RPUSH l a b|BLPOP l 0|BLMOVE l l LEFT LEFT 0|EXEC",
    "select": "MULTI|SELECT 3|SET a 1|EXEC|GET a|SELECT 0|GET a",
    "own change": "WATCH a|SET a 1|MULTI|SET b 1|EXEC|GET b|MULTI|EXEC",
    "unwatched": "WATCH a|SET a 1|UNWATCH|MULTI|EXEC",
    "unwatched inside": "WATCH a|SET a 1|MULTI|UNWATCH|EXEC|MULTI|EXEC",
    "discarded": "WATCH a|MULTI|DISCARD|SET a 1|MULTI|EXEC",
    "errors before changes": "WATCH a|SET a 1|MULTI|NOPE|EXEC",
    "no change": "SET a 1|WATCH a b|DEL b|GET a|SETNX a 2|MULTI|EXEC",
    "expired": "SET a 1 PX 30|WATCH a|DEBUG SLEEP 0.05|MULTI|EXEC",
    "reset": "WATCH a|MULTI|SET a 1|RESET|EXEC|GET a",
    "monitor": "MULTI|MONITOR|EXEC",
    "hello": "MULTI|CLIENT ID x|ECHO a|EXEC",
    "flushed": "SET a 1|WATCH a missing|FLUSHALL|MULTI|EXEC|WATCH a|FLUSHALL|MULTI|EXEC",
    "swapped": "SET a 1|WATCH a|SWAPDB 0 1|MULTI|EXEC|SWAPDB 0 1",
    "swapped, missing in both": "WATCH a|SWAPDB 0 1|MULTI|EXEC",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts(pair: Pair, name: str) -> None:
    for command in SCRIPTS[name].split("|"):
        pair(*command.split())
    pair.assert_same_contents()


KEYS = st.sampled_from(["a", "b", "c"])
STEPS = st.one_of(
    st.sampled_from("MULTI EXEC EXEC DISCARD UNWATCH NOPE GET FLUSHALL SELECT/1 SELECT/0".split()).map(
        lambda word: word.replace("/", " ")
    ),
    st.builds("{} {}".format, st.sampled_from(["GET", "INCR", "DEL", "WATCH", "LPUSH", "HGETALL"]), KEYS),
    st.builds("SET {} {}".format, KEYS, st.integers(0, 9)),
    st.builds("RENAME {} {}".format, KEYS, KEYS),
    st.builds("LPUSH {} x".format, KEYS),
    st.builds("COPY {} {} REPLACE".format, KEYS, KEYS),
)  # fmt: skip


@given(steps=st.lists(st.tuples(st.booleans(), STEPS), max_size=40))
@quick
def test_two_clients(pair: Pair, steps: list[tuple[bool, str]]) -> None:
    """Both take part, each with transactions of its own."""
    pair.reset()
    others = [server.client(protocol=pair.protocol) for server in pair.servers]
    try:
        for is_other, command in steps:
            if is_other:
                replies = [client.call_raw(*command.split()) for client in others]
                assert replies[0] == replies[1], command
            else:
                pair(*command.split())
        pair.assert_same_contents()
    finally:
        for client in others:
            client.close()

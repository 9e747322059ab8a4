"""All families of commands in one history: what one type's commands do to another's keys, what moves keys.

RENAME, COPY, EXPIRE, SORT and DUMP meet keys of every type, and transactions hold commands of all families.
In the end the contents of all databases are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compat.test_bitmaps import BITMAPS
from compat.test_dump import DUMPS
from compat.test_generic import GENERIC
from compat.test_geo import GEO
from compat.test_hashes import HASHES
from compat.test_hyperloglog import HYPERLOGLOGS
from compat.test_lists import LISTS
from compat.test_sets import SETS
from compat.test_sort import SORT
from compat.test_streams import STREAMS
from compat.test_strings import STRINGS
from compat.test_zsets import ZSETS
from hypothesis import strategies as st

from harness.commands import KEYS, Command, Family, command, history_tests, several, thorough_few
from harness.compat import Pair, Step
from harness.resp import Argument, ErrorReply, Reply

DATA: tuple[Family, ...] = (
    STRINGS,
    BITMAPS,
    HYPERLOGLOGS,
    LISTS,
    SETS,
    HASHES,
    ZSETS,
    GEO,
    STREAMS,
    SORT,
    GENERIC,
    # What moves keys comes often enough to meet keys of all types.
    [command("RENAME", KEYS, KEYS), command("COPY", KEYS, KEYS, "REPLACE"), command("PERSIST", KEYS)],
    [command("EXPIRE", KEYS, "5000000"), command("PEXPIRE", KEYS, "5000000000"), command("DEL", KEYS)],
    DUMPS,
)
"""Families of which each comes as often as any other, however many commands it has."""

ANY: Command = st.one_of(*(st.one_of(*family) for family in DATA))


@dataclass(frozen=True, slots=True)
class Transaction:
    """Commands between MULTI and EXEC. Replies that are compared exactly outside are so here."""

    steps: tuple[Step, ...]

    def __call__(self, pair: Pair, *words: Argument) -> None:
        pair("MULTI")
        for step in self.steps:
            pair(*step.words)
        pair.by(self._view, "EXEC")

    def _view(self, reply: Reply) -> Reply:
        if not isinstance(reply, Sequence) or len(reply) != len(self.steps):
            return reply
        return [
            one if step.check is Pair.__call__ and not isinstance(one, ErrorReply) else type(one)
            for step, one in zip(self.steps, reply, strict=True)
        ]


def transaction(steps: list[Step]) -> Step:
    """Return a transaction as one step of a history."""
    # Commands that more than one call is made for cannot be queued: scans, payloads that are exchanged.
    queued = [step for step in steps if step.words and step.check in _QUEUED]
    return Step(tuple(word for step in queued for word in step.words), Transaction(tuple(queued)))


_QUEUED = (
    Pair.__call__,
    Pair.unordered,
    Pair.pairs,
    Pair.type_only,
    Pair.same_length,
    Pair.ttl,
    Pair.ttl_ms,
    Pair.encoding,
)

MIXED: Family = [
    *[ANY] * 12,
    st.lists(ANY, max_size=6).map(transaction),
    command("WATCH", several(KEYS)),
    command("UNWATCH"),
]

test_mixed, test_mixed_restarted, test_mixed_at_length, test_mixed_restarted_at_length = history_tests(
    "mixed", MIXED, restarted_at_length=thorough_few
)

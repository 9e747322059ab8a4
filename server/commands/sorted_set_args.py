"""What the sorted set commands make of their arguments, where that takes more than a line.

The order in which mistakes are found is Redis's, since each has its own text.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from lamina.server.args import (
    float_,
    input_keys,
    integer,
    integer_in,
    keys_after,
    lex_range,
    positive,
    score_bound,
)
from lamina.server.errors import (
    COUNT_NOT_POSITIVE,
    NOT_A_FLOAT,
    OUT_OF_RANGE,
    SYNTAX,
    WEIGHT_NOT_A_FLOAT,
    CommandError,
)
from lamina.server.keyspace import Keyspace
from lamina.server.numbers import INTEGER_MAX
from lamina.server.types.zsetalgebra import Aggregate, Source, add, higher, lower, open_sources
from lamina.server.types.zsetranges import Members, Range, Ranks, Scores
from lamina.server.types.zsets import GT, LT, NX, XX

_NX_AND_XX = CommandError(b"ERR XX and NX options at the same time are not compatible")
_GT_LT_NX = CommandError(b"ERR GT, LT, and/or NX options at the same time are not compatible")
_INCR_OF_MANY = CommandError(b"ERR INCR option supports a single increment-element pair")
_LIMIT_WITHOUT_BY = CommandError(
    b"ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX"
)
_BYLEX_WITHSCORES = CommandError(b"ERR syntax error, WITHSCORES not supported in combination with BYLEX")
_LIMIT_NEGATIVE = CommandError(b"ERR LIMIT can't be negative")

_CONDITIONS: Final = {b"NX": NX, b"XX": XX, b"GT": GT, b"LT": LT}
_AGGREGATES: Final[dict[bytes, Aggregate]] = {b"SUM": add, b"MIN": lower, b"MAX": higher}

# Ways to name a range.
BY_RANK: Final = 0
BY_SCORE: Final = 1
BY_LEX: Final = 2


class Additions(NamedTuple):
    """What a ZADD asks for."""

    pairs: list[tuple[float, bytes]]
    conditions: int
    is_increment: bool
    counts_changes: bool


def additions(argv: list[bytes]) -> Additions:
    """Return what ``key [NX | XX] [GT | LT] [CH] [INCR] score member [score member ...]`` asks for."""
    at, conditions, is_increment, counts_changes = 2, 0, False, False
    while at < len(argv):
        name = argv[at].upper()
        if name in _CONDITIONS:
            conditions |= _CONDITIONS[name]
        elif name == b"CH":
            counts_changes = True
        elif name == b"INCR":
            is_increment = True
        else:
            break
        at += 1
    count = len(argv) - at
    if not count or count % 2:
        raise SYNTAX
    if conditions & NX and conditions & XX:
        raise _NX_AND_XX
    if conditions & (GT | LT | NX) not in (0, GT, LT, NX):
        raise _GT_LT_NX
    if is_increment and count > 2:
        raise _INCR_OF_MANY
    scores = [float_(score, NOT_A_FLOAT) for score in argv[at::2]]
    return Additions(list(zip(scores, argv[at + 1 :: 2])), conditions, is_increment, counts_changes)


class Reading(NamedTuple):
    """What a range command asks for."""

    wanted: Range
    reverse: bool
    skip: int
    limit: int
    """Negative: no limit."""
    with_scores: bool


def reading(
    argv: list[bytes],
    at: int,
    *,
    by: int | None = None,
    reverse: bool | None = None,
    stores: bool = False,
) -> Reading:
    """Return what ``start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]`` asks for.

    `at` is where `start` stands. `by` and `reverse` are given where the command's name says them and options
    cannot; what is stored has no WITHSCORES.
    """
    skip, limit, has_limit, with_scores = 0, -1, False, False
    option = at + 2
    while option < len(argv):
        name = argv[option].upper()
        if name == b"WITHSCORES" and not stores:
            with_scores = True
        elif name == b"LIMIT" and option + 2 < len(argv):
            skip, limit, has_limit = integer(argv[option + 1]), integer(argv[option + 2]), True
            option += 2
        elif name == b"REV" and reverse is None:
            reverse = True
        elif name == b"BYSCORE" and by is None:
            by = BY_SCORE
        elif name == b"BYLEX" and by is None:
            by = BY_LEX
        else:
            raise SYNTAX
        option += 1
    # A limit of -1 is what Redis takes for none.
    if has_limit and limit != -1 and not by:
        raise _LIMIT_WITHOUT_BY
    if with_scores and by == BY_LEX:
        raise _BYLEX_WITHSCORES
    low, high = argv[at], argv[at + 1]
    wanted: Range
    if not by:
        wanted = Ranks(integer(low), integer(high))
    else:
        if reverse:
            low, high = high, low
        wanted = score_range(low, high) if by == BY_SCORE else Members(*lex_range(low, high))
        if skip < 0:
            skip, limit = 0, 0
    return Reading(wanted, bool(reverse), skip, limit, with_scores)


def score_range(low: bytes, high: bytes) -> Scores:
    """Return a range of scores."""
    return Scores(score_bound(low), score_bound(high))


class Combination(NamedTuple):
    """What ZUNION and its relatives ask for."""

    sources: list[Source]
    aggregate: Aggregate
    with_scores: bool


def combination(
    keyspace: Keyspace, argv: list[bytes], at: int, name: bytes, *, weighs: bool = True, stores: bool = False
) -> Combination:
    """Return what ``numkeys key [key ...] [WEIGHTS weight ...] [AGGREGATE ...] [WITHSCORES]`` asks for.

    `at` is where `numkeys` stands. A difference does not `weigh`; what is stored has no WITHSCORES. Errors
    about the keys come before those about the options, as in Redis.
    """
    keys = input_keys(argv, at, name)
    sources = open_sources(keyspace, keys, is_read=not stores)
    aggregate: Aggregate = add
    with_scores = False
    option = at + 1 + len(keys)
    while option < len(argv):
        word = argv[option].upper()
        left = len(argv) - option
        if weighs and word == b"WEIGHTS" and left > len(keys):
            for source, weight in zip(sources, argv[option + 1 :]):
                source.weight = float_(weight, WEIGHT_NOT_A_FLOAT)
            option += len(keys)
        elif weighs and word == b"AGGREGATE" and left > 1:
            option += 1
            if argv[option].upper() not in _AGGREGATES:
                raise SYNTAX
            aggregate = _AGGREGATES[argv[option].upper()]
        elif word == b"WITHSCORES" and not stores:
            with_scores = True
        else:
            raise SYNTAX
        option += 1
    return Combination(sources, aggregate, with_scores)


def intersection_limit(argv: list[bytes], at: int) -> int:
    """Return the limit of ZINTERCARD, whose options begin at `at`; 0 is none."""
    limit = 0
    while at < len(argv):
        if argv[at].upper() != b"LIMIT" or at + 1 == len(argv):
            raise SYNTAX
        limit = positive(argv[at + 1], _LIMIT_NEGATIVE)
        at += 2
    return limit


def drawing(argv: list[bytes]) -> tuple[int, bool]:
    """Return the count of ZRANDMEMBER, which stands at 2, and whether scores are wanted."""
    count = integer_in(argv[2], -INTEGER_MAX, INTEGER_MAX)
    with_scores = len(argv) > 3
    if len(argv) > 4 or (with_scores and argv[3].upper() != b"WITHSCORES"):
        raise SYNTAX
    if with_scores and abs(count) > INTEGER_MAX // 2:
        raise OUT_OF_RANGE
    return count, with_scores


class Popping(NamedTuple):
    """What ZMPOP and BZMPOP ask for."""

    keys: list[bytes]
    last: bool
    at_most: int


def popping(argv: list[bytes], at: int) -> Popping:
    """Return what ``numkeys key [key ...] MIN | MAX [COUNT count]`` asks for; `numkeys` stands at `at`."""
    keys = keys_after(argv, at)
    at += 1 + len(keys)
    where = argv[at].upper() if at < len(argv) else b""
    if where not in (b"MIN", b"MAX"):
        raise SYNTAX
    options = argv[at + 1 :]
    count = 1
    if options:
        if options[0].upper() != b"COUNT" or len(options) == 1:
            raise SYNTAX
        count = integer(options[1], COUNT_NOT_POSITIVE)
        if count < 1:
            raise COUNT_NOT_POSITIVE
        if len(options) > 2:
            raise SYNTAX
    return Popping(keys, where == b"MAX", count)

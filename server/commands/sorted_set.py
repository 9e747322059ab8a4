"""Commands on sorted sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from lamina.server import events
from lamina.server.args import float_, input_keys, integer, lex_range, timeout_ms
from lamina.server.client import Client
from lamina.server.commands import sorted_set_args as args
from lamina.server.commands import sorted_set_pops as pops
from lamina.server.cursors import parse_cursor, parse_filter
from lamina.server.errors import OUT_OF_RANGE, SYNTAX, wrong_arity
from lamina.server.numbers import format_score, parse_float
from lamina.server.registry import KEYS_BEFORE_LAST, ONE_KEY, TWO_KEYS, F, command, keys_after_count
from lamina.server.replies import NULL_ARRAY, Scored
from lamina.server.types import zsetalgebra, zsetranges, zsets
from lamina.server.types.zsetorder import SCORE_SIZE
from lamina.server.types.zsetranges import Members, Range, Ranks
from lamina.server.types.zsets import ADDED, LISTPACK, SAME, ZSet

_DRAWN_MAX: Final = 1 << 24
"""Members that ZRANDMEMBER draws with repetitions at most. Redis has no limit but memory."""

_RANGE: Final = "O(log N), and O(M) members returned"
_REMOVAL: Final = "O(log N), and O(M) members removed"
_POP: Final = "O(log N) for each member"
_UNION: Final = "O(N) members of all sets, and O(M log M) of the result"
_INTERSECTION: Final = "O(N K) for the N members of the smallest of K sets, and O(M log M) of the result"
_DIFFERENCE: Final = "O(N) members of all sets, or less, and O(M log M) of the result"


def _pops_or_waits(name: str) -> Callable[[F], F]:
    """Declare a command that pops from the first of its sets that exists, or waits."""
    return command(
        name,
        arity=-3,
        flags="write blocking fast",
        keys=KEYS_BEFORE_LAST,
        since="5.0.0",
        complexity="O(log N)",
        notes=("6.0.0: the timeout may have decimals",),
    )


def _combines(name: str, *, since: str, complexity: str) -> Callable[[F], F]:
    """Declare a command that reads `numkeys` sets."""
    return command(
        name,
        arity=-3,
        flags="readonly movablekeys",
        find_keys=keys_after_count(1),
        since=since,
        complexity=complexity,
    )


def _stores_combined(name: str, *, since: str, complexity: str) -> Callable[[F], F]:
    """Declare a command that stores what `numkeys` sets give together."""
    return command(
        name,
        arity=-4,
        flags="write denyoom movablekeys",
        keys=ONE_KEY,
        find_keys=keys_after_count(2, first=1),
        since=since,
        complexity=complexity,
    )


# --- Members and scores


@command(
    "ZADD",
    arity=-4,
    flags="write denyoom fast",
    keys=ONE_KEY,
    since="1.2.0",
    complexity="O(log N) for each member",
    notes=("2.4.0: several members", "3.0.2: XX, NX, CH and INCR", "6.2.0: GT and LT"),
)
def zadd(client: Client, argv: list[bytes]) -> Any:
    """Give members their scores, adding those that are not there.

    ZADD key [NX | XX] [GT | LT] [CH] [INCR] score member [score member ...]
    """
    if len(argv) != 4 or (score := parse_float(argv[2])) is None:
        return _add(client, argv[1], args.additions(argv))
    # One member without options, the usual call, takes a short way: half of the time.
    keyspace, key = client.keyspace, argv[1]
    zset = keyspace.find_or_create(key, ZSet)
    is_new = not zset.elements.size
    outcome = zset.put(argv[3], score)
    if outcome == SAME:
        return 0
    if is_new:
        keyspace.put(key, zset)
    else:
        keyspace.mark(key)
    if keyspace.listens:
        keyspace.event(events.ZSET, b"zadd", key)
    return 1 if outcome == ADDED else 0


@command("ZINCRBY", arity=4, flags="write denyoom fast", keys=ONE_KEY, since="1.2.0", complexity="O(log N)")
def zincrby(client: Client, argv: list[bytes]) -> Any:
    """Add to a member's score, 0 if it is not there; returns the new score.

    ZINCRBY key increment member
    """
    increment = float_(argv[2])
    return _add(client, argv[1], args.Additions([(increment, argv[3])], 0, True, False))


def _add(client: Client, key: bytes, wanted: args.Additions) -> Any:
    pairs, conditions, is_increment, counts_changes = wanted
    added, changed, score = zsets.add(client.keyspace, key, pairs, conditions, is_increment)
    if is_increment:
        return score
    return added + changed if counts_changes else added


@command(
    "ZREM",
    arity=-3,
    flags="write fast",
    keys=ONE_KEY,
    since="1.2.0",
    complexity="O(log N) for each member",
    notes=("2.4.0: several members",),
)
def zrem(client: Client, argv: list[bytes]) -> int:
    """Remove members; returns how many were there.

    ZREM key member [member ...]
    """
    keyspace, key = client.keyspace, argv[1]
    zset = keyspace.find_typed(key, ZSet)
    if zset is None:
        return 0
    removed = sum([zset.remove(member) for member in argv[2:]])
    if removed:
        zsets.save_removal(keyspace, key, zset, b"zrem")
    return removed


@command("ZCARD", arity=2, flags="readonly fast", keys=ONE_KEY, since="1.2.0", complexity="O(1)")
def zcard(client: Client, argv: list[bytes]) -> int:
    """Return the number of members.

    ZCARD key
    """
    zset = client.keyspace.read_typed(argv[1], ZSet)
    return 0 if zset is None else zset.elements.size


@command("ZSCORE", arity=3, flags="readonly fast", keys=ONE_KEY, since="1.2.0", complexity="O(1)")
def zscore(client: Client, argv: list[bytes]) -> float | None:
    """Return a member's score.

    ZSCORE key member
    """
    zset = client.keyspace.read_typed(argv[1], ZSet)
    return None if zset is None else zset.score(argv[2])


@command("ZMSCORE", arity=-3, flags="readonly fast", keys=ONE_KEY, since="6.2.0", complexity="O(N) members")
def zmscore(client: Client, argv: list[bytes]) -> list[float | None]:
    """Return the scores of members, null for those that are not there.

    ZMSCORE key member [member ...]
    """
    zset = client.keyspace.read_typed(argv[1], ZSet)
    return [None] * (len(argv) - 2) if zset is None else zset.scores(argv[2:])


@command(
    "ZRANK",
    arity=-3,
    flags="readonly fast",
    keys=ONE_KEY,
    since="2.0.0",
    complexity="O(log N)",
    notes=("7.2.0: WITHSCORE",),
)
def zrank(client: Client, argv: list[bytes]) -> Any:
    """Return how many members have a lower score than this one, or the same and are smaller.

    ZRANK key member [WITHSCORE]
    """
    return _rank(client, argv, reverse=False)


@command(
    "ZREVRANK",
    arity=-3,
    flags="readonly fast",
    keys=ONE_KEY,
    since="2.0.0",
    complexity="O(log N)",
    notes=("7.2.0: WITHSCORE",),
)
def zrevrank(client: Client, argv: list[bytes]) -> Any:
    """Return how many members have a higher score than this one, or the same and are greater.

    ZREVRANK key member [WITHSCORE]
    """
    return _rank(client, argv, reverse=True)


def _rank(client: Client, argv: list[bytes], *, reverse: bool) -> Any:
    with_score = len(argv) > 3
    if len(argv) > 4:
        raise wrong_arity(argv[0].lower())
    if with_score and argv[3].upper() != b"WITHSCORE":
        raise SYNTAX
    zset = client.keyspace.read_typed(argv[1], ZSet)
    found = None if zset is None else zset.rank(argv[2], reverse=reverse)
    if found is None:
        return NULL_ARRAY if with_score else None
    return list(found) if with_score else found[0]


@command(
    "ZRANDMEMBER",
    arity=-2,
    flags="readonly",
    keys=ONE_KEY,
    since="6.2.0",
    complexity="O(N) members returned, times log of the size where the set lies on disk",
)
def zrandmember(client: Client, argv: list[bytes]) -> Any:
    """Return members drawn at random, all different if the count is positive.

    ZRANDMEMBER key [count [WITHSCORES]]
    """
    keyspace = client.keyspace
    if len(argv) == 2:
        zset = keyspace.read_typed(argv[1], ZSet)
        drawn = None if zset is None else zset.elements.draw()
        return None if drawn is None else drawn[0]
    count, with_scores = args.drawing(argv)
    zset = keyspace.read_typed(argv[1], ZSet)
    if zset is None or not count:
        return []
    if -count > _DRAWN_MAX:
        raise OUT_OF_RANGE
    items = zset.elements.draw_many(abs(count), distinct=count > 0)
    if with_scores:
        return Scored(zsets.decoded(items))
    return [member for member, _ in items]


@command(
    "ZSCAN",
    arity=-3,
    flags="readonly",
    keys=ONE_KEY,
    since="2.8.0",
    complexity="O(1) for every call, O(N) for a complete iteration over N members",
)
def zscan(client: Client, argv: list[bytes]) -> list[Any]:
    """Iterate over the members: return the next cursor, 0 at the end, and some members with their scores.

    ZSCAN key cursor [MATCH pattern] [COUNT count]
    """
    cursor = parse_cursor(argv[2])
    zset = client.keyspace.read_typed(argv[1], ZSet)
    if zset is None:
        return [b"0", []]
    wanted = parse_filter(argv, 3)
    if zset.form == LISTPACK:  # as Redis does: a listpack is returned whole
        cursor, found = 0, zset.scored(zset.order.between(0, zset.elements.size))
    else:
        page = client.server.cursors.page(zset.elements, cursor, wanted.count, prefix=wanted.prefix)
        cursor, found = page[0], zsets.decoded(page[1])
    if wanted.matcher is not None:
        found = [item for item in found if wanted.matcher(item[0])]
    # Bulk strings in RESP3 too; of a large set with all 17 digits, unlike anywhere else.
    text_of = format_score if zset.form == LISTPACK else b"%.17g".__mod__
    return [b"%d" % cursor, [part for member, score in found for part in (member, text_of(score))]]


# --- Ranges


@command(
    "ZRANGE",
    arity=-4,
    flags="readonly",
    keys=ONE_KEY,
    since="1.2.0",
    complexity=_RANGE,
    notes=("6.2.0: REV, BYSCORE, BYLEX and LIMIT",),
)
def zrange(client: Client, argv: list[bytes]) -> Any:
    """Return the members in a range of ranks, scores or members.

    ZRANGE key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]
    """
    return _read(client, argv[1], args.reading(argv, 2))


@command("ZREVRANGE", arity=-4, flags="readonly", keys=ONE_KEY, since="1.2.0", complexity=_RANGE)
def zrevrange(client: Client, argv: list[bytes]) -> Any:
    """Return the members in a range of ranks, which count from the highest score.

    ZREVRANGE key start stop [WITHSCORES]
    """
    return _read(client, argv[1], args.reading(argv, 2, by=args.BY_RANK, reverse=True))


@command(
    "ZRANGEBYSCORE",
    arity=-4,
    flags="readonly",
    keys=ONE_KEY,
    since="1.0.5",
    complexity=_RANGE,
    notes=("2.0.0: WITHSCORES",),
)
def zrangebyscore(client: Client, argv: list[bytes]) -> Any:
    """Return the members in a range of scores.

    ZRANGEBYSCORE key min max [WITHSCORES] [LIMIT offset count]
    """
    return _read(client, argv[1], args.reading(argv, 2, by=args.BY_SCORE, reverse=False))


@command("ZREVRANGEBYSCORE", arity=-4, flags="readonly", keys=ONE_KEY, since="2.2.0", complexity=_RANGE)
def zrevrangebyscore(client: Client, argv: list[bytes]) -> Any:
    """Return the members in a range of scores, the highest first.

    ZREVRANGEBYSCORE key max min [WITHSCORES] [LIMIT offset count]
    """
    return _read(client, argv[1], args.reading(argv, 2, by=args.BY_SCORE, reverse=True))


@command("ZRANGEBYLEX", arity=-4, flags="readonly", keys=ONE_KEY, since="2.8.9", complexity=_RANGE)
def zrangebylex(client: Client, argv: list[bytes]) -> Any:
    """Return the members in a range of members, where all have the same score.

    ZRANGEBYLEX key min max [LIMIT offset count]
    """
    return _read(client, argv[1], args.reading(argv, 2, by=args.BY_LEX, reverse=False))


@command("ZREVRANGEBYLEX", arity=-4, flags="readonly", keys=ONE_KEY, since="2.8.9", complexity=_RANGE)
def zrevrangebylex(client: Client, argv: list[bytes]) -> Any:
    """Return the members in a range of members, the greatest first, where all have the same score.

    ZREVRANGEBYLEX key max min [LIMIT offset count]
    """
    return _read(client, argv[1], args.reading(argv, 2, by=args.BY_LEX, reverse=True))


def _read(client: Client, key: bytes, reading: args.Reading) -> Any:
    wanted, reverse, skip, limit, with_scores = reading
    zset = client.keyspace.read_typed(key, ZSet)
    if zset is None:
        return []
    keys = wanted.keys(zset, reverse=reverse, skip=skip, limit=limit)
    return Scored(zset.scored(keys)) if with_scores else [key[SCORE_SIZE:] for key in keys]


@command(
    "ZRANGESTORE",
    arity=-5,
    flags="write denyoom",
    keys=TWO_KEYS,
    since="6.2.0",
    complexity="O(log N), and O(M log M) members stored",
)
def zrangestore(client: Client, argv: list[bytes]) -> int:
    """Store the members in a range as a sorted set of their own; returns how many.

    ZRANGESTORE destination source start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count]
    """
    wanted, reverse, skip, limit, _ = args.reading(argv, 3, stores=True)
    keyspace = client.keyspace
    zset = keyspace.read_typed(argv[2], ZSet)
    scores: dict[bytes, float] = {}
    if zset is not None:
        scores.update(zset.scored(wanted.keys(zset, reverse=reverse, skip=skip, limit=limit)))
    return zsets.store(keyspace, argv[1], scores, b"zrangestore", grows=True)


@command("ZCOUNT", arity=4, flags="readonly fast", keys=ONE_KEY, since="2.0.0", complexity="O(log N)")
def zcount(client: Client, argv: list[bytes]) -> int:
    """Return how many members lie in a range of scores.

    ZCOUNT key min max
    """
    return _count(client, argv[1], args.score_range(argv[2], argv[3]))


@command("ZLEXCOUNT", arity=4, flags="readonly fast", keys=ONE_KEY, since="2.8.9", complexity="O(log N)")
def zlexcount(client: Client, argv: list[bytes]) -> int:
    """Return how many members lie in a range of members, where all have the same score.

    ZLEXCOUNT key min max
    """
    return _count(client, argv[1], Members(*lex_range(argv[2], argv[3])))


def _count(client: Client, key: bytes, wanted: Range) -> int:
    zset = client.keyspace.read_typed(key, ZSet)
    return 0 if zset is None else wanted.count(zset)


@command("ZREMRANGEBYRANK", arity=4, flags="write", keys=ONE_KEY, since="2.0.0", complexity=_REMOVAL)
def zremrangebyrank(client: Client, argv: list[bytes]) -> int:
    """Remove the members in a range of ranks; returns how many.

    ZREMRANGEBYRANK key start stop
    """
    wanted = Ranks(integer(argv[2]), integer(argv[3]))
    return zsetranges.remove(client.keyspace, argv[1], wanted, b"zremrangebyrank")


@command("ZREMRANGEBYSCORE", arity=4, flags="write", keys=ONE_KEY, since="1.2.0", complexity=_REMOVAL)
def zremrangebyscore(client: Client, argv: list[bytes]) -> int:
    """Remove the members in a range of scores; returns how many.

    ZREMRANGEBYSCORE key min max
    """
    wanted = args.score_range(argv[2], argv[3])
    return zsetranges.remove(client.keyspace, argv[1], wanted, b"zremrangebyscore")


@command("ZREMRANGEBYLEX", arity=4, flags="write", keys=ONE_KEY, since="2.8.9", complexity=_REMOVAL)
def zremrangebylex(client: Client, argv: list[bytes]) -> int:
    """Remove the members in a range of members, where all have the same score; returns how many.

    ZREMRANGEBYLEX key min max
    """
    wanted = Members(*lex_range(argv[2], argv[3]))
    return zsetranges.remove(client.keyspace, argv[1], wanted, b"zremrangebylex")


# --- Popping


@command("ZPOPMIN", arity=-2, flags="write fast", keys=ONE_KEY, since="5.0.0", complexity=_POP)
def zpopmin(client: Client, argv: list[bytes]) -> Any:
    """Remove and return the members with the lowest scores, one if no count is given.

    ZPOPMIN key [count]
    """
    return pops.pop(client, argv, last=False)


@command("ZPOPMAX", arity=-2, flags="write fast", keys=ONE_KEY, since="5.0.0", complexity=_POP)
def zpopmax(client: Client, argv: list[bytes]) -> Any:
    """Remove and return the members with the highest scores, one if no count is given.

    ZPOPMAX key [count]
    """
    return pops.pop(client, argv, last=True)


@command(
    "ZMPOP",
    arity=-4,
    flags="write movablekeys",
    find_keys=keys_after_count(1),
    since="7.0.0",
    complexity="O(K) keys, and O(M log N) for M members popped",
)
def zmpop(client: Client, argv: list[bytes]) -> Any:
    """Remove and return members of the first of the sorted sets that exists, with its key.

    ZMPOP numkeys key [key ...] MIN | MAX [COUNT count]
    """
    return pops.pop_any(client, args.popping(argv, 1))


@command(
    "BZMPOP",
    arity=-5,
    flags="write blocking movablekeys",
    find_keys=keys_after_count(2),
    since="7.0.0",
    complexity="O(K) keys, and O(M log N) for M members popped",
)
def bzmpop(client: Client, argv: list[bytes]) -> Any:
    """Do what ZMPOP does; if no set exists, wait until one does. A timeout of 0 is for ever.

    BZMPOP timeout numkeys key [key ...] MIN | MAX [COUNT count]
    """
    wanted = args.popping(argv, 2)
    return pops.pop_any(client, wanted, timeout_ms=timeout_ms(argv[1]))


@_pops_or_waits("BZPOPMIN")
def bzpopmin(client: Client, argv: list[bytes]) -> Any:
    """Pop the member with the lowest score; if no set exists, wait until one does. Timeout 0 is for ever.

    BZPOPMIN key [key ...] timeout
    """
    return pops.pop_or_wait(client, argv, last=False)


@_pops_or_waits("BZPOPMAX")
def bzpopmax(client: Client, argv: list[bytes]) -> Any:
    """Pop the member with the highest score; if no set exists, wait until one does. Timeout 0 is for ever.

    BZPOPMAX key [key ...] timeout
    """
    return pops.pop_or_wait(client, argv, last=True)


# --- Several sets


@_combines("ZUNION", since="6.2.0", complexity=_UNION)
def zunion(client: Client, argv: list[bytes]) -> Any:
    """Return the members of any of the sets, with the sum, minimum or maximum of their weighted scores.

    ZUNION numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE (SUM | MIN | MAX)] [WITHSCORES]
    """
    wanted = args.combination(client.keyspace, argv, 1, b"zunion")
    return _reply(zsetalgebra.union(wanted.sources, wanted.aggregate), wanted)


@_combines("ZINTER", since="6.2.0", complexity=_INTERSECTION)
def zinter(client: Client, argv: list[bytes]) -> Any:
    """Return the members of all of the sets, with the sum, minimum or maximum of their weighted scores.

    ZINTER numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE (SUM | MIN | MAX)] [WITHSCORES]
    """
    wanted = args.combination(client.keyspace, argv, 1, b"zinter")
    return _reply(zsetalgebra.intersection(wanted.sources, wanted.aggregate), wanted)


@_combines("ZDIFF", since="6.2.0", complexity=_DIFFERENCE)
def zdiff(client: Client, argv: list[bytes]) -> Any:
    """Return the members of the first set that are in none of the others.

    ZDIFF numkeys key [key ...] [WITHSCORES]
    """
    wanted = args.combination(client.keyspace, argv, 1, b"zdiff", weighs=False)
    return _reply(zsetalgebra.difference(wanted.sources), wanted)


def _reply(result: zsetalgebra.Result, wanted: args.Combination) -> Any:
    items = zsetalgebra.in_order(result)
    return Scored(items) if wanted.with_scores else [member for member, _ in items]


@_combines("ZINTERCARD", since="7.0.0", complexity="O(N K) for the N members of the smallest of K sets")
def zintercard(client: Client, argv: list[bytes]) -> int:
    """Return how many members all of the sets have; a limit, if it is not 0, is where counting stops.

    ZINTERCARD numkeys key [key ...] [LIMIT limit]
    """
    keys = input_keys(argv, 1, b"zintercard")
    sources = zsetalgebra.open_sources(client.keyspace, keys, is_read=True)
    return zsetalgebra.count_intersection(sources, args.intersection_limit(argv, 2 + len(keys)))


@_stores_combined("ZUNIONSTORE", since="2.0.0", complexity=_UNION)
def zunionstore(client: Client, argv: list[bytes]) -> int:
    """Store what ZUNION returns; returns how many members that are.

    ZUNIONSTORE destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE (SUM | MIN | MAX)]
    """
    keyspace = client.keyspace
    wanted = args.combination(keyspace, argv, 2, b"zunionstore", stores=True)
    return zsets.store(keyspace, argv[1], zsetalgebra.union(wanted.sources, wanted.aggregate), b"zunionstore")


@_stores_combined("ZINTERSTORE", since="2.0.0", complexity=_INTERSECTION)
def zinterstore(client: Client, argv: list[bytes]) -> int:
    """Store what ZINTER returns; returns how many members that are.

    ZINTERSTORE destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE (SUM | MIN | MAX)]
    """
    keyspace = client.keyspace
    wanted = args.combination(keyspace, argv, 2, b"zinterstore", stores=True)
    result = zsetalgebra.intersection(wanted.sources, wanted.aggregate)
    return zsets.store(keyspace, argv[1], result, b"zinterstore")


@_stores_combined("ZDIFFSTORE", since="6.2.0", complexity=_DIFFERENCE)
def zdiffstore(client: Client, argv: list[bytes]) -> int:
    """Store what ZDIFF returns; returns how many members that are.

    ZDIFFSTORE destination numkeys key [key ...]
    """
    keyspace = client.keyspace
    wanted = args.combination(keyspace, argv, 2, b"zdiffstore", weighs=False, stores=True)
    return zsets.store(keyspace, argv[1], zsetalgebra.difference(wanted.sources), b"zdiffstore")

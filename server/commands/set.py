"""Commands on sets."""

from __future__ import annotations

from lamina.server.args import integer_in, keys_after, positive
from lamina.server.client import Client
from lamina.server.cursors import parse_cursor, parse_filter
from lamina.server.errors import NUMKEYS_TOO_LARGE, OUT_OF_RANGE, SYNTAX, CommandError
from lamina.server.gathering import watched
from lamina.server.keyspace import Keyspace
from lamina.server.numbers import INTEGER_MAX
from lamina.server.registry import (
    ALL_KEYS,
    ONE_KEY,
    TWO_KEYS,
    command,
    keys_after_count,
)
from lamina.server.types import sets
from lamina.server.types.sets import INTSET, Set

_LIMIT_NEGATIVE = CommandError(b"ERR LIMIT can't be negative")

_DRAWN_MAX = 1 << 24
"""Most elements that SRANDMEMBER repeats: more would not fit into memory."""


# --- Members


@command(
    "SADD",
    arity=-3,
    flags="write denyoom fast",
    keys=ONE_KEY,
    since="1.0.0",
    complexity="O(N)",
    notes=("2.4.0: Accepts multiple member arguments.",),
)
def sadd(client: Client, argv: list[bytes]) -> int:
    """Add members to a set, creating it if it is missing.

    SADD key member [member ...]
    """
    return sets.add(client.keyspace, argv[1], argv[2:])


@command(
    "SREM",
    arity=-3,
    flags="write fast",
    keys=ONE_KEY,
    since="1.0.0",
    complexity="O(N)",
    notes=("2.4.0: Accepts multiple member arguments.",),
)
def srem(client: Client, argv: list[bytes]) -> int:
    """Remove members from a set.

    SREM key member [member ...]
    """
    return sets.remove(client.keyspace, argv[1], argv[2:])


@command("SMOVE", arity=4, flags="write fast", keys=TWO_KEYS, since="1.0.0", complexity="O(1)")
def smove(client: Client, argv: list[bytes]) -> int:
    """Move a member from one set to another.

    SMOVE source destination member
    """
    return int(sets.move(client.keyspace, argv[1], argv[2], argv[3]))


@command("SISMEMBER", arity=3, flags="readonly fast", keys=ONE_KEY, since="1.0.0", complexity="O(1)")
def sismember(client: Client, argv: list[bytes]) -> int:
    """Tell whether a set has a member.

    SISMEMBER key member
    """
    record = client.keyspace.read_typed(argv[1], Set)
    if record is None:
        return 0
    return 0 if record.elements.get(argv[2]) is None else 1


@command("SMISMEMBER", arity=-3, flags="readonly fast", keys=ONE_KEY, since="6.2.0", complexity="O(N)")
def smismember(client: Client, argv: list[bytes]) -> list[int]:
    """Tell for each of several members whether a set has it.

    SMISMEMBER key member [member ...]
    """
    record = client.keyspace.read_typed(argv[1], Set)
    if record is None:
        return [0] * (len(argv) - 2)
    return [0 if value is None else 1 for value in record.elements.get_many(argv[2:])]


@command("SCARD", arity=2, flags="readonly fast", keys=ONE_KEY, since="1.0.0", complexity="O(1)")
def scard(client: Client, argv: list[bytes]) -> int:
    """Return the number of members of a set.

    SCARD key
    """
    record = client.keyspace.read_typed(argv[1], Set)
    return 0 if record is None else record.elements.size


@command("SMEMBERS", arity=2, flags="readonly", keys=ONE_KEY, since="1.0.0", complexity="O(N)")
def smembers(client: Client, argv: list[bytes]) -> set[bytes] | list[bytes]:
    """Return all members of a set.

    SMEMBERS key
    """
    record = client.keyspace.read_typed(argv[1], Set)
    return _as_set(client, [] if record is None else record.elements.keys())


def _as_set(client: Client, members: list[bytes]) -> set[bytes] | list[bytes]:
    # To RESP2 a set is an array; making one first would cost 50 ns for each member.
    return members if client.resp == 2 else set(members)


@command("SSCAN", arity=-3, flags="readonly", keys=ONE_KEY, since="2.8.0", complexity="O(1)")
def sscan(client: Client, argv: list[bytes]) -> list[bytes | list[bytes]]:
    """Return some members of a set, and a cursor to go on from; it is 0 at the end.

    SSCAN key cursor [MATCH pattern] [COUNT count]
    """
    cursor = parse_cursor(argv[2])
    record = client.keyspace.read_typed(argv[1], Set)
    if record is None:
        return [b"0", []]
    wanted = parse_filter(argv, 3)
    if record.form != sets.HASHTABLE:
        # Redis returns small sets whole, whatever the cursor and the count.
        cursor, members = 0, record.elements.keys()
    else:
        cursor, items = client.server.cursors.page(
            record.elements, cursor, wanted.count, prefix=wanted.prefix
        )
        members = [member for member, _ in items]
    if wanted.matcher is not None:
        members = list(filter(wanted.matcher, members))
    return [b"%d" % cursor, members]


# --- Members drawn at random


@command(
    "SPOP",
    arity=-2,
    flags="write fast",
    keys=ONE_KEY,
    since="1.0.0",
    complexity="O(N)",
    notes=("3.2.0: Added the count argument.",),
)
def spop(client: Client, argv: list[bytes]) -> bytes | set[bytes] | list[bytes] | None:
    """Remove one or more members of a set, drawn at random, and return them.

    SPOP key [count]
    """
    if len(argv) == 2:
        return sets.pop(client.keyspace, argv[1])
    if len(argv) > 3:
        raise SYNTAX
    count = positive(argv[2])
    return _as_set(client, sets.pop_many(client.keyspace, argv[1], count))


@command(
    "SRANDMEMBER",
    arity=-2,
    flags="readonly",
    keys=ONE_KEY,
    since="1.0.0",
    complexity="O(N)",
    notes=("2.6.0: Added the count argument.",),
)
def srandmember(client: Client, argv: list[bytes]) -> bytes | list[bytes] | None:
    """Return one or more members of a set, drawn at random; with a negative count, they may repeat.

    SRANDMEMBER key [count]
    """
    if len(argv) > 3:
        raise SYNTAX
    if len(argv) == 2:
        record = client.keyspace.read_typed(argv[1], Set)
        drawn = None if record is None else record.elements.draw()
        return None if drawn is None else drawn[0]
    count = integer_in(argv[2], -INTEGER_MAX, INTEGER_MAX)
    if count < -_DRAWN_MAX:
        raise OUT_OF_RANGE  # the reply would be larger than memory
    record = client.keyspace.read_typed(argv[1], Set)
    if record is None or not count:
        return []
    return [member for member, _ in record.elements.draw_many(abs(count), distinct=count > 0)]


# --- Several sets


@command("SINTER", arity=-2, flags="readonly", keys=ALL_KEYS, since="1.0.0", complexity="O(N*M)")
def sinter(client: Client, argv: list[bytes]) -> set[bytes] | list[bytes]:
    """Return the members that all of several sets have.

    SINTER key [key ...]
    """
    return _as_set(client, list(watched(sets.intersection(_read_sets(client.keyspace, argv[1:])))))


def _read_sets(keyspace: Keyspace, keys: list[bytes]) -> list[Set | None]:
    """Return the sets at keys. All are looked at, so that a wrong type is found behind a missing key too."""
    return [keyspace.read_typed(key, Set) for key in keys]


@command(
    "SINTERCARD",
    arity=-3,
    flags="readonly movablekeys",
    find_keys=keys_after_count(1),
    since="7.0.0",
    complexity="O(N*M)",
)
def sintercard(client: Client, argv: list[bytes]) -> int:
    """Return how many members all of several sets have, counting no further than the limit.

    SINTERCARD numkeys key [key ...] [LIMIT limit]
    """
    keys = keys_after(argv, 1, too_many=NUMKEYS_TOO_LARGE)
    limit = 0
    options = iter(argv[2 + len(keys) :])
    for option in options:
        text = next(options, None)
        if option.upper() != b"LIMIT" or text is None:
            raise SYNTAX
        limit = positive(text, _LIMIT_NEGATIVE)
    records = _read_sets(client.keyspace, keys)
    return sum(1 for _ in sets.intersection(records, limit=limit))


@command("SINTERSTORE", arity=-3, flags="write denyoom", keys=ALL_KEYS, since="1.0.0", complexity="O(N*M)")
def sinterstore(client: Client, argv: list[bytes]) -> int:
    """Store the members that all of several sets have.

    SINTERSTORE destination key [key ...]
    """
    keyspace = client.keyspace
    records = _read_sets(keyspace, argv[2:])
    members = list(watched(sets.intersection(records)))
    # Redis begins with a set like the smallest one.
    smallest = min([record for record in records if record is not None], key=sets.size_of, default=None)
    form = INTSET if smallest is None else smallest.form
    return sets.store(keyspace, argv[1], members, form=form, event=b"sinterstore")


@command("SUNION", arity=-2, flags="readonly", keys=ALL_KEYS, since="1.0.0", complexity="O(N)")
def sunion(client: Client, argv: list[bytes]) -> set[bytes]:
    """Return the members that at least one of several sets has.

    SUNION key [key ...]
    """
    return sets.union(_read_sets(client.keyspace, argv[1:]))


@command("SUNIONSTORE", arity=-3, flags="write denyoom", keys=ALL_KEYS, since="1.0.0", complexity="O(N)")
def sunionstore(client: Client, argv: list[bytes]) -> int:
    """Store the members that at least one of several sets has.

    SUNIONSTORE destination key [key ...]
    """
    keyspace = client.keyspace
    members = sets.union(_read_sets(keyspace, argv[2:]))
    return sets.store(keyspace, argv[1], members, form=INTSET, event=b"sunionstore")


@command("SDIFF", arity=-2, flags="readonly", keys=ALL_KEYS, since="1.0.0", complexity="O(N)")
def sdiff(client: Client, argv: list[bytes]) -> set[bytes]:
    """Return the members of a set that none of several others has.

    SDIFF key [key ...]
    """
    return sets.difference(_read_sets(client.keyspace, argv[1:]))


@command("SDIFFSTORE", arity=-3, flags="write denyoom", keys=ALL_KEYS, since="1.0.0", complexity="O(N)")
def sdiffstore(client: Client, argv: list[bytes]) -> int:
    """Store the members of a set that none of several others has.

    SDIFFSTORE destination key [key ...]
    """
    keyspace = client.keyspace
    members = sets.difference(_read_sets(keyspace, argv[2:]))
    return sets.store(keyspace, argv[1], members, form=INTSET, event=b"sdiffstore")

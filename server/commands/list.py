"""Commands on lists, those that wait for an element among them.

A blocking command first tries, as its plain form does. If there is nothing to take it waits at its keys, and
when a list has come into being at one of them, all of the command is tried again: so of several keys it takes
the first in its own order that has an element, and an error that has become due is its reply.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lamina.server.args import integer, integer_in, keys_after, positive, timeout_ms
from lamina.server.blocking import NOTHING, wait_for
from lamina.server.client import Client
from lamina.server.errors import COUNT_NEGATIVE, COUNT_NOT_POSITIVE, SYNTAX, CommandError, wrong_arity
from lamina.server.numbers import INTEGER_MAX
from lamina.server.registry import KEYS_BEFORE_LAST, ONE_KEY, TWO_KEYS, command, keys_after_count
from lamina.server.replies import NULL_ARRAY, OK, Simple
from lamina.server.types import lists
from lamina.server.types.lists import List

_RANK_ZERO = CommandError(
    b"ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to "
    b"start from the end of the list"
)
_MAXLEN_NEGATIVE = CommandError(b"ERR MAXLEN can't be negative")

_SEVERAL_ELEMENTS = "several elements in one call"
_DOUBLE_TIMEOUT = "6.0.0: the timeout may have decimals"


def _is_left(argument: bytes) -> bool:
    """Return what LEFT or RIGHT says."""
    where = argument.upper()
    if where == b"LEFT":
        return True
    if where == b"RIGHT":
        return False
    raise SYNTAX


# --- Pushing


@command(
    "LPUSH",
    arity=-3,
    flags="write denyoom fast",
    keys=ONE_KEY,
    since="1.0.0",
    complexity="O(1) for each element",
    notes=(f"2.4.0: {_SEVERAL_ELEMENTS}",),
)
def lpush(client: Client, argv: list[bytes]) -> int:
    """Put elements before all others, one after the other; returns the length of the list.

    LPUSH key element [element ...]
    """
    return lists.push(client.keyspace, argv[1], argv[2:], left=True)


@command(
    "RPUSH",
    arity=-3,
    flags="write denyoom fast",
    keys=ONE_KEY,
    since="1.0.0",
    complexity="O(1) for each element",
    notes=(f"2.4.0: {_SEVERAL_ELEMENTS}",),
)
def rpush(client: Client, argv: list[bytes]) -> int:
    """Put elements behind all others; returns the length of the list.

    RPUSH key element [element ...]
    """
    return lists.push(client.keyspace, argv[1], argv[2:], left=False)


@command(
    "LPUSHX",
    arity=-3,
    flags="write denyoom fast",
    keys=ONE_KEY,
    since="2.2.0",
    complexity="O(1) for each element",
    notes=(f"4.0.0: {_SEVERAL_ELEMENTS}",),
)
def lpushx(client: Client, argv: list[bytes]) -> int:
    """Do what LPUSH does if the list exists.

    LPUSHX key element [element ...]
    """
    keyspace = client.keyspace
    if keyspace.find_typed(argv[1], List) is None:
        return 0
    return lists.push(keyspace, argv[1], argv[2:], left=True)


@command(
    "RPUSHX",
    arity=-3,
    flags="write denyoom fast",
    keys=ONE_KEY,
    since="2.2.0",
    complexity="O(1) for each element",
    notes=(f"4.0.0: {_SEVERAL_ELEMENTS}",),
)
def rpushx(client: Client, argv: list[bytes]) -> int:
    """Do what RPUSH does if the list exists.

    RPUSHX key element [element ...]
    """
    keyspace = client.keyspace
    if keyspace.find_typed(argv[1], List) is None:
        return 0
    return lists.push(keyspace, argv[1], argv[2:], left=False)


@command(
    "LINSERT", arity=5, flags="write denyoom", keys=ONE_KEY, since="2.2.0", complexity="O(N) to the pivot"
)
def linsert(client: Client, argv: list[bytes]) -> int:
    """Insert an element beside the first one that equals the pivot; returns the length, -1 without pivot.

    LINSERT key BEFORE | AFTER pivot element
    """
    where = argv[2].upper()
    if where != b"BEFORE" and where != b"AFTER":
        raise SYNTAX
    keyspace = client.keyspace
    record = keyspace.find_typed(argv[1], List)
    if record is None:
        return 0
    return lists.insert(keyspace, argv[1], record, argv[3], argv[4], after=where == b"AFTER")


# --- Popping


def _pop(client: Client, argv: list[bytes], *, left: bool) -> Any:
    keyspace = client.keyspace
    key = argv[1]
    if len(argv) == 2:
        record = keyspace.find_typed(key, List)
        return None if record is None else lists.pop(keyspace, key, record, left=left)
    if len(argv) > 3:
        raise wrong_arity(b"lpop" if left else b"rpop")
    count = positive(argv[2])
    record = keyspace.find_typed(key, List)
    return NULL_ARRAY if record is None else lists.pop_many(keyspace, key, record, count, left=left)


@command(
    "LPOP",
    arity=-2,
    flags="write fast",
    keys=ONE_KEY,
    since="1.0.0",
    complexity="O(N) with N elements returned",
    notes=("6.2.0: the count",),
)
def lpop(client: Client, argv: list[bytes]) -> Any:
    """Take the first element, or the first ones.

    LPOP key [count]
    """
    return _pop(client, argv, left=True)


@command(
    "RPOP",
    arity=-2,
    flags="write fast",
    keys=ONE_KEY,
    since="1.0.0",
    complexity="O(N) with N elements returned",
    notes=("6.2.0: the count",),
)
def rpop(client: Client, argv: list[bytes]) -> Any:
    """Take the last element, or the last ones, the very last first.

    RPOP key [count]
    """
    return _pop(client, argv, left=False)


@command("LMOVE", arity=5, flags="write denyoom", keys=TWO_KEYS, since="6.2.0", complexity="O(1)")
def lmove(client: Client, argv: list[bytes]) -> bytes | None:
    """Take an element from one end of a list and put it at one end of another, or of the same.

    LMOVE source destination LEFT | RIGHT LEFT | RIGHT
    """
    from_left, to_left = _is_left(argv[3]), _is_left(argv[4])
    return lists.move(client.keyspace, argv[1], argv[2], from_left=from_left, to_left=to_left)


@command(
    "RPOPLPUSH",
    arity=3,
    flags="write denyoom",
    keys=TWO_KEYS,
    since="1.2.0",
    complexity="O(1)",
    notes=("6.2.0: LMOVE with RIGHT and LEFT does the same",),
)
def rpoplpush(client: Client, argv: list[bytes]) -> bytes | None:
    """Take the last element of a list and put it before all others of another, or of the same.

    RPOPLPUSH source destination
    """
    return lists.move(client.keyspace, argv[1], argv[2], from_left=False, to_left=True)


def _take_first(client: Client, keys: list[bytes], *, left: bool) -> Any:
    """Take an element from the first list there is; returns the reply of BLPOP, or NOTHING."""
    keyspace = client.keyspace
    for key in keys:
        record = keyspace.find_typed(key, List)
        if record is not None:
            return [key, lists.pop(keyspace, key, record, left=left)]
    return NOTHING


def _take_several(client: Client, keys: list[bytes], count: int, *, left: bool) -> Any:
    """Take up to `count` elements from the first list there is; returns the reply of LMPOP, or NOTHING."""
    keyspace = client.keyspace
    for key in keys:
        record = keyspace.find_typed(key, List)
        if record is not None:
            return [key, lists.pop_many(keyspace, key, record, count, left=left)]
    return NOTHING


def _parse_several(argv: list[bytes], at: int) -> tuple[list[bytes], int, bool]:
    """Return keys, count and whether to take from the left: ``numkeys key ... LEFT|RIGHT [COUNT count]``."""
    keys = keys_after(argv, at)
    at += 1 + len(keys)
    if at == len(argv):
        raise SYNTAX
    left = _is_left(argv[at])
    options = argv[at + 1 :]
    if not options:
        return keys, 1, left
    if len(options) != 2 or options[0].upper() != b"COUNT":
        if len(options) > 2 and options[0].upper() == b"COUNT":
            integer_in(options[1], 1, INTEGER_MAX, COUNT_NOT_POSITIVE)
        raise SYNTAX
    return keys, integer_in(options[1], 1, INTEGER_MAX, COUNT_NOT_POSITIVE), left


@command(
    "LMPOP",
    arity=-4,
    flags="write movablekeys",
    find_keys=keys_after_count(1),
    since="7.0.0",
    complexity="O(N + M) with N keys and M elements returned",
)
def lmpop(client: Client, argv: list[bytes]) -> Any:
    """Take elements from the first of several lists that exists.

    LMPOP numkeys key [key ...] LEFT | RIGHT [COUNT count]
    """
    keys, count, left = _parse_several(argv, 1)
    reply = _take_several(client, keys, count, left=left)
    return NULL_ARRAY if reply is NOTHING else reply


# --- Waiting


def _take_or_wait(client: Client, keys: list[bytes], wait_ms: int, take: Callable[[], Any]) -> Any:
    """Return what `take` returns, now or when there is something to take."""
    reply = take()
    if reply is not NOTHING:
        return reply
    keyspace = client.keyspace

    def attempt(key: bytes) -> Any:
        # A key that has come into being with another type is not what this client waits for.
        return take() if keyspace.find(key).__class__ is List else NOTHING

    return wait_for(client, keys, attempt, timeout_ms=wait_ms)


@command(
    "BLPOP",
    arity=-3,
    flags="write blocking",
    keys=KEYS_BEFORE_LAST,
    since="2.0.0",
    complexity="O(N) with N keys",
    notes=(_DOUBLE_TIMEOUT,),
)
def blpop(client: Client, argv: list[bytes]) -> Any:
    """Take the first element of the first of several lists that exists; wait if there is none.

    BLPOP key [key ...] timeout
    """
    wait_ms = timeout_ms(argv[-1])
    keys = argv[1:-1]
    return _take_or_wait(client, keys, wait_ms, lambda: _take_first(client, keys, left=True))


@command(
    "BRPOP",
    arity=-3,
    flags="write blocking",
    keys=KEYS_BEFORE_LAST,
    since="2.0.0",
    complexity="O(N) with N keys",
    notes=(_DOUBLE_TIMEOUT,),
)
def brpop(client: Client, argv: list[bytes]) -> Any:
    """Take the last element of the first of several lists that exists; wait if there is none.

    BRPOP key [key ...] timeout
    """
    wait_ms = timeout_ms(argv[-1])
    keys = argv[1:-1]
    return _take_or_wait(client, keys, wait_ms, lambda: _take_first(client, keys, left=False))


@command(
    "BLMPOP",
    arity=-5,
    flags="write blocking movablekeys",
    find_keys=keys_after_count(2),
    since="7.0.0",
    complexity="O(N + M) with N keys and M elements returned",
)
def blmpop(client: Client, argv: list[bytes]) -> Any:
    """Take elements from the first of several lists that exists; wait if there is none.

    BLMPOP timeout numkeys key [key ...] LEFT | RIGHT [COUNT count]
    """
    keys, count, left = _parse_several(argv, 2)
    wait_ms = timeout_ms(argv[1])
    return _take_or_wait(client, keys, wait_ms, lambda: _take_several(client, keys, count, left=left))


def _move_or_wait(
    client: Client, source: bytes, destination: bytes, wait_ms: int, *, from_left: bool, to_left: bool
) -> Any:
    keyspace = client.keyspace

    def take() -> Any:
        value = lists.move(keyspace, source, destination, from_left=from_left, to_left=to_left)
        return NOTHING if value is None else value

    if client.server.denies_blocking:
        # Inside a transaction the reply is LMOVE's; where a wait ends without an element, it is a null array.
        reply = take()
        return None if reply is NOTHING else reply
    return _take_or_wait(client, [source], wait_ms, take)


@command(
    "BLMOVE",
    arity=6,
    flags="write denyoom blocking",
    keys=TWO_KEYS,
    since="6.2.0",
    complexity="O(1)",
)
def blmove(client: Client, argv: list[bytes]) -> Any:
    """Do what LMOVE does; wait if there is nothing to take.

    BLMOVE source destination LEFT | RIGHT LEFT | RIGHT timeout
    """
    from_left, to_left = _is_left(argv[3]), _is_left(argv[4])
    wait_ms = timeout_ms(argv[5])
    return _move_or_wait(client, argv[1], argv[2], wait_ms, from_left=from_left, to_left=to_left)


@command(
    "BRPOPLPUSH",
    arity=4,
    flags="write denyoom blocking",
    keys=TWO_KEYS,
    since="2.2.0",
    complexity="O(1)",
    notes=(_DOUBLE_TIMEOUT, "6.2.0: BLMOVE with RIGHT and LEFT does the same"),
)
def brpoplpush(client: Client, argv: list[bytes]) -> Any:
    """Do what RPOPLPUSH does; wait if there is nothing to take.

    BRPOPLPUSH source destination timeout
    """
    wait_ms = timeout_ms(argv[3])
    return _move_or_wait(client, argv[1], argv[2], wait_ms, from_left=False, to_left=True)


# --- By rank


@command("LLEN", arity=2, flags="readonly fast", keys=ONE_KEY, since="1.0.0", complexity="O(1)")
def llen(client: Client, argv: list[bytes]) -> int:
    """Return the length of a list.

    LLEN key
    """
    record = client.keyspace.read_typed(argv[1], List)
    return 0 if record is None else record.elements.size


@command(
    "LRANGE",
    arity=4,
    flags="readonly",
    keys=ONE_KEY,
    since="1.0.0",
    complexity="O(log N + M) with M elements returned",
)
def lrange(client: Client, argv: list[bytes]) -> list[bytes]:
    """Return the elements from one rank to another, both included, negative ones from the end.

    LRANGE key start stop
    """
    first, last = integer(argv[2]), integer(argv[3])
    record = client.keyspace.read_typed(argv[1], List)
    return [] if record is None else lists.between(record, first, last)


@command("LINDEX", arity=3, flags="readonly", keys=ONE_KEY, since="1.0.0", complexity="O(log N)")
def lindex(client: Client, argv: list[bytes]) -> bytes | None:
    """Return the element at a rank, a negative one from the end.

    LINDEX key index
    """
    record = client.keyspace.read_typed(argv[1], List)
    return None if record is None else lists.get(record, integer(argv[2]))


@command("LSET", arity=4, flags="write denyoom", keys=ONE_KEY, since="1.0.0", complexity="O(log N)")
def lset(client: Client, argv: list[bytes]) -> Simple:
    """Replace the element at a rank, a negative one from the end.

    LSET key index element
    """
    keyspace = client.keyspace
    record = lists.find_existing(keyspace, argv[1])
    lists.replace(keyspace, argv[1], record, integer(argv[2]), argv[3])
    return OK


@command(
    "LTRIM", arity=4, flags="write", keys=ONE_KEY, since="1.0.0", complexity="O(N) with N elements removed"
)
def ltrim(client: Client, argv: list[bytes]) -> Simple:
    """Keep only the elements from one rank to another, both included, negative ones from the end.

    LTRIM key start stop
    """
    first, last = integer(argv[2]), integer(argv[3])
    keyspace = client.keyspace
    record = keyspace.find_typed(argv[1], List)
    if record is not None:
        lists.trim(keyspace, argv[1], record, first, last)
    return OK


# --- By value


@command("LREM", arity=4, flags="write", keys=ONE_KEY, since="1.0.0", complexity="O(N)")
def lrem(client: Client, argv: list[bytes]) -> int:
    """Remove elements that equal a value: the first ones, the last ones if the count is negative, all if 0.

    LREM key count element
    """
    count = integer(argv[2])
    keyspace = client.keyspace
    record = keyspace.find_typed(argv[1], List)
    return 0 if record is None else lists.remove(keyspace, argv[1], record, argv[3], count)


@command("LPOS", arity=-3, flags="readonly", keys=ONE_KEY, since="6.0.6", complexity="O(N)")
def lpos(client: Client, argv: list[bytes]) -> Any:
    """Return the rank of an element that equals a value, or several ranks.

    LPOS key element [RANK rank] [COUNT num-matches] [MAXLEN len]
    """
    rank, limit, compared = 1, -1, 0
    for at in range(3, len(argv), 2):
        option = argv[at].upper()
        if at + 1 == len(argv):
            raise SYNTAX
        if option == b"RANK":
            rank = integer_in(argv[at + 1], -INTEGER_MAX, INTEGER_MAX)
            if not rank:
                raise _RANK_ZERO
        elif option == b"COUNT":
            limit = positive(argv[at + 1], COUNT_NEGATIVE)
        elif option == b"MAXLEN":
            compared = positive(argv[at + 1], _MAXLEN_NEGATIVE)
        else:
            raise SYNTAX
    is_single = limit < 0
    record = client.keyspace.read_typed(argv[1], List)
    if record is None:
        return None if is_single else []
    ranks = lists.ranks_of(record, argv[2], rank=rank, limit=1 if is_single else limit, compared=compared)
    if not is_single:
        return ranks
    return ranks[0] if ranks else None

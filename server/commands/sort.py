"""SORT and SORT_RO."""

from __future__ import annotations

from lamina.server.acl.access import reads_every_key
from lamina.server.args import integer
from lamina.server.client import RESTRICTED, Client
from lamina.server.errors import SYNTAX, CommandError
from lamina.server.registry import DECLARED, ONE_KEY, command
from lamina.server.types import sorting

_ARGUMENTS = {b"LIMIT": 2, b"BY": 1, b"GET": 1, b"STORE": 1}
"""How many arguments the options have that have some."""


_BY_DENIED = CommandError(b"ERR BY option of SORT denied due to insufficient ACL permissions.")
_GET_DENIED = CommandError(b"ERR GET option of SORT denied due to insufficient ACL permissions.")


def _parse(client: Client, argv: list[bytes], name: bytes) -> sorting.Request:
    """Return what the options ask for. Of those that contradict each other the last one counts.

    `name` is the command's. Patterns that name keys are for users who may read any key.
    """
    may_store = name == b"SORT"
    may_look_up = not client.gate & RESTRICTED or reads_every_key(client.user, DECLARED[name], argv)
    request = sorting.Request()
    get: list[bytes] = []
    at, stop = 2, len(argv)
    while at < stop:
        option = argv[at].upper()
        count = _ARGUMENTS.get(option, 0)
        if at + count >= stop:
            raise SYNTAX
        if option == b"ASC":
            request.is_descending = False
        elif option == b"DESC":
            request.is_descending = True
        elif option == b"ALPHA":
            request.is_alpha = True
        elif option == b"LIMIT":
            request.skip, request.limit = integer(argv[at + 1]), integer(argv[at + 2])
        elif option == b"STORE" and may_store:
            request.target = argv[at + 1]
        elif option == b"BY":
            request.by = argv[at + 1]
            if sorting.names_no_key(request.by):
                # That is not taken back by another BY.
                request.is_sorted = False
            elif not may_look_up:
                raise _BY_DENIED
        elif option == b"GET":
            if not may_look_up:
                raise _GET_DENIED
            get.append(argv[at + 1])
        else:
            raise SYNTAX
        at += 1 + count
    request.get = get
    return request


def _find_keys(argv: list[bytes]) -> list[int]:
    """Return the positions of the key and of the one that the last STORE names."""
    target = 0
    at = 2
    while at < len(argv):
        option = argv[at].upper()
        if option == b"STORE" and at + 1 < len(argv):
            target = at + 1
        at += 1 + _ARGUMENTS.get(option, 0)
    return [1, target] if target else [1]


@command(
    "SORT",
    arity=-2,
    flags="write denyoom movablekeys dangerous",
    keys=ONE_KEY,
    find_keys=_find_keys,
    since="1.0.0",
    complexity="O(N log N) elements, O(M) returned ones if they are not sorted",
    group="generic",
)
def sort(client: Client, argv: list[bytes]) -> list[bytes | None] | int:
    """Return the elements of a list, set or sorted set in order, or store them as a list.

    SORT key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] [ALPHA]
    [STORE destination]
    """
    request = _parse(client, argv, b"SORT")
    keyspace = client.keyspace
    values = sorting.sort(keyspace, argv[1], request)
    if request.target is None:
        return values
    return sorting.store(keyspace, request.target, values)


@command(
    "SORT_RO",
    arity=-2,
    flags="readonly movablekeys dangerous",
    keys=ONE_KEY,
    since="7.0.0",
    complexity="O(N log N) elements, O(M) returned ones if they are not sorted",
    group="generic",
)
def sort_ro(client: Client, argv: list[bytes]) -> list[bytes | None]:
    """Return the elements of a list, set or sorted set in order.

    SORT_RO key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] [ALPHA]
    """
    return sorting.sort(client.keyspace, argv[1], _parse(client, argv, b"SORT_RO"))

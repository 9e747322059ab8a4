"""Commands on places: sorted sets whose scores are geohashes."""

from __future__ import annotations

from itertools import chain
from typing import Any, Final

from lamina.server.client import Client
from lamina.server.commands import geo_args as args
from lamina.server.commands.geo_args import BY_MEMBER, BY_PLACE, FARTHEST_FIRST, UNSORTED, Parser, Request
from lamina.server.errors import SYNTAX
from lamina.server.keyspace import Keyspace
from lamina.server.registry import ONE_KEY, TWO_KEYS, FindKeys, command
from lamina.server.replies import NULL_ARRAY, Decimal
from lamina.server.types import geohashes, geosearch, zsets
from lamina.server.types.geosearch import Found
from lamina.server.types.zsets import NX, XX, ZSet

_SEARCH: Final = "O(N + log M) for N places in the boxes around the area, of M in all"
_UPPER_UNITS: Final = "7.0.0: unit names in upper case"
_ANY: Final = "6.2.0: ANY with COUNT"


@command(
    "GEOADD",
    arity=-5,
    flags="write denyoom",
    keys=ONE_KEY,
    since="3.2.0",
    complexity="O(log N) for each member",
    notes=("6.2.0: CH, NX and XX",),
)
def geoadd(client: Client, argv: list[bytes]) -> int:
    """Add members, each with the place where it is, to a sorted set.

    GEOADD key [NX | XX] [CH] longitude latitude member [longitude latitude member ...]
    """
    at = 2
    options = set()
    while at < len(argv) and (word := argv[at].upper()) in (b"NX", b"XX", b"CH"):
        options.add(word)
        at += 1
    if (len(argv) - at) % 3 or {b"NX", b"XX"} <= options:
        raise SYNTAX
    places = zip(argv[at::3], argv[at + 1 :: 3], argv[at + 2 :: 3])
    pairs = [(geohashes.score_of(*args.place(x, y)), member) for x, y, member in places]
    conditions = (NX if b"NX" in options else 0) | (XX if b"XX" in options else 0)
    added, changed, _ = zsets.add(client.keyspace, argv[1], pairs, conditions)
    return added + changed if b"CH" in options else added


@command("GEODIST", arity=-4, flags="readonly", keys=ONE_KEY, since="3.2.0", complexity="O(1)")
def geodist(client: Client, argv: list[bytes]) -> bytes | None:
    """Return how far two members are apart.

    GEODIST key member1 member2 [M | KM | FT | MI]
    """
    if len(argv) > 5:
        raise SYNTAX
    unit_m = args.unit_m(argv[4]) if len(argv) == 5 else 1.0
    zset = client.keyspace.read_typed(argv[1], ZSet)
    if zset is None:
        return None
    first, second = zset.score(argv[2]), zset.score(argv[3])
    if first is None or second is None:
        return None
    distance = geohashes.distance_m(*geohashes.place_of(first), *geohashes.place_of(second))
    return b"%.4f" % (distance / unit_m)


@command(
    "GEOHASH", arity=-2, flags="readonly", keys=ONE_KEY, since="3.2.0", complexity="O(1) for each member"
)
def geohash(client: Client, argv: list[bytes]) -> list[bytes | None]:
    """Return the places of members as geohashes of 11 characters.

    GEOHASH key [member [member ...]]
    """
    scores = _scores(client.keyspace, argv)
    return [None if score is None else geohashes.text_of(score) for score in scores]


@command("GEOPOS", arity=-2, flags="readonly", keys=ONE_KEY, since="3.2.0", complexity="O(1) for each member")
def geopos(client: Client, argv: list[bytes]) -> list[Any]:
    """Return the places of members as longitudes and latitudes.

    GEOPOS key [member [member ...]]
    """
    scores = _scores(client.keyspace, argv)
    return [NULL_ARRAY if score is None else _place(*geohashes.place_of(score)) for score in scores]


def _scores(keyspace: Keyspace, argv: list[bytes]) -> list[float | None]:
    zset = keyspace.read_typed(argv[1], ZSet)
    return [None] * (len(argv) - 2) if zset is None else zset.scores(argv[2:])


def _place(longitude: float, latitude: float) -> list[Decimal]:
    return [_decimal(longitude), _decimal(latitude)]


def _decimal(value: float) -> Decimal:
    """Return a coordinate with up to 17 decimals."""
    digits = f"{value:.17f}".rstrip("0").rstrip(".")
    return Decimal(b"0" if digits == "-0" else digits.encode())


# --- Searches


@command(
    "GEOSEARCH",
    arity=-7,
    flags="readonly",
    keys=ONE_KEY,
    since="6.2.0",
    complexity=_SEARCH,
    notes=(_UPPER_UNITS,),
)
def geosearch_(client: Client, argv: list[bytes]) -> list[Any]:
    """Return the members in a circle or a rectangle.

    GEOSEARCH key (FROMMEMBER member | FROMLONLAT longitude latitude) (BYRADIUS radius (M | KM | FT | MI) |
    BYBOX width height (M | KM | FT | MI)) [ASC | DESC] [COUNT count [ANY]] [WITHCOORD] [WITHDIST] [WITHHASH]
    """
    zset = client.keyspace.read_typed(argv[1], ZSet)
    return _reply(zset, Parser(argv, zset, may_store=False).search(2, target=None))


@command(
    "GEOSEARCHSTORE",
    arity=-8,
    flags="write denyoom",
    keys=TWO_KEYS,
    since="6.2.0",
    complexity=_SEARCH,
    notes=(_UPPER_UNITS,),
)
def geosearchstore(client: Client, argv: list[bytes]) -> int:
    """Store the members in a circle or a rectangle; returns how many.

    GEOSEARCHSTORE destination source (FROMMEMBER member | FROMLONLAT longitude latitude) (BYRADIUS radius
    (M | KM | FT | MI) | BYBOX width height (M | KM | FT | MI)) [ASC | DESC] [COUNT count [ANY]] [STOREDIST]
    """
    zset = client.keyspace.read_typed(argv[2], ZSet)
    request = Parser(argv, zset, may_store=False).search(3, target=argv[1])
    return _store(client.keyspace, argv[1], zset, request, b"geosearchstore")


def _keys_from(start: int) -> FindKeys:
    """Return a finder for the key and those that are named by STORE and STOREDIST, from `start` on."""

    def find(argv: list[bytes]) -> list[int]:
        named: dict[bytes, list[int]] = {b"STORE": [], b"STOREDIST": []}
        at = start
        while at + 1 < len(argv):
            places = named.get(argv[at].upper())
            if places is not None:
                at += 1
                places.append(at)
            at += 1
        # Redis names the first of each; the last of all is the one that is written.
        found = [places[0] for places in named.values() if places]
        last = max(chain.from_iterable(named.values()), default=0)
        return [1, *found, last] if last and last not in found else [1, *found]

    return find


@command(
    "GEORADIUS",
    arity=-6,
    flags="write denyoom movablekeys",
    keys=ONE_KEY,
    find_keys=_keys_from(6),
    since="3.2.0",
    complexity=_SEARCH,
    notes=(_ANY, _UPPER_UNITS),
)
def georadius(client: Client, argv: list[bytes]) -> list[Any] | int:
    """Return the members in a circle around a place, or store them.

    GEORADIUS key longitude latitude radius (M | KM | FT | MI) [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count
    [ANY]] [ASC | DESC] [STORE key | STOREDIST key]
    """
    return _search_radius(client, argv, BY_PLACE, may_store=True)


@command(
    "GEORADIUSBYMEMBER",
    arity=-5,
    flags="write denyoom movablekeys",
    keys=ONE_KEY,
    find_keys=_keys_from(5),
    since="3.2.0",
    complexity=_SEARCH,
    notes=(_UPPER_UNITS,),
)
def georadiusbymember(client: Client, argv: list[bytes]) -> list[Any] | int:
    """Return the members in a circle around another one, or store them.

    GEORADIUSBYMEMBER key member radius (M | KM | FT | MI) [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count
    [ANY]] [ASC | DESC] [STORE key | STOREDIST key]
    """
    return _search_radius(client, argv, BY_MEMBER, may_store=True)


@command(
    "GEORADIUS_RO",
    arity=-6,
    flags="readonly",
    keys=ONE_KEY,
    since="3.2.10",
    complexity=_SEARCH,
    notes=(_ANY,),
)
def georadius_ro(client: Client, argv: list[bytes]) -> list[Any] | int:
    """Return the members in a circle around a place.

    GEORADIUS_RO key longitude latitude radius (M | KM | FT | MI) [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT
    count [ANY]] [ASC | DESC]
    """
    return _search_radius(client, argv, BY_PLACE, may_store=False)


@command("GEORADIUSBYMEMBER_RO", arity=-5, flags="readonly", keys=ONE_KEY, since="3.2.10", complexity=_SEARCH)
def georadiusbymember_ro(client: Client, argv: list[bytes]) -> list[Any] | int:
    """Return the members in a circle around another one.

    GEORADIUSBYMEMBER_RO key member radius (M | KM | FT | MI) [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count
    [ANY]] [ASC | DESC]
    """
    return _search_radius(client, argv, BY_MEMBER, may_store=False)


def _search_radius(client: Client, argv: list[bytes], kind: str, *, may_store: bool) -> list[Any] | int:
    zset = client.keyspace.read_typed(argv[1], ZSet)
    request = Parser(argv, zset, may_store=may_store).radius_search(kind)
    if request.target is None:
        return _reply(zset, request)
    return _store(client.keyspace, request.target, zset, request, b"georadiusstore")


def _found(zset: ZSet | None, request: Request) -> list[Found]:
    """Return what was searched for, in the order and the number that were asked for."""
    if zset is None or request.area is None:
        return []
    found = geosearch.search(zset, request.area, request.enough)
    if request.order != UNSORTED:
        found.sort(key=_by_distance, reverse=request.order == FARTHEST_FIRST)
    return found[: request.limit] if request.limit else found


def _by_distance(found: Found) -> float:
    return found.distance_m


def _reply(zset: ZSet | None, request: Request) -> list[Any]:
    found = _found(zset, request)
    if not (request.shows_distance or request.shows_score or request.shows_place):
        return [place.member for place in found]
    unit_m = request.area.unit_m if request.area is not None else 1.0
    replies: list[list[Any]] = []
    for place in found:
        reply: list[Any] = [place.member]
        if request.shows_distance:
            reply.append(b"%.4f" % (place.distance_m / unit_m))
        if request.shows_score:
            reply.append(int(place.score))
        if request.shows_place:
            reply.append(_place(place.longitude, place.latitude))
        replies.append(reply)
    return replies


def _store(keyspace: Keyspace, target: bytes, zset: ZSet | None, request: Request, event: bytes) -> int:
    unit_m = request.area.unit_m if request.area is not None else 1.0
    scores = {
        place.member: place.distance_m / unit_m if request.stores_distances else place.score
        for place in _found(zset, request)
    }
    return zsets.store(keyspace, target, scores, event)

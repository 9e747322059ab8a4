"""The arguments of searches for places: GEOSEARCH, GEORADIUS and their relatives."""

from __future__ import annotations

from typing import Final, NamedTuple

from lamina.server.args import float_, integer
from lamina.server.errors import SYNTAX, CommandError
from lamina.server.types.geohashes import LATITUDE_MAX, LONGITUDE_MAX, place_of
from lamina.server.types.geosearch import Area
from lamina.server.types.zsets import ZSet

_BAD_UNIT = CommandError(b"ERR unsupported unit provided. please use M, KM, FT, MI")
_NO_MEMBER = CommandError(b"ERR could not decode requested zset member")
_BAD_RADIUS = CommandError(b"ERR need numeric radius")
_NEGATIVE_RADIUS = CommandError(b"ERR radius cannot be negative")
_BAD_WIDTH = CommandError(b"ERR need numeric width")
_BAD_HEIGHT = CommandError(b"ERR need numeric height")
_NEGATIVE_SIDE = CommandError(b"ERR height or width cannot be negative")
_BAD_COUNT = CommandError(b"ERR COUNT must be > 0")
_ANY_ALONE = CommandError(b"ERR the ANY argument requires COUNT argument")

_UNITS_M: Final = {b"M": 1.0, b"KM": 1000.0, b"FT": 0.3048, b"MI": 1609.34}

# What is searched for a centre, and where the arguments begin that may be in any order.
BY_PLACE: Final = "GEORADIUS"
BY_MEMBER: Final = "GEORADIUSBYMEMBER"
BY_OPTIONS: Final = "GEOSEARCH"

# In which order places are wanted.
UNSORTED: Final = 0
NEAREST_FIRST: Final = 1
FARTHEST_FIRST: Final = 2

Place = tuple[float, float]
Extent = tuple[float, float | None, float, float]
"""The size of the unit in metres, then a radius, or None, width and height."""


class Request(NamedTuple):
    """What a search is asked for. `area` is None if there is no set to be searched."""

    area: Area | None
    target: bytes | None
    """Where to store what is found."""
    stores_distances: bool
    shows_distance: bool
    shows_score: bool
    shows_place: bool
    order: int
    limit: int
    """How many places are wanted at most; 0: all."""
    enough: int
    """How many are enough, whichever they are; 0: all are to be looked for."""


def place(longitude: bytes, latitude: bytes) -> Place:
    """Return a place that can be a member's."""
    x, y = float_(longitude), float_(latitude)
    if not (-LONGITUDE_MAX <= x <= LONGITUDE_MAX and -LATITUDE_MAX <= y <= LATITUDE_MAX):
        raise CommandError(b"ERR invalid longitude,latitude pair %f,%f" % (x, y))
    return x, y


def unit_m(word: bytes) -> float:
    """Return how many metres a unit is."""
    found = _UNITS_M.get(word.upper())
    if found is None:
        raise _BAD_UNIT
    return found


def _radius(argv: list[bytes], at: int) -> Extent:
    radius = float_(argv[at], _BAD_RADIUS)
    if radius < 0:
        raise _NEGATIVE_RADIUS
    return unit_m(argv[at + 1]), radius, 0.0, 0.0


def _box(argv: list[bytes], at: int) -> Extent:
    width, height = float_(argv[at], _BAD_WIDTH), float_(argv[at + 1], _BAD_HEIGHT)
    if width < 0 or height < 0:
        raise _NEGATIVE_SIDE
    return unit_m(argv[at + 2]), None, width, height


def _member_place(zset: ZSet | None, member: bytes) -> Place:
    """Return where a member is. Where there is no set, any place will do: nothing will be found."""
    if zset is None:
        return 0.0, 0.0
    score = zset.score(member)
    if score is None:
        raise _NO_MEMBER
    return place_of(score)


class Parser:
    """Goes through the arguments of one search."""

    def __init__(self, argv: list[bytes], zset: ZSet | None, *, may_store: bool) -> None:
        """`zset` is the set that is to be searched; `may_store`: STORE and STOREDIST are options."""
        self._argv = argv
        self._zset = zset
        self._may_store = may_store
        self._words: set[bytes] = set()
        self._target: bytes | None = None
        self._stores_distances = False
        self._order = UNSORTED
        self._count = 0
        self._place: Place | None = None
        self._is_member = False
        self._extent: Extent | None = None

    def radius_search(self, kind: str) -> Request:
        """Return the request of GEORADIUS or one of its relatives."""
        argv = self._argv
        if kind == BY_PLACE:
            self._place = place(argv[2], argv[3])
            self._extent = _radius(argv, 4)
            self._options(6, is_search=False)
        else:
            if self._zset is not None:  # else Redis looks at neither member nor radius
                self._place = _member_place(self._zset, argv[2])
                self._extent = _radius(argv, 3)
            self._options(5, is_search=False)
        self._refuse_shows(b"STORE option in GEORADIUS")
        return self._request()

    def search(self, at: int, *, target: bytes | None) -> Request:
        """Return the request of GEOSEARCH or GEOSEARCHSTORE, whose options begin at `at`."""
        self._target = target
        self._options(at, is_search=True)
        self._refuse_shows(b"GEOSEARCHSTORE")
        if self._place is None:
            raise self._missing(b"exactly one of FROMMEMBER or FROMLONLAT can be specified for")
        if self._extent is None:
            raise self._missing(b"exactly one of BYRADIUS and BYBOX can be specified for")
        return self._request()

    def _options(self, at: int, *, is_search: bool) -> None:
        argv, argc = self._argv, len(self._argv)
        while at < argc:
            word = argv[at].upper()
            left = argc - at - 1
            if word in (b"WITHDIST", b"WITHHASH", b"WITHCOORD", b"ANY"):
                self._words.add(word)
            elif word == b"ASC":
                self._order = NEAREST_FIRST
            elif word == b"DESC":
                self._order = FARTHEST_FIRST
            elif word == b"COUNT" and left:
                self._count = integer(argv[at + 1])
                if self._count <= 0:
                    raise _BAD_COUNT
                at += 1
            elif is_search:
                at += self._search_option(word, at, left)
            elif word in (b"STORE", b"STOREDIST") and left and self._may_store:
                self._target = argv[at + 1]
                self._stores_distances = word == b"STOREDIST"
                at += 1
            else:
                raise SYNTAX
            at += 1

    def _search_option(self, word: bytes, at: int, left: int) -> int:
        """Take what only GEOSEARCH and GEOSEARCHSTORE have; returns how many arguments follow the word."""
        argv, extent = self._argv, self._extent
        if word == b"FROMMEMBER" and left >= 1 and (self._place is None or self._is_member):
            self._place = _member_place(self._zset, argv[at + 1])
            self._is_member = True
            return 1
        if word == b"FROMLONLAT" and left >= 2 and not self._is_member:
            self._place = place(argv[at + 1], argv[at + 2])
            return 2
        if word == b"BYRADIUS" and left >= 2 and (extent is None or extent[1] is not None):
            self._extent = _radius(argv, at + 1)
            return 2
        if word == b"BYBOX" and left >= 3 and (extent is None or extent[1] is None):
            self._extent = _box(argv, at + 1)
            return 3
        if word == b"STOREDIST" and self._target is not None:
            self._stores_distances = True
            return 0
        raise SYNTAX

    def _refuse_shows(self, what: bytes) -> None:
        """Raise an error if places are to be stored, and also shown."""
        if self._target is not None and self._words & {b"WITHDIST", b"WITHHASH", b"WITHCOORD"}:
            raise CommandError(
                b"ERR %b is not compatible with WITHDIST, WITHHASH and WITHCOORD options" % what
            )

    def _request(self) -> Request:
        words = self._words
        if b"ANY" in words and not self._count:
            raise _ANY_ALONE
        area = None
        if self._zset is not None and self._place is not None and self._extent is not None:
            longitude, latitude = self._place
            area = Area(longitude, latitude, *self._extent)
        order = self._order
        if self._count and order == UNSORTED and b"ANY" not in words:
            order = NEAREST_FIRST  # without an order, which are the first few would mean nothing
        return Request(
            area,
            self._target,
            self._stores_distances,
            b"WITHDIST" in words,
            b"WITHHASH" in words,
            b"WITHCOORD" in words,
            order,
            self._count,
            self._count if b"ANY" in words else 0,
        )

    def _missing(self, what: bytes) -> CommandError:
        return CommandError(b"ERR %b %b" % (what, self._argv[0]))

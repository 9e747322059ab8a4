"""Commands on places: the documentation's examples, options, errors, sets on disk."""

from __future__ import annotations

import random

import pytest

from harness.local import LocalClient
from lamina.server import elements
from lamina.server.errors import NOT_A_FLOAT, NOT_AN_INTEGER, SYNTAX, WRONG_TYPE, CommandError
from lamina.server.types import geohashes, geosearch

PALERMO = ("13.361389", "38.115556", "Palermo")
CATANIA = ("15.087269", "37.502669", "Catania")


@pytest.fixture
def sicily(local: LocalClient) -> LocalClient:
    """A server that has the two towns in `g`, a list in `l`."""
    assert local("GEOADD", "g", *PALERMO, *CATANIA) == 2
    local("RPUSH", "l", "x")
    return local


def test_places(sicily: LocalClient) -> None:
    assert sicily("GEODIST", "g", "Palermo", "Catania") == b"166274.1516"
    assert sicily("GEODIST", "g", "Palermo", "Catania", "km") == b"166.2742"
    assert sicily("GEODIST", "g", "Palermo", "Catania", "MI") == b"103.3182"
    assert sicily("GEODIST", "g", "Palermo", "Catania", "ft") == b"545518.8700"
    assert sicily("GEODIST", "g", "Palermo", "nobody") is None
    assert sicily("GEODIST", "none", "a", "b") is None
    assert sicily("GEOHASH", "g", "Palermo", "nobody", "Catania") == [b"sqc8b49rny0", None, b"sqdtr74hyu0"]
    assert sicily("GEOPOS", "g", "Palermo", "nobody") == [
        [b"13.36138933897018433", b"38.11555639549629859"],
        None,
    ]
    assert sicily("GEOPOS", "none", "a") == [None]
    assert sicily("GEOPOS", "g") == []
    assert sicily("ZSCORE", "g", "Palermo") == b"3479099956230698"


def test_searches(sicily: LocalClient) -> None:
    near = ("FROMLONLAT", 15, 37)
    assert sicily("GEOSEARCH", "g", *near, "BYRADIUS", 200, "km", "ASC") == [b"Catania", b"Palermo"]
    assert sicily("GEOSEARCH", "g", *near, "BYRADIUS", 200, "km", "DESC") == [b"Palermo", b"Catania"]
    assert sicily("GEOSEARCH", "g", *near, "BYRADIUS", 100, "km") == [b"Catania"]
    assert sicily("GEOSEARCH", "g", *near, "BYBOX", 400, 400, "km", "COUNT", 1) == [b"Catania"]
    assert len(sicily("GEOSEARCH", "g", *near, "BYBOX", 400, 400, "km", "COUNT", 1, "ANY")) == 1
    assert sicily("GEOSEARCH", "g", "FROMMEMBER", "Palermo", "BYRADIUS", 0, "m") == [b"Palermo"]
    assert sicily("GEOSEARCH", "none", "FROMMEMBER", "Palermo", "BYRADIUS", 0, "m") == []
    assert sicily(
        *("GEOSEARCH", "g", *near, "BYRADIUS", 100, "km", "WITHCOORD", "WITHDIST", "WITHHASH"),
    ) == [[b"Catania", b"56.4413", 3479447370796909, [b"15.08726745843887329", b"37.50266842333162032"]]]
    assert sicily("GEORADIUS", "g", 15, 37, 100, "km") == [b"Catania"]
    assert sicily("GEORADIUS_RO", "g", 15, 37, 200, "km", "WITHDIST", "DESC", "COUNT", 1) == (
        [[b"Palermo", b"190.4424"]]
    )
    assert sicily("GEORADIUSBYMEMBER", "g", "Catania", 100, "mi") == [b"Catania"]
    assert sicily("GEORADIUSBYMEMBER_RO", "g", "Catania", 104, "mi", "ASC") == [b"Catania", b"Palermo"]
    assert sicily("GEORADIUSBYMEMBER", "none", "Catania", "x", "parsecs") == []


def test_results_are_stored(sicily: LocalClient) -> None:
    area = ("FROMLONLAT", 15, 37, "BYRADIUS", 200, "km")
    assert sicily("GEOSEARCHSTORE", "to", "g", *area) == 2
    assert sicily("ZSCORE", "to", "Palermo") == b"3479099956230698"
    assert sicily("GEOSEARCHSTORE", "l", "g", *area, "STOREDIST") == 2
    assert float(sicily("ZSCORE", "l", "Catania")) == pytest.approx(56.4412578701582)
    assert sicily("GEORADIUS", "g", 15, 37, 100, "km", "STORE", "other", "STOREDIST", "to") == 1
    assert float(sicily("ZSCORE", "to", "Catania")) == pytest.approx(56.4412578701582)
    assert sicily("EXISTS", "other") == 0
    assert sicily("GEORADIUSBYMEMBER", "none", "x", 1, "m", "STORE", "to") == 0
    assert sicily("EXISTS", "to") == 0
    assert sicily("GEOSEARCHSTORE", "l", "g", "FROMLONLAT", 0, 0, "BYRADIUS", 1, "m") == 0
    assert sicily("EXISTS", "l") == 0


def test_additions_under_conditions(sicily: LocalClient) -> None:
    assert sicily("GEOADD", "g", "XX", 1, 1, "new") == 0
    assert sicily("GEOADD", "g", "NX", 1, 1, "Palermo") == 0
    assert sicily("GEOADD", "g", "CH", "XX", 1, 1, "Palermo", 1, 1, "new") == 1
    assert sicily("ZCARD", "g") == 2
    assert sicily("GEOADD", "none", "XX", 1, 1, "new") == 0
    assert sicily("EXISTS", "none") == 0


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("GEOADD g NX XX 1 2 a", SYNTAX),
        ("GEOADD g NX 1 2", SYNTAX),
        ("GEOADD g 1 2 a 3 4", SYNTAX),
        ("GEOADD g x 2 a", NOT_A_FLOAT),
        ("GEOADD g 1 2 a 181 2 b", CommandError(b"ERR invalid longitude,latitude pair 181.000000,2.000000")),
        ("GEOADD g 1 86 b", CommandError(b"ERR invalid longitude,latitude pair 1.000000,86.000000")),
        ("GEOADD l 1 2 a", WRONG_TYPE),
        ("GEODIST g a b yd", CommandError(b"ERR unsupported unit provided. please use M, KM, FT, MI")),
        ("GEODIST g a b m m", SYNTAX),
        ("GEODIST l a b", WRONG_TYPE),
        ("GEOPOS l a", WRONG_TYPE),
        ("GEOHASH l a", WRONG_TYPE),
        ("GEOSEARCH l nonsense from beginning to end", WRONG_TYPE),
        ("GEOSEARCH g nonsense from beginning to end", SYNTAX),
        (
            "GEOSEARCH g FROMMEMBER x BYRADIUS 1 m",
            CommandError(b"ERR could not decode requested zset member"),
        ),
        ("GEOSEARCH g FROMLONLAT 1 1 BYRADIUS x m", CommandError(b"ERR need numeric radius")),
        ("GEOSEARCH g FROMLONLAT 1 1 BYRADIUS -1 m", CommandError(b"ERR radius cannot be negative")),
        ("GEOSEARCH g FROMLONLAT 1 1 BYBOX x 1 m", CommandError(b"ERR need numeric width")),
        ("GEOSEARCH g FROMLONLAT 1 1 BYBOX 1 x m", CommandError(b"ERR need numeric height")),
        ("GEOSEARCH g FROMLONLAT 1 1 BYBOX 1 -1 m", CommandError(b"ERR height or width cannot be negative")),
        ("GEOSEARCH g FROMLONLAT 1 1 BYBOX 1 1 m BYRADIUS 1 m", SYNTAX),
        ("GEOSEARCH g FROMLONLAT 1 1 FROMMEMBER Palermo BYRADIUS 1 m", SYNTAX),
        ("GEOSEARCH g FROMLONLAT 1 1 BYRADIUS 1 m STOREDIST", SYNTAX),
        ("GEOSEARCH g FROMLONLAT 1 1 BYRADIUS 1 m COUNT 0", CommandError(b"ERR COUNT must be > 0")),
        ("GEOSEARCH g FROMLONLAT 1 1 BYRADIUS 1 m COUNT x", NOT_AN_INTEGER),
        (
            "GEOSEARCH g FROMLONLAT 1 1 BYRADIUS 1 m ANY",
            CommandError(b"ERR the ANY argument requires COUNT argument"),
        ),
        (
            "GEOSEARCH g BYRADIUS 1 m ASC ASC",
            CommandError(b"ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for GEOSEARCH"),
        ),
        (
            "geosearch none FROMLONLAT 1 1 ASC ASC",
            CommandError(b"ERR exactly one of BYRADIUS and BYBOX can be specified for geosearch"),
        ),
        (
            "GEOSEARCHSTORE to g FROMLONLAT 1 1 BYRADIUS 1 m WITHDIST",
            CommandError(
                b"ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            ),
        ),
        (
            "GEORADIUS g 1 1 1 m STORE to WITHHASH",
            CommandError(
                b"ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD "
                b"options"
            ),
        ),
        ("GEORADIUS_RO g 1 1 1 m STORE to", SYNTAX),
        ("GEORADIUSBYMEMBER_RO g Palermo 1 m STORE to", SYNTAX),
        ("GEORADIUS g 1 1 1 m STORE", SYNTAX),
    ],
)
def test_errors_change_nothing(sicily: LocalClient, line: str, error: CommandError) -> None:
    assert sicily(*line.split()) == error
    assert sicily("ZCARD", "g") == 2
    assert sicily("DBSIZE") == 2


@pytest.mark.parametrize("is_held", [True, False])
def test_searches_among_many(local: LocalClient, monkeypatch: pytest.MonkeyPatch, is_held: bool) -> None:
    """What is found is what is in the area, on disk as in memory, read some at a time."""
    monkeypatch.setattr(geosearch, "_BATCH", 7)
    draw = random.Random(1)
    places = {b"m%d" % n: (draw.gauss(10, 20), draw.gauss(40, 15)) for n in range(600)}
    for member, (longitude, latitude) in places.items():
        local("GEOADD", "g", longitude, latitude, member)
    if not is_held:
        monkeypatch.setattr(elements, "LOADED_AT_ONCE", -1)
        monkeypatch.setattr(elements, "LOADED_EVER", -1)
        local.reload()
    kept = {member: geohashes.place_of(float(local("ZSCORE", "g", member))) for member in places}
    for radius in (1e3, 1e5, 1e6, 5e6, 2e7):
        for _ in range(5):
            x, y = draw.gauss(10, 20), draw.gauss(40, 15)
            distances = {member: geohashes.distance_m(x, y, *place) for member, place in kept.items()}
            wanted = {member for member, distance in distances.items() if distance <= radius}
            found = local("GEOSEARCH", "g", "FROMLONLAT", x, y, "BYRADIUS", radius, "m")
            assert set(found) == wanted
            assert len(found) == len(wanted)
            nearest = local("GEOSEARCH", "g", "FROMLONLAT", x, y, "BYRADIUS", radius, "m", "COUNT", 5)
            assert nearest == sorted(wanted, key=distances.__getitem__)[:5]


def test_coordinates_in_resp3(sicily: LocalClient) -> None:
    sicily.client.resp = 3
    assert sicily.raw("GEOPOS", "g", "Palermo") == (
        b"*1\r\n*2\r\n,13.36138933897018433\r\n,38.11555639549629859\r\n"
    )
    assert sicily.raw("GEOPOS", "g", "nobody") == b"*1\r\n_\r\n"
    assert sicily.raw("GEODIST", "g", "Palermo", "Catania") == b"$11\r\n166274.1516\r\n"


def test_bits_in_turn() -> None:
    draw = random.Random(2)
    for _ in range(200):
        one, two = draw.getrandbits(32), draw.getrandbits(32)
        bits = geohashes.interleave(one, two)
        assert bits == sum((one >> at & 1) << 2 * at | (two >> at & 1) << 2 * at + 1 for at in range(32))


def test_places_come_back() -> None:
    draw = random.Random(3)
    for _ in range(200):
        longitude, latitude = draw.uniform(-180, 180), draw.uniform(-85.05, 85.05)
        found = geohashes.place_of(geohashes.score_of(longitude, latitude))
        assert found == pytest.approx((longitude, latitude), abs=5e-6)
        assert geohashes.score_of(*found) == geohashes.score_of(longitude, latitude)

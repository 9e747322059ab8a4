"""Places, compared with a real redis-server: coordinates, distances and scores to the last digit."""

from __future__ import annotations

import random
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import strategies as st

from harness.commands import (
    INTEGERS,
    KEYS,
    ODD_NUMBERS,
    SMALL,
    choice,
    command,
    flags,
    history_tests,
    maybe,
    several,
    thorough_few,
    words,
)
from harness.compat import Pair, Step
from harness.hearing import heard
from harness.resp import frozen

PLACES = {
    "Palermo": ("13.361389", "38.115556"),
    "Catania": ("15.087269", "37.502669"),
    "zero": ("0", "0"),
    "east": ("180", "0"),
    "west": ("-180", "85.05112878"),
    "south": ("12.5", "-85.05112878"),
    "pole": ("-100.25", "84.9"),
    "near": ("13.361390", "38.115557"),
    "Fiji": ("179.9", "-17.5"),
    "Taveuni": ("-179.95", "-16.8"),
}
MEMBERS = st.sampled_from([*PLACES, *PLACES, "", "nobody", b"\x00\xff\r\n", "l" * 70])
LONGITUDES = choice(
    st.sampled_from([place[0] for place in PLACES.values()]),
    st.floats(-180, 180).map(repr),
    st.sampled_from(["180.1", "-180.0000001", "inf", "1e-320", "-0", "x", ""]),
)
LATITUDES = choice(
    st.sampled_from([place[1] for place in PLACES.values()]),
    st.floats(-85.05, 85.05).map(repr),
    st.sampled_from(["85.06", "-85.05112879", "-inf", "86", "0x10", "x"]),
)
KNOWN = st.sampled_from([(*place, name) for name, place in PLACES.items()])
UNITS = st.sampled_from(["m", "km", "km", "km", "mi", "ft", "KM", "Mi", "cm", ""])
LENGTHS = choice(
    st.sampled_from(["0", "1", "10", "166.2742", "200", "1000", "5000", "12000", "20100", "1e9", "1e300"]),
    st.floats(0, 20000).map(repr),
    st.sampled_from(["-1", "inf", "x", "nan", "-0"]),
)
OPTIONS = st.lists(
    choice("WITHDIST", "WITHHASH", "WITHCOORD", "ASC", "DESC", words("COUNT", choice(SMALL, INTEGERS))),
    max_size=4,
)
ANY = choice(words("COUNT", choice(SMALL, "3"), "ANY"), words("ANY"))
FROM = choice(words("FROMMEMBER", MEMBERS), words("FROMLONLAT", LONGITUDES, LATITUDES))
BY = choice(words("BYRADIUS", LENGTHS, UNITS), words("BYBOX", LENGTHS, LENGTHS, UNITS))
STORE = words(st.sampled_from(["STORE", "STOREDIST", "store"]), KEYS)


def as_told(pair: Pair, *words: bytes) -> None:
    """Compare a search. Places equally far away come in any order; which are left out by COUNT is open."""
    names = {word.upper() for word in words}
    if {b"ASC", b"DESC", b"COUNT"} & names and b"ANY" not in names:
        pair.by(_by_distance if b"WITHDIST" in names else _size, *words)
    else:
        pair(*words)


def _by_distance(reply: Any) -> Any:
    if not isinstance(reply, list) or not reply or not isinstance(reply[0], list):
        return frozen(reply)
    distances = [item[1] for item in reply]
    return distances, sorted((frozen(item) for item in reply if item[1] != distances[-1]), key=repr)


def _size(reply: Any) -> Any:
    return len(reply) if isinstance(reply, list) else reply


_is_number = re.compile(rb"-?[0-9.]+(e[+-]?[0-9]+)?").fullmatch


def as_numbers(pair: Pair, *words: bytes) -> None:
    """Compare scores, which 7.2 writes with fewer digits."""
    pair.by(_numbers, *words)


def _numbers(reply: Any) -> Any:
    if isinstance(reply, list):
        return [_numbers(item) for item in reply]
    return float(reply) if isinstance(reply, bytes) and _is_number(reply) else frozen(reply)


GEO = [
    command("GEOADD", KEYS, several(KNOWN)),
    command("GEOADD", KEYS, several(KNOWN, most=8)),
    command("GEOADD", KEYS, flags("NX", "XX", "CH", "ch"), several(LONGITUDES, LATITUDES, MEMBERS)),
    command("GEODIST", KEYS, MEMBERS, MEMBERS, maybe(UNITS)),
    command("GEOHASH", KEYS, several(MEMBERS, least=0)),
    command("GEOPOS", KEYS, several(MEMBERS, least=0)),
    command("GEOSEARCH", KEYS, FROM, BY, OPTIONS, check=as_told),
    command("GEOSEARCH", KEYS, BY, maybe(ANY), FROM, maybe(ANY), check=as_told),
    command("GEOSEARCH", KEYS, maybe(FROM), maybe(BY), maybe(STORE), maybe(BY), maybe(FROM), check=as_told),
    command("GEOSEARCHSTORE", KEYS, KEYS, FROM, BY, flags("STOREDIST", "ASC", "WITHDIST")),
    command("GEOSEARCHSTORE", KEYS, KEYS, BY, FROM, maybe(ANY), flags("STOREDIST")),
    command("GEORADIUS", KEYS, LONGITUDES, LATITUDES, LENGTHS, UNITS, OPTIONS, check=as_told),
    command("GEORADIUS", KEYS, LONGITUDES, LATITUDES, LENGTHS, UNITS, maybe(STORE), maybe(STORE)),
    command("GEORADIUS_RO", KEYS, LONGITUDES, LATITUDES, LENGTHS, UNITS, maybe(STORE)),
    command("GEORADIUSBYMEMBER", KEYS, MEMBERS, LENGTHS, UNITS, OPTIONS, check=as_told),
    command("GEORADIUSBYMEMBER", KEYS, MEMBERS, LENGTHS, UNITS, flags("WITHDIST"), maybe(STORE)),
    command("GEORADIUSBYMEMBER_RO", KEYS, MEMBERS, LENGTHS, UNITS, maybe(STORE), maybe(ANY)),
    command("ZADD", KEYS, choice(SMALL, ODD_NUMBERS, "1e15", "-3.5e9"), MEMBERS),
    command("ZRANGE", KEYS, 0, -1, "WITHSCORES", check=as_numbers),
    command("ZREM", KEYS, MEMBERS),
]


def play(pair: Pair, steps: list[Step]) -> None:
    """Do as Pair.play, but compare scores as numbers."""
    pair.reset()
    for step in steps:
        step.check(pair, *step.words)
    for key in sorted(pair.unordered("KEYS", "*")):  # type: ignore[arg-type, type-var]
        if pair("TYPE", key) == b"zset":
            as_numbers(pair, b"ZRANGE", key, b"0", b"-1", b"WITHSCORES")  # type: ignore[arg-type]
        pair.encoding("OBJECT", "ENCODING", key)


test_geo, test_geo_restarted, test_geo_at_length, test_geo_restarted_at_length = history_tests(
    "geo", GEO, play=play, restarted_at_length=thorough_few
)


def add_many(pair: Pair, count: int, seed: int) -> random.Random:
    draw = random.Random(seed)
    for start in range(0, count, 500):
        items: list[object] = []
        for number in range(start, min(start + 500, count)):
            spread = draw.choice([0.01, 1, 30, 180])
            longitude = max(-180.0, min(180.0, draw.gauss(draw.choice([0, 13, 179, -179]), spread)))
            latitude = max(-85.05, min(85.05, draw.gauss(draw.choice([0, 38, 84, -70]), spread / 2)))
            items += [repr(longitude), repr(latitude), f"m{number}"]
        pair("GEOADD", "g", *items)
    return draw


@pytest.mark.parametrize("seed", range(2))
def test_searches_among_many(pair: Pair, seed: int) -> None:
    """What is found, in the order of the boxes in which it lies, and sorted."""
    draw = add_many(pair, 3000, seed)
    for _ in range(150):
        longitude, latitude = draw.uniform(-180, 180), draw.uniform(-85, 85)
        if draw.random() < 0.5:
            longitude, latitude = draw.choice([0, 13, 179, -179]), draw.choice([0, 38, 84, -70])
        size = draw.choice([1, 10, 100, 1000, 5000, 9000, 20000]) * draw.uniform(0.5, 1.5)
        by = draw.choice([("BYRADIUS", repr(size)), ("BYBOX", repr(size), repr(draw.uniform(0, 2) * size))])
        center = draw.choice(
            [("FROMLONLAT", repr(longitude), repr(latitude)), ("FROMMEMBER", f"m{draw.randrange(3000)}")]
        )
        pair("GEOSEARCH", "g", *center, *by, "km", "WITHDIST", "WITHCOORD", "WITHHASH")
        pair("GEOSEARCH", "g", *center, *by, "km", "COUNT", draw.randint(1, 20), "ANY")
        order = draw.choice(["ASC", "DESC"])
        as_told(pair, *map(_bytes, ("GEOSEARCH", "g", *center, *by, "mi", order, "WITHDIST")))
        as_told(pair, *map(_bytes, ("GEOSEARCH", "g", *center, *by, "ft", "COUNT", 7, "WITHDIST")))
        pair("GEOSEARCHSTORE", "to", "g", *center, *by, "km", *draw.choice([(), ("STOREDIST",)]))
    pair.assert_same_contents()


def _bytes(word: object) -> bytes:
    return str(word).encode()


def test_distances_and_hashes_of_many(pair: Pair) -> None:
    draw = add_many(pair, 1000, 3)
    members = [f"m{draw.randrange(1000)}" for _ in range(200)]
    pair("GEOPOS", "g", *members)
    pair("GEOHASH", "g", *members)
    for one, two in pairwise(members):
        pair("GEODIST", "g", one, two, draw.choice(["m", "km", "mi", "ft"]))


def test_scores_that_are_no_places(pair: Pair) -> None:
    scores = (
        "-1 0.5 4503599627370495 4503599627370496 9e15 1e18 1.8e19 1.9e19 1e300 -1e300 inf -inf -9.3e18"
    ).split()
    for number, score in enumerate(scores):
        pair("ZADD", "g", score, f"m{number}")
        pair("GEOPOS", "g", f"m{number}")
        pair("GEOHASH", "g", f"m{number}")
        pair("GEODIST", "g", "m0", f"m{number}")
        pair("GEOSEARCH", "g", "FROMMEMBER", f"m{number}", "BYRADIUS", 100, "km")


def test_events(pair: Pair) -> None:
    lines = (
        "GEOADD g 1 2 a 3 4 b",
        "GEOADD g 1 2 a",
        "GEOADD g NX 1 3 a",
        "GEOADD g CH 1 3 a",
        "GEODIST none a b",
        "GEOPOS none a",
        "GEOHASH none a",
        "GEOSEARCH none FROMMEMBER a BYRADIUS 1 m",
        "GEOSEARCHSTORE t g FROMMEMBER a BYRADIUS 1 m",
        "GEOSEARCHSTORE t g FROMLONLAT 50 50 BYRADIUS 1 m",
        "GEOSEARCHSTORE t none FROMLONLAT 50 50 BYRADIUS 1 m",
        "GEORADIUS g 1 3 1 km STORE t",
        "GEORADIUSBYMEMBER g a 1 km STOREDIST t",
        "GEORADIUSBYMEMBER none a 1 km STOREDIST t",
    )
    assert heard(pair, [line.split() for line in lines])


def test_where_the_keys_are(pair: Pair) -> None:
    for line in (
        "GEORADIUS g 1 2 3 m",
        "GEORADIUS g 1 2 3 m STORE t",
        "GEORADIUS g 1 2 3 m STORE t STOREDIST u",
        "GEORADIUSBYMEMBER g m 3 m STOREDIST t",
        "GEOSEARCHSTORE t g FROMMEMBER a BYRADIUS 1 m",
        "GEOADD g 1 2 a",
    ):
        pair("COMMAND", "GETKEYS", *line.split())

"""Searches for places: in a circle or a rectangle around another one.

The earth is cut into boxes, so large that the one of the centre and its eight neighbours cover the area; of
the places in those, which are ranges of scores, the ones within the area are found. Boxes that lie outside of
it are left out. The order in which boxes are looked at is Redis's, as it shows in replies.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from math import asin, cos, inf, isfinite, sin, sqrt
from typing import Final, NamedTuple

from lamina.server.encoding import encode_score
from lamina.server.gathering import check
from lamina.server.types.geohashes import (
    EARTH_RADIUS_M,
    LATITUDE_MAX,
    LONGITUDE_MAX,
    RADIANS,
    STEPS,
    box,
    cell,
    distance_m,
    interleave,
    latitude_distance_m,
    place_of,
)
from lamina.server.types.zsetorder import SCORE_SIZE
from lamina.server.types.zsets import SIGNED, ZSet

_MERCATOR_MAX_M: Final = 20037726.37
"""From the zero meridian to its opposite, on the maps of the web."""

_LATITUDE_BITS: Final = int("01" * 32, 2)
_LONGITUDE_BITS: Final = int("10" * 32, 2)
_PARTS_MAX: Final = (1 << 32) - 1

_MARGIN: Final = 1 + 1e-9
"""What a frame is larger than the area, for all that rounding can do."""

_NEAR_POLE: Final = 1.55
"""In radians: where meridians are too near to each other to compute with."""

_PLACE: Final = 3
"""Elements that a place that is found is as large as: see gathering.py."""

_BATCH: Final = 1024
"""Places that are read from a box at once."""

# Where the polar circles are for Redis: beyond them boxes are narrow.
_FAR_LATITUDE: Final = 66.0
_POLAR_LATITUDE: Final = 80.0

_NEIGHBOURS: Final = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
"""The centre, then north, south, east, west and the corners, as steps north and east."""


Bounds = tuple[float, float, float, float]
"""Longitude and latitude from, longitude and latitude to."""


class Area(NamedTuple):
    """What is searched, around a centre: a circle if it has a radius, else a rectangle. Lengths are in the
    unit of the search, of which `unit_m` is the size."""

    longitude: float
    latitude: float
    unit_m: float
    radius: float | None
    width: float = 0.0
    height: float = 0.0

    def reach_m(self) -> float:
        """Return how far from the centre the farthest place may be."""
        if self.radius is not None:
            return self.radius * self.unit_m
        half_width, half_height = self.width / 2, self.height / 2
        return sqrt(half_width * half_width + half_height * half_height) * self.unit_m

    def ruler(self) -> Callable[[float, float], float | None]:
        """Return a function that tells how far a place is from the centre; None if it is not in the area."""
        return self._circle_ruler() if self.radius is not None else self._rectangle_ruler()

    def _circle_ruler(self) -> Callable[[float, float], float | None]:
        # `geohashes.distance_m`, with what is the same for all places done once: half of its time.
        centre_latitude = self.latitude
        longitude_r, latitude_r = self.longitude * RADIANS, centre_latitude * RADIANS
        cosine = cos(latitude_r)
        reach_m = self.reach_m()

        def measure(longitude: float, latitude: float) -> float | None:
            v = sin((longitude * RADIANS - longitude_r) / 2)
            if v == 0.0:
                found = latitude_distance_m(centre_latitude, latitude)
            else:
                other_r = latitude * RADIANS
                u = sin((other_r - latitude_r) / 2)
                found = 2.0 * EARTH_RADIUS_M * asin(sqrt(u * u + cosine * cos(other_r) * v * v))
            return None if found > reach_m else found

        return measure

    def _rectangle_ruler(self) -> Callable[[float, float], float | None]:
        centre_longitude, centre_latitude = self.longitude, self.latitude
        half_height_m, half_width_m = self.height * self.unit_m / 2, self.width * self.unit_m / 2

        def measure(longitude: float, latitude: float) -> float | None:
            if latitude_distance_m(latitude, centre_latitude) > half_height_m:
                return None
            if distance_m(longitude, latitude, centre_longitude, latitude) > half_width_m:
                return None
            return distance_m(centre_longitude, centre_latitude, longitude, latitude)

        return measure

    def frame(self) -> Bounds:
        """Return a rectangle that no place of the area is outside of, which is not sure of `bounds`.

        It spans all longitudes where the area reaches a pole or crosses the date line.
        """
        half_height_m = self.reach_m() if self.radius is not None else self.height / 2 * self.unit_m
        delta = half_height_m / EARTH_RADIUS_M
        latitude_delta = delta / RADIANS * _MARGIN
        south, north = self.latitude - latitude_delta, self.latitude + latitude_delta
        farthest = max(abs(south), abs(north)) * RADIANS
        west, east = -inf, inf
        if farthest < _NEAR_POLE:
            if self.radius is not None:
                reach = sin(delta) / cos(self.latitude * RADIANS)
                longitude_delta = asin(reach) if reach < 1.0 else inf
            else:
                quarter = self.width / 4 * self.unit_m / EARTH_RADIUS_M
                reach = sin(quarter) / cos(farthest) if quarter < 1.0 else 1.0
                longitude_delta = 2 * asin(reach) if reach < 1.0 else inf
            longitude_delta = longitude_delta / RADIANS * _MARGIN
            if abs(self.longitude) + longitude_delta < LONGITUDE_MAX:
                west, east = self.longitude - longitude_delta, self.longitude + longitude_delta
        return west, south, east, north

    def bounds(self) -> Bounds:
        """Return a rectangle around the area."""
        half_height = self.unit_m * (self.height / 2 if self.radius is None else self.radius)
        half_width = self.unit_m * (self.width / 2 if self.radius is None else self.radius)
        # In the order in which Redis computes it: rad_deg(x) is x / (pi / 180).
        latitude_delta = half_height / EARTH_RADIUS_M / RADIANS
        if not isfinite(latitude_delta):
            return -inf, -inf, inf, inf
        # The parallel farther from the equator is the shorter one.
        farther = self.latitude - latitude_delta if self.latitude < 0 else self.latitude + latitude_delta
        longitude_delta = half_width / EARTH_RADIUS_M / cos(farther * RADIANS) / RADIANS
        return (
            self.longitude - longitude_delta,
            self.latitude - latitude_delta,
            self.longitude + longitude_delta,
            self.latitude + latitude_delta,
        )


class Found(NamedTuple):
    """A place in the area, and how far it is from the centre."""

    member: bytes
    distance_m: float
    score: float
    longitude: float
    latitude: float


def search(zset: ZSet, area: Area, enough: int) -> list[Found]:
    """Return the places of a set in an area, in the order of boxes; no more are looked for once there are
    `enough`, if that is not 0.

    Cost: O(log N) for each box, 0.3 µs for each place in them, and 2 µs for each near the area.
    """
    found: list[Found] = []
    measure = area.ruler()
    latitude_low, latitude_high, longitude_low, longitude_high = _frame_bits(area)
    for low, high in _score_ranges(area):
        for keys, scores in _batches(zset, low, high):
            # Bits of one coordinate with gaps between them have the order of the coordinate: most places of
            # a box are outside of the area, and this tells without what takes time.
            for key, score in zip(keys, scores):
                bits = int(score)
                if not (
                    latitude_low <= bits & _LATITUDE_BITS <= latitude_high
                    and longitude_low <= bits & _LONGITUDE_BITS <= longitude_high
                ):
                    continue
                longitude, latitude = place_of(score)
                distance = measure(longitude, latitude)
                if distance is not None:
                    found.append(Found(key[SCORE_SIZE:], distance, score, longitude, latitude))
                    if len(found) == enough:
                        return found
            check(_PLACE * len(found))
    return found


def _frame_bits(area: Area) -> tuple[int, int, int, int]:
    """Return the lowest and the highest bits of the latitude of a place in the area, then of its longitude;
    each as they stand in a score."""
    west, south, east, north = area.frame()
    latitude_parts = _parts(south, LATITUDE_MAX, -1), _parts(north, LATITUDE_MAX, 1)
    longitude_parts = _parts(west, LONGITUDE_MAX, -1), _parts(east, LONGITUDE_MAX, 1)
    return (
        interleave(latitude_parts[0], 0),
        interleave(latitude_parts[1], 0),
        interleave(0, longitude_parts[0]),
        interleave(0, longitude_parts[1]),
    )


def _parts(coordinate: float, end: float, step: int) -> int:
    """Return the number of a smallest cell, one cell farther out."""
    if not -end < coordinate < end:
        return 0 if step < 0 else _PARTS_MAX
    return max(int((coordinate + end) / (2 * end) * (1 << STEPS)) + step, 0)


def _batches(zset: ZSet, low: float, high: float) -> Iterator[tuple[list[bytes], Sequence[float]]]:
    """Yield the keys with scores ``low <= score < high``, which are not negative, and the scores."""
    start, stop = encode_score(low), encode_score(high)
    while True:
        keys = zset.order.slice(start, stop, limit=_BATCH)
        if keys:
            if zset.form == SIGNED:
                yield keys, [score for _, score in zset.scored(keys)]
            else:
                # As `decode_score`, for scores that are not negative: a quarter of the time of `scored`.
                negated = struct.unpack(f">{len(keys)}d", b"".join([key[:SCORE_SIZE] for key in keys]))
                yield keys, [-score for score in negated]
        if len(keys) < _BATCH:
            return
        start = keys[-1] + b"\0"


def _score_ranges(area: Area) -> list[tuple[float, float]]:
    """Return the ranges of scores, half open, of the boxes that cover an area."""
    bounds = area.bounds()
    steps = _steps(area.reach_m(), area.latitude)
    if steps > 1 and not _covers(area, bounds, steps):
        steps -= 1
    centre = cell(area.longitude, area.latitude, steps)
    west, south, east, north = box(*centre, steps)
    low_longitude, low_latitude, high_longitude, high_latitude = bounds
    # By steps north: whether a row of boxes is beyond the area. With boxes as large as half the earth each
    # neighbour is needed.
    may_skip = steps >= 2
    is_row_out = {1: may_skip and north > high_latitude, -1: may_skip and south < low_latitude}
    is_column_out = {1: may_skip and east > high_longitude, -1: may_skip and west < low_longitude}
    ranges: list[tuple[float, float]] = []
    shift = 2 * (STEPS - steps)
    for at, (up, right) in enumerate(_NEIGHBOURS):
        if is_row_out.get(up) or is_column_out.get(right):
            continue
        bits = interleave(*_neighbour(centre, up, right, steps))
        wanted = (float(bits << shift), float(bits + 1 << shift))
        # In small grids neighbours on two sides are the same. Redis compares with the one before, unless
        # that is the centre.
        if at > 1 and len(ranges) > 1 and ranges[-1] == wanted:
            continue
        ranges.append(wanted)
    return ranges


def _neighbour(centre: tuple[int, int], up: int, right: int, steps: int) -> tuple[int, int]:
    """Return the cell beside another one; behind the last comes the first."""
    mask = (1 << steps) - 1
    latitude, longitude = centre
    return latitude + up & mask if up else latitude, longitude + right & mask if right else longitude


def _steps(reach_m: float, latitude: float) -> int:
    """Return how often to halve the earth, so that a box and its neighbours cover what is in reach."""
    if reach_m == 0:
        return STEPS
    steps = 1
    while reach_m < _MERCATOR_MAX_M:
        reach_m *= 2
        steps += 1
    steps -= 2
    if abs(latitude) > _FAR_LATITUDE:
        steps -= 2 if abs(latitude) > _POLAR_LATITUDE else 1
    return max(1, min(steps, STEPS))


def _covers(area: Area, bounds: Bounds, steps: int) -> bool:
    """Tell whether no part of an area lies beyond the far sides of the neighbours.

    Where the area crosses the date line a neighbour lies at the other end, and this says no: then the boxes
    are larger than they need be.
    """
    centre = cell(area.longitude, area.latitude, steps)
    west, south, east, north = bounds
    return (
        box(*_neighbour(centre, 1, 0, steps), steps)[3] >= north
        and box(*_neighbour(centre, -1, 0, steps), steps)[1] <= south
        and box(*_neighbour(centre, 0, 1, steps), steps)[2] >= east
        and box(*_neighbour(centre, 0, -1, steps), steps)[0] <= west
    )

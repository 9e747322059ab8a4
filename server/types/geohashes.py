"""Places on earth as numbers, and how far they are apart: Redis's geohash.

A place is a score of a sorted set: 26 bits of its latitude and 26 of its longitude in turn, latitude lowest.

    bit     51   50   49   48  ...  1    0
            lon  lat  lon  lat      lon  lat        of the highest bits of each first

So places whose first bits agree lie in one box, and the places in a box are one range of scores. Latitudes go
to 85 degrees, as far as the web's maps do. Each computation is made in the order in which Redis makes it, so
that floats come out the same to the last bit.
"""

from __future__ import annotations

from math import asin, cos, pi, sin, sqrt
from typing import Final

LONGITUDE_MAX: Final = 180.0
LATITUDE_MAX: Final = 85.05112878
STEPS: Final = 26
"""Bits of a latitude, and of a longitude."""

EARTH_RADIUS_M: Final = 6372797.560856
RADIANS: Final = pi / 180.0

_ALPHABET: Final = "0123456789bcdefghjkmnpqrstuvwxyz"
_TEXT_SIZE: Final = 11
_POLE: Final = 90.0
_HEIGHT: Final = LATITUDE_MAX - -LATITUDE_MAX
_WIDTH: Final = LONGITUDE_MAX - -LONGITUDE_MAX
_PARTS: Final = 1 << STEPS
_SCORE_END: Final = 2.0**63
_UINT64_MASK: Final = (1 << 64) - 1


def _spread_table() -> list[int]:
    """Return for each byte its bits with a gap before each."""
    return [sum((byte >> bit & 1) << 2 * bit for bit in range(8)) for byte in range(256)]


def _even_table() -> bytes:
    """Return for each two bytes the byte that their even bits make."""
    table = b"\0"
    for bit in range(16):
        added = 0 if bit & 1 else 1 << bit // 2
        table += table.translate(bytes(byte | added for byte in range(256)))
    return table


_SPREAD: Final = _spread_table()
_EVEN: Final = _even_table()


def interleave(latitude: int, longitude: int) -> int:
    """Return the bits of two numbers below 2 ** 32 in turn. Cost: 0.5 µs."""
    spread = _SPREAD
    low = (
        spread[latitude & 255]
        | spread[latitude >> 8 & 255] << 16
        | spread[latitude >> 16 & 255] << 32
        | spread[latitude >> 24] << 48
    )
    high = (
        spread[longitude & 255]
        | spread[longitude >> 8 & 255] << 16
        | spread[longitude >> 16 & 255] << 32
        | spread[longitude >> 24] << 48
    )
    return low | high << 1


def cell(
    longitude: float, latitude: float, steps: int, latitude_max: float = LATITUDE_MAX
) -> tuple[int, int]:
    """Return the numbers of the cell of a place, by latitude and by longitude, when each is cut into
    ``2 ** steps`` parts. A place at the very end is beyond the last one."""
    latitude_part = (latitude - -latitude_max) / (latitude_max - -latitude_max)
    longitude_part = (longitude - -LONGITUDE_MAX) / (LONGITUDE_MAX - -LONGITUDE_MAX)
    return int(latitude_part * (1 << steps)), int(longitude_part * (1 << steps))


def box(latitude_cell: int, longitude_cell: int, steps: int) -> tuple[float, float, float, float]:
    """Return what a cell covers: longitude and latitude from, longitude and latitude to."""
    parts = 1 << steps
    return (
        -LONGITUDE_MAX + (longitude_cell / parts) * _WIDTH,
        -LATITUDE_MAX + (latitude_cell / parts) * _HEIGHT,
        -LONGITUDE_MAX + ((longitude_cell + 1) / parts) * _WIDTH,
        -LATITUDE_MAX + ((latitude_cell + 1) / parts) * _HEIGHT,
    )


def score_of(longitude: float, latitude: float) -> float:
    """Return the score of a place."""
    return float(interleave(*cell(longitude, latitude, STEPS)))


def place_of(score: float) -> tuple[float, float]:
    """Return longitude and latitude of the middle of the smallest box a score stands for. Cost: 1 µs.

    Any score stands for one: a set may hold others than places'.
    """
    # Flat, with the even bits of two bytes at a time from a table: this is what a search does most.
    even = _EVEN
    bits = int(score) if 0.0 <= score < _SCORE_END else _as_bits(score)
    odd = bits >> 1
    latitude_cell = (
        even[bits & 0xFFFF]
        | even[bits >> 16 & 0xFFFF] << 8
        | even[bits >> 32 & 0xFFFF] << 16
        | even[bits >> 48] << 24
    )
    longitude_cell = (
        even[odd & 0xFFFF]
        | even[odd >> 16 & 0xFFFF] << 8
        | even[odd >> 32 & 0xFFFF] << 16
        | even[odd >> 48] << 24
    )
    west = -LONGITUDE_MAX + (longitude_cell / _PARTS) * _WIDTH
    east = -LONGITUDE_MAX + ((longitude_cell + 1) / _PARTS) * _WIDTH
    south = -LATITUDE_MAX + (latitude_cell / _PARTS) * _HEIGHT
    north = -LATITUDE_MAX + ((latitude_cell + 1) / _PARTS) * _HEIGHT
    longitude = (west + east) / 2
    latitude = (south + north) / 2
    if longitude > LONGITUDE_MAX:
        longitude = LONGITUDE_MAX
    if latitude > LATITUDE_MAX:
        latitude = LATITUDE_MAX
    return longitude, latitude


def _as_bits(score: float) -> int:
    """Return what a processor of the x86 family makes of a double that is to be an unsigned integer."""
    if -(2.0**63) <= score < 2.0**64:
        return int(score) & _UINT64_MASK
    return 0 if score > 0.0 else 1 << 63


def text_of(score: float) -> bytes:
    """Return the geohash that everybody else uses: 11 characters, of latitudes up to the poles."""
    bits = interleave(*cell(*place_of(score), STEPS, _POLE))
    # 52 bits are two characters of five and two bits short of 11; Redis fills them with zeros.
    shifts = range(2 * STEPS - 5, -1, -5)
    return "".join([_ALPHABET[bits >> shift & 31] for shift in shifts]).ljust(_TEXT_SIZE, "0").encode()


def distance_m(longitude1: float, latitude1: float, longitude2: float, latitude2: float) -> float:
    """Return how many metres two places are apart along a great circle. Cost: 0.7 µs."""
    v = sin((longitude2 * RADIANS - longitude1 * RADIANS) / 2)
    if v == 0.0:
        return latitude_distance_m(latitude1, latitude2)
    latitude1 *= RADIANS
    latitude2 *= RADIANS
    u = sin((latitude2 - latitude1) / 2)
    return 2.0 * EARTH_RADIUS_M * asin(sqrt(u * u + cos(latitude1) * cos(latitude2) * v * v))


def latitude_distance_m(latitude1: float, latitude2: float) -> float:
    """Return how many metres two latitudes are apart."""
    return EARTH_RADIUS_M * abs(latitude2 * RADIANS - latitude1 * RADIANS)

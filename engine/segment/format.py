"""How a segment file is laid out, and the codecs of its small parts.

    header    magic:8s  version:u32  salt:u32  crc:u32
    frame*    data blocks, each group of them followed by the index part that describes it
    frame     top index: one row per index part
    frame     properties: JSON
    footer    top offset:u64 size:u32  properties offset:u64 size:u32  version:u32  crc:u32  magic:8s

    frame     crc:u32  size:u32  tag:u8  payload[size]        tag = what | codec << 4

All integers are little-endian. `crc` of a frame covers everything behind it in the frame and is seeded with
the file's salt plus the frame's offset, so that a frame is valid in one place of one file only. A file can be
walked frame by frame from its header when its indexes are lost.

An index part describes up to 256 data blocks: for each its *floor* (a shortened separator: larger than every
key before the block, not larger than the block's first key), offset, running counts and its bloom filter. The
top index describes the parts in the same way. docs/format.md draws every byte.
"""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import lz4.block

from lamina.engine.checksum import crc32c
from lamina.engine.columns import pack_column, unpack_column
from lamina.engine.errors import CorruptionError, FormatVersionError

FORMAT_VERSION = 1

HEADER = struct.Struct("<8sIII")
HEADER_MAGIC = b"LAMINSEG"
FRAME = struct.Struct("<IIB")
FOOTER = struct.Struct("<QIQIII8s")
FOOTER_MAGIC = b"LAMINEND"
assert HEADER.size == 20 and FRAME.size == 9 and FOOTER.size == 40

# Frame tags, low four bits: written to disk, never change or reuse.
DATA = 1
PART = 2
TOP = 3
PROPERTIES = 4
# Codecs, high four bits.
RAW = 0
LZ4 = 1

FLOOR_SIZE_MAX = 4096
"""Floors are cut to this many bytes; a floor of exactly this size may equal or precede keys before its
block."""

PART_BLOCKS_MAX = 256
PART_FLOORS_SIZE_MAX = 256 * 1024

_UINT32 = 0xFFFFFFFF


class Frame(NamedTuple):
    """Where a frame lies: `offset` of its header, `size_bytes` with the header."""

    offset: int
    size_bytes: int


def encode_header(salt: int) -> bytes:
    """Return the first bytes of a segment file."""
    head = HEADER_MAGIC + struct.pack("<II", FORMAT_VERSION, salt)
    return head + struct.pack("<I", crc32c(0, head))


def decode_header(path: str, data: bytes) -> int:
    """Return the salt. Errors: CorruptionError, FormatVersionError."""
    if len(data) < HEADER.size:
        raise CorruptionError(path, 0, "segment header is cut short", HEADER.size, len(data))
    magic, version, salt, crc = HEADER.unpack_from(data)
    found = crc32c(0, data[: HEADER.size - 4])
    if crc != found or magic != HEADER_MAGIC:
        raise CorruptionError(path, 0, "segment header checksum", crc, found)
    check_version(path, version)
    return int(salt)


def check_version(path: str, version: int) -> None:
    """Raise FormatVersionError for files of the future."""
    if not 1 <= version <= FORMAT_VERSION:
        raise FormatVersionError(
            f"{path}: format version {version} is not known here (up to {FORMAT_VERSION} is); "
            "use the release of Lamina that wrote it, or a newer one"
        )


def encode_frame(salt: int, offset: int, tag: int, payload: bytes, *, compress: bool) -> bytes:
    """Return the frame that holds `payload` at `offset` of a file.

    Payloads that lz4 does not shrink by an eighth are kept raw: decompressing them would cost more than it
    saves.
    """
    if compress and len(payload) > 64:
        packed = lz4.block.compress(payload)
        if len(packed) < len(payload) - (len(payload) >> 3):
            payload = packed
            tag |= LZ4 << 4
    body = FRAME.pack(0, len(payload), tag)[4:] + payload
    return crc32c((salt + offset) & _UINT32, body).to_bytes(4, "little") + body


def reseat_frame(frame: bytes, salt: int, offset: int) -> bytes:
    """Return a frame's bytes with the checksum they need at another place. The caller has verified
    `frame`."""
    return crc32c((salt + offset) & _UINT32, frame[4:]).to_bytes(4, "little") + frame[4:]


def decode_frame(path: str, salt: int, offset: int, data: bytes, tag: int) -> bytes:
    """Verify one frame and return its payload, decompressed.

    Units: `data` is the whole frame as read at `offset`. Errors: CorruptionError. Cost: one pass of CRC-32C
    and one of lz4.
    """
    if len(data) < FRAME.size:
        raise CorruptionError(path, offset, f"{_NAMES[tag]} is cut short", FRAME.size, len(data))
    crc, size, found_tag = FRAME.unpack_from(data)
    if size != len(data) - FRAME.size:
        raise CorruptionError(path, offset, f"{_NAMES[tag]} size", len(data) - FRAME.size, size)
    found = crc32c((salt + offset) & _UINT32, data[4:])
    if found != crc:
        raise CorruptionError(path, offset, f"{_NAMES[tag]} checksum", crc, found)
    if found_tag & 15 != tag:
        raise CorruptionError(path, offset, "kind of block", tag, found_tag & 15)
    payload = data[FRAME.size :]
    if found_tag >> 4 == RAW:
        return payload
    try:
        return bytes(lz4.block.decompress(payload))
    except (lz4.block.LZ4BlockError, ValueError, MemoryError) as error:
        raise CorruptionError(path, offset, f"{_NAMES[tag]} does not decompress: {error}") from None


_NAMES = {DATA: "data block", PART: "index part", TOP: "top index", PROPERTIES: "properties"}


class Index(NamedTuple):
    """A decoded index part or top index: row `i` describes a block (or part) `i`.

    `floors[i]` bounds its keys from below, `offsets[i]` is its frame and `offsets_end` where the last one
    ends (the frames of a part are contiguous; a top index gives `sizes` instead). `entries`, `tombstones` and
    `deltas` hold running totals *before* row `i`, with one more for the end.
    """

    floors: list[bytes]
    offsets: Sequence[int]
    sizes: Sequence[int]
    entries: Sequence[int]
    tombstones: Sequence[int]
    deltas: Sequence[int]
    filters: list[bytes]


_INDEX_HEADER = struct.Struct("<III")


def encode_index(
    floors: list[bytes],
    offsets: list[int],
    sizes: list[int],
    entries: list[int],
    tombstones: list[int],
    deltas: list[int],
    filters: list[bytes],
) -> bytes:
    """Return the payload of an index; the three count columns are per row here, running totals after
    decoding.

    Shape: rows:u32 floor bytes:u32 filter bytes:u32 | offset:u64* size:u32* entries:u64* tombstones:u64*
    deltas:i64* floor end:u32* filter end:u32* | floors | filters
    """
    floor_bytes = b"".join(floors)
    filter_bytes = b"".join(filters)
    return b"".join(
        (
            _INDEX_HEADER.pack(len(floors), len(floor_bytes), len(filter_bytes)),
            pack_column("Q", offsets),
            pack_column("I", sizes),
            pack_column("Q", entries),
            pack_column("Q", tombstones),
            pack_column("q", deltas),
            pack_column("I", accumulate(map(len, floors))),
            pack_column("I", accumulate(map(len, filters))),
            floor_bytes,
            filter_bytes,
        )
    )


def decode_index(path: str, offset: int, payload: bytes) -> Index:
    """Return the index in `payload`. Errors: CorruptionError naming `offset`."""
    try:
        rows, floor_size, filter_size = _INDEX_HEADER.unpack_from(payload)
        position = _INDEX_HEADER.size
        columns: list[array[int]] = []
        for code, width in (("Q", 8), ("I", 4), ("Q", 8), ("Q", 8), ("q", 8), ("I", 4), ("I", 4)):
            columns.append(unpack_column(code, payload[position : position + rows * width]))
            position += rows * width
        if rows == 0 or len(payload) != position + floor_size + filter_size:
            raise ValueError("lengths do not add up")
    except (struct.error, ValueError) as error:
        raise CorruptionError(path, offset, f"index does not decode: {error}") from None
    offsets, sizes, entries, tombstones, deltas, floor_ends, filter_ends = columns
    filters_at = position + floor_size
    return Index(
        [payload[position + a : position + b] for a, b in pairwise((0, *floor_ends))],
        offsets,
        sizes,
        list(accumulate(entries, initial=0)),
        list(accumulate(tombstones, initial=0)),
        list(accumulate(deltas, initial=0)),
        [payload[filters_at + a : filters_at + b] for a, b in pairwise((0, *filter_ends))],
    )


class Properties(NamedTuple):
    """What a segment says of itself, enough to rebuild a lost manifest.

    `start` (inclusive) and `stop` (exclusive, None: no bound) are the key range that the segment *answers
    for*: for those keys it replaces all segments and logs whose ages lie inside `age_first..age_last`, the
    numbers of the write-ahead logs its entries came from. `ceiling` is a short bound above its last key.
    `discards_applied` is the newest discarded range whose entries were dropped.
    """

    number: int
    level: int
    run: int
    age_first: int
    age_last: int
    start: bytes
    stop: bytes | None
    ceiling: bytes | None
    entries: int
    tombstones: int
    delta: int
    key_bytes: int
    value_bytes: int
    blocks: int
    discards_applied: int
    filter_bits_per_key: int
    counted: bool
    created_s: int

    def encode(self) -> bytes:
        """Return the JSON text of a properties frame."""
        record = self._asdict()
        record["start"] = self.start.hex()
        record["stop"] = None if self.stop is None else self.stop.hex()
        record["ceiling"] = None if self.ceiling is None else self.ceiling.hex()
        return json.dumps(record, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, path: str, offset: int, payload: bytes) -> Properties:
        """Inverse of `encode`; fields added by later minor versions are ignored. Errors: CorruptionError."""
        try:
            record = json.loads(payload)
            record["start"] = bytes.fromhex(record["start"])
            for name in ("stop", "ceiling"):
                record[name] = None if record[name] is None else bytes.fromhex(record[name])
            return cls(**{name: record[name] for name in cls._fields})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptionError(path, offset, f"properties do not decode: {error!r}") from None


def encode_footer(top: Frame, properties: Frame, salt: int) -> bytes:
    """Return the last bytes of a segment file."""
    fields = (top.offset, top.size_bytes, properties.offset, properties.size_bytes, FORMAT_VERSION)
    crc = crc32c(salt, FOOTER.pack(*fields, 0, FOOTER_MAGIC))
    return FOOTER.pack(*fields, crc, FOOTER_MAGIC)


def decode_footer(path: str, offset: int, data: bytes, salt: int) -> tuple[Frame, Frame]:
    """Return where top index and properties lie. Errors: CorruptionError, FormatVersionError."""
    if len(data) != FOOTER.size:
        raise CorruptionError(path, offset, "segment footer is cut short", FOOTER.size, len(data))
    top_offset, top_size, properties_offset, properties_size, version, crc, magic = FOOTER.unpack(data)
    fields = (top_offset, top_size, properties_offset, properties_size, version)
    found = crc32c(salt, FOOTER.pack(*fields, 0, magic))
    if crc != found or magic != FOOTER_MAGIC:
        raise CorruptionError(path, offset, "segment footer checksum", crc, found)
    check_version(path, version)
    return Frame(top_offset, top_size), Frame(properties_offset, properties_size)


def separator(last: bytes, first: bytes) -> bytes:
    """Return a short floor between two neighbouring keys: ``last < floor <= first``.

    At most FLOOR_SIZE_MAX bytes: where the keys agree for longer than that, the floor is that common prefix,
    which is only known to be ``<= first`` (see `is_exact`). Cost: a few comparisons.
    """
    first = first[:FLOOR_SIZE_MAX]
    low, high = 0, min(len(last), len(first))
    if last[:high] != first[:high]:
        while high - low > 1:
            middle = (low + high) // 2
            if last[low:middle] == first[low:middle]:
                low = middle
            else:
                high = middle
        return first[: low + 1]
    return first[: high + 1]


def is_exact(floor: bytes) -> bool:
    """Tell whether a floor is certainly larger than every key before it."""
    return len(floor) < FLOOR_SIZE_MAX


def upper_bound(key: bytes) -> bytes | None:
    """Return a short bound above `key`: None where only "no bound" will do."""
    if len(key) < FLOOR_SIZE_MAX:
        return key + b"\0"
    prefix = key[:FLOOR_SIZE_MAX].rstrip(b"\xff")
    return prefix[:-1] + bytes((prefix[-1] + 1,)) if prefix else None

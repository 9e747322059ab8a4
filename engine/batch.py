"""Batches: several writes that happen together or not at all.

A batch becomes one frame of the write-ahead log, whose payload is one of

    entry     kind:u8 (0..3)  key size:u32  key  value
    batch     BATCH:u8  count:u32  key bytes:u32  discards:u32
              kinds:u8[count]  key sizes:u32[count]  value sizes:u32[count]  keys  values
              (start size:u32  stop size:u32  start  stop) for each discarded range
    durable   DURABLE:u8  log number:u64  size:u64   that log is synced up to `size`, and all before it
    link      LINK:u8     log number:u64  size:u64   this log follows that one, which ends at `size`

The columns of a batch are packed and unpacked by C loops, as in a block.
"""

from __future__ import annotations

import struct
from itertools import accumulate, pairwise
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from lamina.engine.columns import pack_column, unpack_column
from lamina.engine.entry import KEY_SIZE_MAX, VALUE_SIZE_MAX
from lamina.engine.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ENTRY = struct.Struct("<BI")
BATCH_HEADER = struct.Struct("<BIII")
MARK = struct.Struct("<BQQ")
_SIZES = struct.Struct("<II")

# Payload tags; 0..3 are the kinds of `entry`. Written to disk: never change or reuse.
BATCH = 0x10
DURABLE = 0x20
LINK = 0x21

BATCH_SIZE_MAX = 0x7F000000
"""Bytes of one frame's payload: what a 32-bit length and one lz4 block can hold, with room to spare."""

DISCARD_BOUND_SIZE_MAX = 4096
"""Bytes of a bound of a discarded range: bounds are kept in the manifest."""

Discard = tuple[bytes, bytes]


def as_bytes(what: str, data: object) -> bytes:
    """Return `data` as bytes; TypeError for anything that is not bytes-like."""
    if isinstance(data, bytes):
        return data if type(data) is bytes else bytes(data)
    if isinstance(data, bytearray | memoryview):
        return bytes(data)
    raise TypeError(f"{what} must be bytes, not {type(data).__name__}")


def check_key(key: object) -> bytes:
    """Return `key` as bytes that may be stored. Errors: TypeError, ValueError."""
    key = as_bytes("key", key)
    if len(key) > KEY_SIZE_MAX:
        raise ValueError(f"key of {len(key)} bytes is larger than {KEY_SIZE_MAX}")
    return key


def check_value(value: object) -> bytes:
    """Return `value` as bytes that may be stored. Errors: TypeError, ValueError."""
    value = as_bytes("value", value)
    if len(value) > VALUE_SIZE_MAX:
        raise ValueError(f"value of {len(value)} bytes is larger than {VALUE_SIZE_MAX}")
    return value


def check_discard(start: object, stop: object) -> Discard:
    """Return the bounds of a range that may be discarded. Errors: TypeError, ValueError."""
    start = as_bytes("start", start)
    stop = as_bytes("stop", stop)
    if max(len(start), len(stop)) > DISCARD_BOUND_SIZE_MAX:
        raise ValueError(f"bounds of a discarded range are limited to {DISCARD_BOUND_SIZE_MAX} bytes")
    if start >= stop:
        raise ValueError(f"a discarded range must begin before it ends: {start[:40]!r} .. {stop[:40]!r}")
    return start, stop


class Batch:
    """Writes gathered for `Database.write`; inside a batch the last write of a key counts.

    As a context manager it is written when the block ends without an exception::

        with db.batch() as batch:
            batch.put(b"a", b"1")
            batch.delete(b"b")

    One thread at a time. A batch may be cleared and used again.

    `entries` may be read at any time: a plain dict of what has been gathered, key -> value, or None where the
    key is to be removed. A program that holds a batch open can look there for its own unwritten writes. For
    it to be changed there is `put` and `delete`, which check what they are given.
    """

    __slots__ = ("_write", "discards", "entries", "existed")

    def __init__(self, write: Callable[[Batch], None] | None = None) -> None:
        self._write = write
        self.entries: dict[bytes, bytes | None] = {}
        self.existed: dict[bytes, bool] = {}
        self.discards: list[Discard] = []

    def put(self, key: bytes, value: bytes, *, existed: bool | None = None) -> None:
        """Store `value` under `key`.

        `existed` tells a counted database whether the key is physically there now (before the batch), which
        saves it a look. It must be right: counts are kept by it.
        """
        if type(key) is not bytes or len(key) > KEY_SIZE_MAX:
            key = check_key(key)
        if type(value) is not bytes or len(value) > VALUE_SIZE_MAX:
            value = check_value(value)
        if existed is not None and key not in self.entries:
            self.existed[key] = existed
        self.entries[key] = value

    def delete(self, key: bytes, *, existed: bool | None = None) -> None:
        """Remove `key`; fine if it is not there. `existed` as in `put`."""
        if type(key) is not bytes or len(key) > KEY_SIZE_MAX:
            key = check_key(key)
        if existed is not None and key not in self.entries:
            self.existed[key] = existed
        self.entries[key] = None

    def discard(self, start: bytes, stop: bytes) -> None:
        """Discard the range ``start <= key < stop``: see `Database.discard`. Not for keys of this batch."""
        self.discards.append(check_discard(start, stop))

    def clear(self) -> None:
        """Forget everything gathered."""
        self.entries.clear()
        self.existed.clear()
        self.discards.clear()

    def __len__(self) -> int:
        return len(self.entries) + len(self.discards)

    def __enter__(self) -> Batch:
        if self._write is None:
            raise ClosedError(
                "this batch belongs to no database: make it with Database.batch(), or use write()"
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._write is not None:
            self._write(self)


def encode_batch(
    keys: Sequence[bytes], values: Sequence[bytes], kinds: bytes, discards: Sequence[Discard]
) -> bytes:
    """Return the payload of a batch frame. Errors: ValueError if it is too large for one frame."""
    count = len(keys)
    key_data = b"".join(keys)
    value_sizes = list(map(len, values))
    size = BATCH_HEADER.size + 9 * count + len(key_data) + sum(value_sizes)
    for start, stop in discards:
        size += _SIZES.size + len(start) + len(stop)
    if size > BATCH_SIZE_MAX:
        raise ValueError(f"a batch of {size} bytes is larger than {BATCH_SIZE_MAX}: divide it")
    parts = [
        BATCH_HEADER.pack(BATCH, count, len(key_data), len(discards)),
        kinds,
        pack_column("I", [*map(len, keys), *value_sizes]),
        key_data,
        *values,
    ]
    for start, stop in discards:
        parts += (_SIZES.pack(len(start), len(stop)), start, stop)
    return b"".join(parts)


def encode_writes(
    keys: Sequence[bytes], values: Sequence[bytes], kinds: bytes, discards: Sequence[Discard]
) -> tuple[bytes, int]:
    """Return the shortest payload that holds these writes, and the bytes of all keys and values.

    Errors: ValueError if it is too large for one frame.
    """
    count = len(keys)
    if count == 1 and not discards:
        key = keys[0]
        payload = ENTRY.pack(kinds[0], len(key)) + key + values[0]
        return payload, len(payload) - ENTRY.size
    payload = encode_batch(keys, values, kinds, discards)
    size_bytes = len(payload) - BATCH_HEADER.size - 9 * count
    if discards:
        size_bytes -= sum(_SIZES.size + len(start) + len(stop) for start, stop in discards)
    return payload, size_bytes


class Operations(NamedTuple):
    """A decoded payload; `values` holds ``b""`` for tombstones."""

    keys: list[bytes]
    values: list[bytes]
    kinds: bytes
    discards: list[Discard]


def decode_payload(payload: bytes) -> Operations:
    """Return what an `entry` or `batch` payload holds. Errors: ValueError for anything else."""
    try:
        if payload[0] != BATCH:
            kind, key_size = ENTRY.unpack_from(payload)
            at = ENTRY.size + key_size
            if kind > 3 or at > len(payload):
                raise ValueError(f"no entry of kind {kind}")
            return Operations([payload[ENTRY.size : at]], [payload[at:]], payload[:1], [])
        _, count, key_bytes, discard_count = BATCH_HEADER.unpack_from(payload)
        at = BATCH_HEADER.size + count
        kinds = payload[BATCH_HEADER.size : at]
        key_sizes = unpack_column("I", payload[at : at + 4 * count])
        value_sizes = unpack_column("I", payload[at + 4 * count : at + 8 * count])
        at += 8 * count
        keys = [payload[a:b] for a, b in pairwise(accumulate(key_sizes, initial=at))]
        at += key_bytes
        values = [payload[a:b] for a, b in pairwise(accumulate(value_sizes, initial=at))]
        at += sum(value_sizes)
        discards: list[Discard] = []
        for _ in range(discard_count):
            start_size, stop_size = _SIZES.unpack_from(payload, at)
            middle = at + _SIZES.size + start_size
            discards.append((payload[at + _SIZES.size : middle], payload[middle : middle + stop_size]))
            at = middle + stop_size
        if len(kinds) != count or len(keys) != count or at != len(payload):
            raise ValueError("lengths of a batch do not add up")
    except (struct.error, IndexError) as error:
        raise ValueError(f"payload does not decode: {error}") from None
    return Operations(keys, values, kinds, discards)

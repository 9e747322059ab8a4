"""Piles: entries in no order, on their way from the program that loads them to the worker that sorts them.

    crc32c:u32le  block          a data block's payload, as in segment/block.py, of any size

A pile has a temporary name (`000012.wal.tmp`, as if it were to be a log), so what an interruption leaves
behind is swept when the database is opened. It is not synced: it matters only as long as both processes live.
"""

from __future__ import annotations

import struct
from collections import Counter

from lamina.engine.checksum import crc32c
from lamina.engine.compaction.job import Builder, SortJob, Step
from lamina.engine.entry import INSERT, REPLACE
from lamina.engine.errors import CorruptionError, DuplicateKeyError
from lamina.engine.filesystem import FileSystem, read_file, write_all
from lamina.engine.segment.block import Block, encode_block

_HEAD = struct.Struct("<I")
_STEP = 4096


def write_pile(fs: FileSystem, path: str, keys: list[bytes], values: list[bytes]) -> None:
    """Write a pile. Cost: 0.2 µs an entry. Errors: OSError."""
    payload = encode_block(keys, values, bytes(len(keys)))
    file = fs.create(path)
    try:
        write_all(file, _HEAD.pack(crc32c(0, payload)))
        write_all(file, payload)
    finally:
        file.close()


def read_pile(fs: FileSystem, path: str) -> tuple[list[bytes], list[bytes]]:
    """Return a pile's columns. Errors: CorruptionError, OSError."""
    data = read_file(fs, path)
    payload = data[_HEAD.size :]
    if len(data) < _HEAD.size or _HEAD.unpack_from(data)[0] != crc32c(0, payload):
        raise CorruptionError(path, 0, "checksum of a pile")
    block = Block(path, 0, payload)
    return block.keys(), block.values()


def sorted_columns(
    keys: list[bytes], values: list[bytes], *, counted: bool
) -> tuple[list[bytes], list[bytes]]:
    """Return entries in the order of keys, each key once.

    Of equal keys the last one counts in an uncounted database. In a counted one all are inserts, of which a
    key can have but one. Errors: DuplicateKeyError. Cost: 0.5 µs an entry in no order, 0.2 in order.
    """
    latest = dict(zip(keys, values, strict=True))
    if counted and len(latest) < len(keys):
        ((key, _),) = Counter(keys).most_common(1)
        raise DuplicateKeyError(key)
    ordered = sorted(latest)
    return ordered, list(map(latest.__getitem__, ordered))


def run_sort(fs: FileSystem, job: SortJob) -> Step:
    """Carry out a job. The directory is not synced: that is for who installs the result.

    Errors: DuplicateKeyError, CorruptionError, OSError; unfinished files are removed.
    """
    out = job.output
    keys, values = sorted_columns(*read_pile(fs, job.path), counted=out.counted)
    kind = bytes((INSERT if out.counted else REPLACE,))
    builder = Builder(fs, out, b"", None, 0, None)
    try:
        for at in range(0, len(keys), _STEP):
            some = keys[at : at + _STEP]
            builder.add(some, values[at : at + _STEP], kind * len(some))
        builder.finish(None)
    except BaseException:
        builder.abort()
        raise
    return Step(b"", None, builder.numbers, builder.written_bytes)

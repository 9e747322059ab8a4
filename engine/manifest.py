"""The manifest: the one file that says what is live, replaced atomically.

    lamina manifest 1
    { ... JSON ... }
    crc32c 1a2b3c4d

Readable text, so that a person can see the state of a database; the last line covers every byte before it.
Keys are percent-encoded. `wal_first` is the oldest log whose entries are not all in segments: it and every
later log are replayed.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any, NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

from lamina.engine.checksum import crc32c
from lamina.engine.discards import DiscardedRange
from lamina.engine.errors import CorruptionError, FormatVersionError
from lamina.engine.filenames import MANIFEST, temporary_name
from lamina.engine.filesystem import FileSystem, read_file, write_all

MANIFEST_VERSION = 1
_FIRST_LINE = "lamina manifest "
_LAST_LINE = "crc32c "


class SliceRecord(NamedTuple):
    """One slice: what a run shows of a segment."""

    segment: int
    file_size_bytes: int
    start: bytes
    stop: bytes | None
    entries: int
    base: int
    delta: int
    size_bytes: int


class RunRecord(NamedTuple):
    """One run."""

    number: int
    slices: list[SliceRecord]


class Manifest(NamedTuple):
    """The decoded manifest. `salt` is what the salts of all files are made of. Shape: `levels[n]` newest run
    first; upper levels are newer."""

    counted: bool
    salt: int
    created_s: int
    next_number: int
    wal_first: int
    levels: list[list[RunRecord]]
    discards: list[DiscardedRange]
    discards_last_number: int


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the text of a manifest."""
    record = {
        "counted": manifest.counted,
        "salt": manifest.salt,
        "created_s": manifest.created_s,
        "next_number": manifest.next_number,
        "wal_first": manifest.wal_first,
        "discards_last_number": manifest.discards_last_number,
        "discards": [[_quote(d.start), _quote(d.stop), d.number] for d in manifest.discards],
        "levels": [
            [{"run": run.number, "slices": [_slice_to_json(s) for s in run.slices]} for run in runs]
            for runs in manifest.levels
        ],
    }
    body = f"{_FIRST_LINE}{MANIFEST_VERSION}\n{json.dumps(record, indent=1)}\n".encode()
    return body + f"{_LAST_LINE}{crc32c(0, body):08x}\n".encode()


def _slice_to_json(record: SliceRecord) -> dict[str, Any]:
    stop = None if record.stop is None else _quote(record.stop)
    return record._asdict() | {"start": _quote(record.start), "stop": stop}


def decode_manifest(path: str, data: bytes) -> Manifest:
    """Inverse of `encode_manifest`. Errors: CorruptionError, FormatVersionError."""
    at = data.rfind(b"\n", 0, len(data) - 1) + 1
    body, last = data[:at], data[at:]
    expected = f"{_LAST_LINE}{crc32c(0, body):08x}\n".encode()
    if last != expected:
        raise CorruptionError(path, at, "manifest checksum", expected.decode().strip(), last[:40])
    first, _, text = body.partition(b"\n")
    version = first.removeprefix(_FIRST_LINE.encode())
    if version != str(MANIFEST_VERSION).encode():
        raise FormatVersionError(
            f"{path}: begins with {first[:40]!r}; this release knows manifests of version {MANIFEST_VERSION}"
        )
    try:
        record = json.loads(text)
        return Manifest(
            counted=bool(record["counted"]),
            salt=record["salt"],
            created_s=record["created_s"],
            next_number=record["next_number"],
            wal_first=record["wal_first"],
            levels=[
                [RunRecord(run["run"], [_slice_from_json(s) for s in run["slices"]]) for run in runs]
                for runs in record["levels"]
            ],
            discards=[DiscardedRange(_unquote(a), _unquote(b), n) for a, b, n in record["discards"]],
            discards_last_number=record["discards_last_number"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptionError(path, 0, f"manifest does not decode: {error!r}") from None


def _slice_from_json(record: dict[str, Any]) -> SliceRecord:
    stop = None if record["stop"] is None else _unquote(record["stop"])
    return SliceRecord(**record | {"start": _unquote(record["start"]), "stop": stop})


def _quote(key: bytes) -> str:
    return quote_from_bytes(key, safe=":-_/ ")


def _unquote(text: str) -> bytes:
    return unquote_to_bytes(text)


def read_manifest(fs: FileSystem, directory: str) -> Manifest:
    """Read the manifest of a database. Errors: FileNotFoundError, CorruptionError, FormatVersionError."""
    path = os.path.join(directory, MANIFEST)
    return decode_manifest(path, read_file(fs, path))


def write_manifest(fs: FileSystem, directory: str, manifest: Manifest) -> int:
    """Replace the manifest, durably; returns its size in bytes.

    After an OSError the old manifest may still be in place or the new one already; both are valid, because
    the files that either names are only removed after this has returned. Cost: two syncs.
    """
    path = os.path.join(directory, MANIFEST)
    temporary = temporary_name(path)
    with contextlib.suppress(FileNotFoundError):
        fs.remove(temporary)
    data = encode_manifest(manifest)
    file = fs.create(temporary)
    try:
        write_all(file, data)
        file.sync()
    except OSError:
        with contextlib.suppress(OSError):  # on a full disk every byte counts
            fs.remove(temporary)
        raise
    finally:
        file.close()
    fs.replace(temporary, path)
    fs.sync_directory(directory)
    return len(data)

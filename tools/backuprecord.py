"""What a backup consists of, as its record in a repository says it.

    lamina backup 1
    { ... JSON ... }
    sha256 9f86d081884c7d65...

The last line covers every byte before it. A record names the files of a database by number and content, and
holds the database's manifest, which is the last thing that a restore writes.

Files are known by SHA-256. A name that stands for a content must hold against chance and against data that
somebody has chosen: clients choose what is in the files. CRC-32C and xxh3 do not, blake2b is slower here, and
`sha256sum` is on every machine.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Final, NamedTuple

from lamina.engine.filenames import parse_name
from lamina.engine.manifest import Manifest, decode_manifest
from lamina.tools.console import UsageError

RECORD_VERSION: Final = 1
_FIRST_LINE: Final = f"lamina backup {RECORD_VERSION}\n".encode()
_LAST_LINE: Final = b"sha256 "

_ID: Final = re.compile(r"[0-9]{8}T[0-9]{6}Z(-[1-9][0-9]*)?")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_STORED: Final = re.compile(r"([0-9]{6,})-([0-9a-f]{64})\.(wal|seg)")


class RepositoryError(UsageError):
    """A repository, or something in it, is not as it must be. The text says what to do."""


class StoredFile(NamedTuple):
    """One file of a database. `identity`: what it was on its file system when it was read, or ""."""

    name: str
    size_bytes: int
    sha256: str
    identity: str = ""

    @property
    def stored_name(self) -> str:
        """Its name in the repository: the same for the same content only."""
        stem, _, kind = self.name.partition(".")
        return f"{stem}-{self.sha256}.{kind}"


class Backup(NamedTuple):
    """One state of a database. `live_keys` is None where that is not known without reading everything."""

    id: str
    database: str
    created_s: int
    label: str
    source: str
    version: str
    live_keys: int | None
    manifest: str
    files: list[StoredFile]

    @property
    def size_bytes(self) -> int:
        """Size of the database that a restore makes."""
        return len(self.manifest) + sum(file.size_bytes for file in self.files)


def database_id(manifest: Manifest) -> str:
    """Return what tells databases apart: when they were created, and a number drawn then."""
    return f"{manifest.created_s:08x}{manifest.salt:08x}"


def is_backup_id(name: str) -> bool:
    """Tell whether `name` may be the id of a backup."""
    return _ID.fullmatch(name) is not None


def is_stored_name(name: str) -> bool:
    """Tell whether `name` may be that of a file in a repository."""
    return _STORED.fullmatch(name) is not None


def encode_record(backup: Backup) -> bytes:
    """Return the bytes of a record."""
    fields = backup._asdict() | {"files": [list(file) for file in backup.files]}
    body = _FIRST_LINE + json.dumps(fields, indent=1).encode() + b"\n"
    return body + _LAST_LINE + hashlib.sha256(body).hexdigest().encode() + b"\n"


def decode_record(path: str, data: bytes) -> Backup:
    """Inverse of `encode_record`. Errors: RepositoryError."""
    at = data.rfind(b"\n", 0, len(data) - 1) + 1
    body, last = data[:at], data[at:]
    if last != _LAST_LINE + hashlib.sha256(body).hexdigest().encode() + b"\n":
        raise RepositoryError(f"{path}: the record of this backup is damaged: its checksum does not fit")
    first, _, text = body.partition(b"\n")
    if first + b"\n" != _FIRST_LINE:
        raise RepositoryError(f"{path}: begins with {first[:40]!r}: written by a newer release")
    try:
        fields: dict[str, Any] = json.loads(text)
        backup = Backup(**fields | {"files": [StoredFile(*file) for file in fields["files"]]})
        if database_id(decode_manifest(path, backup.manifest.encode())) != backup.database:
            raise ValueError("its manifest is another database's")
        # Names become paths when it is restored.
        if not all(parse_name(file.name) and _SHA256.fullmatch(file.sha256) for file in backup.files):
            raise ValueError("it names what is no file of a database")
    except (ValueError, KeyError, TypeError) as error:
        raise RepositoryError(f"{path}: the record of this backup makes no sense: {error}") from None
    return backup

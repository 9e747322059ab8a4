"""A checkpoint: a second, independent database made of hard links."""

from __future__ import annotations

import contextlib
import errno
import os

from lamina.engine.filenames import MANIFEST, segment_name, temporary_name, wal_name
from lamina.engine.filesystem import FileSystem, sync_ancestors, write_all
from lamina.engine.manifest import Manifest, write_manifest
from lamina.engine.wal import WalWriter

_COPY_INSTEAD = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP)
_COPY_BYTES = 1 << 20


def write_checkpoint(
    fs: FileSystem,
    source: str,
    target: str,
    manifest: Manifest,
    logs: list[int],
    log_end: tuple[int, int] | None = None,
) -> None:
    """Make `target` a database of `manifest`'s segments and these sealed, synced logs of `source`.

    `log_end` is for those who do not own the logs: (number, size) of the newest, to which its owner may be
    appending. Then logs are copied, that one up to its size, and the logs of checkpoint and owner have
    nothing in common. The manifest comes last, so an interrupted checkpoint is no database. The caller keeps
    the files in place meanwhile. Errors: OSError; what was made is removed.
    """
    if fs.exists(target) and fs.list_directory(target):
        raise FileExistsError(
            errno.EEXIST, "the directory of a checkpoint must not exist, or be empty", target
        )
    fs.make_directory(target)
    numbers = sorted({piece.segment for runs in manifest.levels for run in runs for piece in run.slices})
    log_names = [wal_name(number) for number in logs]
    names = [segment_name(number) for number in numbers] + log_names
    made = [os.path.join(target, MANIFEST), temporary_name(os.path.join(target, MANIFEST))]
    try:
        for name in names:
            path = os.path.join(target, name)
            made.append(path)
            if log_end is None or name not in log_names:
                link_or_copy(fs, os.path.join(source, name), path)
            else:
                size_bytes = log_end[1] if name == wal_name(log_end[0]) else None
                _copy(fs, os.path.join(source, name), path, size_bytes)
        if not logs:
            number = manifest.next_number
            made.append(os.path.join(target, wal_name(number)))
            WalWriter(fs, target, number, database_salt=manifest.salt).close()
            manifest = manifest._replace(wal_first=number, next_number=number + 1)
        fs.sync_directory(target)
        write_manifest(fs, target, manifest)
        sync_ancestors(fs, target)
    except BaseException:
        for path in made:
            with contextlib.suppress(OSError):
                fs.remove(path)
        raise


def link_or_copy(fs: FileSystem, source: str, target: str) -> None:
    """Give a file that never changes a second name, or make a copy where that cannot be. Errors: OSError."""
    try:
        fs.link(source, target)
    except OSError as error:
        if error.errno not in _COPY_INSTEAD:
            raise
        _copy(fs, source, target, None)


def _copy(fs: FileSystem, source: str, target: str, size_bytes: int | None) -> None:
    """Copy the first `size_bytes` of a file, all that it has now if None, and sync the copy."""
    reader, file = fs.open_read(source), fs.create(target)
    try:
        # In pieces: a log may be as large as a memtable, and a server makes checkpoints beside its work.
        left_bytes = reader.size() if size_bytes is None else size_bytes
        position = 0
        while left_bytes > 0:
            piece = reader.pread(min(left_bytes, _COPY_BYTES), position)
            if not piece:
                break
            write_all(file, piece)
            position += len(piece)
            left_bytes -= len(piece)
        file.sync()
    finally:
        file.close()
        reader.close()

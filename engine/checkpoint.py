"""A checkpoint: a second, independent database made of hard links."""

from __future__ import annotations

import contextlib
import errno
import os

from lamina.engine.filenames import MANIFEST, segment_name, temporary_name, wal_name
from lamina.engine.filesystem import FileSystem, read_file, sync_ancestors, write_all
from lamina.engine.manifest import Manifest, write_manifest
from lamina.engine.wal import WalWriter

_COPY_INSTEAD = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP)


def write_checkpoint(fs: FileSystem, source: str, target: str, manifest: Manifest, logs: list[int]) -> None:
    """Make `target` a database of `manifest`'s segments and these sealed, synced logs of `source`.

    The manifest comes last, so an interrupted checkpoint is no database. The caller keeps the files in place
    meanwhile. Errors: OSError; what was made is removed.
    """
    if fs.exists(target) and fs.list_directory(target):
        raise FileExistsError(
            errno.EEXIST, "the directory of a checkpoint must not exist, or be empty", target
        )
    fs.make_directory(target)
    numbers = sorted({piece.segment for runs in manifest.levels for run in runs for piece in run.slices})
    names = [segment_name(number) for number in numbers] + [wal_name(number) for number in logs]
    made = [os.path.join(target, MANIFEST), temporary_name(os.path.join(target, MANIFEST))]
    try:
        for name in names:
            path = os.path.join(target, name)
            made.append(path)
            _link(fs, os.path.join(source, name), path)
        if not logs:
            number = manifest.next_number
            made.append(os.path.join(target, wal_name(number)))
            WalWriter(fs, target, number).close()
            manifest = manifest._replace(wal_first=number, next_number=number + 1)
        fs.sync_directory(target)
        write_manifest(fs, target, manifest)
        sync_ancestors(fs, target)
    except BaseException:
        for path in made:
            with contextlib.suppress(OSError):
                fs.remove(path)
        raise


def _link(fs: FileSystem, source: str, target: str) -> None:
    try:
        fs.link(source, target)
    except OSError as error:
        if error.errno not in _COPY_INSTEAD:
            raise
        file = fs.create(target)
        try:
            write_all(file, read_file(fs, source))
            file.sync()
        finally:
            file.close()

"""Rebuilding: a new database from all that a closed one holds, with other options, by several processes.

    target.partial/    segments are written here; without a manifest it is no database
    target/            the same folder, renamed when everything is in it and durable

So the new database is complete or not there, and the old one is only read. What an interruption leaves
behind is removed by the next attempt.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
from collections.abc import Callable
from typing import NamedTuple

from lamina.engine.compaction.job import Output, RewriteJob
from lamina.engine.compaction.layout import AgedRange, divided
from lamina.engine.errors import EngineError
from lamina.engine.filenames import LOCK, MANIFEST, is_temporary, parse_name
from lamina.engine.filesystem import DiskFileSystem, FileSystem, sync_ancestors
from lamina.engine.layers import View
from lamina.engine.levels import Levels
from lamina.engine.manifest import Manifest, write_manifest
from lamina.engine.options import Options
from lamina.engine.planning import share_size_bytes
from lamina.engine.pool import WorkerPool
from lamina.engine.rewriting import open_view
from lamina.engine.run import Run, Slice
from lamina.engine.segment.check import open_uncached
from lamina.engine.version import levels_to_records
from lamina.engine.wal import WalWriter
from lamina.engine.workers import Reply

PARTIAL_SUFFIX = ".partial"

_LEVEL = 1
_AGE = 1
"""Of all segments: older than the first log, whose number is larger."""
_RAW_OVERHEAD_BYTES = 32
_POLL_S = 0.2


class Rebuilt(NamedTuple):
    """What has been made."""

    entries: int
    segments: int
    size_bytes: int


def rebuild(
    source: str,
    target: str,
    options: Options,
    *,
    on_progress: Callable[[int], None] = lambda size_bytes: None,
) -> Rebuilt:
    """Write all that `source` holds into a new database `target`, which must not exist or be empty.

    `options`: block, segment and filter size, compression, workers, rate limit. `on_progress` is told how
    many bytes have been written since the last call, and is called several times a second. The caller holds
    the lock of `source`. Errors: CorruptionError, OSError, LockedError, FileExistsError; nothing is left.
    """
    fs = DiskFileSystem()
    source, target = os.path.abspath(source), os.path.abspath(target)
    if fs.exists(target) and fs.list_directory(target):
        raise FileExistsError(errno.EEXIST, "the new database's folder must not exist, or be empty", target)
    view, manifest = open_view(fs, source)
    partial = target + PARTIAL_SUFFIX
    fs.make_directory(partial)
    lock = fs.lock(os.path.join(partial, LOCK))
    try:
        _clear(fs, partial)
        rebuilt = _fill(fs, view, manifest, source, partial, options, on_progress)
        lock.release()
        fs.replace(partial, target)
        sync_ancestors(fs, target)
        return rebuilt
    except BaseException:
        with contextlib.suppress(OSError):
            _clear(fs, partial)
            fs.remove(os.path.join(partial, LOCK))
            fs.remove_directory(partial)
        raise
    finally:
        lock.release()


def _clear(fs: FileSystem, partial: str) -> None:
    """Remove what an earlier attempt has left. Errors: FileExistsError where there is anything else."""
    names = [name for name in fs.list_directory(partial) if name != LOCK]
    for name in names:
        if name != MANIFEST and parse_name(name) is None and not is_temporary(name):
            raise FileExistsError(errno.EEXIST, f"{name} is in the way", partial)
    for name in sorted(names, key=lambda name: name != MANIFEST):
        fs.remove(os.path.join(partial, name))


def _fill(
    fs: FileSystem,
    view: View,
    manifest: Manifest,
    source: str,
    partial: str,
    options: Options,
    on_progress: Callable[[int], None],
) -> Rebuilt:
    salt = int.from_bytes(os.urandom(4), "little")
    job = _rewrite_job(view, source, partial, options, salt)
    numbers = _run(job, options.workers, on_progress)
    pieces = [Slice.whole(open_uncached(fs, partial, number)) for number in numbers]
    pieces.sort(key=lambda piece: piece.start)
    entries = sum(piece.entries for piece in pieces)
    if view.counted and entries != view.count(b"", None):
        raise EngineError(f"{entries} entries were written of {view.count(b'', None)} that {source} counts")
    number = job.output.numbers_end
    WalWriter(fs, partial, number, database_salt=salt).close()
    run = Run(job.output.run, pieces)
    levels = Levels([[]] * _LEVEL + [[run]]) if pieces else Levels()
    made = Manifest(
        manifest.counted, salt, manifest.created_s, number + 1, number, levels_to_records(levels), [], 0
    )
    fs.sync_directory(partial)
    write_manifest(fs, partial, made)
    return Rebuilt(entries, len(pieces), sum(piece.segment.size_bytes for piece in pieces))


def _rewrite_job(view: View, source: str, partial: str, options: Options, salt: int) -> RewriteJob:
    """Return the job, its ranges cut so that all workers have something to do to the end."""
    pieces = view.levels.slices
    whole = AgedRange(b"", None, _AGE, _AGE)
    ranges = divided([whole], pieces, share_size_bytes(pieces, options))
    properties = [piece.segment.properties for piece in pieces]
    raw_bytes = sum(p.key_bytes + p.value_bytes + _RAW_OVERHEAD_BYTES * p.entries for p in properties)
    raw_bytes += sum(memtable.size_bytes for memtable in view.memtables)
    # Each range is given numbers for the whole: they cost nothing.
    numbers = len(ranges) * (2 * (raw_bytes // options.segment_size_bytes + 1) + 8)
    first = _AGE + 2
    output = Output(
        directory=partial,
        block_size_bytes=options.block_size_bytes,
        segment_size_bytes=options.segment_size_bytes,
        compress=options.compression == "lz4",
        filter_bits_per_key=options.filter_bits_per_key,
        counted=view.counted,
        level=_LEVEL,
        run=_AGE + 1,
        age_first=_AGE,
        age_last=_AGE,
        first_number=first,
        numbers_end=first + numbers,
        rate_limit_bytes_per_s=options.rate_limit_bytes_per_s,
        database_salt=salt,
    )
    return RewriteJob(source, ranges, output)


def _run(job: RewriteJob, workers: int, on_progress: Callable[[int], None]) -> list[int]:
    """Have the job done; returns the numbers of the segments. Errors: what has broken it off."""
    replies: queue.SimpleQueue[Reply] = queue.SimpleQueue()
    pool = WorkerPool(replies.put, workers)
    numbers: list[int] = []
    try:
        pool.submit(1, job, None)
        while True:
            try:
                reply = replies.get(timeout=_POLL_S)
            except queue.Empty:
                on_progress(0)
                continue
            if reply.error is not None:
                raise reply.error
            if reply.step is None:
                return numbers
            numbers += reply.step.segments
            on_progress(reply.step.written_bytes)
    finally:
        pool.close()

"""Rewriting: what a closed database holds, written anew into segments of another directory.

Every entry is read as readers read it, through all layers, so the result is one run of live entries: nothing
shadowed, removed or discarded is left, and every block has the size and the compression that are asked for.
rebuilding.py makes a database of the segments.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from lamina.engine.cache import Cache
from lamina.engine.compaction.job import Builder, Checkpoint, RateLimiter, RewriteJob, Step
from lamina.engine.discards import Discards
from lamina.engine.entry import INSERT, REPLACE
from lamina.engine.filesystem import FileSystem
from lamina.engine.layers import View, visible_discards
from lamina.engine.manifest import Manifest
from lamina.engine.opening import open_files
from lamina.engine.options import Options
from lamina.engine.segment.reader import OpenFiles, SegmentReader

_OPEN_FILES_MAX = 256


def open_view(fs: FileSystem, directory: str) -> tuple[View, Manifest]:
    """Return what readers of a closed database see. Errors: CorruptionError, OSError. Nothing is changed."""
    cache, files = Cache(0), OpenFiles(_OPEN_FILES_MAX)

    def open_segment(number: int, size_bytes: int, database_salt: int) -> SegmentReader:
        return SegmentReader(
            fs,
            directory,
            number,
            cache=cache,
            files=files,
            size_bytes=size_bytes,
            database_salt=database_salt,
        )

    opened = open_files(fs, directory, Options(read_only=True), open_segment, threading.Lock())
    manifest = opened.manifest
    memtables = tuple(reversed(opened.replay.memtables))
    settled = Discards(manifest.discards, manifest.discards_last_number)
    discards = visible_discards(settled, memtables)
    return View(memtables, opened.levels, discards, counted=manifest.counted), manifest


def run_rewrite(
    fs: FileSystem, job: RewriteJob, checkpoint: Checkpoint, wait: Callable[[float], object]
) -> Iterator[Step]:
    """Carry out a job; each finished segment is a step. As `run_merge` otherwise."""
    out = job.output
    view, _ = open_view(fs, job.source)
    kind = bytes((INSERT if out.counted else REPLACE,))
    throttle = RateLimiter(out.rate_limit_bytes_per_s, wait) if out.rate_limit_bytes_per_s else None
    builder: Builder | None = None
    number = out.first_number
    try:
        for start, stop, _, _ in job.ranges:
            builder = Builder(fs, out._replace(first_number=number), start, stop, 0, throttle)
            for keys, values in view.scan_chunks(start, stop):
                checkpoint()
                if keys:
                    step = builder.add(keys, values, kind * len(keys))
                    if step is not None:
                        yield step
            step = builder.finish(stop)
            number = builder.next_number
            yield step
    except BaseException:
        if builder is not None:
            builder.abort()
        raise

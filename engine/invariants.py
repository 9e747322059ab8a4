"""What must be true of a stack of layers, whoever holds it.

    levels       runs hold disjoint slices in order; where runs overlap, the newer one is younger; below level
                 0 the bottom level is one run
    segments     see segment/check.py
    slices       bounds, entries, delta sums and sizes are those of the contents
    deltas       going through a key's entries from the oldest layer up, INSERT comes only where the key is
                 absent, REPLACE and REMOVE only where it is present; discarded ranges are passed over
    counts       what the view counts is what its entries amount to

No damage ends in an exception. Memory: a block for each layer.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import pairwise

from lamina.engine.discards import Discards
from lamina.engine.entry import DELETE, INSERT, REMOVE, REPLACE, is_live
from lamina.engine.filenames import MANIFEST
from lamina.engine.filesystem import FileSystem
from lamina.engine.findings import Extent, Finding, Findings
from lamina.engine.layers import View
from lamina.engine.levels import Levels
from lamina.engine.memtable import Memtable
from lamina.engine.run import Run, Slice
from lamina.engine.segment.check import SegmentWalk, check_segment, open_uncached
from lamina.engine.segment.reader import Part, SegmentReader

_CONTRADICTIONS_MAX = 20
"""Findings about single keys after which the rest is only counted."""

_CHUNK_ENTRIES = 1024

KindChunks = Iterator[tuple[list[bytes], bytes]]


def check_view(view: View, fs: FileSystem, directory: str) -> list[Finding]:
    """Check what a reader sees: layers, segments, slices, deltas and counts. The view must not change."""
    findings = Findings()
    check_levels(view.levels, directory, findings)
    if check_segments(fs, directory, view.levels, view.counted, findings):
        check_deltas(view, fs, directory, findings)
    return findings


def check_levels(levels: Levels, directory: str, findings: Findings) -> None:
    """Check what can be seen without reading blocks."""
    path = os.path.join(directory, MANIFEST)
    numbers = [run.number for run in levels.runs]
    if len(set(numbers)) != len(numbers):
        findings.error(path, f"runs share a number: {numbers}")
    if len(levels.levels) > 1 and len(levels.levels[-1]) > 1:
        findings.warning(path, f"the bottom level holds {len(levels.levels[-1])} runs: they will be merged")
    for run in levels.runs:
        if not run.slices:
            findings.error(path, f"run {run.number} is empty")
        for before, after in pairwise(run.slices):
            if before.stop is None or before.stop > after.start:
                findings.error(
                    path, f"slices of run {run.number} overlap: {_show(before)} and {_show(after)}"
                )
    for i, newer in enumerate(levels.runs):
        for older in levels.runs[i + 1 :]:
            for piece in newer.slices:
                for other in older.overlapping(piece.start, piece.stop):
                    _check_ages(path, piece, other, findings)


def _check_ages(path: str, newer: Slice, older: Slice, findings: Findings) -> None:
    young, old = newer.segment.properties, older.segment.properties
    if young.age_first <= old.age_last:
        findings.error(
            path,
            f"{_show(newer)} of ages {young.age_first}..{young.age_last} lies above "
            f"{_show(older)} of ages {old.age_first}..{old.age_last}",
        )


def check_segments(
    fs: FileSystem,
    directory: str,
    levels: Levels,
    counted: bool,
    findings: Findings,
    on_read: Callable[[int], None] = lambda size_bytes: None,
) -> bool:
    """Check every segment and what the slices say of it; returns whether all could be read.

    `on_read` is told of bytes as they are read.
    """
    shown: dict[int, list[Slice]] = {}
    for piece in levels.slices:
        shown.setdefault(piece.segment.number, []).append(piece)
    is_whole = True
    for number, pieces in shown.items():
        bounds = {piece.start for piece in pieces} | {p.stop for p in pieces if p.stop is not None}
        segment = pieces[0].segment
        extent = Extent(segment.size_bytes, sum(piece.entries for piece in pieces))
        walk = check_segment(
            fs,
            directory,
            number,
            findings,
            size_bytes=segment.size_bytes,
            bounds=bounds,
            extent=extent,
            on_read=on_read,
        )
        if walk is None:
            is_whole = False
            continue
        findings.expect(segment.path, "whether it is counted", counted, segment.properties.counted)
        pieces.sort(key=lambda piece: piece.start)
        for before, after in pairwise(pieces):
            if before.stop is None or before.stop > after.start:
                findings.error(segment.path, f"shown twice: {_show(before)} and {_show(after)}")
        for piece in pieces:
            _check_slice(piece, walk, findings)
    return is_whole


def _check_slice(piece: Slice, walk: SegmentWalk, findings: Findings) -> None:
    path, p = piece.segment.path, piece.segment.properties
    first, base = walk.before[piece.start]
    last, end = (walk.entries, walk.delta) if piece.stop is None else walk.before[piece.stop]
    size_bytes = max(piece.segment.size_bytes * piece.entries // max(walk.entries, 1), 1)
    for what, expected, found in (
        ("entries", last - first, piece.entries),
        ("delta before it", base, piece.base),
        ("delta", end - base, piece.delta),
        ("size", size_bytes, piece.size_bytes),
    ):
        findings.expect(path, f"{what} of {_show(piece)}", expected, found)
    is_inside = p.start <= piece.start and (
        p.stop is None or (piece.stop is not None and piece.stop <= p.stop)
    )
    if not is_inside or not piece.entries:
        findings.error(path, f"{_show(piece)} is empty or lies outside of what its segment answers for")


def check_deltas(view: View, fs: FileSystem, directory: str, findings: Findings) -> None:
    """Follow every key through the layers, from the oldest up; then compare the number of live keys."""
    live = wrong = 0
    with findings.gathering(directory):
        for alive, contradicting in follow_keys(view, fs):
            live += alive
            for key in contradicting:
                wrong += 1
                if wrong <= _CONTRADICTIONS_MAX:
                    findings.error(directory, f"entries of key {key[:64]!r} contradict each other")
        if wrong > _CONTRADICTIONS_MAX:
            findings.error(directory, f"entries of {wrong} keys contradict each other")
        findings.expect(directory, "number of live keys", live, view.count(b"", None))


def follow_keys(view: View, fs: FileSystem) -> Iterator[tuple[int, list[bytes]]]:
    """Yield, key range by key range, how many keys are live and whose entries contradict each other.

    Errors: CorruptionError, OSError. Cost: reads every block, those in memory anew.
    """
    layers = [_run_kinds(run, fs) for run in reversed(view.runs)]
    layers += [_memtable_kinds(memtable) for memtable in reversed(view.memtables)]
    layers = [_kept(layer, view.discards) for layer in layers]
    for pieces in _rounds(layers):
        alive: set[bytes] = set()
        wrong: list[bytes] = []
        for keys, kinds in pieces:
            if view.counted:
                wrong += _contradictions(keys, kinds, alive)
            else:
                alive.difference_update(keys)
                alive.update(k for k, kind in zip(keys, kinds, strict=True) if is_live(kind))
        yield len(alive), wrong


def _contradictions(keys: list[bytes], kinds: bytes, alive: set[bytes]) -> list[bytes]:
    """Apply a layer's entries to the keys that are `alive` below it; returns those where that is wrong."""
    if kinds.count(INSERT) == len(kinds):
        wrong = list(alive.intersection(keys))
        alive.update(keys)
        return wrong
    wrong = []
    for key, kind in zip(keys, kinds, strict=True):
        if (kind == INSERT) == (key in alive):
            wrong.append(key)
        if kind == REMOVE:
            alive.discard(key)
        else:
            alive.add(key)
    return wrong


def _rounds(sources: list[KindChunks]) -> Iterator[list[tuple[list[bytes], bytes]]]:
    """Yield the layers' entries range by range, each time in the order of `sources`."""
    heads = [next(source, None) for source in sources]
    while any(head is not None for head in heads):
        boundary = min(head[0][-1] for head in heads if head is not None)
        pieces: list[tuple[list[bytes], bytes]] = []
        for i, head in enumerate(heads):
            if head is None:
                continue
            keys, kinds = head
            upto = bisect_left(keys, boundary)
            upto += upto < len(keys) and keys[upto] == boundary
            pieces.append((keys[:upto], kinds[:upto]))
            heads[i] = (keys[upto:], kinds[upto:]) if upto < len(keys) else next(sources[i], None)
        yield pieces


def _run_kinds(run: Run, fs: FileSystem) -> KindChunks:
    for piece in run.slices:
        segment = open_uncached(fs, os.path.dirname(piece.segment.path), piece.segment.number)
        for p in range(len(segment.part_floors)):
            yield from _part_kinds(segment, segment.part(p), piece)


def _part_kinds(segment: SegmentReader, part: Part, piece: Slice) -> KindChunks:
    for b in range(len(part.floors)):
        block = segment.decode_block(part, b, segment.read_frames(part, b, b + 1)[0])
        keys = block.keys()
        first = bisect_left(keys, piece.start)
        last = len(keys) if piece.stop is None else bisect_left(keys, piece.stop)
        if first < last:
            yield keys[first:last], block.kinds[first:last]


def _memtable_kinds(memtable: Memtable) -> KindChunks:
    dead = REMOVE if memtable.counted else DELETE
    kinds = dict.fromkeys(memtable.inserted, INSERT)
    kinds.update((key, dead if value is None else REPLACE) for key, value in memtable.based.items())
    order = sorted(kinds)
    for at in range(0, len(order), _CHUNK_ENTRIES):
        keys = order[at : at + _CHUNK_ENTRIES]
        yield keys, bytes(map(kinds.__getitem__, keys))


def _kept(chunks: KindChunks, discards: Discards) -> KindChunks:
    for keys, kinds in chunks:
        left, left_kinds = keys[:], kinds
        for item in reversed(discards.overlapping(keys[0], keys[-1] + b"\0")):
            i, j = bisect_left(left, item.start), bisect_left(left, item.stop)
            del left[i:j]
            left_kinds = left_kinds[:i] + left_kinds[j:]
        if left:
            yield left, left_kinds


def _show(piece: Slice) -> str:
    stop = "the end" if piece.stop is None else repr(piece.stop[:32])
    return f"slice of {piece.segment.number} from {piece.start[:32]!r} to {stop}"

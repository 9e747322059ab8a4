"""Every invariant of a database, open or closed, in one place. Tests call it after each step, tools offline.

    memtables    keep their own order and hold what their logs would restore
    layers       see invariants.py
    cache        holds what it counts
    files        the manifest on disk is the one in memory; every file is named, every named file is there
    logs         (closed) clean, or torn in a way that opening mends (a warning), or damaged

Nothing is written, and no damage ends in an exception. Memory: some blocks for each layer; the logs' entries
as when opening. A database may be written to meanwhile: what is checked is the moment when the check began.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from lamina.engine.batch import Discard, decode_payload
from lamina.engine.discards import Discards
from lamina.engine.errors import CorruptionError
from lamina.engine.filenames import MANIFEST, REPAIR_FOLDER, is_temporary, parse_name, segment_name, wal_name
from lamina.engine.filesystem import FileSystem, read_file
from lamina.engine.findings import Extent, Finding, Findings
from lamina.engine.invariants import check_deltas, check_levels, check_segments, check_view
from lamina.engine.layers import View, visible_discards
from lamina.engine.levels import Levels
from lamina.engine.manifest import Manifest, read_manifest
from lamina.engine.memtable import Memtable
from lamina.engine.recovery import list_files, replay_logs
from lamina.engine.run import Run
from lamina.engine.segment.check import check_segment, open_uncached
from lamina.engine.segment.reader import SegmentReader
from lamina.engine.version import slice_from_record
from lamina.engine.wal import HEADER, Damage, read_wal

if TYPE_CHECKING:
    from lamina.engine.database import Database

__all__ = [
    "Finding",
    "LogState",
    "assert_consistent",
    "check_database",
    "check_directory",
    "check_log_files",
    "check_view",
]


def assert_consistent(db: Database) -> None:
    """Raise AssertionError, listing all errors, unless the open database keeps every invariant."""
    errors = [finding for finding in check_database(db) if finding.severity == "error"]
    if errors:
        raise AssertionError("\n".join(map(str, errors)))


# -- open databases --------------------------------------------------------------------------------


class _Moment(NamedTuple):
    """An open database at one moment. `manifest` is what should be on disk, None if opened read-only.

    `named`: the files that have a reason to be there; `log_sizes`: the logs that may have grown since.
    """

    view: View
    manifest: Manifest | None
    on_disk: Manifest | None
    names: list[str]
    named: set[str]
    log_sizes: dict[int, int]


def check_database(db: Database) -> list[Finding]:
    """Check an open database. Writers wait while the active memtable is copied; flushes, until logs are
    read. Errors: ValueError while batches are staged."""
    db._check_unstaged()
    findings = Findings()
    fs, path = db.fs, db.path
    with findings.gathering(path):
        db._cache.check()
    for memtable in db.view.memtables:
        with findings.gathering(path):
            memtable.check()
    moment: _Moment | None = None
    with findings.gathering(path):
        moment = _freeze(db, findings)
    if moment is None:
        return findings
    if moment.manifest is not None:
        _compare_manifests(os.path.join(path, MANIFEST), moment, findings)
        _check_names(path, moment.names, moment.named, findings)
    findings += check_view(moment.view, fs, path)
    return findings


def _freeze(db: Database, findings: Findings) -> _Moment:
    """Return the database as it is now, with a copy of the memtable that is still written to."""
    view = db.view
    if db.options.read_only:
        return _Moment(view, None, None, [], set(), {})
    background, logs = db._background, db.logs
    with background.frozen():
        on_disk = read_manifest(db.fs, db.path)
        with db._lock:
            view = db.view
            memtables = (_copy(view.memtables[0]), *view.memtables[1:])
            log_sizes = {logs.active.number: logs.size_bytes}
            expected = background.manifest(background.levels, background.settled, background.wal_first)
            names = list_files(db.fs, db.path)
        frozen = View(memtables, view.levels, view.discards.copy(), counted=view.counted)
        if view.levels is not background.levels:
            findings.error(db.path, "readers and background have different levels")
        visible = visible_discards(background.settled, memtables)
        findings.expect(db.path, "discarded ranges", _bounds(visible), _bounds(frozen.discards))
        named = _named_files(frozen)
        # A log that is being prepared, and what jobs at work and readers of the past still need.
        named |= {name for name in names if (p := parse_name(name)) and p[1] > logs.active.number}
        named |= {os.path.basename(waiting) for waiting, _ in background.obsolete._waiting}
        if background._running:
            named |= {name for name in names if is_temporary(name)}
            for job in background._running.values():
                named |= {segment_name(n) for n in range(job.first_number, job.numbers_end)}
        _compare_logs(db.fs, db.path, memtables, log_sizes, findings)
    return _Moment(frozen, expected, on_disk, names, named, log_sizes)


def _copy(memtable: Memtable) -> Memtable:
    copy = Memtable(counted=memtable.counted, lock=threading.Lock())
    copy.inserted = dict(memtable.inserted)
    copy.based = dict(memtable.based)
    copy.forget_order()
    copy.discards = memtable.discards[:]
    copy.wals = memtable.wals[:]
    copy.written_bytes = memtable.written_bytes
    return copy


def _bounds(discards: Discards) -> list[Discard]:
    return [(item.start, item.stop) for item in discards]


def _compare_logs(
    fs: FileSystem, directory: str, memtables: Iterable[Memtable], sizes: dict[int, int], findings: Findings
) -> None:
    """Hold memtables against the logs from which a crash would restore them; `sizes` bounds growing logs."""
    for memtable in memtables:
        logged = Memtable(counted=memtable.counted, lock=threading.Lock())
        path = os.path.join(directory, wal_name(memtable.wals[-1]))
        with findings.gathering(path):
            for number in memtable.wals:
                _replay(fs, os.path.join(directory, wal_name(number)), sizes.get(number), logged)
            mine = memtable.inserted, memtable.based, memtable.discards
            if (logged.inserted, logged.based, logged.discards) != mine:
                findings.error(path, "the log would restore another memtable")


def _replay(fs: FileSystem, path: str, size_bytes: int | None, memtable: Memtable) -> None:
    data = read_file(fs, path)[:size_bytes]
    if size_bytes is not None and len(data) < size_bytes:
        raise CorruptionError(path, len(data), "size of the log", size_bytes, len(data))
    contents = read_wal(path, data)
    if isinstance(contents, Damage):
        raise CorruptionError(path, contents.offset, contents.what)
    if contents.damage is not None:
        raise CorruptionError(path, contents.damage.offset, contents.damage.what)
    for payload in contents.payloads:
        operations = decode_payload(payload)
        memtable.apply(operations.keys, operations.values, operations.kinds)
        memtable.discards += operations.discards


def _named_files(view: View) -> set[str]:
    names = {segment_name(piece.segment.number) for piece in view.levels.slices}
    return names | {wal_name(number) for memtable in view.memtables for number in memtable.wals}


def _compare_manifests(path: str, moment: _Moment, findings: Findings) -> None:
    expected, found = moment.manifest, moment.on_disk
    assert expected is not None and found is not None
    for name in Manifest._fields:
        # Numbers are taken without telling the manifest; opening looks at the files as well.
        if name != "next_number":
            findings.expect(path, f"manifest: {name}", getattr(expected, name), getattr(found, name))
    if found.next_number > expected.next_number:
        findings.error(path, f"the next number is {expected.next_number}, on disk {found.next_number}")


def _check_names(directory: str, names: list[str], named: set[str], findings: Findings) -> None:
    for name in names:
        if name not in named and (is_temporary(name) or parse_name(name) is not None):
            findings.warning(os.path.join(directory, name), "nobody names this file")
    for name in sorted(named - set(names)):
        if (parsed := parse_name(name)) is not None and parsed[0] == "wal":
            findings.error(os.path.join(directory, name), "the log is missing")


# -- closed databases ------------------------------------------------------------------------------


def check_directory(
    path: str,
    fs: FileSystem,
    *,
    is_quick: bool = False,
    on_read: Callable[[int], None] = lambda size_bytes: None,
) -> list[Finding]:
    """Check a database that nobody has open. Opens nothing for writing.

    `is_quick`: not what lies in the blocks of segments, but all the rest: names, sizes, headers and footers,
    levels, logs. `on_read` is told of bytes of segments as they are read.
    """
    findings = Findings()
    manifest: Manifest | None = None
    with findings.gathering(os.path.join(path, MANIFEST)):
        manifest = read_manifest(fs, path)
    if manifest is None:
        _check_without_manifest(path, fs, findings, on_read)
        return findings
    readers: dict[int, SegmentReader] = {}
    for record in (piece for runs in manifest.levels for run in runs for piece in run.slices):
        if record.segment not in readers:
            name = os.path.join(path, segment_name(record.segment))
            lost = Extent(record.size_bytes, record.entries, record.start, record.stop)
            with findings.gathering(name, lost=lost):
                readers[record.segment] = open_uncached(fs, path, record.segment, record.file_size_bytes)
    records = [piece.segment for runs in manifest.levels for run in runs for piece in run.slices]
    is_whole = not is_quick and all(number in readers for number in records)
    with findings.gathering(path):
        levels = _restore_levels(manifest, readers)
        check_levels(levels, path, findings)
        if not is_quick:
            is_whole &= check_segments(fs, path, levels, manifest.counted, findings, on_read)
        memtables = _check_logs(path, fs, manifest, findings)
        if is_whole and memtables is not None:
            discards = Discards(manifest.discards, manifest.discards_last_number)
            for memtable in memtables:
                for start, stop in memtable.discards:
                    discards.add(start, stop)
            view = View(tuple(reversed(memtables)), levels, discards, counted=manifest.counted)
            check_deltas(view, fs, path, findings)
    _check_orphans(path, fs, manifest, findings)
    return findings


def _check_without_manifest(
    path: str, fs: FileSystem, findings: Findings, on_read: Callable[[int], None]
) -> None:
    for name in _list(path, fs, findings):
        parsed = parse_name(name)
        if parsed is not None and parsed[0] == "seg":
            check_segment(fs, path, parsed[1], findings, on_read=on_read)
    for log in check_log_files(path, fs, findings):
        if log.state == "damaged" and log.damage is not None:
            lost_bytes = log.size_bytes - log.damage.offset
            findings.error(log.path, log.damage.what, offset=log.damage.offset, lost_bytes=lost_bytes)


def _list(path: str, fs: FileSystem, findings: Findings) -> list[str]:
    names: list[str] = []
    with findings.gathering(path):
        names = list_files(fs, path)
    return names


def _restore_levels(manifest: Manifest, readers: dict[int, SegmentReader]) -> Levels:
    """Return the levels without the segments that cannot be opened."""
    return Levels(
        [
            [
                Run(
                    run.number,
                    [slice_from_record(r, readers[r.segment]) for r in run.slices if r.segment in readers],
                )
                for run in runs
                if any(record.segment in readers for record in run.slices) or not run.slices
            ]
            for runs in manifest.levels
        ]
    )


def _check_logs(path: str, fs: FileSystem, manifest: Manifest, findings: Findings) -> list[Memtable] | None:
    """Say what opening would make of the logs; returns their memtables, oldest first, if it would open."""
    for log in check_log_files(path, fs, findings, first=manifest.wal_first):
        if log.damage is not None and log.size_bytes > HEADER.size:
            lost_bytes = log.size_bytes - log.damage.offset
            findings.warning(log.path, log.damage.what, offset=log.damage.offset, lost_bytes=lost_bytes)
    with findings.gathering(path):
        # One memtable for all: what matters here is what they hold together.
        replay = replay_logs(fs, path, manifest, memtable_size_max_bytes=1 << 62, lock=threading.Lock())
        if replay.cut is not None:
            what = "the end of the log never reached the disk; opening cuts it off"
            findings.warning(
                replay.cut.path, what, offset=replay.cut.size_bytes, lost_bytes=replay.cut.lost_bytes
            )
        return replay.memtables
    return None


class LogState(NamedTuple):
    """What one log is by itself. `state`: "unused"; "clean"; "torn", if it ends within a frame, as after the
    death of its writer; "damaged". `frames`: those that can be read, `frames_behind` the damage among them.
    """

    path: str
    size_bytes: int
    state: str
    frames: int
    frames_behind: int
    damage: Damage | None


def check_log_files(path: str, fs: FileSystem, findings: Findings, *, first: int = 0) -> list[LogState]:
    """Return the state of each log from number `first` on. Those that cannot be read go to `findings`."""
    states: list[LogState] = []
    for name in _list(path, fs, findings):
        parsed = parse_name(name)
        if parsed is not None and parsed[0] == "wal" and parsed[1] >= first:
            log = os.path.join(path, name)
            with findings.gathering(log):
                states.append(_log_state(log, read_file(fs, log)))
    return states


def _log_state(path: str, data: bytes) -> LogState:
    contents = read_wal(path, data)
    if isinstance(contents, Damage):
        state = "damaged" if len(data) > HEADER.size else "unused"
        return LogState(path, len(data), state, 0, 0, contents)
    damage, behind = contents.damage, contents.frames_behind
    state = "clean" if contents.size_bytes > HEADER.size else "unused"
    if damage is not None:
        state = "torn" if damage.is_short and not behind else "damaged"
    return LogState(path, len(data), state, len(contents.payloads) + behind, behind, damage)


def _check_orphans(path: str, fs: FileSystem, manifest: Manifest, findings: Findings) -> None:
    live = {piece.segment for runs in manifest.levels for run in runs for piece in run.slices}
    for name in _list(path, fs, findings):
        parsed = parse_name(name)
        is_orphan = parsed is not None and (
            parsed[1] not in live if parsed[0] == "seg" else parsed[1] < manifest.wal_first
        )
        if name == REPAIR_FOLDER:
            what = "a repair has been broken off; the next one removes what it has left"
            findings.warning(os.path.join(path, name), what)
        elif is_orphan or is_temporary(name):
            findings.warning(os.path.join(path, name), "nobody names this file: opening removes it")

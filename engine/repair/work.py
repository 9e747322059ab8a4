"""The course of a repair.

    check        check.py says what is wrong; nothing: nothing is done
    look         which file is which (inventory.py); what is left of damaged segments (salvage.py) and of the
                 logs (logs.py). A dry run ends here
    build        in a folder beside: sound segments by a second name, damaged ones rewritten without what is
                 lost; the levels as the manifest says, or as footers do (arrange.py)
    count        where entries were lost, all layers are merged (rewrite.py), and the logs say anew what
                 exists; then every key is followed through the layers, and what contradicts itself is merged
    mend         whoever calls may change the new database before it counts
    put in place see swap.py

Memory: the logs' entries, as when opening; the keys of a few blocks; 100 bytes for each block of a damaged
segment.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator

from lamina.engine.check import check_directory
from lamina.engine.checkpoint import link_or_copy
from lamina.engine.checksum import file_salt
from lamina.engine.database import Database
from lamina.engine.discards import Discards
from lamina.engine.errors import EngineError
from lamina.engine.filenames import LOCK, MANIFEST, REPAIR_FOLDER, segment_name, wal_name
from lamina.engine.filesystem import DiskFileSystem, FileSystem, read_file
from lamina.engine.findings import Finding
from lamina.engine.invariants import follow_keys
from lamina.engine.layers import View, visible_discards
from lamina.engine.levels import Levels
from lamina.engine.manifest import Manifest, read_manifest, write_manifest
from lamina.engine.options import Options
from lamina.engine.repair import swap
from lamina.engine.repair.inventory import Inventory, take_inventory
from lamina.engine.repair.logs import LogSalvage, WalMode, rekinded, salvage_logs
from lamina.engine.repair.numbers import OpenSegments
from lamina.engine.repair.report import RepairError, RepairReport
from lamina.engine.repair.rewrite import Range, flush_memtable, joined_ranges, rewrite_ranges
from lamina.engine.repair.salvage import Salvage, examine
from lamina.engine.repair.stack import Plan, build_levels, plan_levels
from lamina.engine.version import levels_to_records
from lamina.engine.wal import HEADER, WalWriter

_ROUNDS_MAX = 3

Mend = Callable[[str], None]
"""Changes the database in a folder that it is given."""
OnRead = Callable[[int], None]


def repair(
    path: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str] | None = None,
    wal_mode: WalMode = "point-in-time",
    dry_run: bool = False,
    mend: Mend | None = None,
    fs: FileSystem | None = None,
    on_read: OnRead = lambda size_bytes: None,
) -> RepairReport:
    """Repair the database in `path`: in its place, or into the folder `output`, which must be free.

    `wal_mode`: see logs.py. `mend` is called with the folder of the repaired database before that is put in
    place, whether or not anything else was wrong. `on_read` is told of bytes of segments as they are checked.
    Errors: RepairError, LockedError, FormatVersionError, OSError; the database is then as it was. Cost: two
    reads of everything, and the writing of what is damaged.
    """
    fs = fs or DiskFileSystem()
    directory = os.path.abspath(os.fsdecode(path))
    target = None if output is None else os.path.abspath(os.fsdecode(output))
    if target is not None and fs.exists(target) and fs.list_directory(target):
        raise RepairError(f"{target}: the folder to repair into must not exist, or be empty")
    with _locked(fs, directory, is_needed=target is None and not dry_run):
        return _Repair(fs, directory, target, wal_mode, mend, on_read).run(dry_run=dry_run)


@contextlib.contextmanager
def _locked(fs: FileSystem, directory: str, *, is_needed: bool) -> Iterator[None]:
    """Keep others out. What is only read is not locked where there is no lock file, or none may be held."""
    path = os.path.join(directory, LOCK)
    held = None
    if not fs.exists(directory):
        raise RepairError(f"{directory}: there is no such folder")
    if is_needed or fs.exists(path):
        try:
            held = fs.lock(path)
        except OSError:
            if is_needed:
                raise
    try:
        yield
    finally:
        if held is not None:
            held.release()


class _Repair:
    """One repair."""

    def __init__(
        self,
        fs: FileSystem,
        directory: str,
        target: str | None,
        wal_mode: WalMode,
        mend: Mend | None,
        on_read: OnRead,
    ) -> None:
        self._fs = fs
        self._directory = directory
        self._target = target
        self._wal_mode: WalMode = wal_mode
        self._mend = mend
        self._on_read = on_read
        self._work = os.path.join(directory, REPAIR_FOLDER) if target is None else f"{target}.{REPAIR_FOLDER}"
        self.report = RepairReport(directory, target)

    def run(self, *, dry_run: bool) -> RepairReport:
        """Do it; with `dry_run` only find out what would be done."""
        fs, report = self._fs, self.report
        if not dry_run:
            swap.clear(fs, self._directory, self._work)
        report.findings = check_directory(self._directory, fs, on_read=self._on_read)
        is_sound = all(_is_harmless(finding) for finding in report.findings)
        if is_sound and self._mend is None and self._target is None:
            return report
        found = take_inventory(fs, self._directory)
        salvaged = self._examine(found)
        plan = plan_levels(fs, found, salvaged, report, self._is_layout_wrong())
        manifest = plan.manifest
        logs = salvage_logs(fs, self._directory, found.logs, manifest, self._wal_mode)
        report.losses += logs.losses
        self._note_losses(found, plan, logs)
        if dry_run:
            return report
        try:
            self._build(found, plan, logs)
            if self._mend is not None:
                self._mend(self._work)
                self._flush_logs()
            if self._target is None:
                report.lost_directory = swap.put_in_place(fs, self._work, self._directory)
            else:
                swap.rename_to(fs, self._work, self._target)
        except BaseException:
            with contextlib.suppress(OSError, EngineError):
                swap.clear(fs, self._directory, self._work)
            raise
        report.is_done = True
        return report

    # -- looking -----------------------------------------------------------------------------------

    def _is_layout_wrong(self) -> bool:
        path = os.path.join(self._directory, MANIFEST)
        return any(finding.path == path and not _is_harmless(finding) for finding in self.report.findings)

    def _examine(self, found: Inventory) -> dict[int, Salvage]:
        """Return what is left of the segments that are damaged, or have another's name."""
        damaged = {finding.path for finding in self.report.findings if finding.severity == "error"}
        known = {s.segment: s for runs in found.manifest.levels for run in runs for s in run.slices}
        salvaged: dict[int, Salvage] = {}
        for number, path in found.segments.items():
            is_misnamed = os.path.basename(path) != segment_name(number)
            if (path in damaged or is_misnamed) and (number in known or not found.is_known):
                salt = file_salt(found.manifest.salt, number)
                counted = found.manifest.counted
                salvaged[number] = examine(self._fs, path, number, salt, counted=counted)
        return salvaged

    def _note_losses(self, found: Inventory, plan: Plan, logs: LogSalvage) -> None:
        report = self.report
        if not found.is_known:
            report.actions.append("the manifest is made anew, from what segments say of themselves")
            report.notes.append(
                "ranges that had been discarded were in the manifest: what lay in them may be there again"
            )
        for path in found.strangers:
            report.actions.append(f"{os.path.basename(path)}, a file of another database, is left out")
        for number in plan.hidden:
            report.actions.append(f"{segment_name(number)}, an input of a merge that was done, is left out")
        for number in plan.rewritten:
            report.actions.append(f"{segment_name(number)} is written anew, from the blocks that can be read")
        for number in plan.gone:
            report.actions.append(f"{segment_name(number)} is given up: nothing of it can be read")
        if plan.holes:
            report.notes.append(
                "of keys in the ranges of losses, values may have come to light that were replaced"
            )
        if plan.holes and found.manifest.counted:
            report.actions.append(
                "what is left in the key ranges of losses is merged, so that counts are right"
            )
        if not logs.is_whole:
            report.actions.append(f"{logs.frames} frames of the logs are kept, and flushed")

    # -- building ----------------------------------------------------------------------------------

    def _build(self, found: Inventory, plan: Plan, logs: LogSalvage) -> None:
        """Make the repaired database in the folder beside."""
        fs, work, manifest = self._fs, self._work, plan.manifest
        segments = OpenSegments(fs, manifest.salt, found.next_number)
        swap.begin(fs, work, found.next_number)
        for number in plan.kept:
            link_or_copy(fs, found.segments[number], os.path.join(work, segment_name(number)))
        levels = build_levels(fs, work, plan, segments)
        settled = Discards(manifest.discards, manifest.discards_last_number)
        holes = joined_ranges(plan.holes) if manifest.counted else []
        levels, logs = self._settle_counts(levels, settled, holes, logs, segments)
        levels, settled, wal_first = self._settle_logs(found, manifest, levels, settled, logs, segments)
        live = {piece.segment.number for piece in levels.slices}
        for number in (*plan.kept, *range(segments.first_number, segments.next_number)):
            if number not in live:  # it was only an input
                with contextlib.suppress(FileNotFoundError):
                    fs.remove(os.path.join(work, segment_name(number)))
        fs.sync_directory(work)
        repaired = Manifest(
            counted=manifest.counted,
            salt=manifest.salt,
            created_s=manifest.created_s or int(time.time()),
            next_number=segments.next_number,
            wal_first=wal_first,
            levels=levels_to_records(levels),
            discards=list(settled),
            discards_last_number=settled.last_number,
        )
        write_manifest(fs, work, repaired)

    def _settle_counts(
        self,
        levels: Levels,
        settled: Discards,
        holes: list[Range],
        logs: LogSalvage,
        segments: OpenSegments,
    ) -> tuple[Levels, LogSalvage]:
        """Rewrite the ranges of losses, and whatever else contradicts itself. Errors: RepairError."""
        memtable = logs.memtable
        for _ in range(_ROUNDS_MAX):
            if holes:
                levels = rewrite_ranges(self._fs, self._work, levels, settled, holes, segments)
                logs = logs._replace(is_whole=False)
            # A log that is written anew says itself what exists; one that stays must agree with the rest.
            memtables = (memtable,) if logs.is_whole else ()
            discards = visible_discards(settled, memtables)
            view = View(memtables, levels, discards, counted=memtable.counted)
            wrong = _contradicting(view, self._fs)
            if wrong is None:
                return levels, logs
            holes = joined_ranges([wrong])
            self.report.actions.append("entries that contradict each other are merged")
        raise RepairError(f"{self._directory}: entries contradict each other, whatever is done")

    def _settle_logs(
        self,
        found: Inventory,
        manifest: Manifest,
        levels: Levels,
        settled: Discards,
        logs: LogSalvage,
        segments: OpenSegments,
    ) -> tuple[Levels, Discards, int]:
        """Keep the logs, or flush what is left of them; returns the first log's number as well."""
        fs, work = self._fs, self._work
        if logs.is_whole and manifest.wal_first:
            for number, path in found.logs.items():
                if number >= manifest.wal_first:
                    link_or_copy(fs, path, os.path.join(work, wal_name(number)))
            return levels, settled, manifest.wal_first
        view = View((), levels, visible_discards(settled, [logs.memtable]), counted=manifest.counted)
        memtable = rekinded(logs.memtable, lambda key: view.get(key) is not None)
        levels = flush_memtable(fs, work, levels, settled, memtable, logs.ages, segments)
        number = segments.take()
        WalWriter(fs, work, number, database_salt=manifest.salt).close()
        return levels, settled.with_ranges(memtable.discards), number

    def _flush_logs(self) -> None:
        """Have nothing in the logs of the new database but what the old one's have: see logs.py."""
        fs, work = self._fs, self._work
        names = swap.kept_names(fs, work, read_manifest(fs, work))
        own = [name for name in names if not fs.exists(os.path.join(self._directory, name))]
        logs = [read_file(fs, os.path.join(work, name)) for name in own if name.endswith(".wal")]
        if any(len(data) > HEADER.size for data in logs):
            with Database(work, Options(background="inline", level_runs_max=64), fs) as db:
                db.flush()


def _is_harmless(finding: Finding) -> bool:
    return finding.severity == "warning" and "they will be merged" in finding.what


def _contradicting(view: View, fs: FileSystem) -> Range | None:
    """Return a range that holds all keys whose entries contradict each other; None if there are none."""
    first: bytes | None = None
    last = b""
    for _, keys in follow_keys(view, fs):
        if keys:
            first = min(keys) if first is None else first
            last = max(keys)
    return None if first is None else (first, last + b"\0")

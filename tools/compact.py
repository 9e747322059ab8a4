"""lamina compact: merges everything into one run, in place or into a new database."""

from __future__ import annotations

import argparse
import datetime
import os
import re
import sys
import threading
import time
from typing import Any, Final

import lamina.engine as engine
from lamina.engine import ClosedError, CorruptionError, Database, Options
from lamina.engine.rebuilding import rebuild
from lamina.tools import console
from lamina.tools.console import FINE, Progress, UsageError, human_count, human_size, print_json
from lamina.tools.damage import complain_of
from lamina.tools.reclaim import Estimate, estimate
from lamina.tools.selection import Selection, add_range, selection_of

EPILOG: Final = """\
In place, the segments of all levels are merged into one run: what is shadowed, removed or discarded goes, and
the log with it. Each finished segment is installed at once, so the work may be broken off at any moment, by
Ctrl-C, kill -9, a power failure or --until: what is done is kept, nothing is lost, and the next compaction
goes on from there. Blocks that nothing else overlaps are taken over as they are.

With --output, a new database is written, with block size, compression and filters as given. The old one is
only read. The new folder is there when it is complete and durable, and not before; beside it is a folder
NAME.partial meanwhile, which the next attempt removes if this one is killed.

The key space is divided among --jobs processes, all cores by default.

Redis keys that have expired are kept: they go when a server meets them. To drop one, its record, its elements
and its places in the indexes must go together, which is the server's work.

--dry-run says how much space would be given back. It is an estimate: in some key ranges of one block each,
spread over all segments, what all layers hold is compared with what is alive. Other block sizes or
compression are not considered.

examples:
  lamina compact data
  lamina compact data --dry-run
  lamina compact data --rate 20mb --until 05:30        no more than 20 MiB/s, and not after half past five
  lamina compact data --start user: --stop 'user;'     only a part of the keys
  lamina compact data --output new --compression none --block-size 16kb
"""

_UNITS: Final = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SIZE: Final = re.compile(r"([0-9]+)(b|[kmg]b?|)", re.IGNORECASE)
_TIME: Final = re.compile(r"([0-9]{1,2}):([0-9]{2})")
_POLL_S: Final = 0.1
_RUNS_MAX: Final = 64
"""The most that the engine takes: with so many runs in a level it leaves them alone."""
_LAYOUT: Final = ("block_size", "compression", "filter_bits")
"""Options that only a new database follows throughout."""


def main(arguments: list[str]) -> int:
    """Compact; returns the exit status."""
    parser = console.parser("compact", "Gives back the space of what is no longer alive.", EPILOG)
    parser.add_argument("directory", metavar="DIR", help="the database's folder")
    add_range(parser, prefix=False)
    parser.add_argument("--output", metavar="DIR2", help="write a new database there, and leave DIR alone")
    parser.add_argument("--block-size", metavar="BYTES", help="size of a block before compression (8kb)")
    parser.add_argument("--segment-size", metavar="BYTES", help="size of a segment's file (32mb)")
    parser.add_argument("--compression", choices=("lz4", "none"), help="how blocks are stored (lz4)")
    parser.add_argument("--filter-bits", type=int, metavar="N", help="bits per key of the filters (10)")
    parser.add_argument("--jobs", type=int, metavar="N", help="processes that share the work (one per core)")
    parser.add_argument("--rate", metavar="BYTES/s", help="write no more than so much per second")
    parser.add_argument("--until", metavar="HH:MM", help="stop then, and keep what is done")
    parser.add_argument("--dry-run", action="store_true", help="only say how much would be given back")
    return console.run(parser, compact, arguments)


def compact(arguments: argparse.Namespace) -> int:
    """Do what the arguments ask for."""
    options = _options(arguments)
    selection = selection_of(arguments)
    deadline_s = None if arguments.until is None else seconds_until(arguments.until, datetime.datetime.now())
    directory = console.database_directory(arguments.directory)
    if arguments.output is not None:
        _refuse_with_output(arguments, directory)
    try:
        if arguments.dry_run:
            return _dry_run(arguments, directory, selection)
        return _compact(arguments, directory, options, selection, deadline_s)
    except CorruptionError as error:
        return complain_of("compact", error)


def _compact(
    arguments: argparse.Namespace,
    directory: str,
    options: dict[str, Any],
    selection: Selection,
    deadline_s: float | None,
) -> int:
    before_bytes = disk_bytes(directory)
    begun_s = time.monotonic()
    if arguments.output is not None:
        facts = _rebuild(arguments, directory, options, before_bytes)
    else:
        facts = _in_place(arguments, directory, options, selection, deadline_s)
    elapsed_s = time.monotonic() - begun_s
    after_bytes = disk_bytes(arguments.output or directory)
    facts = {
        "directory": directory,
        "output": arguments.output,
        "before_bytes": before_bytes,
        "after_bytes": after_bytes,
        "reclaimed_bytes": before_bytes - after_bytes,
        "elapsed_s": round(elapsed_s, 3),
        "jobs": options["workers"],
        **facts,
    }
    _report(facts, arguments)
    return FINE


# -- arguments -------------------------------------------------------------------------------------


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the engine's options. Errors: UsageError."""
    if arguments.output is None:
        for name in _LAYOUT:
            if getattr(arguments, name) is not None:
                option = name.replace("_", "-")
                raise UsageError(
                    f"--{option} goes with --output: in place, what need not be rewritten stays as it is"
                )
    options: dict[str, Any] = {"workers": arguments.jobs or len(os.sched_getaffinity(0))}
    if arguments.jobs is not None and arguments.jobs < 1:
        raise UsageError(f"--jobs {arguments.jobs}: at least one process is needed")
    for name, text in (
        ("block_size_bytes", arguments.block_size),
        ("segment_size_bytes", arguments.segment_size),
        ("rate_limit_bytes_per_s", arguments.rate),
    ):
        if text is not None:
            options[name] = size_of_text(text)
    if arguments.rate is not None and not options["rate_limit_bytes_per_s"]:
        raise UsageError("--rate 0 would never end")
    if arguments.compression is not None:
        options["compression"] = arguments.compression
    if arguments.filter_bits is not None:
        options["filter_bits_per_key"] = arguments.filter_bits
    try:
        Options(**options)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return options


def _refuse_with_output(arguments: argparse.Namespace, directory: str) -> None:
    """Refuse what a new database cannot be made with. Errors: UsageError."""
    if arguments.start is not None or arguments.stop is not None:
        raise UsageError("--start and --stop go without --output: a new database holds everything")
    if arguments.until is not None:
        raise UsageError("--until goes without --output: a new database is complete or not there")
    source, target = os.path.abspath(directory), os.path.abspath(arguments.output)
    if target == source or target.startswith(source + os.sep):
        raise UsageError(f"{arguments.output}: a new database needs a folder outside the old one's")


def size_of_text(text: str) -> int:
    """Return a number of bytes: 4096, 16kb, 20MB, 1g. Units are those of redis.conf. Errors: UsageError."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise UsageError(f"{text}: sizes are written as 4096, 16kb, 20mb or 1gb")
    return int(match[1]) * _UNITS[match[2][:1].lower()]


def seconds_until(text: str, now: datetime.datetime) -> float:
    """Return how long it is to the next time that clocks show `text`, as HH:MM. Errors: UsageError."""
    match = _TIME.fullmatch(text)
    if match is None or int(match[1]) > 23 or int(match[2]) > 59:
        raise UsageError(f"{text}: times are written as HH:MM")
    then = now.replace(hour=int(match[1]), minute=int(match[2]), second=0, microsecond=0)
    if then <= now:
        then += datetime.timedelta(days=1)
    return (then - now).total_seconds()


# -- doing it --------------------------------------------------------------------------------------


def disk_bytes(directory: str) -> int:
    """Return what a database's files take."""
    with os.scandir(directory) as entries:
        return sum(entry.stat().st_size for entry in entries if entry.is_file())


def _in_place(
    arguments: argparse.Namespace,
    directory: str,
    options: dict[str, Any],
    selection: Selection,
    deadline_s: float | None,
) -> dict[str, Any]:
    silent = arguments.json or arguments.quiet
    # No merges of the engine's own: one that takes everything is about to come.
    with engine.open(directory, create=False, level_runs_max=_RUNS_MAX, **options) as db:
        db.pause()
        compaction = Compaction(db, selection)
        compaction.run(deadline_s, silent=silent)
        return {
            "complete": compaction.is_complete,
            "written_bytes": db.counters.compaction_bytes + db.counters.flush_bytes,
            "entries": compaction.entries,
        }


class Compaction:
    """A compaction in place, in a thread, so that the deadline and Ctrl-C are heard meanwhile."""

    def __init__(self, db: Database, selection: Selection) -> None:
        self.db = db
        self.is_complete = False
        self.entries = sum(run.entries for run in db.view.runs) + sum(map(len, db.view.memtables))
        self._selection = selection
        self._error: BaseException | None = None
        self._olds = {piece.segment.number for piece in db.view.levels.slices}

    def run(self, deadline_s: float | None, *, silent: bool) -> None:
        """Compact until done or until the deadline. Errors: what has broken it off."""
        ends_s = None if deadline_s is None else time.monotonic() + deadline_s
        total = self._left_bytes()
        thread = threading.Thread(target=self._work, name="lamina-compact")
        with Progress("compacting", total, unit="bytes", silent=silent) as progress:
            thread.start()
            try:
                while thread.is_alive():
                    thread.join(_POLL_S)
                    progress.advance(max(total - self._left_bytes() - progress.done, 0))
                    if ends_s is not None and time.monotonic() >= ends_s:
                        break
            finally:
                # Closing ends what is at work; the segments that were installed stay.
                if thread.is_alive():
                    self.db.close()
                    thread.join()
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            self.db.compact(self._selection.start, self._selection.stop)
            self.is_complete = True
        except ClosedError:
            pass  # the deadline, or Ctrl-C
        except BaseException as error:
            self._error = error

    def _left_bytes(self) -> int:
        """Return how much of what there was at the beginning has not been merged yet."""
        try:
            levels = self.db.view.levels
        except ClosedError:
            return 0
        return sum(piece.size_bytes for piece in levels.slices if piece.segment.number in self._olds)


def _rebuild(
    arguments: argparse.Namespace, directory: str, options: dict[str, Any], total_bytes: int
) -> dict[str, Any]:
    silent = arguments.json or arguments.quiet
    with (
        console.offline(directory, writes=False),
        Progress("writing", total_bytes, unit="bytes", silent=silent) as progress,
    ):
        made = rebuild(directory, arguments.output, Options(**options), on_progress=progress.advance)
    return {
        "complete": True,
        "written_bytes": made.size_bytes,
        "entries": made.entries,
        "segments": made.segments,
    }


# -- saying it -------------------------------------------------------------------------------------


def _dry_run(arguments: argparse.Namespace, directory: str, selection: Selection) -> int:
    with console.offline(directory, writes=False), engine.open(directory, read_only=True) as db:
        found = estimate(db, selection.start, selection.stop)
    if arguments.json:
        print_json(found._asdict() | {"reclaimed_bytes": found.reclaimed_bytes, "directory": directory})
    else:
        sys.stdout.write(_estimate_text(found))
    return FINE


def _estimate_text(found: Estimate) -> str:
    live = "" if found.live_entries is None else f", {human_count(found.live_entries)} of them alive"
    lines = [
        f"entries    {human_count(found.entries)}{live}",
        f"now        {human_size(found.segment_bytes)} in segments, {human_size(found.log_bytes)} in logs",
        f"expected   about {human_size(found.expected_bytes)}",
        f"reclaimed  about {human_size(found.reclaimed_bytes)}",
    ]
    if found.hidden_bytes:
        lines.append(f"           {human_size(found.hidden_bytes)} of it hidden parts of segments")
    if found.discarded_bytes:
        lines.append(f"           {human_size(found.discarded_bytes)} of it in discarded ranges")
    if found.samples:
        lines.append(
            f"by {found.samples} key ranges that were looked at: {human_size(found.sampled_live_bytes)} of "
            f"{human_size(found.sampled_stored_bytes)} are alive there"
        )
    return "\n".join(lines) + "\n"


def _report(facts: dict[str, Any], arguments: argparse.Namespace) -> None:
    if arguments.json:
        print_json(facts)
        return
    if arguments.quiet:
        return
    head = "compacted" if facts["complete"] else "stopped at the time that was given, what is done is kept"
    speed = facts["written_bytes"] / max(facts["elapsed_s"], 0.001)
    sys.stdout.write(
        f"{head}: {human_size(facts['before_bytes'])} before, {human_size(facts['after_bytes'])} after, "
        f"{human_size(facts['reclaimed_bytes'])} given back\n"
        f"{facts['elapsed_s']:.1f} s, {human_size(int(speed))}/s written by {facts['jobs']} processes\n"
    )

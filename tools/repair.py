"""lamina repair: make a damaged database one that opens, keep what can be read, and say what is lost."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Final

import lamina.engine as engine
from lamina.engine.errors import EngineError
from lamina.engine.filenames import parse_name
from lamina.engine.reading import Readable
from lamina.engine.repair import WAL_MODES, Loss, RepairError, RepairReport, repair
from lamina.server.encoding import ELEMENT, PLAIN_STRING, RECORD, U64, end_of, prefix_of
from lamina.server.records import Record
from lamina.tools import console
from lamina.tools.check import problem_facts, problem_line, range_text
from lamina.tools.console import human_count, human_size
from lamina.tools.logical import check_logical, is_of_a_server, mend_logical
from lamina.tools.logicalrecords import rows_of
from lamina.tools.logicalsource import Problem
from lamina.tools.rediskeys import Numbers, decode, physical_databases
from lamina.tools.redisview import Facts, RedisView

SUMMARY: Final = "Make a damaged database one that opens: keep what can be read, and say what is lost."

EPILOG: Final = """\
where to:
  --output DIR2   the repaired database goes into a new folder and DIR stays as it is: the safe way. What is
                  sound is not copied but gets a second name, if both folders are on one file system
  without it      DIR is repaired in its place, after a question. What is replaced is kept in DIR/lost/1 (or
                  the next number): look at it, then remove it yourself
  A repair that is broken off, at any moment, leaves the old database or the new one.

what is done:
  manifest        if it is lost, levels are made anew from what segments say of themselves
  segments        damaged blocks are left out, the others copied; indexes and filters are made anew. Of keys
                  in the range of a lost block an older value may come to light
  logs            see --wal-mode
  counts          are made right where entries were lost
  with --logical  Redis data are made to fit together: sizes of collections, both halves of sorted sets,
                  lists, times of expiry and their indexes; elements of no key and records that do not decode
                  are dropped, and are in the report as hexadecimal digits

modes for damaged logs:
  point-in-time   keep everything up to the first damage, nothing behind it: a state that there has been
  skip            leave damaged frames out and keep those behind them: most data, but writes that depended on
                  each other may be torn apart
  tail            put up with an end that is cut short, as a dead process leaves it; refuse anything else
  strict          refuse any damage of logs

examples:
  lamina repair --dry-run DIR
  lamina repair --logical --output DIR.repaired --report lost.json DIR
  lamina repair --logical --wal-mode skip --yes DIR

exit status of a repair: 0 there was nothing to do, or nothing was lost; 1 something was lost, or a dry run
has found something to do; 2 it was not done
"""

_SHOWN_BYTES: Final = 60
_KEYS_MAX: Final = 10_000
_MEND_ROUNDS: Final = 4
_MEND_OPTIONS: Final[dict[str, Any]] = {
    # No merges: a repair should not rewrite what it need not.
    "background": "inline",
    "level_runs_max": 64,
    "memory": 128 << 20,
}


def main(arguments: list[str]) -> int:
    """Repair a database; returns the exit status."""
    parser = console.parser("repair", SUMMARY, EPILOG)
    parser.add_argument("directory", metavar="DIR", help="the database's folder")
    parser.add_argument("--output", metavar="DIR2", help="repair into this new folder")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument("--logical", action="store_true", help="mend the Redis data as well")
    parser.add_argument(
        "--wal-mode",
        choices=WAL_MODES,
        default="point-in-time",
        metavar="MODE",
        help="what to make of damaged logs (point-in-time)",
    )
    parser.add_argument("--yes", action="store_true", help="repair in place without asking")
    parser.add_argument("--report", metavar="FILE", help="write the report to a file, as JSON")
    return console.run(parser, _repair, arguments)


def _repair(arguments: argparse.Namespace) -> int:
    path = console.database_directory(arguments.directory)
    if arguments.report:
        open(arguments.report, "a", encoding="ascii").close()  # if that cannot be, better now than afterwards
    if arguments.dry_run or not (arguments.yes or arguments.output):
        outcome = _plan(path, arguments)
        if arguments.dry_run or not outcome.has_work:
            return _show(outcome, arguments)
        _ask(outcome, arguments)
    outcome = _carry_out(path, arguments)
    return _show(outcome, arguments)


class _Outcome:
    """What a repair has done, or would do: the engine's report, and what was wrong with Redis data."""

    def __init__(self, report: RepairReport, problems: list[Problem] | None, is_plan: bool) -> None:
        self.report = report
        self.problems = problems
        self.is_plan = is_plan
        self.view = RedisView(shown_bytes=_SHOWN_BYTES)
        self.affected: list[Facts] = []
        """Redis keys some of whose elements are lost."""

    @property
    def has_work(self) -> bool:
        """Whether there is, or was, anything to do."""
        report = self.report
        return bool(report.actions or report.losses or self.problems) or any(
            "they will be merged" not in finding.what for finding in report.findings
        )

    @property
    def has_losses(self) -> bool:
        """Whether data are gone."""
        return bool(self.report.losses) or any(problem.entries for problem in self.problems or [])


# -- doing -----------------------------------------------------------------------------------------


def _plan(path: str, arguments: argparse.Namespace) -> _Outcome:
    with _progress(path, arguments) as progress:
        report = repair(path, wal_mode=arguments.wal_mode, dry_run=True, on_read=progress.advance)
    problems: list[Problem] | None = None
    if arguments.logical:
        problems = _look_at_data(path, report)
    outcome = _Outcome(report, problems, True)
    _explain(outcome, path)
    return outcome


def _look_at_data(path: str, report: RepairReport) -> list[Problem] | None:
    """Return what is wrong with Redis data as far as they can be read now."""
    hidden = [
        (finding.start, finding.stop)
        for finding in report.findings
        if finding.severity == "error" and finding.start is not None
    ]
    try:
        with engine.open(path, read_only=True) as db:
            _check_owner(path, db, hidden)
            return check_logical(db, unreadable=hidden)
    except (EngineError, OSError):
        report.notes.append("the Redis data cannot be looked at before the files are repaired")
        return None


def _check_owner(path: str, db: Readable, hidden: Iterable[tuple[bytes, bytes | None]] = ()) -> None:
    if not is_of_a_server(db, list(hidden)):
        raise console.UsageError(f"{path}: no server has written this database: leave --logical out")


def _ask(outcome: _Outcome, arguments: argparse.Namespace) -> None:
    """Have the repair in place confirmed. Errors: UsageError if it is not."""
    if arguments.json or not sys.stdin.isatty():
        raise console.UsageError("to repair in place say --yes; --output DIR2 repairs into a new folder")
    sys.stdout.writelines(f"{line}\n" for line in _lines(outcome))
    sys.stdout.write(f"Repair {arguments.directory} in its place? [y/N] ")
    sys.stdout.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise console.UsageError("nothing was changed")


def _carry_out(path: str, arguments: argparse.Namespace) -> _Outcome:
    problems: list[Problem] = []
    mends = arguments.logical and (arguments.output or _needs_mending(path))
    with _progress(path, arguments) as progress:
        report = repair(
            path,
            output=arguments.output,
            wal_mode=arguments.wal_mode,
            mend=(lambda folder: problems.extend(_mend(folder))) if mends else None,
            on_read=progress.advance,
        )
    outcome = _Outcome(report, problems if arguments.logical else None, False)
    _explain(outcome, report.output or path)
    return outcome


def _needs_mending(path: str) -> bool:
    """Tell whether the Redis data are not known to be sound: if they are, nothing must be replaced."""
    try:
        with engine.open(path, read_only=True) as db:
            _check_owner(path, db)
            return bool(check_logical(db))
    except (EngineError, OSError):
        return True


def _mend(folder: str) -> Iterator[Problem]:
    """Mend the Redis data of the new database; yields what was wrong. Errors: RepairError."""
    with engine.open(folder, create=False, **_MEND_OPTIONS) as db:
        _check_owner(folder, db)
        for _ in range(_MEND_ROUNDS):
            problems = mend_logical(db)
            if not any(problem.severity == "error" for problem in problems):
                return
            yield from problems
    raise RepairError(f"{folder}: the Redis data do not fit together, whatever is done: {problems[0].what}")


def _progress(path: str, arguments: argparse.Namespace) -> console.Progress:
    names = [os.path.join(path, name) for name in os.listdir(path) if (parse_name(name) or ("",))[0] == "seg"]
    total = sum(map(os.path.getsize, names))
    return console.Progress("repairing", total, unit="bytes", silent=arguments.json or arguments.quiet)


# -- what losses mean ------------------------------------------------------------------------------


def _explain(outcome: _Outcome, path: str) -> None:
    """Find out what is lost in Redis's terms, if the database opens."""
    try:
        with engine.open(path, read_only=True) as db:
            outcome.view = RedisView(Numbers.of(db), shown_bytes=_SHOWN_BYTES)
            if any(loss.start is not None for loss in outcome.report.losses):
                outcome.affected = list(_affected(db, outcome))
    except (EngineError, OSError):
        return  # before a repair it need not open


def _affected(db: engine.Database, outcome: _Outcome) -> Iterator[Facts]:
    """Yield the Redis keys, a limited number, some of whose elements lie where something was lost."""
    left = _KEYS_MAX
    for pdb in physical_databases(db):
        prefix = prefix_of(pdb, ELEMENT)
        ids = [span for loss in outcome.report.losses if (span := _ids_in(loss, prefix)) is not None]
        if not ids:
            continue
        records = prefix_of(pdb, RECORD)
        for key, raw in db.scan(records, end_of(records)):
            value = None if raw[:1] == PLAIN_STRING else decode(raw)
            if not isinstance(value, Record):
                continue
            if any(low <= row.id <= high for row in rows_of(value) for low, high in ids):
                numbers = outcome.view.numbers
                index = None if numbers is None else numbers.logical(pdb)
                yield {"db": index, "pdb": pdb, "key": key[len(records) :], "type": value.name.decode()}
                left -= 1
                if not left:
                    return


def _ids_in(loss: Loss, prefix: bytes) -> tuple[int, int] | None:
    """Return the ids, first and last, that a lost key range touches in one database."""
    if loss.start is None:
        return None
    end = end_of(prefix)
    start, stop = max(loss.start, prefix), end if loss.stop is None else min(loss.stop, end)
    if start >= stop:
        return None
    low = int.from_bytes(start[len(prefix) : len(prefix) + U64.size].ljust(U64.size, b"\0"), "big")
    high = (1 << 64) - 1
    if stop < end:
        high = int.from_bytes(stop[len(prefix) : len(prefix) + U64.size].ljust(U64.size, b"\0"), "big")
        # Nothing of an id that the range ends before is lost.
        high -= len(stop) <= len(prefix) + U64.size
    return low, high


# -- what is shown ---------------------------------------------------------------------------------


def _show(outcome: _Outcome, arguments: argparse.Namespace) -> int:
    facts = _facts(outcome)
    if arguments.report:
        with open(arguments.report, "w", encoding="ascii") as file:
            file.write(console.json_text(facts, indent=2) + "\n")
    if arguments.json:
        console.print_json(facts)
    elif not arguments.quiet:
        sys.stdout.writelines(f"{line}\n" for line in _lines(outcome))
    is_bad = outcome.has_work if outcome.is_plan else outcome.has_losses
    return console.FINDINGS if is_bad else console.FINE


def _facts(outcome: _Outcome) -> Facts:
    """Return the report as plain data."""
    report, view = outcome.report, outcome.view
    facts = report.facts()
    facts["dry_run"] = outcome.is_plan
    facts["losses"] = [
        loss._asdict() | ({} if loss.start is None else {"keys": range_text(loss, view)})
        for loss in report.losses
    ]
    facts["affected_keys"] = outcome.affected
    problems = outcome.problems
    facts["logical"] = None if problems is None else [problem_facts(problem, view) for problem in problems]
    return facts


def _lines(outcome: _Outcome) -> Iterator[str]:
    """Yield the report as text."""
    report, view = outcome.report, outcome.view
    if not outcome.has_work:
        yield f"{report.path}: nothing is wrong"
        return
    for loss in report.losses:
        yield _loss_line(loss, view)
    for facts in outcome.affected:
        yield f"affected: db {facts['db']}, key {view.quoted(facts['key'])}, a {facts['type']}"
    for problem in outcome.problems or []:
        yield problem_line(problem, view)
    yield from (f"note: {note}" for note in report.notes)
    yield from (f"{'would be done' if outcome.is_plan else 'done'}: {action}" for action in report.actions)
    if outcome.is_plan:
        yield f"{report.path}: there is something to repair; nothing was changed"
    elif report.output is not None:
        yield f"{report.path}: repaired into {report.output}"
    else:
        yield f"{report.path}: repaired; what was replaced is in {report.lost_directory}"


def _loss_line(loss: Loss, view: RedisView) -> str:
    place = loss.file if loss.offset is None else f"{loss.file}, byte {loss.offset}"
    text = f"lost: {place}: {loss.what}, {human_size(loss.size_bytes)}"
    if loss.entries:
        text += f", {human_count(loss.entries)} entries"
    if loss.start is not None:
        text += f"; keys {range_text(loss, view)}"
    return text

"""lamina check: what is wrong with a database that nobody has open, and what that would cost."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from typing import Any, Final

import lamina.engine as engine
from lamina.engine.check import LogState, check_directory, check_log_files
from lamina.engine.errors import EngineError
from lamina.engine.filenames import parse_name
from lamina.engine.filesystem import DiskFileSystem
from lamina.engine.findings import Finding, Findings
from lamina.engine.reading import Readable
from lamina.engine.repair import Loss
from lamina.tools import console
from lamina.tools.console import human_count, human_size
from lamina.tools.logical import check_logical, is_of_a_server
from lamina.tools.logicalsource import Problem, Sink
from lamina.tools.rediskeys import Numbers
from lamina.tools.redisview import RedisView

SUMMARY: Final = "Say what is wrong with a database that nobody has open. Nothing is changed."

EPILOG: Final = """\
what is checked:
  always      the manifest; names and sizes of all files; headers, footers, indexes; that levels, runs and
              slices are in order; the logs, frame by frame: clean, torn at the end (as the death of a process
              leaves it, and as opening mends it), or damaged
  not with --quick
              every block of every segment: checksum, order of keys, filters, counts; that the entries of each
              key agree from layer to layer, and that counts come out
  with --logical
              that the Redis data fit together: sizes of collections and their elements, both halves of sorted
              sets, lists, times of expiry and their indexes, elements of no key, records, the server's state

findings:
  An error is damage. A warning loses nothing and goes away when the database is opened next: a torn log, a
  file that nobody names. Losses are estimates, of what cannot be read any more.

examples:
  lamina check /var/lib/lamina/lamina
  lamina check --logical --json DIR | jq .summary
  lamina check --quick DIR && lamina serve

see also:
  lamina repair --dry-run DIR     what a repair would do
"""

_SHOWN_BYTES: Final = 60


def main(arguments: list[str]) -> int:
    """Check a database; returns the exit status."""
    parser = console.parser("check", SUMMARY, EPILOG)
    parser.add_argument("directory", metavar="DIR", help="the database's folder")
    parser.add_argument("--logical", action="store_true", help="check the Redis data as well")
    parser.add_argument("--quick", action="store_true", help="do not read the blocks of segments")
    parser.add_argument("--strict", action="store_true", help="warnings count for the exit status, too")
    return console.run(parser, _check, arguments)


def _check(arguments: argparse.Namespace) -> int:
    path = console.database_directory(arguments.directory)
    if arguments.quick and arguments.logical:
        raise console.UsageError("--quick does not read what --logical checks: leave one out")
    with console.offline(path, writes=False):
        findings = check_files(path, is_quick=arguments.quick, silent=arguments.json or arguments.quiet)
        logs = check_log_files(path, DiskFileSystem(), Findings())
        problems, view = None, RedisView(shown_bytes=_SHOWN_BYTES)
        if arguments.logical:
            problems, view = _check_logical(path, findings)
    report = _Report(path, findings, logs, problems, view)
    if arguments.json:
        console.print_json(report.facts())
    else:
        sys.stdout.writelines(f"{line}\n" for line in report.lines(quiet=arguments.quiet))
    bad = report.errors + (report.warnings if arguments.strict else 0)
    return console.FINDINGS if bad else console.FINE


def check_files(path: str, *, is_quick: bool = False, silent: bool = True) -> list[Finding]:
    """Return what is wrong with the files of a database, with a bar of progress."""
    names = [os.path.join(path, name) for name in os.listdir(path) if (parse_name(name) or ("",))[0] == "seg"]
    total = 0 if is_quick else sum(map(os.path.getsize, names))
    with console.Progress("checking", total, unit="bytes", silent=silent) as progress:
        return check_directory(path, DiskFileSystem(), is_quick=is_quick, on_read=progress.advance)


def _check_logical(path: str, findings: list[Finding]) -> tuple[list[Problem] | None, RedisView]:
    """Check the Redis data, as far as files can be read."""
    view = RedisView(shown_bytes=_SHOWN_BYTES)
    try:
        db = engine.open(path, read_only=True)
    except (EngineError, OSError) as error:
        what = f"the Redis data cannot be checked before a repair: {error}"
        findings.append(Finding("error", path, None, what))
        return None, view
    with db:
        hidden = [(f.start, f.stop) for f in findings if f.severity == "error" and f.start is not None]
        try:
            if not is_of_a_server(db, hidden):
                raise console.UsageError(f"{path}: no server has written this database: leave --logical out")
            view = RedisView(_numbers(db), shown_bytes=_SHOWN_BYTES)
            sink = Sink()
            problems = check_logical(db, unreadable=hidden, sink=sink)
        except (EngineError, OSError) as error:
            findings.append(Finding("error", path, None, f"the Redis data cannot be read: {error}"))
            return None, view
        for kind, count in sink.left_out.items():
            problems.append(Problem("error", 0, None, kind, f"{count} more of this kind"))
        return problems, view


def _numbers(db: Readable) -> Numbers | None:
    try:
        return Numbers.of(db)  # type: ignore[arg-type]
    except (EngineError, OSError):
        return None


# -- what is shown ---------------------------------------------------------------------------------


class _Report:
    """What a check has found, for people and for programs."""

    def __init__(
        self,
        path: str,
        findings: list[Finding],
        logs: list[LogState],
        problems: list[Problem] | None,
        view: RedisView,
    ) -> None:
        self._path = path
        self._findings = findings
        self._logs = logs
        self._problems = problems
        self._view = view
        found: Iterable[Finding | Problem] = [*findings, *(problems or [])]
        self.errors = sum(item.severity == "error" for item in found)
        self.warnings = len(findings) + len(problems or []) - self.errors

    def facts(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "directory": self._path,
            "summary": {
                "errors": self.errors,
                "warnings": self.warnings,
                "lost_bytes": sum(finding.lost_bytes for finding in self._findings),
                "lost_entries": sum(finding.lost_entries for finding in self._findings),
                "redis_keys": len({(p.pdb, p.key) for p in self._problems or [] if p.key is not None}),
            },
            "findings": [finding_facts(finding, self._view) for finding in self._findings],
            "logs": [
                {
                    "file": os.path.basename(log.path),
                    "state": log.state,
                    "size_bytes": log.size_bytes,
                    "frames": log.frames,
                    "frames_behind_damage": log.frames_behind,
                }
                for log in self._logs
            ],
            "logical": None
            if self._problems is None
            else [problem_facts(problem, self._view) for problem in self._problems],
        }

    def lines(self, *, quiet: bool) -> list[str]:
        """Return lines of text."""
        lines = [finding_line(finding, self._view) for finding in self._findings]
        lines += [problem_line(problem, self._view) for problem in self._problems or []]
        if not quiet:
            for log in self._logs:
                if log.state in ("clean", "unused"):
                    frames = f", {human_count(log.frames)} frames" if log.frames else ""
                    lines.append(f"{os.path.basename(log.path)}: {log.state}{frames}")
            lines.append(self._summary())
        return lines

    def _summary(self) -> str:
        if not self.errors and not self.warnings:
            return f"{self._path}: nothing is wrong"
        text = f"{self._path}: {human_count(self.errors)} errors, {human_count(self.warnings)} warnings"
        lost_bytes = sum(finding.lost_bytes for finding in self._findings if finding.severity == "error")
        if lost_bytes:
            entries = sum(finding.lost_entries for finding in self._findings)
            text += f"; about {human_size(lost_bytes)} and {human_count(entries)} entries cannot be read"
        if self.errors:
            logical = " --logical" if self._problems else ""
            text += f"; see what `lamina repair{logical} --dry-run` would do"
        return text


def finding_facts(finding: Finding, view: RedisView) -> dict[str, Any]:
    """Return a finding about files as plain data."""
    facts: dict[str, Any] = {
        "severity": finding.severity,
        "file": os.path.basename(finding.path),
        "offset": finding.offset,
        "what": finding.what,
        "lost_bytes": finding.lost_bytes,
        "lost_entries": finding.lost_entries,
    }
    if finding.start is not None:
        facts |= {"start": finding.start, "stop": finding.stop, "keys": range_text(finding, view)}
    return facts


def finding_line(finding: Finding, view: RedisView) -> str:
    """Return a finding about files as a line of text."""
    place = os.path.basename(finding.path)
    if finding.offset is not None:
        place += f", byte {finding.offset}"
    text = f"{finding.severity}: {place}: {finding.what}"
    if finding.lost_bytes:
        text += f"; {human_size(finding.lost_bytes)}"
        text += f" and {human_count(finding.lost_entries)} entries" if finding.lost_entries else ""
    if finding.start is not None:
        text += f"; {range_text(finding, view)}"
    return text


def range_text(lost: Finding | Loss, view: RedisView) -> str:
    """Return where the keys of what is lost lie."""
    start = view.key(lost.start) if lost.start else "the beginning"
    return f"from {start} up to {'the end' if lost.stop is None else view.key(lost.stop)}"


def problem_facts(problem: Problem, view: RedisView) -> dict[str, Any]:
    """Return a finding about Redis data as plain data; what would be dropped is in hexadecimal digits."""
    return {
        "severity": problem.severity,
        "kind": problem.kind,
        "db": None if view.numbers is None or not problem.pdb else view.numbers.logical(problem.pdb),
        "pdb": problem.pdb,
        "key": problem.key,
        "what": problem.what,
        "entries": problem.entries,
        "size_bytes": problem.size_bytes,
        "dropped": [[key.hex(), value.hex()] for key, value in problem.dropped],
    }


def problem_line(problem: Problem, view: RedisView) -> str:
    """Return a finding about Redis data as a line of text."""
    place = "state"
    if problem.pdb:
        index = None if view.numbers is None else view.numbers.logical(problem.pdb)
        place = f"pdb {problem.pdb}" if index is None else f"db {index}"
    if problem.key is not None:
        place += f", key {view.quoted(problem.key)}"
    text = f"{problem.severity}: {place}: {problem.what}"
    if problem.entries:
        text += f"; {human_count(problem.entries)} entries, {human_size(problem.size_bytes)}, to be dropped"
    return text

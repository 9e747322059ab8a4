"""lamina restore: makes a new database of a backup."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from typing import Final

from lamina.engine.filesystem import DiskFileSystem
from lamina.tools import console
from lamina.tools.backuplist import backup_facts, by_database, choose, counted
from lamina.tools.backuprecord import Backup, RepositoryError
from lamina.tools.console import FINDINGS, FINE, Progress, UsageError, human_count, human_size, print_json
from lamina.tools.repository import Repository
from lamina.tools.restoring import Refused, Restored, refuse_target, restore

SUMMARY: Final = "Make a new database of a backup."

EPILOG: Final = """\
Without ID the newest backup is restored; an ID may be shortened as long as it says which one. Where backups
of several databases have what is asked for, --database says which one is meant.

The database is made in a new folder, never over another one. All files are compared with their checksums,
and the database is opened once before the folder gets its name: until then it is called DIR.partial. If a
file of the backup is damaged, it is named, nothing is restored, and the exit status is 1. --check also reads
the whole database as lamina check does, and restores nothing if there are errors.

The new database is the old one as it was: start a server over it, or put it in the place of the old one.

examples:
  lamina restore /backups --to /var/lib/lamina/lamina
  lamina restore /backups 20261125T0300 --to /tmp/then --check

see also:
  lamina backup --list /backups       which ones there are
  lamina backup --verify /backups     whether they are sound
"""


def main(arguments: list[str]) -> int:
    """Restore a backup; returns the exit status."""
    parser = console.parser("restore", SUMMARY, EPILOG)
    parser.add_argument("repository", metavar="REPOSITORY", help="what lamina backup has written to")
    parser.add_argument(
        "id", metavar="ID", nargs="?", help="a backup, or the beginning of its id; the newest"
    )
    parser.add_argument("--to", metavar="DIR", required=True, help="the new database's folder")
    parser.add_argument("--database", metavar="ID", help="only the backups of this database")
    parser.add_argument(
        "--check", action="store_true", help="read the whole database before it gets its name"
    )
    return console.run(parser, _restore, arguments)


def _restore(arguments: argparse.Namespace) -> int:
    fs = DiskFileSystem()
    repository = Repository(fs, arguments.repository)
    repository.check()
    refuse_target(fs, os.path.abspath(arguments.to))
    backup = find_backup(repository, arguments.id, arguments.database)
    begun_s = time.monotonic()
    silent = arguments.json or arguments.quiet
    with Progress("restoring", backup.size_bytes, unit="bytes", silent=silent) as progress:
        outcome = restore(
            repository,
            backup,
            arguments.to,
            checks=arguments.check,
            on_bytes=progress.advance,
            on_check=_checking(progress, backup),
        )
    if isinstance(outcome, Refused):
        _tell_refusal(repository, backup, outcome, arguments)
        return FINDINGS
    _tell(backup, outcome, time.monotonic() - begun_s, arguments)
    return FINE


def _checking(progress: Progress, backup: Backup) -> Callable[[int], None]:
    """Return what turns the bar over to the check when that begins."""
    has_begun = False

    def advance(size_bytes: int) -> None:
        nonlocal has_begun
        if not has_begun:
            has_begun = True
            progress.begin("checking", backup.size_bytes)
        progress.advance(size_bytes)

    return advance


def find_backup(repository: Repository, wanted: str | None, database: str | None) -> Backup:
    """Return the backup that is meant. Errors: UsageError, RepositoryError if that cannot be read."""
    backups, unreadable = repository.backups(None if database is None else [database])
    for item in unreadable:
        is_newest = all(b.id < item.id for b in backups if b.database == item.database)
        if item.id == wanted or (wanted is None and is_newest):
            raise RepositoryError(f"{item.what}; name another backup to restore that")
    if wanted is None:
        found = [group[-1] for group in by_database(backups).values()]
    else:
        found = choose(backups, wanted)
    if not found:
        what = "there are no backups" if wanted is None else f"there is no backup {wanted}"
        raise UsageError(f"{repository.path}: {what}" + ("" if database is None else f" of {database}"))
    if len(found) > 1:
        names = ", ".join(f"{backup.id} of {backup.database}" for backup in found[:5])
        raise UsageError(f"several backups may be meant: {names}; name one, or its database with --database")
    return found[0]


def _tell_refusal(
    repository: Repository, backup: Backup, refused: Refused, arguments: argparse.Namespace
) -> None:
    if arguments.json:
        findings = [str(finding) for finding in refused.findings]
        print_json(
            backup_facts(backup) | {"restored": False, "damages": refused.damages, "findings": findings}
        )
        return
    for damage in refused.damages:
        sys.stdout.write(f"error: {repository.stored_path(damage.database, damage.file)}: {damage.what}\n")
    for finding in refused.findings:
        sys.stdout.write(f"{finding}\n")
    if refused.damages:
        what = f"{counted(len(refused.damages), 'file')} of the backup cannot be used"
    else:
        errors = sum(finding.severity == "error" for finding in refused.findings)
        what = f"the check has found {counted(errors, 'error')}"
    sys.stdout.write(f"{backup.id}: nothing has been restored: {what}\n")


def _tell(backup: Backup, restored: Restored, elapsed_s: float, arguments: argparse.Namespace) -> None:
    if arguments.json:
        facts = {"restored": True, "target": restored.target, "checked": arguments.check}
        print_json(backup_facts(backup) | facts | {"elapsed_s": round(elapsed_s, 3)})
    elif not arguments.quiet:
        keys = "" if restored.live_keys is None else f", {human_count(restored.live_keys)} entries"
        checked = ", checked" if arguments.check else ""
        size = human_size(backup.size_bytes)
        sys.stdout.write(f"{restored.target}: {backup.id} of {backup.source}, {size}{keys}{checked}\n")

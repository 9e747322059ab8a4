"""lamina backup: keeps states of databases in a repository."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

from lamina.engine.filesystem import DiskFileSystem
from lamina.tools import console
from lamina.tools.backuplist import backup_facts, counted, list_backups, prune_backups, verify_backups
from lamina.tools.backupsource import Source, closed_source, segment_files, served_source
from lamina.tools.console import FINE, Progress, UsageError, human_count, human_size, print_json
from lamina.tools.copying import size_of
from lamina.tools.repository import Repository
from lamina.tools.retention import Policy
from lamina.tools.serverlink import ServerLink, read_password
from lamina.tools.taking import Taken, take_backup

SUMMARY: Final = "Keep states of a database in a repository of backups."

USAGE: Final = """\
lamina backup DIR --to REPOSITORY [--label TEXT] [--link] [--read-all]
       lamina backup --port N [--host H] [--password-file F] --to REPOSITORY [...]
       lamina backup --list REPOSITORY [--database ID]
       lamina backup --verify REPOSITORY [ID] [--database ID]
       lamina backup --prune REPOSITORY --keep-last N [--keep-daily N ...] [--dry-run]"""

EPILOG: Final = """\
what is backed up:
  DIR          a database that nobody has open. It is locked meanwhile, so that nobody opens it.
  --port N     the database of a running server, which goes on serving. It makes a checkpoint beside its
               database (CHECKPOINT, see enable-checkpoint-command), which is copied and then removed. The
               backup holds all that was acknowledged before. The password comes from --password-file, or
               from the environment: LAMINA_PASSWORD. Run this on the server's machine, as its user.

the repository:
  A folder, made by the first backup. Each backup is a whole state of its database: none depends on another.
  Segments never change, so each is stored once: a further backup copies new segments and the logs, nothing
  else. Files are known by their SHA-256. Several databases may share a repository; they have nothing in
  common there. A copy of a database, as a restore makes it, counts as the same database.
  A backup is there when it is complete, and not before: what is broken off leaves the others as they were.
  New segments are read through, so that no damage is kept: see lamina check.

  --link gives segments a second name in the repository instead of copying them, where both are on one file
  system. That costs no time and no space, and is worth less: there is still one copy on one disk, so what
  destroys a file, or changes it in place, does so in both. It protects from mistakes, not from a broken disk.
  --read-all reads everything, here and in the repository, and replaces what has been damaged there. Without
  it, files whose inode, size and time of change are those of the last backup are not read again.

  --verify compares all files with their checksums. If one is damaged, take another backup with --read-all: a
  file that the database still has is stored anew, for all backups that need it.

what is pruned:
  A rule keeps the last backup of each of the N newest hours, days, weeks, months or years (UTC) that have
  one; --keep-last keeps the N newest. What no rule keeps goes, for each database by itself, and then all
  files that no backup needs. There must be a rule; --dry-run says what would go.

examples:
  lamina backup /var/lib/lamina/lamina --to /backups
  lamina backup --port 6379 --to /backups --label nightly
  lamina backup --list /backups
  lamina backup --verify /backups
  lamina backup --prune /backups --keep-last 3 --keep-daily 7 --keep-weekly 4
  lamina restore /backups --to new             the newest one

"""

_RULES: Final = tuple(f"keep_{name}" for name in Policy._fields)


def main(arguments: list[str]) -> int:
    """Do what is asked for; returns the exit status."""
    parser = console.parser("backup", SUMMARY, EPILOG)
    parser.usage = USAGE
    parser.add_argument("place", metavar="DIR", nargs="?", help="the database's folder, or the repository")
    parser.add_argument("id", metavar="ID", nargs="?", help="a backup, as --list shows it, or its beginning")
    parser.add_argument("--to", metavar="REPOSITORY", help="where the backup goes; made if it is not there")
    parser.add_argument("--host", metavar="H", help="back up a running server's database (127.0.0.1)")
    parser.add_argument("--port", metavar="P", type=int, help="that server's port (6379)")
    parser.add_argument("--password-file", metavar="F", help="the password is this file's first line")
    parser.add_argument("--label", metavar="TEXT", default="", help="a note to the backup")
    parser.add_argument(
        "--link", action="store_true", help="link segments instead of copying them; see below"
    )
    parser.add_argument("--read-all", action="store_true", help="read also what has not changed")
    actions = parser.add_mutually_exclusive_group()
    actions.add_argument("--list", action="store_true", help="show the backups of a repository")
    actions.add_argument("--verify", action="store_true", help="read all files of all backups, or of one")
    actions.add_argument("--prune", action="store_true", help="drop what no rule keeps")
    parser.add_argument("--database", metavar="ID", help="only the backups of this database")
    for name in Policy._fields:
        parser.add_argument(f"--keep-{name}", metavar="N", type=int, help=f"keep N {_what(name)}")
    parser.add_argument("--dry-run", action="store_true", help="only say what --prune would remove")
    return console.run(parser, _backup, arguments)


def _what(rule: str) -> str:
    return "of the newest" if rule == "last" else f"of the {rule} ones"


def _backup(arguments: argparse.Namespace) -> int:
    is_listing = arguments.list or arguments.verify or arguments.prune
    _refuse_strangers(arguments, is_taking=not is_listing)
    if not is_listing:
        return _take(arguments)
    repository = Repository(DiskFileSystem(), arguments.place)
    repository.check()
    if arguments.list:
        return list_backups(repository, arguments)
    return (verify_backups if arguments.verify else prune_backups)(repository, arguments)


def _refuse_strangers(arguments: argparse.Namespace, *, is_taking: bool) -> None:
    """Refuse options that have nothing to say here: who gives one expects something of it.

    Errors: UsageError.
    """
    taking = ("to", "host", "port", "password_file", "label", "link", "read_all")
    own = {
        "list": ("place", "database"),
        "verify": ("place", "id", "database"),
        "prune": ("place", "database", "dry_run", *_RULES),
    }
    action = next((name for name in own if getattr(arguments, name)), None)
    allowed = ("place", *taking) if action is None else own[action]
    everything = {*taking, *(name for names in own.values() for name in names)}
    for name in sorted(everything - set(allowed)):
        if getattr(arguments, name) not in (None, False, ""):
            option = "ID" if name == "id" else f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} does not go with {'a backup' if action is None else f'--{action}'}")
    if not is_taking and arguments.place is None:
        raise UsageError(f"--{action}: name the repository")


# -- taking ----------------------------------------------------------------------------------------


def _take(arguments: argparse.Namespace) -> int:
    is_live = arguments.host is not None or arguments.port is not None
    if is_live == (arguments.place is not None):
        raise UsageError("name a database's folder, or a running server with --host or --port")
    if arguments.to is None:
        raise UsageError("--to: name the repository")
    if arguments.password_file is not None and not is_live:
        raise UsageError("--password-file goes with --host or --port")
    repository = Repository(DiskFileSystem(), arguments.to)
    begun_s = time.monotonic()
    with repository.writing(create=True), _source(arguments, is_live=is_live) as source:
        _refuse_nesting(repository.path, source.directory)
        silent = arguments.json or arguments.quiet
        with Progress("backing up", _size_bytes(source), unit="bytes", silent=silent) as progress:
            taken = take_backup(
                repository,
                source,
                label=arguments.label,
                link=arguments.link,
                read_all=arguments.read_all,
                on_bytes=progress.advance,
            )
    facts = taken_facts(taken, time.monotonic() - begun_s)
    if arguments.json:
        print_json(facts)
    elif not arguments.quiet:
        sys.stdout.write(_taken_text(taken, repository.path))
    else:
        sys.stdout.write(f"{taken.backup.id}\n")
    return FINE


@contextlib.contextmanager
def _source(arguments: argparse.Namespace, *, is_live: bool) -> Iterator[Source]:
    fs = DiskFileSystem()
    if not is_live:
        with closed_source(fs, console.database_directory(arguments.place)) as source:
            yield source
        return
    host, port = arguments.host or "127.0.0.1", arguments.port or 6379
    password = read_password(arguments.password_file)
    with ServerLink(host, port, password) as link, served_source(fs, link) as source:
        yield source


def _refuse_nesting(repository: str, directory: str) -> None:
    places = (os.path.realpath(repository), os.path.realpath(directory))
    if os.path.commonpath(places) in places:
        raise UsageError(f"{repository}: database and repository must not lie in each other")


def _size_bytes(source: Source) -> int:
    fs = DiskFileSystem()
    logs = (size_of(fs, os.path.join(source.directory, name)) or 0 for name in source.logs)
    return sum(size_bytes for _, size_bytes in segment_files(source)) + sum(logs)


def taken_facts(taken: Taken, elapsed_s: float) -> dict[str, Any]:
    """Return what a backup has done, as plain data."""
    return backup_facts(taken.backup) | {
        "copied_files": taken.copied_files,
        "copied_bytes": taken.copied_bytes,
        "linked_files": taken.linked_files,
        "linked_bytes": taken.linked_bytes,
        "kept_files": taken.kept_files,
        "kept_bytes": taken.kept_bytes,
        "elapsed_s": round(elapsed_s, 3),
    }


def _taken_text(taken: Taken, repository: str) -> str:
    backup = taken.backup
    keys = "" if backup.live_keys is None else f", {human_count(backup.live_keys)} entries"
    lines = [
        f"{backup.id}: a backup of {backup.source}, {human_size(backup.size_bytes)}{keys}, in {repository}",
        f"  copied {_files(taken.copied_files, taken.copied_bytes)}",
        f"  stored before {_files(taken.kept_files, taken.kept_bytes)}",
    ]
    if taken.linked_files:
        lines.insert(2, f"  linked {_files(taken.linked_files, taken.linked_bytes)}")
    return "".join(f"{line}\n" for line in lines)


def _files(count: int, size_bytes: int) -> str:
    return f"{counted(count, 'file')}, {human_size(size_bytes)}"

"""lamina backup --list, --verify and --prune: what is in a repository, whether it is sound, and what goes."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from typing import Any

from lamina.tools.backuprecord import Backup, RepositoryError
from lamina.tools.console import FINDINGS, FINE, Progress, UsageError, human_count, human_size, print_json
from lamina.tools.copying import size_of
from lamina.tools.repository import Repository, Unreadable
from lamina.tools.retention import Decision, Policy, added_bytes, decide
from lamina.tools.verifying import damages, total_bytes


def backup_facts(backup: Backup) -> dict[str, Any]:
    """Return a backup as plain data."""
    return {
        "id": backup.id,
        "database": backup.database,
        "created_s": backup.created_s,
        "created": _time_text(backup.created_s),
        "label": backup.label,
        "source": backup.source,
        "entries": backup.live_keys,
        "size_bytes": backup.size_bytes,
        "files": len(backup.files),
    }


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: 1 file, 1,200 files."""
    return f"{human_count(count)} {noun}{'' if count == 1 else 's'}"


def _time_text(created_s: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(created_s))


def _of_database(repository: Repository, wanted: str | None) -> tuple[list[Backup], list[Unreadable]]:
    """Return the backups of all databases, or of the one wanted. Errors: UsageError."""
    if wanted is not None and wanted not in repository.databases():
        raise UsageError(f"{wanted}: there is no such database in {repository.path}")
    return repository.backups(None if wanted is None else [wanted])


def by_database(backups: list[Backup]) -> dict[str, list[Backup]]:
    """Return the backups of each database, oldest first."""
    groups: dict[str, list[Backup]] = {}
    for backup in backups:
        groups.setdefault(backup.database, []).append(backup)
    return groups


def list_backups(repository: Repository, arguments: argparse.Namespace) -> int:
    """Show what is there; returns the exit status. Errors: UsageError, OSError."""
    backups, unreadable = _of_database(repository, arguments.database)
    groups = by_database(backups)
    added = {(name, key): size for name in groups for key, size in added_bytes(groups[name]).items()}
    if arguments.json:
        listed = [backup_facts(b) | {"added_bytes": added[b.database, b.id]} for b in backups]
        print_json({"repository": repository.path, "backups": listed, "unreadable": unreadable})
        return FINDINGS if unreadable else FINE
    for database, group in groups.items():
        sys.stdout.write(f"database {database}, from {group[-1].source}\n")
        for backup in group:
            entries = "-" if backup.live_keys is None else human_count(backup.live_keys)
            sizes = f"{human_size(backup.size_bytes):>10} {human_size(added[database, backup.id]):>10}"
            row = f"  {backup.id:18} {_time_text(backup.created_s)} {sizes} {entries:>14}  {backup.label}"
            sys.stdout.write(row.rstrip() + "\n")
    _tell_unreadable(unreadable)
    if not backups and not unreadable:
        sys.stdout.write(f"{repository.path}: there are no backups\n")
    return FINDINGS if unreadable else FINE


def _tell_unreadable(unreadable: list[Unreadable]) -> None:
    for item in unreadable:
        sys.stdout.write(f"error: {item.id} of {item.database}: {item.what}\n")


def choose(backups: list[Backup], wanted: str) -> list[Backup]:
    """Return the backups that an id, or its beginning, stands for: an id that is whole comes first."""
    exact = [backup for backup in backups if backup.id == wanted]
    return exact or [backup for backup in backups if backup.id.startswith(wanted)]


def verify_backups(repository: Repository, arguments: argparse.Namespace) -> int:
    """Read all files of all backups, or of one; returns the exit status. Errors: UsageError, OSError."""
    backups, unreadable = _of_database(repository, arguments.database)
    if arguments.id is not None:
        backups = choose(backups, arguments.id)
        unreadable = choose_unreadable(unreadable, arguments.id)
        if not backups and not unreadable:
            raise UsageError(f"{arguments.id}: there is no such backup in {repository.path}")
    silent = arguments.json or arguments.quiet
    with Progress("verifying", total_bytes(backups), unit="bytes", silent=silent) as progress:
        found = damages(repository, backups, progress.advance)
    if arguments.json:
        facts = {"repository": repository.path, "backups": [b.id for b in backups], "damages": found}
        print_json(facts | {"unreadable": unreadable})
    else:
        _tell_unreadable(unreadable)
        for damage in found:
            path = repository.stored_path(damage.database, damage.file)
            needed = f"needed by {', '.join(damage.backups)}"
            sys.stdout.write(f"error: {path}: {damage.what}; {needed}\n")
        if not arguments.quiet and not found and not unreadable:
            count = counted(len(backups), "backup")
            sys.stdout.write(f"{repository.path}: {count}, {human_size(total_bytes(backups))}: all is well\n")
    return FINDINGS if found or unreadable else FINE


def choose_unreadable(unreadable: list[Unreadable], wanted: str) -> list[Unreadable]:
    """Return what cannot be read among the backups that an id, or its beginning, stands for."""
    return [item for item in unreadable if item.id.startswith(wanted)]


# -- pruning ---------------------------------------------------------------------------------------


def _policy(arguments: argparse.Namespace) -> Policy:
    """Return the rules. Errors: UsageError."""
    given = {name: getattr(arguments, f"keep_{name}") for name in Policy._fields}
    policy = Policy(**{name: count for name, count in given.items() if count is not None})
    if min(policy) < 0:
        raise UsageError("a rule cannot keep fewer than no backups")
    if not any(policy):
        raise UsageError("--prune: no rule keeps anything; say what to keep, with --keep-last 3 for example")
    return policy


def prune_backups(repository: Repository, arguments: argparse.Namespace) -> int:
    """Drop what no rule keeps; returns the exit status. Errors: UsageError, OSError."""
    policy = _policy(arguments)
    # Deciding is worth nothing if somebody writes between it and the deed.
    with contextlib.nullcontext() if arguments.dry_run else repository.writing():
        backups, unreadable = _of_database(repository, arguments.database)
        if unreadable:
            what = unreadable[0].what
            raise RepositoryError(
                f"{what}; what it needs is not known, so nothing is pruned: remove the record, or mend it"
            )
        groups = by_database(backups)
        databases = repository.databases() if arguments.database is None else [arguments.database]
        decisions = [
            decide(database, groups.get(database, []), _sizes(repository, database), policy)
            for database in databases
        ]
        if not arguments.dry_run:
            carry_out(repository, decisions)
    _tell_decisions(decisions, groups, arguments)
    return FINE


def _sizes(repository: Repository, database: str) -> dict[str, int]:
    names = repository.stored_names(database)
    return {name: size_of(repository.fs, repository.stored_path(database, name)) or 0 for name in names}


def carry_out(repository: Repository, decisions: list[Decision]) -> None:
    """Remove what has been decided: records first, so that what is there is whole at any moment."""
    for decision in decisions:
        repository.withdraw(decision.dropped)
        repository.remove_files(decision.database, decision.files)


def _tell_decisions(
    decisions: list[Decision], groups: dict[str, list[Backup]], arguments: argparse.Namespace
) -> None:
    freed_bytes = sum(decision.freed_bytes for decision in decisions)
    dropped = [backup for decision in decisions for backup in decision.dropped]
    if arguments.json:
        kept = [
            backup_facts(backup) | {"kept_by": decision.kept[backup.id]}
            for decision in decisions
            for backup in groups.get(decision.database, [])
            if backup.id in decision.kept
        ]
        facts = {"dry_run": arguments.dry_run, "kept": kept, "dropped": [backup_facts(b) for b in dropped]}
        removed = {decision.database: decision.files for decision in decisions}
        print_json(facts | {"removed_files": removed, "freed_bytes": freed_bytes})
        return
    would = "would be " if arguments.dry_run else ""
    if not arguments.quiet:
        for decision in decisions:
            for backup in groups.get(decision.database, []):
                rules = ", ".join(decision.kept.get(backup.id, []))
                what = f"kept: {rules}" if rules else f"{would}dropped"
                sys.stdout.write(f"{backup.id} of {decision.database} {what}\n")
    files = sum(len(decision.files) for decision in decisions)
    text = f"{counted(len(dropped), 'backup')} and {counted(files, 'file')} {would}removed"
    sys.stdout.write(f"{text}, {human_size(freed_bytes)}\n")

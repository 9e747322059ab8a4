"""Which backups to keep: pure functions from records to what goes.

A rule keeps the newest backup of each of the newest periods that have one: `--keep-daily 7` the last one of
each of the last seven days on which there was any, so that a machine that was off loses nothing. A backup is
kept if any rule keeps it. Periods are those of UTC.
"""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from lamina.tools.backuprecord import Backup
from lamina.tools.repository import referenced


class Policy(NamedTuple):
    """How many backups each rule keeps. Shape: one field for each rule of `_PERIODS`."""

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0


_PERIODS: Final = {
    # The name of the period a moment lies in, as strftime says it; "" stands for a period of its own.
    "last": "",
    "hourly": "%Y-%m-%d %H",
    "daily": "%Y-%m-%d",
    "weekly": "%G-%V",
    "monthly": "%Y-%m",
    "yearly": "%Y",
}


class Decision(NamedTuple):
    """What to do with the backups and files of one database. `kept`: by id, the rules that keep it."""

    database: str
    kept: dict[str, list[str]]
    dropped: list[Backup]
    files: list[str]
    freed_bytes: int


def kept_by(backups: list[Backup], policy: Policy) -> dict[str, list[str]]:
    """Return the ids of the backups to keep, each with the rules that keep it. `backups`: oldest first."""
    kept: dict[str, list[str]] = {}
    for rule, count in policy._asdict().items():
        periods: set[str] = set()
        for backup in reversed(backups):
            period = time.strftime(_PERIODS[rule], time.gmtime(backup.created_s)) or backup.id
            if len(periods) >= count:
                break
            if period not in periods:
                periods.add(period)
                kept.setdefault(backup.id, []).append(rule)
    return kept


def decide(database: str, backups: list[Backup], stored: dict[str, int], policy: Policy | None) -> Decision:
    """Say what goes of one database: backups that no rule keeps, and files that no kept backup names.

    `stored` are the sizes of all files there are, by name; without a policy all backups are kept.
    """
    kept = {backup.id: ["all"] for backup in backups} if policy is None else kept_by(backups, policy)
    dropped = [backup for backup in backups if backup.id not in kept]
    needed = referenced(backup for backup in backups if backup.id in kept)
    files = sorted(name for name in stored if name not in needed)
    return Decision(database, kept, dropped, files, sum(stored[name] for name in files))


def added_bytes(backups: list[Backup]) -> dict[str, int]:
    """Return what each backup of one database has brought that those before it had not. Oldest first."""
    seen: set[str] = set()
    added: dict[str, int] = {}
    for backup in backups:
        fresh = {file.stored_name: file.size_bytes for file in backup.files if file.stored_name not in seen}
        seen.update(fresh)
        added[backup.id] = sum(fresh.values())
    return added

"""What has been refused, latest first: ACL LOG.

One entry stands for all refusals of the same thing to the same user that follow each other within a minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

AUTH: Final = "auth"
"""The reason that is none of `access`'s: a wrong password."""

TOPLEVEL: Final = "toplevel"
IN_MULTI: Final = "multi"
IN_SCRIPT: Final = "lua"

_GROUPED_MS: Final = 60_000
_GROUPED_MAX: Final = 10
"""Entries, from the latest on, among which one of the same kind is looked for."""


@dataclass(slots=True)
class Entry:
    """Refusals of one kind."""

    id: int
    reason: str
    context: str
    subject: bytes
    user: bytes
    created_ms: int
    updated_ms: int
    client_info: bytes
    """The client that was refused last, as CLIENT INFO describes it."""
    count: int = 1

    def reply(self, now_ms: int) -> dict[bytes, Any]:
        """Return the entry as ACL LOG shows it."""
        return {
            b"count": self.count,
            b"reason": self.reason.encode(),
            b"context": self.context.encode(),
            b"object": self.subject,
            b"username": self.user,
            b"age-seconds": (now_ms - self.updated_ms) / 1000,
            b"client-info": self.client_info,
            b"entry-id": self.id,
            b"timestamp-created": self.created_ms,
            b"timestamp-last-updated": self.updated_ms,
        }


class AclLog:
    """The log, and how often what has been refused."""

    def __init__(self) -> None:
        self.denied = {"auth": 0, "command": 0, "key": 0, "channel": 0}
        """Refusals since the server started, by reason, for INFO."""
        self._entries: list[Entry] = []
        self._next_id = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(
        self,
        *,
        reason: str,
        context: str,
        subject: bytes,
        user: bytes,
        now_ms: int,
        client_info: bytes,
        size_max: int,
    ) -> None:
        """Take note of a refusal; the oldest entries beyond `size_max` go when there is a new one."""
        self.denied[reason] += 1
        entries = self._entries
        for at, entry in enumerate(entries[:_GROUPED_MAX]):
            is_same = (entry.reason, entry.context, entry.subject, entry.user) == (
                reason,
                context,
                subject,
                user,
            )
            if is_same and abs(now_ms - entry.updated_ms) <= _GROUPED_MS:
                entry.count += 1
                entry.updated_ms = now_ms
                entry.client_info = client_info
                entries.insert(0, entries.pop(at))
                return
        entries.insert(0, Entry(self._next_id, reason, context, subject, user, now_ms, now_ms, client_info))
        self._next_id += 1
        del entries[size_max:]

    def recent(self, count: int) -> list[Entry]:
        """Return the latest entries."""
        return list(islice(self._entries, max(count, 0)))

    def clear(self) -> None:
        """Forget the entries. Numbers go on, and so does what INFO counts."""
        self._entries.clear()

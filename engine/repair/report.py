"""What a repair has found, lost and done: plain data, for people and programs."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from lamina.engine.errors import EngineError
from lamina.engine.findings import Finding


class RepairError(EngineError):
    """The database cannot be repaired as it was asked; nothing was changed."""


class Loss(NamedTuple):
    """Something that could not be read and is gone.

    `file` is a name in the database's folder; `entries` is None where nobody knows; ``start <= key < stop``
    bounds the keys, None: no bound, or, for `start`, not known. Of keys in that range an older value may have
    come to light, or one that had been removed.
    """

    file: str
    offset: int | None
    what: str
    size_bytes: int
    entries: int | None
    start: bytes | None = None
    stop: bytes | None = None


@dataclasses.dataclass
class RepairReport:
    """The outcome of a repair."""

    path: str
    output: str | None
    """Where the repaired database is; None if it was repaired in its place."""
    findings: list[Finding] = dataclasses.field(default_factory=list)
    """What was wrong."""
    losses: list[Loss] = dataclasses.field(default_factory=list)
    actions: list[str] = dataclasses.field(default_factory=list)
    """What was done, or would be, in words."""
    notes: list[str] = dataclasses.field(default_factory=list)
    """What may be otherwise than it was, and cannot be known."""
    lost_directory: str | None = None
    """Where what was replaced has been put."""
    is_done: bool = False
    """Whether anything was changed: not after a dry run, and not if there was nothing to do."""

    def facts(self) -> dict[str, Any]:
        """Return plain data; keys are bytes."""
        facts = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        facts["findings"] = [finding._asdict() for finding in self.findings]
        facts["losses"] = [loss._asdict() for loss in self.losses]
        return facts

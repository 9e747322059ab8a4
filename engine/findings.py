"""What a check found: facts about damage, for people and for tests. Collecting them never stops a check."""

from __future__ import annotations

from types import TracebackType
from typing import Literal, NamedTuple

from lamina.engine.errors import CorruptionError, FormatVersionError

Severity = Literal["error", "warning"]


class Finding(NamedTuple):
    """Something that is not as it should be. A warning loses nothing and goes away by itself.

    `offset` is the place in the file, where there is one; `lost_bytes` and `lost_entries` estimate what
    cannot be read any more, and `start` and `stop` bound its keys (None: not known, or no bound).
    """

    severity: Severity
    path: str
    offset: int | None
    what: str
    lost_bytes: int = 0
    lost_entries: int = 0
    start: bytes | None = None
    stop: bytes | None = None

    def __str__(self) -> str:
        place = self.path if self.offset is None else f"{self.path}, byte {self.offset}"
        entries = f", {self.lost_entries} entries" if self.lost_entries else ""
        loss = f" ({self.lost_bytes} bytes{entries} lost)" if self.lost_bytes else ""
        return f"{self.severity}: {place}: {self.what}{loss}"


class Extent(NamedTuple):
    """How much is lost if something cannot be read: an estimate, as in `Finding`."""

    size_bytes: int = 0
    entries: int = 0
    start: bytes | None = None
    stop: bytes | None = None


NOTHING = Extent()


class Findings(list[Finding]):
    """A list of findings that is easy to add to. One thread."""

    __slots__ = ()

    @property
    def errors(self) -> list[Finding]:
        """The findings that are more than warnings."""
        return [finding for finding in self if finding.severity == "error"]

    def error(self, path: str, what: str, *, offset: int | None = None, lost_bytes: int = 0) -> None:
        """Add an error."""
        self.append(Finding("error", path, offset, what, lost_bytes))

    def warning(self, path: str, what: str, *, offset: int | None = None, lost_bytes: int = 0) -> None:
        """Add a warning."""
        self.append(Finding("warning", path, offset, what, lost_bytes))

    def expect(self, path: str, what: str, expected: object, found: object) -> None:
        """Add an error if two things that should be the same are not."""
        if expected != found:
            self.error(path, f"{what}: expected {expected!r}, found {found!r}")

    def gathering(self, path: str, *, lost: Extent = NOTHING) -> Gathering:
        """Return a context that turns whatever is raised inside into an error about `path`."""
        return Gathering(self, path, lost)


class Gathering:
    """Swallows exceptions and keeps them as findings.

    All of them: bytes with a sound checksum and a false content, such as a faulty tool writes, decode to
    nonsense that may break any code.
    """

    __slots__ = ("_findings", "_lost", "_path")

    def __init__(self, findings: Findings, path: str, lost: Extent) -> None:
        self._findings = findings
        self._path = path
        self._lost = lost

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None or not isinstance(error, Exception):
            return False
        path, offset, what = self._path, None, f"checking broke off: {error!r}"
        if isinstance(error, CorruptionError):
            path, offset, what = error.path, error.offset, error.what
            if error.expected is not None or error.found is not None:
                what += f" (expected {error.expected!r}, found {error.found!r})"
        elif isinstance(error, FileNotFoundError):
            path, what = str(error.filename or path), "the file is missing"
        elif isinstance(error, FormatVersionError | OSError):
            what = str(error)
        self._findings.append(Finding("error", path, offset, what, *self._lost))
        return True

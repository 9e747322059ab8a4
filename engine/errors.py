"""Every exception the engine raises on its own account.

Misuse by the caller is a plain ``TypeError`` or ``ValueError``; a missing key is ``None``, not an error; an
``OSError`` of the file system passes unchanged, except a failed fsync, after which nothing is known about
what lies on the disk (`PoisonedError`).
"""

from __future__ import annotations


class EngineError(Exception):
    """Base of the engine's own errors."""


class CorruptionError(EngineError):
    """Bytes on disk are not what was written there.

    Carries facts, so that a person or `lamina repair` can act: the file, the offset in bytes, what was being
    read, and what was expected and found.
    """

    def __init__(
        self, path: str, offset: int, what: str, expected: object = None, found: object = None
    ) -> None:
        self.path = path
        self.offset = offset
        self.what = what
        self.expected = expected
        self.found = found
        message = f"{path}: corruption at byte {offset}: {what}"
        if expected is not None or found is not None:
            message += f" (expected {expected!r}, found {found!r})"
        super().__init__(message + "; nothing was changed; run `lamina repair` on the directory")

    def __reduce__(self) -> tuple[object, ...]:
        return (CorruptionError, (self.path, self.offset, self.what, self.expected, self.found))


class ContradictionError(CorruptionError):
    """Two entries of a key that cannot both have been written: the newer one says that the key was not live
    when it was, or that it was when it was not. Both are kinds of entries."""

    def __init__(self, path: str, key: bytes, newer: int, older: int) -> None:
        self.key = key
        self.newer = newer
        self.older = older
        super().__init__(path, 0, f"entries of key {key[:64]!r} contradict each other", None, (newer, older))

    def __reduce__(self) -> tuple[object, ...]:
        return (ContradictionError, (self.path, self.key, self.newer, self.older))


class DuplicateKeyError(EngineError):
    """A key occurs twice in what is loaded into a counted database."""

    def __init__(self, key: bytes) -> None:
        self.key = key
        super().__init__(f"key {key[:64]!r} occurs twice in what is loaded")


class FormatVersionError(EngineError):
    """The files were written by a newer version of Lamina, or are not Lamina's at all."""


class LockedError(EngineError):
    """Another process (or this one) has the database open for writing."""


class ClosedError(EngineError):
    """The database, snapshot or batch has been closed, or belongs to the parent of this forked process."""


class ReadOnlyError(EngineError):
    """A write was asked of a database that was opened with ``read_only=True``, or of a snapshot."""


class PoisonedError(EngineError):
    """An fsync failed: what lies on the disk is unknown, so writes are refused until the database is
    reopened."""

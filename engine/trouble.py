"""What has gone wrong in the background, and when to try again.

`error` is what stops the work now: it is shown in stats, raised to those who wait, and forgotten with the
next success. `damage` stays: corrupt runs are left alone until the database has been repaired, because trying
again cannot help.
"""

from __future__ import annotations

import time
import traceback

from lamina.engine.errors import CorruptionError

_RETRY_FIRST_S = 0.1
_RETRY_MAX_S = 5.0
_DEATHS_MAX = 3
"""A worker that dies so often without finishing a job in between is in trouble: pause as after an error."""


class Trouble:
    """The state of the background's failures. Used under its install lock."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.damage: CorruptionError | None = None
        self.damaged_runs: set[int] = set()
        self._retry_s = _RETRY_FIRST_S
        self._retry_at_s = 0.0
        self._last_death: Exception | None = None
        self._deaths_in_a_row = 0

    def succeeded(self) -> None:
        """A job has been done."""
        self.error = None
        self._retry_s = _RETRY_FIRST_S
        self._deaths_in_a_row = 0

    def failed(self, error: Exception, runs: frozenset[int]) -> None:
        """A job on `runs` has failed: keep the error, and try again after a pause."""
        if isinstance(error, CorruptionError):
            self.damaged_runs |= runs
            self.damage = self.damage or error
        # Kept, the variables of the calls that failed would keep the segments they speak of from being
        # removed.
        traceback.clear_frames(error.__traceback__)
        self.error = error
        self._retry_at_s = time.monotonic() + self._retry_s
        self._retry_s = min(self._retry_s * 2, _RETRY_MAX_S)

    def worker_died(self, error: Exception) -> bool:
        """The worker is dead; True if that is news (several jobs may report one death)."""
        if error is self._last_death:
            return False
        self._last_death = error
        self._deaths_in_a_row += 1
        return True

    def may_replace_worker(self) -> bool:
        """Whether to start another worker at once."""
        if self._deaths_in_a_row >= _DEATHS_MAX:
            return False
        self._retry_at_s = 0.0
        return True

    def retry_now(self) -> None:
        """Forget the error and its pause: somebody believes that its cause is gone."""
        self._retry_at_s = 0.0
        self.error = None

    def pause_s(self) -> float:
        """Return how long to leave things alone before the next try; 0 if there is nothing wrong."""
        return 0.0 if self.error is None else max(self._retry_at_s - time.monotonic(), 0.0)

"""A snapshot: the database as it was at one moment, for as long as it is held."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from lamina.engine.layers import View
from lamina.engine.reading import ClosedView, Readable


class Snapshot(Readable):
    """A consistent, read-only picture. It pins memtables and files, so close it (or use ``with``) when done.

    Cost: taking one seals the active memtable, which takes microseconds; holding one keeps replaced segments
    on disk.
    """

    def __init__(self, view: View, on_close: Callable[[], None]) -> None:
        self.view = view
        self._on_close: Callable[[], None] | None = on_close

    def close(self) -> None:
        """Let go of what the snapshot pins. Closing twice is fine."""
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            self.view = ClosedView("the snapshot is closed")  # type: ignore[assignment]
            on_close()

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

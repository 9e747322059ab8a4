"""What the server counts of itself, for INFO."""

from __future__ import annotations

from collections import deque

_SAMPLES = 16


class Stats:
    """Running totals since the server started or CONFIG RESETSTAT."""

    __slots__ = (
        "connections",
        "errors",
        "evicted_clients",
        "expired_fields_base",
        "expired_keys_base",
        "expiry_cycles_cut",
        "expiry_ns",
        "input_bytes",
        "output_bytes",
        "output_limit_disconnections",
        "query_limit_disconnections",
        "rejected_connections",
        "samples",
        "unexpected_errors",
    )

    def __init__(self) -> None:
        self.samples: deque[tuple[int, int, int, int]] = deque(maxlen=_SAMPLES)
        """(time in ms, commands, input bytes, output bytes), ten a second: instantaneous_* come of them."""
        self.reset()

    def reset(self) -> None:
        """Begin again."""
        self.connections = 0
        self.rejected_connections = 0
        self.input_bytes = 0
        self.output_bytes = 0
        self.output_limit_disconnections = 0
        self.query_limit_disconnections = 0
        self.evicted_clients = 0
        self.unexpected_errors = 0
        self.expired_keys_base = 0
        """What had expired before: `Databases` counts on."""
        self.expired_fields_base = 0
        self.expiry_ns = 0
        """Time that active expiry has taken."""
        self.expiry_cycles_cut = 0
        """Rounds of it that had to leave something for the next."""
        self.errors: dict[bytes, int] = {}
        """Error replies by their code."""
        self.samples.clear()

    def rates(self) -> tuple[float, float, float]:
        """Return commands, input bytes and output bytes a second, over the last samples."""
        if len(self.samples) < 2:
            return 0.0, 0.0, 0.0
        first, last = self.samples[0], self.samples[-1]
        elapsed_s = max(last[0] - first[0], 1) / 1000
        return tuple((b - a) / elapsed_s for a, b in zip(first[1:], last[1:]))  # type: ignore[return-value]

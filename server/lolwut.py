"""LOLWUT: layers of sediment, drawn anew each time."""

from __future__ import annotations

import math
import random
from typing import Final

from lamina.server.version import REDIS_VERSION, VERSION

_GRAINS: Final = " .:-~=+*#%@"
_COLUMNS: Final = 64
_ROWS: Final = 16
_COLUMNS_MAX: Final = 300
_ROWS_MAX: Final = 100
_FOSSIL: Final = "@"
_FOSSILS_PER_ROW: Final = 0.15


def draw_strata(columns: int = _COLUMNS, rows: int = _ROWS) -> str:
    """Return a cut through layers, the newest on top, and the version below it."""
    columns = min(max(columns, 1), _COLUMNS_MAX)
    rows = min(max(rows, 1), _ROWS_MAX)
    layers = max(rows // 2, 1)
    bends = [random.uniform(0.5, 2.5) for _ in range(3)]
    shifts = [random.uniform(0, math.tau) for _ in range(3)]
    tones = [random.choice(_GRAINS[1:-1]) for _ in range(layers + 4)]
    lines = []
    for row in range(rows):
        line = ""
        for column in range(columns):
            fold = sum(
                math.sin(bend * math.tau * column / columns + shift) / (place + 1)
                for place, (bend, shift) in enumerate(zip(bends, shifts))
            )
            # Deeper layers have been pressed: their folds are flatter.
            depth = row * layers / rows + fold * (1 - row / (2 * rows))
            line += tones[int(depth) % len(tones)] if depth >= 0 else " "
        if random.random() < _FOSSILS_PER_ROW:
            place = random.randrange(columns)
            line = line[:place] + _FOSSIL + line[place + 1 :]
        lines.append(line.rstrip())
    return "\n".join(lines) + f"\n\nLamina ver. {VERSION}, as Redis ver. {REDIS_VERSION}\n"

"""Versions: Lamina's own, and the one of Redis whose behaviour clients may count on."""

from __future__ import annotations

from typing import Final

VERSION: Final = "0.1.0"
"""Lamina's; pyproject.toml has the same."""

REDIS_VERSION: Final = "7.2.4"
"""What HELLO and INFO say: clients choose by it which commands and options they use."""

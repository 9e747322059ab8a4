"""Settings and fixtures of all tests."""

from __future__ import annotations

import pytest
from hypothesis import settings

# Helpers assert as well: without this a failing assert in one shows no values.
pytest.register_assert_rewrite("harness")

from harness.databases import open_db  # noqa: E402

__all__ = ["open_db"]

# On a shared machine time says nothing. The blob repeats a failure elsewhere.
settings.register_profile("lamina", deadline=None, print_blob=True)
settings.load_profile("lamina")

"""Fixtures of the server's tests."""

from __future__ import annotations

from harness.local import local, make_local

__all__ = ["local", "make_local"]

"""Fixtures of the tests of RDB files."""

from __future__ import annotations

from harness.servers import redis_server, start_redis

__all__ = ["redis_server", "start_redis"]

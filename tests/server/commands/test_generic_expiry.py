"""EXPIRE and its kin: times, conditions, errors, events; keys of every type."""

from __future__ import annotations

from typing import Any

import pytest

from harness.keys import contents, made, observe, reopened
from harness.local import LocalClient
from lamina.server.errors import NOT_AN_INTEGER, CommandError, invalid_expire_time, wrong_arity
from lamina.server.numbers import INTEGER_MAX, INTEGER_MIN
from lamina.server.types import keys

__all__ = ["made", "reopened"]


def error(text: str) -> CommandError:
    return CommandError(text.encode())


@pytest.mark.parametrize(
    ("name", "time", "expected_ms"),
    [
        ("EXPIRE", 100, 100_000),
        ("PEXPIRE", 1234, 1234),
        ("EXPIREAT", 1_700_000_100, 100_000),
        ("PEXPIREAT", 1_700_000_001_234, 1234),
    ],
)
def test_keys_expire(made: tuple[LocalClient, Any], name: str, time: int, expected_ms: int) -> None:
    local, before = made
    assert local.clock.now_ms == 1_700_000_000_000
    heard = observe(local)
    assert local(name, "k", time) == 1
    assert heard == [(0, b"expire", b"k")]
    assert local("PTTL", "k") == expected_ms
    assert local("TTL", "k") == (expected_ms + 500) // 1000
    assert local("PEXPIRETIME", "k") == 1_700_000_000_000 + expected_ms
    assert local("EXPIRETIME", "k") == 1_700_000_000 + (expected_ms + 500) // 1000
    local.reload()
    assert contents(local, "k") == before
    local.clock.advance(expected_ms - 1)
    assert local("PTTL", "k") == 1
    local.clock.advance(1)
    heard.clear()
    assert local("TTL", "k") == local("PTTL", "k") == local("EXPIRETIME", "k") == -2
    assert heard == [(0, b"expired", b"k")]
    assert local("DBSIZE") == 0


@pytest.mark.parametrize(
    ("name", "time"),
    [
        ("EXPIRE", 0),
        ("PEXPIRE", -1),
        ("EXPIREAT", 1),
        ("PEXPIREAT", INTEGER_MIN),
        ("PEXPIREAT", 1_700_000_000_000),
    ],
)
def test_a_time_that_has_passed_deletes(made: tuple[LocalClient, Any], name: str, time: int) -> None:
    local, _ = made
    heard = observe(local)
    assert local(name, "k", time) == 1
    assert heard == [(0, b"del", b"k")]
    assert local("DBSIZE") == 0


def test_keys_persist(made: tuple[LocalClient, Any]) -> None:
    local, before = made
    assert local("PERSIST", "k") == local("PERSIST", "none") == 0
    local("EXPIRE", "k", 10)
    local("EXPIRE", "k", 20)
    heard = observe(local)
    assert local("PERSIST", "k") == 1
    assert heard == [(0, b"persist", b"k")]
    assert local("TTL", "k") == local("EXPIRETIME", "k") == -1
    local.wait_out(30_000)
    local.reload()
    assert contents(local, "k") == before


@pytest.mark.parametrize(
    ("old", "new", "met"),
    [
        (None, 100, "NX LT"),
        (100, 200, "XX GT"),
        (100, 50, "XX LT"),
        (100, 100, "XX"),
        # What deletes is subject to conditions as well.
        (None, 0, "NX LT"),
        (100, 0, "XX LT"),
    ],
)
def test_conditions_of_expire(local: LocalClient, old: int | None, new: int, met: str) -> None:
    cases = {name: name in met.split() for name in ("NX", "XX", "GT", "LT")}
    cases["xx gt"] = "XX" in met and "GT" in met
    cases["LT XX"] = cases["XX lt xx"] = "XX" in met and "LT" in met
    cases["nx NX"] = "NX" in met
    for conditions, is_met in cases.items():
        local("SET", "k", 1)
        if old is not None:
            local("EXPIRE", "k", old)
        heard = observe(local)
        assert local("EXPIRE", "k", new, *conditions.split()) == is_met, conditions
        remaining = -2 if is_met and not new else new if is_met else old or -1
        assert local("TTL", "k") == remaining
        assert [name for _, name, _ in heard] == ([b"expire" if new else b"del"] if is_met else [])


def test_errors_of_expire_come_in_order(local: LocalClient) -> None:
    incompatible = error("ERR NX and XX, GT or LT options at the same time are not compatible")
    for name, unit_ms, is_relative in (
        ("EXPIRE", 1000, True),
        ("PEXPIRE", 1, True),
        ("EXPIREAT", 1000, False),
        ("PEXPIREAT", 1, False),
    ):
        too_far = invalid_expire_time(name.lower().encode())
        for key in ("k", "none"):
            local("SET", "k", 1)
            assert local(name, key) == wrong_arity(name.lower().encode())
            assert local(name, key, "x", "foo") == error("ERR Unsupported option foo")
            assert local(name, key, "x", "fo\n\0o") == error("ERR Unsupported option fo")
            assert local(name, key, "x", "NX", "XX") == incompatible
            assert local(name, key, "x", "GT", "LT", "NX") == incompatible
            assert local(name, key, "x", "LT", "GT") == error(
                "ERR GT and LT options at the same time are not compatible"
            )
            assert local(name, key, "x") == local(name, key, "1.5", "NX") == NOT_AN_INTEGER
            assert local(name, key, INTEGER_MAX + 1) == NOT_AN_INTEGER
            if unit_ms > 1:
                assert local(name, key, INTEGER_MIN) == local(name, key, INTEGER_MAX) == too_far
            if is_relative:
                assert local(name, key, INTEGER_MAX // unit_ms) == too_far
            assert local("TTL", "k") == -1


def test_the_latest_time_there_is(local: LocalClient) -> None:
    local("SET", "k", 1)
    assert local("PEXPIREAT", "k", INTEGER_MAX) == 1
    local.reload()
    assert local("PEXPIRETIME", "k") == INTEGER_MAX
    assert local("EXPIRETIME", "k") == (INTEGER_MAX + 500) // 1000
    assert local("PERSIST", "k") == 1


def test_records_that_expire_are_told_by_their_tags() -> None:
    plain = b"\x00" + b"\xff" * 20
    expiring = b"\x10" + (1000).to_bytes(8, "big") + b"value"
    assert [keys._is_expired(raw, 1000) for raw in (plain, expiring)] == [False, True]
    assert not keys._is_expired(expiring, 999)

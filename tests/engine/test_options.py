"""Every bad option is refused with a message that names it and says what it may be."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

import lamina.engine as engine
from lamina.engine.options import KIB, MIB, Options

LIMITS = {
    "memory": (64 * KIB, 1 << 46),
    "memtable_size_bytes": (256, 1 << 40),
    "block_size_bytes": (64, 64 * MIB),
    "segment_size_bytes": (KIB, 1 << 40),
    "filter_bits_per_key": (0, 32),
    "level_runs_max": (2, 64),
    "rate_limit_bytes_per_s": (0, 1 << 46),
    "open_files_max": (8, 1 << 20),
    "workers": (1, 256),
}
CHOICES = {
    "sync": ("always", "everysec", "no"),
    "background": ("process", "thread", "inline"),
    "compression": ("lz4", "none"),
}
SWITCHES = ("create", "error_if_exists", "read_only", "verify_on_open")


def make(**options: Any) -> Options:
    return Options(**options)


@pytest.mark.parametrize("name", LIMITS)
def test_numbers_have_limits(name: str) -> None:
    least, most = LIMITS[name]
    for value in (least, most):
        assert getattr(make(**{name: value}), name) == value
    for value in (least - 1, most + 1):
        with pytest.raises(
            ValueError, match=f"option {name} must be between {least} and {most}, not {value}"
        ):
            make(**{name: value})
    for wrong in ("64", 64.0, True, b"64"):
        with pytest.raises(TypeError, match=f"option {name} must be an integer, not "):
            make(**{name: wrong})


@pytest.mark.parametrize("name", CHOICES)
def test_choices(name: str) -> None:
    for choice in CHOICES[name]:
        assert getattr(make(**{name: choice}), name) == choice
    for wrong in ("", "Always", None, 1, ["lz4"]):
        with pytest.raises(ValueError, match=f"option {name} must be one of '.*', not "):
            make(**{name: wrong})


@pytest.mark.parametrize("name", SWITCHES)
def test_switches_are_true_or_false(name: str) -> None:
    assert getattr(make(**{name: True}), name) is True
    for wrong in (1, 0, "yes", None):
        with pytest.raises(TypeError, match=f"option {name} must be True or False"):
            make(**{name: wrong})


def test_counted_may_be_left_open() -> None:
    assert make().counted is None
    for wrong in (1, "yes"):
        with pytest.raises(TypeError, match="option counted must be True, False or None"):
            make(counted=wrong)


def test_every_option_is_tested_here() -> None:
    tested = {*LIMITS, *CHOICES, *SWITCHES, "counted"}
    assert tested == {field.name for field in dataclasses.fields(Options)}


def test_options_are_keywords_and_do_not_change() -> None:
    with pytest.raises(TypeError):
        Options(True)  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().memory = 5  # type: ignore[misc]


def test_memtable_budget() -> None:
    assert make(memory=600 * MIB).memtable_budget_bytes == 100 * MIB
    assert make(memtable_size_bytes=1000).memtable_budget_bytes == 1000


def test_open_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with pytest.raises(TypeError, match="memori"):
        engine.open(path, memori=5)
    with pytest.raises(ValueError, match="option memory must be between"):
        engine.open(path, memory=5)
    assert not path.exists()

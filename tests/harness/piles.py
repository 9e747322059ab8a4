"""Piles of keys (lamina.engine.pile) as small as tests are: parts of some keys, looked through as large ones
are."""

from __future__ import annotations

import pytest

from lamina.engine import memtable, pile


def shrink_piles(
    monkeypatch: pytest.MonkeyPatch, *, small: int = 8, samples: int = 3, new_max: int = 20
) -> None:
    """Let parts of more than `small` keys be split, by so many samples, and `new_max` keys be dealt out."""
    assert small > samples
    monkeypatch.setattr(pile, "_SMALL", small)
    monkeypatch.setattr(pile, "_SAMPLES", samples)
    monkeypatch.setattr(pile, "NEW_MAX", new_max)
    monkeypatch.setattr(memtable, "NEW_MAX", new_max)

"""Sorted sets, compared with a real redis-server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.commands import (
    ELEMENTS,
    INDEXES,
    INTEGERS,
    KEYS,
    ODD_NUMBERS,
    PATTERNS,
    SCORES,
    SMALL,
    choice,
    command,
    counted,
    few,
    flags,
    histories,
    maybe,
    quick,
    several,
    thorough,
    words,
)
from harness.compat import Pair, Step
from harness.resp import Reply

# Scores with few digits: the two servers write the others differently, which is tested apart.
WHOLE = choice(SMALL, SMALL, SMALL, "1.5", "-0.5", "1e10", "inf", "-inf", "+inf", "-0", "nan", "abc", "0x10")
BOUND = choice(WHOLE, WHOLE.map(lambda score: f"({score}"), "", "(", " 1", "1 ", "[1", "1e999")
# In sets whose members have several scores Redis leaves open what these are: none come into such sets here.
LEX = choice("-", "+", ELEMENTS.map(_bracket), ELEMENTS.map(_parenthesis), ELEMENTS, "")

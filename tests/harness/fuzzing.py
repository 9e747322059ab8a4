"""Fuzzing: a body that is given drawn cases, few of them with every change and very many for some time.

    def restore(local: LocalClient, payload: bytes) -> None: ...

    test_restore, test_restore_for_long = fuzz_tests("restore", restore, "local", PAYLOADS, count=100)

The first is a test like others. The second goes on for LAMINA_FUZZ_SECONDS, with new cases in each round; it
is marked `fuzz`, and `make fuzz` runs it. Hypothesis shrinks what fails, and keeps it in .hypothesis for the
next run. `mutated` is what makes of something valid something that nearly is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SECONDS = float(os.environ.get("LAMINA_FUZZ_SECONDS", "30"))
"""How long each of the long tests goes on."""

_ROUND = 500
"""Cases of one round of a long test: within one Hypothesis also makes cases out of those it has seen."""

Test = Callable[[pytest.FixtureRequest], None]


def fuzz_tests(
    name: str,
    body: Callable[[Any, Any], None],
    fixture: str,
    cases: st.SearchStrategy[Any],
    *,
    count: int,
) -> tuple[Test, Test]:
    """Return a test of `count` cases, and one that goes on for SECONDS; `body` gets fixture and case."""

    def run(request: pytest.FixtureRequest, most: int) -> None:
        subject = request.getfixturevalue(fixture)

        def fuzz(case: Any) -> None:
            body(subject, case)

        fuzz.__qualname__ = name  # Hypothesis files failures under it
        checks = settings(
            max_examples=most, deadline=None, print_blob=True, suppress_health_check=list(HealthCheck)
        )
        checks(given(case=cases)(fuzz))()

    def briefly(request: pytest.FixtureRequest) -> None:
        run(request, count)

    def for_long(request: pytest.FixtureRequest) -> None:
        stop = time.monotonic() + SECONDS
        while time.monotonic() < stop:
            run(request, _ROUND)

    long_test = pytest.mark.timeout(SECONDS + 600)(pytest.mark.fuzz(for_long))
    return briefly, long_test


# Mutations

EDGES = tuple(b"\x00\x01\r\n$*-09?@\x7f\x80\x81\xc0\xc3\xf0\xfe\xff")
"""Bytes at which formats change: the ends of lines, heads and lengths."""

Mutation = tuple[str, int, int, bytes]
"""What is done, where, to how many bytes, and with what."""

MUTATIONS: st.SearchStrategy[list[Mutation]] = st.lists(
    st.tuples(
        st.sampled_from(("set", "set", "set", "insert", "delete", "copy", "cut", "flip")),
        st.integers(0, 1 << 16),
        st.integers(1, 12),
        st.one_of(
            st.sampled_from(EDGES).map(lambda byte: bytes((byte,))),
            st.binary(min_size=1, max_size=9),
            st.sampled_from((b"\xff" * 4, b"\x80\x7f\xff\xff\xff", b"\x81" + b"\xff" * 8, b"\xf0\x00")),
        ),
    ),
    max_size=5,
)


def mutate(data: bytes, mutations: list[Mutation]) -> bytes:
    """Return `data` with some of its bytes changed, added, taken away or repeated."""
    for what, place, size, new in mutations:
        at = place % (len(data) + 1)
        if what == "set":
            data = data[:at] + new + data[at + len(new) :]
        elif what == "insert":
            data = data[:at] + new + data[at:]
        elif what == "delete":
            data = data[:at] + data[at + size :]
        elif what == "copy":
            data = data[:at] + data[at : at + size] * 2 + data[at + size :]
        elif what == "cut":
            data = data[:at]
        elif at < len(data):
            data = data[:at] + bytes((data[at] ^ 1 << size % 8,)) + data[at + 1 :]
    return data


def mutated(data: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Return a strategy for bytes that are nearly those of `data`, or those themselves."""
    return st.builds(mutate, data, MUTATIONS)


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Return `data` cut at the places that `cuts` come to."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:stop] for start, stop in pairwise(places)]

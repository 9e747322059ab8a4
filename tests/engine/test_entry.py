"""The rule that combines two entries of one key, held against histories of a single key."""

from __future__ import annotations

from itertools import product
from random import Random

import pytest

from lamina.engine.entry import (
    DELETE,
    DELTAS,
    INSERT,
    INVALID,
    REMOVE,
    REPLACE,
    VANISHED,
    combine,
    is_live,
)

COUNTED = (INSERT, REPLACE, REMOVE)

TABLE = {
    # (newer, older): what stands for both
    (INSERT, INSERT): INVALID,
    (INSERT, REPLACE): INVALID,
    (INSERT, REMOVE): REPLACE,
    (REPLACE, INSERT): INSERT,
    (REPLACE, REPLACE): REPLACE,
    (REPLACE, REMOVE): INVALID,
    (REMOVE, INSERT): VANISHED,
    (REMOVE, REPLACE): REMOVE,
    (REMOVE, REMOVE): INVALID,
}


@pytest.mark.parametrize(("newer", "older"), list(product(COUNTED, COUNTED)))
def test_table(newer: int, older: int) -> None:
    assert combine(newer, older) == TABLE[newer, older]


def test_an_uncounted_tombstone_is_never_combined() -> None:
    for kind in range(4):
        assert combine(DELETE, kind) == combine(kind, DELETE) == INVALID


def test_numbers_on_disk_stay() -> None:
    assert (DELETE, INSERT, REPLACE, REMOVE) == (0, 1, 2, 3)
    assert DELTAS == (0, 1, 0, -1)
    assert [is_live(kind) for kind in range(4)] == [False, True, True, False]


def test_deltas_add_up() -> None:
    for newer, older in product(COUNTED, COUNTED):
        kind = combine(newer, older)
        if kind == INVALID:
            continue
        delta = 0 if kind == VANISHED else DELTAS[kind]
        assert delta == DELTAS[newer] + DELTAS[older]
        if kind != VANISHED:
            assert is_live(kind) == is_live(newer)


def entry_of(before: bool, after: bool, touched: bool) -> int | None:
    """Return the entry that a layer holds of a key it found `before` and leaves `after`."""
    if not touched or not (before or after):
        return None
    if after:
        return REPLACE if before else INSERT
    return REMOVE


def merge(newer: int | None, older: int | None) -> int | None:
    if newer is None or older is None:
        return older if newer is None else newer
    kind = combine(newer, older)
    assert kind != INVALID, (newer, older)
    return None if kind == VANISHED else kind


def test_neighbours_of_any_history_may_be_merged_in_any_order() -> None:
    """However the layers of a true history are merged, what remains says the same as the history."""
    random = Random(3)
    for _ in range(3000):
        alive = False
        layers: list[int | None] = []
        for _ in range(random.randrange(1, 9)):
            after = random.random() < 0.5
            # A layer that leaves the key as it found it may have been written to all the same.
            entry = entry_of(alive, after, touched=alive != after or random.random() < 0.5)
            layers.append(entry)
            alive = after
        while True:
            first = next((kind for kind in reversed(layers) if kind is not None), None)
            assert (first is not None and is_live(first)) == alive
            assert sum(DELTAS[kind] for kind in layers if kind is not None) == alive
            if len(layers) == 1:
                break
            at = random.randrange(len(layers) - 1)
            layers[at : at + 2] = [merge(layers[at + 1], layers[at])]
        assert layers[0] in ((INSERT,) if alive else (None,))

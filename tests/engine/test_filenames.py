"""File names are built and parsed in one place, and nothing else is taken for one of ours."""

from __future__ import annotations

import pytest

from lamina.engine.filenames import (
    LOCK,
    MANIFEST,
    is_temporary,
    parse_name,
    segment_name,
    temporary_name,
    wal_name,
)


@pytest.mark.parametrize("number", [0, 1, 12, 999_999, 1_000_000, 123_456_789_012])
def test_names_are_read_back(number: int) -> None:
    assert parse_name(wal_name(number)) == ("wal", number)
    assert parse_name(segment_name(number)) == ("seg", number)
    assert is_temporary(temporary_name(segment_name(number)))
    assert not is_temporary(segment_name(number))


def test_names_sort_by_number_up_to_a_million() -> None:
    numbers = [0, 9, 10, 99_999, 100_000, 999_999]
    assert sorted(map(wal_name, numbers)) == list(map(wal_name, numbers))


@pytest.mark.parametrize(
    "name",
    [
        LOCK,
        MANIFEST,
        "",
        "12.wal",
        "000012.sst",
        "000012.wal.tmp",
        "x000012.wal",
        "000012.wal ",
        "000012.WAL",
        "-00012.wal",
        # Other spellings of a number: the engine would look for the file under the usual one.
        "000012.wal\n",
        "0000012.wal",
        "\u0660\u0660\u0660\u0660\u0661\u0662.wal",
    ],
)
def test_other_names_are_nobodys(name: str) -> None:
    assert parse_name(name) is None


def test_only_our_own_unfinished_files_are_swept() -> None:
    assert is_temporary("MANIFEST.tmp")
    assert is_temporary("000034.seg.tmp")
    for name in ("MANIFEST", "holiday.tmp", ".tmp", "LOCK.tmp", "34.seg.tmp", "000034.seg.tmp.tmp"):
        assert not is_temporary(name), name

"""Which entries a verb is asked for: the options that name a range, and what they mean."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from lamina.engine.reading import range_bounds
from lamina.tools.console import UsageError, bytes_of, json_text


class Selection(NamedTuple):
    """A range of keys, how many entries of it are wanted at most, and how they are printed."""

    start: bytes
    stop: bytes | None
    limit: int | None = None
    count_only: bool = False
    as_json: bool = False


def add_range(parser: argparse.ArgumentParser, *, prefix: bool = True) -> None:
    """Add --start and --stop, and --prefix."""
    parser.add_argument("--start", metavar="KEY", help="from this key on; escapes as \\n and \\x00 are read")
    parser.add_argument("--stop", metavar="KEY", help="up to this key, itself not included")
    if prefix:
        parser.add_argument("--prefix", metavar="KEY", help="keys that begin so")


def selection_of(arguments: argparse.Namespace, prefix: bytes = b"", *, is_hex: bool = False) -> Selection:
    """Return what the arguments ask for; every bound is put behind `prefix`. Errors: UsageError."""
    read: Callable[[str], bytes] = from_hex if is_hex else bytes_of
    texts = (arguments.start, arguments.stop, getattr(arguments, "prefix", None))
    start, stop, begins = (None if text is None else prefix + read(text) for text in texts)
    if prefix and begins is None:
        begins = prefix
    if start is not None and stop is not None and stop < start:
        raise UsageError(f"the range ends before it begins: --start {texts[0]} --stop {texts[1]}")
    low, high = range_bounds(start, stop, begins)
    return Selection(
        low,
        high,
        getattr(arguments, "limit", None),
        getattr(arguments, "count_only", False),
        arguments.json,
    )


def from_hex(text: str) -> bytes:
    """Return the bytes of hexadecimal digits. Errors: UsageError."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise UsageError(f"{text}: with --format hex, keys are given as hexadecimal digits") from None


def print_line(facts: dict[str, Any]) -> None:
    """Print one line of JSON lines."""
    sys.stdout.write(json_text(facts) + "\n")


def print_count(count: int, selection: Selection) -> None:
    """Print how many entries there are."""
    if selection.limit is not None:
        count = min(count, selection.limit)
    if selection.as_json:
        print_line({"entries": count})
    else:
        sys.stdout.write(f"{count}\n")

"""The option --format, and the view that it asks for."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from typing import Final

import lamina.engine as engine
from lamina.engine import Database, EngineError
from lamina.tools.rediskeys import Numbers, Owners, is_servers, looks_servers
from lamina.tools.redisview import EntryView, HexView, RawView, RedisView

_SHOWN_BYTES: Final = 80
"""How much of a value a line shows, unless --full is given."""


def add_format(parser: argparse.ArgumentParser) -> None:
    """Add --format and --full."""
    parser.add_argument(
        "--format",
        choices=("auto", "raw", "hex", "redis"),
        default="auto",
        help="how keys and values are shown; auto: redis if a server has written them, else raw",
    )
    parser.add_argument("--full", action="store_true", help="show keys and values whole, however long")


def view_of(db: Database, arguments: argparse.Namespace) -> EntryView:
    """Return how to show an open database, which must stay open meanwhile."""
    shown_bytes = 0 if arguments.full else _SHOWN_BYTES
    if arguments.format == "hex":
        return HexView(shown_bytes)
    if arguments.format == "raw" or (arguments.format == "auto" and not is_servers(db)):
        return RawView(shown_bytes)
    return RedisView(Numbers.of(db), Owners.of(db), shown_bytes)


@contextlib.contextmanager
def view_of_files(
    directory: str, arguments: argparse.Namespace, sample: list[tuple[bytes, bytes | None]] | None = None
) -> Iterator[EntryView]:
    """Return how to show what lies in a folder, which need not be a database that can be opened.

    `sample` are some of the entries: by them it is guessed who has written the rest.
    """
    shown_bytes = 0 if arguments.full else _SHOWN_BYTES
    if arguments.format == "hex":
        yield HexView(shown_bytes)
        return
    if arguments.format == "raw":
        yield RawView(shown_bytes)
        return
    with contextlib.ExitStack() as stack:
        view: EntryView
        try:
            view = view_of(stack.enter_context(engine.open(directory, read_only=True)), arguments)
        except (EngineError, OSError):
            is_redis = arguments.format == "redis" or (bool(sample) and looks_servers(sample or []))
            view = RedisView(None, None, shown_bytes) if is_redis else RawView(shown_bytes)
        yield view

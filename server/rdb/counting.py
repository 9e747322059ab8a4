"""Holding a collection's elements against the size that was written before them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def counted(chunks: Iterable[list[T]], size: int) -> Iterator[list[T]]:
    """Yield the chunks. Errors: ValueError as soon as there are more than `size` elements, or if fewer."""
    missing = size
    for chunk in chunks:
        missing -= len(chunk)
        if missing < 0:
            raise ValueError(f"a collection of more than {size} elements")
        yield chunk
    if missing:
        raise ValueError(f"a collection of {size - missing} elements instead of {size}")


def gathered(chunks: Iterable[list[T]], size: int) -> list[T]:
    """Return all elements; `size` is below zero where it is not known. Errors: ValueError as above."""
    elements: list[T] = []
    for chunk in chunks if size < 0 else counted(chunks, size):
        elements += chunk
    return elements

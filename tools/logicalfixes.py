"""What a record says of an id, what its elements show, and what is to become of the record.

All checkers of elements are given an `Elements`, and say by its `fix` what the record should be;
logicalrecords.py carries that out.
"""

from __future__ import annotations

from typing import NamedTuple

from lamina.tools.logicalsource import Sink, Source


class Row(NamedTuple):
    """What a record says of one id. `kind` is a type, FIELD_TIMES or STREAM_GROUPS.

    `first`, `second`: of a list the head, and the tail or 0 if it is dense; of a sorted set its form; of
    times the id of the hash, and when the first is due; of a stream's groups the id of the stream, and the
    number of the next.
    """

    id: int
    kind: int
    size: int
    first: int = 0
    second: int = 0


class Fix:
    """What is to become of the record that owns an id. None: as it is."""

    __slots__ = (
        "drops",
        "due_ms",
        "first_id",
        "form",
        "head",
        "is_sparse",
        "next_number",
        "packed_bytes",
        "size",
        "tail",
        "what",
    )

    def __init__(self) -> None:
        self.what: list[str] = []
        """What is wrong, for people."""
        self.drops = False
        """The record goes, or of field times: what it says of them goes."""
        self.size: int | None = None
        self.form: int | None = None
        self.due_ms: int | None = None
        self.head: int | None = None
        self.tail = 0
        self.is_sparse = False
        self.packed_bytes = -1
        self.first_id: bytes | None = None
        """Of a stream's first entry, packed."""
        self.next_number: int | None = None
        """Of the next group of a stream."""


Fixes = dict[int, Fix]


class Elements:
    """The elements of one id as they are checked. `prefix` is what their keys begin with."""

    def __init__(self, source: Source, sink: Sink, prefix: bytes, row: Row, pdb: int) -> None:
        self.source = source
        self.sink = sink
        self.prefix = prefix
        self.row = row
        self.pdb = pdb
        self.fix = Fix()
        self.is_wrong = False

    def note(self, what: str) -> None:
        """Say what is wrong with the collection as a whole."""
        self.is_wrong = True
        self.fix.what.append(what)

    def drop(self, element: bytes, value: bytes, what: str) -> None:
        """Remove an element that makes no sense."""
        key = self.prefix + element
        what = f"collection {self.row.id}: {what}"
        self.sink.error(self.pdb, None, "element", what, dropped=[(key, value)])
        self.sink.delete(key)

    def expect_size(self, found: int, what: str = "elements") -> None:
        """Hold the number of elements against the record."""
        if not found:
            self.note(f"says that it has {self.row.size} {what}, and there are none")
            self.fix.drops = True
        elif found != self.row.size:
            self.note(f"says that it has {self.row.size} {what}, and there are {found}")
            self.fix.size = found

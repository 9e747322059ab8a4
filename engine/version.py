"""Between the manifest's records and the runs they describe."""

from __future__ import annotations

from collections.abc import Callable

from lamina.engine.errors import CorruptionError
from lamina.engine.levels import Levels
from lamina.engine.manifest import RunRecord, SliceRecord
from lamina.engine.run import Run, Slice
from lamina.engine.segment.reader import SegmentReader

OpenSegment = Callable[[int, int, int], SegmentReader]
"""``open_segment(number, size_bytes, database_salt)``."""


def levels_to_records(levels: Levels) -> list[list[RunRecord]]:
    """Return what the manifest keeps of the levels."""
    return [
        [
            RunRecord(
                run.number,
                [
                    SliceRecord(
                        segment=piece.segment.number,
                        file_size_bytes=piece.segment.size_bytes,
                        start=piece.start,
                        stop=piece.stop,
                        entries=piece.entries,
                        base=piece.base,
                        delta=piece.delta,
                        size_bytes=piece.size_bytes,
                    )
                    for piece in run.slices
                ],
            )
            for run in runs
        ]
        for runs in levels.levels
    ]


def slice_from_record(record: SliceRecord, segment: SegmentReader) -> Slice:
    """Return the slice that the manifest describes, of an open segment."""
    return Slice(
        segment,
        record.start,
        record.stop,
        entries=record.entries,
        base=record.base,
        delta=record.delta,
        size_bytes=record.size_bytes,
    )


def levels_from_records(
    records: list[list[RunRecord]], database_salt: int, open_segment: OpenSegment
) -> Levels:
    """Open every segment that the manifest names. A segment that several slices share is opened once.

    Errors: CorruptionError where one is missing or damaged; OSError.
    """
    readers: dict[int, SegmentReader] = {}

    def restore(record: SliceRecord) -> Slice:
        reader = readers.get(record.segment)
        if reader is None:
            try:
                reader = open_segment(record.segment, record.file_size_bytes, database_salt)
            except FileNotFoundError as error:
                raise CorruptionError(str(error.filename), 0, "the segment is missing") from None
            readers[record.segment] = reader
        return slice_from_record(record, reader)

    return Levels(
        [[Run(run.number, [restore(record) for record in run.slices]) for run in runs] for runs in records]
    )

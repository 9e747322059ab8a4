"""All places of a database where a key may lie, searched file by file, so that damage to one hides no other.

    replayed logs          newest first, the last frame first
    runs                   in the manifest's order; of a segment what the slices show
    what is dead           logs that were flushed, segments that no run shows, hidden parts of those it does

Where the manifest cannot be read, every log counts as replayed and every segment as a run, the younger ages
first. Nothing is written, nothing is raised for damage: it is gathered in `damage`.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from lamina.engine import CorruptionError, FormatVersionError
from lamina.engine.discards import Discards
from lamina.engine.entry import is_live
from lamina.engine.filenames import MANIFEST, parse_name, segment_name, wal_name
from lamina.engine.filesystem import DiskFileSystem
from lamina.engine.manifest import Manifest, SliceRecord, read_manifest
from lamina.engine.segment.check import open_uncached
from lamina.engine.segment.reader import SegmentReader
from lamina.tools.provenance import KIND_NAMES
from lamina.tools.segmentfile import SegmentFile
from lamina.tools.walfile import WalFile


class Spot(NamedTuple):
    """One occurrence of a key. `dead` says why no reader ever looks there; "" if readers do.

    `value` is None for a tombstone. `place` names the file and the offset of the frame or block.
    """

    place: str
    facts: dict[str, object]
    kind: int
    value: bytes | None
    dead: str = ""

    @property
    def kind_name(self) -> str:
        """INSERT, REPLACE and so on."""
        return KIND_NAMES.get(self.kind, f"kind {self.kind}")


class LayerCount(NamedTuple):
    """How many entries of a range a layer holds, tombstones among them."""

    place: str
    entries: int


class _Piece(NamedTuple):
    """What a run shows of a segment."""

    level: int
    run: int
    record: SliceRecord


class Haystack:
    """The files of a closed database."""

    def __init__(self, directory: str) -> None:
        """Read the manifest and the logs. Errors: OSError."""
        self.directory = directory
        self.damage: list[str] = []
        self._fs = DiskFileSystem()
        names = [parsed for name in os.listdir(directory) if (parsed := parse_name(name)) is not None]
        self._segment_numbers = sorted(number for kind, number in names if kind == "seg")
        self.manifest = self._read_manifest()
        self._readers: dict[int, SegmentReader | None] = {}
        self._logs = self._read_logs(
            sorted((number for kind, number in names if kind == "wal"), reverse=True)
        )
        self.discards = self._discards()

    def _read_manifest(self) -> Manifest | None:
        try:
            return read_manifest(self._fs, self.directory)
        except FileNotFoundError:
            self.damage.append(f"{os.path.join(self.directory, MANIFEST)}: the manifest is missing")
        except CorruptionError as error:
            self._note(error)
        except FormatVersionError as error:
            self.damage.append(str(error))
        return None

    def _read_logs(self, numbers: list[int]) -> list[tuple[int, WalFile]]:
        logs: list[tuple[int, WalFile]] = []
        for number in numbers:
            path = os.path.join(self.directory, wal_name(number))
            try:
                log = WalFile(path)
            except FormatVersionError as error:
                self.damage.append(str(error))
                continue
            if log.damage is not None and (log.header is not None or log.size_bytes):
                self.damage.append(f"{path}: damaged at byte {log.damage.offset}: {log.damage.what}")
            logs.append((number, log))
        return logs

    def _discards(self) -> Discards:
        manifest = self.manifest
        found = Discards() if manifest is None else Discards(manifest.discards, manifest.discards_last_number)
        for number, log in self._logs:
            if self._is_replayed(number):
                for frame in log.frames():
                    try:
                        for start, stop in frame.operations().discards:
                            found.add(start, stop)
                    except ValueError:
                        continue
        return found

    def _is_replayed(self, number: int) -> bool:
        return self.manifest is None or number >= self.manifest.wal_first

    def _note(self, error: CorruptionError) -> None:
        text = f"{error.path}: damaged at byte {error.offset}: {error.what}"
        if text not in self.damage:
            self.damage.append(text)

    # -- one key -----------------------------------------------------------------------------------

    def spots(self, key: bytes) -> list[Spot]:
        """Return every occurrence of a key: those that readers look at first, newest first."""
        found = [*self._in_logs(key), *self._in_segments(key)]
        return [spot for spot in found if not spot.dead] + [spot for spot in found if spot.dead]

    def newest(self, key: bytes) -> bytes | None:
        """Return what a reader gets for a key."""
        if self.discards.overlapping(key, key + b"\0"):
            return None
        return next((spot.value for spot in self.spots(key) if not spot.dead), None)

    def _in_logs(self, key: bytes) -> Iterator[Spot]:
        for number, log in self._logs:
            for frame in reversed(list(log.frames())):
                if (
                    key not in frame.payload
                ):  # C's search, for the many frames that have nothing to do with it
                    continue
                try:
                    operations = frame.operations()
                except ValueError as error:
                    self.damage.append(f"{log.path}: damaged at byte {frame.offset}: {error}")
                    continue
                for at, kind in enumerate(operations.kinds):
                    if operations.keys[at] == key:
                        dead = "behind damage" if frame.is_behind else ""
                        if not self._is_replayed(number):
                            dead = "flushed before"
                        yield Spot(
                            f"log {number}, frame at byte {frame.offset}",
                            {"log": number, "offset": frame.offset},
                            kind,
                            operations.values[at] if is_live(kind) else None,
                            dead,
                        )

    def _in_segments(self, key: bytes) -> Iterator[Spot]:
        shown: set[int] = set()
        for piece in self._pieces():
            record = piece.record
            if record.start <= key and (record.stop is None or key < record.stop):
                shown.add(record.segment)
                name = f"level {piece.level} run {piece.run} segment {record.segment}"
                facts: dict[str, object] = {
                    "level": piece.level,
                    "run": piece.run,
                    "segment": record.segment,
                }
                yield from self._in_segment(record.segment, key, name, facts, "")
        named = {piece.record.segment for piece in self._pieces()}
        for number in self._segment_numbers:
            if number not in shown:
                dead = "merged before" if number in named else "in no run"
                yield from self._in_segment(number, key, f"segment {number}", {"segment": number}, dead)

    def _pieces(self) -> Iterator[_Piece]:
        """Yield what the runs show, newest run first."""
        if self.manifest is not None:
            for level, runs in enumerate(self.manifest.levels):
                for run in runs:
                    for record in run.slices:
                        yield _Piece(level, run.number, record)
            return
        sound = [(n, reader) for n in self._segment_numbers if (reader := self._reader(n)) is not None]
        for number, reader in sorted(sound, key=lambda item: item[1].properties.age_last, reverse=True):
            p = reader.properties
            record = SliceRecord(
                number, reader.size_bytes, p.start, p.ceiling, p.entries, 0, p.delta, reader.size_bytes
            )
            yield _Piece(p.level, p.run, record)

    def _reader(self, number: int) -> SegmentReader | None:
        if number not in self._readers:
            reader = None
            try:
                reader = open_uncached(self._fs, self.directory, number)
            except CorruptionError as error:
                self._note(error)
            except FormatVersionError as error:
                self.damage.append(str(error))
            except FileNotFoundError as error:
                self.damage.append(f"{error.filename}: the segment is missing")
            self._readers[number] = reader
        return self._readers[number]

    def _in_segment(
        self, number: int, key: bytes, name: str, facts: dict[str, object], dead: str
    ) -> Iterator[Spot]:
        reader = self._reader(number)
        try:
            found = _scan_for(self._path(number), key) if reader is None else _look_up(reader, key)
        except CorruptionError as error:
            self._note(error)
            return
        except OSError:
            return  # that it is missing has been noted
        if found is not None:
            offset, kind, value = found
            yield Spot(
                f"{name}, block at byte {offset}",
                {**facts, "offset": offset},
                kind,
                value if is_live(kind) else None,
                dead,
            )

    def _path(self, number: int) -> str:
        return os.path.join(self.directory, segment_name(number))

    # -- ranges ------------------------------------------------------------------------------------

    def counts(self, start: bytes, stop: bytes) -> list[LayerCount]:
        """Return how many entries of a range each layer holds, newest first, without those that hold none."""
        found: list[LayerCount] = []
        for number, log in self._logs:
            if self._is_replayed(number):
                keys = {key for key in _keys_of(log) if start <= key < stop}
                found.append(LayerCount(f"log {number}", len(keys)))
        runs: dict[str, int] = {}
        for piece in self._pieces():
            name = f"level {piece.level} run {piece.run}"
            runs[name] = runs.get(name, 0) + self._count_in(piece.record, start, stop)
        found += [LayerCount(name, count) for name, count in runs.items()]
        return [count for count in found if count.entries]

    def _count_in(self, record: SliceRecord, start: bytes, stop: bytes) -> int:
        low = max(start, record.start)
        high = stop if record.stop is None else min(stop, record.stop)
        if low >= high:
            return 0
        reader = self._reader(record.segment)
        if reader is None:
            return 0
        try:
            return reader.entries_before(high) - reader.entries_before(low)
        except CorruptionError as error:
            self._note(error)
            return 0


def _keys_of(log: WalFile) -> Iterator[bytes]:
    for frame in log.frames():
        if not frame.is_behind:
            try:
                yield from frame.operations().keys
            except ValueError:
                continue


Found = tuple[int, int, bytes]
"""Offset of the block, kind, value."""


def _look_up(reader: SegmentReader, key: bytes) -> Found | None:
    """Find a key by the indexes, without asking the filters."""
    if bisect_right(reader.part_floors, key) == 0:
        return None
    place = reader.seek(key)
    part = reader.part(place.part)
    block = reader.block(part, place.block)
    if place.row >= block.count or block.key(place.row) != key:
        return None
    return part.offsets[place.block], block.kinds[place.row], block.value(place.row)


def _scan_for(path: str, key: bytes) -> Found | None:
    """Find a key in a segment whose indexes are damaged."""
    with SegmentFile(path) as segment:
        for found in segment.blocks():
            if found.block is not None:
                entry = found.block.find(key)
                if entry is not None:
                    return found.offset, *entry
    return None

"""What `lamina dump` says of single files: segments, logs, manifests. Damage is told in its place."""

from __future__ import annotations

import os
import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

from lamina.engine import CorruptionError, EngineError
from lamina.engine.checksum import crc32c
from lamina.engine.entry import DELETE, REMOVE, is_live
from lamina.engine.filenames import MANIFEST, parse_name
from lamina.engine.filesystem import DiskFileSystem, read_file
from lamina.engine.manifest import Manifest, decode_manifest
from lamina.engine.segment.block import Block
from lamina.tools.console import FINDINGS, FINE, human_count, human_size, print_json
from lamina.tools.damage import complain, complain_of
from lamina.tools.provenance import KIND_NAMES
from lamina.tools.redisview import EntryView, time_text
from lamina.tools.segmentfile import BlockFound, SegmentFile
from lamina.tools.selection import Selection, print_count, print_line
from lamina.tools.walfile import WalFile, WalFrame

VERB: Final = "dump"


# -- segments --------------------------------------------------------------------------------------


def dump_segment(path: str, view: EntryView, selection: Selection, what: str) -> int:
    """Dump `what` of a segment: properties, layout, blocks or entries. Returns the exit status."""
    with SegmentFile(path) as segment:
        if selection.count_only or what == "entries":
            return _dump_entries(segment, view, selection)
        if what == "layout":
            return _dump_layout(segment, selection)
        if what == "blocks":
            return _dump_blocks(segment, view, selection)
        return _dump_properties(segment, view, selection)


def _dump_properties(segment: SegmentFile, view: EntryView, selection: Selection) -> int:
    properties = segment.properties()
    if selection.as_json:
        print_json({"file": segment.path, "size_bytes": segment.size_bytes, **properties._asdict()})
        return FINE
    raw_bytes = properties.key_bytes + properties.value_bytes
    rows: list[tuple[str, str]] = [
        ("file", f"{segment.path}, {human_size(segment.size_bytes)}"),
        ("number", str(properties.number)),
        ("made for", f"level {properties.level}, run {properties.run}"),
        (
            "made",
            time_text(properties.created_s * 1000),
        ),
        ("ages", f"logs {properties.age_first} to {properties.age_last}"),
        ("answers for", _range_text(view, properties.start, properties.stop)),
        ("last key below", "no bound" if properties.ceiling is None else view.key(properties.ceiling)),
        ("entries", f"{human_count(properties.entries)}, {human_count(properties.tombstones)} tombstones"),
        ("delta", f"{properties.delta:+}" + ("" if properties.counted else " (not counted)")),
        ("keys", human_size(properties.key_bytes)),
        ("values", human_size(properties.value_bytes)),
        ("packed", f"{segment.size_bytes / max(raw_bytes, 1):.0%} of keys and values"),
        ("blocks", f"{human_count(properties.blocks)}, {properties.filter_bits_per_key} filter bits per key"),
        ("discards", f"applied up to {properties.discards_applied}"),
    ]
    for name, text in rows:
        sys.stdout.write(f"{name:15} {text}\n")
    return FINE


def _range_text(view: EntryView, start: bytes, stop: bytes | None) -> str:
    low = "the first key" if not start else view.key(start)
    return f"{low} to {'the last key' if stop is None else view.key(stop)}"


def _dump_layout(segment: SegmentFile, selection: Selection) -> int:
    """Print every frame, then sums."""
    status = FINE
    sums: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for found in segment.walk():
        if found.error is not None:
            status = FINDINGS
            complain_of(VERB, found.error)
        counts[found.what] += 1
        sums[found.what] += found.size_bytes
        if selection.as_json:
            print_line(
                {
                    "offset": found.offset,
                    "size_bytes": found.size_bytes,
                    "what": found.what,
                    "codec": found.codec,
                    "raw_bytes": len(found.payload) or None,
                    "damage": None if found.error is None else found.error.what,
                }
            )
        else:
            raw = f", {len(found.payload)} raw" if found.codec == "lz4" else ""
            note = f"  DAMAGED: {found.error.what}" if found.error is not None else ""
            sys.stdout.write(f"{found.offset:10}  {found.size_bytes:8}  {found.what}{raw}{note}\n")
    if not selection.as_json:
        for what, count in counts.items():
            sys.stdout.write(f"{human_count(count):>10} x {what}, {human_size(sums[what])}\n")
    return status


def _dump_blocks(segment: SegmentFile, view: EntryView, selection: Selection) -> int:
    status = FINE
    count = 0
    for found in segment.blocks():
        block = found.block
        if block is None:
            status = FINDINGS
            _print_damaged_block(found, selection)
            continue
        keys = block.keys()
        is_wanted = keys[-1] >= selection.start and (selection.stop is None or keys[0] < selection.stop)
        if not is_wanted or count == selection.limit:
            continue
        count += 1
        tombstones = block.kinds.count(REMOVE) + block.kinds.count(DELETE)
        delta = block.delta(0, block.count)
        if selection.as_json:
            print_line(
                {
                    "offset": found.offset,
                    "size_bytes": found.size_bytes,
                    "raw_bytes": found.raw_bytes,
                    "codec": found.codec,
                    "entries": block.count,
                    "tombstones": tombstones,
                    "delta": delta,
                    "first": keys[0],
                    "last": keys[-1],
                }
            )
        else:
            sizes = f"{found.size_bytes:8} ({found.codec}, {found.raw_bytes} raw)"
            sums = f"{block.count} entries, {tombstones} tombstones, delta {delta:+}"
            bounds = f"{view.key(keys[0])} .. {view.key(keys[-1])}"
            sys.stdout.write(f"{found.offset:10}  {sizes}  {sums}  {bounds}\n")
    return status


def _print_damaged_block(found: BlockFound, selection: Selection) -> None:
    assert found.error is not None
    complain_of(VERB, found.error)
    if selection.as_json:
        print_line({"offset": found.offset, "size_bytes": found.size_bytes, "damage": found.error.what})
    else:
        sys.stdout.write(f"{found.offset:10}  {found.size_bytes:8} DAMAGED: {found.error.what}\n")


def _dump_entries(segment: SegmentFile, view: EntryView, selection: Selection) -> int:
    status = FINE
    count = 0
    for found in segment.blocks():
        if found.block is None:
            status = FINDINGS
            assert found.error is not None
            complain_of(VERB, found.error)
            continue
        keys, first, last = _bounded(found.block, selection)
        if selection.limit is not None:
            last = min(last, first + selection.limit - count)
        count += max(last - first, 0)
        if selection.count_only or first >= last:
            continue
        values, kinds = found.block.values(), found.block.kinds
        for i in range(first, last):
            _print_entry(view, selection, keys[i], kinds[i], values[i], {"offset": found.offset})
        if count == selection.limit:
            break
    if selection.count_only:
        print_count(count, selection)
    return status


def _bounded(block: Block, selection: Selection) -> tuple[list[bytes], int, int]:
    """Return a block's keys, and which of them are asked for."""
    keys = block.keys()
    first = bisect_left(keys, selection.start)
    return keys, first, len(keys) if selection.stop is None else bisect_left(keys, selection.stop)


def _print_entry(
    view: EntryView, selection: Selection, key: bytes, kind: int, value: bytes, place: dict[str, Any]
) -> None:
    live = value if is_live(kind) else None
    name = KIND_NAMES.get(kind, f"kind {kind}")
    if selection.as_json:
        print_line(view.facts(key, live) | {"kind": name, **place})
    else:
        sys.stdout.write(f"{name:7} {view.line(key, live)}\n")


def first_entries(path: str, count: int = 16) -> list[tuple[bytes, bytes | None]]:
    """Return some entries of a segment or log, to see who has written it; none if it cannot be read."""
    found: list[tuple[bytes, bytes | None]] = []
    try:
        if is_log(path):
            for frame in WalFile(path).frames():
                found += zip(*frame.operations()[:2])
                if len(found) >= count:
                    break
        else:
            with SegmentFile(path) as segment:
                for block in segment.blocks():
                    if block.block is not None:
                        found += zip(block.block.keys(), block.block.live_values())
                        break
    except (EngineError, OSError, ValueError):
        pass
    return found[:count]


def is_log(path: str) -> bool:
    """Tell a log from a segment by its name."""
    parsed = parse_name(os.path.basename(path))
    return parsed is not None and parsed[0] == "wal"


# -- logs ------------------------------------------------------------------------------------------


def dump_wal(path: str, view: EntryView, selection: Selection) -> int:
    """Dump a log: its header, its frames, what they write, and damage. Returns the exit status."""
    log = WalFile(path)
    if not selection.count_only:
        _print_log(log, selection)
    count = 0
    for frame in log.frames():
        rows = list(_operations(log, frame, selection))
        if selection.limit is not None:
            rows = rows[: selection.limit - count]
        count += len(rows)
        if not selection.count_only:
            _print_frame(frame, selection)
            for key, kind, value in rows:
                if not selection.as_json:
                    sys.stdout.write("            ")
                _print_entry(view, selection, key, kind, value, {"offset": frame.offset})
            _print_discards(frame, view, selection)
        if count == selection.limit:
            break
    if selection.count_only:
        print_count(count, selection)
    damage = log.damage
    if damage is None:
        return FINE
    behind = log.size_bytes - log.sound_bytes
    tail = f"; {behind} bytes from there on, with {log.frames_behind} sound frames among them"
    return complain(VERB, path, damage.offset, damage.what + tail)


def _operations(log: WalFile, frame: WalFrame, selection: Selection) -> Iterator[tuple[bytes, int, bytes]]:
    try:
        operations = frame.operations()
    except ValueError as error:
        # The checksum is sound, so this is what was written: by a faulty program.
        complain(VERB, log.path, frame.offset, str(error))
        return
    for key, kind, value in zip(operations.keys, operations.kinds, operations.values, strict=True):
        if key >= selection.start and (selection.stop is None or key < selection.stop):
            yield key, kind, value


def _print_log(log: WalFile, selection: Selection) -> None:
    header = log.header
    facts: dict[str, Any] = {"file": log.path, "size_bytes": log.size_bytes, "sound_bytes": log.sound_bytes}
    if header is not None:
        facts |= {"number": header.number, "salt": header.salt, "boot_id": header.boot_id.hex()}
    if log.damage is not None:
        facts["damage"] = {"offset": log.damage.offset, "what": log.damage.what}
        facts["frames_behind"] = log.frames_behind
    if selection.as_json:
        print_line(facts)
        return
    number = "with a damaged header" if header is None else str(header.number)
    sys.stdout.write(f"log {number}, {human_size(log.size_bytes)}: {log.path}\n")


def _print_frame(frame: WalFrame, selection: Selection) -> None:
    facts: dict[str, Any] = {"frame": frame.kind, "offset": frame.offset, "size_bytes": frame.size_bytes}
    note = ""
    if frame.mark is not None:
        facts |= {"log": frame.mark[0], "log_size_bytes": frame.mark[1]}
        note = f" log {frame.mark[0]} up to byte {frame.mark[1]}"
    if frame.is_behind:
        facts["behind_damage"] = True
        note += "  (behind damage: not replayed)"
    if selection.as_json:
        print_line(facts)
    else:
        sys.stdout.write(f"{frame.offset:10}  {frame.size_bytes:8}  {frame.kind}{note}\n")


def _print_discards(frame: WalFrame, view: EntryView, selection: Selection) -> None:
    try:
        discards = frame.operations().discards
    except ValueError:
        return
    for start, stop in discards:
        if selection.as_json:
            print_line({"discard": {"start": start, "stop": stop}, "offset": frame.offset})
        else:
            sys.stdout.write(f"            discard {view.key(start)} .. {view.key(stop)}\n")


# -- manifests -------------------------------------------------------------------------------------


def dump_manifest(directory: str, view: EntryView, *, as_json: bool) -> int:
    """Dump a database's manifest; one with a false checksum too, if it decodes. Returns the exit status."""
    path = os.path.join(directory, MANIFEST)
    data = read_file(DiskFileSystem(), path)
    status = FINE
    try:
        manifest = decode_manifest(path, data)
    except CorruptionError as error:
        complain_of(VERB, error)
        status = FINDINGS
        manifest = decode_manifest(path, _resealed(data))
    if as_json:
        print_json(_manifest_facts(manifest))
    else:
        _print_manifest(path, manifest, view)
    return status


def _resealed(data: bytes) -> bytes:
    """Return a manifest with the checksum that its text asks for."""
    body = data[: data.rfind(b"\n", 0, len(data) - 1) + 1]
    return body + f"crc32c {crc32c(0, body):08x}\n".encode()


def _manifest_facts(manifest: Manifest) -> dict[str, Any]:
    levels = [[run._asdict() for run in runs] for runs in manifest.levels]
    return manifest._asdict() | {"levels": levels}


def _print_manifest(path: str, manifest: Manifest, view: EntryView) -> None:
    write = sys.stdout.write
    write(f"{path}\n")
    kind = "counted" if manifest.counted else "not counted"
    write(f"{kind}, created {time_text(manifest.created_s * 1000)}, ")
    write(f"salt {manifest.salt:08x}\n")
    write(f"logs from {manifest.wal_first} on are replayed; next number {manifest.next_number}\n")
    for level, runs in enumerate(manifest.levels):
        for run in runs:
            size_bytes = sum(piece.size_bytes for piece in run.slices)
            count = sum(piece.entries for piece in run.slices)
            write(
                f"level {level}  run {run.number}: {human_count(count)} entries, {human_size(size_bytes)}\n"
            )
            for piece in run.slices:
                bounds = _range_text(view, piece.start, piece.stop)
                write(f"    segment {piece.segment:6}  {human_count(piece.entries):>10} entries  ")
                write(f"delta {piece.delta:+}  {human_size(piece.size_bytes):>10}  {bounds}\n")
    if not any(chain(manifest.levels)):
        write("no segments\n")
    for item in manifest.discards:
        write(f"discarded {item.number}: {view.key(item.start)} .. {view.key(item.stop)}\n")

"""What is left of one segment: frames found again behind damage, blocks kept, holes bounded."""

from __future__ import annotations

import errno
from itertools import pairwise
from random import Random

import pytest

from harness.fault_filesystem import FaultFileSystem, fail, inject_when
from harness.memory_filesystem import MemoryFileSystem
from harness.trees import DIRECTORY, Workshop, live
from lamina.engine.checksum import file_salt
from lamina.engine.entry import INSERT, REMOVE
from lamina.engine.filenames import segment_name
from lamina.engine.filesystem import FileSystem
from lamina.engine.findings import Findings
from lamina.engine.repair.frames import FoundFrame, walk_frames
from lamina.engine.repair.salvage import Salvage, examine, rewrite
from lamina.engine.segment import format as fmt
from lamina.engine.segment.check import check_segment
from lamina.engine.segment.reader import SegmentReader

ITEMS = {b"key %04d" % number: b"value %d" % number for number in range(400)}
SALT = file_salt(0, 1)


def written(items: dict[bytes, bytes] = ITEMS) -> tuple[Workshop, SegmentReader, str]:
    workshop = Workshop()
    segment = workshop.segment(live(items), block_size_bytes=300)
    return workshop, segment, f"{DIRECTORY}/{segment_name(1)}"


def frames_of(fs: FileSystem, path: str, hints: list[int] | None = None) -> list[FoundFrame]:
    file = fs.open_read(path)
    try:
        return list(walk_frames(file, SALT, hints or []))
    finally:
        file.close()


def salvaged(fs: FileSystem, path: str) -> Salvage:
    return examine(fs, path, 1, SALT, counted=True)


def rewritten(fs: MemoryFileSystem, salvage: Salvage) -> dict[bytes, bytes | None]:
    """Write what is left into segment 2, check that, and return what it holds."""
    rewrite(
        fs,
        salvage,
        DIRECTORY,
        2,
        database_salt=0,
        counted=True,
        start=b"",
        stop=None,
        level=0,
        run=2,
        ages=(1, 1),
        discards_applied=0,
    )
    findings = Findings()
    assert check_segment(fs, DIRECTORY, 2, findings) is not None
    assert findings == []
    workshop = Workshop()
    workshop.fs = fs
    return {
        key: value for keys, values in workshop.open(2).chunks(b"", None) for key, value in zip(keys, values)
    }


def is_lost(key: bytes, salvage: Salvage) -> bool:
    return any(hole.start <= key and (hole.stop is None or key < hole.stop) for hole in salvage.holes)


# -- frames ----------------------------------------------------------------------------------------


def test_a_sound_file_is_walked_to_its_properties() -> None:
    workshop, _, path = written()
    frames = frames_of(workshop.fs, path)
    assert frames[0].offset == fmt.HEADER.size
    assert all(before.end == after.offset for before, after in pairwise(frames))
    assert [frame.what for frame in frames[-2:]] == [fmt.TOP, fmt.PROPERTIES]
    assert frames[-1].end == len(workshop.fs.files()[path]) - fmt.FOOTER.size


@pytest.mark.parametrize("hinted", [True, False])
def test_frames_behind_damage_are_found(hinted: bool) -> None:
    workshop, _, path = written()
    sound = frames_of(workshop.fs, path)
    hints = [frame.offset for frame in sound] if hinted else []
    data = workshop.fs.files()[path]
    random = Random(1)
    for frame in sound:
        for start, size in ((frame.offset, 9), (frame.offset + 4, 1), (frame.end - 1, 1), (frame.offset, 80)):
            noise = random.randbytes(size)
            damaged = data[:start] + noise + data[start + size :]
            workshop.fs.put_file(path, damaged[: len(data)])
            expected = [f for f in sound if f.end <= start or f.offset >= start + size]
            assert frames_of(workshop.fs, path, hints) == expected


def test_a_frame_stored_as_a_value_is_no_frame() -> None:
    workshop, _, path = written()
    inner = workshop.fs.files()[path]
    workshop, _, path = written({b"%02d" % i: inner[i * 300 : i * 300 + 900] for i in range(20)})
    data = workshop.fs.files()[path]
    sound = frames_of(workshop.fs, path)
    workshop.fs.put_file(path, data[:25] + b"\xff" * 20 + data[45:])
    assert frames_of(workshop.fs, path) == sound[1:]


def test_sectors_that_cannot_be_read_are_passed_over() -> None:
    workshop, _, path = written({b"%05d" % i: Random(i).randbytes(40) for i in range(2000)})
    sound = frames_of(workshop.fs, path)
    size = len(workshop.fs.files()[path])
    assert size > 60_000

    def is_bad(operation: object) -> bool:
        return getattr(operation, "kind", "") == "read" and getattr(operation, "size_bytes", 0) > 4096

    faults = FaultFileSystem(workshop.fs, inject_when(is_bad, fail(errno.EIO)))
    assert frames_of(faults, path) == sound, "in small pieces everything can be read"
    with pytest.raises(OSError, match=r"."):
        frames_of(
            FaultFileSystem(workshop.fs, inject_when(lambda o: o.kind == "read", fail(errno.ENOMEM))), path
        )


# -- blocks and holes ------------------------------------------------------------------------------


def test_every_flipped_byte_loses_one_block_or_nothing() -> None:
    workshop, _, path = written()
    fs = workshop.fs
    for offset in range(0, len(fs.files()[path]), 41):
        fs.flip(path, offset)
        salvage = salvaged(fs, path)
        lost = {key for key in ITEMS if is_lost(key, salvage)}
        found = rewritten(fs, salvage)
        assert found == {key: value for key, value in ITEMS.items() if key not in lost}, offset
        assert len(lost) <= 30
        assert len(salvage.holes) <= 1
        assert sum(loss.entries or 0 for loss in salvage.losses()) == len(lost)
        fs.flip(path, offset)
        fs.remove(f"{DIRECTORY}/{segment_name(2)}")


def test_what_is_cut_off_is_a_hole_up_to_the_end() -> None:
    workshop, segment, path = written()
    size = segment.size_bytes
    workshop.fs.truncate_file(path, size // 3)
    salvage = salvaged(workshop.fs, path)
    (hole,) = salvage.holes
    assert hole.stop is None
    assert salvage.properties is None
    found = rewritten(workshop.fs, salvage)
    assert found == {key: value for key, value in ITEMS.items() if key < hole.start}
    assert len(found) > 50


def test_nothing_is_left_of_zeros() -> None:
    workshop, segment, path = written()
    workshop.fs.put_file(path, bytes(segment.size_bytes))
    salvage = salvaged(workshop.fs, path)
    assert salvage.blocks == []
    (hole,) = salvage.holes
    assert (hole.start, hole.stop) == (b"", None)


def test_blocks_that_no_writer_wrote_are_left_out() -> None:
    workshop = Workshop()
    kinds = [INSERT] * 60
    kinds[31] = 0
    entries = [(b"%02d" % i, kinds[i], b"v" * 20) for i in range(60)]
    workshop.segment(entries, block_size_bytes=64)
    path = f"{DIRECTORY}/{segment_name(1)}"
    salvage = examine(workshop.fs, path, 1, SALT, counted=True)
    (hole,) = salvage.holes
    assert hole.start <= b"31" < (hole.stop or b"\xff")
    assert salvage.entries > 50


def test_a_tombstone_with_a_value_loses_the_value() -> None:
    workshop = Workshop()
    entries = [(b"%02d" % i, REMOVE if i == 7 else INSERT, b"v" * 20) for i in range(20)]
    workshop.segment(entries, block_size_bytes=64)
    path = f"{DIRECTORY}/{segment_name(1)}"
    found = rewritten(workshop.fs, examine(workshop.fs, path, 1, SALT, counted=True))
    assert found == {b"%02d" % i: None if i == 7 else b"v" * 20 for i in range(20)}

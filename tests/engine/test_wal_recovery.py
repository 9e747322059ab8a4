"""What opening decides about logs that are not as they were written: which are mended, which are refused.

Each test builds logs with `WalWriter`, damages them, and looks at what `open` says. The same boot stands for
a process that was killed (bytes that were written cannot have changed), another one for a power loss.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

import lamina.engine as engine
from harness.memory_filesystem import FIRST_BOOT, MemoryFileSystem
from lamina.engine.batch import ENTRY
from lamina.engine.entry import REPLACE
from lamina.engine.manifest import Manifest, write_manifest
from lamina.engine.wal import FRAME, HEADER, WalWriter, read_wal

PATH = "/db"
OTHER_BOOT = b"memory boot 0002"
OPTIONS: dict[str, Any] = {"background": "inline", "memory": 1 << 20, "sync": "no"}


@dataclass
class Logs:
    """A database without segments: logs 1, 2, ... with entries named after the order in which they came."""

    fs: MemoryFileSystem = field(default_factory=MemoryFileSystem)
    writers: list[WalWriter] = field(default_factory=list)
    count: int = 0
    ends: list[int] = field(default_factory=list)
    """Where the frames of the newest log end."""

    def __post_init__(self) -> None:
        self.fs.make_directory(PATH)
        self.begin()
        write_manifest(self.fs, PATH, Manifest(False, 0, 0, 2, 1, [], [], 0))

    def begin(self, *, is_linked: bool = True) -> None:
        wal = WalWriter(self.fs, PATH, len(self.writers) + 1)
        if self.writers and is_linked:
            wal.note_link(self.writers[-1].number, self.writers[-1].size_bytes)
        self.writers.append(wal)
        self.ends = [HEADER.size]

    def put(self, count: int = 1) -> Logs:
        for _ in range(count):
            key = b"%03d" % self.count
            self.writers[-1].append(ENTRY.pack(REPLACE, len(key)) + key + b"value")
            self.ends.append(self.writers[-1].size_bytes)
            self.count += 1
        return self

    def sync(self) -> Logs:
        for wal in self.writers:
            wal.sync()
        self.writers[-1].note_durable(self.writers[-1].number, self.writers[-1].size_bytes)
        return self

    def path(self, number: int) -> str:
        return f"{PATH}/{number:06d}.wal"

    def size_bytes(self, number: int) -> int:
        return len(self.fs.files()[self.path(number)])

    def clone(self, boot: bytes = FIRST_BOOT) -> MemoryFileSystem:
        clone = MemoryFileSystem(boot_id=boot)
        for path, data in self.fs.files().items():
            clone.put_file(path, data)
        return clone


def entries(fs: MemoryFileSystem) -> int:
    """Open, and return how many entries there are: the first so many, or the test fails. Opening it once more
    finds the same, and nothing to mend."""
    counts = []
    for turn in range(2):
        with engine.open(PATH, fs=fs, **OPTIONS) as db:
            keys = [key for key, _ in db.scan()]
            assert keys == [b"%03d" % i for i in range(len(keys))]
            counts.append(len(keys))
            assert turn == 0 or db.stats().wal_lost_bytes == 0
    assert counts[0] == counts[1]
    return counts[0]


def refusal(fs: MemoryFileSystem) -> str:
    """Open, which must be refused without anything being changed, and return what was said."""
    before = fs.files()
    with pytest.raises(engine.CorruptionError) as caught:
        engine.open(PATH, fs=fs, **OPTIONS)
    assert {path: data for path, data in fs.files().items() if not path.endswith("LOCK")} == {
        path: data for path, data in before.items() if not path.endswith("LOCK")
    }
    assert caught.value.path in str(caught.value)
    assert "lamina repair" in str(caught.value)
    with pytest.raises(engine.CorruptionError):
        engine.open(PATH, fs=fs, read_only=True, **OPTIONS)
    return str(caught.value)


# -- torn tails -------------------------------------------------------------------------------------


@pytest.mark.parametrize("boot", [FIRST_BOOT, OTHER_BOOT, bytes(16)], ids=["same", "other", "unknown"])
def test_a_tail_torn_at_any_byte_is_cut(boot: bytes) -> None:
    logs = Logs().put(3)
    for size in range(HEADER.size, logs.size_bytes(1) + 1):
        fs = logs.clone(boot)
        fs.truncate_file(logs.path(1), size)
        assert entries(fs) == sum(end <= size for end in logs.ends[1:])


def test_what_was_cut_is_reported() -> None:
    logs = Logs().put(3)
    fs = logs.clone()
    fs.truncate_file(logs.path(1), logs.ends[3] - 1)
    with engine.open(PATH, fs=fs, **OPTIONS) as db:
        assert db.stats().wal_lost_bytes == logs.ends[3] - logs.ends[2] - 1


# -- changed bytes ----------------------------------------------------------------------------------


def test_a_byte_changed_anywhere_is_found() -> None:
    """Same boot: a killed process changes nothing that was written."""
    logs = Logs().put(3)
    for offset in range(logs.size_bytes(1)):
        fs = logs.clone()
        fs.flip(logs.path(1), offset, 1 + offset % 255)
        message = refusal(fs)
        if offset >= HEADER.size:
            start = max(end for end in logs.ends if end <= offset)
            assert message.startswith(f"{logs.path(1)}: corruption at byte {start}: frame ")


def test_after_a_power_loss_a_changed_byte_that_was_not_synced_ends_the_log() -> None:
    logs = Logs().put(2).sync().put(1)
    synced = logs.ends[2]
    logs.put(2)
    for offset in range(HEADER.size, logs.size_bytes(1)):
        fs = logs.clone(OTHER_BOOT)
        fs.flip(logs.path(1), offset, 1 + offset % 255)
        if offset < synced:
            assert "in a part of the log that had been synced" in refusal(fs)
        else:
            assert entries(fs) == max(sum(end <= offset for end in logs.ends[1:]), 2)


def test_a_hole_with_good_frames_behind_it() -> None:
    logs = Logs().put(5)
    data = logs.fs.files()[logs.path(1)]
    holed = data[: logs.ends[1]] + bytes(logs.ends[2] - logs.ends[1]) + data[logs.ends[2] :]
    for boot, expected in ((OTHER_BOOT, 1), (FIRST_BOOT, None), (bytes(16), None)):
        fs = logs.clone(boot)
        fs.put_file(logs.path(1), holed)
        if expected is None:
            assert f"{logs.path(1)}: corruption at byte {logs.ends[1]}: frame header is damaged" in refusal(
                fs
            )
        else:
            assert entries(fs) == expected


def test_bytes_of_a_log_in_a_value_are_no_frames() -> None:
    logs = Logs().put(3)
    stored = logs.fs.files()[logs.path(1)]
    key = b"%03d" % logs.count
    logs.writers[-1].append(ENTRY.pack(REPLACE, len(key)) + key + stored * 3)
    fs = logs.clone(bytes(16))
    fs.truncate_file(logs.path(1), logs.size_bytes(1) - 1)
    assert entries(fs) == 3


# -- more than one log ------------------------------------------------------------------------------


def chain() -> Logs:
    """Log 1 has entries 0..1, log 2 2..3, log 3 4..5."""
    logs = Logs().put(2)
    logs.begin()
    logs.put(2)
    logs.begin()
    return logs.put(2)


def test_a_chain_is_read_whole() -> None:
    for boot in (FIRST_BOOT, OTHER_BOOT, bytes(16)):
        assert entries(chain().clone(boot)) == 6


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_missing_log_is_noticed(number: int) -> None:
    fs = chain().clone(OTHER_BOOT)
    fs.remove(f"{PATH}/{number:06d}.wal")
    if number == 3:
        assert entries(fs) == 4  # nothing says that there was one: its name was never synced, or it is lost
    else:
        message = refusal(fs)
        assert ("the log is missing" if number == 1 else "log before this one") in message


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("kept", ["nothing", "one frame", "a part of a frame"])
def test_an_older_log_that_is_shorter_than_its_successor_says(number: int, kept: str) -> None:
    logs = chain()
    frame = logs.ends[-1] - logs.ends[-2]
    link = FRAME.size + 17 if number > 1 else 0
    size = {"nothing": 0, "one frame": link + frame, "a part of a frame": link + frame + 9}[kept]
    for boot in (FIRST_BOOT, OTHER_BOOT):
        fs = logs.clone(boot)
        fs.truncate_file(logs.path(number), HEADER.size + size)
        if boot == FIRST_BOOT:
            assert f"{logs.path(number)}: corruption at byte" in refusal(fs)
        else:
            assert entries(fs) == 2 * (number - 1) + (kept != "nothing")
            assert read_wal("", fs.files()[logs.path(1)])


def test_an_older_log_that_lost_synced_frames() -> None:
    logs = chain().sync().put(1)
    fs = logs.clone(OTHER_BOOT)
    fs.truncate_file(logs.path(2), HEADER.size)
    assert "had been synced" in refusal(fs)


def test_spare_logs_are_passed_over() -> None:
    logs = Logs().put(2)
    logs.begin(is_linked=False)
    assert entries(logs.clone()) == 2
    logs.writers.append(WalWriter(logs.fs, PATH, 3))
    logs.writers[-1].note_link(1, logs.writers[0].size_bytes)
    logs.ends = [HEADER.size]
    logs.put(2)
    fs = logs.clone()
    assert entries(fs) == 4
    assert not fs.exists(logs.path(2))


def test_a_log_that_follows_nothing_known() -> None:
    logs = Logs().put(2)
    logs.begin(is_linked=False)
    logs.put(1)
    message = refusal(logs.clone())
    assert message.startswith(f"{logs.path(2)}: corruption at byte 44: the link to the log before is missing")


# -- headers ----------------------------------------------------------------------------------------


def test_a_header_that_was_never_finished_belongs_to_a_log_that_was_never_used() -> None:
    for size in range(HEADER.size + 1):
        logs = Logs().put(2)
        logs.begin()
        fs = logs.clone()
        fs.truncate_file(logs.path(2), size)
        assert entries(fs) == 2


def test_a_damaged_header_of_a_log_with_frames_is_damage() -> None:
    logs = chain()
    for number in (1, 2, 3):
        for offset in range(HEADER.size):
            fs = logs.clone(OTHER_BOOT)
            fs.flip(logs.path(number), offset)
            assert refusal(fs).startswith(f"{logs.path(number)}: corruption at byte 0: log header checksum")


def test_a_log_under_the_name_of_another() -> None:
    logs = chain()
    fs = logs.clone()
    fs.replace(logs.path(2), logs.path(3))
    assert "log number (expected 3, found 2)" in refusal(fs)


# -- what is said -----------------------------------------------------------------------------------


def test_messages_name_file_offset_and_remedy() -> None:
    logs = Logs().put(3)
    fs = logs.clone()
    fs.flip(logs.path(1), HEADER.size + FRAME.size)
    assert refusal(fs) == (
        "/db/000001.wal: corruption at byte 44: frame checksum; "
        "nothing was changed; run `lamina repair` on the directory"
    )
    fs = logs.clone()
    fs.remove(logs.path(1))
    assert refusal(fs) == (
        "/db/000001.wal: corruption at byte 0: the log is missing; "
        "nothing was changed; run `lamina repair` on the directory"
    )
    fs = logs.clone()
    fs.remove(f"{PATH}/MANIFEST")
    assert refusal(fs) == (
        "/db/MANIFEST: corruption at byte 0: the manifest is missing, but 000001.wal is there; "
        "nothing was changed; run `lamina repair` on the directory"
    )

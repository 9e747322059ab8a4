"""Damaged files: whatever happens to them, the answer is the right one or an error that names the place.

Small databases are built once; every test damages copies of them, opens each copy and reads everything in it
in every way. Nothing but the right content may come back, nothing but CorruptionError or FormatVersionError
may be raised, and an opening that fails changes nothing.

One loss is allowed, and no other: the newest log may be cut short, as by a process that died in a write. What
is left then is what had been written up to some frame of it (the head of engine/wal.py tells why).

The normal run damages every few bytes; `pytest -m slow` every byte.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import pytest

import lamina.engine as engine
from harness.databases import PATH, TINY
from harness.memory_filesystem import MemoryFileSystem
from lamina.engine.errors import CorruptionError, FormatVersionError
from lamina.engine.filenames import parse_name, segment_name, wal_name
from lamina.engine.segment import format as fmt

OPTIONS = TINY | {"memtable_size_bytes": 4000, "segment_size_bytes": 1024, "block_size_bytes": 200}
State = dict[bytes, bytes]
Files = dict[str, bytes]


@dataclass(frozen=True)
class Sample:
    """The files of a closed database, what it holds, and what it held before each frame of its newest log."""

    files: Files
    state: State
    earlier: list[State]
    keys: list[bytes]

    def names(self, suffix: str = "") -> list[str]:
        return [name for name in self.files if name.endswith(suffix)]

    @property
    def newest_log(self) -> str:
        return self.names(".wal")[-1]


def write(db: engine.Database, state: State, random: Random, count: int, earlier: list[State]) -> None:
    for _ in range(count):
        earlier.append(dict(state))
        kind = random.random()
        if kind < 0.15 and state:
            key = random.choice(sorted(state))
            del state[key]
            db.delete(key)
        elif kind < 0.3:
            with db.batch() as batch:
                for _ in range(5):
                    key = b"k%03d" % random.randrange(400)
                    state[key] = b"batch %d" % random.randrange(1000)
                    batch.put(key, state[key])
        else:
            key = b"k%03d" % random.randrange(400)
            state[key] = b"value %d " % random.randrange(1000) * random.choice((1, 1, 4))
            db.put(key, state[key])


def build(*, counted: bool, seed: int = 1, flushed: int = 300) -> Sample:
    """Make a database with several segments, a discarded range, and two logs that are not flushed."""
    random = Random(seed)
    fs = MemoryFileSystem()
    state: State = {}
    with engine.open(PATH, fs=fs, counted=counted, **OPTIONS) as db:
        write(db, state, random, flushed, [])
        db.flush()
        db.pause()
        write(db, state, random, 30, [])
        db.flush()
        db.discard(b"k050", b"k058")
        state = {key: value for key, value in state.items() if not b"k050" <= key < b"k058"}
        db.put(b"a", b"first")
        state[b"a"] = b"first"
    earlier: list[State] = []
    with engine.open(PATH, fs=fs, **OPTIONS | {"memtable_size_bytes": 100_000}) as db:
        for number in range(15):
            earlier.append(dict(state))
            state[b"z%d" % number] = b"late %d" % number
            db.put(b"z%d" % number, b"late %d" % number)
    found = {
        path.removeprefix(PATH + "/"): data
        for path, data in fs.files().items()
        if path.startswith(PATH) and not path.endswith("LOCK")
    }
    keys = sorted({*state, b"", b"zz", b"k1999", *(b"k%03d" % n for n in range(400) if not 50 <= n < 58)})
    return Sample(found, state, earlier, keys)


@pytest.fixture(scope="module", params=[True, False], ids=["counted", "uncounted"])
def sample(request: pytest.FixtureRequest) -> Sample:
    return build(counted=request.param)


def test_samples_hold_everything(sample: Sample) -> None:
    assert len(sample.names(".seg")) >= 4
    assert len(sample.names(".wal")) >= 2
    assert len(sample.state) > 100
    assert judge(sample, sample.files) == "right"


def disk_of(files: Files) -> MemoryFileSystem:
    fs = MemoryFileSystem()
    for name, data in files.items():
        fs.put_file(f"{PATH}/{name}", data)
    return fs


def read_everything(db: engine.Database, sample: Sample) -> State:
    """Read a database in every way; the ways must agree."""
    found = dict(db.scan())
    assert list(db.scan(reverse=True)) == sorted(found.items(), reverse=True)
    assert {key: value for key in sample.keys if (value := db.get(key)) is not None} == found
    assert db.count() == len(found)
    for n in (0, len(found) // 2, len(found) - 1):
        assert db.select(None, None, n) == sorted(found.items())[n]
    return found


def judge(sample: Sample, files: Files, *, read_only: bool = False) -> str:
    """Open a damaged database and read all of it: returns "right", "earlier", or the error's name."""
    fs = disk_of(files)
    before = fs.files()
    try:
        db = engine.open(PATH, fs=fs, create=False, read_only=read_only, **OPTIONS)
    except (CorruptionError, FormatVersionError) as error:
        check_error(error)
        after = fs.files()
        after.pop(f"{PATH}/LOCK", None)
        assert after == before, "an opening that failed has changed something"
        return type(error).__name__
    try:
        found = read_everything(db, sample)
        if found == sample.state:
            return "right"
        assert found in sample.earlier, "a wrong answer"
        return "earlier"
    except CorruptionError as error:
        check_error(error)
        return type(error).__name__
    finally:
        db.close()


def check_error(error: Exception) -> None:
    """Assert that an error says where."""
    assert PATH in str(error)
    if isinstance(error, CorruptionError):
        assert error.path.startswith(PATH)
        assert error.offset >= 0
        assert "lamina repair" in str(error)


def spread(size: int, count: int) -> Iterator[int]:
    """Return about `count` offsets, more of them near both ends; all offsets if `count` is 0."""
    if not count or count >= size:
        return iter(range(size))
    ends = range(min(24, size))
    return iter(sorted({*ends, *(size - 1 - n for n in ends), *range(0, size, max(size // count, 1))}))


def damaged(data: bytes, offset: int, mask: int) -> bytes:
    copy = bytearray(data)
    copy[offset] ^= mask
    return bytes(copy)


def flip_every(sample: Sample, count: int, *, masks: tuple[int, ...]) -> None:
    for name in sample.names():
        data = sample.files[name]
        for offset in spread(len(data), count):
            for mask in masks:
                mask = mask or 1 << offset % 8
                verdict = judge(sample, sample.files | {name: damaged(data, offset, mask)})
                assert verdict != "earlier", (name, offset, mask)


def cut_every(sample: Sample, count: int) -> None:
    for name in sample.names():
        data = sample.files[name]
        for size in spread(len(data), count):
            verdict = judge(sample, sample.files | {name: data[:size]})
            if name == sample.newest_log:
                assert verdict in ("right", "earlier"), (size, verdict)
            else:
                assert verdict == "CorruptionError", (name, size, verdict)


def test_flipped_bytes(sample: Sample) -> None:
    flip_every(sample, 300, masks=(0,))


def test_truncated_files(sample: Sample) -> None:
    cut_every(sample, 300)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_every_flipped_byte(sample: Sample) -> None:
    flip_every(sample, 0, masks=(0xFF, 0))


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_every_truncation(sample: Sample) -> None:
    cut_every(sample, 0)


def test_every_byte_of_a_segment_and_of_the_manifest_matters(sample: Sample) -> None:
    """None of them may be changed unnoticed, not even by accident of never being read."""
    for name in ("MANIFEST", sample.names(".seg")[0], sample.names(".seg")[-1]):
        data = sample.files[name]
        for offset in spread(len(data), 60):
            verdict = judge(sample, sample.files | {name: damaged(data, offset, 0x10)})
            assert verdict == "CorruptionError", (name, offset)


def test_a_newest_log_that_is_cut_short_loses_its_last_writes_only(sample: Sample) -> None:
    """Each frame that was cut takes one write with it, from the end."""
    data = sample.files[sample.newest_log]
    sizes: dict[int, int] = {}
    for size in range(len(data), -1, -1):
        files = sample.files | {sample.newest_log: data[:size]}
        with engine.open(PATH, fs=disk_of(files), **OPTIONS) as db:
            assert dict(db.scan()) in [*sample.earlier, sample.state]
            sizes[size] = db.count()
            lost = db.stats().wal_lost_bytes
            assert lost <= size
    assert list(sizes.values()) == sorted(sizes.values(), reverse=True)
    assert sizes[len(data)] == len(sample.state)
    assert sizes[0] == len(sample.earlier[0])
    assert set(sizes.values()) == {len(state) for state in [*sample.earlier, sample.state]}


def test_what_was_cut_stays_cut(sample: Sample) -> None:
    """A torn tail is mended when it is found: later writes follow what is left, and nothing comes back."""
    data = sample.files[sample.newest_log]
    fs = disk_of(sample.files | {sample.newest_log: data[: len(data) * 2 // 3]})
    with engine.open(PATH, fs=fs, **OPTIONS) as db:
        kept = dict(db.scan())
        assert kept in sample.earlier
        assert db.stats().wal_lost_bytes > 0
        db.put(b"new", b"1")
    for _ in range(2):
        with engine.open(PATH, fs=fs, **OPTIONS) as db:
            assert dict(db.scan()) == kept | {b"new": b"1"}
            assert db.stats().wal_lost_bytes == 0


def test_zeroed_ranges(sample: Sample) -> None:
    for name in sample.names():
        data = sample.files[name]
        for size in (1, 16, 300):
            for offset in spread(len(data), 12):
                part = data[offset : offset + size]
                if part.strip(b"\0"):
                    copy = data[:offset] + bytes(len(part)) + data[offset + len(part) :]
                    verdict = judge(sample, sample.files | {name: copy})
                    assert verdict in ("right", "CorruptionError"), (name, offset, size, verdict)


def test_appended_bytes(sample: Sample) -> None:
    for name in sample.names():
        for more in (b"\0", bytes(100), b"\xff" * 40, sample.files[name]):
            verdict = judge(sample, sample.files | {name: sample.files[name] + more})
            if name == sample.newest_log:
                # Less than a frame's header behind the last frame is a write that was cut short.
                assert verdict in ("right", "CorruptionError"), (name, verdict)
            else:
                assert verdict == "CorruptionError", (name, verdict)


def test_missing_files(sample: Sample) -> None:
    for name in sample.names():
        files = {other: data for other, data in sample.files.items() if other != name}
        verdict = judge(sample, files)
        if name == sample.newest_log:
            assert verdict == "earlier"
        else:
            assert verdict == "CorruptionError", name


def test_swapped_files(sample: Sample) -> None:
    for suffix in (".seg", ".wal"):
        for one, other in itertools.combinations(sample.names(suffix), 2):
            swapped = {one: sample.files[other], other: sample.files[one]}
            assert judge(sample, sample.files | swapped) == "CorruptionError", (one, other)


def test_one_file_in_the_place_of_another(sample: Sample) -> None:
    for one, other in itertools.permutations(sample.names(), 2):
        verdict = judge(sample, sample.files | {one: sample.files[other]})
        assert verdict == "CorruptionError", (one, other)


def test_files_under_other_names(sample: Sample) -> None:
    for name in sample.names(".seg") + sample.names(".wal"):
        parsed = parse_name(name)
        assert parsed is not None
        kind, number = parsed
        make_name = segment_name if kind == "seg" else wal_name
        for other in (make_name(number + 1000), make_name(1), name + ".bak", "000000.seg"):
            if other in sample.files:
                continue
            copies = sample.files | {other: sample.files[name]}
            verdict = judge(sample, copies)
            assert verdict in ("right", "CorruptionError"), (name, other)
            if kind == "seg":
                assert verdict == "right", (name, other)  # files of nobody are swept
            renamed = {n: data for n, data in copies.items() if n != name}
            verdict = judge(sample, renamed)
            if name != sample.newest_log:
                assert verdict == "CorruptionError", (name, other)
            else:
                assert verdict in ("earlier", "CorruptionError"), (name, other)


def frames_of(data: bytes) -> list[tuple[int, int]]:
    """Return (offset, size) of every frame of a segment."""
    found = []
    offset = fmt.HEADER.size
    while offset < len(data) - fmt.FOOTER.size:
        _, size, _ = fmt.FRAME.unpack_from(data, offset)
        found.append((offset, fmt.FRAME.size + size))
        offset += fmt.FRAME.size + size
    return found


def test_swapped_blocks(sample: Sample) -> None:
    """A block that is sound in itself is refused in any place but its own."""
    for name in sample.names(".seg"):
        data = sample.files[name]
        frames = frames_of(data)
        pairs = list(itertools.combinations(frames, 2))
        for (a, a_size), (b, b_size) in Random(1).sample(pairs, min(len(pairs), 12)):
            copy = (
                data[:a] + data[b : b + b_size] + data[a + a_size : b] + data[a : a + a_size]
                + data[b + b_size :]
            )  # fmt: skip
            assert len(copy) == len(data)
            assert judge(sample, sample.files | {name: copy}) == "CorruptionError", (name, a, b)


def test_blocks_of_other_segments(sample: Sample) -> None:
    first, second = sample.names(".seg")[:2]
    for (a, a_size), (b, b_size) in itertools.product(
        frames_of(sample.files[first])[:6], frames_of(sample.files[second])[:6]
    ):
        size = min(a_size, b_size)
        data = sample.files[first]
        copy = data[:a] + sample.files[second][b : b + size] + data[a + size :]
        assert judge(sample, sample.files | {first: copy}) == "CorruptionError"


def test_files_of_another_database(sample: Sample) -> None:
    other = build(counted=True, seed=2, flushed=350)
    for name in sample.names():
        for foreign in other.names(name[-4:]):
            verdict = judge(sample, sample.files | {name: other.files[foreign]})
            assert verdict == "CorruptionError", (name, foreign)


def test_an_older_manifest(sample: Sample) -> None:
    """A manifest restored from a backup names files that are gone."""
    fs = disk_of(sample.files)
    with engine.open(PATH, fs=fs, **OPTIONS) as db:
        db.compact()
        db.put(b"more", b"")
    files = {path.removeprefix(PATH + "/"): data for path, data in fs.files().items() if "LOCK" not in path}
    assert judge(sample, files | {"MANIFEST": sample.files["MANIFEST"]}) == "CorruptionError"


def test_a_database_opened_read_only_is_as_careful(sample: Sample) -> None:
    for name in sample.names():
        data = sample.files[name]
        for offset in spread(len(data), 5):
            verdict = judge(sample, sample.files | {name: damaged(data, offset, 0x80)}, read_only=True)
            assert verdict != "earlier"
        for size in (0, len(data) // 2, len(data) - 1):
            verdict = judge(sample, sample.files | {name: data[:size]}, read_only=True)
            allowed = ("right", "earlier") if name == sample.newest_log else ("CorruptionError",)
            assert verdict in allowed, (name, size)


def test_verify_on_open_finds_what_nobody_has_asked_for(sample: Sample) -> None:
    name = sample.names(".seg")[0]
    offset, size = frames_of(sample.files[name])[0]
    fs = disk_of(sample.files | {name: damaged(sample.files[name], offset + size - 1, 1)})
    with engine.open(PATH, fs=fs, **OPTIONS | {"level_runs_max": 64}) as db:
        with pytest.raises(CorruptionError, match="data block checksum") as caught:
            db.verify()
        assert (caught.value.path, caught.value.offset) == (f"{PATH}/{name}", offset)
    with pytest.raises(CorruptionError, match="data block checksum"):
        engine.open(PATH, fs=fs, verify_on_open=True, **OPTIONS)
    engine.open(PATH, fs=disk_of(sample.files), verify_on_open=True, **OPTIONS).close()


def test_a_damaged_run_does_not_stop_the_rest(sample: Sample) -> None:
    """A merge that meets damage gives up its runs; everything else goes on, and stats say so."""
    name = sample.names(".seg")[0]
    offset, size = frames_of(sample.files[name])[0]
    fs = disk_of(sample.files | {name: damaged(sample.files[name], offset + size - 1, 1)})
    with engine.open(PATH, fs=fs, **OPTIONS | {"level_runs_max": 64}) as db:
        with pytest.raises(CorruptionError):
            db.compact()
        error = db.stats().background_error
        assert error is not None
        assert name in error
        for n in range(300):
            db.put(b"w%03d" % n, b"written on")
        db.flush()
        assert db.count(prefix=b"w") == 300
        assert db[b"w123"] == b"written on"

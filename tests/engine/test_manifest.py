"""The manifest: readable text that is either whole or refused, and is replaced atomically."""

from __future__ import annotations

import errno
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.fault_filesystem import FaultFileSystem, fail_nth, inject_nth, torn_write
from harness.memory_filesystem import MemoryFileSystem
from lamina.engine.checksum import crc32c
from lamina.engine.discards import DiscardedRange
from lamina.engine.errors import CorruptionError, FormatVersionError
from lamina.engine.manifest import (
    Manifest,
    RunRecord,
    SliceRecord,
    decode_manifest,
    encode_manifest,
    read_manifest,
    write_manifest,
)

PATH = "/db/MANIFEST"

numbers = st.integers(0, 2**53)
keys = st.binary(max_size=30)
slices = st.builds(
    SliceRecord,
    segment=numbers,
    file_size_bytes=numbers,
    start=keys,
    stop=st.none() | keys,
    entries=numbers,
    base=st.integers(-(2**53), 2**53),
    delta=st.integers(-(2**53), 2**53),
    size_bytes=numbers,
)
runs = st.builds(RunRecord, numbers, st.lists(slices, max_size=3))
manifests = st.builds(
    Manifest,
    counted=st.booleans(),
    created_s=numbers,
    next_number=numbers,
    wal_first=numbers,
    levels=st.lists(st.lists(runs, max_size=3), max_size=3),
    discards=st.lists(st.builds(DiscardedRange, keys, keys, numbers), max_size=3),
    discards_last_number=numbers,
)

SAMPLE = Manifest(
    counted=True,
    salt=0xFEDCBA98,
    created_s=1_700_000_000,
    next_number=42,
    wal_first=40,
    levels=[
        [RunRecord(7, [SliceRecord(8, 4096, b"user:1 ~%\xff\0", None, 10, -1, 9, 4000)])],
        [],
        [
            RunRecord(
                3, [SliceRecord(4, 100, b"", b"m", 1, 0, 1, 100), SliceRecord(5, 9, b"m", None, 1, 0, 1, 9)]
            )
        ],
    ],
    discards=[DiscardedRange(b"a", b"b\n", 3)],
    discards_last_number=4,
)


@given(manifests)
def test_round_trip(manifest: Manifest) -> None:
    assert decode_manifest(PATH, encode_manifest(manifest)) == manifest


def test_it_is_text_for_people() -> None:
    text = encode_manifest(SAMPLE).decode("ascii")
    lines = text.splitlines()
    assert lines[0] == "lamina manifest 1"
    assert lines[-1].startswith("crc32c ")
    assert '"start": "user:1 ~%25%FF%00"' in text
    json.loads("\n".join(lines[1:-1]))


def test_every_flipped_byte_and_every_truncation_is_noticed() -> None:
    data = encode_manifest(SAMPLE)
    for at in range(len(data)):
        for mask in (0x01, 0x20, 0xFF):
            damaged = bytearray(data)
            damaged[at] ^= mask
            with pytest.raises(CorruptionError) as caught:
                decode_manifest(PATH, bytes(damaged))
            assert caught.value.path == PATH
        with pytest.raises(CorruptionError):
            decode_manifest(PATH, data[:at])
    for more in (b"\n", b"x", data):
        with pytest.raises(CorruptionError):
            decode_manifest(PATH, data + more)


def sealed(text: str) -> bytes:
    """Return text with a checksum that is right."""
    body = text.encode()
    return body + f"crc32c {crc32c(0, body):08x}\n".encode()


@pytest.mark.parametrize("version", ["2", "0", "", "one", "1.1"])
def test_other_versions_are_refused(version: str) -> None:
    with pytest.raises(FormatVersionError, match="this release knows manifests of version 1"):
        decode_manifest(PATH, sealed(f"lamina manifest {version}\n{{}}\n"))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"counted": true}', "5", json.dumps(SAMPLE._asdict(), default=repr)]
)
def test_what_does_not_decode_is_corrupt(text: str) -> None:
    with pytest.raises(CorruptionError, match="manifest does not decode"):
        decode_manifest(PATH, sealed(f"lamina manifest 1\n{text}\n"))


@pytest.fixture
def fs() -> MemoryFileSystem:
    fs = MemoryFileSystem()
    fs.make_directory("/db")
    fs.sync_directory("/")
    return fs


def test_it_is_replaced_atomically_and_durably(fs: MemoryFileSystem) -> None:
    with pytest.raises(FileNotFoundError):
        read_manifest(fs, "/db")
    write_manifest(fs, "/db", SAMPLE)
    newer = SAMPLE._replace(next_number=43)
    assert write_manifest(fs, "/db", newer) == len(encode_manifest(newer))
    assert fs.list_directory("/db") == ["MANIFEST"]
    for seed in range(20):
        assert read_manifest(fs.power_loss_clone(seed, 0), "/db") == newer


def test_whatever_fails_the_old_one_or_the_new_one_is_there(fs: MemoryFileSystem) -> None:
    write_manifest(fs, "/db", SAMPLE)
    newer = SAMPLE._replace(next_number=43)
    n = 0
    while True:
        clone = fs.process_crash_clone()
        faults = FaultFileSystem(clone, fail_nth(n, errno.EIO))
        try:
            write_manifest(faults, "/db", newer)
        except OSError:
            pass
        if not faults.injected:
            break
        for seed in range(10):
            assert read_manifest(clone.power_loss_clone(seed), "/db") in (SAMPLE, newer)
        # What is left over does not stand in the way of the next attempt.
        write_manifest(clone, "/db", newer)
        assert read_manifest(clone, "/db") == newer
        n += 1
    assert n >= 5


def test_a_torn_write_is_never_published(fs: MemoryFileSystem) -> None:
    write_manifest(fs, "/db", SAMPLE)
    for size_bytes in (0, 1, 100):
        torn = inject_nth(0, torn_write(size_bytes, errno.ENOSPC), kind="write")
        faults = FaultFileSystem(fs.process_crash_clone(), torn)
        with pytest.raises(OSError, match="No space left"):
            write_manifest(faults, "/db", SAMPLE._replace(next_number=43))
        assert read_manifest(faults, "/db") == SAMPLE

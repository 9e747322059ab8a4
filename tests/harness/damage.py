"""Damaged databases: what can happen to the files of one, as a catalogue that several tests go through.

    files = sample(counted=True).files                # name -> content, of a closed database
    for damage in catalogue(files):
        damaged = damage.apply(files)                 # files without what it takes away, or changed

Nothing here knows what is right: tests hold what is found, and what is left, against the sample's content.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Any

import lamina.engine as engine
from harness.databases import PATH, TINY
from harness.memory_filesystem import MemoryFileSystem
from lamina.engine.filenames import MANIFEST, parse_name
from lamina.engine.filesystem import FileSystem

Files = dict[str, bytes]
State = dict[bytes, bytes]

OPTIONS: dict[str, Any] = TINY | {
    "memtable_size_bytes": 4000,
    "segment_size_bytes": 1024,
    "block_size_bytes": 200,
    "level_runs_max": 3,
}


@dataclass(frozen=True)
class Sample:
    """The files of a closed database, what it holds, and every value that each key has ever had."""

    files: Files
    state: State
    history: dict[bytes, set[bytes]]
    counted: bool

    def names(self, suffix: str) -> list[str]:
        return [name for name in self.files if name.endswith(suffix)]


@dataclass(frozen=True)
class Damage:
    """One thing that happens to files. `names`: those concerned."""

    what: str
    names: tuple[str, ...]
    apply: Callable[[Files], Files]

    def __str__(self) -> str:
        return f"{'+'.join(self.names)}: {self.what}"


def sample(*, counted: bool = True, seed: int = 1, writes: int = 700) -> Sample:
    """Make a database of several levels, with a discarded range, and two logs that are not flushed."""
    random = Random(seed)
    fs = MemoryFileSystem()
    state: State = {}
    history: dict[bytes, set[bytes]] = {}

    def write(db: engine.Database, count: int) -> None:
        for number in range(count):
            key = b"k%03d" % random.randrange(300)
            if random.random() < 0.2:
                state.pop(key, None)
                db.delete(key)
            else:
                value = b"%d " % random.randrange(10_000) * random.choice((1, 2, 6))
                state[key] = value
                history.setdefault(key, set()).add(value)
                db.put(key, value)
            if number % 90 == 89:
                with db.batch() as batch:
                    for key in (b"b1", b"b2", b"b3"):
                        state[key] = b"batch %d" % number
                        history.setdefault(key, set()).add(state[key])
                        batch.put(key, state[key])

    with engine.open(PATH, fs=fs, counted=counted, **OPTIONS) as db:
        write(db, writes)
        db.flush()
        db.compact()
        write(db, writes // 3)
        db.flush()
        db.pause()
        db.discard(b"k050", b"k058")
        for key in [key for key in state if b"k050" <= key < b"k058"]:
            del state[key]
        db.flush()
        for key in (b"a", b"k200", b"k201"):
            state[key] = b"last"
            history.setdefault(key, set()).add(b"last")
            db.put(key, b"last")
    for session in range(2):
        with engine.open(PATH, fs=fs, **OPTIONS | {"memtable_size_bytes": 100_000}) as db:
            for number in range(12):
                key = b"z%d" % number
                state[key] = b"late %d %d" % (session, number)
                history.setdefault(key, set()).add(state[key])
                db.put(key, state[key])
    return Sample(files_of(fs), state, history, counted)


def files_of(fs: MemoryFileSystem, directory: str = PATH) -> Files:
    """Return the files of a folder, without those of its folders and the lock."""
    found = {
        path.removeprefix(directory + "/"): data
        for path, data in fs.files().items()
        if path.startswith(directory + "/")
    }
    return {name: data for name, data in found.items() if "/" not in name and name != "LOCK"}


def disk_of(files: Files, directory: str = PATH) -> MemoryFileSystem:
    """Return a disk with these files in the database's folder."""
    fs = MemoryFileSystem()
    for name, data in files.items():
        fs.put_file(f"{directory}/{name}", data)
    return fs


def write_files(fs: FileSystem, directory: str, files: Files) -> None:
    """Make a folder with these files on any file system."""
    fs.make_directory(directory)
    for name, data in files.items():
        file = fs.create(f"{directory}/{name}")
        file.write(data)
        file.close()


# -- single damages --------------------------------------------------------------------------------


def missing(name: str) -> Damage:
    """Take a file away."""
    return Damage("missing", (name,), lambda files: {n: data for n, data in files.items() if n != name})


def changed(name: str, what: str, change: Callable[[bytes], bytes]) -> Damage:
    """Change a file's content."""
    return Damage(what, (name,), lambda files: files | {name: change(files.get(name, b""))})


def truncated(name: str, size_bytes: int) -> Damage:
    """Cut a file."""
    return changed(name, f"cut to {size_bytes} bytes", lambda data: data[:size_bytes])


def grown(name: str, tail: bytes) -> Damage:
    """Put something behind a file's end."""
    return changed(name, f"{len(tail)} bytes longer", lambda data: data + tail)


def filled(name: str, start: int, stop: int, byte: int = 0) -> Damage:
    """Write one byte over and over."""
    return changed(
        name,
        f"bytes {start} to {stop} are {byte:#x}",
        lambda data: data[:start] + bytes((byte,)) * (min(stop, len(data)) - start) + data[stop:],
    )


def flipped(name: str, offset: int, mask: int = 0xFF) -> Damage:
    """Flip bits of one byte."""
    return changed(
        name,
        f"byte {offset} is flipped",
        lambda data: (
            data[:offset] + bytes((data[offset] ^ mask,)) + data[offset + 1 :] if offset < len(data) else data
        ),
    )


def moved_inside(name: str, source: int, target: int, size_bytes: int) -> Damage:
    """Write a part of a file over another one, as a misdirected write does."""

    def change(data: bytes) -> bytes:
        piece = data[source : source + size_bytes]
        return data[:target] + piece + data[target + len(piece) :]

    return changed(name, f"bytes {source} to {source + size_bytes} also at {target}", change)


def swapped(one: str, other: str) -> Damage:
    """Give two files each other's name."""

    def apply(files: Files) -> Files:
        if one not in files or other not in files:
            return files
        return files | {one: files[other], other: files[one]}

    return Damage("swapped", (one, other), apply)


def duplicated(name: str, other: str) -> Damage:
    """Write a file over another one."""
    return Damage("written over another", (name, other), lambda files: files | {other: files.get(name, b"")})


def both(one: Damage, other: Damage) -> Damage:
    """Two damages, one after the other."""
    return Damage(
        f"{one.what}, {other.what}", (*one.names, *other.names), lambda files: other.apply(one.apply(files))
    )


# -- the catalogue ---------------------------------------------------------------------------------


def catalogue(files: Files, *, step: int = 97) -> Iterator[Damage]:
    """Yield damage of every kind, to every file. `step`: bytes between those that are flipped."""
    names = [name for name in files if name == MANIFEST or parse_name(name) is not None]
    for name in names:
        size = len(files[name])
        yield missing(name)
        for size_bytes in sorted({0, 10, 43, size // 3, size - 45, size - 1}):
            if 0 <= size_bytes < size:
                yield truncated(name, size_bytes)
        yield grown(name, b"\0" * 100)
        yield grown(name, files[name][:60])
        yield filled(name, 0, size)
        yield filled(name, 0, 64)
        yield filled(name, size // 2, size // 2 + 200, 0xFF)
        yield filled(name, max(size - 64, 0), size)
        yield moved_inside(name, size // 4, size // 2, 150)
        for offset in range(0, size, step):
            yield flipped(name, offset)
    for suffix in ("wal", "seg"):
        some = [name for name in names if name.endswith(suffix)]
        for one, other in pairwise(some):
            yield swapped(one, other)
            yield duplicated(one, other)
    if len(names) > 2:
        yield swapped(names[0], names[-1])


def pairs(files: Files, count: int, seed: int = 1) -> Iterator[Damage]:
    """Yield pairs of damages at random."""
    random = Random(seed)
    damages = list(catalogue(files))
    for _ in range(count):
        yield both(*random.sample(damages, 2))


def everything_at_random(files: Files, random: Random) -> Damage:
    """Return damage of any kind and place."""
    name = random.choice(sorted(files))
    size = max(len(files[name]), 1)
    at = random.randrange(size)
    other = random.choice(sorted(files))
    return random.choice(
        [
            missing(name),
            truncated(name, at),
            grown(name, random.randbytes(random.randrange(300))),
            filled(name, at, at + random.randrange(400), random.choice((0, 0xFF, 0x41))),
            flipped(name, at, 1 << random.randrange(8)),
            moved_inside(name, random.randrange(size), at, random.randrange(400)),
            swapped(name, other),
            duplicated(name, other),
            filled(name, at, at + 30, random.randrange(256)),
        ]
    )

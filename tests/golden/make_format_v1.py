"""Writes the golden databases of format version 1, with what they hold as JSON beside them.

    python tests/golden/make_format_v1.py

    format_v1/counted/          a counted database
    format_v1/uncounted/        one that is not
    format_v1/contents.json     of both: [key, value] in order, in hexadecimal; large ones as size and SHA-256

Run once, when a format version is new: what is kept was written by the release that introduced it, and must
be read by every later one. Running it again later would prove nothing, so it refuses to overwrite.

The databases hold every kind of entry, in segments and in logs; keys and values that are empty, huge, of
equal and of different lengths, compressible and not; keys that agree for longer than an index keeps of them;
index parts, wide columns, blocks without filters and without compression; several levels, divided segments,
discarded ranges, and logs that were not flushed. `test_golden.py` checks that it is so.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from random import Random
from typing import Any

import lamina.engine as engine

HERE = Path(__file__).parent
FOLDER = HERE / "format_v1"
LARGE_BYTES = 48

State = dict[bytes, bytes]

SMALL: dict[str, Any] = {
    "background": "inline",
    "sync": "no",
    "memtable_size_bytes": 1 << 20,
    "segment_size_bytes": 16 << 10,
    "block_size_bytes": 256,
    "level_runs_max": 4,
}


class Writer:
    """Writes to a database and to a dict."""

    def __init__(self, path: Path, state: State, **options: Any) -> None:
        self.db = engine.open(path, **SMALL | options)
        self.state = state

    def put(self, key: bytes, value: bytes) -> None:
        self.db.put(key, value)
        self.state[key] = value

    def delete(self, key: bytes) -> None:
        self.db.delete(key)
        self.state.pop(key, None)

    def batch(self, items: dict[bytes, bytes | None]) -> None:
        with self.db.batch() as batch:
            for key, value in items.items():
                if value is None:
                    batch.delete(key)
                    self.state.pop(key, None)
                else:
                    batch.put(key, value)
                    self.state[key] = value

    def discard(self, start: bytes, stop: bytes) -> None:
        self.db.discard(start, stop)
        for key in [key for key in self.state if start <= key < stop]:
            del self.state[key]


def write_bottom(writer: Writer, random: Random) -> None:
    """Fill the bottom run: many small blocks, so that index parts divide; every shape of key and value."""
    items: dict[bytes, bytes | None] = {b"": b"under the empty key", b"\0": b"", b"\xff" * 5000: b"last"}
    items |= {b"fixed:%04d" % n: b"value %04d" % n for n in range(1500)}
    items |= {b"free:%d" % n: b"v" * (n % 40) for n in range(300)}
    items |= {b"none:%03d" % n: b"" for n in range(100)}
    items |= {b"p" * 4094 + b"%03d" % n: b"agrees for 4094 bytes, %d" % n for n in range(12)}
    items |= {b"p" * 5000 + b"%03d" % n: b"agrees for 5000 bytes, %d" % n for n in range(12)}
    items |= {b"random:" + random.randbytes(9): random.randbytes(60) for _ in range(100)}
    items |= {b"huge:value": b"0123456789" * 30_000, b"huge:raw": random.randbytes(3000)}
    items |= {b"huge:" + b"key" * 20_000: b"under a huge key"}
    items |= {b"gone:%03d" % n: b"to be discarded" for n in range(200)}
    writer.batch(items)
    writer.db.flush()
    writer.db.compact()


def write_wide(writer: Writer) -> None:
    """Make blocks whose columns are longer than 64 KiB, so that their ends take four bytes."""
    writer.batch({b"wide:%05d" % n + b"k" * (n % 300): b"w" * (n % 300) for n in range(900)})
    writer.db.flush()


def change(writer: Writer, random: Random, number: int) -> None:
    """Write a run over the others: new keys, other values, removals."""
    changes: dict[bytes, bytes | None] = {}
    for n in random.sample(range(1500), 60):
        changes[b"fixed:%04d" % n] = random.choice((None, b"changed %d" % number, b"changed %d" % n))
    changes |= {b"new:%d:%d" % (number, n): b"v" for n in range(20)}
    changes |= {b"free:%d" % n: None for n in random.sample(range(300), 5)}
    changes[b"p" * 5000 + b"%03d" % number] = None
    changes[b""] = b"written %d times" % number
    writer.batch(changes)
    writer.db.flush()


def make(path: Path, *, counted: bool) -> State:
    """Write one database; returns what it holds."""
    random = Random(4)
    state: State = {}
    writer = Writer(path, state, counted=counted, block_size_bytes=80, segment_size_bytes=36 << 10)
    write_bottom(writer, random)
    writer.db.close()
    writer = Writer(path, state, block_size_bytes=256 << 10, segment_size_bytes=1 << 20)
    writer.db.pause()
    write_wide(writer)
    writer.db.compact(b"wide", b"widf")
    writer.db.close()
    writer = Writer(path, state, level_runs_max=16)
    for number in range(3):
        change(writer, random, number)
    writer.db.compact(b"fixed:0400", b"fixed:0600")  # divides segments of the bottom run
    writer.db.close()
    # Neither filters nor compression, and ranges of which segments still have entries.
    writer = Writer(path, state, level_runs_max=16, filter_bits_per_key=0, compression="none")
    writer.discard(b"gone:050", b"gone:150")
    change(writer, random, 3)
    writer.discard(b"gone:170", b"gone:180")
    writer.put(b"log:single", b"one entry in a frame")
    writer.put(b"log:removed", b"soon")
    writer.db.close()
    # A second log that is not flushed either.
    writer = Writer(path, state, level_runs_max=16)
    writer.delete(b"log:removed")
    writer.delete(b"fixed:0007")
    writer.put(b"fixed:0008", b"replaced in the log")
    writer.batch({b"log:batch:%d" % n: b"b" * n for n in range(30)} | {b"fixed:0009": None})
    writer.discard(b"gone:190", b"gone:195")
    writer.put(b"log:" + b"k" * 6000, b"huge key in a log")
    writer.db.close()
    (path / "LOCK").unlink()
    return state


def describe(data: bytes) -> Any:
    """Return a key or value as it stands in the JSON file."""
    if len(data) <= LARGE_BYTES:
        return data.hex()
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def describe_all(state: State) -> list[Any]:
    """Return the content of a database as it stands in the JSON file."""
    return [[describe(key), describe(state[key])] for key in sorted(state)]


def main() -> None:
    """Write both databases."""
    if FOLDER.exists():
        sys.exit(f"{FOLDER} is there: golden databases are written once, by the release that they stand for")
    states = [make(FOLDER / name, counted=name == "counted") for name in ("counted", "uncounted")]
    assert states[0] == states[1]
    lines = ",\n".join(json.dumps(row) for row in describe_all(states[0]))
    (FOLDER / "contents.json").write_text(f"[\n{lines}\n]\n", "ascii")
    size_bytes = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    print(f"{len(states[0])} keys, {size_bytes:,} bytes in all")


if __name__ == "__main__":
    main()

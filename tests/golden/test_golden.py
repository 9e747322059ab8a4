"""Databases of every format version there has been still open, and hold what they held.

See make_format_v1.py for what is in them. They are never written again; tests work on copies.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import lamina.engine as engine
from lamina.engine.batch import BATCH, DURABLE, LINK
from lamina.engine.check import assert_consistent
from lamina.engine.entry import DELETE, INSERT, REMOVE, REPLACE
from lamina.engine.segment import format as fmt
from lamina.engine.segment.block import HEADER as BLOCK_HEADER
from lamina.engine.segment.block import VARIABLE
from lamina.engine.wal import WalContents, read_wal

HERE = Path(__file__).parent
DATABASES = sorted(path for path in HERE.glob("format_v*/*") if path.is_dir())


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_format_v1", HERE / "make_format_v1.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_format_v1 = load_script()


@pytest.fixture(params=DATABASES, ids=lambda path: f"{path.parent.name}-{path.name}")
def original(request: pytest.FixtureRequest) -> Iterator[Path]:
    path: Path = request.param
    before = fingerprint(path)
    yield path
    assert fingerprint(path) == before, "a test has changed a golden database"


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "db"))


def fingerprint(path: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(path.iterdir())}


def expected_of(original: Path) -> list[Any]:
    rows: list[Any] = json.loads((original.parent / "contents.json").read_text("ascii"))
    return rows


def check(db: engine.Database, expected: list[Any]) -> None:
    """Compare by every way of reading."""
    found = dict(db.scan())
    assert make_format_v1.describe_all(found) == expected
    keys = sorted(found)
    assert [key for key, _ in db.scan(reverse=True)] == keys[::-1]
    assert db.count() == len(keys)
    for n, key in enumerate(keys):
        assert db[key] == found[key]
        assert key + b"\0 absent" not in db
        if n % 50 == 0 or len(key) > 4000:
            assert db.rank(key) == n
            assert db.select(None, None, n) == (key, found[key])
    assert_consistent(db)


def test_there_are_golden_databases() -> None:
    assert [path.name for path in DATABASES if path.parent.name == "format_v1"] == ["counted", "uncounted"]


def test_read_only(original: Path, copy: Path) -> None:
    before = fingerprint(copy)
    with engine.open(copy, read_only=True) as db:
        assert db.counted == (original.name == "counted")
        check(db, expected_of(original))
        db.verify()
    assert fingerprint(copy) == before


@pytest.mark.parametrize("background", ["inline", "process"])
def test_opened_compacted_and_opened_again(original: Path, copy: Path, background: Any) -> None:
    expected = expected_of(original)
    with engine.open(copy, background=background) as db:
        check(db, expected)
        db.compact()
        check(db, expected)
        assert db.stats().discarded_ranges == 0
        assert db.stats().background_error is None
    with engine.open(copy, background=background) as db:
        check(db, expected)
        db.put(b"written today", b"v")
    with engine.open(copy, background=background) as db:
        del db[b"written today"]
        check(db, expected)


def test_they_hold_what_they_are_for(original: Path, copy: Path) -> None:
    """A golden database proves nothing about what is not in it."""
    counted = original.name == "counted"
    with engine.open(copy, read_only=True) as db:
        segments = {piece.segment.number: piece.segment for run in db.view.runs for piece in run.slices}
        pieces = Counter(piece.segment.number for run in db.view.runs for piece in run.slices)
        properties = [segment.properties for segment in segments.values()]
        assert max(len(segment.part_floors) for segment in segments.values()) > 1
        floors = {
            len(floor)
            for segment in segments.values()
            for number in range(len(segment.part_floors))
            for floor in segment.part(number).floors
        }
        assert fmt.FLOOR_SIZE_MAX in floors
        assert {p.filter_bits_per_key for p in properties} == {0, 10}
        assert any(p.discards_applied for p in properties)
        assert sum(map(bool, db.view.levels.levels)) >= 2
        assert len(db.view.runs) >= 4
        assert max(pieces.values()) > 1 or any(
            not piece.is_whole for run in db.view.runs for piece in run.slices
        )
        assert db.stats().discarded_ranges >= 3
        assert any(len(key) > 50_000 for key, _ in db.scan())
        assert any(len(value) > 200_000 for _, value in db.scan())
    check_blocks(original, {INSERT, REPLACE, REMOVE} if counted else {REPLACE, DELETE})
    check_logs(original)


def check_blocks(original: Path, expected_kinds: set[int]) -> None:
    """Look at the blocks as they lie in the files."""
    codecs: set[int] = set()
    kinds: set[int] = set()
    widths: set[str] = set()
    for path in original.glob("*.seg"):
        data = path.read_bytes()
        salt = fmt.decode_header(path.name, data)
        offset = fmt.HEADER.size
        while offset < len(data) - fmt.FOOTER.size:
            _, size, tag = fmt.FRAME.unpack_from(data, offset)
            frame = data[offset : offset + fmt.FRAME.size + size]
            if tag & 15 == fmt.DATA:
                payload = fmt.decode_frame(path.name, salt, offset, frame, fmt.DATA)
                count, key_bytes, value_bytes, key_width, value_width = BLOCK_HEADER.unpack_from(payload)
                codecs.add(tag >> 4)
                kinds |= set(payload[BLOCK_HEADER.size : BLOCK_HEADER.size + count])
                widths |= {
                    f"key {shape_of(key_width, key_bytes)}",
                    f"value {shape_of(value_width, value_bytes)}",
                }
            offset += len(frame)
    assert codecs == {fmt.RAW, fmt.LZ4}
    assert kinds == expected_kinds
    shapes = ("fixed", "short", "wide")
    assert widths == {f"{column} {shape}" for column in ("key", "value") for shape in shapes}


def shape_of(width: int, column_bytes: int) -> str:
    return "fixed" if width != VARIABLE else "wide" if column_bytes >= 1 << 16 else "short"


def check_logs(original: Path) -> None:
    logs = []
    tags: set[int] = set()
    for path in sorted(original.glob("*.wal")):
        data = path.read_bytes()
        contents = read_wal(str(path), data)
        assert isinstance(contents, WalContents)
        assert contents.damage is None
        logs.append(contents)
        tags |= {payload[0] for payload in contents.payloads}
        tags |= {DURABLE} if contents.durable else set()
        tags |= {LINK} if contents.link else set()
    assert sum(bool(contents.payloads) for contents in logs) >= 2
    assert {BATCH, DURABLE, LINK} <= tags
    assert tags & {INSERT, REPLACE}
